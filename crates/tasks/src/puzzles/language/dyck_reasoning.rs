//! `dyck-reasoning-errors`: which thoughts about open brackets are wrong.
//!
//! ```text
//! These thoughts read the brackets ( [ ] ) from the left and say which are open after each.
//! Thought 1: ( ; open: (
//! Thought 2: [ ; open: ( [
//! Thought 3: ] ; open: ( [
//! Thought 4: ) ; open: empty
//! Which thoughts are wrong? A thought is wrong if it does not say what is truly open there. List their numbers, or say none.
//! 1: ( , right / 2: ( [ , right / 3: ( , wrong / 4: empty , right
//! #### 3
//! ```
//!
//! Difficulty: `types`, `length`, `errors` (the most thoughts that are spoiled). A thought is judged by the truth, not by
//! the thought before it. The numbers may come in any order.

use super::dyck::{PAIRS, Scan, TYPES, brackets, draw, scan, spaced};
use super::*;

pub struct DyckReasoning;

const LENGTH: Knob = Knob::number("length", 2, 40, 10, "brackets of the sequence");
const ERRORS: Knob = Knob::number("errors", 0, 8, 3, "most thoughts that are wrong");

const WORDINGS: &[&str] = &[
    "These thoughts read the brackets {} from the left and say which are open after each.",
    "Someone keeps a stack while reading {}. Each thought names a bracket and the stack after it.",
    "Input: {}\nThe stack of open brackets was noted after each symbol.",
];
const QUESTION: &str = "Which thoughts are wrong? A thought is wrong if it does not say what is truly open there. List their numbers, or say none.";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub sequence: String,
    /// What each thought says is open.
    pub open: Vec<String>,
}

fn shown(open: &[char]) -> String {
    if open.is_empty() { "empty".into() } else { spaced(open) }
}

/// What is open after each bracket; none if the sequence is not a Dyck word's beginning.
fn truth(board: &Board) -> Option<Vec<String>> {
    let all = brackets(&board.sequence)?;
    let after = |n: usize| match scan(all[..n].iter().copied()) {
        Scan::Open(open) => Some(shown(&open)),
        Scan::Bad(_) => None,
    };
    let truth: Option<Vec<String>> = (1..=all.len()).map(after).collect();
    truth.filter(|t| t.len() == board.open.len())
}

/// The numbers of the wrong thoughts, from 1.
fn wrong(board: &Board) -> Option<Vec<i64>> {
    let truth = truth(board)?;
    let bad = truth.iter().zip(&board.open).enumerate().filter(|(_, (t, o))| t != o);
    Some(bad.map(|(i, _)| i as i64 + 1).collect())
}

/// Another stack than the true one.
fn spoil(stream: &mut Stream, open: &str) -> String {
    let mut stack = if open == "empty" { vec![] } else { brackets(open).expect("brackets") };
    let any = PAIRS[stream.below(4)].0;
    match stream.below(3) {
        0 if !stack.is_empty() => drop(stack.pop()),
        1 if !stack.is_empty() => {
            let at = stream.below(stack.len());
            let others: Vec<char> = PAIRS.iter().map(|p| p.0).filter(|c| *c != stack[at]).collect();
            stack[at] = *stream.choose(&others);
        }
        _ => stack.push(any),
    }
    shown(&stack)
}

impl Worked for DyckReasoning {
    const NAME: &'static str = "dyck-reasoning-errors";
    const ABOUT: &'static str = "the wrong ones among thoughts about which brackets are open";
    const KNOBS: &'static [Knob] = &[TYPES, LENGTH, ERRORS];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let all = draw(stream, d.get(&TYPES) as usize, d.get(&LENGTH) as usize & !1, 0);
        let mut board = Board { sequence: spaced(&all), open: vec![String::new(); all.len()] };
        board.open = truth(&board).expect("a Dyck word");
        let errors = stream.between(0, d.get(&ERRORS)) as usize;
        for i in stream.sample(all.len(), errors) {
            board.open[i] = spoil(stream, &board.open[i]);
        }
        board
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let mut text = stream.choose(WORDINGS).replace("{}", &board.sequence);
        for (i, (symbol, open)) in board.sequence.split(' ').zip(&board.open).enumerate() {
            text.push_str(&format!("\nThought {}: {symbol} ; open: {open}", i + 1));
        }
        format!("{text}\n{QUESTION}")
    }

    fn gist(board: &Board) -> String {
        format!("{}|{}", board.sequence, board.open.join("|"))
    }

    fn work(board: &Board) -> Option<Solution> {
        let step = |(i, (t, o)): (usize, (&String, &String))| {
            format!("{}: {t} , {}", i + 1, if t == o { "right" } else { "wrong" })
        };
        let steps = truth(board)?.iter().zip(&board.open).enumerate().map(step).collect();
        let wrong: Vec<String> = wrong(board)?.iter().map(i64::to_string).collect();
        Some(Solution { steps, answer: if wrong.is_empty() { "none".into() } else { wrong.join(", ") } })
    }

    fn judge(board: &Board, answer: &str) -> Option<bool> {
        let right: Vec<String> = wrong(board)?.iter().map(i64::to_string).collect();
        lexicon::is_set(answer, |w| w.bytes().all(|b| b.is_ascii_digit()), &right)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "types=4,length=20,errors=5"];
        let also = |p: &Problem| {
            vec![p.answer.split(", ").collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(",")]
        };
        let wrong = |p: &Problem| {
            let more = if p.answer == "none" { "1".into() } else { format!("{}, 41", p.answer) };
            vec![more, "1, 1".into(), "77".into(), "none, 1".into()]
        };
        hold(&Of(DyckReasoning), &Laws { specs: &specs, n: 60, wrong, also, digest: "b8d65dd8d9be17d5" });
    }

    #[test]
    fn the_example() {
        let open = ["(", "( [", "( [", "empty"].map(String::from).to_vec();
        let board = Board { sequence: "( [ ] )".into(), open };
        let solution = DyckReasoning::work(&board).unwrap();
        assert_eq!(solution.answer, "3");
        assert_eq!(solution.steps.join(" / "), "1: ( , right / 2: ( [ , right / 3: ( , wrong / 4: empty , right");
    }
}
