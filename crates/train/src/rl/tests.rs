//! Objectives and advantages against plain f64 computations, values and gradients, and identities between methods.

use postgrad_base::Stream;
use postgrad_tensor::{Tensor, gradients};

use super::advantage::{
    Baseline, Channel, Estimator, Rewarded, Scale, gae, groups_of, returns, returns_by_kind, whiten,
};
use super::objective::{Actions, KlKind, KlPlace, Normalizer, Objective, Ratio, ValueLoss};
use super::settings::{Method, NAMES};
use crate::rewards::{Limits, Rewards};

/// Random tokens of some sequences.
struct Case {
    log_prob: Vec<f64>,
    old: Vec<f32>,
    behaviour: Vec<f32>,
    reference: Vec<f32>,
    advantage: Vec<f32>,
    sequence: Vec<u32>,
    lengths: Vec<usize>,
    value: Vec<f64>,
    old_value: Vec<f32>,
    target: Vec<f32>,
    entropy: Vec<f64>,
}

fn case(seed: u64) -> Case {
    let mut s = Stream::new(seed, &["test"]);
    let lengths: Vec<usize> = (0..5).map(|_| 1 + s.below(5)).collect();
    let n: usize = lengths.iter().sum();
    let mut near = |x: &[f32], by: f32| -> Vec<f32> { x.iter().map(|x| x + by * s.normal() as f32).collect() };
    let base = near(&vec![-1.5; n], 0.5);
    let old = near(&base, 0.25);
    let (behaviour, reference) = (near(&old, 0.2), near(&base, 0.4));
    let value = near(&vec![0.0; n], 1.0);
    let (old_value, target) = (near(&value, 0.3), near(&value, 1.0));
    let entropy = near(&vec![2.0; n], 0.3);
    let of_sequence = near(&[0.0; 5], 1.0);
    let sequence: Vec<u32> = lengths.iter().enumerate().flat_map(|(i, n)| vec![i as u32; *n]).collect();
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect();
    Case {
        log_prob: wide(&base),
        old,
        behaviour,
        reference,
        advantage: sequence.iter().map(|i| of_sequence[*i as usize]).collect(),
        sequence,
        lengths,
        value: wide(&value),
        old_value,
        target,
        entropy: wide(&entropy),
    }
}

/// Loss, and its gradients in log-probs and values.
type Out = (f64, Vec<f64>, Vec<f64>);

impl Case {
    fn weights(&self, normalizer: Normalizer) -> Vec<f64> {
        let f = normalizer.factors(&self.lengths, &[1.0; 5]);
        self.sequence.iter().map(|i| f[*i as usize]).collect()
    }

    fn run(&self, o: &Objective) -> Out {
        let tensor = |x: &[f64]| Tensor::new(x.iter().map(|x| *x as f32).collect(), &[x.len()]).input();
        let (lp, value, entropy) = (tensor(&self.log_prob), tensor(&self.value), tensor(&self.entropy));
        let weight: Vec<f32> = self.weights(o.normalizer).iter().map(|w| *w as f32).collect();
        let loss = o
            .of(&Actions {
                log_prob: &lp,
                old: &self.old,
                behaviour: Some(&self.behaviour),
                reference: Some(&self.reference),
                advantage: &self.advantage,
                weight: &weight,
                sequence: &self.sequence,
                sequences: 5,
                entropy: Some(&entropy),
                value: Some((&value, &self.old_value, &self.target)),
            })
            .loss;
        let grads = gradients(&loss, &[&lp, &value]);
        let wide = |g: &Option<Tensor>, n: usize| match g {
            Some(g) => g.data().iter().map(|x| f64::from(*x)).collect(),
            None => vec![0.0; n],
        };
        let n = self.old.len();
        (f64::from(loss.item()), wide(&grads[0], n), wide(&grads[1], n))
    }

