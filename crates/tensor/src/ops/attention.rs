//! Causal self-attention over packed rows, without the matrix of all scores.
//!
//! Rows hold `q | k | v` side by side, already rotated. A *run* is a stretch of rows that attends to itself (one sequence, or
//! one segment of a packed one). Work is cut into blocks of queries; a block's scores live in per-thread scratch, forward keeps
//! one log-sum-exp a query and head, and backward computes the scores again (Dao et al. 2022). Keys after a block, or before
//! its window, are never touched.

use std::cell::RefCell;
use std::sync::Arc;

use crate::gemm::sequential;
use crate::math;
use crate::par::{self, SendPtr};
use crate::simd::{self, Level, vectorize};
use crate::{Buf, Shape, Tensor, recording};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttnSpec {
    pub heads: usize,
    /// Key-value heads; query head `h` uses `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Factor on the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Query `i` sees keys `j` with `i - window < j <= i`.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)` (Gemma 2).
    pub softcap: Option<f32>,
}

impl AttnSpec {
    /// Columns of packed `q | k | v` rows.
    pub fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// The first key that query `i` sees.
    #[inline(always)]
    pub(crate) fn first_key(&self, i: usize) -> usize {
        self.window.map_or(0, |w| (i + 1).saturating_sub(w))
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's scratch. The kernel must not start parallel work inside.
pub(crate) fn with_scratch<T>(len: usize, f: impl FnOnce(&mut [f32]) -> T) -> T {
    SCRATCH.with_borrow_mut(|s| {
        if s.len() < len {
            s.resize(len, 0.0);
        }
        f(&mut s[..len])
    })
}

/// Queries per block, by the run's length.
fn block_of(len: usize) -> usize {
    if len > 2048 || len <= 192 { 32 } else { 64 }
}

/// A block of queries of one head in one run.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    head: usize,
    i0: usize,
    i1: usize,
}

/// What the kernels share.
#[derive(Clone, Copy)]
struct Job {
    spec: AttnSpec,
    level: Level,
    rows: usize,
}

impl Job {
    fn hd(&self) -> usize {
        self.spec.head_dim
    }

    /// Offsets of a head's q, k and v at a row.
    fn columns(&self, row: usize, head: usize) -> (usize, usize, usize) {
        let AttnSpec { heads, kv_heads, head_dim, .. } = self.spec;
        let kv = head / (heads / kv_heads);
        let at = row * self.spec.width();
        (at + head * head_dim, at + (heads + kv) * head_dim, at + (heads + kv_heads + kv) * head_dim)
    }

    /// Scores of the block: (first key, keys, row stride), `q k'` in `s`.
    ///
    /// # Safety
    /// The block must lie in `qkv`, and `s` must hold it.
    unsafe fn scores(&self, qkv: &[f32], b: Block, s: &mut [f32]) -> (usize, usize, usize) {
        let j0 = self.spec.first_key(b.i0);
        let (m, n, stride) = self.extent(b);
        let w = self.spec.width();
        let (q, k) = (self.columns(b.start + b.i0, b.head).0, self.columns(b.start + j0, b.head).1);
        let (size, p) = ((m, n, self.hd()), qkv.as_ptr());
        unsafe { sequential(self.level, size, s.as_mut_ptr(), stride, false, p.add(q), (w, 1), p.add(k), (1, w), 1.0) };
        (j0, n, stride)
    }

