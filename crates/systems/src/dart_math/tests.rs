use std::path::{Path, PathBuf};

use postgrad_lab::stage::{Place, alone, golden};
use postgrad_reason::rollout::{Log, run};
use postgrad_tasks::{Split, draw, task};

use super::*;

const NO_CAP: usize = 1 << 20;

fn targets(rule: Rule, k: usize, n_max: usize, pass: &[(usize, usize)]) -> Vec<Option<usize>> {
    let rules = allocate(rule, k, n_max, pass, &Stream::new(0, &["data"]));
    assert!(rules.iter().all(|r| r.cap <= n_max));
    rules.iter().map(|r| r.target).collect()
}

#[test]
fn targets_are_the_papers() {
    let pass = [(10, 9), (10, 5), (10, 1)];
    assert_eq!(targets(Rule::Prop2diff, 192, 2048, &pass), [22, 107, 192].map(Some));
    assert_eq!(targets(Rule::Uniform, 40, 2048, &pass), [Some(40); 3]);
    assert_eq!(targets(Rule::Easy, 192, 2048, &pass), [192, 107, 21].map(Some));
    let vrt = allocate(Rule::Vrt, 52, 2048, &pass, &Stream::new(0, &["data"]));
    assert_eq!(vrt, [StopRule { target: None, cap: 52 }; 3]);
    // At least one of each, also of what is never failed, or where nothing is.
    assert_eq!(targets(Rule::Prop2diff, 192, 2048, &[(8, 8), (8, 4)]), [1, 192].map(Some));
    assert_eq!(targets(Rule::Prop2diff, 192, 2048, &[(8, 8), (4, 4)]), [Some(1); 2]);
    assert_eq!(targets(Rule::Easy, 7, 2048, &[(8, 0), (4, 0)]), [Some(0); 2]);
    // First passes of different lengths; no rounding: 3/9 of 3/3 is a third.
    assert_eq!(targets(Rule::Prop2diff, 3, 2048, &[(9, 6), (3, 0)]), [1, 3].map(Some));
    assert_eq!(targets(Rule::Prop2diff, 4, 2048, &[(9, 6), (3, 0)]), [2, 4].map(Some));
    assert_eq!([Rule::Vrt, Rule::Uniform, Rule::Prop2diff].map(Rule::paper), [52, 40, 192]);
}

#[test]
fn permuted_targets_are_prop2diffs_of_other_questions() {
    let pass: Vec<(usize, usize)> = (0..40).map(|i| (16, i % 17)).collect();
    let mut own = targets(Rule::Prop2diff, 20, 99, &pass);
    let mut other = targets(Rule::Permuted, 20, 99, &pass);
    assert_ne!(own, other);
    own.sort();
    other.sort();
    assert_eq!(own, other);
}

/// The samples of a pool whose questions are answered right with the given probabilities; a response is a coin of three sides.
fn pool(rules: &[StopRule], p: &[f64], batch: usize, seed: u64) -> Vec<Vec<Sample>> {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(&dir.path().join("part")).unwrap();
    let stream = Stream::new(seed, &["sample"]);
    let numbered: Vec<(usize, StopRule)> = rules.iter().copied().enumerate().collect();
    let mut made = vec![Vec::new(); p.len()];
    run(
        &numbered,
        batch,
        &mut log,
        |asks, give| {
            for (question, trial) in asks.iter().flat_map(|a| a.trials.clone().map(|t| (a.question, t))) {
                let mut own = stream.nth(question as u64).nth(trial as u64);
                let correct = own.chance(p[question]);
                let response = own.below(3).to_string();
                let sample = Sample { question, trial, correct, response, ..Sample::default() };
                made[question].push(sample.clone());
                give(sample)?;
            }
            Ok(())
        },
        |_| (),
    )
    .unwrap();
    made
}

/// Mean, and four standard errors.
fn mean(list: &[f64]) -> (f64, f64) {
    (postgrad_numerics::mean(list), 4.0 * postgrad_numerics::std_dev(list) / (list.len() as f64).sqrt())
}

