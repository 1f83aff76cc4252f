use std::fs;
use std::path::PathBuf;

use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::json;
use tempfile::{TempDir, tempdir};

use super::*;

const CHECKPOINTS: [&str; 9] =
    ["llama", "llama-tied", "llama3-rope", "mistral", "qwen2", "qwen3", "llama-old", "qwen2-old", "mistral-old"];

fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/hf").join(name)
}

fn model(name: &str) -> (Config, Vec<(String, Tensor)>) {
    let config = Config::read(&dir(name)).unwrap();
    let weights = read_weights(&dir(name), &config).unwrap();
    (config, weights.into_iter().collect())
}

/// A folder with the given weights.
fn saved(weights: &[(String, Tensor)], dtype: Dtype, most: usize) -> TempDir {
    let temp = tempdir().unwrap();
    write_weights(temp.path(), weights, dtype, most).unwrap();
    temp
}

fn refusal(dir: &Path, config: &Config) -> String {
    read_weights(dir, config).unwrap_err().to_string()
}

#[test]
fn every_checkpoint_loads() {
    for name in CHECKPOINTS {
        let (config, weights) = model(name);
        let shapes: BTreeMap<_, _> = config.tensors().into_iter().collect();
        assert_eq!(weights.len(), shapes.len());
        for (tensor, value) in &weights {
            assert_eq!(value.dims(), shapes[tensor], "{name} {tensor}");
            assert!(value.data().iter().all(|x| x.is_finite()));
        }
    }
}

/// Bytes at a place of the file, read without the reader.
#[test]
fn values_are_those_of_the_file() {
    let (_, weights) = model("qwen3");
    let bytes = fs::read(dir("qwen3").join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    for (name, tensor) in &weights {
        let at = 8 + length + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
        for (i, x) in tensor.data().iter().enumerate() {
            assert_eq!(x.to_le_bytes(), bytes[at + 4 * i..at + 4 * i + 4], "{name}[{i}]");
        }
    }
}

#[test]
fn expected_values_have_floats_and_ids() {
    let all = read_safetensors(&dir("llama").join("expected.safetensors")).unwrap();
    assert_eq!(all["logits"].float().unwrap().dims(), [2, 40, 160]);
    assert_eq!(all["input_ids"].shape(), [2, 40]);
    assert!(all["input_ids"].ints().unwrap().iter().all(|id| (0..160).contains(id)));
    assert!(all["logits"].ints().is_none() && all["greedy"].float().is_none());
}

#[test]
fn a_save_reads_back_in_every_storage_whole_and_sharded() {
    let (config, weights) = model("qwen2");
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        for most in [usize::MAX, 50_000, 1] {
            let temp = saved(&weights, dtype, most);
            let shards = Shards::open(temp.path()).unwrap();
            let files = fs::read_dir(temp.path()).unwrap().count();
            assert_eq!(files == 1, most == usize::MAX, "an index only beside shards");
            if most == 1 {
                assert_eq!(files, weights.len() + 1);
            }
            let back = read_weights(temp.path(), &config).unwrap();
            for (name, tensor) in &weights {
                assert_eq!(shards.dtype(name), Some(dtype));
                for (got, x) in back[name].data().iter().zip(tensor.data()) {
                    let want = match dtype {
                        Dtype::F32 => *x,
                        Dtype::Bf16 => bf16::from_f32(*x).to_f32(),
                        Dtype::F16 => f16::from_f32(*x).to_f32(),
                    };
                    assert_eq!(*got, want, "{name}");
                }
            }
            assert_eq!(back.len(), weights.len());
        }
    }
}

