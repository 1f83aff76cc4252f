//! The page of a verified recipe, claims first, and the page of all systems.
//!
//! [`VerifyPage`] is what one revision of a ledger says, with what a ledger does not hold: training curves and examples of
//! answers, read from the results' folders by [`gather`] where they are still there. A page without them is whole too.
//! Left out on purpose: every figure that the ledger does not have (nothing is computed anew here but curves' means).

use std::collections::BTreeMap;
use std::path::Path;

use postgrad_base::event::Event;
use postgrad_base::{Result, jsonl};
use postgrad_numerics::Estimate;
use serde::Deserialize;

use crate::claims::{Condition, Judged, LEVEL, State, Summary};
use crate::compare::{figure, is_share};
use crate::engine::{Found, Revision};
use crate::plot::{DotPlot, DotRow, LinePlot, Series};
use crate::report::{Answer, Answers, Part, Report, Section};
use crate::run_report::{capital, smoothed};
use crate::sink::METRICS_FILE;
use crate::table::{Cell, Table, Tone, fixed, grouped};

/// Prompts shown, and answers beside each other.
const EXAMPLES: usize = 4;

/// What the page of a verified recipe tells.
pub struct VerifyPage<'a> {
    pub slug: &'a str,
    pub title: &'a str,
    pub about: &'a str,
    /// (name, what it is), in the recipe's order.
    pub arms: &'a [(String, String)],
    pub revision: &'a Revision,
    /// Revisions before it, oldest first.
    pub earlier: &'a [Revision],
    pub curves: Vec<Curve>,
    pub examples: Vec<Answers>,
}

/// One figure of one training stage of one arm over its updates.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub arm: String,
    pub stage: String,
    /// `loss`.
    pub figure: String,
    /// (update, value) of each seed.
    pub seeds: Vec<Vec<(f64, f64)>>,
}

/// A row of the page of all systems.
#[derive(Clone, Debug)]
pub struct SystemRow {
    pub slug: String,
    pub title: String,
    /// What kind of a system it is: `sft`, `rl`, `selection`, ...
    pub kind: String,
    /// None where nothing that was verified is of the present recipe: `note` is shown.
    pub state: Option<State>,
    pub primary: Option<Judged>,
    pub wall_seconds: Option<f64>,
    /// UTC, RFC 3339.
    pub date: Option<String>,
    /// A file beside the page.
    pub link: Option<String>,
    /// Where there is no state: `planned`, `stale`, `needs gcc`.
    pub note: String,
}

