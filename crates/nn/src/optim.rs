//! Optimisers over parameter groups, and the update protocol: edit gradients, clip (trainable entries only), optimiser,
//! constrain. Groups are chosen by name pattern and have their own learning rate, decay and kind; entry masks keep chosen
//! entries of a parameter bit-identical.

use std::collections::BTreeMap;

use postgrad_base::{Error, Result};
use postgrad_tensor::update::{AdamW, adamw, sgd};
use postgrad_tensor::{Buf, Param, Tensor, math};
use serde::{Deserialize, Serialize};

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
    /// AdamW: both moments; SGD: the velocity, where there is momentum.
    moments: Vec<Buf>,
    mask: Option<Vec<u8>>,
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
            states.push(State { param, group, step: 0, moments: vec![], mask: None });
        }
        if states.is_empty() {
            return Err(Error::usage("nothing is trainable"));
        }
        Ok(Self { groups, states })
    }

    pub fn params(&self) -> impl Iterator<Item = &Param> {
        self.states.iter().map(|s| &s.param)
    }

    /// Trains only the entries where the mask is not 0; the others stay bit-identical, without decay. A new mask may come at
    /// any time: moments of entries in both masks carry over, those of entries left out are cleared.
    pub fn set_mask(&mut self, name: &str, mask: Option<Vec<u8>>) -> Result<()> {
        let state = self
            .states
            .iter_mut()
            .find(|s| s.param.name() == name)
            .ok_or_else(|| Error::usage(format!("no trainable parameter `{name}`")))?;
        if let Some(mask) = &mask {
            if mask.len() != state.param.len() {
                let (want, got) = (state.param.len(), mask.len());
                return Err(Error::work(format!("a mask of {got} entries for {want}")).at(name));
            }
            for moment in &mut state.moments {
                for (m, k) in moment.iter_mut().zip(mask) {
                    if *k == 0 {
                        *m = 0.0;
                    }
                }
            }
        }
        state.mask = mask;
        Ok(())
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
            s.param.with_grad(|g| {
                if let Some(mask) = &s.mask {
                    g.iter_mut().zip(mask).for_each(|(g, k)| *g = if *k == 0 { 0.0 } else { *g });
                }
                math::sum_squares(g)
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
            let n = s.param.len();
            let State { param, step, moments, mask, .. } = s;
            let mask = mask.as_deref();
            let mut touched = false;
            param.update_with_grad(|w, g| {
                touched = true;
                *step += 1;
                let wanted = match group.kind {
                    Kind::AdamW { .. } => 2,
                    Kind::Sgd { momentum } => usize::from(momentum != 0.0),
                };
                moments.resize_with(wanted, || Buf::zeros(n));
                match group.kind {
                    Kind::AdamW { beta1, beta2, eps } => {
                        let [m, v] = &mut moments[..] else { unreachable!("two moments") };
                        let grad_scale = factor as f32;
                        let weight_decay = group.weight_decay;
                        let set = AdamW { lr, beta1, beta2, eps, weight_decay, step: *step, grad_scale };
                        adamw(set, w, g, m, v, mask);
                    }
                    Kind::Sgd { momentum } => {
                        let velocity = moments.first_mut().map(|v| &mut v[..]);
                        sgd(lr, momentum, group.weight_decay, factor as f32, w, g, velocity, mask);
                    }
                }
            });
            if touched {
                drop(param.take_grad());
            }
        }
        Stats { grad_norm, clipped: factor < 1.0 }
    }

    /// Moments and step counts by name, for a checkpoint.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut out = BTreeMap::new();
        for s in &self.states {
            let name = s.param.name();
            // A count below 2^24 is exact in f32; no run is longer.
            out.insert(format!("{name}#step"), Tensor::new(vec![s.step as f32], &[1]));
            for (i, m) in s.moments.iter().enumerate() {
                out.insert(format!("{name}#{i}"), Tensor::from_slice(m, s.param.shape().dims()));
            }
        }
        out
    }

    /// Takes back what [`Optimizer::state`] gave.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for s in &mut self.states {
            let name = s.param.name().to_string();
            let step = state.get(&format!("{name}#step"));
            s.step = step.ok_or_else(|| Error::work("the saved optimiser lacks a parameter").at(&name))?.item() as u64;
            s.moments.clear();
            while let Some(m) = state.get(&format!("{name}#{}", s.moments.len())) {
                if m.len() != s.param.len() {
                    return Err(Error::work("the saved optimiser state has another shape").at(&name));
                }
                s.moments.push(Buf::copy(m.data()));
            }
        }
        Ok(())
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
        o.set_mask("w", Some(vec![1, 0, 1])).unwrap();
        p.add_grad(&[3.0, 100.0, 4.0]);
        let stats = o.step(0.1, Some(1.0));
        assert_eq!(stats, Stats { grad_norm: 5.0, clipped: true });
        let v = p.value();
        assert_eq!(v.data()[1], 2.0);
        assert!(v.data()[0] < 1.0 && v.data()[2] < 3.0);
        assert!(p.grad().is_none());
    }

    #[test]
    fn a_restored_optimiser_goes_on_bit_for_bit() {
        let run = |split: bool| {
            let p = param("w");
            let mut o = Optimizer::new(vec![p.clone()], GroupSpec::default_groups(0.1)).unwrap();
            for i in 0..6 {
                if split && i == 3 {
                    let saved = o.state();
                    o = Optimizer::new(vec![p.clone()], GroupSpec::default_groups(0.1)).unwrap();
                    o.restore(&saved).unwrap();
                }
                p.add_grad(&[i as f32, -1.0, 0.5]);
                o.step(0.01, None);
            }
            p.value().data().to_vec()
        };
        assert_eq!(run(false), run(true));
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