#[test]
fn narrow_storage_rounds_to_even_and_refuses_overflow() {
    let one = |x: f32| vec![("w".to_string(), Tensor::new(vec![x], &[1]))];
    let through = |x: f32, dtype: Dtype| {
        let temp = tempdir().unwrap();
        write_weights(temp.path(), &one(x), dtype, usize::MAX)
            .map(|()| Shards::open(temp.path()).unwrap().load("w").unwrap().item())
    };
    // Halfway between 1 and the next bfloat16 (1 + 2^-7) goes to the even 1; halfway above 1 + 2^-7 goes up.
    assert_eq!(through(1.0 + 2f32.powi(-8), Dtype::Bf16).unwrap(), 1.0);
    assert_eq!(through(1.0 + 3.0 * 2f32.powi(-8), Dtype::Bf16).unwrap(), 1.0 + 2f32.powi(-6));
    assert_eq!(through(1.0 + 2f32.powi(-8) + 2f32.powi(-20), Dtype::Bf16).unwrap(), 1.0 + 2f32.powi(-7));
    assert_eq!(through(1.0 + 2f32.powi(-11), Dtype::F16).unwrap(), 1.0);
    assert_eq!(through(2f32.powi(-24), Dtype::F16).unwrap(), 2f32.powi(-24));
    assert_eq!(through(65_519.0, Dtype::F16).unwrap(), 65_504.0);
    assert!(through(65_520.0, Dtype::F16).unwrap_err().to_string().contains("too large for float16"));
    assert!(through(f32::MAX, Dtype::Bf16).unwrap_err().to_string().contains("too large for bfloat16"));
    assert_eq!(through(f32::MAX, Dtype::F32).unwrap(), f32::MAX);
    assert!(through(f32::NAN, Dtype::Bf16).unwrap().is_nan());
    assert_eq!(through(f32::INFINITY, Dtype::F16).unwrap(), f32::INFINITY);
}

#[test]
fn a_second_save_leaves_nothing_of_the_first() {
    let (config, weights) = model("llama");
    let temp = saved(&weights, Dtype::F32, 50_000);
    fs::write(temp.path().join("model-card.safetensors"), "mine").unwrap();
    for most in [usize::MAX, 80_000, usize::MAX] {
        write_weights(temp.path(), &weights, Dtype::F32, most).unwrap();
        read_weights(temp.path(), &config).unwrap();
        assert_eq!(temp.path().join("model.safetensors").exists(), most == usize::MAX);
        assert_eq!(temp.path().join("model.safetensors.index.json").exists(), most != usize::MAX);
        assert!(temp.path().join("model-card.safetensors").exists());
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
}

#[test]
fn a_failed_save_keeps_the_first() {
    let (config, mut weights) = model("llama");
    let temp = saved(&weights, Dtype::F32, usize::MAX);
    weights.push(("model.huge".into(), Tensor::new(vec![1e6], &[1])));
    assert!(write_weights(temp.path(), &weights, Dtype::F16, usize::MAX).is_err());
    read_weights(temp.path(), &config).unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    let twice = vec![weights[0].clone(), weights[0].clone()];
    assert!(
        write_weights(temp.path(), &twice, Dtype::F32, usize::MAX).unwrap_err().to_string().contains("two tensors")
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let (config, weights) = model("llama");
    let but = |change: fn(&mut Vec<(String, Tensor)>)| {
        let mut changed = weights.clone();
        change(&mut changed);
        refusal(saved(&changed, Dtype::F32, usize::MAX).path(), &config)
    };
    const Q: &str = "model.layers.1.self_attn.q_proj.weight";
    let error = but(|w| w.retain(|(name, _)| name != Q));
    assert!(error.contains("1 of 30 tensors are missing") && error.contains(Q), "{error}");
    let error = but(|w| w.retain(|(name, _)| name != "lm_head.weight"));
    assert!(error.contains("`lm_head.weight`") && error.contains("tie_word_embeddings"), "{error}");
    let error = but(|w| w.push(("model.layers.0.self_attn.q_proj.bias".into(), Tensor::zeros(&[64]))));
    assert!(error.contains("unexpected") && error.contains("q_proj.bias"), "{error}");
    let error = but(|w| w.iter_mut().filter(|(name, _)| name == Q).for_each(|(_, t)| *t = t.reshape(&[32, 128])));
    assert!(error.contains(Q) && error.contains("[32, 128]") && error.contains("[64, 64]"), "{error}");
    let mut buffered = weights.clone();
    buffered.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), Tensor::zeros(&[8])));
    let temp = saved(&buffered, Dtype::F32, usize::MAX);
    assert_eq!(read_weights(temp.path(), &config).unwrap().len(), weights.len());
}

#[test]
fn a_tied_head_may_be_stored_if_it_is_the_embedding() {
    let (config, mut weights) = model("llama-tied");
    let embedding = weights.iter().find(|(name, _)| name == EMBEDDING).unwrap().1.clone();
    weights.push((HEAD.into(), embedding.clone()));
    let temp = saved(&weights, Dtype::Bf16, usize::MAX);
    assert!(!read_weights(temp.path(), &config).unwrap().contains_key(HEAD));
    weights.last_mut().unwrap().1 = Tensor::zeros(embedding.dims());
    let error = refusal(saved(&weights, Dtype::F32, usize::MAX).path(), &config);
    assert!(error.contains("differs") && error.contains("tie_word_embeddings"), "{error}");
    weights.last_mut().unwrap().1 = Tensor::zeros(&[3]);
    assert!(refusal(saved(&weights, Dtype::F32, usize::MAX).path(), &config).contains("[3]"));
}

