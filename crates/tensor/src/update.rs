//! Optimiser kernels: one pass over a parameter, its gradient and its moments, in place.

use crate::par::{self, SendPtr};
use crate::simd::vectorize;

const BLOCK: usize = 1 << 13;

/// AdamW as PyTorch computes it (Loshchilov & Hutter 2019): decoupled decay, bias-corrected moments, eps added outside the
/// root of the corrected second moment.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    /// Updates of this parameter, this one included (from 1).
    pub step: u64,
    /// Factor on the gradient (clipping), fused into the pass.
    pub grad_scale: f32,
}

/// One AdamW update. Each entry's result depends on that entry alone: to train some of a parameter's entries, give theirs.
pub fn adamw(set: AdamW, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let n = w.len();
    assert!(g.len() == n && m.len() == n && v.len() == n, "sizes of an update differ");
    let c1 = 1.0 - (set.beta1 as f64).powi(set.step as i32);
    let c2 = 1.0 - (set.beta2 as f64).powi(set.step as i32);
    let step_size = (set.lr as f64 / c1) as f32;
    let root_c2 = c2.sqrt() as f32;
    let keep = 1.0 - set.lr * set.weight_decay;
    let (b1, b2, eps, gs) = (set.beta1, set.beta2, set.eps, set.grad_scale);
    let (wp, mp, vp) = (SendPtr(w.as_mut_ptr()), SendPtr(m.as_mut_ptr()), SendPtr(v.as_mut_ptr()));
    par::blocks(n, BLOCK, n * 4, |_, r| {
        // SAFETY: blocks are disjoint.
        let (w, m, v) = unsafe { (wp.slice(r.start, r.len()), mp.slice(r.start, r.len()), vp.slice(r.start, r.len())) };
        let g = &g[r];
        vectorize(
            #[inline(always)]
            || {
                for (((w, g), m), v) in w.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
                    let g = *g * gs;
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    *w = *w * keep - step_size * *m / (v.sqrt() / root_c2 + eps);
                }
            },
        )
    });
}

/// SGD with momentum (PyTorch's: the buffer starts as the first gradient, no dampening) and decoupled weight decay.
pub fn sgd(
    lr: f32,
    momentum: f32,
    weight_decay: f32,
    grad_scale: f32,
    w: &mut [f32],
    g: &[f32],
    velocity: Option<&mut [f32]>,
) {
    let n = w.len();
    assert!(g.len() == n && velocity.as_ref().is_none_or(|v| v.len() == n), "sizes of an update differ");
    let keep = 1.0 - lr * weight_decay;
    match velocity {
        None => {
            for (w, g) in w.iter_mut().zip(g) {
                *w = *w * keep - lr * g * grad_scale;
            }
        }
        Some(v) => {
            for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
                *v = momentum * *v + g * grad_scale;
                *w = *w * keep - lr * *v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adamw_follows_its_definition_at_every_level() {
        for level in crate::simd::available() {
            crate::simd::with_level(level, || {
                let n = 37;
                let mut w: Vec<f32> = (0..n).map(|i| i as f32 * 0.1 - 1.0).collect();
                let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
                let mut exact: Vec<(f64, f64, f64)> = w.iter().map(|w| (*w as f64, 0.0, 0.0)).collect();
                for step in 1..=4 {
                    let g: Vec<f32> = (0..n).map(|i| ((i * step as usize) as f32).sin()).collect();
                    let set = AdamW {
                        lr: 0.01,
                        beta1: 0.9,
                        beta2: 0.95,
                        eps: 1e-3,
                        weight_decay: 0.1,
                        step,
                        grad_scale: 0.5,
                    };
                    adamw(set, &mut w, &g, &mut m, &mut v);
                    for (i, (w, m, v)) in exact.iter_mut().enumerate() {
                        let g = g[i] as f64 * 0.5;
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.95 * *v + 0.05 * g * g;
                        let (mh, vh) = (*m / (1.0 - 0.9f64.powi(step as i32)), *v / (1.0 - 0.95f64.powi(step as i32)));
                        *w = *w * (1.0 - 0.01 * 0.1) - 0.01 * mh / (vh.sqrt() + 1e-3);
                    }
                }
                for i in 0..n {
                    assert!((w[i] as f64 - exact[i].0).abs() < 1e-6, "{i}");
                }
            });
        }
    }

    #[test]
    fn sgd_with_momentum() {
        let (mut w, mut v) = (vec![1.0f32, 2.0], vec![0.0f32, 0.0]);
        sgd(0.1, 0.9, 0.0, 1.0, &mut w, &[1.0, 0.0], Some(&mut v));
        sgd(0.1, 0.9, 0.0, 1.0, &mut w, &[1.0, 0.0], Some(&mut v));
        assert!((w[0] - (1.0 - 0.1 - 0.19)).abs() < 1e-6);
        assert_eq!(w[1], 2.0);
    }
}
