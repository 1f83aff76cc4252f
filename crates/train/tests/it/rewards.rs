//! Rewards: the table of named functions, a user's program, hostile programs.

use std::time::{Duration, Instant};

use postgrad_base::Result;
use postgrad_data::{Message, Place};
use postgrad_train::prompts::{self, Prompt};
use postgrad_train::rewards::named::{Cosine, overlong, repeated_share, repeated_tokens};
use postgrad_train::rewards::{Limits, Reward, Rewarded, Rewards, Said, Sample};
use serde_json::{Map, Value, json};

use crate::preference::renderer;

fn prompt(reference: Option<&str>) -> Prompt {
    let mut columns = Map::new();
    columns.insert("level".into(), json!(3));
    Prompt {
        ids: vec![1],
        text: "What is 2+2?".into(),
        messages: vec![Message::new("user", "What is 2+2?")],
        problem: None,
        reference: reference.map(str::to_string),
        columns,
        place: Place::default(),
    }
}

fn limits() -> Limits {
    Limits { max_tokens: 100, command: Duration::from_millis(1500) }
}

fn parse(specs: &[&str]) -> Result<Rewards> {
    Rewards::parse(&specs.iter().map(|s| s.to_string()).collect::<Vec<_>>(), limits())
}

/// One reward of one completion.
fn one(spec: &str, p: &Prompt, completion: &str, tokens: usize, truncated: bool) -> Rewarded {
    let tokens = vec![7; tokens];
    let sample = Sample { prompt: p, completion, tokens: &tokens, truncated, step: 4 };
    parse(&[spec]).unwrap().score(&[sample]).unwrap().remove(0)
}

#[test]
fn the_table_of_right_and_wrong() {
    let p = prompt(Some("\\boxed{1000}"));
    let score = |spec: &str, text: &str| one(spec, &p, text, 10, false).parts[0];
    for (text, correct, partial) in [
        ("so \\boxed{1,000}", 1.0, 1.0),
        ("so \\boxed{1000.0}", 1.0, 1.0),
        ("so \\boxed{\\frac{2000}{2}}", 1.0, 1.0),
        ("\\boxed{7} no, \\boxed{1000}", 1.0, 1.0),
        ("so \\boxed{999}", 0.0, 0.1),
        // No tolerance: ReFT (Luong 2024) takes what is less than 0.01 off.
        ("so \\boxed{1000.005}", 0.0, 0.1),
        ("so \\boxed{1000.05}", 0.0, 0.1),
        ("", 0.0, 0.0),
    ] {
        assert_eq!((score("correct", text), score("partial", text)), (Some(correct), Some(partial)), "{text}");
    }
    assert_eq!(one("correct", &p, "\\boxed{1000}", 10, true).parts[0], Some(0.0), "cut off");
    // Nothing to compare with: left out of the sum.
    let free = prompt(None);
    let both = parse(&["correct", "tags:2"]).unwrap().score(&[Sample {
        prompt: &free,
        completion: "<think>",
        tokens: &[1],
        truncated: false,
        step: 0,
    }]);
    let both = &both.unwrap()[0];
    assert_eq!((both.total, both.parts.clone()), (1.0, vec![None, Some(0.5)]));
}

#[test]
fn an_answer_may_be_a_program() {
    let p = prompt(Some("12"));
    let of = |text: &str, truncated: bool| one("program", &p, text, 5, truncated).total;
    for right in ["fn f() { let x = 3; return x * 4; }", "<code>3 * 4</code>", "\\boxed{12}"] {
        assert_eq!((of(right, false), of(right, true)), (1.0, 0.0), "{right}");
    }
    for wrong in ["fn f() { let x = 3; return x * 5; }", "<code>3 * 4", "\\boxed{13}", "fn f() { return 12", ""] {
        assert_eq!(of(wrong, false), 0.0, "{wrong}");
    }
}

#[test]
fn formats_and_tags() {
    let p = prompt(None);
    let format = |text: &str| one("format", &p, text, 5, false).total;
    assert_eq!(format("<think>a</think> 4"), 1.0);
    for bad in [
        "<think>a</think>",
        "<think>a 4",
        "a</think> 4",
        "4",
        "<think>a</think><think>b</think> 4",
        "x <think>a</think> 4",
    ] {
        assert_eq!(format(bad), 0.0, "{bad}");
    }
    let opened = Prompt { text: "2+2? <think>\n".into(), ..prompt(None) };
    assert_eq!(one("format", &opened, "a\n</think>\n4", 5, false).total, 1.0);
    assert_eq!(one("format", &opened, "<think>a</think>4", 5, false).total, 0.0);
    let tags = |text: &str| one("tags?names=think|answer", &p, text, 5, false).total;
    assert_eq!(tags("<think>a</think><answer>4</answer>"), 1.0);
    assert_eq!(tags("<think>a</think><think>4</answer>"), 0.5);
}

