//! Normal form of an expression: a quotient of polynomials with rational coefficients over atoms.
//!
//! Atoms are symbols, i, pi, e, prime numbers (with powers in [0, 1): their radicals) and whole subexpressions that go no further. Radicals of
//! distinct primes are linearly independent over the rationals (Besicovitch 1940), so that a difference made of symbols, prime radicals,
//! i and pi alone is zero only if its normal form is: both verdicts are proofs. With other atoms only "zero" is one.
//! Everything is bounded: what grows past the bounds gives none and is left to evaluation.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::Ratio;
use num_traits::{CheckedAdd, CheckedMul, One, Pow, Signed, ToPrimitive, Zero};

use super::expr::{Const, Expr, Fun, Q};

type Power = Ratio<i64>;
/// Sorted by atom, no zero powers.
type Mono = Vec<(u32, Power)>;
/// No zero coefficients.
pub type Poly = BTreeMap<Mono, Q>;

const MAX_TERMS: usize = 400;
const MAX_BITS: u64 = 20_000;
const MAX_POWER: i64 = 1_000_000;

#[derive(Clone, Debug, PartialEq)]
enum Atom {
    Sym,
    I,
    Pi,
    E,
    Prime(u64),
    /// A power `base^x` of a positive constant with a symbolic exponent, or e's.
    Exponential,
    /// Root of this polynomial: its powers are kept in [0, 1).
    Root(Poly),
    Opaque,
}

/// A quotient in normal form.
#[derive(Clone, Debug)]
pub struct Quotient {
    pub num: Poly,
    pub den: Poly,
}

/// What the normal form of a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Zero,
    NonZero,
    Unknown,
}

/// The atoms met so far; expressions compared share one table.
#[derive(Default)]
pub struct Algebra {
    atoms: Vec<Atom>,
    index: BTreeMap<String, u32>,
    /// Work left, in products of terms.
    fuel: u32,
    depth: u32,
}

impl Algebra {
    /// An empty table that may spend this much work.
    pub fn new(fuel: u32) -> Self {
        Algebra { fuel, ..Default::default() }
    }

    /// Work not spent.
    pub fn fuel(&self) -> u32 {
        self.fuel
    }

    fn atom(&mut self, key: String, atom: Atom) -> u32 {
        if let Some(n) = self.index.get(&key) {
            return *n;
        }
        let n = self.atoms.len() as u32;
        self.atoms.push(atom);
        self.index.insert(key, n);
        n
    }

    fn spend(&mut self, n: usize) -> Option<()> {
        self.fuel = self.fuel.checked_sub(n as u32 + 1)?;
        Some(())
    }

    /// Long numbers cost by the square of their length.
    fn spend_bits(&mut self, c: &Q) -> Option<()> {
        let bits = c.numer().bits() + c.denom().bits();
        if bits > MAX_BITS { None } else { self.spend((bits / 128).pow(2) as usize) }
    }

    /// The difference of two expressions.
    pub fn difference(&mut self, a: &Expr, b: &Expr) -> Option<Quotient> {
        let (a, b) = (self.normal(a)?, self.normal(b)?);
        let b = Quotient { num: scaled(&b.num, &Q::from_integer(BigInt::from(-1))), den: b.den };
        self.add(a, b)
    }

    /// Whether an expression's numerator is zero, and if the answer is a proof.
    pub fn verdict(&self, q: &Quotient) -> Verdict {
        if q.den.is_empty() {
            return Verdict::Unknown;
        }
        if q.num.is_empty() {
            return Verdict::Zero;
        }
        if q.num.len() == 1 && q.num.contains_key(&Vec::new()) {
            return Verdict::NonZero;
        }
        let decided = q.num.keys().flatten().all(|(a, p)| match &self.atoms[*a as usize] {
            Atom::Sym => p.is_integer(),
            Atom::I | Atom::Pi => true,
            Atom::Prime(p) => *p < 4_000_000,
            _ => false,
        });
        if decided { Verdict::NonZero } else { Verdict::Unknown }
    }

