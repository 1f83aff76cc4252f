//! Attention with the pattern as a tensor: for any mask, for keys that are not the queries' own (prefixes, encoders), and for
//! hooks that read, replace or take gradients of the pattern. Three operations that compose: scores, masked softmax, and the
//! pattern applied to the values. Decoders without such wishes take [`crate::ops::attention`].

use std::sync::Arc;

use crate::gemm::sequential;
use crate::math;
use crate::par::{self, SendPtr};
use crate::simd::{self, vectorize};
use crate::{Buf, Edge, Shape, Tensor, recording};

/// Which keys a query sees.
#[derive(Clone, Debug)]
pub enum Mask {
    /// All of them.
    None,
    /// Query `i` sees keys `j <= i + offset`; with past keys the offset is their number.
    Causal { offset: usize },
    /// Added to the scores, `[b or 1, h or 1, tq, tk]`; negative infinity hides a key. It may need a gradient.
    Custom(Tensor),
}

/// Sizes of one product of queries and keys.
#[derive(Clone, Copy)]
struct Dims {
    b: usize,
    tq: usize,
    tk: usize,
    heads: usize,
    kv_heads: usize,
    d: usize,
}

impl Dims {
    fn of(b_tq_h_d: &[usize], kv: &Tensor, what: &str) -> Self {
        let &[b, tq, heads, d] = b_tq_h_d else { panic!("queries {b_tq_h_d:?} have not four dimensions") };
        let &[kb, tk, kv_heads, kd] = kv.dims() else { panic!("{what} {:?} have not four dimensions", kv.shape()) };
        assert!(kb == b && kd == d, "{what} {:?} for queries {b_tq_h_d:?}", kv.shape());
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "{heads} heads do not share {kv_heads} evenly");
        Self { b, tq, tk, heads, kv_heads, d }
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Offsets of (batch, head) in queries, keys and scores.
    fn at(&self, b: usize, h: usize) -> (usize, usize, usize) {
        let kv = h / self.group();
        (
            b * self.tq * self.heads * self.d + h * self.d,
            b * self.tk * self.kv_heads * self.d + kv * self.d,
            (b * self.heads + h) * self.tq * self.tk,
        )
    }

    /// Row strides of queries and of keys.
    fn strides(&self) -> (usize, usize) {
        (self.heads * self.d, self.kv_heads * self.d)
    }

    fn work(&self) -> usize {
        self.b * self.heads * self.tq * self.tk * 4
    }

    fn pattern(&self) -> Shape {
        Shape::new(&[self.b, self.heads, self.tq, self.tk])
    }

    /// `f(b, h)` for every head, in parallel; with `grouped`, the heads that share keys come one after another.
    fn for_heads(&self, grouped: bool, f: impl Fn(usize, usize, usize) + Sync) {
        let step = if grouped { self.group() } else { 1 };
        let per = self.heads / step.max(1);
        par::parts(self.b * per, self.work(), |i| {
            let (b, first) = (i / per, i % per * step);
            (0..step).for_each(|g| f(b, first + g, g));
        });
    }
}

/// Attention of queries `[b, tq, h, d]` to keys and values `[b, tk, kv_h, d]`: the result `[b, tq, h, d]` and the pattern
/// `[b, h, tq, tk]`, both on the tape. A query that sees no key has a pattern and a result of zeros.
pub fn masked_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f32,
    softcap: Option<f32>,
    mask: &Mask,
) -> (Tensor, Tensor) {
    let pattern = masked_softmax(attention_scores(q, k, scale, softcap), mask);
    (attention_apply(&pattern, v), pattern)
}

