//! The stack machine: counts every step, bounds everything, and never panics.
//!
//! One step is one instruction: one per part of an expression, one per statement begun, one per jump, and more for work
//! on long values (about one per 8 items copied, one per 16 bytes of text). Cells count items and 16-byte pieces of text
//! ever made, freed or not. Both depend on the program and its input alone, so a reward that uses them needs no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ast::BinOp;
use super::builtin::range_of;
use super::compile::{Code, Compiled, Unit};
use super::run::{Change, Coverage, Fault, FaultKind, Limits, Run, TraceStep, Watch};
use super::value::{Key, List, MAX_NESTING, Map, Value, equal, write};

impl Compiled {
    /// Runs the statements outside functions.
    pub fn run(&self, limits: &Limits, watch: Watch) -> Run {
        self.start(0, &[], limits, watch)
    }

    /// Calls a function.
    pub fn call(&self, name: &str, args: &[Value], limits: &Limits, watch: Watch) -> Run {
        match self.by_name.get(name) {
            Some(&i) if args.iter().any(|a| a.nesting() > MAX_NESTING) => {
                self.refuse(self.units[i].line, format!("an argument nests deeper than {MAX_NESTING}"))
            }
            Some(&i) if self.units[i].params as usize == args.len() => self.start(i, args, limits, watch),
            Some(&i) => {
                let want = self.units[i].params;
                self.refuse(self.units[i].line, format!("`{name}` takes {want} arguments, not {}", args.len()))
            }
            None => self.refuse(1, format!("there is no function `{name}`")),
        }
    }

    fn refuse(&self, line: u32, message: String) -> Run {
        let fault = Fault { kind: FaultKind::Name, line, message };
        Run {
            result: Err(fault),
            steps: 0,
            cells: 0,
            output: String::new(),
            trace: vec![],
            trace_cut: false,
            coverage: None,
        }
    }

    fn start(&self, unit: usize, args: &[Value], limits: &Limits, watch: Watch) -> Run {
        let mut vm = Vm {
            program: self,
            limits: *limits,
            steps: 0,
            cells: 0,
            stack: vec![],
            frames: vec![],
            iters: vec![],
            output: String::new(),
            trace: watch.trace.then(Vec::new),
            trace_cut: false,
            hits: watch.coverage.then(|| (BTreeMap::new(), vec![(0, 0); self.branches.len()])),
        };
        let result = vm.enter(unit, args.to_vec()).and_then(|()| vm.execute());
        let result = result.map_err(|(kind, message)| Fault { kind, line: vm.line(), message });
        let coverage = vm.hits.map(|(lines, branches)| Coverage {
            lines,
            branches: self.branches.iter().cloned().zip(branches).map(|(b, (yes, no))| (b, yes, no)).collect(),
        });
        Run {
            result,
            steps: vm.steps.min(limits.steps),
            cells: vm.cells.min(limits.cells),
            output: vm.output,
            trace: vm.trace.unwrap_or_default(),
            trace_cut: vm.trace_cut,
            coverage,
        }
    }
}

enum Iter {
    Range { next: Option<i64>, bound: i64, stride: i64 },
    Items { of: Arc<List>, next: usize },
}

struct Frame {
    unit: usize,
    pc: usize,
    /// Where its variables begin on the stack.
    base: usize,
    iters: usize,
    line: u32,
    /// Its latest statement in the trace.
    step: Option<usize>,
}

/// Times each line began; times each branch went on and not.
type Hits = (BTreeMap<u32, u64>, Vec<(u64, u64)>);

pub(super) struct Vm<'p> {
    program: &'p Compiled,
    limits: Limits,
    steps: u64,
    cells: u64,
    stack: Vec<Value>,
    frames: Vec<Frame>,
    iters: Vec<Iter>,
    output: String,
    trace: Option<Vec<TraceStep>>,
    trace_cut: bool,
    hits: Option<Hits>,
}

