//! Curricula against values worked out by hand, and on a learner without a model.

use std::collections::BTreeSet;

use postgrad_data::Place;
use postgrad_tasks::{Difficulty, Problem};
use serde_json::{Map, json};

use super::*;
use crate::rl::advantage::{Rewarded, even};
use crate::rl::{Estimator, Method};

fn at(drawn: u64, iteration: u64, iterations: u64) -> At {
    At { drawn, iteration, iterations }
}

/// `each` prompts of every category, one category after the other.
fn arms(categories: &[&str], each: usize, shuffle: bool, seed: u64) -> Arms {
    let labels = categories.iter().flat_map(|c| vec![vec![c.to_string()]; each]).collect();
    Arms::new(labels, shuffle, seed)
}

fn sec() -> Sec {
    Sec { by: vec!["c".into()], ..Sec::default() }
}

fn felt(prompt: usize, advantage: f64) -> Feedback {
    Feedback { prompt, reward: advantage, advantage: Some(advantage), spread: advantage, even: false }
}

fn close(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
}

#[test]
fn passes_are_the_shuffled_passes_of_before() {
    let mut p = Passes::new(7, 3);
    let mut drawn: Vec<usize> = (0..4).flat_map(|i| p.draw(at(i * 5, 0, 1), 5)).collect();
    // Drawn in one go, and as the trainer always did.
    assert_eq!(Passes::new(7, 3).draw(at(0, 0, 1), 20), drawn);
    let orders = Stream::new(3, &["data", "order"]);
    for pass in 0..2 {
        let mut order: Vec<usize> = (0..7).collect();
        orders.nth(pass).shuffle(&mut order);
        assert_eq!(drawn[pass as usize * 7..][..7], order);
    }
    drawn.truncate(7);
    assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>().len(), 7);
}

#[test]
fn probabilities_of_arms() {
    let q = [0.2, 0.9, 0.9, -0.1];
    let of = |choice, temperature| Sec { choice, temperature, ..sec() }.probabilities(&q);
    for temperature in [0.01f64, 0.2, 1.0, 100.0] {
        let p = of(Choice::Boltzmann, temperature);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|p| p.is_finite()), "{temperature}: {p:?}");
        assert_eq!(p[1], p[2]);
        let ratio = ((0.2 - 0.9) / temperature).exp();
        assert!((p[0] / p[1] - ratio).abs() < 1e-12);
    }
    close(&of(Choice::Normalized, 1.0), &[0.2 / 2.01, 0.9 / 2.01, 0.9 / 2.01, 0.01 / 2.01]);
    close(&of(Choice::Greedy, 1.0), &[0.025, 0.475, 0.475, 0.025]);
    close(&sec().probabilities(&[0.0; 4]), &[0.25; 4]);
}

#[test]
fn values_follow_what_arms_earn() {
    let bandit = |spec| Bandit::new(spec, arms(&["1", "2", "3"], 4, false, 0), 0);
    // A constant reward r comes to r (1 - (1 - rate)^n); an arm that is not drawn decays, or stays.
    let mut b = bandit(Sec { rate: 0.3, ..sec() });
    for _ in 0..6 {
        b.learn(&[felt(0, 0.6), felt(1, 1.0), felt(5, 0.5)]);
    }
    let share = 1.0 - 0.7f64.powi(6);
    close(b.values(), &[0.8 * share, 0.5 * share, 0.0]);
    let mut kept = bandit(Sec { rate: 0.3, absent: Absent::Keep, ..sec() });
    for b in [&mut b, &mut kept] {
        b.learn(&[felt(5, 0.5)]);
    }
    assert!((b.values()[0] - 0.7 * 0.8 * share).abs() < 1e-12 && kept.values()[0] == 0.0);
    kept.learn(&[felt(9, 1.0)]);
    close(kept.values(), &[0.0, 0.15, 0.3]);
    // Progress is a difference of mean rewards; the first stands against 0.
    let mut b = bandit(Sec { rate: 1.0, signal: Signal::Progress, ..sec() });
    b.learn(&[felt(0, 0.25), felt(4, 0.5)]);
    close(b.values(), &[0.25, 0.5, 0.0]);
    b.learn(&[felt(1, 0.75), felt(2, 0.25)]);
    close(b.values(), &[0.25, 0.0, 0.0]);
}

