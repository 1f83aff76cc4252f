//! Optimisers over parameter groups, and the update protocol: edit gradients, clip (trainable entries only), optimiser,
//! constrain. Groups are chosen by name pattern and have their own learning rate, decay and kind. Of a parameter, chosen
//! entries alone may be trained: the others stay bit-identical, and moments are kept for the chosen ones only.

use std::collections::BTreeMap;

use postgrad_base::{Error, Result};
use postgrad_tensor::update::{AdamW, adamw, sgd};
use postgrad_tensor::{Buf, Param, Tensor, math};
use serde::{Deserialize, Serialize};

use crate::checkpoint::AnyTensor;

/// Which optimiser, with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Kind {
    AdamW { beta1: f32, beta2: f32, eps: f32 },
    Sgd { momentum: f32 },
}

impl Default for Kind {
    /// PyTorch's AdamW.
    fn default() -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// Settings of the parameters whose names match a pattern (`*` stands for any characters). The first matching group counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSpec {
    pub pattern: String,
    /// Factor on the run's learning rate.
    pub lr_scale: f64,
    pub weight_decay: f32,
    #[serde(default)]
    pub kind: Kind,
}

impl GroupSpec {
    /// One group for everything, decay on matrices only.
    pub fn default_groups(weight_decay: f32) -> Vec<Self> {
        let group = |pattern: &str, weight_decay| Self {
            pattern: pattern.into(),
            lr_scale: 1.0,
            weight_decay,
            kind: Kind::default(),
        };
        vec![group("*norm.weight", 0.0), group("*.bias", 0.0), group("*", weight_decay)]
    }
}

/// `*` in the pattern stands for any characters, also none.
pub fn name_matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut rest = rest;
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(i) => rest = &rest[i + part.len()..],
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(end) => rest.ends_with(end),
    }
}

struct State {
    param: Param,
    group: usize,
    step: u64,
    /// AdamW: both moments; SGD: the velocity, where there is momentum. One value an entry that is trained.
    moments: Vec<Buf>,
    /// The entries that are trained, ascending; all of them where there is no list.
    entries: Option<Vec<u32>>,
    /// A running figure of every entry, for whoever chooses entries by it.
    score: Option<Buf>,
}

impl State {
    fn trained(&self) -> usize {
        self.entries.as_ref().map_or(self.param.len(), Vec::len)
    }
}

fn gather(from: &[f32], entries: &[u32]) -> Buf {
    let mut out = Buf::scratch(entries.len());
    out.iter_mut().zip(entries).for_each(|(o, e)| *o = from[*e as usize]);
    out
}

fn scatter(values: &[f32], entries: &[u32], to: &mut [f32]) {
    values.iter().zip(entries).for_each(|(v, e)| to[*e as usize] = *v);
}

/// Ascending, each once, all below `len`.
fn well_formed(entries: &[u32], len: usize) -> bool {
    entries.windows(2).all(|w| w[0] < w[1]) && entries.last().is_none_or(|e| (*e as usize) < len)
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// L2 norm of all trainable gradients before clipping.
    pub grad_norm: f64,
    pub clipped: bool,
}

/// Parameters, their groups and their optimiser state.
pub struct Optimizer {
    groups: Vec<GroupSpec>,
    states: Vec<State>,
}

impl Optimizer {
    pub fn new(params: Vec<Param>, groups: Vec<GroupSpec>) -> Result<Self> {
        let mut states = Vec::with_capacity(params.len());
        for param in params {
            let group = groups.iter().position(|g| name_matches(&g.pattern, param.name())).ok_or_else(|| {
                Error::usage("no parameter group matches").at(param.name()).help("end the list with a group for `*`")
            })?;
            states.push(State { param, group, step: 0, moments: vec![], entries: None, score: None });
        }
        if states.is_empty() {
            return Err(Error::usage("nothing is trainable"));
        }
        Ok(Self { groups, states })
    }

    pub fn params(&self) -> impl Iterator<Item = &Param> {
        self.states.iter().map(|s| &s.param)
    }

    fn find(&mut self, name: &str) -> Result<&mut State> {
        let found = self.states.iter_mut().find(|s| s.param.name() == name);
        found.ok_or_else(|| Error::usage(format!("no trainable parameter `{name}`")))
    }

