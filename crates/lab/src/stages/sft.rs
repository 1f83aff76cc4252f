//! `sft`: supervised fine-tuning of all weights, of those that patterns name or that a selection chooses, or of a LoRA.
//!
//! The result holds `model/` or `adapter/`, `metrics.jsonl` with every update, and one row of figures (`loss` of the last
//! update, `trained` parameters, their `share`; of a selection also `tensors`, `tensor_share` and `with_gradient`). Where
//! entries are selected, `delta.safetensors` holds what differs from the base. A killed stage goes on from its last
//! checkpoint.

use postgrad_base::event::{Event, Sink};
use postgrad_base::{Error, Result};
use postgrad_nn::optim::Kind as Optimizer;
use postgrad_nn::schedule::Decay;
use postgrad_nn::select::{Select, Selection};
use postgrad_train::run_dir::RunDir;
use postgrad_train::sft::Ended;
use postgrad_train::source::InMemory;
use postgrad_train::{Checkpoints, Corrupt, Normalizer, Settings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::sink::JsonlSink;
use crate::stage::{Cx, Input, Stage};
use crate::stages::tuning::{
    Inputs, Lora, Trainable, batch, cosine, examples, flops, max_len, micro_tokens, one, sweep, warmup,
};
use crate::store::Item;

pub struct Sft;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    /// One data set, or several one after the other.
    pub data: Inputs,
    /// A fresh adapter in place of the weights themselves.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Name patterns of the weights that are trained (all).
    #[serde(default)]
    pub train: Vec<String>,
    /// Name patterns of weights that stay as they are.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// A chosen part of the weights: `{ kind = "hft", ratio = 0.5 }`, `{ kind = "lift", rank = 8, filter_rank = 8 }`.
    #[serde(default)]
    pub select: Option<Select>,
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
    #[serde(default)]
    pub normalizer: Normalizer,
    /// Corruption of inputs with intact targets (Masked Thought).
    #[serde(default)]
    pub corrupt: Option<Corrupt>,
    /// Longer examples are left out.
    #[serde(default = "max_len")]
    pub max_len: usize,
    #[serde(default = "micro_tokens")]
    pub micro_tokens: usize,
}

impl Config {
    pub(crate) fn trainable(&self) -> Trainable<'_> {
        let Self { model, lora, train, freeze, select, .. } = self;
        Trainable { model, lora: lora.as_ref(), train, freeze, select: select.as_ref() }
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
            normalizer: self.normalizer,
            checkpoints: Checkpoints::Every(50),
            keep: 1,
            ..base
        }
    }
}

impl Stage for Sft {
    const NAME: &'static str = "sft";
    const ABOUT: &'static str = "supervised fine-tuning: all weights, some of them, or a LoRA";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data", "tune"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.corrupt.as_ref().map_or(Ok(()), Corrupt::check)?;
        if let Some(select) = &config.select {
            if config.lora.is_some() || !config.train.is_empty() || !config.freeze.is_empty() {
                return Err(Error::usage("`select` chooses what is trained; `lora`, `train` and `freeze` do too")
                    .help("leave all but one of them out"));
            }
            select.check()?;
        }
        config.settings(0).check()
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let mut settings = config.settings(cx.seed_of("tune"));
        let mut model = cx.model(&config.model)?;
        if let Some(corrupt) = &config.corrupt {
            let may_grow = config.lora.is_none() && config.select.as_ref().is_none_or(Select::trains_embeddings);
            settings.corrupt = Some(corrupt.prepare(&mut model, may_grow)?);
        }
        let all = model.decoder.parameter_count();
        let mut selection = config.trainable().begin(&mut model, cx)?;
        let all_of = || model.decoder.params().iter().map(|p| p.len()).sum();
        let trained: usize = selection.as_ref().map_or_else(all_of, |s| s.share().parameters);
        let with_gradient = selection.as_ref().map_or(trained, |s| s.share().with_gradient);
        let examples = examples(&model, &config.data, config.max_len, cx)?;
        let mut source = InMemory::new(examples, cx.stream("data").child("order"));

