//! `task`: listing, drawing, solving, verifying, pairs of answers.

use crate::Place;

/// `cargo run --release -- task page > docs/TASKS.md` writes it anew.
#[test]
fn the_page_of_tasks_is_what_the_code_says() {
    let place = Place::new();
    let page = place.call(&["task", "page"]).ok();
    let kept = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/TASKS.md"));
    assert!(page == kept.unwrap(), "docs/TASKS.md is not what `postgrad task page` writes");
}

#[test]
fn tasks_are_listed() {
    let place = Place::new();
    let text = place.call(&["task", "list"]).ok();
    assert!(text.contains("chain") && text.contains("steps=1..8") && text.contains("answer"), "{text}");
    let rows = place.call(&["task", "list", "--json"]).json();
    let chain = rows.as_array().unwrap().iter().find(|r| r["name"] == "chain").unwrap();
    assert!(chain["renderings"].as_array().unwrap().contains(&"cot".into()));
    assert_eq!(chain["knobs"][0]["name"], "steps");
}

#[test]
fn what_is_sampled_is_solved_and_verified() {
    let place = Place::new();
    for (task, difficulty) in [("chain", "steps=1|3"), ("gsm8k", ""), ("sort", "")] {
        let n = ["-n", "6", "--json", "--seed", "4", "--difficulty", difficulty];
        let drawn = place.call(&[&["task", "sample", task], &n[..]].concat()).rows();
        assert_eq!(drawn.len(), 6);
        assert!(drawn.iter().all(|r| r["problem"]["split"] == "test"));
        let again = place.call(&[&["task", "sample", task], &n[..]].concat()).rows();
        assert_eq!(drawn, again, "{task}: the same seed, the same problems");
        let lines: Vec<String> = drawn.iter().map(|r| r.to_string() + "\n").collect();
        place.write("problems.jsonl", &lines.concat());
        let solved = place.call(&["task", "solve", task, "--file", "problems.jsonl", "--json"]).ok();
        place.write("solved.jsonl", &solved);
        let judged = place.call(&["task", "verify", task, "--file", "solved.jsonl", "--json"]).rows();
        assert_eq!(judged.len(), 7);
        assert!(judged[..6].iter().all(|r| r["verdict"]["correct"] == true), "{judged:?}");
        assert_eq!(judged[6]["summary"]["correct"], 6);
        let wrong = place.call(&["task", "verify", task, "--file", "-"]).code;
        assert_eq!(wrong, Some(0), "an empty file has nothing to judge");
        let table = place.call(&["task", "verify", task, "--file", "solved.jsonl"]).ok();
        assert!(table.contains("right: 100.0% ["), "{table}");
    }
    let steps = place.call(&["task", "sample", "chain", "-n", "4", "--json", "--difficulty", "steps=1|3"]).rows();
    let steps: Vec<_> = steps.iter().map(|r| r["problem"]["difficulty"]["steps"].as_i64().unwrap()).collect();
    assert_eq!(steps, [1, 3, 1, 3]);
}

#[test]
fn records_are_written_to_train_on() {
    let place = Place::new();
    let sample =
        ["task", "sample", "chain", "-n", "5", "--split", "train", "--rendering", "direct", "--out", "f.jsonl"];
    assert!(place.call(&sample).ok().contains("5 records"));
    let text = std::fs::read_to_string(place.path("f.jsonl")).unwrap();
    let row: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert!(
        row["prompt"].as_str().unwrap().ends_with("Answer only.")
            || row["completion"].as_str().unwrap().contains("####")
    );
    place.call(&[&sample[..], &["--as", "messages"]].concat()).ok();
    let text = std::fs::read_to_string(place.path("f.jsonl")).unwrap();
    let row: serde_json::Value = serde_json::from_str(text.lines().nth(4).unwrap()).unwrap();
    assert_eq!(row["messages"][1]["role"], "assistant");
    place.call(&["task", "sample", "chain", "--as", "messages"]).fails(2, &["--out"]);
}

#[test]
fn a_wrong_response_is_wrong_and_a_bad_row_is_named() {
    let place = Place::new();
    let row = place.call(&["task", "solve", "chain", "-n", "1", "--json"]).ok();
    let mut wrong: serde_json::Value = serde_json::from_str(&row).unwrap();
    wrong["response"] = "#### 123456".into();
    let file = place.write("rows.jsonl", &format!("{wrong}\n{{\"problem\": 3}}\n{row}"));
    let verify = ["task", "verify", "chain", "--file", &file];
    place.call(&verify).fails(1, &["rows.jsonl:2"]);
    let skipped = place.call(&[&verify[..], &["--on-bad-row", "skip", "--json"]].concat());
    assert!(skipped.err.contains("rows.jsonl:2"), "{}", skipped.err);
    let rows = skipped.rows();
    assert_eq!(
        (rows[0]["verdict"]["reason"].as_str(), rows[1]["verdict"]["correct"].as_bool()),
        (Some("wrong"), Some(true))
    );
    assert_eq!(rows[2]["summary"]["bad_rows"], 1);
    place.call(&["task", "verify", "sort", "--file", &file]).fails(1, &["`chain`", "`sort`", "rows.jsonl:1"]);
    place.call(&["task", "verify", "chain", "--file", "none.jsonl"]).fails(2, &["none.jsonl"]);
}

#[test]
fn pairs_of_answers_are_compared() {
    let place = Place::new();
    let pairs = concat!(
        r#"{"gold": "1/2", "pred": "so the answer is \\boxed{0.5}"}"#,
        "\n\n",
        r#"{"gold": 3, "pred": "4"}"#,
        "\n",
        r#"{"gold": "(-\\infty, 2]", "pred": "x \\le 2"}"#,
        "\n",
    );
    let file = place.write("pairs.jsonl", pairs);
    let rows = place.call(&["task", "verify", "answer", "--file", &file, "--json"]).rows();
    let equal: Vec<bool> = rows.iter().map(|r| r["equal"].as_bool().unwrap()).collect();
    assert_eq!(equal, [true, false, true]);
    let keys: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["equal", "gold", "pred"]);
    assert_eq!(rows[1]["gold"], "3");
    let piped = place.call_with(&["task", "verify", "answer", "--file", "-", "--json"], pairs).rows();
    assert_eq!(piped, rows);
    assert!(place.call(&["task", "verify", "answer", "--file", &file]).ok().contains("equal: 66.7% ["));
    for bad in [r#"{"gold": "1"}"#, "[1, 2]", r#"{"gold": "1", "pred"#, r#"{"gold": null, "pred": "1"}"#, "\u{0}"] {
        let text = format!("{pairs}{bad}\n");
        let said = place.call_with(&["task", "verify", "answer", "--file", "-", "--json"], &text);
        assert_eq!(said.out.lines().count(), 3, "what was judged before is printed");
        assert!(said.code == Some(1) && said.err.contains("standard input:5"), "{bad}: {}", said.err);
    }
    let out =
        place.command().args(["task", "verify", "answer", "--file", "-"]).write_stdin(&b"\xff\xfe{}\n"[..]).output();
    assert_eq!(out.unwrap().status.code(), Some(1), "text that is not UTF-8");
}
