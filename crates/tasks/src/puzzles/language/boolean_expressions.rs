//! `boolean-expressions`: which of several expressions are true.
//!
//! ```text
//! p is true and q is false. Which of these are true? A: not p or q  B: (p and true) xor q
//! A: not p or q = not true or false = false or false = false
//! B: p and true xor q = ... = true
//! #### B
//! ```
//!
//! Difficulty: `options`, `depth`, `letters`. The letters may come in any order; none is an answer.

use super::*;
use crate::logic::{self, Formula, Notation, formula, print, truth};

pub struct BooleanExpressions;

const OPTIONS: Knob = Knob::number("options", 1, 8, 4, "how many expressions");
const DEPTH: Knob = Knob::number("depth", 1, 6, 2, "how deep the expressions are");
const LETTERS: Knob = Knob::number("letters", 0, 6, 2, "letters with a given value");

const WORDINGS: &[&str] = &[
    "Which of these are true? Name their letters, or say none.",
    "List the letters of all true expressions, or say none.",
    "Evaluate each expression. Answer with the letters of those that are true, or with none.",
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The values of p, q, r ...
    values: Vec<bool>,
    /// The expressions, in word notation.
    options: Vec<String>,
}

fn name(i: usize) -> String {
    char::from(b'p' + i as u8).to_string()
}

fn random(stream: &mut Stream, depth: i64, letters: usize) -> Formula {
    if depth == 0 {
        let constant = letters == 0 || stream.chance(0.25);
        return match (constant, stream.chance(0.5)) {
            (false, _) => formula::letter(name(stream.below(letters))),
            (true, true) => Formula::True,
            (true, false) => Formula::False,
        };
    }
    // One side is as deep as asked, the other at most that.
    if stream.chance(0.25) {
        return random(stream, depth - 1, letters).negate();
    }
    let (a, shallow) = (random(stream, depth - 1, letters), stream.between(0, depth - 1));
    let b = random(stream, shallow, letters);
    let op = *stream.choose(&[
        formula::Op::And,
        formula::Op::And,
        formula::Op::Or,
        formula::Op::Or,
        formula::Op::Xor,
        formula::Op::Implies,
    ]);
    if stream.chance(0.5) { Formula::bin(op, a, b) } else { Formula::bin(op, b, a) }
}

fn constant(f: &Formula) -> Option<bool> {
    match f {
        Formula::True => Some(true),
        Formula::False => Some(false),
        _ => None,
    }
}

fn of(value: bool) -> Formula {
    if value { Formula::True } else { Formula::False }
}

/// One layer of evaluation: letters get their values, operators of two constants become one.
fn reduce(f: &Formula, values: &[bool]) -> Formula {
    match f {
        Formula::Atom(a) => of(value(values, &a.pred)),
        Formula::Not(a) => constant(a).map_or_else(|| reduce(a, values).negate(), |a| of(!a)),
        Formula::Bin(op, a, b) => match (constant(a), constant(b)) {
            (Some(a), Some(b)) => of(op.apply(a, b)),
            _ => Formula::bin(*op, reduce(a, values), reduce(b, values)),
        },
        other => other.clone(),
    }
}

fn value(values: &[bool], letter: &str) -> bool {
    (0..values.len()).find(|i| name(*i) == letter).is_some_and(|i| values[i])
}

/// The expressions; none when one is no expression of the board's letters.
fn expressions(board: &Board) -> Option<Vec<Formula>> {
    if board.values.len() > 8 || !(1..=20).contains(&board.options.len()) {
        return None;
    }
    let known = |f: &Formula| {
        let letter = |a: &&Formula| matches!(a, Formula::Atom(a) if (0..board.values.len()).any(|i| name(i) == a.pred));
        f.is_propositional() && f.depth() < 12 && f.atoms().iter().all(letter)
    };
    board.options.iter().map(|o| logic::parse(o).ok().filter(known)).collect()
}

fn letter(i: usize) -> String {
    char::from(b'A' + i as u8).to_string()
}

impl Worked for BooleanExpressions {
    const NAME: &'static str = "boolean-expressions";
    const ABOUT: &'static str = "which of several logical expressions are true";
    const KNOBS: &'static [Knob] = &[OPTIONS, DEPTH, LETTERS];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let letters = d.get(&LETTERS) as usize;
        let values = (0..letters).map(|_| stream.chance(0.5)).collect();
        let mut options: Vec<String> = vec![];
        for _ in 0..d.get(&OPTIONS) {
            options.push(print(&random(stream, d.get(&DEPTH), letters), Notation::Words));
        }
        Board { values, options }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let notation = *stream.choose(&[Notation::Words, Notation::Words, Notation::Unicode, Notation::Ascii]);
        let given: Vec<String> = board.values.iter().enumerate().map(|(i, v)| format!("{} is {v}", name(i))).collect();
        let mut text = if given.is_empty() { String::new() } else { format!("{}. ", lexicon::listed(&given)) };
        text.push_str(stream.choose::<&str>(WORDINGS));
        let signs = match notation {
            Notation::Unicode => "¬ (not), ∧ (and), ⊕ (xor), ∨ (or), → (implies)",
            Notation::Ascii => "~ (not), & (and), <~> (xor), | (or), -> (implies)",
            _ => "not, and, xor, or, implies",
        };
        text.push_str(&format!(" From tightest to loosest: {signs}; the last groups to the right."));
        for (i, f) in expressions(board).unwrap_or_default().iter().enumerate() {
            text.push_str(&format!("\n{}: {}", letter(i), print(f, notation)));
        }
        text
    }

    fn gist(board: &Board) -> String {
        serde_json::to_string(board).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let mut steps = vec![];
        let mut right = vec![];
        for (i, f) in expressions(board)?.into_iter().enumerate() {
            let (mut now, mut line) = (f, letter(i) + ": ");
            loop {
                line.push_str(&print(&now, Notation::Words));
                if constant(&now).is_some() {
                    break;
                }
                line.push_str(" = ");
                now = reduce(&now, &board.values);
            }
            if now == Formula::True {
                right.push(letter(i));
            }
            steps.push(line);
        }
        Some(Solution { steps, answer: if right.is_empty() { "none".into() } else { right.join(", ") } })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let all = expressions(board)?;
        let holds = |f: &Formula| truth::eval(f, &|l| value(&board.values, l));
        let right: Vec<String> = (0..all.len()).filter(|i| holds(&all[*i])).map(letter).collect();
        lexicon::is_set(text, |w| w.len() == 1 && w.bytes().all(|b| b.is_ascii_lowercase()), &right)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "options=6,depth=4,letters=4", "letters=0,depth=3"];
        let wrong = |p: &Problem| {
            let without =
                if p.answer == "none" { "A".to_string() } else { p.answer[1..].replacen(", ", "", 1) + " none" };
            vec![without, format!("{}, H, I", p.answer), format!("{} {}", p.answer, p.answer), "Z".into()]
        };
        let also =
            |p: &Problem| vec![p.answer.to_lowercase(), p.answer.replace(", ", " and "), format!("({})", p.answer)];
        hold(&Of(BooleanExpressions), &Laws { specs: &specs, n: 60, wrong, also, digest: "38bd7d5b25ac2d7e" });
    }

    /// The last word of each reduction is what the truth function gives.
    #[test]
    fn reductions_end_in_the_truth() {
        for (board, answer) in boards::<BooleanExpressions>("options=6,depth=5,letters=4", 200) {
            assert_eq!(BooleanExpressions::judge(&board, &answer), Some(true), "{:?}", board.options);
        }
    }
}
