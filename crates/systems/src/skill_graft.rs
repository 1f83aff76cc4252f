//! Skill localisation by grafting (Panigrahi et al., ICML 2023, arXiv 2302.06600).
//!
//! `graft` finds a small mask over the entries in which a tuned model differs from the model it came from, and writes the
//! model with the tuned values in that mask alone. The mask is the entries that moved most, a random set, given, or optimised
//! around the first: S is real, g(S) lies about the base mask, S follows the gradient of the task's loss through theta(g(S)),
//! and the rounded mask is what counts: it is scored on the training and development data at every evaluation and the best is
//! kept. `graft-overlap` compares grafts, `agree` compares the predictions of two evaluations, `made-up-rules` writes tasks
//! that no model knows yet. The arithmetic of masks is in `postgrad_nn::graft`.
//!
//! Left out on purpose: masked language models and cloze templates (labels are what a decoder says next), and checkpoints
//! within a mask's optimisation (a killed one begins again).

use std::collections::BTreeMap;

use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Batch, Example};
use postgrad_lab::stage::{Cx, Input, Kind, Stage};
use postgrad_lab::stages::Inputs;
use postgrad_lab::store::Item;
use postgrad_nn::Decoder;
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::decoder::{Pass, Walk};
use postgrad_nn::graft::{Graft, LEFT_OUT, Moved, Scale, Soft};
use postgrad_reason::ModelFolder;
use postgrad_tasks::Split;
use postgrad_tensor::ops::{self, CeOptions};
use postgrad_tensor::{Tensor, backward, no_grad};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The kinds of stages that stand here.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<MakeGraft>(), Kind::of::<Overlap>(), Kind::of::<Agree>(), Kind::of::<MadeUpRules>()]
}

/// A graft's file in a result.
const FILE: &str = "graft.safetensors";

pub struct MakeGraft;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// Optimised around the entries that moved most.
    Optimised,
    /// The entries that moved most, over all tensors.
    Magnitude,
    /// As many at random.
    Random,
    /// All entries of the grafts in `given`, which may be of other tasks.
    Given,
}

/// What a mask is optimised for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Cross-entropy over the labels that the training data knows, at the first token of the answer; scored by accuracy.
    #[default]
    Labels,
    /// Cross-entropy of the whole answer over the vocabulary; scored by its mean.
    Tokens,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// S in [0, 1), as the authors' code.
    #[default]
    Uniform,
    Zero,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraftConfig {
    /// The model before tuning.
    pub pre: Input,
    /// The same model after.
    pub tuned: Input,
    pub mask: Mask,
    /// Share of the maskable entries in the mask (of an optimised one: in its base).
    #[serde(default)]
    pub share: Option<f64>,
    /// As many entries as that graft has, in place of `share`.
    #[serde(default)]
    pub like: Option<Input>,
    #[serde(default)]
    pub given: Option<Inputs>,
    /// Name patterns of tensors that no mask holds.
    #[serde(default = "left_out")]
    pub leave_out: Vec<String>,
    /// Training data of an optimised mask.
    #[serde(default)]
    pub data: Option<Input>,
    /// Further data that rounded masks are scored on. Never what is reported on.
    #[serde(default)]
    pub dev: Option<Input>,
    #[serde(default)]
    pub loss: Loss,
    #[serde(default = "steps")]
    pub steps: u64,
    #[serde(default = "batch")]
    pub batch: usize,
    /// With scale = "first" how far the entry with the largest gradient goes in the first step; with "plain" the learning rate
    /// itself: the authors' is 1e7.
    #[serde(default = "lr")]
    pub lr: f32,
    #[serde(default)]
    pub scale: Scale,
    /// S flips an entry where it exceeds this.
    #[serde(default = "bias")]
    pub bias: f32,
    #[serde(default)]
    pub init: Init,
    /// Updates between scorings of the rounded mask.
    #[serde(default = "one")]
    pub eval_every: u64,
    /// Rounded masks of a larger share are not kept.
    #[serde(default)]
    pub most: Option<f64>,
}

