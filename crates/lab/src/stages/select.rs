//! `select`: a part of a data set, chosen by numbers that other stages or the data's own columns give.
//!
//! Scores come from columns of the records and from the rows of `scores`: stages that measured the same data, one row a record
//! in its order. The result holds `records.jsonl` (the chosen, in the order of the data), `scored.jsonl` (all of them with
//! their scores, normalised sum and rank) and a row a record (`selected`, `joint`, `rank` from 1, the scores).
//!
//! ```toml
//! use = "select"
//! data = "@pool"
//! scores = ["@lengths", "@difficulty"]
//! method = "highest"
//! by = { length = 0.5, difficulty = 0.5 }    # one name alone is that order itself
//! share = 0.1
//! where = { verified = { min = 1.0 }, repeats = { max = 0.3 } }
//! ```

use std::collections::BTreeMap;

use postgrad_base::{Error, Result};
use postgrad_data::select::{self, Norm};
use postgrad_data::{Record, convert::to_row};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::stage::{Cx, Input, Stage};
use crate::store::Item;

pub struct Select;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: Input,
    /// Stages whose rows measure the records.
    #[serde(default)]
    pub scores: Vec<Input>,
    #[serde(default)]
    pub method: Method,
    /// Columns with the weights of their normalised values; negative: the lower the better.
    #[serde(default)]
    pub by: BTreeMap<String, f64>,
    #[serde(default)]
    pub norm: Norm,
    /// `diverse`: the column whose values are the groups.
    #[serde(default)]
    pub group: Option<String>,
    /// Of the records that pass `where`.
    #[serde(default)]
    pub share: Option<f64>,
    /// A number of records in place of a share.
    #[serde(default)]
    pub k: Option<usize>,
    /// Bounds of columns; records outside are not looked at.
    #[serde(default, rename = "where")]
    pub bounds: BTreeMap<String, Bounds>,
    /// Columns whose values are dealt out anew among the records: a control.
    #[serde(default)]
    pub shuffle: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Most of the sum of `by`.
    #[default]
    Highest,
    Lowest,
    /// Around the middle of the order by `by`.
    Middle,
    Random,
    /// The share of each group, at random or by `by`.
    Diverse,
}

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    #[serde(default)]
    pub min: Option<f64>,
    #[serde(default)]
    pub max: Option<f64>,
}

impl Bounds {
    fn hold(&self, x: f64) -> bool {
        self.min.is_none_or(|m| x >= m) && self.max.is_none_or(|m| x <= m)
    }
}

