//! `check`: fixtures pass, tampered numbers do not.

use std::collections::BTreeMap;

use postgrad_nn::checkpoint::{AnyTensor, write_safetensors};
use postgrad_tensor::Tensor;

use crate::{Place, fixture};

fn path(parts: &str) -> String {
    fixture(parts).to_str().unwrap().to_string()
}

#[test]
fn fixtures_pass() {
    let place = Place::new();
    for family in ["llama-tied", "qwen3", "mistral-old"] {
        let (dir, file) = (path(&format!("hf/{family}")), path(&format!("hf/{family}/expected.safetensors")));
        let found = place.call(&["check", &dir, "--against", &file, "--json"]).json();
        let kinds: Vec<&str> =
            found["checks"].as_array().unwrap().iter().map(|c| c["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["logits", "loss", "gradients", "greedy"], "{family}");
        assert_eq!(found["within"], true, "{family}: {found}");
        assert!(found["checks"][2]["where"].as_str().unwrap().contains("weight"));
    }
    let (dir, file) = (path("hf/llama"), path("peft/lora/expected.safetensors"));
    let with = ["check", &dir, "--against", &file, "--adapter", &path("peft/lora")];
    assert!(place.call(&with).ok().contains("logits"));
    place.call(&with[..4]).fails(1, &["past the tolerance: logits"]);
    // Nothing agrees to the last bit of everything.
    let exact = ["check", &path("hf/qwen3"), "--against", &path("hf/qwen3/expected.safetensors"), "--tolerance", "0"];
    place.call(&exact).fails(1, &["past the tolerance", "logits", "gradients"]);
}

#[test]
fn one_wrong_number_fails() {
    let place = Place::new();
    let dir = path("hf/llama");
    let source = fixture("hf/llama/expected.safetensors");
    for (name, index, kind) in
        [("logits", 77, "logits"), ("loss", 0, "loss"), ("grad.model.norm.weight", 3, "gradients")]
    {
        place.tamper(&source, name, |values| {
            let scale = values.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            values[index] += scale * 0.01;
        });
        let said = place.call(&["check", &dir, "--against", "tampered.safetensors"]);
        assert!(said.out.contains("PAST"), "{}", said.out);
        said.fails(1, &["past the tolerance", kind]);
    }
    place.tamper(&source, "logits", |values| values[0] = f32::NAN);
    place.call(&["check", &dir, "--against", "tampered.safetensors"]).fails(1, &["logits"]);
    let mut bytes = std::fs::read(&source).unwrap();
    let (start, end) = span(&bytes, "greedy");
    bytes[end - 8] ^= 1;
    assert!(start < end);
    std::fs::write(place.path("tampered.safetensors"), &bytes).unwrap();
    place.call(&["check", &dir, "--against", "tampered.safetensors"]).fails(1, &["past the tolerance: greedy"]);
    place.call(&["check", &dir, "--against", "tampered.safetensors", "--greedy-misses", "1"]).ok();
}

/// Where a tensor's bytes lie in a safetensors file.
fn span(bytes: &[u8], name: &str) -> (usize, usize) {
    let head = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + head]).unwrap();
    let at = |i: usize| 8 + head + header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    (at(0), at(1))
}

impl Place {
    /// A copy of a file of expected numbers, float32 values of one tensor changed.
    fn tamper(&self, source: &std::path::Path, name: &str, change: impl Fn(&mut [f32])) {
        let mut bytes = std::fs::read(source).unwrap();
        let (start, end) = span(&bytes, name);
        let mut values: Vec<f32> =
            bytes[start..end].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        change(&mut values);
        bytes.splice(start..end, values.iter().flat_map(|v| v.to_le_bytes()));
        std::fs::write(self.path("tampered.safetensors"), bytes).unwrap();
    }
}

#[test]
fn bad_input_is_named() {
    let place = Place::new();
    let (dir, file) = (path("hf/llama"), path("hf/llama/expected.safetensors"));
    place.call(&["check", "nowhere", "--against", &file]).fails(2, &["no model `nowhere`"]);
    place.call(&["check", &dir, "--against", "nothing.safetensors"]).fails(2, &["no file nothing.safetensors"]);
    place.call(&["check", &dir, "--against", &file, "--adapter", "nowhere"]).fails(2, &["adapter_config.json"]);
    place.call(&["check", &dir, "--against", &file, "--tolerance", "-1"]).fails(2, &[]);
    // Another model's numbers: other names, other shapes.
    let other = path("hf/qwen3/expected.safetensors");
    let said = place.call(&["check", &dir, "--against", &other]);
    assert!(said.code != Some(0));
    place
        .call(&["check", &path("hf/gpt2"), "--against", &path("hf/gpt2/expected.safetensors")])
        .fails(2, &["gpt2", "supported"]);
    place.write("junk.safetensors", "junk");
    let said = place.call(&["check", &dir, "--against", "junk.safetensors"]);
    assert!(said.code == Some(1) && said.err.contains("junk.safetensors"), "{}", said.err);
    let one = BTreeMap::from([("loss".to_string(), AnyTensor::Float(Tensor::new(vec![1.0], &[1])))]);
    write_safetensors(&place.path("noids.safetensors"), &one, &BTreeMap::new()).unwrap();
    place.call(&["check", &dir, "--against", "noids.safetensors"]).fails(2, &["input_ids"]);
}
