//! `task`: problems that can be checked, drawn, solved and verified.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use postgrad_base::{Context, Error, Result, fs, jsonl};
use postgrad_lab::table::{Cell, Table, one_line};
use postgrad_numerics::{LEVEL, wilson};
use postgrad_tasks::{Problem, Split, Task, Verdict, answers, gsm8k, task, tasks};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::frame::{App, Out, note, say, terminal_width};
use crate::task_rows::{Draw, Layout, Side, record};
use postgrad_reason::draw::find_rendering;

/// Problems that can be checked: list, sample, solve, verify
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every task with its knobs and renderings
    List,
    /// Every task with an example, as Markdown: docs/TASKS.md
    Page,
    /// Draw problems; show them with their answers, or write records to train on
    Sample(SampleArgs),
    /// Write right solutions: of drawn problems, or of the problems in a file
    Solve(SolveArgs),
    /// Judge responses in a file; `verify answer` compares pairs of answers
    Verify(VerifyArgs),
}

#[derive(clap::Args)]
struct DrawArgs {
    /// A task of `postgrad task list`
    task: String,
    /// Knobs: steps=3,digits=2. Several values take turns: steps=2|3 or steps=2..4
    #[arg(long, default_value = "", value_name = "KNOB=VALUE,...", hide_default_value = true)]
    difficulty: String,
    /// How many problems
    #[arg(short, default_value_t = 3)]
    n: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Which side of the task's own line between training and measuring
    #[arg(long, value_enum, default_value_t = Side::Test)]
    split: Side,
    /// Shape of the solutions, as `task list` names them [default: the task's first]
    #[arg(long, value_name = "NAME")]
    rendering: Option<String>,
}

impl DrawArgs {
    fn draw(self) -> Draw {
        let Self { task, difficulty, n, seed, split, rendering } = self;
        Draw { task, difficulty, n, seed, split, rendering }
    }
}

#[derive(clap::Args)]
struct SampleArgs {
    #[command(flatten)]
    draw: DrawArgs,
    /// Write records to train on to this JSONL file instead
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
    /// Layout of the records
    #[arg(long = "as", value_enum, default_value_t = Layout::Completion, requires = "out")]
    layout: Layout,
}

#[derive(clap::Args)]
struct SolveArgs {
    #[command(flatten)]
    draw: DrawArgs,
    /// Problems as `task sample --json` prints them, one JSON object a line; - is standard input
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["difficulty", "n", "seed", "split"])]
    file: Option<PathBuf>,
}

#[derive(clap::Args)]
struct VerifyArgs {
    /// A task of `postgrad task list`, or `answer`
    task: String,
    /// Rows {"problem": ..., "response": "..."}, problems as `task sample --json` prints them; for `answer` rows
    /// {"gold": "...", "pred": "..."}; - is standard input
    #[arg(long, value_name = "FILE.jsonl")]
    file: PathBuf,
    /// What happens at a malformed row
    #[arg(long, value_enum, default_value_t = OnBadRow::Stop)]
    on_bad_row: OnBadRow,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnBadRow {
    /// Name it and stop
    Stop,
    /// Count it and go on
    Skip,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    match args.what {
        What::List => list(app),
        What::Page => crate::task_page::page(),
        What::Sample(args) => sample(args, app),
        What::Solve(args) => solve(args, app),
        What::Verify(args) if args.task == "answer" => verify_answers(&args, app),
        What::Verify(args) => verify(&args, app),
    }
}

/// What `task verify answer` is, beside the tasks.
const ANSWER: &str = "verify only: whether two answers (numbers, formulas, sets, intervals, text) are the same";

pub fn group(name: &str) -> &'static str {
    let among = |tasks: Vec<Box<dyn Task>>| tasks.iter().any(|t| t.name() == name);
    match () {
        () if among(postgrad_tasks::abilities::all()) => "small abilities",
        () if among(postgrad_tasks::puzzles::all()) => "puzzles",
        () => "word problems",
    }
}