    /// The same in f64, written out from the formulas.
    fn plain(&self, o: &Objective, lp: &[f64], value: &[f64]) -> f64 {
        let w = self.weights(o.normalizer);
        let f = f64::from;
        let mut total = 0.0;
        for t in 0..lp.len() {
            let a = f(self.advantage[t]);
            let mut term = match o.ratio {
                Ratio::None => a * lp[t],
                _ => {
                    let same =
                        |u: &usize| o.ratio == Ratio::Sequence && self.sequence[*u] == self.sequence[t] || *u == t;
                    let own: Vec<f64> = (0..lp.len()).filter(same).map(|u| lp[u] - f(self.old[u])).collect();
                    let ratio = (own.iter().sum::<f64>() / own.len() as f64).exp();
                    match o.clip {
                        None => ratio * a,
                        Some((low, high)) => {
                            let clipped = (ratio * a).min(ratio.clamp(1.0 - low, 1.0 + high) * a);
                            match o.dual_clip {
                                Some(c) if a < 0.0 => clipped.max(c * a),
                                _ => clipped,
                            }
                        }
                    }
                }
            };
            if let Some(cap) = o.importance_cap {
                term *= (f(self.old[t]) - f(self.behaviour[t])).exp().min(cap);
            }
            total -= w[t] * term;
            if o.kl_place == KlPlace::Loss {
                let d = lp[t] - f(self.reference[t]);
                let kl = match o.kl_kind {
                    KlKind::K1 => d,
                    KlKind::K2 => 0.5 * d * d,
                    KlKind::K3 => (-d).exp() + d - 1.0,
                };
                total += w[t] * o.kl * kl;
            }
            total -= w[t] * o.entropy * self.entropy[t];
            if let Some(v) = o.value {
                let (now, old, target) = (value[t], f(self.old_value[t]), f(self.target[t]));
                let mut e = (now - target).powi(2);
                if let Some(c) = v.clip {
                    e = e.max((old + (now - old).clamp(-c, c) - target).powi(2));
                }
                total += w[t] * 0.5 * v.factor * e;
            }
        }
        total
    }

    fn check(&self, o: &Objective, what: &str) {
        let (loss, by_lp, by_value) = self.run(o);
        let want = self.plain(o, &self.log_prob, &self.value);
        assert!((loss - want).abs() < 2e-5 * (1.0 + want.abs()), "{what}: {loss} {want}");
        let slope = |x: &[f64], f: &dyn Fn(&[f64]) -> f64, t: usize| {
            let (mut a, mut b) = (x.to_vec(), x.to_vec());
            a[t] += 1e-6;
            b[t] -= 1e-6;
            (f(&a) - f(&b)) / 2e-6
        };
        for t in 0..self.old.len() {
            let lp = slope(&self.log_prob, &|x| self.plain(o, x, &self.value), t);
            let v = slope(&self.value, &|x| self.plain(o, &self.log_prob, x), t);
            assert!((by_lp[t] - lp).abs() < 1e-4 * (1.0 + lp.abs()), "{what}: token {t}: {} {lp}", by_lp[t]);
            assert!((by_value[t] - v).abs() < 1e-4 * (1.0 + v.abs()), "{what}: value {t}: {} {v}", by_value[t]);
        }
    }
}

#[test]
fn every_method_has_the_value_and_gradient_of_its_formula() {
    for seed in 0..6 {
        for (name, _) in NAMES {
            let m = Method::named(name).unwrap().settle();
            m.check().unwrap();
            case(seed).check(&m.objective, &format!("{name}, seed {seed}"));
        }
    }
}

