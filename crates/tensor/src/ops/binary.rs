//! Arithmetic of two tensors with broadcasting (numpy's rules, up to six dimensions), and the operators `+ - * /`.
//!
//! What backward needs of an operand is kept only if the side whose derivative reads it wants a gradient. Gradients of a
//! repeated operand are summed over the repetitions.

// A function by its name is called through a shim that is compiled without the SIMD level; an inlined closure is not.
#![allow(clippy::redundant_closure)]

use std::sync::Arc;

use super::strided::{Plan, broadcast_shape, each2, strides, sum_to};
use super::unary::atan2;
use crate::{Buf, Edge, Grads, Shape, Tensor, math, recording};

/// A partial derivative and whether it reads a and b.
type Partial<D> = (D, bool, bool);

/// What backward knows of the operands.
struct Kept {
    shape: Shape,
    strides: [[usize; 6]; 2],
    a: Option<Arc<Buf>>,
    b: Option<Arc<Buf>>,
}

/// `f(a, b)` with its partial derivatives.
fn rule<A, B>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(f32, f32) -> f32 + Copy + Sync,
    da: Partial<A>,
    db: Partial<B>,
) -> Tensor
where
    A: Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
    B: Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
{
    let y = zip(a, b, f);
    let (ae, be) = (a.edge(), b.edge());
    if !recording([&ae, &be]) {
        return y;
    }
    let (wa, wb) = (ae.is_some(), be.is_some());
    let keep = |t: &Tensor, uses: bool| uses.then(|| t.data.clone());
    let kept = Kept {
        shape: y.shape,
        strides: [strides(a.shape, y.shape), strides(b.shape, y.shape)],
        a: keep(a, (wa && da.1) || (wb && db.1)),
        b: keep(b, (wa && da.2) || (wb && db.2)),
    };
    let (a_shape, b_shape) = (a.shape, b.shape);
    Tensor::from_op_shared(y.data, y.shape, true, move |dy, grads| {
        if !grads.wants(&be) {
            return kept.back(dy, grads, da, &ae, a_shape);
        }
        if grads.wants(&ae) {
            kept.back(Buf::copy(&dy), grads, da, &ae, a_shape);
        }
        kept.back(dy, grads, db, &be, b_shape);
    })
}

impl Kept {
    /// One side's gradient, formed in the buffer of `dy`.
    fn back<D>(&self, mut dy: Buf, grads: &mut Grads, (d, uses_a, uses_b): Partial<D>, edge: &Edge, shape: Shape)
    where
        D: Fn(f32, f32) -> f32 + Copy + Sync,
    {
        if uses_a || uses_b {
            // An operand that is not read is a repeated zero.
            let side = |i: usize, uses: bool| if uses { self.strides[i] } else { [0; 6] };
            let of = |kept: &Option<Arc<Buf>>| kept.clone().unwrap_or_else(|| Arc::new(Buf::zeros(1)));
            let plan = Plan::new(self.shape, [side(0, uses_a), side(1, uses_b)]);
            let (a, b) = (of(&self.a), of(&self.b));
            each2(
                &mut dy,
                &plan,
                &a,
                &b,
                #[inline(always)]
                |y, a, b| *y *= d(a, b),
            );
        } else {
            math::scale(&mut dy, d(0.0, 0.0));
        }
        if dy.len() == shape.len() && !dy.is_empty() {
            grads.put(edge, dy);
        } else {
            grads.with(edge, |g, acc| sum_to(g, shape, acc, &dy, self.shape, 1.0));
        }
    }
}

/// `f(a, b)` without gradient.
pub(super) fn zip(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32 + Copy + Sync) -> Tensor {
    let shape = broadcast_shape(a.shape, b.shape);
    let plan = Plan::new(shape, [strides(a.shape, shape), strides(b.shape, shape)]);
    let mut y = Buf::scratch(shape.len());
    each2(
        &mut y,
        &plan,
        &a.data,
        &b.data,
        #[inline(always)]
        |y, a, b| *y = f(a, b),
    );
    Tensor::constant(y, shape)
}

#[inline(always)]
fn one(_: f32, _: f32) -> f32 {
    1.0
}

impl Tensor {
    pub fn add(&self, other: &Tensor) -> Tensor {
        rule(self, other, |a, b| a + b, (one, false, false), (one, false, false))
    }

    pub fn sub(&self, other: &Tensor) -> Tensor {
        rule(self, other, |a, b| a - b, (one, false, false), (|_, _| -1.0, false, false))
    }

    pub fn mul(&self, other: &Tensor) -> Tensor {
        rule(self, other, |a, b| a * b, (|_, b| b, false, true), (|a, _| a, true, false))
    }

