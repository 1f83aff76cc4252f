//! Writes a model in every form that other toolkits load, each with the numbers that they have to find in it.
//! `benches/peers/check_exports.py` loads the folders with transformers and PEFT and compares.
//!
//! ```sh
//! cargo run --release -p postgrad-reason --example export_check -- fixtures/chat/model-chatml OUT
//! cargo run --release -p postgrad-reason --example export_check -- --weights-only fixtures/hf/qwen3 OUT
//! ```
//!
//! A model folder becomes `given` (the numbers of the folder itself, nothing copied), `whole-f32`, `whole-bf16`, `adapter`
//! and `merged`. `--weights-only` takes a folder without a tokenizer, and writes `whole-f32`, `whole-bf16` and `sharded`.
//! Every folder has `expected.safetensors` (`input_ids` [2, 40] and the `logits` [2, 40, V] of them) and `expected.json`
//! (what to load, texts and conversations with their ids).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result, Stream, fs};
use postgrad_data::{Message, PromptOptions, Renderer};
use postgrad_nn::checkpoint::{AnyTensor, Dtype, read_weights, write_safetensors, write_weights};
use postgrad_nn::config::Config;
use postgrad_nn::{Decoder, LoraSpec, Pass, Walk};
use postgrad_reason::ModelFolder;
use postgrad_tensor::{Tensor, no_grad};
use serde_json::{Value, json};

const ROWS: usize = 2;
const LEN: usize = 40;

