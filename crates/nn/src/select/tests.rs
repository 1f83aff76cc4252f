use std::collections::{BTreeMap, BTreeSet};

use postgrad_numerics::Svd;
use postgrad_tensor::ops::{self, CeOptions};
use postgrad_tensor::{Tensor, backward};

use super::*;
use crate::config::{AttentionBias, Config};
use crate::decoder::{Pass, Walk};
use crate::delta::Delta;
use crate::optim::{GroupSpec, Kind};

fn model(layers: usize) -> Decoder {
    let mut config = Config::llama(40, 16, layers, 4, 2, 24, 32, true);
    config.attention_bias = AttentionBias { q: true, k: true, v: true, o: false };
    config.qk_norm = true;
    let mut model = Decoder::random(config, &Stream::new(5, &["base"])).unwrap();
    // Norms and biases as of a trained model.
    let ids: Vec<_> =
        model.weights.iter().filter(|(_, _, w)| w.tensor().dims().len() == 1).map(|(id, ..)| id).collect();
    let mut s = Stream::new(6, &["base"]);
    for id in ids {
        let n = model.weights.get(id).tensor().len();
        let noise = (0..n).map(|_| 1.0 + 0.1 * s.normal() as f32).collect();
        model.weights.set(id, Weight::Frozen(Tensor::new(noise, &[n]))).unwrap();
    }
    model
}

fn tune() -> Stream {
    Stream::new(9, &["tune"])
}

fn hft(text: &str) -> Hft {
    let Select::Hft(hft) = Select::parse(text).unwrap() else { panic!("{text}") };
    hft
}

fn bits(model: &Decoder) -> BTreeMap<String, Vec<u32>> {
    let of = |w: &Weight| w.tensor().data().iter().map(|x| x.to_bits()).collect();
    model.weights.iter().map(|(_, name, w)| (name.to_string(), of(w))).collect()
}

fn add_gradients(model: &Decoder, step: usize) {
    let tokens: Vec<u32> = (0..12).map(|i| ((i * 7 + step * 3) % 40) as u32).collect();
    let hidden = model.hidden(&tokens, &Walk::Tape(&Pass::sequences(&[12])));
    let targets: Vec<u32> = tokens.iter().map(|t| (t + 1) % 40).collect();
    let ce = ops::cross_entropy(&hidden, &model.head(), &targets, &[1.0; 12], 12.0, CeOptions::default());
    backward(&ce.loss);
}

fn optimizer(model: &Decoder, kind: Kind) -> Optimizer {
    let group = GroupSpec { pattern: "*".into(), lr_scale: 1.0, weight_decay: 0.1, kind };
    Optimizer::new(model.params(), vec![group]).unwrap()
}

fn steps(model: &Decoder, selection: &mut Selection, o: &mut Optimizer, epochs: &[u64]) {
    for (step, epoch) in epochs.iter().enumerate() {
        selection.before_pass(*epoch, o).unwrap();
        add_gradients(model, step);
        selection.before_update(step as u64, o).unwrap();
        o.step(0.01, Some(1.0));
    }
}

#[test]
fn every_layer_gives_its_half_by_category() {
    for n in [1, 4, 5] {
        let m = model(n);
        let all = layers(&m);
        let mut two_of_three = BTreeSet::new();
        for seed in 0..30 {
            let drawn = draw(&all, 0.5, Level::Category, &tune().nth(seed));
            let chosen = |of: &[(WeightId, Option<WeightId>)]| of.iter().filter(|(id, _)| drawn.contains(id)).count();
            let ffn: Vec<usize> = all.iter().map(|l| chosen(&l.ffn)).collect();
            for (l, ffn) in all.iter().zip(&ffn) {
                assert_eq!((chosen(&l.attention), l.attention.len()), (2, 4));
                assert_eq!((chosen(&l.norms), l.norms.len()), (2, 4), "norms of q and k count");
                assert!([1, 2].contains(ffn));
                for (id, bias) in l.attention.iter().filter_map(|(id, bias)| bias.map(|b| (id, b))) {
                    assert_eq!(drawn.contains(id), drawn.contains(&bias), "a bias goes with its matrix");
                }
            }
            let twos = ffn.iter().filter(|n| **n == 2).count();
            two_of_three.insert(twos);
        }
        let want: &[usize] = match n {
            1 => &[0, 1],
            4 => &[2],
            _ => &[2, 3],
        };
        assert_eq!(two_of_three.into_iter().collect::<Vec<_>>(), want, "{n} layers");
    }
}

