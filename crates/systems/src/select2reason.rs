//! Select2Reason: which of many long traces to learn from (arXiv 2505.17266).
//!
//! Every question gets a difficulty d in 0..1, every trace a length; the ranks of both are added up with a weight and the
//! highest are learned from. The stages here measure; `select` of the laboratory chooses, `sft` learns.
//! - [`difficulty`]: d, asked of an instruct model in one token, or 1 - the pass rate of a small model
//! - [`trace_length`]: lengths, repeated n-grams, words of second thoughts and a report by length
//! - [`pool`]: made-up pool of sums with carry steps, wrong steps taken back, and filler that makes length lie
//!
//! Left out: the difficulty-aware reward model of the third version (a regression head trained on the rollout targets that
//! [`difficulty`] computes).

pub mod difficulty;
pub mod pool;
pub mod trace_length;

use postgrad_lab::stage::Kind;

/// The kinds of this system.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<pool::Pool>(), Kind::of::<trace_length::TraceLength>(), Kind::of::<difficulty::Difficulty>()]
}
