//! `runs` over a store made here.

use postgrad_base::event::Event;
use postgrad_lab::{NewRun, Status, Store};
use serde_json::{Map, Value, json};

use crate::Place;

fn event(kind: &str, step: u64, fields: Value) -> Event {
    let Value::Object(fields) = fields else { panic!("fields") };
    Event { kind: kind.into(), step, fields: fields.into_iter().collect::<Map<_, _>>() }
}

fn make(place: &Place, name: &str, accuracy: f64) {
    let store = Store::open(&place.path("runs")).unwrap();
    let about = NewRun {
        kind: "sft".into(),
        name: name.into(),
        model: "seed".into(),
        data: "chain".into(),
        ..NewRun::default()
    };
    let active = store.start(&about, None).unwrap();
    let mut sink = active.sink().unwrap();
    for step in 1..4 {
        sink.emit(&event("step", step, json!({"loss": 1.0 / step as f64, "lr": 0.1}))).unwrap();
    }
    sink.emit(&event(
        "eval",
        3,
        json!({"set": "dev", "accuracy": accuracy, "n": 100, "low": accuracy - 0.1, "high": accuracy + 0.1}),
    ))
    .unwrap();
    drop(sink);
    active.finish(Status::Done, None).unwrap();
}

#[test]
fn runs_are_listed_shown_compared_and_reported() {
    let place = Place::new();
    assert!(place.call(&["runs", "list"]).ok().contains("no runs"));
    assert_eq!(place.call(&["runs", "list", "--json"]).json(), json!([]));
    place.call(&["runs", "show", "sft-1"]).fails(2, &["no runs", "--root"]);
    make(&place, "first", 0.4);
    make(&place, "second", 0.6);
    let rows = place.call(&["runs", "list", "--json"]).json();
    let ids: Vec<&str> = rows.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["sft-1", "sft-2"]);
    assert!(place.call(&["runs", "list", "-n", "1"]).ok().contains("second"));
    let shown = place.call(&["runs", "show", "first"]).ok();
    assert!(shown.contains("sft-1") && shown.contains("0.4") && shown.contains("runs report sft-1"), "{shown}");
    assert_eq!(place.call(&["runs", "show", "sft-2", "--json"]).json()["last_step"]["step"], 3);
    assert!(place.call(&["runs", "compare", "sft-1", "sft-2"]).ok().contains("accuracy"));
    assert_eq!(
        place.call(&["runs", "compare", "sft-1", "sft-2", "--json"]).json()["runs"].as_array().unwrap().len(),
        2
    );
    let path = place.call(&["runs", "report", "sft-1"]).ok();
    assert!(std::fs::read_to_string(path.trim()).unwrap().contains("<svg"));
    place.call(&["runs", "report", "sft-1", "--out", "page.html"]).ok();
    assert!(place.path("page.html").exists());
    place.call(&["runs", "show", "sft-9"]).fails(2, &["sft-9"]);
    let elsewhere = place.path("runs");
    place
        .command()
        .current_dir("/")
        .args(["runs", "show", "sft-1", "--root", elsewhere.to_str().unwrap()])
        .assert()
        .success();
    place.command().current_dir("/").args(["runs", "show", "sft-1"]).env("POSTGRAD_RUNS", elsewhere).assert().success();
}
