//! From hidden states to losses without the matrix of all logits.
//!
//! The output head is by far the widest product of a decoder: its logits are made for a chunk of rows at a time, used, and
//! forgotten. [`cross_entropy`] turns each chunk into gradients on the spot; [`log_probs`] and [`head_chunks`] compute the
//! chunk again on the way back.

use std::ops::Range;
use std::sync::Arc;

use crate::gemm::{Mat, product};
use crate::math;
use crate::par::{self, SendPtr};
use crate::simd::vectorize;
use crate::tape::{self, gradients_from};
use crate::{Buf, Edge, Shape, Tensor, no_grad, recording};

/// Logits of a chunk are at most about this many values; few in tests, which are to cross chunks.
const CHUNK: usize = if cfg!(test) { 1 << 9 } else { 1 << 24 };

/// Rows per chunk: even chunks within the bound, by the shape alone.
fn chunk_rows(rows: usize, v: usize) -> usize {
    let most = (CHUNK / v.max(1)).clamp(16, 4096);
    let chunks = rows.div_ceil(most).max(1);
    rows.div_ceil(chunks).next_multiple_of(16)
}

fn chunks(rows: usize, v: usize) -> impl Iterator<Item = Range<usize>> {
    let step = chunk_rows(rows, v).max(1);
    (0..rows).step_by(step).map(move |r| r..(r + step).min(rows))
}

