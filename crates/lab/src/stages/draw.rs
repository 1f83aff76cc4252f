//! `draw`: records drawn from a task, each with a right response and with the whole problem as a column, so that one file
//! serves training and judging.
//!
//! Problems to train on come from the stream `data` and differ between seeds; problems to measure on (`split = "test"`) come
//! from `eval` and are the same for every seed and arm, as the statistics need them.

use postgrad_base::Result;
use postgrad_reason::draw::{difficulties, find_rendering, problems};
use postgrad_tasks::{Split, task};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stage::{Cx, Stage};

pub struct Draw;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub task: String,
    /// `steps=3,shape=tree`; `steps=2|3` and `steps=2..4` take turns.
    #[serde(default)]
    pub difficulty: String,
    /// How the solver writes its response; the task's first by default.
    #[serde(default)]
    pub rendering: Option<String>,
    pub n: usize,
    #[serde(default = "train")]
    pub split: Split,
    /// Stages of one task that must not share problems take different names here.
    #[serde(default)]
    pub stream: String,
}

fn train() -> Split {
    Split::Train
}

impl Stage for Draw {
    const NAME: &'static str = "draw";
    const ABOUT: &'static str = "records drawn from a task, with right responses";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.split == Split::Test { &["eval"] } else { Self::STREAMS }
    }

    fn check(config: &Config) -> Result<()> {
        let task = task(&config.task)?;
        find_rendering(&*task, config.rendering.as_deref())?;
        difficulties(&*task, &config.difficulty).map(drop)
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let task = task(&config.task)?;
        let rendering = find_rendering(&*task, config.rendering.as_deref())?;
        let top = cx.stream(if config.split == Split::Test { "eval" } else { "data" });
        let stream = top.child(&format!("{}/{}", config.task, config.stream));
        let drawn = problems(&*task, &difficulties(&*task, &config.difficulty)?, config.n, config.split, &stream)?;
        let rows = drawn
            .into_iter()
            .map(|p| {
                let trace = task.solve(&p, rendering.name)?;
                Ok(json!({"prompt": p.ask(&rendering), "completion": trace.text, "problem": p}))
            })
            .collect::<Result<Vec<_>>>()?;
        cx.spend("examples_drawn", rows.len() as u64);
        cx.write_jsonl("records.jsonl", &rows)
    }
}
