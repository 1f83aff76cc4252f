//! From rewards to advantages.
//!
//! A sequence has one reward, given at its last token; a penalty per token (KL to the reference) may be taken off before. Group
//! estimators give every token of a sequence the same advantage; `returns` and `gae` give each its own. Under these two, rewards
//! may come in channels, with values at every token and a discount each (Yeo 2025): a token's return is the sum over channels
//! of `G_t = r_t + gamma G_{t+1}`.

use serde::{Deserialize, Serialize};

/// What a reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Nothing: the reward itself.
    None,
    /// The mean of its group (GRPO).
    Group,
    /// The mean of the others of its group (RLOO, Kool 2019).
    LeaveOneOut,
    /// The mean of the whole batch.
    Batch,
    /// Each token's reward to go, discounted (REINFORCE++).
    Returns { gamma: f64 },
    /// Generalised advantage estimation over a value head (Schulman 2016).
    Gae { gamma: f64, lambda: f64 },
    /// 1 where the reward reaches this and the text is the first of its group to say so, else left out (expert iteration).
    Threshold(f64),
}

/// What a group estimator's advantages are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    None,
    /// The standard deviation of rewards in the group.
    Group,
    /// That of the batch.
    Batch,
}

/// How advantages are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimator {
    pub baseline: Baseline,
    pub scale: Scale,
    /// Standard deviations divide by n - 1 instead of n.
    pub sample_std: bool,
    /// Added to the standard deviation.
    pub eps: f64,
    /// Brings the counted tokens' advantages of the whole batch to mean 0 and variance 1.
    pub whiten: bool,
}

/// One kind of reward, with the discount it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    pub gamma: f64,
    /// One list a sequence, one value a counted token.
    pub rewards: Vec<Vec<f64>>,
}

/// What an estimator is given: sequences with their groups, rewards and lengths, in prompt-then-sample order.
pub struct Rewarded<'a> {
    pub rewards: &'a [f64],
    /// Numbered from 0, contiguous.
    pub group: &'a [u32],
    /// Counted tokens of each sequence.
    pub lengths: &'a [usize],
    /// Taken off each token's reward (KL in the reward): one list a sequence, or nothing.
    pub penalty: Option<&'a [Vec<f64>]>,
    /// The value head's estimate before each token; for `gae`.
    pub values: Option<&'a [Vec<f64>]>,
    /// Texts seen before in the group; for `threshold`.
    pub repeated: &'a [bool],
    /// For `returns` and `gae`: rewards token by token, in place of `rewards` at the last tokens. Those of one discount are
    /// added first, so that equal discounts give the scalar return to the bit. None: there are only `rewards`.
    pub channels: &'a [Channel],
}

impl Rewarded<'_> {
    /// The tokens' rewards of one sequence by discount; `gamma` is that of the penalty, and of `rewards` without channels.
    fn by_discount(&self, i: usize, gamma: f64) -> Vec<(f64, Vec<f64>)> {
        let penalty = || self.penalty.map(|p| p[i].iter().map(|p| -p).collect::<Vec<f64>>());
        if self.channels.is_empty() {
            let mut r = penalty().unwrap_or_else(|| vec![0.0; self.lengths[i]]);
            r.iter_mut().last().into_iter().for_each(|last| *last += self.rewards[i]);
            return vec![(gamma, r)];
        }
        let mut kinds: Vec<(f64, Vec<f64>)> = Vec::new();
        let mut add = |gamma: f64, values: &[f64]| match kinds.iter_mut().find(|k| k.0 == gamma) {
            Some((_, sum)) => sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += x),
            None => kinds.push((gamma, values.to_vec())),
        };
        self.channels.iter().for_each(|c| add(c.gamma, &c.rewards[i]));
        penalty().into_iter().for_each(|p| add(gamma, &p));
        kinds
    }
}

/// Rewards to go of all discounts together.
fn to_go(kinds: &[(f64, Vec<f64>)]) -> Vec<f64> {
    match kinds {
        [(gamma, rewards)] => returns(rewards, *gamma),
        _ => returns_by_kind(&kinds.iter().map(|(gamma, rewards)| (&rewards[..], *gamma)).collect::<Vec<_>>()),
    }
}

/// Advantages of tokens, and what was counted on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advantages {
    /// One list a sequence.
    pub tokens: Vec<Vec<f64>>,
    /// What the value head should have said; for `gae`.
    pub returns: Vec<Vec<f64>>,
    /// Sequences that take part in the update.
    pub kept: Vec<bool>,
    pub groups: usize,
    /// Groups whose rewards are all equal: they pull nowhere under a group baseline.
    pub even_groups: usize,
}

/// Positions of each group.
pub fn groups_of(group: &[u32]) -> Vec<std::ops::Range<usize>> {
    let mut out: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, g) in group.iter().enumerate() {
        match out.last_mut() {
            Some(r) if group[r.start] == *g => r.end = i + 1,
            _ => out.push(i..i + 1),
        }
    }
    out
}

/// Whether all rewards are the same number.
pub fn even(rewards: &[f64]) -> bool {
    rewards.windows(2).all(|w| w[0] == w[1])
}

