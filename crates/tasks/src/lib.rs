//! Problems that can be checked: generators, solvers, verifiers.
//!
//! A task knows no model and reads no file: a loader takes text, a verifier takes text.

pub mod abilities;
pub mod answers;
pub mod chain;
pub mod gsm8k;
pub mod lang;
pub mod logic;
pub mod number;
pub mod programs;
pub mod puzzles;
pub mod registry;
pub mod sandbox;
pub mod search;
pub mod seed_text;
pub mod sql;
pub mod task;

pub use registry::{task, tasks};
pub use task::{
    Difficulty, Knob, Problem, Reason, Rendering, Split, StepVerdict, Task, Trace, Verdict, draw, final_text,
    stable_hash,
};
