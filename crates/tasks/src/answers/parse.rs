//! From an answer's text to an `Answer`: numbers with units, lists, tuples, intervals, sets, matrices, relations, choices, words.
//!
//! The order of trial is the order of precedence: separators, set operations, relations, brackets, arithmetic, and words last.

use std::fmt;

use num_bigint::BigInt;

use super::expr::{Const, Expr, Q};
use super::lex::{self, Bracket, Commas, Rel, Tok};
use super::math;
use super::sets;
use super::text;
use super::units::{self, Piece, Unit};

/// Longer answers are compared as text.
pub const MAX_ANSWER: usize = 4096;
const MAX_DEPTH: usize = 12;

/// A parsed answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Value(Expr, Option<Unit>),
    /// Digits and their base: `1011_2`.
    Based(String, u32),
    /// Several answers without order.
    List(Vec<Answer>),
    Tuple(Vec<Answer>),
    /// Low, high, and whether each end belongs to it.
    Interval(Box<Expr>, Box<Expr>, bool, bool),
    Set(Vec<Answer>),
    Union(Vec<Answer>),
    Intersection(Vec<Answer>),
    Difference(Box<Answer>, Box<Answer>),
    Reals,
    Empty,
    Matrix(Vec<Vec<Expr>>),
    /// A chain `a = b < c`; sides that are no expression are words.
    Relation(Vec<Answer>, Vec<Rel>),
    Ratio(Vec<Expr>),
    /// A letter of a multiple choice, with the text after it.
    Choice(char, Option<Box<Answer>>),
    /// Normalised words.
    Text(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, xs: &[Answer], sep: &str| -> fmt::Result {
            for (n, x) in xs.iter().enumerate() {
                if n > 0 {
                    f.write_str(sep)?;
                }
                write!(f, "{x}")?;
            }
            Ok(())
        };
        match self {
            Answer::Value(e, None) => write!(f, "{e}"),
            Answer::Value(e, Some(unit)) => write!(f, "{e} {}", unit.name()),
            Answer::Based(digits, base) => write!(f, "{digits}_{{{base}}}"),
            Answer::List(xs) => join(f, xs, "; "),
            Answer::Tuple(xs) => {
                f.write_str("(")?;
                join(f, xs, ", ")?;
                f.write_str(")")
            }
            Answer::Interval(lo, hi, a, b) => {
                write!(f, "{}{lo}, {hi}{}", if *a { '[' } else { '(' }, if *b { ']' } else { ')' })
            }
            Answer::Set(xs) => {
                f.write_str("\\{")?;
                join(f, xs, ", ")?;
                f.write_str("\\}")
            }
            Answer::Union(xs) => join(f, xs, if xs.iter().any(is_inequality) { " or " } else { " \\cup " }),
            Answer::Intersection(xs) => join(f, xs, if xs.iter().any(is_inequality) { " and " } else { " \\cap " }),
            Answer::Difference(a, b) => write!(f, "{a} \\setminus {b}"),
            Answer::Reals => f.write_str("\\mathbb{R}"),
            Answer::Empty => f.write_str("\\emptyset"),
            Answer::Matrix(rows) => {
                f.write_str("[")?;
                for (r, row) in rows.iter().enumerate() {
                    f.write_str(if r > 0 { ", [" } else { "[" })?;
                    for (c, x) in row.iter().enumerate() {
                        if c > 0 {
                            f.write_str(", ")?;
                        }
                        write!(f, "{x}")?;
                    }
                    f.write_str("]")?;
                }
                f.write_str("]")
            }
            Answer::Relation(sides, rels) => {
                for (n, side) in sides.iter().enumerate() {
                    if n > 0 {
                        f.write_str(match rels[n - 1] {
                            Rel::Eq => " = ",
                            Rel::Approx => " \\approx ",
                            Rel::Ne => " != ",
                            Rel::Lt => " < ",
                            Rel::Le => " <= ",
                            Rel::Gt => " > ",
                            Rel::Ge => " >= ",
                            Rel::In => " \\in ",
                        })?;
                    }
                    write!(f, "{side}")?;
                }
                Ok(())
            }
            Answer::Ratio(xs) => {
                for (n, x) in xs.iter().enumerate() {
                    if n > 0 {
                        f.write_str(":")?;
                    }
                    write!(f, "{x}")?;
                }
                Ok(())
            }
            Answer::Choice(c, None) => write!(f, "({c})"),
            Answer::Choice(c, Some(rest)) => write!(f, "({c}) {rest}"),
            Answer::Text(t) => f.write_str(t),
        }
    }
}

