//! From estimates to states.

use postgrad_base::{Error, Result};
use postgrad_numerics::{t_cdf, t_quantile};
use serde::{Deserialize, Serialize};

use super::condition::{Condition, Tolerance};
use super::estimate::{Draws, Estimated, REPLICATES, estimate};
use super::expr::Expr;
use super::metric::Metric;
use super::{LEVEL, Noise, Study};

/// A claim, written before the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub says: String,
    pub value: Expr,
    pub holds: Condition,
    /// The smallest effect of interest; without it the bound's distance from 0 (half the width of an equivalence).
    pub interest: Option<f64>,
    /// Exactly one is: it decides the row's state.
    pub primary: bool,
}

/// What must come out the same, or a result is not to be believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    pub says: String,
    pub value: Expr,
    pub tolerance: Tolerance,
}

/// How many seeds a claim needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds {
    pub primary: usize,
    pub others: usize,
}

/// What came of a claim, a control or a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The whole interval satisfies the condition.
    Holds,
    /// The whole interval violates its sign.
    Contrary,
    /// Neither, and the half-width is above the smallest effect of interest.
    Underpowered,
    /// Neither, though the interval is narrow enough.
    Null,
    /// Fewer seeds than declared, or no interval.
    Described,
    /// Of a control: inside its tolerance.
    Quiet,
    /// Of a control: outside. Overrides the row's state.
    Loud,
    /// Of a control: neither.
    Unclear,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Holds => "holds",
            State::Contrary => "contrary",
            State::Underpowered => "underpowered",
            State::Null => "null",
            State::Described => "described",
            State::Quiet => "quiet",
            State::Loud => "loud",
            State::Unclear => "unclear",
        }
    }
}

/// A claim or a control, judged. Figures that are not known, or not finite, are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub says: String,
    pub value: String,
    /// `> 0.05`, `in [-0.1, 0.1]`; `exact`, `within 0.01` of a control.
    pub condition: String,
    pub primary: bool,
    pub interest: Option<f64>,
    pub state: State,
    /// Mean over seeds of the value on all items.
    pub estimate: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Of the interval: 0.95, or what Holm's adjustment makes of it.
    pub level: f64,
    pub se: Option<f64>,
    /// Two-sided, of the nearest bound of the condition; not adjusted.
    pub p: Option<f64>,
    pub seeds: usize,
    /// Clusters of items behind it; 0 where only figures of runs are.
    pub items: usize,
    /// Each seed's value, where it is a number.
    pub per_seed: Vec<(u64, f64)>,
    pub noise: Option<Noise>,
    /// What the reader must know besides: why there is no interval.
    pub note: Option<String>,
}

/// All of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `loud` where a control is, else the primary claim's.
    pub state: State,
    pub claims: Vec<Judged>,
    pub controls: Vec<Judged>,
}

/// One measure of one arm, for tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub arm: String,
    pub stage: String,
    pub metric: String,
    pub estimate: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub level: f64,
    pub se: Option<f64>,
    pub seeds: usize,
    pub items: usize,
    pub per_seed: Vec<(u64, f64)>,
}

/// Judges claims over a study; keeps the draws of items for all that it is asked.
pub struct Judge<'a> {
    study: &'a Study,
    draws: Draws,
}

impl<'a> Judge<'a> {
    pub fn new(study: &'a Study) -> Self {
        Self { study, draws: Draws::new(REPLICATES) }
    }

    /// The states of all claims and controls, in the order given. Errors where a value cannot be computed (a column that
    /// rows lack, items that differ between arms) or where not exactly one claim is primary.
    pub fn judge(&mut self, claims: &[Claim], controls: &[Control], declared: Seeds) -> Result<Verdict> {
        judge(self.study, claims, controls, declared, &mut self.draws)
    }

    /// A measure of an arm with its 95% interval over the seeds that it has.
    pub fn summary(&mut self, arm: &str, stage: &str, metric: &Metric) -> Result<Summary> {
        let e = estimate(self.study, &Expr::measure(arm, stage, metric.clone()), &mut self.draws)?;
        let (low, high) = interval(&e, LEVEL);
        Ok(Summary {
            arm: arm.into(),
            stage: stage.into(),
            metric: metric.show(),
            estimate: finite(e.value),
            low: finite(low),
            high: finite(high),
            level: LEVEL,
            se: e.error.and_then(|s| finite(s.se)),
            seeds: e.per_seed.len(),
            items: e.error.map_or(0, |s| s.items),
            per_seed: e.per_seed.into_iter().filter(|(_, v)| v.is_finite()).collect(),
        })
    }
}

