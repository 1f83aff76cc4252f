//! CoT-Valve (Ma et al., ACL 2025, arXiv 2502.09601): one model whose reasoning length is set by the scale of its adapter.
//!
//! A model that writes long chains gets a LoRA trained on short ones; at run time the LoRA is scaled by alpha: 0 writes long,
//! 1 short, between lies between, above 1 is shorter still. Two refinements: every example carries the scale that belongs to its
//! length (column `adapter_scale`, "++"), or training goes from the longest chains to the shortest (several `sft` stages over
//! the parts of `mix-chain`, "+P"). Tuning itself is the stage `sft`; the scale of a single evaluation is a key of `eval`.
//!
//! - `mix-chain`: right answers of several lengths to each question, sampled over alphas
//! - `valve`: length and accuracy of the same items over alphas, one wide row an item
//! - `interpolate`: the model between two checkpoints, where there is no short data to train an adapter on
//! - `random-adapter`: a control: an adapter of the same norms in random directions
//! - `chain-traces`: responses of several lengths to problems of `chain`, for small experiments
//!
//! A length is that of the chain alone, in tokens: see [`chain_of`]. Left out on purpose: choosing alpha for a question by
//! itself, and the pruning baselines of the paper (SimPO), which are other systems.

use std::collections::BTreeMap;

use postgrad_audit::{Asker, Judge, answers};
use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result};
use postgrad_data::{Body, Tokenizer};
use postgrad_lab::stage::{Cx, Input, Kind, Stage};
use postgrad_lab::stages::row;
use postgrad_lab::store::Item;
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::logits::Rules;
use postgrad_nn::merge;
use postgrad_reason::{ModelFolder, Options};
use postgrad_tasks::{Problem, Task, chain::Chain, chain::Graph};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The kinds of stages that stand here.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<MixChain>(),
        Kind::of::<Valve>(),
        Kind::of::<Interpolate>(),
        Kind::of::<RandomAdapter>(),
        Kind::of::<ChainTraces>(),
    ]
}

/// The reasoning of a response without its final answer: what stands in `<think>`, else what stands before the last `####` or
/// before the line of the last `\boxed`, else all of it.
pub fn chain_of(text: &str) -> &str {
    let chain = if let Some(end) = text.find("</think>") {
        let open = text[..end].find("<think>").map_or(0, |at| at + "<think>".len());
        &text[open..end]
    } else if let Some(at) = text.rfind("####") {
        &text[..at]
    } else if let Some(at) = text.rfind("\\boxed") {
        &text[..text[..at].rfind('\n').unwrap_or(0)]
    } else {
        text
    };
    chain.trim()
}

fn length(tokenizer: &Tokenizer, text: &str) -> Result<usize> {
    Ok(tokenizer.encode(chain_of(text))?.len())
}

/// The scale that belongs to a chain of length `m` among a question's chains: 1 for the shortest, 0 for the longest; 1 where
/// all are equally long.
pub fn beta(m: usize, least: usize, most: usize) -> f32 {
    if most == least { 1.0 } else { 1.0 - (m - least) as f32 / (most - least) as f32 }
}

/// `0.25` as it stands in names of columns and parts: `25`.
fn percent(alpha: f32) -> i64 {
    (alpha * 100.0).round() as i64
}

/// A model at several settings of the valve: its adapter scaled, or its weights on the way to another model.
struct Knob {
    model: ModelFolder,
    toward: Option<ModelFolder>,
}

impl Knob {
    fn load(model: &Input, toward: Option<&Input>, cx: &Cx) -> Result<Self> {
        let model = cx.model(model)?;
        let toward = toward.map(|t| cx.model(t)).transpose()?;
        if let Some(other) = &toward {
            check_pair(&model, other)?;
        }
        Ok(Self { model, toward })
    }

    fn at(&self, alpha: f32) -> Result<ModelFolder> {
        let mut model = self.model.clone();
        match &self.toward {
            Some(other) => model.decoder.weights = merge::interpolate(&self.model.decoder, &other.decoder, alpha)?,
            None => model.scale_adapters(alpha)?,
        }
        Ok(model)
    }
}