    /// Queries, keys and row stride of a block's scores.
    fn extent(&self, b: Block) -> (usize, usize, usize) {
        let n = b.i1 - self.spec.first_key(b.i0);
        // Off a power of two, so that rows do not fall on the same cache sets.
        (b.i1 - b.i0, n, n.next_multiple_of(16) + 16)
    }
}

/// Rows of scores are worked on in whole groups of this many, the hidden ones among them made to vanish.
const GROUP: usize = 16;
const HIDDEN: f32 = f32::MIN;

/// The groups of a row of `n` scores that hold the keys `lo..hi`: their other scores become [`HIDDEN`], scores outside the
/// groups zero. The row has room for whole groups.
#[inline(always)]
fn whole_groups(row: &mut [f32], lo: usize, hi: usize, n: usize) -> std::ops::Range<usize> {
    let (from, to) = (lo / GROUP * GROUP, hi.next_multiple_of(GROUP));
    row[..from].fill(0.0);
    row[to.min(n)..n].fill(0.0);
    row[from..lo].fill(HIDDEN);
    row[hi..to].fill(HIDDEN);
    from..to
}

/// `e^(scale x - max)` over whole groups in place; returns the scaled maximum and the sum.
#[inline(always)]
fn softmax_groups(row: &mut [f32], scale: f32) -> (f32, f32) {
    let mut top = [HIDDEN; GROUP];
    for x in row.chunks_exact(GROUP) {
        for l in 0..GROUP {
            top[l] = if x[l] > top[l] { x[l] } else { top[l] };
        }
    }
    let mut half = GROUP / 2;
    while half > 0 {
        for l in 0..half {
            top[l] = if top[l + half] > top[l] { top[l + half] } else { top[l] };
        }
        half /= 2;
    }
    let max = top[0] * scale;
    let mut acc = [0f32; GROUP];
    for x in row.chunks_exact_mut(GROUP) {
        for l in 0..GROUP {
            let e = math::exp_or_zero(x[l].mul_add(scale, -max));
            x[l] = e;
            acc[l] += e;
        }
    }
    let mut half = GROUP / 2;
    while half > 0 {
        for l in 0..half {
            acc[l] += acc[l + half];
        }
        half /= 2;
    }
    (max, acc[0])
}

/// Attention of packed rows `[rows, (heads + 2 kv_heads) head_dim]` within each run (first row, length): `[rows, heads
/// head_dim]`. Runs are in order and disjoint; rows of no run give zeros and get zero gradients.
pub fn attention(qkv: &Tensor, spec: &AttnSpec, runs: &Arc<[(usize, usize)]>) -> Tensor {
    let rows = qkv.shape().rows();
    assert_eq!(qkv.shape().width(), spec.width(), "packed rows {:?} for {spec:?}", qkv.shape());
    assert!(spec.kv_heads > 0 && spec.heads.is_multiple_of(spec.kv_heads), "{spec:?}: heads do not share evenly");
    assert!(spec.window != Some(0), "a window of no keys");
    assert!(spec.scale > 0.0, "a score factor of {}", spec.scale);
    let mut end = 0;
    for (start, len) in runs.iter() {
        assert!(*start >= end && start + len <= rows, "runs {runs:?} overlap or leave the {rows} rows");
        end = start + len;
    }
    let covered = runs.iter().map(|r| r.1).sum::<usize>() == rows;
    let out_width = spec.heads * spec.head_dim;
    let job = Job { spec: *spec, level: simd::level(), rows };
    let qe = qkv.edge();
    let record = recording([&qe]);
    let mut out = Buf::scratch(rows * out_width);
    if !covered {
        out.fill(0.0);
    }
    let mut lse = Buf::scratch(if record { rows * spec.heads } else { 0 });
    forward(job, qkv.data(), &mut out, record.then_some(&mut lse), runs);

    let (out, kept) = (Arc::new(out), qkv.data.clone());
    let (saved, runs) = (out.clone(), runs.clone());
    Tensor::from_op_shared(out, Shape::new(&[rows, out_width]), record, move |dy, grads| {
        if grads.wants(&qe) {
            let mut d = Buf::scratch(kept.len());
            if !covered {
                d.fill(0.0);
            }
            backward(Job { level: simd::level(), ..job }, &kept, &saved, &lse, &dy, &mut d, &runs);
            grads.put(&qe, d);
        }
    })
}

/// Every block of every run and head, the heavy ones first.
fn all_blocks(spec: AttnSpec, runs: &[(usize, usize)]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (start, len) in runs {
        let size = block_of(*len);
        for head in 0..spec.heads {
            for i0 in (0..*len).step_by(size).rev() {
                blocks.push(Block { start: *start, head, i0, i1: (i0 + size).min(*len) });
            }
        }
    }
    blocks
}

fn work_of(spec: AttnSpec, runs: &[(usize, usize)]) -> usize {
    runs.iter().map(|r| r.1 * r.1 / 2 * spec.heads * 8).sum()
}

fn forward(job: Job, qkv: &[f32], out: &mut [f32], lse: Option<&mut Buf>, runs: &[(usize, usize)]) {
    let spec = job.spec;
    let (hd, w, ow) = (job.hd(), spec.width(), spec.heads * spec.head_dim);
    let outp = SendPtr(out.as_mut_ptr());
    let lsep = lse.map(|l| SendPtr(l.as_mut_ptr()));
    let blocks = all_blocks(spec, runs);
    par::parts(blocks.len(), work_of(spec, runs), |bi| {
        let b = blocks[bi];
        let (m, _, stride) = job.extent(b);
        with_scratch(m * stride + m, |scratch| {
            let (s, factor) = scratch.split_at_mut(m * stride);
            // SAFETY: blocks are disjoint in the result and in the log-sum-exps; bounds were checked by the caller.
            unsafe {
                let (j0, n, stride) = job.scores(qkv, b, s);
                vectorize(
                    #[inline(always)]
                    || {
                        for r in 0..m {
                            let (row, i) = (&mut s[r * stride..(r + 1) * stride], b.i0 + r);
                            let (lo, hi) = (spec.first_key(i) - j0, i + 1 - j0);
                            let seen = whole_groups(row, lo, hi, n);
                            let mut scale = spec.scale;
                            if let Some(cap) = spec.softcap {
                                for x in row[lo..hi].iter_mut() {
                                    *x = cap * math::tanh(*x * scale / cap);
                                }
                                scale = 1.0;
                            }
                            let (max, sum) = softmax_groups(&mut row[seen], scale);
                            factor[r] = 1.0 / sum;
                            if let Some(lse) = lsep {
                                *lse.at(b.head * job.rows + b.start + i) = max + sum.ln();
                            }
                        }
                    },
                );
                let v = qkv.as_ptr().add(job.columns(b.start + j0, b.head).2);
                let at = (b.start + b.i0) * ow + b.head * hd;
                sequential(job.level, (m, hd, n), outp.at(at), ow, false, s.as_ptr(), (stride, 1), v, (w, 1), 1.0);
                vectorize(
                    #[inline(always)]
                    || {
                        for (r, factor) in factor.iter().enumerate() {
                            for o in outp.slice(at + r * ow, hd) {
                                *o *= factor;
                            }
                        }
                    },
                );
            }
        });
    });
}

/// One head of one run, with its share of the query blocks.
#[derive(Clone, Copy)]
struct Share {
    start: usize,
    len: usize,
    head: usize,
    /// Query blocks.
    from: usize,
    to: usize,
    /// Where its part of `dk | dv` `[len, 2 head_dim]` lies; `None`: written straight to the gradient.
    part: Option<usize>,
}

/// Cuts the backward pass by run and head, and long runs further; by the shapes alone. Returns the length of all parts too.
fn shares(spec: AttnSpec, runs: &[(usize, usize)]) -> (Vec<Share>, usize) {
    let problems = runs.len() * spec.heads;
    let (mut all, mut at) = (Vec::new(), 0);
    for (start, len) in runs {
        let blocks = len.div_ceil(block_of(*len));
        let cuts = (32 / problems.max(1)).clamp(1, 4).min(blocks.div_ceil(2)).max(1);
        // The work before block i grows with its square.
        let edge = |c: usize| ((c as f64 / cuts as f64).sqrt() * blocks as f64).round() as usize;
        for head in 0..spec.heads {
            for c in (0..cuts).rev() {
                let alone = cuts == 1 && spec.heads == spec.kv_heads;
                let part = (!alone).then_some(at);
                at += if alone { 0 } else { len * 2 * spec.head_dim };
                all.push(Share { start: *start, len: *len, head, from: edge(c), to: edge(c + 1), part });
            }
        }
    }
    (all, at)
}

fn backward(job: Job, qkv: &[f32], out: &[f32], lse: &[f32], dy: &[f32], d: &mut [f32], runs: &[(usize, usize)]) {
    let spec = job.spec;
    let (hd, w) = (job.hd(), spec.width());
    let (shares, part_len) = shares(spec, runs);
    let mut parts = Buf::scratch(part_len);
    let (dp, partp) = (SendPtr(d.as_mut_ptr()), SendPtr(parts.as_mut_ptr()));
    let work = 2 * work_of(spec, runs);
    par::parts(shares.len(), work, |si| {
        let share = shares[si];
        // dk and dv of this share: base pointer, row stride and offset of each.
        let (base, stride, dk, dv) = match share.part {
            Some(at) => (partp, 2 * hd, at, at + hd),
            None => {
                let (_, k, v) = job.columns(share.start, share.head);
                (dp, w, k, v)
            }
        };
        for r in 0..share.len {
            // SAFETY: the share's own rows and columns.
            unsafe {
                base.slice(dk + r * stride, hd).fill(0.0);
                base.slice(dv + r * stride, hd).fill(0.0);
            }
        }
        let size = block_of(share.len);
        for block in share.from..share.to {
            let i0 = block * size;
            let b = Block { start: share.start, head: share.head, i0, i1: (i0 + size).min(share.len) };
            let into = Into { base, stride, dk, dv };
            // SAFETY: shares write disjoint parts; the block lies in its run.
            unsafe { backward_block(job, qkv, out, lse, dy, dp, b, into) };
        }
    });
    gather(job, &shares, &parts, dp, runs);
}

/// Where a share's key and value gradients go.
#[derive(Clone, Copy)]
struct Into {
    base: SendPtr<f32>,
    stride: usize,
    dk: usize,
    dv: usize,
}

unsafe fn backward_block(
    job: Job,
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    dy: &[f32],
    dp: SendPtr<f32>,
    b: Block,
    into: Into,
) {
    let spec = job.spec;
    let (hd, w, ow) = (job.hd(), spec.width(), spec.heads * spec.head_dim);
    let (m, n, stride) = job.extent(b);
    with_scratch(2 * m * stride, |scratch| unsafe {
        let (s, ds) = scratch.split_at_mut(m * stride);
        let (j0, _, _) = job.scores(qkv, b, s);
        let (q, ..) = job.columns(b.start + b.i0, b.head);
        let (_, k, v) = job.columns(b.start + j0, b.head);
        let o = (b.start + b.i0) * ow + b.head * hd;
        let (q, k, v, dyp) = (qkv.as_ptr().add(q), qkv.as_ptr().add(k), qkv.as_ptr().add(v), dy.as_ptr().add(o));
        sequential(job.level, (m, n, hd), ds.as_mut_ptr(), stride, false, dyp, (ow, 1), v, (1, w), 1.0);
        vectorize(
            #[inline(always)]
            || {
                for r in 0..m {
                    let (row, drow) = (&mut s[r * stride..(r + 1) * stride], &mut ds[r * stride..(r + 1) * stride]);
                    let i = b.i0 + r;
                    let (lo, hi) = (spec.first_key(i) - j0, i + 1 - j0);
                    let seen = whole_groups(row, lo, hi, n);
                    drow[..seen.start].fill(0.0);
                    drow[seen.end.min(n)..n].fill(0.0);
                    let lse = lse[b.head * job.rows + b.start + i];
                    let at = o + r * ow;
                    let along = math::dot(&out[at..at + hd], &dy[at..at + hd]);
                    // What a query does not see has a probability of zero, and so no gradient.
                    let both = row[seen.clone()].chunks_exact_mut(GROUP).zip(drow[seen].chunks_exact_mut(GROUP));
                    match spec.softcap {
                        None => {
                            for (s, d) in both {
                                for l in 0..GROUP {
                                    let p = math::exp_or_zero(s[l].mul_add(spec.scale, -lse));
                                    s[l] = p;
                                    d[l] = p * (d[l] - along);
                                }
                            }
                        }
                        Some(cap) => {
                            for (s, d) in both {
                                for l in 0..GROUP {
                                    let t = math::tanh(s[l].max(-1e30) * spec.scale / cap);
                                    let p = math::exp_or_zero(cap.mul_add(t, -lse));
                                    let p = if s[l] == HIDDEN { 0.0 } else { p };
                                    s[l] = p;
                                    d[l] = p * (d[l] - along) * (1.0 - t * t);
                                }
                            }
                        }
                    }
                }
            },
        );
        // dv += p' dy, dk += ds' q, dq = ds k
        let (dk, dv) = (into.base.at(into.dk + j0 * into.stride), into.base.at(into.dv + j0 * into.stride));
        let (s, ds) = (s.as_ptr(), ds.as_ptr());
        sequential(job.level, (n, hd, m), dv, into.stride, true, s, (1, stride), dyp, (ow, 1), 1.0);
        sequential(job.level, (n, hd, m), dk, into.stride, true, ds, (1, stride), q, (w, 1), spec.scale);
        let dq = dp.at(job.columns(b.start + b.i0, b.head).0);
        sequential(job.level, (m, hd, n), dq, w, false, ds, (stride, 1), k, (w, 1), spec.scale);
    });
}

/// Adds up the parts of each key-value head in order.
fn gather(job: Job, shares: &[Share], parts: &[f32], d: SendPtr<f32>, runs: &[(usize, usize)]) {
    if parts.is_empty() {
        return;
    }
    let spec = job.spec;
    let (hd, group) = (spec.head_dim, spec.heads / spec.kv_heads);
    // Shares are in the order of the runs, so many a run.
    let mut first = vec![0];
    for run in runs {
        let from = first[first.len() - 1];
        first.push(from + shares[from..].iter().take_while(|s| (s.start, s.len) == *run).count());
    }
    par::parts(runs.len() * spec.kv_heads, parts.len(), |i| {
        let (run, kv) = (i / spec.kv_heads, i % spec.kv_heads);
        let (start, len) = runs[run];
        let mine = &shares[first[run]..first[run + 1]];
        let mine: Vec<usize> = mine.iter().filter(|s| s.head / group == kv).filter_map(|s| s.part).collect();
        vectorize(
            #[inline(always)]
            || {
                for r in 0..len {
                    let (_, k, v) = job.columns(start + r, kv * group);
                    // SAFETY: a key-value head's own columns of its run's rows.
                    let (dk, dv) = unsafe { (d.slice(k, hd), d.slice(v, hd)) };
                    for (p, at) in mine.iter().enumerate() {
                        let (pk, pv) = parts[at + r * 2 * hd..at + (r + 1) * 2 * hd].split_at(hd);
                        if p == 0 {
                            dk.copy_from_slice(pk);
                            dv.copy_from_slice(pv);
                        } else {
                            for (((dk, dv), pk), pv) in dk.iter_mut().zip(dv.iter_mut()).zip(pk).zip(pv) {
                                *dk += *pk;
                                *dv += *pv;
                            }
                        }
                    }
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random, same_bits};
    use postgrad_base::Stream;

    fn spec(heads: usize, kv_heads: usize, head_dim: usize, window: Option<usize>, softcap: Option<f32>) -> AttnSpec {
        AttnSpec { heads, kv_heads, head_dim, scale: 0.5, window, softcap }
    }

    /// Plain sums over the keys that each query sees.
    fn plain(x: &[f64], rows: usize, s: AttnSpec, runs: &[(usize, usize)]) -> Vec<f64> {
        let (hd, w) = (s.head_dim, s.width());
        let mut y = vec![0.0; rows * s.heads * hd];
        for (start, len) in runs {
            for h in 0..s.heads {
                let kv = h / (s.heads / s.kv_heads);
                let (kc, vc) = ((s.heads + kv) * hd, (s.heads + s.kv_heads + kv) * hd);
                for i in 0..*len {
                    let seen: Vec<usize> = (0..=i).filter(|j| s.window.is_none_or(|w| j + w > i)).collect();
                    let z: Vec<f64> = seen
                        .iter()
                        .map(|j| {
                            let dot: f64 =
                                (0..hd).map(|c| x[(start + i) * w + h * hd + c] * x[(start + j) * w + kc + c]).sum();
                            let z = dot * s.scale as f64;
                            s.softcap.map_or(z, |c| c as f64 * (z / c as f64).tanh())
                        })
                        .collect();
                    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = z.iter().map(|z| (z - max).exp()).sum();
                    for (j, z) in seen.iter().zip(&z) {
                        for c in 0..hd {
                            y[((start + i) * s.heads + h) * hd + c] +=
                                (z - max).exp() / sum * x[(start + j) * w + vc + c];
                        }
                    }
                }
            }
        }
        y
    }

    #[test]
    fn values_and_gradients() {
        let mut stream = Stream::new(1, &["attention"]);
        type Case = (usize, AttnSpec, &'static [(usize, usize)]);
        let cases: [Case; 7] = [
            (1, spec(1, 1, 1, None, None), &[(0, 1)]),
            (0, spec(2, 1, 4, None, None), &[]),
            (9, spec(2, 2, 3, None, None), &[(0, 4), (4, 5)]),
            (12, spec(4, 2, 5, None, Some(2.0)), &[(1, 3), (6, 5)]),
            (11, spec(3, 1, 4, Some(3), None), &[(0, 11)]),
            (7, spec(2, 1, 4, Some(50), Some(1.5)), &[(0, 7)]),
            (40, spec(2, 1, 2, Some(5), None), &[(0, 37), (37, 0), (38, 2)]),
        ];
        for (rows, s, runs) in cases {
            let x = random(&mut stream, &[rows, s.width()]);
            let shared: Arc<[(usize, usize)]> = runs.into();
            check("attention", &[x], 2e-5, |t| attention(&t[0], &s, &shared), |x| plain(&x[0], rows, s, runs));
        }
    }

    /// Longer runs, where blocks, windows and cuts meet; gradients against those of the plain sums' adjoint by pairing
    /// finite differences along random directions.
    #[test]
    fn long_runs_agree_along_random_directions() {
        let mut stream = Stream::new(2, &["attention"]);
        for (s, runs) in [
            (spec(2, 1, 8, None, None), vec![(0, 300), (301, 70)]),
            (spec(2, 2, 8, Some(100), None), vec![(5, 260)]),
            (spec(4, 1, 8, Some(33), Some(3.0)), vec![(0, 210)]),
        ] {
            let rows = 371;
            let x = random(&mut stream, &[rows, s.width()]);
            let (dy, dir) = (random(&mut stream, &[rows, s.heads * 8]), random(&mut stream, &[rows, s.width()]));
            let shared: Arc<[(usize, usize)]> = runs.clone().into();
            let leaf = x.input();
            let y = attention(&leaf, &s, &shared);
            let exact: Vec<f64> = x.data().iter().map(|v| *v as f64).collect();
            assert!(crate::reference::worst(y.data(), &plain(&exact, rows, s, &runs)) < 2e-5);
            let g = crate::tape::gradients_from(&[(&y, Buf::copy(dy.data()))], &[&leaf]).remove(0).unwrap();
            let got: f64 = g.data().iter().zip(dir.data()).map(|(a, b)| *a as f64 * *b as f64).sum();
            let at = |h: f64| -> f64 {
                let moved: Vec<f64> = exact.iter().zip(dir.data()).map(|(x, d)| x + h * *d as f64).collect();
                plain(&moved, rows, s, &runs).iter().zip(dy.data()).map(|(y, d)| y * *d as f64).sum()
            };
            let want = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((got - want).abs() < 2e-3 * want.abs().max(1.0), "{got} {want}");
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let mut stream = Stream::new(3, &["attention"]);
        let s = spec(4, 2, 16, None, None);
        let runs: Arc<[(usize, usize)]> = vec![(0, 200), (200, 40)].into();
        let (x, dy) = (random(&mut stream, &[240, s.width()]), random(&mut stream, &[240, 64]));
        let run = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let leaf = x.input();
                let y = attention(&leaf, &s, &runs);
                let g = crate::tape::gradients_from(&[(&y, Buf::copy(dy.data()))], &[&leaf]).remove(0).unwrap();
                (y.detach(), g)
            })
        };
        let one = run(1);
        for threads in [2, 3] {
            let other = run(threads);
            assert!(same_bits(&one.0, &other.0) && same_bits(&one.1, &other.1));
        }
    }
}
