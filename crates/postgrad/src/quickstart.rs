//! `quickstart`: the whole story in a minute and a half. A small model gets a problem wrong, is tuned on the task, and is
//! measured again: on the task, on what it could do before, and beside a control tuned on shuffled answers.

use std::sync::Arc;
use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::progress::Mode;
use postgrad_base::{Result, Stream};
use postgrad_data::{Body, Record};
use postgrad_lab::report::Part;
use postgrad_lab::table::{Cell, Table, Tone};
use postgrad_lab::{Answer as Shown, Example as ShownExample, Report, Section, Store};
use postgrad_numerics::{Estimate, paired_t, wilson};
use postgrad_reason::ModelFolder;
use postgrad_reason::generate::Options;
use postgrad_reason::solve::{ProblemSet, Solved, correct};
use postgrad_tasks::Split;
use postgrad_train::Settings;
use postgrad_train::source::InMemory;
use serde_json::json;

use crate::frame::{App, say};
use crate::machine::peak_memory;
use crate::model::{OwnSettings, resolve_model};
use crate::runs::root;
use crate::tune::args::duration;
use crate::tune::plan::time;
use crate::tune::session::{Done, Session, Tuned};

/// See a model tuned and measured, before and after, in a minute and a half
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Your own model folder in place of the built-in seed-1m
    #[arg(long, default_value = "seed-1m")]
    pub model: String,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Wall time of each of the two tunes at most
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub budget: std::time::Duration,
}

const TARGET: (&str, &str) = ("chain", "steps=3");
/// What the seed could do before: task, difficulty, problems asked.
const OLD: [(&str, &str, usize); 4] =
    [("facts", "", 60), ("json", "", 100), ("add", "digits=2", 100), ("sort", "items=3", 100)];
const ASKED: usize = 200;
const TRAIN: usize = 6000;
const UPDATES: u64 = 160;
const BATCH: usize = 32;
const MAX_ANSWER: usize = 96;

/// A set, and what the model before, the tuned one and the control made of it.
struct Row {
    label: String,
    before: Vec<Solved>,
    tuned: Vec<Solved>,
    control: Vec<Solved>,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let (args, cancel) = (&args, &app.cancel);
    let progress = if app.json { Mode::Json } else { Mode::Auto };
    let started = Instant::now();
    let own_model = args.model != "seed-1m";
    let base = resolve_model(&args.model, None)?;
    let stream = Stream::new(args.seed, &["eval", "quickstart"]);
    let target = ProblemSet::draw(TARGET.0, TARGET.1, "", Split::Test, ASKED, &stream.child("target"))?;
    let options = Options { places: 100, ..Options::greedy(MAX_ANSWER) };

    // A first wrong answer, within two seconds.
    let few = ProblemSet { problems: target.problems[..8].to_vec(), ..target.clone() };
    let first = few.solve(&base, &options, cancel)?;
    let shown = first.iter().find(|s| !s.verdict.correct).unwrap_or(&first[0]);
    say!("Problem   {}", shown.problem.prompt);
    say!("{}   {}", if shown.verdict.correct { "Right  " } else { "Wrong  " }, one_line(&shown.answer.text));
    say!(
        "          (answer: {}; {} after {:.1} s)\n",
        shown.problem.answer,
        args.model,
        started.elapsed().as_secs_f64()
    );

    let mut sets = vec![(format!("{} ({})", TARGET.0, TARGET.1), target.clone())];
    for (task, difficulty, n) in OLD {
        let set = ProblemSet::draw(task, difficulty, "", Split::Test, n, &stream.child(task))?;
        sets.push((task.to_string(), set));
    }
    let ask =
        |model: &ModelFolder| sets.iter().map(|(_, s)| s.solve(model, &options, cancel)).collect::<Result<Vec<_>>>();
    let before = ask(&base)?;
    say!("Before: {}", line(&sets, &before));

    let train = ProblemSet::draw(TARGET.0, TARGET.1, "", Split::Train, TRAIN, &stream.child("train"))?.records()?;
    let mut shuffled = train.clone();
    let mut answers: Vec<String> = train.iter().map(|(_, a)| a.clone()).collect();
    Stream::new(args.seed, &["data", "shuffled"]).shuffle(&mut answers);
    shuffled.iter_mut().zip(answers).for_each(|(r, a)| r.1 = a);

