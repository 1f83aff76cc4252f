//! Padding, packing and buckets lose nothing and mix nothing.

use postgrad_base::Stream;
use postgrad_data::collate::pack;
use postgrad_data::{Batch, Example};
use proptest::prelude::*;

fn example(tokens: Vec<u32>, weight: f32, seed: u64) -> Example {
    let mut stream = Stream::new(seed, &["test"]);
    let mut e = Example { weight, group: seed, ..Example::new(tokens) };
    e.weights.iter_mut().skip(1).for_each(|w| *w = stream.between(-2, 2) as f32);
    e
}

fn examples() -> impl Strategy<Value = Vec<Example>> {
    let one = (proptest::collection::vec(0u32..50, 0..20), 0u8..4, any::<u64>());
    proptest::collection::vec(one.prop_map(|(t, w, s)| example(t, f32::from(w), s)), 1..30)
}

/// Takes a batch apart again and compares.
fn check(batch: &Batch, rows: &[Vec<&Example>], pad: u32) {
    let flat: Vec<&Example> = rows.iter().flatten().copied().filter(|e| !e.is_empty()).collect();
    assert_eq!(batch.examples, flat.len());
    assert_eq!(batch.tokens_real, flat.iter().map(|e| e.len()).sum::<usize>());
    let mut seen = vec![Vec::new(); flat.len()];
    for at in 0..batch.rows * batch.len {
        let of = batch.example_of[at];
        if of == u32::MAX {
            assert_eq!((batch.tokens[at], batch.weights[at], batch.segments[at]), (pad, 0.0, 0));
            continue;
        }
        let (e, i) = (flat[of as usize], batch.positions[at] as usize);
        assert_eq!(i, seen[of as usize].len(), "positions count up from 0");
        seen[of as usize].push(batch.tokens[at]);
        assert!(batch.segments[at] > 0);
        if at > 0 && at % batch.len != 0 && batch.example_of[at - 1] != u32::MAX {
            let same = batch.example_of[at - 1] == of;
            assert_eq!(same, batch.segments[at - 1] == batch.segments[at], "a segment is one example");
        }
        match e.tokens.get(i + 1) {
            Some(next) => assert_eq!((batch.targets[at], batch.weights[at]), (*next, e.weights[i + 1] * e.weight)),
            None => assert_eq!(batch.weights[at], 0.0, "nothing is predicted across a segment's end"),
        }
    }
    for (e, tokens) in flat.iter().zip(seen) {
        assert_eq!(e.tokens, tokens, "every token once, in order");
    }
    let want: f64 = flat.iter().flat_map(|e| e.weights.iter().skip(1).map(|w| f64::from(w * e.weight))).sum();
    assert!((batch.weight_sum() - want).abs() < 1e-6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn padding_and_packing_keep_every_token_once(examples in examples(), room in 0usize..15) {
        let all: Vec<&Example> = examples.iter().collect();
        let rows: Vec<Vec<&Example>> = all.iter().map(|e| vec![*e]).collect();
        let padded = Batch::padded(&all, 8, 49).unwrap();
        prop_assert_eq!(padded.len % 8, 0);
        check(&padded, &rows, 49);
        let lens: Vec<usize> = examples.iter().map(Example::len).collect();
        let capacity = lens.iter().max().unwrap().max(&1) + room;
        let bins = pack(&lens, capacity).unwrap();
        let mut placed: Vec<usize> = bins.iter().flatten().copied().collect();
        placed.sort();
        prop_assert_eq!(placed, (0..lens.len()).filter(|i| lens[*i] > 0).collect::<Vec<_>>());
        // Best fit leaves no two rows that would go into one.
        let fill = |b: &Vec<usize>| b.iter().map(|i| lens[*i]).sum::<usize>();
        for (i, a) in bins.iter().enumerate() {
            prop_assert!(bins[i + 1..].iter().all(|b| fill(a) + fill(b) > capacity));
        }
        let rows: Vec<Vec<&Example>> = bins.iter().map(|b| b.iter().map(|i| &examples[*i]).collect()).collect();
        check(&Batch::from_rows(&rows, capacity, 49).unwrap(), &rows, 49);
    }
}

#[test]
fn what_does_not_fit_is_an_error_with_its_place() {
    let long = Example::new(vec![1; 9]);
    assert!(Batch::from_rows(&[vec![&long]], 8, 0).is_err());
    assert!(pack(&[9], 8).is_err());
    assert_eq!(pack(&[], 8).unwrap(), Vec::<Vec<usize>>::new());
}

#[test]
fn corruption_changes_inputs_and_no_target() {
    let e = Example::new(vec![5, 6, 7, 8]);
    let batch = Batch::corrupted(&[vec![&e]], 5, 0, &mut |tokens, _| tokens[1..].fill(9)).unwrap();
    assert_eq!(batch.tokens, [5, 9, 9, 9, 0]);
    assert_eq!(batch.targets[..3], [6, 7, 8]);
    assert_eq!(batch.weights, [1.0, 1.0, 1.0, 0.0, 0.0]);
}
