//! Recomputation in place of memory (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
//!
//! Forward runs the block without a tape and keeps its inputs alone; backward runs it again, recorded this time, onto the
//! tape that is being walked. The walk then goes on through the recomputed block as if it had been there from the start:
//! parameters in it fill their sinks (or are left alone, under [`crate::gradients`]), inputs get their gradients, and values,
//! gradients and the order in which they are added are bit for bit those without a checkpoint. Blocks may be nested.

use crate::tape::{no_grad_noting, with_grad};
use crate::{Tensor, is_grad};

/// `f(inputs)`, with what is inside recomputed in backward.
///
/// `f` must compute the same again: random draws come from streams that it makes anew, and parameters do not change between
/// forward and backward. Tensors that `f` captures get their gradients like the inputs.
pub fn checkpoint(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor + Send + 'static) -> Tensor {
    let (y, noted) = no_grad_noting(|| f(inputs));
    if !noted || !is_grad() {
        // Nothing to record: a constant, or one of the inputs as it is.
        return y;
    }
    let inputs = inputs.to_vec();
    Tensor::from_op_shared(y.data, y.shape, true, move |dy, grads| {
        let again = with_grad(|| f(&inputs));
        grads.put(&again.edge(), dy);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::linear;
    use crate::reference::{random, same_bits};
    use crate::{Param, backward, gradients, no_grad};
    use postgrad_base::Stream;

    /// A block with a parameter, a product of its inputs, and a mask drawn from a stream of its own.
    fn block(w: &Param) -> impl Fn(&[Tensor]) -> Tensor + Send + Clone + 'static {
        let w = w.clone();
        move |x| {
            let mask = random(&mut Stream::new(9, &["mask"]), x[0].dims()).gt(&Tensor::scalar(0.0));
            let h = linear(&x[0], &w.leaf(), None).gelu() * mask;
            (&h * &x[1]).softmax(-1) + &x[0] * 0.5 + h
        }
    }

    type Boxed = Box<dyn Fn(&[Tensor]) -> Tensor + Send>;

    fn all(mode: usize) -> Vec<Tensor> {
        let mut s = Stream::new(1, &["checkpoint"]);
        let params: Vec<Param> = (0..3).map(|i| Param::new(format!("w{i}"), random(&mut s, &[6, 6]))).collect();
        let (x, scale) = (Param::new("x", random(&mut s, &[4, 6])), Param::new("scale", random(&mut s, &[6])));
        let run =
            |blocks: Vec<_>, h: Tensor, scale: &Tensor| blocks.iter().fold(h, |h, b: &Boxed| b(&[h, scale.clone()]));
        let plain = |w: &Param| -> Boxed { Box::new(block(w)) };
        let wrapped = |w: &Param| -> Boxed {
            let b = block(w);
            Box::new(move |x| checkpoint(x, b.clone()))
        };
        let (h, sc) = (&x.leaf() * 1.5, scale.leaf().exp());
        let y = match mode {
            0 => run(params.iter().map(plain).collect(), h.clone(), &sc),
            1 => run(params.iter().map(wrapped).collect(), h.clone(), &sc),
            _ => {
                // Two of three inside another one.
                let inner: Vec<Param> = params[..2].to_vec();
                let y = checkpoint(&[h.clone(), sc.clone()], move |x| {
                    inner.iter().fold(x[0].clone(), |h, w| checkpoint(&[h, x[1].clone()], block(w)))
                });
                run(vec![wrapped(&params[2])], y, &sc)
            }
        };
        let loss = (&y * &y).sum() + (&h * 3.0).sum();
        backward(&loss);
        let grads = params.iter().chain([&x, &scale]).map(|p| p.grad().expect("a gradient"));
        [y.detach(), loss.detach()].into_iter().chain(grads).collect()
    }

    #[test]
    fn values_and_gradients_are_the_same_bits() {
        let plain = all(0);
        for mode in [1, 2] {
            for (i, (a, b)) in plain.iter().zip(&all(mode)).enumerate() {
                assert!(same_bits(a, b), "mode {mode}, tensor {i}");
            }
        }
    }

    #[test]
    fn chosen_gradients_leave_sinks_alone() {
        let mut s = Stream::new(2, &["checkpoint"]);
        let w = Param::new("w", random(&mut s, &[6, 6]));
        let (x, c) = (random(&mut s, &[4, 6]).input(), random(&mut s, &[6]).input());
        let inputs = [x.clone(), c.clone()];
        let leaf = w.leaf();
        let want = gradients(&block(&w)(&inputs), &[&x, &c, &leaf]);
        let got = gradients(&checkpoint(&inputs, block(&w)), &[&x, &c, &leaf]);
        assert!(want.iter().zip(&got).all(|(a, b)| same_bits(a.as_ref().unwrap(), b.as_ref().unwrap())));
        let only = gradients(&checkpoint(&inputs, block(&w)), &[&c]);
        assert!(same_bits(only[0].as_ref().unwrap(), want[1].as_ref().unwrap()));
        assert!(w.grad().is_none());
    }

    #[test]
    fn where_nothing_is_recorded() {
        let x = Tensor::full(1.0, &[2]);
        assert!(!checkpoint(std::slice::from_ref(&x), |x| x[0].exp()).needs_grad());
        assert!(!no_grad(|| checkpoint(&[x.input()], |x| x[0].exp())).needs_grad());
        let leaf = x.input();
        let same = checkpoint(std::slice::from_ref(&leaf), |x| x[0].clone());
        assert_eq!(gradients(&same, &[&leaf])[0].as_ref().unwrap().data(), &[1.0, 1.0]);
    }
}
