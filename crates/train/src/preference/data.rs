//! Groups of answers to learn from, and the rows they are read from.
//!
//! | row | becomes |
//! |---|---|
//! | `prompt`, `chosen`, `rejected` | a pair; texts, or lists of messages |
//! | `chosen`, `rejected`: whole conversations | a pair; what they share from the start is the prompt |
//! | `prompt`, `completions`, `scores` | a ranking |
//! | `prompt`, `completion`, `label` | an unpaired row, wanted (`true`, a number above 0) or not |
//!
//! `completion` beside a pair or a ranking is the gold answer, which the likelihood term alone sees ([`Loss::nll`]); a ranking
//! may then be empty. `step_labels` (`chosen_step_labels`, `rejected_step_labels`; of a ranking a list of lists) say which lines
//! of an answer are right: true, false, a number (above 0), null; a `completion` with them needs no `label`. `weight` (a number) is a factor on the group. `chosen_spans`, `rejected_spans` and `spans` (lists of [start, end) in
//! characters of the answer) say which parts of an answer are judged; without them all of it is. A step-level pair whose
//! answers share their first steps is judged from where they part ([`Group::judge_from_parting`]).

use std::collections::BTreeMap;

use postgrad_base::{Error, Result};
use postgrad_data::reader::{Reader, find_files};
use postgrad_data::record::Layout;
use postgrad_data::{Body, Example, Kind, Place, Renderer};
use serde_json::{Map, Value, json};

use super::head::{HeadKind, step_ends};
use super::loss::{Form, Loss};

/// One answer: its tokens with their weights, and how good it is among those to its prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    pub example: Example,
    pub rank: f32,
    /// Last tokens of judged steps, and whether the step is right.
    pub steps: Vec<(u32, bool)>,
}

impl Ranked {
    pub fn new(example: Example, rank: f32) -> Self {
        Self { example, rank, steps: vec![] }
    }
}

/// Answers to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub answers: Vec<Ranked>,
    /// What the likelihood term alone sees.
    pub gold: Option<Example>,
    pub weight: f32,
    pub place: Place,
    /// Columns of the row that are nothing of the above.
    pub columns: Map<String, Value>,
}

impl Group {
    pub fn pair(chosen: Example, rejected: Example) -> Self {
        let place = chosen.place.clone();
        let answers = vec![Ranked::new(chosen, 1.0), Ranked::new(rejected, 0.0)];
        Self { answers, gold: None, weight: 1.0, place, columns: Map::new() }
    }

    /// Its answers and then the gold one.
    pub fn sequences(&self) -> impl Iterator<Item = &Example> {
        self.answers.iter().map(|a| &a.example).chain(&self.gold)
    }

    /// The longest of its sequences, in tokens.
    pub fn longest(&self) -> usize {
        self.sequences().map(Example::len).max().unwrap_or(0)
    }

    pub fn tokens(&self) -> usize {
        self.sequences().map(Example::len).sum()
    }

    /// Judges answers only from the first token in which they differ (Step-DPO, Lai et al. 2024).
    pub fn judge_from_parting(&mut self) {
        let Some(first) = self.answers.first().map(|a| &a.example.tokens) else { return };
        let shortest = self.answers.iter().map(|a| a.example.len()).min().unwrap_or(0);
        let same = |i: &usize| self.answers.iter().all(|a| a.example.tokens[*i] == first[*i]);
        let shared = (0..shortest).take_while(same).count();
        for a in &mut self.answers {
            a.example.weights[..shared].fill(0.0);
        }
    }
}

/// What was read, and what was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    pub groups: Vec<Group>,
    /// Groups with a sequence longer than the limit, or with nothing judged.
    pub over_long: usize,
    pub empty: usize,
}

/// How rows are read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// In tokens; longer groups are left out. 0: no limit.
    pub max_len: usize,
    /// Rows of one answer (`completion`, `label`); else pairs and rankings. Pairs then become two rows.
    pub unpaired: bool,
    /// Single answers are taken beside rankings.
    pub alone: bool,
    /// Answers are judged from where they part.
    pub from_parting: bool,
    /// Gold answers are kept; else they are passed over.
    pub gold: bool,
    /// Every row says which steps are right; groups without a judged one are left out.
    pub steps: bool,
}

impl Reading {
    /// What a loss reads.
    pub fn of(loss: &Loss, max_len: usize, from_parting: bool) -> Self {
        let (unpaired, alone) = (loss.form == Form::Kto, loss.unpaired());
        Self { max_len, unpaired, alone, from_parting, gold: loss.takes_gold(), steps: false }
    }

    /// What a reward model reads.
    pub fn of_head(kind: HeadKind, max_len: usize) -> Self {
        Self { max_len, alone: kind != HeadKind::Pairwise, steps: kind == HeadKind::Process, ..Self::default() }
    }
}

