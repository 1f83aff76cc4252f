//! Puzzles told in words: languages of brackets, order of words, who lies, what changes hands, where one stands.
//!
//! After SynLogic's language and state tasks (arXiv 2505.19641), with families after other papers named in their files.

mod arc_1d;
mod boolean_expressions;
mod buggy_tables;
mod cipher;
mod dyck;
mod dyck_errors;
mod dyck_reasoning;
pub mod fragments;
mod goods_exchange;
pub mod knights;
#[cfg(test)]
mod laws;
mod lexicon;
pub mod nlsat;
mod object_counting;
mod object_properties;
mod space_reasoning;
mod space_tree;
mod time_sequence;
mod web_of_lies;
mod word_sort;
mod word_sort_mistake;
mod worked;

use std::collections::BTreeMap;

use postgrad_base::{Result, Stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Of, Puzzle};
use crate::task::{Difficulty, Knob, Task};
use worked::{Solution, Worked};

pub use arc_1d::Arc1d;
pub use boolean_expressions::BooleanExpressions;
pub use buggy_tables::BuggyTables;
pub use cipher::CipherTask;
pub use dyck::Dyck;
pub use dyck_errors::DyckErrors;
pub use dyck_reasoning::DyckReasoning;
pub use fragments::SemanticFragments;
pub use goods_exchange::GoodsExchange;
pub use knights::Knights;
pub use nlsat::Nlsat;
pub use object_counting::ObjectCounting;
pub use object_properties::ObjectProperties;
pub use space_reasoning::SpaceReasoning;
pub use space_tree::SpaceTree;
pub use time_sequence::TimeSequence;
pub use web_of_lies::WebOfLies;
pub use word_sort::WordSort;
pub use word_sort_mistake::WordSortMistake;

/// All of them, in the order of listings.
pub fn all() -> Vec<Box<dyn Task>> {
    vec![
        Box::new(Of(Dyck)),
        Box::new(Of(DyckErrors)),
        Box::new(Of(DyckReasoning)),
        Box::new(Of(WebOfLies)),
        Box::new(Of(WordSort)),
        Box::new(Of(WordSortMistake)),
        Box::new(Of(GoodsExchange)),
        Box::new(Of(ObjectCounting)),
        Box::new(Of(ObjectProperties)),
        Box::new(Of(BooleanExpressions)),
        Box::new(Of(TimeSequence)),
        Box::new(Of(SpaceReasoning)),
        Box::new(Of(SpaceTree)),
        Box::new(Of(BuggyTables)),
        Box::new(Of(CipherTask)),
        Box::new(Of(Arc1d)),
        Box::new(Of(Knights)),
        Box::new(Of(Nlsat)),
        Box::new(Of(SemanticFragments)),
    ]
}
