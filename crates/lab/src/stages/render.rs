//! `render`: records drawn from a task, with prompts and responses written anew by templates.
//!
//! Templates are those of chat templates (Jinja). They see `prompt` (the problem's, without the words that ask for a rendering),
//! `answer`, `steps` and `text` (of the solver's response in `rendering`), `difficulty`, and `i`, the number of the record.
//! The records keep their problems, so that they are judged as before.
//!
//! ```toml
//! use = "render"
//! data = "@problems"
//! completion = "<think>{{ steps | join(' ') }}</think>\n#### {{ answer }}"
//! ```

use postgrad_base::{Error, Result};
use postgrad_data::TextTemplate;
use postgrad_reason::draw::find_rendering;
use postgrad_tasks::task;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::stage::{Cx, Input, Stage};

pub struct Render;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A `draw` stage, or records with a `problem` column.
    pub data: Input,
    #[serde(default = "prompt")]
    pub prompt: String,
    pub completion: String,
    /// The rendering whose steps the templates see; the task's first by default.
    #[serde(default)]
    pub rendering: Option<String>,
}

fn prompt() -> String {
    "{{ prompt }}".into()
}

impl Stage for Render {
    const NAME: &'static str = "render";
    const ABOUT: &'static str = "records of a task's problems, with prompts and responses written by templates";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        for (key, source) in [("prompt", &config.prompt), ("completion", &config.completion)] {
            TextTemplate::new(source).map_err(|e| e.at(key))?;
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let [prompt, completion] = [&config.prompt, &config.completion].map(|s| TextTemplate::new(s));
        let (prompt, completion) = (prompt?, completion?);
        let row = |(i, item): (usize, postgrad_audit::Item)| {
            let problem = item.problem.as_ref().ok_or_else(|| {
                Error::usage("the record has no problem").at(&item.id).help("`render` takes what a `draw` stage made")
            })?;
            let task = task(&problem.task)?;
            let rendering = find_rendering(&*task, config.rendering.as_deref())?;
            let trace = task.solve(problem, rendering.name)?;
            let values = json!({"prompt": problem.prompt, "answer": trace.answer, "steps": trace.steps, "text": trace.text,
                "difficulty": problem.difficulty, "i": i});
            let values: Map<_, _> = values.as_object().cloned().unwrap_or_default();
            let [prompt, completion] = [prompt.render(&values)?, completion.render(&values)?];
            Ok(json!({"prompt": prompt, "completion": completion, "problem": problem}))
        };
        let rows = cx.items(&config.data)?.into_iter().enumerate().map(row).collect::<Result<Vec<_>>>()?;
        cx.write_jsonl("records.jsonl", &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, golden};
    use crate::stages::Draw;
    use serde_json::Value;

    fn drawn(dir: &std::path::Path) -> [(&'static str, Place); 1] {
        let config = json!({"task": "chain", "difficulty": "steps=2", "n": 2, "rendering": "direct"});
        alone(&Kind::of::<Draw>(), &config, &[], 0, dir).unwrap();
        [("data", Place::Stage(dir.to_path_buf()))]
    }

    fn config(completion: &str) -> Value {
        json!({"data": "@data", "completion": completion, "rendering": "equations"})
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = drawn(dir.path());
        let text = "<think>{{ steps | join(' ') }}</think>\n#### {{ answer }}";
        golden(&Kind::of::<Render>(), &config(text), &inputs, "2c55d9e9e72b2b52");
    }

    #[test]
    fn a_program_from_steps_and_a_verdict_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let (inputs, out) = (drawn(&dir.path().join("drawn")), dir.path().join("out"));
        let text = "{% for s in steps %}{% set e = s.split('=') %}x{{ loop.index }}={{ e[0] }};{% endfor %}\n#### {{ answer }}";
        let cx = alone(&Kind::of::<Render>(), &config(text), &inputs, 0, &out).unwrap();
        let read = Cx::new(0, out.clone(), [("out".to_string(), Place::Stage(out))], cx.cancel.clone(), cx.progress);
        for item in read.items(&Input::try_from("@out".to_string()).unwrap()).unwrap() {
            let problem = item.problem.clone().unwrap();
            let (turns, answer) = item.question().unwrap();
            assert!(answer.content.starts_with("x1=") && answer.content.contains(";x2="), "{}", answer.content);
            assert_eq!(turns.last().unwrap().content, problem.prompt);
            assert!(task("chain").unwrap().verify(&problem, &answer.content).correct);
        }
    }

    #[test]
    fn templates_that_cannot_be_read_or_name_nothing_say_so() {
        let fault = (Kind::of::<Render>().resolve)(&config("{{ steps")).unwrap_err();
        assert!(fault.error.to_string().contains("cannot be read"), "{}", fault.error);
        let dir = tempfile::tempdir().unwrap();
        let inputs = drawn(dir.path());
        let e =
            alone(&Kind::of::<Render>(), &config("{{ stesp }}"), &inputs, 0, &dir.path().join("out")).err().unwrap();
        assert!(e.to_string().contains("undefined"), "{e}");
    }
}
