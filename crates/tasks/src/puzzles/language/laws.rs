//! What the tests of the families share: problems with their boards, and wrong answers.

pub use crate::puzzles::laws::{Laws, hold};
pub use crate::task::Problem;

use super::*;

/// Problems with their boards.
pub fn problems<W: Worked>(spec: &str, n: u64) -> Vec<(W::Board, Problem)> {
    let task = crate::task(<W as Worked>::NAME).unwrap();
    let d = task.difficulty(spec).unwrap();
    let draw = |seed| {
        let p = task.generate(&mut Stream::new(seed, &["test", task.name()]), &d).unwrap();
        (serde_json::from_value(p.meta.clone()).unwrap(), p)
    };
    (0..n).map(draw).collect()
}

/// Boards with their answers.
pub fn boards<W: Worked>(spec: &str, n: u64) -> Vec<(W::Board, String)> {
    let d = Difficulty::parse(<W as Worked>::KNOBS, spec).unwrap();
    let draw = |seed| {
        let board = W::make(&mut Stream::new(seed, &["test", <W as Worked>::NAME]), &d);
        let answer = W::work(&board).unwrap().answer;
        (board, answer)
    };
    (0..n).map(draw).collect()
}

/// Numbers near an answer that is a number.
pub fn other_numbers(p: &Problem) -> Vec<String> {
    let n: i64 = p.answer.parse().unwrap();
    vec![(n + 1).to_string(), (n - 1).to_string(), format!("{n}, {n}"), format!("{n}0001"), format!("{n}\n{}", n + 2)]
}