    /// Are two numerators the same up to a rational factor (positive where `positive`)?
    pub fn proportional(&self, a: &Poly, b: &Poly, positive: bool) -> bool {
        if a.len() != b.len() || a.is_empty() {
            return false;
        }
        let mut ratio: Option<Q> = None;
        a.iter().zip(b).all(|((ma, ca), (mb, cb))| {
            let r = ca / cb;
            let same = ma == mb && ratio.as_ref().is_none_or(|old| *old == r) && (!positive || r.is_positive());
            ratio = Some(r);
            same
        })
    }

    /// For `p = a*x + b` with one symbol and rational a, b: the symbol's atom and both.
    pub fn linear(&self, p: &Poly) -> Option<(Q, Q)> {
        let (mut a, mut b) = (Q::zero(), Q::zero());
        for (m, c) in p {
            match m.as_slice() {
                [] => b = c.clone(),
                [(atom, power)] if self.atoms[*atom as usize] == Atom::Sym && power.is_one() && a.is_zero() => {
                    a = c.clone()
                }
                _ => return None,
            }
        }
        (!a.is_zero()).then_some((a, b))
    }

    fn add(&mut self, a: Quotient, b: Quotient) -> Option<Quotient> {
        if a.den == b.den {
            return Some(Quotient { num: self.sum(a.num, &b.num)?, den: a.den });
        }
        let left = self.product(&a.num, &b.den)?;
        let right = self.product(&b.num, &a.den)?;
        let den = self.product(&a.den, &b.den)?;
        Some(Quotient { num: self.sum(left, &right)?, den })
    }

    fn sum(&mut self, mut a: Poly, b: &Poly) -> Option<Poly> {
        self.spend(b.len())?;
        for (m, c) in b {
            self.spend_bits(c)?;
            insert(&mut a, m.clone(), c.clone());
        }
        (a.len() <= MAX_TERMS).then_some(a)
    }

    fn product(&mut self, a: &Poly, b: &Poly) -> Option<Poly> {
        self.spend(a.len() * b.len())?;
        let mut out = Poly::new();
        for (ma, ca) in a {
            for (mb, cb) in b {
                let c = ca * cb;
                self.spend_bits(&c)?;
                self.spend(ma.len() + mb.len())?;
                let (mono, factor, extra) = self.times(ma, mb)?;
                let mut part = Poly::new();
                insert(&mut part, mono, c * factor);
                for root in extra {
                    part = self.product(&part, &root)?;
                }
                for (m, c) in part {
                    insert(&mut out, m, c);
                }
                if out.len() > MAX_TERMS {
                    return None;
                }
            }
        }
        Some(out)
    }

    /// The product of two monomials: the monomial, a rational factor, and radicands that came out of their roots.
    fn times(&mut self, a: &Mono, b: &Mono) -> Option<(Mono, Q, Vec<Poly>)> {
        let (mut i, mut j) = (0, 0);
        let mut all: Mono = Vec::with_capacity(a.len() + b.len());
        while i < a.len() || j < b.len() {
            if j == b.len() || (i < a.len() && a[i].0 < b[j].0) {
                all.push(a[i]);
                i += 1;
            } else if i == a.len() || b[j].0 < a[i].0 {
                all.push(b[j]);
                j += 1;
            } else {
                all.push((a[i].0, a[i].1.checked_add(&b[j].1)?));
                i += 1;
                j += 1;
            }
        }
        self.reduce(all)
    }

    /// Brings the powers of a monomial into their ranges.
    fn reduce(&mut self, all: Mono) -> Option<(Mono, Q, Vec<Poly>)> {
        let mut factor = Q::one();
        let mut extra = Vec::new();
        let mut mono = Vec::with_capacity(all.len());
        for (atom, power) in all {
            if power.numer().abs() > MAX_POWER || *power.denom() > 1000 {
                return None;
            }
            let power = match &self.atoms[atom as usize] {
                Atom::I => {
                    if !power.is_integer() {
                        return None;
                    }
                    let k = power.to_integer().mod_floor(&4);
                    if k >= 2 {
                        factor = -factor;
                    }
                    Power::from_integer(k % 2)
                }
                Atom::Prime(p) => {
                    let whole = power.floor().to_integer();
                    factor *= int_power(&Q::from_integer(BigInt::from(*p)), whole)?;
                    power - Power::from_integer(whole)
                }
                Atom::Root(base) => {
                    let whole = power.floor().to_integer();
                    if !(0..=8).contains(&whole) {
                        return None;
                    }
                    extra.extend(std::iter::repeat_n(base.clone(), whole as usize));
                    power - Power::from_integer(whole)
                }
                _ => power,
            };
            if !power.is_zero() {
                mono.push((atom, power));
            }
        }
        Some((mono, factor, extra))
    }

