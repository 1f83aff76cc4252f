//! Products for decoding: the result for a row has the same bits whatever the number of rows it comes with.
//!
//! Each (row, output) pair is one sum over K in the same lanes and the same final fold, in every tile. So a sequence is
//! sampled alike alone, in a batch of 64, or after slots were refilled. Weights are read as they lie in memory; one row is
//! bound by that reading, many rows share it.

// Tiles are indexed by constants, so that they live in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use crate::par::{self, SendPtr};
use crate::simd::{self, Level};
use crate::{Buf, Edge, Shape, Tensor, recording};

/// The products of R rows with O weights: each a sum in the vector's lanes along K, then over the lanes as pulp folds them.
///
/// # Safety
/// Row `r` of `x` is `k` values from `x + r * xs`, likewise of `w`.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const O: usize>(
    simd: S,
    (x, xs): (*const f32, usize),
    (w, ws): (*const f32, usize),
    k: usize,
) -> [[f32; O]; R] {
    let lanes = S::F32_LANES;
    let whole = k / lanes * lanes;
    let mut acc = [[simd.splat_f32s(0.0); O]; R];
    let mut p = 0;
    unsafe {
        while p < whole {
            let xv: [S::f32s; R] = std::array::from_fn(
                #[inline(always)]
                |r| x.add(r * xs + p).cast::<S::f32s>().read_unaligned(),
            );
            for o in 0..O {
                let wv = w.add(o * ws + p).cast::<S::f32s>().read_unaligned();
                for r in 0..R {
                    acc[r][o] = simd.mul_add_f32s(xv[r], wv, acc[r][o]);
                }
            }
            p += lanes;
        }
        if whole < k {
            let rest = k - whole;
            let xv: [S::f32s; R] = std::array::from_fn(
                #[inline(always)]
                |r| simd.partial_load_f32s(std::slice::from_raw_parts(x.add(r * xs + whole), rest)),
            );
            for o in 0..O {
                let wv = simd.partial_load_f32s(std::slice::from_raw_parts(w.add(o * ws + whole), rest));
                for r in 0..R {
                    acc[r][o] = simd.mul_add_f32s(xv[r], wv, acc[r][o]);
                }
            }
        }
    }
    let mut out = [[0f32; O]; R];
    for r in 0..R {
        for o in 0..O {
            out[r][o] = simd.reduce_sum_f32s(acc[r][o]);
        }
    }
    out
}

/// The products of `rows` rows with `outs` weights in the widest tiles that fit; `put(row, output, value)` takes them.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn tiles<S: Simd, const R: usize, const O: usize>(
    simd: S,
    (x, xs, rows): (*const f32, usize, usize),
    (w, ws, outs): (*const f32, usize, usize),
    k: usize,
    put: &mut impl FnMut(usize, usize, f32),
) {
    let (whole_rows, whole_outs) = (rows / R * R, outs / O * O);
    unsafe {
        for o in (0..whole_outs).step_by(O) {
            let w = w.add(o * ws);
            for r in (0..whole_rows).step_by(R) {
                let t = tile::<S, R, O>(simd, (x.add(r * xs), xs), (w, ws), k);
                for i in 0..R {
                    for j in 0..O {
                        put(r + i, o + j, t[i][j]);
                    }
                }
            }
            for r in whole_rows..rows {
                let t = tile::<S, 1, O>(simd, (x.add(r * xs), xs), (w, ws), k);
                for j in 0..O {
                    put(r, o + j, t[0][j]);
                }
            }
        }
        for o in whole_outs..outs {
            for r in 0..rows {
                put(r, o, tile::<S, 1, 1>(simd, (x.add(r * xs), xs), (w.add(o * ws), ws), k)[0][0]);
            }
        }
    }
}

