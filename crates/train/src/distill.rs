//! Distillation: a student's next-token distributions drawn to a teacher's, over the whole vocabulary.
//!
//! With teacher p and student q at a row: forward KL is KL(p|q), reverse KL is KL(q|p), and the generalised Jensen-Shannon
//! divergence with share b is `b KL(p|m) + (1 - b) KL(q|m)` with `m = b p + (1 - b) q` (Agarwal 2024, GKD). Full logits are never
//! held: rows go chunk by chunk. Teacher and student share a vocabulary; the teacher gets no gradient.

use postgrad_base::cancel::Cancel;
use postgrad_base::event::Sink;
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::Example;
use postgrad_nn::decoder::{Decoder, Pass, Walk};
use postgrad_nn::logits::Rules;
use postgrad_reason::ModelFolder;
use postgrad_reason::generate::{Options, answers};
use postgrad_tensor::{Tensor, backward, no_grad, ops};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::drive::{self, Drive, Update, Work};
use crate::keep;
use crate::rl::Exam;
use crate::run_dir::RunDir;
use crate::settings::Settings;
use crate::sft::{Outcome, cut, flat};

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

/// Where sequences come from that the student draws itself (on-policy distillation).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnSamples {
    /// Share of updates made on the student's samples; the others are made on the data.
    pub share: f64,
    pub temperature: f32,
    pub max_tokens: usize,
}

/// A distillation, ready to run. The trained tokens of each sequence count alike.
pub struct Distill<'a> {
    /// What is trainable in its decoder is trained, in place.
    pub student: &'a ModelFolder,
    pub teacher: &'a Decoder,
    pub settings: &'a Settings,
    pub divergence: Divergence,
    /// Of both distributions.
    pub temperature: f32,
    /// Prompts are what precedes the first trained token of each.
    pub own: Option<OwnSamples>,
    pub examples: &'a [Example],
    /// Sequences to measure on, before the first update, along the way and after the last.
    pub held_out: &'a [Example],
    /// Asked where sequences are measured.
    pub exam: Option<Exam<'a>>,
    pub sink: &'a mut dyn Sink,
    pub cancel: Cancel,
    pub progress: Mode,
    pub dir: Option<&'a RunDir>,
}

impl Distill<'_> {
    /// Runs to the end, from the last checkpoint of the folder where there is one. The outcome's loss is the mean divergence a
    /// token, in nats.
    pub fn run(self) -> Result<Outcome> {
        self.check()?;
        let s = self.settings;
        let epochs = (self.examples.len() as f64 * s.epochs / s.batch as f64).ceil() as u64;
        let mut fingerprint = keep::deciding(s);
        fingerprint["divergence"] = json!(self.divergence);
        fingerprint["temperature"] = json!(self.temperature);
        fingerprint["own"] = json!(self.own);
        let drive = Drive {
            decoder: &self.student.decoder,
            params: self.student.decoder.params(),
            settings: s,
            fingerprint: fingerprint.to_string(),
            total: s.steps.unwrap_or(epochs).max(1),
            sink: self.sink,
            cancel: self.cancel.clone(),
            progress: self.progress,
            dir: self.dir,
        };
        drive.run(&mut Along {
            student: self.student,
            teacher: self.teacher,
            settings: s,
            divergence: self.divergence,
            temperature: self.temperature,
            own: self.own,
            examples: self.examples,
            held_out: self.held_out,
            exam: self.exam,
            cancel: self.cancel,
        })
    }

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        let (s, t) = (self.student.decoder.config.vocab_size, self.teacher.config.vocab_size);
        if s != t {
            return Err(Error::usage(format!("the student's vocabulary has {s} tokens, the teacher's {t}"))
                .help("distillation of distributions needs one tokenizer"));
        }
        if self.examples.is_empty() {
            return Err(Error::usage("there is nothing to train on: no examples"));
        }
        if matches!(self.divergence, Divergence::Jsd(b) if !(b > 0.0 && b < 1.0)) {
            return Err(
                Error::usage("the teacher's share must be above 0 and below 1").help("its ends are the two KLs")
            );
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(Error::usage("the temperature must be above 0"));
        }
        let Some(own) = self.own else { return Ok(()) };
        if !(0.0..=1.0).contains(&own.share) || own.max_tokens == 0 || own.temperature <= 0.0 {
            return Err(Error::usage(
                "the share of the student's own samples lies between 0 and 1, their temperature and length are above 0",
            ));
        }
        Ok(())
    }
}

