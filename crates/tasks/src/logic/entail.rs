//! First-order consistency and entailment, three-valued and bounded.
//!
//! Two searches meet: ground instances over the terms at hand (a contradiction among them is a proof; Herbrand's theorem)
//! and finite models from one element up (a model is a refutation). Formulas without functions and without an existential
//! that depends on a universal are decided either way; elsewhere [`Answer::Unknown`] is possible.
//!
//! Left out on purpose: unification-based proof search; an outside prover is better there.

use std::collections::BTreeSet;

use super::formula::{Atom, Formula, Op, Quantifier, Signature, Term};
use super::models::{Found, Model, of_size};
use super::sat::{Answer, Encoder, Literal, Outcome, Solver};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest domain tried where the formulas do not give a bound themselves.
    pub size: usize,
    /// Clauses of one grounding.
    pub clauses: usize,
    /// Decisions of one call of the SAT solver.
    pub steps: u64,
    /// Ground terms used in proofs.
    pub terms: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size: 4, clauses: 200_000, steps: 100_000, terms: 40 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consistency {
    Consistent(Model),
    Inconsistent,
    Unknown,
}

struct TooLarge;

/// Can all formulas be true together?
pub fn consistent(formulas: &[&Formula], limits: Limits) -> Consistency {
    let mut sk = Skolem { next: 0, budget: limits.clauses };
    let mut matrix = vec![];
    for f in formulas {
        match sk.run(f, true, &mut vec![]) {
            Ok(m) => matrix.push(m),
            Err(TooLarge) => return models_only(formulas, limits),
        }
    }
    let mut signature = Signature::default();
    matrix.iter().for_each(|f| signature.add(f));
    let mut terms: Vec<Term> = signature.constants.iter().cloned().map(Term::Const).collect();
    if terms.is_empty() {
        terms.push(Term::Const("element#".into()));
    }
    let function_free = signature.functions.is_empty();
    // Instances first where they decide; else small models first, since most consistent sets have one.
    if function_free && !signature.equality {
        match instances(&matrix, &terms, false, limits) {
            Some(Outcomes::Contradiction) => return Consistency::Inconsistent,
            Some(Outcomes::Open(model)) if formulas.iter().all(|f| model.holds(f)) => {
                return Consistency::Consistent(model);
            }
            _ => {}
        }
    }
    let bound = if function_free { terms.len() } else { limits.size };
    let mut all_sizes = function_free;
    for size in 1..=bound {
        match of_size(formulas, size, limits.clauses, limits.steps) {
            Found::Model(m) => return Consistency::Consistent(m),
            Found::Nothing => {}
            Found::Unknown => {
                all_sizes = false;
                break;
            }
        }
    }
    if all_sizes {
        return Consistency::Inconsistent;
    }
    for _ in 0..3 {
        if let Some(Outcomes::Contradiction) = instances(&matrix, &terms, signature.equality, limits) {
            return Consistency::Inconsistent;
        }
        let before = terms.len();
        if !grow(&mut terms, &signature, limits.terms) || terms.len() == before {
            break;
        }
    }
    Consistency::Unknown
}

fn models_only(formulas: &[&Formula], limits: Limits) -> Consistency {
    for size in 1..=limits.size {
        if let Found::Model(m) = of_size(formulas, size, limits.clauses, limits.steps) {
            return Consistency::Consistent(m);
        }
    }
    Consistency::Unknown
}

/// Does the conclusion follow, or its negation, or neither?
pub fn entails(premises: &[Formula], conclusion: &Formula, limits: Limits) -> Answer {
    let no = conclusion.clone().negate();
    let with = |c: &Formula| {
        let all: Vec<&Formula> = premises.iter().chain(std::iter::once(c)).collect();
        match consistent(&all, limits) {
            Consistency::Consistent(_) => Some(true),
            Consistency::Inconsistent => Some(false),
            Consistency::Unknown => None,
        }
    };
    match (with(conclusion), with(&no)) {
        (Some(true), Some(false)) => Answer::True,
        (Some(false), Some(true)) => Answer::False,
        (Some(true), Some(true)) => Answer::Uncertain,
        (Some(false), Some(false)) => Answer::Inconsistent,
        _ => Answer::Unknown,
    }
}

