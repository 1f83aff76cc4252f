//! `generate` and `chat`: one prompt, files of prompts that are gone on with, conversations.

use serde_json::{Value, json};

use crate::{Place, fixture};

fn model() -> String {
    fixture("chat/model-chatml").to_str().unwrap().to_string()
}

fn prompts(n: usize) -> String {
    (0..n).map(|i| format!("{}\n", json!({"prompt": format!("What is {i}+1?")}))).collect()
}

fn file_rows(place: &Place, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn one_prompt_is_answered_the_same_in_every_form() {
    let place = Place::new();
    let call = ["generate", "--model", &model(), "--prompt", "What is 2+3?", "--max-tokens", "12"];
    for more in [&[][..], &["--temperature", "1"], &["--raw", "--top-k", "5"], &["--system", "Be brief."]] {
        let call = [&call[..], more].concat();
        let streamed = place.call(&call).ok();
        let row = &place.call(&[&call[..], &["--json"]].concat()).rows()[0];
        assert_eq!(streamed, format!("{}\n", row["text"].as_str().unwrap()), "{more:?}");
    }
    let rows = place.call(&[&call[..], &["-n", "2", "--temperature", "1", "--logprobs", "--json"]].concat()).rows();
    assert_eq!(rows.len(), 2);
    assert_ne!(rows[0]["text"], rows[1]["text"]);
    let logs = rows[0]["logprobs"].as_array().unwrap();
    assert_eq!(logs.len() as u64, rows[0]["tokens"].as_u64().unwrap());
    assert!(logs.iter().all(|l| l.as_f64().unwrap() <= 0.0));
    // A stop text of what it says is cut off, in the stream too.
    let free = place.call(&call).ok();
    let stop: String = free.trim_end().chars().skip(2).take(3).collect();
    let cut = place.call(&[&call[..], &["--stop", &stop]].concat()).ok();
    assert!(free.starts_with(cut.trim_end_matches('\n')) && !cut.contains(&stop), "{cut:?} {free:?}");
    let from_stdin = ["generate", "--model", &model(), "--prompt", "-", "--max-tokens", "12"];
    assert_eq!(place.call_with(&from_stdin, "What is 2+3?").ok(), free);
}

#[test]
fn a_file_is_gone_on_with_to_the_same_bytes() {
    let place = Place::new();
    let data = place.write("p.jsonl", &prompts(4));
    let call = |out: &'static str| {
        let model = model();
        place.call(&[
            "generate",
            "--model",
            &model,
            "--data",
            &data,
            "-n",
            "3",
            "--out",
            out,
            "--max-tokens",
            "5",
            "--temperature",
            "1",
        ])
    };
    assert!(call("a.jsonl").ok().contains("12 answers (12 new"));
    let whole = std::fs::read_to_string(place.path("a.jsonl")).unwrap();
    let rows = file_rows(&place, "a.jsonl");
    assert_eq!((rows.len(), &rows[5]["index"], &rows[5]["sample"]), (12, &json!(1), &json!(2)));
    // Cut in the middle of a line, as a kill leaves it.
    let at = whole.match_indices('\n').nth(6).unwrap().0 + 20;
    std::fs::write(place.path("a.jsonl"), &whole[..at]).unwrap();
    let said = call("a.jsonl");
    assert!(said.err.contains("was not whole"), "{}", said.err);
    assert!(said.ok().contains("12 answers (5 new"));
    assert_eq!(whole, std::fs::read_to_string(place.path("a.jsonl")).unwrap());
    assert!(call("a.jsonl").ok().contains("(0 new"));
    // More answers to each keep those there are.
    let more = ["generate", "--model", &model(), "--data", &data, "-n", "4", "--out", "a.jsonl", "--max-tokens", "5"];
    let said = place.call(&[&more[..], &["--temperature", "1"]].concat()).ok();
    assert!(said.contains("16 answers (4 new"), "{said}");
    let kept: Vec<Value> = file_rows(&place, "a.jsonl").into_iter().filter(|r| r["sample"] != 3).collect();
    assert_eq!(kept, rows);
    // Other settings are refused until asked to begin anew.
    place.call(&more).fails(2, &["another model, prompt or setting", "a.jsonl:1", "--overwrite"]);
    assert_eq!(file_rows(&place, "a.jsonl").len(), 16);
    assert!(place.call(&[&more[..], &["--overwrite"]].concat()).ok().contains("16 answers (16 new"));
    let foreign = place.write("f.jsonl", "{\"x\": 1}\n");
    place.call(&["generate", "--model", &model(), "--data", &data, "--out", &foreign]).fails(2, &["f.jsonl:1"]);
    assert_eq!(std::fs::read_to_string(place.path("f.jsonl")).unwrap(), "{\"x\": 1}\n");
}

