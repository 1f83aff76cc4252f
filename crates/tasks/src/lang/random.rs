//! Random programs for tests, mutation studies and execution-aware training: they always compile, nearly always end, and
//! branch on their inputs.

use postgrad_base::Stream;

use super::ast::*;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Whole-number parameters of the function `f`.
    pub params: usize,
    /// Statements at most, roughly.
    pub statements: usize,
    /// Blocks in blocks.
    pub nesting: usize,
    /// Lists beside whole numbers.
    pub lists: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { params: 2, statements: 10, nesting: 2, lists: true }
    }
}

/// A program with one function `f` of whole numbers that returns a whole number.
pub fn program(stream: &mut Stream, shape: &Shape) -> Program {
    let params: Vec<String> = (0..shape.params).map(|i| ["a", "b", "c", "d", "e", "g"][i.min(5)].to_string()).collect();
    let mut g = Maker {
        stream,
        ints: params.clone(),
        fixed: vec![],
        lists: vec![],
        left: shape.statements,
        made: 0,
        use_lists: shape.lists,
    };
    let mut body = g.block(shape.nesting, true);
    let result = g.int(2);
    body.push(stmt(StmtKind::Return(Some(result))));
    let function = Function { name: "f".into(), params, body, line: 1 };
    // lines as they are in the printed text
    let printed = super::print::print(&Program { functions: vec![function], script: vec![] });
    super::parse::parse(&printed).expect("what is printed parses")
}

fn stmt(kind: StmtKind) -> Stmt {
    Stmt { kind, line: 1 }
}

struct Maker<'a> {
    stream: &'a mut Stream,
    ints: Vec<String>,
    /// Loop variables and counters: read, never assigned, so that loops end.
    fixed: Vec<String>,
    lists: Vec<String>,
    left: usize,
    made: usize,
    use_lists: bool,
}

