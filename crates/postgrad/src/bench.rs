//! `bench`: speed and peak memory of training and sampling at fixed shapes, with random weights and tokens.
//!
//! A training step is forward, mean token cross-entropy, backward and AdamW (without clipping), float32. Each line is
//! measured in a process of its own, so that its peak memory is its own.

use std::sync::Arc;
use std::time::Instant;

use clap::Subcommand;
use postgrad_base::{Context, Error, Result, Stream};
use postgrad_lab::table::{Cell, Table};
use postgrad_nn::config::Config;
use postgrad_nn::decoder::{Pass, Walk};
use postgrad_nn::logits::Rules;
use postgrad_nn::optim::{GroupSpec, Optimizer};
use postgrad_nn::sample::{Request, Settings, sample};
use postgrad_nn::{Decoder, LoraSpec};
use postgrad_numerics::median;
use postgrad_tensor::ops::{self, CeOptions};
use postgrad_tensor::{backward, par, simd};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::{App, note};
use crate::machine;

/// Speed and peak memory of training and sampling on this machine
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Training steps at shapes A (0.9M parameters), B (17M), C (135M) and D (C under LoRA of rank 16)
    Train {
        /// A, B, C, D or all
        #[arg(long, default_value = "all", value_parser = ["A", "B", "C", "D", "all"], ignore_case = true)]
        shape: String,
        /// Timed steps, after two to warm up [default: 10 at A, 5 elsewhere]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000), value_name = "N")]
        steps: Option<u64>,
    },
    /// Reinforcement training: the shares of rollout, rewards, log-probs and update in its time
    Rl {
        /// A built-in model or a model folder, tuned whole
        #[arg(long, default_value = "seed-1m")]
        model: String,
        /// Rollouts with an update each
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000), value_name = "N")]
        iterations: u64,
    },
    /// Sampling: 64 sequences of 128 tokens at A, 16 of 128 at C, one of 64 at C
    Generate {
        /// One of the cases, or all
        #[arg(long, default_value = "all", value_parser = ["A-64x128", "C-16x128", "C-1x64", "all"], ignore_case = true)]
        case: String,
    },
}

/// A llama to train: vocabulary, width, layers, heads, key-value heads, MLP width, tied, then rows and length of a batch.
struct Shape {
    name: &'static str,
    dims: [usize; 6],
    tied: bool,
    batch: (usize, usize),
    lora: bool,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "A", dims: [512, 128, 4, 4, 4, 384], tied: false, batch: (32, 128), lora: false },
    Shape { name: "B", dims: [4096, 384, 8, 6, 2, 1024], tied: false, batch: (8, 256), lora: false },
    Shape { name: "C", dims: [49152, 576, 30, 9, 3, 1536], tied: true, batch: (1, 512), lora: false },
    Shape { name: "D", dims: [49152, 576, 30, 9, 3, 1536], tied: true, batch: (1, 512), lora: true },
];

/// Shape, sequences and tokens of each.
const CASES: [(&str, &str, usize, usize); 3] =
    [("A-64x128", "A", 64, 128), ("C-16x128", "C", 16, 128), ("C-1x64", "C", 1, 64)];

const WARM_UP: u64 = 2;
const PROMPT: usize = 16;

#[derive(Serialize, Deserialize)]
struct Trained {
    shape: String,
    parameters: usize,
    trainable: usize,
    tokens_per_step: usize,
    steps: u64,
    tokens_per_s: f64,
    slowest_tokens_per_s: f64,
    fastest_tokens_per_s: f64,
    peak_mb: f64,
    /// Of every step, those to warm up too.
    losses: Vec<f32>,
    simd: String,
    threads: usize,
}

