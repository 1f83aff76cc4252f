//! Where a running trainer's events go: `metrics.jsonl` in the run's folder and the run store.
//!
//! The file is written event by event, so a killed process loses none; the store is written by its own thread in
//! transactions, so that a slow disk or another writer never holds up training. On resume from step N both are cut back to
//! rows with step <= N; an event of step <= N that comes again (a warning at the start) is kept once. So the figures of a
//! resumed run equal those of an unbroken one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postgrad_base::event::{Event, Sink};
use postgrad_base::{Context, Error, Result};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::store::{STORE_FILE, connect, insert_events, is_busy};

/// The run folder's own record of events, one JSON object a line.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// How long an event may wait for its transaction.
const WAIT: Duration = Duration::from_millis(500);
/// Events of one transaction at most.
const BATCH: usize = 4096;
/// How long the store may stay locked by others before events count as lost.
const PATIENCE: Duration = Duration::from_secs(120);

/// An event as it is kept. Its fields stay the text they were written as: reading a float and writing it again may move
/// its last digit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub kind: String,
    pub step: u64,
    pub fields: String,
}

impl Row {
    fn of(event: &Event) -> Result<Self> {
        let fields =
            serde_json::to_string(&event.fields).context(|| format!("cannot write the event {}", event.kind))?;
        Ok(Self { kind: event.kind.clone(), step: event.step, fields })
    }

    fn parse(line: &str) -> serde_json::Result<Self> {
        let event: Event = serde_json::from_str(line)?;
        let row = Self { kind: event.kind, step: event.step, fields: String::new() };
        let verbatim = line.trim_end().strip_prefix(&row.head()).and_then(|rest| rest.strip_suffix('}'));
        let fields = verbatim.map_or_else(|| serde_json::to_string(&event.fields), |text| Ok(text.into()))?;
        Ok(Self { fields, ..row })
    }

    fn head(&self) -> String {
        format!("{{\"kind\":{},\"step\":{},\"fields\":", serde_json::Value::from(self.kind.as_str()), self.step)
    }

    /// The line without its end.
    fn text(&self) -> String {
        self.head() + &self.fields + "}"
    }
}

/// What a resumed run has already said.
#[derive(Default)]
struct Said {
    step: u64,
    rows: BTreeSet<String>,
}

impl Said {
    fn new(step: u64, rows: &[Row]) -> Self {
        Self { step, rows: rows.iter().map(Row::text).collect() }
    }

    /// Whether this event is already there. Once the run is past the step it went on from, none is.
    fn holds(&mut self, row: &Row) -> bool {
        if row.step > self.step {
            self.rows.clear();
        }
        !self.rows.is_empty() && self.rows.contains(&row.text())
    }
}

/// Appends events to a file of JSON lines, each at once.
pub struct JsonlSink {
    file: File,
    path: PathBuf,
    said: Said,
}

impl JsonlSink {
    /// Appends to the file; makes it where it is absent.
    pub fn append(path: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path: path.into(), said: Said::default() })
    }

    /// Cuts the file back to rows with step <= `step` and appends.
    pub fn resume(path: &Path, step: u64) -> Result<Self> {
        let kept = Self::cut(path, step)?.unwrap_or_default();
        let mut sink = Self::append(path)?;
        sink.said = Said::new(step, &kept);
        Ok(sink)
    }

    /// Replaces the file by its rows with step <= `step` (by rename: the old file or the new one, never half) and returns
    /// them. A last line that a kill left torn is dropped; any other broken line is an error. None where there is no file.
    pub(crate) fn cut(path: &Path, step: u64) -> Result<Option<Vec<Row>>> {
        if !path.exists() {
            return Ok(None);
        }
        let mut lines = BufReader::new(File::open(path).context(|| format!("cannot read {}", path.display()))?);
        let (mut kept, mut dropped, mut line, mut number) = (Vec::new(), false, Vec::new(), 0);
        loop {
            line.clear();
            number += 1;
            let read = lines.read_until(b'\n', &mut line).context(|| format!("cannot read {}", path.display()))?;
            if read == 0 {
                break;
            }
            let whole = line.ends_with(b"\n");
            match Row::parse(&String::from_utf8_lossy(&line)) {
                Ok(row) if whole && row.step <= step => kept.push(row),
                Err(e) if whole => return Err(Error::work("not an event").because(e).at_line(path, number)),
                _ => dropped = true,
            }
        }
        if dropped {
            postgrad_base::fs::write_atomic(path, |out| {
                let write = |row: &Row| writeln!(out, "{}", row.text());
                kept.iter().try_for_each(write).context(|| format!("cannot write {}", path.display()))
            })?;
        }
        Ok(Some(kept))
    }
}