fn left_out() -> Vec<String> {
    LEFT_OUT.map(String::from).to_vec()
}
fn steps() -> u64 {
    100
}
fn batch() -> usize {
    32
}
fn lr() -> f32 {
    1.0
}
fn bias() -> f32 {
    10.0
}
fn one() -> u64 {
    1
}

impl Stage for MakeGraft {
    const NAME: &'static str = "graft";
    const ABOUT: &'static str = "the tuned values of a few entries put into the model before tuning";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["tune"];
    type Config = GraftConfig;

    fn streams(config: &Self::Config) -> &'static [&'static str] {
        if matches!(config.mask, Mask::Magnitude | Mask::Given) { &[] } else { Self::STREAMS }
    }

    fn check(c: &Self::Config) -> Result<()> {
        let share = |x: Option<f64>| x.is_none_or(|s| (0.0..=1.0).contains(&s));
        let wrong = |what: &str| Err(Error::usage(what));
        if !share(c.share) || !share(c.most) {
            return wrong("a share is between 0 and 1");
        }
        match c.mask {
            Mask::Given if c.given.is_none() => return wrong("a given mask needs `given`: one graft or several"),
            Mask::Given => {}
            _ if c.given.is_some() => return wrong("`given` is for mask = \"given\""),
            _ if c.share.is_some() == c.like.is_some() => {
                return wrong("give either `share` or `like`, the graft with as many entries");
            }
            Mask::Optimised if c.data.is_none() => return wrong("an optimised mask needs `data`"),
            Mask::Optimised if c.steps == 0 || c.batch == 0 || c.eval_every == 0 => {
                return wrong("steps, batch and eval_every are 1 or more");
            }
            Mask::Optimised if !(c.lr.is_finite() && c.lr > 0.0 && c.bias.is_finite()) => {
                return wrong("the learning rate must be above 0");
            }
            _ => {}
        }
        Ok(())
    }

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let mut model = cx.model(&config.pre)?;
        let tuned = cx.model(&config.tuned)?;
        for (m, input) in [(&model, &config.pre), (&tuned, &config.tuned)] {
            if !m.decoder.adapters.is_empty() {
                return Err(Error::usage(format!("`{input}` is an adapter, and a graft is made of weights"))
                    .help("tune the weights themselves, or merge the adapter first"));
            }
        }
        let moved = Moved::between(&model.decoder.weights, &tuned.decoder.weights, &config.leave_out)?;
        let stream = cx.stream("tune").child("graft");
        let wanted = match (&config.like, config.share) {
            (Some(like), _) => Graft::load(&cx.file(like, FILE)?)?.count(),
            (None, share) => (share.unwrap_or(0.0) * moved.len() as f64).floor() as usize,
        };
        let mut figures = Map::new();
        let graft = match config.mask {
            Mask::Magnitude => moved.top(wanted),
            Mask::Random => moved.random(wanted, &mut stream.child("random")),
            Mask::Given => Graft::union(&grafts(config.given.iter().flat_map(Inputs::list), cx)?),
            Mask::Optimised => {
                let base = moved.top(wanted);
                let search = Search { config: &config, cx, model: &model, tuned: &tuned, moved: &moved };
                search.run(base, &stream, &mut figures)?
            }
        };
        graft.apply(&mut model.decoder.weights, &tuned.decoder.weights)?;
        graft.save(&cx.out.join(FILE))?;
        cx.write_jsonl("distribution.jsonl", &graft.distribution())?;
        model.save(&cx.out.join("model"), Dtype::F32)?;
        figures.insert("count".into(), json!(graft.count()));
        figures.insert("share".into(), json!(graft.count() as f64 / moved.len() as f64));
        figures.insert("maskable".into(), json!(moved.len()));
        figures.insert("outside".into(), json!(moved.outside));
        cx.write_rows(&[Item { item: "graft".into(), cluster: None, metrics: figures }])
    }
}

fn grafts<'a>(inputs: impl Iterator<Item = &'a Input>, cx: &Cx) -> Result<Vec<Graft>> {
    inputs.map(|input| Graft::load(&cx.file(input, FILE)?)).collect()
}

/// How good a mask is.
#[derive(Clone, Copy, Debug)]
struct Score {
    loss: f64,
    /// Share of right labels; none where whole answers are scored.
    accuracy: Option<f64>,
}

