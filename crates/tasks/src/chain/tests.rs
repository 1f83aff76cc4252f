use proptest::prelude::*;

use super::*;
use crate::task::{Reason, Split, draw};

fn problem(n: u64, spec: &str) -> Problem {
    let d = Chain.difficulty(spec).unwrap();
    Chain.generate(&mut Stream::new(n, &["test", "chain"]), &d).unwrap()
}

const SPECS: &[&str] = &[
    "steps=1,digits=1",
    "steps=2",
    "steps=3,shape=tree,distractors=2",
    "steps=5,digits=3,distractors=4,order=shuffled",
    "steps=8,digits=1,shape=tree",
    "steps=8,digits=4,shape=tree,distractors=4,order=shuffled",
];

/// Reads the English of a prompt and works it out without the hidden graph: sentence by sentence until nothing is unknown.
fn work_out(prompt: &str) -> Option<u64> {
    let (story, question) = prompt.rsplit_once(". ")?;
    let mut known: std::collections::BTreeMap<&str, u64> = Default::default();
    let sentences: Vec<Vec<&str>> = story.split(". ").map(|s| s.split(' ').collect()).collect();
    for _ in 0..sentences.len() {
        for w in &sentences {
            let is_name = |t: &&str| words::NAMES.contains(t);
            let numbers: Vec<u64> = w.iter().filter_map(|t| t.parse().ok()).collect();
            let names: Vec<&str> = w.iter().copied().filter(is_name).collect();
            let Some(of): Option<Vec<u64>> = names[1..].iter().map(|n| known.get(n).copied()).collect() else {
                continue;
            };
            let has = |t: &str| w.contains(&t);
            let value = match (&of[..], &numbers[..]) {
                ([], [k]) => *k,
                ([a], [k]) if has("more") || has("plus") => a + k,
                ([a], [k]) if has("fewer") || has("minus") => a - k,
                ([a], [k]) if has("times") => a * k,
                ([a], []) if has("twice") => a * 2,
                ([a], []) if has("half") => a / 2,
                ([a, b], []) if has("together") || has("sum") => a + b,
                ([a, b], []) if has("difference") || has("minus") => a - b,
                other => panic!("{w:?} {other:?}"),
            };
            known.insert(names[0], value);
        }
    }
    let asked = question.trim_end_matches('?').split(' ').find(|t| words::NAMES.contains(t))?;
    known.get(asked).copied()
}

#[test]
fn answers_are_what_the_english_says() {
    for spec in SPECS {
        for n in 0..150 {
            let p = problem(n, spec);
            assert_eq!(work_out(&p.prompt).map(|v| v.to_string()).as_deref(), Some(p.answer.as_str()), "{}", p.prompt);
        }
    }
}

#[test]
fn a_plain_line_reads_as_documented() {
    let node = |name: &str, op, value| Node { name: name.into(), op, value };
    let graph = Graph {
        nodes: vec![
            node("Ann", Op::Given(3), 3),
            node("Bob", Op::Add { of: 0, k: 4 }, 7),
            node("Cid", Op::Times { of: 1, k: 2 }, 14),
        ],
        target: 2,
    };
    let prompt = words::prompt(&graph, 0, "apples", &[0, 1, 2]);
    assert_eq!(
        prompt,
        "Ann has 3 apples. Bob has 4 more than Ann. Cid has twice as many as Bob. How many does Cid have?"
    );
    let text = |r| solve_in(&graph, &graph.plan(), r).unwrap().text;
    assert_eq!(text("cot"), "Bob: 3+4=7. Cid: 7*2=14.\n#### 14");
    assert_eq!(text("equations"), "3+4=7\n7*2=14\n#### 14");
    assert_eq!(text("direct"), "#### 14");
    assert_eq!(graph.key(), "((3+4)*2)");
}

