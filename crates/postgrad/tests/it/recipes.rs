//! Recipes from the command line: verified, changed, killed, gone on with.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Place, fixture};

const RECIPE: &str = r#"
title = "Toy"
about = "a larger rate moves the loss more"
measure = ["target"]
seeds = { primary = 2, others = 2 }
match = ["updates", "examples"]

[models]
base = "MODEL"

[stage.problems]
use = "draw"
task = "add"
n = 40

[stage.test]
use = "draw"
task = "add"
split = "test"
n = 12

[stage.tuned]
use = "sft"
model = "@base"
data = "@problems"
steps = 3
batch = 4
lr = 3e-3

[stage.target]
use = "eval"
as = "perplexity"
model = "@tuned"
data = "@test"

[arm.fast]

[arm.slow]
tuned = { lr = 1e-4 }

[[claim]]
primary = true
says = "a larger rate learns more"
value = "slow:target.loss - fast:target.loss"
holds = "> 0"
interest = 0.1

[[control]]
says = "an arm is itself"
value = "slow:target.loss - slow:target.loss"
exact = true
"#;

impl Place {
    /// The recipe in `recipes/toy/`, in a repository of its own.
    fn recipe(&self) -> Repository<'_> {
        self.recipe_of("toy")
    }

    /// The recipe in `recipes/SLUG/`.
    pub fn recipe_of(&self, slug: &'static str) -> Repository<'_> {
        std::fs::create_dir_all(self.path(&format!("recipes/{slug}"))).unwrap();
        let text = RECIPE.replace("MODEL", fixture("chat/model-chatml").to_str().unwrap());
        let place = Repository { place: self, slug };
        place.write(&text);
        place.git(&["init", "-q"]);
        place
    }
}

pub struct Repository<'a> {
    place: &'a Place,
    slug: &'static str,
}

