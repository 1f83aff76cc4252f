//! Echo Chamber (Zhao et al. 2025, arXiv 2504.07912): which of the formats that a model has seen reinforcement amplifies.
//!
//! Word problems are answered in one of three formats (`postgrad_tasks::programs`): a function whose value is the answer, an
//! expression in `<code>` tags, or steps in words with the answer after them. `formats` makes records in a mixture of them, to
//! be learnt from before; `format-shares` reads a rollout and says, for each question, how its samples are spread over the
//! formats and how often each format is right. Rows of `format-shares`:
//!
//! | column | is |
//! |---|---|
//! | `function`, `tagged`, `text` | share of the samples in this format, right or wrong |
//! | `right_function`, ... | right samples of this format, as a share of all |
//! | `accuracy` | right samples; programs are run, text goes to the task's verifier; cut off is wrong |
//! | `pass_K` | that one of K samples is right, unbiased, for each K of `k` |
//! | `majority` | whether the value that most samples come to is right |
//! | `tokens`, `log_prob` | means, the latter a sample's sum in nats |

use std::collections::BTreeMap;

use postgrad_base::{Error, Result, jsonl};
use postgrad_lab::Item;
use postgrad_lab::stage::{Cx, Input, Kind, Stage};
use postgrad_lab::stages::row;
use postgrad_numerics::{majority, pass_at_k};
use postgrad_reason::rollout::Sample;
use postgrad_tasks::answers::equal;
use postgrad_tasks::programs::{Format, value};
use postgrad_tasks::{Problem, task};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The kinds of stages that stand here.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Formats>(), Kind::of::<Shares>()]
}

pub struct Formats;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatsConfig {
    /// Word problems of the task `chain`, each quantity from the one before (`shape=line`).
    pub data: Input,
    /// Weights of the formats: `{ function = 4.0, tagged = 1.0, text = 1.0 }`; each problem is answered in one of them.
    pub mixture: BTreeMap<Format, f64>,
}

impl Stage for Formats {
    const NAME: &'static str = "formats";
    const ABOUT: &'static str = "word problems answered by functions, tagged expressions and words, in a mixture";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = FormatsConfig;

    fn check(config: &FormatsConfig) -> Result<()> {
        let weights = || config.mixture.values();
        if weights().any(|w| !(w.is_finite() && *w >= 0.0)) || weights().sum::<f64>() <= 0.0 {
            return Err(Error::usage("the weights of `mixture` are 0 or more, and not all 0"));
        }
        Ok(())
    }

    fn run(config: FormatsConfig, cx: &Cx) -> Result<()> {
        let (formats, weights): (Vec<Format>, Vec<f64>) = config.mixture.iter().map(|(f, w)| (*f, *w)).unzip();
        let mut stream = cx.stream("data").child("formats");
        let mut rows = Vec::new();
        for item in cx.items(&config.data)? {
            let problem = item.problem.ok_or_else(|| Error::usage("the record has no problem").at(&item.id))?;
            let format = formats[stream.weighted(&weights)];
            let completion = write(&problem, format).map_err(|e| e.at(&item.id))?;
            rows.push(
                json!({"prompt": problem.prompt, "completion": completion, "format": format, "problem": problem}),
            );
        }
        cx.write_jsonl("records.jsonl", &rows)
    }
}

/// A right answer in a format.
pub fn write(problem: &Problem, format: Format) -> Result<String> {
    let task = task(&problem.task)?;
    if format == Format::Text {
        return Ok(task.solve(problem, "cot")?.text);
    }
    let steps = task.solve(problem, "equations")?.steps;
    let fault =
        || Error::usage(format!("`{}` is no chain of sums", steps.join("; "))).help("shape=line, 1 step or more");
    let mut written: Vec<String> = Vec::new();
    let mut before: Option<&str> = None;
    for step in &steps {
        let (sum, result) = step.split_once('=').ok_or_else(fault)?;
        // What was computed before is not computed again: the program goes on with it.
        let sum = match (before, written.last()) {
            (None, _) => sum.to_string(),
            (Some(value), Some(inner)) => {
                let inner = if format == Format::Function { "x".to_string() } else { format!("({inner})") };
                let rest = sum.strip_prefix(value).filter(|r| r.starts_with(['+', '-', '*', '/']));
                let rest = rest.map(|r| format!("{inner}{r}"));
                let turned =
                    || sum.strip_suffix(value).filter(|r| r.ends_with(['+', '*'])).map(|r| format!("{r}{inner}"));
                rest.or_else(turned).ok_or_else(fault)?
            }
            (Some(_), None) => return Err(fault()),
        };
        written.push(sum);
        before = Some(result);
    }
    let last = written.pop().ok_or_else(fault)?;
    if format == Format::Tagged {
        return Ok(format!("<code>{last}</code>"));
    }
    let lets: String =
        written.iter().enumerate().map(|(i, s)| format!("{}x={s};", if i == 0 { "let " } else { "" })).collect();
    Ok(format!("fn f(){{{lets}return {last};}}"))
}

