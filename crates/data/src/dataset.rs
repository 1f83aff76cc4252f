//! Files to examples: what a trainer, an evaluation and `data stats` read.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use postgrad_data::{DataSpec, Dataset, Renderer};
//! let renderer = Arc::new(Renderer::load("models/seed-1m".as_ref())?);
//! let mut data = Dataset::open(DataSpec::of("train.jsonl"), renderer)?;
//! while let Some(example) = data.next_example()? {
//!     println!("{} tokens, {} trained", example.len(), example.trained());
//! }
//! # Ok::<(), postgrad_base::Error>(())
//! ```
//! Small sources (64 MB unpacked) are held in memory and shuffled whole each epoch; larger ones stream through a shuffle
//! buffer. The order is a function of seed, epoch and files alone, and a place in it can be saved.

use std::collections::VecDeque;
use std::sync::Arc;

use postgrad_base::rng::StreamState;
use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::example::Example;
use crate::mixture::{Draw, SourceSpec};
use crate::order::{Rows, RowsState, SMALL};
use crate::reader::{DataFile, RawRow, Reader, find_files};
use crate::record::{Columns, Kind, Layout, Place, Record, Roles};
use crate::render::{Renderer, nothing_trained};

/// What happens at a malformed row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRow {
    #[default]
    Stop,
    Skip,
}

/// What happens to an example longer than `max_len`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverLong {
    #[default]
    Drop,
    Truncate,
}

/// Which data, and how it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataSpec {
    pub sources: Vec<SourceSpec>,
    /// `None`: found from the columns.
    pub kind: Option<Kind>,
    pub columns: Columns,
    pub roles: Roles,
    pub on_bad_row: OnBadRow,
    /// In tokens; 0: no limit.
    pub max_len: usize,
    pub over_long: OverLong,
    /// Rows held to shuffle a large source; 0: rows come in the order of the files, small sources too.
    pub shuffle_buffer: usize,
    pub seed: u64,
}

impl Default for DataSpec {
    fn default() -> Self {
        Self {
            sources: vec![],
            kind: None,
            columns: Columns::default(),
            roles: Roles::default(),
            on_bad_row: OnBadRow::Stop,
            max_len: 0,
            over_long: OverLong::Drop,
            shuffle_buffer: 10_000,
            seed: 0,
        }
    }
}

impl DataSpec {
    /// One path (file, folder, glob) with the defaults.
    pub fn of(path: impl Into<String>) -> Self {
        Self { sources: vec![SourceSpec::new(path)], ..Self::default() }
    }
}

/// What was read so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub rows: u64,
    pub bad_rows: u64,
    /// The first bad row, with its place.
    pub first_bad: Option<String>,
    pub examples: u64,
    /// Examples dropped for their length.
    pub dropped: u64,
    pub truncated: u64,
    /// Records without anything to train on, left out.
    pub untrained: u64,
    /// Examples made beyond one a record, because the template rewrites the past.
    pub split: u64,
    /// Examples whose end token the template did not write.
    pub end_added: u64,
    pub tokens: u64,
    pub trained_tokens: u64,
    /// Each file's kind.
    pub kinds: Vec<(String, Kind)>,
    /// How often each source of a mixture was read to its end.
    pub passes: Vec<(String, u64)>,
}

impl Report {
    /// Share of examples that were too long, dropped or truncated.
    pub fn over_long_share(&self) -> f64 {
        let all = self.examples + self.dropped;
        if all == 0 { 0.0 } else { (self.dropped + self.truncated) as f64 / all as f64 }
    }

    /// What a reader of the run's report should know first.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        let share = self.over_long_share();
        if share > 0.1 {
            let (what, n) = if self.dropped > 0 { ("dropped", self.dropped) } else { ("truncated", self.truncated) };
            out.push(format!(
                "{:.0}% of the examples are over-long and were {what} ({n}); raise --max-len",
                share * 100.0
            ));
        }
        if let Some(first) = &self.first_bad {
            out.push(format!("{} malformed rows were skipped; the first: {first}", self.bad_rows));
        }
        if self.untrained > 0 {
            out.push(format!("{} records have nothing to train on and were left out", self.untrained));
        }
        if self.split > 0 {
            out.push(format!("the template rewrites earlier turns: {} turns became examples of their own", self.split));
        }
        if self.end_added > 0 {
            out.push(format!(
                "the template ends {} answers with no special token; the end token was added",
                self.end_added
            ));
        }
        out
    }
}