#[test]
fn repeated_n_grams_cost_at_their_tokens() {
    let p = prompt(Some("4"));
    let of = |spec: &str, tokens: &[u32]| {
        let sample = Sample { prompt: &p, completion: "\\boxed{4}", tokens, truncated: false, step: 0 };
        parse(&[spec, "correct:2"]).unwrap().score(&[sample]).unwrap().remove(0)
    };
    // a b a b a b: the pairs at 2, 3 and 4 were there before, so that tokens 2 to 5 cost, once each.
    let r = of("repeat?n=2&penalty=0.25", &[7, 8, 7, 8, 7, 8]);
    assert_eq!(r.values, [vec![0.0, 0.0, -0.25, -0.25, -0.25, -0.25], vec![0.0, 0.0, 0.0, 0.0, 0.0, 2.0]]);
    assert_eq!((r.total, r.parts), (1.0, vec![Some(-1.0), Some(1.0)]));
    assert_eq!(of("repeat?n=2&penalty=0.25:0.5", &[7, 8, 7, 8]).values[0], [0.0, 0.0, -0.125, -0.125]);
    assert_eq!(of("repeat?n=2&penalty=0.25", &[7, 8, 9]).values[0], [0.0; 3]);
    assert_eq!(of("repeat", &[7; 39]).total, 2.0, "shorter than an n-gram");
    assert_eq!(of("repeat?n=2&penalty=0.25&only_start", &[7; 5]).values[0], [0.0, -0.25, -0.25, -0.25, -0.25]);
    let discounts = parse(&["correct?gamma=1", "repeat?gamma=0.99", "format"]).unwrap().discounts();
    assert_eq!(discounts, [Some(1.0), Some(0.99), None]);
    assert!(parse(&["correct?gamma=1.5"]).is_err() && parse(&["repeat?gamma=-1"]).is_err());
}

#[test]
fn values_of_tokens_are_checked() {
    struct Short;
    impl Reward for Short {
        fn name(&self) -> &str {
            "short"
        }
        fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
            Ok(samples.iter().map(|_| Said { tokens: vec![1.0], ..Said::default() }).collect())
        }
    }
    let p = prompt(None);
    let sample = Sample { prompt: &p, completion: "", tokens: &[1, 2], truncated: false, step: 0 };
    let e = Rewards::new(vec![(Box::new(Short), 1.0)]).score(&[sample]).unwrap_err().to_string();
    assert!(e.contains("`short` gave 1 values to a sample of 2 tokens"), "{e}");
}

#[test]
fn the_classic_reward_of_long_thoughts() {
    // Yeo 2025's classic: 1, 0, and 0 for all that came within 16 tokens of the longest.
    let p = prompt(Some("4"));
    let of = |spec: &str, text: &str, n: usize| one(spec, &p, text, n, false).total;
    let classic = "correct?over=0&near=16";
    for (text, n, want) in [("\\boxed{4}", 83, 1.0), ("\\boxed{4}", 84, 0.0), ("\\boxed{5}", 83, 0.0)] {
        assert_eq!(of(classic, text, n), want, "{text} {n}");
    }
    assert_eq!(of("correct?over=-2&near=10&max=60", "\\boxed{5}", 50), -2.0);
    assert_eq!(of("correct", "\\boxed{4}", 100), 1.0, "it ended with its last token");
    assert!(parse(&["correct?near=3"]).err().unwrap().to_string().contains("need `over`"));
}

#[test]
fn lengths_along_a_cosine() {
    // Yeo 2025's defaults.
    let c = Cosine { max: 100.0, right: (2.0, 1.0), wrong: (-10.0, 0.0), over: -10.0, near: 16.0 };
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(near(c.of(0, true), 2.0) && near(c.of(0, false), -10.0));
    assert!(
        near(c.along(50.0, c.right), 1.5) && near(c.along(100.0, c.right), 1.0) && near(c.along(100.0, c.wrong), 0.0)
    );
    assert!(near(c.of(84, true), -10.0) && c.of(83, true) > 1.0, "the margin");
    assert!(c.of(20, true) > c.of(60, true) && c.of(20, false) < c.of(60, false), "short right, long wrong");
    assert!(near(c.along(1e9, c.right), 1.0), "lengths end at the maximum");
    // Its variants A, B and C: values at no tokens, at half of them, at all.
    for (right, wrong) in [((0.0, 10.0), (0.0, 0.0)), ((6.0, 5.0), (-10.0, 0.0)), ((10.0, 9.0), (-10.0, 0.0))] {
        let v = Cosine { right, wrong, ..c };
        for (is_right, (short, long)) in [(true, right), (false, wrong)] {
            assert!(near(v.of(0, is_right), short) && near(v.of(50, is_right), (short + long) / 2.0));
            assert!(near(v.along(100.0, (short, long)), long) && near(v.of(84, is_right), -10.0));
        }
    }
    let p = prompt(Some("4"));
    assert!(near(one("cosine", &p, "\\boxed{4}", 50, false).total, 0.75));
    assert!(near(one("cosine", &p, "\\boxed{5}", 50, false).total, -0.75));
    assert!(near(one("cosine", &p, "\\boxed{4}", 100, true).total, -1.0));
    assert!(near(one("cosine?max=50&over=-3", &p, "\\boxed{4}", 60, false).total, -3.0));
    assert_eq!([80.0, 90.0, 100.0, 200.0].map(|l| overlong(l, 100.0, 20.0)), [0.0, -0.5, -1.0, -1.0]);
}

