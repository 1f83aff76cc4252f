//! Forward chaining over facts and rules, with proofs.
//!
//! ```text
//! bird(tweety).  bird(opus).  penguin(opus).
//! flies(X) :- bird(X), not penguin(X).
//! ```
//! Names that begin with a capital letter, `_` or `?` are variables. Under [`World::Closed`] `not` is negation as failure
//! (stratified) and what cannot be derived is false; under [`World::Open`] `not` is classical: negative facts and heads
//! are allowed, and what is derived neither way is unknown. Left out on purpose: functions, equality, disjunctive heads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use postgrad_base::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arg {
    Var(String),
    Const(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lit {
    pub negated: bool,
    pub pred: String,
    pub args: Vec<Arg>,
}

/// `head` holds if all of `body` hold; a fact has no body and no variables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub head: Lit,
    pub body: Vec<Lit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    Closed,
    Open,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub facts: usize,
    /// Attempts to match one body literal with one fact.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { facts: 100_000, steps: 5_000_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

/// One application of a rule: `conclusion` from `premises` (positive and, under the open world, negative facts) and
/// `absent` (closed world: what failed to be derivable).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Index of the rule in the theory.
    pub rule: usize,
    pub conclusion: Lit,
    pub premises: Vec<Lit>,
    pub absent: Vec<Lit>,
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_uppercase() || c == '_' || c == '?')
}

impl Lit {
    pub fn new(pred: &str, args: &[&str]) -> Self {
        let arg = |a: &&str| if is_variable(a) { Arg::Var(a.to_string()) } else { Arg::Const(a.to_string()) };
        Self { negated: false, pred: pred.into(), args: args.iter().map(arg).collect() }
    }

    pub fn negate(mut self) -> Self {
        self.negated = !self.negated;
        self
    }

    pub fn is_ground(&self) -> bool {
        self.args.iter().all(|a| matches!(a, Arg::Const(_)))
    }

    /// Reads `likes(ann, X)` or `not likes(ann, X)`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad =
            |what: &str| Error::work(format!("not a literal: {what}")).at(text.chars().take(60).collect::<String>());
        let mut text = text.trim();
        let mut negated = false;
        for sign in ["not ", "\\+", "~", "¬"] {
            if let Some(rest) = text.strip_prefix(sign) {
                (negated, text) = (true, rest.trim());
                break;
            }
        }
        let (pred, args) = match text.split_once('(') {
            None => (text, vec![]),
            Some((pred, rest)) => {
                let inner = rest.strip_suffix(')').ok_or_else(|| bad("no closing bracket at its end"))?;
                (
                    pred.trim_end(),
                    if inner.trim().is_empty() { vec![] } else { inner.split(',').map(str::trim).collect() },
                )
            }
        };
        let name =
            |s: &str| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '\'' | '?'));
        if !name(pred) || !args.iter().all(|a| name(a)) {
            return Err(bad("names are letters, digits, `_` and `-`"));
        }
        let mut lit = Lit::new(pred, &args);
        lit.negated = negated;
        Ok(lit)
    }
}

impl fmt::Display for Lit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negated { "not " } else { "" }, self.pred)?;
        if !self.args.is_empty() {
            let args: Vec<&str> = self.args.iter().map(|(Arg::Var(a) | Arg::Const(a))| a.as_str()).collect();
            write!(f, "({})", args.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.head)?;
        if !self.body.is_empty() {
            let body: Vec<String> = self.body.iter().map(Lit::to_string).collect();
            write!(f, " :- {}", body.join(", "))?;
        }
        f.write_str(".")
    }
}

/// Facts and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theory {
    pub rules: Vec<Rule>,
    pub world: World,
}