/// All products of rows with weights, each a sum in the fixed order: row strides in elements, on the calling thread.
///
/// # Safety
/// Row `r < rows` of `x` is `k` values from `x + r * xs`, and output `o < outs` of `w` from `w + o * ws`.
pub(crate) unsafe fn products(
    level: Level,
    x: (*const f32, usize, usize),
    w: (*const f32, usize, usize),
    k: usize,
    put: impl FnMut(usize, usize, f32),
) {
    let call = Products { x, w, k, put };
    match level {
        // SAFETY: a level in force is one that the machine has.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { Simd::vectorize(pulp::x86::V4::new_unchecked(), call) },
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { Simd::vectorize(pulp::x86::V3::new_unchecked(), call) },
        _ => Simd::vectorize(pulp::Scalar, call),
    }
}

struct Products<F> {
    x: (*const f32, usize, usize),
    w: (*const f32, usize, usize),
    k: usize,
    put: F,
}

impl<F: FnMut(usize, usize, f32)> WithSimd for Products<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Tiles as large as the registers allow. SAFETY: the promise of `products`.
        unsafe {
            match S::F32_LANES {
                16 => tiles::<S, 4, 6>(simd, self.x, self.w, self.k, &mut self.put),
                8 => tiles::<S, 3, 4>(simd, self.x, self.w, self.k, &mut self.put),
                _ => tiles::<S, 2, 2>(simd, self.x, self.w, self.k, &mut self.put),
            }
        }
    }
}

/// `y = x W' (+ bias)` for `x [rows, k]`, `w [n, k]`, `y [rows, n]`. The bits of a row of `y` depend on its row of `x`, the
/// weights and the SIMD level alone.
pub fn row_linear(x: &[f32], w: &[f32], bias: Option<&[f32]>, k: usize, y: &mut [f32]) {
    let (rows, n) = (x.len().checked_div(k).unwrap_or(0), w.len().checked_div(k).unwrap_or(0));
    assert!(x.len() == rows * k && w.len() == n * k, "{} inputs and {} weights over {k}", x.len(), w.len());
    assert_eq!(y.len(), rows * n, "a result of {} values for {rows} rows and {n} outputs", y.len());
    into_columns(x, w, bias, (rows, k, n), y, (n, 0), false);
}

/// The product written (or added) to the columns from `at` of rows of `stride`.
fn into_columns(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    (rows, k, n): (usize, usize, usize),
    y: &mut [f32],
    (stride, at): (usize, usize),
    add: bool,
) {
    assert!(bias.is_none_or(|b| b.len() == n), "a bias for other than {n} outputs");
    if rows == 0 || n == 0 {
        return;
    }
    // Blocks share weights among rows and stay in the second-level cache; their sizes touch no bit.
    const ROWS: usize = 64;
    const OUTS: usize = 48;
    let (level, yp, row_blocks) = (simd::level(), SendPtr(y.as_mut_ptr()), rows.div_ceil(ROWS));
    par::parts(row_blocks * n.div_ceil(OUTS), rows * n * k / 4, |i| {
        let (r0, o0) = (i % row_blocks * ROWS, i / row_blocks * OUTS);
        let (rows, outs) = (ROWS.min(rows - r0), OUTS.min(n - o0));
        // SAFETY: lengths were checked; blocks of the result are disjoint.
        unsafe {
            let x = (x.as_ptr().add(r0 * k), k, rows);
            let w = (w.as_ptr().add(o0 * k), k, outs);
            products(level, x, w, k, |r, o, v| {
                let to = yp.at((r0 + r) * stride + at + o0 + o);
                let v = bias.map_or(v, |b| v + b[o0 + o]);
                *to = if add { *to + v } else { v };
            });
        }
    });
}

