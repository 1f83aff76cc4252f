//! `eval`: a model measured on a data set.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use postgrad_audit::{Asker, Item, Judge, Shots, Summary, answers, choice, items, perplexity};
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Error, Result, fs, jsonl};
use postgrad_data::record::Layout;
use postgrad_data::{Columns, Kind as RecordKind, Roles, SourceSpec};
use postgrad_lab::table::{Cell, Table};
use postgrad_reason::generate::Options;
use postgrad_tasks::answers::{Mode as Reading, extract};
use postgrad_tasks::{Split, task};
use serde::Serialize;
use serde_json::json;

use crate::builtin::{gsm8k_problems, resolve_data, task_draw, task_of};
use crate::frame::{App, note};
use crate::model::resolve_model;
use crate::sampling::{self, SamplingArgs};
use crate::task_rows::Side;
use crate::tune::args::Switch;
use postgrad_reason::draw::find_rendering;

/// Measure a model on a data set: exact match, answers, multiple choice, perplexity
///
/// Answers are drawn greedily unless a temperature is given. Every number comes with its interval and n.
#[derive(clap::Args)]
pub struct Args {
    /// A built-in model (seed-1m, seed-3m), a model folder, an adapter folder or a run
    #[arg(long, short)]
    model: String,
    /// An adapter folder beside the model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Files, folders, globs, gsm8k:test, a task: task:chain?steps=3&n=200 (of its test split unless it says split=train)
    #[arg(long, short, num_args = 1.., required = true, value_name = "DATA")]
    data: Vec<String>,
    /// What is measured [default: found from the data]
    #[arg(long = "as", value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// Measure the first N items alone
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Put N solved examples before each question, drawn by the seed, never the item itself
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true)]
    few_shot: usize,
    /// Draw the examples from this data [default: a task's train split, else the data itself]
    #[arg(long, requires = "few_shot", value_name = "FILE")]
    few_shot_file: Option<String>,
    /// Whether questions go through the model's chat template
    #[arg(long, value_enum, default_value = "on")]
    template: Switch,
    /// The system turn of every question
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// What the rows are, where it is not found from their columns
    #[arg(long = "kind", value_name = "LAYOUT")]
    layout: Option<String>,
    /// Names of columns: prompt=q,completion=a
    #[arg(long, value_name = "NAME=COLUMN,...")]
    columns: Option<String>,
    /// Names of roles: human=user,gpt=assistant
    #[arg(long, value_name = "NAME=ROLE,...")]
    roles: Option<String>,

    /// Answers to each question, for pass@k and the majority's vote; above 1 they are drawn, not greedy
    #[arg(long, default_value_t = 1, value_name = "N")]
    samples: usize,
    /// Write every item with prompt, answers and verdicts
    #[arg(long, value_name = "FILE.jsonl")]
    log_samples: Option<PathBuf>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The answer is the reference, white space apart
    Exact,
    /// The likeliest of the choices is the right one
    Choice,
    /// The final answer is the reference's, as mathematics, or right by the task's own verifier
    Answer,
    /// Negative log-likelihood of the reference or the text
    Perplexity,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Choice => "choice",
            Self::Answer => "answer",
            Self::Perplexity => "perplexity",
        }
    }
}

/// Tokens of one forward pass.
const MICRO_TOKENS: usize = 4096;

