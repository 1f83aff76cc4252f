//! Recipe files: one experiment as named stages, joined by `@references`, run under several arms.
//!
//! ```toml
//! title = "Answers alone"
//! seeds = { primary = 5, others = 3 }
//! measure = ["target"]
//! match = ["updates"]
//!
//! [models]
//! base = "seed-1m"
//!
//! [stage.problems]
//! use = "draw"
//! task = "chain"
//! n = 600
//!
//! [stage.test]
//! use = "draw"
//! task = "chain"
//! split = "test"
//! n = 200
//!
//! [stage.tuned]
//! use = "sft"
//! model = "@base"
//! data = "@problems"
//! steps = 120
//!
//! [stage.target]
//! use = "eval"
//! model = "@tuned"
//! data = "@test"
//!
//! [arm.slow]
//! tuned = { lr = 1e-4 }
//! [arm.fast]
//! tuned = { lr = 1e-3 }
//!
//! [[claim]]
//! primary = true
//! says = "a larger rate learns more in as many updates"
//! value = "fast:target.accuracy - slow:target.accuracy"
//! holds = "> 0.02"
//! interest = 0.03
//! ```
//! Every value keeps the place where it is written, through the arms' overrides and `--set`, so that an error of a stage's typed
//! configuration points at it. `docs/RECIPES.md` lists all keys. Left out on purpose: includes, variables and loops (a recipe is
//! read top to bottom; what two recipes share is a stage's kind).

mod check;
mod fault;
pub mod plan;
mod read;
mod stages;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postgrad_base::{Error, Result};
use serde_json::{Value, json};

use crate::stage::{Input, Kind};
use fault::{Source, unknown};
use tree::{Node, What};

pub use fault::Span;

/// Streams that differ between seeds unless `vary` says otherwise.
pub const VARY: &[&str] = &["data", "tune", "sample"];
/// All top names of streams.
pub const STREAMS: &[&str] = &["base", "data", "tune", "sample", "eval"];
/// Budgets that `match` may name: what stages count with [`crate::stage::Cx::spend`].
pub const BUDGETS: &[&str] = &["updates", "tokens", "examples", "sampled_tokens", "flops"];
/// The arm of a recipe that names none.
pub const MAIN: &str = "main";

/// An experiment as its file has it, all of it checked.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub path: PathBuf,
    /// The folder's name where the file gives none.
    pub title: String,
    pub about: String,
    /// Streams that differ between seeds.
    pub vary: Vec<String>,
    /// Stages whose rows every arm must produce; see [`Recipe::wanted`].
    pub measure: Vec<String>,
    pub seeds: Seeds,
    /// Budgets that must be equal across arms.
    pub matched: Vec<String>,
    pub tune: Option<Tune>,
    /// A program outside that must be on `PATH`.
    pub needs: Option<String>,
    /// External models by name.
    pub models: BTreeMap<String, String>,
    /// External data by name: files, folders, globs, built-in names.
    pub data: BTreeMap<String, Vec<String>>,
    /// In the order of the file; [`MAIN`] alone where it names none.
    pub arms: Vec<Arm>,
    pub claims: Vec<Claim>,
    pub controls: Vec<Control>,
    stages: Vec<Written>,
    /// Where models, data and stages are named.
    named: BTreeMap<String, Span>,
    root: Node,
    kinds: Vec<Kind>,
}

/// How many seeds: of the arms in the primary claim, and of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    pub primary: u64,
    pub others: u64,
}

/// A set of overrides.
#[derive(Clone, Debug)]
pub struct Arm {
    pub name: String,
    pub says: String,
    /// Left out of `match`.
    pub unmatched: bool,
    overrides: Vec<(String, Node)>,
}

/// A grid that every arm is tuned over, on seed 0 alone.
#[derive(Clone, Debug)]
pub struct Tune {
    pub grid: Vec<Axis>,
    /// The stage and the metric of its rows that is to be high.
    pub on: (String, String),
}

/// The values of one key.
#[derive(Clone, Debug)]
pub struct Axis {
    pub stage: String,
    /// With dots: `corrupt.rate`.
    pub key: String,
    pub values: Vec<Value>,
    at: Span,
    nodes: Vec<Node>,
}

/// One key of one stage with another value than the file's.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    pub stage: String,
    /// With dots: `corrupt.rate`.
    pub key: String,
    pub value: Value,
}

