//! LoRA adapters in PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! ```no_run
//! use postgrad_nn::{config::Config, peft::LoraFile};
//! let base = Config::read("base".as_ref())?;
//! let lora = LoraFile::read("adapter".as_ref())?;
//! lora.check(&base)?;
//! for (module, side) in &lora.weights {
//!     println!("{module}: rank {}, scaling {}", side.a.dim(0), side.scaling);
//! }
//! # Ok::<(), postgrad_base::Error>(())
//! ```
//!
//! What is selected, and with which rank and alpha, follows PEFT: names match whole or as the end of a path, a text is a
//! regular expression of the whole path, patterns match the end of a path. Left out on purpose: DoRA and other variants of
//! LoRA, adapters of other kinds, trained biases and whole modules beside the adapter; each is refused by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fancy_regex::Regex;
use postgrad_base::{Context, Error, Result};
use postgrad_tensor::Tensor;
use serde_json::{Map, Value, json};

use crate::checkpoint::{AnyTensor, read_safetensors, write_safetensors};
use crate::config::Config;

mod read;
#[cfg(test)]
mod tests;

/// What every name in `adapter_model.safetensors` begins with.
const PREFIX: &str = "base_model.model.";

/// Which modules have an adapter.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Every linear layer but the output head.
    AllLinear,
    /// Module paths or their ends (`q_proj`).
    Names(Vec<String>),
    /// A regular expression of the whole module path, in Python's spelling.
    Pattern(String),
}

/// The settings of `adapter_config.json` for LoRA.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    pub base_model: Option<String>,
    pub r: usize,
    pub alpha: f64,
    pub dropout: f64,
    /// Scaling is `alpha / sqrt(r)` in place of `alpha / r` (Kalajdzievski 2023).
    pub rslora: bool,
    pub targets: Targets,
    /// Modules that have none although they are targets.
    pub exclude: Option<Targets>,
    /// Layers that have adapters (with [`Targets::Names`] alone); all where `None`.
    pub layers: Option<Vec<usize>>,
    /// Names of the list of layers in a path (`layers`); any where empty.
    pub layers_pattern: Vec<String>,
    /// Ranks that differ from `r`: the first pattern that matches the end of a path.
    pub rank_pattern: Vec<(String, usize)>,
    pub alpha_pattern: Vec<(String, f64)>,
    /// What was in the file and is not known here.
    pub warnings: Vec<String>,
}

impl LoraConfig {
    /// A new adapter's settings. Without dropout, plain scaling.
    pub fn new(r: usize, alpha: f64, targets: Targets) -> Self {
        Self {
            base_model: None,
            r,
            alpha,
            dropout: 0.0,
            rslora: false,
            targets,
            exclude: None,
            layers: None,
            layers_pattern: vec![],
            rank_pattern: vec![],
            alpha_pattern: vec![],
            warnings: vec![],
        }
    }

    /// Whether a linear layer (`model.layers.0.self_attn.q_proj`) has an adapter.
    pub fn selects(&self, module: &str) -> Result<bool> {
        if let Some(exclude) = &self.exclude
            && matches(exclude, module)?
        {
            return Ok(false);
        }
        if !matches(&self.targets, module)? {
            return Ok(false);
        }
        let Targets::Names(names) = &self.targets else { return Ok(true) };
        match &self.layers {
            // A module named whole has been chosen, whatever its layer.
            Some(layers) if !names.iter().any(|name| name == module) => {
                Ok(self.layer_of(module)?.is_some_and(|layer| layers.contains(&layer)))
            }
            _ => Ok(true),
        }
    }

