//! What is known about the keys of `config.json`.

use serde_json::Value;

/// Keys that [`super::read`] reads.
pub(super) const READ: &[&str] = &[
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "partial_rotary_factor",
    "pretraining_tp",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "torch_dtype",
    "use_sliding_window",
    "vocab_size",
];

/// Keys that change nothing about a decoder's mathematics: bookkeeping, kernels, other heads, old generation settings.
pub(super) const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "transformers_weights",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
];

/// Whether a value changes nothing.
type ChangesNothing = fn(&Value) -> bool;

/// A key that changes the mathematics and is not implemented for these families, with the test of the value that changes
/// nothing. null, false, empty lists and empty objects change nothing anywhere.
pub(super) const REFUSED: &[(&str, ChangesNothing)] = &[
    ("_sliding_window_pattern", never),
    ("add_cross_attention", never),
    ("alibi", never),
    ("attention_chunk_size", never),
    ("attention_multiplier", never),
    ("attn_logit_softcapping", never),
    ("attn_pdrop", zero),
    ("attn_temperature_tuning", never),
    ("clip_qkv", never),
    ("compression_config", never),
    ("cross_attention_hidden_size", never),
    ("embd_pdrop", zero),
    ("embedding_dropout", zero),
    ("embedding_multiplier", one),
    ("final_logit_softcapping", never),
    ("hidden_activation", never),
    ("hidden_dropout", zero),
    ("hidden_dropout_prob", zero),
    ("is_causal", yes),
    ("is_encoder_decoder", never),
    ("kv_lora_rank", never),
    ("lm_head_bias", never),
    ("logit_scale", one),
    ("logits_scaling", one),
    ("moe_intermediate_size", never),
    ("n_routed_experts", zero),
    ("no_rope_layer_interval", never),
    ("no_rope_layers", never),
    ("norm_after", never),
    ("num_experts", zero),
    ("num_experts_per_tok", zero),
    ("num_local_experts", zero),
    ("num_nextn_predict_layers", zero),
    ("parallel_attn", never),
    ("pruned_heads", never),
    ("q_lora_rank", never),
    ("qk_layernorm", never),
    ("qk_norm", never),
    ("qkv_bias", never),
    ("quantization_config", never),
    ("query_pre_attn_scalar", never),
    ("resid_pdrop", zero),
    ("residual_dropout", zero),
    ("residual_multiplier", one),
    ("rope_interleaved", never),
    ("rope_local_base_freq", never),
    ("rope_ratio", one),
    ("rotary_dim", never),
    ("rotary_pct", one),
    ("scale_attn_by_inverse_layer_idx", never),
    ("scale_embeddings", never),
    ("sliding_window_pattern", never),
    ("text_config", never),
    ("use_bidirectional_attention", never),
    ("use_mrope", never),
    ("use_parallel_residual", never),
    ("use_qk_norm", never),
    ("vision_config", never),
];

fn never(_: &Value) -> bool {
    false
}

fn zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn yes(value: &Value) -> bool {
    value == &Value::Bool(true)
}

/// null, false, `[]`, `{}`: nothing was asked for.
pub(crate) fn idle(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