    /// Trains only the given entries (ascending places in the row-major parameter; `None`: all); the others stay
    /// bit-identical, without decay. A new list may come at any time: moments of entries in both carry over, those of entries
    /// left out are dropped, those of new ones start at 0, and the count of steps goes on.
    pub fn set_entries(&mut self, name: &str, entries: Option<Vec<u32>>) -> Result<()> {
        let state = self.find(name)?;
        let n = state.param.len();
        if let Some(entries) = entries.as_deref().filter(|e| !well_formed(e, n)) {
            let what = format!("{} entries that are not ascending places of {n}", entries.len());
            return Err(Error::work(what).at(name));
        }
        for moment in &mut state.moments {
            let mut dense = Buf::zeros(n);
            match &state.entries {
                Some(old) => scatter(moment, old, &mut dense),
                None => dense.copy_from_slice(moment),
            }
            *moment = entries.as_ref().map_or_else(|| Buf::copy(&dense), |new| gather(&dense, new));
        }
        state.entries = entries;
        Ok(())
    }

    /// The entries that are trained of a parameter, where not all are.
    pub fn entries(&self, name: &str) -> Option<&[u32]> {
        self.states.iter().find(|s| s.param.name() == name)?.entries.as_deref()
    }

    /// A running figure of every entry of a parameter, zeros at first; saved with the moments.
    pub fn score(&mut self, name: &str) -> Result<&mut Buf> {
        let state = self.find(name)?;
        let n = state.param.len();
        Ok(state.score.get_or_insert_with(|| Buf::zeros(n)))
    }

    /// Drops all that is kept of a parameter: moments and the count of its steps.
    pub fn forget(&mut self, name: &str) -> Result<()> {
        let state = self.find(name)?;
        state.moments.clear();
        state.step = 0;
        Ok(())
    }

    /// Moments of a parameter by kind: what AdamW or SGD keeps of it now.
    pub fn moments(&self, name: &str) -> Vec<&[f32]> {
        let state = self.states.iter().find(|s| s.param.name() == name);
        state.map_or_else(Vec::new, |s| s.moments.iter().map(|m| &m[..]).collect())
    }

    /// The first parameter whose value is not finite, else the first with such a gradient.
    pub fn not_finite(&self) -> Option<String> {
        let bad = |values: &[f32]| values.iter().any(|x| !x.is_finite());
        let value = self.states.iter().find(|s| bad(s.param.value().data())).map(|s| s.param.name().to_string());
        value.or_else(|| {
            let found = self.states.iter().find(|s| s.param.with_grad(|g| bad(g)) == Some(true));
            found.map(|s| format!("gradient of {}", s.param.name()))
        })
    }

    /// L2 norm of all gradients, trainable entries only.
    pub fn grad_norm(&self) -> f64 {
        let squares = |s: &State| {
            s.param.with_grad(|g| match &s.entries {
                Some(entries) => math::sum_squares(&gather(g, entries)),
                None => math::sum_squares(g),
            })
        };
        self.states.iter().filter_map(squares).sum::<f64>().sqrt()
    }

    /// Clips to `clip` (L2, over all), updates every parameter that has a gradient and empties the sinks. `lr` is the
    /// learning rate of this step.
    pub fn step(&mut self, lr: f64, clip: Option<f64>) -> Stats {
        let grad_norm = self.grad_norm();
        // PyTorch's clip_grad_norm_: norm / (total + 1e-6), at most 1.
        let factor = clip.map_or(1.0, |c| (c / (grad_norm + 1e-6)).min(1.0));
        for s in &mut self.states {
            let group = &self.groups[s.group];
            let lr = (lr * group.lr_scale) as f32;
            let n = s.trained();
            let State { param, step, moments, entries, .. } = s;
            let mut touched = false;
            param.update_with_grad(|w, g| {
                touched = true;
                *step += 1;
                let wanted = match group.kind {
                    Kind::AdamW { .. } => 2,
                    Kind::Sgd { momentum } => usize::from(momentum != 0.0),
                };
                moments.resize_with(wanted, || Buf::zeros(n));
                let mut apply = |w: &mut [f32], g: &[f32]| update(group, lr, factor as f32, *step, w, g, moments);
                match entries {
                    None => apply(w, g),
                    Some(entries) => {
                        let mut part = gather(w, entries);
                        apply(&mut part, &gather(g, entries));
                        scatter(&part, entries, w);
                    }
                }
            });
            if touched {
                drop(param.take_grad());
            }
        }
        Stats { grad_norm, clipped: factor < 1.0 }
    }