#[test]
fn groups_of_equal_rewards_earn_nothing() {
    let out = Feedback { prompt: 1, reward: 1.0, advantage: None, spread: 0.0, even: true };
    let kept = Feedback { prompt: 0, reward: 1.0, advantage: Some(3.0), spread: 0.0, even: true };
    let learnt = |spec: Sec, groups: &[Feedback]| {
        let mut b = Bandit::new(Sec { rate: 1.0, ..spec }, arms(&["1", "2"], 2, false, 0), 0);
        b.learn(groups);
        b.values()[0]
    };
    let all = [felt(0, 0.6), out, kept];
    // Honestly: those without variance are of the arm too, drawn and left out, or given an advantage without meaning.
    assert!((learnt(sec(), &all) - 0.2).abs() < 1e-12);
    assert_eq!(learnt(sec(), &[out, kept]), 0.0);
    // As the estimator says, of what the update saw.
    let free = Sec { count_even: false, ..sec() };
    assert!((learnt(free.clone(), &all) - 1.8).abs() < 1e-12);
    assert_eq!(learnt(free, &[out]), 0.0, "an arm whose groups were all left out is absent");
}

/// Mean |advantage| of a group of `k` right answers among 8.
fn magnitude(e: &Estimator, k: usize) -> (f64, Vec<f64>) {
    let rewards: Vec<f64> = (0..8).map(|i| f64::from(u8::from(i < k))).collect();
    let a = e.of(&Rewarded {
        rewards: &rewards,
        group: &[0; 8],
        lengths: &[1; 8],
        penalty: None,
        values: None,
        repeated: &[false; 8],
        channels: &[],
    });
    (a.tokens.iter().map(|t| t[0].abs()).sum::<f64>() / 8.0, rewards)
}

#[test]
fn an_arm_earns_most_where_half_is_right() {
    let grpo = Method::grpo().estimator;
    for k in 0..=8 {
        let p = k as f64 / 8.0;
        let population = 2.0 * (p * (1.0 - p)).sqrt();
        let plain = Estimator { sample_std: false, eps: 0.0, ..grpo };
        if k > 0 && k < 8 {
            assert!((magnitude(&plain, k).0 - population).abs() < 1e-12);
        }
        // GRPO's own deviation divides by n - 1, and has an epsilon.
        let deviation = (p * (1.0 - p) * 8.0 / 7.0).sqrt();
        assert!((magnitude(&grpo, k).0 - 2.0 * p * (1.0 - p) / (deviation + 1e-4)).abs() < 1e-12);
    }
    assert_eq!((magnitude(&grpo, 0).0, magnitude(&grpo, 8).0), (0.0, 0.0));
}

#[test]
fn a_refilled_arm_gives_every_item_once_a_cycle() {
    let mut a = arms(&["x", "y"], 5, false, 9);
    let drawn: Vec<usize> = (0..15).map(|_| a.next(1)).collect();
    for cycle in drawn.chunks(5) {
        assert_eq!(cycle.iter().copied().collect::<BTreeSet<_>>(), (5..10).collect());
    }
    assert!(drawn[..5] != drawn[5..10] || drawn[5..10] != drawn[10..]);
    // Restored in the middle of a cycle it goes on.
    let mut again = arms(&["x", "y"], 5, false, 9);
    (0..7).for_each(|_| _ = again.next(1));
    let state = again.state();
    let mut third = arms(&["x", "y"], 5, false, 9);
    third.restore(&state).unwrap();
    assert_eq!((0..8).map(|_| third.next(1)).collect::<Vec<_>>(), drawn[7..]);
    assert!(arms(&["x"], 5, false, 9).restore(&state).is_err());
}