/// Do two closed formulas mean the same? `None` where neither could be shown.
pub fn equivalent(a: &Formula, b: &Formula, limits: Limits) -> Option<bool> {
    match consistent(&[&a.clone().xor(b.clone())], limits) {
        Consistency::Consistent(_) => Some(false),
        Consistency::Inconsistent => Some(true),
        Consistency::Unknown => None,
    }
}

struct Skolem {
    next: usize,
    budget: usize,
}

fn has_quantifier(f: &Formula) -> bool {
    matches!(f, Formula::Quant(..)) || f.children().any(has_quantifier)
}

fn substitute_term(t: &Term, env: &[(&str, Term)]) -> Term {
    match t {
        Term::Var(v) => env.iter().rev().find(|(name, _)| name == v).map_or_else(|| t.clone(), |(_, t)| t.clone()),
        Term::Const(_) => t.clone(),
        Term::Func(f, args) => Term::Func(f.clone(), args.iter().map(|a| substitute_term(a, env)).collect()),
    }
}

/// Replaces variables in a formula without quantifiers.
fn substitute(f: &Formula, env: &[(&str, Term)]) -> Formula {
    match f {
        Formula::True | Formula::False | Formula::Quant(..) => f.clone(),
        Formula::Atom(a) => {
            Formula::Atom(Atom { pred: a.pred.clone(), args: a.args.iter().map(|t| substitute_term(t, env)).collect() })
        }
        Formula::Equal(a, b) => Formula::Equal(substitute_term(a, env), substitute_term(b, env)),
        Formula::Not(a) => substitute(a, env).negate(),
        Formula::Bin(op, a, b) => Formula::bin(*op, substitute(a, env), substitute(b, env)),
    }
}

fn term_vars<'a>(t: &'a Term, out: &mut BTreeSet<&'a str>) {
    match t {
        Term::Var(v) => {
            out.insert(v);
        }
        Term::Const(_) => {}
        Term::Func(_, args) => args.iter().for_each(|a| term_vars(a, out)),
    }
}

fn free<'a>(f: &'a Formula, out: &mut BTreeSet<&'a str>) {
    match f {
        Formula::Atom(a) => a.args.iter().for_each(|t| term_vars(t, out)),
        Formula::Equal(a, b) => {
            term_vars(a, out);
            term_vars(b, out);
        }
        Formula::Quant(_, v, a) => {
            let mut inner = BTreeSet::new();
            free(a, &mut inner);
            inner.remove(v.as_str());
            out.extend(inner);
        }
        _ => f.children().for_each(|c| free(c, out)),
    }
}

