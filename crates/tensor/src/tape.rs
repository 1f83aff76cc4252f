//! The tape: what was computed from what, and the walk back.
//!
//! A recorded operation is a [`Node`] with a number that grows with time and a function that turns the gradient of its result
//! into gradients of its inputs. [`backward`] visits nodes from the newest to the oldest; each is dropped when it has been
//! visited, and with it the activations it kept. Nodes do not hold their results' data: only what a backward function
//! captured stays alive.
//!
//! Gradients of leaves go to their [`Param`]'s sink and are added there until [`Param::take_grad`]; in between they are
//! written in place: the first contribution overwrites a fresh buffer, later ones accumulate (see [`Grads::with`]).

use std::cell::{Cell, RefCell};
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::buf::Buf;
use crate::tensor::{Shape, Tensor};

type Back = Box<dyn FnOnce(Buf, &mut Grads) + Send>;

/// A place on the tape.
pub struct Node {
    id: u64,
    len: usize,
    kind: Kind,
}

enum Kind {
    Leaf(Option<Arc<Sink>>),
    Op(Mutex<Option<Back>>),
}

/// Where the gradients of a parameter gather.
#[derive(Default)]
struct Sink(Mutex<Option<Buf>>);

static NEXT: AtomicU64 = AtomicU64::new(1);
thread_local! {
    static NO_GRAD: Cell<bool> = const { Cell::new(false) };
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
    static DROPPING: RefCell<Option<Vec<Back>>> = const { RefCell::new(None) };
}

impl Node {
    pub(crate) fn op(len: usize, back: Back) -> Edge {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Edge(Some(Arc::new(Node { id, len, kind: Kind::Op(Mutex::new(Some(back))) })))
    }

    pub(crate) fn leaf(len: usize, sink: Option<SinkRef>) -> Edge {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Edge(Some(Arc::new(Node { id, len, kind: Kind::Leaf(sink.map(|s| s.0)) })))
    }
}

pub(crate) struct SinkRef(Arc<Sink>);

/// A graph that is dropped unvisited would otherwise recurse once per operation.
impl Drop for Node {
    fn drop(&mut self) {
        let Kind::Op(back) = &mut self.kind else { return };
        let Some(back) = back.get_mut().ok().and_then(Option::take) else { return };
        let nested = DROPPING.with_borrow_mut(|queue| match queue {
            Some(queue) => {
                queue.push(back);
                None
            }
            None => {
                *queue = Some(Vec::new());
                Some(back)
            }
        });
        let Some(back) = nested else { return };
        drop(back);
        while let Some(next) = DROPPING.with_borrow_mut(|q| q.as_mut().and_then(Vec::pop)) {
            drop(next);
        }
        DROPPING.with_borrow_mut(|q| *q = None);
    }
}

/// The tape's name of a tensor; empty for constants.
#[derive(Clone)]
pub struct Edge(Option<Arc<Node>>);

impl Edge {
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether a gradient is wanted here.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

/// Whether an operation over these inputs is to be recorded: one of them needs a gradient, and this is no no-grad block.
pub fn recording<'a>(inputs: impl IntoIterator<Item = &'a Edge>) -> bool {
    if !inputs.into_iter().any(|e| e.is_some()) {
        return false;
    }
    if NO_GRAD.get() {
        SKIPPED.set(true);
        return false;
    }
    true
}

/// Whether operations are being recorded on this thread.
pub fn is_grad() -> bool {
    !NO_GRAD.get()
}

/// Runs `f` without recording.
pub fn no_grad<T>(f: impl FnOnce() -> T) -> T {
    set_no_grad(true, f)
}

fn set_no_grad<T>(value: bool, f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            NO_GRAD.set(self.0);
        }
    }
    let _restore = Restore(NO_GRAD.replace(value));
    f()
}

/// Runs `f` without recording and says whether anything would have been recorded.
pub(crate) fn no_grad_noting<T>(f: impl FnOnce() -> T) -> (T, bool) {
    let outer = SKIPPED.replace(false);
    let out = no_grad(f);
    let noted = SKIPPED.replace(outer);
    if noted {
        SKIPPED.set(true);
    }
    (out, noted)
}

/// Records inside a backward function (recomputation).
pub(crate) fn with_grad<T>(f: impl FnOnce() -> T) -> T {
    set_no_grad(false, f)
}

/// Gradients on their way back.
pub struct Grads {
    pending: HashMap<u64, Buf>,
    heap: BinaryHeap<Pending>,
    /// Set by [`gradients`]: leaves outside it are left alone, and what is asked for is kept.
    only: Option<HashMap<u64, Option<Buf>>>,
}

