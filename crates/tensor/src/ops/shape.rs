//! Slices, concatenation, permutation, broadcasting, repetition. All copy: a tensor is always contiguous.

use super::strided::{around, copy_strided, spread, strides, sum_to, with_dim};
use crate::{Buf, Edge, Shape, Tensor, recording};

/// Tensors side by side along an axis; the other dimensions agree.
pub fn concat(parts: &[&Tensor], axis: isize) -> Tensor {
    let first = parts.first().expect("something to concatenate");
    let (i, [outer, _, inner]) = around(first.shape, axis);
    for p in parts {
        let fits = p.shape.rank() == first.shape.rank() && with_dim(p.shape, i, 1) == with_dim(first.shape, i, 1);
        assert!(fits, "{:?} and {:?} do not join along axis {axis}", first.shape, p.shape);
    }
    let widths: Vec<usize> = parts.iter().map(|p| p.dim(i) * inner).collect();
    let total: usize = widths.iter().sum();
    let shape = with_dim(first.shape, i, parts.iter().map(|p| p.dim(i)).sum());
    let mut y = Buf::scratch(shape.len());
    let mut at = 0;
    for (p, w) in parts.iter().zip(&widths) {
        copy_columns(&mut y, total, at, &p.data, *w, 0, *w, outer);
        at += w;
    }
    let edges: Vec<Edge> = parts.iter().map(|p| p.edge()).collect();
    Tensor::from_op(y, shape, recording(&edges), move |dy, grads| {
        let mut at = 0;
        for (edge, w) in edges.iter().zip(&widths) {
            grads.with(edge, |dx, acc| {
                if acc {
                    add_columns(dx, *w, 0, &dy, total, at, *w, outer);
                } else {
                    copy_columns(dx, *w, 0, &dy, total, at, *w, outer);
                }
            });
            at += w;
        }
    })
}

/// Tensors of one shape stacked along a new axis.
pub fn stack(parts: &[&Tensor], axis: isize) -> Tensor {
    let first = parts.first().expect("something to stack");
    let rank = first.shape.rank() as isize + 1;
    let i = if axis < 0 { axis + rank } else { axis };
    let with_axis: Vec<Tensor> = parts.iter().map(|p| p.unsqueeze(i)).collect();
    concat(&with_axis.iter().collect::<Vec<_>>(), i)
}

/// `width` columns of rows of x (row width `xw`, from `xa`) to y (row width `yw`, from `ya`).
fn copy_columns(y: &mut [f32], yw: usize, ya: usize, x: &[f32], xw: usize, xa: usize, width: usize, rows: usize) {
    for r in 0..rows {
        y[r * yw + ya..r * yw + ya + width].copy_from_slice(&x[r * xw + xa..r * xw + xa + width]);
    }
}

/// [`copy_columns`], added.
fn add_columns(y: &mut [f32], yw: usize, ya: usize, x: &[f32], xw: usize, xa: usize, width: usize, rows: usize) {
    crate::simd::vectorize(
        #[inline(always)]
        || {
            for r in 0..rows {
                let (y, x) = (&mut y[r * yw + ya..r * yw + ya + width], &x[r * xw + xa..r * xw + xa + width]);
                y.iter_mut().zip(x).for_each(|(y, x)| *y += *x);
            }
        },
    )
}