impl VerifyPage<'_> {
    pub fn report(&self) -> Report {
        let r = self.revision;
        let mut report = Report::new(self.title);
        report.summary = self.summary();
        report.warnings = self.warnings();
        let mut add = |title: &str, parts: Vec<Part>| {
            if !parts.is_empty() {
                report.sections.push(Section::new(title, parts));
            }
        };
        add("Claims", claims(&r.claims));
        add("Controls", controls(&r.controls));
        add("Arms", self.arms());
        add("Measures", self.measures());
        add("Training", training(&self.curves));
        add("Answers", if self.examples.is_empty() { vec![] } else { vec![Part::Answers(self.examples.clone())] });
        add("Budgets", self.budgets());
        add("What varied", vec![Part::KeyValues(self.varied())]);
        add("Earlier verdicts", self.earlier());
        add(
            "Made by",
            vec![Part::KeyValues(self.made_by()), Part::Code(vec![format!("postgrad verify {}", self.slug)])],
        );
        report.footer = format!(
            "Postgrad {}. Intervals over seeds and items: Student's t over seeds, the items' share added.",
            env!("CARGO_PKG_VERSION")
        );
        report
    }

    fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(primary) = self.revision.primary() {
            let state = capital(self.revision.state.name());
            lines.push(format!("{state}: {}", primary.says));
            lines.push(format!("{}; it was to be {}.", estimate_words(primary), primary.condition));
        }
        lines.extend((!self.about.is_empty()).then(|| self.about.to_string()));
        lines
    }

    fn warnings(&self) -> Vec<String> {
        let r = self.revision;
        let mut out: Vec<String> = r
            .controls
            .iter()
            .filter(|c| c.state == State::Loud)
            .map(|c| format!("A control is loud, so no claim is to be believed: {} ({})", c.says, estimate_words(c)))
            .collect();
        if r.modified_code {
            out.push(format!("The sources differed from commit {}.", r.commit));
        }
        let noted =
            r.claims.iter().chain(&r.controls).filter_map(|j| Some(format!("{}: {}", j.says, j.note.as_ref()?)));
        out.extend(noted);
        out
    }

    fn arms(&self) -> Vec<Part> {
        let said: Vec<(String, String)> = self.arms.iter().filter(|(_, says)| !says.is_empty()).cloned().collect();
        if said.is_empty() { vec![] } else { vec![Part::KeyValues(said)] }
    }

    /// The recipe's order; arms that it does not name come last.
    fn arm_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.arms.iter().map(|(name, _)| name.as_str()).collect();
        for summary in &self.revision.measures {
            if !names.contains(&summary.arm.as_str()) {
                names.push(&summary.arm);
            }
        }
        names
    }

    /// A table of every stage, one row an arm, and a plot of each share (each figure, where none is a share).
    fn measures(&self) -> Vec<Part> {
        let all = &self.revision.measures;
        let mut stages: Vec<&str> = Vec::new();
        for s in all {
            if !stages.contains(&s.stage.as_str()) {
                stages.push(&s.stage);
            }
        }
        let mut parts = Vec::new();
        for stage in stages {
            let of: Vec<&Summary> = all.iter().filter(|s| s.stage == stage).collect();
            let mut metrics: Vec<&str> = Vec::new();
            for s in &of {
                if !metrics.contains(&s.metric.as_str()) {
                    metrics.push(&s.metric);
                }
            }
            let mut table = Table::new(&[&[stage], &metrics[..]].concat());
            for arm in self.arm_names() {
                let find = |metric: &&str| of.iter().find(|s| s.arm == arm && s.metric == *metric);
                if metrics.iter().any(|m| find(m).is_some()) {
                    let cells = metrics.iter().map(|m| find(m).map_or_else(Cell::none, |s| summary_cell(s)));
                    table.row([Cell::text(arm)].into_iter().chain(cells));
                }
            }
            let counts = |f: &dyn Fn(&Summary) -> usize| {
                let (low, high) =
                    (of.iter().map(|s| f(s)).min().unwrap_or(0), of.iter().map(|s| f(s)).max().unwrap_or(0));
                if low == high { grouped(low as u64) } else { format!("{low} to {}", grouped(high as u64)) }
            };
            let items = if of.iter().all(|s| s.items == 0) {
                String::new()
            } else {
                format!(", {} independent items", counts(&|s| s.items))
            };
            table.note(format!("Mean over {} seeds{items}; 95% intervals.", counts(&|s| s.seeds)));
            parts.push(Part::Table(table));
            let shares: Vec<&str> = metrics.iter().copied().filter(|m| is_share(m)).collect();
            let plotted = if shares.is_empty() { &metrics[..metrics.len().min(1)] } else { &shares[..] };
            for metric in plotted {
                let rows = self.arm_names().into_iter().filter_map(|arm| {
                    let s = of.iter().find(|s| s.arm == arm && s.metric == *metric)?;
                    Some(dot_row(arm, s.estimate, s.low, s.high, &s.per_seed))
                });
                let (title, x_label) = (format!("{stage}: {metric}"), metric.to_string());
                parts.push(Part::Dots(DotPlot {
                    title,
                    x_label,
                    percent: is_share(metric),
                    rows: rows.collect(),
                    bounds: vec![],
                }));
            }
        }
        parts
    }

    fn budgets(&self) -> Vec<Part> {
        let r = self.revision;
        let mut names: Vec<&str> = Vec::new();
        for name in r.budgets.values().flat_map(|b| b.keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        if names.is_empty() {
            return vec![];
        }
        let mut table = Table::new(&[&["arm"], &names[..]].concat());
        for (arm, spent) in self.arm_names().into_iter().filter_map(|arm| Some((arm, r.budgets.get(arm)?))) {
            let cell = |name: &&str| {
                spent.get(*name).map_or_else(Cell::none, |x| {
                    if x.fract() == 0.0 && *x >= 0.0 { Cell::count(*x as u64) } else { Cell::number(*x, 1) }
                })
            };
            table.row([Cell::text(arm)].into_iter().chain(names.iter().map(cell)));
        }
        if !r.matched.is_empty() {
            table.note(format!(
                "Equal across the arms by the recipe: {}. The others are printed only.",
                r.matched.join(", ")
            ));
        }
        vec![Part::Table(table)]
    }

    fn varied(&self) -> Vec<(String, String)> {
        let r = self.revision;
        let seeds = r.seeds.iter().map(|(arm, seeds)| format!("{arm} {}", seeds.len()));
        let mut out = vec![
            ("between seeds".to_string(), listed(&r.varied)),
            ("the same in all".into(), listed(&r.conditional_on)),
            ("seeds".into(), seeds.collect::<Vec<_>>().join(", ")),
        ];
        for (arm, point) in &r.tuned {
            let point: Vec<String> = point.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            out.push((format!("tuned for {arm}"), point.join(", ")));
        }
        out.extend(r.externals.iter().map(|(name, digest)| (name.clone(), digest.clone())));
        out
    }

    fn earlier(&self) -> Vec<Part> {
        if self.earlier.is_empty() {
            return vec![];
        }
        let mut table = Table::new(&["revision", "date", "state", "primary claim", "value"]);
        for r in self.earlier.iter().rev() {
            let says = r.primary().map_or(String::new(), |p| format!("{} {}", p.says, p.condition));
            let value = r.primary().map_or_else(Cell::none, judged_cell);
            table.row([
                Cell::count(r.number as u64),
                Cell::text(&r.date),
                state_cell(r.state),
                Cell::text(says),
                value,
            ]);
        }
        vec![Part::Table(table)]
    }

    fn made_by(&self) -> Vec<(String, String)> {
        let r = self.revision;
        let stages = r.stages.iter().map(|(kind, version)| format!("{kind} {version}"));
        let modified = if r.modified_code { " (sources modified)" } else { "" };
        vec![
            ("revision".into(), format!("{}, {}", r.number, r.date)),
            ("claims committed in".into(), r.claims_commit.clone()),
            ("run at".into(), format!("{}{modified}", r.commit)),
            ("machine".into(), format!("{}, {} threads, SIMD {}", r.machine, r.threads, r.simd)),
            ("wall time".into(), duration(r.wall_seconds)),
            ("all stages".into(), duration(r.stage_seconds)),
            ("kinds of stages".into(), stages.collect::<Vec<_>>().join(", ")),
            ("claims".into(), r.claims_hash.clone()),
            ("recipe".into(), r.recipe_hash.clone()),
        ]
    }
}

