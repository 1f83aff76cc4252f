//! Walks over operands of different strides: broadcasting, reductions to a smaller shape, permutations.
//!
//! A [`Plan`] lists the dimensions of a contiguous walk and each operand's strides in it, with dimensions of one dropped and
//! neighbours merged, so that equal shapes, scalars, row and column vectors all end in one long inner loop.

use std::ops::Range;

use crate::math;
use crate::par::{self, SendPtr};
use crate::simd::vectorize;
use crate::{Buf, Shape};

/// The walk over a contiguous shape with `N` operands.
#[derive(Clone, Copy)]
pub(super) struct Plan<const N: usize> {
    rank: usize,
    dims: [usize; 6],
    strides: [[usize; 6]; N],
}

/// The shape that operands broadcast to (numpy's rules).
pub(super) fn broadcast_shape(a: Shape, b: Shape) -> Shape {
    if a == b {
        return a;
    }
    let rank = a.rank().max(b.rank());
    let mut dims = [1; 6];
    let dim = |s: &Shape, i: usize| if i + s.rank() >= rank { s.dims()[i + s.rank() - rank] } else { 1 };
    for (i, d) in dims[..rank].iter_mut().enumerate() {
        *d = match (dim(&a, i), dim(&b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => panic!("{a:?} and {b:?} do not broadcast"),
        };
    }
    Shape::new(&dims[..rank])
}

/// Strides of a contiguous tensor of `shape` in a walk over `over`, zero where it is repeated.
pub(super) fn strides(shape: Shape, over: Shape) -> [usize; 6] {
    let (rank, own) = (over.rank(), shape.rank());
    assert!(own <= rank, "{shape:?} does not broadcast to {over:?}");
    let (mut out, mut stride) = ([0; 6], 1);
    for i in (0..own).rev() {
        let (d, to) = (shape.dims()[i], over.dims()[i + rank - own]);
        assert!(d == to || d == 1, "{shape:?} does not broadcast to {over:?}");
        if d != 1 {
            out[i + rank - own] = stride;
        }
        stride *= d;
    }
    out
}

impl<const N: usize> Plan<N> {
    pub fn new(over: Shape, strides: [[usize; 6]; N]) -> Self {
        let mut plan = Self { rank: 0, dims: [1; 6], strides: [[0; 6]; N] };
        for (d, &dim) in over.dims().iter().enumerate() {
            if dim == 1 {
                continue;
            }
            let at = plan.rank;
            let merges = at > 0 && (0..N).all(|n| plan.strides[n][at - 1] == strides[n][d] * dim);
            if merges {
                plan.dims[at - 1] *= dim;
            } else {
                plan.dims[at] = dim;
                plan.rank += 1;
            }
            for (own, given) in plan.strides.iter_mut().zip(&strides) {
                own[plan.rank - 1] = given[d];
            }
        }
        plan.rank = plan.rank.max(1);
        plan
    }

    fn inner(&self) -> usize {
        self.dims[self.rank - 1]
    }

    fn inner_strides(&self) -> [usize; N] {
        std::array::from_fn(|n| self.strides[n][self.rank - 1])
    }

    /// Calls `f` with the operands' offsets for each row (each run along the inner dimension).
    #[inline(always)]
    fn walk(&self, rows: Range<usize>, mut f: impl FnMut([usize; N])) {
        let outer = self.rank - 1;
        let (mut index, mut offset, mut rest) = ([0usize; 6], [0usize; N], rows.start);
        for d in (0..outer).rev() {
            index[d] = rest % self.dims[d];
            rest /= self.dims[d];
            for (o, s) in offset.iter_mut().zip(&self.strides) {
                *o += index[d] * s[d];
            }
        }
        for _ in rows {
            f(offset);
            for d in (0..outer).rev() {
                index[d] += 1;
                for (o, s) in offset.iter_mut().zip(&self.strides) {
                    *o += s[d];
                }
                if index[d] < self.dims[d] {
                    break;
                }
                index[d] = 0;
                for (o, s) in offset.iter_mut().zip(&self.strides) {
                    *o -= self.dims[d] * s[d];
                }
            }
        }
    }
}

impl<const N: usize> Plan<N> {
    /// Calls `f` with the operands' offsets for every element in order.
    pub fn each_offset(&self, len: usize, mut f: impl FnMut([usize; N])) {
        if len == 0 {
            return;
        }
        let (inner, s) = (self.inner(), self.inner_strides());
        self.walk(0..len / inner, |at| {
            for i in 0..inner {
                f(std::array::from_fn(|n| at[n] + i * s[n]));
            }
        });
    }
}

/// `f(&mut y[i], x[i])` over equal lengths.
pub(super) fn each1(y: &mut [f32], x: &[f32], f: impl Fn(&mut f32, f32) + Copy + Sync) {
    assert_eq!(y.len(), x.len());
    par::rows_mut_of(y, 1 << 13, |start, y| {
        let x = &x[start..start + y.len()];
        vectorize(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    f(y, *x);
                }
            },
        )
    });
}

