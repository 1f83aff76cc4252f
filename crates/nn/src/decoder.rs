//! The decoder: a list of slots over a weight map.
//!
//! A slot is one block of the model and names its weights; KV caches, hooks and trainability go by slot. The parts are public
//! ([`Decoder::embed`], [`Decoder::block`], [`Decoder::final_norm`], [`Decoder::hidden`]), so a method that skips, repeats or
//! swaps blocks calls them itself. One block function serves training and generation; they differ in what [`Walk`] they are
//! given: a [`Pass`] over whole sequences on the tape, or cached rows without one (see [`crate::cache`]).
//!
//! Left out on purpose: encoder-decoder models.

use std::sync::Arc;

use postgrad_base::{Error, Result};
use postgrad_tensor::ops::{self, AttnSpec, Gate, Mask as PatternMask, RopeTable};
use postgrad_tensor::{Param, Tensor};

use crate::adapter::{Adapter, LoraSpec};
use crate::cache::Rows;
use crate::config::{Act, Config};
use crate::hook::{At, Hooks, Point};
use crate::weights::{WeightId, Weights};

/// What a weight does in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Role {
    AttnNorm,
    Q,
    K,
    V,
    O,
    QBias,
    KBias,
    VBias,
    OBias,
    QNorm,
    KNorm,
    MlpNorm,
    Gate,
    Up,
    Down,
    GateBias,
    UpBias,
    DownBias,
}

const ROLES: [(Role, &str); 18] = [
    (Role::AttnNorm, "input_layernorm.weight"),
    (Role::Q, "self_attn.q_proj.weight"),
    (Role::K, "self_attn.k_proj.weight"),
    (Role::V, "self_attn.v_proj.weight"),
    (Role::O, "self_attn.o_proj.weight"),
    (Role::QBias, "self_attn.q_proj.bias"),
    (Role::KBias, "self_attn.k_proj.bias"),
    (Role::VBias, "self_attn.v_proj.bias"),
    (Role::OBias, "self_attn.o_proj.bias"),
    (Role::QNorm, "self_attn.q_norm.weight"),
    (Role::KNorm, "self_attn.k_norm.weight"),
    (Role::MlpNorm, "post_attention_layernorm.weight"),
    (Role::Gate, "mlp.gate_proj.weight"),
    (Role::Up, "mlp.up_proj.weight"),
    (Role::Down, "mlp.down_proj.weight"),
    (Role::GateBias, "mlp.gate_proj.bias"),
    (Role::UpBias, "mlp.up_proj.bias"),
    (Role::DownBias, "mlp.down_proj.bias"),
];

/// The roles that are linear projections: what a LoRA goes beside by default.
pub const PROJECTIONS: [Role; 7] = [Role::Q, Role::K, Role::V, Role::O, Role::Gate, Role::Up, Role::Down];

/// One block: the layer of the configuration it follows and the weights it reads.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// Options that differ by layer (sliding window) are this layer's.
    pub layer: usize,
    pub weights: [Option<WeightId>; ROLES.len()],
}

/// Which keys a position may see.
#[derive(Clone, Default)]
pub enum Mask {
    /// Those before it in its sequence, and itself.
    #[default]
    Causal,
    /// All of its sequence.
    Bidirectional,
    /// An additive mask `[1, 1 or heads, len, past + len]` by slot and run (number of the sequence in the batch).
    Custom(Arc<dyn Fn(usize, usize) -> Tensor + Send + Sync>),
}

/// Keys and values put before every sequence of a batch: `[past, kv_heads * head_dim]` each, as they stand (keys are not
/// rotated again).
#[derive(Clone)]
pub struct Past {
    pub keys: Tensor,
    pub values: Tensor,
}

/// A forward pass over whole sequences, on the tape.
#[derive(Clone, Default)]
pub struct Pass {
    /// One position a row.
    pub positions: Arc<[u32]>,
    /// Sequences as (first row, length). Rows in none of them are padding.
    pub runs: Arc<[(usize, usize)]>,
    pub mask: Mask,
    /// By slot.
    pub past: Option<Arc<Vec<Past>>>,
    /// Turns dropout on; masks are a function of this key alone.
    pub dropout: Option<u64>,
    /// By adapter name: one factor a row.
    pub row_scales: Vec<(String, Arc<[f32]>)>,
    /// Keep only each block's input and compute the block again on the way back.
    pub checkpoint: bool,
    pub hooks: Hooks,
}

