//! From files to examples and batches, and on from a saved place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use postgrad_data::convert::convert;
use postgrad_data::show::{Marks, show};
use postgrad_data::stats::stats;
use postgrad_data::{
    BatchLayout, BatchSpec, Batches, DataSpec, Dataset, Kind, OnBadRow, OverLong, Records, Renderer, SourceSpec,
};
use serde_json::json;

use crate::chat::fixture;

fn renderer() -> Arc<Renderer> {
    Arc::new(Renderer::load(&fixture("model-chatml")).unwrap())
}

fn write(path: &Path, n: usize, tag: &str) {
    let row = |i: usize| {
        json!({"question": format!("{tag}{i}?"), "answer": "1 ".repeat(1 + i * 7 % 23), "level": i}).to_string()
    };
    std::fs::write(path, (0..n).map(row).collect::<Vec<_>>().join("\n")).unwrap();
}

fn of(path: &Path) -> DataSpec {
    DataSpec { seed: 3, ..DataSpec::of(path.to_string_lossy()) }
}

#[test]
fn epochs_have_orders_of_their_own_and_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    write(&path, 50, "a");
    let mut data = Dataset::open(of(&path), renderer()).unwrap();
    let mut epoch = |n: u64| {
        data.reset(n);
        let mut lines = Vec::new();
        while let Some(e) = data.next_example().unwrap() {
            lines.push(e.place.line);
        }
        lines
    };
    let (first, second) = (epoch(0), epoch(1));
    assert_ne!(first, second);
    assert_eq!(epoch(0), first);
    let mut sorted = second.clone();
    sorted.sort();
    assert_eq!(sorted, (1..=50).collect::<Vec<_>>());
    assert_eq!(data.report().kinds[0].1, Kind::QuestionAnswer);
    assert_eq!(data.measure().unwrap().examples, 50);
}

#[test]
fn a_mixture_keeps_its_proportions_and_repeats_the_shorter_source() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
    write(&a, 700, "a");
    write(&b, 60, "b");
    let words = vec![format!("{}:0.7 {}:0.3", a.display(), b.display())];
    let spec = DataSpec { sources: SourceSpec::parse_list(&words).unwrap(), ..of(&a) };
    let mut records = Records::open(&spec).unwrap();
    let mut counts = BTreeMap::new();
    let mut lines = Vec::new();
    while let Some(r) = records.next_record().unwrap() {
        *counts.entry(r.place.set).or_insert(0usize) += 1;
        lines.push((r.place.set, r.place.line));
    }
    let share = counts[&0] as f64 / lines.len() as f64;
    assert!((share - 0.7).abs() < 0.05, "{share}");
    assert!(counts[&0] >= 700 && counts[&1] > 120, "{counts:?}");
    assert!(records.report().passes[1].1 >= 2);
    // On from any place, the same records come.
    let mut again = Records::open(&spec).unwrap();
    for cut in [0, 1, 333, lines.len()] {
        again.reset(0);
        (0..cut).for_each(|_| drop(again.next_record().unwrap()));
        let saved = serde_json::to_string(&again.state()).unwrap();
        let mut other = Records::open(&spec).unwrap();
        other.restore(&serde_json::from_str(&saved).unwrap()).unwrap();
        let rest: Vec<_> =
            std::iter::from_fn(|| other.next_record().unwrap()).map(|r| (r.place.set, r.place.line)).collect();
        assert_eq!(rest, lines[cut..]);
    }
}

#[test]
fn batches_go_on_from_a_saved_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    write(&path, 101, "a");
    let mut tokens = Vec::new();
    for layout in [BatchLayout::Pad, BatchLayout::Pack, BatchLayout::Buckets] {
        let spec = BatchSpec { layout, rows: 3, len: 96, window: 30, multiple: 4, pad: 0, seed: 5 };
        let mut data = Dataset::open(of(&path), renderer()).unwrap();
        let mut batches = Batches::new(spec.clone()).unwrap();
        let mut all = Vec::new();
        let mut saved = Vec::new();
        loop {
            saved.push(serde_json::to_string(&batches.state(&data)).unwrap());
            let Some(batch) = batches.next(&mut data).unwrap() else { break };
            all.push(batch);
        }
        assert_eq!(all.iter().map(|b| b.examples).sum::<usize>(), 101, "{layout:?}");
        assert!(all[..all.len() - 1].iter().all(|b| b.rows == 3), "{layout:?}");
        for (i, saved) in saved.iter().enumerate() {
            let mut data = Dataset::open(of(&path), renderer()).unwrap();
            let mut batches = Batches::new(spec.clone()).unwrap();
            batches.restore(&mut data, &serde_json::from_str(saved).unwrap()).unwrap();
            let rest: Vec<_> = std::iter::from_fn(|| batches.next(&mut data).unwrap()).collect();
            assert_eq!(rest, all[i..], "{layout:?} from {i}");
        }
        tokens.push(all.iter().map(|b| b.rows * b.len).sum::<usize>());
    }
    assert!(tokens[1] < tokens[0] && tokens[2] < tokens[0], "packing and buckets pad less: {tokens:?}");
}

