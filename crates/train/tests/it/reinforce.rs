//! The on-policy trainer: every method learns, runs go on to the bit, runs that cannot learn stop.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use postgrad_base::cancel::Cancel;
use postgrad_base::event::{Event, Memory, Sink};
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Kind, Result};
use postgrad_data::{Example, Message, Place};
use postgrad_nn::Decoder;
use postgrad_nn::schedule::Decay;
use postgrad_reason::ModelFolder;
use postgrad_train::prompts::Prompt;
use postgrad_train::rewards::{Function, Reward, Rewards, Said, Sample};
use postgrad_train::rl::settings::NAMES;
use postgrad_train::rl::{CurriculumSpec, Extras, Method, OnPolicy, Shares, Supervised, total_steps};
use postgrad_train::run_dir::{RunDir, places};
use postgrad_train::source::InMemory;
use postgrad_train::{Checkpoints, Outcome, Settings, Sft};
use serde_json::{Map, Value, json};

use crate::DiesAt;

fn model() -> ModelFolder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
    let mut m = ModelFolder::load(&dir).unwrap();
    m.decoder.weights.train(|_| true);
    m
}

fn bits(d: &Decoder) -> Vec<u32> {
    d.params().iter().flat_map(|p| p.value().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
}

fn prompts(m: &ModelFolder, n: usize) -> Vec<Prompt> {
    (0..n)
        .map(|i| {
            let text = format!("What is {i}+2?");
            Prompt {
                ids: m.renderer.tokenizer().encode(&text).unwrap(),
                messages: vec![Message::new("user", text.clone())],
                text,
                problem: None,
                reference: None,
                columns: Map::from_iter([("level".to_string(), json!(i % 3))]),
                place: Place::default(),
            }
        })
        .collect()
}

/// The share of a completion's tokens whose id is even.
fn even_tokens(s: &Sample) -> Option<f64> {
    Some(s.tokens.iter().filter(|t| **t % 2 == 0).count() as f64 / s.tokens.len().max(1) as f64)
}

fn settings() -> Settings {
    Settings {
        steps: Some(8),
        batch: 4,
        micro_tokens: 200,
        lr: 5e-3,
        checkpoints: Checkpoints::Every(2),
        ..Settings::full()
    }
}

fn method(name: &str) -> Method {
    let m = Method { group: 4, max_tokens: 6, ..Method::named(name).unwrap() };
    if name == "ppo" { m.settle() } else { Method { group: 6, ..m }.settle() }
}

struct Job<'a> {
    method: Method,
    settings: Settings,
    reward: Box<dyn Reward>,
    second: Option<Box<dyn Reward>>,
    dir: Option<&'a Path>,
    cancel: Cancel,
    shuffle: bool,
    guard: bool,
}

impl Job<'_> {
    fn new(name: &str) -> Self {
        Self {
            method: method(name),
            settings: settings(),
            reward: Box::new(Function("even".into(), even_tokens)),
            second: None,
            dir: None,
            cancel: Cancel::new(),
            shuffle: false,
            guard: false,
        }
    }

    fn run(self, model: &ModelFolder, sink: &mut dyn Sink) -> Result<(Outcome, Shares)> {
        self.run_with(model, sink, Extras::default())
    }

    fn run_with(self, model: &ModelFolder, sink: &mut dyn Sink, extras: Extras) -> Result<(Outcome, Shares)> {
        let dir = self.dir.map(RunDir::open).transpose()?;
        let mut rewards =
            Rewards::new([Some(self.reward), self.second].into_iter().flatten().map(|r| (r, 1.0)).collect());
        OnPolicy {
            model,
            settings: &self.settings,
            method: &self.method,
            prompts: &prompts(model, 10),
            rewards: &mut rewards,
            exam: None,
            shuffle_rewards: self.shuffle,
            guard: self.guard,
            sink,
            cancel: self.cancel,
            progress: Mode::Quiet,
            dir: dir.as_ref(),
            extras,
        }
        .run()
    }
}

