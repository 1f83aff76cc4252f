//! Selection and scattering by ids. An id out of range is a programming error and panics with its place.

use super::strided::{around, with_dim};
use crate::par::{self, SendPtr};
use crate::{Buf, Shape, Tensor, recording};

fn check_ids(ids: &[u32], n: usize, what: &str) {
    if let Some(i) = ids.iter().position(|id| *id as usize >= n) {
        panic!("{what}: id {} at place {i} of {n} entries", ids[i]);
    }
}

/// Rows of zeros with a one at each id: `[ids, n]`.
pub fn one_hot(ids: &[u32], n: usize) -> Tensor {
    check_ids(ids, n, "one_hot");
    let mut y = Buf::zeros(ids.len() * n);
    for (i, id) in ids.iter().enumerate() {
        y[i * n + *id as usize] = 1.0;
    }
    Tensor::constant(y, Shape::new(&[ids.len(), n]))
}

/// `y[o, i] = x[o, ids[i]]`, for blocks of `inner` elements.
fn gather_blocks(y: &mut [f32], x: &[f32], ids: &[u32], [outer, n, inner]: [usize; 3]) {
    let out = SendPtr(y.as_mut_ptr());
    let len = y.len();
    par::blocks(outer * ids.len(), par::row_block(inner), len, |_, r| {
        for p in r {
            let (o, id) = (p / ids.len(), ids[p % ids.len()] as usize);
            let at = (o * n + id) * inner;
            // SAFETY: each place writes its own block.
            unsafe { out.slice(p * inner, inner) }.copy_from_slice(&x[at..at + inner]);
        }
    });
}

/// `y[o, ids[i]] += x[o, i]`, in order of i.
fn scatter_blocks(y: &mut [f32], x: &[f32], ids: &[u32], [outer, n, inner]: [usize; 3]) {
    for o in 0..outer {
        for (i, id) in ids.iter().enumerate() {
            let (to, from) = ((o * n + *id as usize) * inner, (o * ids.len() + i) * inner);
            y[to..to + inner].iter_mut().zip(&x[from..from + inner]).for_each(|(y, x)| *y += *x);
        }
    }
}

impl Tensor {
    /// The places `ids` along an axis, in this order (repetitions allowed).
    pub fn index_select(&self, axis: isize, ids: &[u32]) -> Tensor {
        let (i, sizes) = around(self.shape, axis);
        check_ids(ids, sizes[1], "index_select");
        let shape = with_dim(self.shape, i, ids.len());
        let mut y = Buf::scratch(shape.len());
        gather_blocks(&mut y, &self.data, ids, sizes);
        let edge = self.edge();
        let record = recording([&edge]);
        let ids = if record { ids.to_vec() } else { Vec::new() };
        Tensor::from_op(y, shape, record, move |dy, grads| {
            grads.with(&edge, |dx, acc| {
                if !acc {
                    dx.fill(0.0);
                }
                scatter_blocks(dx, &dy, &ids, sizes);
            });
        })
    }

    /// Adds `src` to the places `ids` along an axis (repetitions add up, in order).
    pub fn scatter_add(&self, axis: isize, ids: &[u32], src: &Tensor) -> Tensor {
        let (i, sizes) = around(self.shape, axis);
        check_ids(ids, sizes[1], "scatter_add");
        let wanted = with_dim(self.shape, i, ids.len());
        assert_eq!(src.shape, wanted, "what is added to {} places of {:?}", ids.len(), self.shape);
        let mut y = Buf::copy(&self.data);
        scatter_blocks(&mut y, &src.data, ids, sizes);
        let (xe, se) = (self.edge(), src.edge());
        let record = recording([&xe, &se]);
        let ids = if record { ids.to_vec() } else { Vec::new() };
        Tensor::from_op(y, self.shape, record, move |dy, grads| {
            if grads.wants(&se) {
                let mut ds = Buf::scratch(wanted.len());
                gather_blocks(&mut ds, &dy, &ids, sizes);
                grads.put(&se, ds);
            }
            grads.put(&xe, dy);
        })
    }

    /// Along the last axis, for each row its own ids: `x [.., n]`, `rows * k` ids give `[.., k]`.
    pub fn take_along(&self, ids: &[u32]) -> Tensor {
        let (n, rows) = (self.shape.width(), self.shape.rows());
        let k = ids.len().checked_div(rows).unwrap_or(0);
        assert!(
            self.shape.rank() > 0 && ids.len() == rows * k,
            "{} ids for {rows} rows of {:?}",
            ids.len(),
            self.shape
        );
        check_ids(ids, n, "take_along");
        let shape = with_dim(self.shape, self.shape.rank() - 1, k);
        let mut y = Buf::scratch(ids.len());
        for (p, (y, id)) in y.iter_mut().zip(ids).enumerate() {
            *y = self.data[p / k * n + *id as usize];
        }
        let edge = self.edge();
        let record = recording([&edge]);
        let ids = if record { ids.to_vec() } else { Vec::new() };
        Tensor::from_op(y, shape, record, move |dy, grads| {
            grads.with(&edge, |dx, acc| {
                if !acc {
                    dx.fill(0.0);
                }
                for (p, (d, id)) in dy.iter().zip(&ids).enumerate() {
                    dx[p / k * n + *id as usize] += d;
                }
            });
        })
    }

