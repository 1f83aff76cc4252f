//! `systems`: the published systems that recipes are of, and where each stands.

use std::path::PathBuf;

use postgrad_base::{Error, Result};
use postgrad_lab::claims::Judged;
use postgrad_lab::engine::{Revision, versions};
use postgrad_lab::measured::{interval, verdicts};
use postgrad_lab::recipe::Recipe;
use postgrad_lab::table::{Cell, Table};
use postgrad_lab::verify_report::{SystemRow, duration, systems_report};
use postgrad_systems::rows::{ROWS, row};
use postgrad_systems::standing::{Stand, Standing};
use postgrad_tasks::task::nearest;
use serde_json::{Value, json};

use crate::frame::{App, Out, note, say, terminal_width};
use crate::lab::Lab;

/// The published systems that recipes are of, and where each stands
///
/// `planned`: there is no recipe yet; `runs`: nothing was verified; `stale`: the recipe or a stage has changed since; `needs
/// X`: the program X is not on PATH; else what the ledger's last revision says of the primary claim: `holds`, `null`,
/// `contrary`, `underpowered`, `described` (fewer seeds than declared) or `loud` (a control failed).
#[derive(clap::Args)]
pub struct Args {
    /// One system, with its claims and the commands that run it
    #[arg(value_name = "SLUG")]
    slug: Option<String>,
    /// Those that are planned too (--json and --html always have them)
    #[arg(long, conflicts_with = "slug")]
    all: bool,
    /// Write one page of all systems
    #[arg(long, value_name = "FILE.html", conflicts_with = "slug")]
    html: Option<PathBuf>,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let kinds = Lab::new()?.kinds;
    if let Some(slug) = &args.slug {
        let row = row(slug).ok_or_else(|| {
            let known: Vec<&str> = ROWS.iter().map(|r| r.slug).collect();
            let near = nearest(slug, &known);
            let error = Error::usage(format!("there is no system `{slug}`"));
            let all = "`postgrad systems --all` lists them";
            error.help(near.map_or(all.to_string(), |n| format!("did you mean `{n}`? {all}")))
        })?;
        let system = Standing::of(row, &kinds)?;
        return if app.json { app.value(&whole(&system)?) } else { show(&system) };
    }
    let mut all = Vec::new();
    let mut failed = None;
    for row in &ROWS {
        match Standing::of(row, &kinds) {
            Ok(system) => all.push(system),
            // One recipe's fault does not hide the others.
            Err(e) => {
                note(&format!("{}: error: {e}", row.slug));
                failed.get_or_insert(e);
            }
        }
    }
    if let Some(path) = &args.html {
        let rows: Vec<SystemRow> = all.iter().map(page_row).collect();
        systems_report(&rows).save(path)?;
    }
    match (&args.html, app.json) {
        (Some(path), true) => app.value(&json!({"file": path, "systems": facts(&all)}))?,
        (Some(path), false) => say!("{}", path.display()),
        (None, _) => app.table(&table(&all, args.all), &facts(&all))?,
    }
    match failed {
        Some(e) => Err(Error::usage("not every recipe can be read").because(e.what().to_string())),
        None => Ok(()),
    }
}

fn table(all: &[Standing], planned_too: bool) -> Table {
    let mut table = Table::new(&["", "system", "kind", "state", "primary claim", "wall time", "date"]);
    let planned = all.iter().filter(|s| s.stand == Stand::Planned).count();
    for s in all.iter().filter(|s| planned_too || s.stand != Stand::Planned) {
        let last = s.ledger.last();
        let claim = last.and_then(Revision::primary);
        table.row([
            Cell::count(s.row.number.into()),
            Cell::text(s.row.slug),
            Cell::text(s.row.kind),
            Cell::text(s.stand.to_string()),
            claim.map_or_else(|| Cell::text(""), |j| Cell::text(estimate(j))),
            last.map_or_else(Cell::none, |r| Cell { figure: true, ..Cell::text(duration(r.wall_seconds)) }),
            Cell::text(last.map_or("", day)),
        ]);
    }
    table.note(format!("{} of {} have a recipe, {planned} are planned", all.len() - planned, all.len()));
    table
}

fn facts(all: &[Standing]) -> Vec<Value> {
    all.iter().map(fact).collect()
}

/// What the table says of a system, and its primary claim in full.
fn fact(s: &Standing) -> Value {
    let last = s.ledger.last();
    let needs = if let Stand::Needs(tool) = &s.stand { Some(tool) } else { None };
    json!({"number": s.row.number, "slug": s.row.slug, "title": s.row.title, "kind": s.row.kind,
        "state": s.stand.name(), "needs": needs, "primary": last.and_then(Revision::primary),
        "wall_seconds": last.map(|r| r.wall_seconds), "date": last.map(|r| &r.date),
        "revisions": s.ledger.revisions.len()})
}