    pub fn div(&self, other: &Tensor) -> Tensor {
        rule(self, other, |a, b| a / b, (|_, b| 1.0 / b, false, true), (|a, b| -a / (b * b), true, true))
    }

    /// The larger of two, element by element; where they are equal the gradient goes to `self`. A NaN of either stays.
    pub fn maximum(&self, other: &Tensor) -> Tensor {
        let f = |a: f32, b: f32| if a >= b || a.is_nan() { a } else { b };
        let da = |a: f32, b: f32| if a >= b { 1.0 } else { 0.0 };
        let db = |a: f32, b: f32| if a >= b { 0.0 } else { 1.0 };
        rule(self, other, f, (da, true, true), (db, true, true))
    }

    /// The smaller of two, element by element; where they are equal the gradient goes to `self`. A NaN of either stays.
    pub fn minimum(&self, other: &Tensor) -> Tensor {
        let f = |a: f32, b: f32| if a <= b || a.is_nan() { a } else { b };
        let da = |a: f32, b: f32| if a <= b { 1.0 } else { 0.0 };
        let db = |a: f32, b: f32| if a <= b { 0.0 } else { 1.0 };
        rule(self, other, f, (da, true, true), (db, true, true))
    }

    /// The angle of the point (x, y) = (`other`, `self`), in (-pi, pi].
    pub fn atan2(&self, other: &Tensor) -> Tensor {
        rule(
            self,
            other,
            #[inline(always)]
            |y, x| atan2(y, x),
            (|y, x| x / (x * x + y * y), true, true),
            (|y, x| -y / (x * x + y * y), true, true),
        )
    }
}

macro_rules! operator {
    ($($trait:ident, $method:ident, |$t:ident, $c:ident| $scalar:expr, $reverse:expr;)*) => {$(
        impl std::ops::$trait<&Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                Tensor::$method(self, other)
            }
        }
        impl std::ops::$trait<Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                Tensor::$method(&self, &other)
            }
        }
        impl std::ops::$trait<&Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                Tensor::$method(&self, other)
            }
        }
        impl std::ops::$trait<Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                Tensor::$method(self, &other)
            }
        }
        impl std::ops::$trait<f32> for &Tensor {
            type Output = Tensor;
            fn $method(self, $c: f32) -> Tensor {
                let $t = self;
                $scalar
            }
        }
        impl std::ops::$trait<f32> for Tensor {
            type Output = Tensor;
            fn $method(self, $c: f32) -> Tensor {
                let $t = &self;
                $scalar
            }
        }
        impl std::ops::$trait<&Tensor> for f32 {
            type Output = Tensor;
            fn $method(self, $t: &Tensor) -> Tensor {
                let $c = self;
                $reverse
            }
        }
        impl std::ops::$trait<Tensor> for f32 {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                let ($t, $c) = (&other, self);
                $reverse
            }
        }
    )*};
}

operator! {
    Add, add, |t, c| t.affine(1.0, c), t.affine(1.0, c);
    Sub, sub, |t, c| t.affine(1.0, -c), t.affine(-1.0, c);
    Mul, mul, |t, c| t.affine(c, 0.0), t.affine(c, 0.0);
    Div, div, |t, c| t.affine(1.0 / c, 0.0), t.recip().affine(c, 0.0);
}

impl std::ops::Neg for &Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        Tensor::neg(self)
    }
}

