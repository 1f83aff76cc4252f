//! Finite-domain constraints: propagation and backtracking over up to 64 values per variable.
//!
//! ```
//! use postgrad_tasks::search::{Count, csp::{Csp, Relation}};
//! let mut p = Csp::new();
//! let x: Vec<usize> = (0..3).map(|_| p.var(1, 3).unwrap()).collect();
//! p.all_different(&x).unwrap();
//! p.linear(&[(2, x[0]), (1, x[1])], Relation::Equal, 4).unwrap();
//! let found = p.solve(2, 1000);
//! assert_eq!(found.solutions, vec![vec![1, 2, 3]]);
//! assert_eq!(found.count(), Count::One);
//! ```
//! The variable with the fewest values left is tried first (the first of several), its values upwards or in a drawn
//! order. A step is one value tried. Left out on purpose: learning (use `logic::sat` for large boards), optimisation
//! (see the MILP engine).

use std::sync::Arc;

use postgrad_base::{Error, Result, Stream};

use super::Found;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    AtMost,
    AtLeast,
    NotEqual,
}

/// Says whether values chosen so far (`None`: not yet) can still be right. Asked with one value added at a time.
type Check = Arc<dyn Fn(&[Option<i64>]) -> bool + Send + Sync>;

#[derive(Clone)]
enum Kind {
    AllDifferent,
    Linear(Vec<i64>, Relation, i64),
    /// Allowed combinations, one value per variable.
    Table(Vec<Vec<i64>>),
    Predicate(Check),
}

#[derive(Clone)]
struct Constraint {
    vars: Vec<usize>,
    kind: Kind,
}

/// A problem: variables, their values, constraints.
#[derive(Clone, Default)]
pub struct Csp {
    /// Value of bit 0 of each variable's set.
    base: Vec<i64>,
    domains: Vec<u64>,
    constraints: Vec<Constraint>,
    watching: Vec<Vec<usize>>,
}

/// What the solver did, for traces that a model learns from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Only this value was left.
    Forced {
        var: usize,
        value: i64,
    },
    /// Tried, with the values that were left.
    Guess {
        var: usize,
        value: i64,
        among: Vec<i64>,
    },
    /// The last guess was wrong.
    Backtrack {
        var: usize,
        value: i64,
    },
    Solved,
}

impl Csp {
    pub fn new() -> Self {
        Self::default()
    }

    /// A variable with the values `low..=high`, at most 64 of them.
    pub fn var(&mut self, low: i64, high: i64) -> Result<usize> {
        match high.checked_sub(low) {
            Some(width @ 0..=63) => {
                self.base.push(low);
                self.domains.push(if width == 63 { u64::MAX } else { (1 << (width + 1)) - 1 });
                self.watching.push(vec![]);
                Ok(self.base.len() - 1)
            }
            _ => Err(Error::work(format!("a variable has 1 to 64 values, not {low}..={high}"))),
        }
    }

    pub fn vars(&self) -> usize {
        self.base.len()
    }

    fn check(&self, vars: &[usize]) -> Result<()> {
        match vars.iter().find(|&&v| v >= self.base.len()) {
            Some(v) => Err(Error::work(format!("there is no variable {v}"))),
            None => Ok(()),
        }
    }

    fn bit(&self, var: usize, value: i64) -> u64 {
        match value.checked_sub(self.base[var]) {
            Some(i @ 0..=63) => 1 << i,
            _ => 0,
        }
    }

    fn values(&self, var: usize, set: u64) -> impl Iterator<Item = i64> + use<> {
        let base = self.base[var];
        (0..64).filter(move |i| set >> i & 1 == 1).map(move |i| base + i)
    }

    /// Keeps only these values.
    pub fn restrict(&mut self, var: usize, values: &[i64]) -> Result<()> {
        self.check(&[var])?;
        let keep = values.iter().map(|&v| self.bit(var, v)).fold(0, |a, b| a | b);
        self.domains[var] &= keep;
        Ok(())
    }