/// [`crate::ops::linear_cat`] with the promise of [`row_linear`], without a backward: for sampling. Panics where a gradient
/// would be lost.
pub fn row_linear_tensor(
    x: &Tensor,
    weights: &[&Tensor],
    biases: &[Option<&Tensor>],
    residual: Option<Tensor>,
) -> Tensor {
    let (rows, k) = (x.shape().rows(), x.shape().width());
    let edges: Vec<Edge> = weights
        .iter()
        .map(|w| w.edge())
        .chain(biases.iter().flatten().map(|b| b.edge()))
        .chain(residual.iter().map(Tensor::edge))
        .chain([x.edge()])
        .collect();
    assert!(!recording(&edges), "a decode product has no gradient: call it under no_grad, or use linear_cat");
    for w in weights {
        assert!(w.dims().len() == 2 && w.dim(1) == k, "a weight {:?} for inputs {:?}", w.shape(), x.shape());
    }
    let n: usize = weights.iter().map(|w| w.dim(0)).sum();
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("inputs have a width") = n;
    let add = residual.is_some();
    let mut y = match residual {
        Some(r) => {
            assert_eq!(r.len(), rows * n, "a residual {:?} for {rows} rows of {n}", r.shape());
            r.into_buf()
        }
        None => Buf::scratch(rows * n),
    };
    let mut at = 0;
    for (i, w) in weights.iter().enumerate() {
        let bias = biases.get(i).copied().flatten().map(Tensor::data);
        into_columns(x.data(), w.data(), bias, (rows, k, w.dim(0)), &mut y, (n, at), add);
        at += w.dim(0);
    }
    Tensor::constant(y, Shape::new(&dims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::linear_cat;
    use crate::reference::{random, worst};
    use postgrad_base::Stream;

    #[test]
    fn a_row_has_the_same_bits_in_any_company() {
        let mut s = Stream::new(1, &["row_linear"]);
        for (k, n) in [(1, 1), (7, 5), (64, 50), (131, 97)] {
            let (x, w, b) = (random(&mut s, &[500, k]), random(&mut s, &[n, k]), random(&mut s, &[n]));
            for level in simd::available() {
                simd::with_level(level, || {
                    let run = |rows: std::ops::Range<usize>| {
                        let mut y = vec![0.0; rows.len() * n];
                        row_linear(&x.data()[rows.start * k..rows.end * k], w.data(), Some(b.data()), k, &mut y);
                        y
                    };
                    let all = run(0..500);
                    let want: Vec<f64> = (0..500 * n)
                        .map(|i| {
                            let (r, o) = (i / n, i % n);
                            let dot = |p: usize| x.data()[r * k + p] as f64 * w.data()[o * k + p] as f64;
                            (0..k).map(dot).sum::<f64>() + b.data()[o] as f64
                        })
                        .collect();
                    assert!(worst(&all, &want) < 1e-5);
                    for (from, rows) in [(0, 1), (499, 1), (3, 7), (100, 64), (17, 130)] {
                        assert_eq!(run(from..from + rows), all[from * n..(from + rows) * n], "{rows} rows");
                    }
                    for threads in [1, 2, 3] {
                        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                        assert_eq!(pool.install(|| simd::with_level(level, || run(0..500))), all);
                    }
                });
            }
        }
    }

    #[test]
    fn it_mirrors_the_training_product() {
        let mut s = Stream::new(2, &["row_linear"]);
        let (x, u, v) = (random(&mut s, &[2, 3, 19]), random(&mut s, &[8, 19]), random(&mut s, &[5, 19]));
        let (b, r) = (random(&mut s, &[5]), random(&mut s, &[2, 3, 13]));
        for residual in [None, Some(r)] {
            let a = row_linear_tensor(&x, &[&u, &v], &[None, Some(&b)], residual.clone());
            let c = linear_cat(&x, &[&u, &v], &[None, Some(&b)], residual);
            let want: Vec<f64> = c.data().iter().map(|x| *x as f64).collect();
            assert!(a.dims() == c.dims() && worst(a.data(), &want) < 1e-5);
        }
        let none = row_linear_tensor(&Tensor::zeros(&[0, 19]), &[&u], &[], None);
        assert_eq!(none.dims(), &[0, 8]);
    }

    #[test]
    #[should_panic(expected = "has no gradient")]
    fn a_gradient_is_not_lost_in_silence() {
        row_linear_tensor(&Tensor::zeros(&[1, 2]).input(), &[&Tensor::zeros(&[2, 2])], &[], None);
    }
}
