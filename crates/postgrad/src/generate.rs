//! `generate`: text from a model, for one prompt or a file of them.
//!
//! A file's answers are appended as they are finished, each with its prompt's number, its own and a hash of the settings. A
//! call with the same file goes on where the last one ended; the draws do not depend on that. At the end the file is sorted.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use postgrad_audit::{Asker, Prompt};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Context, Error, Result, fs};
use postgrad_data::reader::{Reader, find_files};
use postgrad_data::record::Layout;
use postgrad_data::{Body, Columns, Message, Place, Record, Roles, SourceSpec};
use postgrad_reason::generate::{Options, generate, stop_name};
use postgrad_reason::{Answer, ModelFolder};
use postgrad_tasks::stable_hash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::builtin::resolve_data;
use crate::frame::{App, Out, note};
use crate::model::resolve_model;
use crate::sampling::{SamplingArgs, check, says, stream};

/// Answer prompts: one from the call, or a file of them with answers written to another
///
/// Tokens are drawn as the model's own generation_config.json says; flags come before it.
#[derive(clap::Args)]
pub struct Args {
    /// A built-in model (seed-1m, seed-3m), a model folder, an adapter folder or a run
    #[arg(long, short)]
    model: String,
    /// An adapter folder beside the model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The prompt; - reads it from standard input
    #[arg(long, short, required_unless_present = "data", conflicts_with = "data", value_name = "TEXT")]
    prompt: Option<String>,
    /// Prompts: rows with `prompt`, `messages`, `question` or any other layout (what would be trained is left out)
    #[arg(long, short, value_name = "FILE.jsonl")]
    data: Option<String>,
    /// Answers to each prompt
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    n: usize,
    /// Write the answers to this file; a file with some of them is gone on with
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
    /// Begin --out anew
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Give the prompt to the model as it is, without its chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// The system turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Add each token's text and log-prob under the model at temperature 1
    #[arg(long)]
    logprobs: bool,
    /// Names of columns: prompt=q
    #[arg(long, requires = "data", value_name = "NAME=COLUMN,...")]
    columns: Option<String>,
    /// Names of roles: human=user,gpt=assistant
    #[arg(long, requires = "data", value_name = "NAME=ROLE,...")]
    roles: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// One answer as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OutRow {
    index: usize,
    sample: usize,
    prompt: Value,
    text: String,
    stop: String,
    truncated: bool,
    tokens: usize,
    /// Hash of model, settings and prompt.
    settings: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_texts: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<f32>>,
}

/// A prompt to answer.
struct Asked {
    shown: Value,
    ids: Vec<u32>,
    settings: String,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    args.sampling.check()?;
    if args.n == 0 {
        return Err(Error::usage("-n is 0, and must be 1 or more"));
    }
    let records = prompts(&args)?;
    let mut model = resolve_model(&args.model, args.adapter.as_deref())?;
    args.sampling.scale(&mut model)?;
    let options = args.sampling.over(Options { n: args.n, ..Options::of(&model) })?;
    check(&options)?;
    if !app.json {
        model.warnings.iter().for_each(|w| note(&format!("note: {w}")));
    }
    let asked = ask(&args, &model, &options, records)?;
    match &args.out {
        Some(path) => to_file(&args, app, &model, &options, &asked, path),
        None => to_terminal(&args, app, &model, &options, &asked),
    }
}

/// What is asked, as it stands in the call or the file.
fn prompts(args: &Args) -> Result<Vec<(Value, Record)>> {
    let of_text = |text: String| {
        (json!(text), Record::from_body(Body::PromptCompletion { prompt: text, completion: String::new() }))
    };
    let Some(data) = &args.data else {
        let given = args.prompt.as_deref().unwrap_or_default();
        let text = if given == "-" {
            std::io::read_to_string(std::io::stdin()).context(|| "cannot read standard input".into())?
        } else {
            given.to_string()
        };
        if text.trim().is_empty() {
            return Err(Error::usage("the prompt is empty"));
        }
        return Ok(vec![of_text(text)]);
    };
    let layout = Layout {
        kind: None,
        columns: args.columns.as_deref().map(str::parse::<Columns>).transpose()?.unwrap_or_default(),
        roles: args.roles.as_deref().map(str::parse::<Roles>).transpose()?.unwrap_or_default(),
    };
    let files: Vec<String> = SourceSpec::parse_list(&[resolve_data(data)?])?.into_iter().map(|s| s.path).collect();
    let mut reader = Reader::new(find_files(&files)?.into());
    let mut found = vec![];
    while let Some(row) = reader.next_row()? {
        let (file, line) = (reader.files()[row.at.file as usize].name.clone(), row.at.line);
        let place = Place { set: 0, file, line };
        let record = row.columns().and_then(|columns| prompt_of(columns, &layout)).map_err(|e| e.at(&place))?;
        let shown = match &record.body {
            Body::Text(text) | Body::PromptCompletion { prompt: text, .. } => json!(text),
            Body::Messages(turns) => json!(turns),
        };
        found.push((shown, record));
    }
    if found.is_empty() {
        return Err(Error::usage("the data has no rows").at(data));
    }
    Ok(found)
}