    fn layer_of(&self, module: &str) -> Result<Option<usize>> {
        let number = |pattern: &str| -> Result<Option<usize>> {
            let found = regex(pattern)?.captures(module).context(|| format!("cannot match `{pattern}`"))?;
            Ok(found.and_then(|groups| groups.get(1)?.as_str().parse().ok()))
        };
        if self.layers_pattern.is_empty() {
            return number(r"\A.*\.[^.]*\.(\d+)\.");
        }
        for name in &self.layers_pattern {
            if let Some(layer) = number(&format!(r"\A.*\.{name}\.(\d+)\."))? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// The rank of a module's adapter.
    pub fn rank(&self, module: &str) -> Result<usize> {
        Ok(first_match(&self.rank_pattern, module)?.unwrap_or(self.r))
    }

    /// What the product of the two sides is multiplied with.
    pub fn scaling(&self, module: &str) -> Result<f32> {
        let alpha = first_match(&self.alpha_pattern, module)?.unwrap_or(self.alpha);
        let r = self.rank(module)? as f64;
        Ok((alpha / if self.rslora { r.sqrt() } else { r }) as f32)
    }

    /// The linear layers of a base model that have an adapter, in the order of the network.
    ///
    /// # Errors
    /// Nothing is selected.
    pub fn modules(&self, base: &Config) -> Result<Vec<String>> {
        let linear = linear_layers(base);
        let mut selected = vec![];
        for (module, _) in &linear {
            if self.selects(module)? {
                selected.push(module.clone());
            }
        }
        if selected.is_empty() {
            let ends: BTreeSet<&str> = linear.iter().map(|(m, _)| last_name(m)).collect();
            return Err(Error::usage(format!("no module of the model is a target of {:?}", self.targets))
                .help(format!("its linear layers: {}", ends.into_iter().collect::<Vec<_>>().join(", "))));
        }
        Ok(selected)
    }

    /// `adapter_config.json` as PEFT writes and reads it. `modules` are those that have an adapter.
    fn to_json<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Value {
        // The ends stand for "all-linear": a list says it without knowledge of the base model.
        let targets = match &self.targets {
            Targets::AllLinear => json!(modules.map(last_name).collect::<BTreeSet<_>>()),
            Targets::Names(names) => json!(names),
            Targets::Pattern(pattern) => json!(pattern),
        };
        let exclude = match &self.exclude {
            None => Value::Null,
            Some(Targets::Pattern(pattern)) => json!(pattern),
            Some(Targets::Names(names)) => json!(names),
            Some(Targets::AllLinear) => json!(".*"),
        };
        json!({
            "alpha_pattern": self.alpha_pattern.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<Map<_, _>>(),
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "exclude_modules": exclude,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layer_replication": null,
            "layers_pattern": if self.layers_pattern.is_empty() { Value::Null } else { json!(self.layers_pattern) },
            "layers_to_transform": self.layers,
            "lora_alpha": number(self.alpha),
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": self.rank_pattern.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<Map<_, _>>(),
            "revision": null,
            "target_modules": targets,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.rslora,
        })
    }
}

/// PEFT's `lora_alpha` is a whole number where it can be.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e9 { json!(x as i64) } else { json!(x) }
}

fn last_name(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// A regular expression with a bound on its work: the text of an adapter may be hostile.
fn regex(pattern: &str) -> Result<Regex> {
    fancy_regex::RegexBuilder::new(pattern)
        .backtrack_limit(100_000)
        .delegate_size_limit(1 << 20)
        .build()
        .map_err(|e| Error::usage(format!("`{pattern}` is not a regular expression")).because(e))
}

fn is_match(pattern: &str, text: &str) -> Result<bool> {
    regex(pattern)?.is_match(text).map_err(|e| Error::usage(format!("cannot match `{pattern}`")).because(e))
}

fn matches(targets: &Targets, module: &str) -> Result<bool> {
    match targets {
        Targets::AllLinear => Ok(module != "lm_head"),
        Targets::Pattern(pattern) => is_match(&format!(r"\A(?:{pattern})\z"), module),
        Targets::Names(names) => Ok(names.iter().any(|name| is_end(name, module))),
    }
}

/// `name` is the path or its last parts.
fn is_end(name: &str, module: &str) -> bool {
    module.strip_suffix(name).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

fn first_match<T: Copy>(patterns: &[(String, T)], module: &str) -> Result<Option<T>> {
    for (pattern, value) in patterns {
        if is_match(&format!(r"\A(?:.*\.)?(?:{pattern})\z"), module)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

/// Module path and `[out, in]` of every matrix but the embedding.
fn linear_layers(base: &Config) -> Vec<(String, Vec<usize>)> {
    let mut all = base.tensors();
    if base.tie_word_embeddings {
        all.push(("lm_head.weight".into(), vec![base.vocab_size, base.hidden]));
    }
    all.into_iter()
        .filter(|(name, shape)| shape.len() == 2 && !name.ends_with("embed_tokens.weight"))
        .filter_map(|(name, shape)| Some((name.strip_suffix(".weight")?.to_string(), shape)))
        .collect()
}

/// The two sides of one module's adapter: the output gains `scaling * B (A x)`.
#[derive(Clone, Debug)]
pub struct LoraSide {
    /// `[r, in]`
    pub a: Tensor,
    /// `[out, r]`
    pub b: Tensor,
    pub scaling: f32,
}

/// An adapter folder.
#[derive(Clone, Debug)]
pub struct LoraFile {
    pub config: LoraConfig,
    /// By module path in the base model: `model.layers.0.self_attn.q_proj`.
    pub weights: BTreeMap<String, LoraSide>,
}

impl LoraFile {
    /// Reads an adapter folder.
    ///
    /// # Errors
    /// Another kind of adapter or a setting that is not supported (named), a missing side, a rank that is not the
    /// configuration's, a module that is no target, an unexpected tensor, a pickle.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("adapter_config.json");
        if !path.is_file() {
            return Err(Error::usage("there is no adapter_config.json")
                .at(dir.display())
                .help("give a folder that PEFT or postgrad saved an adapter in"));
        }
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let value: Value = serde_json::from_str(&text)
            .context(|| "adapter_config.json is not JSON".into())
            .map_err(|e| e.at(path.display()))?;
        let config = LoraConfig::from_json(&value).map_err(|e| e.at(path.display()))?;
        let file = dir.join("adapter_model.safetensors");
        if !file.is_file() {
            let error = Error::usage("there is no adapter_model.safetensors").at(dir.display());
            return Err(if dir.join("adapter_model.bin").exists() {
                error.help("adapter_model.bin is a pickle, which can run code when it is read; save it again with PEFT")
            } else {
                error.help("the adapter folder is incomplete")
            });
        }
        let weights = sides(&config, read_safetensors(&file)?).map_err(|e| e.at(file.display()))?;
        Ok(Self { config, weights })
    }

    /// Refuses an adapter that does not fit a base model: a module it lacks, another shape, a target without weights.
    pub fn check(&self, base: &Config) -> Result<()> {
        let linear = linear_layers(base);
        let shapes: BTreeMap<&str, &[usize]> = linear.iter().map(|(m, s)| (m.as_str(), &s[..])).collect();
        for (module, side) in &self.weights {
            let Some(shape) = shapes.get(module.as_str()) else {
                return Err(Error::usage(format!("the base model has no linear layer `{module}`"))
                    .help("the adapter belongs to another base model"));
            };
            let found = [side.b.dim(0), side.a.dim(1)];
            if found != **shape {
                return Err(Error::usage(format!(
                    "the adapter of `{module}` is for {found:?}, the base model has {shape:?}"
                ))
                .help("the adapter belongs to another base model"));
            }
        }
        for module in self.config.modules(base)? {
            if !self.weights.contains_key(&module) {
                return Err(Error::usage(format!("`{module}` is a target, but the adapter has no weights for it"))
                    .help("the adapter is incomplete or belongs to another base model"));
            }
        }
        Ok(())
    }

    /// Writes the two files that PEFT loads, in float32. Each is complete or absent.
    ///
    /// # Errors
    /// Weights that the configuration would not find again: a module that is no target, another rank or scaling.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for (module, side) in &self.weights {
            fits(&self.config, module, side)?;
            let scaling = self.config.scaling(module)?;
            if (scaling - side.scaling).abs() > 1e-6 * scaling.abs() {
                return Err(Error::usage(format!("`{module}` scales by {}, its settings say {scaling}", side.scaling))
                    .help("give its alpha in alpha_pattern"));
            }
            for (letter, tensor) in [("A", &side.a), ("B", &side.b)] {
                tensors.insert(format!("{PREFIX}{module}.lora_{letter}.weight"), AnyTensor::Float(tensor.detach()));
            }
        }
        if tensors.is_empty() {
            return Err(Error::usage("the adapter has no weights"));
        }
        let pt = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        write_safetensors(&dir.join("adapter_model.safetensors"), &tensors, &pt)?;
        let config = self.config.to_json(self.weights.keys().map(String::as_str));
        let text = serde_json::to_string_pretty(&config).context(|| "cannot write adapter_config.json".into())?;
        postgrad_base::fs::write(&dir.join("adapter_config.json"), text.as_bytes())
    }
}

/// The module is a target and its sides have the rank that the settings give it.
fn fits(config: &LoraConfig, module: &str, side: &LoraSide) -> Result<()> {
    let (a, b) = (side.a.dims(), side.b.dims());
    if a.len() != 2 || b.len() != 2 {
        return Err(Error::work(format!("the adapter of `{module}` has shapes {a:?} and {b:?}, not two matrices")));
    }
    let rank = config.rank(module)?;
    if a[0] != rank || b[1] != rank {
        return Err(Error::work(format!("the adapter of `{module}` has shapes {a:?} and {b:?}, its rank is {rank}"))
            .help("adapter_config.json and the weights do not belong together"));
    }
    if !config.selects(module)? {
        return Err(Error::work(format!("`{module}` has an adapter but is not among the targets"))
            .help("adapter_config.json and the weights do not belong together"));
    }
    Ok(())
}

/// Pairs the tensors of a file.
fn sides(config: &LoraConfig, tensors: BTreeMap<String, AnyTensor>) -> Result<BTreeMap<String, LoraSide>> {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in tensors {
        let unexpected = || {
            Error::work(format!("unexpected tensor `{name}`"))
                .help("expected base_model.model.MODULE.lora_A.weight and .lora_B.weight")
        };
        let AnyTensor::Float(tensor) = tensor else { return Err(unexpected()) };
        let path = name.strip_prefix(PREFIX).ok_or_else(unexpected)?;
        if let Some(module) = path.strip_suffix(".lora_A.weight") {
            a.insert(module.to_string(), tensor);
        } else if let Some(module) = path.strip_suffix(".lora_B.weight") {
            b.insert(module.to_string(), tensor);
        } else {
            return Err(unexpected());
        }
    }
    if let Some(module) = a.keys().find(|m| !b.contains_key(*m)).or_else(|| b.keys().find(|m| !a.contains_key(*m))) {
        return Err(Error::work(format!("the adapter of `{module}` has one side only")).help("the file is incomplete"));
    }
    if a.is_empty() {
        return Err(Error::work("the adapter has no weights"));
    }
    let mut sides = BTreeMap::new();
    for ((module, a), b) in a.into_iter().zip(b.into_values()) {
        let side = LoraSide { a, b, scaling: config.scaling(&module)? };
        fits(config, &module, &side)?;
        sides.insert(module, side);
    }
    Ok(sides)
}