impl Pass {
    /// One pass over sequences that lie one after the other, positions from 0.
    pub fn sequences(lengths: &[usize]) -> Self {
        let mut runs = Vec::with_capacity(lengths.len());
        let mut positions = Vec::new();
        for &len in lengths {
            runs.push((positions.len(), len));
            positions.extend(0..len as u32);
        }
        Self { positions: positions.into(), runs: runs.into(), ..Self::default() }
    }

    /// One pass over rows with segment numbers (0: padding; a segment's rows are neighbours) and positions.
    pub fn segments(row_len: usize, segments: &[u32], positions: &[u32]) -> Self {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (i, &s) in segments.iter().enumerate() {
            if s == 0 {
                continue;
            }
            let goes_on = i % row_len.max(1) != 0 && segments[i - 1] == s;
            match runs.last_mut() {
                Some(run) if goes_on => run.1 += 1,
                _ => runs.push((i, 1)),
            }
        }
        Self { positions: positions.into(), runs: runs.into(), ..Self::default() }
    }

    fn materialised(&self, slot: usize) -> bool {
        !matches!(self.mask, Mask::Causal) || self.past.is_some() || self.hooks.any(Point::Pattern, slot)
    }
}

/// What a block runs over.
pub enum Walk<'a> {
    Tape(&'a Pass),
    Cached(&'a Rows),
}

impl Walk<'_> {
    fn positions(&self) -> &[u32] {
        match self {
            Self::Tape(p) => &p.positions,
            Self::Cached(r) => r.positions(),
        }
    }

    fn hooks(&self) -> &Hooks {
        match self {
            Self::Tape(p) => &p.hooks,
            Self::Cached(r) => r.hooks(),
        }
    }
}

/// One low-rank module in use.
#[derive(Clone)]
struct LoraUse {
    role: Role,
    a: Tensor,
    b: Tensor,
    scale: f32,
    rows: Option<Arc<[f32]>>,
    dropout: Option<(f32, u64)>,
}

/// A slot's weights, looked up.
#[derive(Clone)]
struct BlockWeights {
    base: [Option<Tensor>; ROLES.len()],
    lora: Vec<LoraUse>,
}

impl BlockWeights {
    fn get(&self, role: Role) -> Option<&Tensor> {
        self.base[role as usize].as_ref()
    }

    fn need(&self, role: Role) -> &Tensor {
        self.get(role).unwrap_or_else(|| panic!("a slot without its {role:?} weight"))
    }

    /// All tensors, to be the inputs of a recomputed block.
    fn flatten(&self) -> Vec<Tensor> {
        self.base.iter().flatten().chain(self.lora.iter().flat_map(|l| [&l.a, &l.b])).cloned().collect()
    }

    fn with(&self, tensors: &[Tensor]) -> Self {
        let mut next = tensors.iter().cloned();
        let mut take = || next.next().expect("as many tensors as were flattened");
        let mut new = self.clone();
        new.base.iter_mut().flatten().for_each(|t| *t = take());
        for l in &mut new.lora {
            l.a = take();
            l.b = take();
        }
        new
    }
}

/// What a block needs beside its weights.
#[derive(Clone)]
struct Plan {
    config: Arc<Config>,
    rope: Arc<RopeTable>,
}

/// A decoder-only language model with its adapters.
#[derive(Clone)]
pub struct Decoder {
    pub config: Arc<Config>,
    pub weights: Weights,
    pub slots: Vec<Slot>,
    pub adapters: Vec<Adapter>,
    embed: WeightId,
    norm: WeightId,
    head: WeightId,
    plan: Plan,
}

impl Decoder {
    /// A decoder over weights in the Hugging Face names. All weights start frozen.
    pub fn new(config: Config, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let config = Arc::new(config);
        let mut given: std::collections::BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let mut weights = Weights::default();
        for (name, shape) in config.tensors() {
            let t = given.remove(&name).ok_or_else(|| Error::work("the model lacks a tensor").at(&name))?;
            if t.dims() != shape {
                return Err(Error::work(format!("expected shape {shape:?}, found {:?}", t.dims())).at(&name));
            }
            weights.add(&name, t);
        }
        let find = |name: &str| weights.find(name).ok_or_else(|| Error::work("the model lacks a tensor").at(name));
        let embed = find("model.embed_tokens.weight")?;
        let norm = find("model.norm.weight")?;
        let head = if config.tie_word_embeddings { embed } else { find("lm_head.weight")? };
        let slots = (0..config.layers)
            .map(|layer| {
                let mut slot = Slot { layer, ..Slot::default() };
                for (role, name) in ROLES {
                    slot.weights[role as usize] = weights.find(&format!("model.layers.{layer}.{name}"));
                }
                slot
            })
            .collect();
        let (inv_freq, attention_scale) = config.rope_inv_freq();
        let rope = Arc::new(RopeTable::new(&inv_freq, config.max_position_embeddings, attention_scale));
        let plan = Plan { config: config.clone(), rope };
        Ok(Self { config, weights, slots, adapters: vec![], embed, norm, head, plan })
    }

