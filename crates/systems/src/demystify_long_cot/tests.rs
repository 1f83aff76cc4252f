use std::path::Path;

use postgrad_base::Stream;
use postgrad_lab::stage::{Kind, Place, alone, golden, read_rows};
use serde_json::{Value, json};

use super::*;

/// What an `eval` stage leaves behind: right, wrong, and right but cut off.
fn answered(dir: &Path) -> [(&'static str, Place); 1] {
    let response = |sample: usize, text: &str, strict: bool, truncated: bool, tokens: usize| json!({"sample": sample, "text": text, "strict": strict, "truncated": truncated, "tokens": tokens});
    let one = response(0, "Wait, I'll try again: a b a b a b. However... WAIT!\n#### 4", true, false, 30);
    let two = response(1, "a waiter tries\n#### 5", false, false, 12);
    let three = response(0, "#### 4", true, true, 60);
    let rows = [
        json!({"id": "p1", "cluster": "c1", "responses": [one, two]}),
        json!({"id": "p2", "cluster": "c2", "responses": [three]}),
    ];
    let text: String = rows.iter().map(|r| format!("{r}\n")).collect();
    std::fs::write(dir.join("answers.jsonl"), text).unwrap();
    [("target", Place::Stage(dir.to_path_buf()))]
}

fn behaviour() -> Value {
    json!({"answers": "@target", "max_tokens": 64, "near": 4, "n": 2})
}

#[test]
fn lengths_of_right_and_wrong_answers_and_words_of_reflection() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, out) = (answered(dir.path()), dir.path().join("out"));
    alone(&Kind::of::<Behaviour>(), &behaviour(), &inputs, 0, &out).unwrap();
    let rows = read_rows(&out.join("rows.jsonl")).unwrap();
    let names: Vec<&str> = rows.iter().map(|r| r.item.as_str()).collect();
    assert_eq!(names, ["p1/0", "p1/1", "p2/0"]);
    assert_eq!(rows[1].cluster.as_deref(), Some("c1"));
    let of = |name: &str| rows.iter().map(|r| r.metrics[name].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(of("right"), [1.0, 0.0, 0.0], "an answer that was cut off is not right");
    assert_eq!((of("right_tokens"), of("wrong_tokens")), (vec![30.0, 0.0, 0.0], vec![0.0, 12.0, 60.0]));
    assert_eq!(of("over"), [0.0, 0.0, 1.0], "60 + 4 reach 64");
    assert_eq!(
        (of("word_wait"), of("word_try_again")),
        (vec![2.0, 0.0, 0.0], vec![1.0, 0.0, 0.0]),
        "whole words alone"
    );
    assert_eq!((of("reflections"), of("reflects")), (vec![4.0, 0.0, 0.0], vec![1.0, 0.0, 0.0]));
    // wait, | i'll | try | again: | a b a b a b. | however... | wait! | #### | 4: of 13 pairs "a b" and "b a" come again.
    assert!((of("repeated")[0] - 2.0 / 13.0).abs() < 1e-12, "{}", of("repeated")[0]);
    assert_eq!(of("repeated")[2], 0.0);
}

#[test]
fn golden_runs() {
    let dir = tempfile::tempdir().unwrap();
    golden(&Kind::of::<Behaviour>(), &behaviour(), &answered(dir.path()), "94a91e09ba5fae57");
    let inputs = texts(dir.path());
    golden(&Kind::of::<Phrases>(), &json!({"data": "@texts"}), &inputs, "0575da433a9eaa89");
}

