//! What a stage is: one named step of a recipe, from typed configuration and named inputs to a folder of results.
//!
//! A kind of stage is a type with a [`Stage`] implementation; [`Kind::of`] makes it an entry of a registry. Running one, by
//! hand or in a test:
//!
//! ```no_run
//! # fn main() -> postgrad_base::Result<()> {
//! use postgrad_lab::stage::{Kind, alone};
//! use postgrad_lab::stages::Draw;
//! let config = serde_json::json!({"task": "chain", "n": 20});
//! alone(&Kind::of::<Draw>(), &config, &[], 0, std::path::Path::new("out"))?; // out/records.jsonl
//! # Ok(()) }
//! ```
//!
//! A result folder holds any of `model/` (a whole model), `adapter/` (PEFT), `records.jsonl` (data), `rows.jsonl` (per-item
//! measurements), other files under names of the stage's own, and `result.json`, which the engine writes last.
//! Left out on purpose: which stages run when, and where results lie (the engine's).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgrad_audit::Item as Asked;
use postgrad_base::cancel::Cancel;
use postgrad_base::progress::Mode;
use postgrad_base::{Context, Error, Result, Stream, fs, jsonl};
use postgrad_data::reader::find_files;
use postgrad_data::{DataSpec, Record, Records, SourceSpec};
use postgrad_reason::ModelFolder;
use postgrad_tensor::simd::{Level, with_level};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recipe::VARY;
use crate::store::Item;

/// A kind of stage. Its behaviour is a function of the configuration, the inputs and the seed.
pub trait Stage {
    /// Recipes name it so: `use = "draw"`.
    const NAME: &'static str;
    /// One line for listings.
    const ABOUT: &'static str;
    /// Counts up with every change of what a run computes; results of other versions are not used again.
    const VERSION: u32;
    /// The random streams it draws from: of `base`, `data`, `tune`, `sample`, `eval`. A result is shared by all seeds where
    /// none of them varies.
    const STREAMS: &'static [&'static str];
    /// Its keys in a recipe. `deny_unknown_fields`, with defaults where a default is sensible.
    type Config: DeserializeOwned + Serialize;

    /// Faults of a configuration that its types cannot show; called when a recipe is read.
    fn check(_config: &Self::Config) -> Result<()> {
        Ok(())
    }

    /// The streams that this configuration draws from, where they are fewer.
    fn streams(_config: &Self::Config) -> &'static [&'static str] {
        Self::STREAMS
    }

    fn run(config: Self::Config, cx: &Cx) -> Result<()>;
}

/// A registered kind of stage.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub about: &'static str,
    pub version: u32,
    /// The streams that a resolved configuration draws from.
    pub streams: fn(&Value) -> &'static [&'static str],
    /// The configuration with its defaults filled in; errors carry the path of the key at fault.
    pub resolve: fn(&Value) -> Result<Value, Fault>,
    run: fn(&Value, &Cx) -> Result<()>,
}

/// What is wrong with a configuration, and at which key (`corrupt.rate`; empty: the stage itself).
#[derive(Debug)]
pub struct Fault {
    pub path: String,
    pub error: Error,
}

impl Kind {
    pub fn of<S: Stage>() -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            version: S::VERSION,
            streams: |value| read::<S::Config>(value).map_or(S::STREAMS, |c| S::streams(&c)),
            resolve: |value| {
                let config = read::<S::Config>(value)?;
                S::check(&config).map_err(|error| Fault { path: String::new(), error })?;
                Ok(serde_json::to_value(&config).expect("a configuration is plain data"))
            },
            run: |value, cx| {
                let config = read::<S::Config>(value).map_err(|f| f.error.at(f.path))?;
                S::run(config, cx)
            },
        }
    }

    /// Does the work in `cx.out`.
    pub fn run(&self, config: &Value, cx: &Cx) -> Result<()> {
        (self.run)(config, cx).map_err(|e| e.at(format!("stage kind `{}`", self.name)))
    }
}

/// Reads a typed configuration, keeping the path of what cannot be read.
pub fn read<C: DeserializeOwned>(value: &Value) -> Result<C, Fault> {
    serde_path_to_error::deserialize(value.clone()).map_err(|e| {
        let path = e.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Fault { path, error: Error::usage(e.into_inner().to_string()) }
    })
}

/// A reference to another stage's result or to an external model or data set: `@name`, or `@name/part`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Input(String);

impl Input {
    pub fn name(&self) -> &str {
        self.0[1..].split('/').next().unwrap_or_default()
    }

    /// The part of the result that is meant, where one is named.
    pub fn part(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, part)| part)
    }

    /// Every reference inside a configuration, in order.
    pub fn all(config: &Value) -> Vec<Input> {
        match config {
            Value::String(s) => Input::try_from(s.clone()).into_iter().collect(),
            Value::Array(list) => list.iter().flat_map(Self::all).collect(),
            Value::Object(map) => map.values().flat_map(Self::all).collect(),
            _ => vec![],
        }
    }
}

