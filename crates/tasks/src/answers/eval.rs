//! Evaluation of expressions in complex floating point with a running bound on the error, at fixed sample points.
//!
//! A difference larger than the bound proves that two expressions differ. Agreement proves nothing by itself; see `compare` for the policy.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use num_complex::Complex64 as C;
use num_traits::{Signed, ToPrimitive};

use super::expr::{Const, Expr, Fun};

/// A value and a bound on its absolute error.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    pub z: C,
    pub err: f64,
}

const EPS: f64 = 4.0 * f64::EPSILON;

impl Value {
    fn new(z: C, err: f64) -> Value {
        Value { z, err: err + EPS * z.norm() }
    }

    pub fn is_real(&self) -> bool {
        self.z.im.abs() <= 1e-12 * self.z.re.abs() + 4.0 * self.err
    }

    pub fn is_finite(&self) -> bool {
        self.z.re.is_finite() && self.z.im.is_finite() && self.err.is_finite()
    }
}

/// Values of the symbols.
pub type Point = BTreeMap<String, f64>;

/// The value at a point; not finite where it is undefined or overflows.
pub fn eval(e: &Expr, at: &Point) -> Value {
    eval_on(e, at, &mut true)
}

/// The value at a point, and whether every value on the way was real: off the real line branch cuts decide, not the expression.
pub fn eval_on(e: &Expr, at: &Point, on_line: &mut bool) -> Value {
    let v = match e {
        Expr::Num(q, _) => Value::new(C::new(q.to_f64().unwrap_or(f64::NAN), 0.0), 0.0),
        Expr::Sym(name) => Value { z: C::new(at.get(name).copied().unwrap_or(f64::NAN), 0.0), err: 0.0 },
        Expr::Const(c) => match c {
            Const::Pi => Value::new(C::new(PI, 0.0), 0.0),
            Const::E => Value::new(C::new(std::f64::consts::E, 0.0), 0.0),
            Const::I => Value { z: C::new(0.0, 1.0), err: 0.0 },
            Const::Deg => Value::new(C::new(PI / 180.0, 0.0), 0.0),
            Const::Percent => Value::new(C::new(0.01, 0.0), 0.0),
            Const::Inf => Value { z: C::new(f64::INFINITY, 0.0), err: 0.0 },
            Const::PlusMinus => undefined(),
        },
        Expr::Add(xs) => xs
            .iter()
            .map(|x| eval_on(x, at, on_line))
            .fold(Value { z: C::new(0.0, 0.0), err: 0.0 }, |a, b| Value::new(a.z + b.z, a.err + b.err)),
        Expr::Mul(xs) => xs.iter().map(|x| eval_on(x, at, on_line)).fold(Value { z: C::new(1.0, 0.0), err: 0.0 }, mul),
        Expr::Pow(a, b) => {
            let base = eval_on(a, at, on_line);
            power(base, eval_on(b, at, on_line), b)
        }
        Expr::Fun(f, xs) => {
            let xs: Vec<Value> = xs.iter().map(|x| eval_on(x, at, on_line)).collect();
            function(*f, &xs)
        }
    };
    *on_line &= v.z.im == 0.0;
    v
}

fn mul(a: Value, b: Value) -> Value {
    let z = if a.z.im == 0.0 && b.z.im == 0.0 { C::new(a.z.re * b.z.re, 0.0) } else { a.z * b.z };
    Value::new(z, a.z.norm() * b.err + b.z.norm() * a.err + a.err * b.err)
}

fn inverse(a: Value) -> Value {
    let n = a.z.norm();
    if n <= a.err {
        return undefined();
    }
    Value::new(if a.z.im == 0.0 { C::new(1.0 / a.z.re, 0.0) } else { a.z.inv() }, a.err / (n * (n - a.err)))
}

fn undefined() -> Value {
    Value { z: C::new(f64::NAN, 0.0), err: f64::INFINITY }
}

