//! Records: rows of the common layouts, brought to one form.
//!
//! | kind | columns |
//! |---|---|
//! | `text` | `text` |
//! | `prompt-completion` | `prompt`, `completion` (texts, or lists of messages) |
//! | `messages` | `messages` of `role`, `content`, `reasoning_content`, `tool_calls`, `train`; `tools` |
//! | `sharegpt` | `conversations` of `from`, `value`; `system`, `tools` |
//! | `question-answer` | `question`, `answer` |
//! | `alpaca` | `instruction`, `input`, `output`, `system`, `history` |
//!
//! The kind is found from the columns; [`Columns`] and [`Roles`] rename what is called otherwise. All other columns stay
//! with the record. Left out on purpose: images and sounds (refused by name).

use std::str::FromStr;
use std::sync::Arc;

use postgrad_base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Where a record came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which source of the mixture.
    pub set: u32,
    #[serde(with = "shared_text")]
    pub file: Arc<str>,
    /// From 1.
    pub line: u64,
}

mod shared_text {
    use std::sync::Arc;

    pub fn serialize<S: serde::Serializer>(text: &Arc<str>, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(text)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        <String as serde::Deserialize>::deserialize(from).map(Arc::from)
    }
}

impl Default for Place {
    fn default() -> Self {
        Self { set: 0, file: Arc::from(""), line: 0 }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A layout of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Messages,
    #[serde(rename = "sharegpt")]
    ShareGpt,
    PromptCompletion,
    Alpaca,
    QuestionAnswer,
    Text,
}

impl Kind {
    /// All kinds, in the order in which a row is tried.
    pub const ALL: [Self; 6] =
        [Self::Messages, Self::ShareGpt, Self::PromptCompletion, Self::Alpaca, Self::QuestionAnswer, Self::Text];

    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::ShareGpt => "sharegpt",
            Self::PromptCompletion => "prompt-completion",
            Self::Alpaca => "alpaca",
            Self::QuestionAnswer => "question-answer",
            Self::Text => "text",
        }
    }

    /// Columns a row of this kind must have.
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::Messages => &["messages"],
            Self::ShareGpt => &["conversations"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::Alpaca => &["instruction", "output"],
            Self::QuestionAnswer => &["question", "answer"],
            Self::Text => &["text"],
        }
    }

    fn optional(self) -> &'static [&'static str] {
        match self {
            Self::Messages => &["tools"],
            Self::ShareGpt => &["system", "tools"],
            Self::PromptCompletion | Self::QuestionAnswer => &["system"],
            Self::Alpaca => &["input", "system", "history"],
            Self::Text => &[],
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let name = name.to_lowercase().replace(['_', '/', ' '], "-");
        let names = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|k| k.name() == name || (name == "openai" && *k == Self::Messages)).ok_or_else(
            || Error::unknown("record kind", &name, &names, names.into_iter().find(|n| n.starts_with(&name))),
        )
    }
}

fn pairs(text: &str, what: &str) -> Result<Vec<(String, String)>> {
    let part = |pair: &str| {
        let (name, value) = pair.split_once('=').filter(|(n, v)| !n.trim().is_empty() && !v.trim().is_empty())?;
        Some((name.trim().to_string(), value.trim().to_string()))
    };
    let each = |p: &str| {
        part(p).ok_or_else(|| Error::usage(format!("`{p}` is not of the form NAME=VALUE")).help(what.to_string()))
    };
    text.split(',').filter(|p| !p.trim().is_empty()).map(each).collect()
}

/// What the columns are called in the files: `prompt=q,completion=a`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns(Vec<(String, String)>);

const FIELDS: [&str; 14] = [
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "question",
    "answer",
    "text",
    "system",
    "history",
    "tools",
    "weight",
];

impl FromStr for Columns {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let pairs = pairs(text, "for example --columns prompt=q,completion=a")?;
        for (field, _) in &pairs {
            if !FIELDS.contains(&field.as_str()) {
                return Err(Error::unknown("column", field, &FIELDS, None).help(format!(
                    "left of `=` stands one of {}; right of it the name in your file",
                    FIELDS.join(", ")
                )));
            }
        }
        Ok(Self(pairs))
    }
}

impl Columns {
    /// The name in the file of a field.
    fn of<'a>(&'a self, field: &'a str) -> &'a str {
        self.0.iter().find(|(f, _)| f == field).map_or(field, |(_, c)| c)
    }

    fn names(&self, field: &str) -> bool {
        self.0.iter().any(|(f, _)| f == field)
    }
}

