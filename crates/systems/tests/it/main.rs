//! Every recipe for real use (`recipes/*/recipe.toml`), run to its end in small.
//!
//! Models become a fixture of random weights, a task's problems a few of them, training two updates; keys that make a stage long
//! are cut wherever a stage has them. What that does not reach stands in [`SPECIAL`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postgrad_base::cancel::Cancel;
use postgrad_base::progress::Mode;
use postgrad_base::{Result, Stream, jsonl};
use postgrad_lab::engine::{Cache, Found, Graph, Resolve, Running, externals};
use postgrad_lab::recipe::Recipe;
use postgrad_reason::draw::{difficulties, find_rendering, problems};
use postgrad_tasks::{Split, task};
use postgrad_tensor::simd;
use serde_json::{Value, json};

/// Updates of every stage that counts them, at most.
const STEPS: u64 = 2;
/// Problems in the place of a `task:` source.
const PROBLEMS: usize = 8;
/// A recipe's time.
const LIMIT: Duration = Duration::from_secs(20);

/// Keys that are cut in every stage that has them, as long as the recipe stays one.
const CUT: &[(&str, &str)] = &[
    ("steps", "2"),
    ("batch", "4"),
    ("n", "8"),
    ("limit", "4"),
    ("trials", "2"),
    ("n_max", "4"),
    ("max_tokens", "16"),
];

/// What a recipe needs beside: `KEY`, `VALUE` as after `--set`. A model `able` is seed-1m, for recipes that go on with a
/// model's right answers.
const SPECIAL: &[(&str, &[(&str, &str)])] = &[
    (
        "aft",
        &[
            ("base", "able"),
            ("samples.max_tokens", "96"),
            ("samples.trials", "6"),
            ("held.max_tokens", "96"),
            ("held.trials", "6"),
        ],
    ),
    (
        "cot-valve",
        // After two updates the valve does not change an answer: one length a question, and no part for every place of the valve.
        &[
            ("base", "able"),
            ("mix.max_tokens", "96"),
            ("mix.alphas", "[0.0, 1.0]"),
            ("mix.least", "1"),
            ("plain.alphas", "[0.0, 1.0]"),
            ("plus.alphas", "[1.0]"),
            ("progressive.alphas", "[1.0]"),
            ("pass-1.data", "@mix"),
            ("pass-2.data", "@mix"),
            ("pass-3.data", "@mix"),
        ],
    ),
    // Snapshots lie within the updates.
    ("echo-chamber", &[("tuned.snapshots", "[1]"), ("samples-half.model", "@tuned/step-1"), ("tuned.steps", "2")]),
    ("dart-math", &[("generator", "able"), ("pass.max_tokens", "96"), ("pool.max_tokens", "96")]),
    ("demystify-long-cot", &[("tuned.with.max_tokens", "24")]),
    ("reft", &[("tuned.with.max_tokens", "16")]),
    ("sec", &[("tuned.with.max_tokens", "16")]),
    (
        "open-rs",
        // A model that solves some of its problems in four trials; snapshots lie within the updates.
        &[
            ("base", "able"),
            ("pass.max_tokens", "96"),
            ("pass.trials", "4"),
            ("pass.limit", "8"),
            ("tuned.with.max_tokens", "16"),
            ("tuned.snapshots", "[1]"),
            ("tuned.steps", "2"),
            ("dev-1.model", "@tuned/step-1"),
            ("dev-2.model", "@tuned/step-1"),
        ],
    ),
    // A pair needs a right and a wrong answer of one question.
    (
        "dpo-variants",
        &[
            ("base", "able"),
            ("train", "task:chain?steps=3&n=8"),
            ("test", "task:chain?steps=3&n=8&split=test"),
            ("samples.max_tokens", "96"),
            ("samples.trials", "16"),
            ("held.max_tokens", "96"),
        ],
    ),
];

const HOW: &str = "cut what it does with a line in SPECIAL (crates/systems/tests/it/main.rs)";

