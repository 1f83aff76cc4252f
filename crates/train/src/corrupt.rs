//! Corrupted inputs with intact targets (Masked Thought, Chen et al. 2024, arXiv 2403.02178).
//!
//! ```toml
//! corrupt = { rate = 0.4, mode = "random", warmup = 0.66 }
//! ```
//! Each input token of a completion is replaced with probability p by one drawn from the whole vocabulary, or by a mask
//! token; the loss is still that of the original tokens:
//! `- sum_t log P(y_t | q, y~_<t)`. p rises linearly from 0 to `rate` over the first `warmup` of all updates. Which places,
//! and what stands in them, is a function of the seed, the update and the example's place in it: redrawn in every pass, and the
//! same after a kill. Every place draws the same numbers whatever p is, so a higher rate corrupts a superset.
//! Left out on purpose: corrupting a fixed number of places (the same law, drawn otherwise).

use std::str::FromStr;
use std::sync::Arc;

use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Batch, Example};
use postgrad_nn::decoder::{Decoder, Mask, Pass};
use postgrad_reason::ModelFolder;
use postgrad_tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sft::flat;

/// Names under which tokenizers know a mask token, where their configuration does not say.
const MASKS: [&str; 3] = ["<mask>", "[MASK]", "<|mask|>"];

/// What stands in a corrupted place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A token drawn from the whole vocabulary, evenly.
    #[default]
    Random,
    /// The mask token.
    Mask,
}

/// Which input tokens may be corrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Those that are trained on (of non-zero loss weight).
    #[default]
    Completion,
    /// The others, special tokens left out: they frame the conversation.
    Prompt,
    Both,
}

impl Side {
    fn takes(self, weight: f32) -> bool {
        match self {
            Self::Completion => weight != 0.0,
            Self::Prompt => weight == 0.0,
            Self::Both => true,
        }
    }
}

/// How inputs are corrupted, as a recipe says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corrupt {
    /// The highest probability of a place to be corrupted.
    pub rate: f64,
    #[serde(default)]
    pub mode: Mode,
    /// With `mode = "mask"`: the share of corrupted places that get a random token all the same.
    #[serde(default)]
    pub replace: f64,
    #[serde(rename = "where", default)]
    pub side: Side,
    /// The share of all updates over which the probability rises from 0.
    #[serde(default = "warmup")]
    pub warmup: f64,
    /// The share of all updates before anything is corrupted.
    #[serde(default)]
    pub start: f64,
    /// Each update's probability is drawn from U(0, p).
    #[serde(default)]
    pub per_batch: bool,
    /// No other place attends to a corrupted one.
    #[serde(default)]
    pub drop: bool,
    /// Targets are corrupted with their inputs: a control, it must do harm.
    #[serde(default)]
    pub targets: bool,
    /// Default: the tokenizer's mask token; a model without one gets a new token.
    #[serde(default)]
    pub mask_token: Option<String>,
}

fn warmup() -> f64 {
    0.66
}