#[derive(Serialize, Deserialize)]
struct Generated {
    case: String,
    sequences: usize,
    tokens_each: usize,
    /// New tokens over the whole time, prompts of 16 tokens included in the time.
    tokens_per_s: f64,
    peak_mb: f64,
    simd: String,
    threads: usize,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    match args.what {
        What::Train { shape, steps } => {
            let mut rows: Vec<Trained> = vec![];
            for s in SHAPES.iter().filter(|s| shape == "all" || s.name.eq_ignore_ascii_case(&shape)) {
                app.cancel.check()?;
                let steps = steps.unwrap_or(if s.name == "A" { 10 } else { 5 });
                rows.push(if shape == "all" {
                    in_child(&["train", "--shape", s.name, "--steps", &steps.to_string()])?
                } else {
                    train(s, steps, app)?
                });
            }
            show_trained(&rows, app, shape == "all")
        }
        What::Rl { model, iterations } => crate::bench_rl::run(&model, iterations, app),
        What::Generate { case } => {
            let mut rows: Vec<Generated> = vec![];
            for c in CASES.iter().filter(|c| case == "all" || c.0.eq_ignore_ascii_case(&case)) {
                app.cancel.check()?;
                rows.push(if case == "all" { in_child(&["generate", "--case", c.0])? } else { generate(c, app)? });
            }
            show_generated(&rows, app, case == "all")
        }
    }
}

/// This command for one line in another process.
fn in_child<T: DeserializeOwned>(words: &[&str]) -> Result<T> {
    note(&format!("bench {}", words.join(" ")));
    let program = std::env::current_exe().context(|| "cannot find this program's own file".into())?;
    let threads = par::threads().to_string();
    let out = std::process::Command::new(program)
        .args(["--json", "--threads", &threads, "bench"])
        .args(words)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context(|| "cannot start another process of this program".into())?;
    if !out.status.success() {
        return Err(Error::work(format!("bench {} ended with {}", words.join(" "), out.status)));
    }
    serde_json::from_slice(&out.stdout).context(|| "cannot read what the other process measured".into())
}

fn model(shape: &Shape) -> Result<Decoder> {
    let [vocab, hidden, layers, heads, kv, mlp] = shape.dims;
    let config = Config::llama(vocab, hidden, layers, heads, kv, mlp, 2048, shape.tied);
    Decoder::random(config, &Stream::new(0, &["base"]))
}

fn train(shape: &Shape, steps: u64, app: &App) -> Result<Trained> {
    let mut model = model(shape)?;
    if shape.lora {
        model.add_lora("lora", LoraSpec::default(), &Stream::new(0, &["tune"]))?;
    } else {
        model.weights.train(|_| true);
    }
    let mut optimizer = Optimizer::new(model.params(), GroupSpec::default_groups(0.0))?;
    let (rows, length) = shape.batch;
    let pass = Pass::sequences(&vec![length; rows]);
    let n = rows * length;
    let weights = vec![1.0; n];
    let mut stream = Stream::new(0, &["data"]);
    let (mut seconds, mut losses) = (vec![], vec![]);
    for step in 0..WARM_UP + steps {
        app.cancel.check()?;
        // One token more than is read, so that each has a next.
        let drawn: Vec<Vec<u32>> =
            (0..rows).map(|_| (0..=length).map(|_| stream.below(shape.dims[0]) as u32).collect()).collect();
        let ids: Vec<u32> = drawn.iter().flat_map(|r| r[..length].to_vec()).collect();
        let targets: Vec<u32> = drawn.iter().flat_map(|r| r[1..].to_vec()).collect();
        let started = Instant::now();
        let hidden = model.hidden(&ids, &Walk::Tape(&pass));
        let out = ops::cross_entropy(&hidden, &model.head(), &targets, &weights, n as f32, CeOptions::default());
        drop(hidden);
        backward(&out.loss);
        losses.push(out.loss.item());
        drop(out);
        optimizer.step(3e-4, None);
        if step >= WARM_UP {
            seconds.push(started.elapsed().as_secs_f64());
        }
    }
    let speed = |s: f64| n as f64 / s;
    Ok(Trained {
        shape: shape.name.into(),
        parameters: model.parameter_count(),
        trainable: model.params().iter().map(|p| p.len()).sum(),
        tokens_per_step: n,
        steps,
        tokens_per_s: speed(median(&seconds)),
        slowest_tokens_per_s: speed(seconds.iter().copied().fold(0.0, f64::max)),
        fastest_tokens_per_s: speed(seconds.iter().copied().fold(f64::INFINITY, f64::min)),
        peak_mb: machine::peak_memory() as f64 / 1e6,
        losses,
        simd: simd::level().name().into(),
        threads: par::threads(),
    })
}