/// Parses one bare answer with the usual reading of commas.
pub fn parse(raw: &str) -> Answer {
    parse_with(raw, Commas::Thousands)
}

/// Parses one bare answer.
pub fn parse_with(raw: &str, commas: Commas) -> Answer {
    if raw.len() > MAX_ANSWER {
        return Answer::Text(text::normal(raw));
    }
    let mut spelled = lex::plain_spelling(raw);
    if spelled.contains("\\\\") && !spelled.replace("\\\\", "").contains("\\begin") {
        spelled = escaped_once(&spelled);
    }
    let body = unwrap(&spelled);
    if let Some(found) = special(body) {
        return found;
    }
    if let Some((letter, rest)) = choice(body) {
        let rest = (!rest.is_empty()).then(|| Box::new(parse_with(rest, commas)));
        return Answer::Choice(letter, rest);
    }
    if text::is_one_word(body) {
        return Answer::Text(text::normal(body));
    }
    if let Some(toks) = lex::lex(body, commas)
        && !toks.is_empty()
        && let Some(found) = answer(&toks, 0)
    {
        return found;
    }
    Answer::Text(text::normal(body))
}

/// `\\frac` as `\frac`: LaTeX that was escaped twice on its way.
fn escaped_once(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut rest = s;
    while let Some(at) = rest.find("\\\\") {
        out.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        out.push_str(
            if after.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '{' | '}' | '%' | '$' | ',' | '!')) {
                "\\"
            } else {
                "\\\\"
            },
        );
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The text without what only dresses it: mathematics' delimiters, bold, a final full stop, a box, an outer group.
pub fn unwrap(text: &str) -> &str {
    let mut s = text.trim();
    for _ in 0..8 {
        let before = s;
        s = s.trim().trim_start_matches("\\displaystyle").trim();
        s = s.strip_suffix("\\\\").unwrap_or(s).trim_end();
        if s.ends_with('.') && !s.ends_with("...") {
            s = s[..s.len() - 1].trim_end();
        }
        s = s.trim_end_matches([',', ';', ':', '\\']).trim_end();
        for (open, close) in [
            ("$$", "$$"),
            ("$", "$"),
            ("\\(", "\\)"),
            ("\\[", "\\]"),
            ("**", "**"),
            ("`", "`"),
            ("\"", "\""),
            ("*", "*"),
            ("__", "__"),
        ] {
            if s.len() > open.len() + close.len()
                && let Some(inner) = s.strip_prefix(open).and_then(|rest| rest.strip_suffix(close))
                && !inner.contains(open)
            {
                s = inner.trim();
            }
        }
        for command in [
            "\\boxed",
            "\\fbox",
            "\\text",
            "\\textbf",
            "\\mathrm",
            "\\mathbf",
            "\\mbox",
            "\\ensuremath",
            "\\textrm",
            "\\textit",
        ] {
            if let Some(rest) = s.strip_prefix(command)
                && rest.trim_start().starts_with('{')
            {
                let rest = rest.trim_start();
                if lex::matching_brace(rest.as_bytes(), 0) == Some(rest.len() - 1) {
                    s = rest[1..rest.len() - 1].trim();
                }
            }
        }
        if s == before {
            break;
        }
    }
    s
}