#[test]
fn counts_are_those_of_bernoulli_trials() {
    const P: [f64; 3] = [0.9, 0.5, 0.1];
    const REPEATS: usize = 150;
    let p: Vec<f64> = P.iter().flat_map(|p| [*p; REPEATS]).collect();
    let of = |rule: Rule, k: usize| {
        let rules = allocate(rule, k, NO_CAP, &vec![(10, 5); p.len()], &Stream::new(0, &["data"]));
        let made = pool(&rules, &p, 1, 5);
        let each = made.iter().zip(&rules).map(|(samples, rule)| {
            let (used, kept) = taken(samples, rule, false).unwrap();
            assert_eq!(used, samples.len());
            assert!(kept.iter().all(|s| s.correct));
            (used as f64, kept.len() as f64)
        });
        each.unzip::<f64, f64, Vec<f64>, Vec<f64>>()
    };
    let (_, kept) = of(Rule::Vrt, 52);
    for (kept, want) in kept.chunks(REPEATS).zip([46.8, 26.0, 5.2]) {
        let (mean, error) = mean(kept);
        assert!((mean - want).abs() < error, "{mean} {want}");
    }
    let (used, kept) = of(Rule::Uniform, 40);
    assert!(kept.iter().all(|k| *k == 40.0));
    for (used, want) in used.chunks(REPEATS).zip(P.map(|p| 40.0 / p)) {
        let (mean, error) = mean(used);
        assert!((mean - want).abs() < error, "{mean} {want}");
    }
}

#[test]
fn a_shared_pool_gives_each_rule_what_it_would_have_sampled() {
    let p = [0.95, 0.7, 0.5, 0.3, 0.15, 0.0];
    let pass = [(8, 8), (8, 6), (8, 4), (8, 2), (8, 1), (8, 0)];
    let shared = pool(&vec![StopRule { target: Some(6), cap: 40 }; p.len()], &p, 8, 2);
    for (rule, k) in [(Rule::Vrt, 7), (Rule::Uniform, 5), (Rule::Prop2diff, 6), (Rule::Permuted, 6), (Rule::Easy, 6)] {
        let rules = allocate(rule, k, 40, &pass, &Stream::new(1, &["data"]));
        for batch in [1, 4] {
            let own = pool(&rules, &p, batch, 2);
            for q in 0..p.len() {
                for dedupe in [false, true] {
                    let (used, kept) = taken(&shared[q], &rules[q], dedupe).unwrap();
                    assert_eq!(taken(&own[q], &rules[q], dedupe).unwrap(), (used, kept.clone()), "{rule:?} {q}");
                    assert!(used <= rules[q].cap && kept.len() <= rules[q].target.unwrap_or(40));
                    assert!(kept.windows(2).all(|k| k[0].trial < k[1].trial));
                }
            }
        }
    }
    // What the pool does not hold is missed, not made up.
    assert!(taken(&shared[0], &StopRule { target: Some(20), cap: 40 }, false).is_none());
    assert!(taken(&shared[0], &StopRule { target: None, cap: 40 }, false).is_none());
    // Identical responses count towards the target and are kept once.
    let (_, distinct) = taken(&shared[1], &StopRule { target: Some(6), cap: 40 }, true).unwrap();
    assert!(distinct.len() <= 3 && !distinct.is_empty());
}

#[test]
fn sets_are_cut_by_lot() {
    let record = |question: usize, trial: usize| Kept {
        prompt: String::new(),
        completion: "x".repeat(trial),
        dataset: String::new(),
        ref_ans: String::new(),
        extracted_ans: None,
        correct: true,
        n_trials: 9,
        n_corrects: 9,
        question,
        trial,
    };
    let stream = Stream::new(7, &["data"]);
    let make =
        |trials: usize| (0..50).flat_map(|q| (0..trials).map(move |t| (q, t))).map(|(q, t)| record(q, t)).collect();
    let names = |records: &[Kept]| records.iter().map(|r| (r.question, r.trial)).collect::<HashSet<_>>();
    let mut long: Vec<Kept> = make(12);
    long.reverse();
    let chosen = cut(long, 300, &stream).unwrap();
    assert_eq!(chosen.len(), 300);
    // The order in which records come does not matter, and trials (so lengths) are cut alike: 25 of 50 each, give or take.
    assert_eq!(names(&chosen), names(&cut(make(12), 300, &stream).unwrap()));
    for trial in 0..12 {
        let n = chosen.iter().filter(|r| r.trial == trial).count();
        assert!((12..=38).contains(&n), "{n} of trial {trial}");
    }
    // A record that two sets hold is cut by the same number: the smaller set's cut keeps it where the larger's does.
    let short = names(&cut(make(6), 200, &stream).unwrap());
    assert!(names(&chosen).iter().filter(|(_, t)| *t < 6).all(|r| short.contains(r)));
    assert_eq!(cut(make(1), 51, &stream).err().unwrap().exit_code(), 2);
}

