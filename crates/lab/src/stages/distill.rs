//! `distill`: a student's next-token distributions drawn to a teacher's, along data and along the student's own samples.
//!
//! The result holds `model/` or `adapter/`, `metrics.jsonl` with every update, and one row of figures: of the last update
//! `loss` (the divergence a token, nats), `trained` parameters, `tokens`. Teacher and student have one tokenizer. A killed stage
//! goes on from its last checkpoint.
//!
//! ```toml
//! use = "distill"
//! model = "@small"
//! teacher = "@large"
//! data = "@problems"
//! divergence = { jsd = 0.5 }                                     # or "forward", "reverse"
//! own = { share = 0.5, temperature = 1.0, max_tokens = 64 }      # GKD; without it the data alone
//! ```

use postgrad_base::event::{Event, Sink};
use postgrad_base::{Error, Result};
use postgrad_nn::optim::Kind as Optimizer;
use postgrad_nn::schedule::Decay;
use postgrad_train::distill::{Distill as Trainer, Divergence, OwnSamples};
use postgrad_train::run_dir::RunDir;
use postgrad_train::sft::Ended;
use postgrad_train::{Checkpoints, Settings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::sink::{JsonlSink, METRICS_FILE};
use crate::stage::{Cx, Input, Stage};
use crate::stages::tuning::{
    Inputs, Lora, Trainable, batch, cosine, examples, flops, max_len, micro_tokens, one, sweep, warmup,
};
use crate::store::Item;

pub struct Distill;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The student.
    pub model: Input,
    pub teacher: Input,
    pub data: Inputs,
    #[serde(default = "forward")]
    pub divergence: Divergence,
    /// Of both distributions.
    #[serde(default = "temperature")]
    pub temperature: f32,
    #[serde(default)]
    pub own: Option<OwnSamples>,
    /// A fresh adapter in place of the weights themselves.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Name patterns of the weights that are trained (all).
    #[serde(default)]
    pub train: Vec<String>,
    #[serde(default)]
    pub steps: Option<u64>,
    #[serde(default = "one")]
    pub epochs: f64,
    #[serde(default = "batch")]
    pub batch: usize,
    #[serde(default)]
    pub lr: Option<f64>,
    #[serde(default = "warmup")]
    pub warmup: f64,
    #[serde(default = "cosine")]
    pub decay: Decay,
    #[serde(default)]
    pub floor: f64,
    #[serde(default)]
    pub weight_decay: f32,
    #[serde(default)]
    pub optimizer: Optimizer,
    /// L2 norm of gradients; 0 switches clipping off.
    #[serde(default = "one")]
    pub clip: f64,
    /// Longer examples are left out.
    #[serde(default = "max_len")]
    pub max_len: usize,
    #[serde(default = "micro_tokens")]
    pub micro_tokens: usize,
}

fn forward() -> Divergence {
    Divergence::Forward
}
fn temperature() -> f32 {
    1.0
}

impl Config {
    fn trainable(&self) -> Trainable<'_> {
        let Self { model, lora, train, .. } = self;
        Trainable { model, lora: lora.as_ref(), train, freeze: &[], select: None }
    }

    fn settings(&self, seed: u64) -> Settings {
        let base = if self.lora.is_some() { Settings::lora() } else { Settings::full() };
        Settings {
            seed,
            epochs: self.epochs,
            steps: self.steps,
            batch: self.batch,
            micro_tokens: self.micro_tokens,
            max_len: self.max_len,
            lr: self.lr.unwrap_or(base.lr),
            warmup: self.warmup,
            decay: self.decay,
            floor: self.floor,
            weight_decay: self.weight_decay,
            optimizer: self.optimizer,
            clip: (self.clip != 0.0).then_some(self.clip),
            checkpoints: Checkpoints::Every(50),
            keep: 1,
            ..base
        }
    }
}

impl Stage for Distill {
    const NAME: &'static str = "distill";
    const ABOUT: &'static str = "a teacher's distributions learnt, along data and the student's own samples";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data", "tune", "sample"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.own.is_some() { Self::STREAMS } else { &["data", "tune"] }
    }

    fn check(config: &Config) -> Result<()> {
        config.settings(0).check()
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        // The order of the data and the student's samples come from one seed.
        let settings = config.settings(cx.seed_of("data"));
        let mut model = cx.model(&config.model)?;
        let teacher = cx.model(&config.teacher)?;
        let all = model.decoder.parameter_count();
        config.trainable().begin(&mut model, cx)?;
        let trained: usize = model.decoder.params().iter().map(|p| p.len()).sum();
        let examples = examples(&model, &config.data, config.max_len, cx)?;
        let dir = RunDir::held(&cx.out)?;
        let begun = dir.latest()?.map_or(0, |p| p.step);
        let mut events = JsonlSink::resume(&cx.out.join(METRICS_FILE), begun)?;
        let outcome = Trainer {
            student: &model,
            teacher: &teacher.decoder,
            settings: &settings,
            divergence: config.divergence,
            temperature: config.temperature,
            own: config.own,
            examples: &examples,
            held_out: &[],
            exam: None,
            sink: &mut |e: &Event| events.emit(e),
            cancel: cx.cancel.clone(),
            progress: cx.progress,
            dir: Some(&dir),
        }
        .run()?;
        if outcome.ended == Ended::Budget {
            return Err(Error::cancelled().help("the time is spent; the stage goes on from its last checkpoint"));
        }
        config.trainable().save(&mut model, cx)?;
        cx.spend("updates", outcome.steps);
        cx.spend("examples", outcome.steps * settings.batch as u64);
        cx.spend("tokens", outcome.tokens);
        let read = 2 * teacher.decoder.parameter_count() as u64 * outcome.tokens;
        cx.spend("flops", flops(outcome.tokens, all, trained) + read);
        let figures = json!({"loss": outcome.loss, "trained": trained, "tokens": outcome.tokens});
        let metrics = figures.as_object().cloned().unwrap_or_default();
        cx.write_rows(&[Item { item: "run".into(), cluster: None, metrics }])?;
        sweep(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, golden};
    use postgrad_tensor::simd::{Level, with_level};
    use std::path::Path;

    #[test]
    fn golden_run() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        let row = |i: usize| format!("{{\"prompt\":\"{i}+2?\",\"completion\":\"{}\"}}\n", i + 2);
        std::fs::write(&file, (2..6).map(row).collect::<String>()).unwrap();
        let model = || Place::Model(fixtures.join("model-chatml"));
        let data = || ("data", Place::Data(vec![file.display().to_string()]));
        let kind = Kind::of::<Distill>();
        // A teacher that has learnt something.
        let lessons = json!({"model": "@base", "data": "@data", "steps": 3, "batch": 2, "lr": 1e-2});
        let taught = dir.path().join("taught");
        let config =
            json!({"model": "@base", "teacher": "@teacher", "data": "@data", "steps": 3, "batch": 2, "lr": 1e-3});
        with_level(Level::Scalar, || {
            alone(&Kind::of::<crate::stages::Sft>(), &lessons, &[("base", model()), data()], 0, &taught)
        })
        .unwrap();
        let inputs = [("base", model()), ("teacher", Place::Stage(taught)), data()];
        golden(&kind, &config, &inputs, "4971c1bb27e0aba8");
        let mut own = config;
        own["divergence"] = json!({"jsd": 0.5});
        own["own"] = json!({"share": 1.0, "temperature": 1.0, "max_tokens": 4});
        own["lora"] = json!({"rank": 2});
        golden(&kind, &own, &inputs, "6d9b7dd4bdae2684");
    }
}
