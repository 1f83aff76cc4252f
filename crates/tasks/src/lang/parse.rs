//! The parser of the mini-language. The grammar stands in the module's head.

use postgrad_base::{Error, Result};

use super::ast::*;

/// Longest program text, in bytes.
pub const MAX_TEXT: usize = 256 * 1024;
/// Deepest nesting of blocks, brackets and operators.
pub const MAX_DEPTH: usize = 120;

pub(super) const KEYWORDS: &[&str] = &[
    "fn", "let", "if", "else", "while", "for", "in", "break", "continue", "return", "assert", "and", "or", "not",
    "true", "false", "none",
];

#[derive(Clone, Debug, PartialEq)]
enum Tok {
    Int(u64),
    Str(String),
    Name(String),
    Word(&'static str),
    Sign(&'static str),
}

// Longest first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "%=", "&&", "||", "+", "-", "*", "/", "%", "<", ">", "=", "!", "(",
    ")", "[", "]", "{", "}", ",", ";", ":",
];

fn bad(line: u32, what: impl Into<String>) -> Error {
    Error::work(what).at(format!("line {line}"))
}

fn tokens(text: &str) -> Result<Vec<(Tok, u32)>> {
    if text.len() > MAX_TEXT {
        return Err(Error::work(format!("the program is longer than {MAX_TEXT} bytes")));
    }
    let mut out = vec![];
    let mut line = 1;
    let mut at = 0;
    'next: while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c == '\n' {
            line += 1;
        }
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if rest.starts_with("//") || c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if c.is_ascii_digit() {
            let len = rest.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(rest.len());
            let digits: String = rest[..len].chars().filter(|c| *c != '_').collect();
            let n = digits.parse().map_err(|_| bad(line, "the number does not fit into 64 bits"))?;
            out.push((Tok::Int(n), line));
            at += len;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = &rest[..len];
            out.push((KEYWORDS.iter().find(|k| **k == name).map_or(Tok::Name(name.into()), |k| Tok::Word(k)), line));
            at += len;
        } else if c == '"' {
            let (s, len) = string(rest, line)?;
            line += rest[..len].matches('\n').count() as u32;
            out.push((Tok::Str(s), line));
            at += len;
        } else {
            for sign in SIGNS {
                if rest.starts_with(sign) {
                    out.push((Tok::Sign(sign), line));
                    at += sign.len();
                    continue 'next;
                }
            }
            return Err(bad(line, format!("unexpected character `{}`", c.escape_default())));
        }
    }
    Ok(out)
}

fn string(rest: &str, line: u32) -> Result<(String, usize)> {
    let mut s = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((s, i + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => s.push('\n'),
                Some((_, 't')) => s.push('\t'),
                Some((_, c @ ('"' | '\\'))) => s.push(c),
                _ => return Err(bad(line, "unknown escape in a string").help("known: \\n \\t \\\" \\\\")),
            },
            c => s.push(c),
        }
    }
    Err(bad(line, "a string without its end"))
}

/// Reads a program.
pub fn parse(text: &str) -> Result<Program> {
    let tokens = tokens(text)?;
    let mut p = Parser { tokens: &tokens, pos: 0, depth: 0 };
    let mut program = Program::default();
    while p.pos < tokens.len() {
        if p.takes_word("fn") {
            let line = p.line();
            let name = p.name()?;
            p.sign("(")?;
            let mut params = vec![];
            while !p.takes(")") {
                params.push(p.name()?);
                if !p.takes(",") {
                    p.sign(")")?;
                    break;
                }
            }
            program.functions.push(Function { name, params, body: p.block()?, line });
        } else {
            program.script.push(p.stmt()?);
        }
    }
    Ok(program)
}

/// Reads one expression.
pub fn parse_expr(text: &str) -> Result<Expr> {
    let tokens = tokens(text)?;
    let mut p = Parser { tokens: &tokens, pos: 0, depth: 0 };
    let e = p.expr()?;
    if p.pos < tokens.len() { Err(bad(p.line(), "an expression, then more")) } else { Ok(e) }
}

