//! A model measured on a data set: one row an item, and metrics with intervals made of the rows.
//!
//! [`items`] reads what is asked, [`prompt`] puts it into tokens, [`answers`], [`choice`] and [`perplexity`] measure, each with
//! rows and a [`Summary`].
//!
//! Left out on purpose: comparisons of two models (they are made from two lists of rows), judges that are models.

pub mod answers;
pub mod choice;
pub mod items;
pub mod perplexity;
pub mod prompt;
pub mod summary;

pub use answers::{Judge, Response, Row};
pub use items::{Choices, Item};
pub use prompt::{Asker, Prompt, Shots};
pub use summary::{Metric, Summary};

#[cfg(test)]
mod tests_support {
    use std::path::Path;

    use postgrad_data::{Body, Record};
    use postgrad_reason::ModelFolder;

    use crate::items::Item;

    pub fn model() -> ModelFolder {
        ModelFolder::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")).unwrap()
    }

    /// `What is 3+1?` with `It is = 4.` and the like.
    pub fn pairs(n: usize) -> Vec<Item> {
        let pair = |i: usize| {
            let (prompt, completion) = (format!("What is {i}+1?"), format!("It is = {}.", i + 1));
            let mut item = Item::of_record(Record::from_body(Body::PromptCompletion { prompt, completion }));
            item.id = format!("rows.jsonl:{}", i + 1);
            item
        };
        (0..n).map(pair).collect()
    }

    /// Log-prob of each token after the first, from full logits read token by token.
    pub fn log_probs(model: &ModelFolder, tokens: &[u32]) -> Vec<f64> {
        use postgrad_nn::sample::Source;
        let mut state = model.decoder.start();
        let mut out = Vec::new();
        for pair in tokens.windows(2) {
            let logits = model.decoder.next(&mut [&mut state], &[&pair[..1]]).unwrap();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
            let sum: f64 = logits.iter().map(|z| (*z as f64 - max).exp()).sum();
            out.push(logits[pair[1] as usize] as f64 - max - sum.ln());
        }
        out
    }
}
