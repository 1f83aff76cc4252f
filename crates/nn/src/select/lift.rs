//! LIFT (arXiv 2506.00772): of every linear projection of the layers, train the entries that are largest in magnitude *after
//! a low-rank approximation* of the matrix, `K = min(R (m + n), m n)` of them: as many as a LoRA of rank R has. The list is
//! made anew from the current weights every `interval` updates, never before the first. Embeddings, head, norms and biases
//! stay as they are.
//!
//! Other lists, for comparison, of the same length: see [`MaskKind`]. Moments are kept for the K entries alone (the optimiser
//! does that), but the gradient of a matrix is computed whole; `movement` and `momentum` also keep one figure an entry.
//!
//! Decompositions are in f64, matrices side by side on the threads. Ties in a ranking go to the earlier entry.

use std::sync::Mutex;

use postgrad_base::{Error, Result, Stream};
use postgrad_numerics::Svd;
use postgrad_tensor::{Param, par};
use serde::{Deserialize, Serialize};

use crate::optim::Optimizer;

/// By what entries are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskKind {
    /// Magnitude in the approximation by the `filter_rank` largest singular directions.
    #[default]
    Lift,
    /// By the smallest directions.
    Smallest,
    /// By directions drawn at random.
    RandomDirections,
    /// By half the largest and half the smallest directions.
    Hybrid,
    /// Magnitude of the weight itself.
    Magnitude,
    /// Magnitude of this update's gradient.
    Gradient,
    /// The running sum of `-0.01 gradient weight`, signed: entries that move away from zero.
    Movement,
    /// Magnitude of the running mean of gradients (factor 0.9).
    Momentum,
    /// None: drawn.
    Random,
    /// Whole rows and columns, drawn in turns; the last one in part.
    Block,
}

impl MaskKind {
    fn has_directions(self) -> bool {
        matches!(self, Self::Lift | Self::Smallest | Self::RandomDirections | Self::Hybrid)
    }
}

/// How singular directions are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SvdKind {
    #[default]
    Exact,
    /// From a sketch of rank `2 filter_rank`: much faster where that is far below the matrix's own rank.
    Randomized,
}

/// The settings, with the paper's defaults for models of 7B (rank 128 is about 5% of the weights there).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lift {
    pub mask: MaskKind,
    /// Singular directions of the approximation.
    pub filter_rank: usize,
    /// The budget, as the rank of the LoRA that has as many parameters.
    pub rank: usize,
    /// Updates between two lists.
    pub interval: u64,
    pub svd: SvdKind,
}

impl Default for Lift {
    fn default() -> Self {
        Self { mask: MaskKind::Lift, filter_rank: 64, rank: 128, interval: 400, svd: SvdKind::Exact }
    }
}

impl Lift {
    pub(super) fn check(&self) -> Result<()> {
        if self.rank == 0 || self.filter_rank == 0 || self.interval == 0 {
            return Err(Error::usage("`rank`, `filter_rank` and `interval` of a selection must be at least 1"));
        }
        if self.svd == SvdKind::Randomized && self.mask.has_directions() && self.mask != MaskKind::Lift {
            return Err(Error::usage("a randomized decomposition finds the largest directions alone")
                .help("give svd = \"exact\""));
        }
        Ok(())
    }

    /// Entries trained of a matrix.
    pub fn budget(&self, rows: usize, cols: usize) -> usize {
        (self.rank * (rows + cols)).min(rows * cols)
    }

    /// The entries of one row-major matrix, ascending. `figure` is the gradient or the running score of each entry, for the
    /// kinds that rank by one.
    pub fn entries(
        &self,
        w: &[f32],
        rows: usize,
        cols: usize,
        figure: Option<&[f32]>,
        stream: &mut Stream,
    ) -> Result<Vec<u32>> {
        let k = self.budget(rows, cols);
        if u32::try_from(rows * cols).is_err() {
            return Err(Error::work(format!("a matrix of {rows} x {cols} has too many entries to be listed")));
        }
        let figure = || figure.ok_or_else(|| Error::work("entries are to be chosen by gradients, and there are none"));
        let magnitudes = |of: &[f32]| top_entries(&of.iter().map(|x| x.abs() as f64).collect::<Vec<_>>(), k);
        Ok(match self.mask {
            MaskKind::Magnitude => magnitudes(w),
            // All directions together are the matrix.
            kind if kind.has_directions() && self.filter_rank >= rows.min(cols) => magnitudes(w),
            MaskKind::Lift | MaskKind::Smallest | MaskKind::RandomDirections | MaskKind::Hybrid => {
                let near = self.approximation(w, rows, cols, stream)?;
                top_entries(&near.into_iter().map(f64::abs).collect::<Vec<_>>(), k)
            }
            MaskKind::Gradient | MaskKind::Momentum => magnitudes(figure()?),
            MaskKind::Movement => top_entries(&figure()?.iter().map(|x| *x as f64).collect::<Vec<_>>(), k),
            MaskKind::Random => {
                let mut drawn: Vec<u32> = stream.sample(rows * cols, k).into_iter().map(|i| i as u32).collect();
                drawn.sort_unstable();
                drawn
            }
            MaskKind::Block => block(rows, cols, k, stream),
        })
    }

