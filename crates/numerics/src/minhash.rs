//! MinHash (Broder 1997): the likeness of two sets from short sketches.
//!
//! A sketch holds, for each of `p` random functions, the least value over the set. Two sets agree in one of them with the
//! probability of their Jaccard likeness |A and B| / |A or B|, so that the share of agreements estimates it without bias, with a
//! standard error of at most `1 / (2 sqrt p)`: 0.044 for 128. The functions are `(a x + b) mod (2^61 - 1)`.
//! Left out until its first user comes: an index in bands, for many sets against many.

use postgrad_base::Stream;

/// A Mersenne prime: elements are taken modulo it.
const PRIME: u64 = (1 << 61) - 1;

/// A family of random functions, the same for all sets that are compared.
pub struct MinHash {
    functions: Vec<(u64, u64)>,
}

impl MinHash {
    /// `permutations` functions drawn from the stream, one at least.
    pub fn new(permutations: usize, stream: &mut Stream) -> Self {
        let mut draw = || (1 + stream.next_u64() % (PRIME - 1), stream.next_u64() % PRIME);
        Self { functions: (0..permutations.max(1)).map(|_| draw()).collect() }
    }

    /// The sketch of a set, whose elements are hashes of what it holds; `None` of an empty one, which is like nothing.
    pub fn sketch(&self, elements: &[u64]) -> Option<Vec<u64>> {
        let value =
            |(a, b): &(u64, u64), x: &u64| (u128::from(*a) * u128::from(*x) + u128::from(*b)) % u128::from(PRIME);
        let least = |f| elements.iter().map(|x| value(f, x) as u64).min();
        self.functions.iter().map(least).collect()
    }
}

/// The share of functions in which two sketches of one family agree. Panics where they are not of one length.
pub fn likeness(a: &[u64], b: &[u64]) -> f64 {
    assert_eq!(a.len(), b.len(), "sketches of one family");
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(n: usize) -> MinHash {
        MinHash::new(n, &mut Stream::new(7, &["test"]))
    }

    /// Elements as hashes are: far apart.
    fn set(range: std::ops::Range<u64>) -> Vec<u64> {
        range.map(|i| Stream::new(i, &["element"]).next_u64()).collect()
    }

    #[test]
    fn the_estimate_is_the_jaccard_likeness_within_its_error() {
        let m = family(128);
        for shared in [0, 5, 20, 40] {
            let (a, b) = (set(0..40), set(40 - shared..80 - shared));
            let exact = shared as f64 / (80 - shared) as f64;
            let got = likeness(&m.sketch(&a).unwrap(), &m.sketch(&b).unwrap());
            let error = 3.5 * (exact * (1.0 - exact) / 128.0).sqrt();
            assert!((got - exact).abs() <= error, "{shared}: {got}, not {exact}");
        }
    }

    #[test]
    fn it_has_no_bias_over_families() {
        let (a, b) = (set(0..30), set(10..40));
        let one = |seed: u64| {
            let m = MinHash::new(64, &mut Stream::new(seed, &["family"]));
            likeness(&m.sketch(&a).unwrap(), &m.sketch(&b).unwrap())
        };
        let mean = (0..200).map(one).sum::<f64>() / 200.0;
        // 12,800 functions: three standard errors are 0.013.
        assert!((mean - 0.5).abs() < 0.013, "{mean}");
    }

    #[test]
    fn order_and_repetition_do_not_matter_and_nothing_has_no_sketch() {
        let (m, mut a) = (family(16), set(0..9));
        let before = m.sketch(&a);
        a.reverse();
        a.extend(a.clone());
        assert_eq!(m.sketch(&a), before);
        assert_eq!(m.sketch(&[]), None);
        assert_eq!(likeness(&before.clone().unwrap(), &before.unwrap()), 1.0);
    }
}
