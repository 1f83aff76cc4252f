//! The expression tree of an answer: exact numbers, symbols, sums, products, powers, functions; and its printed form.
//!
//! Nothing here simplifies: `algebra` brings expressions to a normal form, `eval` to numbers.

use std::fmt;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// An exact rational number.
pub type Q = BigRational;

/// Constants with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Const {
    Pi,
    E,
    I,
    Inf,
    /// A degree of arc, pi/180.
    Deg,
    /// 1/100.
    Percent,
    /// The sign of a plus-minus: stands for +1 and -1 in turn.
    PlusMinus,
}

/// Functions of one or two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fun {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Asin,
    Acos,
    Atan,
    Acot,
    Asec,
    Acsc,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Ln,
    /// `log(x, base)`.
    Log,
    Exp,
    Abs,
    Floor,
    Ceil,
    Factorial,
    /// `binom(n, k)`.
    Binom,
    Min,
    Max,
    Gcd,
    Lcm,
    /// `root(x, n)`, real for a real negative x and odd n.
    Root,
    Re,
    Im,
    Conj,
}

impl Fun {
    pub fn name(self) -> &'static str {
        use Fun::*;
        match self {
            Sin => "sin",
            Cos => "cos",
            Tan => "tan",
            Cot => "cot",
            Sec => "sec",
            Csc => "csc",
            Asin => "arcsin",
            Acos => "arccos",
            Atan => "arctan",
            Acot => "arccot",
            Asec => "arcsec",
            Acsc => "arccsc",
            Sinh => "sinh",
            Cosh => "cosh",
            Tanh => "tanh",
            Asinh => "arcsinh",
            Acosh => "arccosh",
            Atanh => "arctanh",
            Ln => "ln",
            Log => "log",
            Exp => "exp",
            Abs => "abs",
            Floor => "floor",
            Ceil => "ceil",
            Factorial => "factorial",
            Binom => "binom",
            Min => "min",
            Max => "max",
            Gcd => "gcd",
            Lcm => "lcm",
            Root => "root",
            Re => "Re",
            Im => "Im",
            Conj => "conj",
        }
    }

    /// The function of this (ASCII) name, in the spellings of LaTeX, calculators and programs.
    pub fn named(name: &str) -> Option<Fun> {
        use Fun::*;
        Some(match name {
            "sin" => Sin,
            "cos" => Cos,
            "tan" | "tg" => Tan,
            "cot" | "ctg" => Cot,
            "sec" => Sec,
            "csc" | "cosec" => Csc,
            "arcsin" | "asin" => Asin,
            "arccos" | "acos" => Acos,
            "arctan" | "atan" | "arctg" => Atan,
            "arccot" | "acot" => Acot,
            "arcsec" | "asec" => Asec,
            "arccsc" | "acsc" => Acsc,
            "sinh" => Sinh,
            "cosh" => Cosh,
            "tanh" => Tanh,
            "arcsinh" | "asinh" | "arsinh" => Asinh,
            "arccosh" | "acosh" | "arcosh" => Acosh,
            "arctanh" | "atanh" | "artanh" => Atanh,
            "ln" => Ln,
            "log" | "lg" => Log,
            "exp" => Exp,
            "abs" => Abs,
            "floor" => Floor,
            "ceil" | "ceiling" => Ceil,
            "factorial" => Factorial,
            "binom" | "dbinom" | "tbinom" => Binom,
            "min" => Min,
            "max" => Max,
            "gcd" => Gcd,
            "lcm" => Lcm,
            "root" => Root,
            "Re" => Re,
            "Im" => Im,
            "conj" => Conj,
            _ => return None,
        })
    }

    /// The inverse, where the power -1 on a function's name means one.
    pub fn inverse(self) -> Option<Fun> {
        use Fun::*;
        Some(match self {
            Sin => Asin,
            Cos => Acos,
            Tan => Atan,
            Cot => Acot,
            Sec => Asec,
            Csc => Acsc,
            Sinh => Asinh,
            Cosh => Acosh,
            Tanh => Atanh,
            _ => return None,
        })
    }
}

/// An expression as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A number and how many decimal places it was written with (0 for integers and fractions).
    Num(Q, u32),
    Sym(String),
    Const(Const),
    Add(Vec<Expr>),
    Mul(Vec<Expr>),
    Pow(Box<Expr>, Box<Expr>),
    Fun(Fun, Vec<Expr>),
}

impl Expr {
    pub fn int(n: i64) -> Expr {
        Expr::Num(Q::from_integer(BigInt::from(n)), 0)
    }

    pub fn ratio(n: i64, d: i64) -> Expr {
        Expr::Num(Q::new(BigInt::from(n), BigInt::from(d)), 0)
    }

