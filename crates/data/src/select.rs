//! Selectors over numbers: which of N things to keep, from their scores alone.
//!
//! Everything is a function of the scores and the order in which the things came: ties go to the earlier. A larger `k` only
//! adds, so subsets of one order are nested. Left out on purpose: what the scores mean, and selectors that need vectors.

use postgrad_base::Stream;
use serde::{Deserialize, Serialize};

/// How scores of different scales are brought to 0..1 before they are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Ranks: any monotone transform of a score gives the same.
    #[default]
    Rank,
    /// Least to 0, greatest to 1; outliers squeeze the others together.
    MinMax,
}

/// How many a share is: `max(1, floor(share * n))`, none of none. A share that is a whole number but for rounding counts as it.
pub fn count(share: f64, n: usize) -> usize {
    let exact = share * n as f64;
    ((exact + 1e-9).floor() as usize).max(1).min(n)
}

/// Indices from the highest score to the lowest, equal scores in their order.
pub fn order(scores: &[f64]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..scores.len()).collect();
    all.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    all
}

/// The `k` highest, best first.
pub fn top(scores: &[f64], k: usize) -> Vec<usize> {
    let mut all = order(scores);
    all.truncate(k);
    all
}

/// The `k` around the middle of the order, in the order of scores.
pub fn middle(scores: &[f64], k: usize) -> Vec<usize> {
    let all = order(scores);
    let k = k.min(all.len());
    let from = (all.len() - k) / 2;
    all[from..from + k].to_vec()
}

/// `k` at random; the same stream gives a larger subset that holds the smaller.
pub fn random(n: usize, k: usize, stream: &mut Stream) -> Vec<usize> {
    stream.sample(n, k)
}

/// Of each group its share (at least one), taken in the given order; groups in the order in which they come.
pub fn stratified<G: PartialEq>(groups: &[G], share: f64, order: &[usize]) -> Vec<usize> {
    let mut known: Vec<(&G, usize, usize)> = Vec::new();
    for group in groups {
        match known.iter_mut().find(|(g, _, _)| *g == group) {
            Some((_, n, _)) => *n += 1,
            None => known.push((group, 1, 0)),
        }
    }
    let mut chosen = Vec::new();
    for i in order {
        let (_, n, taken) = known.iter_mut().find(|(g, _, _)| **g == groups[*i]).expect("counted above");
        if *taken < count(share, *n) {
            *taken += 1;
            chosen.push(*i);
        }
    }
    chosen
}

/// Scores brought to 0..1, the highest to 1. Equal scores share their mean rank, so that their order in the file says nothing.
pub fn normal(scores: &[f64], norm: Norm) -> Vec<f64> {
    let n = scores.len();
    match norm {
        Norm::Rank => {
            let order = order(scores);
            let mut ranks = vec![1.0; n];
            let mut at = 0;
            while at < n {
                let mut end = at + 1;
                while end < n && scores[order[end]] == scores[order[at]] {
                    end += 1;
                }
                let mean = (at + end - 1) as f64 / 2.0;
                order[at..end].iter().for_each(|i| ranks[*i] = 1.0 - mean / (n - 1).max(1) as f64);
                at = end;
            }
            ranks
        }
        Norm::MinMax => {
            let low = scores.iter().copied().fold(f64::INFINITY, f64::min);
            let span = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low;
            scores.iter().map(|s| if span > 0.0 { (s - low) / span } else { 1.0 }).collect()
        }
    }
}

/// The weighted sum of normalised scores, one for each thing. All columns are equally long.
pub fn fuse(columns: &[(f64, &[f64])], norm: Norm) -> Vec<f64> {
    let n = columns.first().map_or(0, |(_, c)| c.len());
    let mut sum = vec![0.0; n];
    for (weight, column) in columns {
        assert_eq!(column.len(), n, "columns of different lengths");
        // A weight of 0 leaves the others' sum as it is, to the bit.
        if *weight != 0.0 {
            sum.iter_mut().zip(normal(column, norm)).for_each(|(s, x)| *s += weight * x);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_floors_and_at_least_one() {
        let sizes = [(0.1, 30), (0.1, 9), (0.29, 100), (0.01, 250), (1.0, 7), (0.5, 0), (3.0, 4)];
        assert_eq!(sizes.map(|(s, n)| count(s, n)), [3, 1, 29, 2, 7, 0, 4]);
    }

    #[test]
    fn ties_go_to_the_earlier_and_share_their_rank() {
        let scores = [1.0, 3.0, 3.0, -2.0, 1.0];
        assert_eq!(order(&scores), [1, 2, 0, 4, 3]);
        assert_eq!(top(&scores, 3), [1, 2, 0]);
        assert_eq!(middle(&scores, 3), [2, 0, 4]);
        assert_eq!(normal(&scores, Norm::Rank), [0.375, 0.875, 0.875, 0.0, 0.375]);
        assert_eq!(normal(&scores, Norm::MinMax), [0.6, 1.0, 1.0, 0.0, 0.6]);
        assert_eq!((normal(&[5.0], Norm::Rank), normal(&[5.0, 5.0], Norm::MinMax)), (vec![1.0], vec![1.0, 1.0]));
    }

    #[test]
    fn each_group_gets_its_share() {
        let groups = ["a", "b", "a", "a", "c", "a", "b"];
        assert_eq!(stratified(&groups, 0.5, &[6, 5, 4, 3, 2, 1, 0]), [6, 5, 4, 3]);
        assert_eq!(stratified(&groups, 0.1, &[0, 1, 2, 3, 4, 5, 6]), [0, 1, 4]);
    }

    proptest! {
        #[test]
        fn laws_of_fused_ranks(scores in prop::collection::vec((-4i32..4, -4i32..4), 1..60), k in 0usize..60, w in 0.0f64..1.0) {
            let a: Vec<f64> = scores.iter().map(|s| f64::from(s.0)).collect();
            let b: Vec<f64> = scores.iter().map(|s| f64::from(s.1)).collect();
            // Weights of 0 and 1 are the orders of one score, to the place.
            prop_assert_eq!(order(&fuse(&[(0.0, &a), (1.0, &b)], Norm::Rank)), order(&b));
            prop_assert_eq!(order(&fuse(&[(1.0, &a), (0.0, &b)], Norm::Rank)), order(&a));
            let joint = fuse(&[(w, &a), (1.0 - w, &b)], Norm::Rank);
            // A monotone transform changes nothing.
            let bent: Vec<f64> = a.iter().map(|x| (x / 3.0).exp() - 7.0).collect();
            prop_assert_eq!(&joint, &fuse(&[(w, &bent), (1.0 - w, &b)], Norm::Rank));
            // Subsets are nested.
            let (small, large) = (top(&joint, k), top(&joint, k + 5));
            prop_assert_eq!(&small[..], &large[..small.len()]);
            let stream = Stream::new(1, &["data"]);
            let (small, large) = (random(60, k, &mut stream.clone()), random(60, k + 5, &mut stream.clone()));
            prop_assert_eq!(&small[..], &large[..small.len()]);
        }
    }
}
