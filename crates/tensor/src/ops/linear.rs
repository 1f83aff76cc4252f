//! Products with weight matrices: `y = x W' (+ bias) (+ residual)`, weights as `[out, in]` rows.
//!
//! One operation, [`linear_cat`], covers all: several weights side by side write their columns of one result (q, k, v; gate
//! and up), and a residual is accumulated into by the product itself. Nothing is transposed in memory. Backward adds to the
//! gradients in place and forms none that is not wanted.

use crate::gemm::{Mat, product};
use crate::par;
use crate::simd::vectorize;
use crate::{Buf, Edge, Shape, Tensor, recording};

/// `x [.., k]` times one weight `[n, k]`, plus a bias `[n]`: `[.., n]`.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Tensor {
    linear_cat(x, &[w], &[bias], None)
}

/// `residual + x W' (+ bias)`. The residual's buffer is reused where nobody else holds it.
pub fn linear_add(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, residual: Tensor) -> Tensor {
    linear_cat(x, &[w], &[bias], Some(residual))
}

/// `x [.., k]` times weights `[n_i, k]`, side by side: `[.., n_1 + n_2 + ..]`. `biases` is empty or one a weight.
pub fn linear_cat(x: &Tensor, weights: &[&Tensor], biases: &[Option<&Tensor>], residual: Option<Tensor>) -> Tensor {
    let k = x.shape().width();
    let rows = x.shape().rows();
    for w in weights {
        assert!(w.dims().len() == 2 && w.dim(1) == k, "a weight {:?} for inputs {:?}", w.shape(), x.shape());
    }
    let n: usize = weights.iter().map(|w| w.dim(0)).sum();
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("inputs have a width") = n;
    let shape = Shape::new(&dims);

    let residual_edge = residual.as_ref().map_or(Edge::none(), Tensor::edge);
    let accumulate = residual.is_some();
    let mut y = match residual {
        Some(r) => {
            assert_eq!(r.len(), rows * n, "a residual {:?} for a result {shape:?}", r.shape());
            r.into_buf()
        }
        None => Buf::scratch(rows * n),
    };
    let mut at = 0;
    for w in weights {
        let out = w.dim(0);
        if rows > 0 && out > 0 {
            product((rows, out, k), &mut y[at..], n, accumulate, Mat::rows(x.data(), k), Mat::cols(w.data(), k), 1.0);
        }
        at += out;
    }
    let mut at = 0;
    for (w, bias) in weights.iter().zip(biases) {
        if let Some(b) = bias {
            assert_eq!(b.len(), w.dim(0), "a bias {:?} for a weight {:?}", b.shape(), w.shape());
            add_bias(&mut y, n, at, b.data());
        }
        at += w.dim(0);
    }

    let (xe, re) = (x.edge(), residual_edge);
    let wes: Vec<Edge> = weights.iter().map(|w| w.edge()).collect();
    let bes: Vec<Edge> = biases.iter().map(|b| b.map_or(Edge::none(), Tensor::edge)).collect();
    let record = recording(wes.iter().chain(&bes).chain([&xe, &re]));
    // The input is kept only for weights that want a gradient, the weights only for an input that does.
    let keep_x = wes.iter().any(Edge::is_some).then(|| x.data.clone());
    let keep_w: Vec<_> = weights.iter().map(|w| (w.dim(0), xe.is_some().then(|| w.data.clone()))).collect();
    Tensor::from_op(y, shape, record, move |dy, grads| {
        let mut at = 0;
        for (i, (out, w)) in keep_w.iter().enumerate() {
            let d = &dy[at.min(dy.len())..];
            if rows > 0 {
                if let (true, Some(x)) = (grads.wants(&wes[i]), &keep_x) {
                    grads.with(&wes[i], |dw, acc| {
                        product((*out, k, rows), dw, k, acc, Mat::cols(d, n), Mat::rows(x, k), 1.0);
                    });
                }
                if let Some(b) = bes.get(i) {
                    grads.with(b, |db, acc| column_sums(&dy, n, at, db, acc));
                }
            } else {
                for e in [Some(&wes[i]), bes.get(i)].into_iter().flatten() {
                    grads.with(e, |d, acc| {
                        if !acc {
                            d.fill(0.0)
                        }
                    });
                }
            }
            if let Some(w) = w {
                grads.with(&xe, |dx, acc| {
                    product((rows, k, *out), dx, k, acc || i > 0, Mat::rows(d, n), Mat::rows(w, k), 1.0);
                });
            }
            at += out;
        }
        if grads.wants(&re) {
            grads.put(&re, dy);
        }
    })
}

