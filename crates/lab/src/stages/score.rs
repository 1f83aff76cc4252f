//! `score`: how a model ranks given answers, against how good they are, and how far it is from another model on them.
//!
//! The data are groups as `prefer` reads them. Rows: a group each, named by its column `item`, with `answers`, `log_prob` (a
//! token, mean over the answers, nats), `pairs` (of a better and a worse answer) and `won` (those in which the better one has the
//! higher log-prob a token; equal ones count half). Where there are pairs also `assessment` (their share: AFT's assessment
//! accuracy; pooled over groups it is `ratio(won, pairs)`), and `better_log_prob` and `worse_log_prob`, means over the answers
//! that are better, or worse, than another.
//!
//! With a `reference` model: `kl`, the mean over the answers' tokens of KL(model | reference) over the whole vocabulary; where
//! there are pairs also `reward_accuracy`, the share in which the better answer gained more log-prob (summed) on the reference,
//! and `reward_margin`, by how much.

use std::collections::BTreeMap;

use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_nn::decoder::Decoder;
use postgrad_reason::ModelFolder;
use postgrad_tensor::no_grad;
use postgrad_train::distill::{Divergence, divergence};
use postgrad_train::preference::{Group, Reading, data};
use postgrad_train::score::{Scored, Scoring, score};
use postgrad_train::sft::cut;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::stage::{Cx, Input, Stage};
use crate::stages::prefer::paths;
use crate::stages::tuning::{Inputs, max_len, micro_tokens};
use crate::store::Item;

pub struct Score;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    /// `groups` stages or files, one or several.
    pub data: Inputs,
    /// What the model is compared with.
    #[serde(default)]
    pub reference: Option<Input>,
    /// The first groups alone.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Groups with a longer sequence are left out.
    #[serde(default = "max_len")]
    pub max_len: usize,
    #[serde(default = "micro_tokens")]
    pub micro_tokens: usize,
}

/// One answer under the model, and under the reference where there is one.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    rank: f64,
    tokens: f64,
    sum: f64,
    reference: f64,
    /// Sum over its tokens.
    kl: f64,
}

impl Stage for Score {
    const NAME: &'static str = "score";
    const ABOUT: &'static str = "how a model ranks given answers, and how far it is from another on them";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = Config;

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let model = cx.model(&config.model)?;
        let reference = config.reference.as_ref().map(|r| cx.model(r)).transpose()?;
        if let Some(other) = &reference {
            same_vocabulary(&model, other).map_err(|e| e.at(config.reference.as_ref().unwrap_or(&config.model)))?;
        }
        let reading = Reading { max_len: config.max_len, alone: true, ..Reading::default() };
        let mut groups = data::read(&paths(config.data.list(), cx)?, &model.renderer, reading)?.groups;
        groups.truncate(config.limit.unwrap_or(usize::MAX));

        let examples: Vec<Example> = groups.iter().flat_map(Group::sequences).cloned().collect();
        let mut progress = Progress::new(cx.progress, "score", examples.len() as u64);
        let mut answers: Vec<Answer> = Vec::with_capacity(examples.len());
        for part in cut(&examples, config.micro_tokens) {
            cx.cancel.check()?;
            answers.extend(scored(&part, &model.decoder, reference.as_ref().map(|r| &r.decoder))?);
            progress.set(answers.len() as u64, "");
        }
        progress.finish();
        let read: usize = examples.iter().map(Example::len).sum();
        cx.spend("read_tokens", (read * if reference.is_some() { 2 } else { 1 }) as u64);

        let mut answers = answers.into_iter();
        let mut named = BTreeMap::new();
        let mut rows = Vec::with_capacity(groups.len());
        for group in &groups {
            let mut own: Vec<Answer> = answers.by_ref().take(group.answers.len()).collect();
            own.iter_mut().zip(&group.answers).for_each(|(a, g)| a.rank = f64::from(g.rank));
            let cluster = group.columns.get("cluster").and_then(Value::as_str).map(String::from);
            rows.push(Item { item: name(group, &mut named), cluster, metrics: figures(&own, reference.is_some()) });
        }
        cx.write_rows(&rows)
    }
}