/// Reads groups from files, folders and globs. A malformed row stops with its file and line.
pub fn read(paths: &[String], renderer: &Renderer, reading: Reading) -> Result<Read> {
    let mut reader = Reader::new(find_files(paths)?.into());
    let mut read = Read::default();
    while let Some(row) = reader.next_row()? {
        let at = row.at;
        let place = Place { set: 0, file: reader.files()[at.file as usize].name.clone(), line: at.line };
        let made = row.columns().and_then(|row| group(row, renderer)).map_err(|e| e.at(&place))?;
        read.push(Group { place, ..made }, reading)?;
    }
    if read.groups.is_empty() {
        return Err(Error::usage("the data has no usable row")
            .at(paths.join(" "))
            .help(format!("{} rows were longer than the limit, {} had nothing to judge", read.over_long, read.empty)));
    }
    Ok(read)
}

impl Read {
    fn push(&mut self, mut group: Group, reading: Reading) -> Result<()> {
        let gold_row = group.gold.is_some();
        if !reading.gold {
            group.gold = None;
        }
        if !reading.unpaired && !reading.alone && !gold_row && group.answers.len() < 2 {
            return Err(Error::usage("the row is a single answer, and this method compares answers")
                .at(&group.place)
                .help("rows with `label` are for kto and weighted; others need `prompt`, `chosen` and `rejected`"));
        }
        if reading.steps && !group.answers.iter().any(|a| !a.steps.is_empty()) {
            self.empty += 1;
            return Ok(());
        }
        if reading.from_parting && group.answers.len() > 1 {
            group.judge_from_parting();
        }
        if reading.max_len > 0 && group.longest() > reading.max_len {
            self.over_long += 1;
        } else if group.sequences().next().is_none() || group.sequences().any(|e| e.trained() == 0) {
            self.empty += 1;
        } else if reading.unpaired {
            let Group { answers, .. } = &group;
            let alone = |a: &Ranked| Group { answers: vec![a.clone()], ..group.clone() };
            self.groups.extend(answers.iter().map(alone));
        } else {
            self.groups.push(group);
        }
        Ok(())
    }
}

/// Reads one row.
pub fn group(mut row: Map<String, Value>, renderer: &Renderer) -> Result<Group> {
    let weight = match row.shift_remove("weight") {
        None | Some(Value::Null) => 1.0,
        Some(w) => w.as_f64().filter(|w| w.is_finite()).ok_or_else(|| Error::work("`weight` is not a number"))? as f32,
    };
    let has = |row: &Map<String, Value>, name: &str| row.get(name).is_some_and(|v| !v.is_null());
    let mut texts: Vec<Answer> = Vec::new();
    if has(&row, "chosen") && has(&row, "rejected") {
        for (name, rank) in [("chosen", 1.0), ("rejected", 0.0)] {
            let value = row.shift_remove(name).unwrap_or_default();
            let mut of = |what: &str| row.shift_remove(&format!("{name}_{what}"));
            texts.push(Answer { value, rank, spans: of("spans"), steps: of("step_labels") });
        }
    } else if has(&row, "completions") {
        let take = |row: &mut Map<String, Value>, name: &str| match row.shift_remove(name) {
            Some(Value::Array(list)) => Ok(list),
            _ => Err(Error::work(format!("`{name}` is not a list")).help("a ranking has `completions` and `scores`")),
        };
        let (answers, scores) = (take(&mut row, "completions")?, take(&mut row, "scores")?);
        if answers.len() != scores.len() {
            return Err(Error::work(format!("{} completions and {} scores", answers.len(), scores.len())));
        }
        let mut steps = vec![None; answers.len()];
        if has(&row, "step_labels") {
            steps = take(&mut row, "step_labels")?.into_iter().map(Some).collect();
        }
        if steps.len() != answers.len() {
            return Err(Error::work(format!("{} completions and {} lists of step labels", answers.len(), steps.len())));
        }
        for ((value, score), steps) in answers.into_iter().zip(scores).zip(steps) {
            let score = score.as_f64().ok_or_else(|| Error::work("a score is not a number"))?;
            texts.push(Answer { value, rank: score as f32, spans: None, steps });
        }
        if texts.is_empty() && !has(&row, "completion") {
            return Err(
                Error::work("the row has no answer").help("give `completions`, or a `completion` as the gold one")
            );
        }
    } else if has(&row, "completion") && (has(&row, "label") || has(&row, "step_labels")) {
        let steps = row.shift_remove("step_labels");
        let rank = match row.shift_remove("label").filter(|l| !l.is_null()) {
            None => f32::from(u8::from(step_labels(steps.as_ref())?.iter().all(|l| *l != Some(false)))),
            Some(Value::Bool(good)) => f32::from(u8::from(good)),
            Some(Value::Number(n)) => n.as_f64().unwrap_or(0.0) as f32,
            _ => return Err(Error::work("`label` is neither true, false nor a number")),
        };
        let value = row.shift_remove("completion").unwrap_or_default();
        texts.push(Answer { value, rank, spans: row.shift_remove("spans"), steps });
    } else {
        let found: Vec<&str> = row.keys().take(20).map(String::as_str).collect();
        return Err(Error::usage(format!("the columns fit no preference row (found: {})", found.join(", "))).help(
            "expected prompt + chosen + rejected, prompt + completions + scores, or prompt + completion + label",
        ));
    }
    let prompt = match row.shift_remove("prompt").filter(|p| !p.is_null()) {
        Some(prompt) => prompt,
        None => shared_turns(&mut texts)?,
    };
    let gold = row.shift_remove("completion").filter(|c| !c.is_null());
    let gold = gold.map(|gold| render(&prompt, &gold, &row, renderer).map_err(|e| e.at("completion"))).transpose()?;
    let mut answers = Vec::with_capacity(texts.len());
    for Answer { value, rank, spans, steps } in texts {
        let mut example = render(&prompt, &value, &row, renderer)?;
        let steps = judged_steps(&example, steps.as_ref(), renderer)?;
        if let Some(spans) = spans.filter(|s| !s.is_null()) {
            judge_spans(&mut example, &value, &spans, renderer)?;
        }
        answers.push(Ranked { example, rank, steps });
    }
    Ok(Group { answers, gold, weight, place: Place::default(), columns: row })
}

