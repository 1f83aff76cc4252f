//! The run store: one SQLite file, `runs.sqlite`, in the folder of runs.
//!
//! ```
//! # fn main() -> postgrad_base::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! use postgrad_base::event::{Event, Sink};
//! use postgrad_lab::{NewRun, Status, Store};
//! let store = Store::open(dir.path())?;
//! let run = store.start(&NewRun { kind: "sft".into(), ..NewRun::default() }, None)?; // id sft-1, folder sft-1/
//! run.sink()?.emit(&Event::new("step", 1).with("loss", 2.5))?;
//! run.finish(Status::Done, None)?;
//! assert_eq!(store.events("sft-1", Some("step"))?.len(), 1);
//! # Ok(()) }
//! ```
//!
//! Several processes may write at once: write-ahead log, short transactions, a busy timeout. A run holds its folder's lock
//! while it works, so a run that says `running` and whose lock is free was killed, and is shown so.
//! Left out on purpose: checkpoints and samples' files (they lie in the run's folder), deletion of runs.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postgrad_base::event::{Event, Sink, Tee};
use postgrad_base::fs::DirLock;
use postgrad_base::{Context, Error, Result};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sink::{JsonlSink, METRICS_FILE, Row, StoreSink};

/// The store's file in the folder of runs.
pub const STORE_FILE: &str = "runs.sqlite";

/// One entry a version, applied in order. Entries are never edited once released, only added.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL, ended TEXT,
        status TEXT NOT NULL, message TEXT, folder TEXT NOT NULL UNIQUE, config TEXT NOT NULL,
        model TEXT NOT NULL, data TEXT NOT NULL, seed INTEGER NOT NULL, source TEXT,
        simd TEXT NOT NULL, threads INTEGER NOT NULL, machine TEXT NOT NULL
    );
    CREATE TABLE events (
        run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, seq INTEGER NOT NULL,
        step INTEGER NOT NULL, kind TEXT NOT NULL, fields TEXT NOT NULL,
        PRIMARY KEY (run, seq)
    ) WITHOUT ROWID;
    CREATE INDEX events_by_kind ON events (run, kind, seq);
    CREATE TABLE items (
        run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, place TEXT NOT NULL, step INTEGER NOT NULL,
        item TEXT NOT NULL, cluster TEXT, metrics TEXT NOT NULL,
        PRIMARY KEY (run, place, step, item)
    ) WITHOUT ROWID;
"];

/// What is known when a run starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NewRun {
    /// `sft`, `eval`, `quickstart`, ...: small letters, digits and dashes; the id begins with it.
    pub kind: String,
    /// The user's own name for it; may be empty.
    pub name: String,
    /// The resolved configuration.
    pub config: Value,
    pub model: String,
    pub data: String,
    pub seed: u64,
    /// The source's commit, where known.
    pub commit: Option<String>,
    /// The SIMD level that results depend on.
    pub simd: String,
    pub threads: usize,
    pub machine: String,
}

/// A run of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: String,
    /// UTC, RFC 3339.
    pub created: String,
    pub ended: Option<String>,
    pub status: Status,
    /// Why it failed, or what was made.
    pub message: Option<String>,
    pub folder: PathBuf,
    #[serde(flatten)]
    pub about: NewRun,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Running,
    Done,
    Failed,
    /// Stopped by the user, or dead without a last word.
    Killed,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Killed => "killed",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Status::Running, Status::Done, Status::Failed, Status::Killed].into_iter().find(|s| s.name() == name)
    }
}

/// What was measured on one item of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The item's id within its set.
    pub item: String,
    /// What it shares with others that are not independent of it (the problem's id); none where it stands alone.
    pub cluster: Option<String>,
    /// Named figures (`accuracy` 0 or 1, `loss`) and texts.
    pub metrics: Map<String, Value>,
}

/// The store, opened. Cheap to open; each thread opens its own.
pub struct Store {
    conn: Connection,
    root: PathBuf,
}

/// A run at work in this process. Dropped without [`ActiveRun::finish`] it counts as killed.
pub struct ActiveRun {
    pub run: Run,
    root: PathBuf,
    /// The step the run goes on from, until its first sink has cut back to it.
    resumed: Cell<Option<u64>>,
    _lock: DirLock,
}

