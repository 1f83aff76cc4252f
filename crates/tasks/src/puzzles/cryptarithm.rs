//! `cryptarithm`: letters stand for digits in a sum. One solution.
//!
//! ```text
//! Each letter is a digit, different letters are different digits, no number starts with 0: AB + B = CA. …
//! A = 2 …
//! #### 29 + 9 = 38
//! ```
//!
//! Letters are told until the solution is the only one. The verifier reads the equation in digits and checks every rule.

use serde::Deserialize;

use super::*;
use crate::search::csp::{Csp, Relation};

pub struct Cryptarithm;

const LENGTH: Knob = Knob::number("length", 1, 5, 2, "most letters of a word");
const TERMS: Knob = Knob::number("terms", 2, 3, 2, "words before the equals sign, joined by + or -");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The terms, then the result.
    words: Vec<String>,
    /// `+` or `-` before every term but the first.
    signs: Vec<char>,
    known: Vec<(char, i64)>,
}

impl Board {
    fn letters(&self) -> Vec<char> {
        let mut all: Vec<char> = self.words.iter().flat_map(|w| w.chars()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// 1 or -1 for each word, the result taken to the left side.
    fn factors(&self) -> Vec<i64> {
        let signs = self.signs.iter().map(|s| if *s == '+' { 1 } else { -1 });
        [1].into_iter().chain(signs).chain([-1]).collect()
    }

    /// The letters, then the carries out of each column but the last, in the order of columns from the right.
    fn rules(&self) -> Csp {
        let letters = self.letters();
        let mut csp = Csp::new();
        let x: Vec<usize> = letters.iter().map(|_| csp.var(0, 9).expect("few values")).collect();
        csp.all_different(&x).expect("own variables");
        let var = |c: char| letters.iter().position(|l| *l == c).expect("a letter of the board");
        for word in self.words.iter().filter(|w| w.len() > 1) {
            let first = word.chars().next().expect("not empty");
            csp.linear(&[(1, var(first))], Relation::AtLeast, 1).expect("own variable");
        }
        self.known.iter().for_each(|&(c, v)| csp.restrict(var(c), &[v]).expect("own variable"));
        let columns = self.words.iter().map(String::len).max().unwrap_or(0);
        let mut carry = None;
        for k in 0..columns {
            let digit = |w: &String| w.chars().rev().nth(k).map(var);
            let mut terms: Vec<(i64, usize)> =
                self.words.iter().zip(self.factors()).filter_map(|(w, f)| Some((f, digit(w)?))).collect();
            terms.extend(carry.map(|c| (1, c)));
            carry = (k + 1 < columns).then(|| csp.var(-9, 9).expect("few values"));
            terms.extend(carry.map(|c| (-10, c)));
            csp.linear(&terms, Relation::Equal, 0).expect("own variables");
        }
        csp
    }

    fn equation(&self, words: &[String]) -> String {
        let mut text = words[0].clone();
        for (sign, word) in self.signs.iter().zip(&words[1..]) {
            text.push_str(&format!(" {sign} {word}"));
        }
        format!("{text} = {}", words[words.len() - 1])
    }

    /// The numbers of an answer, as written; none where it is no equation of this shape.
    fn read(&self, text: &str) -> Option<Vec<String>> {
        let marks: String =
            text.chars().filter(|c| !c.is_whitespace()).map(|c| if c == '\u{2212}' { '-' } else { c }).collect();
        if !marks.chars().all(|c| c.is_ascii_digit() || "+-=".contains(c)) {
            return None;
        }
        let signs: Vec<char> = marks.chars().filter(|c| !c.is_ascii_digit()).collect();
        let wanted: Vec<char> = self.signs.iter().copied().chain(['=']).collect();
        let numbers: Vec<String> = marks.split(['+', '-', '=']).map(String::from).collect();
        (signs == wanted && numbers.iter().all(|n| !n.is_empty())).then_some(numbers)
    }
}

impl Puzzle for Cryptarithm {
    type Board = Board;
    const NAME: &'static str = "cryptarithm";
    const ABOUT: &'static str = "letters stand for digits in a sum";
    const KNOBS: &'static [Knob] = &[LENGTH, TERMS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let (terms, length) = (d.get(&TERMS) as usize, d.get(&LENGTH) as u32);
        let mut numbers: Vec<i64> = vec![];
        let mut signs: Vec<char> = vec![];
        let mut total = 0;
        for i in 0..terms {
            let digits = (length - u32::from(length > 1 && stream.chance(0.3))).max(1);
            let n = stream.between(if digits == 1 { 1 } else { 10i64.pow(digits - 1) }, 10i64.pow(digits) - 1);
            // taken away only where something is left
            let minus = i > 0 && n < total && stream.chance(0.4);
            if i > 0 {
                signs.push(if minus { '-' } else { '+' });
            }
            total += if minus { -n } else { n };
            numbers.push(n);
        }
        numbers.push(total);
        let alphabet: Vec<char> = ('A'..='Z').collect();
        let letter: Vec<char> = stream.sample(26, 10).into_iter().map(|i| alphabet[i]).collect();
        let digits: Vec<String> = numbers.iter().map(i64::to_string).collect();
        let hide = |n: &String| n.bytes().map(|b| letter[usize::from(b - b'0')]).collect();
        let mut board = Board { words: digits.iter().map(hide).collect(), signs, known: vec![] };
        let letters = board.letters();
        let value = |c: char| letter.iter().position(|l| *l == c).expect("a letter that was drawn") as i64;
        let mut truth: Vec<i64> = letters.iter().map(|&c| value(c)).collect();
        // the carries follow from the digits
        let columns = digits.iter().map(String::len).max().unwrap_or(0);
        let mut carry = 0;
        for k in 0..columns - 1 {
            let digit = |n: &String| n.bytes().rev().nth(k).map_or(0, |b| i64::from(b - b'0'));
            carry = (digits.iter().zip(board.factors()).map(|(n, f)| f * digit(n)).sum::<i64>() + carry) / 10;
            truth.push(carry);
        }
        let told = grid::pin(&mut board.rules(), &truth, |i| i < letters.len(), stream)?;
        board.known = told.into_iter().map(|i| (letters[i], truth[i])).collect();
        board.known.sort();
        let answer = board.equation(&digits);
        Ok((board, answer))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let mut told = board.equation(&board.words);
        if !board.known.is_empty() {
            let known: Vec<String> = board.known.iter().map(|(c, v)| format!("{c} = {v}")).collect();
            told = format!("{told}, where {}", known.join(", "));
        }
        let wordings = [
            "Each letter is a digit, different letters are different digits, no number of several digits starts \
             with 0: {}. Answer with the equation in digits.",
            "Solve the cryptarithm {}. Equal letters stand for equal digits, different letters for different ones; \
             no leading zeros. Write the equation with digits.",
            "Replace letters by digits, one digit for each letter and no two alike, so that this holds: {}. Numbers \
             do not begin with 0. Answer with the equation.",
        ];
        word(stream, &wordings, &[&told])
    }

    fn sound(board: &Board) -> bool {
        let letters = board.letters();
        board.words.len() == board.signs.len() + 2
            && board.words.len() <= 6
            && board.words.iter().all(|w| (1..=12).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_uppercase()))
            && letters.len() <= 10
            && board.signs.iter().all(|s| "+-".contains(*s))
            && board.known.iter().all(|(c, v)| letters.contains(c) && (0..=9).contains(v))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let numbers = board.read(text)?;
        let mut digit_of = std::collections::BTreeMap::new();
        for (number, word) in numbers.iter().zip(&board.words) {
            if number.len() != word.len() || number.len() > 1 && number.starts_with('0') {
                return Some(false);
            }
            for (d, c) in number.chars().zip(word.chars()) {
                if *digit_of.entry(c).or_insert(d) != d {
                    return Some(false);
                }
            }
        }
        let mut digits: Vec<char> = digit_of.values().copied().collect();
        digits.sort();
        digits.dedup();
        let known = board.known.iter().all(|(c, v)| digit_of.get(c).and_then(|d| d.to_digit(10)) == Some(*v as u32));
        let total: Option<i64> =
            numbers.iter().zip(board.factors()).map(|(n, f)| n.parse::<i64>().ok().map(|n| f * n)).sum();
        Some(digits.len() == digit_of.len() && known && total == Some(0))
    }

