use postgrad_base::event::Event;
use postgrad_lab::{
    Answer, Cell, Example, IntervalPlot, IntervalRow, LinePlot, Mark, NewRun, Part, Report, Section, Series, Status,
    Store, Table, run_report,
};
use postgrad_numerics::Estimate;
use serde_json::json;

const HOSTILE: [&str; 6] = [
    "</script><script>alert(1)</script>",
    "\"' onload=\"alert(1)",
    "</style><img src=x onerror=alert(1)>",
    "<!--",
    "a\u{0}b\u{1b}[31m\u{202e}c",
    "&lt;b&gt; ]]> {{ }}",
];

/// The parts of the page that a browser would take for tags.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|t| t.split('>').next().unwrap()).collect()
}

fn check(page: &str) {
    let known = [
        "!DOCTYPE",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "section",
        "ul",
        "li",
        "dl",
        "dt",
        "dd",
        "pre",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "b",
        "span",
        "figure",
        "figcaption",
        "svg",
        "g",
        "path",
        "line",
        "circle",
        "text",
        "article",
        "footer",
    ];
    for tag in tags(page) {
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap_or("");
        assert!(known.contains(&name), "<{tag}>");
        // A quote from outside would end an attribute early and leave its rest as another.
        let outside: String = tag.split('"').step_by(2).collect();
        assert!(tag.matches('"').count() % 2 == 0 && !outside.contains("onload"), "<{tag}>");
    }
    assert!(!page.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
    assert!(!page.contains('\u{202e}') && !page.contains("http://") && !page.contains("https://"));
}

#[test]
fn what_comes_from_outside_stays_text_everywhere() {
    for text in HOSTILE {
        let s = || text.to_string();
        let mut table = Table::new(&[text, "b"]);
        table.row([Cell::text(text), Cell { interval: Some(s()), ..Cell::number(f64::NAN, 2) }]).note(text);
        let lines = LinePlot {
            title: s(),
            x_label: s(),
            y_label: s(),
            series: (0..2)
                .map(|_| Series {
                    name: s(),
                    points: vec![(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 2.0)],
                    ..Series::default()
                })
                .collect(),
            marks: vec![(1.0, s())],
            ..LinePlot::default()
        };
        let marks = vec![Mark { name: s(), estimate: Estimate { value: 0.5, low: 0.1, high: 0.9, n: 4 } }];
        let bars = IntervalPlot {
            title: s(),
            x_label: s(),
            percent: true,
            rows: vec![IntervalRow { label: text.repeat(9), marks }],
        };
        let answer = || Some(Answer { label: s(), text: s(), right: Some(false) });
        let example = Example { prompt: s(), before: answer(), after: answer(), gold: Some(s()) };
        let report = Report {
            title: s(),
            summary: vec![s()],
            warnings: vec![s()],
            sections: vec![Section::new(
                text,
                vec![
                    Part::KeyValues(vec![(s(), s())]),
                    Part::Table(table),
                    Part::Lines(lines),
                    Part::Intervals(bars),
                    Part::Examples(vec![example]),
                    Part::Text(s()),
                    Part::Code(vec![s()]),
                ],
            )],
            footer: s(),
        };
        check(&report.to_html());
    }
}

#[test]
fn a_runs_page_tells_its_story() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let about =
        NewRun { kind: "sft".into(), config: json!({"lr": 2e-4}), model: HOSTILE[0].into(), ..NewRun::default() };
    let run = store.start(&about, None).unwrap();
    let mut sink = run.sink().unwrap();
    let mut emit = |e: Event| sink.emit(&e).unwrap();
    for text in ["13% too long", "13% too long", HOSTILE[1]] {
        emit(Event::new("warning", 0).with("text", text));
    }
    for step in 1..=100u64 {
        let loss = if step == 50 { f64::NAN } else { 3.0 / step as f64 };
        emit(Event::new("step", step).with("loss", loss).with("lr", 1e-4).with("größe_x", step));
    }
    for (step, right) in [(0, 10), (50, 20), (100, 30)] {
        emit(
            Event::new("eval", step)
                .with("set", HOSTILE[2])
                .with("accuracy", right as f64 / 40.0)
                .with("n", 40)
                .with("loss", f64::INFINITY),
        );
        emit(Event::new("sample", step).with("prompt", HOSTILE[0]).with("text", HOSTILE[3]).with("correct", step > 0));
    }
    emit(Event::new("checkpoint", 100).with("folder", HOSTILE[4]).with("loss", f64::NAN));
    emit(Event::new("something else", 100).with("x", json!({"y": [1]})));
    drop(sink);
    run.finish(Status::Done, None).unwrap();

    let page = run_report(&store, "sft-1").unwrap();
    assert_eq!(page.warnings.len(), 3, "{:?}", page.warnings);
    assert!(page.warnings[2].contains("not finite: 1 of 100 steps, the first 50"));
    assert!(
        page.summary.iter().any(|l| l.contains("accuracy 25.0% [14.2, 40.2] → 75.0% [59.8, 85.8], n 40")),
        "{:?}",
        page.summary
    );
    let titles: Vec<&str> = page.sections.iter().map(|s| s.title.as_str()).collect();
    assert_eq!(
        titles,
        ["Before and after", "Training", "Evaluation over steps", "Samples", "Checkpoints", "Settings", "Commands"]
    );
    let html = page.to_html();
    check(&html);
    assert!(html.contains("Größe x") && html.contains("+50.0") && html.contains("&lt;/script&gt;"));
    let path = dir.path().join("report.html");
    page.save(&path).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), html);
}

#[test]
fn empty_and_dead_runs_have_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let run = store.start(&NewRun { kind: "sft".into(), ..NewRun::default() }, None).unwrap();
    let page = run_report(&store, "sft-1").unwrap();
    assert!(page.warnings[0].contains("still at work"));
    drop(run);
    let page = run_report(&store, "sft-1").unwrap();
    assert!(page.warnings[0].contains("killed"), "{:?}", page.warnings);
    assert_eq!(page.sections.len(), 2);
    check(&page.to_html());
    check(&Report::default().to_html());
    assert!(run_report(&store, "nope").is_err());
}