/// The same reward twice, each half; perhaps with discounts of their own, perhaps at every token.
struct Half(&'static str, Option<f64>, bool);

impl Reward for Half {
    fn name(&self) -> &str {
        self.0
    }

    fn gamma(&self) -> Option<f64> {
        self.1
    }

    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
        let each = |s: &Sample| match self.2 {
            false => Said::from(even_tokens(s).map(|r| r / 2.0)),
            true => {
                let share = 0.5 / s.tokens.len() as f64;
                let tokens = s.tokens.iter().map(|t| if t % 2 == 0 { share } else { 0.0 }).collect();
                Said { tokens, ..Said::default() }
            }
        };
        Ok(samples.iter().map(each).collect())
    }
}

fn run_halves(name: &str, gammas: [Option<f64>; 2], dense: bool, shuffle: bool) -> (Vec<u32>, Vec<f64>) {
    let (m, mut events) = (model(), Memory::default());
    let reward = Box::new(Half("a", gammas[0], dense));
    let job = Job { reward, second: Some(Box::new(Half("b", gammas[1], false))), shuffle, ..Job::new(name) };
    job.run(&m, &mut events).unwrap();
    (bits(&m.decoder), figures(&events, "reward"))
}

#[test]
fn discounts_and_values_at_tokens_reach_the_update() {
    for name in ["reinforce++", "ppo"] {
        let none = run_halves(name, [None, None], false, false);
        assert!(
            run_halves(name, [Some(1.0), Some(1.0)], false, false) == none,
            "{name}: the estimator's discount is 1"
        );
        let (dense, _) = run_halves(name, [None, None], true, false);
        assert!(dense != none.0, "{name}: where a reward falls matters");
    }
    let own = run_halves("reinforce++", [Some(0.5), None], false, false);
    assert!(own.0 != run_halves("reinforce++", [None, None], false, false).0);
    // A group baseline takes the sum: halves at tokens differ from halves at the end by rounding alone.
    let (a, b) =
        (run_halves("grpo", [None, None], true, false).1, run_halves("grpo", [None, Some(1.0)], false, false).1);
    assert!((a[0] - b[0]).abs() < 1e-9, "{a:?} {b:?}");
    // The control deals whole samples' rewards out, to the last tokens.
    let shuffled = run_halves("reinforce++", [None, None], false, true);
    assert!(run_halves("reinforce++", [Some(1.0), None], false, true) == shuffled);
}

/// All that was sampled is learned from, the token that ends an answer too, and nothing of the prompt.
#[test]
fn the_tokens_that_count_are_those_that_were_sampled() {
    let (m, mut events) = (model(), Memory::default());
    let end = m.end_ids();
    // Its sign says whether a sample ends as it claims to.
    let length = move |s: &Sample| {
        let ends = s.tokens.last().is_some_and(|t| end.contains(t));
        Some(s.tokens.len() as f64 * if ends != s.truncated { 1.0 } else { -1000.0 })
    };
    let job = Job { reward: Box::new(Function("length".into(), length)), ..Job::new("ppo") };
    job.run(&m, &mut events).unwrap();
    let [rewards, lengths] = ["reward", "length"].map(|f| figures(&events, f));
    assert!(!rewards.is_empty() && rewards == lengths, "{rewards:?} {lengths:?}");
}

fn figures(events: &Memory, field: &str) -> Vec<f64> {
    let all = events.0.lock().unwrap();
    all.iter().filter(|e| e.kind == "step").filter_map(|e| e.fields.get(field).and_then(Value::as_f64)).collect()
}

#[test]
fn every_method_lifts_its_reward() {
    for (name, _) in NAMES {
        let m = model();
        let mut job = Job::new(name);
        if name == "expert-iteration" {
            job.reward =
                Box::new(Function("even".into(), |s: &Sample| Some(f64::from(u8::from(even_tokens(s)? > 0.6)))));
        }
        if name == "ppo" {
            job.settings.batch = 24;
        }
        // Clips of GSPO are made for small learning rates; one update has a ratio of 1.
        (job.settings.steps, job.settings.lr) = (Some(20 * job.method.updates()), 1e-2);
        let mut events = Memory::default();
        let (outcome, shares) = job.run(&m, &mut events).unwrap();
        let r = figures(&events, "reward");
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let (first, last) = (mean(&r[..3]), mean(&r[r.len() - 3..]));
        assert!(last > first + 0.1, "{name}: {r:?}");
        assert!(outcome.tokens > 0 && shares.rollout > 0.0 && shares.update > 0.0);
    }
}