fn add_bias(y: &mut [f32], width: usize, at: usize, bias: &[f32]) {
    par::rows_mut(y, width, |_, rows| {
        vectorize(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(width) {
                    for (y, b) in row[at..at + bias.len()].iter_mut().zip(bias) {
                        *y += *b;
                    }
                }
            },
        )
    });
}

/// Sums over rows of the columns `at..at + out.len()`, by blocks of rows in order.
fn column_sums(dy: &[f32], width: usize, at: usize, out: &mut [f32], accumulate: bool) {
    if !accumulate {
        out.fill(0.0);
    }
    vectorize(
        #[inline(always)]
        || {
            for row in dy.chunks_exact(width) {
                for (o, d) in out.iter_mut().zip(&row[at..]) {
                    *o += *d;
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    fn plain(x: &[f64], w: &[f64], b: Option<&[f64]>, k: usize, n: usize) -> Vec<f64> {
        let rows = x.len() / k.max(1);
        let mut y = vec![];
        for r in 0..rows {
            for j in 0..n {
                let s: f64 = (0..k).map(|p| x[r * k + p] * w[j * k + p]).sum();
                y.push(s + b.map_or(0.0, |b| b[j]));
            }
        }
        y
    }

    #[test]
    fn values_and_gradients_with_bias_and_residual() {
        let mut s = Stream::new(1, &["linear"]);
        for (rows, k, n) in [(1, 1, 1), (3, 5, 7), (33, 17, 40), (2, 64, 3)] {
            let inputs =
                [random(&mut s, &[rows, k]), random(&mut s, &[n, k]), random(&mut s, &[n]), random(&mut s, &[rows, n])];
            check(
                "linear",
                &inputs,
                2e-5,
                |t| linear_add(&t[0], &t[1], Some(&t[2]), t[3].clone()),
                |x| plain(&x[0], &x[1], Some(&x[2]), k, n).iter().zip(&x[3]).map(|(a, b)| a + b).collect(),
            );
        }
    }

    #[test]
    fn side_by_side_equals_one_by_one() {
        let mut s = Stream::new(2, &["linear"]);
        let (rows, k) = (9, 12);
        let inputs =
            [random(&mut s, &[3, 3, k]), random(&mut s, &[8, k]), random(&mut s, &[3, k]), random(&mut s, &[3])];
        check(
            "linear_cat",
            &inputs,
            2e-5,
            |t| linear_cat(&t[0], &[&t[1], &t[2]], &[None, Some(&t[3])], None),
            |x| {
                let (a, b) = (plain(&x[0], &x[1], None, k, 8), plain(&x[0], &x[2], Some(&x[3]), k, 3));
                (0..rows).flat_map(|r| [&a[r * 8..r * 8 + 8], &b[r * 3..r * 3 + 3]].concat()).collect()
            },
        );
    }

    #[test]
    fn empty_shapes_give_empty_results_and_zero_gradients() {
        let w = crate::Param::new("w", Tensor::full(1.0, &[4, 3]));
        let y = linear(&Tensor::zeros(&[0, 3]), &w.leaf(), None);
        assert_eq!(y.dims(), &[0, 4]);
        let loss = y.reshape(&[0]);
        crate::backward(&loss);
        assert!(w.grad().is_some_and(|g| g.data().iter().all(|x| *x == 0.0)));
    }

    #[test]
    fn frozen_weights_get_no_gradient_and_sinks_accumulate() {
        let w = crate::Param::new("w", Tensor::full(0.5, &[2, 3]));
        let frozen = Tensor::full(2.0, &[2, 2]);
        let x = Tensor::new(vec![1.0, 2.0, 3.0], &[1, 3]);
        for round in 1..=2 {
            let y = linear(&linear(&x, &w.leaf(), None), &frozen, None);
            crate::backward(&y);
            let g = w.grad().unwrap();
            assert_eq!(g.data(), &[4.0, 8.0, 12.0, 4.0, 8.0, 12.0].map(|v: f32| v * round as f32));
        }
        assert!(!crate::no_grad(|| linear(&x, &w.leaf(), None)).needs_grad());
    }
}
