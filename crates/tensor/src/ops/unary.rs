//! Functions of one tensor, element by element.
//!
//! `y = f(x)`, `dx = dy * f'(x)`; the derivative is written in terms of whichever of x and y makes it cheap, and only that is
//! kept. The vectorised functions are accurate to a few ulp and do not depend on the system's libm. Left out on purpose:
//! in-place variants.

// A function by its name is called through a shim that is compiled without the SIMD level; an inlined closure is not.
#![allow(clippy::redundant_closure)]

use super::strided::each1;
use crate::{Buf, Edge, Grads, Tensor, math, recording};

/// e^x over the whole range: zero below the normal numbers, infinite above the largest.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let big = x > 88.0;
    let y = math::exp(if big { x - 1.0 } else { x }) * if big { std::f32::consts::E } else { 1.0 };
    if x < -87.336_54 { 0.0 } else { y }
}

/// The natural logarithm: NaN below zero, negative infinity at zero.
#[inline(always)]
pub(super) fn log(x: f32) -> f32 {
    // The polynomial of Cephes' logf on [sqrt(1/2), sqrt(2)); numbers below the normal ones are scaled up first.
    let tiny = x < f32::MIN_POSITIVE;
    let bits = (if tiny { x * 8_388_608.0 } else { x }).to_bits();
    let e = (bits >> 23) as i32 - 126;
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let low = m < std::f32::consts::FRAC_1_SQRT_2;
    let e = e as f32 - if low { 1.0 } else { 0.0 } - if tiny { 23.0 } else { 0.0 };
    let m = if low { m + m - 1.0 } else { m - 1.0 };
    let z = m * m;
    let p = 7.037_683_6e-2_f32;
    let p = p.mul_add(m, -1.151_461e-1);
    let p = p.mul_add(m, 1.167_699_9e-1);
    let p = p.mul_add(m, -1.242_014_1e-1);
    let p = p.mul_add(m, 1.424_932_3e-1);
    let p = p.mul_add(m, -1.666_805_8e-1);
    let p = p.mul_add(m, 2.000_071_4e-1);
    let p = p.mul_add(m, -2.499_999_4e-1);
    let p = p.mul_add(m, 0.333_333_3);
    let y = e.mul_add(-2.121_944_4e-4, m * z * p);
    let y = z.mul_add(-0.5, y) + m;
    let y = e.mul_add(0.693_359_4, y);
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// log(1 + u) for u in [0, 1], with full relative accuracy near zero.
#[inline(always)]
fn log1p(u: f32) -> f32 {
    let w = 1.0 + u;
    if w == 1.0 { u } else { log(w) * (u / (w - 1.0)) }
}

/// log(1 + e^x) without overflow.
#[inline(always)]
pub(super) fn softplus(x: f32) -> f32 {
    let y = log1p(exp(-x.abs()));
    if x > 0.0 { x + y } else { y }
}

/// The sine of x + quarter * pi / 2, in f64 inside; good for |x| up to about 1e9.
#[inline(always)]
fn sin_quarter(x: f32, quarter: f64) -> f32 {
    let x = x as f64;
    let n = (x * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = n.mul_add(-std::f64::consts::FRAC_PI_2, x);
    let r = n.mul_add(-6.123_233_995_736_766e-17, r);
    // n mod 4, in floats so that it vectorises.
    let q = n + quarter;
    let q = q - 4.0 * (q * 0.25).floor();
    let z = r * r;
    let sin = ((((-2.505_210_838_544_172e-8 * z + 2.755_731_922_398_589e-6) * z - 1.984_126_984_126_984e-4) * z
        + 8.333_333_333_333_333e-3)
        * z
        - 1.666_666_666_666_666_6e-1)
        * z
        * r
        + r;
    let cos = ((((-2.755_731_922_398_589e-7 * z + 2.480_158_730_158_73e-5) * z - 1.388_888_888_888_889e-3) * z
        + 4.166_666_666_666_666_4e-2)
        * z
        - 0.5)
        * z
        + 1.0;
    let y = if q == 1.0 || q == 3.0 { cos } else { sin };
    (if q >= 2.0 { -y } else { y }) as f32
}

#[inline(always)]
pub(super) fn sin(x: f32) -> f32 {
    sin_quarter(x, 0.0)
}

#[inline(always)]
pub(super) fn cos(x: f32) -> f32 {
    sin_quarter(x, 1.0)
}

/// The angle of the point (x, y), in (-pi, pi], in f64 inside.
#[inline(always)]
pub(super) fn atan2(y: f32, x: f32) -> f32 {
    use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let (ay, ax) = (y.abs() as f64, x.abs() as f64);
    let steep = ay > ax;
    let (low, high) = if steep { (ax, ay) } else { (ay, ax) };
    let ratio = if high == 0.0 { 0.0 } else { if low == high { 1.0 } else { low / high } };
    // Above tan(pi / 8) the angle is taken from pi / 4; the polynomial is that of Cephes' atanf.
    let far = ratio > 0.414_213_562_373_095;
    let t = if far { (ratio - 1.0) / (ratio + 1.0) } else { ratio };
    let z = t * t;
    let p = 8.053_744_495_38e-2 * z - 1.387_768_560_32e-1;
    let p = p * z + 1.997_771_064_78e-1;
    let p = p * z - 3.333_294_915_39e-1;
    let angle = p * z * t + t + if far { FRAC_PI_4 } else { 0.0 };
    let angle = if steep { FRAC_PI_2 - angle } else { angle };
    let angle = if x.is_sign_negative() { PI - angle } else { angle };
    let angle = (angle as f32).copysign(y);
    if x.is_nan() || y.is_nan() { f32::NAN } else { angle }
}

/// The error function, to 2e-7 (the Chebyshev fit of Numerical Recipes, section 6.2).
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / a.mul_add(0.5, 1.0);
    let p = 0.170_872_77_f32;
    let p = p.mul_add(t, -0.822_152_23);
    let p = p.mul_add(t, 1.488_515_9);
    let p = p.mul_add(t, -1.135_204);
    let p = p.mul_add(t, 0.278_868_07);
    let p = p.mul_add(t, -0.186_288_06);
    let p = p.mul_add(t, 0.096_784_18);
    let p = p.mul_add(t, 0.374_091_96);
    let p = p.mul_add(t, 1.000_023_7);
    let p = p.mul_add(t, -1.265_512_2);
    let y = 1.0 - t * exp(a.mul_add(-a, p));
    if x < 0.0 { -y } else { y }
}

const GELU: f32 = 0.797_884_6; // sqrt(2 / pi)
const GELU_CUBE: f32 = 0.044_715;
const INV_SQRT_2PI: f32 = 0.398_942_3;

#[inline(always)]
fn phi(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_inner(x: f32) -> f32 {
    math::tanh(GELU * (x + GELU_CUBE * x * x * x))
}

impl Tensor {
    /// `f(x)` with the derivative in terms of x.
    pub(super) fn map_x(
        &self,
        f: impl Fn(f32) -> f32 + Copy + Sync,
        d: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
    ) -> Tensor {
        let y = self.map_raw(f);
        let edge = self.edge();
        let record = recording([&edge]);
        let kept = record.then(|| self.data.clone());
        Tensor::from_op(y, self.shape, record, move |dy, grads| chain(dy, grads, &edge, kept, d))
    }

    /// `f(x)` with the derivative in terms of y.
    pub(super) fn map_y(
        &self,
        f: impl Fn(f32) -> f32 + Copy + Sync,
        d: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
    ) -> Tensor {
        let y = std::sync::Arc::new(self.map_raw(f));
        let edge = self.edge();
        let record = recording([&edge]);
        let kept = record.then(|| y.clone());
        Tensor::from_op_shared(y, self.shape, record, move |dy, grads| chain(dy, grads, &edge, kept, d))
    }

    /// `a * x + b`.
    pub(super) fn affine(&self, a: f32, b: f32) -> Tensor {
        let y = self.map_raw(move |x| a * x + b);
        let edge = self.edge();
        Tensor::from_op(y, self.shape, recording([&edge]), move |mut dy, grads| {
            math::scale(&mut dy, a);
            grads.put(&edge, dy);
        })
    }

    pub(super) fn map_raw(&self, f: impl Fn(f32) -> f32 + Copy + Sync) -> Buf {
        let mut y = Buf::scratch(self.len());
        each1(
            &mut y,
            &self.data,
            #[inline(always)]
            |y, x| *y = f(x),
        );
        y
    }

    pub fn neg(&self) -> Tensor {
        self.affine(-1.0, 0.0)
    }

    /// `x + c`.
    pub fn add_scalar(&self, c: f32) -> Tensor {
        self.affine(1.0, c)
    }

    /// `x * c`.
    pub fn mul_scalar(&self, c: f32) -> Tensor {
        self.affine(c, 0.0)
    }

    pub fn exp(&self) -> Tensor {
        self.map_y(
            #[inline(always)]
            |x| exp(x),
            #[inline(always)]
            |y| y,
        )
    }

    /// The natural logarithm.
    pub fn log(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| log(x),
            #[inline(always)]
            |x| 1.0 / x,
        )
    }

    pub fn sin(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| sin(x),
            #[inline(always)]
            |x| cos(x),
        )
    }

    pub fn cos(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| cos(x),
            #[inline(always)]
            |x| -sin(x),
        )
    }

    pub fn sqrt(&self) -> Tensor {
        self.map_y(
            #[inline(always)]
            |x| f32::sqrt(x),
            #[inline(always)]
            |y| 0.5 / y,
        )
    }

    /// `1 / sqrt(x)`.
    pub fn rsqrt(&self) -> Tensor {
        self.map_y(
            #[inline(always)]
            |x| 1.0 / x.sqrt(),
            #[inline(always)]
            |y| -0.5 * y * y * y,
        )
    }

    /// `1 / x`.
    pub fn recip(&self) -> Tensor {
        self.map_y(
            #[inline(always)]
            |x| 1.0 / x,
            #[inline(always)]
            |y| -y * y,
        )
    }

    /// The gradient at zero is zero.
    pub fn abs(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| f32::abs(x),
            #[inline(always)]
            |x| if x > 0.0 { 1.0 } else { if x < 0.0 { -1.0 } else { 0.0 } },
        )
    }

    /// -1, 0 or 1, without gradient.
    pub fn sign(&self) -> Tensor {
        Tensor::constant(self.map_raw(|x| if x > 0.0 { 1.0 } else { if x < 0.0 { -1.0 } else { x * 0.0 } }), self.shape)
    }

    /// The nearest integer (ties to even), without gradient.
    pub fn round(&self) -> Tensor {
        Tensor::constant(self.map_raw(f32::round_ties_even), self.shape)
    }

    /// The largest integer not above, without gradient.
    pub fn floor(&self) -> Tensor {
        Tensor::constant(self.map_raw(f32::floor), self.shape)
    }

    pub fn square(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| x * x,
            #[inline(always)]
            |x| 2.0 * x,
        )
    }

    /// `x^p` with a constant exponent, in f64 inside where `p` is not a small integer or a half.
    pub fn pow(&self, p: f32) -> Tensor {
        match p {
            1.0 => self.affine(1.0, 0.0),
            2.0 => self.square(),
            3.0 => self.map_x(
                #[inline(always)]
                |x| x * x * x,
                #[inline(always)]
                |x| 3.0 * x * x,
            ),
            0.5 => self.sqrt(),
            -0.5 => self.rsqrt(),
            -1.0 => self.recip(),
            _ => {
                let f = move |x: f32| (x as f64).powf(p as f64) as f32;
                let d = move |x: f32| if p == 0.0 { 0.0 } else { (p as f64 * (x as f64).powf(p as f64 - 1.0)) as f32 };
                self.map_x(f, d)
            }
        }
    }

    pub fn sigmoid(&self) -> Tensor {
        self.map_y(
            #[inline(always)]
            |x| math::sigmoid(x),
            #[inline(always)]
            |y| y * (1.0 - y),
        )
    }

    pub fn tanh(&self) -> Tensor {
        self.map_y(
            #[inline(always)]
            |x| math::tanh(x),
            #[inline(always)]
            |y| 1.0 - y * y,
        )
    }

    /// The gradient at zero is zero.
    pub fn relu(&self) -> Tensor {
        self.map_y(
            #[inline(always)]
            |x| if x < 0.0 { 0.0 } else { x },
            #[inline(always)]
            |y| if y > 0.0 { 1.0 } else { 0.0 },
        )
    }

    /// `x * sigmoid(x)`.
    pub fn silu(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| x * math::sigmoid(x),
            #[inline(always)]
            |x| {
                let s = math::sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            },
        )
    }

    /// `x * Phi(x)`, exact (Hendrycks & Gimpel 2016).
    pub fn gelu(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            move |x| x * phi(x),
            #[inline(always)]
            move |x| phi(x) + x * INV_SQRT_2PI * exp(-0.5 * x * x),
        )
    }

    /// The tanh approximation of [`Tensor::gelu`].
    pub fn gelu_tanh(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            move |x| 0.5 * x * (1.0 + gelu_inner(x)),
            #[inline(always)]
            move |x| {
                let t = gelu_inner(x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU * (1.0 + 3.0 * GELU_CUBE * x * x)
            },
        )
    }

    /// `log(1 + e^x)`, stable.
    pub fn softplus(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| softplus(x),
            #[inline(always)]
            |x| math::sigmoid(x),
        )
    }

    /// `log(sigmoid(x))`, stable.
    pub fn log_sigmoid(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| -softplus(-x),
            #[inline(always)]
            |x| math::sigmoid(-x),
        )
    }

    /// The error function.
    pub fn erf(&self) -> Tensor {
        self.map_x(
            #[inline(always)]
            |x| erf(x),
            #[inline(always)]
            |x| 2.0 * std::f32::consts::FRAC_1_PI.sqrt() * exp(-x * x),
        )
    }
}

