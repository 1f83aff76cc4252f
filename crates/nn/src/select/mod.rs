//! Which parameters, or which of their entries, a fine-tune changes.
//!
//! - [`Hft`]: a drawn half of the matrices (Half Fine-Tuning, arXiv 2404.18466);
//! - [`Lift`]: entries of every projection, by default those that are largest in a low-rank approximation of it (LIFT,
//!   arXiv 2506.00772).
//!
//! A [`Selection`] is asked by the trainer before each forward pass and before each update. What it chose is a function of
//! its configuration, its stream, the pass over the data and the step; entries and running scores are kept, and saved, by the
//! optimiser. So a run that is killed and gone on with ends in the same bits.
//!
//! ```
//! use postgrad_base::Stream;
//! use postgrad_nn::{Decoder, config::Config, select::{Select, Selection}};
//! # fn main() -> postgrad_base::Result<()> {
//! let mut model = Decoder::random(Config::llama(64, 32, 4, 2, 2, 48, 64, true), &Stream::new(0, &["base"]))?;
//! let half = Select::parse("hft,ratio=0.5")?;
//! let selection = Selection::begin(&half, &mut model, &Stream::new(0, &["tune"]))?;
//! println!("{}", selection.share()); // 18 of 36 tensors of the layers, ...
//! # Ok(()) }
//! ```

mod hft;
mod lift;

use std::fmt;

use postgrad_base::{Error, Result, Stream};
use postgrad_tensor::Param;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::decoder::{Decoder, PROJECTIONS};
use crate::optim::Optimizer;
use crate::weights::{Weight, WeightId};

pub use hft::{Hft, Level, Redraw, draw, draw_all, layers};
pub use lift::{Lift, MaskKind, SvdKind, top_entries};

/// How trainable parameters are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Select {
    Hft(Hft),
    Lift(Lift),
}

impl Select {
    /// Reads `KIND,key=value,...`, for example `hft,ratio=0.5,level=category` or `lift,rank=8,filter_rank=8`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(',').map(str::trim);
        let mut map = Map::new();
        map.insert("kind".into(), json!(parts.next().unwrap_or_default()));
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                Error::usage(format!("`{part}` is no setting of a selection")).help("write it as key=value")
            })?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            map.insert(key.into(), value);
        }
        let select: Self = serde_json::from_value(Value::Object(map)).map_err(|e| {
            Error::usage(format!("`{text}` is no selection: {e}"))
                .help("for example: hft,ratio=0.5,level=category or lift,rank=8,filter_rank=8,interval=200")
        })?;
        select.check()?;
        Ok(select)
    }

    /// Whether embeddings are trained, so that a new token could be learned.
    pub fn trains_embeddings(&self) -> bool {
        matches!(self, Self::Hft(hft) if hft.embeddings)
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Hft(hft) => hft.check(),
            Self::Lift(lift) => lift.check(),
        }
    }
}

/// What is trained, counted. Shared weights count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Matrices and norm vectors of the layers (biases go with their matrices).
    pub tensors: usize,
    pub all_tensors: usize,
    /// Trained entries, embeddings, head and final norm included.
    pub parameters: usize,
    pub all_parameters: usize,
    /// Parameters whose gradient is computed: more than are trained where entries are chosen.
    pub with_gradient: usize,
}

impl Share {
    pub fn of_tensors(&self) -> f64 {
        self.tensors as f64 / self.all_tensors.max(1) as f64
    }

    pub fn of_parameters(&self) -> f64 {
        self.parameters as f64 / self.all_parameters.max(1) as f64
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |x: f64| 100.0 * x;
        write!(
            f,
            "{} of {} tensors of the layers ({:.1}%), {} of {} parameters ({:.2}%)",
            self.tensors,
            self.all_tensors,
            percent(self.of_tensors()),
            self.parameters,
            self.all_parameters,
            percent(self.of_parameters())
        )
    }
}

/// A selection in force.
pub struct Selection {
    select: Select,
    stream: Stream,
    share: Share,
    /// What is drawn from, with the weight it stands for.
    params: Vec<(WeightId, Param)>,
    /// The layers' tensors, to draw again from.
    layers: Vec<hft::Layer>,
    epoch: Option<u64>,
}

