//! The hidden graph: quantities, each given or computed from earlier ones.

use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};

use crate::task::Problem;

/// How a quantity comes about; `of`, `a`, `b` are indices of earlier quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Given(u64),
    Add { of: usize, k: u64 },
    Sub { of: usize, k: u64 },
    Times { of: usize, k: u64 },
    Half { of: usize },
    Sum { a: usize, b: usize },
    Diff { a: usize, b: usize },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub op: Op,
    pub value: u64,
}

/// Quantities in an order of dependence, and the one that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub target: usize,
}

/// More quantities than any drawn graph has; a problem from a file may not hold more.
const MOST: usize = 64;

impl Op {
    pub fn parents(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, second) = match *self {
            Op::Given(_) => (None, None),
            Op::Add { of, .. } | Op::Sub { of, .. } | Op::Times { of, .. } | Op::Half { of } => (Some(of), None),
            Op::Sum { a, b } | Op::Diff { a, b } => (Some(a), Some(b)),
        };
        first.into_iter().chain(second)
    }

    /// Its two operands and the sign between them; none for a given quantity.
    fn parts(&self, value: impl Fn(usize) -> u64) -> Option<(u64, char, u64)> {
        Some(match *self {
            Op::Given(_) => return None,
            Op::Add { of, k } => (value(of), '+', k),
            Op::Sub { of, k } => (value(of), '-', k),
            Op::Times { of, k } => (value(of), '*', k),
            Op::Half { of } => (value(of), '/', 2),
            Op::Sum { a, b } => (value(a), '+', value(b)),
            Op::Diff { a, b } => (value(a), '-', value(b)),
        })
    }

    fn value(&self, values: impl Fn(usize) -> u64) -> Option<u64> {
        match (*self, self.parts(values)) {
            (Op::Given(k), _) => Some(k),
            (_, Some((a, '+', b))) => a.checked_add(b),
            (_, Some((a, '-', b))) => a.checked_sub(b),
            (_, Some((a, '*', b))) => a.checked_mul(b),
            (_, Some((a, _, b))) => a.is_multiple_of(b).then(|| a / b),
            (_, None) => None,
        }
    }
}

impl Graph {
    /// `steps` operations lead to the target; every value is at most `10^digits - 1`. Nodes have no names yet.
    pub fn draw(stream: &mut Stream, steps: usize, digits: u32, distractors: usize, tree: bool) -> Self {
        let mut drawing = Drawing { nodes: vec![], most: 10u64.pow(digits) - 1, small: small(digits) };
        let mut target = drawing.tree(stream, steps, tree);
        for _ in 0..distractors {
            if stream.chance(0.5) {
                drawing.given(stream);
            } else {
                let of = stream.below(drawing.nodes.len());
                drawing.unary(stream, of);
            }
        }
        // Distractors stand anywhere that their dependences allow.
        let (nodes, moved) = in_drawn_order(&drawing.nodes, stream);
        target = moved[target];
        Self { nodes, target }
    }

    /// Gives every quantity another owner.
    pub fn name(&mut self, stream: &mut Stream, names: &[&str]) {
        let picked = stream.sample(names.len(), self.nodes.len());
        for (node, i) in self.nodes.iter_mut().zip(picked) {
            node.name = names[i].to_string();
        }
    }

    /// The graph in a problem. Errors: it is not there, or does not hold together.
    pub fn of(problem: &Problem) -> Result<Self> {
        let wrong = |what: &str| {
            Error::usage(format!("not a problem of `chain`: {what}")).at(format!("problem {}", problem.id))
        };
        let nodes: Vec<Node> = <Vec<Node> as Deserialize>::deserialize(&problem.meta["nodes"])
            .map_err(|e| wrong("its meta.nodes cannot be read").because(e))?;
        let target = problem.meta["target"].as_u64().map(|t| t as usize).filter(|t| *t < nodes.len());
        let target = target.ok_or_else(|| wrong("its meta.target is no quantity"))?;
        if nodes.len() > MOST {
            return Err(wrong(&format!("more than {MOST} quantities")));
        }
        for (i, node) in nodes.iter().enumerate() {
            if node.op.parents().any(|p| p >= i) {
                return Err(wrong(&format!("quantity {i} depends on a later one")));
            }
            if node.op.value(|p| nodes[p].value) != Some(node.value) {
                return Err(wrong(&format!("quantity {i} has not the value of its operation")));
            }
        }
        Ok(Self { nodes, target })
    }

    pub fn answer(&self) -> u64 {
        self.nodes[self.target].value
    }