struct Pending(Arc<Node>);
impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl Grads {
    /// Whether this input's gradient is wanted. Skip its kernel if not.
    pub fn wants(&self, edge: &Edge) -> bool {
        match &edge.0 {
            None => false,
            Some(node) => match (&node.kind, &self.only) {
                (Kind::Op(_), _) => true,
                (Kind::Leaf(_), Some(only)) => only.contains_key(&node.id),
                (Kind::Leaf(sink), None) => sink.is_some(),
            },
        }
    }

    /// Adds to an input's gradient in place: `f(buffer, accumulate)`. When `accumulate` is false the buffer holds rubbish and
    /// must be overwritten whole. Does nothing where no gradient is wanted.
    pub fn with(&mut self, edge: &Edge, f: impl FnOnce(&mut [f32], bool)) {
        if let Some((mut buf, accumulate)) = self.take(edge) {
            f(&mut buf, accumulate);
            self.put(edge, buf);
        }
    }

    /// Takes an input's gradient buffer out, to be returned by [`Grads::put`]: for kernels that fill several at once.
    pub fn take(&mut self, edge: &Edge) -> Option<(Buf, bool)> {
        if !self.wants(edge) {
            return None;
        }
        let node = edge.0.as_ref()?;
        let found = match (&node.kind, &self.only) {
            (Kind::Leaf(Some(sink)), None) => sink.0.lock().expect("gradient lock").take(),
            _ => self.pending.remove(&node.id),
        };
        Some(match found {
            Some(buf) => (buf, true),
            None if matches!(node.kind, Kind::Leaf(_)) => (Buf::exact(node.len), false),
            None => (Buf::scratch(node.len), false),
        })
    }

    /// Returns a buffer taken by [`Grads::take`], or gives a whole gradient away (it is added to what is there).
    pub fn put(&mut self, edge: &Edge, buf: Buf) {
        if !self.wants(edge) {
            return;
        }
        let Some(node) = &edge.0 else { return };
        assert_eq!(buf.len(), node.len, "a gradient of {} values for a tensor of {}", buf.len(), node.len);
        match (&node.kind, &self.only) {
            (Kind::Leaf(Some(sink)), None) => {
                let mut slot = sink.0.lock().expect("gradient lock");
                match slot.as_mut() {
                    Some(there) => crate::math::add_assign(there, &buf),
                    None => *slot = Some(buf),
                }
            }
            _ => {
                if let Some(there) = self.pending.get_mut(&node.id) {
                    crate::math::add_assign(there, &buf);
                } else {
                    self.pending.insert(node.id, buf);
                    self.heap.push(Pending(node.clone()));
                }
            }
        }
    }

    fn run(&mut self) {
        while let Some(Pending(node)) = self.heap.pop() {
            // A node may be on the heap twice (taken and put back): the second visit finds nothing.
            let Some(dy) = self.pending.remove(&node.id) else { continue };
            let asked = self.only.as_ref().is_some_and(|o| o.contains_key(&node.id));
            if asked {
                let kept = Buf::copy(&dy);
                self.only.as_mut().expect("just looked").insert(node.id, Some(kept));
            }
            Self::visit(&node, dy, self);
        }
    }

    fn visit(node: &Node, dy: Buf, grads: &mut Grads) {
        let Kind::Op(back) = &node.kind else { return };
        let back = back.lock().expect("tape lock").take();
        let back = back.expect("this part of the tape was walked back already; compute it again for a second backward");
        back(dy, grads);
    }
}

/// Walks back from `loss` (one element, or any shape with a gradient of ones) and adds gradients to the parameters' sinks.
/// The tape behind `loss` is consumed.
pub fn backward(loss: &Tensor) {
    let mut ones = Buf::scratch(loss.len());
    ones.fill(1.0);
    backward_from(&[(loss, ones)]);
}

/// [`backward`] from several tensors with given gradients.
pub fn backward_from(outputs: &[(&Tensor, Buf)]) {
    walk(outputs, None);
}

/// Gradients of `output` (summed) with respect to chosen tensors (leaves, inputs or results on the way). Parameter sinks
/// stay untouched. `None` where the output does not depend on it.
pub fn gradients(output: &Tensor, wrt: &[&Tensor]) -> Vec<Option<Tensor>> {
    let mut ones = Buf::scratch(output.len());
    ones.fill(1.0);
    gradients_from(&[(output, ones)], wrt)
}

/// [`gradients`] from several tensors with given gradients.
pub fn gradients_from(outputs: &[(&Tensor, Buf)], wrt: &[&Tensor]) -> Vec<Option<Tensor>> {
    let only = wrt.iter().filter_map(|t| t.node.0.as_ref()).map(|n| (n.id, None)).collect();
    let mut found = walk(outputs, Some(only));
    let mut out: Vec<Option<Tensor>> = Vec::with_capacity(wrt.len());
    for (i, t) in wrt.iter().enumerate() {
        let id = t.node.0.as_ref().map(|n| n.id);
        let earlier = wrt[..i].iter().position(|e| e.node.0.as_ref().map(|n| n.id) == id);
        let grad = match (id, earlier) {
            (Some(_), Some(j)) => out[j].clone(),
            (Some(id), None) => found.remove(&id).flatten().map(|buf| Tensor::constant(buf, t.shape)),
            (None, _) => None,
        };
        out.push(grad);
    }
    out
}

