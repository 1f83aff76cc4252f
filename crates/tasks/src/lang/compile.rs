//! From trees to instructions for the stack machine. Names become slots, so unknown names, wrong numbers of arguments
//! and stray `break`s are found before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use postgrad_base::{Error, Result};

use super::ast::*;
use super::builtin::Builtin;
use super::value::Value;

#[derive(Clone, Debug)]
pub(super) enum Code {
    /// A statement begins.
    Line(u32),
    Const(u32),
    Load(u32),
    Store(u32),
    Pop,
    Neg,
    Not,
    Bin(BinOp),
    Index,
    MakeList(u32),
    MakeMap(u32),
    Jump(u32),
    /// Pops a condition; jumps if it is false.
    Branch {
        id: u32,
        other: u32,
    },
    /// Short circuits: keep a false (true) value and jump, else pop it.
    AndJump(u32),
    OrJump(u32),
    WantBool,
    StoreAt {
        slot: u32,
        indices: u32,
        op: Option<BinOp>,
    },
    PushAt {
        slot: u32,
        indices: u32,
    },
    RemoveAt {
        slot: u32,
        indices: u32,
    },
    Call {
        function: u32,
        args: u32,
    },
    Builtin {
        builtin: Builtin,
        args: u32,
    },
    Return,
    IterValue,
    /// `for` over `range(...)` without making the list.
    IterRange {
        args: u32,
    },
    IterNext {
        slot: u32,
        id: u32,
        exit: u32,
    },
    IterEnd,
    Assert {
        message: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub name: String,
    pub params: u32,
    pub line: u32,
    pub slots: Vec<Arc<str>>,
    pub code: Vec<Code>,
}

/// Where a program can go two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    pub line: u32,
    /// `if`, `while` or `for`.
    pub kind: &'static str,
}

/// A checked program, ready to run any number of times, from any thread.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub(super) units: Vec<Unit>,
    pub(super) by_name: BTreeMap<String, usize>,
    pub(super) consts: Vec<Value>,
    pub(super) branches: Vec<Branch>,
}

impl Compiled {
    /// Every place where the program can go two ways, by branch number.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Lines on which a statement begins, sorted.
    pub fn lines(&self) -> Vec<u32> {
        let mut lines: Vec<u32> = self
            .units
            .iter()
            .flat_map(|u| &u.code)
            .filter_map(|c| if let Code::Line(l) = c { Some(*l) } else { None })
            .collect();
        lines.sort();
        lines.dedup();
        lines
    }

    /// Functions with their numbers of parameters.
    pub fn functions(&self) -> impl Iterator<Item = (&str, usize)> {
        self.by_name.iter().map(|(n, &i)| (n.as_str(), self.units[i].params as usize))
    }
}

pub(super) const SCRIPT: &str = "(script)";

/// Checks a program and translates it.
pub fn compile(p: &Program) -> Result<Compiled> {
    let mut out = Compiled { units: vec![], by_name: BTreeMap::new(), consts: vec![], branches: vec![] };
    for (i, f) in p.functions.iter().enumerate() {
        let at = |e: Error| e.at(format!("line {}", f.line));
        if Builtin::named(&f.name).is_some() || matches!(f.name.as_str(), "push" | "remove") {
            return Err(at(Error::work(format!("`{}` is built in", f.name))));
        }
        if out.by_name.insert(f.name.clone(), i + 1).is_some() {
            return Err(at(Error::work(format!("function `{}` is defined twice", f.name))));
        }
    }
    let arity: Vec<usize> = p.functions.iter().map(|f| f.params.len()).collect();
    let mut unit = |name: &str, line, params: &[String], body: &[Stmt]| -> Result<Unit> {
        let mut c = UnitCompiler {
            out: &mut out,
            arity: &arity,
            unit: Unit { name: name.into(), params: params.len() as u32, line, slots: vec![], code: vec![] },
            scopes: vec![vec![]],
            loops: vec![],
            line,
        };
        for p in params {
            if c.scopes[0].iter().any(|(n, _)| n == p) {
                return Err(c.error(format!("parameter `{p}` is named twice")));
            }
            c.declare(p);
        }
        c.body(body)?;
        let none = c.constant(Value::None);
        c.emit(none);
        c.emit(Code::Return);
        Ok(c.unit)
    };
    let mut units = vec![unit(SCRIPT, 1, &[], &p.script)?];
    for f in &p.functions {
        units.push(unit(&f.name, f.line, &f.params, &f.body)?);
    }
    out.units = units;
    Ok(out)
}

struct Loop {
    head: u32,
    breaks: Vec<usize>,
}

struct UnitCompiler<'a> {
    out: &'a mut Compiled,
    arity: &'a [usize],
    unit: Unit,
    scopes: Vec<Vec<(String, u32)>>,
    loops: Vec<Loop>,
    line: u32,
}