fn same_vocabulary(model: &ModelFolder, other: &ModelFolder) -> Result<()> {
    let (a, b) = (model.decoder.config.vocab_size, other.decoder.config.vocab_size);
    match a == b {
        true => Ok(()),
        false => Err(Error::usage(format!("the model's vocabulary has {a} tokens, the reference's {b}"))),
    }
}

/// A group's name: its column `item`, else file and line; a second one of a name is numbered.
fn name(group: &Group, named: &mut BTreeMap<String, usize>) -> String {
    let file = group.place.file.rsplit('/').next().unwrap_or_default();
    let line = || format!("{file}:{}", group.place.line);
    let name = group.columns.get("item").and_then(Value::as_str).map_or_else(line, String::from);
    let before = named.entry(name.clone()).or_insert(0);
    *before += 1;
    if *before == 1 { name } else { format!("{name}#{before}") }
}

fn scored(part: &[&Example], model: &Decoder, reference: Option<&Decoder>) -> Result<Vec<Answer>> {
    no_grad(|| {
        let pass = |d: &Decoder| score(d, part, Scoring::default());
        let own = pass(model)?;
        let mut answers = vec![Answer::default(); own.sequences];
        let tokens = |s: &Scored| s.sequence.iter().map(|i| *i as usize).collect::<Vec<_>>();
        let values = own.log_probs.data().iter().zip(&own.weights);
        for (i, (lp, w)) in tokens(&own).into_iter().zip(values) {
            answers[i].tokens += f64::from(*w);
            answers[i].sum += f64::from(lp * w);
        }
        if let Some(reference) = reference {
            let other = pass(reference)?;
            for (i, (lp, w)) in tokens(&other).into_iter().zip(other.log_probs.data().iter().zip(&other.weights)) {
                answers[i].reference += f64::from(lp * w);
            }
            let (heads, kind) = ((model.head(), reference.head()), Divergence::Reverse);
            let kl = divergence((&own.hidden, &heads.0), (&other.hidden, &heads.1), kind, 1.0);
            for (i, (kl, w)) in tokens(&own).into_iter().zip(kl.data().iter().zip(&own.weights)) {
                answers[i].kl += f64::from(kl * w);
            }
        }
        Ok(answers)
    })
}