/// Logits `h [.., d]` times `w [v, d]`, whole: [`crate::ops::linear`] by the head's name.
pub fn logits(h: &Tensor, w: &Tensor) -> Tensor {
    super::linear(h, w, None)
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CeOptions {
    /// Logits become `cap * tanh(logit / cap)`.
    pub softcap: Option<f32>,
    /// Share of the target spread evenly over the vocabulary.
    pub smoothing: f32,
    /// Factor on the squared log-sum-exp of a row, added to its loss.
    pub z_loss: f32,
}

impl CeOptions {
    fn is_plain(&self) -> bool {
        self.softcap.is_none() && self.smoothing == 0.0 && self.z_loss == 0.0
    }
}

pub struct CeOut {
    /// `sum_i weights_i loss_i / normaliser`.
    pub loss: Tensor,
    /// Negative log-prob of each row's target (no smoothing, no z-loss, not differentiable); 0 in rows of weight 0.
    pub nll: Vec<f32>,
}

fn check_head(h: &Tensor, w: &Tensor, targets: &[u32]) -> (usize, usize, usize) {
    let (rows, d) = (h.shape().rows(), h.shape().width());
    assert!(w.dims().len() == 2 && w.dim(1) == d, "a head {:?} for hidden states {:?}", w.shape(), h.shape());
    assert_eq!(targets.len(), rows, "{} targets for {rows} rows", targets.len());
    (rows, d, w.dim(0))
}

fn check_target(t: u32, v: usize) {
    assert!((t as usize) < v, "target {t} is not in a vocabulary of {v}");
}

/// Weighted cross-entropy of the softmax of `h w'`: `h [rows, d]`, `w [v, d]`, one target and weight a row. Rows of weight 0
/// cost nothing, and their targets may be anything. Gradients are computed chunk by chunk in the forward pass, where they are
/// wanted, and handed over by backward.
pub fn cross_entropy(
    h: &Tensor,
    w: &Tensor,
    targets: &[u32],
    weights: &[f32],
    normaliser: f32,
    options: CeOptions,
) -> CeOut {
    let (rows, d, v) = check_head(h, w, targets);
    assert_eq!(weights.len(), rows, "{} weights for {rows} rows", weights.len());
    let live: Vec<usize> = (0..rows).filter(|r| weights[*r] != 0.0).collect();
    live.iter().for_each(|r| check_target(targets[*r], v));
    let (he, we) = (h.edge(), w.edge());
    let record = recording([&he, &we]);
    let all = live.len() == rows;
    let gathered = (!all).then(|| gather(h.data(), &live, d));
    let hidden: &[f32] = gathered.as_deref().unwrap_or(h.data());

    let n = live.len();
    let mut dh = (record && he.is_some()).then(|| Buf::scratch(n * d));
    let mut dw = (record && we.is_some()).then(|| Buf::scratch(v * d));
    let mut nll = vec![0f32; rows];
    let mut loss = 0f64;
    let most = chunk_rows(n, v).min(n);
    let mut z = Buf::scratch(most * v);
    let mut scaled = Buf::scratch(if dw.is_some() { most * d } else { 0 });
    let mut stats = vec![Row::default(); most];
    for range in chunks(n, v) {
        let m = range.len();
        let h = &hidden[range.start * d..range.end * d];
        product((m, v, d), &mut z, v, false, Mat::rows(h, d), Mat::cols(w.data(), d), 1.0);
        for (stat, i) in stats.iter_mut().zip(range.clone()) {
            let r = live[i];
            *stat = Row { target: targets[r], factor: weights[r] / normaliser, ..Row::default() };
        }
        rows_to_gradients(&mut z[..m * v], &mut stats[..m], v, options, record);
        for (stat, i) in stats[..m].iter().zip(range.clone()) {
            nll[live[i]] = stat.nll;
            loss += (stat.loss * weights[live[i]]) as f64;
        }
        if let Some(dh) = &mut dh {
            let dh = &mut dh[range.start * d..range.end * d];
            product((m, d, v), dh, d, false, Mat::rows(&z, v), Mat::rows(w.data(), d), 1.0);
            for (row, stat) in dh.chunks_exact_mut(d.max(1)).zip(&stats) {
                row.iter_mut().for_each(|x| *x *= stat.factor);
            }
        }
        if let Some(dw) = &mut dw {
            for ((to, from), stat) in scaled.chunks_exact_mut(d.max(1)).zip(h.chunks_exact(d.max(1))).zip(&stats[..m]) {
                to.iter_mut().zip(from).for_each(|(t, f)| *t = f * stat.factor);
            }
            product((v, d, m), dw, d, range.start > 0, Mat::cols(&z, v), Mat::rows(&scaled, d), 1.0);
        }
    }
    if let (0, Some(dw)) = (n, &mut dw) {
        dw.fill(0.0);
    }
    let mut out = Buf::scratch(1);
    out[0] = (loss / normaliser as f64) as f32;
    let loss = Tensor::from_op(out, Shape::new(&[]), record, move |dy, grads| {
        if let Some(mut dh) = dh {
            math::scale(&mut dh, dy[0]);
            if all {
                grads.put(&he, dh);
            } else {
                grads.with(&he, |to, accumulate| {
                    if !accumulate {
                        to.fill(0.0);
                    }
                    for (from, r) in dh.chunks_exact(d.max(1)).zip(&live) {
                        to[r * d..(r + 1) * d].iter_mut().zip(from).for_each(|(t, f)| *t += f);
                    }
                });
            }
        }
        if let Some(mut dw) = dw {
            math::scale(&mut dw, dy[0]);
            grads.put(&we, dw);
        }
    });
    CeOut { loss, nll }
}

fn gather(h: &[f32], rows: &[usize], d: usize) -> Buf {
    let mut out = Buf::scratch(rows.len() * d);
    for (to, r) in out.chunks_exact_mut(d.max(1)).zip(rows) {
        to.copy_from_slice(&h[r * d..(r + 1) * d]);
    }
    out
}

/// One row of a chunk on its way through the loss.
#[derive(Clone, Copy, Default)]
struct Row {
    target: u32,
    /// What the row of `z` is to be multiplied by to be the gradient.
    factor: f32,
    nll: f32,
    loss: f32,
}

/// Turns logits into gradients of the rows' losses, up to each row's factor, in place.
fn rows_to_gradients(z: &mut [f32], stats: &mut [Row], v: usize, options: CeOptions, record: bool) {
    let (zp, sp, work) = (SendPtr(z.as_mut_ptr()), SendPtr(stats.as_mut_ptr()), z.len());
    par::parts(stats.len(), work, |r| {
        // SAFETY: each part has its own row.
        let (row, stat) = unsafe { (zp.slice(r * v, v), &mut *sp.at(r)) };
        vectorize(
            #[inline(always)]
            || {
                if options.is_plain() {
                    plain_row(row, stat);
                } else {
                    general_row(row, stat, options, record);
                }
            },
        )
    });
}

/// Leaves `e^(z - max)`, less their sum at the target: the factor takes the division by the sum.
#[inline(always)]
fn plain_row(row: &mut [f32], stat: &mut Row) {
    let t = stat.target as usize;
    let (max, zt) = (math::max(row), row[t]);
    let sum = math::exp_sum(row, 1.0, max);
    row[t] -= sum;
    stat.nll = max + sum.ln() - zt;
    stat.loss = stat.nll;
    stat.factor /= sum;
}

#[inline(always)]
fn general_row(row: &mut [f32], stat: &mut Row, options: CeOptions, record: bool) {
    let (t, n) = (stat.target as usize, row.len() as f32);
    if let Some(cap) = options.softcap {
        for z in row.iter_mut() {
            *z = cap * math::tanh(*z / cap);
        }
    }
    let max = math::max(row);
    let mut sum = [0f32; math::LANES];
    let mut chunks = row.chunks_exact(math::LANES);
    for c in &mut chunks {
        for l in 0..math::LANES {
            sum[l] += math::exp(c[l] - max);
        }
    }
    let mut sum = math::fold(sum);
    for z in chunks.remainder() {
        sum += math::exp(z - max);
    }
    let lse = max + sum.ln();
    stat.nll = lse - row[t];
    let smooth = options.smoothing;
    let spread = if smooth == 0.0 { 0.0 } else { lse - math::sum(row) / n };
    stat.loss = (1.0 - smooth) * stat.nll + smooth * spread + options.z_loss * lse * lse;
    if !record {
        return;
    }
    let (grow, even) = (1.0 + 2.0 * options.z_loss * lse, smooth / n);
    let cap_slope = |z: f32| options.softcap.map_or(1.0, |cap| 1.0 - (z / cap) * (z / cap));
    let at_target = (math::exp(row[t] - lse) * grow - even - (1.0 - smooth)) * cap_slope(row[t]);
    match options.softcap {
        None => {
            for z in row.iter_mut() {
                *z = math::exp(*z - lse).mul_add(grow, -even);
            }
        }
        Some(cap) => {
            let inv = 1.0 / cap;
            for z in row.iter_mut() {
                let t = *z * inv;
                *z = math::exp(*z - lse).mul_add(grow, -even) * (1.0 - t * t);
            }
        }
    }
    row[t] = at_target;
}

/// Log-probs of the targets under the softmax of `h w' / temperature`: `[rows]`, and its entropies `[rows]` if wanted, both
/// with gradients. Chunks are computed again on the way back. The two are one place on the tape: walk back from both at once.
pub fn log_probs(
    h: &Tensor,
    w: &Tensor,
    targets: &[u32],
    temperature: f32,
    want_entropy: bool,
) -> (Tensor, Option<Tensor>) {
    let (rows, d, v) = check_head(h, w, targets);
    targets.iter().for_each(|t| check_target(*t, v));
    assert!(temperature > 0.0, "a temperature of {temperature}");
    let (he, we) = (h.edge(), w.edge());
    let record = recording([&he, &we]);
    let beta = 1.0 / temperature;
    // Rows of (log-prob, entropy); the log-sum-exps stay for backward.
    let mut packed = Buf::scratch(rows * 2);
    let mut lse = Buf::scratch(rows);
    let mut z = Buf::scratch(chunk_rows(rows, v).min(rows) * v);
    for range in chunks(rows, v) {
        let hidden = &h.data()[range.start * d..range.end * d];
        product((range.len(), v, d), &mut z, v, false, Mat::rows(hidden, d), Mat::cols(w.data(), d), beta);
        let (pp, lp, zp) = (SendPtr(packed.as_mut_ptr()), SendPtr(lse.as_mut_ptr()), SendPtr(z.as_mut_ptr()));
        par::parts(range.len(), range.len() * v, |i| {
            let r = range.start + i;
            // SAFETY: each part has its own row.
            let (row, out, lse) = unsafe { (zp.slice(i * v, v), pp.slice(2 * r, 2), &mut *lp.at(r)) };
            vectorize(
                #[inline(always)]
                || {
                    let (max, zt) = (math::max(row), row[targets[r] as usize]);
                    let (sum, mean) = exp_moments(row, max, want_entropy);
                    *lse = max + sum.ln();
                    out[0] = zt - *lse;
                    out[1] = sum.ln() - mean;
                },
            )
        });
    }
    drop(z);
    let (hd, wd, targets) = (h.data.clone(), w.data.clone(), targets.to_vec());
    let packed = Tensor::from_op(packed, Shape::new(&[rows, 2]), record, move |dy, grads| {
        let (mut dh, mut dw) = (grads.take(&he), grads.take(&we));
        let mut z = Buf::scratch(chunk_rows(rows, v).min(rows) * v);
        for range in chunks(rows, v) {
            let (m, hidden) = (range.len(), &hd[range.start * d..range.end * d]);
            product((m, v, d), &mut z, v, false, Mat::rows(hidden, d), Mat::cols(&wd, d), beta);
            let zp = SendPtr(z.as_mut_ptr());
            par::parts(m, m * v, |i| {
                let r = range.start + i;
                // SAFETY: each part has its own row.
                let row = unsafe { zp.slice(i * v, v) };
                vectorize(
                    #[inline(always)]
                    || log_prob_row(row, targets[r] as usize, lse[r], dy[2 * r], dy[2 * r + 1]),
                )
            });
            if let Some((dh, acc)) = &mut dh {
                let dh = &mut dh[range.start * d..range.end * d];
                product((m, d, v), dh, d, *acc, Mat::rows(&z, v), Mat::rows(&wd, d), beta);
            }
            if let Some((dw, acc)) = &mut dw {
                product((v, d, m), dw, d, *acc || range.start > 0, Mat::cols(&z, v), Mat::rows(hidden, d), beta);
            }
        }
        for (edge, taken) in [(&he, dh), (&we, dw)] {
            if let Some((mut buf, acc)) = taken {
                if rows == 0 && !acc {
                    buf.fill(0.0);
                }
                grads.put(edge, buf);
            }
        }
    });
    let entropy = want_entropy.then(|| column(&packed, 1));
    (column(&packed, 0), entropy)
}

/// The sum of `e^(z - max)` and, if wanted, the mean of `z - max` under it.
#[inline(always)]
fn exp_moments(row: &[f32], max: f32, want_mean: bool) -> (f32, f32) {
    const L: usize = math::LANES;
    let (mut sum, mut along) = ([0f32; L], [0f32; L]);
    let mut chunks = row.chunks_exact(L);
    for c in &mut chunks {
        for l in 0..L {
            let e = math::exp(c[l] - max);
            sum[l] += e;
            along[l] = e.mul_add(c[l] - max, along[l]);
        }
    }
    let (mut sum, mut along) = (math::fold(sum), math::fold(along));
    for z in chunks.remainder() {
        let e = math::exp(z - max);
        sum += e;
        along += e * (z - max);
    }
    (sum, if want_mean { along / sum } else { 0.0 })
}

/// Logits into gradients, given those of the row's log-prob and entropy.
#[inline(always)]
fn log_prob_row(row: &mut [f32], target: usize, lse: f32, d_log_prob: f32, d_entropy: f32) {
    if d_entropy == 0.0 {
        for z in row.iter_mut() {
            *z = -d_log_prob * math::exp(*z - lse);
        }
    } else {
        let (sum, mean) = exp_moments(row, lse, true);
        let entropy = -mean * sum;
        for z in row.iter_mut() {
            let log_p = *z - lse;
            *z = math::exp(log_p) * (-d_entropy * (log_p + entropy) - d_log_prob);
        }
    }
    row[target] += d_log_prob;
}

/// One column of `[rows, n]`.
fn column(x: &Tensor, which: usize) -> Tensor {
    let (rows, n, xe) = (x.shape().rows(), x.shape().width(), x.edge());
    let mut y = Buf::scratch(rows);
    y.iter_mut().zip(x.data().chunks_exact(n)).for_each(|(y, x)| *y = x[which]);
    Tensor::from_op(y, Shape::new(&[rows]), recording([&xe]), move |dy, grads| {
        grads.with(&xe, |dx, accumulate| {
            if !accumulate {
                dx.fill(0.0);
            }
            dx.chunks_exact_mut(n).zip(&dy[..]).for_each(|(dx, dy)| dx[which] += dy);
        });
    })
}

/// Per-row outputs of any function of the logits. The logits of a chunk are `sum_i coefficient_i hidden_i weight_i'` over
/// `terms` (hidden `[rows, d_i]`, weight `[v, d_i]`, coefficient); `f` maps them (`[chunk, v]`, and which rows they are) to
/// `[chunk, outs]` with tape operations. Backward computes the chunk again, walks back through `f`, and adds to the gradients
/// of the terms. What else `f` uses is constant: it gets no gradient.
pub fn head_chunks(
    terms: &[(Tensor, Tensor, f32)],
    f: impl Fn(&Tensor, Range<usize>) -> Tensor + Send + 'static,
) -> Tensor {
    let (first, weight, _) = terms.first().expect("a head of at least one term");
    let (rows, v) = (first.shape().rows(), weight.dim(0));
    for (h, w, _) in terms {
        let fits = w.dims().len() == 2 && w.dim(0) == v && h.shape().rows() == rows && h.shape().width() == w.dim(1);
        assert!(fits, "hidden states {:?} and a head {:?} beside {rows} rows and {v} logits", h.shape(), w.shape());
    }
    let edges: Vec<(Edge, Edge)> = terms.iter().map(|(h, w, _)| (h.edge(), w.edge())).collect();
    let record = recording(edges.iter().flat_map(|(h, w)| [h, w]));
    let kept: Vec<Term> =
        terms.iter().map(|(h, w, c)| Term { h: h.data.clone(), w: w.data.clone(), d: w.dim(1), c: *c }).collect();
    let mut outs: Option<usize> = None;
    let mut y = Buf::scratch(0);
    no_grad(|| {
        // With no rows, f is asked about an empty chunk for the width of its outputs.
        let empty = (rows == 0).then_some(0..0);
        for range in empty.into_iter().chain(chunks(rows, v)) {
            let part = f(&chunk_logits(&kept, range.clone(), v), range.clone());
            assert_eq!(part.shape().rows(), range.len(), "a chunk of {} rows became {:?}", range.len(), part.shape());
            let n = part.shape().width();
            if outs.is_none() {
                y = Buf::scratch(rows * n);
            }
            assert_eq!(*outs.get_or_insert(n), n, "chunks of different widths");
            y[range.start * n..range.end * n].copy_from_slice(part.data());
        }
    });
    let n = outs.unwrap_or(0);
    Tensor::from_op(y, Shape::new(&[rows, n]), record, move |dy, grads| {
        let mut fresh = vec![(true, true); edges.len()];
        for range in chunks(rows, v) {
            let dz = tape::with_grad(|| {
                let z = chunk_logits(&kept, range.clone(), v).input();
                let part = f(&z, range.clone());
                if !part.needs_grad() {
                    return None;
                }
                let upstream = Buf::copy(&dy[range.start * n..range.end * n]);
                gradients_from(&[(&part, upstream)], &[&z]).pop().flatten()
            });
            let Some(dz) = dz else { continue };
            let m = range.len();
            for ((term, (he, we)), fresh) in kept.iter().zip(&edges).zip(&mut fresh) {
                let (d, hidden) = (term.d, &term.h[range.start * term.d..range.end * term.d]);
                grads.with(he, |dh, acc| {
                    if !acc {
                        dh.fill(0.0);
                    }
                    let dh = &mut dh[range.start * d..range.end * d];
                    product((m, d, v), dh, d, true, Mat::rows(dz.data(), v), Mat::rows(&term.w, d), term.c);
                });
                grads.with(we, |dw, acc| {
                    product((v, d, m), dw, d, acc, Mat::cols(dz.data(), v), Mat::rows(hidden, d), term.c);
                });
                *fresh = (false, false);
            }
        }
        // Where nothing flowed the gradient is still defined: zero.
        for ((he, we), fresh) in edges.iter().zip(fresh) {
            for (edge, fresh) in [(he, fresh.0), (we, fresh.1)] {
                if fresh {
                    grads.with(edge, |g, acc| {
                        if !acc {
                            g.fill(0.0);
                        }
                    });
                }
            }
        }
    })
}

struct Term {
    h: Arc<Buf>,
    w: Arc<Buf>,
    d: usize,
    c: f32,
}

fn chunk_logits(terms: &[Term], range: Range<usize>, v: usize) -> Tensor {
    let mut z = Buf::scratch(range.len() * v);
    for (i, t) in terms.iter().enumerate() {
        let h = &t.h[range.start * t.d..range.end * t.d];
        product((range.len(), v, t.d), &mut z, v, i > 0, Mat::rows(h, t.d), Mat::cols(&t.w, t.d), t.c);
    }
    Tensor::constant(z, Shape::new(&[range.len(), v]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::linear;
    use crate::reference::{check, random, same_bits};
    use postgrad_base::Stream;

    fn plain_logits(h: &[f64], w: &[f64], d: usize) -> Vec<Vec<f64>> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        h.chunks(d).map(|h| w.chunks(d).map(|w| dot(h, w)).collect()).collect()
    }

    fn lse(z: &[f64]) -> f64 {
        let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln()
    }

    fn plain_loss(x: &[Vec<f64>], d: usize, targets: &[u32], weights: &[f32], o: CeOptions) -> f64 {
        let mut loss = 0.0;
        for ((z, t), weight) in plain_logits(&x[0], &x[1], d).iter().zip(targets).zip(weights) {
            let z: Vec<f64> = z.iter().map(|z| o.softcap.map_or(*z, |c| c as f64 * (z / c as f64).tanh())).collect();
            let (l, s) = (lse(&z), o.smoothing as f64);
            let spread = l - z.iter().sum::<f64>() / z.len() as f64;
            let nll = if *weight == 0.0 { 0.0 } else { l - z[*t as usize] };
            loss += *weight as f64 * ((1.0 - s) * nll + s * spread + o.z_loss as f64 * l * l);
        }
        loss
    }

    #[test]
    fn cross_entropy_and_its_gradients() {
        let mut s = Stream::new(1, &["head"]);
        let softcap = CeOptions { softcap: Some(2.0), ..CeOptions::default() };
        let smooth = CeOptions { smoothing: 0.25, z_loss: 0.125, ..CeOptions::default() };
        let every = CeOptions { softcap: Some(3.0), smoothing: 0.125, z_loss: 0.0625 };
        for options in [CeOptions::default(), softcap, smooth, every] {
            for (rows, d, v) in [(1, 1, 2), (5, 3, 40), (53, 4, 37), (0, 3, 4)] {
                let targets: Vec<u32> = (0..rows).map(|r| (r * 7 % v) as u32).collect();
                let weights: Vec<f32> = (0..rows).map(|r| [1.0, 0.0, 0.5, -0.25][(r + 2) % 4]).collect();
                let t = [random(&mut s, &[rows, d]), random(&mut s, &[v, d])];
                check(
                    "cross_entropy",
                    &t,
                    2e-5,
                    |t| cross_entropy(&t[0], &t[1], &targets, &weights, 4.0, options).loss,
                    |x| vec![plain_loss(x, d, &targets, &weights, options) / 4.0],
                );
            }
        }
    }

    #[test]
    fn losses_per_row_and_ignored_targets() {
        let mut s = Stream::new(2, &["head"]);
        let (h, w) = (random(&mut s, &[40, 6]), random(&mut s, &[30, 6]));
        let mut targets: Vec<u32> = (0..40).map(|r| r % 30).collect();
        let mut weights = vec![1.0; 40];
        (targets[3], weights[3]) = (u32::MAX, 0.0);
        let out = cross_entropy(&h, &w, &targets, &weights, 39.0, CeOptions::default());
        let (exact_h, exact_w): (Vec<f64>, Vec<f64>) =
            (h.data().iter().map(|x| *x as f64).collect(), w.data().iter().map(|x| *x as f64).collect());
        for (r, z) in plain_logits(&exact_h, &exact_w, 6).iter().enumerate() {
            let want = if r == 3 { 0.0 } else { lse(z) - z[targets[r] as usize] };
            assert!((out.nll[r] as f64 - want).abs() < 1e-5);
        }
        assert!((out.nll.iter().sum::<f32>() / 39.0 - out.loss.item()).abs() < 1e-5);
        assert!(!out.loss.needs_grad());
        let none = cross_entropy(&h.input(), &w, &targets, &[0.0; 40], 1.0, CeOptions::default()).loss;
        assert_eq!(none.item(), 0.0);
    }

    #[test]
    fn gradients_scale_with_what_comes_from_above_and_join_the_sink() {
        let mut s = Stream::new(3, &["head"]);
        let (h, w) = (random(&mut s, &[20, 4]), crate::Param::new("w", random(&mut s, &[50, 4])));
        let targets: Vec<u32> = (0..20).collect();
        let loss = |h: &Tensor| cross_entropy(h, &w.leaf(), &targets, &[1.0; 20], 20.0, CeOptions::default()).loss;
        crate::backward(&loss(&h));
        let once = w.take_grad().unwrap();
        let mut three = Buf::scratch(1);
        three[0] = 3.0;
        tape::backward_from(&[(&loss(&h), three)]);
        crate::backward(&loss(&h));
        let four = w.take_grad().unwrap();
        assert!(once.iter().zip(&four[..]).all(|(a, b)| (4.0 * a - b).abs() < 1e-6));
    }

    #[test]
    fn log_probs_and_entropies_and_their_gradients() {
        let mut s = Stream::new(4, &["head"]);
        for (rows, d, v) in [(1, 2, 3), (53, 4, 37), (0, 3, 4)] {
            let targets: Vec<u32> = (0..rows).map(|r| (r * 5 % v) as u32).collect();
            let t = [random(&mut s, &[rows, d]), random(&mut s, &[v, d])];
            let plain = |x: &[Vec<f64>], which: usize| -> Vec<f64> {
                let rows = plain_logits(&x[0], &x[1], d);
                rows.iter()
                    .zip(&targets)
                    .map(|(z, t)| {
                        let z: Vec<f64> = z.iter().map(|z| z / 1.5).collect();
                        let l = lse(&z);
                        if which == 0 {
                            z[*t as usize] - l
                        } else {
                            -z.iter().map(|z| (z - l).exp() * (z - l)).sum::<f64>()
                        }
                    })
                    .collect()
            };
            for want_entropy in [false, true] {
                let run = |t: &[Tensor]| log_probs(&t[0], &t[1], &targets, 1.5, want_entropy).0;
                check("log_probs", &t, 2e-5, run, |x| plain(x, 0));
            }
            let entropy = |t: &[Tensor]| log_probs(&t[0], &t[1], &targets, 1.5, true).1.unwrap();
            check("entropy", &t, 2e-5, entropy, |x| plain(x, 1));
        }
    }

    #[test]
    fn head_chunks_walks_back_through_any_function() {
        let mut s = Stream::new(5, &["head"]);
        for (rows, v) in [(1, 2), (53, 37), (0, 4)] {
            let mix = random(&mut s, &[2, v]);
            let exact: Vec<f64> = mix.data().iter().map(|x| *x as f64).collect();
            let (a, b) = (random(&mut s, &[rows, 4]), random(&mut s, &[rows, 3]));
            let t = [a, random(&mut s, &[v, 4]), b, random(&mut s, &[v, 3])];
            check(
                "head_chunks",
                &t,
                2e-5,
                |t| {
                    let terms = [(t[0].clone(), t[1].clone(), 1.0), (t[2].clone(), t[3].clone(), -0.5)];
                    let mix = mix.clone();
                    head_chunks(&terms, move |z, _| {
                        linear(&crate::ops::activate(z, crate::ops::Gate::Silu), &mix, None)
                    })
                },
                |x| {
                    let (p, q) = (plain_logits(&x[0], &x[1], 4), plain_logits(&x[2], &x[3], 3));
                    let silu = |z: f64| z / (1.0 + (-z).exp());
                    let mut y = vec![];
                    for (p, q) in p.iter().zip(&q) {
                        for row in exact.chunks(v) {
                            y.push((0..v).map(|j| silu(p[j] - 0.5 * q[j]) * row[j]).sum());
                        }
                    }
                    y
                },
            );
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let mut s = Stream::new(6, &["head"]);
        let (h, w) = (random(&mut s, &[70, 33]), random(&mut s, &[301, 33]));
        let targets: Vec<u32> = (0..70).map(|r| r * 4).collect();
        let run = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let (h, w) = (h.input(), w.input());
                let ce = cross_entropy(&h, &w, &targets, &[0.5; 70], 35.0, CeOptions::default()).loss;
                let (lp, entropy) = log_probs(&h, &w, &targets, 1.0, true);
                let mut all = vec![ce.detach(), lp.detach()];
                all.extend(crate::gradients(&ce, &[&h, &w]).into_iter().flatten());
                let ones = || Buf::copy(&[1.0; 70]);
                let both = gradients_from(&[(&lp, ones()), (&entropy.unwrap(), ones())], &[&h, &w]);
                all.extend(both.into_iter().flatten());
                assert_eq!(all.len(), 6);
                all
            })
        };
        let one = run(1);
        for threads in [2, 3] {
            assert!(one.iter().zip(&run(threads)).all(|(a, b)| same_bits(a, b)), "{threads}");
        }
    }
}
