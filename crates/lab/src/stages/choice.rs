//! `choice`: which of several labels a model finds likeliest as the answer, one row an item.
//!
//! Labels are the same for all items (`labels = ["yes", "no"]`; the record's completion is the right one) or a list in each
//! record's column `choices`. Rows hold `accuracy` and `correct` (1 where the likeliest is the right one), `confidence` (its
//! probability among the labels: softmax of their log-probs, so that `ece(confidence, correct)` is the calibration error),
//! `prediction` (its index), `log_prob` (of the right one, nats). Nothing is sampled.

use postgrad_audit::items::Choices;
use postgrad_audit::{Asker, Item as Asked, choice};
use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::eval::row;
use crate::stage::{Cx, Input, Stage};
use crate::store::Item;

pub struct Choice;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    pub data: Input,
    /// The labels of every item; without them, the records' own column `choices`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Log-probs as they are, or a token or a byte, which makes up for labels of different lengths.
    #[serde(default)]
    pub per: Per,
    /// The first items alone.
    #[serde(default)]
    pub limit: Option<usize>,
    #[serde(default)]
    pub system: Option<String>,
    /// Run-time scale of the model's adapters (1: as trained).
    #[serde(default)]
    pub adapter_scale: Option<f32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    #[default]
    Label,
    Token,
    Byte,
}

impl Stage for Choice {
    const NAME: &'static str = "choice";
    const ABOUT: &'static str = "which label a model finds likeliest, with its confidence";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        let twice = config.labels.iter().enumerate().find(|(i, l)| config.labels[..*i].contains(l));
        if let Some((_, label)) = twice {
            return Err(Error::usage(format!("the label `{label}` stands there twice")));
        }
        if config.labels.len() == 1 {
            return Err(Error::usage("one label is no choice"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let mut model = cx.model(&config.model)?;
        if let Some(scale) = config.adapter_scale {
            model.scale_adapters(scale)?;
        }
        let mut items = cx.items(&config.data)?;
        items.truncate(config.limit.unwrap_or(usize::MAX));
        for item in &mut items {
            item.choices = Some(choices(item, &config.labels).map_err(|e| e.at(&item.id))?);
        }
        let asker = Asker { system: config.system.clone(), ..Asker::new(model.renderer.clone()) };
        let mut progress = Progress::new(cx.progress, "choice", items.len() as u64);
        let mut read = 0;
        let scored = choice::run(&model, &asker, &items, 4096, &cx.cancel, |n, tokens| {
            read = tokens;
            progress.set(n as u64, "");
        })?;
        progress.finish();
        cx.spend("read_tokens", read as u64);
        let rows = scored
            .iter()
            .map(|r| {
                let picked = match config.per {
                    Per::Label => r.raw,
                    Per::Token => r.per_token,
                    Per::Byte => r.per_byte,
                };
                let prediction = picked.ok_or_else(|| {
                    Error::work("the prompt with its labels is longer than the model's context").at(&r.id)
                })?;
                let score = |s: &choice::Scored| match config.per {
                    Per::Label => s.log_prob,
                    Per::Token => s.log_prob / s.tokens.max(1) as f64,
                    Per::Byte => s.log_prob / s.bytes.max(1) as f64,
                };
                let top = score(&r.choices[prediction]);
                let confidence = 1.0 / r.choices.iter().map(|s| (score(s) - top).exp()).sum::<f64>();
                let correct = f64::from(prediction == r.right);
                let metrics = json!({"accuracy": correct, "correct": correct, "confidence": confidence,
                    "prediction": prediction, "log_prob": r.choices[r.right].log_prob});
                Ok(row(&items[r.item], metrics))
            })
            .collect::<Result<Vec<Item>>>()?;
        cx.write_rows(&rows)
    }
}

/// The labels with the right one.
fn choices(item: &Asked, labels: &[String]) -> Result<Choices> {
    let texts: Vec<String> = if labels.is_empty() {
        let listed = item.record.columns.get("choices").and_then(|v| v.as_array());
        let texts = listed.and_then(|l| l.iter().map(|t| t.as_str().map(String::from)).collect::<Option<Vec<_>>>());
        texts.filter(|t| t.len() > 1).ok_or_else(|| {
            Error::usage("the record has no column `choices` with a list of texts").help("or give `labels`")
        })?
    } else {
        labels.to_vec()
    };
    let reference = item.reference().unwrap_or_default();
    let right = texts.iter().position(|t| t.trim() == reference.trim()).ok_or_else(|| {
        Error::usage(format!("the right answer `{reference}` is none of the labels {}", texts.join(", ")))
    })?;
    Ok(Choices { texts, right })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, golden, read_rows};
    use std::path::Path;

    fn inputs(file: &Path) -> [(&'static str, Place); 2] {
        let rows = [("2+2?", "4"), ("3+2?", "5"), ("4+1?", "5")]
            .map(|(p, c)| json!({"prompt": p, "completion": c, "choices": ["4", "5", "6"]}).to_string());
        std::fs::write(file, rows.join("\n")).unwrap();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        [("base", Place::Model(base)), ("data", Place::Data(vec![file.display().to_string()]))]
    }

    #[test]
    fn confidences_are_of_the_likeliest_label() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(&dir.path().join("a.jsonl"));
        let kind = Kind::of::<Choice>();
        let run = |extra: serde_json::Value, out: &str| {
            let mut config = json!({"model": "@base", "data": "@data"});
            config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            alone(&kind, &config, &inputs, 0, &dir.path().join(out))?;
            read_rows(&dir.path().join(out).join("rows.jsonl"))
        };
        let own = run(json!({}), "own").unwrap();
        assert_eq!(own.len(), 3);
        for r in &own {
            let get = |k: &str| r.metrics[k].as_f64().unwrap();
            assert!((1.0 / 3.0..=1.0).contains(&get("confidence")), "{r:?}");
            // The right label's probability is the confidence where the prediction is right, at most the rest elsewhere.
            assert!(get("correct") == get("accuracy") && get("log_prob") < 0.0);
        }
        assert_eq!(own, run(json!({"labels": ["4", "5", "6"]}), "given").unwrap());
        assert_eq!(run(json!({"labels": ["4", "6"]}), "missing").unwrap_err().exit_code(), 2);
        assert_eq!(run(json!({"labels": ["4", "4"]}), "twice").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(&dir.path().join("a.jsonl"));
        let config = json!({"model": "@base", "data": "@data", "labels": ["4", "5", "6"]});
        golden(&Kind::of::<Choice>(), &config, &inputs, "4ccf316541c6f3e9");
    }
}