/// Answers that are a phrase with one meaning.
fn special(body: &str) -> Option<Answer> {
    if body.len() > 60 {
        return None;
    }
    let words = text::normal(body);
    if let Some(found) = text::date(&words).or_else(|| text::clock(&words)) {
        return Some(Answer::Text(found));
    }
    Some(match words.as_str() {
        "no solution"
        | "no solutions"
        | "no real solution"
        | "no real solutions"
        | "empty set"
        | "none"
        | "no such value"
        | "no such values"
        | "no values"
        | "emptyset"
        | "varnothing"
        | "there is no solution"
        | "there are no solutions"
        | "no solution exists"
        | "no solutions exist" => Answer::Empty,
        "all real numbers"
        | "all reals"
        | "all real number"
        | "real numbers"
        | "reals"
        | "all real x"
        | "all real values"
        | "all real values of x" => Answer::Reals,
        "dne" | "does not exist" | "doesnt exist" | "do not exist" | "limit does not exist" => {
            Answer::Text("does not exist".into())
        }
        "undefined" | "not defined" | "undef" => Answer::Text("undefined".into()),
        "infinity" | "positive infinity" => Answer::Value(Expr::Const(Const::Inf), None),
        "negative infinity" => Answer::Value(Expr::Const(Const::Inf).negated(), None),
        _ => {
            let number = text::number_words(&words)?;
            Answer::Value(
                Expr::Num(Q::from_integer(BigInt::from(number.0)), 0),
                number.1.map(|w| Unit::Other(w.to_string())),
            )
        }
    })
}

/// A choice letter and what follows it: `(B)`, `B)`, `B.`, `B: text`, `\text{(B)}`, `Option B`, `B`.
pub fn choice(body: &str) -> Option<(char, &str)> {
    let mut s = body.trim();
    let mut worded = false;
    for word in ["option", "choice", "answer"] {
        if let Some(head) = s.get(..word.len())
            && head.eq_ignore_ascii_case(word)
            && s[word.len()..].starts_with([' ', ':'])
        {
            s = s[word.len()..].trim_start_matches([' ', ':']);
            worded = true;
        }
    }
    let mut marked = false;
    for prefix in ["\\textbf{", "\\text{", "\\mathrm{", "\\mathbf{", "**"] {
        if let Some(rest) = s.strip_prefix(prefix) {
            s = rest;
            marked = true;
        }
    }
    let paren = s.starts_with('(');
    let inner = s.strip_prefix('(').unwrap_or(s).trim_start();
    let letter =
        inner.chars().next().filter(|c| c.is_ascii_uppercase() && *c <= 'J' || (paren && ('a'..='e').contains(c)))?;
    let mut rest = inner[1..].trim_start();
    let closed = rest.starts_with(')');
    if paren && !closed {
        return None;
    }
    rest = rest.strip_prefix(')').unwrap_or(rest);
    if marked {
        rest = rest.trim_start().strip_prefix('}').or_else(|| rest.trim_start().strip_prefix("**")).unwrap_or(rest);
    }
    let dotted = !closed
        && (rest.starts_with(". ") || rest.starts_with(": ") || rest.starts_with("\\ ") || rest == "." || rest == ":");
    let rest = if dotted { rest[1..].trim() } else { rest.trim() };
    let lone = rest.is_empty();
    if letter.is_ascii_lowercase() && !lone {
        return None;
    }
    (lone || closed || dotted || (worded && rest.starts_with(['.', ','])))
        .then(|| (letter.to_ascii_uppercase(), rest.trim_start_matches([':', '.']).trim()))
}

fn is_open(tok: &Tok) -> bool {
    matches!(tok, Tok::Open(_) | Tok::Begin)
}

fn is_close(tok: &Tok) -> bool {
    matches!(tok, Tok::Close(_) | Tok::End)
}

/// Depth before each token; none where brackets do not balance (kinds may differ: `[1,2)`).
fn depths(toks: &[Tok]) -> Option<Vec<usize>> {
    let mut depth = 0usize;
    let mut out = Vec::with_capacity(toks.len());
    for tok in toks {
        if is_close(tok) {
            depth = depth.checked_sub(1)?;
        }
        out.push(depth);
        if is_open(tok) {
            depth += 1;
        }
    }
    (depth == 0).then_some(out)
}

/// The pieces between the tokens at depth 0 that `at` picks.
fn split<'a>(toks: &'a [Tok], depth: &[usize], at: impl Fn(&Tok) -> bool) -> (Vec<&'a [Tok]>, Vec<&'a Tok>) {
    let (mut parts, mut seps, mut start) = (Vec::new(), Vec::new(), 0);
    for (n, tok) in toks.iter().enumerate() {
        if depth[n] == 0 && at(tok) {
            parts.push(&toks[start..n]);
            seps.push(tok);
            start = n + 1;
        }
    }
    parts.push(&toks[start..]);
    (parts, seps)
}

