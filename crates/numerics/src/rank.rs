//! Figures of order: ranks, Spearman's correlation, the area under the ROC curve, average precision, the weighted median.
//!
//! Weights count how often a value is there (a bootstrap's multiplicities); without them each is there once. What cannot
//! be known (one class only, no spread, no weight) is NaN, and so is everything of a NaN. Panics where lengths differ.

use crate::regression::pearson;

/// Places in rising order from 1; equal values share the mean of their places.
pub fn ranks(xs: &[f64], weights: Option<&[f64]>) -> Vec<f64> {
    let mut out = vec![0.0; xs.len()];
    let mut before = 0.0;
    for group in rising(xs) {
        let here = group.iter().map(|i| weight(weights, *i)).sum::<f64>();
        group.iter().for_each(|i| out[*i] = before + 0.5 * (here + 1.0));
        before += here;
    }
    out
}

/// Spearman's rank correlation (1904): Pearson's of the ranks, ties at their mean place.
pub fn spearman(xs: &[f64], ys: &[f64], weights: Option<&[f64]>) -> f64 {
    if xs.iter().chain(ys).any(|v| v.is_nan()) {
        return f64::NAN;
    }
    pearson(&ranks(xs, weights), &ranks(ys, weights), weights)
}

/// Area under the ROC curve: the chance that a positive's score is above a negative's, ties counted half (the
/// Mann-Whitney statistic; Hanley and McNeil 1982).
pub fn auc(scores: &[f64], positive: &[bool], weights: Option<&[f64]>) -> f64 {
    assert_eq!(scores.len(), positive.len(), "a score and a label each");
    if scores.iter().any(|s| s.is_nan()) {
        return f64::NAN;
    }
    let (mut below, mut wins, mut positives) = (0.0, 0.0, 0.0);
    for group in rising(scores) {
        let (mut yes, mut no) = (0.0, 0.0);
        group.iter().for_each(|i| *(if positive[*i] { &mut yes } else { &mut no }) += weight(weights, *i));
        wins += yes * (below + 0.5 * no);
        below += no;
        positives += yes;
    }
    wins / (positives * below)
}

/// Average precision: the sum over falling thresholds of (recall gained) * (precision there). Items of one score pass a
/// threshold together, so their order cannot matter (as scikit-learn's `average_precision_score`).
pub fn average_precision(scores: &[f64], positive: &[bool], weights: Option<&[f64]>) -> f64 {
    assert_eq!(scores.len(), positive.len(), "a score and a label each");
    if scores.iter().any(|s| s.is_nan()) {
        return f64::NAN;
    }
    let (mut taken, mut found, mut area) = (0.0, 0.0, 0.0);
    for group in rising(scores).iter().rev() {
        let (mut here, mut yes) = (0.0, 0.0);
        for i in group {
            here += weight(weights, *i);
            yes += if positive[*i] { weight(weights, *i) } else { 0.0 };
        }
        (taken, found) = (taken + here, found + yes);
        if yes > 0.0 {
            area += yes * found / taken;
        }
    }
    area / found
}

/// The median of values that are there as often as their weights say.
pub fn weighted_median(xs: &[f64], weights: &[f64]) -> f64 {
    assert_eq!(xs.len(), weights.len(), "a weight each");
    let half = 0.5 * weights.iter().sum::<f64>();
    if xs.iter().any(|x| x.is_nan()) || half.is_nan() || half <= 0.0 {
        return f64::NAN;
    }
    let (mut before, mut lower) = (0.0, None);
    for group in rising(xs) {
        let here = group.iter().map(|i| weights[*i]).sum::<f64>();
        if here == 0.0 {
            continue;
        }
        let x = xs[group[0]];
        if let Some(lower) = lower {
            return 0.5 * (lower + x);
        }
        before += here;
        if before > half {
            return x;
        }
        // Exactly half lies at or below: the median is between here and the next value that is there.
        if before == half {
            lower = Some(x);
        }
    }
    lower.unwrap_or(f64::NAN)
}

pub(crate) fn weight(weights: Option<&[f64]>, i: usize) -> f64 {
    weights.map_or(1.0, |w| w[i])
}

