use super::*;
use postgrad_base::Stream;
use postgrad_lab::stage::{Place, alone, golden, read_rows};
use postgrad_lab::stages::{Draw, Sft};
use postgrad_nn::LoraSpec;
use postgrad_tasks::{Split, draw};
use postgrad_tensor::no_grad;
use std::path::{Path, PathBuf};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")
}

fn seed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/seed-1m")
}

fn problems(n: u64) -> Vec<Problem> {
    let difficulty = Chain.difficulty("steps=3,shape=tree").unwrap();
    (0..n).map(|i| draw(&Chain, &mut Stream::new(i, &["data"]), &difficulty, Split::Train).unwrap()).collect()
}

#[test]
fn betas_are_at_both_ends_and_never_nan() {
    assert_eq!((beta(3, 3, 11), beta(11, 3, 11), beta(7, 3, 11)), (1.0, 0.0, 0.5));
    assert_eq!(beta(5, 5, 5), 1.0);
}

#[test]
fn lengths_are_of_the_chain_alone() {
    for (text, chain) in [
        ("Bob: 1+1=2.\n#### 2", "Bob: 1+1=2."),
        ("<think>\nso 2\n</think>\n\n#### 2", "so 2"),
        ("first\nthus \\boxed{2}", "first"),
        ("\\boxed{2}", ""),
        ("#### 2", ""),
        ("no answer", "no answer"),
    ] {
        assert_eq!(chain_of(text), chain, "{text}");
    }
}

#[test]
fn traces_of_all_styles_are_right_and_get_shorter() {
    let tokenizer = Tokenizer::load(&seed()).unwrap();
    let mut sums = [0; 5];
    for p in problems(40) {
        let styles = [Style::Checked, Style::Twice, Style::Named, Style::Equations, Style::Merged];
        for (sum, style) in sums.iter_mut().zip(styles) {
            let text = trace(&p, style).unwrap();
            assert!(Chain.verify(&p, &text).correct, "{text}");
            *sum += length(&tokenizer, &text).unwrap();
        }
    }
    assert!(sums.is_sorted_by(|a, b| a > b), "{sums:?}");
}

/// An adapter folder beside the fixture, far from zero.
fn adapter(dir: &Path) -> PathBuf {
    let mut model = ModelFolder::load(&base()).unwrap();
    let spec = LoraSpec { rank: 2, ..LoraSpec::default() };
    model.decoder.add_lora("new", spec, &Stream::new(1, &["tune"])).unwrap();
    let mut s = Stream::new(2, &["tune"]);
    model.decoder.params().iter().for_each(|p| {
        p.update(|w| w.iter_mut().for_each(|w| *w += 0.05 * s.normal() as f32));
    });
    let folder = dir.join("lora/adapter");
    let adapter = model.decoder.adapters[0].clone();
    model.save_adapter(&adapter, &folder, &base().display().to_string()).unwrap();
    folder
}

fn logits(model: &ModelFolder) -> Vec<f32> {
    use postgrad_nn::decoder::{Pass, Walk};
    let ids = model.renderer.tokenizer().encode("Tom has 3 apples and").unwrap();
    let pass = Pass::sequences(&[ids.len()]);
    no_grad(|| model.decoder.logits(&model.decoder.hidden(&ids, &Walk::Tape(&pass))).data().to_vec())
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    let scale = b.iter().fold(1.0f32, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0.0, |m, (x, y)| m.max((x - y).abs() / scale))
}

#[test]
fn a_closed_valve_is_the_base_and_an_open_one_the_merged_model() {
    let dir = tempfile::tempdir().unwrap();
    let knob = Knob { model: ModelFolder::load(&adapter(dir.path())).unwrap(), toward: None };
    let plain = ModelFolder::load(&base()).unwrap();
    assert!(logits(&knob.at(0.0).unwrap()) == logits(&plain), "bit for bit");
    for alpha in [1.0, 0.5, 1.5] {
        let open = knob.at(alpha).unwrap();
        let mut merged = plain.clone();
        open.decoder.adapters[0].merge_into(&mut merged.decoder.weights, 1.0).unwrap();
        let (got, want) = (logits(&open), logits(&merged));
        assert!(worst(&got, &want) < 1e-5, "{alpha}: {}", worst(&got, &want));
        assert!(worst(&got, &logits(&plain)) > 1e-3);
    }
    assert_eq!(Knob { model: plain, toward: None }.at(0.5).err().unwrap().exit_code(), 2);
}

