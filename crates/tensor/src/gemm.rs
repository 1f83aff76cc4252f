//! Products of f32 matrices: the `gemm` crate's microkernels at the SIMD level in force, cut over threads by rows or columns
//! of the result. Every element is accumulated over K in one order, whatever the cut, so threads never change a bit.

use gemm_common::Parallelism;
use gemm_common::gemm::gemm_basic_generic;
use gemm_common::simd::MixedSimd;

use crate::par::{self, SendPtr};
use crate::simd::{self, Level};

/// A matrix in a slice: element (i, j) is at `offset + i * rs + j * cs`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    pub data: &'a [f32],
    pub rs: usize,
    pub cs: usize,
}

impl<'a> Mat<'a> {
    /// Row-major with this row stride.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, rs: stride, cs: 1 }
    }

    /// The transpose of a row-major matrix with this row stride.
    pub fn cols(data: &'a [f32], stride: usize) -> Self {
        Self { data, rs: 1, cs: stride }
    }

    fn check(&self, rows: usize, cols: usize, what: &str) {
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * self.rs + (cols - 1) * self.cs;
            assert!(last < self.data.len(), "{what}: {rows}x{cols} does not fit {} values", self.data.len());
        }
    }
}

/// `c = [c +] alpha * a b`, with `a` of m x k, `b` of k x n, `c` row-major with row stride `c_stride`. The gap between the
/// rows of `c` is not touched. Runs on several threads when it is worth it.
pub fn product(
    (m, n, k): (usize, usize, usize),
    c: &mut [f32],
    c_stride: usize,
    accumulate: bool,
    a: Mat,
    b: Mat,
    alpha: f32,
) {
    a.check(m, k, "left side");
    b.check(k, n, "right side");
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * c_stride + n <= c.len(), "result: {m}x{n} does not fit {} values", c.len());
    let level = simd::level();
    let (cp, ap, bp) =
        (SendPtr(c.as_mut_ptr()), SendPtr(a.data.as_ptr().cast_mut()), SendPtr(b.data.as_ptr().cast_mut()));
    let threads = par::threads();
    let by_rows = m >= n;
    let long = m.max(n);
    let piece = long.div_ceil(threads).next_multiple_of(32);
    if threads == 1 || m * n * k < 1 << 17 || long < piece + 32 {
        // SAFETY: bounds were checked above; c is borrowed mutably.
        unsafe {
            sequential(level, (m, n, k), cp.0, c_stride, accumulate, ap.0, (a.rs, a.cs), bp.at(0), (b.rs, b.cs), alpha)
        };
        return;
    }
    // The last piece takes a short rest with it: a sliver would run another kernel.
    let pieces = (long / piece).max(1) + usize::from(long % piece >= 32 && long >= piece);
    rayon::scope(|s| {
        for i in 0..pieces {
            let start = i * piece;
            let end = if i + 1 == pieces { long } else { start + piece };
            let run = move |_: &rayon::Scope| {
                // SAFETY: pieces are disjoint ranges of rows or columns of c, within the bounds checked above.
                unsafe {
                    if by_rows {
                        let c = cp.at(start * c_stride);
                        let a_piece = ap.at(start * a.rs);
                        let size = (end - start, n, k);
                        sequential(
                            level,
                            size,
                            c,
                            c_stride,
                            accumulate,
                            a_piece,
                            (a.rs, a.cs),
                            bp.at(0),
                            (b.rs, b.cs),
                            alpha,
                        );
                    } else {
                        let c = cp.at(start);
                        let b_piece = bp.at(start * b.cs);
                        let size = (m, end - start, k);
                        sequential(
                            level,
                            size,
                            c,
                            c_stride,
                            accumulate,
                            ap.at(0),
                            (a.rs, a.cs),
                            b_piece,
                            (b.rs, b.cs),
                            alpha,
                        );
                    }
                }
            };
            if i + 1 == pieces { run(s) } else { s.spawn(run) }
        }
    });
}

/// [`product`] on the calling thread alone, over raw parts: for kernels that run in parallel themselves.
///
/// # Safety
/// All of the m x k, k x n and m x n elements must be in bounds, and c must not overlap a or b.
pub unsafe fn sequential(
    level: Level,
    (m, n, k): (usize, usize, usize),
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
    a: *const f32,
    (ars, acs): (usize, usize),
    b: *const f32,
    (brs, bcs): (usize, usize),
    alpha: f32,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            for i in 0..m {
                unsafe { std::slice::from_raw_parts_mut(c.add(i * c_stride), n).fill(0.0) };
            }
        }
        return;
    }
    // The crate picks its own blocks of K by the size of the piece; cutting K here keeps one order for every size. Rows are
    // cut because it packs a whole side at once, which for a vocabulary's gradient would be a hundred megabytes; pieces are
    // of nearly equal size, since a single row would run another kernel.
    const KC: usize = 512;
    const ROWS: usize = 4096;
    let rows = m.div_ceil(m.div_ceil(ROWS));
    for i in (0..m).step_by(rows) {
        let mc = rows.min(m - i);
        for p in (0..k).step_by(KC) {
            let kc = KC.min(k - p);
            // SAFETY: a block of rows and of K lies within the sides.
            unsafe {
                let (a, b, c) = (a.add(i * ars + p * acs), b.add(p * brs), c.add(i * c_stride));
                block(level, (mc, n, kc), c, c_stride, accumulate || p > 0, a, (ars, acs), b, (brs, bcs), alpha);
            }
        }
    }
}