#[test]
fn switches_combine() {
    let base = Method::grpo().objective;
    let value = Some(ValueLoss { factor: 0.7, clip: Some(0.2) });
    for seed in 0..3 {
        for ratio in [Ratio::Token, Ratio::Sequence] {
            for normalizer in [Normalizer::Tokens, Normalizer::Sequences, Normalizer::Constant(9.0)] {
                for (kl_kind, clip) in
                    [(KlKind::K1, None), (KlKind::K2, Some((0.1, 0.3))), (KlKind::K3, Some((0.05, 0.05)))]
                {
                    for importance_cap in [None, Some(1.1)] {
                        let dual_clip = clip.map(|_| 1.2);
                        let o = Objective {
                            ratio,
                            normalizer,
                            kl_kind,
                            clip,
                            dual_clip,
                            importance_cap,
                            value,
                            kl: 0.3,
                            entropy: 0.2,
                            ..base
                        };
                        case(seed).check(&o, &format!("{o:?}"));
                    }
                }
            }
        }
    }
}

#[test]
fn at_a_ratio_of_one_the_gradient_is_minus_the_advantage() {
    let mut c = case(1);
    c.old = c.log_prob.iter().map(|x| *x as f32).collect();
    let grpo = Objective { kl: 0.0, ..Method::grpo().objective };
    let (_, grad, _) = c.run(&grpo);
    let w = c.weights(grpo.normalizer);
    for t in 0..grad.len() {
        assert!((grad[t] + w[t] * f64::from(c.advantage[t])).abs() < 1e-6);
    }
    // So there it is REINFORCE's, and GSPO's is the same.
    for ratio in [Ratio::None, Ratio::Sequence] {
        let clip = if ratio == Ratio::None { None } else { grpo.clip };
        let (_, other, _) = c.run(&Objective { ratio, clip, ..grpo });
        assert!(grad.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6), "{ratio:?}");
    }
}

#[test]
fn clipped_tokens_have_no_gradient() {
    let mut c = case(2);
    c.advantage.iter_mut().for_each(|a| *a = 1.0);
    c.log_prob = c.old.iter().map(|o| f64::from(*o) + 0.5).collect();
    let o = Objective { kl: 0.0, ..Method::grpo().objective };
    assert!(c.run(&o).1.iter().all(|g| *g == 0.0));
    c.advantage.iter_mut().for_each(|a| *a = -1.0);
    assert!(c.run(&o).1.iter().all(|g| *g > 0.0), "against the advantage nothing is clipped");
    c.log_prob = c.old.iter().map(|o| f64::from(*o) - 0.5).collect();
    assert!(c.run(&o).1.iter().all(|g| *g == 0.0), "below");
}

/// By hand, two tokens with targets of 0: a value that moved away costs itself, one that came nearer than the clip allows costs
/// what the clip leaves of it, and has no gradient.
#[test]
fn a_value_that_moved_too_far_costs_what_the_clip_leaves() {
    let of = |now: [f32; 2], clip: Option<f64>| {
        let (lp, value) = (Tensor::from_slice(&[-1.0, -1.0], &[2]), Tensor::from_slice(&now, &[2]).input());
        let (old, target) = ([0.5, 1.0], [0.0, 0.0]);
        let o = Objective { kl: 0.0, value: Some(ValueLoss { factor: 5.0, clip }), ..Method::grpo().objective };
        let actions = Actions {
            log_prob: &lp,
            old: &[-1.0, -1.0],
            behaviour: None,
            reference: None,
            advantage: &[0.0, 0.0],
            weight: &[0.5, 0.5],
            sequence: &[0, 0],
            sequences: 1,
            entropy: None,
            value: Some((&value, &old, &target)),
        };
        let loss = o.of(&actions).loss;
        let grad = gradients(&loss, &[&value])[0].as_ref().unwrap().data().to_vec();
        (loss.item(), grad)
    };
    let near = |a: &[f32], b: &[f32]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
    // 5/2 (1^2 / 2 + 0.8^2 / 2); with 0.5 -> 1.0 the clip would leave 0.7, with 1.0 -> 0.5 it leaves 0.8.
    let (loss, grad) = of([1.0, 0.5], Some(0.2));
    near(&[loss], &[2.5 * (0.5 + 0.32)]);
    near(&grad, &[2.5, 0.0]);
    let (loss, grad) = of([1.0, 0.5], None);
    near(&[loss], &[2.5 * (0.5 + 0.125)]);
    near(&grad, &[2.5, 1.25]);
    // Within the clip it changes nothing.
    let (held, free) = (of([0.6, 0.9], Some(0.2)), of([0.6, 0.9], None));
    near(&[held.0], &[free.0]);
    near(&held.1, &free.1);
}

