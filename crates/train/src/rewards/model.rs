//! A trained reward model as a reward: of a pairwise head the value, of the others the probability of being right, of a process
//! head the least (or the product) of the steps' probabilities.

use std::path::{Path, PathBuf};

use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_reason::ModelFolder;
use postgrad_tensor::no_grad;

use super::{Reward, Said, Sample};
use crate::preference::{OverSteps, RewardHead};
use crate::sft::cut;

/// The head's file, in the model's folder or the one above it (a run's).
pub const HEAD: &str = "reward_head.safetensors";

/// Tokens of one forward pass.
const MICRO_TOKENS: usize = 8192;

pub struct Model {
    pub model: ModelFolder,
    pub head: RewardHead,
    pub over: OverSteps,
}

impl Model {
    /// Loads a model or adapter folder, or a run's folder, with the head beside it.
    pub fn load(dir: &Path, over: OverSteps) -> Result<Self> {
        let inner = ["model", "adapter"].map(|d| dir.join(d)).into_iter().find(|d| d.exists());
        let dir = if dir.join("config.json").exists() { dir.to_path_buf() } else { inner.unwrap_or(dir.to_path_buf()) };
        let places: Vec<PathBuf> = dir.parent().into_iter().map(|p| p.join(HEAD)).chain([dir.join(HEAD)]).collect();
        let file = places.iter().rev().find(|p| p.exists()).ok_or_else(|| {
            Error::usage("the folder holds no reward model")
                .at(dir.display())
                .help(format!("`postgrad tune --method reward` makes one, with its {HEAD}"))
        })?;
        let model = ModelFolder::load(&dir)?;
        let head = RewardHead::read(file, model.decoder.config.hidden)?;
        Ok(Self { model, head, over })
    }

    /// Loads what a reward's name has after `model:`, `DIR` or `DIR?over=product`.
    pub fn parse(spec: &str) -> Result<Self> {
        let (dir, over) = spec.rsplit_once("?over=").unwrap_or((spec, "min"));
        Self::load(Path::new(dir), over.parse()?)
    }

    /// What it says of each sequence, whose counted tokens are the answer.
    pub fn says(&self, examples: &[Example]) -> Result<Vec<f64>> {
        let mut said = Vec::with_capacity(examples.len());
        for part in cut(examples, MICRO_TOKENS) {
            let places = |e: &&Example| self.head.places(e, self.model.renderer.tokenizer());
            let places: Vec<Vec<u32>> = part.iter().map(places).collect::<Result<_>>()?;
            let values = no_grad(|| self.head.values(&self.model.decoder, &part, &places, false))?.0;
            let mut values = values.data();
            for own in &places {
                let (first, rest) = values.split_at(own.len());
                said.push(self.head.says(first, self.over));
                values = rest;
            }
        }
        Ok(said)
    }
}

impl Reward for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
        let of = |s: &Sample| {
            let mut example = Example::new([&s.prompt.ids[..], s.tokens].concat());
            example.weights[..s.prompt.ids.len()].fill(0.0);
            example
        };
        let examples: Vec<Example> = samples.iter().map(of).collect();
        Ok(self.says(&examples)?.into_iter().map(|v| Said::from(Some(v))).collect())
    }
}