fn power(a: Value, b: Value, exponent: &Expr) -> Value {
    let real = a.z.im == 0.0 && b.z.im == 0.0;
    if let Expr::Num(q, _) = exponent {
        if q.is_integer()
            && let Some(n) = q.to_integer().to_i32()
        {
            if n == -1 {
                return inverse(a);
            }
            if n < 0 && a.z.norm() <= a.err {
                return undefined();
            }
            let z = if real { C::new(a.z.re.powi(n), 0.0) } else { a.z.powi(n) };
            let slope = if n == 0 || a.z.norm() == 0.0 { 0.0 } else { f64::from(n).abs() * z.norm() / a.z.norm() };
            return Value::new(z, slope * a.err + f64::from(n).abs() * EPS * z.norm());
        }
        if let (true, Some(d)) = (real && a.z.re < 0.0, q.denom().to_i64())
            && d % 2 == 1
        {
            // the real root of a negative number
            let size = power(Value { z: -a.z, err: a.err }, Value { z: b.z, err: b.err }, &Expr::sym(""));
            let odd = q.numer().bit(0);
            return if odd { Value { z: -size.z, err: size.err } } else { size };
        }
    }
    let n = a.z.norm();
    if n == 0.0 {
        return if b.z.re > 0.0 && a.err == 0.0 { Value { z: C::new(0.0, 0.0), err: 0.0 } } else { undefined() };
    }
    let z = if real && a.z.re > 0.0 { C::new(a.z.re.powf(b.z.re), 0.0) } else { a.z.powc(b.z) };
    let ln = if real && a.z.re > 0.0 { a.z.re.ln().abs() } else { a.z.ln().norm() };
    let rel = b.z.norm() * a.err / n + ln * b.err + EPS * (1.0 + ln * b.z.norm());
    Value::new(z, z.norm() * rel)
}

/// `f(x)` with the error carried by the size of the derivative.
fn smooth(z: C, slope: f64, x: Value) -> Value {
    Value::new(z, slope * x.err + EPS * z.norm() + EPS * slope * x.z.norm())
}

fn function(f: Fun, xs: &[Value]) -> Value {
    let Some(&x) = xs.first() else { return undefined() };
    let z = x.z;
    let real = z.im == 0.0;
    let pick =
        |re: fn(f64) -> f64, im: fn(C) -> C, inside: bool| if real && inside { C::new(re(z.re), 0.0) } else { im(z) };
    match f {
        Fun::Sin => smooth(pick(f64::sin, |z| z.sin(), true), z.cos().norm(), x),
        Fun::Cos => smooth(pick(f64::cos, |z| z.cos(), true), z.sin().norm(), x),
        Fun::Tan => mul(function(Fun::Sin, xs), inverse(function(Fun::Cos, xs))),
        Fun::Cot => mul(function(Fun::Cos, xs), inverse(function(Fun::Sin, xs))),
        Fun::Sec => inverse(function(Fun::Cos, xs)),
        Fun::Csc => inverse(function(Fun::Sin, xs)),
        Fun::Asin => smooth(
            pick(f64::asin, |z| z.asin(), z.re.abs() <= 1.0),
            1.0 / (C::new(1.0, 0.0) - z * z).norm().sqrt().max(1e-8),
            x,
        ),
        Fun::Acos => smooth(
            pick(f64::acos, |z| z.acos(), z.re.abs() <= 1.0),
            1.0 / (C::new(1.0, 0.0) - z * z).norm().sqrt().max(1e-8),
            x,
        ),
        Fun::Atan => smooth(pick(f64::atan, |z| z.atan(), true), 1.0 / (C::new(1.0, 0.0) + z * z).norm().max(1e-12), x),
        Fun::Acot => {
            let t = function(Fun::Atan, xs);
            Value::new(C::new(PI / 2.0, 0.0) - t.z, t.err)
        }
        Fun::Asec => function(Fun::Acos, &[inverse(x)]),
        Fun::Acsc => function(Fun::Asin, &[inverse(x)]),
        Fun::Sinh => smooth(pick(f64::sinh, |z| z.sinh(), true), z.cosh().norm(), x),
        Fun::Cosh => smooth(pick(f64::cosh, |z| z.cosh(), true), z.sinh().norm(), x),
        Fun::Tanh => smooth(pick(f64::tanh, |z| z.tanh(), true), 1.0, x),
        Fun::Asinh => smooth(pick(f64::asinh, |z| z.asinh(), true), 1.0, x),
        Fun::Acosh => {
            smooth(pick(f64::acosh, |z| z.acosh(), z.re >= 1.0), 1.0 / (z * z - 1.0).norm().sqrt().max(1e-8), x)
        }
        Fun::Atanh => smooth(
            pick(f64::atanh, |z| z.atanh(), z.re.abs() < 1.0),
            1.0 / (C::new(1.0, 0.0) - z * z).norm().max(1e-12),
            x,
        ),
        Fun::Ln => ln(x),
        Fun::Log => match xs {
            [x, base] => mul(ln(*x), inverse(ln(*base))),
            _ => undefined(),
        },
        Fun::Exp => {
            let z = if real { C::new(z.re.exp(), 0.0) } else { z.exp() };
            smooth(z, z.norm(), x)
        }
        Fun::Abs => Value::new(C::new(z.norm(), 0.0), x.err),
        Fun::Floor | Fun::Ceil => {
            // next to an integer the step is not certain
            if !real || (z.re - z.re.round()).abs() <= 4.0 * x.err && z.re != z.re.round() {
                return undefined();
            }
            Value { z: C::new(if f == Fun::Floor { z.re.floor() } else { z.re.ceil() }, 0.0), err: 0.0 }
        }
        Fun::Factorial => gamma(Value { z: z + 1.0, err: x.err }),
        Fun::Binom => match xs {
            [n, k] => {
                let one = |v: &Value| gamma(Value { z: v.z + 1.0, err: v.err });
                let rest = Value { z: n.z - k.z, err: n.err + k.err };
                mul(one(n), inverse(mul(one(k), one(&rest))))
            }
            _ => undefined(),
        },
        Fun::Min | Fun::Max => xs
            .iter()
            .copied()
            .reduce(|a, b| if (a.z.re < b.z.re) == (f == Fun::Min) { a } else { b })
            .unwrap_or_else(undefined),
        Fun::Gcd | Fun::Lcm => undefined(),
        Fun::Root => match xs {
            [x, n] => {
                let degree = n.z.re;
                let odd = n.z.im == 0.0 && degree.rem_euclid(2.0) == 1.0;
                let by = inverse(*n);
                if real && z.re < 0.0 && odd {
                    let size = power(Value { z: -x.z, err: x.err }, by, &Expr::sym(""));
                    return Value { z: -size.z, err: size.err };
                }
                if degree == 2.0 && n.z.im == 0.0 {
                    let r = if real && z.re >= 0.0 { C::new(z.re.sqrt(), 0.0) } else { z.sqrt() };
                    if real && z.re < 0.0 {
                        return smooth(C::new(0.0, (-z.re).sqrt()), 0.5 / r.norm().max(1e-150), *x);
                    }
                    return smooth(r, 0.5 / r.norm().max(1e-150), *x);
                }
                power(*x, by, &Expr::sym(""))
            }
            _ => undefined(),
        },
        Fun::Re => Value::new(C::new(z.re, 0.0), x.err),
        Fun::Im => Value::new(C::new(z.im, 0.0), x.err),
        Fun::Conj => Value::new(z.conj(), x.err),
    }
}

