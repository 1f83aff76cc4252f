//! Means, spreads, percentiles.

/// Arithmetic mean; NaN of nothing. Pairwise sums keep the error small for long inputs.
pub fn mean(xs: &[f64]) -> f64 {
    sum(xs) / xs.len() as f64
}

fn sum(xs: &[f64]) -> f64 {
    if xs.len() <= 64 {
        return xs.iter().sum();
    }
    let (a, b) = xs.split_at(xs.len() / 2);
    sum(a) + sum(b)
}

/// Standard deviation with n - 1; NaN below two values.
pub fn std_dev(xs: &[f64]) -> f64 {
    if xs.len() < 2 {
        return f64::NAN;
    }
    let m = mean(xs);
    let squares: Vec<f64> = xs.iter().map(|x| (x - m) * (x - m)).collect();
    (sum(&squares) / (xs.len() - 1) as f64).sqrt()
}

/// The `q`th quantile (0 to 1) with linear interpolation between order statistics (Hyndman and Fan's type 7, the default
/// of numpy and R). NaN of nothing, or where a value is NaN.
pub fn percentile(xs: &[f64], q: f64) -> f64 {
    percentiles(xs, &[q])[0]
}

/// [`percentile`] at several places with one sort.
pub fn percentiles(xs: &[f64], qs: &[f64]) -> Vec<f64> {
    if xs.is_empty() || xs.iter().any(|x| x.is_nan()) {
        return vec![f64::NAN; qs.len()];
    }
    let mut sorted = xs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let place = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        let (a, b) = (sorted[low], sorted[(low + 1).min(sorted.len() - 1)]);
        // Infinite neighbours must not make a NaN of an exact hit.
        if part == 0.0 || a == b { a } else { a + (b - a) * part }
    };
    qs.iter().map(|q| at(*q)).collect()
}

/// The middle value, or the mean of the two in the middle.
pub fn median(xs: &[f64]) -> f64 {
    percentile(xs, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([15, 20, 35, 40, 50], [5, 30, 40, 50, 100])
        let xs = [50.0, 15.0, 40.0, 20.0, 35.0];
        let got = percentiles(&xs, &[0.05, 0.30, 0.40, 0.50, 1.0]);
        for (g, want) in got.iter().zip([16.0, 23.0, 29.0, 35.0, 50.0]) {
            assert!((g - want).abs() < 1e-12, "{g} {want}");
        }
        assert_eq!(median(&[1.0, f64::INFINITY, 0.0]), 1.0);
        assert!(median(&[]).is_nan() && median(&[1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn mean_and_spread() {
        let xs = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&xs), 5.0);
        assert!((std_dev(&xs) - (32.0f64 / 7.0).sqrt()).abs() < 1e-15);
        assert!(std_dev(&[1.0]).is_nan() && mean(&[]).is_nan());
        assert!((mean(&vec![0.1; 1_000_000]) - 0.1).abs() < 1e-15);
    }
}