    fn add(&mut self, vars: Vec<usize>, kind: Kind) -> Result<()> {
        self.check(&vars)?;
        let id = self.constraints.len();
        for &v in &vars {
            if self.watching[v].last() != Some(&id) {
                self.watching[v].push(id);
            }
        }
        self.constraints.push(Constraint { vars, kind });
        Ok(())
    }

    pub fn all_different(&mut self, vars: &[usize]) -> Result<()> {
        self.add(vars.to_vec(), Kind::AllDifferent)
    }

    /// Sum of coefficient times variable, compared with a number. Coefficients and the number stay below 2^40.
    pub fn linear(&mut self, terms: &[(i64, usize)], relation: Relation, right: i64) -> Result<()> {
        let vars: Vec<usize> = terms.iter().map(|t| t.1).collect();
        self.check(&vars)?;
        let small = |n: i64| n.unsigned_abs() < 1 << 40;
        let fits = |&(c, v): &(i64, usize)| {
            small(c) && small(self.base[v]) && small(c.saturating_mul(self.base[v].abs() + 64))
        };
        if !terms.iter().all(fits) || !small(right) || terms.len() > 10_000 {
            return Err(Error::work("a linear constraint with numbers too large"));
        }
        self.add(vars, Kind::Linear(terms.iter().map(|t| t.0).collect(), relation, right))
    }

    /// One of the rows, value by value.
    pub fn table(&mut self, vars: &[usize], rows: Vec<Vec<i64>>) -> Result<()> {
        if rows.iter().any(|r| r.len() != vars.len()) {
            return Err(Error::work("a table row of another length than its variables"));
        }
        self.add(vars.to_vec(), Kind::Table(rows))
    }

    /// Any rule. `holds` gets the values known so far and says whether they can still be right; with all values known it
    /// says whether they are.
    pub fn predicate(
        &mut self,
        vars: &[usize],
        holds: impl Fn(&[Option<i64>]) -> bool + Send + Sync + 'static,
    ) -> Result<()> {
        self.add(vars.to_vec(), Kind::Predicate(Arc::new(holds)))
    }

    /// Do these values satisfy every constraint?
    pub fn holds(&self, values: &[i64]) -> bool {
        values.len() == self.base.len()
            && (0..values.len()).all(|v| self.domains[v] & self.bit(v, values[v]) != 0)
            && self.constraints.iter().all(|c| {
                let own: Vec<i64> = c.vars.iter().map(|&v| values[v]).collect();
                match &c.kind {
                    Kind::AllDifferent => (0..own.len()).all(|i| !own[..i].contains(&own[i])),
                    Kind::Linear(k, relation, right) => {
                        let sum: i64 = k.iter().zip(&own).map(|(k, x)| k * x).sum();
                        match relation {
                            Relation::Equal => sum == *right,
                            Relation::AtMost => sum <= *right,
                            Relation::AtLeast => sum >= *right,
                            Relation::NotEqual => sum != *right,
                        }
                    }
                    Kind::Table(rows) => rows.contains(&own),
                    Kind::Predicate(holds) => holds(&own.into_iter().map(Some).collect::<Vec<_>>()),
                }
            })
    }

    /// Solutions in a fixed order, at most `max_solutions`.
    pub fn solve(&self, max_solutions: usize, max_steps: u64) -> Found<Vec<i64>> {
        self.search(max_solutions, max_steps, None, None)
    }

    /// One solution with values tried in a drawn order: how a puzzle's maker gets a full board.
    pub fn solve_random(&self, stream: &mut Stream, max_steps: u64) -> Found<Vec<i64>> {
        self.search(1, max_steps, Some(stream), None)
    }

    /// The first solution, and how it was come by.
    pub fn solve_traced(&self, max_steps: u64) -> (Found<Vec<i64>>, Vec<Event>) {
        let mut events = vec![];
        let found = self.search(1, max_steps, None, Some(&mut events));
        (found, events)
    }