/// What the page of one system says.
fn whole(s: &Standing) -> Result<Value> {
    let mut value = fact(s);
    let last = s.ledger.last();
    value["about"] = json!(s.about());
    value["changed"] = json!(changed(s)?);
    value["claims"] = json!(last.map(|r| &r.claims));
    value["controls"] = json!(last.map(|r| &r.controls));
    value["seeds"] = json!(last.map(|r| &r.seeds));
    value["ledger"] = json!(s.ledger.revisions.iter().map(past).collect::<Vec<_>>());
    value["commands"] = json!(commands(s));
    Ok(value)
}

fn past(r: &Revision) -> Value {
    json!({"number": r.number, "date": r.date, "state": r.state, "primary": r.primary(), "claims_commit": r.claims_commit,
        "commit": r.commit, "machine": r.machine, "threads": r.threads, "simd": r.simd,
        "wall_seconds": r.wall_seconds, "stage_seconds": r.stage_seconds})
}

fn page_row(s: &Standing) -> SystemRow {
    let last = s.ledger.last();
    SystemRow {
        slug: s.row.slug.into(),
        title: s.row.title.into(),
        kind: s.row.kind.into(),
        state: if let Stand::Verified(state) = s.stand { Some(state) } else { None },
        primary: last.and_then(Revision::primary).cloned(),
        wall_seconds: last.map(|r| r.wall_seconds),
        date: last.map(|r| r.date.clone()),
        link: None,
        note: s.stand.to_string(),
    }
}

fn show(s: &Standing) -> Result<()> {
    let mut out = Out::new();
    out.text(&format!("{} {}: {}. {}\n", s.row.number, s.row.slug, s.stand, s.row.title))?;
    let about = s.about();
    out.text(&if about.is_empty() { format!("{}\n", s.row.kind) } else { format!("{}: {about}\n", s.row.kind) })?;
    for what in changed(s)? {
        out.text(&format!("since the last revision: {what}\n"))?;
    }
    if let Some(last) = s.ledger.last() {
        out.text(&format!("\n{}\n", verdicts(&last.claims, &last.controls).to_text(terminal_width())))?;
        let seeds: Vec<String> = last.seeds.iter().map(|(arm, seeds)| format!("{arm} {}", seeds.len())).collect();
        out.text(&format!("seeds    {}\n", seeds.join(", ")))?;
        for r in s.ledger.revisions.iter().rev() {
            let (at, wall, stages) = (day(r), duration(r.wall_seconds), duration(r.stage_seconds));
            let claims = r.claims_commit.get(..12).filter(|_| !r.claims_commit.contains(' '));
            let claims = claims.unwrap_or(&r.claims_commit);
            let primary = r.primary().map_or(String::new(), |j| format!(" {}", estimate(j)));
            out.text(&format!("revision {}, {at}: {}{primary}; wall time {wall}, {stages} of stages; claims of {claims}; {}, SIMD {}\n",
                r.number, r.state.name(), r.machine, r.simd))?;
        }
    }
    for (i, command) in commands(s).iter().enumerate() {
        out.text(&format!("{}{command}\n", if i == 0 { "\n" } else { "" }))?;
    }
    Ok(())
}

/// In what the present recipe and stages differ from the last revision's.
fn changed(s: &Standing) -> Result<Vec<String>> {
    let (Some((recipe, _)), Some(last)) = (&s.tiny, s.ledger.last()) else { return Ok(vec![]) };
    let mut all = Vec::new();
    if last.claims_hash != recipe.claims_hash() {
        all.push("the claims have changed".to_string());
    } else if last.recipe_hash != recipe.recipe_hash() {
        all.push("the recipe has changed".to_string());
    }
    let now = versions(recipe)?;
    for (kind, version) in &now {
        match last.stages.get(kind) {
            Some(before) if before == version => {}
            Some(before) => all.push(format!("stages of kind {kind} are of version {version}, not {before}")),
            None => all.push(format!("stages of kind {kind} have come in")),
        }
    }
    all.extend(last.stages.keys().filter(|k| !now.contains_key(*k)).map(|k| format!("stages of kind {k} have gone")));
    Ok(all)
}

/// What runs it, with the names of the recipe's own models and data.
fn commands(s: &Standing) -> Vec<String> {
    let slug = s.row.slug;
    let mut all = Vec::new();
    if let Some(recipe) = &s.real {
        all.push(format!("postgrad plan {slug}"));
        all.push(format!("postgrad run {slug}{}", sets(recipe)));
    }
    if let Some((recipe, _)) = &s.tiny {
        all.push(format!("postgrad plan {slug} --tiny"));
        if !recipe.claims.is_empty() {
            all.push(format!("postgrad verify {slug}"));
        }
    }
    all
}

fn sets(recipe: &Recipe) -> String {
    let models = recipe.models.keys().map(|name| format!(" --set {name}=MODEL"));
    models.chain(recipe.data.keys().map(|name| format!(" --set {name}=FILE"))).collect()
}

/// `0.12 [0.08, 0.16], wanted > 0.05`.
fn estimate(j: &Judged) -> String {
    format!("{}, wanted {}", interval(j.estimate, j.low, j.high).text, j.condition)
}

/// The day of a revision.
fn day(r: &Revision) -> &str {
    r.date.split('T').next().unwrap_or(&r.date)
}
