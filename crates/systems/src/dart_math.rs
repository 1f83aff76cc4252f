//! 022 `dart-math`: rejection tuning that knows what is difficult (Tong et al. 2024, arXiv 2407.13690).
//!
//! Vanilla rejection tuning gives each question the same number of trials, so the training set is made of easy questions.
//! Here each question gets a target of accepted responses and is sampled until it has them. With `fail(q)` the share of wrong
//! responses of a first pass:
//!
//! | rule | target of q |
//! |---|---|
//! | `vrt` | none: `k` trials, every accepted response is kept |
//! | `uniform` | `k` |
//! | `prop2diff` | `max(1, ceil(k fail(q) / max fail))` |
//! | `permuted` | `prop2diff` with the fail rates dealt out at random (a control) |
//! | `easy` | `k pass(q) / max pass`, rounded; no floor (a control) |
//!
//! Stages: `rollout` (general) makes the first pass and, by [`Allocate`]'s targets, the pool; [`Curate`] makes the training
//! set. Arms may share one pool that holds enough for all: sample `i` of a question is the same whoever asks, so what a rule
//! takes from the pool is what sampling by that rule alone would have made. A pool that holds too little is an error.
//!
//! Left out on purpose: the paper's Alpaca frame (the model's own chat template stands in its place) and its repaired labels.

use std::collections::{BTreeMap, HashSet};

use postgrad_base::{Error, Result, Stream, jsonl};
use postgrad_lab::Item;
use postgrad_lab::stage::{Cx, Input, Kind, Stage};
use postgrad_lab::stages::rollout::{Stats, Target};
use postgrad_lab::stages::{Inputs, row};
use postgrad_reason::rollout::{Sample, StopRule};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The kinds of stages that stand here.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Allocate>(), Kind::of::<Curate>()]
}

/// How many responses a question deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    Vrt,
    Uniform,
    Prop2diff,
    Permuted,
    Easy,
}

impl Rule {
    /// The paper's `k`: trials of vanilla rejection tuning, else accepted responses.
    fn paper(self) -> usize {
        match self {
            Self::Vrt => 52,
            Self::Uniform => 40,
            Self::Prop2diff | Self::Permuted | Self::Easy => 192,
        }
    }
}

/// A share of trials, `part` of `of`, compared without rounding.
#[derive(Clone, Copy)]
struct Rate {
    part: u128,
    of: u128,
}

impl Rate {
    fn above(self, other: Rate) -> bool {
        self.part * other.of > other.part * self.of
    }

    /// `k self / most` as a fraction; `None` where most is 0.
    fn of_most(self, k: usize, most: Rate) -> Option<(u128, u128)> {
        (most.part > 0).then(|| (k as u128 * self.part * most.of, self.of * most.part))
    }
}

/// Each question's stop rule, from the trials and correct responses of a first pass. `permuted` draws from `stream`.
pub fn allocate(rule: Rule, k: usize, n_max: usize, pass: &[(usize, usize)], stream: &Stream) -> Vec<StopRule> {
    let mut rates: Vec<Rate> = pass
        .iter()
        .map(|&(trials, correct)| {
            let part = if rule == Rule::Easy { correct } else { trials - correct };
            Rate { part: part as u128, of: trials as u128 }
        })
        .collect();
    if rule == Rule::Permuted {
        stream.clone().shuffle(&mut rates);
    }
    let most = rates.iter().copied().fold(Rate { part: 0, of: 1 }, |most, r| if r.above(most) { r } else { most });
    let target = |rate: &Rate| match rule {
        Rule::Vrt => None,
        Rule::Uniform => Some(k),
        Rule::Prop2diff | Rule::Permuted => {
            Some(rate.of_most(k, most).map_or(1, |(over, under)| over.div_ceil(under).max(1) as usize))
        }
        Rule::Easy => {
            Some(rate.of_most(k, most).map_or(0, |(over, under)| ((2 * over + under) / (2 * under)) as usize))
        }
    };
    let cap = if rule == Rule::Vrt { k.min(n_max) } else { n_max };
    rates.iter().map(|rate| StopRule { target: target(rate), cap }).collect()
}