#[test]
fn at_the_reference_every_kl_is_zero_and_k3_is_never_negative() {
    for kind in [KlKind::K1, KlKind::K2, KlKind::K3] {
        assert_eq!(kind.of(-1.25, -1.25), 0.0);
    }
    assert!((-40..40).all(|i| KlKind::K3.of(-1.0, -1.0 + f64::from(i) / 10.0) >= 0.0));
    // The mean of each estimates KL(p||q): k1 and k3 without bias.
    let (p, q): ([f64; 3], [f64; 3]) = ([0.5, 0.3, 0.2], [0.4, 0.4, 0.2]);
    let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
    for kind in [KlKind::K1, KlKind::K3] {
        let mean: f64 = p.iter().zip(&q).map(|(p, q)| p * kind.of(p.ln(), q.ln())).sum();
        assert!((mean - kl).abs() < 1e-12);
    }
}

fn of(e: &Estimator, rewards: &[f64], group: &[u32]) -> Vec<f64> {
    let n = rewards.len();
    let r = Rewarded {
        rewards,
        group,
        lengths: &vec![1; n],
        penalty: None,
        values: None,
        repeated: &vec![false; n],
        channels: &[],
    };
    e.of(&r).tokens.iter().map(|t| t[0]).collect()
}

const PLAIN: Estimator =
    Estimator { baseline: Baseline::Group, scale: Scale::None, sample_std: false, eps: 0.0, whiten: false };

#[test]
fn group_advantages() {
    let (rewards, group) = ([1.0, 0.0, 0.0, 1.0, 1.0, 0.5], [0, 0, 0, 0, 1, 1]);
    let a = of(&PLAIN, &rewards, &group);
    assert_eq!(a, [0.5, -0.5, -0.5, 0.5, 0.25, -0.25]);
    let scaled = of(&Estimator { scale: Scale::Group, ..PLAIN }, &rewards, &group);
    assert!(scaled.iter().zip([1.0, -1.0, -1.0, 1.0, 1.0, -1.0]).all(|(a, b)| (a - b).abs() < 1e-12));
    for range in groups_of(&group) {
        assert!(scaled[range.clone()].iter().sum::<f64>().abs() < 1e-12);
    }
    // E|A| = 2 sqrt(p (1 - p)) for binary rewards under the population's deviation.
    for k in 0..=8 {
        let rewards: Vec<f64> = (0..8).map(|i| f64::from(u8::from(i < k))).collect();
        let a = of(&Estimator { scale: Scale::Group, eps: 1e-12, ..PLAIN }, &rewards, &[0; 8]);
        let p = f64::from(k) / 8.0;
        let mean = a.iter().map(|a| a.abs()).sum::<f64>() / 8.0;
        assert!((mean - 2.0 * (p * (1.0 - p)).sqrt()).abs() < 1e-9, "{k}");
    }
}

#[test]
fn equal_rewards_pull_exactly_nowhere() {
    let rewards = [0.1 + 0.2; 6];
    for baseline in [Baseline::Group, Baseline::LeaveOneOut, Baseline::Batch] {
        for scale in [Scale::None, Scale::Group, Scale::Batch] {
            let e = Estimator { baseline, scale, eps: 1e-4, ..PLAIN };
            assert_eq!(of(&e, &rewards, &[0, 0, 0, 1, 1, 1]), [0.0; 6], "{e:?}");
        }
    }
    let r = Rewarded {
        rewards: &[1.0, 1.0, 1.0, 0.0],
        group: &[0, 0, 1, 1],
        lengths: &[1; 4],
        penalty: None,
        values: None,
        repeated: &[false; 4],
        channels: &[],
    };
    let a = PLAIN.of(&r);
    assert_eq!((a.groups, a.even_groups), (2, 1));
}