fn answer(toks: &[Tok], level: usize) -> Option<Answer> {
    if level > MAX_DEPTH || toks.is_empty() {
        return None;
    }
    if let Some(found) = french_interval(toks) {
        return Some(found);
    }
    let depth = depths(toks)?;
    if let Some(found) = separated(toks, &depth, level) {
        return found;
    }
    if let Some(found) = set_operation(toks, &depth, level) {
        return found;
    }
    let (parts, rels) = split(toks, &depth, |t| matches!(t, Tok::Rel(_)));
    if parts.len() > 1 {
        return relation(&parts, &rels, level);
    }
    let (parts, _) =
        split(toks, &depth, |t| *t == Tok::Sep(':') || matches!(t, Tok::Word(w) if w == "to" && toks.len() <= 8));
    if parts.len() > 1 {
        let words_between = !toks.contains(&Tok::Sep(':'));
        let sides: Option<Vec<Answer>> = parts.iter().map(|p| answer(p, level + 1)).collect();
        let Some(mut sides) = sides else { return if words_between { value(toks) } else { None } };
        if let ([Answer::Text(_) | Answer::Value(Expr::Sym(_), _), _], false) = (sides.as_slice(), words_between) {
            return sides.pop(); // "Area: 5"
        }
        let values: Option<Vec<Expr>> =
            sides.into_iter().map(|s| if let Answer::Value(e, _) = s { Some(e) } else { None }).collect();
        // 12:05 is a time
        let clock = parts.len() == 2 && matches!(parts[1], [Tok::Num(_, 0, d)] if d.len() == 2 && d.starts_with('0'));
        if clock && let ([Tok::Num(h, 0, _)], [Tok::Num(_, 0, d)]) = (parts[0], parts[1]) {
            return Some(Answer::Text(format!("{h}:{d}")));
        }
        if values.is_some() || !words_between {
            return values.map(Answer::Ratio);
        }
    }
    if let Some(found) = bracketed(toks, &depth, level) {
        return Some(found);
    }
    value(toks)
}

/// `]1, 2[` and `]1, 2]`, which do not balance.
fn french_interval(toks: &[Tok]) -> Option<Answer> {
    let ends = [Tok::Open(Bracket::Square), Tok::Close(Bracket::Square)];
    let (first, last) = (toks.first()?, toks.last()?);
    if toks.len() < 5 || !ends.contains(first) || !ends.contains(last) || (*first == ends[0] && *last == ends[1]) {
        return None;
    }
    let inner = &toks[1..toks.len() - 1];
    let depth = depths(inner)?;
    let (parts, _) = split(inner, &depth, |t| matches!(t, Tok::Sep(',' | ';')));
    let [lo, hi] = parts.as_slice() else { return None };
    Some(Answer::Interval(Box::new(whole(lo)?), Box::new(whole(hi)?), *first == ends[0], *last == ends[1]))
}

/// An expression that takes all of `toks`.
fn whole(toks: &[Tok]) -> Option<Expr> {
    let (e, n) = math::expression(toks)?;
    (n == toks.len()).then_some(e)
}

/// Lists: commas, semicolons, "and", "or". The outer option says whether there was a separator.
fn separated(toks: &[Tok], depth: &[usize], level: usize) -> Option<Option<Answer>> {
    for sep in [Tok::Or, Tok::Sep(';'), Tok::And, Tok::Sep(',')] {
        let (parts, _) = split(toks, depth, |t| *t == sep);
        if parts.len() < 2 {
            continue;
        }
        if parts.len() > 256 {
            return Some(None);
        }
        let parts: Vec<&[Tok]> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        if parts.is_empty() {
            return Some(None);
        }
        let mut items = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            let Some(item) = answer(part, level + 1) else { return Some(None) };
            if n > 0 && is_condition(&item) {
                continue; // "k in Z", "where x > 0"
            }
            match item {
                // ", and" leaves a list in a list
                Answer::List(inner) if sep == Tok::And || sep == Tok::Or || sep == Tok::Sep(',') => items.extend(inner),
                other => items.push(other),
            }
        }
        if items.len() == 1 {
            return Some(items.pop());
        }
        let sets = items.iter().all(|i| is_set(i) || is_inequality(i));
        if sets && items.iter().any(is_inequality) {
            return Some(Some(match sep {
                Tok::Or => Answer::Union(items),
                Tok::And => Answer::Intersection(items),
                // a comma: both, unless that leaves nothing
                _ => match sets::spans(&Answer::Intersection(items.clone())) {
                    Some(both) if both.is_empty() => Answer::Union(items),
                    Some(_) => Answer::Intersection(items),
                    None => Answer::List(items),
                },
            }));
        }
        if sep == Tok::And
            && let Some(total) = compound(&items)
        {
            return Some(Some(total));
        }
        if sets && sep == Tok::Or {
            return Some(Some(Answer::Union(items)));
        }
        return Some(Some(Answer::List(items)));
    }
    None
}

