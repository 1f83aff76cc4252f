//! Rewards: a list of named functions with weights, each called on all samples of a rollout in prompt-then-sample order.
//!
//! A reward is written `NAME[?key=value&...][:weight]`: `correct`, `cosine?max=256:0.5`, `exec:python3 score.py:2`, `model:DIR`. A function may
//! leave a sample out (no reference to compare with, a program that says null); then it adds nothing to that sample's sum.
//!
//! A function rewards a sample at its last token, at every token (`repeat`), or both, and may have a discount of its own
//! (`correct?gamma=1`). A sample's reward is the sum of it all; returns see each token's, each function with its discount.

pub mod command;
pub mod model;
pub mod named;

use std::collections::BTreeMap;
use std::time::Duration;

use postgrad_base::{Error, Result};
use serde_json::{Value, json};

use crate::prompts::Prompt;

/// One completion to be rewarded.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub prompt: &'a Prompt,
    pub completion: &'a str,
    pub tokens: &'a [u32],
    /// The budget of tokens cut it off.
    pub truncated: bool,
    /// Updates done when it was drawn.
    pub step: u64,
}

/// What a function says of a sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// At the last token. `None`, with no tokens' values either, leaves the sample out of this function's share.
    pub reward: Option<f64>,
    /// At each token of the completion, or nothing.
    pub tokens: Vec<f64>,
    pub metrics: BTreeMap<String, f64>,
}

impl From<Option<f64>> for Said {
    fn from(reward: Option<f64>) -> Self {
        Self { reward, ..Self::default() }
    }
}

/// A reward function.
pub trait Reward {
    fn name(&self) -> &str;

    /// The discount of what it gives, where that is not the estimator's.
    fn gamma(&self) -> Option<f64> {
        None
    }

    /// One answer a sample, in order.
    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>>;

    /// What it must remember from one rollout to the next; saved with every checkpoint.
    fn state(&self) -> Value {
        Value::Null
    }

    fn restore(&mut self, _: &Value) -> Result<()> {
        Ok(())
    }
}

/// A sample's reward, whole and by part.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewarded {
    pub total: f64,
    /// In the order of the functions, before weights, summed over tokens.
    pub parts: Vec<Option<f64>>,
    /// What each function gives each token, after weights.
    pub values: Vec<Vec<f64>>,
    pub metrics: BTreeMap<String, f64>,
}

impl Rewarded {
    /// Takes in what one function says of a sample of `n` tokens.
    fn add(&mut self, name: &str, weight: f64, said: Said, n: usize) -> Result<()> {
        let finite = said.reward.iter().chain(&said.tokens).all(|r| r.is_finite());
        if !finite {
            return Err(Error::work(format!("the reward `{name}` is not finite")));
        }
        let mut values = vec![0.0; n];
        let mut part = said.reward;
        self.total += weight * said.reward.unwrap_or(0.0);
        if !said.tokens.is_empty() {
            if said.tokens.len() != n {
                let got = said.tokens.len();
                return Err(Error::work(format!("the reward `{name}` gave {got} values to a sample of {n} tokens")));
            }
            values = said.tokens.iter().map(|x| weight * x).collect();
            let sum: f64 = said.tokens.iter().sum();
            self.total += weight * sum;
            part = Some(part.unwrap_or(0.0) + sum);
        }
        values.iter_mut().last().into_iter().for_each(|last| *last += weight * said.reward.unwrap_or(0.0));
        self.values.push(values);
        self.parts.push(part);
        self.metrics.extend(said.metrics.into_iter().map(|(k, v)| (format!("{name}.{k}"), v)));
        Ok(())
    }
}

/// Functions with their weights.
pub struct Rewards {
    functions: Vec<(Box<dyn Reward>, f64)>,
    specs: Vec<String>,
}

/// What functions take from the run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens a completion may have.
    pub max_tokens: usize,
    /// How long a program may take for one batch.
    pub command: Duration,
}

impl Rewards {
    /// Reads `NAME[?key=value&...][:weight]` for each; `correct` alone where the list is empty.
    pub fn parse(specs: &[String], limits: Limits) -> Result<Self> {
        let default = ["correct".to_string()];
        let specs = if specs.is_empty() { &default[..] } else { specs };
        let mut functions: Vec<(Box<dyn Reward>, f64)> = Vec::new();
        for spec in specs {
            let (body, weight) = match spec.rsplit_once(':') {
                Some((body, w)) if w.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
                    (body, w.trim().parse().unwrap_or(1.0))
                }
                _ => (&spec[..], 1.0),
            };
            let function: Box<dyn Reward> = if let Some(line) = body.strip_prefix("exec:") {
                Box::new(command::Command::new(line, limits.command)?)
            } else if let Some(dir) = body.strip_prefix("model:") {
                Box::new(model::Model::parse(dir)?)
            } else {
                named::parse(body, limits.max_tokens)?
            };
            if functions.iter().any(|(f, _)| f.name() == function.name()) {
                return Err(Error::usage(format!("the reward `{}` is given twice", function.name())));
            }
            functions.push((function, weight));
        }
        Ok(Self { functions, specs: specs.to_vec() })
    }

    pub fn new(functions: Vec<(Box<dyn Reward>, f64)>) -> Self {
        let specs = functions.iter().map(|(f, w)| format!("{}:{w}", f.name())).collect();
        Self { functions, specs }
    }

    /// As they were given.
    pub fn specs(&self) -> &[String] {
        &self.specs
    }

    pub fn names(&self) -> Vec<String> {
        self.functions.iter().map(|(f, _)| f.name().to_string()).collect()
    }

    /// The functions' own discounts.
    pub fn discounts(&self) -> Vec<Option<f64>> {
        self.functions.iter().map(|(f, _)| f.gamma()).collect()
    }

    /// Rewards samples, which come in prompt-then-sample order.
    pub fn score(&mut self, samples: &[Sample]) -> Result<Vec<Rewarded>> {
        let empty = Rewarded { total: 0.0, parts: vec![], values: vec![], metrics: BTreeMap::new() };
        let mut all = vec![empty; samples.len()];
        for (function, weight) in &mut self.functions {
            let said = function.score(samples)?;
            if said.len() != samples.len() {
                let (n, name) = (said.len(), function.name());
                return Err(Error::work(format!("the reward `{name}` gave {n} answers to {} samples", samples.len())));
            }
            for ((to, said), sample) in all.iter_mut().zip(said).zip(samples) {
                to.add(function.name(), *weight, said, sample.tokens.len())?;
            }
        }
        Ok(all)
    }

    pub fn state(&self) -> Value {
        json!(self.functions.iter().map(|(f, _)| f.state()).collect::<Vec<_>>())
    }

    pub fn restore(&mut self, state: &Value) -> Result<()> {
        let states = state.as_array().filter(|s| s.len() == self.functions.len());
        let states = states.ok_or_else(|| Error::work("the checkpoint's rewards are others than this run's"))?;
        self.functions.iter_mut().zip(states).try_for_each(|((f, _), s)| f.restore(s))
    }
}

/// For tests and other programs: a reward from a closure.
pub struct Function<F>(pub String, pub F);

impl<F: FnMut(&Sample) -> Option<f64>> Reward for Function<F> {
    fn name(&self) -> &str {
        &self.0
    }

    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
        Ok(samples.iter().map(|s| Said::from((self.1)(s))).collect())
    }
}