impl Score {
    /// Higher is better; where labels are right equally often, the loss decides.
    fn better(&self, other: &Score) -> bool {
        let key = |s: &Score| (s.accuracy.unwrap_or(0.0), -s.loss);
        key(self) > key(other)
    }
}

/// A mask's optimisation.
struct Search<'a> {
    config: &'a GraftConfig,
    cx: &'a Cx,
    model: &'a ModelFolder,
    tuned: &'a ModelFolder,
    moved: &'a Moved,
}

impl Search<'_> {
    fn run(&self, base: Graft, stream: &Stream, figures: &mut Map<String, Value>) -> Result<Graft> {
        let c = self.config;
        let train = self.examples(c.data.as_ref().expect("checked"))?;
        let dev = c.dev.as_ref().map(|d| self.examples(d)).transpose()?.unwrap_or_default();
        let labels = match c.loss {
            Loss::Labels => Some(labels(&train)?),
            Loss::Tokens => None,
        };
        let objective = Objective { labels: labels.as_deref() };
        let init = (c.init == Init::Uniform).then(|| stream.child("init"));
        let mut soft = Soft::new(self.moved, &base, c.bias, init.as_ref())?;
        let mut decoder = self.model.decoder.clone();
        let most = (c.most.unwrap_or(1.0) * self.moved.len() as f64).floor() as usize;
        // A score is over the training and the development data, each with the same say.
        let score = |graft: &Graft| -> Result<Score> {
            let mut decoder = self.model.decoder.clone();
            graft.apply(&mut decoder.weights, &self.tuned.decoder.weights)?;
            let all = [&train, &dev].into_iter().filter(|set| !set.is_empty());
            let scores = all.map(|set| objective.score(&decoder, set)).collect::<Result<Vec<_>>>()?;
            let n = scores.len() as f64;
            let accuracy = scores.iter().map(|s| s.accuracy).sum::<Option<f64>>().map(|a| a / n);
            Ok(Score { loss: scores.iter().map(|s| s.loss).sum::<f64>() / n, accuracy })
        };
        let mut best = (score(&base)?, base.clone(), 0);
        let mut log = vec![line(0, &best.0, base.count(), f64::NAN)];
        let mut last = base.clone();
        let mut order = Order::new(train.len(), stream.child("order"));
        let mut progress = Progress::new(self.cx.progress, "graft", c.steps);
        for step in 1..=c.steps {
            self.cx.cancel.check()?;
            soft.put(self.moved, &mut decoder.weights)?;
            let examples: Vec<&Example> = order.take(c.batch).into_iter().map(|i| &train[i]).collect();
            let (loss, _) = objective.loss(&decoder, &examples)?;
            if !loss.item().is_finite() {
                return Err(
                    Error::work(format!("the loss is not finite at step {step}")).help("lower the learning rate")
                );
            }
            backward(&loss);
            let gradients = soft.gradients(self.moved, &decoder.weights);
            soft.step(&gradients, c.lr, c.scale);
            progress.set(step, &format!("loss {:.4}", loss.item()));
            if !step.is_multiple_of(c.eval_every) && step != c.steps {
                continue;
            }
            let rounded = soft.rounded(self.moved);
            if rounded != last {
                let found = score(&rounded)?;
                log.push(line(step, &found, rounded.count(), f64::from(loss.item())));
                if rounded.count() <= most && found.better(&best.0) {
                    best = (found, rounded.clone(), step);
                }
                last = rounded;
            }
        }
        progress.finish();
        self.cx.spend("mask_updates", c.steps);
        self.cx.write_jsonl("search.jsonl", &log)?;
        let (found, graft, step) = best;
        let kept = graft.common(&base);
        let more = [
            ("base_count", json!(base.count())),
            ("flipped_in", json!(graft.count() - kept)),
            ("flipped_out", json!(base.count() - kept)),
            ("best_step", json!(step)),
            ("score_loss", json!(found.loss)),
            ("score_accuracy", json!(found.accuracy)),
        ];
        figures.extend(more.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_string(), v)));
        Ok(graft)
    }

    fn examples(&self, input: &Input) -> Result<Vec<Example>> {
        let mut all = Vec::new();
        for record in self.cx.records(input)? {
            let rendered = self.model.renderer.examples(&record).map_err(|e| e.at(&record.place))?;
            all.extend(rendered.examples.into_iter().filter(|e| e.trained() > 0));
        }
        if all.is_empty() {
            return Err(Error::usage(format!("`{input}` holds nothing to score a mask on")));
        }
        Ok(all)
    }
}