#[test]
fn other_ratios_and_levels_have_their_counts() {
    let m = model(4);
    let all = layers(&m);
    let count = |ratio, level, seed| {
        let drawn = draw(&all, ratio, level, &tune().nth(seed));
        let of =
            |f: fn(&hft::Layer) -> &hft::Tensors| all.iter().flat_map(f).filter(|(id, _)| drawn.contains(id)).count();
        (of(|l| &l.attention), of(|l| &l.ffn), of(|l| &l.norms))
    };
    assert_eq!(count(0.25, Level::Category, 0), (4, 3, 4));
    assert_eq!(count(0.75, Level::Category, 0), (12, 9, 12));
    assert_eq!(count(1.0, Level::Category, 0), (16, 12, 16));
    for seed in 0..20 {
        // 6.4 and 9.6 of 16, 4.8 and 7.2 of 12.
        let (attention, ffn, norms) = count(0.4, Level::Category, seed);
        assert!([6, 7].contains(&attention) && [4, 5].contains(&ffn) && [6, 7].contains(&norms));
        let (attention, ffn, norms) = count(0.6, Level::Category, seed);
        assert!([9, 10].contains(&attention) && [7, 8].contains(&ffn) && [9, 10].contains(&norms));
        assert_eq!(count(0.5, Level::Layer, seed), (8, 6, 8));
        let (attention, ffn, norms) = count(0.5, Level::Model, seed);
        assert_eq!(attention + ffn + norms, 22);
    }
    let drawn = draw(&all, 0.5, Level::Layer, &tune());
    let whole = |l: &hft::Layer| l.all().all(|id| drawn.contains(&id)) || !l.all().any(|id| drawn.contains(&id));
    assert!(all.iter().all(whole));
}

#[test]
fn a_draw_is_decided_by_seed_and_round_and_rounds_cover_everything() {
    let m = model(3);
    let all = layers(&m);
    let h = |round| Hft { round, ..Hft::default() };
    let drawn = |round, epoch| draw(&all, 0.5, Level::Category, &h(round).stream(&tune(), epoch));
    assert_eq!(drawn(0, 0), drawn(0, 0));
    assert_ne!(drawn(0, 0), drawn(1, 0));
    assert_ne!(drawn(0, 0), drawn(0, 1));
    assert_ne!(drawn(0, 0), draw(&all, 0.5, Level::Category, &h(0).stream(&Stream::new(10, &["tune"]), 0)));
    let union: BTreeSet<WeightId> = (0..24).flat_map(|round| drawn(round, 0)).collect();
    assert_eq!(union, all.iter().flat_map(hft::Layer::all).collect());
    let everything: BTreeSet<WeightId> = m.weights.iter().map(|(id, ..)| id).collect();
    assert_eq!(draw_all(&m, 1.0, Level::Category, &tune()), everything);
    assert!(draw_all(&m, 0.0, Level::Category, &tune()).is_empty());
}

#[test]
fn the_share_that_is_told_is_the_share_that_is_trained() {
    for text in ["hft", "hft,ratio=0.25,level=model", "hft,embeddings=false,redraw=epoch", "lift,rank=1,filter_rank=2"]
    {
        let mut m = model(3);
        let mut selection = Selection::begin(&Select::parse(text).unwrap(), &mut m, &tune()).unwrap();
        let mut o = optimizer(&m, Kind::default());
        steps(&m, &mut selection, &mut o, &[0]);
        let moments: usize = m.params().iter().map(|p| o.moments(p.name()).first().map_or(0, |x| x.len())).sum();
        let share = selection.share();
        assert_eq!(share.parameters, moments, "{text}");
        let with_gradient: usize = m.params().iter().filter(|p| !p.is_held()).map(|p| p.len()).sum();
        assert_eq!(share.with_gradient, with_gradient);
        assert_eq!(share.all_parameters, m.parameter_count());
        assert_eq!(share.all_tensors, 3 * 11);
        assert!(selection.share().to_string().contains(&format!("{} of {} parameters", moments, m.parameter_count())));
    }
}

#[test]
fn what_is_frozen_has_no_gradient_no_state_and_the_same_bits() {
    for kind in [Kind::default(), Kind::Sgd { momentum: 0.9 }] {
        let mut m = model(2);
        let mut selection = Selection::begin(&Select::Hft(Hft::default()), &mut m, &tune()).unwrap();
        let before = bits(&m);
        let mut o = optimizer(&m, kind);
        add_gradients(&m, 0);
        let with_gradient: BTreeSet<String> =
            m.params().iter().filter(|p| p.take_grad().is_some()).map(|p| p.name().to_string()).collect();
        steps(&m, &mut selection, &mut o, &[0, 0, 1, 1]);
        let after = bits(&m);
        let kept: BTreeSet<String> =
            o.state().keys().filter_map(|k| k.strip_suffix("#0")).map(|s| s.to_string()).collect();
        for (name, was) in &before {
            let trained = after[name] != *was;
            assert_eq!(trained, with_gradient.contains(name), "{name}");
            assert_eq!(trained, kept.contains(name), "{name}");
        }
        let drawn = draw(&layers(&m), 0.5, Level::Category, &hft("hft").stream(&tune(), 0));
        for (id, name, _) in m.weights.iter().filter(|(id, ..)| !is_outer(&layers(&m), *id)) {
            assert_eq!(drawn.contains(&id), with_gradient.contains(name));
        }
    }
}