    fn search(
        &self,
        max_solutions: usize,
        max_steps: u64,
        mut stream: Option<&mut Stream>,
        mut events: Option<&mut Vec<Event>>,
    ) -> Found<Vec<i64>> {
        let mut found = Found { solutions: vec![], complete: true, steps: 0 };
        let mut domains = self.domains.clone();
        let all: Vec<usize> = (0..self.constraints.len()).collect();
        if !self.propagate(&mut domains, all, &mut events) {
            return found;
        }
        // a level: the domains before its guess, its variable, the values still to try (last first), the value tried
        struct Level {
            domains: Vec<u64>,
            var: usize,
            todo: Vec<i64>,
            tried: Option<i64>,
        }
        let mut levels: Vec<Level> = vec![];
        let mut descend = true;
        loop {
            if descend {
                let open = (0..domains.len())
                    .filter(|&v| domains[v].count_ones() > 1)
                    .min_by_key(|&v| domains[v].count_ones());
                match open {
                    None => {
                        if found.solutions.len() >= max_solutions {
                            found.complete = false;
                            return found;
                        }
                        if let Some(e) = &mut events {
                            e.push(Event::Solved);
                        }
                        let value = |v: usize| self.base[v] + i64::from(domains[v].trailing_zeros());
                        found.solutions.push((0..domains.len()).map(value).collect());
                        // one more than asked for is looked for, so that `complete` can be told; a traced or a random
                        // search stops here
                        if events.is_some() || stream.is_some() {
                            found.complete = false;
                            return found;
                        }
                    }
                    Some(var) => {
                        let mut todo: Vec<i64> = self.values(var, domains[var]).collect();
                        todo.reverse();
                        if let Some(s) = &mut stream {
                            s.shuffle(&mut todo);
                        }
                        levels.push(Level { domains: domains.clone(), var, todo, tried: None });
                    }
                }
            }
            let Some(level) = levels.last_mut() else { return found };
            if let (Some(value), Some(e)) = (level.tried, &mut events) {
                e.push(Event::Backtrack { var: level.var, value });
            }
            let Some(value) = level.todo.pop() else {
                levels.pop();
                descend = false;
                continue;
            };
            if found.steps >= max_steps {
                found.complete = false;
                return found;
            }
            found.steps += 1;
            level.tried = Some(value);
            domains.clone_from(&level.domains);
            let var = level.var;
            if let Some(e) = &mut events {
                e.push(Event::Guess { var, value, among: self.values(var, domains[var]).collect() });
            }
            domains[var] = self.bit(var, value);
            descend = self.propagate(&mut domains, self.watching[var].clone(), &mut events);
        }
    }

    /// Narrows domains until nothing changes; false where one is empty.
    fn propagate(&self, domains: &mut [u64], start: Vec<usize>, events: &mut Option<&mut Vec<Event>>) -> bool {
        if domains.contains(&0) {
            return false;
        }
        let mut queued = vec![false; self.constraints.len()];
        let mut queue: std::collections::VecDeque<usize> = start.into();
        queue.iter().for_each(|&c| queued[c] = true);
        let mut changed = vec![];
        while let Some(id) = queue.pop_front() {
            queued[id] = false;
            changed.clear();
            if !self.narrow(&self.constraints[id], domains, &mut changed) {
                return false;
            }
            changed.sort();
            changed.dedup();
            for &var in &changed {
                if let Some(e) = events
                    && domains[var].count_ones() == 1
                {
                    let value = self.base[var] + i64::from(domains[var].trailing_zeros());
                    e.push(Event::Forced { var, value });
                }
                for &c in &self.watching[var] {
                    if !std::mem::replace(&mut queued[c], true) {
                        queue.push_back(c);
                    }
                }
            }
        }
        true
    }