    /// Moments, chosen entries, scores and step counts by name, for a checkpoint.
    pub fn state(&self) -> BTreeMap<String, AnyTensor> {
        let mut out = BTreeMap::new();
        for s in &self.states {
            let name = s.param.name();
            // A count below 2^24 is exact in f32; no run is longer.
            out.insert(format!("{name}#step"), AnyTensor::Float(Tensor::new(vec![s.step as f32], &[1])));
            let whole = s.param.shape();
            for (i, m) in s.moments.iter().enumerate() {
                let part = [m.len()];
                let dims = if s.entries.is_some() { &part[..] } else { whole.dims() };
                out.insert(format!("{name}#{i}"), AnyTensor::Float(Tensor::from_slice(m, dims)));
            }
            if let Some(entries) = &s.entries {
                let values = entries.iter().map(|e| *e as i64).collect();
                out.insert(format!("{name}#entries"), AnyTensor::Int { values, shape: vec![entries.len()] });
            }
            if let Some(score) = &s.score {
                out.insert(format!("{name}#score"), AnyTensor::Float(Tensor::from_slice(score, whole.dims())));
            }
        }
        out
    }

    /// Takes back what [`Optimizer::state`] gave.
    pub fn restore(&mut self, state: &BTreeMap<String, AnyTensor>) -> Result<()> {
        for s in &mut self.states {
            let name = s.param.name().to_string();
            let n = s.param.len();
            let misshapen = || Error::work("the saved optimiser state has another shape").at(&name);
            let float = |key: &str| state.get(&format!("{name}#{key}")).and_then(AnyTensor::float);
            let step = float("step");
            s.step = step.ok_or_else(|| Error::work("the saved optimiser lacks a parameter").at(&name))?.item() as u64;
            s.entries = match state.get(&format!("{name}#entries")).and_then(AnyTensor::ints) {
                Some(saved) => {
                    let entries: Vec<u32> = saved.iter().filter_map(|e| u32::try_from(*e).ok()).collect();
                    if entries.len() != saved.len() || !well_formed(&entries, n) {
                        return Err(misshapen());
                    }
                    Some(entries)
                }
                None => None,
            };
            s.score = float("score").map(|t| Buf::copy(t.data()));
            s.moments.clear();
            while let Some(m) = float(&s.moments.len().to_string()) {
                s.moments.push(Buf::copy(m.data()));
            }
            let trained = s.trained();
            if s.moments.iter().any(|m| m.len() != trained) || s.score.as_ref().is_some_and(|m| m.len() != n) {
                return Err(misshapen());
            }
        }
        Ok(())
    }
}

