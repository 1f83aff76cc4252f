//! Arithmetic expressions in exact fractions: read from hostile text, evaluated, told step by step, searched for.

use num_rational::Ratio;
use num_traits::{CheckedAdd, CheckedDiv, CheckedMul, CheckedSub, Zero};

pub type Number = Ratio<i64>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Number(i64),
    Op(Box<Expr>, char, Box<Expr>),
}

/// Longer expressions are not read; it bounds the depth of nesting too.
const MOST_TOKENS: usize = 128;
/// Larger numbers are not read.
const LARGEST: i64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Number(i64),
    Sign(char),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut all = vec![];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let sign = match c {
            c if c.is_whitespace() => continue,
            '+' | '-' | '*' | '/' | '(' | ')' => c,
            '\u{d7}' | '\u{b7}' => '*',
            '\u{f7}' => '/',
            '\u{2212}' => '-',
            '[' | '{' => '(',
            ']' | '}' => ')',
            '0'..='9' => {
                let mut n = i64::from(c as u8 - b'0');
                while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                    n = n * 10 + i64::from(d);
                    if n > LARGEST {
                        return None;
                    }
                    chars.next();
                }
                all.push(Token::Number(n));
                continue;
            }
            _ => return None,
        };
        all.push(Token::Sign(sign));
        if all.len() > MOST_TOKENS {
            return None;
        }
    }
    (all.len() <= MOST_TOKENS).then_some(all)
}

/// An expression of non-negative whole numbers, `+ - * /` and brackets; none for anything else.
pub fn parse(text: &str) -> Option<Expr> {
    let all = tokens(text)?;
    let (expr, rest) = sum(&all)?;
    rest.is_empty().then_some(expr)
}

type Read<'a> = Option<(Expr, &'a [Token])>;

fn sum(tokens: &[Token]) -> Read<'_> {
    chain(tokens, &['+', '-'], product)
}

fn product(tokens: &[Token]) -> Read<'_> {
    chain(tokens, &['*', '/'], atom)
}

/// Operands of one level, from left to right.
fn chain<'a>(tokens: &'a [Token], signs: &[char], operand: fn(&[Token]) -> Read<'_>) -> Read<'a> {
    let (mut left, mut rest) = operand(tokens)?;
    while let Some(Token::Sign(c)) = rest.first()
        && signs.contains(c)
    {
        let (right, after) = operand(&rest[1..])?;
        left = Expr::Op(Box::new(left), *c, Box::new(right));
        rest = after;
    }
    Some((left, rest))
}

fn atom(tokens: &[Token]) -> Read<'_> {
    match tokens.split_first()? {
        (Token::Number(n), rest) => Some((Expr::Number(*n), rest)),
        (Token::Sign('('), rest) => {
            let (inner, rest) = sum(rest)?;
            Some((inner, rest.strip_prefix(&[Token::Sign(')')])?))
        }
        _ => None,
    }
}

pub fn apply(a: Number, op: char, b: Number) -> Option<Number> {
    match op {
        '+' => a.checked_add(&b),
        '-' => a.checked_sub(&b),
        '*' => a.checked_mul(&b),
        _ if b.is_zero() => None,
        _ => a.checked_div(&b),
    }
}

impl Expr {
    /// None for a division by 0 and for values beyond 64 bits.
    pub fn value(&self) -> Option<Number> {
        match self {
            Expr::Number(n) => Some(Number::from_integer(*n)),
            Expr::Op(a, op, b) => apply(a.value()?, *op, b.value()?),
        }
    }

    /// Its numbers from left to right.
    pub fn numbers(&self) -> Vec<i64> {
        match self {
            Expr::Number(n) => vec![*n],
            Expr::Op(a, _, b) => [a.numbers(), b.numbers()].concat(),
        }
    }

    /// `3 + 4 = 7`, inner operations first.
    pub fn steps(&self) -> Vec<String> {
        let mut all = vec![];
        self.tell(&mut all);
        all
    }

    fn tell(&self, all: &mut Vec<String>) {
        let Expr::Op(a, op, b) = self else { return };
        a.tell(all);
        b.tell(all);
        if let (Some(x), Some(y), Some(z)) = (a.value(), b.value(), self.value()) {
            all.push(format!("{x} {op} {y} = {z}"));
        }
    }

