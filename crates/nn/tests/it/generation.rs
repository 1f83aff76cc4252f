use std::sync::Arc;

use postgrad_base::Stream;
use postgrad_base::cancel::Cancel;
use postgrad_nn::Decoder;
use postgrad_nn::decoder::{Pass, Walk};
use postgrad_nn::logits::Rules;
use postgrad_nn::sample::{Completion, Request, Settings, Source, Stop, sample};
use postgrad_tensor::{no_grad, simd};

use crate::fixtures::{Expected, FAMILIES, decoder, worst};

fn settings(rules: Rules, max_tokens: usize) -> Arc<Settings> {
    Arc::new(Settings { rules, max_tokens, min_tokens: 0, end: vec![2] })
}

fn run(model: &Decoder, requests: &[Request], places: usize) -> Vec<Completion> {
    let mut out = Vec::new();
    let collect = |c| {
        out.push(c);
        Ok(())
    };
    sample(model, requests, places, None, &Cancel::new(), collect).unwrap();
    out.sort_by_key(|c| (c.request, c.sample));
    out
}

#[test]
fn greedy_continuations_agree_with_transformers() {
    for family in FAMILIES {
        let expected = Expected::read(&format!("hf/{family}"));
        let (ids, _) = expected.ids("input_ids");
        let (want, _) = expected.ids("greedy");
        let want = if want.starts_with(&ids[..8]) { &want[8..] } else { &want[..] };
        for level in simd::available() {
            simd::with_level(level, || {
                let request = Request {
                    prompt: ids[..8].to_vec(),
                    settings: settings(Rules::greedy(), 24),
                    stream: Stream::new(0, &["sample"]),
                    first: 0,
                    n: 1,
                };
                let out = run(&decoder(family), &[request], 1);
                assert_eq!(out[0].tokens, want, "{family} {level:?}");
            });
        }
    }
}

/// Every row of logits that a sequence's decoding went through.
fn trace(model: &Decoder, prompt: &[u32], chunk: usize, company: usize, place: usize) -> Vec<Vec<u32>> {
    let mut states: Vec<_> = (0..company).map(|_| model.start()).collect();
    let others: Vec<Vec<u32>> =
        (0..company).map(|i| (0..40).map(|j| 3 + ((i * 31 + j * 7) % 150) as u32).collect()).collect();
    let mut rows = Vec::new();
    let mut at = vec![0; company];
    let mut mine = 0;
    let mut tokens = prompt.to_vec();
    for step in 0..20 {
        let chunks: Vec<Vec<u32>> = (0..company)
            .map(|i| {
                if i == place {
                    let end = if mine < prompt.len() { (mine + chunk).min(prompt.len()) } else { mine + 1 };
                    tokens[mine..end].to_vec()
                } else {
                    // The others read in uneven pieces and start anew now and then.
                    let n = 1 + (step + i) % 3;
                    let start = at[i] % 30;
                    at[i] += n;
                    others[i][start..start + n].to_vec()
                }
            })
            .collect();
        if step % 5 == 4 {
            for (i, s) in states.iter_mut().enumerate().filter(|(i, _)| *i != place && i % 4 == 0) {
                *s = model.start();
                at[i] = 0;
            }
        }
        let mut refs: Vec<_> = states.iter_mut().collect();
        let slices: Vec<&[u32]> = chunks.iter().map(|c| &c[..]).collect();
        let logits = model.next(&mut refs, &slices).unwrap();
        let v = model.config.vocab_size;
        let row = &logits[place * v..(place + 1) * v];
        mine += chunks[place].len();
        if mine >= prompt.len() {
            rows.push(row.iter().map(|x| x.to_bits()).collect());
            let best = (0..v).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            tokens.push(best as u32);
        }
        if rows.len() == 10 {
            break;
        }
    }
    rows
}

#[test]
fn decode_logits_have_the_same_bits_alone_in_company_after_refilling_and_however_the_prompt_was_read() {
    for family in ["llama-tied", "mistral", "qwen3"] {
        for level in simd::available() {
            simd::with_level(level, || {
                let mut model = decoder(family);
                let lora = postgrad_nn::LoraSpec { rank: 3, ..Default::default() };
                model.add_lora("a", lora, &Stream::new(4, &["tune"])).unwrap();
                for p in model.params() {
                    p.update(|w| w.iter_mut().enumerate().for_each(|(i, w)| *w += (i % 5) as f32 * 0.01));
                }
                let prompt: Vec<u32> = (0..9).map(|i| 5 + i * 11 % 140).collect();
                let alone = trace(&model, &prompt, prompt.len(), 1, 0);
                assert_eq!(alone.len(), 10);
                for (chunk, company, place) in [(9, 7, 3), (9, 64, 63), (9, 64, 0), (1, 1, 0), (4, 7, 6)] {
                    let got = trace(&model, &prompt, chunk, company, place);
                    assert!(alone == got, "{family} {level:?}: prompt by {chunk}, {company} together, place {place}");
                }
                // Reading with gradients off but through the training products differs only by rounding.
                let all = no_grad(|| model.logits(&model.hidden(&prompt, &Walk::Tape(&Pass::sequences(&[9])))));
                let v = model.config.vocab_size;
                let decoded: Vec<f32> = alone[0].iter().map(|b| f32::from_bits(*b)).collect();
                assert!(worst(&decoded, &all.data()[8 * v..]) < 1e-5);
            });
        }
    }
}