    /// Which quantities the target needs, itself among them.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        needed[self.target] = true;
        for i in (0..self.nodes.len()).rev() {
            if needed[i] {
                self.nodes[i].op.parents().for_each(|p| needed[p] = true);
            }
        }
        needed
    }

    /// The computed quantities that the target needs, in the order they are told.
    pub fn plan(&self) -> Vec<usize> {
        let needed = self.needed();
        (0..self.nodes.len()).filter(|i| needed[*i] && !matches!(self.nodes[*i].op, Op::Given(_))).collect()
    }

    /// The same quantities in another valid order, drawn.
    pub fn plan_drawn(&self, stream: &mut Stream) -> Vec<usize> {
        let mut left = self.plan();
        let mut done = vec![];
        while !left.is_empty() {
            let free = |i: &usize| self.nodes[*i].op.parents().all(|p| !left.contains(&p));
            let ready: Vec<usize> = left.iter().copied().filter(free).collect();
            let next = *stream.choose(&ready);
            left.retain(|i| *i != next);
            done.push(next);
        }
        done
    }

    /// A computed quantity's operands, sign and value.
    pub fn parts(&self, i: usize) -> Option<(u64, char, u64, u64)> {
        let node = &self.nodes[i];
        let (a, sign, b) = node.op.parts(|p| self.nodes[p].value)?;
        Some((a, sign, b, node.value))
    }

    /// `3+4=7`; none for a given quantity.
    pub fn equation(&self, i: usize) -> Option<String> {
        self.parts(i).map(|(a, sign, b, c)| format!("{a}{sign}{b}={c}"))
    }

    /// The target's arithmetic without names, wording and distractors: `((3+4)*2)`.
    pub fn key(&self) -> String {
        let mut texts: Vec<String> = vec![];
        for node in &self.nodes {
            let pair = |a: &str, sign: char, b: &str| format!("({a}{sign}{b})");
            texts.push(match node.op {
                Op::Given(k) => k.to_string(),
                Op::Add { of, k } => pair(&texts[of], '+', &k.to_string()),
                Op::Sub { of, k } => pair(&texts[of], '-', &k.to_string()),
                Op::Times { of, k } => pair(&texts[of], '*', &k.to_string()),
                Op::Half { of } => pair(&texts[of], '/', "2"),
                Op::Sum { a, b } => {
                    let (x, y) = if texts[a] <= texts[b] { (a, b) } else { (b, a) };
                    pair(&texts[x], '+', &texts[y])
                }
                Op::Diff { a, b } => pair(&texts[a], '-', &texts[b]),
            });
        }
        texts.swap_remove(self.target)
    }
}

/// The largest given quantity and the largest constant: such that most operations stay within the digits.
fn small(digits: u32) -> u64 {
    if digits == 1 { 9 } else { 10u64.pow(digits) / 5 }
}

struct Drawing {
    nodes: Vec<Node>,
    most: u64,
    small: u64,
}

impl Drawing {
    fn push(&mut self, op: Op) -> usize {
        let value = op.value(|p| self.nodes[p].value).expect("a drawn operation is valid");
        self.nodes.push(Node { name: String::new(), op, value });
        self.nodes.len() - 1
    }

    fn between(&self, stream: &mut Stream, low: u64, high: u64) -> u64 {
        stream.between(low as i64, high as i64) as u64
    }

    fn given(&mut self, stream: &mut Stream) -> usize {
        let k = self.between(stream, 2, self.small);
        self.push(Op::Given(k))
    }

    /// One of the operations that keep the value within 1 and `most` (0 comes only from equal sides of a difference).
    fn unary(&mut self, stream: &mut Stream, of: usize) -> usize {
        let v = self.nodes[of].value;
        loop {
            let op = match stream.below(6) {
                0 | 1 if v < self.most => Op::Add { of, k: self.between(stream, 1, self.small.min(self.most - v)) },
                2 | 3 if v > 1 => Op::Sub { of, k: self.between(stream, 1, self.small.min(v - 1)) },
                4 if v > 0 && v * 2 <= self.most => {
                    let k = self.between(stream, 2, (self.most / v).min(if self.most > 9 { 5 } else { 3 }));
                    Op::Times { of, k }
                }
                5 if v > 0 && v.is_multiple_of(2) => Op::Half { of },
                _ => continue,
            };
            return self.push(op);
        }
    }

    /// A quantity with `steps` operations below and at it.
    fn tree(&mut self, stream: &mut Stream, steps: usize, branching: bool) -> usize {
        if steps == 0 {
            return self.given(stream);
        }
        if !branching || stream.chance(0.35) {
            let of = self.tree(stream, steps - 1, branching);
            return self.unary(stream, of);
        }
        let left = stream.below(steps);
        let first = self.nodes.len();
        let a = self.tree(stream, left, true);
        // With nothing left to compute the other side may be a quantity that `a` already used: a graph, not only a tree.
        let rest = steps - 1 - left;
        let b = if rest == 0 && a > first && stream.chance(0.4) {
            first + stream.below(a - first)
        } else {
            self.tree(stream, rest, true)
        };
        let (x, y) = (self.nodes[a].value, self.nodes[b].value);
        let sum = x + y <= self.most;
        if sum && stream.chance(0.7) {
            self.push(Op::Sum { a, b })
        } else if x >= y {
            self.push(Op::Diff { a, b })
        } else {
            self.push(Op::Diff { a: b, b: a })
        }
    }
}

/// The nodes in a drawn order of dependence, and where each went. A node that depends on nothing may come early or late.
fn in_drawn_order(nodes: &[Node], stream: &mut Stream) -> (Vec<Node>, Vec<usize>) {
    let mut moved = vec![usize::MAX; nodes.len()];
    let mut out: Vec<Node> = vec![];
    while out.len() < nodes.len() {
        let free = |i: &usize| moved[*i] == usize::MAX && nodes[*i].op.parents().all(|p| moved[p] != usize::MAX);
        let ready: Vec<usize> = (0..nodes.len()).filter(free).collect();
        let i = *stream.choose(&ready);
        let mut node = nodes[i].clone();
        node.op = match node.op {
            Op::Given(k) => Op::Given(k),
            Op::Add { of, k } => Op::Add { of: moved[of], k },
            Op::Sub { of, k } => Op::Sub { of: moved[of], k },
            Op::Times { of, k } => Op::Times { of: moved[of], k },
            Op::Half { of } => Op::Half { of: moved[of] },
            Op::Sum { a, b } => Op::Sum { a: moved[a], b: moved[b] },
            Op::Diff { a, b } => Op::Diff { a: moved[a], b: moved[b] },
        };
        moved[i] = out.len();
        out.push(node);
    }
    (out, moved)
}