#[test]
fn a_half_step_is_the_full_step_masked() {
    let kind = Kind::Sgd { momentum: 0.0 };
    let (mut half, mut full) = (model(2), model(2));
    let before = bits(&full);
    Selection::begin(&Select::Hft(Hft::default()), &mut half, &tune()).unwrap();
    full.weights.train(|_| true);
    for m in [&half, &full] {
        let mut o = optimizer(m, kind);
        add_gradients(m, 0);
        // Clipping would divide by norms over different sets.
        o.step(0.05, None);
    }
    let trained: BTreeSet<String> = half.params().iter().map(|p| p.name().to_string()).collect();
    let (half, full) = (bits(&half), bits(&full));
    for (name, was) in &before {
        let want = if trained.contains(name) { &full[name] } else { was };
        assert!(half[name] == *want, "{name}");
    }
    assert!(trained.len() > 10 && trained.len() < before.len());
}

#[test]
fn a_new_pass_draws_again_and_drops_what_leaves() {
    let mut m = model(2);
    let mut selection = Selection::begin(&Select::Hft(hft("hft,redraw=epoch")), &mut m, &tune()).unwrap();
    let mut o = optimizer(&m, Kind::default());
    let active = |m: &Decoder| -> BTreeSet<String> {
        m.params().iter().filter(|p| !p.is_held()).map(|p| p.name().to_string()).collect()
    };
    steps(&m, &mut selection, &mut o, &[0, 0]);
    let (first, before) = (active(&m), bits(&m));
    let kept = |o: &Optimizer, name: &str| o.moments(name).iter().map(|x| x.to_vec()).collect::<Vec<_>>();
    let was: BTreeMap<&String, _> = first.iter().map(|n| (n, kept(&o, n))).collect();
    selection.before_pass(1, &mut o).unwrap();
    let second = active(&m);
    assert_ne!(first, second);
    for name in first.union(&second) {
        let now = kept(&o, name);
        match (first.contains(name), second.contains(name)) {
            (true, true) => assert_eq!(now, was[name], "carried"),
            _ => assert!(now.is_empty(), "dropped, or new"),
        }
    }
    steps(&m, &mut selection, &mut o, &[1]);
    let after = bits(&m);
    for (name, bits) in &before {
        assert_eq!(after[name] != *bits, second.contains(name), "{name}");
    }
}

#[test]
fn lift_changes_listed_entries_of_projections_alone() {
    for kind in ["lift", "magnitude", "gradient", "movement", "momentum", "random", "block", "hybrid"] {
        let mut m = model(2);
        let base = m.weights.clone();
        let select = Select::parse(&format!("lift,mask={kind},rank=2,filter_rank=2,interval=2")).unwrap();
        let mut selection = Selection::begin(&select, &mut m, &tune()).unwrap();
        let mut o = optimizer(&m, Kind::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-6 });
        let mut union: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for step in 0..5 {
            add_gradients(&m, step as usize);
            selection.before_update(step, &mut o).unwrap();
            for p in m.params() {
                let entries = o.entries(p.name()).unwrap();
                let [rows, cols] = *p.shape().dims() else { panic!() };
                assert_eq!(entries.len(), (2 * (rows + cols)).min(rows * cols));
                union.entry(p.name().into()).or_default().extend(entries);
            }
            o.step(0.01, Some(1.0));
        }
        let delta = Delta::between(&base, &m.weights).unwrap();
        assert_eq!(delta.tensors().count(), 14, "seven projections of two layers");
        for (name, changed) in delta.tensors() {
            assert!(name.contains("_proj.weight") && changed > 0, "{name}");
            assert!(delta.entries(name).iter().all(|e| union[name].contains(e)), "{kind}: {name} outside of its lists");
        }
    }
}

#[test]
fn lists_are_made_anew_at_their_interval_from_the_weights_of_then() {
    let mut m = model(1);
    let select = Select::parse("lift,mask=magnitude,rank=1,interval=3").unwrap();
    let mut selection = Selection::begin(&select, &mut m, &tune()).unwrap();
    let mut o = optimizer(&m, Kind::default());
    let p = m.params()[0].clone();
    let mut lists = Vec::new();
    for step in 0..7 {
        add_gradients(&m, step as usize);
        // A weight grown elsewhere in between enters at the next list alone.
        p.update(|w| w[step as usize] = 100.0);
        selection.before_update(step, &mut o).unwrap();
        lists.push(o.entries(p.name()).unwrap().to_vec());
        o.step(1e-4, None);
    }
    assert!(lists[0] == lists[2] && lists[3] == lists[5] && lists[2] != lists[3] && lists[5] != lists[6]);
    assert!((0..4).all(|i| lists[3].contains(&i)) && (0..7).all(|i| lists[6].contains(&i)));
}

