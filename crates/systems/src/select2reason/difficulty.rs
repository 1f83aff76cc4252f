//! `difficulty`: how hard each question is, from 0 to 1, before anything is trained on it.
//!
//! `how = "asked"`: an instruct model is told to say 1 for a hard question and 0 for an easy one, and one token is read:
//! d = p("1") / (p("0") + p("1")), which is sigmoid(l1 - l0) of the two logits. Where a tokenizer has several whole tokens for
//! a digit ("1" and " 1"), their probabilities are added up first. Logits are read in full, so neither is ever missing.
//!
//! `how = "rollouts"`: d = 1 - pass rate of `samples` answers of a model at work on the question. The data must have
//! reference answers or problems that can be checked.
//!
//! A row a record, in its order: `difficulty` (and `pass_rate` of rollouts).

use postgrad_audit::{Asker, Item as Asked, Judge, answers};
use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result};
use postgrad_data::{Message, Tokenizer};
use postgrad_lab::stage::{Cx, Input, Stage};
use postgrad_lab::store::Item;
use postgrad_nn::logits::Rules;
use postgrad_reason::Options;
use postgrad_reason::peek::next_logits;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub struct Difficulty;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    pub data: Input,
    pub how: How,
    /// What an asked model is told before the question.
    #[serde(default = "system")]
    pub system: String,
    #[serde(default = "eight")]
    pub samples: usize,
    #[serde(default = "warm")]
    pub temperature: f32,
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    Asked,
    Rollouts,
}

fn system() -> String {
    "You judge how hard an instruction is for a language model. Answer with a single digit: 1 if it is difficult, 0 if it is not.".into()
}
fn eight() -> usize {
    8
}
fn warm() -> f32 {
    1.0
}
fn max_tokens() -> usize {
    512
}

