//! Are two parsed answers the same answer?
//!
//! The order of the methods: the same tree; exact normal forms (a proof either way where `algebra` decides); evaluation at fixed sample points
//! (a difference beyond the error bound is a proof, agreement at every usable point is accepted); then the policy for rounded decimals.

use std::cell::Cell;

use num_bigint::BigInt;
use num_traits::{One, Signed, Zero};
use postgrad_base::Stream;

use super::algebra::{Algebra, Verdict};
use super::eval::{self, Point, Value};
use super::expr::{Const, Expr, Fun, Q};
use super::lex::Rel;
use super::parse::{Answer, open_interval};
use super::sets;
use super::units::Unit;

/// By what means a verdict was reached, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// The same text, tree, letter or words.
    Same,
    /// Exact arithmetic or algebra.
    Exact,
    /// Evaluation at sample points.
    Sampled,
    /// A decimal that is the other side rounded.
    Rounded,
    /// The work allowed was used up: not equal as far as could be seen.
    GaveUp,
}

impl How {
    pub fn as_str(self) -> &'static str {
        match self {
            How::Same => "same",
            How::Exact => "exact",
            How::Sampled => "sampled",
            How::Rounded => "rounded",
            How::GaveUp => "gave up",
        }
    }
}

const FUEL: i64 = 60_000;
/// Points where both sides must have been seen to agree.
const ENOUGH: usize = 4;

pub struct Comparison {
    fuel: Cell<i64>,
    weakest: Cell<How>,
}

/// The verdict on two answers and the weakest method it leans on.
pub fn same(gold: &Answer, pred: &Answer) -> (bool, How) {
    let c = Comparison { fuel: Cell::new(FUEL), weakest: Cell::new(How::Same) };
    let equal = c.answers(gold, pred);
    let how = if c.fuel.get() <= 0 && !equal { How::GaveUp } else { c.weakest.get() };
    (equal, how)
}

impl Comparison {
    fn spend(&self, n: usize) -> bool {
        self.fuel.set(self.fuel.get() - n as i64);
        self.fuel.get() > 0
    }

    fn by(&self, how: How) {
        self.weakest.set(self.weakest.get().max(how));
    }

    fn answers(&self, gold: &Answer, pred: &Answer) -> bool {
        if gold == pred {
            return true;
        }
        if !self.spend(10) {
            return false;
        }
        match (expanded(gold), expanded(pred)) {
            (Some(g), Some(p)) => return self.answers(&g, &p),
            (Some(g), None) => return self.answers(&g, pred),
            (None, Some(p)) => return self.answers(gold, &p),
            (None, None) => {}
        }
        use Answer::*;
        match (gold, pred) {
            (Choice(a, _), Choice(b, _)) => a == b,
            (Choice(a, rest), other) | (other, Choice(a, rest)) => match other {
                Value(Expr::Sym(s), None) => s.len() == 1 && s.eq_ignore_ascii_case(&a.to_string()),
                Value(Expr::Const(Const::E), None) => *a == 'E',
                _ => rest.as_ref().is_some_and(|r| {
                    if std::ptr::eq(other, pred) { self.answers(r, pred) } else { self.answers(gold, r) }
                }),
            },
            (Text(a), Text(b)) => texts(a, b),
            (Text(t), Ratio(r)) | (Ratio(r), Text(t)) => r.len() == 2 && texts(t, &format!("{}:{}", r[0], r[1])),
            (Value(a, ua), Value(b, ub)) => self.values(a, ua.as_ref(), b, ub.as_ref()),
            (Based(a, m), Based(b, n)) => {
                let value = |d: &str, base| BigInt::parse_bytes(d.as_bytes(), base);
                value(a, *m) == value(b, *n)
            }
            (Based(d, _), Value(Expr::Num(q, 0), None)) | (Value(Expr::Num(q, 0), None), Based(d, _)) => {
                q.to_string() == d.trim_start_matches('0')
            }
            (Ratio(a), Ratio(b)) => {
                a.len() == b.len()
                    && (1..a.len())
                        .all(|n| self.exprs(&a[n].clone().times(b[0].clone()), &b[n].clone().times(a[0].clone())))
            }
            (Ratio(a), Value(e, None)) if a.len() == 2 => self.exprs(&a[0].clone().over(a[1].clone()), e),
            (Value(e, None), Ratio(a)) if a.len() == 2 => self.exprs(e, &a[0].clone().over(a[1].clone())),
            (Matrix(a), Matrix(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|(x, y)| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| self.exprs(x, y)))
            }
            (Matrix(a), Tuple(b)) => self.vector(a, b, true),
            (Tuple(a), Matrix(b)) => self.vector(b, a, false),
            (Tuple(a), Tuple(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| self.answers(x, y)),
            (Tuple(_), Interval(..)) => {
                matches!(open_interval(gold.clone()), g @ Interval(..) if self.answers(&g, pred))
            }
            (Interval(..), Tuple(_)) => {
                matches!(open_interval(pred.clone()), p @ Interval(..) if self.answers(gold, &p))
            }
            (List(_), _) | (_, List(_)) => self.lists(gold, pred),
            (Set(a), Set(b)) => self.covers(a, b) && self.covers(b, a),
            (Set(a), Value(..)) if a.len() == 1 => self.answers(&a[0], pred),
            (Value(..), Set(b)) if b.len() == 1 => self.answers(gold, &b[0]),
            (Relation(..), Relation(..)) => self.relations(gold, pred),
            (Relation(..), other) => self.relation_and(gold, other, true),
            (other, Relation(..)) => self.relation_and(pred, other, false),
            _ => self.sets(gold, pred),
        }
    }

