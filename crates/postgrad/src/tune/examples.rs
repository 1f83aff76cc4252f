//! Training examples from files with some held out, and evaluation sets with their questions.

use std::collections::BTreeSet;
use std::sync::Arc;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Body, DataSpec, Dataset, Example, PromptOptions, Record, Records, Renderer, Report};
use postgrad_nn::Decoder;
use postgrad_reason::generate::{Options, answers};
use postgrad_reason::{Answer, ModelFolder};
use postgrad_tasks::answers::equal;
use postgrad_train::ExampleSource;
use serde_json::Value;

/// A data set as a trainer reads it, without what is held out.
pub struct DataSource {
    data: Dataset,
    held: BTreeSet<u64>,
    report: Report,
    measured: bool,
    /// Lengths of the first examples, for percentiles.
    lengths: Vec<usize>,
}

impl DataSource {
    pub fn open(spec: DataSpec, renderer: Arc<Renderer>) -> Result<Self> {
        let data = Dataset::open(spec, renderer)?;
        Ok(Self { data, held: BTreeSet::new(), report: Report::default(), measured: false, lengths: vec![] })
    }

    /// Reads everything once: counts, lengths, the first malformed row.
    pub fn measure(&mut self) -> Result<()> {
        const KEPT: usize = 100_000;
        self.data.reset(0);
        while let Some(example) = self.data.next_example()? {
            if self.lengths.len() < KEPT {
                self.lengths.push(example.len());
            }
        }
        self.report = self.data.report().clone();
        self.measured = true;
        self.data.reset(0);
        if self.report.examples == 0 {
            return Err(Error::usage("there is nothing to train on: no example is left of the data")
                .help("`postgrad data show` prints what is read of it and what is trained"));
        }
        Ok(())
    }

    pub fn report(&self) -> &Report {
        if self.measured { &self.report } else { self.data.report() }
    }

    /// Examples of a pass, without those held out; unknown before [`DataSource::measure`].
    pub fn count(&self) -> Option<u64> {
        self.measured.then(|| self.report.examples - self.held.len() as u64)
    }

    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Takes `n` records out for evaluation, chosen by the seed.
    pub fn hold_out(&mut self, n: usize, seed: u64) -> Result<EvalData> {
        let renderer = self.data.renderer().clone();
        let mut spec = self.data.spec().clone();
        spec.shuffle_buffer = 0;
        if n == 0 {
            return Ok(EvalData::empty(renderer));
        }
        let all = self.count().ok_or_else(|| Error::usage("how much data there is must be known to hold some out"))?;
        if n as u64 >= all {
            return Err(Error::usage(format!("{n} examples to hold out of {all}")).help("give a smaller --hold-out"));
        }
        let chosen: BTreeSet<usize> =
            Stream::new(seed, &["data", "hold-out"]).sample(all as usize, n).into_iter().collect();
        let max_len = spec.max_len;
        let mut records = Records::open(&spec)?;
        let mut kept = EvalData::empty(renderer);
        let mut at = 0;
        while let Some(record) = records.next_record()? {
            let rendered = kept.renderer.examples(&record)?;
            let fitting = |e: &Example| e.trained() > 0 && (max_len == 0 || e.len() <= max_len);
            if !rendered.examples.iter().any(fitting) {
                continue;
            }
            if chosen.contains(&at) {
                self.held.insert(record.id);
                kept.push(record, rendered.examples.into_iter().filter(fitting).collect());
            }
            at += 1;
        }
        Ok(kept)
    }
}

impl ExampleSource for DataSource {
    fn next_example(&mut self) -> Result<Option<Example>> {
        loop {
            match self.data.next_example()? {
                Some(e) if self.held.contains(&e.group) => continue,
                other => return Ok(other),
            }
        }
    }

    fn start(&mut self, epoch: u64) -> Result<()> {
        self.data.reset(epoch);
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        self.count()
    }

