use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::tempdir;

use super::*;

fn dir(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/peft").join(kind)
}

fn base() -> Config {
    Config::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/hf/llama")).unwrap()
}

fn text(kind: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(dir(kind).join("adapter_config.json")).unwrap()).unwrap()
}

fn with(changes: Value) -> Result<LoraConfig> {
    let mut value = text("lora");
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    LoraConfig::from_json(&value)
}

fn named(names: &[&str]) -> Targets {
    Targets::Names(names.iter().map(|n| n.to_string()).collect())
}

#[test]
fn adapters_of_peft_read() {
    let lora = LoraFile::read(&dir("lora")).unwrap();
    lora.check(&base()).unwrap();
    assert_eq!((lora.config.r, lora.config.alpha, lora.config.rslora, lora.weights.len()), (4, 8.0, false, 21));
    assert!(lora.config.warnings.is_empty(), "{:?}", lora.config.warnings);
    let side = &lora.weights["model.layers.2.mlp.down_proj"];
    assert_eq!((side.a.dims(), side.b.dims(), side.scaling), (&[4, 112][..], &[64, 4][..], 2.0));
    let stabilised = LoraFile::read(&dir("lora-qv-rs")).unwrap();
    stabilised.check(&base()).unwrap();
    assert_eq!(stabilised.weights.len(), 6);
    for (module, side) in &stabilised.weights {
        assert!(module.ends_with("q_proj") || module.ends_with("v_proj"));
        assert_eq!((side.a.dims(), side.scaling), (&[6, 64][..], (3.0 / 6f64.sqrt()) as f32));
    }
}

#[test]
fn what_is_written_has_the_same_tensors_and_settings() {
    for kind in ["lora", "lora-qv-rs"] {
        let lora = LoraFile::read(&dir(kind)).unwrap();
        let temp = tempdir().unwrap();
        lora.write(temp.path()).unwrap();
        let back = LoraFile::read(temp.path()).unwrap();
        assert_eq!(back.config, lora.config);
        // Tensor by tensor as PEFT wrote them.
        let file = "adapter_model.safetensors";
        let (ours, theirs) =
            (read_safetensors(&temp.path().join(file)).unwrap(), read_safetensors(&dir(kind).join(file)).unwrap());
        assert!(ours.keys().eq(theirs.keys()));
        for (name, tensor) in &theirs {
            assert_eq!(ours[name].shape(), tensor.shape());
            assert_eq!(ours[name].float().unwrap().data(), tensor.float().unwrap().data(), "{name}");
        }
        let written: Value =
            serde_json::from_str(&fs::read_to_string(temp.path().join("adapter_config.json")).unwrap()).unwrap();
        for (key, value) in
            written.as_object().unwrap().iter().filter(|(k, _)| *k != "task_type" && *k != "auto_mapping")
        {
            assert_eq!(value, &text(kind)[key], "{key}");
        }
        assert_eq!(written["task_type"], "CAUSAL_LM");
    }
}

