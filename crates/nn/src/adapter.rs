//! Low-rank adapters (LoRA, Hu et al. 2021; rank-stabilised scaling, Kalajdzievski 2023), unmerged beside their weights.
//!
//! A fresh adapter is an exact no-op (B is zero). Several may be on at once and add up; each has a run-time scale, and a
//! forward pass may give it one factor an example. Merging and unmerging change the weight itself.

use std::collections::BTreeMap;

use postgrad_base::{Error, Result, Stream};
use postgrad_tensor::gemm::{Mat, product};
use postgrad_tensor::{Param, Tensor};

use crate::weights::{Weight, WeightId, Weights};

/// How a new adapter is made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    pub rank: usize,
    pub alpha: f32,
    /// Probability of dropping an input of the adapter while training.
    pub dropout: f32,
    /// alpha / sqrt(rank) instead of alpha / rank.
    pub rank_stabilized: bool,
}

impl Default for LoraSpec {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.0, rank_stabilized: false }
    }
}

impl LoraSpec {
    pub fn scaling(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }
}

/// The two sides beside one weight: `a [r, in]`, `b [out, r]`.
#[derive(Clone, Debug)]
pub struct LoraModule {
    pub a: Weight,
    pub b: Weight,
    pub scaling: f32,
}

/// A named set of low-rank modules.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub name: String,
    pub spec: LoraSpec,
    pub modules: BTreeMap<WeightId, LoraModule>,
    /// Run-time factor on the whole adapter: 0 turns it off, 1 is as trained.
    pub scale: f32,
}

impl Adapter {
    /// A fresh adapter beside the given weights: A uniform as PyTorch's linear layers (Kaiming with a = sqrt 5: bound
    /// 1/sqrt(in)), B zero. Each module draws from its own stream, so leaving one out changes no other.
    pub fn fresh(name: &str, spec: LoraSpec, weights: &Weights, targets: &[WeightId], stream: &Stream) -> Result<Self> {
        if spec.rank == 0 {
            return Err(Error::usage("a LoRA of rank 0 has no parameters").help("give a rank of at least 1"));
        }
        let mut modules = BTreeMap::new();
        for &id in targets {
            let w = weights.get(id).tensor();
            let [out, inp] = *w.dims() else {
                return Err(Error::work("only matrices take a low-rank adapter").at(weights.name(id)));
            };
            let module = module_name(weights.name(id));
            let mut stream = stream.child(module);
            let bound = 1.0 / (inp as f32).sqrt();
            let a = (0..spec.rank * inp).map(|_| (stream.f32() * 2.0 - 1.0) * bound).collect();
            let a = Param::new(format!("{module}.lora_A.weight"), Tensor::new(a, &[spec.rank, inp]));
            let b = Param::new(format!("{module}.lora_B.weight"), Tensor::zeros(&[out, spec.rank]));
            let scaling = spec.scaling();
            modules.insert(id, LoraModule { a: Weight::Trained(a), b: Weight::Trained(b), scaling });
        }
        Ok(Self { name: name.into(), spec, modules, scale: 1.0 })
    }

    /// Trainable sides in order of their weights, A before B.
    pub fn params(&self) -> Vec<Param> {
        let sides = self.modules.values().flat_map(|m| [&m.a, &m.b]);
        sides.filter_map(|w| if let Weight::Trained(p) = w { Some(p.clone()) } else { None }).collect()
    }

    /// Makes every side trainable or frozen.
    pub fn set_trained(&mut self, weights: &Weights, trained: bool) {
        for (id, m) in &mut self.modules {
            let module = module_name(weights.name(*id)).to_string();
            for (side, name) in [(&mut m.a, "lora_A"), (&mut m.b, "lora_B")] {
                let value = side.tensor().detach();
                *side = if trained {
                    match side {
                        Weight::Trained(_) => continue,
                        _ => Weight::Trained(Param::new(format!("{module}.{name}.weight"), value)),
                    }
                } else {
                    Weight::Frozen(value)
                };
            }
        }
    }

