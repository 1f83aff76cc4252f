//! The step verifier: finds the equations of a response and judges each against the graph.
//!
//! An equation is two or more sides joined by `=`, each a number or numbers joined by `+ - * / x ×` and the like. It is
//! *valid* when its sides are equal (exact rationals, usual precedence). It is *next* when it is `a op b = c` for a quantity
//! that the target needs, is not computed yet, and whose operands are given or computed. Where the equation is headed
//! `Bob:`, `Bob =` or `Bob has`, it must be Bob's. Sums and products may swap their sides, twice may be written `a+a`.
//! Quantities that share an equation may be written once for all or each, when no name heads it.
//! Left out on purpose: brackets, and steps that fold two operations into one (valid, but never next).

use num_rational::Ratio;
use num_traits::{CheckedAdd, CheckedDiv, CheckedMul, CheckedSub, Zero};

use super::graph::{Graph, Op};
use crate::task::StepVerdict;

type Exact = Ratio<i128>;

/// Equations beyond this many are not judged; no right response comes near.
const MOST: usize = 256;

/// `a op b op c = d`, with the place in the text where it begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equation {
    pub start: usize,
    pub end: usize,
    sides: Vec<Side>,
}

/// Numbers and the signs between them; `None` where a number is too long to be exact.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Side {
    numbers: Vec<Option<Exact>>,
    signs: Vec<char>,
}

impl Side {
    /// Products first, then sums; none when a number is too long, a divisor zero, or the value overflows.
    fn value(&self) -> Option<Exact> {
        let mut sum = Exact::zero();
        let mut term = self.numbers[0]?;
        let mut sign = '+';
        for (op, n) in self.signs.iter().zip(&self.numbers[1..]) {
            let n = (*n)?;
            match op {
                '*' => term = term.checked_mul(&n)?,
                '/' if n.is_zero() => return None,
                '/' => term = term.checked_div(&n)?,
                op => {
                    sum = if sign == '+' { sum.checked_add(&term)? } else { sum.checked_sub(&term)? };
                    (sign, term) = (*op, n);
                }
            }
        }
        if sign == '+' { sum.checked_add(&term) } else { sum.checked_sub(&term) }
    }
}

impl Equation {
    /// All its sides are equal.
    pub fn valid(&self) -> bool {
        let first = self.sides[0].value();
        first.is_some() && self.sides.iter().all(|s| s.value() == first)
    }

    /// `(a, op, b, c)` when it is `a op b = c` in whole numbers.
    fn binary(&self) -> Option<(u64, char, u64, u64)> {
        let [left, right] = &self.sides[..] else { return None };
        let ([a, b], [sign], [c], []) = (&left.numbers[..], &left.signs[..], &right.numbers[..], &right.signs[..])
        else {
            return None;
        };
        let whole = |n: &Option<Exact>| n.filter(|n| n.is_integer()).and_then(|n| u64::try_from(n.to_integer()).ok());
        Some((whole(a)?, *sign, whole(b)?, whole(c)?))
    }
}

