//! Losses over answers that are better and worse, on sums of log-probs: nothing here knows a model.
//!
//! An answer's score is its log-prob (sum or mean over its tokens), less the reference's where there is one. Answers of one
//! prompt form a group; in a group every answer with a higher rank is put above every one with a lower: two answers are
//! a pair, k are a ranking, one is an unpaired row. With `h` the difference of the two scores of a pair:
//!
//! | loss | of a pair | source |
//! |---|---|---|
//! | sigmoid | `-log s(beta h - margin)` | DPO (Rafailov 2023), SimPO (Meng 2024), CPO (Xu 2024) |
//! | … smoothing e | `(1-e)` of it and `e` of the reverse | cDPO (Mitchell 2023) |
//! | robust | `((1-e) l(h) - e l(-h)) / (1 - 2e)` | Chowdhury 2024 |
//! | squared | `(h - 1/(2 beta))^2` | IPO (Azar 2023) |
//! | hinge | `max(0, margin - beta h)` | SLiC (Zhao 2023), RRHF (Yuan 2023) |
//! | odds | `-beta log s(logit(better) - logit(worse))` | ORPO (Hong 2024) |
//! | kto | `1 - s(beta (r - z))`, `1 - s(beta (z - r))` | KTO (Ethayarajh 2024) |
//! | weighted | `-w(rank) log-prob` | reward-weighted regression |
//!
//! A group may have a gold answer, which the likelihood term alone sees: what AFT adds to its supervised fine-tuning.
//! `over = "log_sum"` joins the pairs of a group as `log(1 + sum exp(worse - better))` (AFT, Wang 2023). Step-level DPO is DPO
//! on sequences whose token weights leave out what is not judged. Left out: Plackett-Luce over whole rankings.

use postgrad_base::{Error, Result};
use postgrad_tensor::{Tensor, ops};
use serde::{Deserialize, Serialize};

/// What is computed of a pair, or of an unpaired row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Sigmoid,
    Robust,
    Squared,
    Hinge,
    Odds,
    Kto,
    Weighted,
}

/// An answer's log-prob: summed over its tokens, or their mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    Sum,
    Mean,
}

/// How the pairs of a group are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    Sum,
    Mean,
    LogSum,
}

/// What keeps the worse answer's log-prob from being pushed down without bound (AFT).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    None,
    /// The worse score gets no gradient.
    Detach,
    /// The worse score is pulled to this much below the lowest better one, from either side.
    Bound(f64),
}

/// One loss of the family. Every switch is explicit; [`Loss::named`] has the published settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    pub form: Form,
    pub beta: f64,
    /// Share of pairs taken to be the wrong way round.
    pub smoothing: f64,
    pub length: Length,
    /// Scores are relative to the reference policy.
    pub reference: bool,
    pub margin: f64,
    pub over: Over,
    pub constraint: Constraint,
    /// Factor on the negative log-likelihood of each group's gold answer (where it has none, of its best), added to the
    /// loss.
    pub nll: f64,
    pub nll_length: Length,
    /// KTO: weights of rows that are wanted and of those that are not.
    pub wanted: f64,
    pub unwanted: f64,
    /// Weighted: weights are the softmax of rank / temperature within the group; without one, the ranks themselves.
    pub temperature: Option<f64>,
}

/// Single settings laid over those of a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothing: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Length>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll_length: Option<Length>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwanted: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

impl Changes {
    /// The changed loss, checked.
    pub fn over(&self, loss: Loss) -> Result<Loss> {
        let loss = Loss {
            form: loss.form,
            beta: self.beta.unwrap_or(loss.beta),
            smoothing: self.smoothing.unwrap_or(loss.smoothing),
            length: self.length.unwrap_or(loss.length),
            reference: self.reference.unwrap_or(loss.reference),
            margin: self.margin.unwrap_or(loss.margin),
            over: self.over.unwrap_or(loss.over),
            constraint: self.constraint.unwrap_or(loss.constraint),
            nll: self.nll.unwrap_or(loss.nll),
            nll_length: self.nll_length.unwrap_or(loss.nll_length),
            wanted: self.wanted.unwrap_or(loss.wanted),
            unwanted: self.unwanted.unwrap_or(loss.unwanted),
            temperature: self.temperature.or(loss.temperature),
        };
        loss.check().map(|()| loss)
    }
}

