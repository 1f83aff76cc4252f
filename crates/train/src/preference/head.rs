//! Reward models: a scalar head on a decoder that says how good an answer, or each of its steps, is.
//!
//! | kind | the value | trained by |
//! |---|---|---|
//! | `pairwise` | at an answer's last token | the better of two has the higher one (Ouyang 2022) |
//! | `outcome` | at an answer's last token | cross-entropy of right and wrong (Cobbe 2021): rank above 0 is right |
//! | `process` | at the last token of each step | cross-entropy of right and wrong steps (Lightman 2023) |
//!
//! Steps are an answer's lines; empty ones are none. The last token of a step is the one that completes the last character of it
//! that is no white space, so that the value depends on nothing after it. An answer's last token is the last that counts: the
//! model's end token, not what a template writes behind it.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use postgrad_base::{Error, Result};
use postgrad_data::{Example, Tokenizer};
use postgrad_nn::checkpoint::{AnyTensor, read_safetensors, write_safetensors};
use postgrad_nn::decoder::Decoder;
use postgrad_tensor::{Param, Tensor};
use serde::{Deserialize, Serialize};

use super::data::Group;
use super::loss::{Answers, Computed, Figures, Loss};
use crate::head::ScalarHead;
use crate::score;

/// What a head is trained to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    #[default]
    Pairwise,
    Outcome,
    Process,
}

/// What the steps' probabilities of being right make of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverSteps {
    #[default]
    Min,
    Product,
}

impl FromStr for OverSteps {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "min" => Ok(Self::Min),
            "product" => Ok(Self::Product),
            _ => Err(Error::unknown("way to join steps", name, &["min", "product"], None)),
        }
    }
}

/// A head of one kind.
pub struct RewardHead {
    pub kind: HeadKind,
    scalar: ScalarHead,
}

/// The name of the head's tensors, and of the whole number that says its kind (none: pairwise).
const NAME: &str = "reward_head";
const KIND: &str = "reward_head.kind";

impl RewardHead {
    /// Zero at first.
    pub fn new(kind: HeadKind, width: usize) -> Self {
        Self { kind, scalar: ScalarHead::new(NAME, width) }
    }

    pub fn params(&self) -> [Param; 2] {
        self.scalar.params()
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let floats = self.params().map(|p| (p.name().to_string(), AnyTensor::Float(p.value())));
        let mut tensors = BTreeMap::from(floats);
        if self.kind != HeadKind::Pairwise {
            tensors.insert(KIND.into(), AnyTensor::Int { values: vec![self.kind as i64], shape: vec![1] });
        }
        write_safetensors(path, &tensors, &BTreeMap::new())
    }

    pub fn read(path: &Path, width: usize) -> Result<Self> {
        let scalar = ScalarHead::read(path, NAME, width)?;
        let kinds = [HeadKind::Pairwise, HeadKind::Outcome, HeadKind::Process];
        let kind =
            match read_safetensors(path)?.remove(KIND) {
                None => HeadKind::Pairwise,
                Some(AnyTensor::Int { values, .. }) => *values
                    .first()
                    .and_then(|k| kinds.get(usize::try_from(*k).ok()?))
                    .ok_or_else(|| Error::work("a reward head of a kind that is not known").at(path.display()))?,
                Some(_) => return Err(Error::work("the kind of a reward head is not a number").at(path.display())),
            };
        Ok(Self { kind, scalar })
    }

    /// The tokens at which it is asked; at least one.
    pub fn places(&self, example: &Example, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let last = vec![last_counted(example)];
        if self.kind != HeadKind::Process {
            return Ok(last);
        }
        let ends = step_ends(example, tokenizer)?;
        Ok(if ends.is_empty() { last } else { ends })
    }

    /// Its values at places of sequences, `[places of all]`, and the tokens read.
    pub fn values(
        &self,
        decoder: &Decoder,
        examples: &[&Example],
        places: &[Vec<u32>],
        checkpointing: bool,
    ) -> Result<(Tensor, usize)> {
        let (hidden, tokens) = score::hidden_at(decoder, examples, places, checkpointing)?;
        Ok((self.scalar.of(&hidden), tokens))
    }

    /// What values at an answer's places say of it: pairwise, the value itself; else a probability of being right.
    pub fn says(&self, values: &[f32], over: OverSteps) -> f64 {
        let sure = |v: &f32| 1.0 / (1.0 + (-f64::from(*v)).exp());
        match (self.kind, over) {
            (HeadKind::Pairwise, _) => values.first().map_or(0.0, |v| f64::from(*v)),
            (_, OverSteps::Min) => values.iter().map(sure).fold(1.0, f64::min),
            (_, OverSteps::Product) => values.iter().map(sure).product(),
        }
    }