#[test]
fn missing_files_and_pickles_have_their_help() {
    let (config, weights) = model("llama");
    let temp = tempdir().unwrap();
    assert!(refusal(temp.path(), &config).contains("no weights"));
    fs::write(temp.path().join("pytorch_model.bin"), "x").unwrap();
    let error = refusal(temp.path(), &config);
    assert!(error.contains("pickle") && error.contains("save_pretrained"), "{error}");
    let temp = saved(&weights, Dtype::F32, 50_000);
    fs::remove_file(
        fs::read_dir(temp.path())
            .unwrap()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.to_string_lossy().contains("-of-"))
            .min()
            .unwrap(),
    )
    .unwrap();
    let error = refusal(temp.path(), &config);
    assert!(error.contains("shards are missing: model-00001-of-"), "{error}");
}

#[test]
fn an_index_cannot_leave_its_folder_nor_lie() {
    let (config, weights) = model("llama");
    let temp = saved(&weights, Dtype::F32, 300_000);
    let path = temp.path().join("model.safetensors.index.json");
    let index: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    fs::write(temp.path().join("other.bin"), "x").unwrap();
    let hostile = [
        "../model.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        "",
        ".",
        "other.bin",
        "./x.safetensors",
        "x.safetensors/",
        "a\\b.safetensors",
        "\u{0}.safetensors",
    ];
    for name in hostile {
        let mut bad = index.clone();
        bad["weight_map"]["model.norm.weight"] = json!(name);
        fs::write(&path, bad.to_string()).unwrap();
        let error = refusal(temp.path(), &config);
        assert!(error.contains("not a file name of this folder"), "{name:?}: {error}");
    }
    let mut moved = index.clone();
    moved["weight_map"]["model.norm.weight"] = moved["weight_map"][EMBEDDING].clone();
    let mut ghost = index.clone();
    ghost["weight_map"]["ghost"] = ghost["weight_map"][EMBEDDING].clone();
    for (lie, what) in
        [(moved, "where the index places it"), (ghost, "where the index places it"), (json!([]), "weight_map")]
    {
        fs::write(&path, lie.to_string()).unwrap();
        let error = refusal(temp.path(), &config);
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn any_tensors_and_texts_round_trip() {
    let temp = tempdir().unwrap();
    let path = temp.path().join("state.safetensors");
    let all = BTreeMap::from([
        ("m".to_string(), AnyTensor::Float(Tensor::new(vec![1.5, -2.0, 3.25], &[3]))),
        ("step".to_string(), AnyTensor::Int { values: vec![i64::MAX, -1], shape: vec![2, 1] }),
        ("empty".to_string(), AnyTensor::Float(Tensor::zeros(&[0, 4]))),
        ("scalar".to_string(), AnyTensor::Float(Tensor::scalar(7.0))),
    ]);
    write_safetensors(&path, &all, &BTreeMap::from([("format".into(), "pt".into())])).unwrap();
    let back = read_safetensors(&path).unwrap();
    assert_eq!(back.len(), 4);
    assert_eq!(back["m"].float().unwrap().data(), [1.5, -2.0, 3.25]);
    assert_eq!((back["step"].ints().unwrap(), back["step"].shape()), (&[i64::MAX, -1][..], &[2, 1][..]));
    assert_eq!(back["empty"].shape(), [0, 4]);
    assert_eq!(back["scalar"].float().unwrap().item(), 7.0);
    let wrong = BTreeMap::from([("x".to_string(), AnyTensor::Int { values: vec![1], shape: vec![2] })]);
    assert!(write_safetensors(&path, &wrong, &BTreeMap::new()).is_err());
}

/// A file with this header and this much data.
fn file_of(header: &str, data: usize) -> (TempDir, PathBuf) {
    let temp = tempdir().unwrap();
    let path = temp.path().join("model.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(&path, bytes).unwrap();
    (temp, path)
}

#[test]
fn hostile_headers_are_errors() {
    let huge = usize::MAX / 8 / 4 * 4;
    let eight: Vec<String> = (0..8)
        .map(|i: usize| {
            format!(
                r#""t{i}":{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}}"#,
                huge / 4,
                huge * i,
                huge * (i + 1)
            )
        })
        .collect();
    let headers = [
        String::new(),
        "{".into(),
        "[]".into(),
        "[".repeat(100_000),
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#.into(),
        r#"{"a":{"dtype":"X","shape":[2],"data_offsets":[0,8]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[2,1,1,1,1,1,1],"data_offsets":[0,8]}}"#.into(),
        format!("{{{}}}", eight.join(",")),
    ];
    for header in headers {
        let (_temp, path) = file_of(&header, 8);
        assert!(read_safetensors(&path).is_err(), "{}", &header[..header.len().min(80)]);
    }
    let (_temp, path) = file_of(r#"{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#, 8);
    assert!(read_safetensors(&path).unwrap_err().to_string().contains("F8_E4M3"));
    let (_temp, path) = file_of(r#"{"a":{"dtype":"BOOL","shape":[8],"data_offsets":[0,8]}}"#, 8);
    assert_eq!(read_safetensors(&path).unwrap()["a"].ints().unwrap(), [0; 8]);
    let temp = tempdir().unwrap();
    let path = temp.path().join("x.safetensors");
    for length in [0u64, 1, 1 << 20, 1 << 40, u64::MAX, u64::MAX - 7] {
        for bytes in [&length.to_le_bytes()[..], &length.to_le_bytes()[..5], &[]] {
            fs::write(&path, bytes).unwrap();
            assert!(read_safetensors(&path).is_err());
        }
    }
    assert!(read_safetensors(temp.path()).is_err(), "a folder is no file");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens to the bytes, reading ends in tensors or an error.
    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6), cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let temp = tempdir().unwrap();
        let path = temp.path().join("model.safetensors");
        let all = BTreeMap::from([
            ("a".to_string(), AnyTensor::Float(Tensor::zeros(&[2, 3]))),
            ("b".to_string(), AnyTensor::Int { values: vec![1, 2, 3], shape: vec![3] }),
        ]);
        write_safetensors(&path, &all, &BTreeMap::new()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.len();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, byte, anywhere) in edits {
            let i = at.index(if anywhere { bytes.len() } else { header });
            // Digits and letters reach deeper than arbitrary bytes do.
            bytes[i] = if anywhere { byte } else { b"0123456789F{}[]\",:6"[byte as usize % 19] };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        let read = read_safetensors(&path);
        if bytes.len() < whole {
            prop_assert!(read.is_err());
        }
        if let Ok(all) = read {
            for tensor in all.values() {
                let n: usize = tensor.shape().iter().product();
                prop_assert!(tensor.float().is_none_or(|t| t.data().len() == n));
                prop_assert!(tensor.ints().is_none_or(|v| v.len() == n));
            }
        }
    }
}

#[test]
fn generation_defaults_have_every_end_id() {
    let chat = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
    let config = Config::read(&chat).unwrap();
    assert_eq!(config.eos, [4, 2]);
    let defaults = GenerationDefaults::read(&chat, &config).unwrap();
    assert_eq!((&defaults.eos[..], defaults.bos, defaults.pad), (&[2, 4][..], Some(1), Some(0)));
    assert_eq!((defaults.temperature, defaults.do_sample, defaults.warnings.len()), (None, None, 0));
    let empty = tempdir().unwrap();
    assert_eq!(GenerationDefaults::read(empty.path(), &config).unwrap().eos, [2, 4]);
    let said = json!({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0,
        "repetition_penalty": 1.05, "max_new_tokens": 512, "eos_token_id": [151645, 151643, 151645],
        "num_beams": 4, "typical_p": 1.0, "bad_words_ids": null, "no_repeat_ngram_size": 0});
    let read = GenerationDefaults::from_json(&said).unwrap();
    assert_eq!((read.do_sample, read.temperature, read.top_k), (Some(true), Some(0.6), Some(20)));
    assert_eq!((read.top_p, read.min_p, read.repetition_penalty), (Some(0.95), Some(0.0), Some(1.05)));
    assert_eq!((read.max_new_tokens, &read.eos[..]), (Some(512), &[151643, 151645][..]));
    assert_eq!(read.warnings.len(), 1);
    assert!(read.warnings[0].contains("`num_beams` is 4"));
    for (bad, key) in [
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"top_k": -1}), "top_k"),
        (json!({"do_sample": 1}), "do_sample"),
        (json!({"eos_token_id": "</s>"}), "eos_token_id"),
        (json!([]), "object"),
    ] {
        assert!(GenerationDefaults::from_json(&bad).unwrap_err().to_string().contains(key));
    }
}
