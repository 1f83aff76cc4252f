//! What a task is: problems that can be generated, solved and checked.
//!
//! ```
//! use postgrad_base::Stream;
//! use postgrad_tasks::{Split, draw, task};
//! let chain = task("chain").unwrap();
//! let difficulty = chain.difficulty("steps=2,digits=1").unwrap();
//! let problem = draw(&*chain, &mut Stream::new(0, &["eval"]), &difficulty, Split::Test).unwrap();
//! let trace = chain.solve(&problem, "cot").unwrap();
//! assert!(chain.verify(&problem, &trace.text).correct);
//! ```
//!
//! Left out on purpose: files (a loader takes text), models, rewards (a reward is made from a verdict above).

use std::collections::BTreeMap;
use std::fmt;

use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A family of problems. Implementations are cheap to make and hold no state that a draw changes.
pub trait Task: Send + Sync {
    fn name(&self) -> &'static str;

    /// One line for listings.
    fn about(&self) -> &'static str;

    fn knobs(&self) -> &'static [Knob];

    /// The shapes of response that [`solve`](Task::solve) can write; the first is the default.
    fn renderings(&self) -> &'static [Rendering] {
        &[Rendering { name: "plain", ask: "" }]
    }

    /// Draws a problem of either split; the same stream and difficulty give the same problem.
    fn generate(&self, stream: &mut Stream, difficulty: &Difficulty) -> Result<Problem>;

    /// A right response in the named rendering. Errors: a rendering that is not listed, a problem of another task.
    fn solve(&self, problem: &Problem, rendering: &str) -> Result<Trace>;

    /// Judges any text, also hostile, in time linear in its length.
    fn verify(&self, problem: &Problem, response: &str) -> Verdict;

    /// Reads `steps=3,shape=tree`; knobs that are not named keep their defaults.
    fn difficulty(&self, spec: &str) -> Result<Difficulty> {
        Difficulty::parse(self.knobs(), spec)
    }
}

/// A shape of response, and the words that ask for it (put after the prompt; empty for the default).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rendering {
    pub name: &'static str,
    pub ask: &'static str,
}

/// A named integer that makes problems harder or other. With `names`, values are indices into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knob {
    pub name: &'static str,
    pub about: &'static str,
    pub low: i64,
    pub high: i64,
    pub default: i64,
    pub names: &'static [&'static str],
}

impl Knob {
    pub const fn number(name: &'static str, low: i64, high: i64, default: i64, about: &'static str) -> Self {
        Self { name, about, low, high, default, names: &[] }
    }

    /// One of several named values; the first is the default.
    pub const fn choice(name: &'static str, names: &'static [&'static str], about: &'static str) -> Self {
        Self { name, about, low: 0, high: names.len() as i64 - 1, default: 0, names }
    }

    /// A value as it is written in a difficulty.
    pub fn show(&self, value: i64) -> String {
        self.names.get(value as usize).map_or_else(|| value.to_string(), |n| n.to_string())
    }

    /// The values it takes: `1..8` or `line|tree`.
    pub fn range(&self) -> String {
        if self.names.is_empty() { format!("{}..{}", self.low, self.high) } else { self.names.join("|") }
    }

    fn read(&self, text: &str) -> Result<i64> {
        let wrong = || {
            Error::usage(format!("`{text}` is no value of the knob `{}`", self.name)).help(format!(
                "{} takes {}",
                self.name,
                self.range()
            ))
        };
        let value = match self.names.iter().position(|n| *n == text) {
            Some(i) => i as i64,
            None if self.names.is_empty() => text.parse().map_err(|_| wrong())?,
            None => return Err(wrong()),
        };
        if (self.low..=self.high).contains(&value) { Ok(value) } else { Err(wrong()) }
    }
}

/// Values of a task's knobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Difficulty(pub BTreeMap<String, i64>);

impl Difficulty {
    /// Every knob at its default, then `key=value` pairs parted by commas or blanks. Errors name the nearest knob.
    pub fn parse(knobs: &[Knob], spec: &str) -> Result<Self> {
        let mut values: BTreeMap<String, i64> = knobs.iter().map(|k| (k.name.to_string(), k.default)).collect();
        for pair in spec.split([',', ' ']).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::usage(format!("`{pair}` is not of the form knob=value")).help("for example: steps=3,digits=2")
            })?;
            let Some(knob) = knobs.iter().find(|k| k.name == key) else {
                let known: Vec<&str> = knobs.iter().map(|k| k.name).collect();
                return Err(Error::unknown("knob", key, &known, nearest(key, &known)));
            };
            values.insert(key.to_string(), knob.read(value)?);
        }
        Ok(Self(values))
    }

    /// The knob's value, within its range; its default where it is not set.
    pub fn get(&self, knob: &Knob) -> i64 {
        self.0.get(knob.name).map_or(knob.default, |v| (*v).clamp(knob.low, knob.high))
    }

    /// `digits=2,shape=tree`, which [`parse`](Self::parse) reads back.
    pub fn show(&self, knobs: &[Knob]) -> String {
        let pairs: Vec<String> = knobs.iter().map(|k| format!("{}={}", k.name, k.show(self.get(k)))).collect();
        pairs.join(",")
    }
}