    /// The summed loss of groups, and the tokens read. `by` is the loss over pairs.
    pub(super) fn loss(
        &self,
        decoder: &Decoder,
        groups: &[&Group],
        by: &Loss,
        checkpointing: bool,
    ) -> Result<(Computed, usize)> {
        let answers = || groups.iter().flat_map(|g| &g.answers);
        let examples: Vec<&Example> = answers().map(|a| &a.example).collect();
        let process = self.kind == HeadKind::Process;
        let places: Vec<Vec<u32>> = answers()
            .map(|a| if process { a.steps.iter().map(|s| s.0).collect() } else { vec![last_counted(&a.example)] })
            .collect();
        let (values, tokens) = self.values(decoder, &examples, &places, checkpointing)?;
        let weight: Vec<f32> = groups.iter().map(|g| g.weight).collect();
        if self.kind == HeadKind::Pairwise {
            let mut group = Vec::with_capacity(examples.len());
            groups.iter().zip(0..).for_each(|(g, n)| group.resize(group.len() + g.answers.len(), n));
            let computed = by.of(&Answers {
                sums: &values,
                lengths: &vec![1.0; examples.len()],
                reference: None,
                group: &group,
                rank: &answers().map(|a| a.rank).collect::<Vec<_>>(),
                gold: &[],
                weight: &weight,
                baseline: 0.0,
            });
            return Ok((computed, tokens));
        }
        let (mut labels, mut weights) = (Vec::new(), Vec::new());
        for g in groups {
            let of = |a: &super::Ranked| match process {
                true => a.steps.iter().map(|s| s.1).collect(),
                false => vec![a.rank > 0.0],
            };
            let own: Vec<bool> = g.answers.iter().flat_map(of).collect();
            weights.extend(vec![g.weight / own.len().max(1) as f32; own.len()]);
            labels.extend(own);
        }
        let loss = cross_entropy(&values, &labels, &weights);
        let mut figures = Figures { groups: groups.len() as f64, pairs: labels.len() as f64, ..Figures::default() };
        for (value, right) in values.data().iter().zip(&labels) {
            let value = f64::from(*value);
            let (n, sum) = match right {
                true => (&mut figures.better, &mut figures.better_log_prob),
                false => (&mut figures.worse, &mut figures.worse_log_prob),
            };
            (*n, *sum) = (*n + 1.0, *sum + value);
            let margin = if *right { value } else { -value };
            figures.margin += margin;
            figures.right += if margin == 0.0 { 0.5 } else { f64::from(u8::from(margin > 0.0)) };
        }
        Ok((Computed { loss, figures }, tokens))
    }
}

/// The weighted sum of `-log s(value)` where it is right, of `-log s(-value)` where it is not.
pub(super) fn cross_entropy(values: &Tensor, right: &[bool], weights: &[f32]) -> Tensor {
    let signs: Vec<f32> = right.iter().map(|r| if *r { 1.0 } else { -1.0 }).collect();
    let vector = |x: &[f32]| Tensor::from_slice(x, &[x.len()]);
    ((values * &vector(&signs)).log_sigmoid() * vector(weights)).sum().neg()
}

/// The last token that counts; where none does, the last.
fn last_counted(example: &Example) -> u32 {
    let last = example.weights.iter().rposition(|w| *w != 0.0);
    last.unwrap_or(example.len().saturating_sub(1)) as u32
}

/// The last token of each line of the counted tokens that is not blank.
pub fn step_ends(example: &Example, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let counted: Vec<usize> = (0..example.len()).filter(|i| example.weights[*i] != 0.0).collect();
    let mut stream = tokenizer.stream(true);
    let (mut text, mut ends) = (String::new(), Vec::with_capacity(counted.len()));
    for i in &counted {
        text += &stream.push(example.tokens[*i])?;
        ends.push(text.len());
    }
    text += &stream.finish()?;
    if let Some(end) = ends.last_mut() {
        *end = text.len();
    }
    let mut places = Vec::new();
    let mut from = 0;
    for line in text.split_inclusive('\n') {
        let written = line.trim_end().len();
        if !line.trim().is_empty() {
            places.extend(ends.iter().position(|end| *end >= from + written).map(|k| counted[k] as u32));
        }
        from += line.len();
    }
    Ok(places)
}
