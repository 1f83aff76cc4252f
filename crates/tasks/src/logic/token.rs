//! Tokens of every notation the parser reads, in one pass.

use super::formula::{Op, Quantifier};
use super::parse::{ErrorKind, ParseError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tok {
    Open(char),
    Close(char),
    Comma,
    /// `.` or `:` after a quantifier's variables, or a full stop at the end.
    Dot,
    Not,
    Op(Op),
    /// `a <= b`: b implies a.
    ImpliedBy,
    Quant(Quantifier),
    Equal,
    Unequal,
    True,
    False,
    Ident(String),
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub tok: Tok,
    /// Byte offset in the text.
    pub at: usize,
}

/// The longest text that is read, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

// Longest first where one sign begins another.
const SIGNS: &[(&str, Tok)] = &[
    ("<==>", Tok::Op(Op::Iff)),
    ("<-->", Tok::Op(Op::Iff)),
    ("<=>", Tok::Op(Op::Iff)),
    ("<->", Tok::Op(Op::Iff)),
    ("<~>", Tok::Op(Op::Xor)),
    ("==>", Tok::Op(Op::Implies)),
    ("-->", Tok::Op(Op::Implies)),
    ("->", Tok::Op(Op::Implies)),
    ("=>", Tok::Op(Op::Implies)),
    ("<=", Tok::ImpliedBy),
    ("<-", Tok::ImpliedBy),
    (":-", Tok::ImpliedBy),
    ("!=", Tok::Unequal),
    ("==", Tok::Equal),
    ("=", Tok::Equal),
    ("&&", Tok::Op(Op::And)),
    ("&", Tok::Op(Op::And)),
    ("/\\", Tok::Op(Op::And)),
    ("^", Tok::Op(Op::And)),
    ("\\/", Tok::Op(Op::Or)),
    ("||", Tok::Op(Op::Or)),
    ("|", Tok::Op(Op::Or)),
    ("~", Tok::Not),
    ("-", Tok::Not),
    ("∀", Tok::Quant(Quantifier::ForAll)),
    ("∃", Tok::Quant(Quantifier::Exists)),
    ("¬", Tok::Not),
    ("∼", Tok::Not),
    ("∧", Tok::Op(Op::And)),
    ("⋀", Tok::Op(Op::And)),
    ("∨", Tok::Op(Op::Or)),
    ("⋁", Tok::Op(Op::Or)),
    ("⊕", Tok::Op(Op::Xor)),
    ("⊻", Tok::Op(Op::Xor)),
    ("→", Tok::Op(Op::Implies)),
    ("⟶", Tok::Op(Op::Implies)),
    ("⇒", Tok::Op(Op::Implies)),
    ("⟹", Tok::Op(Op::Implies)),
    ("⊃", Tok::Op(Op::Implies)),
    ("←", Tok::ImpliedBy),
    ("⇐", Tok::ImpliedBy),
    ("↔", Tok::Op(Op::Iff)),
    ("⟷", Tok::Op(Op::Iff)),
    ("⇔", Tok::Op(Op::Iff)),
    ("⟺", Tok::Op(Op::Iff)),
    ("≡", Tok::Op(Op::Iff)),
    ("≠", Tok::Unequal),
    ("⊤", Tok::True),
    ("⊥", Tok::False),
    ("(", Tok::Open('(')),
    ("[", Tok::Open('[')),
    ("{", Tok::Open('{')),
    (")", Tok::Close('(')),
    ("]", Tok::Close('[')),
    ("}", Tok::Close('{')),
    (",", Tok::Comma),
    (".", Tok::Dot),
    (":", Tok::Dot),
    (";", Tok::Dot),
];

const LATEX: &[(&str, Option<Tok>)] = &[
    ("forall", Some(Tok::Quant(Quantifier::ForAll))),
    ("exists", Some(Tok::Quant(Quantifier::Exists))),
    ("land", Some(Tok::Op(Op::And))),
    ("wedge", Some(Tok::Op(Op::And))),
    ("lor", Some(Tok::Op(Op::Or))),
    ("vee", Some(Tok::Op(Op::Or))),
    ("lnot", Some(Tok::Not)),
    ("neg", Some(Tok::Not)),
    ("sim", Some(Tok::Not)),
    ("to", Some(Tok::Op(Op::Implies))),
    ("rightarrow", Some(Tok::Op(Op::Implies))),
    ("longrightarrow", Some(Tok::Op(Op::Implies))),
    ("Rightarrow", Some(Tok::Op(Op::Implies))),
    ("Longrightarrow", Some(Tok::Op(Op::Implies))),
    ("implies", Some(Tok::Op(Op::Implies))),
    ("supset", Some(Tok::Op(Op::Implies))),
    ("leftrightarrow", Some(Tok::Op(Op::Iff))),
    ("longleftrightarrow", Some(Tok::Op(Op::Iff))),
    ("Leftrightarrow", Some(Tok::Op(Op::Iff))),
    ("Longleftrightarrow", Some(Tok::Op(Op::Iff))),
    ("iff", Some(Tok::Op(Op::Iff))),
    ("equiv", Some(Tok::Op(Op::Iff))),
    ("oplus", Some(Tok::Op(Op::Xor))),
    ("veebar", Some(Tok::Op(Op::Xor))),
    ("neq", Some(Tok::Unequal)),
    ("ne", Some(Tok::Unequal)),
    ("top", Some(Tok::True)),
    ("bot", Some(Tok::False)),
    ("left", None),
    ("right", None),
    ("bigl", None),
    ("bigr", None),
    ("big", None),
    ("Big", None),
    ("quad", None),
    ("qquad", None),
];

const LATEX_TEXT: &[&str] =
    &["text", "mathrm", "mathit", "mathsf", "mathbf", "mathcal", "operatorname", "textit", "textrm"];

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '\'' | '’' | '′')
}