/// Which side of the line between what is trained on and what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Test,
}

impl Split {
    /// One key in ten is for tests, by the key's hash: no key is ever on both sides.
    pub fn of(key: &str) -> Self {
        let hash = blake3::hash(key.as_bytes());
        let head = u64::from_le_bytes(hash.as_bytes()[8..16].try_into().expect("eight bytes"));
        if head.is_multiple_of(10) { Split::Test } else { Split::Train }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Split::Train { "train" } else { "test" })
    }
}

/// A problem with all that its verifier needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub task: String,
    /// A stable hash of task and prompt, 16 hexadecimal digits.
    pub id: String,
    pub prompt: String,
    /// The canonical answer.
    pub answer: String,
    #[serde(default)]
    pub difficulty: Difficulty,
    /// Problems of one cluster ask the same thing in other words; resampling draws whole clusters.
    pub cluster: String,
    pub split: Split,
    /// What the verifier needs besides the answer.
    #[serde(default)]
    pub meta: Value,
}

impl Problem {
    /// `key` says what is asked, without its wording: it names the cluster and decides the split.
    pub fn new(task: &str, prompt: String, answer: String, difficulty: &Difficulty, key: &str) -> Self {
        let cluster = stable_hash(&[task, key]);
        Self {
            task: task.into(),
            id: stable_hash(&[task, &prompt]),
            split: Split::of(&cluster),
            prompt,
            answer,
            difficulty: difficulty.clone(),
            cluster,
            meta: Value::Null,
        }
    }

    /// Splits by the wording, where what is asked must be known from training (facts, spellings).
    pub fn split_by_wording(mut self) -> Self {
        self.split = Split::of(&self.id);
        self
    }

    pub fn with_meta(mut self, meta: Value) -> Self {
        self.meta = meta;
        self
    }

    /// The prompt with the words that ask for a rendering.
    pub fn ask(&self, rendering: &Rendering) -> String {
        if rendering.ask.is_empty() { self.prompt.clone() } else { format!("{} {}", self.prompt, rendering.ask) }
    }
}

/// 64 bits of BLAKE3 over the parts and their lengths, in hexadecimal.
pub fn stable_hash(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_string()
}

/// A right response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Its reasoning steps, in order; empty for a bare answer.
    pub steps: Vec<String>,
    pub answer: String,
    /// The whole response.
    pub text: String,
}

impl Trace {
    pub fn bare(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self { steps: vec![], text: answer.clone(), answer }
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Right, in the form that was asked.
    Right,
    /// Another answer than the right one.
    Wrong,
    /// Nothing that could be an answer (also: a thought that never ended).
    NoAnswer,
    /// An answer, but not in the form that was asked.
    Malformed,
    /// The problem itself is not one of this task's.
    NotMine,
}

/// A judgement of one response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Right and in the form that was asked (strict).
    pub correct: bool,
    /// Right when the answer is looked for leniently; implied by `correct`.
    pub flexible: bool,
    /// The answer that was found: the strict one if any, else the lenient one.
    pub parsed: Option<String>,
    pub reason: Reason,
    /// 1 for right, 0 for wrong, between for partial credit.
    pub score: f64,
    /// A judgement of each step, from tasks that check steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepVerdict>>,
}