    pub fn sym(name: &str) -> Expr {
        Expr::Sym(name.to_string())
    }

    pub fn negated(self) -> Expr {
        match self {
            Expr::Num(q, places) => Expr::Num(-q, places),
            other => Expr::Mul(vec![Expr::int(-1), other]),
        }
    }

    pub fn plus(self, other: Expr) -> Expr {
        match self {
            Expr::Add(mut terms) => {
                terms.push(other);
                Expr::Add(terms)
            }
            first => Expr::Add(vec![first, other]),
        }
    }

    pub fn minus(self, other: Expr) -> Expr {
        self.plus(other.negated())
    }

    pub fn times(self, other: Expr) -> Expr {
        match self {
            Expr::Mul(mut factors) => {
                factors.push(other);
                Expr::Mul(factors)
            }
            first => Expr::Mul(vec![first, other]),
        }
    }

    /// The quotient; two whole numbers make one fraction.
    pub fn over(self, other: Expr) -> Expr {
        if let (Expr::Num(a, 0), Expr::Num(b, 0)) = (&self, &other)
            && !b.is_zero()
        {
            return Expr::Num(a / b, 0);
        }
        self.times(Expr::Pow(Box::new(other), Box::new(Expr::int(-1))))
    }

    pub fn pow(self, exponent: Expr) -> Expr {
        Expr::Pow(Box::new(self), Box::new(exponent))
    }

    pub fn root(self, degree: Expr) -> Expr {
        Expr::Fun(Fun::Root, vec![self, degree])
    }

    /// Calls `f` on this node and all below it.
    pub fn walk(&self, f: &mut dyn FnMut(&Expr)) {
        f(self);
        match self {
            Expr::Num(..) | Expr::Sym(_) | Expr::Const(_) => {}
            Expr::Add(xs) | Expr::Mul(xs) | Expr::Fun(_, xs) => xs.iter().for_each(|x| x.walk(f)),
            Expr::Pow(a, b) => {
                a.walk(f);
                b.walk(f);
            }
        }
    }

    /// The tree with `f` applied to its leaves (numbers, symbols, constants).
    pub fn map_leaves(&self, f: &dyn Fn(&Expr) -> Expr) -> Expr {
        match self {
            Expr::Num(..) | Expr::Sym(_) | Expr::Const(_) => f(self),
            Expr::Add(xs) => Expr::Add(xs.iter().map(|x| x.map_leaves(f)).collect()),
            Expr::Mul(xs) => Expr::Mul(xs.iter().map(|x| x.map_leaves(f)).collect()),
            Expr::Fun(name, xs) => Expr::Fun(*name, xs.iter().map(|x| x.map_leaves(f)).collect()),
            Expr::Pow(a, b) => a.map_leaves(f).pow(b.map_leaves(f)),
        }
    }

    pub fn has(&self, constant: Const) -> bool {
        let mut found = false;
        self.walk(&mut |e| found |= *e == Expr::Const(constant));
        found
    }

    /// The names of the symbols, sorted, each once.
    pub fn symbols(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.walk(&mut |e| {
            if let Expr::Sym(name) = e {
                names.push(name.clone());
            }
        });
        names.sort();
        names.dedup();
        names
    }

    pub fn renamed(&self, from: &str, to: &str) -> Expr {
        self.map_leaves(&|leaf| match leaf {
            Expr::Sym(name) if name == from => Expr::sym(to),
            other => other.clone(),
        })
    }

    /// Both readings of an expression with a plus-minus, else the expression itself.
    pub fn branches(&self) -> Vec<Expr> {
        if !self.has(Const::PlusMinus) {
            return vec![self.clone()];
        }
        let with = |sign: i64| {
            self.map_leaves(&|leaf| match leaf {
                Expr::Const(Const::PlusMinus) => Expr::int(sign),
                other => other.clone(),
            })
        };
        vec![with(1), with(-1)]
    }

    /// A constant factor (degree, percent) split off a product: what is left, and whether it was there.
    pub fn without_factor(&self, constant: Const) -> Option<Expr> {
        let Expr::Mul(factors) = self else { return None };
        let at = factors.iter().position(|f| *f == Expr::Const(constant));
        if let Some(at) = at {
            let mut rest = factors.clone();
            rest.remove(at);
            return Some(if rest.len() == 1 { rest.remove(0) } else { Expr::Mul(rest) });
        }
        if factors.len() == 2 && factors[0] == Expr::int(-1) {
            return factors[1].without_factor(constant).map(Expr::negated);
        }
        None
    }