/// Names of [`Loss::named`] with what each is.
pub const NAMES: [(&str, &str); 15] = [
    ("dpo", "direct preference optimisation"),
    ("cdpo", "DPO where some labels are wrong: label smoothing"),
    ("robust", "DPO, unbiased under wrong labels"),
    ("ipo", "squared distance to a margin, on mean log-probs"),
    ("kto", "unpaired rows, good or bad"),
    ("cpo", "DPO without a reference, and likelihood"),
    ("orpo", "odds ratio and likelihood, no reference"),
    ("simpo", "mean log-probs with a margin, no reference"),
    ("hinge", "DPO with a hinge"),
    ("slic", "hinge and likelihood, no reference"),
    ("rrhf", "all pairs of a ranking, hinge on mean log-probs, and likelihood"),
    ("aft", "log-sum over all pairs of a group, and likelihood"),
    ("aft-detach", "AFT; worse answers get no gradient"),
    ("aft-bound", "AFT; worse answers are kept within a bound"),
    ("weighted", "likelihood weighted by reward"),
];

impl Loss {
    /// DPO with beta 0.1.
    pub fn dpo() -> Self {
        Self {
            form: Form::Sigmoid,
            beta: 0.1,
            smoothing: 0.0,
            length: Length::Sum,
            reference: true,
            margin: 0.0,
            over: Over::Mean,
            constraint: Constraint::None,
            nll: 0.0,
            nll_length: Length::Mean,
            wanted: 1.0,
            unwanted: 1.0,
            temperature: None,
        }
    }

    /// Bradley-Terry on scores, as reward models are trained (Ouyang 2022).
    pub fn reward_model() -> Self {
        Self { beta: 1.0, reference: false, ..Self::dpo() }
    }

    /// The published settings of a method.
    pub fn named(name: &str) -> Result<Self> {
        let dpo = Self::dpo();
        let aft = Self { length: Length::Mean, beta: 1.0, reference: false, over: Over::LogSum, nll: 1.0, ..dpo };
        Ok(match name {
            "dpo" => dpo,
            "cdpo" => Self { smoothing: 0.1, ..dpo },
            "robust" => Self { form: Form::Robust, smoothing: 0.1, ..dpo },
            "ipo" => Self { form: Form::Squared, length: Length::Mean, ..dpo },
            "kto" => Self { form: Form::Kto, ..dpo },
            "cpo" => Self { reference: false, nll: 1.0, ..dpo },
            "orpo" => Self { form: Form::Odds, length: Length::Mean, reference: false, nll: 1.0, ..dpo },
            "simpo" => Self { beta: 2.0, margin: 1.0, length: Length::Mean, reference: false, ..dpo },
            "hinge" => Self { form: Form::Hinge, margin: 1.0, ..dpo },
            "slic" => Self { form: Form::Hinge, margin: 1.0, beta: 1.0, reference: false, nll: 1.0, ..dpo },
            "rrhf" => Self {
                form: Form::Hinge,
                beta: 1.0,
                length: Length::Mean,
                reference: false,
                over: Over::Sum,
                nll: 1.0,
                ..dpo
            },
            "aft" => aft,
            "aft-detach" => Self { constraint: Constraint::Detach, ..aft },
            "aft-bound" => Self { constraint: Constraint::Bound(0.2), ..aft },
            "weighted" => {
                Self { form: Form::Weighted, length: Length::Mean, reference: false, temperature: Some(1.0), ..dpo }
            }
            _ => {
                let known: Vec<&str> = NAMES.iter().map(|n| n.0).collect();
                return Err(Error::unknown("preference loss", name, &known, None));
            }
        })
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::usage(what));
        if !(self.beta.is_finite() && self.beta > 0.0) {
            return bad(format!("beta is {}, and must be above 0", self.beta));
        }
        if !(0.0..0.5).contains(&self.smoothing) {
            return bad(format!("label smoothing is {}, and must be at least 0 and below 0.5", self.smoothing));
        }
        if self.smoothing > 0.0 && !matches!(self.form, Form::Sigmoid | Form::Robust) {
            return bad("label smoothing belongs to the sigmoid and robust forms".into());
        }
        if self.form == Form::Odds && (self.length != Length::Mean || self.reference) {
            return bad("odds are of mean log-probs without a reference".into());
        }
        let plain = self.form == Form::Sigmoid && self.smoothing == 0.0;
        if !plain && (self.over == Over::LogSum || matches!(self.constraint, Constraint::Bound(_))) {
            return bad("a log-sum and a bound belong to the sigmoid form without label smoothing".into());
        }
        if matches!(self.constraint, Constraint::Bound(gap) if !(gap.is_finite() && gap > 0.0)) {
            return bad("the bound's gap must be above 0".into());
        }
        if !(self.nll.is_finite() && self.nll >= 0.0 && self.margin.is_finite()) {
            return bad("the likelihood's factor must be 0 or more, and the margin a number".into());
        }
        if self.temperature.is_some_and(|t| !(t.is_finite() && t > 0.0)) {
            return bad("the temperature of weights must be above 0".into());
        }
        Ok(())
    }

    /// Gold answers count.
    pub fn takes_gold(&self) -> bool {
        self.nll > 0.0 && !self.unpaired()
    }

    /// Rows need no partner.
    pub fn unpaired(&self) -> bool {
        matches!(self.form, Form::Kto | Form::Weighted)
    }
}

