//! What a decoder is: the `config.json` of a Hugging Face folder, read in the spelling of transformers 4 and of
//! transformers 5, and written so that both load it.
//!
//! ```no_run
//! let config = postgrad_nn::config::Config::read(std::path::Path::new("Qwen3-0.6B"))?;
//! for (name, shape) in config.tensors() {
//!     println!("{name} {shape:?}");
//! }
//! # Ok::<(), postgrad_base::Error>(())
//! ```
//!
//! A key that changes the mathematics is honoured or refused by its name; a key that nobody here knows becomes a line of
//! [`Config::warnings`]. Left out on purpose: dynamic NTK and LongRoPE (frequencies that depend on the length of the
//! sequence), and families other than [`Family::ALL`].

use std::f32::consts::PI;
use std::path::Path;

use postgrad_base::{Context, Error, Result};
use serde_json::{Map, Value, json};

use crate::checkpoint::Dtype;

mod keys;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use keys::idle;

/// The families that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Family {
    pub const ALL: [Family; 4] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3];

    /// The `model_type` of `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// The class in `architectures`.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The non-linearity of the gated MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Silu,
    /// With the error function.
    Gelu,
    /// With the hyperbolic tangent.
    GeluTanh,
    Relu,
}

impl Act {
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Act::Silu => "silu",
            Act::Gelu => "gelu",
            Act::GeluTanh => "gelu_pytorch_tanh",
            Act::Relu => "relu",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "silu" | "swish" => Act::Silu,
            "gelu" => Act::Gelu,
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Act::GeluTanh,
            "relu" => Act::Relu,
            _ => return None,
        })
    }
}

/// Which of the four attention projections have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttentionBias {
    pub q: bool,
    pub k: bool,
    pub v: bool,
    pub o: bool,
}

/// How rotary frequencies are stretched beyond the context they were trained for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeKind {
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Llama 3.1: long waves divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
    /// YaRN (Peng et al. 2023, arXiv 2309.00071). `attention_factor` scales cosines and sines.
    Yarn {
        factor: f64,
        original_max_position_embeddings: usize,
        beta_fast: f64,
        beta_slow: f64,
        attention_factor: f64,
        truncate: bool,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub kind: RopeKind,
    /// The share of each head that turns. 1 in every family read so far.
    pub partial_rotary_factor: f64,
}

