//! Problems drawn from a task, and the records they become.

use postgrad_base::{Error, Result, Stream};
use postgrad_tasks::{Difficulty, Problem, Rendering, Split, Task, Trace, draw, gsm8k, task};
use serde_json::{Value, json};

use crate::builtin;

/// Which problems.
#[derive(Clone, Debug)]
pub struct Draw {
    pub task: String,
    /// `steps=3,shape=tree`; `steps=2|3` and `steps=2..4` take turns.
    pub difficulty: String,
    pub n: usize,
    pub seed: u64,
    pub split: Side,
    pub rendering: Option<String>,
}

/// [`Split`] as the command line reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    Train,
    Test,
}

impl From<Side> for Split {
    fn from(side: Side) -> Self {
        if side == Side::Train { Split::Train } else { Split::Test }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        Split::from(*self).fmt(f)
    }
}

impl std::str::FromStr for Side {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "train" => Ok(Self::Train),
            "test" => Ok(Self::Test),
            _ => Err(Error::unknown("split", name, &["train", "test"], None)),
        }
    }
}

impl Draw {
    /// One training problem with the task's defaults.
    pub fn of(task: &str) -> Self {
        Self { task: task.into(), difficulty: String::new(), n: 1, seed: 0, split: Side::Train, rendering: None }
    }

    /// The problems with a right response each. Problem `i` has its own stream, so a larger `n` only adds. No problem comes
    /// twice while new ones are easily found.
    pub fn problems(&self) -> Result<Vec<(Problem, Trace, Rendering)>> {
        let task = task(&self.task)?;
        let rendering = find_rendering(&*task, self.rendering.as_deref())?;
        let problems = if self.task == "gsm8k" { self.of_the_files()? } else { self.of_the_generator(&*task)? };
        problems.into_iter().map(|p| task.solve(&p, rendering.name).map(|trace| (p, trace, rendering))).collect()
    }

    fn of_the_generator(&self, task: &dyn Task) -> Result<Vec<Problem>> {
        const REDRAWS: usize = 100;
        let difficulties = difficulties(task, &self.difficulty)?;
        let stream = Stream::new(self.seed, &["data", &self.task]);
        let mut seen = std::collections::HashSet::new();
        let mut out = Vec::with_capacity(self.n.min(1 << 20));
        for i in 0..self.n {
            let mut own = stream.nth(i as u64);
            let difficulty = &difficulties[i % difficulties.len()];
            let mut problem = draw(task, &mut own, difficulty, self.split.into())?;
            for _ in 0..REDRAWS {
                if !seen.contains(&problem.id) {
                    break;
                }
                problem = draw(task, &mut own, difficulty, self.split.into())?;
            }
            seen.insert(problem.id.clone());
            out.push(problem);
        }
        Ok(out)
    }

    /// GSM8K has problems, not a generator: a shuffle of its set.
    fn of_the_files(&self) -> Result<Vec<Problem>> {
        gsm8k::Gsm8k::default().difficulty(&self.difficulty)?;
        let mut all = builtin::gsm8k_problems(self.split.into())?;
        Stream::new(self.seed, &["data", "gsm8k"]).shuffle(&mut all);
        all.truncate(self.n);
        Ok(all)
    }
}

/// The rendering of this name; the task's first by default.
pub fn find_rendering(task: &dyn Task, name: Option<&str>) -> Result<Rendering> {
    let all = task.renderings();
    let Some(name) = name else { return Ok(all[0]) };
    all.iter().find(|r| r.name == name).copied().ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|r| r.name).collect();
        Error::unknown("rendering", name, &known, postgrad_tasks::task::nearest(name, &known))
    })
}

/// Every combination of the values that knobs are given: `steps=2|3,digits=1..2` has four.
pub fn difficulties(task: &dyn Task, spec: &str) -> Result<Vec<Difficulty>> {
    let mut specs = vec![String::new()];
    for pair in spec.split([',', ' ']).filter(|p| !p.is_empty()) {
        let values: Vec<String> = match pair.split_once('=') {
            None => vec![pair.to_string()],
            Some((key, value)) => {
                let range = value.split_once("..").and_then(|(a, b)| Some(a.parse::<i64>().ok()?..=b.parse().ok()?));
                match range {
                    Some(r) if !r.is_empty() && r.end() - r.start() < 1000 => r.map(|v| format!("{key}={v}")).collect(),
                    _ => value.split('|').map(|v| format!("{key}={v}")).collect(),
                }
            }
        };
        specs = specs.iter().flat_map(|s| values.iter().map(move |v| format!("{s},{v}"))).collect();
        if specs.len() > 10_000 {
            return Err(Error::usage(format!("`{spec}` has over 10,000 combinations")));
        }
    }
    specs.iter().map(|s| task.difficulty(s)).collect()
}

/// How a problem and its response are written to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// {"prompt": ..., "completion": ...}
    Completion,
    /// {"messages": [...]}
    Messages,
}

pub fn record(problem: &Problem, trace: &Trace, rendering: &Rendering, layout: Layout) -> Value {
    let prompt = problem.ask(rendering);
    match layout {
        Layout::Completion => json!({"prompt": prompt, "completion": trace.text}),
        Layout::Messages => json!({"messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": trace.text},
        ]}),
    }
}
