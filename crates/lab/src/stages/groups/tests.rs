use std::path::{Path, PathBuf};

use super::*;
use crate::stage::{Kind, Place, alone, golden, read_rows};
use crate::stages::Rollout;
use postgrad_data::Renderer;
use postgrad_train::preference::{Loss, Reading, data};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")
}

fn lines(path: &Path) -> Vec<Value> {
    jsonl::read(path).unwrap().map(|r| r.unwrap().1).collect()
}

fn file(path: PathBuf, rows: &[Value]) -> Place {
    std::fs::write(&path, rows.iter().map(|r| format!("{r}\n")).collect::<String>()).unwrap();
    Place::Data(vec![path.display().to_string()])
}

/// Three questions. The first has right and wrong answers, some twice, one cut off, one empty; the second wrong ones alone, the
/// third right ones.
fn inputs(dir: &Path) -> [(&'static str, Place); 2] {
    let question = |i: usize| json!({"prompt": format!("{i}+1?"), "completion": format!("{}", i + 1)});
    let mut made = [0; 3];
    let mut sample = |question: usize, response: &str, tokens: usize, cut: bool| {
        made[question] += 1;
        let correct = !cut && response.ends_with(&(question + 1).to_string());
        json!({"question": question, "trial": made[question] - 1, "response": response, "extracted": null, "correct": correct,
            "truncated": cut, "tokens": tokens, "log_prob": -1.0, "behaviour": -1.0})
    };
    let samples = [
        sample(0, "so 1", 3, false),
        sample(0, "7", 1, false),
        sample(0, "so 1", 3, false),
        sample(0, "8 and on", 9, true),
        sample(0, "1", 1, false),
        sample(0, "9", 1, false),
        sample(0, "", 0, false),
        sample(1, "0", 1, false),
        sample(2, "3", 1, false),
        sample(2, "it is 3", 4, false),
    ];
    let data: Vec<Value> = (0..3).map(question).collect();
    [("asked", file(dir.join("asked.jsonl"), &data)), ("drawn", file(dir.join("drawn.jsonl"), &samples))]
}

/// The lines, and of every row right, wrong, rows and pairs.
fn made(more: Value) -> Result<(Vec<Value>, Vec<[u64; 4]>)> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = json!({"samples": "@drawn", "data": "@asked"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let out = dir.path().join("out");
    alone(&Kind::of::<Groups>(), &config, &inputs(dir.path()), 0, &out)?;
    let figures =
        |row: crate::store::Item| ["right", "wrong", "rows", "pairs"].map(|k| row.metrics[k].as_u64().unwrap());
    Ok((lines(&out.join("groups.jsonl")), read_rows(&out.join("rows.jsonl"))?.into_iter().map(figures).collect()))
}

#[test]
fn rankings_hold_each_answer_once() {
    let (lines, rows) = made(json!({})).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["completions"], json!(["so 1", "7", "1", "9"]));
    assert_eq!(lines[0]["scores"], json!([1.0, 0.0, 1.0, 0.0]));
    assert_eq!(
        (&lines[0]["prompt"], &lines[0]["question"], lines[0].get("completion")),
        (&json!("0+1?"), &json!(0), None)
    );
    assert_eq!(rows, [[2, 2, 1, 4], [0, 1, 0, 0], [2, 0, 0, 0]]);
    let (lines, rows) = made(json!({"truncated": true, "most": 1})).unwrap();
    assert_eq!(lines[0]["completions"], json!(["so 1", "7"]));
    assert_eq!(rows[0], [2, 3, 1, 1]);
    let (all, _) = made(json!({"all": true})).unwrap();
    assert_eq!(all.iter().map(|l| l["scores"].as_array().unwrap().len()).collect::<Vec<_>>(), [4, 1, 2]);
}

#[test]
fn a_reference_keeps_questions_with_an_empty_side() {
    let (lines, rows) = made(json!({"reference": true})).unwrap();
    assert_eq!(lines.iter().map(|l| l["completion"].as_str().unwrap()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!((&lines[1]["completions"], &lines[2]["scores"]), (&json!([]), &json!([])));
    assert_eq!(rows, [[2, 2, 1, 4], [0, 1, 1, 0], [2, 0, 1, 0]]);
    let (pairs, _) = made(json!({"reference": true, "form": "pairs"})).unwrap();
    assert_eq!((pairs.len(), &pairs[0]["chosen"], &pairs[2]["completions"]), (3, &json!("so 1"), &json!([])));
}

#[test]
fn pairs_are_picked_and_spread() {
    let of = |more: Value| -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().unwrap().to_string();
        made(more).unwrap().0.iter().map(|l| (text(&l["chosen"]), text(&l["rejected"]))).collect()
    };
    let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
    assert_eq!(of(json!({"form": "pairs"})), [pair("so 1", "7")]);
    // The first two have four different answers between them.
    let across = of(json!({"form": "pairs", "pick": "across"}));
    assert_eq!(across, [pair("so 1", "7"), pair("1", "9"), pair("so 1", "9"), pair("1", "7")]);
    assert_eq!(of(json!({"form": "pairs", "pick": "across", "most": 3})), across[..3]);
    let brief = json!({"form": "pairs", "score": "length"});
    assert_eq!(of(brief), [pair("1", "so 1"), pair("3", "it is 3")]);
    let turned = of(json!({"form": "pairs", "pick": "across", "flip": 1.0}));
    assert!(turned.iter().zip(&across).all(|(t, a)| (&t.0, &t.1) == (&a.1, &a.0)));
}

#[test]
fn single_rows_noise_and_the_shuffled_control() {
    let (lines, rows) = made(json!({"form": "unpaired"})).unwrap();
    let labels = |lines: &[Value]| lines.iter().map(|l| l["label"].as_bool().unwrap()).collect::<Vec<_>>();
    assert_eq!(labels(&lines), [true, false, true, false, false, true, true]);
    assert_eq!(rows, [[2, 2, 4, 0], [0, 1, 1, 0], [2, 0, 2, 0]]);
    let (turned, _) = made(json!({"form": "unpaired", "flip": 1.0})).unwrap();
    assert!(labels(&turned).iter().zip(labels(&lines)).all(|(a, b)| *a != b));
    let (some, _) = made(json!({"form": "unpaired", "flip": 0.5})).unwrap();
    let same = labels(&some).iter().zip(labels(&lines)).filter(|(a, b)| **a == *b).count();
    assert!(0 < same && same < 7, "{same}");
    let (ranking, _) = made(json!({"flip": 1.0})).unwrap();
    assert_eq!(ranking[0]["scores"], json!([0.0, 1.0, 0.0, 1.0]));
    let (dealt, _) = made(json!({"shuffle": true})).unwrap();
    let sum: f64 = dealt[0]["scores"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).sum();
    assert_eq!((sum, dealt[0]["completions"].as_array().unwrap().len()), (2.0, 4));
    let streams = |more: Value| {
        let mut config = json!({"samples": "@drawn", "data": "@asked"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (Kind::of::<Groups>().streams)(&config).len()
    };
    assert_eq!((streams(json!({})), streams(json!({"flip": 0.1})), streams(json!({"shuffle": true}))), (0, 1, 1));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for bad in [
        json!({"flip": 1.5}),
        json!({"good": 0.0}),
        json!({"most": 0}),
        json!({"pick": "across"}),
        json!({"form": "unpaired", "reference": true}),
        json!({"form": "unpaired", "score": "length"}),
        json!({"form": "pairs", "all": true}),
        json!({"system": "Think."}),
    ] {
        assert_eq!(made(bad.clone()).unwrap_err().exit_code(), 2, "{bad}");
    }
    let nothing = made(json!({"form": "pairs", "pick": "across", "good": 3.0})).unwrap_err();
    assert!(nothing.exit_code() == 1 && nothing.help_text().unwrap().contains("reference"), "{nothing}");
}

/// A copy of the fixture's model without its template.
fn plain_model(dir: &Path) -> PathBuf {
    let to = dir.join("plain");
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(fixture()).unwrap().flatten() {
        if entry.file_name() != "chat_template.jinja" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    to
}

#[test]
fn prompts_render_as_the_rollout_asked_them() {
    let dir = tempfile::tempdir().unwrap();
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let texts = [json!({"prompt": "2+2?", "completion": "4"}), json!({"prompt": "3+2?", "completion": "5"})];
    let turns = [json!({"messages": [turn("system", "Be brief."), turn("user", "2+2?"), turn("assistant", "4"),
        turn("user", "And 1 more?"), turn("assistant", "5")]})];
    let [texts, turns] = [("texts", &texts[..]), ("turns", &turns[..])]
        .map(|(n, rows)| file(dir.path().join(format!("{n}.jsonl")), rows));
    let mut n = 0;
    for model in [fixture(), plain_model(dir.path())] {
        let renderer = Renderer::load(&model).unwrap();
        for data in [&texts, &turns] {
            for system in [None, Some("You count.")] {
                n += 1;
                let out = |name: &str| dir.path().join(format!("{name}-{n}"));
                let inputs = [("base", Place::Model(model.clone())), ("asked", data.clone())];
                let drawn = json!({"model": "@base", "data": "@asked", "trials": 3, "max_tokens": 5, "system": system, "ask": "Think."});
                alone(&Kind::of::<Rollout>(), &drawn, &inputs, 0, &out("drawn")).unwrap();
                let inputs = [inputs, [("drawn", Place::Stage(out("drawn"))), ("none", data.clone())]].concat();
                let config = json!({"samples": "@drawn", "data": "@asked", "all": true, "truncated": true, "reference": true,
                    "system": system, "ask": "Think.", "model": "@base"});
                let cx = alone(&Kind::of::<Groups>(), &config, &inputs, 0, &out("groups")).unwrap();
                let asked = cx.items(&Input::try_from("@asked".to_string()).unwrap()).unwrap();
                let asker = Asker { system: system.map(String::from), ..Asker::new(renderer.clone()) };
                let path = out("groups").join("groups.jsonl").display().to_string();
                let reading = Reading::of(&Loss::named("aft").unwrap(), 0, false);
                let read = data::read(&[path], &renderer, reading).unwrap();
                assert_eq!(read.groups.len(), asked.len());
                for (i, group) in read.groups.iter().enumerate() {
                    let want = asker.prompt(i, &asked_with(&asked[i], Some("Think."))).unwrap().ids;
                    assert!(!group.answers.is_empty());
                    for e in group.sequences() {
                        let begins = e.weights.iter().position(|w| *w != 0.0).unwrap();
                        assert_eq!(e.tokens[..begins], want, "{model:?} {data:?} {system:?}");
                    }
                }
            }
        }
    }
    // Data that the rollout was not asked.
    let inputs = [("drawn", Place::Stage(dir.path().join("drawn-1"))), ("asked", turns)];
    let config = json!({"samples": "@drawn", "data": "@asked"});
    let e = alone(&Kind::of::<Groups>(), &config, &inputs, 0, &dir.path().join("wrong")).err().unwrap();
    assert!(e.exit_code() == 2 && e.to_string().contains("stats.jsonl:1"), "{e}");
}

#[test]
fn partial_credit_is_the_verifiers() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"samples": "@drawn", "data": "@asked", "score": "score", "all": true});
    alone(&Kind::of::<Groups>(), &config, &inputs(dir.path()), 0, dir.path()).unwrap();
    let scores = lines(&dir.path().join("groups.jsonl"))[2]["scores"].clone();
    // A number alone is not marked as the answer; the verifier judges as it would in the rollout.
    let verifier = Verifier::new(vec![postgrad_reason::Check::Gold("3".into())]).unwrap();
    let want: Vec<f64> = ["3", "it is 3"].map(|r| verifier.verify(0, r).score).into();
    assert_eq!(scores, json!(want));
}

#[test]
fn lines_are_judged_by_the_task() {
    let chain = postgrad_tasks::task("chain").unwrap();
    let mut stream = postgrad_base::Stream::new(0, &["data"]);
    let problem = chain.generate(&mut stream, &chain.difficulty("steps=3,shape=line").unwrap()).unwrap();
    let right = chain.solve(&problem, "equations").unwrap().text;
    let verifier = Verifier::new(vec![postgrad_reason::Check::Problem(problem)]).unwrap();
    let labels = |response: &str, correct: bool| {
        let sample = Sample { response: response.into(), correct, ..Sample::default() };
        step_labels(&sample, &verifier).unwrap()
    };
    let lines: Vec<&str> = right.lines().filter(|l| !l.trim().is_empty()).collect();
    assert!(lines.len() > 2, "{right}");
    let all = labels(&right, true);
    assert!(all.as_array().unwrap().iter().all(|l| *l == true) && all.as_array().unwrap().len() == lines.len());
    // A first line that is false, words that are no step, a last line that is wrong.
    let first = lines.iter().position(|l| l.contains('=')).unwrap();
    let wrong = format!("Well.\n\n{}9\n{}", lines[first], lines[first + 1..].join("\n"));
    let got = labels(&wrong, false);
    assert_eq!((&got[0], &got[1], got.as_array().unwrap().last()), (&json!(null), &json!(false), Some(&json!(false))));
    let mut row = Map::from_iter([("chosen".to_string(), json!("a")), ("rejected".to_string(), json!("b"))]);
    add_steps(&mut row, &BTreeMap::from([("a", json!([true])), ("b", json!([false]))]));
    assert_eq!((&row["chosen_step_labels"], &row["rejected_step_labels"]), (&json!([true]), &json!([false])));
    assert!(made(json!({"steps": true})).unwrap_err().to_string().contains("judges steps"));
}

#[test]
fn golden_run() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let run = |more: Value, want: &str| {
        let mut config = json!({"samples": "@drawn", "data": "@asked"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        golden(&Kind::of::<Groups>(), &config, &inputs, want);
    };
    run(json!({"reference": true, "shuffle": true}), "557c09cf2d97cb68");
    run(json!({"form": "pairs", "pick": "across", "flip": 0.5}), "c360f483f8ad291a");
    run(json!({"form": "unpaired", "score": "score", "flip": 0.5}), "6c9eb846d82883ab");
}
