//! `object-counting`: how many things of a kind someone has after gains and losses.
//!
//! ```text
//! I have 4 pears, 3 cats and 5 plums. My aunt has 9 plums. I buy 2 pears. Then I lose 3 plums. How many fruits do I have?
//! pears: 4+2=6 / plums: 5-3=2 / fruits: 6+2=8
//! #### 8
//! ```
//!
//! Difficulty: `items` (kinds of things I have), `events`, `others` (people whose things do not count), `digits`, `ask`
//! (`total` of one group, or also the `difference` of two, never below zero).

use super::*;

pub struct ObjectCounting;

const ITEMS: Knob = Knob::number("items", 2, 16, 4, "kinds of things that I have");
const EVENTS: Knob = Knob::number("events", 0, 20, 2, "gains and losses");
const OTHERS: Knob = Knob::number("others", 0, 10, 1, "people whose things do not count");
const DIGITS: Knob = Knob::number("digits", 1, 3, 1, "most digits of a number");
const ASK: Knob =
    Knob::choice("ask", &["any", "total", "difference"], "the total of a group, or the difference of two");

const GROUPS: &[(&str, &[&str])] = &[
    ("fruits", &["apples", "pears", "plums", "figs", "lemons", "mangos", "cherries", "bananas"]),
    ("animals", &["cats", "dogs", "hens", "goats", "frogs", "ducks", "rabbits", "turtles"]),
    ("tools", &["saws", "axes", "drills", "hammers", "spades", "rakes", "pliers", "files"]),
    ("pieces of furniture", &["chairs", "tables", "sofas", "beds", "desks", "stools", "benches", "shelves"]),
    ("clothes", &["hats", "coats", "socks", "scarves", "shirts", "ties", "boots", "gloves"]),
    ("instruments", &["drums", "flutes", "harps", "pianos", "guitars", "violins", "horns", "trumpets"]),
];
const OWNERS: &[&str] = &[
    "My aunt",
    "My uncle",
    "My sister",
    "My brother",
    "My friend",
    "My neighbor",
    "My boss",
    "My cousin",
    "My teacher",
    "My grandfather",
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What I have at first.
    mine: Vec<(String, i64)>,
    /// Changes of what I have, in order.
    events: Vec<(String, i64)>,
    others: Vec<(String, Vec<(String, i64)>)>,
    /// The groups asked about: one for its total, two for their difference.
    asked: Vec<String>,
}

fn group(name: &str) -> Option<&'static [&'static str]> {
    GROUPS.iter().find(|g| g.0 == name).map(|g| g.1)
}

/// What I have of a thing, as numbers to add up.
fn parts<'a>(board: &'a Board, thing: &'a str) -> impl Iterator<Item = i64> + 'a {
    board.mine.iter().chain(&board.events).filter(move |(t, _)| t == thing).map(|(_, n)| (*n).clamp(-9_999, 9_999))
}

fn total(board: &Board, name: &str) -> Option<i64> {
    let things = group(name)?;
    Some(things.iter().map(|t| parts(board, t).sum::<i64>()).sum())
}

fn answer(board: &Board) -> Option<i64> {
    match &board.asked[..] {
        [one] => total(board, one),
        [a, b] => Some((total(board, a)? - total(board, b)?).abs()),
        _ => None,
    }
}

/// `3+2-1`.
fn sum(parts: &[i64]) -> String {
    let signed = |(i, n): (usize, &i64)| if i > 0 && *n >= 0 { format!("+{n}") } else { n.to_string() };
    parts.iter().enumerate().map(signed).collect()
}

fn counted(items: &[(String, i64)]) -> String {
    lexicon::listed(&items.iter().map(|(t, n)| format!("{n} {t}")).collect::<Vec<_>>())
}

