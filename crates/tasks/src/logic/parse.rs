//! The parser: one grammar for unicode, ASCII, LaTeX, word and TPTP-like notation.
//!
//! From tightest to loosest: `¬` and quantifiers, `∧`, `⊕`, `∨`, `→` (groups to the right), `↔`; the rest group to the
//! left. A quantifier with a dot or colon (`∀x. A → B`, `![X]: A`) reaches to the end of its bracket. Without one it takes
//! the next unit (`∀x A(x) ∧ B` is `(∀x A(x)) ∧ B`), unless its variable would be left unbound to the right
//! (`∀x A(x) → B(x)` is `∀x (A(x) → B(x))`), which is how readers take it.
//!
//! Left out on purpose: infix predicates other than `=` and `≠`, arithmetic, sorts.

use std::fmt;

use super::formula::{Atom, Formula, MAX_DEPTH, Op, Quantifier, Term};
use super::token::{Tok, Token, tokens};

/// Why a text is no formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    Empty,
    /// A sign that no notation has.
    Character,
    /// A bracket without its partner.
    Bracket,
    /// A sign that cannot stand here.
    Unexpected,
    /// The text stops inside a formula.
    Ended,
    /// A whole formula, then more.
    Trailing,
    TooDeep,
    TooLarge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub kind: ErrorKind,
    /// Byte offset in the text.
    pub at: usize,
    pub message: String,
}

impl ParseError {
    pub(super) fn new(kind: ErrorKind, at: usize, message: String) -> Self {
        Self { kind, at, message }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.message, self.at)
    }
}

impl std::error::Error for ParseError {}

impl From<ParseError> for postgrad_base::Error {
    fn from(e: ParseError) -> Self {
        postgrad_base::Error::work("not a formula").because(e)
    }
}

/// Reads one formula. See the module for precedence.
pub fn parse(text: &str) -> Result<Formula, ParseError> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err(ParseError::new(ErrorKind::Empty, 0, "no formula".into()));
    }
    let partner = partners(&tokens)?;
    let mut p = Parser { tokens: &tokens, partner: &partner, pos: 0, end: text.len(), bound: vec![], depth: 0 };
    let (f, _) = p.binary(0)?;
    while p.peek() == Some(&Tok::Dot) {
        p.pos += 1;
    }
    match p.tokens.get(p.pos) {
        None => Ok(f),
        Some(t) => Err(ParseError::new(ErrorKind::Trailing, t.at, "a whole formula, then more text".into())),
    }
}