struct Source {
    rows: Rows,
    /// Of each file.
    kinds: Vec<Kind>,
    sets: Vec<u32>,
    /// Passes begun over all epochs, and those ended in this one.
    begun: u64,
    ended: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SourceState {
    rows: RowsState,
    begun: u64,
    ended: u64,
}

/// Records of a mixture of sources, one epoch after the other.
pub struct Records {
    layout: Layout,
    on_bad_row: OnBadRow,
    sources: Vec<Source>,
    draw: Draw,
    draw_root: Stream,
    epoch: u64,
    report: Report,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordsState {
    epoch: u64,
    /// Names and sizes of the files: a place in other files means nothing.
    files: Vec<(String, u64)>,
    draw: StreamState,
    sources: Vec<SourceState>,
    report: Report,
}

impl Records {
    /// Finds the files and looks at the first row of each.
    pub fn open(spec: &DataSpec) -> Result<Self> {
        let layout = Layout { kind: spec.kind, columns: spec.columns.clone(), roles: spec.roles.clone() };
        let root = Stream::new(spec.seed, &["data"]);
        let weighted = spec.sources.iter().any(|s| s.weight.is_some());
        let mut groups: Vec<(String, Vec<DataFile>, Vec<u32>)> = Vec::new();
        let mut weights = Vec::new();
        for (set, source) in spec.sources.iter().enumerate() {
            let files = find_files(std::slice::from_ref(&source.path))?;
            if weighted || groups.is_empty() {
                groups.push((source.path.clone(), vec![], vec![]));
                weights.push(source.weight.unwrap_or(1.0));
            }
            // Without weights all files are one source.
            if let Some((_, all, sets)) = groups.last_mut() {
                sets.extend(files.iter().map(|_| set as u32));
                all.extend(files);
            }
        }
        if groups.is_empty() {
            find_files(&[])?;
        }
        if weights.iter().sum::<f64>() <= 0.0 {
            return Err(Error::usage("all weights of the mixture are 0"));
        }
        let mut sources = Vec::new();
        let mut report = Report::default();
        for (i, (name, files, sets)) in groups.into_iter().enumerate() {
            let files: Arc<[DataFile]> = files.into();
            let kinds = (0..files.len())
                .map(|f| first_kind(&files[f], &layout, spec.on_bad_row))
                .collect::<Result<Vec<_>>>()?;
            report.kinds.extend(files.iter().zip(&kinds).map(|(f, k)| (f.name.to_string(), *k)));
            report.passes.push((name, 0));
            let rows = Rows::open(files, spec.shuffle_buffer, SMALL, root.child("order").nth(i as u64))?;
            sources.push(Source { rows, kinds, sets, begun: 1, ended: 0 });
        }
        let draw_root = root.child("mixture");
        let draw = Draw::new(weights, draw_root.nth(0));
        Ok(Self { layout, on_bad_row: spec.on_bad_row, sources, draw, draw_root, epoch: 0, report })
    }

    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Begins an epoch; each has its own order.
    pub fn reset(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.draw = Draw::new(self.draw.weights().to_vec(), self.draw_root.nth(epoch));
        for source in &mut self.sources {
            source.ended = 0;
            source.begun = 0;
            source.begin(epoch);
        }
    }