#[test]
fn leave_one_out_of_two_is_the_difference_and_in_general_the_others_mean() {
    let loo = Estimator { baseline: Baseline::LeaveOneOut, ..PLAIN };
    assert_eq!(of(&loo, &[0.25, 1.0], &[0, 0]), [-0.75, 0.75]);
    let rewards = [0.2, 0.9, -1.0, 0.4];
    let a = of(&loo, &rewards, &[0; 4]);
    for i in 0..4 {
        let others: f64 = (0..4).filter(|j| *j != i).map(|j| rewards[j]).sum::<f64>() / 3.0;
        assert!((a[i] - (rewards[i] - others)).abs() < 1e-12);
    }
    // GRPO without scaling is centred REINFORCE: of one group the batch's mean.
    let batch = Estimator { baseline: Baseline::Batch, ..PLAIN };
    assert_eq!(of(&PLAIN, &rewards, &[0; 4]), of(&batch, &rewards, &[0; 4]));
}

#[test]
fn generalised_advantages() {
    // By hand: deltas are 0 + 0.9 * 0.4 - 0.5, 0 + 0.9 * 0.2 - 0.4, 1 - 0.2.
    let a = gae(&[0.0, 0.0, 1.0], &[0.5, 0.4, 0.2], 0.9, 0.8);
    let d = [-0.14, -0.22, 0.8];
    let want = [d[0] + 0.72 * (d[1] + 0.72 * d[2]), d[1] + 0.72 * d[2], d[2]];
    assert!(a.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12));
    // With lambda = gamma = 1: what is still to come, less the value.
    let (r, v) = ([0.1, -0.3, 2.0, 0.5], [0.3, 0.2, -1.0, 0.7]);
    let (a, g) = (gae(&r, &v, 1.0, 1.0), returns(&r, 1.0));
    assert!((0..4).all(|t| (a[t] - (g[t] - v[t])).abs() < 1e-12));
    assert_eq!(returns(&[1.0, 2.0, 4.0], 0.5), [3.0, 4.0, 4.0]);
    let kinds = returns_by_kind(&[(&[0.0, 0.0, 1.0], 1.0), (&[0.0, -1.0, 0.0], 0.99)]);
    assert!(kinds.iter().zip([0.01, 0.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12));
    assert_eq!(returns_by_kind(&[(&[1.0, 2.0], 0.5), (&[3.0, 4.0], 0.5)]), returns(&[4.0, 6.0], 0.5));
    let mut w = vec![vec![1.0, 2.0], vec![4.0, 9.0, -3.0]];
    whiten(&mut w);
    let all: Vec<f64> = w.concat();
    let (m, v) = (all.iter().sum::<f64>() / 5.0, all.iter().map(|x| x * x).sum::<f64>() / 4.0);
    assert!(m.abs() < 1e-12 && (v - 1.0).abs() < 1e-6, "{m} {v}");
}

#[test]
fn expert_iteration_keeps_what_is_right_once() {
    let e = Method::named("expert-iteration").unwrap().estimator;
    let r = Rewarded {
        rewards: &[1.0, 1.0, 0.0, 1.0],
        group: &[0, 0, 0, 1],
        lengths: &[2, 2, 1, 1],
        penalty: None,
        values: None,
        repeated: &[false, true, false, false],
        channels: &[],
    };
    let a = e.of(&r);
    assert_eq!(a.kept, [true, false, false, true]);
    assert_eq!(a.tokens, [vec![1.0, 1.0], vec![0.0, 0.0], vec![0.0], vec![1.0]]);
}