/// Reads the text into tokens. Names may hold letters, digits, `_`, apostrophes and, inside, `-`, `+` and `.`
/// (`Non-rare`, `c++`, `mr.smith`), except the variable after a quantifier, so that `∀x.P(x)` works.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(ParseError::new(
            ErrorKind::TooLarge,
            MAX_TEXT,
            format!("the text is longer than {MAX_TEXT} bytes"),
        ));
    }
    let mut out: Vec<Token> = vec![];
    let mut at = 0;
    'next: while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace()
            || matches!(c, '$' | '\u{feff}' | '\u{200b}') && !rest.starts_with("$true") && !rest.starts_with("$false")
        {
            at += c.len_utf8();
            continue;
        }
        for (word, tok) in [("$true", Tok::True), ("$false", Tok::False)] {
            if rest.starts_with(word) {
                out.push(Token { tok, at });
                at += word.len();
                continue 'next;
            }
        }
        // TPTP: `![X]:` and `?[X]:`; elsewhere `!` is negation.
        if matches!(c, '!' | '?') && !rest.starts_with("!=") {
            let bracket = rest[1..].trim_start().starts_with('[');
            let tok = match (c, bracket) {
                ('!', true) => Tok::Quant(Quantifier::ForAll),
                ('?', true) => Tok::Quant(Quantifier::Exists),
                ('!', false) => Tok::Not,
                _ => return Err(ParseError::new(ErrorKind::Character, at, "`?` without a list of variables".into())),
            };
            out.push(Token { tok, at });
            at += 1;
            continue;
        }
        if c == '\\' && !rest.starts_with("\\/") {
            at += latex(rest, at, &mut out)?;
            continue;
        }
        if is_ident(c) {
            let end = at + ident_len(rest, in_binder(&out));
            out.push(Token { tok: Tok::Ident(text[at..end].to_string()), at });
            at = end;
            continue;
        }
        for (sign, tok) in SIGNS {
            if rest.starts_with(sign) {
                out.push(Token { tok: tok.clone(), at });
                at += sign.len();
                continue 'next;
            }
        }
        return Err(ParseError::new(ErrorKind::Character, at, format!("unexpected character `{c}`")));
    }
    Ok(words(out))
}