/// Refuses models whose weights have no line between them: adapters, other tokenizers, other shapes.
fn check_pair(a: &ModelFolder, b: &ModelFolder) -> Result<()> {
    for m in [a, b] {
        if !m.decoder.adapters.is_empty() {
            return Err(Error::usage(format!("`{}` is an adapter, and whole models are needed", m.name))
                .help("scale the adapter itself, or merge it first"));
        }
    }
    let (x, y) = (a.renderer.tokenizer(), b.renderer.tokenizer());
    let differs = |id: u32| x.token_of(id) != y.token_of(id);
    if x.vocab_size() != y.vocab_size() || (0..x.vocab_size() as u32).any(differs) {
        return Err(Error::usage(format!("`{}` and `{}` have different tokenizers", a.name, b.name))
            .help("only models of one vocabulary can be mixed"));
    }
    merge::check(&a.decoder, &b.decoder)
}

fn alphas_fault(alphas: &[f32]) -> Result<()> {
    if alphas.is_empty() || alphas.iter().any(|a| !a.is_finite()) {
        return Err(Error::usage("`alphas` is a list of numbers, and has one at least"));
    }
    let mut seen: Vec<i64> = alphas.iter().map(|a| percent(*a)).collect();
    seen.sort_unstable();
    if seen.windows(2).any(|w| w[0] == w[1]) {
        return Err(Error::usage("two alphas are the same to a hundredth"));
    }
    Ok(())
}

fn options(max_tokens: usize, temperature: f32, samples: usize, seed: u64) -> Options {
    let rules = if temperature == 0.0 { Rules::greedy() } else { Rules { temperature, ..Rules::default() } };
    Options { rules, n: samples, seed, ..Options::greedy(max_tokens) }
}

fn max_tokens() -> usize {
    128
}
fn one() -> usize {
    1
}

/// `mix-chain`: right answers of several lengths to each question.
///
/// `records.jsonl` has, question by question from the longest chain to the shortest, `prompt`, `completion`, `alpha` (the
/// scale it was sampled at), `length` (of the chain), `adapter_scale` (the question's own [`beta`]) and the record's `problem`.
/// `alpha-25.jsonl` and the like hold the same by alpha without `adapter_scale`: the passes of progressive training. Only
/// answers that are right and whole are kept, each text once a question.
pub struct MixChain;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixConfig {
    /// A model with an adapter; or, with `toward`, the whole model that alpha = 0 is.
    pub model: Input,
    /// The whole model that alpha = 1 is (no short data needed).
    #[serde(default)]
    pub toward: Option<Input>,
    /// Questions with reference answers or with problems of a task.
    pub data: Input,
    #[serde(default = "mix_alphas")]
    pub alphas: Vec<f32>,
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// 0 is greedy.
    #[serde(default)]
    pub temperature: f32,
    /// Answers at each alpha.
    #[serde(default = "one")]
    pub samples: usize,
    /// Questions with fewer different right answers are left out.
    #[serde(default = "one")]
    pub least: usize,
}

fn mix_alphas() -> Vec<f32> {
    vec![0.0, 0.25, 0.5, 0.75, 1.0]
}

/// One kept answer.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    completion: String,
    length: usize,
    alpha: f32,
}

impl Stage for MixChain {
    const NAME: &'static str = "mix-chain";
    const ABOUT: &'static str = "right answers of several lengths, sampled over adapter scales";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["sample"];
    type Config = MixConfig;

