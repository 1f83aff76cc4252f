//! `tune --method`: preference and reinforcement runs from the command line, and what a kill costs them.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::fixture;

fn tune(dir: &Path, more: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_postgrad"));
    c.env_remove("POSTGRAD_THREADS").env_remove("POSTGRAD_SIMD").current_dir(dir);
    c.env("POSTGRAD_RUNS", dir.join("runs")).env("POSTGRAD_CACHE", dir.join("cache"));
    c.args(["tune", "--model", &fixture("chat/model-chatml").display().to_string(), "--lr", "1e-3"]).args(more);
    c
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn pairs(dir: &Path) {
    let row = |i: usize| {
        format!("{{\"prompt\": \"What is {i}+1?\", \"chosen\": \"It is {}.\", \"rejected\": \"It is {i}.\"}}\n", i + 1)
    };
    std::fs::write(dir.join("pairs.jsonl"), (0..40).map(row).collect::<String>()).unwrap();
}

fn events(run: &Path, kind: &str) -> Vec<Value> {
    let all = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let of = format!("\"kind\":\"{kind}\"");
    all.lines().filter(|l| l.contains(&of)).map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn preferences_leave_a_model_a_report_and_held_out_figures() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    for (method, first) in [("dpo", Some(std::f64::consts::LN_2)), ("kto", None), ("simpo", None)] {
        let flags = ["--method", method, "--data", "pairs.jsonl", "--steps", "3", "--hold-out", "4", "--batch", "4"];
        let out = tune(dir.path(), &flags).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        let run = dir.path().join(format!("runs/{method}-1"));
        assert!(run.join("adapter/adapter_model.safetensors").exists() && run.join("report.html").exists());
        let steps = events(&run, "step");
        assert_eq!((steps.len(), events(&run, "eval").len()), (3, 2));
        if let Some(first) = first {
            assert!((steps[0]["fields"]["loss"].as_f64().unwrap() - first).abs() < 1e-6);
        }
    }
}

#[test]
fn rewards_are_tried_and_learnt_from() {
    let dir = tempfile::tempdir().unwrap();
    let base = ["--method", "grpo", "--data", "task:add?n=40", "--max-tokens", "6", "--group", "4", "--batch", "2"];
    let reward = ["--reward", "exec:while read -r l; do echo '{\"reward\": 0.25, \"metrics\": {\"seen\": 1}}'; done:2"];
    let tried = tune(dir.path(), &[&base[..], &reward, &["--try-reward", "--json"]].concat()).output().unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&tried.stdout).unwrap_or_else(|_| panic!("{}", text(&tried)));
    assert_eq!((rows.len(), &rows[0]["reward"], &rows[0]["parts"]["exec"]), (8, &0.5.into(), &0.25.into()));
    assert!(!dir.path().join("runs").exists(), "nothing was trained");
    let both =
        [&reward[..], &["--reward", "overlong?max=6&buffer=3", "--steps", "3", "--hold-out", "4", "--full"]].concat();
    let out = tune(dir.path(), &[&base[..], &both].concat()).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let run = dir.path().join("runs/grpo-1");
    assert!(run.join("model/model.safetensors").exists());
    let steps = events(&run, "step");
    for field in ["reward", "reward.exec", "reward.overlong", "exec.seen", "kl", "entropy", "length", "even_groups"] {
        assert!(steps[2]["fields"][field].is_number(), "{field} in {}", steps[2]);
    }
    assert_eq!(events(&run, "eval").len(), 2);
}

#[test]
fn a_curriculum_is_learnt_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let base = ["--method", "grpo", "--data", "task:chain?steps=1,2&n=40", "--max-tokens", "6", "--group", "4"];
    let rest = ["--batch", "3", "--steps", "3", "--hold-out", "0", "--reward", "repetition?n=1"];
    let flags = [&base[..], &rest, &["--curriculum", "sec?by=steps&temperature=0.2"]].concat();
    let out = tune(dir.path(), &flags).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let steps = events(&dir.path().join("runs/grpo-1"), "step");
    for step in &steps {
        let of = |arm: u64, key: &str| step["fields"][format!("arm.{arm}.{key}")].as_f64().unwrap();
        assert_eq!((of(1, "n") + of(2, "n"), of(1, "p") + of(2, "p")), (3.0, 1.0));
    }
    assert_eq!((steps.len(), &steps[0]["fields"]["arm.1.q"]), (3, &0.0.into()));
}