/// Indices in groups of equal values, rising.
fn rising(xs: &[f64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    order.sort_by(|a, b| xs[*a].total_cmp(&xs[*b]));
    // `==` joins 0 and -0, which the order above keeps apart but beside each other.
    order.chunk_by(|a, b| xs[*a] == xs[*b]).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::median;
    use proptest::prelude::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
    }

    #[test]
    fn ranks_and_spearman_by_hand() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0], None), [3.5, 1.0, 3.5, 2.0]);
        near(spearman(&[1.0, 2.0, 3.0], &[10.0, 100.0, 1000.0], None), 1.0);
        // Without ties, 1 - 6 sum d^2 / (n (n^2 - 1)): d = (-1, 1, -1, 1, 0) gives 1 - 24/120.
        near(spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0], None), 0.8);
        // Ranks (1.5, 1.5, 3) and (1, 2, 3): covariance 1.5, variances 1.5 and 2.
        near(spearman(&[0.0, -0.0, 1.0], &[1.0, 2.0, 3.0], None), 1.5 / 3f64.sqrt());
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0], None).is_nan() && spearman(&[], &[], None).is_nan());
        assert!(spearman(&[1.0, f64::NAN], &[1.0, 2.0], None).is_nan());
    }

    #[test]
    fn auc_and_average_precision_by_hand() {
        // scikit-learn's example: scores 0.1, 0.4, 0.35, 0.8 of labels 0, 0, 1, 1: auc 0.75, average precision 0.8333.
        let (scores, labels) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        near(auc(&scores, &labels, None), 0.75);
        near(average_precision(&scores, &labels, None), 0.5 + 0.5 * 2.0 / 3.0);
        // All tied: one threshold that takes everything.
        near(auc(&[0.3; 4], &labels, None), 0.5);
        near(average_precision(&[0.3; 4], &[true, false, false, false], None), 0.25);
        assert!(auc(&scores, &[true; 4], None).is_nan() && average_precision(&scores, &[false; 4], None).is_nan());
    }

    #[test]
    fn a_weighted_median_is_the_median_of_copies() {
        near(weighted_median(&[5.0, 1.0, 9.0], &[1.0, 1.0, 1.0]), 5.0);
        near(weighted_median(&[5.0, 1.0, 9.0], &[0.0, 2.0, 2.0]), 5.0);
        near(weighted_median(&[5.0, 1.0, 9.0], &[0.0, 0.0, 3.0]), 9.0);
        assert!(weighted_median(&[1.0], &[0.0]).is_nan() && weighted_median(&[], &[]).is_nan());
    }

    proptest! {
        #[test]
        fn weights_are_copies(rows in proptest::collection::vec((0u8..5, 0u8..5, any::<bool>(), 0usize..4), 0..14)) {
            let xs: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let ys: Vec<f64> = rows.iter().map(|r| f64::from(r.1)).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.2).collect();
            let w: Vec<f64> = rows.iter().map(|r| r.3 as f64).collect();
            let copies: Vec<usize> = (0..rows.len()).flat_map(|i| vec![i; rows[i].3]).collect();
            let pick = |v: &[f64]| copies.iter().map(|i| v[*i]).collect::<Vec<f64>>();
            let (cx, cy) = (pick(&xs), pick(&ys));
            let cl: Vec<bool> = copies.iter().map(|i| labels[*i]).collect();
            for (a, b) in [
                (spearman(&xs, &ys, Some(&w)), spearman(&cx, &cy, None)),
                (auc(&xs, &labels, Some(&w)), auc(&cx, &cl, None)),
                (average_precision(&xs, &labels, Some(&w)), average_precision(&cx, &cl, None)),
                (weighted_median(&xs, &w), median(&cx)),
            ] {
                prop_assert!((a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-9, "{} {}", a, b);
            }
        }

        #[test]
        fn order_figures_do_not_see_the_scale(rows in proptest::collection::vec((-50i32..50, any::<bool>()), 2..30)) {
            let xs: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let bent: Vec<f64> = xs.iter().map(|x| (x / 20.0).exp()).collect();
            let turned: Vec<f64> = xs.iter().map(|x| -x).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let a = auc(&xs, &labels, None);
            prop_assume!(!a.is_nan());
            prop_assert!((a - auc(&bent, &labels, None)).abs() < 1e-12 && (0.0..=1.0).contains(&a));
            prop_assert!((a + auc(&turned, &labels, None) - 1.0).abs() < 1e-12);
            let ap = average_precision(&xs, &labels, None);
            prop_assert!(ap > 0.0 && ap <= 1.0 && (ap - average_precision(&bent, &labels, None)).abs() < 1e-12);
        }
    }
}
