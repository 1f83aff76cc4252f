//! Models with their tokenizer and template, and text from them.

pub mod draw;
pub mod folder;
pub mod generate;
pub mod peek;
pub mod rollout;
pub mod solve;
pub mod verify;

pub use folder::ModelFolder;
pub use generate::{Answer, Options, generate};
pub use solve::{ProblemSet, Solved};
pub use verify::{Check, Verifier};
