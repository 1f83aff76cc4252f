//! Tensors on a small tape, made for decoders.
//!
//! - [`Tensor`]: a contiguous f32 array, its shape, and the tape node that made it
//! - [`tape`]: recording, [`backward`], gradient sinks, `no_grad`
//! - [`ops`]: one file an operation: what it computes, its kernel, its backward, its plain reference
//! - [`update`]: optimiser kernels
//! - [`simd`], [`par`], [`gemm`], [`buf`]: run-time SIMD level, threads, products, the buffer pool
//!
//! ```
//! use postgrad_tensor::{Param, Tensor, backward};
//! let w = Param::new("w", Tensor::new(vec![1.0, 2.0, 3.0, 4.0], &[2, 2]));
//! let x = Tensor::new(vec![1.0, -1.0], &[1, 2]);
//! let y = postgrad_tensor::ops::linear(&x, &w.leaf(), None);
//! assert_eq!(y.data(), &[-1.0, -1.0]);
//! backward(&y);
//! assert_eq!(w.grad().unwrap().data(), &[1.0, -1.0, 1.0, -1.0]);
//! ```
//!
//! Results on a CPU are a function of the inputs and the SIMD level alone: work is cut into fixed partitions, so the number
//! of threads changes nothing. Shape errors are programming errors and panic with both shapes.
//!
//! The seam for other devices is the operation: above this crate nothing looks inside a tensor's storage except through
//! [`Tensor::data`]. Left out on purpose: strided views, second derivatives, integer tensors (ids are plain `&[u32]`).

pub mod buf;
pub mod gemm;
pub mod math;
pub mod ops;
pub mod par;
pub mod reference;
pub mod simd;
pub mod tape;
pub mod tensor;
pub mod update;

pub use buf::Buf;
pub use tape::{Edge, Grads, Param, backward, gradients, is_grad, no_grad, recording};
pub use tensor::{Shape, Tensor};
