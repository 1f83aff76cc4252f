//! From the keys of `config.json` to a [`Config`].

use std::collections::BTreeSet;

use postgrad_base::{Error, Result};
use serde_json::{Map, Value};

use super::keys::{HARMLESS, READ, REFUSED, idle};
use super::{Act, AttentionBias, Config, Family, Rope, RopeKind};
use crate::checkpoint::Dtype;

/// What transformers assumes where a file is silent.
struct Silent {
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    sliding_window: Option<usize>,
}

fn silent(family: Family) -> Silent {
    let (kv_heads, head_dim, max_position_embeddings, sliding_window) = match family {
        Family::Llama => (None, None, 2048, None),
        Family::Mistral => (Some(8), None, 131_072, Some(4096)),
        Family::Qwen2 => (Some(32), None, 32_768, Some(4096)),
        Family::Qwen3 => (Some(32), Some(128), 32_768, Some(4096)),
    };
    Silent { kv_heads, head_dim, max_position_embeddings, sliding_window }
}

/// Typed access to an object; errors name the key.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    prefix: &'a str,
}

impl<'a> Keys<'a> {
    /// null counts as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn typed<T>(&self, key: &str, want: &str, f: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match f(value) {
            Some(x) => Ok(Some(x)),
            None => Err(Error::usage(format!("`{}{key}` is {}, not {want}", self.prefix, short(value)))),
        }
    }

    fn int(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number", |v| v.as_u64().and_then(|x| usize::try_from(x).ok()))
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a text", Value::as_str)
    }

    fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::usage(format!("`{}{key}` is missing", self.prefix)))
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

pub(super) fn config(map: &Map<String, Value>) -> Result<Config> {
    let keys = Keys { map, prefix: "" };
    let family = family(&keys)?;
    let warnings = scan(map, family)?;
    let silent = silent(family);

    let hidden = keys.needed("hidden_size", keys.int("hidden_size")?)?;
    let layers = keys.needed("num_hidden_layers", keys.int("num_hidden_layers")?)?;
    let heads = keys.needed("num_attention_heads", keys.int("num_attention_heads")?)?;
    let kv_default = if map.contains_key("num_key_value_heads") { None } else { silent.kv_heads };
    let kv_heads = keys.int("num_key_value_heads")?.or(kv_default).unwrap_or(heads);
    let head_dim = match keys.int("head_dim")?.or(silent.head_dim) {
        Some(d) => d,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(Error::usage(format!(
                "`hidden_size` {hidden} is not a multiple of `num_attention_heads` {heads}, and there is no `head_dim`"
            )));
        }
    };
    if layers > 4096 {
        return Err(Error::usage(format!("`num_hidden_layers` is {layers}, not between 1 and 4096")));
    }
    let max_position_embeddings = keys.int("max_position_embeddings")?.unwrap_or(silent.max_position_embeddings);
    let act = match keys.text("hidden_act")? {
        None => Act::Silu,
        Some(name) => Act::parse(name).ok_or_else(|| {
            Error::unknown("`hidden_act`", name, &["silu", "gelu", "gelu_pytorch_tanh", "gelu_new", "relu"], None)
        })?,
    };
    if let Some(parts) = keys.int("pretraining_tp")?
        && parts > 1
    {
        return Err(refused("pretraining_tp", &Value::from(parts)).help("only 1 is supported"));
    }
    let dtype = match keys.text("dtype")?.or(keys.text("torch_dtype")?) {
        None => Dtype::F32,
        Some(name) => Dtype::parse(name)
            .ok_or_else(|| Error::unknown("`torch_dtype`", name, &["float32", "bfloat16", "float16"], None))?,
    };
    let config = Config {
        family,
        vocab_size: keys.needed("vocab_size", keys.int("vocab_size")?)?,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate: keys.needed("intermediate_size", keys.int("intermediate_size")?)?,
        norm_eps: keys.float("rms_norm_eps")?.unwrap_or(1e-6),
        act,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        attention_bias: attention_bias(&keys, family)?,
        mlp_bias: mlp_bias(&keys, family)?,
        qk_norm: family == Family::Qwen3,
        rope: rope(&keys, max_position_embeddings)?,
        sliding_window: windows(&keys, family, layers, silent.sliding_window)?,
        attn_softcap: None,
        final_softcap: None,
        attention_scale: None,
        max_position_embeddings,
        bos: ids(&keys, "bos_token_id")?.first().copied(),
        eos: ids(&keys, "eos_token_id")?,
        pad: ids(&keys, "pad_token_id")?.first().copied(),
        initializer_range: keys.float("initializer_range")?.unwrap_or(0.02),
        attention_dropout: keys.float("attention_dropout")?.unwrap_or(0.0),
        dtype,
        warnings,
    };
    config.check()?;
    Ok(config)
}

