//! Graphs of small stages: what runs, what does not, what a kill leaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use postgrad_base::cancel::Cancel;
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;
use crate::recipe::Resolved;
use crate::stage::{Cx, Input, Kind, Stage};

/// Adds a number to what another stage made; notes each start in a file that survives a failure.
struct Add;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    by: u64,
    #[serde(default)]
    to: Option<Input>,
    #[serde(default)]
    random: bool,
    #[serde(default)]
    fails_once: bool,
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

impl Stage for Add {
    const NAME: &'static str = "add";
    const ABOUT: &'static str = "adds";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["tune"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.random { Self::STREAMS } else { &[] }
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        RUNS.fetch_add(1, Ordering::Relaxed);
        let half = cx.out.join("half");
        if config.fails_once && !half.exists() {
            std::fs::write(half, "").unwrap();
            return Err(Error::work("killed"));
        }
        let before: u64 = match &config.to {
            Some(input) => std::fs::read_to_string(cx.file(input, "sum")?).unwrap().parse().unwrap(),
            None => 0,
        };
        cx.spend("updates", config.by);
        let drawn = if config.random { cx.stream("tune").next_u64() % 1000 } else { 0 };
        std::fs::write(cx.out.join("sum"), (before + config.by + drawn).to_string()).unwrap();
        Ok(())
    }
}

fn stage(name: &str, config: Value) -> Resolved {
    let kind = Kind::of::<Add>();
    let config = (kind.resolve)(&config).unwrap();
    Resolved { name: name.into(), kind, inputs: Input::all(&config), config }
}

fn graph(arms: &[(&str, Vec<Resolved>)], seeds: u64) -> (Graph, BTreeMap<(String, u64), Keys>) {
    let mut graph = Graph::default();
    let mut keys = BTreeMap::new();
    let vary = ["tune".to_string()];
    for (arm, stages) in arms {
        for seed in 0..seeds {
            let k = graph.add(arm, seed, stages, &BTreeMap::new(), &vary, "scalar").unwrap();
            keys.insert((arm.to_string(), seed), k);
        }
    }
    (graph, keys)
}

fn running(cache: &Cache, jobs: usize) -> Running<'_> {
    Running { cache, jobs, cancel: Cancel::new(), progress: Mode::Quiet, deadline: None }
}

fn sum(ran: &Ran, key: &str) -> u64 {
    std::fs::read_to_string(ran.results[key].dir.join("sum")).unwrap().parse().unwrap()
}

/// base -> tuned -> more; the arm overrides what `tuned` adds.
fn chain(by: u64, random: bool) -> Vec<Resolved> {
    vec![
        stage("base", json!({"by": 1})),
        stage("tuned", json!({"by": by, "to": "@base", "random": random})),
        stage("more", json!({"by": 3, "to": "@tuned"})),
    ]
}

#[test]
fn arms_share_what_is_equal_and_seeds_what_does_not_vary() {
    let (g, keys) = graph(&[("a", chain(1, true)), ("b", chain(2, true)), ("c", chain(2, false))], 3);
    // One base; three seeds of `tuned` and `more` for a and b; one for c.
    assert_eq!(g.nodes.len(), 1 + 2 * 3 * 2 + 2);
    assert_eq!(keys[&("a".into(), 0)]["base"], keys[&("b".into(), 2)]["base"]);
    assert_ne!(keys[&("a".into(), 0)]["more"], keys[&("a".into(), 1)]["more"]);
    assert_eq!(keys[&("c".into(), 0)]["more"], keys[&("c".into(), 1)]["more"]);
    assert_eq!(g.behind(&keys[&("a".into(), 1)]["more"]).len(), 3);
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path());
    let one = running(&cache, 1).run(&g).unwrap();
    assert_eq!(sum(&one, &keys[&("c".into(), 2)]["more"]), 6);
    let other = tempfile::tempdir().unwrap();
    let four = running(&Cache::new(other.path()), 4).run(&g).unwrap();
    assert!(keys.values().flat_map(|k| k.values()).all(|k| sum(&one, k) == sum(&four, k)), "jobs change nothing");
    let found = &one.results[&keys[&("a".into(), 1)]["tuned"]];
    assert_eq!((found.made.seed, found.made.spent["updates"], found.made.stage.as_str()), (Some(1), 1, "tuned"));
}

#[test]
fn what_has_not_changed_is_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path());
    let run = |arms: &[(&str, Vec<Resolved>)]| running(&cache, 2).run(&graph(arms, 2).0).unwrap().ran;
    assert_eq!(run(&[("a", chain(1, true)), ("b", chain(5, true))]), 9);
    assert_eq!(run(&[("a", chain(1, true)), ("b", chain(5, true))]), 0);
    assert_eq!(run(&[("a", chain(1, true)), ("b", chain(6, true))]), 4, "the changed arm alone");
    let newer = |mut all: Vec<Resolved>| {
        all[2].kind.version = 2;
        all
    };
    assert_eq!(run(&[("a", newer(chain(1, true)))]), 2, "a new version of the last stage");
}

#[test]
fn a_failed_stage_is_gone_on_from_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path());
    let stages = vec![
        stage("first", json!({"by": 1})),
        stage("breaks", json!({"by": 2, "to": "@first", "fails_once": true})),
        stage("last", json!({"by": 3, "to": "@breaks"})),
    ];
    let (g, keys) = graph(&[("a", stages)], 1);
    let e = running(&cache, 2).run(&g).err().unwrap();
    assert!(e.to_string().contains("killed") && e.to_string().contains("breaks of a"), "{e}");
    let ran = running(&cache, 2).run(&g).unwrap();
    assert_eq!((ran.ran, sum(&ran, &keys[&("a".into(), 0)]["last"])), (2, 6));
}

#[test]
fn two_runs_at_once_make_each_result_once() {
    let dir = tempfile::tempdir().unwrap();
    let (g, _) = graph(&[("a", (0..20).map(|i| stage(&format!("s{i}"), json!({"by": 1000 + i}))).collect())], 1);
    let made = |root: &Path| running(&Cache::new(root), 2).run(&g).unwrap().ran;
    let both = std::thread::scope(|s| {
        let other = s.spawn(|| made(dir.path()));
        made(dir.path()) + other.join().unwrap()
    });
    assert_eq!(both, 20);
    assert!(std::fs::read_dir(dir.path()).unwrap().flatten().all(|e| e.path().join("result.json").exists()));
}

#[test]
fn a_stop_and_a_spent_budget_begin_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path());
    let (g, _) = graph(&[("a", chain(77, false))], 1);
    let stopped = running(&cache, 1);
    stopped.cancel.cancel();
    assert_eq!(stopped.run(&g).err().unwrap().exit_code(), 130);
    let late = Running { deadline: Some(std::time::Instant::now()), ..running(&cache, 1) };
    assert!(late.run(&g).err().unwrap().to_string().contains("3 stages left"));
    assert_eq!(running(&cache, 1).run(&g).unwrap().ran, 3);
}
