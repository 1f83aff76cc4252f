//! Rotary position embedding (Su et al. 2021) in the half-split convention of Hugging Face's Llama: dimension `i` turns with
//! dimension `i + n` by `position * inv_freq[i]`, where `n` is the number of frequencies. Further dimensions of a head pass
//! through (partial rotary). Frequency schedules (linear, NTK, YaRN, Llama 3) are made by whoever fills `inv_freq`.

use std::sync::{Arc, RwLock};

use crate::par;
use crate::simd::vectorize;
use crate::{Tensor, recording};

/// Cosines and sines by position. Grows when a later position is asked for.
pub struct RopeTable {
    inv_freq: Vec<f32>,
    scale: f32,
    /// `[positions, cosines | sines]`.
    rows: RwLock<Arc<Vec<f32>>>,
}

impl RopeTable {
    /// A table for positions below `max_pos` at first; cosines and sines are multiplied by `attention_scale` (YaRN; else 1).
    pub fn new(inv_freq: &[f32], max_pos: usize, attention_scale: f32) -> Self {
        let table = Self { inv_freq: inv_freq.to_vec(), scale: attention_scale, rows: RwLock::default() };
        table.upto(max_pos);
        table
    }

    /// Dimensions of a head that turn.
    pub fn rotary_dim(&self) -> usize {
        2 * self.inv_freq.len()
    }

    fn upto(&self, positions: usize) -> Arc<Vec<f32>> {
        let width = self.rotary_dim();
        let rows = self.rows.read().expect("table lock").clone();
        if rows.len() >= positions * width {
            return rows;
        }
        let mut slot = self.rows.write().expect("table lock");
        if slot.len() < positions * width {
            let have = slot.len() / width;
            let mut all = Vec::with_capacity(positions.next_power_of_two() * width);
            all.extend_from_slice(&slot);
            for p in have..positions.next_power_of_two() {
                // The angle is rounded to f32 as the reference implementations do; its cosine is not.
                let angles = self.inv_freq.iter().map(|f| (p as f32 * f) as f64);
                all.extend(angles.clone().map(|a| (a.cos() * self.scale as f64) as f32));
                all.extend(angles.map(|a| (a.sin() * self.scale as f64) as f32));
            }
            *slot = Arc::new(all);
        }
        slot.clone()
    }
}

/// Turns `heads` heads of `head_dim` columns, from `first_col` on, of each row `[rows, width]` by the row's position. Works in
/// place where nobody else holds `x`; backward turns the gradient back in place.
pub fn rope(
    x: Tensor,
    positions: &[u32],
    table: &Arc<RopeTable>,
    first_col: usize,
    heads: usize,
    head_dim: usize,
) -> Tensor {
    let (shape, xe) = (x.shape(), x.edge());
    let width = shape.width();
    assert_eq!(positions.len(), shape.rows(), "{} positions for {shape:?}", positions.len());
    assert!(first_col + heads * head_dim <= width, "{heads} heads of {head_dim} from {first_col} in {shape:?}");
    assert!(table.rotary_dim() <= head_dim, "{} rotary dimensions in heads of {head_dim}", table.rotary_dim());
    let record = recording([&xe]);
    let rows = table.upto(positions.iter().max().map_or(0, |p| *p as usize + 1));
    let place = Place { width, first_col, heads, head_dim, half: table.rotary_dim() / 2 };
    let mut y = x.into_buf();
    turn(&mut y, positions, &rows, place, 1.0);
    let kept = if record { positions.to_vec() } else { Vec::new() };
    Tensor::from_op(y, shape, record, move |mut dy, grads| {
        turn(&mut dy, &kept, &rows, place, -1.0);
        grads.put(&xe, dy);
    })
}

#[derive(Clone, Copy)]
struct Place {
    width: usize,
    first_col: usize,
    heads: usize,
    head_dim: usize,
    half: usize,
}

fn turn(y: &mut [f32], positions: &[u32], table: &[f32], p: Place, sign: f32) {
    if p.half == 0 {
        return;
    }
    par::rows_mut(y, p.width, |first, rows| {
        vectorize(
            #[inline(always)]
            || {
                for (row, pos) in rows.chunks_exact_mut(p.width).zip(&positions[first..]) {
                    let at = *pos as usize * 2 * p.half;
                    let (cos, sin) = table[at..at + 2 * p.half].split_at(p.half);
                    let span = &mut row[p.first_col..p.first_col + p.heads * p.head_dim];
                    for head in span.chunks_exact_mut(p.head_dim) {
                        let (a, b) = head[..2 * p.half].split_at_mut(p.half);
                        for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                            let (x0, x1, s) = (*a, *b, *s * sign);
                            *a = x0 * c - x1 * s;
                            *b = x1 * c + x0 * s;
                        }
                    }
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{check, random};
    use postgrad_base::Stream;

    #[test]
    fn values_and_gradients_with_partial_rotary_and_untouched_columns() {
        let mut s = Stream::new(1, &["rope"]);
        for (rows, heads, hd, half, first) in [(1, 1, 2, 1, 0), (4, 3, 6, 2, 5), (9, 2, 32, 16, 3), (0, 1, 4, 2, 0)] {
            let inv: Vec<f32> = (0..half).map(|i| 0.7f32.powi(i as i32)).collect();
            let table = Arc::new(RopeTable::new(&inv, 2, 1.25));
            let positions: Vec<u32> = (0..rows as u32).map(|r| (r * 7) % 11).collect();
            let width = first + heads * hd + 2;
            check(
                "rope",
                &[random(&mut s, &[rows, width])],
                1e-5,
                |t| rope(t[0].clone(), &positions, &table, first, heads, hd),
                |x| {
                    let mut y = x[0].clone();
                    for (r, p) in positions.iter().enumerate() {
                        for h in 0..heads {
                            for (i, inv) in inv.iter().enumerate() {
                                let at = r * width + first + h * hd + i;
                                let angle = *p as f64 * *inv as f64;
                                let (c, s) = (1.25 * angle.cos(), 1.25 * angle.sin());
                                y[at] = x[0][at] * c - x[0][at + half] * s;
                                y[at + half] = x[0][at + half] * c + x[0][at] * s;
                            }
                        }
                    }
                    y
                },
            );
        }
    }

    #[test]
    fn an_unshared_buffer_is_reused() {
        let x = Tensor::full(1.0, &[2, 4]);
        let at = x.data().as_ptr();
        let y = rope(x, &[0, 3], &Arc::new(RopeTable::new(&[1.0, 0.1], 1, 1.0)), 0, 1, 4);
        assert_eq!(y.data().as_ptr(), at);
        assert_eq!(&y.data()[..4], &[1.0; 4]);
    }
}
