//! Running sums, and sums over segments named by ids.

use super::strided::{around, with_dim};
use crate::{Buf, Tensor, recording};

/// Running sums along the middle dimension, from the front or from the back; exclusive ones leave out the element itself.
fn run(y: &mut [f32], x: &[f32], [outer, n, inner]: [usize; 3], reverse: bool, accumulate: bool) {
    let mut sum = vec![0f64; inner];
    for o in 0..outer {
        sum.fill(0.0);
        for j in 0..n {
            let at = (o * n + if reverse { n - 1 - j } else { j }) * inner;
            for ((y, x), s) in y[at..at + inner].iter_mut().zip(&x[at..at + inner]).zip(&mut sum) {
                *s += *x as f64;
                *y = if accumulate { *y + *s as f32 } else { *s as f32 };
            }
        }
    }
}

impl Tensor {
    /// The running sum along an axis, each element included; summed in f64.
    pub fn cumsum(&self, axis: isize) -> Tensor {
        self.running(axis, false)
    }

    /// The running sum from the end of an axis (returns-to-go).
    pub fn cumsum_reverse(&self, axis: isize) -> Tensor {
        self.running(axis, true)
    }

    fn running(&self, axis: isize, reverse: bool) -> Tensor {
        let sizes = around(self.shape, axis).1;
        let mut y = Buf::scratch(self.len());
        run(&mut y, &self.data, sizes, reverse, false);
        let edge = self.edge();
        Tensor::from_op(y, self.shape, recording([&edge]), move |dy, grads| {
            grads.with(&edge, |dx, acc| run(dx, &dy, sizes, !reverse, acc));
        })
    }

    /// Rows (places of the first axis) added up by segment: `x [rows, ..]`, an id a row, give `[n, ..]`. Segments need not be
    /// contiguous; empty ones are zero.
    pub fn segment_sum(&self, ids: &[u32], n: usize) -> Tensor {
        assert_eq!(ids.len(), self.dim(0), "an id for each row of {:?}", self.shape);
        Tensor::zeros(with_dim(self.shape, 0, n).dims()).scatter_add(0, ids, self)
    }

    /// [`Tensor::segment_sum`] divided by each segment's number of rows (empty ones are zero).
    pub fn segment_mean(&self, ids: &[u32], n: usize) -> Tensor {
        let sum = self.segment_sum(ids, n);
        let mut share = Buf::zeros(n);
        ids.iter().for_each(|id| share[*id as usize] += 1.0);
        share.iter_mut().for_each(|c| *c = 1.0 / c.max(1.0));
        let mut dims = vec![1; self.shape.rank()];
        dims[0] = n;
        sum.mul(&Tensor::constant(share, crate::Shape::new(&dims)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    #[test]
    fn running_sums() {
        let mut s = Stream::new(1, &["scan"]);
        for dims in [&[7][..], &[3, 5], &[2, 4, 3], &[0, 3], &[3, 0]] {
            for axis in 0..dims.len() as isize {
                let x = [random(&mut s, dims)];
                let [_, n, inner] = around(x[0].shape(), axis).1;
                let sum = |x: &[f64], reverse: bool| -> Vec<f64> {
                    let term = |p: usize, j: usize| x[(p / (n * inner) * n + j) * inner + p % inner];
                    let at = |p: usize| p / inner % n;
                    (0..x.len())
                        .map(|p| {
                            if reverse {
                                (at(p)..n).map(|j| term(p, j)).sum()
                            } else {
                                (0..=at(p)).map(|j| term(p, j)).sum()
                            }
                        })
                        .collect()
                };
                check("cumsum", &x, 1e-5, |t| t[0].cumsum(axis), |x| sum(&x[0], false));
                check("cumsum_reverse", &x, 1e-5, |t| t[0].cumsum_reverse(axis), |x| sum(&x[0], true));
            }
        }
    }

    #[test]
    fn segments() {
        let mut s = Stream::new(2, &["scan"]);
        let ids = [2u32, 0, 2, 2, 0];
        for width in [1, 3] {
            let x = [random(&mut s, &[5, width])];
            let plain = |x: &[f64], mean: bool| {
                let mut y = vec![0.0; 4 * width];
                for (i, x) in x.iter().enumerate() {
                    let id = ids[i / width] as usize;
                    let count = ids.iter().filter(|i| **i as usize == id).count() as f64;
                    y[id * width + i % width] += x / if mean { count } else { 1.0 };
                }
                y
            };
            check("segment_sum", &x, 1e-5, |t| t[0].segment_sum(&ids, 4), |x| plain(&x[0], false));
            check("segment_mean", &x, 1e-5, |t| t[0].segment_mean(&ids, 4), |x| plain(&x[0], true));
        }
        assert_eq!(Tensor::zeros(&[0, 2]).segment_mean(&[], 3).data(), &[0.0; 6]);
    }
}
