//! `trace-pool`: sums of numbers of 1 to 6 digits with a trace of all carry steps.
//!
//! ```text
//! 57+68=?
//! 7+8+0=16 Wait, 7+8+0=15
//! 5+6+1=12
//! #### 125
//! ```
//! Digits are added from the right; the third number of a step is the carry. A share of the traces has one wrong step that is
//! taken back (`second_thought`), a share is full of words that do no work (`filler`), so that length alone does not say how
//! much a trace teaches. Records carry a problem of the task `add`, which judges by the last line.

use postgrad_base::{Error, Result, Stream};
use postgrad_lab::stage::{Cx, Stage};
use postgrad_tasks::{Difficulty, Problem, Split};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub struct Pool;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub n: usize,
    /// Both numbers have as many digits; the lengths from `low` to `high` take turns.
    #[serde(default = "one")]
    pub low: u32,
    #[serde(default = "six")]
    pub high: u32,
    /// Share of traces with a wrong step.
    #[serde(default)]
    pub second_thoughts: f64,
    /// Share of traces with filler.
    #[serde(default)]
    pub filler: f64,
    /// Sentences of filler in a trace that has any: from 1 to this many.
    #[serde(default = "twelve")]
    pub filler_sentences: usize,
    #[serde(default = "train")]
    pub split: Split,
    /// Stages that must not share problems take different names here.
    #[serde(default)]
    pub stream: String,
}

fn one() -> u32 {
    1
}
fn six() -> u32 {
    6
}
fn twelve() -> usize {
    12
}
fn train() -> Split {
    Split::Train
}

const FILLER: [&str; 8] = [
    "Let me see.",
    "Well, this is a sum.",
    "So, one digit after the other.",
    "Hmm, that looks fine.",
    "Good, on we go.",
    "There is no hurry here.",
    "Now for the next one.",
    "It is a matter of care.",
];