    fn streams(config: &Self::Config) -> &'static [&'static str] {
        if config.temperature == 0.0 { &[] } else { Self::STREAMS }
    }

    fn check(c: &Self::Config) -> Result<()> {
        alphas_fault(&c.alphas)?;
        if c.samples == 0 || (c.samples > 1 && c.temperature == 0.0) {
            return Err(Error::usage("several samples need a temperature, and one is the least"));
        }
        Ok(())
    }

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let knob = Knob::load(&config.model, config.toward.as_ref(), cx)?;
        let items = cx.items(&config.data)?;
        let mut kept: Vec<Vec<Kept>> = vec![vec![]; items.len()];
        let mut progress = Progress::new(cx.progress, "mix-chain", (config.alphas.len() * items.len()) as u64);
        let (mut sampled, mut asked) = (0, 0);
        let mut by_alpha: Vec<Item> = Vec::new();
        for (round, &alpha) in config.alphas.iter().enumerate() {
            let model = knob.at(alpha)?;
            let asker = Asker::new(model.renderer.clone());
            let seed = cx.stream("sample").nth(round as u64).next_u64();
            let options = options(config.max_tokens, config.temperature, config.samples, seed);
            let told = |done: usize, _: usize| progress.set((round * items.len() + done / config.samples) as u64, "");
            let rows = answers::run(&model, &asker, &items, Judge::Answer, &options, &cx.cancel, told)?;
            let (mut right, mut tokens) = (0usize, 0usize);
            for answer in rows.iter().flat_map(|r| r.responses.iter().map(move |a| (r.item, a))) {
                let (item, answer) = answer;
                sampled += answer.tokens;
                asked += 1;
                if !answer.right(false) {
                    continue;
                }
                let length = length(model.renderer.tokenizer(), &answer.text)?;
                (right, tokens) = (right + 1, tokens + length);
                if kept[item].iter().all(|k| k.completion != answer.text) {
                    kept[item].push(Kept { completion: answer.text.clone(), length, alpha });
                }
            }
            let all = (items.len() * config.samples).max(1);
            let figures = json!({"alpha": alpha, "accuracy": right as f64 / all as f64,
                "length": tokens as f64 / right.max(1) as f64});
            by_alpha.push(figures_row(&format!("alpha-{}", percent(alpha)), figures));
        }
        progress.finish();
        cx.spend("sampled_tokens", sampled as u64);
        cx.spend("samples", asked);
        let mut records = Vec::new();
        let mut passes: BTreeMap<i64, Vec<Value>> = config.alphas.iter().map(|a| (percent(*a), vec![])).collect();
        let mut questions = 0;
        for (item, mut own) in items.iter().zip(kept).filter(|(_, own)| own.len() >= config.least.max(1)) {
            questions += 1;
            // From long to short; equally long ones as they were sampled.
            own.sort_by_key(|k| std::cmp::Reverse(k.length));
            let (most, least) = (own[0].length, own[own.len() - 1].length);
            let base = base_record(&item.record.body, item.problem.as_ref());
            for k in own {
                let mut row = base.clone();
                row.insert("completion".into(), json!(k.completion));
                row.insert("alpha".into(), json!(k.alpha));
                row.insert("length".into(), json!(k.length));
                passes.entry(percent(k.alpha)).or_default().push(Value::Object(row.clone()));
                row.insert("adapter_scale".into(), json!(beta(k.length, least, most)));
                records.push(Value::Object(row));
            }
        }
        if records.is_empty() {
            return Err(Error::work("no answer is right, so there is nothing to train on")
                .help("give easier questions, or a model that can answer some"));
        }
        for (alpha, rows) in &passes {
            cx.write_jsonl(&format!("alpha-{alpha}.jsonl"), rows)?;
        }
        by_alpha.push(figures_row("all", json!({"questions": questions, "chains": records.len()})));
        cx.write_rows(&by_alpha)?;
        cx.write_jsonl("records.jsonl", &records)
    }
}

fn figures_row(name: &str, figures: Value) -> Item {
    let metrics = figures.as_object().cloned().unwrap_or_default();
    Item { item: name.into(), cluster: None, metrics }
}

/// What a question's records have in common: its prompt (turns before the reference, where there are several) and problem.
fn base_record(body: &Body, problem: Option<&Problem>) -> Map<String, Value> {
    let mut row = Map::new();
    let prompt = match body {
        Body::Text(text) | Body::PromptCompletion { prompt: text, .. } => json!(text),
        Body::Messages(turns) => {
            let last = turns.iter().rposition(|t| t.role == "assistant").unwrap_or(turns.len());
            match &turns[..last] {
                [one] if one.role == "user" => json!(one.content),
                several => json!(several),
            }
        }
    };
    row.insert("prompt".into(), prompt);
    if let Some(p) = problem {
        row.insert("problem".into(), json!(p));
    }
    row
}