/// Ten chain problems with their samples by hand: question `q` is right in trials `t` with `t % (q + 1) == 0`, in words that
/// differ; its pool ends after four right ones or 24 trials.
fn by_hand() -> (tempfile::TempDir, Vec<(&'static str, Place)>) {
    let dir = tempfile::tempdir().unwrap();
    let chain = task("chain").unwrap();
    let (mut data, mut samples, mut stats) = (String::new(), String::new(), String::new());
    for question in 0..10 {
        let difficulty = chain.difficulty(&format!("steps={}", 1 + question / 2)).unwrap();
        let mut own = Stream::new(3, &["data"]).nth(question as u64);
        let problem = draw(&*chain, &mut own, &difficulty, Split::Train).unwrap();
        let right = chain.solve(&problem, "cot").unwrap().text;
        data += &format!("{}\n", json!({"prompt": problem.prompt, "completion": right, "problem": problem}));
        let (mut trial, mut accepted) = (0, 0);
        while accepted < 4 && trial < 24 {
            let correct = trial % (question + 1) == 0 && question < 9;
            accepted += usize::from(correct);
            // Two trials one after the other say the same.
            let response = if correct { format!("{}{right}", " ".repeat(trial / 2)) } else { "#### 0".to_string() };
            let sample = Sample { question, trial, response, correct, tokens: 5, ..Sample::default() };
            samples += &format!("{}\n", serde_json::to_string(&sample).unwrap());
            trial += 1;
        }
        let (query, n_corrects) = (problem.prompt, accepted.min(24 / (question + 1)));
        stats += &format!(
            "{}\n",
            json!({"question": question, "query": query, "n_trials": 24, "n_corrects": n_corrects, "pass_rate": 0.0})
        );
    }
    let place = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Place::Data(vec![path.display().to_string()])
    };
    let inputs = vec![
        ("data", place("data.jsonl", &data)),
        ("pool", place("pool.jsonl", &samples)),
        ("pass", place("pass.jsonl", &stats)),
    ];
    (dir, inputs)
}

fn rows(path: PathBuf) -> Vec<Value> {
    jsonl::read(&path).unwrap().map(|row| row.unwrap().1).collect()
}

/// Allocates and curates; the folder of the set.
fn set(allocation: Value, curation: Value, out: &Path) -> Result<Vec<Value>> {
    let (_dir, mut inputs) = by_hand();
    let mut config = json!({"stats": "@pass", "n_max": 24});
    config.as_object_mut().unwrap().extend(allocation.as_object().unwrap().clone());
    alone(&Kind::of::<Allocate>(), &config, &inputs, 0, &out.join("targets"))?;
    inputs.push(("targets", Place::Stage(out.join("targets"))));
    let mut config = json!({"data": "@data", "samples": "@pool", "targets": "@targets"});
    config.as_object_mut().unwrap().extend(curation.as_object().unwrap().clone());
    alone(&Kind::of::<Curate>(), &config, &inputs, 0, &out.join("set"))?;
    Ok(rows(out.join("set/records.jsonl")))
}

#[test]
fn a_set_holds_verified_responses_and_lists_what_it_does_not_cover() {
    let out = tempfile::tempdir().unwrap();
    let records = set(json!({"rule": "uniform", "k": 3}), json!({"dedupe": false}), out.path()).unwrap();
    let problems = rows(by_hand().0.path().join("data.jsonl"));
    let chain = task("chain").unwrap();
    for r in &records {
        let question = r["question"].as_u64().unwrap() as usize;
        let problem: postgrad_tasks::Problem = serde_json::from_value(problems[question]["problem"].clone()).unwrap();
        assert!(chain.verify(&problem, r["completion"].as_str().unwrap()).correct);
        assert_eq!((&r["prompt"], &r["ref_ans"]), (&json!(problem.prompt), &json!(problem.answer)));
        assert_eq!((&r["correct"], &r["dataset"]), (&json!(true), &json!("chain")));
    }
    let measured = rows(out.path().join("set/questions.jsonl"));
    let figure = |q: usize, name: &str| measured[q]["metrics"][name].as_f64().unwrap();
    // Question q needs the trials 0, q + 1, 2 (q + 1); the last is never right and goes to the cap.
    for q in 0..9 {
        assert_eq!((figure(q, "kept"), figure(q, "trials")), (3.0, (2 * (q + 1) + 1) as f64), "{q}");
    }
    assert_eq!((figure(9, "kept"), figure(9, "covered"), figure(9, "trials")), (0.0, 0.0, 24.0));
    let sums = &rows(out.path().join("set/rows.jsonl"))[0]["metrics"];
    assert_eq!((&sums["records"], &sums["covered"], &sums["questions"]), (&json!(27), &json!(0.9), &json!(10)));
    assert_eq!((&sums["kept_steps_5"], &sums["covered_steps_5"]), (&json!(3.0), &json!(0.5)));
    assert!(sums.get("kept_digits_2").is_none(), "all questions have two digits");
    let uncovered = rows(out.path().join("set/uncovered.jsonl"));
    assert_eq!((uncovered.len(), &uncovered[0]["question"], &uncovered[0]["n_trials"]), (1, &json!(9), &json!(24)));
    // Question 0 says the same in trials 0 and 1.
    let out = tempfile::tempdir().unwrap();
    let distinct = set(json!({"rule": "uniform", "k": 3}), json!({}), out.path()).unwrap();
    assert_eq!(distinct.len(), records.len() - 1);
}

