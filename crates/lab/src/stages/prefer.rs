//! `prefer`: tuning on answers that are better and worse, by any loss of `postgrad_train::preference`.
//!
//! The data are rows as `tune --method` reads them (docs/REINFORCEMENT.md), from `groups` stages or files. The result holds
//! `model/` or `adapter/`, `metrics.jsonl` with every update, and one row of figures: of the last update `loss`, `right` (the
//! share of pairs whose better answer has the higher score), `margin`, `better_log_prob` and `worse_log_prob` (means over
//! answers, sums over tokens, nats), and `groups`, `trained` parameters, their `share`, `tokens`. The reference policy is the
//! model as it came. `method = "reward"` trains a reward model, with `head = "pairwise"`, `"outcome"` or `"process"`: beside the
//! model lies `reward_head.safetensors`, and the log-probs of the row are values of the head. A killed stage goes on from its last checkpoint.
//!
//! ```toml
//! use = "prefer"
//! model = "@tuned"
//! data = "@ranked"
//! method = "aft-bound"
//! loss = { constraint = { bound = 0.5 } }    # single settings in place of the method's
//! ```

use postgrad_base::event::{Event, Sink};
use postgrad_base::{Error, Result, jsonl};
use postgrad_nn::optim::Kind as Optimizer;
use postgrad_nn::schedule::Decay;
use postgrad_reason::ModelFolder;
use postgrad_train::preference::data::{self, Read};
use postgrad_train::preference::{Changes, Form, HeadKind, Loss, Preference, Reading, RewardHead};
use postgrad_train::rewards::model::HEAD;
use postgrad_train::run_dir::RunDir;
use postgrad_train::sft::Ended;
use postgrad_train::{Checkpoints, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::sink::{JsonlSink, METRICS_FILE};
use crate::stage::{Cx, Input, Stage};
use crate::stages::tuning::{Inputs, Lora, Trainable, batch, flops, max_len, micro_tokens, one, sweep, warmup};
use crate::store::Item;

pub struct Prefer;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    /// `groups` stages or files, one or several.
    pub data: Inputs,
    /// A name of `tune --method`: `dpo`, `kto`, `aft-bound`, ..., or `reward`.
    pub method: String,
    /// What a reward model's head says (pairwise).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadKind>,
    /// Single settings in place of the method's: `{ beta = 0.3 }`.
    #[serde(default)]
    pub loss: Changes,
    #[serde(default)]
    pub judge: Judge,
    /// The first groups alone (of unpaired methods: rows).
    #[serde(default)]
    pub limit: Option<usize>,
    /// A fresh adapter in place of the weights themselves.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Name patterns of the weights that are trained (all).
    #[serde(default)]
    pub train: Vec<String>,
    /// Name patterns of weights that stay as they are.
    #[serde(default)]
    pub freeze: Vec<String>,
    #[serde(default)]
    pub steps: Option<u64>,
    #[serde(default = "one")]
    pub epochs: f64,
    /// Groups an update (of unpaired methods: rows).
    #[serde(default = "batch")]
    pub batch: usize,
    /// Of all weights 1e-6, of a LoRA 1e-5.
    #[serde(default)]
    pub lr: Option<f64>,
    #[serde(default = "warmup")]
    pub warmup: f64,
    #[serde(default = "constant")]
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
    /// Groups with a longer sequence are left out.
    #[serde(default = "max_len")]
    pub max_len: usize,
    #[serde(default = "micro_tokens")]
    pub micro_tokens: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// Every token of an answer.
    #[default]
    All,
    /// Tokens from where the answers part.
    Parting,
}

/// The method that trains a head.
const REWARD: &str = "reward";

fn constant() -> Decay {
    Decay::Constant
}

impl Config {
    fn trainable(&self) -> Trainable<'_> {
        let Self { model, lora, train, freeze, .. } = self;
        Trainable { model, lora: lora.as_ref(), train, freeze, select: None }
    }

    fn loss(&self) -> Result<Loss> {
        let named = if self.method == REWARD { Loss::reward_model() } else { Loss::named(&self.method)? };
        self.loss.over(named)
    }

    /// The head's kind, of a reward model.
    fn head(&self) -> Option<HeadKind> {
        (self.method == REWARD).then(|| self.head.unwrap_or_default())
    }

    fn reading(&self, loss: &Loss) -> Reading {
        let parting = self.judge == Judge::Parting;
        match self.head() {
            Some(kind) => Reading { from_parting: parting, ..Reading::of_head(kind, self.max_len) },
            None => Reading::of(loss, self.max_len, parting),
        }
    }

    fn settings(&self, seed: u64) -> Settings {
        Settings {
            seed,
            epochs: self.epochs,
            steps: self.steps,
            batch: self.batch,
            micro_tokens: self.micro_tokens,
            max_len: self.max_len,
            lr: self.lr.unwrap_or(if self.lora.is_some() { 1e-5 } else { 1e-6 }),
            warmup: self.warmup,
            decay: self.decay,
            floor: self.floor,
            weight_decay: self.weight_decay,
            optimizer: self.optimizer,
            clip: (self.clip != 0.0).then_some(self.clip),
            checkpoints: Checkpoints::Every(50),
            keep: 1,
            ..Settings::lora()
        }
    }

    /// The groups of all inputs.
    fn read(&self, model: &ModelFolder, reading: Reading, cx: &Cx) -> Result<Read> {
        let mut read = data::read(&paths(self.data.list(), cx)?, &model.renderer, reading)?;
        read.groups.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(read)
    }
}

