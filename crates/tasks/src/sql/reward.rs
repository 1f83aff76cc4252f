//! Rewards for text-to-SQL completions.

use std::collections::BTreeSet;

use super::compare::{Compare, Parts, parts};
use super::database::{Database, Limits, SqlError, Table};

/// The query in a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    pub sql: String,
    /// The whole completion is `<reasoning>…</reasoning><answer>…</answer>`, each tag once.
    pub format: bool,
}

/// Text in answer tags, else the last fenced block of SQL, else everything.
pub fn extract(completion: &str) -> Extracted {
    let sql = between(completion, "<answer>", "</answer>").unwrap_or(completion);
    Extracted { sql: fenced(sql).unwrap_or(sql).trim().to_string(), format: well_formed(completion) }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let rest = &text[text.rfind(open)? + open.len()..];
    Some(&rest[..rest.find(close)?])
}

/// The inside of the last fence that is marked as SQL or not marked.
fn fenced(text: &str) -> Option<&str> {
    let mut best = None;
    let mut rest = text;
    while let Some(start) = rest.find("```") {
        let body = &rest[start + 3..];
        let Some(end) = body.find("```") else { break };
        let inside = &body[..end];
        let mark = inside.lines().next().unwrap_or("").trim();
        if mark.eq_ignore_ascii_case("sql") || mark.eq_ignore_ascii_case("sqlite") {
            best = Some(inside.trim_start().get(mark.len()..).unwrap_or(""));
        } else if mark.is_empty() {
            best = Some(inside);
        }
        rest = &body[end + 3..];
    }
    best
}

fn well_formed(completion: &str) -> bool {
    let tags = ["<reasoning>", "</reasoning>", "<answer>", "</answer>"];
    let once = tags.iter().all(|t| completion.matches(t).count() == 1);
    let text = completion.trim();
    let middle = text.find(tags[1]).zip(text.find(tags[2]));
    once && text.starts_with(tags[0])
        && text.ends_with(tags[3])
        && middle.is_some_and(|(end, start)| {
            end + tags[1].len() <= start && text[end + tags[1].len()..start].trim().is_empty()
        })
}

/// -1 if fewer than half of the completion's five-word runs are different ones, else 0.
pub fn repetition_penalty(completion: &str) -> f64 {
    let words: Vec<&str> = completion.split_whitespace().collect();
    let runs = words.windows(5).count();
    let distinct = words.windows(5).collect::<BTreeSet<_>>().len();
    if runs > 0 && (distinct as f64) < 0.5 * runs as f64 { -1.0 } else { 0.0 }
}

/// A completion's verdict, from which every reward is computed.
#[derive(Clone, Debug)]
pub struct Judged {
    pub sql: String,
    pub format: bool,
    /// The query ran; if not, why.
    pub error: Option<SqlError>,
    /// The results are the same by the comparison asked for.
    pub exact: bool,
    /// All 0 if the query did not run.
    pub parts: Parts,
}

/// Runs a completion's query and compares it with the gold result.
pub fn judge(db: &Database, gold: &Table, completion: &str, compare: Compare, limits: &Limits) -> Judged {
    let Extracted { sql, format } = extract(completion);
    match db.query(&sql, limits) {
        Ok(t) => Judged { sql, format, error: None, exact: compare.same(gold, &t), parts: parts(gold, &t) },
        Err(e) => Judged { sql, format, error: Some(e), exact: false, parts: Parts::default() },
    }
}

fn unit(b: bool) -> f64 {
    f64::from(u8::from(b))
}

impl Judged {
    /// 0.85 for the right result, 0.15 for the format.
    pub fn execution(&self) -> f64 {
        0.85 * unit(self.exact) + 0.15 * unit(self.format)
    }

    /// 0.95 for the dense parts, 0.05 for the format.
    pub fn dense(&self) -> f64 {
        0.95 * self.parts.dense() + 0.05 * unit(self.format)
    }

    /// 0 for an error, 1 for the right result, else the dense parts (at least 0.1) if the format is right.
    pub fn gated(&self) -> f64 {
        match (&self.error, self.exact, self.format) {
            (Some(_), _, _) => 0.0,
            (None, true, _) => 1.0,
            (None, false, true) => self.parts.dense().max(0.1),
            (None, false, false) => 0.0,
        }
    }

    /// 1 for the right result, 0.1 for a query that runs, else 0.
    pub fn three_level(&self) -> f64 {
        if self.exact { 1.0 } else { 0.1 * unit(self.error.is_none()) }
    }

    /// SQL-R1's sum without its length bonus: format ±1, then execution ±2, then result ±3, each only if the one before
    /// is right.
    pub fn stepped(&self) -> f64 {
        match (self.format, self.error.is_none(), self.exact) {
            (false, _, _) => -1.0,
            (true, false, _) => 1.0 - 2.0,
            (true, true, exact) => 1.0 + 2.0 + if exact { 3.0 } else { -3.0 },
        }
    }
}
