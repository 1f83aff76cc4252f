//! The published methods as settings of one struct. Every switch is explicit; flags change single ones.

use postgrad_base::{Error, Result};
use serde::{Deserialize, Serialize};

use super::advantage::{Baseline, Estimator, Scale};
use super::objective::{KlKind, KlPlace, Normalizer, Objective, Ratio, ValueLoss};
use crate::rewards::Rewards;

/// A reinforcement method: how it samples, what advantages and objective it has, how often it updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    pub estimator: Estimator,
    pub objective: Objective,
    /// Samples a prompt.
    pub group: usize,
    /// Passes over the samples of one rollout.
    pub epochs: usize,
    /// Updates a pass.
    pub minibatches: usize,
    /// Draw further prompts until every group has rewards that differ, at most this many rounds (DAPO); 0 is off.
    pub dynamic_rounds: usize,
    /// Samples that were cut off by the budget of tokens do not count in the update.
    pub mask_truncated: bool,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: usize,
    pub max_tokens: usize,
    /// Log-probs are taken at the sampling temperature (else at 1).
    pub tempered: bool,
}

/// Names of [`Method::named`] with what each is.
pub const NAMES: [(&str, &str); 9] = [
    ("grpo", "group baseline, scaled by the group's deviation"),
    ("dr-grpo", "GRPO without the two biases: no scaling, constant normaliser"),
    ("dapo", "GRPO with a higher upper clip, token mean, groups with variance alone"),
    ("gspo", "GRPO with one ratio a sequence"),
    ("rloo", "leave-one-out baseline, sums over tokens, KL in the reward"),
    ("reinforce", "rewards less the batch's mean, no clipping"),
    ("reinforce++", "discounted returns, whitened over the batch, clipped"),
    ("ppo", "value head and generalised advantages"),
    ("expert-iteration", "likelihood of the samples that are right"),
];

impl Method {
    /// GRPO (Shao 2024): mean over tokens then sequences, clip 0.2, KL 0.04 of kind k3 in the loss.
    pub fn grpo() -> Self {
        Self {
            estimator: Estimator {
                baseline: Baseline::Group,
                scale: Scale::Group,
                sample_std: true,
                eps: 1e-4,
                whiten: false,
            },
            objective: Objective {
                ratio: Ratio::Token,
                clip: Some((0.2, 0.2)),
                dual_clip: None,
                normalizer: Normalizer::Sequences,
                kl: 0.04,
                kl_kind: KlKind::K3,
                kl_place: KlPlace::Loss,
                entropy: 0.0,
                importance_cap: None,
                value: None,
            },
            group: 8,
            epochs: 1,
            minibatches: 1,
            dynamic_rounds: 0,
            mask_truncated: false,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            max_tokens: 256,
            tempered: true,
        }
    }

    /// The published settings of a method.
    pub fn named(name: &str) -> Result<Self> {
        let base = Self::grpo();
        let (e, o) = (base.estimator, base.objective);
        let free = Objective { kl: 0.0, ..o };
        Ok(match name {
            "grpo" => base,
            // Liu 2025. The normaliser's length is set to `max_tokens` by `settle`.
            "dr-grpo" => Self {
                estimator: Estimator { scale: Scale::None, ..e },
                objective: Objective { normalizer: Normalizer::Constant(0.0), ..free },
                ..base
            },
            // Yu 2025.
            "dapo" => Self {
                objective: Objective { clip: Some((0.2, 0.28)), normalizer: Normalizer::Tokens, ..free },
                dynamic_rounds: 4,
                ..base
            },
            // Zheng 2025: clips of one ratio a sequence are small.
            "gspo" => {
                Self { objective: Objective { ratio: Ratio::Sequence, clip: Some((3e-4, 4e-4)), ..free }, ..base }
            }
            // Ahmadian 2024.
            "rloo" => Self {
                estimator: Estimator { baseline: Baseline::LeaveOneOut, scale: Scale::None, ..e },
                objective: Objective {
                    ratio: Ratio::None,
                    clip: None,
                    normalizer: Normalizer::Constant(1.0),
                    kl: 0.05,
                    kl_kind: KlKind::K1,
                    kl_place: KlPlace::Reward,
                    ..o
                },
                ..base
            },
            "reinforce" => Self {
                estimator: Estimator { baseline: Baseline::Batch, scale: Scale::None, ..e },
                objective: Objective { ratio: Ratio::None, clip: None, normalizer: Normalizer::Constant(1.0), ..free },
                ..base
            },
            // Hu 2025.
            "reinforce++" => Self {
                estimator: Estimator {
                    baseline: Baseline::Returns { gamma: 1.0 },
                    scale: Scale::None,
                    whiten: true,
                    ..e
                },
                objective: Objective {
                    normalizer: Normalizer::Tokens,
                    kl: 0.01,
                    kl_kind: KlKind::K1,
                    kl_place: KlPlace::Reward,
                    ..o
                },
                ..base
            },
            // Schulman 2017, with the settings of language models' PPO (Ouyang 2022).
            "ppo" => Self {
                estimator: Estimator {
                    baseline: Baseline::Gae { gamma: 1.0, lambda: 0.95 },
                    scale: Scale::None,
                    whiten: true,
                    ..e
                },
                objective: Objective {
                    kl: 0.05,
                    kl_kind: KlKind::K1,
                    kl_place: KlPlace::Reward,
                    value: Some(ValueLoss { factor: 0.5, clip: Some(0.2) }),
                    ..o
                },
                group: 1,
                epochs: 2,
                ..base
            },
            // Anthony 2017; STaR, ReST-EM.
            "expert-iteration" => Self {
                estimator: Estimator { baseline: Baseline::Threshold(1.0), scale: Scale::None, ..e },
                objective: Objective { ratio: Ratio::None, clip: None, normalizer: Normalizer::Tokens, ..free },
                ..base
            },
            _ => {
                let known: Vec<&str> = NAMES.iter().map(|n| n.0).collect();
                return Err(Error::unknown("reinforcement method", name, &known, None));
            }
        })
    }

