//! Attention of single queries to the keys and values of their sequence's cache, for decoding.
//!
//! The bits of a row's result depend on its own query and cache alone: scores are sums in the order of
//! [`crate::ops::row_linear`], the softmax runs over the row's own keys, and values are added in the order of positions.

use super::attention::{AttnSpec, with_scratch};
use super::row_linear::products;
use crate::math;
use crate::par::{self, SendPtr};
use crate::simd::{self, vectorize};
use crate::{Buf, Shape, Tensor, recording};

/// Keys and values of one sequence, each `[len, kv_heads * head_dim]`, keys already rotated.
#[derive(Clone, Copy, Debug)]
pub struct CacheView<'a> {
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub len: usize,
}

/// Attention of `q [rows, heads * head_dim]` (rotated): row `r` is at (cache, position) `row_of[r]` and sees keys
/// `0..=position` of that cache, or the window's. No gradient: panics where one would be lost.
pub fn cached_attention(q: &Tensor, spec: &AttnSpec, views: &[CacheView], row_of: &[(usize, usize)]) -> Tensor {
    let (rows, hd, kv_heads) = (q.shape().rows(), spec.head_dim, spec.kv_heads);
    assert!(!recording([&q.edge()]), "cached attention has no gradient: call it under no_grad");
    assert_eq!(q.shape().width(), spec.heads * hd, "queries {:?} for {spec:?}", q.shape());
    assert!(kv_heads > 0 && spec.heads.is_multiple_of(kv_heads), "{spec:?}: heads do not share evenly");
    assert_eq!(row_of.len(), rows, "{} places for {rows} rows", row_of.len());
    let width = kv_heads * hd;
    for view in views {
        let fits = view.k.len() >= view.len * width && view.v.len() >= view.len * width;
        assert!(fits, "a cache of {} positions in {} and {} values", view.len, view.k.len(), view.v.len());
    }
    for (cache, position) in row_of {
        assert!(*position < views[*cache].len, "position {position} in a cache of {}", views[*cache].len);
    }
    let group = spec.heads / kv_heads;
    let mut y = Buf::scratch(q.len());
    let (yp, level, queries) = (SendPtr(y.as_mut_ptr()), simd::level(), q.data());
    let work = row_of.iter().map(|r| (r.1 + 1) * spec.heads * hd / 4).sum();
    par::parts(rows * kv_heads, work, |i| {
        let (r, kv) = (i / kv_heads, i % kv_heads);
        let (view, position) = (views[row_of[r].0], row_of[r].1);
        let first = spec.first_key(position);
        let n = position + 1 - first;
        let at = (r * spec.heads + kv * group) * hd;
        let base = first * width + kv * hd;
        with_scratch(group * n, |s| {
            let sp = SendPtr(s.as_mut_ptr());
            // SAFETY: lengths were checked; every (row, key-value head) has its own part of the result.
            unsafe {
                let x = (queries.as_ptr().add(at), hd, group);
                products(level, x, (view.k.as_ptr().add(base), width, n), hd, |g, j, v| *sp.at(g * n + j) = v);
            }
            vectorize(
                #[inline(always)]
                || {
                    for (g, row) in s.chunks_exact_mut(n).enumerate() {
                        let mut scale = spec.scale;
                        if let Some(cap) = spec.softcap {
                            row.iter_mut().for_each(|x| *x = cap * math::tanh(*x * scale / cap));
                            scale = 1.0;
                        }
                        let max = math::max(row) * scale;
                        let inv = 1.0 / math::exp_sum(row, scale, max);
                        // SAFETY: as above.
                        let out = unsafe { yp.slice(at + g * hd, hd) };
                        weigh(out, row, &view.v[base..], width, inv);
                    }
                },
            );
        });
    });
    Tensor::constant(y, Shape::new(&[rows, spec.heads * hd]))
}

/// `out = factor * sum_j p[j] v[j]`, rows of `v` `stride` apart, in the order of `j`, columns in register-sized pieces.
#[inline(always)]
fn weigh(out: &mut [f32], p: &[f32], v: &[f32], stride: usize, factor: f32) {
    const W: usize = 64;
    let whole = out.len() / W * W;
    for c in (0..whole).step_by(W) {
        piece::<W>(&mut out[c..c + W], p, &v[c..], stride, factor);
    }
    let mut c = whole;
    while c + 16 <= out.len() {
        piece::<16>(&mut out[c..c + 16], p, &v[c..], stride, factor);
        c += 16;
    }
    for c in c..out.len() {
        piece::<1>(&mut out[c..c + 1], p, &v[c..], stride, factor);
    }
}

#[inline(always)]
fn piece<const W: usize>(out: &mut [f32], p: &[f32], v: &[f32], stride: usize, factor: f32) {
    let mut acc = [0f32; W];
    for (j, p) in p.iter().enumerate() {
        let v: &[f32; W] = v[j * stride..j * stride + W].try_into().expect("a piece of a row");
        for l in 0..W {
            acc[l] = p.mul_add(v[l], acc[l]);
        }
    }
    for (o, a) in out.iter_mut().zip(acc) {
        *o = a * factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention;
    use crate::reference::{random, worst};
    use postgrad_base::Stream;

    /// Packed rows of one sequence cut into queries and a cache.
    fn cut(packed: &Tensor, s: &AttnSpec) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (h, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let take = |from: usize, n: usize| -> Vec<f32> {
            packed.data().chunks(s.width()).flat_map(|r| r[from..from + n].to_vec()).collect()
        };
        (take(0, h), take(h, kv), take(h + kv, kv))
    }

    #[test]
    fn agrees_with_attention_over_whole_runs_and_rows_do_not_see_each_other() {
        let mut stream = Stream::new(1, &["cached"]);
        for (heads, kv_heads, head_dim, window, softcap) in
            [(1, 1, 1, None, None), (6, 2, 21, None, None), (3, 1, 80, Some(5), None), (4, 4, 32, Some(100), Some(2.0))]
        {
            let s = AttnSpec { heads, kv_heads, head_dim, scale: 0.3, window, softcap };
            let lens = [9usize, 1, 33];
            let packed: Vec<Tensor> = lens.iter().map(|n| random(&mut stream, &[*n, s.width()])).collect();
            let cuts: Vec<_> = packed.iter().map(|p| cut(p, &s)).collect();
            let views: Vec<CacheView> =
                cuts.iter().zip(&lens).map(|((_, k, v), n)| CacheView { k, v, len: *n }).collect();
            let places: Vec<(usize, usize)> =
                lens.iter().enumerate().flat_map(|(c, n)| (0..*n).map(move |p| (c, p))).collect();
            let width = heads * head_dim;
            let q: Vec<f32> = cuts.iter().flat_map(|c| c.0.clone()).collect();
            for level in simd::available() {
                simd::with_level(level, || {
                    let run = |from: usize, rows: usize| {
                        let q = Tensor::from_slice(&q[from * width..(from + rows) * width], &[rows, width]);
                        cached_attention(&q, &s, &views, &places[from..from + rows])
                    };
                    let all = run(0, 43);
                    let want: Vec<f64> = packed
                        .iter()
                        .zip(&lens)
                        .flat_map(|(p, n)| attention(p, &s, &vec![(0, *n)].into()).data().to_vec())
                        .map(|x| x as f64)
                        .collect();
                    assert!(worst(all.data(), &want) < 1e-5);
                    for (from, rows) in [(0, 1), (42, 1), (5, 12), (0, 0)] {
                        assert_eq!(run(from, rows).data(), &all.data()[from * width..(from + rows) * width]);
                    }
                });
            }
        }
    }
}
