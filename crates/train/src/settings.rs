//! Settings of a supervised fine-tune, with their defaults and where these come from.

use postgrad_base::{Error, Result};
use postgrad_nn::optim::Kind;
use postgrad_nn::schedule::{Decay, Schedule};
use serde::{Deserialize, Serialize};

use crate::corrupt::Corruption;

/// What the summed loss of an update is divided by. Computed over the whole update, accumulation included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalizer {
    /// Trained tokens (those of non-zero weight): every token counts the same.
    #[default]
    Tokens,
    /// Examples; an example's loss is its sum over tokens.
    Examples,
    /// The sum of all loss weights.
    Weights,
    /// A fixed number.
    Constant(f64),
}

/// When checkpoints are written, besides the last one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoints {
    #[default]
    LastOnly,
    Every(u64),
    /// About this many, at log-spaced steps.
    Log(u64),
    At(Vec<u64>),
}

impl Checkpoints {
    pub fn due(&self, step: u64, total: u64) -> bool {
        match self {
            Self::LastOnly => false,
            Self::Every(n) => step.is_multiple_of((*n).max(1)),
            Self::Log(n) => {
                let n = (*n).max(2) - 1;
                let spaced = |i: u64| (total.max(1) as f64).powf(i as f64 / n as f64).round() as u64;
                (0..=n).any(|i| spaced(i) == step)
            }
            Self::At(steps) => steps.contains(&step),
        }
    }

    /// `200`, `every:200`, `log:8` or `at:10,100,1000`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("`{text}` is no checkpoint schedule"))
                .help("for example: 200, every:200, log:8, at:10,100,1000")
        };
        let number = |s: &str| s.trim().parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        match text.split_once(':') {
            None if text == "last" => Ok(Self::LastOnly),
            None => Ok(Self::Every(number(text)?)),
            Some(("every", n)) => Ok(Self::Every(number(n)?)),
            Some(("log", n)) => Ok(Self::Log(number(n)?)),
            Some(("at", list)) => Ok(Self::At(list.split(',').map(number).collect::<Result<_>>()?)),
            Some(_) => Err(wrong()),
        }
    }
}

/// A supervised fine-tune. `Default` is [`Settings::lora`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub seed: u64,
    /// Passes over the data; `steps`, if given, counts instead.
    pub epochs: f64,
    pub steps: Option<u64>,
    /// Sequences an update.
    pub batch: usize,
    /// Tokens of one forward pass: an update of more is cut into several.
    pub micro_tokens: usize,
    pub max_len: usize,
    pub lr: f64,
    /// Share of all steps.
    pub warmup: f64,
    pub decay: Decay,
    /// Where decay ends, as a share of the peak.
    pub floor: f64,
    pub weight_decay: f32,
    pub optimizer: Kind,
    /// L2 norm that gradients are clipped to.
    pub clip: Option<f64>,
    pub normalizer: Normalizer,
    /// Corruption of inputs; evaluation never sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<Corruption>,
    /// Updates between evaluations; there is always one before the first and after the last.
    pub eval_every: Option<u64>,
    pub checkpoints: Checkpoints,
    /// Checkpoints kept, besides the best and the last (0: all).
    pub keep: usize,
    /// The metric that chooses the best checkpoint: `SET.loss` (lower is better) or `SET.accuracy`.
    pub best: Option<String>,
    /// Evaluations without a better metric before stopping.
    pub patience: Option<u64>,
    /// Compute each block again on the way back instead of keeping its activations.
    pub checkpointing: bool,
    /// Wall-time budget in seconds: the run ends with a checkpoint when it is spent.
    pub budget: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self::lora()
    }
}

impl Settings {
    pub fn lora() -> Self {
        Self {
            seed: 0,
            epochs: 1.0,
            steps: None,
            batch: 16,
            micro_tokens: 4096,
            max_len: 1024,
            lr: 2e-4,
            warmup: 0.03,
            decay: Decay::Cosine,
            floor: 0.0,
            weight_decay: 0.0,
            optimizer: Kind::default(),
            clip: Some(1.0),
            normalizer: Normalizer::Tokens,
            corrupt: None,
            eval_every: None,
            checkpoints: Checkpoints::LastOnly,
            keep: 0,
            best: None,
            patience: None,
            checkpointing: false,
            budget: None,
        }
    }

