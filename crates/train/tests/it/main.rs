//! The SFT loop: resume to the bit, guards, schedules, normalisers.

mod corruption;
mod distill;
mod preference;
mod reinforce;
mod reward_heads;
mod rewards;
mod selecting;

use std::path::Path;

use postgrad_base::event::{Event, Memory, Sink};
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::Example;
use postgrad_nn::config::Config;
use postgrad_nn::{Decoder, LoraSpec, Weight};
use postgrad_tensor::{Param, Tensor};
use postgrad_train::evaluate::{self, EvalSet};
use postgrad_train::run_dir::{RunDir, places};
use postgrad_train::sft::Ended;
use postgrad_train::source::InMemory;
use postgrad_train::{Checkpoints, Normalizer, Outcome, Settings, Sft};

fn model() -> Decoder {
    let config = Config::llama(50, 16, 2, 2, 1, 32, 64, true);
    let mut decoder = Decoder::random(config, &Stream::new(3, &["base"])).unwrap();
    let spec = LoraSpec { rank: 2, dropout: 0.1, ..LoraSpec::default() };
    decoder.add_lora("a", spec, &Stream::new(3, &["tune"])).unwrap();
    decoder
}

fn examples(n: usize) -> Vec<Example> {
    let mut s = Stream::new(8, &["data"]);
    (0..n)
        .map(|i| {
            let tokens: Vec<u32> = (0..4 + s.below(12)).map(|j| ((i + j * 3) % 50) as u32).collect();
            let mut e = Example::new(tokens);
            e.weights[1] = 0.0;
            e
        })
        .collect()
}

fn settings() -> Settings {
    Settings {
        steps: Some(12),
        batch: 4,
        micro_tokens: 24,
        lr: 3e-2,
        checkpoints: Checkpoints::Every(3),
        ..Settings::lora()
    }
}

fn train(decoder: &Decoder, settings: &Settings, dir: Option<&Path>, sink: &mut dyn Sink) -> Result<Outcome> {
    let dir = dir.map(RunDir::open).transpose()?;
    let mut source = InMemory::new(examples(10), Stream::new(settings.seed, &["data"]));
    Sft {
        decoder,
        settings,
        groups: None,
        source: &mut source,
        evals: vec![EvalSet { name: "dev".into(), examples: examples(3), accuracy: None }],
        sink,
        cancel: Default::default(),
        progress: Mode::Quiet,
        dir: dir.as_ref(),
        sampler: None,
        select: None,
        edit_grads: None,
        constrain: None,
    }
    .run()
}

fn bits(decoder: &Decoder) -> Vec<u32> {
    decoder.params().iter().flat_map(|p| p.value().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
}

/// Fails like a kill would: between an update and whatever comes next.
struct DiesAt(u64);

impl Sink for DiesAt {
    fn emit(&mut self, e: &Event) -> Result<()> {
        if e.kind == "step" && e.step == self.0 { Err(Error::work("killed")) } else { Ok(()) }
    }
}

#[test]
fn a_killed_run_ends_in_the_same_bits_and_the_same_losses() {
    let whole = model();
    let mut events = Memory::default();
    train(&whole, &settings(), None, &mut events).unwrap();
    let losses = |events: &Memory| -> Vec<(u64, String)> {
        let all = events.0.lock().unwrap();
        all.iter().filter(|e| e.kind == "step").map(|e| (e.step, e.fields["loss"].to_string())).collect()
    };
    for die in [1, 5, 7, 12] {
        let folder = tempfile::tempdir().unwrap();
        assert!(train(&model(), &settings(), Some(folder.path()), &mut DiesAt(die)).is_err());
        let again = model();
        let mut rest = Memory::default();
        let outcome = train(&again, &settings(), Some(folder.path()), &mut rest).unwrap();
        assert_eq!(outcome.steps, 12);
        assert!(bits(&again) == bits(&whole), "killed at {die}");
        let (rest, all) = (losses(&rest), losses(&events));
        assert_eq!(rest, all[all.len() - rest.len()..], "killed at {die}");
        assert_eq!(rest.len() as u64, 12 - (die - 1) / 3 * 3);
    }
}

#[test]
fn threads_and_checkpointing_change_no_bit() {
    let run = |threads: usize, checkpointing: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let m = model();
            train(&m, &Settings { checkpointing, ..settings() }, None, &mut Memory::default()).unwrap();
            bits(&m)
        })
    };
    let one = run(1, false);
    assert!(one == run(2, false) && one == run(3, false), "threads");
    assert!(one == run(2, true), "recomputation");
}

