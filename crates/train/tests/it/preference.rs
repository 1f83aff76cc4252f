//! Preference training: the reference, resume to the bit, data.

use std::path::Path;

use postgrad_base::event::{Event, Memory, Sink};
use postgrad_base::progress::Mode;
use postgrad_base::{Result, Stream};
use postgrad_data::{Example, Renderer};
use postgrad_nn::{Decoder, LoraSpec};
use postgrad_train::preference::data::{self, best_worst, build, group, read};
use postgrad_train::preference::{Group, HeadKind, Loss, Preference, Ranked, Reading, RewardHead};
use postgrad_train::reference::Reference;
use postgrad_train::run_dir::RunDir;
use postgrad_train::source::InMemory;
use postgrad_train::{Checkpoints, Outcome, Settings, Sft, score};
use serde_json::{Value, json};

use crate::{DiesAt, bits, examples, model};

/// Pairs that share a prompt of three tokens; better answers count up, worse ones repeat.
fn pairs(n: usize, seed: u64) -> Vec<Group> {
    let mut s = Stream::new(seed, &["data"]);
    (0..n)
        .map(|_| {
            let start = s.below(40) as u32;
            let len = 2 + s.below(4) as u32;
            let answer = |f: &dyn Fn(u32) -> u32| {
                let mut e = Example::new((0..3).chain((0..len).map(f)).map(|t| t % 50).collect());
                e.weights[..3].fill(0.0);
                e
            };
            Group::pair(answer(&|i| start + i), answer(&|_| start))
        })
        .collect()
}

pub fn settings() -> Settings {
    Settings {
        steps: Some(8),
        batch: 4,
        micro_tokens: 40,
        lr: 1e-2,
        checkpoints: Checkpoints::Every(3),
        ..Settings::lora()
    }
}

fn train(
    decoder: &Decoder,
    loss: &str,
    groups: &[Group],
    s: &Settings,
    dir: Option<&Path>,
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    train_by(decoder, Loss::named(loss)?, groups, s, dir, sink)
}

fn train_by(
    decoder: &Decoder,
    loss: Loss,
    groups: &[Group],
    s: &Settings,
    dir: Option<&Path>,
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    let dir = dir.map(RunDir::open).transpose()?;
    Preference {
        decoder,
        settings: s,
        loss,
        head: None,
        groups,
        held_out: &pairs(12, 9),
        sink,
        cancel: Default::default(),
        progress: Mode::Quiet,
        dir: dir.as_ref(),
    }
    .run()
}

pub fn of_kind(events: &Memory, kind: &str, field: &str) -> Vec<f64> {
    let all: Vec<Event> = events.0.lock().unwrap().iter().filter(|e| e.kind == kind).cloned().collect();
    all.iter().filter_map(|e| e.fields.get(field).and_then(Value::as_f64)).collect()
}

/// A LoRA tuned on examples, as a run leaves it.
fn tuned() -> Decoder {
    let m = model();
    let mut source = InMemory::new(examples(10), Stream::new(0, &["data"]));
    let s = Settings { steps: Some(5), batch: 4, lr: 3e-2, ..Settings::lora() };
    Sft {
        select: None,
        decoder: &m,
        settings: &s,
        groups: None,
        source: &mut source,
        evals: vec![],
        sink: &mut Memory::default(),
        cancel: Default::default(),
        progress: Mode::Quiet,
        dir: None,
        sampler: None,
        edit_grads: None,
        constrain: None,
    }
    .run()
    .unwrap();
    m
}

/// A model of which all weights are trained.
pub fn whole() -> Decoder {
    let mut m = model();
    m.adapters.clear();
    m.weights.train(|_| true);
    m
}

