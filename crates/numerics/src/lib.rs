//! Plain f64 statistics and linear algebra for measurements of models.
//!
//! An [`Estimate`] is a value with its interval and the number of independent units behind it. Functions that make one:
//! - [`wilson`]: a proportion (accuracy over items)
//! - [`mean_t`]: a mean (loss over items, a figure over seeds)
//! - [`paired_t`], [`paired_bootstrap`]: after minus before on the same items
//! - [`pass_at_k`], [`pass_at_k_over`], [`majority_accuracy`]: several samples a problem
//!
//! [`Svd`] is the thin singular value decomposition of a matrix, [`minhash`] the likeness of sets from sketches.
//!
//! ```
//! let e = postgrad_numerics::wilson(81, 263, 0.95);
//! assert_eq!(e.to_string(), "0.308 [0.255, 0.366], n 263");
//! ```
//!
//! Figures of two columns, optionally weighted: [`spearman`], [`auc`], [`average_precision`], [`ece`], [`pearson`], [`slope`].
//!
//! Left out until its first user comes: multiple regression, clustering, retrieval, Gaussian processes.

mod calibration;
mod describe;
mod dist;
mod interval;
pub mod minhash;
mod paired;
mod rank;
mod regression;
mod samples;
mod significance;
mod svd;

pub use calibration::ece;
pub use describe::{mean, median, percentile, percentiles, std_dev};
pub use dist::{beta_inc, noncentral_t_above, normal_cdf, normal_quantile, t_cdf, t_quantile};
pub use interval::{Estimate, LEVEL, mean_t, wilson};
pub use paired::{bootstrap, paired_bootstrap, paired_t};
pub use rank::{auc, average_precision, ranks, spearman, weighted_median};
pub use regression::{pearson, slope};
pub use samples::{majority, majority_accuracy, pass_at_k, pass_at_k_over};
pub use significance::{holm, sign_test, t_test_p};
pub use svd::Svd;