fn prompt(steps: Option<i64>, level: &str) -> Prompt {
    let mut columns = Map::new();
    columns.insert("level".into(), json!(level));
    columns.insert("list".into(), json!([1]));
    let problem = steps.map(|steps| {
        let mut d = Difficulty::default();
        d.0.insert("steps".into(), steps);
        Problem::new("chain", "q".into(), "1".into(), &d, "q")
    });
    Prompt {
        ids: vec![1],
        text: "q".into(),
        messages: vec![],
        problem,
        reference: None,
        columns,
        place: Place { line: 3, ..Place::default() },
    }
}

#[test]
fn joint_categories_enumerate_the_product() {
    let all: Vec<Prompt> =
        [10, 2].iter().flat_map(|s| ["b", "a"].map(|l| prompt(Some(*s), l))).cycle().take(8).collect();
    let by = ["steps".to_string(), "level".to_string()];
    let a = Arms::new(labels(&all, &by).unwrap(), false, 0);
    assert_eq!(a.names(), ["2-a", "2-b", "10-a", "10-b"], "numbers by value");
    assert_eq!((0..4).map(|i| a.arm_of(i)).collect::<Vec<_>>(), [3, 2, 1, 0]);
    let task = Arms::new(labels(&all, &["task".to_string()]).unwrap(), false, 0);
    assert_eq!(task.names(), ["chain"]);
}

#[test]
fn what_is_missing_is_named() {
    let e = labels(&[prompt(Some(2), "a")], &["step".into()]).unwrap_err();
    let text = e.to_string();
    assert!(
        e.exit_code() == 2 && text.contains("unknown column `step`") && text.contains("did you mean `steps`"),
        "{text}"
    );
    assert!(text.contains("known: level, steps, task"), "{text}");
    for (spec, said) in [
        ("sec", "names no column"),
        ("ordered?reverse", "names no column"),
        ("sek?by=steps", "unknown curriculum"),
        ("sec?by=steps&rat=1", "unknown setting of the curriculum `sec`"),
        ("sec?by=steps&rate=0", "rate must be above 0"),
        ("sec?by=steps&rate=x", "is not a number"),
        ("sec?by=steps&temperature=0", "temperature must be above 0"),
        ("sec?by=steps&epsilon=2", "epsilon"),
        ("sec?by=steps&choice=softmax", "boltzmann"),
        ("sec?by=steps&count_even=maybe", "neither true nor false"),
        ("passes?by=steps", "unknown setting"),
    ] {
        let e = CurriculumSpec::parse(spec).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains(said), "{spec}: {e}");
    }
    let words = CurriculumSpec::parse("ordered?by=level").unwrap();
    let e = words.over(&[prompt(None, "hard"), prompt(None, "easy")], 0).err().unwrap();
    assert!(e.to_string().contains("order=easy,hard"), "{e}");
    let e = CurriculumSpec::parse("ordered?by=level&order=easy").unwrap();
    assert!(e.over(&[prompt(None, "hard"), prompt(None, "easy")], 0).err().unwrap().to_string().contains("lacks"));
}

#[test]
fn settings_are_read_from_a_line_and_from_a_file() {
    let spec = CurriculumSpec::parse("sec?by=steps,level&rate=0.25&temperature=0.4&choice=greedy&absent=keep").unwrap();
    let want = Sec {
        by: vec!["steps".into(), "level".into()],
        rate: 0.25,
        temperature: 0.4,
        choice: Choice::Greedy,
        absent: Absent::Keep,
        ..Sec::default()
    };
    assert_eq!(spec, CurriculumSpec::Sec(want));
    for spec in [spec, CurriculumSpec::Passes, CurriculumSpec::parse("ordered?by=steps&reverse").unwrap()] {
        let back: CurriculumSpec = serde_json::from_value(json!(spec)).unwrap();
        assert_eq!(back, spec);
    }
    let short: CurriculumSpec = serde_json::from_value(json!({"sec": {"by": ["steps"]}})).unwrap();
    assert_eq!(short, CurriculumSpec::parse("sec?by=steps").unwrap());
    assert!(serde_json::from_value::<CurriculumSpec>(json!({"sec": {"by": [], "tau": 1}})).is_err());
}

