//! Rows from files: JSON lines, JSON arrays and CSV, each also gzipped; from files, folders and globs.
//!
//! Rows stream: one row is in memory at a time, whatever the file's size. Every row knows its file, line and byte offset,
//! so that an error can name it and a killed run can go on where it was (by seeking in a plain file, by reading again in
//! a gzipped one or a table). Left out on purpose, for now: Parquet, zstd, files on a hub.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use postgrad_base::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A row longer than this is malformed: nothing a model reads is as long.
const MAX_ROW: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Lines,
    Array,
    Table,
}

/// One file of a data set.
#[derive(Clone, Debug)]
pub struct DataFile {
    pub path: PathBuf,
    /// As printed in errors and kept in places.
    pub name: Arc<str>,
    pub bytes: u64,
    format: Format,
    gzip: bool,
}

const READ: &str = ".jsonl, .ndjson, .json, .csv, .tsv, each also with .gz";

impl DataFile {
    pub fn open(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::usage(format!("there is no file {}", path.display())),
            _ => Error::work(format!("cannot read {}", path.display())).because(e),
        })?;
        let name = path.to_string_lossy();
        let lower = name.to_lowercase();
        let (stem, gzip) = lower.strip_suffix(".gz").map_or((lower.as_str(), false), |s| (s, true));
        let Some(mut format) = format_of(stem) else {
            let later = ["parquet", "arrow", "zst"].into_iter().find(|e| lower.ends_with(&format!(".{e}")));
            let what =
                later.map_or("this kind of file is not read".to_string(), |e| format!("{e} files are not read yet"));
            return Err(Error::usage(what).at(path.display()).help(format!("read are {READ}")));
        };
        if meta.len() == 0 {
            return Err(Error::usage("the file is empty").at(path.display()));
        }
        if stem.ends_with(".json") {
            // Many files called .json hold JSON lines.
            format = first_byte(path, gzip)?.map_or(format, |b| if b == b'[' { Format::Array } else { Format::Lines });
        }
        Ok(Self { path: path.into(), name: name.into(), bytes: meta.len(), format, gzip })
    }

    /// About how many bytes its rows are, unpacked.
    pub fn unpacked_bytes(&self) -> u64 {
        if self.gzip { self.bytes.saturating_mul(6) } else { self.bytes }
    }

    fn seeks(&self) -> bool {
        !self.gzip && self.format != Format::Table
    }

    fn reader(&self) -> Result<Box<dyn BufRead + Send>> {
        let file = File::open(&self.path).context(|| format!("cannot read {}", self.path.display()))?;
        Ok(if self.gzip {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file))))
        } else {
            Box::new(BufReader::with_capacity(1 << 16, file))
        })
    }
}

fn format_of(stem: &str) -> Option<Format> {
    let ends = |list: &[&str]| list.iter().any(|e| stem.ends_with(e));
    if ends(&[".jsonl", ".ndjson", ".json"]) {
        Some(Format::Lines)
    } else if ends(&[".csv", ".tsv"]) {
        Some(Format::Table)
    } else {
        None
    }
}

fn first_byte(path: &Path, gzip: bool) -> Result<Option<u8>> {
    let file = File::open(path).context(|| format!("cannot read {}", path.display()))?;
    let mut reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut head = [0; 512];
    let n = reader.read(&mut head).context(|| format!("cannot read {}", path.display()))?;
    let head = head[..n].strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head[..n]);
    Ok(head.iter().copied().find(|b| !b.is_ascii_whitespace()))
}

/// The files that paths, folders and globs name, in order; a folder's and a glob's are sorted by name.
pub fn find_files(paths: &[String]) -> Result<Vec<DataFile>> {
    let mut found = Vec::new();
    for path in paths {
        let as_path = Path::new(path);
        if as_path.is_dir() {
            let before = found.len();
            walk(as_path, &mut found)?;
            if found.len() == before {
                return Err(
                    Error::usage(format!("the folder {path} holds no data files")).help(format!("read are {READ}"))
                );
            }
        } else if !as_path.exists() && path.contains(['*', '?', '[']) {
            let pattern =
                glob::glob(path).map_err(|e| Error::usage(format!("`{path}` is not a pattern")).because(e))?;
            let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            let mut matched: Vec<PathBuf> =
                pattern.filter_map(|p| p.ok()).filter(|p| p.is_file() && !hidden(p)).collect();
            matched.sort();
            if matched.is_empty() {
                return Err(Error::usage(format!("no file matches {path}")));
            }
            for path in matched {
                found.push(DataFile::open(&path)?);
            }
        } else {
            found.push(DataFile::open(as_path)?);
        }
    }
    if found.is_empty() {
        return Err(Error::usage("no data was given").help(format!("name a file, a folder or a pattern of {READ}")));
    }
    Ok(found)
}