    /// A new model with random weights: normal with the configuration's standard deviation (residual projections divided by
    /// sqrt(2 layers), as GPT-2), norms one, biases zero.
    pub fn random(config: Config, stream: &postgrad_base::Stream) -> Result<Self> {
        let std = config.initializer_range as f32;
        let depth = (2.0 * config.layers as f32).sqrt();
        let tensors: Vec<_> = config
            .tensors()
            .into_iter()
            .map(|(name, shape)| {
                let n: usize = shape.iter().product();
                let data = if name.ends_with("bias") {
                    vec![0.0; n]
                } else if shape.len() == 1 {
                    vec![1.0; n]
                } else {
                    let residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
                    let std = if residual { std / depth } else { std };
                    let mut s = stream.child(&name);
                    (0..n).map(|_| s.normal() as f32 * std).collect()
                };
                (name, Tensor::new(data, &shape))
            })
            .collect();
        Self::new(config, tensors)
    }

    pub fn embed_id(&self) -> WeightId {
        self.embed
    }

    pub fn head_id(&self) -> WeightId {
        self.head
    }

    /// The output matrix `[vocab, hidden]`.
    pub fn head(&self) -> Tensor {
        self.weights.get(self.head).tensor()
    }

    /// Weights of all parameters, adapters left out.
    pub fn parameter_count(&self) -> usize {
        self.weights.iter().map(|(_, _, w)| w.tensor().len()).sum()
    }

