//! TOML as a tree whose values know where they are written.

use std::ops::Range;
use std::sync::Arc;

use postgrad_base::Result;
use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::fault::{Source, Span, unknown};

/// Tables inside tables, at most.
const DEPTH: usize = 24;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub what: What,
    /// The value; of a table with a header, the header.
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub at: Span,
    pub node: Node,
}

impl Node {
    /// A whole file.
    pub fn parse(source: &Arc<Source>) -> Result<Node> {
        let table = DeTable::parse(&source.text).map_err(|e| bad_toml(&e, source, 0))?;
        let span = Span::new(source, 0..0);
        Self::table(table.get_ref(), span, source, 0, 0)
    }

    /// The value after the `=` of a `--set`: TOML where it is TOML, else its own words.
    pub fn argument(source: &Arc<Source>, range: Range<usize>) -> Result<Node> {
        let (text, at) = (&source.text[range.clone()], range.start);
        let words = || Node { what: What::Text(text.into()), span: Span::new(source, range.clone()) };
        match DeValue::parse(text) {
            Ok(value) if !value.get_ref().is_datetime() => {
                let inner = value.span();
                Self::value(value.get_ref(), Span::new(source, at + inner.start..at + inner.end), source, at, 0)
            }
            Err(e) if text.trim_start().starts_with(['[', '{', '"', '\'']) => Err(bad_toml(&e, source, at)),
            _ => Ok(words()),
        }
    }

