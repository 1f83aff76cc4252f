//! Hooks: functions on tape tensors at named points of the decoder. A hook may read, replace, cut gradients (detach), add
//! what it computes from parameters of its own, and so take part in backward.

use std::sync::{Arc, Mutex};

use postgrad_tensor::Tensor;

/// Where a hook sits. All tensors have one row a position, except the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// After the embedding: `[rows, hidden]`. Slot 0.
    Embed,
    /// The residual stream before a block.
    ResidualBefore,
    /// The residual stream after a block.
    ResidualAfter,
    /// Queries `[rows, heads * head_dim]`, after the head norm where there is one, before rotation.
    Query,
    Key,
    Value,
    /// Heads' outputs before the output projection: `[rows, heads * head_dim]`.
    HeadOutput,
    /// The MLP's hidden activation: `[rows, intermediate]`.
    MlpHidden,
    /// What the MLP adds to the residual stream.
    MlpOutput,
    /// The attention pattern of a run of rows: `[1, heads, len, len]`; asking for it takes the materialised path.
    Pattern,
}

type Function = Arc<dyn Fn(Tensor, &At) -> Tensor + Send + Sync>;

/// What a hook is told.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub slot: usize,
    pub point: Point,
    /// For [`Point::Pattern`]: the number of the run (packed sequence) in the batch.
    pub run: usize,
}

/// A list of hooks, run in the order they were added.
#[derive(Clone, Default)]
pub struct Hooks(Vec<(Point, Option<usize>, Function)>);

impl Hooks {
    /// Adds a hook at a point of one slot, or of every slot.
    pub fn add(
        &mut self,
        point: Point,
        slot: Option<usize>,
        f: impl Fn(Tensor, &At) -> Tensor + Send + Sync + 'static,
    ) -> &mut Self {
        self.0.push((point, slot, Arc::new(f)));
        self
    }

    /// Adds a hook that keeps what passes, by slot, in the order of passing.
    pub fn keep(&mut self, point: Point, slot: Option<usize>) -> Arc<Mutex<Vec<(usize, Tensor)>>> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let out = kept.clone();
        self.add(point, slot, move |x, at| {
            out.lock().expect("kept tensors").push((at.slot, x.clone()));
            x
        });
        kept
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn any(&self, point: Point, slot: usize) -> bool {
        self.0.iter().any(|(p, s, _)| *p == point && s.is_none_or(|s| s == slot))
    }

    pub(crate) fn run(&self, at: At, mut x: Tensor) -> Tensor {
        for (p, s, f) in &self.0 {
            if *p == at.point && s.is_none_or(|s| s == at.slot) {
                let shape = x.shape();
                x = f(x, &at);
                assert_eq!(x.shape(), shape, "a hook at {at:?} changed the shape");
            }
        }
        x
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(p, s, _)| (p, s))).finish()
    }
}
