//! Trains a seed model from nothing: tokenizer, then weights, on dialogues that the tasks write.
//!
//!     cargo run --release -p postgrad-train --example make_seed -- 1m assets/seed-1m 40
//!
//! Arguments: size (`1m` or `3m`), output folder, minutes of wall time at most. Kill it and run it again: it goes on from
//! its last checkpoint in `runs/seed-SIZE`.

use std::path::Path;
use std::sync::Arc;

use postgrad_base::event::Event;
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::Example;
use postgrad_data::record::{Body, Message, Record};
use postgrad_data::render::Renderer;
use postgrad_data::template::ChatTemplate;
use postgrad_data::tokenizer::{SpecialRoles, Tokenizer, train_bpe};
use postgrad_nn::Decoder;
use postgrad_nn::checkpoint::{Dtype, write_weights};
use postgrad_nn::config::Config;
use postgrad_nn::optim::Kind;
use postgrad_nn::schedule::Decay;
use postgrad_reason::{ModelFolder, ProblemSet};
use postgrad_tasks::seed_text::Writer;
use postgrad_train::evaluate::EvalSet;
use postgrad_train::run_dir::RunDir;
use postgrad_train::{ExampleSource, Normalizer, Settings, Sft};
use serde_json::{Value, json};

const SEED: u64 = 20;
const VOCAB: usize = 1024;
const CONTEXT: usize = 1024;
/// Loss weight of what the model will not have to write: enough to know how questions look.
const PROMPT_WEIGHT: f32 = 0.1;
const TEMPLATE: &str = "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\n' }}{%- if m['role'] == 'assistant' %}{% generation %}{{- m['content'] + '<|im_end|>' }}{% endgeneration %}{{- '\n' }}{%- else %}{{- m['content'] + '<|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

struct Dialogues {
    writer: Writer,
    stream: Stream,
    renderer: Renderer,
    next: u64,
}

impl Dialogues {
    fn example(&self, n: u64) -> Result<Example> {
        let turns = self.writer.dialogue(&self.stream, n)?.turns;
        let messages = turns.into_iter().map(|t| Message::new(t.role.name(), t.text)).collect();
        let rendered = self.renderer.examples(&Record::from_body(Body::Messages(messages)))?;
        let mut example =
            rendered.examples.into_iter().next().ok_or_else(|| Error::work("a dialogue without an example"))?;
        for w in example.weights.iter_mut().skip(1).filter(|w| **w == 0.0) {
            *w = PROMPT_WEIGHT;
        }
        Ok(example)
    }
}

impl ExampleSource for Dialogues {
    fn next_example(&mut self) -> Result<Option<Example>> {
        self.next += 1;
        self.example(self.next - 1).map(Some)
    }

