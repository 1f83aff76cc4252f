use super::*;
use crate::verify::Check;

/// Right with the question's probability, by the trial's own stream.
fn coin(p: &[f64]) -> impl Fn(&Ask) -> Vec<Sample> + '_ {
    let stream = Stream::new(4, &["sample"]);
    move |ask| {
        let one = |trial| {
            let mut own = stream.nth(ask.question as u64).nth(trial as u64);
            let correct = own.chance(p[ask.question]);
            Sample { question: ask.question, trial, correct, tokens: 1 + own.below(9), ..Sample::default() }
        };
        ask.trials.clone().map(one).collect()
    }
}

/// Runs a pool in `dir`, killed after `kill` samples; trials of a round come in a scrambled order.
fn rolled(dir: &Path, pool: &[(usize, StopRule)], p: &[f64], batch: usize, kill: usize) -> Result<Vec<Tally>> {
    let mut log = Log::open(&dir.join("part"))?;
    let coin = coin(p);
    let mut left = kill;
    let tallies = run(
        pool,
        batch,
        &mut log,
        |asks, give| {
            let mut all: Vec<Sample> = asks.iter().flat_map(&coin).collect();
            Stream::new(left as u64, &["order"]).shuffle(&mut all);
            for sample in all {
                left = left.checked_sub(1).ok_or_else(Error::cancelled)?;
                give(sample)?;
            }
            Ok(())
        },
        |_| (),
    )?;
    log.finish(&dir.join("samples.jsonl"))?;
    Ok(tallies)
}

const P: [f64; 6] = [0.9, 0.5, 0.1, 1.0, 0.0, 0.3];

fn pool() -> Vec<(usize, StopRule)> {
    (0..P.len()).map(|q| (q, StopRule { target: Some(3 + q % 2), cap: 22 })).collect()
}

#[test]
fn a_killed_pool_goes_on_and_ends_in_the_same_rows() {
    let whole = tempfile::tempdir().unwrap();
    let want = rolled(whole.path(), &pool(), &P, 4, usize::MAX).unwrap();
    let rows = std::fs::read(whole.path().join("samples.jsonl")).unwrap();
    let trials: usize = want.iter().map(Tally::trials).sum();
    for kill in [0, 1, 5, 23, 24, 25, trials - 1] {
        let dir = tempfile::tempdir().unwrap();
        assert!(rolled(dir.path(), &pool(), &P, 4, kill).is_err());
        assert!(!dir.path().join("samples.jsonl").exists());
        // The kill tore the last line.
        let mut part = File::options().append(true).open(dir.path().join("part")).unwrap();
        part.write_all(b"{\"question\":5,\"tri").unwrap();
        assert_eq!(rolled(dir.path(), &pool(), &P, 4, usize::MAX).unwrap(), want, "killed after {kill}");
        assert!(std::fs::read(dir.path().join("samples.jsonl")).unwrap() == rows, "killed after {kill}");
        assert!(!dir.path().join("part").exists());
    }
}

#[test]
fn a_question_leaves_after_the_batch_that_meets_its_rule() {
    let dir = tempfile::tempdir().unwrap();
    let tallies = rolled(dir.path(), &pool(), &P, 4, usize::MAX).unwrap();
    let samples: Vec<Sample> =
        jsonl::read(&dir.path().join("samples.jsonl")).unwrap().map(|row| row.unwrap().1).collect();
    for ((question, rule), tally) in pool().iter().zip(&tallies) {
        let own: Vec<&Sample> = samples.iter().filter(|s| s.question == *question).collect();
        assert!(own.iter().enumerate().all(|(i, s)| s.trial == i), "every trial once, in order");
        assert_eq!((own.len(), own.iter().filter(|s| s.correct).count()), (tally.trials(), tally.accepted));
        assert!(rule.met(tally.trials(), tally.accepted) && tally.trials() <= rule.cap);
        let before = tally.trials().saturating_sub(1) / 4 * 4;
        let then = own[..before].iter().filter(|s| s.correct).count();
        assert!(!rule.met(before, then), "question {question} should have left earlier");
    }
    assert_eq!((tallies[3].trials(), tallies[3].accepted), (4, 4), "always right: one batch");
    assert_eq!((tallies[4].trials(), tallies[4].accepted), (22, 0), "never right: the cap");
    // Nothing is made where nothing is wanted.
    let none = [(0, StopRule { target: Some(0), cap: 9 }), (1, StopRule { target: Some(1), cap: 0 })];
    let dir = tempfile::tempdir().unwrap();
    assert!(rolled(dir.path(), &none, &P, 4, usize::MAX).unwrap().iter().all(|t| t.trials() == 0));
}

