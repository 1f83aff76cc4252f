//! The self-evolving curriculum (Chen 2025, arXiv 2505.14970): a bandit over categories that earns absolute advantages.
//!
//! Each arm c has a value Q(c), 0 at first. A step draws its prompts' arms independently from probabilities made of Q, and
//! takes from each arm the next prompts of its list. After the updates, `Q(c) += rate (r(c) - Q(c))`, where r(c) is the mean
//! over the arm's samples of the mean over their tokens of |advantage|: under GRPO with 0/1 rewards `2 sqrt(p (1 - p))` at a
//! rate of success p, most where the policy is right half of the time. An arm that was not drawn earns 0 and decays, as in the
//! official code, or stays.

use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Arms, At, Curriculum, CurriculumSpec, Feedback};
use crate::query::Query;

/// How arms are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// `softmax(Q / temperature)`.
    #[default]
    Boltzmann,
    /// In proportion to Q, at least 0.01.
    Normalized,
    /// The best arm, but any with probability `epsilon`.
    Greedy,
}

/// What an arm earns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Its |advantages|, as the estimator scales them.
    #[default]
    Advantage,
    /// |reward - the group's mean|, whatever the estimator.
    Spread,
    /// Its mean reward, less that when it was drawn last (0 the first time).
    Progress,
}

/// What becomes of Q of an arm that was not drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// It earned 0.
    #[default]
    Decay,
    Keep,
}

/// Settings of the bandit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sec {
    /// Columns that say which category a prompt is of.
    pub by: Vec<String>,
    pub rate: f64,
    pub temperature: f64,
    pub choice: Choice,
    pub epsilon: f64,
    pub signal: Signal,
    pub absent: Absent,
    /// A group of equal rewards earns 0, whatever advantage the estimator gives it, and also where dynamic sampling left it
    /// out; else groups that were left out do not count.
    pub count_even: bool,
    /// A control: categories are dealt out anew among the prompts.
    pub shuffle_labels: bool,
}

impl Default for Sec {
    /// Rate and temperature of the paper's Countdown runs.
    fn default() -> Self {
        Self {
            by: vec![],
            rate: 0.5,
            temperature: 1.0,
            choice: Choice::Boltzmann,
            epsilon: 0.1,
            signal: Signal::Advantage,
            absent: Absent::Decay,
            count_even: true,
            shuffle_labels: false,
        }
    }
}

impl Sec {
    pub(super) const KEYS: [&str; 9] =
        ["by", "rate", "temperature", "choice", "epsilon", "signal", "absent", "count_even", "shuffle_labels"];

    pub(super) fn read(q: &Query) -> Result<Self> {
        let d = Self::default();
        let choices =
            [("boltzmann", Choice::Boltzmann), ("normalized", Choice::Normalized), ("greedy", Choice::Greedy)];
        let signals = [("advantage", Signal::Advantage), ("spread", Signal::Spread), ("progress", Signal::Progress)];
        Ok(Self {
            by: q.list("by"),
            rate: q.number("rate", d.rate)?,
            temperature: q.number("temperature", d.temperature)?,
            choice: q.one("choice", d.choice, &choices)?,
            epsilon: q.number("epsilon", d.epsilon)?,
            signal: q.one("signal", d.signal, &signals)?,
            absent: q.one("absent", d.absent, &[("decay", Absent::Decay), ("keep", Absent::Keep)])?,
            count_even: q.flag("count_even", d.count_even)?,
            shuffle_labels: q.flag("shuffle_labels", d.shuffle_labels)?,
        })
    }

