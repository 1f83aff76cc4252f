//! Heads that judge single answers and their steps: they learn what can be told apart, go on to the bit, and are rewards.

use std::path::Path;

use postgrad_base::event::{Memory, Sink};
use postgrad_base::progress::Mode;
use postgrad_base::{Result, Stream};
use postgrad_data::{Example, Message, Place};
use postgrad_nn::Decoder;
use postgrad_train::preference::head::step_ends;
use postgrad_train::preference::{Group, HeadKind, Loss, OverSteps, Preference, Ranked, Reading, RewardHead, data};
use postgrad_train::prompts::Prompt;
use postgrad_train::rewards::model::{HEAD, Model};
use postgrad_train::rewards::{Limits, Rewards, Sample};
use postgrad_train::run_dir::RunDir;
use postgrad_train::{Outcome, Settings};
use serde_json::{Map, json};

use crate::preference::{of_kind, renderer, row, settings, whole};
use crate::{DiesAt, bits};

/// Single answers of six tokens, each a step. Right steps are tokens below 25, wrong ones others, to the end of the answer.
fn answers(n: usize, seed: u64) -> Vec<Group> {
    let mut s = Stream::new(seed, &["data"]);
    (0..n)
        .map(|i| {
            let right = i % 2 == 0;
            let breaks = if right { 9 } else { 4 + s.below(5) };
            let token = |at: usize| if at < breaks { s.below(25) as u32 } else { 25 + s.below(25) as u32 };
            let mut example = Example::new((0..9).map(token).collect());
            example.weights[..3].fill(0.0);
            let steps = (3..9).map(|at| (at, (at as usize) < breaks)).collect();
            let pair = Group::pair(example.clone(), example.clone());
            Group { answers: vec![Ranked { example, rank: f32::from(u8::from(right)), steps }], ..pair }
        })
        .collect()
}

fn train(decoder: &Decoder, head: &RewardHead, dir: Option<&Path>, sink: &mut dyn Sink) -> Result<Outcome> {
    let s = Settings { steps: Some(80), batch: 8, lr: 5e-3, micro_tokens: 400, ..settings() };
    let dir = dir.map(RunDir::open).transpose()?;
    Preference {
        decoder,
        settings: &s,
        loss: Loss::reward_model(),
        head: Some(head),
        groups: &answers(160, 4),
        held_out: &answers(40, 9),
        sink,
        cancel: Default::default(),
        progress: Mode::Quiet,
        dir: dir.as_ref(),
    }
    .run()
}

#[test]
fn what_can_be_told_apart_is_learnt_kept_and_gone_on_with() {
    for kind in [HeadKind::Outcome, HeadKind::Process] {
        let (m, head) = (whole(), RewardHead::new(kind, 16));
        let mut events = Memory::default();
        train(&m, &head, None, &mut events).unwrap();
        let losses = of_kind(&events, "step", "loss");
        assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-6, "a fresh head says nothing");
        let right = of_kind(&events, "eval", "accuracy");
        assert!(right.last().unwrap() > &0.85, "{kind:?}: {right:?}");

        let folder = tempfile::tempdir().unwrap();
        assert!(train(&whole(), &RewardHead::new(kind, 16), Some(folder.path()), &mut DiesAt(38)).is_err());
        let (again, other) = (whole(), RewardHead::new(kind, 16));
        train(&again, &other, Some(folder.path()), &mut Memory::default()).unwrap();
        assert!(bits(&again) == bits(&m));
        let file = folder.path().join(HEAD);
        other.save(&file).unwrap();
        let read = RewardHead::read(&file, 16).unwrap();
        assert_eq!(read.kind, kind);
        let held_out = answers(10, 9);
        let examples: Vec<&Example> = held_out.iter().map(|g| &g.answers[0].example).collect();
        let places = vec![vec![4, 8]; 10];
        let values = |h: &RewardHead| h.values(&m, &examples, &places, false).unwrap().0.data().to_vec();
        assert_eq!(values(&read), values(&head));
        // Another kind does not go on with it.
        let e = train(&whole(), &RewardHead::new(HeadKind::Pairwise, 16), Some(folder.path()), &mut Memory::default());
        assert_eq!(e.unwrap_err().exit_code(), 2);
    }
}

