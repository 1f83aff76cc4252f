//! From `adapter_config.json` to a [`LoraConfig`], refusing by name what would be ignored otherwise.

use postgrad_base::{Error, Result};
use serde_json::{Map, Value};

use super::{LoraConfig, Targets, regex};
use crate::config::idle;

/// Keys that are read below.
const READ: &[&str] = &[
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Bookkeeping, and settings of how fresh adapters are made.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "eva_config",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

/// Settings that change what the adapter computes. null, false, empty lists and objects change nothing.
const REFUSED: &[&str] = &[
    "alora_invocation_tokens",
    "arrow_config",
    "corda_config",
    "ensure_weight_tying",
    "kasa_config",
    "layer_replication",
    "loftq_config",
    "lora_bias",
    "lora_ga_config",
    "megatron_config",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
];

fn refused(key: &str, value: &Value) -> Error {
    let text: String = value.to_string().chars().take(60).collect();
    Error::usage(format!("`{key}` is {text}: that is not supported"))
}

impl LoraConfig {
    /// From the parsed text of an `adapter_config.json`.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Value::Object(map) = value else { return Err(Error::usage("adapter_config.json is not an object")) };
        let get = |key: &str| map.get(key).filter(|v| !v.is_null());
        let wrong = |key: &str, want: &str| Error::usage(format!("`{key}` is {}, not {want}", map[key]));
        kind(map)?;
        let mut warnings = vec![];
        for (key, value) in map.iter().filter(|(_, value)| !idle(value)) {
            if REFUSED.contains(&key.as_str()) {
                return Err(refused(key, value));
            }
            if !READ.contains(&key.as_str()) && !HARMLESS.contains(&key.as_str()) {
                warnings.push(format!("adapter_config.json: `{key}` is not known here and was not used: {value}"));
            }
        }
        let text = |key: &str| match get(key) {
            None => Ok(None),
            Some(v) => v.as_str().map(Some).ok_or_else(|| wrong(key, "a text")),
        };
        let flag = |key: &str| match get(key) {
            None => Ok(false),
            Some(v) => v.as_bool().ok_or_else(|| wrong(key, "true or false")),
        };
        let float = |key: &str, silent: f64| match get(key) {
            None => Ok(silent),
            Some(v) => v.as_f64().ok_or_else(|| wrong(key, "a number")),
        };
        if let Some(bias) = text("bias")?.filter(|b| *b != "none") {
            return Err(refused("bias", &bias.into()).help("only \"none\" is supported"));
        }
        if let Some(task) = text("task_type")?.filter(|t| !matches!(*t, "CAUSAL_LM" | "FEATURE_EXTRACTION")) {
            return Err(refused("task_type", &task.into()).help("only CAUSAL_LM is supported"));
        }
        if flag("fan_in_fan_out")? {
            warnings
                .push("adapter_config.json: `fan_in_fan_out` means nothing for linear layers and was not used".into());
        }
        initialisation(get("init_lora_weights"))?;
        let r = match get("r") {
            None => 8,
            Some(v) => rank(v).ok_or_else(|| wrong("r", "a whole number of at least 1"))?,
        };
        let dropout = float("lora_dropout", 0.0)?;
        if !(0.0..1.0).contains(&dropout) {
            return Err(wrong("lora_dropout", "in [0, 1)"));
        }
        let targets = targets(get("target_modules"))
            .and_then(|t| if t == Some(Targets::Names(vec![])) { None } else { Some(t) })
            .ok_or_else(|| wrong("target_modules", "a list of names or a text"))?
            .ok_or_else(|| Error::usage("`target_modules` is missing"))?;
        let exclude =
            targets_of(get("exclude_modules")).ok_or_else(|| wrong("exclude_modules", "a list of names or a text"))?;
        let strings = |key: &str| match get(key) {
            None => Ok(vec![]),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(list) => names(list).ok_or_else(|| wrong(key, "a list of names")),
        };
        let layers = match get("layers_to_transform") {
            None => None,
            Some(Value::Array(list)) => {
                let all: Option<Vec<usize>> = list.iter().map(index).collect();
                Some(all.ok_or_else(|| wrong("layers_to_transform", "a list of layers"))?)
            }
            Some(one) => Some(vec![index(one).ok_or_else(|| wrong("layers_to_transform", "a list of layers"))?]),
        };
        let config = Self {
            base_model: text("base_model_name_or_path")?.map(str::to_string),
            r,
            alpha: float("lora_alpha", 8.0)?,
            dropout,
            rslora: flag("use_rslora")?,
            targets,
            exclude,
            layers,
            layers_pattern: strings("layers_pattern")?,
            rank_pattern: pattern(get("rank_pattern"), rank)
                .ok_or_else(|| wrong("rank_pattern", "names with ranks"))?,
            alpha_pattern: pattern(get("alpha_pattern"), Value::as_f64)
                .ok_or_else(|| wrong("alpha_pattern", "names with numbers"))?,
            warnings,
        };
        config.check_patterns()?;
        Ok(config)
    }

    /// Every regular expression is one.
    fn check_patterns(&self) -> Result<()> {
        let whole = [Some(&self.targets), self.exclude.as_ref()];
        for targets in whole.into_iter().flatten() {
            if let Targets::Pattern(pattern) = targets {
                regex(pattern)?;
            }
        }
        let keys = self.rank_pattern.iter().map(|(k, _)| k).chain(self.alpha_pattern.iter().map(|(k, _)| k));
        keys.chain(&self.layers_pattern).try_for_each(|pattern| regex(pattern).map(drop))
    }
}

fn kind(map: &Map<String, Value>) -> Result<()> {
    match map.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => Ok(()),
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            Err(Error::usage(format!("adapters of the kind `{other}` are not supported")).help("supported: LORA"))
        }
        None => Err(Error::usage("`peft_type` is missing").help("supported: LORA")),
    }
}

/// Some ways to make a fresh adapter change the base weights too; PEFT repeats that on loading.
fn initialisation(value: Option<&Value>) -> Result<()> {
    match value {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::String(name)) if matches!(name.as_str(), "gaussian" | "eva" | "orthogonal") => Ok(()),
        Some(other) => Err(refused("init_lora_weights", other).help(
            "such an adapter belongs to changed base weights; save it with PEFT's path_initial_model_for_weight_conversion",
        )),
    }
}

fn rank(value: &Value) -> Option<usize> {
    value.as_u64().filter(|r| (1..=1 << 20).contains(r)).map(|r| r as usize)
}

fn index(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|i| usize::try_from(i).ok())
}

fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|v| v.as_str().map(str::to_string)).collect()
}

/// Outer none: of a wrong type. Inner none: absent.
fn targets(value: Option<&Value>) -> Option<Option<Targets>> {
    match value {
        Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => Some(Some(Targets::AllLinear)),
        _ => targets_of(value),
    }
}

fn targets_of(value: Option<&Value>) -> Option<Option<Targets>> {
    match value {
        None => Some(None),
        Some(Value::String(pattern)) => Some(Some(Targets::Pattern(pattern.clone()))),
        Some(list) => names(list).map(|names| Some(Targets::Names(names))),
    }
}

/// The pairs of an object, in its order (the first match counts).
fn pattern<T>(value: Option<&Value>, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<(String, T)>> {
    match value {
        None => Some(vec![]),
        Some(Value::Object(map)) => map.iter().map(|(key, v)| read(v).map(|v| (key.clone(), v))).collect(),
        Some(_) => None,
    }
}
