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

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::event::{Event, Sink};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Error, Kind, Result, Stream};
use postgrad_data::Example;
use postgrad_nn::decoder::Decoder;
use postgrad_nn::logits::Rules;
use postgrad_nn::optim::Optimizer;
use postgrad_reason::ModelFolder;
use postgrad_reason::generate::{Answer, Options, answers};
use postgrad_tensor::{Param, Tensor, backward, no_grad};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::advantage::{Baseline, Rewarded, even, groups_of};
use super::objective::{Actions, Figures, KlPlace, Ratio};
use super::settings::Method;
use crate::head::ScalarHead;
use crate::keep;
use crate::prompts::Prompt;
use crate::reference::Reference;
use crate::rewards::{Rewards, Sample};
use crate::run_dir::{Place, RunDir};
use crate::score::{self, Scored, Scoring};
use crate::settings::Settings;
use crate::sft::{Ended, Outcome, cut};

/// Iterations after which a run that cannot learn is stopped.
const TRIAL: u64 = 10;
/// It cannot learn where more samples than this were cut off, or more groups than this have equal rewards.
const MOST_TRUNCATED: f64 = 0.9;
const MOST_EVEN: f64 = 0.95;

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
struct State {
    step: u64,
    iteration: u64,
    tokens: u64,
    best: Option<(f64, u64)>,
    worse: u64,
    /// Prompts drawn so far.
    drawn: u64,
    rewards: Value,
    tried: Tried,
    settings: String,
    total: u64,
}

/// What the first iterations came to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Tried {
    samples: u64,
    truncated: u64,
    groups: u64,
    even: u64,
}

/// Samples of one iteration, group by group.
#[derive(Default)]
struct Rollout {
    examples: Vec<Example>,
    texts: Vec<String>,
    behaviour: Vec<Vec<f32>>,
    /// Mean over the tokens, of the model's own distribution.
    entropy: Vec<f64>,
    truncated: Vec<bool>,
    group: Vec<u32>,
    rewards: Vec<f64>,
    parts: Vec<Vec<Option<f64>>>,
    metrics: Vec<BTreeMap<String, f64>>,
    prompts: Vec<usize>,
    /// Drawn and left out again, because their groups had no variance.
    left_out: usize,
}

/// What updates need of each sample: one list a sequence of counted tokens.
struct Ready {
    old: Option<Vec<Vec<f32>>>,
    reference: Option<Vec<Vec<f32>>>,
    values: Vec<Vec<f32>>,
    advantages: super::Advantages,
}

