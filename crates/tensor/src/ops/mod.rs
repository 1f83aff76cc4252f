//! The operations, one file each.

mod attention;
mod embedding;
mod glu;
mod head;
mod linear;
mod reduce;
mod shape;
mod softmax;
mod strided;
mod unary;
mod binary;
mod norm;
mod rope;

pub use attention::{AttnSpec, attention};
pub use embedding::embedding;
pub use glu::{Gate, activate, glu};
pub use head::{CeOptions, CeOut, cross_entropy, head_chunks, log_probs, logits};
pub use linear::{linear, linear_add, linear_cat};
pub use shape::{concat, stack};
pub use norm::{head_norm, layer_norm, rms_norm};
pub use rope::{RopeTable, rope};
