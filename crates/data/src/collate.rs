//! Examples to batches: padded, packed, or padded in buckets of like length.
//!
//! A batch is row-major `[rows, len]`. Packed rows hold several segments; attention must not cross them, positions begin
//! again in each, and no target does. Everything is deterministic: which examples share a row depends on the examples
//! and the seed alone. Left out on purpose: the loss normaliser, which is the trainer's ([`Batch::weight_sum`] helps).

use std::collections::{BTreeMap, VecDeque};

use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, DatasetState};
use crate::example::Example;

/// What a decoder is given for one step. All lists are `[rows * len]`, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub rows: usize,
    pub len: usize,
    pub tokens: Vec<u32>,
    /// `targets[r, t]` is the token after `tokens[r, t]` in its segment.
    pub targets: Vec<u32>,
    /// Loss weights of the targets, the example's weight multiplied in; 0 on padding and at a segment's end.
    pub weights: Vec<f32>,
    /// From 0 in every segment.
    pub positions: Vec<u32>,
    /// 0 on padding, from 1 in every row.
    pub segments: Vec<u32>,
    pub examples: usize,
    /// Tokens that are no padding.
    pub tokens_real: usize,
    /// Which example of the batch a place belongs to; `u32::MAX` on padding.
    pub example_of: Vec<u32>,
}

/// Changes an example's input tokens and leaves its targets.
pub type Corrupt<'a> = dyn FnMut(&mut Stream, &mut [u32], &Example) + 'a;

impl Batch {
    /// Rows of examples, each row at most `len` long. Empty examples are left out.
    pub fn from_rows(rows: &[Vec<&Example>], len: usize, pad: u32) -> Result<Self> {
        Self::corrupted(rows, len, pad, &mut |_, _| {})
    }

    /// One example a row, as long as the longest, rounded up to a multiple.
    pub fn padded(examples: &[&Example], multiple: usize, pad: u32) -> Result<Self> {
        let rows: Vec<Vec<&Example>> = examples.iter().map(|e| vec![*e]).collect();
        Self::from_rows(&rows, padded_len(examples.iter().map(|e| e.len()), multiple), pad)
    }

    /// As [`Batch::from_rows`]; `corrupt` may change the input tokens of each example before they are laid down.
    pub fn corrupted(
        rows: &[Vec<&Example>],
        len: usize,
        pad: u32,
        corrupt: &mut dyn FnMut(&mut [u32], &Example),
    ) -> Result<Self> {
        let size = rows.len() * len;
        let mut batch = Self {
            rows: rows.len(),
            len,
            tokens: vec![pad; size],
            targets: vec![pad; size],
            weights: vec![0.0; size],
            positions: vec![0; size],
            segments: vec![0; size],
            examples: 0,
            tokens_real: 0,
            example_of: vec![u32::MAX; size],
        };
        for (r, row) in rows.iter().enumerate() {
            let (mut at, end) = (r * len, (r + 1) * len);
            for (s, example) in row.iter().filter(|e| !e.is_empty()).enumerate() {
                let n = example.len();
                if example.weights.len() != n {
                    return Err(Error::work(format!(
                        "an example has {n} tokens and {} weights",
                        example.weights.len()
                    ))
                    .at(&example.place));
                }
                if at + n > end {
                    return Err(
                        Error::work(format!("an example of {n} tokens does not fit a row of {len}")).at(&example.place)
                    );
                }
                batch.tokens[at..at + n].copy_from_slice(&example.tokens);
                corrupt(&mut batch.tokens[at..at + n], example);
                for i in 0..n {
                    batch.positions[at + i] = i as u32;
                    batch.segments[at + i] = s as u32 + 1;
                    batch.example_of[at + i] = batch.examples as u32;
                    if i + 1 < n {
                        batch.targets[at + i] = example.tokens[i + 1];
                        batch.weights[at + i] = example.weights[i + 1] * example.weight;
                    }
                }
                batch.examples += 1;
                batch.tokens_real += n;
                at += n;
            }
        }
        Ok(batch)
    }

    /// The sum of the loss weights.
    pub fn weight_sum(&self) -> f64 {
        self.weights.iter().map(|w| f64::from(*w)).sum()
    }

