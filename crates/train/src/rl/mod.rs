//! Reinforcement fine-tuning: advantages and objectives on tensors, settings of the published methods, an on-policy trainer.
//!
//! [`advantage`] turns rewards into advantages, [`objective`] turns log-probs and advantages into a loss; neither knows a
//! model. [`settings`] names the methods as settings of one struct. [`curriculum`] chooses prompts. [`OnPolicy`] samples,
//! rewards and updates.

pub mod advantage;
pub mod curriculum;
pub mod objective;
mod rollout;
pub mod settings;
mod supervised;
mod trainer;
mod update;

#[cfg(test)]
mod tests;

pub use advantage::{Advantages, Baseline, Estimator, Scale};
pub use curriculum::{Curriculum, CurriculumSpec};
pub use objective::{Actions, KlKind, KlPlace, Normalizer, Objective, Ratio, ValueLoss};
pub use settings::Method;
pub use supervised::Supervised;
pub use trainer::{Exam, Extras, OnPolicy, Shares, Watch, total_steps};