/// A row's prompt: what comes before the answer, if the row has one.
fn prompt_of(mut row: Map<String, Value>, layout: &Layout) -> Result<Record> {
    // Rows without an answer are no records to train on; the empty answer makes them some.
    let named = |field: &str| layout_column(layout, field);
    for (question, answer) in [("prompt", "completion"), ("question", "answer"), ("instruction", "output")] {
        let (question, answer) = (named(question), named(answer));
        if row.contains_key(&question) && !row.contains_key(&answer) {
            row.insert(answer, json!(""));
        }
    }
    let kind = layout.detect(&row)?;
    let mut record = layout.record(kind, row)?;
    match &mut record.body {
        Body::Messages(turns) => {
            if turns.last().is_some_and(|t| t.role == "assistant") {
                turns.pop();
            }
            if turns.is_empty() {
                return Err(Error::work("the conversation has nothing to answer"));
            }
        }
        Body::PromptCompletion { completion, .. } => completion.clear(),
        Body::Text(_) => {}
    }
    Ok(record)
}

/// The name of a field's column in the file.
fn layout_column(layout: &Layout, field: &str) -> String {
    let value = serde_json::to_value(&layout.columns).unwrap_or_default();
    let pairs = value.as_array().cloned().unwrap_or_default();
    let own = pairs.iter().find(|p| p[0] == field).and_then(|p| p[1].as_str());
    own.unwrap_or(field).to_string()
}

fn ask(args: &Args, model: &ModelFolder, options: &Options, records: Vec<(Value, Record)>) -> Result<Vec<Asked>> {
    let renderer = if args.raw { model.renderer.without_template()? } else { model.renderer.clone() };
    let asker = Asker::new(renderer);
    let common = json!([
        args.model,
        args.adapter,
        args.sampling.adapter_scale,
        args.raw,
        args.system,
        args.logprobs,
        options.rules,
        options.max_tokens,
        options.stop,
        options.seed
    ])
    .to_string();
    records
        .into_iter()
        .enumerate()
        .map(|(i, (shown, record))| {
            let Prompt { ids, text } = prompt_ids(&asker, args, &record).map_err(|e| e.at(format!("prompt {i}")))?;
            Ok(Asked { shown, ids, settings: stable_hash(&[&common, &text]) })
        })
        .collect()
}

fn prompt_ids(asker: &Asker, args: &Args, record: &Record) -> Result<Prompt> {
    let plain = |text: &str| {
        let record = Record::from_body(Body::Text(text.to_string()));
        Ok(Prompt { ids: asker.renderer.record_prompt_ids(&record, &Default::default())?, text: text.to_string() })
    };
    let mut turns = match &record.body {
        Body::Text(text) => return plain(text),
        Body::PromptCompletion { prompt, .. } if !asker.renderer.has_template() => {
            return plain(&args.system.as_ref().map_or(prompt.clone(), |s| format!("{s}\n\n{prompt}")));
        }
        Body::PromptCompletion { prompt, .. } => vec![Message::new("user", prompt.as_str())],
        Body::Messages(turns) => turns.clone(),
    };
    if let Some(system) = &args.system {
        turns.retain(|t| t.role != "system");
        turns.insert(0, Message::new("system", system.as_str()));
    }
    asker.conversation(&turns, record.tools.as_ref())
}

fn row(model: &ModelFolder, args: &Args, asked: &Asked, index: usize, answer: Answer) -> Result<OutRow> {
    let tokenizer = model.renderer.tokenizer();
    let texts = || answer.completion.tokens.iter().map(|t| tokenizer.decode(&[*t], false)).collect::<Result<_>>();
    Ok(OutRow {
        index,
        sample: answer.sample,
        prompt: asked.shown.clone(),
        stop: stop_name(answer.completion.stop).into(),
        truncated: answer.truncated,
        tokens: answer.completion.tokens.len(),
        settings: asked.settings.clone(),
        token_texts: args.logprobs.then(texts).transpose()?,
        logprobs: args.logprobs.then(|| answer.completion.model.clone()),
        text: answer.text,
    })
}