/// One update of a parameter, or of some of its entries, in place.
fn update(group: &GroupSpec, lr: f32, grad_scale: f32, step: u64, w: &mut [f32], g: &[f32], moments: &mut [Buf]) {
    let weight_decay = group.weight_decay;
    match group.kind {
        Kind::AdamW { beta1, beta2, eps } => {
            let [m, v] = moments else { unreachable!("two moments") };
            adamw(AdamW { lr, beta1, beta2, eps, weight_decay, step, grad_scale }, w, g, m, v);
        }
        Kind::Sgd { momentum } => {
            let velocity = moments.first_mut().map(|v| &mut v[..]);
            sgd(lr, momentum, weight_decay, grad_scale, w, g, velocity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("*", "a.b", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*norm.weight", "model.norm.weight", true),
            ("model.layers.*.q_proj.*", "model.layers.3.self_attn.q_proj.weight", true),
            ("model.layers.*.q_proj.*", "model.layers.3.self_attn.k_proj.weight", false),
            ("*a*a", "aa", true),
            ("*a*a", "a", false),
        ] {
            assert_eq!(name_matches(pattern, name), want, "{pattern} {name}");
        }
    }

    fn param(name: &str) -> Param {
        Param::new(name, Tensor::new(vec![1.0, 2.0, 3.0], &[3]))
    }

    #[test]
    fn masked_entries_stay_and_do_not_count_into_the_norm() {
        let p = param("w");
        let mut o = Optimizer::new(vec![p.clone()], GroupSpec::default_groups(0.5)).unwrap();
        o.set_entries("w", Some(vec![0, 2])).unwrap();
        p.add_grad(&[3.0, 100.0, 4.0]);
        let stats = o.step(0.1, Some(1.0));
        assert_eq!(stats, Stats { grad_norm: 5.0, clipped: true });
        let v = p.value();
        assert_eq!(v.data()[1], 2.0);
        assert!(v.data()[0] < 1.0 && v.data()[2] < 3.0);
        assert!(p.grad().is_none());
        assert_eq!(o.moments("w").iter().map(|m| m.len()).collect::<Vec<_>>(), [2, 2], "moments of two entries alone");
        for wrong in [vec![1, 0], vec![1, 1], vec![3]] {
            assert!(o.set_entries("w", Some(wrong)).is_err());
        }
    }

    #[test]
    fn all_entries_listed_are_the_dense_update_bit_for_bit() {
        let run = |listed: bool| {
            let n = 1003;
            let p = Param::new("w", Tensor::new((0..n).map(|i| (i as f32).sin()).collect(), &[n]));
            let mut o = Optimizer::new(vec![p.clone()], GroupSpec::default_groups(0.1)).unwrap();
            if listed {
                o.set_entries("w", Some((0..n as u32).collect())).unwrap();
            }
            for step in 0..5 {
                p.add_grad(&(0..n).map(|i| ((i * (step + 2)) as f32).cos()).collect::<Vec<_>>());
                o.step(0.01, Some(1.0));
            }
            p.value().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert!(run(true) == run(false));
    }

    #[test]
    fn moments_of_entries_that_stay_are_carried_and_new_ones_start_at_zero() {
        let p = param("w");
        let mut o = Optimizer::new(vec![p.clone()], GroupSpec::default_groups(0.0)).unwrap();
        o.set_entries("w", Some(vec![0, 1])).unwrap();
        p.add_grad(&[1.0, 2.0, 3.0]);
        o.step(0.1, None);
        let before: Vec<Vec<f32>> = o.moments("w").iter().map(|m| m.to_vec()).collect();
        o.set_entries("w", Some(vec![1, 2])).unwrap();
        for (m, was) in o.moments("w").iter().zip(&before) {
            assert_eq!(**m, [was[1], 0.0]);
        }
        assert_eq!(o.states[0].step, 1, "the count of steps goes on");
        o.set_entries("w", None).unwrap();
        for (m, was) in o.moments("w").iter().zip(&before) {
            assert_eq!(**m, [0.0, was[1], 0.0]);
        }
        o.forget("w").unwrap();
        assert!(o.moments("w").is_empty() && o.states[0].step == 0);
    }

    #[test]
    fn a_restored_optimiser_goes_on_bit_for_bit() {
        let run = |split: bool, entries: Option<Vec<u32>>| {
            let p = param("w");
            let mut o = Optimizer::new(vec![p.clone()], GroupSpec::default_groups(0.1)).unwrap();
            o.set_entries("w", entries).unwrap();
            o.score("w").unwrap()[1] = 7.0;
            for i in 0..6 {
                if split && i == 3 {
                    let saved = o.state();
                    o = Optimizer::new(vec![p.clone()], GroupSpec::default_groups(0.1)).unwrap();
                    o.restore(&saved).unwrap();
                    assert_eq!(o.score("w").unwrap()[..], [0.0, 7.0, 0.0]);
                }
                p.add_grad(&[i as f32, -1.0, 0.5]);
                o.step(0.01, None);
            }
            p.value().data().to_vec()
        };
        for entries in [None, Some(vec![0, 2])] {
            assert_eq!(run(false, entries.clone()), run(true, entries));
        }
    }

    #[test]
    fn groups_have_their_own_settings() {
        let (a, b) = (param("a.weight"), param("b.weight"));
        let sgd = |pattern: &str, lr_scale| GroupSpec {
            pattern: pattern.into(),
            lr_scale,
            weight_decay: 0.0,
            kind: Kind::Sgd { momentum: 0.0 },
        };
        let mut o = Optimizer::new(vec![a.clone(), b.clone()], vec![sgd("a*", 2.0), sgd("*", 1.0)]).unwrap();
        a.add_grad(&[1.0; 3]);
        b.add_grad(&[1.0; 3]);
        o.step(0.25, None);
        assert_eq!((a.value().data()[0], b.value().data()[0]), (0.5, 0.75));
        assert!(Optimizer::new(vec![a], vec![sgd("x", 1.0)]).is_err());
    }
}
