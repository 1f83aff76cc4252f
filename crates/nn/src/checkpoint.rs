//! Weights in Hugging Face folders: `model.safetensors`, whole or in shards with their index, and the defaults of
//! `generation_config.json`.
//!
//! ```no_run
//! use postgrad_nn::{checkpoint, config::Config};
//! let dir = std::path::Path::new("Qwen3-0.6B");
//! let config = Config::read(dir)?;
//! let weights = checkpoint::read_weights(dir, &config)?;
//! assert_eq!(weights.len(), config.tensors().len());
//! # Ok::<(), postgrad_base::Error>(())
//! ```
//!
//! float32, bfloat16 and float16 become float32. Left out on purpose: pickles (they run code when they are read), 8-bit and
//! 4-bit storage.

use std::collections::BTreeMap;
use std::path::Path;

use postgrad_base::{Error, Result};
use postgrad_tensor::Tensor;

use crate::config::Config;

mod generation;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use generation::GenerationDefaults;
pub use read::{Shards, read_safetensors};
pub use write::{write_safetensors, write_weights};

/// How weights are stored in a file. In memory they are float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    Bf16,
    F16,
}

impl Dtype {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 | Dtype::F16 => 2,
        }
    }

    /// The name in `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::Bf16 => "bfloat16",
            Dtype::F16 => "float16",
        }
    }

    /// From `float32`, `torch.float32`, `f32` and the like.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("torch.").unwrap_or(name) {
            "float32" | "float" | "f32" | "fp32" => Dtype::F32,
            "bfloat16" | "bf16" => Dtype::Bf16,
            "float16" | "half" | "f16" | "fp16" => Dtype::F16,
            _ => return None,
        })
    }
}

/// A tensor of a file: floats as float32, whole numbers and booleans as i64.
#[derive(Clone, Debug)]
pub enum AnyTensor {
    Float(Tensor),
    Int { values: Vec<i64>, shape: Vec<usize> },
}

impl AnyTensor {
    pub fn shape(&self) -> &[usize] {
        match self {
            AnyTensor::Float(t) => t.dims(),
            AnyTensor::Int { shape, .. } => shape,
        }
    }

    pub fn float(&self) -> Option<&Tensor> {
        match self {
            AnyTensor::Float(t) => Some(t),
            AnyTensor::Int { .. } => None,
        }
    }

    pub fn ints(&self) -> Option<&[i64]> {
        match self {
            AnyTensor::Float(_) => None,
            AnyTensor::Int { values, .. } => Some(values),
        }
    }
}

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Every weight of [`Config::tensors`] from a folder, by name. Names and shapes are checked before anything is loaded.
/// Peak memory is one copy in float32.
///
/// # Errors
/// No weights, a missing shard, a missing or unexpected tensor, a wrong shape, a damaged file, a pickle.
pub fn read_weights(dir: &Path, config: &Config) -> Result<BTreeMap<String, Tensor>> {
    let shards = Shards::open(dir)?;
    check_names(&shards, config).map_err(|e| e.at(dir.display()))?;
    if config.tie_word_embeddings
        && shards.shape(HEAD).is_some()
        && shards.load(HEAD)?.data() != shards.load(EMBEDDING)?.data()
    {
        return Err(Error::work(format!("`{HEAD}` differs from `{EMBEDDING}`, but `tie_word_embeddings` is true"))
            .at(dir.display())
            .help("set `tie_word_embeddings` to false in config.json if the head is meant to be its own"));
    }
    config.tensors().into_iter().map(|(name, _)| shards.load(&name).map(|tensor| (name, tensor))).collect()
}

fn check_names(shards: &Shards, config: &Config) -> Result<()> {
    let expected = config.tensors();
    let missing: Vec<&str> =
        expected.iter().map(|(name, _)| name.as_str()).filter(|name| shards.shape(name).is_none()).collect();
    let list = |names: &[&str]| {
        let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        let quoted: Vec<String> = names.iter().take(3).map(|n| format!("`{n}`")).collect();
        quoted.join(", ") + &more
    };
    if !missing.is_empty() {
        let error =
            Error::work(format!("{} of {} tensors are missing: {}", missing.len(), expected.len(), list(&missing)));
        return Err(match &missing[..] {
            [HEAD] => error.help("set `tie_word_embeddings` to true in config.json if the head is the embedding"),
            _ => error.help("config.json and the weights do not belong together, or the download is incomplete"),
        });
    }
    let known: BTreeMap<&str, &[usize]> = expected.iter().map(|(name, shape)| (name.as_str(), &shape[..])).collect();
    let tied_head = |name: &str| config.tie_word_embeddings && name == HEAD;
    // Old files carry the rotary frequencies; they follow from config.json.
    let extra: Vec<&str> = shards
        .names()
        .filter(|name| !known.contains_key(name) && !tied_head(name) && !name.ends_with("rotary_emb.inv_freq"))
        .collect();
    if !extra.is_empty() {
        return Err(Error::work(format!("{} unexpected tensors: {}", extra.len(), list(&extra)))
            .help(format!("config.json describes a {} without them", config.family.name())));
    }
    let head = [(HEAD, known[EMBEDDING])].into_iter().filter(|_| config.tie_word_embeddings);
    for (name, shape) in known.iter().map(|(name, shape)| (*name, *shape)).chain(head) {
        match shards.shape(name) {
            Some(found) if found != shape => {
                return Err(Error::work(format!("`{name}` has shape {found:?}, expected {shape:?}"))
                    .help("config.json and the weights do not belong together"));
            }
            _ => {}
        }
    }
    Ok(())
}
