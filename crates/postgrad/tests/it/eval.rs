//! `eval`: every kind of measurement on small data, and what is said about wrong calls.

use serde_json::{Value, json};

use crate::{Place, fixture};

fn model() -> String {
    fixture("chat/model-chatml").to_str().unwrap().to_string()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|r| format!("{r}\n")).collect()
}

fn sums(n: u64) -> String {
    lines(&(0..n).map(|i| json!({"prompt": format!("{i}+1?"), "completion": (i + 1).to_string()})).collect::<Vec<_>>())
}

#[test]
fn answers_come_with_n_and_interval() {
    let place = Place::new();
    let file = place.write("a.jsonl", &sums(4));
    let call = ["eval", "--model", &model(), "--data", &file, "--max-tokens", "4", "--log-samples", "log.jsonl"];
    let found = place.call(&[&call[..], &["--json"]].concat()).json();
    assert_eq!(found["kind"], "answer");
    for name in ["accuracy_strict", "accuracy_flexible"] {
        let e = &found["metrics"][name];
        assert_eq!(e["n"], 4, "{found}");
        assert!(e["low"].as_f64() <= e["value"].as_f64() && e["value"].as_f64() <= e["high"].as_f64());
    }
    assert_eq!(found["counts"]["answers"], 4);
    let log = std::fs::read_to_string(place.path("log.jsonl")).unwrap();
    let rows: Vec<Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    assert!(rows[1]["prompt"].as_str().unwrap().contains("1+1?") && rows[1]["reference"] == "2");
    assert!(rows[1]["responses"][0]["stop"].is_string());
    // The same bytes again, with few sequences at a time too.
    place.call(&[&call[..], &["--batch", "1"]].concat()).ok();
    assert_eq!(log, std::fs::read_to_string(place.path("log.jsonl")).unwrap());
    let text = place.call(&call).ok();
    assert!(text.contains("accuracy strict") && text.contains("truncated") && text.contains('['), "{text}");
}

#[test]
fn samples_give_pass_at_k_and_the_vote() {
    let place = Place::new();
    let file = place.write("a.jsonl", &sums(3));
    let call = ["eval", "--model", &model(), "--data", &file, "--samples", "4", "--max-tokens", "3", "--json"];
    let found = place.call(&call).json();
    for name in ["accuracy_strict", "pass@2_strict", "pass@4_flexible", "majority"] {
        assert_eq!(found["metrics"][name]["n"], 3, "{name}: {found}");
    }
    assert_eq!((&found["counts"]["answers"], &found["sampling"]["rules"]["temperature"]), (&json!(12), &json!(1.0)));
    assert_eq!(found, place.call(&call).json());
}

#[test]
fn exact_counts_what_the_model_says_itself() {
    let place = Place::new();
    let said =
        place.call(&["generate", "--model", &model(), "--prompt", "2+2?", "--max-tokens", "300", "--json"]).rows();
    let text = said[0]["text"].as_str().unwrap();
    let whole = said[0]["truncated"] == false && !text.trim().is_empty();
    let rows = [
        json!({"prompt": "2+2?", "completion": format!("  {text}\n")}),
        json!({"prompt": "2+2?", "completion": format!("{text} and more")}),
    ];
    let file = place.write("a.jsonl", &lines(&rows));
    let call = ["eval", "--model", &model(), "--data", &file, "--as", "exact", "--max-tokens", "300", "--json"];
    let found = place.call(&call).json();
    assert_eq!(found["metrics"]["accuracy"]["value"], if whole { 0.5 } else { 0.0 }, "{text}");
    assert_eq!(found["counts"]["truncated"], if said[0]["truncated"] == true { 2 } else { 0 });
}

#[test]
fn choices_and_texts_are_scored() {
    let place = Place::new();
    let rows = [
        json!({"question": "Which is a colour?", "choices": ["red", "seven"], "answer": "A"}),
        json!({"question": "Which is a number?", "options": ["red", "seven"], "correct": 1}),
    ];
    let file = place.write("c.jsonl", &lines(&rows));
    for template in ["on", "off"] {
        let call = ["eval", "--model", &model(), "--data", &file, "--template", template, "--json"];
        let found = place.call(&call).json();
        assert_eq!((&found["kind"], &found["chance"]), (&json!("choice"), &json!(0.5)));
        for name in ["accuracy_raw", "accuracy_per_token", "accuracy_per_byte"] {
            assert_eq!(found["metrics"][name]["n"], 2);
        }
    }
    let text = place.write("t.jsonl", &lines(&[json!({"text": "Tom has 3 apples."}), json!({"text": "He eats one."})]));
    let found = place.call(&["eval", "--model", &model(), "--data", &text, "--json"]).json();
    let nll = found["metrics"]["nll_per_token"]["value"].as_f64().unwrap();
    let perplexity = found["metrics"]["perplexity"]["value"].as_f64().unwrap();
    assert!((perplexity - nll.exp()).abs() < 1e-6 * perplexity && found["metrics"]["bits_per_byte"]["n"] == 2);
}

#[test]
fn tasks_are_judged_by_their_verifiers() {
    let place = Place::new();
    let call = ["eval", "--model", &model(), "--max-tokens", "2", "--json"];
    let with = |more: &[&str]| place.call(&[&call[..], more].concat()).json();
    let chain = with(&["--data", "task:chain?steps=2&n=3", "--few-shot", "1"]);
    assert_eq!((&chain["kind"], &chain["metrics"]["accuracy_strict"]["n"]), (&json!("answer"), &json!(3)));
    let gsm8k = with(&["--data", "gsm8k:test", "--limit", "2", "--system", "Be brief."]);
    assert_eq!(gsm8k["metrics"]["accuracy_strict"]["n"], 2);
}

#[test]
fn wrong_calls_are_explained() {
    let place = Place::new();
    let file = place.write("a.jsonl", &sums(2));
    let model = model();
    let with = |more: &[&str]| place.call(&[&["eval", "--model", &model], more].concat());
    with(&["--data", &file, "--top-p", "1.5"]).fails(2, &["top-p is 1.5", "above 0"]);
    with(&["--data", &file, "--max-tokens", "0"]).fails(2, &["max-tokens"]);
    with(&["--data", &file, "--samples", "2", "--temperature", "0"]).fails(2, &["same answer"]);
    with(&["--data", &file, "--as", "choice"]).fails(2, &["no choices"]);
    with(&["--data", &file, "--few-shot", "2"]).fails(2, &["besides the item itself", "--few-shot-file"]);
    with(&["--data", &file, "--limit", "0"]).fails(2, &["--limit"]);
    with(&["--data", "absent.jsonl"]).fails(2, &["there is no file absent.jsonl"]);
    with(&["--data", "task:chian"]).fails(2, &["chain"]);
    let empty = place.write("e.jsonl", "");
    with(&["--data", &empty]).fails(2, &["empty", "e.jsonl"]);
    let bad = place.write("b.jsonl", &format!("{}not json\n", sums(1)));
    with(&["--data", &bad]).fails(1, &["b.jsonl:2"]);
    let other = place.write("o.jsonl", "{\"foo\": 1}\n");
    with(&["--data", &other]).fails(2, &["found: foo"]);
    place.call(&["eval", "--model", "nothing", "--data", &file]).fails(2, &["there is no model `nothing`"]);
}
