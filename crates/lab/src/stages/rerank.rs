//! `rerank`: several answers to each question, and which one a reward model or a vote would have taken.
//!
//! The answers are a rollout's, the model is one with a reward head (`prefer` with `method = "reward"`). Rows: a question each,
//! 0 or 1 for whether it comes out right by `first` (the first sample), `best` (the one the head likes best), `vote` (the answer
//! found most often), `weighted` (votes weighted by the head's probability of being right) and `pass` (any sample is right); `n`
//! samples; and `pairs` of a right and a wrong sample with `won`, those in which the head puts the right one higher (equal
//! values count half): its accuracy is `ratio(won, pairs)`. `scored.jsonl` holds a row a sample: `question`, `trial`, `value`,
//! `correct`. Samples that were cut off, or are empty, are never taken and do not vote.

use postgrad_audit::Asker;
use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_reason::rollout::Sample;
use postgrad_tasks::answers::equal;
use postgrad_train::preference::{HeadKind, OverSteps, data};
use postgrad_train::rewards::model::Model;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::stage::{Cx, Input, Stage};
use crate::stages::eval::row;
use crate::stages::groups::{prompt, ranking, samples};
use crate::stages::rollout::asked_with;

pub struct Rerank;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A reward model.
    pub model: Input,
    /// A `rollout` stage.
    pub samples: Input,
    /// The questions it was asked.
    pub data: Input,
    /// The first samples of each question alone.
    #[serde(default)]
    pub n: Option<usize>,
    /// What the probabilities of an answer's steps make of it (process heads).
    #[serde(default)]
    pub over: OverSteps,
    /// The rollout's.
    #[serde(default)]
    pub system: Option<String>,
    /// The rollout's.
    #[serde(default)]
    pub ask: Option<String>,
}

/// A sample that can be taken, with what the head says of it.
struct Judged<'a> {
    sample: &'a Sample,
    value: f64,
}