    /// The next record; `None` at the end of the epoch.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        loop {
            if self.sources.iter().zip(self.draw.weights()).all(|(s, w)| *w == 0.0 || s.ended > 0) {
                return Ok(None);
            }
            let i = self.draw.next_source();
            let row = loop {
                if let Some(row) = self.sources[i].rows.next()? {
                    break Some(row);
                }
                let source = &mut self.sources[i];
                source.ended += 1;
                self.report.passes[i].1 += 1;
                let (epoch, ended) = (self.epoch, source.ended);
                if self.sources.iter().zip(self.draw.weights()).all(|(s, w)| *w == 0.0 || s.ended > 0) {
                    break None;
                }
                if ended > 0 {
                    self.sources[i].begin(epoch);
                }
            };
            let Some(row) = row else { return Ok(None) };
            self.report.rows += 1;
            match self.record(i, row) {
                Ok(record) => return Ok(Some(record)),
                Err(e) => self.bad_row(e)?,
            }
        }
    }

    fn record(&self, source: usize, row: RawRow) -> Result<Record> {
        let source = &self.sources[source];
        let at = row.at;
        let file = &source.rows.files()[at.file as usize];
        let place = Place { set: source.sets[at.file as usize], file: file.name.clone(), line: at.line };
        let made = row.columns().and_then(|columns| self.layout.record(source.kinds[at.file as usize], columns));
        let mut record = made.map_err(|e| e.at(&place))?;
        record.id = (u64::from(place.set) << 52) | (u64::from(at.file) << 40) | at.row;
        record.place = place;
        Ok(record)
    }

    /// Counts a bad row, or stops at it.
    fn bad_row(&mut self, error: Error) -> Result<()> {
        self.report.bad_rows += 1;
        if self.on_bad_row == OnBadRow::Stop {
            return Err(error.help("mend the row, or leave malformed rows out with --on-bad-row skip"));
        }
        self.report.first_bad.get_or_insert_with(|| error.to_string().replace("\n  ", " "));
        Ok(())
    }

    fn files(&self) -> Vec<(String, u64)> {
        self.sources.iter().flat_map(|s| s.rows.files().iter().map(|f| (f.name.to_string(), f.bytes))).collect()
    }

    pub fn state(&self) -> RecordsState {
        let source = |s: &Source| SourceState { rows: s.rows.state(), begun: s.begun, ended: s.ended };
        RecordsState {
            epoch: self.epoch,
            files: self.files(),
            draw: self.draw.state(),
            sources: self.sources.iter().map(source).collect(),
            report: self.report.clone(),
        }
    }

    /// Goes to a saved place, after which the same records come in the same order.
    pub fn restore(&mut self, state: &RecordsState) -> Result<()> {
        let files = self.files();
        if files != state.files {
            let changed = state
                .files
                .iter()
                .find(|f| !files.contains(f))
                .or_else(|| files.iter().find(|f| !state.files.contains(f)));
            let name = changed.map_or("the order of the files", |f| f.0.as_str());
            return Err(Error::usage(format!("the data changed since the run was saved: {name}"))
                .help("put the old files back, or begin a new run"));
        }
        self.draw.restore(&state.draw)?;
        self.epoch = state.epoch;
        for (source, saved) in self.sources.iter_mut().zip(&state.sources) {
            source.rows.restore(&saved.rows)?;
            (source.begun, source.ended) = (saved.begun, saved.ended);
        }
        self.report = state.report.clone();
        Ok(())
    }
}

impl Source {
    fn begin(&mut self, epoch: u64) {
        // The passes of an epoch have orders of their own: 2^20 of them before two epochs would share one.
        self.rows.begin((epoch << 20) | self.begun);
        self.begun += 1;
    }
}

fn first_kind(file: &DataFile, layout: &Layout, on_bad_row: OnBadRow) -> Result<Kind> {
    let mut reader = Reader::new(Arc::from(vec![file.clone()]));
    let mut first_error = None;
    // A few malformed rows at the head do not hide the kind.
    for _ in 0..100 {
        let Some(row) = reader.next_row()? else { break };
        let line = row.at.line;
        let kind = row.columns().and_then(|columns: Map<String, Value>| layout.detect(&columns));
        match kind {
            Ok(kind) => return Ok(kind),
            Err(e) => {
                first_error.get_or_insert(e.at(format!("{}:{line}", file.name)));
                if on_bad_row == OnBadRow::Stop {
                    break;
                }
            }
        }
    }
    Err(first_error.unwrap_or_else(|| Error::usage("the file holds no rows").at(&file.name)))
}