/// An answer as a row has it.
struct Answer {
    value: Value,
    rank: f32,
    spans: Option<Value>,
    steps: Option<Value>,
}

/// `true`, `false`, a number (above 0 is right) or null (not judged) for each step.
fn step_labels(labels: Option<&Value>) -> Result<Vec<Option<bool>>> {
    let wrong = || Error::work("step labels are not a list of true, false, numbers and null");
    let Some(labels) = labels.filter(|l| !l.is_null()) else { return Ok(vec![]) };
    let label = |l: &Value| match l {
        Value::Null => Ok(None),
        Value::Bool(right) => Ok(Some(*right)),
        Value::Number(n) => Ok(n.as_f64().map(|n| n > 0.0)),
        _ => Err(wrong()),
    };
    labels.as_array().ok_or_else(wrong)?.iter().map(label).collect()
}

/// Last tokens of the steps that are judged: one label a line that is not blank.
fn judged_steps(example: &Example, labels: Option<&Value>, renderer: &Renderer) -> Result<Vec<(u32, bool)>> {
    let labels = step_labels(labels)?;
    if labels.is_empty() {
        return Ok(vec![]);
    }
    let ends = step_ends(example, renderer.tokenizer())?;
    if ends.len() != labels.len() {
        return Err(Error::work(format!("{} step labels, and the answer has {} lines", labels.len(), ends.len()))
            .help("steps are the lines of an answer; blank ones do not count"));
    }
    Ok(ends.into_iter().zip(labels).filter_map(|(end, label)| Some((end, label?))).collect())
}

/// The turns with which whole conversations begin alike; taken off them.
fn shared_turns(texts: &mut [Answer]) -> Result<Value> {
    let wrong =
        || Error::work("the row has no `prompt`, and its answers are not conversations that share their first turns");
    let lists: Option<Vec<&Vec<Value>>> = texts.iter().map(|t| t.value.as_array()).collect();
    let lists = lists.filter(|l| !l.is_empty()).ok_or_else(wrong)?;
    let shortest = lists.iter().map(|l| l.len()).min().unwrap_or(0);
    let same = |i: &usize| lists.iter().all(|l| l[*i] == lists[0][*i]);
    // Each conversation keeps a turn of its own.
    let shared = (0..shortest.saturating_sub(1)).take_while(same).count();
    if shared == 0 {
        return Err(wrong());
    }
    let prompt = Value::Array(lists[0][..shared].to_vec());
    for text in texts {
        if let Value::Array(list) = &mut text.value {
            list.drain(..shared);
        }
    }
    Ok(prompt)
}