/// Variables and intermediate values of all calls together.
const MAX_STACK: usize = 1 << 20;

type Step<T> = Result<T, (FaultKind, String)>;

fn fault<T>(kind: FaultKind, message: impl Into<String>) -> Step<T> {
    Err((kind, message.into()))
}

impl<'p> Vm<'p> {
    fn line(&self) -> u32 {
        self.frames.last().map_or(1, |f| f.line)
    }

    /// Takes steps and cells.
    pub(super) fn charge(&mut self, steps: u64, cells: u64) -> Step<()> {
        self.steps = self.steps.saturating_add(steps);
        self.cells = self.cells.saturating_add(cells);
        if self.steps > self.limits.steps {
            return fault(FaultKind::Steps, format!("more than {} steps", self.limits.steps));
        }
        if self.cells > self.limits.cells {
            return fault(FaultKind::Cells, format!("more than {} cells", self.limits.cells));
        }
        Ok(())
    }

    pub(super) fn left(&self) -> u64 {
        self.limits.steps.saturating_sub(self.steps)
    }

    /// Is there room for a text of this many bytes?
    pub(super) fn room(&self, bytes: u64) -> Step<()> {
        if self.cells + bytes / 16 > self.limits.cells {
            return fault(FaultKind::Cells, format!("more than {} cells", self.limits.cells));
        }
        Ok(())
    }

    pub(super) fn string(&mut self, s: String) -> Step<Value> {
        self.charge(s.len() as u64 / 16, 1 + s.len() as u64 / 16)?;
        Ok(Value::Str(s.into()))
    }

    pub(super) fn text(&mut self, v: &Value) -> Step<String> {
        let room = (self.limits.cells - self.cells.min(self.limits.cells)).min(self.left()).saturating_mul(8);
        let mut out = String::new();
        if !write(v, room as usize, &mut out) {
            return fault(FaultKind::Cells, "the text of a value is too long");
        }
        self.charge(out.len() as u64 / 8, 0)?;
        Ok(out)
    }

    pub(super) fn output_room(&self, bytes: usize) -> Step<()> {
        if self.output.len() + bytes > self.limits.output {
            return fault(FaultKind::Output, format!("more than {} bytes printed", self.limits.output));
        }
        Ok(())
    }

    pub(super) fn print(&mut self, line: &str) -> Step<()> {
        self.output_room(line.len())?;
        self.output.push_str(line);
        Ok(())
    }

    fn enter(&mut self, unit: usize, args: Vec<Value>) -> Step<()> {
        if self.frames.len() >= self.limits.calls {
            return fault(FaultKind::Calls, format!("more than {} calls inside calls", self.limits.calls));
        }
        let u: &'p Unit = &self.program.units[unit];
        self.charge(u.slots.len() as u64 / 8, 0)?;
        if self.stack.len() + u.slots.len() > MAX_STACK {
            return fault(FaultKind::Calls, format!("more than {MAX_STACK} values on the stack"));
        }
        let base = self.stack.len();
        let params = args.len();
        self.stack.extend(args);
        self.stack.resize(base + u.slots.len(), Value::None);
        self.frames.push(Frame { unit, pc: 0, base, iters: self.iters.len(), line: u.line, step: None });
        if self.trace.is_some() && params > 0 {
            self.begin(u.line);
            for i in 0..params {
                self.changed(i as u32, true);
            }
        }
        Ok(())
    }

    /// Records that a statement begins.
    fn begin(&mut self, line: u32) {
        let depth = self.frames.len() - 1;
        let Some(trace) = &mut self.trace else { return };
        let frame = self.frames.last_mut().expect("a frame runs");
        if trace.len() >= self.limits.trace {
            self.trace_cut = true;
            frame.step = None;
            return;
        }
        frame.step = Some(trace.len());
        let function = self.program.units[frame.unit].name.clone();
        trace.push(TraceStep { line, function, depth, changes: vec![] });
    }

