//! Do two results say the same, and if not, how near are they? (QATCH's measures.)

use std::collections::{BTreeMap, BTreeSet};

use super::database::{Cell, Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Rows one by one if the first query has a top-level ORDER BY, else as a bag; columns in their order.
    Exact,
    /// QATCH's execution accuracy: equal numbers of rows and equal sets of rows, cells sorted inside a row.
    Qatch,
    /// As `Qatch`, but a bag of rows.
    Bag,
    /// BIRD's: equal sets of rows, columns in their order.
    Bird,
}

fn sorted_cells(rows: &[Vec<Cell>]) -> Vec<Vec<Cell>> {
    let mut rows = rows.to_vec();
    rows.iter_mut().for_each(|r| r.sort());
    rows
}

fn bag<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

impl Compare {
    /// Is `answer` as good as `gold`? Two empty results are the same.
    pub fn same(self, gold: &Table, answer: &Table) -> bool {
        let (g, a) = (&gold.rows, &answer.rows);
        if g.is_empty() && a.is_empty() {
            return true;
        }
        match self {
            Compare::Exact if gold.ordered => g == a,
            Compare::Exact => bag(g.clone()) == bag(a.clone()),
            Compare::Qatch => {
                let set = |rows| sorted_cells(rows).into_iter().collect::<BTreeSet<_>>();
                g.len() == a.len() && set(g) == set(a)
            }
            Compare::Bag => bag(sorted_cells(g)) == bag(sorted_cells(a)),
            Compare::Bird => g.iter().collect::<BTreeSet<_>>() == a.iter().collect::<BTreeSet<_>>(),
        }
    }
}

/// How near an answer is to the gold result, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Share of the answer's distinct cells that are in the gold result.
    pub cell_precision: f64,
    /// Share of the gold result's distinct cells that are in the answer.
    pub cell_recall: f64,
    /// Smaller by larger number of rows.
    pub tuple_cardinality: f64,
    /// Share of the gold result's distinct rows that the answer has equally often.
    pub tuple_constraint: f64,
}

impl Parts {
    /// Mean of cell precision, cell recall and tuple cardinality: the dense reward of Think2SQL.
    pub fn dense(&self) -> f64 {
        (self.cell_precision + self.cell_recall + self.tuple_cardinality) / 3.0
    }
}

/// The parts; 1 where both are empty, 0 where one is.
pub fn parts(gold: &Table, answer: &Table) -> Parts {
    let all = |x| Parts { cell_precision: x, cell_recall: x, tuple_cardinality: x, tuple_constraint: x };
    match (gold.rows.is_empty(), answer.rows.is_empty()) {
        (true, true) => return all(1.0),
        (false, false) => {}
        _ => return all(0.0),
    }
    let cells = |t: &Table| t.rows.iter().flatten().cloned().collect::<BTreeSet<Cell>>();
    let (g, a) = (cells(gold), cells(answer));
    let both = g.intersection(&a).count() as f64;
    let times = |t: &Table| {
        let mut times: BTreeMap<Vec<Cell>, usize> = BTreeMap::new();
        sorted_cells(&t.rows).into_iter().for_each(|r| *times.entry(r).or_default() += 1);
        times
    };
    let (tg, ta) = (times(gold), times(answer));
    let equal = tg.iter().filter(|(r, n)| ta.get(*r) == Some(n)).count();
    let (n, m) = (gold.rows.len() as f64, answer.rows.len() as f64);
    Parts {
        cell_precision: both / a.len() as f64,
        cell_recall: both / g.len() as f64,
        tuple_cardinality: n.min(m) / n.max(m),
        tuple_constraint: equal as f64 / tg.len() as f64,
    }
}