        let dir = RunDir::held(&cx.out)?;
        let begun = dir.latest()?.map_or(0, |p| p.step);
        let mut events = JsonlSink::resume(&cx.out.join("metrics.jsonl"), begun)?;
        let mut updates = 0;
        let mut sink = |e: &Event| {
            if e.kind == "step" {
                updates = e.step;
            }
            events.emit(e)
        };
        let outcome = postgrad_train::Sft {
            decoder: &model.decoder,
            settings: &settings,
            groups: None,
            source: &mut source,
            evals: vec![],
            sink: &mut sink,
            cancel: cx.cancel.clone(),
            progress: cx.progress,
            dir: Some(&dir),
            sampler: None,
            select: selection.as_mut(),
            edit_grads: None,
            constrain: None,
        }
        .run()?;
        if outcome.ended == Ended::Budget {
            return Err(Error::cancelled().help("the time is spent; the stage goes on from its last checkpoint"));
        }
        config.trainable().save(&mut model, cx)?;
        cx.spend("updates", outcome.steps);
        cx.spend("examples", outcome.steps * settings.batch as u64);
        cx.spend("tokens", outcome.tokens);
        cx.spend("flops", flops(outcome.tokens, all, with_gradient));
        let share = trained as f64 / all as f64;
        let figures = json!({"loss": outcome.loss, "trained": trained, "share": share, "tokens": outcome.tokens});
        let mut metrics = figures.as_object().cloned().unwrap_or_default();
        metrics.extend(selection.iter().flat_map(Selection::figures));
        cx.write_rows(&[Item { item: "run".into(), cluster: None, metrics }])?;
        sweep(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, digest, golden};
    use postgrad_base::cancel::Cancel;
    use postgrad_base::progress::Mode;
    use postgrad_reason::ModelFolder;
    use std::path::Path;

    fn fixture() -> Place {
        Place::Model(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml"))
    }

    fn inputs(dir: &Path) -> [(&'static str, Place); 2] {
        let file = dir.join("a.jsonl");
        let row = |i: usize| format!("{{\"prompt\":\"{i}+2?\",\"completion\":\"{}\"}}\n", i + 2);
        std::fs::write(&file, (2..9).map(row).collect::<String>()).unwrap();
        [("base", fixture()), ("data", Place::Data(vec![file.display().to_string()]))]
    }

    /// Runs the stage with a stop asked for as soon as a checkpoint's worth of updates is logged.
    fn stopped(config: &serde_json::Value, inputs: &[(&str, Place)], out: &Path) -> Result<()> {
        let cancel = Cancel::new();
        let named = inputs.iter().map(|(n, p)| (n.to_string(), p.clone()));
        let cx = Cx::new(0, out.into(), named, cancel.clone(), Mode::Quiet);
        let config = (Kind::of::<Sft>().resolve)(config).map_err(|f| f.error)?;
        std::thread::scope(|s| {
            s.spawn(|| {
                let begun = || std::fs::read_to_string(out.join("metrics.jsonl")).is_ok_and(|t| t.lines().count() > 3);
                while !begun() {
                    std::thread::yield_now();
                }
                cancel.cancel();
            });
            Kind::of::<Sft>().run(&config, &cx)
        })
    }

    #[test]
    fn a_stopped_stage_goes_on_to_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path());
        let corrupt = json!({"rate": 0.5, "drop": true});
        let config =
            json!({"model": "@base", "data": "@data", "steps": 120, "batch": 2, "lr": 1e-3, "corrupt": corrupt});
        let [whole, broken] = ["whole", "broken"].map(|n| dir.path().join(n));
        let cx = alone(&Kind::of::<Sft>(), &config, &inputs, 0, &whole).unwrap();
        std::fs::create_dir_all(&broken).unwrap();
        let e = stopped(&config, &inputs, &broken).unwrap_err();
        assert_eq!(e.kind(), postgrad_base::Kind::Cancelled, "{e}");
        assert!(!broken.join("model").exists());
        let again = alone(&Kind::of::<Sft>(), &config, &inputs, 0, &broken).unwrap();
        assert_eq!(digest(&broken).unwrap(), digest(&whole).unwrap());
        assert_eq!(again.spent(), cx.spent());
        let steps = std::fs::read_to_string(broken.join("metrics.jsonl")).unwrap();
        assert_eq!(steps.matches("\"kind\":\"step\"").count(), 120);
    }