pub struct Shares;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharesConfig {
    /// A `rollout` stage; it draws as many samples of each question.
    pub samples: Input,
    /// The questions it was asked.
    pub data: Input,
    #[serde(default)]
    pub k: Vec<usize>,
}

impl Stage for Shares {
    const NAME: &'static str = "format-shares";
    const ABOUT: &'static str = "how a rollout's samples are spread over formats, and how often each is right";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = SharesConfig;

    fn check(config: &SharesConfig) -> Result<()> {
        if config.k.contains(&0) {
            return Err(Error::usage("0 samples are never right"));
        }
        Ok(())
    }

    fn run(config: SharesConfig, cx: &Cx) -> Result<()> {
        let items = cx.items(&config.data)?;
        let mut samples: Vec<Vec<Sample>> = vec![vec![]; items.len()];
        for path in cx.files(&config.samples, "samples")? {
            for read in jsonl::read::<Sample>(&path)? {
                let (line, sample) = read?;
                let all = samples.get_mut(sample.question);
                all.ok_or_else(|| Error::usage("the sample is of a question that the data lack").at_line(&path, line))?
                    .push(sample);
            }
        }
        let mut rows: Vec<Item> = Vec::new();
        for (item, samples) in items.iter().zip(&samples).filter(|(_, s)| !s.is_empty()) {
            let gold = item.question()?.1.content;
            let is_answer = |answer: &str| match &item.problem {
                Some(problem) => problem.answer == answer,
                None => equal(&gold, answer).equal,
            };
            rows.push(row(item, Value::Object(figures(is_answer, samples, &config.k)?)));
        }
        cx.write_rows(&rows)
    }
}

/// The answer that a sample comes to, and its format. A program that fails, and a text without an answer, come to nothing.
fn comes_to(sample: &Sample) -> (Format, Option<String>) {
    match Format::of(&sample.response) {
        Format::Text => (Format::Text, sample.extracted.clone()),
        program => (program, value(&sample.response).map(|v| v.to_string())),
    }
}

