use proptest::prelude::*;

use super::*;

const SCHOOL: &str = "
    CREATE TABLE class(id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE pupil(id INTEGER PRIMARY KEY, class_id INTEGER REFERENCES class(id), name TEXT, score REAL);
    INSERT INTO class VALUES (1, 'red'), (2, 'blue');
    INSERT INTO pupil VALUES (1, 1, 'ann', 9.5), (2, 1, 'bob', 7), (3, 2, 'cy', 8.25), (4, 2, 'ann', NULL);";

fn db() -> Database {
    Database::from_script(SCHOOL).unwrap()
}

fn ask(sql: &str) -> Result<Table, SqlErrorKind> {
    db().query(sql, &Limits::default()).map_err(|e| e.kind)
}

fn table(rows: &[&[&str]]) -> Table {
    let rows = rows.iter().map(|r| r.iter().map(|c| Cell::Text(c.to_string())).collect()).collect();
    Table { columns: vec![], rows, ordered: false, steps: 0 }
}

#[test]
fn queries_answer() {
    let t = ask(
        "SELECT c.name, count(*), avg(score) FROM pupil p JOIN class c ON c.id = p.class_id GROUP BY 1 ORDER BY 1;",
    )
    .unwrap();
    let text = |s: &str| Cell::Text(s.into());
    assert_eq!(
        t.rows,
        [vec![text("blue"), Cell::Int(2), Cell::Real(8.25)], vec![text("red"), Cell::Int(2), Cell::Real(8.25)]]
    );
    assert!(t.ordered);
    assert_eq!(t.columns, ["name", "count(*)", "avg(score)"]);
    assert_eq!(
        ask("SELECT 0.1 + 0.2, 2.0, 1e300, 7/2").unwrap().rows[0],
        [Cell::Real(0.3), Cell::Int(2), Cell::Real(1e300), Cell::Int(3)]
    );
    assert_eq!(
        ask("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT sum(i) FROM n")
            .unwrap()
            .rows,
        [[Cell::Int(5050)]]
    );
    assert_eq!(ask("VALUES (1), (2)").unwrap().rows.len(), 2);
    assert_eq!(ask("SELECT name FROM sqlite_schema").unwrap().rows.len(), 2);
}

#[test]
fn what_is_no_query_is_refused() {
    use SqlErrorKind::*;
    for (sql, kind) in [
        ("", Empty),
        (" ; -- nothing\n ;", Empty),
        ("SELECT 1; SELECT 2", Several),
        ("SELECT 1; DROP TABLE pupil", Several),
        ("SELEC 1", Syntax),
        ("SELECT nothing FROM pupil", Syntax),
        ("DELETE FROM pupil", Refused),
        ("DELETE FROM pupil RETURNING id", Refused),
        ("INSERT INTO class VALUES (3, 'x')", Refused),
        ("UPDATE pupil SET score = 10", Refused),
        ("DROP TABLE pupil", Refused),
        ("CREATE TABLE t(a)", Refused),
        ("CREATE TEMP TABLE t AS SELECT 1", Refused),
        ("CREATE VIEW v AS SELECT 1", Refused),
        ("ATTACH DATABASE '/tmp/x.db' AS x", Refused),
        ("ATTACH ':memory:' AS x", Refused),
        ("DETACH main", Refused),
        ("PRAGMA table_info(pupil)", Refused),
        ("PRAGMA writable_schema = ON", Refused),
        ("SELECT * FROM pragma_table_info('pupil')", Refused),
        ("VACUUM INTO '/tmp/x.db'", Refused),
        ("VACUUM", Refused),
        ("REINDEX", Refused),
        ("ANALYZE", Refused),
        ("BEGIN", Refused),
        ("SAVEPOINT a", Refused),
        ("EXPLAIN DELETE FROM pupil", Refused),
        ("SELECT load_extension('/tmp/x.so')", Refused),
        ("SELECT random()", Refused),
        ("SELECT hex(randomblob(4))", Refused),
        ("SELECT ?1", Syntax),
        ("SELECT length(zeroblob(1000000000))", Failed),
        ("SELECT abs(-9223372036854775808)", Failed),
    ] {
        let got = ask(sql).map(|t| t.rows).expect_err(sql);
        assert_eq!(got, kind, "{sql}");
    }
    // nothing changed
    let d = db();
    for sql in ["DELETE FROM pupil", "INSERT INTO class VALUES (3, 'x')", "DROP TABLE pupil"] {
        let _ = d.query(sql, &Limits::default());
    }
    assert_eq!(d.query("SELECT count(*) FROM pupil", &Limits::default()).unwrap().rows, [[Cell::Int(4)]]);
    assert!(!std::path::Path::new("/tmp/x.db").exists());
    assert!(Database::from_script("ATTACH ':memory:' AS x;").is_err());
    assert!(Database::from_script("CREATE TABLE t(a").is_err());
    assert!(Database::from_bytes(b"no database").is_err());
    assert!(Database::from_bytes(b"SQLite format 3\0 and then nonsense").is_err());
}

#[test]
fn limits_hold_alike_each_time() {
    let forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    assert_eq!(ask(forever), Err(SqlErrorKind::Steps));
    let small = Limits { steps: 10_000, ..Limits::default() };
    let d = db();
    assert_eq!(d.query(forever, &small).unwrap_err().kind, SqlErrorKind::Steps);
    let cross = "SELECT count(*) FROM pupil a, pupil b, pupil c, pupil d, pupil e";
    let steps: Vec<u64> = (0..3).map(|_| d.query(cross, &Limits::default()).unwrap().steps).collect();
    assert!(steps[0] > 1000 && steps.iter().all(|s| *s == steps[0]));
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    assert_eq!(d.query(many, &Limits { rows: 100, ..Limits::default() }).unwrap_err().kind, SqlErrorKind::TooLarge);
    let wide = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT hex(zeroblob(20000)) FROM n";
    assert_eq!(d.query(wide, &Limits::default()).unwrap_err().kind, SqlErrorKind::TooLarge);
    let hoard = "WITH RECURSIVE n(i, b) AS (SELECT 1, zeroblob(60000) UNION ALL SELECT i + 1, zeroblob(60000) FROM n)
        SELECT count(*) FROM (SELECT * FROM n ORDER BY b DESC, i DESC)";
    let bounded = Limits { memory: 32 << 20, ..Limits::default() };
    let got = d.query(hoard, &bounded).unwrap_err().kind;
    assert!(matches!(got, SqlErrorKind::Memory | SqlErrorKind::Steps), "{got:?}");
    let nested = format!("SELECT {}1{}", "(".repeat(3000), ")".repeat(3000));
    assert!(d.query(&nested, &Limits::default()).is_err());
    assert!(d.query(&format!("SELECT '{}'", "x".repeat(100_000)), &Limits::default()).is_err());
    // the database goes on after every stop
    assert_eq!(d.query("SELECT 1", &Limits::default()).unwrap().rows, [[Cell::Int(1)]]);
}

#[test]
fn order_by_is_found_where_it_counts() {
    for (sql, ordered) in [
        ("SELECT a FROM t ORDER BY a", true),
        ("SELECT a FROM t order\n/* x */ by a LIMIT 3", true),
        ("SELECT a FROM t UNION SELECT b FROM t ORDER BY 1", true),
        ("WITH x AS (SELECT a FROM t ORDER BY a) SELECT * FROM x", false),
        ("SELECT * FROM (SELECT a FROM t ORDER BY a LIMIT 3)", false),
        ("SELECT rank() OVER (ORDER BY a) FROM t", false),
        ("SELECT group_concat(a ORDER BY a) FROM t", false),
        ("SELECT 'ORDER BY' FROM t", false),
        ("SELECT \"order by\" FROM t", false),
        ("SELECT `order`, [order by] FROM t", false),
        ("SELECT a FROM t -- ORDER BY a", false),
        ("SELECT a FROM t /* ORDER BY a */", false),
        ("SELECT 'it''s ORDER BY' FROM t", false),
        ("SELECT order_by FROM border ORDER  BY 1", true),
    ] {
        assert_eq!(has_order_by(sql), ordered, "{sql}");
    }
    assert_eq!(statements("SELECT ';'; -- ;\n SELECT 2 ;;"), ["SELECT ';'", "SELECT 2"]);
}

#[test]
fn results_compare() {
    let (a, b) = (table(&[&["1", "x"], &["2", "y"]]), table(&[&["2", "y"], &["1", "x"]]));
    let turned = table(&[&["x", "1"], &["y", "2"]]);
    let ordered = Table { ordered: true, ..a.clone() };
    assert!(Compare::Exact.same(&a, &b) && !Compare::Exact.same(&ordered, &b) && Compare::Exact.same(&ordered, &a));
    assert!(Compare::Qatch.same(&a, &turned) && Compare::Bag.same(&a, &turned));
    assert!(!Compare::Bird.same(&a, &turned) && !Compare::Exact.same(&a, &turned));
    let (twice, other) = (table(&[&["1"], &["1"], &["2"]]), table(&[&["1"], &["2"], &["2"]]));
    assert!(Compare::Qatch.same(&twice, &other) && Compare::Bird.same(&twice, &table(&[&["1"], &["2"]])));
    assert!(!Compare::Bag.same(&twice, &other) && !Compare::Exact.same(&twice, &other));
    assert!(!Compare::Qatch.same(&twice, &table(&[&["1"], &["2"]])));
    let empty = table(&[]);
    for c in [Compare::Exact, Compare::Qatch, Compare::Bag, Compare::Bird] {
        assert!(c.same(&empty, &empty) && !c.same(&empty, &a) && !c.same(&a, &empty));
    }
}

#[test]
fn qatch_cases() {
    let gold = table(&[&["a", "b"], &["c", "d"]]);
    assert_eq!(parts(&gold, &table(&[&["a", "b"], &["c", "e"]])).cell_precision, 0.75);
    assert_eq!(parts(&gold, &table(&[&["a", "x"], &["y", "d"]])).cell_recall, 0.5);
    assert_eq!(parts(&table(&[&["1"], &["2"], &["3"], &["4"]]), &table(&[&["1"], &["2"]])).tuple_cardinality, 0.5);
    assert_eq!(parts(&gold, &table(&[&["a", "b"], &["a", "b"], &["c", "d"]])).tuple_constraint, 0.5);
    assert_eq!(parts(&gold, &gold).dense(), 1.0);
    assert_eq!(parts(&table(&[]), &table(&[])).dense(), 1.0);
    assert_eq!(parts(&gold, &table(&[])).dense(), 0.0);
    assert_eq!(parts(&table(&[]), &gold).dense(), 0.0);
}

#[test]
fn completions_are_judged() {
    let d = db();
    let limits = Limits::default();
    let gold = d.query("SELECT name FROM class", &limits).unwrap();
    let j = |text: &str| judge(&d, &gold, text, Compare::Qatch, &limits);
    let good = j("<reasoning>names of classes</reasoning>\n<answer>SELECT name FROM class ORDER BY name</answer>");
    assert!(good.exact && good.format);
    assert_eq!(
        (good.execution(), good.dense(), good.gated(), good.three_level(), good.stepped()),
        (1.0, 1.0, 1.0, 1.0, 6.0)
    );
    let bare = j("Here:\n```sql\nSELECT name FROM class\n```\ndone");
    assert!(bare.exact && !bare.format && bare.sql == "SELECT name FROM class");
    assert_eq!((bare.execution(), bare.gated(), bare.stepped()), (0.85, 1.0, -1.0));
    let half = j("<reasoning>r</reasoning><answer>```sql\nSELECT name FROM class WHERE id = 1```</answer>");
    assert_eq!(
        half.parts,
        Parts { cell_precision: 1.0, cell_recall: 0.5, tuple_cardinality: 0.5, tuple_constraint: 0.5 }
    );
    assert!((half.gated() - 2.0 / 3.0).abs() < 1e-12 && half.three_level() == 0.1 && half.stepped() == 0.0);
    let wrong = j("<reasoning>r</reasoning><answer>SELECT 77</answer>");
    assert!((wrong.gated() - (0.5 / 3.0)).abs() < 1e-12);
    let error = j("<reasoning>r</reasoning><answer>SELECT x FROM nowhere</answer>");
    assert_eq!((error.gated(), error.execution(), error.three_level(), error.stepped()), (0.0, 0.15, 0.0, -1.0));
    let two = j("<reasoning>r</reasoning><answer>SELECT 1; SELECT name FROM class</answer>");
    assert_eq!(two.error.unwrap().kind, SqlErrorKind::Several);
    for bad in [
        "<answer>x</answer>",
        "<reasoning>a</reasoning> b <answer>x</answer>",
        "<reasoning>a</reasoning><answer>x</answer> more",
        "<answer>x</answer><reasoning>a</reasoning>",
        "<reasoning>a</reasoning><answer>x</answer><answer>y</answer>",
    ] {
        assert!(!extract(bad).format, "{bad}");
    }
    assert_eq!(repetition_penalty(&"select from where and or ".repeat(20)), -1.0);
    assert_eq!(repetition_penalty("a short text of seven words only"), 0.0);
}

#[test]
fn files_are_read_from_bytes() {
    let mut file = rusqlite::Connection::open_in_memory().unwrap();
    file.execute_batch(SCHOOL).unwrap();
    let bytes = file.serialize("main").unwrap().to_vec();
    let d = Database::from_bytes(&bytes).unwrap();
    assert_eq!(d.query("SELECT count(*) FROM pupil", &Limits::default()).unwrap().rows, [[Cell::Int(4)]]);
    assert_eq!(d.query("DELETE FROM pupil", &Limits::default()).unwrap_err().kind, SqlErrorKind::Refused);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn hostile_bytes(data in prop::collection::vec(any::<u8>(), 0..120)) {
        fuzz_query(&data);
    }

    #[test]
    fn hostile_queries(words in prop::collection::vec(prop::sample::select(vec![
        "SELECT", "FROM", "t", "a", "b", "*", "(", ")", ",", "WHERE", "ORDER BY", "GROUP BY", "count(*)", "UNION ALL",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n)", "n", "JOIN", "1", "'x'", "=", ";", "--", "\n",
        "DELETE FROM t", "PRAGMA user_version", "[", "\"", "`", "/*", "*/", "LIMIT 3", "EXISTS", "NOT", "NULL",
    ]), 0..25)) {
        fuzz_query(words.join(" ").as_bytes());
    }

    #[test]
    fn comparisons_ignore_what_they_should(rows in prop::collection::vec(prop::collection::vec(0i64..4, 2), 0..6), turn in 0usize..6) {
        let of = |rows: Vec<Vec<i64>>| Table {
            columns: vec![], ordered: false, steps: 0,
            rows: rows.into_iter().map(|r| r.into_iter().map(Cell::Int).collect()).collect(),
        };
        let gold = of(rows.clone());
        let mut turned = rows.clone();
        if !turned.is_empty() { let n = turned.len(); turned.rotate_left(turn % n); }
        let same = of(turned.clone());
        for c in [Compare::Exact, Compare::Qatch, Compare::Bag, Compare::Bird] {
            prop_assert!(c.same(&gold, &same));
        }
        let flipped = of(turned.iter().map(|r| r.iter().rev().copied().collect()).collect());
        prop_assert!(Compare::Qatch.same(&gold, &flipped) && Compare::Bag.same(&gold, &flipped));
        prop_assert!((parts(&gold, &flipped).dense() - 1.0).abs() < 1e-12);
        let mut more = turned; more.push(vec![9, 9]);
        let more = of(more);
        for c in [Compare::Exact, Compare::Qatch, Compare::Bag, Compare::Bird] {
            prop_assert!(!c.same(&gold, &more));
        }
    }
}