#[test]
fn the_normaliser_covers_the_whole_update() {
    let loss = |micro_tokens, normalizer, steps| {
        let m = model();
        let s = Settings { micro_tokens, normalizer, steps: Some(steps), ..settings() };
        let spec = Settings { clip: None, ..s };
        train(&m, &spec, None, &mut Memory::default()).unwrap().loss
    };
    for normalizer in [Normalizer::Tokens, Normalizer::Examples, Normalizer::Weights, Normalizer::Constant(7.0)] {
        let (small, large) = (loss(1, normalizer, 1), loss(10_000, normalizer, 1));
        assert!((small - large).abs() < 1e-4 * large, "{normalizer:?}: {small} {large}");
    }
    let tokens = loss(64, Normalizer::Tokens, 1);
    assert!((loss(64, Normalizer::Weights, 1) - tokens).abs() < 1e-6, "weights of one");
    assert!(loss(64, Normalizer::Examples, 1) > 2.0 * tokens, "a sum over tokens");
}

#[test]
fn a_value_that_is_not_finite_stops_the_run_and_is_named() {
    let mut m = model();
    let id = m.weights.find("model.layers.1.mlp.up_proj.weight").unwrap();
    let shape = m.weights.get(id).tensor().shape();
    m.weights.set(id, Weight::Frozen(Tensor::full(f32::NAN, shape.dims()))).unwrap();
    let e = train(&m, &settings(), None, &mut Memory::default()).unwrap_err();
    assert_eq!(e.exit_code(), 1);
    let text = e.to_string();
    assert!(text.contains("not finite at step 1") && text.contains("layers.1.mlp.up_proj.weight"), "{text}");

    let m = model();
    let params = m.params();
    let victim = params[3].clone();
    let folder = tempfile::tempdir().unwrap();
    struct Poison(postgrad_tensor::Param);
    impl Sink for Poison {
        fn emit(&mut self, e: &Event) -> Result<()> {
            if e.kind == "step" && e.step == 5 {
                self.0.update(|w| w[0] = f32::INFINITY);
            }
            Ok(())
        }
    }
    let name = victim.name().to_string();
    let e = train(&m, &settings(), Some(folder.path()), &mut Poison(victim)).unwrap_err().to_string();
    assert!(e.contains("not finite at step 6") && e.contains("step-00000003") && e.contains(&name), "{e}");
    assert_eq!(places(folder.path()).unwrap().last().unwrap().step, 3);
}

#[test]
fn patience_best_and_pruning() {
    let m = model();
    let folder = tempfile::tempdir().unwrap();
    // A rate this high makes the loss on the evaluation set worse soon.
    let s = Settings {
        lr: 5.0,
        steps: Some(60),
        eval_every: Some(1),
        best: Some("dev.loss".into()),
        patience: Some(4),
        checkpoints: Checkpoints::Every(1),
        keep: 2,
        ..settings()
    };
    let outcome = train(&m, &s, Some(folder.path()), &mut Memory::default()).unwrap();
    assert_eq!(outcome.ended, Ended::Patience);
    let (_, best) = outcome.best.unwrap();
    assert_eq!(outcome.steps, best + 4);
    let steps: Vec<u64> = places(folder.path()).unwrap().iter().map(|p| p.step).collect();
    assert!(steps.len() <= 3 && steps.contains(&outcome.steps), "{steps:?}");
    assert!(best == 0 || steps.contains(&best), "{steps:?} {best}");
}

#[test]
fn other_settings_and_other_processes_are_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    train(&model(), &Settings { steps: Some(3), ..settings() }, Some(folder.path()), &mut Memory::default()).unwrap();
    let other = Settings { lr: 1e-3, ..settings() };
    let e = train(&model(), &other, Some(folder.path()), &mut Memory::default()).unwrap_err();
    assert_eq!(e.exit_code(), 2);
    assert!(e.to_string().contains("lr was 0.03, is 0.001"), "{e}");
    let _held = RunDir::open(folder.path()).unwrap();
    assert_eq!(RunDir::open(folder.path()).unwrap_err().exit_code(), 2);
}