/// The page of all systems, in the order given.
pub fn systems_report(rows: &[SystemRow]) -> Report {
    let mut report = Report::new("Systems");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().filter_map(|r| r.state).for_each(|s| *counts.entry(s.name()).or_default() += 1);
    let verified = counts.values().sum::<usize>();
    let each: Vec<String> = counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
    report.summary.push(format!(
        "{verified} of {} verified{}{}.",
        rows.len(),
        if each.is_empty() { "" } else { ": " },
        each.join(", ")
    ));
    let (measured, others): (Vec<&SystemRow>, Vec<&SystemRow>) = rows.iter().partition(|r| r.primary.is_some());
    let state = |r: &SystemRow| {
        let note = if r.note.is_empty() { "–" } else { &r.note };
        r.state.map_or_else(|| Cell::text(note), state_cell)
    };
    let name = |r: &SystemRow| Cell { link: r.link.clone(), ..Cell::text(&r.slug) };
    if !measured.is_empty() {
        let mut table = Table::new(&["system", "state", "primary claim", "must be", "value", "wall time", "date"]);
        for r in measured {
            let claim = r.primary.as_ref();
            table.row([
                name(r),
                state(r),
                Cell::text(claim.map_or("", |p| &p.says)),
                Cell::text(claim.map_or("", |p| &p.condition)),
                claim.map_or_else(Cell::none, judged_cell),
                r.wall_seconds.map_or_else(Cell::none, |s| Cell { figure: true, ..Cell::text(duration(s)) }),
                Cell::text(r.date.as_deref().map_or("", |d| d.split('T').next().unwrap_or(d))),
            ]);
        }
        table.note("holds: the whole interval satisfies the condition; contrary: all of it violates its sign; underpowered: wider than the smallest effect of interest; null: neither; described: fewer seeds than declared; loud: a control failed; stale: the recipe or a stage has changed since, the value is of before.");
        report.sections.push(Section::new("With a ledger", vec![Part::Table(table)]));
    }
    if !others.is_empty() {
        let mut table = Table::new(&["system", "title", "kind", "state"]);
        others.iter().for_each(|r| {
            table.row([name(r), Cell::text(&r.title), Cell::text(&r.kind), state(r)]);
        });
        table.note("runs: there is a recipe, and nothing is verified yet.");
        report.sections.push(Section::new("Without one", vec![Part::Table(table)]));
    }
    report.footer = format!("Postgrad {}.", env!("CARGO_PKG_VERSION"));
    report
}