    /// Fills in what depends on other settings: the constant normaliser of Dr. GRPO is the longest completion.
    pub fn settle(mut self) -> Self {
        if self.objective.normalizer == Normalizer::Constant(0.0) {
            self.objective.normalizer = Normalizer::Constant(self.max_tokens as f64);
        }
        self
    }

    /// Updates a rollout.
    pub fn updates(&self) -> u64 {
        (self.epochs * self.minibatches) as u64
    }

    /// Refuses rewards with discounts that the estimator has no use for.
    pub fn fits(&self, rewards: &Rewards) -> Result<()> {
        let own = rewards.discounts();
        let kl = self.objective.kl != 0.0 && self.objective.kl_place == KlPlace::Reward;
        let (gamma, lambda) = match self.estimator.baseline {
            Baseline::Returns { gamma } => (gamma, 1.0),
            Baseline::Gae { gamma, lambda } => (gamma, lambda),
            _ => {
                let Some(at) = own.iter().position(|g| g.is_some_and(|g| g != 1.0)) else { return Ok(()) };
                return Err(Error::usage(format!(
                    "the reward `{}` has a discount, and the method gives all tokens of a sample one advantage",
                    rewards.names()[at]
                ))
                .help("take a method with returns (reinforce++, ppo), or leave gamma out"));
            }
        };
        let all = own.iter().map(|g| g.unwrap_or(gamma)).chain(kl.then_some(gamma));
        if lambda != 1.0 && all.clone().any(|g| Some(g) != all.clone().next()) {
            return Err(Error::usage(format!("rewards have discounts that differ, and lambda is {lambda}"))
                .help("give --lambda 1, or one gamma to all rewards and the KL in them (--gamma)"));
        }
        Ok(())
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str| Err(Error::usage(what.to_string()));
        let o = &self.objective;
        let grouped = matches!(self.estimator.baseline, Baseline::Group | Baseline::LeaveOneOut);
        if self.group == 0 || self.epochs == 0 || self.minibatches == 0 {
            return bad("samples a prompt, epochs and minibatches must be 1 or more");
        }
        if self.group < 2 && (grouped || self.estimator.scale == Scale::Group) {
            return Err(Error::usage("a group of one sample has no baseline").help("give --group 2 or more"));
        }
        if self.max_tokens == 0 {
            return bad("completions of 0 tokens");
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return bad("rollouts are drawn: the temperature must be above 0");
        }
        if !(o.kl.is_finite() && o.kl >= 0.0 && o.entropy.is_finite()) {
            return bad("the KL's factor must be 0 or more, and the entropy's a number");
        }
        if o.clip.is_some_and(|(low, high)| !(low > 0.0 && high > 0.0)) {
            return bad("clips must be above 0");
        }
        if o.dual_clip.is_some_and(|c| c.is_nan() || c <= 1.0) || (o.dual_clip.is_some() && o.clip.is_none()) {
            return bad("a dual clip must be above 1, and needs clips");
        }
        if o.importance_cap.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return bad("the cap of importance weights must be above 0");
        }
        if matches!(o.normalizer, Normalizer::Constant(c) if !(c.is_finite() && c > 0.0)) {
            return bad("a constant normaliser must be above 0");
        }
        if o.ratio == Ratio::None && o.clip.is_some() {
            return bad("without a ratio there is nothing to clip");
        }
        if o.ratio == Ratio::None && self.updates() > 1 && !matches!(self.estimator.baseline, Baseline::Threshold(_)) {
            return Err(Error::usage("without a ratio only the first update of a rollout is on-policy")
                .help("give one epoch and one minibatch"));
        }
        let unit = |x: f64| (0.0..=1.0).contains(&x);
        match self.estimator.baseline {
            Baseline::Returns { gamma } if !unit(gamma) => return bad("gamma must be from 0 to 1"),
            Baseline::Gae { gamma, lambda } if !(unit(gamma) && unit(lambda)) => {
                return bad("gamma and lambda must be from 0 to 1");
            }
            _ => {}
        }
        let gae = matches!(self.estimator.baseline, Baseline::Gae { .. });
        if gae != o.value.is_some() {
            return bad("a value loss and generalised advantages need each other");
        }
        if self.dynamic_rounds > 0 && !grouped {
            return bad("groups without variance are drawn again only under a group baseline");
        }
        Ok(())
    }
}
