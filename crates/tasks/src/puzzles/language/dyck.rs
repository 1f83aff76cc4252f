//! `dyck`: the brackets that are missing at the end.
//!
//! ```text
//! Close every open bracket, and add nothing else: ( [ ] {
//! (: ( / [: ( [ / ]: ( / {: ( {
//! #### } )
//! ```
//!
//! Difficulty: `types` of brackets, `length` of the whole sequence, `fill` (how many are missing). What is missing is one
//! sequence only, since nothing may be opened again; blanks between brackets do not count.

use super::*;

pub struct Dyck;

pub(super) const TYPES: Knob = Knob::number("types", 1, 4, 3, "kinds of brackets");
const LENGTH: Knob = Knob::number("length", 2, 60, 12, "brackets of the whole sequence");
const FILL: Knob = Knob::number("fill", 1, 12, 3, "brackets that are missing");

/// Opening and closing brackets.
pub(super) const PAIRS: [(char, char); 4] = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>')];

const WORDINGS: &[&str] = &[
    "Close every open bracket, and add nothing else: {}",
    "Complete this Dyck word with its missing closing brackets. Write only those.\n{}",
    "The end of this bracket sequence is lost. It held closing brackets only, and all pairs matched. Write the lost end.\n{}",
    "{}\nWhich closing brackets must follow, in order, so that every bracket is matched?",
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub sequence: String,
}

/// A walk of `steps` brackets that ends with `depth` open ones.
pub(super) fn draw(stream: &mut Stream, types: usize, steps: usize, depth: usize) -> Vec<char> {
    let kinds = stream.sample(PAIRS.len(), types);
    let mut open: Vec<usize> = vec![];
    let mut out = vec![];
    for done in 0..steps {
        let left = steps - done;
        let up = open.is_empty() || open.len() + left == depth;
        let down = open.len() == depth + left;
        if up || (!down && stream.chance(0.5)) {
            open.push(*stream.choose(&kinds));
            out.push(PAIRS[open[open.len() - 1]].0);
        } else {
            out.push(PAIRS[open.pop().expect("one is open")].1);
        }
    }
    out
}

/// What a reading of brackets from the left finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// All good so far; these are open.
    Open(Vec<char>),
    /// The first bracket that cannot stand where it does, from 0.
    Bad(usize),
}

pub(super) fn scan(brackets: impl Iterator<Item = char>) -> Scan {
    let mut open: Vec<char> = vec![];
    for (i, c) in brackets.enumerate() {
        if PAIRS.iter().any(|p| p.0 == c) {
            open.push(c);
        } else if open.pop().is_none_or(|o| !PAIRS.contains(&(o, c))) {
            return Scan::Bad(i);
        }
    }
    Scan::Open(open)
}

pub(super) fn spaced(brackets: &[char]) -> String {
    brackets.iter().map(char::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn brackets(text: &str) -> Option<Vec<char>> {
    let all: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).take(5_000).collect();
    all.iter().all(|c| PAIRS.iter().any(|p| p.0 == *c || p.1 == *c)).then_some(all)
}

/// What is open after each bracket, as steps.
pub(super) fn stacks(all: &[char]) -> Vec<String> {
    let shown = |open: Vec<char>| if open.is_empty() { "empty".to_string() } else { spaced(&open) };
    let prefix = |n: usize| match scan(all[..n].iter().copied()) {
        Scan::Open(open) => Some(format!("{}: {}", all[n - 1], shown(open))),
        Scan::Bad(_) => None,
    };
    (1..=all.len()).map_while(prefix).collect()
}

impl Worked for Dyck {
    const NAME: &'static str = "dyck";
    const ABOUT: &'static str = "the closing brackets that a sequence still needs";
    const KNOBS: &'static [Knob] = &[TYPES, LENGTH, FILL];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let length = d.get(&LENGTH) as usize & !1;
        let fill = (d.get(&FILL) as usize).min(length / 2);
        Board { sequence: spaced(&draw(stream, d.get(&TYPES) as usize, length - fill, fill)) }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        stream.choose(WORDINGS).replace("{}", &board.sequence)
    }

    fn gist(board: &Board) -> String {
        board.sequence.clone()
    }

    fn work(board: &Board) -> Option<Solution> {
        let all = brackets(&board.sequence)?;
        let Scan::Open(open) = scan(all.iter().copied()) else { return None };
        let closing = |c: &char| PAIRS.iter().find(|p| p.0 == *c).map(|p| p.1);
        let missing: Vec<char> = open.iter().rev().filter_map(closing).collect();
        Some(Solution { steps: stacks(&all), answer: spaced(&missing) })
    }

    fn judge(board: &Board, answer: &str) -> Option<bool> {
        let (all, end) = (brackets(&board.sequence)?, brackets(answer)?);
        let closing = end.iter().all(|c| PAIRS.iter().any(|p| p.1 == *c));
        Some(closing && scan(all.into_iter().chain(end)) == Scan::Open(vec![]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "types=2,length=20,fill=5", "types=4,length=60,fill=12"];
        let also = |p: &Problem| vec![p.answer.replace(' ', ""), format!("<answer>{}</answer>", p.answer)];
        let wrong = |p: &Problem| {
            let all = vec![format!("( {}", p.answer), format!("{} ()", p.answer), format!("{} {}", p.answer, p.answer)];
            all.into_iter().chain([format!("{} )", p.answer), p.answer[1..].to_string() + " ("]).collect()
        };
        hold(&Of(Dyck), &Laws { specs: &specs, n: 60, wrong, also, digest: "2debe816c7b238a8" });
    }

    /// Of all ends of at most four closing brackets one is right.
    #[test]
    fn one_end_closes_all() {
        for (board, answer) in boards::<Dyck>("types=3,length=10,fill=3", 100) {
            let mut ends = vec![String::new()];
            let mut right = vec![];
            for _ in 0..4 {
                ends = ends.iter().flat_map(|e| PAIRS.map(|p| format!("{e}{}", p.1))).collect();
                right.extend(ends.iter().filter(|e| Dyck::judge(&board, e) == Some(true)).cloned());
            }
            assert_eq!(right, [answer.replace(' ', "")]);
        }
    }
}
