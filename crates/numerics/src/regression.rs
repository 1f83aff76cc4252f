//! Lines through points: least squares' slope, Pearson's correlation.

use crate::describe::mean;
use crate::rank::weight;

/// Slope of the least-squares line of `ys` on `xs`; NaN where `xs` has no spread. Panics where lengths differ.
pub fn slope(xs: &[f64], ys: &[f64]) -> f64 {
    assert_eq!(xs.len(), ys.len(), "an x and a y each");
    let (mx, my) = (mean(xs), mean(ys));
    let (mut xy, mut xx) = (0.0, 0.0);
    for (x, y) in xs.iter().zip(ys) {
        xy += (x - mx) * (y - my);
        xx += (x - mx) * (x - mx);
    }
    if xx == 0.0 { f64::NAN } else { xy / xx }
}

/// Pearson's correlation, weighted; NaN where either has no spread. Panics where lengths differ.
pub fn pearson(xs: &[f64], ys: &[f64], weights: Option<&[f64]>) -> f64 {
    assert_eq!(xs.len(), ys.len(), "an x and a y each");
    let all = || (0..xs.len()).map(|i| (weight(weights, i), xs[i], ys[i]));
    let (w, sx, sy) = all().fold((0.0, 0.0, 0.0), |(w, sx, sy), (v, x, y)| (w + v, sx + v * x, sy + v * y));
    let (mx, my) = (sx / w, sy / w);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (v, x, y) in all() {
        xy += v * (x - mx) * (y - my);
        xx += v * (x - mx) * (x - mx);
        yy += v * (y - my) * (y - my);
    }
    if xx == 0.0 || yy == 0.0 { f64::NAN } else { (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_and_correlations_by_hand() {
        assert_eq!(slope(&[0.0, 0.5, 1.0], &[1.0, 2.0, 3.0]), 2.0);
        // Means 2 and 3: sums of products 1*1 + 0 + 1*2 = 3 over 2.
        assert_eq!(slope(&[1.0, 2.0, 3.0], &[2.0, 2.0, 5.0]), 1.5);
        assert!((pearson(&[1.0, 2.0, 3.0], &[2.0, 2.0, 5.0], None) - 3.0 / 12f64.sqrt()).abs() < 1e-15);
        assert_eq!(pearson(&[1.0, 2.0, 9.0], &[1.0, 2.0, -5.0], Some(&[3.0, 2.0, 0.0])), 1.0);
        assert!(slope(&[1.0, 1.0], &[0.0, 1.0]).is_nan() && pearson(&[], &[], None).is_nan());
    }

    proptest::proptest! {
        #[test]
        fn a_line_has_its_slope(a in -9.0f64..9.0, b in -9.0f64..9.0, xs in proptest::collection::vec(-99.0f64..99.0, 2..20)) {
            let ys: Vec<f64> = xs.iter().map(|x| a + b * x).collect();
            let got = slope(&xs, &ys);
            let spread = xs.iter().fold(0.0f64, |m, x| m.max((x - xs[0]).abs()));
            proptest::prop_assume!(spread > 1e-3);
            assert!((got - b).abs() < 1e-8, "{got} {b}");
        }
    }
}
