use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::checkpoint::Shards;

const CHECKPOINTS: [&str; 9] =
    ["llama", "llama-tied", "llama3-rope", "mistral", "qwen2", "qwen3", "llama-old", "qwen2-old", "mistral-old"];

fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/hf").join(name)
}

fn text(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir(name).join("config.json")).unwrap()).unwrap()
}

fn with(name: &str, changes: Value) -> Result<Config> {
    let mut value = text(name);
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    Config::from_json(&value)
}

fn without(name: &str, keys: &[&str]) -> Result<Config> {
    let mut value = text(name);
    keys.iter().for_each(|key| drop(value.as_object_mut().unwrap().remove(*key)));
    Config::from_json(&value)
}

#[test]
fn every_checkpoint_parses_and_names_its_tensors() {
    for name in CHECKPOINTS {
        let config = Config::read(&dir(name)).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new(), "{name}");
        assert_eq!((config.vocab_size, config.hidden, config.layers, config.intermediate), (160, 64, 3, 112), "{name}");
        assert_eq!((config.heads, config.kv_heads, config.max_position_embeddings), (4, 2, 256), "{name}");
        assert_eq!((config.bos, &config.eos[..], config.pad), (Some(1), &[2][..], Some(0)), "{name}");
        let shards = Shards::open(&dir(name)).unwrap();
        let mut expected = config.tensors();
        expected.sort();
        let found: Vec<_> = shards.names().map(|n| (n.to_string(), shards.shape(n).unwrap().to_vec())).collect();
        assert_eq!(found, expected, "{name}");
        assert_eq!(config.parameters(), found.iter().map(|(_, s)| s.iter().product::<usize>()).sum::<usize>());
    }
}

#[test]
fn values_are_those_of_the_files() {
    let read = |name: &str| Config::read(&dir(name)).unwrap();
    assert_eq!(read("llama").norm_eps, 1e-6);
    assert_eq!(read("llama-tied").norm_eps, 1e-5);
    assert!(read("llama-tied").tie_word_embeddings && !read("llama").tie_word_embeddings);
    let mistral = read("mistral");
    assert_eq!((mistral.head_dim, &mistral.sliding_window[..]), (24, &[Some(16); 3][..]));
    let old = read("mistral-old");
    assert_eq!((old.rope.theta, old.rope.kind), (30_000.0, RopeKind::Linear { factor: 2.0 }));
    assert_eq!(old.sliding_window, vec![None; 3]);
    let qwen2 = read("qwen2");
    assert_eq!(qwen2.attention_bias, AttentionBias { q: true, k: true, v: true, o: false });
    assert_eq!(read("qwen2-old").rope, Rope { theta: 1e6, kind: RopeKind::Default, partial_rotary_factor: 1.0 });
    let qwen3 = read("qwen3");
    assert_eq!((qwen3.head_dim, qwen3.qk_norm, qwen3.attention_bias), (32, true, AttentionBias::default()));
    let stretched = |factor, original_max_position_embeddings| RopeKind::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings,
    };
    assert_eq!(read("llama3-rope").rope.kind, stretched(8.0, 64));
    assert_eq!(read("llama-old").rope.kind, stretched(4.0, 32));
    assert_eq!(read("llama-old").rope.theta, 500_000.0);
}

#[test]
fn both_spellings_give_one_configuration() {
    let scaling = json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64});
    let mut old = text("llama3-rope");
    let map = old.as_object_mut().unwrap();
    map.remove("rope_parameters");
    map.remove("dtype");
    map.insert("rope_scaling".into(), scaling);
    map.insert("rope_theta".into(), json!(500_000));
    map.insert("torch_dtype".into(), json!("float32"));
    assert_eq!(Config::from_json(&old).unwrap(), Config::read(&dir("llama3-rope")).unwrap());
    // `layer_types` of transformers 5, `max_window_layers` of transformers 4.
    let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1});
    let types = ["full_attention", "sliding_attention", "sliding_attention"];
    let new = json!({"use_sliding_window": true, "sliding_window": 8, "layer_types": types});
    let new = with("qwen2", new).unwrap();
    assert_eq!(new.sliding_window, with("qwen2-old", on).unwrap().sliding_window);
    assert_eq!(new.sliding_window, [None, Some(8), Some(8)]);
}

