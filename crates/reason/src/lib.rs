//! Models with their tokenizer and template, and text from them.

pub mod draw;
pub mod folder;
pub mod generate;
pub mod solve;

pub use folder::ModelFolder;
pub use generate::{Answer, Options, generate};
pub use solve::{ProblemSet, Solved};