/// The work of a distillation's updates.
struct Along<'a> {
    student: &'a ModelFolder,
    teacher: &'a Decoder,
    settings: &'a Settings,
    divergence: Divergence,
    temperature: f32,
    own: Option<OwnSamples>,
    examples: &'a [Example],
    held_out: &'a [Example],
    exam: Option<Exam<'a>>,
    cancel: Cancel,
}

impl Work for Along<'_> {
    fn update(&mut self, step: u64) -> Result<Update> {
        let chosen = drive::gather(self.settings.seed, self.examples.len(), self.settings.batch, step);
        let data: Vec<&Example> = chosen.iter().map(|i| &self.examples[*i]).collect();
        let stream = Stream::new(self.settings.seed, &["sample", "distill"]).nth(step);
        let own = self.own.filter(|own| stream.child("whose").chance(own.share));
        let drawn = own.map(|own| self.draw(&data, own, stream.child("seed").next_u64())).transpose()?;
        let examples = drawn.unwrap_or_else(|| data.into_iter().cloned().collect());
        let trained: usize = examples.iter().map(Example::trained).sum();
        let mut update = Update { tokens: examples.iter().map(|e| e.len() as u64).sum(), ..Update::default() };
        for part in cut(&examples, self.settings.micro_tokens) {
            let sum = self.along(&part)?.mul_scalar(1.0 / trained.max(1) as f32);
            update.loss += f64::from(sum.item());
            if sum.needs_grad() {
                backward(&sum);
            }
        }
        update.fields.insert("own_samples".into(), json!(own.is_some()));
        update.fields.insert("length".into(), json!(trained as f64 / examples.len() as f64));
        Ok(update)
    }

    fn evaluate(&mut self) -> Result<Option<(Map<String, Value>, String)>> {
        let tokens: usize = self.held_out.iter().map(Example::trained).sum();
        if tokens == 0 {
            return Ok(None);
        }
        let parts = cut(self.held_out, self.settings.micro_tokens);
        let sums = parts.iter().map(|part| no_grad(|| self.along(part)).map(|sum| f64::from(sum.item())));
        let loss = sums.sum::<Result<f64>>()? / tokens as f64;
        let mut fields = Map::from_iter([("loss".to_string(), json!(loss))]);
        let mut told = format!("divergence {loss:.4} nats a token");
        if let Some(exam) = self.exam {
            let marks = exam(&self.student.decoder)?;
            let (right, n) = (marks.iter().filter(|m| **m).count(), marks.len());
            told += &format!(", accuracy {right}/{n}");
            fields.insert("accuracy".into(), json!(right as f64 / n.max(1) as f64));
            fields.insert("n".into(), json!(n));
        }
        Ok(Some((fields, told)))
    }
}

impl Along<'_> {
    /// The student's samples to the prompts of some examples.
    fn draw(&self, data: &[&Example], own: OwnSamples, seed: u64) -> Result<Vec<Example>> {
        let context = self.student.decoder.config.max_position_embeddings;
        let begins = |e: &Example| e.weights.iter().position(|w| *w != 0.0).unwrap_or(e.len());
        let prompts: Vec<Vec<u32>> = data.iter().map(|e| e.tokens[..begins(e)].to_vec()).collect();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let options = Options {
            rules: Rules { temperature: own.temperature, ..Rules::default() },
            seed,
            places: 128,
            ..Options::greedy(own.max_tokens.min(context.saturating_sub(longest)).max(1))
        };
        let given = answers(self.student, &prompts, &options, &self.cancel)?;
        let made = given.into_iter().map(|a| {
            let prompt = &prompts[a.prompt];
            let mut example = Example::new([prompt, &a.completion.tokens[..]].concat());
            example.weights[..prompt.len()].fill(0.0);
            example
        });
        Ok(made.collect())
    }

    /// The summed divergence over the trained tokens of some sequences.
    fn along(&self, examples: &[&Example]) -> Result<Tensor> {
        let batch = flat(examples)?;
        let mut pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
        pass.checkpoint = self.settings.checkpointing;
        let counted: Vec<u32> = (0..batch.len as u32).filter(|i| batch.weights[*i as usize] != 0.0).collect();
        let hidden = |d: &Decoder| d.hidden(&batch.tokens, &Walk::Tape(&pass)).index_select(0, &counted);
        let student = &self.student.decoder;
        let taught = no_grad(|| hidden(self.teacher));
        let own = hidden(student);
        let (own, taught) = ((&own, &student.head()), (&taught, &self.teacher.head()));
        let rows = divergence(own, taught, self.divergence, self.temperature);
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
