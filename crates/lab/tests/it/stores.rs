use std::path::Path;
use std::process::Command;

use postgrad_base::event::{Event, Sink};
use postgrad_lab::{Item, JsonlSink, NewRun, Status, Store, StoreSink, compare};
use serde_json::{Map, json};

fn new(kind: &str) -> NewRun {
    NewRun { kind: kind.into(), ..NewRun::default() }
}

fn rows(path: &Path) -> String {
    std::fs::read_to_string(path.join("metrics.jsonl")).unwrap()
}

/// A training's events from a step on; `set_up` is what a run says whenever it starts.
fn train(sink: &mut dyn Sink, set_up: bool, from: u64, to: u64) {
    if set_up {
        sink.emit(&Event::new("warning", 0).with("text", "12% of the records are too long")).unwrap();
    }
    for step in from..=to {
        sink.emit(&Event::new("step", step).with("loss", 1.0 / step as f64).with("bad", f64::NAN)).unwrap();
        if step % 10 == 0 {
            sink.emit(&Event::new("eval", step).with("set", "chain").with("accuracy", 0.5).with("n", 10)).unwrap();
        }
    }
}

#[test]
fn a_resumed_run_has_the_figures_of_an_unbroken_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let whole = store.start(&new("sft"), None).unwrap();
    train(&mut *whole.sink().unwrap(), true, 1, 60);

    let broken = store.start(&new("sft"), None).unwrap();
    let (id, folder) = (broken.run.id.clone(), broken.run.folder.clone());
    train(&mut *broken.sink().unwrap(), true, 1, 47);
    let item = Item { item: "a".into(), cluster: None, metrics: Map::new() };
    for step in [30, 40, 47] {
        store.put_items(&id, "chain", step, std::slice::from_ref(&item)).unwrap();
    }
    drop(broken);
    assert_eq!(store.run(&id).unwrap().status, Status::Killed);
    // A kill tears the file's last line and loses what the store's thread still held.
    let torn = rows(&folder) + "{\"kind\":\"step\",\"st";
    std::fs::write(folder.join("metrics.jsonl"), torn).unwrap();
    let raw = rusqlite::Connection::open(dir.path().join("runs.sqlite")).unwrap();
    raw.execute("DELETE FROM events WHERE run = ? AND step > 25", [&id]).unwrap();

    let again = store.resume(&id, 40).unwrap();
    assert_eq!(store.run(&id).unwrap().status, Status::Running);
    assert_eq!(store.item_sets(&id).unwrap(), [("chain".to_string(), vec![30, 40])]);
    train(&mut *again.sink().unwrap(), true, 41, 60);
    assert_eq!(store.events(&id, None).unwrap(), store.events(&whole.run.id, None).unwrap());
    assert_eq!(rows(&folder), rows(&whole.run.folder));
    again.finish(Status::Done, Some("ended")).unwrap();
    let run = store.run(&id).unwrap();
    assert_eq!((run.status, run.message.as_deref(), run.ended.is_some()), (Status::Done, Some("ended"), true));
}

#[test]
fn sinks_alone_cut_themselves_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let run = store.start(&new("sft"), None).unwrap();
    let file = dir.path().join("m.jsonl");
    train(&mut JsonlSink::append(&file).unwrap(), true, 1, 20);
    train(&mut JsonlSink::resume(&file, 10).unwrap(), true, 11, 20);
    train(&mut StoreSink::append(store.root(), &run.run.id).unwrap(), true, 1, 20);
    train(&mut StoreSink::resume(store.root(), &run.run.id, 10).unwrap(), true, 11, 20);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 23);
    assert_eq!(store.events(&run.run.id, None).unwrap().len(), 23);
    // A line broken in the middle is not passed over.
    std::fs::write(&file, "{\"kind\":\n{\"kind\":\"step\",\"step\":1,\"fields\":{}}\n").unwrap();
    let e = JsonlSink::resume(&file, 10).err().unwrap();
    assert!(e.to_string().contains("m.jsonl:1"), "{e}");
}