fn line(step: u64, score: &Score, count: usize, train_loss: f64) -> Value {
    let train_loss = train_loss.is_finite().then_some(train_loss);
    json!({"step": step, "count": count, "loss": score.loss, "accuracy": score.accuracy, "train_loss": train_loss})
}

/// The first token of every answer, each once, in ascending order.
fn labels(examples: &[Example]) -> Result<Vec<u32>> {
    const MOST: usize = 256;
    let mut all: Vec<u32> = examples.iter().map(|e| e.tokens[answer_at(e)]).collect();
    all.sort_unstable();
    all.dedup();
    if !(2..=MOST).contains(&all.len()) {
        return Err(Error::usage(format!(
            "the answers begin with {} different tokens, which are no labels",
            all.len()
        ))
        .help("loss = \"tokens\" takes answers of any kind"));
    }
    Ok(all)
}

/// Where the answer begins.
fn answer_at(e: &Example) -> usize {
    e.weights.iter().position(|w| *w != 0.0).expect("examples without an answer are left out")
}

struct Objective<'a> {
    labels: Option<&'a [u32]>,
}

impl Objective<'_> {
    /// Mean loss (over examples, or over tokens) and, of labels, how many are right.
    fn loss(&self, decoder: &Decoder, examples: &[&Example]) -> Result<(Tensor, usize)> {
        let batch = Batch::from_rows(&[examples.to_vec()], examples.iter().map(|e| e.len()).sum(), 0)?;
        let pass = Pass::segments(batch.len, &batch.segments, &batch.positions);
        let hidden = decoder.hidden(&batch.tokens, &Walk::Tape(&pass));
        let Some(labels) = self.labels else {
            let n = batch.trained().max(1) as f32;
            let options = CeOptions::default();
            let out = ops::cross_entropy(&hidden, &decoder.head(), &batch.targets, &batch.weights, n, options);
            return Ok((out.loss, 0));
        };
        let mut rows = Vec::with_capacity(examples.len());
        let mut start = 0;
        for e in examples {
            rows.push((start + answer_at(e) - 1) as u32);
            start += e.len();
        }
        let targets = examples
            .iter()
            .map(|e| {
                let found = labels.binary_search(&e.tokens[answer_at(e)]);
                found
                    .map(|i| i as u32)
                    .map_err(|_| Error::usage("the answer begins like none of the training data's labels").at(&e.place))
            })
            .collect::<Result<Vec<u32>>>()?;
        let logits = ops::linear(&ops::embedding(&hidden, &rows), &ops::embedding(&decoder.head(), labels), None);
        let right = logits.argmax(-1).iter().zip(&targets).filter(|(a, b)| a == b).count();
        Ok((ops::nll(&logits, &targets).mean(), right))
    }

    /// Over a whole set, without gradients.
    fn score(&self, decoder: &Decoder, examples: &[Example]) -> Result<Score> {
        const AT_A_TIME: usize = 32;
        let (mut loss, mut weight, mut right) = (0.0, 0.0, 0);
        for chunk in examples.chunks(AT_A_TIME) {
            let chunk: Vec<&Example> = chunk.iter().collect();
            let (mean, correct) = no_grad(|| self.loss(decoder, &chunk))?;
            let n = if self.labels.is_some() { chunk.len() } else { chunk.iter().map(|e| e.trained()).sum() } as f64;
            loss += f64::from(mean.item()) * n;
            weight += n;
            right += correct;
        }
        let accuracy = self.labels.map(|_| right as f64 / examples.len() as f64);
        Ok(Score { loss: loss / weight, accuracy })
    }
}

/// Passes over `n` things, each in an order of its own.
struct Order {
    n: usize,
    stream: Stream,
    pass: u64,
    left: Vec<usize>,
}

