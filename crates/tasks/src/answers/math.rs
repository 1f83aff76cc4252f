//! Recursive descent from tokens to an expression: arithmetic, implicit products, functions with and without brackets, roots, mixed numbers.
//!
//! Depth is bounded; what is no arithmetic gives none, never a guess.

use num_traits::{One, Signed};

use super::expr::{Const, Expr, Fun};
use super::lex::{Bracket, Tok};

const MAX_DEPTH: usize = 48;
/// Signs behind one factor: each nests it once more.
const MAX_POSTFIX: usize = 24;

/// Reads one expression from the start of `toks`; the number of tokens it took comes with it.
pub fn expression(toks: &[Tok]) -> Option<(Expr, usize)> {
    let mut parser = Parser { t: toks, i: 0, depth: 0, bars: 0 };
    let e = parser.sum()?;
    Some((e, parser.i))
}

struct Parser<'a> {
    t: &'a [Tok],
    i: usize,
    depth: usize,
    /// Open absolute-value bars: inside them a bar closes.
    bars: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Tok> {
        self.t.get(self.i)
    }

    fn eat(&mut self, tok: &Tok) -> bool {
        let yes = self.peek() == Some(tok);
        if yes {
            self.i += 1;
        }
        yes
    }

    fn expect(&mut self, tok: &Tok) -> Option<()> {
        self.eat(tok).then_some(())
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let out = f(self);
        self.depth -= 1;
        out
    }

    fn sum(&mut self) -> Option<Expr> {
        self.deeper(|p| {
            let mut terms = vec![p.signed_term()?];
            loop {
                match p.peek() {
                    Some(Tok::Op('+')) => {
                        p.i += 1;
                        terms.push(p.signed_term()?);
                    }
                    Some(Tok::Op('-')) | Some(Tok::Const(Const::PlusMinus)) => terms.push(p.signed_term()?),
                    _ => break,
                }
            }
            Some(if terms.len() == 1 { terms.remove(0) } else { Expr::Add(terms) })
        })
    }

    /// A term behind any number of signs.
    fn signed_term(&mut self) -> Option<Expr> {
        let (mut minus, mut both) = (false, false);
        loop {
            match self.peek() {
                Some(Tok::Op('-')) => minus = !minus,
                Some(Tok::Op('+')) => {}
                Some(Tok::Const(Const::PlusMinus)) => both = true,
                _ => break,
            }
            self.i += 1;
        }
        let mut term = self.term()?;
        if both {
            term = Expr::Const(Const::PlusMinus).times(term);
        }
        Some(if minus { term.negated() } else { term })
    }

    fn term(&mut self) -> Option<Expr> {
        let mut product: Option<Expr> = None;
        let mut divide = false;
        loop {
            let mut sign = false;
            if product.is_some() {
                while self.peek() == Some(&Tok::Op('-')) {
                    sign = !sign;
                    self.i += 1;
                }
            }
            let factor = self.factor()?;
            let factor = if sign { factor.negated() } else { factor };
            product = Some(match product {
                None => factor,
                Some(p) if divide => p.over(factor),
                Some(p) => p.times(factor),
            });
            match self.peek() {
                Some(Tok::Op('*')) => {
                    self.i += 1;
                    divide = false;
                }
                Some(Tok::Op('/')) => {
                    // "5 m/s": a slash before a word belongs to the unit
                    if matches!(self.t.get(self.i + 1), Some(Tok::Word(_))) {
                        return product;
                    }
                    self.i += 1;
                    divide = true;
                }
                _ if self.starts_factor() && !matches!(self.peek(), Some(Tok::Num(..))) => divide = false,
                _ => return product,
            }
        }
    }

    /// Could the next token begin a factor of an implicit product?
    fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Tok::Bar) => self.bars == 0 && self.t[self.i + 1..].contains(&Tok::Bar),
            Some(Tok::Num(..) | Tok::Id(_) | Tok::Fun(_) | Tok::Frac | Tok::Sqrt | Tok::Overline) => true,
            Some(Tok::Const(c)) => *c != Const::PlusMinus,
            Some(Tok::Open(b)) => !matches!(b, Bracket::SetBrace | Bracket::Angle),
            _ => false,
        }
    }

    /// `3\frac12` and `3 1/2` are sums.
    fn mixed_number(&mut self) -> Option<Expr> {
        let Some(Tok::Num(whole, 0, digits)) = self.peek() else { return None };
        if digits.is_empty() {
            return None;
        }
        match &self.t[self.i + 1..] {
            [Tok::Frac, ..] => {
                let (whole, before) = (whole.clone(), self.i);
                self.i += 1;
                if let Some(Expr::Num(part, 0)) = self.deeper(Self::primary)
                    && part.is_positive()
                    && part < One::one()
                    && self.peek() != Some(&Tok::Op('^'))
                {
                    return Some(Expr::Num(whole + part, 0));
                }
                self.i = before;
                None
            }
            [Tok::Num(n, 0, _), Tok::Op('/'), Tok::Num(d, 0, _), ..] if n < d && n.is_positive() => {
                let value = whole + n / d;
                self.i += 4;
                Some(Expr::Num(value, 0))
            }
            _ => None,
        }
    }

    fn factor(&mut self) -> Option<Expr> {
        self.deeper(|p| {
            let mut e = match p.mixed_number() {
                Some(e) => e,
                None => p.primary()?,
            };
            for _ in 0..MAX_POSTFIX {
                match p.peek() {
                    Some(Tok::Op('!')) => {
                        p.i += 1;
                        e = Expr::Fun(Fun::Factorial, vec![e]);
                    }
                    Some(Tok::Op('%')) => {
                        p.i += 1;
                        e = e.times(Expr::Const(Const::Percent));
                    }
                    Some(Tok::Degree) => {
                        p.i += 1;
                        e = e.times(Expr::Const(Const::Deg));
                    }
                    Some(Tok::Op('^')) => {
                        p.i += 1;
                        let exponent = p.exponent()?;
                        e = e.pow(exponent);
                    }
                    _ => return Some(e),
                }
            }
            None
        })
    }

    fn exponent(&mut self) -> Option<Expr> {
        self.deeper(|p| {
            let mut minus = false;
            while let Some(Tok::Op(c @ ('-' | '+'))) = p.peek() {
                minus ^= *c == '-';
                p.i += 1;
            }
            let mut e = p.primary()?;
            if p.eat(&Tok::Op('!')) {
                e = Expr::Fun(Fun::Factorial, vec![e]);
            }
            if p.eat(&Tok::Op('^')) {
                e = e.pow(p.exponent()?);
            }
            Some(if minus { e.negated() } else { e })
        })
    }

    fn primary(&mut self) -> Option<Expr> {
        let tok = self.peek()?.clone();
        self.i += 1;
        match tok {
            Tok::Num(q, places, _) => Some(Expr::Num(q, places)),
            Tok::Const(c) if c != Const::PlusMinus => Some(Expr::Const(c)),
            Tok::Id(name) => self.symbol(name),
            Tok::Overline => self.overline(),
            Tok::Frac => {
                let (a, b) = (self.argument()?, self.argument()?);
                Some(a.over(b))
            }
            Tok::Sqrt => {
                let degree = if self.eat(&Tok::Open(Bracket::Square)) {
                    let d = self.sum()?;
                    self.expect(&Tok::Close(Bracket::Square))?;
                    d
                } else {
                    Expr::int(2)
                };
                Some(self.argument()?.root(degree))
            }
            Tok::Fun(f) => self.function(f),
            Tok::Bar => {
                self.bars += 1;
                let e = self.deeper(Self::sum)?;
                self.bars -= 1;
                self.expect(&Tok::Bar)?;
                Some(Expr::Fun(Fun::Abs, vec![e]))
            }
            Tok::Open(
                bracket @ (Bracket::Paren | Bracket::Square | Bracket::Brace | Bracket::Floor | Bracket::Ceil),
            ) => {
                let bars = std::mem::take(&mut self.bars);
                let e = self.sum()?;
                let e = match self.peek() {
                    Some(Tok::Choose) => {
                        self.i += 1;
                        Expr::Fun(Fun::Binom, vec![e, self.sum()?])
                    }
                    Some(Tok::Over) => {
                        self.i += 1;
                        e.over(self.sum()?)
                    }
                    _ => e,
                };
                self.bars = bars;
                self.expect(&Tok::Close(bracket))?;
                Some(match bracket {
                    Bracket::Floor => Expr::Fun(Fun::Floor, vec![e]),
                    Bracket::Ceil => Expr::Fun(Fun::Ceil, vec![e]),
                    _ => e,
                })
            }
            _ => None,
        }
    }

    /// A symbol with its primes and subscript.
    fn symbol(&mut self, mut name: String) -> Option<Expr> {
        if self.eat(&Tok::Op('_')) {
            name.push('_');
            if self.eat(&Tok::Open(Bracket::Brace)) {
                loop {
                    match self.peek()? {
                        Tok::Close(Bracket::Brace) => break,
                        Tok::Num(q, ..) => name.push_str(&q.to_string()),
                        Tok::Id(s) | Tok::Word(s) => name.push_str(s),
                        Tok::Op(c) | Tok::Sep(c) => name.push(*c),
                        Tok::Const(Const::I) => name.push('i'),
                        _ => return None,
                    }
                    self.i += 1;
                }
                self.i += 1;
            } else {
                match self.peek()? {
                    Tok::Num(q, ..) => name.push_str(&q.to_string()),
                    Tok::Id(s) => name.push_str(s),
                    Tok::Const(Const::I) => name.push('i'),
                    _ => return None,
                }
                self.i += 1;
            }
        }
        while self.eat(&Tok::Op('\'')) {
            name.push('\'');
        }
        Some(Expr::Sym(name))
    }

    /// `\overline{AB}`: a segment's name, or the conjugate of an expression with i.
    fn overline(&mut self) -> Option<Expr> {
        self.expect(&Tok::Open(Bracket::Brace))?;
        let e = self.sum()?;
        self.expect(&Tok::Close(Bracket::Brace))?;
        Some(Expr::Fun(Fun::Conj, vec![e]))
    }

    /// A LaTeX argument: a group, or one factor.
    fn argument(&mut self) -> Option<Expr> {
        self.deeper(|p| {
            if p.peek() == Some(&Tok::Op('-')) {
                return None;
            }
            p.primary()
        })
    }

    fn function(&mut self, f: Fun) -> Option<Expr> {
        let mut base = None;
        let mut power = None;
        for _ in 0..2 {
            if f == Fun::Log && self.eat(&Tok::Op('_')) {
                base = Some(self.deeper(Self::primary)?);
            } else if self.peek() == Some(&Tok::Op('^')) {
                self.i += 1;
                power = Some(self.exponent()?);
            }
        }
        if f == Fun::Binom {
            if self.eat(&Tok::Open(Bracket::Paren)) {
                let n = self.sum()?;
                self.expect(&Tok::Sep(','))?;
                let k = self.sum()?;
                self.expect(&Tok::Close(Bracket::Paren))?;
                return Some(Expr::Fun(f, vec![n, k]));
            }
            let (n, k) = (self.argument()?, self.argument()?);
            return Some(Expr::Fun(f, vec![n, k]));
        }
        let mut args = Vec::new();
        match self.peek() {
            Some(Tok::Open(b @ (Bracket::Paren | Bracket::Brace | Bracket::Square))) => {
                let b = *b;
                self.i += 1;
                let bars = std::mem::take(&mut self.bars);
                loop {
                    args.push(self.sum()?);
                    if args.len() > 16 || !self.eat(&Tok::Sep(',')) {
                        break;
                    }
                }
                self.bars = bars;
                self.expect(&Tok::Close(b))?;
            }
            _ => args.push(self.bare_argument()?),
        }
        if power.is_none() && self.peek() == Some(&Tok::Op('^')) && f != Fun::Root {
            // sin(x)^2 is the square of the sine
            self.i += 1;
            power = Some(self.exponent()?);
        }
        let many = matches!(f, Fun::Min | Fun::Max | Fun::Gcd | Fun::Lcm);
        let call = match (f, args.len()) {
            (Fun::Log, 1) => {
                let x = args.remove(0);
                let base = base.unwrap_or(Expr::int(10));
                Expr::Fun(Fun::Log, vec![x, base])
            }
            (Fun::Log, 2) if base.is_none() => Expr::Fun(f, args),
            (Fun::Root, 1) => args.remove(0).root(Expr::int(3)),
            (Fun::Root, 2) => Expr::Fun(f, args),
            (Fun::Exp, 1) => Expr::Const(Const::E).pow(args.remove(0)),
            (_, 1) => Expr::Fun(f, args),
            (_, _) if many => Expr::Fun(f, args),
            _ => return None,
        };
        match (power, f.inverse()) {
            (None, _) => Some(call),
            (Some(p), Some(inverse)) if p == Expr::int(-1) => match call {
                Expr::Fun(_, args) => Some(Expr::Fun(inverse, args)),
                _ => None,
            },
            (Some(p), _) => Some(call.pow(p)),
        }
    }

    /// The argument of a function without brackets: `\sin 2x`, `\ln 3`, `\cos\frac{\pi}{3}`.
    fn bare_argument(&mut self) -> Option<Expr> {
        self.deeper(|p| {
            let minus = p.eat(&Tok::Op('-'));
            let mut e = match p.peek()? {
                Tok::Fun(_) => return p.factor(),
                _ => p.factor()?,
            };
            let simple = matches!(e, Expr::Num(..) | Expr::Sym(_) | Expr::Const(_) | Expr::Pow(..) | Expr::Mul(_));
            while simple && matches!(p.peek(), Some(Tok::Id(_) | Tok::Const(Const::Pi | Const::E | Const::I))) {
                e = e.times(p.factor()?);
            }
            // "sin pi/6": a slash and a number still belong to the argument
            if let (true, Some(Tok::Op('/')), Some(Tok::Num(..))) = (e.has(Const::Pi), p.peek(), p.t.get(p.i + 1)) {
                p.i += 1;
                e = e.over(p.factor()?);
            }
            Some(if minus { e.negated() } else { e })
        })
    }
}