#[test]
fn penalties_come_off_the_rewards() {
    let r = Rewarded {
        rewards: &[1.0, 0.0],
        group: &[0, 0],
        lengths: &[2, 1],
        penalty: Some(&[vec![0.25, 0.5], vec![-1.0]]),
        values: None,
        repeated: &[false; 2],
        channels: &[],
    };
    let e = Estimator { baseline: Baseline::None, ..PLAIN };
    assert_eq!(e.of(&r).tokens, [vec![0.25, 0.25], vec![1.0]]);
    let e = Estimator { baseline: Baseline::Returns { gamma: 1.0 }, ..PLAIN };
    assert_eq!(e.of(&r).tokens, [vec![0.25, 0.5], vec![1.0]]);
}

/// A sequence of four tokens: right at its end, a penalty in its middle, a KL at each.
const RIGHT: [f64; 4] = [0.0, 0.0, 0.0, 1.0];
const AGAIN: [f64; 4] = [0.0, -0.05, -0.05, 0.0];
const KL: [f64; 4] = [0.01, -0.02, 0.03, 0.04];

fn channels(gammas: [f64; 2]) -> [Channel; 2] {
    let of = |gamma, rewards: [f64; 4]| Channel { gamma, rewards: vec![rewards.to_vec()] };
    [of(gammas[0], RIGHT), of(gammas[1], AGAIN)]
}

#[test]
fn a_tokens_return_is_the_sum_over_channels() {
    let of = |baseline, channels: &[Channel], penalty: Option<&[Vec<f64>]>, values: Option<&[Vec<f64>]>| {
        let rewards = [0.9];
        let r =
            Rewarded { rewards: &rewards, group: &[0], lengths: &[4], penalty, values, repeated: &[false], channels };
        Estimator { baseline, ..PLAIN }.of(&r)
    };
    let near = |a: &[f64], b: &[f64]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
    // By hand: correctness 1 everywhere; repetition -0.05 (0.99 + 0.99^2), -0.05 (1 + 0.99), -0.05, 0.
    let hand = [1.0 - 0.05 * (0.99 + 0.9801), 1.0 - 0.05 * 1.99, 0.95, 1.0];
    let returns = Baseline::Returns { gamma: 1.0 };
    near(&of(returns, &channels([1.0, 0.99]), None, None).tokens[0], &hand);
    // The KL has the estimator's discount.
    let kl = [KL.to_vec()];
    let with_kl = of(returns, &channels([1.0, 0.99]), Some(&kl), None).tokens;
    near(&with_kl[0], &(0..4).map(|t| hand[t] - KL[t..].iter().sum::<f64>()).collect::<Vec<_>>());
    // With a value head, the same less the values; the head is to say the returns.
    let values = [vec![0.5, 0.25, -1.0, 2.0]];
    let gae = |lambda| Baseline::Gae { gamma: 1.0, lambda };
    let a = of(gae(1.0), &channels([1.0, 0.99]), None, Some(&values));
    near(&a.tokens[0], &(0..4).map(|t| hand[t] - values[0][t]).collect::<Vec<_>>());
    near(&a.returns[0], &hand);
    // Sweeps of both discounts, against sums of powers.
    for (c, r) in [(1.0, 1.0), (1.0, 0.999), (0.999, 0.999), (0.999, 0.99), (0.99, 0.99)] {
        let power = |x: &[f64; 4], g: f64, t: usize| (t..4).map(|u| g.powi((u - t) as i32) * x[u]).sum::<f64>();
        let want: Vec<f64> = (0..4).map(|t| power(&RIGHT, c, t) + power(&AGAIN, r, t)).collect();
        near(&of(returns, &channels([c, r]), None, None).tokens[0], &want);
    }
}

