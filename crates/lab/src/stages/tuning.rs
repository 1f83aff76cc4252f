//! What stages that tune a model have in common: their data, what of the model they train, what they leave behind.

use std::sync::Arc;

use postgrad_base::{Context, Error, Result};
use postgrad_data::{DataSpec, Dataset, Example};
use postgrad_nn::LoraSpec;
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::delta::Delta;
use postgrad_nn::optim::name_matches;
use postgrad_nn::schedule::Decay;
use postgrad_nn::select::{Select, Selection};
use postgrad_reason::ModelFolder;
use serde::{Deserialize, Serialize};

use crate::stage::{Cx, Input};

/// One reference or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Inputs {
    One(Input),
    Several(Vec<Input>),
}

impl Inputs {
    pub fn list(&self) -> &[Input] {
        match self {
            Self::One(input) => std::slice::from_ref(input),
            Self::Several(list) => list,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    pub rank: usize,
    pub alpha: f32,
    pub dropout: f32,
    pub rank_stabilized: bool,
    /// Go on with the adapter that `model` brings, with its own rank and alpha, in place of a fresh one.
    #[serde(rename = "continue")]
    pub go_on: bool,
}

impl Default for Lora {
    fn default() -> Self {
        let LoraSpec { rank, alpha, dropout, rank_stabilized } = LoraSpec::default();
        Self { rank, alpha, dropout, rank_stabilized, go_on: false }
    }
}

impl Lora {
    pub fn spec(&self) -> LoraSpec {
        let Self { rank, alpha, dropout, rank_stabilized, .. } = *self;
        LoraSpec { rank, alpha, dropout, rank_stabilized }
    }
}

pub(super) fn one() -> f64 {
    1.0
}
pub(super) fn batch() -> usize {
    16
}
pub(super) fn warmup() -> f64 {
    0.03
}
pub(super) fn cosine() -> Decay {
    Decay::Cosine
}
pub(super) fn max_len() -> usize {
    1024
}
pub(super) fn micro_tokens() -> usize {
    4096
}

/// All examples of some data sets, in the order of their files; longer ones than `max_len` tokens are left out.
pub(super) fn examples(model: &ModelFolder, data: &Inputs, max_len: usize, cx: &Cx) -> Result<Vec<Example>> {
    let renderer = Arc::new(model.renderer.clone());
    let mut all = Vec::new();
    for input in data.list() {
        let mut data = Dataset::open(DataSpec { max_len, ..cx.data(input)? }, renderer.clone())?;
        while let Some(example) = data.next_example()? {
            all.push(example);
        }
    }
    Ok(all)
}

/// What of a model a stage trains.
pub(crate) struct Trainable<'a> {
    pub model: &'a Input,
    pub lora: Option<&'a Lora>,
    pub train: &'a [String],
    pub freeze: &'a [String],
    pub select: Option<&'a Select>,
}

impl Trainable<'_> {
    /// Marks what is trained; a selection of entries where there is one.
    pub fn begin(&self, model: &mut ModelFolder, cx: &Cx) -> Result<Option<Selection>> {
        if let Some(lora) = self.lora.filter(|l| l.go_on) {
            let decoder = &mut model.decoder;
            let [adapter] = &mut decoder.adapters[..] else {
                return Err(Error::usage(format!(
                    "`{}` has {} adapters to go on with",
                    self.model,
                    decoder.adapters.len()
                ))
                .help("name a stage that trained a LoRA, or leave `continue` out"));
            };
            adapter.spec.dropout = lora.dropout;
            adapter.set_trained(&decoder.weights, true);
            return Ok(None);
        }
        if let Some(lora) = self.lora {
            let stream = cx.stream("tune").child("adapter");
            return model.decoder.add_lora("tuned", lora.spec(), &stream).map(|()| None);
        }
        if !model.decoder.adapters.is_empty() {
            return Err(Error::usage(format!("`{}` is an adapter, and all weights are to be tuned", self.model))
                .help("give [stage.NAME.lora], or merge the adapter first"));
        }
        if let Some(select) = self.select {
            return Selection::begin(select, &mut model.decoder, &cx.stream("tune").child("select")).map(Some);
        }
        let named = |patterns: &[String], name: &str| patterns.iter().any(|p| name_matches(p, name));
        let wanted = |name: &str| (self.train.is_empty() || named(self.train, name)) && !named(self.freeze, name);
        model.decoder.weights.train(wanted);
        if model.decoder.params().is_empty() {
            return Err(Error::usage("`train` and `freeze` leave nothing to train"));
        }
        Ok(None)
    }

    /// Writes `model/` or `adapter/` (of a low-rank selection also `delta.safetensors`).
    pub fn save(&self, model: &mut ModelFolder, cx: &Cx) -> Result<()> {
        if self.lora.is_none() {
            if let Some(Select::Lift(_)) = self.select {
                let base = cx.model(self.model)?;
                let delta = Delta::between(&base.decoder.weights, &model.decoder.weights)?;
                delta.save(&cx.out.join("delta.safetensors"))?;
            }
            return model.save(&cx.out.join("model"), Dtype::F32);
        }
        let adapter = model.decoder.adapters.last().expect("a LoRA was added").clone();
        let base = std::path::absolute(&model.dir).unwrap_or_else(|_| model.dir.clone());
        model.save_adapter(&adapter, &cx.out.join("adapter"), &base.display().to_string())
    }
}

/// Removes what only a stage at work needs: its checkpoints, and the reference's log-probs.
pub(super) fn sweep(cx: &Cx) -> Result<()> {
    let _ = std::fs::remove_file(cx.out.join("reference.json"));
    // First out of sight, as a whole: a kill within the removal must not leave half a checkpoint to go on from.
    let (left, gone) = (cx.out.join("checkpoints"), cx.out.join("checkpoints.gone"));
    let _ = std::fs::remove_dir_all(&gone);
    std::fs::rename(&left, &gone).context(|| format!("cannot rename {}", left.display()))?;
    std::fs::remove_dir_all(&gone).context(|| format!("cannot remove {}", gone.display()))
}

/// Floating-point operations of `tokens` tokens trained on: 2 N each way forward, backward the same for activations and
/// once more for the gradients of what is trained.
pub(super) fn flops(tokens: u64, all: usize, with_gradient: usize) -> u64 {
    tokens * (4 * all + 2 * with_gradient.min(all)) as u64
}
