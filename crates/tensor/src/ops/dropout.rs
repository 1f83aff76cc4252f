//! Dropout whose mask is a function of a key and the element's index: the same on every recomputation and for any number of
//! threads.

use crate::par;
use crate::simd::vectorize;
use crate::{Tensor, recording};

/// Sets each element to zero with probability `p` and multiplies the rest by `1 / (1 - p)`. The key names the mask; take it
/// from a named stream, one per place and step. Works in place where nobody else holds `x`.
pub fn dropout(x: Tensor, p: f32, key: u64) -> Tensor {
    assert!((0.0..1.0).contains(&p), "a dropout probability of {p}");
    if p == 0.0 {
        return x;
    }
    let (shape, xe) = (x.shape(), x.edge());
    let mut y = x.into_buf();
    mask(&mut y, p, key);
    Tensor::from_op(y, shape, recording([&xe]), move |mut dy, grads| {
        if grads.wants(&xe) {
            mask(&mut dy, p, key);
            grads.put(&xe, dy);
        }
    })
}

/// A 32-bit finaliser (Wellons' lowbias32).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad);
    x = (x ^ (x >> 15)).wrapping_mul(0xd35a_2d97);
    x ^ (x >> 15)
}

fn mask(y: &mut [f32], p: f32, key: u64) {
    // The upper half of the index joins the key once per block, so that the inner loop is 32-bit.
    const BLOCK: usize = 1 << 13;
    let limit = (p as f64 * 4_294_967_296.0) as u32;
    let keep = 1.0 / (1.0 - p);
    par::rows_mut_of(y, BLOCK, |start, y| {
        let block = (start / BLOCK) as u64;
        let k0 = mix(key as u32 ^ mix(block as u32));
        let k1 = mix((key >> 32) as u32 ^ mix((block >> 32) as u32 ^ 0x9e37_79b9) ^ k0);
        vectorize(
            #[inline(always)]
            || {
                for (i, y) in y.iter_mut().enumerate() {
                    let h = mix(mix(i as u32 ^ k0).wrapping_add(k1));
                    *y = if h < limit { 0.0 } else { *y * keep };
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    #[test]
    fn gradients_pass_where_values_do() {
        let x = random(&mut Stream::new(1, &["dropout"]), &[7, 9]);
        let ones = dropout(Tensor::full(1.0, &[63]), 0.4, 5);
        let mask: Vec<f64> = ones.data().iter().map(|m| *m as f64).collect();
        check(
            "dropout",
            &[x],
            1e-6,
            |t| dropout(t[0].clone(), 0.4, 5),
            |x| x[0].iter().zip(&mask).map(|(x, m)| x * m).collect(),
        );
    }

    #[test]
    fn masks_have_the_right_rate_and_differ_by_key_and_place() {
        let n = 1 << 18;
        let zeros = |p: f32, key: u64| -> Vec<bool> {
            dropout(Tensor::full(1.0, &[n]), p, key).data().iter().map(|x| *x == 0.0).collect()
        };
        for p in [0.05f32, 0.1, 0.5] {
            let a = zeros(p, 1);
            let sd = (n as f64 * p as f64 * (1.0 - p as f64)).sqrt();
            let count = |v: &[bool]| v.iter().filter(|z| **z).count() as f64;
            assert!((count(&a) - n as f64 * p as f64).abs() < 5.0 * sd);
            // Another key, a shift by one and a shift by a block agree as often as chance has it.
            let agree = (p * p + (1.0 - p) * (1.0 - p)) as f64 * n as f64;
            for b in [zeros(p, 2), zeros(p, 1 << 40), [&a[1..], &a[..1]].concat(), [&a[8192..], &a[..8192]].concat()] {
                let same = a.iter().zip(&b).filter(|(x, y)| x == y).count() as f64;
                assert!((same - agree).abs() < 5.0 * (n as f64 / 4.0).sqrt(), "{p}: {same} {agree}");
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let x = Tensor::full(1.0, &[100_000]);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| dropout(x.clone(), 0.3, 9))
        };
        assert!(crate::reference::same_bits(&run(1), &run(3)));
        assert_eq!(dropout(x.clone(), 0.0, 1).data(), x.data());
    }
}