/// What the roles are called in the files: `human=user,gpt=assistant`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles(Vec<(String, String)>);

impl FromStr for Roles {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(pairs(text, "for example --roles human=user,gpt=assistant")?))
    }
}

impl Roles {
    fn given(&self, role: &str) -> Option<&str> {
        self.0.iter().find(|(from, _)| from == role).map(|(_, to)| to.as_str())
    }
}

/// One turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
    /// Thoughts apart from the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// A list of calls as OpenAI writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// False: never trained on. `None`: an assistant turn is, others are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<bool>,
    /// Everything else of the turn (`name`, `tool_call_id`, …), for the template.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Message {
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// The model speaks here and learns it.
    pub fn trained(&self) -> bool {
        self.role == "assistant" && self.train != Some(false)
    }
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Text(String),
    PromptCompletion { prompt: String, completion: String },
    Messages(Vec<Message>),
}

/// A row in its one form.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The layout it was read from.
    pub kind: Kind,
    pub body: Body,
    pub tools: Option<Value>,
    /// The example's weight in the loss (column `weight`, where `--columns` names one).
    pub weight: f32,
    /// Columns that the kind does not use.
    pub columns: Map<String, Value>,
    pub place: Place,
    /// Unique within its data set.
    pub id: u64,
}

impl Record {
    pub fn from_body(body: Body) -> Self {
        let kind = match &body {
            Body::Text(_) => Kind::Text,
            Body::PromptCompletion { .. } => Kind::PromptCompletion,
            Body::Messages(_) => Kind::Messages,
        };
        Self { kind, body, tools: None, weight: 1.0, columns: Map::new(), place: Place::default(), id: 0 }
    }

    /// The turns, a prompt and its completion as user and assistant. `None` for plain text.
    pub fn messages(&self) -> Option<Vec<Message>> {
        match &self.body {
            Body::Text(_) => None,
            Body::PromptCompletion { prompt, completion } => {
                Some(vec![Message::new("user", prompt.as_str()), Message::new("assistant", completion.as_str())])
            }
            Body::Messages(turns) => Some(turns.clone()),
        }
    }
}

/// How rows become records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// `None`: found from the columns of each file's first row.
    pub kind: Option<Kind>,
    pub columns: Columns,
    pub roles: Roles,
}

impl Layout {
    /// The kind of a row.
    pub fn detect(&self, row: &Map<String, Value>) -> Result<Kind> {
        if let Some(kind) = self.kind {
            return self.check(kind, row).map(|()| kind);
        }
        let fits = |kind: &Kind| kind.required().iter().all(|f| row.contains_key(self.columns.of(f)));
        let named = |kind: &Kind| kind.required().iter().any(|f| self.columns.names(f));
        // A kind whose columns the user named goes before what happens to be there.
        let found = Kind::ALL.into_iter().find(|k| named(k) && fits(k)).or_else(|| {
            if let Some(kind) = Kind::ALL.into_iter().find(named) {
                self.check(kind, row).err()?;
                return None;
            }
            Kind::ALL.into_iter().find(fits)
        });
        if let Some(kind) = found {
            return Ok(kind);
        }
        if let Some(kind) = Kind::ALL.into_iter().find(named) {
            self.check(kind, row)?;
        }
        let fitting: Vec<String> = Kind::ALL.iter().map(|k| k.required().join(" + ")).collect();
        Err(Error::usage(format!("the columns fit no known kind of record (found: {})", found_names(row))).help(
            format!(
                "expected one of: {}; or name them, for example --columns prompt=KEY,completion=KEY",
                fitting.join("; ")
            ),
        ))
    }

    fn check(&self, kind: Kind, row: &Map<String, Value>) -> Result<()> {
        match kind.required().iter().map(|f| (*f, self.columns.of(f))).find(|(_, column)| !row.contains_key(*column)) {
            None => Ok(()),
            Some((field, column)) => {
                Err(Error::usage(format!("a {kind} record needs the column `{column}` (found: {})", found_names(row)))
                    .help(format!("name it with --columns {field}=KEY, or give another --kind")))
            }
        }
    }

