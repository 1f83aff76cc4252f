//! Keys and values of sequences being generated, and rows that attend to them.
//!
//! Everything here is computed row by row in one order, so a row's results have the same bits alone, among 63 others, in a
//! prompt read at once or in pieces, and after its place was taken over from another sequence.

use std::cell::RefCell;
use std::sync::Arc;

use postgrad_tensor::Tensor;
use postgrad_tensor::ops::{self, AttnSpec, CacheView};

use crate::hook::Hooks;

/// One sequence's keys and values, by slot. Rotated keys; `[position, kv_heads * head_dim]`.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    slots: Vec<(Vec<f32>, Vec<f32>)>,
    len: usize,
    width: usize,
}

impl KvCache {
    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all but the first `len` positions.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        for (k, v) in &mut self.slots {
            k.truncate(self.len * self.width);
            v.truncate(self.len * self.width);
        }
    }

    /// Makes room for `more` positions, so that decoding does not move what is there.
    pub fn reserve(&mut self, more: usize) {
        let more = more * self.width;
        for (k, v) in &mut self.slots {
            k.reserve(more);
            v.reserve(more);
        }
    }
}

/// New rows of several sequences, with the caches they extend.
pub struct Rows {
    caches: RefCell<Vec<KvCache>>,
    /// For every row: which cache, which position.
    at: Vec<(usize, usize)>,
    positions: Vec<u32>,
    starts: Vec<usize>,
    row_scales: Vec<(String, Arc<[f32]>)>,
    hooks: Hooks,
}

impl Rows {
    /// `counts[i]` new rows for the `i`th cache, in order.
    pub fn new(caches: Vec<KvCache>, counts: &[usize], slots: usize, width: usize) -> Self {
        let (mut at, mut positions, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let mut caches = caches;
        for (i, (cache, &count)) in caches.iter_mut().zip(counts).enumerate() {
            if cache.slots.len() != slots {
                cache.slots.resize_with(slots, Default::default);
                cache.width = width;
            }
            starts.push(at.len());
            for p in cache.len..cache.len + count {
                at.push((i, p));
                positions.push(p as u32);
            }
        }
        Self { caches: RefCell::new(caches), at, positions, starts, row_scales: vec![], hooks: Hooks::default() }
    }

    /// Run-time factors of an adapter, one a row.
    pub fn with_row_scale(mut self, adapter: &str, scale: Arc<[f32]>) -> Self {
        self.row_scales.push((adapter.into(), scale));
        self
    }

    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(crate) fn row_scale(&self, adapter: &str) -> Option<Arc<[f32]>> {
        self.row_scales.iter().find(|(n, _)| n == adapter).map(|(_, s)| s.clone())
    }

    /// The last row of every sequence.
    pub fn last_rows(&self) -> Vec<usize> {
        let ends = self.starts.iter().skip(1).copied().chain([self.at.len()]);
        ends.map(|e| e - 1).collect()
    }

    /// Appends the rows' keys and values to their caches and attends.
    pub(crate) fn attend(&self, slot: usize, qkv: &Tensor, spec: &AttnSpec) -> Tensor {
        let (qw, kw) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let width = qw + 2 * kw;
        let mut caches = self.caches.borrow_mut();
        for (row, (cache, position)) in qkv.data().chunks_exact(width).zip(&self.at) {
            let (k, v) = &mut caches[*cache].slots[slot];
            debug_assert_eq!(k.len(), position * kw);
            k.extend_from_slice(&row[qw..qw + kw]);
            v.extend_from_slice(&row[qw + kw..]);
        }
        let views: Vec<CacheView> = caches
            .iter()
            .map(|c| {
                let (k, v) = &c.slots[slot];
                CacheView { k, v, len: k.len() / kw.max(1) }
            })
            .collect();
        ops::cached_attention(&qkv.narrow(1, 0, qw), spec, &views, &self.at)
    }

    /// Counts the new rows as held and gives the caches back. Call once, after all slots.
    pub fn commit(self) -> Vec<KvCache> {
        let mut caches = self.caches.into_inner();
        for (cache, position) in self.at {
            caches[cache].len = caches[cache].len.max(position + 1);
        }
        caches
    }
}