#[test]
fn shuffled_rewards_are_the_same_rewards_and_teach_nothing() {
    let m = model();
    let mut events = Memory::default();
    let mut job = Job { shuffle: true, ..Job::new("dr-grpo") };
    job.settings.steps = Some(16);
    job.run(&m, &mut events).unwrap();
    let r = figures(&events, "reward");
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    assert!((mean(&r[r.len() - 5..]) - mean(&r[..5])).abs() < 0.1, "{r:?}");
    assert_eq!(figures(&events, "reward.even").iter().zip(&r).filter(|(a, b)| (*a - *b).abs() > 1e-9).count(), 0);
}

/// Counts its calls, as a reward with a state of its own, and may die at one.
struct Counting {
    calls: u64,
    dies: Option<u64>,
}

impl Reward for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
        self.calls += 1;
        if Some(self.calls) == self.dies {
            return Err(Error::work("the reward broke"));
        }
        // What it gives depends on what it remembers.
        let bonus = self.calls as f64 / 10.0;
        let each = |s: &Sample| Said::from(even_tokens(s).map(|r| r * (1.0 + bonus)));
        Ok(samples.iter().map(each).collect())
    }

    fn state(&self) -> Value {
        json!(self.calls)
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.calls = state.as_u64().unwrap_or(0);
        Ok(())
    }
}

/// Several updates an iteration, so that a kill falls between two.
fn counting<'a>(name: &str, dies: Option<u64>, dir: Option<&'a Path>) -> Job<'a> {
    let mut j = Job { reward: Box::new(Counting { calls: 0, dies }), dir, ..Job::new(name) };
    (j.method.epochs, j.method.minibatches) = (2, 2);
    j.settings.steps = Some(16);
    j.settings.checkpoints = Checkpoints::Every(8);
    j
}

#[test]
fn a_run_killed_while_sampling_or_updating_ends_in_the_same_bits() {
    for name in ["grpo", "ppo", "dapo"] {
        let whole = model();
        let mut events = Memory::default();
        counting(name, None, None).run(&whole, &mut events).unwrap();
        let losses = figures(&events, "loss");
        // In the reward of the third rollout (samples are drawn then); after the second and the seventh update.
        for (dies, step) in [(Some(3), 99), (None, 2), (None, 7)] {
            let folder = tempfile::tempdir().unwrap();
            let died = counting(name, dies, Some(folder.path())).run(&model(), &mut DiesAt(step));
            assert!(died.is_err());
            let again = model();
            let mut rest = Memory::default();
            counting(name, None, Some(folder.path())).run(&again, &mut rest).unwrap();
            assert!(bits(&again.decoder) == bits(&whole.decoder), "{name}: reward {dies:?}, step {step}");
            let rest = figures(&rest, "loss");
            assert_eq!(rest, losses[losses.len() - rest.len()..]);
        }
    }
}

