//! Models made of others: the line through two checkpoints, and task vectors (Ilharco et al. 2023) added to a third.
//!
//! Only checkpoints of one architecture have a line between them: the same tensors in the same shapes, and the head tied to
//! the embedding in all or in none. Whether they share a tokenizer is for those to check who know it.

use postgrad_base::{Error, Result};
use postgrad_tensor::Tensor;

use crate::decoder::Decoder;
use crate::weights::{Weight, Weights};

/// Refuses models that have no line between them.
pub fn check(a: &Decoder, b: &Decoder) -> Result<()> {
    let tied = |d: &Decoder| d.config.tie_word_embeddings;
    if tied(a) != tied(b) {
        return Err(Error::usage("one model ties its head to its embedding and the other does not")
            .help("save both with a head of their own, or both without"));
    }
    let names = |w: &Weights| w.iter().map(|(_, n, w)| (n.to_string(), w.tensor().shape())).collect::<Vec<_>>();
    let (ours, theirs) = (names(&a.weights), names(&b.weights));
    match ours.iter().zip(&theirs).find(|(x, y)| x != y) {
        Some(((name, was), (other, is))) => {
            Err(Error::usage(format!("the models have other tensors: `{name}` {was:?} here, `{other}` {is:?} there")))
        }
        None if ours.len() != theirs.len() => Err(Error::usage("the models have other numbers of tensors")),
        None => Ok(()),
    }
}

/// `a + alpha (b - a)` for every weight, frozen: `a` itself at 0 and `b` at 1 bit for bit, between them inside, beyond them
/// outside. Adapters are not looked at.
pub fn interpolate(a: &Decoder, b: &Decoder, alpha: f32) -> Result<Weights> {
    check(a, b)?;
    let mut out = Weights::default();
    for ((_, name, x), (_, _, y)) in a.weights.iter().zip(b.weights.iter()) {
        let (x, y) = (x.tensor().detach(), y.tensor().detach());
        let value = match alpha {
            0.0 => x,
            1.0 => y,
            _ => &x + &((&y - &x) * alpha),
        };
        out.add(name, value);
    }
    Ok(out)
}

/// Adds `alpha (to - from)`, the task vector of a fine-tune, to the weights of `model`.
pub fn add_task(model: &mut Decoder, from: &Decoder, to: &Decoder, alpha: f32) -> Result<()> {
    check(model, from)?;
    check(from, to)?;
    let ids: Vec<_> = model.weights.iter().map(|(id, _, _)| id).collect();
    for (id, ((_, _, from), (_, _, to))) in ids.into_iter().zip(from.weights.iter().zip(to.weights.iter())) {
        let vector: Tensor = (to.tensor().detach() - from.tensor().detach()) * alpha;
        let sum = model.weights.get(id).tensor().detach() + vector;
        model.weights.set(id, Weight::Frozen(sum))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use postgrad_base::Stream;

    fn model(seed: u64, tied: bool) -> Decoder {
        Decoder::random(Config::llama(30, 16, 2, 2, 1, 24, 32, tied), &Stream::new(seed, &["base"])).unwrap()
    }

    fn values(w: &Weights) -> Vec<f32> {
        w.iter().flat_map(|(_, _, w)| w.tensor().data().to_vec()).collect()
    }

    #[test]
    fn both_ends_are_the_checkpoints_and_the_middle_is_between() {
        for tied in [true, false] {
            let (a, b) = (model(1, tied), model(2, tied));
            assert_eq!(values(&interpolate(&a, &b, 0.0).unwrap()), values(&a.weights));
            assert_eq!(values(&interpolate(&a, &b, 1.0).unwrap()), values(&b.weights));
            let (va, vb) = (values(&a.weights), values(&b.weights));
            for alpha in [0.25f32, 1.5] {
                for (m, (x, y)) in values(&interpolate(&a, &b, alpha).unwrap()).iter().zip(va.iter().zip(&vb)) {
                    assert!((m - (x + alpha * (y - x))).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn a_task_vector_leads_from_one_to_the_other() {
        let (a, b) = (model(1, true), model(2, true));
        let mut moved = a.clone();
        add_task(&mut moved, &a, &b, 1.0).unwrap();
        for (m, y) in values(&moved.weights).iter().zip(values(&b.weights)) {
            assert!((m - y).abs() < 1e-6);
        }
        add_task(&mut moved, &a, &b, -1.0).unwrap();
        for (m, x) in values(&moved.weights).iter().zip(values(&a.weights)) {
            assert!((m - x).abs() < 1e-6);
        }
    }

    #[test]
    fn models_without_a_line_between_them_are_refused() {
        let a = model(1, true);
        for other in [
            model(1, false),
            Decoder::random(Config::llama(30, 16, 1, 2, 1, 24, 32, true), &Stream::new(1, &["base"])).unwrap(),
            Decoder::random(Config::llama(31, 16, 2, 2, 1, 24, 32, true), &Stream::new(1, &["base"])).unwrap(),
        ] {
            assert_eq!(interpolate(&a, &other, 0.5).unwrap_err().exit_code(), 2);
        }
    }
}
