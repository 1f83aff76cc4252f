//! Supervised fine-tuning: the loop from examples to updates.
//!
//! An update takes `batch` sequences, lays them end to end without padding (attention stays inside each), cuts them into
//! forward passes of at most `micro_tokens`, divides the summed loss of all of them by one normaliser, and follows the
//! update protocol: backward, `edit_grads`, clip, optimiser, `constrain`. Everything random is a function of the seed and the
//! step, so a run killed and resumed ends in the same bits. Inputs may be corrupted (see [`crate::corrupt`]); targets are not.
//!
//! Left out on purpose: what a run is stored in (events go to a sink), and data files (examples come from a source).

use std::sync::Arc;
use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::event::{Event, Sink};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Batch, Example};
use postgrad_nn::decoder::{Decoder, Pass, Walk};
use postgrad_nn::optim::{GroupSpec, Optimizer};
use postgrad_nn::select::Selection;
use postgrad_tensor::ops::{self, CeOptions};
use postgrad_tensor::{Param, backward};
use serde_json::{Value, json};

use crate::evaluate::{self, EvalSet};
use crate::run_dir::{Place, RunDir};
use crate::settings::{Normalizer, Settings};
use crate::source::ExampleSource;

/// Changes gradients before clipping, or parameters after an update; gets the step.
pub type Edit<'a> = &'a mut dyn FnMut(u64, &[Param]);

/// Texts sampled along the way: prompt and completion.
pub type Sampler<'a> = &'a dyn Fn(&Decoder) -> Result<Vec<(String, String)>>;

/// A supervised fine-tune, ready to run.
pub struct Sft<'a> {
    /// What is trainable in it is trained, in place.
    pub decoder: &'a Decoder,
    pub settings: &'a Settings,
    pub groups: Option<Vec<GroupSpec>>,
    pub source: &'a mut dyn ExampleSource,
    pub evals: Vec<EvalSet<'a>>,
    pub sink: &'a mut dyn Sink,
    pub cancel: Cancel,
    pub progress: Mode,
    /// Where checkpoints go; without one nothing is saved and nothing resumed.
    pub dir: Option<&'a RunDir>,
    pub sampler: Option<Sampler<'a>>,
    /// Which of the trainable parameters, or of their entries, each update changes; [`Selection::begin`] has prepared the
    /// decoder for it.
    pub select: Option<&'a mut Selection>,
    /// May change gradients before they are clipped.
    pub edit_grads: Option<Edit<'a>>,
    /// May change parameters after an update.
    pub constrain: Option<Edit<'a>>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Done,
    /// No better metric for `patience` evaluations.
    Patience,
    /// The wall-time budget is spent.
    Budget,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub steps: u64,
    pub ended: Ended,
    /// Loss of the last update.
    pub loss: f64,
    /// Tokens read, prompts included.
    pub tokens: u64,
    pub tokens_per_s: f64,
    /// The best value of the named metric and its step.
    pub best: Option<(f64, u64)>,
}

/// Where the loop stands; saved with every checkpoint.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct State {
    step: u64,
    epoch: u64,
    tokens: u64,
    best: Option<(f64, u64)>,
    worse: u64,
    source: Value,
    /// Loss of the last update, as bits (text may lose a float's last digit).
    #[serde(default)]
    loss: Option<u64>,
    /// Settings that decide the weights; a resumed run must have the same.
    settings: String,
    total: u64,
}