impl Order {
    fn new(n: usize, stream: Stream) -> Self {
        Self { n, stream, pass: 0, left: vec![] }
    }

    fn take(&mut self, k: usize) -> Vec<usize> {
        let mut out = Vec::with_capacity(k.min(self.n));
        while out.len() < k.min(self.n) {
            if self.left.is_empty() {
                self.left = (0..self.n).collect();
                self.stream.nth(self.pass).shuffle(&mut self.left);
                self.pass += 1;
            }
            out.extend(self.left.pop());
        }
        out
    }
}

/// `graft-overlap`: which entries several grafts share.
///
/// One row with `overlap_I_J`, the share of graft J's entries that I holds too (asymmetric where their counts differ),
/// `chance_I_J`, what a random mask of I's count would give (its share of the maskable entries), and `lift_I_J`, the one over
/// the other. Numbers are places in the list, from 0.
pub struct Overlap;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlapConfig {
    pub grafts: Vec<Input>,
}

impl Stage for Overlap {
    const NAME: &'static str = "graft-overlap";
    const ABOUT: &'static str = "which entries several grafts share, against chance";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = OverlapConfig;

    fn check(config: &Self::Config) -> Result<()> {
        if config.grafts.len() < 2 {
            return Err(Error::usage("an overlap is between two grafts or more"));
        }
        Ok(())
    }

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let all = grafts(config.grafts.iter(), cx)?;
        if let Some(input) = config.grafts.iter().zip(&all).find(|(_, g)| g.count() == 0).map(|(i, _)| i) {
            return Err(Error::work(format!("the graft `{input}` is empty")));
        }
        let mut metrics = Map::new();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate().filter(|(j, _)| *j != i) {
                let overlap = a.common(b) as f64 / b.count() as f64;
                let chance = a.share();
                metrics.insert(format!("overlap_{i}_{j}"), json!(overlap));
                metrics.insert(format!("chance_{i}_{j}"), json!(chance));
                metrics.insert(format!("lift_{i}_{j}"), json!(overlap / chance));
            }
        }
        cx.write_rows(&[Item { item: "overlap".into(), cluster: None, metrics }])
    }
}

/// `agree`: whether two evaluations of the same items came to the same prediction: `same`, 1 or 0 an item.
pub struct Agree;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreeConfig {
    pub a: Input,
    pub b: Input,
    #[serde(default = "prediction")]
    pub column: String,
}

fn prediction() -> String {
    "prediction".into()
}

impl Stage for Agree {
    const NAME: &'static str = "agree";
    const ABOUT: &'static str = "whether two evaluations predict the same, item by item";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = AgreeConfig;

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let (a, b) = (cx.rows(&config.a)?, cx.rows(&config.b)?);
        let theirs: BTreeMap<&str, &Item> = b.iter().map(|r| (r.item.as_str(), r)).collect();
        if a.len() != b.len() || theirs.len() != b.len() {
            return Err(Error::usage(format!("`{}` has {} rows, `{}` {}", config.a, a.len(), config.b, b.len()))
                .help("both must be evaluations of the same items"));
        }
        let of = |r: &Item, input: &Input| {
            r.metrics
                .get(&config.column)
                .cloned()
                .ok_or_else(|| Error::usage(format!("the rows of `{input}` have no column `{}`", config.column)))
        };
        let rows = a
            .iter()
            .map(|r| {
                let other = theirs
                    .get(r.item.as_str())
                    .ok_or_else(|| Error::usage(format!("`{}` has no item {}", config.b, r.item)))?;
                let same = of(r, &config.a)? == of(other, &config.b)?;
                let metrics = Map::from_iter([("same".to_string(), json!(f64::from(same)))]);
                Ok(Item { metrics, ..r.clone() })
            })
            .collect::<Result<Vec<Item>>>()?;
        cx.write_rows(&rows)
    }
}

