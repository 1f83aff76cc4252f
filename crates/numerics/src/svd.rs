//! Thin singular value decompositions of one matrix, exact or from a random sketch, in f64 over faer.
//!
//! faer runs on one thread here, so no thread count reaches a result; it picks its own SIMD width, so the last bits may
//! differ between machines.

use faer::{Mat, MatRef};
use postgrad_base::{Error, Result, Stream};

/// `A = U diag(s) V'` with the largest singular value first.
#[derive(Clone, Debug)]
pub struct Svd {
    /// `[rows, k]`.
    u: Mat<f64>,
    s: Vec<f64>,
    /// `[cols, k]`.
    v: Mat<f64>,
}

impl Svd {
    /// All `min(rows, cols)` directions of a row-major matrix.
    ///
    /// # Errors
    /// Values that are not finite; no convergence.
    pub fn exact(a: &[f32], rows: usize, cols: usize) -> Result<Self> {
        Self::of(matrix(a, rows, cols)?.as_ref())
    }

    /// The `rank` largest directions, nearly: the exact decomposition of the matrix on the range of a Gaussian sketch of
    /// `2 rank` columns, after two power iterations (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1).
    ///
    /// # Errors
    /// As [`Svd::exact`].
    pub fn sketched(a: &[f32], rows: usize, cols: usize, rank: usize, stream: &mut Stream) -> Result<Self> {
        let a = matrix(a, rows, cols)?;
        let width = (2 * rank).min(rows).min(cols);
        let omega = Mat::from_fn(cols, width, |_, _| stream.normal());
        let mut q = (&a * omega).qr().compute_thin_Q();
        for _ in 0..2 {
            let z = (a.transpose() * q).qr().compute_thin_Q();
            q = (&a * z).qr().compute_thin_Q();
        }
        let mut svd = Self::of((q.transpose() * &a).as_ref())?;
        svd.u = q * svd.u;
        svd.s.truncate(rank);
        Ok(svd)
    }

    fn of(a: MatRef<f64>) -> Result<Self> {
        let svd = a.thin_svd().map_err(|e| Error::work(format!("a singular value decomposition failed: {e:?}")))?;
        let s = svd.S().column_vector().iter().copied().collect();
        Ok(Self { u: svd.U().to_owned(), s, v: svd.V().to_owned() })
    }

    /// Singular values, largest first.
    pub fn values(&self) -> &[f64] {
        &self.s
    }

    /// The sum of `s_i u_i v_i'` over the given directions, row-major. Panics where there is no such direction.
    pub fn compose(&self, directions: &[usize]) -> Vec<f64> {
        assert!(directions.iter().all(|d| *d < self.s.len()), "{directions:?} of {} directions", self.s.len());
        let us =
            Mat::from_fn(self.u.nrows(), directions.len(), |i, d| self.u[(i, directions[d])] * self.s[directions[d]]);
        let v = Mat::from_fn(self.v.nrows(), directions.len(), |j, d| self.v[(j, directions[d])]);
        // Column-major V (US)' is row-major US V'.
        let out = v * us.transpose();
        (0..out.ncols()).flat_map(|i| out.col(i).iter().copied().collect::<Vec<_>>()).collect()
    }
}

fn matrix(a: &[f32], rows: usize, cols: usize) -> Result<Mat<f64>> {
    assert_eq!(a.len(), rows * cols, "a matrix of {rows} rows and {cols} columns");
    if !a.iter().all(|x| x.is_finite()) {
        return Err(Error::work("a matrix with values that are not finite has no singular value decomposition"));
    }
    Ok(Mat::from_fn(rows, cols, |i, j| a[i * cols + j] as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, cols: usize) -> Vec<f32> {
        let mut s = Stream::new(4, &["test"]);
        (0..rows * cols).map(|_| s.normal() as f32).collect()
    }

    #[test]
    fn all_directions_give_the_matrix_back_and_the_first_is_the_best_of_rank_one() {
        for (rows, cols) in [(7, 12), (12, 7), (9, 9), (1, 5)] {
            let a = noise(rows, cols);
            let svd = Svd::exact(&a, rows, cols).unwrap();
            let k = rows.min(cols);
            assert_eq!(svd.values().len(), k);
            assert!(svd.values().windows(2).all(|w| w[0] >= w[1]));
            let all: Vec<usize> = (0..k).collect();
            let back = svd.compose(&all);
            assert!(back.iter().zip(&a).all(|(b, a)| (b - *a as f64).abs() < 1e-12), "{rows} x {cols}");
            // Eckart and Young: what is left after the first has the norm of the other values.
            let one = svd.compose(&[0]);
            let left: f64 = one.iter().zip(&a).map(|(b, a)| (b - *a as f64).powi(2)).sum();
            let want: f64 = svd.values()[1..].iter().map(|s| s * s).sum();
            assert!((left - want).abs() < 1e-9 * (1.0 + want));
        }
    }

    #[test]
    fn a_sketch_finds_the_directions_of_a_matrix_of_low_rank() {
        let (rows, cols) = (40, 30);
        let (u, v) = (noise(rows, 3), noise(cols, 3));
        let mut a = vec![0.0f32; rows * cols];
        for (i, row) in a.chunks_mut(cols).enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                *x = (0..3).map(|d| u[i * 3 + d] * v[j * 3 + d] * (3 - d) as f32).sum::<f32>() + 1e-3 * noise(1, 1)[0];
            }
        }
        let exact = Svd::exact(&a, rows, cols).unwrap();
        let sketch = Svd::sketched(&a, rows, cols, 3, &mut Stream::new(1, &["tune"])).unwrap();
        assert_eq!(sketch.values().len(), 3);
        let (e, s) = (exact.compose(&[0, 1, 2]), sketch.compose(&[0, 1, 2]));
        let far = e.iter().zip(&s).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-6, "{far}");
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        assert!(Svd::exact(&[1.0, f32::NAN], 1, 2).is_err());
    }
}