impl Theory {
    /// Reads clauses, each closed by a full stop; `%` begins a comment.
    pub fn parse(text: &str, world: World) -> Result<Self> {
        if text.len() > 1 << 20 {
            return Err(Error::work("the theory is longer than 1 MiB"));
        }
        let bare: String = text.lines().map(|l| l.split('%').next().unwrap_or("")).collect::<Vec<_>>().join("\n");
        let mut rules = vec![];
        let mut clauses: Vec<&str> = bare.split('.').collect();
        if clauses.pop().is_some_and(|rest| !rest.trim().is_empty()) {
            return Err(Error::work("the last clause has no full stop"));
        }
        for clause in clauses {
            let (head, body) = clause.split_once(":-").map_or((clause, None), |(h, b)| (h, Some(b)));
            let mut literals = vec![];
            if let Some(body) = body {
                let mut level = 0;
                for part in body.split(|c: char| {
                    level += i32::from(c == '(') - i32::from(c == ')');
                    c == ',' && level == 0
                }) {
                    literals.push(Lit::parse(part)?);
                }
            }
            rules.push(Rule { head: Lit::parse(head)?, body: literals });
        }
        let theory = Self { rules, world };
        theory.check()?;
        Ok(theory)
    }

    /// Variables are bound by positive premises (open world: by any premise); under the closed world heads are positive.
    pub fn check(&self) -> Result<()> {
        for rule in &self.rules {
            let vars = |l: &Lit| -> Vec<String> {
                l.args.iter().filter_map(|a| if let Arg::Var(v) = a { Some(v.clone()) } else { None }).collect()
            };
            let binds = |l: &&Lit| self.world == World::Open || !l.negated;
            let bound: BTreeSet<String> = rule.body.iter().filter(binds).flat_map(vars).collect();
            let needed = std::iter::once(&rule.head).chain(&rule.body).flat_map(vars);
            if let Some(v) = needed.into_iter().find(|v| !bound.contains(v)) {
                return Err(Error::work(format!("variable {v} stands in no positive premise")).at(rule));
            }
            if self.world == World::Closed && rule.head.negated {
                return Err(Error::work("a negative head under the closed world").at(rule));
            }
        }
        self.strata().map(|_| ())
    }

    /// The stratum of each predicate; negation as failure may not pass through a loop.
    fn strata(&self) -> Result<BTreeMap<&str, usize>> {
        let mut level: BTreeMap<&str, usize> = BTreeMap::new();
        for r in &self.rules {
            std::iter::once(&r.head).chain(&r.body).for_each(|l| {
                level.insert(&l.pred, 0);
            });
        }
        if self.world == World::Open {
            return Ok(level);
        }
        let most = level.len();
        loop {
            let mut changed = false;
            for r in &self.rules {
                let need = r.body.iter().map(|l| level[l.pred.as_str()] + usize::from(l.negated)).max().unwrap_or(0);
                let head = level.get_mut(r.head.pred.as_str()).expect("every head was entered");
                if need > *head {
                    if need > most {
                        return Err(Error::work("negation as failure through a loop (not stratified)").at(r));
                    }
                    *head = need;
                    changed = true;
                }
            }
            if !changed {
                return Ok(level);
            }
        }
    }

    /// Derives all that follows. An error where a limit is reached.
    pub fn close(&self, limits: Limits) -> Result<Closure> {
        let strata = self.strata()?;
        let top = strata.values().copied().max().unwrap_or(0);
        let mut c = Closure { world: self.world, facts: vec![], place: BTreeMap::new(), by_pred: BTreeMap::new() };
        let mut steps = limits.steps;
        let mut depth = 0;
        for stratum in 0..=top {
            let rules: Vec<(usize, &Rule)> =
                self.rules.iter().enumerate().filter(|(_, r)| strata[r.head.pred.as_str()] == stratum).collect();
            loop {
                let mut found: Vec<(Lit, Step)> = vec![];
                let mut seen: BTreeSet<Lit> = BTreeSet::new();
                for &(index, rule) in &rules {
                    let mut join =
                        Join { closure: &c, index, rule, steps: &mut steps, found: &mut found, seen: &mut seen };
                    if !join.run(&mut BTreeMap::new(), &mut vec![]) {
                        return Err(Error::work(format!("forward chaining took more than {} steps", limits.steps)));
                    }
                }
                if found.is_empty() {
                    break;
                }
                for (lit, step) in found {
                    let below = step.premises.iter().filter_map(|p| c.place.get(p)).map(|&i| c.facts[i].depth).max();
                    let own =
                        if step.premises.is_empty() && step.absent.is_empty() { 0 } else { below.unwrap_or(0) + 1 };
                    depth = depth.max(own);
                    c.insert(lit, step, own);
                }
                if c.facts.len() > limits.facts {
                    return Err(Error::work(format!("forward chaining derived more than {} facts", limits.facts)));
                }
            }
        }
        Ok(c)
    }
}