#[test]
fn a_cosine_counts_tokens_and_ends_at_its_maximum() {
    // What Dang 2025 means, which its code does not do: tokens, not characters; beyond the maximum the value stays, and a
    // short wrong answer is worse than a long one.
    let c = Cosine { max: 1000.0, right: (1.0, 0.5), wrong: (-1.0, -0.5), over: -0.5, near: 0.0 };
    for (length, right, wrong) in [(0, 1.0, -1.0), (500, 0.75, -0.75), (1000, 0.5, -0.5), (3500, 0.5, -0.5)] {
        for (want, ends) in [(right, c.right), (wrong, c.wrong)] {
            assert!((c.along(f64::from(length), ends) - want).abs() < 1e-12, "{length}");
        }
    }
    assert_eq!([c.of(1000, true), c.of(3500, false)], [-0.5; 2]);
    let p = prompt(Some("4"));
    let long = format!("{} \\boxed{{4}}", "so ".repeat(400));
    let of = |text: &str| one("cosine", &p, text, 50, false).total;
    assert_eq!(of(&long), of("\\boxed{4}"));
}

#[test]
fn a_gold_answer_that_cannot_be_read_rewards_all_alike() {
    // Its groups are even, and pull nowhere.
    for gold in ["", "  ", "\\boxed{"] {
        let p = prompt(Some(gold));
        for text in ["\\boxed{7}", "7", "", "so \\boxed{\\frac{1}{2}}"] {
            assert_eq!(one("correct", &p, text, 10, false).total, 0.0, "{gold:?} {text}");
        }
    }
}

#[test]
fn repetitions() {
    assert_eq!(repeated_share("a b a b a b", 2), 1.0 - 2.0 / 5.0);
    assert_eq!(repeated_share("A b a B", 2), 1.0 - 2.0 / 3.0);
    assert_eq!((repeated_share("a b", 3), repeated_share("", 3)), (0.0, 0.0));
    let marked = repeated_tokens(&[1, 2, 1, 2, 1, 2], 2, false);
    assert_eq!(marked, [false, false, true, true, true, true]);
    // 2 1 at place 1 is new; with only_start the grams that begin within a marked span are passed over.
    assert_eq!(repeated_tokens(&[1, 2, 1, 2, 1], 2, true), [false, false, true, true, false]);
    assert_eq!(repeated_tokens(&[1], 2, false), [false]);
    assert!((one("repetition?n=2&penalty=0.5", &prompt(None), "a b a b a b", 6, false).total + 0.3).abs() < 1e-12);
}

#[test]
fn weights_and_settings_are_read_and_wrong_ones_refused() {
    let r = parse(&["correct:2", "cosine?max=50:0.5", "format"]).unwrap();
    assert_eq!(r.names(), ["correct", "cosine", "format"]);
    let p = prompt(Some("4"));
    assert_eq!(one("correct:-2", &p, "\\boxed{4}", 3, false).total, -2.0);
    assert_eq!(parse(&[]).unwrap().names(), ["correct"]);
    for bad in ["corect", "cosine?maxi=3", "cosine?max=x", "cosine?max=0", "exec:", "overlong?buffer=0"] {
        assert_eq!(parse(&[bad]).err().unwrap().exit_code(), 2, "{bad}");
    }
    assert!(parse(&["format", "format:2"]).is_err());
}

fn exec(script: &str, n: usize) -> Result<Vec<Rewarded>> {
    let p = prompt(Some("4"));
    let texts: Vec<String> = (0..n).map(|i| format!("text {i} \"quoted\"\n")).collect();
    let samples: Vec<Sample> = texts
        .iter()
        .map(|t| Sample { prompt: &p, completion: t, tokens: &[1, 2], truncated: false, step: 9 })
        .collect();
    let mut rewards = parse(&[&format!("exec:{script}")]).unwrap();
    rewards.score(&samples)?;
    rewards.score(&samples)
}