/// `scale q k'`, capped to `softcap * tanh(score / softcap)`: `[b, h, tq, tk]`.
pub fn attention_scores(q: &Tensor, k: &Tensor, scale: f32, softcap: Option<f32>) -> Tensor {
    let dims = Dims::of(q.dims(), k, "keys");
    let mut s = Buf::scratch(dims.pattern().len());
    let (sp, level) = (SendPtr(s.as_mut_ptr()), simd::level());
    let (qs, ks) = dims.strides();
    let (qd, kd) = (q.data(), k.data());
    dims.for_heads(false, |b, h, _| {
        let (qa, ka, sa) = dims.at(b, h);
        if dims.tq * dims.tk == 0 {
            return;
        }
        let size = (dims.tq, dims.tk, dims.d);
        // SAFETY: heads have their own scores; offsets and strides are within the checked dimensions.
        unsafe {
            let (q, k) = (qd[qa..].as_ptr(), kd[ka..].as_ptr());
            sequential(level, size, sp.at(sa), dims.tk, false, q, (qs, 1), k, (1, ks), scale);
        }
    });
    if let Some(cap) = softcap {
        par::rows_mut(&mut s, 1, |_, s| {
            vectorize(
                #[inline(always)]
                || s.iter_mut().for_each(|s| *s = cap * math::tanh(*s / cap)),
            )
        });
    }
    let (qe, ke) = (q.edge(), k.edge());
    let record = recording([&qe, &ke]);
    let s = Arc::new(s);
    let capped = softcap.map(|cap| (cap, s.clone()));
    let keep_q = ke.is_some().then(|| q.data.clone());
    let keep_k = qe.is_some().then(|| k.data.clone());
    Tensor::from_op_shared(s, dims.pattern(), record, move |mut ds, grads| {
        let level = simd::level();
        if let Some((cap, s)) = &capped {
            par::rows_mut(&mut ds, 1, |first, ds| {
                vectorize(
                    #[inline(always)]
                    || {
                        for (ds, s) in ds.iter_mut().zip(&s[first..]) {
                            let t = s / cap;
                            *ds *= 1.0 - t * t;
                        }
                    },
                )
            });
        }
        if let Some(k) = &keep_k {
            grads.with(&qe, |dq, acc| unsafe {
                against_keys(dims, level, &ds, k, dq, acc, scale);
            });
        }
        if let Some(q) = &keep_q {
            grads.with(&ke, |dk, acc| unsafe {
                against_queries(dims, level, &ds, q, dk, acc, scale);
            });
        }
    })
}

/// `out[b, tq, h, d] (+)= alpha p k` for `p [b, h, tq, tk]` and `k [b, tk, kv_h, d]`.
///
/// # Safety
/// The slices must have these dimensions.
unsafe fn against_keys(
    dims: Dims,
    level: simd::Level,
    p: &[f32],
    k: &[f32],
    out: &mut [f32],
    accumulate: bool,
    alpha: f32,
) {
    let (op, (qs, ks)) = (SendPtr(out.as_mut_ptr()), dims.strides());
    dims.for_heads(false, |b, h, _| {
        let (qa, ka, sa) = dims.at(b, h);
        if dims.tq == 0 {
            return;
        }
        let size = (dims.tq, dims.d, dims.tk);
        unsafe {
            let (p, k) = (p.as_ptr().add(sa), k.as_ptr().add(ka));
            sequential(level, size, op.at(qa), qs, accumulate, p, (dims.tk, 1), k, (ks, 1), alpha);
        }
    });
}

/// `out[b, tk, kv_h, d] (+)= alpha p' q`, summed over the query heads of a key head in order.
///
/// # Safety
/// The slices must have these dimensions.
unsafe fn against_queries(
    dims: Dims,
    level: simd::Level,
    p: &[f32],
    q: &[f32],
    out: &mut [f32],
    accumulate: bool,
    alpha: f32,
) {
    let (op, (qs, ks)) = (SendPtr(out.as_mut_ptr()), dims.strides());
    dims.for_heads(true, |b, h, nth| {
        let (qa, ka, sa) = dims.at(b, h);
        if dims.tk == 0 {
            return;
        }
        let size = (dims.tk, dims.d, dims.tq);
        unsafe {
            let (p, q) = (p.as_ptr().add(sa), q.as_ptr().add(qa));
            sequential(level, size, op.at(ka), ks, accumulate || nth > 0, p, (1, dims.tk), q, (qs, 1), alpha);
        }
    });
}