fn list(app: &App) -> Result<()> {
    let all = tasks();
    if app.json {
        let knob = |k: &postgrad_tasks::Knob| json!({"name": k.name, "about": k.about, "values": k.range(), "default": k.show(k.default)});
        let rows: Vec<Value> = all
            .iter()
            .map(|t| {
                json!({
                    "name": t.name(), "group": group(t.name()), "about": t.about(),
                    "knobs": t.knobs().iter().map(knob).collect::<Vec<_>>(),
                    "renderings": t.renderings().iter().map(|r| r.name).collect::<Vec<_>>(),
                })
            })
            .collect();
        return app.value(&rows);
    }
    let mut shown = "";
    let mut out = Out::new();
    let width = all.iter().map(|t| t.name().len()).max().unwrap_or(0);
    for t in &all {
        if group(t.name()) != shown {
            out.text(&format!("{}{}\n", if shown.is_empty() { "" } else { "\n" }, group(t.name())))?;
            shown = group(t.name());
        }
        out.text(&format!("  {:<width$} {}\n", t.name(), t.about()))?;
        for k in t.knobs() {
            out.text(&format!(
                "  {:<width$}   {}={}  {} (default {})\n",
                "",
                k.name,
                k.range(),
                k.about,
                k.show(k.default)
            ))?;
        }
        let renderings: Vec<&str> = t.renderings().iter().map(|r| r.name).collect();
        if renderings.len() > 1 {
            out.text(&format!("  {:<width$}   renderings: {}\n", "", renderings.join(", ")))?;
        }
    }
    out.text(&format!("\nanswers\n  {:<width$} {ANSWER}\n", "answer"))
}

fn sample(args: SampleArgs, app: &App) -> Result<()> {
    let drawn = args.draw.draw().problems()?;
    if let Some(path) = &args.out {
        fs::write_atomic(path, |out| {
            drawn.iter().try_for_each(|(p, t, r)| jsonl::write(out, &record(p, t, r, args.layout)))
        })?;
        let (n, file) = (drawn.len(), path.display().to_string());
        if app.json {
            return app.value(&json!({"written": n, "file": file}));
        }
        say!("{n} records in {file}");
        return Ok(());
    }
    let mut out = Out::new();
    for (problem, trace, rendering) in &drawn {
        if app.json {
            out.row(&json!({"problem": problem, "prompt": problem.ask(rendering), "solution": trace.text}))?;
        } else {
            let text = (problem.ask(rendering), &trace.text, &problem.answer);
            out.text(&format!("--- {} ---\n{}\n\n{}\nanswer: {}\n\n", problem.id, text.0, text.1, text.2))?;
        }
    }
    Ok(())
}

fn solve(args: SolveArgs, app: &App) -> Result<()> {
    let Some(file) = &args.file else {
        let drawn = args.draw.draw().problems()?;
        return drawn.iter().try_for_each(|(problem, trace, _)| show_solution(problem, trace, app));
    };
    let task = task(&args.draw.task)?;
    let rendering = find_rendering(&*task, args.draw.rendering.as_deref())?;
    each_row::<Map<String, Value>>(file, OnBadRow::Stop, |row| {
        let problem = find_problem(&*task, &row)?;
        let trace = task.solve(&problem, rendering.name)?;
        show_solution(&problem, &trace, app)
    })
    .map(|_| ())
}

fn show_solution(problem: &Problem, trace: &postgrad_tasks::Trace, app: &App) -> Result<()> {
    let mut out = Out::new();
    if app.json {
        return out
            .row(&json!({"problem": problem, "response": trace.text, "steps": trace.steps, "answer": trace.answer}));
    }
    out.text(&format!("--- {} ---\n{}\n\n{}\n\n", problem.id, problem.prompt, trace.text))
}

/// The problem of a row: under `problem`, or the row itself; for GSM8K also `question` and `answer` as released.
fn find_problem(task: &dyn Task, row: &Map<String, Value>) -> Result<Problem> {
    if task.name() == "gsm8k" && row.contains_key("question") && row.contains_key("answer") {
        let text = Value::Object(row.clone()).to_string();
        return gsm8k::parse(&text, Split::Test)?.pop().ok_or_else(|| Error::work("no problem"));
    }
    let value = row.get("problem").cloned().unwrap_or_else(|| Value::Object(row.clone()));
    let found = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let problem: Problem = serde_json::from_value(value).context(|| "no problem in this row".into()).map_err(|e| {
        e.help(format!(
            "a row has `problem`, as `postgrad task sample {} --json` prints it (found: {found})",
            task.name()
        ))
    })?;
    if problem.task == task.name() {
        return Ok(problem);
    }
    Err(Error::work(format!("a problem of `{}`, not of `{}`", problem.task, task.name())))
}

/// What a file of responses came to.
#[derive(Default, Serialize)]
struct Summary {
    n: usize,
    correct: usize,
    flexible: usize,
    bad_rows: u64,
}

