//! Normalisation over the last dimension: RMSNorm (Zhang & Sennrich 2019), LayerNorm (Ba et al. 2016), and RMSNorm of each
//! head of packed queries and keys.
//!
//! Gradients are formed in the buffer of the incoming gradient; those of the weights are summed over fixed blocks of rows.

use std::sync::Arc;

use crate::math;
use crate::par::{self, SendPtr};
use crate::simd::vectorize;
use crate::{Buf, Tensor, recording};

/// `x / sqrt(mean(x^2) + eps) * (offset + weight)`. The offset is 0 for most families, 1 for Gemma's.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32, offset: f32) -> Tensor {
    norm(x, weight, None, eps, offset, false)
}

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight (+ bias)`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Tensor {
    norm(x, weight, bias, eps, 0.0, true)
}

/// Rows per block of weight gradients, by the shape alone.
fn block_rows(rows: usize, width: usize) -> usize {
    par::row_block(width).max(rows.div_ceil(32))
}

/// Mean (zero unless centred) and reciprocal deviation of one row.
#[inline(always)]
fn moments(x: &[f32], eps: f32, centre: bool) -> (f32, f32) {
    let d = x.len() as f32;
    if !centre {
        return (0.0, 1.0 / (math::dot(x, x) / d + eps).sqrt());
    }
    let mean = math::sum(x) / d;
    let mut acc = [0f32; math::LANES];
    let mut chunks = x.chunks_exact(math::LANES);
    for c in &mut chunks {
        for l in 0..math::LANES {
            let e = c[l] - mean;
            acc[l] = e.mul_add(e, acc[l]);
        }
    }
    let mut var = math::fold(acc);
    for v in chunks.remainder() {
        var += (v - mean) * (v - mean);
    }
    (mean, 1.0 / (var / d + eps).sqrt())
}

/// The two row sums of the backward pass: of `dy g` (zero unless centred) and of `dy g xhat`, where `g = offset + w`.
#[inline(always)]
fn back_sums(x: &[f32], w: &[f32], dy: &[f32], (mean, rstd): (f32, f32), offset: f32, centre: bool) -> (f32, f32) {
    const L: usize = math::LANES;
    let (mut plain, mut along) = ([0f32; L], [0f32; L]);
    let whole = x.len() / L * L;
    for ((x, w), dy) in x[..whole].chunks_exact(L).zip(w[..whole].chunks_exact(L)).zip(dy[..whole].chunks_exact(L)) {
        for l in 0..L {
            let g = dy[l] * (w[l] + offset);
            if centre {
                plain[l] += g;
            }
            along[l] = g.mul_add(x[l] - mean, along[l]);
        }
    }
    let (mut plain, mut along) = (math::fold(plain), math::fold(along));
    for i in whole..x.len() {
        let g = dy[i] * (w[i] + offset);
        if centre {
            plain += g;
        }
        along = g.mul_add(x[i] - mean, along);
    }
    (plain, along * rstd)
}

fn norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32, offset: f32, centre: bool) -> Tensor {
    let d = x.shape().width();
    let rows = x.shape().rows();
    assert_eq!(weight.len(), d, "a norm weight {:?} for {:?}", weight.shape(), x.shape());
    if let Some(b) = bias {
        assert_eq!(b.len(), d, "a norm bias {:?} for {:?}", b.shape(), x.shape());
    }
    let edges = [x.edge(), weight.edge(), bias.map_or(crate::Edge::none(), Tensor::edge)];
    let record = recording(&edges);
    let mut y = Buf::scratch(x.len());
    let mut saved = Buf::scratch(rows * 2);
    let stats = SendPtr(saved.as_mut_ptr());
    let (xs, w, b) = (x.data(), weight.data(), bias.map(Tensor::data));
    par::rows_mut(&mut y, d, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                for (i, y) in y.chunks_exact_mut(d).enumerate() {
                    let r = first + i;
                    let x = &xs[r * d..(r + 1) * d];
                    let (mean, rstd) = moments(x, eps, centre);
                    // SAFETY: a row's own two values.
                    unsafe { stats.slice(2 * r, 2) }.copy_from_slice(&[mean, rstd]);
                    for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                        *y = (x - mean) * rstd * (w + offset);
                    }
                    if let Some(b) = b {
                        for (y, b) in y.iter_mut().zip(b) {
                            *y += *b;
                        }
                    }
                }
            },
        )
    });
    let (x_data, w_data) = (x.data.clone(), weight.data.clone());
    Tensor::from_op(y, x.shape(), record, move |mut dy, grads| {
        let [xe, we, be] = &edges;
        let block = block_rows(rows, d);
        let blocks = rows.div_ceil(block);
        let (want_w, want_b) = (grads.wants(we), grads.wants(be));
        // Partial sums: a row of each block for the weight, and one for the bias.
        let mut partial = Buf::zeros(if want_w || want_b { 2 * blocks * d } else { 0 });
        let mut into = grads.take(xe);
        let target = into.as_mut().map(|(buf, acc)| if *acc { Some(SendPtr(buf.as_mut_ptr())) } else { None });
        let (dyp, part) = (SendPtr(dy.as_mut_ptr()), SendPtr(partial.as_mut_ptr()));
        let (xs, w, saved) = (&x_data[..], &w_data[..], &saved[..]);
        par::blocks(rows, block, rows * d, |bi, range| {
            vectorize(
                #[inline(always)]
                || {
                    for r in range {
                        let x = &xs[r * d..(r + 1) * d];
                        // SAFETY: blocks are disjoint ranges of rows, and each has its own partial sums.
                        let dy = unsafe { dyp.slice(r * d, d) };
                        let (mean, rstd) = (saved[2 * r], saved[2 * r + 1]);
                        if want_w {
                            let part = unsafe { part.slice(2 * bi * d, d) };
                            for ((p, x), dy) in part.iter_mut().zip(x).zip(&*dy) {
                                *p = ((x - mean) * rstd).mul_add(*dy, *p);
                            }
                        }
                        if want_b {
                            let part = unsafe { part.slice((2 * bi + 1) * d, d) };
                            for (p, dy) in part.iter_mut().zip(&*dy) {
                                *p += *dy;
                            }
                        }
                        let Some(target) = target else { continue };
                        let (plain, along) = back_sums(x, w, dy, (mean, rstd), offset, centre);
                        let (shift, slope) = (plain * rstd / d as f32, along * rstd * rstd / d as f32);
                        match target {
                            None => {
                                for ((dy, x), w) in dy.iter_mut().zip(x).zip(w) {
                                    *dy = (*dy * (w + offset)).mul_add(rstd, -slope.mul_add(x - mean, shift));
                                }
                            }
                            Some(dx) => {
                                let dx = unsafe { dx.slice(r * d, d) };
                                for (((dx, dy), x), w) in dx.iter_mut().zip(&*dy).zip(x).zip(w) {
                                    *dx += (*dy * (w + offset)).mul_add(rstd, -slope.mul_add(x - mean, shift));
                                }
                            }
                        }
                    }
                },
            )
        });
        for (edge, which) in [(we, 0), (be, 1)] {
            grads.with(edge, |dw, acc| gather_blocks(&partial, 2 * d, which * d, dw, acc));
        }
        match into {
            Some((dx, true)) => grads.put(xe, dx),
            Some((_, false)) => grads.put(xe, dy),
            None => {}
        }
    })
}

/// Adds up the blocks' partial sums in order.
fn gather_blocks(partial: &[f32], stride: usize, at: usize, out: &mut [f32], accumulate: bool) {
    if !accumulate {
        out.fill(0.0);
    }
    vectorize(
        #[inline(always)]
        || {
            for part in partial.chunks_exact(stride.max(1)) {
                for (o, p) in out.iter_mut().zip(&part[at..]) {
                    *o += *p;
                }
            }
        },
    )
}

/// RMSNorm of each head in packed rows `[rows, width]`: a span is (first column, heads, weight `[head_dim]`). Columns outside
/// the spans pass through. Works in place where nobody else holds `x`.
pub fn head_norm(x: Tensor, spans: &[(usize, usize, &Tensor)], head_dim: usize, eps: f32, offset: f32) -> Tensor {
    let (shape, xe) = (x.shape(), x.edge());
    let (width, rows, hd) = (shape.width(), shape.rows(), head_dim);
    for (first, heads, w) in spans {
        assert!(first + heads * hd <= width, "{heads} heads of {hd} from column {first} in rows of {width}");
        assert_eq!(w.len(), hd, "a head norm weight {:?} for heads of {hd}", w.shape());
    }
    let edges: Vec<_> = spans.iter().map(|s| s.2.edge()).collect();
    let record = recording(edges.iter().chain([&xe]));
    let layout: Arc<[(usize, usize)]> = spans.iter().map(|s| (s.0, s.1)).collect();
    let weights: Vec<Arc<Buf>> = spans.iter().map(|s| s.2.data.clone()).collect();
    let heads: usize = layout.iter().map(|s| s.1).sum();
    let mut y = x.into_buf();
    // What backward needs of the input: the normed columns and a reciprocal deviation a head.
    let mut kept = Buf::scratch(if record { rows * heads * hd } else { 0 });
    let mut stats = Buf::scratch(if record { rows * heads } else { 0 });
    let (keptp, statp) = (SendPtr(kept.as_mut_ptr()), SendPtr(stats.as_mut_ptr()));
    par::rows_mut(&mut y, width, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                for (i, y) in y.chunks_exact_mut(width).enumerate() {
                    let mut slot = (first + i) * heads;
                    for ((at, n), w) in layout.iter().zip(&weights) {
                        for y in y[*at..*at + n * hd].chunks_exact_mut(hd) {
                            let (_, rstd) = moments(y, eps, false);
                            if record {
                                // SAFETY: a head's own slot.
                                unsafe {
                                    keptp.slice(slot * hd, hd).copy_from_slice(y);
                                    *statp.at(slot) = rstd;
                                }
                            }
                            for (y, w) in y.iter_mut().zip(w.iter()) {
                                *y = *y * rstd * (w + offset);
                            }
                            slot += 1;
                        }
                    }
                }
            },
        )
    });
    Tensor::from_op(y, shape, record, move |mut dy, grads| {
        let block = block_rows(rows, width);
        let want: Vec<bool> = edges.iter().map(|e| grads.wants(e)).collect();
        let want_x = grads.wants(&xe);
        let mut partial = Buf::zeros(rows.div_ceil(block) * layout.len() * hd);
        let (dyp, part) = (SendPtr(dy.as_mut_ptr()), SendPtr(partial.as_mut_ptr()));
        par::blocks(rows, block, rows * width, |bi, range| {
            vectorize(
                #[inline(always)]
                || {
                    for r in range {
                        // SAFETY: blocks are disjoint ranges of rows, and each has its own partial sums.
                        let dy = unsafe { dyp.slice(r * width, width) };
                        let mut slot = r * heads;
                        for (si, ((at, n), w)) in layout.iter().zip(&weights).enumerate() {
                            let part = unsafe { part.slice((bi * layout.len() + si) * hd, hd) };
                            for dy in dy[*at..*at + n * hd].chunks_exact_mut(hd) {
                                let (x, rstd) = (&kept[slot * hd..(slot + 1) * hd], stats[slot]);
                                slot += 1;
                                if want[si] {
                                    for ((p, x), dy) in part.iter_mut().zip(x).zip(&*dy) {
                                        *p = (x * rstd).mul_add(*dy, *p);
                                    }
                                }
                                if want_x {
                                    let (_, along) = back_sums(x, w, dy, (0.0, rstd), offset, false);
                                    let slope = along * rstd * rstd / hd as f32;
                                    for ((dy, x), w) in dy.iter_mut().zip(x).zip(w.iter()) {
                                        *dy = (*dy * (w + offset)).mul_add(rstd, -slope * x);
                                    }
                                }
                            }
                        }
                    }
                },
            )
        });
        for (si, edge) in edges.iter().enumerate() {
            grads.with(edge, |dw, acc| gather_blocks(&partial, layout.len() * hd, si * hd, dw, acc));
        }
        grads.put(&xe, dy);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    fn plain(x: &[f64], w: &[f64], b: Option<&[f64]>, eps: f64, offset: f64, centre: bool) -> Vec<f64> {
        let d = w.len();
        x.chunks(d)
            .flat_map(|x| {
                let mean = if centre { x.iter().sum::<f64>() / d as f64 } else { 0.0 };
                let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
                let s = 1.0 / (var + eps).sqrt();
                (0..d).map(|i| (x[i] - mean) * s * (w[i] + offset) + b.map_or(0.0, |b| b[i])).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn norms_and_their_gradients() {
        let mut s = Stream::new(1, &["norm"]);
        for (rows, d) in [(1, 1), (3, 5), (2, 64), (37, 33), (0, 4)] {
            let t = [random(&mut s, &[rows, d]), random(&mut s, &[d]), random(&mut s, &[d])];
            check(
                "rms_norm",
                &t[..2],
                1e-5,
                |t| rms_norm(&t[0], &t[1], 1e-2, 1.0),
                |x| plain(&x[0], &x[1], None, 0.01f32 as f64, 1.0, false),
            );
            check(
                "layer_norm",
                &t,
                1e-5,
                |t| layer_norm(&t[0], &t[1], Some(&t[2]), 1e-2),
                |x| plain(&x[0], &x[1], Some(&x[2]), 0.01f32 as f64, 0.0, true),
            );
        }
    }

    #[test]
    fn a_gradient_joins_one_that_is_there() {
        let mut s = Stream::new(2, &["norm"]);
        let t = [random(&mut s, &[4, 8]), random(&mut s, &[8])];
        // The first norm's gradient is added to that of the second by way of the shared input.
        check(
            "rms_norm twice",
            &t,
            1e-5,
            |t| {
                let a = rms_norm(&t[0], &t[1], 1e-2, 0.0);
                let b = rms_norm(&a, &t[1], 1e-2, 0.0);
                crate::ops::linear_cat(&b, &[&eye(8)], &[None], Some(a))
            },
            |x| {
                let a = plain(&x[0], &x[1], None, 0.01f32 as f64, 0.0, false);
                let b = plain(&a, &x[1], None, 0.01f32 as f64, 0.0, false);
                a.iter().zip(&b).map(|(a, b)| a + b).collect()
            },
        );
    }

    fn eye(n: usize) -> Tensor {
        Tensor::new((0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect(), &[n, n])
    }

    #[test]
    fn heads_are_normed_in_their_spans_only() {
        let mut s = Stream::new(3, &["norm"]);
        for (rows, hd) in [(1, 2), (5, 6), (19, 32)] {
            let (q, k, width) = (3, 2, 7 * hd);
            let t = [random(&mut s, &[rows, width]), random(&mut s, &[hd]), random(&mut s, &[hd])];
            check(
                "head_norm",
                &t,
                1e-5,
                |t| head_norm(t[0].clone(), &[(0, q, &t[1]), (q * hd, k, &t[2])], hd, 1e-2, 0.0),
                |x| {
                    let mut y = x[0].clone();
                    for row in y.chunks_mut(width) {
                        for (h, part) in row[..(q + k) * hd].chunks_mut(hd).enumerate() {
                            let w = if h < q { &x[1] } else { &x[2] };
                            part.copy_from_slice(&plain(part, w, None, 0.01f32 as f64, 0.0, false));
                        }
                    }
                    y
                },
            );
        }
    }

    #[test]
    fn an_unshared_buffer_is_reused() {
        let x = Tensor::full(2.0, &[3, 4]);
        let at = x.data().as_ptr();
        let y = head_norm(x, &[(0, 1, &Tensor::full(1.0, &[4]))], 4, 0.0, 0.0);
        assert_eq!(y.data().as_ptr(), at);
        assert!(y.data().iter().all(|v| (*v - 1.0).abs() < 1e-6));
    }
}