    fn mul(&mut self, a: &Quotient, b: &Quotient) -> Option<Quotient> {
        Some(Quotient { num: self.product(&a.num, &b.num)?, den: self.product(&a.den, &b.den)? })
    }

    /// Divides by a monomial denominator where its atoms allow it.
    fn tidy(&mut self, q: Quotient) -> Option<Quotient> {
        if q.den.len() != 1 {
            return Some(q);
        }
        let (mono, c) = q.den.iter().next()?;
        if mono.iter().any(|(a, _)| matches!(self.atoms[*a as usize], Atom::Root(_))) {
            return Some(q);
        }
        let inverse: Mono = mono.iter().map(|(a, p)| (*a, -p)).collect();
        let (mono, factor, _) = self.reduce(inverse)?;
        let mut by = Poly::new();
        insert(&mut by, mono, factor / c);
        Some(Quotient { num: self.product(&q.num, &by)?, den: one() })
    }

    /// The normal form.
    pub fn normal(&mut self, e: &Expr) -> Option<Quotient> {
        self.depth += 1;
        let out = if self.depth > 200 { None } else { self.normal_below(e) };
        self.depth -= 1;
        out
    }

    fn normal_below(&mut self, e: &Expr) -> Option<Quotient> {
        self.spend(1)?;
        match e {
            Expr::Num(q, _) => Some(constant(q.clone())),
            Expr::Sym(name) => {
                let a = self.atom(format!("s:{name}"), Atom::Sym);
                Some(single(a))
            }
            Expr::Const(c) => match c {
                Const::Pi => Some(self.pi()),
                Const::E => {
                    let a = self.atom("e".into(), Atom::E);
                    Some(single(a))
                }
                Const::I => Some(self.i()),
                Const::Deg => {
                    let pi = self.pi();
                    self.mul(&pi, &constant(Q::new(BigInt::one(), BigInt::from(180))))
                }
                Const::Percent => Some(constant(Q::new(BigInt::one(), BigInt::from(100)))),
                Const::Inf | Const::PlusMinus => None,
            },
            Expr::Add(terms) => {
                let mut total = constant(Q::zero());
                for t in terms {
                    let t = self.normal(t)?;
                    total = self.add(total, t)?;
                }
                Some(total)
            }
            Expr::Mul(factors) => {
                let mut total = constant(Q::one());
                for t in factors {
                    let t = self.normal(t)?;
                    total = self.mul(&total, &t)?;
                    total = self.tidy(total)?;
                }
                Some(total)
            }
            Expr::Pow(base, exponent) => self.power(base, exponent),
            Expr::Fun(f, args) => self.function(*f, args),
        }
    }

    fn pi(&mut self) -> Quotient {
        let a = self.atom("pi".into(), Atom::Pi);
        single(a)
    }

    fn i(&mut self) -> Quotient {
        let a = self.atom("i".into(), Atom::I);
        single(a)
    }

    /// A subexpression as an atom of its own, its arguments in normal form so that equal ones meet.
    fn opaque(&mut self, name: &str, args: &[Quotient]) -> Quotient {
        let key = format!("{name}{args:?}");
        let a = self.atom(key, Atom::Opaque);
        single(a)
    }

    fn power(&mut self, base: &Expr, exponent: &Expr) -> Option<Quotient> {
        let b = self.normal(base)?;
        let x = self.normal(exponent)?;
        if let Some(q) = as_rational(&x) {
            let (n, d) = (q.numer().to_i64(), q.denom().to_i64());
            if let (Some(n), Some(d)) = (n, d)
                && n.abs() <= MAX_POWER
                && d <= 1000
                && let Some(out) = if d == 1 { self.int_power(&b, n) } else { self.root(&b, n, d) }
            {
                return Some(out);
            }
            return Some(self.opaque("pow", &[b, x]));
        }
        if x.den == one()
            && let Some(out) = self.exponential(&b, &x.num)
        {
            return Some(out);
        }
        Some(self.opaque("pow", &[b, x]))
    }