/// Examples of a mixture, rendered by a model's tokenizer and template.
pub struct Dataset {
    spec: DataSpec,
    records: Records,
    renderer: Arc<Renderer>,
    pending: VecDeque<Example>,
}

/// A place in a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetState {
    records: RecordsState,
    pending: VecDeque<Example>,
}

impl Dataset {
    pub fn open(spec: DataSpec, renderer: Arc<Renderer>) -> Result<Self> {
        let records = Records::open(&spec)?;
        Ok(Self { spec, records, renderer, pending: VecDeque::new() })
    }

    pub fn spec(&self) -> &DataSpec {
        &self.spec
    }

    pub fn renderer(&self) -> &Arc<Renderer> {
        &self.renderer
    }

    /// Counts since the dataset was opened (a restored one goes on counting).
    pub fn report(&self) -> &Report {
        self.records.report()
    }

    pub fn epoch(&self) -> u64 {
        self.records.epoch
    }

    /// Begins an epoch.
    pub fn reset(&mut self, epoch: u64) {
        self.pending.clear();
        self.records.reset(epoch);
    }

    /// The next example; `None` at the end of the epoch. An epoch without any is an error.
    pub fn next_example(&mut self) -> Result<Option<Example>> {
        loop {
            if let Some(example) = self.pending.pop_front() {
                return Ok(Some(example));
            }
            let Some(record) = self.records.next_record()? else {
                let report = self.report();
                if report.examples == 0 {
                    return Err(self.no_examples());
                }
                return Ok(None);
            };
            match self.renderer.examples(&record) {
                Ok(rendered) => {
                    let report = &mut self.records.report;
                    report.split += rendered.split as u64;
                    report.end_added += u64::from(rendered.end_added);
                    if rendered.examples.iter().all(|e| e.trained() == 0) {
                        report.untrained += 1;
                        continue;
                    }
                    let fit = rendered.examples.into_iter().filter_map(|e| fit(e, &self.spec, report));
                    self.pending.extend(fit);
                }
                Err(e) => self.records.bad_row(e.at(&record.place))?,
            }
        }
    }

    fn no_examples(&self) -> Error {
        let report = self.report();
        if report.dropped > 0 {
            return Error::usage(format!(
                "all {} examples are longer than {} tokens",
                report.dropped, self.spec.max_len
            ))
            .help("raise --max-len, or shorten them with --over-long truncate");
        }
        if report.untrained > 0 {
            return nothing_trained();
        }
        Error::usage("the data holds no examples").help(report.first_bad.clone().unwrap_or_default())
    }

    /// Reads one epoch through and begins it again: what there is, before training.
    pub fn measure(&mut self) -> Result<Report> {
        let before = self.records.report.clone();
        let epoch = self.epoch();
        self.records.report = Report {
            kinds: before.kinds.clone(),
            passes: before.passes.iter().map(|(n, _)| (n.clone(), 0)).collect(),
            ..Report::default()
        };
        self.reset(epoch);
        while self.next_example()?.is_some() {}
        self.reset(epoch);
        Ok(std::mem::replace(&mut self.records.report, before))
    }

    pub fn state(&self) -> DatasetState {
        DatasetState { records: self.records.state(), pending: self.pending.clone() }
    }

    pub fn restore(&mut self, state: &DatasetState) -> Result<()> {
        self.records.restore(&state.records)?;
        self.pending = state.pending.clone();
        Ok(())
    }
}

/// Applies the length limit and counts.
fn fit(mut example: Example, spec: &DataSpec, report: &mut Report) -> Option<Example> {
    if spec.max_len > 0 && example.len() > spec.max_len {
        let cut = spec.over_long == OverLong::Truncate;
        example.truncate(spec.max_len);
        // What is left of a truncated example may be prompt alone.
        if !cut || example.trained() == 0 {
            report.dropped += 1;
            return None;
        }
        report.truncated += 1;
    }
    if example.trained() == 0 {
        return None;
    }
    report.examples += 1;
    report.tokens += example.len() as u64;
    report.trained_tokens += example.trained() as u64;
    Some(example)
}