impl Corrupt {
    /// Random tokens in the completion, everything else by default.
    pub fn random(rate: f64) -> Self {
        Self {
            rate,
            mode: Mode::Random,
            replace: 0.0,
            side: Side::Completion,
            warmup: warmup(),
            start: 0.0,
            per_batch: false,
            drop: false,
            targets: false,
            mask_token: None,
        }
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let shares = [("rate", self.rate), ("replace", self.replace), ("warmup", self.warmup), ("start", self.start)];
        if let Some((name, value)) = shares.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(Error::usage(format!("corrupt.{name} is {value}, and must be between 0 and 1")));
        }
        if self.start + self.warmup > 1.0 + 1e-9 {
            return Err(Error::usage("corrupt.start and corrupt.warmup together are more than all updates"));
        }
        if self.mode == Mode::Random && (self.replace != 0.0 || self.mask_token.is_some()) {
            return Err(Error::usage("corrupt.replace and corrupt.mask_token go with mode = \"mask\""));
        }
        if self.mode == Mode::Mask && self.targets {
            return Err(Error::usage("a mask token is never a target").help("corrupt targets with mode = \"random\""));
        }
        Ok(())
    }

    /// The probability of a place to be corrupted at update `step` (from 0) of `total`.
    pub fn rate_at(&self, step: u64, total: u64) -> f64 {
        let (begun, total) = (step as f64 - self.start * total as f64, total as f64);
        if begun < 0.0 {
            return 0.0;
        }
        let ramp = self.warmup * total;
        if ramp > 0.0 { self.rate * (begun / ramp).min(1.0) } else { self.rate }
    }

    /// Looks up what this needs of a model. A mask token that the tokenizer lacks is added to the model if `may_grow`.
    pub fn prepare(&self, model: &mut ModelFolder, may_grow: bool) -> Result<Corruption> {
        self.check()?;
        let tokenizer = model.renderer.tokenizer().clone();
        let mask = match (self.mode, self.mask()) {
            (Mode::Random, _) => None,
            (Mode::Mask, Some(name)) => Some((tokenizer.id_of(name), name)),
            (Mode::Mask, None) => {
                let known = tokenizer.mask().or_else(|| MASKS.iter().find_map(|m| tokenizer.id_of(m)));
                Some((known, MASKS[0]))
            }
        };
        let vocab = tokenizer.vocab_size();
        let mask = match mask {
            None => None,
            Some((Some(id), _)) => Some(id),
            Some((None, name)) if may_grow => Some(model.add_token(name)?),
            Some((None, name)) => {
                return Err(Error::usage(format!(
                    "the tokenizer has no token `{name}`, and an adapter cannot bring one"
                ))
                .help("name an unused special token as mask_token, use mode = random, or tune all weights"));
            }
        };
        let frame = tokenizer.special_ids().collect();
        Ok(Corruption { spec: self.clone(), vocab, mask, frame })
    }

    fn mask(&self) -> Option<&str> {
        self.mask_token.as_deref()
    }
}

/// `rate=0.4,mode=mask,warmup=0.66`: the keys of a recipe's `corrupt`.
impl FromStr for Corrupt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let example = "for example rate=0.4,mode=random,warmup=0.66";
        let mut keys = Map::new();
        for pair in text.split(',').filter(|p| !p.trim().is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::usage(format!("`{pair}` is not of the form KEY=VALUE")).help(example))?;
            let (key, value) = (key.trim(), value.trim());
            let value = match key {
                "mode" | "where" | "mask_token" => Value::from(value),
                _ => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
            };
            keys.insert(key.to_string(), value);
        }
        let read: Self = serde_json::from_value(Value::Object(keys))
            .map_err(|e| Error::usage(format!("`{text}` does not say how to corrupt: {e}")).help(example))?;
        read.check()?;
        Ok(read)
    }
}

/// A [`Corrupt`] with what it needs of the model at hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corruption {
    pub spec: Corrupt,
    /// Random tokens are drawn below it.
    pub vocab: usize,
    pub mask: Option<u32>,
    /// Tokens of prompts that stay: the template's.
    #[serde(skip)]
    pub frame: Vec<u32>,
}

/// A corrupted place of an example, and the token that stands there.
pub type Spot = (usize, u32);

impl Corruption {
    /// What is corrupted at this update: one list an example, places ascending.
    pub fn draw(&self, examples: &[Example], seed: u64, step: u64, total: u64) -> Result<Vec<Vec<Spot>>> {
        let update = Stream::new(seed, &["tune", "corrupt"]).nth(step);
        let mut rate = self.spec.rate_at(step, total);
        if self.spec.per_batch {
            rate *= update.child("rate").f64();
        }
        examples.iter().enumerate().map(|(i, e)| self.places(e, update.nth(i as u64), rate)).collect()
    }