    fn vector(&self, m: &[Vec<Expr>], items: &[Answer], matrix_is_gold: bool) -> bool {
        let flat: Vec<&Expr> = m.iter().flatten().collect();
        (m.len() == 1 || m[0].len() == 1)
            && flat.len() == items.len()
            && flat.iter().zip(items).all(|(x, y)| {
                let x = Answer::Value((*x).clone(), None);
                if matrix_is_gold { self.answers(&x, y) } else { self.answers(y, &x) }
            })
    }

    /// Is every item of `a` somewhere in `b`?
    fn covers(&self, a: &[Answer], b: &[Answer]) -> bool {
        a.iter().all(|x| b.iter().any(|y| self.answers(x, y)))
    }

    /// A one-to-one matching (items are compared by an equivalence, so the first free partner will do).
    fn matching(&self, a: &[Answer], b: &[Answer]) -> bool {
        let mut free = vec![true; b.len()];
        a.len() == b.len()
            && a.iter().all(|x| match (0..b.len()).find(|n| free[*n] && self.answers(x, &b[*n])) {
                Some(n) => {
                    free[n] = false;
                    true
                }
                None => false,
            })
    }

    /// The same items where only one side repeats some.
    fn without_repeats(&self, a: &[Answer], b: &[Answer]) -> bool {
        let repeats = |xs: &[Answer]| (1..xs.len()).any(|n| xs[..n].iter().any(|x| self.answers(x, &xs[n])));
        a.len() != b.len() && self.covers(a, b) && self.covers(b, a) && repeats(a) != repeats(b)
    }