/// `1 hour 30 minutes`: quantities of one kind, the larger unit first, are one quantity in the last unit.
fn compound(items: &[Answer]) -> Option<Answer> {
    let mut last: Option<(&[i32; 5], &Q, &Unit)> = None;
    let mut terms = Vec::new();
    for item in items {
        let Answer::Value(e, Some(unit @ Unit::Known { powers, scale, .. })) = item else { return None };
        if last.is_some_and(|(p, s, _)| p != powers || s <= scale) {
            return None;
        }
        last = Some((powers, scale, unit));
        terms.push(e.clone().times(Expr::Num(scale.clone(), 0)));
    }
    let (_, scale, unit) = last?;
    (terms.len() > 1).then(|| {
        let total = Expr::Add(terms).times(Expr::Num(scale.recip(), 0));
        Answer::Value(total, Some(unit.clone()))
    })
}

/// A side condition that only says where a symbol ranges.
fn is_condition(item: &Answer) -> bool {
    match item {
        Answer::Relation(sides, rels) if rels.as_slice() == [Rel::In] => match (&sides[0], &sides[1]) {
            (Answer::Value(Expr::Sym(_), _), Answer::Value(Expr::Sym(s), _)) => matches!(s.as_str(), "ZZ" | "NN"),
            (Answer::Value(Expr::Sym(s), _), Answer::Reals) => s != "x",
            _ => false,
        },
        Answer::Text(t) => t.starts_with("where ") || t.starts_with("for ") || t.contains("integer"),
        _ => false,
    }
}

fn is_inequality(a: &Answer) -> bool {
    matches!(a, Answer::Relation(_, rels) if rels.iter().all(|r| matches!(r, Rel::Lt | Rel::Le | Rel::Gt | Rel::Ge | Rel::Ne)))
}

fn is_set(a: &Answer) -> bool {
    matches!(
        a,
        Answer::Interval(..)
            | Answer::Set(_)
            | Answer::Union(_)
            | Answer::Intersection(_)
            | Answer::Difference(..)
            | Answer::Reals
            | Answer::Empty
    )
}

fn set_operation(toks: &[Tok], depth: &[usize], level: usize) -> Option<Option<Answer>> {
    let rel = toks.iter().zip(depth).any(|(t, d)| *d == 0 && matches!(t, Tok::Rel(_)));
    if rel {
        return None;
    }
    // a plain U between brackets
    let cup = |n: usize| match &toks[n] {
        Tok::Cup => true,
        Tok::Id(u) => u == "U" && n > 0 && is_close(&toks[n - 1]) && toks.get(n + 1).is_some_and(is_open),
        _ => false,
    };
    if (0..toks.len()).any(|n| depth[n] == 0 && cup(n)) {
        let (mut items, mut start) = (Vec::new(), 0);
        for n in 0..=toks.len() {
            if n == toks.len() || (depth[n] == 0 && cup(n)) {
                match answer(&toks[start..n], level + 1) {
                    Some(item) if items.len() < 64 => items.push(open_interval(item)),
                    _ => return Some(None),
                }
                start = n + 1;
            }
        }
        return Some(Some(Answer::Union(items)));
    }
    let (parts, _) = split(toks, depth, |t| *t == Tok::Cap);
    if parts.len() > 1 && parts.len() < 64 {
        let items: Option<Vec<Answer>> = parts.iter().map(|p| answer(p, level + 1).map(open_interval)).collect();
        return Some(items.map(Answer::Intersection));
    }
    let at = (0..toks.len()).rev().find(|n| {
        depth[*n] == 0
            && (toks[*n] == Tok::SetMinus
                || (toks[*n] == Tok::Op('-')
                    && n.checked_sub(1).is_some_and(|b| toks[b] == Tok::Reals)
                    && matches!(toks.get(n + 1), Some(Tok::Open(_)))))
    });
    if let Some(at) = at {
        let (a, b) = (answer(&toks[..at], level + 1), answer(&toks[at + 1..], level + 1));
        return Some(match (a, b) {
            (Some(a), Some(b)) => {
                let b = if let Answer::Value(..) = b { Answer::Set(vec![b]) } else { b };
                Some(Answer::Difference(Box::new(open_interval(a)), Box::new(open_interval(b))))
            }
            _ => None,
        });
    }
    None
}