impl Stage for Difficulty {
    const NAME: &'static str = "difficulty";
    const ABOUT: &'static str = "how hard questions are: asked of a model, or 1 - its pass rate (Select2Reason)";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["sample"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.how == How::Asked { &[] } else { Self::STREAMS }
    }

    fn check(config: &Config) -> Result<()> {
        if config.how == How::Rollouts && (config.samples == 0 || config.temperature <= 0.0) {
            return Err(Error::usage("rollouts need one sample or more and a temperature above 0"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let model = cx.model(&config.model)?;
        let items = cx.items(&config.data)?;
        let mut progress = Progress::new(cx.progress, "difficulty", items.len() as u64);
        let mut rows = Vec::with_capacity(items.len());
        let mut put = |i: usize, metrics: Value| {
            let metrics = metrics.as_object().cloned().unwrap_or_default();
            rows.push(Item { item: i.to_string(), cluster: None, metrics });
        };
        match config.how {
            How::Asked => {
                let tokenizer = model.renderer.tokenizer();
                let (zero, one) = (variants(tokenizer, "0")?, variants(tokenizer, "1")?);
                let asker = Asker { system: Some(config.system.clone()), ..Asker::new(model.renderer.clone()) };
                let prompts = items.iter().map(|i| prompt(&asker, i)).collect::<Result<Vec<_>>>()?;
                next_logits(&model, &prompts, &cx.cancel, |i, logits| {
                    progress.set(i as u64 + 1, "");
                    put(i, json!({"difficulty": asked(logits, &zero, &one)}));
                    Ok(())
                })?;
                cx.spend("read_tokens", prompts.iter().map(|p| p.len() as u64).sum());
            }
            How::Rollouts => {
                let options = Options {
                    rules: Rules { temperature: config.temperature, ..Rules::default() },
                    n: config.samples,
                    seed: cx.stream("sample").child("difficulty").next_u64(),
                    ..Options::greedy(config.max_tokens)
                };
                let asker = Asker::new(model.renderer.clone());
                let told = |done: usize, _: usize| progress.set((done / config.samples) as u64, "");
                let found = answers::run(&model, &asker, &items, Judge::Answer, &options, &cx.cancel, told)?;
                for row in &found {
                    let passed = row.responses.iter().filter(|r| r.right(true)).count();
                    let rate = passed as f64 / config.samples as f64;
                    put(row.item, json!({"difficulty": 1.0 - rate, "pass_rate": rate}));
                }
                let sampled = found.iter().flat_map(|r| &r.responses).map(|r| r.tokens as u64).sum();
                cx.spend("sampled_tokens", sampled);
            }
        }
        progress.finish();
        cx.write_rows(&rows)
    }
}

/// The question under the system turn, as the model's template writes it.
fn prompt(asker: &Asker, item: &Asked) -> Result<Vec<u32>> {
    let (turns, _) = item.question()?;
    let mut all = vec![Message::new("system", asker.system.clone().unwrap_or_default())];
    all.extend(turns.into_iter().filter(|t| t.role != "system"));
    Ok(asker.conversation(&all, None)?.ids)
}

/// Whole tokens that write a text, with and without a blank before it.
fn variants(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for written in [text.to_string(), format!(" {text}")] {
        if let [id] = tokenizer.encode_plain(&written)?[..] {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Err(
            Error::usage(format!("the model's tokenizer has no token that is `{text}`")).help("use how = \"rollouts\"")
        );
    }
    Ok(ids)
}

/// p(one) / (p(zero) + p(one)), each over its tokens.
pub fn asked(logits: &[f32], zero: &[u32], one: &[u32]) -> f64 {
    let of = |ids: &[u32]| -> f64 {
        let z: Vec<f64> = ids.iter().map(|i| f64::from(logits[*i as usize])).collect();
        let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln()
    };
    1.0 / (1.0 + (of(zero) - of(one)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_lab::stage::{Kind, Place, alone, golden, read_rows};
    use std::path::Path;

    #[test]
    fn one_token_gives_the_logistic_of_the_difference() {
        let logits = [0.3f32, -1.2, 2.0, 0.5];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!((asked(&logits, &[1], &[2]) - sigmoid(3.2)).abs() < 1e-6);
        assert!((asked(&logits, &[2], &[1]) - sigmoid(-3.2)).abs() < 1e-6);
        // Two ways to write a digit count together: p is added up, not the logits.
        let p: Vec<f64> = logits.iter().map(|z| f64::from(*z).exp()).collect();
        assert!((asked(&logits, &[0, 1], &[2, 3]) - (p[2] + p[3]) / p.iter().sum::<f64>()).abs() < 1e-6);
        assert_eq!(asked(&[0.0, 1000.0], &[0], &[1]), 1.0);
        assert_eq!(asked(&[1000.0, 0.0], &[0], &[1]), 0.0);
    }

    fn inputs(dir: &Path) -> [(&'static str, Place); 2] {
        let file = dir.join("q.jsonl");
        let rows = [r#"{"question": "What is 2+3?", "answer": "5"}"#, r#"{"question": "Why?", "answer": "7"}"#];
        std::fs::write(&file, rows.join("\n")).unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        [("model", Place::Model(model)), ("data", Place::Data(vec![file.display().to_string()]))]
    }

    #[test]
    fn both_ways_give_a_row_a_record() {
        let dir = tempfile::tempdir().unwrap();
        for how in ["asked", "rollouts"] {
            let out = dir.path().join(how);
            let config = json!({"model": "@model", "data": "@data", "how": how, "samples": 3, "max_tokens": 4});
            let cx = alone(&Kind::of::<Difficulty>(), &config, &inputs(dir.path()), 0, &out).unwrap();
            let rows = read_rows(&cx.out.join("rows.jsonl")).unwrap();
            let d: Vec<f64> = rows.iter().map(|r| r.metrics["difficulty"].as_f64().unwrap()).collect();
            assert_eq!(rows.iter().map(|r| r.item.as_str()).collect::<Vec<_>>(), ["0", "1"]);
            assert!(d.iter().all(|d| (0.0..=1.0).contains(d)), "{d:?}");
        }
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"model": "@model", "data": "@data", "how": "rollouts", "samples": 2, "max_tokens": 4});
        golden(&Kind::of::<Difficulty>(), &config, &inputs(dir.path()), "583b71caf6b082e7");
    }
}