#[test]
fn discounts_of_rewards_and_supervised_updates_are_had_by_flags() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    std::fs::write(dir.path().join("solved.jsonl"), "{\"prompt\": \"What is 1+1?\", \"completion\": \"2\"}\n").unwrap();
    let base = ["--data", "task:add?n=20", "--max-tokens", "8", "--batch", "2", "--hold-out", "0", "--steps", "3"];
    let rewards = ["--reward", "correct?gamma=1", "--reward", "repeat?n=1&penalty=0.05&gamma=0.9"];
    let ppo = [&["--method", "ppo", "--group", "2"], &base[..], &rewards].concat();
    let refused = tune(dir.path(), &ppo).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("--lambda 1"), "{}", text(&refused));
    let more = ["--lambda", "1", "--sft-data", "solved.jsonl", "--sft-every", "1"];
    let out = tune(dir.path(), &[&ppo[..], &more].concat()).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let steps = events(&dir.path().join("runs/ppo-1"), "step");
    let supervised: Vec<bool> = steps.iter().map(|s| s["fields"]["sft_loss"].is_number()).collect();
    // An iteration of PPO makes two updates.
    assert_eq!(supervised, [false, false, true]);
    assert!(steps[1]["fields"]["reward.repeat"].as_f64().unwrap() <= 0.0);
}

#[test]
fn a_broken_program_stops_the_run_and_a_mended_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("score.sh");
    let base = [
        "--method",
        "rloo",
        "--data",
        "task:add?n=20",
        "--max-tokens",
        "4",
        "--group",
        "2",
        "--batch",
        "2",
        "--steps",
        "6",
        "--hold-out",
        "0",
        "--reward",
        "exec:sh score.sh",
        "--out",
        "run",
        "--checkpoints",
        "100",
    ];
    std::fs::write(&script, "n=0; while read -r l; do n=$((n+1)); [ $n -gt 8 ] && { echo out of luck >&2; exit 7; }; echo \"{\\\"reward\\\": $((n % 2))}\"; done").unwrap();
    let out = tune(dir.path(), &base).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("out of luck"), "{}", text(&out));
    assert!(dir.path().join("run/checkpoints/step-00000002").exists(), "the finished iterations are kept");
    std::fs::write(&script, "n=0; while read -r l; do n=$((n+1)); echo \"{\\\"reward\\\": $((n % 2))}\"; done")
        .unwrap();
    let out = tune(dir.path(), &base).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let steps: Vec<u64> = events(&dir.path().join("run"), "step").iter().map(|e| e["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_killed_rollout_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--method",
        "grpo",
        "--data",
        "task:add?n=60",
        "--max-tokens",
        "12",
        "--group",
        "4",
        "--batch",
        "4",
        "--steps",
        "30",
        "--hold-out",
        "0",
        "--reward",
        "repetition?n=1",
        "--checkpoints",
        "3",
        "--full",
        "--no-guard",
    ];
    let whole = tune(dir.path(), &[&flags[..], &["--out", "whole"]].concat()).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole));
    let mut killed = 0;
    for wait in [80, 200, 350] {
        let mut child = tune(dir.path(), &[&flags[..], &["--out", "broken"]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        killed += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
    }
    let last = tune(dir.path(), &[&flags[..], &["--out", "broken"]].concat()).output().unwrap();
    assert!(last.status.success() || text(&last).contains("is finished"), "{}", text(&last));
    assert!(killed >= 1, "nothing was killed");
    let model = |run: &str| std::fs::read(dir.path().join(run).join("model/model.safetensors")).unwrap();
    assert!(model("whole") == model("broken"));
}

#[test]
fn wrong_calls_are_named() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    for (flags, said) in [
        (vec!["--method", "gpro", "--data", "pairs.jsonl"], "did you mean `grpo`"),
        (vec!["--method", "dpo", "--data", "pairs.jsonl", "--beta", "0"], "beta is 0"),
        (vec!["--method", "dpo", "--data", "pairs.jsonl", "--dropout", "0.1"], "--dropout is off"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--reward", "corect"], "unknown reward"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--group", "1"], "--group 2"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--curriculum", "sec?by=digit"], "known: digits, op, task"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--curriculum", "sec"], "names no column"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--reward", "repeat?gamma=0.9"], "has a discount"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--gamma", "0.9"], "the method has no gamma"),
        (vec!["--method", "reinforce++", "--data", "task:add?n=9", "--lambda", "1"], "the method has no lambda"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--sft-every", "2"], "--sft-data"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--curriculum", "sek?by=op"], "unknown curriculum"),
        (vec!["--method", "grpo", "--data", "task:add?n=9", "--max-tokens", "4000"], "context"),
    ] {
        let out = tune(dir.path(), &flags).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{flags:?}: {}", text(&out));
        assert!(text(&out).contains(said), "{flags:?}: {}", text(&out));
    }
    let dry = tune(dir.path(), &["--method", "dpo", "--data", "pairs.jsonl", "--dry-run"]).output().unwrap();
    assert!(dry.status.success() && text(&dry).contains("form sigmoid"), "{}", text(&dry));
    assert!(!dir.path().join("runs").exists());
}

