//! The ledger of a recipe: what was claimed, in which commit, and what came out. Written by `verify` alone.
//!
//! A revision is never changed once written: an edited claim, another stage version or another machine's SIMD level makes a
//! new one, and the earlier verdicts stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result, fs};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::verify::versions;
use crate::claims::{Judged, State, Summary};
use crate::recipe::Recipe;

/// All that a recipe's runs have shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub slug: String,
    pub revisions: Vec<Revision>,
}

/// One verified run of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// From 1.
    pub number: usize,
    /// UTC, RFC 3339.
    pub date: String,
    pub state: State,
    /// The commit that last changed the recipe's file: the claims were in it before the run.
    pub claims_commit: String,
    /// The commit that was checked out.
    pub commit: String,
    /// Whether sources differed from that commit.
    pub modified_code: bool,
    pub claims_hash: String,
    pub recipe_hash: String,
    /// Versions of the stage kinds that were used.
    pub stages: BTreeMap<String, u32>,
    pub simd: String,
    pub machine: String,
    pub threads: usize,
    /// Seeds of each arm.
    pub seeds: BTreeMap<String, Vec<u64>>,
    /// Streams that differed between seeds.
    pub varied: Vec<String>,
    /// What all seeds had in common, so that the intervals do not cover it: one base model, one set of test items.
    pub conditional_on: Vec<String>,
    /// Digests of external models and data.
    pub externals: BTreeMap<String, String>,
    /// What a grid chose for each arm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tuned: BTreeMap<String, BTreeMap<String, Value>>,
    /// Budgets of each arm, mean over its seeds; those that had to match are named in `matched`.
    pub budgets: BTreeMap<String, BTreeMap<String, f64>>,
    pub matched: Vec<String>,
    /// Wall time of the run that wrote this.
    pub wall_seconds: f64,
    /// Seconds of all stages behind the result, one after the other, also of those that had been run before.
    pub stage_seconds: f64,
    pub claims: Vec<Judged>,
    pub controls: Vec<Judged>,
    /// Figures of each arm.
    pub measures: Vec<Summary>,
}

impl Ledger {
    /// The ledger of an experiment's file: `ledger.json` beside `tiny.toml`, `NAME.ledger.json` beside another `NAME.toml`.
    pub fn path(recipe: &Path) -> PathBuf {
        recipe.with_file_name(match recipe.file_stem().and_then(|s| s.to_str()) {
            Some("tiny") | None => "ledger.json".into(),
            Some(other) => format!("{other}.ledger.json"),
        })
    }

    /// The ledger in a file; none where nothing was verified yet.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map(Some).map_err(|e| e.at(path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::work("cannot read the ledger").because(e).at(path.display())),
        }
    }

    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .context(|| "the ledger cannot be read".into())
            .map_err(|e| e.help("it is written by `postgrad verify` alone: take back what was changed by hand"))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context(|| "cannot write the ledger".into())?;
        fs::write(path, format!("{text}\n").as_bytes())
    }

    pub fn last(&self) -> Option<&Revision> {
        self.revisions.last()
    }

    /// Whether there is no revision of this recipe and of the present stage versions at the end.
    pub fn is_stale(&self, recipe: &Recipe) -> Result<bool> {
        let versions = versions(recipe)?;
        Ok(!self.last().is_some_and(|r| r.is_of(&recipe.recipe_hash(), &versions)))
    }

    /// Adds a revision, unless the last one says the same of the same recipe. True where it was added.
    pub fn add(&mut self, mut revision: Revision) -> bool {
        if self.last().is_some_and(|last| last.same(&revision)) {
            return false;
        }
        revision.number = self.revisions.len() + 1;
        self.revisions.push(revision);
        true
    }
}

impl Revision {
    /// Whether the last revision is of this recipe and these stage versions.
    pub fn is_of(&self, recipe_hash: &str, stages: &BTreeMap<String, u32>) -> bool {
        self.recipe_hash == recipe_hash && self.stages == *stages
    }

    fn same(&self, other: &Self) -> bool {
        self.is_of(&other.recipe_hash, &other.stages)
            && (&self.simd, &self.externals, &self.tuned, &self.seeds)
                == (&other.simd, &other.externals, &other.tuned, &other.seeds)
            && rounded(&self.claims) == rounded(&other.claims)
            && rounded(&self.controls) == rounded(&other.controls)
    }

    pub fn primary(&self) -> Option<&Judged> {
        self.claims.iter().find(|c| c.primary)
    }
}

/// Verdicts and estimates as text, to nine digits: a float that went through JSON may have lost its last one.
fn rounded(all: &[Judged]) -> Vec<String> {
    let digits = |x: f64| format!("{x:.9e}");
    all.iter()
        .map(|j| format!("{} {} {:?} {}", j.says, j.value, j.state, j.estimate.map_or(String::new(), digits)))
        .collect()
}
