//! Threads: one rayon pool, work cut into fixed parts so that the number of threads never changes a result.

use std::ops::Range;

use rayon::prelude::*;

use crate::simd;

/// Below this many elements of work no thread is woken.
pub const SMALL: usize = 1 << 14;

/// Sets the number of threads (0: all cores). Only the first call of a process counts.
pub fn set_threads(n: usize) {
    let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
}

pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// A pointer that may cross threads. The user promises that parts written by different threads do not overlap.
pub struct SendPtr<T>(pub *mut T);
// Not derived: a pointer is copied whether or not what it points to can be.
impl<T> Clone for SendPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SendPtr<T> {}
// SAFETY: see the type's promise.
unsafe impl<T> Send for SendPtr<T> {}
unsafe impl<T> Sync for SendPtr<T> {}

impl<T> SendPtr<T> {
    /// # Safety
    /// `offset` must be in bounds.
    #[inline(always)]
    pub unsafe fn at(self, offset: usize) -> *mut T {
        unsafe { self.0.add(offset) }
    }

    /// # Safety
    /// `offset..offset + len` must be in bounds and not aliased while the slice lives.
    #[inline(always)]
    pub unsafe fn slice<'a>(self, offset: usize, len: usize) -> &'a mut [T] {
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset), len) }
    }
}

/// Runs `f(i)` for each of `n` parts, on several threads where `work` (elements touched in all) is large. The caller's SIMD
/// level is in force in `f`; hot loops in it still go through [`simd::vectorize`].
pub fn parts(n: usize, work: usize, f: impl Fn(usize) + Sync) {
    let level = simd::level();
    let run = |i: usize| simd::with_thread_level(level, || f(i));
    if n <= 1 || work < SMALL || threads() == 1 {
        (0..n).for_each(run);
    } else {
        (0..n).into_par_iter().with_max_len(1).for_each(run);
    }
}

/// Cuts `0..len` into blocks of `block` and runs `f(block index, range)`, as [`parts`].
pub fn blocks(len: usize, block: usize, work: usize, f: impl Fn(usize, Range<usize>) + Sync) {
    let block = block.max(1);
    parts(len.div_ceil(block), work, |i| f(i, i * block..((i + 1) * block).min(len)));
}

/// Rows per block such that a block has about 4k elements, by the row's width alone (a fixed partition).
pub fn row_block(width: usize) -> usize {
    (4096 / width.max(1)).max(1)
}

/// `f(start, part of y)` over blocks of `block` elements of `y`.
pub fn rows_mut_of(y: &mut [f32], block: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let (len, ptr) = (y.len(), SendPtr(y.as_mut_ptr()));
    blocks(len, block, len, |_, r| {
        // SAFETY: blocks are disjoint.
        f(r.start, unsafe { ptr.slice(r.start, r.len()) })
    });
}

/// `f(first row, rows of y)` over blocks of rows of `y` (row width `width`).
pub fn rows_mut(y: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if width == 0 {
        return;
    }
    let rows = y.len() / width;
    let work = y.len();
    let ptr = SendPtr(y.as_mut_ptr());
    blocks(rows, row_block(width), work, |_, r| {
        // SAFETY: blocks are disjoint ranges of rows.
        let part = unsafe { ptr.slice(r.start * width, r.len() * width) };
        f(r.start, part)
    });
}