fn ln(x: Value) -> Value {
    let n = x.z.norm();
    if n <= x.err || n == 0.0 {
        return undefined();
    }
    let z = if x.z.im == 0.0 && x.z.re > 0.0 { C::new(x.z.re.ln(), 0.0) } else { x.z.ln() };
    Value::new(z, x.err / (n - x.err) + EPS)
}

/// Lanczos's approximation (g = 7, nine terms), real arguments only.
fn gamma(x: Value) -> Value {
    const G: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x.z.im != 0.0 {
        return undefined();
    }
    let v = x.z.re;
    if v <= 0.0 && v == v.round() {
        return undefined();
    }
    if v < 0.5 {
        let other = gamma(Value { z: C::new(1.0 - v, 0.0), err: x.err });
        let s = (PI * v).sin();
        let z = PI / (s * other.z.re);
        return Value::new(C::new(z, 0.0), z.abs() * (1e-12 + other.err / other.z.re.abs()));
    }
    let v1 = v - 1.0;
    let sum = G.iter().enumerate().skip(1).fold(G[0], |s, (n, g)| s + g / (v1 + n as f64));
    let t = v1 + 7.5;
    let z = (2.0 * PI).sqrt() * t.powf(v1 + 0.5) * (-t).exp() * sum;
    Value::new(C::new(z, 0.0), z.abs() * (1e-12 + x.err * t.ln().abs()))
}

/// A rational's nearest float, for callers that order endpoints.
pub fn real(e: &Expr) -> Option<f64> {
    match e {
        Expr::Const(Const::Inf) => return Some(f64::INFINITY),
        Expr::Mul(xs) if xs.contains(&Expr::Const(Const::Inf)) => {
            let negative = xs.iter().filter(|x| matches!(x, Expr::Num(q, _) if q.is_negative())).count() % 2 == 1;
            return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        _ => {}
    }
    let v = eval(e, &Point::new());
    (v.is_finite() && v.is_real()).then_some(v.z.re)
}