    fn int_power(&mut self, b: &Quotient, n: i64) -> Option<Quotient> {
        if n < 0 {
            if b.num.is_empty() {
                return None;
            }
            let flipped = self.tidy(Quotient { num: b.den.clone(), den: b.num.clone() })?;
            return self.int_power(&flipped, n.checked_neg()?);
        }
        if let (Some(q), true) = (as_rational(b), n > 64) {
            return int_power(&q, n).map(constant);
        }
        if b.num.len() == 1 && b.den == one() {
            let (mono, c) = b.num.iter().next()?;
            if !mono.iter().any(|(a, _)| matches!(self.atoms[*a as usize], Atom::Root(_))) {
                let raised: Option<Mono> =
                    mono.iter().map(|(a, p)| Some((*a, p.checked_mul(&Power::from_integer(n))?))).collect();
                let (mono, factor, _) = self.reduce(raised?)?;
                let mut num = Poly::new();
                insert(&mut num, mono, int_power(c, n)? * factor);
                return Some(Quotient { num, den: one() });
            }
        }
        if n > 64 {
            return None;
        }
        let mut out = constant(Q::one());
        for _ in 0..n {
            out = self.mul(&out, b)?;
        }
        self.tidy(out)
    }

    /// `b^(n/d)` with d > 1.
    fn root(&mut self, b: &Quotient, n: i64, d: i64) -> Option<Quotient> {
        if b.num.is_empty() {
            return (n > 0).then(|| constant(Q::zero()));
        }
        if b.den != one() {
            // sqrt(p/q) with rational q only: tidy made such denominators one
            return None;
        }
        if n < 0 {
            let positive = self.root(b, -n, d)?;
            return self.tidy(Quotient { num: positive.den, den: positive.num });
        }
        if let Some(q) = as_rational(b) {
            let size = self.rational_root(&q.abs(), n, d)?;
            if !q.is_negative() {
                return Some(size);
            }
            if d % 2 == 1 {
                return if n % 2 == 0 { Some(size) } else { self.mul(&size, &constant(-Q::one())) };
            }
            if d != 2 {
                return None;
            }
            let i = self.i();
            let i = self.int_power(&i, n)?;
            return self.mul(&size, &i);
        }
        // the content comes out; single positive constants are raised factor by factor
        let content = content(&b.num);
        let outside = self.rational_root(&content, n, d)?;
        let inside = scaled(&b.num, &content.recip());
        if inside.len() == 1 {
            let (mono, c) = inside.iter().next()?;
            let symbols: Vec<_> = mono.iter().filter(|(a, _)| matches!(self.atoms[*a as usize], Atom::Sym)).collect();
            let simple = mono.iter().all(|(a, p)| match &self.atoms[*a as usize] {
                Atom::Pi | Atom::E | Atom::Prime(_) => true,
                Atom::Sym => p.is_one(),
                _ => false,
            });
            if simple && c.is_one() && symbols.len() <= 1 {
                let raised: Option<Mono> =
                    mono.iter().map(|(a, p)| Some((*a, p.checked_mul(&Power::new(n, d))?))).collect();
                let (mono, factor, _) = self.reduce(raised?)?;
                let mut num = Poly::new();
                insert(&mut num, mono, factor);
                return self.mul(&Quotient { num, den: one() }, &outside);
            }
        }
        let a = self.atom(format!("root{inside:?}"), Atom::Root(inside.clone()));
        let (mono, factor, extra) = self.reduce(vec![(a, Power::new(n, d))])?;
        let mut num = Poly::new();
        insert(&mut num, mono, factor);
        for e in extra {
            num = self.product(&num, &e)?;
        }
        self.mul(&Quotient { num, den: one() }, &outside)
    }

