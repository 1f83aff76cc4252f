//! Activations of the feed-forward part: gated (`activation(gate) * up`, Shazeer 2020) and plain.

use std::sync::Arc;

use crate::math::{exp, sigmoid};
use crate::par;
use crate::simd::vectorize;
use crate::{Buf, Shape, Tensor, recording};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `x sigmoid(x)`.
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x Phi(x)`.
    GeluErf,
    Relu,
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// The value and the slope of an activation.
trait Curve {
    fn value(x: f32) -> f32;
    fn both(x: f32) -> (f32, f32);
}

struct Silu;
struct GeluTanh;
struct GeluErf;
struct Relu;

impl Curve for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(x)
    }
    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        let s = sigmoid(x);
        (x * s, s * (x * (1.0 - s) + 1.0))
    }
}

impl Curve for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        // (1 + tanh u) / 2 = sigmoid(2 u)
        x * sigmoid(2.0 * SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
    }
    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        let s = sigmoid(2.0 * SQRT_2_OVER_PI * (x + 0.044715 * x * x * x));
        let du = 2.0 * SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x * x);
        (x * s, s + x * s * (1.0 - s) * du)
    }
}

/// The normal distribution function, within 1.5e-7 (Abramowitz & Stegun 7.1.26).
#[inline(always)]
fn phi(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4_f32;
    let p = p.mul_add(t, -1.453_152);
    let p = p.mul_add(t, 1.421_413_8);
    let p = p.mul_add(t, -0.284_496_74);
    let p = p.mul_add(t, 0.254_829_6);
    let tail = 0.5 * p * t * exp(-z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

impl Curve for GeluErf {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * phi(x)
    }
    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        let p = phi(x);
        (x * p, p + x * 0.398_942_3 * exp(-0.5 * x * x))
    }
}

impl Curve for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        if x > 0.0 { x } else { 0.0 }
    }
    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) }
    }
}

macro_rules! by_kind {
    ($kind:expr, $f:ident($($arg:expr),*)) => {
        match $kind {
            Gate::Silu => $f::<Silu>($($arg),*),
            Gate::GeluTanh => $f::<GeluTanh>($($arg),*),
            Gate::GeluErf => $f::<GeluErf>($($arg),*),
            Gate::Relu => $f::<Relu>($($arg),*),
        }
    };
}

/// `activation(gate) * up` of packed rows `gate | up`: `[.., 2 f]` to `[.., f]`.
pub fn glu(x: &Tensor, kind: Gate) -> Tensor {
    let width = x.shape().width();
    assert!(width.is_multiple_of(2) && x.shape().rank() > 0, "gate and up side by side cannot be {:?}", x.shape());
    let f = width / 2;
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("a width") = f;
    let shape = Shape::new(&dims);
    let xe = x.edge();
    let mut y = Buf::scratch(shape.len());
    by_kind!(kind, glu_forward(x.data(), &mut y, f));
    let kept = xe.is_some().then(|| x.data.clone());
    Tensor::from_op(y, shape, recording([&xe]), move |dy, grads| {
        if !grads.wants(&xe) {
            return;
        }
        // Gate and up turn into their gradients in place where nobody else holds them.
        let kept = kept.expect("kept with its edge");
        let mut dx = Arc::try_unwrap(kept).unwrap_or_else(|shared| Buf::copy(&shared));
        by_kind!(kind, glu_backward(&mut dx, &dy, f));
        grads.put(&xe, dx);
    })
}

fn glu_forward<C: Curve>(x: &[f32], y: &mut [f32], f: usize) {
    par::rows_mut(y, f, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                for (i, y) in y.chunks_exact_mut(f).enumerate() {
                    let at = (first + i) * 2 * f;
                    let (gate, up) = x[at..at + 2 * f].split_at(f);
                    for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                        *y = C::value(*g) * u;
                    }
                }
            },
        )
    });
}

fn glu_backward<C: Curve>(x: &mut [f32], dy: &[f32], f: usize) {
    par::rows_mut(x, 2 * f, |first, x| {
        vectorize(
            #[inline(always)]
            || {
                for (i, x) in x.chunks_exact_mut(2 * f).enumerate() {
                    let at = (first + i) * f;
                    let (gate, up) = x.split_at_mut(f);
                    for ((g, u), d) in gate.iter_mut().zip(up).zip(&dy[at..at + f]) {
                        let (value, slope) = C::both(*g);
                        *g = d * *u * slope;
                        *u = d * value;
                    }
                }
            },
        )
    });
}

/// The activation alone, element by element.
pub fn activate(x: &Tensor, kind: Gate) -> Tensor {
    let xe = x.edge();
    let mut y = Buf::scratch(x.len());
    by_kind!(kind, activate_forward(x.data(), &mut y));
    let kept = xe.is_some().then(|| x.data.clone());
    Tensor::from_op(y, x.shape(), recording([&xe]), move |mut dy, grads| {
        if let (Some(x), true) = (kept, grads.wants(&xe)) {
            by_kind!(kind, activate_backward(&x, &mut dy));
            grads.put(&xe, dy);
        }
    })
}

fn activate_forward<C: Curve>(x: &[f32], y: &mut [f32]) {
    par::rows_mut(y, 1, |first, y| {
        vectorize(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(&x[first..]) {
                    *y = C::value(*x);
                }
            },
        )
    });
}

fn activate_backward<C: Curve>(x: &[f32], dy: &mut [f32]) {
    par::rows_mut(dy, 1, |first, dy| {
        vectorize(
            #[inline(always)]
            || {
                for (dy, x) in dy.iter_mut().zip(&x[first..]) {
                    *dy *= C::both(*x).1;
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    fn plain(kind: Gate, x: f64) -> f64 {
        match kind {
            Gate::Silu => x / (1.0 + (-x).exp()),
            Gate::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Gate::GeluErf => x * 0.5 * (1.0 + erf(x / 2f64.sqrt())),
            Gate::Relu => x.max(0.0),
        }
    }

    /// The series of the error function.
    fn erf(z: f64) -> f64 {
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            term *= -z * z / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    const KINDS: [Gate; 4] = [Gate::Silu, Gate::GeluTanh, Gate::GeluErf, Gate::Relu];

    #[test]
    fn gated_values_and_gradients() {
        let mut s = Stream::new(1, &["glu"]);
        for kind in KINDS {
            for (rows, f) in [(1, 1), (3, 17), (5, 64), (0, 3)] {
                let x = random(&mut s, &[rows, 2 * f]);
                check(
                    "glu",
                    &[x],
                    1e-5,
                    |t| glu(&t[0], kind),
                    |x| {
                        x[0].chunks(2 * f)
                            .flat_map(|r| (0..f).map(|i| plain(kind, r[i]) * r[f + i]).collect::<Vec<_>>())
                            .collect()
                    },
                );
            }
        }
    }

    #[test]
    fn plain_values_and_gradients() {
        let mut s = Stream::new(2, &["glu"]);
        for kind in KINDS {
            let x = random(&mut s, &[7, 13]);
            check(
                "activate",
                &[x],
                1e-5,
                |t| activate(&t[0], kind),
                |x| x[0].iter().map(|v| plain(kind, *v)).collect(),
            );
        }
        // Far tails neither overflow nor turn into NaN.
        for kind in KINDS {
            let y = activate(&Tensor::new(vec![-1e4, -30.0, 30.0, 1e4], &[4]), kind);
            assert!(y.data()[0].abs() < 1e-3 && y.data()[1].abs() < 1e-3, "{kind:?} {y:?}");
            assert!((y.data()[2] - 30.0).abs() < 1e-3 && (y.data()[3] - 1e4).abs() < 1.0, "{kind:?} {y:?}");
        }
    }

    #[test]
    fn the_gradient_takes_over_an_unshared_input() {
        let w = crate::Param::new("w", Tensor::full(0.5, &[4, 3]));
        let x = Tensor::full(1.0, &[2, 3]);
        for _ in 0..2 {
            let y = glu(&crate::ops::linear(&x, &w.leaf(), None), Gate::Silu);
            crate::backward(&y);
        }
        let (s, z) = (1.0 / (1.0 + (-1.5f32).exp()), 1.5f32);
        let (gate, up) = (z * s * (1.0 + z * (1.0 - s)), z * s);
        let g = w.grad().unwrap();
        assert!((g.data()[0] - 4.0 * gate).abs() < 1e-4 && (g.data()[11] - 4.0 * up).abs() < 1e-4, "{g:?}");
    }
}