#[test]
fn flags_of_another_method_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    for (method, flags) in [
        ("sft", &["--reward", "correct"][..]),
        ("sft", &["--beta", "0.2"]),
        ("dpo", &["--group", "4"]),
        ("dpo", &["--curriculum", "passes"]),
        ("dpo", &["--corrupt", "rate=0.4"]),
        ("grpo", &["--beta", "0.2"]),
        ("dpo", &["--head", "outcome"]),
        ("grpo", &["--full", "--select", "hft"]),
    ] {
        let out = tune(dir.path(), &[&["--method", method, "--data", "pairs.jsonl"], flags].concat()).output().unwrap();
        let said = text(&out);
        assert_eq!(out.status.code(), Some(2), "{method} {flags:?}: {said}");
        assert!(said.contains(flags[flags.len() - 2]) && said.contains(method), "{method} {flags:?}: {said}");
    }
}

#[test]
fn heads_judge_answers_and_steps_and_reward() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    let steps = "{\"prompt\": \"1+1?\", \"completion\": \"So\\n2\", \"step_labels\": [null, true]}\n";
    std::fs::write(dir.path().join("steps.jsonl"), steps.repeat(4)).unwrap();
    for (head, data) in [("outcome", "pairs.jsonl"), ("process", "steps.jsonl")] {
        let flags =
            ["--method", "reward", "--head", head, "--data", data, "--steps", "2", "--hold-out", "2", "--batch", "2"];
        let out = tune(dir.path(), &[&flags[..], &["--out", head]].concat()).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        let first = events(&dir.path().join(head), "step")[0]["fields"]["loss"].as_f64().unwrap();
        assert!((first - std::f64::consts::LN_2).abs() < 1e-6);
        let reward = format!("model:{head}?over=product");
        let sampled = ["--method", "grpo", "--data", "task:add?n=20", "--max-tokens", "4", "--group", "2"];
        let out = tune(dir.path(), &[&sampled[..], &["--reward", &reward, "--try-reward", "--json"]].concat());
        let out = { out }.output().unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out)));
        assert!(rows.iter().all(|r| (0.0..=1.0).contains(&r["reward"].as_f64().unwrap())), "{rows:?}");
    }
    let odd = ["--method", "reward", "--head", "outcome", "--margin", "1", "--data", "pairs.jsonl"];
    let out = tune(dir.path(), &odd).output().unwrap();
    assert!(out.status.code() == Some(2) && text(&out).contains("--margin"), "{}", text(&out));
}