impl Tensor {
    /// `len` places along an axis, from `start`.
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Tensor {
        let (i, [outer, n, inner]) = around(self.shape, axis);
        assert!(start + len <= n, "places {start}..{} of axis {axis} of {:?}", start + len, self.shape);
        let shape = with_dim(self.shape, i, len);
        if len == n {
            return self.clone();
        }
        let (from, to, at) = (n * inner, len * inner, start * inner);
        let mut y = Buf::scratch(shape.len());
        copy_columns(&mut y, to, 0, &self.data, from, at, to, outer);
        let edge = self.edge();
        Tensor::from_op(y, shape, recording([&edge]), move |dy, grads| {
            grads.with(&edge, |dx, acc| {
                if acc {
                    add_columns(dx, from, at, &dy, to, 0, to, outer);
                } else {
                    for (dx, dy) in
                        dx.chunks_exact_mut(from.max(1)).zip(dy.chunks(to.max(1)).chain(std::iter::repeat(&[][..])))
                    {
                        dx[..at].fill(0.0);
                        dx[at..at + dy.len()].copy_from_slice(dy);
                        dx[at + dy.len()..].fill(0.0);
                    }
                }
            });
        })
    }

    /// One place along an axis, which disappears.
    pub fn select_index(&self, axis: isize, index: usize) -> Tensor {
        self.narrow(axis, index, 1).squeeze(axis)
    }

    /// Consecutive pieces along an axis, of these sizes, which add up to it.
    pub fn split(&self, axis: isize, sizes: &[usize]) -> Vec<Tensor> {
        let (_, [_, n, _]) = around(self.shape, axis);
        assert_eq!(sizes.iter().sum::<usize>(), n, "pieces {sizes:?} of axis {axis} of {:?}", self.shape);
        let mut at = 0;
        let piece = |&len: &usize| {
            at += len;
            self.narrow(axis, at - len, len)
        };
        sizes.iter().map(piece).collect()
    }

    /// The dimensions in another order: dimension `i` of the result is dimension `order[i]`.
    pub fn permute(&self, order: &[usize]) -> Tensor {
        let rank = self.shape.rank();
        let mut inverse = vec![usize::MAX; rank];
        for (i, o) in order.iter().enumerate() {
            assert!(*o < rank && inverse[*o] == usize::MAX, "{order:?} does not order the axes of {:?}", self.shape);
            inverse[*o] = i;
        }
        assert_eq!(order.len(), rank, "{order:?} does not order the axes of {:?}", self.shape);
        let dims: Vec<usize> = order.iter().map(|o| self.dim(*o)).collect();
        // Where only ones move, the elements stay in order.
        let moved: Vec<usize> = order.iter().copied().filter(|o| self.dim(*o) != 1).collect();
        if moved.is_sorted() {
            return self.reshape(&dims);
        }
        let (from, shape) = (self.shape, Shape::new(&dims));
        let mut y = Buf::scratch(shape.len());
        copy_strided(&mut y, shape, false, &self.data, permuted(from, order));
        let edge = self.edge();
        Tensor::from_op(y, shape, recording([&edge]), move |dy, grads| {
            grads.with(&edge, |dx, acc| copy_strided(dx, from, acc, &dy, permuted(shape, &inverse)));
        })
    }

    /// Two axes swapped.
    pub fn transpose(&self, a: isize, b: isize) -> Tensor {
        let (a, b) = (around(self.shape, a).0, around(self.shape, b).0);
        let mut order = [0, 1, 2, 3, 4, 5];
        order.swap(a, b);
        self.permute(&order[..self.shape.rank()])
    }

    /// The last two axes swapped.
    pub fn t(&self) -> Tensor {
        self.transpose(-2, -1)
    }

    /// Repeated along dimensions of one (and new leading ones) up to a shape.
    pub fn broadcast_to(&self, dims: &[usize]) -> Tensor {
        let (from, shape) = (self.shape, Shape::new(dims));
        if from == shape {
            return self.clone();
        }
        let _ = strides(from, shape);
        let mut y = Buf::scratch(shape.len());
        spread(&mut y, shape, false, &self.data, from, 1.0);
        let edge = self.edge();
        Tensor::from_op(y, shape, recording([&edge]), move |dy, grads| {
            grads.with(&edge, |dx, acc| sum_to(dx, from, acc, &dy, shape, 1.0));
        })
    }

