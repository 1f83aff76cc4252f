//! `rl`: reinforcement fine-tuning on prompts with rewards, by any method of `tune --method grpo` and its family.
//!
//! The result holds `model/` or `adapter/`; `step-N/`, the same as it was after N updates, for each N of `snapshots`;
//! `metrics.jsonl` with every update; and one row an iteration: `step`, `late` (of the last tenth of the run), `reward`,
//! `length`, `entropy`, `truncated`, `even_groups`, `kl` and what else the trainer reports, `trained` parameters. A killed
//! stage goes on from its last checkpoint. Budgets count the samples that updates saw: under dynamic sampling (dapo) those that
//! were drawn and left out are in `tokens` alone. `with` lays single settings over the method's published ones:
//! `with = { group = 4, objective = { kl = 0.0 } }`.

use std::path::Path;
use std::time::Duration;

use postgrad_base::event::{Event, Sink};
use postgrad_base::{Error, Result, jsonl};
use postgrad_data::record::Layout;
use postgrad_nn::Decoder;
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::optim::Kind as Optimizer;
use postgrad_nn::schedule::Decay;
use postgrad_reason::ModelFolder;
use postgrad_train::prompts;
use postgrad_train::rewards::{Limits, Rewards};
use postgrad_train::rl::{CurriculumSpec, Extras, Method, OnPolicy, Supervised};
use postgrad_train::run_dir::RunDir;
use postgrad_train::sft::Ended;
use postgrad_train::{Checkpoints, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::sink::{JsonlSink, METRICS_FILE};
use crate::stage::{Cx, Input, Stage};
use crate::stages::tuning::{Inputs, Lora, Trainable, batch, examples, micro_tokens, one, sweep, warmup};
use crate::store::Item;

pub struct Rl;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    /// Problems of a task, or rows with a reference answer.
    pub data: Input,
    /// As `--method` takes it: grpo, dr-grpo, dapo, rloo, reinforce++, ppo, expert-iteration, ...
    #[serde(default = "grpo")]
    pub method: String,
    /// Settings laid over those of the method.
    #[serde(default)]
    pub with: Map<String, Value>,
    /// As `--reward` takes them.
    #[serde(default = "correct")]
    pub rewards: Vec<String>,
    /// A fresh adapter in place of the weights themselves.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Name patterns of the weights that are trained (all).
    #[serde(default)]
    pub train: Vec<String>,
    /// Updates; rounded up to whole iterations.
    pub steps: u64,
    /// Prompts an iteration.
    #[serde(default = "batch")]
    pub batch: usize,
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
    /// Which prompts come next, as `--curriculum` takes it: passes, `ordered?by=steps`, `sec?by=steps`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<String>,
    /// Supervised updates between the iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervised: Option<Lessons>,
    /// A control: each iteration's rewards are dealt out anew among its samples.
    #[serde(default)]
    pub shuffle_rewards: bool,
    /// Updates after which the model is kept as `step-N`; an iteration that passes one keeps it at its end.
    #[serde(default)]
    pub snapshots: Vec<u64>,
    /// Stop where nearly all samples are cut off, or nearly all groups have equal rewards.
    #[serde(default)]
    pub guard: bool,
    #[serde(default = "micro_tokens")]
    pub micro_tokens: usize,
}

/// Examples to learn from between iterations.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lessons {
    pub data: Inputs,
    /// Iterations between two updates.
    #[serde(default = "every")]
    pub every: u64,
    /// Examples an update.
    #[serde(default = "batch")]
    pub batch: usize,
}

fn every() -> u64 {
    1
}
fn grpo() -> String {
    "grpo".into()
}
fn correct() -> Vec<String> {
    vec!["correct".into()]
}
fn constant() -> Decay {
    Decay::Constant
}

/// How long a reward's program may take for one rollout.
const COMMAND: Duration = Duration::from_secs(120);

