//! `tune` from the command line: what it makes, what it refuses, and what a kill costs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::fixture;

fn postgrad() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_postgrad"));
    for name in ["POSTGRAD_THREADS", "POSTGRAD_SIMD"] {
        c.env_remove(name);
    }
    c
}

fn data(dir: &Path, rows: usize) -> PathBuf {
    let path = dir.join("data.jsonl");
    let row = |i: usize| format!("{{\"prompt\": \"What is {i}+{}?\", \"completion\": \"{}\"}}\n", i % 7, i + i % 7);
    std::fs::write(&path, (0..rows).map(row).collect::<String>()).unwrap();
    path
}

fn tune(dir: &Path, more: &[&str]) -> Command {
    tune_from(dir, &fixture("chat/model-chatml").display().to_string(), more)
}

fn tune_from(dir: &Path, model: &str, more: &[&str]) -> Command {
    let mut c = postgrad();
    c.current_dir(dir).env("POSTGRAD_RUNS", dir.join("runs")).env("POSTGRAD_CACHE", dir.join("cache"));
    c.args(["tune", "--model", model, "--data", "data.jsonl"]).args(more);
    c
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_lora_and_a_full_tune_leave_models_that_can_be_used() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path(), 40);
    let out =
        tune(dir.path(), &["--steps", "3", "--merge", "--hold-out", "4", "--eval-answers", "4", "--max-answer", "8"])
            .output()
            .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let run = dir.path().join("runs/sft-1");
    for made in [
        "adapter/adapter_model.safetensors",
        "adapter/tokenizer.json",
        "merged/config.json",
        "report.html",
        "metrics.jsonl",
    ] {
        assert!(run.join(made).exists(), "{made}");
    }
    let metrics = String::from_utf8(bytes(&run.join("metrics.jsonl"))).unwrap();
    assert_eq!(metrics.matches("\"kind\":\"step\"").count(), 3, "{metrics}");
    assert!(metrics.contains("\"accuracy\"") && metrics.contains("\"kind\":\"sample\""), "{metrics}");
    // The next fine-tune may begin from the run itself.
    let corrupt = "rate=0.5,mode=mask,warmup=0";
    let flags = ["--steps", "2", "--full", "--dtype", "bf16", "--train", "model.layers.*.mlp.*", "--corrupt", corrupt];
    let out = tune_from(dir.path(), "sft-1", &flags).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let made = dir.path().join("runs/sft-2/model");
    assert!(made.join("model.safetensors").exists());
    let tokenizer = String::from_utf8(bytes(&made.join("tokenizer.json"))).unwrap();
    assert!(tokenizer.contains("<mask>"), "the mask token came with the model");
}