impl Maker<'_> {
    fn fresh(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    /// The names a block makes are forgotten after it, except those of the function's own block.
    fn block(&mut self, nesting: usize, top: bool) -> Vec<Stmt> {
        let (ints, fixed, lists) = (self.ints.len(), self.fixed.len(), self.lists.len());
        let outer = self.left;
        let mut body = vec![];
        let most = 1 + self.stream.below(4.max(outer / 2));
        while self.left > 0 && body.len() < most {
            self.left -= 1;
            self.statement(nesting, &mut body);
        }
        if !top {
            self.ints.truncate(ints);
            self.fixed.truncate(fixed);
            self.lists.truncate(lists);
        }
        if body.is_empty() {
            body.push(stmt(StmtKind::Expr(Expr::None)));
        }
        body
    }

    fn statement(&mut self, nesting: usize, body: &mut Vec<Stmt>) {
        let choice = self.stream.below(if nesting > 0 { 10 } else { 6 });
        let kind = match choice {
            0 | 1 => {
                if self.use_lists && self.stream.chance(0.25) {
                    let items = (0..1 + self.stream.below(4)).map(|_| self.int(1)).collect();
                    let name = self.fresh("xs");
                    self.lists.push(name.clone());
                    StmtKind::Let(name, Expr::List(items))
                } else {
                    let e = self.int(2);
                    let name = self.fresh("x");
                    self.ints.push(name.clone());
                    StmtKind::Let(name, e)
                }
            }
            2..=4 if !self.ints.is_empty() => {
                let name = self.stream.choose(&self.ints).clone();
                let op = [None, Some(BinOp::Add), Some(BinOp::Sub)][self.stream.below(3)];
                StmtKind::Assign(Place { name, indices: vec![] }, op, self.int(2))
            }
            5 if !self.lists.is_empty() => {
                let name = self.stream.choose(&self.lists).clone();
                let value = self.int(1);
                if self.stream.chance(0.5) {
                    StmtKind::Push(Place { name, indices: vec![] }, value)
                } else {
                    StmtKind::Assign(Place { name, indices: vec![Expr::Int(0)] }, None, value)
                }
            }
            6 | 7 => {
                let c = self.condition(1);
                let then = self.block(nesting - 1, false);
                let other = if self.stream.chance(0.5) { self.block(nesting - 1, false) } else { vec![] };
                StmtKind::If(c, then, other)
            }
            8 => {
                let over = if !self.lists.is_empty() && self.stream.chance(0.5) {
                    Expr::Var(self.stream.choose(&self.lists).clone())
                } else {
                    let n = Expr::Int(1 + self.stream.below(5) as i64);
                    Expr::Call("range".into(), vec![n])
                };
                let name = self.fresh("i");
                self.fixed.push(name.clone());
                let mut inner = self.block(nesting - 1, false);
                if self.stream.chance(0.15) {
                    let exit = if self.stream.chance(0.5) { StmtKind::Break } else { StmtKind::Continue };
                    inner.push(stmt(StmtKind::If(self.condition(1), vec![stmt(exit)], vec![])));
                }
                self.fixed.pop();
                StmtKind::For(name, over, inner)
            }
            9 => {
                let name = self.fresh("n");
                body.push(stmt(StmtKind::Let(name.clone(), Expr::Int(self.stream.between(1, 6)))));
                self.fixed.push(name.clone());
                let mut inner = self.block(nesting - 1, false);
                self.fixed.pop();
                let place = Place { name: name.clone(), indices: vec![] };
                inner.push(stmt(StmtKind::Assign(place, Some(BinOp::Sub), Expr::Int(1))));
                let going = Expr::Bin(BinOp::Gt, Box::new(Expr::Var(name)), Box::new(Expr::Int(0)));
                StmtKind::While(going, inner)
            }
            _ => StmtKind::Expr(Expr::Call("print".into(), vec![self.int(1)])),
        };
        body.push(stmt(kind));
    }

    fn int(&mut self, depth: usize) -> Expr {
        let known = self.ints.len() + self.fixed.len();
        if depth == 0 || self.stream.chance(0.35) {
            if known > 0 && self.stream.chance(0.7) {
                let i = self.stream.below(known);
                return Expr::Var(self.ints.get(i).unwrap_or_else(|| &self.fixed[i - self.ints.len()]).clone());
            }
            return Expr::Int(self.stream.between(-3, 9));
        }
        if !self.lists.is_empty() && self.stream.chance(0.2) {
            let list = Expr::Var(self.stream.choose(&self.lists).clone());
            return match self.stream.below(3) {
                0 => Expr::Index(Box::new(list), Box::new(Expr::Int(-self.stream.between(0, 1)))),
                1 => Expr::Call("len".into(), vec![list]),
                _ => Expr::Call("sum".into(), vec![list]),
            };
        }
        let a = self.int(depth - 1);
        match self.stream.below(6) {
            0 | 1 => Expr::Bin(BinOp::Add, Box::new(a), Box::new(self.int(depth - 1))),
            2 => Expr::Bin(BinOp::Sub, Box::new(a), Box::new(self.int(depth - 1))),
            3 => Expr::Bin(BinOp::Mul, Box::new(a), Box::new(Expr::Int(self.stream.between(2, 3)))),
            4 => {
                let op = if self.stream.chance(0.5) { BinOp::Rem } else { BinOp::Div };
                Expr::Bin(op, Box::new(a), Box::new(Expr::Int(self.stream.between(2, 7))))
            }
            _ => Expr::Call(["min", "max"][self.stream.below(2)].into(), vec![a, self.int(depth - 1)]),
        }
    }

    fn condition(&mut self, depth: usize) -> Expr {
        if depth > 0 && self.stream.chance(0.25) {
            let (a, b) = (Box::new(self.condition(depth - 1)), Box::new(self.condition(depth - 1)));
            return match self.stream.below(3) {
                0 => Expr::And(a, b),
                1 => Expr::Or(a, b),
                _ => Expr::Un(UnOp::Not, a),
            };
        }
        let ops = [BinOp::Lt, BinOp::Le, BinOp::Gt, BinOp::Ge, BinOp::Eq, BinOp::Ne];
        let op = *self.stream.choose(&ops);
        Expr::Bin(op, Box::new(self.int(1)), Box::new(self.int(1)))
    }
}
