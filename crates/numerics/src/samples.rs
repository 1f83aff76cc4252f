//! Several samples of one problem: pass@k and the majority's vote.

use postgrad_base::{Error, Result, Stream};

use crate::describe::mean;
use crate::interval::{Estimate, wilson};
use crate::paired::{bootstrap, percentile_estimate};

/// The chance that at least one of `k` samples, drawn without replacement from `n` of which `c` are right, is right:
/// 1 - C(n-c, k) / C(n, k), unbiased (Chen et al. 2021, equation 1). Panics unless `c <= n` and `1 <= k <= n`.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    assert!(c <= n && 1 <= k && k <= n, "pass@{k} of {c} right in {n}");
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// Mean pass@k over problems, given each problem's `(samples, right ones)`, with a percentile bootstrap over problems.
pub fn pass_at_k_over(
    problems: &[(usize, usize)],
    k: usize,
    level: f64,
    replicates: usize,
    stream: &mut Stream,
) -> Result<Estimate> {
    if let Some(i) = problems.iter().position(|(n, c)| *n < k || c > n || k == 0) {
        let (n, c) = problems[i];
        return Err(Error::usage(format!("pass@{k} needs at least {} samples of each problem", k.max(1)))
            .at(format!("problem {} with {n} samples, {c} right", i + 1))
            .help("take more samples or a smaller k"));
    }
    let each: Vec<f64> = problems.iter().map(|(n, c)| pass_at_k(*n, *c, k)).collect();
    let spread = bootstrap(each.len(), replicates, stream, |picked| {
        picked.iter().map(|i| each[*i]).sum::<f64>() / picked.len() as f64
    });
    Ok(percentile_estimate(mean(&each), &spread, each.len(), level))
}

/// The answer given most often; of equally frequent ones the one given first. `None` answers (none found) do not vote.
pub fn majority<T: PartialEq>(answers: &[Option<T>]) -> Option<&T> {
    let mut counts: Vec<(&T, usize)> = Vec::new();
    for answer in answers.iter().flatten() {
        match counts.iter_mut().find(|(a, _)| *a == answer) {
            Some((_, count)) => *count += 1,
            None => counts.push((answer, 1)),
        }
    }
    let most = counts.iter().map(|(_, c)| *c).max()?;
    counts.iter().find(|(_, c)| *c == most).map(|(a, _)| *a)
}

/// Share of problems whose [`majority`] answer is right, with Wilson's interval. Each problem is its samples' normalised
/// answers and the verdict of an answer; a problem without any answer is wrong.
pub fn majority_accuracy<T: PartialEq>(problems: &[(Vec<Option<T>>, impl Fn(&T) -> bool)], level: f64) -> Estimate {
    let right = problems.iter().filter(|(answers, verdict)| majority(answers).is_some_and(verdict)).count();
    wilson(right, problems.len(), level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(n: usize, k: usize) -> f64 {
        (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
    }

    #[test]
    fn pass_at_k_is_the_ratio_of_binomials() {
        for n in 1..=30 {
            for c in 0..=n {
                for k in 1..=n {
                    let want = if n - c < k { 1.0 } else { 1.0 - choose(n - c, k) / choose(n, k) };
                    assert!((pass_at_k(n, c, k) - want).abs() < 1e-12, "{n} {c} {k}");
                }
            }
        }
        assert!((pass_at_k(10, 3, 1) - 0.3).abs() < 1e-15);
        assert!((pass_at_k(200, 1, 100) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn pass_over_problems_needs_enough_samples() {
        let mut s = Stream::new(1, &["eval"]);
        let e = pass_at_k_over(&[(10, 3), (10, 0), (10, 10)], 1, 0.95, 500, &mut s).unwrap();
        assert!((e.value - 1.3 / 3.0).abs() < 1e-12 && e.low <= e.value && e.value <= e.high && e.n == 3);
        let bad = pass_at_k_over(&[(10, 3), (4, 0)], 5, 0.95, 10, &mut s).unwrap_err();
        assert!(bad.to_string().contains("problem 2 with 4 samples"), "{bad}");
        assert!(pass_at_k_over(&[], 1, 0.95, 10, &mut s).unwrap().value.is_nan());
    }

    #[test]
    fn the_first_of_equals_wins_the_vote() {
        assert_eq!(majority(&[Some("4"), Some("5"), Some("5"), Some("4"), None, None, None]), Some(&"4"));
        assert_eq!(majority(&[Some(1), Some(2), Some(2)]), Some(&2));
        assert_eq!(majority::<u8>(&[None, None]), None);
        let right = |a: &i32| *a == 7;
        let e = majority_accuracy(
            &[(vec![Some(7), Some(7), Some(1)], right), (vec![Some(1), Some(7)], right), (vec![None], right)],
            0.95,
        );
        assert!((e.value - 1.0 / 3.0).abs() < 1e-15 && e.n == 3);
    }
}
