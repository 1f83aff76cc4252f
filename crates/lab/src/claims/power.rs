//! What an experiment of so many seeds and items can show, before it is run.

use postgrad_numerics::{noncentral_t_above, t_quantile};
use serde::{Deserialize, Serialize};

use super::LEVEL;

/// Where a contrast's noise comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Standard deviation over seeds of the contrast as measured on `items` items (it holds their interaction).
    pub seed_sd: f64,
    /// Standard deviation over items of what all seeds share: over n items it adds `item_sd / sqrt(n)`.
    pub item_sd: f64,
    /// Standard deviation over items of what is one seed's own.
    pub item_seed_sd: f64,
    /// The items (clusters) that it was measured on.
    pub items: usize,
}

/// What to expect of a contrast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    pub seeds: usize,
    pub items: usize,
    pub se: f64,
    /// Of the 95% interval.
    pub half_width: f64,
    /// The chance that the interval leaves out the bound on the right side, at the effect asked about.
    pub power: f64,
    /// The distance from the bound that is found in 80 of 100 experiments.
    pub detectable: f64,
}

/// What [`Noise::assumed`] assumes.
pub const ASSUMED: &str = "assumed: the difference of two accuracies near 50% whose answers to an item correlate by one half, \
     half of what is left shared by the seeds; seeds differ by 2 points beside";

impl Noise {
    /// The noise where no ledger knows it: see [`ASSUMED`]. The difference of two answers of variance 1/4 that correlate by
    /// one half has variance 1/4, half of it (1/8) the items', half the items' within a seed.
    pub fn assumed(items: usize) -> Self {
        let part = 0.125f64;
        let seed_sd = (0.02f64.powi(2) + part / items.max(1) as f64).sqrt();
        Self { seed_sd, item_sd: part.sqrt(), item_seed_sd: part.sqrt(), items }
    }

    /// Standard error over so many seeds and items.
    pub fn se(&self, seeds: usize, items: usize) -> f64 {
        let over = |sd: f64, n: usize| if n == 0 { 0.0 } else { sd * sd / n as f64 };
        // What seeds differ by whatever the items, and their interaction with these.
        let own = (self.seed_sd.powi(2) - over(self.item_seed_sd, self.items)).max(0.0);
        let seed = if items == self.items { self.seed_sd.powi(2) } else { own + over(self.item_seed_sd, items) };
        (seed / seeds as f64 + over(self.item_sd, items)).sqrt()
    }
}

/// What a contrast is expected to show at a true distance `effect` from its condition's bound (for `> 0.05` and a true 0.1
/// it is 0.05). Its interval takes t with `seeds - 1` degrees for all of the noise, so that where items make most of it
/// the power is a little better than said. None below two seeds.
pub fn power(noise: &Noise, seeds: usize, items: usize, effect: f64) -> Option<Expected> {
    if seeds < 2 {
        return None;
    }
    let (se, df) = (noise.se(seeds, items), (seeds - 1) as f64);
    let t = t_quantile(0.5 + LEVEL / 2.0, df);
    let found = |effect: f64| {
        if se > 0.0 { noncentral_t_above(t, df, effect / se) } else { f64::from(u8::from(effect > 0.0)) }
    };
    let (mut low, mut high) = (0.0, 1.0);
    while found(high * se) < 0.8 && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..40 {
        let mid = 0.5 * (low + high);
        if found(mid * se) < 0.8 { low = mid } else { high = mid }
    }
    Some(Expected { seeds, items, se, half_width: t * se, power: found(effect), detectable: high * se })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_the_t_tests() {
        // R: power.t.test(n = 20, delta = 1, sd = 1, type = "one.sample") has power 0.9888609 (19 degrees).
        let noise = Noise { seed_sd: 1.0, item_sd: 0.0, item_seed_sd: 0.0, items: 100 };
        let e = power(&noise, 20, 100, 1.0).unwrap();
        assert!((e.power - 0.98861).abs() < 1e-4, "{e:?}");
        let at = power(&noise, 20, 100, e.detectable).unwrap();
        assert!((at.power - 0.8).abs() < 1e-6 && power(&noise, 1, 100, 1.0).is_none());
    }

    #[test]
    fn more_items_help_only_against_items() {
        let noise = Noise { seed_sd: 0.05, item_sd: 0.4, item_seed_sd: 0.3, items: 100 };
        let se = |seeds, items| noise.se(seeds, items);
        assert!((se(5, 100) - (0.0025f64 / 5.0 + 0.0016).sqrt()).abs() < 1e-15);
        // Of 0.0025, 0.0009 are the interaction: 400 items leave a quarter of it.
        assert!((se(5, 400) - ((0.0016f64 + 0.000225) / 5.0 + 0.0004).sqrt()).abs() < 1e-15);
        assert!(se(1_000_000, 100) > 0.0399 && se(5, 1_000_000) > 0.0178);
        let assumed = Noise::assumed(200);
        assert!((assumed.se(5, 200) - ((0.0004 + 0.125 / 200.0) / 5.0 + 0.125 / 200.0f64).sqrt()).abs() < 1e-12);
    }
}