    /// The whole tensor `times` over along an axis: `a b` becomes `a b a b`.
    pub fn repeat(&self, axis: isize, times: usize) -> Tensor {
        let (i, [outer, n, inner]) = around(self.shape, axis);
        let shape = with_dim(self.shape, i, n * times);
        self.reshape(&[outer, 1, n * inner]).broadcast_to(&[outer, times, n * inner]).reshape(shape.dims())
    }

    /// Each place `times` over along an axis: `a b` becomes `a a b b`.
    pub fn repeat_each(&self, axis: isize, times: usize) -> Tensor {
        let (i, [outer, n, inner]) = around(self.shape, axis);
        let shape = with_dim(self.shape, i, n * times);
        self.reshape(&[outer * n, 1, inner]).broadcast_to(&[outer * n, times, inner]).reshape(shape.dims())
    }

    /// A new axis of one at `axis`.
    pub fn unsqueeze(&self, axis: isize) -> Tensor {
        let mut dims = self.dims().to_vec();
        let i = if axis < 0 { axis + dims.len() as isize + 1 } else { axis };
        assert!((0..=dims.len() as isize).contains(&i), "no place {axis} for a new axis in {:?}", self.shape);
        dims.insert(i as usize, 1);
        self.reshape(&dims)
    }

    /// An axis of one removed.
    pub fn squeeze(&self, axis: isize) -> Tensor {
        let (i, [_, n, _]) = around(self.shape, axis);
        assert_eq!(n, 1, "axis {axis} of {:?} is not one", self.shape);
        let mut dims = self.dims().to_vec();
        dims.remove(i);
        self.reshape(&dims)
    }

    /// All elements in a row.
    pub fn flatten(&self) -> Tensor {
        self.reshape(&[self.len()])
    }
}

