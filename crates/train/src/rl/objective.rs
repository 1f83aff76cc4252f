//! Policy objectives on tensors: log-probs, advantages and masks in, a loss out.
//!
//! For counted token t of sequence i, with `d` the difference of its log-prob to the old policy's and A its advantage:
//!
//! - the ratio is `e^d` (PPO, GRPO), `e^mean(d)` over the sequence (GSPO), or none: then the term is `A log-prob` (REINFORCE)
//! - the term is `min(ratio A, clip(ratio, 1 - low, 1 + high) A)`; with `dual_clip` c, at least `c A` where A < 0
//! - with an `importance_cap` C it is multiplied by `min(e^(old - behaviour), C)`, a constant
//! - the KL to the reference is estimated from the token's own log-prob: with x = reference - log-prob, k1 is `-x`, k2 `x^2 / 2`,
//!   k3 `e^x - 1 - x` (Schulman 2020)
//!
//! The loss is minus the terms, plus `kl` times the KL, minus `entropy` times the entropy, each token with its weight from
//! [`Normalizer::factors`]; a value loss may be added.

use postgrad_tensor::Tensor;
use serde::{Deserialize, Serialize};

/// What the old policy's log-probs are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ratio {
    Token,
    Sequence,
    /// No ratio: advantages times log-probs.
    None,
}

/// What the summed terms of an update are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalizer {
    /// All counted tokens: long sequences weigh more (DAPO).
    Tokens,
    /// Mean over the tokens of each sequence, then over sequences (GRPO).
    Sequences,
    /// This number of tokens times the number of sequences (Dr. GRPO: the longest allowed; 1: sums over tokens, RLOO).
    Constant(f64),
}

impl Normalizer {
    /// The factor on each token of each sequence of an update, from counted tokens and weights of sequences. A sequence with
    /// no counted token is not one.
    pub fn factors(self, lengths: &[usize], weights: &[f64]) -> Vec<f64> {
        let live = || lengths.iter().zip(weights).filter(|(n, _)| **n > 0);
        let total: f64 = match self {
            Self::Tokens => live().map(|(n, w)| *n as f64 * w).sum(),
            Self::Sequences => live().map(|(_, w)| w).sum(),
            Self::Constant(c) => c * live().count() as f64,
        };
        let of = |(n, w): (&usize, &f64)| match self {
            _ if *n == 0 || total == 0.0 => 0.0,
            Self::Sequences => w / (*n as f64 * total),
            _ => w / total,
        };
        lengths.iter().zip(weights).map(of).collect()
    }
}

/// An estimate of the KL divergence from one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlKind {
    K1,
    K2,
    K3,
}

/// Where the KL goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// Into the loss, with its gradient.
    Loss,
    /// Off the rewards, token by token.
    Reward,
}

impl KlKind {
    /// The estimate from two log-probs.
    pub fn of(self, log_prob: f64, reference: f64) -> f64 {
        let x = reference - log_prob;
        match self {
            Self::K1 => -x,
            Self::K2 => x * x / 2.0,
            Self::K3 => x.exp_m1() - x,
        }
    }
}

/// The loss of a value head: `0.5 max((V - R)^2, (clip(V, old - c, old + c) - R)^2)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueLoss {
    pub factor: f64,
    pub clip: Option<f64>,
}

/// All switches of the objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    pub ratio: Ratio,
    /// How far the ratio may fall below and rise above 1; `None`: no clipping.
    pub clip: Option<(f64, f64)>,
    pub dual_clip: Option<f64>,
    pub normalizer: Normalizer,
    pub kl: f64,
    pub kl_kind: KlKind,
    pub kl_place: KlPlace,
    pub entropy: f64,
    pub importance_cap: Option<f64>,
    pub value: Option<ValueLoss>,
}

/// Counted tokens of some sequences, end to end. All lists are as long as `log_prob`, but `sequence`'s numbers name places below
/// `sequences`. Masked tokens (of the environment, of truncated samples) are simply not here.
pub struct Actions<'a> {
    /// Under the policy, `[n]`.
    pub log_prob: &'a Tensor,
    /// Under the policy as it was at the rollout.
    pub old: &'a [f32],
    /// Under the distribution that the sampler drew from.
    pub behaviour: Option<&'a [f32]>,
    pub reference: Option<&'a [f32]>,
    pub advantage: &'a [f32],
    /// Each token's factor: that of its sequence from [`Normalizer::factors`].
    pub weight: &'a [f32],
    pub sequence: &'a [u32],
    pub sequences: usize,
    pub entropy: Option<&'a Tensor>,
    /// The value head's estimates now, those at the rollout, and what they should be.
    pub value: Option<(&'a Tensor, &'a [f32], &'a [f32])>,
}