    /// A positive rational to the power n/d, as radicals of primes.
    fn rational_root(&mut self, q: &Q, n: i64, d: i64) -> Option<Quotient> {
        let mut all: BTreeMap<u32, Power> = BTreeMap::new();
        for (part, sign) in [(q.numer(), 1), (q.denom(), -1)] {
            for (prime, k) in factors(part)? {
                let a = self.atom(format!("p:{prime}"), Atom::Prime(prime));
                let p = Power::new(n, d).checked_mul(&Power::from_integer(k * sign))?;
                let old = all.entry(a).or_insert_with(Power::zero);
                *old = old.checked_add(&p)?;
            }
        }
        let (mono, factor, _) = self.reduce(all.into_iter().collect())?;
        let mut num = Poly::new();
        insert(&mut num, mono, factor);
        Some(Quotient { num, den: one() })
    }

    /// `b^x` for a positive constant b made of primes and e, x a polynomial: one atom for each term of the exponent.
    fn exponential(&mut self, b: &Quotient, x: &Poly) -> Option<Quotient> {
        if b.den != one() || b.num.len() != 1 {
            return None;
        }
        let (mono, c) = b.num.iter().next()?;
        if !c.is_positive() {
            return None;
        }
        let mut bases: Vec<(String, u32, Power)> = Vec::new();
        for (part, sign) in [(c.numer(), 1), (c.denom(), -1)] {
            for (prime, k) in factors(part)? {
                let a = self.atom(format!("p:{prime}"), Atom::Prime(prime));
                bases.push((format!("{prime}"), a, Power::from_integer(k * sign)));
            }
        }
        for (a, p) in mono {
            match &self.atoms[*a as usize] {
                Atom::E => bases.push(("e".into(), *a, *p)),
                Atom::Prime(prime) => bases.push((format!("{prime}"), *a, *p)),
                _ => return None,
            }
        }
        let mut out = constant(Q::one());
        for (term, c) in x {
            let c = Power::new(c.numer().to_i64()?, c.denom().to_i64()?);
            for (name, atom, p) in &bases {
                let power = c.checked_mul(p)?;
                let a =
                    if term.is_empty() { *atom } else { self.atom(format!("exp:{name}^{term:?}"), Atom::Exponential) };
                let (mono, factor, _) = self.reduce(vec![(a, power)])?;
                let mut num = Poly::new();
                insert(&mut num, mono, factor);
                out = self.mul(&out, &Quotient { num, den: one() })?;
            }
        }
        Some(out)
    }

    fn function(&mut self, f: Fun, args: &[Expr]) -> Option<Quotient> {
        let mut xs = Vec::new();
        for a in args {
            xs.push(self.normal(a)?);
        }
        match (f, xs.as_slice()) {
            (Fun::Root, [x, n]) => {
                let n = as_rational(n)
                    .filter(|n| n.is_integer())
                    .and_then(|n| n.to_integer().to_i64())
                    .filter(|n| (1..=1000).contains(n));
                if let Some(n) = n {
                    let out = if n == 1 { Some(x.clone()) } else { self.root(x, 1, n) };
                    if let Some(out) = out {
                        return Some(out);
                    }
                }
            }
            (Fun::Ln, [x]) => {
                if let Some(out) = self.ln(x) {
                    return Some(out);
                }
            }
            (Fun::Log, [x, base]) => {
                if let (Some(top), Some(bottom)) = (self.ln(x), self.ln(base))
                    && !bottom.num.is_empty()
                {
                    let q = Quotient {
                        num: self.product(&top.num, &bottom.den)?,
                        den: self.product(&top.den, &bottom.num)?,
                    };
                    if self.proportional(&q.num, &q.den, false) {
                        let (a, b) = (q.num.values().next()?, q.den.values().next()?);
                        return Some(constant(a / b));
                    }
                    return self.tidy(q);
                }
            }
            (Fun::Abs, [x]) => {
                if let Some(q) = as_rational(x) {
                    return Some(constant(q.abs()));
                }
            }
            (Fun::Floor, [x]) => {
                if let Some(q) = as_rational(x) {
                    return Some(constant(q.floor()));
                }
            }
            (Fun::Ceil, [x]) => {
                if let Some(q) = as_rational(x) {
                    return Some(constant(q.ceil()));
                }
            }
            (Fun::Factorial, [x]) => {
                if let Some(n) = small(x, 1000) {
                    let value = (2..=n).fold(BigInt::one(), |p, k| p * k);
                    return Some(constant(Q::from_integer(value)));
                }
            }
            (Fun::Binom, [n, k]) => {
                if let (Some(n), Some(k)) = (small(n, 1000), small(k, 1000)) {
                    let mut value = BigInt::from(u8::from(k <= n));
                    for j in 0..k.min(n) {
                        value = value * (n - j) / (j + 1);
                    }
                    return Some(constant(Q::from_integer(value)));
                }
            }
            (Fun::Gcd | Fun::Lcm | Fun::Min | Fun::Max, xs) => {
                let values: Option<Vec<Q>> = xs.iter().map(as_rational).collect();
                if let Some(values) = values
                    && (matches!(f, Fun::Min | Fun::Max) || values.iter().all(Q::is_integer))
                {
                    let folded = values.into_iter().reduce(|a, b| match f {
                        Fun::Min => a.min(b),
                        Fun::Max => a.max(b),
                        Fun::Gcd => Q::from_integer(a.numer().gcd(b.numer())),
                        _ => Q::from_integer(a.numer().lcm(b.numer())),
                    })?;
                    return (folded.numer().bits() < MAX_BITS).then(|| constant(folded));
                }
            }
            (Fun::Sin | Fun::Cos | Fun::Tan, [x]) => {
                if let Some(out) = self.special_angle(f, x) {
                    return Some(out);
                }
            }
            _ => {}
        }
        Some(self.opaque(f.name(), &xs))
    }