    #[test]
    fn a_rate_of_zero_is_plain_and_a_missing_mask_token_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path());
        let run = |name: &str, more: serde_json::Value| {
            let mut config = json!({"model": "@base", "data": "@data", "steps": 3, "batch": 2, "lr": 1e-3});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let out = dir.path().join(name);
            alone(&Kind::of::<Sft>(), &config, &inputs, 0, &out).map(|_| out)
        };
        let plain = run("plain", json!({})).unwrap();
        let zero = run("zero", json!({"corrupt": {"rate": 0.0}})).unwrap();
        assert_eq!(digest(&plain).unwrap(), digest(&zero).unwrap());
        let masked = run("masked", json!({"corrupt": {"rate": 0.5, "mode": "mask", "warmup": 0.0}})).unwrap();
        let [before, after] = [plain, masked].map(|d| ModelFolder::load(&d.join("model")).unwrap());
        let tokens = before.renderer.tokenizer().vocab_size();
        assert_eq!(after.renderer.tokenizer().id_of("<mask>"), Some(tokens as u32));
        assert!(after.decoder.config.vocab_size > tokens);
        let with_lora = json!({"lora": {}, "corrupt": {"rate": 0.5, "mode": "mask"}});
        assert!(run("lora", with_lora).unwrap_err().to_string().contains("an adapter cannot bring one"));
        let wrong = run("wrong", json!({"corrupt": {"rate": 1.5}})).unwrap_err();
        assert_eq!(wrong.exit_code(), 2);
    }

    #[test]
    fn golden_run() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat");
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("a.jsonl");
        std::fs::write(
            &file,
            "{\"prompt\":\"2+2?\",\"completion\":\"4\"}\n{\"prompt\":\"3+2?\",\"completion\":\"5\"}\n",
        )
        .unwrap();
        let inputs = [
            ("base", Place::Model(fixtures.join("model-chatml"))),
            ("data", Place::Data(vec![file.display().to_string()])),
        ];
        let config = json!({"model": "@base", "data": "@data", "steps": 2, "batch": 2, "lr": 1e-3});
        golden(&Kind::of::<Sft>(), &config, &inputs, "8396cbb73ed1f32f");
        let with = |select| {
            let mut config = config.clone();
            config["select"] = select;
            config
        };
        let half = with(json!({"kind": "hft"}));
        golden(&Kind::of::<Sft>(), &half, &inputs, "2658494109055fa8");
        let lift = with(json!({"kind": "lift", "rank": 2, "filter_rank": 2, "interval": 1}));
        golden(&Kind::of::<Sft>(), &lift, &inputs, "a44593203c31b00b");
        let mut both = half;
        both["lora"] = json!({});
        assert!((Kind::of::<Sft>().resolve)(&both).is_err(), "two ways to choose");
    }

    #[test]
    fn a_lora_goes_on_where_it_was_left() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        std::fs::write(&file, "{\"prompt\":\"2+2?\",\"completion\":\"4\"}\n").unwrap();
        let data = || ("data", Place::Data(vec![file.display().to_string()]));
        let kind = Kind::of::<Sft>();
        let run = |name: &str, base: Place, lora: serde_json::Value| {
            let config = json!({"model": "@base", "data": "@data", "steps": 1, "batch": 1, "lr": 1e-2, "warmup": 0.0,
                "decay": "constant", "lora": lora});
            crate::stage::alone(&kind, &config, &[("base", base), data()], 0, &dir.path().join(name))
        };
        let whole = || Place::Model(fixtures.join("model-chatml"));
        run("one", whole(), json!({"rank": 2})).unwrap();
        run("two", Place::Stage(dir.path().join("one")), json!({"continue": true})).unwrap();
        let norms = |name: &str| {
            let model = ModelFolder::load(&dir.path().join(name).join("adapter")).unwrap();
            assert_eq!((model.decoder.adapters.len(), model.decoder.adapters[0].spec.rank), (1, 2));
            model.decoder.adapters[0].modules.values().map(|m| m.norm()).sum::<f64>()
        };
        let (one, two) = (norms("one"), norms("two"));
        assert!(one > 0.0 && two > 1.2 * one, "{one} {two}");
        let e = run("three", whole(), json!({"continue": true})).err().unwrap();
        assert_eq!(e.exit_code(), 2);
    }
}
