//! Finite models of first-order formulas, found by grounding to clauses.
//!
//! A model of size n gives each constant an element 0..n, each function a table, each predicate a set of tuples. Sizes
//! are tried from 1; a model found is checked by plain evaluation before it is returned.

use std::collections::{BTreeMap, BTreeSet};

use super::formula::{Formula, Op, Quantifier, Signature, Term};
use super::sat::{Cnf, Encoder, Literal, Outcome, Solver};

/// An interpretation over the elements 0..size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub size: usize,
    pub constants: BTreeMap<String, usize>,
    pub functions: BTreeMap<(String, Vec<usize>), usize>,
    pub predicates: BTreeSet<(String, Vec<usize>)>,
}

impl Model {
    /// Is the formula true here? Symbols without an interpretation read as element 0 and as false.
    pub fn holds(&self, f: &Formula) -> bool {
        self.eval(f, &mut vec![])
    }

    fn eval<'a>(&self, f: &'a Formula, env: &mut Vec<(&'a str, usize)>) -> bool {
        match f {
            Formula::True => true,
            Formula::False => false,
            Formula::Atom(a) => {
                let args = a.args.iter().map(|t| self.element(t, env)).collect();
                self.predicates.contains(&(a.pred.clone(), args))
            }
            Formula::Equal(a, b) => self.element(a, env) == self.element(b, env),
            Formula::Not(a) => !self.eval(a, env),
            Formula::Bin(op, a, b) => op.apply(self.eval(a, env), self.eval(b, env)),
            Formula::Quant(q, v, a) => {
                let all = *q == Quantifier::ForAll;
                for e in 0..self.size {
                    env.push((v, e));
                    let holds = self.eval(a, env);
                    env.pop();
                    if holds != all {
                        return !all;
                    }
                }
                all
            }
        }
    }

    fn element(&self, t: &Term, env: &[(&str, usize)]) -> usize {
        match t {
            Term::Var(v) => env.iter().rev().find(|(name, _)| name == v).map_or(0, |(_, e)| *e),
            Term::Const(c) => self.constants.get(c).copied().unwrap_or(0),
            Term::Func(f, args) => {
                let args = args.iter().map(|t| self.element(t, env)).collect();
                self.functions.get(&(f.clone(), args)).copied().unwrap_or(0)
            }
        }
    }
}

/// What one size said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Model(Model),
    /// No model of this size exists.
    Nothing,
    /// A limit was reached.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    Element(usize),
    Const(String),
    Func(String, Vec<Ground>),
}

struct TooLarge;

/// The negations of the literals that make the arguments this tuple, and the tuple.
type Case = (Vec<Literal>, Vec<usize>);

struct Grounder {
    size: usize,
    enc: Encoder,
    max_clauses: usize,
    predicates: BTreeMap<(String, Vec<usize>), Literal>,
    atoms: BTreeMap<(String, Vec<Ground>), Literal>,
    equations: BTreeMap<(Ground, Ground), Literal>,
    /// For every ground term the literals of "it is element e".
    values: BTreeMap<Ground, Vec<Literal>>,
    work: usize,
}

/// Looks for a model with exactly `size` elements.
pub fn of_size(formulas: &[&Formula], size: usize, max_clauses: usize, max_steps: u64) -> Found {
    let mut g = Grounder {
        size,
        enc: Encoder::default(),
        max_clauses,
        predicates: BTreeMap::new(),
        atoms: BTreeMap::new(),
        equations: BTreeMap::new(),
        values: BTreeMap::new(),
        work: 0,
    };
    let mut signature = Signature::default();
    formulas.iter().for_each(|f| signature.add(f));
    if g.constants(&signature).is_err() {
        return Found::Unknown;
    }
    for f in formulas {
        match g.formula(f, &mut vec![]) {
            Ok(l) => g.enc.cnf.add(&[l]),
            Err(TooLarge) => return Found::Unknown,
        }
    }
    match Solver::new(&g.enc.cnf).solve(&[], max_steps).outcome {
        Outcome::Unsat => Found::Nothing,
        Outcome::Unknown => Found::Unknown,
        Outcome::Sat(values) => {
            let model = g.model(&values);
            if formulas.iter().all(|f| model.holds(f)) { Found::Model(model) } else { Found::Unknown }
        }
    }
}