#[test]
fn a_users_program_is_told_everything_and_its_words_count() {
    let script = r#"i=0; while read -r line; do
        case "$line" in *'"level":3'*'"reference":"4"'*'"prompt":"What is 2+2?"'*'"messages":['*'"completion":"text'*'"tokens":2'*'"truncated":false'*'"step":9'*) ;;
            *) echo "odd: $line" >&2; exit 3;; esac
        i=$((i+1))
        if [ $((i % 2)) = 0 ]; then echo '{"reward": null}'; else echo "{\"reward\": $i, \"metrics\": {\"seen\": $i}}"; fi
    done"#;
    let said = exec(script, 3).unwrap();
    // The program is kept between batches: it goes on counting.
    assert_eq!(said.iter().map(|s| s.parts[0]).collect::<Vec<_>>(), [None, Some(5.0), None]);
    assert_eq!(said[1].metrics["exec.seen"], 5.0);
    // More than a pipe holds, both ways.
    let echo = r#"while read -r line; do printf '{"reward": 1, "metrics": {"%0200d": 1}}\n' 0; done"#;
    assert_eq!(exec(echo, 2000).unwrap().len(), 2000);
}

#[test]
fn programs_that_crash_hang_or_babble_stop_with_what_they_said() {
    let crash = exec("read -r line; echo broken model >&2; exit 3", 2).unwrap_err();
    assert!(crash.exit_code() == 1 && crash.to_string().contains("ended after 0 of 2 replies"), "{crash}");
    assert!(
        crash.to_string().contains("broken model") && crash.to_string().contains("checkpoints are kept"),
        "{crash}"
    );
    let started = Instant::now();
    let hang = exec("while read -r line; do echo '{\"reward\": 1}'; sleep 30 & wait; done", 2).unwrap_err().to_string();
    assert!(hang.contains("gave 1 of 2 replies in 1.5 s") && hang.contains("flush"), "{hang}");
    assert!(started.elapsed() < Duration::from_secs(4));
    for babble in [
        "hello",
        "{\"reward\": \"good\"}",
        "{\"score\": 1}",
        "[1]",
        "{\"reward\": 1e999}",
        "{\"reward\": 1, \"metrics\": {\"a\": \"b\"}}",
    ] {
        let e = exec(&format!("while read -r line; do echo '{babble}'; done"), 1).unwrap_err().to_string();
        assert!(e.contains("as reply 1") && e.contains("number or null"), "{babble}: {e}");
    }
    // It does not read: what does not fit the pipe must not block for ever.
    let deaf = exec("exec 0<&-; sleep 30", 3000).unwrap_err().to_string();
    assert!(deaf.contains("replies in") || deaf.contains("closed its input"), "{deaf}");
    assert!(exec("no-such-program-at-all", 1).unwrap_err().to_string().contains("ended after 0"));
}

#[test]
fn prompts_are_read_with_their_references() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.jsonl");
    let rows: [Value; 4] = [
        json!({"prompt": "2+2?", "completion": "4", "level": 1}),
        json!({"prompt": "2+2?", "answer": 4}),
        json!({"prompt": "2+2?"}),
        json!({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}),
    ];
    let read = |rows: &[Value], max| {
        std::fs::write(&path, rows.iter().map(|r| format!("{r}\n")).collect::<String>()).unwrap();
        prompts::read(&[path.display().to_string()], &Default::default(), &renderer(), max)
    };
    let mut all = read(&rows[..3], 0).unwrap();
    all.extend(read(&rows[3..], 0).unwrap());
    let references: Vec<Option<&str>> = all.iter().map(|p| p.reference.as_deref()).collect();
    assert_eq!(references, [Some("4"), Some("4"), None, Some("4")]);
    assert!(all.iter().all(|p| p.ids == all[0].ids && p.text == "2+2?" && p.messages.len() == 1));
    assert_eq!(all[0].columns["level"], json!(1));
    assert_eq!(all[2].judge("4"), None);
    assert!(read(&rows[..1], 2).unwrap_err().help_text().unwrap().contains("1 prompts leave no room"));

    let task = postgrad_tasks::task("add").unwrap();
    let problem = task.generate(&mut postgrad_base::Stream::new(1, &["t"]), &task.difficulty("").unwrap()).unwrap();
    let right = task.solve(&problem, task.renderings()[0].name).unwrap().text;
    let row = json!({"prompt": problem.prompt, "completion": right, "problem": problem});
    let p = read(&[row], 0).unwrap().remove(0);
    assert!(p.judge(&right).unwrap().correct && !p.judge("who knows").unwrap().correct);
    let own = Prompt::of_problem(problem, &task.renderings()[0], &renderer()).unwrap();
    assert!(own.judge(&right).unwrap().correct && own.ids == p.ids);
    assert!(read(&[json!({"prompt": "p", "completion": "c", "problem": {"task": "none"}})], 0).is_err());
}
