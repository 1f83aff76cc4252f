//! `groups`: what a rollout drew, as answers to learn from: rankings, pairs or single rows that are wanted or not.
//!
//! `groups.jsonl` holds rows that `prefer` and `tune --method` read, with the prompts as the rollout asked them: give `system`
//! and `ask` as it had them. Answers that are there twice count once; empty ones and (without `truncated = true`) ones that were
//! cut off are left out, for training would put an end after them. Rows: a question each, with `right` and `wrong` (its
//! distinct answers), `rows` (of `groups.jsonl`) and `pairs` (the comparisons in these).
//!
//! | score | of an answer |
//! |---|---|
//! | `correct` | 1 where the rollout accepted it, else 0 |
//! | `score` | the verifier's partial credit |
//! | `length` | the shorter the better, in tokens; right answers alone |

use std::collections::BTreeMap;

use postgrad_audit::{Asker, Item as Asked};
use postgrad_base::{Error, Result, jsonl};
use postgrad_data::{Body, Message};
use postgrad_reason::Verifier;
use postgrad_reason::rollout::Sample;
use postgrad_train::preference::data::{across, best_worst};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::stage::{Cx, Input, Stage};
use crate::stages::eval::row;
use crate::stages::rollout::{Stats, asked_with, check_of};

pub struct Groups;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A `rollout` stage.
    pub samples: Input,
    /// The questions it was asked.
    pub data: Input,
    #[serde(default)]
    pub form: Form,
    #[serde(default)]
    pub score: By,
    /// Of pairs: the best against the worst of a question, or all across `good` and `bad`.
    #[serde(default)]
    pub pick: Pick,
    /// A score of this or more is good.
    #[serde(default = "one")]
    pub good: f64,
    /// A score of this or less is bad.
    #[serde(default)]
    pub bad: f64,
    /// Pairs of a question at most; of the other forms right answers, and as many wrong ones.
    #[serde(default)]
    pub most: Option<usize>,
    /// Put the data's own answer in as the gold one, and keep questions that have nothing else.
    #[serde(default)]
    pub reference: bool,
    /// Rankings: keep questions whose answers are all equally good, for measuring.
    #[serde(default)]
    pub all: bool,
    /// Put in which lines of each answer are right, by the task's step verifier: what a process head learns from (a task that
    /// writes a step a line: `chain` in the rendering `equations`). The last line is right where the answer is, if it has no
    /// step of its own; other lines without one are not judged.
    #[serde(default)]
    pub steps: bool,
    /// Take answers that were cut off.
    #[serde(default)]
    pub truncated: bool,
    /// Share of pairs (rankings, rows) turned round: label noise.
    #[serde(default)]
    pub flip: f64,
    /// A control: deal out the scores anew among the answers to each question.
    #[serde(default)]
    pub shuffle: bool,
    /// The rollout's.
    #[serde(default)]
    pub system: Option<String>,
    /// The rollout's.
    #[serde(default)]
    pub ask: Option<String>,
    /// The rollout's; needed with `system`, which a model without a template reads as plain text.
    #[serde(default)]
    pub model: Option<Input>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    #[default]
    Ranking,
    Pairs,
    Unpaired,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    #[default]
    BestWorst,
    Across,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    #[default]
    Correct,
    Score,
    Length,
}

fn one() -> f64 {
    1.0
}

