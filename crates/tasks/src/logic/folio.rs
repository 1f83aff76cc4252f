//! Reads stories in FOLIO's layout: `premises-FOL` (a list, or one text with a formula per line), `conclusion-FOL` and
//! `label` (`True`, `False`, `Uncertain` or `Unknown`); counts what parses and how labels compare with what follows.
//!
//! FOLIO itself is CC-BY-SA-4.0 and is read from the user's own copy.

use std::collections::BTreeMap;

use serde_json::Value;

use super::entail::{Limits, entails};
use super::parse::{ErrorKind, parse};
use super::sat::Answer;

#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub records: usize,
    pub formulas: usize,
    pub parsed: usize,
    /// Formulas that did not parse, by kind, with the first few of each.
    pub failures: BTreeMap<ErrorKind, Failures>,
    /// Records all of whose formulas parse and that have a label.
    pub whole: usize,
    /// Of those, label and what follows from the premises.
    pub verdicts: BTreeMap<(String, String), usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Failures {
    pub count: usize,
    pub examples: Vec<String>,
}

/// Counts over records; `decide` also asks what follows.
pub fn count<'a>(records: impl IntoIterator<Item = &'a Value>, decide: bool) -> Counts {
    let mut c = Counts::default();
    for r in records {
        c.records += 1;
        let premises = match &r["premises-FOL"] {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            Value::String(s) => s.lines().collect(),
            _ => vec![],
        };
        let texts: Vec<&str> = premises.into_iter().chain(r["conclusion-FOL"].as_str()).collect();
        let mut formulas = vec![];
        for text in &texts {
            c.formulas += 1;
            match parse(text) {
                Ok(f) => {
                    c.parsed += 1;
                    formulas.push(f);
                }
                Err(e) => {
                    let kind = c.failures.entry(e.kind).or_default();
                    kind.count += 1;
                    if kind.examples.len() < 3 {
                        kind.examples.push(format!("{} [{e}]", text.trim()));
                    }
                }
            }
        }
        let (Some(label), true) = (r["label"].as_str(), r["conclusion-FOL"].is_string()) else { continue };
        if formulas.len() == texts.len() && !formulas.is_empty() {
            c.whole += 1;
            if decide {
                let conclusion = formulas.pop().expect("not empty");
                let answer = entails(&formulas, &conclusion, Limits::default());
                let label = if label == "Unknown" { "Uncertain" } else { label };
                *c.verdicts.entry((label.to_string(), name(answer).to_string())).or_default() += 1;
            }
        }
    }
    c
}

fn name(a: Answer) -> &'static str {
    match a {
        Answer::True => "True",
        Answer::False => "False",
        Answer::Uncertain => "Uncertain",
        Answer::Inconsistent => "Inconsistent",
        Answer::Unknown => "Unknown",
    }
}