#[test]
fn flushed_events_are_seen_and_waiting_ones_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let run = store.start(&new("sft"), None).unwrap();
    let mut sink = StoreSink::append(store.root(), &run.run.id).unwrap();
    let count = || store.events(&run.run.id, None).unwrap().len();
    sink.emit(&Event::new("step", 1)).unwrap();
    sink.flush().unwrap();
    assert_eq!(count(), 1);
    sink.emit(&Event::new("step", 2)).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(4);
    while count() < 2 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(count(), 2);
    // The run is gone from under the sink: the next calls say so, nothing panics.
    let raw = rusqlite::Connection::open(dir.path().join("runs.sqlite")).unwrap();
    raw.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM runs").unwrap();
    sink.emit(&Event::new("step", 3)).unwrap();
    let e = sink.flush().unwrap_err();
    assert!(e.to_string().contains("cannot write 1 events of sft-1"), "{e}");
}

/// Run by the test below in processes of their own.
#[test]
fn one_of_many_processes() {
    let Ok(root) = std::env::var("POSTGRAD_TEST_STORE") else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    for _ in 0..3 {
        let run = store.start(&new("many"), None).unwrap();
        train(&mut *run.sink().unwrap(), true, 1, 200);
        run.finish(Status::Done, None).unwrap();
    }
}

#[test]
fn many_processes_and_threads_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stores::one_of_many_processes"])
            .env("POSTGRAD_TEST_STORE", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    // All open a store that is not there yet.
    let mut children: Vec<_> = (0..4).map(|_| child()).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(dir.path()).unwrap();
                let run = store.start(&new("many"), None).unwrap();
                train(&mut *run.sink().unwrap(), true, 1, 200);
                run.finish(Status::Done, None).unwrap();
            });
        }
    });
    assert!(children.iter_mut().all(|c| c.wait().unwrap().success()));
    let store = Store::find(dir.path()).unwrap().unwrap();
    let mut ids: Vec<String> = store.runs().unwrap().into_iter().map(|r| r.id).collect();
    for id in &ids {
        assert_eq!(store.events(id, None).unwrap().len(), 221, "{id}");
        assert_eq!(store.run(id).unwrap().status, Status::Done);
    }
    ids.sort_by_key(|id| id[5..].parse::<u32>().unwrap());
    assert_eq!(ids, (1..=16).map(|i| format!("many-{i}")).collect::<Vec<_>>());
}

#[test]
fn runs_are_found_by_id_prefix_and_name() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::find(dir.path()).unwrap().is_none());
    let store = Store::open(dir.path()).unwrap();
    for i in 0..11 {
        let name = if i == 4 { "half" } else { "" };
        let run = store.start(&NewRun { name: name.into(), ..new("sft") }, None).unwrap();
        run.finish(Status::Done, None).unwrap();
    }
    store.start(&new("eval"), None).unwrap().finish(Status::Failed, Some("no data")).unwrap();
    assert_eq!(store.run("sft-1").unwrap().id, "sft-1");
    assert_eq!(store.run("ev").unwrap().id, "eval-1");
    assert_eq!(store.run("half").unwrap().id, "sft-5");
    let e = store.run("sft").unwrap_err().to_string();
    assert!(e.starts_with("`sft` fits 11 runs") && e.contains("sft-11, sft-10") && e.ends_with(", ..."), "{e}");
    let e = store.run("stf-3").unwrap_err().to_string();
    assert!(e.contains("did you mean `sft-3`"), "{e}");
    assert!(store.run("' OR 1 --").is_err() && store.run("").is_err());
    assert_eq!(store.by_folder(&dir.path().join("sft-7")).unwrap().unwrap().id, "sft-7");
}