    fn start(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn state(&self) -> Value {
        json!(self.next)
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.next = state.as_u64().ok_or_else(|| Error::work("the saved place is no number"))?;
        Ok(())
    }
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::from(e.exit_code())
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let [size, out, minutes] = args else {
        return Err(Error::usage("give the size (1m or 3m), the output folder and the minutes"));
    };
    let (hidden, layers, heads, kv_heads, ffn, steps, batch, lr) = match size.as_str() {
        "1m" => (128, 4, 4, 4, 384, 2600, 64, 3e-3),
        "3m" => (192, 6, 6, 2, 512, 1800, 64, 2.5e-3),
        other => return Err(Error::unknown("size", other, &["1m", "3m"], None)),
    };
    let minutes: f64 = minutes.parse().map_err(|_| Error::usage("the minutes are no number"))?;
    let out = Path::new(out);
    std::fs::create_dir_all(out).map_err(|e| Error::work("cannot make the output folder").because(e))?;

    let writer = Writer::new("seed")?;
    let stream = Stream::new(SEED, &["base", "text"]);
    let tokenizer = if out.join("tokenizer.json").exists() {
        Tokenizer::load(out)?
    } else {
        let sample = Stream::new(SEED, &["base", "tokenizer"]);
        let mut texts = Vec::new();
        for n in 0..40_000 {
            texts.extend(writer.dialogue(&sample, n)?.turns.into_iter().map(|t| t.text));
        }
        let mut special: Vec<String> =
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
                .map(String::from)
                .to_vec();
        special.extend((0..32).map(|i| format!("<|spare_{i}|>")));
        let roles = SpecialRoles {
            bos: None,
            eos: Some("<|im_end|>".into()),
            pad: Some("<|endoftext|>".into()),
            chat_template: None,
            max_length: Some(CONTEXT),
        };
        let tokenizer = train_bpe(texts.into_iter(), VOCAB, &special, &roles)?;
        tokenizer.save(out)?;
        postgrad_base::fs::write(&out.join("chat_template.jinja"), TEMPLATE.as_bytes())?;
        tokenizer
    };
    let tokenizer = Arc::new(tokenizer);
    let template = ChatTemplate::new(TEMPLATE, &tokenizer)?;
    let renderer = Renderer::new(tokenizer.clone(), Some(template))?;

    let mut config = Config::llama(VOCAB, hidden, layers, heads, kv_heads, ffn, CONTEXT, true);
    config.bos = None;
    config.eos = tokenizer.eos().into_iter().collect();
    config.pad = tokenizer.pad();
    config.dtype = Dtype::Bf16;
    let mut decoder = Decoder::random(config.clone(), &Stream::new(SEED, &["base", "init", size]))?;
    decoder.weights.train(|_| true);
    println!("{} parameters, vocabulary {}", decoder.parameter_count(), tokenizer.vocab_size());

    let held_out = Dialogues {
        writer: Writer::new("seed")?,
        stream: Stream::new(SEED, &["eval", "text"]),
        renderer: renderer.clone(),
        next: 0,
    };
    let examples = (0..300).map(|n| held_out.example(n)).collect::<Result<Vec<_>>>()?;
    let mut source = Dialogues { writer, stream, renderer, next: 0 };
    let settings = Settings {
        seed: SEED,
        steps: Some(steps),
        batch,
        micro_tokens: 2048,
        max_len: CONTEXT,
        lr,
        warmup: 0.02,
        decay: Decay::Linear,
        floor: 0.02,
        weight_decay: 0.05,
        optimizer: Kind::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8 },
        normalizer: Normalizer::Weights,
        eval_every: Some(500),
        checkpoints: postgrad_train::Checkpoints::Every(250),
        keep: 2,
        budget: Some(minutes * 60.0),
        ..Settings::full()
    };
    let dir = RunDir::open(Path::new(&format!("runs/seed-{size}")))?;
    let mut sink = |e: &Event| {
        if e.kind != "step" || e.step.is_multiple_of(50) {
            println!("{} {} {}", e.kind, e.step, Value::Object(e.fields.clone()));
        }
        Ok(())
    };
    let outcome = Sft {
        decoder: &decoder,
        settings: &settings,
        groups: None,
        source: &mut source,
        evals: vec![EvalSet { name: "held-out".into(), examples, accuracy: None }],
        sink: &mut sink,
        cancel: Default::default(),
        progress: Mode::Plain,
        dir: Some(&dir),
        sampler: None,
        select: None,
        edit_grads: None,
        constrain: None,
    }
    .run()?;
    println!("{outcome:?}");
    let weights: Vec<(String, _)> =
        decoder.weights.iter().map(|(_, n, w)| (n.to_string(), w.tensor().detach())).collect();
    write_weights(out, &weights, Dtype::Bf16, usize::MAX)?;
    postgrad_base::fs::write(
        &out.join("config.json"),
        serde_json::to_string_pretty(&config.to_json()).expect("plain data").as_bytes(),
    )?;
    let own = json!({"full": true, "lr": 1e-3, "batch": 32});
    postgrad_base::fs::write(&out.join("tune.json"), own.to_string().as_bytes())?;
    let generation =
        json!({"do_sample": false, "eos_token_id": config.eos, "pad_token_id": config.pad, "max_new_tokens": 256});
    postgrad_base::fs::write(&out.join("generation_config.json"), generation.to_string().as_bytes())?;
    postgrad_base::fs::write(&out.join("README.md"), card(size, out, &outcome)?.as_bytes())
}

