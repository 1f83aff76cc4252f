//! `goods-exchange`: who holds what after many swaps.
//!
//! ```text
//! Ada has the red cup, Ben has the blue hat, Eva has the green pen. Ada and Eva swap what they hold. Ben trades with
//! whoever holds the red cup. Who has what in the end?
//! Ada: green pen, Eva: red cup / Ben: red cup, Eva: blue hat
//! #### Ada: green pen, Ben: red cup, Eva: blue hat
//! ```
//!
//! Difficulty: `people`, `swaps`. The answer's pairs may come in any order, as `name: thing` or `(name, thing)`.

use super::*;

pub struct GoodsExchange;

const PEOPLE: Knob = Knob::number("people", 2, 30, 4, "how many people");
const SWAPS: Knob = Knob::number("swaps", 1, 100, 4, "how many swaps");

const WORDINGS: &[&str] = &[
    "{} Who has what in the end? Write name: thing for everyone, parted by commas.",
    "At first, {} List what everyone owns at last, as name: thing, parted by commas.",
    "Some friends swap things. {} Name everyone's thing after all this, as name: thing, parted by commas.",
];

/// One swap, told by who or what takes part.
#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Swap {
    /// Two people.
    People(usize, usize),
    /// A person and whoever holds a thing.
    Holder(usize, usize),
    /// Whoever hold two things.
    Things(usize, usize),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    people: Vec<String>,
    /// Thing `i` is with person `i` at first.
    things: Vec<String>,
    swaps: Vec<Swap>,
}

/// The two who swap, while person `i` holds thing `holds[i]`.
fn who(swap: Swap, holds: &[usize]) -> Option<(usize, usize)> {
    let with = |thing: usize| holds.iter().position(|t| *t == thing);
    let (a, b) = match swap {
        Swap::People(a, b) => (a, b),
        Swap::Holder(a, thing) => (a, with(thing)?),
        Swap::Things(s, t) => (with(s)?, with(t)?),
    };
    (a < holds.len() && b < holds.len()).then_some((a, b))
}

/// What everyone holds at last, and the two of each swap with what they hold after it.
type Pair = [(usize, usize); 2];
fn play(board: &Board) -> Option<(Vec<usize>, Vec<Pair>)> {
    let mut holds: Vec<usize> = (0..board.people.len()).collect();
    let mut pairs = vec![];
    for swap in &board.swaps {
        let (a, b) = who(*swap, &holds)?;
        holds.swap(a, b);
        pairs.push([(a, holds[a]), (b, holds[b])]);
    }
    (board.things.len() == holds.len()).then_some((holds, pairs))
}

impl Board {
    fn pairs(&self, pairs: impl Iterator<Item = (usize, usize)>) -> String {
        pairs.map(|(p, t)| format!("{}: {}", self.people[p], self.things[t])).collect::<Vec<_>>().join(", ")
    }

    fn tell(&self, swap: Swap, stream: &mut Stream) -> String {
        let (p, t) = (|i: usize| &self.people[i], |i: usize| format!("the {}", self.things[i]));
        match (swap, stream.below(2)) {
            (Swap::People(a, b), 0) => format!("{} and {} swap what they hold.", p(a), p(b)),
            (Swap::People(a, b), _) => format!("{} trades with {}.", p(a), p(b)),
            (Swap::Holder(a, x), 0) => format!("{} trades with whoever holds {}.", p(a), t(x)),
            (Swap::Holder(a, x), _) => format!("{} gives away a thing and gets {} for it.", p(a), t(x)),
            (Swap::Things(x, y), 0) => format!("The holders of {} and {} swap these.", t(x), t(y)),
            (Swap::Things(x, y), _) => format!("{} is traded for {}.", lexicon::capital(&t(x)), t(y)),
        }
    }
}