#[test]
fn the_adapter_term_is_linear_in_its_scale() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelFolder::load(&adapter(dir.path())).unwrap();
    let adapter = &model.decoder.adapters[0];
    let at = |alpha: f32| {
        let mut weights = ModelFolder::load(&base()).unwrap().decoder.weights;
        let mut scaled = adapter.clone();
        scaled.scale = alpha;
        scaled.merge_into(&mut weights, 1.0).unwrap();
        weights.iter().flat_map(|(_, _, w)| w.tensor().data().to_vec()).collect::<Vec<f32>>()
    };
    let (zero, half, one) = (at(0.0), at(0.5), at(1.0));
    for ((z, h), o) in zero.iter().zip(&half).zip(&one) {
        assert!((h - z - 0.5 * (o - z)).abs() < 1e-6);
    }
}

#[test]
fn between_checkpoints_both_ends_are_reproduced() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = ModelFolder::load(&base()).unwrap();
    other.decoder.weights.train(|_| true);
    other.decoder.params().iter().for_each(|p| p.update(|w| w.iter_mut().for_each(|w| *w *= 1.1)));
    other.save(&dir.path().join("other"), Dtype::F32).unwrap();
    let inputs = [("a", Place::Model(base())), ("b", Place::Model(dir.path().join("other")))];
    let kind = Kind::of::<Interpolate>();
    let at = |alpha: f32| {
        let out = dir.path().join(format!("at-{}", percent(alpha)));
        alone(&kind, &json!({"a": "@a", "b": "@b", "alpha": alpha}), &inputs, 0, &out).unwrap();
        logits(&ModelFolder::load(&out.join("model")).unwrap())
    };
    assert!(at(0.0) == logits(&ModelFolder::load(&base()).unwrap()));
    assert!(at(1.0) == logits(&ModelFolder::load(&dir.path().join("other")).unwrap()));
    assert!(at(0.5) != at(0.0) && at(0.5) != at(1.0));
    let seed = [("a", Place::Model(base())), ("b", Place::Model(seed()))];
    let e = alone(&kind, &json!({"a": "@a", "b": "@b", "alpha": 0.5}), &seed, 0, &dir.path().join("no"));
    assert!(e.err().unwrap().to_string().contains("tokenizers"));
}

#[test]
fn mixed_chains_are_right_sorted_and_scaled_by_question() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // The seed solves one-digit problems; a random adapter of small norm makes its answers differ.
    let mut model = ModelFolder::load(&seed()).unwrap();
    model.decoder.add_lora("new", LoraSpec { rank: 2, ..LoraSpec::default() }, &Stream::new(1, &["tune"])).unwrap();
    let mut s = Stream::new(2, &["tune"]);
    model.decoder.params().iter().for_each(|p| {
        p.update(|w| w.iter_mut().for_each(|w| *w += 0.01 * s.normal() as f32));
    });
    let adapter = model.decoder.adapters[0].clone();
    model.save_adapter(&adapter, &dir.join("lora/adapter"), &seed().display().to_string()).unwrap();
    let config = json!({"task": "chain", "difficulty": "steps=1,digits=1", "n": 4});
    alone(&Kind::of::<Draw>(), &config, &[], 0, &dir.join("data")).unwrap();
    let inputs = [("m", Place::Stage(dir.join("lora"))), ("data", Place::Stage(dir.join("data")))];
    let config = json!({"model": "@m", "data": "@data", "alphas": [0, 1], "max_tokens": 40, "temperature": 1.0,
        "samples": 3});
    alone(&Kind::of::<MixChain>(), &config, &inputs, 0, &dir.join("mix")).unwrap();
    let read = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join("mix").join(name)).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let rows = read("records.jsonl");
    let mut by_question: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for r in &rows {
        let problem: Problem = serde_json::from_value(r["problem"].clone()).unwrap();
        assert!(Chain.verify(&problem, r["completion"].as_str().unwrap()).correct, "{r}");
        by_question.entry(problem.id).or_default().push(r);
    }
    for own in by_question.values() {
        let lengths: Vec<u64> = own.iter().map(|r| r["length"].as_u64().unwrap()).collect();
        assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
        let scales: Vec<f64> = own.iter().map(|r| r["adapter_scale"].as_f64().unwrap()).collect();
        assert_eq!(*scales.last().unwrap(), 1.0);
        assert!(lengths[0] == *lengths.last().unwrap() || scales[0] == 0.0);
    }
    assert_eq!(read("alpha-0.jsonl").len() + read("alpha-100.jsonl").len(), rows.len());
    assert!(read("alpha-0.jsonl").iter().all(|r| r.get("adapter_scale").is_none() && r["alpha"] == 0.0));
    // What was mixed can be trained on.
    let config = json!({"model": "@m", "data": "@mix", "steps": 1, "batch": 2, "lora": {"continue": true}});
    let inputs = [("m", Place::Stage(dir.join("lora"))), ("mix", Place::Stage(dir.join("mix")))];
    alone(&Kind::of::<Sft>(), &config, &inputs, 0, &dir.join("tuned")).unwrap();
}