impl std::ops::Neg for Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        Tensor::neg(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random, worst};
    use postgrad_base::Stream;
    use proptest::prelude::*;

    /// The element of a tensor of shape `dims` that position `at` of the broadcast shape `over` reads.
    fn source(dims: &[usize], over: &[usize], mut at: usize) -> usize {
        let (mut out, mut stride) = (0, 1);
        for (i, n) in over.iter().enumerate().rev() {
            let (here, rank) = (at % n, over.len() - dims.len());
            at /= n;
            if i >= rank {
                out += if dims[i - rank] == 1 { 0 } else { here * stride };
                stride *= dims[i - rank];
            }
        }
        out
    }

    fn plain(x: &[Vec<f64>], a: &[usize], b: &[usize], over: &[usize], f: fn(f64, f64) -> f64) -> Vec<f64> {
        (0..over.iter().product()).map(|i| f(x[0][source(a, over, i)], x[1][source(b, over, i)])).collect()
    }

    type Case = (&'static str, fn(&Tensor, &Tensor) -> Tensor, fn(f64, f64) -> f64);
    const CASES: [Case; 7] = [
        ("add", |a, b| a + b, |a, b| a + b),
        ("sub", |a, b| a - b, |a, b| a - b),
        ("mul", |a, b| a * b, |a, b| a * b),
        ("div", |a, b| a / (b * b + 0.5), |a, b| a / (b * b + 0.5)),
        ("maximum", Tensor::maximum, f64::max),
        ("minimum", Tensor::minimum, f64::min),
        ("atan2", Tensor::atan2, f64::atan2),
    ];

    #[test]
    fn values_and_gradients_over_shapes() {
        let mut s = Stream::new(1, &["binary"]);
        let shapes: [(&[usize], &[usize], &[usize]); 9] = [
            (&[3, 7], &[3, 7], &[3, 7]),
            (&[3, 7], &[], &[3, 7]),
            (&[3, 7], &[7], &[3, 7]),
            (&[5, 1], &[5, 9], &[5, 9]),
            (&[4, 1], &[1, 5], &[4, 5]),
            (&[2, 1, 3], &[4, 1], &[2, 4, 3]),
            (&[0, 3], &[3], &[0, 3]),
            (&[1], &[1, 1], &[1, 1]),
            (&[2, 1, 2, 1, 2, 1], &[1, 3, 1, 2, 1, 2], &[2, 3, 2, 2, 2, 2]),
        ];
        for (name, fast, f) in CASES {
            for (a, b, over) in shapes {
                let inputs = [random(&mut s, a), random(&mut s, b)];
                check(name, &inputs, 4e-6, |t| fast(&t[0], &t[1]), |x| plain(x, a, b, over, f));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn broadcasting_follows_the_plain_rule(
            over in prop::collection::vec(0usize..5, 0..6), ones in any::<[u8; 2]>(), cut in any::<[u8; 2]>(), case in 0usize..3
        ) {
            // Each operand has some dimensions replaced by one and some leading ones cut off.
            let side = |ones: u8, cut: u8| -> Vec<usize> {
                let dims = over.iter().enumerate().map(|(i, d)| if ones >> i & 1 == 1 { 1 } else { *d });
                dims.skip(cut as usize % (over.len() + 1)).collect()
            };
            let a = side(ones[0], cut[0]);
            let kept = (over.len() - a.len()) as u32;
            let b = side((ones[1] & !ones[0]).wrapping_shr(kept).wrapping_shl(kept), 0);
            let mut s = Stream::new(2, &["binary"]);
            let (ta, tb) = (random(&mut s, &a).input(), random(&mut s, &b).input());
            let (name, fast, f) = CASES[case];
            let y = fast(&ta, &tb);
            prop_assert_eq!(y.dims(), &over[..], "{}", name);
            let exact = [&ta, &tb].map(|t| t.data().iter().map(|x| *x as f64).collect::<Vec<_>>());
            prop_assert!(worst(y.data(), &plain(&exact, &a, &b, &over, f)) < 1e-6);
            // The gradient of a sum with respect to each operand of `mul` is the other one, summed over repetitions.
            let grads = crate::gradients(&(&ta * &tb), &[&ta, &tb]);
            for (me, (dims, other, own)) in [(&a, &b, 1), (&b, &a, 0)].into_iter().enumerate() {
                let mut want = vec![0.0; exact[me].len()];
                for i in 0..over.iter().product() {
                    want[source(dims, &over, i)] += exact[own][source(other, &over, i)];
                }
                prop_assert!(worst(grads[me].as_ref().unwrap().data(), &want) < 1e-5);
            }
        }
    }

    #[test]
    fn operators_with_numbers_and_shared_operands() {
        let mut s = Stream::new(3, &["binary"]);
        let x = [random(&mut s, &[5, 3])];
        check(
            "numbers",
            &x,
            1e-5,
            |t| (1.0 - &t[0]) * 2.0 + (&t[0] / 4.0 - 1.0) - -(3.0 / (&t[0] * &t[0] + 1.0)),
            |x| x[0].iter().map(|x| (1.0 - x) * 2.0 + (x / 4.0 - 1.0) + 3.0 / (x * x + 1.0)).collect(),
        );
    }

    #[test]
    fn long_operands_on_several_threads() {
        let mut s = Stream::new(4, &["binary"]);
        let (a, b) = (random(&mut s, &[300, 130]), random(&mut s, &[130]));
        let want = plain(
            &[&a, &b].map(|t| t.data().iter().map(|x| *x as f64).collect()),
            a.dims(),
            b.dims(),
            a.dims(),
            |a, b| a * b,
        );
        assert!(worst((&a * &b).data(), &want) < 1e-6);
    }

    #[test]
    #[should_panic(expected = "do not broadcast")]
    fn shapes_that_do_not_fit() {
        let _ = Tensor::zeros(&[2, 3]) + Tensor::zeros(&[2]);
    }

    #[test]
    fn nan_stays_in_maximum() {
        let (a, b) = (Tensor::new(vec![f32::NAN, 1.0], &[2]), Tensor::new(vec![1.0, f32::NAN], &[2]));
        assert!(a.maximum(&b).data().iter().chain(a.minimum(&b).data()).all(|x| x.is_nan()));
    }
}
