//! Learning-rate schedules: warm-up, then constant, linear or cosine decay.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    Constant,
    Linear,
    Cosine,
}

/// A factor on the learning rate by step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub decay: Decay,
    /// Steps of linear warm-up from 0.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
    /// Where decay ends, as a share of the peak.
    pub floor: f64,
}

impl Schedule {
    /// The factor for the update number `step` (from 0): (step + 1) / warmup while warming up, so that the first update learns
    /// too (transformers' schedulers begin at 0), then the decay over the remaining steps.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.total.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / span).min(1.0);
        let decayed = match self.decay {
            Decay::Constant => return 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.floor + (1.0 - self.floor) * decayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_decay() {
        let s = |decay| Schedule { decay, warmup: 4, total: 14, floor: 0.1 };
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            assert_eq!([0, 1, 3].map(|i| s(decay).factor(i)), [0.25, 0.5, 1.0]);
            assert_eq!(s(decay).factor(4), 1.0);
        }
        assert_eq!(s(Decay::Constant).factor(100), 1.0);
        assert!((s(Decay::Linear).factor(9) - 0.55).abs() < 1e-12);
        assert!((s(Decay::Cosine).factor(9) - 0.55).abs() < 1e-12);
        assert!((s(Decay::Cosine).factor(14) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule { warmup: 0, ..s(Decay::Linear) }.factor(0), 1.0);
    }
}