    fn state(&self) -> Value {
        serde_json::to_value(self.data.state()).unwrap_or(Value::Null)
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        let state = serde_json::from_value(state.clone());
        let state = state.map_err(|e| Error::work("the checkpoint's place in the data is not readable").because(e))?;
        self.data.restore(&state)
    }
}

/// Evaluation examples, and questions with their reference answers.
pub struct EvalData {
    renderer: Arc<Renderer>,
    pub examples: Vec<Example>,
    questions: Vec<(Vec<u32>, String, String)>,
    answers: usize,
    max_answer: usize,
}

impl EvalData {
    fn empty(renderer: Arc<Renderer>) -> Self {
        Self { renderer, examples: vec![], questions: vec![], answers: 0, max_answer: 0 }
    }

    pub fn read(mut spec: DataSpec, renderer: Arc<Renderer>) -> Result<Self> {
        spec.shuffle_buffer = 0;
        let mut set = Self::empty(renderer);
        let max_len = spec.max_len;
        let mut records = Records::open(&spec)?;
        while let Some(record) = records.next_record()? {
            let rendered = set.renderer.examples(&record)?;
            let examples = rendered.examples.into_iter().filter(|e| max_len == 0 || e.len() <= max_len).collect();
            set.push(record, examples);
        }
        if set.is_empty() {
            return Err(Error::usage("the data has no usable example"));
        }
        Ok(set)
    }

    fn push(&mut self, record: Record, examples: Vec<Example>) {
        self.examples.extend(examples);
        if let Some((ids, prompt, reference)) = question(&self.renderer, &record) {
            self.questions.push((ids, prompt, reference));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Also answers the first `n` questions.
    pub fn answering(mut self, n: usize, max_answer: usize) -> Self {
        self.answers = n.min(self.questions.len());
        self.max_answer = max_answer;
        self
    }

    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Right or wrong for each answered question, by mathematical equality of the final answers.
    pub fn judge(&self, model: &ModelFolder, decoder: &Decoder, cancel: &Cancel) -> Result<Vec<bool>> {
        let given = self.ask(model, decoder, self.answers, self.max_answer, cancel)?;
        Ok(given
            .iter()
            .zip(&self.questions)
            .map(|(a, (_, _, gold))| !a.truncated && equal(gold, &a.text).equal)
            .collect())
    }

    /// Greedy answers to the first `n` questions, with the prompts.
    pub fn samples(
        &self,
        model: &ModelFolder,
        decoder: &Decoder,
        n: usize,
        cancel: &Cancel,
    ) -> Result<Vec<(String, String)>> {
        let given = self.ask(model, decoder, n.min(self.questions.len()), 128, cancel)?;
        Ok(given.into_iter().zip(&self.questions).map(|(a, (_, prompt, _))| (prompt.clone(), a.text)).collect())
    }

    fn ask(
        &self,
        model: &ModelFolder,
        decoder: &Decoder,
        n: usize,
        max: usize,
        cancel: &Cancel,
    ) -> Result<Vec<Answer>> {
        let prompts: Vec<Vec<u32>> = self.questions[..n].iter().map(|q| q.0.clone()).collect();
        // The trained decoder with the folder's tokenizer: parameters are shared, so this copies no weight.
        let now = ModelFolder { decoder: decoder.clone(), ..model.clone() };
        answers(&now, &prompts, &Options::greedy(max), cancel)
    }
}

/// A record's last question: its tokens, its text, the reference answer.
fn question(renderer: &Renderer, record: &Record) -> Option<(Vec<u32>, String, String)> {
    let turns = record.messages()?;
    let last = turns.iter().rposition(|t| t.role == "assistant")?;
    let ids = renderer.record_prompt_ids(record, &PromptOptions::default()).ok()?;
    let prompt = match &record.body {
        Body::PromptCompletion { prompt, .. } => prompt.clone(),
        _ => turns[..last].iter().rev().find(|t| t.role == "user").map(|t| t.content.clone()).unwrap_or_default(),
    };
    Some((ids, prompt, turns[last].content.clone()))
}
