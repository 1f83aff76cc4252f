//! `math-path`: fill in hidden digits so that an equation holds.
//!
//! ```text
//! Replace each ? by a digit so that the equation holds: ? * 4 + 1? = 27. …
//! 3 * 4 = 12
//! 12 + 15 = 27
//! #### 3 * 4 + 15 = 27
//! ```
//!
//! `*` before `+` and `-`; numbers of several digits do not start with 0. Any filling that holds passes, also within `[[ ]]`.

use serde::Deserialize;

use super::arith::{self, Expr, Number};
use super::*;

pub struct MathPath;

const TERMS: Knob = Knob::number("terms", 2, 6, 3, "numbers before the equals sign");
const DIGITS: Knob = Knob::number("digits", 1, 3, 1, "most digits of these numbers");
const HIDDEN: Knob = Knob::number("hidden", 10, 100, 50, "percent of the digits that are hidden");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// With `?` for hidden digits.
    equation: String,
}

/// What an equation is made of, `[[ ]]` and blanks left out; none where something else stands in it.
fn marks(text: &str) -> Option<Vec<char>> {
    let text = text.trim();
    let text = text.strip_prefix("[[").and_then(|t| t.strip_suffix("]]")).unwrap_or(text);
    let plain = |c: char| match c {
        '\u{d7}' | '\u{b7}' => '*',
        '\u{2212}' => '-',
        c => c,
    };
    let all: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).map(plain).collect();
    let known = |c: &char| c.is_ascii_digit() || "+-*=?".contains(*c);
    (all.len() <= 200 && all.contains(&'=') && all.iter().all(known)).then_some(all)
}

fn sides(marks: &[char]) -> Option<(Expr, Expr)> {
    let text: String = marks.iter().collect();
    let (left, right) = text.split_once('=')?;
    Some((arith::parse(left)?, arith::parse(right)?))
}

impl Puzzle for MathPath {
    type Board = Board;
    const NAME: &'static str = "math-path";
    const ABOUT: &'static str = "fill in hidden digits so that an equation holds";
    const KNOBS: &'static [Knob] = &[TERMS, DIGITS, HIDDEN];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let term = |stream: &mut Stream| {
            let digits = stream.between(1, d.get(&DIGITS)) as u32;
            stream.between(if digits == 1 { 1 } else { 10i64.pow(digits - 1) }, 10i64.pow(digits) - 1)
        };
        // sums of products; a minus only where the total stays positive
        let mut text = String::new();
        let (mut total, mut left) = (0i64, d.get(&TERMS));
        while left > 0 {
            let factors = if left > 1 && stream.chance(0.4) { 2 } else { 1 };
            let values: Vec<i64> = (0..factors).map(|_| term(stream)).collect();
            let product: i64 = values.iter().product();
            let minus = !text.is_empty() && product < total && stream.chance(0.5);
            if !text.is_empty() {
                text.push_str(if minus { " - " } else { " + " });
            }
            text.push_str(&values.iter().map(i64::to_string).collect::<Vec<_>>().join(" * "));
            total += if minus { -product } else { product };
            left -= factors as i64;
        }
        let answer = format!("{text} = {total}");
        let spots: Vec<usize> = answer.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(i, _)| i).collect();
        let count = (spots.len() * d.get(&HIDDEN) as usize).div_ceil(100);
        let mut hidden: Vec<char> = answer.chars().collect();
        stream.sample(spots.len(), count).into_iter().for_each(|k| hidden[spots[k]] = '?');
        Ok((Board { equation: hidden.into_iter().collect() }, answer))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let wordings = [
            "Replace each ? by a digit so that the equation holds: {}. Multiply before adding; numbers of several \
             digits do not start with 0. Answer with the whole equation.",
            "Some digits are hidden by question marks: {}. Find digits that make it true (* before + and -, no \
             leading zeros). Write the complete equation.",
            "Fill in one digit from 0 to 9 for every ? in {} to make both sides equal. No number begins with 0 \
             unless it is 0. Answer with the equation.",
        ];
        word(stream, &wordings, &[&board.equation])
    }

    fn sound(board: &Board) -> bool {
        board.equation.len() <= 100
            && marks(&board.equation).is_some_and(|m| m.iter().filter(|c| **c == '=').count() == 1)
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let (wanted, given) = (marks(&board.equation)?, marks(text)?);
        let fits = wanted.len() == given.len()
            && wanted.iter().zip(&given).all(|(w, g)| w == g || *w == '?' && g.is_ascii_digit());
        let leading = |i: usize| {
            given[i] == '0'
                && (i == 0 || !given[i - 1].is_ascii_digit())
                && given.get(i + 1).is_some_and(char::is_ascii_digit)
        };
        let equal = || {
            let (left, right) = sides(&given)?;
            let value: Number = left.value()?;
            Some(value == right.value()?)
        };
        Some(fits && !(0..given.len()).any(leading) && equal() == Some(true))
    }

    /// The operations of the filled equation.
    fn steps(_: &Board, answer: &str) -> Vec<String> {
        let sides = marks(answer).and_then(|m| sides(&m));
        sides.map(|(left, right)| [left.steps(), right.steps()].concat()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold};

    fn also(p: &Problem) -> Vec<String> {
        let a = &p.answer;
        vec![a.replace(' ', ""), format!("[[{a}]]"), a.replace('*', "\u{d7}")]
    }

    fn wrong(p: &Problem) -> Vec<String> {
        let (left, right) = p.answer.split_once(" = ").unwrap();
        let n: i64 = right.parse().unwrap();
        vec![
            format!("{left} = {}", n + 1),
            format!("{left} + 0 = {n}"),
            format!("{n} = {left}"),
            left.to_string(),
            format!("0{left} = {n}"),
            board::<MathPath>(p).unwrap().equation,
        ]
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "terms=4,hidden=100,digits=3", "terms=6,digits=2,hidden=80"];
        hold(&Of(MathPath), &Laws { specs: &specs, n: 60, wrong, also, digest: "5df70517493db86e" });
    }

    /// Every filling of up to three hidden digits, summed up by hand.
    #[test]
    fn brute_force_agrees_on_few_digits() {
        let mut several = 0;
        for seed in 0..150 {
            let d = Of(MathPath).difficulty("hidden=50,digits=2").unwrap();
            let (board, answer) = MathPath::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let count = board.equation.matches('?').count();
            if count > 3 {
                continue;
            }
            let mut right = vec![];
            for code in 0..10usize.pow(count as u32) {
                let mut text = board.equation.clone();
                for k in 0..count {
                    text = text.replacen('?', &(code / 10usize.pow(k as u32) % 10).to_string(), 1);
                }
                let (left, total) = text.split_once(" = ").unwrap();
                let mut sum = 0;
                for part in left.replace(" - ", " + -").split(" + ") {
                    let sign = if part.starts_with('-') { -1 } else { 1 };
                    let factors = part.trim_start_matches('-').split(" * ");
                    sum += sign * factors.map(|f| f.parse::<i64>().unwrap()).product::<i64>();
                }
                let zero = text.split(' ').any(|t| t.len() > 1 && t.starts_with('0'));
                let fine = sum == total.parse::<i64>().unwrap() && !zero;
                assert_eq!(MathPath::accepts(&board, &text), Some(fine), "{text}");
                right.extend(fine.then_some(text));
            }
            assert!(right.contains(&answer));
            several += usize::from(right.len() > 1);
        }
        assert!(several > 5, "{several}");
    }
}
