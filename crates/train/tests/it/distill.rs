//! Distillation: the student comes nearer to its teacher, on data and on its own samples, and goes on to the bit.

use std::path::Path;

use postgrad_base::Result;
use postgrad_base::event::{Event, Memory, Sink};
use postgrad_base::progress::Mode;
use postgrad_data::Example;
use postgrad_reason::ModelFolder;
use postgrad_train::distill::{Distill, Divergence, OwnSamples};
use postgrad_train::run_dir::RunDir;
use postgrad_train::{Checkpoints, Outcome, Settings};

use crate::{DiesAt, bits};

fn model() -> ModelFolder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
    let mut m = ModelFolder::load(&dir).unwrap();
    m.decoder.weights.train(|_| true);
    m
}

/// The student with other weights in its last layers.
fn teacher() -> ModelFolder {
    let m = model();
    for p in m.decoder.params().iter().rev().take(4) {
        let changed: Vec<f32> =
            p.value().data().iter().enumerate().map(|(i, x)| x * if i % 3 == 0 { 6.0 } else { -3.0 }).collect();
        p.set(&changed);
    }
    m
}

fn examples() -> Vec<Example> {
    (0..10u32)
        .map(|i| {
            let mut e = Example::new((0..9).map(|t| 5 + (t * (i + 1)) % 40).collect());
            e.weights[..3].fill(0.0);
            e
        })
        .collect()
}

fn own(share: f64) -> Option<OwnSamples> {
    Some(OwnSamples { share, temperature: 1.0, max_tokens: 6 })
}

fn run(
    student: &ModelFolder,
    divergence: Divergence,
    own: Option<OwnSamples>,
    dir: Option<&Path>,
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    let dir = dir.map(RunDir::open).transpose()?;
    let settings = Settings {
        steps: Some(12),
        batch: 4,
        micro_tokens: 30,
        lr: 1e-2,
        checkpoints: Checkpoints::Every(3),
        ..Settings::full()
    };
    Distill {
        student,
        teacher: &teacher().decoder,
        settings: &settings,
        divergence,
        temperature: 1.0,
        own,
        examples: &examples(),
        held_out: &examples(),
        exam: None,
        sink,
        cancel: Default::default(),
        progress: Mode::Quiet,
        dir: dir.as_ref(),
    }
    .run()
}

fn figures(events: &Memory, kind: &str, key: &str) -> Vec<f64> {
    let all = events.0.lock().unwrap();
    let of = |e: &&Event| e.kind == kind;
    all.iter()
        .filter(of)
        .map(|e| e.fields[key].as_f64().unwrap_or(f64::from(u8::from(e.fields[key] == true))))
        .collect()
}

#[test]
fn the_student_comes_nearer_to_its_teacher() {
    for divergence in [Divergence::Forward, Divergence::Reverse, Divergence::Jsd(0.5)] {
        for share in [0.0, 1.0] {
            let mut events = Memory::default();
            run(&model(), divergence, own(share), None, &mut events).unwrap();
            let evals = figures(&events, "eval", "loss");
            assert!(
                evals.len() == 2 && evals[0] > 0.0 && evals[1] < 0.9 * evals[0],
                "{divergence:?} {share} {evals:?}"
            );
            assert_eq!(figures(&events, "step", "own_samples"), vec![share; 12]);
        }
    }
}

#[test]
fn a_killed_distillation_ends_in_the_same_bits() {
    let (whole, mut events) = (model(), Memory::default());
    run(&whole, Divergence::Jsd(0.5), own(0.5), None, &mut events).unwrap();
    let whose = figures(&events, "step", "own_samples");
    assert!(whose.contains(&0.0) && whose.contains(&1.0), "{whose:?}");
    for die in [2, 8] {
        let folder = tempfile::tempdir().unwrap();
        assert!(run(&model(), Divergence::Jsd(0.5), own(0.5), Some(folder.path()), &mut DiesAt(die)).is_err());
        let again = model();
        let outcome = run(&again, Divergence::Jsd(0.5), own(0.5), Some(folder.path()), &mut Memory::default()).unwrap();
        assert_eq!(outcome.steps, 12);
        assert!(bits(&again.decoder) == bits(&whole.decoder), "killed at {die}");
        // Other settings do not go on with it.
        let e = run(&model(), Divergence::Forward, None, Some(folder.path()), &mut Memory::default()).unwrap_err();
        assert!(e.to_string().contains("other settings"), "{e}");
    }
}

#[test]
fn shares_and_vocabularies_that_cannot_be_are_refused() {
    for bad in [Divergence::Jsd(0.0), Divergence::Jsd(1.0)] {
        assert_eq!(run(&model(), bad, None, None, &mut Memory::default()).unwrap_err().exit_code(), 2);
    }
    assert!(run(&model(), Divergence::Forward, own(1.5), None, &mut Memory::default()).is_err());
}