/// Spaces, lines, numbers, scripts of several bytes a character, and special tokens within text.
const TEXTS: [&str; 8] = [
    "What is 12 + 30?",
    "  two spaces,\ttabs\n\n\nand lines  ",
    "It's 1,234.56 (about 1e3) = x_1^2 / y.",
    "Grüße, 你好, мир, नमस्ते, 👩‍👩‍👧 and e\u{301}",
    "<|im_start|>user\nhi<|im_end|>\n",
    "a<think>b</think> c <|endoftext|>d",
    "fn main() {\n    println!(\"{}\", 1 << 4);\n}",
    "",
];

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args[..] {
        [flag, from, to] if flag == "--weights-only" => weights_only(from.as_ref(), to.as_ref()),
        [from, to] if !from.starts_with('-') => model(from.as_ref(), to.as_ref()),
        _ => Err(Error::usage("call: export_check [--weights-only] MODEL OUT")),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// A model with its tokenizer, by the calls that the command line saves with.
fn model(from: &Path, to: &Path) -> Result<()> {
    let base = ModelFolder::load(from)?;
    let ids = ids(&base.decoder.config);
    let texts = texts(&base.renderer)?;
    let expect = |dir: &Path, decoder: &Decoder, load: Value| expected(dir, decoder, &ids, load, &texts);

    let path = absolute(from)?;
    std::fs::create_dir_all(to.join("given")).context(|| format!("cannot make {}", to.display()))?;
    expect(&to.join("given"), &base.decoder, json!({"model": path}))?;

    base.save(&to.join("whole-f32"), Dtype::F32)?;
    expect(&to.join("whole-f32"), &base.decoder, json!({}))?;
    base.save(&to.join("whole-bf16"), Dtype::Bf16)?;
    // What was rounded is another model: its numbers are those of the file.
    expect(&to.join("whole-bf16"), &ModelFolder::load(&to.join("whole-bf16"))?.decoder, json!({}))?;

    let mut tuned = base.clone();
    let stream = Stream::new(1, &["tune"]);
    let spec = LoraSpec { rank: 4, alpha: 12.0, rank_stabilized: true, ..LoraSpec::default() };
    tuned.decoder.add_lora("check", spec, &stream)?;
    for p in tuned.decoder.params().iter().filter(|p| p.name().contains("lora_B")) {
        let mut draw = stream.child(p.name());
        p.update(|b| b.iter_mut().for_each(|b| *b = 0.05 * draw.normal() as f32));
    }
    tuned.save_adapter(&tuned.decoder.adapters[0], &to.join("adapter"), &path.to_string_lossy())?;
    expect(&to.join("adapter"), &tuned.decoder, json!({"adapter": true, "model": path}))?;

    let adapter = tuned.decoder.adapters.remove(0);
    adapter.merge_into(&mut tuned.decoder.weights, 1.0)?;
    tuned.save(&to.join("merged"), Dtype::F32)?;
    expect(&to.join("merged"), &tuned.decoder, json!({}))
}

/// Weights and `config.json` alone.
fn weights_only(from: &Path, to: &Path) -> Result<()> {
    let config = Config::read(from)?;
    let weights: Vec<(String, Tensor)> = read_weights(from, &config)?.into_iter().collect();
    let ids = ids(&config);
    let bytes = config.parameters() * 4;
    for (name, dtype, shard) in [
        ("whole-f32", Dtype::F32, usize::MAX),
        ("whole-bf16", Dtype::Bf16, usize::MAX),
        ("sharded", Dtype::F32, bytes / 3),
    ] {
        let dir = to.join(name);
        let config = Config { dtype, ..config.clone() };
        fs::write_dir_atomic(&dir, |dir| {
            write_weights(dir, &weights, dtype, shard)?;
            write_json(&dir.join("config.json"), &config.to_json())
        })?;
        let stored =
            if dtype == Dtype::F32 { weights.clone() } else { read_weights(&dir, &config)?.into_iter().collect() };
        expected(&dir, &Decoder::new(config, stored)?, &ids, json!({}), &json!([]))?;
    }
    Ok(())
}

fn expected(dir: &Path, decoder: &Decoder, ids: &[u32], mut load: Value, texts: &Value) -> Result<()> {
    let pass = Pass::sequences(&[LEN; ROWS]);
    let logits = no_grad(|| decoder.logits(&decoder.hidden(ids, &Walk::Tape(&pass))));
    let logits = Tensor::new(logits.data().to_vec(), &[ROWS, LEN, decoder.config.vocab_size]);
    let values = ids.iter().map(|id| i64::from(*id)).collect();
    let tensors = BTreeMap::from([
        ("input_ids".to_string(), AnyTensor::Int { values, shape: vec![ROWS, LEN] }),
        ("logits".to_string(), AnyTensor::Float(logits)),
    ]);
    write_safetensors(&dir.join("expected.safetensors"), &tensors, &BTreeMap::new())?;
    load["texts"] = texts.clone();
    write_json(&dir.join("expected.json"), &load)
}

fn ids(config: &Config) -> Vec<u32> {
    let mut stream = Stream::new(1, &["data"]);
    (0..ROWS * LEN).map(|_| stream.below(config.vocab_size) as u32).collect()
}

/// Texts and conversations as this toolkit reads them.
fn texts(renderer: &Renderer) -> Result<Value> {
    let tokenizer = renderer.tokenizer();
    let mut all = vec![];
    for text in TEXTS {
        let ids = tokenizer.encode(text)?;
        all.push(json!({
            "text": text,
            "ids": ids,
            "document_ids": tokenizer.encode_document(text)?,
            "decoded": tokenizer.decode(&ids, false)?,
            "decoded_without_special": tokenizer.decode(&ids, true)?,
        }));
    }
    if renderer.has_template() {
        let turn = Message::new;
        let short = vec![turn("user", "What is 2 + 3?")];
        let long = vec![
            turn("system", "Be brief."),
            turn("user", "Tom has 3 apples.\nHe eats one."),
            turn("assistant", "He has 2. 你好"),
            turn("user", " And then? "),
        ];
        for messages in [short, long] {
            for no_generation_prompt in [false, true] {
                let options = PromptOptions { no_generation_prompt, ..PromptOptions::default() };
                all.push(json!({
                    "messages": messages,
                    "add_generation_prompt": !no_generation_prompt,
                    "text": renderer.prompt_text(&messages, None, &options)?,
                    "ids": renderer.prompt_ids(&messages, None, &options)?,
                }));
            }
        }
    }
    Ok(Value::Array(all))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().context(|| format!("cannot find {}", path.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context(|| "cannot write JSON".into())?;
    fs::write(path, text.as_bytes())
}