#[test]
fn a_broken_reward_and_a_stop_lose_no_finished_iteration() {
    let folder = tempfile::tempdir().unwrap();
    let broken = Job {
        reward: Box::new(Counting { calls: 0, dies: Some(4) }),
        dir: Some(folder.path()),
        settings: Settings { checkpoints: Checkpoints::LastOnly, ..settings() },
        ..Job::new("grpo")
    };
    let e = broken.run(&model(), &mut Memory::default()).unwrap_err();
    assert!(e.to_string().contains("the reward broke"));
    assert_eq!(places(folder.path()).unwrap().last().unwrap().step, 3);

    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let (seen, asked) = (AtomicU64::new(0), cancel.clone());
    let stops = move |s: &Sample| {
        if s.step == 2 && seen.fetch_add(1, Ordering::Relaxed) == 0 {
            asked.cancel();
        }
        even_tokens(s)
    };
    let job =
        Job { reward: Box::new(Function("stops".into(), stops)), dir: Some(folder.path()), cancel, ..Job::new("grpo") };
    assert_eq!(job.run(&model(), &mut Memory::default()).unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(places(folder.path()).unwrap().last().unwrap().step, 3, "the iteration is finished first");
}

#[test]
fn equal_rewards_change_no_bit_and_stop_the_run() {
    let m = model();
    let before = bits(&m.decoder);
    let constant = || Box::new(Function("constant".into(), |_: &Sample| Some(0.3)));
    let mut events = Memory::default();
    let mut job = Job { reward: constant(), ..Job::new("dr-grpo") };
    job.settings.weight_decay = 0.1;
    job.run(&m, &mut events).unwrap();
    assert!(bits(&m.decoder) == before, "nothing pulls, nothing moves, decay neither");
    assert!(figures(&events, "even_groups").iter().all(|e| *e == 1.0));
    let mut job = Job { reward: constant(), guard: true, ..Job::new("dr-grpo") };
    job.settings.steps = Some(30);
    // A model that ends its answers.
    let mut m = model();
    m.generation.eos = (0..640).step_by(2).collect();
    let e = job.run(&m, &mut Memory::default()).unwrap_err();
    assert!(e.exit_code() == 1 && e.to_string().contains("100% of the groups of the first 10"), "{e}");
}

#[test]
fn a_model_that_never_ends_its_answers_is_told_so() {
    let mut job = Job { guard: true, ..Job::new("grpo") };
    job.settings.steps = Some(30);
    job.method.max_tokens = 1;
    let e = job.run(&model(), &mut Memory::default()).unwrap_err().to_string();
    assert!(e.contains("cut off at 1 tokens") && e.contains("--max-tokens"), "{e}");
}

#[test]
fn dynamic_sampling_fills_up_with_groups_that_differ() {
    let mut job = Job::new("dapo");
    // Only some groups have variance: the reward looks at a rare token.
    job.reward =
        Box::new(Function("rare".into(), |s: &Sample| Some(f64::from(u8::from(s.tokens.iter().any(|t| t % 37 == 0))))));
    job.method.dynamic_rounds = 30;
    job.settings.steps = Some(3);
    let mut events = Memory::default();
    job.run(&model(), &mut events).unwrap();
    assert!(figures(&events, "even_groups").iter().all(|e| *e == 0.0));
    assert!(figures(&events, "groups_left_out").iter().sum::<f64>() > 0.0);
}

#[test]
fn the_size_of_passes_changes_no_loss_and_switches_are_on() {
    let first = |micro_tokens: usize, change: &dyn Fn(&mut Method)| {
        let mut job = Job::new("grpo");
        change(&mut job.method);
        job.settings = Settings { micro_tokens, steps: Some(2), clip: None, ..settings() };
        let mut events = Memory::default();
        job.run(&model(), &mut events).unwrap();
        (figures(&events, "grad_norm"), events)
    };
    let changes: [&dyn Fn(&mut Method); 4] = [
        &|m| m.objective.entropy = 0.01,
        &|m| m.objective.importance_cap = Some(2.0),
        &|m| m.mask_truncated = true,
        &|m| (m.temperature, m.top_p) = (0.7, 0.9),
    ];
    for change in changes {
        let ((small, _), (large, events)) = (first(1, change), first(100_000, change));
        assert!((small[0] - large[0]).abs() < 1e-3 * (1e-3 + large[0]), "{small:?} {large:?}");
        // At the first step policy and reference are one.
        assert!(figures(&events, "kl")[0].abs() < 1e-9 && figures(&events, "entropy")[0] > 0.0);
    }
}

#[test]
fn a_watch_sees_the_policy_before_the_first_iteration_and_after_each() {
    let m = model();
    let start = bits(&m.decoder);
    let mut seen: Vec<(u64, Vec<u32>)> = vec![];
    let watch = |step: u64, d: &Decoder| {
        seen.push((step, bits(d)));
        Ok(())
    };
    let mut job = Job::new("grpo");
    job.method.minibatches = 2;
    job.run_with(&m, &mut Memory::default(), Extras { watch: Some(Box::new(watch)), ..Extras::default() }).unwrap();
    assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
    assert!(seen[0].1 == start && seen[4].1 == bits(&m.decoder) && seen[1].1 != start);

    let refuses = |step: u64, _: &Decoder| if step == 2 { Err(Error::work("no room")) } else { Ok(()) };
    let e = Job::new("grpo").run_with(
        &model(),
        &mut Memory::default(),
        Extras { watch: Some(Box::new(refuses)), ..Extras::default() },
    );
    assert!(e.unwrap_err().to_string().contains("no room"));
}

fn curriculum(spec: &str, m: &ModelFolder) -> Extras<'static> {
    let spec = CurriculumSpec::parse(spec).unwrap();
    Extras { curriculum: Some(spec.over(&prompts(m, 10), settings().seed).unwrap()), ..Extras::default() }
}

