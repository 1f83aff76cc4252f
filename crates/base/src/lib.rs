//! The ground floor: what every other crate may lean on, and nothing else.
//!
//! - [`rng`]: named random streams, so that every random choice of a run can be traced to a seed and a name
//! - [`error`]: errors that say what is wrong, where, and how to mend it
//! - [`fs`]: files that are complete or absent, and locks on folders
//! - [`progress`]: a live line on a terminal, plain lines elsewhere
//! - [`cancel`]: one flag that long work looks at
//! - [`event`]: where a run sends what it measured
//! - [`jsonl`]: JSON lines in and out, with line numbers

pub mod cancel;
pub mod error;
pub mod event;
pub mod fs;
pub mod jsonl;
pub mod progress;
pub mod rng;

pub use error::{Context, Error, Kind, Result};
pub use rng::Stream;