impl Stage for Groups {
    const NAME: &'static str = "groups";
    const ABOUT: &'static str = "a rollout's answers as rankings, pairs or single rows to learn from";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.shuffle || config.flip > 0.0 { Self::STREAMS } else { &[] }
    }

    fn check(config: &Config) -> Result<()> {
        let bad = |what: &str| Err(Error::usage(what));
        if !(0.0..=1.0).contains(&config.flip) {
            return bad("`flip` is a share, from 0 to 1");
        }
        if config.good.is_nan() || config.bad.is_nan() || config.good <= config.bad {
            return bad("`good` must be above `bad`");
        }
        if config.most == Some(0) {
            return bad("`most` is 0, and nothing would be left");
        }
        if config.pick == Pick::Across && config.form != Form::Pairs {
            return bad("`pick` belongs to form = \"pairs\"");
        }
        if config.form == Form::Unpaired && (config.reference || config.score == By::Length) {
            return bad("single rows are good or bad: neither `reference` nor score = \"length\" says which");
        }
        if config.all && config.form != Form::Ranking {
            return bad("`all` belongs to form = \"ranking\"");
        }
        if config.system.is_some() && config.model.is_none() {
            return Err(Error::usage("`system` needs `model`").help("name the model that the rollout asked"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let asker = match &config.model {
            Some(model) => Some(Asker { system: config.system.clone(), ..Asker::new(cx.model(model)?.renderer) }),
            None => None,
        };
        let items = cx.items(&config.data)?;
        let by_question = samples(&config.samples, &items, cx)?;
        let mut checks = Vec::new();
        if config.score == By::Score || config.steps {
            checks = items.iter().map(check_of).collect::<Result<_>>()?;
        }
        let verifier = Verifier::new(checks)?;
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        for (question, samples) in by_question {
            let item = &items[question];
            let score = |s: &Sample| match config.score {
                By::Correct => f64::from(u8::from(s.correct)),
                By::Score => verifier.verify(question, &s.response).score,
                By::Length => -(s.tokens as f64),
            };
            let mut answers = distinct(&samples, config.truncated);
            let right = answers.iter().filter(|s| s.correct).count();
            let wrong = answers.len() - right;
            if config.score == By::Length {
                answers.retain(|s| s.correct);
            }
            if let (Some(most), true) = (config.most, config.form != Form::Pairs) {
                let mut left = [most; 2];
                answers.retain(|s| {
                    let side = &mut left[usize::from(s.correct)];
                    *side = side.wrapping_sub(1);
                    *side < most
                });
            }
            let mut scored: Vec<(String, f64)> = answers.iter().map(|s| (s.response.clone(), score(s))).collect();
            if config.shuffle {
                let mut dealt: Vec<f64> = scored.iter().map(|s| s.1).collect();
                cx.stream("data").child("shuffle").nth(question as u64).shuffle(&mut dealt);
                scored.iter_mut().zip(dealt).for_each(|(s, score)| s.1 = score);
            }
            let (mut made, pairs) = made(&config, question, scored, cx);
            if config.steps {
                let mut labels = BTreeMap::new();
                for s in &answers {
                    labels.insert(s.response.as_str(), step_labels(s, &verifier).map_err(|e| e.at(&item.id))?);
                }
                made.iter_mut().for_each(|row| add_steps(row, &labels));
            }
            let mut base = prompt(&asked_with(item, config.ask.as_deref()), asker.as_ref(), question)?;
            if config.reference {
                base.insert("completion".into(), gold(item)?);
                if made.is_empty() {
                    made.push(ranking(&[]));
                }
            }
            base.insert("item".into(), json!(item.id));
            base.insert("question".into(), json!(question));
            let figures = json!({"right": right, "wrong": wrong, "rows": made.len(), "pairs": pairs});
            let measured = row(item, figures);
            base.extend(measured.cluster.iter().map(|c| ("cluster".to_string(), json!(c))));
            lines.extend(made.into_iter().map(|own| base.clone().into_iter().chain(own).collect::<Map<_, _>>()));
            rows.push(measured);
        }
        if lines.is_empty() {
            return Err(Error::work("no question has answers to compare")
                .at(&config.samples)
                .help("they are all equally good: draw more, or give `reference = true`"));
        }
        cx.spend("groups", lines.len() as u64);
        cx.write_jsonl("groups.jsonl", &lines)?;
        cx.write_rows(&rows)
    }
}

/// A rollout's samples by question. Errors: they are of other questions than the data's.
pub(super) fn samples(input: &Input, items: &[Asked], cx: &Cx) -> Result<BTreeMap<usize, Vec<Sample>>> {
    let other = |what: String| Error::usage(what).help("`data` must be what the rollout was asked");
    if input.part().is_none()
        && let Ok(path) = cx.file(input, "stats.jsonl")
    {
        for stats in jsonl::read::<Stats>(&path)? {
            let (line, stats) = stats?;
            if items.get(stats.question).is_none_or(|item| item.asked() != stats.query) {
                return Err(other(format!("question {} of the data is another", stats.question)).at_line(&path, line));
            }
        }
    }
    let mut all: BTreeMap<usize, Vec<Sample>> = BTreeMap::new();
    for path in cx.files(input, "samples")? {
        for sample in jsonl::read::<Sample>(&path)? {
            let (line, sample) = sample?;
            if sample.question >= items.len() {
                let (q, n) = (sample.question, items.len());
                return Err(other(format!("there is no question {q} among {n}")).at_line(&path, line));
            }
            all.entry(sample.question).or_default().push(sample);
        }
    }
    Ok(all)
}

/// Each text once, the first time it was drawn.
fn distinct(samples: &[Sample], truncated: bool) -> Vec<&Sample> {
    let mut seen = std::collections::HashSet::new();
    let fit = |s: &&Sample| (truncated || !s.truncated) && !s.response.trim().is_empty();
    samples.iter().filter(fit).filter(|s| seen.insert(s.response.as_str())).collect()
}

/// A question's rows, without their prompt, and how many comparisons they hold.
fn made(config: &Config, question: usize, mut scored: Vec<(String, f64)>, cx: &Cx) -> (Vec<Map<String, Value>>, usize) {
    let mut noise = cx.stream("data").child("flip").nth(question as u64);
    let mut turned = || config.flip > 0.0 && noise.chance(config.flip);
    match config.form {
        Form::Ranking => {
            let higher = |a: &(String, f64)| scored.iter().filter(|b| a.1 > b.1).count();
            let pairs: usize = scored.iter().map(higher).sum();
            if pairs == 0 && (!config.all || scored.is_empty()) {
                return (vec![], 0);
            }
            if turned() {
                let top = scored.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
                let bottom = scored.iter().map(|s| s.1).fold(f64::INFINITY, f64::min);
                scored.iter_mut().for_each(|s| s.1 = top + bottom - s.1);
            }
            (vec![ranking(&scored)], pairs)
        }
        Form::Pairs => {
            let mut pairs: Vec<(usize, usize)> = match config.pick {
                Pick::BestWorst => best_worst(&scored).into_iter().collect(),
                Pick::Across => spread(across(&scored, config.good, config.bad)),
            };
            pairs.truncate(config.most.unwrap_or(usize::MAX));
            let pair = |(b, w): &(usize, usize)| {
                let (b, w) = if turned() { (w, b) } else { (b, w) };
                let of = |i: usize| (json!(scored[i].0), json!(scored[i].1));
                let ((chosen, high), (rejected, low)) = (of(*b), of(*w));
                let all = [("chosen", chosen), ("rejected", rejected), ("chosen_score", high), ("rejected_score", low)];
                all.map(|(k, v)| (k.to_string(), v)).into_iter().collect()
            };
            (pairs.iter().map(pair).collect(), pairs.len())
        }
        Form::Unpaired => {
            let sides = scored.into_iter().filter(|s| s.1 >= config.good || s.1 <= config.bad);
            let rows = sides.map(|(text, score)| {
                let wanted = (score >= config.good) != turned();
                Map::from_iter([("completion".into(), json!(text)), ("label".into(), json!(wanted))])
            });
            (rows.collect(), 0)
        }
    }
}

pub(super) fn ranking(scored: &[(String, f64)]) -> Map<String, Value> {
    let (texts, scores): (Vec<&String>, Vec<f64>) = scored.iter().map(|s| (&s.0, s.1)).unzip();
    Map::from_iter([("completions".into(), json!(texts)), ("scores".into(), json!(scores))])
}

/// Which lines of an answer are right, blank ones left out.
fn step_labels(sample: &Sample, verifier: &Verifier) -> Result<Value> {
    let text = sample.response.as_str();
    let steps = verifier.verify(sample.question, text).steps.ok_or_else(|| {
        Error::usage("`steps` needs a task that judges steps, and this question's does not").help("leave `steps` out")
    })?;
    let mut from = 0;
    // Where each step ends, and whether it is right.
    let placed: Vec<(usize, bool)> = steps
        .iter()
        .filter_map(|step| {
            from += text[from..].find(&step.text)? + step.text.len();
            Some((from, step.right()))
        })
        .collect();
    let (mut labels, mut start) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let own: Vec<bool> = placed.iter().filter(|p| start < p.0 && p.0 <= end).map(|p| p.1).collect();
        let last = text[end..].trim().is_empty();
        if !line.trim().is_empty() {
            labels.push(match (own.is_empty(), last) {
                (false, _) => Some(own.iter().all(|right| *right)),
                (true, true) => Some(sample.correct),
                (true, false) => None,
            });
        }
        start = end;
    }
    Ok(json!(labels))
}

/// Puts the labels of a row's answers beside them.
fn add_steps(row: &mut Map<String, Value>, labels: &BTreeMap<&str, Value>) {
    let of = |text: &Value| text.as_str().and_then(|t| labels.get(t)).cloned().unwrap_or_default();
    if let Some(texts) = row.get("completions").and_then(Value::as_array) {
        let lists = json!(texts.iter().map(of).collect::<Vec<_>>());
        row.insert("step_labels".into(), lists);
    }
    for (name, to) in
        [("completion", "step_labels"), ("chosen", "chosen_step_labels"), ("rejected", "rejected_step_labels")]
    {
        if let Some(own) = row.get(name).map(of) {
            row.insert(to.into(), own);
        }
    }
}

/// Pairs in an order of which every beginning has as many different answers as it can.
fn spread(pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let place = |of: &dyn Fn(&(usize, usize)) -> usize| {
        let all: std::collections::BTreeSet<usize> = pairs.iter().map(of).collect();
        all.into_iter().enumerate().map(|(at, i)| (i, at)).collect::<BTreeMap<usize, usize>>()
    };
    let (better, worse) = (place(&|p| p.0), place(&|p| p.1));
    let n = worse.len().max(1);
    let mut order = pairs.clone();
    order.sort_by_key(|(b, w)| ((worse[w] + n - better[b] % n) % n, better[b]));
    order
}

/// The prompt's columns, from which the trainer's rows render as the rollout did.
pub(super) fn prompt(item: &Asked, asker: Option<&Asker>, question: usize) -> Result<Map<String, Value>> {
    let system = asker.and_then(|a| a.system.as_deref());
    let mut columns = Map::new();
    let value = match (&item.record.body, system, asker) {
        (Body::PromptCompletion { .. }, Some(_), Some(asker)) if !asker.renderer.has_template() => {
            json!(asker.prompt(question, item)?.text)
        }
        (Body::PromptCompletion { prompt, .. }, None, _) => json!(prompt),
        _ => {
            let turns = item.question()?.0;
            let mut all: Vec<Message> = match system {
                Some(system) => vec![Message::new("system", system)],
                None => turns.iter().take_while(|t| t.role == "system").cloned().collect(),
            };
            all.extend(turns.into_iter().filter(|t| t.role != "system"));
            json!(all)
        }
    };
    columns.insert("prompt".into(), value);
    columns.extend(item.record.tools.iter().map(|t| ("tools".to_string(), t.clone())));
    Ok(columns)
}

/// The data's own answer: a text, or a turn where it is more than one.
fn gold(item: &Asked) -> Result<Value> {
    let reference = item.question()?.1;
    let text = reference.reasoning_content.is_none() && reference.tool_calls.is_none() && reference.other.is_empty();
    Ok(if text { json!(reference.content) } else { json!([reference]) })
}

#[cfg(test)]
mod tests;
