//! SQL: queries run read-only in SQLite under limits, results compared, rewards for text-to-SQL (Think2SQL, arXiv
//! 2504.15077; measures of QATCH).
//!
//! ```
//! use postgrad_tasks::sql::{Compare, Database, Limits};
//! let db = Database::from_script("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 'x'), (2, 'y');").unwrap();
//! let limits = Limits::default();
//! let gold = db.query("SELECT a, b FROM t", &limits).unwrap();
//! let answer = db.query("SELECT a, b FROM t ORDER BY a DESC", &limits).unwrap();
//! assert!(Compare::Exact.same(&gold, &answer));
//! assert!(db.query("DELETE FROM t", &limits).is_err());
//! ```
//! Left out on purpose: servers and other dialects; a cache of results (keep gold results beside the problem instead).

mod compare;
mod database;
mod reward;
mod scan;

#[cfg(test)]
mod tests;

pub use compare::{Compare, Parts, parts};
pub use database::{Cell, Database, Limits, SqlError, SqlErrorKind, Table};
pub use reward::{Extracted, Judged, extract, judge, repetition_penalty};
pub use scan::{has_order_by, statements};

/// Runs any bytes as a query on a small database.
pub fn fuzz_query(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let ordered = has_order_by(&text);
    assert_eq!(ordered, has_order_by(&format!("{text}\n")));
    let db = Database::from_script("CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1,'x'),(2,'y'),(3,NULL);")
        .expect("a fixed script");
    let limits = Limits { steps: 20_000, ..Limits::default() };
    let _ = db.query(&text, &limits);
    let left = db.query("SELECT count(*), sum(a) FROM t", &limits).expect("the database still answers");
    assert_eq!(left.rows, vec![vec![Cell::Int(3), Cell::Int(6)]]);
}
