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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Item;
    use serde_json::{Value, json};

    /// Rows of `n` items whose columns `f` says.
    fn rows(n: usize, f: impl Fn(usize) -> Value) -> std::sync::Arc<Vec<Item>> {
        let row = |i| Item { item: format!("i{i}"), cluster: None, metrics: f(i).as_object().unwrap().clone() };
        (0..n).map(row).collect::<Vec<_>>().into()
    }

    /// Arm `a` is right in 60 and `b` in 40 of 100 items and a little more or less by seed; each seed's tune has a loss.
    fn study(seeds: u64) -> Study {
        let mut study = Study::default();
        for seed in 0..seeds {
            for (arm, right) in [("a", 60 + seed as usize), ("b", 40)] {
                let right = |i: usize| f64::from(u8::from(i * 37 % 100 < right));
                study.put(arm, "t", seed, rows(100, |i| json!({"right": right(i), "p": (i % 10) as f64 / 10.0})));
                study.put(arm, "tuned", seed, rows(1, |_| json!({"loss": 1.0 + 0.01 * seed as f64})));
            }
        }
        study
    }

    fn claim(value: &str, holds: &str, primary: bool) -> Claim {
        let (value, holds) = (Expr::parse(value).unwrap(), Condition::parse(holds).unwrap());
        Claim { says: "c".into(), value, holds, interest: None, primary }
    }

    fn control(value: &str, tolerance: Tolerance) -> Control {
        Control { says: "k".into(), value: Expr::parse(value).unwrap(), tolerance }
    }

    const FIVE: Seeds = Seeds { primary: 5, others: 3 };
    const LEAD: &str = "a:t.right - b:t.right";

    fn one(study: &Study, value: &str, holds: &str) -> Judged {
        Judge::new(study).judge(&[claim(value, holds, true)], &[], FIVE).unwrap().claims.remove(0)
    }

    #[test]
    fn a_contrast_has_both_parts_of_its_error() {
        let study = study(5);
        let j = one(&study, LEAD, "> 0.05");
        let values: Vec<(u64, f64)> = (0..5).map(|s| (s, 0.2 + 0.01 * s as f64)).collect();
        assert!(j.per_seed.iter().zip(&values).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12), "{j:?}");
        // Items: about 0.22 of them differ, by 1: variance (0.22 - 0.22^2) / 100, and s^2 = 0.00025 over 5 seeds.
        let want = (0.1716f64 / 100.0 + 0.00025 / 5.0).sqrt();
        assert!((j.se.unwrap() - want).abs() < 0.1 * want, "{} {want}", j.se.unwrap());
        let half = 2.7764451051977934 * j.se.unwrap();
        assert!(
            (j.high.unwrap() - j.low.unwrap() - 2.0 * half).abs() < 1e-9 && (j.estimate.unwrap() - 0.22).abs() < 1e-12
        );
        let noise = j.noise.unwrap();
        assert!((noise.seed_sd - 0.00025f64.sqrt()).abs() < 1e-12 && (noise.item_sd - 0.414).abs() < 0.04, "{noise:?}");
        assert_eq!((j.state, j.items, j.seeds, j.level), (State::Holds, 100, 5, 0.95));
        let json = serde_json::to_string(&j).unwrap();
        let again: Judged = serde_json::from_str(&json).unwrap();
        let low = (again.low.unwrap() - j.low.unwrap()).abs();
        assert!(low < 1e-15 && again.state == j.state && again.noise.unwrap().items == 100);
        assert_eq!(one(&study, LEAD, "> 0.05"), j, "the same draws every time");
    }

    #[test]
    fn states_by_the_whole_interval() {
        let study = study(5);
        for (value, holds, want) in [
            (LEAD, "> 0.05", State::Holds),
            (LEAD, "> 0.2", State::Null),
            (LEAD, "> 0.02", State::Holds),
            (LEAD, "< 0", State::Contrary),
            (LEAD, "< 0.3", State::Null),
            (LEAD, "in [0, 0.5]", State::Holds),
            (LEAD, "in [-0.05, 0.05]", State::Contrary),
            (LEAD, "in [0.2, 0.25]", State::Underpowered),
            ("b:t.right - a:t.right", "> 0.1", State::Contrary),
            ("a:tuned.loss", "< 1.1", State::Holds),
            ("a:t.ratio(right, p) / b:t.ratio(right, p)", "> 1", State::Holds),
            ("a:t.auc(p, right)", "in [0, 1]", State::Holds),
            ("max([a:t.median(right), b:t.right]) - min(a:t.right, b:t.right)", "> 0", State::Holds),
        ] {
            let j = one(&study, value, holds);
            assert_eq!(j.state, want, "{value} {holds}: {j:?}");
        }
        let wide = Claim { interest: Some(0.01), ..claim(LEAD, "> 0.2", true) };
        assert_eq!(Judge::new(&study).judge(&[wide], &[], FIVE).unwrap().state, State::Underpowered);
        // Run figures rest on no item.
        assert_eq!(one(&study, "a:tuned.loss", "< 1.1").items, 0);
        let s = Judge::new(&study).summary("a", "t", &Metric::mean("right")).unwrap();
        assert!((s.estimate.unwrap() - 0.62).abs() < 1e-12 && s.low.unwrap() > 0.45 && s.high.unwrap() < 0.79, "{s:?}");
    }

    #[test]
    fn too_few_seeds_only_describe() {
        for (seeds, note) in [(0, "0 of 5"), (1, "1 of 5 declared seeds"), (4, "4 of 5 declared seeds")] {
            let study = study(seeds);
            let j = one(&study, LEAD, "> 0.05");
            assert_eq!((j.state, j.seeds as u64, j.low.is_some()), (State::Described, seeds, seeds > 1));
            assert!(j.note.unwrap().contains(note));
        }
        // An arm with fewer seeds gives its claims no more.
        let mut study = study(5);
        study.put("late", "t", 2, rows(100, |_| json!({"right": 1.0})));
        study.put("late", "t", 4, rows(100, |_| json!({"right": 1.0})));
        let all = [claim(LEAD, "> 0", true), claim("late:t.right - a:t.right", "> 0", false)];
        let verdict = Judge::new(&study).judge(&all, &[], FIVE).unwrap();
        let seeds: Vec<u64> = verdict.claims[1].per_seed.iter().map(|p| p.0).collect();
        assert_eq!((seeds, verdict.claims[1].state, verdict.state), (vec![2, 4], State::Described, State::Holds));
    }

    #[test]
    fn controls_are_heard() {
        let mut study = study(5);
        for seed in 0..5 {
            study.put("same", "t", seed, rows(100, |i| json!({"right": f64::from(u8::from(i * 37 % 100 < 40))})));
        }
        for (value, tolerance, want) in [
            ("same:t.right - b:t.right", Tolerance::Exact, State::Quiet),
            ("same:t.right - b:t.right", Tolerance::Within(0.01), State::Quiet),
            (LEAD, Tolerance::Exact, State::Loud),
            (LEAD, Tolerance::Within(0.05), State::Loud),
            (LEAD, Tolerance::Within(0.25), State::Unclear),
            (LEAD, Tolerance::Within(0.9), State::Quiet),
            ("nobody:t.right", Tolerance::Exact, State::Unclear),
        ] {
            let verdict =
                Judge::new(&study).judge(&[claim(LEAD, "> 0", true)], &[control(value, tolerance)], FIVE).unwrap();
            assert_eq!(verdict.controls[0].state, want, "{value} {tolerance}");
            assert_eq!(verdict.state, if want == State::Loud { State::Loud } else { State::Holds });
        }
    }

    #[test]
    fn holms_levels_agree_with_the_states() {
        let near = |got: Vec<f64>, want: &[f64]| {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{got:?} {want:?}");
        };
        near(step_down(&[0.04, 0.001, 0.02], 0.05), &[0.05, 0.05 / 3.0, 0.025]);
        // The second is not below 0.025: it and the third keep that level.
        near(step_down(&[0.04, 0.001, 0.03], 0.05), &[0.025, 0.05 / 3.0, 0.025]);
        near(step_down(&[f64::NAN, 0.02], 0.05), &[0.05, 0.025]);
        near(step_down(&[], 0.05), &[]);
        let study = study(5);
        let mut claims = vec![claim(LEAD, "> 0", true)];
        claims.extend(["> 0.02", "> 0.1", "> 0.12", "> 0.2", "< 0.9", "< 0"].map(|c| claim(LEAD, c, false)));
        let verdict = Judge::new(&study).judge(&claims, &[], FIVE).unwrap();
        let plain: Vec<f64> = verdict.claims[1..].iter().map(|j| j.p.unwrap()).collect();
        for (j, adjusted) in verdict.claims[1..].iter().zip(postgrad_numerics::holm(&plain)) {
            assert_eq!(matches!(j.state, State::Holds | State::Contrary), adjusted < 0.05, "{j:?} {adjusted}");
        }
        assert!(verdict.claims[0].level == 0.95 && verdict.claims[1].level > 0.95);
    }

    proptest::proptest! {
        #[test]
        fn holm_decides_what_its_levels_decide(ps in proptest::collection::vec(0.0f64..0.2, 0..8)) {
            let (levels, adjusted) = (step_down(&ps, 0.05), postgrad_numerics::holm(&ps));
            for i in 0..ps.len() {
                assert_eq!(ps[i] < levels[i], adjusted[i] < 0.05, "{ps:?}");
            }
        }
    }

    #[test]
    fn faults_name_their_place() {
        let mut study = study(5);
        let said = |study: &Study, value: &str| {
            Judge::new(study).judge(&[claim(value, "> 0", true)], &[], FIVE).unwrap_err().to_string()
        };
        let e = said(&study, "a:t.rihgt - b:t.right");
        assert!(e.contains("unknown column `rihgt`") && e.contains("arm `a`, stage `t`, seed 0"), "{e}");
        assert!(e.contains("did you mean `right`? known: right, p"), "{e}");
        // The same items in another order are the same items.
        let turned: Vec<Item> = study.rows("b", "t", 3).unwrap().iter().rev().cloned().collect();
        let before = one(&study, LEAD, "> 0.05");
        study.put("b", "t", 3, turned.into());
        assert_eq!(one(&study, LEAD, "> 0.05"), before);
        study.put("b", "t", 3, rows(99, |_| json!({"right": 1.0, "p": 0.5})));
        let e = said(&study, LEAD);
        assert!(e.contains("stage `t` measured other items (99) than in arm `a` with seed 0 (100)"), "{e}");
        assert!(e.contains("arm `b`, stage `t`, seed 3"), "{e}");
        let none = Judge::new(&study).judge(&[claim(LEAD, "> 0", false)], &[], FIVE).unwrap_err();
        assert!(none.to_string().contains("0 claims are primary"));
    }

    #[test]
    fn clusters_are_drawn_whole() {
        let mut study = Study::default();
        for seed in 0..3 {
            // Ten items a problem, all right or all wrong.
            let mut all = rows(100, |i| json!({"right": i / 10 % 2})).to_vec();
            study.put("alone", "t", seed, all.clone().into());
            all.iter_mut().for_each(|r| {
                r.cluster = Some(format!("p{}", r.item.trim_start_matches('i').parse::<usize>().unwrap() / 10))
            });
            study.put("together", "t", seed, all.into());
        }
        let mut judge = Judge::new(&study);
        let mut se = |arm| judge.summary(arm, "t", &Metric::mean("right")).unwrap();
        let (alone, together) = (se("alone"), se("together"));
        assert!((alone.se.unwrap() - 0.05).abs() < 0.005 && (together.se.unwrap() - 0.158).abs() < 0.016);
        assert_eq!((alone.items, together.items), (100, 10));
    }
}