fn family(keys: &Keys) -> Result<Family> {
    let known: Vec<&str> = Family::ALL.iter().map(|f| f.name()).collect();
    let help = format!("supported: {}", known.join(", "));
    let name = match keys.text("model_type")? {
        Some(name) => name,
        None => return Err(Error::usage("`model_type` is missing").help(help)),
    };
    match Family::ALL.into_iter().find(|f| f.name() == name) {
        Some(family) => Ok(family),
        None => {
            Err(Error::usage(format!("the family `{}` is not supported", short(&Value::from(name)).trim_matches('"')))
                .help(help))
        }
    }
}

fn refused(key: &str, value: &Value) -> Error {
    Error::usage(format!("`{key}` is {}: that changes the mathematics and is not supported", short(value)))
}

/// Refuses what would change the mathematics unseen; lists what nobody here knows.
fn scan(map: &Map<String, Value>, family: Family) -> Result<Vec<String>> {
    let mut warnings = vec![];
    for (key, value) in map {
        if READ.contains(&key.as_str()) || HARMLESS.contains(&key.as_str()) || idle(value) {
            continue;
        }
        match REFUSED.iter().find(|(name, _)| name == key) {
            Some((_, changes_nothing)) if changes_nothing(value) => {}
            // Qwen3 always norms its queries and keys.
            Some(("qk_norm" | "use_qk_norm" | "qk_layernorm", _)) if family == Family::Qwen3 => {}
            Some(_) => {
                let mut error = refused(key, value);
                if key == "quantization_config" {
                    error = error.help("give the folder of the unquantised model");
                }
                return Err(error);
            }
            None => warnings.push(format!("config.json: `{key}` is not known here and was not used: {}", short(value))),
        }
    }
    Ok(warnings)
}

fn attention_bias(keys: &Keys, family: Family) -> Result<AttentionBias> {
    let said = keys.flag("attention_bias")?;
    let all = |on| AttentionBias { q: on, k: on, v: on, o: on };
    match family {
        Family::Llama | Family::Qwen3 => Ok(all(said.unwrap_or(false))),
        Family::Qwen2 if said == Some(false) => {
            Err(Error::usage("`attention_bias` is false, but qwen2 has biases on q, k and v"))
        }
        Family::Qwen2 => Ok(AttentionBias { q: true, k: true, v: true, o: false }),
        Family::Mistral if said == Some(true) => Err(refused("attention_bias", &Value::Bool(true))),
        Family::Mistral => Ok(all(false)),
    }
}

fn mlp_bias(keys: &Keys, family: Family) -> Result<bool> {
    let said = keys.flag("mlp_bias")?.unwrap_or(false);
    if said && family != Family::Llama {
        return Err(refused("mlp_bias", &Value::Bool(true)));
    }
    Ok(said)
}

/// One id, a list of ids, or null; negative ids mean none.
fn ids(keys: &Keys, key: &str) -> Result<Vec<u32>> {
    let one = |v: &Value| -> Option<Option<u32>> {
        let id = v.as_i64()?;
        if id < 0 { Some(None) } else { u32::try_from(id).ok().map(Some) }
    };
    let all = keys.typed(key, "a token id or a list of them", |value| match value {
        Value::Array(list) => list.iter().map(one).collect::<Option<Vec<_>>>(),
        _ => one(value).map(|id| vec![id]),
    })?;
    Ok(all.unwrap_or_default().into_iter().flatten().collect())
}

