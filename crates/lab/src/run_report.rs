//! The page of one run, made from what the store holds of it.
//!
//! Events it knows: `step` (loss, lr, grad_norm, tokens_per_s and any other number), `eval` (set, loss, accuracy, n, low,
//! high and any other number), `sample` (prompt, text, perhaps gold and correct), `warning` (text), `checkpoint`. Where
//! per-item rows of a set were kept before and after, the change is paired.

use postgrad_base::Result;
use postgrad_base::event::Event;
use postgrad_numerics::Estimate;
use serde_json::Value;

use crate::compare::{
    Measured, Measurements, cell, figure, is_share, less_is_better, measurements, paired_items, settings,
};
use crate::plot::{IntervalPlot, IntervalRow, LinePlot, Mark, Series};
use crate::report::{Answer, Example, Part, Report, Section};
use crate::store::{Run, Status, Store};
use crate::table::{Cell, Table, fixed, grouped, one_line};

/// Figures of steps beyond the known ones that are plotted.
const MORE_PLOTS: usize = 8;
/// Known figures of a step: field, title, label of the axis.
const STEP_PLOTS: [(&str, &str, &str); 4] = [
    ("loss", "Training loss", "loss"),
    ("lr", "Learning rate", "learning rate"),
    ("grad_norm", "Gradient norm before clipping", "norm"),
    ("tokens_per_s", "Speed", "tokens/s"),
];

/// The page of a run, named as [`Store::run`] takes it. A run without events has a page too.
pub fn run_report(store: &Store, run: &str) -> Result<Report> {
    let run = store.run(run)?;
    let events = store.events(&run.id, None)?;
    let of = |kind: &str| events.iter().filter(|e| e.kind == kind).collect::<Vec<_>>();
    let (steps, evals) = (of("step"), measurements(&events));
    let about = &run.about;

    let mut report =
        Report::new(if about.name.is_empty() { run.id.clone() } else { format!("{}: {}", run.id, about.name) });
    report.summary = summary(&run, &steps, &evals);
    report.warnings = warnings(&run, &events);
    let mut add = |title: &str, parts: Vec<Part>| {
        if !parts.is_empty() {
            report.sections.push(Section::new(title, parts));
        }
    };
    add("Before and after", before_and_after(store, &run, &evals)?);
    add("Training", training(&steps));
    add("Evaluation over steps", over_steps(&evals));
    add("Samples", examples(&of("sample")));
    add("Checkpoints", checkpoints(&of("checkpoint")));
    let mut about_run = vec![("run".to_string(), run.id.clone()), ("kind".into(), about.kind.clone())];
    about_run.extend([("status".into(), run.status.name().into()), ("started".into(), run.created.clone())]);
    about_run.extend(run.ended.clone().map(|t| ("ended".into(), t)));
    about_run.push(("folder".into(), run.folder.display().to_string()));
    about_run.extend(settings(&run));
    add("Settings", vec![Part::KeyValues(about_run)]);
    add(
        "Commands",
        vec![Part::Code(vec![
            format!("postgrad runs show {}", run.id),
            format!("postgrad runs compare {} OTHER", run.id),
        ])],
    );
    report.footer = format!("Postgrad {}. Intervals are 95%.", env!("CARGO_PKG_VERSION"));
    Ok(report)
}

fn summary(run: &Run, steps: &[&Event], evals: &Measurements) -> Vec<String> {
    let about = &run.about;
    let mut lines = Vec::new();
    let what = [("model", &about.model), ("data", &about.data)];
    let what: Vec<String> = what.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k} {v}")).collect();
    if !what.is_empty() {
        lines.push(format!("{}, seed {}.", what.join(", "), about.seed));
    }
    for ((set, metric), series) in evals.iter().filter(|(k, _)| is_share(&k.1) && !less_is_better(&k.1)) {
        let said = |m: &Measured| cell(metric, &m.estimate).plain().replace("  n ", ", n ");
        if let [first, .., last] = &series[..] {
            let before = Cell { n: None, ..cell(metric, &first.estimate) };
            let before = if first.estimate.n == last.estimate.n { before.plain() } else { said(first) };
            lines.push(format!("{set}: {metric} {before} → {}.", said(last)));
        } else if let [only] = &series[..] {
            lines.push(format!("{set}: {metric} {} at step {}.", said(only), only.step));
        }
    }
    let losses: Vec<(u64, f64)> = steps.iter().filter_map(|e| Some((e.step, figure(&e.fields, "loss")?))).collect();
    if let (Some(first), Some(last)) = (losses.first(), losses.last()) {
        let line = format!("Training loss {} at step {}", fixed(first.1, 3), grouped(first.0));
        lines.push(format!("{line}, {} at step {}.", fixed(last.1, 3), grouped(last.0)));
    }
    lines
}