#[test]
fn frozen_weights_stay_to_the_bit_and_losses_fall() {
    let m = model();
    let frozen: Vec<u32> = m
        .weights
        .iter()
        .flat_map(|(_, _, w)| w.tensor().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        .collect();
    let before = evaluate::mean_loss(&evaluate::losses(&m, &examples(10), 64).unwrap()).unwrap().0;
    train(&m, &Settings { steps: Some(60), ..settings() }, None, &mut Memory::default()).unwrap();
    let after = evaluate::mean_loss(&evaluate::losses(&m, &examples(10), 7).unwrap()).unwrap().0;
    assert!(after < before - 0.03, "{before} {after}");
    let now: Vec<u32> = m
        .weights
        .iter()
        .flat_map(|(_, _, w)| w.tensor().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        .collect();
    assert!(frozen == now);
}

#[test]
fn nothing_to_train_on_and_strange_tokens_are_errors() {
    let m = model();
    let mut source = InMemory::new(vec![Example::new(vec![1, 99])], Stream::new(0, &["data"]));
    let s = settings();
    let run = |source: &mut InMemory| {
        let mut sink = Memory::default();
        Sft {
            decoder: &m,
            settings: &s,
            groups: None,
            source,
            evals: vec![],
            sink: &mut sink,
            cancel: Default::default(),
            progress: Mode::Quiet,
            dir: None,
            sampler: None,
            select: None,
            edit_grads: None,
            constrain: None,
        }
        .run()
    };
    assert!(run(&mut source).unwrap_err().to_string().contains("token 99 is outside the model's vocabulary of 50"));
    assert_eq!(run(&mut InMemory::new(vec![], Stream::new(0, &["data"]))).unwrap_err().exit_code(), 2);
}

#[test]
fn examples_with_scales_of_their_own_train_alike_in_a_batch_and_one_by_one() {
    let gradients = |examples: &[Example], micro_tokens: usize| {
        let mut m = model();
        // B is zero at first, and then A has no gradient.
        m.adapters[0].spec.dropout = 0.0;
        m.params().iter().for_each(|p| p.update(|w| w.iter_mut().for_each(|w| *w += 0.1)));
        let settings = Settings {
            steps: Some(1),
            batch: examples.len(),
            micro_tokens,
            clip: None,
            normalizer: Normalizer::Constant(10.0),
            ..settings()
        };
        let mut seen = Vec::new();
        let mut keep = |_: u64, params: &[Param]| {
            seen = params.iter().flat_map(|p| p.grad().map(|g| g.data().to_vec()).unwrap_or_default()).collect();
        };
        let mut source = InMemory::new(examples.to_vec(), Stream::new(0, &["data"]));
        let sft = Sft {
            decoder: &m,
            settings: &settings,
            groups: None,
            source: &mut source,
            evals: vec![],
            sink: &mut Memory::default(),
            cancel: Default::default(),
            progress: Mode::Quiet,
            dir: None,
            sampler: None,
            select: None,
            edit_grads: Some(&mut keep),
            constrain: None,
        };
        sft.run().unwrap();
        seen
    };
    let mut all = examples(4);
    for (e, scale) in all.iter_mut().zip([Some(0.0), Some(0.25), None, Some(1.5)]) {
        e.adapter_scale = scale;
    }
    let batch = gradients(&all, 4096);
    let mut sum = vec![0.0f32; batch.len()];
    for e in &all {
        gradients(std::slice::from_ref(e), 4096).iter().zip(&mut sum).for_each(|(g, s)| *s += g);
    }
    let largest = sum.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    let worst = |other: &[f32]| other.iter().zip(&sum).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(largest > 0.0 && worst(&batch) < 1e-5 * largest.max(1.0), "{} of {largest}", worst(&batch));
    assert!(worst(&gradients(&all, 8)) < 1e-5 * largest.max(1.0), "cut into passes");
    // A scale of 0 leaves no gradient, and the scale is no mere weight.
    assert!(gradients(&all[..1], 4096).iter().all(|g| *g == 0.0));
    let plain: Vec<Example> = all.iter().map(|e| Example { adapter_scale: None, ..e.clone() }).collect();
    assert!(worst(&gradients(&plain, 4096)) > 1e-3 * largest);
    // Losses without gradients take the same scales.
    let m = model();
    m.params().iter().for_each(|p| p.update(|w| w.iter_mut().for_each(|w| *w += 0.1)));
    let together = evaluate::losses(&m, &all, 4096).unwrap();
    for (e, want) in all.iter().zip(&together) {
        let mut own = m.clone();
        own.adapters[0].scale = e.adapter_scale.unwrap_or(1.0);
        let alone = evaluate::losses(&own, &[Example { adapter_scale: None, ..e.clone() }], 4096).unwrap();
        assert!((alone[0].sum - want.sum).abs() < 1e-4);
    }
}