impl Worked for GoodsExchange {
    const NAME: &'static str = "goods-exchange";
    const ABOUT: &'static str = "who holds what after swaps";
    const KNOBS: &'static [Knob] = &[PEOPLE, SWAPS];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let n = d.get(&PEOPLE) as usize;
        let nouns = lexicon::some(stream, lexicon::THINGS, n);
        let things = nouns.iter().map(|t| format!("{} {t}", stream.choose(lexicon::COLORS))).collect();
        let people = lexicon::some(stream, lexicon::NAMES, n);
        let mut holds: Vec<usize> = (0..n).collect();
        let mut swaps = vec![];
        while swaps.len() < d.get(&SWAPS) as usize {
            let two = stream.sample(n, 2);
            let swap = match stream.below(4) {
                0 | 1 => Swap::People(two[0], two[1]),
                2 => Swap::Holder(two[0], holds[two[1]]),
                _ => Swap::Things(two[0], two[1]),
            };
            let (a, b) = who(swap, &holds).expect("people and things of this problem");
            holds.swap(a, b);
            swaps.push(swap);
        }
        Board { people, things, swaps }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let has = |(p, t): (&String, &String)| format!("{p} has the {t}");
        let at_first: Vec<String> = board.people.iter().zip(&board.things).map(has).collect();
        let told: Vec<String> = board.swaps.iter().map(|s| board.tell(*s, stream)).collect();
        let story = format!("{}. {}", at_first.join(", "), told.join(" "));
        stream.choose(WORDINGS).replace("{}", &story)
    }

    fn gist(board: &Board) -> String {
        serde_json::to_string(&(board.people.len(), &board.swaps)).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let (holds, pairs) = play(board)?;
        let steps = pairs.into_iter().map(|two| board.pairs(two.into_iter())).collect();
        Some(Solution { steps, answer: board.pairs(holds.into_iter().enumerate()) })
    }

    fn judge(board: &Board, answer: &str) -> Option<bool> {
        // `(Ada, red cup), ...` and `Ada: red cup, ...` are both name, color, thing in turn.
        let text = answer.replace([':', '-', '='], " ");
        let known = |w: &str| {
            let of = |all: &[&str]| all.iter().any(|k| k.eq_ignore_ascii_case(w));
            of(lexicon::NAMES) || of(lexicon::COLORS) || of(lexicon::THINGS) || matches!(w, "the" | "has" | "a" | "an")
        };
        let mut said = lexicon::items(&text, known)?;
        said.retain(|w| !matches!(w.as_str(), "the" | "has" | "a" | "an"));
        let mut said: Vec<String> = said.chunks(3).map(|c| c.join(" ")).collect();
        let (holds, _) = play(board)?;
        let pair = |(p, t): (usize, &usize)| format!("{} {}", board.people[p], board.things[*t]).to_lowercase();
        let mut right: Vec<String> = holds.iter().enumerate().map(pair).collect();
        said.sort();
        right.sort();
        Some(said == right)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "people=20,swaps=50", "people=2,swaps=9"];
        let also = |p: &Problem| {
            let mut pairs: Vec<&str> = p.answer.split(", ").collect();
            pairs.reverse();
            let bracketed: Vec<String> = pairs.iter().map(|q| format!("({})", q.replace(": ", ", "))).collect();
            vec![
                pairs.join(", "),
                bracketed.join(", "),
                p.answer.replace(", ", "\n"),
                p.answer.replace(": ", " has the "),
            ]
        };
        let wrong = |p: &Problem| {
            let pairs: Vec<&str> = p.answer.split(", ").collect();
            let (a, b) = (pairs[0].split_once(": ").unwrap(), pairs[1].split_once(": ").unwrap());
            let crossed = p.answer.replace(a.1, "#").replace(b.1, a.1).replace('#', b.1);
            vec![crossed, pairs[1..].join(", "), format!("{}, {}", p.answer, pairs[0])]
        };
        hold(&Of(GoodsExchange), &Laws { specs: &specs, n: 60, wrong, also, digest: "6f92d4814df24f54" });
    }

    /// The story acted out from its English.
    #[test]
    fn answers_are_what_the_english_says() {
        for (board, p) in problems::<GoodsExchange>("people=6,swaps=12", 150) {
            let mut holds: BTreeMap<&str, &str> = BTreeMap::new();
            let text = p.prompt.replace(", ", ". ");
            for sentence in text.split(['.', '?']).map(str::trim) {
                let people: Vec<&str> =
                    board.people.iter().map(String::as_str).filter(|n| sentence.split(' ').any(|w| w == *n)).collect();
                let mut things: Vec<&str> =
                    board.things.iter().map(String::as_str).filter(|t| sentence.contains(*t)).collect();
                if let (true, [who], [what]) = (sentence.contains(" has the "), &people[..], &things[..]) {
                    holds.insert(who, what);
                    continue;
                }
                things.extend(people.iter().map(|n| holds[n]));
                if let [x, y] = things[..] {
                    holds.values_mut().for_each(|t| {
                        *t = if *t == x {
                            y
                        } else if *t == y {
                            x
                        } else {
                            t
                        }
                    });
                }
            }
            let said: Vec<String> = board.people.iter().map(|n| format!("{n}: {}", holds[n.as_str()])).collect();
            assert_eq!(said.join(", "), p.answer, "{}", p.prompt);
        }
    }
}