impl TryFrom<String> for Input {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let fine =
            text.strip_prefix('@').is_some_and(|rest| rest.split('/').count() <= 2 && rest.split('/').all(plain));
        if fine && !text.contains("..") {
            return Ok(Self(text));
        }
        Err(format!(
            "`{text}` is no reference: write `@NAME` of a stage or of an entry of [models] or [data], or `@NAME/PART`"
        ))
    }
}

impl From<Input> for String {
    fn from(input: Input) -> String {
        input.0
    }
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A stage's result folder.
    Stage(PathBuf),
    /// A model folder or an adapter folder.
    Model(PathBuf),
    /// Files, folders and globs of data, as the reader takes them; a weight may follow (`a.jsonl:0.7`).
    Data(Vec<String>),
}

/// What a stage works with.
pub struct Cx {
    seed: u64,
    /// The folder to write in. It survives a kill: a long stage goes on from what lies in it.
    pub out: PathBuf,
    pub cancel: Cancel,
    pub progress: Mode,
    /// Streams that differ between seeds; the others are those of seed 0.
    vary: Vec<String>,
    inputs: BTreeMap<String, Place>,
    spent: RefCell<BTreeMap<String, u64>>,
}

impl Cx {
    /// `inputs` by name, without `@`. The streams of [`VARY`] differ between seeds, unless [`Cx::varying`] says otherwise.
    pub fn new(
        seed: u64,
        out: PathBuf,
        inputs: impl IntoIterator<Item = (String, Place)>,
        cancel: Cancel,
        progress: Mode,
    ) -> Self {
        let vary = VARY.iter().map(|v| v.to_string()).collect();
        Self { seed, out, cancel, progress, vary, inputs: inputs.into_iter().collect(), spent: RefCell::default() }
    }

    /// Names the streams that differ between seeds.
    pub fn varying(self, vary: &[String]) -> Self {
        Self { vary: vary.to_vec(), ..self }
    }

    /// The stream of this name (a top name that the kind lists): this seed's where it differs between seeds, else seed 0's.
    pub fn stream(&self, top: &str) -> Stream {
        Stream::new(self.seed_of(top), &[top])
    }

    /// The seed of a stream.
    pub fn seed_of(&self, top: &str) -> u64 {
        if self.vary.iter().any(|v| v == top) { self.seed } else { 0 }
    }

    /// Counts towards a budget: `updates`, `tokens`, `examples`, `sampled_tokens`, `flops`.
    pub fn spend(&self, what: &str, n: u64) {
        *self.spent.borrow_mut().entry(what.into()).or_default() += n;
    }

    pub fn spent(&self) -> BTreeMap<String, u64> {
        self.spent.borrow().clone()
    }

    fn place(&self, input: &Input) -> Result<&Place> {
        self.inputs.get(input.name()).ok_or_else(|| Error::usage(format!("nothing is called `{input}` here")))
    }

    /// A file of a stage's result.
    pub fn file(&self, input: &Input, name: &str) -> Result<PathBuf> {
        match self.place(input)? {
            Place::Stage(dir) if dir.join(name).exists() => Ok(dir.join(name)),
            Place::Stage(_) => Err(Error::usage(format!("the result of `{input}` has no {name}"))),
            _ => Err(Error::usage(format!("`{input}` is not a stage, and {name} is a stage's file"))),
        }
    }

    /// The folder of a model: a whole model's, or an adapter's.
    pub fn model_dir(&self, input: &Input) -> Result<PathBuf> {
        match self.place(input)? {
            Place::Model(dir) => Ok(dir.clone()),
            Place::Stage(dir) => {
                let made = match input.part() {
                    Some(part) => vec![part],
                    None => vec!["model", "adapter"],
                };
                made.iter().map(|m| dir.join(m)).find(|d| d.exists()).ok_or_else(|| {
                    Error::usage(format!("`{input}` made no model")).help("name a stage that trains, or a model")
                })
            }
            Place::Data(_) => Err(Error::usage(format!("`{input}` is data, and a model is needed"))),
        }
    }

    /// A model with its adapter, if it is one, beside its base; all frozen.
    pub fn model(&self, input: &Input) -> Result<ModelFolder> {
        ModelFolder::load(&self.model_dir(input)?)
    }

    /// Data as the reader takes it.
    pub fn data(&self, input: &Input) -> Result<DataSpec> {
        let sources = match self.place(input)? {
            Place::Data(specs) => specs.iter().map(|s| SourceSpec::parse(s)).collect::<Result<Vec<_>>>()?,
            Place::Stage(_) => {
                let name = format!("{}.jsonl", input.part().unwrap_or("records"));
                vec![SourceSpec::new(self.file(input, &name)?.display().to_string())]
            }
            Place::Model(_) => return Err(Error::usage(format!("`{input}` is a model, and data is needed"))),
        };
        Ok(DataSpec { sources, shuffle_buffer: 0, ..DataSpec::default() })
    }

