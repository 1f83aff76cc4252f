//! Products of batches of matrices; either side may be transposed, batch dimensions broadcast.
//!
//! Nothing is transposed in memory. With weights as `[out, in]` rows use [`super::linear`]. Left out on purpose: vectors as
//! sides (give them a dimension of one).

use super::strided::{Plan, broadcast_shape, strides};
use crate::gemm::{Mat, product, sequential};
use crate::par::{self, SendPtr};
use crate::{Buf, Edge, Shape, Tensor, recording, simd};

/// One side: its batch shape, its place in the batch of the result, and the matrix as it is used.
#[derive(Clone, Copy)]
struct Side {
    batch: Shape,
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl Side {
    fn new(t: &Tensor, transposed: bool) -> Self {
        let (dims, rank) = (t.dims(), t.shape.rank());
        assert!(rank >= 2, "a matrix of two dimensions or more, not {:?}", t.shape);
        let (r, c) = (dims[rank - 2], dims[rank - 1]);
        let (rows, cols) = if transposed { (c, r) } else { (r, c) };
        Self { batch: Shape::new(&dims[..rank - 2]), rows, cols, transposed }
    }

    fn size(&self) -> usize {
        self.rows * self.cols
    }

    fn flipped(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    /// Row and column strides.
    fn strides(&self) -> (usize, usize) {
        if self.transposed { (1, self.rows) } else { (self.cols, 1) }
    }

    /// For each batch of the result, the batch of this side.
    fn batches(&self, over: Shape) -> Vec<usize> {
        let plan = Plan::new(over, [strides(self.batch, over)]);
        let mut all = Vec::with_capacity(over.len());
        plan.each_offset(over.len(), |[at]| all.push(at));
        all
    }
}

/// One product: batches of the target, of the left and of the right side.
type Job = [usize; 3];

/// `c[job.0] (+)= a[job.1] b[job.2]` for all jobs, which are sorted by target; a target's first job overwrites it unless
/// `accumulate`. `c` is row-major.
fn run(c: &mut [f32], accumulate: bool, a: (&[f32], Side), b: (&[f32], Side), jobs: &[Job]) {
    let (m, k, n) = (a.1.rows, a.1.cols, b.1.cols);
    if c.is_empty() {
        return;
    }
    let ((a, sa), (b, sb)) = (a, b);
    let (am, bm) = (sa.strides(), sb.strides());
    let mut groups: Vec<&[Job]> = jobs.chunk_by(|x, y| x[0] == y[0]).collect();
    groups.retain(|g| !g.is_empty());
    let out = SendPtr(c.as_mut_ptr());
    if groups.len() < par::threads() {
        for group in groups {
            for (i, [t, x, y]) in group.iter().enumerate() {
                // SAFETY: one job at a time.
                let c = unsafe { out.slice(t * m * n, m * n) };
                let a = Mat { data: &a[x * sa.size()..(x + 1) * sa.size()], rs: am.0, cs: am.1 };
                let b = Mat { data: &b[y * sb.size()..(y + 1) * sb.size()], rs: bm.0, cs: bm.1 };
                product((m, n, k), c, n, accumulate || i > 0, a, b, 1.0);
            }
        }
        return;
    }
    par::parts(groups.len(), jobs.len() * m * n * k.max(1) / 8, |g| {
        for (i, [t, x, y]) in groups[g].iter().enumerate() {
            // SAFETY: groups have different targets; jobs name batches that exist.
            unsafe {
                let (pa, pb) = (a.as_ptr().add(x * sa.size()), b.as_ptr().add(y * sb.size()));
                sequential(simd::level(), (m, n, k), out.at(t * m * n), n, accumulate || i > 0, pa, am, pb, bm, 1.0);
            }
        }
    });
}

/// `op(a) op(b)` with `op` the transpose of the last two dimensions where asked for.
fn batched(a: &Tensor, ta: bool, b: &Tensor, tb: bool) -> Tensor {
    let (mut sa, sb) = (Side::new(a, ta), Side::new(b, tb));
    assert_eq!(sa.cols, sb.rows, "a product of {:?}{} and {:?}{}", a.shape, mark(ta), b.shape, mark(tb));
    let batch = broadcast_shape(sa.batch, sb.batch);
    let dims = [batch.dims(), &[sa.rows, sb.cols]].concat();
    let shape = Shape::new(&dims);
    let mut batch = batch;
    if !ta && sb.batch.rank() == 0 {
        // One right side for all: the batch is more rows.
        sa = Side { batch: Shape::new(&[]), rows: sa.batch.len() * sa.rows, ..sa };
        batch = Shape::new(&[]);
    }
    let jobs: Vec<Job> =
        sa.batches(batch).iter().zip(sb.batches(batch)).enumerate().map(|(i, (x, y))| [i, *x, y]).collect();
    let mut y = Buf::scratch(shape.len());
    run(&mut y, false, (&a.data, sa), (&b.data, sb), &jobs);

    let (ae, be) = (a.edge(), b.edge());
    let record = recording([&ae, &be]);
    let keep = |other: &Edge, t: &Tensor| (record && other.is_some()).then(|| t.data.clone());
    let (ka, kb) = (keep(&be, a), keep(&ae, b));
    Tensor::from_op(y, shape, record, move |dy, grads| {
        let sy = Side { batch, rows: sa.rows, cols: sb.cols, transposed: false };
        // The gradient of a side as it is used is dy b' or a' dy; stored transposed, the factors swap.
        if let Some(b) = &kb {
            let jobs = sorted(&jobs, |[i, x, y]| [x, i, y]);
            grads.with(&ae, |d, acc| {
                if ta {
                    run(d, acc, (b, sb), (&dy, sy.flipped()), &swapped(&jobs));
                } else {
                    run(d, acc, (&dy, sy), (b, sb.flipped()), &jobs);
                }
                clear(d, acc, jobs.is_empty());
            });
        }
        if let Some(a) = &ka {
            let jobs = sorted(&jobs, |[i, x, y]| [y, x, i]);
            grads.with(&be, |d, acc| {
                if tb {
                    run(d, acc, (&dy, sy.flipped()), (a, sa), &swapped(&jobs));
                } else {
                    run(d, acc, (a, sa.flipped()), (&dy, sy), &jobs);
                }
                clear(d, acc, jobs.is_empty());
            });
        }
    })
}

/// A gradient to which no product contributes is zero.
fn clear(d: &mut [f32], accumulate: bool, untouched: bool) {
    if untouched && !accumulate {
        d.fill(0.0);
    }
}

fn mark(transposed: bool) -> &'static str {
    if transposed { "'" } else { "" }
}

fn sorted(jobs: &[Job], f: impl Fn(Job) -> Job) -> Vec<Job> {
    let mut jobs: Vec<Job> = jobs.iter().map(|j| f(*j)).collect();
    jobs.sort_by_key(|j| j[0]);
    jobs
}

fn swapped(jobs: &[Job]) -> Vec<Job> {
    jobs.iter().map(|[t, x, y]| [*t, *y, *x]).collect()
}

impl Tensor {
    /// `a [.., m, k]` times `b [.., k, n]`: `[.., m, n]`.
    pub fn matmul(&self, b: &Tensor) -> Tensor {
        batched(self, false, b, false)
    }

