//! Plain references and how kernels are held against them. A reference is a few obvious lines in f64; a kernel's values are
//! compared with it, and the kernel's gradients with central differences of it. Public so that operations written elsewhere
//! can be checked the same way.

use postgrad_base::Stream;

use crate::simd;
use crate::tape::gradients_from;
use crate::{Buf, Tensor};

/// Random normal values of a shape.
pub fn random(stream: &mut Stream, dims: &[usize]) -> Tensor {
    let n = dims.iter().product();
    Tensor::new((0..n).map(|_| stream.normal() as f32).collect(), dims)
}

/// The largest difference relative to the larger of 1 and the wanted values' largest.
pub fn worst(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "{} values, not {}", got.len(), want.len());
    let scale = want.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    got.iter().zip(want).fold(0.0, |m, (g, w)| {
        let d = (*g as f64 - w).abs() / scale;
        if d.is_nan() { f64::INFINITY } else { f64::max(m, d) }
    })
}

/// Holds a kernel against its reference, at every SIMD level of this machine:
/// - values within `tol`;
/// - gradients of every input within `10 * tol` of central differences (step 1e-5 in f64) of the reference, under a random
///   gradient of the result;
/// - the same gradients when only one input at a time needs one (the others constant), and equal bits then.
pub fn check(
    name: &str,
    inputs: &[Tensor],
    tol: f64,
    fast: impl Fn(&[Tensor]) -> Tensor,
    plain: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let exact: Vec<Vec<f64>> = inputs.iter().map(|t| t.data().iter().map(|x| *x as f64).collect()).collect();
    let want = plain(&exact);
    let mut stream = Stream::new(11, &["check", name]);
    let dy: Vec<f32> = want.iter().map(|_| stream.normal() as f32).collect();
    let loss = |x: &[Vec<f64>]| plain(x).iter().zip(&dy).map(|(y, d)| y * *d as f64).sum::<f64>();
    let mut differences: Vec<Vec<f64>> = Vec::new();
    for i in 0..inputs.len() {
        let mut x = exact.clone();
        differences.push(
            (0..x[i].len())
                .map(|j| {
                    let (h, was) = (1e-5, x[i][j]);
                    x[i][j] = was + h;
                    let up = loss(&x);
                    x[i][j] = was - h;
                    let down = loss(&x);
                    x[i][j] = was;
                    (up - down) / (2.0 * h)
                })
                .collect(),
        );
    }
    for level in simd::available() {
        simd::with_level(level, || {
            let run = |leaves: &[Tensor]| -> (Tensor, Vec<Option<Tensor>>) {
                let y = fast(leaves);
                let wrt: Vec<&Tensor> = leaves.iter().collect();
                let grads = if y.needs_grad() {
                    gradients_from(&[(&y, Buf::copy(&dy))], &wrt)
                } else {
                    vec![None; leaves.len()]
                };
                (y, grads)
            };
            let all: Vec<Tensor> = inputs.iter().map(Tensor::input).collect();
            let (y, grads) = run(&all);
            let err = worst(y.data(), &want);
            assert!(err <= tol, "{name} ({}): values differ by {err:.2e}", level.name());
            for (i, grad) in grads.iter().enumerate() {
                let zeros = Tensor::zeros(inputs[i].dims());
                let grad = grad.as_ref().unwrap_or(&zeros);
                let err = worst(grad.data(), &differences[i]);
                assert!(err <= 10.0 * tol, "{name} ({}): gradient of input {i} differs by {err:.2e}", level.name());
            }
            for i in 0..inputs.len() {
                let one: Vec<Tensor> =
                    inputs.iter().enumerate().map(|(j, t)| if j == i { t.input() } else { t.detach() }).collect();
                let (y1, g1) = run(&one);
                assert!(same_bits(&y1, &y), "{name}: the value depends on who needs gradients");
                match (&g1[i], &grads[i]) {
                    (Some(a), Some(b)) => assert!(same_bits(a, b), "{name}: gradient {i} alone has other bits"),
                    (None, None) => {}
                    _ => panic!("{name}: gradient {i} is there only in company"),
                }
            }
        });
    }
}

pub fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.dims() == b.dims() && a.data().iter().zip(b.data()).all(|(x, y)| x.to_bits() == y.to_bits())
}
