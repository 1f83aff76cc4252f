//! What a model is measured on: records of files, multiple-choice rows, problems of tasks.
//!
//! A multiple-choice row has a question (`question`, `query`, `prompt`, `ctx`, `stem`, `instruction`), a list of choices (`choices`,
//! `options`, `endings`: texts, `{"text": [..], "label": [..]}` or `{"A": "..", ..}`) and the right one (`answer`, `correct`,
//! `answerKey`, `label`, `gold`): a label, a choice's text, a letter, or a number counted from 0.

use postgrad_base::{Error, Result};
use postgrad_data::reader::{Reader, find_files};
use postgrad_data::record::Layout;
use postgrad_data::{Body, Kind, Message, Place, Record};
use postgrad_tasks::Problem;
use serde_json::{Map, Value};

/// The answers to choose from.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    pub texts: Vec<String>,
    /// Index of the right one.
    pub right: usize,
}

/// One thing to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// A problem's id, else file and line.
    pub id: String,
    /// The question with its reference answer (of a choice: the right one), or a text.
    pub record: Record,
    pub choices: Option<Choices>,
    pub problem: Option<Problem>,
}

impl Item {
    pub fn of_problem(problem: Problem, question: String, solution: String) -> Self {
        let record = Record::from_body(Body::PromptCompletion { prompt: question, completion: solution });
        Self { id: problem.id.clone(), record, choices: None, problem: Some(problem) }
    }

    pub fn of_record(record: Record) -> Self {
        Self { id: record.place.to_string(), record, choices: None, problem: None }
    }

    /// The turns before the reference, and the reference: the assistant turn that ends the record.
    pub fn question(&self) -> Result<(Vec<Message>, Message)> {
        let ask = |what: &str| {
            Err(Error::usage(format!("the record {what}"))
                .at(&self.id)
                .help("questions with a reference answer are needed; `--as perplexity` measures any text"))
        };
        let Some(mut turns) = self.record.messages() else { return ask("is a text without a question") };
        match turns.iter().rposition(|t| t.role == "assistant") {
            Some(at) if at > 0 => {
                let reference = turns.swap_remove(at);
                turns.truncate(at);
                Ok((turns, reference))
            }
            Some(_) => ask("has an answer and no question before it"),
            None => ask("has no assistant turn to compare with"),
        }
    }

    /// The text that the model's answer is compared with.
    pub fn reference(&self) -> Option<String> {
        self.question().ok().map(|(_, reference)| reference.content)
    }

    /// The last user turn, or the text.
    pub fn asked(&self) -> String {
        match &self.record.body {
            Body::Text(text) => text.clone(),
            Body::PromptCompletion { prompt, .. } => prompt.clone(),
            Body::Messages(_) => self.question().map_or(String::new(), |(turns, _)| {
                turns.iter().rev().find(|t| t.role == "user").map(|t| t.content.clone()).unwrap_or_default()
            }),
        }
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Choice,
    Record(Kind),
}

/// The items of files, folders and globs, at most `limit`. A malformed row stops with its file and line.
pub fn read(paths: &[String], layout: &Layout, limit: Option<usize>) -> Result<Vec<Item>> {
    let mut reader = Reader::new(find_files(paths)?.into());
    let mut items = Vec::new();
    let mut shape: Option<(u32, Shape)> = None;
    while limit.is_none_or(|l| items.len() < l) {
        let Some(row) = reader.next_row()? else { break };
        let at = row.at;
        let place = Place { set: 0, file: reader.files()[at.file as usize].name.clone(), line: at.line };
        let made = row.columns().and_then(|row| {
            let shape = match shape {
                Some((file, shape)) if file == at.file => shape,
                _ => {
                    let found = if layout.kind.is_none() && is_choice(&row) {
                        Shape::Choice
                    } else {
                        Shape::Record(layout.detect(&row)?)
                    };
                    shape = Some((at.file, found));
                    found
                }
            };
            match shape {
                Shape::Choice => choice(&row),
                Shape::Record(kind) => layout.record(kind, row).map(|r| (r, None)),
            }
        });
        let (mut record, choices) = made.map_err(|e| e.at(&place))?;
        record.id = items.len() as u64;
        record.place = place;
        items.push(Item { choices, ..Item::of_record(record) });
    }
    if items.is_empty() {
        return Err(Error::usage("the data has no rows").at(paths.join(" ")));
    }
    Ok(items)
}

const QUESTIONS: [&str; 6] = ["question", "query", "prompt", "ctx", "stem", "instruction"];
const CHOICES: [&str; 3] = ["choices", "options", "endings"];
const RIGHT: [&str; 5] = ["answer", "correct", "answerKey", "label", "gold"];

fn first<'a>(row: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|n| row.get(*n).filter(|v| !v.is_null()))
}

fn is_choice(row: &Map<String, Value>) -> bool {
    let listed = first(row, &CHOICES).is_some_and(|c| c.is_array() || c.is_object());
    listed && first(row, &QUESTIONS).is_some() && first(row, &RIGHT).is_some()
}

