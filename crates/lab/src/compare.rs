//! Two or more runs side by side: what was set differently, what came out, and, where runs answered the same items, the
//! paired difference to the first run.

use std::collections::BTreeMap;

use postgrad_base::event::Event;
use postgrad_base::{Error, Result, Stream};
use postgrad_numerics::{Estimate, LEVEL, paired_bootstrap, wilson};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::{Run, Store};
use crate::table::{Cell, Table};

const REPLICATES: usize = 4_000;

/// Runs side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub runs: Vec<Run>,
    /// Settings that are not the same in all runs: key and each run's value.
    pub differences: Vec<(String, Vec<Option<String>>)>,
    pub metrics: Vec<Compared>,
    /// Differences to the first run on the same items.
    pub paired: Vec<Paired>,
}

/// One figure of one set over the runs.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    pub set: String,
    pub metric: String,
    pub last: Vec<Option<Measured>>,
    pub best: Vec<Option<Measured>>,
}

/// What one run measured last of one figure, minus what the first run did, item by item.
#[derive(Clone, Debug, Serialize)]
pub struct Paired {
    pub set: String,
    pub metric: String,
    pub run: String,
    pub to: String,
    pub difference: Estimate,
}

/// A figure of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub step: u64,
    pub estimate: Estimate,
}

