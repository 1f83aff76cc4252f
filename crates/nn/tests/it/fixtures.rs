//! Folders of expected numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use postgrad_nn::Decoder;
use postgrad_nn::checkpoint::{AnyTensor, read_safetensors, read_weights};
use postgrad_nn::config::Config;

pub const FAMILIES: [&str; 9] =
    ["llama", "llama-tied", "llama3-rope", "mistral", "qwen2", "qwen3", "llama-old", "qwen2-old", "mistral-old"];

pub fn path(parts: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(parts)
}

pub fn decoder(family: &str) -> Decoder {
    let dir = path(&format!("hf/{family}"));
    let config = Config::read(&dir).unwrap();
    let weights = read_weights(&dir, &config).unwrap();
    Decoder::new(config, weights).unwrap()
}

pub struct Expected(BTreeMap<String, AnyTensor>);

impl Expected {
    pub fn read(folder: &str) -> Self {
        Self(read_safetensors(&path(folder).join("expected.safetensors")).unwrap())
    }

    pub fn float(&self, name: &str) -> &[f32] {
        self.0[name].float().unwrap_or_else(|| panic!("{name} is no float tensor")).data()
    }

    pub fn ids(&self, name: &str) -> (Vec<u32>, Vec<usize>) {
        let t = &self.0[name];
        (t.ints().unwrap().iter().map(|i| *i as u32).collect(), t.shape().to_vec())
    }

    pub fn grads(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.0.iter().filter_map(|(n, t)| Some((n.strip_prefix("grad.")?, t.float()?.data())))
    }
}

/// The largest difference, relative to the largest wanted value.
pub fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    got.iter()
        .zip(want)
        .fold(0.0, |m, (g, w)| if g.is_nan() { f32::INFINITY } else { f32::max(m, (g - w).abs() / scale) })
}