#[test]
fn after_a_lora_by_sft_the_first_dpo_loss_is_ln_2() {
    let first = |m: &Decoder| {
        let mut events = Memory::default();
        train(m, "dpo", &pairs(20, 1), &settings(), None, &mut events).unwrap();
        let losses = of_kind(&events, "step", "loss");
        assert!(losses.last().unwrap() < &losses[0], "{losses:?}");
        losses[0]
    };
    // The same adapter is trained on: the reference is a frozen copy, not the model with the adapter off.
    let same = tuned();
    assert!(!Reference::of(&same).adapter_off);
    assert!((first(&same) - std::f64::consts::LN_2).abs() < 1e-6);
    // A fresh adapter beside the frozen one: the reference is the model with the fresh one off and the other on.
    let mut beside = tuned();
    let weights = beside.weights.clone();
    beside.adapters[0].set_trained(&weights, false);
    beside.add_lora("new", LoraSpec { rank: 2, ..LoraSpec::default() }, &Stream::new(4, &["tune"])).unwrap();
    let reference = Reference::of(&beside);
    assert!(reference.adapter_off && reference.decoder().adapters.len() == 1);
    assert!((first(&beside) - std::f64::consts::LN_2).abs() < 1e-6);
    // All weights.
    let mut whole = tuned();
    whole.adapters.clear();
    whole.weights.train(|_| true);
    assert!((first(&whole) - std::f64::consts::LN_2).abs() < 1e-6);
}