    /// The logarithm of a positive product of primes, e and their powers.
    fn ln(&mut self, x: &Quotient) -> Option<Quotient> {
        if x.den != one() || x.num.len() != 1 {
            return None;
        }
        let (mono, c) = x.num.iter().next()?;
        if !c.is_positive() {
            return None;
        }
        let mut total = constant(Q::zero());
        let mut parts: Vec<(String, Q)> = Vec::new();
        for (part, sign) in [(c.numer(), 1), (c.denom(), -1)] {
            for (prime, k) in factors(part)? {
                parts.push((format!("ln {prime}"), Q::from_integer(BigInt::from(k * sign))));
            }
        }
        for (a, p) in mono {
            let p = Q::new(BigInt::from(*p.numer()), BigInt::from(*p.denom()));
            match &self.atoms[*a as usize] {
                Atom::E => total = self.add(total, constant(p))?,
                Atom::Prime(prime) => parts.push((format!("ln {prime}"), p)),
                Atom::Pi => parts.push(("ln pi".into(), p)),
                _ => return None,
            }
        }
        for (key, k) in parts {
            let a = self.atom(key, Atom::Opaque);
            let term = self.mul(&single(a), &constant(k))?;
            total = self.add(total, term)?;
        }
        Some(total)
    }

    /// Sine, cosine and tangent of the multiples of pi/6 and pi/4.
    fn special_angle(&mut self, f: Fun, x: &Quotient) -> Option<Quotient> {
        let pi = self.atom("pi".into(), Atom::Pi);
        if x.den != one() || x.num.len() > 1 {
            return None;
        }
        let turns = match x.num.iter().next() {
            None => Q::zero(),
            Some((m, c)) if *m == vec![(pi, Power::one())] => c.clone(),
            _ => return None,
        };
        let twelfths = turns * Q::from_integer(BigInt::from(12));
        if !twelfths.is_integer() {
            return None;
        }
        let k = twelfths.to_integer().mod_floor(&BigInt::from(24)).to_i64()?;
        // sin(k pi/12) as sign * sqrt(n)/2
        let sine = |k: i64| -> Option<(i64, i64)> {
            let k = k.rem_euclid(24);
            let (sign, k) = if k >= 12 { (-1, k - 12) } else { (1, k) };
            let n = match k {
                0 => 0,
                2 | 10 => 1,
                3 | 9 => 2,
                4 | 8 => 3,
                6 => 4,
                _ => return None,
            };
            Some((sign, n))
        };
        let half_root = |s: &mut Self, (sign, n): (i64, i64)| -> Option<Quotient> {
            if n == 0 {
                return Some(constant(Q::zero()));
            }
            let r = s.rational_root(&Q::from_integer(BigInt::from(n)), 1, 2)?;
            s.mul(&r, &constant(Q::new(BigInt::from(sign), BigInt::from(2))))
        };
        let (sin, cos) = (half_root(self, sine(k)?)?, half_root(self, sine(k + 6)?)?);
        match f {
            Fun::Sin => Some(sin),
            Fun::Cos => Some(cos),
            _ if cos.num.is_empty() => None,
            _ => {
                let inverse = self.tidy(Quotient { num: cos.den, den: cos.num })?;
                self.mul(&sin, &inverse)
            }
        }
    }
}

