//! Claims: what an experiment was to show, and whether it did.
//!
//! ```
//! # fn main() -> postgrad_base::Result<()> {
//! use postgrad_lab::claims::{Claim, Condition, Expr, Judge, Seeds, State, Study};
//! # use postgrad_lab::Item;
//! # let rows = |right: usize| -> Vec<Item> {
//! #     let metrics = |i: usize| serde_json::json!({"accuracy": f64::from(u8::from(i % 10 < right))});
//! #     (0..100).map(|i| Item { item: i.to_string(), cluster: None, metrics: metrics(i).as_object().unwrap().clone() }).collect()
//! # };
//! let claim = Claim {
//!     says: "masking helps".into(),
//!     value: Expr::parse("masked:target.accuracy - sft:target.accuracy")?,
//!     holds: Condition::parse("> 0.05")?,
//!     interest: Some(0.05),
//!     primary: true,
//! };
//! let mut study = Study::default();
//! for seed in 0..5 {
//!     study.put("masked", "target", seed, rows(7).into());
//!     study.put("sft", "target", seed, rows(4).into());
//! }
//! let verdict = Judge::new(&study).judge(&[claim], &[], Seeds { primary: 5, others: 3 })?;
//! assert_eq!(verdict.state, State::Holds); // 0.3, and the items' share of chance lies well inside
//! # Ok(()) }
//! ```
//!
//! # The error of a value
//!
//! A value V is arithmetic over measures of arms. Its value on seed s, over n items, is modelled as
//!
//! ```text
//! V_s = V + I + A_s + B_s
//! ```
//!
//! with I what the drawn items do to it whatever the seed (variance i²/n), A_s what the seed does whatever the items
//! (variance a²), B_s their interaction (variance b²/n). The estimate is the mean over S seeds; its variance is
//!
//! ```text
//! i²/n + (a² + b²/n) / S
//! ```
//!
//! The sample variance of V_s over seeds estimates a² + b²/n without bias, for I is the same in all of them. Resampling the
//! items once per replicate, with the same draw for every seed and arm, gives V_s and V_t of two seeds the covariance
//! i²/n: their interactions are independent. So the squared standard error is s²/S plus the mean covariance over pairs of
//! seeds, taken as 0 where it comes out negative. (The bootstrap variance of the mean itself is i²/n + b²/(nS), and would
//! count the interaction twice.) The interval is t's with S - 1 degrees of freedom: exact where seeds make the noise,
//! wider than needed where items do.
//!
//! Clusters of items are drawn, not items, where items name one. Sets of items that have the same clusters share their
//! draws, others are drawn independently. A stage with one row (a figure of a run) is not resampled.
//!
//! Claims that are not primary are adjusted by Holm over themselves, through the level of their intervals: see
//! [`Judged::level`]. Left out on purpose: Bayesian intervals, stopping rules, tuning of claims.

mod condition;
mod estimate;
mod expr;
mod judge;
mod metric;
mod power;
#[cfg(test)]
mod simulated;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::Item;

pub use condition::{Condition, Tolerance};
pub use estimate::REPLICATES;
pub use expr::{Expr, Ref};
pub use judge::{Claim, Control, Judge, Judged, Seeds, State, Summary, Verdict};
pub use metric::{Fun, Metric, number_columns};
pub use power::{ASSUMED, Expected, Noise, power};

/// Of every interval that no adjustment widens.
pub const LEVEL: f64 = 0.95;

/// The rows of every arm, stage and seed. Arms that share a result share its rows.
#[derive(Clone, Debug, Default)]
pub struct Study {
    arms: BTreeMap<String, BTreeMap<u64, Stages>>,
}

/// Rows by stage.
type Stages = BTreeMap<String, Arc<Vec<Item>>>;

impl Study {
    /// Adds the rows of one result; they replace those that were there.
    pub fn put(&mut self, arm: &str, stage: &str, seed: u64, rows: Arc<Vec<Item>>) {
        self.arms.entry(arm.into()).or_default().entry(seed).or_default().insert(stage.into(), rows);
    }

    pub fn rows(&self, arm: &str, stage: &str, seed: u64) -> Option<&[Item]> {
        self.arms.get(arm)?.get(&seed)?.get(stage).map(|rows| rows.as_slice())
    }

    /// Arms in order of their names.
    pub fn arms(&self) -> impl Iterator<Item = &str> {
        self.arms.keys().map(String::as_str)
    }

    /// The stages of an arm that have rows for some seed, in order of their names.
    pub fn stages(&self, arm: &str) -> Vec<&str> {
        let all = self.arms.get(arm).into_iter().flat_map(|seeds| seeds.values()).flat_map(|stages| stages.keys());
        let mut all: Vec<&str> = all.map(String::as_str).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The seeds of an arm, rising.
    pub fn seeds(&self, arm: &str) -> Vec<u64> {
        self.arms.get(arm).map(|seeds| seeds.keys().copied().collect()).unwrap_or_default()
    }
}