/// Word notation becomes signs: `for all x`, `there exists x`, `not A`, `true`.
fn words(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(mut t) = rest.next() {
        if let Tok::Ident(w) = &t.tok {
            let next = rest.peek().map(|n| &n.tok);
            let names = matches!(next, Some(Tok::Ident(_)));
            let word = w.to_ascii_lowercase();
            let is = |what: &str| matches!(next, Some(Tok::Ident(n)) if n.eq_ignore_ascii_case(what));
            let sign = match word.as_str() {
                "for" if is("all") => {
                    rest.next();
                    Some(Tok::Quant(Quantifier::ForAll))
                }
                "there" if is("exists") => {
                    rest.next();
                    Some(Tok::Quant(Quantifier::Exists))
                }
                "forall" | "all" if names => Some(Tok::Quant(Quantifier::ForAll)),
                "exists" if names => Some(Tok::Quant(Quantifier::Exists)),
                "not"
                    if names
                        || matches!(next, Some(Tok::Not | Tok::Quant(_) | Tok::Open(_) | Tok::True | Tok::False)) =>
                {
                    Some(Tok::Not)
                }
                "true" if next != Some(&Tok::Open('(')) => Some(Tok::True),
                "false" if next != Some(&Tok::Open('(')) => Some(Tok::False),
                _ => None,
            };
            if let Some(sign) = sign {
                t.tok = sign;
            }
        }
        out.push(t);
    }
    out
}

/// Do the tokens so far end in a quantifier and perhaps some of its variables?
fn in_binder(out: &[Token]) -> bool {
    for t in out.iter().rev() {
        match &t.tok {
            Tok::Quant(_) => return true,
            Tok::Comma | Tok::Open('[') => continue,
            Tok::Ident(w) if matches!(w.as_str(), "forall" | "exists" | "all") => return true,
            _ => return false,
        }
    }
    false
}

fn ident_len(rest: &str, binder: bool) -> usize {
    let mut len = 0;
    let mut chars = rest.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let next = chars.peek().map(|&(_, n)| n);
        let inner = match c {
            _ if is_ident(c) => true,
            _ if binder || i == 0 => false,
            '-' | '.' => next.is_some_and(is_ident),
            '+' => true,
            _ => false,
        };
        if !inner {
            break;
        }
        len = i + c.len_utf8();
    }
    len
}

fn latex(rest: &str, at: usize, out: &mut Vec<Token>) -> Result<usize, ParseError> {
    let body = &rest[1..];
    let word_len = body.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(body.len());
    let word = &body[..word_len];
    if word.is_empty() {
        // spacing such as `\,` and escaped signs such as `\{` and `\&`
        return match body.chars().next() {
            Some(',' | ';' | ':' | '!' | ' ' | '\\') => Ok(2),
            Some('{' | '}' | '&' | '_') => Ok(1),
            _ => Err(ParseError::new(ErrorKind::Character, at, "a backslash that begins no known command".into())),
        };
    }
    if LATEX_TEXT.contains(&word) {
        let open = 1 + word_len;
        let inner = rest[open..].strip_prefix('{').and_then(|r| r.find('}').map(|end| &r[..end]));
        let Some(inner) = inner else {
            return Err(ParseError::new(ErrorKind::Character, at, format!("`\\{word}` without a braced name")));
        };
        let name: String = inner.split_whitespace().collect::<Vec<_>>().join("_");
        out.push(Token { tok: Tok::Ident(name.replace("\\_", "_")), at });
        return Ok(open + inner.len() + 2);
    }
    match LATEX.iter().find(|(name, _)| *name == word) {
        Some((_, tok)) => {
            out.extend(tok.clone().map(|tok| Token { tok, at }));
            Ok(1 + word_len)
        }
        None => Err(ParseError::new(ErrorKind::Character, at, format!("unknown command `\\{word}`"))),
    }
}
