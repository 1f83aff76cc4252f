//! Grafts (Panigrahi et al. 2023, "Task-Specific Skill Localization in Fine-tuned Language Models"): which entries of a tuned
//! model, put into the model it came from, carry what it learnt.
//!
//! theta(g) = theta_pre + g (theta_tuned - theta_pre), g in {0, 1} for each entry. A [`Graft`] is the set of entries where g is
//! 1; [`Moved`] is what lies between two checkpoints and makes grafts by size of movement or at random; [`Soft`] is the mask
//! that is optimised around one of them:
//!
//! g(S) = base (1 - sigma(S - b)) + (1 - base) sigma(S - b), so that g is about `base` at the start and S flips entries.
//!
//! The embeddings and the head are left out by default; a share is of the entries that a mask may hold. Two slots that share a
//! weight, and tied embeddings, have one set of entries. Left out on purpose: optimiser state for S (the method has none).

use std::collections::BTreeMap;
use std::path::Path;

use postgrad_base::{Error, Result, Stream};
use postgrad_tensor::{Buf, Param, Tensor, math};

use crate::checkpoint::{AnyTensor, read_safetensors, write_safetensors};
use crate::optim::name_matches;
use crate::weights::{Weight, WeightId, Weights};

/// What a mask leaves out unless told otherwise: name patterns of the embedding and the head.
pub const LEFT_OUT: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// The name of the count of maskable entries in a graft's file; no weight of a model is called so.
const MASKABLE: &str = "maskable";

/// A set of entries of named tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graft {
    /// Flat indices in ascending order, by tensor; tensors without any are not listed.
    pub entries: BTreeMap<String, Vec<u32>>,
    /// Entries that a mask may hold: what a share is of.
    pub maskable: usize,
}

/// The entries of a graft in one tensor.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    /// None outside the layers (the final norm).
    pub layer: Option<usize>,
    /// `self_attn.v_proj`, `mlp.down_proj`, `input_layernorm`; biases end in `.bias`.
    pub role: String,
    pub count: usize,
}

impl Graft {
    pub fn count(&self) -> usize {
        self.entries.values().map(Vec::len).sum()
    }

    /// Of the maskable entries.
    pub fn share(&self) -> f64 {
        self.count() as f64 / self.maskable.max(1) as f64
    }

    /// Entries that both hold.
    pub fn common(&self, other: &Graft) -> usize {
        let shared = |name: &String, mine: &[u32]| {
            let theirs = other.entries.get(name).map_or(&[][..], Vec::as_slice);
            mine.iter().filter(|i| theirs.binary_search(i).is_ok()).count()
        };
        self.entries.iter().map(|(name, mine)| shared(name, mine)).sum()
    }

    /// All entries of several grafts over the same model.
    pub fn union(grafts: &[Graft]) -> Self {
        let mut all = Self { maskable: grafts.iter().map(|g| g.maskable).max().unwrap_or(0), ..Self::default() };
        for (name, entries) in grafts.iter().flat_map(|g| &g.entries) {
            all.entries.entry(name.clone()).or_default().extend(entries);
        }
        for entries in all.entries.values_mut() {
            entries.sort_unstable();
            entries.dedup();
        }
        all
    }

    /// Counts by layer and role, in the order of names.
    pub fn distribution(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = self
            .entries
            .iter()
            .map(|(name, entries)| {
                let (layer, role) = place(name);
                Part { layer, role, count: entries.len() }
            })
            .collect();
        parts.sort_by(|a, b| (a.layer, &a.role).cmp(&(b.layer, &b.role)));
        parts
    }

    /// Copies the graft's entries of `tuned` into `pre`, bit for bit.
    ///
    /// # Errors
    /// A tensor that either model lacks or that ends before an entry; a weight computed on the tape.
    pub fn apply(&self, pre: &mut Weights, tuned: &Weights) -> Result<()> {
        for (name, entries) in &self.entries {
            let missing = || Error::usage("the graft has entries of a tensor that the model lacks").at(name);
            let (to, from) = (pre.find(name).ok_or_else(missing)?, tuned.find(name).ok_or_else(missing)?);
            let from = tuned.get(from).tensor();
            let shape = pre.get(to).tensor().shape();
            if from.shape() != shape || entries.last().is_some_and(|i| *i as usize >= from.len()) {
                return Err(Error::usage("the graft does not fit this tensor").at(name));
            }
            let copy = |w: &mut [f32]| entries.iter().for_each(|i| w[*i as usize] = from.data()[*i as usize]);
            match pre.get(to) {
                Weight::Trained(p) => p.update(copy),
                Weight::Frozen(t) => {
                    let mut w = Buf::copy(t.data());
                    copy(&mut w);
                    pre.set(to, Weight::Frozen(Tensor::constant(w, shape)))?;
                }
                Weight::Computed(_) => return Err(Error::work("a computed weight takes no graft").at(name)),
            }
        }
        Ok(())
    }