impl Config {
    fn method(&self) -> Result<Method> {
        let mut all = serde_json::to_value(Method::named(&self.method)?).expect("plain data");
        lay_over(&mut all, &Value::Object(self.with.clone()));
        let method: Method = crate::stage::read(&all).map_err(|f| f.error.at(format!("with.{}", f.path)))?;
        let method = method.settle();
        method.check()?;
        Ok(method)
    }

    fn rewards(&self, max_tokens: usize) -> Result<Rewards> {
        Rewards::parse(&self.rewards, Limits { max_tokens, command: COMMAND })
    }

    fn trainable(&self) -> Trainable<'_> {
        let Self { model, lora, train, .. } = self;
        Trainable { model, lora: lora.as_ref(), train, freeze: &[], select: None }
    }

    fn curriculum(&self) -> Result<Option<CurriculumSpec>> {
        self.curriculum.as_deref().map(CurriculumSpec::parse).transpose()
    }

    fn settings(&self, seed: u64) -> Settings {
        let base = if self.lora.is_some() { Settings::lora() } else { Settings::full() };
        Settings {
            seed,
            steps: Some(self.steps),
            batch: self.batch,
            micro_tokens: self.micro_tokens,
            lr: self.lr.unwrap_or(if self.lora.is_some() { 1e-5 } else { 1e-6 }),
            warmup: self.warmup,
            decay: self.decay,
            floor: self.floor,
            weight_decay: self.weight_decay,
            optimizer: self.optimizer,
            clip: (self.clip != 0.0).then_some(self.clip),
            checkpoints: Checkpoints::Every(25),
            keep: 1,
            ..base
        }
    }
}

/// Tables key by key, everything else whole.
fn lay_over(to: &mut Value, from: &Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                lay_over(to.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from.clone(),
    }
}

impl Stage for Rl {
    const NAME: &'static str = "rl";
    const ABOUT: &'static str = "reinforcement fine-tuning: sample, reward, update";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["tune", "sample"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        let method = config.method()?;
        method.fits(&config.rewards(method.max_tokens)?)?;
        config.curriculum()?;
        if let Some(late) = config.snapshots.iter().find(|n| **n > config.steps) {
            return Err(Error::usage(format!("a snapshot at step {late} of {}", config.steps)));
        }
        config.settings(0).check()
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        // Order of prompts, samples and minibatches come from one seed; where `sample` varies with the seed, all of them do.
        let settings = config.settings(cx.seed_of("sample"));
        let method = config.method()?;
        let mut model = cx.model(&config.model)?;
        let room = model.decoder.config.max_position_embeddings.checked_sub(method.max_tokens).filter(|r| *r > 0);
        let room = room.ok_or_else(|| {
            let context = model.decoder.config.max_position_embeddings;
            Error::usage(format!("`max_tokens` is {}, the model's context {context}", method.max_tokens))
        })?;
        let files: Vec<String> = cx.files(&config.data, "records")?.iter().map(|f| f.display().to_string()).collect();
        let prompts = prompts::read(&files, &Layout::default(), &model.renderer, room)?;
        let mut rewards = config.rewards(method.max_tokens)?;
        let curriculum = config.curriculum()?.map(|c| c.over(&prompts, settings.seed)).transpose()?;
        let lessons = match &config.supervised {
            Some(l) => examples(&model, &l.data, settings.max_len, cx)?,
            None => vec![],
        };
        let of = |l: &Lessons| Supervised { examples: &lessons, every: l.every, batch: l.batch };
        let supervised = config.supervised.as_ref().map(of);
        let all = model.decoder.parameter_count();
        config.trainable().begin(&mut model, cx)?;
        let trained: usize = model.decoder.params().iter().map(|p| p.len()).sum();

