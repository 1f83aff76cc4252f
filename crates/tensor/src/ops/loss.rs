//! Losses that are more than a line of other operations. Token cross-entropy over a vocabulary is [`super::cross_entropy`],
//! which never holds the logits.

use super::strided::each1;
use super::unary::softplus;
use crate::{Buf, Tensor, math, recording};

/// Binary cross-entropy of logits, element by element, stable: `softplus(x) - x t`. Targets are in [0, 1], of the same shape,
/// and get a gradient too if they want one.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor) -> Tensor {
    assert_eq!(logits.shape, targets.shape, "a target for each logit");
    let mut y = Buf::copy(&targets.data);
    each1(
        &mut y,
        &logits.data,
        #[inline(always)]
        |y, x| *y = if x > 0.0 { x * (1.0 - *y) + softplus(-x) } else { softplus(x) - x * *y },
    );
    let (xe, te) = (logits.edge(), targets.edge());
    let record = recording([&xe, &te]);
    let kept = record.then(|| (logits.data.clone(), targets.data.clone()));
    Tensor::from_op(y, logits.shape, record, move |mut dy, grads| {
        let (x, t) = kept.expect("recorded operations keep what they need");
        if grads.wants(&te) {
            let mut dt = Buf::copy(&dy);
            each1(&mut dt, &x, |d, x| *d *= -x);
            grads.put(&te, dt);
        }
        if grads.wants(&xe) {
            let mut slope = Buf::copy(&t);
            each1(
                &mut slope,
                &x,
                #[inline(always)]
                |t, x| *t = math::sigmoid(x) - *t,
            );
            each1(&mut dy, &slope, |d, s| *d *= s);
            grads.put(&xe, dy);
        }
    })
}

/// Minus the log-prob of each row's target: logits `[.., n]` and an id a row give `[..]`. For small heads; see
/// [`super::cross_entropy`] for vocabularies.
pub fn nll(logits: &Tensor, targets: &[u32]) -> Tensor {
    logits.log_softmax(-1).pick(targets).neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    #[test]
    fn losses() {
        let mut s = Stream::new(1, &["loss"]);
        for dims in [&[7][..], &[3, 11], &[0, 2]] {
            let x = [random(&mut s, dims) * 4.0, random(&mut s, dims).sigmoid()];
            check(
                "bce",
                &x,
                4e-6,
                |t| bce_with_logits(&t[0], &t[1]),
                |x| x[0].iter().zip(&x[1]).map(|(x, t)| x.exp().ln_1p() - x * t).collect(),
            );
        }
        let x = [random(&mut s, &[2, 2, 5])];
        let ids = [4u32, 0, 2, 2];
        check(
            "nll",
            &x,
            2e-6,
            |t| nll(&t[0], &ids),
            |x| {
                let row = |r: usize| &x[0][r * 5..r * 5 + 5];
                (0..4).map(|r| row(r).iter().map(|x| x.exp()).sum::<f64>().ln() - row(r)[ids[r] as usize]).collect()
            },
        );
        let far = Tensor::new(vec![200.0, -200.0], &[2]);
        assert_eq!(bce_with_logits(&far, &Tensor::new(vec![1.0, 0.0], &[2])).data(), &[0.0, 0.0]);
        assert_eq!(bce_with_logits(&far, &Tensor::new(vec![0.0, 1.0], &[2])).data(), &[200.0, 200.0]);
    }
}
