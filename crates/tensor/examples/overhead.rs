//! What an operation costs beside its arithmetic: nanoseconds per operation on small tensors.
//!
//! `cargo run --release -p postgrad-tensor --example overhead`

use std::hint::black_box;
use std::time::Instant;

use postgrad_tensor::{Tensor, backward, no_grad};

fn nanoseconds(n: usize, mut f: impl FnMut()) -> f64 {
    for _ in 0..n / 10 {
        f();
    }
    let start = Instant::now();
    for _ in 0..n {
        f();
    }
    start.elapsed().as_nanos() as f64 / n as f64
}

type Op = (&'static str, fn(&Tensor, &Tensor) -> Tensor);

fn main() {
    let ops: [Op; 9] = [
        ("add", |a, b| a + b),
        ("mul", |a, b| a * b),
        ("add row", |a, b| a + b.narrow(0, 0, 1)),
        ("mul scalar", |a, _| a * 2.0),
        ("exp", |a, _| a.exp()),
        ("softmax", |a, _| a.softmax(-1)),
        ("sum axis", |a, _| a.sum_axis(-1)),
        ("transpose", |a, _| a.t()),
        ("matmul", |a, b| a.matmul_nt(b)),
    ];
    println!("nanoseconds an operation: without a tape | recorded | recorded and walked back");
    for (rows, width) in [(1, 4), (4, 16), (16, 64), (64, 63)] {
        for (name, op) in ops {
            let (a, b) = (Tensor::full(0.5, &[rows, width]), Tensor::full(0.25, &[rows, width]));
            let (x, y) = (postgrad_tensor::Param::new("x", a.clone()), postgrad_tensor::Param::new("y", b.clone()));
            let (lx, ly) = (x.leaf(), y.leaf());
            let plain = nanoseconds(20_000, || no_grad(|| drop(black_box(op(black_box(&a), &b)))));
            let taped = nanoseconds(20_000, || drop(black_box(op(black_box(&lx), &ly))));
            let back = nanoseconds(20_000, || backward(&op(black_box(&lx), &ly)));
            println!("{rows:>3} x {width:<3} {name:<11} {plain:>7.0} | {taped:>7.0} | {back:>7.0}");
        }
    }
}