/// The window of each layer.
fn windows(keys: &Keys, family: Family, layers: usize, silent: Option<usize>) -> Result<Vec<Option<usize>>> {
    let default = if keys.map.contains_key("sliding_window") { None } else { silent };
    let window = keys.int("sliding_window")?.or(default);
    let types = layer_types(keys, layers)?;
    let uniform = |window: Option<usize>| {
        if types.as_ref().is_some_and(|types| types.iter().any(|slides| *slides != window.is_some())) {
            return Err(Error::usage(format!(
                "`layer_types` and `sliding_window` disagree; {} slides in every layer or in none",
                family.name()
            )));
        }
        Ok(vec![window; layers])
    };
    match family {
        Family::Llama => match window {
            Some(w) => Err(refused("sliding_window", &Value::from(w)).help("llama has no sliding window")),
            None => uniform(None),
        },
        Family::Mistral => uniform(window),
        Family::Qwen2 | Family::Qwen3 => {
            let on = keys.flag("use_sliding_window")?.unwrap_or(false);
            let window = window.filter(|_| on);
            let first = keys.int("max_window_layers")?.unwrap_or(28);
            let slides = types.unwrap_or_else(|| (0..layers).map(|i| window.is_some() && i >= first).collect());
            if window.is_none() && slides.contains(&true) {
                return Err(Error::usage("`layer_types` has sliding layers, but there is no window")
                    .help("set `use_sliding_window` to true and `sliding_window` to its length, or the layers to full_attention"));
            }
            Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
        }
    }
}

/// Whether each layer slides, if the file says so.
fn layer_types(keys: &Keys, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(list) = keys.typed("layer_types", "a list", Value::as_array)? else { return Ok(None) };
    if list.len() != layers {
        return Err(Error::usage(format!("`layer_types` has {} entries for {layers} layers", list.len())));
    }
    let slides = |value: &Value| match value.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(Error::usage(format!("`layer_types` has {}", short(value)))
            .help("supported: full_attention, sliding_attention")),
    };
    list.iter().map(slides).collect::<Result<Vec<_>>>().map(Some)
}

/// transformers 5 says it in `rope_parameters`, transformers 4 in `rope_theta` and `rope_scaling`. A file with both must
/// say one thing.
fn rope(keys: &Keys, max_position_embeddings: usize) -> Result<Rope> {
    let partial = keys.float("partial_rotary_factor")?;
    let theta = keys.float("rope_theta")?;
    let object = |key: &'static str| keys.typed(key, "an object", Value::as_object);
    let read = |map, prefix| scaled(&Keys { map, prefix }, max_position_embeddings);
    let new = object("rope_parameters")?.map(|map| read(map, "rope_parameters.")).transpose()?;
    let old = object("rope_scaling")?.map(|map| read(map, "rope_scaling.")).transpose()?;
    let disagree = |a: &str, b: &str| Error::usage(format!("`{a}` and `{b}` disagree"));
    if let (Some(new), Some(old)) = (&new, &old)
        && new.kind != old.kind
    {
        return Err(disagree("rope_parameters", "rope_scaling"));
    }
    let mut thetas: BTreeSet<u64> = BTreeSet::new();
    let mut partials: BTreeSet<u64> = BTreeSet::new();
    for said in [&new, &old].into_iter().flatten() {
        thetas.extend(said.theta.map(f64::to_bits));
        partials.extend(said.partial.map(f64::to_bits));
    }
    thetas.extend(theta.map(f64::to_bits));
    partials.extend(partial.map(f64::to_bits));
    if thetas.len() > 1 {
        return Err(disagree("rope_parameters.rope_theta", "rope_theta"));
    }
    if let Some(share) = partials.iter().map(|bits| f64::from_bits(*bits)).find(|share| *share != 1.0) {
        return Err(refused("partial_rotary_factor", &Value::from(share)));
    }
    Ok(Rope {
        theta: thetas.first().map_or(10_000.0, |bits| f64::from_bits(*bits)),
        kind: new.or(old).map_or(RopeKind::Default, |said| said.kind),
        partial_rotary_factor: 1.0,
    })
}