impl UnitCompiler<'_> {
    fn error(&self, what: String) -> Error {
        Error::work(what).at(format!("line {}", self.line))
    }

    fn emit(&mut self, c: Code) -> usize {
        self.unit.code.push(c);
        self.unit.code.len() - 1
    }

    fn here(&self) -> u32 {
        self.unit.code.len() as u32
    }

    fn constant(&mut self, v: Value) -> Code {
        self.out.consts.push(v);
        Code::Const(self.out.consts.len() as u32 - 1)
    }

    fn branch(&mut self, kind: &'static str) -> u32 {
        self.out.branches.push(Branch { line: self.line, kind });
        self.out.branches.len() as u32 - 1
    }

    fn declare(&mut self, name: &str) -> u32 {
        let slot = self.unit.slots.len() as u32;
        self.unit.slots.push(name.into());
        self.scopes.last_mut().expect("the function's own scope").push((name.into(), slot));
        slot
    }

    fn slot(&self, name: &str) -> Result<u32> {
        let found = self.scopes.iter().rev().flat_map(|s| s.iter().rev()).find(|(n, _)| n == name);
        found.map(|(_, s)| *s).ok_or_else(|| {
            self.error(format!("unknown variable `{name}`")).help(format!("declare it with `let {name} = ...;`"))
        })
    }

    /// Points the jump at `at` to this place.
    fn land(&mut self, at: usize) {
        let here = self.here();
        match &mut self.unit.code[at] {
            Code::Jump(to) | Code::AndJump(to) | Code::OrJump(to) => *to = here,
            Code::Branch { other, .. } => *other = here,
            Code::IterNext { exit, .. } => *exit = here,
            _ => unreachable!("only jumps are landed"),
        }
    }

    fn body(&mut self, body: &[Stmt]) -> Result<()> {
        self.scopes.push(vec![]);
        for s in body {
            self.stmt(s)?;
        }
        self.scopes.pop();
        Ok(())
    }

    fn place(&mut self, p: &Place) -> Result<(u32, u32)> {
        let slot = self.slot(&p.name)?;
        for i in &p.indices {
            self.expr(i)?;
        }
        Ok((slot, p.indices.len() as u32))
    }

    fn stmt(&mut self, s: &Stmt) -> Result<()> {
        self.line = s.line;
        match &s.kind {
            StmtKind::While(c, body) => {
                let head = self.here();
                self.emit(Code::Line(s.line));
                self.expr(c)?;
                let id = self.branch("while");
                let exit = self.emit(Code::Branch { id, other: 0 });
                self.loop_body(head, body)?;
                self.land(exit);
                self.leave_loop();
                return Ok(());
            }
            StmtKind::For(var, e, body) => return self.for_loop(s.line, var, e, body),
            _ => {}
        }
        self.emit(Code::Line(s.line));
        match &s.kind {
            StmtKind::Let(name, e) => {
                self.expr(e)?;
                let slot = self.declare(name);
                self.emit(Code::Store(slot));
            }
            StmtKind::Assign(p, op, e) if p.indices.is_empty() => {
                let slot = self.slot(&p.name)?;
                if op.is_some() {
                    self.emit(Code::Load(slot));
                }
                self.expr(e)?;
                if let Some(op) = op {
                    self.emit(Code::Bin(*op));
                }
                self.emit(Code::Store(slot));
            }
            StmtKind::Assign(p, op, e) => {
                let (slot, indices) = self.place(p)?;
                self.expr(e)?;
                self.emit(Code::StoreAt { slot, indices, op: *op });
            }
            StmtKind::Push(p, e) => {
                let (slot, indices) = self.place(p)?;
                self.expr(e)?;
                self.emit(Code::PushAt { slot, indices });
            }
            StmtKind::Remove(p, e) => {
                let (slot, indices) = self.place(p)?;
                self.expr(e)?;
                self.emit(Code::RemoveAt { slot, indices });
            }
            StmtKind::If(c, then, other) => {
                self.expr(c)?;
                let id = self.branch("if");
                let no = self.emit(Code::Branch { id, other: 0 });
                self.body(then)?;
                if other.is_empty() {
                    self.land(no);
                } else {
                    let done = self.emit(Code::Jump(0));
                    self.land(no);
                    self.body(other)?;
                    self.land(done);
                }
            }
            StmtKind::Break => {
                let at = self.emit(Code::Jump(0));
                match self.loops.last_mut() {
                    Some(l) => l.breaks.push(at),
                    None => return Err(self.error("`break` outside a loop".into())),
                }
            }
            StmtKind::Continue => match self.loops.last() {
                Some(l) => {
                    let head = l.head;
                    self.emit(Code::Jump(head));
                }
                None => return Err(self.error("`continue` outside a loop".into())),
            },
            StmtKind::Return(e) => {
                match e {
                    Some(e) => self.expr(e)?,
                    None => {
                        let none = self.constant(Value::None);
                        self.emit(none);
                    }
                }
                self.emit(Code::Return);
            }
            StmtKind::Assert(e, message) => {
                self.expr(e)?;
                if let Some(m) = message {
                    self.expr(m)?;
                }
                self.emit(Code::Assert { message: message.is_some() });
            }
            StmtKind::Expr(e) => {
                self.expr(e)?;
                self.emit(Code::Pop);
            }
            StmtKind::While(..) | StmtKind::For(..) => unreachable!("handled above"),
        }
        Ok(())
    }

    fn for_loop(&mut self, line: u32, var: &str, e: &Expr, body: &[Stmt]) -> Result<()> {
        match e {
            Expr::Call(f, args) if f == "range" && (1..=3).contains(&args.len()) => {
                for a in args {
                    self.expr(a)?;
                }
                self.emit(Code::IterRange { args: args.len() as u32 });
            }
            _ => {
                self.expr(e)?;
                self.emit(Code::IterValue);
            }
        }
        let head = self.here();
        self.emit(Code::Line(line));
        self.scopes.push(vec![]);
        let slot = self.declare(var);
        let id = self.branch("for");
        let exit = self.emit(Code::IterNext { slot, id, exit: 0 });
        self.loop_body(head, body)?;
        self.land(exit);
        self.leave_loop();
        self.emit(Code::IterEnd);
        self.scopes.pop();
        Ok(())
    }

    fn loop_body(&mut self, head: u32, body: &[Stmt]) -> Result<()> {
        self.loops.push(Loop { head, breaks: vec![] });
        self.body(body)?;
        self.emit(Code::Jump(head));
        Ok(())
    }

    fn leave_loop(&mut self) {
        for at in self.loops.pop().expect("a loop was entered").breaks {
            self.land(at);
        }
    }

    fn expr(&mut self, e: &Expr) -> Result<()> {
        match e {
            Expr::None => self.value(Value::None),
            Expr::Bool(b) => self.value(Value::Bool(*b)),
            Expr::Int(n) => self.value(Value::Int(*n)),
            Expr::Str(s) => self.value(Value::str(s)),
            Expr::Var(name) => {
                let slot = self.slot(name)?;
                self.emit(Code::Load(slot));
            }
            Expr::List(items) => {
                for i in items {
                    self.expr(i)?;
                }
                self.emit(Code::MakeList(items.len() as u32));
            }
            Expr::Map(pairs) => {
                for (k, v) in pairs {
                    self.expr(k)?;
                    self.expr(v)?;
                }
                self.emit(Code::MakeMap(pairs.len() as u32));
            }
            Expr::Un(op, a) => {
                self.expr(a)?;
                self.emit(if *op == UnOp::Neg { Code::Neg } else { Code::Not });
            }
            Expr::Bin(op, a, b) => {
                self.expr(a)?;
                self.expr(b)?;
                self.emit(Code::Bin(*op));
            }
            Expr::And(a, b) | Expr::Or(a, b) => {
                self.expr(a)?;
                let jump = self.emit(if matches!(e, Expr::And(..)) { Code::AndJump(0) } else { Code::OrJump(0) });
                self.expr(b)?;
                self.emit(Code::WantBool);
                self.land(jump);
            }
            Expr::Index(a, i) => {
                self.expr(a)?;
                self.expr(i)?;
                self.emit(Code::Index);
            }
            Expr::Call(name, args) => return self.call(name, args),
        }
        Ok(())
    }

    fn value(&mut self, v: Value) {
        let c = self.constant(v);
        self.emit(c);
    }

    fn call(&mut self, name: &str, args: &[Expr]) -> Result<()> {
        for a in args {
            self.expr(a)?;
        }
        let args = args.len() as u32;
        if let Some(&i) = self.out.by_name.get(name) {
            let want = self.arity[i - 1];
            if want != args as usize {
                return Err(self.error(format!("`{name}` takes {want} arguments, not {args}")));
            }
            self.emit(Code::Call { function: i as u32, args });
            return Ok(());
        }
        let Some(builtin) = Builtin::named(name) else {
            return Err(match name {
                "push" | "remove" => self.error(format!("`{name}` is a statement on a variable, not a value")),
                _ => self.error(format!("unknown function `{name}`")),
            });
        };
        let (least, most) = builtin.arity();
        if !(least..=most).contains(&args) {
            return Err(self.error(format!("`{name}` takes {least} to {most} arguments, not {args}")));
        }
        self.emit(Code::Builtin { builtin, args });
        Ok(())
    }
}