#[test]
fn a_dry_run_says_what_it_would_take_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path(), 30);
    let out = tune(dir.path(), &["--dry-run"]).output().unwrap();
    let said = text(&out);
    assert!(out.status.success(), "{said}");
    for part in ["trained", "lengths", "memory", "time", "QLoRA"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!dir.path().join("runs").exists());
    let json = tune(dir.path(), &["--dry-run", "--json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(plan["memory_mb"].as_f64().unwrap() > 0.0 && plan["steps"].as_u64().unwrap() > 0);
}

#[test]
fn a_run_killed_at_any_moment_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path(), 200);
    let flags =
        ["--steps", "60", "--batch", "4", "--hold-out", "0", "--dropout", "0.1", "--checkpoints", "5", "--keep", "2"];
    let whole = tune(dir.path(), &[&flags[..], &["--out", "whole"]].concat()).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole));
    let mut killed = 0;
    for wait in [60, 150, 300] {
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
    let other = tune(dir.path(), &[&flags[..], &["--out", "broken", "--alpha", "3"]].concat()).output().unwrap();
    assert_eq!(other.status.code(), Some(2), "{}", text(&other));
    let last = tune(dir.path(), &[&flags[..], &["--resume", "sft-2"]].concat()).output().unwrap();
    // On a fast machine the last of the killed ones may have finished.
    assert!(last.status.success() || text(&last).contains("is finished"), "{}", text(&last));
    assert!(killed >= 1, "nothing was killed");
    let file = "adapter/adapter_model.safetensors";
    assert!(bytes(&dir.path().join("whole").join(file)) == bytes(&dir.path().join("broken").join(file)));
    let left: Vec<_> = std::fs::read_dir(dir.path().join("broken/checkpoints")).unwrap().flatten().collect();
    assert!(left.iter().all(|e| e.file_name().to_string_lossy().starts_with("step-")), "{left:?}");
    let losses = |run: &str| {
        let all = String::from_utf8(bytes(&dir.path().join(run).join("metrics.jsonl"))).unwrap();
        let steps = all.lines().filter(|l| l.contains("\"kind\":\"step\""));
        steps
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
            .map(|v| (v["step"].as_u64().unwrap(), v["fields"]["loss"].to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(losses("whole"), losses("broken"));
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path(), 100);
    let mut first = tune(dir.path(), &["--steps", "100000", "--budget", "60s", "--out", "one"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !dir.path().join("one/metrics.jsonl").exists() && started.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = tune(dir.path(), &["--steps", "100000", "--budget", "60s", "--out", "one"]).output().unwrap();
    let _ = first.kill();
    first.wait().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", text(&second));
    assert!(text(&second).contains("another process"), "{}", text(&second));
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path(), 40);
    // A limit on the size of files stands for a full disk: writes beyond it fail.
    let program = postgrad();
    let script = format!(
        "trap '' XFSZ; ulimit -f 600; exec {} tune --model {} --data data.jsonl --full --steps 2 --hold-out 0 --out full",
        program.get_program().to_string_lossy(),
        fixture("chat/model-chatml").display()
    );
    let out = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir.path())
        .env("POSTGRAD_RUNS", dir.path().join("runs"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("cannot write") && text(&out).contains("free some disk space"), "{}", text(&out));
    let checkpoints = dir.path().join("full/checkpoints");
    assert_eq!(std::fs::read_dir(checkpoints).unwrap().count(), 0);
    assert!(!dir.path().join("full/model").exists());
}

#[test]
fn wrong_calls_are_answered_with_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path(), 12);
    std::fs::write(dir.path().join("bad.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": 3\n")
        .unwrap();
    std::fs::write(dir.path().join("odd.jsonl"), "{\"q\": \"a\", \"solution\": \"b\"}\n").unwrap();
    std::fs::write(dir.path().join("empty.jsonl"), "").unwrap();
    let run = |args: &[&str]| {
        let mut c = postgrad();
        c.current_dir(dir.path())
            .env("POSTGRAD_RUNS", dir.path().join("runs"))
            .env("POSTGRAD_CACHE", dir.path().join("cache"));
        let out = c.arg("tune").args(args).output().unwrap();
        (out.status.code(), text(&out))
    };
    let model = fixture("chat/model-chatml").display().to_string();
    let with = |data: &str, more: &[&str]| run(&[&["--model", &model, "--data", data][..], more].concat());
    let (code, said) = with("bad.jsonl", &[]);
    assert!(code == Some(1) && said.contains("bad.jsonl:2"), "{said}");
    let (code, said) = with("odd.jsonl", &[]);
    assert!(code == Some(2) && said.contains("solution") && said.contains("--columns"), "{said}");
    for (data, more, part) in [
        ("empty.jsonl", &[][..], "empty"),
        ("absent.jsonl", &[], "absent.jsonl"),
        ("data.jsonl", &["--lr", "0"], "learning rate"),
        ("data.jsonl", &["--max-len", "100000"], "context"),
        ("data.jsonl", &["--hold-out", "500"], "hold out"),
        ("data.jsonl", &["--full", "--train", "nothing.*"], "no weight matches"),
        ("data.jsonl", &["--stpes", "3"], "--steps"),
        ("data.jsonl", &["--corrupt", "rate=7"], "between 0 and 1"),
        ("data.jsonl", &["--corrupt", "rate=0.1,colour=red"], "unknown field `colour`"),
        ("data.jsonl", &["--corrupt", "rate=0.1,mode=mask"], "an adapter cannot bring one"),
    ] {
        let (code, said) = with(data, more);
        assert!(code == Some(2) && said.contains(part), "{data} {more:?}: {code:?} {said}");
    }
    let (code, said) = run(&["--model", "seed-1n", "--data", "data.jsonl"]);
    assert!(code == Some(2) && said.contains("seed-1m"), "{said}");
    assert!(!dir.path().join("runs").exists(), "a refused call makes no run");
}
