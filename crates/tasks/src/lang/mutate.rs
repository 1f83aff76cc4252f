//! Mutants: programs that differ in one small place, and how well tests tell them apart.

use postgrad_base::Stream;

use super::ast::*;
use super::compile::compile;
use super::run::{Limits, Watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MutationKind {
    /// `<` for `<=`, `==` for `!=` …
    Comparison,
    /// `+` for `-`, `*` for `/` …
    Arithmetic,
    /// `and` for `or`.
    Connective,
    /// A number one larger or smaller.
    Constant,
    /// A boolean flipped or a condition negated.
    Negation,
    /// The sides of `-`, `/`, `%` and comparisons exchanged.
    Swap,
    /// Another variable of the same function.
    Variable,
    /// A statement left out.
    Deletion,
}

#[derive(Clone, Debug)]
pub struct Mutant {
    pub kind: MutationKind,
    /// Line of the statement that changed, in the program it was made from.
    pub line: u32,
    pub program: Program,
}

/// Every mutant that still compiles and prints differently, at most `limit`, in order of place.
pub fn mutants(p: &Program, limit: usize) -> Vec<Mutant> {
    let mut out = vec![];
    let mut site = 0;
    loop {
        let mut options = Changes::default();
        list(p, site, &mut options);
        if !options.found {
            return out;
        }
        for (kind, change) in options.list {
            let mut program = p.clone();
            apply(&mut program, site, &change);
            if program != *p && compile(&program).is_ok() {
                out.push(Mutant { kind, line: options.line, program });
            }
            if out.len() >= limit {
                return out;
            }
        }
        site += 1;
    }
}

/// One mutant drawn at random; `None` where there is none.
pub fn mutant(p: &Program, stream: &mut Stream) -> Option<Mutant> {
    let mut all = mutants(p, 2000);
    if all.is_empty() { None } else { Some(all.swap_remove(stream.below(all.len()))) }
}

#[derive(Clone, Debug)]
enum Edit {
    Expr(Expr),
    Delete,
}

#[derive(Default)]
struct Changes {
    found: bool,
    line: u32,
    list: Vec<(MutationKind, Edit)>,
}

/// A site is a statement or an expression; sites are numbered in the order of the text.
struct Walk<'a> {
    site: usize,
    next: usize,
    names: Vec<String>,
    line: u32,
    action: Action<'a>,
}

enum Action<'a> {
    List(&'a mut Changes),
    Apply(&'a Edit),
}

fn list(p: &Program, site: usize, changes: &mut Changes) {
    let mut copy = p.clone();
    let mut w = Walk { site, next: 0, names: vec![], line: 0, action: Action::List(changes) };
    w.program(&mut copy);
}

fn apply(p: &mut Program, site: usize, edit: &Edit) {
    let mut w = Walk { site, next: 0, names: vec![], line: 0, action: Action::Apply(edit) };
    w.program(p);
}

fn variables(body: &[Stmt], out: &mut Vec<String>) {
    for s in body {
        match &s.kind {
            StmtKind::Let(n, _) => out.push(n.clone()),
            StmtKind::For(n, _, b) => {
                out.push(n.clone());
                variables(b, out);
            }
            StmtKind::While(_, b) => variables(b, out),
            StmtKind::If(_, a, b) => {
                variables(a, out);
                variables(b, out);
            }
            _ => {}
        }
    }
}

impl Walk<'_> {
    fn program(&mut self, p: &mut Program) {
        for f in &mut p.functions {
            self.names = f.params.clone();
            variables(&f.body, &mut self.names);
            self.names.dedup();
            self.body(&mut f.body);
        }
        self.names.clear();
        variables(&p.script, &mut self.names);
        self.body(&mut p.script);
    }

    fn here(&mut self) -> bool {
        self.next += 1;
        self.next - 1 == self.site
    }

    fn body(&mut self, body: &mut Vec<Stmt>) {
        let mut i = 0;
        while i < body.len() {
            self.line = body[i].line;
            if self.here() {
                match &mut self.action {
                    Action::List(c) => {
                        c.found = true;
                        c.line = self.line;
                        if !matches!(body[i].kind, StmtKind::Let(..)) {
                            c.list.push((MutationKind::Deletion, Edit::Delete));
                        }
                    }
                    Action::Apply(Edit::Delete) => {
                        body.remove(i);
                        return;
                    }
                    Action::Apply(_) => {}
                }
            }
            self.stmt(&mut body[i]);
            i += 1;
        }
    }

    fn stmt(&mut self, s: &mut Stmt) {
        match &mut s.kind {
            StmtKind::Let(_, e) | StmtKind::Return(Some(e)) | StmtKind::Expr(e) => self.expr(e),
            StmtKind::Assign(p, _, e) | StmtKind::Push(p, e) | StmtKind::Remove(p, e) => {
                p.indices.iter_mut().for_each(|i| self.expr(i));
                self.expr(e);
            }
            StmtKind::If(c, a, b) => {
                self.expr(c);
                self.body(a);
                self.body(b);
            }
            StmtKind::While(c, b) | StmtKind::For(_, c, b) => {
                self.expr(c);
                self.body(b);
            }
            StmtKind::Assert(e, m) => {
                self.expr(e);
                m.iter_mut().for_each(|m| self.expr(m));
            }
            StmtKind::Break | StmtKind::Continue | StmtKind::Return(None) => {}
        }
    }

    fn expr(&mut self, e: &mut Expr) {
        if self.here() {
            let line = self.line;
            match &mut self.action {
                Action::List(c) => {
                    c.found = true;
                    c.line = line;
                    c.list.extend(options(e, &self.names).into_iter().map(|(k, e)| (k, Edit::Expr(e))));
                }
                Action::Apply(Edit::Expr(new)) => {
                    *e = new.clone();
                    return;
                }
                Action::Apply(_) => {}
            }
        }
        match e {
            Expr::List(items) | Expr::Call(_, items) => items.iter_mut().for_each(|i| self.expr(i)),
            Expr::Map(pairs) => pairs.iter_mut().for_each(|(k, v)| {
                self.expr(k);
                self.expr(v);
            }),
            Expr::Un(_, a) => self.expr(a),
            Expr::Bin(_, a, b) | Expr::And(a, b) | Expr::Or(a, b) | Expr::Index(a, b) => {
                self.expr(a);
                self.expr(b);
            }
            _ => {}
        }
    }
}