    /// `a [.., m, k]` times `b [.., n, k]` transposed.
    pub fn matmul_nt(&self, b: &Tensor) -> Tensor {
        batched(self, false, b, true)
    }

    /// `a [.., k, m]` transposed times `b [.., k, n]`.
    pub fn matmul_tn(&self, b: &Tensor) -> Tensor {
        batched(self, true, b, false)
    }

    /// Both sides transposed.
    pub fn matmul_tt(&self, b: &Tensor) -> Tensor {
        batched(self, true, b, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    fn source(dims: &[usize], over: &[usize], mut at: usize) -> usize {
        let (mut out, mut stride) = (0, 1);
        for (i, n) in over.iter().enumerate().rev() {
            let (here, cut) = (at % n, over.len() - dims.len());
            at /= n;
            if i >= cut {
                out += if dims[i - cut] == 1 { 0 } else { here * stride };
                stride *= dims[i - cut];
            }
        }
        out
    }

    #[test]
    fn all_transpositions_and_batches() {
        let mut s = Stream::new(1, &["matmul"]);
        let batches: [(&[usize], &[usize], &[usize]); 7] = [
            (&[], &[], &[]),
            (&[3], &[3], &[3]),
            (&[3], &[], &[3]),
            (&[], &[3], &[3]),
            (&[2, 1], &[1, 3], &[2, 3]),
            (&[0], &[0], &[0]),
            (&[0], &[], &[0]),
        ];
        for (ba, bb, over) in batches {
            for (m, k, n) in [(3, 5, 2), (1, 1, 1), (2, 0, 3), (0, 2, 3)] {
                for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                    let (ma, mb) = (if ta { [k, m] } else { [m, k] }, if tb { [n, k] } else { [k, n] });
                    let da = [ba, &ma].concat();
                    let db = [bb, &mb].concat();
                    let inputs = [random(&mut s, &da), random(&mut s, &db)];
                    let fast = |t: &[Tensor]| batched(&t[0], ta, &t[1], tb);
                    let plain = |x: &[Vec<f64>]| {
                        let mut y = vec![];
                        for p in 0..over.iter().product() {
                            let (oa, ob) = (source(ba, over, p) * m * k, source(bb, over, p) * k * n);
                            for i in 0..m {
                                for j in 0..n {
                                    let a = |q: usize| x[0][oa + if ta { q * m + i } else { i * k + q }];
                                    let b = |q: usize| x[1][ob + if tb { j * k + q } else { q * n + j }];
                                    y.push((0..k).map(|q| a(q) * b(q)).sum());
                                }
                            }
                        }
                        y
                    };
                    check("matmul", &inputs, 1e-5, fast, plain);
                }
            }
        }
    }

    #[test]
    fn many_and_few_batches_agree() {
        let mut s = Stream::new(2, &["matmul"]);
        let (a, b) = (random(&mut s, &[6, 40, 30]), random(&mut s, &[6, 30, 50]));
        let all = a.matmul(&b);
        for i in 0..6 {
            let one = a.select_index(0, i).matmul(&b.select_index(0, i));
            assert!(crate::reference::same_bits(&one, &all.select_index(0, i)));
        }
        assert_eq!(a.matmul_nt(&a).dims(), &[6, 40, 40]);
        assert_eq!(a.matmul_tn(&a).dims(), &[6, 30, 30]);
        assert_eq!(a.matmul_tt(&a.t()).dims(), &[6, 30, 30]);
    }

    #[test]
    #[should_panic(expected = "a product of [2, 3] and [2, 3]")]
    fn sides_that_do_not_fit() {
        let _ = Tensor::zeros(&[2, 3]).matmul(&Tensor::zeros(&[2, 3]));
    }
}
