//! Every loss against plain f64 computations of its published formula, values and gradients, and identities between losses.

use postgrad_base::Stream;
use postgrad_tensor::{Tensor, gradients};

use super::data::{Group, Ranked};
use super::head::{HeadKind, RewardHead};
use super::loss::{Answers, Constraint, Form, Length, Loss, NAMES, Over};

/// Random answers: groups of 2 to 4 with ranks, some equal.
struct Case {
    sums: Vec<f64>,
    lengths: Vec<f32>,
    reference: Vec<f32>,
    group: Vec<u32>,
    rank: Vec<f32>,
    gold: Vec<bool>,
    weight: Vec<f32>,
    baseline: f32,
}

fn case(seed: u64, pairs_only: bool) -> Case {
    let mut s = Stream::new(seed, &["test"]);
    let mut c = Case {
        sums: vec![],
        lengths: vec![],
        reference: vec![],
        group: vec![],
        rank: vec![],
        gold: vec![],
        weight: vec![],
        baseline: 0.7,
    };
    for g in 0..4 {
        c.weight.push(0.5 + s.f32());
        for k in 0..if pairs_only { 2 } else { 2 + s.below(3) } {
            let len = 3.0 + s.below(5) as f32;
            c.lengths.push(len);
            c.sums.push(f64::from(-len * (0.2 + 2.0 * s.f32())));
            c.reference.push(*c.sums.last().unwrap() as f32 + s.normal() as f32);
            c.group.push(g);
            c.rank.push(if pairs_only { 1.0 - k as f32 } else { s.below(3) as f32 - 1.0 });
        }
    }
    c.gold = vec![false; c.rank.len()];
    c
}

/// The same with gold answers: one in the middle of the first group, one beside equal answers, one alone.
fn with_gold(seed: u64) -> Case {
    let mut c = case(seed, false);
    c.gold[1] = true;
    let (second, third) = (c.members(1), c.members(2));
    second.iter().for_each(|i| c.rank[*i] = 1.0);
    c.gold[second[0]] = true;
    let gone: Vec<usize> = third[1..].to_vec();
    c.gold[third[0]] = true;
    for i in gone.into_iter().rev() {
        c.sums.remove(i);
        c.lengths.remove(i);
        c.reference.remove(i);
        c.group.remove(i);
        c.rank.remove(i);
        c.gold.remove(i);
    }
    c
}

impl Case {
    /// The loss and its gradient in the sums.
    fn run(&self, loss: &Loss) -> (f64, Vec<f64>) {
        let sums: Vec<f32> = self.sums.iter().map(|x| *x as f32).collect();
        let sums = Tensor::new(sums, &[self.sums.len()]).input();
        let answers = Answers {
            sums: &sums,
            lengths: &self.lengths,
            reference: Some(&self.reference),
            group: &self.group,
            rank: &self.rank,
            gold: &self.gold,
            weight: &self.weight,
            baseline: self.baseline,
        };
        let out = loss.of(&answers).loss;
        let zero = vec![0.0; self.sums.len()];
        let grad = if out.needs_grad() { gradients(&out, &[&sums]).pop().flatten() } else { None };
        (f64::from(out.item()), grad.map_or(zero, |g| g.data().iter().map(|x| f64::from(*x)).collect()))
    }

    /// Central differences of a plain function of the sums.
    fn slope(&self, f: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
        let h = 1e-5;
        (0..self.sums.len())
            .map(|i| {
                let (mut a, mut b) = (self.sums.clone(), self.sums.clone());
                a[i] += h;
                b[i] -= h;
                (f(&a) - f(&b)) / (2.0 * h)
            })
            .collect()
    }

    fn members(&self, g: usize) -> Vec<usize> {
        (0..self.rank.len()).filter(|i| self.group[*i] as usize == g).collect()
    }

    /// Score of an answer: written out anew from the definition.
    fn score(&self, l: &Loss, x: &[f64], i: usize) -> f64 {
        let r = if l.reference { f64::from(self.reference[i]) } else { 0.0 };
        (x[i] - r) / if l.length == Length::Mean { f64::from(self.lengths[i]) } else { 1.0 }
    }

