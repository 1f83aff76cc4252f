//! Answers: finding them in a response, and deciding whether two of them are the same.
//!
//! ```
//! use postgrad_tasks::answers::{Mode, equal, extract};
//! let response = "Half of it, so the probability is \\boxed{\\frac{1}{2}}.";
//! assert_eq!(extract(response, Mode::Any).strict.unwrap().text, "\\frac{1}{2}");
//! assert!(equal("0.5", response).equal);
//! assert!(equal("(-\\infty, 2]", "x \\le 2").equal);
//! assert!(!equal("[1, 2)", "(1, 2)").equal);
//! ```
//!
//! Nothing is evaluated as code. Recursion, digits, powers, terms and comparisons are bounded; a text of any length takes time linear in it.
//! Left out on purpose: calculus (integrals, sums, limits as notation), inequalities that are not linear, equality of general solutions that
//! differ by a shift of the whole number. docs/ANSWERS.md says what is handled and how decimals are judged.

mod algebra;
mod compare;
mod eval;
mod expr;
mod extract;
mod fuzz;
mod lex;
mod math;
mod parse;
mod sets;
mod text;
mod units;

#[cfg(test)]
mod tests;

pub use compare::How;
pub use expr::{Const, Expr, Fun, Q};
pub use extract::{Extraction, Found, Mode, Place, extract};
pub use fuzz::fuzz_answers;
pub use lex::Rel;
pub use parse::{Answer, parse};
pub use text::{contains, normal};
pub use units::Unit;

use lex::Commas;

/// The verdict on a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub equal: bool,
    /// What was understood as each side's answer, in the printed form of `Answer`.
    pub gold: String,
    pub pred: String,
    /// The weakest method the verdict leans on.
    pub how: How,
}

/// Compares two answers; each may be bare or a whole response (then its flexible extraction counts).
pub fn equal(gold: &str, pred: &str) -> Outcome {
    let (g, p) = (body(gold), body(pred));
    if g.len().max(p.len()) > parse::MAX_ANSWER {
        // too long for an answer: equal only if it is the same text
        let shown = |s: &str| {
            if s.len() > parse::MAX_ANSWER {
                format!("{}...", s.chars().take(200).collect::<String>())
            } else {
                parse(s).to_string()
            }
        };
        return Outcome { equal: same_text(&g, &p), gold: shown(&g), pred: shown(&p), how: How::Same };
    }
    let (a, b) = (parse(&g), parse(&p));
    let outcome = |equal, how, a: &Answer, b: &Answer| Outcome { equal, gold: a.to_string(), pred: b.to_string(), how };
    if g.trim().is_empty() || p.trim().is_empty() {
        return outcome(false, How::Same, &a, &b);
    }
    if same_text(&g, &p) {
        return outcome(true, How::Same, &a, &b);
    }
    let (equal, how) = compare::same(&a, &b);
    if equal {
        return outcome(true, how, &a, &b);
    }
    // other readings of commas, one side at a time
    for (x, y, swap) in [(&g, &p, false), (&p, &g, true)] {
        let Some(reading) = other_reading(x, y) else { continue };
        let other = parse::parse_with(x, reading);
        let (equal, how) = if swap { compare::same(&a, &other) } else { compare::same(&other, &b) };
        if equal {
            return if swap { outcome(true, how, &a, &other) } else { outcome(true, how, &other, &b) };
        }
    }
    outcome(false, how, &a, &b)
}

/// What a side's answer is: the marked one, else the whole text where it is bare, else the best guess.
fn body(side: &str) -> String {
    let found = extract(side, Mode::Any);
    found.flexible.map_or_else(|| side.trim().to_string(), |f| f.text)
}

/// The same characters apart from spaces; nothing is not an answer.
fn same_text(a: &str, b: &str) -> bool {
    let mut x = a.chars().filter(|c| !c.is_whitespace());
    let mut y = b.chars().filter(|c| !c.is_whitespace());
    if a.trim().is_empty() {
        return false;
    }
    loop {
        match (x.next(), y.next()) {
            (None, None) => return true,
            (s, t) if s == t => {}
            _ => return false,
        }
    }
}

/// Commas that could be read otherwise: a lone "3,14" beside a decimal point, "(1,234)" beside a pair.
fn other_reading(text: &str, beside: &str) -> Option<Commas> {
    let text = parse::unwrap(text).trim_start_matches(['-', '+', '$', ' ']);
    if !text.contains(',') || text.len() > 400 {
        return None;
    }
    let number = text.split([' ', '%', '\\']).next()?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let mut halves = number.split(',');
    if let (Some(whole), Some(part), None) = (halves.next(), halves.next(), halves.next())
        && digits(part)
    {
        let grouped = whole.contains('.')
            && whole.split('.').skip(1).all(|g| digits(g) && g.len() == 3)
            && whole.split('.').all(digits);
        let plain = digits(whole) && (part.len() != 3 || whole == "0");
        if (grouped || plain) && !beside.contains(", ") {
            return Some(Commas::Decimal);
        }
    }
    text.starts_with(['(', '[', '{', '\\']).then_some(Commas::Separate)
}
