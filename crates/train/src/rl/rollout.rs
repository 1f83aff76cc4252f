//! The first half of an iteration: draw prompts, sample, reward.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use postgrad_base::event::Event;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::Example;
use postgrad_nn::logits::Rules;
use postgrad_reason::generate::{Answer, Options, answers};
use serde::{Deserialize, Serialize};

use super::advantage::{Advantages, Baseline, Channel, even, groups_of};
use super::curriculum::{At, Curriculum, Feedback};
use super::trainer::{OnPolicy, Shares, State};
use crate::rewards::Sample;

/// Iterations after which a run that cannot learn is stopped.
const TRIAL: u64 = 10;
/// It cannot learn where more samples than this were cut off, or more groups than this have equal rewards.
const MOST_TRUNCATED: f64 = 0.9;
const MOST_EVEN: f64 = 0.95;

/// What the first iterations came to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tried {
    samples: u64,
    truncated: u64,
    groups: u64,
    even: u64,
}

/// Samples of one iteration, group by group.
#[derive(Default)]
pub(super) struct Rollout {
    pub examples: Vec<Example>,
    pub texts: Vec<String>,
    pub behaviour: Vec<Vec<f32>>,
    /// Mean over the tokens, of the model's own distribution.
    entropy: Vec<f64>,
    pub truncated: Vec<bool>,
    pub group: Vec<u32>,
    pub rewards: Vec<f64>,
    /// What each reward function gives each token of a sample.
    values: Vec<Vec<Vec<f64>>>,
    parts: Vec<Vec<Option<f64>>>,
    metrics: Vec<BTreeMap<String, f64>>,
    pub prompts: Vec<usize>,
    /// Groups that were drawn and left out again, because they had no variance.
    left_out: Vec<Feedback>,
}

impl OnPolicy<'_> {
    /// Samples and rewards an iteration's groups; under dynamic sampling, rounds of further prompts take the place of groups
    /// without variance.
    pub(super) fn rollout(
        &mut self,
        curriculum: &mut dyn Curriculum,
        state: &mut State,
        shares: &mut Shares,
    ) -> Result<Rollout> {
        let (m, want) = (self.method, self.settings.batch);
        let stream = Stream::new(self.settings.seed, &["sample", "rollout"]).nth(state.iteration);
        let iterations = self.pace().iterations(state.total);
        let mut kept = Rollout::default();
        let mut spare = Rollout::default();
        for round in 0..=m.dynamic_rounds as u64 {
            let lacking = want - kept.prompts.len();
            if lacking == 0 {
                break;
            }
            let at = At { drawn: state.drawn, iteration: state.iteration, iterations };
            let chosen = curriculum.draw(at, lacking);
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
        for (g, range) in groups_of(&spare.group).into_iter().enumerate() {
            if g < missing {
                kept.take(&spare, g, range);
            } else {
                kept.left_out.push(spare.group_feedback(g, range));
            }
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
        for s in scored {
            out.rewards.push(s.total);
            out.values.push(s.values);
            out.parts.push(s.parts);
            out.metrics.push(s.metrics);
        }
        if self.shuffle_rewards {
            shuffle.clone().shuffle(&mut out.rewards);
            out.deal_values(&mut shuffle.clone());
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
    pub(super) fn guard(&self, state: &State) -> Result<()> {
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

    /// Adds what the rollout came to: rewards whole and by part, lengths, groups without variance.
    pub(super) fn with_rollout(&self, mut event: Event, r: &Rollout, advantages: &Advantages) -> Event {
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
            .with("even_groups", advantages.even_groups as f64 / advantages.groups.max(1) as f64)
            .with("kept", advantages.kept.iter().filter(|k| **k).count());
        if self.method.dynamic_rounds > 0 {
            event = event.with("groups_left_out", r.left_out.len());
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
}

impl Rollout {
    /// Takes over one group of another rollout.
    fn take(&mut self, from: &Self, g: usize, range: Range<usize>) {
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
            self.values.push(from.values[i].clone());
            self.parts.push(from.parts[i].clone());
            self.metrics.push(from.metrics[i].clone());
        }
    }

    /// Deals what each function gave the samples in whole out anew, to their last tokens.
    fn deal_values(&mut self, stream: &mut Stream) {
        let sum = |tokens: &Vec<f64>| tokens.iter().sum::<f64>();
        let mut sums: Vec<Vec<f64>> = self.values.iter().map(|v| v.iter().map(sum).collect()).collect();
        stream.shuffle(&mut sums);
        for (tokens, sum) in self.values.iter_mut().flatten().zip(sums.into_iter().flatten()) {
            tokens.fill(0.0);
            tokens.iter_mut().last().into_iter().for_each(|last| *last = sum);
        }
    }

    /// Rewards function by function, with these discounts.
    pub(super) fn channels(&self, discounts: &[f64]) -> Vec<Channel> {
        let of = |(f, gamma): (usize, &f64)| Channel {
            gamma: *gamma,
            rewards: self.values.iter().map(|v| v[f].clone()).collect(),
        };
        discounts.iter().enumerate().map(of).collect()
    }

    /// What a group says before it has advantages.
    fn group_feedback(&self, g: usize, range: Range<usize>) -> Feedback {
        let (own, n) = (&self.rewards[range.clone()], range.len() as f64);
        let reward = own.iter().sum::<f64>() / n;
        let even = even(own);
        let spread = if even { 0.0 } else { own.iter().map(|r| (r - reward).abs()).sum::<f64>() / n };
        Feedback { prompt: self.prompts[g], reward, advantage: None, spread, even }
    }

    /// What the curriculum is told: groups with their advantages, and those that were left out.
    pub(super) fn feedback(&self, advantages: &Advantages) -> Vec<Feedback> {
        let size = |tokens: &Vec<f64>| tokens.iter().map(|a| a.abs()).sum::<f64>() / tokens.len().max(1) as f64;
        let of = |(g, range): (usize, Range<usize>)| {
            let n = range.len() as f64;
            let mean = advantages.tokens[range.clone()].iter().map(size).sum::<f64>() / n;
            Feedback { advantage: Some(mean), ..self.group_feedback(g, range) }
        };
        groups_of(&self.group).into_iter().enumerate().map(of).chain(self.left_out.iter().copied()).collect()
    }
}
