//! Which prompts come next: passes over all, categories in order, or categories that a bandit learns to prefer.
//!
//! A curriculum is asked for prompts before each rollout, and told what came of them after the last optimiser step on it. It is
//! written `NAME[?key=value&...]`: `passes`, `ordered?by=steps`, `sec?by=steps&rate=0.5`. A category is what some columns say of
//! a prompt: a knob of its problem's difficulty, `task` (the problem's), or a column of its record; of several columns, each
//! combination that occurs.

mod arms;
mod bandit;

#[cfg(test)]
mod tests;

use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use arms::{Arms, labels};
pub use bandit::{Absent, Bandit, Choice, Sec, Signal};

use crate::prompts::Prompt;
use crate::query::Query;

/// Where a run stands when prompts are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Prompts drawn so far.
    pub drawn: u64,
    /// Iterations done, of how many.
    pub iteration: u64,
    pub iterations: u64,
}

/// What came of the samples of one prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Feedback {
    pub prompt: usize,
    /// Their mean reward.
    pub reward: f64,
    /// Mean over samples of the mean over tokens of |advantage|, as the estimator scales it; nothing where dynamic sampling
    /// left the group out.
    pub advantage: Option<f64>,
    /// Mean of |reward - mean reward|.
    pub spread: f64,
    /// All rewards were equal.
    pub even: bool,
}

/// Chooses prompts.
pub trait Curriculum {
    /// The next `n` prompts, by their number.
    fn draw(&mut self, at: At, n: usize) -> Vec<usize>;

    /// Learns from an iteration's groups, after its updates.
    fn learn(&mut self, _: &[Feedback]) {}

    /// Figures for the log, before it has learnt from these groups.
    fn figures(&self, _: &[Feedback]) -> Vec<(String, f64)> {
        vec![]
    }

    /// What it must remember; saved with every checkpoint.
    fn state(&self) -> Value {
        Value::Null
    }

    fn restore(&mut self, _: &Value) -> Result<()> {
        Ok(())
    }

    /// Settings that decide what it draws: a resumed run must have the same.
    fn settings(&self) -> Value;
}

/// A curriculum as settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CurriculumSpec {
    /// Passes over all prompts, each in a new order.
    #[default]
    Passes,
    /// One category after the other.
    Ordered(Ordered),
    /// The self-evolving curriculum (Chen 2025).
    Sec(Sec),
}

/// Categories from easy to hard, each for the same number of iterations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// Columns that say which category a prompt is of.
    pub by: Vec<String>,
    /// Names of the categories from easy to hard; where it is empty they must be numbers.
    #[serde(default)]
    pub order: Vec<String>,
    /// From hard to easy.
    #[serde(default)]
    pub reverse: bool,
    /// A control: categories are dealt out anew among the prompts.
    #[serde(default)]
    pub shuffle_labels: bool,
}

const NAMES: [&str; 3] = ["passes", "ordered", "sec"];

impl CurriculumSpec {
    /// Reads `NAME[?key=value&...]`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let read = |known: &[&str]| Query::read(format!("curriculum `{name}`"), query, known);
        let spec = match name {
            "passes" => {
                read(&[])?;
                Self::Passes
            }
            "ordered" => {
                let q = read(&["by", "order", "reverse", "shuffle_labels"])?;
                Self::Ordered(Ordered {
                    by: q.list("by"),
                    order: q.list("order"),
                    reverse: q.flag("reverse", false)?,
                    shuffle_labels: q.flag("shuffle_labels", false)?,
                })
            }
            "sec" => Self::Sec(Sec::read(&read(&Sec::KEYS)?)?),
            _ => return Err(Error::unknown("curriculum", name, &NAMES, None)),
        };
        spec.check()?;
        Ok(spec)
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let (name, by) = match self {
            Self::Passes => return Ok(()),
            Self::Ordered(o) => ("ordered", &o.by),
            Self::Sec(s) => ("sec", &s.by),
        };
        if by.is_empty() {
            return Err(Error::usage(format!("the curriculum `{name}` names no column"))
                .help(format!("say what categories go by: {name}?by=steps")));
        }
        if let Self::Sec(s) = self { s.check() } else { Ok(()) }
    }

    /// The curriculum over these prompts.
    pub fn over(&self, prompts: &[Prompt], seed: u64) -> Result<Box<dyn Curriculum>> {
        self.check()?;
        Ok(match self {
            Self::Passes => Box::new(Passes::new(prompts.len(), seed)),
            Self::Ordered(o) => {
                let arms = Arms::new(labels(prompts, &o.by)?, o.shuffle_labels, seed);
                Box::new(InOrder::new(o.clone(), arms)?)
            }
            Self::Sec(s) => {
                let arms = Arms::new(labels(prompts, &s.by)?, s.shuffle_labels, seed);
                Box::new(Bandit::new(s.clone(), arms, seed))
            }
        })
    }
}

