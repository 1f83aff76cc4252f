//! From an answer's text (plain, LaTeX or Unicode) to tokens.
//!
//! The spellings of one thing become one token here: `\dfrac`, `\tfrac` and `\frac`; `π`, `\pi` and `pi`; `\left(` and `(`; thousands
//! separators and repeating decimals inside numbers. Words that are no mathematics stay words, so that the parser can tell units and text
//! from symbols.

use std::collections::BTreeSet;

use num_bigint::BigInt;
use num_traits::{One, Zero};

use super::expr::{Const, Fun, Q};
use super::units;

/// How commas and dots inside digits are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commas {
    /// `1,234` is one number where the groups have three digits; else commas separate.
    Thousands,
    /// Every comma separates.
    Separate,
    /// `3,5` is three and a half.
    Decimal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    Paren,
    Square,
    /// LaTeX's group, or a plain brace.
    Brace,
    SetBrace,
    Angle,
    Floor,
    Ceil,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rel {
    Eq,
    Approx,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tok {
    /// Value, decimal places, and its digits where it was a plain run of digits.
    Num(Q, u32, String),
    Id(String),
    Word(String),
    Fun(Fun),
    Const(Const),
    Op(char),
    Rel(Rel),
    Open(Bracket),
    Close(Bracket),
    Frac,
    Sqrt,
    Choose,
    Over,
    Cup,
    Cap,
    SetMinus,
    Reals,
    Empty,
    And,
    Or,
    Bar,
    Sep(char),
    Degree,
    Begin,
    End,
    Row,
    Cell,
    Currency(&'static str),
    Overline,
}

/// Digits a number may have; longer runs are text.
const MAX_DIGITS: usize = 1000;
const MAX_TOKENS: usize = 4096;

/// One pass over the characters: Unicode's mathematical signs become their LaTeX or ASCII spellings.
pub fn plain_spelling(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut raised: Option<bool> = None; // inside a run of superscripts (true) or subscripts (false)
    for c in text.chars() {
        let (digit, up) = match c {
            '⁰' => ("0", true),
            '¹' => ("1", true),
            '²' => ("2", true),
            '³' => ("3", true),
            '⁴' => ("4", true),
            '⁵' => ("5", true),
            '⁶' => ("6", true),
            '⁷' => ("7", true),
            '⁸' => ("8", true),
            '⁹' => ("9", true),
            '⁻' => ("-", true),
            '⁺' => ("+", true),
            'ⁿ' => ("n", true),
            '₀' => ("0", false),
            '₁' => ("1", false),
            '₂' => ("2", false),
            '₃' => ("3", false),
            '₄' => ("4", false),
            '₅' => ("5", false),
            '₆' => ("6", false),
            '₇' => ("7", false),
            '₈' => ("8", false),
            '₉' => ("9", false),
            _ => ("", true),
        };
        if !digit.is_empty() {
            if raised != Some(up) {
                if raised.is_some() {
                    out.push('}');
                }
                out.push_str(if up { "^{" } else { "_{" });
                raised = Some(up);
            }
            out.push_str(digit);
            continue;
        }
        if raised.take().is_some() {
            out.push('}');
        }
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        let spelled = match c {
            '−' | '–' | '—' | '‐' | '‑' | '﹣' | '－' => "-",
            '×' | '·' | '⋅' | '∙' | '∗' | '•' => "*",
            '÷' | '∕' | '⁄' | '／' => "/",
            '＋' => "+",
            '＝' => "=",
            '％' => "%",
            '（' => "(",
            '）' => ")",
            '，' => ",",
            '：' => ":",
            '；' => ";",
            '。' => ".",
            '≤' | '⩽' | '≦' => "<=",
            '≥' | '⩾' | '≧' => ">=",
            '≠' => "!=",
            '≈' | '≃' | '≅' => "\\approx ",
            '≡' => "\\equiv ",
            '±' => "\\pm ",
            '∓' => "\\mp ",
            '√' => "\\sqrt ",
            '∛' => "\\sqrt[3] ",
            '∜' => "\\sqrt[4] ",
            '∞' => "\\infty ",
            '∪' => "\\cup ",
            '∩' => "\\cap ",
            '∈' => "\\in ",
            '∅' => "\\emptyset ",
            'ℝ' => "\\mathbb{R}",
            'ℤ' => "\\mathbb{Z}",
            'ℕ' => "\\mathbb{N}",
            'ℚ' => "\\mathbb{Q}",
            'ℂ' => "\\mathbb{C}",
            '∖' => "\\setminus ",
            '°' | '˚' | 'º' => "\\degree ",
            'π' | '𝜋' => "\\pi ",
            'α' => "\\alpha ",
            'β' => "\\beta ",
            'γ' => "\\gamma ",
            'δ' => "\\delta ",
            'ε' => "\\epsilon ",
            'θ' => "\\theta ",
            'λ' => "\\lambda ",
            'μ' | 'µ' => "\\mu ",
            'ρ' => "\\rho ",
            'σ' => "\\sigma ",
            'τ' => "\\tau ",
            'φ' | 'ϕ' => "\\phi ",
            'ω' => "\\omega ",
            '½' => "\\frac{1}{2}",
            '⅓' => "\\frac{1}{3}",
            '⅔' => "\\frac{2}{3}",
            '¼' => "\\frac{1}{4}",
            '¾' => "\\frac{3}{4}",
            '⅕' => "\\frac{1}{5}",
            '⅛' => "\\frac{1}{8}",
            '⟨' | '〈' => "\\langle ",
            '⟩' | '〉' => "\\rangle ",
            '⌊' => "\\lfloor ",
            '⌋' => "\\rfloor ",
            '⌈' => "\\lceil ",
            '⌉' => "\\rceil ",
            '∣' => "|",
            '…' | '⋯' => "...",
            '∧' => "\\land ",
            '∨' => "\\lor ",
            '’' | '‘' | '′' => "'",
            '“' | '”' => "\"",
            '\u{a0}' | '\u{2009}' | '\u{202f}' | '\u{2002}' | '\u{2003}' | '\u{200a}' | '\u{3000}' => " ",
            '\u{200b}' | '\u{feff}' | '\u{2062}' | '\u{2061}' => "",
            '０'..='９' => {
                out.push((b'0' + (c as u32 - '０' as u32) as u8) as char);
                continue;
            }
            other => {
                out.push(other);
                continue;
            }
        };
        out.push_str(spelled);
    }
    if raised.is_some() {
        out.push('}');
    }
    out
}

/// Tokens of `text` (as `plain_spelling` left it), or none where it holds something that is no notation known here.
pub fn lex(text: &str, commas: Commas) -> Option<Vec<Tok>> {
    let mut lexer = Lexer {
        s: text.as_bytes(),
        i: 0,
        out: Vec::new(),
        commas,
        one_digit: BTreeSet::new(),
        spaced: false,
        paired: false,
    };
    let dollars = (0..lexer.s.len()).filter(|n| lexer.s[*n] == b'$' && (*n == 0 || lexer.s[*n - 1] != b'\\')).count();
    lexer.paired = dollars.is_multiple_of(2);
    lexer.run()?;
    Some(lexer.out)
}

struct Lexer<'a> {
    s: &'a [u8],
    i: usize,
    out: Vec<Tok>,
    commas: Commas,
    /// Places where a number is one digit: the bare arguments of `\frac12`.
    one_digit: BTreeSet<usize>,
    /// Was there a space before this token?
    spaced: bool,
    /// Dollar signs come in pairs: they delimit mathematics and are no currency.
    paired: bool,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.s.get(self.i + ahead).copied().unwrap_or(0)
    }

    fn push(&mut self, tok: Tok) {
        self.out.push(tok);
    }

    fn run(&mut self) -> Option<()> {
        while self.i < self.s.len() {
            if self.out.len() > MAX_TOKENS {
                return None;
            }
            let c = self.s[self.i];
            match c {
                b' ' | b'\t' | b'\n' | b'\r' | b'~' => {
                    self.i += 1;
                    self.spaced = true;
                    continue;
                }
                b'0'..=b'9' => self.number()?,
                b'.' if self.peek(1).is_ascii_digit() => self.number()?,
                b'.' if self.s[self.i..].starts_with(b"...") => {
                    self.i += 3;
                    self.push(Tok::Word("...".into()));
                }
                b'.' => {
                    // a full stop after a word or at the end
                    self.i += 1;
                }
                b'\\' => self.command()?,
                b'a'..=b'z' | b'A'..=b'Z' => self.letters()?,
                _ => self.sign(c)?,
            }
            self.spaced = false;
        }
        Some(())
    }

    fn sign(&mut self, c: u8) -> Option<()> {
        let two = [c, self.peek(1)];
        let (tok, len) = match &two {
            b"<=" => (Tok::Rel(Rel::Le), 2),
            b"=<" => (Tok::Rel(Rel::Le), 2),
            b">=" => (Tok::Rel(Rel::Ge), 2),
            b"!=" => (Tok::Rel(Rel::Ne), 2),
            b"==" => (Tok::Rel(Rel::Eq), 2),
            b"~=" => (Tok::Rel(Rel::Approx), 2),
            b"**" => (Tok::Op('^'), 2),
            b"||" => (Tok::Bar, 2),
            b"+-" if self.peek(2) != b'-' => (Tok::Const(Const::PlusMinus), 2),
            _ => match c {
                b'=' => (Tok::Rel(Rel::Eq), 1),
                b'<' => (Tok::Rel(Rel::Lt), 1),
                b'>' => (Tok::Rel(Rel::Gt), 1),
                b'+' | b'-' | b'*' | b'/' | b'_' | b'!' | b'%' => (Tok::Op(c as char), 1),
                b'^' => {
                    // ^\circ and ^{\circ} are the degree sign
                    let rest = &self.s[self.i + 1..];
                    let skip = rest.iter().take_while(|b| **b == b' ').count();
                    for form in [&b"\\circ"[..], b"{\\circ}", b"{ \\circ }", b"{\\circ }", b"\\degree"] {
                        if rest[skip..].starts_with(form) {
                            self.i += 1 + skip + form.len();
                            self.degree();
                            return Some(());
                        }
                    }
                    (Tok::Op('^'), 1)
                }
                b'\'' => (Tok::Op('\''), 1),
                b'(' => (Tok::Open(Bracket::Paren), 1),
                b')' => (Tok::Close(Bracket::Paren), 1),
                b'[' => (Tok::Open(Bracket::Square), 1),
                b']' => (Tok::Close(Bracket::Square), 1),
                b'{' => (Tok::Open(Bracket::Brace), 1),
                b'}' => (Tok::Close(Bracket::Brace), 1),
                b'|' => (Tok::Bar, 1),
                b',' | b';' | b':' => (Tok::Sep(c as char), 1),
                b'&' => (Tok::Cell, 1),
                b'$' => {
                    self.i += 1;
                    // "$5" is money; "$5$" lost its pair of signs before
                    if !self.paired
                        && self.s[self.i..]
                            .iter()
                            .find(|b| **b != b' ')
                            .is_some_and(|b| b.is_ascii_digit() || *b == b'.')
                    {
                        self.push(Tok::Currency("dollar"));
                    }
                    return Some(());
                }
                b'"' | b'`' | b'?' => {
                    self.i += 1;
                    return Some(());
                }
                _ => {
                    // not ASCII: currency, or a word in another script
                    let rest = std::str::from_utf8(&self.s[self.i..]).ok()?;
                    let ch = rest.chars().next()?;
                    let tok = match ch {
                        '€' => Tok::Currency("euro"),
                        '£' => Tok::Currency("pound sterling"),
                        '¥' => Tok::Currency("yen"),
                        '₹' => Tok::Currency("rupee"),
                        '¢' => Tok::Word("cent".into()),
                        c if c.is_alphabetic() => {
                            let word: String = rest.chars().take_while(|c| c.is_alphabetic()).collect();
                            self.i += word.len();
                            self.push(Tok::Word(word));
                            return Some(());
                        }
                        _ => return None,
                    };
                    (tok, ch.len_utf8())
                }
            },
        };
        self.i += len;
        self.push(tok);
        Some(())
    }

    fn degree(&mut self) {
        // a temperature's degree is a unit, an angle's is a factor
        let rest = self.s[self.i..].iter().position(|b| *b != b' ').map_or(&[][..], |at| &self.s[self.i + at..]);
        let temperature =
            matches!(rest.first(), Some(b'C' | b'F')) && !rest.get(1).is_some_and(u8::is_ascii_alphanumeric);
        self.push(if temperature { Tok::Word("degree".into()) } else { Tok::Degree });
    }

    /// Reads a number: groups, decimals, repeating decimals, exponents.
    fn number(&mut self) -> Option<()> {
        if self.one_digit.remove(&self.i) && self.s[self.i].is_ascii_digit() {
            let digit = self.s[self.i] - b'0';
            self.i += 1;
            self.push(Tok::Num(Q::from_integer(digit.into()), 0, (digit as char).to_string()));
            return Some(());
        }
        let start = self.i;
        let mut whole: Vec<u8> = self.digits();
        if self.commas == Commas::Decimal {
            // 1.234.567,89 and 3,5
            while whole.len() <= MAX_DIGITS && self.peek(0) == b'.' && self.group_of_three(1) {
                self.i += 1;
                let group = self.digits();
                whole.extend(group);
            }
        } else if (1..=3).contains(&whole.len()) {
            loop {
                let skip = self.group_separator();
                if skip == 0 || whole.len() > MAX_DIGITS {
                    break;
                }
                self.i += skip;
                let group = self.digits();
                whole.extend(group);
            }
        }
        let plain = self.i - start == whole.len();
        let mut part = Vec::new();
        let decimal = if self.commas == Commas::Decimal { b',' } else { b'.' };
        if self.peek(0) == decimal
            && (self.peek(1).is_ascii_digit()
                || (decimal == b'.' && !self.s[self.i..].starts_with(b"...") && !whole.is_empty()))
        {
            self.i += 1;
            part = self.digits();
        }
        if whole.len() + part.len() > MAX_DIGITS {
            return None;
        }
        let digits = if plain && part.is_empty() { String::from_utf8(whole.clone()).ok()? } else { String::new() };
        let places = part.len() as u32;
        let all: Vec<u8> = whole.iter().chain(&part).copied().collect();
        let mut value = Q::new(integer(&all), BigInt::from(10).pow(places));
        let mut shown = places;
        if let Some(tail) = self.repetend(&part, self.i > start && self.s[self.i - 1] != b')') {
            value += Q::new(
                integer(&tail),
                BigInt::from(10).pow(places) * (BigInt::from(10).pow(tail.len() as u32) - BigInt::one()),
            );
            shown = 0;
        }
        // 1.5e10, 2E-3: an exponent glued to the digits
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            let mut end = 1 + sign;
            while self.peek(end).is_ascii_digit() {
                end += 1;
            }
            let count = end - 1 - sign;
            if (1..=3).contains(&count) && !self.peek(end).is_ascii_alphabetic() {
                let exponent: i32 = std::str::from_utf8(&self.s[self.i + 1 + sign..self.i + end]).ok()?.parse().ok()?;
                let power = Q::from_integer(BigInt::from(10).pow(exponent as u32));
                let negative = self.peek(1) == b'-';
                value = if negative { value / power } else { value * power };
                let left = i64::from(shown) + if negative { i64::from(exponent) } else { -i64::from(exponent) };
                shown = if value.is_integer() || shown == 0 { 0 } else { left.clamp(0, 400) as u32 };
                self.i += end;
            }
        }
        self.push(Tok::Num(value, shown, digits));
        Some(())
    }

    fn digits(&mut self) -> Vec<u8> {
        let start = self.i;
        while self.peek(0).is_ascii_digit() {
            self.i += 1;
        }
        self.s[start..self.i].to_vec()
    }

    fn group_of_three(&self, at: usize) -> bool {
        (0..3).all(|k| self.peek(at + k).is_ascii_digit()) && !self.peek(at + 3).is_ascii_digit()
    }

    /// The length of a thousands separator here, 0 where there is none.
    fn group_separator(&self) -> usize {
        let rest = &self.s[self.i..];
        for form in [&b"{,}"[..], b"\\,", b",\\!", b"{,}\\!", b"\\ ", b"\\;", b"~"] {
            if rest.starts_with(form) {
                let spaces = if form.ends_with(b"!") {
                    rest[form.len()..].iter().take_while(|b| **b == b' ').count()
                } else {
                    0
                };
                if self.group_of_three(form.len() + spaces) {
                    return form.len() + spaces;
                }
            }
        }
        match self.peek(0) {
            b',' if self.commas == Commas::Thousands && self.group_of_three(1) => 1,
            b' ' if self.commas == Commas::Thousands && self.group_of_three(1) => {
                // not "3 100/200"
                let after = self.s[self.i + 4..].iter().find(|b| **b != b' ').copied().unwrap_or(0);
                usize::from(after != b'/')
            }
            _ => 0,
        }
    }

    /// The repeating digits after a decimal part: `0.(3)`, `0.1\overline{6}`, `0.\dot{3}`, `0.333...`.
    fn repetend(&mut self, part: &[u8], allow: bool) -> Option<Vec<u8>> {
        let has_point = self.i > 0 && (self.s[self.i - 1] == b'.' || !part.is_empty());
        if !allow || !has_point {
            return None;
        }
        let rest = &self.s[self.i..];
        for (open, close) in [(&b"\\overline{"[..], b'}'), (b"\\bar{", b'}'), (b"\\dot{", b'}'), (b"(", b')')] {
            if let Some(after) = rest.strip_prefix(open) {
                let n = after.iter().take_while(|b| b.is_ascii_digit()).count();
                if n > 0 && n <= 60 && after.get(n) == Some(&close) {
                    let tail = after[..n].to_vec();
                    self.i += open.len() + n + 1;
                    return Some(tail);
                }
            }
        }
        let dots = [&b"..."[..], b"\\ldots", b"\\dots", b"\\cdots"].into_iter().find(|d| rest.starts_with(d))?;
        let period = (1..=6).find(|p| {
            let times = if *p == 1 { 3 } else { 2 };
            part.len() >= p * times && part[part.len() - p * times..].chunks(*p).all(|c| c == &part[part.len() - p..])
        })?;
        self.i += dots.len();
        Some(part[part.len() - period..].to_vec())
    }

    fn letters(&mut self) -> Option<()> {
        let start = self.i;
        while self.peek(0).is_ascii_alphabetic() {
            self.i += 1;
        }
        let run = std::str::from_utf8(&self.s[start..self.i]).ok()?.to_string();
        let spaced = self.spaced;
        // what stands around it
        let after_number =
            matches!(self.out.last(), Some(Tok::Num(..) | Tok::Close(_) | Tok::Word(_) | Tok::Const(Const::Pi)));
        let next = self.s[self.i..].iter().find(|b| **b != b' ').copied().unwrap_or(0);
        let ends = matches!(next, 0 | b'/' | b'^' | b'.' | b',' | b';')
            || (next.is_ascii_alphabetic() && self.peek(0) == b' ');
        if run.len() == 1 {
            let unit = after_number && spaced && ends && units::is_letter(&run);
            let per = matches!(self.out.last(), Some(Tok::Op('/')))
                && matches!(self.out.iter().rev().nth(1), Some(Tok::Word(_)))
                && units::is_letter(&run);
            let temperature =
                matches!(self.out.last(), Some(Tok::Word(w)) if w == "degree") && matches!(run.as_str(), "C" | "F");
            // the article before a word
            let rest = &self.s[self.i..];
            let following = rest.iter().skip(1).take_while(|b| b.is_ascii_alphabetic()).count();
            let article = matches!(run.as_str(), "a" | "A" | "I")
                && rest.first() == Some(&b' ')
                && following >= 2
                && std::str::from_utf8(&rest[1..1 + following]).is_ok_and(|w| named(w).is_none());
            self.push(if unit || per || temperature || article { Tok::Word(run) } else { letter(&run) });
            return Some(());
        }
        if after_number && spaced && (run == "in" && next == 0 || run != "in" && units::is_unit(&run)) {
            self.push(Tok::Word(run));
            return Some(());
        }
        if let Some(tok) = named(&run) {
            self.push(tok);
            return Some(());
        }
        // "1orx=2"
        if let Some(rest) = run.strip_prefix("or").or_else(|| run.strip_prefix("and"))
            && rest.len() == 1
            && !spaced
            && matches!(self.out.last(), Some(Tok::Num(..)))
        {
            self.push(if run.starts_with("or") { Tok::Or } else { Tok::And });
            self.push(letter(rest));
            return Some(());
        }
        let lower = run.to_ascii_lowercase();
        if units::is_unit(&run) || run.len() >= 4 || (run.len() == 3 && spaced && after_number && ends) {
            // "sinx", "cos2x", "xyz": glued functions and products
            for name in
                ["arcsin", "arccos", "arctan", "sqrt", "sinh", "cosh", "tanh", "sin", "cos", "tan", "log", "ln", "pi"]
            {
                if let Some(rest) = lower.strip_prefix(name)
                    && rest.len() <= 1
                    && !units::is_unit(&run)
                {
                    self.push(named(name)?);
                    rest.chars().for_each(|c| self.push(letter(&c.to_string())));
                    return Some(());
                }
            }
            if run.len() <= 6 && run.bytes().all(|b| matches!(b, b'x' | b'y' | b'z')) {
                run.chars().for_each(|c| self.push(letter(&c.to_string())));
                return Some(());
            }
            self.push(Tok::Word(run));
            return Some(());
        }
        // beside a longer word it is a word: "New York", "ice-cream"
        let beside = &self.s[self.i..];
        let gap = beside.iter().take_while(|b| matches!(b, b' ' | b'-')).count();
        let word_after = gap > 0 && beside[gap..].iter().take_while(|b| b.is_ascii_alphabetic()).count() >= 4;
        if run.len() >= 2 && (word_after || matches!(self.out.last(), Some(Tok::Word(w)) if w.len() > 1)) {
            self.push(Tok::Word(run));
            return Some(());
        }
        if let Some(rest) = lower.strip_prefix("ln").or_else(|| lower.strip_prefix("pi"))
            && rest.len() == 1
        {
            self.push(named(&lower[..2])?);
            self.push(letter(rest));
            return Some(());
        }
        // a short run alone between spaces that is an English word, not a product
        if SHORT_WORDS.contains(&lower.as_str()) && run.bytes().skip(1).any(|b| b.is_ascii_lowercase()) {
            self.push(Tok::Word(run));
            return Some(());
        }
        run.chars().for_each(|c| self.push(letter(&c.to_string())));
        Some(())
    }

    fn command(&mut self) -> Option<()> {
        let start = self.i + 1;
        let mut end = start;
        while self.s.get(end).is_some_and(u8::is_ascii_alphabetic) {
            end += 1;
        }
        if end == start {
            // a control symbol
            let c = self.s.get(start).copied().unwrap_or(b' ');
            self.i = start + 1;
            match c {
                b'{' => self.push(Tok::Open(Bracket::SetBrace)),
                b'}' => self.push(Tok::Close(Bracket::SetBrace)),
                b'\\' => self.push(Tok::Row),
                b'%' => self.push(Tok::Op('%')),
                b'$' => self.push(Tok::Currency("dollar")),
                b'&' => self.push(Tok::And),
                b'|' => self.push(Tok::Bar),
                b'#' | b'_' | b'"' | b'\'' => {}
                b',' | b';' | b'!' | b':' | b'>' | b' ' | b'(' | b')' | b'[' | b']' | b'\n' | b'/' => {
                    self.spaced = true
                }
                _ => return None,
            }
            return Some(());
        }
        let name = std::str::from_utf8(&self.s[start..end]).ok()?.to_string();
        self.i = end;
        self.named_command(&name)
    }

    fn named_command(&mut self, name: &str) -> Option<()> {
        let tok = match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" => {
                self.mark_digits();
                Tok::Frac
            }
            "binom" | "dbinom" | "tbinom" => {
                self.mark_digits();
                Tok::Fun(Fun::Binom)
            }
            "sqrt" => Tok::Sqrt,
            "cbrt" => {
                self.push(Tok::Fun(Fun::Root));
                return Some(());
            }
            "choose" => Tok::Choose,
            "over" => Tok::Over,
            "pi" => Tok::Const(Const::Pi),
            "infty" | "infin" => Tok::Const(Const::Inf),
            "pm" | "mp" => {
                if name == "mp" {
                    self.push(Tok::Op('-'));
                }
                Tok::Const(Const::PlusMinus)
            }
            "imath" | "imaginaryI" => Tok::Const(Const::I),
            "cdot" | "times" | "ast" | "bullet" => Tok::Op('*'),
            "div" => Tok::Op('/'),
            "le" | "leq" | "leqslant" | "leqq" => Tok::Rel(Rel::Le),
            "ge" | "geq" | "geqslant" | "geqq" => Tok::Rel(Rel::Ge),
            "lt" => Tok::Rel(Rel::Lt),
            "gt" => Tok::Rel(Rel::Gt),
            "ne" | "neq" => Tok::Rel(Rel::Ne),
            "eq" | "equiv" => Tok::Rel(Rel::Eq),
            "approx" | "simeq" | "sim" | "doteq" | "cong" => Tok::Rel(Rel::Approx),
            "in" => Tok::Rel(Rel::In),
            "cup" | "bigcup" => Tok::Cup,
            "cap" | "bigcap" => Tok::Cap,
            "setminus" | "backslash" | "smallsetminus" => Tok::SetMinus,
            "emptyset" | "varnothing" => Tok::Empty,
            "mid" | "vert" | "lvert" | "rvert" | "Vert" | "lVert" | "rVert" => Tok::Bar,
            "langle" => Tok::Open(Bracket::Angle),
            "rangle" => Tok::Close(Bracket::Angle),
            "lfloor" => Tok::Open(Bracket::Floor),
            "rfloor" => Tok::Close(Bracket::Floor),
            "lceil" => Tok::Open(Bracket::Ceil),
            "rceil" => Tok::Close(Bracket::Ceil),
            "lbrace" => Tok::Open(Bracket::SetBrace),
            "rbrace" => Tok::Close(Bracket::SetBrace),
            "lbrack" => Tok::Open(Bracket::Square),
            "rbrack" => Tok::Close(Bracket::Square),
            "lparen" => Tok::Open(Bracket::Paren),
            "rparen" => Tok::Close(Bracket::Paren),
            "degree" | "degrees" => {
                self.degree();
                return Some(());
            }
            "circ" => Tok::Degree,
            "percent" => Tok::Op('%'),
            "colon" => Tok::Sep(':'),
            "euro" => Tok::Currency("euro"),
            "pounds" => Tok::Currency("pound sterling"),
            "land" | "wedge" => Tok::And,
            "lor" | "vee" => Tok::Or,
            "Re" => Tok::Fun(Fun::Re),
            "Im" => Tok::Fun(Fun::Im),
            "overline" | "bar" => Tok::Overline,
            "prime" => Tok::Op('\''),
            "ldots" | "dots" | "cdots" | "dotsc" => Tok::Word("...".into()),
            "begin" => {
                let which = self.braced()?;
                if !["pmatrix", "bmatrix", "matrix", "vmatrix", "Bmatrix", "smallmatrix", "array", "cases", "aligned"]
                    .contains(&which.trim_end_matches('*'))
                {
                    return None;
                }
                if which == "array" && self.next_is(b'{') {
                    self.braced()?;
                }
                if matches!(which.as_str(), "cases" | "aligned") {
                    return None;
                }
                Tok::Begin
            }
            "end" => {
                self.braced()?;
                Tok::End
            }
            "cr" => Tok::Row,
            "angle" | "triangle" | "measuredangle" => Tok::Word(name.trim_start_matches("measured").to_string()),
            "text" | "textbf" | "textit" | "textrm" | "textnormal" | "mbox" | "hbox" | "textsf" | "texttt"
            | "textup" => return self.text_group(false),
            "mathrm" | "operatorname" | "rm" | "mathit" | "mathsf" | "mathtt" | "unit" | "si" => {
                return self.text_group(true);
            }
            "mathbf" | "boldsymbol" | "bm" | "vec" | "hat" | "mathcal" | "mathscr" | "mathfrak" | "tilde"
            | "widehat" | "overrightarrow" | "bf" => return Some(()),
            "mathbb" | "Bbb" => {
                let which = if self.next_is(b'{') { self.braced()? } else { self.one_char()? };
                match which.trim() {
                    "R" => Tok::Reals,
                    other if other.len() == 1 => Tok::Id(format!("{other}{other}")),
                    _ => return None,
                }
            }
            "R" | "reals" | "Reals" => Tok::Reals,
            "left" | "right" => {
                // \left. is nothing
                let skip = self.s[self.i..].iter().take_while(|b| **b == b' ').count();
                if self.peek(skip) == b'.' {
                    self.i += skip + 1;
                }
                return Some(());
            }
            "pmod" => {
                let skip = self.s[self.i..].iter().take_while(|b| **b == b' ').count();
                self.i += skip;
                let modulus = if self.next_is(b'{') { self.braced()? } else { self.one_char()? };
                Tok::Word(format!("mod {}", modulus.trim()))
            }
            "boxed" | "fbox" | "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "bigl" | "bigr" | "Bigl"
            | "Bigr" | "big" | "Big" | "bigg" | "Bigg" | "biggl" | "biggr" | "middle" | "quad" | "qquad" | "space"
            | "thinspace" | "hspace" | "vspace" | "nolimits" | "hfill" | "hline" | "phantom" | "color"
            | "ensuremath" | "math" => {
                if matches!(name, "hspace" | "vspace" | "phantom" | "color") && self.next_is(b'{') {
                    self.braced()?;
                }
                self.spaced = true;
                return Some(());
            }
            "alpha" | "beta" | "gamma" | "delta" | "epsilon" | "zeta" | "eta" | "theta" | "iota" | "kappa"
            | "lambda" | "mu" | "nu" | "xi" | "rho" | "sigma" | "tau" | "upsilon" | "phi" | "chi" | "psi" | "omega"
            | "Gamma" | "Delta" | "Theta" | "Lambda" | "Xi" | "Sigma" | "Phi" | "Psi" | "Omega" | "ell" | "hbar" => {
                Tok::Id(name.to_string())
            }
            "varepsilon" => Tok::Id("epsilon".into()),
            "varphi" => Tok::Id("phi".into()),
            "vartheta" => Tok::Id("theta".into()),
            other => match Fun::named(other) {
                Some(f) => Tok::Fun(f),
                // "\\quadx" lost its space
                None => {
                    let rest = other.strip_prefix("quad").filter(|r| r.len() == 1)?;
                    letter(rest)
                }
            },
        };
        self.push(tok);
        Some(())
    }

    fn next_is(&self, c: u8) -> bool {
        self.s[self.i..].iter().find(|b| **b != b' ') == Some(&c)
    }

    /// The content of the `{...}` here, without nesting.
    fn braced(&mut self) -> Option<String> {
        let rest = &self.s[self.i..];
        let open = rest.iter().position(|b| *b == b'{').filter(|at| rest[..*at].iter().all(|b| *b == b' '))?;
        let close = rest.iter().position(|b| *b == b'}').filter(|at| at - open <= 200)?;
        let content = std::str::from_utf8(&rest[open + 1..close]).ok()?.to_string();
        self.i += close + 1;
        Some(content)
    }

    fn one_char(&mut self) -> Option<String> {
        let skip = self.s[self.i..].iter().take_while(|b| **b == b' ').count();
        let c = self.s.get(self.i + skip).filter(|b| b.is_ascii_alphanumeric())?;
        self.i += skip + 1;
        Some((*c as char).to_string())
    }

    /// `\text{...}` and `\mathrm{...}`: words, a unit, a function's name, or mathematics in upright letters.
    fn text_group(&mut self, upright_math: bool) -> Option<()> {
        if !self.next_is(b'{') {
            return Some(()); // a switch of the typeface
        }
        let rest = &self.s[self.i..];
        let open = rest.iter().position(|b| *b == b'{')?;
        let close = matching_brace(rest, open)?;
        let content = std::str::from_utf8(&rest[open + 1..close])
            .ok()?
            .trim_matches([' ', '~'])
            .trim_start_matches("\\ ")
            .trim()
            .to_string();
        self.i += close + 1;
        let after_value =
            matches!(self.out.last(), Some(Tok::Num(..) | Tok::Close(_) | Tok::Word(_) | Tok::Const(Const::Pi)))
                || matches!((self.out.iter().rev().nth(1), self.out.last()), (Some(Tok::Word(_)), Some(Tok::Op('/'))));
        if content.len() == 1 && content.bytes().all(|b| b.is_ascii_alphabetic()) {
            let unit = after_value && units::is_letter(&content);
            self.push(if unit { Tok::Word(content) } else { letter(&content) });
            return Some(());
        }
        if after_value && content.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'^' | b' ' | b'.')) {
            // a unit: m/s^2
            let mut rest = content.as_str();
            while let Some(c) = rest.chars().next() {
                let n = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
                match c {
                    _ if n > 0 => match &rest[..n] {
                        "and" => self.push(Tok::And),
                        "or" => self.push(Tok::Or),
                        "percent" => self.push(Tok::Op('%')),
                        "degrees" | "degree" => self.push(Tok::Degree),
                        word => self.push(Tok::Word(word.to_string())),
                    },
                    '/' | '^' => self.push(Tok::Op(c)),
                    '0'..='9' => self.push(Tok::Num(Q::from_integer((c as u8 - b'0').into()), 0, c.to_string())),
                    _ => {}
                }
                rest = &rest[n.max(1)..];
            }
            return Some(());
        }
        if (upright_math || content.len() <= 6)
            && let Some(tok) = named(&content)
        {
            self.push(tok);
            return Some(());
        }
        if content.bytes().any(|b| b.is_ascii_digit() || b == b'\\' || b == b'/' || b == b'^' || b == b',' || b == b'(')
        {
            let inner = lex(&content, self.commas)?;
            self.out.extend(inner);
            return Some(());
        }
        for word in content.split_whitespace() {
            let word = word.trim_matches(|c: char| matches!(c, '.' | '!' | '?' | ':' | '$' | '{' | '}' | '"' | '\''));
            match word {
                "" => {}
                "and" | "&" => self.push(Tok::And),
                "or" => self.push(Tok::Or),
                word => self.push(Tok::Word(word.to_string())),
            }
        }
        Some(())
    }

    /// Marks the bare digits after `\frac`, which are one argument each.
    fn mark_digits(&mut self) {
        let mut at = self.i;
        for _ in 0..2 {
            while self.s.get(at) == Some(&b' ') {
                at += 1;
            }
            match self.s.get(at) {
                Some(c) if c.is_ascii_digit() => {
                    self.one_digit.insert(at);
                    at += 1;
                }
                Some(b'{') => match matching_brace(self.s, at) {
                    Some(close) => at = close + 1,
                    None => return,
                },
                Some(b'\\') => {
                    at += 1;
                    while self.s.get(at).is_some_and(u8::is_ascii_alphabetic) {
                        at += 1;
                    }
                }
                Some(_) => at += 1,
                None => return,
            }
        }
    }
}