    fn narrow(&self, c: &Constraint, domains: &mut [u64], changed: &mut Vec<usize>) -> bool {
        let keep = |domains: &mut [u64], changed: &mut Vec<usize>, var: usize, set: u64| {
            let left = domains[var] & set;
            if left != domains[var] {
                domains[var] = left;
                changed.push(var);
            }
            left != 0
        };
        match &c.kind {
            Kind::AllDifferent => self.narrow_different(c, domains, changed),
            Kind::Linear(k, relation, right) => self.narrow_linear(c, k, *relation, *right, domains, changed),
            Kind::Table(rows) => {
                let mut seen = vec![0u64; c.vars.len()];
                for row in rows {
                    let bits: Vec<u64> = c.vars.iter().zip(row).map(|(&v, &x)| self.bit(v, x)).collect();
                    if c.vars.iter().zip(&bits).all(|(&v, b)| domains[v] & b != 0) {
                        seen.iter_mut().zip(&bits).for_each(|(s, b)| *s |= b);
                    }
                }
                c.vars.iter().zip(seen).all(|(&v, s)| keep(domains, changed, v, s))
            }
            Kind::Predicate(holds) => {
                let single = |d: u64| d.count_ones() == 1;
                let value = |v: usize, d: u64| self.base[v] + i64::from(d.trailing_zeros());
                let mut known: Vec<Option<i64>> =
                    c.vars.iter().map(|&v| single(domains[v]).then(|| value(v, domains[v]))).collect();
                if !holds(&known) {
                    return false;
                }
                if known.iter().all(Option::is_none) {
                    return true;
                }
                for (i, &v) in c.vars.iter().enumerate() {
                    if known[i].is_some() {
                        continue;
                    }
                    let mut left = 0;
                    for x in self.values(v, domains[v]) {
                        known[i] = Some(x);
                        if holds(&known) {
                            left |= self.bit(v, x);
                        }
                    }
                    known[i] = None;
                    if !keep(domains, changed, v, left) {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Decided values leave the others; fewer values than variables is a failure; a value that must be used and has one
    /// place goes there.
    fn narrow_different(&self, c: &Constraint, domains: &mut [u64], changed: &mut Vec<usize>) -> bool {
        // values relative to the smallest base, where they fit into 128 bits
        let low = c.vars.iter().map(|&v| self.base[v]).min().unwrap_or(0);
        let mut again = true;
        while again {
            again = false;
            for (i, &v) in c.vars.iter().enumerate() {
                if domains[v].count_ones() != 1 {
                    continue;
                }
                let value = self.base[v] + i64::from(domains[v].trailing_zeros());
                for (j, &w) in c.vars.iter().enumerate() {
                    if i == j {
                        continue;
                    }
                    let bit = self.bit(w, value);
                    if domains[w] & bit != 0 {
                        domains[w] &= !bit;
                        changed.push(w);
                        again |= domains[w].count_ones() == 1;
                        if domains[w] == 0 {
                            return false;
                        }
                    }
                }
            }
        }
        if c.vars.iter().any(|&v| self.base[v] - low > 64) {
            return true;
        }
        let wide = |v: usize| u128::from(domains[v]) << (self.base[v] - low);
        let (mut any, mut twice) = (0u128, 0u128);
        for &v in &c.vars {
            twice |= any & wide(v);
            any |= wide(v);
        }
        if (any.count_ones() as usize) < c.vars.len() {
            return false;
        }
        if any.count_ones() as usize == c.vars.len() {
            // every value is used: one that a single variable can take is its
            let single = any & !twice;
            for &v in &c.vars {
                let own = (u128::from(domains[v]) << (self.base[v] - low)) & single;
                match own.count_ones() {
                    0 => {}
                    1 => {
                        let bit = (own >> (self.base[v] - low)) as u64;
                        if domains[v] != bit {
                            domains[v] = bit;
                            changed.push(v);
                        }
                    }
                    _ => return false,
                }
            }
        }
        true
    }

    fn narrow_linear(
        &self,
        c: &Constraint,
        k: &[i64],
        relation: Relation,
        right: i64,
        domains: &mut [u64],
        changed: &mut Vec<usize>,
    ) -> bool {
        let bounds = |v: usize, d: u64| {
            (self.base[v] + i64::from(d.trailing_zeros()), self.base[v] + 63 - i64::from(d.leading_zeros()))
        };
        let span = |k: i64, (low, high): (i64, i64)| if k >= 0 { (k * low, k * high) } else { (k * high, k * low) };
        let (mut least, mut most) = (0, 0);
        for (&v, &k) in c.vars.iter().zip(k) {
            let (a, b) = span(k, bounds(v, domains[v]));
            least += a;
            most += b;
        }
        for (&v, &k) in c.vars.iter().zip(k) {
            let (a, b) = span(k, bounds(v, domains[v]));
            let (rest_least, rest_most) = (least - a, most - b);
            let mut left = 0;
            for x in self.values(v, domains[v]) {
                let own = k * x;
                let possible = match relation {
                    Relation::AtMost => rest_least + own <= right,
                    Relation::AtLeast => rest_most + own >= right,
                    Relation::Equal => rest_least + own <= right && rest_most + own >= right,
                    Relation::NotEqual => rest_least != rest_most || rest_least + own != right,
                };
                if possible {
                    left |= self.bit(v, x);
                }
            }
            if left != domains[v] {
                domains[v] = left;
                if left == 0 {
                    return false;
                }
                changed.push(v);
                let (a2, b2) = span(k, bounds(v, left));
                least += a2 - a;
                most += b2 - b;
            }
        }
        // a sum of nothing is 0
        !c.vars.is_empty()
            || match relation {
                Relation::Equal => right == 0,
                Relation::AtMost => 0 <= right,
                Relation::AtLeast => 0 >= right,
                Relation::NotEqual => right != 0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Count;
    use proptest::prelude::*;

    /// Sudoku of 4 or 9: rows, columns, boxes.
    fn sudoku(text: &str) -> Csp {
        let n = if text.len() == 81 { 9 } else { 4 };
        let b = if n == 9 { 3 } else { 2 };
        let mut p = Csp::new();
        let x: Vec<usize> = (0..n * n).map(|_| p.var(1, n as i64).unwrap()).collect();
        for i in 0..n {
            p.all_different(&(0..n).map(|j| x[i * n + j]).collect::<Vec<_>>()).unwrap();
            p.all_different(&(0..n).map(|j| x[j * n + i]).collect::<Vec<_>>()).unwrap();
            let boxed = (0..n).map(|j| x[(i / b * b + j / b) * n + i % b * b + j % b]);
            p.all_different(&boxed.collect::<Vec<_>>()).unwrap();
        }
        for (i, c) in text.bytes().enumerate().filter(|(_, c)| c.is_ascii_digit() && *c != b'0') {
            p.restrict(x[i], &[i64::from(c - b'0')]).unwrap();
        }
        p
    }

    #[test]
    fn sudokus() {
        assert_eq!(sudoku("0000000000000000").solve(1000, 100_000).solutions.len(), 288);
        let text = "530070000600195000098000060800060003400803001700020006060000280000419005000080079";
        let found = sudoku(text).solve(2, 10_000);
        assert_eq!(found.count(), Count::One);
        let board: String = found.solutions[0].iter().map(|v| v.to_string()).collect();
        assert_eq!(board, "534678912672195348198342567859761423426853791713924856961537284287419635345286179");
        // a hard one, still within few steps
        let hard = "800000000003600000070090200050007000000045700000100030001000068008500010090000400";
        let found = sudoku(hard).solve(2, 100_000);
        assert_eq!(found.count(), Count::One);
        assert!(sudoku(hard).holds(&found.solutions[0]));
        assert_eq!(sudoku("1100000000000000").solve(1, 100).count(), Count::None);
    }

    #[test]
    fn a_magic_square_and_a_word_sum() {
        let mut p = Csp::new();
        let x: Vec<usize> = (0..9).map(|_| p.var(1, 9).unwrap()).collect();
        p.all_different(&x).unwrap();
        for line in [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]] {
            p.linear(&line.map(|i| (1, x[i])), Relation::Equal, 15).unwrap();
        }
        assert_eq!(p.solve(100, 1_000_000).solutions.len(), 8);
        // SEND + MORE = MONEY
        let mut p = Csp::new();
        let v: Vec<usize> = (0..8).map(|_| p.var(0, 9).unwrap()).collect();
        let [s, e, n, d, m, o, r, y] = v[..] else { unreachable!() };
        p.all_different(&v).unwrap();
        p.linear(&[(1, s)], Relation::AtLeast, 1).unwrap();
        p.linear(&[(1, m)], Relation::NotEqual, 0).unwrap();
        let terms = [(1000, s), (91, e), (-90, n), (1, d), (-9000, m), (-900, o), (10, r), (-1, y)];
        p.linear(&terms, Relation::Equal, 0).unwrap();
        let found = p.solve(2, 1_000_000);
        assert_eq!(found.solutions, vec![vec![9, 5, 6, 7, 1, 0, 8, 2]]);
        assert_eq!(found.count(), Count::One);
    }

    #[test]
    fn limits_traces_and_drawn_boards() {
        let empty = sudoku(&"0".repeat(81));
        let cut = empty.solve(usize::MAX, 50);
        assert_eq!((cut.steps, cut.complete), (50, false));
        let mut a = Stream::new(1, &["csp"]);
        let mut b = Stream::new(1, &["csp"]);
        let one = empty.solve_random(&mut a, 100_000).solutions;
        assert_eq!(one, empty.solve_random(&mut b, 100_000).solutions);
        assert!(empty.holds(&one[0]));
        assert_ne!(one, empty.solve_random(&mut a, 100_000).solutions);
        let p = sudoku("1000003000000200");
        let (found, events) = p.solve_traced(1000);
        assert_eq!(events.last(), Some(&Event::Solved));
        // replaying the decisions that were not taken back gives the solution
        let mut board = vec![0; 16];
        for e in &events {
            if let Event::Forced { var, value } | Event::Guess { var, value, .. } = e {
                board[*var] = *value;
            }
        }
        let givens = [(0, 1), (6, 3), (13, 2)];
        givens.iter().for_each(|&(i, v)| board[i] = v);
        assert_eq!(board, found.solutions[0]);
        assert!(
            Csp::new().var(0, 64).is_err()
                && Csp::new().var(3, 2).is_err()
                && Csp::new().var(i64::MIN, i64::MAX).is_err()
        );
    }

    proptest! {
        /// Random problems of all kinds against trying every assignment.
        #[test]
        fn agrees_with_trying_everything(seed in any::<u64>()) {
            let mut s = Stream::new(seed, &["csp"]);
            let mut p = Csp::new();
            let n = 2 + s.below(3);
            let ranges: Vec<(i64, i64)> = (0..n).map(|_| { let a = s.between(-3, 3); (a, a + s.between(0, 3)) }).collect();
            let x: Vec<usize> = ranges.iter().map(|&(a, b)| p.var(a, b).unwrap()).collect();
            for _ in 0..1 + s.below(3) {
                let mut of = x.clone();
                s.shuffle(&mut of);
                of.truncate(2 + s.below(n - 1));
                match s.below(4) {
                    0 => p.all_different(&of).unwrap(),
                    1 => {
                        let terms: Vec<(i64, usize)> = of.iter().map(|&v| (s.between(-3, 3), v)).collect();
                        let relation = *s.choose(&[Relation::Equal, Relation::AtMost, Relation::AtLeast, Relation::NotEqual]);
                        p.linear(&terms, relation, s.between(-4, 4)).unwrap();
                    }
                    2 => {
                        let rows = (0..6).map(|_| of.iter().map(|_| s.between(-3, 5)).collect()).collect();
                        p.table(&of, rows).unwrap();
                    }
                    _ => {
                        let (modulus, rest) = (s.between(2, 3), s.between(0, 1));
                        p.predicate(&of, move |v| {
                            let sum: i64 = v.iter().flatten().sum();
                            v.iter().any(Option::is_none) || sum.rem_euclid(modulus) == rest
                        }).unwrap();
                    }
                }
            }
            let mut all = vec![vec![]];
            for &(a, b) in &ranges {
                all = all.iter().flat_map(|v: &Vec<i64>| (a..=b).map(move |x| [v.clone(), vec![x]].concat())).collect();
            }
            all.retain(|v| p.holds(v));
            let mut found = p.solve(usize::MAX, 100_000);
            found.solutions.sort();
            all.sort();
            prop_assert!(found.complete);
            prop_assert_eq!(found.solutions, all);
        }
    }
}
