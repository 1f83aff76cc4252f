//! Rows out of files, whole, cut and hostile.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use postgrad_base::Result;
use postgrad_data::reader::{Reader, find_files};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn open(path: &Path) -> Result<Reader> {
    Ok(Reader::new(Arc::from(find_files(&[path.to_string_lossy().into()])?)))
}

fn read(path: &Path) -> Result<Vec<Map<String, Value>>> {
    let mut reader = open(path)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row.columns()?);
    }
    Ok(rows)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("a\"],}{[\\ \u{1}")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z]{1,3}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn rows() -> impl Strategy<Value = Vec<Map<String, Value>>> {
    let row = proptest::collection::vec(("[a-zé]{1,4}", value()), 0..5).prop_map(|pairs| pairs.into_iter().collect());
    proptest::collection::vec(row, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rows_come_back_as_they_were_written(rows in rows(), bom in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let head = if bom { "\u{feff}" } else { "" };
        let lines: Vec<String> = rows.iter().map(|r| serde_json::to_string(r).unwrap()).collect();
        let texts = [
            ("a.jsonl", format!("{head}{}", lines.join("\n"))),
            ("b.jsonl", format!("{head}\r\n{}\r\n\n", lines.join("\r\n\n"))),
            ("c.json", format!("{head} [{}]", lines.join(","))),
            ("d.json", format!("{head}{}", serde_json::to_string_pretty(&rows).unwrap())),
            ("e.json", format!("{}\n", lines.join("\n"))),
        ];
        for (name, text) in texts {
            let path = dir.path().join(name);
            std::fs::write(&path, &text).unwrap();
            prop_assert_eq!(&read(&path).unwrap(), &rows, "{}", name);
            let path = dir.path().join(format!("{name}.gz"));
            std::fs::write(&path, gzip(text.as_bytes())).unwrap();
            prop_assert_eq!(&read(&path).unwrap(), &rows, "{}.gz", name);
            // Any row can be gone to, by its place.
            let mut reader = open(&path).unwrap();
            let mut places = Vec::new();
            while let Some(row) = reader.next_row().unwrap() {
                places.push(row.at);
            }
            for (i, at) in places.iter().enumerate().rev() {
                prop_assert_eq!(&reader.fetch(*at).unwrap().columns().unwrap(), &rows[i]);
            }
        }
    }

    #[test]
    fn tables_come_back_as_they_were_written(cells in proptest::collection::vec((any::<String>(), "[\"',;\n\ta]{0,6}"), 1..8)) {
        let dir = tempfile::tempdir().unwrap();
        for (name, delimiter) in [("t.csv", b','), ("t.tsv", b'\t')] {
            let path = dir.path().join(name);
            let mut table = csv::WriterBuilder::new().delimiter(delimiter).from_path(&path).unwrap();
            table.write_record(["question", "answer"]).unwrap();
            for (q, a) in &cells {
                // A row of two empty cells is still a row.
                table.write_record([&format!("q{q}"), a]).unwrap();
            }
            table.flush().unwrap();
            let want: Vec<Value> = cells.iter().map(|(q, a)| json!({"question": format!("q{q}"), "answer": a})).collect();
            let got: Vec<Value> = read(&path).unwrap().into_iter().map(Value::Object).collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn hostile_bytes_give_rows_or_an_error(bytes in proptest::collection::vec(prop_oneof![
        any::<u8>(), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), Just(b','), Just(b'\n'), Just(b':'),
    ], 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.json.gz", "a.csv.gz"] {
            let path = dir.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let Ok(mut reader) = open(&path) else { continue };
            for _ in 0..200 {
                match reader.next_row() {
                    Ok(Some(row)) => drop(row.columns()),
                    _ => break,
                }
            }
        }
    }

    #[test]
    fn a_cut_file_is_never_read_as_a_whole_one(rows in rows(), share in 0.0..1.0f64) {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<String> = rows.iter().map(|r| serde_json::to_string(r).unwrap()).collect();
        let packed = gzip((lines.join("\n") + "\n").as_bytes());
        let list = format!("[{}]", lines.join(","));
        for (name, bytes) in [("a.jsonl.gz", packed), ("a.json", list.into_bytes())] {
            let path = dir.path().join(name);
            let cut = ((bytes.len() - 1) as f64 * share) as usize;
            std::fs::write(&path, &bytes[..cut]).unwrap();
            prop_assert!(read(&path).is_err(), "{} cut at {}", name, cut);
        }
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let error = |name: &str| read(&path(name)).unwrap_err().to_string();
    assert!(error("none.jsonl").contains("there is no file"));
    write("empty.jsonl", "");
    assert!(error("empty.jsonl").contains("empty"));
    write("blank.jsonl", "\n \n");
    assert!(error("blank.jsonl").contains("no rows"));
    write("list.json", "[]");
    assert!(error("list.json").contains("no rows"));
    write("head.csv", "a,b\n");
    assert!(error("head.csv").contains("no rows"));
    write("x.parquet", "PAR1");
    assert!(error("x.parquet").contains("parquet files are not read yet"));
    write("x.txt", "hello");
    assert!(error("x.txt").contains("read are .jsonl"));
    assert!(
        find_files(&[path("*.jsonl.gz").to_string_lossy().into()]).unwrap_err().to_string().contains("no file matches")
    );
    assert_eq!(find_files(&[]).unwrap_err().exit_code(), 2);
    write("twice.csv", "a,a\n1,2\n");
    assert!(error("twice.csv").contains("one name"));
    write("short.csv", "a,b\n1\n");
    assert!(error("short.csv").contains("1 cells where the header has 2"));
}

#[test]
fn folders_and_globs_are_read_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["b.jsonl", "a.json", "sub/c.jsonl", "notes.md", ".hidden.jsonl"] {
        std::fs::write(dir.path().join(name), "{\"text\": \"x\"}\n").unwrap();
    }
    let names = |path: &str| -> Vec<String> {
        let files = find_files(&[dir.path().join(path).to_string_lossy().into()]).unwrap();
        files.iter().map(|f| f.path.strip_prefix(dir.path()).unwrap().to_string_lossy().into()).collect()
    };
    assert_eq!(names(""), ["a.json", "b.jsonl", "sub/c.jsonl"]);
    assert_eq!(names("*.json*"), ["a.json", "b.jsonl"]);
    assert_eq!(names("**/c.jsonl"), ["sub/c.jsonl"]);
}