pub fn run(args: Args, app: &App) -> Result<()> {
    let options = options(&args)?;
    if args.limit == Some(0) {
        return Err(Error::usage("--limit is 0, and must be 1 or more"));
    }
    let (items, pool) = read(&args)?;
    let (kind, why) = match args.kind {
        Some(kind) => (kind, "as asked"),
        None => infer(&items),
    };
    if kind == Kind::Choice && items.iter().all(|i| i.choices.is_none()) {
        return Err(Error::usage("the rows have no choices")
            .at(args.data.join(" "))
            .help("rows for --as choice have a question, a list `choices` or `options`, and `answer` or `correct`"));
    }
    if args.samples > 1 && matches!(kind, Kind::Choice | Kind::Perplexity) {
        return Err(Error::usage(format!("--samples is for answers, and `{}` draws none", kind.name())));
    }
    let mut model = resolve_model(&args.model, args.adapter.as_deref())?;
    args.sampling.scale(&mut model)?;
    let mut options = options;
    if args.sampling.max_tokens.is_none() {
        options.max_tokens = model.generation.max_new_tokens.unwrap_or(options.max_tokens);
    }
    let template = matches!(args.template, Switch::On);
    let renderer = if template { model.renderer.clone() } else { model.renderer.without_template()? };
    let plain = !renderer.has_template();
    if args.few_shot > 0 && plain && options.stop.is_empty() {
        // A model without turns would go on with an example of its own.
        options.stop.push(postgrad_audit::prompt::BETWEEN.into());
    }
    let asker = Asker {
        renderer,
        system: args.system.clone(),
        shots: (args.few_shot > 0).then(|| Shots { n: args.few_shot, pool, seed: args.sampling.seed }),
    };
    let draws = matches!(kind, Kind::Exact | Kind::Answer);
    if !app.json {
        for warning in &model.warnings {
            note(&format!("note: {warning}"));
        }
        let how = if draws { format!("; {}", sampling::says(&options)) } else { String::new() };
        let turned = if plain { "no chat template" } else { "chat template" };
        let shots = if args.few_shot > 0 { format!(", {} examples before each", args.few_shot) } else { String::new() };
        note(&format!("{} ({why}): {} items, {turned}{shots}{how}", kind.name(), items.len()));
    }
    let started = Instant::now();
    let all = items.len() * if draws { options.n } else { 1 };
    let mut progress = Progress::new(if app.json { Mode::Json } else { Mode::Auto }, "eval", all as u64);
    let step = |done: usize, tokens: usize| {
        let rate = tokens as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress.set(done as u64, &format!("{rate:.0} tokens/s"));
    };
    let log = args.log_samples.as_deref();
    let summary = match kind {
        Kind::Exact | Kind::Answer => {
            let judge = if kind == Kind::Exact { Judge::Exact } else { Judge::Answer };
            let rows = answers::run(&model, &asker, &items, judge, &options, &app.cancel, step)?;
            write_log(log, &rows)?;
            answers::summary(&rows, judge, args.sampling.seed)?
        }
        Kind::Choice => {
            let rows = choice::run(&model, &asker, &items, MICRO_TOKENS, &app.cancel, step)?;
            write_log(log, &rows)?;
            choice::summary(&rows)
        }
        Kind::Perplexity => {
            if args.few_shot > 0 {
                note("note: --few-shot has no part in perplexity");
            }
            let rows = perplexity::run(&model, &asker, &items, MICRO_TOKENS, &app.cancel, step)?;
            write_log(log, &rows)?;
            perplexity::summary(&rows)?
        }
    };
    progress.finish();
    let drawn = draws.then(|| {
        json!({"rules": options.rules, "max_tokens": options.max_tokens, "stop": options.stop, "samples": options.n})
    });
    let found = json!({
        "model": model.name,
        "adapter": args.adapter,
        "adapter_scale": args.sampling.adapter_scale,
        "data": args.data,
        "kind": kind.name(),
        "template": !plain,
        "few_shot": args.few_shot,
        "system": args.system,
        "seed": args.sampling.seed,
        "sampling": drawn,
        "chance": (kind == Kind::Choice).then(|| choice::chance(&items)),
        "metrics": serde_json::to_value(&summary).map_err(|e| Error::work("cannot write JSON").because(e))?["metrics"],
        "counts": serde_json::to_value(&summary).map_err(|e| Error::work("cannot write JSON").because(e))?["counts"],
    });
    let mut table = show(&summary);
    if kind == Kind::Choice {
        table.note(format!("a blind guess is right in {:.1}%", 100.0 * choice::chance(&items)));
    }
    if let Some(path) = log {
        table.note(format!("every item: {}", path.display()));
    }
    app.table(&table, &found)
}

/// Greedy unless the flags say otherwise; several answers are drawn at temperature 1 unless they say which.
fn options(args: &Args) -> Result<Options> {
    let mut base = Options::greedy(256);
    base.n = args.samples;
    if args.samples > 1 {
        if args.sampling.temperature == Some(0.0) {
            return Err(Error::usage(format!("{} answers at temperature 0 are the same answer", args.samples))
                .help("give a temperature above 0, or one sample"));
        }
        base.rules.temperature = 1.0;
    }
    args.sampling.over(base)
}