#[test]
fn what_is_written_reads_the_same_in_either_spelling() {
    let mut all: Vec<Config> = CHECKPOINTS.iter().map(|name| Config::read(&dir(name)).unwrap()).collect();
    all.push(Config::llama(512, 96, 2, 6, 3, 256, 128, true));
    all.push(
        with(
            "qwen3",
            json!({"use_sliding_window": true, "sliding_window": 8, "attention_bias": true,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
        )
        .unwrap(),
    );
    all.push(
        with(
            "qwen2-old",
            json!({"eos_token_id": [2, 5], "rope_scaling": {"type": "yarn", "factor": 4.0,
        "original_max_position_embeddings": 64}, "torch_dtype": "bfloat16"}),
        )
        .unwrap(),
    );
    for config in all {
        let written = config.to_json();
        assert_eq!(Config::from_json(&written).unwrap(), config);
        for dropped in [["rope_parameters", "dtype"], ["rope_scaling", "torch_dtype"]] {
            let mut one = written.clone();
            dropped.iter().for_each(|key| drop(one.as_object_mut().unwrap().remove(*key)));
            assert_eq!(Config::from_json(&one).unwrap(), config, "without {dropped:?}");
        }
    }
}

/// Values from the formulas in float64, computed apart.
#[test]
fn frequencies_agree_with_their_formulas() {
    let close = |got: &[f32], want: &[f64]| {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert!((*g as f64 - w).abs() < 2e-6 * w, "{got:?} {want:?}");
        }
    };
    let (got, scale) = Config::read(&dir("llama")).unwrap().rope_inv_freq();
    close(&got, &(0..8).map(|i| 10_000f64.powf(-i as f64 / 8.0)).collect::<Vec<_>>());
    assert_eq!(scale, 1.0);
    let (got, _) = Config::read(&dir("mistral-old")).unwrap().rope_inv_freq();
    close(&got, &(0..8).map(|i| 30_000f64.powf(-i as f64 / 8.0) / 2.0).collect::<Vec<_>>());
    let (got, scale) = Config::read(&dir("llama3-rope")).unwrap().rope_inv_freq();
    close(&got, LLAMA3);
    assert_eq!(scale, 1.0);
    let yarn = json!({"head_dim": 32, "rope_theta": 1e6, "max_position_embeddings": 131_072,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}});
    let (got, scale) = with("qwen2-old", yarn).unwrap().rope_inv_freq();
    close(&got, YARN);
    assert!((scale as f64 - 1.138_629_436_111_989).abs() < 1e-7);
}

const LLAMA3: &[f64] = &[
    1.000000000e+00,
    7.940300918e-02,
    4.700753866e-03,
    9.115830922e-04,
    1.767766953e-04,
    3.428102196e-05,
    6.647869871e-06,
    1.289173172e-06,
];
const YARN: &[f64] = &[
    1.000000000e+00,
    4.216965034e-01,
    1.778279410e-01,
    7.498942093e-02,
    3.162277660e-02,
    1.333521432e-02,
    4.779901264e-03,
    1.659961594e-03,
    5.500000000e-04,
    1.686786014e-04,
    4.445698525e-05,
    1.874735523e-05,
    7.905694150e-06,
    3.333803580e-06,
    1.405853313e-06,
    5.928434264e-07,
];