impl Estimator {
    /// Advantages of all tokens of a batch.
    pub fn of(&self, of: &Rewarded) -> Advantages {
        let n = of.rewards.len();
        let groups = groups_of(of.group);
        let mut out = Advantages {
            kept: vec![true; n],
            groups: groups.len(),
            even_groups: groups.iter().filter(|r| even(&of.rewards[(*r).clone()])).count(),
            ..Advantages::default()
        };
        match self.baseline {
            Baseline::Returns { gamma } => out.tokens = (0..n).map(|i| to_go(&of.by_discount(i, gamma))).collect(),
            Baseline::Gae { gamma, lambda } => {
                let values = of.values.expect("gae needs values");
                for (i, values) in values.iter().enumerate() {
                    let a = match &of.by_discount(i, gamma)[..] {
                        [(gamma, rewards)] => gae(rewards, values, *gamma, lambda),
                        // Several discounts: lambda is 1.
                        kinds => to_go(kinds).iter().zip(values).map(|(g, v)| g - v).collect(),
                    };
                    out.returns.push(a.iter().zip(values).map(|(a, v)| a + v).collect());
                    out.tokens.push(a);
                }
            }
            Baseline::Threshold(least) => {
                out.kept = (0..n).map(|i| of.rewards[i] >= least && !of.repeated[i]).collect();
                out.tokens = (0..n).map(|i| vec![f64::from(u8::from(out.kept[i])); of.lengths[i]]).collect();
            }
            _ => {
                let mut whole = of.rewards.to_vec();
                if let Some(p) = of.penalty {
                    whole.iter_mut().zip(p).for_each(|(r, p)| *r -= p.iter().sum::<f64>());
                }
                let a = self.centred(&whole, &groups);
                out.tokens = a.iter().zip(of.lengths).map(|(a, len)| vec![*a; *len]).collect();
            }
        }
        if self.whiten {
            whiten(&mut out.tokens);
        }
        out
    }

    /// One advantage a sequence: the baseline taken off, then scaled. Groups of equal rewards give exactly 0.
    fn centred(&self, rewards: &[f64], groups: &[std::ops::Range<usize>]) -> Vec<f64> {
        let batch_mean = mean(rewards);
        let mut out = vec![0.0; rewards.len()];
        for range in groups {
            let own = &rewards[range.clone()];
            let (m, n) = (mean(own), own.len() as f64);
            for i in range.clone() {
                out[i] = match self.baseline {
                    Baseline::Group | Baseline::LeaveOneOut if even(own) => 0.0,
                    Baseline::Group => rewards[i] - m,
                    // r - mean of the others = n / (n - 1) (r - mean of all).
                    Baseline::LeaveOneOut => (rewards[i] - m) * n / (n - 1.0),
                    Baseline::Batch if even(rewards) => 0.0,
                    Baseline::Batch => rewards[i] - batch_mean,
                    _ => rewards[i],
                };
            }
            if self.scale == Scale::Group {
                let s = self.deviation(own) + self.eps;
                out[range.clone()].iter_mut().for_each(|a| *a /= s);
            }
        }
        if self.scale == Scale::Batch {
            let s = self.deviation(rewards) + self.eps;
            out.iter_mut().for_each(|a| *a /= s);
        }
        out
    }

    fn deviation(&self, x: &[f64]) -> f64 {
        let n = x.len() as f64 - f64::from(u8::from(self.sample_std));
        let m = mean(x);
        if n > 0.0 { (x.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n).sqrt() } else { 0.0 }
    }
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / (x.len() as f64).max(1.0)
}

/// Rewards to go: `G_t = r_t + gamma G_{t+1}`.
pub fn returns(rewards: &[f64], gamma: f64) -> Vec<f64> {
    let mut out = vec![0.0; rewards.len()];
    let mut next = 0.0;
    for (g, r) in out.iter_mut().zip(rewards).rev() {
        next = r + gamma * next;
        *g = next;
    }
    out
}

/// Rewards to go of several kinds of reward, each with its own discount, added (Yeo 2025).
pub fn returns_by_kind(rewards: &[(&[f64], f64)]) -> Vec<f64> {
    let mut out = vec![0.0; rewards.first().map_or(0, |r| r.0.len())];
    for (rewards, gamma) in rewards {
        out.iter_mut().zip(returns(rewards, *gamma)).for_each(|(o, g)| *o += g);
    }
    out
}

/// Generalised advantage estimation; the value after the last token is 0.
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Vec<f64> {
    assert_eq!(rewards.len(), values.len(), "a reward and a value a token");
    let mut out = vec![0.0; rewards.len()];
    let (mut next, mut value) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gamma * value - values[t];
        next = delta + gamma * lambda * next;
        out[t] = next;
        value = values[t];
    }
    out
}

/// Brings all values to mean 0 and variance 1 (n - 1); a batch without variance becomes 0.
pub fn whiten(values: &mut [Vec<f64>]) {
    let all: Vec<f64> = values.iter().flatten().copied().collect();
    let m = mean(&all);
    let var = all.iter().map(|x| (x - m).powi(2)).sum::<f64>() / (all.len() as f64 - 1.0).max(1.0);
    let scale = 1.0 / (var + 1e-8).sqrt();
    values.iter_mut().flatten().for_each(|x| *x = (*x - m) * scale);
}
