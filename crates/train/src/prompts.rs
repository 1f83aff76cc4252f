//! What a policy is asked in reinforcement training, with what its answers are judged by.
//!
//! A prompt comes from a task's problem (judged by the task's own verifier) or from a row: a `problem` column holds a whole
//! problem; else the reference answer is the row's completion, last assistant turn, or its `answer`, `solution`,
//! `ground_truth` or `reference` column beside a bare `prompt`. Other columns go to custom rewards.

use postgrad_base::{Error, Result};
use postgrad_data::reader::{Reader, find_files};
use postgrad_data::record::Layout;
use postgrad_data::{Body, Message, Place, PromptOptions, Record, Renderer};
use postgrad_tasks::answers::equal;
use postgrad_tasks::{Problem, Rendering, task};
use serde_json::{Map, Value};

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub ids: Vec<u32>,
    /// The last user turn, or the text.
    pub text: String,
    pub messages: Vec<Message>,
    pub problem: Option<Problem>,
    pub reference: Option<String>,
    /// Columns of the row that are nothing of the above.
    pub columns: Map<String, Value>,
    pub place: Place,
}

/// A judgement of one completion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub correct: bool,
    /// An answer was found in it.
    pub answered: bool,
    /// 1 for right, 0 for wrong, between for partial credit.
    pub score: f64,
}

impl Prompt {
    pub fn of_problem(problem: Problem, rendering: &Rendering, renderer: &Renderer) -> Result<Self> {
        let text = problem.ask(rendering);
        let messages = vec![Message::new("user", text.clone())];
        let ids = renderer.prompt_ids(&messages, None, &PromptOptions::default())?;
        let reference = Some(problem.answer.clone());
        let place = Place { file: problem.id.as_str().into(), ..Place::default() };
        Ok(Self { ids, text, messages, problem: Some(problem), reference, columns: Map::new(), place })
    }

    fn of_record(mut record: Record, renderer: &Renderer) -> Result<Self> {
        let ids = renderer.record_prompt_ids(&record, &PromptOptions::default())?;
        let mut turns = record.messages().unwrap_or_default();
        let last = turns.iter().rposition(|t| t.role == "assistant");
        let mut reference = last.map(|at| turns[at].content.clone()).filter(|r| !r.is_empty());
        turns.truncate(last.unwrap_or(turns.len()));
        let text = match &record.body {
            Body::Text(text) => text.clone(),
            Body::PromptCompletion { prompt, .. } => prompt.clone(),
            Body::Messages(_) => {
                turns.iter().rev().find(|t| t.role == "user").map(|t| t.content.clone()).unwrap_or_default()
            }
        };
        let problem = match record.columns.get("problem").filter(|p| p.get("task").is_some()) {
            None => None,
            Some(p) => {
                let p: Problem = serde_json::from_value(p.clone())
                    .map_err(|e| Error::work("the column `problem` holds no problem").because(e))?;
                task(&p.task)?;
                record.columns.shift_remove("problem");
                reference.get_or_insert(p.answer.clone());
                Some(p)
            }
        };
        Ok(Self { ids, text, messages: turns, problem, reference, columns: record.columns, place: record.place })
    }

    /// Whether a bare number is the answer: the problem's, else equal to the reference's.
    pub fn is_answer(&self, number: &str) -> bool {
        match (&self.problem, &self.reference) {
            (Some(problem), _) => problem.answer == number,
            (None, Some(reference)) => equal(reference, number).equal,
            (None, None) => false,
        }
    }

    /// Judges a completion by the task's verifier, else by mathematical equality with the reference; `None` without either.
    pub fn judge(&self, completion: &str) -> Option<Judged> {
        if let Some(problem) = &self.problem {
            let v = task(&problem.task).ok()?.verify(problem, completion);
            return Some(Judged { correct: v.correct, answered: v.parsed.is_some(), score: v.score });
        }
        let same = equal(self.reference.as_ref()?, completion);
        let correct = same.equal;
        Some(Judged { correct, answered: !same.pred.trim().is_empty(), score: f64::from(u8::from(correct)) })
    }
}

/// Reads prompts from files, folders and globs. A malformed row stops with its file and line.
pub fn read(paths: &[String], layout: &Layout, renderer: &Renderer, max_len: usize) -> Result<Vec<Prompt>> {
    let mut reader = Reader::new(find_files(paths)?.into());
    let mut prompts = Vec::new();
    let mut over_long = 0;
    while let Some(row) = reader.next_row()? {
        let at = row.at;
        let place = Place { set: 0, file: reader.files()[at.file as usize].name.clone(), line: at.line };
        let made = row.columns().and_then(|columns| {
            let mut columns = columns;
            bare_prompt(&mut columns);
            let kind = layout.detect(&columns)?;
            let record = layout.record(kind, columns)?;
            Prompt::of_record(Record { place: place.clone(), ..record }, renderer)
        });
        let prompt = made.map_err(|e| e.at(&place))?;
        if max_len > 0 && prompt.ids.len() > max_len {
            over_long += 1;
        } else {
            prompts.push(prompt);
        }
    }
    if prompts.is_empty() {
        let e = Error::usage("the data has no usable prompt").at(paths.join(" "));
        return Err(if over_long > 0 {
            e.help(format!("{over_long} prompts leave no room for a completion"))
        } else {
            e
        });
    }
    Ok(prompts)
}

/// A row with a prompt and no completion gets its reference answer as one.
fn bare_prompt(row: &mut Map<String, Value>) {
    if !row.contains_key("prompt") || row.contains_key("completion") {
        return;
    }
    let named = ["answer", "solution", "ground_truth", "reference"].iter().find(|n| row.contains_key(**n));
    let reference = match named.map(|n| &row[*n]) {
        Some(Value::String(s)) => s.clone(),
        Some(v @ (Value::Number(_) | Value::Bool(_))) => v.to_string(),
        _ => String::new(),
    };
    row.insert("completion".into(), Value::String(reference));
}
