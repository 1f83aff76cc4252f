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
mod tests {
    use super::*;
    use postgrad_base::Stream;
    use postgrad_lab::stage::{Place, alone, golden, read_rows};
    use postgrad_lab::stages::{Draw, Sft};
    use postgrad_nn::LoraSpec;
    use postgrad_tasks::{Split, draw};
    use postgrad_tensor::no_grad;
    use std::path::{Path, PathBuf};

    fn base() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")
    }

    fn seed() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/seed-1m")
    }

    fn problems(n: u64) -> Vec<Problem> {
        let difficulty = Chain.difficulty("steps=3,shape=tree").unwrap();
        (0..n).map(|i| draw(&Chain, &mut Stream::new(i, &["data"]), &difficulty, Split::Train).unwrap()).collect()
    }

    #[test]
    fn betas_are_at_both_ends_and_never_nan() {
        assert_eq!((beta(3, 3, 11), beta(11, 3, 11), beta(7, 3, 11)), (1.0, 0.0, 0.5));
        assert_eq!(beta(5, 5, 5), 1.0);
    }

    #[test]
    fn lengths_are_of_the_chain_alone() {
        for (text, chain) in [
            ("Bob: 1+1=2.\n#### 2", "Bob: 1+1=2."),
            ("<think>\nso 2\n</think>\n\n#### 2", "so 2"),
            ("first\nthus \\boxed{2}", "first"),
            ("\\boxed{2}", ""),
            ("#### 2", ""),
            ("no answer", "no answer"),
        ] {
            assert_eq!(chain_of(text), chain, "{text}");
        }
    }

    #[test]
    fn traces_of_all_styles_are_right_and_get_shorter() {
        let tokenizer = Tokenizer::load(&seed()).unwrap();
        let mut sums = [0; 5];
        for p in problems(40) {
            let styles = [Style::Checked, Style::Twice, Style::Named, Style::Equations, Style::Merged];
            for (sum, style) in sums.iter_mut().zip(styles) {
                let text = trace(&p, style).unwrap();
                assert!(Chain.verify(&p, &text).correct, "{text}");
                *sum += length(&tokenizer, &text).unwrap();
            }
        }
        assert!(sums.is_sorted_by(|a, b| a > b), "{sums:?}");
    }

    /// An adapter folder beside the fixture, far from zero.
    fn adapter(dir: &Path) -> PathBuf {
        let mut model = ModelFolder::load(&base()).unwrap();
        let spec = LoraSpec { rank: 2, ..LoraSpec::default() };
        model.decoder.add_lora("new", spec, &Stream::new(1, &["tune"])).unwrap();
        let mut s = Stream::new(2, &["tune"]);
        model.decoder.params().iter().for_each(|p| {
            p.update(|w| w.iter_mut().for_each(|w| *w += 0.05 * s.normal() as f32));
        });
        let folder = dir.join("lora/adapter");
        let adapter = model.decoder.adapters[0].clone();
        model.save_adapter(&adapter, &folder, &base().display().to_string()).unwrap();
        folder
    }

    fn logits(model: &ModelFolder) -> Vec<f32> {
        use postgrad_nn::decoder::{Pass, Walk};
        let ids = model.renderer.tokenizer().encode("Tom has 3 apples and").unwrap();
        let pass = Pass::sequences(&[ids.len()]);
        no_grad(|| model.decoder.logits(&model.decoder.hidden(&ids, &Walk::Tape(&pass))).data().to_vec())
    }

    fn worst(a: &[f32], b: &[f32]) -> f32 {
        let scale = b.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        a.iter().zip(b).fold(0.0, |m, (x, y)| m.max((x - y).abs() / scale))
    }

    #[test]
    fn a_closed_valve_is_the_base_and_an_open_one_the_merged_model() {
        let dir = tempfile::tempdir().unwrap();
        let knob = Knob { model: ModelFolder::load(&adapter(dir.path())).unwrap(), toward: None };
        let plain = ModelFolder::load(&base()).unwrap();
        assert!(logits(&knob.at(0.0).unwrap()) == logits(&plain), "bit for bit");
        for alpha in [1.0, 0.5, 1.5] {
            let open = knob.at(alpha).unwrap();
            let mut merged = plain.clone();
            open.decoder.adapters[0].merge_into(&mut merged.decoder.weights, 1.0).unwrap();
            let (got, want) = (logits(&open), logits(&merged));
            assert!(worst(&got, &want) < 1e-5, "{alpha}: {}", worst(&got, &want));
            assert!(worst(&got, &logits(&plain)) > 1e-3);
        }
        assert_eq!(Knob { model: plain, toward: None }.at(0.5).err().unwrap().exit_code(), 2);
    }

    #[test]
    fn the_adapter_term_is_linear_in_its_scale() {
        let dir = tempfile::tempdir().unwrap();
        let model = ModelFolder::load(&adapter(dir.path())).unwrap();
        let adapter = &model.decoder.adapters[0];
        let at = |alpha: f32| {
            let mut weights = ModelFolder::load(&base()).unwrap().decoder.weights;
            let mut scaled = adapter.clone();
            scaled.scale = alpha;
            scaled.merge_into(&mut weights, 1.0).unwrap();
            weights.iter().flat_map(|(_, _, w)| w.tensor().data().to_vec()).collect::<Vec<f32>>()
        };
        let (zero, half, one) = (at(0.0), at(0.5), at(1.0));
        for ((z, h), o) in zero.iter().zip(&half).zip(&one) {
            assert!((h - z - 0.5 * (o - z)).abs() < 1e-6);
        }
    }

    #[test]
    fn between_checkpoints_both_ends_are_reproduced() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = ModelFolder::load(&base()).unwrap();
        other.decoder.weights.train(|_| true);
        other.decoder.params().iter().for_each(|p| p.update(|w| w.iter_mut().for_each(|w| *w *= 1.1)));
        other.save(&dir.path().join("other"), Dtype::F32).unwrap();
        let inputs = [("a", Place::Model(base())), ("b", Place::Model(dir.path().join("other")))];
        let kind = Kind::of::<Interpolate>();
        let at = |alpha: f32| {
            let out = dir.path().join(format!("at-{}", percent(alpha)));
            alone(&kind, &json!({"a": "@a", "b": "@b", "alpha": alpha}), &inputs, 0, &out).unwrap();
            logits(&ModelFolder::load(&out.join("model")).unwrap())
        };
        assert!(at(0.0) == logits(&ModelFolder::load(&base()).unwrap()));
        assert!(at(1.0) == logits(&ModelFolder::load(&dir.path().join("other")).unwrap()));
        assert!(at(0.5) != at(0.0) && at(0.5) != at(1.0));
        let seed = [("a", Place::Model(base())), ("b", Place::Model(seed()))];
        let e = alone(&kind, &json!({"a": "@a", "b": "@b", "alpha": 0.5}), &seed, 0, &dir.path().join("no"));
        assert!(e.err().unwrap().to_string().contains("tokenizers"));
    }

    #[test]
    fn mixed_chains_are_right_sorted_and_scaled_by_question() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        // The seed solves one-digit problems; a random adapter of small norm makes its answers differ.
        let mut model = ModelFolder::load(&seed()).unwrap();
        model.decoder.add_lora("new", LoraSpec { rank: 2, ..LoraSpec::default() }, &Stream::new(1, &["tune"])).unwrap();
        let mut s = Stream::new(2, &["tune"]);
        model.decoder.params().iter().for_each(|p| {
            p.update(|w| w.iter_mut().for_each(|w| *w += 0.01 * s.normal() as f32));
        });
        let adapter = model.decoder.adapters[0].clone();
        model.save_adapter(&adapter, &dir.join("lora/adapter"), &seed().display().to_string()).unwrap();
        let config = json!({"task": "chain", "difficulty": "steps=1,digits=1", "n": 4});
        alone(&Kind::of::<Draw>(), &config, &[], 0, &dir.join("data")).unwrap();
        let inputs = [("m", Place::Stage(dir.join("lora"))), ("data", Place::Stage(dir.join("data")))];
        let config = json!({"model": "@m", "data": "@data", "alphas": [0, 1], "max_tokens": 40, "temperature": 1.0,
            "samples": 3});
        alone(&Kind::of::<MixChain>(), &config, &inputs, 0, &dir.join("mix")).unwrap();
        let read = |name: &str| -> Vec<Value> {
            let text = std::fs::read_to_string(dir.join("mix").join(name)).unwrap();
            text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
        };
        let rows = read("records.jsonl");
        let mut by_question: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for r in &rows {
            let problem: Problem = serde_json::from_value(r["problem"].clone()).unwrap();
            assert!(Chain.verify(&problem, r["completion"].as_str().unwrap()).correct, "{r}");
            by_question.entry(problem.id).or_default().push(r);
        }
        for own in by_question.values() {
            let lengths: Vec<u64> = own.iter().map(|r| r["length"].as_u64().unwrap()).collect();
            assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
            let scales: Vec<f64> = own.iter().map(|r| r["adapter_scale"].as_f64().unwrap()).collect();
            assert_eq!(*scales.last().unwrap(), 1.0);
            assert!(lengths[0] == *lengths.last().unwrap() || scales[0] == 0.0);
        }
        assert_eq!(read("alpha-0.jsonl").len() + read("alpha-100.jsonl").len(), rows.len());
        assert!(read("alpha-0.jsonl").iter().all(|r| r.get("adapter_scale").is_none() && r["alpha"] == 0.0));
        // What was mixed can be trained on.
        let config = json!({"model": "@m", "data": "@mix", "steps": 1, "batch": 2, "lora": {"continue": true}});
        let inputs = [("m", Place::Stage(dir.join("lora"))), ("mix", Place::Stage(dir.join("mix")))];
        alone(&Kind::of::<Sft>(), &config, &inputs, 0, &dir.join("tuned")).unwrap();
    }

    #[test]
    fn a_sweep_has_one_wide_row_an_item() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        adapter(dir);
        let config = json!({"task": "chain", "difficulty": "steps=1,digits=1", "n": 3});
        alone(&Kind::of::<Draw>(), &config, &[], 0, &dir.join("data")).unwrap();
        let inputs = [("m", Place::Stage(dir.join("lora"))), ("data", Place::Stage(dir.join("data")))];
        let run = |out: &str, extra: Value| {
            let mut config = json!({"model": "@m", "data": "@data", "alphas": [0, 0.25, 1.5], "max_tokens": 8});
            config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            alone(&Kind::of::<Valve>(), &config, &inputs, 0, &dir.join(out))?;
            read_rows(&dir.join(out).join("rows.jsonl"))
        };
        let rows = run("out", json!({})).unwrap();
        assert_eq!(rows.len(), 3);
        for r in &rows {
            assert!(r.cluster.is_some() && r.metrics["steps"] == 1);
            for column in ["tokens_0", "generated_25", "accuracy_150", "truncated_0"] {
                assert!(r.metrics[column].is_number(), "{column}");
            }
        }
        assert_eq!(run("again", json!({"limit": 2})).unwrap()[..], rows[..2]);
        assert_eq!(run("no", json!({"alphas": []})).unwrap_err().exit_code(), 2);
        assert_eq!(run("no", json!({"alphas": [0.5, 0.501]})).unwrap_err().exit_code(), 2);
        let kind = Kind::of::<RandomAdapter>();
        alone(&kind, &json!({"like": "@m"}), &inputs[..1], 0, &dir.join("random")).unwrap();
        let norm = |d: &str| {
            let m = ModelFolder::load(&dir.join(d).join("adapter")).unwrap();
            m.decoder.adapters[0].modules.values().map(|m| m.norm()).sum::<f64>()
        };
        assert!((norm("random") / norm("lora") - 1.0).abs() < 1e-3);
    }

    #[test]
    fn golden_runs() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"task": "chain", "difficulty": "steps=2,digits=1", "n": 2});
        alone(&Kind::of::<Draw>(), &config, &[], 0, &dir.path().join("data")).unwrap();
        let data = ("data", Place::Stage(dir.path().join("data")));
        let config = json!({"data": "@data", "style": "checked"});
        golden(&Kind::of::<ChainTraces>(), &config, std::slice::from_ref(&data), "fb27b2b989d0dfdd");
        adapter(dir.path());
        let config = json!({"model": "@m", "data": "@data", "alphas": [0, 0.5], "max_tokens": 6});
        golden(
            &Kind::of::<Valve>(),
            &config,
            &[("m", Place::Stage(dir.path().join("lora"))), data],
            "fb1fbd55ffeb8cf7",
        );
    }
}