    /// Writes the indices as a safetensors file, one list a tensor, with the count of maskable entries.
    pub fn save(&self, path: &Path) -> Result<()> {
        let ints = |values: Vec<i64>| AnyTensor::Int { shape: vec![values.len()], values };
        let mut tensors: BTreeMap<String, AnyTensor> = self
            .entries
            .iter()
            .map(|(name, entries)| (name.clone(), ints(entries.iter().map(|i| i64::from(*i)).collect())))
            .collect();
        tensors.insert(MASKABLE.into(), ints(vec![self.maskable as i64]));
        let metadata = BTreeMap::from([("format".to_string(), "postgrad graft".to_string())]);
        write_safetensors(path, &tensors, &metadata)
    }

    /// # Errors
    /// A file that is no graft: floats, indices that are negative, too large or not ascending.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong = |what: &str| Error::usage(format!("not a graft: {what}")).at(path.display());
        let mut graft = Self::default();
        for (name, tensor) in read_safetensors(path)? {
            let values = tensor.ints().ok_or_else(|| wrong("a tensor of floats").at(&name))?;
            if name == MASKABLE {
                graft.maskable = values.first().and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
                continue;
            }
            let entries: Option<Vec<u32>> = values.iter().map(|i| u32::try_from(*i).ok()).collect();
            let entries = entries.filter(|e| e.is_sorted_by(|a, b| a < b));
            graft.entries.insert(name.clone(), entries.ok_or_else(|| wrong("indices out of order").at(&name))?);
        }
        if graft.count() > graft.maskable {
            return Err(wrong("it holds more entries than it says a mask may hold"));
        }
        Ok(graft)
    }
}

/// Layer and role of a weight's Hugging Face name.
fn place(name: &str) -> (Option<usize>, String) {
    let bare = |s: &str| s.strip_suffix(".weight").unwrap_or(s).to_string();
    let inside = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    match inside.and_then(|(layer, role)| Some((layer.parse().ok()?, role))) {
        Some((layer, role)) => (Some(layer), bare(role)),
        None => (None, bare(name)),
    }
}

/// One tensor of a [`Moved`].
struct Shift {
    id: WeightId,
    name: String,
    pre: Tensor,
    delta: Tensor,
}

/// What lies between two checkpoints of one architecture, over the tensors that a mask may hold.
pub struct Moved {
    shifts: Vec<Shift>,
    /// Entries that differ in tensors left out: no mask brings them over.
    pub outside: usize,
}

impl Moved {
    /// # Errors
    /// Another set of tensors or other shapes; entries that are not finite.
    pub fn between(pre: &Weights, tuned: &Weights, leave_out: &[String]) -> Result<Self> {
        let mut moved = Self { shifts: vec![], outside: 0 };
        if let Some((_, name, _)) = tuned.iter().find(|(_, name, _)| pre.find(name).is_none()) {
            return Err(Error::usage("the tuned model has a tensor that the other lacks").at(name));
        }
        for (id, name, weight) in pre.iter() {
            let other = tuned.find(name).ok_or_else(|| Error::usage("the tuned model lacks a tensor").at(name))?;
            let (pre, tuned) = (weight.tensor().detach(), tuned.get(other).tensor().detach());
            if pre.shape() != tuned.shape() {
                let (was, is) = (pre.shape(), tuned.shape());
                return Err(Error::usage(format!("the models have shapes {was:?} and {is:?}")).at(name));
            }
            if leave_out.iter().any(|p| name_matches(p, name)) {
                moved.outside += pre.data().iter().zip(tuned.data()).filter(|(a, b)| a != b).count();
                continue;
            }
            let delta = &tuned - &pre;
            if delta.data().iter().any(|d| !d.is_finite()) {
                return Err(Error::work("an entry is not finite").at(name));
            }
            moved.shifts.push(Shift { id, name: name.into(), pre, delta });
        }
        if moved.is_empty() {
            return Err(Error::usage("the patterns leave nothing that a mask may hold"));
        }
        Ok(moved)
    }

