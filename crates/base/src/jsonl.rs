//! JSON lines in and out. Every line read keeps its number, so that an error can name it.

use std::io::{BufRead, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Error, Result};

/// Rows of a JSON-lines file with their line numbers (from 1). Blank lines are skipped.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<impl Iterator<Item = Result<(u64, T)>>> {
    let file = std::fs::File::open(path)
        .context(|| format!("cannot read {}", path.display()))
        .map_err(|e| if path.exists() { e } else { Error::usage(format!("there is no file {}", path.display())) })?;
    let path = path.to_path_buf();
    let mut line_no = 0;
    let mut reader = std::io::BufReader::new(file);
    let mut line = String::new();
    Ok(std::iter::from_fn(move || {
        loop {
            line.clear();
            line_no += 1;
            match reader.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim().is_empty() => continue,
                Ok(_) => {
                    let row = serde_json::from_str(&line)
                        .map_err(|e| Error::work("not a JSON row").because(e).at_line(&path, line_no));
                    return Some(row.map(|r| (line_no, r)));
                }
                Err(e) => {
                    return Some(Err(Error::work("cannot read the line").because(e).at_line(&path, line_no)));
                }
            }
        }
    }))
}

/// Writes one row and its line end.
pub fn write(out: &mut impl Write, row: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, row).context(|| "cannot write a JSON row".into())?;
    out.write_all(b"\n").context(|| "cannot write a JSON row".into())
}
