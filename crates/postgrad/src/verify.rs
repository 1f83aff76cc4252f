//! `verify`: recipes' experiments, from arms and seeds to verdicts and a ledger.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postgrad_base::{Error, Kind, Result};
use postgrad_lab::engine::{Committed, Ledger, Revision, Verified, Verifying, chosen, committed};
use postgrad_lab::measured;
use postgrad_lab::recipe::Recipe;
use postgrad_lab::store::now;
use postgrad_lab::verify_report::{VerifyPage, gather};
use postgrad_lab::{NewRun, Report, Status, Store};
use postgrad_systems::recipes::{self, File};
use postgrad_tensor::{par, simd};
use serde_json::{Value, json};

use crate::frame::{App, Out, note, terminal_width};
use crate::lab::{Lab, progress};
use crate::machine;
use crate::runs::root;
use crate::tune::args::duration;

/// Run recipes' experiments and write what came out into their ledgers
///
/// What has not changed is not run again; a killed call is gone on with by the same call. A ledger is written only where
/// the recipe's file is committed and unmodified. Of a recipe that the program carries, it is written in the run's folder.
#[derive(clap::Args)]
pub struct Args {
    /// Names of recipes, folders or files
    #[arg(value_name = "SLUG", required_unless_present = "all")]
    recipes: Vec<String>,
    /// Every recipe in the folder of recipes (without one: that the program carries) whose programs are there
    #[arg(long, conflicts_with = "recipes")]
    all: bool,
    /// Leave out recipes whose ledger is of their present file and stage versions
    #[arg(long)]
    stale_only: bool,
    /// The whole grid (full.toml) in place of tiny.toml
    #[arg(long)]
    full: bool,
    /// Begin nothing after this time: 90s, 30m, 2h
    #[arg(long, value_parser = duration, value_name = "TIME")]
    budget: Option<Duration>,
    /// Look at one seed that is not the experiment's, and record nothing
    #[arg(long)]
    trial: bool,
    /// Say what would run
    #[arg(long)]
    dry_run: bool,
    /// Stages at a time [default: one a thread]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let file = if args.full { "full.toml" } else { "tiny.toml" };
    let names = if args.all { recipes::slugs_with(file)? } else { args.recipes.clone() };
    let lab = Lab::new()?;
    let deadline = args.budget.map(|b| Instant::now() + b);
    let mut failed: Option<Error> = None;
    let mut told = Vec::new();
    for name in &names {
        if deadline.is_some_and(|d| Instant::now() >= d) {
            note(&format!("{name}: not begun, the budget is spent"));
            continue;
        }
        let outcome = one(&args, name, file, &lab, deadline, app);
        match outcome {
            Ok(Some(row)) => told.push(row),
            Ok(None) => {}
            // One recipe's fault does not keep the others from being run.
            Err(e) if names.len() > 1 && e.kind() != Kind::Cancelled => {
                note(&format!("{name}: error: {e}"));
                failed.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
    }
    if app.json {
        app.value(&told)?;
    }
    match failed {
        Some(e) if names.len() > 1 => {
            Err(Error::work("not every recipe could be verified").because(e.what().to_string()))
        }
        _ => Ok(()),
    }
}

fn one(args: &Args, name: &str, file: &str, lab: &Lab, deadline: Option<Instant>, app: &App) -> Result<Option<Value>> {
    let file = recipes::file(name, file)?;
    let path = &file.path;
    let recipe = file.recipe(&lab.kinds)?;
    let ledger = file.ledger()?.unwrap_or_default();
    let verifying = Verifying {
        recipe: &recipe,
        resolve: &lab.resolve(),
        cache: &lab.cache,
        jobs: args.jobs.unwrap_or(par::threads()),
        cancel: app.cancel.clone(),
        progress: progress(app),
        trial: args.trial,
        deadline,
    };
    if args.stale_only && !ledger.is_stale(&recipe)? {
        return Ok(None);
    }
    if let Some(tool) = recipe.lacks().filter(|_| args.all) {
        note(&format!("{name}: left out, it needs {tool}"));
        return Ok(None);
    }
    recipe.has_what_it_needs()?;
    if args.dry_run {
        let (graph, there) = verifying.graph()?;
        let (all, slug) = (graph.nodes.len(), postgrad_lab::engine::slug(path));
        if !app.json {
            Out::new().text(&format!("{slug}: {} stages to run, {there} of {all} are there\n", all - there))?;
        }
        return Ok(Some(json!({"slug": slug, "stages": all, "there": there})));
    }
    if recipe.claims.is_empty() {
        return Err(Error::usage("the recipe claims nothing").at(path.display()).help("`postgrad run` runs it"));
    }
    let commit = match args.trial {
        true => None,
        false if file.is_carried() => Some(released()),
        false => Some(committed(path)?),
    };
    let verified = verifying.run()?;
    finish(&file, &recipe, commit, verified, ledger, app).map(Some)
}

/// What stands for the commits of a recipe that the program carries.
fn released() -> Committed {
    let version = concat!("postgrad ", env!("CARGO_PKG_VERSION"));
    Committed { file: version.into(), head: version.into(), modified_code: false }
}

/// Prints, records, writes ledger and page.
fn finish(
    file: &File,
    recipe: &Recipe,
    commit: Option<Committed>,
    verified: Verified,
    mut ledger: Ledger,
    app: &App,
) -> Result<Value> {
    let slug = postgrad_lab::engine::slug(&file.path);
    let mut ledger_file = Ledger::path(&file.path);
    let mut added = false;
    let revision = commit.map(|c| revision(recipe, &verified, c));
    if let Some(revision) = &revision {
        ledger.slug.clone_from(&slug);
        added = ledger.add(revision.clone());
        if added && !file.is_carried() {
            ledger.write(&ledger_file)?;
        }
        let name = file.path.file_stem().and_then(|s| s.to_str()).filter(|_| !file.is_carried());
        // As it is read back: a number's last digit may differ from what was written.
        let written = if name.is_some() { Ledger::read(&ledger_file)? } else { None };
        if let (Some(last), Some(name)) = (written.as_ref().and_then(|l| l.last()), name) {
            measured::put(&file.path.with_file_name("README.md"), name, &measured::section(&slug, name, last))?;
        }
    }
    let report = match &revision {
        Some(_) if added || verified.ran > 0 => Some(record(&file.path, recipe, &ledger, &verified)?),
        _ => None,
    };
    // The carried ledger stays as it is; what this machine adds to it lies in the run's folder.
    if let Some(report) = report.as_ref().filter(|_| file.is_carried()) {
        ledger_file = report.with_file_name("ledger.json");
        ledger.write(&ledger_file)?;
    }
    if !app.json {
        show(&slug, recipe, &verified)?;
        let mut out = Out::new();
        if let Some(report) = &report {
            out.text(&format!("report  {}\n", report.display()))?;
        }
        let (at, n) = (ledger_file.display(), ledger.revisions.len());
        let said = match (&revision, added, file.is_carried()) {
            (None, ..) => "a trial: nothing is recorded".into(),
            (_, true, false) => format!("ledger  {at} (revision {n})"),
            (_, false, false) => "ledger  unchanged".into(),
            (_, true, true) => format!("ledger  {at} (revision {n}; there is no folder of this recipe to keep it in)"),
            (_, false, true) => "ledger  the same as the program's own".into(),
        };
        out.text(&format!("{said}\n"))?;
    }
    Ok(json!({"slug": slug, "state": verified.verdict.state, "ran": verified.ran, "reused": verified.reused,
        "wall_seconds": verified.wall_seconds, "stage_seconds": verified.stage_seconds, "recorded": added,
        "claims": verified.verdict.claims, "controls": verified.verdict.controls, "measures": verified.measures,
        "budgets": verified.budgets, "report": report}))
}

fn revision(recipe: &Recipe, v: &Verified, commit: Committed) -> Revision {
    let all = ["base", "data", "tune", "sample", "eval"];
    let fixed = all.iter().filter(|s| !recipe.vary.iter().any(|v| v == *s));
    Revision {
        number: 0,
        date: now(),
        state: v.verdict.state,
        claims_commit: commit.file,
        commit: commit.head,
        modified_code: commit.modified_code,
        claims_hash: recipe.claims_hash(),
        recipe_hash: recipe.recipe_hash(),
        stages: v.versions.clone(),
        simd: simd::level().name().into(),
        machine: format!("{}, {} cores", machine::cpu_model(), machine::cores()),
        threads: par::threads(),
        seeds: v.seeds.clone(),
        varied: recipe.vary.clone(),
        conditional_on: fixed.map(|s| format!("one {s}")).collect(),
        externals: v.externals.iter().map(|(name, e)| (name.clone(), e.digest.clone())).collect(),
        tuned: v.tuned.iter().map(|(arm, point)| (arm.clone(), chosen(point))).collect(),
        budgets: v.budgets.clone(),
        matched: recipe.matched.clone(),
        wall_seconds: v.wall_seconds,
        stage_seconds: v.stage_seconds,
        claims: v.verdict.claims.clone(),
        controls: v.verdict.controls.clone(),
        measures: v.measures.clone(),
    }
}

/// Keeps the run, its rows and its page in the store.
fn record(path: &Path, recipe: &Recipe, ledger: &Ledger, v: &Verified) -> Result<PathBuf> {
    let revision = ledger.last().expect("a revision was written");
    let store = Store::open(&root(None))?;
    let new = NewRun {
        kind: "verify".into(),
        name: postgrad_lab::engine::slug(path),
        config: json!({"recipe": path, "recipe_hash": revision.recipe_hash}),
        model: recipe.models.values().cloned().collect::<Vec<_>>().join(", "),
        data: recipe.data.values().flatten().cloned().collect::<Vec<_>>().join(", "),
        seed: 0,
        commit: Some(revision.commit.clone()),
        simd: revision.simd.clone(),
        threads: revision.threads,
        machine: revision.machine.clone(),
    };
    let active = store.start(&new, None)?;
    for arm in v.study.arms() {
        for (stage, seed) in
            v.study.stages(arm).iter().flat_map(|t| v.study.seeds(arm).into_iter().map(move |s| (t, s)))
        {
            if let Some(rows) = v.study.rows(arm, stage, seed) {
                store.put_items(&active.run.id, &format!("{arm}:{stage}"), seed, rows)?;
            }
        }
    }
    let report = active.run.folder.join("report.html");
    page(recipe, ledger, v)?.save(&report)?;
    active.finish(Status::Done, Some(&report.display().to_string()))?;
    Ok(report)
}

fn show(slug: &str, recipe: &Recipe, v: &Verified) -> Result<()> {
    let mut out = Out::new();
    out.text(&format!("{slug}: {}. {}\n\n", v.verdict.state.name(), recipe.title))?;
    let (claims, controls) = (&v.verdict.claims, &v.verdict.controls);
    for table in [measured::verdicts(claims, controls), measured::figures(claims, controls, &v.measures)] {
        out.text(&format!("{}\n", table.to_text(terminal_width())))?;
    }
    out.text(&format!(
        "{} stages run, {} there already; {:.0} s, {:.0} s of stages behind it\n",
        v.ran, v.reused, v.wall_seconds, v.stage_seconds
    ))
}

/// The page of the ledger's last revision.
fn page(recipe: &Recipe, ledger: &Ledger, v: &Verified) -> Result<Report> {
    let (revision, earlier) = ledger.revisions.split_last().expect("a revision was written");
    let arms: Vec<(String, String)> = recipe.arms.iter().map(|a| (a.name.clone(), a.says.clone())).collect();
    let (curves, examples) = gather(&arms, &v.results)?;
    let page = VerifyPage {
        slug: &ledger.slug,
        title: &recipe.title,
        about: &recipe.about,
        arms: &arms,
        revision,
        earlier,
        curves,
        examples,
    };
    Ok(page.report())
}