impl Stage for Rerank {
    const NAME: &'static str = "rerank";
    const ABOUT: &'static str = "which of several answers a reward model or a vote would have taken";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if config.n == Some(0) {
            return Err(Error::usage("`n` is 0, and there is nothing to choose from"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let judge = Model::load(&cx.model_dir(&config.model)?, config.over)?;
        let renderer = &judge.model.renderer;
        let asker = Asker { system: config.system.clone(), ..Asker::new(renderer.clone()) };
        let items = cx.items(&config.data)?;
        let by_question = samples(&config.samples, &items, cx)?;
        let (mut rows, mut scored, mut read) = (Vec::new(), Vec::new(), 0);
        for (question, mut all) in by_question {
            cx.cancel.check()?;
            all.truncate(config.n.unwrap_or(usize::MAX));
            let item = &items[question];
            let mut columns = prompt(&asked_with(item, config.ask.as_deref()), Some(&asker), question)?;
            let fit: Vec<&Sample> = all.iter().filter(|s| !s.truncated && !s.response.trim().is_empty()).collect();
            let mut judged = Vec::with_capacity(fit.len());
            if !fit.is_empty() {
                let texts: Vec<(String, f64)> = fit.iter().map(|s| (s.response.clone(), 0.0)).collect();
                columns.extend(ranking(&texts));
                let answers = data::group(columns, renderer).map_err(|e| e.at(&item.id))?.answers;
                let examples: Vec<Example> = answers.into_iter().map(|a| a.example).collect();
                read += examples.iter().map(Example::len).sum::<usize>();
                let values = judge.says(&examples)?;
                judged = fit.into_iter().zip(values).map(|(sample, value)| Judged { sample, value }).collect();
            }
            scored.extend(judged.iter().map(|j| {
                let Sample { question, trial, correct, .. } = j.sample;
                json!({"question": question, "trial": trial, "value": j.value, "correct": correct})
            }));
            rows.push(row(item, chosen(&all, &judged, judge.head.kind)));
        }
        cx.spend("read_tokens", read as u64);
        cx.write_jsonl("scored.jsonl", &scored)?;
        cx.write_rows(&rows)
    }
}

/// A question's figures.
fn chosen(all: &[Sample], judged: &[Judged], kind: HeadKind) -> Value {
    let right = |s: Option<&Sample>| u8::from(s.is_some_and(|s| s.correct));
    // Of equal values the first.
    let best = judged.iter().rev().max_by(|a, b| a.value.total_cmp(&b.value));
    let sure = |j: &Judged| if kind == HeadKind::Pairwise { 1.0 / (1.0 + (-j.value).exp()) } else { j.value };
    let (mut pairs, mut won) = (0, 0.0);
    for a in judged.iter().filter(|j| j.sample.correct) {
        for b in judged.iter().filter(|j| !j.sample.correct) {
            pairs += 1;
            won += match a.value.total_cmp(&b.value) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    json!({
        "first": right(all.first()),
        "best": right(best.map(|j| j.sample)),
        "vote": right(elected(judged, &|_| 1.0)),
        "weighted": right(elected(judged, &sure)),
        "pass": u8::from(all.iter().any(|s| s.correct)),
        "n": all.len(),
        "pairs": pairs,
        "won": won,
    })
}

/// The first sample with the answer of most weight; of equal weights the answer given first. Answers that are understood as the
/// same vote together.
fn elected<'a>(judged: &[Judged<'a>], weight: &dyn Fn(&Judged) -> f64) -> Option<&'a Sample> {
    let mut votes: Vec<(&Sample, &str, f64)> = Vec::new();
    for j in judged {
        let Some(answer) = j.sample.extracted.as_deref() else { continue };
        match votes.iter_mut().find(|v| v.1 == answer || equal(v.1, answer).equal) {
            Some(vote) => vote.2 += weight(j),
            None => votes.push((j.sample, answer, weight(j))),
        }
    }
    votes.into_iter().rev().max_by(|a, b| a.2.total_cmp(&b.2)).map(|v| v.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, golden, read_rows};
    use crate::stages::{Groups, Prefer};
    use std::path::Path;

