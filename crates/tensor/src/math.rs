//! Small loops that kernels are made of. Each is `#[inline(always)]`, to be compiled for the SIMD level of the kernel that
//! calls it (see [`crate::simd::vectorize`]); sums run over a fixed number of lanes, so their order is fixed too.

use crate::par;
use crate::simd::vectorize;

/// Lanes of a sum.
pub const LANES: usize = 32;

/// e^x to 2 ulp over the normal range; below -87.3 it is about 1e-38, above 88 it stays finite.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Cody-Waite reduction and the minimax polynomial of Cephes' expf.
    let x = x.clamp(-87.3, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = (p * r).mul_add(r, r) + 1.0;
    // SAFETY: n is within -126..=127 after the clamp (a NaN clamps to NaN: its integer is arbitrary, the product NaN).
    let n: i32 = if n.is_nan() { 0 } else { unsafe { n.to_int_unchecked() } };
    p * f32::from_bits(((n + 127) as u32) << 23)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // Through the sigmoid; near zero its cancellation would cost digits, so a short series takes over.
    let big = 2.0 * sigmoid(2.0 * x) - 1.0;
    let x2 = x * x;
    let small = x * x2.mul_add(x2.mul_add(2.0 / 15.0 - x2 * (17.0 / 315.0), -1.0 / 3.0), 1.0);
    if x.abs() < 0.2 { small } else { big }
}

#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len();
    let b = &b[..n];
    let mut acc = [0f32; LANES];
    let whole = n / LANES * LANES;
    for (x, y) in a[..whole].chunks_exact(LANES).zip(b[..whole].chunks_exact(LANES)) {
        for i in 0..LANES {
            acc[i] = x[i].mul_add(y[i], acc[i]);
        }
    }
    let mut sum = fold(acc);
    for i in whole..n {
        sum = a[i].mul_add(b[i], sum);
    }
    sum
}

/// The sum of the lanes as a tree: half added to half.
#[inline(always)]
pub fn fold(mut acc: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            acc[i] += acc[i + half];
        }
        half /= 2;
    }
    acc[0]
}

#[inline(always)]
pub fn sum(a: &[f32]) -> f32 {
    let mut acc = [0f32; LANES];
    let whole = a.len() / LANES * LANES;
    for x in a[..whole].chunks_exact(LANES) {
        for i in 0..LANES {
            acc[i] += x[i];
        }
    }
    let mut sum = fold(acc);
    for x in &a[whole..] {
        sum += x;
    }
    sum
}

/// The largest value; negative infinity for none. NaN is skipped.
#[inline(always)]
pub fn max(a: &[f32]) -> f32 {
    let mut acc = [f32::NEG_INFINITY; LANES];
    let whole = a.len() / LANES * LANES;
    for x in a[..whole].chunks_exact(LANES) {
        for i in 0..LANES {
            acc[i] = if x[i] > acc[i] { x[i] } else { acc[i] };
        }
    }
    // The rest joins the lanes, and the lanes meet as a tree: a chain of 32 comparisons would outweigh a short row.
    let rest = &a[whole..];
    for i in 0..LANES {
        let x = if i < rest.len() { rest[i] } else { f32::NEG_INFINITY };
        acc[i] = if x > acc[i] { x } else { acc[i] };
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            acc[i] = if acc[i + half] > acc[i] { acc[i + half] } else { acc[i] };
        }
        half /= 2;
    }
    acc[0]
}

/// e^x, and zero below e^-60: beside a term of 1 such terms are lost in any sum, and as subnormal numbers they would slow
/// the products they enter by two orders of magnitude.
#[inline(always)]
pub fn exp_or_zero(x: f32) -> f32 {
    let e = exp(x);
    if x < -60.0 { 0.0 } else { e }
}

/// `x = e^(x * scale - shift)` in place, by [`exp_or_zero`]; returns the sum.
#[inline(always)]
pub fn exp_sum(a: &mut [f32], scale: f32, shift: f32) -> f32 {
    let mut acc = [0f32; LANES];
    let whole = a.len() / LANES * LANES;
    for x in a[..whole].chunks_exact_mut(LANES) {
        for i in 0..LANES {
            let e = exp_or_zero(x[i].mul_add(scale, -shift));
            x[i] = e;
            acc[i] += e;
        }
    }
    let mut sum = fold(acc);
    for x in &mut a[whole..] {
        *x = exp_or_zero(x.mul_add(scale, -shift));
        sum += *x;
    }
    sum
}

/// `y += a * x`.
#[inline(always)]
pub fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = a.mul_add(*x, *y);
    }
}

/// `y += x`, on several threads where it is long.
pub fn add_assign(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len());
    const BLOCK: usize = 1 << 13;
    par::rows_mut_of(y, BLOCK, |start, y| {
        let x = &x[start..start + y.len()];
        vectorize(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    *y += *x;
                }
            },
        )
    });
}

/// `y *= a`, on several threads where it is long.
pub fn scale(y: &mut [f32], a: f32) {
    if a == 1.0 {
        return;
    }
    par::rows_mut_of(y, 1 << 13, |_, y| {
        vectorize(
            #[inline(always)]
            || {
                for y in y.iter_mut() {
                    *y *= a;
                }
            },
        )
    });
}

/// The sum of squares in f64, over fixed blocks.
pub fn sum_squares(x: &[f32]) -> f64 {
    const BLOCK: usize = 1 << 13;
    let mut parts = vec![0f64; x.len().div_ceil(BLOCK)];
    let out = par::SendPtr(parts.as_mut_ptr());
    par::blocks(x.len(), BLOCK, x.len(), |i, r| {
        let part = vectorize(
            #[inline(always)]
            || {
                let mut acc = [0f64; 16];
                let mut chunks = x[r.clone()].chunks_exact(16);
                for c in &mut chunks {
                    for l in 0..16 {
                        acc[l] += c[l] as f64 * c[l] as f64;
                    }
                }
                acc.iter().sum::<f64>() + chunks.remainder().iter().map(|v| *v as f64 * *v as f64).sum::<f64>()
            },
        );
        // SAFETY: each block writes its own element.
        unsafe { *out.at(i) = part };
    });
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_tanh_are_close_to_the_library() {
        for i in (-8700..8800).filter(|i| *i != 0) {
            let x = i as f32 * 0.01;
            let want = (x as f64).exp();
            assert!(((exp(x) as f64 - want) / want).abs() < 4e-7, "exp({x})");
            let t = (x as f64 * 0.1).tanh();
            assert!((tanh(x * 0.1) as f64 - t).abs() < 2.5e-7 * t.abs().sqrt(), "tanh({})", x * 0.1);
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1000.0) < 2e-38 && exp(1000.0).is_finite());
    }

    #[test]
    fn sums_agree() {
        for n in [0, 1, 31, 32, 33, 1000] {
            let a: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
            let want: f64 = a.iter().map(|x| *x as f64).sum();
            assert!((sum(&a) as f64 - want).abs() < 1e-4);
            let sq: f64 = a.iter().map(|x| (*x as f64).powi(2)).sum();
            assert!((dot(&a, &a) as f64 - sq).abs() < 1e-3 && (sum_squares(&a) - sq).abs() < 1e-9);
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