    fn lists(&self, gold: &Answer, pred: &Answer) -> bool {
        let (g, p) = (Named::of(gold), Named::of(pred));
        let (Some(g), Some(p)) = (g, p) else { return false };
        if g.distinct() && p.distinct() {
            let (mut g, mut p) = (g, p);
            g.sort();
            p.sort();
            return g.names == p.names
                && g.values.len() == p.values.len()
                && g.values.iter().zip(&p.values).all(|(x, y)| self.answers(x, y));
        }
        let (g_named, p_named) = (g.distinct(), p.distinct());
        if g_named || p_named || matches!(gold, Answer::Tuple(_)) || matches!(pred, Answer::Tuple(_)) {
            let sorted = |n: &Named, named: bool| {
                let mut n = n.clone();
                if named {
                    n.sort();
                }
                n.values
            };
            let ordered =
                |a: &[Answer], b: &[Answer]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| self.answers(x, y));
            return ordered(&g.values, &p.values) || ordered(&sorted(&g, g_named), &sorted(&p, p_named));
        }
        if matches!(gold, Answer::Set(_)) || matches!(pred, Answer::Set(_)) {
            return self.covers(&g.values, &p.values) && self.covers(&p.values, &g.values);
        }
        self.matching(&g.values, &p.values) || self.without_repeats(&g.values, &p.values)
    }

    fn relations(&self, gold: &Answer, pred: &Answer) -> bool {
        let (Answer::Relation(gs, gr), Answer::Relation(ps, pr)) = (gold, pred) else { return false };
        if let (Some(a), Some(b)) = (sets::spans(gold), sets::spans(pred)) {
            let symbol = |sides: &[Answer]| {
                sides
                    .iter()
                    .find_map(|s| if let Answer::Value(e, _) = s { e.symbols().into_iter().next() } else { None })
            };
            return symbol(gs) == symbol(ps) && self.spans(&a, &b);
        }
        if gs.len() == ps.len() && gr == pr && gs.iter().zip(ps).all(|(x, y)| self.answers(x, y)) {
            return true;
        }
        let (ga, pa) = (Assignment::of(gold), Assignment::of(pred));
        if let (Some(g), Some(p)) = (&ga, &pa) {
            let free =
                |a: &Assignment| !a.symbolic || matches!(&a.value, Answer::Value(e, _) if !e.symbols().is_empty());
            if (g.name == p.name || (free(g) && free(p)) || g.name.is_empty() || p.name.is_empty())
                && self.answers(&g.value, &p.value)
            {
                return true;
            }
        }
        if let ([Answer::Value(a, _), Answer::Value(b, _)], [Answer::Value(c, _), Answer::Value(d, _)], [r], [s]) =
            (gs.as_slice(), ps.as_slice(), gr.as_slice(), pr.as_slice())
        {
            return self.scaled(a, b, *r, c, d, *s);
        }
        false
    }

    /// `a r b` and `c s d` are the same up to a factor (positive for an order).
    fn scaled(&self, a: &Expr, b: &Expr, r: Rel, c: &Expr, d: &Expr, s: Rel) -> bool {
        let rising = |r| matches!(r, Rel::Lt | Rel::Le);
        let turned = |r| matches!(r, Rel::Gt | Rel::Ge);
        let (l, r, s) = (a.clone().minus(b.clone()), r, s);
        let m = c.clone().minus(d.clone());
        let strict = |r| matches!(r, Rel::Lt | Rel::Gt);
        let order = rising(r) || turned(r);
        if order != (rising(s) || turned(s))
            || (order && strict(r) != strict(s))
            || (!order && (r == Rel::Ne) != (s == Rel::Ne))
        {
            return false;
        }
        let m = if order && rising(r) != rising(s) { m.negated() } else { m };
        let mut algebra = Algebra::new(self.fuel.get().clamp(0, 12_000) as u32);
        let start = algebra.fuel();
        if let (Some(x), Some(y)) = (algebra.normal(&l), algebra.normal(&m)) {
            let constant = x.den.len() == 1 && y.den.len() == 1;
            if (constant || !order) && algebra.proportional(&x.num, &y.num, order) {
                self.by(How::Exact);
                self.spend((start - algebra.fuel()) as usize);
                return true;
            }
        }
        self.spend((start - algebra.fuel()) as usize);
        self.ratio(&l, &m, order)
    }

    /// Is `l / m` the same number at every usable point?
    fn ratio(&self, l: &Expr, m: &Expr, positive: bool) -> bool {
        let mut names = l.symbols();
        if names != m.symbols() || names.is_empty() {
            return false;
        }
        names.dedup();
        let (mut first, mut seen): (Option<eval::Value>, usize) = (None, 0);
        for at in points(&names) {
            if !self.spend((size(l) + size(m)) / 8 + 1) {
                return false;
            }
            let (x, y) = (eval::eval(l, &at), eval::eval(m, &at));
            if !x.is_finite()
                || !y.is_finite()
                || y.z.norm() < 1e-9
                || x.z.norm() < 1e-9
                || x.err > 1e-9 * x.z.norm()
                || y.err > 1e-9 * y.z.norm()
            {
                continue;
            }
            let q = Value { z: x.z / y.z, err: 0.0 };
            let old = *first.get_or_insert(q);
            if (q.z - old.z).norm() > 1e-8 * old.z.norm()
                || (positive && (q.z.re <= 0.0 || q.z.im.abs() > 1e-9 * q.z.re))
            {
                return false;
            }
            seen += 1;
        }
        self.by(How::Sampled);
        seen >= ENOUGH
    }

    fn relation_and(&self, relation: &Answer, other: &Answer, relation_is_gold: bool) -> bool {
        let pair = |x: &Answer| if relation_is_gold { self.answers(x, other) } else { self.answers(other, x) };
        if let Some(a) = Assignment::of(relation)
            && pair(&a.value)
        {
            return true;
        }
        self.sets(relation, other)
    }

    fn sets(&self, gold: &Answer, pred: &Answer) -> bool {
        use Answer::*;
        let is_set = |a: &Answer| {
            matches!(
                a,
                Interval(..) | Union(_) | Intersection(_) | Difference(..) | Reals | Empty | Set(_) | Relation(..)
            )
        };
        let (gold, pred) = match (is_set(gold), is_set(pred)) {
            (true, true) => (gold.clone(), pred.clone()),
            (true, false) => (gold.clone(), open_interval(pred.clone())),
            (false, true) => (open_interval(gold.clone()), pred.clone()),
            (false, false) => return false,
        };
        if !is_set(&gold) || !is_set(&pred) {
            return false;
        }
        let (gold, pred) = (&gold, &pred);
        if let (Some(a), Some(b)) = (sets::spans(gold), sets::spans(pred)) {
            return self.spans(&a, &b);
        }
        match (gold, pred) {
            (Interval(a, b, x, y), Interval(c, d, z, w)) => x == z && y == w && self.exprs(a, c) && self.exprs(b, d),
            (Union(a), Union(b)) | (Intersection(a), Intersection(b)) => self.matching(a, b),
            (Difference(a, b), Difference(c, d)) => self.answers(a, c) && self.answers(b, d),
            _ => false,
        }
    }

    fn spans(&self, a: &[sets::Span], b: &[sets::Span]) -> bool {
        a.len() == b.len()
            && a.iter().zip(b).all(|(x, y)| {
                x.lo_in == y.lo_in && x.hi_in == y.hi_in && self.exprs(&x.lo, &y.lo) && self.exprs(&x.hi, &y.hi)
            })
    }

    /// Numbers with units, percent, degrees.
    fn values(&self, gold: &Expr, ug: Option<&Unit>, pred: &Expr, up: Option<&Unit>) -> bool {
        if let (Some(a), Some(b)) = (ug, up) {
            match (a, b) {
                (Unit::Known { powers: p, scale: s, .. }, Unit::Known { powers: q, scale: t, .. }) => {
                    if p != q {
                        return false;
                    }
                    if s != t {
                        return self.exprs(
                            &gold.clone().times(Expr::Num(s.clone(), 0)),
                            &pred.clone().times(Expr::Num(t.clone(), 0)),
                        );
                    }
                }
                _ if currency(a) && currency(b) && a != b => return false,
                _ => {}
            }
        }
        // an angle in a known unit is a number of degrees
        for constant in [Const::Percent, Const::Deg] {
            match (gold.without_factor(constant), pred.without_factor(constant)) {
                (Some(g), Some(p)) => return self.numbers(&g, &p),
                (Some(g), None) if self.numbers(&g, pred) => return true,
                (None, Some(p)) if self.numbers(gold, &p) => return true,
                _ => {}
            }
        }
        self.numbers(gold, pred)
    }

    fn numbers(&self, gold: &Expr, pred: &Expr) -> bool {
        self.exprs(gold, pred) || self.rounded(gold, pred) || self.renamed(gold, pred)
    }

    /// Exact value of two expressions without the policy for decimals.
    fn exprs(&self, a: &Expr, b: &Expr) -> bool {
        if a == b {
            return true;
        }
        if let (Expr::Num(x, _), Expr::Num(y, _)) = (a, b) {
            self.by(How::Exact);
            return x == y;
        }
        if a.has(Const::Inf) || b.has(Const::Inf) {
            return match (eval::real(a), eval::real(b)) {
                (Some(x), Some(y)) => x == y && x.is_infinite(),
                _ => false,
            };
        }
        let allowed = self.fuel.get().clamp(0, 12_000) as u32;
        let mut algebra = Algebra::new(allowed);
        let difference = algebra.difference(a, b);
        let verdict = difference.map_or(Verdict::Unknown, |d| algebra.verdict(&d));
        if !self.spend((allowed - algebra.fuel()) as usize) && verdict == Verdict::Unknown {
            return false;
        }
        match verdict {
            Verdict::Zero => {
                self.by(How::Exact);
                true
            }
            Verdict::NonZero => {
                self.by(How::Exact);
                false
            }
            Verdict::Unknown => self.sampled(a, b),
        }
    }

    /// False at the first point where the values differ by more than their error bounds; true after agreement at enough points.
    fn sampled(&self, a: &Expr, b: &Expr) -> bool {
        let mut names = a.symbols();
        names.extend(b.symbols());
        names.sort();
        names.dedup();
        self.by(How::Sampled);
        let complex = a.has(Const::I) || b.has(Const::I);
        let cost = (size(a) + size(b)) / 8 + 1;
        let (mut real, mut other) = (0, 0);
        for at in points(&names) {
            if !self.spend(cost) {
                return false;
            }
            let mut on_line = true;
            let (x, y) = (eval::eval_on(a, &at, &mut on_line), eval::eval_on(b, &at, &mut on_line));
            if !x.is_finite() || !y.is_finite() {
                continue;
            }
            let scale = x.z.norm().max(y.z.norm());
            let err = 16.0 * (x.err + y.err);
            if err > 1e-6 * scale + 1e-12 {
                continue; // cancellation ate the digits
            }
            let differ = (x.z - y.z).norm() > err + 1e-14 * scale;
            let usable = complex || names.is_empty() || on_line;
            if !usable {
                // off both domains of real functions: counted, but no proof of difference by branch cuts
                other += usize::from(!differ);
                continue;
            }
            if differ {
                return false;
            }
            real += 1;
        }
        if names.is_empty() { real > 0 } else { real >= ENOUGH || (real == 0 && other >= ENOUGH) }
    }

    /// The policy for decimals: a gold with two or more decimal places stands for what rounds to it; a prediction of six or more significant
    /// digits stands for the gold it is rounded or cut from, where the gold has no finite decimal.
    fn rounded(&self, gold: &Expr, pred: &Expr) -> bool {
        let close = |a: &Expr, b: &Expr, by: &Q| -> bool {
            let d = a.clone().minus(b.clone());
            let mut algebra = Algebra::new(5_000);
            if let Some(q) = algebra.normal(&d).as_ref().and_then(super::algebra::as_rational) {
                return q.abs() <= *by;
            }
            let v = eval::eval(&d, &Point::new());
            let by = eval::eval(&Expr::Num(by.clone(), 0), &Point::new()).z.re;
            v.is_finite() && v.is_real() && v.z.norm() <= by * (1.0 + 1e-9) + v.err
        };
        if !gold.symbols().is_empty() || !pred.symbols().is_empty() {
            return false;
        }
        let (g, p) = (written(gold), written(pred));
        let half = Q::new(BigInt::one(), BigInt::from(2));
        let ok = match (g, p) {
            (Some(g), None) if g.places >= 2 && !terminates(pred) => close(gold, pred, &(g.ulp * half)),
            (None, Some(p)) if p.significant >= 6 && !terminates(gold) => close(gold, pred, &p.ulp),
            (Some(g), Some(p)) if g.significant >= 6 && p.significant >= 6 => close(gold, pred, &g.ulp.max(p.ulp)),
            _ => false,
        };
        if ok {
            self.by(How::Rounded);
        }
        ok
    }

    /// The same expression with another letter for a whole number or a constant of integration.
    fn renamed(&self, gold: &Expr, pred: &Expr) -> bool {
        let (g, p) = (gold.symbols(), pred.symbols());
        let only = |a: &[String], b: &[String]| {
            let rest: Vec<String> = a.iter().filter(|n| !b.contains(n)).cloned().collect();
            (rest.len() == 1).then(|| rest[0].clone())
        };
        let (Some(x), Some(y)) = (only(&g, &p), only(&p, &g)) else { return false };
        let integers = ["k", "n", "m"];
        let constants = ["C", "c", "K"];
        let kin = (integers.contains(&x.as_str())
            && integers.contains(&y.as_str())
            && (gold.has(Const::Pi) || gold.has(Const::Deg)))
            || (constants.contains(&x.as_str()) && constants.contains(&y.as_str()) && g.len() > 1);
        kin && self.exprs(gold, &pred.renamed(&y, &x))
    }
}

