//! The printer: the same tree in any of five notations, with no more brackets than the parser needs.
//!
//! What is printed parses back to the same tree, as long as no constant has the name of a variable bound around it and
//! names are ones the parser reads.

use super::formula::{Atom, Formula, Op, Quantifier, Term};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `∀x (Cat(x) → ¬Dog(x))`
    Unicode,
    /// `forall x. (Cat(x) -> ~Dog(x))`
    Ascii,
    /// `\forall x\, (Cat(x) \to \lnot Dog(x))`
    Latex,
    /// `forall x (Cat(x) implies not Dog(x))`
    Words,
    /// `![X]: (cat(X) => ~dog(X))`, the variables and names as they are
    Tptp,
}

impl Notation {
    pub const ALL: [Notation; 5] = [Self::Unicode, Self::Ascii, Self::Latex, Self::Words, Self::Tptp];

    fn op(self, op: Op) -> &'static str {
        let row = match op {
            Op::And => ["∧", "&", "\\land", "and", "&"],
            Op::Or => ["∨", "|", "\\lor", "or", "|"],
            Op::Xor => ["⊕", "<~>", "\\oplus", "xor", "<~>"],
            Op::Implies => ["→", "->", "\\to", "implies", "=>"],
            Op::Iff => ["↔", "<->", "\\leftrightarrow", "iff", "<=>"],
        };
        row[self as usize]
    }

    fn not(self) -> &'static str {
        ["¬", "~", "\\lnot ", "not ", "~"][self as usize]
    }

    fn constant(self, value: bool) -> &'static str {
        let row = if value {
            ["⊤", "$true", "\\top", "true", "$true"]
        } else {
            ["⊥", "$false", "\\bot", "false", "$false"]
        };
        row[self as usize]
    }

    fn quant(self, q: Quantifier, var: &str) -> String {
        let all = q == Quantifier::ForAll;
        match self {
            Self::Unicode => format!("{}{var} ", if all { '∀' } else { '∃' }),
            Self::Ascii | Self::Words => format!("{} {var} ", if all { "forall" } else { "exists" }),
            Self::Latex => format!("\\{} {var}\\, ", if all { "forall" } else { "exists" }),
            Self::Tptp => format!("{}[{var}]: ", if all { '!' } else { '?' }),
        }
    }
}

/// Prints a formula.
pub fn print(f: &Formula, notation: Notation) -> String {
    let mut out = String::new();
    write(f, notation, 0, false, &mut out);
    out
}

impl std::fmt::Display for Formula {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&print(self, Notation::Unicode))
    }
}

impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        term(self, &mut out);
        f.write_str(&out)
    }
}

impl std::fmt::Display for Atom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = self.pred.clone();
        arguments(&self.args, &mut out);
        f.write_str(&out)
    }
}

fn level(op: Op) -> u8 {
    match op {
        Op::Iff => 0,
        Op::Implies => 1,
        Op::Or => 2,
        Op::Xor => 3,
        Op::And => 4,
    }
}

/// Does the last thing printed for `f` belong to a quantifier, which could reach over what follows?
fn ends_in_quantifier(f: &Formula) -> bool {
    match f {
        Formula::Quant(..) => true,
        Formula::Not(a) => ends_in_quantifier(a),
        Formula::Bin(_, _, b) => ends_in_quantifier(b),
        _ => false,
    }
}

fn bracketed(f: &Formula, n: Notation, out: &mut String) {
    out.push('(');
    write(f, n, 0, false, out);
    out.push(')');
}

/// `least`: binary formulas below this level need brackets; `followed`: more of the same bracket follows on the right.
fn write(f: &Formula, n: Notation, least: u8, followed: bool, out: &mut String) {
    match f {
        Formula::True => out.push_str(n.constant(true)),
        Formula::False => out.push_str(n.constant(false)),
        Formula::Atom(a) => {
            out.push_str(&a.pred);
            arguments(&a.args, out);
        }
        Formula::Equal(a, b) => {
            term(a, out);
            out.push_str(" = ");
            term(b, out);
        }
        Formula::Not(a) => {
            if followed && ends_in_quantifier(a) {
                return bracketed(f, n, out);
            }
            out.push_str(n.not());
            tight(a, n, out);
        }
        Formula::Quant(q, v, a) => {
            if followed {
                return bracketed(f, n, out);
            }
            out.push_str(&n.quant(*q, v));
            tight(a, n, out);
        }
        Formula::Bin(op, a, b) => {
            let l = level(*op);
            if l < least {
                return bracketed(f, n, out);
            }
            let (left, right) = if *op == Op::Implies { (l + 1, l) } else { (l, l + 1) };
            write(a, n, left, true, out);
            out.push(' ');
            out.push_str(n.op(*op));
            out.push(' ');
            write(b, n, right, followed, out);
        }
    }
}

/// The operand of a negation or a quantifier: a unit. An equation is bracketed, since `¬a = b` reads badly.
fn tight(f: &Formula, n: Notation, out: &mut String) {
    match f {
        Formula::Bin(..) | Formula::Equal(..) => bracketed(f, n, out),
        _ => write(f, n, 0, false, out),
    }
}

fn arguments(args: &[Term], out: &mut String) {
    if args.is_empty() {
        return;
    }
    out.push('(');
    for (i, a) in args.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        term(a, out);
    }
    out.push(')');
}

fn term(t: &Term, out: &mut String) {
    match t {
        Term::Var(v) | Term::Const(v) => out.push_str(v),
        Term::Func(f, args) => {
            out.push_str(f);
            arguments(args, out);
        }
    }
}

/// The pieces a formula is made of, for token-based scores: names, signs, brackets and commas one by one.
pub fn pieces(f: &Formula) -> Vec<String> {
    let text = print(f, Notation::Unicode);
    let mut out: Vec<String> = vec![];
    let mut word = String::new();
    for c in text.chars() {
        let sign = matches!(c, '∀' | '∃' | '¬' | '∧' | '∨' | '⊕' | '→' | '↔' | '(' | ')' | ',' | '=' | '⊤' | '⊥');
        if (sign || c == ' ') && !word.is_empty() {
            out.push(std::mem::take(&mut word));
        }
        if sign {
            out.push(c.to_string());
        } else if c != ' ' {
            word.push(c);
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}