#[test]
fn the_reference_stays_while_the_policy_moves() {
    let m = model();
    let reference = Reference::of(&m);
    let all: Vec<Example> = pairs(6, 2).iter().flat_map(|g| g.answers.iter().map(|a| a.example.clone())).collect();
    let before = score::sums(&m, &all, 1000).unwrap();
    train(&m, "dpo", &pairs(20, 1), &settings(), None, &mut Memory::default()).unwrap();
    assert_eq!(score::sums(reference.decoder(), &all, 1000).unwrap(), before);
    assert_ne!(score::sums(&m, &all, 1000).unwrap(), before);
    // Small passes and large ones agree up to rounding.
    let small = score::sums(&m, &all, 1).unwrap();
    assert!(small.iter().zip(score::sums(&m, &all, 1000).unwrap()).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn a_killed_run_ends_in_the_same_bits_for_every_kind_of_loss() {
    let data = pairs(10, 3);
    for loss in ["dpo", "simpo", "kto"] {
        let unpaired: Vec<Group> = data
            .iter()
            .flat_map(|g| g.answers.iter().map(|a| Group { answers: vec![a.clone()], ..g.clone() }))
            .collect();
        let groups = if loss == "kto" { &unpaired } else { &data };
        let whole = model();
        train(&whole, loss, groups, &settings(), None, &mut Memory::default()).unwrap();
        for die in [2, 5, 8] {
            let folder = tempfile::tempdir().unwrap();
            assert!(train(&model(), loss, groups, &settings(), Some(folder.path()), &mut DiesAt(die)).is_err());
            assert_eq!(folder.path().join("reference.json").exists(), loss != "simpo");
            let again = model();
            train(&again, loss, groups, &settings(), Some(folder.path()), &mut Memory::default()).unwrap();
            assert!(bits(&again) == bits(&whole), "{loss} killed at {die}");
        }
    }
}

#[test]
fn what_is_preferred_wins_on_held_out_pairs_and_flipped_labels_undo_it() {
    let s = Settings { steps: Some(80), batch: 8, lr: 1e-2, micro_tokens: 400, ..settings() };
    for loss in ["dpo", "ipo", "cpo", "orpo", "simpo", "slic", "aft-bound"] {
        let m = whole();
        let mut events = Memory::default();
        // Beta against a likelihood is set for large models; here the preference is to show.
        let named = Loss::named(loss).unwrap();
        let by = Loss { beta: if named.reference { named.beta } else { named.beta.max(1.0) }, ..named };
        train_by(&m, by, &pairs(160, 4), &s, None, &mut events).unwrap();
        let right = of_kind(&events, "eval", "accuracy");
        assert!(right.last().unwrap() > &0.7, "{loss}: {right:?}");
    }
    let mut flipped = pairs(160, 4);
    flipped.iter_mut().for_each(|g| g.answers.iter_mut().for_each(|a| a.rank = 1.0 - a.rank));
    let mut events = Memory::default();
    train(&whole(), "dpo", &flipped, &s, None, &mut events).unwrap();
    assert!(of_kind(&events, "eval", "accuracy").last().unwrap() < &0.2);
}

#[test]
fn a_reward_model_orders_held_out_pairs_goes_on_to_the_bit_and_is_a_reward() {
    let s = Settings { steps: Some(40), batch: 8, lr: 5e-3, micro_tokens: 400, ..settings() };
    let run = |m: &Decoder, head: &RewardHead, dir: Option<&Path>, sink: &mut dyn Sink| {
        let dir = dir.map(RunDir::open).transpose()?;
        Preference {
            decoder: m,
            settings: &s,
            loss: Loss::reward_model(),
            head: Some(head),
            groups: &pairs(160, 4),
            held_out: &pairs(12, 9),
            sink,
            cancel: Default::default(),
            progress: Mode::Quiet,
            dir: dir.as_ref(),
        }
        .run()
    };
    let (m, head) = (whole(), RewardHead::new(HeadKind::Pairwise, 16));
    let mut events = Memory::default();
    run(&m, &head, None, &mut events).unwrap();
    assert!((of_kind(&events, "step", "loss")[0] - std::f64::consts::LN_2).abs() < 1e-6, "a fresh head says nothing");
    assert!(of_kind(&events, "eval", "accuracy").last().unwrap() > &0.8);

    let folder = tempfile::tempdir().unwrap();
    assert!(run(&whole(), &RewardHead::new(HeadKind::Pairwise, 16), Some(folder.path()), &mut DiesAt(8)).is_err());
    let (again, other) = (whole(), RewardHead::new(HeadKind::Pairwise, 16));
    run(&again, &other, Some(folder.path()), &mut Memory::default()).unwrap();
    assert!(bits(&again) == bits(&m));
    let file = folder.path().join("reward_head.safetensors");
    other.save(&file).unwrap();
    let read = RewardHead::read(&file, 16).unwrap();
    let values = |h: &RewardHead| h.params().iter().flat_map(|p| p.value().data().to_vec()).collect::<Vec<_>>();
    assert_eq!(values(&read), values(&head));
    assert!(RewardHead::read(&file, 8).is_err());
}

#[test]
fn a_pair_of_equal_answers_has_no_gradient() {
    let m = model();
    let mut same = pairs(6, 5);
    same.iter_mut().for_each(|g| g.answers[1].example = g.answers[0].example.clone());
    let s = Settings { steps: Some(2), ..settings() };
    let mut events = Memory::default();
    train(&m, "dpo", &same, &s, None, &mut events).unwrap();
    assert!(of_kind(&events, "step", "grad_norm").iter().all(|g| *g < 1e-6));
}

#[test]
fn order_in_an_update_and_the_size_of_passes_do_not_matter() {
    let forward = pairs(8, 6);
    let mut backward = forward.clone();
    backward.reverse();
    for loss in ["dpo", "ipo", "cpo", "aft-bound"] {
        let losses = |groups: &[Group], micro_tokens: usize| {
            let s = Settings { steps: Some(3), batch: 8, lr: 1e-3, micro_tokens, ..settings() };
            let mut events = Memory::default();
            train(&whole(), loss, groups, &s, None, &mut events).unwrap();
            of_kind(&events, "step", "loss")
        };
        let one = losses(&forward, 4000);
        for other in [losses(&backward, 4000), losses(&forward, 40)] {
            assert!(
                one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-3 * (1.0 + a.abs())),
                "{loss}: {one:?} {other:?}"
            );
        }
    }
}

#[test]
fn other_settings_are_kept_out_and_kto_needs_company() {
    let folder = tempfile::tempdir().unwrap();
    let data = pairs(10, 3);
    let run = |loss: &str, s: &Settings| train(&model(), loss, &data, s, Some(folder.path()), &mut Memory::default());
    run("dpo", &Settings { steps: Some(3), ..settings() }).unwrap();
    let e = run("ipo", &settings()).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("other settings"), "{e}");
    let one = Settings { batch: 1, ..settings() };
    assert_eq!(train(&model(), "kto", &data, &one, None, &mut Memory::default()).unwrap_err().exit_code(), 2);
}

pub fn renderer() -> Renderer {
    Renderer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")).unwrap()
}

pub fn row(value: Value) -> Result<Group> {
    let Value::Object(row) = value else { panic!("an object") };
    group(row, &renderer())
}

