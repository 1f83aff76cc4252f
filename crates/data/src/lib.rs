//! Text in, training examples out: records, tokenizers, chat templates, readers.
mod python;
pub mod reader;
pub mod record;
pub mod template;
pub mod tokenizer;
pub use template::{ChatTemplate, TemplateOptions};
pub use tokenizer::Tokenizer;