fn generate(&(case, shape, sequences, tokens_each): &(&str, &str, usize, usize), app: &App) -> Result<Generated> {
    let shape = SHAPES.iter().find(|s| s.name == shape).expect("a case names a shape");
    let model = model(shape)?;
    let mut stream = Stream::new(0, &["data"]);
    let mut requests = |n: usize, max_tokens: usize| -> Vec<Request> {
        let settings = Arc::new(Settings { rules: Rules::default(), max_tokens, min_tokens: 0, end: vec![] });
        let mut prompt = || (0..PROMPT).map(|_| stream.below(shape.dims[0]) as u32).collect();
        let request = |i: usize, prompt| Request {
            prompt,
            settings: settings.clone(),
            stream: Stream::new(i as u64, &["sample"]),
            first: 0,
            n: 1,
        };
        (0..n).map(|i| request(i, prompt())).collect()
    };
    let run = |requests: &[Request]| {
        let mut made = 0;
        let count = |c: postgrad_nn::sample::Completion| {
            made += c.tokens.len();
            Ok(())
        };
        sample(&model, requests, sequences, None, &app.cancel, count).map(|()| made)
    };
    run(&requests(sequences, 4))?;
    let requests = requests(sequences, tokens_each);
    let started = Instant::now();
    let made = run(&requests)?;
    Ok(Generated {
        case: case.into(),
        sequences,
        tokens_each,
        tokens_per_s: made as f64 / started.elapsed().as_secs_f64(),
        peak_mb: machine::peak_memory() as f64 / 1e6,
        simd: simd::level().name().into(),
        threads: par::threads(),
    })
}

fn show_trained(rows: &[Trained], app: &App, all: bool) -> Result<()> {
    if let ([row], true, false) = (rows, app.json, all) {
        return app.value(row);
    }
    let mut table = Table::new(&[
        "shape",
        "tokens/s",
        "slowest",
        "fastest",
        "peak MB",
        "parameters",
        "trainable",
        "first loss",
        "last",
    ]);
    for r in rows {
        let loss = |l: Option<&f32>| Cell::number(f64::from(l.copied().unwrap_or(f32::NAN)), 3);
        table.row([
            Cell::text(&r.shape),
            Cell::count(r.tokens_per_s as u64),
            Cell::count(r.slowest_tokens_per_s as u64),
            Cell::count(r.fastest_tokens_per_s as u64),
            Cell::count(r.peak_mb as u64),
            Cell::count(r.parameters as u64),
            Cell::count(r.trainable as u64),
            loss(r.losses.first()),
            loss(r.losses.last()),
        ]);
    }
    if let Some(r) = rows.first() {
        table.note(format!("median of the timed steps; float32, SIMD {}, {} threads", r.simd, r.threads));
    }
    app.table(&table, &rows)
}

fn show_generated(rows: &[Generated], app: &App, all: bool) -> Result<()> {
    if let ([row], true, false) = (rows, app.json, all) {
        return app.value(row);
    }
    let mut table = Table::new(&["case", "sequences", "tokens each", "tokens/s", "peak MB"]);
    for r in rows {
        table.row([
            Cell::text(&r.case),
            Cell::count(r.sequences as u64),
            Cell::count(r.tokens_each as u64),
            Cell::count(r.tokens_per_s as u64),
            Cell::count(r.peak_mb as u64),
        ]);
    }
    if let Some(r) = rows.first() {
        table.note(format!(
            "prompts of {PROMPT} tokens, temperature 1; float32, SIMD {}, {} threads",
            r.simd, r.threads
        ));
    }
    app.table(&table, &rows)
}
