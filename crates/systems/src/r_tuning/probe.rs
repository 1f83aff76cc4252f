//! `probe-known`: what a model knows before it is tuned, question by question.
//!
//! `how = "greedy"`: the greedy answer, cut at the first full stop, is right where it holds the gold answer as whole words; of
//! a question with `choices` the likeliest letter. `how = "uncertain"`: samples at a temperature; the lower half of the
//! questions by the entropy of their answers' counts is certain (no gold answer is needed for that; ties go to the earlier).
//!
//! `records.jsonl` holds the questions with what was found as columns (`known` or `certain`, `entropy`, `said`), for
//! `refusal-data`; rows hold the same figures; `report.json` counts both kinds, since a split with hardly any of one kind
//! tunes a model that always says the other.

use std::collections::BTreeMap;

use postgrad_base::{Context, Error, Result, fs};
use postgrad_lab::stage::{Cx, Input, Stage};
use postgrad_lab::store::Item;
use postgrad_tasks::answers::normal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::question::{Form, Question, Said, Way, check_template, fill, kept};

pub struct Probe;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    pub data: Input,
    #[serde(default)]
    pub how: How,
    #[serde(default)]
    pub form: Form,
    /// With a place for `{question}`.
    #[serde(default = "prompt")]
    pub prompt: String,
    /// Solved examples to put before each question.
    #[serde(default)]
    pub shots: Option<Shots>,
    #[serde(default = "fifteen")]
    pub max_tokens: usize,
    /// Texts that end an answer.
    #[serde(default = "full_stop")]
    pub stop: Vec<String>,
    /// Of `uncertain`.
    #[serde(default = "five")]
    pub samples: usize,
    #[serde(default = "temperature")]
    pub temperature: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    #[default]
    Greedy,
    Uncertain,
}

/// The first `n` questions of a file with their answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shots {
    pub data: Input,
    pub n: usize,
}

fn prompt() -> String {
    "Question:{question} Answer:".into()
}
fn fifteen() -> usize {
    15
}
fn full_stop() -> Vec<String> {
    vec![".".into()]
}
fn five() -> usize {
    5
}
fn temperature() -> f32 {
    0.7
}

impl Stage for Probe {
    const NAME: &'static str = "probe-known";
    const ABOUT: &'static str = "which questions a model can answer before it is tuned (R-Tuning)";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["sample"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.how == How::Greedy { &[] } else { Self::STREAMS }
    }

    fn check(config: &Config) -> Result<()> {
        check_template(&config.prompt)?;
        if config.how == How::Uncertain && (config.samples < 2 || config.temperature <= 0.0) {
            return Err(Error::usage("entropy needs two samples or more and a temperature above 0"));
        }
        if config.max_tokens == 0 {
            return Err(Error::usage("an answer of 0 tokens says nothing"));
        }
        if config.shots.is_some() && config.form == Form::Chat {
            return Err(Error::usage("`shots` are for form = \"text\""));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let model = cx.model(&config.model)?;
        let questions = Question::read(&config.data, cx)?;
        let header = config.shots.as_ref().map(|s| header(s, &config.prompt, cx)).transpose()?.unwrap_or_default();
        let way = Way {
            form: config.form,
            template: &config.prompt,
            header,
            max_tokens: config.max_tokens,
            stop: &config.stop,
        };
        let (temperature, n, seed) = match config.how {
            How::Greedy => (0.0, 1, 0),
            How::Uncertain => (config.temperature, config.samples, cx.stream("sample").child("probe").next_u64()),
        };
        let said = way.ask(&model, &questions, temperature, n, seed, &cx.cancel)?;
        cx.spend("sampled_tokens", said.iter().flatten().map(|s| s.tokens as u64).sum());
        let found = match config.how {
            How::Greedy => known(&questions, &said),
            How::Uncertain => certain(&said),
        };
        let name = if config.how == How::Greedy { "known" } else { "certain" };
        let yes = found.iter().filter(|f| f[name] == 1).count();
        let mut out = Vec::with_capacity(questions.len());
        let mut rows = Vec::with_capacity(questions.len());
        for (found, question) in found.into_iter().zip(&questions) {
            let (mut metrics, mut record) = (kept(&question.columns), question.row());
            metrics.extend(found.clone());
            record.extend(found);
            out.push(record);
            rows.push(Item { item: question.id.clone(), cluster: None, metrics });
        }
        let report = json!({"how": config.how, "questions": rows.len(), name: yes, "not": rows.len() - yes});
        let report = serde_json::to_string_pretty(&report).context(|| "cannot write the report".into())?;
        fs::write(&cx.out.join("report.json"), report.as_bytes())?;
        cx.write_jsonl("records.jsonl", &out)?;
        cx.write_rows(&rows)
    }
}

