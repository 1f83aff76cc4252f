//! Published systems: one file for each that needs code of its own, registered by name.
//!
//! A system is a recipe in `recipes/<slug>/`; what its stages need beyond the general kinds of `postgrad_lab::stages` stands
//! here. A part that two systems need lives on a lower floor.

pub mod cot_valve;
pub mod masked_thought;
pub mod recipes;
pub mod skill_graft;

use postgrad_lab::stage::Kind;

/// All kinds of stages: the general ones and the systems' own.
pub fn kinds() -> Vec<Kind> {
    let mut all = postgrad_lab::stages::kinds();
    all.extend(cot_valve::kinds());
    all.extend(masked_thought::kinds());
    all.extend(skill_graft::kinds());
    all
}