    pub fn full() -> Self {
        Self { lr: 1e-5, ..Self::lora() }
    }

    /// Name, value and source of the defaults that matter most, to be printed before a run.
    pub fn sources(lora: bool) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut rows = vec![
            ("sequences per update", "16", "QLoRA (Dettmers et al. 2023), table 9"),
            ("warm-up", "3% of steps", "Alpaca (Taori et al. 2023), QLoRA"),
            ("decay", "cosine to 0", "Alpaca (Taori et al. 2023)"),
            ("gradient clipping", "1.0", "transformers' max_grad_norm"),
            ("weight decay", "0", "Alpaca (Taori et al. 2023)"),
        ];
        if lora {
            rows.insert(0, ("learning rate", "2e-4", "QLoRA (Dettmers et al. 2023), 7B-13B"));
            rows.insert(
                0,
                (
                    "LoRA rank, alpha",
                    "16, 32, all linear projections",
                    "PEFT's examples; alpha = 2 r; QLoRA for the places",
                ),
            );
        } else {
            rows.insert(0, ("learning rate", "1e-5", "full tuning of 1B-8B models, e.g. s1 (Muennighoff et al. 2025)"));
        }
        rows
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::usage(what));
        if self.steps.is_none() && !(self.epochs.is_finite() && self.epochs > 0.0) {
            return bad(format!("epochs is {}, and must be above 0", self.epochs));
        }
        if self.steps == Some(0) {
            return bad("0 steps train nothing".into());
        }
        if self.batch == 0 {
            return bad("a batch of 0 sequences".into());
        }
        if self.max_len < 2 {
            return bad(format!("a maximal length of {} tokens leaves nothing to predict", self.max_len));
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return bad(format!("the learning rate is {}, and must be above 0", self.lr));
        }
        if !(0.0..1.0).contains(&self.warmup) {
            return bad(format!("the warm-up is {} of all steps, and must be at least 0 and below 1", self.warmup));
        }
        if !(0.0..=1.0).contains(&self.floor) {
            return bad(format!("the decay's floor is {}, and must be between 0 and 1", self.floor));
        }
        if self.clip.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return bad("the clipping norm must be above 0 (leave it out to switch clipping off)".into());
        }
        if matches!(self.normalizer, Normalizer::Constant(c) if !(c.is_finite() && c > 0.0)) {
            return bad("a constant normaliser must be above 0".into());
        }
        if self.patience.is_some() && self.eval_every.is_none() {
            return bad("patience counts evaluations: give --eval-every too".into());
        }
        Ok(())
    }

    pub fn schedule(&self, total: u64) -> Schedule {
        let warmup = (self.warmup * total as f64).ceil() as u64;
        Schedule { decay: self.decay, warmup, total, floor: self.floor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_schedules() {
        let due = |text: &str, total| {
            let c = Checkpoints::parse(text).unwrap();
            (1..=total).filter(|s| c.due(*s, total)).collect::<Vec<_>>()
        };
        assert_eq!(due("3", 10), [3, 6, 9]);
        assert_eq!(due("log:4", 1000), [1, 10, 100, 1000]);
        assert_eq!(due("at:2,5", 10), [2, 5]);
        assert!(due("last", 10).is_empty());
        for wrong in ["", "0", "log:x", "sometimes:3", "at:"] {
            assert_eq!(Checkpoints::parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        assert!(Settings::lora().check().is_ok());
        for bad in [
            Settings { lr: 0.0, ..Settings::lora() },
            Settings { batch: 0, ..Settings::lora() },
            Settings { epochs: f64::NAN, ..Settings::lora() },
            Settings { clip: Some(0.0), ..Settings::lora() },
            Settings { patience: Some(1), ..Settings::lora() },
            Settings { warmup: 1.0, ..Settings::lora() },
        ] {
            assert_eq!(bad.check().unwrap_err().exit_code(), 2);
        }
    }
}