/// A string that another module reads, with its place.
#[derive(Clone, Debug)]
pub struct Text {
    pub text: String,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Claim {
    /// Exactly one is.
    pub primary: bool,
    pub says: String,
    pub value: Text,
    pub holds: Text,
    /// The smallest effect of interest.
    pub interest: Option<f64>,
}

/// An equivalence test.
#[derive(Clone, Debug)]
pub struct Control {
    pub says: String,
    pub value: Text,
    pub bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    Within(f64),
    /// The same bits.
    Exact,
}

/// A stage of an arm, ready to run.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub name: String,
    pub kind: Kind,
    /// With the kind's defaults filled in.
    pub config: Value,
    /// What it reads, each once, in order.
    pub inputs: Vec<Input>,
}

/// A stage as the file has it.
#[derive(Clone, Debug)]
struct Written {
    name: String,
    at: Span,
    node: Node,
}

/// A part of a claim's value that names an arm's stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub arm: String,
    pub stage: String,
    pub arm_at: Range<usize>,
    pub stage_at: Range<usize>,
}

impl Text {
    /// Adds the place of a part of the text, in bytes, to an error.
    pub fn locate(&self, part: Range<usize>, error: Error) -> Error {
        self.span.inside(&self.text, part).locate(error)
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Tune {
    /// Every point of the grid, the last axis fastest.
    pub fn points(&self) -> Vec<Vec<Override>> {
        self.grid.iter().fold(vec![vec![]], |points, axis| {
            let with = |point: &Vec<Override>, value: &Value| {
                let more = Override { stage: axis.stage.clone(), key: axis.key.clone(), value: value.clone() };
                point.iter().cloned().chain([more]).collect::<Vec<_>>()
            };
            points.iter().flat_map(|p| axis.values.iter().map(move |v| with(p, v))).collect()
        })
    }
}

/// Larger files are no recipes.
const LARGEST: usize = 1 << 20;

impl Recipe {
    /// Reads and checks a file.
    pub fn read(path: &Path, kinds: &[Kind]) -> Result<Recipe> {
        let bytes = std::fs::read(path)
            .map_err(|e| Error::usage(format!("cannot read the recipe {}", path.display())).because(e))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            Error::usage("a recipe is text in UTF-8, and this is not").at_line(path, line as u64)
        })?;
        Self::parse(path, &text, kinds)
    }

    /// Reads and checks a file's text.
    pub fn parse(path: &Path, text: &str, kinds: &[Kind]) -> Result<Recipe> {
        if text.len() > LARGEST {
            return Err(Error::usage("a recipe of more than a megabyte is none").at(path.display()));
        }
        let source = Arc::new(Source { name: path.display().to_string(), text: text.into() });
        Self::of_tree(path, Node::parse(&source)?, kinds)
    }

    fn of_tree(path: &Path, root: Node, kinds: &[Kind]) -> Result<Recipe> {
        let recipe = read::recipe(path, root, kinds)?;
        check::recipe(&recipe)?;
        Ok(recipe)
    }

