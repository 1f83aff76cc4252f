//! `data convert`: records out again, as JSON lines, a JSON list or a table, plain or gzipped. The file appears whole or
//! not at all.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use postgrad_base::{Context, Error, Result, fs};
use serde_json::{Map, Value, json};

use crate::dataset::Records;
use crate::record::{Body, Kind, Message, Record};

/// Writes all records of the epoch to `out`, in the layout `to` (`None`: the one they were read in). The file's name says
/// the format. Returns how many were written.
pub fn convert(records: &mut Records, out: &Path, to: Option<Kind>) -> Result<u64> {
    let name = out.to_string_lossy().to_lowercase();
    let (stem, gzip) = name.strip_suffix(".gz").map_or((name.as_str(), false), |s| (s, true));
    let format = ["jsonl", "ndjson", "json", "csv", "tsv"].into_iter().find(|e| stem.ends_with(&format!(".{e}")));
    let Some(format) = format else {
        return Err(Error::usage(format!("cannot write {}", out.display()))
            .help("name it .jsonl, .json, .csv or .tsv, each also with .gz"));
    };
    let mut written = 0;
    fs::write_atomic(out, |file| {
        if gzip {
            let mut packed = GzEncoder::new(file, Compression::default());
            written = write_rows(records, format, to, &mut packed)?;
            packed.finish().context(|| format!("cannot write {}", out.display()))?;
        } else {
            written = write_rows(records, format, to, file)?;
        }
        Ok(())
    })?;
    Ok(written)
}

fn write_rows(records: &mut Records, format: &str, to: Option<Kind>, out: &mut dyn Write) -> Result<u64> {
    let failed = || "cannot write the rows".to_string();
    let mut written = 0;
    let mut table = match format {
        "csv" => Some(csv::Writer::from_writer(&mut *out)),
        "tsv" => Some(csv::WriterBuilder::new().delimiter(b'\t').from_writer(&mut *out)),
        _ => None,
    };
    if let Some(table) = &mut table {
        let mut header: Vec<String> = Vec::new();
        while let Some(record) = records.next_record()? {
            let place = record.place.clone();
            let row = to_row(record, to).map_err(|e| e.at(&place))?;
            if written == 0 {
                header = row.keys().cloned().collect();
                table.write_record(&header).context(failed)?;
            }
            if let Some(new) = row.keys().find(|k| !header.contains(k)) {
                return Err(Error::work(format!(
                    "the column `{new}` is not in the first row, so the table has no place for it"
                ))
                .at(&place)
                .help("write .jsonl instead"));
            }
            table.write_record(header.iter().map(|k| cell(row.get(k)))).context(failed)?;
            written += 1;
        }
        table.flush().context(failed)?;
        return Ok(written);
    }
    drop(table);
    let list = format == "json";
    if list {
        out.write_all(b"[").context(failed)?;
    }
    while let Some(record) = records.next_record()? {
        let place = record.place.clone();
        let row = to_row(record, to).map_err(|e| e.at(&place))?;
        if list {
            out.write_all(if written > 0 { b",\n" } else { b"\n" }).context(failed)?;
        }
        serde_json::to_writer(&mut *out, &row).context(failed)?;
        if !list {
            out.write_all(b"\n").context(failed)?;
        }
        written += 1;
    }
    if list {
        out.write_all(b"\n]\n").context(failed)?;
    }
    Ok(written)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    }
}

/// A record as a row of a kind, its other columns after.
pub fn to_row(record: Record, to: Option<Kind>) -> Result<Map<String, Value>> {
    let kind = to.unwrap_or(record.kind);
    let mut row = Map::new();
    match (kind, &record.body) {
        (Kind::Text, Body::Text(text)) => _ = row.insert("text".into(), json!(text)),
        (Kind::Text, Body::PromptCompletion { prompt, completion }) => {
            row.insert("text".into(), json!(format!("{prompt}{completion}")));
        }
        (Kind::PromptCompletion, Body::PromptCompletion { prompt, completion }) => {
            row.insert("prompt".into(), json!(prompt));
            row.insert("completion".into(), json!(completion));
        }
        (kind, _) => {
            let turns = record.messages().filter(|_| kind != Kind::Text).ok_or_else(|| no_way(&record, kind))?;
            turns_to_row(kind, &turns, &record, &mut row)?;
        }
    }
    if let Some(tools) = record.tools {
        row.insert("tools".into(), tools);
    }
    for (name, value) in record.columns {
        row.entry(name).or_insert(value);
    }
    Ok(row)
}

fn no_way(record: &Record, to: Kind) -> Error {
    Error::usage(format!("this {} record cannot be written as {to}", record.kind)).help(match to {
        Kind::Text => "a conversation becomes text through a model's template, not by itself",
        _ => "write it as messages, which holds every conversation",
    })
}

fn turns_to_row(kind: Kind, turns: &[Message], record: &Record, row: &mut Map<String, Value>) -> Result<()> {
    if kind == Kind::Messages {
        row.insert("messages".into(), serde_json::to_value(turns).context(|| "cannot write the messages".into())?);
        return Ok(());
    }
    // The other layouts hold roles and contents only.
    if turns.iter().any(|t| t.tool_calls.is_some() || t.reasoning_content.is_some() || t.train.is_some()) {
        return Err(no_way(record, kind));
    }
    if kind == Kind::ShareGpt {
        let from = |role: &str| match role {
            "user" => "human".to_string(),
            "assistant" => "gpt".to_string(),
            "tool" => "observation".to_string(),
            other => other.to_string(),
        };
        let list: Vec<Value> = turns.iter().map(|t| json!({"from": from(&t.role), "value": t.content})).collect();
        row.insert("conversations".into(), json!(list));
        return Ok(());
    }
    let (system, rest) = match turns.split_first() {
        Some((first, rest)) if first.role == "system" => (Some(first.content.as_str()), rest),
        _ => (None, turns),
    };
    let alternate = rest.len() >= 2
        && rest.len() % 2 == 0
        && rest.iter().enumerate().all(|(i, t)| t.role == if i % 2 == 0 { "user" } else { "assistant" });
    if !alternate || (rest.len() > 2 && kind != Kind::Alpaca) {
        return Err(no_way(record, kind));
    }
    let (asked, answered) = (&rest[rest.len() - 2].content, &rest[rest.len() - 1].content);
    let names = match kind {
        Kind::Alpaca => ["instruction", "output"],
        Kind::QuestionAnswer => ["question", "answer"],
        _ => ["prompt", "completion"],
    };
    row.insert(names[0].into(), json!(asked));
    if kind == Kind::Alpaca {
        row.insert("input".into(), json!(""));
    }
    row.insert(names[1].into(), json!(answered));
    if let Some(system) = system {
        row.insert("system".into(), json!(system));
    }
    if rest.len() > 2 {
        let pairs: Vec<Value> = rest[..rest.len() - 2].chunks(2).map(|p| json!([p[0].content, p[1].content])).collect();
        row.insert("history".into(), json!(pairs));
    }
    Ok(())
}