fn currency(u: &Unit) -> bool {
    match u {
        Unit::Known { powers, .. } => *powers == [0, 0, 0, 1, 0],
        Unit::Other(name) => {
            matches!(name.to_lowercase().trim_end_matches('s'), "euro" | "yen" | "rupee" | "pound sterling")
        }
    }
}

fn texts(a: &str, b: &str) -> bool {
    let truth = |t: &str| match t {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    };
    if a == b || (truth(a).is_some() && truth(a) == truth(b)) {
        return !a.is_empty();
    }
    // a time with and without its half of the day
    for (x, y) in [(a, b), (b, a)] {
        if x.contains(':') && [" am", " pm"].iter().any(|half| x.strip_suffix(half) == Some(y)) {
            return true;
        }
    }
    let letters = |t: &str| -> String { t.chars().filter(|c| *c != ' ').collect() };
    !a.is_empty() && !a.bytes().any(|c| c.is_ascii_digit()) && letters(a) == letters(b)
}

fn size(e: &Expr) -> usize {
    let mut n = 0;
    e.walk(&mut |_| n += 1);
    n
}

/// The fixed sample points: positive, of both signs, large, whole.
fn points(names: &[String]) -> Vec<Point> {
    if names.is_empty() {
        return vec![Point::new()];
    }
    let mut stream = Stream::new(0, &["eval", "answers", "points"]);
    (0..22)
        .map(|n| {
            names
                .iter()
                .map(|name| {
                    let u = stream.f64();
                    let x = match n {
                        0..6 => 0.3 + 2.7 * u,
                        6..12 => 6.0 * u - 3.0,
                        12..16 => 3.0 + 47.0 * u,
                        _ => (1.0 + 9.0 * u).floor(),
                    };
                    (name.clone(), x)
                })
                .collect()
        })
        .collect()
}

