//! Objectives and trainers. A trainer emits events and writes checkpoints of its run; it stores nothing else.

pub mod corrupt;
pub mod distill;
mod drive;
pub mod evaluate;
pub mod head;
mod keep;
pub mod preference;
pub mod prompts;
mod query;
pub mod reference;
pub mod rewards;
pub mod rl;
pub mod run_dir;
pub mod score;
pub mod settings;
pub mod sft;
pub mod source;

pub use corrupt::Corrupt;
pub use settings::{Checkpoints, Normalizer, Settings};
pub use sft::{Outcome, Sft};
pub use source::ExampleSource;