    fn changed(&mut self, slot: u32, new: bool) {
        let Some(trace) = &mut self.trace else { return };
        let frame = self.frames.last().expect("a frame runs");
        let Some(step) = frame.step else { return };
        // a copy of its own, so that watching changes neither sharing nor the count of steps
        let value = self.stack[frame.base + slot as usize].detached(&mut 4096);
        let name = self.program.units[frame.unit].slots[slot as usize].clone();
        trace[step].changes.push(Change { name, new, value });
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().expect("the compiler balances the stack")
    }

    fn condition(&mut self) -> Step<bool> {
        match self.pop() {
            Value::Bool(b) => Ok(b),
            v => fault(FaultKind::Type, format!("a condition must be true or false, not {}", v.type_name())),
        }
    }

    fn execute(&mut self) -> Step<Value> {
        loop {
            self.charge(1, 0)?;
            let frame = self.frames.last_mut().expect("a frame runs");
            let (unit, base) = (frame.unit, frame.base);
            let code = &self.program.units[unit].code[frame.pc];
            frame.pc += 1;
            match code {
                Code::Line(line) => {
                    frame.line = *line;
                    if let Some((lines, _)) = &mut self.hits {
                        *lines.entry(*line).or_default() += 1;
                    }
                    if self.trace.is_some() {
                        self.begin(*line);
                    }
                }
                Code::Const(i) => self.stack.push(self.program.consts[*i as usize].clone()),
                Code::Load(slot) => {
                    let v = self.stack[base + *slot as usize].clone();
                    self.stack.push(v);
                }
                Code::Store(slot) => {
                    let v = self.pop();
                    self.store(*slot, v);
                }
                Code::Pop => {
                    self.pop();
                }
                Code::Neg => match self.pop() {
                    Value::Int(n) => match n.checked_neg() {
                        Some(n) => self.stack.push(Value::Int(n)),
                        None => return fault(FaultKind::Overflow, "the result does not fit into 64 bits"),
                    },
                    v => return fault(FaultKind::Type, format!("no negative of a {}", v.type_name())),
                },
                Code::Not => match self.pop() {
                    Value::Bool(b) => self.stack.push(Value::Bool(!b)),
                    v => return fault(FaultKind::Type, format!("`not` of a {}", v.type_name())),
                },
                Code::Bin(op) => {
                    let b = self.pop();
                    let a = self.pop();
                    let v = self.binary(*op, a, b)?;
                    self.stack.push(v);
                }
                Code::Index => {
                    let i = self.pop();
                    let of = self.pop();
                    let v = self.index(&of, &i)?;
                    self.stack.push(v);
                }
                Code::MakeList(n) => {
                    self.charge(0, 1 + u64::from(*n))?;
                    let items = self.stack.split_off(self.stack.len() - *n as usize);
                    let v = Value::list(items);
                    self.stack.push(nested(v)?);
                }
                Code::MakeMap(n) => {
                    self.charge(u64::from(*n), 1 + 2 * u64::from(*n))?;
                    let mut pairs = self.stack.split_off(self.stack.len() - 2 * *n as usize).into_iter();
                    let mut m = Map { items: BTreeMap::new(), nesting: 1 };
                    while let (Some(k), Some(v)) = (pairs.next(), pairs.next()) {
                        m.nesting = m.nesting.max(v.nesting() + 1);
                        m.items.insert(self.key(&k)?, v);
                    }
                    self.stack.push(nested(Value::Map(Arc::new(m)))?);
                }
                Code::Jump(to) => frame.pc = *to as usize,
                Code::Branch { id, other } => {
                    let holds = self.condition()?;
                    self.took(*id, holds);
                    if !holds {
                        self.jump(*other);
                    }
                }
                Code::AndJump(to) | Code::OrJump(to) => {
                    let stop_at = matches!(code, Code::OrJump(_));
                    match self.condition()? {
                        b if b == stop_at => {
                            self.stack.push(Value::Bool(b));
                            self.jump(*to);
                        }
                        _ => {}
                    }
                }
                Code::WantBool => {
                    let b = self.condition()?;
                    self.stack.push(Value::Bool(b));
                }
                Code::StoreAt { slot, indices, op } => self.store_at(*slot, *indices, *op)?,
                Code::PushAt { slot, indices } => self.push_at(*slot, *indices)?,
                Code::RemoveAt { slot, indices } => self.remove_at(*slot, *indices)?,
                Code::Call { function, args } => {
                    let args = self.stack.split_off(self.stack.len() - *args as usize);
                    self.enter(*function as usize, args)?;
                }
                Code::Builtin { builtin, args } => {
                    let args = self.stack.split_off(self.stack.len() - *args as usize);
                    let v = self.builtin(*builtin, args)?;
                    self.stack.push(v);
                }
                Code::Return => {
                    let v = self.pop();
                    let done = self.frames.pop().expect("a frame runs");
                    self.stack.truncate(done.base);
                    self.iters.truncate(done.iters);
                    if self.frames.is_empty() {
                        return Ok(v);
                    }
                    self.stack.push(v);
                }
                Code::IterValue => {
                    let of = match self.pop() {
                        Value::List(l) => l,
                        Value::Map(m) => {
                            self.charge(m.items.len() as u64, m.items.keys().map(Key::cost).sum::<u64>() * 2)?;
                            Arc::new(List { items: m.items.keys().map(Key::value).collect(), nesting: 2 })
                        }
                        Value::Str(s) => {
                            self.charge(s.len() as u64, 2 * s.len() as u64)?;
                            let items = s.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]))).collect();
                            Arc::new(List { items, nesting: 1 })
                        }
                        v => return fault(FaultKind::Type, format!("`for` over a {}", v.type_name())),
                    };
                    self.iters.push(Iter::Items { of, next: 0 });
                }
                Code::IterRange { args } => {
                    let args = self.stack.split_off(self.stack.len() - *args as usize);
                    let (first, bound, stride) = range_of(&args)?;
                    self.iters.push(Iter::Range { next: Some(first), bound, stride });
                }
                Code::IterNext { slot, id, exit } => {
                    let v = self.iters.last_mut().expect("a loop runs").next();
                    self.took(*id, v.is_some());
                    match v {
                        Some(v) => self.store(*slot, v),
                        None => self.jump(*exit),
                    }
                }
                Code::IterEnd => {
                    self.iters.pop();
                }
                Code::Assert { message } => {
                    let message = if *message { Some(self.pop()) } else { None };
                    if !self.condition()? {
                        return match message {
                            Some(m) => fault(FaultKind::Assert, format!("assertion failed: {}", m.text(500))),
                            None => fault(FaultKind::Assert, "assertion failed"),
                        };
                    }
                }
            }
        }
    }

    fn jump(&mut self, to: u32) {
        self.frames.last_mut().expect("a frame runs").pc = to as usize;
    }

    fn took(&mut self, id: u32, yes: bool) {
        if let Some((_, branches)) = &mut self.hits {
            let b = &mut branches[id as usize];
            *(if yes { &mut b.0 } else { &mut b.1 }) += 1;
        }
    }

    fn store(&mut self, slot: u32, v: Value) {
        let base = self.frames.last().expect("a frame runs").base;
        let tracing = self.trace.is_some();
        // `none` marks a variable that was not set in this call yet; a variable set to `none` reads as new again
        let new = tracing && matches!(self.stack[base + slot as usize], Value::None);
        self.stack[base + slot as usize] = v;
        if tracing {
            self.changed(slot, new);
        }
    }

    fn key(&mut self, v: &Value) -> Step<Key> {
        match Key::from(v) {
            Some(k) => {
                self.charge(k.cost(), 0)?;
                Ok(k)
            }
            None => fault(FaultKind::Type, format!("a {} like this cannot be a key", v.type_name())),
        }
    }

    pub(super) fn lookup(&mut self, m: &Map, key: &Value) -> Step<Option<Value>> {
        let key = self.key(key)?;
        Ok(m.items.get(&key).cloned())
    }

    fn index(&mut self, of: &Value, i: &Value) -> Step<Value> {
        match (of, i) {
            (Value::List(l), Value::Int(i)) => Ok(l.items[place(*i, l.items.len())?].clone()),
            (Value::Str(s), Value::Int(i)) => {
                self.charge(s.len() as u64 / 16, 0)?;
                let at = place(*i, s.chars().count())?;
                Ok(Value::str(s.chars().nth(at).expect("inside the text").encode_utf8(&mut [0; 4])))
            }
            (Value::Map(m), k) => match self.lookup(m, k)? {
                Some(v) => Ok(v),
                None => fault(FaultKind::Key, format!("the map has no key {}", k.text(100))),
            },
            (of, i) => fault(FaultKind::Type, format!("no index {} into a {}", i.type_name(), of.type_name())),
        }
    }

    fn binary(&mut self, op: BinOp, a: Value, b: Value) -> Step<Value> {
        use BinOp::*;
        Ok(match (op, &a, &b) {
            (Eq | Ne, _, _) => {
                let mut budget = self.left();
                let before = budget;
                let Some(same) = equal(&a, &b, &mut budget) else {
                    return self.charge(u64::MAX / 2, 0).map(|()| Value::None);
                };
                self.charge((before - budget).saturating_sub(1), 0)?;
                Value::Bool(same == (op == Eq))
            }
            (Lt | Le | Gt | Ge, _, _) => {
                let order = self.order(&a, &b)?;
                Value::Bool(match op {
                    Lt => order.is_lt(),
                    Le => order.is_le(),
                    Gt => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
            (In, x, Value::List(l)) => {
                for item in &l.items {
                    let mut budget = self.left();
                    let before = budget;
                    let Some(same) = equal(x, item, &mut budget) else {
                        return self.charge(u64::MAX / 2, 0).map(|()| Value::None);
                    };
                    self.charge(before - budget, 0)?;
                    if same {
                        return Ok(Value::Bool(true));
                    }
                }
                Value::Bool(false)
            }
            (In, k, Value::Map(m)) => Value::Bool(self.lookup(m, k)?.is_some()),
            (In, Value::Str(x), Value::Str(s)) => {
                self.charge((s.len() + x.len()) as u64 / 4, 0)?;
                Value::Bool(s.contains(&**x))
            }
            (Add | Sub | Mul | Div | Rem, Value::Int(x), Value::Int(y)) => Value::Int(arithmetic(op, *x, *y)?),
            (Add, Value::Str(x), Value::Str(y)) => {
                self.room((x.len() + y.len()) as u64)?;
                let s = format!("{x}{y}");
                self.string(s)?
            }
            (Add, Value::List(x), Value::List(y)) => {
                let n = (x.items.len() + y.items.len()) as u64;
                self.charge(n / 8, n)?;
                let items = x.items.iter().chain(&y.items).cloned().collect();
                Value::List(Arc::new(List { items, nesting: x.nesting.max(y.nesting) }))
            }
            (Mul, Value::Str(s), Value::Int(n)) => {
                let n = (*n).max(0) as u64;
                self.room(n.saturating_mul(s.len() as u64))?;
                let s = s.repeat(n as usize);
                self.string(s)?
            }
            (Mul, Value::List(l), Value::Int(n)) => {
                let n = (*n).max(0) as u64;
                let all = n.saturating_mul(l.items.len() as u64);
                self.charge(all / 8, all)?;
                let n = if l.items.is_empty() { 0 } else { n };
                let items = (0..n).flat_map(|_| l.items.iter().cloned()).collect();
                Value::List(Arc::new(List { items, nesting: l.nesting }))
            }
            _ => {
                let what = format!("no `{}` of {} and {}", op.sign(), a.type_name(), b.type_name());
                return fault(FaultKind::Type, what);
            }
        })
    }

    /// Takes the variable out of its slot for a change inside it; the caller puts it back.
    fn take(&mut self, slot: u32) -> (usize, Value) {
        let at = self.frames.last().expect("a frame runs").base + slot as usize;
        (at, std::mem::replace(&mut self.stack[at], Value::None))
    }

    fn put(&mut self, at: usize, slot: u32, v: Value) {
        self.stack[at] = v;
        self.changed(slot, false);
    }

    fn store_at(&mut self, slot: u32, indices: u32, op: Option<BinOp>) -> Step<()> {
        let new = self.pop();
        let path = self.stack.split_off(self.stack.len() - indices as usize);
        let (at, mut whole) = self.take(slot);
        let (last, path) = path.split_last().expect("an index");
        let inner = self.descend(&mut whole, path, new.nesting() + 1)?;
        match inner {
            Value::List(l) => {
                let Value::Int(i) = last else {
                    return fault(FaultKind::Type, format!("no index {} into a list", last.type_name()));
                };
                let i = place(*i, l.items.len())?;
                let new = match op {
                    Some(op) => self.binary(op, l.items[i].clone(), new)?,
                    None => new,
                };
                let nesting = nesting_of(&new)?;
                let l = self.own_list(l)?;
                l.nesting = l.nesting.max(nesting);
                l.items[i] = new;
            }
            Value::Map(m) => {
                let key = self.key(last)?;
                let new = match op {
                    Some(op) => match m.items.get(&key).cloned() {
                        Some(old) => self.binary(op, old, new)?,
                        None => return fault(FaultKind::Key, format!("the map has no key {}", last.text(100))),
                    },
                    None => new,
                };
                let nesting = nesting_of(&new)?;
                self.charge(0, 2)?;
                let m = self.own_map(m)?;
                m.nesting = m.nesting.max(nesting);
                m.items.insert(key, new);
            }
            v => return fault(FaultKind::Type, format!("no element of a {} can be set", v.type_name())),
        }
        self.put(at, slot, whole);
        Ok(())
    }

    fn push_at(&mut self, slot: u32, indices: u32) -> Step<()> {
        let new = self.pop();
        let path = self.stack.split_off(self.stack.len() - indices as usize);
        let (at, mut whole) = self.take(slot);
        self.charge(0, 1)?;
        match self.descend(&mut whole, &path, new.nesting() + 1)? {
            Value::List(l) => {
                let nesting = nesting_of(&new)?;
                let l = self.own_list(l)?;
                l.nesting = l.nesting.max(nesting);
                l.items.push(new);
            }
            v => return fault(FaultKind::Type, format!("`push` onto a {}", v.type_name())),
        }
        self.put(at, slot, whole);
        Ok(())
    }

    fn remove_at(&mut self, slot: u32, indices: u32) -> Step<()> {
        let which = self.pop();
        let path = self.stack.split_off(self.stack.len() - indices as usize);
        let (at, mut whole) = self.take(slot);
        match (self.descend(&mut whole, &path, 0)?, &which) {
            (Value::List(l), Value::Int(i)) => {
                let i = place(*i, l.items.len())?;
                self.charge((l.items.len() - i) as u64 / 8, 0)?;
                self.own_list(l)?.items.remove(i);
            }
            (Value::Map(m), k) => {
                let key = self.key(k)?;
                if self.own_map(m)?.items.remove(&key).is_none() {
                    return fault(FaultKind::Key, format!("the map has no key {}", k.text(100)));
                }
            }
            (v, _) => return fault(FaultKind::Type, format!("`remove` from a {}", v.type_name())),
        }
        self.put(at, slot, whole);
        Ok(())
    }

    /// Walks along the path to the value inside; the containers on the way will nest at least `inside` deeper.
    fn descend<'v>(&mut self, mut v: &'v mut Value, path: &[Value], inside: u32) -> Step<&'v mut Value> {
        let mut inside = inside + path.len() as u32;
        for i in path {
            if inside > MAX_NESTING {
                return fault(FaultKind::Nesting, format!("values nested deeper than {MAX_NESTING}"));
            }
            v = match v {
                Value::List(l) => {
                    let Value::Int(i) = i else {
                        return fault(FaultKind::Type, format!("no index {} into a list", i.type_name()));
                    };
                    let i = place(*i, l.items.len())?;
                    let l = self.own_list(l)?;
                    l.nesting = l.nesting.max(inside);
                    &mut l.items[i]
                }
                Value::Map(m) => {
                    let key = self.key(i)?;
                    let m = self.own_map(m)?;
                    m.nesting = m.nesting.max(inside);
                    match m.items.get_mut(&key) {
                        Some(v) => v,
                        None => return fault(FaultKind::Key, format!("the map has no key {}", i.text(100))),
                    }
                }
                v => return fault(FaultKind::Type, format!("no index into a {}", v.type_name())),
            };
            inside -= 1;
        }
        Ok(v)
    }

    /// The list itself if nobody else holds it, else a copy, which is charged.
    fn own_list<'v>(&mut self, l: &'v mut Arc<List>) -> Step<&'v mut List> {
        if Arc::strong_count(l) > 1 {
            self.charge(l.items.len() as u64 / 8, l.items.len() as u64)?;
        }
        Ok(Arc::make_mut(l))
    }

    fn own_map<'v>(&mut self, m: &'v mut Arc<Map>) -> Step<&'v mut Map> {
        if Arc::strong_count(m) > 1 {
            self.charge(m.items.len() as u64 / 4, 2 * m.items.len() as u64)?;
        }
        Ok(Arc::make_mut(m))
    }
}