/// For each opening bracket the place of its partner.
fn partners(tokens: &[Token]) -> Result<Vec<usize>, ParseError> {
    let mut partner = vec![0; tokens.len()];
    let mut open: Vec<usize> = vec![];
    let unmatched = |at| ParseError::new(ErrorKind::Bracket, at, "a bracket without its partner".into());
    for (i, t) in tokens.iter().enumerate() {
        match &t.tok {
            Tok::Open(_) => open.push(i),
            Tok::Close(c) => match open.pop() {
                Some(j) if tokens[j].tok == Tok::Open(*c) => partner[j] = i,
                _ => return Err(unmatched(t.at)),
            },
            _ => {}
        }
    }
    match open.pop() {
        Some(j) => Err(unmatched(tokens[j].at)),
        None => Ok(partner),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    partner: &'a [usize],
    pos: usize,
    end: usize,
    bound: Vec<String>,
    depth: usize,
}

type Parsed = Result<(Formula, usize), ParseError>;

fn level(op: Op) -> u8 {
    match op {
        Op::Iff => 0,
        Op::Implies => 1,
        Op::Or => 2,
        Op::Xor => 3,
        Op::And => 4,
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Tok> {
        self.tokens.get(self.pos).map(|t| &t.tok)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.pos).map_or(self.end, |t| t.at)
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, ParseError> {
        let (kind, message) = match self.peek() {
            None => (ErrorKind::Ended, format!("the text ends where {wanted} should be")),
            Some(_) => (ErrorKind::Unexpected, format!("expected {wanted}")),
        };
        Err(ParseError::new(kind, self.at(), message))
    }

    fn too_deep<T>(&self) -> Result<T, ParseError> {
        Err(ParseError::new(ErrorKind::TooDeep, self.at(), format!("nested deeper than {MAX_DEPTH}")))
    }

    /// The connective at this place, with whether its sides are swapped.
    fn connective(&self) -> Option<(Op, bool)> {
        match self.peek()? {
            Tok::Op(op) => Some((*op, false)),
            Tok::ImpliedBy => Some((Op::Implies, true)),
            Tok::Ident(w) => match w.to_ascii_lowercase().as_str() {
                "and" => Some((Op::And, false)),
                "or" | "v" => Some((Op::Or, false)),
                "xor" => Some((Op::Xor, false)),
                "implies" => Some((Op::Implies, false)),
                "iff" => Some((Op::Iff, false)),
                _ => None,
            },
            _ => None,
        }
    }

    fn binary(&mut self, least: u8) -> Parsed {
        let (mut left, mut depth) = self.unary()?;
        while let Some((op, swapped)) = self.connective() {
            let l = level(op);
            if l < least {
                break;
            }
            self.pos += 1;
            let groups_right = op == Op::Implies && !swapped;
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return self.too_deep();
            }
            let (right, d) = self.binary(if groups_right { l } else { l + 1 })?;
            self.depth -= 1;
            depth = depth.max(d) + 1;
            if depth > MAX_DEPTH {
                return self.too_deep();
            }
            left = if swapped { Formula::bin(op, right, left) } else { Formula::bin(op, left, right) };
        }
        Ok((left, depth))
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.too_deep();
        }
        let parsed = self.unit();
        self.depth -= 1;
        let (f, depth) = parsed?;
        if depth > MAX_DEPTH {
            return self.too_deep();
        }
        Ok((f, depth))
    }

    fn unit(&mut self) -> Parsed {
        match self.peek() {
            Some(Tok::Not) => {
                self.pos += 1;
                let (f, d) = self.unary()?;
                Ok((f.negate(), d + 1))
            }
            Some(Tok::Quant(q)) => {
                self.pos += 1;
                self.quantified(*q)
            }
            Some(Tok::Open(_)) => {
                self.pos += 1;
                let inner = self.binary(0)?;
                if !matches!(self.peek(), Some(Tok::Close(_))) {
                    return self.unexpected("a connective or a closing bracket");
                }
                self.pos += 1;
                Ok(inner)
            }
            Some(Tok::True) => {
                self.pos += 1;
                Ok((Formula::True, 1))
            }
            Some(Tok::False) => {
                self.pos += 1;
                Ok((Formula::False, 1))
            }
            Some(Tok::Ident(_)) => self.atom(),
            _ => self.unexpected("a formula"),
        }
    }

    fn quantified(&mut self, q: Quantifier) -> Parsed {
        let (vars, dotted) = self.variables()?;
        if self.depth + vars.len() > MAX_DEPTH {
            return self.too_deep();
        }
        let count = vars.len();
        self.bound.extend(vars.iter().cloned());
        let wide = dotted || self.reaches_further(&vars);
        let (mut f, mut d) = if wide { self.binary(0)? } else { self.unary()? };
        self.bound.truncate(self.bound.len() - count);
        for v in vars.into_iter().rev() {
            f = Formula::quant(q, v, f);
            d += 1;
        }
        Ok((f, d))
    }

    fn variables(&mut self) -> Result<(Vec<String>, bool), ParseError> {
        let bracketed = self.peek() == Some(&Tok::Open('['));
        if bracketed {
            self.pos += 1;
        }
        let mut vars = vec![];
        loop {
            let Some(Tok::Ident(v)) = self.peek() else { return self.unexpected("a variable") };
            if v.contains(['-', '.', '+']) {
                return self.unexpected("a variable of letters and digits");
            }
            vars.push(v.clone());
            self.pos += 1;
            let more = match self.peek() {
                Some(Tok::Comma) => {
                    self.pos += 1;
                    true
                }
                // `∀x y. …`: a further name that is followed by a name, a dot or a quantifier is a variable
                Some(Tok::Ident(_)) if !bracketed => match self.tokens.get(self.pos + 1).map(|t| &t.tok) {
                    Some(Tok::Dot) => true,
                    Some(Tok::Ident(w)) => !matches!(w.as_str(), "and" | "or" | "v" | "xor" | "implies" | "iff"),
                    _ => false,
                },
                _ => false,
            };
            if !more {
                break;
            }
        }
        if bracketed {
            if self.peek() != Some(&Tok::Close('[')) {
                return self.unexpected("a closing bracket");
            }
            self.pos += 1;
        }
        let dotted = self.peek() == Some(&Tok::Dot);
        if dotted {
            self.pos += 1;
        }
        Ok((vars, dotted))
    }

    /// Would one of the variables stand unbound between the end of the next unit and the end of this bracket?
    fn reaches_further(&self, vars: &[String]) -> bool {
        let mut i = self.pos;
        // the next unit: signs, inner quantifiers, then a bracket or an atom
        loop {
            match self.tokens.get(i).map(|t| &t.tok) {
                Some(Tok::Not) => i += 1,
                Some(Tok::Quant(_)) => {
                    i += 1;
                    if self.tokens.get(i).map(|t| &t.tok) == Some(&Tok::Open('[')) {
                        i = self.partner[i];
                    }
                    i += 1;
                    while self.tokens.get(i).map(|t| &t.tok) == Some(&Tok::Comma) {
                        i += 2;
                    }
                    if self.tokens.get(i).map(|t| &t.tok) == Some(&Tok::Dot) {
                        return false;
                    }
                }
                _ => break,
            }
        }
        match self.tokens.get(i).map(|t| &t.tok) {
            Some(Tok::Open(_)) => i = self.partner[i] + 1,
            Some(Tok::Ident(_)) => {
                i += 1;
                if self.tokens.get(i).map(|t| &t.tok) == Some(&Tok::Open('(')) {
                    i = self.partner[i] + 1;
                }
                if matches!(self.tokens.get(i).map(|t| &t.tok), Some(Tok::Equal | Tok::Unequal)) {
                    return false;
                }
            }
            _ => return false,
        }
        let mut level = 0i32;
        while let Some(t) = self.tokens.get(i) {
            match &t.tok {
                Tok::Open(_) => level += 1,
                Tok::Close(_) => {
                    level -= 1;
                    if level < 0 {
                        return false;
                    }
                }
                Tok::Ident(w) if vars.contains(w) => {
                    let rebound = matches!(self.tokens.get(i.wrapping_sub(1)).map(|t| &t.tok), Some(Tok::Quant(_)));
                    let called = matches!(self.tokens.get(i + 1).map(|t| &t.tok), Some(Tok::Open('(')));
                    if rebound {
                        return false;
                    }
                    if level > 0 && !called {
                        return true;
                    }
                }
                _ => {}
            }
            i += 1;
        }
        false
    }

    fn atom(&mut self) -> Parsed {
        let (name, args, depth) = self.application(0)?;
        let equal = match self.peek() {
            Some(Tok::Equal) => true,
            Some(Tok::Unequal) => false,
            _ => return Ok((Formula::Atom(Atom { pred: name, args: args.unwrap_or_default() }), depth)),
        };
        self.pos += 1;
        let left = self.to_term(name, args);
        if !matches!(self.peek(), Some(Tok::Ident(_))) {
            return self.unexpected("a term");
        }
        let (name, args, d) = self.application(0)?;
        let f = Formula::Equal(left, self.to_term(name, args));
        Ok(if equal { (f, depth.max(d)) } else { (f.negate(), depth.max(d) + 1) })
    }

    fn to_term(&self, name: String, args: Option<Vec<Term>>) -> Term {
        match args {
            Some(args) => Term::Func(name, args),
            None if self.bound.contains(&name) => Term::Var(name),
            None => Term::Const(name),
        }
    }

    /// `captain america` as an argument is one constant, `captainAmerica`.
    fn further_words(&mut self, first: &str) -> Option<String> {
        let mut joined = first.to_string();
        let start = self.pos;
        while let Some(Tok::Ident(w)) = self.peek() {
            let mut chars = w.chars();
            joined.extend(chars.next().into_iter().flat_map(char::to_uppercase));
            joined.push_str(chars.as_str());
            self.pos += 1;
        }
        (self.pos > start).then_some(joined)
    }

    /// A name and its bracketed arguments, if any. `P()` reads as `P`.
    fn application(&mut self, depth: usize) -> Result<(String, Option<Vec<Term>>, usize), ParseError> {
        if self.depth + depth > MAX_DEPTH {
            return self.too_deep();
        }
        let Some(Tok::Ident(name)) = self.peek() else { return self.unexpected("a name") };
        self.pos += 1;
        if depth > 0
            && let Some(joined) = self.further_words(name)
        {
            return Ok((joined, None, 1));
        }
        if self.peek() != Some(&Tok::Open('(')) {
            return Ok((name.clone(), None, 1));
        }
        self.pos += 1;
        let mut args = vec![];
        let mut deepest = 0;
        while self.peek() != Some(&Tok::Close('(')) {
            let (n, a, d) = self.application(depth + 1)?;
            args.push(self.to_term(n, a));
            deepest = deepest.max(d);
            match self.peek() {
                Some(Tok::Comma) => self.pos += 1,
                Some(Tok::Close('(')) => {}
                _ => return self.unexpected("a comma or a closing bracket"),
            }
        }
        self.pos += 1;
        Ok((name.clone(), if args.is_empty() { None } else { Some(args) }, deepest + 1))
    }
}