    /// Entries that a mask may hold.
    pub fn len(&self) -> usize {
        self.shifts.iter().map(|s| s.delta.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries for which `keep(tensor, index)` holds.
    fn chosen(&self, mut keep: impl FnMut(usize, usize) -> bool) -> Graft {
        let mut graft = Graft { entries: BTreeMap::new(), maskable: self.len() };
        for (t, shift) in self.shifts.iter().enumerate() {
            let entries: Vec<u32> = (0..shift.delta.len()).filter(|i| keep(t, *i)).map(|i| i as u32).collect();
            if !entries.is_empty() {
                graft.entries.insert(shift.name.clone(), entries);
            }
        }
        graft
    }

    /// The `n` entries that moved most: those strictly above the (n+1)-th largest |delta| over all tensors. Where several
    /// are equal there, all of these are left out, so that the count may be smaller than `n`.
    pub fn top(&self, n: usize) -> Graft {
        let mut sizes: Vec<f32> = self.shifts.iter().flat_map(|s| s.delta.data().iter().map(|d| d.abs())).collect();
        let above = if n >= sizes.len() {
            f32::NEG_INFINITY
        } else {
            *sizes.select_nth_unstable_by(n, |a, b| b.total_cmp(a)).1
        };
        self.chosen(|t, i| self.shifts[t].delta.data()[i].abs() > above)
    }

    /// `n` entries, all sets of that size equally likely.
    pub fn random(&self, n: usize, stream: &mut Stream) -> Graft {
        let (mut left, mut wanted) = (self.len(), n.min(self.len()));
        self.chosen(|_, _| {
            let take = stream.below(left) < wanted;
            left -= 1;
            wanted -= usize::from(take);
            take
        })
    }
}

/// What a gradient of S is divided by before a step: the sigmoid's slope and the movements are tiny and differ by model, so a
/// plain learning rate is of the order of 1e7 and must be found anew for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// The largest |dL/dS| of the first step: the learning rate is how far that entry goes then.
    #[default]
    First,
    /// The largest |dL/dS| of each step: no entry goes further than the learning rate. Entries near the flip, where the slope
    /// is steepest, hold all others back.
    Each,
    /// 1.
    Plain,
}

/// A mask under optimisation: g(S) around a base.
pub struct Soft {
    base: Vec<Vec<bool>>,
    s: Vec<Vec<f32>>,
    /// S flips an entry where it exceeds this.
    bias: f32,
    /// The largest |dL/dS| of the first step.
    first: f32,
}

/// dg/dS over (1 - 2 base): the slope of the sigmoid.
fn slope(s: f32, bias: f32) -> f32 {
    let x = math::sigmoid(s - bias);
    x * (1.0 - x)
}

impl Soft {
    /// S uniform in [0, 1) from the stream, each tensor from its own, or 0 without one.
    ///
    /// # Errors
    /// A base with entries that no mask may hold.
    pub fn new(moved: &Moved, base: &Graft, bias: f32, init: Option<&Stream>) -> Result<Self> {
        let mut soft = Self { base: vec![], s: vec![], bias, first: 0.0 };
        if let Some(name) = base.entries.keys().find(|n| !moved.shifts.iter().any(|s| s.name == **n)) {
            return Err(Error::usage("the base mask has entries of a tensor that is left out").at(name));
        }
        for shift in &moved.shifts {
            let n = shift.delta.len();
            let mut flags = vec![false; n];
            for i in base.entries.get(&shift.name).into_iter().flatten() {
                *flags
                    .get_mut(*i as usize)
                    .ok_or_else(|| Error::usage("the base mask does not fit this tensor").at(&shift.name))? = true;
            }
            let mut stream = init.map(|s| s.child(&shift.name));
            soft.s.push((0..n).map(|_| stream.as_mut().map_or(0.0, Stream::f32)).collect());
            soft.base.push(flags);
        }
        Ok(soft)
    }

    /// The mask with each g(S) rounded: an entry is flipped where sigma(S - b) is above a half.
    pub fn rounded(&self, moved: &Moved) -> Graft {
        moved.chosen(|t, i| self.base[t][i] != (self.s[t][i] > self.bias))
    }