fn walk(outputs: &[(&Tensor, Buf)], only: Option<HashMap<u64, Option<Buf>>>) -> HashMap<u64, Option<Buf>> {
    let mut grads = Grads { pending: HashMap::new(), heap: BinaryHeap::new(), only };
    for (t, dy) in outputs {
        assert_eq!(t.len(), dy.len(), "a gradient of {} values for {:?}", dy.len(), t.shape);
        assert!(t.needs_grad(), "nothing behind this tensor needs a gradient");
        grads.put(&t.node, Buf::copy(dy));
    }
    grads.run();
    grads.only.unwrap_or_default()
}

/// A named trainable tensor: its value, which an optimiser changes in place, and the sink of its gradients.
#[derive(Clone)]
pub struct Param(Arc<ParamInner>);

struct ParamInner {
    name: String,
    shape: Shape,
    value: RwLock<Tensor>,
    sink: Arc<Sink>,
    held: AtomicBool,
}

impl Param {
    pub fn new(name: impl Into<String>, value: Tensor) -> Self {
        let sink = Arc::new(Sink::default());
        let shape = value.shape;
        let value = Tensor { node: Node::leaf(shape.len(), Some(SinkRef(sink.clone()))), ..value };
        Self(Arc::new(ParamInner {
            name: name.into(),
            shape,
            value: RwLock::new(value),
            sink,
            held: AtomicBool::new(false),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn shape(&self) -> Shape {
        self.0.shape
    }

    pub fn len(&self) -> usize {
        self.0.shape.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameter on the tape: gradients that reach it go to its sink. While it is held, a constant.
    pub fn leaf(&self) -> Tensor {
        if self.is_held() {
            return self.value();
        }
        self.0.value.read().expect("parameter lock").clone()
    }

    /// The value, cut off from the tape.
    pub fn value(&self) -> Tensor {
        self.0.value.read().expect("parameter lock").detach()
    }

    /// Holds the parameter as it is, for a time: no gradient is formed for it. A gradient in the sink is dropped.
    pub fn hold(&self, held: bool) {
        self.0.held.store(held, Ordering::Relaxed);
        if held {
            drop(self.take_grad());
        }
    }

    pub fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Changes the value in place. If somebody still holds the old value (a tape not yet walked, a snapshot), they keep it
    /// and a copy is changed.
    pub fn update(&self, f: impl FnOnce(&mut [f32])) {
        let mut slot = self.0.value.write().expect("parameter lock");
        if Arc::get_mut(&mut slot.data).is_none() {
            slot.data = Arc::new(Buf::copy(&slot.data));
        }
        f(Arc::get_mut(&mut slot.data).expect("the only owner"));
    }

    pub fn set(&self, value: &[f32]) {
        self.update(|w| w.copy_from_slice(value));
    }

    /// The gradient gathered so far.
    pub fn grad(&self) -> Option<Tensor> {
        let slot = self.0.sink.0.lock().expect("gradient lock");
        slot.as_ref().map(|buf| Tensor::from_slice(buf, self.0.shape.dims()))
    }

    /// Looks at or changes the gradient in place, where there is one.
    pub fn with_grad<T>(&self, f: impl FnOnce(&mut [f32]) -> T) -> Option<T> {
        self.0.sink.0.lock().expect("gradient lock").as_mut().map(|buf| f(buf))
    }

    /// Changes the value given its gradient, both in place.
    pub fn update_with_grad(&self, f: impl FnOnce(&mut [f32], &mut [f32])) {
        let mut grad = self.0.sink.0.lock().expect("gradient lock");
        if let Some(grad) = grad.as_mut() {
            self.update(|w| f(w, grad));
        }
    }

    /// Empties the sink.
    pub fn take_grad(&self) -> Option<Buf> {
        self.0.sink.0.lock().expect("gradient lock").take()
    }

    /// Adds to the sink from outside the tape.
    pub fn add_grad(&self, grad: &[f32]) {
        let mut slot = self.0.sink.0.lock().expect("gradient lock");
        match slot.as_mut() {
            Some(there) => crate::math::add_assign(there, grad),
            None => *slot = Some(Buf::copy(grad)),
        }
    }
}

impl std::fmt::Debug for Param {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Param({} {:?})", self.0.name, self.0.shape)
    }
}
