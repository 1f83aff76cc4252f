//! The printer: four spaces a level, one statement a line, no more brackets than needed. What it prints parses back to
//! the same tree.

use std::fmt::{self, Display, Write as _};

use super::ast::*;

impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self))
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        expr(self, 0, &mut out);
        f.write_str(&out)
    }
}

/// The program's text.
pub fn print(p: &Program) -> String {
    let mut out = String::new();
    for f in &p.functions {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = write!(out, "fn {}({}) ", f.name, f.params.join(", "));
        block(&f.body, 0, &mut out);
        out.push('\n');
    }
    if !out.is_empty() && !p.script.is_empty() {
        out.push('\n');
    }
    p.script.iter().for_each(|s| stmt(s, 0, &mut out));
    out
}

fn indent(n: usize, out: &mut String) {
    (0..n).for_each(|_| out.push_str("    "));
}

fn block(body: &[Stmt], level: usize, out: &mut String) {
    out.push_str("{\n");
    body.iter().for_each(|s| stmt(s, level + 1, out));
    indent(level, out);
    out.push('}');
}

fn place(p: &Place, out: &mut String) {
    out.push_str(&p.name);
    for i in &p.indices {
        out.push('[');
        expr(i, 0, out);
        out.push(']');
    }
}

fn stmt(s: &Stmt, level: usize, out: &mut String) {
    indent(level, out);
    match &s.kind {
        StmtKind::If(..) => {
            conditional(s, level, out);
            out.push('\n');
            return;
        }
        StmtKind::While(c, body) => {
            out.push_str("while ");
            expr(c, 0, out);
            out.push(' ');
            block(body, level, out);
            out.push('\n');
            return;
        }
        StmtKind::For(v, e, body) => {
            let _ = write!(out, "for {v} in ");
            expr(e, 0, out);
            out.push(' ');
            block(body, level, out);
            out.push('\n');
            return;
        }
        StmtKind::Let(name, e) => {
            let _ = write!(out, "let {name} = ");
            expr(e, 0, out);
        }
        StmtKind::Assign(p, op, e) => {
            place(p, out);
            let _ = write!(out, " {}= ", op.map_or("", BinOp::sign));
            expr(e, 0, out);
        }
        StmtKind::Break => out.push_str("break"),
        StmtKind::Continue => out.push_str("continue"),
        StmtKind::Return(e) => {
            out.push_str("return");
            if let Some(e) = e {
                out.push(' ');
                expr(e, 0, out);
            }
        }
        StmtKind::Assert(e, message) => {
            out.push_str("assert ");
            expr(e, 0, out);
            if let Some(m) = message {
                out.push_str(", ");
                expr(m, 0, out);
            }
        }
        StmtKind::Push(p, e) | StmtKind::Remove(p, e) => {
            out.push_str(if matches!(s.kind, StmtKind::Push(..)) { "push(" } else { "remove(" });
            place(p, out);
            out.push_str(", ");
            expr(e, 0, out);
            out.push(')');
        }
        StmtKind::Expr(e) => expr(e, 0, out),
    }
    out.push_str(";\n");
}

fn conditional(s: &Stmt, level: usize, out: &mut String) {
    let StmtKind::If(c, then, other) = &s.kind else { return };
    out.push_str("if ");
    expr(c, 0, out);
    out.push(' ');
    block(then, level, out);
    match &other[..] {
        [] => {}
        [only] if matches!(only.kind, StmtKind::If(..)) => {
            out.push_str(" else ");
            conditional(only, level, out);
        }
        _ => {
            out.push_str(" else ");
            block(other, level, out);
        }
    }
}

pub(super) fn quote(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn level_of(e: &Expr) -> u8 {
    match e {
        Expr::Or(..) => 1,
        Expr::And(..) => 2,
        Expr::Un(UnOp::Not, _) => 3,
        Expr::Bin(op, ..) => op.level(),
        Expr::Un(UnOp::Neg, _) => 7,
        _ => 8,
    }
}

fn expr(e: &Expr, least: u8, out: &mut String) {
    if level_of(e) < least {
        out.push('(');
        expr(e, 0, out);
        out.push(')');
        return;
    }
    let mut two = |a: &Expr, b: &Expr, sign: &str, left: u8, right: u8| {
        expr(a, left, out);
        let _ = write!(out, " {sign} ");
        expr(b, right, out);
    };
    match e {
        Expr::Or(a, b) => two(a, b, "or", 1, 2),
        Expr::And(a, b) => two(a, b, "and", 2, 3),
        Expr::Bin(op, a, b) => {
            let l = op.level();
            two(a, b, op.sign(), if l == 4 { 5 } else { l }, l + 1)
        }
        Expr::Un(UnOp::Not, a) => {
            out.push_str("not ");
            expr(a, 3, out);
        }
        Expr::Un(UnOp::Neg, a) => {
            out.push('-');
            // `-5` is a number: the negation of 5, or of what starts with it, is bracketed
            let number = matches!(leftmost(a), Expr::Int(0..));
            expr(a, if number { 9 } else { 7 }, out);
        }
        Expr::Index(a, i) => {
            expr(a, 8, out);
            out.push('[');
            expr(i, 0, out);
            out.push(']');
        }
        Expr::None => out.push_str("none"),
        Expr::Bool(b) => {
            let _ = write!(out, "{b}");
        }
        Expr::Int(n) => {
            let _ = write!(out, "{n}");
        }
        Expr::Str(s) => quote(s, out),
        Expr::Var(v) => out.push_str(v),
        Expr::List(items) => {
            out.push('[');
            listed(items, out);
            out.push(']');
        }
        Expr::Map(pairs) => {
            out.push('{');
            for (i, (k, v)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                expr(k, 0, out);
                out.push_str(": ");
                expr(v, 0, out);
            }
            out.push('}');
        }
        Expr::Call(f, args) => {
            out.push_str(f);
            out.push('(');
            listed(args, out);
            out.push(')');
        }
    }
}

fn leftmost(e: &Expr) -> &Expr {
    match e {
        Expr::Index(a, _) => leftmost(a),
        _ => e,
    }
}

fn listed(items: &[Expr], out: &mut String) {
    for (i, e) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        expr(e, 0, out);
    }
}
