//! Supervised updates between the iterations of an on-policy run.
//!
//! After every so many iterations one update lowers the mean negative log-likelihood of the trained tokens of a batch of
//! examples, with the run's own optimiser and learning rate; examples come in shuffled passes. It is a step like any other: it
//! counts in the run's steps, and its event has `sft_loss` in place of `loss`.

use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Batch, Example};
use postgrad_nn::decoder::Pass;
use serde_json::{Value, json};

use super::curriculum::passes;
use super::trainer::{Held, OnPolicy, State};
use crate::evaluate::check_vocabulary;
use crate::sft::{adapter_scales, cut, flat, forward_backward};

/// Examples to learn from between iterations.
#[derive(Clone, Copy, Debug)]
pub struct Supervised<'a> {
    pub examples: &'a [Example],
    /// Iterations between two updates.
    pub every: u64,
    /// Examples an update.
    pub batch: usize,
}

impl Supervised<'_> {
    /// The stream that orders the passes over the examples.
    pub fn order(seed: u64) -> Stream {
        Stream::new(seed, &["data", "supervised"])
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.every == 0 || self.batch == 0 {
            return Err(Error::usage("supervised updates come every 1 or more iterations, on 1 or more examples"));
        }
        if self.examples.iter().all(|e| e.trained() == 0) {
            return Err(Error::usage("the supervised updates have no example with a trained token"));
        }
        Ok(())
    }

    /// What decides the weights.
    pub(super) fn settings(&self) -> Value {
        json!({"every": self.every, "batch": self.batch, "examples": self.examples.len()})
    }
}

impl OnPolicy<'_> {
    /// The supervised update after this iteration, where one is due.
    pub(super) fn supervise(&mut self, state: &mut State, held: &mut Held) -> Result<()> {
        let Some(s) = self.extras.supervised.filter(|s| state.iteration.is_multiple_of(s.every)) else { return Ok(()) };
        let orders = Supervised::order(self.settings.seed);
        let chosen = passes(&orders, s.examples.len(), state.supervised, s.batch);
        state.supervised += s.batch as u64;
        let examples: Vec<Example> = chosen.into_iter().map(|i| s.examples[i].clone()).collect();
        let decoder = &self.model.decoder;
        for e in &examples {
            check_vocabulary(e, decoder.config.vocab_size)?;
        }
        let micros = cut(&examples, self.settings.micro_tokens);
        let batches = micros.iter().map(|m| flat(m)).collect::<Result<Vec<_>>>()?;
        let trained: f64 = batches.iter().map(|b| b.trained() as f64).sum();
        if trained == 0.0 {
            return Err(Error::work("no token of a supervised update is trained"));
        }
        let mut loss = 0.0;
        for (micro, batch) in micros.iter().zip(&batches) {
            let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
            pass.checkpoint = self.settings.checkpointing;
            pass.row_scales = adapter_scales(decoder, micro, batch);
            loss += forward_backward(decoder, batch, &pass, trained);
        }
        let read: usize = batches.iter().map(|b: &Batch| b.tokens_real).sum();
        state.tokens += read as u64;
        let (event, lr) = self.optimize("sft_loss", loss, state, held)?;
        self.sink.emit(&event.with("tokens", state.tokens))?;
        held.progress.set(state.step, &format!("supervised loss {loss:.4}  lr {lr:.1e}"));
        Ok(())
    }
}