    /// The same loss in f64; `fixed` are the sums behind stopped gradients.
    fn plain(&self, l: &Loss, x: &[f64], fixed: &[f64]) -> f64 {
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut total = 0.0;
        for g in 0..self.weight.len() {
            let (gold, members): (Vec<usize>, Vec<usize>) = self.members(g).iter().partition(|i| self.gold[**i]);
            let w = f64::from(self.weight[g]);
            if l.form == Form::Kto {
                for &i in &members {
                    let v = l.beta * (self.score(l, x, i) - f64::from(self.baseline));
                    total += w * if self.rank[i] > 0.0 {
                        l.wanted * (1.0 - sigma(v))
                    } else {
                        l.unwanted * (1.0 - sigma(-v))
                    };
                }
                continue;
            }
            if l.form == Form::Weighted {
                let t = l.temperature.unwrap();
                let z: f64 = members.iter().map(|i| (f64::from(self.rank[*i]) / t).exp()).sum();
                for &i in &members {
                    total -= w * (f64::from(self.rank[i]) / t).exp() / z * self.score(l, x, i);
                }
                continue;
            }
            let mut pairs = vec![];
            for &p in &members {
                pairs.extend(members.iter().filter(|n| self.rank[p] > self.rank[**n]).map(|n| (p, *n)));
            }
            let worse = |n: usize| self.score(l, if l.constraint == Constraint::Detach { fixed } else { x }, n);
            let bound = |p: usize, n: usize| match l.constraint {
                Constraint::Bound(gap) => {
                    let lowest = pairs
                        .iter()
                        .filter(|q| q.1 == n)
                        .map(|q| self.score(l, fixed, q.0))
                        .fold(f64::INFINITY, f64::min);
                    let t = 2.0 * lowest - 2.0 * gap - self.score(l, fixed, p);
                    (l.beta * (t - worse(n))).exp()
                }
                _ => 0.0,
            };
            if l.over == Over::LogSum {
                let sum: f64 = pairs
                    .iter()
                    .map(|&(p, n)| (l.beta * (worse(n) - self.score(l, x, p)) + l.margin).exp() + bound(p, n))
                    .sum();
                total += w * (1.0 + sum).ln();
            } else {
                let mut sum = 0.0;
                for &(p, n) in &pairs {
                    let h = self.score(l, x, p) - worse(n);
                    let v = l.beta * h - l.margin;
                    let e = l.smoothing;
                    sum += match l.form {
                        Form::Sigmoid if e == 0.0 => ((-v).exp() + bound(p, n)).ln_1p(),
                        Form::Sigmoid => -(1.0 - e) * sigma(v).ln() - e * sigma(-v).ln(),
                        Form::Robust => (-(1.0 - e) * sigma(v).ln() + e * sigma(-v).ln()) / (1.0 - 2.0 * e),
                        Form::Squared => (h - 1.0 / (2.0 * l.beta)).powi(2),
                        Form::Hinge => (l.margin - l.beta * h).max(0.0),
                        Form::Odds => {
                            let odds = |s: f64| s.exp() / (1.0 - s.exp());
                            let ratio = odds(self.score(l, x, p)) / odds(worse(n));
                            -l.beta * sigma(ratio.ln()).ln()
                        }
                        Form::Kto | Form::Weighted => unreachable!(),
                    };
                }
                total += w * if l.over == Over::Mean { sum / (pairs.len() as f64).max(1.0) } else { sum };
            }
            let best = members.iter().copied().reduce(|a, b| if self.rank[b] > self.rank[a] { b } else { a });
            let best = gold.first().copied().or(best).unwrap();
            let per = if l.nll_length == Length::Mean { f64::from(self.lengths[best]) } else { 1.0 };
            total -= w * l.nll * x[best] / per;
        }
        total
    }

    fn check(&self, l: &Loss, what: &str) {
        l.check().unwrap();
        let (value, grad) = self.run(l);
        let want = self.plain(l, &self.sums, &self.sums);
        assert!((value - want).abs() < 2e-5 * (1.0 + want.abs()), "{what}: {value} {want}");
        let slope = self.slope(&|x| self.plain(l, x, &self.sums));
        for (i, (a, b)) in grad.iter().zip(&slope).enumerate() {
            assert!((a - b).abs() < 2e-4 * (1.0 + b.abs()), "{what}: gradient {i} is {a}, not {b}");
        }
    }
}