#[test]
fn a_curriculum_is_logged_and_goes_on_to_the_bit() {
    for (name, spec) in [("grpo", "sec?by=level&temperature=0.2"), ("dapo", "sec?by=level&signal=progress")] {
        let (whole, mut events) = (model(), Memory::default());
        counting(name, None, None).run_with(&whole, &mut events, curriculum(spec, &whole)).unwrap();
        let n = [0, 1, 2].map(|arm| figures(&events, &format!("arm.{arm}.n")));
        assert!(n[0].len() == 4 && (0..4).all(|i| n[0][i] + n[1][i] + n[2][i] >= 4.0), "{n:?}");
        for arm in 0..3 {
            let (q, p) = (figures(&events, &format!("arm.{arm}.q")), figures(&events, &format!("arm.{arm}.p")));
            assert!(q[0] == 0.0 && p[0] == 1.0 / 3.0, "the first draw is before any update of Q");
        }
        let q: Vec<f64> = (0..3).map(|arm| figures(&events, &format!("arm.{arm}.q"))[1]).collect();
        assert!((0..3).all(|arm| (n[arm][0] > 0.0) == (q[arm] != 0.0)), "{name}: {q:?} of {n:?}");
        // Killed in a rollout and between two updates.
        for (dies, step) in [(Some(3), 99), (None, 7)] {
            let folder = tempfile::tempdir().unwrap();
            let m = model();
            let died = counting(name, dies, Some(folder.path())).run_with(&m, &mut DiesAt(step), curriculum(spec, &m));
            assert!(died.is_err());
            let (again, mut rest) = (model(), Memory::default());
            counting(name, None, Some(folder.path())).run_with(&again, &mut rest, curriculum(spec, &again)).unwrap();
            assert!(bits(&again.decoder) == bits(&whole.decoder), "{name}: reward {dies:?}, step {step}");
            let (rest, all) = (figures(&rest, "arm.1.q"), figures(&events, "arm.1.q"));
            assert_eq!(rest, all[all.len() - rest.len()..]);
        }
    }
}

#[test]
fn passes_named_are_passes_by_default() {
    let (plain, named) = (model(), model());
    Job::new("grpo").run(&plain, &mut Memory::default()).unwrap();
    Job::new("grpo").run_with(&named, &mut Memory::default(), curriculum("passes", &named)).unwrap();
    assert!(bits(&plain.decoder) == bits(&named.decoder));
}

#[test]
fn equal_rewards_leave_a_curriculum_where_it_was() {
    let m = model();
    let mut events = Memory::default();
    let job = Job { reward: Box::new(Function("constant".into(), |_: &Sample| Some(0.3))), ..Job::new("grpo") };
    job.run_with(&m, &mut events, curriculum("sec?by=level", &m)).unwrap();
    for arm in 0..3 {
        assert!(figures(&events, &format!("arm.{arm}.p")).iter().all(|p| *p == 1.0 / 3.0));
    }
}

fn answered(m: &ModelFolder) -> Vec<Example> {
    let text = |i: usize| m.renderer.tokenizer().encode(&format!("What is {i}+2? It is {}.", i + 2)).unwrap();
    let mut all: Vec<Example> = (0..7).map(|i| Example::new(text(i * 13))).collect();
    all.iter_mut().for_each(|e| e.weights[..3].fill(0.0));
    all
}