/// One block of K.
unsafe fn block(
    level: Level,
    (m, n, k): (usize, usize, usize),
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
    a: *const f32,
    (ars, acs): (usize, usize),
    b: *const f32,
    (brs, bcs): (usize, usize),
    alpha: f32,
) {
    macro_rules! call {
        ($module:ident, $simd:ident, $lanes:expr) => {{
            use gemm_f32::microkernel::$module::f32 as kernels;
            const MR: usize = kernels::MR_DIV_N * $lanes;
            let simd = <gemm_common::simd::$simd as MixedSimd<f32, f32, f32, f32>>::try_new().expect("an available level");
            // The result is row-major and the kernels write columns, so C' = B' A' is what runs. The tables of horizontal
            // kernels stay empty: they would give small results another order of K.
            unsafe {
                gemm_basic_generic::<_, f32, $lanes, MR, { kernels::NR }, { kernels::MR_DIV_N }, 0, 0>(
                    simd,
                    n,
                    m,
                    k,
                    c,
                    c_stride as isize,
                    1,
                    accumulate,
                    b,
                    brs as isize,
                    bcs as isize,
                    a,
                    ars as isize,
                    acs as isize,
                    1.0,
                    alpha,
                    false,
                    false,
                    false,
                    |a, b, c| a * b + c,
                    &kernels::UKR,
                    &[],
                    false,
                    Parallelism::None,
                )
            }
        }};
    }
    match level {
        Level::Scalar => call!(scalar, Scalar, 1),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => call!(fma, V3, 8),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => call!(avx512f, V4, 16),
        #[cfg(not(target_arch = "x86_64"))]
        _ => call!(scalar, Scalar, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_base::Stream;

    fn plain(m: usize, n: usize, k: usize, a: Mat, b: Mat) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] =
                    (0..k).map(|p| a.data[i * a.rs + p * a.cs] as f64 * b.data[p * b.rs + j * b.cs] as f64).sum();
            }
        }
        c
    }

    #[test]
    fn products_agree_with_plain_sums_at_every_level_and_layout() {
        let mut s = Stream::new(1, &["gemm"]);
        for (m, n, k) in [
            (1, 1, 1),
            (0, 3, 2),
            (3, 0, 2),
            (2, 3, 0),
            (1, 70, 33),
            (70, 1, 33),
            (5, 7, 2),
            (65, 97, 31),
            (130, 64, 600),
            (33, 200, 16),
        ] {
            let a: Vec<f32> = (0..m * k).map(|_| s.normal() as f32).collect();
            let b: Vec<f32> = (0..k * n).map(|_| s.normal() as f32).collect();
            for layout in 0..4 {
                let am = if layout & 1 == 0 { Mat::rows(&a, k) } else { Mat::cols(&a, m) };
                let bm = if layout & 2 == 0 { Mat::rows(&b, n) } else { Mat::cols(&b, k) };
                let want = plain(m, n, k, am, bm);
                for level in simd::available() {
                    simd::with_level(level, || {
                        let stride = n + 3;
                        let mut c = vec![0.5; (m * stride).max(1)];
                        product((m, n, k), &mut c, stride, true, am, bm, 2.0);
                        for i in 0..m {
                            for j in 0..n {
                                let got = c[i * stride + j] as f64 - 0.5;
                                let err = (got - 2.0 * want[i * n + j]).abs();
                                assert!(err < 1e-3, "{m}x{n}x{k} {level:?} layout {layout}: {got}");
                            }
                            assert!(i + 1 == m || c[i * stride + n..(i + 1) * stride].iter().all(|x| *x == 0.5));
                        }
                    });
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let mut s = Stream::new(2, &["gemm"]);
        let (m, n, k) = (257, 129, 700);
        let a: Vec<f32> = (0..m * k).map(|_| s.normal() as f32).collect();
        let b: Vec<f32> = (0..k * n).map(|_| s.normal() as f32).collect();
        let run = |threads: usize, m: usize, n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0.0; m * n];
            pool.install(|| product((m, n, k), &mut c, n, false, Mat::rows(&a, k), Mat::cols(&b, k), 1.0));
            c
        };
        for (m, n) in [(257, 129), (33, 129), (129, 65), (64, 33)] {
            let one = run(1, m, n);
            for threads in [2, 3, 5] {
                assert!(
                    one.iter().zip(&run(threads, m, n)).all(|(x, y)| x.to_bits() == y.to_bits()),
                    "{m}x{n} {threads}"
                );
            }
        }
    }
}
