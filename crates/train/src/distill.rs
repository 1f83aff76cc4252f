//! Distillation: a student's next-token distributions drawn to a teacher's, over the whole vocabulary.
//!
//! With teacher p and student q at a row: forward KL is KL(p|q), reverse KL is KL(q|p), and the generalised Jensen-Shannon
//! divergence with share b is `b KL(p|m) + (1 - b) KL(q|m)` with `m = b p + (1 - b) q` (Agarwal 2024, GKD). Full logits are never
//! held: rows go chunk by chunk. Teacher and student share a vocabulary; the teacher gets no gradient.

use postgrad_base::event::{Event, Sink};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_nn::decoder::{Decoder, Pass, Walk};
use postgrad_nn::optim::Optimizer;
use postgrad_tensor::{Tensor, backward, no_grad, ops};
use serde::{Deserialize, Serialize};

use crate::keep;
use crate::settings::Settings;
use crate::sft::{cut, flat};
use crate::source::ExampleSource;

/// Which divergence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    Forward,
    Reverse,
    /// The share of the teacher in the mixture, between 0 and 1 (both excluded).
    Jsd(f64),
}

/// The divergence at each row: hidden states `[rows, d]` and output matrices `[v, d]` of both; widths may differ.
pub fn divergence(
    student: (&Tensor, &Tensor),
    teacher: (&Tensor, &Tensor),
    kind: Divergence,
    temperature: f32,
) -> Tensor {
    let (hidden, head) = (teacher.0.detach(), teacher.1.detach());
    assert_eq!(student.1.dim(0), head.dim(0), "student and teacher have different vocabularies");
    let inverse = 1.0 / temperature;
    let terms = [(student.0.clone(), student.1.clone(), inverse)];
    let out = ops::head_chunks(&terms, move |logits, rows| {
        let p = no_grad(|| {
            ops::linear(&hidden.narrow(0, rows.start, rows.len()), &head, None).mul_scalar(inverse).log_softmax(1)
        });
        let q = logits.log_softmax(1);
        let kl = |of: &Tensor, to: &Tensor| (of.exp() * (of - to)).sum_keep(1);
        match kind {
            Divergence::Forward => kl(&p, &q),
            Divergence::Reverse => kl(&q, &p),
            Divergence::Jsd(b) => {
                let (b, c) = (b as f32, 1.0 - b as f32);
                let m = (p.exp().mul_scalar(b) + q.exp().mul_scalar(c)).log();
                kl(&p, &m).mul_scalar(b) + kl(&q, &m).mul_scalar(c)
            }
        }
    });
    let n = out.dim(0);
    out.reshape(&[n])
}

/// Trains a student on a teacher's distributions along given sequences, in place; the sequences' trained tokens count.
pub struct Distill<'a> {
    pub student: &'a Decoder,
    pub teacher: &'a Decoder,
    pub settings: &'a Settings,
    pub divergence: Divergence,
    pub temperature: f32,
    pub source: &'a mut dyn ExampleSource,
    pub sink: &'a mut dyn Sink,
    pub progress: Mode,
}

