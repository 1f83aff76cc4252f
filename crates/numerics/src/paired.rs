//! After minus before on the same items: the items' own difficulty cancels.

use std::collections::BTreeMap;

use postgrad_base::{Error, Result, Stream};

use crate::describe::{mean, percentiles};
use crate::interval::{Estimate, mean_t};

/// Mean of `after - before` over items with a paired t interval. For proportions the values are 0 and 1.
pub fn paired_t(before: &[f64], after: &[f64], level: f64) -> Result<Estimate> {
    Ok(mean_t(&differences(before, after)?, level))
}

/// Mean of `after - before` over items with a percentile bootstrap interval. Where items are not independent,
/// `clusters` names each item's cluster (the problem's id) and whole clusters are drawn; `n` then counts clusters.
pub fn paired_bootstrap(
    before: &[f64],
    after: &[f64],
    clusters: Option<&[&str]>,
    level: f64,
    replicates: usize,
    stream: &mut Stream,
) -> Result<Estimate> {
    let d = differences(before, after)?;
    // (sum, count) of each cluster, in order of first appearance.
    let mut groups: Vec<(f64, f64)> = Vec::new();
    match clusters {
        None => groups.extend(d.iter().map(|x| (*x, 1.0))),
        Some(names) if names.len() == d.len() => {
            let mut place = BTreeMap::new();
            for (x, name) in d.iter().zip(names) {
                let at = *place.entry(*name).or_insert_with(|| {
                    groups.push((0.0, 0.0));
                    groups.len() - 1
                });
                groups[at].0 += x;
                groups[at].1 += 1.0;
            }
        }
        Some(names) => {
            return Err(Error::usage(format!("{} cluster names for {} items", names.len(), d.len())));
        }
    }
    let spread = bootstrap(groups.len(), replicates, stream, |picked| {
        let (sum, count) = picked.iter().fold((0.0, 0.0), |(s, c), i| (s + groups[*i].0, c + groups[*i].1));
        sum / count
    });
    Ok(percentile_estimate(mean(&d), &spread, groups.len(), level))
}

/// Draws `n` of `n` units with replacement, `replicates` times, and returns the statistic of each draw. The statistic
/// gets the drawn indices. Empty where there are no units.
pub fn bootstrap(
    n: usize,
    replicates: usize,
    stream: &mut Stream,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Vec<f64> {
    if n == 0 {
        return Vec::new();
    }
    let mut picked = vec![0; n];
    (0..replicates)
        .map(|_| {
            picked.iter_mut().for_each(|p| *p = stream.below(n));
            statistic(&picked)
        })
        .collect()
}

/// A value with the middle `level` of its bootstrap replicates; fewer than two units have an infinite interval.
pub(crate) fn percentile_estimate(value: f64, spread: &[f64], n: usize, level: f64) -> Estimate {
    if n < 2 || spread.is_empty() {
        return Estimate { value, low: f64::NEG_INFINITY, high: f64::INFINITY, n };
    }
    let ends = percentiles(spread, &[0.5 - level / 2.0, 0.5 + level / 2.0]);
    Estimate { value, low: ends[0], high: ends[1], n }
}

fn differences(before: &[f64], after: &[f64]) -> Result<Vec<f64>> {
    if before.len() != after.len() {
        return Err(Error::usage(format!("{} items before, {} after: not the same items", before.len(), after.len())));
    }
    Ok(after.iter().zip(before).map(|(a, b)| a - b).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRUG_1: [f64; 10] = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
    const DRUG_2: [f64; 10] = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];

    #[test]
    fn paired_t_of_students_sleep_data() {
        // R: t.test(extra ~ group, paired = TRUE) gives 1.58 [0.7001142, 2.4598858] (Student 1908).
        let e = paired_t(&DRUG_1, &DRUG_2, 0.95).unwrap();
        for (got, want) in [(e.value, 1.58), (e.low, 0.7001142), (e.high, 2.4598858)] {
            assert!((got - want).abs() < 5e-8, "{got} {want}");
        }
        assert_eq!(paired_t(&DRUG_1, &DRUG_2[1..], 0.95).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_bootstrap_agrees_with_theory() {
        // 400 items, 100 won and 40 lost: mean 0.15, standard error sqrt((140/400 - 0.15^2) / 400) = 0.02862.
        let before: Vec<f64> = (0..400).map(|i| if i < 40 { 1.0 } else { 0.0 }).collect();
        let after: Vec<f64> = (0..400).map(|i| if (40..140).contains(&i) { 1.0 } else { 0.0 }).collect();
        let mut stream = Stream::new(1, &["eval", "bootstrap"]);
        let e = paired_bootstrap(&before, &after, None, 0.95, 4000, &mut stream).unwrap();
        let half = 1.959964 * ((0.35f64 - 0.0225) / 400.0).sqrt();
        assert!((e.value - 0.15).abs() < 1e-12 && e.n == 400);
        assert!((e.low - (0.15 - half)).abs() < 0.005 && (e.high - (0.15 + half)).abs() < 0.005, "{e}");
        let again = paired_bootstrap(&before, &after, None, 0.95, 4000, &mut Stream::new(1, &["eval", "bootstrap"]));
        assert_eq!(again.unwrap(), e);
    }

    #[test]
    fn whole_clusters_widen_the_interval() {
        let before = vec![0.0; 200];
        let after: Vec<f64> = (0..200).map(|i| if i / 10 % 2 == 0 { 1.0 } else { 0.0 }).collect();
        let names: Vec<String> = (0..200).map(|i| format!("p{}", i / 10)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut draw = Stream::new(2, &["eval"]);
        let alone = paired_bootstrap(&before, &after, None, 0.95, 2000, &mut draw).unwrap();
        let together = paired_bootstrap(&before, &after, Some(&names), 0.95, 2000, &mut draw).unwrap();
        assert_eq!((alone.n, together.n), (200, 20));
        assert!(together.half_width() > 2.5 * alone.half_width(), "{together} {alone}");
        assert!(paired_bootstrap(&before, &after, Some(&names[1..]), 0.95, 10, &mut draw).is_err());
        assert!(paired_bootstrap(&[], &[], None, 0.95, 10, &mut draw).unwrap().value.is_nan());
    }
}
