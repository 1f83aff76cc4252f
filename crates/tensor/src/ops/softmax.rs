//! Softmax, log-softmax and log-sum-exp along an axis.
//!
//! Rows are shifted by their largest value. A value of negative infinity has probability zero exactly; a row of nothing else
//! has no softmax (NaN) and a log-sum-exp of negative infinity. Axes other than the last go through a permutation.

// A function by its name is called through a shim that is compiled without the SIMD level; an inlined closure is not.
#![allow(clippy::redundant_closure)]

use std::sync::Arc;

use super::strided::{around, without_dim};
use super::unary::{exp, log};
use crate::par;
use crate::simd::vectorize;
use crate::{Buf, Tensor, math, recording};

/// Calls `f(y row, x row)` for every row, vectorised.
#[inline(always)]
fn rows(y: &mut [f32], x: &[f32], width: usize, f: impl Fn(&mut [f32], &[f32]) + Copy + Sync) {
    par::rows_mut(y, width, |first, y| {
        let x = &x[first * width..first * width + y.len()];
        vectorize(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    f(y, x);
                }
            },
        )
    });
}

/// Calls `f(first, e)` with e^(x - max) for each run of [`math::LANES`] values, the last one filled up with zeros, and
/// returns the sum: short rows and ragged ends then run at full width too.
#[inline(always)]
fn exp_lanes(x: &[f32], max: f32, mut f: impl FnMut(usize, &[f32])) -> f32 {
    let mut acc = [0f32; math::LANES];
    let mut e = [0f32; math::LANES];
    let whole = x.len() / math::LANES * math::LANES;
    for (i, x) in x[..whole].chunks_exact(math::LANES).enumerate() {
        for l in 0..math::LANES {
            e[l] = exp(x[l] - max);
            acc[l] += e[l];
        }
        f(i * math::LANES, &e);
    }
    if whole < x.len() {
        let mut last = [f32::NEG_INFINITY; math::LANES];
        last[..x.len() - whole].copy_from_slice(&x[whole..]);
        for l in 0..math::LANES {
            e[l] = exp(last[l] - max);
            acc[l] += e[l];
        }
        f(whole, &e[..x.len() - whole]);
    }
    math::fold(acc)
}

#[inline(always)]
fn softmax_row(y: &mut [f32], x: &[f32]) {
    let sum = exp_lanes(
        x,
        math::max(x),
        #[inline(always)]
        |at, e| y[at..at + e.len()].copy_from_slice(e),
    );
    let scale = 1.0 / sum;
    for y in y.iter_mut() {
        *y *= scale;
    }
}

#[inline(always)]
fn lse_row(x: &[f32]) -> f32 {
    let max = math::max(x);
    if max == f32::NEG_INFINITY {
        // Nothing but negative infinities, or a NaN, which the largest skips.
        return math::sum(x);
    }
    max + log(exp_lanes(x, max, |_, _| ()))
}

impl Tensor {
    /// e^x / sum(e^x) along an axis.
    pub fn softmax(&self, axis: isize) -> Tensor {
        self.on_last(axis, Tensor::softmax_last)
    }

    /// x - log(sum(e^x)) along an axis.
    pub fn log_softmax(&self, axis: isize) -> Tensor {
        self.on_last(axis, Tensor::log_softmax_last)
    }

    /// log(sum(e^x)) along an axis, which disappears.
    pub fn logsumexp(&self, axis: isize) -> Tensor {
        let (i, _) = around(self.shape, axis);
        let shape = without_dim(self.shape, i);
        let last = self.rank_last(i);
        last.logsumexp_last().reshape(shape.dims())
    }

    fn on_last(&self, axis: isize, f: fn(&Tensor) -> Tensor) -> Tensor {
        let (i, _) = around(self.shape, axis);
        if i + 1 == self.shape.rank() { f(self) } else { f(&self.transpose(axis, -1)).transpose(axis, -1) }
    }

    /// The axis moved to the end, the others in order.
    fn rank_last(&self, i: usize) -> Tensor {
        if i + 1 == self.shape.rank() {
            return self.clone();
        }
        let order: Vec<usize> = (0..self.shape.rank()).filter(|d| *d != i).chain([i]).collect();
        self.permute(&order)
    }

    fn softmax_last(&self) -> Tensor {
        let width = self.shape.width();
        let mut y = Buf::scratch(self.len());
        rows(
            &mut y,
            &self.data,
            width,
            #[inline(always)]
            |y, x| softmax_row(y, x),
        );
        let edge = self.edge();
        let y = Arc::new(y);
        let kept = y.clone();
        Tensor::from_op_shared(y, self.shape, recording([&edge]), move |mut dy, grads| {
            rows(
                &mut dy,
                &kept,
                width,
                #[inline(always)]
                |d, y| {
                    let dot = math::dot(d, y);
                    d.iter_mut().zip(y).for_each(|(d, y)| *d = y * (*d - dot));
                },
            );
            grads.put(&edge, dy);
        })
    }

