//! The preference trainer: groups of answers to updates.
//!
//! An update takes `batch` groups, scores their answers in passes of at most `micro_tokens` (a group is never cut), and divides
//! the summed loss by the number of groups. The reference's log-probs are computed once, before the first update, and kept
//! in the run's folder. Dropout is off, so that the first loss of DPO is ln 2. Everything random is a function of the seed and
//! the step: a run killed and gone on with ends in the same bits.

use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::event::{Event, Sink};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Context, Error, Result, Stream, fs};
use postgrad_data::Example;
use postgrad_nn::decoder::Decoder;
use postgrad_nn::optim::Optimizer;
use postgrad_tensor::{Param, backward, no_grad};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::data::Group;
use super::head::{HeadKind, RewardHead};
use super::loss::{Answers, Computed, Figures, Form, Loss};
use crate::keep;
use crate::reference::Reference;
use crate::run_dir::{Place, RunDir};
use crate::score::{self, Scoring};
use crate::settings::Settings;
use crate::sft::{Ended, Outcome};

/// A preference fine-tune, ready to run. `settings.batch` counts groups; its normaliser is always the groups.
pub struct Preference<'a> {
    /// What is trainable in it is trained, in place.
    pub decoder: &'a Decoder,
    pub settings: &'a Settings,
    pub loss: Loss,
    /// With a head it is a reward model that is trained. Of a pairwise one the value takes the place of an answer's log-prob
    /// ([`Loss::reward_model`]); the others have a loss of their own.
    pub head: Option<&'a RewardHead>,
    pub groups: &'a [Group],
    /// Groups to measure on, before the first update, along the way and after the last.
    pub held_out: &'a [Group],
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
}

/// Sums of the reference's log-probs, one list a group.
#[derive(Serialize, Deserialize)]
struct Cached {
    /// Of the tokens and weights that were scored.
    digest: String,
    train: Vec<Vec<f32>>,
    held_out: Vec<Vec<f32>>,
}