#[test]
fn categories_in_order_have_equal_shares_of_the_run() {
    let all: Vec<Prompt> = (0..30).map(|i| prompt(Some([10, 1, 5][i % 3]), "a")).collect();
    let turns = |spec: &str| -> Vec<String> {
        let mut c = CurriculumSpec::parse(spec).unwrap().over(&all, 4).unwrap();
        let steps = |i: usize| all[i].problem.as_ref().unwrap().difficulty.0["steps"].to_string();
        (0..9)
            .map(|i| {
                let drawn: BTreeSet<String> = c.draw(at(i * 4, i, 9), 4).into_iter().map(steps).collect();
                drawn.into_iter().collect::<Vec<_>>().join("+")
            })
            .collect()
    };
    let easy = ["1", "1", "1", "5", "5", "5", "10", "10", "10"];
    assert_eq!(turns("ordered?by=steps"), easy);
    assert_eq!(turns("ordered?by=steps&reverse"), easy.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(turns("ordered?by=steps&order=5,1,10")[..4], ["5", "5", "5", "1"]);
    assert!(turns("ordered?by=steps&shuffle_labels").iter().any(|t| t.contains('+')));
}

#[test]
fn a_bandit_repeats_goes_on_and_logs() {
    let new = |seed| Bandit::new(sec(), arms(&["1", "2"], 6, false, seed), seed);
    let run = |b: &mut Bandit, from: u64, n: u64| -> Vec<Vec<usize>> {
        (from..from + n)
            .map(|i| {
                let drawn = b.draw(at(i * 5, i, 10), 5);
                b.learn(&drawn.iter().map(|p| felt(*p, 0.1 + *p as f64 / 7.0)).collect::<Vec<_>>());
                drawn
            })
            .collect()
    };
    let (mut a, mut b) = (new(2), new(2));
    let whole = run(&mut a, 0, 9);
    assert_eq!(run(&mut b, 0, 4), whole[..4]);
    let mut c = new(2);
    c.restore(&serde_json::from_str(&b.state().to_string()).unwrap()).unwrap();
    assert_eq!(run(&mut c, 4, 5), whole[4..]);
    assert!(c.values().iter().zip(a.values()).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_ne!(run(&mut new(3), 0, 9), whole);
    let figures = a.figures(&[felt(0, 0.5), felt(1, 1.0)]);
    let of = |name: &str| figures.iter().find(|f| f.0 == name).map(|f| f.1);
    assert_eq!(
        (of("arm.1.n"), of("arm.2.n"), of("arm.1.reward"), of("arm.2.reward")),
        (Some(2.0), Some(0.0), Some(0.75), None)
    );
    assert_eq!((of("arm.2.q"), of("arm.2.p")), (Some(a.values()[1]), Some(a.probabilities()[1])));
    assert!(of("arm.1.left").is_some_and(|n| (1.0..=6.0).contains(&n)));
}

// A learner without a model: a prompt of category c is answered right with probability 1 / (1 + e^(2 (c - skill))), and skill
// grows with p (1 - p) of what is practised.

const CATEGORIES: [&str; 5] = ["1", "2", "3", "4", "5"];
const SIM_BATCH: usize = 16;

/// Steps until the skill reaches the hardest category, and the arm that was likeliest at each.
fn practise(curriculum: &mut dyn Curriculum, planned: u64, seed: u64, constant: bool) -> (u64, Vec<usize>) {
    let estimator = Method::grpo().estimator;
    let table: Vec<f64> = (0..=8).map(|k| magnitude(&estimator, k).0).collect();
    let mut luck = Stream::new(seed, &["sample", "practice"]);
    let (mut skill, mut best) = (0.5, vec![]);
    for step in 0..2000 {
        if skill >= 5.0 {
            return (step, best);
        }
        let chosen = curriculum.draw(at(step * SIM_BATCH as u64, step, planned), SIM_BATCH);
        let (mut groups, mut gain) = (vec![], 0.0);
        for prompt in chosen {
            let c = (prompt / 100 + 1) as f64;
            let p = 1.0 / (1.0 + (2.0 * (c - skill)).exp());
            let k = if constant { 8 } else { (0..8).filter(|_| luck.chance(p)).count() };
            let rewards: Vec<f64> = (0..8).map(|i| f64::from(u8::from(i < k))).collect();
            let (reward, even) = (k as f64 / 8.0, even(&rewards));
            groups.push(Feedback { prompt, reward, advantage: Some(table[k]), spread: 0.0, even });
            gain += p * (1.0 - p);
        }
        skill += 0.3 * gain / SIM_BATCH as f64;
        let figures = curriculum.figures(&groups);
        let p: Vec<f64> = figures.iter().filter(|f| f.0.ends_with(".p")).map(|f| f.1).collect();
        best.extend((0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b])));
        curriculum.learn(&groups);
    }
    (2000, best)
}