/// Beside a set's sign a pair in round brackets is an interval.
pub fn open_interval(a: Answer) -> Answer {
    match a {
        Answer::Tuple(items) if items.len() == 2 => match <[Answer; 2]>::try_from(items) {
            Ok([Answer::Value(lo, None), Answer::Value(hi, None)]) => {
                Answer::Interval(Box::new(lo), Box::new(hi), false, false)
            }
            Ok([a, b]) => Answer::Tuple(vec![a, b]),
            Err(items) => Answer::Tuple(items),
        },
        Answer::List(items) => Answer::Set(items),
        other => other,
    }
}

fn relation(parts: &[&[Tok]], rels: &[&Tok], level: usize) -> Option<Answer> {
    let rels: Vec<Rel> = rels.iter().filter_map(|t| if let Tok::Rel(r) = t { Some(*r) } else { None }).collect();
    if parts.len() > 32 {
        return None;
    }
    // "= 5": what stands before was not copied
    if parts[0].is_empty() {
        return if parts.len() == 2 && matches!(rels[0], Rel::Eq | Rel::Approx) {
            answer(parts[1], level + 1)
        } else {
            None
        };
    }
    let sides: Option<Vec<Answer>> = parts.iter().map(|p| answer(p, level + 1)).collect();
    let mut sides = sides?;
    if rels.as_slice() == [Rel::In]
        && matches!(sides[0], Answer::Value(Expr::Sym(_), None))
        && !matches!(sides[1], Answer::Value(..))
        && (!matches!(sides[1], Answer::Reals) || matches!(&sides[0], Answer::Value(Expr::Sym(s), _) if s == "x"))
    {
        return sides.pop().map(open_interval);
    }
    Some(Answer::Relation(sides, rels))
}

