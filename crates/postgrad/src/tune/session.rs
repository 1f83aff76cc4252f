//! A run from its folder's lock to its report: what `tune` and `quickstart` share.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use postgrad_base::cancel::Cancel;
use postgrad_base::event::{Event, Sink};
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Kind, Result};
use postgrad_lab::store::ActiveRun;
use postgrad_lab::{Item, NewRun, Report, Status, Store, run_report};
use postgrad_nn::Decoder;
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::delta::Delta;
use postgrad_nn::select::Selection;
use postgrad_numerics::wilson;
use postgrad_reason::ModelFolder;
use postgrad_tensor::{par, simd};
use postgrad_train::evaluate::{EvalSet, Judge};
use postgrad_train::run_dir::{RunDir, places};
use postgrad_train::{ExampleSource, Outcome, Settings, Sft};
use serde_json::{Value, json};

use crate::machine;
use crate::tune::examples::EvalData;
use crate::tune::made_path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuned {
    Full,
    Lora,
}

/// All that a run needs beside its model and data.
pub struct Session<'a> {
    pub kind: &'a str,
    pub name: &'a str,
    /// The resolved configuration, for the store.
    pub config: Value,
    pub data: String,
    /// The run's folder; `None` for a new one.
    pub folder: Option<&'a Path>,
    pub settings: &'a Settings,
    pub trained: Tuned,
    pub warnings: Vec<String>,
    pub cancel: Cancel,
    pub progress: Mode,
    pub merge: bool,
    /// Write what differs from the base too, as a sparse delta.
    pub delta: bool,
    pub dtype: Dtype,
}

/// What a run left.
pub struct Done {
    pub id: String,
    pub outcome: Outcome,
    pub made: PathBuf,
    pub report: PathBuf,
    /// The first and the last evaluation.
    pub evals: Vec<Event>,
}

impl Done {
    /// Loss and accuracy before and after, in one line.
    pub fn summary(&self) -> String {
        let [first, .., last] = &self.evals[..] else { return "no evaluation set".into() };
        let number = |e: &Event, key: &str| e.fields.get(key).and_then(Value::as_f64);
        let mut parts = Vec::new();
        if let (Some(a), Some(b)) = (number(first, "loss"), number(last, "loss")) {
            parts.push(format!("loss {a:.4} -> {b:.4}"));
        }
        let share = |e: &Event| {
            let (accuracy, n) = (number(e, "accuracy")?, number(e, "n")?);
            let w = wilson((accuracy * n).round() as usize, n as usize, 0.95);
            Some(format!("{:.1}% [{:.1}, {:.1}] of {n}", 100.0 * w.value, 100.0 * w.low, 100.0 * w.high))
        };
        if let (Some(a), Some(b)) = (share(first), share(last)) {
            parts.push(format!("accuracy {a} -> {b}"));
        }
        parts.join(", ")
    }

    pub fn to_json(&self) -> Value {
        let o = &self.outcome;
        json!({"run": self.id, "steps": o.steps, "ended": o.ended, "loss": o.loss, "tokens": o.tokens,
            "tokens_per_s": o.tokens_per_s, "best": o.best.map(|(value, step)| json!({"value": value, "step": step})),
            "model": self.made, "report": self.report,
            "evals": self.evals.iter().map(|e| json!({"step": e.step, "fields": e.fields})).collect::<Vec<_>>()})
    }
}

