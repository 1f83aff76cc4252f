//! A trained reward model as a reward: the head's value at a completion's last token.

use std::path::{Path, PathBuf};

use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_reason::ModelFolder;
use postgrad_tensor::no_grad;

use super::{Reward, Said, Sample};
use crate::head::ScalarHead;
use crate::score::{Scoring, score};
use crate::sft::cut;

/// The head's file, in the model's folder or the one above it (a run's).
pub const HEAD: &str = "reward_head.safetensors";

/// Tokens of one forward pass.
const MICRO_TOKENS: usize = 8192;

pub struct Model {
    model: ModelFolder,
    head: ScalarHead,
}

impl Model {
    /// Loads a model or adapter folder, or a run's folder, with the head beside it.
    pub fn load(dir: &Path) -> Result<Self> {
        let inner = ["model", "adapter"].map(|d| dir.join(d)).into_iter().find(|d| d.exists());
        let dir = if dir.join("config.json").exists() { dir.to_path_buf() } else { inner.unwrap_or(dir.to_path_buf()) };
        let places: Vec<PathBuf> = dir.parent().into_iter().map(|p| p.join(HEAD)).chain([dir.join(HEAD)]).collect();
        let file = places.iter().rev().find(|p| p.exists()).ok_or_else(|| {
            Error::usage("the folder holds no reward model")
                .at(dir.display())
                .help(format!("`postgrad tune --method reward` makes one, with its {HEAD}"))
        })?;
        let model = ModelFolder::load(&dir)?;
        let head = ScalarHead::read(file, "reward_head", model.decoder.config.hidden)?;
        Ok(Self { model, head })
    }
}

impl Reward for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
        let of = |s: &Sample| Example::new([&s.prompt.ids[..], s.tokens].concat());
        let examples: Vec<Example> = samples.iter().map(of).collect();
        let mut said = Vec::with_capacity(samples.len());
        for part in cut(&examples, MICRO_TOKENS) {
            let values = no_grad(|| {
                score(&self.model.decoder, &part, Scoring::default()).map(|scored| self.head.of(&scored.ends))
            })?;
            said.extend(values.data().iter().map(|v| Said::from(Some(f64::from(*v)))));
        }
        Ok(said)
    }
}
