//! Small abilities: short prompts with short exact answers, the text that the seed models grow up on.
//!
//! What a fine-tune of `chain` may harm is measured on these: skills (`add`, `sort` ...), knowledge (`facts`, `spell`) and
//! answers in a required form (`json`, `say`). Each family is a file with an [`Ability`]; the trait's blanket [`Task`]
//! compares the response, thoughts removed, with the exact answer; leniently, case, quotes, a last full stop and lead-ins
//! such as `####` and `the answer is` do not count.

mod add;
mod case;
mod choice;
mod compare;
mod copy;
mod count;
mod facts;
mod json;
mod parity;
mod recall;
mod reverse;
mod say;
mod sequence;
mod sort;
mod spell;
mod tallest;
mod words;

use postgrad_base::{Error, Result, Stream};
use serde_json::Value;

use crate::task::{Difficulty, Knob, Problem, Rendering, Task, Trace, Verdict, final_text, nearest};

pub use add::Add;
pub use case::Case;
pub use choice::Choice;
pub use compare::Compare;
pub use copy::Copy;
pub use count::Count;
pub use facts::{FACTS, Facts};
pub use json::Json;
pub use parity::Parity;
pub use recall::Recall;
pub use reverse::Reverse;
pub use say::Say;
pub use sequence::Sequence;
pub use sort::Sort;
pub use spell::Spell;
pub use tallest::Tallest;

/// All abilities, in the order of listings.
pub fn all() -> Vec<Box<dyn Task>> {
    vec![
        Box::new(Add),
        Box::new(Case),
        Box::new(Choice),
        Box::new(Compare),
        Box::new(Copy),
        Box::new(Count),
        Box::new(Facts),
        Box::new(Json),
        Box::new(Parity),
        Box::new(Recall),
        Box::new(Reverse),
        Box::new(Say),
        Box::new(Sequence),
        Box::new(Sort),
        Box::new(Spell),
        Box::new(Tallest),
    ]
}

/// A family of problems with one short right answer.
pub trait Ability: Send + Sync {
    const NAME: &'static str;
    const ABOUT: &'static str;
    const KNOBS: &'static [Knob];

    fn make(stream: &mut Stream, difficulty: &Difficulty) -> Made;

    /// The answer, worked out from what [`make`](Self::make) drew; none when `meta` is not from there.
    fn answer(meta: &Value) -> Option<String>;

    /// Whether a response, thoughts removed, is right in the form that was asked.
    fn accepts(meta: &Value, text: &str) -> bool {
        Self::answer(meta).is_some_and(|a| a == text)
    }
}

/// What an ability draws for one problem.
pub struct Made {
    pub prompt: String,
    /// What is asked, whatever the wording.
    pub key: String,
    pub meta: Value,
    /// Knowledge: train and test ask the same things in other words.
    pub known: bool,
}

impl<A: Ability> Task for A {
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn about(&self) -> &'static str {
        A::ABOUT
    }

    fn knobs(&self) -> &'static [Knob] {
        A::KNOBS
    }

    fn generate(&self, stream: &mut Stream, difficulty: &Difficulty) -> Result<Problem> {
        let made = A::make(stream, difficulty);
        let answer = A::answer(&made.meta).expect("an ability answers what it drew");
        let problem = Problem::new(A::NAME, made.prompt, answer, difficulty, &made.key).with_meta(made.meta);
        Ok(if made.known { problem.split_by_wording() } else { problem })
    }

    fn solve(&self, problem: &Problem, rendering: &str) -> Result<Trace> {
        let known: Vec<&str> = self.renderings().iter().map(|r: &Rendering| r.name).collect();
        if !known.contains(&rendering) {
            return Err(Error::unknown("rendering", rendering, &known, nearest(rendering, &known)));
        }
        let answer = A::answer(&problem.meta).ok_or_else(|| {
            Error::usage(format!("not a problem of `{}`: its meta cannot be read", A::NAME))
                .at(format!("problem {}", problem.id))
        })?;
        Ok(Trace::bare(answer))
    }

    fn verify(&self, problem: &Problem, response: &str) -> Verdict {
        let Some(answer) = A::answer(&problem.meta) else {
            return Verdict::not_mine();
        };
        let text = final_text(response);
        if text.is_empty() {
            return Verdict::judge(None, None);
        }
        if A::accepts(&problem.meta, text) {
            return Verdict::judge(Some((text.to_string(), true)), None);
        }
        let bare = bare(text);
        let same = bare == self::bare(&answer);
        Verdict::judge(None, Some((bare, same)))
    }
}

/// A response without what lenient reading forgives. Of a long text only its last line counts.
fn bare(text: &str) -> String {
    let line = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("").to_lowercase();
    let mut line = line.trim();
    for lead in ["####", "answer is", "answer:"] {
        line = line.rfind(lead).map_or(line, |at| line[at + lead.len()..].trim());
    }
    line.trim_matches(|c: char| matches!(c, '.' | '!' | '"' | '\'' | '*' | '`') || c.is_whitespace()).to_string()
}

/// One of several wordings, its `{}` filled in order.
fn word(stream: &mut Stream, wordings: &[&str], fills: &[&str]) -> String {
    let mut text = stream.choose(wordings).to_string();
    for fill in fills {
        text = text.replacen("{}", fill, 1);
    }
    text
}

/// A number of at most `digits` digits; short numbers are as frequent as long ones.
fn number(stream: &mut Stream, digits: i64) -> i64 {
    let length = stream.between(1, digits);
    stream.between(if length == 1 { 0 } else { 10i64.pow(length as u32 - 1) }, 10i64.pow(length as u32) - 1)
}

/// Words or numbers of a problem's meta.
fn texts(meta: &Value) -> Option<Vec<&str>> {
    meta["words"].as_array()?.iter().map(Value::as_str).collect()
}

fn numbers(meta: &Value) -> Option<Vec<i64>> {
    // Bounded, so that no arithmetic on them overflows.
    meta["numbers"].as_array()?.iter().map(|v| v.as_i64().filter(|n| n.abs() <= 1_000_000_000)).collect()
}

#[cfg(test)]
mod tests;