#[test]
fn long_examples_are_dropped_or_cut_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    write(&path, 40, "a");
    let counts = |max_len: usize, over_long| {
        let mut data = Dataset::open(DataSpec { max_len, over_long, ..of(&path) }, renderer()).unwrap();
        let report = data.measure().unwrap();
        (report.examples, report.dropped, report.truncated, report.warnings().len())
    };
    let (kept, dropped, 0, 1) = counts(30, OverLong::Drop) else { panic!("{:?}", counts(30, OverLong::Drop)) };
    assert!(dropped > 4 && kept + dropped == 40);
    assert_eq!(counts(30, OverLong::Truncate), (40, 0, dropped, 1));
    assert_eq!(counts(0, OverLong::Drop), (40, 0, 0, 0));
    let e = Dataset::open(DataSpec { max_len: 3, ..of(&path) }, renderer()).unwrap().measure().unwrap_err();
    assert!(e.to_string().contains("all 40 examples are longer than 3"), "{e}");
}

#[test]
fn bad_rows_stop_with_their_line_or_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\": \"a\"}\n\n{\"text\": \n{\"text\": [1]}\n[1]\n{\"text\": \"b\"}\n\u{fffd}\n")
        .unwrap();
    let mut data = Dataset::open(DataSpec { shuffle_buffer: 0, ..of(&path) }, renderer()).unwrap();
    data.next_example().unwrap();
    let e = data.next_example().unwrap_err().to_string();
    assert!(e.contains("a.jsonl:3") && e.contains("not JSON") && e.contains("--on-bad-row skip"), "{e}");
    let mut data = Dataset::open(DataSpec { on_bad_row: OnBadRow::Skip, ..of(&path) }, renderer()).unwrap();
    let report = data.measure().unwrap();
    assert_eq!((report.examples, report.bad_rows, report.rows), (2, 4, 6));
    assert!(report.warnings()[0].contains("4 malformed rows"));
    // Columns that fit nothing are found before anything is read.
    std::fs::write(&path, "{\"foo\": 1}\n").unwrap();
    let e = Dataset::open(of(&path), renderer()).err().unwrap();
    assert!(e.exit_code() == 2 && e.to_string().contains("a.jsonl:1"), "{e}");
    // A template's own refusal names the record.
    std::fs::write(&path, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n").unwrap();
    let e = Dataset::open(of(&path), renderer()).unwrap().next_example().unwrap_err().to_string();
    assert!(e.contains("nothing to train on"), "{e}");
}

#[test]
fn changed_files_are_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    write(&path, 9, "a");
    let mut data = Dataset::open(of(&path), renderer()).unwrap();
    data.next_example().unwrap();
    let state = data.state();
    write(&path, 10, "a");
    let e = Dataset::open(of(&path), renderer()).unwrap().restore(&state).unwrap_err();
    assert!(e.to_string().contains("the data changed") && e.exit_code() == 2, "{e}");
}

#[test]
fn records_convert_there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    write(&path, 20, "a");
    let spec = |path: &Path| DataSpec { shuffle_buffer: 0, ..of(path) };
    let read = |path: &Path| -> Vec<_> {
        let mut records = Records::open(&spec(path)).unwrap();
        std::iter::from_fn(|| records.next_record().unwrap()).map(|r| r.messages().unwrap()).collect()
    };
    let want = read(&path);
    let steps = [
        ("b.json", Some(Kind::Messages)),
        ("c.jsonl.gz", Some(Kind::ShareGpt)),
        ("d.csv", Some(Kind::Alpaca)),
        ("e.csv.gz", Some(Kind::Messages)),
        ("f.tsv", Some(Kind::PromptCompletion)),
        ("g.jsonl", None),
    ];
    let mut from = path;
    for (name, kind) in steps {
        let to = dir.path().join(name);
        let mut records = Records::open(&spec(&from)).unwrap();
        assert_eq!(convert(&mut records, &to, kind).unwrap(), 20, "{name}");
        assert_eq!(read(&to), want, "{name}");
        from = to;
    }
    assert!(std::fs::read_to_string(&from).unwrap().contains("\"level\""), "other columns stay");
    // What a layout cannot hold is refused, and no half file is left.
    let talk = dir.path().join("talk.jsonl");
    let turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
        .map(|(r, c)| json!({"role": r, "content": c}));
    std::fs::write(&talk, json!({"messages": turns}).to_string()).unwrap();
    let out = dir.path().join("no.jsonl");
    let e = convert(&mut Records::open(&spec(&talk)).unwrap(), &out, Some(Kind::QuestionAnswer)).unwrap_err();
    assert!(e.to_string().contains("talk.jsonl:1") && !out.exists(), "{e}");
}

#[test]
fn show_and_stats_tell_what_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let row = json!({"prompt": "Say \u{1b}[31m 2+2", "completion": "4 ½🙂"});
    std::fs::write(&path, format!("{row}\n")).unwrap();
    let mut data = Dataset::open(of(&path), renderer()).unwrap();
    let text = show(&mut data, 3, Marks::Plain).unwrap();
    assert!(text.contains("prompt-completion") && text.contains("⟦4 ½🙂<|im_end|>⟧"), "{text}");
    assert!(
        text.contains("first trained token: \"4\"") && text.contains("last trained token: \"<|im_end|>\""),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "text of the data commands no terminal");
    data.reset(0);
    assert!(show(&mut data, 1, Marks::Colour).unwrap().contains("\u{1b}[32m4 ½🙂<|im_end|>\u{1b}[0m"));
    let path = dir.path().join("b.jsonl");
    write(&path, 40, "a");
    let s = stats(&DataSpec { max_len: 30, ..of(&path) }, renderer(), 0).unwrap();
    assert_eq!(s.report.examples, 40);
    assert!(s.over_long > 4 && s.trained_share > 0.1 && s.trained_share < 0.9);
    assert!(s.percentiles.windows(2).all(|w| w[0].1 <= w[1].1) && s.to_string().contains("over 30 tokens"));
}
