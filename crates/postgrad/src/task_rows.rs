//! Problems drawn from a task, and the records they become.

use postgrad_base::{Error, Result, Stream};
use postgrad_reason::draw::{difficulties, find_rendering, problems};
use postgrad_tasks::{Problem, Rendering, Split, Task, Trace, gsm8k, task};
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
        let difficulties = difficulties(task, &self.difficulty)?;
        let stream = Stream::new(self.seed, &["data", &self.task]);
        problems(task, &difficulties, self.n, self.split.into(), &stream)
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