struct Parser<'a> {
    tokens: &'a [(Tok, u32)],
    pos: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Tok> {
        self.tokens.get(self.pos).map(|t| &t.0)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.pos).or(self.tokens.last()).map_or(1, |t| t.1)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Tok::Sign(s)) if *s == sign);
        self.pos += usize::from(found);
        found
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Tok::Word(s)) if *s == word);
        self.pos += usize::from(found);
        found
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        Err(match self.peek() {
            None => bad(self.line(), format!("the program ends where {what} should be")),
            Some(_) => bad(self.line(), format!("expected {what}")),
        })
    }

    fn sign(&mut self, sign: &str) -> Result<()> {
        if self.takes(sign) { Ok(()) } else { self.expected(&format!("`{sign}`")) }
    }

    fn name(&mut self) -> Result<String> {
        let Some(Tok::Name(n)) = self.peek() else { return self.expected("a name") };
        let n = n.clone();
        self.pos += 1;
        Ok(n)
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(bad(self.line(), format!("nested deeper than {MAX_DEPTH}"))) } else { Ok(()) }
    }

    fn block(&mut self) -> Result<Vec<Stmt>> {
        self.sign("{")?;
        self.deeper()?;
        let mut body = vec![];
        while !self.takes("}") {
            body.push(self.stmt()?);
        }
        self.depth -= 1;
        Ok(body)
    }

    fn stmt(&mut self) -> Result<Stmt> {
        let line = self.line();
        let kind = self.stmt_kind()?;
        Ok(Stmt { kind, line })
    }

    fn stmt_kind(&mut self) -> Result<StmtKind> {
        if self.takes_word("if") {
            return self.conditional();
        }
        if self.takes_word("while") {
            return Ok(StmtKind::While(self.expr()?, self.block()?));
        }
        if self.takes_word("for") {
            let var = self.name()?;
            if !self.takes_word("in") {
                return self.expected("`in`");
            }
            return Ok(StmtKind::For(var, self.expr()?, self.block()?));
        }
        let kind = self.simple()?;
        self.sign(";")?;
        Ok(kind)
    }

    fn conditional(&mut self) -> Result<StmtKind> {
        self.deeper()?;
        let condition = self.expr()?;
        let then = self.block()?;
        let mut other = vec![];
        if self.takes_word("else") {
            let line = self.line();
            if self.takes_word("if") {
                other.push(Stmt { kind: self.conditional()?, line });
            } else {
                other = self.block()?;
            }
        }
        self.depth -= 1;
        Ok(StmtKind::If(condition, then, other))
    }

    fn simple(&mut self) -> Result<StmtKind> {
        if self.takes_word("let") {
            let name = self.name()?;
            self.sign("=")?;
            return Ok(StmtKind::Let(name, self.expr()?));
        }
        if self.takes_word("break") {
            return Ok(StmtKind::Break);
        }
        if self.takes_word("continue") {
            return Ok(StmtKind::Continue);
        }
        if self.takes_word("return") {
            let empty = matches!(self.peek(), Some(Tok::Sign(";")));
            return Ok(StmtKind::Return(if empty { None } else { Some(self.expr()?) }));
        }
        if self.takes_word("assert") {
            let e = self.expr()?;
            let message = if self.takes(",") { Some(self.expr()?) } else { None };
            return Ok(StmtKind::Assert(e, message));
        }
        let line = self.line();
        let e = self.expr()?;
        for (sign, op) in [
            ("=", None),
            ("+=", Some(BinOp::Add)),
            ("-=", Some(BinOp::Sub)),
            ("*=", Some(BinOp::Mul)),
            ("/=", Some(BinOp::Div)),
            ("%=", Some(BinOp::Rem)),
        ] {
            if self.takes(sign) {
                let Some(place) = place(&e) else { return Err(bad(line, "this cannot be assigned to")) };
                return Ok(StmtKind::Assign(place, op, self.expr()?));
            }
        }
        if let Expr::Call(f, args) = &e
            && matches!(f.as_str(), "push" | "remove")
        {
            let [target, value] = &args[..] else {
                return Err(bad(line, format!("`{f}` takes a variable and a value")));
            };
            let Some(place) = place(target) else { return Err(bad(line, format!("`{f}` changes a variable"))) };
            let value = value.clone();
            return Ok(if f == "push" { StmtKind::Push(place, value) } else { StmtKind::Remove(place, value) });
        }
        Ok(StmtKind::Expr(e))
    }

    fn expr(&mut self) -> Result<Expr> {
        Ok(self.level(1)?.0)
    }

    /// Levels: 1 `or`, 2 `and`, 3 `not`, 4 comparisons (which do not chain), 5 sums, 6 products, 7 the rest. With each
    /// tree comes its depth.
    fn level(&mut self, level: u8) -> Result<(Expr, usize)> {
        if level == 7 {
            return self.prefix();
        }
        if level == 3 {
            if !(self.takes_word("not") || self.takes("!")) {
                return self.level(4);
            }
            self.deeper()?;
            let (e, d) = self.level(3)?;
            self.depth -= 1;
            return self.checked(Expr::Un(UnOp::Not, Box::new(e)), d + 1);
        }
        let (mut left, mut depth) = self.level(level + 1)?;
        loop {
            let make: Box<dyn Fn(Box<Expr>, Box<Expr>) -> Expr> = match level {
                1 if self.takes_word("or") || self.takes("||") => Box::new(Expr::Or),
                2 if self.takes_word("and") || self.takes("&&") => Box::new(Expr::And),
                4.. => match self.operator(level) {
                    Some(op) => Box::new(move |a, b| Expr::Bin(op, a, b)),
                    None => break,
                },
                _ => break,
            };
            let (right, d) = self.level(level + 1)?;
            depth = depth.max(d) + 1;
            (left, depth) = self.checked(make(Box::new(left), Box::new(right)), depth)?;
            if level == 4 {
                break;
            }
        }
        Ok((left, depth))
    }

    fn checked(&self, e: Expr, depth: usize) -> Result<(Expr, usize)> {
        if depth > MAX_DEPTH {
            Err(bad(self.line(), format!("nested deeper than {MAX_DEPTH}")))
        } else {
            Ok((e, depth))
        }
    }

    fn operator(&mut self, level: u8) -> Option<BinOp> {
        use BinOp::*;
        if level == 4 && self.takes_word("in") {
            return Some(In);
        }
        let all = [Eq, Ne, Le, Ge, Lt, Gt, Add, Sub, Mul, Div, Rem];
        all.into_iter().find(|op| op.level() == level && self.takes(op.sign()))
    }

    fn prefix(&mut self) -> Result<(Expr, usize)> {
        if !self.takes("-") {
            return self.postfix();
        }
        if let Some(Tok::Int(n)) = self.peek() {
            // the most negative number has no positive twin
            let value = 0i64.checked_sub_unsigned(*n).ok_or_else(|| bad(self.line(), "the number is too small"))?;
            self.pos += 1;
            return self.indexed(Expr::Int(value), 1);
        }
        self.deeper()?;
        let (e, d) = self.prefix()?;
        self.depth -= 1;
        self.checked(Expr::Un(UnOp::Neg, Box::new(e)), d + 1)
    }

    fn postfix(&mut self) -> Result<(Expr, usize)> {
        let (e, d) = self.primary()?;
        self.indexed(e, d)
    }

    fn indexed(&mut self, mut e: Expr, mut depth: usize) -> Result<(Expr, usize)> {
        while self.takes("[") {
            self.deeper()?;
            let (i, d) = self.level(1)?;
            self.depth -= 1;
            self.sign("]")?;
            depth = depth.max(d) + 1;
            (e, depth) = self.checked(Expr::Index(Box::new(e), Box::new(i)), depth)?;
        }
        Ok((e, depth))
    }

    fn primary(&mut self) -> Result<(Expr, usize)> {
        let Some(tok) = self.peek().cloned() else { return self.expected("an expression") };
        let line = self.line();
        self.pos += 1;
        Ok(match tok {
            Tok::Int(n) => (Expr::Int(i64::try_from(n).map_err(|_| bad(line, "the number is too large"))?), 1),
            Tok::Str(s) => (Expr::Str(s), 1),
            Tok::Word("true") => (Expr::Bool(true), 1),
            Tok::Word("false") => (Expr::Bool(false), 1),
            Tok::Word("none") => (Expr::None, 1),
            Tok::Name(name) => {
                if !self.takes("(") {
                    return Ok((Expr::Var(name), 1));
                }
                let (args, d) = self.list(")")?;
                (Expr::Call(name, args), d + 1)
            }
            Tok::Sign("[") => {
                let (items, d) = self.list("]")?;
                (Expr::List(items), d + 1)
            }
            Tok::Sign("{") => {
                self.deeper()?;
                let mut pairs = vec![];
                let mut depth = 0;
                while !self.takes("}") {
                    let (k, dk) = self.level(1)?;
                    self.sign(":")?;
                    let (v, dv) = self.level(1)?;
                    depth = depth.max(dk).max(dv);
                    pairs.push((k, v));
                    if !self.takes(",") {
                        self.sign("}")?;
                        break;
                    }
                }
                self.depth -= 1;
                (Expr::Map(pairs), depth + 1)
            }
            Tok::Sign("(") => {
                self.deeper()?;
                let inner = self.level(1)?;
                self.depth -= 1;
                self.sign(")")?;
                inner
            }
            _ => {
                self.pos -= 1;
                return self.expected("an expression");
            }
        })
    }

    fn list(&mut self, close: &str) -> Result<(Vec<Expr>, usize)> {
        self.deeper()?;
        let mut items = vec![];
        let mut depth = 0;
        while !self.takes(close) {
            let (e, d) = self.level(1)?;
            depth = depth.max(d);
            items.push(e);
            if !self.takes(",") {
                self.sign(close)?;
                break;
            }
        }
        self.depth -= 1;
        Ok((items, depth))
    }
}

fn place(e: &Expr) -> Option<Place> {
    match e {
        Expr::Var(name) => Some(Place { name: name.clone(), indices: vec![] }),
        Expr::Index(base, i) => {
            let mut p = place(base)?;
            p.indices.push((**i).clone());
            Some(p)
        }
        _ => None,
    }
}