#[test]
fn prompts_come_in_every_layout() {
    let place = Place::new();
    let turns = json!([{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]);
    let rows = [
        ("a.jsonl", json!({"prompt": "2+2?"})),
        ("b.jsonl", json!({"messages": [{"role": "user", "content": "2+2?"}]})),
        ("c.jsonl", json!({"messages": turns})),
        ("d.jsonl", json!({"question": "2+2?", "answer": "4"})),
        ("e.jsonl", json!({"instruction": "2+2?"})),
    ];
    let mut texts = vec![];
    for (name, row) in rows {
        let file = place.write(name, &format!("{row}\n"));
        let call = ["generate", "--model", &model(), "--data", &file, "--max-tokens", "6", "--json"];
        texts.push(place.call(&call).rows()[0]["text"].clone());
    }
    assert!(texts.iter().all(|t| *t == texts[0]), "{texts:?}");
}

#[test]
fn wrong_calls_are_explained() {
    let place = Place::new();
    let model = model();
    let with = |more: &[&str]| place.call(&[&["generate", "--model", &model], more].concat());
    with(&[]).fails(2, &["--prompt"]);
    with(&["--prompt", "x", "--temperature=-1"]).fails(2, &["temperature is -1", "0 or more"]);
    with(&["--prompt", "x", "--min-p", "2"]).fails(2, &["min-p is 2"]);
    with(&["--prompt", "x", "-n", "0"]).fails(2, &["-n is 0"]);
    with(&["--prompt", " "]).fails(2, &["empty"]);
    with(&["--prompt", "x", "--temprature", "1"]).fails(2, &["--temperature"]);
    let bad = place.write("b.jsonl", &format!("{}{{\"prompt\": [1]}}\n", prompts(1)));
    with(&["--data", &bad]).fails(1, &["b.jsonl:2"]);
    with(&["--data", "absent.jsonl"]).fails(2, &["there is no file"]);
}

#[test]
fn a_conversation_follows_its_commands() {
    let place = Place::new();
    let call = ["chat", "--model", &model(), "--max-tokens", "5"];
    let said =
        place.call_with(&call, "What is 2+3?\n/regen\n/set temperature=0.5\n/reset\nWhat is 2+3?\n/quit\nnever\n");
    let lines: Vec<String> = said.ok().lines().map(String::from).collect();
    assert!(lines.iter().any(|l| l.contains("temperature 0.5")), "{lines:?}");
    assert_eq!(lines[0], lines[1], "greedy answers are the same again");
    // A wrong command is said and does not end it.
    let said = place.call_with(&call, "/rgen\n/set top_p=7\n/set heat=1\n/regen\n");
    assert_eq!(said.code, Some(0));
    for word in ["did you mean `/regen`", "top-p is 7", "unknown setting", "no answer to give again"] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
    // The oldest turns go where the context is full; a message that cannot fit is refused.
    let long = "Tom has 3 apples and buys 4 more. ".repeat(8);
    let talk = format!("{long}\n{long}\n{long}\n{long}\n{}\n", long.repeat(9));
    let said = place.call_with(&call, &talk);
    assert!(
        said.err.contains("oldest turns are dropped") && said.err.contains("give a shorter message"),
        "{}",
        said.err
    );
    let pair = ["chat", "--compare", &model(), &model(), "--max-tokens", "5"];
    let out = place.call_with(&pair, "What is 2+3?\n").ok();
    assert_eq!(out.matches("model-chatml]").count(), 2, "{out}");
    let said = place.call(&["chat", "--model", &model(), "--json"]);
    assert!(said.code == Some(2) && said.err.contains("generate --json"), "{}", said.err);
}