/// Every equation of a text, in order. Linear in its length.
pub fn equations(text: &str) -> Vec<Equation> {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    let mut found = vec![];
    while reader.at < reader.bytes.len() && found.len() < MOST {
        let here = reader.bytes[reader.at];
        // A digit inside a word (`x2`) starts nothing.
        let inside = reader.at > 0 && (reader.bytes[reader.at - 1].is_ascii_alphabetic());
        if !here.is_ascii_digit() || inside {
            reader.at += 1;
            continue;
        }
        let start = reader.at;
        let (mut sides, mut end) = (vec![], start);
        while let Some(side) = reader.side() {
            sides.push(side);
            end = reader.at;
            reader.blanks();
            if !reader.eat(b"=") {
                break;
            }
            reader.blanks();
            reader.eat(b"$");
        }
        reader.at = reader.at.max(end).max(start + 1);
        if sides.len() > 1 && sides.iter().any(|s| !s.signs.is_empty()) {
            found.push(Equation { start, end, sides });
        }
    }
    found
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, what: &[u8]) -> bool {
        let found = self.bytes[self.at..].starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    /// Digits, commas before three of them, decimals. The outer option: is there a number; the inner: is it short enough.
    fn number(&mut self) -> Option<Option<Exact>> {
        let digit = |i: usize| self.bytes.get(i).is_some_and(u8::is_ascii_digit);
        let mut i = self.at;
        let (mut value, mut scale, mut point, mut short) = (0i128, 1i128, false, true);
        while i < self.bytes.len() {
            match self.bytes[i] {
                c if c.is_ascii_digit() => {
                    short &= value < 10i128.pow(17) && scale < 10i128.pow(9);
                    if short {
                        value = value * 10 + i128::from(c - b'0');
                        scale *= if point { 10 } else { 1 };
                    }
                }
                b',' if !point && i > self.at && digit(i + 1) && digit(i + 2) && digit(i + 3) && !digit(i + 4) => {}
                b'.' if !point && digit(i + 1) && i > self.at => point = true,
                _ => break,
            }
            i += 1;
        }
        if i == self.at {
            return None;
        }
        self.at = i;
        Some(short.then(|| Exact::new(value, scale)))
    }

    fn sign(&mut self) -> Option<char> {
        const SIGNS: [(&str, char); 9] = [
            ("+", '+'),
            ("-", '-'),
            ("\u{2212}", '-'),
            ("*", '*'),
            ("\u{d7}", '*'),
            ("x", '*'),
            ("\\times", '*'),
            ("/", '/'),
            ("\u{f7}", '/'),
        ];
        SIGNS.iter().find(|(text, _)| self.eat(text.as_bytes())).map(|s| s.1)
    }

    fn side(&mut self) -> Option<Side> {
        let mut side = Side { numbers: vec![self.number()?], signs: vec![] };
        loop {
            let back = self.at;
            self.blanks();
            let Some(sign) = self.sign() else {
                self.at = back;
                return Some(side);
            };
            self.blanks();
            self.eat(b"$");
            let Some(number) = self.number() else {
                self.at = back;
                return Some(side);
            };
            side.signs.push(sign);
            side.numbers.push(number);
        }
    }
}

/// Judges each equation in turn.
pub fn judge(graph: &Graph, response: &str) -> Vec<StepVerdict> {
    let needed = graph.needed();
    // What may be used, and what was written. They differ for quantities that share an equation: the first writing of it
    // makes all of them known, yet each may be written.
    let mut known: Vec<bool> = graph.nodes.iter().map(|n| matches!(n.op, Op::Given(_))).collect();
    let mut written = known.clone();
    let mut verdicts = vec![];
    let mut from = 0;
    for equation in equations(response) {
        let head = headed(graph, &response[from..equation.start]);
        from = equation.end;
        let mut next = false;
        if let Some(said) = equation.binary() {
            let fits = |i: &usize| {
                let free = needed[*i] && !written[*i] && graph.nodes[*i].op.parents().all(|p| known[p]);
                free && head.is_none_or(|h| h == *i) && graph.parts(*i).is_some_and(|told| same(told, said))
            };
            let fitting: Vec<usize> = (0..graph.nodes.len()).filter(fits).collect();
            let exact = fitting.iter().find(|i| graph.parts(**i) == Some(said)).or(fitting.first());
            if let Some(i) = exact {
                next = true;
                written[*i] = true;
                fitting.iter().for_each(|i| known[*i] = true);
            }
        }
        let text = response[equation.start..equation.end].to_string();
        verdicts.push(StepVerdict { text, valid: equation.valid(), next });
    }
    verdicts
}

fn same(told: (u64, char, u64, u64), said: (u64, char, u64, u64)) -> bool {
    let (a, sign, b, c) = told;
    let doubled = sign == '*' && b == 2 && said == (a, '+', a, c);
    told == said || doubled || (matches!(sign, '+' | '*') && said == (b, sign, a, c))
}

/// The quantity whose name heads the text right before an equation: `Bob:`, `Bob =`, `Bob has`, `Bob owns`.
fn headed(graph: &Graph, before: &str) -> Option<usize> {
    let text = before.trim_end();
    let ends = [":", "=", "has", "owns"];
    let text = ends.iter().find_map(|e| text.strip_suffix(e))?.trim_end();
    let of = |n: &str| {
        let head = text.strip_suffix(n)?;
        (!n.is_empty() && !head.ends_with(char::is_alphanumeric)).then_some(())
    };
    graph.nodes.iter().position(|n| of(&n.name).is_some())
}