fn to_terminal(args: &Args, app: &App, model: &ModelFolder, options: &Options, asked: &[Asked]) -> Result<()> {
    let mut out = Out::new();
    if let [one] = asked
        && options.n == 1
        && !app.json
        && !args.logprobs
    {
        let mut failed = None;
        let answer = stream(model, &one.ids, options, 0, &app.cancel, &mut |text| {
            let shown = out.text(text).and_then(|()| out.flush());
            failed = failed.take().or(shown.err());
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        out.text("\n")?;
        if answer.truncated {
            note(&format!("[cut off: {}]", stop_name(answer.completion.stop)));
        }
        return Ok(());
    }
    let prompts: Vec<Vec<u32>> = asked.iter().map(|a| a.ids.clone()).collect();
    let mut rows = Vec::new();
    generate(model, &prompts, options, &app.cancel, |answer| {
        let index = answer.prompt;
        rows.push(row(model, args, &asked[index], index, answer)?);
        Ok(())
    })?;
    rows.sort_by_key(|r| (r.index, r.sample));
    for r in &rows {
        if app.json {
            out.row(r)?;
            continue;
        }
        let cut = if r.truncated { format!(" [cut off: {}]", r.stop) } else { String::new() };
        out.text(&format!("--- prompt {}, answer {}{cut}\n{}\n", r.index, r.sample, r.text))?;
        if let (Some(texts), Some(logs)) = (&r.token_texts, &r.logprobs) {
            for (text, log) in texts.iter().zip(logs) {
                out.text(&format!("{log:9.4}  {text:?}\n"))?;
            }
        }
    }
    Ok(())
}

fn to_file(args: &Args, app: &App, model: &ModelFolder, options: &Options, asked: &[Asked], path: &Path) -> Result<()> {
    let mut done = if args.overwrite { BTreeMap::new() } else { finished(path, asked, options.n)? };
    let kept = done.len();
    let all = asked.len() * options.n;
    // A prompt with all its answers is not asked again. It keeps its place, so that the others draw as they would have.
    let is_done = |i: usize| (0..options.n).all(|s| done.contains_key(&(i, s)));
    let prompts: Vec<Vec<u32>> =
        asked.iter().enumerate().map(|(i, a)| if is_done(i) { vec![] } else { a.ids.clone() }).collect();
    if !app.json {
        let from = if kept > 0 { format!(", {kept} of them are in {} already", path.display()) } else { String::new() };
        note(&format!("{} prompts, {all} answers{from}; {}", asked.len(), says(options)));
    }
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .context(|| format!("cannot write {}", path.display()))?;
    if args.overwrite {
        file.set_len(0).context(|| format!("cannot write {}", path.display()))?;
    }
    let mut progress = Progress::new(if app.json { Mode::Json } else { Mode::Auto }, "generate", all as u64);
    progress.start_at(kept as u64);
    let started = Instant::now();
    let mut tokens = 0;
    generate(model, &prompts, options, &app.cancel, |answer| {
        let key = (answer.prompt, answer.sample);
        if prompts[key.0].is_empty() && !asked[key.0].ids.is_empty() || done.contains_key(&key) {
            return Ok(());
        }
        tokens += answer.completion.tokens.len();
        let row = row(model, args, &asked[key.0], key.0, answer)?;
        append(&mut file, &row).context(|| format!("cannot write {}", path.display()))?;
        done.insert(key, row);
        let rate = tokens as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress.set(done.len() as u64, &format!("{rate:.0} tokens/s"));
        Ok(())
    })?;
    progress.finish();
    drop(file);
    fs::write_atomic(path, |out| done.values().try_for_each(|row| postgrad_base::jsonl::write(out, row)))?;
    let truncated = done.values().filter(|r| r.truncated).count();
    if app.json {
        return app
            .value(&json!({"out": path, "answers": done.len(), "new": done.len() - kept, "truncated": truncated}));
    }
    let mut out = Out::new();
    out.text(&format!(
        "{} answers ({} new, {truncated} truncated): {}\n",
        done.len(),
        done.len() - kept,
        path.display()
    ))
}

/// One write a row, so that a kill leaves at most one half line.
fn append(file: &mut File, row: &OutRow) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(row)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// The answers of an earlier call. A last line that is not whole is cut off; answers of other settings are refused.
fn finished(path: &Path, asked: &[Asked], n: usize) -> Result<BTreeMap<(usize, usize), OutRow>> {
    let mut done = BTreeMap::new();
    if !path.exists() {
        return Ok(done);
    }
    let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let other = |what: String, line: usize| {
        Err(Error::usage(what)
            .at_line(path, line as u64)
            .help("give another --out, or --overwrite to begin this one anew"))
    };
    for (i, line) in bytes[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty()) {
        let row: OutRow = match serde_json::from_slice(line) {
            Ok(row) => row,
            Err(e) => return other(format!("this is no answer of `generate`: {e}"), i + 1),
        };
        match asked.get(row.index) {
            Some(a) if a.settings == row.settings => {}
            _ => return other("the answers are of another model, prompt or setting".into(), i + 1),
        }
        if row.sample >= n {
            return other(format!("the file has more than {n} answers to a prompt"), i + 1);
        }
        done.insert((row.index, row.sample), row);
    }
    if whole < bytes.len() {
        note(&format!("the last line of {} was not whole and is written again", path.display()));
        let file = OpenOptions::new().write(true).open(path).context(|| format!("cannot write {}", path.display()))?;
        file.set_len(whole as u64).context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(done)
}

/// Whether somebody reads along.
pub fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
