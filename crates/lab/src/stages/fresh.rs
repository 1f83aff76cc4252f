//! `fresh`: a decoder with random weights and another model's tokenizer and template.

use postgrad_base::{Error, Result};
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::{Decoder, config::Config as Shape};
use serde::{Deserialize, Serialize};

use crate::stage::{Cx, Input, Stage};

pub struct Fresh;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose tokenizer, template and vocabulary it has.
    pub model: Input,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// As many as `heads` by default.
    #[serde(default)]
    pub kv_heads: Option<usize>,
    /// Width of the feed-forward layers; three times `width` by default.
    #[serde(default)]
    pub ffn: Option<usize>,
    #[serde(default = "context")]
    pub context: usize,
}

fn context() -> usize {
    1024
}

impl Stage for Fresh {
    const NAME: &'static str = "fresh";
    const ABOUT: &'static str = "a llama with random weights and another model's tokenizer";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["base"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        let Config { width, layers, heads, context, .. } = *config;
        let kv = config.kv_heads.unwrap_or(heads);
        if [width, layers, heads, context, kv, config.ffn.unwrap_or(1)].contains(&0) {
            return Err(Error::usage("a size of 0"));
        }
        if !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(2) || !heads.is_multiple_of(kv) {
            return Err(Error::usage(format!("width {width} does not fit {heads} heads with {kv} of keys and values"))
                .help("width is heads times an even number, heads a multiple of kv_heads"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let mut model = cx.model(&config.model)?;
        let Config { width, layers, heads, context, .. } = config;
        let kv = config.kv_heads.unwrap_or(heads);
        let like = &model.decoder.config;
        let mut shape =
            Shape::llama(like.vocab_size, width, layers, heads, kv, config.ffn.unwrap_or(3 * width), context, true);
        (shape.bos, shape.eos, shape.pad) = (like.bos, like.eos.clone(), like.pad);
        model.decoder = Decoder::random(shape, &cx.stream("base").child("fresh"))?;
        model.save(&cx.out.join("model"), Dtype::F32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, golden};
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn golden_run() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let config = json!({"model": "@base", "width": 16, "layers": 2, "heads": 2, "kv_heads": 1, "context": 64});
        golden(&Kind::of::<Fresh>(), &config, &[("base", Place::Model(base))], "780081d3610f9d9a");
    }

    #[test]
    fn sizes_must_fit() {
        for bad in
            [json!({"width": 10, "heads": 4}), json!({"width": 12, "heads": 4}), json!({"width": 16, "heads": 0})]
        {
            let mut config = json!({"model": "@base", "layers": 1});
            config.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
            assert!((Kind::of::<Fresh>().resolve)(&config).is_err(), "{config}");
        }
    }
}