/// Answers with their log-probs. Groups are contiguous and numbered from 0.
pub struct Answers<'a> {
    /// Weighted sums of log-probs of the tokens of each answer, `[n]`.
    pub sums: &'a Tensor,
    /// The sum of these weights: the number of tokens, where all are 1.
    pub lengths: &'a [f32],
    /// The reference's sums; needed where the loss is relative to it.
    pub reference: Option<&'a [f32]>,
    pub group: &'a [u32],
    /// Higher is better; KTO: above 0 is wanted; weighted: the reward.
    pub rank: &'a [f32],
    /// Which are gold: in no pair, at most one a group. Empty: none is.
    pub gold: &'a [bool],
    /// Factor on each group.
    pub weight: &'a [f32],
    /// KTO: the baseline z, an estimate of beta-free KL, 0 or more.
    pub baseline: f32,
}

impl Answers<'_> {
    fn is_gold(&self, i: usize) -> bool {
        self.gold.get(i).copied().unwrap_or(false)
    }
}

/// The summed loss of all groups, and figures of it.
pub struct Computed {
    pub loss: Tensor,
    pub figures: Figures,
}

/// Sums over pairs (or rows), to be divided by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    pub groups: f64,
    /// Answers that are better in some pair (or wanted), their number and the sums of their log-probs.
    pub better: f64,
    pub better_log_prob: f64,
    pub worse: f64,
    pub worse_log_prob: f64,
    pub pairs: f64,
    /// Pairs in which the better answer has the higher score; equal ones count half.
    pub right: f64,
    /// Sum of `beta` times the differences of scores.
    pub margin: f64,
}

impl Figures {
    pub fn add(&mut self, other: &Self) {
        self.groups += other.groups;
        self.better += other.better;
        self.better_log_prob += other.better_log_prob;
        self.worse += other.worse;
        self.worse_log_prob += other.worse_log_prob;
        self.pairs += other.pairs;
        self.right += other.right;
        self.margin += other.margin;
    }
}

impl Loss {
    /// The loss of these answers, summed over groups (each times its weight). Divide by the groups of the whole update.
    pub fn of(&self, answers: &Answers) -> Computed {
        let n = answers.sums.len();
        let scores = self.scores(answers);
        let pairs = pairs(answers);
        let weight_of = |i: &u32| answers.weight[answers.group[*i as usize] as usize];
        let mut loss = match self.form {
            Form::Kto => self.kto(&scores, answers),
            Form::Weighted => {
                let w = self.reward_weights(answers);
                (&scores * &vector(&w)).sum().neg()
            }
            _ if pairs.better.is_empty() => scores.mul_scalar(0.0).sum(),
            _ => self.pairwise(&scores, &pairs, answers),
        };
        if self.takes_gold() {
            let mut factor = vec![0.0; n];
            for i in taught(answers) {
                let per = if self.nll_length == Length::Mean { answers.lengths[i as usize].max(1e-9) } else { 1.0 };
                factor[i as usize] = -(self.nll as f32) * weight_of(&i) / per;
            }
            loss = loss + (answers.sums * &vector(&factor)).sum();
        }
        Computed { figures: self.figures(&scores, &pairs, answers), loss }
    }

    fn scores(&self, answers: &Answers) -> Tensor {
        let mut s = answers.sums.clone();
        if let Some(reference) = answers.reference.filter(|_| self.reference) {
            s = s - vector(reference);
        }
        match self.length {
            Length::Sum => s,
            Length::Mean => s * vector(&answers.lengths.iter().map(|l| 1.0 / l.max(1e-9)).collect::<Vec<_>>()),
        }
    }

