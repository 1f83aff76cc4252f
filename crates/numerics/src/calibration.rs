//! Whether confidence is what it says.

use crate::rank::weight;

/// Expected calibration error (Naeini et al. 2015; Guo et al. 2017): over `bins` equally wide bins of [0, 1], closed on the
/// right but for the first (0 belongs to it), the share of items there times |mean confidence - mean correctness|. NaN
/// of nothing and of confidences outside [0, 1]; panics where lengths differ or without bins.
pub fn ece(confidence: &[f64], correct: &[f64], bins: usize, weights: Option<&[f64]>) -> f64 {
    assert!(confidence.len() == correct.len() && bins > 0, "a confidence and an outcome each, and a bin");
    // Of each bin: sum of weight * (confidence - correct).
    let (mut gaps, mut total) = (vec![0.0; bins], 0.0);
    for (i, (c, y)) in confidence.iter().zip(correct).enumerate() {
        if !(0.0..=1.0).contains(c) {
            return f64::NAN;
        }
        let w = weight(weights, i);
        gaps[((c * bins as f64).ceil() as usize).clamp(1, bins) - 1] += w * (c - y);
        total += w;
    }
    gaps.iter().map(|g: &f64| g.abs()).sum::<f64>() / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_error_by_hand() {
        // Bin (0.8, 0.9]: mean confidence 0.85, half right: gap 0.35 of two items; bin (0.2, 0.3]: 0.3 and none right.
        let e = ece(&[0.85, 0.85, 0.3, 0.3], &[1.0, 0.0, 0.0, 0.0], 10, None);
        assert!((e - 0.5 * (0.35 + 0.3)).abs() < 1e-12, "{e}");
        let weighted = ece(&[0.85, 0.3], &[1.0, 0.0], 10, Some(&[1.0, 3.0]));
        assert!((weighted - (0.15 + 0.9) / 4.0).abs() < 1e-12, "{weighted}");
        assert_eq!((ece(&[0.0, 1.0], &[0.0, 1.0], 10, None), ece(&[0.5; 2], &[0.0, 1.0], 1, None)), (0.0, 0.0));
        assert!(ece(&[], &[], 10, None).is_nan() && ece(&[1.5], &[1.0], 10, None).is_nan());
    }

    proptest::proptest! {
        #[test]
        fn one_bin_is_the_least(rows in proptest::collection::vec((0.0f64..=1.0, 0u8..2), 1..40), bins in 1usize..30) {
            let (c, y): (Vec<f64>, Vec<f64>) = rows.iter().map(|r| (r.0, f64::from(r.1))).unzip();
            let (one, many) = (ece(&c, &y, 1, None), ece(&c, &y, bins, None));
            assert!(one <= many + 1e-12 && many <= 1.0 + 1e-12, "{one} {many}");
        }
    }
}
