//! Programs as trees.
//!
//! Two trees are equal if they say the same, wherever their statements stand in the text.

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub functions: Vec<Function>,
    /// Statements outside functions, in order. They see no variable of a function and no function sees theirs.
    pub script: Vec<Stmt>,
}

#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub params: Vec<String>,
    pub body: Vec<Stmt>,
    pub line: u32,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.params == other.params && self.body == other.body
    }
}
impl Eq for Function {}

#[derive(Clone, Debug)]
pub struct Stmt {
    pub kind: StmtKind,
    /// Line of the text, from 1.
    pub line: u32,
}

impl PartialEq for Stmt {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}
impl Eq for Stmt {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StmtKind {
    Let(String, Expr),
    /// `x = e;`, `xs[i] = e;`, `x += e;`
    Assign(Place, Option<BinOp>, Expr),
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    While(Expr, Vec<Stmt>),
    For(String, Expr, Vec<Stmt>),
    Break,
    Continue,
    Return(Option<Expr>),
    Assert(Expr, Option<Expr>),
    /// `push(xs, e);`
    Push(Place, Expr),
    /// `remove(m, key);`
    Remove(Place, Expr),
    Expr(Expr),
}

/// A variable, or an element inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: String,
    pub indices: Vec<Expr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Str(String),
    Var(String),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Un(UnOp, Box<Expr>),
    Bin(BinOp, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Index(Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnOp {
    Neg,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
}

impl BinOp {
    pub fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Rem => "%",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::In => "in",
        }
    }

    pub(super) fn level(self) -> u8 {
        match self {
            Self::Mul | Self::Div | Self::Rem => 6,
            Self::Add | Self::Sub => 5,
            _ => 4,
        }
    }
}

impl Program {
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }

    /// The functions of both, then both scripts: how a test script is put behind the program it tests.
    pub fn followed_by(&self, other: &Program) -> Program {
        let mut p = self.clone();
        p.functions.extend(other.functions.iter().cloned());
        p.script.extend(other.script.iter().cloned());
        p
    }
}
