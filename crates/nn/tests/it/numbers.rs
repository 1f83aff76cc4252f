use std::collections::BTreeMap;
use std::sync::Arc;

use postgrad_nn::adapter::{Adapter, LoraModule};
use postgrad_nn::decoder::{Mask, Pass, Past, Walk};
use postgrad_nn::hook::Point;
use postgrad_nn::optim::{GroupSpec, Kind, Optimizer};
use postgrad_nn::{Decoder, LoraSpec, Weight, peft};
use postgrad_tensor::ops::{self, CeOptions};
use postgrad_tensor::reference::same_bits;
use postgrad_tensor::{Tensor, backward, no_grad, simd};

use crate::fixtures::{Expected, FAMILIES, decoder, path, worst};

fn pass(rows: usize, len: usize) -> Pass {
    Pass::sequences(&vec![len; rows])
}

/// Mean next-token loss over all positions of all rows, as transformers computes it.
fn loss(model: &Decoder, ids: &[u32], len: usize, pass: &Pass) -> Tensor {
    let hidden = model.hidden(ids, &Walk::Tape(pass));
    let mut targets = vec![0; ids.len()];
    let mut weights = vec![0.0; ids.len()];
    for i in 0..ids.len() {
        if i % len + 1 < len {
            targets[i] = ids[i + 1];
            weights[i] = 1.0;
        }
    }
    let n = weights.iter().sum();
    ops::cross_entropy(&hidden, &model.head(), &targets, &weights, n, CeOptions::default()).loss
}

#[test]
fn nine_checkpoints_agree_with_transformers() {
    for family in FAMILIES {
        let expected = Expected::read(&format!("hf/{family}"));
        let (ids, shape) = expected.ids("input_ids");
        for level in simd::available() {
            simd::with_level(level, || {
                let mut model = decoder(family);
                let pass = pass(shape[0], shape[1]);
                let logits = no_grad(|| model.logits(&model.hidden(&ids, &Walk::Tape(&pass))));
                let err = worst(logits.data(), expected.float("logits"));
                assert!(err < 1e-4, "{family} {level:?}: logits differ by {err:.1e}");

                model.weights.train(|_| true);
                let l = loss(&model, &ids, shape[1], &pass);
                let want = expected.float("loss")[0];
                assert!((l.item() - want).abs() / want < 1e-4, "{family}: loss {} is not {want}", l.item());
                backward(&l);
                let params: BTreeMap<String, _> =
                    model.params().into_iter().map(|p| (p.name().to_string(), p)).collect();
                let mut seen = 0;
                for (name, want) in expected.grads() {
                    let Some(p) = params.get(name) else { panic!("{family}: no parameter {name}") };
                    let grad = p.grad().unwrap_or_else(|| panic!("{family}: no gradient of {name}"));
                    let err = worst(grad.data(), want);
                    assert!(err < 1e-3, "{family} {level:?}: gradient of {name} differs by {err:.1e}");
                    seen += 1;
                }
                assert_eq!(seen, params.len(), "{family}");
            });
        }
    }
}

#[test]
fn recomputed_blocks_give_the_same_bits() {
    let expected = Expected::read("hf/qwen3");
    let (ids, shape) = expected.ids("input_ids");
    let run = |checkpoint: bool| {
        let mut model = decoder("qwen3");
        let spec = LoraSpec { rank: 4, dropout: 0.2, ..LoraSpec::default() };
        model.add_lora("a", spec, &postgrad_base::Stream::new(1, &["tune"])).unwrap();
        // B starts at zero, which would leave A without a gradient.
        for p in model.params().iter().filter(|p| p.name().contains("lora_B")) {
            p.update(|w| w.iter_mut().enumerate().for_each(|(i, w)| *w = (i % 7) as f32 * 0.01));
        }
        let pass = Pass { checkpoint, dropout: Some(5), ..pass(shape[0], shape[1]) };
        let l = loss(&model, &ids, shape[1], &pass);
        backward(&l);
        let grads: Vec<_> = model.params().iter().map(|p| p.grad().expect("a gradient")).collect();
        (l, grads)
    };
    let (plain, recomputed) = (run(false), run(true));
    assert!(same_bits(&plain.0, &recomputed.0));
    assert!(plain.1.iter().zip(&recomputed.1).all(|(a, b)| same_bits(a, b)));
}