#[test]
fn a_folder_has_one_run_and_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let run = store.start(&new("sft"), Some(out.path())).unwrap();
    assert!(store.start(&new("sft"), Some(out.path())).err().unwrap().to_string().contains("another process"));
    assert!(store.resume("sft-1", 0).is_err());
    drop(run);
    let e = store.start(&new("sft"), Some(out.path())).err().unwrap().to_string();
    assert!(e.contains("the folder holds run sft-1"), "{e}");
    // Failed starts leave no row behind; a folder left by a lost store is passed over.
    std::fs::create_dir(dir.path().join("sft-2")).unwrap();
    assert_eq!(store.start(&new("sft"), None).unwrap().run.id, "sft-3");
    assert_eq!(store.runs().unwrap().len(), 2);
    for bad in ["", "../x", "a b", "SFT"] {
        assert_eq!(store.start(&new(bad), None).err().unwrap().exit_code(), 2);
    }
}

#[test]
fn the_folder_of_runs_can_be_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (old, moved) = (dir.path().join("a"), dir.path().join("b"));
    let store = Store::open(&old).unwrap();
    let run = store.start(&NewRun { seed: u64::MAX, ..new("sft") }, None).unwrap();
    train(&mut *run.sink().unwrap(), false, 1, 3);
    run.finish(Status::Done, None).unwrap();
    drop(store);
    std::fs::rename(&old, &moved).unwrap();
    let run = Store::open(&moved).unwrap().run("sft-1").unwrap();
    assert!(run.folder.join("metrics.jsonl").exists());
    assert_eq!(run.about.seed, u64::MAX);
}

#[test]
fn what_is_not_our_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.sqlite");
    std::fs::write(&path, "not a database at all, but long enough to look at, again and again").unwrap();
    let e = Store::open(dir.path()).err().unwrap().to_string();
    assert!(e.contains("runs.sqlite") && e.contains("help:"), "{e}");
    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let e = Store::open(dir.path()).err().unwrap();
    assert!(e.to_string().contains("format 99") && e.exit_code() == 2, "{e}");
}

#[test]
fn runs_are_compared_item_by_item() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (rank, right) in [(8, 40), (16, 60)] {
        let config = json!({"adapter": {"rank": rank}, "steps": 10});
        let run = store.start(&NewRun { config, ..new("sft") }, None).unwrap();
        let mut sink = run.sink().unwrap();
        for (step, loss) in [(5, 1.0), (10, 1.2)] {
            let accuracy = right as f64 / 100.0;
            sink.emit(
                &Event::new("eval", step).with("set", "t").with("loss", loss).with("accuracy", accuracy).with("n", 100),
            )
            .unwrap();
        }
        let items: Vec<Item> = (0..100)
            .map(|i| Item {
                item: format!("{i}"),
                cluster: Some(format!("c{}", i / 2)),
                metrics: Map::from_iter([("accuracy".into(), json!(i < right)), ("note".into(), json!("text"))]),
            })
            .collect();
        store.put_items(&run.run.id, "t", 10, &items).unwrap();
        drop(sink);
        run.finish(Status::Done, None).unwrap();
    }
    let c = compare(&store, &["sft-1", "sft-2"]).unwrap();
    assert_eq!(c.differences, [("adapter.rank".to_string(), vec![Some("8".to_string()), Some("16".to_string())])]);
    let loss = c.metrics.iter().find(|m| m.metric == "loss").unwrap();
    assert_eq!((loss.last[0].unwrap().step, loss.best[0].unwrap().step), (10, 5));
    let [paired] = &c.paired[..] else { panic!("{:?}", c.paired) };
    let d = paired.difference;
    assert!((d.value - 0.2).abs() < 1e-12 && d.n == 50 && 0.05 < d.low && d.low < 0.2 && d.high < 0.4, "{d}");
    let text: String = c.tables().iter().map(|(title, t)| format!("{title}\n{}", t.to_text(None))).collect();
    assert!(text.contains("+20.0 [") && text.contains("60.0% [50.2, 69.1]  n 100"), "{text}");
    assert!(compare(&store, &["sft-1"]).is_err() && compare(&store, &["sft-1", "nope"]).is_err());
    assert!(serde_json::to_string(&c).unwrap().contains("adapter.rank"));
}
