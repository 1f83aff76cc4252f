//! `run`: a recipe for real use, on the user's own model and data.

use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result, fs};
use postgrad_lab::engine::{Found, Graph, Running, externals};
use postgrad_lab::stage::read_rows;
use postgrad_lab::table::{Cell, Table};
use postgrad_lab::{Item, NewRun, Status, Store};
use postgrad_numerics::{LEVEL, mean_t};
use postgrad_systems::recipes;
use postgrad_tensor::{par, simd};
use serde_json::{Value, json};

use crate::frame::{App, Out, note, terminal_width};
use crate::lab::{Lab, progress};
use crate::machine;
use crate::runs::root;

/// Run a recipe on your own model and data
///
/// What has not changed since an earlier call is not run again, so a killed call is gone on with by the same call.
#[derive(clap::Args)]
pub struct Args {
    /// A recipe's name, its folder or a file
    #[arg(value_name = "FILE.toml|SLUG")]
    recipe: String,
    /// Change a key: model=FOLDER, data=FILE, tuned.lr=1e-4
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// An arm of an experiment [default: the first]
    #[arg(long, value_name = "NAME")]
    arm: Option<String>,
    /// The run's folder [default: a new one in the folder of runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Stages at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let file = recipes::file(&args.recipe, "recipe.toml")?;
    let lab = Lab::new()?;
    let mut recipe = file.recipe(&lab.kinds)?;
    recipe.has_what_it_needs()?;
    let pair = |pair: &'_ String| {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::usage(format!("`{pair}` is not of the form KEY=VALUE")).help("for example: --set tuned.lr=1e-4")
        })?;
        Ok((key.trim().to_string(), value.trim().to_string()))
    };
    let pairs = args.set.iter().map(pair).collect::<Result<Vec<_>>>()?;
    recipe.set_all(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))?;
    let arm = match &args.arm {
        Some(name) => recipe.arm(name)?.name.clone(),
        None => recipe.arms[0].name.clone(),
    };
    let wanted = recipe.wanted(&arm)?;
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let stages = recipe.needed(&arm, &names, &[])?;
    let outside = externals(&recipe, &lab.resolve())?;
    let mut graph = Graph::default();
    let keys = graph.add(&arm, args.seed, &stages, &outside, &recipe.vary, simd::level().name())?;
    let running = Running {
        cache: &lab.cache,
        jobs: args.jobs,
        cancel: app.cancel.clone(),
        progress: progress(app),
        deadline: None,
    };
    let ran = running.run(&graph)?;
    let results: Vec<(&String, &Found)> = wanted.iter().map(|name| (name, &ran.results[&keys[name]])).collect();

    let store = Store::open(&root(None))?;
    let active = store.start(
        &NewRun {
            kind: "run".into(),
            name: recipe.title.clone(),
            config: json!({"recipe": file.path, "arm": arm, "set": args.set}),
            model: recipe.models.values().cloned().collect::<Vec<_>>().join(", "),
            data: recipe.data.values().flatten().cloned().collect::<Vec<_>>().join(", "),
            seed: args.seed,
            commit: None,
            simd: simd::level().name().into(),
            threads: par::threads(),
            machine: format!("{}, {} cores", machine::cpu_model(), machine::cores()),
        },
        args.out.as_deref(),
    )?;
    let folder = active.run.folder.clone();
    let mut figures = Vec::new();
    let mut models = Vec::new();
    for (name, found) in &results {
        copy(&found.dir, &folder.join(name))?;
        for made in ["model", "adapter"].iter().filter(|m| found.dir.join(m).exists()) {
            models.push(folder.join(name).join(made));
        }
        let rows = found.dir.join("rows.jsonl");
        if rows.exists() {
            let rows = read_rows(&rows)?;
            store.put_items(&active.run.id, name, 0, &rows)?;
            figures.push((name.as_str(), rows));
        }
    }
    // So that `--model RUN` finds what the run made, where that is one thing.
    if let [model] = &models[..] {
        let name = model.file_name().unwrap_or_default();
        copy(model, &folder.join(name))?;
    }
    let id = active.run.id.clone();
    active.finish(Status::Done, Some(&folder.display().to_string()))?;
    if app.json {
        let figures: Vec<Value> =
            figures.iter().map(|(name, rows)| json!({"stage": name, "figures": means(rows)})).collect();
        return app.value(&json!({"run": id, "folder": folder, "ran": ran.ran, "models": models, "stages": figures}));
    }
    let mut out = Out::new();
    for (name, rows) in &figures {
        out.text(&format!("{name}\n{}\n", table(rows).to_text(terminal_width())))?;
    }
    for model in &models {
        out.text(&format!("model   {}\n", model.display()))?;
    }
    out.text(&format!("run     {id}, {}\n", folder.display()))?;
    if ran.ran == 0 {
        note("nothing has changed since it was run before: the results are those");
    }
    Ok(())
}

/// Each figure that all rows have: its mean, interval and count.
fn means(rows: &[Item]) -> Vec<Value> {
    columns(rows).into_iter().map(|(name, e)| json!({"figure": name, "estimate": e})).collect()
}

fn columns(rows: &[Item]) -> Vec<(String, postgrad_numerics::Estimate)> {
    let Some(first) = rows.first() else { return vec![] };
    let of =
        |name: &String| rows.iter().map(|r| r.metrics.get(name).and_then(Value::as_f64)).collect::<Option<Vec<_>>>();
    first.metrics.keys().filter_map(|name| Some((name.clone(), mean_t(&of(name)?, LEVEL)))).collect()
}

fn table(rows: &[Item]) -> Table {
    let mut table = Table::new(&["figure", "mean"]);
    for (name, e) in columns(rows) {
        let cell = if e.n > 1 { Cell::estimate(&e, 4) } else { Cell::number(e.value, 4) };
        table.row([Cell::text(name), cell]);
    }
    table
}

/// A folder again, by hard links where they can be made: nothing in a result is ever changed in place.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::write_dir_atomic(to, |dir| copy_into(from, dir))
}

fn copy_into(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).context(|| format!("cannot read {}", from.display()))? {
        let path = entry.context(|| format!("cannot read {}", from.display()))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            std::fs::create_dir_all(&target).context(|| format!("cannot make the folder {}", target.display()))?;
            copy_into(&path, &target)?;
        } else if std::fs::hard_link(&path, &target).is_err() {
            std::fs::copy(&path, &target).context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
