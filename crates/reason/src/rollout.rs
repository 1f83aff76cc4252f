//! Rollouts: questions sampled until each has enough accepted responses.
//!
//! A pool of questions goes round by round. In a round every question that is left gets a batch of trials; after it, a
//! question whose [`StopRule`] is met leaves the pool. Trial `i` of question `q` is a function of the seed, `q` and `i` alone,
//! and the stop test looks at whole batches of its own question, so neither the other questions nor a kill in between nor
//! a [`Shard`]ing changes what is made. Samples are appended to a [`Log`] as they come; a killed run goes on from it.
//!
//! ```
//! use postgrad_reason::rollout::{Log, Sample, StopRule, run};
//! # fn main() -> postgrad_base::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! let mut log = Log::open(&dir.path().join("samples.part.jsonl"))?;
//! let pool = [(0, StopRule { target: Some(2), cap: 10 })];
//! // Every third trial is right.
//! let tallies = run(&pool, 1, &mut log, |asks, give| {
//!     for trial in asks.iter().flat_map(|a| a.trials.clone()) {
//!         give(Sample { question: 0, trial, correct: trial % 3 == 2, ..Sample::default() })?;
//!     }
//!     Ok(())
//! }, |_| ())?;
//! assert_eq!((tallies[0].trials(), tallies[0].accepted), (6, 2));
//! # Ok(()) }
//! ```
//!
//! Left out on purpose: which questions deserve how many (an allocation, made above), and what is done with the samples.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Context, Error, Result, Stream, fs, jsonl};
use postgrad_nn::sample::{Predicate, Request, Settings, sample};
use serde::{Deserialize, Serialize};

use crate::folder::ModelFolder;
use crate::generate::{Options, ends_with_stop, text_of};
use crate::verify::Verifier;

/// When a question leaves the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRule {
    /// Accepted samples that are enough; `None`: all trials are made.
    pub target: Option<usize>,
    /// Trials at most.
    pub cap: usize,
}

impl StopRule {
    pub fn met(&self, trials: usize, accepted: usize) -> bool {
        trials >= self.cap || self.target.is_some_and(|t| accepted >= t)
    }
}

/// A part of the questions: part `index` (from 1) of `of`, written `2/4`. Parts are dealt in turn, so that each has some of
/// every stretch of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    pub index: usize,
    pub of: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 1, of: 1 }
    }
}

impl Shard {
    pub fn has(self, question: usize) -> bool {
        question % self.of == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match parts {
            Some((index, of)) if 1 <= index && index <= of => Ok(Self { index, of }),
            _ => Err(Error::usage(format!("`{text}` is no shard")).help("write 1/4, 2/4, 3/4 and 4/4 for four parts")),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|e: Error| e.to_string())
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> String {
        format!("{}/{}", shard.index, shard.of)
    }
}

/// One response with its verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Number of the question in the whole pool.
    pub question: usize,
    pub trial: usize,
    pub response: String,
    /// The answer that was found in it.
    pub extracted: Option<String>,
    /// Accepted: right as the verifier was asked, and not truncated.
    pub correct: bool,
    pub truncated: bool,
    pub tokens: usize,
    /// Sum over its tokens under the model at temperature 1, nats.
    pub log_prob: f64,
    /// The same under the distribution it was drawn from.
    pub behaviour: f64,
}

/// Trials of a question that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub question: usize,
    pub trials: Range<usize>,
}

/// What was made of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    made: Vec<bool>,
    pub accepted: usize,
}

impl Tally {
    pub fn trials(&self) -> usize {
        self.made.len()
    }

    /// Counts a sample in. Errors: it was there already.
    pub fn add(&mut self, sample: &Sample) -> Result<()> {
        if self.made.len() <= sample.trial {
            self.made.resize(sample.trial + 1, false);
        }
        if std::mem::replace(&mut self.made[sample.trial], true) {
            return Err(Error::work(format!("trial {} of question {} is there twice", sample.trial, sample.question)));
        }
        self.accepted += usize::from(sample.correct);
        Ok(())
    }