fn choice(row: &Map<String, Value>) -> Result<(Record, Option<Choices>)> {
    let missing = |what: &str, names: &[&str]| {
        let found: Vec<&str> = row.keys().map(String::as_str).collect();
        Error::work(format!("a multiple-choice row needs {what} (found: {})", found.join(", ")))
            .help(format!("as one of the columns {}", names.join(", ")))
    };
    let question = first(row, &QUESTIONS).and_then(plain).ok_or_else(|| missing("a question", &QUESTIONS))?;
    let listed = first(row, &CHOICES).ok_or_else(|| missing("choices", &CHOICES))?;
    let right = first(row, &RIGHT).ok_or_else(|| missing("the right choice", &RIGHT))?;
    let (labels, texts) = labelled(listed).ok_or_else(|| Error::work("the choices are not a list of texts"))?;
    if texts.len() < 2 {
        return Err(Error::work(format!("there are {} choices, and must be two or more", texts.len())));
    }
    let right = index_of(right, &labels, &texts).ok_or_else(|| {
        Error::work(format!("`{}` is none of the {} choices", plain(right).unwrap_or_default(), texts.len()))
            .help("it is a letter, a label, a choice's text, or a number counted from 0")
    })?;
    let mut turns = vec![Message::new("user", question), Message::new("assistant", texts[right].as_str())];
    if let Some(system) = row.get("system").and_then(Value::as_str).filter(|s| !s.is_empty()) {
        turns.insert(0, Message::new("system", system));
    }
    let body = match turns.as_slice() {
        [user, assistant] => {
            Body::PromptCompletion { prompt: user.content.clone(), completion: assistant.content.clone() }
        }
        _ => Body::Messages(turns),
    };
    let mut record = Record::from_body(body);
    let used = |name: &str| [&QUESTIONS[..], &CHOICES, &RIGHT, &["system"]].iter().any(|names| names.contains(&name));
    record.columns = row.iter().filter(|(name, _)| !used(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    Ok((record, Some(Choices { texts, right })))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// Labels (none where there are none) and texts.
fn labelled(value: &Value) -> Option<(Vec<String>, Vec<String>)> {
    let texts = |list: &Value| list.as_array()?.iter().map(plain).collect::<Option<Vec<_>>>();
    match value {
        Value::Array(_) => Some((vec![], texts(value)?)),
        Value::Object(map) => match (map.get("text"), map.get("label")) {
            (Some(text), Some(label)) if text.is_array() => {
                let (labels, texts) = (texts(label)?, texts(text)?);
                (labels.len() == texts.len()).then_some((labels, texts))
            }
            _ => map
                .iter()
                .map(|(label, text)| Some((label.clone(), plain(text)?)))
                .collect::<Option<Vec<_>>>()
                .map(|pairs| pairs.into_iter().unzip()),
        },
        _ => None,
    }
}

fn index_of(right: &Value, labels: &[String], texts: &[String]) -> Option<usize> {
    let within = |i: usize| (i < texts.len()).then_some(i);
    if let Some(i) = right.as_u64() {
        let label = i.to_string();
        return labels.iter().position(|l| *l == label).or_else(|| within(i as usize));
    }
    let said = right.as_str()?.trim();
    let letter = || {
        let mut letters = said.trim_matches(['(', ')', '.']).chars();
        match (letters.next(), letters.next()) {
            (Some(c), None) if c.is_ascii_alphabetic() => within((c.to_ascii_uppercase() as u8 - b'A') as usize),
            _ => None,
        }
    };
    let label = labels.iter().position(|l| l.trim() == said);
    let text = || texts.iter().position(|t| t.trim() == said);
    label.or_else(text).or_else(letter).or_else(|| within(said.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_rows(rows: &[Value]) -> Result<Vec<Item>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let text: Vec<String> = rows.iter().map(Value::to_string).collect();
        std::fs::write(&path, text.join("\n")).unwrap();
        read(&[path.to_str().unwrap().to_string()], &Layout::default(), None)
    }

    #[test]
    fn choices_come_in_many_spellings() {
        let list = json!(["red", "green", "7"]);
        for (right, want) in
            [(json!(2), 2), (json!("B"), 1), (json!("(c)"), 2), (json!("green"), 1), (json!("0"), 0), (json!("7"), 2)]
        {
            let items = read_rows(&[json!({"question": "q", "options": list, "correct": right})]).unwrap();
            assert_eq!(items[0].choices.as_ref().unwrap().right, want, "{right}");
        }
        let arc = json!({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "1"});
        assert_eq!(read_rows(&[arc]).unwrap()[0].reference().unwrap(), "x");
        let map = json!({"question": "q", "choices": {"A": "x", "B": "y"}, "answer": "B"});
        assert_eq!(read_rows(&[map]).unwrap()[0].choices.as_ref().unwrap().right, 1);
        let more = json!({"question": "q", "choices": ["x", "y"], "answer": 1, "topic": "law"});
        assert_eq!(read_rows(&[more]).unwrap()[0].record.columns, *json!({"topic": "law"}).as_object().unwrap());
    }

    #[test]
    fn wrong_rows_name_file_and_line() {
        let good = json!({"question": "q", "choices": ["x", "y"], "answer": 1});
        for bad in [
            json!({"question": "q", "choices": ["x", "y"], "answer": 2}),
            json!({"question": "q", "choices": ["x"], "answer": 0}),
            json!({"question": "q", "answer": 0}),
            json!({"question": "q", "choices": [["x"], 1], "answer": 0}),
        ] {
            let e = read_rows(&[good.clone(), bad]).unwrap_err().to_string();
            assert!(e.contains("rows.jsonl:2"), "{e}");
        }
        let e = read_rows(&[json!({"a": 1})]).unwrap_err().to_string();
        assert!(e.contains("found: a"), "{e}");
    }

    #[test]
    fn the_last_assistant_turn_is_the_reference() {
        let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]);
        let items = read_rows(&[json!({"messages": turns})]).unwrap();
        let (before, reference) = items[0].question().unwrap();
        assert_eq!((before.len(), reference.content.as_str(), items[0].asked().as_str()), (3, "d", "c"));
        let items = read_rows(&[json!({"text": "a"})]).unwrap();
        assert_eq!(items[0].question().unwrap_err().exit_code(), 2);
    }
}