struct Join<'a> {
    closure: &'a Closure,
    index: usize,
    rule: &'a Rule,
    steps: &'a mut u64,
    found: &'a mut Vec<(Lit, Step)>,
    seen: &'a mut BTreeSet<Lit>,
}

fn substitute(l: &Lit, binding: &BTreeMap<&str, &str>) -> Lit {
    let args = l.args.iter().map(|a| match a {
        Arg::Var(v) => binding.get(v.as_str()).map_or_else(|| a.clone(), |c| Arg::Const(c.to_string())),
        Arg::Const(_) => a.clone(),
    });
    Lit { negated: l.negated, pred: l.pred.clone(), args: args.collect() }
}

impl<'a> Join<'a> {
    /// Matches the rule's premises from the `chosen.len()`-th on; false where the step limit is reached.
    fn run(&mut self, binding: &mut BTreeMap<&'a str, &'a str>, chosen: &mut Vec<Lit>) -> bool {
        if *self.steps == 0 {
            return false;
        }
        *self.steps -= 1;
        let naf = self.closure.world == World::Closed;
        // negation as failure waits until the positive premises have bound its variables
        let order: Vec<&'a Lit> = self.rule.body.iter().filter(|l| !(naf && l.negated)).collect();
        let Some(&next) = order.get(chosen.len()) else {
            let head = substitute(&self.rule.head, binding);
            if self.closure.place.contains_key(&head) || self.seen.contains(&head) {
                return true;
            }
            let absent: Vec<Lit> =
                self.rule.body.iter().filter(|l| naf && l.negated).map(|l| substitute(l, binding).negate()).collect();
            if absent.iter().all(|l| !self.closure.place.contains_key(l)) {
                self.seen.insert(head.clone());
                let step = Step { rule: self.index, conclusion: head.clone(), premises: chosen.clone(), absent };
                self.found.push((head, step));
            }
            return true;
        };
        let closure = self.closure;
        let Some(facts) = closure.by_pred.get(&(next.negated, next.pred.clone(), next.args.len())) else { return true };
        'fact: for &i in facts {
            if *self.steps == 0 {
                return false;
            }
            *self.steps -= 1;
            let fact = &closure.facts[i].lit;
            let mut added: Vec<&'a str> = vec![];
            for (want, have) in next.args.iter().zip(&fact.args) {
                let Arg::Const(have) = have else { continue };
                let fits = match want {
                    Arg::Const(c) => c == have,
                    Arg::Var(v) => match binding.get(v.as_str()) {
                        Some(b) => b == have,
                        None => {
                            binding.insert(v, have);
                            added.push(v);
                            true
                        }
                    },
                };
                if !fits {
                    added.iter().for_each(|v| {
                        binding.remove(v);
                    });
                    continue 'fact;
                }
            }
            chosen.push(fact.clone());
            let go_on = self.run(binding, chosen);
            chosen.pop();
            added.iter().for_each(|v| {
                binding.remove(v);
            });
            if !go_on {
                return false;
            }
        }
        true
    }
}

#[derive(Clone, Debug)]
struct Derived {
    lit: Lit,
    step: Step,
    depth: usize,
}

/// All that follows from a theory, each fact with its first (shallowest) derivation.
#[derive(Clone, Debug)]
pub struct Closure {
    world: World,
    facts: Vec<Derived>,
    place: BTreeMap<Lit, usize>,
    by_pred: BTreeMap<(bool, String, usize), Vec<usize>>,
}

impl Closure {
    fn insert(&mut self, lit: Lit, step: Step, depth: usize) {
        let i = self.facts.len();
        self.place.insert(lit.clone(), i);
        self.by_pred.entry((lit.negated, lit.pred.clone(), lit.args.len())).or_default().push(i);
        self.facts.push(Derived { lit, step, depth });
    }