fn bandit(spec: Sec, seed: u64) -> Bandit {
    let shuffle = spec.shuffle_labels;
    Bandit::new(spec, arms(&CATEGORIES, 100, shuffle, seed), seed)
}

fn mean(x: &[u64]) -> f64 {
    x.iter().sum::<u64>() as f64 / x.len() as f64
}

#[test]
fn the_bandit_learns_in_fewer_steps_than_chance_and_than_a_wrong_schedule() {
    let spec = Sec { temperature: 0.2, ..sec() };
    let seeds = 0..8u64;
    let (mut sec, mut uniform, mut slow, mut reverse) = (vec![], vec![], vec![], vec![]);
    // The likeliest arm in each fourth of the run, over all seeds.
    let mut likeliest = [0.0; 4];
    for seed in seeds {
        let (steps, best) = practise(&mut bandit(spec.clone(), seed), 1, seed, false);
        for (i, arm) in best.iter().enumerate() {
            let part = i * 4 / best.len();
            likeliest[part] += *arm as f64 / (best.len() as f64 / 4.0);
        }
        sec.push(steps);
        uniform.push(practise(&mut Passes::new(500, seed), 1, seed, false).0);
        let ordered = |reverse, planned| {
            let spec = Ordered { by: vec!["c".into()], reverse, ..Ordered::default() };
            practise(&mut InOrder::new(spec, arms(&CATEGORIES, 100, false, seed)).unwrap(), planned, seed, false).0
        };
        slow.push(ordered(false, 3 * steps));
        reverse.push(ordered(true, steps));
    }
    let shown = [&sec, &uniform, &slow, &reverse].map(|x| mean(x));
    assert!(shown[1..].iter().all(|other| shown[0] < 0.9 * other), "steps of sec, uniform, slow, reverse: {shown:?}");
    assert!(likeliest.windows(2).all(|w| w[0] < w[1]), "from easy to hard: {likeliest:?}");
}

#[test]
fn shuffled_labels_are_chance_and_equal_rewards_leave_arms_uniform() {
    let spec = Sec { temperature: 0.2, shuffle_labels: true, ..sec() };
    let steps = |f: &dyn Fn(u64) -> u64| mean(&(0..8).map(f).collect::<Vec<_>>());
    let shuffled = steps(&|seed| practise(&mut bandit(spec.clone(), seed), 1, seed, false).0);
    let uniform = steps(&|seed| practise(&mut Passes::new(500, seed), 1, seed, false).0);
    assert!((shuffled / uniform - 1.0).abs() < 0.1, "{shuffled} {uniform}");
    let mut b = bandit(Sec { temperature: 0.2, ..sec() }, 1);
    practise(&mut b, 1, 1, true);
    assert_eq!(b.probabilities(), [0.2; 5]);
}