    /// What a batch that was begun lacks, else the next batch, else nothing: the question is done.
    fn next(&self, rule: &StopRule, batch: usize) -> Vec<Range<usize>> {
        let end = (self.made.len().div_ceil(batch) * batch).min(rule.cap);
        let mut lacking: Vec<Range<usize>> = Vec::new();
        for trial in (0..end).filter(|t| !self.made.get(*t).is_some_and(|m| *m)) {
            match lacking.last_mut() {
                Some(run) if run.end == trial => run.end += 1,
                _ => lacking.push(trial..trial + 1),
            }
        }
        if lacking.is_empty() && !rule.met(end, self.accepted) {
            lacking.push(end..(end + batch).min(rule.cap));
        }
        lacking
    }
}

/// How far a pool has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub questions: usize,
    /// Questions that have left the pool, as of the last round.
    pub finished: usize,
    pub trials: usize,
    pub accepted: usize,
    pub tokens: usize,
}

/// Samples a pool (numbers of questions with their rules) until every question is done, going on from what the log holds.
/// `draw` makes the trials it is asked for, in any order, and gives each as soon as it is there. Tallies come in the pool's
/// order.
pub fn run(
    pool: &[(usize, StopRule)],
    batch: usize,
    log: &mut Log,
    mut draw: impl FnMut(&[Ask], &mut dyn FnMut(Sample) -> Result<()>) -> Result<()>,
    mut told: impl FnMut(&Progress),
) -> Result<Vec<Tally>> {
    let batch = batch.max(1);
    let places: BTreeMap<usize, usize> = pool.iter().enumerate().map(|(at, (q, _))| (*q, at)).collect();
    let mut tallies = vec![Tally::default(); pool.len()];
    let mut progress = Progress { questions: pool.len(), ..Progress::default() };
    let count = |sample: &Sample, tallies: &mut [Tally], progress: &mut Progress| {
        let at = places.get(&sample.question).ok_or_else(|| {
            Error::work(format!("question {} is not one of this pool or of this shard", sample.question))
        })?;
        tallies[*at].add(sample)?;
        progress.trials += 1;
        progress.accepted += usize::from(sample.correct);
        progress.tokens += sample.tokens;
        Ok(())
    };
    log.read(|sample| count(sample, &mut tallies, &mut progress))?;
    loop {
        let mut asks = Vec::new();
        progress.finished = pool.len();
        for ((question, rule), tally) in pool.iter().zip(&tallies) {
            let runs = tally.next(rule, batch);
            progress.finished -= usize::from(!runs.is_empty());
            asks.extend(runs.into_iter().map(|trials| Ask { question: *question, trials }));
        }
        told(&progress);
        if asks.is_empty() {
            return Ok(tallies);
        }
        let wanted = progress.trials + asks.iter().map(|a| a.trials.len()).sum::<usize>();
        draw(&asks, &mut |sample| {
            count(&sample, &mut tallies, &mut progress)?;
            log.push(&sample)?;
            told(&progress);
            Ok(())
        })?;
        if progress.trials != wanted {
            return Err(Error::work(format!("{wanted} samples were wanted and {} made", progress.trials)));
        }
    }
}

/// Samples as they come, in a file of JSON lines. A line is written at once; one that a kill left torn is cut off.
pub struct Log {
    file: File,
    path: PathBuf,
    /// Question, trial, and where the line lies.
    lines: Vec<(usize, usize, Range<u64>)>,
    end: u64,
}

