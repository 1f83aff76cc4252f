//! Sums, means, variances, and the smallest and largest along an axis.
//!
//! Sums are cut into pieces by the shape alone. An axis is counted from the front, or from the back if negative.

use super::strided::{around, spread, strides, sum_to, with_dim, without_dim};
use crate::par::{self, SendPtr};
use crate::simd::vectorize;
use crate::{Buf, Shape, Tensor, math, recording};

/// Sums `x` to `shape`, which is one where a dimension is summed, and scales.
fn sum_scaled(x: &Tensor, shape: Shape, scale: f32) -> Tensor {
    let _ = strides(shape, x.shape);
    let mut y = Buf::scratch(shape.len());
    sum_to(&mut y, shape, false, &x.data, x.shape, scale);
    let (edge, from) = (x.edge(), x.shape);
    Tensor::from_op(y, shape, recording([&edge]), move |dy, grads| {
        grads.with(&edge, |dx, acc| spread(dx, from, acc, &dy, shape, scale));
    })
}

impl Tensor {
    /// The sum of all elements.
    pub fn sum(&self) -> Tensor {
        sum_scaled(self, Shape::new(&[]), 1.0)
    }

    /// The mean of all elements (NaN of none).
    pub fn mean(&self) -> Tensor {
        sum_scaled(self, Shape::new(&[]), 1.0 / self.len() as f32)
    }

    /// The sum along an axis, which disappears.
    pub fn sum_axis(&self, axis: isize) -> Tensor {
        let (i, _) = around(self.shape, axis);
        self.sum_keep(axis).reshape(without_dim(self.shape, i).dims())
    }

    /// The sum along an axis, which stays as one.
    pub fn sum_keep(&self, axis: isize) -> Tensor {
        let (i, _) = around(self.shape, axis);
        sum_scaled(self, with_dim(self.shape, i, 1), 1.0)
    }

    pub fn mean_axis(&self, axis: isize) -> Tensor {
        let (i, _) = around(self.shape, axis);
        self.mean_keep(axis).reshape(without_dim(self.shape, i).dims())
    }

    pub fn mean_keep(&self, axis: isize) -> Tensor {
        let (i, [_, n, _]) = around(self.shape, axis);
        sum_scaled(self, with_dim(self.shape, i, 1), 1.0 / n as f32)
    }

    /// The sum to a shape that broadcasts to this one: what backward does to a repeated operand.
    pub fn sum_to(&self, dims: &[usize]) -> Tensor {
        sum_scaled(self, Shape::new(dims), 1.0)
    }

    /// The variance along an axis, which stays as one: squared deviations divided by `n - correction` (1 for the sample
    /// variance).
    pub fn var_keep(&self, axis: isize, correction: usize) -> Tensor {
        let (i, [_, n, _]) = around(self.shape, axis);
        let d = (self - self.mean_keep(axis)).square();
        sum_scaled(&d, with_dim(self.shape, i, 1), 1.0 / n.saturating_sub(correction) as f32)
    }

    /// [`Tensor::var_keep`] without the axis.
    pub fn var_axis(&self, axis: isize, correction: usize) -> Tensor {
        let (i, _) = around(self.shape, axis);
        self.var_keep(axis, correction).reshape(without_dim(self.shape, i).dims())
    }

    /// The largest along an axis, which disappears. Of equal ones the first gets the gradient; a NaN wins.
    pub fn max_axis(&self, axis: isize) -> Tensor {
        self.extreme(axis, false)
    }

    /// The smallest along an axis, as [`Tensor::max_axis`].
    pub fn min_axis(&self, axis: isize) -> Tensor {
        self.extreme(axis, true)
    }

    /// Where the largest along an axis is (the first of equal ones).
    pub fn argmax(&self, axis: isize) -> Vec<u32> {
        extremes(&self.data, around(self.shape, axis).1, false)
    }

    /// Where the smallest along an axis is (the first of equal ones).
    pub fn argmin(&self, axis: isize) -> Vec<u32> {
        extremes(&self.data, around(self.shape, axis).1, true)
    }

    fn extreme(&self, axis: isize, smallest: bool) -> Tensor {
        let (i, sizes) = around(self.shape, axis);
        let [_, n, inner] = sizes;
        let at = extremes(&self.data, sizes, smallest);
        let place = move |o: usize, j: u32| (o / inner * n + j as usize) * inner + o % inner;
        let mut y = Buf::scratch(at.len());
        for (o, (y, j)) in y.iter_mut().zip(&at).enumerate() {
            *y = self.data[place(o, *j)];
        }
        let edge = self.edge();
        Tensor::from_op(y, without_dim(self.shape, i), recording([&edge]), move |dy, grads| {
            grads.with(&edge, |dx, acc| {
                if !acc {
                    dx.fill(0.0);
                }
                for (o, (d, j)) in dy.iter().zip(&at).enumerate() {
                    dx[place(o, *j)] += d;
                }
            });
        })
    }
}

