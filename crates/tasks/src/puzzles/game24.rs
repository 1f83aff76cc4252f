//! `game24`: all given numbers, each exactly once, into an expression of the target (24; Mathador's numbers too).
//!
//! ```text
//! Use each of the numbers 3, 3, 8, 8 exactly once with + - * / and brackets to make 24. Answer with the expression.
//! 8 / 3 = 8/3
//! 3 - 8/3 = 1/3
//! 8 / 1/3 = 24
//! #### 8 / (3 - 8 / 3)
//! ```
//!
//! Numbers are drawn until a search over all expressions finds one. Fractions on the way are allowed; every right expression
//! passes, also followed by `= 24`.

use serde::Deserialize;

use super::arith::{self, Number};
use super::countdown::expression;
use super::*;

pub struct Game24;

const NUMBERS: Knob = Knob::number("numbers", 2, 5, 4, "how many numbers are given");
const LARGEST: Knob = Knob::number("largest", 8, 13, 9, "no given number is larger");
const TARGET: Knob = Knob::number("target", 6, 36, 24, "the value to make");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    given: Vec<i64>,
    value: i64,
}

impl Puzzle for Game24 {
    type Board = Board;
    const NAME: &'static str = "game24";
    const ABOUT: &'static str = "the game of 24: every given number once in an expression of the target";
    const KNOBS: &'static [Knob] = &[NUMBERS, LARGEST, TARGET];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let value = d.get(&TARGET);
        for _ in 0..1000 {
            let given: Vec<i64> = (0..d.get(&NUMBERS)).map(|_| stream.between(1, d.get(&LARGEST))).collect();
            if let Some(expr) = arith::reach(&given, value) {
                return Ok((Board { given, value }, expr.show()));
            }
        }
        Err(Error::work(format!("no numbers that make {value} in 1000 draws")).help("give more numbers"))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let list: Vec<String> = board.given.iter().map(i64::to_string).collect();
        let wordings = [
            "Use each of the numbers {} exactly once with + - * / and brackets to make {}. Answer with the \
             expression.",
            "Numbers: {}. Write one expression of + - * / and brackets that uses all of them, each once, and equals \
             {}.",
            "From {} make {}: every number is used exactly one time, with + - * / and brackets. Answer with the \
             expression.",
        ];
        let (numbers, value) = (list.join(", "), board.value.to_string());
        word(stream, &wordings, &[&numbers, &value])
    }

    fn key(board: &Board) -> String {
        let mut sorted = board.given.clone();
        sorted.sort();
        format!("{sorted:?} {}", board.value)
    }

    fn sound(board: &Board) -> bool {
        (1..=16).contains(&board.given.len())
            && board.given.iter().chain([&board.value]).all(|n| (0..=1_000_000).contains(n))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let expr = expression(text, board.value)?;
        let (mut used, mut given) = (expr.numbers(), board.given.clone());
        used.sort();
        given.sort();
        Some(used == given && expr.value() == Some(Number::from_integer(board.value)))
    }

    fn steps(board: &Board, answer: &str) -> Vec<String> {
        expression(answer, board.value).map(|e| e.steps()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::arith::Expr;
    use crate::puzzles::laws::{Laws, hold};

    fn also(p: &Problem) -> Vec<String> {
        let board = board::<Game24>(p).unwrap();
        // the same numbers the other way round lead the search to another expression
        let turned: Vec<i64> = board.given.iter().rev().copied().collect();
        vec![arith::reach(&turned, board.value).unwrap().show(), format!("({})={}", p.answer, board.value)]
    }

    fn wrong(p: &Problem) -> Vec<String> {
        let board = board::<Game24>(p).unwrap();
        let sum: Vec<String> = board.given.iter().map(i64::to_string).collect();
        let mut all = vec![
            board.value.to_string(),
            format!("{} + 0", p.answer),
            format!("{} * 1", p.answer),
            format!("{} + {}", sum.join(" + "), board.value),
        ];
        if let Some(Expr::Op(a, op, b)) = arith::parse(&p.answer) {
            // an operand left out
            all.push(if matches!(op, '*' | '+') { a.show() } else { b.show() });
        }
        all
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "numbers=3,target=12", "numbers=5,largest=13"];
        hold(&Of(Game24), &Laws { specs: &specs, n: 60, wrong, also, digest: "1134fe9880105d90" });
    }

    /// Every way to put three numbers together, written out, against the search.
    #[test]
    fn three_numbers_by_brute_force() {
        let ops = ['+', '-', '*', '/'];
        for (a, b, c) in (1..=6i64).flat_map(|a| (a..=6).flat_map(move |b| (b..=6).map(move |c| (a, b, c)))) {
            let mut any = false;
            for [x, y, z] in [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
                for (p, q) in ops.iter().flat_map(|p| ops.iter().map(move |q| (p, q))) {
                    for text in [format!("({x}{p}{y}){q}{z}"), format!("{x}{p}({y}{q}{z})")] {
                        let board = Board { given: vec![a, b, c], value: 12 };
                        any |= Game24::accepts(&board, &text) == Some(true);
                    }
                }
            }
            assert_eq!(arith::reach(&[a, b, c], 12).is_some(), any, "{a} {b} {c}");
        }
    }
}