/// `dx = dy * d(kept)`, in the buffer of `dy`.
fn chain(
    mut dy: Buf,
    grads: &mut Grads,
    edge: &Edge,
    kept: Option<std::sync::Arc<Buf>>,
    d: impl Fn(f32) -> f32 + Copy + Sync,
) {
    let kept = kept.expect("recorded operations keep what they need");
    each1(
        &mut dy,
        &kept,
        #[inline(always)]
        |dy, k| *dy *= d(k),
    );
    grads.put(edge, dy);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    fn erf64(x: f64) -> f64 {
        // The Taylor series; good for the |x| < 4 of these tests.
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn values_and_gradients() {
        type Case = (&'static str, bool, fn(&Tensor) -> Tensor, fn(f64) -> f64);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let cases: &[Case] = &[
            ("neg", false, |t| t.neg(), |x| -x),
            ("add_scalar", false, |t| t.add_scalar(0.3), |x| x + 0.3f32 as f64),
            ("mul_scalar", false, |t| t.mul_scalar(-1.5), |x| x * -1.5),
            ("exp", false, |t| t.exp(), f64::exp),
            ("log", true, |t| t.log(), f64::ln),
            ("sin", false, |t| t.sin(), f64::sin),
            ("cos", false, |t| t.cos(), f64::cos),
            ("sqrt", true, |t| t.sqrt(), f64::sqrt),
            ("rsqrt", true, |t| t.rsqrt(), |x| 1.0 / x.sqrt()),
            ("recip", true, |t| t.recip(), |x| 1.0 / x),
            ("abs", false, |t| t.abs(), f64::abs),
            ("square", false, |t| t.square(), |x| x * x),
            ("cube", false, |t| t.pow(3.0), |x| x * x * x),
            ("pow 2.5", true, |t| t.pow(2.5), |x| x.powf(2.5)),
            ("pow -2", true, |t| t.pow(-2.0), |x| x.powf(-2.0)),
            ("pow 0", true, |t| t.pow(0.0), |_| 1.0),
            ("sigmoid", false, |t| t.sigmoid(), sigmoid),
            ("tanh", false, |t| t.tanh(), f64::tanh),
            ("relu", false, |t| t.relu(), |x| x.max(0.0)),
            ("silu", false, |t| t.silu(), |x| x / (1.0 + (-x).exp())),
            ("gelu", false, |t| t.gelu(), |x| 0.5 * x * (1.0 + erf64(x / 2f64.sqrt()))),
            (
                "gelu_tanh",
                false,
                |t| t.gelu_tanh(),
                |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
            ),
            ("softplus", false, |t| t.softplus(), |x| x.exp().ln_1p()),
            ("log_sigmoid", false, |t| t.log_sigmoid(), |x| -(-x).exp().ln_1p()),
            ("erf", false, |t| t.erf(), erf64),
        ];
        let mut s = Stream::new(1, &["unary"]);
        for (name, positive, fast, plain) in cases {
            for dims in [&[1][..], &[3, 5, 7], &[67], &[0, 4]] {
                let x = random(&mut s, dims);
                let x = if *positive { Tensor::new(x.data().iter().map(|x| x.abs() + 0.3).collect(), dims) } else { x };
                check(name, &[x], 2e-6, |t| fast(&t[0]), |x| x[0].iter().map(|x| plain(*x)).collect());
            }
        }
    }

    #[test]
    fn edges_of_the_range() {
        let x = [f32::NEG_INFINITY, -1000.0, -88.0, -20.0, 0.0, 1e-30, 20.0, 88.5, 1000.0, f32::INFINITY, f32::NAN];
        let t = Tensor::from_slice(&x, &[x.len()]);
        let near = |got: &Tensor, want: fn(f64) -> f64, tol: f64| {
            for (x, g) in x.iter().zip(got.data()) {
                let w = want(*x as f64);
                let same = (w.is_nan() && g.is_nan()) || *g as f64 == w || (*g == f32::INFINITY && w > 3.4028236e38);
                assert!(same || (*g as f64 - w).abs() <= tol * w.abs() + 1e-37, "{x}: {g} for {w}");
            }
        };
        for level in crate::simd::available() {
            crate::simd::with_level(level, || {
                near(&t.exp(), f64::exp, 1e-6);
                near(&t.log(), f64::ln, 1e-6);
                near(&t.softplus(), |x| if x > 30.0 { x } else { x.exp().ln_1p() }, 1e-6);
                near(&t.log_sigmoid(), |x| if x < -30.0 { x } else { -(-x).exp().ln_1p() }, 1e-6);
                near(&t.sigmoid(), |x| 1.0 / (1.0 + (-x).exp()), 1e-6);
            });
        }
        // Accuracy over a wide range.
        for i in 1..20_000 {
            let x = i as f32 * 0.37;
            let d = |a: f32, b: f64| (a as f64 - b).abs();
            assert!(d(sin(x), (x as f64).sin()) < 1e-7 && d(cos(-x), (x as f64).cos()) < 1e-7, "{x}");
            assert!(d(log(x), (x as f64).ln()) < 1.5e-7 * (x as f64).ln().abs().max(1.0), "{x}");
        }
        assert_eq!(log(1e-42), (1e-42f32 as f64).ln() as f32);
    }

    #[test]
    fn rounding_has_no_gradient() {
        let x = Tensor::new(vec![-1.5, -0.2, 0.5, 2.5], &[4]).input();
        assert_eq!(x.sign().data(), &[-1.0, -1.0, 1.0, 1.0]);
        assert_eq!(x.round().data(), &[-2.0, 0.0, 0.0, 2.0]);
        assert_eq!(x.floor().data(), &[-2.0, -1.0, 0.0, 2.0]);
        assert!(!x.round().needs_grad());
    }
}