/// How a decimal was written: its places, its last place's worth, its significant digits.
struct Written {
    places: u32,
    ulp: Q,
    significant: u32,
}

fn written(e: &Expr) -> Option<Written> {
    let ten = |n: u32| Q::from_integer(BigInt::from(10).pow(n));
    match e {
        Expr::Num(q, places) if *places > 0 => {
            let digits = (q.abs() * ten(*places)).to_integer();
            let significant = if digits.is_zero() { 0 } else { digits.to_string().len() as u32 };
            Some(Written { places: *places, ulp: ten(*places).recip(), significant })
        }
        Expr::Mul(xs) => {
            let [head, rest @ ..] = xs.as_slice() else { return None };
            if *head == Expr::int(-1) && rest.len() == 1 {
                return written(&rest[0]);
            }
            let mut w = written(head)?;
            let [Expr::Pow(base, k)] = rest else { return None };
            let Expr::Num(k, 0) = &**k else { return None };
            let k: i32 = k.to_integer().try_into().ok().filter(|k: &i32| k.abs() <= 300)?;
            if **base != Expr::int(10) {
                return None;
            }
            w.ulp = if k < 0 { w.ulp / ten(k.unsigned_abs()) } else { w.ulp * ten(k.unsigned_abs()) };
            Some(w)
        }
        _ => None,
    }
}

