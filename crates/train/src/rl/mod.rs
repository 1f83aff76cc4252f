//! Reinforcement fine-tuning: advantages and objectives on tensors, settings of the published methods, an on-policy trainer.
//!
//! [`advantage`] turns rewards into advantages, [`objective`] turns log-probs and advantages into a loss; neither knows a
//! model. [`settings`] names the methods as settings of one struct. [`OnPolicy`] samples, rewards and updates.

pub mod advantage;
pub mod objective;
pub mod settings;
mod trainer;

#[cfg(test)]
mod tests;

pub use advantage::{Advantages, Baseline, Estimator, Scale};
pub use objective::{Actions, KlKind, KlPlace, Normalizer, Objective, Ratio, ValueLoss};
pub use settings::Method;
pub use trainer::{Exam, Extras, OnPolicy, Shares, Watch};