/// An answer and a conversation.
fn texts(dir: &Path) -> [(&'static str, Place); 1] {
    let answer = "It is 4. Wait, that cannot be right! Let me check this result once more.";
    let told = "So let us go through this step by step\nand that is the end of it";
    let turns = [("user", "hello there my friend"), ("assistant", told)].map(|(r, c)| json!({"role": r, "content": c}));
    let rows = [json!({"prompt": "How many?", "completion": answer}), json!({"messages": turns})];
    let file = |(i, row): (usize, &Value)| {
        let path = dir.join(format!("{i}.jsonl"));
        std::fs::write(&path, format!("{row}\n")).unwrap();
        path.display().to_string()
    };
    [("texts", Place::Data(rows.iter().enumerate().map(file).collect()))]
}

#[test]
fn sentences_like_the_queries_are_found_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, out) = (texts(dir.path()), dir.path().join("out"));
    alone(&Kind::of::<Phrases>(), &json!({"data": "@texts"}), &inputs, 0, &out).unwrap();
    let found: Vec<Found> = jsonl::read(&out.join("found.jsonl")).unwrap().map(|r| r.unwrap().1).collect();
    let sentences: Vec<&str> = found.iter().map(|f| f.sentence.as_str()).collect();
    let want = [
        "Wait, that cannot be right!",
        "Let me check this result once more.",
        "So let us go through this step by step",
    ];
    assert_eq!(sentences, want);
    assert_eq!((found[0].likeness, found[1].likeness, found[2].record), (1.0, 1.0, 1), "case and marks do not count");
    let rows = read_rows(&out.join("rows.jsonl")).unwrap();
    assert_eq!(rows.len(), queries().len());
    assert!(rows.iter().all(|r| r.metrics["sentences"] == 7));
    assert_eq!(rows.iter().map(|r| r.metrics["found"].as_u64().unwrap()).sum::<u64>(), 3);
}

/// The exact likeness of two sentences' sets of n-grams.
fn exact(a: &str, b: &str) -> f64 {
    let grams = |s: &str| words_of(s).windows(3).map(<[String]>::to_vec).collect::<std::collections::HashSet<_>>();
    let (a, b) = (grams(a), grams(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

#[test]
fn likeness_is_estimated_and_ends_where_the_bound_says() {
    let query = "let me check this result once more";
    let like = ["let me check this result once more please", "so let me check this result again", "check this result"];
    for (seed, sentence) in like.iter().enumerate() {
        let config: PhrasesConfig =
            serde_json::from_value(json!({"data": "@x", "queries": [query], "permutations": 512, "least": 0.0}))
                .unwrap();
        let search = Search::new(&config, &Stream::new(seed as u64, &["eval"]));
        let (want, got) = (exact(query, sentence), search.nearest(sentence).unwrap().1);
        assert!(
            (want - got).abs() < 3.5 * (want * (1.0 - want) / 512.0).sqrt() + 1e-9,
            "{sentence}: {got}, not {want}"
        );
        let strict = Search { least: want + 0.15, ..search };
        assert_eq!(strict.nearest(sentence), None);
    }
}

#[test]
fn texts_are_cut_into_sentences() {
    assert_eq!(sentences_of("One. Two!  Is 3.5 right?\nYes"), ["One.", "Two!", "Is 3.5 right?", "Yes"]);
    assert!(sentences_of(" \n\n").is_empty());
    assert_eq!(words_of("Don't 'STOP', x-ray: \u{e9}t\u{e9}"), ["don't", "stop", "x", "ray", "\u{e9}t\u{e9}"]);
}

#[test]
fn wrong_configurations_say_so() {
    let resolve = |kind: Kind, config: Value| (kind.resolve)(&config).unwrap_err().error.to_string();
    let mut none = behaviour();
    none["words"] = json!(["..."]);
    assert!(resolve(Kind::of::<Behaviour>(), none).contains("holds no word"));
    for (bad, says) in [
        (json!({"queries": ["too short"]}), "fewer than 3 words"),
        (json!({"queries": []}), "nothing to look for"),
        (json!({"least": 1.5}), "from 0 to 1"),
    ] {
        let mut config = json!({"data": "@texts"});
        config.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        assert!(resolve(Kind::of::<Phrases>(), config).contains(says));
    }
}
