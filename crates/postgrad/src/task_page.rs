//! `task page`: every task with an example and its knobs, as Markdown. docs/TASKS.md is its output.

use postgrad_base::Result;
use postgrad_tasks::tasks;

use crate::frame::Out;
use crate::task::group;
use crate::task_rows::{Draw, Side};

const HEAD: &str = "# Tasks

Written by `postgrad task page`. Every task draws problems by difficulty, solves them, and judges responses; the example is the first problem that each
draws at its defaults, with its solution in the task's first rendering. `postgrad task sample NAME --difficulty knob=value -n 5` draws more, \"task:NAME?knob=value&n=500\"
is data for `tune` and `eval`.
";

pub fn page() -> Result<()> {
    let mut out = Out::new();
    out.text(HEAD)?;
    let mut shown = "";
    for t in tasks() {
        if group(t.name()) != shown {
            shown = group(t.name());
            let mut title = shown.to_string();
            title[..1].make_ascii_uppercase();
            out.text(&format!("\n## {title}\n"))?;
        }
        let draw = Draw {
            task: t.name().into(),
            difficulty: String::new(),
            n: 1,
            seed: 0,
            split: Side::Test,
            rendering: None,
        };
        let mut about = t.about().to_string();
        if about.is_char_boundary(1) {
            about[..1].make_ascii_uppercase();
        }
        out.text(&format!("\n### {}\n\n{about}.\n", t.name()))?;
        for (problem, trace, rendering) in draw.problems()? {
            out.text(&format!(
                "\n```text\n{}\n\n{}\n```\n",
                problem.ask(&rendering).trim_end(),
                trace.text.trim_end()
            ))?;
        }
        let renderings: Vec<&str> = t.renderings().iter().map(|r| r.name).collect();
        if !t.knobs().is_empty() {
            out.text("\n| knob | values | default | |\n|---|---|---|---|\n")?;
        }
        for k in t.knobs() {
            let range = k.range().replace('|', "\\|");
            out.text(&format!("| `{}` | {range} | {} | {} |\n", k.name, k.show(k.default), k.about))?;
        }
        if renderings.len() > 1 {
            out.text(&format!("\nRenderings: {}.\n", renderings.join(", ")))?;
        }
    }
    Ok(())
}
