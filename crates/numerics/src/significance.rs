//! p-values: the sign test, the t test of an estimate, and Holm's adjustment of several.

use crate::describe::{mean, std_dev};
use crate::dist::{beta_inc, t_cdf};

/// Two-sided exact sign test: the chance, under a fair coin, of a split at least this uneven. Ties are left out by the
/// caller. 1 of no trials.
pub fn sign_test(wins: usize, losses: usize) -> f64 {
    let (n, few) = (wins + losses, wins.min(losses));
    if n == 0 {
        return 1.0;
    }
    // P(X <= few) of a binomial(n, 1/2) is I_{1/2}(n - few, few + 1).
    (2.0 * beta_inc((n - few) as f64, few as f64 + 1.0, 0.5)).min(1.0)
}

/// Two-sided p of Student's t test that the mean of `xs` (paired differences, say) is 0. NaN below two values.
pub fn t_test_p(xs: &[f64]) -> f64 {
    if xs.len() < 2 {
        return f64::NAN;
    }
    let (m, s) = (mean(xs), std_dev(xs));
    if s == 0.0 {
        return if m == 0.0 { 1.0 } else { 0.0 };
    }
    2.0 * t_cdf(-(m / s * (xs.len() as f64).sqrt()).abs(), (xs.len() - 1) as f64)
}

/// Holm's step-down adjustment (Holm 1979) of p-values, in the order given. A NaN stays NaN and counts as a test.
pub fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    let (mut adjusted, mut floor) = (vec![f64::NAN; ps.len()], 0.0f64);
    for (rank, i) in order.into_iter().enumerate() {
        if !ps[i].is_nan() {
            floor = floor.max((ps[i] * (ps.len() - rank) as f64).min(1.0));
            adjusted[i] = floor;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_test_is_the_binomials() {
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12 * want, "{got} {want}");
        near(sign_test(1, 9), 22.0 / 1024.0);
        near(sign_test(9, 1), 22.0 / 1024.0);
        near(sign_test(0, 6), 2.0 / 64.0);
        near(sign_test(3, 7), 0.34375);
        near(sign_test(5, 5), 1.0);
        near(sign_test(0, 0), 1.0);
        assert!((sign_test(5_000, 5_200) - 0.0487).abs() < 0.001);
    }

    #[test]
    fn t_test_of_students_sleep_data() {
        // R: p-value = 0.002833
        let d = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        assert!((t_test_p(&d) - 0.00283289).abs() < 1e-8, "{}", t_test_p(&d));
        assert_eq!((t_test_p(&[0.0, 0.0]), t_test_p(&[1.0, 1.0])), (1.0, 0.0));
        assert!(t_test_p(&[1.0]).is_nan());
    }

    #[test]
    fn holm_is_rs_p_adjust() {
        let got = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (g, want) in got.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((g - want).abs() < 1e-15, "{got:?}");
        }
        let got = holm(&[0.6, f64::NAN, 0.9]);
        assert!(got[0] == 1.0 && got[1].is_nan() && got[2] == 1.0);
        assert!(holm(&[]).is_empty());
    }
}
