//! Subsets of the real line as sorted disjoint spans: unions, intersections, differences, and inequalities in one unknown solved where they
//! are linear.

use num_traits::Signed;

use super::algebra::Algebra;
use super::compare;
use super::eval;
use super::expr::{Const, Expr, Fun, Q};
use super::lex::Rel;
use super::parse::Answer;

/// One span; a point is a closed span of no length.
#[derive(Clone, Debug)]
pub struct Span {
    pub lo: Expr,
    pub hi: Expr,
    pub lo_in: bool,
    pub hi_in: bool,
    lo_at: f64,
    hi_at: f64,
}

impl Span {
    fn new(lo: Expr, hi: Expr, lo_in: bool, hi_in: bool) -> Option<Span> {
        let (lo_at, hi_at) = (eval::real(&lo)?, eval::real(&hi)?);
        Some(Span { lo_in: lo_in && lo_at.is_finite(), hi_in: hi_in && hi_at.is_finite(), lo, hi, lo_at, hi_at })
    }

    fn is_empty(&self) -> bool {
        if close(self.lo_at, self.hi_at) { !(self.lo_in && self.hi_in) } else { self.lo_at > self.hi_at }
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e-300)
}

fn infinity() -> Expr {
    Expr::Const(Const::Inf)
}

fn line() -> Vec<Span> {
    vec![Span {
        lo: infinity().negated(),
        hi: infinity(),
        lo_in: false,
        hi_in: false,
        lo_at: f64::NEG_INFINITY,
        hi_at: f64::INFINITY,
    }]
}

fn intersection(a: &[Span], b: &[Span]) -> Option<Vec<Span>> {
    if a.len() * b.len() > 4096 {
        return None;
    }
    let mut out = Vec::new();
    for x in a {
        for y in b {
            let (lo, lo_at, lo_in) = if close(x.lo_at, y.lo_at) {
                (&x.lo, x.lo_at, x.lo_in && y.lo_in)
            } else if x.lo_at > y.lo_at {
                (&x.lo, x.lo_at, x.lo_in)
            } else {
                (&y.lo, y.lo_at, y.lo_in)
            };
            let (hi, hi_at, hi_in) = if close(x.hi_at, y.hi_at) {
                (&x.hi, x.hi_at, x.hi_in && y.hi_in)
            } else if x.hi_at < y.hi_at {
                (&x.hi, x.hi_at, x.hi_in)
            } else {
                (&y.hi, y.hi_at, y.hi_in)
            };
            let span = Span { lo: lo.clone(), hi: hi.clone(), lo_in, hi_in, lo_at, hi_at };
            if !span.is_empty() {
                out.push(span);
            }
        }
    }
    out.sort_by(|a, b| a.lo_at.total_cmp(&b.lo_at));
    Some(out)
}

/// The rest of the line; `spans` are sorted and disjoint.
fn complement(spans: &[Span]) -> Vec<Span> {
    let mut out = Vec::new();
    let (mut lo, mut lo_at, mut lo_in) = (infinity().negated(), f64::NEG_INFINITY, false);
    for s in spans {
        let gap = Span {
            lo: lo.clone(),
            hi: s.lo.clone(),
            lo_in,
            hi_in: !s.lo_in && s.lo_at.is_finite(),
            lo_at,
            hi_at: s.lo_at,
        };
        if !gap.is_empty() && s.lo_at > f64::NEG_INFINITY {
            out.push(gap);
        }
        (lo, lo_at, lo_in) = (s.hi.clone(), s.hi_at, !s.hi_in && s.hi_at.is_finite());
    }
    if lo_at < f64::INFINITY {
        out.push(Span { lo, hi: infinity(), lo_in, hi_in: false, lo_at, hi_at: f64::INFINITY });
    }
    out
}

fn union(sets: Vec<Vec<Span>>) -> Option<Vec<Span>> {
    let mut rest = line();
    for s in sets {
        rest = intersection(&rest, &complement(&s))?;
    }
    Some(complement(&rest))
}

/// The spans of an answer that is a set of real numbers with constant ends; none for others.
pub fn spans(a: &Answer) -> Option<Vec<Span>> {
    spans_in(a, &mut None)
}