    pub(super) fn check(&self) -> Result<()> {
        let bad = |what: &str| Err(Error::usage(format!("the curriculum `sec`: {what}")));
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            return bad("the rate must be above 0 and at most 1");
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return bad("the temperature must be above 0");
        }
        if !(0.0..=1.0).contains(&self.epsilon) {
            return bad("epsilon must be from 0 to 1");
        }
        Ok(())
    }

    /// Probabilities of arms with these values.
    pub fn probabilities(&self, q: &[f64]) -> Vec<f64> {
        let n = q.len() as f64;
        let best = q.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = match self.choice {
            Choice::Boltzmann => q.iter().map(|q| ((q - best) / self.temperature).exp()).collect(),
            Choice::Normalized => q.iter().map(|q| q.max(0.01)).collect(),
            Choice::Greedy => {
                let ties = q.iter().filter(|q| **q == best).count() as f64;
                let own = |q: &f64| if *q == best { (1.0 - self.epsilon) / ties } else { 0.0 };
                q.iter().map(|q| own(q) + self.epsilon / n).collect()
            }
        };
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    }
}

/// [`Sec`] over some prompts.
pub struct Bandit {
    spec: Sec,
    arms: Arms,
    q: Vec<f64>,
    /// Mean reward of each arm when it was drawn last.
    last: Vec<f64>,
    stream: Stream,
}

impl Bandit {
    pub fn new(spec: Sec, arms: Arms, seed: u64) -> Self {
        let n = arms.names().len();
        let stream = Stream::new(seed, &["data", "arms"]);
        Self { spec, arms, q: vec![0.0; n], last: vec![0.0; n], stream }
    }

    pub fn arms(&self) -> &Arms {
        &self.arms
    }

    pub fn values(&self) -> &[f64] {
        &self.q
    }

    pub fn probabilities(&self) -> Vec<f64> {
        self.spec.probabilities(&self.q)
    }

    /// What a group counts in its arm's mean.
    fn earned(&self, g: &Feedback) -> Option<f64> {
        match self.spec.signal {
            Signal::Advantage | Signal::Spread if g.even && self.spec.count_even => Some(0.0),
            Signal::Advantage => g.advantage,
            Signal::Spread => g.advantage.map(|_| g.spread),
            Signal::Progress => Some(g.reward),
        }
    }
}

impl Curriculum for Bandit {
    fn draw(&mut self, at: At, n: usize) -> Vec<usize> {
        let p = self.probabilities();
        // A stream for each call: what was drawn before says which.
        let mut stream = self.stream.nth(at.drawn);
        (0..n).map(|_| self.arms.next(stream.weighted(&p))).collect()
    }

    fn learn(&mut self, groups: &[Feedback]) {
        for arm in 0..self.q.len() {
            let own = groups.iter().filter(|g| self.arms.arm_of(g.prompt) == arm);
            let earned: Vec<f64> = own.filter_map(|g| self.earned(g)).collect();
            let mean = earned.iter().sum::<f64>() / earned.len() as f64;
            let r = match (earned.is_empty(), self.spec.absent, self.spec.signal) {
                (true, Absent::Keep, _) => continue,
                (true, Absent::Decay, _) => 0.0,
                (false, _, Signal::Progress) => mean - std::mem::replace(&mut self.last[arm], mean),
                (false, ..) => mean,
            };
            self.q[arm] += self.spec.rate * (r - self.q[arm]);
        }
    }

    fn figures(&self, groups: &[Feedback]) -> Vec<(String, f64)> {
        let p = self.probabilities();
        self.arms.figures(groups, |arm| vec![("q", self.q[arm]), ("p", p[arm])])
    }

    /// Floats as their bits: text may lose a last digit.
    fn state(&self) -> Value {
        let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        json!({"arms": self.arms.state(), "q": bits(&self.q), "last": bits(&self.last)})
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.arms.restore(&state["arms"])?;
        let floats = |key: &str| -> Result<Vec<f64>> {
            let list = state[key].as_array().filter(|l| l.len() == self.q.len());
            let list = list.and_then(|l| l.iter().map(|x| x.as_u64().map(f64::from_bits)).collect());
            list.ok_or_else(|| Error::work(format!("the checkpoint's curriculum lacks `{key}`")))
        };
        (self.q, self.last) = (floats("q")?, floats("last")?);
        Ok(())
    }

    fn settings(&self) -> Value {
        json!(CurriculumSpec::Sec(self.spec.clone()))
    }
}