fn walk(dir: &Path, found: &mut Vec<DataFile>) -> Result<()> {
    let entries = std::fs::read_dir(dir).context(|| format!("cannot read {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            // A link may lead back up; folders are followed, links to folders are not.
            if !path.is_symlink() {
                walk(&path, found)?;
            }
        } else if format_of(name.strip_suffix(".gz").unwrap_or(&name)).is_some() {
            found.push(DataFile::open(&path)?);
        }
    }
    Ok(())
}

/// A row's place in a list of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub file: u32,
    /// Rows before it in its file.
    pub row: u64,
    /// Bytes before it (in a plain file of JSON).
    pub offset: u64,
    /// From 1.
    pub line: u64,
}

impl Position {
    const START: Self = Self { file: 0, row: 0, offset: 0, line: 1 };

    fn of_file(file: u32) -> Self {
        Self { file, ..Self::START }
    }
}

/// A row as it stands in its file.
#[derive(Clone, Debug)]
pub struct RawRow {
    pub at: Position,
    data: RowData,
}

#[derive(Clone, Debug)]
enum RowData {
    Json(Box<[u8]>),
    Cells(Map<String, Value>),
    Bad(String),
}

impl RawRow {
    /// The row's columns, or what is wrong with it.
    pub fn columns(self) -> Result<Map<String, Value>> {
        match self.data {
            RowData::Cells(cells) => Ok(cells),
            RowData::Bad(what) => Err(Error::work(what)),
            RowData::Json(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Value::Object(row)) => Ok(row),
                Ok(_) => Err(Error::work("the row is not an object").help("each row is {\"column\": value, …}")),
                // serde_json counts lines within the row; the caller names the file's.
                Err(e) => Err(Error::work(format!("the row is not JSON: {}", without_line(&e.to_string())))),
            },
        }
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        match &self.data {
            RowData::Json(bytes) => bytes.len(),
            RowData::Cells(cells) => cells.iter().map(|(k, v)| k.len() + v.as_str().map_or(8, str::len)).sum(),
            RowData::Bad(what) => what.len(),
        }
    }
}

fn without_line(message: &str) -> String {
    match message.rsplit_once(" at line ") {
        Some((what, place)) => match place.split_once("column ") {
            Some((_, column)) => format!("{what} at column {column}"),
            None => what.into(),
        },
        None => message.into(),
    }
}

/// Rows of a list of files, one after the other.
pub struct Reader {
    files: Arc<[DataFile]>,
    open: Option<OpenFile>,
    next: Position,
}

enum OpenFile {
    Lines(Box<dyn BufRead + Send>),
    Array { reader: Box<dyn BufRead + Send>, begun: bool },
    Table { reader: Box<csv::Reader<Box<dyn BufRead + Send>>>, header: csv::StringRecord },
}

impl Reader {
    pub fn new(files: Arc<[DataFile]>) -> Self {
        Self { files, open: None, next: Position::START }
    }

    pub fn files(&self) -> &Arc<[DataFile]> {
        &self.files
    }

    /// Where the next row is looked for.
    pub fn position(&self) -> Position {
        self.next
    }

    pub fn rewind(&mut self) {
        self.open = None;
        self.next = Position::START;
    }

