//! `bench rl`: where the time of reinforcement training goes.
//!
//! GRPO with a KL to the reference on a built-in model and three-step `chain` problems, from the first iteration on: sampling, the
//! verifier's rewards, log-probs of the old and the reference policy, forward and backward with the update.

use postgrad_base::Result;
use postgrad_base::event::Null;
use postgrad_base::progress::Mode;
use postgrad_lab::table::{Cell, Table};
use postgrad_reason::draw::{difficulties, find_rendering, problems};
use postgrad_tasks::{Split, task};
use postgrad_tensor::{par, simd};
use postgrad_train::prompts::Prompt;
use postgrad_train::rewards::{Limits, Rewards};
use postgrad_train::rl::{Extras, Method, OnPolicy};
use postgrad_train::{Checkpoints, Settings};
use serde_json::json;

use crate::frame::App;
use crate::machine;
use crate::model::resolve_model;

const PROMPTS: usize = 16;
const MAX_TOKENS: usize = 128;

pub fn run(model: &str, iterations: u64, app: &App) -> Result<()> {
    let mut model = resolve_model(model, None)?;
    model.decoder.weights.train(|_| true);
    let chain = task("chain")?;
    let rendering = find_rendering(&*chain, None)?;
    let stream = postgrad_base::Stream::new(0, &["data", "chain"]);
    let drawn = problems(&*chain, &difficulties(&*chain, "steps=3")?, 256, Split::Train, &stream)?;
    let prompts = drawn.into_iter().map(|p| Prompt::of_problem(p, &rendering, &model.renderer));
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    let method = Method { max_tokens: MAX_TOKENS, ..Method::grpo() };
    let settings = Settings {
        steps: Some(iterations),
        batch: PROMPTS,
        lr: 1e-4,
        checkpoints: Checkpoints::LastOnly,
        ..Settings::full()
    };
    let mut rewards =
        Rewards::parse(&[], Limits { max_tokens: MAX_TOKENS, command: std::time::Duration::from_secs(60) })?;
    let (outcome, shares) = OnPolicy {
        model: &model,
        settings: &settings,
        method: &method,
        prompts: &prompts,
        rewards: &mut rewards,
        exam: None,
        shuffle_rewards: false,
        guard: false,
        sink: &mut Null,
        cancel: app.cancel.clone(),
        progress: Mode::Quiet,
        dir: None,
        extras: Extras::default(),
    }
    .run()?;
    let parts = [
        ("rollout", shares.rollout),
        ("rewards", shares.rewards),
        ("log-probs", shares.log_probs),
        ("update", shares.update),
    ];
    let all: f64 = parts.iter().map(|p| p.1).sum();
    let mut table = Table::new(&["part", "seconds an iteration", "share"]);
    for (name, seconds) in parts {
        table.row([Cell::text(name), Cell::number(seconds / iterations as f64, 3), Cell::number(seconds / all, 3)]);
    }
    table.note(format!(
        "GRPO on {}, {PROMPTS} prompts of {} samples, {:.0} tokens/s, peak {} MB; SIMD {}, {} threads",
        model.name,
        method.group,
        outcome.tokens_per_s,
        machine::peak_memory() / 1_000_000,
        simd::level().name(),
        par::threads()
    ));
    let rows = json!({"model": model.name, "iterations": iterations, "seconds": shares, "tokens_per_s": outcome.tokens_per_s,
        "simd": simd::level().name(), "threads": par::threads()});
    app.table(&table, &rows)
}
