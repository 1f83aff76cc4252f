//! From logits to a token: penalties, bias, temperature, top-k, top-p, min-p, and the draw.
//!
//! The order is transformers': penalties and bias on the raw logits, then temperature, then top-k, top-p and min-p, each on
//! what the one before left. With temperature 0 the highest penalised logit wins (the lowest id among equals).

use std::collections::BTreeMap;

use postgrad_base::Stream;
use serde::{Deserialize, Serialize};

/// How a token is drawn. The default draws from the model as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 is off.
    pub top_k: usize,
    /// The smallest set of tokens whose probability reaches this; 1 is off.
    pub top_p: f32,
    /// Tokens below this share of the most probable one's probability are left out; 0 is off.
    pub min_p: f32,
    /// Keskar et al. 2019: logits of tokens seen (prompt too) are divided by it if positive, else multiplied; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each token in the completion.
    pub presence_penalty: f32,
    /// Subtracted for each time a token is in the completion.
    pub frequency_penalty: f32,
    /// Added to logits by token.
    pub bias: BTreeMap<u32, f32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            bias: BTreeMap::new(),
        }
    }
}

impl Rules {
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// What is out of range, if anything.
    pub fn fault(&self) -> Option<String> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Some(format!("temperature is {}, and must be 0 or more", self.temperature));
        }
        if !(positive(self.top_p) && self.top_p <= 1.0) {
            return Some(format!("top-p is {}, and must be above 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Some(format!("min-p is {}, and must be between 0 and 1", self.min_p));
        }
        if !positive(self.repetition_penalty) {
            return Some(format!("the repetition penalty is {}, and must be above 0", self.repetition_penalty));
        }
        None
    }
}

/// A drawn token with what was recorded about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    pub token: u32,
    /// Log-prob under the distribution it was drawn from.
    pub behaviour: f32,
    /// Log-prob under the model at temperature 1.
    pub model: f32,
    /// Entropy of the model's distribution, nats.
    pub entropy: f32,
}