/// A decoder's shape and settings. Sizes are in elements, lengths in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub family: Family,
    pub vocab_size: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub intermediate: usize,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f64,
    pub act: Act,
    pub tie_word_embeddings: bool,
    pub attention_bias: AttentionBias,
    pub mlp_bias: bool,
    /// RMSNorm over each head of q and k, before they turn.
    pub qk_norm: bool,
    pub rope: Rope,
    /// One entry per layer: a token sees itself and the `w - 1` before it, or everything before it.
    pub sliding_window: Vec<Option<usize>>,
    /// `c * tanh(x / c)` on attention scores.
    pub attn_softcap: Option<f32>,
    /// The same on logits.
    pub final_softcap: Option<f32>,
    /// Factor of `q . k`, where it is not `1 / sqrt(head_dim)`.
    pub attention_scale: Option<f32>,
    pub max_position_embeddings: usize,
    pub bos: Option<u32>,
    /// All end ids (a chat model often has two).
    pub eos: Vec<u32>,
    pub pad: Option<u32>,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// On attention probabilities, in training only.
    pub attention_dropout: f64,
    /// How the weights are stored.
    pub dtype: Dtype,
    /// What was in the file and is not known here; to be shown to the user.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads `dir/config.json`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        if !path.is_file() {
            return Err(Error::usage("there is no config.json")
                .at(dir.display())
                .help("give the folder of a Hugging Face model: config.json, model.safetensors, tokenizer.json"));
        }
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let value: Value = serde_json::from_str(&text)
            .context(|| "config.json is not JSON".into())
            .map_err(|e| e.at(path.display()))?;
        Self::from_json(&value).map_err(|e| e.at(path.display()))
    }

    /// From the parsed text of a `config.json`.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Value::Object(map) = value else {
            return Err(Error::usage("config.json is not an object"));
        };
        read::config(map)
    }

    /// A llama of one's own: no biases, SiLU, plain rotary embedding with theta 10,000, bos 1, eos 2.
    pub fn llama(
        vocab_size: usize,
        hidden: usize,
        layers: usize,
        heads: usize,
        kv_heads: usize,
        intermediate: usize,
        max_position_embeddings: usize,
        tied: bool,
    ) -> Self {
        Self {
            family: Family::Llama,
            vocab_size,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim: hidden / heads.max(1),
            intermediate,
            norm_eps: 1e-5,
            act: Act::Silu,
            tie_word_embeddings: tied,
            attention_bias: AttentionBias::default(),
            mlp_bias: false,
            qk_norm: false,
            rope: Rope { theta: 10_000.0, kind: RopeKind::Default, partial_rotary_factor: 1.0 },
            sliding_window: vec![None; layers],
            attn_softcap: None,
            final_softcap: None,
            attention_scale: None,
            max_position_embeddings,
            bos: Some(1),
            eos: vec![2],
            pad: None,
            initializer_range: 0.02,
            attention_dropout: 0.0,
            dtype: Dtype::F32,
            warnings: vec![],
        }
    }

    /// Refuses sizes that do not fit each other. [`Config::from_json`] has done so.
    pub fn check(&self) -> Result<()> {
        const MOST: usize = i32::MAX as usize;
        let sizes = [
            ("vocab_size", self.vocab_size, MOST),
            ("hidden_size", self.hidden, MOST),
            ("num_hidden_layers", self.layers, 4096),
            ("num_attention_heads", self.heads, 1 << 16),
            ("num_key_value_heads", self.kv_heads, 1 << 16),
            ("head_dim", self.head_dim, 1 << 14),
            ("intermediate_size", self.intermediate, MOST),
            ("max_position_embeddings", self.max_position_embeddings, MOST),
        ];
        for (key, size, most) in sizes {
            if size == 0 || size > most {
                return Err(Error::usage(format!("`{key}` is {size}, not between 1 and {most}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::usage(format!(
                "`num_attention_heads` {} is not a multiple of `num_key_value_heads` {}",
                self.heads, self.kv_heads
            )));
        }
        if !self.rotary_dim().is_multiple_of(2) || self.rotary_dim() == 0 {
            return Err(Error::usage(format!("`head_dim` {} does not turn in pairs", self.head_dim))
                .help("rotary embeddings need an even number of dimensions"));
        }
        if self.sliding_window.len() != self.layers {
            return Err(Error::usage(format!(
                "`layer_types` has {} entries for {} layers",
                self.sliding_window.len(),
                self.layers
            )));
        }
        if self.sliding_window.contains(&Some(0)) {
            return Err(Error::usage("`sliding_window` is 0: a token would see nothing"));
        }
        if !(self.norm_eps >= 0.0 && self.norm_eps.is_finite()) {
            return Err(Error::usage(format!("`rms_norm_eps` is {}", self.norm_eps)));
        }
        if !(0.0..1.0).contains(&self.attention_dropout) {
            return Err(Error::usage(format!("`attention_dropout` is {}, not in [0, 1)", self.attention_dropout)));
        }
        if !(self.initializer_range >= 0.0 && self.initializer_range.is_finite()) {
            return Err(Error::usage(format!("`initializer_range` is {}", self.initializer_range)));
        }
        let positive = |key: &str, x: f64| {
            let fits = x > 0.0 && x.is_finite();
            if fits { Ok(()) } else { Err(Error::usage(format!("`{key}` is {x}, not above 0"))) }
        };
        positive("rope_theta", self.rope.theta)?;
        match self.rope.kind {
            RopeKind::Default => {}
            RopeKind::Linear { factor } => positive("factor", factor)?,
            RopeKind::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                positive("factor", factor)?;
                positive("low_freq_factor", low_freq_factor)?;
                positive("high_freq_factor", high_freq_factor)?;
                positive("original_max_position_embeddings", original_max_position_embeddings as f64)?;
                if high_freq_factor <= low_freq_factor {
                    return Err(Error::usage(format!(
                        "`high_freq_factor` {high_freq_factor} is not above `low_freq_factor` {low_freq_factor}"
                    )));
                }
            }
            RopeKind::Yarn {
                factor, original_max_position_embeddings, beta_fast, beta_slow, attention_factor, ..
            } => {
                positive("factor", factor)?;
                positive("beta_fast", beta_fast)?;
                positive("beta_slow", beta_slow)?;
                positive("attention_factor", attention_factor)?;
                positive("original_max_position_embeddings", original_max_position_embeddings as f64)?;
                if self.rope.theta == 1.0 {
                    return Err(Error::usage("`rope_theta` is 1: YaRN divides by its logarithm"));
                }
            }
        }
        Ok(())
    }

    /// Dimensions of a head that turn.
    pub fn rotary_dim(&self) -> usize {
        (self.head_dim as f64 * self.rope.partial_rotary_factor) as usize
    }

    /// Angles per position, `[rotary_dim / 2]`, and the factor of cosines and sines. float32 arithmetic where
    /// transformers has it.
    pub fn rope_inv_freq(&self) -> (Vec<f32>, f32) {
        let dim = self.rotary_dim();
        let powers: Vec<f32> =
            (0..dim / 2).map(|i| self.rope.theta.powf(((2 * i) as f32 / dim as f32) as f64) as f32).collect();
        let plain = powers.iter().map(|p| 1.0 / p);
        match self.rope.kind {
            RopeKind::Default => (plain.collect(), 1.0),
            RopeKind::Linear { factor } => (plain.map(|f| f / factor as f32).collect(), 1.0),
            RopeKind::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let old = original_max_position_embeddings as f64;
                let (longest, shortest) = ((old / low_freq_factor) as f32, (old / high_freq_factor) as f32);
                let (factor, low, span) =
                    (factor as f32, low_freq_factor as f32, (high_freq_factor - low_freq_factor) as f32);
                let stretch = |f: f32| {
                    let wave = 2.0 * PI / f;
                    if wave > longest {
                        f / factor
                    } else if wave < shortest {
                        f
                    } else {
                        let smooth = (old as f32 / wave - low) / span;
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                (plain.map(stretch).collect(), 1.0)
            }
            RopeKind::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => {
                let old = original_max_position_embeddings as f64;
                // The dimension that makes `turns` full turns over the original context.
                let dimension = |turns: f64| {
                    dim as f64 * (old / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * self.rope.theta.ln())
                };
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let mix = |(i, p): (usize, &f32)| {
                    let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    let keep = 1.0 - ramp;
                    1.0 / (factor as f32 * p) * (1.0 - keep) + 1.0 / p * keep
                };
                (powers.iter().enumerate().map(mix).collect(), attention_factor as f32)
            }
        }
    }

    /// Every weight by its Hugging Face name with its shape, in the order of the network. `lm_head.weight` is absent where
    /// it is tied to the embedding. The one list that files are checked against.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let bias = self.attention_bias;
        let mut all = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, self.hidden])];
        for layer in 0..self.layers {
            let mut add =
                |name: &str, shape: &[usize]| all.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            add("input_layernorm.weight", &[self.hidden]);
            let attention = [
                ("q_proj", q, self.hidden, bias.q),
                ("k_proj", kv, self.hidden, bias.k),
                ("v_proj", kv, self.hidden, bias.v),
                ("o_proj", self.hidden, q, bias.o),
            ];
            for (name, out, input, bias) in attention {
                add(&format!("self_attn.{name}.weight"), &[out, input]);
                if bias {
                    add(&format!("self_attn.{name}.bias"), &[out]);
                }
            }
            if self.qk_norm {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("post_attention_layernorm.weight", &[self.hidden]);
            let mlp = [
                ("gate_proj", self.intermediate, self.hidden),
                ("up_proj", self.intermediate, self.hidden),
                ("down_proj", self.hidden, self.intermediate),
            ];
            for (name, out, input) in mlp {
                add(&format!("mlp.{name}.weight"), &[out, input]);
                if self.mlp_bias {
                    add(&format!("mlp.{name}.bias"), &[out]);
                }
            }
        }
        all.push(("model.norm.weight".into(), vec![self.hidden]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".into(), vec![self.vocab_size, self.hidden]));
        }
        all
    }

    /// Number of weights (a tied head counted once).
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The `config.json` that transformers 4 and 5 load: each setting in both spellings where they have two.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.into(), value);
        };
        put("architectures", json!([self.family.architecture()]));
        put("model_type", json!(self.family.name()));
        put("vocab_size", json!(self.vocab_size));
        put("hidden_size", json!(self.hidden));
        put("num_hidden_layers", json!(self.layers));
        put("num_attention_heads", json!(self.heads));
        put("num_key_value_heads", json!(self.kv_heads));
        put("head_dim", json!(self.head_dim));
        put("intermediate_size", json!(self.intermediate));
        put("hidden_act", json!(self.act.name()));
        put("rms_norm_eps", json!(self.norm_eps));
        put("tie_word_embeddings", json!(self.tie_word_embeddings));
        put("max_position_embeddings", json!(self.max_position_embeddings));
        put("initializer_range", json!(self.initializer_range));
        put("attention_dropout", json!(self.attention_dropout));
        put("bos_token_id", json!(self.bos));
        put(
            "eos_token_id",
            match &self.eos[..] {
                [] => Value::Null,
                [one] => json!(one),
                many => json!(many),
            },
        );
        put("pad_token_id", json!(self.pad));
        let (scaling, parameters) = self.rope.to_json();
        put("rope_theta", json!(self.rope.theta));
        put("rope_scaling", scaling);
        put("rope_parameters", parameters);
        put("torch_dtype", json!(self.dtype.torch_name()));
        put("dtype", json!(self.dtype.torch_name()));
        put("use_cache", json!(true));
        let window = self.sliding_window.iter().flatten().next().copied();
        match self.family {
            Family::Llama => {
                put("attention_bias", json!(self.attention_bias.q));
                put("mlp_bias", json!(self.mlp_bias));
                put("pretraining_tp", json!(1));
            }
            Family::Mistral => put("sliding_window", json!(window)),
            Family::Qwen2 | Family::Qwen3 => {
                if self.family == Family::Qwen3 {
                    put("attention_bias", json!(self.attention_bias.q));
                }
                // transformers 4 knows only windows from some layer on; `layer_types` says the rest.
                let first = self.sliding_window.iter().position(Option::is_some).unwrap_or(self.layers);
                put("use_sliding_window", json!(window.is_some()));
                put("sliding_window", json!(window));
                put("max_window_layers", json!(first));
                let kind = |w: &Option<usize>| if w.is_some() { "sliding_attention" } else { "full_attention" };
                put("layer_types", self.sliding_window.iter().map(|w| json!(kind(w))).collect());
            }
        }
        Value::Object(map)
    }
}

impl Rope {
    /// `rope_scaling` of transformers 4 (null where nothing is scaled) and `rope_parameters` of transformers 5.
    fn to_json(self) -> (Value, Value) {
        let scaling = match self.kind {
            RopeKind::Default => json!({"rope_type": "default"}),
            RopeKind::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeKind::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
            RopeKind::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_max_position_embeddings,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "attention_factor": attention_factor,
                "truncate": truncate,
            }),
        };
        let mut parameters = scaling.clone();
        parameters["rope_theta"] = json!(self.theta);
        (if self.kind == RopeKind::Default { Value::Null } else { scaling }, parameters)
    }
}