impl Repository<'_> {
    fn file(&self) -> std::path::PathBuf {
        self.place.path(&format!("recipes/{}/tiny.toml", self.slug))
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from));
        self.write(&text.replace(from, to));
    }

    fn git(&self, args: &[&str]) {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let out = Command::new("git").current_dir(self.place.0.path()).args(who).args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    pub fn commit(&self) {
        self.git(&["add", "recipes"]);
        self.git(&["commit", "-qm", "recipe"]);
    }

    fn verify(&self) -> Value {
        self.place.call(&["verify", "toy", "--json"]).json()[0].clone()
    }

    fn ledger(&self) -> Value {
        let text = std::fs::read_to_string(self.place.path("recipes/toy/ledger.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// Claims first, then runs; what changed is run again, and earlier verdicts stay.
#[test]
fn a_ledger_holds_claims_that_were_committed_first() {
    let place = Place::new();
    let recipe = place.recipe();
    place.call(&["verify", "toy"]).fails(2, &["not committed", "tiny.toml", "--trial"]);
    assert!(!place.path("recipes/toy/ledger.json").exists());
    recipe.commit();
    let first = recipe.verify();
    // Two draws of problems, one of tests, two arms of two seeds, each tuned and measured.
    assert_eq!((first["ran"].as_u64(), first["recorded"].as_bool()), (Some(2 + 1 + 8), Some(true)));
    assert_eq!(first["controls"][0]["state"], "quiet");
    let written = recipe.ledger();
    let revision = &written["revisions"][0];
    assert_eq!((revision["number"].as_u64(), revision["claims"][0]["seeds"].as_u64()), (Some(1), Some(2)));
    assert_eq!(revision["claims_commit"].as_str().unwrap().len(), 40);
    assert_eq!(revision["budgets"]["fast"]["updates"], 3.0);

    let started = Instant::now();
    let again = recipe.verify();
    assert_eq!(
        (again["ran"].as_u64(), again["reused"].as_u64(), again["recorded"].as_bool()),
        (Some(0), Some(11), Some(false))
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(recipe.ledger(), written);
    assert!(place.call(&["verify", "--all", "--stale-only", "--json"]).json().as_array().unwrap().is_empty());

    // A claim edited after the run: a new revision, the old verdict kept.
    recipe.edit("holds = \"> 0\"", "holds = \"> 100\"");
    place.call(&["verify", "toy"]).fails(2, &["not committed"]);
    recipe.commit();
    assert_eq!(recipe.verify()["ran"], 0);
    let two = recipe.ledger();
    assert_eq!(two["revisions"][0], written["revisions"][0]);
    assert_eq!(
        (two["revisions"][1]["number"].as_u64(), two["revisions"][1]["claims"][0]["condition"].as_str()),
        (Some(2), Some("> 100"))
    );

    // One rate changed: its arm alone runs.
    recipe.edit("lr = 1e-4", "lr = 2e-4");
    recipe.commit();
    assert_eq!(recipe.verify()["ran"], 4);
    let trial = place.call(&["verify", "toy", "--trial", "--json"]).json()[0].clone();
    assert_eq!((trial["recorded"].as_bool(), trial["claims"][0]["state"].as_str()), (Some(false), Some("described")));
    assert_eq!(recipe.ledger()["revisions"].as_array().unwrap().len(), 3);

    // Budgets that differ are refused.
    recipe.edit("tuned = { lr = 2e-4 }", "tuned = { lr = 2e-4, steps = 2 }");
    recipe.commit();
    place.call(&["verify", "toy"]).fails(2, &["do not match in updates", "`slow`"]);

    let cached = place.call(&["cache", "list", "--json"]).json();
    assert!(cached.as_array().unwrap().len() > 11);
    place.call(&["cache", "prune", "--max", "0"]).ok();
    assert!(place.call(&["cache", "list", "--json"]).json().as_array().unwrap().is_empty());
}

/// Killed once and again, then run to its end: the figures of an unbroken run.
#[test]
fn a_killed_verify_ends_in_the_same_figures() {
    let (whole, broken) = (Place::new(), Place::new());
    for place in [&whole, &broken] {
        place.recipe().edit("steps = 3", "steps = 12");
        Repository { place, slug: "toy" }.commit();
    }
    let results = |dir: &Path| {
        let there = std::fs::read_dir(dir).into_iter().flatten().flatten();
        there.filter(|e| e.path().join("result.json").exists()).count()
    };
    let stages = broken.path("cache/stages");
    for wanted in [1, 4] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_postgrad"))
            .current_dir(broken.0.path())
            .env("POSTGRAD_CACHE", broken.path("cache"))
            .args(["verify", "toy", "--json"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while results(&stages) < wanted && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let after = Repository { place: &broken, slug: "toy" }.verify();
    assert!(after["reused"].as_u64().unwrap() >= 1 && after["recorded"].as_bool().unwrap_or(false), "{after}");
    let unbroken = Repository { place: &whole, slug: "toy" }.verify();
    assert_eq!(after["measures"], unbroken["measures"]);
    assert_eq!(after["claims"], unbroken["claims"]);
}

#[test]
fn a_recipe_runs_on_ones_own_model_and_names_what_is_wrong() {
    let place = Place::new();
    place.recipe();
    let file = "recipes/toy/tiny.toml";
    place.call(&["run", file, "--set", "tuned.lrr=1"]).fails(2, &["lrr", "`lr`"]);
    place.call(&["run", file, "--arm", "slwo"]).fails(2, &["slwo", "`slow`"]);
    place.call(&["run", "nothing.toml"]).fails(2, &["no recipe nothing.toml"]);
    let ran =
        place.call(&["run", file, "--arm", "slow", "--set", "tuned.steps=1", "--set", "problems.n=8", "--json"]).json();
    assert!(place.path("runs/run-1/target/rows.jsonl").exists());
    assert_eq!((ran["ran"].as_u64(), ran["run"].as_str()), (Some(4), Some("run-1")));
    let shown = place.call(&["runs", "list", "--json"]).ok();
    assert!(shown.contains("run-1"), "{shown}");
}