impl Stage for Pool {
    const NAME: &'static str = "trace-pool";
    const ABOUT: &'static str = "sums with carry steps, second thoughts and filler (Select2Reason)";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.split == Split::Test { &["eval"] } else { Self::STREAMS }
    }

    fn check(config: &Config) -> Result<()> {
        if !(1..=9).contains(&config.low) || !(config.low..=9).contains(&config.high) {
            return Err(Error::usage("numbers have 1 to 9 digits, `low` at most `high`"));
        }
        let share = |x: f64| (0.0..=1.0).contains(&x);
        if !share(config.second_thoughts) || !share(config.filler) {
            return Err(Error::usage("`second_thoughts` and `filler` are shares, 0 to 1"));
        }
        if config.filler > 0.0 && config.filler_sentences == 0 {
            return Err(Error::usage("filler of 0 sentences is none"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let top = cx.stream(if config.split == Split::Test { "eval" } else { "data" });
        let stream = top.child(&format!("trace-pool/{}", config.stream));
        let rows: Vec<serde_json::Value> = (0..config.n)
            .map(|i| {
                let digits = config.low + (i as u32) % (config.high - config.low + 1);
                let mut own = stream.nth(i as u64);
                let (a, b, problem) = draw(digits, config.split, &mut own);
                let trace = Trace::write(a, b, &config, &mut own);
                json!({
                    "prompt": problem.prompt, "completion": trace.text, "digits": digits,
                    "second_thought": u8::from(trace.second_thought), "filler": trace.filler, "verified": 1,
                    "problem": problem,
                })
            })
            .collect();
        cx.spend("examples_drawn", rows.len() as u64);
        cx.write_jsonl("records.jsonl", &rows)
    }
}

/// A sum of the wanted split. Sums of one digit are few, so they come again and again.
fn draw(digits: u32, split: Split, stream: &mut Stream) -> (i64, i64, Problem) {
    let low = if digits == 1 { 0 } else { 10i64.pow(digits - 1) };
    let high = 10i64.pow(digits) - 1;
    loop {
        let (a, b) = (stream.between(low, high), stream.between(low, high));
        let prompt = format!("{a}+{b}=?");
        let knobs = Difficulty([("digits".to_string(), i64::from(digits)), ("op".to_string(), 1)].into());
        let key = format!("{}+{}", a.min(b), a.max(b));
        let problem = Problem::new("add", prompt, (a + b).to_string(), &knobs, &key)
            .with_meta(json!({"numbers": [a, b], "op": "+"}));
        if problem.split == split {
            return (a, b, problem);
        }
    }
}

/// A written trace.
struct Trace {
    text: String,
    second_thought: bool,
    /// Sentences of filler.
    filler: usize,
}

impl Trace {
    fn write(a: i64, b: i64, config: &Config, stream: &mut Stream) -> Self {
        let mut lines = steps(a, b);
        let second_thought = stream.chance(config.second_thoughts);
        if second_thought {
            let at = stream.below(lines.len());
            let Step { sum, right } = lines[at].clone();
            // One too many or too few, and still a sum of two digits and a carry.
            let wrong = if right == 0 || (right < 19 && stream.chance(0.5)) { right + 1 } else { right - 1 };
            lines[at].sum = format!("{sum}={wrong:02} Wait, {sum}");
        }
        let filler = if stream.chance(config.filler) { 1 + stream.below(config.filler_sentences) } else { 0 };
        let mut before: Vec<Vec<&str>> = vec![vec![]; lines.len()];
        for _ in 0..filler {
            before[stream.below(lines.len())].push(*stream.choose(&FILLER[..]));
        }
        let mut text = String::new();
        for (Step { sum, right }, words) in lines.iter().zip(&before) {
            for sentence in words {
                text += sentence;
                text.push(' ');
            }
            text += &format!("{sum}={right:02}\n");
        }
        text += &format!("#### {}", a + b);
        Self { text, second_thought, filler }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// Both digits and the carry: `7+8+0`.
    sum: String,
    right: i64,
}

/// The steps from the right. Both numbers are equally long.
fn steps(a: i64, b: i64) -> Vec<Step> {
    let (mut a, mut b, mut carry) = (a, b, 0);
    let mut out = Vec::new();
    while out.is_empty() || a > 0 || b > 0 {
        let (x, y) = (a % 10, b % 10);
        let right = x + y + carry;
        out.push(Step { sum: format!("{x}+{y}+{carry}"), right });
        (a, b, carry) = (a / 10, b / 10, right / 10);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_lab::stage::{Kind, alone, golden};
    use postgrad_tasks::task;
    use serde_json::Value;

    #[test]
    fn steps_carry_from_the_right() {
        let written = |a, b| steps(a, b).into_iter().map(|s| format!("{}={:02}", s.sum, s.right)).collect::<Vec<_>>();
        assert_eq!(written(57, 68), ["7+8+0=15", "5+6+1=12"]);
        assert_eq!(written(0, 0), ["0+0+0=00"]);
        assert_eq!(written(999, 999).last().unwrap(), "9+9+1=19");
    }

    #[test]
    fn every_trace_is_right_and_the_shares_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"n": 600, "second_thoughts": 0.3, "filler": 0.2});
        let cx = alone(&Kind::of::<Pool>(), &config, &[], 1, dir.path()).unwrap();
        let text = std::fs::read_to_string(cx.out.join("records.jsonl")).unwrap();
        let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let add = task("add").unwrap();
        for row in &rows {
            let problem: Problem = serde_json::from_value(row["problem"].clone()).unwrap();
            let said = row["completion"].as_str().unwrap();
            assert!(add.verify(&problem, said).flexible, "{said}");
            assert_eq!(said.contains("Wait"), row["second_thought"] == 1);
            // What stands last on a line is a true sum.
            for line in said.lines().filter(|l| l.contains('=')) {
                let (sum, right) = line.rsplit(' ').next().unwrap().rsplit_once('=').unwrap();
                let added: i64 = sum.split('+').map(|d| d.parse::<i64>().unwrap()).sum();
                assert_eq!(added, right.parse::<i64>().unwrap(), "{line}");
            }
        }
        let of = |f: &dyn Fn(&Value) -> bool| rows.iter().filter(|r| f(r)).count();
        assert!((140..220).contains(&of(&|r| r["second_thought"] == 1)));
        assert!((85..160).contains(&of(&|r| r["filler"] != 0)));
        assert_eq!(of(&|r| r["digits"] == 6), 100);
    }

    #[test]
    fn golden_run() {
        golden(&Kind::of::<Pool>(), &json!({"n": 12, "second_thoughts": 0.5, "filler": 0.5}), &[], "2f82f16cf66a9701");
    }
}