#[test]
fn other_kinds_are_refused_by_name() {
    for (kind, name) in [("dora", "use_dora"), ("ia3", "IA3"), ("prompt", "PROMPT_TUNING"), ("prefix", "PREFIX_TUNING")]
    {
        let error = LoraFile::read(&dir(kind)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    let cases = [
        (json!({"bias": "all"}), "bias"),
        (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
        (json!({"init_lora_weights": "pissa"}), "pissa"),
        (json!({"layer_replication": [[0, 2]]}), "layer_replication"),
        (json!({"trainable_token_indices": [1]}), "trainable_token_indices"),
        (json!({"task_type": "SEQ_CLS"}), "SEQ_CLS"),
        (json!({"lora_bias": true}), "lora_bias"),
        (json!({"r": 0}), "`r` is 0"),
        (json!({"r": "4"}), "`r` is \"4\""),
        (json!({"lora_alpha": "x"}), "lora_alpha"),
        (json!({"lora_dropout": 1.0}), "lora_dropout"),
        (json!({"target_modules": null}), "target_modules"),
        (json!({"target_modules": []}), "target_modules"),
        (json!({"target_modules": [3]}), "target_modules"),
        (json!({"target_modules": ".*(q_proj"}), "not a regular expression"),
        (json!({"rank_pattern": {"(": 2}}), "not a regular expression"),
        (json!({"rank_pattern": {"q_proj": 0}}), "rank_pattern"),
        (json!({"layers_to_transform": [-1]}), "layers_to_transform"),
        (json!({"peft_type": null}), "peft_type"),
    ];
    for (change, names) in cases {
        let error = with(change.clone()).unwrap_err().to_string();
        assert!(error.contains(names), "{change}: {error}");
    }
    assert_eq!(with(json!({"novel": 1, "fan_in_fan_out": true})).unwrap().warnings.len(), 2);
}

#[test]
fn targets_are_chosen_as_peft_chooses() {
    let q = "model.layers.1.self_attn.q_proj";
    let selects = |targets: Targets, module: &str| LoraConfig::new(4, 8.0, targets).selects(module).unwrap();
    assert!(selects(named(&["q_proj"]), q) && selects(named(&["self_attn.q_proj"]), q) && selects(named(&[q]), q));
    assert!(!selects(named(&["_proj"]), q) && !selects(named(&["k_proj"]), q), "an end is a whole part of the path");
    assert!(selects(Targets::AllLinear, q) && !selects(Targets::AllLinear, "lm_head"));
    let pattern = |text: &str| Targets::Pattern(text.into());
    assert!(selects(pattern(r".*\.(q|v)_proj"), q) && !selects(pattern("q_proj"), q), "the whole path must match");
    assert!(selects(pattern(r"^(?!.*mlp).*_proj$"), q), "with Python's lookaheads");
    assert!(!selects(pattern(r"^(?!.*mlp).*_proj$"), "model.layers.1.mlp.up_proj"));
    let mut config = LoraConfig::new(4, 8.0, named(&["q_proj", "model.layers.0.mlp.up_proj"]));
    config.layers = Some(vec![1]);
    assert_eq!(config.modules(&base()).unwrap(), ["model.layers.0.mlp.up_proj", q]);
    config.layers_pattern = vec!["layers".into()];
    assert!(config.selects(q).unwrap() && !config.selects("model.layers.2.self_attn.q_proj").unwrap());
    config.layers_pattern = vec!["h".into()];
    assert!(!config.selects(q).unwrap());
    let mut config = LoraConfig::new(4, 8.0, Targets::AllLinear);
    assert_eq!(config.modules(&base()).unwrap().len(), 21);
    config.exclude = Some(named(&["down_proj", "o_proj"]));
    assert_eq!(config.modules(&base()).unwrap().len(), 15);
    let none = LoraConfig::new(4, 8.0, named(&["qkv_proj"])).modules(&base()).unwrap_err().to_string();
    assert!(none.contains("qkv_proj") && none.contains("q_proj, up_proj"), "{none}");
}

#[test]
fn patterns_set_rank_and_scaling_of_modules() {
    let config = with(json!({
        "rank_pattern": {"^model.layers.0.self_attn.q_proj": 2, "q_proj": 16, "mlp.*": 1},
        "alpha_pattern": {"v_proj": 32, "layers.1.mlp.up_proj": 5.0},
    }))
    .unwrap();
    let at = |module: &str| (config.rank(module).unwrap(), config.scaling(module).unwrap());
    assert_eq!(at("model.layers.0.self_attn.q_proj"), (2, 4.0));
    assert_eq!(at("model.layers.1.self_attn.q_proj"), (16, 0.5));
    assert_eq!(at("model.layers.1.self_attn.v_proj"), (4, 8.0));
    assert_eq!(at("model.layers.1.mlp.up_proj"), (1, 5.0));
    assert_eq!(at("model.layers.1.self_attn.k_proj"), (4, 2.0));
    // And through a file.
    let mut file = LoraFile { config, weights: BTreeMap::new() };
    for (module, shape) in linear_layers(&base()).into_iter().filter(|(m, _)| m != "lm_head") {
        let (rank, scaling) = (file.config.rank(&module).unwrap(), file.config.scaling(&module).unwrap());
        let (a, b) = (Tensor::full(0.5, &[rank, shape[1]]), Tensor::full(2.0, &[shape[0], rank]));
        file.weights.insert(module, LoraSide { a, b, scaling });
    }
    let temp = tempdir().unwrap();
    file.write(temp.path()).unwrap();
    let back = LoraFile::read(temp.path()).unwrap();
    back.check(&base()).unwrap();
    assert_eq!((back.config, back.weights.len()), (file.config.clone(), 21));
    // What its settings do not say is not written.
    file.weights.values_mut().next().unwrap().scaling *= 2.0;
    assert!(file.write(temp.path()).unwrap_err().to_string().contains("scales by"));
    file.config.targets = named(&["q_proj"]);
    assert!(file.write(temp.path()).is_err());
}

/// An adapter folder with some tensors of the fixture changed.
fn changed(change: impl Fn(&mut BTreeMap<String, AnyTensor>)) -> String {
    let temp = tempdir().unwrap();
    fs::copy(dir("lora").join("adapter_config.json"), temp.path().join("adapter_config.json")).unwrap();
    let mut tensors = read_safetensors(&dir("lora").join("adapter_model.safetensors")).unwrap();
    change(&mut tensors);
    write_safetensors(&temp.path().join("adapter_model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    match LoraFile::read(temp.path()).and_then(|lora| lora.check(&base())) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let q = "model.layers.0.self_attn.q_proj";
    let name = |letter: &str| format!("{PREFIX}{q}.lora_{letter}.weight");
    let float = |dims: &[usize]| AnyTensor::Float(Tensor::zeros(dims));
    assert_eq!(changed(|_| ()), "");
    let error = changed(|t| drop(t.remove(&name("B"))));
    assert!(error.contains(q) && error.contains("one side only"), "{error}");
    let error = changed(|t| ["A", "B"].iter().for_each(|l| drop(t.remove(&name(l)))));
    assert!(error.contains(q) && error.contains("no weights for it"), "{error}");
    let error = changed(|t| drop(t.insert(name("A"), float(&[3, 64]))));
    assert!(error.contains("its rank is 4"), "{error}");
    let error = changed(|t| drop(t.insert(name("A"), float(&[4, 63]))));
    assert!(error.contains("[64, 63]") && error.contains("[64, 64]"), "{error}");
    let error = changed(|t| drop(t.insert(name("A"), float(&[4]))));
    assert!(error.contains("not two matrices"), "{error}");
    let error = changed(|t| drop(t.insert(format!("{PREFIX}{q}.lora_magnitude_vector"), float(&[64]))));
    assert!(error.contains("lora_magnitude_vector"), "{error}");
    let error = changed(|t| drop(t.insert(format!("{PREFIX}lm_head.lora_A.weight"), float(&[4, 64]))));
    assert!(error.contains("lm_head"), "{error}");
    let error = changed(|t| t.clear());
    assert!(error.contains("no weights"), "{error}");
    let temp = tempdir().unwrap();
    let error = || LoraFile::read(temp.path()).unwrap_err().to_string();
    assert!(error().contains("adapter_config.json"));
    fs::write(temp.path().join("adapter_config.json"), "{").unwrap();
    assert!(error().contains("not JSON"));
    fs::write(temp.path().join("adapter_config.json"), text("lora").to_string()).unwrap();
    fs::write(temp.path().join("adapter_model.bin"), "x").unwrap();
    assert!(error().contains("pickle"));
}

proptest! {
    /// Any value in any place gives settings or an error; a hostile pattern ends in bounded time.
    #[test]
    fn a_changed_configuration_is_read_or_refused(
        key in any::<prop::sample::Index>(), pick in 0..9usize, n in any::<i64>(), pattern in r"[(a.*)+?q|\\\[\]{}0-9=!<]{0,12}",
    ) {
        let mut value = text("lora");
        let map = value.as_object_mut().unwrap();
        let key = map.keys().nth(key.index(map.len())).unwrap().clone();
        let mut odd = Map::new();
        odd.insert(pattern.clone(), json!(n % 8));
        let new = [
            json!(n), json!(n % 8), json!(null), json!(pattern), json!([pattern]), json!(odd), json!(true), json!([n]), json!(0.5),
        ];
        map.insert(key, new[pick].clone());
        if let Ok(config) = LoraConfig::from_json(&value) {
            let _ = config.modules(&base());
            let _ = config.scaling("model.layers.0.self_attn.q_proj");
            let again = LoraConfig::from_json(&config.to_json(["a.q_proj"].into_iter()));
            prop_assert_eq!(again.is_ok(), true);
        }
    }
}