/// PEFT's adapter beside the llama fixture.
fn with_peft(kind: &str) -> Decoder {
    let mut model = decoder("llama");
    let file = peft::LoraFile::read(&path(&format!("peft/{kind}"))).unwrap();
    let mut modules = BTreeMap::new();
    for (module, side) in &file.weights {
        let id = model.weights.find(&format!("{module}.weight")).unwrap();
        modules.insert(
            id,
            LoraModule { a: Weight::Frozen(side.a.clone()), b: Weight::Frozen(side.b.clone()), scaling: side.scaling },
        );
    }
    model.adapters.push(Adapter { name: kind.into(), spec: LoraSpec::default(), modules, scale: 1.0 });
    model
}

fn logits(model: &Decoder, ids: &[u32], pass: &Pass) -> Tensor {
    no_grad(|| model.logits(&model.hidden(ids, &Walk::Tape(pass))))
}

#[test]
fn lora_adapters_agree_with_peft_unmerged_merged_and_unmerged_again() {
    for kind in ["lora", "lora-qv-rs"] {
        let expected = Expected::read(&format!("peft/{kind}"));
        let (ids, shape) = expected.ids("input_ids");
        let pass = pass(shape[0], shape[1]);
        let mut model = with_peft(kind);
        let base = logits(&decoder("llama"), &ids, &pass);
        let unmerged = logits(&model, &ids, &pass);
        assert!(worst(unmerged.data(), expected.float("logits")) < 1e-4, "{kind}");
        assert!(worst(unmerged.data(), base.data()) > 1e-2, "{kind} changes something");

        model.adapters[0].scale = 0.0;
        assert!(same_bits(&logits(&model, &ids, &pass), &base), "{kind} off");
        let rows: Arc<[f32]> = (0..ids.len()).map(|i| if i < shape[1] { 0.0 } else { 1.0 }).collect();
        model.adapters[0].scale = 1.0;
        let per_row = Pass { row_scales: vec![(kind.into(), rows)], ..pass.clone() };
        let mixed = logits(&model, &ids, &per_row);
        let half = mixed.len() / 2;
        assert!(worst(&mixed.data()[..half], &base.data()[..half]) < 1e-6, "{kind}: factor 0 is off");
        assert!(worst(&mixed.data()[half..], &unmerged.data()[half..]) < 1e-6, "{kind}: factor 1 is on");

        let adapter = model.adapters.remove(0);
        adapter.merge_into(&mut model.weights, 1.0).unwrap();
        assert!(worst(logits(&model, &ids, &pass).data(), expected.float("logits")) < 1e-4, "{kind} merged");
        adapter.merge_into(&mut model.weights, -1.0).unwrap();
        assert!(worst(logits(&model, &ids, &pass).data(), base.data()) < 1e-5, "{kind} unmerged");
    }
}

#[test]
fn a_fresh_adapter_changes_no_bit_of_the_residual_products() {
    let (ids, shape) = Expected::read("hf/llama").ids("input_ids");
    let pass = pass(shape[0], shape[1]);
    let mut model = decoder("llama");
    let base = logits(&model, &ids, &pass);
    model.add_lora("new", LoraSpec::default(), &postgrad_base::Stream::new(0, &["tune"])).unwrap();
    assert!(same_bits(&logits(&model, &ids, &pass), &base));
    assert!(model.weights.params().is_empty() && model.params().len() == 2 * 7 * model.slots.len());
}