    /// Makes row `id` of the embedding, and of an untied head, the mean of the rows before it; a row that comes after all is
    /// added. For a new token; everything is frozen again.
    pub fn add_vocabulary_row(&mut self, id: usize) -> Result<()> {
        let rows = self.config.vocab_size;
        if id == 0 || id > rows {
            return Err(Error::work(format!("row {id} does not come next in a vocabulary of {rows}")));
        }
        let tables = if self.head == self.embed { vec![self.embed] } else { vec![self.embed, self.head] };
        for table in tables {
            let (name, old) = (self.weights.name(table).to_string(), self.weights.get(table).tensor().detach());
            let width = old.dim(1);
            let mut sums = vec![0.0f64; width];
            for row in old.data()[..id * width].chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x));
            }
            let mean = sums.iter().map(|s| (s / id as f64) as f32);
            let mut data = old.data().to_vec();
            data.resize(data.len().max((id + 1) * width), 0.0);
            data[id * width..(id + 1) * width].iter_mut().zip(mean).for_each(|(to, x)| *to = x);
            self.weights.add(&name, Tensor::new(data, &[rows.max(id + 1), width]));
        }
        let config = Arc::new(Config { vocab_size: rows.max(id + 1), ..(*self.config).clone() });
        self.plan.config = config.clone();
        self.config = config;
        Ok(())
    }

    /// Ids of the projections of these roles in every slot.
    pub fn projections(&self, roles: &[Role]) -> Vec<WeightId> {
        let mut ids: Vec<_> =
            self.slots.iter().flat_map(|s| roles.iter().filter_map(|r| s.weights[*r as usize])).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Puts a fresh adapter beside every linear projection and freezes the weights themselves.
    pub fn add_lora(&mut self, name: &str, spec: LoraSpec, stream: &postgrad_base::Stream) -> Result<()> {
        let targets = self.projections(&PROJECTIONS);
        let adapter = Adapter::fresh(name, spec, &self.weights, &targets, stream)?;
        self.weights.train(|_| false);
        self.adapters.push(adapter);
        Ok(())
    }

    /// Everything trainable, in a fixed order: weights, then adapters.
    pub fn params(&self) -> Vec<Param> {
        let mut all = self.weights.params();
        all.extend(self.adapters.iter().flat_map(Adapter::params));
        all
    }

    /// Rows of the embedding: `[ids, hidden]`.
    pub fn embed(&self, ids: &[u32]) -> Tensor {
        ops::embedding(&self.weights.get(self.embed).tensor(), ids)
    }

    /// The norm before the head.
    pub fn final_norm(&self, x: &Tensor) -> Tensor {
        ops::rms_norm(x, &self.weights.get(self.norm).tensor(), self.config.norm_eps as f32, 0.0)
    }

    /// Embedding, all slots, final norm: `[rows, hidden]`.
    pub fn hidden(&self, ids: &[u32], walk: &Walk) -> Tensor {
        let x = self.embed(ids);
        self.hidden_from(x, walk)
    }

    /// [`Decoder::hidden`] from embeddings.
    pub fn hidden_from(&self, x: Tensor, walk: &Walk) -> Tensor {
        assert_eq!(x.shape().rows(), walk.positions().len(), "one position a row");
        let mut x = walk.hooks().run(At { slot: 0, point: Point::Embed, run: 0 }, x);
        for slot in 0..self.slots.len() {
            x = self.block(slot, x, walk);
        }
        self.final_norm(&x)
    }

    /// Logits of every row: for short inputs and tests; training uses the chunked head on [`Decoder::hidden`].
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        ops::linear(hidden, &self.head(), None)
    }

    /// One block over the residual stream `x [rows, hidden]`.
    pub fn block(&self, slot: usize, x: Tensor, walk: &Walk) -> Tensor {
        let weights = self.look_up(slot, walk);
        match walk {
            Walk::Tape(pass) if pass.checkpoint && postgrad_tensor::is_grad() => {
                let mut inputs = vec![x];
                inputs.extend(weights.flatten());
                let (plan, pass, layer) = (self.plan.clone(), (*pass).clone(), self.slots[slot].layer);
                ops::checkpoint(&inputs, move |t| {
                    plan.block(slot, layer, &weights.with(&t[1..]), t[0].clone(), &Walk::Tape(&pass))
                })
            }
            _ => self.plan.block(slot, self.slots[slot].layer, &weights, x, walk),
        }
    }

    fn look_up(&self, slot: usize, walk: &Walk) -> BlockWeights {
        let s = &self.slots[slot];
        let base = s.weights.map(|id| id.map(|id| self.weights.get(id).tensor()));
        let mut lora = Vec::new();
        for (index, adapter) in self.adapters.iter().enumerate() {
            for role in PROJECTIONS {
                let Some(id) = s.weights[role as usize] else { continue };
                let Some(module) = adapter.modules.get(&id).filter(|_| adapter.scale != 0.0) else { continue };
                let (rows, dropout) = match walk {
                    Walk::Tape(pass) => {
                        let rows = pass.row_scales.iter().find(|(n, _)| *n == adapter.name).map(|(_, r)| r.clone());
                        let p = adapter.spec.dropout;
                        let key = pass.dropout.filter(|_| p > 0.0).map(|k| mix(k, slot, index, role as usize));
                        (rows, key.map(|k| (p, k)))
                    }
                    Walk::Cached(rows) => (rows.row_scale(&adapter.name), None),
                };
                let scale = adapter.scale * module.scaling;
                lora.push(LoraUse { role, a: module.a.tensor(), b: module.b.tensor(), scale, rows, dropout });
            }
        }
        BlockWeights { base, lora }
    }
}

