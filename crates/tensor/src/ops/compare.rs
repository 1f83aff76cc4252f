//! Comparisons, selects, clamps, and orderings.
//!
//! A comparison gives ones and zeros and has no gradient. Orderings put equal values in the order of their places; a NaN
//! counts as the largest.

use std::cmp::Ordering;

use super::binary::zip;
use super::strided::{Plan, around, broadcast_shape, each2, spread, strides, sum_to, with_dim};
use crate::{Buf, Tensor, recording};

/// `a` where `mask` is not zero, else `b`; all three broadcast. The gradient goes only where the value came from, so that a
/// NaN on the other side does no harm.
pub fn select(mask: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = broadcast_shape(mask.shape, broadcast_shape(a.shape, b.shape));
    let sm = strides(mask.shape, shape);
    let mut y = Buf::scratch(shape.len());
    spread(&mut y, shape, false, &a.data, a.shape, 1.0);
    let plan = Plan::new(shape, [sm, strides(b.shape, shape)]);
    each2(&mut y, &plan, &mask.data, &b.data, |y, m, b| *y = if m == 0.0 { b } else { *y });
    let (sides, mask) = ([(a.edge(), a.shape), (b.edge(), b.shape)], mask.data.clone());
    let record = recording([&sides[0].0, &sides[1].0]);
    Tensor::from_op(y, shape, record, move |dy, grads| {
        let plan = Plan::new(shape, [sm, [0; 6]]);
        for ((edge, side), of_a) in sides.iter().zip([1.0, 0.0]) {
            if !grads.wants(edge) {
                continue;
            }
            let mut d = Buf::copy(&dy);
            each2(&mut d, &plan, &mask, &[of_a], |d, m, of_a| *d = if (m != 0.0) == (of_a != 0.0) { *d } else { 0.0 });
            if side.len() == shape.len() {
                grads.put(edge, d);
            } else {
                grads.with(edge, |g, acc| sum_to(g, *side, acc, &d, shape, 1.0));
            }
        }
    })
}

/// The value of `hard` with the gradient of `soft` (Bengio et al. 2013).
pub fn straight_through(hard: &Tensor, soft: &Tensor) -> Tensor {
    assert_eq!(hard.shape, soft.shape, "a straight-through value has the shape of its gradient");
    let edge = soft.edge();
    Tensor::from_op_shared(hard.data.clone(), hard.shape, recording([&edge]), move |dy, grads| grads.put(&edge, dy))
}

#[inline(always)]
fn bit(x: bool) -> f32 {
    if x { 1.0 } else { 0.0 }
}

/// Ascending, a NaN last.
fn by_value(a: f32, b: f32) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The order of two places of a row: by value, equal ones by place.
fn places(x: &[f32], largest_first: bool) -> impl Fn(&u32, &u32) -> Ordering {
    move |a, b| {
        let (va, vb) = (x[*a as usize], x[*b as usize]);
        let order = if largest_first { by_value(vb, va) } else { by_value(va, vb) };
        order.then(a.cmp(b))
    }
}

impl Tensor {
    /// Whether equal (1) or not (0), element by element.
    pub fn eq(&self, other: &Tensor) -> Tensor {
        zip(self, other, |a, b| bit(a == b))
    }

    pub fn ne(&self, other: &Tensor) -> Tensor {
        zip(self, other, |a, b| bit(a != b))
    }

    pub fn lt(&self, other: &Tensor) -> Tensor {
        zip(self, other, |a, b| bit(a < b))
    }

    pub fn le(&self, other: &Tensor) -> Tensor {
        zip(self, other, |a, b| bit(a <= b))
    }

    pub fn gt(&self, other: &Tensor) -> Tensor {
        zip(self, other, |a, b| bit(a > b))
    }

    pub fn ge(&self, other: &Tensor) -> Tensor {
        zip(self, other, |a, b| bit(a >= b))
    }

    /// Limited to `low..=high`. The gradient passes within and on the limits, as in PyTorch.
    pub fn clamp(&self, low: f32, high: f32) -> Tensor {
        self.map_x(
            move |x| if x < low { low } else { if x > high { high } else { x } },
            move |x| bit(x >= low && x <= high),
        )
    }

    /// `value` where `mask` (broadcast) is not zero.
    pub fn masked_fill(&self, mask: &Tensor, value: f32) -> Tensor {
        select(mask, &Tensor::scalar(value), self)
    }

    /// The `k` largest of each row (the last axis), largest first, and where they are: values `[.., k]` without gradient
    /// (use [`Tensor::take_along`] for one) and ids row by row.
    pub fn topk(&self, k: usize) -> (Tensor, Vec<u32>) {
        let (_, [rows, n, _]) = around(self.shape, -1);
        assert!(k <= n, "the {k} largest of {n}");
        let mut ids = Vec::with_capacity(rows * k);
        let mut order: Vec<u32> = Vec::with_capacity(n);
        for x in self.data.chunks_exact(n.max(1)) {
            order.clear();
            order.extend(0..n as u32);
            let by = places(x, true);
            if k < n && k > 0 {
                order.select_nth_unstable_by(k - 1, &by);
            }
            order.truncate(k);
            order.sort_unstable_by(&by);
            ids.extend_from_slice(&order);
        }
        let values = if k == 0 || rows == 0 {
            Tensor::zeros(with_dim(self.shape, self.shape.rank() - 1, k).dims())
        } else {
            self.detach().take_along(&ids)
        };
        (values, ids)
    }