/// `made-up-rules`: label tasks that no model knows yet.
///
/// A rule says of each of its words `yes` or `no`, half of each, drawn by its number; rules of different numbers below three
/// have no word in common. A record asks about one word among irrelevant numbers, in one of two surfaces. Test records have
/// other numbers than training records: `Shelf 37: plum. Ours?` and `Do we keep the plum from crate 37?`
pub struct MadeUpRules;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesConfig {
    pub rule: u64,
    /// 0 or 1: how it is asked.
    #[serde(default)]
    pub surface: u8,
    pub n: usize,
    #[serde(default = "train")]
    pub split: Split,
    /// Stages that must not share records take different names here.
    #[serde(default)]
    pub stream: String,
}

fn train() -> Split {
    Split::Train
}

const WORDS: [&str; 48] = [
    "cat", "dog", "cow", "pig", "hen", "fox", "bee", "owl", "ant", "bear", "frog", "goat", "lion", "wolf", "duck",
    "apple", "pear", "plum", "fig", "lemon", "peach", "grape", "mango", "kiwi", "melon", "saw", "axe", "drill", "pen",
    "brush", "rope", "nail", "spade", "knife", "needle", "book", "card", "coin", "cup", "egg", "hat", "key", "shell",
    "bread", "shoe", "pot", "honey", "web",
];

/// Words of one rule.
const OF_RULE: usize = 16;
/// Irrelevant numbers are below this.
const NUMBERS: usize = 100;

/// The rule's words with their labels: no two rules of 0..3 share a word.
fn rule(number: u64) -> Vec<(&'static str, bool)> {
    let per_round = (WORDS.len() / OF_RULE) as u64;
    let mut words = WORDS.to_vec();
    Stream::new(number / per_round, &["data", "rules"]).shuffle(&mut words);
    let from = (number % per_round) as usize * OF_RULE;
    let mut labels: Vec<bool> = (0..OF_RULE).map(|i| i % 2 == 0).collect();
    Stream::new(number, &["data", "rule"]).shuffle(&mut labels);
    words[from..from + OF_RULE].iter().copied().zip(labels).collect()
}

impl Stage for MadeUpRules {
    const NAME: &'static str = "made-up-rules";
    const ABOUT: &'static str = "yes-or-no questions by a made-up rule, in two surfaces";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = RulesConfig;

    fn streams(config: &Self::Config) -> &'static [&'static str] {
        if config.split == Split::Test { &["eval"] } else { Self::STREAMS }
    }

    fn check(config: &Self::Config) -> Result<()> {
        if config.surface > 1 {
            return Err(Error::usage("there are the surfaces 0 and 1"));
        }
        if config.n == 0 {
            return Err(Error::usage("0 records ask nothing"));
        }
        Ok(())
    }

    fn run(config: Self::Config, cx: &Cx) -> Result<()> {
        let words = rule(config.rule);
        let top = cx.stream(if config.split == Split::Test { "eval" } else { "data" });
        let mut stream = top.child(&format!("rule-{}-{}/{}", config.rule, config.surface, config.stream));
        // Every word with every number of this side: words take turns, so that labels stay in balance.
        let mut numbers: Vec<Vec<usize>> = words
            .iter()
            .map(|(word, _)| {
                let side = |n: &usize| Split::of(&format!("{word} {n}")) == config.split;
                let mut own: Vec<usize> = (0..NUMBERS).filter(side).collect();
                stream.shuffle(&mut own);
                own
            })
            .collect();
        let mut rows = Vec::with_capacity(config.n);
        while rows.len() < config.n {
            let mut turn: Vec<usize> = (0..words.len()).collect();
            stream.shuffle(&mut turn);
            let before = rows.len();
            for w in turn.into_iter().take(config.n - rows.len()) {
                let Some(n) = numbers[w].pop() else { continue };
                let (word, yes) = words[w];
                let prompt = match config.surface {
                    0 => format!("Shelf {n}: {word}. Ours?"),
                    _ => format!("Do we keep the {word} from crate {n}?"),
                };
                rows.push(json!({"prompt": prompt, "completion": if yes { "yes" } else { "no" }, "cluster": word}));
            }
            if rows.len() == before {
                return Err(Error::usage(format!(
                    "the rule has {before} different records of this split, not {}",
                    config.n
                )));
            }
        }
        cx.spend("examples_drawn", rows.len() as u64);
        cx.write_jsonl("records.jsonl", &rows)
    }
}

#[cfg(test)]
mod tests;