fn spans_in(a: &Answer, unknown: &mut Option<String>) -> Option<Vec<Span>> {
    Some(match a {
        Answer::Reals => line(),
        Answer::Empty => Vec::new(),
        Answer::Interval(lo, hi, a, b) => {
            let s = Span::new((**lo).clone(), (**hi).clone(), *a, *b)?;
            if s.is_empty() { Vec::new() } else { vec![s] }
        }
        Answer::Set(items) => {
            let mut points = Vec::new();
            for item in items {
                match item {
                    Answer::Value(e, None) if e.symbols().is_empty() => {
                        points.push(vec![Span::new(e.clone(), e.clone(), true, true)?])
                    }
                    _ => return None,
                }
            }
            union(points)?
        }
        Answer::Union(items) => union(items.iter().map(|i| spans_in(i, unknown)).collect::<Option<_>>()?)?,
        Answer::Intersection(items) => {
            let mut out = line();
            for i in items {
                out = intersection(&out, &spans_in(i, unknown)?)?;
            }
            out
        }
        Answer::Difference(a, b) => intersection(&spans_in(a, unknown)?, &complement(&spans_in(b, unknown)?))?,
        Answer::Relation(sides, rels) => {
            let mut out = line();
            for (n, rel) in rels.iter().enumerate() {
                let (a, b) = (unknown_or_value(&sides[n])?, unknown_or_value(&sides[n + 1])?);
                out = intersection(&out, &inequality(&a, *rel, &b, unknown)?)?;
            }
            out
        }
        _ => return None,
    })
}

/// An expression; an application such as f(x) counts as the unknown.
fn unknown_or_value(a: &Answer) -> Option<Expr> {
    match a {
        Answer::Value(Expr::Mul(_), None) if let Some((name, false)) = compare::name_of(a) => Some(Expr::Sym(name)),
        Answer::Value(e, None) => Some(e.clone()),
        _ => None,
    }
}

/// The solutions of `a rel b` in its one unknown, which must be the same in a whole answer.
fn inequality(a: &Expr, rel: Rel, b: &Expr, unknown: &mut Option<String>) -> Option<Vec<Span>> {
    let mut names = a.symbols();
    names.extend(b.symbols());
    names.dedup();
    let [name] = names.as_slice() else { return None };
    if unknown.get_or_insert_with(|| name.clone()) != name {
        return None;
    }
    if matches!(rel, Rel::Approx | Rel::In) {
        return None;
    }
    let flip = |rel| match rel {
        Rel::Lt => Rel::Gt,
        Rel::Le => Rel::Ge,
        Rel::Gt => Rel::Lt,
        Rel::Ge => Rel::Le,
        other => other,
    };
    // |ax + b| < c
    for (x, y, rel) in [(a, b, rel), (b, a, flip(rel))] {
        if let Expr::Fun(Fun::Abs, args) = x
            && let [inner] = args.as_slice()
            && y.symbols().is_empty()
            && eval::real(y)? > 0.0
            && !matches!(inner, Expr::Fun(..))
        {
            let low = y.clone().negated();
            let (upper, lower) = (inequality(inner, rel, y, unknown)?, inequality(&low, rel, inner, unknown)?);
            return match rel {
                Rel::Lt | Rel::Le => intersection(&upper, &lower),
                Rel::Gt | Rel::Ge => union(vec![upper, lower]),
                _ => None,
            };
        }
    }
    let (bound, rel) = if matches!(a, Expr::Sym(_)) && b.symbols().is_empty() {
        (b.clone(), rel)
    } else if matches!(b, Expr::Sym(_)) && a.symbols().is_empty() {
        (a.clone(), flip(rel))
    } else {
        let mut algebra = Algebra::new(10_000);
        let d = algebra.difference(a, b)?;
        if d.den.len() != 1 || !d.den.contains_key(&Vec::new()) {
            return None;
        }
        let positive = d.den.values().all(|c| c.is_positive());
        let (slope, offset) = algebra.linear(&d.num)?;
        let bound: Q = -offset / &slope;
        (Expr::Num(bound, 0), if slope.is_positive() == positive { rel } else { flip(rel) })
    };
    let (low, high) = (infinity().negated(), infinity());
    Some(match rel {
        Rel::Lt | Rel::Le => vec![Span::new(low, bound, false, rel == Rel::Le)?],
        Rel::Gt | Rel::Ge => vec![Span::new(bound, high, rel == Rel::Ge, false)?],
        Rel::Eq => vec![Span::new(bound.clone(), bound, true, true)?],
        Rel::Ne => complement(&[Span::new(bound.clone(), bound, true, true)?]),
        _ => return None,
    })
}