impl OnPolicy<'_> {
    /// Runs to the end, from the last checkpoint of the folder where there is one.
    pub fn run(mut self) -> Result<(Outcome, Shares)> {
        self.settings.check()?;
        self.method.check()?;
        if self.prompts.is_empty() {
            return Err(Error::usage("there is nothing to train on: no prompts"));
        }
        let decoder = &self.model.decoder;
        let reference = (self.method.objective.kl != 0.0).then(|| Reference::of(decoder));
        let gae = matches!(self.method.estimator.baseline, Baseline::Gae { .. });
        let head = gae.then(|| ScalarHead::new("value_head", decoder.config.hidden));
        let mut params = decoder.params();
        params.extend(head.iter().flat_map(ScalarHead::params));
        let mut optimizer = Optimizer::new(params.clone(), keep::groups(self.settings))?;
        let mut state = State { settings: self.fingerprint(), total: self.total_steps(), ..State::default() };
        if let Some(saved) = self.dir.map(RunDir::latest).transpose()?.flatten() {
            state = self.restore(&saved, &params, &mut optimizer)?;
        }
        let mut progress = Progress::new(self.progress, "tune", state.total);
        progress.start_at(state.step);
        let (started, first_step, first_tokens) = (Instant::now(), state.step, state.tokens);
        let mut run = Run { ended: Ended::Done, loss: f64::NAN, shares: Shares::default() };
        if state.step == 0 {
            self.examine(&mut state, &progress)?;
            self.show(0)?;
        }
        while state.step < state.total {
            if self.cancel.asked() {
                self.save(&mut state, &params, &optimizer)?;
                return Err(stopped());
            }
            let spent = |limit: f64| started.elapsed().as_secs_f64() >= limit;
            if self.settings.budget.is_some_and(spent) || self.cancel.out_of_time() {
                run.ended = Ended::Budget;
                break;
            }
            // What this iteration draws and remembers counts only when it is done.
            let mut next = state.clone();
            let rollout = match self.rollout(&mut next, &mut run.shares) {
                Ok(rollout) => rollout,
                Err(e) => {
                    self.rewards_as_of(&state)?;
                    self.save(&mut state, &params, &optimizer)?;
                    return Err(if e.kind() == Kind::Cancelled { stopped() } else { e });
                }
            };
            self.guard(&next)?;
            let timer = Instant::now();
            let ready = self.ready(&rollout, reference.as_ref(), head.as_ref())?;
            run.shares.log_probs += timer.elapsed().as_secs_f64();
            let timer = Instant::now();
            self.updates(&rollout, &ready, head.as_ref(), &mut optimizer, &mut next, &mut run, &mut progress)?;
            run.shares.update += timer.elapsed().as_secs_f64();
            next.iteration += 1;
            next.rewards = self.rewards.state();
            let before = std::mem::replace(&mut state, next).step;
            self.show(state.step)?;
            let since = |due: &dyn Fn(u64) -> bool| (before + 1..=state.step).any(due);
            let last = state.step >= state.total;
            let due = self.settings.eval_every.is_some_and(|n| since(&|s| s.is_multiple_of(n.max(1))));
            let keep_now = since(&|s| self.settings.checkpoints.due(s, state.total));
            let better = if due || last { self.examine(&mut state, &progress)? } else { false };
            if last || better || keep_now {
                self.save(&mut state, &params, &optimizer)?;
            }
            if self.settings.patience.is_some_and(|p| state.worse >= p) {
                run.ended = Ended::Patience;
                break;
            }
        }
        if run.ended != Ended::Done {
            if run.ended == Ended::Budget {
                self.examine(&mut state, &progress)?;
            }
            self.save(&mut state, &params, &optimizer)?;
        }
        progress.finish();
        let seconds = started.elapsed().as_secs_f64();
        let rate = if state.step > first_step { (state.tokens - first_tokens) as f64 / seconds } else { 0.0 };
        let outcome = Outcome {
            steps: state.step,
            ended: run.ended,
            loss: run.loss,
            tokens: state.tokens,
            tokens_per_s: rate,
            best: state.best,
        };
        Ok((outcome, run.shares))
    }

    fn show(&mut self, step: u64) -> Result<()> {
        match &mut self.extras.watch {
            Some(watch) => watch(step, &self.model.decoder),
            None => Ok(()),
        }
    }

    /// Whole iterations: a number of steps is rounded up to them.
    fn total_steps(&self) -> u64 {
        let s = self.settings;
        let iterations = (self.prompts.len() as f64 * s.epochs / s.batch as f64).ceil() as u64;
        let updates = self.method.updates();
        s.steps.unwrap_or(iterations * updates).max(1).next_multiple_of(updates)
    }

    fn fingerprint(&self) -> String {
        let mut all = keep::deciding(self.settings);
        all["method"] = json!(self.method);
        all["rewards"] = json!(self.rewards.specs());
        all["shuffle_rewards"] = json!(self.shuffle_rewards);
        all.to_string()
    }

    fn restore(&mut self, saved: &Place, params: &[Param], optimizer: &mut Optimizer) -> Result<State> {
        let state: State = saved.state()?;
        keep::same_settings(&state.settings, &self.fingerprint(), saved)?;
        saved.load_params(params)?;
        optimizer.restore(&saved.optimizer()?)?;
        self.rewards_as_of(&state)?;
        self.sink.emit(&Event::new("resumed", state.step))?;
        Ok(state)
    }

    fn rewards_as_of(&mut self, state: &State) -> Result<()> {
        if state.rewards.is_null() { Ok(()) } else { self.rewards.restore(&state.rewards) }
    }

    /// The next prompts: passes over all, shuffled anew each.
    fn draw(&self, from: u64, n: usize) -> Vec<usize> {
        let all = self.prompts.len() as u64;
        let orders = Stream::new(self.settings.seed, &["data", "order"]);
        let mut order: (u64, Vec<usize>) = (u64::MAX, vec![]);
        (from..from + n as u64)
            .map(|at| {
                if order.0 != at / all {
                    order = (at / all, (0..all as usize).collect());
                    orders.nth(at / all).shuffle(&mut order.1);
                }
                order.1[(at % all) as usize]
            })
            .collect()
    }

    /// Samples and rewards an iteration's groups; under dynamic sampling, rounds of further prompts take the place of groups
    /// without variance.
    fn rollout(&mut self, state: &mut State, shares: &mut Shares) -> Result<Rollout> {
        let (m, want) = (self.method, self.settings.batch);
        let stream = Stream::new(self.settings.seed, &["sample", "rollout"]).nth(state.iteration);
        let mut kept = Rollout::default();
        let mut spare = Rollout::default();
        for round in 0..=m.dynamic_rounds as u64 {
            let lacking = want - kept.prompts.len();
            if lacking == 0 {
                break;
            }
            let chosen = self.draw(state.drawn, lacking);
            state.drawn += lacking as u64;
            let timer = Instant::now();
            let given = self.sample(&chosen, stream.nth(round).next_u64())?;
            shares.rollout += timer.elapsed().as_secs_f64();
            let timer = Instant::now();
            let drawn = self.reward(&chosen, given, state.step, &stream.child("shuffle").nth(round))?;
            shares.rewards += timer.elapsed().as_secs_f64();
            state.tokens += drawn.examples.iter().map(|e| e.len() as u64).sum::<u64>();
            let ranges = groups_of(&drawn.group);
            if state.iteration < TRIAL {
                state.tried.samples += drawn.truncated.len() as u64;
                state.tried.truncated += drawn.truncated.iter().filter(|t| **t).count() as u64;
                state.tried.groups += ranges.len() as u64;
                state.tried.even += ranges.iter().filter(|r| even(&drawn.rewards[(*r).clone()])).count() as u64;
            }
            for (g, range) in ranges.into_iter().enumerate() {
                let dull = m.dynamic_rounds > 0 && even(&drawn.rewards[range.clone()]);
                let to = if dull { &mut spare } else { &mut kept };
                to.take(&drawn, g, range);
            }
        }
        // Rather groups without variance than none at all.
        let missing = (want - kept.prompts.len()).min(spare.prompts.len());
        kept.left_out = spare.prompts.len() - missing;
        for (g, range) in groups_of(&spare.group).into_iter().enumerate().take(missing) {
            kept.take(&spare, g, range);
        }
        Ok(kept)
    }

    fn sample(&self, chosen: &[usize], seed: u64) -> Result<Vec<Answer>> {
        let m = self.method;
        let options = Options {
            rules: Rules { temperature: m.temperature, top_p: m.top_p, top_k: m.top_k, ..Rules::default() },
            max_tokens: m.max_tokens,
            min_tokens: 0,
            stop: vec![],
            seed,
            n: m.group,
            places: 128,
        };
        let prompts: Vec<Vec<u32>> = chosen.iter().map(|i| self.prompts[*i].ids.clone()).collect();
        answers(self.model, &prompts, &options, &self.cancel)
    }

    fn reward(&mut self, chosen: &[usize], given: Vec<Answer>, step: u64, shuffle: &Stream) -> Result<Rollout> {
        let samples: Vec<Sample> = given
            .iter()
            .map(|a| Sample {
                prompt: &self.prompts[chosen[a.prompt]],
                completion: &a.text,
                tokens: &a.completion.tokens,
                truncated: a.truncated,
                step,
            })
            .collect();
        let scored = self.rewards.score(&samples)?;
        let mut out = Rollout { prompts: chosen.to_vec(), ..Rollout::default() };
        for s in &scored {
            out.rewards.push(s.total);
            out.parts.push(s.parts.clone());
            out.metrics.push(s.metrics.clone());
        }
        if self.shuffle_rewards {
            shuffle.clone().shuffle(&mut out.rewards);
        }
        for a in given {
            let prompt = &self.prompts[chosen[a.prompt]].ids;
            let mut example = Example::new([&prompt[..], &a.completion.tokens].concat());
            example.weights[..prompt.len()].fill(0.0);
            if example.weights.iter().all(|w| *w == 0.0) {
                return Err(Error::usage("a prompt fills the model's context, and leaves no room for a completion")
                    .at(&self.prompts[chosen[a.prompt]].place));
            }
            out.examples.push(example);
            out.texts.push(a.text);
            let entropy = a.completion.entropy.iter().map(|e| f64::from(*e)).sum::<f64>();
            out.entropy.push(entropy / a.completion.tokens.len().max(1) as f64);
            out.behaviour.push(a.completion.behaviour);
            out.truncated.push(a.truncated);
            out.group.push(a.prompt as u32);
        }
        Ok(out)
    }

    /// Stops a run that cannot learn, after its first iterations.
    fn guard(&self, state: &State) -> Result<()> {
        let t = state.tried;
        if !self.guard || state.iteration + 1 != TRIAL {
            return Ok(());
        }
        let share = |k: u64, n: u64| k as f64 / n.max(1) as f64;
        let (cut, even) = (share(t.truncated, t.samples), share(t.even, t.groups));
        if cut > MOST_TRUNCATED {
            let max = self.method.max_tokens;
            return Err(Error::work(format!(
                "{:.0}% of the samples of the first {TRIAL} iterations were cut off at {max} tokens",
                100.0 * cut
            ))
            .help("give a larger --max-tokens, or a model that ends its answers"));
        }
        let grouped = matches!(self.method.estimator.baseline, Baseline::Group | Baseline::LeaveOneOut);
        if grouped && even > MOST_EVEN {
            return Err(Error::work(format!(
                "in {:.0}% of the groups of the first {TRIAL} iterations all rewards were equal: there is nothing to learn from",
                100.0 * even
            ))
            .help("take easier (or harder) prompts, more samples a prompt (--group), or a reward with partial credit"));
        }
        Ok(())
    }

    fn scoring(&self) -> Scoring {
        let temperature = if self.method.tempered { self.method.temperature } else { 1.0 };
        let entropy = self.method.objective.entropy != 0.0;
        Scoring { temperature, entropy, checkpointing: self.settings.checkpointing }
    }

    /// What is fixed during an iteration's updates: old and reference log-probs, values, advantages.
    fn ready(&self, r: &Rollout, reference: Option<&Reference>, head: Option<&ScalarHead>) -> Result<Ready> {
        let (m, micro) = (self.method, self.settings.micro_tokens);
        let plain = Scoring { entropy: false, ..self.scoring() };
        let of = |d: &Decoder| score::token_log_probs(d, &r.examples, plain, micro);
        let reference = reference.map(|x| of(x.decoder())).transpose()?;
        let in_reward = reference.is_some() && m.objective.kl_place == KlPlace::Reward;
        let several = m.updates() > 1 && m.objective.ratio != Ratio::None;
        let old = if several || in_reward || m.objective.importance_cap.is_some() {
            Some(of(&self.model.decoder)?)
        } else {
            None
        };
        let penalty: Option<Vec<Vec<f64>>> = match (&old, &reference) {
            (Some(old), Some(reference)) if in_reward => {
                let kl = |(o, r): (&f32, &f32)| m.objective.kl * m.objective.kl_kind.of(f64::from(*o), f64::from(*r));
                Some(old.iter().zip(reference).map(|(o, r)| o.iter().zip(r).map(kl).collect()).collect())
            }
            _ => None,
        };
        let mut values: Vec<Vec<f32>> = Vec::new();
        if let Some(head) = head {
            for group in cut(&r.examples, micro) {
                let (first, scored) = (values.len(), no_grad(|| score::score(&self.model.decoder, &group, plain))?);
                values.resize(first + group.len(), vec![]);
                let v = no_grad(|| head.of(&scored.hidden));
                v.data().iter().zip(&scored.sequence).for_each(|(v, s)| values[first + *s as usize].push(*v));
            }
        }
        let wide: Vec<Vec<f64>> = values.iter().map(|v| v.iter().map(|x| f64::from(*x)).collect()).collect();
        let mut seen: HashSet<(u32, &str)> = HashSet::new();
        let repeated: Vec<bool> = r.group.iter().zip(&r.texts).map(|(g, t)| !seen.insert((*g, t))).collect();
        let mut advantages = m.estimator.of(&Rewarded {
            rewards: &r.rewards,
            group: &r.group,
            lengths: &r.examples.iter().map(Example::trained).collect::<Vec<_>>(),
            penalty: penalty.as_deref(),
            values: head.is_some().then_some(&wide[..]),
            repeated: &repeated,
        });
        if m.mask_truncated {
            advantages.kept.iter_mut().zip(&r.truncated).for_each(|(kept, cut)| *kept &= !cut);
        }
        Ok(Ready { old, reference, values, advantages })
    }

    #[allow(clippy::too_many_arguments)]
    fn updates(
        &mut self,
        r: &Rollout,
        ready: &Ready,
        head: Option<&ScalarHead>,
        optimizer: &mut Optimizer,
        state: &mut State,
        run: &mut Run,
        progress: &mut Progress,
    ) -> Result<()> {
        let m = self.method;
        let schedule = self.settings.schedule(state.total);
        let stream = Stream::new(self.settings.seed, &["tune", "minibatch"]).nth(state.iteration);
        for epoch in 0..m.epochs {
            let mut order: Vec<usize> = (0..r.prompts.len()).collect();
            if m.updates() > 1 {
                stream.nth(epoch as u64).shuffle(&mut order);
            }
            let per = order.len().div_ceil(m.minibatches);
            for part in 0..m.minibatches {
                let (from, to) = ((part * per).min(order.len()), ((part + 1) * per).min(order.len()));
                let chosen: HashSet<usize> = order[from..to].iter().copied().collect();
                let members: Vec<usize> = (0..r.group.len())
                    .filter(|i| chosen.contains(&(r.group[*i] as usize)) && ready.advantages.kept[*i])
                    .collect();
                let lr = self.settings.lr * schedule.factor(state.step);
                let update = self.accumulate(r, ready, &members, head)?;
                run.loss = update.loss;
                let bad = |what| keep::not_finite(&self.model.decoder, optimizer, self.dir, state.step, what);
                if !update.loss.is_finite() {
                    return Err(bad("the loss"));
                }
                let norm = optimizer.grad_norm();
                if !norm.is_finite() {
                    return Err(bad("a gradient"));
                }
                let mut clipped = false;
                if norm > 0.0 {
                    clipped = optimizer.step(lr, self.settings.clip).clipped;
                }
                state.step += 1;
                let event = Event::new("step", state.step)
                    .with("loss", update.loss)
                    .with("lr", lr)
                    .with("grad_norm", norm)
                    .with("clipped", clipped)
                    .with("no_gradient", norm == 0.0);
                let event = with_figures(event, &update.figures, m);
                let event = if epoch + 1 == m.epochs && part + 1 == m.minibatches {
                    self.with_rollout(event, r, ready)
                } else {
                    event
                };
                self.sink.emit(&event.with("tokens", state.tokens))?;
                let mean = r.rewards.iter().sum::<f64>() / r.rewards.len().max(1) as f64;
                progress.set(state.step, &format!("reward {mean:.3}  loss {:.4}  lr {lr:.1e}", update.loss));
            }
        }
        Ok(())
    }

    /// Forward and backward over some samples: the whole loss of the update, and figures.
    fn accumulate(&self, r: &Rollout, ready: &Ready, members: &[usize], head: Option<&ScalarHead>) -> Result<Update> {
        let m = self.method;
        let lengths: Vec<usize> = members.iter().map(|i| r.examples[*i].trained()).collect();
        let factors = m.objective.normalizer.factors(&lengths, &vec![1.0; members.len()]);
        let pulls = |i: &usize| ready.advantages.tokens[*i].iter().any(|a| *a != 0.0);
        let others = (m.objective.kl != 0.0 && m.objective.kl_place == KlPlace::Loss)
            || m.objective.entropy != 0.0
            || m.objective.value.is_some();
        // Where nothing pulls at a sample its gradient is exactly 0: it counts in the normaliser alone.
        let (members, factors): (Vec<usize>, Vec<f64>) =
            members.iter().copied().zip(factors).filter(|(i, _)| others || pulls(i)).unzip();
        let examples: Vec<Example> = members.iter().map(|i| r.examples[*i].clone()).collect();
        let mut update = Update::default();
        let mut first = 0;
        for part in cut(&examples, self.settings.micro_tokens) {
            let of = &members[first..first + part.len()];
            let weights = &factors[first..first + part.len()];
            first += part.len();
            let scored = score::score(&self.model.decoder, &part, self.scoring())?;
            let value = head.map(|h| h.of(&scored.hidden));
            let computed = self.loss(r, ready, of, weights, &scored, value.as_ref());
            update.loss += f64::from(computed.loss.item());
            update.figures.add(&computed.figures);
            if computed.loss.needs_grad() {
                backward(&computed.loss);
            }
        }
        Ok(update)
    }

    fn loss(
        &self,
        r: &Rollout,
        ready: &Ready,
        of: &[usize],
        factors: &[f64],
        scored: &Scored,
        value: Option<&Tensor>,
    ) -> super::objective::Computed {
        let gather = |lists: &[Vec<f32>]| -> Vec<f32> { of.iter().flat_map(|i| lists[*i].iter().copied()).collect() };
        let narrow =
            |lists: &[Vec<f64>]| -> Vec<f32> { of.iter().flat_map(|i| lists[*i].iter().map(|x| *x as f32)).collect() };
        let old = match &ready.old {
            Some(old) if self.method.updates() > 1 || self.method.objective.importance_cap.is_some() => gather(old),
            // One update: the policy is the old policy.
            _ => scored.log_probs.data().to_vec(),
        };
        let behaviour = self.method.objective.importance_cap.map(|_| gather(&r.behaviour));
        let reference = ready.reference.as_ref().map(|x| gather(x));
        let weight: Vec<f32> = scored.sequence.iter().map(|s| factors[*s as usize] as f32).collect();
        let (old_values, targets) = match value {
            Some(_) => (gather(&ready.values), narrow(&ready.advantages.returns)),
            None => (vec![], vec![]),
        };
        self.method.objective.of(&Actions {
            log_prob: &scored.log_probs,
            old: &old,
            behaviour: behaviour.as_deref(),
            reference: reference.as_deref(),
            advantage: &narrow(&ready.advantages.tokens),
            weight: &weight,
            sequence: &scored.sequence,
            sequences: scored.sequences,
            entropy: scored.entropy.as_ref(),
            value: value.map(|v| (v, &old_values[..], &targets[..])),
        })
    }

    /// Adds what the rollout came to: rewards whole and by part, lengths, groups without variance.
    fn with_rollout(&self, mut event: Event, r: &Rollout, ready: &Ready) -> Event {
        let n = r.rewards.len().max(1) as f64;
        let mean = |x: &mut dyn Iterator<Item = f64>| {
            let all: Vec<f64> = x.collect();
            all.iter().sum::<f64>() / all.len().max(1) as f64
        };
        let reward = mean(&mut r.rewards.iter().copied());
        let spread = mean(&mut r.rewards.iter().map(|x| (x - reward).powi(2))).sqrt();
        event = event
            .with("reward", reward)
            .with("reward_deviation", spread)
            .with("length", mean(&mut r.examples.iter().map(|e| e.trained() as f64)))
            .with("entropy", mean(&mut r.entropy.iter().copied()))
            .with("truncated", r.truncated.iter().filter(|t| **t).count() as f64 / n)
            .with("even_groups", ready.advantages.even_groups as f64 / ready.advantages.groups.max(1) as f64)
            .with("kept", ready.advantages.kept.iter().filter(|k| **k).count());
        if self.method.dynamic_rounds > 0 {
            event = event.with("groups_left_out", r.left_out);
        }
        for (i, name) in self.rewards.names().iter().enumerate() {
            event = event.with(&format!("reward.{name}"), mean(&mut r.parts.iter().filter_map(|p| p[i])));
        }
        let names: std::collections::BTreeSet<&String> = r.metrics.iter().flat_map(|m| m.keys()).collect();
        for name in names {
            event = event.with(name, mean(&mut r.metrics.iter().filter_map(|m| m.get(name).copied())));
        }
        event
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

    fn save(&mut self, state: &mut State, params: &[Param], optimizer: &Optimizer) -> Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        if state.rewards.is_null() {
            state.rewards = self.rewards.state();
        }
        let value = serde_json::to_value(&*state).expect("plain data");
        let path = dir.save(state.step, &value, params, optimizer)?;
        dir.prune(self.settings.keep, state.best.map(|(_, step)| step))?;
        self.sink.emit(&Event::new("checkpoint", state.step).with("path", path.display().to_string()))
    }
}