    /// The places of each row's (last axis) values in order, smallest first unless `largest_first`.
    pub fn argsort(&self, largest_first: bool) -> Vec<u32> {
        let n = around(self.shape, -1).1[1];
        let mut ids = Vec::with_capacity(self.len());
        for x in self.data.chunks_exact(n.max(1)) {
            let mut order: Vec<u32> = (0..n as u32).collect();
            order.sort_unstable_by(places(x, largest_first));
            ids.extend_from_slice(&order);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    #[test]
    fn selects_over_broadcast_sides() {
        let mut s = Stream::new(1, &["compare"]);
        let shapes: [(&[usize], &[usize], &[usize]); 4] =
            [(&[3, 5], &[3, 5], &[3, 5]), (&[5], &[3, 1], &[]), (&[3, 1], &[], &[3, 5]), (&[5], &[0, 5], &[5])];
        for (m, a, b) in shapes {
            let mask = random(&mut s, m).gt(&Tensor::scalar(0.0));
            let inputs = [random(&mut s, a), random(&mut s, b)];
            let rows = if a == [0, 5] { 0 } else { 3 };
            let at = |dims: &[usize], p: usize| match dims {
                [] => 0,
                [5] => p % 5,
                [_, 1] => p / 5,
                _ => p,
            };
            check(
                "select",
                &inputs,
                1e-6,
                |t| select(&mask, &t[0], &t[1]),
                |x| {
                    let of = |p: usize| if mask.data()[at(m, p)] != 0.0 { x[0][at(a, p)] } else { x[1][at(b, p)] };
                    (0..rows * 5).map(of).collect()
                },
            );
        }
        let x = Tensor::new(vec![0.0, 4.0], &[2]).input();
        let safe = select(&x.gt(&Tensor::scalar(0.0)), &x.sqrt(), &Tensor::scalar(7.0));
        assert_eq!(safe.data(), &[7.0, 2.0]);
        assert_eq!(x.masked_fill(&Tensor::new(vec![1.0, 0.0], &[2]), -1.0).data(), &[-1.0, 4.0]);
    }

    #[test]
    fn comparisons_and_clamps() {
        let (a, b) = (Tensor::new(vec![1.0, 2.0, f32::NAN], &[3]), Tensor::new(vec![2.0, 2.0, 2.0], &[3]));
        let got = [a.eq(&b), a.ne(&b), a.lt(&b), a.le(&b), a.gt(&b), a.ge(&b)].map(|t| t.data().to_vec());
        let want = [[0., 1., 0.], [1., 0., 1.], [1., 0., 0.], [1., 1., 0.], [0., 0., 0.], [0., 1., 0.]];
        assert_eq!(got, want.map(|w| w.to_vec()));
        assert!(!a.input().lt(&b).needs_grad());
        let mut s = Stream::new(2, &["compare"]);
        let x = [random(&mut s, &[4, 9])];
        check(
            "clamp",
            &x,
            1e-6,
            |t| t[0].clamp(-0.5, 0.7),
            |x| x[0].iter().map(|x| x.clamp(-0.5, 0.7f32 as f64)).collect(),
        );
        let soft = Tensor::new(vec![0.3, 0.7], &[2]).input();
        let y = straight_through(&soft.round(), &soft) * 3.0;
        assert_eq!(y.data(), &[0.0, 3.0]);
        assert_eq!(crate::gradients(&y, &[&soft])[0].as_ref().unwrap().data(), &[3.0, 3.0]);
    }

    #[test]
    fn orderings() {
        let x = Tensor::new(vec![1.0, 3.0, 2.0, 3.0, -1.0, 0.0, f32::NAN, 0.0], &[2, 4]);
        assert_eq!(x.argsort(true), [1, 3, 2, 0, 2, 1, 3, 0]);
        assert_eq!(x.argsort(false), [0, 2, 1, 3, 0, 1, 3, 2]);
        let (values, ids) = x.narrow(0, 0, 1).topk(3);
        assert_eq!((values.data(), &ids[..]), (&[3.0, 3.0, 2.0][..], &[1, 3, 2][..]));
        assert_eq!(x.topk(0).0.dims(), &[2, 0]);
        let mut s = Stream::new(3, &["compare"]);
        let x = random(&mut s, &[7, 50]);
        let sorted = x.argsort(true);
        for k in [1, 5, 50] {
            let want: Vec<u32> = sorted.chunks(50).flat_map(|r| r[..k].to_vec()).collect();
            assert_eq!(x.topk(k).1, want);
        }
    }
}
