//! `trace-length`: how long each trace is, and what of it is repetition.
//!
//! A row a record: `length` in characters or tokens, `repeats` (share of its word n-grams that came before: degenerate loops
//! are long and teach nothing; `select` leaves them out by `where = { repeats = { max = 0.3 } }`), `second_thoughts` (words such
//! as *wait*, ours: the paper gives no list). `rethinking.json` reports second thoughts by bucket of length, and Spearman's
//! correlation of both.

use std::collections::HashSet;

use postgrad_base::{Context, Error, Result, fs};
use postgrad_data::Record;
use postgrad_lab::stage::{Cx, Input, Stage};
use postgrad_lab::store::Item;
use postgrad_numerics::spearman;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub struct TraceLength;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: Input,
    #[serde(default)]
    pub unit: Unit,
    /// Whose tokenizer counts where `unit` is tokens.
    #[serde(default)]
    pub model: Option<Input>,
    /// A line that came before in the trace counts once.
    #[serde(default)]
    pub dedupe: bool,
    /// Words of an n-gram.
    #[serde(default = "eight")]
    pub ngram: usize,
    /// Buckets of the report, equally full.
    #[serde(default = "five")]
    pub buckets: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    #[default]
    Characters,
    Tokens,
}

fn eight() -> usize {
    8
}
fn five() -> usize {
    5
}

/// Words and phrases of second thoughts, in lower case.
pub const SECOND_THOUGHTS: [&str; 16] = [
    "wait",
    "hmm",
    "alternatively",
    "maybe",
    "however",
    "actually",
    "recheck",
    "double-check",
    "let me check",
    "let me verify",
    "let me think again",
    "on second thought",
    "another way",
    "instead",
    "mistake",
    "not right",
];

impl Stage for TraceLength {
    const NAME: &'static str = "trace-length";
    const ABOUT: &'static str = "length, repetition and second thoughts of traces (Select2Reason)";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if (config.unit == Unit::Tokens) != config.model.is_some() {
            return Err(Error::usage("`model` and unit = \"tokens\" belong together"));
        }
        if config.ngram == 0 || config.buckets == 0 {
            return Err(Error::usage("`ngram` and `buckets` must be 1 or more"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let records = cx.records(&config.data)?;
        let model = config.model.as_ref().map(|m| cx.model(m)).transpose()?;
        let mut rows = Vec::with_capacity(records.len());
        let mut points = Vec::with_capacity(records.len());
        for (i, record) in records.iter().enumerate() {
            let trace = trace(record)?;
            let measured = if config.dedupe { dedupe(&trace) } else { trace.clone() };
            let length = match &model {
                Some(model) => model.renderer.tokenizer().encode(&measured)?.len(),
                None => measured.chars().count(),
            };
            let thoughts = second_thoughts(&trace);
            points.push((length as f64, thoughts as f64));
            let metrics =
                json!({"length": length, "repeats": repeats(&trace, config.ngram), "second_thoughts": thoughts});
            let metrics = metrics.as_object().cloned().unwrap_or_default();
            rows.push(Item { item: i.to_string(), cluster: None, metrics });
        }
        let report = serde_json::to_string_pretty(&report(&points, config.buckets))
            .context(|| "cannot write the report".into())?;
        fs::write(&cx.out.join("rethinking.json"), report.as_bytes())?;
        cx.write_rows(&rows)
    }
}

/// What the model is to write: the last assistant turn with its thoughts, or the text.
pub fn trace(record: &Record) -> Result<String> {
    let Some(turns) = record.messages() else {
        return match &record.body {
            postgrad_data::Body::Text(text) => Ok(text.clone()),
            _ => Ok(String::new()),
        };
    };
    let last = turns
        .iter()
        .rfind(|t| t.role == "assistant")
        .ok_or_else(|| Error::work("the record has no trace: no completion and no assistant turn").at(&record.place))?;
    Ok(match &last.reasoning_content {
        Some(thoughts) => format!("{thoughts}\n{}", last.content),
        None => last.content.clone(),
    })
}

/// The text with each line (white space aside) at its first place alone.
pub fn dedupe(text: &str) -> String {
    let mut seen = HashSet::new();
    let kept: Vec<&str> = text.lines().filter(|l| l.trim().is_empty() || seen.insert(l.trim())).collect();
    kept.join("\n")
}

/// Share of word n-grams that stood in the text before; 0 for a text shorter than one.
pub fn repeats(text: &str, n: usize) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let grams = words.windows(n.max(1));
    let all = grams.len();
    let mut seen = HashSet::with_capacity(all);
    let again = grams.filter(|g| !seen.insert(*g)).count();
    if all == 0 { 0.0 } else { again as f64 / all as f64 }
}