#[test]
fn every_named_loss_has_the_value_and_gradient_of_its_formula() {
    for seed in 0..8 {
        for (name, _) in NAMES {
            let loss = Loss::named(name).unwrap();
            case(seed, true).check(&loss, &format!("{name}, pairs, seed {seed}"));
            case(seed, false).check(&loss, &format!("{name}, rankings, seed {seed}"));
            let other = Loss { beta: 0.6, ..loss };
            case(seed, false).check(&other, &format!("{name}, beta 0.6, seed {seed}"));
        }
    }
}

#[test]
fn a_gold_answer_is_seen_by_the_likelihood_alone() {
    for seed in 0..8 {
        for (name, _) in NAMES {
            let named = Loss::named(name).unwrap();
            for nll in [named.nll, 0.7] {
                with_gold(seed).check(&Loss { nll, ..named }, &format!("{name}, nll {nll}, seed {seed}"));
            }
        }
        // Without pairs the loss is the likelihood of what is taught, whatever the other answers are.
        let mut c = with_gold(seed);
        c.rank.iter_mut().for_each(|r| *r = 1.0);
        let (value, grad) = c.run(&Loss::named("aft-bound").unwrap());
        let mut want = 0.0;
        for g in 0..4 {
            let taught = c.members(g).into_iter().find(|i| c.gold[*i]).unwrap_or(c.members(g)[0]);
            want -= f64::from(c.weight[g]) * c.sums[taught] / f64::from(c.lengths[taught]);
            for i in c.members(g) {
                let slope = if i == taught { f64::from(c.weight[g] / c.lengths[i]) } else { 0.0 };
                assert!((grad[i] + slope).abs() < 1e-6);
            }
        }
        assert!((value - want).abs() < 1e-5, "{value} {want}");
    }
}

#[test]
fn switches_combine() {
    let dpo = Loss::dpo();
    for seed in 0..4 {
        for length in [Length::Sum, Length::Mean] {
            for reference in [true, false] {
                for over in [Over::Sum, Over::Mean, Over::LogSum] {
                    for constraint in [Constraint::None, Constraint::Detach, Constraint::Bound(0.3)] {
                        let l = Loss { length, reference, over, constraint, nll: 0.3, nll_length: Length::Sum, ..dpo };
                        case(seed, false).check(&l, &format!("{l:?}"));
                    }
                }
                let l = Loss { form: Form::Kto, length, reference, wanted: 1.5, unwanted: 0.4, ..dpo };
                case(seed, false).check(&l, &format!("{l:?}"));
            }
        }
    }
}

/// All answers at the reference.
fn at_reference(seed: u64) -> Case {
    let mut c = case(seed, true);
    c.sums = c.reference.iter().map(|r| f64::from(*r)).collect();
    c.weight = vec![1.0; 4];
    c
}

#[test]
fn at_the_reference_the_known_values() {
    let c = at_reference(1);
    let per_group = |l: &Loss| c.run(l).0 / 4.0;
    let ln2 = std::f64::consts::LN_2;
    for name in ["dpo", "cdpo", "robust"] {
        assert!((per_group(&Loss::named(name).unwrap()) - ln2).abs() < 1e-6, "{name}");
    }
    let ipo = Loss { beta: 0.3, ..Loss::named("ipo").unwrap() };
    assert!((per_group(&ipo) - 1.0 / (4.0 * 0.09)).abs() < 1e-5);
    let kto = Case { baseline: 0.0, ..at_reference(1) }.run(&Loss::named("kto").unwrap()).0;
    assert!((kto / 8.0 - 0.5).abs() < 1e-6);
    // The weight of DPO's gradient is beta s(-beta h): beta / 2 at h = 0.
    let (_, grad) = c.run(&Loss::dpo());
    assert!(grad.chunks(2).all(|g| (g[0] + 0.05).abs() < 1e-6 && (g[1] - 0.05).abs() < 1e-6), "{grad:?}");
}

#[test]
fn as_beta_goes_to_nothing_the_gradient_is_that_of_the_plain_margin() {
    let beta = 1e-4;
    let (_, grad) = Case { weight: vec![1.0; 4], ..case(3, true) }.run(&Loss { beta, ..Loss::dpo() });
    assert!(grad.chunks(2).all(|g| (g[0] / beta + 0.5).abs() < 1e-3 && (g[1] / beta - 0.5).abs() < 1e-3));
}