/// What the card measures: ability, difficulty, problems of the test split.
const ABILITIES: [(&str, &str, &str, usize); 25] = [
    ("chain", "steps=1", "", 400),
    ("chain", "steps=2", "", 400),
    ("chain", "steps=3", "", 400),
    ("chain", "steps=5", "", 400),
    ("chain", "steps=2,digits=1", "", 200),
    ("chain", "steps=3,digits=1", "", 200),
    ("chain", "steps=2", "equations", 200),
    ("chain", "steps=2", "direct", 200),
    ("add", "digits=1", "", 200),
    ("add", "digits=2", "", 200),
    ("facts", "", "", 200),
    ("sort", "items=3", "", 200),
    ("sort", "items=4", "", 200),
    ("compare", "digits=2", "", 200),
    ("sequence", "step=5,digits=1", "", 200),
    ("count", "", "", 200),
    ("copy", "words=4", "", 200),
    ("reverse", "words=3", "", 200),
    ("json", "", "", 200),
    ("say", "", "", 200),
    ("recall", "facts=3", "", 200),
    ("tallest", "people=3", "", 200),
    ("parity", "", "", 200),
    ("spell", "", "", 200),
    ("case", "", "", 200),
];

/// The model card: each ability with its share of the mixture, accuracy, n and interval, measured on the written folder.
fn card(size: &str, out: &Path, outcome: &postgrad_train::Outcome) -> Result<String> {
    use std::fmt::Write;
    let model = ModelFolder::load(out)?;
    let c = &model.decoder.config;
    let mut text = format!(
        "# seed-{size}@1\n\nA llama of {} parameters (vocabulary {}, width {}, {} layers, context {}), stored in bf16, trained from nothing by\n\n    cargo run --release -p postgrad-train --example make_seed -- {size} assets/seed-{size} MINUTES\n\non dialogues that Postgrad's own tasks write ({} updates, {} tokens, seed {SEED}). It knows nothing else: it is for experiments\nthat end in minutes. Licence: as Postgrad's.\n\nAccuracy on problems of the test split (none of them in the training text), greedy decoding, 95% Wilson intervals:\n\n| ability | difficulty | asked for | share of the text | accuracy | interval | n |\n|---|---|---|---|---|---|---|\n",
        model.decoder.parameter_count(),
        c.vocab_size,
        c.hidden,
        c.layers,
        c.max_position_embeddings,
        outcome.steps,
        outcome.tokens
    );
    let options = postgrad_reason::Options { places: 100, ..postgrad_reason::Options::greedy(128) };
    for (task, difficulty, rendering, n) in ABILITIES {
        let set = ProblemSet::draw(
            task,
            difficulty,
            rendering,
            postgrad_tasks::Split::Test,
            n,
            &Stream::new(SEED, &["eval", "card", task, difficulty]),
        )?;
        let solved = set.solve(&model, &options, &Default::default())?;
        let w = postgrad_numerics::wilson(postgrad_reason::solve::correct(&solved), solved.len(), 0.95);
        let share: f64 = postgrad_tasks::seed_text::SEED.iter().filter(|s| s.task == task).map(|s| s.share).sum();
        let _ = writeln!(
            text,
            "| {task} | {difficulty} | {} | {:.0}% | {:.1}% | {:.1}-{:.1}% | {} |",
            set.rendering,
            100.0 * share,
            100.0 * w.value,
            100.0 * w.low,
            100.0 * w.high,
            solved.len()
        );
    }
    println!("{text}");
    Ok(text)
}