/// The softmax over keys of scores `[b, h, tq, tk]` under a mask. Works in place where nobody else holds the scores.
pub fn masked_softmax(scores: Tensor, mask: &Mask) -> Tensor {
    let shape = scores.shape();
    let &[b, h, tq, tk] = shape.dims() else { panic!("scores {shape:?} have not four dimensions") };
    let custom = match mask {
        Mask::Custom(m) => {
            let fits = matches!(m.dims(), [mb, mh, mq, mk] if (*mb == b || *mb == 1) && (*mh == h || *mh == 1) && *mq == tq && *mk == tk);
            assert!(fits, "a mask {:?} for scores {shape:?}", m.shape());
            Some(m)
        }
        _ => None,
    };
    // The mask's row of a score's row.
    let (mb, mh) = custom.map_or((1, 1), |m| (m.dim(0), m.dim(1)));
    let mask_row = move |r: usize| {
        let (bi, hi, i) = (r / (h * tq), r / tq % h, r % tq);
        ((if mb == 1 { 0 } else { bi }) * mh + if mh == 1 { 0 } else { hi }) * tq + i
    };
    let seen = match mask {
        Mask::Causal { offset } => *offset,
        _ => tk,
    };
    let (se, me) = (scores.edge(), custom.map_or(Edge::none(), Tensor::edge));
    let record = recording([&se, &me]);
    let mut p = scores.into_buf();
    par::rows_mut(&mut p, tk, |first, rows| {
        vectorize(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(tk).enumerate() {
                    let r = first + i;
                    if let Some(m) = custom {
                        let at = mask_row(r) * tk;
                        row.iter_mut().zip(&m.data()[at..at + tk]).for_each(|(s, m)| *s += m);
                    }
                    let (row, hidden) = row.split_at_mut((seen + r % tq + 1).min(tk));
                    hidden.fill(0.0);
                    softmax_row(row);
                }
            },
        )
    });
    let p = Arc::new(p);
    let kept = p.clone();
    Tensor::from_op_shared(p, shape, record, move |mut dy, grads| {
        par::rows_mut(&mut dy, tk, |first, rows| {
            vectorize(
                #[inline(always)]
                || {
                    for (i, dy) in rows.chunks_exact_mut(tk).enumerate() {
                        let p = &kept[(first + i) * tk..(first + i + 1) * tk];
                        let along = math::dot(p, dy);
                        dy.iter_mut().zip(p).for_each(|(dy, p)| *dy = p * (*dy - along));
                    }
                },
            )
        });
        grads.with(&me, |dm, acc| {
            if !acc {
                dm.fill(0.0);
            }
            // Rows of the scores that share a row of the mask come in order.
            for (r, dy) in dy.chunks_exact(tk.max(1)).enumerate() {
                let at = mask_row(r) * tk;
                dm[at..at + tk].iter_mut().zip(dy).for_each(|(m, d)| *m += d);
            }
        });
        grads.put(&se, dy);
    })
}

/// The softmax of one row; zeros where the row holds nothing but negative infinity.
#[inline(always)]
fn softmax_row(row: &mut [f32]) {
    let max = math::max(row);
    if max == f32::NEG_INFINITY {
        row.fill(0.0);
        return;
    }
    // What is hidden must be an exact zero, which the clamped exponential is not.
    for s in row.iter_mut() {
        *s = if *s == f32::NEG_INFINITY { 0.0 } else { math::exp(*s - max) };
    }
    let inv = 1.0 / math::sum(row);
    row.iter_mut().for_each(|s| *s *= inv);
}

