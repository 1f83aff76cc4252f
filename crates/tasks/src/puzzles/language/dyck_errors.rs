//! `dyck-errors`: where a bracket sequence first goes wrong.
//!
//! ```text
//! At which position is the first bracket that cannot stand there? ( [ ) ]
//! Count from 1. Say -1 if all is right, and one more than the length if only closing brackets are missing at the end.
//! (: ( / [: ( [ / 3: ) does not close [
//! #### 3
//! ```
//!
//! Difficulty: `types`, `length`. Half of the sequences are right; the others have one bracket changed, dropped, added or
//! two swapped.

use super::dyck::{PAIRS, Scan, TYPES, brackets, draw, scan, spaced, stacks};
use super::*;

pub struct DyckErrors;

const LENGTH: Knob = Knob::number("length", 2, 60, 12, "brackets of the sequence before it is spoiled");

const WORDINGS: &[&str] = &[
    "At which position is the first bracket that cannot stand there? {}\n",
    "Read these brackets from the left and find the first error.\n{}\n",
    "Does every bracket of this sequence match? If not, say where the first mistake is.\n{}\n",
];
const RULES: &str = "Count from 1. Say -1 if all is right, and one more than the length if only closing brackets are missing at the end.";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub sequence: String,
}

/// The first bad position from 1, the length and one if brackets stay open, -1 if all match.
fn first_error(all: &[char]) -> i64 {
    match scan(all.iter().copied()) {
        Scan::Bad(i) => i as i64 + 1,
        Scan::Open(open) if open.is_empty() => -1,
        Scan::Open(_) => all.len() as i64 + 1,
    }
}

fn spoil(stream: &mut Stream, all: &mut Vec<char>) {
    let at = stream.below(all.len());
    let any = |stream: &mut Stream| {
        let p = PAIRS[stream.below(4)];
        if stream.chance(0.5) { p.0 } else { p.1 }
    };
    match stream.below(5) {
        0 => all[at] = any(stream),
        1 => drop(all.remove(at)),
        2 => all.insert(at, any(stream)),
        3 => all.truncate(all.len() - 1),
        _ => {
            let other = stream.below(all.len());
            all.swap(at, other);
        }
    }
}

impl Worked for DyckErrors {
    const NAME: &'static str = "dyck-errors";
    const ABOUT: &'static str = "the first position at which a bracket sequence goes wrong";
    const KNOBS: &'static [Knob] = &[TYPES, LENGTH];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let length = d.get(&LENGTH) as usize & !1;
        let mut all = draw(stream, d.get(&TYPES) as usize, length, 0);
        if stream.chance(0.5) {
            spoil(stream, &mut all);
        }
        Board { sequence: spaced(&all) }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        stream.choose(WORDINGS).replace("{}", &board.sequence) + RULES
    }

    fn gist(board: &Board) -> String {
        board.sequence.clone()
    }

    fn work(board: &Board) -> Option<Solution> {
        let all = brackets(&board.sequence)?;
        let error = first_error(&all);
        let mut steps = stacks(&all);
        let open = steps.last().and_then(|s| s.split_once(": ")).map_or("empty", |s| s.1);
        steps.push(match error {
            -1 => "end: all match".into(),
            n if n as usize > all.len() => format!("{n}: {open} stays open"),
            n if open == "empty" => format!("{n}: {} closes nothing", all[n as usize - 1]),
            n => format!("{n}: {} does not close {}", all[n as usize - 1], &open[open.len() - 1..]),
        });
        Some(Solution { steps, answer: error.to_string() })
    }

    fn judge(board: &Board, answer: &str) -> Option<bool> {
        lexicon::is_number(answer, first_error(&brackets(&board.sequence)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "types=4,length=60", "types=1,length=20"];
        hold(
            &Of(DyckErrors),
            &Laws { specs: &specs, n: 60, wrong: other_numbers, also: |_| vec![], digest: "6cf6936db1699452" },
        );
    }

    /// What is left when neighbours that match are struck out, again and again.
    fn struck(all: &[char]) -> Vec<char> {
        let mut left = all.to_vec();
        while let Some(i) = left.windows(2).position(|w| PAIRS.contains(&(w[0], w[1]))) {
            left.drain(i..i + 2);
        }
        left
    }

    #[test]
    fn errors_are_where_striking_out_leaves_a_closing_bracket() {
        let mut wrong = 0;
        for (board, answer) in boards::<DyckErrors>("types=3,length=14", 400) {
            let all = brackets(&board.sequence).unwrap();
            let bad = |n: &usize| struck(&all[..*n]).iter().any(|c| PAIRS.iter().any(|p| p.1 == *c));
            let open = if struck(&all).is_empty() { -1 } else { all.len() as i64 + 1 };
            let right = (1..=all.len()).find(bad).map_or(open, |n| n as i64);
            assert_eq!(answer, right.to_string(), "{}", board.sequence);
            wrong += usize::from(right != -1);
        }
        assert!((100..300).contains(&wrong), "{wrong}");
    }

    #[test]
    fn published_examples() {
        for (text, at) in [("()", -1), ("<[]()>", -1), (")(", 1), ("(()", 4), ("([)]", 3), ("{[}>", 3)] {
            assert_eq!(first_error(&brackets(text).unwrap()), at, "{text}");
        }
    }
}
