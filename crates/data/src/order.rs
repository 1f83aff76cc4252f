//! The order in which a source's rows are read: as they stand, shuffled whole, or through a shuffle buffer.

use std::sync::Arc;

use postgrad_base::rng::StreamState;
use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};

use crate::reader::{DataFile, Position, RawRow, Reader};

/// A source at most this large, unpacked, is held in memory and shuffled whole.
pub(crate) const SMALL: u64 = 64 << 20;

/// Rows of one source in the order of its pass.
pub(crate) struct Rows {
    reader: Reader,
    stream: Stream,
    pass: u64,
    order: Order,
}

enum Order {
    Files,
    /// All rows, and the order in which this pass gives them.
    Whole {
        rows: Vec<RawRow>,
        order: Vec<usize>,
        next: usize,
    },
    Buffer {
        size: usize,
        slots: Vec<RawRow>,
        stream: Box<Stream>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowsState {
    pass: u64,
    reader: Position,
    next: usize,
    slots: Vec<Position>,
    stream: Option<StreamState>,
}

impl Rows {
    pub fn files(&self) -> &Arc<[DataFile]> {
        self.reader.files()
    }

    /// `buffer` 0: the order of the files. Sources of at most `small` bytes are shuffled whole.
    pub fn open(files: Arc<[DataFile]>, buffer: usize, small: u64, stream: Stream) -> Result<Self> {
        let bytes: u64 = files.iter().map(DataFile::unpacked_bytes).sum();
        let mut reader = Reader::new(files);
        let order = if buffer == 0 {
            Order::Files
        } else if bytes <= small {
            let mut rows = Vec::new();
            while let Some(row) = reader.next_row()? {
                rows.push(row);
            }
            Order::Whole { rows, order: vec![], next: 0 }
        } else {
            Order::Buffer { size: buffer, slots: vec![], stream: Box::new(stream.clone()) }
        };
        let mut rows = Self { reader, stream, pass: 0, order };
        rows.begin(0);
        Ok(rows)
    }

    /// Begins a pass; each has its own order.
    pub fn begin(&mut self, pass: u64) {
        self.pass = pass;
        let mut order_stream = self.stream.nth(pass);
        match &mut self.order {
            Order::Files => {}
            Order::Whole { rows, order, next } => {
                *order = (0..rows.len()).collect();
                order_stream.shuffle(order);
                *next = 0;
            }
            Order::Buffer { slots, stream, .. } => {
                slots.clear();
                **stream = order_stream;
            }
        }
        self.reader.rewind();
    }

    pub fn next(&mut self) -> Result<Option<RawRow>> {
        match &mut self.order {
            Order::Files => self.reader.next_row(),
            Order::Whole { rows, order, next } => {
                let row = order.get(*next).map(|i| rows[*i].clone());
                *next += usize::from(row.is_some());
                Ok(row)
            }
            Order::Buffer { size, slots, stream } => {
                while slots.len() < *size {
                    match self.reader.next_row()? {
                        Some(row) => slots.push(row),
                        None => break,
                    }
                }
                Ok(if slots.is_empty() { None } else { Some(slots.swap_remove(stream.below(slots.len()))) })
            }
        }
    }

    pub fn state(&self) -> RowsState {
        let mut state =
            RowsState { pass: self.pass, reader: self.reader.position(), next: 0, slots: vec![], stream: None };
        match &self.order {
            Order::Files => {}
            Order::Whole { next, .. } => state.next = *next,
            Order::Buffer { slots, stream, .. } => {
                state.slots = slots.iter().map(|r| r.at).collect();
                state.stream = Some(stream.state());
            }
        }
        state
    }

    pub fn restore(&mut self, state: &RowsState) -> Result<()> {
        let damaged = || Error::work("the saved place of the data is damaged");
        self.begin(state.pass);
        match &mut self.order {
            Order::Files => self.reader.seek(state.reader)?,
            Order::Whole { next, .. } => *next = state.next,
            Order::Buffer { slots, stream, .. } => {
                **stream = Stream::restore(state.stream.as_ref().ok_or_else(damaged)?).ok_or_else(damaged)?;
                let mut by_place: Vec<usize> = (0..state.slots.len()).collect();
                by_place.sort_by_key(|i| state.slots[*i]);
                let mut found: Vec<Option<RawRow>> = vec![None; by_place.len()];
                for i in by_place {
                    found[i] = Some(self.reader.fetch(state.slots[i])?);
                }
                *slots = found.into_iter().flatten().collect();
                self.reader.seek(state.reader)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::find_files;

    fn lines(rows: &mut Rows, n: usize) -> Vec<u64> {
        (0..n).map_while(|_| rows.next().unwrap()).map(|r| r.columns().unwrap()["i"].as_u64().unwrap()).collect()
    }

    #[test]
    fn every_order_gives_each_row_once_and_goes_on_from_a_saved_place() {
        let dir = tempfile::tempdir().unwrap();
        let row = |i: u64| format!("{{\"i\": {i}, \"text\": \"{}\"}}\n", "x".repeat((i % 7) as usize));
        let (one, two) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl.gz"));
        std::fs::write(&one, (0..120).map(row).collect::<String>()).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, (120..200).map(row).collect::<String>().as_bytes()).unwrap();
        std::fs::write(&two, packed.finish().unwrap()).unwrap();
        let files: Arc<[DataFile]> = find_files(&[dir.path().to_string_lossy().into()]).unwrap().into();
        for (buffer, small) in [(0, 0), (10, 1 << 20), (10, 0), (500, 0)] {
            let open = || Rows::open(files.clone(), buffer, small, Stream::new(4, &["data"])).unwrap();
            let mut rows = open();
            let all = lines(&mut rows, 1000);
            let mut sorted = all.clone();
            sorted.sort();
            assert_eq!(sorted, (0..200).collect::<Vec<_>>());
            assert_eq!(buffer == 0, all == sorted);
            rows.begin(1);
            let second = lines(&mut rows, 1000);
            assert_eq!(buffer == 0, second == all);
            for cut in [0, 1, 57, 119, 120, 121, 199, 200] {
                let mut rows = open();
                assert_eq!(lines(&mut rows, cut), all[..cut]);
                let saved = serde_json::to_string(&rows.state()).unwrap();
                let mut other = open();
                other.restore(&serde_json::from_str(&saved).unwrap()).unwrap();
                assert_eq!(lines(&mut other, 1000), all[cut..], "buffer {buffer}, cut {cut}");
            }
        }
    }
}