impl Skolem {
    /// Negations pushed down to what has no quantifier, existentials replaced by terms, universals renamed apart.
    fn run<'a>(&mut self, f: &'a Formula, positive: bool, env: &mut Vec<(&'a str, Term)>) -> Result<Formula, TooLarge> {
        self.budget = self.budget.checked_sub(1).ok_or(TooLarge)?;
        if !has_quantifier(f) {
            self.budget = self.budget.checked_sub(f.size()).ok_or(TooLarge)?;
            let f = substitute(f, env);
            return Ok(if positive { f } else { f.negate() });
        }
        Ok(match f {
            Formula::Not(a) => self.run(a, !positive, env)?,
            Formula::Bin(op @ (Op::And | Op::Or | Op::Implies), a, b) => {
                let a = self.run(a, (*op != Op::Implies) == positive, env)?;
                let b = self.run(b, positive, env)?;
                Formula::bin(if (*op == Op::And) == positive { Op::And } else { Op::Or }, a, b)
            }
            Formula::Bin(op, a, b) => {
                let same = (*op == Op::Iff) == positive;
                let one = self.run(a, !same, env)?.or(self.run(b, true, env)?);
                let two = self.run(a, same, env)?.or(self.run(b, false, env)?);
                one.and(two)
            }
            Formula::Quant(q, v, a) => {
                self.next += 1;
                if (*q == Quantifier::ForAll) == positive {
                    let name = format!("x#{}", self.next);
                    env.push((v, Term::Var(name.clone())));
                    let body = self.run(a, positive, env);
                    env.pop();
                    Formula::quant(Quantifier::ForAll, name, body?)
                } else {
                    let mut names = BTreeSet::new();
                    free(f, &mut names);
                    let terms: Vec<Term> =
                        names.iter().map(|n| substitute_term(&Term::Var(n.to_string()), env)).collect();
                    let mut vars = BTreeSet::new();
                    terms.iter().for_each(|t| term_vars(t, &mut vars));
                    let args: Vec<Term> = vars.iter().map(|v| Term::Var(v.to_string())).collect();
                    let name = format!("sk#{}", self.next);
                    let term = if args.is_empty() { Term::Const(name) } else { Term::Func(name, args) };
                    env.push((v, term));
                    let body = self.run(a, positive, env);
                    env.pop();
                    body?
                }
            }
            _ => f.clone(),
        })
    }
}

/// Adds every function of the terms so far; false where there would be more than `most`.
fn grow(terms: &mut Vec<Term>, s: &Signature, most: usize) -> bool {
    let known: BTreeSet<Term> = terms.iter().cloned().collect();
    let mut new = vec![];
    for (name, arity) in &s.functions {
        let mut tuples: Vec<Vec<Term>> = vec![vec![]];
        for _ in 0..*arity {
            if tuples.len() * terms.len() > most * most {
                return false;
            }
            tuples = tuples
                .iter()
                .flat_map(|t| terms.iter().map(move |x| t.iter().cloned().chain(std::iter::once(x.clone())).collect()))
                .collect();
        }
        new.extend(tuples.into_iter().map(|t| Term::Func(name.clone(), t)).filter(|t| !known.contains(t)));
        if terms.len() + new.len() > most {
            return false;
        }
    }
    terms.extend(new);
    true
}

enum Outcomes {
    Contradiction,
    /// The instances have a model, whose elements are the terms.
    Open(Model),
}

/// Are the instances over these terms contradictory? `None` where a limit is reached.
fn instances(matrix: &[Formula], terms: &[Term], equality: bool, limits: Limits) -> Option<Outcomes> {
    let mut g = Instances { enc: Encoder::default(), terms, work: limits.clauses };
    for f in matrix {
        let l = g.literal(f, &mut vec![]).ok()?;
        g.enc.cnf.add(&[l]);
    }
    if equality {
        g.equality_axioms();
    }
    match Solver::new(&g.enc.cnf).solve(&[], limits.steps).outcome {
        Outcome::Unsat => Some(Outcomes::Contradiction),
        Outcome::Unknown => None,
        Outcome::Sat(values) => {
            let place = |t: &Term| terms.iter().position(|x| x == t).unwrap_or(0);
            let mut model = Model { size: terms.len(), ..Model::default() };
            for (i, t) in terms.iter().enumerate() {
                if let Term::Const(c) = t {
                    model.constants.insert(c.clone(), i);
                }
            }
            for (f, &l) in &g.enc.letters {
                if let Formula::Atom(a) = f
                    && values[l as usize - 1]
                {
                    model.predicates.insert((a.pred.clone(), a.args.iter().map(place).collect()));
                }
            }
            Some(Outcomes::Open(model))
        }
    }
}

struct Instances<'t> {
    enc: Encoder,
    terms: &'t [Term],
    work: usize,
}

