use std::collections::BTreeMap;

use postgrad_base::event::Event;
use postgrad_lab::claims::{Judged, State, Summary};
use postgrad_lab::engine::{Found, Made, Revision};
use postgrad_lab::verify_report::{SystemRow, VerifyPage, gather, systems_report};
use postgrad_lab::{
    Answer, Answers, Cell, DotPlot, DotRow, Example, IntervalPlot, IntervalRow, LinePlot, Mark, NewRun, Part, Report,
    Section, Series, Status, Store, Table, run_report,
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
        "a",
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
    // Links lead to files beside the page alone.
    for link in page.split("href=\"").skip(1).map(|l| l.split('"').next().unwrap()) {
        assert!(
            link.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) && !link.starts_with('/'),
            "{link}"
        );
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
        let mean = Estimate { value: 0.5, low: 0.1, high: 0.9, n: 4 };
        let dots = vec![DotRow { label: text.repeat(3), estimate: mean, dots: vec![(s(), 0.4)] }];
        let dots = DotPlot { title: s(), x_label: s(), percent: false, rows: dots, bounds: vec![0.05] };
        table.row([Cell { link: Some(s()), ..Cell::text("x") }, Cell { link: Some("../x".into()), ..Cell::text("y") }]);
        table.row([Cell { link: Some("javascript:alert(1)".into()), ..Cell::text("z") }]);
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
                    Part::Dots(dots),
                    Part::Examples(vec![example]),
                    Part::Answers(vec![Answers { prompt: s(), gold: Some(s()), answers: vec![answer().unwrap(); 3] }]),
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

fn judged(says: &str, state: State, condition: &str, value: f64) -> Judged {
    Judged {
        says: says.into(),
        value: "masked:target.accuracy - sft:target.accuracy".into(),
        condition: condition.into(),
        primary: false,
        interest: None,
        state,
        estimate: Some(value),
        low: Some(value - 0.04),
        high: Some(value + 0.04),
        level: 0.95,
        se: Some(0.0144),
        p: Some(0.0021),
        seeds: 5,
        items: 200,
        per_seed: (0..5).map(|s| (s, value + 0.01 * (s as f64 - 2.0))).collect(),
        noise: None,
        note: None,
    }
}

fn revision(control: State) -> Revision {
    let measures = ["sft", "masked"].into_iter().flat_map(|arm| {
        ["accuracy", "tokens"].map(|metric| Summary {
            arm: arm.into(),
            stage: "target".into(),
            metric: metric.into(),
            estimate: Some(0.5),
            low: Some(0.4),
            high: Some(0.6),
            level: 0.95,
            se: Some(0.03),
            seeds: 5,
            items: 200,
            per_seed: (0..5).map(|s| (s, 0.48 + 0.01 * s as f64)).collect(),
        })
    });
    let primary = Judged { primary: true, ..judged("masking helps", State::Holds, "> 0.02", 0.08) };
    let other = Judged {
        level: 0.975,
        note: Some("2 of 3 declared seeds".into()),
        ..judged(HOSTILE[0], State::Null, "< 0", 0.01)
    };
    Revision {
        number: 2,
        date: "2026-03-04T05:06:07Z".into(),
        state: if control == State::Loud { State::Loud } else { State::Holds },
        claims_commit: "abc1234".into(),
        commit: "def5678".into(),
        modified_code: false,
        claims_hash: "c".into(),
        recipe_hash: "r".into(),
        stages: [("sft".to_string(), 1)].into(),
        simd: "avx2".into(),
        machine: HOSTILE[1].into(),
        threads: 2,
        seeds: [("sft".to_string(), vec![0, 1, 2, 3, 4])].into(),
        varied: vec!["data".into(), "tune".into()],
        conditional_on: vec!["base".into()],
        externals: [("base".to_string(), "0123".to_string())].into(),
        tuned: [("sft".to_string(), [("tuned.lr".to_string(), json!(0.001))].into())].into(),
        budgets: [("sft".to_string(), [("updates".to_string(), 120.0), ("tokens".to_string(), 51_234.5)].into())]
            .into(),
        matched: vec!["updates".into()],
        wall_seconds: 243.0,
        stage_seconds: 7_300.0,
        claims: vec![primary, other],
        controls: vec![judged("no mask is plain tuning", control, "within 0.01", 0.1)],
        measures: measures.collect(),
    }
}

#[test]
fn a_verified_recipes_page_puts_claims_first() {
    let dir = tempfile::tempdir().unwrap();
    let made = Made {
        stage: "s".into(),
        kind: "sft".into(),
        version: 1,
        config: json!({}),
        inputs: BTreeMap::new(),
        seed: None,
        simd: "avx2".into(),
        spent: BTreeMap::new(),
        seconds: 1.0,
    };
    let mut results = BTreeMap::new();
    for (arm, right) in [("sft", false), ("masked", true)] {
        for seed in 0..3u64 {
            let folder = |stage: &str| {
                let path = dir.path().join(format!("{arm}-{seed}-{stage}"));
                std::fs::create_dir_all(&path).unwrap();
                path
            };
            let steps = (1..=30u64).map(|i| Event::new("step", i).with("loss", 2.0 / i as f64 + seed as f64));
            let lines: Vec<String> = steps.map(|e| serde_json::to_string(&e).unwrap()).collect();
            std::fs::write(folder("tuned").join("metrics.jsonl"), lines.join("\n")).unwrap();
            let row = |i: usize| {
                let said =
                    json!({"text": format!("{arm} says {i} {}", HOSTILE[2]), "strict": right, "truncated": false});
                json!({"prompt": format!("prompt {i}"), "reference": "7", "responses": [said]}).to_string()
            };
            std::fs::write(folder("target").join("answers.jsonl"), (0..9).map(row).collect::<Vec<_>>().join("\n"))
                .unwrap();
            let found = |stage: &str| Found { key: "k".into(), dir: folder(stage), made: made.clone() };
            let stages = ["tuned", "target"].map(|s| (s.to_string(), found(s)));
            results.insert((arm.to_string(), seed), BTreeMap::from(stages));
        }
    }
    let arms = [("sft".to_string(), "plain".to_string()), ("masked".into(), HOSTILE[3].into())];
    let (curves, examples) = gather(&arms, &results).unwrap();
    assert_eq!((curves.len(), curves[0].seeds.len(), curves[0].seeds[2].len()), (2, 3, 30));
    assert_eq!((examples.len(), examples[0].answers.len()), (4, 2));
    assert_eq!((&*examples[0].answers[1].label, examples[0].answers[1].right), ("masked", Some(true)));

    let (now, before) = (revision(State::Quiet), [revision(State::Loud)]);
    let page = VerifyPage {
        slug: "masked-thought",
        title: "Masked Thought",
        about: HOSTILE[5],
        arms: &arms,
        revision: &now,
        earlier: &before,
        curves,
        examples,
    };
    let report = page.report();
    assert_eq!(report.summary[0], "Holds: masking helps");
    assert_eq!(report.summary[1], "0.080 [0.040, 0.120] over 5 seeds and 200 items; it was to be > 0.02.");
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    let titles: Vec<&str> = report.sections.iter().map(|s| s.title.as_str()).collect();
    let want = [
        "Claims",
        "Controls",
        "Arms",
        "Measures",
        "Training",
        "Answers",
        "Budgets",
        "What varied",
        "Earlier verdicts",
        "Made by",
    ];
    assert_eq!(titles, want);
    let html = report.to_html();
    check(&html);
    for said in [
        "masking helps (primary)",
        "97.5%",
        "50.0%",
        "tuned: training loss",
        "masked says 0",
        "51234.5",
        "4 min 03 s",
        "2 h 01 min",
    ] {
        assert!(html.contains(said), "{said}");
    }

    // Without results' folders, and with a control that is loud.
    let loud = VerifyPage { revision: &before[0], earlier: &[], curves: vec![], examples: vec![], ..page };
    let report = loud.report();
    assert_eq!(report.summary[0], "Loud: masking helps");
    assert!(report.warnings[0].starts_with("A control is loud"), "{:?}", report.warnings);
    check(&report.to_html());
}

#[test]
fn the_page_of_all_systems_lists_and_links() {
    let row = |slug: &str, state: Option<State>| SystemRow {
        slug: slug.into(),
        title: HOSTILE[0].into(),
        kind: "sft".into(),
        state,
        primary: state.map(|s| judged("it helps", s, "> 0", 0.1)),
        wall_seconds: state.map(|_| 200.0),
        date: state.map(|_| "2026-03-04T05:06:07Z".into()),
        link: Some(format!("{slug}.html")),
        note: if state.is_none() { "needs gcc".into() } else { String::new() },
    };
    let rows =
        [row("a", Some(State::Holds)), row("b", None), row("c", Some(State::Loud)), row("d", Some(State::Holds))];
    let report = systems_report(&rows);
    assert_eq!(report.summary, ["3 of 4 verified: 2 holds, 1 loud."]);
    let html = report.to_html();
    check(&html);
    for said in ["href=\"a.html\"", "needs gcc", "2026-03-04", "3 min 20 s", "0.100"] {
        assert!(html.contains(said), "{said}");
    }
    check(&systems_report(&[]).to_html());
}
