//! The on-policy trainer: sample, reward, update.
//!
//! An iteration draws `settings.batch` prompts and `method.group` samples of each from the policy as it is, rewards them, and
//! makes `epochs * minibatches` updates. Sequences are scored in passes of at most `micro_tokens`, without dropout. Where an
//! iteration makes one update, the old policy's log-probs are the policy's own, so that ratios are exactly 1; else they are
//! scored before the first update. An update without any gradient (no sample has an advantage) changes nothing and is counted.
//!
//! Checkpoints lie between iterations. An iteration is a function of the weights, the seed and its number, so a run killed
//! while sampling or in the middle of its updates ends in the same bits. Left out on purpose: samples of a policy that is
//! several updates old (asynchronous rollouts).
//!
//! This file has the loop; `rollout` has its first half, `update` its second.

use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::event::{Event, Sink};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Error, Kind, Result};
use postgrad_nn::decoder::Decoder;
use postgrad_nn::optim::Optimizer;
use postgrad_reason::ModelFolder;
use postgrad_tensor::Param;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::advantage::Baseline;
use super::curriculum::{Curriculum, Passes};
use super::rollout::Tried;
use super::settings::Method;
use super::supervised::Supervised;
use crate::head::ScalarHead;
use crate::keep;
use crate::prompts::Prompt;
use crate::reference::Reference;
use crate::rewards::Rewards;
use crate::run_dir::RunDir;
use crate::settings::Settings;
use crate::sft::{Ended, Outcome};

/// How many of some problems the policy gets right.
pub type Exam<'a> = &'a dyn Fn(&Decoder) -> Result<Vec<bool>>;

/// Is shown the policy after a number of updates.
pub type Watch<'a> = Box<dyn FnMut(u64, &Decoder) -> Result<()> + 'a>;

/// What a run may have besides; nothing, by default.
#[derive(Default)]
pub struct Extras<'a> {
    /// Called before the first iteration (step 0) and after each, before its checkpoint: an iteration that a kill makes run
    /// again is shown again. Its error stops the run.
    pub watch: Option<Watch<'a>>,
    /// Chooses prompts; without one, passes over all.
    pub curriculum: Option<Box<dyn Curriculum>>,
    /// Supervised updates between iterations.
    pub supervised: Option<Supervised<'a>>,
}

/// An on-policy run, ready to start. `settings.batch` counts prompts, its steps updates; its normaliser is not used.
pub struct OnPolicy<'a> {
    /// What is trainable in its decoder is trained, in place.
    pub model: &'a ModelFolder,
    pub settings: &'a Settings,
    pub method: &'a Method,
    pub prompts: &'a [Prompt],
    pub rewards: &'a mut Rewards,
    /// Asked before the first update, along the way and after the last.
    pub exam: Option<Exam<'a>>,
    /// A control: each iteration's rewards are dealt out anew among its samples.
    pub shuffle_rewards: bool,
    /// Stop after the first iterations where nearly all samples are cut off, or nearly all groups have equal rewards.
    pub guard: bool,
    pub sink: &'a mut dyn Sink,
    pub cancel: Cancel,
    pub progress: Mode,
    pub dir: Option<&'a RunDir>,
    pub extras: Extras<'a>,
}

/// Where the time of a run went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    pub rollout: f64,
    pub rewards: f64,
    pub log_probs: f64,
    pub update: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub step: u64,
    pub iteration: u64,
    pub tokens: u64,
    best: Option<(f64, u64)>,
    worse: u64,
    /// Prompts drawn so far.
    pub drawn: u64,
    rewards: Value,
    #[serde(default)]
    curriculum: Value,
    /// Examples of supervised updates drawn so far.
    #[serde(default)]
    pub supervised: u64,
    pub tried: Tried,
    settings: String,
    pub total: u64,
}

/// What a run holds besides its settings.
pub(super) struct Held {
    pub reference: Option<Reference>,
    pub head: Option<ScalarHead>,
    params: Vec<Param>,
    pub optimizer: Optimizer,
    pub curriculum: Box<dyn Curriculum>,
    pub progress: Progress,
    shares: Shares,
    /// Of the last update.
    pub loss: f64,
}

/// How updates follow one another: those on each rollout, and one supervised after every so many iterations.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    updates: u64,
    every: Option<u64>,
}

impl Pace {
    /// Updates of this many iterations.
    fn steps(self, iterations: u64) -> u64 {
        iterations * self.updates + self.every.map_or(0, |every| iterations / every)
    }