    /// Puts theta(g(S)) behind the weights as a tape computation of S, whose leaves are returned: the method by definition.
    pub fn on_tape(&self, moved: &Moved, weights: &mut Weights) -> Result<Vec<Param>> {
        let mut leaves = Vec::with_capacity(self.s.len());
        for ((shift, base), s) in moved.shifts.iter().zip(&self.base).zip(&self.s) {
            let dims = shift.pre.dims();
            let base = Tensor::new(base.iter().map(|b| f32::from(u8::from(*b))).collect(), dims);
            let s = Param::new(shift.name.clone(), Tensor::from_slice(s, dims));
            let flip = (s.leaf() - self.bias).sigmoid();
            let g = &base + &(flip * (1.0 - &base * 2.0));
            weights.set(shift.id, Weight::Computed(&shift.pre + &(g * &shift.delta)))?;
            leaves.push(s);
        }
        Ok(leaves)
    }

    /// Puts the values of theta(g(S)) behind the weights as parameters, so that a backward pass leaves dL/dtheta in their
    /// sinks: a fraction of the memory of [`Soft::on_tape`].
    pub fn put(&self, moved: &Moved, weights: &mut Weights) -> Result<()> {
        for ((shift, base), s) in moved.shifts.iter().zip(&self.base).zip(&self.s) {
            if !matches!(weights.get(shift.id), Weight::Trained(_)) {
                weights.set(shift.id, Weight::Trained(Param::new(shift.name.clone(), shift.pre.clone())))?;
            }
            let Weight::Trained(param) = weights.get(shift.id) else { unreachable!("just set") };
            param.update(|w| {
                let of = shift.pre.data().iter().zip(shift.delta.data()).zip(base.iter().zip(s));
                for (w, ((pre, delta), (base, s))) in w.iter_mut().zip(of) {
                    let flip = math::sigmoid(s - self.bias);
                    *w = pre + if *base { 1.0 - flip } else { flip } * delta;
                }
            });
        }
        Ok(())
    }

    /// dL/dS = dL/dtheta * delta * (1 - 2 base) * sigma (1 - sigma), from the gradients gathered since [`Soft::put`], which
    /// are taken out of their sinks.
    pub fn gradients(&self, moved: &Moved, weights: &Weights) -> Vec<Vec<f32>> {
        let of = moved.shifts.iter().zip(&self.base).zip(&self.s);
        of.map(|((shift, base), s)| {
            let Weight::Trained(param) = weights.get(shift.id) else { return vec![0.0; s.len()] };
            let Some(grad) = param.take_grad() else { return vec![0.0; s.len()] };
            let of = grad.iter().zip(shift.delta.data()).zip(base.iter().zip(s));
            of.map(|((g, delta), (base, s))| {
                let sign = if *base { -1.0 } else { 1.0 };
                g * delta * sign * slope(*s, self.bias)
            })
            .collect()
        })
        .collect()
    }