/// Where the brace opened at `open` closes, looking at most 4096 bytes ahead; escaped braces do not count.
pub fn matching_brace(s: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut i = open;
    while i < s.len() && i - open <= 4096 {
        match s[i] {
            b'\\' => i += 1,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

fn integer(digits: &[u8]) -> BigInt {
    BigInt::parse_bytes(digits, 10).unwrap_or_else(BigInt::zero)
}

fn letter(c: &str) -> Tok {
    match c {
        "e" => Tok::Const(Const::E),
        "i" => Tok::Const(Const::I),
        other => Tok::Id(other.to_string()),
    }
}

/// Words with a meaning of their own in an answer.
fn named(word: &str) -> Option<Tok> {
    Some(match word {
        "pi" | "Pi" | "PI" => Tok::Const(Const::Pi),
        "inf" | "infinity" | "Infinity" | "oo" => Tok::Const(Const::Inf),
        "sqrt" => Tok::Sqrt,
        "cbrt" => Tok::Fun(Fun::Root),
        "and" | "And" => Tok::And,
        "or" | "Or" => Tok::Or,
        "in" => Tok::Rel(Rel::In),
        "union" => Tok::Cup,
        "percent" => Tok::Op('%'),
        "degrees" | "degree" | "deg" => Tok::Degree,
        "alpha" | "beta" | "gamma" | "delta" | "theta" | "lambda" | "mu" | "phi" | "omega" | "sigma" | "rho" => {
            Tok::Id(word.to_string())
        }
        other => Tok::Fun(Fun::named(other)?),
    })
}

const SHORT_WORDS: [&str; 44] = [
    "is", "it", "no", "yes", "to", "of", "on", "at", "by", "so", "we", "he", "an", "the", "for", "not", "are", "was",
    "has", "her", "his", "one", "two", "six", "ten", "all", "any", "day", "men", "cat", "dog", "red", "odd", "even",
    "none", "dne", "sum", "mon", "tue", "wed", "thu", "fri", "sat", "sun",
];