/// Files of groups.
pub(super) fn paths(inputs: &[Input], cx: &Cx) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for input in inputs {
        all.extend(cx.files(input, "groups")?.iter().map(|p| p.display().to_string()));
    }
    Ok(all)
}

impl Stage for Prefer {
    const NAME: &'static str = "prefer";
    const ABOUT: &'static str = "tuning on answers that are better and worse: DPO, KTO, AFT and their family";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data", "tune"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        let loss = config.loss()?;
        if config.lora.as_ref().is_some_and(|l| l.dropout > 0.0) {
            return Err(Error::usage("dropout is off here: log-probs are compared with the reference's"));
        }
        if loss.form == Form::Kto && config.batch < 2 {
            return Err(Error::usage("kto needs a batch of 2 rows or more"));
        }
        match config.head() {
            None if config.head.is_some() => {
                return Err(Error::usage("`head` belongs to method = \"reward\""));
            }
            Some(HeadKind::Outcome | HeadKind::Process)
                if config.loss != Changes::default() || config.judge != Judge::All =>
            {
                return Err(Error::usage("`loss` and `judge` are of pairs, and this head judges single answers"));
            }
            _ => {}
        }
        if config.limit == Some(0) {
            return Err(Error::usage("`limit` is 0, and nothing would be left"));
        }
        config.settings(0).check()
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        // The trainer draws nothing but the order of the groups.
        let (settings, loss) = (config.settings(cx.seed_of("data")), config.loss()?);
        let mut model = cx.model(&config.model)?;
        let all = model.decoder.parameter_count();
        config.trainable().begin(&mut model, cx)?;
        let head = config.head().map(|kind| RewardHead::new(kind, model.decoder.config.hidden));
        let heads = head.iter().flat_map(|h| h.params());
        let trained: usize = model.decoder.params().into_iter().chain(heads).map(|p| p.len()).sum();
        let read = config.read(&model, config.reading(&loss), cx)?;

        let dir = RunDir::held(&cx.out)?;
        let begun = dir.latest()?.map_or(0, |p| p.step);
        let mut events = JsonlSink::resume(&cx.out.join(METRICS_FILE), begun)?;
        let mut sink = |e: &Event| events.emit(e);
        let outcome = Preference {
            decoder: &model.decoder,
            settings: &settings,
            loss,
            head: head.as_ref(),
            groups: &read.groups,
            held_out: &[],
            sink: &mut sink,
            cancel: cx.cancel.clone(),
            progress: cx.progress,
            dir: Some(&dir),
        }
        .run()?;
        if outcome.ended == Ended::Budget {
            return Err(Error::cancelled().help("the time is spent; the stage goes on from its last checkpoint"));
        }
        config.trainable().save(&mut model, cx)?;
        if let Some(head) = &head {
            head.save(&cx.out.join(HEAD))?;
        }
        cx.spend("updates", outcome.steps);
        cx.spend("examples", outcome.steps * settings.batch as u64);
        cx.spend("tokens", outcome.tokens);
        let once: usize = read.groups.iter().map(|g| g.tokens()).sum();
        let compared = if loss.reference { 2 * all * once } else { 0 };
        // KTO's baseline: two more passes forward.
        let crossed = if loss.form == Form::Kto && loss.reference { 4 * all as u64 * outcome.tokens } else { 0 };
        cx.spend("flops", flops(outcome.tokens, all, trained) + compared as u64 + crossed);
        let mut metrics = last_step(cx)?;
        let share = trained as f64 / all as f64;
        let more = json!({"groups": read.groups.len(), "over_long": read.over_long, "trained": trained, "share": share,
            "tokens": outcome.tokens});
        metrics.extend(more.as_object().cloned().unwrap_or_default());
        cx.write_rows(&[Item { item: "run".into(), cluster: None, metrics }])?;
        sweep(cx)
    }
}

/// What the last update came to, by the log: a stage that was killed after it has nothing else left.
fn last_step(cx: &Cx) -> Result<Map<String, Value>> {
    let mut figures = Map::new();
    for event in jsonl::read::<Event>(&cx.out.join(METRICS_FILE))? {
        let (_, event) = event?;
        if event.kind == "step" {
            let wanted = ["loss", "right", "margin", "better_log_prob", "worse_log_prob"];
            let all = event.fields.into_iter().filter(|(name, _)| wanted.contains(&name.as_str()));
            figures = all.collect();
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests;
