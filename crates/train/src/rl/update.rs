//! The second half of an iteration: advantages, then updates.

use std::collections::HashSet;

use postgrad_base::event::Event;
use postgrad_base::{Result, Stream};
use postgrad_data::Example;
use postgrad_nn::decoder::Decoder;
use postgrad_tensor::{Tensor, backward, no_grad};

use super::advantage::{Advantages, Baseline, Rewarded};
use super::curriculum::Feedback;
use super::objective::{Actions, Figures, KlPlace, Ratio};
use super::rollout::Rollout;
use super::settings::Method;
use super::trainer::{Held, OnPolicy, State};
use crate::head::ScalarHead;
use crate::keep;
use crate::score::{self, Scored, Scoring};
use crate::sft::cut;

/// What updates need of each sample: one list a sequence of counted tokens.
pub(super) struct Ready {
    old: Option<Vec<Vec<f32>>>,
    reference: Option<Vec<Vec<f32>>>,
    values: Vec<Vec<f32>>,
    pub advantages: Advantages,
}

#[derive(Default)]
struct Update {
    loss: f64,
    figures: Figures,
}

impl OnPolicy<'_> {
    fn scoring(&self) -> Scoring {
        let temperature = if self.method.tempered { self.method.temperature } else { 1.0 };
        let entropy = self.method.objective.entropy != 0.0;
        Scoring { temperature, entropy, checkpointing: self.settings.checkpointing }
    }

    /// What is fixed during an iteration's updates: old and reference log-probs, values, advantages.
    pub(super) fn ready(&self, r: &Rollout, held: &Held) -> Result<Ready> {
        let (m, micro) = (self.method, self.settings.micro_tokens);
        let plain = Scoring { entropy: false, ..self.scoring() };
        let of = |d: &Decoder| score::token_log_probs(d, &r.examples, plain, micro);
        let reference = held.reference.as_ref().map(|x| of(x.decoder())).transpose()?;
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
        if let Some(head) = &held.head {
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
        let channels = match m.estimator.baseline {
            Baseline::Returns { gamma } | Baseline::Gae { gamma, .. } => {
                let own = self.rewards.discounts();
                r.channels(&own.iter().map(|g| g.unwrap_or(gamma)).collect::<Vec<_>>())
            }
            _ => vec![],
        };
        let mut advantages = m.estimator.of(&Rewarded {
            rewards: &r.rewards,
            group: &r.group,
            lengths: &r.examples.iter().map(Example::trained).collect::<Vec<_>>(),
            penalty: penalty.as_deref(),
            values: held.head.is_some().then_some(&wide[..]),
            repeated: &repeated,
            channels: &channels,
        });
        if m.mask_truncated {
            advantages.kept.iter_mut().zip(&r.truncated).for_each(|(kept, cut)| *kept &= !cut);
        }
        Ok(Ready { old, reference, values, advantages })
    }

    /// All updates on one rollout.
    pub(super) fn updates(
        &mut self,
        r: &Rollout,
        ready: &Ready,
        feedback: &[Feedback],
        state: &mut State,
        held: &mut Held,
    ) -> Result<()> {
        let m = self.method;
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
                let update = self.accumulate(r, ready, &members, held.head.as_ref())?;
                let (event, lr) = self.optimize("loss", update.loss, state, held)?;
                let mut event = with_figures(event, &update.figures, m);
                if epoch + 1 == m.epochs && part + 1 == m.minibatches {
                    event = self.with_rollout(event, r, &ready.advantages);
                    for (name, x) in held.curriculum.figures(feedback) {
                        event = event.with(&name, x);
                    }
                }
                self.sink.emit(&event.with("tokens", state.tokens))?;
                let mean = r.rewards.iter().sum::<f64>() / r.rewards.len().max(1) as f64;
                held.progress.set(state.step, &format!("reward {mean:.3}  loss {:.4}  lr {lr:.1e}", update.loss));
            }
        }
        Ok(())
    }

    /// One step of the optimiser on the gradients that are there: its event, with the loss by this name, and learning rate.
    pub(super) fn optimize(&self, name: &str, loss: f64, state: &mut State, held: &mut Held) -> Result<(Event, f64)> {
        let lr = self.settings.lr * self.settings.schedule(state.total).factor(state.step);
        held.loss = loss;
        let bad =
            |held: &Held, what| keep::not_finite(&self.model.decoder, &held.optimizer, self.dir, state.step, what);
        if !loss.is_finite() {
            return Err(bad(held, "the loss"));
        }
        let norm = held.optimizer.grad_norm();
        if !norm.is_finite() {
            return Err(bad(held, "a gradient"));
        }
        let mut clipped = false;
        if norm > 0.0 {
            clipped = held.optimizer.step(lr, self.settings.clip).clipped;
        }
        state.step += 1;
        let event = Event::new("step", state.step)
            .with(name, loss)
            .with("lr", lr)
            .with("grad_norm", norm)
            .with("clipped", clipped)
            .with("no_gradient", norm == 0.0);
        Ok((event, lr))
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