#[test]
fn the_solver_passes_in_every_rendering_and_order() {
    let mut stream = Stream::new(3, &["test", "orders"]);
    let mut reordered = 0;
    for spec in SPECS {
        for n in 0..100 {
            let p = problem(n, spec);
            let graph = Graph::of(&p).unwrap();
            let steps = p.difficulty.get(&STEPS) as usize;
            assert_eq!(graph.plan().len(), steps, "{}", p.prompt);
            for (rendering, count) in [("cot", steps), ("equations", steps), ("direct", 0)] {
                for plan in [graph.plan(), graph.plan_drawn(&mut stream)] {
                    reordered += usize::from(plan != graph.plan());
                    let trace = solve_in(&graph, &plan, rendering).unwrap();
                    let verdict = Chain.verify(&p, &trace.text);
                    assert!(verdict.correct && verdict.reason == Reason::Right, "{} {}", p.prompt, trace.text);
                    let judged = verdict.steps.unwrap();
                    assert!(judged.len() == count && judged.iter().all(|s| s.right()), "{} {judged:?}", p.prompt);
                }
            }
        }
    }
    assert!(reordered > 100, "{reordered}");
}

#[test]
fn values_stay_within_their_digits() {
    for spec in SPECS {
        for n in 0..100 {
            let p = problem(n, spec);
            let most = 10u64.pow(p.difficulty.get(&DIGITS) as u32);
            assert!(Graph::of(&p).unwrap().nodes.iter().all(|n| n.value < most), "{}", p.prompt);
        }
    }
}

#[test]
fn mutated_answers_and_steps_are_rejected() {
    for n in 0..200 {
        let p = problem(n, "steps=3,shape=tree");
        let right: i64 = p.answer.parse().unwrap();
        for wrong in [right + 1, right - 1, right * 10 + 1, -right - 1] {
            for text in [format!("#### {wrong}"), format!("#### {right}\n#### {wrong}")] {
                let v = Chain.verify(&p, &text);
                assert!(!v.correct && !v.flexible && v.reason == Reason::Wrong, "{text}");
            }
        }
        let loose = Chain.verify(&p, &format!("The answer is {right}."));
        assert!(!loose.correct && loose.flexible && loose.reason == Reason::Malformed);
        assert_eq!(Chain.verify(&p, "I do not know").reason, Reason::NoAnswer);
        assert_eq!(Chain.verify(&p, &format!("<think>#### {right}")).reason, Reason::NoAnswer);
        // One wrong digit in the first step: false, and so is what builds on it not next.
        let cot = Chain.solve(&p, "cot").unwrap();
        let broken = cot.text.replacen("=", "=9", 1);
        let steps = Chain.verify(&p, &broken).steps.unwrap();
        assert!(!steps[0].valid && !steps[0].next, "{broken}");
        // A step said twice brings nothing new.
        let twice = format!("{} {}", cot.steps[0], cot.text);
        let steps = Chain.verify(&p, &twice).steps.unwrap();
        assert!(steps[0].right() && steps[1].valid && !steps[1].next, "{twice}");
        // A true step that the story does not hold.
        let steps = Chain.verify(&p, "1000+1=1001").steps.unwrap();
        assert!(steps[0].valid && !steps[0].next);
    }
}

#[test]
fn steps_are_found_in_other_spellings() {
    let found =
        |text: &str| equations(text).iter().map(|e| (text[e.start..e.end].to_string(), e.valid())).collect::<Vec<_>>();
    let one = |text: &str, ok| assert_eq!(found(text).iter().map(|f| f.1).collect::<Vec<_>>(), [ok], "{text}");
    one("Bob has 3 + 4 = 7 apples.", true);
    one("3 \u{d7} 4 = $12.", true);
    one("7/2=3.5", true);
    one("1,000 + 1 = 1,001", true);
    one("2+3*4=14", true);
    one("3+4=7*2=14", false);
    one("3/0=0", false);
    one("99999999999999999999*2=2", false);
    one("3+4 = 8", false);
    assert_eq!(found("3 = 3"), []);
    assert_eq!(found("a2+3 and 5+"), []);
    assert_eq!(found("1+1=2, 2+2=4."), [("1+1=2".into(), true), ("2+2=4".into(), true)]);
}