fn figures(answers: &[Answer], compared: bool) -> Map<String, Value> {
    let mean = |xs: &[f64]| xs.iter().sum::<f64>() / xs.len() as f64;
    let level = |a: &Answer| a.sum / a.tokens;
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| _ = out.insert(name.into(), value);
    let mut pairs: Vec<(&Answer, &Answer)> = Vec::new();
    for a in answers {
        pairs.extend(answers.iter().filter(|b| a.rank > b.rank).map(|b| (a, b)));
    }
    let wins = |of: &dyn Fn(&Answer) -> f64| {
        let won = pairs.iter().map(|(a, b)| match of(a).total_cmp(&of(b)) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        });
        won.sum::<f64>()
    };
    let n = pairs.len() as f64;
    put("answers", json!(answers.len()));
    put("log_prob", json!(mean(&answers.iter().map(level).collect::<Vec<_>>())));
    put("pairs", json!(pairs.len()));
    put("won", json!(wins(&level)));
    if compared {
        let tokens: f64 = answers.iter().map(|a| a.tokens).sum();
        put("kl", json!(answers.iter().map(|a| a.kl).sum::<f64>() / tokens));
    }
    if pairs.is_empty() {
        return out;
    }
    put("assessment", json!(wins(&level) / n));
    let side = |holds: &dyn Fn(&&Answer) -> bool| mean(&answers.iter().filter(holds).map(level).collect::<Vec<_>>());
    put("better_log_prob", json!(side(&|a| answers.iter().any(|b| a.rank > b.rank))));
    put("worse_log_prob", json!(side(&|a| answers.iter().any(|b| a.rank < b.rank))));
    if compared {
        let gain = |a: &Answer| a.sum - a.reference;
        put("reward_accuracy", json!(wins(&gain) / n));
        put("reward_margin", json!(pairs.iter().map(|(a, b)| gain(a) - gain(b)).sum::<f64>() / n));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, golden, read_rows};
    use crate::stages::Prefer;
    use std::path::Path;

    fn inputs(dir: &Path) -> Vec<(&'static str, Place)> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let rows = [
            json!({"prompt": "2+2?", "completions": ["4", "It is 5", "no"], "scores": [1, 0, 0], "item": "q", "cluster": "c"}),
            json!({"prompt": "2+3?", "chosen": "5", "rejected": "6", "item": "q"}),
            json!({"prompt": "2+4?", "completions": ["6"], "scores": [1], "completion": "6"}),
        ];
        let path = dir.join("g.jsonl");
        std::fs::write(&path, rows.map(|r| r.to_string()).join("\n")).unwrap();
        vec![("base", Place::Model(model)), ("groups", Place::Data(vec![path.display().to_string()]))]
    }

    fn rows(config: Value, inputs: &[(&str, Place)], out: &Path) -> Vec<Item> {
        alone(&Kind::of::<Score>(), &config, inputs, 0, out).unwrap();
        read_rows(&out.join("rows.jsonl")).unwrap()
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"model": "@base", "data": "@groups", "reference": "@base"});
        golden(&Kind::of::<Score>(), &config, &inputs(dir.path()), "cc8972f76bd332be");
    }

    #[test]
    fn figures_of_a_group() {
        let answer = |rank, sum: f64, reference| Answer { rank, tokens: 2.0, sum, reference, kl: 0.4 };
        let f = figures(&[answer(1.0, -2.0, -1.0), answer(1.0, -8.0, -9.0), answer(0.0, -4.0, -4.5)], true);
        let want = json!({"answers": 3, "log_prob": -14.0 / 6.0, "pairs": 2, "won": 1.0, "kl": 1.2 / 6.0, "assessment": 0.5,
            "better_log_prob": -2.5, "worse_log_prob": -2.0, "reward_accuracy": 0.5, "reward_margin": -0.5});
        for (name, value) in want.as_object().unwrap() {
            let (a, b) = (f[name].as_f64().unwrap(), value.as_f64().unwrap());
            assert!((a - b).abs() < 1e-12, "{name}: {a} {b}");
        }
        assert_eq!(f.len(), want.as_object().unwrap().len());
        let same = figures(&[answer(1.0, -2.0, -2.0), answer(0.0, -2.0, -2.0)], false);
        assert_eq!((&same["assessment"], same.get("kl")), (&json!(0.5), None));
    }

    #[test]
    fn a_model_is_at_no_distance_from_itself_and_tuning_moves_it_the_right_way() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = inputs(dir.path());
        let tune = json!({"model": "@base", "data": "@groups", "method": "aft", "steps": 40, "batch": 3, "lr": 1e-3});
        alone(&Kind::of::<Prefer>(), &tune, &inputs, 0, &dir.path().join("tuned")).unwrap();
        inputs.push(("tuned", Place::Stage(dir.path().join("tuned"))));
        let at = |model: &str, out: &str| {
            let config = json!({"model": model, "data": "@groups", "reference": "@base", "micro_tokens": 40});
            rows(config, &inputs, &dir.path().join(out))
        };
        let (base, tuned) = (at("@base", "a"), at("@tuned", "b"));
        let names: Vec<&str> = base.iter().map(|r| r.item.as_str()).collect();
        assert_eq!((names, base[0].cluster.as_deref()), (vec!["q", "q#2", "g.jsonl:3"], Some("c")));
        for (before, after) in base.iter().zip(&tuned) {
            let of = |row: &Item, name: &str| row.metrics.get(name).and_then(Value::as_f64);
            assert!(of(before, "kl").unwrap().abs() < 1e-6 && of(after, "kl").unwrap() > 1e-3);
            if before.metrics["pairs"] == 0 {
                assert!(of(before, "assessment").is_none() && before.metrics["answers"] == 1);
                continue;
            }
            assert_eq!((of(before, "reward_accuracy"), of(before, "reward_margin")), (Some(0.5), Some(0.0)));
            assert!(of(after, "reward_accuracy") == Some(1.0) && of(after, "reward_margin").unwrap() > 0.0);
            assert!(of(after, "better_log_prob") > of(before, "better_log_prob"));
            assert_eq!(of(after, "assessment"), Some(1.0));
        }
    }
}