#[test]
fn every_recipe_for_real_use_runs() {
    let root = repository().join("recipes");
    let mut slugs: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .flatten()
        .filter(|e| e.path().join("recipe.toml").exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    slugs.sort();
    for (slug, _) in SPECIAL {
        assert!(slugs.iter().any(|s| s == slug), "SPECIAL has {slug}, which is no recipe");
    }
    let place = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for slug in &slugs {
        let started = Instant::now();
        if let Err(e) = run(slug, &root.join(slug).join("recipe.toml"), place.path()) {
            failed.push(format!("{slug}: {e}"));
        }
        println!("{slug}: {:.2} s", started.elapsed().as_secs_f64());
    }
    assert!(slugs.len() >= 6 && failed.is_empty(), "{}\n{HOW}", failed.join("\n"));
}

/// Runs what a user's `postgrad run` would, cut short, and looks at what came of it.
fn run(slug: &str, path: &Path, place: &Path) -> Result<(), String> {
    let text = |e: postgrad_base::Error| e.to_string();
    let mut recipe = Recipe::read(path, &postgrad_systems::kinds()).map_err(text)?;
    cut(&mut recipe);
    let special = SPECIAL.iter().find(|(s, _)| *s == slug).map_or(&[][..], |(_, pairs)| pairs);
    recipe.set_all(special.iter().copied()).map_err(text)?;

    let arm = recipe.arms[0].name.clone();
    let wanted = recipe.wanted(&arm).map_err(text)?;
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let stages = recipe.needed(&arm, &names, &[]).map_err(text)?;
    let resolve = Resolve { model: &model, data: &|spec| data(spec, place) };
    let outside = externals(&recipe, &resolve).map_err(text)?;
    let mut graph = Graph::default();
    let keys = graph.add(&arm, 0, &stages, &outside, &recipe.vary, simd::level().name()).map_err(text)?;
    let cache = Cache::new(&place.join("stages"));
    let deadline = Some(Instant::now() + LIMIT);
    let running = Running { cache: &cache, jobs: 1, cancel: Cancel::new(), progress: Mode::Quiet, deadline };
    let ran = running.run(&graph).map_err(text)?;

    for stage in &stages {
        let found = &ran.results[&keys[&stage.name]];
        let updates = found.made.spent.get("updates").copied().unwrap_or(0);
        if updates > STEPS {
            return Err(format!("`{}` made {updates} updates, not {STEPS}", stage.name));
        }
    }
    // What is measured has figures.
    let empty = |found: &Found| {
        let rows = jsonl::read::<Value>(&found.dir.join("rows.jsonl")).map(|rows| rows.count());
        rows.unwrap_or(0) == 0
    };
    let without: Vec<&String> = recipe.measure.iter().filter(|s| empty(&ran.results[&keys[*s]])).collect();
    if without.is_empty() { Ok(()) } else { Err(format!("no rows of {without:?}")) }
}

/// Cuts all that can be cut.
fn cut(recipe: &mut Recipe) {
    let stages: Vec<String> = recipe.stage_names().map(String::from).collect();
    for stage in stages {
        for (key, value) in CUT {
            // A stage of another kind has no such key.
            let _ = recipe.set(&format!("{stage}.{key}"), value);
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn model(spec: &str) -> Result<PathBuf> {
    let folder = if spec == "able" { "assets/seed-1m" } else { "fixtures/chat/model-chatml" };
    Ok(repository().join(folder))
}

/// A source of the recipe: a few problems of a task, or a file that the program carries, as it is.
fn data(spec: &str, place: &Path) -> Result<String> {
    let Some(spec) = spec.strip_prefix("task:") else { return Ok(spec.into()) };
    let (name, query) = spec.split_once('?').unwrap_or((spec, ""));
    let pairs: BTreeMap<&str, &str> = query.split('&').filter_map(|p| p.split_once('=')).collect();
    let knobs = pairs.iter().filter(|(key, _)| !["n", "seed", "split", "rendering"].contains(key));
    let knobs: Vec<String> = knobs.map(|(key, value)| format!("{key}={}", value.replace(',', "|"))).collect();
    let split = if pairs.get("split") == Some(&"test") { Split::Test } else { Split::Train };
    let task = task(name)?;
    let rendering = find_rendering(&*task, pairs.get("rendering").copied())?;
    let stream = Stream::new(0, &["data", name]);
    let drawn = problems(&*task, &difficulties(&*task, &knobs.join(","))?, PROBLEMS, split, &stream)?;
    let rows = drawn.into_iter().map(|p| {
        let trace = task.solve(&p, rendering.name)?;
        Ok(json!({"prompt": p.ask(&rendering), "completion": trace.text, "problem": p}).to_string() + "\n")
    });
    let text = rows.collect::<Result<String>>()?;
    let path = place.join(format!("{}.jsonl", spec.replace(|c: char| !c.is_ascii_alphanumeric(), "-")));
    postgrad_base::fs::write(&path, text.as_bytes())?;
    Ok(path.display().to_string())
}