/// The run's own warnings, each once, after what its state says.
fn warnings(run: &Run, events: &[Event]) -> Vec<String> {
    let last = events.iter().map(|e| e.step).max().unwrap_or(0);
    let mut out = match run.status {
        Status::Done => vec![],
        Status::Running => vec![format!("The run is still at work: figures up to step {}.", grouped(last))],
        Status::Killed => vec![format!("The run was killed: its figures end at step {}.", grouped(last))],
        Status::Failed => {
            let why = run.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
            vec![format!("The run failed at step {}{why}", grouped(last))]
        }
    };
    for text in events.iter().filter(|e| e.kind == "warning").filter_map(|e| text_of(e, "text")) {
        if !out.contains(&text) {
            out.push(text);
        }
    }
    let broken =
        events.iter().filter(|e| e.kind == "step" && figure(&e.fields, "loss").is_some_and(|l| !l.is_finite()));
    let steps = events.iter().filter(|e| e.kind == "step").count() as u64;
    if let Some(first) = broken.clone().next() {
        out.push(format!(
            "The training loss was not finite: {} of {} steps, the first {}.",
            grouped(broken.count() as u64),
            grouped(steps),
            grouped(first.step)
        ));
    }
    out
}

fn before_and_after(store: &Store, run: &Run, evals: &Measurements) -> Result<Vec<Part>> {
    let kept = store.item_sets(&run.id)?;
    let mut table = Table::new(&["set", "measure", "before", "after", "change"]);
    let mut plot =
        IntervalPlot { title: "Accuracy".into(), x_label: "share of items".into(), percent: true, rows: vec![] };
    let (mut some_paired, mut some_not) = (false, false);
    let mut said = None;
    for ((set, metric), series) in by_set(evals) {
        let [first, .., last] = &series[..] else { continue };
        let steps = kept.iter().find(|(s, _)| s == set).map_or(&[][..], |(_, steps)| steps);
        let mut change = None;
        if steps.contains(&first.step) && steps.contains(&last.step) {
            let all = paired_items(store, (&run.id, first.step), (&run.id, last.step), set)?;
            change = all.into_iter().find(|(name, _)| name == metric).map(|(_, e)| e);
        }
        let paired = change.is_some();
        (some_paired, some_not) = (some_paired | paired, some_not | !paired);
        let change = change.unwrap_or(Estimate {
            value: last.estimate.value - first.estimate.value,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            n: last.estimate.n,
        });
        let difference = Cell::difference(&change, is_share(metric), 3, !less_is_better(metric));
        let difference = Cell { n: difference.n.filter(|n| paired && *n != last.estimate.n), ..difference };
        let before = Cell { n: None, ..cell(metric, &first.estimate) };
        let before = if first.estimate.n == last.estimate.n { before } else { cell(metric, &first.estimate) };
        let name = if said.replace(set) == Some(set) { "" } else { set };
        table.row([Cell::text(name), Cell::text(metric), before, cell(metric, &last.estimate), difference]);
        if is_share(metric) && !less_is_better(metric) {
            let label = if metric == "accuracy" { set.clone() } else { format!("{set} {metric}") };
            let mark = |name: &str, m: &Measured| Mark { name: name.into(), estimate: m.estimate };
            plot.rows.push(IntervalRow { label, marks: vec![mark("before", first), mark("after", last)] });
        }
    }
    if table.rows.is_empty() {
        return Ok(vec![]);
    }
    if some_paired {
        table.note("Changes with an interval are paired on the same items (bootstrap over items or their clusters); coloured where the interval leaves out 0.");
    }
    if some_not {
        table.note("Changes without an interval: no per-item rows were kept for both ends.");
    }
    let mut parts = vec![Part::Table(table)];
    if !plot.rows.is_empty() {
        parts.push(Part::Intervals(plot));
    }
    Ok(parts)
}

/// The figures set by set, shares first.
fn by_set(evals: &Measurements) -> Vec<&((String, String), Vec<Measured>)> {
    let mut sets: Vec<&str> = Vec::new();
    for ((set, _), _) in evals {
        if !sets.contains(&set.as_str()) {
            sets.push(set);
        }
    }
    let mut all: Vec<_> = evals.iter().collect();
    all.sort_by_key(|((set, metric), _)| (sets.iter().position(|s| s == set), !is_share(metric)));
    all
}