    let store = Store::open(&root(None))?;
    say!("\nTuning on {} problems (none of them asked here):", train.len());
    let (tuned, done) = tune(args, &base, &train, "on the task", &store, cancel, progress)?;
    let after = ask(&tuned)?;
    say!("After:  {}", line(&sets, &after));
    say!("\nControl: the same tune on the same problems with their answers shuffled:");
    let (control, _) = tune(args, &base, &shuffled, "control: shuffled answers", &store, cancel, progress)?;
    let controlled = ask(&control)?;

    let rows: Vec<Row> = sets
        .iter()
        .zip(before)
        .zip(after.into_iter().zip(controlled))
        .map(|(((label, _), before), (tuned, control))| Row { label: label.clone(), before, tuned, control })
        .collect();
    let table = table(&rows)?;
    say!("\n{}", table.to_text(Some(110)));
    for (before, after) in telling(&rows[0]) {
        say!(
            "Problem {}\n  before  {}\n  after   {}",
            before.problem.prompt,
            one_line(&before.answer.text),
            one_line(&after.answer.text)
        );
    }
    say!("");
    let report = done.made.parent().unwrap_or(&done.made).join("report.html");
    let mut page = page(args, &done, &rows, table);
    let of_run = postgrad_lab::run_report(&store, &done.id)?.sections.into_iter();
    page.sections.extend(of_run.filter(|s| s.title == "Training" || s.title == "Settings"));
    page.save(&report)?;
    say!("report  {}", report.display());
    next(args, &done, own_model)?;
    say!("\n{:.0} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// Tunes a copy of the base on question-answer pairs.
fn tune(
    args: &Args,
    base: &ModelFolder,
    pairs: &[(String, String)],
    name: &str,
    store: &Store,
    cancel: &Cancel,
    progress: Mode,
) -> Result<(ModelFolder, Done)> {
    let mut model = base.clone();
    let own = OwnSettings::of(&model)?;
    let full = own.as_ref().is_some_and(|o| o.full);
    let mut settings = if full { Settings::full() } else { Settings::lora() };
    if let Some(own) = &own {
        own.apply(&mut settings);
    }
    settings.seed = args.seed;
    settings.steps = Some(UPDATES);
    settings.batch = BATCH;
    settings.budget = Some(args.budget.as_secs_f64());
    if full {
        model.decoder.weights.train(|_| true);
    } else {
        model.decoder.add_lora("adapter", Default::default(), &Stream::new(args.seed, &["tune", "adapter"]))?;
    }
    let renderer = Arc::new(model.renderer.clone());
    let mut examples = Vec::with_capacity(pairs.len());
    for (prompt, completion) in pairs {
        let body = Body::PromptCompletion { prompt: prompt.clone(), completion: completion.clone() };
        examples.extend(renderer.examples(&Record::from_body(body))?.examples);
    }
    let mut source = InMemory::new(examples, Stream::new(args.seed, &["data", "order"]));
    let session = Session {
        kind: "quickstart",
        name,
        config: json!({"model": args.model, "task": TARGET.0, "difficulty": TARGET.1, "settings": settings}),
        data: name.into(),
        folder: None,
        settings: &settings,
        trained: if full { Tuned::Full } else { Tuned::Lora },
        warnings: vec![],
        cancel: cancel.clone(),
        progress,
        merge: false,
        delta: false,
        dtype: model.decoder.config.dtype,
    };
    let done = session.run(store, &mut model, &mut source, &mut [], None)?;
    Ok((model, done))
}

/// Accuracies in one line.
fn line(sets: &[(String, ProblemSet)], solved: &[Vec<Solved>]) -> String {
    let one = |((label, _), s): (&(String, ProblemSet), &Vec<Solved>)| format!("{label} {}/{}", correct(s), s.len());
    sets.iter().zip(solved).map(one).collect::<Vec<_>>().join(", ")
}

fn marks(solved: &[Solved]) -> Vec<f64> {
    solved.iter().map(|s| f64::from(s.verdict.correct && !s.answer.truncated)).collect()
}

fn table(rows: &[Row]) -> Result<Table> {
    let mut table = Table::new(&["solved, %", "n", "before", "tuned", "change", "control", "change"]);
    let share = |s: &[Solved]| {
        let w = wilson(correct(s), s.len(), 0.95);
        Cell::text(format!("{:.0} [{:.0}, {:.0}]", 100.0 * w.value, 100.0 * w.low, 100.0 * w.high))
    };
    let moved = |e: &Estimate| {
        let tone = if e.low > 0.0 {
            Tone::Good
        } else if e.high < 0.0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        // A t interval of a share near its end may reach beyond what a share can be.
        let [low, high] = [e.low, e.high].map(|x| 100.0 * x.clamp(-1.0, 1.0));
        Cell::text(format!("{:+.0} [{low:+.0}, {high:+.0}]", 100.0 * e.value)).tone(tone)
    };
    for row in rows {
        let change = |after: &[Solved]| -> Result<Estimate> { paired_t(&marks(&row.before), &marks(after), 0.95) };
        table.row([
            Cell::text(&row.label),
            Cell::count(row.before.len() as u64),
            share(&row.before),
            share(&row.tuned),
            moved(&change(&row.tuned)?),
            share(&row.control),
            moved(&change(&row.control)?),
        ]);
    }
    table.note("Intervals are 95%: Wilson for shares, t over the same problems for changes.");
    table.note("The control was tuned as long on the same problems with each other's answers: what it gained would not be from their logic.");
    Ok(table)
}

fn page(args: &Args, done: &Done, rows: &[Row], table: Table) -> Report {
    let target = &rows[0];
    let mut page = Report::new("Postgrad quickstart");
    let percent = |s: &[Solved]| 100.0 * correct(s) as f64 / s.len().max(1) as f64;
    page.summary.push(format!(
        "{} solves {:.0}% of {} before, {:.0}% after {} updates, {:.0}% after as many on shuffled answers.",
        args.model,
        percent(&target.before),
        target.label,
        percent(&target.tuned),
        done.outcome.steps,
        percent(&target.control)
    ));
    let drop = |r: &Row| percent(&r.tuned) - percent(&r.before);
    if let Some(worst) = rows[1..].iter().min_by(|a, b| drop(a).total_cmp(&drop(b))).filter(|r| drop(r) < 0.0) {
        page.summary.push(format!(
            "What it cost: {} fell from {:.0}% to {:.0}%.",
            worst.label,
            percent(&worst.before),
            percent(&worst.tuned)
        ));
    }
    page.sections.push(Section::new("Before and after", vec![Part::Table(table)]));
    let examples = telling(target)
        .map(|(b, t)| {
            let shown = |label: &str, s: &Solved| Shown {
                label: label.into(),
                text: s.answer.text.clone(),
                right: Some(s.verdict.correct),
            };
            ShownExample {
                prompt: b.problem.prompt.clone(),
                before: Some(shown("before", b)),
                after: Some(shown("after", t)),
                gold: Some(b.problem.answer.clone()),
            }
        })
        .collect();
    page.sections.push(Section::new("Three problems", vec![Part::Examples(examples)]));
    let commands = vec![
        format!("postgrad runs show {}", done.id),
        format!("postgrad chat --model {}", done.id),
        "postgrad tune --model YOUR_MODEL_FOLDER --data YOUR_FILE.jsonl --dry-run".into(),
    ];
    page.sections.push(Section::new("Next", vec![Part::Code(commands)]));
    page.footer = format!("postgrad {}", env!("CARGO_PKG_VERSION"));
    page
}

/// Three problems with what was answered before and after, those it learned first.
fn telling(target: &Row) -> impl Iterator<Item = (&Solved, &Solved)> {
    let pairs = || target.before.iter().zip(&target.tuned);
    let learned = pairs().filter(|(b, t)| !b.verdict.correct && t.verdict.correct);
    learned.chain(pairs().filter(|(_, t)| !t.verdict.correct)).take(3)
}

/// The next commands, with what they will take here.
fn next(args: &Args, done: &Done, own_model: bool) -> Result<()> {
    let rate = done.outcome.tokens_per_s;
    say!("\nNext:");
    if own_model {
        let model = &args.model;
        say!(
            "  postgrad tune --model {model} --data YOUR_FILE.jsonl --dry-run     what it will take, then without --dry-run"
        );
    } else {
        say!("  postgrad tune --model YOUR_MODEL_FOLDER --data YOUR_FILE.jsonl --dry-run");
        say!("      a Hugging Face folder (llama, mistral, qwen2, qwen3) and JSONL of prompt/completion or messages;");
        // Work of a step grows with parameters: measured here on the seed's, scaled to 135M with a LoRA.
        let scaled = rate * 0.92 / 135.0;
        say!(
            "      about {:.0} tokens/s on this machine at 135M parameters: {} for 1,000 examples of 300 tokens",
            scaled,
            time(300_000.0 / scaled.max(1e-9))
        );
        say!(
            "  postgrad tune --model seed-3m --data gsm8k          about {} here",
            time(2.2e6 / (rate * 0.32).max(1e-9))
        );
    }
    say!("  postgrad chat --model {}                     talk to what you just made", done.id);
    say!(
        "  postgrad runs list                              all runs; this process used {:.0} MB at most",
        peak_memory() as f64 / 1e6
    );
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