impl Session<'_> {
    /// Trains, writes the tuned model and the report. A folder that holds an unfinished run of the same settings is gone on
    /// with from its last checkpoint.
    pub fn run(
        &self,
        store: &Store,
        model: &mut ModelFolder,
        source: &mut dyn ExampleSource,
        evals: &mut [EvalData],
        select: Option<&mut Selection>,
    ) -> Result<Done> {
        self.run_with(store, model, |active, model| self.train(store, active, model, source, evals, select))
    }

    /// [`Session::run`] with another trainer.
    pub fn run_with(
        &self,
        store: &Store,
        model: &mut ModelFolder,
        train: impl FnOnce(&ActiveRun, &ModelFolder) -> Result<Outcome>,
    ) -> Result<Done> {
        let active = self.begin(store, model)?;
        let (id, folder) = (active.run.id.clone(), active.run.folder.clone());
        let outcome = match train(&active, model) {
            Ok(outcome) => outcome,
            Err(e) => {
                let status = if e.kind() == Kind::Cancelled { Status::Killed } else { Status::Failed };
                active.finish(status, Some(e.what()))?;
                return Err(e.at(format!("run {id}, {}", folder.display())));
            }
        };
        let made = self.write(model, &folder)?;
        active.finish(Status::Done, Some(&made.display().to_string()))?;
        let report = folder.join("report.html");
        self.page(store, &id)?.save(&report)?;
        let mut evals = store.events(&id, Some("eval"))?;
        evals.sort_by_key(|e| e.step);
        Ok(Done { id, outcome, made, report, evals })
    }

    fn begin(&self, store: &Store, model: &ModelFolder) -> Result<ActiveRun> {
        if let Some(folder) = self.folder
            && folder.exists()
            && let Some(run) = store.by_folder(&folder.canonicalize().unwrap_or(folder.to_path_buf()))?
        {
            if run.status == Status::Done {
                return Err(Error::usage(format!("the run {} in this folder is finished", run.id))
                    .at(folder.display())
                    .help("give another --out"));
            }
            self.same_run(&run.about.config).map_err(|e| e.at(format!("run {}, {}", run.id, run.folder.display())))?;
            let step = places(&run.folder).ok().and_then(|p| p.last().map(|p| p.step)).unwrap_or(0);
            return store.resume(&run.id, step);
        }
        let new = NewRun {
            // Ids are plain words: `reinforce++` is kept as `reinforce-pp`.
            kind: self.kind.replace("++", "-pp"),
            name: self.name.into(),
            config: self.config.clone(),
            model: model.name.clone(),
            data: self.data.clone(),
            seed: self.settings.seed,
            commit: None,
            simd: simd::level().name().into(),
            threads: par::threads(),
            machine: format!("{}, {} cores", machine::cpu_model(), machine::cores()),
        };
        store.start(&new, self.folder)
    }

    /// Refuses to go on with a run of another model, other data or another adapter. (Settings of the training loop are
    /// compared with the checkpoint's.)
    fn same_run(&self, was: &Value) -> Result<()> {
        // Through text, as the stored one came: a float may lose its last digit there.
        let is: Value = serde_json::from_str(&self.config.to_string()).unwrap_or_default();
        let differs = |(key, value): &(&String, &Value)| *key != "settings" && was[key.as_str()] != **value;
        match is.as_object().into_iter().flatten().find(differs) {
            None => Ok(()),
            Some((key, value)) => {
                Err(Error::usage(format!("this run was begun with {key} {}, not {value}", was[key.as_str()]))
                    .help("give the same flags to go on with it, or another --out"))
            }
        }
    }

    fn train(
        &self,
        store: &Store,
        active: &ActiveRun,
        model: &ModelFolder,
        source: &mut dyn ExampleSource,
        evals: &mut [EvalData],
        select: Option<&mut Selection>,
    ) -> Result<Outcome> {
        let mut sink = active.sink()?;
        let dir = RunDir::held(&active.run.folder)?;
        self.warn(&dir, &mut *sink)?;
        let evals: &[EvalData] = evals;
        let verdicts: RefCell<Vec<Vec<bool>>> = RefCell::new(Vec::new());
        let judges: Vec<_> = evals
            .iter()
            .map(|e| {
                |d: &Decoder| {
                    let marks = e.judge(model, d, &self.cancel)?;
                    verdicts.borrow_mut().push(marks.clone());
                    Ok(marks)
                }
            })
            .collect();
        let sets = evals
            .iter()
            .zip(&judges)
            .map(|(e, judge)| EvalSet {
                name: "eval".into(),
                examples: e.examples.clone(),
                accuracy: (e.answers() > 0).then_some(judge as Judge),
            })
            .collect();
        let sampler = |d: &Decoder| evals.first().map_or(Ok(vec![]), |e| e.samples(model, d, 4, &self.cancel));
        let outcome = Sft {
            decoder: &model.decoder,
            settings: self.settings,
            groups: None,
            source,
            evals: sets,
            sink: &mut *sink,
            cancel: self.cancel.clone(),
            progress: self.progress,
            dir: Some(&dir),
            sampler: Some(&sampler),
            select,
            edit_grads: None,
            constrain: None,
        }
        .run()?;
        drop(sink);
        self.put_items(store, &active.run.id, &verdicts.into_inner())?;
        Ok(outcome)
    }

    /// Keeps the run's warnings, when it begins.
    pub fn warn(&self, dir: &RunDir, sink: &mut dyn Sink) -> Result<()> {
        if dir.latest()?.is_none() {
            for w in &self.warnings {
                sink.emit(&Event::new("warning", 0).with("text", w))?;
            }
        }
        Ok(())
    }

    /// Keeps each question's verdict under the step it was judged at, so that changes can be paired. The verdicts of this
    /// process are those of the last evaluations.
    pub fn put_items(&self, store: &Store, id: &str, verdicts: &[Vec<bool>]) -> Result<()> {
        let evals = store.events(id, Some("eval"))?;
        for (event, marks) in evals.iter().rev().zip(verdicts.iter().rev()) {
            let item = |(i, right): (usize, &bool)| Item {
                item: i.to_string(),
                cluster: None,
                metrics: [("accuracy".to_string(), json!(f64::from(*right)))].into_iter().collect(),
            };
            let items: Vec<Item> = marks.iter().enumerate().map(item).collect();
            store.put_items(id, "eval", event.step, &items)?;
        }
        Ok(())
    }

    /// Writes what was made: an adapter (and the merged model, if asked), or the model.
    fn write(&self, model: &mut ModelFolder, folder: &Path) -> Result<PathBuf> {
        let made = made_path(folder, self.trained);
        match self.trained {
            Tuned::Full => {
                model.save(&made, self.dtype)?;
                if self.delta {
                    let base = ModelFolder::load(&model.dir)?;
                    let delta = Delta::between(&base.decoder.weights, &model.decoder.weights)?;
                    delta.save(&folder.join("delta.safetensors"))?;
                }
            }
            Tuned::Lora => {
                let adapter = model.decoder.adapters.last().expect("a LoRA run trains an adapter").clone();
                let base = model.dir.canonicalize().unwrap_or_else(|_| model.dir.clone());
                model.save_adapter(&adapter, &made, &base.display().to_string())?;
                if self.merge {
                    let mut merged = model.clone();
                    for adapter in std::mem::take(&mut merged.decoder.adapters) {
                        adapter.merge_into(&mut merged.decoder.weights, 1.0)?;
                    }
                    merged.save(&folder.join("merged"), self.dtype)?;
                }
            }
        }
        Ok(made)
    }

    fn page(&self, store: &Store, id: &str) -> Result<Report> {
        let mut page = run_report(store, id)?;
        page.footer = format!("postgrad {}", env!("CARGO_PKG_VERSION"));
        Ok(page)
    }
}