    /// Reads a row of a known kind.
    pub fn record(&self, kind: Kind, mut row: Map<String, Value>) -> Result<Record> {
        self.check(kind, &row)?;
        let row = std::cell::RefCell::new(&mut row);
        let take = |field: &str| row.borrow_mut().shift_remove(self.columns.of(field)).filter(|v| !v.is_null());
        let need = |field: &str| -> Result<Value> {
            take(field).ok_or_else(|| Error::work(format!("`{}` is null", self.columns.of(field))))
        };
        let mut tools = None;
        let body = match kind {
            Kind::Text => Body::Text(text(need("text")?, "text")?),
            Kind::Messages => Body::Messages(self.turns(need("messages")?, kind, "messages")?),
            Kind::ShareGpt => Body::Messages(self.turns(need("conversations")?, kind, "conversations")?),
            Kind::PromptCompletion => {
                let (prompt, completion) = (need("prompt")?, need("completion")?);
                if prompt.is_array() || completion.is_array() {
                    Body::Messages(self.prompt_turns(prompt, completion)?)
                } else {
                    Body::PromptCompletion {
                        prompt: text(prompt, "prompt")?,
                        completion: text(completion, "completion")?,
                    }
                }
            }
            Kind::QuestionAnswer => Body::Messages(vec![
                Message::new("user", text(need("question")?, "question")?),
                Message::new("assistant", text(need("answer")?, "answer")?),
            ]),
            Kind::Alpaca => {
                let instruction = text(need("instruction")?, "instruction")?;
                let answer = text(need("output")?, "output")?;
                let input = take("input").map(|v| text(v, "input")).transpose()?.unwrap_or_default();
                let asked = if input.trim().is_empty() { instruction } else { format!("{instruction}\n{input}") };
                let mut turns = history(take("history"))?;
                turns.extend([Message::new("user", asked), Message::new("assistant", answer)]);
                Body::Messages(turns)
            }
        };
        let mut body = body;
        for field in kind.optional() {
            match *field {
                "system" => {
                    let system = take("system").map(|v| text(v, "system")).transpose()?.filter(|s| !s.is_empty());
                    if let Some(system) = system {
                        body = with_system(body, system);
                    }
                }
                "tools" => {
                    tools = take("tools").map(parse_nested).filter(|t| t.as_array().is_none_or(|l| !l.is_empty()))
                }
                _ => {}
            }
        }
        let weight = if self.columns.names("weight") {
            match take("weight").map(|v| v.as_f64().or_else(|| v.as_str()?.trim().parse().ok())) {
                Some(Some(w)) if w.is_finite() => w as f32,
                _ => return Err(Error::work(format!("`{}` is not a finite number", self.columns.of("weight")))),
            }
        } else {
            1.0
        };
        let columns = std::mem::take(*row.borrow_mut());
        Ok(Record { kind, body, tools, weight, columns, place: Place::default(), id: 0 })
    }

    fn turns(&self, list: Value, kind: Kind, name: &str) -> Result<Vec<Message>> {
        let Value::Array(list) = parse_nested(list) else {
            return Err(Error::work(format!("`{name}` is not a list of messages")));
        };
        if list.is_empty() {
            return Err(Error::work(format!("`{name}` is an empty list")));
        }
        let each = |(i, turn): (usize, Value)| self.turn(turn, kind).map_err(|e| e.at(format!("{name}[{i}]")));
        list.into_iter().enumerate().map(each).collect()
    }

    /// Conversational prompt and completion: only the completion's turns are trained on.
    fn prompt_turns(&self, prompt: Value, completion: Value) -> Result<Vec<Message>> {
        let part = |value: Value, role: &str, name: &str| match value {
            Value::Array(_) => self.turns(value, Kind::Messages, name),
            other => Ok(vec![Message::new(role, text(other, name)?)]),
        };
        let mut turns = part(prompt, "user", "prompt")?;
        turns.iter_mut().for_each(|t| t.train = Some(false));
        turns.extend(part(completion, "assistant", "completion")?);
        Ok(turns)
    }