    /// Iterations that make this many updates at least.
    pub fn iterations(self, steps: u64) -> u64 {
        let Some(every) = self.every else { return steps.div_ceil(self.updates) };
        let period = every * self.updates + 1;
        steps / period * every + (steps % period).div_ceil(self.updates).min(every)
    }
}

/// Updates of a whole run of this method over this many prompts, with a supervised one every so many iterations. Iterations are
/// whole: a number of steps is rounded up to them.
pub fn total_steps(settings: &Settings, method: &Method, prompts: usize, every: Option<u64>) -> u64 {
    let pace = Pace { updates: method.updates(), every };
    let iterations = (prompts as f64 * settings.epochs / settings.batch as f64).ceil() as u64;
    pace.steps(settings.steps.map_or(iterations, |steps| pace.iterations(steps)).max(1))
}

impl OnPolicy<'_> {
    /// Runs to the end, from the last checkpoint of the folder where there is one.
    pub fn run(mut self) -> Result<(Outcome, Shares)> {
        self.settings.check()?;
        self.method.check()?;
        self.method.fits(self.rewards)?;
        if let Some(s) = &self.extras.supervised {
            s.check()?;
        }
        if self.prompts.is_empty() {
            return Err(Error::usage("there is nothing to train on: no prompts"));
        }
        let (mut state, mut held) = self.begin()?;
        let (started, first_step, first_tokens) = (Instant::now(), state.step, state.tokens);
        let mut ended = Ended::Done;
        if state.step == 0 {
            self.examine(&mut state, &held.progress)?;
            self.show(0)?;
        }
        while state.step < state.total {
            if self.cancel.asked() {
                self.save(&mut state, &held)?;
                return Err(stopped());
            }
            let spent = |limit: f64| started.elapsed().as_secs_f64() >= limit;
            if self.settings.budget.is_some_and(spent) || self.cancel.out_of_time() {
                ended = Ended::Budget;
                break;
            }
            let next = self.iterate(&mut state, &mut held)?;
            let before = std::mem::replace(&mut state, next).step;
            self.show(state.step)?;
            let since = |due: &dyn Fn(u64) -> bool| (before + 1..=state.step).any(due);
            let last = state.step >= state.total;
            let due = self.settings.eval_every.is_some_and(|n| since(&|s| s.is_multiple_of(n.max(1))));
            let keep_now = since(&|s| self.settings.checkpoints.due(s, state.total));
            let better = if due || last { self.examine(&mut state, &held.progress)? } else { false };
            if last || better || keep_now {
                self.save(&mut state, &held)?;
            }
            if self.settings.patience.is_some_and(|p| state.worse >= p) {
                ended = Ended::Patience;
                break;
            }
        }
        if ended != Ended::Done {
            if ended == Ended::Budget {
                self.examine(&mut state, &held.progress)?;
            }
            self.save(&mut state, &held)?;
        }
        held.progress.finish();
        let seconds = started.elapsed().as_secs_f64();
        let rate = if state.step > first_step { (state.tokens - first_tokens) as f64 / seconds } else { 0.0 };
        let outcome = Outcome {
            steps: state.step,
            ended,
            loss: held.loss,
            tokens: state.tokens,
            tokens_per_s: rate,
            best: state.best,
        };
        Ok((outcome, held.shares))
    }

    /// Where to go on from: the last checkpoint, or the start.
    fn begin(&mut self) -> Result<(State, Held)> {
        let decoder = &self.model.decoder;
        let reference = (self.method.objective.kl != 0.0).then(|| Reference::of(decoder));
        let gae = matches!(self.method.estimator.baseline, Baseline::Gae { .. });
        let head = gae.then(|| ScalarHead::new("value_head", decoder.config.hidden));
        let mut params = decoder.params();
        params.extend(head.iter().flat_map(ScalarHead::params));
        let mut optimizer = Optimizer::new(params.clone(), keep::groups(self.settings))?;
        let passes = || Box::new(Passes::new(self.prompts.len(), self.settings.seed)) as Box<dyn Curriculum>;
        let mut curriculum = self.extras.curriculum.take().unwrap_or_else(passes);
        let mut state = State {
            settings: self.fingerprint(&*curriculum),
            curriculum: curriculum.state(),
            total: self.total_steps(),
            ..State::default()
        };
        if let Some(saved) = self.dir.map(RunDir::latest).transpose()?.flatten() {
            let settings = std::mem::take(&mut state.settings);
            state = saved.state()?;
            keep::same_settings(&state.settings, &settings, &saved)?;
            saved.load_params(&params)?;
            optimizer.restore(&saved.optimizer()?)?;
            if !state.curriculum.is_null() {
                curriculum.restore(&state.curriculum)?;
            }
            self.rewards_as_of(&state)?;
            self.sink.emit(&Event::new("resumed", state.step))?;
        }
        let mut progress = Progress::new(self.progress, "tune", state.total);
        progress.start_at(state.step);
        let (shares, loss) = (Shares::default(), f64::NAN);
        Ok((state, Held { reference, head, params, optimizer, curriculum, progress, shares, loss }))
    }

    /// One iteration: the state after it. What it draws and remembers counts only when it is done; where sampling or a reward
    /// fails, the state before it is saved.
    fn iterate(&mut self, state: &mut State, held: &mut Held) -> Result<State> {
        let mut next = state.clone();
        let rollout = match self.rollout(&mut *held.curriculum, &mut next, &mut held.shares) {
            Ok(rollout) => rollout,
            Err(e) => {
                self.rewards_as_of(state)?;
                self.save(state, held)?;
                return Err(if e.kind() == Kind::Cancelled { stopped() } else { e });
            }
        };
        self.guard(&next)?;
        let timer = Instant::now();
        let ready = self.ready(&rollout, held)?;
        held.shares.log_probs += timer.elapsed().as_secs_f64();
        let timer = Instant::now();
        let feedback = rollout.feedback(&ready.advantages);
        self.updates(&rollout, &ready, &feedback, &mut next, held)?;
        held.shares.update += timer.elapsed().as_secs_f64();
        // After the updates: what these samples say is for the next draw.
        held.curriculum.learn(&feedback);
        next.curriculum = held.curriculum.state();
        next.iteration += 1;
        next.rewards = self.rewards.state();
        let timer = Instant::now();
        self.supervise(&mut next, held)?;
        held.shares.update += timer.elapsed().as_secs_f64();
        Ok(next)
    }

    fn show(&mut self, step: u64) -> Result<()> {
        match &mut self.extras.watch {
            Some(watch) => watch(step, &self.model.decoder),
            None => Ok(()),
        }
    }

    fn total_steps(&self) -> u64 {
        total_steps(self.settings, self.method, self.prompts.len(), self.pace().every)
    }

    pub(super) fn pace(&self) -> Pace {
        Pace { updates: self.method.updates(), every: self.extras.supervised.map(|s| s.every) }
    }

    fn fingerprint(&self, curriculum: &dyn Curriculum) -> String {
        let mut all = keep::deciding(self.settings);
        all["method"] = json!(self.method);
        all["rewards"] = json!(self.rewards.specs());
        all["shuffle_rewards"] = json!(self.shuffle_rewards);
        let curriculum = curriculum.settings();
        if !curriculum.is_null() {
            all["curriculum"] = curriculum;
        }
        if let Some(s) = &self.extras.supervised {
            all["supervised"] = s.settings();
        }
        all.to_string()
    }

    fn rewards_as_of(&mut self, state: &State) -> Result<()> {
        if state.rewards.is_null() { Ok(()) } else { self.rewards.restore(&state.rewards) }
    }

    /// Asks the exam; true where the named metric got better.
    fn examine(&mut self, state: &mut State, progress: &Progress) -> Result<bool> {
        let Some(exam) = self.exam else { return Ok(false) };
        let marks = exam(&self.model.decoder)?;
        let (right, n) = (marks.iter().filter(|m| **m).count(), marks.len());
        let accuracy = right as f64 / n.max(1) as f64;
        progress.say(&format!("eval at step {}: accuracy {right}/{n}", state.step));
        let event = Event::new("eval", state.step).with("set", "eval").with("accuracy", accuracy).with("n", n);
        self.sink.emit(&event)?;
        if self.settings.best.as_deref() != Some("eval.accuracy") {
            return Ok(false);
        }
        let improved = state.best.is_none_or(|(b, _)| accuracy > b);
        if improved {
            state.best = Some((accuracy, state.step));
            state.worse = 0;
        } else {
            state.worse += 1;
        }
        Ok(improved)
    }

    fn save(&mut self, state: &mut State, held: &Held) -> Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        if state.rewards.is_null() {
            state.rewards = self.rewards.state();
        }
        let value = serde_json::to_value(&*state).expect("plain data");
        let path = dir.save(state.step, &value, &held.params, &held.optimizer)?;
        dir.prune(self.settings.keep, state.best.map(|(_, step)| step))?;
        self.sink.emit(&Event::new("checkpoint", state.step).with("path", path.display().to_string()))
    }
}

fn stopped() -> Error {
    Error::cancelled().help("run the same command again to go on from the last checkpoint")
}
