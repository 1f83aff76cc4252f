//! `plan`: what a recipe takes on this machine, before it is run.

use postgrad_base::{Error, Result};
use postgrad_lab::claims::ASSUMED;
use postgrad_lab::engine::externals;
use postgrad_lab::recipe::plan::{Plan, Planned, plan};
use postgrad_lab::speed::time;
use postgrad_lab::table::{Cell, Table};
use postgrad_systems::recipes;
use postgrad_tensor::par;

use crate::frame::{App, Out, terminal_width};
use crate::lab::Lab;

/// What a recipe takes: stages, parameters trained, updates, tokens, memory and time on this machine
///
/// Sizes come from the models and the data, speeds from a short run of the work. A stage of a kind that the planner does
/// not know has `?`. For an experiment, the power of its primary claim at its seeds and items.
#[derive(clap::Args)]
pub struct Args {
    /// A recipe's name, its folder or a file
    #[arg(value_name = "FILE.toml|SLUG")]
    recipe: String,
    /// The experiment of a recipe that is named by its slug (tiny.toml) in place of recipe.toml
    #[arg(long)]
    tiny: bool,
    /// The whole grid of one that is named by its slug (full.toml)
    #[arg(long, conflicts_with = "tiny")]
    full: bool,
    /// This arm alone
    #[arg(long, value_name = "NAME")]
    arm: Option<String>,
    /// Change a key: base=FOLDER, data.train=FILE, tuned.lr=1e-4
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let file = match (args.tiny, args.full) {
        (true, _) => "tiny.toml",
        (_, true) => "full.toml",
        _ => "recipe.toml",
    };
    let lab = Lab::new()?;
    let mut recipe = recipes::file(&args.recipe, file)?.recipe(&lab.kinds)?;
    let pair = |text: &'_ String| {
        let pair = text.split_once('=').map(|(k, v)| (k.trim().to_string(), v.trim().to_string()));
        pair.ok_or_else(|| Error::usage(format!("`{text}` is not of the form KEY=VALUE")))
    };
    let pairs = args.set.iter().map(pair).collect::<Result<Vec<_>>>()?;
    recipe.set_all(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))?;
    let outside = externals(&recipe, &lab.resolve())?;
    let plan = plan(&recipe, args.arm.as_deref(), &outside, &lab.cache, &app.cancel)?;
    if app.json { app.value(&plan) } else { show(&plan) }
}

fn show(plan: &Plan) -> Result<()> {
    let mut table = Table::new(&[
        "stage",
        "kind",
        "results",
        "there",
        "trained",
        "updates",
        "examples",
        "tokens",
        "GFLOP",
        "MB",
        "time each",
    ]);
    for row in &plan.stages {
        let c = &row.cost;
        let cell = |n: Option<u64>| match n {
            Some(n) => Cell::count(n),
            None if row.known => Cell::none(),
            None => Cell::text("?"),
        };
        table.row([
            Cell::text(name(plan, row)),
            Cell::text(&row.kind),
            Cell::count(row.results as u64),
            Cell::count(row.there as u64),
            cell(c.trained),
            cell(c.updates),
            cell(c.examples),
            cell(c.tokens),
            cell(c.flops.map(|f| (f / 1e9).round() as u64)),
            cell(c.memory_bytes.map(|b| b / 1_000_000)),
            c.seconds.map_or_else(|| cell(None), |s| Cell::text(if s < 10.0 { format!("{s:.1} s") } else { time(s) })),
        ]);
    }
    let left: usize = plan.stages.iter().map(|s| s.results - s.there).sum();
    let unknown = match plan.unknown {
        0 => String::new(),
        n => format!(", and {n} of unknown time"),
    };
    table.note(format!(
        "{left} results to be made: about {} one after the other on {} threads{unknown}",
        time(plan.seconds),
        par::threads()
    ));
    let mut out = Out::new();
    out.text(&table.to_text(terminal_width()))?;
    if let Some(p) = &plan.power {
        let e = &p.expected;
        out.text(&format!(
            "\n{}\n{} seeds, {} items: half-width {:.3}; power {:.0}% at {} from the bound, 80% at {:.3}\n{ASSUMED}\n",
            p.value,
            e.seeds,
            e.items,
            e.half_width,
            100.0 * e.power,
            p.effect,
            e.detectable
        ))?;
    }
    Ok(())
}

/// A stage, and the arm that asks for it where the stage has several rows.
fn name(plan: &Plan, row: &Planned) -> String {
    let several = plan.stages.iter().filter(|s| s.stage == row.stage).count() > 1;
    if several { format!("{}:{}", row.arm, row.stage) } else { row.stage.clone() }
}