#[test]
fn equal_discounts_are_the_scalar_return_to_the_bit() {
    let bits = |x: &[Vec<f64>]| x[0].iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (values, kl) = ([vec![0.3, 0.1, 0.7, -0.2]], [KL.to_vec()]);
    for gamma in [1.0, 0.97] {
        for baseline in [Baseline::Returns { gamma }, Baseline::Gae { gamma, lambda: 0.95 }] {
            for penalty in [None, Some(&kl[..])] {
                let rewards = [0.1 + 0.7];
                let last = |x: f64| Channel { gamma, rewards: vec![vec![0.0, 0.0, 0.0, x]] };
                let of = |channels: &[Channel]| {
                    let values = Some(&values[..]);
                    let (group, lengths, repeated) = (&[0], &[4], &[false]);
                    let r = Rewarded { rewards: &rewards, group, lengths, penalty, values, repeated, channels };
                    let a = Estimator { baseline, ..PLAIN }.of(&r);
                    (bits(&a.tokens), a.returns)
                };
                assert_eq!(of(&[last(0.1), last(0.7)]), of(&[]), "{baseline:?}");
            }
        }
    }
}

#[test]
fn discounts_that_an_estimator_has_no_use_for_are_refused() {
    let fits = |method: &Method, specs: &[&str]| {
        let limits = Limits { max_tokens: 64, command: std::time::Duration::from_secs(1) };
        let specs: Vec<String> = specs.iter().map(|s| s.to_string()).collect();
        method.fits(&Rewards::parse(&specs, limits).unwrap())
    };
    let (grpo, ppo) = (Method::grpo(), Method::named("ppo").unwrap());
    let two = ["correct?gamma=1", "repeat?n=4&gamma=0.99"];
    fits(&grpo, &["correct?gamma=1", "repeat"]).unwrap();
    let e = fits(&grpo, &two).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("the reward `repeat` has a discount"), "{e}");
    fits(&Method::named("reinforce++").unwrap(), &two).unwrap();
    let e = fits(&ppo, &two).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("lambda is 0.95"), "{e}");
    fits(&ppo, &["correct", "repeat?gamma=1"]).unwrap();
    // The KL in the reward has the estimator's discount, 1.
    assert!(fits(&ppo, &["correct?gamma=0.9", "repeat?gamma=0.9"]).is_err());
    let free = Method { objective: Objective { kl: 0.0, ..ppo.objective }, ..ppo.clone() };
    fits(&free, &["correct?gamma=0.9", "repeat?gamma=0.9"]).unwrap();
    let e = Estimator { baseline: Baseline::Gae { gamma: 1.0, lambda: 1.0 }, ..ppo.estimator };
    fits(&Method { estimator: e, ..ppo }, &two).unwrap();
}

#[test]
fn factors_add_up() {
    let (lengths, weights) = ([3, 0, 5], [1.0, 1.0, 1.0]);
    let total =
        |n: Normalizer| -> f64 { n.factors(&lengths, &weights).iter().zip(lengths).map(|(f, n)| f * n as f64).sum() };
    assert!((total(Normalizer::Tokens) - 1.0).abs() < 1e-12 && (total(Normalizer::Sequences) - 1.0).abs() < 1e-12);
    assert!((total(Normalizer::Constant(4.0)) - 8.0 / 8.0).abs() < 1e-12);
    let f = Normalizer::Sequences.factors(&lengths, &weights);
    assert!((f[0] - 1.0 / 6.0).abs() < 1e-12 && f[1] == 0.0 && (f[2] - 0.1).abs() < 1e-12);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let g = Method::grpo;
    let bad = [
        Method { group: 1, ..g() },
        Method { temperature: 0.0, ..g() },
        Method { epochs: 2, ..Method::named("rloo").unwrap() },
        Method { objective: Objective { value: Some(ValueLoss { factor: 1.0, clip: None }), ..g().objective }, ..g() },
        Method { objective: Objective { clip: Some((0.0, 0.2)), ..g().objective }, ..g() },
        Method { dynamic_rounds: 2, ..Method::named("ppo").unwrap() },
    ];
    for m in bad {
        assert_eq!(m.check().unwrap_err().exit_code(), 2, "{m:?}");
    }
    assert_eq!(Method::named("gpro").unwrap_err().exit_code(), 2);
}