/// `is_answer` says whether what a program comes to is right; text was judged when it was drawn.
fn figures(is_answer: impl Fn(&str) -> bool, samples: &[Sample], k: &[usize]) -> Result<Map<String, Value>> {
    let n = samples.len();
    let read: Vec<(Format, Option<String>)> = samples.iter().map(comes_to).collect();
    let right: Vec<bool> = read
        .iter()
        .zip(samples)
        .map(|((format, answer), s)| match format {
            Format::Text => s.correct,
            _ => !s.truncated && answer.as_deref().is_some_and(&is_answer),
        })
        .collect();
    let share = |of: &dyn Fn(usize) -> bool| (0..n).filter(|i| of(*i)).count() as f64 / n as f64;
    let mut out = Map::new();
    for format in Format::ALL {
        out.insert(format.name().into(), json!(share(&|i| read[i].0 == format)));
        out.insert(format!("right_{}", format.name()), json!(share(&|i| read[i].0 == format && right[i])));
    }
    let c = right.iter().filter(|r| **r).count();
    out.insert("accuracy".into(), json!(c as f64 / n as f64));
    for k in k {
        if *k > n {
            return Err(Error::usage(format!("pass@{k} of {n} samples")).help("draw more trials, or take a smaller k"));
        }
        out.insert(format!("pass_{k}"), json!(pass_at_k(n, c, *k)));
    }
    let votes: Vec<Option<String>> = read.iter().map(|r| r.1.clone()).collect();
    let won = majority(&votes).and_then(|w| votes.iter().position(|v| v.as_ref() == Some(w)));
    out.insert("majority".into(), json!(f64::from(u8::from(won.is_some_and(|i| right[i])))));
    out.insert("tokens".into(), json!(samples.iter().map(|s| s.tokens as f64).sum::<f64>() / n as f64));
    out.insert("log_prob".into(), json!(samples.iter().map(|s| s.log_prob).sum::<f64>() / n as f64));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_base::Stream;
    use postgrad_lab::stage::{Place, alone, golden};
    use postgrad_lab::stages::Draw;

    fn problems(difficulty: &str) -> Vec<Problem> {
        let chain = task("chain").unwrap();
        let difficulty = chain.difficulty(difficulty).unwrap();
        (0..60).map(|i| chain.generate(&mut Stream::new(i, &["test"]), &difficulty).unwrap()).collect()
    }

    #[test]
    fn every_format_says_the_right_answer() {
        for p in problems("steps=1").iter().chain(&problems("steps=2,digits=1")).chain(&problems("steps=5")) {
            for format in [Format::Function, Format::Tagged] {
                let text = write(p, format).unwrap();
                assert_eq!((Format::of(&text), value(&text)), (format, p.answer.parse().ok()), "{text}");
                // The numbers on the way are not said.
                assert!(!text.contains('#'), "{text}");
            }
            let text = write(p, Format::Text).unwrap();
            assert!(Format::of(&text) == Format::Text && task("chain").unwrap().verify(p, &text).correct);
        }
    }

    fn sample(problem: &Problem, response: &str) -> Sample {
        let verdict = task("chain").unwrap().verify(problem, response);
        Sample { response: response.into(), correct: verdict.correct, extracted: verdict.parsed, ..Sample::default() }
    }

    #[test]
    fn samples_are_counted_by_format_and_judged_by_what_they_come_to() {
        let p = &problems("steps=2")[0];
        let answer: i64 = p.answer.parse().unwrap();
        let wrong = answer + 1;
        let all = [
            sample(p, &write(p, Format::Function).unwrap()),
            sample(p, &format!("fn f(){{return {wrong};}}")),
            sample(p, &write(p, Format::Text).unwrap()),
            sample(p, &format!("<code>{wrong}</code>")),
            Sample { truncated: true, ..sample(p, &format!("<code>{answer}</code>")) },
        ];
        let f = figures(|a| a == p.answer, &all, &[1, 2]).unwrap();
        let of = |key: &str| f[key].as_f64().unwrap();
        assert_eq!((of("function"), of("tagged"), of("text")), (0.4, 0.4, 0.2));
        assert_eq!((of("right_function"), of("right_tagged"), of("right_text"), of("accuracy")), (0.2, 0.0, 0.2, 0.4));
        // 1 - C(3, 2) / C(5, 2)
        assert!((of("pass_1") - 0.4).abs() < 1e-12 && (of("pass_2") - 0.7).abs() < 1e-12);
        // Three come to the right value (one of them too late), two to the wrong one.
        assert_eq!(of("majority"), 1.0);
        assert!(figures(|a| a == p.answer, &all, &[6]).is_err());
    }

    fn drawn(dir: &std::path::Path) -> [(&'static str, Place); 1] {
        let config = json!({"task": "chain", "difficulty": "steps=2", "n": 40});
        alone(&Kind::of::<Draw>(), &config, &[], 0, dir).unwrap();
        [("data", Place::Stage(dir.to_path_buf()))]
    }

    #[test]
    fn a_mixture_has_its_shares_and_one_of_zero_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = drawn(&dir.path().join("drawn"));
        let out = dir.path().join("out");
        let config = json!({"data": "@data", "mixture": {"function": 3.0, "text": 1.0, "tagged": 0.0}});
        alone(&Kind::of::<Formats>(), &config, &inputs, 0, &out).unwrap();
        let text = std::fs::read_to_string(out.join("records.jsonl")).unwrap();
        let count = |f: &str| text.matches(&format!("\"format\":\"{f}\"")).count();
        assert!(count("tagged") == 0 && count("function") + count("text") == 40 && count("function") > count("text"));
        let none = json!({"data": "@data", "mixture": {"function": 0.0}});
        assert!((Kind::of::<Formats>().resolve)(&none).is_err());
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = drawn(dir.path());
        let config = json!({"data": "@data", "mixture": {"function": 1.0, "tagged": 1.0, "text": 1.0}});
        golden(&Kind::of::<Formats>(), &config, &inputs, "2c88d78a43e4790f");
    }
}