fn verify(args: &VerifyArgs, app: &App) -> Result<()> {
    let task = task(&args.task).map_err(|e| e.help("`postgrad task list` names them; `answer` compares answers"))?;
    let mut sum = Summary::default();
    let mut reasons = std::collections::BTreeMap::<String, usize>::new();
    let mut table = Table::new(&["problem", "right", "reason", "found", "answer"]);
    let mut out = Out::new();
    let bad = each_row::<Map<String, Value>>(&args.file, args.on_bad_row, |row| {
        app.cancel.check()?;
        let problem = find_problem(&*task, &row)?;
        let response = row.get("response").and_then(Value::as_str).ok_or_else(|| {
            let found = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::work("no text under `response`").help(format!("found: {found}"))
        })?;
        let verdict = task.verify(&problem, response);
        sum.n += 1;
        sum.correct += usize::from(verdict.correct);
        sum.flexible += usize::from(verdict.flexible);
        *reasons.entry(reason(&verdict)).or_default() += 1;
        if app.json {
            return out.row(&json!({"id": problem.id, "verdict": verdict}));
        }
        table.row([
            Cell::text(&problem.id),
            Cell::text(if verdict.correct { "yes" } else { "no" }),
            Cell::text(reason(&verdict)),
            Cell::text(one_line(verdict.parsed.as_deref().unwrap_or("–"))),
            Cell::text(one_line(&problem.answer)),
        ]);
        Ok(())
    })?;
    sum.bad_rows = bad;
    if app.json {
        return out.row(&json!({"summary": sum, "reasons": reasons}));
    }
    let share = |k: usize| Cell::percent(&wilson(k, sum.n, LEVEL)).plain();
    if sum.n > 0 {
        table.note(format!(
            "right: {}; right where the answer is looked for leniently: {}",
            share(sum.correct),
            share(sum.flexible)
        ));
        let reasons: Vec<String> = reasons.iter().map(|(r, n)| format!("{r} {n}")).collect();
        table.note(format!("reasons: {}", reasons.join(", ")));
    }
    out.text(&table.to_text(terminal_width()))
}

fn reason(verdict: &Verdict) -> String {
    serde_json::to_value(verdict.reason).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}

fn verify_answers(args: &VerifyArgs, app: &App) -> Result<()> {
    let (mut n, mut equal) = (0, 0);
    let mut out = Out::new();
    each_row::<Map<String, Value>>(&args.file, args.on_bad_row, |row| {
        app.cancel.check()?;
        let side = |name: &str| match row.get(name) {
            Some(Value::String(s)) => Ok(s.clone()),
            Some(Value::Number(x)) => Ok(x.to_string()),
            _ => {
                let found = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                Err(Error::work(format!("no text under `{name}`"))
                    .help(format!("a row is {{\"gold\": \"...\", \"pred\": \"...\"}} (found: {found})")))
            }
        };
        let outcome = answers::equal(&side("gold")?, &side("pred")?);
        n += 1;
        equal += usize::from(outcome.equal);
        if app.json {
            out.row(&json!({"equal": outcome.equal, "gold": outcome.gold, "pred": outcome.pred}))
        } else {
            let sign = if outcome.equal { "=" } else { "≠" };
            out.text(&format!("{}  {sign}  {}\n", one_line(&outcome.gold), one_line(&outcome.pred)))
        }
    })?;
    if !app.json && n > 0 {
        out.text(&format!("\nequal: {}\n", Cell::percent(&wilson(equal, n, LEVEL)).plain()))?;
    }
    Ok(())
}

/// Calls `f` with every row of a JSONL file (`-`: standard input). What is wrong with a row names its line and stops, or is
/// counted; returns how many were skipped.
fn each_row<T: DeserializeOwned>(path: &Path, on_bad: OnBadRow, mut f: impl FnMut(T) -> Result<()>) -> Result<u64> {
    let name = if path == Path::new("-") { Path::new("standard input") } else { path };
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else if !path.exists() {
        return Err(Error::usage(format!("there is no file {}", path.display())));
    } else {
        Box::new(BufReader::new(std::fs::File::open(path).context(|| format!("cannot read {}", path.display()))?))
    };
    let (mut bad, mut first) = (0, None);
    for (i, line) in reader.split(b'\n').enumerate() {
        let line = line.context(|| format!("cannot read {}", name.display()))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let row = serde_json::from_slice(&line).map_err(|e| Error::work("not a JSON row").because(e));
        match row.and_then(&mut f) {
            Ok(()) => {}
            Err(e) if e.kind() == postgrad_base::Kind::Cancelled => return Err(e),
            Err(e) => {
                let e = e.at_line(name, i as u64 + 1);
                if on_bad == OnBadRow::Stop {
                    return Err(e);
                }
                bad += 1;
                first.get_or_insert(e);
            }
        }
    }
    if let Some(first) = first {
        note(&format!("warning: {bad} malformed rows were skipped; the first: {first}"));
    }
    Ok(bad)
}
