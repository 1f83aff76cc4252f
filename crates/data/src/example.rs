//! What a trainer learns from: tokens, and how much each counts.

use serde::{Deserialize, Serialize};

use crate::record::Place;

/// A tokenised sequence with its loss weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub tokens: Vec<u32>,
    /// `weights[i]` is the loss weight of predicting `tokens[i]` from what stands before it; it may be negative.
    /// `weights[0]` is 0: nothing stands before the first token.
    pub weights: Vec<f32>,
    /// The whole example's weight.
    pub weight: f32,
    pub place: Place,
    /// Examples of one record (or of one pair) share it.
    pub group: u64,
    /// Factor on the trained adapter for this example, forward and backward (column `adapter_scale`); none is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_scale: Option<f32>,
}

impl Example {
    /// An example that predicts every token after the first.
    pub fn new(tokens: Vec<u32>) -> Self {
        let mut weights = vec![1.0; tokens.len()];
        if let Some(first) = weights.first_mut() {
            *first = 0.0;
        }
        Self { tokens, weights, weight: 1.0, ..Self::default() }
    }

    /// Tokens that count in the loss.
    pub fn trained(&self) -> usize {
        self.weights.iter().filter(|w| **w != 0.0).count()
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Keeps the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.weights.truncate(len);
    }
}
