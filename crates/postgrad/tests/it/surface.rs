//! Help, wrong calls, settings from the environment, lost readers, shells.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::{Place, fixture};

#[test]
fn help_lists_the_commands_and_every_command_has_help() {
    let place = Place::new();
    let help = place.call(&["--help"]).ok();
    for command in ["systems", "task", "data", "check", "runs", "bench", "doctor", "completions"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        assert!(place.call(&[command, "--help"]).ok().contains("Usage: postgrad"), "{command}");
    }
    let bare = place.call(&[]);
    assert_eq!((bare.code, bare.err.contains("Commands:")), (Some(2), true));
    assert!(place.call(&["--version"]).ok().starts_with("postgrad "));
}

#[test]
fn wrong_calls_name_the_nearest() {
    let place = Place::new();
    place.call(&["chek"]).fails(2, &["unknown command `chek`", "`check`"]);
    place.call(&["task", "lst"]).fails(2, &["unknown command `lst`", "`list`"]);
    place.call(&["task", "list", "--jsn"]).fails(2, &["unknown option `--jsn`", "`--json`"]);
    place.call(&["task", "sample", "chian"]).fails(2, &["unknown task `chian`", "`chain`"]);
    place.call(&["task", "sample", "chain", "--difficulty", "step=3"]).fails(2, &["unknown knob", "`steps`"]);
    place.call(&["task", "sample", "chain", "--rendering", "cott"]).fails(2, &["unknown rendering", "`cot`"]);
    place.call(&["task", "sample", "chain", "--split", "dev"]).fails(2, &["dev", "train", "test"]);
    place.call(&["check", "model"]).fails(2, &["--against"]);
    place.call(&["doctor", "more"]).fails(2, &["one argument too many", "more"]);
    place.call(&["runs", "compare", "one"]).fails(2, &[]);
    let said = place.call(&["chek", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((said.code, error["error"]["exit_code"].as_u64()), (Some(2), Some(2)));
    assert!(said.out.is_empty() && error["error"]["help"].as_str().unwrap().contains("`check`"));
}

#[test]
fn the_environment_is_checked_first() {
    let place = Place::new();
    for (name, words) in [("POSTGRAD_SIMD", "no level"), ("POSTGRAD_THREADS", "no number")] {
        let out = place.command().args(["task", "list"]).env(name, "sideways").output().unwrap();
        let err = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2));
        assert!(err.contains(name) && err.contains(words), "{err}");
    }
    let out =
        place.command().args(["doctor", "--json"]).env("POSTGRAD_SIMD", "scalar").env("POSTGRAD_THREADS", "1").output();
    let found: serde_json::Value = serde_json::from_slice(&out.unwrap().stdout).unwrap();
    assert_eq!((found["cpu"]["simd_in_force"].as_str(), found["cpu"]["threads"].as_u64()), (Some("scalar"), Some(1)));
    assert_eq!(place.call(&["doctor", "--json", "--threads", "3"]).json()["cpu"]["threads"], 3);
}

#[test]
fn doctor_says_what_this_machine_is() {
    let place = Place::new();
    let found = place.call(&["doctor", "--json"]).json();
    assert!(found["memory"]["total_bytes"].as_u64().unwrap() >= found["memory"]["available_bytes"].as_u64().unwrap());
    assert!(found["memory"]["bandwidth_gb_per_s"].as_f64().unwrap() > 0.0);
    assert!(found["cpu"]["product_gflops"].as_f64().unwrap() > 0.0);
    assert!(found["folders"]["cache"]["free_bytes"].as_u64().unwrap() > 0);
    assert!(found["sandbox"]["layers"].as_array().unwrap().len() > 5);
    let text = place.call(&["doctor"]).ok();
    for word in ["processor", "SIMD", "GFLOP/s", "bandwidth", "cache", "python3", "seccomp"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// A reader that leaves after one line, as `head -1` does, is no error.
#[test]
fn a_lost_reader_ends_the_program_quietly() {
    let place = Place::new();
    let model = fixture("chat/model-chatml");
    let model = model.to_str().unwrap();
    let calls: [&[&str]; 2] = [
        &["task", "sample", "gsm8k", "-n", "7000", "--split", "train", "--json"],
        &["data", "show", "gsm8k", "--model", model, "-n", "400"],
    ];
    for args in calls {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_postgrad"))
            .args(args)
            .env("POSTGRAD_CACHE", place.path("cache"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(!line.is_empty());
        assert_eq!((out.status.code(), out.stderr.len()), (Some(0), 0), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn shells_get_completions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.call(&["completions", shell]).ok();
        assert!(script.contains("doctor") && script.contains("against"), "{shell}");
    }
    place.call(&["completions", "dash"]).fails(2, &["dash", "bash"]);
}

/// Ctrl-C ends long work between two steps, with the code that shells know.
#[test]
fn an_interrupt_stops_the_work() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_postgrad"))
        .args(["bench", "train", "--shape", "A", "--steps", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().unwrap().success());
    let mut err = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(130), "error: stopped\n"));
}
