//! Formulas of propositional and first-order logic as trees.
//!
//! A symbol bound by an enclosing quantifier is a [`Term::Var`]; every other argument is a constant or a function. A
//! propositional letter is an atom without arguments. Trees made by the parser are at most [`MAX_DEPTH`] deep, so that
//! the recursive functions here need a bounded stack.

use std::collections::BTreeSet;

/// The deepest tree the parser builds.
pub const MAX_DEPTH: usize = 400;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// Bound by a quantifier around it.
    Var(String),
    Const(String),
    Func(String, Vec<Term>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom {
    pub pred: String,
    pub args: Vec<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    And,
    Xor,
    Or,
    Implies,
    Iff,
}

impl Op {
    pub const ALL: [Op; 5] = [Op::And, Op::Xor, Op::Or, Op::Implies, Op::Iff];

    pub fn apply(self, a: bool, b: bool) -> bool {
        match self {
            Op::And => a && b,
            Op::Xor => a != b,
            Op::Or => a || b,
            Op::Implies => !a || b,
            Op::Iff => a == b,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantifier {
    ForAll,
    Exists,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Formula {
    True,
    False,
    Atom(Atom),
    Equal(Term, Term),
    Not(Box<Formula>),
    Bin(Op, Box<Formula>, Box<Formula>),
    Quant(Quantifier, String, Box<Formula>),
}

/// A propositional letter.
pub fn letter(name: impl Into<String>) -> Formula {
    Formula::Atom(Atom { pred: name.into(), args: vec![] })
}

/// A predicate of constants.
pub fn fact(pred: impl Into<String>, args: &[&str]) -> Formula {
    Formula::Atom(Atom { pred: pred.into(), args: args.iter().map(|a| Term::Const(a.to_string())).collect() })
}

impl Formula {
    pub fn negate(self) -> Self {
        Formula::Not(Box::new(self))
    }

    pub fn bin(op: Op, a: Formula, b: Formula) -> Self {
        Formula::Bin(op, Box::new(a), Box::new(b))
    }

    pub fn and(self, b: Formula) -> Self {
        Self::bin(Op::And, self, b)
    }

    pub fn or(self, b: Formula) -> Self {
        Self::bin(Op::Or, self, b)
    }

    pub fn implies(self, b: Formula) -> Self {
        Self::bin(Op::Implies, self, b)
    }

    pub fn iff(self, b: Formula) -> Self {
        Self::bin(Op::Iff, self, b)
    }

    pub fn xor(self, b: Formula) -> Self {
        Self::bin(Op::Xor, self, b)
    }

    pub fn quant(q: Quantifier, var: impl Into<String>, body: Formula) -> Self {
        Formula::Quant(q, var.into(), Box::new(body))
    }

    pub fn children(&self) -> impl Iterator<Item = &Formula> {
        let (a, b) = match self {
            Formula::Not(a) | Formula::Quant(_, _, a) => (Some(&**a), None),
            Formula::Bin(_, a, b) => (Some(&**a), Some(&**b)),
            _ => (None, None),
        };
        a.into_iter().chain(b)
    }

    /// Connectives, quantifiers and leaves together.
    pub fn size(&self) -> usize {
        1 + self.children().map(Formula::size).sum::<usize>()
    }

    pub fn depth(&self) -> usize {
        1 + self.children().map(Formula::depth).max().unwrap_or(0)
    }

    /// Neither quantifier, nor argument, nor equation.
    pub fn is_propositional(&self) -> bool {
        match self {
            Formula::Quant(..) | Formula::Equal(..) => false,
            Formula::Atom(a) => a.args.is_empty(),
            _ => self.children().all(Formula::is_propositional),
        }
    }

    /// The distinct atoms (and equations) in order of first occurrence from the left.
    pub fn atoms(&self) -> Vec<&Formula> {
        fn walk<'a>(f: &'a Formula, seen: &mut BTreeSet<&'a Formula>, out: &mut Vec<&'a Formula>) {
            if matches!(f, Formula::Atom(_) | Formula::Equal(..)) && seen.insert(f) {
                out.push(f);
            }
            f.children().for_each(|c| walk(c, seen, out));
        }
        let mut out = vec![];
        walk(self, &mut BTreeSet::new(), &mut out);
        out
    }

    /// Constants, functions (name, arity) and predicates (name, arity), each sorted.
    pub fn signature(&self) -> Signature {
        let mut s = Signature::default();
        s.add(self);
        s
    }
}

/// The symbols of one or more formulas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub constants: BTreeSet<String>,
    pub functions: BTreeSet<(String, usize)>,
    pub predicates: BTreeSet<(String, usize)>,
    pub equality: bool,
}

impl Signature {
    pub fn add(&mut self, f: &Formula) {
        match f {
            Formula::Atom(a) => {
                self.predicates.insert((a.pred.clone(), a.args.len()));
                a.args.iter().for_each(|t| self.add_term(t));
            }
            Formula::Equal(a, b) => {
                self.equality = true;
                self.add_term(a);
                self.add_term(b);
            }
            _ => f.children().for_each(|c| self.add(c)),
        }
    }

    fn add_term(&mut self, t: &Term) {
        match t {
            Term::Var(_) => {}
            Term::Const(c) => {
                self.constants.insert(c.clone());
            }
            Term::Func(f, args) => {
                self.functions.insert((f.clone(), args.len()));
                args.iter().for_each(|t| self.add_term(t));
            }
        }
    }
}