    fn turn(&self, turn: Value, kind: Kind) -> Result<Message> {
        let Value::Object(mut turn) = turn else {
            return Err(Error::work("a message is not an object").help("each message is {\"role\": …, \"content\": …}"));
        };
        let mut take = |names: [&str; 2]| names.iter().find_map(|n| turn.shift_remove(*n));
        let Some(Value::String(said)) = take(["role", "from"]) else {
            return Err(Error::work(format!("a message has no `role` (found: {})", found_names(&turn))));
        };
        let content = take(["content", "value"]).unwrap_or(Value::Null);
        let mut message = Message { role: self.role(&said, kind)?, content: joined(content)?, ..Message::default() };
        if said == "function_call" && message.role == "assistant" {
            let call = parse_nested(Value::String(std::mem::take(&mut message.content)));
            let calls = if call.is_array() { call } else { json!([call]) };
            let calls = calls.as_array().into_iter().flatten().map(|c| json!({"type": "function", "function": c}));
            message.tool_calls = Some(calls.collect());
        }
        let texts = |v: Value| v.as_str().map(str::to_string).filter(|s| !s.is_empty());
        message.reasoning_content = turn.shift_remove("reasoning_content").and_then(texts);
        let calls = turn.shift_remove("tool_calls").filter(|c| c.as_array().is_some_and(|l| !l.is_empty()));
        message.tool_calls = calls.or(message.tool_calls);
        // OpenAI's files say `weight: 0` where others say `train: false`.
        let weight = turn.shift_remove("weight").and_then(|w| w.as_f64());
        message.train = turn.shift_remove("train").and_then(|t| t.as_bool()).or(weight.map(|w| w != 0.0));
        message.other = turn.into_iter().filter(|(_, v)| !v.is_null()).collect();
        Ok(message)
    }

    fn role(&self, said: &str, kind: Kind) -> Result<String> {
        if let Some(role) = self.roles.given(said) {
            return Ok(role.into());
        }
        let known = match said {
            "human" => "user",
            "gpt" | "chatgpt" | "bing" | "bard" | "model" | "function_call" => "assistant",
            "observation" | "function_response" => "tool",
            "user" | "assistant" | "system" | "tool" | "developer" | "function" | "ipython" => said,
            _ if kind == Kind::ShareGpt => {
                return Err(Error::work(format!("the role `{said}` is not known"))
                    .help(format!("name it with --roles {said}=user (or assistant, system, tool)")));
            }
            _ => said,
        };
        Ok(known.into())
    }
}

fn found_names(row: &Map<String, Value>) -> String {
    if row.is_empty() {
        return "none".into();
    }
    let mut names: Vec<&str> = row.keys().take(20).map(String::as_str).collect();
    if row.len() > names.len() {
        names.push("…");
    }
    names.join(", ")
}

/// Texts stay, numbers and truth values are written out (an answer is often a number).
fn text(value: Value, name: &str) -> Result<String> {
    match value {
        Value::String(s) => Ok(s),
        Value::Number(n) => Ok(n.to_string()),
        Value::Bool(b) => Ok(b.to_string()),
        other => Err(Error::work(format!("`{name}` is not a text but {}", shape(&other)))),
    }
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        _ => "a plain value",
    }
}

/// JSON that a table stored as a text.
fn parse_nested(value: Value) -> Value {
    match &value {
        Value::String(s) if s.trim_start().starts_with(['[', '{']) => serde_json::from_str(s).unwrap_or(value),
        _ => value,
    }
}

/// A message's content: a text, or a list of parts of which only texts can be used.
fn joined(content: Value) -> Result<String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::Array(parts) => {
            let part = |part: Value| match part {
                Value::String(s) => Ok(s),
                Value::Object(map) => match (map.get("type").and_then(Value::as_str), map.get("text")) {
                    (Some("text" | "input_text" | "output_text") | None, Some(Value::String(s))) => Ok(s.clone()),
                    (kind, _) => Err(Error::work(format!(
                        "a content part of type `{}` cannot be used: only text is",
                        kind.unwrap_or("unknown")
                    ))
                    .help("drop such records, or replace the part by a text")),
                },
                other => Err(Error::work(format!("a content part is {}", shape(&other)))),
            };
            Ok(parts.into_iter().map(part).collect::<Result<Vec<_>>>()?.join("\n"))
        }
        other => text(other, "content"),
    }
}

/// Alpaca's earlier turns: a list of [asked, answered].
fn history(list: Option<Value>) -> Result<Vec<Message>> {
    let wrong = || Error::work("`history` is not a list of [question, answer] pairs");
    let mut turns = Vec::new();
    let Some(list) = list.map(parse_nested).filter(|l| l.as_str().is_none_or(|s| !s.trim().is_empty())) else {
        return Ok(turns);
    };
    for pair in list.as_array().ok_or_else(wrong)? {
        let [asked, answered] = pair.as_array().map(Vec::as_slice).ok_or_else(wrong)? else { return Err(wrong()) };
        turns.push(Message::new("user", text(asked.clone(), "history")?));
        turns.push(Message::new("assistant", text(answered.clone(), "history")?));
    }
    Ok(turns)
}