    /// `A = 2`, `A is not 3`, `try A = 4`: by columns from the right, carries not told.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let letters = board.letters();
        let csp = board.rules();
        let Some(numbers) = board.read(answer) else { return vec![] };
        let mut values = vec![0; csp.vars()];
        for (d, c) in numbers.iter().zip(&board.words).flat_map(|(n, w)| n.chars().zip(w.chars())) {
            let at = letters.iter().position(|l| *l == c);
            values[at.expect("a letter of the board")] = i64::from(d.to_digit(10).unwrap_or(0));
        }
        // the carries are the search's own
        let Some(found) = csp.solve_traced(grid::BUDGET).0.solutions.pop() else { return vec![] };
        values[letters.len()..].copy_from_slice(&found[letters.len()..]);
        let name = |i: usize| letters.get(i).map_or("carry".to_string(), char::to_string);
        let mut steps = grid::deductions(&csp, &values, name);
        steps.retain(|s| !s.contains("carry"));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold, spoiled};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "length=3,terms=3", "length=4", "length=5,terms=3"];
        let also = |p: &Problem| vec![p.answer.replace(' ', ""), p.answer.replace('-', "\u{2212}")];
        hold(
            &Of(Cryptarithm),
            &Laws { specs: &specs, n: 40, wrong: |p| spoiled(&p.answer), also, digest: "66ef03dbeca81408" },
        );
    }

    /// Every assignment of digits to up to six letters, the words read as decimal numbers.
    #[test]
    fn brute_force_agrees_on_few_letters() {
        let mut tried = 0;
        for seed in 0..60 {
            let d = Of(Cryptarithm).difficulty("length=2").unwrap();
            let (board, answer) = Cryptarithm::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let letters = board.letters();
            if letters.len() > 5 {
                continue;
            }
            tried += 1;
            let mut right = vec![];
            for code in 0..10usize.pow(letters.len() as u32) {
                let digit = |c: char| code / 10usize.pow(letters.iter().position(|l| *l == c).unwrap() as u32) % 10;
                let digits: std::collections::BTreeSet<usize> = letters.iter().map(|c| digit(*c)).collect();
                if digits.len() < letters.len() {
                    continue;
                }
                let numbers: Vec<i64> =
                    board.words.iter().map(|w| w.chars().fold(0, |n, c| 10 * n + digit(c) as i64)).collect();
                let no_zero = board.words.iter().all(|w| w.len() == 1 || digit(w.chars().next().unwrap()) != 0);
                let known = board.known.iter().all(|(c, v)| digit(*c) as i64 == *v);
                let sum = if board.signs[0] == '+' { numbers[0] + numbers[1] } else { numbers[0] - numbers[1] };
                if no_zero && known && sum == numbers[2] {
                    right.push(board.equation(&numbers.iter().map(i64::to_string).collect::<Vec<_>>()));
                }
            }
            assert_eq!(right, [answer]);
        }
        assert!(tried > 10);
    }
}