#[test]
fn shards_make_the_rows_of_the_whole() {
    let whole = tempfile::tempdir().unwrap();
    rolled(whole.path(), &pool(), &P, 4, usize::MAX).unwrap();
    let mut rows = Vec::new();
    for index in 1..=4 {
        let shard: Shard = format!("{index}/4").parse().unwrap();
        let part: Vec<_> = pool().into_iter().filter(|(q, _)| shard.has(*q)).collect();
        let dir = tempfile::tempdir().unwrap();
        rolled(dir.path(), &part, &P, 4, usize::MAX).unwrap();
        rows.extend(std::fs::read_to_string(dir.path().join("samples.jsonl")).unwrap().lines().map(String::from));
        // A log of one shard is not another's.
        std::fs::rename(dir.path().join("samples.jsonl"), dir.path().join("part")).unwrap();
        let other: Vec<_> = pool().into_iter().filter(|(q, _)| !shard.has(*q)).collect();
        assert!(rolled(dir.path(), &other, &P, 4, usize::MAX).is_err());
    }
    let mut want: Vec<String> =
        std::fs::read_to_string(whole.path().join("samples.jsonl")).unwrap().lines().map(String::from).collect();
    rows.sort();
    want.sort();
    assert_eq!(rows, want);
    for bad in ["0/4", "5/4", "1", "a/b", "1/0", ""] {
        assert_eq!(bad.parse::<Shard>().unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn broken_logs_are_named_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let line = serde_json::to_string(&Sample::default()).unwrap();
    for (text, what) in [("{}\n", "part:1"), (&format!("{line}\n{line}\n"), "twice")] {
        std::fs::write(dir.path().join("part"), text).unwrap();
        let e = rolled(dir.path(), &pool(), &P, 4, usize::MAX).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    }
}

fn model() -> ModelFolder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
    ModelFolder::load(&dir).unwrap()
}

#[test]
fn a_models_trials_do_not_depend_on_batches_and_places() {
    let model = model();
    let ids = |t: &str| model.renderer.tokenizer().encode(t).unwrap();
    let prompts = [ids("What is 2+3?"), ids("Tom has 3"), ids("Say")];
    let verifier =
        Verifier::new(vec![Check::Gold("3".into()), Check::Gold("a".into()), Check::Gold("x".into())]).unwrap();
    let made = |batch: usize, places: usize| {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options { places, stop: vec!["e".into()], ..Options::greedy(8) };
        options.rules.temperature = 1.2;
        let stream = Stream::new(3, &["sample"]);
        let sampler = Sampler {
            model: &model,
            prompts: &prompts,
            verifier: &verifier,
            options: &options,
            stream,
            flexible: true,
        };
        let pool: Vec<_> = (0..3).map(|q| (q, StopRule { target: None, cap: 5 + q })).collect();
        let mut log = Log::open(&dir.path().join("part")).unwrap();
        run(&pool, batch, &mut log, |asks, give| sampler.draw(asks, &Cancel::new(), give), |_| ()).unwrap();
        log.finish(&dir.path().join("samples.jsonl")).unwrap();
        std::fs::read_to_string(dir.path().join("samples.jsonl")).unwrap()
    };
    let rows = made(1, 1);
    assert_eq!(rows.lines().count(), 5 + 6 + 7);
    assert_eq!(rows, made(3, 4));
    assert_eq!(rows, made(64, 64));
    let samples: Vec<Sample> = rows.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for s in &samples {
        let verdict = verifier.verify(s.question, &s.response);
        assert_eq!(s.correct, verdict.flexible && !s.truncated);
        assert!(s.behaviour <= 0.0 && s.log_prob < 0.0 && !s.response.contains('e'));
    }
    let different: std::collections::BTreeSet<&String> = samples.iter().map(|s| &s.response).collect();
    assert!(different.len() > 9, "trials have streams of their own");
}