    fn approximation(&self, w: &[f32], rows: usize, cols: usize, stream: &mut Stream) -> Result<Vec<f64>> {
        let r = self.filter_rank;
        let svd = match self.svd {
            SvdKind::Exact => Svd::exact(w, rows, cols)?,
            SvdKind::Randomized => Svd::sketched(w, rows, cols, r, stream)?,
        };
        let all = svd.values().len();
        let directions: Vec<usize> = match self.mask {
            MaskKind::Smallest => (all - r..all).collect(),
            MaskKind::RandomDirections => stream.sample(all, r),
            MaskKind::Hybrid => (0..r.div_ceil(2)).chain(all - r / 2..all).collect(),
            _ => (0..r).collect(),
        };
        Ok(svd.compose(&directions))
    }

    /// Adds this update's gradients to the running scores, for the kinds that have one.
    pub(super) fn keep_scores(&self, params: &[Param], optimizer: &mut Optimizer) -> Result<()> {
        if !matches!(self.mask, MaskKind::Movement | MaskKind::Momentum) {
            return Ok(());
        }
        for p in params {
            let score = optimizer.score(p.name())?;
            let w = p.value();
            p.with_grad(|g| {
                for ((s, g), w) in score.iter_mut().zip(g).zip(w.data()) {
                    *s = if self.mask == MaskKind::Movement { *s - 0.01 * *g * w } else { 0.9 * *s + 0.1 * *g };
                }
            });
        }
        Ok(())
    }

    /// Makes the lists anew; `time` counts from 0.
    pub(super) fn refresh(
        &self,
        time: u64,
        params: &[Param],
        stream: &Stream,
        optimizer: &mut Optimizer,
    ) -> Result<()> {
        let mut figures = Vec::with_capacity(params.len());
        for p in params {
            figures.push(match self.mask {
                MaskKind::Gradient => p.grad().map(|g| g.data().to_vec()),
                MaskKind::Movement | MaskKind::Momentum => Some(optimizer.score(p.name())?.to_vec()),
                _ => None,
            });
        }
        let lists: Vec<Mutex<Option<Result<Vec<u32>>>>> = params.iter().map(|_| Mutex::new(None)).collect();
        par::parts(params.len(), usize::MAX, |i| {
            let p = &params[i];
            let [rows, cols] = *p.shape().dims() else { unreachable!("projections are matrices") };
            let mut stream = stream.child("lift").child(p.name()).nth(time);
            let list = self.entries(p.value().data(), rows, cols, figures[i].as_deref(), &mut stream);
            *lists[i].lock().expect("a list's lock") = Some(list.map_err(|e| e.at(p.name())));
        });
        for (p, list) in params.iter().zip(lists) {
            let list = list.into_inner().expect("a list's lock").expect("every part has run")?;
            optimizer.set_entries(p.name(), Some(list))?;
        }
        Ok(())
    }
}

/// The places of the `k` largest values, ascending; of equal ones the earlier.
pub fn top_entries(values: &[f64], k: usize) -> Vec<u32> {
    let mut places: Vec<u32> = (0..values.len() as u32).collect();
    let order = |a: &u32, b: &u32| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b));
    if k < places.len() {
        places.select_nth_unstable_by(k, order);
        places.truncate(k);
    }
    places.sort_unstable();
    places
}

fn block(rows: usize, cols: usize, k: usize, stream: &mut Stream) -> Vec<u32> {
    let (r, c) = (stream.sample(rows, rows), stream.sample(cols, cols));
    let mut taken = vec![false; rows * cols];
    let mut left = k;
    let mut take = |place: usize| {
        if left > 0 && !taken[place] {
            taken[place] = true;
            left -= 1;
        }
    };
    for i in 0..rows.max(cols) {
        if let Some(row) = r.get(i) {
            (0..cols).for_each(|j| take(row * cols + j));
        }
        if let Some(col) = c.get(i) {
            (0..rows).for_each(|j| take(j * cols + col));
        }
    }
    (0..taken.len() as u32).filter(|p| taken[*p as usize]).collect()
}
