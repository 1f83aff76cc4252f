//! Clauses, Tseitin's translation, and a CDCL solver (batsat) with limits.
//!
//! Answers are deterministic: limits are counted in the solver's own steps, never in time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use batsat::{Callbacks, Lit, SolverInterface, Var, lbool};
use postgrad_base::{Error, Result};

use super::formula::{Formula, Op};

/// A literal as in DIMACS: variable `|l|` counted from 1, negative for its negation.
pub type Literal = i32;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cnf {
    pub vars: usize,
    pub clauses: Vec<Vec<Literal>>,
}

impl Cnf {
    pub fn fresh(&mut self) -> Literal {
        self.vars += 1;
        self.vars as Literal
    }

    pub fn add(&mut self, clause: &[Literal]) {
        self.clauses.push(clause.to_vec());
    }

    pub fn to_dimacs(&self) -> String {
        let mut out = format!("p cnf {} {}\n", self.vars, self.clauses.len());
        for c in &self.clauses {
            for l in c {
                let _ = write!(out, "{l} ");
            }
            out.push_str("0\n");
        }
        out
    }

    /// Reads DIMACS; comments are passed over, the header's counts are checked.
    pub fn from_dimacs(text: &str) -> Result<Self> {
        let mut cnf = Cnf::default();
        let mut header: Option<(usize, usize)> = None;
        let mut clause = vec![];
        for (n, line) in text.lines().enumerate() {
            let bad = |what: &str| Error::work(format!("not DIMACS: {what}")).at(format!("line {}", n + 1));
            let line = line.trim();
            if line.is_empty() || line.starts_with('c') {
                continue;
            }
            if line.starts_with('%') {
                break;
            }
            if let Some(rest) = line.strip_prefix('p') {
                let numbers: Vec<&str> = rest.split_whitespace().collect();
                let [kind, vars, clauses] = numbers[..] else { return Err(bad("the header is `p cnf VARS CLAUSES`")) };
                let (Ok(vars), Ok(clauses)) = (vars.parse::<u32>(), clauses.parse::<u32>()) else {
                    return Err(bad("a count that is no number"));
                };
                if kind != "cnf" || header.is_some() || vars > 10_000_000 {
                    return Err(bad("the header is `p cnf VARS CLAUSES`, once"));
                }
                header = Some((vars as usize, clauses as usize));
                cnf.vars = vars as usize;
                continue;
            }
            for word in line.split_whitespace() {
                let l: Literal = word.parse().map_err(|_| bad("a literal that is no number"))?;
                if l == 0 {
                    cnf.clauses.push(std::mem::take(&mut clause));
                } else if l.unsigned_abs() as usize > cnf.vars {
                    return Err(bad("a literal outside the header's count"));
                } else {
                    clause.push(l);
                }
            }
        }
        if !clause.is_empty() {
            cnf.clauses.push(clause);
        }
        match header {
            Some((_, n)) if n == cnf.clauses.len() => Ok(cnf),
            Some((_, n)) => Err(Error::work(format!("not DIMACS: {} clauses, the header says {n}", cnf.clauses.len()))),
            None => Err(Error::work("not DIMACS: no header")),
        }
    }

    /// Does this assignment (`model[v - 1]` for variable v) make every clause true?
    pub fn holds(&self, model: &[bool]) -> bool {
        let value = |l: Literal| model.get(l.unsigned_abs() as usize - 1).is_some_and(|v| *v == (l > 0));
        self.clauses.iter().all(|c| c.iter().any(|&l| value(l)))
    }
}

/// A formula's clauses by Tseitin's translation, one variable per letter and per connective.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    pub cnf: Cnf,
    /// The variable of each letter (atoms and equations are opaque here).
    pub letters: BTreeMap<Formula, Literal>,
    truth: Option<Literal>,
}

impl Encoder {
    pub(super) fn truth(&mut self) -> Literal {
        if let Some(t) = self.truth {
            return t;
        }
        let t = self.cnf.fresh();
        self.cnf.add(&[t]);
        self.truth = Some(t);
        t
    }

    pub(super) fn gate(&mut self, op: Op, a: Literal, b: Literal) -> Literal {
        let (a, b, flip) = match op {
            Op::And => (a, b, 1),
            Op::Or => (-a, -b, -1),
            Op::Implies => (a, -b, -1),
            Op::Xor | Op::Iff => {
                let g = self.cnf.fresh();
                let x = if op == Op::Xor { g } else { -g };
                for clause in [[-x, a, b], [-x, -a, -b], [x, -a, b], [x, a, -b]] {
                    self.cnf.add(&clause);
                }
                return g;
            }
        };
        let g = self.cnf.fresh();
        self.cnf.add(&[-g, a]);
        self.cnf.add(&[-g, b]);
        self.cnf.add(&[g, -a, -b]);
        g * flip
    }

    /// A literal equivalent to the formula. Quantifiers are an error.
    pub fn literal(&mut self, f: &Formula) -> Result<Literal> {
        Ok(match f {
            Formula::True => self.truth(),
            Formula::False => -self.truth(),
            Formula::Atom(_) | Formula::Equal(..) => match self.letters.get(f) {
                Some(&l) => l,
                None => {
                    let l = self.cnf.fresh();
                    self.letters.insert(f.clone(), l);
                    l
                }
            },
            Formula::Not(a) => -self.literal(a)?,
            Formula::Bin(op, a, b) => {
                let (a, b) = (self.literal(a)?, self.literal(b)?);
                self.gate(*op, a, b)
            }
            Formula::Quant(..) => {
                return Err(Error::work("quantifiers need a domain").help("use logic::models or logic::entails"));
            }
        })
    }

