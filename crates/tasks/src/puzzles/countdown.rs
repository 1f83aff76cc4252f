//! `countdown`: reach a target with given numbers, each at most once.
//!
//! ```text
//! Make 31 from the numbers 3, 4, 24. Use + - * / and brackets, each number at most once. Answer with the expression.
//! 3 + 4 = 7
//! 7 + 24 = 31
//! #### 3 + 4 + 24
//! ```
//!
//! The drawn solution uses every number and passes through positive whole numbers only; the verifier takes any expression
//! of the right value in exact fractions, also `3 + 4 + 24 = 31`.

use serde::Deserialize;

use super::arith::{self, Expr, Number};
use super::*;

pub struct Countdown;

const NUMBERS: Knob = Knob::number("numbers", 2, 6, 3, "how many numbers are given");
const LARGEST: Knob = Knob::number("largest", 9, 100, 20, "no given number is larger");
const TARGET: Knob = Knob::number("target", 20, 999, 100, "no target is larger");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    numbers: Vec<i64>,
    target: i64,
}

/// A whole positive result, or none.
fn combine(a: i64, op: char, b: i64) -> Option<i64> {
    match op {
        '+' => Some(a + b),
        '-' => Some(a - b),
        '*' => Some(a * b),
        _ => (a % b == 0).then_some(a / b),
    }
    .filter(|v| (1..=1_000_000).contains(v))
}

/// Puts numbers together at random until one is left.
fn build(stream: &mut Stream, numbers: &[i64]) -> (i64, Expr) {
    let mut parts: Vec<(i64, Expr)> = numbers.iter().map(|&n| (n, Expr::Number(n))).collect();
    while parts.len() > 1 {
        let (a, x) = parts.swap_remove(stream.below(parts.len()));
        let (b, y) = parts.swap_remove(stream.below(parts.len()));
        let ((a, x), (b, y)) = if a < b { ((b, y), (a, x)) } else { ((a, x), (b, y)) };
        let ops: Vec<(char, i64)> =
            ['+', '-', '*', '/'].into_iter().filter_map(|op| Some((op, combine(a, op, b)?))).collect();
        let (op, value) = *stream.choose(&ops);
        parts.push((value, Expr::Op(Box::new(x), op, Box::new(y))));
    }
    parts.remove(0)
}

/// The expression of an answer, `expression` or `expression = target`.
pub(super) fn expression(text: &str, target: i64) -> Option<Expr> {
    let (left, right) = text.split_once('=').map_or((text, None), |(l, r)| (l, Some(r)));
    match right.map(arith::parse) {
        None => arith::parse(left),
        Some(Some(Expr::Number(n))) if n == target => arith::parse(left),
        Some(_) => None,
    }
}