#[test]
fn sizes_are_fitted_and_equal_over_rules() {
    for rule in ["uniform", "prop2diff", "permuted", "easy"] {
        let out = tempfile::tempdir().unwrap();
        let fit = json!({"samples": "@pool", "size": 14, "dedupe": false});
        let curation = json!({"size": 14, "dedupe": false});
        let records = set(json!({"rule": rule, "fit": fit}), curation, out.path()).unwrap();
        assert_eq!(records.len(), 14, "{rule}");
        let k = rows(out.path().join("targets/fit.jsonl"))[0]["k"].as_u64().unwrap();
        // One less would not do.
        if k > 1 {
            let out = tempfile::tempdir().unwrap();
            let fewer = set(json!({"rule": rule, "k": k - 1}), json!({"dedupe": false}), out.path()).unwrap();
            assert!(fewer.len() < 14, "{rule} {k}");
        }
    }
    let out = tempfile::tempdir().unwrap();
    let too_many = json!({"rule": "uniform", "fit": {"samples": "@pool", "size": 1000}});
    assert_eq!(set(too_many, json!({}), out.path()).err().unwrap().exit_code(), 2);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let out = tempfile::tempdir().unwrap();
    // The pool ends after four right ones; vanilla rejection tuning wants 24 trials of every question.
    let e = set(json!({"rule": "vrt", "k": 24}), json!({}), out.path()).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("question 0"), "{e}");
    let (dir, mut inputs) = by_hand();
    let twice = json!({"data": "@data", "samples": ["@pool", "@pool"]});
    assert_eq!(alone(&Kind::of::<Curate>(), &twice, &inputs, 0, out.path()).err().unwrap().exit_code(), 2);
    let stats = std::fs::read_to_string(dir.path().join("pass.jsonl")).unwrap();
    let part: Vec<&str> = stats.lines().filter(|l| !l.contains("\"question\":4,")).collect();
    std::fs::write(dir.path().join("pass.jsonl"), part.join("\n")).unwrap();
    let e = alone(&Kind::of::<Allocate>(), &json!({"rule": "easy", "stats": "@pass"}), &inputs, 0, out.path());
    assert!(e.err().unwrap().to_string().contains("question 4"));
    inputs.retain(|(name, _)| *name != "pass");
    for bad in [
        json!({"rule": "best", "stats": "@pass"}),
        json!({"rule": "easy", "stats": "@pass", "k": 0}),
        json!({"rule": "easy", "stats": "@pass", "k": 1, "fit": {"samples": "@pool", "size": 1}}),
    ] {
        assert!((Kind::of::<Allocate>().resolve)(&bad).is_err(), "{bad}");
    }
}

#[test]
fn golden_runs() {
    let (_dir, mut inputs) = by_hand();
    let config = json!({"rule": "permuted", "stats": "@pass", "fit": {"samples": "@pool", "size": 9}});
    golden(&Kind::of::<Allocate>(), &config, &inputs, "02e6bdfc70858859");
    let out = tempfile::tempdir().unwrap();
    let config = json!({"rule": "prop2diff", "stats": "@pass", "k": 3, "n_max": 24});
    alone(&Kind::of::<Allocate>(), &config, &inputs, 0, out.path()).unwrap();
    inputs.push(("targets", Place::Stage(out.path().into())));
    let config = json!({"data": "@data", "samples": "@pool", "targets": "@targets", "size": 9});
    golden(&Kind::of::<Curate>(), &config, &inputs, "d8de0f0f1b07e605");
}
