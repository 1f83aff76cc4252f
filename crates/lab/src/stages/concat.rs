//! `concat`: several data sets one after the other, so that one evaluation measures several abilities, or one stage trains on
//! them.
//!
//! Each record says which set it came from in a column `set`. Left out on purpose: weights and
//! shuffling (a trainer shuffles).

use postgrad_base::{Error, Result};
use postgrad_data::convert::to_row;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stage::{Cx, Input, Stage};

pub struct Concat;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Given")]
pub struct Config {
    pub data: Vec<Input>,
    /// The first records of each set alone.
    pub each: Option<usize>,
    /// What the column `set` says of each, by default the references' names. They are a part of the configuration, or sets
    /// of the same content under other names would share one result.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    data: Vec<Input>,
    each: Option<usize>,
    names: Option<Vec<String>>,
}

impl From<Given> for Config {
    fn from(g: Given) -> Self {
        let names = g.names.unwrap_or_else(|| g.data.iter().map(|d| d.name().to_string()).collect());
        Self { data: g.data, each: g.each, names }
    }
}

impl Stage for Concat {
    const NAME: &'static str = "concat";
    const ABOUT: &'static str = "several data sets one after the other";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if config.data.is_empty() {
            return Err(Error::usage("`data` names nothing to put together"));
        }
        if config.names.len() != config.data.len() {
            let (names, sets) = (config.names.len(), config.data.len());
            return Err(Error::usage(format!("{names} `names` for {sets} sets")));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let mut rows = Vec::new();
        for (input, name) in config.data.iter().zip(&config.names) {
            let records = cx.records(input)?;
            if records.is_empty() {
                return Err(Error::usage(format!("`{input}` holds no records")));
            }
            for record in records.into_iter().take(config.each.unwrap_or(usize::MAX)) {
                let mut row = to_row(record, None)?;
                row.insert("set".into(), json!(name));
                rows.push(row);
            }
        }
        cx.write_jsonl("records.jsonl", &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, golden};

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let set = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            Place::Data(vec![file.display().to_string()])
        };
        let sums =
            "{\"prompt\":\"2+2?\",\"completion\":\"4\",\"problem\":null}\n{\"prompt\":\"3\",\"completion\":\"5\"}\n";
        let inputs = [
            ("sums", set("a.jsonl", sums)),
            ("talk", set("b.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n")),
        ];
        let config = json!({"data": ["@sums", "@talk"], "each": 1});
        golden(&Kind::of::<Concat>(), &config, &inputs, "69100a1d08592adb");
        let resolve = Kind::of::<Concat>().resolve;
        assert!(resolve(&json!({"data": []})).is_err() && resolve(&json!({"data": ["@a"], "names": []})).is_err());
        assert_eq!(resolve(&json!({"data": ["@a", "@b/part"]})).unwrap()["names"], json!(["a", "b"]));
    }
}
