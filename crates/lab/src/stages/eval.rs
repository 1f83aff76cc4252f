//! `eval`: a model on a data set, one row an item.
//!
//! `as = "answer"` (default) and `"exact"` ask for answers: rows hold `accuracy` (right in the form asked, not truncated),
//! `flexible` (right wherever the answer stands), `tokens`, `truncated`, `log_prob` (sum, nats), with several samples their
//! means. `as = "perplexity"` scores the references: `nll` (sum, nats), `tokens`, `loss` (nll a token). Knobs of a task's
//! problem become columns (`steps`, `digits`, ...), so that a claim can filter by them.

use postgrad_audit::{Asker, Item as Asked, Judge, answers, perplexity};
use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result};
use postgrad_nn::logits::Rules;
use postgrad_reason::Options;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::stage::{Cx, Input, Stage};
use crate::store::Item;

pub struct Eval;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    pub data: Input,
    #[serde(rename = "as", default)]
    pub kind: As,
    /// The first items alone.
    #[serde(default)]
    pub limit: Option<usize>,
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// 0 is greedy.
    #[serde(default)]
    pub temperature: f32,
    #[serde(default = "all")]
    pub top_p: f32,
    #[serde(default = "one")]
    pub samples: usize,
    #[serde(default)]
    pub stop: Vec<String>,
    #[serde(default)]
    pub system: Option<String>,
    /// Run-time scale of the model's adapters (1: as trained).
    #[serde(default)]
    pub adapter_scale: Option<f32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum As {
    #[default]
    Answer,
    Exact,
    Perplexity,
}

fn max_tokens() -> usize {
    128
}
fn all() -> f32 {
    1.0
}
fn one() -> usize {
    1
}

impl Stage for Eval {
    const NAME: &'static str = "eval";
    const ABOUT: &'static str = "a model on a data set, one row an item";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["eval"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if config.samples == 0 {
            return Err(Error::usage("0 samples measure nothing"));
        }
        if config.samples > 1 && config.temperature == 0.0 {
            return Err(Error::usage("several samples of a greedy model are all the same").help("give a temperature"));
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
        let asker = Asker { system: config.system.clone(), ..Asker::new(model.renderer.clone()) };
        let mut progress = Progress::new(cx.progress, "eval", items.len() as u64);
        let judge = match config.kind {
            As::Answer => Judge::Answer,
            As::Exact => Judge::Exact,
            As::Perplexity => {
                let rows =
                    perplexity::run(&model, &asker, &items, 4096, &cx.cancel, |n, _| progress.set(n as u64, ""))?;
                progress.finish();
                cx.spend("read_tokens", rows.iter().map(|r| r.tokens as u64).sum());
                let metrics = |r: &perplexity::LossRow| json!({"nll": r.nll, "tokens": r.tokens, "loss": r.nll / r.tokens.max(1) as f64});
                let rows = rows.iter().filter(|r| r.tokens > 0);
                let rows: Vec<Item> = rows.map(|r| row(&items[r.item], metrics(r))).collect();
                return cx.write_rows(&rows);
            }
        };
        let rules = if config.temperature == 0.0 {
            Rules::greedy()
        } else {
            Rules { temperature: config.temperature, top_p: config.top_p, ..Rules::default() }
        };
        let options = Options {
            rules,
            n: config.samples,
            stop: config.stop.clone(),
            seed: cx.stream("eval").next_u64(),
            ..Options::greedy(config.max_tokens)
        };
        let total = config.samples.max(1);
        let told = |done: usize, _: usize| progress.set((done / total) as u64, "");
        let rows = answers::run(&model, &asker, &items, judge, &options, &cx.cancel, told)?;
        progress.finish();
        let sampled: usize = rows.iter().flat_map(|r| &r.responses).map(|r| r.tokens).sum();
        cx.spend("evaluated_tokens", sampled as u64);
        cx.write_jsonl("answers.jsonl", &rows)?;
        let rows: Vec<Item> = rows.iter().map(|r| row(&items[r.item], answered(&r.responses))).collect();
        cx.write_rows(&rows)
    }
}

/// The figures of an item's answers, as the mean over them.
pub fn answered(responses: &[answers::Response]) -> Value {
    let mean = |f: &dyn Fn(&answers::Response) -> f64| responses.iter().map(f).sum::<f64>() / responses.len() as f64;
    json!({
        "accuracy": mean(&|r| f64::from(r.right(false))),
        "flexible": mean(&|r| f64::from(r.right(true))),
        "tokens": mean(&|r| r.tokens as f64),
        "truncated": mean(&|r| f64::from(r.truncated)),
        "log_prob": mean(&|r| r.log_prob),
    })
}

/// A row of an item with its problem's cluster and knobs; without a problem, its column `cluster` says what it shares.
pub fn row(item: &Asked, metrics: Value) -> Item {
    let mut all: Map<String, Value> = match &item.problem {
        Some(p) => p.difficulty.0.iter().map(|(k, v)| (k.clone(), json!(v))).collect(),
        None => Map::new(),
    };
    all.extend(metrics.as_object().cloned().unwrap_or_default());
    let named = || item.record.columns.get("cluster").and_then(Value::as_str).map(String::from);
    let cluster = item.problem.as_ref().map(|p| p.cluster.clone()).or_else(named);
    Item { item: item.id.clone(), cluster, metrics: all }
}