    /// Facts in the order they were derived, with their depth (0 for given facts).
    pub fn facts(&self) -> impl Iterator<Item = (&Lit, usize)> {
        self.facts.iter().map(|d| (&d.lit, d.depth))
    }

    pub fn holds(&self, l: &Lit) -> bool {
        self.place.contains_key(l)
    }

    /// Facts derived together with their negation (open world only).
    pub fn conflicts(&self) -> Vec<&Lit> {
        self.facts.iter().map(|d| &d.lit).filter(|l| !l.negated && self.holds(&(*l).clone().negate())).collect()
    }

    /// The truth of a ground literal.
    pub fn query(&self, l: &Lit) -> Truth {
        match self.world {
            World::Closed => {
                let positive = Lit { negated: false, ..l.clone() };
                if self.holds(&positive) != l.negated { Truth::True } else { Truth::False }
            }
            World::Open if self.holds(l) => Truth::True,
            World::Open if self.holds(&l.clone().negate()) => Truth::False,
            World::Open => Truth::Unknown,
        }
    }

    pub fn depth(&self, l: &Lit) -> Option<usize> {
        self.place.get(l).map(|&i| self.facts[i].depth)
    }

    /// The steps that derive a literal, premises before conclusions, each fact once.
    pub fn proof(&self, l: &Lit) -> Option<Vec<Step>> {
        let mut needed: BTreeSet<usize> = BTreeSet::new();
        let mut open = vec![*self.place.get(l)?];
        while let Some(i) = open.pop() {
            if needed.insert(i) {
                open.extend(self.facts[i].step.premises.iter().map(|p| self.place[p]));
            }
        }
        // facts are numbered in order of derivation, so premises come first
        Some(needed.into_iter().map(|i| self.facts[i].step.clone()).collect())
    }
}

/// Checks a proof: every step applies its rule to earlier conclusions, and what it takes as absent is not derivable
/// (`closure` is asked for that; for the open world nothing is absent). Ends in `goal`.
pub fn check_proof(theory: &Theory, closure: &Closure, proof: &[Step], goal: &Lit) -> Result<()> {
    let mut have: BTreeSet<&Lit> = BTreeSet::new();
    for (n, s) in proof.iter().enumerate() {
        let bad = |what: String| Error::work(what).at(format!("step {}", n + 1));
        let rule = theory.rules.get(s.rule).ok_or_else(|| bad(format!("there is no rule {}", s.rule)))?;
        if let Some(p) = s.premises.iter().find(|p| !have.contains(p)) {
            return Err(bad(format!("{p} was not derived before")));
        }
        if let Some(a) = s.absent.iter().find(|a| closure.holds(a)) {
            return Err(bad(format!("{a} is derivable")));
        }
        let naf = |l: &&Lit| theory.world == World::Closed && l.negated;
        let mut binding: BTreeMap<&str, &Arg> = BTreeMap::new();
        let want: Vec<&Lit> = rule.body.iter().filter(|l| !naf(l)).collect();
        let want_absent: Vec<Lit> = rule.body.iter().filter(naf).map(|l| l.clone().negate()).collect();
        let pairs = want.iter().copied().zip(&s.premises).chain(want_absent.iter().zip(&s.absent));
        let pairs = pairs.chain(std::iter::once((&rule.head, &s.conclusion)));
        let mut fits = want.len() == s.premises.len() && want_absent.len() == s.absent.len();
        for (pattern, fact) in pairs {
            fits &=
                pattern.negated == fact.negated && pattern.pred == fact.pred && pattern.args.len() == fact.args.len();
            for (p, a) in pattern.args.iter().zip(&fact.args) {
                fits &= match p {
                    Arg::Const(_) => p == a,
                    Arg::Var(v) => *binding.entry(v).or_insert(a) == a && matches!(a, Arg::Const(_)),
                };
            }
        }
        if !fits {
            return Err(bad(format!("this is no use of the rule `{rule}`")));
        }
        have.insert(&s.conclusion);
    }
    match proof.last() {
        Some(s) if s.conclusion == *goal => Ok(()),
        _ => Err(Error::work(format!("the proof does not end in {goal}"))),
    }
}
