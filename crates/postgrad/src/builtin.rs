//! Data by name: what the program carries, and what its tasks generate, as files in the cache.
//!
//! `gsm8k` is the training set, `gsm8k:test` the test set. `task:chain?steps=2,3&n=2000&split=train&seed=0` writes records
//! of a task; `task:` may be left out. `task:gsm8k?rendering=plain` leaves out the calculator annotations. A weight may
//! follow: `gsm8k:0.7`. Everything else is a path and stays as it is.

use std::io::Read;
use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result, fs};
use postgrad_tasks::task::nearest;
use postgrad_tasks::{Problem, Split, gsm8k, stable_hash, tasks};

use crate::task_rows::{Draw, Layout, Side, record};

const GSM8K_TRAIN: &[u8] = include_bytes!("../../../assets/gsm8k/train.jsonl.gz");
const GSM8K_TEST: &[u8] = include_bytes!("../../../assets/gsm8k/test.jsonl.gz");

/// `$POSTGRAD_CACHE`, else `$XDG_CACHE_HOME/postgrad`, else `~/.cache/postgrad`. May not exist yet.
pub fn cache_dir() -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("POSTGRAD_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("postgrad")))
        .or_else(|| var("HOME").map(|d| d.join(".cache/postgrad")))
        .ok_or_else(|| Error::usage("there is no folder for caches").help("set POSTGRAD_CACHE to a folder"))
}

/// A data source as the reader takes it: built-in names become files of the cache, paths stay. A weight is kept.
pub fn resolve_data(spec: &str) -> Result<String> {
    if let Some(task) = spec.strip_prefix("task:") {
        let (body, weight) = split_weight(task);
        return Ok(with_weight(&generate(body)?, weight));
    }
    let (body, weight) = split_weight(spec);
    match body {
        "gsm8k" | "gsm8k:train" => return Ok(with_weight(&gsm8k_file(Split::Train)?, weight)),
        "gsm8k:test" => return Ok(with_weight(&gsm8k_file(Split::Test)?, weight)),
        _ => {}
    }
    if let Some(name) = body.strip_prefix("gsm8k:") {
        let known = ["train", "test"];
        return Err(Error::unknown("set of gsm8k", name, &known, nearest(name, &known)));
    }
    let name = body.split('?').next().unwrap_or(body);
    if !Path::new(spec).exists() && !Path::new(body).exists() && tasks().iter().any(|t| t.name() == name) {
        return Ok(with_weight(&generate(body)?, weight));
    }
    Ok(spec.to_string())
}

/// `gsm8k:test:0.5` is `gsm8k:test` and 0.5.
fn split_weight(spec: &str) -> (&str, Option<&str>) {
    match spec.rsplit_once(':') {
        Some((body, weight)) if weight.parse::<f64>().is_ok() => (body, Some(weight)),
        _ => (spec, None),
    }
}

fn with_weight(path: &Path, weight: Option<&str>) -> String {
    let path = path.display();
    weight.map_or_else(|| path.to_string(), |w| format!("{path}:{w}"))
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut text).context(|| "cannot unpack built-in data".into())?;
    Ok(text)
}

fn gsm8k_bytes(split: Split) -> &'static [u8] {
    if split == Split::Train { GSM8K_TRAIN } else { GSM8K_TEST }
}

/// The unpacked file, written on first use and again where its size is not right.
fn gsm8k_file(split: Split) -> Result<PathBuf> {
    let packed = gsm8k_bytes(split);
    // A gzip file ends in the checksum and the length of what it holds.
    let tail = |at: usize| u32::from_le_bytes(packed[packed.len() - at..][..4].try_into().expect("four bytes"));
    let (checksum, length) = (tail(8), tail(4));
    let path = cache_dir()?.join("data").join(format!("gsm8k-{split}-{checksum:08x}.jsonl"));
    if std::fs::metadata(&path).is_ok_and(|m| m.len() == u64::from(length)) {
        return Ok(path);
    }
    fs::write(&path, &unpack(packed)?).map_err(cache_help)?;
    Ok(path)
}

fn cache_help(e: Error) -> Error {
    e.help("built-in data is unpacked into a cache; set POSTGRAD_CACHE to a folder that can be written")
}

/// The problems of one set of GSM8K.
pub fn gsm8k_problems(split: Split) -> Result<Vec<Problem>> {
    let text = String::from_utf8(unpack(gsm8k_bytes(split))?).context(|| "built-in data is not text".into())?;
    gsm8k::parse(&text, split)
}

/// The task that a data source names, if it names one: `task:chain?n=5` or, where no file has that name, `chain?n=5`.
pub fn task_of(spec: &str) -> Option<&str> {
    if let Some(body) = spec.strip_prefix("task:") {
        return Some(body);
    }
    let name = spec.split('?').next().unwrap_or(spec);
    (!Path::new(spec).exists() && tasks().iter().any(|t| t.name() == name)).then_some(spec)
}

/// `chain?steps=2,3&n=2000&split=train&seed=0&rendering=cot`, from `split` unless it says which.
pub fn task_draw(spec: &str, split: Side) -> Result<Draw> {
    let (name, query) = spec.split_once('?').unwrap_or((spec, ""));
    let mut draw = Draw::of(name);
    draw.split = split;
    // GSM8K is a set with an end; the others have none.
    draw.n = if name == "gsm8k" { usize::MAX } else { 1000 };
    let mut knobs = vec![];
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::usage(format!("`{pair}` is not of the form key=value"))
                .at(format!("task:{spec}"))
                .help("for example: task:chain?steps=2,3&n=2000&split=train&seed=0")
        })?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| Error::usage(format!("`{key}={value}` is no number")).at(format!("task:{spec}")))
        };
        match key {
            "n" => draw.n = number()? as usize,
            "seed" => draw.seed = number()?,
            "split" => draw.split = value.parse()?,
            "rendering" => draw.rendering = Some(value.to_string()),
            _ => knobs.push(format!("{key}={}", value.replace(',', "|"))),
        }
    }
    draw.difficulty = knobs.join(",");
    Ok(draw)
}

/// The records of a task as a file named by its content.
fn generate(spec: &str) -> Result<PathBuf> {
    let draw = task_draw(spec, Side::Train)?;
    let name = &draw.task;
    let mut text = String::new();
    for (problem, trace, rendering) in draw.problems().map_err(|e| e.at(format!("task:{spec}")))? {
        let mut row = record(&problem, &trace, &rendering, Layout::Completion);
        // For whoever judges: the task's verifier knows right answers that are not this one.
        row["problem"] = serde_json::to_value(&problem).context(|| "a problem cannot be written".into())?;
        text += &row.to_string();
        text.push('\n');
    }
    let file = format!("{}-{}-{}.jsonl", name, draw.split, stable_hash(&[&text]));
    let path = cache_dir()?.join("tasks").join(file);
    if !path.exists() {
        fs::write(&path, text.as_bytes()).map_err(cache_help)?;
    }
    Ok(path)
}
