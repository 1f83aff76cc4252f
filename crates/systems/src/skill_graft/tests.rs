use super::*;
use postgrad_lab::stage::{Place, alone, golden, read_rows};
use std::path::{Path, PathBuf};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")
}

/// A tuned copy of the fixture: some entries moved, embeddings and head as they were.
fn tuned(dir: &Path) -> PathBuf {
    let mut model = ModelFolder::load(&base()).unwrap();
    model.decoder.weights.train(|name| !LEFT_OUT.contains(&name));
    let mut s = Stream::new(4, &["tune"]);
    model.decoder.params().iter().for_each(|p| {
        p.update(|w| w.iter_mut().for_each(|w| *w += 0.2 * s.normal() as f32));
    });
    let dir = dir.join("tuned");
    model.save(&dir, Dtype::F32).unwrap();
    dir
}

fn graft(dir: &Path, out: &str, extra: Value) -> Result<Map<String, Value>> {
    let data = dir.join("data");
    if !data.exists() {
        alone(&Kind::of::<MadeUpRules>(), &json!({"rule": 0, "n": 24}), &[], 0, &data)?;
    }
    let (base, tuned) = (Place::Model(base()), Place::Model(dir.join("tuned")));
    let mut inputs = vec![("pre", base), ("tuned", tuned), ("data", Place::Stage(data))];
    for other in ["a", "b"] {
        inputs.push((other, Place::Stage(dir.join(other))));
    }
    let mut config = json!({"pre": "@pre", "tuned": "@tuned"});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    alone(&Kind::of::<MakeGraft>(), &config, &inputs, 0, &dir.join(out))?;
    Ok(read_rows(&dir.join(out).join("rows.jsonl"))?.remove(0).metrics)
}

fn weights(dir: &Path) -> Vec<f32> {
    let model = ModelFolder::load(dir).unwrap();
    model.decoder.weights.iter().flat_map(|(_, _, w)| w.tensor().data().to_vec()).collect()
}

#[test]
fn grafts_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tuned(dir);
    let all = graft(dir, "all", json!({"mask": "magnitude", "share": 1.0})).unwrap();
    assert_eq!((all["share"].as_f64(), all["outside"].as_u64()), (Some(1.0), Some(0)));
    assert!(weights(&dir.join("all/model")) == weights(&dir.join("tuned")), "all entries are the tuned model");
    graft(dir, "none", json!({"mask": "magnitude", "share": 0.0})).unwrap();
    assert!(weights(&dir.join("none/model")) == weights(&base()), "none is the model before");

    let a = graft(dir, "a", json!({"mask": "magnitude", "share": 0.01})).unwrap();
    let b = graft(dir, "b", json!({"mask": "random", "like": "@a"})).unwrap();
    assert_eq!(a["count"], b["count"]);
    let maskable = a["maskable"].as_u64().unwrap();
    assert_eq!(a["count"].as_u64().unwrap(), maskable / 100);
    let both = graft(dir, "both", json!({"mask": "given", "given": ["@a", "@b"]})).unwrap();
    assert!(both["count"].as_u64() > a["count"].as_u64());

    let kind = Kind::of::<Overlap>();
    let inputs = ["a", "b", "both"].map(|n| (n, Place::Stage(dir.join(n))));
    alone(&kind, &json!({"grafts": ["@a", "@b", "@both"]}), &inputs, 0, &dir.join("overlap")).unwrap();
    let row = read_rows(&dir.join("overlap/rows.jsonl")).unwrap().remove(0).metrics;
    assert_eq!((row["overlap_2_0"].as_f64(), row["overlap_2_1"].as_f64()), (Some(1.0), Some(1.0)));
    assert!(row["overlap_0_1"].as_f64().unwrap() < 0.2 && row["chance_0_1"].as_f64().unwrap() < 0.0101);
}