/// The items to measure, and those that examples are drawn from.
fn read(args: &Args) -> Result<(Vec<Item>, Vec<Item>)> {
    let layout = Layout {
        kind: args.layout.as_deref().map(str::parse::<RecordKind>).transpose()?,
        columns: args.columns.as_deref().map(str::parse::<Columns>).transpose()?.unwrap_or_default(),
        roles: args.roles.as_deref().map(str::parse::<Roles>).transpose()?.unwrap_or_default(),
    };
    // Examples may come from the data itself; then all of it is read.
    let from_itself = args.few_shot > 0 && args.few_shot_file.is_none();
    let limit = args.limit.filter(|_| !from_itself);
    let mut all = vec![];
    let mut pool = vec![];
    for spec in &args.data {
        let rest = limit.map(|l| l.saturating_sub(all.len()));
        if rest == Some(0) {
            break;
        }
        let (found, examples) = source(spec, &layout, rest, if from_itself { args.few_shot } else { 0 })?;
        all.extend(found);
        pool.extend(examples);
    }
    if all.is_empty() {
        return Err(Error::usage("there is nothing to measure").at(args.data.join(" ")));
    }
    if let Some(file) = &args.few_shot_file {
        pool = source(file, &layout, None, 0)?.0;
    } else if from_itself && pool.is_empty() {
        pool = all.clone();
    }
    all.truncate(args.limit.unwrap_or(usize::MAX));
    Ok((all, pool))
}

/// One source's items; of a task also examples from its train split, where the items are not from there.
fn source(spec: &str, layout: &Layout, limit: Option<usize>, shots: usize) -> Result<(Vec<Item>, Vec<Item>)> {
    let sets = [("gsm8k", Split::Test), ("gsm8k:test", Split::Test), ("gsm8k:train", Split::Train)];
    if let Some((_, split)) = sets.iter().find(|(name, _)| *name == spec) {
        let take = |split, n: Option<usize>| -> Result<Vec<Item>> {
            let mut problems = gsm8k_problems(split)?;
            problems.truncate(n.unwrap_or(usize::MAX));
            let task = task("gsm8k")?;
            let rendering = find_rendering(&*task, None)?;
            let item = |p: postgrad_tasks::Problem| {
                let solution = task.solve(&p, rendering.name)?.text;
                let question = p.ask(&rendering);
                Ok(Item::of_problem(p, question, solution))
            };
            problems.into_iter().map(item).collect()
        };
        let pool = if shots > 0 && *split == Split::Test { take(Split::Train, None)? } else { vec![] };
        return Ok((take(*split, limit)?, pool));
    }
    if let Some(body) = task_of(spec) {
        let mut draw = task_draw(body, Side::Test)?;
        draw.n = draw.n.min(limit.unwrap_or(usize::MAX));
        let problems = |draw: &crate::task_rows::Draw| -> Result<Vec<Item>> {
            let found = draw.problems().map_err(|e| e.at(spec))?;
            Ok(found
                .into_iter()
                .map(|(p, t, r)| {
                    let q = p.ask(&r);
                    Item::of_problem(p, q, t.text)
                })
                .collect())
        };
        let mut pool = vec![];
        if shots > 0 && draw.split == Side::Test {
            pool = problems(&crate::task_rows::Draw { split: Side::Train, n: (8 * shots).max(64), ..draw.clone() })?;
        }
        return Ok((problems(&draw)?, pool));
    }
    let path = resolve_data(spec)?;
    let files: Vec<String> = SourceSpec::parse_list(&[path])?.into_iter().map(|s| s.path).collect();
    Ok((items::read(&files, layout, limit)?, vec![]))
}

/// What the data is made for.
fn infer(items: &[Item]) -> (Kind, &'static str) {
    const LOOKED_AT: usize = 32;
    const SHORT: usize = 80;
    let first = &items[..items.len().min(LOOKED_AT)];
    if first.iter().all(|i| i.choices.is_some()) {
        return (Kind::Choice, "the rows have choices");
    }
    if first.iter().all(|i| i.problem.is_some()) {
        return (Kind::Answer, "by the task's own verifier");
    }
    let final_answer = |item: &Item| {
        item.reference().is_some_and(|r| {
            extract(&r, Reading::Any).strict.is_some() || (r.trim().len() <= SHORT && !r.trim().contains('\n'))
        })
    };
    if first.iter().all(final_answer) {
        return (Kind::Answer, "the references are short or mark a final answer");
    }
    (Kind::Perplexity, "the references are texts without a final answer")
}

fn write_log(path: Option<&std::path::Path>, rows: &[impl Serialize]) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write_atomic(path, |out| rows.iter().try_for_each(|row| jsonl::write(out, row)))
}

fn show(summary: &Summary) -> Table {
    let mut table = Table::new(&["metric", "value"]);
    for m in &summary.metrics {
        let cell = if m.share { Cell::percent(&m.estimate) } else { Cell::estimate(&m.estimate, 4) };
        table.row([Cell::text(m.name.replace('_', " ")), cell]);
    }
    for (name, count) in &summary.counts {
        table.row([Cell::text(name.replace('_', " ")), Cell::count(*count)]);
    }
    table
}