/// What a question's samples give under a rule: the trials that the rule would have made, one by one, and the trials that
/// are kept (in trial order; of identical responses the first). `None`: the rule wants more trials than there are.
fn taken<'a>(samples: &'a [Sample], rule: &StopRule, dedupe: bool) -> Option<(usize, Vec<&'a Sample>)> {
    let (mut used, mut accepted) = (0, 0);
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    while !rule.met(used, accepted) {
        let sample = samples.get(used).filter(|s| s.trial == used)?;
        used += 1;
        if sample.correct {
            accepted += 1;
            if !dedupe || seen.insert(sample.response.as_str()) {
                kept.push(sample);
            }
        }
    }
    Some((used, kept))
}

/// Goes through pools question by question; their questions may come in any order of pools.
fn each_question(cx: &Cx, pools: &Inputs, mut f: impl FnMut(usize, &[Sample]) -> Result<()>) -> Result<()> {
    let mut done = HashSet::new();
    for input in pools.list() {
        for path in cx.files(input, "samples")? {
            let mut group: Vec<Sample> = Vec::new();
            let mut end = |group: &[Sample], at: u64| match group.first() {
                Some(s) if !done.insert(s.question) => {
                    Err(Error::usage(format!("question {} is in two places of the pool", s.question))
                        .at_line(&path, at)
                        .help("give each shard once"))
                }
                Some(s) => f(s.question, group),
                None => Ok(()),
            };
            let mut at = 0;
            for sample in jsonl::read::<Sample>(&path)? {
                let (line, sample) = sample?;
                if group.first().is_some_and(|s| s.question != sample.question) {
                    end(&group, line)?;
                    group.clear();
                }
                at = line;
                group.push(sample);
            }
            end(&group, at)?;
        }
    }
    Ok(())
}

fn too_few(question: usize, samples: &[Sample], rule: &StopRule) -> Error {
    let accepted = samples.iter().filter(|s| s.correct).count();
    let wants = rule.target.map_or("all".to_string(), |t| format!("{t} accepted"));
    Error::usage(format!(
        "the pool holds {} trials of question {question} ({accepted} accepted), and the rule wants {wants} of up to {}",
        samples.len(),
        rule.cap
    ))
    .help("sample the pool with a larger `target` or more `trials`, or by this rule's own targets")
}

/// `allocate`: each question's target by a rule, from the difficulty that a first pass found.
pub struct Allocate;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocateConfig {
    pub rule: Rule,
    /// The first pass: one `rollout`, or its shards.
    pub stats: Inputs,
    /// The most accepted responses of a question (`vrt`: its trials). The paper's: 52 (vrt), 40 (uniform), 192 (others).
    #[serde(default)]
    pub k: Option<usize>,
    /// Trials of a question at most.
    #[serde(default = "n_max")]
    pub n_max: usize,
    /// In place of `k`: the smallest one with which the rule keeps so many responses of a pool.
    #[serde(default)]
    pub fit: Option<Fit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    pub samples: Inputs,
    pub size: usize,
    #[serde(default = "yes")]
    pub dedupe: bool,
}

fn n_max() -> usize {
    2048
}
fn yes() -> bool {
    true
}

/// A row of `targets.jsonl`: the rule with what it was made from.
#[derive(Serialize)]
struct Allocated<'a> {
    #[serde(flatten)]
    target: Target,
    #[serde(flatten)]
    stats: &'a Known,
}

/// The first pass of one question, without its number.
#[derive(Serialize)]
struct Known {
    query: String,
    n_trials: usize,
    n_corrects: usize,
    pass_rate: f64,
}

impl Stage for Allocate {
    const NAME: &'static str = "allocate";
    const ABOUT: &'static str = "dart-math: each question's target of accepted responses, by its difficulty";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = AllocateConfig;