impl Distill<'_> {
    /// Runs `settings.steps` updates; the mean divergence a token of the last one. It keeps no checkpoints.
    pub fn run(self) -> Result<f64> {
        self.settings.check()?;
        let (s, t) = (self.student.config.vocab_size, self.teacher.config.vocab_size);
        if s != t {
            return Err(Error::usage(format!("the student's vocabulary has {s} tokens, the teacher's {t}"))
                .help("distillation of distributions needs one tokenizer"));
        }
        if matches!(self.divergence, Divergence::Jsd(b) if !(b > 0.0 && b < 1.0)) {
            return Err(
                Error::usage("the teacher's share must be above 0 and below 1").help("its ends are the two KLs")
            );
        }
        let steps = self.settings.steps.ok_or_else(|| Error::usage("distillation needs a number of steps"))?;
        let mut optimizer = Optimizer::new(self.student.params(), keep::groups(self.settings))?;
        let schedule = self.settings.schedule(steps);
        let mut progress = Progress::new(self.progress, "distil", steps);
        self.source.start(0)?;
        let (mut epoch, mut loss) = (0, f64::NAN);
        for step in 0..steps {
            let mut examples: Vec<Example> = Vec::with_capacity(self.settings.batch);
            let mut empty = false;
            while examples.len() < self.settings.batch {
                match self.source.next_example()? {
                    Some(e) => {
                        examples.push(e);
                        empty = false;
                    }
                    None if empty => return Err(Error::usage("there is nothing to train on")),
                    None => {
                        epoch += 1;
                        self.source.start(epoch)?;
                        empty = true;
                    }
                }
            }
            let tokens: usize = examples.iter().map(Example::trained).sum();
            loss = 0.0;
            for part in cut(&examples, self.settings.micro_tokens) {
                let sum = self.along(&part)?.mul_scalar(1.0 / tokens.max(1) as f32);
                loss += f64::from(sum.item());
                if sum.needs_grad() {
                    backward(&sum);
                }
            }
            if !loss.is_finite() || !optimizer.grad_norm().is_finite() {
                return Err(keep::not_finite(self.student, &optimizer, None, step, "the loss or a gradient"));
            }
            let lr = self.settings.lr * schedule.factor(step);
            let stats = optimizer.step(lr, self.settings.clip);
            let event =
                Event::new("step", step + 1).with("loss", loss).with("lr", lr).with("grad_norm", stats.grad_norm);
            self.sink.emit(&event)?;
            progress.set(step + 1, &format!("divergence {loss:.4}"));
        }
        progress.finish();
        Ok(loss)
    }

    /// The summed divergence over the trained tokens of some sequences.
    fn along(&self, examples: &[&Example]) -> Result<Tensor> {
        let batch = flat(examples)?;
        let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
        pass.checkpoint = self.settings.checkpointing;
        let counted: Vec<u32> = (0..batch.len as u32).filter(|i| batch.weights[*i as usize] != 0.0).collect();
        let hidden = |d: &Decoder| d.hidden(&batch.tokens, &Walk::Tape(&pass)).index_select(0, &counted);
        let taught = no_grad(|| hidden(self.teacher));
        let own = hidden(self.student);
        let rows = divergence(
            (&own, &self.student.head()),
            (&taught, &self.teacher.head()),
            self.divergence,
            self.temperature,
        );
        let weights: Vec<f32> = counted.iter().map(|i| batch.weights[*i as usize]).collect();
        Ok((rows * Tensor::from_slice(&weights, &[weights.len()])).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_base::Stream;
    use postgrad_tensor::gradients;

    fn random(seed: u64, dims: &[usize]) -> Vec<f64> {
        let mut s = Stream::new(seed, &["test"]);
        (0..dims.iter().product()).map(|_| f64::from(s.normal() as f32)).collect()
    }

    fn plain(kind: Divergence, t: f64, h: &[f64], w: &[f64], th: &[f64], tw: &[f64]) -> Vec<f64> {
        let soft = |h: &[f64], w: &[f64], d: usize| -> Vec<f64> {
            let z: Vec<f64> = w.chunks(d).map(|w| w.iter().zip(h).map(|(a, b)| a * b).sum::<f64>() / t).collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            z.iter().map(|z| z.exp() / sum).collect()
        };
        let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        h.chunks(3)
            .zip(th.chunks(2))
            .map(|(h, th)| {
                let (q, p) = (soft(h, w, 3), soft(th, tw, 2));
                match kind {
                    Divergence::Forward => kl(&p, &q),
                    Divergence::Reverse => kl(&q, &p),
                    Divergence::Jsd(b) => {
                        let m: Vec<f64> = p.iter().zip(&q).map(|(p, q)| b * p + (1.0 - b) * q).collect();
                        b * kl(&p, &m) + (1.0 - b) * kl(&q, &m)
                    }
                }
            })
            .collect()
    }

    #[test]
    fn values_and_gradients_are_those_of_the_formulas() {
        let (h, w) = (random(1, &[4, 3]), random(2, &[5, 3]));
        let (th, tw) = (random(3, &[4, 2]), random(4, &[5, 2]));
        let tensor = |x: &[f64], dims: &[usize]| Tensor::new(x.iter().map(|x| *x as f32).collect(), dims);
        for kind in [Divergence::Forward, Divergence::Reverse, Divergence::Jsd(0.3), Divergence::Jsd(0.9)] {
            for t in [1.0, 2.0] {
                let (hx, wx) = (tensor(&h, &[4, 3]).input(), tensor(&w, &[5, 3]).input());
                let taught = (tensor(&th, &[4, 2]), tensor(&tw, &[5, 2]));
                let rows = divergence((&hx, &wx), (&taught.0, &taught.1), kind, t as f32);
                let want = plain(kind, t, &h, &w, &th, &tw);
                assert!(rows.data().iter().zip(&want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{kind:?}");
                let grads = gradients(&rows.sum(), &[&hx, &wx]);
                for (x, grad, of_h) in [(&h, &grads[0], true), (&w, &grads[1], false)] {
                    for i in 0..x.len() {
                        let at = |step: f64| {
                            let mut x = x.clone();
                            x[i] += step;
                            let (h, w) = if of_h { (&x, &w) } else { (&h, &x) };
                            plain(kind, t, h, w, &th, &tw).iter().sum::<f64>()
                        };
                        let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                        let got = f64::from(grad.as_ref().unwrap().data()[i]);
                        assert!((got - slope).abs() < 1e-4 * (1.0 + slope.abs()), "{kind:?} {i}: {got} {slope}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_model_is_at_distance_zero_and_small_shares_are_the_kls() {
        let (h, w) = (random(1, &[4, 3]), random(2, &[5, 3]));
        let tensor = |x: &[f64], dims: &[usize]| Tensor::new(x.iter().map(|x| *x as f32).collect(), dims);
        let (h, w) = (tensor(&h, &[4, 3]), tensor(&w, &[5, 3]));
        for kind in [Divergence::Forward, Divergence::Reverse, Divergence::Jsd(0.5)] {
            assert!(divergence((&h, &w), (&h, &w), kind, 1.0).data().iter().all(|x| x.abs() < 1e-6));
        }
        let other = tensor(&random(7, &[5, 3]), &[5, 3]);
        let of = |kind| divergence((&h, &w), (&h, &other), kind, 1.0).data().to_vec();
        let near = |a: &[f32], b: &[f32], by: f32| a.iter().zip(b).all(|(a, b)| (a / by - b).abs() < 0.1 * (1.0 + b));
        assert!(near(&of(Divergence::Jsd(0.001)), &of(Divergence::Forward), 0.001));
        assert!(near(&of(Divergence::Jsd(0.999)), &of(Divergence::Reverse), 0.001));
    }
}