impl Selection {
    /// Makes what is chosen trainable and freezes the rest. `stream` decides all draws.
    pub fn begin(select: &Select, decoder: &mut Decoder, stream: &Stream) -> Result<Self> {
        select.check()?;
        if !decoder.adapters.is_empty() {
            return Err(Error::usage("a selection is of a model's own weights, and an adapter lies beside them")
                .help("merge the adapter first"));
        }
        let layers = layers(decoder);
        let trained: Vec<WeightId> = match select {
            Select::Hft(hft) => {
                let drawn = draw(&layers, hft.ratio, hft.level, &hft.stream(stream, 0));
                let outer =
                    decoder.weights.iter().map(|(id, ..)| id).filter(|id| hft.embeddings && is_outer(&layers, *id));
                let again = hft.redraw == Redraw::Epoch;
                // Drawn again, every tensor of the layers may have its turn.
                let inner = layers.iter().flat_map(hft::Layer::all).filter(|id| again || drawn.contains(id));
                inner.chain(outer).collect()
            }
            Select::Lift(_) => decoder.projections(&PROJECTIONS),
        };
        let names: Vec<&str> = trained.iter().map(|id| decoder.weights.name(*id)).collect();
        let wanted: std::collections::BTreeSet<String> = names.iter().map(|n| n.to_string()).collect();
        decoder.weights.train(|name| wanted.contains(name));
        let params = decoder.weights.iter().filter_map(|(id, _, w)| match w {
            Weight::Trained(p) => Some((id, p.clone())),
            _ => None,
        });
        let params: Vec<_> = params.collect();
        if params.is_empty() {
            return Err(Error::usage("the selection leaves nothing to train").help("give a larger ratio"));
        }
        let mut selection = Self {
            select: select.clone(),
            stream: stream.clone(),
            share: Share::default(),
            params,
            layers,
            epoch: None,
        };
        selection.hold(0);
        selection.share = selection.count(decoder);
        Ok(selection)
    }

    /// What decides the choice, for the fingerprint of a run.
    pub fn fingerprint(&self) -> Value {
        serde_json::to_value(&self.select).expect("plain data")
    }

    /// What is trained at the start.
    pub fn share(&self) -> Share {
        self.share
    }

    /// The share as columns of a row or an event.
    pub fn figures(&self) -> Map<String, Value> {
        let s = self.share;
        let figures = json!({"trained": s.parameters, "share": s.of_parameters(), "tensors": s.tensors,
            "tensor_share": s.of_tensors(), "with_gradient": s.with_gradient});
        figures.as_object().cloned().unwrap_or_default()
    }

    fn count(&self, decoder: &Decoder) -> Share {
        let trained: Vec<&(WeightId, Param)> = self.params.iter().filter(|(_, p)| !p.is_held()).collect();
        let counted = |id: &WeightId| self.layers.iter().any(|l| l.counted().any(|c| c == *id));
        let entries = |p: &Param| match (&self.select, p.shape().dims()) {
            (Select::Lift(lift), [rows, cols]) => lift.budget(*rows, *cols),
            _ => p.len(),
        };
        Share {
            tensors: trained.iter().filter(|(id, _)| counted(id)).count(),
            all_tensors: self.layers.iter().map(|l| l.counted().count()).sum(),
            parameters: trained.iter().map(|(_, p)| entries(p)).sum(),
            all_parameters: decoder.parameter_count(),
            with_gradient: trained.iter().map(|(_, p)| p.len()).sum(),
        }
    }

    /// Holds what the draw of this pass leaves out.
    fn hold(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
        let Select::Hft(hft) = &self.select else { return };
        if hft.redraw == Redraw::Stage {
            return;
        }
        let drawn = draw(&self.layers, hft.ratio, hft.level, &hft.stream(&self.stream, epoch));
        for (id, p) in &self.params {
            p.hold(!drawn.contains(id) && !is_outer(&self.layers, *id));
        }
    }

    /// To be called when the examples of an update are known and before they go through the model: `epoch` is the pass over
    /// the data. Drops the optimiser's state of parameters that leave.
    pub fn before_pass(&mut self, epoch: u64, optimizer: &mut Optimizer) -> Result<()> {
        if self.epoch == Some(epoch) {
            return Ok(());
        }
        self.hold(epoch);
        self.params.iter().filter(|(_, p)| p.is_held()).try_for_each(|(_, p)| optimizer.forget(p.name()))
    }

    /// To be called when the gradients of an update are there and before they are clipped; `step` counts finished updates.
    pub fn before_update(&mut self, step: u64, optimizer: &mut Optimizer) -> Result<()> {
        let Select::Lift(lift) = &self.select else { return Ok(()) };
        let params: Vec<Param> = self.params.iter().map(|(_, p)| p.clone()).collect();
        lift.keep_scores(&params, optimizer)?;
        if step.is_multiple_of(lift.interval) {
            lift.refresh(step / lift.interval, &params, &self.stream, optimizer)?;
        }
        Ok(())
    }
}

fn is_outer(layers: &[hft::Layer], id: WeightId) -> bool {
    !layers.iter().any(|l| l.all().any(|i| i == id))
}

#[cfg(test)]
mod tests;
