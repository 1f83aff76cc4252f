//! Reward functions by name. Each may have a discount of its own (`gamma`).

use std::collections::HashSet;

use postgrad_base::{Error, Result};
use postgrad_tasks::programs::{self, Format};

use super::{Reward, Said, Sample};
use crate::query::Query;

/// Names, their settings with defaults, and what they give.
pub const NAMES: [(&str, &str, &str); 9] = [
    (
        "correct",
        "over=(as wrong)&max=(max tokens)&near=0",
        "1 where the answer is right (and not cut off), else 0; `over`, if given, where at most `near` tokens were left",
    ),
    ("partial", "answered=0.1", "the verifier's partial credit; at least `answered` where an answer was found"),
    (
        "program",
        "",
        "as `correct`, where an answer may be a program in the mini-language; logs the share of each format",
    ),
    ("format", "", "1 where there is one thought and something after it, else 0"),
    ("tags", "names=think", "the share of opening and closing tags that occur exactly once"),
    (
        "cosine",
        "max=(max tokens)&right_short=1&right_long=0.5&wrong_short=-1&wrong_long=-0.5&over=-1&near=0",
        "by length: from the short to the long value along a cosine; `over` where at most `near` tokens were left",
    ),
    ("overlong", "max=(max tokens)&buffer=(max / 5)", "0, falling to -1 over the last `buffer` tokens"),
    ("repetition", "n=3&penalty=1", "minus the penalty times the share of word n-grams that were there before"),
    (
        "repeat",
        "n=40&penalty=0.05&only_start=false",
        "minus the penalty at each token of an n-gram that was there before",
    ),
];

/// Reads `NAME[?key=value&...]`.
pub fn parse(spec: &str, max_tokens: usize) -> Result<Box<dyn Reward>> {
    let (name, query) = spec.split_once('?').unwrap_or((spec, ""));
    let Some((name, known, _)) = NAMES.iter().find(|n| n.0 == name) else {
        let mut known: Vec<&str> = NAMES.iter().map(|n| n.0).collect();
        known.extend(["exec:COMMAND", "model:DIR"]);
        return Err(Error::unknown("reward", name, &known, None));
    };
    let own = known.split('&').filter_map(|k| k.split('=').next()).filter(|k| !k.is_empty());
    let known: Vec<&str> = own.chain(["gamma"]).collect();
    let q = Query::read(format!("reward `{name}`"), query, &known)?;
    let kind = match *name {
        "correct" => {
            let (max, near) = (q.above("max", max_tokens as f64, 1.0)?, q.above("near", 0.0, 0.0)?);
            let over = q.text("over").map(|_| q.number("over", 0.0)).transpose()?;
            if over.is_none() && (q.text("max").is_some() || q.text("near").is_some()) {
                return Err(Error::usage("`max` and `near` of the reward `correct` need `over`"));
            }
            Kind::Correct { over, max, near }
        }
        "partial" => Kind::Partial { answered: q.number("answered", 0.1)? },
        "program" => Kind::Program,
        "format" => Kind::Format,
        "tags" => {
            let names = q.text("names").unwrap_or("think");
            Kind::Tags(names.split(['|', ',']).filter(|n| !n.is_empty()).map(str::to_string).collect())
        }
        "cosine" => Kind::Cosine(Cosine {
            max: q.above("max", max_tokens as f64, 1.0)?,
            right: (q.number("right_short", 1.0)?, q.number("right_long", 0.5)?),
            wrong: (q.number("wrong_short", -1.0)?, q.number("wrong_long", -0.5)?),
            over: q.number("over", -1.0)?,
            near: q.above("near", 0.0, 0.0)?,
        }),
        "overlong" => {
            let max = q.above("max", max_tokens as f64, 1.0)?;
            Kind::Overlong { max, buffer: q.above("buffer", max / 5.0, 1.0)? }
        }
        "repetition" => Kind::Repetition { n: q.above("n", 3.0, 1.0)? as usize, penalty: q.number("penalty", 1.0)? },
        _ => Kind::Repeat {
            n: q.above("n", 40.0, 1.0)? as usize,
            penalty: q.number("penalty", 0.05)?,
            only_start: q.flag("only_start", false)?,
        },
    };
    let gamma = q.text("gamma").map(|_| q.above("gamma", 1.0, 0.0)).transpose()?;
    if gamma.is_some_and(|g| g > 1.0) {
        return Err(Error::usage(format!("`gamma` of the reward `{name}` must be from 0 to 1")));
    }
    Ok(Box::new(Named { name: name.to_string(), gamma, kind }))
}

struct Named {
    name: String,
    gamma: Option<f64>,
    kind: Kind,
}

enum Kind {
    Correct {
        over: Option<f64>,
        max: f64,
        near: f64,
    },
    Partial {
        answered: f64,
    },
    Program,
    Format,
    Tags(Vec<String>),
    Cosine(Cosine),
    Overlong {
        max: f64,
        buffer: f64,
    },
    Repetition {
        n: usize,
        penalty: f64,
    },
    /// The same at every token (Yeo 2025): the value is set, not added up, where n-grams overlap.
    Repeat {
        n: usize,
        penalty: f64,
        only_start: bool,
    },
}

/// Whether a completion of this length came within `near` tokens of `max`.
fn is_over(length: usize, max: f64, near: f64) -> bool {
    length as f64 + near >= max
}

