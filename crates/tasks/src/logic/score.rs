//! The logical-equivalence score of two formulas (LogicLLaMA, arXiv 2305.15541).
//!
//! Atoms, as text, are the inputs of two truth functions; the shorter list of inputs is padded with dummies; inputs of
//! the prediction are bound to inputs of the truth, nearest by edit distance first; the score is the share of rows where
//! both functions agree under the best binding tried. With at most six inputs every binding is tried.
//!
//! What it cannot see, on purpose of its authors: quantifiers and the identity of variables. Padding with dummies can
//! only raise agreement, so a reward should also look at [`Le::inputs`]. For meaning proper use [`super::entails`].

use std::collections::BTreeMap;

use postgrad_base::{Error, Result};

use super::formula::Formula;
use super::parse::parse;
use super::truth::{Rows, evaluate};

/// Most inputs after padding: 2^16 rows.
pub const MAX_INPUTS: usize = 16;
/// Most bindings tried.
pub const MAX_BINDINGS: usize = 1000;
// Words of 64 rows computed per comparison at most; fewer bindings are tried on very large formulas.
const MAX_WORK: usize = 100_000_000;
const DUMMY_DISTANCE: usize = 10_000;

/// A score and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Le {
    /// Share of agreeing rows, 0 to 1.
    pub score: f64,
    /// Inputs of the truth and of the prediction before padding.
    pub inputs: (usize, usize),
    /// For each input of the truth (then dummies, `None`) the input of the prediction bound to it.
    pub binding: Vec<(Option<String>, Option<String>)>,
    /// How many bindings were compared, and whether these were all there are.
    pub tried: usize,
    pub complete: bool,
}

/// The score of texts: 0 for a prediction that is no formula, an error for a truth that is none or has too many inputs.
pub fn le_text(truth: &str, prediction: &str) -> Result<f64> {
    let truth = parse(truth)?;
    Ok(match parse(prediction) {
        Ok(p) => le(&truth, &p)?.score,
        Err(_) => 0.0,
    })
}

/// The score of two formulas. A prediction with more than [`MAX_INPUTS`] inputs scores 0.
pub fn le(truth: &Formula, prediction: &Formula) -> Result<Le> {
    let (ours, theirs) = (truth.atoms(), prediction.atoms());
    if ours.len() > MAX_INPUTS {
        return Err(Error::work(format!("the true formula has {} inputs (at most {MAX_INPUTS})", ours.len())));
    }
    let inputs = (ours.len(), theirs.len());
    let n = ours.len().max(theirs.len());
    if n > MAX_INPUTS {
        return Ok(Le { score: 0.0, inputs, binding: vec![], tried: 0, complete: false });
    }
    let text = |f: &&Formula| f.to_string().replace(' ', "");
    let our_names: Vec<String> = ours.iter().map(text).collect();
    let their_names: Vec<String> = theirs.iter().map(text).collect();
    let column: BTreeMap<&Formula, usize> = ours.iter().enumerate().map(|(i, f)| (*f, i)).collect();
    let target = evaluate(truth, &column, n);
    let work = prediction.size() * (target.len().div_ceil(64));
    let mut search = Binder {
        n,
        ours: ours.len(),
        theirs: theirs.len(),
        order: (0..n).map(|i| candidates(i, n, &our_names, &their_names)).collect(),
        bound: vec![usize::MAX; n],
        left: MAX_BINDINGS.min((MAX_WORK / work.max(1)).max(1)),
        tried: 0,
        best: None,
    };
    let score = |bound: &[usize]| {
        // bound[i] = the prediction's input that stands for the truth's input i
        let mut place = vec![0; n];
        bound.iter().enumerate().for_each(|(i, &j)| place[j] = i);
        let column: BTreeMap<&Formula, usize> = theirs.iter().enumerate().map(|(j, f)| (*f, place[j])).collect();
        let rows: Rows = evaluate(prediction, &column, n);
        target.agreement(&rows)
    };
    let complete = search.run(0, &score);
    let (agree, bound) = search.best.unwrap_or_else(|| (0, vec![]));
    let binding =
        bound.iter().enumerate().map(|(i, &j)| (our_names.get(i).cloned(), their_names.get(j).cloned())).collect();
    Ok(Le { score: agree as f64 / target.len() as f64, inputs, binding, tried: search.tried, complete })
}

/// The prediction's inputs for input `i` of the truth, nearest first.
fn candidates(i: usize, n: usize, ours: &[String], theirs: &[String]) -> Vec<usize> {
    let mut list: Vec<(usize, usize)> = (0..n)
        .map(|j| match (ours.get(i), theirs.get(j)) {
            (Some(a), Some(b)) => (edit_distance(a, b), j),
            _ => (DUMMY_DISTANCE, j),
        })
        .collect();
    list.sort();
    list.into_iter().map(|(_, j)| j).collect()
}

struct Binder {
    n: usize,
    ours: usize,
    theirs: usize,
    order: Vec<Vec<usize>>,
    bound: Vec<usize>,
    left: usize,
    tried: usize,
    best: Option<(usize, Vec<usize>)>,
}

impl Binder {
    /// Depth first over the truth's inputs; false once the limit is reached. Dummies of one side are interchangeable, so
    /// only one order of them is tried.
    fn run(&mut self, i: usize, score: &impl Fn(&[usize]) -> usize) -> bool {
        if i == self.n {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            self.tried += 1;
            let agree = score(&self.bound);
            if self.best.as_ref().is_none_or(|(b, _)| agree > *b) {
                self.best = Some((agree, self.bound.clone()));
            }
            return true;
        }
        let mut dummy_used = false;
        for k in 0..self.n {
            let j = self.order[i][k];
            if self.bound[..i].contains(&j) {
                continue;
            }
            if j >= self.theirs && std::mem::replace(&mut dummy_used, true) {
                continue;
            }
            if i > self.ours && self.bound[i - 1] > j {
                continue;
            }
            self.bound[i] = j;
            if !self.run(i + 1, score) {
                return false;
            }
        }
        self.bound[i] = usize::MAX;
        true
    }
}

/// Levenshtein distance over characters; long names count by their first 200 characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(200).collect();
    let b: Vec<char> = b.chars().take(200).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}