#[test]
fn steps_are_lines_and_end_where_they_are_complete() {
    let text = "one two\n\n  three \nfour";
    let group = row(json!({"prompt": "p", "completion": text, "step_labels": [true, null, 0]})).unwrap();
    let answer = &group.answers[0];
    assert_eq!(answer.rank, 0.0, "a wrong step makes it wrong");
    let ends = step_ends(&answer.example, renderer().tokenizer()).unwrap();
    assert_eq!(answer.steps, [(ends[0], true), (ends[2], false)]);
    let counted = answer.example.weights.iter().position(|w| *w != 0.0).unwrap();
    let until = |end: u32| renderer().tokenizer().decode(&answer.example.tokens[counted..=end as usize], true).unwrap();
    assert_eq!(
        ends.iter().map(|e| until(*e).trim_end().to_string()).collect::<Vec<_>>(),
        ["one two", "one two\n\n  three", "one two\n\n  three \nfour"]
    );
    let ranking = row(json!({"prompt": "p", "completions": ["a\nb", "c"], "scores": [1, 0],
        "step_labels": [[true, true], [false]]}))
    .unwrap();
    assert_eq!(ranking.answers.iter().map(|a| a.steps.len()).collect::<Vec<_>>(), [2, 1]);
    let pair =
        json!({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_step_labels": [1], "rejected_step_labels": [-1]});
    let pair = row(pair).unwrap();
    assert!(pair.answers[0].steps[0].1 && !pair.answers[1].steps[0].1);
    for bad in [
        json!({"prompt": "p", "completion": "a\nb", "step_labels": [true]}),
        json!({"prompt": "p", "completion": "a", "step_labels": ["yes"]}),
        json!({"prompt": "p", "completions": ["a", "b"], "scores": [1, 0], "step_labels": [[true]]}),
    ] {
        assert!(row(bad.clone()).is_err(), "{bad}");
    }
    // Rows without judged steps are left out where steps are learnt.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.jsonl");
    let rows = [
        json!({"prompt": "p", "completion": "a", "label": true}),
        json!({"prompt": "p", "completion": "a", "step_labels": [true]}),
    ];
    std::fs::write(&path, rows.map(|r| r.to_string()).join("\n")).unwrap();
    let read = |kind| data::read(&[path.display().to_string()], &renderer(), Reading::of_head(kind, 0)).unwrap();
    let (outcome, process) = (read(HeadKind::Outcome), read(HeadKind::Process));
    assert_eq!((outcome.groups.len(), process.groups.len(), process.empty), (2, 1, 1));
}

#[test]
fn a_head_is_a_reward_by_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
    std::fs::create_dir(dir.path().join("model")).unwrap();
    for file in std::fs::read_dir(&fixture).unwrap().flatten() {
        std::fs::copy(file.path(), dir.path().join("model").join(file.file_name())).unwrap();
    }
    let renderer = renderer();
    let text = "one two\nthree\nfour five";
    let group = row(json!({"prompt": "2+2?", "completion": text, "label": true})).unwrap();
    let example = &group.answers[0].example;
    let begins = example.weights.iter().position(|w| *w != 0.0).unwrap();
    let ends = example.weights.iter().rposition(|w| *w != 0.0).unwrap();
    let prompt = Prompt {
        ids: example.tokens[..begins].to_vec(),
        text: "2+2?".into(),
        messages: vec![Message::new("user", "2+2?")],
        problem: None,
        reference: None,
        columns: Map::new(),
        place: Place::default(),
    };
    let sample =
        Sample { prompt: &prompt, completion: text, tokens: &example.tokens[begins..=ends], truncated: false, step: 0 };
    let width = renderer_width(&fixture);
    for kind in [HeadKind::Pairwise, HeadKind::Outcome, HeadKind::Process] {
        let head = RewardHead::new(kind, width);
        let weight: Vec<f32> = (0..width).map(|i| ((i * 7) % 11) as f32 / 11.0 - 0.4).collect();
        head.params()[0].set(&weight);
        head.save(&dir.path().join(HEAD)).unwrap();
        let says = |more: &str| {
            let spec = format!("model:{}{more}", dir.path().display());
            let limits = Limits { max_tokens: 9, command: std::time::Duration::from_secs(1) };
            Rewards::parse(&[spec], limits).unwrap().score(&[sample]).unwrap()[0].total
        };
        let model = Model::load(dir.path(), OverSteps::Min).unwrap();
        assert_eq!(model.head.kind, kind);
        // The same from text, with what the template writes after it.
        assert_eq!(model.says(std::slice::from_ref(example)).unwrap()[0], says(""));
        let places = head.places(example, renderer.tokenizer()).unwrap();
        let values = head.values(&model.model.decoder, &[example], &[places], false).unwrap().0;
        let sure: Vec<f64> = values.data().iter().map(|v| 1.0 / (1.0 + (-f64::from(*v)).exp())).collect();
        match kind {
            HeadKind::Pairwise => assert!((says("") - f64::from(values.data()[0])).abs() < 1e-5),
            HeadKind::Outcome => assert!(sure.len() == 1 && (says("") - sure[0]).abs() < 1e-5),
            HeadKind::Process => {
                assert_eq!(sure.len(), 3);
                let least = sure.iter().copied().fold(1.0, f64::min);
                assert!((says("") - least).abs() < 1e-5);
                assert!((says("?over=product") - sure.iter().product::<f64>()).abs() < 1e-5);
            }
        }
    }
    assert_eq!(Model::parse(&format!("{}?over=mean", dir.path().display())).err().unwrap().exit_code(), 2);
}

fn renderer_width(dir: &Path) -> usize {
    postgrad_reason::ModelFolder::load(dir).unwrap().decoder.config.hidden
}