#[test]
fn a_ranking_of_two_is_a_pair_and_a_log_sum_of_one_pair_is_the_sigmoid() {
    let c = case(4, true);
    let pair = c.run(&Loss::dpo());
    for over in [Over::Sum, Over::Mean] {
        assert_eq!(c.run(&Loss { over, ..Loss::dpo() }), pair);
    }
    let (value, grad) = c.run(&Loss { over: Over::LogSum, ..Loss::dpo() });
    assert!((value - pair.0).abs() < 1e-5 && grad.iter().zip(&pair.1).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn equal_answers_pull_nowhere_and_equal_ranks_make_no_pair() {
    let mut c = at_reference(5);
    c.lengths = vec![6.0; 8];
    for l in ["dpo", "ipo", "hinge"].map(|n| Loss::named(n).unwrap()) {
        let (_, grad) = c.run(&l);
        assert!(grad.chunks(2).all(|g| (g[0] + g[1]).abs() < 1e-6), "{grad:?}");
    }
    c.rank = vec![0.0; 8];
    for l in ["dpo", "aft-bound", "simpo"].map(|n| Loss { nll: 0.0, ..Loss::named(n).unwrap() }) {
        assert_eq!(c.run(&l), (0.0, vec![0.0; 8]));
    }
}

/// One group of answers of one token each, with no reference.
fn one_group(sums: &[f64], rank: &[f32]) -> Case {
    let n = sums.len();
    Case {
        sums: sums.to_vec(),
        lengths: vec![1.0; n],
        reference: vec![0.0; n],
        group: vec![0; n],
        rank: rank.to_vec(),
        gold: vec![],
        weight: vec![1.0],
        baseline: 0.0,
    }
}

#[test]
fn aft_has_its_values_by_hand() {
    let [plain, detach, bound] =
        ["aft", "aft-detach", "aft-bound"].map(|n| Loss { nll: 0.0, ..Loss::named(n).unwrap() });
    let near = |(value, _): (f64, Vec<f64>), want: f64| assert!((value - want).abs() < 2e-6, "{value} {want}");
    // Two answers of equal score.
    let equal = one_group(&[-0.5, -0.5], &[1.0, 0.0]);
    near(equal.run(&plain), 2f64.ln());
    near(equal.run(&detach), 2f64.ln());
    // One better answer and two worse ones, half and a quarter as likely. T - s_n is ln 2 - 0.4 and ln 4 - 0.4.
    let two = one_group(&[-0.2, -0.2 - 2f64.ln(), -0.2 - 4f64.ln()], &[1.0, 0.0, 0.0]);
    near(two.run(&plain), 1.75f64.ln());
    near(two.run(&detach), 1.75f64.ln());
    near(two.run(&bound), (1.75 + 6.0 * (-0.4f64).exp()).ln());
    // A ranking of three is the sum over its three pairs.
    let three = one_group(&[-0.2, -0.2 - 2f64.ln(), -0.2 - 4f64.ln()], &[2.0, 1.0, 0.0]);
    near(three.run(&plain), (1.0 + 0.5 + 0.25 + 0.5f64).ln());
    // Ranks of two say no more than which is better.
    for loss in [plain, detach, bound] {
        let two_ranks = |better, worse| one_group(&[-0.3, -1.1], &[better, worse]).run(&loss);
        assert_eq!(two_ranks(7.0, -2.0), two_ranks(1.0, 0.0));
    }
}

#[test]
fn cpo_of_equal_log_probs_is_ln_2_and_the_likelihood() {
    let mut c = Case { weight: vec![1.0; 4], ..case(8, true) };
    (0..8).step_by(2).for_each(|i| c.sums[i + 1] = c.sums[i]);
    let nll: f64 = (0..8).step_by(2).map(|i| -c.sums[i] / f64::from(c.lengths[i])).sum();
    let (value, _) = c.run(&Loss::named("cpo").unwrap());
    assert!((value - 4.0 * 2f64.ln() - nll).abs() < 1e-4, "{value} {nll}");
}

#[test]
fn kto_at_the_reference_is_a_half_whatever_the_label() {
    for label in [1.0, 0.0] {
        let (value, grad) = one_group(&[0.0], &[label]).run(&Loss::named("kto").unwrap());
        let sign = if label > 0.0 { -1.0 } else { 1.0 };
        assert!((value - 0.5).abs() < 1e-6 && (grad[0] - sign * 0.1 / 4.0).abs() < 1e-6, "{value} {grad:?}");
    }
}

#[test]
fn the_weight_of_dpos_gradient_falls_with_the_margin() {
    for h in [-30.0, -3.0, 0.0, 3.0, 30.0f64] {
        let (_, grad) = one_group(&[h, 0.0], &[1.0, 0.0]).run(&Loss::dpo());
        let want = 0.1 / (1.0 + (0.1 * h).exp());
        assert!((grad[0] + want).abs() < 1e-6 && (grad[1] - want).abs() < 1e-6, "{h}: {grad:?}");
    }
}

#[test]
fn ipo_is_lowest_at_its_margin() {
    let mut c = at_reference(6);
    let ipo = Loss { length: Length::Sum, beta: 0.5, ..Loss::named("ipo").unwrap() };
    (0..8).step_by(2).for_each(|i| c.sums[i] += 1.0);
    let (value, grad) = c.run(&ipo);
    assert!(value < 1e-9 && grad.iter().all(|g| g.abs() < 1e-5), "{value} {grad:?}");
}

#[test]
fn the_bound_vanishes_at_its_gap_and_the_order_in_a_group_does_not_matter() {
    let l = Loss { nll: 0.0, ..Loss::named("aft-bound").unwrap() };
    // Two better answers of one token each and one worse, at s* - gap, above and below.
    let slope = |worse: f64| {
        let c = Case {
            sums: vec![-1.0, -0.4, worse],
            lengths: vec![1.0; 3],
            reference: vec![0.0; 3],
            group: vec![0; 3],
            rank: vec![1.0, 1.0, 0.0],
            gold: vec![],
            weight: vec![1.0],
            baseline: 0.0,
        };
        c.run(&l).1[2]
    };
    assert!(slope(-1.2).abs() < 1e-6 && slope(-1.1) > 1e-3 && slope(-1.3) < -1e-3);
    let c = case(7, false);
    let mut swapped = case(7, false);
    swapped.sums.swap(0, 1);
    swapped.lengths.swap(0, 1);
    swapped.reference.swap(0, 1);
    swapped.rank.swap(0, 1);
    let (a, b) = (c.run(&l), swapped.run(&l));
    assert!((a.0 - b.0).abs() < 1e-5 && (a.1[0] - b.1[1]).abs() < 1e-5);
    let detached = c.run(&Loss { nll: 0.0, ..Loss::named("aft-detach").unwrap() }).1;
    let only_worse = |i: usize| c.members(c.group[i] as usize).iter().all(|j| c.rank[*j] >= c.rank[i]);
    assert!((0..detached.len()).filter(|i| only_worse(*i)).all(|i| detached[i] == 0.0));
}

#[test]
fn figures_count_pairs() {
    let c = case(2, false);
    let sums = Tensor::new(c.sums.iter().map(|x| *x as f32).collect(), &[c.sums.len()]);
    let answers = Answers {
        sums: &sums,
        lengths: &c.lengths,
        reference: None,
        group: &c.group,
        rank: &c.rank,
        gold: &[],
        weight: &c.weight,
        baseline: 0.0,
    };
    let f = Loss { reference: false, ..Loss::dpo() }.of(&answers).figures;
    let mut pairs = 0;
    let mut right = 0;
    for g in 0..4 {
        for i in c.members(g) {
            for j in c.members(g) {
                if c.rank[i] > c.rank[j] {
                    pairs += 1;
                    right += usize::from(c.sums[i] > c.sums[j]);
                }
            }
        }
    }
    assert_eq!((f.pairs, f.right, f.groups), (pairs as f64, right as f64, 4.0));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let dpo = Loss::dpo();
    for bad in [
        Loss { beta: 0.0, ..dpo },
        Loss { smoothing: 0.5, ..dpo },
        Loss { form: Form::Hinge, smoothing: 0.1, ..dpo },
        Loss { form: Form::Odds, ..dpo },
        Loss { form: Form::Squared, over: Over::LogSum, ..dpo },
        Loss { constraint: Constraint::Bound(0.0), ..dpo },
        Loss { nll: -1.0, ..dpo },
    ] {
        assert_eq!(bad.check().unwrap_err().exit_code(), 2, "{bad:?}");
    }
    assert!(Loss::named("dop").unwrap_err().to_string().contains("dpo"));
}

#[test]
fn heads_have_the_loss_and_gradient_of_their_formula() {
    let config = postgrad_nn::config::Config::llama(50, 16, 2, 2, 1, 32, 64, true);
    let decoder = postgrad_nn::Decoder::random(config, &Stream::new(3, &["base"])).unwrap();
    let mut s = Stream::new(5, &["data"]);
    let mut answer = |rank: f32, steps: &[(u32, bool)]| {
        let mut e = postgrad_data::Example::new((0..8).map(|_| s.below(50) as u32).collect());
        e.weights[..3].fill(0.0);
        // A template's last token, which the model does not write.
        e.weights[7] = 0.0;
        Ranked { example: e, rank, steps: steps.to_vec() }
    };
    let first = vec![answer(1.0, &[(4, true), (6, false)]), answer(0.0, &[(5, false)])];
    let second = vec![answer(-1.0, &[(3, true)])];
    let group = |answers: Vec<Ranked>, weight| {
        let g = Group::pair(answers[0].example.clone(), answers[0].example.clone());
        Group { answers, weight, ..g }
    };
    let groups = [group(first, 0.5), group(second, 2.0)];
    let groups: Vec<&Group> = groups.iter().collect();
    // (answer, place, right, weight)
    let outcome = [(0, 6, true, 0.25), (1, 6, false, 0.25), (2, 6, false, 2.0)];
    let third = 0.5 / 3.0;
    let process = [(0, 4, true, third), (0, 6, false, third), (1, 5, false, third), (2, 3, true, 2.0)];
    for (kind, terms) in [(HeadKind::Outcome, &outcome[..]), (HeadKind::Process, &process)] {
        let head = RewardHead::new(kind, 16);
        let [weight, bias] = head.params();
        weight.set(&(0..16).map(|i| 0.3 * (i as f32 - 7.5) / 7.5).collect::<Vec<_>>());
        bias.set(&[0.2]);
        let (computed, tokens) = head.loss(&decoder, &groups, &Loss::reward_model(), false).unwrap();
        let leaf = [weight.leaf(), bias.leaf()];
        let grads = {
            let again = head.loss(&decoder, &groups, &Loss::reward_model(), false).unwrap().0.loss;
            gradients(&again, &[&leaf[0], &leaf[1]])
        };
        let examples: Vec<_> = groups.iter().flat_map(|g| &g.answers).map(|a| &a.example).collect();
        let every: Vec<Vec<u32>> = examples.iter().map(|e| (0..e.len() as u32).collect()).collect();
        let hidden = crate::score::hidden_at(&decoder, &examples, &every, false).unwrap().0;
        let w: Vec<f64> = weight.value().data().iter().map(|x| f64::from(*x)).collect();
        let (mut want, mut slope, mut shift, mut right) = (0.0, [0.0; 16], 0.0, 0.0);
        for (answer, place, is_right, factor) in terms {
            let h = &hidden.data()[(answer * 8 + place) * 16..][..16];
            let value: f64 = h.iter().zip(&w).map(|(h, w)| f64::from(*h) * w).sum::<f64>() + f64::from(0.2f32);
            let p = 1.0 / (1.0 + (-value).exp());
            let y = f64::from(u8::from(*is_right));
            want -= factor * (y * p.ln() + (1.0 - y) * (1.0 - p).ln());
            slope.iter_mut().zip(h).for_each(|(s, h)| *s += factor * (p - y) * f64::from(*h));
            shift += factor * (p - y);
            right += f64::from(u8::from((value > 0.0) == *is_right));
        }
        assert!((f64::from(computed.loss.item()) - want).abs() < 1e-5, "{kind:?}");
        assert_eq!((computed.figures.right, computed.figures.pairs, tokens), (right, terms.len() as f64, 24));
        let got = grads[0].as_ref().unwrap();
        assert!(got.data().iter().zip(slope).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{kind:?}");
        assert!((f64::from(grads[1].as_ref().unwrap().item()) - shift).abs() < 1e-5);
    }
}