/// Training curves of every arm and stage, and the first seed's answers to the same prompts, from the folders of results
/// that are still there. `results`: by arm and seed, each stage's. Arms that share a result share its curve's name.
pub fn gather(
    arms: &[(String, String)],
    results: &BTreeMap<(String, u64), BTreeMap<String, Found>>,
) -> Result<(Vec<Curve>, Vec<Answers>)> {
    let mut curves: Vec<Curve> = Vec::new();
    let mut answered: Vec<(&str, BTreeMap<&str, &Path>)> = Vec::new();
    for (arm, _) in arms {
        for ((_, seed), stages) in results.iter().filter(|((a, _), _)| a == arm) {
            for (stage, found) in stages {
                let points = loss_curve(&found.dir.join(METRICS_FILE))?;
                if points.is_empty() {
                    continue;
                }
                match curves.iter_mut().find(|c| c.arm == *arm && c.stage == *stage) {
                    Some(curve) => curve.seeds.push(points),
                    None => curves.push(Curve {
                        arm: arm.clone(),
                        stage: stage.clone(),
                        figure: "loss".into(),
                        seeds: vec![points],
                    }),
                }
            }
            let first = results.keys().filter(|(a, _)| a == arm).map(|(_, s)| *s).min();
            if first == Some(*seed) {
                let there = stages.iter().map(|(stage, f)| (stage.as_str(), f.dir.as_path()));
                answered.push((arm, there.filter(|(_, dir)| dir.join("answers.jsonl").exists()).collect()));
            }
        }
    }
    // The first stage (by name) that most arms answered.
    let count = |stage: &str| answered.iter().filter(|(_, s)| s.contains_key(stage)).count();
    let mut stages: Vec<&str> = answered.iter().flat_map(|(_, s)| s.keys().copied()).collect();
    stages.sort_unstable_by_key(|s| (std::cmp::Reverse(count(s)), *s));
    let Some(stage) = stages.first() else { return Ok((curves, vec![])) };
    let mut examples: Vec<Answers> = Vec::new();
    for (arm, dirs) in answered.iter().filter_map(|(arm, s)| Some((arm, s.get(stage)?))) {
        for row in jsonl::read::<serde_json::Value>(&dirs.join("answers.jsonl"))?.take(EXAMPLES) {
            // A kind may keep answers of another shape under this name.
            let Ok(row) = serde_json::from_value::<Told>(row?.1) else { break };
            let Some(response) = row.responses.into_iter().next() else { continue };
            let right = Some(response.strict && !response.truncated);
            let answer = Answer { label: arm.to_string(), text: response.text, right };
            let room = examples.len() < EXAMPLES;
            match examples.iter_mut().find(|e| e.prompt == row.prompt) {
                Some(e) => e.answers.push(answer),
                None if room => {
                    examples.push(Answers { prompt: row.prompt, gold: Some(row.reference), answers: vec![answer] });
                }
                None => {}
            }
        }
    }
    Ok((curves, examples))
}