/// One row of [`each2`]; the operands' strides are zero or one.
#[inline(always)]
fn row2(y: &mut [f32], [sa, sb]: [usize; 2], a: &[f32], b: &[f32], f: impl Fn(&mut f32, f32, f32) + Copy) {
    let n = y.len();
    match (sa, sb) {
        (0, 0) => {
            let (a, b) = (a[0], b[0]);
            y.iter_mut().for_each(|y| f(y, a, b));
        }
        (_, 0) => {
            let b = b[0];
            y.iter_mut().zip(&a[..n]).for_each(|(y, a)| f(y, *a, b));
        }
        (0, _) => {
            let a = a[0];
            y.iter_mut().zip(&b[..n]).for_each(|(y, b)| f(y, a, *b));
        }
        _ => y.iter_mut().zip(&a[..n]).zip(&b[..n]).for_each(|((y, a), b)| f(y, *a, *b)),
    }
}

/// `f(&mut y[i], a, b)` with both operands broadcast over `y`.
pub(super) fn each2(y: &mut [f32], plan: &Plan<2>, a: &[f32], b: &[f32], f: impl Fn(&mut f32, f32, f32) + Copy + Sync) {
    if y.is_empty() {
        return;
    }
    let (inner, s) = (plan.inner(), plan.inner_strides());
    if plan.rank == 1 {
        return par::rows_mut_of(y, 1 << 13, |start, y| {
            vectorize(
                #[inline(always)]
                || row2(y, s, &a[start * s[0]..], &b[start * s[1]..], f),
            )
        });
    }
    par::rows_mut(y, inner, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                let mut rows = y.chunks_exact_mut(inner);
                plan.walk(first..first + rows.len(), |[oa, ob]| {
                    row2(rows.next().expect("a row"), s, &a[oa..], &b[ob..], f);
                });
            },
        )
    });
}

/// `y (+)= scale * a` with `a` (of shape `from`) broadcast over `y` (of shape `to`).
pub(super) fn spread(y: &mut [f32], to: Shape, accumulate: bool, a: &[f32], from: Shape, scale: f32) {
    let plan = Plan::new(to, [strides(from, to), [0; 6]]);
    if accumulate {
        each2(y, &plan, a, &[scale], |y, a, s| *y += a * s);
    } else {
        each2(y, &plan, a, &[scale], |y, a, s| *y = a * s);
    }
}

/// Rows of a sum are cut here; pieces are added in order.
const PIECE: usize = 1 << 13;

#[inline(always)]
fn row_sum(x: &[f32]) -> f32 {
    if x.len() <= PIECE {
        return math::sum(x);
    }
    x.chunks(PIECE).map(|c| math::sum(c) as f64).sum::<f64>() as f32
}

/// `y (+)= scale * (the sum of x over the dimensions in which y, of shape `to`, is one)`, `x` of shape `from`.
pub(super) fn sum_to(y: &mut [f32], to: Shape, accumulate: bool, x: &[f32], from: Shape, scale: f32) {
    let plan = Plan::new(from, [strides(to, from)]);
    if x.is_empty() {
        if !accumulate {
            y.fill(0.0);
        }
        return;
    }
    if accumulate || scale != 1.0 {
        // The sum is formed apart, so that its bits do not depend on what is there.
        let mut sum = Buf::scratch(y.len());
        sum_plan(&mut sum, &plan, x);
        if accumulate {
            each1(y, &sum, |y, s| *y += s * scale);
        } else {
            each1(y, &sum, |y, s| *y = s * scale);
        }
    } else {
        sum_plan(y, &plan, x);
    }
}

/// Adds some rows of x to their places in y, which begins at `base` of the whole result.
#[inline(always)]
fn add_rows(y: &mut [f32], base: usize, plan: &Plan<1>, x: &[f32], rows: Range<usize>) {
    let (inner, [s]) = (plan.inner(), plan.inner_strides());
    let mut x = x[rows.start * inner..].chunks_exact(inner);
    plan.walk(rows, |[at]| {
        let (x, at) = (x.next().expect("a row"), at - base);
        if s == 0 {
            y[at] += row_sum(x);
        } else {
            y[at..at + inner].iter_mut().zip(x).for_each(|(y, x)| *y += *x);
        }
    });
}