    fn places(&self, example: &Example, mut stream: Stream, rate: f64) -> Result<Vec<Spot>> {
        let target = |(token, weight): (&u32, &f32)| Some(*token) == self.mask && *weight != 0.0;
        if example.tokens.iter().zip(&example.weights).any(target) {
            return Err(Error::usage("the mask token stands in the data, and it is never a target")
                .at(&example.place)
                .help("name another mask_token"));
        }
        let mut spots = Vec::new();
        for (i, (token, weight)) in example.tokens.iter().zip(&example.weights).enumerate() {
            if !self.spec.side.takes(*weight) || (*weight == 0.0 && self.frame.contains(token)) {
                continue;
            }
            let (hit, kind, random) = (stream.f64(), stream.f64(), stream.below(self.vocab) as u32);
            if hit < rate {
                let mask = self.mask.filter(|_| kind >= self.spec.replace);
                spots.push((i, mask.unwrap_or(random)));
            }
        }
        Ok(spots)
    }

    /// Examples end to end, with their corrupted places. Targets are the originals, unless the control is asked for.
    pub(crate) fn batch(&self, examples: &[&Example], spots: &[Vec<Spot>]) -> Result<Batch> {
        replaced(examples, spots, self.spec.targets)
    }

    /// With `drop`: hides corrupted places from all others. They still see themselves, so that no row is empty.
    pub(crate) fn hide(&self, pass: &mut Pass, examples: &[&Example], spots: &[Vec<Spot>], decoder: &Decoder) {
        if !self.spec.drop || spots.iter().all(Vec::is_empty) {
            return;
        }
        let sequences = examples.iter().zip(spots).filter(|(e, _)| !e.is_empty());
        let hidden: Vec<(usize, Vec<usize>)> =
            sequences.map(|(e, spots)| (e.len(), spots.iter().map(|(i, _)| *i).collect())).collect();
        let windows: Vec<Option<usize>> =
            decoder.slots.iter().map(|s| decoder.config.sliding_window[s.layer]).collect();
        pass.mask = Mask::Custom(Arc::new(move |slot, run| {
            let (len, hidden) = &hidden[run];
            visible(*len, hidden, windows[slot])
        }));
    }
}

/// Examples end to end with other tokens in some places of the input, and of the targets if asked.
pub(crate) fn replaced(examples: &[&Example], spots: &[Vec<Spot>], targets: bool) -> Result<Batch> {
    let mut batch = flat(examples)?;
    let mut at = 0;
    for (example, spots) in examples.iter().zip(spots) {
        for &(i, token) in spots {
            batch.tokens[at + i] = token;
            if targets && i > 0 {
                batch.targets[at + i - 1] = token;
            }
        }
        at += example.len();
    }
    Ok(batch)
}