    fn streams(config: &AllocateConfig) -> &'static [&'static str] {
        if config.rule == Rule::Permuted { Self::STREAMS } else { &[] }
    }

    fn check(config: &AllocateConfig) -> Result<()> {
        if config.k == Some(0) || config.n_max == 0 || config.fit.as_ref().is_some_and(|f| f.size == 0) {
            return Err(Error::usage("`k`, `n_max` and `fit.size` are 1 or more"));
        }
        if config.k.is_some() && config.fit.is_some() {
            return Err(Error::usage("`k` and `fit` exclude each other"));
        }
        Ok(())
    }

    fn run(config: AllocateConfig, cx: &Cx) -> Result<()> {
        let stats = first_pass(cx, &config.stats)?;
        let pass: Vec<(usize, usize)> = stats.iter().map(|s| (s.n_trials, s.n_corrects)).collect();
        let stream = cx.stream("data").child("permuted");
        let rules_of = |k| allocate(config.rule, k, config.n_max, &pass, &stream);
        let k = match &config.fit {
            Some(fit) => fitted(cx, fit, config.n_max, rules_of)?,
            None => config.k.unwrap_or(config.rule.paper()),
        };
        let rules = rules_of(k);
        let known: Vec<Known> = stats.into_iter().map(Known::of).collect();
        let row = |(question, (rule, stats))| Allocated { target: Target { question, rule }, stats };
        let rows: Vec<Allocated> = rules.into_iter().zip(&known).enumerate().map(row).collect();
        cx.write_jsonl("targets.jsonl", &rows)?;
        cx.write_jsonl("fit.jsonl", &[json!({"rule": config.rule, "k": k})])
    }
}

impl Known {
    fn of(s: Stats) -> Self {
        Self { query: s.query, n_trials: s.n_trials, n_corrects: s.n_corrects, pass_rate: s.pass_rate }
    }
}

/// Statistics of all questions, in order. Errors: a question is lacking, comes twice, or was never tried.
fn first_pass(cx: &Cx, inputs: &Inputs) -> Result<Vec<Stats>> {
    let mut all: BTreeMap<usize, Stats> = BTreeMap::new();
    for input in inputs.list() {
        for path in cx.files(input, "stats")? {
            for stats in jsonl::read::<Stats>(&path)? {
                let (line, s) = stats?;
                let fault =
                    |what: &str| Err(Error::usage(format!("question {} {what}", s.question)).at_line(&path, line));
                if s.n_trials == 0 || s.n_corrects > s.n_trials {
                    return fault("has no trials, or more right ones than trials");
                }
                if all.contains_key(&s.question) {
                    return fault("comes twice");
                }
                all.insert(s.question, s);
            }
        }
    }
    match all.keys().enumerate().find(|(i, q)| i != *q) {
        Some((i, _)) => Err(Error::usage(format!("question {i} has no statistics")).help("give all shards")),
        None if all.is_empty() => Err(Error::usage("the first pass has no questions")),
        None => Ok(all.into_values().collect()),
    }
}

