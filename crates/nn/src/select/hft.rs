//! Half Fine-Tuning (arXiv 2404.18466): in each round a drawn half of a model's matrices is trained and the other half stays
//! to the bit: no gradient, no optimiser state, no decay.
//!
//! By category, every layer trains 2 of its 4 attention matrices, 1 or 2 of the 3 of its feed-forward part and half of its
//! norm vectors (those of q and k count as norms); which layers train 2 of 3 is drawn, half of them, and with an odd number of
//! layers a coin decides whether it is one more or one less. Other ratios follow the same rule: the whole part in every layer,
//! one more in as many drawn layers as the rest asks for. A bias goes with its matrix. Embeddings, head and the final norm
//! are outside of the layers and trained, unless told otherwise. Key and value matrices of grouped-query models are small, so
//! the share of parameters is reported beside that of matrices.
//!
//! Left out on purpose: drawing again at every step (another method).

use std::collections::BTreeSet;

use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};

use crate::decoder::{Decoder, Role};
use crate::weights::WeightId;

/// Where the share holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// In every layer, for attention, feed-forward and norms each.
    #[default]
    Category,
    /// Of the layers: each is trained whole or not at all.
    Layer,
    /// Of all matrices and norm vectors, wherever they are.
    Model,
}

/// When another half is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redraw {
    /// Once, at the start.
    #[default]
    Stage,
    /// At every pass over the data. Moments of tensors that stay are carried, those of tensors that leave are dropped.
    Epoch,
}

/// The settings, with the paper's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hft {
    /// Share of the tensors that is trained.
    pub ratio: f64,
    pub level: Level,
    pub redraw: Redraw,
    /// Stages one after the other give different rounds, so that different halves carry different tasks.
    pub round: u64,
    /// Whether embeddings, head and final norm are trained.
    pub embeddings: bool,
}

impl Default for Hft {
    fn default() -> Self {
        Self { ratio: 0.5, level: Level::Category, redraw: Redraw::Stage, round: 0, embeddings: true }
    }
}

impl Hft {
    pub(super) fn check(&self) -> Result<()> {
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(Error::usage(format!("the ratio is {}, and must be above 0 and at most 1", self.ratio)));
        }
        Ok(())
    }

    /// The stream of a pass over the data (pass 0 is the draw of a stage).
    pub(super) fn stream(&self, stream: &Stream, epoch: u64) -> Stream {
        stream.child("hft").nth(self.round).nth(epoch)
    }
}

/// The tensors of one layer. A weight that two layers share belongs to the first.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Matrices with their biases.
    pub attention: Tensors,
    pub ffn: Tensors,
    pub norms: Tensors,
}

/// Tensors, each with its bias if it has one.
pub type Tensors = Vec<(WeightId, Option<WeightId>)>;

impl Layer {
    fn categories(&self) -> [&Tensors; 3] {
        [&self.attention, &self.ffn, &self.norms]
    }

    /// Matrices and norm vectors.
    pub fn counted(&self) -> impl Iterator<Item = WeightId> {
        self.categories().into_iter().flatten().map(|(id, _)| *id)
    }

    /// Those and the biases.
    pub fn all(&self) -> impl Iterator<Item = WeightId> {
        self.categories().into_iter().flatten().flat_map(|(id, bias)| [Some(*id), *bias]).flatten()
    }
}

/// The model's layers, in order.
pub fn layers(decoder: &Decoder) -> Vec<Layer> {
    use Role::*;
    const ATTENTION: [(Role, Option<Role>); 4] =
        [(Q, Some(QBias)), (K, Some(KBias)), (V, Some(VBias)), (O, Some(OBias))];
    const FFN: [(Role, Option<Role>); 3] = [(Gate, Some(GateBias)), (Up, Some(UpBias)), (Down, Some(DownBias))];
    const NORMS: [(Role, Option<Role>); 4] = [(AttnNorm, None), (MlpNorm, None), (QNorm, None), (KNorm, None)];
    let mut seen = BTreeSet::new();
    let mut pick = |slot: usize, roles: &[(Role, Option<Role>)]| -> Tensors {
        let weights = &decoder.slots[slot].weights;
        let mut found = Vec::new();
        for (role, bias) in roles {
            if let Some(id) = weights[*role as usize].filter(|id| seen.insert(*id)) {
                found.push((id, bias.and_then(|b| weights[b as usize])));
            }
        }
        found
    };
    (0..decoder.slots.len())
        .map(|s| Layer { attention: pick(s, &ATTENTION), ffn: pick(s, &FFN), norms: pick(s, &NORMS) })
        .collect()
}

