//! Which stages an experiment needs, each once, under the key of what its result is a function of.
//!
//! A key is known before anything runs: it hashes the kind and its version, the configuration with its references replaced
//! by the keys (or content) of what they name, the seed where one of the streams varies, and the SIMD level. So arms share
//! what is equal, and what has not changed is not run again.

use std::collections::BTreeMap;

use postgrad_base::{Error, Result};
use serde_json::{Value, json};

use crate::engine::external::External;
use crate::recipe::Resolved;
use crate::stage::{Input, Kind, Place};

/// Where a stage's input comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The result under this key.
    Stage(String),
    External(Place),
}

/// One stage to be run, once.
#[derive(Clone)]
pub struct Node {
    pub key: String,
    pub stage: String,
    pub kind: Kind,
    pub config: Value,
    /// By name.
    pub inputs: BTreeMap<String, Source>,
    /// None where no stream of the stage varies.
    pub seed: Option<u64>,
    /// The streams of the stage that differ between seeds.
    pub vary: Vec<String>,
    /// Who asked first: arm and seed, for progress.
    pub first_for: (String, u64),
}

/// Stages in an order in which they can run.
#[derive(Clone, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    place: BTreeMap<String, usize>,
}

/// The keys of one arm's stages under one seed, by the stages' names.
pub type Keys = BTreeMap<String, String>;

impl Graph {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.place.get(key).map(|i| &self.nodes[*i])
    }

    /// Adds the stages of an arm under a seed. `stages` come after what they read.
    pub fn add(
        &mut self,
        arm: &str,
        seed: u64,
        stages: &[Resolved],
        externals: &BTreeMap<String, External>,
        vary: &[String],
        simd: &str,
    ) -> Result<Keys> {
        let mut keys = Keys::new();
        for s in stages {
            let mut inputs = BTreeMap::new();
            let mut hashes: BTreeMap<String, String> = BTreeMap::new();
            for input in &s.inputs {
                let name = input.name();
                let (source, hash) = match (keys.get(name), externals.get(name)) {
                    (Some(key), _) => (Source::Stage(key.clone()), key.clone()),
                    (None, Some(e)) => (Source::External(e.place.clone()), e.digest.clone()),
                    (None, None) => return Err(Error::usage(format!("nothing is called `{input}`")).at(&s.name)),
                };
                inputs.insert(name.to_string(), source);
                hashes.insert(name.to_string(), hash);
            }
            let streams = (s.kind.streams)(&s.config);
            let vary: Vec<String> = vary.iter().filter(|v| streams.contains(&v.as_str())).cloned().collect();
            let own_seed = (!vary.is_empty()).then_some(seed);
            let key = key(s, &hashes, own_seed, &vary, simd);
            keys.insert(s.name.clone(), key.clone());
            if !self.place.contains_key(&key) {
                self.place.insert(key.clone(), self.nodes.len());
                self.nodes.push(Node {
                    key,
                    stage: s.name.clone(),
                    kind: s.kind,
                    config: s.config.clone(),
                    inputs,
                    seed: own_seed,
                    vary,
                    first_for: (arm.into(), seed),
                });
            }
        }
        Ok(keys)
    }

    /// A key with everything that it was made from, each once.
    pub fn behind(&self, key: &str) -> Vec<&Node> {
        let mut seen: Vec<&Node> = Vec::new();
        let mut next = vec![key.to_string()];
        while let Some(key) = next.pop() {
            let Some(node) = self.get(&key).filter(|n| seen.iter().all(|s| s.key != n.key)) else { continue };
            seen.push(node);
            next.extend(node.inputs.values().filter_map(|s| match s {
                Source::Stage(key) => Some(key.clone()),
                Source::External(_) => None,
            }));
        }
        seen
    }
}

fn key(s: &Resolved, inputs: &BTreeMap<String, String>, seed: Option<u64>, vary: &[String], simd: &str) -> String {
    let text = json!({
        "kind": s.kind.name,
        "version": s.kind.version,
        "config": replaced(&s.config, inputs),
        "seed": seed,
        "vary": vary,
        "simd": simd,
    });
    blake3::hash(text.to_string().as_bytes()).to_hex()[..32].to_string()
}

/// The configuration with every `@name` replaced by what it stands for, and keys in order.
fn replaced(config: &Value, inputs: &BTreeMap<String, String>) -> Value {
    match config {
        Value::String(s) => match Input::try_from(s.clone()) {
            Ok(input) => {
                let part = input.part().map_or(String::new(), |p| format!("/{p}"));
                Value::String(format!("{}{part}", inputs.get(input.name()).map_or(s.as_str(), String::as_str)))
            }
            Err(_) => config.clone(),
        },
        Value::Array(list) => list.iter().map(|v| replaced(v, inputs)).collect(),
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map.iter().map(|(k, v)| (k, replaced(v, inputs))).collect();
            sorted.into_iter().map(|(k, v)| (k.clone(), v)).collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}
