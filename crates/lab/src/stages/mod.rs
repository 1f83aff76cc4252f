//! The general kinds of stages. Kinds that one published system alone needs live in `postgrad-systems`.

mod choice;
mod draw;
mod eval;
mod sft;

pub use choice::Choice;
pub use draw::Draw;
pub use eval::{Eval, answered, row};
pub(crate) use sft::make_trainable;
pub use sft::{Inputs, Sft};

use crate::stage::Kind;

/// All general kinds.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Draw>(), Kind::of::<Sft>(), Kind::of::<Eval>(), Kind::of::<Choice>()]
}