    /// Lays `--set KEY=VALUE` over the file: `STAGE.key`, `models.NAME`, `data.NAME`, `arm.NAME.STAGE.key`, or the bare name
    /// of a model or of data. A value is read as TOML where it is TOML, else as its own words. All are laid before the
    /// recipe is checked again.
    pub fn set_all<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        let mut root = self.root.clone();
        for (key, value) in pairs {
            let source = Arc::new(Source { name: "--set".into(), text: format!("{key}={value}") });
            let at = Span::new(&source, 0..key.len());
            let range = key.len() + 1..source.text.len();
            let path = self.set_path(key, &at)?;
            let mut node = Node::argument(&source, range.clone())?;
            if matches!(path[0], "models" | "data") && !matches!(node.what, What::Text(_) | What::List(_)) {
                node = Node { what: What::Text(value.into()), span: Span::new(&source, range) };
            }
            root.merge(&Node::nested(&path, &at, node));
        }
        *self = Self::of_tree(&self.path, root, &self.kinds)?;
        Ok(())
    }

    /// One `--set`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.set_all([(key, value)])
    }

    /// Where in the file's tree a key of `--set` stands.
    fn set_path<'k>(&self, key: &'k str, at: &Span) -> Result<Vec<&'k str>> {
        let parts: Vec<&str> = key.split('.').collect();
        if parts.iter().any(|p| p.is_empty()) {
            return Err(at.fault(format!("`{key}` is no key")).help("write STAGE.key=value or NAME=model-or-data"));
        }
        let models: Vec<&str> = self.models.keys().map(String::as_str).collect();
        let data: Vec<&str> = self.data.keys().map(String::as_str).collect();
        let stages: Vec<&str> = self.stages.iter().map(|s| s.name.as_str()).collect();
        let arms: Vec<&str> = self.arms.iter().map(|a| a.name.as_str()).collect();
        let is = |name: &str, known: &[&str], thing: &str| match known.contains(&name) {
            true => Ok(()),
            false => Err(at.locate(unknown(format!("the recipe has no {thing} `{name}`"), name, known))),
        };
        match parts[..] {
            ["models", name] => is(name, &models, "model").map(|()| parts.clone()),
            ["data", name] => is(name, &data, "data").map(|()| parts.clone()),
            ["arm", name, stage, _, ..] => {
                is(name, &arms, "arm")?;
                is(stage, &stages, "stage").map(|()| parts.clone())
            }
            [name] if models.contains(&name) => Ok(vec!["models", name]),
            [name] if data.contains(&name) => Ok(vec!["data", name]),
            [name] if stages.contains(&name) => {
                Err(at.fault(format!("`{name}` is a stage")).help(format!("set one of its keys: {name}.KEY=VALUE")))
            }
            [name] => is(name, &[&models[..], &data[..]].concat(), "model or data").map(|()| vec![]),
            [stage, ..] => {
                is(stage, &stages, "stage")?;
                Ok(["stage"].into_iter().chain(parts.clone()).collect())
            }
            [] => unreachable!("a split has a part"),
        }
    }

    /// The arm of this name.
    pub fn arm(&self, name: &str) -> Result<&Arm> {
        self.arms.iter().find(|a| a.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.arms.iter().map(|a| a.name.as_str()).collect();
            unknown(format!("the recipe has no arm `{name}`"), name, &known)
        })
    }

    /// How many seeds an arm gets: more where the primary claim reads it.
    pub fn seeds_of(&self, arm: &str) -> u64 {
        let primary = self.claims.iter().filter(|c| c.primary).flat_map(|c| check::names(&c.value));
        if primary.into_iter().any(|n| n.arm == arm) { self.seeds.primary } else { self.seeds.others }
    }

    /// Names of stages, in the order of the file.
    pub fn stage_names(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|s| s.name.as_str())
    }

    /// Adds the place where a model, data or a stage of this name is written to an error.
    pub fn locate(&self, name: &str, error: Error) -> Error {
        match self.named.get(name) {
            Some(span) => span.locate(error),
            None => error.at(self.path.display()),
        }
    }

    /// The program that the recipe needs, where it is not on `PATH`.
    pub fn lacks(&self) -> Option<&str> {
        let there = |tool: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|dir| is_program(&dir.join(tool)))
        };
        self.needs.as_deref().filter(|tool| !there(tool))
    }

    /// Errors where a program that the recipe needs is not there.
    pub fn has_what_it_needs(&self) -> Result<()> {
        self.lacks().map_or(Ok(()), |tool| {
            Err(Error::usage(format!("the recipe needs the program `{tool}`, which is not on PATH"))
                .at(self.path.display())
                .help(format!("install {tool}, or add its folder to PATH")))
        })
    }

    /// The registered kinds that the recipe was read with.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The digest of what is claimed: claims, controls, seeds. Comments and layout do not count.
    pub fn claims_hash(&self) -> String {
        let part = |key: &str| self.root.get(key).map(|e| e.node.to_json());
        digest(&json!({"claim": part("claim"), "control": part("control"), "seeds": part("seeds")}))
    }

    /// The digest of all the recipe says. Comments and layout do not count.
    pub fn recipe_hash(&self) -> String {
        digest(&self.root.to_json())
    }
}

/// A file that may be executed.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The first 16 hexadecimal digits of BLAKE3 over the value as JSON with sorted keys.
fn digest(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                out.push('{');
                for key in keys {
                    out.push_str(&format!("{}:", Value::String(key.clone())));
                    write(&map[key], out);
                    out.push(',');
                }
                out.push('}');
            }
            Value::Array(list) => {
                out.push('[');
                list.iter().for_each(|v| {
                    write(v, out);
                    out.push(',');
                });
                out.push(']');
            }
            plain => out.push_str(&plain.to_string()),
        }
    }
    let mut text = String::new();
    write(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
}

/// Any bytes as a recipe of the general kinds; what is read is read again after a `--set`, and in every arm.
pub fn fuzz_recipe(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(mut recipe) = Recipe::parse(Path::new("fuzz.toml"), &text, &crate::stages::kinds()) else { return };
    for arm in recipe.arms.clone() {
        recipe.stages(&arm.name, &[]).expect("an arm that was checked");
        recipe.wanted(&arm.name).expect("an arm that is there");
    }
    let hash = recipe.recipe_hash();
    let first = recipe.stage_names().next().map(|s| format!("{s}.n"));
    if let Some(key) = first {
        let _ = recipe.set(&key, &text);
        let _ = recipe.set(&text, "1");
        assert!(recipe.recipe_hash().len() == hash.len());
    }
}
