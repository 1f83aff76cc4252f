//! Decoders, adapters, optimisers, checkpoints and the sampling engine. Knows tensors; knows no text and no tasks.

pub mod adapter;
pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod delta;
pub mod graft;
pub mod hook;
pub mod logits;
pub mod merge;
pub mod optim;
pub mod peft;
pub mod sample;
pub mod schedule;
pub mod select;
pub mod weights;

pub use adapter::{Adapter, LoraSpec};
pub use decoder::{Decoder, Mask, Pass, Role, Slot, Walk};
pub use weights::{Weight, WeightId, Weights};