    /// Goes to a position that this or an equal reader was at.
    pub fn seek(&mut self, to: Position) -> Result<()> {
        let Some(file) = self.files.get(to.file as usize).cloned() else {
            self.open = None;
            self.next = to;
            return Ok(());
        };
        let ahead = self.open.is_some() && self.next.file == to.file && self.next.row <= to.row;
        if ahead && !file.seeks() {
            return self.skip_to(to, &file.name);
        }
        self.open = None;
        self.next = to;
        if to.row == 0 {
            self.next = Position::of_file(to.file);
            return Ok(());
        }
        if file.seeks() {
            let mut plain = File::open(&file.path).context(|| format!("cannot read {}", file.path.display()))?;
            plain.seek(SeekFrom::Start(to.offset)).context(|| format!("cannot read {}", file.path.display()))?;
            let reader: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(1 << 16, plain));
            self.open = Some(match file.format {
                Format::Array => OpenFile::Array { reader, begun: true },
                _ => OpenFile::Lines(reader),
            });
            return Ok(());
        }
        self.next = Position::of_file(to.file);
        self.skip_to(to, &file.name)
    }

    fn skip_to(&mut self, to: Position, name: &str) -> Result<()> {
        while self.next.row < to.row {
            if self.next_row()?.is_none_or(|r| r.at.file != to.file) {
                return Err(Error::work("the file is shorter than it was").at(name));
            }
        }
        Ok(())
    }

    /// The row at a position, or what follows it.
    pub fn fetch(&mut self, at: Position) -> Result<RawRow> {
        if self.next != at || self.open.is_none() {
            self.seek(at)?;
        }
        self.next_row()?.filter(|r| r.at.row == at.row && r.at.file == at.file).ok_or_else(|| {
            let name = self.files.get(at.file as usize).map_or("?", |f| &f.name);
            Error::work("the row that was there is gone").at(format!("{name}:{}", at.line))
        })
    }

    /// The next row, malformed or not. An error is one of the whole file (it is cut short, it cannot be read).
    pub fn next_row(&mut self) -> Result<Option<RawRow>> {
        loop {
            let Some(file) = self.files.get(self.next.file as usize).cloned() else { return Ok(None) };
            if self.open.is_none() {
                self.open = Some(open(&file, &mut self.next)?);
            }
            let at_line = |e: Error, line: u64| e.at(format!("{}:{line}", file.name));
            let row = match self.open.as_mut() {
                Some(OpenFile::Lines(reader)) => read_line(reader, &mut self.next),
                Some(OpenFile::Array { reader, begun }) => read_element(reader, begun, &mut self.next),
                Some(OpenFile::Table { reader, header }) => read_cells(reader, header, &mut self.next),
                None => Ok(None),
            };
            match row {
                Ok(Some(row)) => return Ok(Some(row)),
                Ok(None) => {
                    if self.next.row == 0 {
                        return Err(Error::usage("the file holds no rows").at(&file.name));
                    }
                    self.open = None;
                    self.next = Position::of_file(self.next.file + 1);
                }
                Err(e) => return Err(at_line(e, self.next.line)),
            }
        }
    }
}

fn open(file: &DataFile, next: &mut Position) -> Result<OpenFile> {
    let mut reader = file.reader()?;
    if file.format == Format::Table {
        let delimiter = if file.name.to_lowercase().trim_end_matches(".gz").ends_with(".tsv") { b'\t' } else { b',' };
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(reader);
        let header =
            reader.headers().map_err(|e| Error::work("the header cannot be read").because(e).at(&file.name))?;
        let header: csv::StringRecord = header.iter().map(|h| h.trim_start_matches('\u{feff}').trim()).collect();
        let named: std::collections::BTreeSet<&str> = header.iter().collect();
        if named.len() != header.len() {
            return Err(Error::usage("two columns of the header have one name").at(&file.name));
        }
        return Ok(OpenFile::Table { reader: Box::new(reader), header });
    }
    // A byte-order mark is no part of the first row.
    let head = reader.fill_buf().map_err(|e| cut_short(e).at(&file.name))?;
    if head.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
        next.offset = 3;
    }
    Ok(match file.format {
        Format::Array => OpenFile::Array { reader, begun: false },
        _ => OpenFile::Lines(reader),
    })
}

fn cut_short(e: std::io::Error) -> Error {
    let what = match e.kind() {
        std::io::ErrorKind::UnexpectedEof => "the file is cut short",
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => "the file is damaged",
        _ => "the file cannot be read",
    };
    Error::work(what).because(e)
}