#[test]
fn a_sweep_has_one_wide_row_an_item() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    adapter(dir);
    let config = json!({"task": "chain", "difficulty": "steps=1,digits=1", "n": 3});
    alone(&Kind::of::<Draw>(), &config, &[], 0, &dir.join("data")).unwrap();
    let inputs = [("m", Place::Stage(dir.join("lora"))), ("data", Place::Stage(dir.join("data")))];
    let run = |out: &str, extra: Value| {
        let mut config = json!({"model": "@m", "data": "@data", "alphas": [0, 0.25, 1.5], "max_tokens": 8});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        alone(&Kind::of::<Valve>(), &config, &inputs, 0, &dir.join(out))?;
        read_rows(&dir.join(out).join("rows.jsonl"))
    };
    let rows = run("out", json!({})).unwrap();
    assert_eq!(rows.len(), 3);
    for r in &rows {
        assert!(r.cluster.is_some() && r.metrics["steps"] == 1);
        for column in ["tokens_0", "generated_25", "accuracy_150", "truncated_0"] {
            assert!(r.metrics[column].is_number(), "{column}");
        }
    }
    assert_eq!(run("again", json!({"limit": 2})).unwrap()[..], rows[..2]);
    assert_eq!(run("no", json!({"alphas": []})).unwrap_err().exit_code(), 2);
    assert_eq!(run("no", json!({"alphas": [0.5, 0.501]})).unwrap_err().exit_code(), 2);
    let kind = Kind::of::<RandomAdapter>();
    alone(&kind, &json!({"like": "@m"}), &inputs[..1], 0, &dir.join("random")).unwrap();
    let norm = |d: &str| {
        let m = ModelFolder::load(&dir.join(d).join("adapter")).unwrap();
        m.decoder.adapters[0].modules.values().map(|m| m.norm()).sum::<f64>()
    };
    assert!((norm("random") / norm("lora") - 1.0).abs() < 1e-3);
}

#[test]
fn golden_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"task": "chain", "difficulty": "steps=2,digits=1", "n": 2});
    alone(&Kind::of::<Draw>(), &config, &[], 0, &dir.path().join("data")).unwrap();
    let data = ("data", Place::Stage(dir.path().join("data")));
    let config = json!({"data": "@data", "style": "checked"});
    golden(&Kind::of::<ChainTraces>(), &config, std::slice::from_ref(&data), "fb27b2b989d0dfdd");
    adapter(dir.path());
    let config = json!({"model": "@m", "data": "@data", "alphas": [0, 0.5], "max_tokens": 6});
    golden(&Kind::of::<Valve>(), &config, &[("m", Place::Stage(dir.path().join("lora"))), data], "fb1fbd55ffeb8cf7");
}
