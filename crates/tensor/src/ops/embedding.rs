//! Rows of a table by id.

use crate::par::{self, SendPtr};
use crate::simd::vectorize;
use crate::{Buf, Shape, Tensor, recording};

/// `table [v, d]` at `ids`: `[ids, d]`. Backward adds each row's gradient to its id's, in the order of the ids, whatever the
/// number of threads; where the table already has a gradient (a tied head) only the rows in use are touched.
pub fn embedding(table: &Tensor, ids: &[u32]) -> Tensor {
    assert!(table.dims().len() == 2, "an embedding table cannot be {:?}", table.shape());
    let (v, d) = (table.dim(0), table.dim(1));
    if let Some(bad) = ids.iter().find(|id| **id as usize >= v) {
        panic!("id {bad} is not in a table of {v}");
    }
    let shape = Shape::new(&[ids.len(), d]);
    let mut y = Buf::scratch(shape.len());
    let source = table.data();
    par::rows_mut(&mut y, d, |first, rows| {
        for (row, id) in rows.chunks_exact_mut(d).zip(&ids[first..]) {
            row.copy_from_slice(&source[*id as usize * d..(*id as usize + 1) * d]);
        }
    });
    let te = table.edge();
    let record = recording([&te]);
    let ids = if record { ids.to_vec() } else { Vec::new() };
    Tensor::from_op(y, shape, record, move |dy, grads| {
        grads.with(&te, |dw, accumulate| {
            if !accumulate {
                par::rows_mut_of(dw, 1 << 16, |_, part| part.fill(0.0));
            }
            scatter_add(dw, &ids, &dy, d);
        });
    })
}

/// `table[ids[i]] += rows[i]` in the order of `i` for each id.
fn scatter_add(table: &mut [f32], ids: &[u32], rows: &[f32], d: usize) {
    // Sorted by id, then place: an id's rows are one run, which one block adds.
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_unstable_by_key(|i| (ids[*i as usize], *i));
    let id_at = |i: usize| ids[order[i] as usize] as usize;
    let out = SendPtr(table.as_mut_ptr());
    const BLOCK: usize = 32;
    par::blocks(order.len(), BLOCK, rows.len(), |_, range| {
        // A run belongs to the block in which it starts.
        let mut i = range.start;
        while i > 0 && i < range.end && id_at(i) == id_at(i - 1) {
            i += 1;
        }
        let mut end = range.end;
        while i < end && end < order.len() && id_at(end) == id_at(end - 1) {
            end += 1;
        }
        vectorize(
            #[inline(always)]
            || {
                for place in &order[i..end] {
                    let place = *place as usize;
                    // SAFETY: ids were checked against the table; runs of equal ids are in one block alone.
                    let to = unsafe { out.slice(ids[place] as usize * d, d) };
                    let from = place * d;
                    for (t, r) in to.iter_mut().zip(&rows[from..from + d]) {
                        *t += *r;
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
    fn values_and_gradients_with_repeated_ids() {
        let mut s = Stream::new(1, &["embedding"]);
        for (v, d, n) in [(1, 1, 1), (5, 7, 20), (9, 33, 70), (3, 4, 0)] {
            let ids: Vec<u32> = (0..n).map(|i| ((i * i * 3 + i / 4) % v) as u32).collect();
            check(
                "embedding",
                &[random(&mut s, &[v, d])],
                1e-6,
                |t| embedding(&t[0], &ids),
                |x| ids.iter().flat_map(|id| x[0][*id as usize * d..(*id as usize + 1) * d].to_vec()).collect(),
            );
        }
    }

    #[test]
    fn one_id_over_many_blocks_and_threads() {
        let mut s = Stream::new(2, &["embedding"]);
        let (v, d, n) = (6, 64, 700);
        // Long runs of one id cross blocks.
        let ids: Vec<u32> = (0..n).map(|i| if i % 50 == 3 { (i % v) as u32 } else { 2 }).collect();
        let rows = random(&mut s, &[n, d]);
        let mut want = vec![0f64; v * d];
        for (i, id) in ids.iter().enumerate() {
            for j in 0..d {
                want[*id as usize * d + j] += rows.data()[i * d + j] as f64;
            }
        }
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut table = vec![0.0; v * d];
            pool.install(|| scatter_add(&mut table, &ids, rows.data(), d));
            table
        };
        let one = run(1);
        assert!(crate::reference::worst(&one, &want) < 1e-5);
        assert!(run(2) == one && run(3) == one);
    }

    #[test]
    fn a_tied_table_keeps_what_it_has() {
        let w = crate::Param::new("w", Tensor::full(1.0, &[4, 2]));
        w.add_grad(&[5.0; 8]);
        crate::backward(&embedding(&w.leaf(), &[1, 1, 3]));
        assert_eq!(w.grad().unwrap().data(), &[5.0, 5.0, 7.0, 7.0, 5.0, 5.0, 6.0, 6.0]);
    }

    #[test]
    #[should_panic(expected = "id 4 is not in a table of 4")]
    fn ids_out_of_range_are_named() {
        embedding(&Tensor::zeros(&[4, 2]), &[1, 4]);
    }
}