impl Worked for ObjectCounting {
    const NAME: &'static str = "object-counting";
    const ABOUT: &'static str = "how many things of a kind are left after gains and losses";
    const KNOBS: &'static [Knob] = &[ITEMS, EVENTS, OTHERS, DIGITS, ASK];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let most = 10i64.pow(d.get(&DIGITS) as u32) - 1;
        let two = match d.get(&ASK) {
            0 => stream.chance(0.3),
            ask => ask == 2,
        };
        let groups = stream.sample(GROUPS.len(), 3);
        // The things asked about come first, so that they are among those I have.
        let mut things: Vec<String> = vec![];
        while things.len() < d.get(&ITEMS) as usize {
            let names = GROUPS[groups[if two { things.len() % 3 } else { [0, 0, 1, 2][things.len() % 4] }]].1;
            let fresh: Vec<&&str> = names.iter().filter(|n| !things.iter().any(|t| t == *n)).collect();
            things.push(if fresh.is_empty() {
                let all: Vec<&str> = groups.iter().flat_map(|g| GROUPS[*g].1).copied().collect();
                let free: Vec<&&str> = all.iter().filter(|n| !things.iter().any(|t| t == *n)).collect();
                stream.choose(&free).to_string()
            } else {
                stream.choose(&fresh).to_string()
            });
        }
        let mut mine: Vec<(String, i64)> = things.iter().map(|t| (t.clone(), stream.between(2, most))).collect();
        stream.shuffle(&mut mine);
        let mut have = mine.clone();
        let mut events = vec![];
        for _ in 0..d.get(&EVENTS) {
            let at = stream.below(have.len());
            let lose = have[at].1 > 1 && stream.chance(0.5);
            let change = if lose { -stream.between(2, have[at].1) } else { stream.between(2, most) };
            have[at].1 += change;
            events.push((have[at].0.clone(), change));
        }
        let others = stream.sample(OWNERS.len(), d.get(&OTHERS) as usize).into_iter().map(|o| {
            let n = 1 + stream.below(3.min(things.len()));
            let has = stream.sample(things.len(), n);
            (OWNERS[o].to_string(), has.into_iter().map(|t| (things[t].clone(), stream.between(2, most))).collect())
        });
        let others = others.collect();
        let asked = groups.iter().take(if two { 2 } else { 1 }).map(|g| GROUPS[*g].0.to_string()).collect();
        Board { mine, events, others, asked }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let mut sentences = vec![format!("I have {}.", counted(&board.mine))];
        // Others are told of anywhere: they change nothing.
        let mut told: Vec<String> = board
            .events
            .iter()
            .map(|(t, n)| match (*n < 0, stream.below(3)) {
                (true, 0) => format!("Then I lose {} {t}.", -n),
                (true, 1) => format!("I give {} {t} away.", -n),
                (true, _) => format!("Then {} of my {t} are stolen.", -n),
                (false, 0) => format!("I buy {n} {t}."),
                (false, 1) => format!("Then I find {n} more {t}."),
                (false, _) => format!("A friend gives me {n} {t}."),
            })
            .collect();
        for (owner, has) in &board.others {
            told.insert(stream.below(told.len() + 1), format!("{owner} has {}.", counted(has)));
        }
        sentences.extend(told);
        sentences.push(match &board.asked[..] {
            [a, b, ..] => match stream.below(2) {
                0 => format!("What is the difference between the number of {a} and the number of {b} that I have, as a number of at least 0?"),
                _ => format!("Take the number of {a} and the number of {b} that I have now. By how much do they differ?"),
            },
            _ => {
                let a = board.asked.first().map_or("", String::as_str);
                match stream.below(2) {
                    0 => format!("How many {a} do I have?"),
                    _ => format!("Count the {a} that are mine now."),
                }
            }
        });
        sentences.join(" ")
    }

    fn gist(board: &Board) -> String {
        serde_json::to_string(&(&board.mine, &board.events, &board.asked)).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let mut steps = vec![];
        let mut totals = vec![];
        for name in &board.asked {
            let mut sums = vec![];
            for thing in group(name)? {
                let of: Vec<i64> = parts(board, thing).collect();
                if of.len() > 1 {
                    steps.push(format!("{thing}: {}={}", sum(&of), of.iter().sum::<i64>()));
                }
                if !of.is_empty() {
                    sums.push(of.iter().sum::<i64>());
                }
            }
            let all = total(board, name)?;
            steps.push(if sums.len() > 1 { format!("{name}: {}={all}", sum(&sums)) } else { format!("{name}: {all}") });
            totals.push(all);
        }
        if let [a, b] = totals[..] {
            steps.push(format!("difference: {}-{}={}", a.max(b), a.min(b), (a - b).abs()));
        }
        Some(Solution { steps, answer: answer(board)?.to_string() })
    }

    fn judge(board: &Board, said: &str) -> Option<bool> {
        lexicon::is_number(said, answer(board)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "items=10,events=6,others=3,digits=2", "items=16,events=20,digits=3,ask=difference"];
        hold(
            &Of(ObjectCounting),
            &Laws { specs: &specs, n: 60, wrong: other_numbers, also: |_| vec![], digest: "ac0b3c6f134d1872" },
        );
    }

    /// The story counted again from its English.
    #[test]
    fn answers_are_what_the_english_says() {
        for (_, p) in problems::<ObjectCounting>("items=8,events=8,others=3,digits=2", 200) {
            let mut have: BTreeMap<String, i64> = BTreeMap::new();
            let sentences: Vec<&str> = p.prompt.split(". ").collect();
            for sentence in &sentences {
                if OWNERS.iter().any(|o| sentence.starts_with(o)) {
                    continue;
                }
                let sign = if ["lose", "away", "stolen"].iter().any(|w| sentence.contains(w)) { -1 } else { 1 };
                let words: Vec<&str> = sentence.split([' ', ',', '.']).filter(|w| !w.is_empty()).collect();
                for (i, n) in words.iter().enumerate().filter_map(|(i, w)| Some((i, w.parse::<i64>().ok()?))) {
                    let thing = words[i + 1..].iter().find(|w| GROUPS.iter().any(|g| g.1.contains(w)));
                    *have.entry(thing.map_or(String::new(), |t| t.to_string())).or_default() += sign * n;
                }
            }
            let count = |g: &(&str, &[&str])| g.1.iter().filter_map(|t| have.get(*t)).sum::<i64>();
            let asked = format!("{} {}", sentences[sentences.len() - 2], sentences[sentences.len() - 1]);
            let asked: Vec<i64> = GROUPS.iter().filter(|g| asked.contains(&format!(" {} ", g.0))).map(count).collect();
            let right = if let [a, b] = asked[..] { (a - b).abs() } else { asked[0] };
            assert_eq!(p.answer, right.to_string(), "{}", p.prompt);
        }
    }
}