fn sum_plan(y: &mut [f32], plan: &Plan<1>, x: &[f32]) {
    let (inner, [s]) = (plan.inner(), plan.inner_strides());
    let rows = x.len() / inner;
    let m = y.len();
    if plan.rank == 1 && s == 0 {
        // One long sum.
        let mut parts = Buf::scratch(x.len().div_ceil(PIECE));
        let out = SendPtr(parts.as_mut_ptr());
        par::blocks(x.len(), PIECE, x.len(), |i, r| {
            let sum = vectorize(
                #[inline(always)]
                || math::sum(&x[r.clone()]),
            );
            // SAFETY: each block writes its own element.
            unsafe { *out.at(i) = sum };
        });
        y[0] = parts.iter().map(|p| *p as f64).sum::<f64>() as f32;
    } else if plan.rank == 1 {
        y.copy_from_slice(x);
    } else if plan.strides[0][0] != 0 {
        // The outermost dimension is kept: its slices are independent.
        let (slices, per) = (plan.dims[0], rows / plan.dims[0]);
        let size = m / slices;
        let block = par::row_block(x.len() / slices);
        let out = SendPtr(y.as_mut_ptr());
        par::blocks(slices, block, x.len(), |_, r| {
            // SAFETY: slices are disjoint parts of y.
            let part = unsafe { out.slice(r.start * size, r.len() * size) };
            vectorize(
                #[inline(always)]
                || {
                    part.fill(0.0);
                    add_rows(part, r.start * size, plan, x, r.start * per..r.end * per);
                },
            )
        });
    } else {
        // The outermost dimension is summed: pieces of it have their own sums, added in order.
        let (slices, per) = (plan.dims[0], rows / plan.dims[0]);
        let piece = (4 * PIECE).div_ceil(per * inner).max(8);
        let pieces = slices.div_ceil(piece);
        let sum = |y: &mut [f32], r: Range<usize>| {
            vectorize(
                #[inline(always)]
                || {
                    y.fill(0.0);
                    add_rows(y, 0, plan, x, r.start * per..r.end * per);
                },
            )
        };
        if pieces == 1 {
            return sum(y, 0..slices);
        }
        let mut parts = Buf::scratch(pieces * m);
        let out = SendPtr(parts.as_mut_ptr());
        par::blocks(slices, piece, x.len(), |i, r| {
            // SAFETY: each block has its own part.
            sum(unsafe { out.slice(i * m, m) }, r)
        });
        y.copy_from_slice(&parts[..m]);
        for part in parts[m..].chunks_exact(m) {
            math::add_assign(y, part);
        }
    }
}

/// `y (+)= x` where the element of `x` for each of `y`'s, of shape `shape`, is found by these strides.
pub(super) fn copy_strided(y: &mut [f32], shape: Shape, accumulate: bool, x: &[f32], strides: [usize; 6]) {
    if y.is_empty() {
        return;
    }
    let plan = Plan::new(shape, [strides]);
    let (inner, [s]) = (plan.inner(), plan.inner_strides());
    if plan.rank >= 2 && s > 1 && plan.strides[0][plan.rank - 2] == 1 {
        return transpose(y, &plan, accumulate, x);
    }
    par::rows_mut(y, inner, |first, y| {
        let mut rows = y.chunks_exact_mut(inner);
        plan.walk(first..first + rows.len(), |[at]| {
            let row = rows.next().expect("a row");
            match (s, accumulate) {
                (1, false) => row.copy_from_slice(&x[at..at + inner]),
                (_, false) => row.iter_mut().enumerate().for_each(|(i, y)| *y = x[at + i * s]),
                (_, true) => row.iter_mut().enumerate().for_each(|(i, y)| *y += x[at + i * s]),
            }
        });
    });
}

/// [`copy_strided`] where the last two dimensions of `y` are swapped in `x`: by tiles, so that both sides stay in cache.
fn transpose(y: &mut [f32], plan: &Plan<1>, accumulate: bool, x: &[f32]) {
    const TILE: usize = 16;
    let (rows, cols) = (plan.dims[plan.rank - 2], plan.dims[plan.rank - 1]);
    let stride = plan.strides[0][plan.rank - 1];
    par::rows_mut(y, rows * cols, |first, y| {
        for (m, y) in y.chunks_exact_mut(rows * cols).enumerate() {
            let mut at = 0;
            plan.walk((first + m) * rows..(first + m) * rows + 1, |[o]| at = o);
            let x = &x[at..];
            for r0 in (0..rows).step_by(TILE) {
                for c0 in (0..cols).step_by(TILE) {
                    for r in r0..(r0 + TILE).min(rows) {
                        let y = &mut y[r * cols + c0..r * cols + (c0 + TILE).min(cols)];
                        for (c, y) in y.iter_mut().enumerate() {
                            let v = x[r + (c0 + c) * stride];
                            *y = if accumulate { *y + v } else { v };
                        }
                    }
                }
            }
        }
    });
}

/// An axis counted from the front, or from the back if negative, and the (outer, axis, inner) sizes around it.
pub(super) fn around(shape: Shape, axis: isize) -> (usize, [usize; 3]) {
    let rank = shape.rank() as isize;
    let i = if axis < 0 { axis + rank } else { axis };
    assert!((0..rank).contains(&i), "{shape:?} has no axis {axis}");
    let i = i as usize;
    let dims = shape.dims();
    (i, [dims[..i].iter().product(), dims[i], dims[i + 1..].iter().product()])
}

/// The shape with one dimension changed.
pub(super) fn with_dim(shape: Shape, axis: usize, n: usize) -> Shape {
    let mut dims = [1; 6];
    dims[..shape.rank()].copy_from_slice(shape.dims());
    dims[axis] = n;
    Shape::new(&dims[..shape.rank()])
}

/// The shape without one dimension.
pub(super) fn without_dim(shape: Shape, axis: usize) -> Shape {
    let mut dims = shape.dims().to_vec();
    dims.remove(axis);
    Shape::new(&dims)
}