/// An additive causal mask `[1, 1, len, len]` without the hidden keys.
fn visible(len: usize, hidden: &[usize], window: Option<usize>) -> Tensor {
    let mut mask = vec![f32::NEG_INFINITY; len * len];
    for i in 0..len {
        let row = &mut mask[i * len..(i + 1) * len];
        row[window.map_or(0, |w| (i + 1).saturating_sub(w))..=i].fill(0.0);
        hidden.iter().filter(|j| **j != i).for_each(|j| row[*j] = f32::NEG_INFINITY);
    }
    Tensor::new(mask, &[1, 1, len, len])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(prompt: usize, completion: usize) -> Example {
        let mut e = Example::new((0..prompt + completion).map(|i| 10 + i as u32).collect());
        e.weights[..prompt].fill(0.0);
        e
    }

    fn corruption(spec: Corrupt) -> Corruption {
        let mask = (spec.mode == Mode::Mask).then_some(3);
        Corruption { spec, vocab: 100, mask, frame: vec![11] }
    }

    fn flat_out(c: &Corruption, spots: &[Vec<Spot>], examples: &[Example]) -> Batch {
        c.batch(&examples.iter().collect::<Vec<_>>(), spots).unwrap()
    }

    #[test]
    fn the_rate_rises_and_stays() {
        let p = Corrupt::random(0.4);
        let at = |share: f64| p.rate_at((share * 1000.0) as u64, 1000);
        assert_eq!((at(0.0), at(0.66), at(1.0)), (0.0, 0.4, 0.4));
        assert!((at(0.33) - 0.2).abs() < 1e-12);
        let at_once = Corrupt { warmup: 0.0, ..p.clone() };
        assert_eq!((at_once.rate_at(0, 9), at_once.rate_at(9, 9)), (0.4, 0.4));
        let late = Corrupt { start: 0.5, warmup: 0.5, ..p };
        let at = |step| late.rate_at(step, 100);
        assert_eq!((at(0), at(49), at(50), at(75), at(100)), (0.0, 0.0, 0.0, 0.2, 0.4));
    }

    #[test]
    fn inputs_of_the_completion_change_and_targets_stay() {
        let examples: Vec<Example> = (0..6).map(|i| example(3 + i, 20 + i)).collect();
        let plain = flat(&examples.iter().collect::<Vec<_>>()).unwrap();
        for rate in [0.0, 0.2, 0.8, 1.0] {
            for mode in [Mode::Random, Mode::Mask] {
                let c = corruption(Corrupt { mode, warmup: 0.0, ..Corrupt::random(rate) });
                let spots = c.draw(&examples, 5, 3, 10).unwrap();
                for (e, (spots, prompt)) in examples.iter().zip(spots.iter().zip(3..)) {
                    assert!(spots.iter().all(|(i, _)| (prompt..e.len()).contains(i)), "{spots:?}");
                }
                let batch = flat_out(&c, &spots, &examples);
                assert_eq!(batch == plain, rate == 0.0);
                assert_eq!(Batch { tokens: plain.tokens.clone(), ..batch.clone() }, plain, "all else is as it was");
                let masks = batch.tokens.iter().filter(|t| **t == 3).count();
                if mode == Mode::Mask {
                    assert_eq!(masks, spots.iter().map(Vec::len).sum::<usize>());
                    assert!(!batch.targets.contains(&3));
                }
            }
        }
    }

    #[test]
    fn places_are_drawn_at_the_rate_of_their_update() {
        // 8000 places; 4.4 standard deviations are one in 100000.
        let examples: Vec<Example> = (0..80).map(|_| example(5, 100)).collect();
        for (rate, step) in [(0.4, 0), (0.4, 33), (0.4, 66), (0.4, 100), (0.2, 50), (1.0, 90)] {
            let c = corruption(Corrupt::random(rate));
            let p = c.spec.rate_at(step, 100);
            let spots = c.draw(&examples, 1, step, 100).unwrap();
            let n: usize = spots.iter().map(Vec::len).sum();
            let spread = (8000.0 * p * (1.0 - p)).sqrt();
            assert!((n as f64 - 8000.0 * p).abs() <= 4.4 * spread, "{n} of 8000 at {p}");
        }
        let mixed = corruption(Corrupt { mode: Mode::Mask, replace: 0.25, warmup: 0.0, ..Corrupt::random(1.0) });
        let spots = mixed.draw(&examples, 1, 0, 1).unwrap().concat();
        let random = spots.iter().filter(|(_, t)| *t != 3).count() as f64;
        let p = 0.25 * 0.99;
        assert!((random - 8000.0 * p).abs() <= 4.4 * (8000.0 * p * (1.0 - p)).sqrt(), "{random}");
        assert!(spots.iter().all(|(_, t)| *t < 100));
    }

    #[test]
    fn a_draw_belongs_to_its_seed_update_and_place() {
        let examples: Vec<Example> = (0..4).map(|_| example(4, 30)).collect();
        let c = corruption(Corrupt { warmup: 0.0, ..Corrupt::random(0.5) });
        let at = |seed, step| c.draw(&examples, seed, step, 100).unwrap();
        assert_eq!(at(1, 7), at(1, 7));
        assert_ne!(at(1, 7), at(2, 7));
        assert_ne!(at(1, 7), at(1, 8), "redrawn when the example comes again");
        assert_ne!(at(1, 7)[0], at(1, 7)[1]);
        // Whatever stands beside it.
        assert_eq!(c.draw(&examples[..2], 1, 7, 100).unwrap(), at(1, 7)[..2]);
        let more = corruption(Corrupt { warmup: 0.0, ..Corrupt::random(0.7) });
        let (few, many) = (at(1, 7).concat(), more.draw(&examples, 1, 7, 100).unwrap().concat());
        assert!(few.iter().all(|s| many.contains(s)) && many.len() > few.len());
        let each = corruption(Corrupt { warmup: 0.0, per_batch: true, ..Corrupt::random(1.0) });
        let counts: Vec<usize> =
            (0..50).map(|s| each.draw(&examples, 1, s, 50).unwrap().iter().map(Vec::len).sum()).collect();
        assert!(counts.iter().any(|n| *n < 30) && counts.iter().any(|n| *n > 90), "{counts:?}");
    }

    #[test]
    fn prompts_and_targets_are_corrupted_only_where_asked() {
        let examples = [example(6, 8)];
        let with = |side| corruption(Corrupt { warmup: 0.0, side, ..Corrupt::random(1.0) });
        let places = |c: &Corruption| c.draw(&examples, 0, 0, 1).unwrap()[0].iter().map(|s| s.0).collect::<Vec<_>>();
        // Token 11 frames the prompt.
        assert_eq!(places(&with(Side::Prompt)), [0, 2, 3, 4, 5]);
        assert_eq!(places(&with(Side::Completion)), (6..14).collect::<Vec<_>>());
        assert_eq!(places(&with(Side::Both)).len(), 13);
        let mut control = with(Side::Completion);
        control.spec.targets = true;
        let spots = control.draw(&examples, 0, 0, 1).unwrap();
        let batch = flat_out(&control, &spots, &examples);
        assert_eq!(batch.targets[5..13], batch.tokens[6..14]);
        assert_ne!(batch.targets[5..13], examples[0].tokens[6..14]);
    }

    #[test]
    fn hidden_places_are_seen_by_none_but_themselves() {
        let m = visible(4, &[1], None);
        let seen: Vec<bool> = m.data().iter().map(|x| *x == 0.0).collect();
        let (y, n) = (true, false);
        assert_eq!(seen, [y, n, n, n, y, y, n, n, y, n, y, n, y, n, y, y]);
        let windowed = visible(3, &[], Some(2));
        assert_eq!(windowed.data()[6..], [f32::NEG_INFINITY, 0.0, 0.0]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let c: Corrupt = "rate=0.2, mode=mask,mask_token=<|spare_0|>,where=both,per_batch=true".parse().unwrap();
        assert_eq!((c.rate, c.mode, c.side, c.per_batch, c.warmup), (0.2, Mode::Mask, Side::Both, true, 0.66));
        assert_eq!(c.mask_token.as_deref(), Some("<|spare_0|>"));
        for bad in [
            "",
            "rate",
            "rate=2",
            "rate=x",
            "mode=mask",
            "rate=0.1,mode=blank",
            "rate=0.1,colour=red",
            "rate=0.1,start=0.9",
            "rate=0.1,replace=0.5",
            "rate=0.1,mode=mask,targets=true",
        ] {
            assert_eq!(bad.parse::<Corrupt>().unwrap_err().exit_code(), 2, "{bad}");
        }
        let c = corruption(Corrupt { mode: Mode::Mask, ..Corrupt::random(0.1) });
        let e = Example::new(vec![5, 3]);
        assert!(c.draw(&[e], 0, 0, 1).unwrap_err().to_string().contains("never a target"));
    }
}