fn training(steps: &[&Event]) -> Vec<Part> {
    let mut names: Vec<&str> = STEP_PLOTS.iter().map(|p| p.0).collect();
    for name in steps.iter().flat_map(|e| e.fields.keys()) {
        if !names.contains(&name.as_str()) && names.len() < STEP_PLOTS.len() + MORE_PLOTS {
            names.push(name);
        }
    }
    let plot = |name: &str| {
        let points: Vec<(f64, f64)> =
            steps.iter().filter_map(|e| Some((e.step as f64, figure(&e.fields, name)?))).collect();
        if points.iter().filter(|p| p.1.is_finite()).count() < 2 {
            return None;
        }
        let known = STEP_PLOTS.iter().find(|p| p.0 == name);
        let (title, label) = known.map_or_else(|| (capital(name), name.to_string()), |p| (p.1.into(), p.2.into()));
        let finite = || points.iter().map(|p| p.1).filter(|v| v.is_finite());
        let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let smooth = if name == "lr" { None } else { smoothed(&points) };
        let mut series = vec![Series { name: label.clone(), points, band: vec![], faint: smooth.is_some() }];
        series.extend(smooth.map(|points| Series { name: label.clone(), points, band: vec![], faint: false }));
        Some(Part::Lines(LinePlot {
            title,
            x_label: "step".into(),
            y_label: label,
            y_log: name == "loss" && low > 0.0 && high > 30.0 * low,
            small: name != "loss",
            series,
            ..LinePlot::default()
        }))
    };
    names.into_iter().filter_map(plot).collect()
}

/// A centred moving mean over a 40th of the run, less at its ends; none where there are too few points to need one.
pub(crate) fn smoothed(points: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    let reach = points.len() / 80;
    if reach == 0 {
        return None;
    }
    let at = |i: usize| {
        let window = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        let window = window.iter().map(|p| p.1).filter(|v| v.is_finite());
        let (sum, n) = window.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
        (points[i].0, sum / n)
    };
    Some((0..points.len()).map(at).filter(|p| p.1.is_finite()).collect())
}

/// One plot a figure, one line a set; only figures measured at three steps or more.
fn over_steps(evals: &Measurements) -> Vec<Part> {
    let mut metrics: Vec<&str> = Vec::new();
    for ((_, metric), series) in evals {
        if series.len() > 2 && !metrics.contains(&metric.as_str()) {
            metrics.push(metric);
        }
    }
    let line = |set: &str, series: &[Measured]| {
        let known = series.iter().all(|m| m.estimate.low.is_finite() && m.estimate.high.is_finite());
        Series {
            name: set.into(),
            points: series.iter().map(|m| (m.step as f64, m.estimate.value)).collect(),
            band: if known { series.iter().map(|m| (m.estimate.low, m.estimate.high)).collect() } else { vec![] },
            faint: false,
        }
    };
    let plot = |metric: &str| {
        let of = evals.iter().filter(|((_, m), series)| m == metric && series.len() > 2);
        Part::Lines(LinePlot {
            title: capital(metric),
            x_label: "step".into(),
            y_label: metric.into(),
            percent: is_share(metric),
            series: of.map(|((set, _), series)| line(set, series)).collect(),
            ..LinePlot::default()
        })
    };
    metrics.into_iter().map(plot).collect()
}

/// Each prompt with its first and its last text.
fn examples(samples: &[&Event]) -> Vec<Part> {
    let mut all: Vec<(String, Vec<&Event>)> = Vec::new();
    for event in samples {
        let prompt = text_of(event, "prompt").unwrap_or_default();
        match all.iter_mut().find(|(p, _)| *p == prompt) {
            Some((_, events)) => events.push(event),
            None => all.push((prompt, vec![event])),
        }
    }
    let answer = |e: &Event| Answer {
        label: format!("Step {}", grouped(e.step)),
        text: text_of(e, "text").unwrap_or_default(),
        right: e.fields.get("correct").and_then(Value::as_bool),
    };
    let example = |(prompt, events): (String, Vec<&Event>)| Example {
        prompt,
        before: (events.len() > 1).then(|| answer(events[0])),
        after: events.last().map(|e| answer(e)),
        gold: events.iter().find_map(|e| text_of(e, "gold")),
    };
    let all: Vec<Example> = all.into_iter().map(example).collect();
    if all.is_empty() { vec![] } else { vec![Part::Examples(all)] }
}

fn checkpoints(events: &[&Event]) -> Vec<Part> {
    let mut names: Vec<&str> = Vec::new();
    for name in events.iter().flat_map(|e| e.fields.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if events.is_empty() {
        return vec![];
    }
    let mut table = Table::new(&[&["step"][..], &names].concat());
    for event in events {
        let cell = |name: &&str| match event.fields.get(*name) {
            None => Cell::default(),
            Some(Value::String(s)) => Cell::text(one_line(s)),
            Some(Value::Number(n)) if n.is_u64() => Cell::count(n.as_u64().unwrap_or(0)),
            Some(Value::Number(n)) => Cell::number(n.as_f64().unwrap_or(f64::NAN), 4),
            Some(other) => Cell::text(other.to_string()),
        };
        table.row([Cell::count(event.step)].into_iter().chain(names.iter().map(cell)));
    }
    vec![Part::Table(table)]
}

fn text_of(event: &Event, name: &str) -> Option<String> {
    match event.fields.get(name)? {
        Value::String(s) => Some(s.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// A figure's name as a title.
pub(crate) fn capital(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + &letters.as_str().replace('_', " ")
}