/// The loss, and sums over tokens of what happened on the way.
pub struct Computed {
    pub loss: Tensor,
    pub figures: Figures,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    pub tokens: f64,
    /// Tokens whose term the clip made constant, below and above.
    pub clipped_low: f64,
    pub clipped_high: f64,
    /// Tokens whose importance weight reached the cap.
    pub capped: f64,
    /// Sums of k3 to the reference, of k1 to the old policy, of entropies, of squared value errors.
    pub kl: f64,
    pub old_kl: f64,
    pub entropy: f64,
    pub value_error: f64,
}

impl Figures {
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.tokens, other.tokens),
            (&mut self.clipped_low, other.clipped_low),
            (&mut self.clipped_high, other.clipped_high),
            (&mut self.capped, other.capped),
            (&mut self.kl, other.kl),
            (&mut self.old_kl, other.old_kl),
            (&mut self.entropy, other.entropy),
            (&mut self.value_error, other.value_error),
        ];
        pairs.into_iter().for_each(|(to, x)| *to += x);
    }
}

fn vector(x: &[f32]) -> Tensor {
    Tensor::from_slice(x, &[x.len()])
}

impl Objective {
    /// The loss of these tokens. Parts of an update add up: weights hold the normaliser of all of it.
    pub fn of(&self, a: &Actions) -> Computed {
        let (weight, advantage) = (vector(a.weight), vector(a.advantage));
        let mut figures = self.figures(a);
        let mut terms = self.terms(a, &advantage, &mut figures);
        if let (Some(cap), Some(behaviour)) = (self.importance_cap, a.behaviour) {
            let cap = cap as f32;
            let raw = || a.old.iter().zip(behaviour).map(|(o, b)| (o - b).exp());
            figures.capped = raw().filter(|w| *w >= cap).count() as f64;
            terms = terms * vector(&raw().map(|w| w.min(cap)).collect::<Vec<_>>());
        }
        let mut loss = (terms * &weight).sum().neg();
        if let (true, KlPlace::Loss, Some(reference)) = (self.kl != 0.0, self.kl_place, a.reference) {
            let x = vector(reference) - a.log_prob;
            let kl = match self.kl_kind {
                KlKind::K1 => x.neg(),
                KlKind::K2 => x.square().mul_scalar(0.5),
                KlKind::K3 => x.exp() - x.add_scalar(1.0),
            };
            loss = loss + (kl * &weight).sum().mul_scalar(self.kl as f32);
        }
        if let (true, Some(entropy)) = (self.entropy != 0.0, a.entropy) {
            loss = loss - (entropy * &weight).sum().mul_scalar(self.entropy as f32);
        }
        if let (Some(v), Some((value, old, target))) = (self.value, a.value) {
            let target = vector(target);
            let mut error = (value - &target).square();
            if let Some(c) = v.clip {
                let moved = value - vector(old);
                let held = moved.clamp(-c as f32, c as f32) + vector(old);
                error = error.maximum(&(held - &target).square());
            }
            loss = loss + (error * &weight).sum().mul_scalar(0.5 * v.factor as f32);
        }
        Computed { loss, figures }
    }

    fn terms(&self, a: &Actions, advantage: &Tensor, figures: &mut Figures) -> Tensor {
        let difference = || a.log_prob - vector(a.old);
        let log_ratio = match self.ratio {
            Ratio::None => return a.log_prob * advantage,
            Ratio::Token => difference(),
            Ratio::Sequence => difference().segment_mean(a.sequence, a.sequences).index_select(0, a.sequence),
        };
        let ratio = log_ratio.exp();
        let plain = &ratio * advantage;
        let Some((low, high)) = self.clip else { return plain };
        let (low, high) = ((1.0 - low) as f32, (1.0 + high) as f32);
        for (r, a) in ratio.data().iter().zip(a.advantage) {
            figures.clipped_low += f64::from(u8::from(*r < low && *a < 0.0));
            figures.clipped_high += f64::from(u8::from(*r > high && *a > 0.0));
        }
        let mut term = plain.minimum(&(ratio.clamp(low, high) * advantage));
        if let Some(c) = self.dual_clip {
            let floor: Vec<f32> = a.advantage.iter().map(|a| if *a < 0.0 { c as f32 * a } else { f32::MIN }).collect();
            term = term.maximum(&vector(&floor));
        }
        term
    }

    fn figures(&self, a: &Actions) -> Figures {
        let now = || a.log_prob.data().iter().map(|x| f64::from(*x));
        let mut f = Figures { tokens: a.advantage.len() as f64, ..Figures::default() };
        f.old_kl = now().zip(a.old).map(|(lp, old)| f64::from(*old) - lp).sum();
        if let Some(reference) = a.reference {
            f.kl = now().zip(reference).map(|(lp, r)| KlKind::K3.of(lp, f64::from(*r))).sum();
        }
        if let Some(entropy) = a.entropy {
            f.entropy = entropy.data().iter().map(|x| f64::from(*x)).sum();
        }
        if let Some((value, _, target)) = a.value {
            f.value_error = value.data().iter().zip(target).map(|(v, r)| f64::from(v - r).powi(2)).sum();
        }
        f
    }
}
