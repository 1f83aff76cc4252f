//! How a model's makers mean it to be sampled: `generation_config.json`.

use std::path::Path;

use postgrad_base::{Context, Error, Result};
use serde_json::Value;

use crate::config::Config;

/// The settings a file gives; what it does not give is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// False or absent: greedy.
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub max_new_tokens: Option<usize>,
    pub bos: Option<u32>,
    pub pad: Option<u32>,
    /// Every id that ends a generation, sorted; those of `config.json` where the file names none.
    pub eos: Vec<u32>,
    /// Settings that ask for another kind of decoding and are not used.
    pub warnings: Vec<String>,
}

/// Settings that would change what is generated, with the value that changes nothing.
const UNUSED: &[(&str, f64)] = &[
    ("diversity_penalty", 0.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("guidance_scale", 1.0),
    ("length_penalty", 1.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("num_beam_groups", 1.0),
    ("num_beams", 1.0),
    ("penalty_alpha", 0.0),
    ("presence_penalty", 0.0),
    ("frequency_penalty", 0.0),
    ("top_h", 0.0),
    ("typical_p", 1.0),
    ("bad_words_ids", f64::NAN),
    ("begin_suppress_tokens", f64::NAN),
    ("exponential_decay_length_penalty", f64::NAN),
    ("forced_bos_token_id", f64::NAN),
    ("forced_eos_token_id", f64::NAN),
    ("sequence_bias", f64::NAN),
    ("stop_strings", f64::NAN),
    ("suppress_tokens", f64::NAN),
];

impl GenerationDefaults {
    /// Reads `dir/generation_config.json`; without one, only the end ids of `config` are known.
    pub fn read(dir: &Path, config: &Config) -> Result<Self> {
        let path = dir.join("generation_config.json");
        let mut defaults = if path.is_file() {
            let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
            let value: Value = serde_json::from_str(&text)
                .context(|| "generation_config.json is not JSON".into())
                .map_err(|e| e.at(path.display()))?;
            Self::from_json(&value).map_err(|e| e.at(path.display()))?
        } else {
            Self::default()
        };
        if defaults.eos.is_empty() {
            defaults.eos = config.eos.clone();
            defaults.eos.sort_unstable();
            defaults.eos.dedup();
        }
        defaults.bos = defaults.bos.or(config.bos);
        defaults.pad = defaults.pad.or(config.pad);
        Ok(defaults)
    }

    /// From the parsed text of the file alone.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Value::Object(map) = value else { return Err(Error::usage("generation_config.json is not an object")) };
        let get = |key: &str| map.get(key).filter(|v| !v.is_null());
        let wrong = |key: &str, want: &str| Error::usage(format!("`{key}` is {}, not {want}", map[key]));
        let number = |key: &str, low: f64, high: f64| match get(key) {
            None => Ok(None),
            Some(v) => match v.as_f64() {
                Some(x) if (low..=high).contains(&x) => Ok(Some(x as f32)),
                Some(_) => Err(wrong(key, &format!("between {low} and {high}"))),
                None => Err(wrong(key, "a number")),
            },
        };
        let count = |key: &str| match get(key) {
            None => Ok(None),
            Some(v) => {
                v.as_u64().and_then(|x| usize::try_from(x).ok()).map(Some).ok_or_else(|| wrong(key, "a whole number"))
            }
        };
        let ids = |key: &str| -> Result<Vec<u32>> {
            let list = match get(key) {
                None => return Ok(vec![]),
                Some(Value::Array(list)) => list.clone(),
                Some(one) => vec![one.clone()],
            };
            let one = |v: &Value| v.as_u64().and_then(|x| u32::try_from(x).ok());
            // -1 is an old way to say none.
            let said = list.iter().filter(|v| v.as_i64().is_none_or(|x| x >= 0));
            said.map(|v| one(v).ok_or_else(|| wrong(key, "a token id or a list of them"))).collect()
        };
        let do_sample = match get("do_sample") {
            None => None,
            Some(v) => Some(v.as_bool().ok_or_else(|| wrong("do_sample", "true or false"))?),
        };
        let mut eos = ids("eos_token_id")?;
        eos.sort_unstable();
        eos.dedup();
        let warnings = UNUSED
            .iter()
            .filter_map(|(key, nothing)| get(key).map(|value| (key, nothing, value)))
            .filter(|(_, nothing, value)| value.as_f64() != Some(**nothing) && *value != &Value::Array(vec![]))
            .map(|(key, _, value)| format!("generation_config.json: `{key}` is {value}, which is not used"))
            .collect();
        Ok(Self {
            do_sample,
            temperature: number("temperature", 0.0, 1e6)?,
            top_k: count("top_k")?,
            top_p: number("top_p", 0.0, 1.0)?,
            min_p: number("min_p", 0.0, 1.0)?,
            repetition_penalty: number("repetition_penalty", 1e-6, 1e6)?,
            max_new_tokens: count("max_new_tokens")?,
            bos: ids("bos_token_id")?.first().copied(),
            pad: ids("pad_token_id")?.first().copied(),
            eos,
            warnings,
        })
    }
}