impl Log {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).read(true).append(true).open(path);
        let file = file.context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path: path.into(), lines: vec![], end: 0 })
    }

    /// Goes through what the file holds, from its start.
    fn read(&mut self, mut each: impl FnMut(&Sample) -> Result<()>) -> Result<()> {
        let broken = |path: &Path| format!("cannot read {}", path.display());
        (self.lines, self.end) = (vec![], 0);
        self.file.seek(SeekFrom::Start(0)).context(|| broken(&self.path))?;
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line).context(|| broken(&self.path))? as u64;
            if line.last() != Some(&b'\n') {
                break;
            }
            let place = self.lines.len() as u64 + 1;
            let sample: Sample = serde_json::from_slice(&line)
                .map_err(|e| Error::work("not a sample").because(e).at_line(&self.path, place))?;
            each(&sample).map_err(|e| e.at_line(&self.path, place))?;
            self.lines.push((sample.question, sample.trial, self.end..self.end + n));
            self.end += n;
        }
        self.file.set_len(self.end).context(|| format!("cannot cut {}", self.path.display()))
    }

    fn push(&mut self, sample: &Sample) -> Result<()> {
        let mut line = Vec::new();
        jsonl::write(&mut line, sample)?;
        self.file.write_all(&line).context(|| format!("cannot write {}", self.path.display()))?;
        let end = self.end + line.len() as u64;
        self.lines.push((sample.question, sample.trial, self.end..end));
        self.end = end;
        Ok(())
    }

    /// Writes the samples in the order of questions and trials, and removes the log.
    pub fn finish(mut self, path: &Path) -> Result<()> {
        self.lines.sort_by_key(|(question, trial, _)| (*question, *trial));
        let broken = || format!("cannot read {}", self.path.display());
        fs::write_atomic(path, |out| {
            let mut line = Vec::new();
            for (_, _, at) in &self.lines {
                line.resize((at.end - at.start) as usize, 0);
                self.file.seek(SeekFrom::Start(at.start)).context(broken)?;
                self.file.read_exact(&mut line).context(broken)?;
                out.write_all(&line).context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        })?;
        std::fs::remove_file(&self.path).context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// Trials made by a model.
pub struct Sampler<'a> {
    pub model: &'a ModelFolder,
    /// By number of question.
    pub prompts: &'a [Vec<u32>],
    pub verifier: &'a Verifier,
    /// Rules, lengths, string stops and places; the rest is not used.
    pub options: &'a Options,
    /// Trial `i` of question `q` draws from `stream.nth(q).nth(i)`.
    pub stream: Stream,
    /// Accept a right answer wherever it stands, not only where it is marked. It lets luck through.
    pub flexible: bool,
}

impl Sampler<'_> {
    /// What [`run`] calls.
    pub fn draw(&self, asks: &[Ask], cancel: &Cancel, give: &mut dyn FnMut(Sample) -> Result<()>) -> Result<()> {
        let end = self.model.end_ids();
        let Options { rules, max_tokens, min_tokens, stop, places, .. } = self.options;
        let settings = Arc::new(Settings {
            rules: rules.clone(),
            max_tokens: *max_tokens,
            min_tokens: *min_tokens,
            end: end.clone(),
        });
        let request = |ask: &Ask| Request {
            prompt: self.prompts[ask.question].clone(),
            settings: settings.clone(),
            stream: self.stream.nth(ask.question as u64),
            first: ask.trials.start,
            n: ask.trials.len(),
        };
        let requests: Vec<Request> = asks.iter().map(request).collect();
        let tokenizer = self.model.renderer.tokenizer();
        let stops = |_: usize, _: usize, tokens: &[u32]| ends_with_stop(tokenizer, tokens, stop);
        let stop_if: Option<Predicate> = if stop.is_empty() { None } else { Some(&stops) };
        sample(&self.model.decoder, &requests, *places, stop_if, cancel, |c| {
            let mut response = text_of(tokenizer, &c.tokens, &end)?;
            if let Some(at) = stop.iter().filter_map(|s| response.find(s.as_str())).min() {
                response.truncate(at);
            }
            let question = asks[c.request].question;
            let verdict = self.verifier.verify(question, &response);
            let right = verdict.correct || self.flexible && verdict.flexible;
            let truncated = c.stop.truncated();
            let sum = |list: &[f32]| list.iter().map(|l| f64::from(*l)).sum();
            give(Sample {
                question,
                trial: c.sample,
                response,
                extracted: verdict.parsed,
                correct: right && !truncated,
                truncated,
                tokens: c.tokens.len(),
                log_prob: sum(&c.model),
                behaviour: sum(&c.behaviour),
            })
        })
    }
}

#[cfg(test)]
mod tests;