fn insert(p: &mut Poly, mono: Mono, c: Q) {
    if c.is_zero() {
        return;
    }
    use std::collections::btree_map::Entry;
    match p.entry(mono) {
        Entry::Vacant(v) => {
            v.insert(c);
        }
        Entry::Occupied(mut o) => {
            *o.get_mut() += c;
            if o.get().is_zero() {
                o.remove();
            }
        }
    }
}

fn one() -> Poly {
    Poly::from([(Vec::new(), Q::one())])
}

fn constant(q: Q) -> Quotient {
    let mut num = Poly::new();
    insert(&mut num, Vec::new(), q);
    Quotient { num, den: one() }
}

fn single(atom: u32) -> Quotient {
    Quotient { num: Poly::from([(vec![(atom, Power::one())], Q::one())]), den: one() }
}

fn scaled(p: &Poly, by: &Q) -> Poly {
    p.iter().map(|(m, c)| (m.clone(), c * by)).collect()
}

/// The rational number this is, where it is one.
pub fn as_rational(q: &Quotient) -> Option<Q> {
    if q.den != one() {
        return None;
    }
    match q.num.len() {
        0 => Some(Q::zero()),
        1 => q.num.get(&Vec::new()).cloned(),
        _ => None,
    }
}

fn small(q: &Quotient, most: i64) -> Option<i64> {
    as_rational(q).filter(Q::is_integer).and_then(|n| n.to_integer().to_i64()).filter(|n| (0..=most).contains(n))
}

/// The positive rational that divides all coefficients and leaves coprime integers.
fn content(p: &Poly) -> Q {
    let mut n = BigInt::zero();
    let mut d = BigInt::one();
    for c in p.values() {
        n = n.gcd(c.numer());
        d = d.lcm(c.denom());
    }
    Q::new(n, d)
}

fn int_power(q: &Q, n: i64) -> Option<Q> {
    let bits = q.numer().bits().max(q.denom().bits());
    let size = n.unsigned_abs().checked_mul(bits)?;
    if size > MAX_BITS && !q.is_one() && *q != -Q::one() {
        return None;
    }
    if q.is_zero() && n < 0 {
        return None;
    }
    if size > MAX_BITS {
        return Some(if q.is_negative() && n % 2 != 0 { -Q::one() } else { Q::one() });
    }
    Some(Pow::pow(q.clone(), n as i32))
}

/// Prime factors by trial division; a cofactor past the trials counts as one factor. None for numbers past 2^64.
fn factors(n: &BigInt) -> Option<Vec<(u64, i64)>> {
    let mut out = Vec::new();
    // powers of ten are common in answers and may be large
    let mut n = n.clone();
    if n.bits() > 64 {
        for p in [2u64, 3, 5, 7] {
            let big = BigInt::from(p);
            let mut k = 0;
            while n.bits() < 2000 && (&n % &big).is_zero() {
                n /= &big;
                k += 1;
            }
            if k > 0 {
                out.push((p, k));
            }
        }
    }
    let mut n = n.to_u64()?;
    let mut p = 2u64;
    while p < 2000 && p * p <= n {
        let mut k = 0;
        while n.is_multiple_of(p) {
            n /= p;
            k += 1;
        }
        if k > 0 {
            out.push((p, k));
        }
        p += 1 + (p & 1);
    }
    if n > 1 {
        // a cofactor below 2000^2 is prime; a larger one may be composite and is not trusted, see `verdict`
        let r = n.isqrt();
        out.push(if r.checked_mul(r) == Some(n) { (r, 2) } else { (n, 1) });
    }
    Some(out)
}