impl Sft<'_> {
    /// Runs to the end, from the last checkpoint of the folder where there is one.
    pub fn run(mut self) -> Result<Outcome> {
        self.settings.check()?;
        let groups = self.groups.take().unwrap_or_else(|| {
            let mut groups = GroupSpec::default_groups(self.settings.weight_decay);
            groups.iter_mut().for_each(|g| g.kind = self.settings.optimizer);
            groups
        });
        let mut optimizer = Optimizer::new(self.decoder.params(), groups)?;
        let total = self.total_steps()?;
        let mut state = State {
            step: 0,
            epoch: 0,
            tokens: 0,
            best: None,
            worse: 0,
            source: Value::Null,
            loss: None,
            settings: self.fingerprint(),
            total,
        };
        if let Some(saved) = self.dir.map(RunDir::latest).transpose()?.flatten() {
            state = self.restore(&saved, &mut optimizer)?;
        } else {
            self.source.start(0)?;
        }
        let total = state.total;
        let schedule = self.settings.schedule(total);
        let params = self.decoder.params();
        let mut progress = Progress::new(self.progress, "tune", state.total);
        progress.start_at(state.step);
        let (started, first_step, first_tokens) = (Instant::now(), state.step, state.tokens);
        let mut ended = Ended::Done;
        let mut loss = state.loss.map_or(f64::NAN, f64::from_bits);
        let mut train_time = 0.0;
        if state.step == 0 {
            self.evaluate(&mut state, &progress)?;
        }
        while state.step < state.total {
            if self.cancel.asked() {
                self.save(&state, &optimizer)?;
                return Err(Error::cancelled().help("run the same command again to go on from the last checkpoint"));
            }
            let spent = |limit: f64| started.elapsed().as_secs_f64() >= limit;
            if self.settings.budget.is_some_and(spent) || self.cancel.out_of_time() {
                ended = Ended::Budget;
                break;
            }
            let step_started = Instant::now();
            let examples = self.gather(&mut state.epoch)?;
            if let Some(select) = &mut self.select {
                select.before_pass(state.epoch, &mut optimizer)?;
            }
            let lr = self.settings.lr * schedule.factor(state.step);
            let (sum, tokens) = self.accumulate(&examples, state.step, total)?;
            loss = sum;
            if !loss.is_finite() {
                return Err(self.not_finite(&optimizer, state.step, "the loss"));
            }
            if let Some(edit) = &mut self.edit_grads {
                edit(state.step, &params);
            }
            if let Some(select) = &mut self.select {
                select.before_update(state.step, &mut optimizer)?;
            }
            // Looked at before the update, so that bad gradients never reach the weights.
            let norm = optimizer.grad_norm();
            if !norm.is_finite() {
                return Err(self.not_finite(&optimizer, state.step, "a gradient"));
            }
            let stats = optimizer.step(lr, self.settings.clip);
            if let Some(constrain) = &mut self.constrain {
                constrain(state.step, &params);
            }
            state.step += 1;
            state.tokens += tokens;
            state.loss = Some(loss.to_bits());
            let seconds = step_started.elapsed().as_secs_f64();
            train_time += seconds;
            self.sink.emit(
                &Event::new("step", state.step)
                    .with("loss", loss)
                    .with("lr", lr)
                    .with("grad_norm", stats.grad_norm)
                    .with("clipped", stats.clipped)
                    .with("epoch", state.epoch)
                    .with("tokens", state.tokens)
                    .with("tokens_per_s", (tokens as f64 / seconds).round()),
            )?;
            let rate = (state.tokens - first_tokens) as f64 / train_time;
            progress.set(state.step, &format!("loss {loss:.4}  lr {lr:.1e}  {} tokens/s", rate.round()));
            let last = state.step == state.total;
            let due = self.settings.eval_every.is_some_and(|n| state.step.is_multiple_of(n.max(1)));
            let better = if due || last { self.evaluate(&mut state, &progress)? } else { false };
            if last || better || self.settings.checkpoints.due(state.step, state.total) {
                self.save(&state, &optimizer)?;
            }
            if self.settings.patience.is_some_and(|p| state.worse >= p) {
                ended = Ended::Patience;
                break;
            }
        }
        if ended != Ended::Done {
            if ended == Ended::Budget {
                self.evaluate(&mut state, &progress)?;
            }
            self.save(&state, &optimizer)?;
        }
        progress.finish();
        let tokens = state.tokens - first_tokens;
        let rate = if state.step > first_step { tokens as f64 / train_time } else { 0.0 };
        Ok(Outcome { steps: state.step, ended, loss, tokens: state.tokens, tokens_per_s: rate, best: state.best })
    }

    fn total_steps(&self) -> Result<u64> {
        if let Some(steps) = self.settings.steps {
            return Ok(steps);
        }
        let n = self.source.len().ok_or_else(|| {
            Error::usage("the number of examples is not known, so epochs cannot be turned into steps")
                .help("give --steps")
        })?;
        if n == 0 {
            return Err(Error::usage("there is nothing to train on: no examples"));
        }
        Ok(((n as f64 * self.settings.epochs / self.settings.batch as f64).ceil() as u64).max(1))
    }

    /// Settings whose change would make a resumed run another run.
    fn fingerprint(&self) -> String {
        let s = self.settings;
        let mut all = json!({"seed": s.seed, "batch": s.batch, "micro_tokens": s.micro_tokens, "max_len": s.max_len, "lr": s.lr,
            "warmup": s.warmup, "decay": s.decay, "floor": s.floor, "weight_decay": s.weight_decay,
            "optimizer": s.optimizer, "clip": s.clip, "normalizer": s.normalizer, "corrupt": s.corrupt});
        if let Some(select) = &self.select {
            all["select"] = select.fingerprint();
        }
        all.to_string()
    }

    fn restore(&mut self, saved: &Place, optimizer: &mut Optimizer) -> Result<State> {
        let state: State = saved.state()?;
        let now = self.fingerprint();
        if state.settings != now {
            // Compared as text: a float read back from JSON may differ in its last digit.
            let [was, is] = [&state.settings, &now].map(|t| serde_json::from_str::<Value>(t).unwrap_or_default());
            let differing = is.as_object().into_iter().flatten().find(|(k, v)| was[k.as_str()] != **v);
            let what = differing.map_or_else(String::new, |(k, v)| format!(": {k} was {}, is {v}", was[k.as_str()]));
            return Err(Error::usage(format!("this folder holds a run with other settings{what}"))
                .at(saved.path().display())
                .help("give the same settings, or another folder"));
        }
        saved.load_params(&self.decoder.params())?;
        optimizer.restore(&saved.optimizer()?)?;
        self.source.restore(&state.source)?;
        self.sink.emit(&Event::new("resumed", state.step))?;
        Ok(state)
    }

    /// The next update's examples. A pass that ends in the middle goes over into the next.
    fn gather(&mut self, epoch: &mut u64) -> Result<Vec<Example>> {
        let mut examples = Vec::with_capacity(self.settings.batch);
        let mut fresh = false;
        while examples.len() < self.settings.batch {
            match self.source.next_example()? {
                Some(e) => {
                    evaluate::check_vocabulary(&e, self.decoder.config.vocab_size)?;
                    fresh = false;
                    examples.push(e);
                }
                None if fresh => {
                    return Err(Error::usage("there is nothing to train on: a whole pass gave no example"));
                }
                None => {
                    *epoch += 1;
                    self.source.start(*epoch)?;
                    fresh = true;
                }
            }
        }
        Ok(examples)
    }

    /// Forward and backward over all of an update's sequences: the normalised loss and the number of tokens read.
    fn accumulate(&mut self, examples: &[Example], step: u64, total: u64) -> Result<(f64, u64)> {
        let micros = cut(examples, self.settings.micro_tokens);
        let corrupt = self.settings.corrupt.as_ref();
        let mut spots = match corrupt {
            Some(c) => c.draw(examples, self.settings.seed, step, total)?.into_iter(),
            None => vec![].into_iter(),
        };
        let spots: Vec<Vec<_>> = micros.iter().map(|m| spots.by_ref().take(m.len()).collect()).collect();
        let batch = |(m, spots): (&Vec<&Example>, &Vec<_>)| corrupt.map_or_else(|| flat(m), |c| c.batch(m, spots));
        let batches = micros.iter().zip(&spots).map(batch).collect::<Result<Vec<_>>>()?;
        let normaliser = match self.settings.normalizer {
            Normalizer::Tokens => batches.iter().map(|b| b.trained() as f64).sum(),
            Normalizer::Examples => examples.len() as f64,
            Normalizer::Weights => batches.iter().map(Batch::weight_sum).sum(),
            Normalizer::Constant(c) => c,
        };
        if normaliser == 0.0 {
            return Err(Error::work("no token of this update is trained")
                .help("look at what is trained with `postgrad data show`"));
        }
        let mut loss = 0.0;
        let mut tokens = 0;
        let dropout = Stream::new(self.settings.seed, &["tune", "dropout"]).nth(step);
        for (i, batch) in batches.iter().enumerate() {
            let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
            pass.checkpoint = self.settings.checkpointing;
            pass.row_scales = adapter_scales(self.decoder, &micros[i], batch);
            pass.dropout = Some(dropout.nth(i as u64).next_u64());
            if let Some(c) = corrupt {
                c.hide(&mut pass, &micros[i], &spots[i], self.decoder);
            }
            loss += forward_backward(self.decoder, batch, &pass, normaliser);
            tokens += batch.tokens_real as u64;
        }
        Ok((loss, tokens))
    }

    fn not_finite(&self, optimizer: &Optimizer, step: u64, what: &str) -> Error {
        let bad = |values: &[f32]| values.iter().any(|x| !x.is_finite());
        let mut weights = self.decoder.weights.iter();
        let weight = weights.find(|(_, _, w)| bad(w.tensor().data())).map(|(_, name, _)| name.to_string());
        let tensor = weight.or_else(|| optimizer.not_finite());
        let tensor = tensor.unwrap_or_else(|| "the logits (all weights and gradients are finite)".into());
        let kept = self.dir.and_then(|d| d.latest().ok().flatten());
        let kept = match kept {
            Some(place) => format!("the last good checkpoint is {}", place.path().display()),
            None => "there is no checkpoint yet".into(),
        };
        Error::work(format!("{what} is not finite at step {}; {kept}", step + 1))
            .at(format!("first tensor that is not finite: {tensor}"))
            .help("lower the learning rate, or look for examples with odd contents")
    }

    /// Evaluates every set; true where the named metric got better.
    fn evaluate(&mut self, state: &mut State, progress: &Progress) -> Result<bool> {
        let mut better = false;
        for i in 0..self.evals.len() {
            let metrics = evaluate::run(self.decoder, &self.evals[i], self.settings.micro_tokens)?;
            progress.say(&format!("eval {} at step {}: {}", self.evals[i].name, state.step, metrics.line()));
            self.sink.emit(&metrics.event(&self.evals[i].name, state.step))?;
            let Some(named) = &self.settings.best else { continue };
            let Some((value, higher)) = metrics.named(&self.evals[i].name, named) else { continue };
            let improved = state.best.is_none_or(|(b, _)| if higher { value > b } else { value < b });
            if improved {
                state.best = Some((value, state.step));
                state.worse = 0;
                better = true;
            } else {
                state.worse += 1;
            }
        }
        if let Some(sampler) = self.sampler {
            for (prompt, text) in sampler(self.decoder)? {
                self.sink.emit(&Event::new("sample", state.step).with("prompt", prompt).with("text", text))?;
            }
        }
        Ok(better)
    }

    fn save(&mut self, state: &State, optimizer: &Optimizer) -> Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        let state = State { source: self.source.state(), ..state.clone() };
        let best = state.best.map(|(_, step)| step);
        let path = dir.save(
            state.step,
            &serde_json::to_value(&state).expect("plain data"),
            &self.decoder.params(),
            optimizer,
        )?;
        dir.prune(self.settings.keep, best)?;
        self.sink.emit(&Event::new("checkpoint", state.step).with("path", path.display().to_string()))
    }
}