/// `valve`: the same items at several settings, greedy. Columns of a row, for alpha = 0.25: `tokens_25` (the chain alone),
/// `generated_25` (all of the response), `accuracy_25`, `truncated_25`.
pub struct Valve;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValveConfig {
    /// A model with an adapter; or, with `toward`, the whole model that alpha = 0 is.
    pub model: Input,
    #[serde(default)]
    pub toward: Option<Input>,
    pub data: Input,
    #[serde(default = "valve_alphas")]
    pub alphas: Vec<f32>,
    /// The first items alone.
    #[serde(default)]
    pub limit: Option<usize>,
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// Words put after every prompt, with a blank before: control by prompt.
    #[serde(default)]
    pub suffix: Option<String>,
}

fn valve_alphas() -> Vec<f32> {
    vec![0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
}

impl Stage for Valve {
    const NAME: &'static str = "valve";
    const ABOUT: &'static str = "length and accuracy over scales of an adapter, the same items at each";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = ValveConfig;

    fn check(c: &Self::Config) -> Result<()> {
        alphas_fault(&c.alphas)
    }

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let knob = Knob::load(&config.model, config.toward.as_ref(), cx)?;
        let mut items = cx.items(&config.data)?;
        items.truncate(config.limit.unwrap_or(usize::MAX));
        if let Some(suffix) = &config.suffix {
            for item in &mut items {
                with_suffix(&mut item.record.body, suffix);
            }
        }
        let mut wide: Vec<Map<String, Value>> = vec![Map::new(); items.len()];
        let mut progress = Progress::new(cx.progress, "valve", (config.alphas.len() * items.len()) as u64);
        let mut sampled = 0;
        let mut said = Vec::new();
        for (round, &alpha) in config.alphas.iter().enumerate() {
            let model = knob.at(alpha)?;
            let asker = Asker::new(model.renderer.clone());
            let told = |done: usize, _: usize| progress.set((round * items.len() + done) as u64, "");
            let options = options(config.max_tokens, 0.0, 1, 0);
            let rows = answers::run(&model, &asker, &items, Judge::Answer, &options, &cx.cancel, told)?;
            for r in &rows {
                let answer = &r.responses[0];
                sampled += answer.tokens as u64;
                let chain = length(model.renderer.tokenizer(), &answer.text)?;
                let figures = [
                    ("tokens", json!(chain)),
                    ("generated", json!(answer.tokens)),
                    ("accuracy", json!(f64::from(answer.right(false)))),
                    ("truncated", json!(f64::from(answer.truncated))),
                ];
                wide[r.item].extend(figures.map(|(name, v)| (format!("{name}_{}", percent(alpha)), v)));
                said.push(json!({"alpha": alpha, "item": r.id, "text": answer.text}));
            }
        }
        progress.finish();
        cx.spend("evaluated_tokens", sampled);
        cx.write_jsonl("answers.jsonl", &said)?;
        let rows: Vec<Item> = items.iter().zip(wide).map(|(item, m)| row(item, Value::Object(m))).collect();
        cx.write_rows(&rows)
    }
}

fn with_suffix(body: &mut Body, suffix: &str) {
    match body {
        Body::Text(text) | Body::PromptCompletion { prompt: text, .. } => *text = format!("{text} {suffix}"),
        Body::Messages(turns) => {
            if let Some(user) = turns.iter_mut().rev().find(|t| t.role == "user") {
                user.content = format!("{} {suffix}", user.content);
            }
        }
    }
}

/// `interpolate`: `model/` = a + alpha (b - a), all weights.
pub struct Interpolate;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterpolateConfig {
    pub a: Input,
    pub b: Input,
    /// 0 is `a`, 1 is `b`.
    pub alpha: f32,
}

impl Stage for Interpolate {
    const NAME: &'static str = "interpolate";
    const ABOUT: &'static str = "the model between or beyond two checkpoints";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = InterpolateConfig;