    fn pairwise(&self, scores: &Tensor, pairs: &Pairs, answers: &Answers) -> Tensor {
        let (beta, margin) = (self.beta as f32, self.margin as f32);
        let better = scores.index_select(0, &pairs.better);
        let mut worse = scores.index_select(0, &pairs.worse);
        if self.constraint == Constraint::Detach {
            worse = worse.detach();
        }
        let weights: Vec<f32> = pairs
            .better
            .iter()
            .map(|i| {
                let group = answers.group[*i as usize] as usize;
                let per = if self.over == Over::Mean { pairs.of_group[group] as f32 } else { 1.0 };
                answers.weight[group] / per
            })
            .collect();
        let h = &better - &worse;
        let each = match self.form {
            Form::Sigmoid if self.over == Over::LogSum || matches!(self.constraint, Constraint::Bound(_)) => {
                return self.log_sum(&better, &worse, pairs, answers, &weights);
            }
            Form::Sigmoid | Form::Robust => {
                let x = h.mul_scalar(beta).add_scalar(-margin);
                let (e, right, reverse) = (self.smoothing as f32, x.log_sigmoid().neg(), x.neg().log_sigmoid().neg());
                if self.form == Form::Sigmoid {
                    right.mul_scalar(1.0 - e) + reverse.mul_scalar(e)
                } else {
                    (right.mul_scalar(1.0 - e) - reverse.mul_scalar(e)).mul_scalar(1.0 / (1.0 - 2.0 * e))
                }
            }
            Form::Squared => h.add_scalar(-1.0 / (2.0 * beta)).square(),
            Form::Hinge => h.mul_scalar(-beta).add_scalar(margin).relu(),
            Form::Odds => {
                let odds = (&better - &log_of_rest(&better)) - (&worse - &log_of_rest(&worse));
                odds.log_sigmoid().mul_scalar(-beta)
            }
            Form::Kto | Form::Weighted => unreachable!("unpaired"),
        };
        (each * vector(&weights)).sum()
    }

    /// `log(1 + sum exp(beta (worse - better) + margin) [+ exp(bound - worse)])` over each group, or over each pair.
    fn log_sum(
        &self,
        better: &Tensor,
        worse: &Tensor,
        pairs: &Pairs,
        answers: &Answers,
        pair_weights: &[f32],
    ) -> Tensor {
        let beta = self.beta as f32;
        let mut terms = (worse - better).mul_scalar(beta).add_scalar(self.margin as f32);
        let per_group = self.over == Over::LogSum;
        let of = |k: usize| if per_group { answers.group[pairs.better[k] as usize] } else { k as u32 };
        let mut segment: Vec<u32> = (0..pairs.better.len()).map(of).collect();
        if let Constraint::Bound(gap) = self.constraint {
            // T = 2 (s* - gap) - s_p, a constant: the derivative in s_n vanishes at s_n = s* - gap.
            let (b, w) = (better.data(), worse.data());
            let lowest = |k: usize| {
                let same = |j: &usize| pairs.worse[*j] == pairs.worse[k];
                (0..b.len()).filter(same).map(|j| b[j]).fold(f32::INFINITY, f32::min)
            };
            let bound: Vec<f32> = (0..w.len()).map(|k| 2.0 * (lowest(k) - gap as f32) - b[k]).collect();
            let pull = (vector(&bound) - worse).mul_scalar(beta);
            terms = ops::concat(&[&terms, &pull], 0);
            segment.extend_from_within(..);
        }
        let n = if per_group { answers.weight.len() } else { pairs.better.len() };
        let mut top = vec![0.0f32; n];
        for (t, s) in terms.data().iter().zip(&segment) {
            top[*s as usize] = top[*s as usize].max(*t);
        }
        let shift: Vec<f32> = segment.iter().map(|s| top[*s as usize]).collect();
        let sums = (terms - vector(&shift)).exp().segment_sum(&segment, n);
        let one: Vec<f32> = top.iter().map(|t| (-t).exp()).collect();
        let logs = (sums + vector(&one)).log() + vector(&top);
        let weights = if per_group { answers.weight } else { pair_weights };
        (logs * vector(weights)).sum()
    }

    fn kto(&self, scores: &Tensor, answers: &Answers) -> Tensor {
        let sign = |r: &f32| if *r > 0.0 { 1.0 } else { -1.0 };
        let signs: Vec<f32> = answers.rank.iter().map(sign).collect();
        let weights: Vec<f32> = (answers.group.iter().zip(answers.rank))
            .enumerate()
            .map(|(i, (g, r))| match answers.is_gold(i) {
                true => 0.0,
                false => answers.weight[*g as usize] * if *r > 0.0 { self.wanted } else { self.unwanted } as f32,
            })
            .collect();
        let x = scores.add_scalar(-answers.baseline).mul_scalar(self.beta as f32) * vector(&signs);
        ((x.neg().sigmoid()) * vector(&weights)).sum()
    }