fn judged(r: &Ranked) -> String {
    let ids: Vec<u32> =
        (0..r.example.len()).filter(|i| r.example.weights[*i] != 0.0).map(|i| r.example.tokens[i]).collect();
    renderer().tokenizer().decode(&ids, true).unwrap()
}

#[test]
fn rows_of_every_shape_become_groups() {
    let texts = row(json!({"prompt": "2+2?", "chosen": "It is 4.", "rejected": "It is 5."})).unwrap();
    assert_eq!(
        texts.answers.iter().map(|a| (judged(a), a.rank)).collect::<Vec<_>>(),
        [("It is 4.".to_string(), 1.0), ("It is 5.".to_string(), 0.0)]
    );
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let turns = row(json!({"prompt": [turn("user", "2+2?")], "chosen": [turn("assistant", "It is 4.")],
        "rejected": [turn("assistant", "It is 5.")]}))
    .unwrap();
    let whole = row(json!({"chosen": [turn("user", "2+2?"), turn("assistant", "It is 4.")],
        "rejected": [turn("user", "2+2?"), turn("assistant", "It is 5.")]}))
    .unwrap();
    for other in [&turns, &whole] {
        for (a, b) in other.answers.iter().zip(&texts.answers) {
            assert_eq!((&a.example.tokens, &a.example.weights), (&b.example.tokens, &b.example.weights));
        }
    }
    let ranking =
        row(json!({"prompt": "p", "completions": ["a", "b", "c"], "scores": [0.5, 1, -2], "weight": 2})).unwrap();
    assert_eq!(ranking.answers.iter().map(|a| a.rank).collect::<Vec<_>>(), [0.5, 1.0, -2.0]);
    assert_eq!(ranking.weight, 2.0);
    assert_eq!(row(json!({"prompt": "p", "completion": "a", "label": false})).unwrap().answers[0].rank, 0.0);
    for bad in [
        json!({"prompt": "p", "chosen": "a"}),
        json!({"chosen": "a", "rejected": "b"}),
        json!({"prompt": "p", "completions": ["a"], "scores": []}),
        json!({"prompt": "p", "completion": "a", "label": "good"}),
        json!({"prompt": "p", "chosen": "a", "rejected": ""}),
        json!({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_spans": [[0, 9]]}),
    ] {
        assert!(row(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn spans_and_partings_say_what_is_judged() {
    let r = row(json!({"prompt": "p", "chosen": "one two three", "rejected": "one two four",
        "chosen_spans": [[4, 7]], "rejected_spans": [[8, 12]]}))
    .unwrap();
    assert_eq!(judged(&r.answers[0]).trim(), "two");
    assert_eq!(judged(&r.answers[1]).trim(), "four");
    let mut r = row(json!({"prompt": "p", "chosen": "one two three", "rejected": "one two four"})).unwrap();
    r.judge_from_parting();
    let (a, b) = (judged(&r.answers[0]), judged(&r.answers[1]));
    assert!("one two three".ends_with(&a) && "one two four".ends_with(&b) && !a.contains("one") && !b.contains("one"));
}

#[test]
fn a_gold_answer_is_read_beside_pairs_and_rankings_and_trained_on() {
    let pair = json!({"prompt": "p", "chosen": "a b", "rejected": "c", "completion": "one two", "topic": 3});
    let ranking = json!({"prompt": "p", "completions": ["a", "b"], "scores": [0, 1], "completion": "one two"});
    let alone = json!({"prompt": "p", "completions": [], "scores": [], "completion": "one two"});
    for (value, n) in [(&pair, 2), (&ranking, 2), (&alone, 0)] {
        let group = row(value.clone()).unwrap();
        let gold = Ranked::new(group.gold.clone().unwrap(), 0.0);
        assert_eq!((group.answers.len(), judged(&gold).trim()), (n, "one two"));
        assert_eq!(group.sequences().count(), n + 1);
    }
    assert_eq!(row(pair.clone()).unwrap().columns["topic"], 3);
    assert!(row(json!({"prompt": "p", "completions": [], "scores": []})).is_err());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.jsonl");
    std::fs::write(&path, [pair, ranking, alone].map(|r| r.to_string()).join("\n")).unwrap();
    let read_by = |name: &str| {
        let reading = Reading::of(&Loss::named(name).unwrap(), 0, true);
        read(&[path.display().to_string()], &renderer(), reading).unwrap()
    };
    let aft = read_by("aft");
    assert_eq!((aft.groups.len(), aft.groups.iter().filter(|g| g.gold.is_some()).count()), (3, 3));
    // What has no use for it passes it over, and a row that has nothing else is left out.
    for (name, n) in [("dpo", 2), ("kto", 4)] {
        let other = read_by(name);
        assert_eq!((other.groups.len(), other.empty), (n, 1), "{name}");
        assert!(other.groups.iter().all(|g| g.gold.is_none()));
    }
}

#[test]
fn a_group_with_nothing_but_a_gold_answer_is_supervised_tuning() {
    let s = Settings { steps: Some(4), ..settings() };
    let gold: Vec<Group> = pairs(10, 3)
        .into_iter()
        .map(|g| Group { gold: Some(g.answers[0].example.clone()), answers: vec![], ..g })
        .collect();
    let one_sided = |rank: f32| -> Vec<Group> {
        let mut all = gold.clone();
        let answers = pairs(10, 3).into_iter().map(|g| g.answers);
        all.iter_mut().zip(answers).for_each(|(g, a)| g.answers = a);
        all.iter_mut().flat_map(|g| &mut g.answers).for_each(|a| a.rank = rank);
        all
    };
    let losses = |groups: &[Group]| {
        let mut events = Memory::default();
        train(&whole(), "aft-bound", groups, &s, None, &mut events).unwrap();
        of_kind(&events, "step", "loss")
    };
    let alone = losses(&gold);
    let nll = |g: &Group| {
        let e = g.gold.clone().unwrap();
        -f64::from(score::sums(&whole(), std::slice::from_ref(&e), 1000).unwrap()[0]) / e.trained() as f64
    };
    let orders = Stream::new(s.seed, &["data", "order"]);
    let mut order: Vec<usize> = (0..10).collect();
    orders.nth(0).shuffle(&mut order);
    let first = order[..4].iter().map(|i| nll(&gold[*i])).sum::<f64>() / 4.0;
    assert!((alone[0] - first).abs() < 1e-5, "{} {first}", alone[0]);
    for rank in [0.0, 1.0] {
        assert!(losses(&one_sided(rank)).iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn files_are_read_with_the_place_of_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.jsonl");
    let good = "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}\n";
    let read_it = |text: &str, reading: Reading| {
        std::fs::write(&path, text).unwrap();
        read(&[path.display().to_string()], &renderer(), reading)
    };
    let all = read_it(&good.repeat(3), Reading::default()).unwrap();
    assert_eq!((all.groups.len(), all.groups[2].place.line), (3, 3));
    let apart = read_it(&good.repeat(3), Reading { unpaired: true, ..Reading::default() }).unwrap();
    assert_eq!(apart.groups.len(), 6);
    let e = read_it(&format!("{good}{{\"prompt\":1}}\n"), Reading::default()).unwrap_err().to_string();
    assert!(e.contains("p.jsonl:2") && e.contains("chosen"), "{e}");
    let single = "{\"prompt\":\"p\",\"completion\":\"a\",\"label\":true}\n";
    assert!(read_it(single, Reading::default()).unwrap_err().to_string().contains("single answer"));
    assert!(read_it(good, Reading { max_len: 2, ..Reading::default() }).is_err());
}

#[test]
fn pairs_are_built_from_scores() {
    let s = |t: &str, x: f64| (t.to_string(), x);
    let scored = vec![s("a", 0.5), s("b", 1.0), s("c", 0.0), s("d", 1.0)];
    assert_eq!(best_worst(&scored), Some((1, 2)));
    assert_eq!(best_worst(&[s("a", 1.0), s("b", 1.0)]), None);
    assert_eq!(data::across(&scored, 1.0, 0.5), [(1, 0), (1, 2), (3, 0), (3, 2)]);
    assert!(data::across(&[s("a", 1.0), s("a", 0.0)], 1.0, 0.0).is_empty());
    let rows = build(&[("p".into(), scored)], Some((1.0, 0.0)), 1);
    assert_eq!((rows.len(), &rows[0]["chosen"], &rows[0]["rejected"]), (1, &json!("b"), &json!("c")));
}