/// Is this a rational with a finite decimal?
fn terminates(e: &Expr) -> bool {
    let mut algebra = Algebra::new(5_000);
    let Some(q) = algebra.normal(e).as_ref().and_then(super::algebra::as_rational) else { return false };
    let mut d = q.denom().clone();
    for p in [2u8, 5] {
        let p = BigInt::from(p);
        for _ in 0..4000 {
            if !(&d % &p).is_zero() {
                break;
            }
            d /= &p;
        }
    }
    d.is_one()
}

/// An answer with a plus-minus as the list of its two readings.
fn expanded(a: &Answer) -> Option<Answer> {
    fn has(a: &Answer) -> bool {
        let any = |xs: &[Answer]| xs.iter().any(has);
        match a {
            Answer::Value(e, _) => e.has(Const::PlusMinus),
            Answer::Tuple(xs) | Answer::Relation(xs, _) => any(xs),
            _ => false,
        }
    }
    fn with(a: &Answer, sign: usize) -> Answer {
        match a {
            Answer::Value(e, u) => {
                let mut branches = e.branches();
                let n = sign.min(branches.len() - 1);
                Answer::Value(branches.swap_remove(n), u.clone())
            }
            Answer::Tuple(xs) => Answer::Tuple(xs.iter().map(|x| with(x, sign)).collect()),
            Answer::Relation(xs, r) => Answer::Relation(xs.iter().map(|x| with(x, sign)).collect(), r.clone()),
            other => other.clone(),
        }
    }
    let both = |x: &Answer| if has(x) { vec![with(x, 0), with(x, 1)] } else { vec![x.clone()] };
    match a {
        Answer::List(xs) if xs.iter().any(has) => Some(Answer::List(xs.iter().flat_map(both).collect())),
        Answer::Set(xs) if xs.iter().any(has) => Some(Answer::Set(xs.iter().flat_map(both).collect())),
        x if has(x) => Some(Answer::List(both(x))),
        _ => None,
    }
}

