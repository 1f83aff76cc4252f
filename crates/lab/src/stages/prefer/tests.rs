use std::path::Path;

use super::*;
use crate::stage::{Kind, Place, alone, digest, golden, read_rows};
use postgrad_base::cancel::Cancel;
use postgrad_base::progress::Mode;

fn inputs(dir: &Path) -> [(&'static str, Place); 3] {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
    let file = |name: &str, rows: Vec<Value>| {
        let path = dir.join(name);
        std::fs::write(&path, rows.iter().map(|r| format!("{r}\n")).collect::<String>()).unwrap();
        Place::Data(vec![path.display().to_string()])
    };
    let asked = |i: usize| format!("{i}+2?");
    let pair = |i| json!({"prompt": asked(i), "chosen": format!("{}", i + 2), "rejected": format!("{}", i + 3)});
    let ranked = |i: usize| {
        json!({"prompt": asked(i), "completions": [format!("{}", i + 3), format!("{}", i + 2), "no"], "scores": [0, 1, 0],
            "completion": format!("It is {}.", i + 2)})
    };
    [
        ("base", Place::Model(model)),
        ("pairs", file("pairs.jsonl", (2..9).map(pair).collect())),
        ("ranked", file("ranked.jsonl", (2..6).map(ranked).collect())),
    ]
}

fn config(more: Value) -> Value {
    let mut all = json!({"model": "@base", "data": "@pairs", "method": "dpo", "steps": 2, "batch": 2, "lr": 1e-3});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Runs the stage with a stop asked for as soon as a few updates are logged.
fn stopped(config: &Value, inputs: &[(&str, Place)], out: &Path) -> Result<()> {
    let cancel = Cancel::new();
    let named = inputs.iter().map(|(n, p)| (n.to_string(), p.clone()));
    let cx = Cx::new(0, out.into(), named, cancel.clone(), Mode::Quiet);
    let config = (Kind::of::<Prefer>().resolve)(config).map_err(|f| f.error)?;
    std::thread::scope(|s| {
        s.spawn(|| {
            let begun = || std::fs::read_to_string(out.join(METRICS_FILE)).is_ok_and(|t| t.lines().count() > 3);
            while !begun() {
                std::thread::yield_now();
            }
            cancel.cancel();
        });
        Kind::of::<Prefer>().run(&config, &cx)
    })
}

#[test]
fn golden_run() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let run = |more: Value, want: &str| golden(&Kind::of::<Prefer>(), &config(more), &inputs, want);
    run(json!({}), "f4daaea6b3fe27fa");
    run(json!({"method": "aft-bound", "data": "@ranked", "loss": {"constraint": {"bound": 0.5}}}), "07815ebd5a091e2b");
    run(
        json!({"method": "kto", "data": ["@pairs", "@ranked"], "lora": {"rank": 2}, "judge": "parting"}),
        "edaa4fd82371390f",
    );
}

#[test]
fn a_stopped_stage_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let config = config(json!({"steps": 120}));
    let [whole, broken] = ["whole", "broken"].map(|n| dir.path().join(n));
    let cx = alone(&Kind::of::<Prefer>(), &config, &inputs, 0, &whole).unwrap();
    std::fs::create_dir_all(&broken).unwrap();
    let e = stopped(&config, &inputs, &broken).unwrap_err();
    assert_eq!(e.kind(), postgrad_base::Kind::Cancelled, "{e}");
    assert!(!broken.join("model").exists() && broken.join("reference.json").exists());
    let again = alone(&Kind::of::<Prefer>(), &config, &inputs, 0, &broken).unwrap();
    assert_eq!(digest(&broken).unwrap(), digest(&whole).unwrap());
    assert_eq!(again.spent(), cx.spent());
    assert!(!broken.join("reference.json").exists() && !broken.join("checkpoints").exists());
}

#[test]
fn what_is_preferred_gets_the_higher_score() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = inputs(dir.path());
    let run = |name: &str, more: Value| {
        let out = dir.path().join(name);
        let cx = alone(&Kind::of::<Prefer>(), &config(more), &inputs, 0, &out).unwrap();
        (read_rows(&out.join("rows.jsonl")).unwrap().remove(0).metrics, cx.spent())
    };
    let (first, spent) = run("first", json!({"steps": 1}));
    assert!((first["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
    assert_eq!((first["margin"].as_f64(), first["groups"].as_u64()), (Some(0.0), Some(7)));
    assert_eq!((spent["updates"], spent["examples"]), (1, 2));
    let (last, spent) = run("last", json!({"steps": 60, "batch": 7}));
    assert!(last["right"] == 1.0 && last["margin"].as_f64().unwrap() > 0.5, "{last:?}");
    assert!(last["better_log_prob"].as_f64() > last["worse_log_prob"].as_f64());
    // The reference's pass is paid for once: 2 N a token of the data, beside 6 N a token trained on.
    let all = last["trained"].as_u64().unwrap();
    assert_eq!(spent["flops"], 6 * all * spent["tokens"] + 2 * all * spent["tokens"] / 60);
    let (limited, _) = run("limited", json!({"limit": 3, "data": ["@ranked", "@pairs"], "method": "aft"}));
    assert_eq!(limited["groups"], 3);
}

#[test]
fn wrong_configurations_say_so() {
    for (bad, path) in [
        (json!({"method": "dop"}), ""),
        (json!({"loss": {"bta": 1.0}}), "loss.bta"),
        (json!({"loss": {"beta": 0.0}}), ""),
        (json!({"loss": {"smoothing": 0.2}, "method": "ipo"}), ""),
        (json!({"lora": {"dropout": 0.1}}), ""),
        (json!({"method": "kto", "batch": 1}), ""),
        (json!({"limit": 0}), ""),
        (json!({"judge": "some"}), "judge"),
        (json!({"head": "outcome"}), ""),
        (json!({"method": "reward", "head": "outcome", "loss": {"margin": 1.0}}), ""),
        (json!({"method": "reward", "head": "step"}), "head"),
    ] {
        let fault = (Kind::of::<Prefer>().resolve)(&config(bad.clone())).unwrap_err();
        assert_eq!(fault.path, path, "{bad}: {}", fault.error);
    }
}