    pub fn assert(&mut self, f: &Formula) -> Result<()> {
        let l = self.literal(f)?;
        self.cnf.add(&[l]);
        Ok(())
    }
}

/// What the solver found, and how hard it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solved {
    pub outcome: Outcome,
    pub decisions: u64,
    pub conflicts: u64,
    pub propagations: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A model: entry `v - 1` is the value of variable v.
    Sat(Vec<bool>),
    Unsat,
    /// The step limit was reached.
    Unknown,
}

struct Steps {
    left: Cell<u64>,
}

impl Callbacks for Steps {
    fn stop(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 0
    }
}

/// A solver that keeps what it learnt between calls.
pub struct Solver {
    inner: batsat::Solver<Steps>,
    vars: Vec<Var>,
}

impl Solver {
    pub fn new(cnf: &Cnf) -> Self {
        let mut s = Self { inner: batsat::Solver::new(Default::default(), Steps { left: Cell::new(0) }), vars: vec![] };
        s.grow(cnf.vars);
        cnf.clauses.iter().for_each(|c| s.add(c));
        s
    }

    fn grow(&mut self, vars: usize) {
        while self.vars.len() < vars {
            let v = self.inner.new_var_default();
            self.vars.push(v);
        }
    }

    pub fn add(&mut self, clause: &[Literal]) {
        let widest = clause.iter().map(|l| l.unsigned_abs() as usize).max().unwrap_or(0);
        self.grow(widest);
        let mut lits: Vec<Lit> = clause.iter().map(|&l| self.lit(l)).collect();
        self.inner.add_clause_reuse(&mut lits);
    }

    fn lit(&self, l: Literal) -> Lit {
        Lit::new(self.vars[l.unsigned_abs() as usize - 1], l > 0)
    }

    /// Solves under assumptions with at most `max_steps` decisions.
    pub fn solve(&mut self, assumptions: &[Literal], max_steps: u64) -> Solved {
        let before = (self.inner.num_decisions(), self.inner.num_conflicts(), self.inner.num_propagations());
        self.inner.cb_mut().left.set(max_steps);
        let lits: Vec<Lit> = assumptions.iter().map(|&l| self.lit(l)).collect();
        let result = self.inner.solve_limited(&lits);
        let outcome = if result == lbool::TRUE {
            Outcome::Sat(self.vars.iter().map(|&v| self.inner.value_var(v) == lbool::TRUE).collect())
        } else if result == lbool::FALSE {
            Outcome::Unsat
        } else {
            Outcome::Unknown
        };
        Solved {
            outcome,
            decisions: self.inner.num_decisions() - before.0,
            conflicts: self.inner.num_conflicts() - before.1,
            propagations: self.inner.num_propagations() - before.2,
        }
    }
}

/// Steps that decide anything a card asks for.
pub const STEPS: u64 = 1_000_000;

/// Solves clauses.
pub fn solve(cnf: &Cnf, max_steps: u64) -> Solved {
    Solver::new(cnf).solve(&[], max_steps)
}

/// Is a quantifier-free formula satisfiable? `None` where the step limit was reached.
pub fn satisfiable(f: &Formula, max_steps: u64) -> Result<Option<bool>> {
    let mut e = Encoder::default();
    e.assert(f)?;
    Ok(match solve(&e.cnf, max_steps).outcome {
        Outcome::Sat(_) => Some(true),
        Outcome::Unsat => Some(false),
        Outcome::Unknown => None,
    })
}

/// Do quantifier-free formulas mean the same (same letters, same text)?
pub fn equivalent(a: &Formula, b: &Formula, max_steps: u64) -> Result<Option<bool>> {
    let differ = a.clone().xor(b.clone());
    Ok(satisfiable(&differ, max_steps)?.map(|sat| !sat))
}

/// What follows from premises about a conclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    True,
    False,
    /// Neither the conclusion nor its negation follows.
    Uncertain,
    /// Both follow: the premises contradict themselves.
    Inconsistent,
    /// A limit was reached.
    Unknown,
}

/// Three-way entailment of quantifier-free formulas.
pub fn entails(premises: &[Formula], conclusion: &Formula, max_steps: u64) -> Result<Answer> {
    let mut e = Encoder::default();
    for p in premises {
        e.assert(p)?;
    }
    let c = e.literal(conclusion)?;
    let mut solver = Solver::new(&e.cnf);
    let mut possible = |l| match solver.solve(&[l], max_steps).outcome {
        Outcome::Sat(_) => Some(true),
        Outcome::Unsat => Some(false),
        Outcome::Unknown => None,
    };
    Ok(match (possible(c), possible(-c)) {
        (Some(true), Some(false)) => Answer::True,
        (Some(false), Some(true)) => Answer::False,
        (Some(true), Some(true)) => Answer::Uncertain,
        (Some(false), Some(false)) => Answer::Inconsistent,
        _ => Answer::Unknown,
    })
}

/// Counts models over all variables of the clauses, stopping at `limit`. `None` where the step limit was reached.
pub fn count_models(cnf: &Cnf, limit: usize, max_steps: u64) -> Option<usize> {
    let mut solver = Solver::new(cnf);
    let mut count = 0;
    while count < limit {
        match solver.solve(&[], max_steps).outcome {
            Outcome::Sat(model) => {
                count += 1;
                let other: Vec<Literal> =
                    (1..=cnf.vars as Literal).map(|v| if model[v as usize - 1] { -v } else { v }).collect();
                if other.is_empty() {
                    break;
                }
                solver.add(&other);
            }
            Outcome::Unsat => break,
            Outcome::Unknown => return None,
        }
    }
    Some(count)
}