/// `x = 3`, `f(x) = 2x`, `Area = 5`, `3 + 4 = 7`: the name before the sign and what it equals.
struct Assignment {
    name: String,
    value: Answer,
    /// The name is a symbol, not a word or a function's application.
    symbolic: bool,
}

impl Assignment {
    fn of(a: &Answer) -> Option<Assignment> {
        let Answer::Relation(sides, rels) = a else { return None };
        if !rels.iter().all(|r| matches!(r, Rel::Eq | Rel::Approx)) {
            return None;
        }
        // what is before the first "about" is the exact answer, if it is more than a name
        let exact = rels.iter().position(|r| *r == Rel::Approx).map_or(sides.len(), |at| at + 1);
        let sides = if exact == 1 && name_of(&sides[0]).is_some() { &sides[..] } else { &sides[..exact] };
        let (first, last) = (sides.first()?, sides.last()?);
        if sides.len() == 1 {
            return Some(Assignment { name: String::new(), value: last.clone(), symbolic: false });
        }
        if let Some((name, symbolic)) = name_of(first) {
            return Some(Assignment { name, value: last.clone(), symbolic });
        }
        if let (Some((name, symbolic)), 2) = (name_of(last), sides.len()) {
            return Some(Assignment { name, value: first.clone(), symbolic });
        }
        let constant = |a: &Answer| matches!(a, Answer::Value(e, _) if e.symbols().is_empty());
        (constant(last))
            .then(|| Assignment { name: String::new(), value: last.clone(), symbolic: false })
            .filter(|_| constant(first))
    }
}

