//! Short measurements of our own work on this machine, for plans.

use std::time::Instant;

use postgrad_base::Result;
use postgrad_data::{Batch, Example};
use postgrad_nn::Decoder;
use postgrad_nn::decoder::{Pass, Walk};
use postgrad_tensor::backward;
use postgrad_tensor::ops::{self, CeOptions};

/// Seconds of an update on `tokens` tokens: forward and backward, the faster of two on `examples` as one row, and the optimiser.
pub fn update_seconds(decoder: &Decoder, examples: &[Example], checkpointing: bool, tokens: f64) -> Result<f64> {
    let timed: usize = examples.iter().map(Example::len).sum();
    let batch = Batch::from_rows(&[examples.iter().collect()], timed, 0)?;
    let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
    pass.checkpoint = checkpointing;
    let mut fastest = f64::INFINITY;
    for _ in 0..2 {
        let started = Instant::now();
        let hidden = decoder.hidden(&batch.tokens, &Walk::Tape(&pass));
        let head = decoder.head();
        let n = batch.trained().max(1) as f32;
        let ce = ops::cross_entropy(&hidden, &head, &batch.targets, &batch.weights, n, CeOptions::default());
        drop(hidden);
        backward(&ce.loss);
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    // The optimiser reads and writes five arrays the size of the trained weights; 10 GB/s is a careful guess.
    let trained: usize = decoder.params().iter().map(|p| p.len()).sum();
    Ok(fastest * tokens / timed.max(1) as f64 + trained as f64 * 20.0 / 10e9)
}

/// `45 s`, `12 min`, `3.4 h`.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