/// Where the largest (or smallest) of each line of the middle dimension is.
fn extremes(x: &[f32], [outer, n, inner]: [usize; 3], smallest: bool) -> Vec<u32> {
    assert!(n > 0 || outer * inner == 0, "the largest of no elements");
    let mut at = vec![0u32; outer * inner];
    let out = SendPtr(at.as_mut_ptr());
    par::blocks(outer, par::row_block(n * inner), x.len(), |_, r| {
        // SAFETY: blocks are disjoint.
        let at = unsafe { out.slice(r.start * inner, r.len() * inner) };
        let x = &x[r.start * n * inner..r.end * n * inner];
        vectorize(
            #[inline(always)]
            || {
                if inner == 1 {
                    for (at, x) in at.iter_mut().zip(x.chunks_exact(n)) {
                        *at = row_extreme(x, smallest);
                    }
                } else {
                    let mut best = vec![0f32; inner];
                    for (at, x) in at.chunks_exact_mut(inner.max(1)).zip(x.chunks_exact((n * inner).max(1))) {
                        best.copy_from_slice(&x[..inner]);
                        for (j, x) in x.chunks_exact(inner).enumerate().skip(1) {
                            for ((at, best), x) in at.iter_mut().zip(&mut best).zip(x) {
                                let wins = if smallest { x < best } else { x > best };
                                if wins || (x.is_nan() && !best.is_nan()) {
                                    *best = *x;
                                    *at = j as u32;
                                }
                            }
                        }
                    }
                }
            },
        );
    });
    at
}

#[inline(always)]
fn row_extreme(x: &[f32], smallest: bool) -> u32 {
    let nan = x.iter().fold(false, |n, x| n | x.is_nan());
    let found = if nan {
        x.iter().position(|x| x.is_nan())
    } else if smallest {
        let least = x.iter().fold(f32::INFINITY, |m, x| if *x < m { *x } else { m });
        x.iter().position(|x| *x == least)
    } else {
        let most = math::max(x);
        x.iter().position(|x| *x == most)
    };
    found.unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    /// Applies `f` to every line of the middle dimension.
    fn lines(x: &[f64], [outer, n, inner]: [usize; 3], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        (0..outer * inner)
            .map(|o| f(&(0..n).map(|j| x[(o / inner * n + j) * inner + o % inner]).collect::<Vec<_>>()))
            .collect()
    }

    #[test]
    fn along_every_axis() {
        let mut s = Stream::new(1, &["reduce"]);
        let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
        let var = move |l: &[f64]| l.iter().map(|x| (x - mean(l)).powi(2)).sum::<f64>() / (l.len() - 1) as f64;
        for dims in [&[7][..], &[3, 5], &[4, 3, 5], &[2, 1, 3, 2], &[0, 4], &[65, 33]] {
            for axis in 0..dims.len() as isize {
                let x = [random(&mut s, dims)];
                let (i, sizes) = around(x[0].shape(), axis);
                let back = axis - dims.len() as isize;
                check("sum", &x, 1e-5, |t| t[0].sum_axis(back), |x| lines(&x[0], sizes, |l| l.iter().sum()));
                let kept = x[0].sum_keep(axis);
                assert_eq!((kept.dim(i), kept.dims().len()), (1, dims.len()));
                if dims[i] == 0 {
                    continue;
                }
                check("mean", &x, 1e-5, |t| t[0].mean_axis(axis), |x| lines(&x[0], sizes, mean));
                let max = |l: &[f64]| l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                check("max", &x, 1e-5, |t| t[0].max_axis(axis), |x| lines(&x[0], sizes, max));
                let min = |l: &[f64]| l.iter().copied().fold(f64::INFINITY, f64::min);
                check("min", &x, 1e-5, |t| t[0].min_axis(axis), |x| lines(&x[0], sizes, min));
                if dims[i] > 1 {
                    check("var", &x, 1e-5, |t| t[0].var_axis(axis, 1), |x| lines(&x[0], sizes, var));
                }
            }
            let x = [random(&mut s, dims)];
            check("sum all", &x, 1e-5, |t| t[0].sum(), |x| vec![x[0].iter().sum()]);
            if !x[0].is_empty() {
                check("mean all", &x, 1e-5, |t| t[0].mean(), |x| vec![mean(&x[0])]);
            }
        }
        let x = [random(&mut s, &[3, 4, 2])];
        let want = |x: &[Vec<f64>]| lines(&lines(&x[0], [3, 4, 2], |l| l.iter().sum()), [1, 3, 2], |l| l.iter().sum());
        check("sum_to", &x, 1e-5, |t| t[0].sum_to(&[1, 2]), want);
    }

    #[test]
    fn long_sums_are_exact_enough_and_do_not_depend_on_threads() {
        let mut s = Stream::new(2, &["reduce"]);
        let x = random(&mut s, &[700, 301]);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| [x.sum(), x.sum_axis(0), x.sum_axis(1), x.reshape(&[7, 100, 301]).sum_axis(1)])
        };
        let one = run(1);
        for (a, b) in one.iter().zip(&run(3)) {
            assert!(crate::reference::same_bits(a, b));
        }
        let exact: Vec<f64> = x.data().iter().map(|x| *x as f64).collect();
        let want = [
            vec![exact.iter().sum()],
            lines(&exact, [1, 700, 301], |l| l.iter().sum()),
            lines(&exact, [700, 301, 1], |l| l.iter().sum()),
            lines(&exact, [7, 100, 301], |l| l.iter().sum()),
        ];
        for (got, want) in one.iter().zip(&want) {
            assert!(crate::reference::worst(got.data(), want) < 2e-6);
        }
    }

    #[test]
    fn the_first_of_equals_and_nan() {
        let x = Tensor::new(vec![1.0, 3.0, 3.0, 2.0, f32::NAN, 5.0], &[2, 3]).input();
        assert_eq!(x.argmax(-1), [1, 1]);
        assert_eq!(x.argmin(1), [0, 1]);
        assert_eq!(x.argmax(0), [1, 1, 1]);
        let g = crate::gradients(&x.max_axis(-1), &[&x]);
        assert_eq!(g[0].as_ref().unwrap().data(), &[0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
    }
}