    /// Targets that count in the loss.
    pub fn trained(&self) -> usize {
        self.weights.iter().filter(|w| **w != 0.0).count()
    }
}

fn padded_len(lens: impl Iterator<Item = usize>, multiple: usize) -> usize {
    lens.max().unwrap_or(0).next_multiple_of(multiple.max(1))
}

/// Puts items of these lengths into rows of `capacity`, longest first, each into the fullest row that takes it (best fit
/// decreasing: never more than 11/9 of the fewest rows, plus one). Items of length 0 are left out; one that is too long
/// is an error.
pub fn pack(lens: &[usize], capacity: usize) -> Result<Vec<Vec<usize>>> {
    let mut order: Vec<usize> = (0..lens.len()).filter(|i| lens[*i] > 0).collect();
    order.sort_by_key(|i| std::cmp::Reverse(lens[*i]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Free room -> rows with that much, oldest last.
    let mut room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in order {
        let n = lens[i];
        if n > capacity {
            return Err(Error::work(format!("an example of {n} tokens does not fit a row of {capacity}")));
        }
        let (free, row) = match room.range_mut(n..).next() {
            Some((free, list)) => {
                let free = *free;
                let row = list.pop();
                if list.is_empty() {
                    room.remove(&free);
                }
                (free, row)
            }
            None => (capacity, None),
        };
        let row = row.unwrap_or_else(|| {
            rows.push(Vec::new());
            rows.len() - 1
        });
        rows[row].push(i);
        if free > n {
            room.entry(free - n).or_default().push(row);
        }
    }
    Ok(rows)
}

/// How examples share batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// In the order they come, padded to the longest.
    #[default]
    Pad,
    /// Several in a row of `len`.
    Pack,
    /// Padded, with others of like length.
    Buckets,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchSpec {
    pub layout: Layout,
    /// Rows of a batch (the last of an epoch may have fewer).
    pub rows: usize,
    /// Length of a packed row.
    pub len: usize,
    /// Examples looked at together to pack or to bucket.
    pub window: usize,
    /// Padded lengths are multiples of it.
    pub multiple: usize,
    pub pad: u32,
    pub seed: u64,
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self { layout: Layout::Pad, rows: 1, len: 1024, window: 1024, multiple: 1, pad: 0, seed: 0 }
    }
}

/// Batches from a dataset, one after the other; its place can be saved and gone on from.
pub struct Batches {
    spec: BatchSpec,
    /// The dataset's place before the window at hand.
    before: Option<DatasetState>,
    /// Examples that were carried into the window at hand.
    carried: Vec<Example>,
    /// Examples of the window before that did not fill a batch.
    carry: Vec<Example>,
    ready: VecDeque<Vec<Vec<Example>>>,
    given: u64,
    windows: u64,
    examples: u64,
}

/// A place in the series of batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchesState {
    dataset: DatasetState,
    carry: Vec<Example>,
    given: u64,
    windows: u64,
    examples: u64,
}

impl Batches {
    pub fn new(spec: BatchSpec) -> Result<Self> {
        if spec.rows == 0 || (spec.layout == Layout::Pack && spec.len < 2) {
            return Err(Error::usage(format!("a batch of {} rows of {} tokens holds nothing", spec.rows, spec.len)));
        }
        let fresh = Self {
            spec,
            before: None,
            carried: vec![],
            carry: vec![],
            ready: VecDeque::new(),
            given: 0,
            windows: 0,
            examples: 0,
        };
        Ok(fresh)
    }

    /// The next batch; `None` at the end of the dataset's epoch.
    pub fn next(&mut self, data: &mut Dataset) -> Result<Option<Batch>> {
        self.next_corrupted(data, &Stream::new(self.spec.seed, &["data", "corrupt"]), &mut |_, _, _| {})
    }