    /// S <- S - lr dL/dS / scale.
    pub fn step(&mut self, gradients: &[Vec<f32>], lr: f32, scale: Scale) {
        let largest = gradients.iter().flatten().fold(0.0f32, |m, g| m.max(g.abs()));
        if largest == 0.0 {
            return;
        }
        if self.first == 0.0 {
            self.first = largest;
        }
        let lr = match scale {
            Scale::First => lr / self.first,
            Scale::Each => lr / largest,
            Scale::Plain => lr,
        };
        for (s, g) in self.s.iter_mut().zip(gradients) {
            s.iter_mut().zip(g).for_each(|(s, g)| *s -= lr * g);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AttentionBias, Config};
    use crate::decoder::{Decoder, Pass, Walk};
    use postgrad_tensor::backward;
    use postgrad_tensor::ops::{self, CeOptions};
    use proptest::prelude::*;

    fn pair(tied: bool) -> (Decoder, Decoder) {
        let config = Config {
            attention_bias: AttentionBias { q: true, k: true, v: true, o: false },
            ..Config::llama(30, 16, 2, 2, 1, 24, 32, tied)
        };
        let [pre, mut tuned] = [1, 1].map(|s| Decoder::random(config.clone(), &Stream::new(s, &["base"])).unwrap());
        let mut s = Stream::new(2, &["tune"]);
        tuned.weights.train(|name| !LEFT_OUT.contains(&name));
        tuned.weights.params().iter().for_each(|p| {
            p.update(|w| w.iter_mut().for_each(|w| *w += 0.05 * s.normal() as f32));
        });
        tuned.weights.train(|_| false);
        (pre, tuned)
    }

    fn moved(pre: &Decoder, tuned: &Decoder) -> Moved {
        Moved::between(&pre.weights, &tuned.weights, &LEFT_OUT.map(String::from)).unwrap()
    }

    fn bits(d: &Decoder) -> Vec<u32> {
        d.weights
            .iter()
            .flat_map(|(_, _, w)| w.tensor().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn all_ones_are_the_tuned_model_and_zeros_the_other_bit_for_bit() {
        for tied in [true, false] {
            let (pre, tuned) = pair(tied);
            let m = moved(&pre, &tuned);
            let outside: usize = if tied { 30 * 16 } else { 2 * 30 * 16 };
            assert_eq!((m.len() + outside, m.outside), (pre.parameter_count(), 0));
            for (n, want) in [(m.len(), &tuned), (0, &pre)] {
                let mut grafted = pre.clone();
                let graft = m.top(n);
                assert_eq!(graft.count(), n);
                graft.apply(&mut grafted.weights, &tuned.weights).unwrap();
                assert_eq!(bits(&grafted), bits(want));
            }
            // Norms and biases may be in a mask.
            let roles: Vec<String> = m.top(m.len()).distribution().into_iter().map(|p| p.role).collect();
            for role in ["input_layernorm", "self_attn.v_proj.bias", "self_attn.v_proj", "model.norm"] {
                assert!(roles.iter().any(|r| r == role), "{role}");
            }
        }
    }

    #[test]
    fn a_model_that_did_not_move_takes_a_graft_without_effect_and_gives_an_empty_one() {
        let (pre, _) = pair(true);
        let m = moved(&pre, &pre);
        // All |delta| are 0, none is strictly above another.
        assert_eq!(m.top(100).count(), 0);
        let mut grafted = pre.clone();
        m.random(100, &mut Stream::new(0, &["x"])).apply(&mut grafted.weights, &pre.weights).unwrap();
        assert_eq!(bits(&grafted), bits(&pre));
    }

    #[test]
    fn grafts_count_overlap_and_survive_their_file() {
        let (pre, tuned) = pair(true);
        let m = moved(&pre, &tuned);
        let mut s = Stream::new(5, &["x"]);
        for n in [1, 17, m.len() / 100, m.len() / 2] {
            let (top, random) = (m.top(n), m.random(n, &mut s));
            assert_eq!((top.count(), random.count()), (n, n));
            assert_eq!(top.common(&top), n);
            let both = Graft::union(&[top.clone(), random.clone()]);
            assert_eq!(both.count(), 2 * n - top.common(&random));
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("graft.safetensors");
            both.save(&path).unwrap();
            assert_eq!(Graft::load(&path).unwrap(), both);
            assert_eq!(both.distribution().iter().map(|p| p.count).sum::<usize>(), both.count());
        }
        // Half of the entries at random: about half of any other half.
        let half = m.len() / 2;
        let shared = m.top(half).common(&m.random(half, &mut s)) as f64 / half as f64;
        assert!((shared - 0.5).abs() < 0.05, "{shared}");
    }

    #[test]
    fn files_and_models_that_do_not_fit_are_refused() {
        let (pre, tuned) = pair(true);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graft.safetensors");
        let ints = |values: Vec<i64>| AnyTensor::Int { shape: vec![values.len()], values };
        for bad in [ints(vec![-1]), ints(vec![3, 2]), ints(vec![1, 1]), ints(vec![1 << 40])] {
            let tensors = BTreeMap::from([("w".to_string(), bad), (MASKABLE.to_string(), ints(vec![9]))]);
            write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
            assert_eq!(Graft::load(&path).unwrap_err().exit_code(), 2);
        }
        let far = Graft { entries: BTreeMap::from([("model.norm.weight".into(), vec![99])]), maskable: 100 };
        assert!(far.apply(&mut pre.clone().weights, &tuned.weights).is_err());
        let other = Decoder::random(Config::llama(30, 16, 1, 2, 1, 24, 32, true), &Stream::new(1, &["base"])).unwrap();
        assert_eq!(Moved::between(&pre.weights, &other.weights, &[]).err().unwrap().exit_code(), 2);
        let all = ["*".to_string()];
        assert_eq!(Moved::between(&pre.weights, &tuned.weights, &all).err().unwrap().exit_code(), 2);
    }

    fn loss(d: &Decoder) -> Tensor {
        let ids = [3, 9, 4, 1, 7, 22, 15, 2];
        let hidden = d.hidden(&ids[..7], &Walk::Tape(&Pass::sequences(&[4, 3])));
        ops::cross_entropy(&hidden, &d.head(), &ids[1..], &[1.0; 7], 7.0, CeOptions::default()).loss
    }

    #[test]
    fn the_analytic_gradient_is_that_of_the_tape() {
        let (pre, tuned) = pair(true);
        let m = moved(&pre, &tuned);
        // Around S = b, where the slope is not tiny, and at the method's own b.
        for bias in [0.5, 10.0] {
            let mut soft = Soft::new(&m, &m.top(m.len() / 4), bias, Some(&Stream::new(3, &["tune"]))).unwrap();
            for _ in 0..2 {
                let (mut taped, mut plain) = (pre.clone(), pre.clone());
                let leaves = soft.on_tape(&m, &mut taped.weights).unwrap();
                let on_tape = loss(&taped);
                backward(&on_tape);
                soft.put(&m, &mut plain.weights).unwrap();
                let direct = loss(&plain);
                backward(&direct);
                assert!((on_tape.item() - direct.item()).abs() < 1e-5);
                let analytic = soft.gradients(&m, &plain.weights);
                let largest = analytic.iter().flatten().fold(0.0f32, |a, g| a.max(g.abs()));
                assert!(largest > 0.0);
                for (leaf, ours) in leaves.iter().zip(&analytic) {
                    for (a, b) in leaf.grad().unwrap().data().iter().zip(ours) {
                        assert!((a - b).abs() <= 1e-5 * largest.max(1.0), "{}: {a} {b}", leaf.name());
                        assert!((a - b).abs() <= 1e-3 * largest, "{}: {a} {b}", leaf.name());
                    }
                }
                soft.step(&analytic, 2.0, Scale::Each);
            }
        }
    }

    #[test]
    fn at_rest_the_rounded_mask_is_its_base_and_steps_have_their_scale() {
        let (pre, tuned) = pair(true);
        let m = moved(&pre, &tuned);
        let base = m.top(40);
        let mut soft = Soft::new(&m, &base, 10.0, None).unwrap();
        assert_eq!(soft.rounded(&m), base);
        let mut gradients: Vec<Vec<f32>> = soft.s.iter().map(|s| vec![0.0; s.len()]).collect();
        soft.step(&gradients, 1.0, Scale::Each);
        assert_eq!(soft.rounded(&m), base);
        (gradients[0][0], gradients[1][3]) = (-2e-9, 1e-9);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-4;
        soft.step(&gradients, 11.0, Scale::Each);
        assert!(close(soft.s[0][0], 11.0) && close(soft.s[1][3], -5.5));
        gradients[0][0] = -4e-9;
        soft.step(&gradients, 1.0, Scale::First);
        assert!(close(soft.s[0][0], 13.0) && close(soft.s[1][3], -6.0));
        soft.step(&gradients, 1e9, Scale::Plain);
        assert!(close(soft.s[0][0], 17.0) && close(soft.s[1][3], -7.0));
        assert_eq!(soft.rounded(&m).common(&base) + 1, soft.rounded(&m).count().max(base.count()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_base_holds_the_largest(n in 0usize..2000) {
            let (pre, tuned) = pair(false);
            let m = moved(&pre, &tuned);
            let graft = m.top(n);
            prop_assert_eq!(graft.count(), n.min(m.len()));
            let inside = |s: &Shift, i: usize| graft.entries.get(&s.name).is_some_and(|e| e.binary_search(&(i as u32)).is_ok());
            let (mut least, mut most) = (f32::INFINITY, 0.0f32);
            for s in &m.shifts {
                for (i, d) in s.delta.data().iter().enumerate() {
                    if inside(s, i) { least = least.min(d.abs()) } else { most = most.max(d.abs()) }
                }
            }
            prop_assert!(least > most);
        }
    }
}
