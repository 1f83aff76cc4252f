//! Databases in memory and read-only queries on them.
//!
//! A query is one SELECT (or VALUES, or WITH … SELECT). SQLite's authorizer refuses everything that writes, attaches,
//! loads or changes settings, and functions with chance in them. Limits are counted in SQLite's own instructions, so the
//! same query on the same data gets the same verdict on any machine; a clock and a memory bound only guard against single
//! instructions that are very slow or very large, and their errors say so.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use postgrad_base::{Context, Error, Result};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ffi};

use super::scan::{has_order_by, statements};

#[derive(Clone, Debug)]
pub struct Limits {
    /// Instructions of SQLite's virtual machine, counted in hundreds.
    pub steps: u64,
    pub rows: usize,
    /// Bytes of text and blobs in the result.
    pub bytes: usize,
    /// Guard: wall time.
    pub time: Duration,
    /// Guard: bytes that SQLite holds in this process beyond what it held at the start.
    pub memory: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 5_000_000, rows: 50_000, bytes: 8 << 20, time: Duration::from_secs(10), memory: 512 << 20 }
    }
}

/// One value of a result. Reals are rounded to 12 significant digits and whole ones are integers, so that the order of
/// a sum does not matter.
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Cell {
    fn real(x: f64) -> Self {
        let rounded: f64 = format!("{x:.11e}").parse().unwrap_or(x);
        if rounded == rounded.trunc() && rounded.abs() < 9.0e15 {
            Cell::Int(rounded as i64)
        } else {
            Cell::Real(rounded)
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Cell::Null => 0,
            Cell::Int(_) => 1,
            Cell::Real(_) => 2,
            Cell::Text(_) => 3,
            Cell::Blob(_) => 4,
        }
    }
}

impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
            (Cell::Real(a), Cell::Real(b)) => a.total_cmp(b),
            (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
            (Cell::Blob(a), Cell::Blob(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cell {}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    /// The query has a top-level ORDER BY.
    pub ordered: bool,
    /// Instructions taken, in hundreds rounded down.
    pub steps: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SqlErrorKind {
    Empty,
    /// More than one statement.
    Several,
    /// No SQL, or names that are not there.
    Syntax,
    /// It would change something, or asks for what queries may not do.
    Refused,
    Steps,
    TooLarge,
    Time,
    Memory,
    /// It failed while it ran (an integer overflow, a malformed JSON text …).
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub kind: SqlErrorKind,
    pub message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {}

/// What the callbacks and the query share.
struct Meter {
    hundreds: AtomicU64,
    most_hundreds: AtomicU64,
    memory_from: AtomicI64,
    memory_most: AtomicI64,
    /// Milliseconds since `born`.
    deadline: AtomicU64,
    stopped_by: AtomicU8,
    /// The authorizer said no.
    refused: AtomicBool,
    born: Instant,
}

const STEPS: u8 = 1;
const TIME: u8 = 2;
const MEMORY: u8 = 3;

fn memory_used() -> i64 {
    // SAFETY: reads a counter of the library, no arguments
    unsafe { ffi::sqlite3_memory_used() }
}

impl Meter {
    fn start(&self, limits: &Limits) {
        self.hundreds.store(0, Relaxed);
        self.most_hundreds.store(limits.steps / 100, Relaxed);
        self.memory_from.store(memory_used(), Relaxed);
        self.memory_most.store(limits.memory, Relaxed);
        let end = self.born.elapsed().saturating_add(limits.time).as_millis();
        self.deadline.store(u64::try_from(end).unwrap_or(u64::MAX), Relaxed);
        self.stopped_by.store(0, Relaxed);
        self.refused.store(false, Relaxed);
    }

    /// Called every hundred instructions; true stops the query.
    fn tick(&self) -> bool {
        let n = self.hundreds.fetch_add(1, Relaxed) + 1;
        let why = if n > self.most_hundreds.load(Relaxed) {
            STEPS
        } else if self.born.elapsed().as_millis() as u64 > self.deadline.load(Relaxed) {
            TIME
        } else if memory_used() - self.memory_from.load(Relaxed) > self.memory_most.load(Relaxed) {
            MEMORY
        } else {
            return false;
        };
        self.stopped_by.store(why, Relaxed);
        true
    }
}

/// A database that only answers questions.
pub struct Database {
    connection: Connection,
    meter: Arc<Meter>,
}

// Functions with chance, or that reach outside the database.
const FORBIDDEN: &[&str] =
    &["load_extension", "random", "randomblob", "fts3_tokenizer", "readfile", "writefile", "edit"];

fn may_load(c: AuthContext<'_>) -> Authorization {
    match c.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } | AuthAction::Pragma { .. } => Authorization::Deny,
        AuthAction::Function { function_name } if FORBIDDEN.contains(&function_name.to_ascii_lowercase().as_str()) => {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

fn may_ask(c: AuthContext<'_>) -> bool {
    match c.action {
        AuthAction::Select | AuthAction::Recursive => true,
        AuthAction::Read { table_name, .. } => !table_name.to_ascii_lowercase().starts_with("pragma_"),
        AuthAction::Function { function_name } => !FORBIDDEN.contains(&function_name.to_ascii_lowercase().as_str()),
        _ => false,
    }
}

impl Database {
    /// A database in memory from statements that create and fill it.
    pub fn from_script(script: &str) -> Result<Self> {
        Self::open(|connection| {
            connection.authorizer(Some(may_load))?;
            connection.execute_batch(script)
        })
        .context(|| "cannot build the database".into())
    }

    /// A database from the bytes of an SQLite file, held in memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if !bytes.starts_with(b"SQLite format 3\0") {
            return Err(Error::work("not an SQLite file"));
        }
        Self::open(|connection| {
            connection.deserialize_read_exact("main", bytes, bytes.len(), true)?;
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        })
        .context(|| "cannot read the database".into())
    }

    fn open(fill: impl FnOnce(&mut Connection) -> rusqlite::Result<()>) -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        // temporary tables must not reach the disk
        connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;")?;
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_LENGTH, 256 * 1024),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, value)?;
        }
        let meter = Arc::new(Meter {
            hundreds: AtomicU64::new(0),
            most_hundreds: AtomicU64::new(0),
            memory_from: AtomicI64::new(0),
            memory_most: AtomicI64::new(0),
            deadline: AtomicU64::new(0),
            stopped_by: AtomicU8::new(0),
            refused: AtomicBool::new(false),
            born: Instant::now(),
        });
        meter.start(&Limits { steps: 500_000_000, time: Duration::from_secs(60), ..Limits::default() });
        let shared = meter.clone();
        connection.progress_handler(100, Some(move || shared.tick()))?;
        fill(&mut connection)?;
        let shared = meter.clone();
        connection.authorizer(Some(move |c: AuthContext<'_>| {
            if may_ask(c) {
                return Authorization::Allow;
            }
            shared.refused.store(true, Relaxed);
            Authorization::Deny
        }))?;
        // what a query may be; scripts may be larger
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_LENGTH, 64 * 1024),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 * 1024),
            (Limit::SQLITE_LIMIT_COLUMN, 200),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
            (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
            (Limit::SQLITE_LIMIT_FUNCTION_ARG, 16),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 0),
        ] {
            connection.set_limit(limit, value)?;
        }
        Ok(Self { connection, meter })
    }

    /// Runs one query.
    pub fn query(&self, sql: &str, limits: &Limits) -> Result<Table, SqlError> {
        let error = |kind, message: String| Err(SqlError { kind, message });
        let all = statements(sql);
        let sql = match all[..] {
            [] => return error(SqlErrorKind::Empty, "no statement".into()),
            [one] => one,
            _ => return error(SqlErrorKind::Several, "more than one statement".into()),
        };
        self.meter.start(limits);
        let mut statement = match self.connection.prepare(sql) {
            Ok(s) => s,
            Err(e) => {
                let refused = self.meter.refused.load(Relaxed);
                return error(if refused { SqlErrorKind::Refused } else { SqlErrorKind::Syntax }, message(&e));
            }
        };
        if !statement.readonly() || statement.column_count() == 0 {
            return error(SqlErrorKind::Refused, "only queries are run".into());
        }
        if statement.parameter_count() > 0 {
            return error(SqlErrorKind::Refused, "the statement has parameters".into());
        }
        let columns: Vec<String> = statement.column_names().map(String::from).collect();
        let width = columns.len();
        let mut rows = vec![];
        let mut bytes = 0;
        let mut cursor = statement.raw_query();
        loop {
            let row = match cursor.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(e) => {
                    let (kind, message) = match self.meter.stopped_by.load(Relaxed) {
                        STEPS => (SqlErrorKind::Steps, format!("more than {} steps", limits.steps)),
                        TIME => (SqlErrorKind::Time, format!("more than {} s", limits.time.as_secs_f64())),
                        MEMORY => (SqlErrorKind::Memory, format!("more than {} bytes of memory", limits.memory)),
                        _ if self.meter.refused.load(Relaxed) => (SqlErrorKind::Refused, message(&e)),
                        _ => (SqlErrorKind::Failed, message(&e)),
                    };
                    return error(kind, message);
                }
            };
            let mut cells = Vec::with_capacity(width);
            for i in 0..width {
                let cell = match row.get_ref(i) {
                    Ok(ValueRef::Integer(n)) => Cell::Int(n),
                    Ok(ValueRef::Real(x)) => Cell::real(x),
                    Ok(ValueRef::Text(t)) => Cell::Text(String::from_utf8_lossy(t).into_owned()),
                    Ok(ValueRef::Blob(b)) => Cell::Blob(b.to_vec()),
                    Ok(ValueRef::Null) | Err(_) => Cell::Null,
                };
                bytes += match &cell {
                    Cell::Text(t) => t.len(),
                    Cell::Blob(b) => b.len(),
                    _ => 0,
                };
                cells.push(cell);
            }
            rows.push(cells);
            if rows.len() > limits.rows || bytes > limits.bytes {
                let what = format!("the result has more than {} rows or {} bytes", limits.rows, limits.bytes);
                return error(SqlErrorKind::TooLarge, what);
            }
        }
        let steps = self.meter.hundreds.load(Relaxed) * 100;
        Ok(Table { columns, rows, ordered: has_order_by(sql), steps })
    }
}

fn message(e: &rusqlite::Error) -> String {
    match e {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        e => e.to_string(),
    }
}