    /// As [`Batches::next`]; `corrupt` changes input tokens, given each example's own stream below `stream`.
    pub fn next_corrupted(
        &mut self,
        data: &mut Dataset,
        stream: &Stream,
        corrupt: &mut Corrupt,
    ) -> Result<Option<Batch>> {
        if self.ready.is_empty() && !self.fill(data)? {
            return Ok(None);
        }
        let Some(rows) = self.ready.pop_front() else { return Ok(None) };
        self.given += 1;
        let rows: Vec<Vec<&Example>> = rows.iter().map(|r| r.iter().collect()).collect();
        let len = match self.spec.layout {
            Layout::Pack => self.spec.len,
            _ => padded_len(rows.iter().flatten().map(|e| e.len()), self.spec.multiple),
        };
        let mut drawn = self.examples;
        let batch = Batch::corrupted(&rows, len, self.spec.pad, &mut |tokens, example| {
            corrupt(&mut stream.nth(drawn), tokens, example);
            drawn += 1;
        })?;
        self.examples = drawn;
        Ok(Some(batch))
    }

    fn fill(&mut self, data: &mut Dataset) -> Result<bool> {
        self.before = Some(data.state());
        self.given = 0;
        let want = if self.spec.layout == Layout::Pad { self.spec.rows } else { self.spec.window.max(self.spec.rows) };
        let mut window = self.carry.clone();
        let mut more = true;
        while more && window.len() < want {
            match data.next_example()? {
                Some(example) => window.push(example),
                None => more = false,
            }
        }
        self.carried = std::mem::take(&mut self.carry);
        if window.is_empty() {
            return Ok(false);
        }
        let order = Stream::new(self.spec.seed, &["data", "batches"]).nth(self.windows);
        self.windows += 1;
        let mut batches = self.arrange(window, order)?;
        // A batch that is not full waits for the next window, unless there is none or nothing would be left.
        if more && batches.len() > 1 && batches.last().is_some_and(|b| b.len() < self.spec.rows) {
            self.carry = batches.pop().into_iter().flatten().flatten().collect();
        }
        self.ready = batches.into();
        Ok(true)
    }

    /// Full batches in a random order, the one that is not full last.
    fn arrange(&self, window: Vec<Example>, mut order: Stream) -> Result<Vec<Vec<Vec<Example>>>> {
        let lens: Vec<usize> = window.iter().map(Example::len).collect();
        let mut rows: Vec<Vec<usize>> = match self.spec.layout {
            Layout::Pad => (0..window.len()).map(|i| vec![i]).collect(),
            Layout::Pack => pack(&lens, self.spec.len)?,
            Layout::Buckets => {
                let mut by_length: Vec<usize> = (0..window.len()).collect();
                order.shuffle(&mut by_length);
                by_length.sort_by_key(|i| lens[*i]);
                by_length.into_iter().map(|i| vec![i]).collect()
            }
        };
        if self.spec.layout == Layout::Pack {
            order.shuffle(&mut rows);
        }
        let mut batches: Vec<Vec<Vec<usize>>> = rows.chunks(self.spec.rows).map(<[_]>::to_vec).collect();
        if self.spec.layout == Layout::Buckets {
            let full = batches.len() - usize::from(batches.last().is_some_and(|b| b.len() < self.spec.rows));
            order.shuffle(&mut batches[..full]);
        }
        let mut window: Vec<Option<Example>> = window.into_iter().map(Some).collect();
        let mut take = |i: usize| window[i].take().unwrap_or_default();
        Ok(batches
            .into_iter()
            .map(|b| b.into_iter().map(|r| r.into_iter().map(&mut take).collect()).collect())
            .collect())
    }

    /// The place before the next batch.
    pub fn state(&self, data: &Dataset) -> BatchesState {
        let (windows, examples) = (self.windows, self.examples);
        match &self.before {
            Some(before) if !self.ready.is_empty() => {
                let (dataset, carry) = (before.clone(), self.carried.clone());
                BatchesState { dataset, carry, given: self.given, windows: windows - 1, examples }
            }
            _ => BatchesState { dataset: data.state(), carry: self.carry.clone(), given: 0, windows, examples },
        }
    }

    /// Goes to a saved place, the dataset with it.
    pub fn restore(&mut self, data: &mut Dataset, state: &BatchesState) -> Result<()> {
        data.restore(&state.dataset)?;
        self.ready.clear();
        self.carry = state.carry.clone();
        self.windows = state.windows;
        if state.given > 0 {
            self.fill(data)?;
            for _ in 0..state.given {
                self.ready
                    .pop_front()
                    .ok_or_else(|| Error::work("the data is not what it was when the place was saved"))?;
            }
            self.given = state.given;
        }
        self.examples = state.examples;
        Ok(())
    }
}
