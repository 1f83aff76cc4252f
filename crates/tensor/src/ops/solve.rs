//! Batches of small linear systems and inverses: LU with partial pivoting, in f64 inside.
//!
//! For `a x = b`: `db = a'^-1 dx`, `da = -db x'`. The factors of the forward pass serve the backward. Meant for matrices up
//! to about a hundred rows; larger ones belong to a blocked library.

use std::sync::Arc;

use postgrad_base::{Error, Result};

use crate::par::{self, SendPtr};
use crate::{Buf, Tensor, recording};

/// The factors of one matrix: `lu` row-major with the unit lower part below the diagonal, and the rows' order.
struct Lu {
    n: usize,
    lu: Vec<f64>,
    order: Vec<usize>,
}

impl Lu {
    /// `None` if the matrix is singular to working precision or not finite.
    fn new(a: &[f32], n: usize) -> Option<Self> {
        let mut lu: Vec<f64> = a.iter().map(|x| *x as f64).collect();
        let mut order: Vec<usize> = (0..n).collect();
        let largest = lu.iter().fold(0f64, |m, x| m.max(x.abs()));
        for p in 0..n {
            let pivot = (p..n).max_by(|i, j| lu[i * n + p].abs().total_cmp(&lu[j * n + p].abs()))?;
            let value = lu[pivot * n + p];
            if !value.is_finite() || value.abs() <= largest * n as f64 * f64::EPSILON {
                return None;
            }
            if pivot != p {
                order.swap(p, pivot);
                for j in 0..n {
                    lu.swap(p * n + j, pivot * n + j);
                }
            }
            let (top, below) = lu.split_at_mut((p + 1) * n);
            let row = &top[p * n..];
            for r in below.chunks_exact_mut(n) {
                let f = r[p] / value;
                r[p] = f;
                r[p + 1..].iter_mut().zip(&row[p + 1..]).for_each(|(x, y)| *x -= f * y);
            }
        }
        Some(Self { n, lu, order })
    }

    /// Solves for the columns of `b` (n x m, in place of the result).
    fn solve(&self, b: &[f64], m: usize) -> Vec<f64> {
        let n = self.n;
        let mut x: Vec<f64> = self.order.iter().flat_map(|r| b[r * m..(r + 1) * m].iter().copied()).collect();
        for i in 0..n {
            for j in 0..i {
                eliminate(&mut x, m, i, j, self.lu[i * n + j]);
            }
        }
        for i in (0..n).rev() {
            for j in i + 1..n {
                eliminate(&mut x, m, i, j, self.lu[i * n + j]);
            }
            x[i * m..(i + 1) * m].iter_mut().for_each(|x| *x /= self.lu[i * n + i]);
        }
        x
    }

    /// Solves with the transpose.
    fn solve_transposed(&self, b: &[f64], m: usize) -> Vec<f64> {
        let n = self.n;
        let mut y = b.to_vec();
        for i in 0..n {
            for j in 0..i {
                eliminate(&mut y, m, i, j, self.lu[j * n + i]);
            }
            y[i * m..(i + 1) * m].iter_mut().for_each(|y| *y /= self.lu[i * n + i]);
        }
        for i in (0..n).rev() {
            for j in i + 1..n {
                eliminate(&mut y, m, i, j, self.lu[j * n + i]);
            }
        }
        let mut x = vec![0.0; n * m];
        for (i, r) in self.order.iter().enumerate() {
            x[r * m..(r + 1) * m].copy_from_slice(&y[i * m..(i + 1) * m]);
        }
        x
    }
}

/// Row i of `x` less `f` times row j.
fn eliminate(x: &mut [f64], m: usize, i: usize, j: usize, f: f64) {
    for c in 0..m {
        x[i * m + c] -= f * x[j * m + c];
    }
}

/// Factors every matrix of a batch `[.., n, n]`.
fn factor(a: &Tensor, what: &str) -> Result<(usize, Vec<Lu>)> {
    let rank = a.shape.rank();
    assert!(rank >= 2 && a.dim(rank - 1) == a.dim(rank - 2), "{what}: square matrices, not {:?}", a.shape);
    let n = a.dim(rank - 1);
    let batch: usize = a.dims()[..rank - 2].iter().product();
    let mut factors: Vec<Option<Lu>> = (0..batch).map(|_| None).collect();
    let out = SendPtr(factors.as_mut_ptr());
    par::parts(batch, batch * n * n * n / 4, |i| {
        // SAFETY: each part writes its own element.
        unsafe { *out.at(i) = Lu::new(&a.data[i * n * n..(i + 1) * n * n], n) };
    });
    let singular = factors.iter().position(Option::is_none);
    match singular {
        None => Ok((n, factors.into_iter().flatten().collect())),
        Some(i) => Err(Error::work(format!("{what}: matrix {i} of {batch} ({n} x {n}) is singular or not finite"))
            .help("add a small multiple of the identity")),
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| *x as f64).collect()
}

/// Writes or adds a batch's result.
fn store(y: &mut [f32], accumulate: bool, x: &[f64], scale: f64) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = if accumulate { *y + (scale * x) as f32 } else { (scale * x) as f32 };
    }
}