#[test]
fn other_families_and_other_mathematics_are_refused_by_name() {
    for name in ["gemma2", "gemma3", "phi3", "olmo2", "smollm3", "granite", "gpt2", "qwen3-moe"] {
        let error = Config::read(&dir(name)).unwrap_err().to_string();
        let family = text(name)["model_type"].as_str().unwrap().to_string();
        assert!(error.contains(&format!("`{family}`")) && error.contains("llama, mistral, qwen2, qwen3"), "{error}");
    }
    let cases = [
        ("llama", json!({"pretraining_tp": 2}), "pretraining_tp"),
        ("llama", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        ("llama", json!({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}), "dynamic"),
        ("llama", json!({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}), "longrope"),
        ("llama", json!({"rope_parameters": {"rope_type": "default", "factor": 2.0}}), "rope_parameters.factor"),
        ("llama", json!({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}}), "mrope_section"),
        ("llama", json!({"rope_parameters": {"rope_type": "linear"}}), "`rope_parameters.factor` is missing"),
        ("llama", json!({"rope_theta": 5.0}), "rope_theta"),
        ("llama", json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}), "rope_scaling"),
        ("llama", json!({"sliding_window": 8}), "sliding_window"),
        ("llama", json!({"layer_types": ["sliding_attention", "full_attention", "full_attention"]}), "layer_types"),
        ("llama", json!({"hidden_act": "swiglu"}), "swiglu"),
        ("llama", json!({"quantization_config": {"bits": 4}}), "quantization_config"),
        ("llama", json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping"),
        ("llama", json!({"residual_multiplier": 0.2}), "residual_multiplier"),
        ("llama", json!({"num_experts": 8}), "num_experts"),
        ("mistral", json!({"attention_bias": true}), "attention_bias"),
        ("mistral", json!({"layer_types": ["full_attention", "full_attention", "full_attention"]}), "layer_types"),
        ("qwen2", json!({"attention_bias": false}), "attention_bias"),
        ("qwen2", json!({"layer_types": ["chunked_attention", "full_attention", "full_attention"]}), "chunked"),
        ("qwen2", json!({"layer_types": ["full_attention"]}), "1 entries for 3 layers"),
        ("qwen2", json!({"layer_types": ["sliding_attention", "full_attention", "full_attention"]}), "no window"),
        ("qwen3", json!({"mlp_bias": true}), "mlp_bias"),
        ("qwen3", json!({"use_mrope": true}), "use_mrope"),
    ];
    for (name, change, names) in cases {
        let error = with(name, change.clone()).unwrap_err();
        assert!(error.to_string().contains(names), "{change}: {error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn wrong_types_and_sizes_name_their_key() {
    let cases = [
        (json!({"hidden_size": "64"}), "`hidden_size` is \"64\", not a whole number"),
        (json!({"hidden_size": 64.5}), "`hidden_size`"),
        (json!({"num_hidden_layers": -1}), "`num_hidden_layers`"),
        (json!({"num_hidden_layers": 1_000_000_000_000u64}), "`num_hidden_layers`"),
        (json!({"vocab_size": 0}), "`vocab_size`"),
        (json!({"num_key_value_heads": 3}), "`num_key_value_heads`"),
        (json!({"head_dim": 15}), "`head_dim`"),
        (json!({"rms_norm_eps": "small"}), "`rms_norm_eps`"),
        (json!({"tie_word_embeddings": 1}), "`tie_word_embeddings`"),
        (json!({"eos_token_id": ["</s>"]}), "`eos_token_id`"),
        (json!({"rope_parameters": [1]}), "`rope_parameters`"),
        (json!({"rope_parameters": {"rope_type": "default", "rope_theta": "x"}}), "`rope_parameters.rope_theta`"),
        (json!({"attention_dropout": 1.0}), "`attention_dropout`"),
        (json!({"torch_dtype": null, "dtype": "int8"}), "int8"),
    ];
    for (change, names) in cases {
        let error = with("llama", change.clone()).unwrap_err().to_string();
        assert!(error.contains(names), "{change}: {error}");
    }
    for key in
        ["model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
    {
        let error = without("llama", &[key]).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}` is missing")), "{error}");
    }
}

#[test]
fn silence_means_what_transformers_assumes() {
    let llama =
        without("llama", &["num_key_value_heads", "head_dim", "rope_parameters", "tie_word_embeddings"]).unwrap();
    assert_eq!((llama.kv_heads, llama.head_dim, llama.rope.theta), (4, 16, 10_000.0));
    assert!(!llama.tie_word_embeddings);
    assert_eq!(without("mistral", &["sliding_window"]).unwrap().sliding_window, vec![Some(4096); 3]);
    assert_eq!(without("qwen3", &["head_dim"]).unwrap().head_dim, 128);
    assert_eq!(with("llama", json!({"pad_token_id": -1})).unwrap().pad, None);
    assert_eq!(with("llama", json!({"eos_token_id": [7, 2]})).unwrap().eos, [7, 2]);
}

#[test]
fn unknown_keys_are_warnings_unless_they_say_nothing() {
    let config = with("llama", json!({"shiny": 3, "dull": null, "flat": false, "use_cache": false})).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("`shiny`"));
}

proptest! {
    /// Any value in any place gives a configuration that agrees with itself, or an error.
    #[test]
    fn a_changed_file_is_read_or_refused(
        file in 0..CHECKPOINTS.len(), key in any::<prop::sample::Index>(), pick in 0..12usize, n in any::<i64>(), x in any::<f64>(),
    ) {
        let mut value = text(CHECKPOINTS[file]);
        let map = value.as_object_mut().unwrap();
        let key = map.keys().nth(key.index(map.len())).unwrap().clone();
        let new = [
            json!(n), json!(x), json!(null), json!("x"), json!([]), json!({}), json!(true), json!(n % 10), json!([n]),
            json!({"rope_type": "yarn", "factor": x}), json!({"type": "linear", "factor": n}), json!(1u64 << 62),
        ];
        map.insert(key, new[pick].clone());
        if let Ok(config) = Config::from_json(&value) {
            prop_assert_eq!(config.sliding_window.len(), config.layers);
            prop_assert_eq!(config.rope_inv_freq().0.len(), config.rotary_dim() / 2);
            let again = Config::from_json(&config.to_json()).unwrap();
            prop_assert_eq!(again.tensors(), config.tensors());
        }
    }
}