fn read_line(reader: &mut dyn BufRead, next: &mut Position) -> Result<Option<RawRow>> {
    loop {
        let at = *next;
        let mut line = Vec::new();
        let mut too_long = false;
        let mut ended = false;
        while !ended {
            let chunk = reader.fill_buf().map_err(cut_short)?;
            if chunk.is_empty() {
                break;
            }
            let (used, done) = chunk.iter().position(|b| *b == b'\n').map_or((chunk.len(), false), |i| (i + 1, true));
            if line.len() + used > MAX_ROW {
                too_long = true;
                line = Vec::new();
            } else if !too_long {
                line.extend_from_slice(&chunk[..used]);
            }
            reader.consume(used);
            next.offset += used as u64;
            ended = done;
        }
        if next.offset == at.offset {
            return Ok(None);
        }
        next.line += 1;
        if too_long {
            next.row += 1;
            return Ok(Some(RawRow {
                at,
                data: RowData::Bad(format!("the row is longer than {} MiB", MAX_ROW >> 20)),
            }));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        next.row += 1;
        return Ok(Some(RawRow { at, data: RowData::Json(line.trim_ascii().into()) }));
    }
}

/// One element of a JSON array, found by its brackets and quotes; whether it is JSON is seen when it is parsed.
fn read_element(reader: &mut dyn BufRead, begun: &mut bool, next: &mut Position) -> Result<Option<RawRow>> {
    let mut bytes = Vec::new();
    let mut at = *next;
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    loop {
        let chunk = reader.fill_buf().map_err(cut_short)?;
        if chunk.is_empty() {
            return Err(Error::work("the file is cut short: its list has no `]`"));
        }
        let mut used = 0;
        let mut done = None;
        for &b in chunk {
            used += 1;
            if bytes.is_empty() && depth == 0 {
                // Between elements.
                match b {
                    b'[' if !*begun => *begun = true,
                    _ if !*begun && !b.is_ascii_whitespace() => return Err(Error::work("the file is not a JSON list")),
                    b']' => done = Some(false),
                    b',' => {}
                    b if b.is_ascii_whitespace() => {}
                    b => {
                        at = Position { offset: next.offset + used as u64 - 1, ..*next };
                        bytes.push(b);
                        depth = usize::from(matches!(b, b'{' | b'['));
                        quoted = b == b'"';
                    }
                }
            } else if quoted {
                bytes.push(b);
                match b {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => quoted = false,
                    _ => {}
                }
            } else {
                match b {
                    b',' | b']' if depth == 0 => done = Some(true),
                    b'}' | b']' if depth > 0 => depth -= 1,
                    b'{' | b'[' => depth += 1,
                    b'"' => quoted = true,
                    _ => {}
                }
                if done.is_none() {
                    bytes.push(b);
                } else if b == b']' {
                    // Left for the next call, which ends there.
                    used -= 1;
                }
            }
            if b == b'\n' && done.is_none() {
                next.line += 1;
            }
            if done.is_some() || bytes.len() > MAX_ROW {
                break;
            }
        }
        reader.consume(used);
        next.offset += used as u64;
        if bytes.len() > MAX_ROW {
            return Err(Error::work(format!("a row is longer than {} MiB", MAX_ROW >> 20)));
        }
        match done {
            Some(false) => return Ok(None),
            Some(true) => {
                next.row += 1;
                let position = Position { row: next.row - 1, ..at };
                return Ok(Some(RawRow { at: position, data: RowData::Json(bytes.trim_ascii().into()) }));
            }
            None => {}
        }
    }
}

fn read_cells(
    reader: &mut csv::Reader<Box<dyn BufRead + Send>>,
    header: &csv::StringRecord,
    next: &mut Position,
) -> Result<Option<RawRow>> {
    let mut record = csv::StringRecord::new();
    let read = reader.read_record(&mut record);
    let line = record.position().map_or_else(|| reader.position().line(), csv::Position::line);
    let at = Position { line, ..*next };
    let data = match read {
        Ok(false) => return Ok(None),
        Ok(true) if record.len() != header.len() => {
            RowData::Bad(format!("the row has {} cells where the header has {}", record.len(), header.len()))
        }
        Ok(true) => {
            let cell = |(name, text): (&str, &str)| (name.to_string(), Value::String(text.into()));
            RowData::Cells(header.iter().zip(&record).map(cell).collect())
        }
        Err(e) => match e.kind() {
            csv::ErrorKind::Utf8 { .. } => RowData::Bad("the row is not UTF-8".into()),
            _ => {
                next.line = line;
                return Err(match e.into_kind() {
                    csv::ErrorKind::Io(e) => cut_short(e),
                    _ => Error::work("the table cannot be read"),
                });
            }
        },
    };
    next.row += 1;
    next.line = reader.position().line();
    Ok(Some(RawRow { at, data }))
}
