//! The operations, one file each.

mod attention;
mod embedding;
mod glu;
mod linear;
mod norm;
mod rope;

pub use attention::{AttnSpec, attention};
pub use embedding::embedding;
pub use glu::{Gate, activate, glu};
pub use linear::{linear, linear_add, linear_cat};
pub use norm::{head_norm, layer_norm, rms_norm};
pub use rope::{RopeTable, rope};