fn options(e: &Expr, names: &[String]) -> Vec<(MutationKind, Expr)> {
    use BinOp::*;
    use MutationKind::*;
    match e {
        Expr::Int(n) => {
            [n.checked_add(1), n.checked_sub(1)].into_iter().flatten().map(|n| (Constant, Expr::Int(n))).collect()
        }
        Expr::Bool(b) => vec![(Negation, Expr::Bool(!b))],
        Expr::Var(v) => {
            let mut others: Vec<&String> = names.iter().filter(|n| *n != v).collect();
            others.sort();
            others.dedup();
            others.into_iter().map(|n| (Variable, Expr::Var(n.clone()))).collect()
        }
        Expr::And(a, b) => vec![(Connective, Expr::Or(a.clone(), b.clone()))],
        Expr::Or(a, b) => vec![(Connective, Expr::And(a.clone(), b.clone()))],
        Expr::Un(UnOp::Not, a) => vec![(Negation, (**a).clone())],
        Expr::Bin(op, a, b) => {
            let (kind, others): (_, &[BinOp]) = match op {
                Lt => (Comparison, &[Le, Gt]),
                Le => (Comparison, &[Lt, Ge]),
                Gt => (Comparison, &[Ge, Lt]),
                Ge => (Comparison, &[Gt, Le]),
                Eq => (Comparison, &[Ne]),
                Ne => (Comparison, &[Eq]),
                Add => (Arithmetic, &[Sub]),
                Sub => (Arithmetic, &[Add]),
                Mul => (Arithmetic, &[Add]),
                Div => (Arithmetic, &[Rem]),
                Rem => (Arithmetic, &[Div]),
                In => (Comparison, &[]),
            };
            let mut list: Vec<_> = others.iter().map(|o| (kind, Expr::Bin(*o, a.clone(), b.clone()))).collect();
            if matches!(op, Sub | Div | Rem) && a != b {
                list.push((Swap, Expr::Bin(*op, b.clone(), a.clone())));
            }
            if *op == In {
                list.push((Negation, Expr::Un(UnOp::Not, Box::new(e.clone()))));
            }
            list
        }
        _ => vec![],
    }
}

/// What a test script says about a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutationScore {
    /// The tests pass on the program itself. If not, nothing counts as killed.
    pub valid: bool,
    pub killed: usize,
    pub mutants: usize,
}

impl MutationScore {
    pub fn share(&self) -> f64 {
        if self.mutants == 0 { 0.0 } else { self.killed as f64 / self.mutants as f64 }
    }
}

/// How many of the mutants the tests kill: a mutant is killed if the tests pass on the program and fail (or run into a
/// limit) on the mutant.
pub fn score(program: &Program, tests: &Program, mutants: &[Mutant], limits: &Limits) -> MutationScore {
    let passes =
        |p: &Program| compile(&p.followed_by(tests)).is_ok_and(|c| c.run(limits, Watch::NOTHING).result.is_ok());
    let valid = passes(program);
    let killed = if valid { mutants.iter().filter(|m| !passes(&m.program)).count() } else { 0 };
    MutationScore { valid, killed, mutants: mutants.len() }
}
