//! `object-properties`: how many things have some properties after a collection has changed.
//!
//! ```text
//! I have a small red wooden cup that smells of mint and a large blue glass hat that smells of tea. All small things become
//! blue. For every thing that smells of tea I add a twin that is of metal. How many of my things are blue and not of glass?
//! small blue wooden mint cup; large blue glass tea hat / ... ; large blue metal tea hat / 2 fit
//! #### 2
//! ```
//!
//! Difficulty: `objects`, `changes`. Changes: properties that turn into others, losses, twins, second copies of what is new.

use super::*;

pub struct ObjectProperties;

const OBJECTS: Knob = Knob::number("objects", 1, 30, 4, "things at first");
const CHANGES: Knob = Knob::number("changes", 0, 8, 2, "how often the collection changes");

/// Sizes, colors, materials, smells.
const VALUES: [&[&str]; 4] = [
    &["tiny", "small", "large", "huge"],
    lexicon::COLORS,
    &["wooden", "glass", "metal", "paper", "clay"],
    &["mint", "tea", "roses", "smoke", "honey"],
];
/// The most things at any time; copies beyond it would make a problem too long.
const MOST: usize = 120;

/// A property: which of [`VALUES`], and which value there.
type Property = (usize, usize);

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Item {
    has: [usize; 4],
    noun: usize,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Change {
    /// All that have the first get the second.
    Turn(Property, Property),
    Lose(Property),
    /// Every one that has the first gets a twin with the second.
    Twin(Property, Property),
    /// Every one whose smell and color together were not there at first gets a copy.
    New,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Join {
    And,
    Or,
    AndNot,
    Neither,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    items: Vec<Item>,
    changes: Vec<Change>,
    join: Join,
    asked: [Property; 2],
}

fn has(item: &Item, p: Property) -> bool {
    item.has[p.0] == p.1
}

fn apply(items: &mut Vec<Item>, first: &[Item], change: Change) {
    match change {
        Change::Turn(a, b) => items.iter_mut().filter(|i| has(i, a)).for_each(|i| i.has[b.0] = b.1),
        Change::Lose(a) => items.retain(|i| !has(i, a)),
        Change::Twin(a, b) => {
            let mut twins: Vec<Item> = items.iter().filter(|i| has(i, a)).copied().collect();
            twins.iter_mut().for_each(|i| i.has[b.0] = b.1);
            items.extend(twins);
        }
        Change::New => {
            let known = |i: &Item| first.iter().any(|f| f.has[1] == i.has[1] && f.has[3] == i.has[3]);
            let fresh: Vec<Item> = items.iter().filter(|i| !known(i)).copied().collect();
            items.extend(fresh);
        }
    }
    items.truncate(MOST);
}

fn fits(board: &Board, item: &Item) -> bool {
    let [a, b] = board.asked.map(|p| has(item, p));
    match board.join {
        Join::And => a && b,
        Join::Or => a || b,
        Join::AndNot => a && !b,
        Join::Neither => !a && !b,
    }
}

/// The collection after each change, the first collection before them; none when an index is out of range.
fn history(board: &Board) -> Option<Vec<Vec<Item>>> {
    let good = |p: &Property| VALUES.get(p.0).is_some_and(|v| p.1 < v.len());
    let item = |i: &Item| i.noun < lexicon::THINGS.len() && i.has.iter().enumerate().all(|(k, v)| good(&(k, *v)));
    let change = |c: &Change| match c {
        Change::Turn(a, b) | Change::Twin(a, b) => good(a) && good(b),
        Change::Lose(a) => good(a),
        Change::New => true,
    };
    let sound = board.items.len() <= MOST && board.items.iter().all(item);
    if !sound || board.changes.len() > 20 || !board.changes.iter().all(change) || !board.asked.iter().all(good) {
        return None;
    }
    let mut all = vec![board.items.clone()];
    for c in &board.changes {
        let mut next = all[all.len() - 1].clone();
        apply(&mut next, &board.items, *c);
        all.push(next);
    }
    Some(all)
}

/// `small`, `of glass`, `smell of mint` after `that are`, `that is`.
fn told(p: Property, is: &str, smell: &str) -> String {
    let value = VALUES[p.0][p.1];
    match p.0 {
        3 => format!("{smell} of {value}"),
        2 if value != "wooden" => format!("{is} of {value}"),
        _ => format!("{is} {value}"),
    }
}

fn article(text: String) -> String {
    format!("{} {text}", if text.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" })
}

fn described(item: &Item) -> String {
    let [size, color, material, smell] = [0, 1, 2, 3].map(|k| VALUES[k][item.has[k]]);
    article(format!("{size} {color} {material} {} that smells of {smell}", lexicon::THINGS[item.noun]))
}

fn short(item: &Item) -> String {
    let words: Vec<&str> = (0..4).map(|k| VALUES[k][item.has[k]]).collect();
    format!("{} {}", words.join(" "), lexicon::THINGS[item.noun])
}

fn change_told(change: Change, stream: &mut Stream) -> String {
    match (change, stream.below(2)) {
        (Change::Turn(a, b), 0) => {
            format!("Everything that {} now {} instead.", told(a, "is", "smells"), told(b, "is", "smells"))
        }
        (Change::Turn(a, b), _) => {
            let turn = if b.0 == 3 { told(b, "", "smell") } else { told(b, "become", "") };
            format!("Then all things that {} {turn}.", told(a, "are", "smell"))
        }
        (Change::Lose(a), 0) => format!("Then I lose all things that {}.", told(a, "are", "smell")),
        (Change::Lose(a), _) => format!("I give away everything that {}.", told(a, "is", "smells")),
        (Change::Twin(a, b), _) => {
            let twin = told(b, "is", "smells");
            format!("For each thing that {} I add a twin, the same but that it {twin}.", told(a, "is", "smells"))
        }
        (Change::New, _) => {
            "Each thing whose color and smell together no thing had at the very beginning gets a second copy.".into()
        }
    }
}

impl Worked for ObjectProperties {
    const NAME: &'static str = "object-properties";
    const ABOUT: &'static str = "how many things fit a description after a collection has changed";
    const KNOBS: &'static [Knob] = &[OBJECTS, CHANGES];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let nouns = stream.sample(lexicon::THINGS.len(), d.get(&OBJECTS) as usize);
        // Three values of each property make changes and questions hit something.
        let few: Vec<Vec<usize>> = VALUES.iter().map(|v| stream.sample(v.len(), 3)).collect();
        let any = |stream: &mut Stream, k: usize| *stream.choose(&few[k]);
        let item = |noun| Item { has: [0, 1, 2, 3].map(|k| any(stream, k)), noun };
        let items: Vec<Item> = nouns.into_iter().map(item).collect();
        let mut board = Board { items, changes: vec![], join: Join::And, asked: [(0, 0); 2] };
        let mut now = board.items.clone();
        for _ in 0..d.get(&CHANGES) {
            let kinds = stream.sample(4, 2);
            let a = (kinds[0], if now.is_empty() { few[kinds[0]][0] } else { stream.choose(&now).has[kinds[0]] });
            let b = (kinds[1], any(stream, kinds[1]));
            let change = match stream.below(6) {
                0 | 1 => Change::Turn(a, b),
                2 if now.len() > 2 => Change::Lose(a),
                5 => Change::New,
                _ => Change::Twin(a, b),
            };
            let mut next = now.clone();
            apply(&mut next, &board.items, change);
            if next.is_empty() || next.len() > 60 {
                continue;
            }
            now = next;
            board.changes.push(change);
        }
        board.join = *stream.choose(&[Join::And, Join::Or, Join::AndNot, Join::Neither]);
        let kinds = stream.sample(4, 2);
        board.asked = [0, 1].map(|i| (kinds[i], stream.choose(&now).has[kinds[i]]));
        board
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let have: Vec<String> = board.items.iter().map(described).collect();
        let first = *stream.choose(&["I have {}.", "My collection holds {}.", "At first I own {}."]);
        let mut text = first.replace("{}", &lexicon::listed(&have));
        for c in &board.changes {
            text.push(' ');
            text.push_str(&change_told(*c, stream));
        }
        let [a, b] = board.asked.map(|p| told(p, "are", "smell"));
        let which = match board.join {
            Join::And => format!("{a} and also {b}"),
            Join::Or => format!("{a} or {b} (or both)"),
            Join::AndNot => format!("{a} but do not fit \"{b}\""),
            Join::Neither => format!("fit neither \"{a}\" nor \"{b}\""),
        };
        let question = *stream.choose(&["How many of my things now {}?", "Count my things that {} in the end."]);
        format!("{text} {}", question.replace("{}", &which))
    }

    fn gist(board: &Board) -> String {
        let items: Vec<[usize; 4]> = board.items.iter().map(|i| i.has).collect();
        serde_json::to_string(&(items, &board.changes, board.join, board.asked)).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let all = history(board)?;
        let list = |items: &[Item]| items.iter().map(short).collect::<Vec<_>>().join("; ");
        let mut steps: Vec<String> =
            all.iter().enumerate().skip(1).map(|(i, items)| format!("{i}: {}", list(items))).collect();
        let fit: Vec<Item> = all[all.len() - 1].iter().filter(|i| fits(board, i)).copied().collect();
        steps.push(if fit.is_empty() { "fit: nothing".into() } else { format!("fit: {}", list(&fit)) });
        Some(Solution { steps, answer: fit.len().to_string() })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let right = history(board)?.last()?.iter().filter(|i| fits(board, i)).count();
        lexicon::is_number(text, right as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "objects=15,changes=5", "objects=30,changes=8"];
        hold(
            &Of(ObjectProperties),
            &Laws { specs: &specs, n: 60, wrong: other_numbers, also: |_| vec![], digest: "1f727c64dbb1640f" },
        );
    }

    /// Each thing followed on its own: what becomes of one does not depend on the others.
    #[test]
    fn things_change_one_by_one() {
        fn become_of(item: Item, changes: &[Change], first: &[Item]) -> Vec<Item> {
            let Some((change, rest)) = changes.split_first() else { return vec![item] };
            let with = |p: Property| {
                let mut other = item;
                other.has[p.0] = p.1;
                other
            };
            let next = match *change {
                Change::Turn(a, b) if has(&item, a) => vec![with(b)],
                Change::Lose(a) if has(&item, a) => vec![],
                Change::Twin(a, b) if has(&item, a) => vec![item, with(b)],
                Change::New if first.iter().all(|f| (f.has[1], f.has[3]) != (item.has[1], item.has[3])) => {
                    vec![item; 2]
                }
                _ => vec![item],
            };
            next.into_iter().flat_map(|i| become_of(i, rest, first)).collect()
        }
        for (board, answer) in boards::<ObjectProperties>("objects=12,changes=6", 200) {
            let last = board.items.iter().flat_map(|i| become_of(*i, &board.changes, &board.items));
            let [a, b] = board.asked;
            let right = last.filter(|i| match board.join {
                Join::And => has(i, a) && has(i, b),
                Join::Or => has(i, a) || has(i, b),
                Join::AndNot => has(i, a) && !has(i, b),
                Join::Neither => !(has(i, a) || has(i, b)),
            });
            assert_eq!(answer, right.count().to_string());
        }
    }
}