impl Instances<'_> {
    fn literal<'a>(&mut self, f: &'a Formula, env: &mut Vec<(&'a str, Term)>) -> Result<Literal, TooLarge> {
        self.work = self.work.checked_sub(1).ok_or(TooLarge)?;
        Ok(match f {
            Formula::Quant(_, v, a) => {
                let mut parts = vec![];
                for i in 0..self.terms.len() {
                    env.push((v, self.terms[i].clone()));
                    let l = self.literal(a, env);
                    env.pop();
                    parts.push(l?);
                }
                // only universals are left and they stand under no negation: one direction is enough
                let all = self.enc.cnf.fresh();
                parts.iter().for_each(|&p| self.enc.cnf.add(&[-all, p]));
                all
            }
            Formula::Bin(op, a, b) => {
                let (a, b) = (self.literal(a, env)?, self.literal(b, env)?);
                self.enc.gate(*op, a, b)
            }
            Formula::Not(a) => -self.literal(a, env)?,
            Formula::True => self.enc.truth(),
            Formula::False => -self.enc.truth(),
            Formula::Atom(_) | Formula::Equal(..) => {
                let ground = match substitute(f, env) {
                    Formula::Equal(a, b) if a == b => return Ok(self.enc.truth()),
                    Formula::Equal(a, b) if b < a => Formula::Equal(b, a),
                    other => other,
                };
                let known = self.enc.letters.get(&ground).copied();
                known.unwrap_or_else(|| {
                    let l = self.enc.cnf.fresh();
                    self.enc.letters.insert(ground, l);
                    l
                })
            }
        })
    }

    fn equal(&mut self, a: &Term, b: &Term) -> Literal {
        if a == b {
            return self.enc.truth();
        }
        let (a, b) = if a < b { (a, b) } else { (b, a) };
        let f = Formula::Equal(a.clone(), b.clone());
        let known = self.enc.letters.get(&f).copied();
        known.unwrap_or_else(|| {
            let l = self.enc.cnf.fresh();
            self.enc.letters.insert(f, l);
            l
        })
    }

    /// Transitivity and congruence over the terms in use. Left out for more than 24 terms, where a contradiction is still
    /// a proof but fewer are found.
    fn equality_axioms(&mut self) {
        let mut used: BTreeSet<Term> = self.terms.iter().cloned().collect();
        let mut atoms: Vec<(Atom, Literal)> = vec![];
        for (f, &l) in &self.enc.letters {
            match f {
                Formula::Atom(a) => {
                    atoms.push((a.clone(), l));
                    used.extend(a.args.iter().cloned());
                }
                Formula::Equal(a, b) => {
                    used.insert(a.clone());
                    used.insert(b.clone());
                }
                _ => {}
            }
        }
        let used: Vec<Term> = used.into_iter().collect();
        if used.len() > 24 || atoms.len() > 400 {
            return;
        }
        for a in &used {
            for b in &used {
                for c in &used {
                    let (ab, bc, ac) = (self.equal(a, b), self.equal(b, c), self.equal(a, c));
                    self.enc.cnf.add(&[-ab, -bc, ac]);
                }
                if let (Term::Func(f, x), Term::Func(g, y)) = (a, b)
                    && f == g
                    && x.len() == y.len()
                {
                    let mut clause: Vec<Literal> = x.iter().zip(y).map(|(x, y)| -self.equal(x, y)).collect();
                    clause.push(self.equal(a, b));
                    self.enc.cnf.add(&clause);
                }
            }
        }
        for (i, (a, la)) in atoms.iter().enumerate() {
            for (b, lb) in &atoms[..i] {
                if a.pred == b.pred && a.args.len() == b.args.len() {
                    let mut clause: Vec<Literal> = a.args.iter().zip(&b.args).map(|(x, y)| -self.equal(x, y)).collect();
                    for pair in [[-la, *lb], [*la, -lb]] {
                        clause.extend(pair);
                        self.enc.cnf.add(&clause);
                        clause.truncate(clause.len() - 2);
                    }
                }
            }
        }
    }
}
