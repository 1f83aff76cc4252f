//! The general kinds of stages. Kinds that one published system alone needs live in `postgrad-systems`.

mod choice;
mod concat;
mod distill;
mod draw;
mod eval;
mod fresh;
mod groups;
mod prefer;
mod render;
mod rerank;
mod rl;
pub mod rollout;
mod score;
mod select;
mod sft;
mod tuning;

pub use choice::Choice;
pub use concat::Concat;
pub use distill::Distill;
pub use draw::Draw;
pub use eval::{Eval, answered, row};
pub use fresh::Fresh;
pub use groups::Groups;
pub use prefer::Prefer;
pub use render::Render;
pub use rerank::Rerank;
pub use rl::Rl;
pub use rollout::Rollout;
pub use score::Score;
pub use select::Select;
pub use sft::Sft;
pub use tuning::Inputs;

use crate::stage::Kind;

/// All general kinds.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<Draw>(),
        Kind::of::<Concat>(),
        Kind::of::<Fresh>(),
        Kind::of::<Select>(),
        Kind::of::<Sft>(),
        Kind::of::<Render>(),
        Kind::of::<Distill>(),
        Kind::of::<Rl>(),
        Kind::of::<Rollout>(),
        Kind::of::<Groups>(),
        Kind::of::<Prefer>(),
        Kind::of::<Score>(),
        Kind::of::<Rerank>(),
        Kind::of::<Eval>(),
        Kind::of::<Choice>(),
    ]
}