fn render(prompt: &Value, answer: &Value, row: &Map<String, Value>, renderer: &Renderer) -> Result<Example> {
    let mut one: Map<String, Value> = Map::new();
    one.insert("prompt".into(), prompt.clone());
    one.insert("completion".into(), answer.clone());
    for name in ["system", "tools"] {
        one.extend(row.get(name).map(|v| (name.to_string(), v.clone())));
    }
    let record = Layout::default().record(Kind::PromptCompletion, one)?;
    if matches!(&record.body, Body::PromptCompletion { completion, .. } if completion.is_empty()) {
        return Err(Error::work("an answer is empty"));
    }
    let mut rendered = renderer.examples(&record)?;
    if rendered.examples.len() != 1 {
        return Err(Error::work(format!("the answer makes {} examples, not one", rendered.examples.len()))
            .help("the chat template rewrites earlier turns; give the answer as a single turn"));
    }
    Ok(rendered.examples.remove(0))
}

/// Leaves out the tokens that no span touches. Spans count characters of the answer's text.
fn judge_spans(example: &mut Example, answer: &Value, spans: &Value, renderer: &Renderer) -> Result<()> {
    let wrong = || Error::work("spans are not a list of [start, end) pairs").help("for example [[0, 12], [30, 41]]");
    let text = answer.as_str().ok_or_else(|| Error::work("spans belong to answers that are texts"))?;
    let offsets: Vec<usize> = text.char_indices().map(|c| c.0).chain([text.len()]).collect();
    let mut wanted = Vec::new();
    for span in spans.as_array().ok_or_else(wrong)? {
        let ends: Option<Vec<u64>> = span.as_array().and_then(|s| s.iter().map(Value::as_u64).collect());
        let [start, end] = ends.as_deref().ok_or_else(wrong)? else { return Err(wrong()) };
        let byte = |c: u64| offsets.get(c as usize).copied();
        match (byte(*start), byte(*end)) {
            (Some(s), Some(e)) if s < e => wanted.push(s..e),
            _ => {
                let n = offsets.len() - 1;
                return Err(Error::work(format!(
                    "the span [{start}, {end}) is not within the answer's {n} characters"
                )));
            }
        }
    }
    let tokenizer = renderer.tokenizer();
    let counted: Vec<usize> = (0..example.len()).filter(|i| example.weights[*i] != 0.0).collect();
    let ids: Vec<u32> = counted.iter().map(|i| example.tokens[*i]).collect();
    // A template may put something before the answer, or trim it.
    let written = tokenizer.decode(&ids, false)?;
    let trimmed = text.len() - text.trim_start().len();
    let lead = written.find(text.trim()).ok_or_else(|| Error::work("the template changes the answer's text"))?;
    let mut stream = tokenizer.stream(false);
    let mut from = 0;
    for (i, id) in counted.iter().zip(&ids) {
        let end = from + stream.push(*id)?.len();
        let touches = |w: &std::ops::Range<usize>| {
            let (start, stop) = (w.start + lead, w.end + lead);
            from + trimmed < stop && start < end.max(from + 1) + trimmed
        };
        if !wanted.iter().any(touches) {
            example.weights[*i] = 0.0;
        }
        from = end;
    }
    Ok(())
}

/// Pairs the best and the worst answer of each prompt; none where they are equal.
pub fn best_worst(scored: &[(String, f64)]) -> Option<(usize, usize)> {
    let by = |a: &usize, b: &usize| scored[*a].1.total_cmp(&scored[*b].1);
    // Of equal ones the first.
    let best = (0..scored.len()).rev().max_by(by)?;
    let worst = (0..scored.len()).min_by(by)?;
    (scored[best].1 > scored[worst].1).then_some((best, worst))
}

/// All pairs of answers whose scores lie on two sides: at least `good`, at most `bad`; texts that are equal make no pair.
pub fn across(scored: &[(String, f64)], good: f64, bad: f64) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (i, (better, score)) in scored.iter().enumerate() {
        let lower =
            |(_, (worse, s)): &(usize, &(String, f64))| *score >= good && *s <= bad && s < score && worse != better;
        pairs.extend(scored.iter().enumerate().filter(lower).map(|(j, _)| (i, j)));
    }
    pairs
}

/// Rows `prompt`, `chosen`, `rejected` of scored answers: the best against the worst of each prompt, or all across two
/// thresholds, at most `most` a prompt.
pub fn build(
    answers: &[(String, Vec<(String, f64)>)],
    thresholds: Option<(f64, f64)>,
    most: usize,
) -> Vec<BTreeMap<&'static str, Value>> {
    let mut rows = Vec::new();
    for (prompt, scored) in answers {
        let pairs = match thresholds {
            None => best_worst(scored).into_iter().collect(),
            Some((good, bad)) => across(scored, good, bad),
        };
        for (b, w) in pairs.into_iter().take(most) {
            rows.push(BTreeMap::from([
                ("prompt", json!(prompt)),
                ("chosen", json!(scored[b].0)),
                ("rejected", json!(scored[w].0)),
                ("chosen_score", json!(scored[b].1)),
                ("rejected_score", json!(scored[w].1)),
            ]));
        }
    }
    rows
}