/// Compares runs, named as [`Store::run`] takes them.
pub fn compare(store: &Store, names: &[&str]) -> Result<Comparison> {
    if names.len() < 2 {
        return Err(Error::usage("a comparison needs two runs").help("name two or more"));
    }
    let runs = names.iter().map(|name| store.run(name)).collect::<Result<Vec<_>>>()?;
    let each =
        runs.iter().map(|r| Ok(measurements(&store.events(&r.id, Some("eval"))?))).collect::<Result<Vec<_>>>()?;
    let mut keys: Vec<(String, String)> = Vec::new();
    for (key, _) in each.iter().flatten() {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let of = |run: &Measurements, key: &(String, String)| -> Vec<Measured> {
        run.iter().find(|(k, _)| k == key).map(|(_, series)| series.clone()).unwrap_or_default()
    };
    let row = |key: &(String, String)| Compared {
        set: key.0.clone(),
        metric: key.1.clone(),
        last: each.iter().map(|run| of(run, key).last().copied()).collect(),
        best: each.iter().map(|run| best(&of(run, key), &key.1)).collect(),
    };
    let metrics = keys.iter().map(row).collect();
    let mut paired = Vec::new();
    for run in &runs[1..] {
        paired.extend(pair(store, &runs[0], run)?);
    }
    Ok(Comparison { differences: differences(&runs), metrics, paired, runs })
}

impl Comparison {
    /// Settings, figures and paired differences as tables, with their titles.
    pub fn tables(&self) -> Vec<(String, Table)> {
        let ids: Vec<&str> = self.runs.iter().map(|r| r.id.as_str()).collect();
        let with = |first: &[&str]| Table::new(&[first, &ids].concat());
        let mut settings = with(&["setting"]);
        for (key, values) in &self.differences {
            let cells = values.iter().map(|v| v.as_ref().map_or_else(|| Cell::text("–"), Cell::text));
            settings.row([Cell::text(key)].into_iter().chain(cells));
        }
        let mut figures = with(&["set", "measure", ""]);
        for m in &self.metrics {
            let rows =
                if m.last == m.best { vec![("last", &m.last)] } else { vec![("last", &m.last), ("best", &m.best)] };
            for (what, values) in rows {
                let cells = values.iter().map(|v| v.map_or_else(Cell::none, |v| cell(&m.metric, &v.estimate)));
                figures.row([&m.set, &m.metric, what].map(Cell::text).into_iter().chain(cells));
            }
        }
        let mut paired = Table::new(&["set", "measure", "difference", "value"]);
        for p in &self.paired {
            let value = Cell::difference(&p.difference, is_share(&p.metric), 3, !less_is_better(&p.metric));
            paired.row([Cell::text(&p.set), Cell::text(&p.metric), Cell::text(format!("{} - {}", p.run, p.to)), value]);
        }
        paired.note("On the items that both answered; 95% intervals by bootstrap over items (or their clusters).");
        let all = [("Settings that differ", settings), ("Figures", figures), ("Paired differences", paired)];
        all.into_iter().filter(|(_, t)| !t.rows.is_empty()).map(|(title, t)| (title.into(), t)).collect()
    }
}

/// Each figure of each set with its values over steps, in order of first appearance.
pub(crate) type Measurements = Vec<((String, String), Vec<Measured>)>;

/// The figures of `eval` events. `n`, `low` and `high` belong to `accuracy` where there is one, else to `loss`;
/// `<name>_low` and `<name>_high` to the figure of that name. A share without ends gets Wilson's.
pub(crate) fn measurements(events: &[Event]) -> Measurements {
    let mut all: Measurements = Vec::new();
    for event in events.iter().filter(|e| e.kind == "eval") {
        let set = event.fields.get("set").and_then(Value::as_str).unwrap_or("eval").to_string();
        let n = figure(&event.fields, "n").filter(|n| *n >= 0.0).map_or(0, |n| n as usize);
        let main = if event.fields.contains_key("accuracy") { "accuracy" } else { "loss" };
        for name in event.fields.keys() {
            let end =
                ["_low", "_high"].iter().any(|e| name.strip_suffix(e).is_some_and(|m| event.fields.contains_key(m)));
            let Some(value) = figure(&event.fields, name) else { continue };
            if end || ["n", "low", "high"].contains(&name.as_str()) {
                continue;
            }
            let ends = |low: &str, high: &str| Some((figure(&event.fields, low)?, figure(&event.fields, high)?));
            let own = ends(&format!("{name}_low"), &format!("{name}_high"));
            let known = own.or_else(|| (name == main).then(|| ends("low", "high")).flatten());
            let (low, high) = known.unwrap_or_else(|| {
                if is_share(name) && n > 0 && (0.0..=1.0).contains(&value) {
                    let e = wilson((value * n as f64).round() as usize, n, LEVEL);
                    (e.low, e.high)
                } else {
                    (f64::NEG_INFINITY, f64::INFINITY)
                }
            });
            let key = (set.clone(), name.clone());
            let measured = Measured { step: event.step, estimate: Estimate { value, low, high, n } };
            match all.iter_mut().find(|(k, _)| *k == key) {
                // The same step again replaces what was measured there.
                Some((_, series)) => {
                    series.retain(|m| m.step != event.step);
                    series.push(measured);
                }
                None => all.push((key, vec![measured])),
            }
        }
    }
    all
}

/// A field's number: what is not finite is null or text in JSON.
pub(crate) fn figure(fields: &Map<String, Value>, name: &str) -> Option<f64> {
    match fields.get(name)? {
        Value::Number(n) => n.as_f64(),
        Value::Null => Some(f64::NAN),
        Value::String(s) => match s.as_str() {
            "NaN" | "nan" => Some(f64::NAN),
            "inf" | "Infinity" | "∞" => Some(f64::INFINITY),
            "-inf" | "-Infinity" | "-∞" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a smaller value of a figure is the better one, by its name.
pub(crate) fn less_is_better(metric: &str) -> bool {
    let less = ["loss", "nll", "perplexity", "ppl", "error", "errors", "ece", "kl", "failures", "truncated"];
    metric.split(|c: char| !c.is_alphanumeric()).any(|word| less.contains(&word))
}

/// Whether a figure is a share, shown as per cent.
pub(crate) fn is_share(metric: &str) -> bool {
    let share = |w: &str| metric == w || metric.starts_with(&format!("{w}_")) || metric.ends_with(&format!("_{w}"));
    let shares = ["accuracy", "majority", "correct", "truncated", "parse_failures", "share"];
    metric.starts_with("pass@") || shares.iter().any(|w| share(w))
}

pub(crate) fn cell(metric: &str, e: &Estimate) -> Cell {
    let cell = if is_share(metric) { Cell::percent(e) } else { Cell::estimate(e, 3) };
    if e.n == 0 { Cell { n: None, ..cell } } else { cell }
}

fn best(series: &[Measured], metric: &str) -> Option<Measured> {
    let good = series.iter().filter(|m| !m.estimate.value.is_nan());
    let sign = if less_is_better(metric) { 1.0 } else { -1.0 };
    good.min_by(|a, b| (sign * a.estimate.value).total_cmp(&(sign * b.estimate.value))).copied()
}

/// The last items of every set that both runs have, paired by item id.
fn pair(store: &Store, from: &Run, run: &Run) -> Result<Vec<Paired>> {
    let theirs = store.item_sets(&from.id)?;
    let mut out = Vec::new();
    for (set, steps) in store.item_sets(&run.id)? {
        let (Some(step), Some((_, before))) = (steps.last(), theirs.iter().find(|(s, _)| *s == set)) else { continue };
        let Some(before) = before.last() else { continue };
        for (metric, difference) in paired_items(store, (&from.id, *before), (&run.id, *step), &set)? {
            out.push(Paired { set: set.clone(), metric, run: run.id.clone(), to: from.id.clone(), difference });
        }
    }
    Ok(out)
}

/// For each numeric figure of the items of `set`: its mean at the second (run, step) minus the first, over common items.
pub(crate) fn paired_items(
    store: &Store,
    before: (&str, u64),
    after: (&str, u64),
    set: &str,
) -> Result<Vec<(String, Estimate)>> {
    let first: BTreeMap<String, _> =
        store.items(before.0, set, before.1)?.into_iter().map(|i| (i.item, i.metrics)).collect();
    // Of each figure: (before, after, cluster) of the common items.
    let mut figures: BTreeMap<String, Vec<(f64, f64, String)>> = BTreeMap::new();
    for item in store.items(after.0, set, after.1)? {
        let Some(old) = first.get(&item.item) else { continue };
        for name in item.metrics.keys() {
            let number = |m: &Map<String, Value>| match m.get(name) {
                Some(Value::Bool(b)) => Some(f64::from(u8::from(*b))),
                _ => figure(m, name).filter(|x| x.is_finite()),
            };
            if let (Some(a), Some(b)) = (number(old), number(&item.metrics)) {
                let cluster = item.cluster.clone().unwrap_or_else(|| item.item.clone());
                figures.entry(name.clone()).or_default().push((a, b, cluster));
            }
        }
    }
    figures
        .into_iter()
        .map(|(name, rows)| {
            let (old, new): (Vec<f64>, Vec<f64>) = rows.iter().map(|r| (r.0, r.1)).unzip();
            let clusters: Vec<&str> = rows.iter().map(|r| r.2.as_str()).collect();
            let mut stream = Stream::new(0, &["eval", "bootstrap", set, &name]);
            Ok((name, paired_bootstrap(&old, &new, Some(&clusters), LEVEL, REPLICATES, &mut stream)?))
        })
        .collect()
}

/// Settings whose values are not all the same, in order of first appearance.
fn differences(runs: &[Run]) -> Vec<(String, Vec<Option<String>>)> {
    let all: Vec<Vec<(String, String)>> = runs.iter().map(settings).collect();
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in all.iter().flatten() {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let value = |run: &Vec<(String, String)>, key| run.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    keys.into_iter()
        .map(|key| (key.clone(), all.iter().map(|run| value(run, key)).collect::<Vec<_>>()))
        .filter(|(_, values)| values.iter().any(|v| *v != values[0]))
        .collect()
}

/// A run's model, data, seed, machine and configuration as flat names and texts.
pub(crate) fn settings(run: &Run) -> Vec<(String, String)> {
    let about = &run.about;
    let mut out = vec![("model".to_string(), about.model.clone()), ("data".into(), about.data.clone())];
    out.push(("seed".into(), about.seed.to_string()));
    let mut config = Vec::new();
    flatten("", &about.config, &mut config);
    let said = ["model", "data", "seed"];
    out.extend(config.into_iter().filter(|(k, _)| !said.contains(&k.as_str())));
    out.push(("commit".into(), about.commit.clone().unwrap_or_default()));
    out.push(("simd".into(), about.simd.clone()));
    out.push(("threads".into(), about.threads.to_string()));
    out.push(("machine".into(), about.machine.clone()));
    out.retain(|(_, v)| !v.is_empty());
    out
}

/// Nested settings as `optimiser.lr`; lists of plain values stay on one line.
fn flatten(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&key, value, out);
            }
        }
        Value::Null if name.is_empty() => {}
        Value::String(s) => out.push((name.into(), s.clone())),
        Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
            let texts = items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_string));
            out.push((name.into(), texts.collect::<Vec<_>>().join(", ")));
        }
        other => out.push((name.into(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_evaluations_ends_belong_to_its_accuracy() {
        let event = Event::new("eval", 10)
            .with("set", "chain")
            .with("loss", 1.5)
            .with("accuracy", 0.5)
            .with("n", 100)
            .with("low", 0.4)
            .with("high", 0.6)
            .with("note", "not a figure")
            .with("ece", f64::NAN)
            .with("ece_low", 0.1)
            .with("ece_high", 0.2);
        let all = measurements(&[event.clone(), event]);
        let names: Vec<_> = all.iter().map(|((_, m), s)| (m.as_str(), s.len())).collect();
        assert_eq!(names, [("loss", 1), ("accuracy", 1), ("ece", 1)]);
        assert_eq!((all[1].1[0].estimate.low, all[1].1[0].estimate.n), (0.4, 100));
        assert!(all[0].1[0].estimate.low.is_infinite() && all[2].1[0].estimate.value.is_nan());
        assert_eq!(all[2].1[0].estimate.high, 0.2);
        let bare = measurements(&[Event::new("eval", 1).with("accuracy", 0.3).with("n", 10)]);
        assert_eq!(bare[0].1[0].estimate, wilson(3, 10, LEVEL));
    }

    #[test]
    fn settings_are_flat() {
        let mut out = Vec::new();
        flatten("", &json!({"a": {"b": 1, "c": [1, "x"]}, "d": null, "e": [{"f": 1}]}), &mut out);
        let want = [("a.b", "1"), ("a.c", "1, x"), ("d", "null"), ("e", r#"[{"f":1}]"#)];
        assert_eq!(out.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
    }
}