/// Draws a token. `seen` is the prompt (its first `prompt_len` tokens) and the completion so far; `banned` tokens cannot be
/// drawn. `logits` is used up.
pub fn pick(
    logits: &mut [f32],
    rules: &Rules,
    seen: &[u32],
    prompt_len: usize,
    banned: &[u32],
    stream: &mut Stream,
) -> Drawn {
    let (max, log_sum, entropy) = log_sum_and_entropy(logits);
    let own = |z: f32| z - max - log_sum;
    let raw: Vec<f32>;
    let raw = if changes(rules, banned) {
        raw = logits.to_vec();
        penalise(logits, rules, seen, prompt_len, banned);
        &raw[..]
    } else {
        raw = Vec::new();
        &raw[..]
    };
    let original = |token: usize, logits: &[f32]| if raw.is_empty() { logits[token] } else { raw[token] };

    if rules.temperature == 0.0 {
        let mut best = 0;
        for (i, z) in logits.iter().enumerate() {
            if *z > logits[best] || logits[best].is_nan() {
                best = i;
            }
        }
        let model = own(original(best, logits));
        return Drawn { token: best as u32, behaviour: 0.0, model, entropy };
    }
    let t = 1.0 / rules.temperature;
    let u = stream.f64();
    let filtered = rules.top_k > 0 && rules.top_k < logits.len() || rules.top_p < 1.0 || rules.min_p > 0.0;
    if !filtered {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits.iter().map(|z| (((z - top) * t) as f64).exp()).sum();
        let mut left = u * total;
        let mut token = logits.len() - 1;
        for (i, z) in logits.iter().enumerate() {
            left -= (((z - top) * t) as f64).exp();
            if left < 0.0 {
                token = i;
                break;
            }
        }
        while logits[token] == f32::NEG_INFINITY && token > 0 {
            token -= 1;
        }
        let behaviour = ((logits[token] - top) * t) as f64 - total.ln();
        let model = own(original(token, logits));
        return Drawn { token: token as u32, behaviour: behaviour as f32, model, entropy };
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if rules.top_k > 0 && rules.top_k < order.len() {
        order.select_nth_unstable_by(rules.top_k - 1, by_logit);
        order.truncate(rules.top_k);
    }
    order.sort_unstable_by(by_logit);
    let top = logits[order[0] as usize];
    let mut weights: Vec<f64> = order.iter().map(|i| (((logits[*i as usize] - top) * t) as f64).exp()).collect();
    if rules.top_p < 1.0 {
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let keep = weights.iter().position(|w| {
            sum += w;
            sum >= rules.top_p as f64 * total
        });
        weights.truncate(keep.map_or(weights.len(), |k| k + 1));
    }
    if rules.min_p > 0.0 {
        let keep = weights.iter().take_while(|w| **w >= rules.min_p as f64).count().max(1);
        weights.truncate(keep);
    }
    let total: f64 = weights.iter().sum();
    let mut left = u * total;
    let mut at = weights.len() - 1;
    for (i, w) in weights.iter().enumerate() {
        left -= w;
        if left < 0.0 {
            at = i;
            break;
        }
    }
    while weights[at] == 0.0 && at > 0 {
        at -= 1;
    }
    let token = order[at];
    let behaviour = (weights[at].ln() - total.ln()) as f32;
    Drawn { token, behaviour, model: own(original(token as usize, logits)), entropy }
}

fn changes(rules: &Rules, banned: &[u32]) -> bool {
    rules.repetition_penalty != 1.0
        || rules.presence_penalty != 0.0
        || rules.frequency_penalty != 0.0
        || !rules.bias.is_empty()
        || !banned.is_empty()
}

fn penalise(logits: &mut [f32], rules: &Rules, seen: &[u32], prompt_len: usize, banned: &[u32]) {
    if rules.repetition_penalty != 1.0 {
        let mut once: Vec<u32> = seen.to_vec();
        once.sort_unstable();
        once.dedup();
        for t in once {
            if let Some(z) = logits.get_mut(t as usize) {
                *z = if *z > 0.0 { *z / rules.repetition_penalty } else { *z * rules.repetition_penalty };
            }
        }
    }
    if rules.presence_penalty != 0.0 || rules.frequency_penalty != 0.0 {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        seen[prompt_len..].iter().for_each(|t| *counts.entry(*t).or_default() += 1);
        for (t, n) in counts {
            if let Some(z) = logits.get_mut(t as usize) {
                *z -= rules.presence_penalty + rules.frequency_penalty * n as f32;
            }
        }
    }
    for (t, b) in &rules.bias {
        if let Some(z) = logits.get_mut(*t as usize) {
            *z += b;
        }
    }
    for t in banned {
        if let Some(z) = logits.get_mut(*t as usize) {
            *z = f32::NEG_INFINITY;
        }
    }
}

/// The largest logit, log of the sum of e^(z - max), and the entropy.
fn log_sum_and_entropy(logits: &[f32]) -> (f32, f32, f32) {
    let max = postgrad_tensor::simd::vectorize(
        #[inline(always)]
        || postgrad_tensor::math::max(logits),
    );
    let mut sum = 0f64;
    let mut weighted = 0f64;
    for z in logits {
        let d = z - max;
        let e = postgrad_tensor::math::exp(d) as f64;
        sum += e;
        weighted += e * d.max(-87.0) as f64;
    }
    (max, sum.ln() as f32, (sum.ln() - weighted / sum) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(logits: &[f32], rules: &Rules, n: usize) -> Vec<usize> {
        let mut s = Stream::new(1, &["pick"]);
        let mut counts = vec![0; logits.len()];
        for _ in 0..n {
            counts[pick(&mut logits.to_vec(), rules, &[], 0, &[], &mut s).token as usize] += 1;
        }
        counts
    }

    #[test]
    fn frequencies_follow_probabilities() {
        let p = [0.1f32, 0.6, 0.3];
        let logits = p.map(f32::ln);
        let counts = draw(&logits, &Rules::default(), 10_000);
        for (c, p) in counts.iter().zip(p) {
            assert!((*c as f32 / 10_000.0 - p).abs() < 0.02, "{counts:?}");
        }
        let cold = draw(&logits, &Rules { temperature: 0.5, ..Rules::default() }, 10_000);
        assert!((cold[1] as f64 / 10_000.0 - 0.36 / 0.46).abs() < 0.02, "{cold:?}");
    }

    #[test]
    fn filters_keep_what_they_should() {
        let logits = [0.5f32, 0.25, 0.15, 0.1].map(f32::ln);
        let kept = |rules: Rules| draw(&logits, &rules, 2000).iter().filter(|c| **c > 0).count();
        assert_eq!(kept(Rules { top_k: 2, ..Rules::default() }), 2);
        assert_eq!(kept(Rules { top_p: 0.74, ..Rules::default() }), 2);
        assert_eq!(kept(Rules { top_p: 0.4, ..Rules::default() }), 1);
        assert_eq!(kept(Rules { min_p: 0.25, ..Rules::default() }), 3);
        assert_eq!(kept(Rules { top_k: 3, top_p: 0.6, ..Rules::default() }), 2);
        assert_eq!(kept(Rules::greedy()), 1);
    }

    #[test]
    fn recorded_log_probs_are_those_of_the_draw_and_of_the_model() {
        let mut logits = [0.5f32, 0.25, 0.25].map(f32::ln).to_vec();
        let mut s = Stream::new(2, &["pick"]);
        let rules = Rules { top_k: 1, ..Rules::default() };
        let d = pick(&mut logits, &rules, &[], 0, &[], &mut s);
        assert_eq!(d.token, 0);
        assert!(d.behaviour.abs() < 1e-6 && (d.model - 0.5f32.ln()).abs() < 1e-6);
        assert!((d.entropy - 1.5 * 2f32.ln()).abs() < 1e-5);
    }

    #[test]
    fn penalties_bias_and_bans() {
        let mut s = Stream::new(3, &["pick"]);
        let mut greedy = |rules: Rules, seen: &[u32], banned: &[u32]| {
            pick(&mut [2.0, 1.9, -1.0], &rules, seen, 1, banned, &mut s).token
        };
        let rules = Rules::greedy();
        assert_eq!(greedy(rules.clone(), &[0, 0], &[]), 0);
        assert_eq!(greedy(rules.clone(), &[2], &[0]), 1);
        assert_eq!(greedy(Rules { repetition_penalty: 1.1, ..rules.clone() }, &[0], &[]), 1);
        assert_eq!(greedy(Rules { presence_penalty: 0.2, ..rules.clone() }, &[0], &[]), 0);
        assert_eq!(greedy(Rules { presence_penalty: 0.2, ..rules.clone() }, &[1, 0], &[]), 1);
        assert_eq!(greedy(Rules { frequency_penalty: 0.06, ..rules.clone() }, &[1, 0, 0], &[]), 1);
        assert_eq!(greedy(Rules { bias: [(2, 10.0)].into(), ..rules }, &[0], &[]), 2);
    }
}