/// A pattern `[b, h, tq, tk]` applied to values `[b, tk, kv_h, d]`: `[b, tq, h, d]`.
pub fn attention_apply(pattern: &Tensor, v: &Tensor) -> Tensor {
    let &[b, h, tq, tk] = pattern.dims() else { panic!("a pattern {:?} has not four dimensions", pattern.shape()) };
    let dims = Dims::of(&[b, tq, h, *v.dims().last().unwrap_or(&0)], v, "values");
    assert_eq!(dims.tk, tk, "a pattern {:?} for values {:?}", pattern.shape(), v.shape());
    let shape = Shape::new(&[b, tq, h, dims.d]);
    let mut y = Buf::scratch(shape.len());
    // SAFETY: the dimensions were just checked.
    unsafe { against_keys(dims, simd::level(), pattern.data(), v.data(), &mut y, false, 1.0) };
    let (pe, ve) = (pattern.edge(), v.edge());
    let record = recording([&pe, &ve]);
    let keep_p = ve.is_some().then(|| pattern.data.clone());
    let keep_v = pe.is_some().then(|| v.data.clone());
    Tensor::from_op(y, shape, record, move |dy, grads| {
        let level = simd::level();
        if let Some(p) = &keep_p {
            // SAFETY: as above.
            grads.with(&ve, |dv, acc| unsafe { against_queries(dims, level, p, &dy, dv, acc, 1.0) });
        }
        let Some(v) = &keep_v else { return };
        grads.with(&pe, |dp, acc| {
            let (pp, (qs, ks)) = (SendPtr(dp.as_mut_ptr()), dims.strides());
            dims.for_heads(false, |b, h, _| {
                let (qa, ka, sa) = dims.at(b, h);
                if tq * tk == 0 {
                    return;
                }
                // SAFETY: heads have their own part of the pattern.
                unsafe {
                    let (dy, v) = (dy.as_ptr().add(qa), v.as_ptr().add(ka));
                    sequential(level, (tq, tk, dims.d), pp.at(sa), tk, acc, dy, (qs, 1), v, (1, ks), 1.0);
                }
            });
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{AttnSpec, attention};
    use crate::reference::{check, random, worst};
    use postgrad_base::Stream;

    const B: usize = 2;

    fn plain_scores(
        q: &[f64],
        k: &[f64],
        (tq, tk, h, kv, d): (usize, usize, usize, usize, usize),
        cap: bool,
    ) -> Vec<f64> {
        let mut s = vec![];
        for b in 0..B {
            for hi in 0..h {
                for i in 0..tq {
                    for j in 0..tk {
                        let dot: f64 = (0..d)
                            .map(|c| {
                                q[((b * tq + i) * h + hi) * d + c] * k[((b * tk + j) * kv + hi / (h / kv)) * d + c]
                            })
                            .sum();
                        s.push(if cap { 2.0 * (0.5 * dot / 2.0).tanh() } else { 0.5 * dot });
                    }
                }
            }
        }
        s
    }

    fn plain_softmax(s: &[f64], tk: usize, see: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let mut p = vec![];
        for (r, row) in s.chunks(tk).enumerate() {
            let e: Vec<f64> = row.iter().enumerate().map(|(j, s)| (s + see(r, j)).exp()).collect();
            let sum: f64 = e.iter().sum();
            p.extend(e.iter().map(|e| if sum == 0.0 { 0.0 } else { e / sum }));
        }
        p
    }

    fn plain_apply(p: &[f64], v: &[f64], (tq, tk, h, kv, d): (usize, usize, usize, usize, usize)) -> Vec<f64> {
        let mut y = vec![0.0; B * tq * h * d];
        for b in 0..B {
            for hi in 0..h {
                for i in 0..tq {
                    for j in 0..tk {
                        for c in 0..d {
                            y[((b * tq + i) * h + hi) * d + c] +=
                                p[((b * h + hi) * tq + i) * tk + j] * v[((b * tk + j) * kv + hi / (h / kv)) * d + c];
                        }
                    }
                }
            }
        }
        y
    }

    #[test]
    fn scores_and_apply() {
        let mut s = Stream::new(1, &["masked"]);
        for n in [(1, 1, 1, 1, 1), (3, 5, 4, 2, 3), (4, 2, 3, 1, 17), (0, 3, 2, 1, 2), (3, 0, 2, 1, 2)] {
            let (tq, tk, h, kv, d) = n;
            let qk = [random(&mut s, &[B, tq, h, d]), random(&mut s, &[B, tk, kv, d])];
            for cap in [false, true] {
                let run = |t: &[Tensor]| attention_scores(&t[0], &t[1], 0.5, cap.then_some(2.0));
                check("attention_scores", &qk, 1e-5, run, |x| plain_scores(&x[0], &x[1], n, cap));
            }
            let pv = [random(&mut s, &[B, h, tq, tk]), random(&mut s, &[B, tk, kv, d])];
            check("attention_apply", &pv, 1e-5, |t| attention_apply(&t[0], &t[1]), |x| plain_apply(&x[0], &x[1], n));
        }
    }

    #[test]
    fn softmax_under_each_mask() {
        let mut s = Stream::new(2, &["masked"]);
        let (h, tq, tk) = (3, 4, 6);
        let scores = random(&mut s, &[B, h, tq, tk]);
        check(
            "no mask",
            std::slice::from_ref(&scores),
            1e-5,
            |t| masked_softmax(t[0].clone(), &Mask::None),
            |x| plain_softmax(&x[0], tk, |_, _| 0.0),
        );
        for offset in [0, 2, 9] {
            check(
                "causal",
                std::slice::from_ref(&scores),
                1e-5,
                |t| masked_softmax(t[0].clone(), &Mask::Causal { offset }),
                |x| plain_softmax(&x[0], tk, |r, j| if j <= r % tq + offset { 0.0 } else { f64::NEG_INFINITY }),
            );
        }
        for (mb, mh) in [(1, 1), (B, 1), (1, h), (B, h)] {
            let mask = random(&mut s, &[mb, mh, tq, tk]);
            let at = |r: usize| {
                let (b, hi, i) = (r / (h * tq), r / tq % h, r % tq);
                ((b % mb) * mh + hi % mh) * tq + i
            };
            check(
                "custom",
                &[scores.clone(), mask],
                1e-5,
                |t| masked_softmax(t[0].clone(), &Mask::Custom(t[1].clone())),
                |x| plain_softmax(&x[0], tk, |r, j| x[1][at(r) * tk + j]),
            );
        }
        // Hidden keys are exact zeros; a row that sees nothing is zeros and lets no gradient through.
        let mut hide = vec![0.0; tq * tk];
        hide[..tk].fill(f32::NEG_INFINITY);
        hide[tk + 1] = f32::NEG_INFINITY;
        let mask = Mask::Custom(Tensor::new(hide.clone(), &[1, 1, tq, tk]));
        check(
            "hidden",
            &[scores],
            1e-5,
            |t| masked_softmax(t[0].clone(), &mask),
            |x| plain_softmax(&x[0], tk, |r, j| hide[r % tq * tk + j] as f64),
        );
    }

    #[test]
    fn the_pattern_takes_gradients_and_the_fused_operation_agrees() {
        let mut s = Stream::new(3, &["masked"]);
        let (t, h, kv, d) = (7, 4, 2, 5);
        let packed = random(&mut s, &[t, (h + 2 * kv) * d]);
        let spec = AttnSpec { heads: h, kv_heads: kv, head_dim: d, scale: 0.5, window: None, softcap: Some(2.0) };
        let fused = attention(&packed, &spec, &vec![(0, t)].into());
        let cols = |from: usize, n: usize| {
            let all: Vec<f32> =
                packed.data().chunks((h + 2 * kv) * d).flat_map(|r| r[from * d..(from + n) * d].to_vec()).collect();
            Tensor::new(all, &[1, t, n, d])
        };
        let (q, k, v) = (cols(0, h).input(), cols(h, kv), cols(h + kv, kv));
        let (y, pattern) = masked_attention(&q, &k, &v, 0.5, Some(2.0), &Mask::Causal { offset: 0 });
        let want: Vec<f64> = fused.data().iter().map(|x| *x as f64).collect();
        assert!(worst(y.data(), &want) < 1e-5);
        let grads = crate::gradients(&y, &[&pattern, &q]);
        assert!(grads.iter().all(Option::is_some));
        let sums: Vec<f32> = v.data().chunks(d).map(|v| v.iter().sum()).collect();
        assert!((grads[0].as_ref().unwrap().data()[1] - sums[kv]).abs() < 1e-5);
    }
}