impl Preference<'_> {
    /// Runs to the end, from the last checkpoint of the folder where there is one.
    pub fn run(mut self) -> Result<Outcome> {
        self.settings.check()?;
        self.loss.check()?;
        if self.groups.is_empty() {
            return Err(Error::usage("there is nothing to train on: no groups of answers"));
        }
        if self.loss.form == Form::Kto && self.settings.batch < 2 {
            return Err(Error::usage(
                "kto needs a batch of 2 rows or more: its baseline pairs prompts with others' answers",
            ));
        }
        let reference = self.loss.reference.then(|| Reference::of(self.decoder));
        let cached = reference.as_ref().map(|r| self.cached(r)).transpose()?;
        if self.head.is_some() && (self.loss.reference || self.loss.nll != 0.0) {
            return Err(Error::usage("a reward model has neither a reference nor a likelihood"));
        }
        let mut optimizer = Optimizer::new(self.params(), keep::groups(self.settings))?;
        let total = self.total_steps();
        let mut state = State { step: 0, tokens: 0, best: None, worse: 0, settings: self.fingerprint(), total };
        if let Some(saved) = self.dir.map(RunDir::latest).transpose()?.flatten() {
            state = self.restore(&saved, &mut optimizer)?;
        }
        let schedule = self.settings.schedule(state.total);
        let mut progress = Progress::new(self.progress, "tune", state.total);
        progress.start_at(state.step);
        let (started, first_step, first_tokens) = (Instant::now(), state.step, state.tokens);
        let (mut ended, mut loss, mut train_time) = (Ended::Done, f64::NAN, 0.0);
        if state.step == 0 {
            self.evaluate(&mut state, cached.as_ref(), &progress)?;
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
            let chosen = self.gather(state.step);
            let lr = self.settings.lr * schedule.factor(state.step);
            let (sum, figures, tokens) =
                self.accumulate(&chosen, cached.as_ref().map(|c| &c.train[..]), reference.as_ref())?;
            loss = sum;
            let bad = |what| keep::not_finite(self.decoder, &optimizer, self.dir, state.step, what);
            if !loss.is_finite() {
                return Err(bad("the loss"));
            }
            if !optimizer.grad_norm().is_finite() {
                return Err(bad("a gradient"));
            }
            let stats = optimizer.step(lr, self.settings.clip);
            state.step += 1;
            state.tokens += tokens;
            let seconds = step_started.elapsed().as_secs_f64();
            train_time += seconds;
            let event = Event::new("step", state.step)
                .with("loss", loss)
                .with("lr", lr)
                .with("grad_norm", stats.grad_norm)
                .with("clipped", stats.clipped)
                .with("tokens", state.tokens)
                .with("tokens_per_s", (tokens as f64 / seconds).round());
            self.sink.emit(&with_figures(event, &figures))?;
            let right = if figures.pairs > 0.0 {
                format!("  right {:.2}", figures.right / figures.pairs)
            } else {
                String::new()
            };
            progress.set(state.step, &format!("loss {loss:.4}  lr {lr:.1e}{right}"));
            let last = state.step == state.total;
            let due = self.settings.eval_every.is_some_and(|n| state.step.is_multiple_of(n.max(1)));
            let better = if due || last { self.evaluate(&mut state, cached.as_ref(), &progress)? } else { false };
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
                self.evaluate(&mut state, cached.as_ref(), &progress)?;
            }
            self.save(&state, &optimizer)?;
        }
        progress.finish();
        let rate = if state.step > first_step { (state.tokens - first_tokens) as f64 / train_time } else { 0.0 };
        Ok(Outcome { steps: state.step, ended, loss, tokens: state.tokens, tokens_per_s: rate, best: state.best })
    }

    fn params(&self) -> Vec<Param> {
        let mut params = self.decoder.params();
        params.extend(self.head.iter().flat_map(|h| h.params()));
        params
    }

    fn total_steps(&self) -> u64 {
        let s = self.settings;
        let epochs = || (self.groups.len() as f64 * s.epochs / s.batch as f64).ceil() as u64;
        s.steps.unwrap_or_else(epochs).max(1)
    }

    fn fingerprint(&self) -> String {
        let mut all = keep::deciding(self.settings);
        all["loss"] = json!(self.loss);
        if let Some(head) = self.head.filter(|h| h.kind != HeadKind::Pairwise) {
            all["head"] = json!(head.kind);
        }
        all.to_string()
    }

    fn restore(&mut self, saved: &Place, optimizer: &mut Optimizer) -> Result<State> {
        let state: State = saved.state()?;
        keep::same_settings(&state.settings, &self.fingerprint(), saved)?;
        saved.load_params(&self.params())?;
        optimizer.restore(&saved.optimizer()?)?;
        self.sink.emit(&Event::new("resumed", state.step))?;
        Ok(state)
    }

    /// Indices of an update's groups: passes over the data, shuffled anew each; one that ends in the middle goes over into
    /// the next.
    fn gather(&self, step: u64) -> Vec<usize> {
        let (n, batch) = (self.groups.len() as u64, self.settings.batch as u64);
        let orders = Stream::new(self.settings.seed, &["data", "order"]);
        let mut order: (u64, Vec<usize>) = (u64::MAX, vec![]);
        (step * batch..(step + 1) * batch)
            .map(|at| {
                if order.0 != at / n {
                    order = (at / n, (0..n as usize).collect());
                    orders.nth(at / n).shuffle(&mut order.1);
                }
                order.1[(at % n) as usize]
            })
            .collect()
    }

    /// Reference log-probs of all data: from the run's folder where they are there, else computed and kept there.
    fn cached(&self, reference: &Reference) -> Result<Cached> {
        let mut hasher = String::new();
        for e in self.groups.iter().chain(self.held_out).flat_map(Group::sequences) {
            hasher = postgrad_tasks::stable_hash(&[&hasher, &format!("{:?} {:?}", e.tokens, e.weights)]);
        }
        let path = self.dir.map(|d| d.path().join("reference.json"));
        if let Some(bytes) = path.as_ref().and_then(|p| std::fs::read(p).ok())
            && let Ok(cached) = serde_json::from_slice::<Cached>(&bytes)
            && cached.digest == hasher
        {
            return Ok(cached);
        }
        let of = |groups: &[Group]| -> Result<Vec<Vec<f32>>> {
            let examples: Vec<Example> = groups.iter().flat_map(|g| &g.answers).map(|a| a.example.clone()).collect();
            let mut sums = score::sums(reference.decoder(), &examples, self.settings.micro_tokens)?.into_iter();
            // A gold answer is not compared with the reference.
            let of_group = |g: &Group| {
                let scored = sums.by_ref().take(g.answers.len());
                scored.chain(g.gold.iter().map(|_| 0.0)).collect()
            };
            Ok(groups.iter().map(of_group).collect())
        };
        let cached = Cached { digest: hasher, train: of(self.groups)?, held_out: of(self.held_out)? };
        if let Some(path) = path {
            let text = serde_json::to_vec(&cached).context(|| "cannot write the reference's log-probs".into())?;
            fs::write(&path, &text)?;
        }
        Ok(cached)
    }

    /// Forward and backward over an update's groups: the mean loss, its figures and the tokens read.
    fn accumulate(
        &self,
        chosen: &[usize],
        cached: Option<&[Vec<f32>]>,
        reference: Option<&Reference>,
    ) -> Result<(f64, Figures, u64)> {
        let groups: Vec<&Group> = chosen.iter().map(|i| &self.groups[*i]).collect();
        let baseline = match (self.loss.form, self.loss.reference) {
            (Form::Kto, true) => self.baseline(&groups, reference)?,
            _ => 0.0,
        };
        let (mut loss, mut figures, mut tokens) = (0.0, Figures::default(), 0);
        for range in cut_groups(&groups, self.settings.micro_tokens) {
            let part = &groups[range.clone()];
            let cached = cached.map(|c| chosen[range].iter().flat_map(|i| c[*i].iter().copied()).collect::<Vec<f32>>());
            let (computed, read) = self.forward(part, cached.as_deref(), baseline)?;
            let share = computed.loss.mul_scalar(1.0 / groups.len() as f32);
            loss += f64::from(share.item());
            figures.add(&computed.figures);
            tokens += read as u64;
            if share.needs_grad() {
                backward(&share);
            }
        }
        Ok((loss, figures, tokens))
    }

    /// The summed loss of groups in one pass, and the tokens read.
    fn forward(&self, groups: &[&Group], cached: Option<&[f32]>, baseline: f32) -> Result<(Computed, usize)> {
        let checkpointing = self.settings.checkpointing;
        if let Some(head) = self.head {
            return head.loss(self.decoder, groups, &self.loss, checkpointing);
        }
        let scoring = Scoring { checkpointing, ..Scoring::default() };
        let scored = score::score(self.decoder, &examples(groups), scoring)?;
        let (mut group, mut rank, mut gold) = (vec![], vec![], vec![]);
        for (g, of) in groups.iter().enumerate() {
            rank.extend(of.answers.iter().map(|a| a.rank).chain(of.gold.iter().map(|_| 0.0)));
            gold.extend(of.answers.iter().map(|_| false).chain(of.gold.iter().map(|_| true)));
            group.resize(rank.len(), g as u32);
        }
        let computed = self.loss.of(&Answers {
            sums: &scored.sums(),
            lengths: &scored.lengths(),
            reference: cached,
            group: &group,
            rank: &rank,
            gold: &gold,
            weight: &groups.iter().map(|g| g.weight).collect::<Vec<_>>(),
            baseline,
        });
        Ok((computed, scored.tokens))
    }

    /// KTO's z: the mean log-ratio of answers put under other prompts of the update, at least 0, without gradient.
    fn baseline(&self, groups: &[&Group], reference: Option<&Reference>) -> Result<f32> {
        let Some(reference) = reference else { return Ok(0.0) };
        let all: Vec<&Example> = groups.iter().flat_map(|g| &g.answers).map(|a| &a.example).collect();
        let crossed: Vec<Example> = (0..all.len()).map(|i| crossed(all[i], all[(i + 1) % all.len()])).collect();
        let context = self.decoder.config.max_position_embeddings;
        let crossed: Vec<Example> = crossed.into_iter().filter(|e| e.len() <= context && e.trained() > 0).collect();
        let [now, then] = [self.decoder, reference.decoder()]
            .map(|d| no_grad(|| score::sums(d, &crossed, self.settings.micro_tokens)));
        let (now, then) = (now?, then?);
        let n = crossed.len().max(1) as f32;
        Ok((now.iter().zip(&then).map(|(a, b)| a - b).sum::<f32>() / n).max(0.0))
    }

    /// Measures the held-out groups; true where the named metric got better.
    fn evaluate(&mut self, state: &mut State, cached: Option<&Cached>, progress: &Progress) -> Result<bool> {
        if self.held_out.is_empty() {
            return Ok(false);
        }
        let groups: Vec<&Group> = self.held_out.iter().collect();
        let (mut loss, mut figures) = (0.0, Figures::default());
        for range in cut_groups(&groups, self.settings.micro_tokens) {
            let part = &groups[range.clone()];
            let cached = cached.map(|c| c.held_out[range].concat());
            let (computed, _) = no_grad(|| self.forward(part, cached.as_deref(), 0.0))?;
            loss += f64::from(computed.loss.item());
            figures.add(&computed.figures);
        }
        loss /= groups.len() as f64;
        let mut event = Event::new("eval", state.step).with("set", "eval").with("loss", loss);
        if figures.pairs > 0.0 {
            event = event.with("accuracy", figures.right / figures.pairs).with("n", figures.pairs);
        }
        progress
            .say(&format!("eval at step {}: loss {loss:.4}, right {}/{}", state.step, figures.right, figures.pairs));
        self.sink.emit(&event)?;
        let (value, higher) = match self.settings.best.as_deref() {
            Some("eval.loss") => (loss, false),
            Some("eval.accuracy") => (figures.right / figures.pairs, true),
            _ => return Ok(false),
        };
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
        let path = dir.save(state.step, &value, &self.params(), optimizer)?;
        dir.prune(self.settings.keep, state.best.map(|(_, step)| step))?;
        self.sink.emit(&Event::new("checkpoint", state.step).with("path", path.display().to_string()))
    }
}