fn list(lift: &str, w: &[f32], rows: usize, cols: usize) -> Vec<u32> {
    let Select::Lift(lift) = Select::parse(lift).unwrap() else { panic!() };
    lift.entries(w, rows, cols, None, &mut tune()).unwrap()
}

fn noise(n: usize) -> Vec<f32> {
    let mut s = Stream::new(2, &["test"]);
    (0..n).map(|_| s.normal() as f32).collect()
}

#[test]
fn budgets_are_those_of_a_lora() {
    let w = noise(64 * 64);
    for kind in ["lift", "smallest", "random-directions", "hybrid", "magnitude", "random", "block"] {
        let entries = list(&format!("lift,rank=4,filter_rank=5,mask={kind}"), &w, 64, 64);
        assert_eq!(entries.len(), 512, "{kind}");
        assert!(entries.windows(2).all(|e| e[0] < e[1]));
    }
    assert_eq!(list("lift,rank=4,filter_rank=1,svd=randomized", &w, 64, 64).len(), 512);
    assert_eq!(list("lift,rank=40", &w[..60], 6, 10), (0..60).collect::<Vec<_>>(), "never more than there are");
}

#[test]
fn principal_weights_are_not_the_largest_weights() {
    // 3 u v' with large spikes where |u_i v_j| is small. The spikes stay below the first singular value.
    let (rows, cols) = (48, 40);
    let (mut u, mut v) = (noise(rows), noise(rows + cols)[rows..].to_vec());
    for x in [&mut u, &mut v] {
        x.iter_mut().for_each(|x| *x = 0.5 + x.abs());
        x[..4].fill(0.01);
    }
    let mut w: Vec<f32> = (0..rows * cols).map(|i| 3.0 * u[i / cols] * v[i % cols]).collect();
    let largest = w.iter().fold(0.0f32, |a, b| a.max(*b));
    let spikes: Vec<u32> = (0..4).map(|i| (i * cols + i) as u32).collect();
    let ranks: Vec<f64> = (0..rows * cols).map(|i| (u[i / cols] * v[i % cols]).abs() as f64).collect();
    spikes.iter().for_each(|s| w[*s as usize] = 1.5 * largest);
    let k = rows + cols;
    let (lift, magnitude) = (
        list("lift,rank=1,filter_rank=1", &w, rows, cols),
        list("lift,rank=1,filter_rank=1,mask=magnitude", &w, rows, cols),
    );
    assert_eq!(lift, top_entries(&ranks, k));
    assert!(spikes.iter().all(|s| magnitude.contains(s) && !lift.contains(s)));
    let sketched = list("lift,rank=1,filter_rank=1,svd=randomized", &w, rows, cols);
    assert_eq!(sketched, lift);
}

#[test]
fn with_all_directions_lift_is_magnitude() {
    let w = noise(24 * 30);
    let magnitude = list("lift,rank=3,mask=magnitude", &w, 24, 30);
    assert_eq!(list("lift,rank=3,filter_rank=24", &w, 24, 30), magnitude);
    // The same without the short way round.
    let all = Svd::exact(&w, 24, 30).unwrap().compose(&(0..24).collect::<Vec<_>>());
    assert_eq!(top_entries(&all.iter().map(|x| x.abs()).collect::<Vec<_>>(), 3 * 54), magnitude);
    assert_ne!(list("lift,rank=3,filter_rank=2", &w, 24, 30), magnitude);
    assert_ne!(
        list("lift,rank=3,filter_rank=2", &w, 24, 30),
        list("lift,rank=3,filter_rank=2,mask=smallest", &w, 24, 30)
    );
}

#[test]
fn equal_values_go_to_the_earlier_entry() {
    assert_eq!(top_entries(&[1.0, 2.0, 2.0, 2.0, 0.0], 2), [1, 2]);
    assert_eq!(top_entries(&[1.0, 1.0], 5), [0, 1]);
}

#[test]
fn selections_that_cannot_be_meant_are_refused() {
    for wrong in [
        "hft,ratio=0",
        "hft,ratio=1.5",
        "hft,half=1",
        "hft,level=sometimes",
        "hft,ratio",
        "lift,rank=0",
        "lift,mask=smallest,svd=randomized",
        "third",
        "",
    ] {
        assert_eq!(Select::parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
    let select = Select::parse("lift,mask=random-directions,filter_rank=4").unwrap();
    let json = serde_json::to_value(&select).unwrap();
    assert_eq!(serde_json::from_value::<Select>(json).unwrap(), select);
}