/// What is shown of a row of answers.
#[derive(Deserialize)]
struct Told {
    prompt: String,
    reference: String,
    responses: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    text: String,
    strict: bool,
    truncated: bool,
}

/// (update, loss) of a stage's record; empty where there is none.
fn loss_curve(path: &Path) -> Result<Vec<(f64, f64)>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let mut points = Vec::new();
    for row in jsonl::read::<Event>(path)? {
        let (_, event) = row?;
        if let Some(loss) = figure(&event.fields, "loss").filter(|_| event.kind == "step") {
            points.push((event.step as f64, loss));
        }
    }
    Ok(points)
}

/// One plot a stage and figure, one line an arm: the mean over seeds, the band from the lowest to the highest seed.
fn training(curves: &[Curve]) -> Vec<Part> {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for c in curves {
        if !names.contains(&(c.stage.as_str(), c.figure.as_str())) {
            names.push((&c.stage, &c.figure));
        }
    }
    let plot = |(stage, figure): (&str, &str)| {
        let of = curves.iter().filter(|c| c.stage == stage && c.figure == figure);
        Part::Lines(LinePlot {
            title: format!("{stage}: training {figure}, mean over seeds, band from the lowest to the highest seed"),
            x_label: "update".into(),
            y_label: figure.into(),
            series: of.map(over_seeds).collect(),
            ..LinePlot::default()
        })
    };
    names.into_iter().map(plot).collect()
}

fn over_seeds(curve: &Curve) -> Series {
    let smooth: Vec<Vec<(f64, f64)>> =
        curve.seeds.iter().map(|points| smoothed(points).unwrap_or_else(|| points.clone())).collect();
    // Of each update: sum, count, lowest, highest.
    let mut at: BTreeMap<u64, (f64, usize, f64, f64)> = BTreeMap::new();
    for (x, y) in smooth.iter().flatten().filter(|p| p.1.is_finite() && p.0 >= 0.0) {
        let e = at.entry(*x as u64).or_insert((0.0, 0, f64::INFINITY, f64::NEG_INFINITY));
        *e = (e.0 + y, e.1 + 1, e.2.min(*y), e.3.max(*y));
    }
    // Only where all seeds are: a mean over fewer would jump.
    at.retain(|_, e| e.1 == curve.seeds.len());
    Series {
        name: curve.arm.clone(),
        points: at.iter().map(|(x, e)| (*x as f64, e.0 / e.1 as f64)).collect(),
        band: if curve.seeds.len() > 1 { at.values().map(|e| (e.2, e.3)).collect() } else { vec![] },
        faint: false,
    }
}

fn claims(all: &[Judged]) -> Vec<Part> {
    let mut parts = vec![Part::Table(judged_table("claim", all))];
    for j in all {
        let bounds = match Condition::parse(&j.condition) {
            Ok(Condition::Above(c, _) | Condition::Below(c, _)) => vec![c],
            Ok(Condition::In(a, b)) => vec![a, b],
            Err(_) => vec![],
        };
        parts.push(Part::Dots(DotPlot {
            title: j.says.clone(),
            x_label: format!("{} (must be {}; a dot a seed)", j.value, j.condition),
            percent: false,
            rows: vec![dot_row(j.state.name(), j.estimate, j.low, j.high, &j.per_seed)],
            bounds,
        }));
    }
    parts
}

fn controls(all: &[Judged]) -> Vec<Part> {
    if all.is_empty() { vec![] } else { vec![Part::Table(judged_table("control", all))] }
}