fn with_system(body: Body, system: String) -> Body {
    let system = Message::new("system", system);
    match body {
        Body::PromptCompletion { prompt, completion } => {
            Body::Messages(vec![system, Message::new("user", prompt), Message::new("assistant", completion)])
        }
        Body::Messages(mut turns) if turns.first().is_none_or(|t| t.role != "system") => {
            turns.insert(0, system);
            Body::Messages(turns)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(layout: &Layout, row: Value) -> Result<Record> {
        let Value::Object(row) = row else { panic!("an object") };
        let kind = layout.detect(&row)?;
        layout.record(kind, row)
    }

    fn turns(row: Value) -> Vec<(String, String)> {
        let record = read(&Layout::default(), row).unwrap();
        record.messages().unwrap().into_iter().map(|m| (m.role, m.content)).collect()
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.into(), b.into())
    }

    #[test]
    fn every_layout_comes_to_the_same_turns() {
        let want = vec![pair("user", "2+2?"), pair("assistant", "4")];
        assert_eq!(
            turns(json!({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]})),
            want
        );
        assert_eq!(
            turns(json!({"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]})),
            want
        );
        assert_eq!(turns(json!({"prompt": "2+2?", "completion": 4})), want);
        assert_eq!(turns(json!({"question": "2+2?", "answer": "4"})), want);
        assert_eq!(turns(json!({"instruction": "2+2?", "input": "", "output": "4"})), want);
        assert_eq!(
            turns(
                json!({"prompt": [{"role": "user", "content": "2+2?"}], "completion": [{"role": "assistant", "content": "4"}]})
            ),
            want
        );
        let long =
            turns(json!({"instruction": "c", "input": "d", "output": "e", "system": "s", "history": [["a", "b"]]}));
        assert_eq!(
            long,
            [
                pair("system", "s"),
                pair("user", "a"),
                pair("assistant", "b"),
                pair("user", "c\nd"),
                pair("assistant", "e")
            ]
        );
        let parts = turns(
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}),
        );
        assert_eq!(parts, [pair("user", "a\nb")]);
    }

    #[test]
    fn other_columns_and_marks_stay() {
        let row = json!({"messages": [
            {"role": "assistant", "content": null, "reasoning_content": "r", "train": false, "name": "n",
             "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "assistant", "content": "x", "weight": 0}], "tools": "[{\"a\": 1}]", "level": 3});
        let record = read(&Layout::default(), row).unwrap();
        let Body::Messages(turns) = &record.body else { panic!() };
        assert_eq!(
            (turns[0].reasoning_content.as_deref(), turns[0].train, turns[1].train),
            (Some("r"), Some(false), Some(false))
        );
        assert_eq!(turns[0].other["name"], "n");
        assert!(turns[0].tool_calls.is_some());
        assert_eq!(record.tools, Some(json!([{"a": 1}])));
        assert_eq!(record.columns["level"], 3);
    }

    #[test]
    fn names_are_mapped_and_wrong_ones_explained() {
        let layout = Layout { columns: "prompt=q,completion=a,weight=w".parse().unwrap(), ..Layout::default() };
        let record = read(&layout, json!({"q": "x", "a": "y", "w": 0.5, "text": "z"})).unwrap();
        assert_eq!((record.kind, record.weight), (Kind::PromptCompletion, 0.5));
        let e = read(&layout, json!({"q": "x", "text": "z", "w": 1})).unwrap_err();
        assert!(e.to_string().contains("needs the column `a` (found: q, text, w)"), "{e}");
        let e = read(&Layout::default(), json!({"foo": 1, "bar": 2})).unwrap_err().to_string();
        assert!(e.contains("found: foo, bar") && e.contains("question + answer"), "{e}");
        let e = read(&Layout::default(), json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}))
            .unwrap_err();
        assert!(e.to_string().contains("`image_url`") && e.to_string().contains("messages[0]"), "{e}");
        let e = read(&Layout::default(), json!({"conversations": [{"from": "alien", "value": "x"}]})).unwrap_err();
        assert!(e.to_string().contains("--roles alien=user"), "{e}");
        let layout = Layout { roles: "alien=user".parse().unwrap(), ..Layout::default() };
        assert!(read(&layout, json!({"conversations": [{"from": "alien", "value": "x"}]})).is_ok());
        assert_eq!("columns".parse::<Columns>().unwrap_err().exit_code(), 2);
        assert!("prompts=x".parse::<Columns>().is_err());
        assert_eq!("ShareGPT".parse::<Kind>().unwrap(), Kind::ShareGpt);
    }
}
