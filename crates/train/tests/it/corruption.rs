//! Corruption of inputs in the loop: what it must not touch, and that a kill costs nothing.

use postgrad_base::event::Memory;
use postgrad_nn::Decoder;
use postgrad_train::corrupt::{Corrupt, Corruption, Mode};
use postgrad_train::{Settings, evaluate};

use crate::{DiesAt, bits, examples, model, settings, train};

fn with(spec: Corrupt) -> Settings {
    let mask = (spec.mode == Mode::Mask).then_some(49);
    Settings { corrupt: Some(Corruption { spec, vocab: 50, mask, frame: vec![] }), ..settings() }
}

fn half() -> Corrupt {
    Corrupt { warmup: 0.5, ..Corrupt::random(0.5) }
}

fn run(settings: &Settings) -> (Decoder, Vec<String>) {
    let (m, mut events) = (model(), Memory::default());
    train(&m, settings, None, &mut events).unwrap();
    let all = events.0.lock().unwrap();
    let losses = all.iter().filter(|e| e.kind == "step").map(|e| e.fields["loss"].to_string()).collect();
    (m, losses)
}

#[test]
fn a_rate_of_zero_is_plain_fine_tuning_to_the_bit() {
    let (plain, losses) = run(&settings());
    for spec in [
        Corrupt::random(0.0),
        Corrupt { drop: true, ..Corrupt::random(0.0) },
        Corrupt { targets: true, ..Corrupt::random(0.0) },
        Corrupt { mode: Mode::Mask, ..Corrupt::random(0.0) },
    ] {
        let (zero, same) = run(&with(spec.clone()));
        assert!(bits(&zero) == bits(&plain) && same == losses, "{spec:?}");
    }
    let (other, differ) = run(&with(half()));
    assert!(bits(&other) != bits(&plain));
    assert_eq!(differ[0], losses[0], "the rate begins at 0");
}

#[test]
fn a_killed_run_with_corruption_ends_in_the_same_bits() {
    for spec in [half(), Corrupt { drop: true, mode: Mode::Mask, replace: 0.3, per_batch: true, ..half() }] {
        let settings = with(Corrupt { mask_token: None, ..spec });
        let (whole, losses) = run(&settings);
        for die in [4, 8, 12] {
            let folder = tempfile::tempdir().unwrap();
            assert!(train(&model(), &settings, Some(folder.path()), &mut DiesAt(die)).is_err());
            let again = model();
            let outcome = train(&again, &settings, Some(folder.path()), &mut Memory::default()).unwrap();
            assert!(bits(&again) == bits(&whole), "killed at {die}");
            assert_eq!(outcome.loss.to_string(), losses[11]);
            // A run that has ended is gone on with for no step, and still knows its loss.
            let ended = train(&model(), &settings, Some(folder.path()), &mut Memory::default()).unwrap();
            assert_eq!(ended.loss.to_bits(), outcome.loss.to_bits());
        }
    }
}

#[test]
fn other_corruption_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(&model(), &with(half()), Some(folder.path()), &mut DiesAt(7)).is_err());
    for other in [settings(), with(Corrupt { rate: 0.4, ..half() }), with(Corrupt { drop: true, ..half() })] {
        let e = train(&model(), &other, Some(folder.path()), &mut Memory::default()).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("corrupt was {"), "{e}");
    }
}

#[test]
fn evaluation_sees_inputs_as_they_are() {
    let (m, mut events) = (model(), Memory::default());
    train(&m, &with(Corrupt { warmup: 0.0, ..Corrupt::random(1.0) }), None, &mut events).unwrap();
    let losses = evaluate::losses(&m, &examples(3), 24).unwrap();
    let want = evaluate::mean_loss(&losses).unwrap().0;
    let all = events.0.lock().unwrap();
    let last = all.iter().rfind(|e| e.kind == "eval").unwrap();
    assert_eq!(last.fields["loss"].as_f64().unwrap(), want);
}

#[test]
fn how_an_update_is_cut_changes_neither_draw_nor_loss() {
    let loss = |micro_tokens, drop, rate| {
        let spec = Corrupt { warmup: 0.0, drop, ..Corrupt::random(rate) };
        let one = Settings { micro_tokens, steps: Some(1), clip: None, ..with(spec) };
        train(&model(), &one, None, &mut Memory::default()).unwrap().loss
    };
    for drop in [false, true] {
        let (small, large) = (loss(1, drop, 0.5), loss(10_000, drop, 0.5));
        assert!((small - large).abs() < 1e-4 * large, "{small} {large}");
    }
    assert!((loss(64, true, 0.5) - loss(64, false, 0.5)).abs() > 1e-6, "hidden places are not seen");
}