/// The numbers `0..all` in passes, each in an order of its own: places `from .. from + n` of that endless list.
pub fn passes(orders: &Stream, all: usize, from: u64, n: usize) -> Vec<usize> {
    let mut order: (u64, Vec<usize>) = (u64::MAX, vec![]);
    (from..from + n as u64)
        .map(|at| {
            let pass = at / all as u64;
            if order.0 != pass {
                order = (pass, (0..all).collect());
                orders.nth(pass).shuffle(&mut order.1);
            }
            order.1[(at % all as u64) as usize]
        })
        .collect()
}

/// Passes over all prompts.
pub struct Passes {
    prompts: usize,
    orders: Stream,
}

impl Passes {
    pub fn new(prompts: usize, seed: u64) -> Self {
        Self { prompts, orders: Stream::new(seed, &["data", "order"]) }
    }
}

impl Curriculum for Passes {
    fn draw(&mut self, at: At, n: usize) -> Vec<usize> {
        passes(&self.orders, self.prompts, at.drawn, n)
    }

    fn settings(&self) -> Value {
        Value::Null
    }
}

/// [`Ordered`] over some prompts.
pub struct InOrder {
    spec: Ordered,
    arms: Arms,
    /// Numbers of the arms in the order of their turn.
    turns: Vec<usize>,
    now: usize,
}

impl InOrder {
    pub fn new(spec: Ordered, arms: Arms) -> Result<Self> {
        let names = arms.names();
        let mut turns: Vec<usize> = if spec.order.is_empty() {
            if !arms.numeric() {
                return Err(Error::usage(format!("which of the categories is easy? They are {}", names.join(", ")))
                    .help(format!("name them from easy to hard: order={}", names.join(","))));
            }
            (0..names.len()).collect()
        } else {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let at = |name: &String| {
                let at = known.iter().position(|n| n == name);
                at.ok_or_else(|| Error::unknown("category of `order`", name, &known, None))
            };
            let turns = spec.order.iter().map(at).collect::<Result<Vec<_>>>()?;
            if let Some(missing) = (0..known.len()).find(|i| !turns.contains(i)) {
                return Err(Error::usage(format!("`order` lacks the category `{}`", known[missing])));
            }
            turns
        };
        if spec.reverse {
            turns.reverse();
        }
        Ok(Self { spec, arms, now: turns[0], turns })
    }
}

impl Curriculum for InOrder {
    fn draw(&mut self, at: At, n: usize) -> Vec<usize> {
        let turn = at.iteration * self.turns.len() as u64 / at.iterations.max(1);
        self.now = self.turns[(turn as usize).min(self.turns.len() - 1)];
        (0..n).map(|_| self.arms.next(self.now)).collect()
    }

    fn figures(&self, groups: &[Feedback]) -> Vec<(String, f64)> {
        let p = |arm: usize| f64::from(u8::from(arm == self.now));
        self.arms.figures(groups, |arm| vec![("p", p(arm))])
    }

    fn state(&self) -> Value {
        json!({"arms": self.arms.state()})
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.arms.restore(&state["arms"])
    }

    fn settings(&self) -> Value {
        json!(CurriculumSpec::Ordered(self.spec.clone()))
    }
}