impl Stage for Select {
    const NAME: &'static str = "select";
    const ABOUT: &'static str = "a part of a data set, chosen by scores";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        let drawn = config.method == Method::Random
            || (config.method == Method::Diverse && config.by.is_empty())
            || !config.shuffle.is_empty();
        if drawn { Self::STREAMS } else { &[] }
    }

    fn check(config: &Config) -> Result<()> {
        if config.share.is_some() == config.k.is_some() {
            return Err(Error::usage("give `share` (0 to 1) or `k`, one of them"));
        }
        if config.share.is_some_and(|s| !(s > 0.0 && s <= 1.0)) {
            return Err(Error::usage("`share` must be above 0 and at most 1"));
        }
        if config.k == Some(0) {
            return Err(Error::usage("`k` is 0, and nothing would be selected"));
        }
        if config.by.values().any(|w| !w.is_finite()) {
            return Err(Error::usage("a weight of `by` is not finite"));
        }
        let ordered = matches!(config.method, Method::Highest | Method::Lowest | Method::Middle);
        if ordered && config.by.is_empty() {
            return Err(Error::usage("this method needs `by`").help("for example by = { length = 1.0 }"));
        }
        if (config.method == Method::Diverse) != config.group.is_some() {
            return Err(Error::usage("`group` and method = \"diverse\" belong together"));
        }
        if config.method == Method::Diverse && config.share.is_none() {
            return Err(Error::usage("method = \"diverse\" takes its share of each group").help("give `share`"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let records = cx.records(&config.data)?;
        let table = Table::new(&records, &config, cx)?;
        let names: Vec<&String> = config.by.keys().collect();
        let mut columns: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
        for name in names {
            columns.insert(name, table.numbers(name)?);
        }
        for (n, name) in config.shuffle.iter().enumerate() {
            let column = columns
                .get_mut(name)
                .ok_or_else(|| Error::usage(format!("`{name}` is to be shuffled and is not in `by`")))?;
            cx.stream("data").child("shuffle").nth(n as u64).shuffle(column);
        }
        let mut open: Vec<usize> = (0..records.len()).collect();
        for (name, bounds) in &config.bounds {
            let values = table.numbers(name)?;
            open.retain(|i| bounds.hold(values[*i]));
        }
        if open.is_empty() {
            return Err(Error::usage("no record is within `where`").at(&config.data));
        }
        let parts: Vec<(f64, Vec<f64>)> =
            columns.iter().map(|(name, c)| (config.by[*name], open.iter().map(|i| c[*i]).collect())).collect();
        let parts: Vec<(f64, &[f64])> = parts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
        let joint = if parts.is_empty() { vec![0.0; open.len()] } else { select::fuse(&parts, config.norm) };
        let k = config.k.map_or_else(|| select::count(config.share.unwrap_or(1.0), open.len()), |k| k.min(open.len()));
        let chosen = choose(&config, &open, &joint, k, &table, cx)?;

        let order = select::order(&joint);
        let mut rank = vec![0; open.len()];
        order.iter().enumerate().for_each(|(place, i)| rank[*i] = place + 1);
        let mut selected = vec![false; records.len()];
        chosen.iter().for_each(|i| selected[open[*i]] = true);
        let mut scored = Vec::with_capacity(open.len());
        let mut rows = Vec::with_capacity(open.len());
        for (place, i) in open.iter().enumerate() {
            let mut own: Map<String, Value> = columns.iter().map(|(n, c)| (n.to_string(), json!(c[*i]))).collect();
            if !parts.is_empty() {
                own.insert("joint".into(), json!(joint[place]));
                own.insert("rank".into(), json!(rank[place]));
            }
            let mut row = to_row(records[*i].clone(), None)?;
            row.extend(own.clone());
            scored.push(row);
            own.insert("selected".into(), json!(u8::from(selected[*i])));
            rows.push(Item { item: i.to_string(), cluster: None, metrics: own });
        }
        let kept = (0..records.len()).filter(|i| selected[*i]);
        let kept = kept.map(|i| to_row(records[i].clone(), None)).collect::<Result<Vec<_>>>()?;
        cx.spend("selected", kept.len() as u64);
        cx.write_jsonl("records.jsonl", &kept)?;
        cx.write_jsonl("scored.jsonl", &scored)?;
        cx.write_rows(&rows)
    }
}

/// Places within `open` that are chosen.
fn choose(config: &Config, open: &[usize], joint: &[f64], k: usize, table: &Table, cx: &Cx) -> Result<Vec<usize>> {
    let mut stream = cx.stream("data").child("select");
    Ok(match config.method {
        Method::Highest => select::top(joint, k),
        Method::Lowest => select::top(&joint.iter().map(|x| -x).collect::<Vec<_>>(), k),
        Method::Middle => select::middle(joint, k),
        Method::Random => select::random(open.len(), k, &mut stream),
        Method::Diverse => {
            let all = table.texts(config.group.as_deref().unwrap_or_default())?;
            let groups: Vec<&String> = open.iter().map(|i| &all[*i]).collect();
            let order = match config.by.is_empty() {
                true => select::random(open.len(), open.len(), &mut stream),
                false => select::order(joint),
            };
            select::stratified(&groups, config.share.unwrap_or(1.0), &order)
        }
    })
}

/// Columns of the records and of the rows that measured them.
struct Table<'a> {
    records: &'a [Record],
    rows: Vec<Vec<Item>>,
}

impl<'a> Table<'a> {
    fn new(records: &'a [Record], config: &Config, cx: &Cx) -> Result<Self> {
        if records.is_empty() {
            return Err(Error::usage("there is nothing to select from").at(&config.data));
        }
        let rows = config.scores.iter().map(|s| cx.rows(s)).collect::<Result<Vec<_>>>()?;
        for (input, rows) in config.scores.iter().zip(&rows) {
            if rows.len() != records.len() {
                return Err(Error::usage(format!("`{input}` has {} rows for {} records", rows.len(), records.len()))
                    .help("scores come from a stage that measured the same data"));
            }
        }
        Ok(Self { records, rows })
    }

    fn value(&self, name: &str, i: usize) -> Option<&Value> {
        let scored = self.rows.iter().rev().find_map(|rows| rows[i].metrics.get(name));
        scored.or_else(|| self.records[i].columns.get(name))
    }

    fn need(&self, name: &str, i: usize) -> Result<&Value> {
        self.value(name, i).ok_or_else(|| {
            let mut known: Vec<&String> = self.records[i].columns.keys().collect();
            known.extend(self.rows.iter().flat_map(|rows| rows[i].metrics.keys()));
            let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
            Error::unknown("column", name, &known, None).at(&self.records[i].place)
        })
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let number = |i: usize| {
            let value = self.need(name, i)?;
            let number = value.as_f64().or_else(|| value.as_bool().map(|b| f64::from(u8::from(b))));
            number.filter(|x| x.is_finite()).ok_or_else(|| {
                Error::work(format!("the column `{name}` is {value}, not a number")).at(&self.records[i].place)
            })
        };
        (0..self.records.len()).map(number).collect()
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        let text = |i: usize| {
            Ok(match self.need(name, i)? {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            })
        };
        (0..self.records.len()).map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, golden};
    use std::path::Path;

    fn pool(dir: &Path) -> Place {
        let file = dir.join("pool.jsonl");
        let row = |i: usize| {
            json!({"prompt": format!("q{i}"), "completion": "a", "length": (i * 7) % 10, "difficulty": (i * 3) % 10, "kind": i % 2, "ok": i != 9}).to_string()
        };
        std::fs::write(&file, (0..10).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        Place::Data(vec![file.display().to_string()])
    }

    fn picked(config: Value) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let pool = pool(dir.path());
        let cx = alone(&Kind::of::<Select>(), &config, &[("pool", pool)], 0, &dir.path().join("out"))?;
        let text = std::fs::read_to_string(cx.out.join("records.jsonl")).unwrap();
        Ok(text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["prompt"].as_str().unwrap().into()).collect())
    }

    #[test]
    fn one_column_alone_is_its_order_and_two_are_fused() {
        let by = |by: Value, k: usize| picked(json!({"data": "@pool", "by": by, "k": k})).unwrap();
        assert_eq!(by(json!({"length": 1.0}), 2), ["q4", "q7"]);
        assert_eq!(by(json!({"length": 0.0, "difficulty": 1.0}), 2), ["q3", "q6"]);
        assert_eq!(by(json!({"length": -1.0}), 2), ["q0", "q3"]);
        assert_eq!(by(json!({"length": 0.5, "difficulty": 0.5}), 3).len(), 3);
        let lowest = json!({"data": "@pool", "by": {"length": 1.0}, "share": 0.2, "method": "lowest"});
        assert_eq!(picked(lowest).unwrap(), ["q0", "q3"]);
        let bound = json!({"data": "@pool", "by": {"length": 1.0}, "k": 9, "where": {"ok": {"min": 1.0}, "length": {"max": 5.0}}});
        assert_eq!(picked(bound).unwrap(), ["q0", "q2", "q3", "q5", "q6"].map(String::from));
        let diverse =
            json!({"data": "@pool", "by": {"length": 1.0}, "share": 0.2, "method": "diverse", "group": "kind"});
        assert_eq!(picked(diverse).unwrap(), ["q4", "q7"]);
    }

    #[test]
    fn what_cannot_be_chosen_is_refused() {
        for bad in [
            json!({"data": "@pool", "k": 1}),
            json!({"data": "@pool", "by": {"length": 1.0}}),
            json!({"data": "@pool", "by": {"size": 1.0}, "k": 1}),
            json!({"data": "@pool", "by": {"length": 1.0}, "share": 1.5}),
            json!({"data": "@pool", "by": {"length": 1.0}, "k": 1, "where": {"length": {"min": 100.0}}}),
            json!({"data": "@pool", "method": "diverse", "k": 1}),
        ] {
            assert_eq!(picked(bad.clone()).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            json!({"data": "@pool", "by": {"length": 0.5, "difficulty": 0.5}, "share": 0.3, "shuffle": ["difficulty"]});
        golden(&Kind::of::<Select>(), &config, &[("pool", pool(dir.path()))], "f300183219ed3953");
    }
}