#[test]
fn a_forked_and_truncated_state_is_a_fresh_one() {
    let model = decoder("llama");
    let (a, b): (Vec<u32>, Vec<u32>) = ((3..12).collect(), (40..45).collect());
    let mut one = model.start();
    model.next(&mut [&mut one], &[&a]).unwrap();
    let mut fork = model.fork(&one);
    model.next(&mut [&mut one], &[&[7, 8, 9]]).unwrap();
    let forked = model.next(&mut [&mut fork], &[&b]).unwrap();
    model.truncate(&mut one, a.len());
    let truncated = model.next(&mut [&mut one], &[&b]).unwrap();
    let whole = model.next(&mut [&mut model.start()], &[&[&a[..], &b].concat()]).unwrap();
    assert!(forked == whole && truncated == whole);
}

#[test]
fn samples_do_not_depend_on_their_company() {
    let model = decoder("qwen2");
    let request = |i: u32, n| Request {
        prompt: (3..6 + i % 5).collect(),
        settings: settings(Rules { top_p: 0.95, ..Rules::default() }, 12 + i as usize % 7),
        stream: Stream::new(9, &["sample"]).nth(i as u64),
        first: 0,
        n,
    };
    let requests: Vec<Request> = (0..9).map(|i| request(i, 1 + i as usize % 4)).collect();
    let reference = run(&model, &requests, 1);
    assert_eq!(reference.len(), requests.iter().map(|r| r.n).sum::<usize>());
    for places in [2, 5, 64] {
        assert!(run(&model, &requests, places) == reference, "{places} places");
    }
    let alone = run(&model, &requests[7..8], 1);
    for (a, b) in alone.iter().zip(reference.iter().filter(|c| c.request == 7)) {
        assert_eq!(a.tokens, b.tokens);
    }
    // A prompt that goes on at a later sample makes what it would have made.
    let later = Request { first: 2, n: 2, ..requests[3].clone() };
    let want: Vec<_> = reference.iter().filter(|c| c.request == 3 && c.sample >= 2).map(|c| &c.tokens).collect();
    assert_eq!(run(&model, &[later], 4).iter().map(|c| &c.tokens).collect::<Vec<_>>(), want);
    for c in &reference {
        assert_eq!(c.tokens.len(), c.behaviour.len());
        assert!(c.model.iter().all(|l| *l <= 1e-5) && c.entropy.iter().all(|h| *h >= -1e-5));
    }
}

#[test]
fn recorded_log_probs_are_the_models_own() {
    let model = decoder("llama");
    let requests = [Request {
        prompt: vec![5, 6, 7],
        settings: settings(Rules { temperature: 0.7, top_k: 20, ..Rules::default() }, 10),
        stream: Stream::new(1, &["sample"]),
        first: 0,
        n: 2,
    }];
    for c in run(&model, &requests, 4) {
        let all: Vec<u32> = [&requests[0].prompt[..], &c.tokens].concat();
        let hidden = no_grad(|| model.hidden(&all, &Walk::Tape(&Pass::sequences(&[all.len()]))));
        let logits = model.logits(&hidden);
        let v = model.config.vocab_size;
        for (i, (&t, &lp)) in c.tokens.iter().zip(&c.model).enumerate() {
            let row = &logits.data()[(2 + i) * v..(3 + i) * v];
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let z: f64 = row.iter().map(|x| ((x - max) as f64).exp()).sum();
            let want = (row[t as usize] - max) as f64 - z.ln();
            assert!((lp as f64 - want).abs() < 1e-4, "{lp} {want}");
        }
    }
}

#[test]
fn stops_and_limits() {
    let model = decoder("llama");
    let base = Settings { rules: Rules::default(), max_tokens: 5, min_tokens: 0, end: vec![] };
    let request = |s: Settings, prompt: Vec<u32>| Request {
        prompt,
        settings: Arc::new(s),
        stream: Stream::new(2, &["s"]),
        first: 0,
        n: 1,
    };
    let one = |s: Settings, prompt: Vec<u32>| run(&model, &[request(s, prompt)], 3).remove(0);
    let c = one(base.clone(), vec![4]);
    assert_eq!((c.tokens.len(), c.stop), (5, Stop::Budget));
    let all: Vec<u32> = (0..160).collect();
    let c = one(Settings { end: all.clone(), ..base.clone() }, vec![4]);
    assert_eq!((c.tokens.len(), c.stop), (1, Stop::End));
    // End tokens may not come before the minimum.
    let c = one(Settings { end: all[..159].to_vec(), min_tokens: 3, ..base.clone() }, vec![4]);
    assert_eq!(&c.tokens[..3], &[159; 3]);
    let long: Vec<u32> = (0..254).map(|i| i % 100).collect();
    let c = one(base.clone(), long.clone());
    assert_eq!((c.tokens.len(), c.stop), (2, Stop::Context));
    let c = one(base.clone(), [long, vec![1, 2, 3]].concat());
    assert_eq!((c.tokens.len(), c.stop), (0, Stop::Context));
    assert!(model.next(&mut [&mut model.start()], &[&[160]]).is_err());
    let mut out = vec![];
    let stop = |_: usize, _: usize, t: &[u32]| t.len() == 2;
    let collect = |c: Completion| {
        out.push(c);
        Ok(())
    };
    sample(&model, &[request(base, vec![4])], 1, Some(&stop), &Cancel::new(), collect).unwrap();
    assert_eq!((out[0].tokens.len(), out[0].stop), (2, Stop::Predicate));
}