    /// One element of each row: `x [.., n]` and an id a row give `[..]` (the log-prob of a token, the value of an action).
    pub fn pick(&self, ids: &[u32]) -> Tensor {
        assert_eq!(ids.len(), self.shape.rows(), "an id for each row of {:?}", self.shape);
        let dims = &self.dims()[..self.shape.rank() - 1];
        if ids.is_empty() { self.narrow(-1, 0, 0).reshape(dims) } else { self.take_along(ids).reshape(dims) }
    }

    /// `gather` along any axis: `y[o, j, i] = x[o, ids[o, j, i], i]`; `ids` fills this shape with `len` places on the axis.
    pub fn gather(&self, axis: isize, ids: &[u32], len: usize) -> Tensor {
        let (i, [outer, n, inner]) = around(self.shape, axis);
        let shape = with_dim(self.shape, i, len);
        assert_eq!(ids.len(), shape.len(), "ids that fill {shape:?}");
        check_ids(ids, n, "gather");
        let flat: Vec<u32> = ids
            .iter()
            .enumerate()
            .map(|(p, id)| ((p / (len * inner) * n + *id as usize) * inner + p % inner) as u32)
            .collect();
        assert!(outer * n * inner <= u32::MAX as usize, "{:?} is too large to gather from", self.shape);
        self.reshape(&[self.len()]).index_select(0, &flat).reshape(shape.dims())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    #[test]
    fn selecting_and_scattering() {
        let mut s = Stream::new(1, &["index"]);
        for (dims, axis) in [(&[5][..], 0), (&[4, 3], 0), (&[4, 3], 1), (&[2, 3, 5], 1), (&[0, 4], 1)] {
            let (i, [outer, n, inner]) = around(Shape::new(dims), axis);
            for ids in [&[2u32, 0, 2, 1][..], &[1], &[]] {
                let k = ids.len();
                let from = |p: usize| (p / (k * inner) * n + ids[p / inner % k] as usize) * inner + p % inner;
                let src = with_dim(Shape::new(dims), i, k);
                let x = [random(&mut s, dims), random(&mut s, src.dims())];
                check(
                    "index_select",
                    &x[..1],
                    1e-5,
                    |t| t[0].index_select(axis, ids),
                    |x| (0..outer * k * inner).map(|p| x[0][from(p)]).collect(),
                );
                check(
                    "scatter_add",
                    &x,
                    1e-5,
                    |t| t[0].scatter_add(axis, ids, &t[1]),
                    |x| {
                        let mut y = x[0].clone();
                        (0..outer * k * inner).for_each(|p| y[from(p)] += x[1][p]);
                        y
                    },
                );
            }
        }
    }

    #[test]
    fn each_row_its_own_ids() {
        let mut s = Stream::new(2, &["index"]);
        let x = [random(&mut s, &[2, 2, 5])];
        let ids = [0u32, 4, 4, 1, 2, 2, 3, 0];
        check(
            "take_along",
            &x,
            1e-5,
            |t| t[0].take_along(&ids),
            |x| ids.iter().enumerate().map(|(p, id)| x[0][p / 2 * 5 + *id as usize]).collect(),
        );
        check(
            "pick",
            &x,
            1e-5,
            |t| t[0].pick(&ids[..4]),
            |x| ids[..4].iter().enumerate().map(|(p, id)| x[0][p * 5 + *id as usize]).collect(),
        );
        let wide: Vec<u32> = (0..20).map(|i| i * 7 % 2).collect();
        check(
            "gather",
            &x,
            1e-5,
            |t| t[0].gather(1, &wide, 2),
            |x| (0..20).map(|p| x[0][(p / 10 * 2 + wide[p] as usize) * 5 + p % 5]).collect(),
        );
        assert_eq!(Tensor::zeros(&[0, 5]).pick(&[]).dims(), &[0]);
        assert_eq!(one_hot(&[1, 0], 3).data(), &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "id 5 at place 1 of 5 entries")]
    fn ids_out_of_range() {
        let _ = Tensor::zeros(&[5]).index_select(0, &[1, 5]);
    }
}