/// Strides into a contiguous tensor of `shape` of the walk in permuted order.
fn permuted(shape: Shape, order: &[usize]) -> [usize; 6] {
    let (mut own, mut stride) = ([0; 6], 1);
    for i in (0..shape.rank()).rev() {
        own[i] = stride;
        stride *= shape.dims()[i];
    }
    let mut out = [0; 6];
    for (out, o) in out.iter_mut().zip(order) {
        *out = own[*o];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random, same_bits};
    use postgrad_base::Stream;

    fn permute64(x: &[f64], dims: &[usize], order: &[usize]) -> Vec<f64> {
        let shape = Shape::new(dims);
        let strides = permuted(shape, order);
        let to: Vec<usize> = order.iter().map(|o| dims[*o]).collect();
        (0..x.len())
            .map(|mut i| {
                let mut at = 0;
                for d in (0..to.len()).rev() {
                    at += i % to[d] * strides[d];
                    i /= to[d];
                }
                x[at]
            })
            .collect()
    }

    #[test]
    fn permutations() {
        let mut s = Stream::new(1, &["shape"]);
        let cases: [(&[usize], &[usize]); 9] = [
            (&[3, 5], &[1, 0]),
            (&[33, 50], &[1, 0]),
            (&[2, 3, 4, 5], &[0, 2, 1, 3]),
            (&[2, 3, 4, 5], &[3, 1, 0, 2]),
            (&[4, 17, 18], &[0, 2, 1]),
            (&[2, 1, 3], &[1, 0, 2]),
            (&[0, 3], &[1, 0]),
            (&[2, 2, 3, 2, 1, 2], &[5, 3, 1, 4, 0, 2]),
            (&[7], &[0]),
        ];
        for (dims, order) in cases {
            let x = [random(&mut s, dims)];
            check(
                "permute",
                &x,
                1e-5,
                |t| &t[0].permute(order) * 2.0,
                |x| permute64(&x[0], dims, order).iter().map(|x| x * 2.0).collect(),
            );
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(i, o)| inverse[*o] = i);
            assert!(same_bits(&x[0].permute(order).permute(&inverse), &x[0]));
        }
        // Gradients accumulate where a tensor is used twice.
        let x = [random(&mut s, &[20, 18])];
        check(
            "twice",
            &x,
            1e-5,
            |t| t[0].t() + t[0].t() + t[0].reshape(&[18, 20]),
            |x| permute64(&x[0], &[20, 18], &[1, 0]).iter().zip(&x[0]).map(|(a, b)| 2.0 * a + b).collect(),
        );
    }

    #[test]
    fn slices_and_joins() {
        let mut s = Stream::new(2, &["shape"]);
        for dims in [&[7][..], &[3, 5], &[2, 5, 3], &[0, 4]] {
            for axis in 0..dims.len() as isize {
                let (i, [outer, n, inner]) = around(Shape::new(dims), axis);
                let x = [random(&mut s, dims), random(&mut s, dims)];
                let start = n / 3;
                let len = n - start - n / 4;
                let cut = |x: &[f64]| -> Vec<f64> {
                    (0..outer)
                        .flat_map(|o| x[(o * n + start) * inner..(o * n + start + len) * inner].to_vec())
                        .collect()
                };
                check("narrow", &x[..1], 1e-5, |t| t[0].narrow(axis, start, len), |x| cut(&x[0]));
                check(
                    "narrow twice",
                    &x[..1],
                    1e-5,
                    |t| t[0].narrow(axis, start, len) * t[0].narrow(axis, n - len, len),
                    |x| {
                        let tail: Vec<f64> = (0..outer)
                            .flat_map(|o| x[0][(o * n + n - len) * inner..(o + 1) * n * inner].to_vec())
                            .collect();
                        cut(&x[0]).iter().zip(&tail).map(|(a, b)| a * b).collect()
                    },
                );
                check(
                    "concat",
                    &x,
                    1e-5,
                    |t| concat(&[&t[0], &t[1], &t[0]], axis),
                    |x| {
                        let row = |x: &[f64], o: usize| x[o * n * inner..(o + 1) * n * inner].to_vec();
                        (0..outer).flat_map(|o| [row(&x[0], o), row(&x[1], o), row(&x[0], o)].concat()).collect()
                    },
                );
                let whole = concat(&x[0].split(axis, &[start, n - start]).iter().collect::<Vec<_>>(), axis);
                assert!(same_bits(&whole, &x[0]));
                assert_eq!(stack(&[&x[0], &x[1], &x[0]], axis).dim(i), 3);
                let stacked = stack(&[&x[0], &x[1]], axis - dims.len() as isize - 1);
                assert!(same_bits(&stacked.select_index(axis, 1), &x[1]));
                check(
                    "repeat",
                    &x[..1],
                    1e-5,
                    |t| t[0].repeat(axis, 3),
                    |x| (0..outer).flat_map(|o| x[0][o * n * inner..(o + 1) * n * inner].repeat(3)).collect(),
                );
                check(
                    "repeat_each",
                    &x[..1],
                    1e-5,
                    |t| t[0].repeat_each(axis, 2),
                    |x| (0..outer * n).flat_map(|o| x[0][o * inner..(o + 1) * inner].repeat(2)).collect(),
                );
            }
        }
        let x = Tensor::new(vec![1.0, 2.0], &[2]).input();
        let nothing = x.narrow(0, 1, 0);
        let g = crate::gradients(&(nothing.sum() + x.sum()), &[&x]);
        assert_eq!(g[0].as_ref().unwrap().data(), &[1.0, 1.0]);
    }

    #[test]
    fn broadcasts() {
        let mut s = Stream::new(3, &["shape"]);
        let x = [random(&mut s, &[3, 1])];
        check(
            "broadcast_to",
            &x,
            1e-5,
            |t| t[0].broadcast_to(&[2, 3, 4]),
            |x| (0..24).map(|i| x[0][i / 4 % 3]).collect(),
        );
        assert_eq!(Tensor::zeros(&[2, 3]).unsqueeze(-1).squeeze(2).flatten().dims(), &[6]);
    }
}
