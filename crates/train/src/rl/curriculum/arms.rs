//! Categories of prompts, each with a shuffled list that is gone through without putting back, and shuffled anew at its end.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use postgrad_base::{Error, Result, Stream};
use postgrad_tasks::task;
use postgrad_tasks::task::nearest;
use serde_json::{Value, json};

use super::Feedback;
use crate::prompts::Prompt;

/// What the named columns say of each prompt. A prompt without one of them is an error that names those it has.
pub fn labels(prompts: &[Prompt], by: &[String]) -> Result<Vec<Vec<String>>> {
    let of = |p: &Prompt| {
        let columns = columns(p);
        let value = |name: &String| {
            columns.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = columns.keys().map(String::as_str).collect();
                let e = Error::unknown("column", name, &known, nearest(name, &known)).at(&p.place);
                if known.is_empty() {
                    e.help("its prompt has no knob of a difficulty and no further column")
                } else {
                    e
                }
            })
        };
        by.iter().map(value).collect()
    };
    prompts.iter().map(of).collect()
}

/// Columns that a category may go by.
fn columns(p: &Prompt) -> BTreeMap<String, String> {
    let plain = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Number(_) | Value::Bool(_) => Some(v.to_string()),
        _ => None,
    };
    let mut all: BTreeMap<String, String> =
        p.columns.iter().filter_map(|(k, v)| Some((k.clone(), plain(v)?))).collect();
    if let Some(problem) = &p.problem {
        all.insert("task".into(), problem.task.clone());
        let knobs = task(&problem.task).map(|t| t.knobs()).unwrap_or_default();
        for (name, value) in &problem.difficulty.0 {
            let knob = knobs.iter().find(|k| k.name == name);
            all.insert(name.clone(), knob.map_or_else(|| value.to_string(), |k| k.show(*value)));
        }
    }
    all
}

/// Prompts by category.
pub struct Arms {
    names: Vec<String>,
    numeric: bool,
    arm_of: Vec<usize>,
    members: Vec<Vec<usize>>,
    /// Prompts drawn of each.
    drawn: Vec<u64>,
    /// The pass that each is in, with its order.
    order: Vec<(u64, Vec<usize>)>,
    orders: Vec<Stream>,
}

impl Arms {
    /// From what the columns say of each prompt; numbers come in their order, before words. `shuffle` deals the labels out anew.
    pub fn new(mut labels: Vec<Vec<String>>, shuffle: bool, seed: u64) -> Self {
        if shuffle {
            Stream::new(seed, &["data", "labels"]).shuffle(&mut labels);
        }
        let mut kinds = labels.clone();
        kinds.sort_by(|a, b| compare(a, b));
        kinds.dedup();
        let arm_of: Vec<usize> =
            labels.iter().map(|l| kinds.binary_search_by(|k| compare(k, l)).expect("one of the kinds")).collect();
        let mut members = vec![vec![]; kinds.len()];
        arm_of.iter().enumerate().for_each(|(prompt, arm)| members[*arm].push(prompt));
        let names: Vec<String> = kinds.iter().map(|k| k.join("-")).collect();
        let stream = Stream::new(seed, &["data", "curriculum"]);
        Self {
            orders: names.iter().map(|n| stream.child(n)).collect(),
            numeric: kinds.iter().flatten().all(|k| number(k).is_some()),
            drawn: vec![0; names.len()],
            order: vec![(u64::MAX, vec![]); names.len()],
            names,
            arm_of,
            members,
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All labels are numbers.
    pub fn numeric(&self) -> bool {
        self.numeric
    }

    pub fn arm_of(&self, prompt: usize) -> usize {
        self.arm_of[prompt]
    }

    /// The next prompt of an arm.
    pub fn next(&mut self, arm: usize) -> usize {
        let (members, at) = (&self.members[arm], self.drawn[arm]);
        let n = members.len() as u64;
        if self.order[arm].0 != at / n {
            self.order[arm] = (at / n, members.clone());
            self.orders[arm].nth(at / n).shuffle(&mut self.order[arm].1);
        }
        self.drawn[arm] += 1;
        self.order[arm].1[(at % n) as usize]
    }

    /// Prompts of an arm's list before it is shuffled anew.
    fn left(&self, arm: usize) -> u64 {
        let n = self.members[arm].len() as u64;
        n - self.drawn[arm] % n
    }

    /// For each arm what `more` says, how many prompts were drawn now, how many are left, and the mean reward of those drawn.
    pub fn figures(&self, groups: &[Feedback], more: impl Fn(usize) -> Vec<(&'static str, f64)>) -> Vec<(String, f64)> {
        let mut out = Vec::new();
        for (arm, name) in self.names.iter().enumerate() {
            let rewards: Vec<f64> = groups.iter().filter(|g| self.arm_of[g.prompt] == arm).map(|g| g.reward).collect();
            let mut all = more(arm);
            all.extend([("n", rewards.len() as f64), ("left", self.left(arm) as f64)]);
            if !rewards.is_empty() {
                all.push(("reward", rewards.iter().sum::<f64>() / rewards.len() as f64));
            }
            out.extend(all.into_iter().map(|(key, x)| (format!("arm.{name}.{key}"), x)));
        }
        out
    }

    pub fn state(&self) -> Value {
        json!(self.drawn)
    }

    pub fn restore(&mut self, state: &Value) -> Result<()> {
        let drawn = state.as_array().filter(|d| d.len() == self.names.len());
        let drawn = drawn.and_then(|d| d.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
        self.drawn = drawn.ok_or_else(|| Error::work("the checkpoint's categories are others than this run's"))?;
        Ok(())
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|x| x.is_finite())
}

/// Column by column: numbers by value, before words; equal numbers and words by their letters.
fn compare(a: &[String], b: &[String]) -> Ordering {
    let one = |(a, b): (&String, &String)| match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    };
    a.iter().zip(b).map(one).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}
