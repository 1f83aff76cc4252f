//! The tensor: contiguous f32 data, a shape, and the tape node that made it.

use std::sync::Arc;

use crate::buf::Buf;
use crate::tape::{Edge, Grads, Node};

/// Up to six dimensions, row-major.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    dims: [usize; 6],
    rank: u8,
}

impl Shape {
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= 6, "a tensor has at most six dimensions, not {dims:?}");
        let mut all = [1; 6];
        all[..dims.len()].copy_from_slice(dims);
        Self { dims: all, rank: dims.len() as u8 }
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last dimension (1 for a scalar).
    pub fn width(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// The product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        let dims = self.dims();
        dims[..dims.len().saturating_sub(1)].iter().product()
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self::new(dims)
    }
}

/// A contiguous f32 tensor. Cloning shares the data. It never changes, except through operations that take it by value and
/// find themselves its only owner.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) data: Arc<Buf>,
    pub(crate) shape: Shape,
    pub(crate) node: Edge,
}

impl Tensor {
    pub fn new(data: Vec<f32>, dims: &[usize]) -> Self {
        Self::from_slice(&data, dims)
    }

    pub fn from_slice(data: &[f32], dims: &[usize]) -> Self {
        Self::constant(Buf::copy(data), Shape::new(dims))
    }

    pub fn scalar(x: f32) -> Self {
        Self::from_slice(&[x], &[])
    }

    pub fn zeros(dims: &[usize]) -> Self {
        let shape = Shape::new(dims);
        Self::constant(Buf::zeros(shape.len()), shape)
    }

    pub fn full(x: f32, dims: &[usize]) -> Self {
        let shape = Shape::new(dims);
        let mut buf = Buf::scratch(shape.len());
        buf.fill(x);
        Self::constant(buf, shape)
    }

    /// A tensor that the tape does not know.
    pub fn constant(data: Buf, shape: Shape) -> Self {
        assert_eq!(data.len(), shape.len(), "{} values do not fill {shape:?}", data.len());
        Self { data: Arc::new(data), shape, node: Edge::none() }
    }

    /// The result of an operation: its value, whether to record it ([`crate::recording`] of its inputs' edges), and what
    /// turns the gradient of the result into those of its inputs; `back` is dropped where nothing is recorded.
    ///
    /// `back` gets the owned gradient of the result and adds to its inputs' gradients through [`Grads`], naming them by the
    /// [`Edge`]s it captured. Whatever else it needs (saved activations) it captures too.
    pub fn from_op(data: Buf, shape: Shape, record: bool, back: impl FnOnce(Buf, &mut Grads) + Send + 'static) -> Self {
        Self::from_op_shared(Arc::new(data), shape, record, back)
    }

    /// [`Tensor::from_op`] for a result whose data is shared with another tensor or with `back`.
    pub fn from_op_shared(
        data: Arc<Buf>,
        shape: Shape,
        record: bool,
        back: impl FnOnce(Buf, &mut Grads) + Send + 'static,
    ) -> Self {
        assert_eq!(data.len(), shape.len(), "{} values do not fill {shape:?}", data.len());
        let node = if record { Node::op(shape.len(), Box::new(back)) } else { Edge::none() };
        Self { data, shape, node }
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    pub fn dim(&self, i: usize) -> usize {
        self.shape.dims()[i]
    }

    pub fn len(&self) -> usize {
        self.shape.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The only value of a one-element tensor.
    pub fn item(&self) -> f32 {
        assert_eq!(self.len(), 1, "{:?} holds not one value", self.shape);
        self.data[0]
    }

    /// The tape's name of this tensor, to be captured by a backward function.
    pub fn edge(&self) -> Edge {
        self.node.clone()
    }

    pub fn needs_grad(&self) -> bool {
        self.node.is_some()
    }

    /// The same values, cut off from the tape.
    pub fn detach(&self) -> Tensor {
        Self { data: self.data.clone(), shape: self.shape, node: Edge::none() }
    }

    /// A new leaf with the same values, whose gradient [`crate::gradients`] can be asked for.
    pub fn input(&self) -> Tensor {
        Self { data: self.data.clone(), shape: self.shape, node: Node::leaf(self.len(), None) }
    }

    /// The data as an owned buffer: the tensor's own if nobody shares it, else a copy.
    pub fn into_buf(self) -> Buf {
        Arc::try_unwrap(self.data).unwrap_or_else(|shared| Buf::copy(&shared))
    }

    /// The same elements in another shape.
    pub fn reshape(&self, dims: &[usize]) -> Tensor {
        let shape = Shape::new(dims);
        assert_eq!(shape.len(), self.len(), "{:?} does not fit {:?}", self.shape, shape);
        // A reshape is no operation: the gradient has the same elements in the same order.
        Self { data: self.data.clone(), shape, node: self.node.clone() }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = &self.data[..self.len().min(8)];
        let more = if self.len() > 8 { ", ..." } else { "" };
        write!(f, "Tensor{:?} {head:?}{more}", self.shape)
    }
}
