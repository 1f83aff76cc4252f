//! Speed of the fused operations, best of several runs, in GFLOP/s of the arithmetic that is needed (a causal score counts
//! once; recomputation counts). `cargo run --release -p postgrad-tensor --example op_bench [part of a name]`

use std::sync::Arc;
use std::time::Instant;

use postgrad_base::Stream;
use postgrad_tensor::ops::{self, AttnSpec, CacheView, CeOptions};
use postgrad_tensor::reference::random;
use postgrad_tensor::{Buf, Tensor, no_grad, simd, tape};

/// Best time of `n` runs in seconds.
fn best(n: usize, mut f: impl FnMut()) -> f64 {
    (0..n).fold(f64::INFINITY, |best, _| {
        let start = Instant::now();
        f();
        best.min(start.elapsed().as_secs_f64())
    })
}

/// Best times of the forward and backward of `f` under a gradient of ones.
fn both(n: usize, input: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> (f64, f64) {
    let (mut forward, mut backward) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..n {
        let leaf = input.input();
        let start = Instant::now();
        let y = f(&leaf);
        forward = forward.min(start.elapsed().as_secs_f64());
        let mut dy = Buf::scratch(y.len());
        dy.fill(1.0);
        let start = Instant::now();
        tape::gradients_from(&[(&y, dy)], &[&leaf]);
        backward = backward.min(start.elapsed().as_secs_f64());
    }
    (forward, backward)
}

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let wanted = |name: &str| name.contains(&only);
    let mut s = Stream::new(1, &["bench"]);
    println!("{} on {} threads", simd::level().name(), postgrad_tensor::par::threads());
    for (name, heads, kv_heads, head_dim, batch, len) in [
        ("attention A", 4, 4, 32, 32, 128),
        ("attention B", 6, 2, 64, 8, 256),
        ("attention C", 9, 3, 64, 1, 512),
        ("attention long", 9, 3, 64, 1, 4096),
    ] {
        if !wanted(name) {
            continue;
        }
        let scale = (head_dim as f32).powf(-0.5);
        let spec = AttnSpec { heads, kv_heads, head_dim, scale, window: None, softcap: None };
        let runs: Arc<[(usize, usize)]> = (0..batch).map(|b| (b * len, len)).collect();
        let x = random(&mut s, &[batch * len, spec.width()]);
        let (f, b) = both(if len > 1000 { 3 } else { 40 }, &x, |x| ops::attention(x, &spec, &runs));
        let flops = (batch * heads * len * (len + 1) / 2 * head_dim * 4) as f64 * 1e-9;
        println!(
            "{name}: forward {:.0} GFLOP/s ({:.2} ms), backward {:.0} ({:.2} ms)",
            flops / f,
            f * 1e3,
            2.5 * flops / b,
            b * 1e3
        );
    }
    if wanted("cross_entropy") {
        let (rows, d, v) = (512, 576, 49152);
        let (h, w) =
            (random(&mut s, &[rows, d]), Tensor::new((0..v * d).map(|_| 0.05 * s.normal() as f32).collect(), &[v, d]));
        let (h, w) = (h.input(), w.input());
        let targets: Vec<u32> = (0..rows as u32).map(|r| r * 91 % v as u32).collect();
        let weights = vec![1.0; rows];
        let t = best(4, || {
            ops::cross_entropy(&h, &w, &targets, &weights, rows as f32, CeOptions::default());
        });
        let flops = (6 * rows * d * v) as f64 * 1e-9;
        println!("cross_entropy C: {:.0} GFLOP/s with gradients ({:.0} ms)", flops / t, t * 1e3);
        let t = best(3, || {
            let (lp, _) = no_grad(|| ops::log_probs(&h, &w, &targets, 1.0, false));
            assert_eq!(lp.len(), rows);
        });
        println!("log_probs C: {:.0} GFLOP/s forward ({:.0} ms)", flops / 3.0 / t, t * 1e3);
    }
    if wanted("row_linear") {
        let (k, n) = (576, 1536);
        let w = random(&mut s, &[n, k]);
        for rows in [1, 8, 64, 512] {
            let x = random(&mut s, &[rows, k]);
            let mut y = vec![0.0; rows * n];
            let runs = if rows < 64 { 400 } else { 100 };
            let t = best(runs, || ops::row_linear(x.data(), w.data(), None, k, &mut y));
            let g = best(runs, || {
                ops::linear(&x, &w, None);
            });
            let flops = (2 * rows * n * k) as f64 * 1e-9;
            println!(
                "row_linear {rows} x {k} x {n}: {:.0} GFLOP/s ({:.3} ms); linear {:.0}",
                flops / t,
                t * 1e3,
                flops / g
            );
        }
    }
    if wanted("cached") {
        let spec = AttnSpec { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125, window: None, softcap: None };
        for (rows, len) in [(1, 512), (64, 512)] {
            let (q, kv) = (random(&mut s, &[rows, 576]), random(&mut s, &[rows * 2, len * 192]));
            let views: Vec<CacheView> = kv
                .data()
                .chunks(2 * len * 192)
                .map(|c| CacheView { k: &c[..len * 192], v: &c[len * 192..], len })
                .collect();
            let places: Vec<(usize, usize)> = (0..rows).map(|r| (r, len - 1)).collect();
            let t = best(200, || {
                ops::cached_attention(&q, &spec, &views, &places);
            });
            let flops = (rows * len * 576 * 4) as f64 * 1e-9;
            println!("cached attention {rows} rows, {len} keys: {:.0} GFLOP/s ({:.3} ms)", flops / t, t * 1e3);
        }
    }
    if wanted("rowwise") {
        let (rows, d, f) = (4096, 128, 384);
        let (x, w) = (random(&mut s, &[rows, d]), random(&mut s, &[d]));
        let (a, b) = both(40, &x, |x| ops::rms_norm(x, &w, 1e-5, 0.0));
        println!("rms_norm A: {:.3} ms, backward {:.3} ms", a * 1e3, b * 1e3);
        let x = random(&mut s, &[rows, 2 * f]);
        let (a, b) = both(40, &x, |x| ops::glu(x, ops::Gate::Silu));
        println!("glu A: {:.3} ms, backward {:.3} ms", a * 1e3, b * 1e3);
        let table = Arc::new(ops::RopeTable::new(&[0.5; 16], 128, 1.0));
        let positions: Vec<u32> = (0..rows as u32).map(|r| r % 128).collect();
        let x = random(&mut s, &[rows, 3 * d]);
        let (a, b) = both(40, &x, |x| ops::rope(x.clone(), &positions, &table, 0, 8, 32));
        println!("rope A: {:.3} ms, backward {:.3} ms (both with a copy)", a * 1e3, b * 1e3);
    }
}
