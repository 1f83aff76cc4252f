//! Log-probs of whole sequences under a decoder: what preference and reinforcement objectives are made of.
//!
//! A sequence is an [`Example`]: its tokens, and a weight on the log-prob of each (0 for the prompt and whatever else does
//! not count). The head is computed for the counted rows alone. Sequences lie end to end without padding; one is never cut.

use postgrad_base::Result;
use postgrad_data::Example;
use postgrad_nn::decoder::{Decoder, Pass, Walk};
use postgrad_tensor::{Tensor, no_grad, ops};

use crate::evaluate::check_vocabulary;
use crate::sft::{cut, flat};

/// How sequences are scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// Logits are divided by it: the sampler's temperature, where log-probs are to be those of the sampler.
    pub temperature: f32,
    /// Entropies of the distributions too.
    pub entropy: bool,
    /// Compute each block again on the way back instead of keeping its activations.
    pub checkpointing: bool,
}

impl Default for Scoring {
    fn default() -> Self {
        Self { temperature: 1.0, entropy: false, checkpointing: false }
    }
}

/// Counted tokens of several sequences, end to end.
pub struct Scored {
    /// One a counted token, `[n]`; on the tape where the decoder is trained.
    pub log_probs: Tensor,
    pub entropy: Option<Tensor>,
    /// The final hidden states that predict the counted tokens, `[n, hidden]`.
    pub hidden: Tensor,
    /// The weight of each counted token in its sequence.
    pub weights: Vec<f32>,
    /// Which sequence each is of.
    pub sequence: Vec<u32>,
    pub sequences: usize,
    /// Tokens read, prompts too.
    pub tokens: usize,
}

impl Scored {
    /// Weighted sums of the log-probs of each sequence, `[sequences]`.
    pub fn sums(&self) -> Tensor {
        let weights = Tensor::from_slice(&self.weights, &[self.weights.len()]);
        (&self.log_probs * &weights).segment_sum(&self.sequence, self.sequences)
    }

    /// The sum of the weights of each sequence: its length, where all are 1.
    pub fn lengths(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.sequences];
        for (w, s) in self.weights.iter().zip(&self.sequence) {
            out[*s as usize] += w;
        }
        out
    }
}

/// Scores sequences in one pass.
pub fn score(decoder: &Decoder, examples: &[&Example], scoring: Scoring) -> Result<Scored> {
    for e in examples {
        check_vocabulary(e, decoder.config.vocab_size)?;
    }
    let batch = flat(examples)?;
    let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
    pass.checkpoint = scoring.checkpointing;
    let hidden = decoder.hidden(&batch.tokens, &Walk::Tape(&pass));
    let counted: Vec<u32> = (0..batch.len as u32).filter(|i| batch.weights[*i as usize] != 0.0).collect();
    let hidden = hidden.index_select(0, &counted);
    let at = |i: &u32| *i as usize;
    let targets: Vec<u32> = counted.iter().map(|i| batch.targets[at(i)]).collect();
    let (log_probs, entropy) = ops::log_probs(&hidden, &decoder.head(), &targets, scoring.temperature, scoring.entropy);
    Ok(Scored {
        log_probs,
        entropy,
        hidden,
        weights: counted.iter().map(|i| batch.weights[at(i)]).collect(),
        sequence: counted.iter().map(|i| batch.example_of[at(i)]).collect(),
        sequences: examples.len(),
        tokens: batch.tokens_real,
    })
}

/// The final hidden states at places of sequences, `[places of all, hidden]`, in one pass; and the tokens read.
pub fn hidden_at(
    decoder: &Decoder,
    examples: &[&Example],
    places: &[Vec<u32>],
    checkpointing: bool,
) -> Result<(Tensor, usize)> {
    for e in examples {
        check_vocabulary(e, decoder.config.vocab_size)?;
    }
    let batch = flat(examples)?;
    let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
    pass.checkpoint = checkpointing;
    let hidden = decoder.hidden(&batch.tokens, &Walk::Tape(&pass));
    let (mut rows, mut first) = (Vec::new(), 0);
    for (e, own) in examples.iter().zip(places) {
        rows.extend(own.iter().map(|p| first + p));
        first += e.len() as u32;
    }
    Ok((hidden.index_select(0, &rows), batch.tokens_real))
}

/// Log-probs of the counted tokens of each sequence, without gradients, in passes of at most `micro_tokens`.
pub fn token_log_probs(
    decoder: &Decoder,
    examples: &[Example],
    scoring: Scoring,
    micro_tokens: usize,
) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(examples.len());
    for group in cut(examples, micro_tokens) {
        let scored = no_grad(|| score(decoder, &group, scoring))?;
        let first = all.len();
        all.resize(first + group.len(), Vec::new());
        for (lp, s) in scored.log_probs.data().iter().zip(&scored.sequence) {
            all[first + *s as usize].push(*lp);
        }
    }
    Ok(all)
}

/// Weighted sums of the log-probs of each sequence, without gradients.
pub fn sums(decoder: &Decoder, examples: &[Example], micro_tokens: usize) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(examples.len());
    for group in cut(examples, micro_tokens) {
        let scored = no_grad(|| score(decoder, &group, Scoring::default()))?;
        all.extend_from_slice(no_grad(|| scored.sums()).data());
    }
    Ok(all)
}