/// Adds what the groups of an update came to.
fn with_figures(mut event: Event, f: &Figures) -> Event {
    let mut put = |name: &str, sum: f64, n: f64| {
        if n > 0.0 {
            event = event.clone().with(name, sum / n);
        }
    };
    put("margin", f.margin, f.pairs);
    put("right", f.right, f.pairs);
    put("better_log_prob", f.better_log_prob, f.better);
    put("worse_log_prob", f.worse_log_prob, f.worse);
    event
}

/// The prompt of one sequence with the answer of another.
fn crossed(prompt: &Example, answer: &Example) -> Example {
    let begins = |e: &Example| e.weights.iter().position(|w| *w != 0.0).unwrap_or(e.len());
    let (p, a) = (begins(prompt), begins(answer));
    let mut out = Example::new([&prompt.tokens[..p], &answer.tokens[a..]].concat());
    out.weights = [&vec![0.0; p], &answer.weights[a..]].concat();
    out
}

fn examples<'a>(groups: &[&'a Group]) -> Vec<&'a Example> {
    groups.iter().flat_map(|g| g.sequences()).collect()
}

/// Cuts groups, in order, into passes of at most `tokens` (one group at least).
fn cut_groups(groups: &[&Group], tokens: usize) -> Vec<std::ops::Range<usize>> {
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    let mut room = 0;
    for (i, g) in groups.iter().enumerate() {
        match parts.last_mut() {
            Some(part) if g.tokens() <= room => {
                room -= g.tokens();
                part.end = i + 1;
            }
            _ => {
                room = tokens.saturating_sub(g.tokens());
                parts.push(i..i + 1);
            }
        }
    }
    parts
}