    fn check(c: &Self::Config) -> Result<()> {
        alphas_fault(&[c.alpha])
    }

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let knob = Knob::load(&config.a, Some(&config.b), cx)?;
        knob.at(config.alpha)?.save(&cx.out.join("model"), Dtype::F32)
    }
}

/// `random-adapter`: `adapter/` with the shapes and the Frobenius norms of another, in random directions.
pub struct RandomAdapter;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomConfig {
    /// The adapter that it has the norms of.
    pub like: Input,
}

impl Stage for RandomAdapter {
    const NAME: &'static str = "random-adapter";
    const ABOUT: &'static str = "a control: an adapter of the same norms in random directions";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["tune"];
    type Config = RandomConfig;

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let model = cx.model(&config.like)?;
        let [adapter] = &model.decoder.adapters[..] else {
            return Err(Error::usage(format!("`{}` is not a model with one adapter", config.like)));
        };
        let other = adapter.random_like(&model.decoder.weights, &cx.stream("tune").child("random-adapter"));
        let base = std::path::absolute(&model.dir).unwrap_or_else(|_| model.dir.clone());
        model.save_adapter(&other, &cx.out.join("adapter"), &base.display().to_string())
    }
}

/// `chain-traces`: the records of problems of `chain` with responses of one style, each checked by the task's verifier.
pub struct ChainTraces;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    pub data: Input,
    pub style: Style,
}

/// From long to short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Every step named and undone again: `Bob: 3+4=7. Check: 7-4=3. Cid: 7*2=14. Check: 14/2=7.`
    Checked,
    /// All steps once more as a check: `Bob: 3+4=7. Cid: 7*2=14. Again: Bob: 3+4=7. Cid: 7*2=14.`
    Twice,
    /// Every step named: `Bob: 3+4=7. Cid: 7*2=14.`
    Named,
    /// Equations alone: `3+4=7. 7*2=14.`
    Equations,
    /// Steps on the same quantity merged: `3+4=7*2=14.`
    Merged,
}

impl Stage for ChainTraces {
    const NAME: &'static str = "chain-traces";
    const ABOUT: &'static str = "responses of several lengths to problems of `chain`";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = TracesConfig;

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let mut rows = Vec::new();
        for item in cx.items(&config.data)? {
            let problem = item.problem.as_ref().ok_or_else(|| {
                Error::usage("the record has no problem").at(&item.id).help("give what `draw` made of the task `chain`")
            })?;
            let text = trace(problem, config.style)?;
            if !Chain.verify(problem, &text).correct {
                return Err(Error::work("the written trace is not right").at(&item.id));
            }
            rows.push(json!({"prompt": item.asked(), "completion": text, "problem": problem}));
        }
        cx.write_jsonl("records.jsonl", &rows)
    }
}

fn trace(problem: &Problem, style: Style) -> Result<String> {
    let graph = Graph::of(problem)?;
    let mut parts: Vec<String> = Vec::new();
    let mut last = None;
    for i in graph.plan() {
        let Some((a, sign, b, c)) = graph.parts(i) else { continue };
        let (name, equation) = (&graph.nodes[i].name, format!("{a}{sign}{b}={c}"));
        match style {
            Style::Checked => {
                let undo = match sign {
                    '+' => '-',
                    '-' => '+',
                    '*' => '/',
                    _ => '*',
                };
                parts.push(format!("{name}: {equation}. Check: {c}{undo}{b}={a}."));
            }
            Style::Named | Style::Twice => parts.push(format!("{name}: {equation}.")),
            Style::Equations => parts.push(format!("{equation}.")),
            Style::Merged => match parts.last_mut() {
                // Goes on from the value just written.
                Some(before) if last == Some(a) => {
                    before.pop();
                    *before += &format!("{sign}{b}={c}.");
                }
                _ => parts.push(format!("{equation}.")),
            },
        }
        last = Some(c);
    }
    let mut chain = parts.join(" ");
    if style == Style::Twice {
        chain = format!("{chain} Again: {chain}");
    }
    Ok(format!("{chain}\n#### {}", graph.answer()))
}

#[cfg(test)]
mod tests;