    fn log_softmax_last(&self) -> Tensor {
        let width = self.shape.width();
        let mut y = Buf::scratch(self.len());
        rows(
            &mut y,
            &self.data,
            width,
            #[inline(always)]
            |y, x| {
                let lse = lse_row(x);
                y.iter_mut().zip(x).for_each(|(y, x)| *y = x - lse);
            },
        );
        let edge = self.edge();
        let y = Arc::new(y);
        let kept = y.clone();
        Tensor::from_op_shared(y, self.shape, recording([&edge]), move |mut dy, grads| {
            rows(
                &mut dy,
                &kept,
                width,
                #[inline(always)]
                |d, y| {
                    let sum = math::sum(d);
                    for (d, y) in d.iter_mut().zip(y) {
                        *d -= exp(*y) * sum;
                    }
                },
            );
            grads.put(&edge, dy);
        })
    }

    fn logsumexp_last(&self) -> Tensor {
        let width = self.shape.width();
        let shape = without_dim(self.shape, self.shape.rank() - 1);
        let mut y = Buf::scratch(shape.len());
        if width == 0 {
            y.fill(f32::NEG_INFINITY);
        } else {
            let x = &self.data;
            let out = par::SendPtr(y.as_mut_ptr());
            par::blocks(shape.len(), par::row_block(width), x.len(), |_, r| {
                // SAFETY: blocks are disjoint.
                let y = unsafe { out.slice(r.start, r.len()) };
                vectorize(
                    #[inline(always)]
                    || {
                        for (y, x) in y.iter_mut().zip(x[r.start * width..].chunks_exact(width)) {
                            *y = lse_row(x);
                        }
                    },
                )
            });
        }
        let edge = self.edge();
        let record = recording([&edge]);
        let y = Arc::new(y);
        let kept = record.then(|| (self.data.clone(), y.clone()));
        Tensor::from_op_shared(y, shape, record, move |dy, grads| {
            let (x, lse) = kept.expect("recorded operations keep what they need");
            grads.with(&edge, |dx, acc| {
                par::rows_mut(dx, width, |first, dx| {
                    vectorize(
                        #[inline(always)]
                        || {
                            for (i, dx) in dx.chunks_exact_mut(width).enumerate() {
                                let (r, x) = (first + i, &x[(first + i) * width..]);
                                // A row without a finite value pulls nowhere.
                                let d = if lse[r] == f32::NEG_INFINITY { 0.0 } else { dy[r] };
                                let shift = if lse[r] == f32::NEG_INFINITY { 0.0 } else { lse[r] };
                                for (dx, x) in dx.iter_mut().zip(x) {
                                    let g = d * exp(*x - shift);
                                    *dx = if acc { *dx + g } else { g };
                                }
                            }
                        },
                    )
                });
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    fn lines(x: &[f64], [outer, n, inner]: [usize; 3], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let mut y = vec![];
        for o in 0..outer {
            let of = |i: usize| f(&(0..n).map(|j| x[(o * n + j) * inner + i]).collect::<Vec<_>>());
            let columns: Vec<Vec<f64>> = (0..inner).map(of).collect();
            y.extend((0..columns.first().map_or(0, Vec::len)).flat_map(|j| columns.iter().map(move |c| c[j])));
        }
        y
    }

    #[test]
    fn along_every_axis() {
        let mut s = Stream::new(1, &["softmax"]);
        let lse = |l: &[f64]| l.iter().map(|x| x.exp()).sum::<f64>().ln();
        for dims in [&[9][..], &[1, 1], &[3, 5], &[4, 3, 5], &[3, 70], &[0, 4], &[3, 2, 0]] {
            for axis in 0..dims.len() as isize {
                let x = [&random(&mut s, dims) * 3.0];
                let sizes = around(x[0].shape(), axis).1;
                let soft = |l: &[f64]| l.iter().map(|x| (x - lse(l)).exp()).collect::<Vec<_>>();
                check("softmax", &x, 2e-6, |t| t[0].softmax(axis), |x| lines(&x[0], sizes, soft));
                let log_soft = |l: &[f64]| l.iter().map(|x| x - lse(l)).collect::<Vec<_>>();
                check("log_softmax", &x, 2e-6, |t| t[0].log_softmax(axis), |x| lines(&x[0], sizes, log_soft));
                if sizes[1] > 0 {
                    check("logsumexp", &x, 2e-6, |t| t[0].logsumexp(axis), |x| lines(&x[0], sizes, |l| vec![lse(l)]));
                }
            }
        }
    }

    #[test]
    fn masked_and_large_values() {
        let inf = f32::INFINITY;
        let x = Tensor::new(vec![1000.0, -inf, 1000.0, -inf, -inf, -inf], &[2, 3]).input();
        assert_eq!(&x.softmax(-1).data()[..3], &[0.5, 0.0, 0.5]);
        assert!(x.softmax(-1).data()[3..].iter().all(|x| x.is_nan()));
        let l = x.logsumexp(-1);
        assert!((l.data()[0] - 1000.6931).abs() < 1e-4 && l.data()[1] == -inf);
        let g = crate::gradients(&l, &[&x]);
        // A log-sum-exp near 1000 is rounded to 6e-5.
        assert!(crate::reference::worst(g[0].as_ref().unwrap().data(), &[0.5, 0.0, 0.5, 0.0, 0.0, 0.0]) < 4e-5);
        assert!(Tensor::new(vec![0.0, f32::NAN], &[2]).logsumexp(0).item().is_nan());
    }
}
