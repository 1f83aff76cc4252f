//! The operations, one file each.

mod linear;

pub use linear::{linear, linear_add, linear_cat};