        let dir = RunDir::held(&cx.out)?;
        let begun = dir.latest()?.map_or(0, |p| p.step);
        let mut events = JsonlSink::resume(&cx.out.join(METRICS_FILE), begun)?;
        let mut passed = begun;
        let watch = |step: u64, decoder: &Decoder| {
            let due: Vec<u64> = config.snapshots.iter().copied().filter(|n| (passed + 1..=step).contains(n)).collect();
            passed = step;
            due.into_iter().try_for_each(|n| save(&model, decoder, &cx.out.join(format!("step-{n}"))))
        };
        let (outcome, _) = OnPolicy {
            model: &model,
            settings: &settings,
            method: &method,
            prompts: &prompts,
            rewards: &mut rewards,
            exam: None,
            shuffle_rewards: config.shuffle_rewards,
            guard: config.guard,
            sink: &mut |e: &Event| events.emit(e),
            cancel: cx.cancel.clone(),
            progress: cx.progress,
            dir: Some(&dir),
            extras: Extras { watch: Some(Box::new(watch)), curriculum, supervised },
        }
        .run()?;
        if outcome.ended == Ended::Budget {
            return Err(Error::cancelled().help("the time is spent; the stage goes on from its last checkpoint"));
        }
        drop(events);
        let name = if config.lora.is_some() { "adapter" } else { "model" };
        save(&model, &model.decoder, &cx.out.join(name))?;
        let rows = rows(&cx.out.join(METRICS_FILE), outcome.steps, trained)?;
        let of = |row: &Item, key: &str| row.metrics.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let samples = (config.batch * method.group) as f64;
        cx.spend("updates", outcome.steps);
        cx.spend("examples", rows.len() as u64 * samples as u64);
        cx.spend("tokens", outcome.tokens);
        cx.spend("sampled_tokens", rows.iter().map(|r| samples * of(r, "length")).sum::<f64>().round() as u64);
        // Sampled once (2 N a token), read once for the gradients (2 N), and back (2 N, and 2 of what is trained).
        cx.spend("flops", outcome.tokens * (6 * all + 2 * trained) as u64);
        cx.write_rows(&rows)?;
        sweep(cx)
    }
}

/// The adapter that is trained, or the whole model.
fn save(model: &ModelFolder, decoder: &Decoder, to: &Path) -> Result<()> {
    let now = ModelFolder { decoder: decoder.clone(), ..model.clone() };
    let Some(adapter) = decoder.adapters.last() else { return now.save(to, Dtype::F32) };
    let base = std::path::absolute(&model.dir).unwrap_or_else(|_| model.dir.clone());
    now.save_adapter(adapter, to, &base.display().to_string())
}