/// The smallest `k` whose rules keep `size` responses of the pool.
fn fitted(cx: &Cx, fit: &Fit, n_max: usize, rules_of: impl Fn(usize) -> Vec<StopRule>) -> Result<usize> {
    // Of each question: how many trials there are, and each accepted one with whether its response is new.
    let mut pool: BTreeMap<usize, (usize, Vec<(usize, bool)>)> = BTreeMap::new();
    each_question(cx, &fit.samples, |question, samples| {
        let mut seen = HashSet::new();
        let accepted = samples.iter().filter(|s| s.correct);
        let accepted = accepted.map(|s| (s.trial, seen.insert(s.response.as_str()) || !fit.dedupe)).collect();
        pool.insert(question, (samples.len(), accepted));
        Ok(())
    })?;
    let kept = |k: usize| -> usize {
        let of = |(question, rule): (usize, StopRule)| {
            let accepted = pool.get(&question).map_or(&[][..], |p| &p.1[..]);
            let within = accepted.iter().take(rule.target.unwrap_or(usize::MAX)).filter(|a| a.0 < rule.cap);
            within.filter(|a| a.1).count()
        };
        rules_of(k).into_iter().enumerate().map(of).sum()
    };
    // A fail rate that is not 0 is at least 1 / n_max of the greatest, so beyond this no target grows below the cap.
    let (mut low, mut high) = (1, n_max.saturating_mul(n_max).max(1));
    if kept(high) < fit.size {
        return Err(Error::usage(format!("the pool gives {} responses, fewer than {}", kept(high), fit.size))
            .help("sample more, or ask for a smaller `fit.size`"));
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if kept(middle) >= fit.size { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

/// `curate`: the training set that a rule takes from a pool.
///
/// Records hold the question as `prompt` and the response as `completion` (in the published sets: `query` and `response`),
/// and `dataset`, `ref_ans`, `extracted_ans`, `correct`, `n_trials`, `n_corrects`, `trial`. `uncovered.jsonl` lists questions
/// without a right response, `questions.jsonl` says of each what it gave. The one row has sums (`records`, `trials`, `corrects`,
/// `questions`) and the share `covered`, and of problems of a task the same by knob: `kept_steps_5`, `covered_steps_5`.
///
/// With `size`, a larger set is cut to it: each record draws a number from its question and trial alone, and those with the
/// lowest stay. So length, batches and order do not matter, and sets of several rules are cut by the same numbers.
pub struct Curate;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurateConfig {
    /// The questions that were sampled.
    pub data: Input,
    /// One `rollout`, or its shards.
    pub samples: Inputs,
    /// Each question's rule; without it all that was sampled is taken.
    #[serde(default)]
    pub targets: Option<Input>,
    /// Of identical responses to a question, the first alone.
    #[serde(default = "yes")]
    pub dedupe: bool,
    #[serde(default)]
    pub size: Option<usize>,
}

/// A training record.
#[derive(Serialize)]
struct Kept {
    prompt: String,
    completion: String,
    dataset: String,
    ref_ans: String,
    extracted_ans: Option<String>,
    correct: bool,
    n_trials: usize,
    n_corrects: usize,
    question: usize,
    trial: usize,
}

impl Stage for Curate {
    const NAME: &'static str = "curate";
    const ABOUT: &'static str = "dart-math: the training set that a rule takes from a pool of samples";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = CurateConfig;

    fn streams(config: &CurateConfig) -> &'static [&'static str] {
        if config.size.is_some() { Self::STREAMS } else { &[] }
    }

    fn check(config: &CurateConfig) -> Result<()> {
        if config.size == Some(0) {
            return Err(Error::usage("`size` is 1 or more"));
        }
        Ok(())
    }

    fn run(config: CurateConfig, cx: &Cx) -> Result<()> {
        let items = cx.items(&config.data)?;
        let mut rules: BTreeMap<usize, StopRule> = BTreeMap::new();
        if let Some(input) = &config.targets {
            for path in cx.files(input, "targets")? {
                for target in jsonl::read::<Target>(&path)? {
                    let target = target?.1;
                    rules.insert(target.question, target.rule);
                }
            }
        }
        let (mut records, mut rows, mut uncovered) = (Vec::new(), Vec::new(), Vec::new());
        each_question(cx, &config.samples, |question, samples| {
            let item = items.get(question).ok_or_else(|| {
                Error::usage(format!("the pool has a question {question}, the data {} in all", items.len()))
            })?;
            let rule = match (&config.targets, rules.get(&question)) {
                (None, _) => StopRule { target: None, cap: samples.len() },
                (Some(_), Some(rule)) => *rule,
                (Some(input), None) => {
                    return Err(Error::usage(format!("question {question} has no target")).at(input));
                }
            };
            let (n_trials, kept) =
                taken(samples, &rule, config.dedupe).ok_or_else(|| too_few(question, samples, &rule))?;
            let n_corrects = samples[..n_trials].iter().filter(|s| s.correct).count();
            cx.spend("rule_trials", n_trials as u64);
            cx.spend("rule_tokens", samples[..n_trials].iter().map(|s| s.tokens as u64).sum());
            let mut figures = json!({"kept": kept.len(), "covered": u8::from(n_corrects > 0), "trials": n_trials,
                "corrects": n_corrects});
            if let Some(target) = rule.target {
                figures["target"] = json!(target);
            }
            rows.push((question, row(item, figures)));
            let ref_ans = match &item.problem {
                Some(p) => p.answer.clone(),
                None => item.reference().unwrap_or_default(),
            };
            if n_corrects == 0 {
                let missed =
                    json!({"question": question, "query": item.asked(), "ref_ans": ref_ans, "n_trials": n_trials});
                uncovered.push((question, missed));
            }
            records.extend(kept.into_iter().map(|s| Kept {
                prompt: item.asked(),
                completion: s.response.clone(),
                dataset: dataset_of(item),
                ref_ans: ref_ans.clone(),
                extracted_ans: s.extracted.clone(),
                correct: s.correct,
                n_trials,
                n_corrects,
                question,
                trial: s.trial,
            }));
            Ok(())
        })?;
        if let Some(size) = config.size {
            records = cut(records, size, &cx.stream("data").child("cut"))?;
        }
        if records.is_empty() {
            return Err(Error::work("no response was accepted: there is nothing to train on")
                .help("look at the samples: is the answer marked (\\boxed{}, ####), was max_tokens enough, is the temperature too high?"));
        }
        records.sort_by_key(|r| (r.question, r.trial));
        cx.spend("records", records.len() as u64);
        cx.write_jsonl("records.jsonl", &records)?;
        cx.write_jsonl("uncovered.jsonl", &in_order(uncovered))?;
        let rows = in_order(rows);
        let metrics = sums(&rows, records.len());
        cx.write_jsonl("questions.jsonl", &rows)?;
        cx.write_rows(&[Item { item: "run".into(), cluster: None, metrics }])
    }
}

/// Figures of a set: of all questions, and of those that share a knob's value where the knob has several.
fn sums(rows: &[Item], records: usize) -> Map<String, Value> {
    let number = |row: &Item, name: &str| row.metrics.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let sum = |rows: &[&Item], name: &str| rows.iter().map(|r| number(r, name)).sum::<f64>();
    let all: Vec<&Item> = rows.iter().collect();
    let mut out = Map::new();
    out.insert("records".into(), json!(records));
    out.insert("questions".into(), json!(rows.len()));
    out.insert("covered".into(), json!(sum(&all, "covered") / rows.len() as f64));
    for name in ["trials", "corrects"] {
        out.insert(name.into(), json!(sum(&all, name)));
    }
    let mut by_knob: BTreeMap<(&String, i64), Vec<&Item>> = BTreeMap::new();
    for row in rows {
        let knobs = row.metrics.iter().filter(|(name, _)| !FIGURES.contains(&name.as_str()));
        for (name, value) in knobs.filter_map(|(n, v)| Some((n, v.as_i64()?))) {
            by_knob.entry((name, value)).or_default().push(row);
        }
    }
    for ((knob, value), rows) in by_knob.iter().filter(|(_, of)| of.len() < rows.len()) {
        out.insert(format!("kept_{knob}_{value}"), json!(sum(rows, "kept")));
        out.insert(format!("covered_{knob}_{value}"), json!(sum(rows, "covered") / rows.len() as f64));
    }
    out
}

/// What a question's row holds beside its problem's knobs.
const FIGURES: [&str; 5] = ["kept", "covered", "trials", "corrects", "target"];

/// Shards' questions come one shard after the other; results are in the order of questions.
fn in_order<T>(mut list: Vec<(usize, T)>) -> Vec<T> {
    list.sort_by_key(|(question, _)| *question);
    list.into_iter().map(|(_, x)| x).collect()
}

/// A task's name, or the file's.
fn dataset_of(item: &postgrad_audit::Item) -> String {
    match &item.problem {
        Some(p) => p.task.clone(),
        None => {
            let name = std::path::Path::new(&*item.record.place.file).file_stem();
            name.map_or_else(String::new, |n| n.to_string_lossy().into_owned())
        }
    }
}

/// `size` of the records by numbers that depend on question and trial alone.
fn cut(records: Vec<Kept>, size: usize, stream: &Stream) -> Result<Vec<Kept>> {
    if records.len() < size {
        return Err(Error::usage(format!("the set has {} records, fewer than `size` = {size}", records.len()))
            .help("sample more, raise the rule's `k`, or lower `size`"));
    }
    let lot = |r: &Kept| stream.nth(r.question as u64).nth(r.trial as u64).next_u64();
    let mut drawn: Vec<(u64, Kept)> = records.into_iter().map(|r| (lot(&r), r)).collect();
    drawn.sort_by_key(|(lot, r)| (*lot, r.question, r.trial));
    Ok(drawn.into_iter().take(size).map(|(_, r)| r).collect())
}

#[cfg(test)]
mod tests;