fn judged_table(what: &str, all: &[Judged]) -> Table {
    let mut table = Table::new(&[what, "state", "value", "must be", "p", "seeds", "items"]);
    for j in all {
        let primary = if j.primary { " (primary)" } else { "" };
        table.row([
            Cell::text(format!("{}{primary}", j.says)),
            state_cell(j.state),
            judged_cell(j),
            Cell::text(&j.condition),
            j.p.map_or_else(Cell::none, |p| Cell {
                figure: true,
                ..Cell::text(if p < 0.0001 { "< 0.0001".into() } else { fixed(p, 4) })
            }),
            Cell::count(j.seeds as u64),
            if j.items == 0 { Cell::none() } else { Cell::count(j.items as u64) },
        ]);
    }
    let mut levels: Vec<f64> = all.iter().map(|j| j.level).filter(|l| *l != LEVEL).collect();
    levels.sort_by(f64::total_cmp);
    if let Some((low, high)) = levels.first().zip(levels.last()) {
        table.note(format!(
            "Intervals are 95%; those of claims that are not primary are widened by Holm's adjustment (levels {}% to {}%). p is of the nearest bound, not adjusted.",
            fixed(100.0 * low, 1),
            fixed(100.0 * high, 1)
        ));
    } else {
        table.note("Intervals are 95%. p is of the nearest bound.");
    }
    for j in all {
        table.note(format!("{}: {}", j.says, j.value));
    }
    table
}

fn dot_row(label: &str, value: Option<f64>, low: Option<f64>, high: Option<f64>, seeds: &[(u64, f64)]) -> DotRow {
    DotRow {
        label: label.into(),
        estimate: known(value, low, high, seeds.len()),
        dots: seeds.iter().map(|(seed, v)| (format!("seed {seed}"), *v)).collect(),
    }
}

fn known(value: Option<f64>, low: Option<f64>, high: Option<f64>, n: usize) -> Estimate {
    let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
    Estimate { value: value.unwrap_or(f64::NAN), low, high, n }
}

fn judged_cell(j: &Judged) -> Cell {
    Cell { n: None, ..Cell::estimate(&known(j.estimate, j.low, j.high, j.seeds), 3) }
}

fn summary_cell(s: &Summary) -> Cell {
    let e = known(s.estimate, s.low, s.high, s.seeds);
    Cell { n: None, ..if is_share(&s.metric) { Cell::percent(&e) } else { Cell::estimate(&e, 3) } }
}

fn state_cell(state: State) -> Cell {
    let tone = match state {
        State::Holds | State::Quiet => Tone::Good,
        State::Contrary | State::Loud => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell::text(state.name()).tone(tone)
}

/// `0.122 [0.081, 0.163] over 5 seeds and 200 items`.
fn estimate_words(j: &Judged) -> String {
    let items = if j.items == 0 { String::new() } else { format!(" and {} items", grouped(j.items as u64)) };
    let s = if j.seeds == 1 { "" } else { "s" };
    format!("{} over {} seed{s}{items}", judged_cell(j).plain(), j.seeds)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// `50.4 s`, `4 min 48 s`, `2 h 01 min`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if !(0.0..1e12).contains(&s) => "–".into(),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_means_with_their_range() {
        let curve = Curve {
            arm: "a".into(),
            stage: "tuned".into(),
            figure: "loss".into(),
            seeds: vec![vec![(1.0, 2.0), (2.0, 1.0), (3.0, f64::NAN)], vec![(1.0, 4.0), (2.0, 2.0), (3.0, 1.0)]],
        };
        let series = over_seeds(&curve);
        assert_eq!(series.points, [(1.0, 3.0), (2.0, 1.5)]);
        assert_eq!(series.band, [(2.0, 4.0), (1.0, 2.0)]);
        assert_eq!(
            (duration(59.96), duration(3_599.0), duration(7_290.0)),
            ("60.0 s".into(), "59 min 59 s".into(), "2 h 01 min".into())
        );
    }
}