impl Tensor {
    /// `x` with `self x = b`: square matrices `[.., n, n]` and right sides `[.., n, m]` of the same batch. A singular matrix is
    /// an error that names it.
    pub fn solve(&self, b: &Tensor) -> Result<Tensor> {
        let rank = self.shape.rank();
        let fits = b.shape.rank() == rank && rank >= 2 && b.dims()[..rank - 1] == self.dims()[..rank - 1];
        assert!(fits, "right sides {:?} for matrices {:?}", b.shape, self.shape);
        let (n, factors) = factor(self, "solve")?;
        let (m, size) = (b.dim(rank - 1), b.dim(rank - 1) * n);
        let mut y = Buf::scratch(b.len());
        for (i, lu) in factors.iter().enumerate() {
            store(&mut y[i * size..(i + 1) * size], false, &lu.solve(&wide(&b.data[i * size..(i + 1) * size]), m), 1.0);
        }
        let (ae, be) = (self.edge(), b.edge());
        let record = recording([&ae, &be]);
        let y = Arc::new(y);
        let x = y.clone();
        Ok(Tensor::from_op_shared(y, b.shape, record, move |dy, grads| {
            let mut db = Buf::scratch(dy.len());
            for (i, lu) in factors.iter().enumerate() {
                let d = lu.solve_transposed(&wide(&dy[i * size..(i + 1) * size]), m);
                store(&mut db[i * size..(i + 1) * size], false, &d, 1.0);
            }
            grads.with(&ae, |da, acc| {
                for i in 0..factors.len() {
                    let (d, x) = (&db[i * size..(i + 1) * size], &x[i * size..(i + 1) * size]);
                    for r in 0..n {
                        for c in 0..n {
                            let dot: f64 = (0..m).map(|k| d[r * m + k] as f64 * x[c * m + k] as f64).sum();
                            store(&mut da[(i * n + r) * n + c..][..1], acc, &[dot], -1.0);
                        }
                    }
                }
            });
            grads.put(&be, db);
        }))
    }

    /// The inverses of square matrices `[.., n, n]`. A singular matrix is an error that names it.
    pub fn inverse(&self) -> Result<Tensor> {
        let rank = self.shape.rank();
        assert!(rank >= 2, "inverse: square matrices, not {:?}", self.shape);
        let n = self.dim(rank - 1);
        let mut eye = Buf::zeros(self.len());
        for i in 0..self.len() / (n * n).max(1) {
            for r in 0..n {
                eye[(i * n + r) * n + r] = 1.0;
            }
        }
        self.solve(&Tensor::constant(eye, self.shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    /// Gauss-Jordan with full rows, in f64.
    fn solve64(a: &[f64], b: &[f64], n: usize, m: usize) -> Vec<f64> {
        let w = n + m;
        let mut t: Vec<f64> = (0..n).flat_map(|r| [&a[r * n..(r + 1) * n], &b[r * m..(r + 1) * m]].concat()).collect();
        for p in 0..n {
            let pivot = (p..n).max_by(|i, j| t[i * w + p].abs().total_cmp(&t[j * w + p].abs())).unwrap();
            (0..w).for_each(|c| t.swap(p * w + c, pivot * w + c));
            let d = t[p * w + p];
            (0..w).for_each(|c| t[p * w + c] /= d);
            for r in (0..n).filter(|r| *r != p) {
                let f = t[r * w + p];
                (0..w).for_each(|c| t[r * w + c] -= f * t[p * w + c]);
            }
        }
        (0..n).flat_map(|r| t[r * w + n..(r + 1) * w].to_vec()).collect()
    }

    #[test]
    fn systems_and_inverses() {
        let mut s = Stream::new(1, &["solve"]);
        for (batch, n, m) in [(1, 1, 1), (3, 4, 2), (2, 7, 1), (0, 3, 2)] {
            let eye = crate::ops::one_hot(&(0..n as u32).collect::<Vec<_>>(), n);
            let a = random(&mut s, &[batch, n, n]) + eye * (1.0 + n as f32 / 2.0);
            let inputs = [a, random(&mut s, &[batch, n, m])];
            let sizes = (n * n, n * m);
            let each = |x: &[Vec<f64>]| -> Vec<f64> {
                (0..batch)
                    .flat_map(|i| {
                        solve64(&x[0][i * sizes.0..(i + 1) * sizes.0], &x[1][i * sizes.1..(i + 1) * sizes.1], n, m)
                    })
                    .collect()
            };
            check("solve", &inputs, 2e-6, |t| t[0].solve(&t[1]).unwrap(), each);
            let eye: Vec<f64> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
            let inverse = |x: &[Vec<f64>]| {
                (0..batch).flat_map(|i| solve64(&x[0][i * n * n..(i + 1) * n * n], &eye, n, n)).collect()
            };
            check("inverse", &inputs[..1], 2e-6, |t| t[0].inverse().unwrap(), inverse);
        }
        // A zero in the first pivot's place.
        let swap = Tensor::new(vec![0.0, 1.0, 1.0, 0.0], &[2, 2]);
        assert_eq!(swap.inverse().unwrap().data(), swap.data());
    }

    #[test]
    fn singular_matrices_are_named() {
        let good_and_bad = Tensor::new(vec![1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 4.0], &[2, 2, 2]);
        let error = good_and_bad.inverse().unwrap_err().to_string();
        assert!(error.contains("matrix 1 of 2"), "{error}");
        assert!(Tensor::full(f32::NAN, &[2, 2]).inverse().is_err());
    }
}