fn header(shots: &Shots, template: &str, cx: &Cx) -> Result<String> {
    let pool = Question::read(&shots.data, cx)?;
    if pool.len() < shots.n {
        return Err(Error::usage(format!(
            "{} examples are asked for, and `{}` has {}",
            shots.n,
            shots.data,
            pool.len()
        )));
    }
    Ok(pool[..shots.n].iter().map(|q| format!("{} {}.\n\n", fill(template, &q.text), q.gold)).collect())
}

fn known(questions: &[Question], said: &[Vec<Said>]) -> Vec<Map<String, Value>> {
    let one = |(question, said): (&Question, &Vec<Said>)| {
        let answer = said.first().cloned().unwrap_or(Said { text: String::new(), confidence: 0.0, tokens: 0 });
        let known = u8::from(question.right(&answer.text));
        object(json!({"known": known, "said": answer.text, "confidence": answer.confidence}))
    };
    questions.iter().zip(said).map(one).collect()
}

fn certain(said: &[Vec<Said>]) -> Vec<Map<String, Value>> {
    let entropies: Vec<f64> = said
        .iter()
        .map(|samples| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            samples.iter().for_each(|s| *counts.entry(normal(&s.text)).or_default() += 1);
            entropy(&counts.into_values().collect::<Vec<_>>())
        })
        .collect();
    let sure = lower_half(&entropies);
    let one = |((samples, entropy), sure): ((&Vec<Said>, &f64), &bool)| {
        let said: Vec<&str> = samples.iter().map(|s| s.text.as_str()).collect();
        object(json!({"certain": u8::from(*sure), "entropy": entropy, "said": said.join(" | ")}))
    };
    said.iter().zip(&entropies).zip(&sure).map(one).collect()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// Entropy of the shares of counts, nats.
pub fn entropy(counts: &[usize]) -> f64 {
    let all: usize = counts.iter().sum();
    let share = |c: &usize| *c as f64 / all as f64;
    counts.iter().filter(|c| **c > 0).map(|c| -share(c) * share(c).ln()).sum()
}

/// Which belong to the lower half (of an odd number the smaller one); equal values by their order.
pub fn lower_half(values: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]).then(a.cmp(b)));
    let mut lower = vec![false; values.len()];
    order[..values.len() / 2].iter().for_each(|i| lower[*i] = true);
    lower
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::r_tuning::tests_support::{inputs, rows};
    use postgrad_lab::stage::{Kind, alone, golden};

    #[test]
    fn entropy_of_counts() {
        assert_eq!(entropy(&[5, 0]), 0.0);
        assert!((entropy(&[1; 5]) - 5f64.ln()).abs() < 1e-12);
        assert!((entropy(&[3, 2]) - 0.673_011_667).abs() < 1e-8);
    }

    #[test]
    fn halves_of_even_and_odd_numbers() {
        assert_eq!(lower_half(&[0.5, 0.1, 0.1, 0.9]), [false, true, true, false]);
        assert_eq!(lower_half(&[0.1, 0.1, 0.1]), [true, false, false]);
        assert_eq!(lower_half(&[0.0; 7]).iter().filter(|b| **b).count(), 3);
        assert!(lower_half(&[]).is_empty());
    }

    #[test]
    fn open_questions_and_choices_are_probed() {
        let dir = tempfile::tempdir().unwrap();
        for (n, how) in ["greedy", "uncertain"].into_iter().enumerate() {
            for data in ["@open", "@choices"] {
                let out = dir.path().join(format!("{n}{}", &data[1..]));
                let config = json!({"model": "@model", "data": data, "how": how, "max_tokens": 4});
                let cx = alone(&Kind::of::<Probe>(), &config, &inputs(dir.path()), 0, &out).unwrap();
                let name = ["known", "certain"][n];
                let records = rows(&cx.out.join("records.jsonl"));
                assert_eq!(records.len(), 4);
                assert!(records.iter().all(|r| r[name].is_u64() && r["question"].is_string() && r["topic"] == "sums"));
                if how == "uncertain" {
                    assert_eq!(records.iter().filter(|r| r[name] == 1).count(), 2);
                }
            }
        }
    }

    #[test]
    fn an_empty_gold_answer_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"model": "@model", "data": "@empty"});
        let made = alone(&Kind::of::<Probe>(), &config, &inputs(dir.path()), 0, &dir.path().join("out"));
        assert!(made.err().unwrap().to_string().contains("empty.jsonl:2"));
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"model": "@model", "data": "@open", "how": "uncertain", "samples": 3, "max_tokens": 4});
        golden(&Kind::of::<Probe>(), &config, &inputs(dir.path()), "cc6120a6d1aad3d2");
    }
}