    /// Files of JSON lines: a stage's `PART.jsonl` (the part that the input names, else `part`), or external data.
    pub fn files(&self, input: &Input, part: &str) -> Result<Vec<PathBuf>> {
        match self.place(input)? {
            Place::Data(specs) => {
                let paths = specs.iter().map(|s| Ok(SourceSpec::parse(s)?.path)).collect::<Result<Vec<_>>>()?;
                Ok(find_files(&paths)?.into_iter().map(|f| f.path).collect())
            }
            _ => Ok(vec![self.file(input, &format!("{}.jsonl", input.part().unwrap_or(part)))?]),
        }
    }

    /// All records of a data set, in the order of its files.
    pub fn records(&self, input: &Input) -> Result<Vec<Record>> {
        let mut records = Records::open(&self.data(input)?)?;
        std::iter::from_fn(|| records.next_record().transpose()).collect()
    }

    /// What is asked: a data set's records, with their problems where they were drawn from a task.
    pub fn items(&self, input: &Input) -> Result<Vec<Asked>> {
        self.records(input)?.into_iter().map(asked).collect()
    }

    /// Per-item rows of a stage.
    pub fn rows(&self, input: &Input) -> Result<Vec<Item>> {
        read_rows(&self.file(input, &format!("{}.jsonl", input.part().unwrap_or("rows")))?)
    }

    pub fn write_rows(&self, rows: &[Item]) -> Result<()> {
        self.write_jsonl("rows.jsonl", rows)
    }

    /// A file of one JSON row each, in this stage's result.
    pub fn write_jsonl<T: Serialize>(&self, name: &str, rows: &[T]) -> Result<()> {
        fs::write_atomic(&self.out.join(name), |out| rows.iter().try_for_each(|row| jsonl::write(out, row)))
    }
}

/// The rows of a `rows.jsonl`.
pub fn read_rows(path: &Path) -> Result<Vec<Item>> {
    jsonl::read::<Item>(path)?.map(|row| row.map(|(_, item)| item)).collect()
}

/// A record as something that can be asked; its `problem` column, if any, brings the task's verifier.
pub fn asked(record: Record) -> Result<Asked> {
    let problem = match record.columns.get("problem") {
        Some(v @ Value::Object(_)) => {
            let problem: postgrad_tasks::Problem = serde_json::from_value(v.clone())
                .context(|| "the column `problem` holds no problem".into())
                .map_err(|e| e.at(&record.place))?;
            Some(problem)
        }
        _ => None,
    };
    // The folder of a file says nothing of the item, and is another on every machine.
    let (name, other) = (record.place.file.rsplit('/').next().unwrap_or_default(), record.id >> 40);
    let place = format!("{name}:{}", record.place.line);
    let place = if other == 0 { place } else { format!("{other}/{place}") };
    let mut item = Asked::of_record(record);
    item.id = problem.as_ref().map_or(place, |p| p.id.clone());
    item.problem = problem;
    Ok(item)
}

/// Runs one stage by itself, its inputs given by name, into a folder.
pub fn alone(kind: &Kind, config: &Value, inputs: &[(&str, Place)], seed: u64, out: &Path) -> Result<Cx> {
    std::fs::create_dir_all(out).context(|| format!("cannot make the folder {}", out.display()))?;
    let config = (kind.resolve)(config).map_err(|f| f.error.at(f.path))?;
    let inputs = inputs.iter().map(|(name, place)| (name.to_string(), place.clone()));
    let cx = Cx::new(seed, out.into(), inputs, Cancel::new(), Mode::Quiet);
    kind.run(&config, &cx)?;
    Ok(cx)
}

/// The digest of a result: every file's name and bytes, in order of names, `metrics.jsonl` (it holds rates) and
/// configuration paths left out. Golden runs compare it with a committed one.
pub fn digest(dir: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).context(|| format!("cannot read {}", folder.display()))?.flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    let mut named: Vec<(String, PathBuf)> = files
        .into_iter()
        .map(|f| (f.strip_prefix(dir).unwrap_or(&f).to_string_lossy().into_owned(), f))
        .filter(|(name, _)| {
            !name.ends_with("metrics.jsonl") && !name.ends_with("adapter_config.json") && name != ".lock"
        })
        .collect();
    named.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, path) in named {
        let bytes = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().to_hex()[..16].to_string())
}

/// A golden run: the digest of what a kind makes of a tiny configuration with seed 0, computed without SIMD (so that every
/// machine agrees), must be `want`. Panics with the new digest: commit it together with a new `VERSION`.
pub fn golden(kind: &Kind, config: &Value, inputs: &[(&str, Place)], want: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let made =
        with_level(Level::Scalar, || alone(kind, config, inputs, 0, dir.path()).and_then(|_| digest(dir.path())));
    let got = made.unwrap_or_else(|e| panic!("the golden run of `{}` failed: {e}", kind.name));
    assert_eq!(
        got, want,
        "`{}` (version {}) computes something else than it did: raise VERSION and commit this digest",
        kind.name, kind.version
    );
}