/// One pass forward and backward: its summed loss over the normaliser.
pub(crate) fn forward_backward(decoder: &Decoder, batch: &Batch, pass: &Pass, normaliser: f64) -> f64 {
    let hidden = decoder.hidden(&batch.tokens, &Walk::Tape(pass));
    let (head, options) = (decoder.head(), CeOptions::default());
    let ce = ops::cross_entropy(&hidden, &head, &batch.targets, &batch.weights, normaliser as f32, options);
    drop(hidden);
    if ce.loss.needs_grad() {
        backward(&ce.loss);
    }
    ce.loss.item() as f64
}

/// Row factors of the adapters in training, where an example has a scale of its own; without trained adapters, of the last.
pub(crate) fn adapter_scales(decoder: &Decoder, examples: &[&Example], batch: &Batch) -> Vec<(String, Arc<[f32]>)> {
    if examples.iter().all(|e| e.adapter_scale.is_none()) {
        return vec![];
    }
    // A batch leaves empty examples out of its count.
    let scales: Vec<f32> = examples.iter().filter(|e| !e.is_empty()).map(|e| e.adapter_scale.unwrap_or(1.0)).collect();
    let rows: Arc<[f32]> = batch.example_of.iter().map(|e| scales.get(*e as usize).copied().unwrap_or(1.0)).collect();
    let trained: Vec<_> = decoder.adapters.iter().filter(|a| !a.params().is_empty()).collect();
    let scaled = if trained.is_empty() { decoder.adapters.last().into_iter().collect() } else { trained };
    scaled.into_iter().map(|a| (a.name.clone(), rows.clone())).collect()
}

/// Cuts examples, in order, into groups of at most `tokens` (one example at least).
pub fn cut(examples: &[Example], tokens: usize) -> Vec<Vec<&Example>> {
    let mut groups: Vec<Vec<&Example>> = Vec::new();
    let mut room = 0;
    for e in examples {
        match groups.last_mut() {
            Some(group) if e.len() <= room => {
                room -= e.len();
                group.push(e);
            }
            _ => {
                room = tokens.saturating_sub(e.len());
                groups.push(vec![e]);
            }
        }
    }
    groups
}

/// Sequences end to end in one row, no padding.
pub(crate) fn flat(examples: &[&Example]) -> Result<Batch> {
    let len = examples.iter().map(|e| e.len()).sum();
    Batch::from_rows(&[examples.to_vec()], len, 0)
}