impl Sink for JsonlSink {
    fn emit(&mut self, event: &Event) -> Result<()> {
        let row = Row::of(event)?;
        if self.said.holds(&row) {
            return Ok(());
        }
        let row = row.text() + "\n";
        self.file.write_all(row.as_bytes()).context(|| format!("cannot write {}", self.path.display()))
    }
}

enum Message {
    Event(Row),
    Flush(SyncSender<()>),
}

/// Sends events to the run store. They are in within half a second, after [`StoreSink::flush`], and on drop. A write that
/// failed is told by the next call.
pub struct StoreSink {
    send: Option<Sender<Message>>,
    writer: Option<JoinHandle<()>>,
    fault: Arc<Mutex<Option<Error>>>,
    said: Said,
}

impl StoreSink {
    /// Adds to a run's events. `root` is the folder of runs.
    pub fn append(root: &Path, run: &str) -> Result<Self> {
        let conn = connect(&root.join(STORE_FILE))?;
        let next = conn
            .query_row("SELECT COALESCE(MAX(seq) + 1, 0) FROM events WHERE run = ?", [run], |r| r.get::<_, i64>(0))
            .context(|| format!("cannot read the events of {run}"))?;
        let (send, receive) = channel();
        let fault = Arc::new(Mutex::new(None));
        let writer = {
            let (fault, run) = (fault.clone(), run.to_string());
            std::thread::Builder::new()
                .name("run store".into())
                .spawn(move || write_all(conn, &run, next as u64, &receive, &fault))
                .context(|| "cannot start the run store's thread".into())?
        };
        Ok(Self { send: Some(send), writer: Some(writer), fault, said: Said::default() })
    }

    /// Cuts a run's events and items back to step <= `step` and adds to them.
    pub fn resume(root: &Path, run: &str, step: u64) -> Result<Self> {
        let conn = connect(&root.join(STORE_FILE))?;
        let cut = || -> rusqlite::Result<()> {
            let change = Transaction::new_unchecked(&conn, TransactionBehavior::Immediate)?;
            let at = crate::store::clamp(step);
            change.execute("DELETE FROM events WHERE run = ? AND step > ?", params![run, at])?;
            change.execute("DELETE FROM items WHERE run = ? AND step > ?", params![run, at])?;
            change.commit()
        };
        cut().context(|| format!("cannot cut the events of {run}"))?;
        let kept = crate::store::Store::open(root)?.rows(run, None)?;
        let mut sink = Self::append(root, run)?;
        sink.said = Said::new(step, &kept);
        Ok(sink)
    }

    /// Waits until everything sent so far is in the store.
    pub fn flush(&self) -> Result<()> {
        let (done, wait) = sync_channel(1);
        if let Some(send) = &self.send
            && send.send(Message::Flush(done)).is_ok()
        {
            let _ = wait.recv();
        }
        self.tell()
    }

    fn tell(&self) -> Result<()> {
        self.fault.lock().unwrap_or_else(|e| e.into_inner()).take().map_or(Ok(()), Err)
    }
}

impl Sink for StoreSink {
    fn emit(&mut self, event: &Event) -> Result<()> {
        self.tell()?;
        let row = Row::of(event)?;
        if self.said.holds(&row) {
            return Ok(());
        }
        let sent = self.send.as_ref().is_some_and(|s| s.send(Message::Event(row)).is_ok());
        if sent { Ok(()) } else { self.tell().and(Err(Error::work("the run store's thread has ended"))) }
    }
}

impl Drop for StoreSink {
    fn drop(&mut self) {
        drop(self.send.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The writer's thread: gathers events for a moment, writes them in one transaction, until the sender is gone.
fn write_all(conn: Connection, run: &str, mut next: u64, receive: &Receiver<Message>, fault: &Mutex<Option<Error>>) {
    while let Ok(first) = receive.recv() {
        let until = Instant::now() + WAIT;
        let (mut batch, mut waiting, mut message) = (Vec::new(), Vec::new(), Some(first));
        loop {
            match message.take() {
                Some(Message::Event(event)) => batch.push(event),
                Some(Message::Flush(done)) => waiting.push(done),
                None => {}
            }
            if !waiting.is_empty() || batch.len() >= BATCH {
                break;
            }
            match receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(m) => message = Some(m),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        match write_batch(&conn, run, next, &batch) {
            Ok(()) => next += batch.len() as u64,
            Err(e) => {
                let lost = format!("cannot write {} events of {run} to the run store", batch.len());
                fault.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(Error::work(lost).because(e));
            }
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn write_batch(conn: &Connection, run: &str, next: u64, batch: &[Row]) -> rusqlite::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let written = Transaction::new_unchecked(conn, TransactionBehavior::Immediate).and_then(|change| {
            insert_events(&change, run, next, batch)?;
            change.commit()
        });
        match written {
            Err(e) if is_busy(&e) && Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
}