/// How often a word or phrase of second thoughts stands in a text, as whole words.
pub fn second_thoughts(text: &str) -> usize {
    let text = text.to_lowercase();
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let count = |phrase: &str| {
        let whole =
            |at: usize| !inside(text[..at].chars().next_back()) && !inside(text[at + phrase.len()..].chars().next());
        text.match_indices(phrase).filter(|(at, _)| whole(*at)).count()
    };
    SECOND_THOUGHTS.iter().map(|p| count(p)).sum()
}

fn report(points: &[(f64, f64)], buckets: usize) -> serde_json::Value {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = sorted.len();
    let cut = |b: usize| b * n / buckets;
    let table: Vec<serde_json::Value> = (0..buckets)
        .filter(|b| cut(*b) < cut(b + 1))
        .map(|b| {
            let part = &sorted[cut(b)..cut(b + 1)];
            let mean = part.iter().map(|p| p.1).sum::<f64>() / part.len() as f64;
            json!({"from": part[0].0, "to": part[part.len() - 1].0, "traces": part.len(), "second_thoughts": mean})
        })
        .collect();
    let (lengths, thoughts): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    let correlation = Some(spearman(&lengths, &thoughts, None)).filter(|c| c.is_finite());
    json!({"traces": n, "spearman": correlation, "buckets": table})
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_lab::stage::{Kind, Place, alone, golden};

    #[test]
    fn loops_are_seen_and_second_thoughts_are_whole_words() {
        assert_eq!(repeats("a b c d", 2), 0.0);
        assert_eq!(repeats("a b a b a b", 2), 3.0 / 5.0);
        assert_eq!(repeats("a", 3), 0.0);
        assert_eq!(dedupe("x\n y\nx\n\n\nz"), "x\n y\n\n\nz");
        assert_eq!(second_thoughts("Wait, the waiter waits. Hmm... wait! Let me check."), 4);
        assert_eq!(second_thoughts(""), 0);
    }

    #[test]
    fn longer_traces_with_more_doubts_correlate() {
        let points: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i), f64::from(i / 3))).collect();
        let report = report(&points, 3);
        assert_eq!(report["buckets"].as_array().unwrap().len(), 3);
        assert!(report["spearman"].as_f64().unwrap() > 0.95);
        assert!(super::report(&[(1.0, 2.0), (2.0, 2.0)], 3)["spearman"].is_null());
    }

    fn pool(dir: &std::path::Path) -> Place {
        let file = dir.join("p.jsonl");
        let rows = [
            r#"{"question": "1+1?", "answer": "Two.\nWait, two.\nWait, two."}"#,
            r#"{"question": "2+1?", "answer": "Three."}"#,
        ];
        std::fs::write(&file, rows.join("\n")).unwrap();
        Place::Data(vec![file.display().to_string()])
    }

    #[test]
    fn lengths_in_characters_and_without_repeated_lines() {
        let dir = tempfile::tempdir().unwrap();
        for (dedupe, want) in [(false, 26.0), (true, 15.0)] {
            let out = dir.path().join(format!("{dedupe}"));
            let config = json!({"data": "@pool", "dedupe": dedupe});
            let cx = alone(&Kind::of::<TraceLength>(), &config, &[("pool", pool(dir.path()))], 0, &out).unwrap();
            let rows = postgrad_lab::stage::read_rows(&cx.out.join("rows.jsonl")).unwrap();
            assert_eq!(rows[0].metrics["length"].as_f64(), Some(want));
            assert_eq!(rows[0].metrics["second_thoughts"], 2);
        }
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        golden(
            &Kind::of::<TraceLength>(),
            &json!({"data": "@pool", "ngram": 2}),
            &[("pool", pool(dir.path()))],
            "a59fa7ae3f21e0e3",
        );
    }
}