#[test]
fn with_equal_rewards_supervised_updates_are_those_of_plain_sft_to_the_bit() {
    let (mixed, plain) = (model(), model());
    let examples = answered(&mixed);
    let supervised = Some(Supervised { examples: &examples, every: 2, batch: 3 });
    let mut events = Memory::default();
    let mut job = Job { reward: Box::new(Function("constant".into(), |_: &Sample| Some(0.3))), ..Job::new("dr-grpo") };
    job.settings = Settings { steps: Some(12), decay: Decay::Constant, warmup: 0.0, micro_tokens: 40, ..job.settings };
    let settings = Settings { steps: Some(4), batch: 3, checkpoints: Checkpoints::LastOnly, ..job.settings.clone() };
    let (outcome, _) = job.run_with(&mixed, &mut events, Extras { supervised, ..Extras::default() }).unwrap();
    assert_eq!(outcome.steps, 12, "two iterations of one update and a supervised one, four times");
    let mut source = InMemory::new(examples.clone(), Supervised::order(settings.seed));
    let mut sft_events = Memory::default();
    Sft {
        decoder: &plain.decoder,
        settings: &settings,
        groups: None,
        source: &mut source,
        evals: vec![],
        sink: &mut sft_events,
        cancel: Cancel::new(),
        progress: Mode::Quiet,
        dir: None,
        sampler: None,
        select: None,
        edit_grads: None,
        constrain: None,
    }
    .run()
    .unwrap();
    assert!(bits(&mixed.decoder) == bits(&plain.decoder) && bits(&plain.decoder) != bits(&model().decoder));
    assert_eq!(figures(&events, "sft_loss"), figures(&sft_events, "loss"));
    assert_eq!((figures(&events, "loss").len(), figures(&events, "sft_loss").len()), (8, 4));
}

#[test]
fn a_run_with_supervised_updates_goes_on_to_the_bit_and_rounds_its_steps() {
    let start = |m: &ModelFolder, dir: Option<&Path>, sink: &mut dyn Sink| {
        let examples = answered(m);
        let supervised = Some(Supervised { examples: &examples, every: 2, batch: 3 });
        let mut job = counting("grpo", None, dir);
        job.settings.checkpoints = Checkpoints::Every(5);
        job.run_with(m, sink, Extras { supervised, ..Extras::default() })
    };
    let (whole, mut events) = (model(), Memory::default());
    // Iterations of four updates, and a supervised one after two: 4, 9, 13, 18 are whole.
    assert_eq!(start(&whole, None, &mut events).unwrap().0.steps, 18);
    assert_eq!(figures(&events, "sft_loss").len(), 2);
    for step in [7, 9, 11] {
        let folder = tempfile::tempdir().unwrap();
        assert!(start(&model(), Some(folder.path()), &mut DiesAt(step)).is_err());
        let again = model();
        start(&again, Some(folder.path()), &mut Memory::default()).unwrap();
        assert!(bits(&again.decoder) == bits(&whole.decoder), "step {step}");
    }
    let (settings, method) = (settings(), counting("grpo", None, None).method);
    let total = |steps| total_steps(&Settings { steps: Some(steps), ..settings.clone() }, &method, 10, Some(2));
    assert_eq!([1, 4, 5, 9, 10, 13, 18, 19].map(total), [4, 4, 9, 9, 13, 13, 18, 22]);
    let passes = Settings { steps: None, epochs: 2.0, ..settings.clone() };
    assert_eq!(total_steps(&passes, &method, 10, Some(2)), 22, "five iterations");
}

#[test]
fn other_settings_are_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| Job { dir: Some(folder.path()), ..Job::new(name) }.run(&model(), &mut |_: &Event| Ok(()));
    run("grpo").unwrap();
    let e = run("dr-grpo").unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("other settings"), "{e}");
    let m = model();
    let job = Job { dir: Some(folder.path()), ..Job::new("grpo") };
    let e = job.run_with(&m, &mut Memory::default(), curriculum("sec?by=level", &m)).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("curriculum was null"), "{e}");
}