pub(super) fn judge(
    study: &Study,
    claims: &[Claim],
    controls: &[Control],
    declared: Seeds,
    draws: &mut Draws,
) -> Result<Verdict> {
    let primaries = claims.iter().filter(|c| c.primary).count();
    if primaries != 1 {
        return Err(Error::usage(format!("{primaries} claims are primary, and one must be")));
    }
    let mut read = |says: &str, value: &Expr| estimate(study, value, draws).map_err(|e| e.at(format!("`{says}`")));
    let estimates = claims.iter().map(|c| read(&c.says, &c.value)).collect::<Result<Vec<_>>>()?;
    let ps: Vec<f64> = claims.iter().zip(&estimates).map(|(c, e)| p_value(c.holds, e)).collect();
    let others: Vec<usize> = (0..claims.len()).filter(|i| !claims[*i].primary).collect();
    let adjusted = step_down(&others.iter().map(|i| ps[*i]).collect::<Vec<f64>>(), 1.0 - LEVEL);
    let mut levels = vec![LEVEL; claims.len()];
    others.iter().zip(adjusted).for_each(|(i, alpha)| levels[*i] = 1.0 - alpha);

    let mut judged = Vec::new();
    for (((claim, e), p), level) in claims.iter().zip(&estimates).zip(ps).zip(levels) {
        let need = if claim.primary { declared.primary } else { declared.others };
        let mut out = filled(&claim.says, &claim.value, claim.holds.to_string(), e, level);
        out.state = state(claim, e, level, need);
        (out.primary, out.interest, out.p) = (claim.primary, claim.interest, finite(p));
        if out.seeds < need {
            out.note = Some(format!("{} of {need} declared seeds", out.seeds));
        }
        judged.push(out);
    }
    let mut quiet = Vec::new();
    for control in controls {
        let e = read(&control.says, &control.value)?;
        let mut out = filled(&control.says, &control.value, control.tolerance.to_string(), &e, LEVEL);
        out.state = control_state(control.tolerance, &e);
        quiet.push(out);
    }
    let loud = quiet.iter().any(|c| c.state == State::Loud);
    let primary = judged.iter().find(|c| c.primary).map_or(State::Described, |c| c.state);
    Ok(Verdict { state: if loud { State::Loud } else { primary }, claims: judged, controls: quiet })
}

fn state(claim: &Claim, e: &Estimated, level: f64, need: usize) -> State {
    if e.error.is_none() || e.per_seed.len() < need {
        return State::Described;
    }
    let (low, high) = interval(e, level);
    let interest = claim.interest.or_else(|| claim.holds.interest());
    if claim.holds.holds(low, high) {
        State::Holds
    } else if claim.holds.contrary(low, high) {
        State::Contrary
    } else if interest.is_some_and(|i| 0.5 * (high - low) > i) {
        State::Underpowered
    } else {
        State::Null
    }
}

fn control_state(tolerance: Tolerance, e: &Estimated) -> State {
    match tolerance {
        Tolerance::Exact if e.per_seed.is_empty() => State::Unclear,
        // A value that is no number is not 0 either.
        Tolerance::Exact if e.per_seed.iter().all(|(_, v)| *v == 0.0) => State::Quiet,
        Tolerance::Exact => State::Loud,
        Tolerance::Within(_) if e.error.is_none() => State::Unclear,
        Tolerance::Within(x) => {
            let (low, high) = interval(e, LEVEL);
            if -x <= low && high <= x {
                State::Quiet
            } else if low > x || high < -x {
                State::Loud
            } else {
                State::Unclear
            }
        }
    }
}

/// Student's interval with as many degrees as seeds less one; NaN where there is none.
fn interval(e: &Estimated, level: f64) -> (f64, f64) {
    let Some(spread) = e.error else { return (f64::NAN, f64::NAN) };
    let half = t_quantile(0.5 + level / 2.0, (e.per_seed.len() - 1) as f64) * spread.se;
    (e.value - half, e.value + half)
}

/// Two-sided p of the nearest bound: below alpha exactly where the interval at 1 - alpha leaves that bound out. NaN where
/// there is no interval.
fn p_value(condition: Condition, e: &Estimated) -> f64 {
    let Some(spread) = e.error else { return f64::NAN };
    if spread.se == 0.0 {
        let decided = condition.holds(e.value, e.value) || condition.contrary(e.value, e.value);
        return if decided { 0.0 } else { 1.0 };
    }
    2.0 * t_cdf(-condition.distance(e.value) / spread.se, (e.per_seed.len() - 1) as f64)
}

/// Holm's adjustment (1979) as levels: what each test's p is compared with. Tests are taken by rising p; the k-th of m is
/// compared with alpha / (m - k + 1), until one is not below; that and all that follow keep its level, at which none of
/// them can be decided, so that the interval at 1 - level and the state agree. A NaN counts as a test and comes last.
fn step_down(ps: &[f64], alpha: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    let mut out = vec![alpha; ps.len()];
    let mut stopped = None;
    for (rank, i) in order.into_iter().enumerate() {
        let own = alpha / (ps.len() - rank) as f64;
        if stopped.is_none() && (ps[i].is_nan() || ps[i] >= own) {
            stopped = Some(own);
        }
        out[i] = stopped.unwrap_or(own);
    }
    out
}

fn filled(says: &str, value: &Expr, condition: String, e: &Estimated, level: f64) -> Judged {
    let (low, high) = interval(e, level);
    Judged {
        says: says.into(),
        value: value.show(),
        condition,
        primary: false,
        interest: None,
        state: State::Described,
        estimate: finite(e.value),
        low: finite(low),
        high: finite(high),
        level,
        se: e.error.and_then(|s| finite(s.se)),
        p: None,
        seeds: e.per_seed.len(),
        items: e.error.map_or(0, |s| s.items),
        per_seed: e.per_seed.iter().copied().filter(|(_, v)| v.is_finite()).collect(),
        noise: e.error.map(|s| s.noise),
        note: e.note.clone(),
    }
}

fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}
