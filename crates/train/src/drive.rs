//! The loop of a trainer whose updates are functions of the weights, the seed and the step: schedule, checkpoints, evaluation,
//! budget, patience, resume. A run killed and gone on with ends in the same bits.

use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::event::{Event, Sink};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Error, Result, Stream};
use postgrad_nn::decoder::Decoder;
use postgrad_nn::optim::Optimizer;
use postgrad_tensor::Param;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::keep;
use crate::rl::curriculum::passes;
use crate::run_dir::{Place, RunDir};
use crate::settings::Settings;
use crate::sft::{Ended, Outcome};

/// What a trainer does at a step.
pub(crate) trait Work {
    /// Forward and backward of the update that follows `step` updates; gradients are left in the parameters.
    fn update(&mut self, step: u64) -> Result<Update>;

    /// The figures of an evaluation and what to say of them; none where nothing is held out.
    fn evaluate(&mut self) -> Result<Option<(Map<String, Value>, String)>>;
}

/// What one update came to.
#[derive(Default)]
pub(crate) struct Update {
    pub loss: f64,
    /// Tokens read.
    pub tokens: u64,
    /// For its event.
    pub fields: Map<String, Value>,
    /// For the progress line.
    pub told: String,
}

/// A run, ready to be driven.
pub(crate) struct Drive<'a> {
    pub decoder: &'a Decoder,
    /// All that is trained, heads included.
    pub params: Vec<Param>,
    pub settings: &'a Settings,
    /// What decides the weights; a resumed run must have the same.
    pub fingerprint: String,
    pub total: u64,
    pub sink: &'a mut dyn Sink,
    pub cancel: Cancel,
    pub progress: Mode,
    pub dir: Option<&'a RunDir>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    step: u64,
    tokens: u64,
    best: Option<(f64, u64)>,
    worse: u64,
    settings: String,
    total: u64,
    /// Loss of the last update, as bits (text may lose a float's last digit).
    #[serde(default)]
    loss: Option<u64>,
}

impl Drive<'_> {
    /// Runs to the end, from the last checkpoint of the folder where there is one.
    pub fn run(mut self, work: &mut dyn Work) -> Result<Outcome> {
        let mut optimizer = Optimizer::new(self.params.clone(), keep::groups(self.settings))?;
        let (settings, total) = (self.fingerprint.clone(), self.total);
        let mut state = State { step: 0, tokens: 0, best: None, worse: 0, settings, total, loss: None };
        if let Some(saved) = self.dir.map(RunDir::latest).transpose()?.flatten() {
            state = self.restore(&saved, &mut optimizer)?;
        }
        let schedule = self.settings.schedule(state.total);
        let mut progress = Progress::new(self.progress, "tune", state.total);
        progress.start_at(state.step);
        let (started, first_step, first_tokens) = (Instant::now(), state.step, state.tokens);
        let (mut ended, mut train_time) = (Ended::Done, 0.0);
        if state.step == 0 {
            self.evaluate(work, &mut state, &progress)?;
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
            let lr = self.settings.lr * schedule.factor(state.step);
            let update = work.update(state.step)?;
            let bad = |what| keep::not_finite(self.decoder, &optimizer, self.dir, state.step, what);
            if !update.loss.is_finite() {
                return Err(bad("the loss"));
            }
            if !optimizer.grad_norm().is_finite() {
                return Err(bad("a gradient"));
            }
            let stats = optimizer.step(lr, self.settings.clip);
            state.step += 1;
            state.tokens += update.tokens;
            state.loss = Some(update.loss.to_bits());
            let seconds = step_started.elapsed().as_secs_f64();
            train_time += seconds;
            let mut event = Event::new("step", state.step)
                .with("loss", update.loss)
                .with("lr", lr)
                .with("grad_norm", stats.grad_norm)
                .with("clipped", stats.clipped)
                .with("tokens", state.tokens)
                .with("tokens_per_s", (update.tokens as f64 / seconds).round());
            event.fields.extend(update.fields);
            self.sink.emit(&event)?;
            progress.set(state.step, &format!("loss {:.4}  lr {lr:.1e}{}", update.loss, update.told));
            let last = state.step == state.total;
            let due = self.settings.eval_every.is_some_and(|n| state.step.is_multiple_of(n.max(1)));
            let better = if due || last { self.evaluate(work, &mut state, &progress)? } else { false };
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
                self.evaluate(work, &mut state, &progress)?;
            }
            self.save(&state, &optimizer)?;
        }
        progress.finish();
        let rate = if state.step > first_step { (state.tokens - first_tokens) as f64 / train_time } else { 0.0 };
        let loss = state.loss.map_or(f64::NAN, f64::from_bits);
        Ok(Outcome { steps: state.step, ended, loss, tokens: state.tokens, tokens_per_s: rate, best: state.best })
    }

    fn restore(&mut self, saved: &Place, optimizer: &mut Optimizer) -> Result<State> {
        let state: State = saved.state()?;
        keep::same_settings(&state.settings, &self.fingerprint, saved)?;
        saved.load_params(&self.params)?;
        optimizer.restore(&saved.optimizer()?)?;
        self.sink.emit(&Event::new("resumed", state.step))?;
        Ok(state)
    }

    /// Measures what is held out; true where the named metric got better.
    fn evaluate(&mut self, work: &mut dyn Work, state: &mut State, progress: &Progress) -> Result<bool> {
        let Some((fields, told)) = work.evaluate()? else { return Ok(false) };
        progress.say(&format!("eval at step {}: {told}", state.step));
        let mut event = Event::new("eval", state.step).with("set", "eval");
        event.fields.extend(fields);
        self.sink.emit(&event)?;
        let metric = self.settings.best.as_deref().and_then(|b| b.strip_prefix("eval."));
        let value = metric.and_then(|m| Some((m, event.fields.get(m)?.as_f64()?)));
        let Some((metric, value)) = value else { return Ok(false) };
        let higher = metric == "accuracy";
        let improved = state.best.is_none_or(|(b, _)| if higher { value > b } else { value < b });
        if improved {
            state.best = Some((value, state.step));
            state.worse = 0;
        } else {
            state.worse += 1;
        }
        Ok(improved)
    }

    fn save(&mut self, state: &State, optimizer: &Optimizer) -> Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        let value: Value = serde_json::to_value(state).expect("plain data");
        let path = dir.save(state.step, &value, &self.params, optimizer)?;
        dir.prune(self.settings.keep, state.best.map(|(_, step)| step))?;
        self.sink.emit(&Event::new("checkpoint", state.step).with("path", path.display().to_string()))
    }
}

/// What an update of `batch` takes of `n` things: passes over them, shuffled anew each; one that ends in the middle goes over
/// into the next.
pub(crate) fn gather(seed: u64, n: usize, batch: usize, step: u64) -> Vec<usize> {
    let orders = Stream::new(seed, &["data", "order"]);
    passes(&orders, n, step * batch as u64, batch)
}