impl Grounder {
    fn tick(&mut self) -> Result<(), TooLarge> {
        self.work += 1;
        if self.work > 4 * self.max_clauses || self.enc.cnf.clauses.len() > self.max_clauses {
            return Err(TooLarge);
        }
        Ok(())
    }

    fn cnf(&mut self) -> &mut Cnf {
        &mut self.enc.cnf
    }

    fn one_of(&mut self, among: usize) -> Vec<Literal> {
        let lits: Vec<Literal> = (0..self.size).map(|_| self.cnf().fresh()).collect();
        self.cnf().add(&lits);
        for a in 0..lits.len() {
            if a >= among {
                self.cnf().add(&[-lits[a]]);
            }
            for b in 0..a {
                self.cnf().add(&[-lits[a], -lits[b]]);
            }
        }
        lits
    }

    /// Elements are interchangeable, so the i-th constant may be kept among the first i + 1.
    fn constants(&mut self, s: &Signature) -> Result<(), TooLarge> {
        for (i, c) in s.constants.iter().enumerate() {
            self.tick()?;
            let lits = self.one_of(i + 1);
            self.values.insert(Ground::Const(c.clone()), lits);
        }
        Ok(())
    }

    fn ground(&self, t: &Term, env: &[(&str, usize)]) -> Ground {
        match t {
            Term::Var(v) => Ground::Element(env.iter().rev().find(|(name, _)| name == v).map_or(0, |(_, e)| *e)),
            Term::Const(c) => Ground::Const(c.clone()),
            Term::Func(f, args) => Ground::Func(f.clone(), args.iter().map(|t| self.ground(t, env)).collect()),
        }
    }

    fn value(&mut self, g: &Ground) -> Result<Vec<Literal>, TooLarge> {
        if let Some(v) = self.values.get(g) {
            return Ok(v.clone());
        }
        self.tick()?;
        let lits = match g {
            Ground::Element(e) => {
                let t = self.enc.truth();
                (0..self.size).map(|i| if i == *e { t } else { -t }).collect()
            }
            Ground::Const(_) => self.one_of(self.size),
            Ground::Func(f, args) => {
                let own = self.one_of(self.size);
                if !args.iter().all(|a| matches!(a, Ground::Element(_))) {
                    for (condition, tuple) in self.cases(args)? {
                        let table = Ground::Func(f.clone(), tuple.into_iter().map(Ground::Element).collect());
                        let entry = self.value(&table)?;
                        for (o, e) in own.iter().zip(entry) {
                            self.tick()?;
                            for pair in [[-o, e], [*o, -e]] {
                                let clause: Vec<Literal> = condition.iter().copied().chain(pair).collect();
                                self.cnf().clauses.push(clause);
                            }
                        }
                    }
                }
                own
            }
        };
        self.values.insert(g.clone(), lits.clone());
        Ok(lits)
    }

    /// Every tuple of elements the arguments may be.
    fn cases(&mut self, args: &[Ground]) -> Result<Vec<Case>, TooLarge> {
        let mut cases: Vec<Case> = vec![(vec![], vec![])];
        for a in args {
            if let Ground::Element(e) = a {
                cases.iter_mut().for_each(|(_, t)| t.push(*e));
                continue;
            }
            let lits = self.value(a)?;
            let mut next = Vec::with_capacity(cases.len() * self.size);
            for (condition, tuple) in cases {
                for (e, l) in lits.iter().enumerate() {
                    self.tick()?;
                    let mut c = condition.clone();
                    c.push(-l);
                    let mut t = tuple.clone();
                    t.push(e);
                    next.push((c, t));
                }
            }
            cases = next;
        }
        Ok(cases)
    }

