//! The general kinds of stages. Kinds that one published system alone needs live in `postgrad-systems`.

mod draw;
mod eval;
mod sft;

pub use draw::Draw;
pub use eval::{Eval, row};
pub use sft::Sft;

use crate::stage::Kind;

/// All general kinds.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Draw>(), Kind::of::<Sft>(), Kind::of::<Eval>()]
}