impl Store {
    /// Opens the store of a folder of runs; makes both where they are absent.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).context(|| format!("cannot make the folder {}", root.display()))?;
        let root = root.canonicalize().context(|| format!("cannot open the folder {}", root.display()))?;
        let path = root.join(STORE_FILE);
        let store = connect(&path).map(|conn| Self { conn, root }).and_then(|s| s.migrate().map(|()| s));
        store.map_err(|e| e.at(path.display()))
    }

    /// Opens the store of a folder of runs if there is one.
    pub fn find(root: &Path) -> Result<Option<Self>> {
        if root.join(STORE_FILE).exists() { Self::open(root).map(Some) } else { Ok(None) }
    }

    /// The folder of runs.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn migrate(&self) -> Result<()> {
        let version = |conn: &Connection| -> Result<usize> {
            let v = conn.pragma_query_value(None, "user_version", |r| r.get::<_, i64>(0));
            Ok(v.context(|| "cannot read the run store".into())? as usize)
        };
        if version(&self.conn)? == MIGRATIONS.len() {
            return Ok(());
        }
        let change = self.begin()?;
        // Another process may have done it between the look and the lock.
        let from = version(&change)?;
        if from > MIGRATIONS.len() {
            return Err(Error::usage(format!(
                "the run store has format {from}, this program knows {} and older",
                MIGRATIONS.len()
            ))
            .help("use the newer program that made it, or another folder of runs"));
        }
        for step in &MIGRATIONS[from..] {
            change.execute_batch(step).context(|| "cannot bring the run store up to date".into())?;
        }
        change
            .pragma_update(None, "user_version", MIGRATIONS.len() as i64)
            .context(|| "cannot bring the run store up to date".into())?;
        commit(change)
    }

    /// A transaction that holds the write lock from its start, so that it cannot fail half-way for another writer.
    fn begin(&self) -> Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)
            .context(|| "cannot write to the run store".into())
    }

    /// Begins a run: gives it an id (`sft-3`), takes its folder (by default `<root>/<id>`) and its lock.
    /// A folder that another process works in, or that holds another run's results, is an error.
    pub fn start(&self, new: &NewRun, folder: Option<&Path>) -> Result<ActiveRun> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if new.kind.is_empty() || !new.kind.chars().all(plain) {
            return Err(Error::usage(format!("`{}` cannot name a kind of run", new.kind.escape_debug()))
                .help("use small letters, digits and dashes"));
        }
        let change = self.begin()?;
        let id = self.free_id(&new.kind, folder.is_none())?;
        let folder = folder.map(Path::to_path_buf).unwrap_or_else(|| self.root.join(&id));
        let lock = DirLock::take(&folder)?;
        let folder = folder.canonicalize().context(|| format!("cannot open the folder {}", folder.display()))?;
        let held = folder.join(METRICS_FILE).exists();
        if let Some(other) = self.by_folder(&folder)? {
            return Err(Error::usage(format!("the folder holds run {}", other.id))
                .at(folder.display())
                .help("resume that run, or give another folder"));
        } else if held {
            return Err(Error::usage(format!("the folder holds a run's {METRICS_FILE}"))
                .at(folder.display())
                .help("give another folder"));
        }
        let run =
            Run { id, created: now(), ended: None, status: Status::Running, message: None, folder, about: new.clone() };
        change
            .execute(
                "INSERT INTO runs (id, kind, name, created, status, folder, config, model, data, seed, source, simd,
                 threads, machine) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    run.id,
                    new.kind,
                    new.name,
                    run.created,
                    run.status.name(),
                    self.stored_folder(&run.folder),
                    new.config.to_string(),
                    new.model,
                    new.data,
                    new.seed as i64,
                    new.commit,
                    new.simd,
                    new.threads as i64,
                    new.machine
                ],
            )
            .context(|| "cannot write to the run store".into())?;
        commit(change)?;
        Ok(ActiveRun { run, root: self.root.clone(), resumed: Cell::new(None), _lock: lock })
    }

    /// Takes a run up again from step `step`: what came after it is cut off, in the store and in `metrics.jsonl`, and
    /// events of the store that a kill kept from being written are filled in from the file.
    pub fn resume(&self, id: &str, step: u64) -> Result<ActiveRun> {
        let mut run = self.run(id)?;
        let lock = DirLock::take(&run.folder)?;
        let rows = JsonlSink::cut(&run.folder.join(METRICS_FILE), step)?;
        let change = self.begin()?;
        let at = clamp(step);
        let write = || -> rusqlite::Result<()> {
            change.execute("DELETE FROM events WHERE run = ? AND step > ?", params![run.id, at])?;
            change.execute("DELETE FROM items WHERE run = ? AND step > ?", params![run.id, at])?;
            if let Some(rows) = &rows {
                change.execute("DELETE FROM events WHERE run = ?", params![run.id])?;
                insert_events(&change, &run.id, 0, rows)?;
            }
            change.execute(
                "UPDATE runs SET status = 'running', ended = NULL, message = NULL WHERE id = ?",
                params![run.id],
            )?;
            Ok(())
        };
        write().context(|| "cannot write to the run store".into())?;
        commit(change)?;
        (run.status, run.ended, run.message) = (Status::Running, None, None);
        Ok(ActiveRun { run, root: self.root.clone(), resumed: Cell::new(Some(step)), _lock: lock })
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>> {
        let read = || -> rusqlite::Result<Vec<Run>> {
            let mut query = self.conn.prepare(&format!("{SELECT_RUN} ORDER BY rowid"))?;
            query.query_map([], |row| self.read_run(row))?.collect()
        };
        read().context(|| "cannot read the run store".into())
    }

    /// The run with this id, or with the only id that begins so, or with this name of the user's.
    pub fn run(&self, name: &str) -> Result<Run> {
        let runs = self.runs()?;
        if let Some(run) = runs.iter().find(|r| r.id == name) {
            return Ok(run.clone());
        }
        let fits = |test: &dyn Fn(&Run) -> bool| runs.iter().filter(|r| test(r)).collect::<Vec<_>>();
        let by_name = fits(&|r| !name.is_empty() && r.about.name == name);
        let fitting = if by_name.is_empty() { fits(&|r| r.id.starts_with(name)) } else { by_name };
        match fitting[..] {
            [run] => Ok(run.clone()),
            [] => {
                let ids: Vec<&str> = runs.iter().rev().take(12).map(|r| r.id.as_str()).collect();
                let near = runs
                    .iter()
                    .flat_map(|r| [&r.id, &r.about.name])
                    .map(|known| (strsim::damerau_levenshtein(known, name), known))
                    .filter(|(d, known)| !known.is_empty() && *d <= 2 + known.chars().count() / 5)
                    .min_by_key(|(d, _)| *d)
                    .map(|(_, known)| known.as_str());
                Err(Error::unknown("run", name, &ids, near))
            }
            _ => {
                let ids: Vec<&str> = fitting.iter().rev().take(8).map(|r| r.id.as_str()).collect();
                let more = if fitting.len() > ids.len() { ", ..." } else { "" };
                Err(Error::usage(format!("`{name}` fits {} runs", fitting.len()))
                    .help(format!("say which: {}{more}", ids.join(", "))))
            }
        }
    }

    /// The run whose folder this is.
    pub fn by_folder(&self, folder: &Path) -> Result<Option<Run>> {
        let Ok(folder) = folder.canonicalize() else { return Ok(None) };
        self.conn
            .query_row(&format!("{SELECT_RUN} WHERE folder = ?"), [self.stored_folder(&folder)], |r| self.read_run(r))
            .optional()
            .context(|| "cannot read the run store".into())
    }

    /// Events of a run in the order they came, of one kind if named.
    pub fn events(&self, id: &str, kind: Option<&str>) -> Result<Vec<Event>> {
        let parse = |row: Row| {
            let fields = serde_json::from_str(&row.fields)
                .context(|| format!("the run store has a broken event of {id} at step {}", row.step))?;
            Ok(Event { kind: row.kind, step: row.step, fields })
        };
        self.rows(id, kind)?.into_iter().map(parse).collect()
    }

    pub(crate) fn rows(&self, id: &str, kind: Option<&str>) -> Result<Vec<Row>> {
        let read = || -> rusqlite::Result<Vec<Row>> {
            let mut query = self.conn.prepare_cached(
                "SELECT kind, step, fields FROM events WHERE run = ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY seq",
            )?;
            let rows = query.query_map(params![id, kind], |r| {
                Ok(Row { kind: r.get(0)?, step: r.get::<_, i64>(1)? as u64, fields: r.get(2)? })
            })?;
            rows.collect()
        };
        read().context(|| "cannot read the run store".into())
    }

    /// Keeps the per-item rows of one evaluation: the set's name and the step it was made at. Rows of the same set, step
    /// and item are replaced.
    pub fn put_items(&self, id: &str, set: &str, step: u64, items: &[Item]) -> Result<()> {
        let change = self.begin()?;
        let write = || -> rusqlite::Result<()> {
            let mut insert = change.prepare_cached("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)")?;
            for item in items {
                let metrics = serde_json::to_string(&item.metrics).unwrap_or_else(|_| "{}".into());
                insert.execute(params![id, set, clamp(step), item.item, item.cluster, metrics])?;
            }
            Ok(())
        };
        write().context(|| format!("cannot keep the items of {id} on {set}"))?;
        commit(change)
    }

    /// The per-item rows of a set at a step, by item id.
    pub fn items(&self, id: &str, set: &str, step: u64) -> Result<Vec<Item>> {
        let read = || -> rusqlite::Result<Vec<(String, Option<String>, String)>> {
            let mut query = self.conn.prepare_cached(
                "SELECT item, cluster, metrics FROM items WHERE run = ? AND place = ? AND step = ? ORDER BY item",
            )?;
            query.query_map(params![id, set, clamp(step)], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
        };
        let rows = read().context(|| "cannot read the run store".into())?;
        rows.into_iter()
            .map(|(item, cluster, metrics)| {
                let metrics = serde_json::from_str(&metrics)
                    .context(|| format!("the run store has a broken row of {id}: {set}, {item}"))?;
                Ok(Item { item, cluster, metrics })
            })
            .collect()
    }

    /// The sets with per-item rows of a run, each with its steps in order.
    pub fn item_sets(&self, id: &str) -> Result<Vec<(String, Vec<u64>)>> {
        let read = || -> rusqlite::Result<Vec<(String, i64)>> {
            let mut query = self
                .conn
                .prepare_cached("SELECT DISTINCT place, step FROM items WHERE run = ? ORDER BY place, step")?;
            query.query_map([id], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
        };
        let mut sets: Vec<(String, Vec<u64>)> = Vec::new();
        for (set, step) in read().context(|| "cannot read the run store".into())? {
            match sets.last_mut() {
                Some((last, steps)) if *last == set => steps.push(step as u64),
                _ => sets.push((set, vec![step as u64])),
            }
        }
        Ok(sets)
    }

    /// The next id of a kind. Counts on from the highest, and past folders that some lost store left.
    fn free_id(&self, kind: &str, own_folder: bool) -> Result<String> {
        let read = || -> rusqlite::Result<Vec<String>> {
            self.conn.prepare("SELECT id FROM runs WHERE kind = ?")?.query_map([kind], |r| r.get(0))?.collect()
        };
        let ids = read().context(|| "cannot read the run store".into())?;
        let number = |id: &String| id.strip_prefix(kind)?.strip_prefix('-')?.parse::<u64>().ok();
        let mut n = ids.iter().filter_map(number).max().unwrap_or(0) + 1;
        while own_folder && self.root.join(format!("{kind}-{n}")).exists() {
            n += 1;
        }
        Ok(format!("{kind}-{n}"))
    }

    /// Folders inside the folder of runs are kept relative to it, so that it can be moved.
    fn stored_folder(&self, folder: &Path) -> String {
        folder.strip_prefix(&self.root).unwrap_or(folder).to_string_lossy().into_owned()
    }

    fn read_run(&self, row: &rusqlite::Row) -> rusqlite::Result<Run> {
        let folder = self.root.join(row.get::<_, String>("folder")?);
        let mut status = Status::parse(&row.get::<_, String>("status")?).unwrap_or(Status::Failed);
        if status == Status::Running && !is_held(&folder) {
            status = Status::Killed;
        }
        Ok(Run {
            id: row.get("id")?,
            created: row.get("created")?,
            ended: row.get("ended")?,
            status,
            message: row.get("message")?,
            folder,
            about: NewRun {
                kind: row.get("kind")?,
                name: row.get("name")?,
                config: serde_json::from_str(&row.get::<_, String>("config")?).unwrap_or(Value::Null),
                model: row.get("model")?,
                data: row.get("data")?,
                seed: row.get::<_, i64>("seed")? as u64,
                commit: row.get("source")?,
                simd: row.get("simd")?,
                threads: row.get::<_, i64>("threads")? as usize,
                machine: row.get("machine")?,
            },
        })
    }
}

const SELECT_RUN: &str =
    "SELECT id, kind, name, created, ended, status, message, folder, config, model, data, seed, source,
    simd, threads, machine FROM runs";

impl ActiveRun {
    /// Where the run's events go: `metrics.jsonl` first (at once), then the store (within half a second).
    pub fn sink(&self) -> Result<Box<dyn Sink>> {
        let file = self.run.folder.join(METRICS_FILE);
        let (jsonl, store) = match self.resumed.take() {
            None => (JsonlSink::append(&file)?, StoreSink::append(&self.root, &self.run.id)?),
            Some(step) => (JsonlSink::resume(&file, step)?, StoreSink::resume(&self.root, &self.run.id, step)?),
        };
        Ok(Box::new(Tee(vec![Box::new(jsonl), Box::new(store)])))
    }

    /// The last word. Drop the sink first, so that its events are in.
    pub fn finish(self, status: Status, message: Option<&str>) -> Result<()> {
        let conn = connect(&self.root.join(STORE_FILE))?;
        conn.execute(
            "UPDATE runs SET status = ?, ended = ?, message = ? WHERE id = ?",
            params![status.name(), now(), message, self.run.id],
        )
        .context(|| format!("cannot note the end of {}", self.run.id))?;
        Ok(())
    }
}

/// A connection as all of the store's are: write-ahead log, patient with other writers.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let conn = Connection::open(path)?;
        conn.busy_timeout(Duration::from_secs(20))?;
        // SQLite does not wait for others while the log mode changes, so the first openers of a new file take turns here.
        let mut tries = 0;
        loop {
            match conn.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get::<_, String>(0)) {
                Err(e) if is_busy(&e) && tries < 400 => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(25));
                }
                done => {
                    done?;
                    break;
                }
            }
        }
        conn.pragma_update(None, "synchronous", "normal")?;
        conn.pragma_update(None, "foreign_keys", true)?;
        Ok(conn)
    };
    open()
        .context(|| "cannot open the run store".into())
        .map_err(|e| e.help("if the file is damaged, move it away: run folders keep their own metrics.jsonl"))
}

pub(crate) fn is_busy(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(e.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// Writes events from number `first` on.
pub(crate) fn insert_events(conn: &Connection, run: &str, first: u64, rows: &[Row]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?)")?;
    for (i, row) in rows.iter().enumerate() {
        insert.execute(params![run, clamp(first + i as u64), clamp(row.step), row.kind, row.fields])?;
    }
    Ok(())
}

/// SQLite counts to 2^63 - 1.
pub(crate) fn clamp(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn commit(change: Transaction) -> Result<()> {
    change.commit().context(|| "cannot write to the run store".into())
}

/// Whether some process holds the folder's lock. Looks without making anything.
fn is_held(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(".lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The time in UTC as RFC 3339, in seconds.
pub fn now() -> String {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    rfc3339(secs)
}

fn rfc3339(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    // Days to a date in the proleptic Gregorian calendar, counting years from March (Howard Hinnant's civil_from_days).
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_794_182_399), "2026-11-08T23:59:59Z");
    }
}