    fn reward_weights(&self, answers: &Answers) -> Vec<f32> {
        let group_weight = |i: usize| if answers.is_gold(i) { 0.0 } else { answers.weight[answers.group[i] as usize] };
        let Some(t) = self.temperature else {
            return (0..answers.rank.len()).map(|i| answers.rank[i] * group_weight(i)).collect();
        };
        let same = |i: usize| {
            (0..answers.rank.len()).filter(move |j| answers.group[*j] == answers.group[i] && !answers.is_gold(*j))
        };
        (0..answers.rank.len())
            .map(|i| {
                if answers.is_gold(i) {
                    return 0.0;
                }
                let top = same(i).map(|j| answers.rank[j]).fold(f32::NEG_INFINITY, f32::max);
                let e = |j: usize| ((answers.rank[j] - top) as f64 / t).exp();
                (e(i) / same(i).map(e).sum::<f64>()) as f32 * group_weight(i)
            })
            .collect()
    }

    fn figures(&self, scores: &Tensor, pairs: &Pairs, answers: &Answers) -> Figures {
        let (s, sums) = (scores.data(), answers.sums.data());
        let mut f = Figures { groups: answers.weight.len() as f64, ..Figures::default() };
        let mut seen = |i: usize, better: bool| {
            let lp = f64::from(sums[i]);
            if better {
                f.better += 1.0;
                f.better_log_prob += lp;
            } else {
                f.worse += 1.0;
                f.worse_log_prob += lp;
            }
        };
        if self.unpaired() {
            (0..s.len()).filter(|i| !answers.is_gold(*i)).for_each(|i| seen(i, answers.rank[i] > 0.0));
        } else {
            let unique = |ids: &[u32]| ids.iter().copied().collect::<std::collections::BTreeSet<u32>>();
            unique(&pairs.better).into_iter().for_each(|i| seen(i as usize, true));
            unique(&pairs.worse).into_iter().for_each(|i| seen(i as usize, false));
        }
        f.pairs = pairs.better.len() as f64;
        for (b, w) in pairs.better.iter().zip(&pairs.worse) {
            let h = f64::from(s[*b as usize]) - f64::from(s[*w as usize]);
            f.margin += self.beta * h;
            f.right += if h > 0.0 {
                1.0
            } else if h == 0.0 {
                0.5
            } else {
                0.0
            };
        }
        f
    }
}

fn vector(x: &[f32]) -> Tensor {
    Tensor::from_slice(x, &[x.len()])
}

/// Answers that are better than others of their group, and these.
struct Pairs {
    better: Vec<u32>,
    worse: Vec<u32>,
    of_group: Vec<usize>,
}

fn pairs(answers: &Answers) -> Pairs {
    let mut p = Pairs { better: vec![], worse: vec![], of_group: vec![0; answers.weight.len()] };
    let ranked = || (0..answers.rank.len()).filter(|i| !answers.is_gold(*i));
    for i in ranked() {
        let group = answers.group[i];
        for j in ranked().filter(|j| answers.group[*j] == group && answers.rank[i] > answers.rank[*j]) {
            p.better.push(i as u32);
            p.worse.push(j as u32);
            p.of_group[group as usize] += 1;
        }
    }
    p
}

/// What the likelihood is on: the gold answer of each group, else the best (the first of equal ones).
fn taught(answers: &Answers) -> Vec<u32> {
    let mut out: Vec<u32> = Vec::new();
    let before = |i: usize, b: usize| {
        let (mine, other) = (answers.is_gold(i), answers.is_gold(b));
        if mine == other { answers.rank[i] > answers.rank[b] } else { mine }
    };
    for i in 0..answers.rank.len() {
        match out.last_mut() {
            Some(b) if answers.group[*b as usize] == answers.group[i] => {
                if before(i, *b as usize) {
                    *b = i as u32;
                }
            }
            _ => out.push(i as u32),
        }
    }
    out
}

/// `log(1 - e^x)` for a log-prob x, in f64 inside: the log-prob of anything else. At most -1e-7 is taken, so that it is finite.
fn log_of_rest(x: &Tensor) -> Tensor {
    const TOP: f64 = -1e-7;
    let kept: Vec<f64> = x.data().iter().map(|x| f64::from(*x).min(TOP)).collect();
    let y: Vec<f32> = kept.iter().map(|x| (-x.exp_m1()).ln() as f32).collect();
    let y = Tensor::from_slice(&y, x.dims());
    let edge = x.edge();
    let shape = y.shape();
    let record = postgrad_tensor::recording([&edge]);
    Tensor::from_op(y.into_buf(), shape, record, move |mut dy, grads| {
        for (d, x) in dy.iter_mut().zip(&kept) {
            *d *= (-1.0 / (-x).exp_m1()) as f32;
        }
        grads.put(&edge, dy);
    })
}