impl Verdict {
    /// From the answers that strict and lenient reading found, and whether each is right.
    pub fn judge(strict: Option<(String, bool)>, flexible: Option<(String, bool)>) -> Self {
        let correct = strict.as_ref().is_some_and(|s| s.1);
        let reason = match (&strict, &flexible) {
            _ if correct => Reason::Right,
            (Some(_), _) => Reason::Wrong,
            (None, Some((_, true))) => Reason::Malformed,
            (None, Some((_, false))) => Reason::Wrong,
            (None, None) => Reason::NoAnswer,
        };
        let lenient = flexible.as_ref().is_some_and(|f| f.1);
        Self {
            correct,
            flexible: correct || lenient,
            parsed: strict.or(flexible).map(|p| p.0),
            reason,
            score: if correct { 1.0 } else { 0.0 },
            steps: None,
        }
    }

    /// The verdict on a problem that the task cannot read.
    pub fn not_mine() -> Self {
        Self { correct: false, flexible: false, parsed: None, reason: Reason::NotMine, score: 0.0, steps: None }
    }
}

/// A judgement of one step of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepVerdict {
    pub text: String,
    /// True as it stands, whatever the problem.
    pub valid: bool,
    /// Follows from what the problem gives and the steps before, and brings something new that the answer needs.
    pub next: bool,
}

impl StepVerdict {
    pub fn right(&self) -> bool {
        self.valid && self.next
    }
}

/// Draws until a problem falls on the wanted side. Errors: none was found in 10,000 draws (a tiny space of problems).
pub fn draw(task: &dyn Task, stream: &mut Stream, difficulty: &Difficulty, split: Split) -> Result<Problem> {
    for _ in 0..10_000 {
        let problem = task.generate(stream, difficulty)?;
        if problem.split == split {
            return Ok(problem);
        }
    }
    let knobs = difficulty.show(task.knobs());
    Err(Error::work(format!("`{}` has no {split} problem with {knobs}", task.name())).help("make it harder"))
}

/// The text after the thoughts: after the last `</think>`; nothing when a thought never ended.
pub fn final_text(response: &str) -> &str {
    match (response.rfind("</think>"), response.rfind("<think>")) {
        (Some(close), Some(open)) if open > close => "",
        (Some(close), _) => response[close + "</think>".len()..].trim(),
        (None, Some(_)) => "",
        (None, None) => response.trim(),
    }
}

/// The known name nearest to `name`, if any is near.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::jaro_winkler(name, k), *k)).filter(|(s, _)| *s > 0.6);
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|s| s.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOBS: &[Knob] = &[Knob::number("steps", 1, 8, 2, ""), Knob::choice("shape", &["line", "tree"], "")];

    #[test]
    fn difficulties_are_read_and_shown() {
        let d = Difficulty::parse(KNOBS, "shape=tree, steps=5").unwrap();
        assert_eq!((d.get(&KNOBS[0]), d.get(&KNOBS[1])), (5, 1));
        assert_eq!(Difficulty::parse(KNOBS, &d.show(KNOBS)).unwrap(), d);
        assert_eq!(Difficulty::parse(KNOBS, "").unwrap().show(KNOBS), "steps=2,shape=line");
        let e = Difficulty::parse(KNOBS, "step=3").unwrap_err();
        assert_eq!((e.exit_code(), e.help_text().unwrap().contains("`steps`")), (2, true));
        for bad in ["steps=9", "steps=x", "shape=1", "shape=star", "steps", "steps=99999999999999999999"] {
            assert_eq!(Difficulty::parse(KNOBS, bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn thoughts_are_not_answers() {
        assert_eq!(final_text("<think>1</think> 2 "), "2");
        assert_eq!(final_text("<think>1"), "");
        assert_eq!(final_text("<think>1</think>2<think>3"), "");
        assert_eq!(final_text(" 2\n"), "2");
    }

    #[test]
    fn a_tenth_is_for_tests() {
        let n = (0..20_000).filter(|i| Split::of(&i.to_string()) == Split::Test).count();
        assert!((1800..2200).contains(&n), "{n}");
    }
}