impl Puzzle for Countdown {
    type Board = Board;
    const NAME: &'static str = "countdown";
    const ABOUT: &'static str = "reach a target with given numbers, each at most once";
    const KNOBS: &'static [Knob] = &[NUMBERS, LARGEST, TARGET];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        for _ in 0..1000 {
            let numbers: Vec<i64> = (0..d.get(&NUMBERS)).map(|_| stream.between(1, d.get(&LARGEST))).collect();
            let (target, expr) = build(stream, &numbers);
            if target <= d.get(&TARGET) && !numbers.contains(&target) {
                return Ok((Board { numbers, target }, expr.show()));
            }
        }
        Err(Error::work("no target was found in 1000 draws").help("make `target` larger"))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let numbers: Vec<String> = board.numbers.iter().map(i64::to_string).collect();
        let (list, target) = (numbers.join(", "), board.target.to_string());
        if stream.chance(0.5) {
            let wordings = [
                "Make {} from the numbers {}. Use + - * / and brackets, each number at most once. Answer with the \
                 expression.",
                "Reach {} with {}. You may add, subtract, multiply and divide; no number may be used twice. Write \
                 one expression.",
            ];
            return word(stream, &wordings, &[&target, &list]);
        }
        let wordings = [
            "Numbers: {}. Target: {}. Write an expression with + - * / that has the target's value and uses each \
             number at most once.",
            "Combine {} to get {}. Each number may be used once or left out. Answer with one expression of + - * / \
             and brackets.",
        ];
        word(stream, &wordings, &[&list, &target])
    }

    fn key(board: &Board) -> String {
        let mut sorted = board.numbers.clone();
        sorted.sort();
        format!("{sorted:?} {}", board.target)
    }

    fn sound(board: &Board) -> bool {
        (1..=16).contains(&board.numbers.len())
            && board.numbers.iter().chain([&board.target]).all(|n| (0..=1_000_000).contains(n))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let expr = expression(text, board.target)?;
        let mut left = board.numbers.clone();
        let given = expr.numbers().iter().all(|n| left.iter().position(|m| m == n).map(|i| left.remove(i)).is_some());
        Some(given && expr.value() == Some(Number::from_integer(board.target)))
    }

    fn steps(board: &Board, answer: &str) -> Vec<String> {
        expression(answer, board.target).map(|e| e.steps()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold};

    fn parts(p: &Problem) -> (Board, Expr) {
        let board = board::<Countdown>(p).unwrap();
        let expr = expression(&p.answer, board.target).unwrap();
        (board, expr)
    }

    /// The same value by other expressions.
    fn also(p: &Problem) -> Vec<String> {
        let (board, expr) = parts(p);
        let other = arith::reach(&board.numbers[..board.numbers.len().min(4)], board.target).map(|e| e.show());
        let squeezed = p.answer.replace(' ', "").replace('*', "\u{d7}");
        let mut all = vec![squeezed, format!("({}) = {}", p.answer, board.target)];
        if let Expr::Op(a, op, b) = &expr
            && matches!(op, '+' | '*')
        {
            all.push(Expr::Op(b.clone(), *op, a.clone()).show());
        }
        all.extend(other);
        all
    }

    fn wrong(p: &Problem) -> Vec<String> {
        let (board, expr) = parts(p);
        let spare = board.numbers[0];
        let mut all = vec![
            board.target.to_string(),
            format!("{} + 1 - 1", p.answer),
            format!("{} + {spare}", p.answer),
            format!("{} - {spare} + {spare}", p.answer),
        ];
        if let Expr::Op(a, op, b) = expr {
            let other = if matches!(op, '+' | '/') { '-' } else { '+' };
            let changed = Expr::Op(a, other, b);
            if changed.value() != Some(Number::from_integer(board.target)) {
                all.push(changed.show());
            }
        }
        all
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["numbers=2", "", "numbers=4,target=200", "numbers=6,largest=100,target=999"];
        hold(&Of(Countdown), &Laws { specs: &specs, n: 60, wrong, also, digest: "7f63afe1cdee1163" });
    }

    #[test]
    fn equations_are_read_and_false_ones_are_not() {
        let board = Board { numbers: vec![3, 4, 24], target: 31 };
        for (text, is) in [
            ("3+4+24", Some(true)),
            ("24 + (4 + 3) = 31", Some(true)),
            ("3+4+24 = 30", None),
            ("31", Some(false)),
            ("24 + 3", Some(false)),
            ("3 + 4 + 24 + 0", Some(false)),
            ("I think 3+4+24", None),
        ] {
            assert_eq!(Countdown::accepts(&board, text), is, "{text}");
        }
    }

    /// Two numbers: an answer is right exactly when it is one of the few expressions of that value.
    #[test]
    fn two_numbers_by_hand() {
        for (a, b) in (1i64..10).flat_map(|a| (1..10).map(move |b| (a, b))) {
            let board = Board { numbers: vec![a, b], target: 6 };
            for (text, right) in [
                (format!("{a}+{b}"), a + b == 6),
                (format!("{a}-{b}"), a - b == 6),
                (format!("{a}*{b}"), a * b == 6),
                (format!("{a}/{b}"), a == 6 * b),
            ] {
                assert_eq!(Countdown::accepts(&board, &text), Some(right), "{text}");
            }
        }
    }
}