/// A reward by length (Yeo 2025). Lengths are tokens, and end at `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    pub max: f64,
    /// At length 0 and at `max`, for right answers.
    pub right: (f64, f64),
    pub wrong: (f64, f64),
    /// Of answers that reach `max` but for `near` tokens, right or wrong.
    pub over: f64,
    pub near: f64,
}

impl Cosine {
    pub fn of(&self, length: usize, right: bool) -> f64 {
        if is_over(length, self.max, self.near) {
            return self.over;
        }
        self.along(length as f64, if right { self.right } else { self.wrong })
    }

    /// From the first value at length 0 to the second at `max`.
    pub fn along(&self, length: f64, (short, long): (f64, f64)) -> f64 {
        let l = length.clamp(0.0, self.max);
        long + 0.5 * (short - long) * (1.0 + (std::f64::consts::PI * l / self.max).cos())
    }
}

impl Reward for Named {
    fn name(&self) -> &str {
        &self.name
    }

    fn gamma(&self) -> Option<f64> {
        self.gamma
    }

    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
        let said = |s: &Sample| match self.kind {
            Kind::Repeat { n, penalty, only_start } => {
                let at = |again: bool| if again { -penalty } else { 0.0 };
                let tokens = repeated_tokens(s.tokens, n, only_start).into_iter().map(at).collect();
                Said { tokens, ..Said::default() }
            }
            Kind::Program => {
                let format = Format::of(s.completion);
                let share = |f: Format| (f.name().to_string(), f64::from(u8::from(f == format)));
                Said { metrics: Format::ALL.into_iter().map(share).collect(), ..self.kind.of(s).into() }
            }
            _ => self.kind.of(s).into(),
        };
        Ok(samples.iter().map(said).collect())
    }
}

impl Kind {
    /// What it gives at the last token.
    fn of(&self, s: &Sample) -> Option<f64> {
        let yes = |b: bool| f64::from(u8::from(b));
        Some(match self {
            Self::Correct { over, max, near } => {
                let right = yes(s.prompt.judge(s.completion)?.correct && !s.truncated);
                over.filter(|_| is_over(s.tokens.len(), *max, *near)).unwrap_or(right)
            }
            Self::Partial { answered } => {
                let j = s.prompt.judge(s.completion)?;
                let credit = if s.truncated { j.score.min(*answered) } else { j.score };
                if j.answered { credit.max(*answered) } else { credit }
            }
            Self::Program => {
                let right = match Format::of(s.completion) {
                    Format::Text => s.prompt.judge(s.completion)?.correct,
                    _ => programs::value(s.completion).is_some_and(|v| s.prompt.is_answer(&v.to_string())),
                };
                yes(right && !s.truncated)
            }
            Self::Format => yes(well_formed(s.completion, &s.prompt.text)),
            Self::Tags(names) => {
                let once = |tag: String| yes(s.completion.matches(&tag).count() == 1);
                let found: f64 = names.iter().map(|n| once(format!("<{n}>")) + once(format!("</{n}>"))).sum();
                found / (2 * names.len()).max(1) as f64
            }
            Self::Cosine(c) => c.of(s.tokens.len(), s.prompt.judge(s.completion)?.correct && !s.truncated),
            Self::Overlong { max, buffer } => overlong(s.tokens.len() as f64, *max, *buffer),
            Self::Repetition { n, penalty } => -penalty * repeated_share(s.completion, *n),
            Self::Repeat { .. } => return None,
        })
    }
}

/// One thought, closed, with something after it. Where the prompt opened it, it is not opened again.
fn well_formed(completion: &str, prompt: &str) -> bool {
    let opened = prompt.trim_end().ends_with("<think>");
    let (opens, closes) = (completion.matches("<think>").count(), completion.matches("</think>").count());
    let after = completion.rsplit_once("</think>").map_or("", |(_, after)| after);
    let begins = opened || completion.trim_start().starts_with("<think>");
    closes == 1 && opens == usize::from(!opened) && begins && !after.trim().is_empty()
}

/// The soft penalty of DAPO (Yu 2025): 0 up to `max - buffer`, then down to -1 at `max`.
pub fn overlong(length: f64, max: f64, buffer: f64) -> f64 {
    ((max - buffer - length) / buffer).clamp(-1.0, 0.0)
}

/// The share of word n-grams (lower case, parted by white space) that occurred before; 0 in a text of fewer words.
pub fn repeated_share(text: &str, n: usize) -> f64 {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    if words.len() < n || n == 0 {
        return 0.0;
    }
    let distinct: HashSet<&[&str]> = words.windows(n).collect();
    1.0 - distinct.len() as f64 / (words.len() - n + 1) as f64
}

/// Tokens that belong to an n-gram of tokens that occurred before: the places of a dense penalty (Yeo 2025). With
/// `only_start`, n-grams that begin within the span marked last are passed over.
pub fn repeated_tokens(tokens: &[u32], n: usize, only_start: bool) -> Vec<bool> {
    let mut marked = vec![false; tokens.len()];
    let mut seen: HashSet<&[u32]> = HashSet::new();
    let mut free_from = 0;
    for start in 0..(tokens.len() + 1).saturating_sub(n.max(1)) {
        let gram = &tokens[start..start + n.max(1)];
        let again = !seen.insert(gram);
        if again && !(only_start && start < free_from) {
            marked[start..start + gram.len()].fill(true);
            free_from = start + gram.len();
        }
    }
    marked
}