/// A dropout key for one module of one pass.
fn mix(key: u64, slot: usize, adapter: usize, role: usize) -> u64 {
    let mut x = key ^ ((slot as u64) << 32 | (adapter as u64) << 16 | role as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Plan {
    fn block(&self, slot: usize, layer: usize, w: &BlockWeights, x: Tensor, walk: &Walk) -> Tensor {
        let c = &self.config;
        let hooks = walk.hooks();
        let hook = |point, x| hooks.run(At { slot, point, run: 0 }, x);
        let x = hook(Point::ResidualBefore, x);

        let h = ops::rms_norm(&x, w.need(Role::AttnNorm), c.norm_eps as f32, 0.0);
        let qkv = project(w, &h, &[Role::Q, Role::K, Role::V], &[Role::QBias, Role::KBias, Role::VBias], None, walk);
        let attended = self.attend(slot, layer, w, qkv, walk);
        let attended = hook(Point::HeadOutput, attended);
        let x = project(w, &attended, &[Role::O], &[Role::OBias], Some(x), walk);

        let h = ops::rms_norm(&x, w.need(Role::MlpNorm), c.norm_eps as f32, 0.0);
        let gate_up = project(w, &h, &[Role::Gate, Role::Up], &[Role::GateBias, Role::UpBias], None, walk);
        let hidden = ops::glu(&gate_up, gate(c.act));
        let hidden = hook(Point::MlpHidden, hidden);
        let x = if hooks.any(Point::MlpOutput, slot) {
            let out = project(w, &hidden, &[Role::Down], &[Role::DownBias], None, walk);
            &x + &hook(Point::MlpOutput, out)
        } else {
            project(w, &hidden, &[Role::Down], &[Role::DownBias], Some(x), walk)
        };
        hook(Point::ResidualAfter, x)
    }

    fn attend(&self, slot: usize, layer: usize, w: &BlockWeights, qkv: Tensor, walk: &Walk) -> Tensor {
        let c = &self.config;
        let (heads, kv_heads, d) = (c.heads, c.kv_heads, c.head_dim);
        let mut qkv = qkv;
        if let (Some(q), Some(k)) = (w.get(Role::QNorm), w.get(Role::KNorm)) {
            qkv = ops::head_norm(qkv, &[(0, heads, q), (heads * d, kv_heads, k)], d, c.norm_eps as f32, 0.0);
        }
        let hooks = walk.hooks();
        if [Point::Query, Point::Key, Point::Value].iter().any(|p| hooks.any(*p, slot)) {
            let (qw, kw) = (heads * d, kv_heads * d);
            let parts = [(Point::Query, 0, qw), (Point::Key, qw, kw), (Point::Value, qw + kw, kw)]
                .map(|(point, at, width)| hooks.run(At { slot, point, run: 0 }, qkv.narrow(1, at, width)));
            qkv = ops::concat(&[&parts[0], &parts[1], &parts[2]], 1);
        }
        let qkv = ops::rope(qkv, walk.positions(), &self.rope, 0, heads + kv_heads, d);
        let scale = c.attention_scale.unwrap_or(1.0 / (d as f32).sqrt());
        let spec =
            AttnSpec { heads, kv_heads, head_dim: d, scale, window: c.sliding_window[layer], softcap: c.attn_softcap };
        match walk {
            Walk::Cached(rows) => rows.attend(slot, &qkv, &spec),
            Walk::Tape(pass) => {
                // Attention dropout is for training alone, and needs the pattern.
                let p = c.attention_dropout as f32;
                let dropout = pass.dropout.filter(|_| p > 0.0).map(|key| (p, key));
                if dropout.is_none() && !pass.materialised(slot) {
                    return ops::attention(&qkv, &spec, &pass.runs);
                }
                materialised(slot, &qkv, &spec, pass, dropout)
            }
        }
    }
}

/// Weights side by side, their biases, their low-rank modules, onto a residual.
fn project(
    w: &BlockWeights,
    x: &Tensor,
    roles: &[Role],
    biases: &[Role],
    residual: Option<Tensor>,
    walk: &Walk,
) -> Tensor {
    let weights: Vec<&Tensor> = roles.iter().map(|r| w.need(*r)).collect();
    let biases: Vec<Option<&Tensor>> = biases.iter().map(|r| w.get(*r)).collect();
    let cached = matches!(walk, Walk::Cached(_));
    let mut y = if cached {
        ops::row_linear_tensor(x, &weights, &biases, residual)
    } else {
        ops::linear_cat(x, &weights, &biases, residual)
    };
    for l in &w.lora {
        let Some(i) = roles.iter().position(|r| *r == l.role) else { continue };
        let at = weights[..i].iter().map(|w| w.dim(0)).sum();
        if cached {
            // The same order of sums whatever the number of rows, so the low-rank product is made of row products too.
            let inner = ops::row_linear_tensor(x, &[&l.a], &[None], None);
            let delta = ops::row_linear_tensor(&inner, &[&l.b], &[None], None);
            y = ops::add_columns(y, &delta, at, l.scale, l.rows.as_deref());
            continue;
        }
        let dropped = l.dropout.map(|(p, key)| ops::dropout(x.clone(), p, key));
        let x = dropped.as_ref().unwrap_or(x);
        y = ops::lora_add(y, x, &l.a, &l.b, at, l.scale, l.rows.clone());
    }
    y
}

/// Attention that forms the pattern, sequence by sequence: for custom and bidirectional masks, past keys, pattern hooks.
fn materialised(slot: usize, qkv: &Tensor, spec: &AttnSpec, pass: &Pass, dropout: Option<(f32, u64)>) -> Tensor {
    let (h, kv, d) = (spec.heads, spec.kv_heads, spec.head_dim);
    let rows = qkv.shape().rows();
    let mut parts: Vec<Tensor> = Vec::new();
    let mut next = 0;
    for (run, &(start, len)) in pass.runs.iter().enumerate() {
        if start > next {
            parts.push(Tensor::zeros(&[start - next, h * d]));
        }
        next = start + len;
        let x = qkv.narrow(0, start, len);
        let q = x.narrow(1, 0, h * d).reshape(&[1, len, h, d]);
        let mut k = x.narrow(1, h * d, kv * d);
        let mut v = x.narrow(1, (h + kv) * d, kv * d);
        let mut past_len = 0;
        if let Some(past) = pass.past.as_ref().and_then(|p| p.get(slot)) {
            past_len = past.keys.dim(0);
            k = ops::concat(&[&past.keys, &k], 0);
            v = ops::concat(&[&past.values, &v], 0);
        }
        let all = past_len + len;
        let (k, v) = (k.reshape(&[1, all, kv, d]), v.reshape(&[1, all, kv, d]));
        let scores = ops::attention_scores(&q, &k, spec.scale, spec.softcap);
        let mask = match &pass.mask {
            Mask::Causal => match spec.window {
                Some(w) => PatternMask::Custom(window_mask(len, past_len, w)),
                None => PatternMask::Causal { offset: past_len },
            },
            Mask::Bidirectional => PatternMask::None,
            Mask::Custom(f) => PatternMask::Custom(f(slot, run)),
        };
        let pattern = ops::masked_softmax(scores, &mask);
        let mut pattern = pass.hooks.run(At { slot, point: Point::Pattern, run }, pattern);
        if let Some((p, key)) = dropout {
            pattern = ops::dropout(pattern, p, mix(key, slot, usize::from(u16::MAX), run));
        }
        parts.push(ops::attention_apply(&pattern, &v).reshape(&[len, h * d]));
    }
    if rows > next {
        parts.push(Tensor::zeros(&[rows - next, h * d]));
    }
    ops::concat(&parts.iter().collect::<Vec<_>>(), 0)
}

/// Additive mask of a causal window: key j is seen from i where i - w < j <= i; past keys are always seen.
fn window_mask(len: usize, past: usize, window: usize) -> Tensor {
    let mut m = vec![f32::NEG_INFINITY; len * (past + len)];
    for i in 0..len {
        let row = &mut m[i * (past + len)..(i + 1) * (past + len)];
        row[..past].fill(0.0);
        row[past + (i + 1).saturating_sub(window)..past + i + 1].fill(0.0);
    }
    Tensor::new(m, &[1, 1, len, past + len])
}

fn gate(act: Act) -> Gate {
    match act {
        Act::Silu => Gate::Silu,
        Act::GeluTanh => Gate::GeluTanh,
        Act::Gelu => Gate::GeluErf,
        Act::Relu => Gate::Relu,
    }
}

/// The decoder as a source of next-token logits, with its adapters on.
impl crate::sample::Source for Decoder {
    type State = crate::cache::KvCache;

    fn start(&self) -> Self::State {
        Self::State::default()
    }

    fn next(&self, states: &mut [&mut Self::State], tokens: &[&[u32]]) -> Result<Vec<f32>> {
        let counts: Vec<usize> = tokens.iter().map(|t| t.len()).collect();
        let ids = tokens.concat();
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.config.vocab_size) {
            return Err(Error::work(format!(
                "token {id} is outside the model's vocabulary of {}",
                self.config.vocab_size
            )));
        }
        let width = self.config.kv_heads * self.config.head_dim;
        let caches = states.iter_mut().map(|s| std::mem::take(*s)).collect();
        let rows = Rows::new(caches, &counts, self.slots.len(), width);
        postgrad_tensor::no_grad(|| {
            let hidden = self.hidden(&ids, &Walk::Cached(&rows));
            let last: Vec<u32> = rows.last_rows().iter().map(|r| *r as u32).collect();
            for (state, cache) in states.iter_mut().zip(rows.commit()) {
                **state = cache;
            }
            let hidden = ops::embedding(&hidden, &last);
            Ok(ops::row_linear_tensor(&hidden, &[&self.head()], &[None], None).into_buf().to_vec())
        })
    }

    fn fork(&self, state: &Self::State) -> Self::State {
        state.clone()
    }

    fn truncate(&self, state: &mut Self::State, len: usize) {
        state.truncate(len);
    }

    fn vocab(&self) -> usize {
        self.config.vocab_size
    }

    fn context(&self) -> usize {
        self.config.max_position_embeddings
    }
}
