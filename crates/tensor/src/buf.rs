//! Buffers from a pool that outlives the step, so that a steady training loop asks the system for nothing.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Mutex;

const ALIGN: usize = 64;

/// An aligned array of f32 that returns to the pool when dropped. Fresh buffers hold whatever their last user left, but
/// never uninitialised memory.
pub struct Buf {
    ptr: NonNull<f32>,
    len: usize,
    cap: usize,
}

// SAFETY: a Buf owns its memory alone.
unsafe impl Send for Buf {}
unsafe impl Sync for Buf {}

/// What a thread panics with when the system has no memory left; a program catches it to say what would need less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The size of the buffer that was asked for.
    pub bytes: usize,
}

#[derive(Default)]
struct Pool {
    free: BTreeMap<usize, Vec<usize>>,
    free_elems: usize,
    used_elems: usize,
    peak_elems: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), free_elems: 0, used_elems: 0, peak_elems: 0 });

/// Capacities come in eight steps per power of two, so that lengths that differ a little share buffers.
fn capacity(len: usize) -> usize {
    if len <= 64 {
        return 64;
    }
    let step = (len.next_power_of_two() / 16).max(16);
    len.div_ceil(step) * step
}

fn layout(cap: usize) -> Layout {
    Layout::from_size_align(cap * size_of::<f32>(), ALIGN).expect("a buffer's size fits in memory")
}

impl Pool {
    fn take(&mut self, cap: usize) -> Option<NonNull<f32>> {
        let stack = self.free.get_mut(&cap)?;
        let ptr = stack.pop()?;
        if stack.is_empty() {
            self.free.remove(&cap);
        }
        self.free_elems -= cap;
        NonNull::new(ptr as *mut f32)
    }

    /// Frees cached buffers, largest first, until at most `keep` elements stay.
    fn trim(&mut self, keep: usize) {
        while self.free_elems > keep {
            let Some((&cap, _)) = self.free.last_key_value() else { return };
            let ptr = self.take(cap).expect("a cached buffer");
            // SAFETY: the pool owns it; it was allocated with this layout.
            unsafe { dealloc(ptr.as_ptr().cast(), layout(cap)) };
        }
    }
}

impl Buf {
    /// A buffer whose contents are arbitrary (but initialised).
    pub fn scratch(len: usize) -> Self {
        Self::with_capacity(len, capacity(len))
    }

    /// [`Buf::scratch`] without room to spare: for what lives long (weights, gradients, moments).
    pub fn exact(len: usize) -> Self {
        Self::with_capacity(len, len.next_multiple_of(16).max(64))
    }

    fn with_capacity(len: usize, cap: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
        let ptr = pool.take(cap).unwrap_or_else(|| {
            // Lengths that never come back (ragged batches) must not pile up.
            let bound = (pool.used_elems / 4).max(1 << 22);
            if pool.free_elems > bound {
                pool.trim(bound / 2);
            }
            // SAFETY: cap is at least 64, so the layout is not empty.
            let raw = unsafe { alloc_zeroed(layout(cap)) }.cast::<f32>();
            NonNull::new(raw).unwrap_or_else(|| std::panic::panic_any(OutOfMemory { bytes: cap * size_of::<f32>() }))
        });
        pool.used_elems += cap;
        pool.peak_elems = pool.peak_elems.max(pool.used_elems + pool.free_elems);
        Self { ptr, len, cap }
    }

    pub fn zeros(len: usize) -> Self {
        let mut buf = Self::exact(len);
        buf.fill(0.0);
        buf
    }

    pub fn copy(from: &[f32]) -> Self {
        let mut buf = Self::exact(from.len());
        buf.copy_from_slice(from);
        buf
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
        pool.used_elems -= self.cap;
        pool.free_elems += self.cap;
        pool.free.entry(self.cap).or_default().push(self.ptr.as_ptr() as usize);
    }
}

impl Deref for Buf {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: ptr holds cap >= len initialised elements owned by self.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in deref, and self is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf[{}]", self.len)
    }
}

/// Bytes in use and bytes kept for reuse.
pub fn pool_bytes() -> (usize, usize) {
    let pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
    (pool.used_elems * 4, pool.free_elems * 4)
}

/// Gives cached buffers back to the system.
pub fn release_pool() {
    POOL.lock().unwrap_or_else(|e| e.into_inner()).trim(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_cover_and_waste_little() {
        for len in [0, 1, 63, 64, 65, 1000, 4097, 1 << 20, (1 << 20) + 1] {
            let cap = capacity(len);
            assert!(cap >= len && cap <= 64.max(len + len / 7 + 16), "{len} -> {cap}");
        }
    }

    #[test]
    fn buffers_are_aligned_and_sized() {
        for len in [0, 1, 100, 5000] {
            let buf = Buf::zeros(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_ptr() as usize % ALIGN, 0);
            assert!(buf.iter().all(|x| *x == 0.0));
        }
    }
}