fn bracketed(toks: &[Tok], depth: &[usize], level: usize) -> Option<Answer> {
    if toks.len() < 2 || !is_open(&toks[0]) || depth[1..toks.len() - 1].contains(&0) || !is_close(&toks[toks.len() - 1])
    {
        // a matrix followed by a power or the like is not handled
        return match toks {
            [Tok::Reals] => Some(Answer::Reals),
            [Tok::Empty] => Some(Answer::Empty),
            _ => None,
        };
    }
    let inner = &toks[1..toks.len() - 1];
    let (open, close) = (&toks[0], &toks[toks.len() - 1]);
    if *open == Tok::Begin {
        return matrix(inner);
    }
    let inner_depth = depths(inner)?;
    let set = matches!(open, Tok::Open(Bracket::SetBrace | Bracket::Brace));
    if set && inner.is_empty() {
        return Some(Answer::Empty);
    }
    if set {
        // {x | x > 3} and {x : x > 3}: the condition says it
        let bar = (1..inner.len()).find(|n| inner_depth[*n] == 0 && matches!(inner[*n], Tok::Bar | Tok::Sep(':')));
        if let Some(bar) = bar
            && matches!(&inner[..bar], [Tok::Id(_)] | [Tok::Id(_), Tok::Rel(Rel::In), Tok::Reals])
        {
            return answer(&inner[bar + 1..], level + 1);
        }
    }
    let (parts, _) = split(inner, &inner_depth, |t| matches!(t, Tok::Sep(',')));
    let parts = if parts.len() == 1 { split(inner, &inner_depth, |t| matches!(t, Tok::Sep(';'))).0 } else { parts };
    if parts.len() > 256 {
        return None;
    }
    if parts.len() == 1 {
        return match open {
            Tok::Open(Bracket::SetBrace) => {
                let item = answer(inner, level + 1)?;
                Some(Answer::Set(vec![item]))
            }
            Tok::Open(Bracket::Paren | Bracket::Brace) => answer(inner, level + 1),
            Tok::Open(Bracket::Square) if inner.first() == Some(&Tok::Begin) => answer(inner, level + 1),
            Tok::Open(Bracket::Square) => rows(&parts),
            _ => None,
        };
    }
    if let (Tok::Open(Bracket::Square), Some(matrix)) = (open, rows(&parts)) {
        return Some(matrix);
    }
    let items: Option<Vec<Answer>> = parts.iter().map(|p| answer(p, level + 1)).collect();
    let items = items?;
    let infinite = items.iter().any(|i| matches!(i, Answer::Value(e, _) if e.has(Const::Inf)));
    let round = |t: &Tok| matches!(t, Tok::Open(Bracket::Paren) | Tok::Close(Bracket::Paren));
    let square = |t: &Tok| matches!(t, Tok::Open(Bracket::Square) | Tok::Close(Bracket::Square));
    if *open == Tok::Open(Bracket::Brace) {
        // LaTeX shows no plain braces: a list, or a set that lost its backslashes
        return Some(Answer::List(items));
    }
    if set {
        return Some(Answer::Set(items));
    }
    if items.len() == 2
        && (square(open) || square(close) || infinite)
        && (round(open) || square(open))
        && (round(close) || square(close))
    {
        let [Answer::Value(lo, _), Answer::Value(hi, _)] = items.as_slice() else { return Some(Answer::Tuple(items)) };
        return Some(Answer::Interval(Box::new(lo.clone()), Box::new(hi.clone()), square(open), square(close)));
    }
    Some(Answer::Tuple(items))
}

/// `[[1,2],[3,4]]`: a list of rows in square brackets is a matrix.
fn rows(parts: &[&[Tok]]) -> Option<Answer> {
    let mut out: Vec<Vec<Expr>> = Vec::new();
    for part in parts {
        let [Tok::Open(Bracket::Square), inner @ .., Tok::Close(Bracket::Square)] = *part else { return None };
        let depth = depths(inner)?;
        let (cells, _) = split(inner, &depth, |t| *t == Tok::Sep(','));
        out.push(cells.into_iter().map(whole).collect::<Option<_>>()?);
    }
    out.iter().all(|r| r.len() == out[0].len()).then_some(Answer::Matrix(out))
}

fn matrix(inner: &[Tok]) -> Option<Answer> {
    let depth = depths(inner)?;
    let (lines, _) = split(inner, &depth, |t| *t == Tok::Row);
    let mut out = Vec::new();
    for line in lines.into_iter().filter(|l| !l.is_empty()) {
        let depth = depths(line)?;
        let (cells, _) = split(line, &depth, |t| *t == Tok::Cell);
        out.push(cells.into_iter().map(whole).collect::<Option<Vec<Expr>>>()?);
    }
    (!out.is_empty() && out.iter().all(|r| r.len() == out[0].len())).then_some(Answer::Matrix(out))
}