    /// Questions, and a rollout of them whose right and wrong answers begin with different words.
    fn inputs(dir: &Path) -> Vec<(&'static str, Place)> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let file = |name: &str, rows: Vec<Value>| {
            let path = dir.join(name);
            std::fs::write(&path, rows.iter().map(|r| format!("{r}\n")).collect::<String>()).unwrap();
            Place::Data(vec![path.display().to_string()])
        };
        let asked = (0..4).map(|i| json!({"prompt": format!("{i}+1?"), "completion": format!("{}", i + 1)}));
        let sample = |question: usize, trial: usize| {
            let correct = trial % 3 == 1;
            let answer = question + if correct { 1 } else { 2 + trial };
            let text = if correct { format!("so it is\n{answer}") } else { format!("hm\nno\n{answer}") };
            json!({"question": question, "trial": trial, "response": text, "extracted": answer.to_string(),
                "correct": correct, "truncated": trial == 5, "tokens": 4, "log_prob": -1.0, "behaviour": -1.0})
        };
        let drawn = (0..4).flat_map(|q| (0..6).map(move |t| sample(q, t)));
        vec![
            ("base", Place::Model(model)),
            ("asked", file("asked.jsonl", asked.collect())),
            ("drawn", file("drawn.jsonl", drawn.collect())),
        ]
    }

    #[test]
    fn votes_and_values_choose() {
        let sample = |answer: Option<&str>, correct| Sample {
            extracted: answer.map(String::from),
            correct,
            response: "x".into(),
            ..Sample::default()
        };
        let all = [
            sample(Some("3"), false),
            sample(Some("0.5"), true),
            sample(None, false),
            sample(Some("1/2"), true),
            sample(Some("3"), false),
            sample(Some("3"), false),
        ];
        let with = |values: [f64; 6], kind| {
            let judged: Vec<Judged> = all.iter().zip(values).map(|(sample, value)| Judged { sample, value }).collect();
            chosen(&all, &judged, kind)
        };
        let figures = with([0.1, 0.6, 0.9, 0.6, 0.2, 0.3], HeadKind::Outcome);
        let want = json!({"first": 0, "best": 0, "vote": 0, "weighted": 1, "pass": 1, "n": 6, "pairs": 8, "won": 6.0});
        assert_eq!(figures, want);
        let equal = with([0.5; 6], HeadKind::Outcome);
        assert_eq!((&equal["weighted"], &equal["won"]), (&equal["vote"], &json!(4.0)));
        let raw = with([-9.0, 2.0, -9.0, 1.0, -9.0, -9.0], HeadKind::Pairwise);
        assert_eq!((&raw["best"], &raw["weighted"]), (&json!(1), &json!(1)));
        assert_eq!(chosen(&all, &[], HeadKind::Outcome)["best"], 0);
    }

    #[test]
    fn every_head_is_made_and_chooses_what_it_learnt() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = inputs(dir.path());
        for (head, form) in [("pairwise", "ranking"), ("outcome", "unpaired")] {
            let grouped = dir.path().join(format!("groups-{head}"));
            let config = json!({"samples": "@drawn", "data": "@asked", "form": form});
            alone(&Kind::of::<Groups>(), &config, &inputs, 0, &grouped).unwrap();
            inputs.push(("grouped", Place::Stage(grouped)));
            let tuned = dir.path().join(head);
            let config = json!({"model": "@base", "data": "@grouped", "method": "reward", "head": head, "steps": 60, "batch": 4,
                "lr": 3e-3});
            alone(&Kind::of::<Prefer>(), &config, &inputs, 0, &tuned).unwrap();
            inputs.push(("judge", Place::Stage(tuned)));
            let out = dir.path().join(format!("out-{head}"));
            let config = json!({"model": "@judge", "samples": "@drawn", "data": "@asked", "n": 5});
            alone(&Kind::of::<Rerank>(), &config, &inputs, 0, &out).unwrap();
            for row in read_rows(&out.join("rows.jsonl")).unwrap() {
                let m = &row.metrics;
                let all = ["first", "best", "weighted", "pass", "n", "pairs", "won"].map(|k| m[k].as_f64().unwrap());
                assert_eq!(all, [0.0, 1.0, 1.0, 1.0, 5.0, 6.0, 6.0], "{head}: {m:?}");
            }
            inputs.truncate(3);
        }
        let e = alone(
            &Kind::of::<Rerank>(),
            &json!({"model": "@base", "samples": "@drawn", "data": "@asked"}),
            &inputs,
            0,
            &dir.path().join("none"),
        )
        .err()
        .unwrap();
        assert!(e.exit_code() == 2 && e.to_string().contains("no reward model"), "{e}");
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = inputs(dir.path());
        let rows = dir.path().join("steps.jsonl");
        let row = |right: bool| json!({"prompt": "0+1?", "completion": "so\n1", "step_labels": [true, right]});
        std::fs::write(&rows, format!("{}\n{}\n", row(true), row(false))).unwrap();
        inputs.push(("steps", Place::Data(vec![rows.display().to_string()])));
        let config =
            json!({"model": "@base", "data": "@steps", "method": "reward", "head": "process", "steps": 2, "lr": 1e-3});
        golden(&Kind::of::<Prefer>(), &config, &inputs, "08fcb2c5cd893d76");
        let judge = dir.path().join("judge");
        postgrad_tensor::simd::with_level(postgrad_tensor::simd::Level::Scalar, || {
            alone(&Kind::of::<Prefer>(), &config, &inputs, 0, &judge).unwrap();
        });
        inputs.push(("judge", Place::Stage(judge)));
        let config = json!({"model": "@judge", "samples": "@drawn", "data": "@asked", "over": "product"});
        golden(&Kind::of::<Rerank>(), &config, &inputs, "96e608da237fb05d");
    }
}