#[test]
fn five_updates_agree_with_pytorch() {
    for (file, lora) in [("adamw-full.json", false), ("adamw-lora.json", true)] {
        let text = std::fs::read_to_string(path("peft").join(file)).unwrap();
        let set: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number = |v: &serde_json::Value| v.as_f64().unwrap();
        let rows = |key: &str| -> Vec<Vec<i64>> {
            let list = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect();
            set[key].as_array().unwrap().iter().map(list).collect()
        };
        let (ids, labels) = (rows("input_ids"), rows("labels"));
        let len = ids[0].len();
        let flat: Vec<u32> = ids.concat().iter().map(|i| *i as u32).collect();
        let labels = labels.concat();
        let (mut targets, mut weights) = (vec![0; flat.len()], vec![0.0; flat.len()]);
        for i in 0..flat.len() {
            if i % len + 1 < len && labels[i + 1] >= 0 {
                targets[i] = labels[i + 1] as u32;
                weights[i] = 1.0;
            }
        }
        let n = weights.iter().sum();
        let mut model = if lora { with_peft("lora") } else { decoder("llama") };
        if lora {
            let weights = model.weights.clone();
            model.adapters[0].set_trained(&weights, true);
        } else {
            model.weights.train(|_| true);
        }
        let kind = Kind::AdamW {
            beta1: number(&set["betas"][0]) as f32,
            beta2: number(&set["betas"][1]) as f32,
            eps: number(&set["eps"]) as f32,
        };
        let weight_decay = number(&set["weight_decay"]) as f32;
        let group = GroupSpec { pattern: "*".into(), lr_scale: 1.0, weight_decay, kind };
        let mut optimizer = Optimizer::new(model.params(), vec![group]).unwrap();
        let pass = pass(ids.len(), len);
        for (step, want) in set["loss_and_grad_norm"].as_array().unwrap().iter().enumerate() {
            let hidden = model.hidden(&flat, &Walk::Tape(&pass));
            let ce = ops::cross_entropy(&hidden, &model.head(), &targets, &weights, n, CeOptions::default());
            backward(&ce.loss);
            let stats = optimizer.step(number(&set["lr"]), Some(number(&set["clip"])));
            let (loss, norm) = (number(&want[0]), number(&want[1]));
            assert!(
                (ce.loss.item() as f64 - loss).abs() / loss < 1e-3,
                "{file} step {step}: {} {loss}",
                ce.loss.item()
            );
            assert!((stats.grad_norm - norm).abs() / norm < 1e-3, "{file} step {step}: {} {norm}", stats.grad_norm);
        }
    }
}

