//! A scalar head on hidden states: the value head of PPO, the head of a reward model.

use std::path::Path;

use postgrad_base::{Error, Result};
use postgrad_nn::checkpoint::{AnyTensor, read_safetensors};
use postgrad_tensor::{Param, Tensor, ops};

/// A linear map to one number, zero at first.
pub struct ScalarHead {
    weight: Param,
    bias: Param,
}

impl ScalarHead {
    pub fn new(name: &str, width: usize) -> Self {
        Self {
            weight: Param::new(format!("{name}.weight"), Tensor::zeros(&[1, width])),
            bias: Param::new(format!("{name}.bias"), Tensor::zeros(&[1])),
        }
    }

    pub fn params(&self) -> [Param; 2] {
        [self.weight.clone(), self.bias.clone()]
    }

    /// Hidden states `[n, width]` to `[n]`.
    pub fn of(&self, hidden: &Tensor) -> Tensor {
        let n = hidden.dim(0);
        ops::linear(hidden, &self.weight.leaf(), Some(&self.bias.leaf())).reshape(&[n])
    }

    /// Reads its weight and bias from a safetensors file.
    pub fn read(path: &Path, name: &str, width: usize) -> Result<Self> {
        let saved = read_safetensors(path)?;
        let head = Self::new(name, width);
        for p in head.params() {
            match saved.get(p.name()) {
                Some(AnyTensor::Float(t)) if t.shape() == p.shape() => p.set(t.data()),
                _ => {
                    let shape = p.shape();
                    return Err(Error::usage(format!("the file lacks a tensor of shape {shape:?}"))
                        .at(p.name())
                        .at(path.display())
                        .help("a head belongs to the model it was trained with"));
                }
            }
        }
        Ok(head)
    }
}
