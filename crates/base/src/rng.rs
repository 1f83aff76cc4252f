//! Named random streams.
//!
//! A stream is ChaCha8 keyed by a hash of the run's seed and a path of names, so adding a stream or drawing more from one
//! never shifts another, and a stream's place can be saved and restored. Left out on purpose: any generator whose output
//! may change between versions of a library.
//!
//! ```
//! use postgrad_base::Stream;
//! let mut a = Stream::new(7, &["tune", "dropout"]);
//! let mut b = Stream::new(7, &["tune", "order"]);
//! assert_ne!(a.next_u64(), b.next_u64());
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// A deterministic stream of random numbers with a name.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u8; 32],
    rng: ChaCha8Rng,
}

/// A stream's place, for checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    key: String,
    word: String,
}

impl Stream {
    /// The stream called `path` of the run with this seed. The top names are `base`, `data`, `tune`, `sample`, `eval`.
    pub fn new(seed: u64, path: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"postgrad stream 1");
        hasher.update(&seed.to_le_bytes());
        for name in path {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        Self::from_key(*hasher.finalize().as_bytes())
    }

    /// A stream below this one; it does not depend on how much was drawn from `self`.
    pub fn child(&self, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(name.as_bytes());
        Self::from_key(*hasher.finalize().as_bytes())
    }

    /// The `n`th of a family of streams below this one (one a sequence, one a problem).
    pub fn nth(&self, n: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"#");
        hasher.update(&n.to_le_bytes());
        Self::from_key(*hasher.finalize().as_bytes())
    }

    fn from_key(key: [u8; 32]) -> Self {
        Self { key, rng: ChaCha8Rng::from_seed(key) }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }

    pub fn next_u32(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [0, 1) with 24 bits.
    pub fn f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.f64() < p
    }

    /// Uniform in 0..n, without bias. Panics when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "nothing to draw from");
        let n = n as u64;
        let zone = u64::MAX - (u64::MAX - n + 1) % n;
        loop {
            let x = self.next_u64();
            if x <= zone {
                return (x % n) as usize;
            }
        }
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "empty range {low}..={high}");
        low.wrapping_add(self.below((high - low) as usize + 1) as i64)
    }

    /// Standard normal (Box-Muller, one of the pair; f64).
    pub fn normal(&mut self) -> f64 {
        let u = 1.0 - self.f64();
        let v = self.f64();
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// One of `items`. Panics when there are none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// An index drawn in proportion to `weights` (not negative, not all zero).
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        assert!(total > 0.0, "weights sum to {total}");
        let mut x = self.f64() * total;
        for (i, w) in weights.iter().enumerate() {
            x -= w;
            if x < 0.0 {
                return i;
            }
        }
        weights.iter().rposition(|w| *w > 0.0).expect("a positive weight")
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `k` different indices below `n`, in random order.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        let k = k.min(n);
        for i in 0..k {
            let j = i + self.below(n - i);
            all.swap(i, j);
        }
        all.truncate(k);
        all
    }

    pub fn state(&self) -> StreamState {
        let key = self.key.iter().map(|b| format!("{b:02x}")).collect();
        StreamState { key, word: self.rng.get_word_pos().to_string() }
    }

    pub fn restore(state: &StreamState) -> Option<Self> {
        if state.key.len() != 64 {
            return None;
        }
        let mut key = [0; 32];
        for (i, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(state.key.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        let mut stream = Self::from_key(key);
        stream.rng.set_word_pos(state.word.parse().ok()?);
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_and_independent_of_draws() {
        let mut a = Stream::new(1, &["data"]);
        let first = a.child("x").next_u64();
        a.next_u64();
        assert_eq!(first, a.child("x").next_u64());
        assert_ne!(Stream::new(1, &["ab", "c"]).next_u64(), Stream::new(1, &["a", "bc"]).next_u64());
        assert_ne!(a.nth(0).next_u64(), a.nth(1).next_u64());
    }

    #[test]
    fn a_saved_place_is_found_again() {
        let mut a = Stream::new(3, &["sample"]);
        for _ in 0..17 {
            a.next_u32();
        }
        let mut b = Stream::restore(&a.state()).expect("a state");
        assert_eq!((0..9).map(|_| a.next_u64()).collect::<Vec<_>>(), (0..9).map(|_| b.next_u64()).collect::<Vec<_>>());
    }

    #[test]
    fn draws_have_the_right_moments() {
        let mut s = Stream::new(5, &["test"]);
        let n = 20_000;
        let normals: Vec<f64> = (0..n).map(|_| s.normal()).collect();
        let mean = normals.iter().sum::<f64>() / n as f64;
        let var = normals.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.03 && (var - 1.0).abs() < 0.05, "{mean} {var}");
        let mut counts = [0; 7];
        (0..7000).for_each(|_| counts[s.below(7)] += 1);
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
        assert_eq!(s.weighted(&[0.0, 2.0, 0.0]), 1);
        let mut picked = s.sample(10, 10);
        picked.sort();
        assert_eq!(picked, (0..10).collect::<Vec<_>>());
    }
}
