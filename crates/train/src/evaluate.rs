//! Loss over a set of examples, and a task's accuracy where it is asked for.

use postgrad_base::event::Event;
use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_nn::decoder::{Decoder, Pass, Walk};
use postgrad_tensor::no_grad;
use postgrad_tensor::ops::{self, CeOptions};

use crate::corrupt::{Spot, replaced};
use crate::sft::{adapter_scales, cut};

/// Solves a set's problems: one verdict a problem.
pub type Judge<'a> = &'a dyn Fn(&Decoder) -> Result<Vec<bool>>;

/// A set to evaluate on.
pub struct EvalSet<'a> {
    pub name: String,
    pub examples: Vec<Example>,
    pub accuracy: Option<Judge<'a>>,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Negative log-likelihood a trained token, nats, with its standard error over examples.
    pub loss: Option<(f64, f64)>,
    pub tokens: usize,
    /// Right and all problems.
    pub correct: Option<(usize, usize)>,
}

impl Metrics {
    pub fn accuracy(&self) -> Option<f64> {
        self.correct.filter(|(_, n)| *n > 0).map(|(k, n)| k as f64 / n as f64)
    }

    /// One line for a terminal.
    pub fn line(&self) -> String {
        let loss = self.loss.map(|(l, se)| format!("loss {l:.4} ± {:.4} ({} tokens)", 1.96 * se, self.tokens));
        let accuracy = self.correct.map(|(k, n)| format!("accuracy {k}/{n}"));
        [loss, accuracy].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    pub fn event(&self, set: &str, step: u64) -> Event {
        let mut event = Event::new("eval", step).with("set", set);
        if let Some((loss, se)) = self.loss {
            event = event.with("loss", loss);
            if se.is_finite() {
                event = event.with("loss_low", loss - 1.96 * se).with("loss_high", loss + 1.96 * se);
            }
        }
        if let (Some(accuracy), Some((_, n))) = (self.accuracy(), self.correct) {
            event = event.with("accuracy", accuracy).with("n", n);
        }
        event
    }

    /// The metric called `SET.loss` or `SET.accuracy`, if it is of this set, and whether higher is better.
    pub fn named(&self, set: &str, metric: &str) -> Option<(f64, bool)> {
        match metric.strip_prefix(set)? {
            ".loss" => self.loss.map(|(l, _)| (l, false)),
            ".accuracy" => self.accuracy().map(|a| (a, true)),
            _ => None,
        }
    }
}

/// Negative log-likelihoods of one example: the sum over trained tokens, weighted, and the weights' sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExampleLoss {
    pub sum: f64,
    pub tokens: usize,
}

/// Losses of examples in order, without gradients. Tokens of weight 0 do not count, others count as 1.
pub fn losses(decoder: &Decoder, examples: &[Example], micro_tokens: usize) -> Result<Vec<ExampleLoss>> {
    let of = |nll: Vec<f32>| ExampleLoss { sum: nll.iter().fold(0.0, |sum, x| sum + *x as f64), tokens: nll.len() };
    Ok(token_losses(decoder, examples, &[], micro_tokens)?.into_iter().map(of).collect())
}

/// Negative log-likelihoods of each example's tokens of non-zero weight, without gradients. Where `spots` are given (one list
/// an example), other tokens stand in those places of the input; targets are the example's own.
pub fn token_losses(
    decoder: &Decoder,
    examples: &[Example],
    spots: &[Vec<Spot>],
    micro_tokens: usize,
) -> Result<Vec<Vec<f32>>> {
    let mut out: Vec<Vec<f32>> = Vec::with_capacity(examples.len());
    for group in cut(examples, micro_tokens) {
        for e in &group {
            check_vocabulary(e, decoder.config.vocab_size)?;
        }
        let first = out.len();
        let batch = replaced(&group, spots.get(first..first + group.len()).unwrap_or_default(), false)?;
        let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
        pass.row_scales = adapter_scales(decoder, &group, &batch);
        let nll = no_grad(|| {
            let hidden = decoder.hidden(&batch.tokens, &Walk::Tape(&pass));
            let ones: Vec<f32> = batch.weights.iter().map(|w| if *w == 0.0 { 0.0 } else { 1.0 }).collect();
            ops::cross_entropy(&hidden, &decoder.head(), &batch.targets, &ones, 1.0, CeOptions::default()).nll
        });
        out.resize(first + group.len(), vec![]);
        for ((nll, w), of) in nll.iter().zip(&batch.weights).zip(&batch.example_of) {
            if *w != 0.0 && *of != u32::MAX {
                out[first + *of as usize].push(*nll);
            }
        }
    }
    Ok(out)
}

/// Mean loss a token with its standard error: examples are the independent draws, the mean is a ratio of sums.
pub fn mean_loss(losses: &[ExampleLoss]) -> Option<(f64, f64)> {
    let tokens: usize = losses.iter().map(|l| l.tokens).sum();
    if tokens == 0 {
        return None;
    }
    let mean = losses.iter().map(|l| l.sum).sum::<f64>() / tokens as f64;
    let n = losses.len() as f64;
    let spread: f64 = losses.iter().map(|l| (l.sum - mean * l.tokens as f64).powi(2)).sum();
    let se = if n > 1.0 { (spread * n / (n - 1.0)).sqrt() / tokens as f64 } else { f64::NAN };
    Some((mean, se))
}

pub fn run(decoder: &Decoder, set: &EvalSet, micro_tokens: usize) -> Result<Metrics> {
    let losses = losses(decoder, &set.examples, micro_tokens)?;
    let correct = set.accuracy.map(|f| f(decoder)).transpose()?;
    Ok(Metrics {
        loss: mean_loss(&losses),
        tokens: losses.iter().map(|l| l.tokens).sum(),
        correct: correct.map(|c| (c.iter().filter(|ok| **ok).count(), c.len())),
    })
}

/// Refuses ids that the model has no row for.
pub fn check_vocabulary(example: &Example, vocab: usize) -> Result<()> {
    match example.tokens.iter().find(|t| **t as usize >= vocab) {
        None => Ok(()),
        Some(t) => Err(Error::usage(format!("token {t} is outside the model's vocabulary of {vocab}"))
            .help("the tokenizer does not belong to this model")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_tokens_and_its_error_over_examples() {
        let loss = |sum, tokens| ExampleLoss { sum, tokens };
        assert_eq!(mean_loss(&[]), None);
        let (mean, se) = mean_loss(&[loss(2.0, 2), loss(4.0, 2)]).unwrap();
        assert_eq!(mean, 1.5);
        assert!((se - (2.0f64 * 2.0 / 1.0).sqrt() / 4.0).abs() < 1e-12);
    }

    #[test]
    fn metrics_by_name() {
        let m = Metrics { loss: Some((1.0, 0.1)), tokens: 3, correct: Some((1, 4)) };
        assert_eq!(m.named("dev", "dev.loss"), Some((1.0, false)));
        assert_eq!(m.named("dev", "dev.accuracy"), Some((0.25, true)));
        assert_eq!(m.named("dev", "other.loss"), None);
    }
}
