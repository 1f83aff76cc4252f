//! Text in, training examples out: records, tokenizers, chat templates, readers and writers, collators, mixtures.
//!
//! The walk: files ([`reader`]) give rows, rows become records ([`record`]), a model's template and tokenizer render them
//! into tokens with a loss weight each ([`render`]), a collator pads or packs those into batches ([`collate`]).
//! [`dataset`] joins the walk up and can be saved and gone on with; [`mixture`] draws from several sources.
//! Nothing here knows a model's insides or a task.

pub mod collate;
pub mod convert;
pub mod dataset;
pub mod example;
pub mod mixture;
mod order;
mod python;
pub mod reader;
pub mod record;
pub mod render;
pub mod select;
pub mod show;
pub mod stats;
pub mod template;
pub mod tokenizer;

pub use collate::{Batch, BatchSpec, Batches, Layout as BatchLayout};
pub use dataset::{DataSpec, Dataset, DatasetState, OnBadRow, OverLong, Records, Report};
pub use example::Example;
pub use mixture::SourceSpec;
pub use record::{Body, Columns, Kind, Message, Place, Record, Roles};
pub use render::{PromptOptions, Renderer};
pub use template::{ChatTemplate, TemplateOptions, TextTemplate};
pub use tokenizer::{SpecialRoles, TextStream, Tokenizer, train_bpe};
