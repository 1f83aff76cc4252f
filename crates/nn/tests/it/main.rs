//! The decoder against numbers computed by transformers and PEFT, and the engine's promises about bits.

mod fixtures;
mod generation;
mod numbers;
