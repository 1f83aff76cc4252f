//! Learning from answers that are better and worse: losses on log-probs, reward heads, data and pair
//! builders, a trainer.

pub mod data;
pub mod head;
pub mod loss;
mod trainer;

#[cfg(test)]
mod tests;

pub use data::{Group, Ranked, Reading};
pub use head::{HeadKind, OverSteps, RewardHead};
pub use loss::{Answers, Changes, Constraint, Figures, Form, Length, Loss, Over};
pub use trainer::Preference;