#[test]
fn a_name_before_a_step_must_be_its_owner() {
    let p = problem(1, "steps=2,shape=line,wording=plain");
    let graph = Graph::of(&p).unwrap();
    let plan = graph.plan();
    let equation = graph.equation(plan[0]).unwrap();
    let right = |head: &str| Chain.verify(&p, &format!("{head} {equation}")).steps.unwrap()[0].right();
    let (own, other) = (&graph.nodes[plan[0]].name, &graph.nodes[plan[1]].name);
    assert!(right(&format!("{own}:")) && right(&format!("{own} has")) && right("") && right("so we get"));
    assert!(!right(&format!("{other}:")) && !right(&format!("{other} =")));
}

#[test]
fn a_fixed_seed_gives_the_same_bytes() {
    let mut text = String::new();
    for spec in SPECS {
        for n in 0..20 {
            let p = problem(n, spec);
            text.push_str(&serde_json::to_string(&p).unwrap());
            text.push_str(&Chain.solve(&p, "cot").unwrap().text);
        }
    }
    assert_eq!(crate::task::stable_hash(&[&text]), "f85fbe7e6083da06");
}

#[test]
fn train_and_test_share_no_computation() {
    let d = Chain.difficulty("steps=1,digits=1").unwrap();
    let side = |split| -> std::collections::BTreeSet<String> {
        let mut stream = Stream::new(1, &["test", "split"]);
        (0..400).map(|_| Graph::of(&draw(&Chain, &mut stream, &d, split).unwrap()).unwrap().key()).collect()
    };
    let (train, test) = (side(Split::Train), side(Split::Test));
    assert!(train.is_disjoint(&test) && train.len() > 5 && test.len() > 3, "{} {}", train.len(), test.len());
}

#[test]
fn a_problem_with_a_broken_graph_gets_a_verdict() {
    let mut p = problem(1, "steps=2");
    for meta in [
        json!(null),
        json!({"nodes": [], "target": 0}),
        json!({"nodes": [{"name": "Ann", "op": {"half": {"of": 0}}, "value": 1}], "target": 0}),
        json!({"nodes": [{"name": "Ann", "op": {"given": 3}, "value": 4}], "target": 0}),
        json!({"nodes": [{"name": "Ann", "op": {"given": 3}, "value": 3}], "target": 9}),
    ] {
        p.meta = meta;
        assert_eq!(Chain.verify(&p, "#### 1").reason, Reason::NotMine);
        assert_eq!(Chain.solve(&p, "cot").unwrap_err().exit_code(), 2);
    }
    assert_eq!(Chain.solve(&problem(1, ""), "cott").unwrap_err().exit_code(), 2);
}

#[test]
fn a_problem_survives_json() {
    for spec in SPECS {
        let p = problem(7, spec);
        let back: Problem = serde_json::from_str(&serde_json::to_string(&p).unwrap()).unwrap();
        assert_eq!(back, p);
    }
}

#[test]
fn a_megabyte_of_anything_is_judged_at_once() {
    let p = problem(1, "steps=4,shape=tree");
    for piece in ["1", "1+", "=", "1=", "#### ", "<think>", "1+1=2 ", "Ann: ", ",1", ".", "\u{e9}", "9,999"] {
        let text = piece.repeat(1_000_000 / piece.len());
        let start = std::time::Instant::now();
        Chain.verify(&p, &text);
        assert!(start.elapsed().as_millis() < 400, "{piece} {:?}", start.elapsed());
    }
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict(text in "[-0-9+*/=x.,:# \n$]{0,80}|\\PC{0,80}|((Ann|Bob|Cid|has|<think>|</think>|####|3\\+4=7)[ .:\n]?){0,20}") {
        Chain.verify(&problem(1, "steps=3,shape=tree"), &text);
    }
}