/// What a run gathers for its end.
struct Run {
    ended: Ended,
    loss: f64,
    shares: Shares,
}

#[derive(Default)]
struct Update {
    loss: f64,
    figures: Figures,
}

impl Rollout {
    /// Takes over one group of another rollout.
    fn take(&mut self, from: &Self, g: usize, range: std::ops::Range<usize>) {
        let number = self.prompts.len() as u32;
        self.prompts.push(from.prompts[g]);
        for i in range {
            self.examples.push(from.examples[i].clone());
            self.texts.push(from.texts[i].clone());
            self.behaviour.push(from.behaviour[i].clone());
            self.entropy.push(from.entropy[i]);
            self.truncated.push(from.truncated[i]);
            self.group.push(number);
            self.rewards.push(from.rewards[i]);
            self.parts.push(from.parts[i].clone());
            self.metrics.push(from.metrics[i].clone());
        }
    }
}

fn stopped() -> Error {
    Error::cancelled().help("run the same command again to go on from the last checkpoint")
}

fn with_figures(mut event: Event, f: &Figures, m: &Method) -> Event {
    let n = f.tokens.max(1.0);
    let o = &m.objective;
    if o.kl != 0.0 {
        event = event.with("kl", f.kl / n);
    }
    if m.updates() > 1 {
        event = event.with("old_kl", f.old_kl / n);
    }
    if o.clip.is_some() && m.updates() > 1 {
        event = event.with("clip_low", f.clipped_low / n).with("clip_high", f.clipped_high / n);
    }
    if o.importance_cap.is_some() {
        event = event.with("capped", f.capped / n);
    }
    if o.value.is_some() {
        event = event.with("value_error", f.value_error / n);
    }
    event
}