    fn value(value: &DeValue, span: Span, source: &Arc<Source>, offset: usize, depth: usize) -> Result<Node> {
        if depth > DEPTH {
            return Err(span.fault(format!("values lie more than {DEPTH} deep in each other")));
        }
        let what = match value {
            DeValue::Boolean(b) => What::Bool(*b),
            DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
                Ok(n) => What::Int(n),
                Err(_) => return Err(span.fault("this integer has no room in 64 bits")),
            },
            DeValue::Float(f) => match f.as_str().parse::<f64>() {
                Ok(x) if x.is_finite() => What::Float(x),
                _ => return Err(span.fault("a finite number is needed")),
            },
            DeValue::String(s) => What::Text(s.to_string()),
            DeValue::Datetime(_) => return Err(span.fault("dates mean nothing here").help("quote it")),
            DeValue::Array(list) => {
                let inner = |v: &toml::Spanned<DeValue>| {
                    let span = Span::new(source, offset + v.span().start..offset + v.span().end);
                    Self::value(v.get_ref(), span, source, offset, depth + 1)
                };
                What::List(list.iter().map(inner).collect::<Result<_>>()?)
            }
            DeValue::Table(table) => return Self::table(table, span, source, offset, depth),
        };
        Ok(Node { what, span })
    }

    fn table(table: &DeTable, span: Span, source: &Arc<Source>, offset: usize, depth: usize) -> Result<Node> {
        let place = |r: Range<usize>| Span::new(source, offset + r.start..offset + r.end);
        let entry = |(k, v): (&toml::Spanned<_>, &toml::Spanned<DeValue>)| {
            let key: &std::borrow::Cow<str> = k.get_ref();
            let node = Self::value(v.get_ref(), place(v.span()), source, offset, depth + 1)?;
            Ok(Entry { key: key.to_string(), at: place(k.span()), node })
        };
        let mut entries: Vec<Entry> = table.iter().map(entry).collect::<Result<_>>()?;
        entries.sort_by_key(|e| e.at.start());
        Ok(Node { what: What::Table(entries), span })
    }

    /// A plain value, all of it said to stand at `span`.
    pub fn of_json(value: &Value, span: &Span) -> Node {
        let what = match value {
            Value::Null => What::Text(String::new()),
            Value::Bool(b) => What::Bool(*b),
            Value::Number(n) => n.as_i64().map_or_else(|| What::Float(n.as_f64().unwrap_or(f64::NAN)), What::Int),
            Value::String(s) => What::Text(s.clone()),
            Value::Array(list) => What::List(list.iter().map(|v| Self::of_json(v, span)).collect()),
            Value::Object(map) => {
                let entry = |(k, v): (&String, &Value)| Entry {
                    key: k.clone(),
                    at: span.clone(),
                    node: Self::of_json(v, span),
                };
                What::Table(map.iter().map(entry).collect())
            }
        };
        Node { what, span: span.clone() }
    }

    pub fn to_json(&self) -> Value {
        match &self.what {
            What::Bool(b) => json!(b),
            What::Int(n) => json!(n),
            What::Float(x) => json!(x),
            What::Text(s) => json!(s),
            What::List(list) => list.iter().map(Self::to_json).collect(),
            What::Table(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// What it is, for a sentence.
    pub fn kind(&self) -> String {
        match &self.what {
            What::Bool(b) => format!("`{b}`"),
            What::Int(n) => format!("the integer {n}"),
            What::Float(x) => format!("the number {x}"),
            What::Text(s) if s.chars().count() > 40 => "a string".into(),
            What::Text(s) => format!("the string {s:?}"),
            What::List(_) => "a list".into(),
            What::Table(_) => "a table".into(),
        }
    }

    /// An error: this is something else than expected.
    pub fn not(&self, expected: &str) -> postgrad_base::Error {
        self.span.fault(format!("expected {expected}, found {}", self.kind()))
    }

    pub fn text(&self) -> Result<&str> {
        if let What::Text(s) = &self.what { Ok(s) } else { Err(self.not("a string")) }
    }

    pub fn number(&self) -> Result<f64> {
        match self.what {
            What::Int(n) => Ok(n as f64),
            What::Float(x) => Ok(x),
            _ => Err(self.not("a number")),
        }
    }

    pub fn flag(&self) -> Result<bool> {
        if let What::Bool(b) = self.what { Ok(b) } else { Err(self.not("`true` or `false`")) }
    }

    pub fn list(&self) -> Result<&[Node]> {
        if let What::List(list) = &self.what { Ok(list) } else { Err(self.not("a list")) }
    }

    pub fn entries(&self) -> Result<&[Entry]> {
        if let What::Table(entries) = &self.what { Ok(entries) } else { Err(self.not("a table")) }
    }

    /// A table's entry; none where this is no table.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().ok()?.iter().find(|e| e.key == key)
    }

    /// Refuses entries of other names. `of` says whose keys they are: "a claim".
    pub fn only(&self, of: &str, known: &[&str]) -> Result<()> {
        match self.entries()?.iter().find(|e| !known.contains(&e.key.as_str())) {
            Some(e) => Err(e.at.locate(unknown(format!("{of} has no key `{}`", e.key), &e.key, known))),
            None => Ok(()),
        }
    }

    /// Lays `over` on top: tables entry by entry, anything else replaced.
    pub fn merge(&mut self, over: &Node) {
        let (What::Table(mine), What::Table(theirs)) = (&mut self.what, &over.what) else {
            *self = over.clone();
            return;
        };
        for e in theirs {
            match mine.iter_mut().find(|m| m.key == e.key) {
                Some(m) if matches!(m.node.what, What::Table(_)) && matches!(e.node.what, What::Table(_)) => {
                    m.node.merge(&e.node);
                }
                Some(m) => *m = e.clone(),
                None => mine.push(e.clone()),
            }
        }
    }

    /// A table that holds `node` at a path of keys.
    pub fn nested(path: &[&str], at: &Span, node: Node) -> Node {
        path.iter().rev().fold(node, |node, key| Node {
            span: at.clone(),
            what: What::Table(vec![Entry { key: key.to_string(), at: at.clone(), node }]),
        })
    }

    /// The node at a path as serde's errors write it (`corrupt.rate`, `data[1]`), or as far as the path leads, with the key
    /// that it stands under.
    pub fn at_path(&self, path: &str) -> (&Node, Option<&Span>) {
        let (mut node, mut key, mut rest) = (self, None, path);
        while !rest.is_empty() {
            let next = match &node.what {
                What::Table(entries) => entries.iter().find_map(|e| {
                    let left = rest.strip_prefix(e.key.as_str())?;
                    (left.is_empty() || left.starts_with(['.', '['])).then_some((&e.node, Some(&e.at), left))
                }),
                What::List(list) => rest.strip_prefix('[').and_then(|r| {
                    let (index, left) = r.split_once(']')?;
                    Some((list.get(index.parse::<usize>().ok()?)?, None, left))
                }),
                _ => None,
            };
            let Some((n, k, left)) = next else { break };
            (node, key, rest) = (n, k, left.strip_prefix('.').unwrap_or(left));
        }
        (node, key)
    }

    /// The first string or key, depth first, that `test` takes: its span.
    pub fn find(&self, test: &dyn Fn(&str) -> bool) -> Option<&Span> {
        match &self.what {
            What::Text(s) => test(s).then_some(&self.span),
            What::List(list) => list.iter().find_map(|n| n.find(test)),
            What::Table(entries) => {
                entries.iter().find_map(|e| if test(&e.key) { Some(&e.at) } else { e.node.find(test) })
            }
            _ => None,
        }
    }
}

fn bad_toml(e: &toml::de::Error, source: &Arc<Source>, offset: usize) -> postgrad_base::Error {
    let range = e.span().unwrap_or(0..0);
    let span = Span::new(source, offset + range.start..offset + range.end);
    let name = if e.message() == "duplicate key" { format!(" `{}`", span.written()) } else { String::new() };
    span.fault(format!("not TOML: {}{name}", e.message()))
}
