//! Selections in the loop: a killed run ends in the same bits, another selection is another run.

use std::path::Path;

use postgrad_base::event::{Memory, Sink};
use postgrad_base::progress::Mode;
use postgrad_base::{Result, Stream};
use postgrad_nn::Decoder;
use postgrad_nn::config::Config;
use postgrad_nn::delta::Delta;
use postgrad_nn::select::{Select, Selection};
use postgrad_train::run_dir::RunDir;
use postgrad_train::source::InMemory;
use postgrad_train::{Outcome, Settings, Sft};

use crate::{DiesAt, bits, examples, settings};

fn model() -> Decoder {
    Decoder::random(Config::llama(50, 16, 3, 4, 2, 24, 64, true), &Stream::new(3, &["base"])).unwrap()
}

fn train(m: &mut Decoder, select: &str, dir: Option<&Path>, sink: &mut dyn Sink) -> Result<Outcome> {
    let select = Select::parse(select)?;
    let mut selection = Selection::begin(&select, m, &Stream::new(1, &["tune", "select"]))?;
    let dir = dir.map(RunDir::open).transpose()?;
    let mut source = InMemory::new(examples(10), Stream::new(0, &["data"]));
    let settings = Settings { weight_decay: 0.1, ..settings() };
    Sft {
        decoder: m,
        settings: &settings,
        groups: None,
        source: &mut source,
        evals: vec![],
        sink,
        cancel: Default::default(),
        progress: Mode::Quiet,
        dir: dir.as_ref(),
        sampler: None,
        select: Some(&mut selection),
        edit_grads: None,
        constrain: None,
    }
    .run()
}

#[test]
fn a_killed_run_with_a_selection_ends_in_the_same_bits() {
    // Twelve steps of four of ten examples: five passes; checkpoints at 3, 6, 9.
    for select in [
        "hft",
        "hft,redraw=epoch",
        "lift,rank=1,filter_rank=2,interval=5",
        "lift,mask=movement,rank=1,interval=4",
        "lift,mask=random,rank=1,interval=3",
    ] {
        let mut whole = model();
        train(&mut whole, select, None, &mut Memory::default()).unwrap();
        for die in [1, 4, 8, 10] {
            let folder = tempfile::tempdir().unwrap();
            assert!(train(&mut model(), select, Some(folder.path()), &mut DiesAt(die)).is_err());
            let mut again = model();
            train(&mut again, select, Some(folder.path()), &mut Memory::default()).unwrap();
            assert!(bits(&again) == bits(&whole), "{select} killed at {die}");
        }
        let changed = Delta::between(&model().weights, &whole.weights).unwrap();
        assert!(!changed.is_empty(), "{select}");
    }
}

#[test]
fn another_selection_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(&mut model(), "hft", Some(folder.path()), &mut DiesAt(5)).is_err());
    let e = train(&mut model(), "hft,round=1", Some(folder.path()), &mut Memory::default()).unwrap_err();
    assert_eq!(e.exit_code(), 2);
    assert!(e.to_string().contains("select was"), "{e}");
}

#[test]
fn threads_change_no_bit_of_a_list() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut m = model();
            train(&mut m, "lift,rank=1,filter_rank=3,interval=4", None, &mut Memory::default()).unwrap();
            bits(&m)
        })
    };
    assert!(run(1) == run(3));
}