#[test]
fn an_optimised_mask_scores_no_worse_than_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tuned(dir);
    for loss in ["labels", "tokens"] {
        let found = graft(
            dir,
            loss,
            json!({"mask": "optimised", "share": 0.02, "data": "@data", "loss": loss, "steps": 12, "lr": 6.0,
                "most": 0.05}),
        )
        .unwrap();
        let log: Vec<Value> = std::fs::read_to_string(dir.join(loss).join("search.jsonl"))
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert!(log.len() > 3, "entries were flipped: {log:?}");
        let key = |v: &Value| (v["accuracy"].as_f64().unwrap_or(0.0), -v["loss"].as_f64().unwrap());
        let best = log.iter().map(key).fold(key(&log[0]), |a, b| if b > a { b } else { a });
        let kept = (
            found.get("score_accuracy").and_then(Value::as_f64).unwrap_or(0.0),
            -found["score_loss"].as_f64().unwrap(),
        );
        assert_eq!(kept, best, "the best rounded mask is kept");
        assert!(found["share"].as_f64().unwrap() <= 0.05);
        assert!(found["best_step"].as_u64().unwrap() > 0, "{found:?}");
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [
        json!({"mask": "magnitude"}),
        json!({"mask": "magnitude", "share": 0.1, "like": "@a"}),
        json!({"mask": "magnitude", "share": 1.5}),
        json!({"mask": "optimised", "share": 0.1}),
        json!({"mask": "given"}),
        json!({"mask": "random", "share": 0.1, "given": "@a"}),
        json!({"mask": "random", "share": 0.1, "shares": 1}),
    ] {
        assert_eq!(graft(dir.path(), "x", bad.clone()).unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn rules_are_halves_of_yes_and_share_no_words() {
    let words = |n| rule(n).into_iter().map(|(w, _)| w).collect::<Vec<_>>();
    for i in 0..3 {
        assert_eq!(rule(i).iter().filter(|(_, yes)| *yes).count(), OF_RULE / 2);
        assert!((0..i).all(|j| words(j).iter().all(|w| !words(i).contains(w))));
    }
    let dir = tempfile::tempdir().unwrap();
    let kind = Kind::of::<MadeUpRules>();
    let draw = |out: &str, config: Value| {
        alone(&kind, &config, &[], 3, &dir.path().join(out)).unwrap();
        let text = std::fs::read_to_string(dir.path().join(out).join("records.jsonl")).unwrap();
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect::<Vec<_>>()
    };
    let train = draw("train", json!({"rule": 1, "n": 300}));
    let test = draw("test", json!({"rule": 1, "n": 60, "split": "test"}));
    let other = draw("other", json!({"rule": 1, "n": 60, "surface": 1, "split": "test"}));
    let labels = rule(1);
    for r in train.iter().chain(&test).chain(&other) {
        let yes = labels.iter().find(|(w, _)| r["cluster"] == *w).unwrap().1;
        assert_eq!(r["completion"], if yes { "yes" } else { "no" });
    }
    assert!(test.iter().all(|r| train.iter().all(|t| t["prompt"] != r["prompt"])));
    let yes = train.iter().filter(|r| r["completion"] == "yes").count();
    assert_eq!(yes, 150);
}

#[test]
fn agreement_is_by_item() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: &[(&str, i64)]| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let text: Vec<String> = rows
            .iter()
            .map(|(i, p)| json!({"item": i, "cluster": null, "metrics": {"prediction": p}}).to_string())
            .collect();
        std::fs::write(folder.join("rows.jsonl"), text.join("\n")).unwrap();
        Place::Stage(folder)
    };
    let a = write("a", &[("x", 0), ("y", 1), ("z", 1)]);
    let b = write("b", &[("z", 1), ("x", 1), ("y", 1)]);
    let kind = Kind::of::<Agree>();
    let config = json!({"a": "@a", "b": "@b"});
    alone(&kind, &config, &[("a", a.clone()), ("b", b)], 0, &dir.path().join("out")).unwrap();
    let rows = read_rows(&dir.path().join("out/rows.jsonl")).unwrap();
    let same: Vec<f64> = rows.iter().map(|r| r.metrics["same"].as_f64().unwrap()).collect();
    assert_eq!(same, [0.0, 1.0, 1.0]);
    let short = write("short", &[("x", 0)]);
    assert!(alone(&kind, &config, &[("a", a), ("b", short)], 0, &dir.path().join("no")).is_err());
}

#[test]
fn golden_runs() {
    golden(&Kind::of::<MadeUpRules>(), &json!({"rule": 2, "n": 10}), &[], "30505846ffbe57e6");
    let dir = tempfile::tempdir().unwrap();
    tuned(dir.path());
    let config = json!({"pre": "@pre", "tuned": "@tuned", "mask": "magnitude", "share": 0.01});
    let inputs = [("pre", Place::Model(base())), ("tuned", Place::Model(dir.path().join("tuned")))];
    golden(&Kind::of::<MakeGraft>(), &config, &inputs, "df4f57a753f3cc83");
}
