//! A low-rank product beside a weight (Hu et al. 2021): `y[:, at..at + n] += scale * row_scale * (x A') B'`, in place.
//!
//! The full-size delta is never formed, and neither is a gradient of the frozen weight. Dropout goes on `x` before.

use std::sync::Arc;

use crate::gemm::{Mat, product};
use crate::par;
use crate::simd::vectorize;
use crate::{Tensor, recording};

/// Adds the low-rank product of `x [.., k]` with `a [r, k]` and `b [n, r]` to columns `at..at + n` of `y [.., width]`.
/// `row_scale` holds one factor a row of `x` (a per-example scale).
pub fn lora_add(
    y: Tensor,
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    at: usize,
    scale: f32,
    row_scale: Option<Arc<[f32]>>,
) -> Tensor {
    let (shape, k, rows, width) = (y.shape(), x.shape().width(), x.shape().rows(), y.shape().width());
    let (r, n) = (a.dim(0), b.dim(0));
    assert!(
        a.dim(1) == k && b.dim(1) == r,
        "low-rank sides {:?} and {:?} for inputs {:?}",
        a.shape(),
        b.shape(),
        x.shape()
    );
    assert!(y.shape().rows() == rows && at + n <= width, "columns {at}..{} of {shape:?}", at + n);
    assert!(row_scale.as_ref().is_none_or(|s| s.len() == rows), "one scale a row");
    let ye = y.edge();
    let mut out = y.into_buf();
    let mut xa = crate::Buf::scratch(rows * r);
    if rows > 0 {
        product((rows, r, k), &mut xa, r, false, Mat::rows(x.data(), k), Mat::cols(a.data(), k), 1.0);
        scale_rows(&mut xa, r, row_scale.as_deref());
        product((rows, n, r), &mut out[at..], width, true, Mat::rows(&xa, r), Mat::cols(b.data(), r), scale);
    }
    let (xe, ae, be) = (x.edge(), a.edge(), b.edge());
    let record = recording([&ye, &xe, &ae, &be]);
    let (xd, ad, bd) = (x.data.clone(), a.data.clone(), b.data.clone());
    Tensor::from_op(out, shape, record, move |dy, grads| {
        let d = &dy[at.min(dy.len())..];
        if rows == 0 {
            for e in [&xe, &ae, &be] {
                grads.with(e, |g, acc| {
                    if !acc {
                        g.fill(0.0)
                    }
                });
            }
        } else {
            grads.with(&be, |db, acc| product((n, r, rows), db, r, acc, Mat::cols(d, width), Mat::rows(&xa, r), scale));
            if grads.wants(&ae) || grads.wants(&xe) {
                let mut dxa = xa;
                product((rows, r, n), &mut dxa, r, false, Mat::rows(d, width), Mat::rows(&bd, r), scale);
                scale_rows(&mut dxa, r, row_scale.as_deref());
                grads
                    .with(&ae, |da, acc| product((r, k, rows), da, k, acc, Mat::cols(&dxa, r), Mat::rows(&xd, k), 1.0));
                grads
                    .with(&xe, |dx, acc| product((rows, k, r), dx, k, acc, Mat::rows(&dxa, r), Mat::rows(&ad, k), 1.0));
            }
        }
        grads.put(&ye, dy);
    })
}

/// `y[:, at..at + n] += scale * row_scale * delta`, in place and without a gradient: for generation.
pub fn add_columns(y: Tensor, delta: &Tensor, at: usize, scale: f32, row_scale: Option<&[f32]>) -> Tensor {
    let (shape, width, n) = (y.shape(), y.shape().width(), delta.shape().width());
    assert!(delta.shape().rows() == shape.rows() && at + n <= width, "columns {at}..{} of {shape:?}", at + n);
    let mut out = y.into_buf();
    for (i, (row, d)) in out.chunks_exact_mut(width.max(1)).zip(delta.data().chunks_exact(n.max(1))).enumerate() {
        let factor = scale * row_scale.map_or(1.0, |s| s[i]);
        vectorize(
            #[inline(always)]
            || crate::math::axpy(&mut row[at..at + n], factor, d),
        );
    }
    Tensor::constant(out, shape)
}

fn scale_rows(x: &mut [f32], width: usize, scale: Option<&[f32]>) {
    let Some(scale) = scale else { return };
    par::rows_mut(x, width, |first, rows| {
        vectorize(
            #[inline(always)]
            || {
                for (row, s) in rows.chunks_exact_mut(width).zip(&scale[first..]) {
                    for v in row {
                        *v *= *s;
                    }
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    #[test]
    fn values_and_gradients_with_row_scales_and_columns() {
        let mut s = Stream::new(1, &["lora"]);
        for (rows, k, r, n, width, at) in [(1, 3, 1, 2, 2, 0), (5, 12, 4, 7, 11, 3), (9, 6, 2, 3, 8, 5)] {
            let inputs = [
                random(&mut s, &[rows, width]),
                random(&mut s, &[rows, k]),
                random(&mut s, &[r, k]),
                random(&mut s, &[n, r]),
            ];
            let scales: Arc<[f32]> = (0..rows).map(|i| i as f32 * 0.5 - 0.5).collect();
            for row_scale in [None, Some(scales.clone())] {
                let factor = |i: usize| 1.5 * row_scale.as_ref().map_or(1.0, |s| s[i] as f64);
                check(
                    "lora_add",
                    &inputs,
                    3e-5,
                    |t| lora_add(t[0].clone(), &t[1], &t[2], &t[3], at, 1.5, row_scale.clone()),
                    |x| {
                        let mut y = x[0].clone();
                        for i in 0..rows {
                            for j in 0..n {
                                for q in 0..r {
                                    let xa: f64 = (0..k).map(|p| x[1][i * k + p] * x[2][q * k + p]).sum();
                                    y[i * width + at + j] += factor(i) * xa * x[3][j * r + q];
                                }
                            }
                        }
                        y
                    },
                );
            }
        }
    }
}