/// Every name that the help lists does an update and leaves a model.
#[test]
fn a_printed_recipe_tunes_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    let dpo = ["--method", "dpo", "--data", "pairs.jsonl", "--batch", "4", "--beta", "0.3"];
    let grpo = ["--method", "grpo", "--data", "task:add?n=20", "--batch", "2", "--group", "4", "--max-tokens", "6"];
    let grpo = [&grpo[..], &["--reward", "repetition?n=1", "--curriculum", "sec?by=digits", "--no-guard"]].concat();
    for (name, flags) in [("dpo", &dpo[..]), ("grpo", &grpo[..])] {
        let flags = [flags, &["--full", "--steps", "3", "--hold-out", "0"]].concat();
        let out = tune(dir.path(), &[&flags[..], &["--out", name]].concat()).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        let printed = tune(dir.path(), &[&flags[..], &["--print-recipe"]].concat()).output().unwrap();
        let recipe = dir.path().join(format!("{name}.toml"));
        std::fs::write(&recipe, &printed.stdout).unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_postgrad"));
        run.env_remove("POSTGRAD_THREADS").env_remove("POSTGRAD_SIMD").current_dir(dir.path());
        run.env("POSTGRAD_RUNS", dir.path().join("runs")).env("POSTGRAD_CACHE", dir.path().join("cache"));
        let ran = run.args(["run", &recipe.display().to_string(), "--out", &format!("{name}-again")]).output().unwrap();
        assert!(ran.status.success(), "{}", text(&ran));
        let weights = |at: &str| std::fs::read(dir.path().join(at).join("model/model.safetensors")).unwrap();
        assert!(weights(name) == weights(&format!("{name}-again/tuned")), "{name}");
    }
    // Every other kind of stage is read as it is printed; what has no key is refused.
    let teacher = fixture("chat/model-chatml").display().to_string();
    for more in [&["--corrupt", "rate=0.4"][..], &["--method", "gkd", "--teacher", &teacher]] {
        let rest = ["--data", "task:add?n=20", "--steps", "3", "--print-recipe"];
        let out = tune(dir.path(), &[&rest[..], more].concat()).output().unwrap();
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("use = "), "{}", text(&out));
    }
    for refused in [["--template", "off"], ["--over-long", "truncate"], ["--budget", "1m"]] {
        let flags = [&["--data", "task:add?n=20", "--print-recipe"][..], &refused].concat();
        let out = tune(dir.path(), &flags).output().unwrap();
        assert!(out.status.code() == Some(2) && text(&out).contains("has no key"), "{}", text(&out));
    }
    let out = tune(dir.path(), &["--data", "task:add?n=20", "--steps", "1", "--seed", "7", "--print-recipe"]).output();
    assert!(text(&out.unwrap()).contains("postgrad run FILE --seed 7"));
}

#[test]
fn every_method_runs() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    let preference = [
        "cdpo",
        "robust",
        "ipo",
        "cpo",
        "orpo",
        "hinge",
        "slic",
        "rrhf",
        "aft",
        "aft-detach",
        "aft-bound",
        "weighted",
        "reward",
    ];
    let reinforcement = ["dr-grpo", "dapo", "gspo", "reinforce", "reinforce++", "ppo", "expert-iteration"];
    let judged = ["--data", "pairs.jsonl", "--batch", "2"];
    let sampled = ["--data", "task:add?n=20", "--batch", "2", "--max-tokens", "4", "--reward", "model:reward"];
    let teacher = fixture("chat/model-chatml").display().to_string();
    let taught = ["--data", "task:add?n=20", "--batch", "2", "--teacher", &teacher];
    let all = preference.iter().map(|m| (m, &judged[..])).chain(reinforcement.iter().map(|m| (m, &sampled[..])));
    let all = all.chain(["distill", "gkd"].iter().map(|m| (m, &taught[..])));
    for (method, flags) in all {
        let rest = ["--method", method, "--steps", "1", "--hold-out", "0", "--out", method];
        let out = tune(dir.path(), &[&rest[..], flags].concat()).output().unwrap();
        assert!(out.status.success(), "{method}: {}", text(&out));
        assert!(dir.path().join(method).join("adapter").exists(), "{method}");
    }
}