    fn precedence(&self) -> u8 {
        match self {
            Expr::Add(_) => 1,
            Expr::Mul(_) => 2,
            Expr::Num(q, _) if q.is_negative() => 1,
            Expr::Num(q, _) if !q.is_integer() => 2,
            Expr::Pow(..) => 3,
            _ => 4,
        }
    }

    fn write_at(&self, f: &mut fmt::Formatter<'_>, at_least: u8) -> fmt::Result {
        if self.precedence() < at_least { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

/// A rational in decimal notation where `places` says so, else as `n` or `n/d`.
pub fn write_rational(f: &mut fmt::Formatter<'_>, q: &Q, places: u32) -> fmt::Result {
    if places == 0 {
        return write!(f, "{q}");
    }
    let scale = BigInt::from(10).pow(places);
    let scaled = (q.abs() * Q::from_integer(scale)).to_integer();
    let digits = format!("{:0>width$}", scaled.to_string(), width = places as usize + 1);
    let (whole, part) = digits.split_at(digits.len() - places as usize);
    write!(f, "{}{whole}.{part}", if q.is_negative() { "-" } else { "" })
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Num(q, places) => write_rational(f, q, *places),
            Expr::Sym(name) => write!(f, "{name}"),
            Expr::Const(c) => f.write_str(match c {
                Const::Pi => "pi",
                Const::E => "e",
                Const::I => "i",
                Const::Inf => "inf",
                Const::Deg => "deg",
                Const::Percent => "%",
                Const::PlusMinus => "\\pm 1",
            }),
            Expr::Add(terms) => {
                for (n, term) in terms.iter().enumerate() {
                    let (minus, body) = match term {
                        Expr::Num(q, p) if q.is_negative() => (true, Expr::Num(-q, *p)),
                        Expr::Mul(xs) if xs.len() == 2 && xs[0] == Expr::int(-1) => (true, xs[1].clone()),
                        other => (false, other.clone()),
                    };
                    match (n, minus) {
                        (0, false) => {}
                        (0, true) => f.write_str("-")?,
                        (_, false) => f.write_str(" + ")?,
                        (_, true) => f.write_str(" - ")?,
                    }
                    body.write_at(f, 2)?;
                }
                Ok(())
            }
            Expr::Mul(factors) => {
                if let [rest @ .., Expr::Const(c @ (Const::Percent | Const::Deg))] = factors.as_slice()
                    && !rest.is_empty()
                {
                    let rest = if let [only] = rest { only.clone() } else { Expr::Mul(rest.to_vec()) };
                    rest.write_at(f, 4)?;
                    return f.write_str(if *c == Const::Percent { "%" } else { "^\\circ" });
                }
                if let [Expr::Const(Const::PlusMinus), rest @ ..] = factors.as_slice()
                    && !rest.is_empty()
                {
                    f.write_str("\\pm ")?;
                    let rest = if let [only] = rest { only.clone() } else { Expr::Mul(rest.to_vec()) };
                    return rest.write_at(f, 2);
                }
                let mut first = true;
                for factor in factors {
                    let below = match factor {
                        Expr::Pow(base, e) if **e == Expr::int(-1) => Some(base),
                        _ => None,
                    };
                    match (first, below) {
                        (true, None) if *factor == Expr::int(-1) && factors.len() > 1 => {
                            f.write_str("-")?;
                            continue;
                        }
                        (true, None) => factor.write_at(f, 2)?,
                        (true, Some(base)) => {
                            f.write_str("1/")?;
                            base.write_at(f, 3)?;
                        }
                        (false, Some(base)) => {
                            f.write_str("/")?;
                            base.write_at(f, 3)?;
                        }
                        (false, None) => {
                            f.write_str("*")?;
                            factor.write_at(f, 3)?;
                        }
                    }
                    first = false;
                }
                Ok(())
            }
            Expr::Pow(base, exponent) => {
                base.write_at(f, 4)?;
                f.write_str("^")?;
                exponent.write_at(f, 4)
            }
            Expr::Fun(Fun::Root, xs) if xs.len() == 2 && xs[1] == Expr::int(2) => write!(f, "sqrt({})", xs[0]),
            Expr::Fun(Fun::Log, xs) if xs.len() == 2 => {
                f.write_str("log_")?;
                match &xs[1] {
                    e @ Expr::Num(q, 0) if q.is_integer() && *q > Q::one() => write!(f, "{e}")?,
                    e => write!(f, "{{{e}}}")?,
                }
                write!(f, "({})", xs[0])
            }
            Expr::Fun(name, xs) => {
                write!(f, "{}(", name.name())?;
                for (n, x) in xs.iter().enumerate() {
                    if n > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{x}")?;
                }
                f.write_str(")")
            }
        }
    }
}
