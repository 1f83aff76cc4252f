//! Any bytes as a data file (the first byte chooses the format): rows, and records of what is found in them.
#![no_main]
use std::io::Write;

use postgrad_data::reader::{DataFile, Reader};
use postgrad_data::record::Layout;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let suffix = [".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".csv.gz"][usize::from(*first) % 6];
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().expect("a temporary file");
    file.write_all(data).expect("written");
    let Ok(file) = DataFile::open(file.path()) else { return };
    let (layout, mut reader) = (Layout::default(), Reader::new(vec![file].into()));
    while let Ok(Some(row)) = reader.next_row() {
        if let Ok(columns) = row.columns()
            && let Ok(kind) = layout.detect(&columns)
        {
            let _ = layout.record(kind, columns);
        }
    }
});