    fn predicate(&mut self, key: (String, Vec<usize>)) -> Literal {
        if let Some(&l) = self.predicates.get(&key) {
            return l;
        }
        let l = self.cnf().fresh();
        self.predicates.insert(key, l);
        l
    }

    fn formula<'a>(&mut self, f: &'a Formula, env: &mut Vec<(&'a str, usize)>) -> Result<Literal, TooLarge> {
        self.tick()?;
        Ok(match f {
            Formula::True => self.enc.truth(),
            Formula::False => -self.enc.truth(),
            Formula::Not(a) => -self.formula(a, env)?,
            Formula::Bin(op, a, b) => {
                let (a, b) = (self.formula(a, env)?, self.formula(b, env)?);
                self.enc.gate(*op, a, b)
            }
            Formula::Quant(q, v, a) => {
                let sign = if *q == Quantifier::ForAll { 1 } else { -1 };
                let mut parts = vec![];
                for e in 0..self.size {
                    env.push((v, e));
                    let l = self.formula(a, env);
                    env.pop();
                    parts.push(sign * l?);
                }
                sign * self.conjunction(&parts)
            }
            Formula::Atom(a) => {
                let args: Vec<Ground> = a.args.iter().map(|t| self.ground(t, env)).collect();
                let key = (a.pred.clone(), args);
                if let Some(&l) = self.atoms.get(&key) {
                    return Ok(l);
                }
                let cases = self.cases(&key.1)?;
                let l = if cases.len() == 1 && cases[0].0.is_empty() {
                    self.predicate((a.pred.clone(), cases[0].1.clone()))
                } else {
                    let own = self.cnf().fresh();
                    for (condition, tuple) in cases {
                        self.tick()?;
                        let p = self.predicate((a.pred.clone(), tuple));
                        for pair in [[-own, p], [own, -p]] {
                            let clause: Vec<Literal> = condition.iter().copied().chain(pair).collect();
                            self.cnf().clauses.push(clause);
                        }
                    }
                    own
                };
                self.atoms.insert(key, l);
                l
            }
            Formula::Equal(a, b) => {
                let key = (self.ground(a, env), self.ground(b, env));
                if let Some(&l) = self.equations.get(&key) {
                    return Ok(l);
                }
                let (x, y) = (self.value(&key.0)?, self.value(&key.1)?);
                let own = self.cnf().fresh();
                for (x, y) in x.into_iter().zip(y) {
                    self.cnf().add(&[-x, -y, own]);
                    self.cnf().add(&[-x, y, -own]);
                }
                self.equations.insert(key, own);
                own
            }
        })
    }

    fn conjunction(&mut self, parts: &[Literal]) -> Literal {
        match parts {
            [one] => *one,
            [a, b] => self.enc.gate(Op::And, *a, *b),
            _ => {
                let all = self.cnf().fresh();
                let mut back = vec![all];
                for &p in parts {
                    self.cnf().add(&[-all, p]);
                    back.push(-p);
                }
                self.cnf().add(&back);
                all
            }
        }
    }

    fn model(&self, values: &[bool]) -> Model {
        let on = |l: Literal| values[l.unsigned_abs() as usize - 1] == (l > 0);
        let mut m = Model { size: self.size, ..Model::default() };
        for (g, lits) in &self.values {
            let e = lits.iter().position(|&l| on(l)).unwrap_or(0);
            match g {
                Ground::Const(c) => {
                    m.constants.insert(c.clone(), e);
                }
                Ground::Func(f, args) => {
                    let tuple: Option<Vec<usize>> =
                        args.iter().map(|a| if let Ground::Element(e) = a { Some(*e) } else { None }).collect();
                    if let Some(tuple) = tuple {
                        m.functions.insert((f.clone(), tuple), e);
                    }
                }
                Ground::Element(_) => {}
            }
        }
        m.predicates = self.predicates.iter().filter(|(_, l)| on(**l)).map(|(k, _)| k.clone()).collect();
        m
    }
}