    /// Adds `sign * scale * scaling * B A` to the weights: 1 merges, -1 takes it out again (up to rounding).
    pub fn merge_into(&self, weights: &mut Weights, sign: f32) -> Result<()> {
        for (&id, m) in &self.modules {
            let (a, b) = (m.a.tensor(), m.b.tensor());
            let (r, inp, out) = (a.dim(0), a.dim(1), b.dim(0));
            let factor = sign * self.scale * m.scaling;
            let add = |w: &mut [f32]| {
                product((out, inp, r), w, inp, true, Mat::rows(b.data(), r), Mat::rows(a.data(), inp), factor)
            };
            match weights.get(id) {
                Weight::Trained(p) => p.update(add),
                Weight::Frozen(t) => {
                    let mut w = postgrad_tensor::Buf::copy(t.data());
                    let shape = t.shape();
                    add(&mut w);
                    weights.set(id, Weight::Frozen(Tensor::constant(w, shape)))?;
                }
                Weight::Computed(_) => {
                    return Err(Error::work("a computed weight cannot be merged into").at(weights.name(id)));
                }
            }
        }
        Ok(())
    }
}

impl LoraModule {
    /// Frobenius norm of `scaling * B A`, from the small products B'B and A A'.
    pub fn norm(&self) -> f64 {
        let (a, b) = (self.a.tensor(), self.b.tensor());
        let (r, inp) = (a.dim(0), a.dim(1));
        let (a, b) = (a.data(), b.data());
        let dot = |x: &mut dyn Iterator<Item = (f32, f32)>| x.map(|(x, y)| f64::from(x) * f64::from(y)).sum::<f64>();
        let mut sum = 0.0;
        for i in 0..r {
            for j in 0..r {
                let aa = dot(&mut a[i * inp..][..inp].iter().copied().zip(a[j * inp..][..inp].iter().copied()));
                let bb = dot(&mut b.chunks_exact(r).map(|row| (row[i], row[j])));
                sum += aa * bb;
            }
        }
        f64::from(self.scaling.abs()) * sum.max(0.0).sqrt()
    }
}

impl Adapter {
    /// An adapter of the same shape and of the same Frobenius norm in each module, in a random direction: normal sides, frozen.
    pub fn random_like(&self, weights: &Weights, stream: &Stream) -> Self {
        let mut other = self.clone();
        for (id, m) in &mut other.modules {
            let mut stream = stream.child(module_name(weights.name(*id)));
            let want = m.norm();
            for side in [&mut m.a, &mut m.b] {
                let shape = side.tensor().shape();
                let drawn = (0..shape.len()).map(|_| stream.normal() as f32).collect();
                *side = Weight::Frozen(Tensor::new(drawn, shape.dims()));
            }
            let factor = (want / m.norm().max(f64::MIN_POSITIVE)) as f32;
            m.b = Weight::Frozen(m.b.tensor() * factor);
        }
        other
    }
}

/// `model.layers.0.self_attn.q_proj.weight` without its last part.
pub fn module_name(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::decoder::Decoder;

    #[test]
    fn a_random_adapter_has_the_norm_of_its_model() {
        let mut d = Decoder::random(Config::llama(20, 8, 1, 2, 1, 12, 16, true), &Stream::new(1, &["base"])).unwrap();
        d.add_lora("a", LoraSpec { rank: 3, ..LoraSpec::default() }, &Stream::new(1, &["tune"])).unwrap();
        d.params().iter().for_each(|p| p.update(|w| w.iter_mut().enumerate().for_each(|(i, w)| *w += (i % 5) as f32)));
        let adapter = &d.adapters[0];
        let other = adapter.random_like(&d.weights, &Stream::new(2, &["tune"]));
        for (id, m) in &adapter.modules {
            // The norm of the product itself.
            let mut w = vec![0.0; m.b.tensor().dim(0) * m.a.tensor().dim(1)];
            let (a, b) = (m.a.tensor(), m.b.tensor());
            product(
                (b.dim(0), a.dim(1), 3),
                &mut w,
                a.dim(1),
                false,
                Mat::rows(b.data(), 3),
                Mat::rows(a.data(), a.dim(1)),
                m.scaling,
            );
            let want = w.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!((m.norm() / want - 1.0).abs() < 1e-4 && (other.modules[id].norm() / want - 1.0).abs() < 1e-4);
            assert_ne!(other.modules[id].b.tensor().data(), m.b.tensor().data());
        }
    }
}