/// A whole number near `x`: its whole part, and one more with the probability of the rest.
fn around(x: f64, stream: &mut Stream) -> usize {
    // 0.6 * 5 is a little above 3.
    let x = if (x - x.round()).abs() < 1e-9 { x.round() } else { x };
    x.floor() as usize + usize::from(stream.chance(x.fract()))
}

/// Draws a share of the layers' tensors; biases come with their matrices.
pub fn draw(layers: &[Layer], ratio: f64, level: Level, stream: &Stream) -> BTreeSet<WeightId> {
    let mut drawn: Tensors = Vec::new();
    match level {
        Level::Category => {
            for (category, name) in ["attention", "ffn", "norms"].into_iter().enumerate() {
                let of: Vec<&Tensors> = layers.iter().map(|l| l.categories()[category]).collect();
                drawn.extend(draw_evenly(&of, ratio, &mut stream.child(name)));
            }
        }
        Level::Layer => {
            let mut stream = stream.child("layers");
            let n = around(ratio * layers.len() as f64, &mut stream);
            let chosen = stream.sample(layers.len(), n);
            drawn.extend(chosen.iter().flat_map(|l| layers[*l].categories()).flatten());
        }
        Level::Model => {
            let all: Tensors = layers.iter().flat_map(Layer::categories).flatten().copied().collect();
            let mut stream = stream.child("model");
            let n = around(ratio * all.len() as f64, &mut stream);
            drawn.extend(stream.sample(all.len(), n).into_iter().map(|i| all[i]));
        }
    }
    drawn.into_iter().flat_map(|(id, bias)| [Some(id), bias]).flatten().collect()
}

/// The whole part of the share in every layer, one more in drawn layers.
fn draw_evenly(layers: &[&Tensors], ratio: f64, stream: &mut Stream) -> Tensors {
    let whole = |n: usize| (ratio * n as f64 + 1e-9).floor();
    let rest = |n: usize| (ratio * n as f64 - whole(n)).max(0.0);
    let open: Vec<usize> = (0..layers.len()).filter(|l| rest(layers[*l].len()) > 1e-9).collect();
    let more = around(open.iter().map(|l| rest(layers[*l].len())).sum(), stream);
    let more: BTreeSet<usize> = stream.sample(open.len(), more).into_iter().map(|i| open[i]).collect();
    let mut drawn = Vec::new();
    for (l, tensors) in layers.iter().enumerate() {
        let n = whole(tensors.len()) as usize + usize::from(more.contains(&l));
        drawn.extend(stream.sample(tensors.len(), n).into_iter().map(|i| tensors[i]));
    }
    drawn
}

/// [`draw`] over all of a model: what lies outside of the layers (embeddings, head, final norm) is one more category.
pub fn draw_all(decoder: &Decoder, ratio: f64, level: Level, stream: &Stream) -> BTreeSet<WeightId> {
    let layers = layers(decoder);
    let mut drawn = draw(&layers, ratio, level, stream);
    let outer: Vec<WeightId> =
        decoder.weights.iter().map(|(id, ..)| id).filter(|id| super::is_outer(&layers, *id)).collect();
    let mut stream = stream.child("outer");
    let n = around(ratio * outer.len() as f64, &mut stream);
    drawn.extend(stream.sample(outer.len(), n).into_iter().map(|i| outer[i]));
    drawn
}
