//! `runs`: what ran here, from the store of the folder of runs.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use postgrad_base::event::Event;
use postgrad_base::{Error, Result};
use postgrad_lab::table::{Cell, Table};
use postgrad_lab::{Run, Store, compare, run_report};
use serde_json::{Value, json};

use crate::frame::{App, Out, say, terminal_width};

/// Past runs: list, show, compare, report
#[derive(clap::Args)]
pub struct Args {
    /// Folder of runs [default: $POSTGRAD_RUNS, else runs]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every run: kind, state, model, data
    List {
        /// Only the last N
        #[arg(short, value_name = "N")]
        n: Option<usize>,
    },
    /// One run: settings, last step, evaluations
    Show {
        /// An id, the beginning of one, or a name
        run: String,
    },
    /// Runs side by side, paired where they answered the same items
    Compare {
        #[arg(required = true, num_args = 2.., value_name = "RUN")]
        runs: Vec<String>,
    },
    /// Write the run's page: one HTML file
    Report {
        run: String,
        /// [default: report.html in the run's folder]
        #[arg(long, value_name = "FILE.html")]
        out: Option<PathBuf>,
    },
}

/// The folder of runs: as asked, else `$POSTGRAD_RUNS`, else `runs` here.
pub fn root(asked: Option<&Path>) -> PathBuf {
    asked.map(PathBuf::from).unwrap_or_else(|| {
        std::env::var_os("POSTGRAD_RUNS").filter(|v| !v.is_empty()).map_or_else(|| "runs".into(), PathBuf::from)
    })
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let root = root(args.root.as_deref());
    let found = Store::find(&root)?;
    if let What::List { n } = args.what {
        let runs = found.map(|s| s.runs()).transpose()?.unwrap_or_default();
        let skip = n.map_or(0, |n| runs.len().saturating_sub(n));
        return list(&runs[skip..], &root, app);
    }
    let store = found.ok_or_else(|| {
        Error::usage(format!("there are no runs in {}", root.display()))
            .help("name their folder with --root or POSTGRAD_RUNS")
    })?;
    match args.what {
        What::List { .. } => unreachable!("done above"),
        What::Show { run } => show(&store, &run, app),
        What::Compare { runs } => {
            let names: Vec<&str> = runs.iter().map(String::as_str).collect();
            let found = compare(&store, &names)?;
            if app.json {
                return app.value(&found);
            }
            let mut out = Out::new();
            for (title, table) in found.tables() {
                out.text(&format!("{title}\n{}\n", table.to_text(terminal_width())))?;
            }
            Ok(())
        }
        What::Report { run, out } => {
            let path = out.unwrap_or(store.run(&run)?.folder.join("report.html"));
            run_report(&store, &run)?.save(&path)?;
            if app.json {
                return app.value(&json!({"file": path}));
            }
            say!("{}", path.display());
            Ok(())
        }
    }
}

fn list(runs: &[Run], root: &Path, app: &App) -> Result<()> {
    if runs.is_empty() && !app.json {
        say!("no runs in {} yet", root.display());
        return Ok(());
    }
    let mut table = Table::new(&["run", "name", "state", "started", "model", "data", "seed"]);
    for r in runs {
        table.row([
            Cell::text(&r.id),
            Cell::text(&r.about.name),
            Cell::text(r.status.name()),
            Cell::text(&r.created),
            Cell::text(&r.about.model),
            Cell::text(&r.about.data),
            Cell { figure: true, ..Cell::text(r.about.seed.to_string()) },
        ]);
    }
    app.table(&table, &runs)
}

fn show(store: &Store, name: &str, app: &App) -> Result<()> {
    let run = store.run(name)?;
    let events = store.events(&run.id, None)?;
    let of = |kind: &str| events.iter().filter(|e| e.kind == kind).collect::<Vec<_>>();
    let (steps, evals) = (of("step"), of("eval"));
    if app.json {
        let plain = |e: &&Event| json!({"step": e.step, "fields": e.fields});
        return app.value(&json!({
            "run": run, "events": events.len(), "last_step": steps.last().map(plain),
            "evals": evals.iter().map(plain).collect::<Vec<_>>(),
        }));
    }
    let mut text = format!("{}  {}  {}\n", run.id, run.status.name(), run.about.name);
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            text += &format!("  {name:<9} {}\n", postgrad_lab::table::one_line(value));
        }
    };
    fact("started", &run.created);
    fact("ended", run.ended.as_deref().unwrap_or_default());
    fact("message", run.message.as_deref().unwrap_or_default());
    fact("model", &run.about.model);
    fact("data", &run.about.data);
    fact("seed", &run.about.seed.to_string());
    fact("machine", &format!("{}, {}, {} threads", run.about.machine, run.about.simd, run.about.threads));
    fact("folder", &run.folder.display().to_string());
    fact("last step", &steps.last().map(|e| format!("{}: {}", e.step, fields(e))).unwrap_or_default());
    let mut out = Out::new();
    out.text(&text)?;
    if !evals.is_empty() {
        let mut table = Table::new(&["step", "evaluation"]);
        for e in &evals {
            table.row([Cell::count(e.step), Cell::text(fields(e))]);
        }
        out.text(&format!("\n{}", table.to_text(terminal_width())))?;
    }
    out.text(&format!("\nnext: postgrad runs report {}\n", run.id))
}

/// `loss 1.234, set dev`
fn fields(e: &Event) -> String {
    let value = |v: &Value| match v {
        Value::String(s) => s.clone(),
        Value::Number(n) if n.is_f64() => postgrad_lab::table::fixed(n.as_f64().unwrap_or(f64::NAN), 4),
        other => other.to_string(),
    };
    e.fields.iter().map(|(k, v)| format!("{k} {}", value(v))).collect::<Vec<_>>().join(", ")
}