#[test]
fn the_materialised_path_equals_the_fused_one() {
    for family in ["mistral", "qwen3"] {
        let (ids, shape) = Expected::read(&format!("hf/{family}")).ids("input_ids");
        let mut model = decoder(family);
        model.weights.train(|_| true);
        let run = |pass: &Pass| {
            let l = loss(&model, &ids, shape[1], pass);
            backward(&l);
            (
                l.item(),
                model
                    .params()
                    .iter()
                    .map(|p| Tensor::from_slice(&p.take_grad().unwrap(), p.shape().dims()))
                    .collect::<Vec<_>>(),
            )
        };
        let fused = pass(shape[0], shape[1]);
        let mut hooked = fused.clone();
        let kept = hooked.hooks.keep(Point::Pattern, None);
        let (a, b) = (run(&fused), run(&hooked));
        assert!((a.0 - b.0).abs() < 1e-5, "{family}: {} {}", a.0, b.0);
        for (x, y) in a.1.iter().zip(&b.1) {
            assert!(worst(y.data(), x.data()) < 1e-3, "{family}");
        }
        let kept = kept.lock().unwrap();
        assert_eq!(kept.len(), shape[0] * model.slots.len());
        for row in kept[0].1.data().chunks(shape[1]) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn packed_sequences_do_not_see_each_other_and_padding_is_harmless() {
    let (ids, _) = Expected::read("hf/llama").ids("input_ids");
    let model = decoder("llama");
    let (a, b) = (&ids[..13], &ids[20..29]);
    let packed: Vec<u32> = [a, b, &[0, 0]].concat();
    let segments: Vec<u32> = [vec![1; 13], vec![2; 9], vec![0; 2]].concat();
    let positions: Vec<u32> = (0..13).chain(0..9).chain([0, 0]).collect();
    let together = logits(&model, &packed, &Pass::segments(24, &segments, &positions));
    let v = model.config.vocab_size;
    let alone_a = logits(&model, a, &Pass::sequences(&[13]));
    let alone_b = logits(&model, b, &Pass::sequences(&[9]));
    assert!(worst(&together.data()[..13 * v], alone_a.data()) < 1e-5);
    assert!(worst(&together.data()[13 * v..22 * v], alone_b.data()) < 1e-5);
}

#[test]
fn bidirectional_and_custom_masks_and_past_keys() {
    let (ids, _) = Expected::read("hf/llama").ids("input_ids");
    let model = decoder("llama");
    let ids = &ids[..10];
    let causal = Pass::sequences(&[10]);
    let both = logits(&model, ids, &Pass { mask: Mask::Bidirectional, ..causal.clone() });
    let plain = logits(&model, ids, &causal);
    assert!(worst(both.data(), plain.data()) > 1e-3);
    // A custom mask that says what causal says.
    let mut m = vec![0.0; 100];
    (0..100).filter(|i| i % 10 > i / 10).for_each(|i| m[i] = f32::NEG_INFINITY);
    let m = Tensor::new(m, &[1, 1, 10, 10]);
    let custom = Pass { mask: Mask::Custom(Arc::new(move |_, _| m.clone())), ..causal.clone() };
    assert!(worst(logits(&model, ids, &custom).data(), plain.data()) < 1e-5);

    // The first tokens as past keys and values: the rest must not notice.
    let mut kept = causal.clone();
    let d = model.config.kv_heads * model.config.head_dim;
    let keys = kept.hooks.keep(Point::Key, None);
    let values = kept.hooks.keep(Point::Value, None);
    logits(&model, ids, &kept);
    let (inv_freq, scale) = model.config.rope_inv_freq();
    let table = Arc::new(ops::RopeTable::new(&inv_freq, 64, scale));
    let positions: Vec<u32> = (0..4).collect();
    let past: Vec<Past> = (0..model.slots.len())
        .map(|slot| {
            let of = |kept: &[(usize, Tensor)]| kept.iter().find(|(s, _)| *s == slot).unwrap().1.narrow(0, 0, 4);
            let k = of(&keys.lock().unwrap());
            let keys = ops::rope(k, &positions, &table, 0, model.config.kv_heads, d / model.config.kv_heads);
            Past { keys, values: of(&values.lock().unwrap()) }
        })
        .collect();
    let rest = Pass { positions: (4..10).collect(), past: Some(Arc::new(past)), ..Pass::sequences(&[6]) };
    let got = logits(&model, &ids[4..], &rest);
    assert!(worst(got.data(), &plain.data()[4 * model.config.vocab_size..]) < 1e-5);
}

#[test]
fn hooks_replace_cut_and_own_parameters() {
    let (ids, _) = Expected::read("hf/llama").ids("input_ids");
    let mut model = decoder("llama");
    let ids = &ids[..12];
    let plain = logits(&model, ids, &Pass::sequences(&[12]));
    for point in [
        Point::Embed,
        Point::ResidualBefore,
        Point::ResidualAfter,
        Point::Query,
        Point::Key,
        Point::Value,
        Point::HeadOutput,
        Point::MlpHidden,
        Point::MlpOutput,
    ] {
        let mut same = Pass::sequences(&[12]);
        same.hooks.add(point, None, |x, _| x);
        assert!(worst(logits(&model, ids, &same).data(), plain.data()) < 1e-5, "{point:?}: identity");
        let mut zero = Pass::sequences(&[12]);
        zero.hooks.add(point, None, |x, _| Tensor::zeros(x.dims()));
        assert!(worst(logits(&model, ids, &zero).data(), plain.data()) > 1e-3, "{point:?}: zero");
    }
    // Steering by a parameter of the hook, which gets a gradient; what lies before a cut gets none.
    model.weights.train(|n| n.contains("layers.0.") || n.contains("layers.2."));
    let steer = postgrad_tensor::Param::new("steer", Tensor::zeros(&[model.config.hidden]));
    let mut cut = Pass::sequences(&[12]);
    let s = steer.clone();
    cut.hooks.add(Point::ResidualAfter, Some(1), move |x, _| &x.detach() + &s.leaf());
    backward(&loss(&model, ids, 12, &cut));
    assert!(steer.grad().is_some_and(|g| g.data().iter().any(|x| *x != 0.0)));
    for p in model.params() {
        assert_eq!(p.grad().is_some(), p.name().contains("layers.2."), "{}", p.name());
    }
}

#[test]
fn a_computed_weight_and_a_shared_slot() {
    let (ids, _) = Expected::read("hf/llama").ids("input_ids");
    let ids = &ids[..8];
    let mut model = decoder("llama");
    let id = model.weights.find("model.layers.1.mlp.up_proj.weight").unwrap();
    let theta = model.weights.get(id).tensor();
    let gate = postgrad_tensor::Param::new("gate", Tensor::full(1.0, &[1]));
    let plain = logits(&model, ids, &Pass::sequences(&[8]));
    model.weights.set(id, Weight::Computed(&theta * &gate.leaf())).unwrap();
    let l = loss(&model, ids, 8, &Pass::sequences(&[8]));
    backward(&l);
    assert!(gate.grad().is_some_and(|g| g.item() != 0.0));
    model.weights.set(id, Weight::Frozen(theta)).unwrap();
    assert!(same_bits(&logits(&model, ids, &Pass::sequences(&[8])), &plain));
    // Two slots may read one set of weights: the last block twice in place of the middle one.
    model.slots[1] = model.slots[2].clone();
    assert!(worst(logits(&model, ids, &Pass::sequences(&[8])).data(), plain.data()) > 1e-3);
}
