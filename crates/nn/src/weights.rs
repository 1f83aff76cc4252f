//! The weight map: slots of a model read their weights by number, and what stands behind a number may be a trainable
//! parameter, a frozen tensor, or a tensor computed on the tape (a graft, a task vector). Two slots may name one weight.

use std::collections::HashMap;

use postgrad_base::{Error, Result};
use postgrad_tensor::{Param, Tensor};

/// A weight's number in its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub usize);

/// What stands behind a weight's name.
#[derive(Clone, Debug)]
pub enum Weight {
    Trained(Param),
    Frozen(Tensor),
    /// A result of tape operations, set before a forward pass and gone stale after an update.
    Computed(Tensor),
}

impl Weight {
    /// The tensor to compute with; on the tape where something behind it is trained.
    pub fn tensor(&self) -> Tensor {
        match self {
            Self::Trained(p) => p.leaf(),
            Self::Frozen(t) | Self::Computed(t) => t.clone(),
        }
    }
}

/// Named weights in a fixed order.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    names: Vec<String>,
    all: Vec<Weight>,
    index: HashMap<String, WeightId>,
}

impl Weights {
    /// Adds a frozen weight, or finds the one of this name.
    pub fn add(&mut self, name: &str, value: Tensor) -> WeightId {
        if let Some(id) = self.index.get(name) {
            self.all[id.0] = Weight::Frozen(value);
            return *id;
        }
        let id = WeightId(self.all.len());
        self.names.push(name.to_string());
        self.all.push(Weight::Frozen(value));
        self.index.insert(name.to_string(), id);
        id
    }

    pub fn find(&self, name: &str) -> Option<WeightId> {
        self.index.get(name).copied()
    }

    pub fn get(&self, id: WeightId) -> &Weight {
        &self.all[id.0]
    }

    pub fn name(&self, id: WeightId) -> &str {
        &self.names[id.0]
    }

    /// Puts something else behind a name. The shape must stay.
    pub fn set(&mut self, id: WeightId, weight: Weight) -> Result<()> {
        let (was, is) = (self.all[id.0].tensor().shape(), weight.tensor().shape());
        if was != is {
            return Err(Error::work(format!("the weight has shape {was:?}, not {is:?}")).at(self.name(id)));
        }
        self.all[id.0] = weight;
        Ok(())
    }

    /// Names and weights in order.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &str, &Weight)> {
        self.names.iter().zip(&self.all).enumerate().map(|(i, (n, w))| (WeightId(i), n.as_str(), w))
    }

    /// Makes the weights whose names `wanted` accepts trainable and freezes the rest.
    pub fn train(&mut self, wanted: impl Fn(&str) -> bool) {
        for (name, weight) in self.names.iter().zip(&mut self.all) {
            *weight = match (&*weight, wanted(name)) {
                (Weight::Frozen(t), true) => Weight::Trained(Param::new(name.clone(), t.clone())),
                (Weight::Trained(p), false) => Weight::Frozen(p.value()),
                _ => continue,
            };
        }
    }

    /// The trainable weights in order.
    pub fn params(&self) -> Vec<Param> {
        self.all.iter().filter_map(|w| if let Weight::Trained(p) = w { Some(p.clone()) } else { None }).collect()
    }
}
