//! A value with its interval, and the two that everything starts with: a proportion and a mean.

use std::fmt;

use serde::Serialize;

use crate::describe::{mean, std_dev};
use crate::dist::{normal_quantile, t_quantile};

/// The usual level of an interval.
pub const LEVEL: f64 = 0.95;

/// A value, its interval, and the number of independent units (items, problems, seeds) it rests on.
/// What cannot be known is NaN (value) or infinite (ends); JSON writes those as null.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub n: usize,
}

impl Estimate {
    /// Half the interval's width.
    pub fn half_width(&self) -> f64 {
        0.5 * (self.high - self.low)
    }

    /// Whether `x` lies in the closed interval.
    pub fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        write!(f, "{:.digits$} [{:.digits$}, {:.digits$}], n {}", self.value, self.low, self.high, self.n)
    }
}

/// Wilson's score interval of a proportion (Wilson 1927; method 3 of Newcombe 1998). Never leaves [0, 1]; of no items
/// it is [0, 1] around NaN. Panics when `successes > n`.
pub fn wilson(successes: usize, n: usize, level: f64) -> Estimate {
    assert!(successes <= n, "{successes} successes of {n}");
    if n == 0 {
        return Estimate { value: f64::NAN, low: 0.0, high: 1.0, n };
    }
    let (z, size) = (normal_quantile(0.5 + level / 2.0), n as f64);
    let p = successes as f64 / size;
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * size)) / (1.0 + z2 / size);
    let half = z / (1.0 + z2 / size) * (p * (1.0 - p) / size + z2 / (4.0 * size * size)).sqrt();
    // Rounding must not push an end past the value it has exactly at 0 and n successes.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == n { 1.0 } else { (centre + half).min(1.0) };
    Estimate { value: p, low, high, n }
}

/// Mean with Student's t interval. One value has an infinite interval; none a NaN mean.
pub fn mean_t(xs: &[f64], level: f64) -> Estimate {
    let (n, value) = (xs.len(), mean(xs));
    if n < 2 {
        return Estimate { value, low: f64::NEG_INFINITY, high: f64::INFINITY, n };
    }
    let half = t_quantile(0.5 + level / 2.0, (n - 1) as f64) * std_dev(xs) / (n as f64).sqrt();
    Estimate { value, low: value - half, high: value + half, n }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64, tol: f64) {
        assert!((got - want).abs() <= tol, "{got} is not {want}");
    }

    #[test]
    fn wilson_is_newcombes_table() {
        // Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3.
        for (x, n, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let e = wilson(x, n, 0.95);
            near(e.low, low, 5e-5);
            near(e.high, high, 5e-5);
        }
        let none = wilson(0, 0, 0.95);
        assert!(none.value.is_nan() && none.low == 0.0 && none.high == 1.0);
    }

    #[test]
    fn mean_of_students_sleep_data() {
        // R: t.test(sleep$extra[1:10]) gives 0.75 [-0.5297804, 2.0297804].
        let e = mean_t(&[0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], 0.95);
        near(e.value, 0.75, 1e-12);
        near(e.low, -0.5297804, 5e-8);
        near(e.high, 2.0297804, 5e-8);
        assert_eq!(mean_t(&[2.0], 0.95).half_width(), f64::INFINITY);
        assert!(mean_t(&[], 0.95).value.is_nan());
    }

    proptest::proptest! {
        #[test]
        fn wilson_holds_its_value_and_mirrors(n in 1usize..5000, part in 0.0f64..=1.0, level in 0.5f64..0.999) {
            let x = (part * n as f64) as usize;
            let (e, m) = (wilson(x, n, level), wilson(n - x, n, level));
            assert!(0.0 <= e.low && e.low <= e.value && e.value <= e.high && e.high <= 1.0, "{e:?}");
            near(e.low, 1.0 - m.high, 1e-12);
            assert!(e.half_width() <= wilson(x, n, 0.9999).half_width());
        }
    }
}