impl Iter {
    fn next(&mut self) -> Option<Value> {
        match self {
            Iter::Range { next, bound, stride } => {
                let n = (*next)?;
                if if *stride > 0 { n >= *bound } else { n <= *bound } {
                    return None;
                }
                *next = n.checked_add(*stride);
                Some(Value::Int(n))
            }
            Iter::Items { of, next } => {
                let v = of.items.get(*next)?.clone();
                *next += 1;
                Some(v)
            }
        }
    }
}

/// The place of index `i`; negative ones count from the end.
fn place(i: i64, len: usize) -> Step<usize> {
    let at = if i < 0 { i + len as i64 } else { i };
    if (0..len as i64).contains(&at) {
        Ok(at as usize)
    } else {
        fault(FaultKind::Index, format!("index {i} in a length of {len}"))
    }
}

fn nested(v: Value) -> Step<Value> {
    if v.nesting() > MAX_NESTING {
        return fault(FaultKind::Nesting, format!("values nested deeper than {MAX_NESTING}"));
    }
    Ok(v)
}

/// How deep a container with this item nests.
fn nesting_of(item: &Value) -> Step<u32> {
    let n = item.nesting() + 1;
    if n > MAX_NESTING {
        return fault(FaultKind::Nesting, format!("values nested deeper than {MAX_NESTING}"));
    }
    Ok(n)
}

/// Whole-number arithmetic; division and remainder round as in Python (towards minus infinity).
fn arithmetic(op: BinOp, a: i64, b: i64) -> Step<i64> {
    let n = match op {
        BinOp::Add => a.checked_add(b),
        BinOp::Sub => a.checked_sub(b),
        BinOp::Mul => a.checked_mul(b),
        BinOp::Div | BinOp::Rem if b == 0 => return fault(FaultKind::DivideByZero, "division by zero"),
        BinOp::Div => a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
        _ => a.checked_rem(b).or(Some(0)).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
    };
    n.map_or_else(|| fault(FaultKind::Overflow, "the result does not fit into 64 bits"), Ok)
}