/// Only products and quotients of capital letters.
fn segments(e: &Expr) -> bool {
    match e {
        Expr::Sym(s) => s.bytes().all(|b| b.is_ascii_uppercase()),
        Expr::Mul(xs) => xs.iter().all(segments),
        Expr::Pow(base, k) => **k == Expr::int(-1) && segments(base),
        _ => false,
    }
}

/// A side that only names something.
pub fn name_of(a: &Answer) -> Option<(String, bool)> {
    match a {
        Answer::Value(Expr::Sym(s), None) => Some((s.clone(), true)),
        Answer::Choice(c, None) => Some((c.to_string(), true)),
        Answer::Text(t) => Some((t.clone(), false)),
        Answer::Tuple(xs) if xs.iter().all(|x| matches!(x, Answer::Value(Expr::Sym(_), None))) => {
            Some((a.to_string(), false))
        }
        // lengths and their ratios: AB, AB/CD, |AB|
        Answer::Value(e @ Expr::Mul(_), None) if segments(e) => Some(("segment".into(), false)),
        Answer::Value(Expr::Fun(Fun::Conj | Fun::Abs, xs), None) if matches!(xs.as_slice(), [e @ Expr::Mul(_)] if segments(e)) => {
            Some(("segment".into(), false))
        }
        // f(x), and P(A)
        Answer::Value(Expr::Mul(xs), None) => match xs.as_slice() {
            // dy/dx
            [Expr::Sym(d), .., Expr::Pow(below, k)]
                if d == "d"
                    && **k == Expr::int(-1)
                    && matches!(&**below, Expr::Mul(ys) if ys.first() == Some(&Expr::sym("d"))) =>
            {
                Some(("derivative".into(), false))
            }
            // f^{-1}(x)
            [Expr::Pow(f, k), Expr::Sym(x)]
                if **k == Expr::int(-1) && matches!(&**f, Expr::Sym(f) if FUNCTIONS.contains(&f.as_str())) =>
            {
                Some((format!("{f}^-1({x})"), false))
            }
            [Expr::Sym(f), x @ (Expr::Sym(_) | Expr::Num(_, 0))] if FUNCTIONS.contains(&f.trim_end_matches('\'')) => {
                Some((format!("{f}({x})"), false))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Letters that a bracket applies when they stand alone before an equals sign.
const FUNCTIONS: [&str; 13] = ["f", "g", "h", "P", "p", "F", "G", "Q", "S", "V", "T", "W", "y"];

/// A list's items, those that are assignments under their names.
#[derive(Clone)]
struct Named {
    names: Vec<String>,
    values: Vec<Answer>,
}

impl Named {
    fn of(a: &Answer) -> Option<Named> {
        let items: Vec<Answer> = match a {
            Answer::List(xs) | Answer::Tuple(xs) | Answer::Set(xs) => xs.clone(),
            Answer::Value(..) | Answer::Relation(..) | Answer::Text(_) | Answer::Interval(..) => vec![a.clone()],
            _ => return None,
        };
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for item in items {
            match Assignment::of(&item) {
                Some(a) => {
                    names.push(a.name);
                    values.push(a.value);
                }
                None => {
                    names.push(String::new());
                    values.push(item);
                }
            }
        }
        Some(Named { names, values })
    }

    /// Every item has a name of its own.
    fn distinct(&self) -> bool {
        let mut names = self.names.clone();
        names.sort();
        names.dedup();
        names.len() == self.names.len() && names.len() > 1 && !names.contains(&String::new())
    }

    fn sort(&mut self) {
        let mut pairs: Vec<(String, Answer)> = self.names.drain(..).zip(self.values.drain(..)).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        (self.names, self.values) = pairs.into_iter().unzip();
    }
}