    /// With no more brackets than it needs.
    pub fn show(&self) -> String {
        let Expr::Op(a, op, b) = self else {
            return if let Expr::Number(n) = self { n.to_string() } else { String::new() };
        };
        let strong = |op: char| matches!(op, '*' | '/');
        let side = |e: &Expr, right: bool| match e {
            Expr::Op(_, inner, _)
                if strong(*op) && !strong(*inner)
                    || right && matches!(op, '-' | '/') && strong(*op) == strong(*inner) =>
            {
                format!("({})", e.show())
            }
            _ => e.show(),
        };
        format!("{} {op} {}", side(a, false), side(b, true))
    }
}

/// An expression that uses every one of the numbers once and has this value, by trying all.
pub fn reach(numbers: &[i64], target: i64) -> Option<Expr> {
    let parts = numbers.iter().map(|&n| (Number::from_integer(n), Expr::Number(n))).collect();
    reach_parts(parts, Number::from_integer(target))
}

fn reach_parts(parts: Vec<(Number, Expr)>, target: Number) -> Option<Expr> {
    if let [(value, expr)] = &parts[..] {
        return (*value == target).then(|| expr.clone());
    }
    for i in 0..parts.len() {
        for j in (0..parts.len()).filter(|&j| j != i) {
            for op in ['+', '*', '-', '/'] {
                if i > j && matches!(op, '+' | '*') {
                    continue;
                }
                let Some(value) = apply(parts[i].0, op, parts[j].0) else { continue };
                // the last operation must hit; it is not built otherwise
                if parts.len() == 2 && value != target {
                    continue;
                }
                let expr = Expr::Op(Box::new(parts[i].1.clone()), op, Box::new(parts[j].1.clone()));
                let mut rest: Vec<(Number, Expr)> =
                    (0..parts.len()).filter(|&k| k != i && k != j).map(|k| parts[k].clone()).collect();
                rest.push((value, expr));
                if let Some(found) = reach_parts(rest, target) {
                    return Some(found);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn expressions_are_read_as_written() {
        let value = |t: &str| parse(t).and_then(|e| e.value()).map(|v| v.to_string());
        for (text, is) in [
            ("1 + 2 * 3", "7"),
            ("(1+2)*3", "9"),
            ("8/(3-8/3)", "24"),
            ("7 \u{2212} 2 \u{2212} 1", "4"),
            ("[2\u{d7}3]\u{f7}4", "3/2"),
        ] {
            assert_eq!(value(text).as_deref(), Some(is), "{text}");
        }
        for bad in
            ["", "1 +", "-1", "1 2", "(1", "1)", "1/0", "2**3", "a", "99999999999", "999999999*999999999*999999999"]
        {
            assert_eq!(value(bad), None, "{bad}");
        }
        assert_eq!(parse("(1+2)*(9-(4-2))").unwrap().steps(), ["1 + 2 = 3", "4 - 2 = 2", "9 - 2 = 7", "3 * 7 = 21"]);
        assert!(parse(&"(".repeat(100_000)).is_none());
        assert_eq!(reach(&[3, 3, 8, 8], 24).unwrap().value().unwrap().to_string(), "24");
        assert_eq!(reach(&[1, 1, 1, 1], 24), None);
    }

    fn any_expr() -> impl Strategy<Value = Expr> {
        let op = prop::sample::select(vec!['+', '-', '*', '/']);
        (0i64..30).prop_map(Expr::Number).prop_recursive(4, 16, 2, move |inner| {
            (inner.clone(), op.clone(), inner).prop_map(|(a, op, b)| Expr::Op(Box::new(a), op, Box::new(b)))
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_has_the_same_value_and_numbers(e in any_expr()) {
            let back = parse(&e.show()).unwrap();
            prop_assert_eq!(back.value(), e.value());
            prop_assert_eq!(back.numbers(), e.numbers());
        }

        #[test]
        fn any_text_is_read_or_not(text in "[-0-9+*/()\\[\\] ]{0,60}|\\PC{0,60}") {
            parse(&text).map(|e| (e.value(), e.steps()));
        }
    }
}