/// A number or an expression with currency before and units after it, else words.
fn value(toks: &[Tok]) -> Option<Answer> {
    let mut start = 0;
    let mut currency = None;
    let mut minus = false;
    while start < toks.len() {
        match &toks[start] {
            Tok::Word(w) if LEADING.contains(&w.to_ascii_lowercase().as_str()) => {}
            Tok::Rel(Rel::Approx) => {}
            Tok::Currency(c) => currency = Some(*c),
            Tok::Op('-') if matches!(toks.get(start + 1), Some(Tok::Currency(_))) => minus = true,
            _ => break,
        }
        start += 1;
    }
    if let [Tok::Num(_, 0, digits), Tok::Op('_'), base @ ..] = &toks[start..]
        && !digits.is_empty()
        && let Some(base) = number_base(base)
    {
        return digits.chars().all(|c| c.is_digit(base)).then(|| Answer::Based(digits.clone(), base));
    }
    // a number after a unit begins the next part of a compound quantity
    let next = (start + 1..toks.len()).find(|n| matches!((&toks[n - 1], &toks[*n]), (Tok::Word(_), Tok::Num(..))));
    if let Some(next) = next
        && toks.len() <= 16
        && next > start + 1
        && let (Some(first), Some(rest)) = (value(&toks[start..next]), value(&toks[next..]))
        && let Some(total) = compound(&[first, rest])
    {
        return Some(total);
    }
    let Some((mut e, used)) = math::expression(&toks[start..]) else { return words(toks) };
    if minus {
        e = e.negated();
    }
    let rest = &toks[start + used..];
    let mut pieces = Vec::new();
    if let Some(c) = currency {
        pieces.extend(c.split(' ').map(|w| Piece::Word(w.to_string())));
    }
    let mut n = 0;
    while n < rest.len() {
        match &rest[n] {
            Tok::Word(w) if w == "..." => return None,
            Tok::Word(w) if currency.is_some() && w.eq_ignore_ascii_case("dollars") => {}
            Tok::Word(w) if currency.is_some() && w.eq_ignore_ascii_case("usd") => {}
            Tok::Word(w) => pieces.push(Piece::Word(w.clone())),
            Tok::Op('/') => pieces.push(Piece::Per),
            Tok::Op('^') => {
                let power = match (rest.get(n + 1), rest.get(n + 2)) {
                    (Some(Tok::Num(q, 0, _)), _) => {
                        n += 1;
                        q
                    }
                    (Some(Tok::Open(Bracket::Brace)), Some(Tok::Num(q, 0, _)))
                        if rest.get(n + 3) == Some(&Tok::Close(Bracket::Brace)) =>
                    {
                        n += 3;
                        q
                    }
                    _ => return words(toks),
                };
                let power: i32 = power.to_integer().try_into().ok().filter(|p| (1..=3).contains(p))?;
                pieces.push(Piece::Power(power));
            }
            Tok::Op('*') | Tok::Currency(_) | Tok::Rel(Rel::In) => {}
            Tok::Id(w) => pieces.push(Piece::Word(w.clone())),
            // "5 apples and 1 pear" was split before; brackets around a unit are dropped
            Tok::Open(Bracket::Paren) | Tok::Close(Bracket::Paren) | Tok::Degree | Tok::Op('\'') => {}
            _ => return words(toks),
        }
        n += 1;
    }
    if pieces.len() > 8 {
        return words(toks);
    }
    Some(Answer::Value(e, units::unit(&pieces)))
}

const LEADING: [&str; 12] = [
    "about",
    "approximately",
    "approx",
    "roughly",
    "exactly",
    "only",
    "around",
    "is",
    "nearly",
    "equals",
    "almost",
    "just",
];

fn number_base(toks: &[Tok]) -> Option<u32> {
    let q = match toks {
        [Tok::Num(q, 0, _)] => q,
        [Tok::Open(Bracket::Brace), Tok::Num(q, 0, _), Tok::Close(Bracket::Brace)] => q,
        _ => return None,
    };
    let base: u32 = q.to_integer().try_into().ok()?;
    (2..=36).contains(&base).then_some(base)
}

/// Words only (symbols between them allowed), as normalised text; none where there is real mathematics among them.
fn words(toks: &[Tok]) -> Option<Answer> {
    let mut out = Vec::new();
    let mut any = false;
    for (n, tok) in toks.iter().enumerate() {
        match tok {
            Tok::Word(w) => {
                any = true;
                out.push(w.clone());
            }
            Tok::Id(w) => out.push(w.clone()),
            Tok::Num(_, 0, digits) if !digits.is_empty() => {
                let minus = n > 0 && toks[n - 1] == Tok::Op('-');
                out.push(if minus { format!("-{digits}") } else { digits.clone() });
            }
            Tok::Const(Const::I) => out.push("i".into()),
            Tok::Const(Const::E) => out.push("e".into()),
            Tok::Op('-' | '\'' | '!') => {}
            _ => return None,
        }
    }
    any.then(|| Answer::Text(text::normal(&out.join(" "))))
}
