//! `data`, and data by name.

use crate::{Place, fixture};

fn model() -> String {
    fixture("chat/model-chatml").to_str().unwrap().to_string()
}

const ROWS: &str = "{\"q\": \"2+2?\", \"a\": \"4\"}\n{\"q\": \"3+3?\", \"a\": \"6\"}\n";

#[test]
fn records_are_shown_with_what_is_trained() {
    let place = Place::new();
    let file = place.write("a.jsonl", ROWS);
    let show = ["data", "show", &file, "--model", &model(), "-n", "1", "--columns", "prompt=q,completion=a"];
    let text = place.call(&show).ok();
    assert!(text.contains("⟦4") && text.contains("2+2?") && text.contains("first trained token"), "{text}");
    assert!(!text.contains("3+3"));
    let rows = place.call(&[&show[..], &["--json"]].concat()).rows();
    let weights = rows[0]["weights"].as_array().unwrap();
    assert_eq!(weights.len(), rows[0]["tokens"].as_array().unwrap().len());
    let off = place.call(&[&show[..], &["--template", "off"]].concat()).ok();
    assert!(!off.contains("<|im_start|>"), "{off}");
}

#[test]
fn data_is_counted() {
    let place = Place::new();
    let found = place.call(&["data", "stats", "gsm8k:test", "--model", &model(), "--max-len", "500", "--json"]).json();
    assert_eq!((found["report"]["rows"].as_u64(), found["max_len"].as_u64()), (Some(1319), Some(500)));
    assert!(found["over_long"].as_u64().unwrap() > 0);
    let text = place.call(&["data", "stats", "gsm8k:test", "--model", &model(), "--limit", "10"]).ok();
    assert!(text.contains("examples 10"), "{text}");
}

#[test]
fn layouts_are_converted() {
    let place = Place::new();
    let file = place.write("a.jsonl", ROWS);
    let call =
        ["data", "convert", &file, "--columns", "prompt=q,completion=a", "--to", "messages", "--out", "b.jsonl.gz"];
    assert!(place.call(&call).ok().contains("2 records"));
    place.call(&["data", "convert", "b.jsonl.gz", "--to", "alpaca", "--out", "c.csv"]).ok();
    let table = std::fs::read_to_string(place.path("c.csv")).unwrap();
    assert_eq!(table.lines().next(), Some("instruction,input,output"));
    place.call(&["data", "convert", &file, "--out", "d.jsonl"]).fails(2, &["q, a"]);
    place
        .call(&["data", "convert", "b.jsonl.gz", "--to", "mesages", "--out", "d.jsonl"])
        .fails(2, &["mesages", "messages"]);
    place.call(&["data", "convert", "b.jsonl.gz", "--out", "d.parquet"]).fails(2, &["d.parquet", ".jsonl"]);
    assert!(!place.path("d.jsonl").exists() && !place.path("d.parquet").exists());
}

#[test]
fn bad_files_are_named() {
    let place = Place::new();
    let stats = |file: &str, more: &[&str]| {
        place
            .call(&[&["data", "stats", file, "--model", &model(), "--columns", "prompt=q,completion=a"], more].concat())
    };
    stats("none.jsonl", &[]).fails(2, &["none.jsonl"]);
    let bad = place.write("bad.jsonl", &format!("{ROWS}{{\"q\": \n"));
    let said = stats(&bad, &[]);
    assert!(said.code != Some(0) && said.err.contains("bad.jsonl:3"), "{}", said.err);
    let skipped = stats(&bad, &["--on-bad-row", "skip", "--json"]).json();
    assert_eq!(skipped["report"]["bad_rows"], 1);
    let empty = place.write("empty.jsonl", "");
    assert_ne!(stats(&empty, &[]).code, Some(0));
    place.call(&["data", "stats", "gsm8k", "--model", "nowhere"]).fails(2, &["no model `nowhere`"]);
}

#[test]
fn built_in_names_become_files() {
    let place = Place::new();
    let rows = |spec: &str| {
        place.call(&["data", "stats", spec, "--model", &model(), "--json"]).json()["report"]["rows"].as_u64()
    };
    assert_eq!(rows("gsm8k:test"), Some(1319));
    // A file that was cut short is written again.
    let files: Vec<_> = std::fs::read_dir(place.path("cache/data")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    std::fs::write(&files[0], "{}\n").unwrap();
    assert_eq!(rows("gsm8k:test"), Some(1319));
    assert_eq!(rows("task:chain?steps=2,3&n=20&seed=1"), Some(20));
    assert_eq!(rows("chain?n=7&split=test&rendering=direct"), Some(7));
    let mixed = ["data", "stats", "chain?n=30:0.5", "task:sort?n=30:0.5", "--model", &model(), "--json"];
    assert!(place.call(&mixed).json()["report"]["rows"].as_u64().unwrap() >= 60);
    let made = std::fs::read_dir(place.path("cache/tasks")).unwrap().count();
    assert_eq!(rows("task:chain?steps=2,3&n=20&seed=1"), Some(20));
    assert_eq!(std::fs::read_dir(place.path("cache/tasks")).unwrap().count(), made, "the same records, the same file");
    let fails = |spec: &str, words: &[&str]| place.call(&["data", "stats", spec, "--model", &model()]).fails(2, words);
    fails("gsm8k:tset", &["tset", "`test`"]);
    fails("task:chian?n=3", &["chian", "`chain`"]);
    fails("task:chain?stps=3", &["stps", "`steps`"]);
    fails("task:chain?n=x", &["n=x"]);
    // A file of a task's name is that file.
    place.write("sort", "");
    assert_ne!(place.call(&["data", "stats", "sort", "--model", &model()]).code, Some(0));
    assert_eq!(rows("task:sort?n=5"), Some(5));
    let out = place
        .command()
        .args(["data", "stats", "gsm8k", "--model", &model()])
        .env("POSTGRAD_CACHE", "/proc/no")
        .output();
    let out = out.unwrap();
    assert!(out.status.code() == Some(1) && String::from_utf8_lossy(&out.stderr).contains("POSTGRAD_CACHE"));
}