/// One row an iteration, from the event of its last update.
fn rows(metrics: &Path, steps: u64, trained: usize) -> Result<Vec<Item>> {
    let mut rows = Vec::new();
    for event in jsonl::read::<Event>(metrics)? {
        let (_, event) = event?;
        if event.kind != "step" || !event.fields.contains_key("reward") {
            continue;
        }
        let mut metrics = Map::new();
        metrics.insert("step".into(), json!(event.step));
        metrics.insert("late".into(), json!(event.step * 10 > steps * 9));
        metrics.insert("trained".into(), json!(trained));
        // Rates of the machine are not the experiment's.
        let counts =
            |(key, value): &(&String, &Value)| (value.is_number() || value.is_boolean()) && !key.ends_with("_per_s");
        // Names of columns have no dots.
        metrics.extend(event.fields.iter().filter(counts).map(|(k, v)| (k.replace('.', "_"), v.clone())));
        rows.push(Item { item: format!("step-{:05}", event.step), cluster: None, metrics });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, digest, golden};
    use postgrad_base::cancel::Cancel;
    use postgrad_base::progress::Mode;

    fn inputs(dir: &Path) -> [(&'static str, Place); 2] {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let file = dir.join("a.jsonl");
        let row = |i: usize| format!("{{\"prompt\":\"{i}+2?\",\"completion\":\"{}\"}}\n", i + 2);
        std::fs::write(&file, (2..9).map(row).collect::<String>()).unwrap();
        [("base", Place::Model(model)), ("data", Place::Data(vec![file.display().to_string()]))]
    }

    /// Rewards of words that are not repeated, so that an untrained model has something to learn from.
    fn config(more: Value) -> Value {
        let mut all = json!({"model": "@base", "data": "@data", "rewards": ["repetition?n=1"], "steps": 4,
            "batch": 2, "lr": 1e-3, "with": {"group": 4, "max_tokens": 12}});
        lay_over(&mut all, &more);
        all
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path());
        golden(&Kind::of::<Rl>(), &config(json!({"snapshots": [2]})), &inputs, "f38127c64a62a6db");
    }

    #[test]
    fn a_run_has_a_row_an_iteration_and_the_snapshots_that_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path());
        let out = dir.path().join("out");
        let more =
            json!({"snapshots": [2, 4], "lora": {"rank": 2}, "method": "rloo", "with": {"objective": {"kl": 0.0}}});
        let cx = alone(&Kind::of::<Rl>(), &config(more), &inputs, 0, &out).unwrap();
        let rows = crate::stage::read_rows(&out.join("rows.jsonl")).unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[3].metrics["late"].as_bool(), rows[2].metrics["late"].as_bool()), (Some(true), Some(false)));
        assert!(rows.iter().all(|r| r.metrics["length"].as_f64().unwrap() <= 12.0 && !r.metrics.contains_key("kl")));
        assert_eq!((cx.spent()["updates"], cx.spent()["examples"]), (4, 32));
        let of = |name: &str| {
            let model = ModelFolder::load(&out.join(name)).unwrap();
            model.decoder.adapters[0].modules.values().map(|m| m.norm()).sum::<f64>()
        };
        assert!(of("step-2") > 0.0 && of("step-2") != of("adapter") && of("step-4") == of("adapter"));
        assert!(!out.join("checkpoints").exists());
    }

    #[test]
    fn a_stopped_stage_goes_on_to_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path());
        let config = config(json!({"steps": 60, "snapshots": [10, 50]}));
        let [whole, broken] = ["whole", "broken"].map(|n| dir.path().join(n));
        let cx = alone(&Kind::of::<Rl>(), &config, &inputs, 0, &whole).unwrap();
        std::fs::create_dir_all(&broken).unwrap();
        let cancel = Cancel::new();
        let named = inputs.iter().map(|(n, p)| (n.to_string(), p.clone()));
        let stopped = Cx::new(0, broken.clone(), named, cancel.clone(), Mode::Quiet);
        let resolved = (Kind::of::<Rl>().resolve)(&config).map_err(|f| f.error).unwrap();
        let e = std::thread::scope(|s| {
            let metrics = broken.join(METRICS_FILE);
            s.spawn(move || {
                while !std::fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() > 15) {
                    std::thread::yield_now();
                }
                cancel.cancel();
            });
            Kind::of::<Rl>().run(&resolved, &stopped).unwrap_err()
        });
        assert_eq!(e.kind(), postgrad_base::Kind::Cancelled, "{e}");
        let again = alone(&Kind::of::<Rl>(), &config, &inputs, 0, &broken).unwrap();
        assert_eq!(digest(&broken).unwrap(), digest(&whole).unwrap());
        assert_eq!(again.spent(), cx.spent());
    }

    #[test]
    fn wrong_configurations_say_so() {
        for (bad, says) in [
            (json!({"method": "gpro"}), "gpro"),
            (json!({"with": {"gruop": 2}}), "gruop"),
            (json!({"with": {"objective": {"klp": 2}}}), "klp"),
            (json!({"with": {"group": 1}}), "no baseline"),
            (json!({"rewards": ["corect"]}), "corect"),
            (json!({"snapshots": [5]}), "step 5 of 4"),
        ] {
            let fault = (Kind::of::<Rl>().resolve)(&config(bad.clone())).unwrap_err();
            assert!(fault.error.to_string().contains(says), "{bad} {}", fault.error);
        }
    }
}