struct Scaled {
    kind: RopeKind,
    theta: Option<f64>,
    partial: Option<f64>,
}

fn scaled(keys: &Keys, max_position_embeddings: usize) -> Result<Scaled> {
    const HELP: &str = "supported: default, linear, llama3, yarn";
    if let Some(layers) = keys.map.keys().find(|k| matches!(k.as_str(), "full_attention" | "sliding_attention")) {
        return Err(refused(&format!("{}{layers}", keys.prefix), &keys.map[layers]));
    }
    let name = match (keys.text("rope_type")?, keys.text("type")?) {
        (Some(new), Some(old)) if new != old => {
            return Err(Error::usage(format!("`{0}rope_type` {new} and `{0}type` {old} disagree", keys.prefix)));
        }
        (new, old) => keys.needed("rope_type", new.or(old)).map_err(|e| e.help(HELP))?,
    };
    let factor = || keys.needed("factor", keys.float("factor")?);
    let (kind, own): (RopeKind, &[&str]) = match name {
        "default" => (RopeKind::Default, &[]),
        "linear" => (RopeKind::Linear { factor: factor()? }, &["factor"]),
        "llama3" => {
            let number = |key: &str| keys.needed(key, keys.float(key)?);
            let original = "original_max_position_embeddings";
            let kind = RopeKind::Llama3 {
                factor: factor()?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: keys.needed(original, keys.int(original)?)?,
            };
            (kind, &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
        }
        "yarn" => (yarn(keys, max_position_embeddings)?, YARN),
        "dynamic" | "longrope" | "su" | "ntk" | "mrope" | "proportional" => {
            return Err(Error::usage(format!("`{}rope_type` {name} is not supported", keys.prefix)).help(HELP));
        }
        _ => return Err(Error::unknown(&format!("`{}rope_type`", keys.prefix), name, &[], None).help(HELP)),
    };
    // The original length is read by the kinds that use it and means nothing to the others.
    let common =
        ["rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings", "finetuned"];
    for (key, value) in keys.map {
        let changes_nothing = idle(value) || (key == "factor" && value.as_f64() == Some(1.0));
        if !common.contains(&key.as_str()) && !own.contains(&key.as_str()) && !changes_nothing {
            return Err(refused(&format!("{}{key}", keys.prefix), value)
                .help(format!("it is not part of rope_type {name}; remove it if it means nothing")));
        }
    }
    Ok(Scaled { kind, theta: keys.float("rope_theta")?, partial: keys.float("partial_rotary_factor")? })
}

const YARN: &[&str] = &["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"];

/// `attention_factor` where it is not given: `0.1 ln(factor) + 1`, or the ratio of two such with DeepSeek's `mscale`s.
fn yarn(keys: &Keys, max_position_embeddings: usize) -> Result<RopeKind> {
    let original_max_position_embeddings =
        keys.int("original_max_position_embeddings")?.unwrap_or(max_position_embeddings);
    let factor = match keys.float("factor")? {
        Some(factor) => factor,
        None if original_max_position_embeddings > 0 && max_position_embeddings > original_max_position_embeddings => {
            max_position_embeddings as f64 / original_max_position_embeddings as f64
        }
        None => return keys.needed("factor", None),
    };
    let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    // As in Python, a zero is as good as none.
    let given = |key: &str| Ok::<_, Error>(keys.float(key)?.filter(|x| *x != 0.0));
    let attention_factor = match (keys.float("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
        (Some(said), _, _) => said,
        (None, Some(a), Some(b)) => scale(a) / scale(b),
        _ => scale(1.0),
    };
    Ok(RopeKind::Yarn {
        factor,
        original_max_position_embeddings,
        beta_fast: given("beta_fast")?.unwrap_or(32.0),
        beta_slow: given("beta_slow")?.unwrap_or(1.0),
        attention_factor,
        truncate: keys.flag("truncate")?.unwrap_or(true),
    })
}
