//! Tokenizers trained here.

use postgrad_data::{SpecialRoles, Tokenizer, train_bpe};
use proptest::prelude::*;

fn texts() -> Vec<String> {
    (0..400)
        .map(|i| {
            format!("Tom has {i} apples and buys {} more. How many apples has he now? {}", i * 7 % 50, i + i * 7 % 50)
        })
        .collect()
}

fn trained() -> Tokenizer {
    let specials: Vec<String> = ["<|pad|>", "<|end|>", "<think>", "</think>"].map(String::from).to_vec();
    let roles = SpecialRoles {
        eos: Some("<|end|>".into()),
        pad: Some("<|pad|>".into()),
        max_length: Some(1024),
        ..SpecialRoles::default()
    };
    train_bpe(texts().iter(), 280, &specials, &roles).unwrap()
}

#[test]
fn the_same_texts_give_the_same_tokenizer_with_single_digits() {
    let t = trained();
    assert_eq!(t.to_json().unwrap(), trained().to_json().unwrap());
    assert_eq!(t.vocab_size(), 280);
    assert_eq!((t.id_of("<|pad|>"), t.eos(), t.pad()), (Some(0), Some(1), Some(0)));
    assert_eq!(t.encode("1234567").unwrap().len(), 7);
    assert_eq!(t.encode("<think>").unwrap(), [2]);
    assert!(t.encode_plain("<think>").unwrap().len() > 1);
    assert!(t.encode(" apples").unwrap().len() == 1, "a common word is one token");
    let two_digits = (0..280)
        .filter_map(|id| t.token_of(id))
        .find(|s| s.chars().filter(char::is_ascii_digit).count() > 0 && s.len() > 1);
    assert_eq!(two_digits, None);
    let e = train_bpe(texts().iter(), 100, &[], &SpecialRoles::default()).unwrap_err();
    assert!(e.to_string().contains("too small"), "{e}");
}

#[test]
fn a_saved_tokenizer_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    let t = trained();
    t.save(dir.path()).unwrap();
    let again = Tokenizer::load(dir.path()).unwrap();
    for text in texts().iter().take(20) {
        assert_eq!(again.encode(text).unwrap(), t.encode(text).unwrap());
    }
    let config = std::fs::read_to_string(dir.path().join("tokenizer_config.json")).unwrap();
    assert!(config.contains("PreTrainedTokenizerFast") && config.contains("\"model_max_length\": 1024"));
    assert!(Tokenizer::load(&dir.path().join("none")).unwrap_err().to_string().contains("no tokenizer.json"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_comes_back_whole_and_in_pieces(text in any::<String>()) {
        let t = trained_once();
        let ids = t.encode_plain(&text).unwrap();
        prop_assert_eq!(&t.decode(&ids, false).unwrap(), &text);
        let mut stream = t.stream(false);
        let mut streamed: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        streamed += &stream.finish().unwrap();
        prop_assert_eq!(&streamed, &text);
        let (ids, spans) = t.encode_spans(&text).unwrap();
        prop_assert_eq!(ids.len(), spans.len());
        prop_assert!(spans.windows(2).all(|w| w[0].end <= w[1].end));
        prop_assert_eq!(spans.last().map_or(0, |s| s.end), text.len());
    }

    #[test]
    fn any_ids_decode(ids in proptest::collection::vec(0u32..400, 0..30)) {
        let t = trained_once();
        t.decode(&ids, false).unwrap();
        let mut stream = t.stream(false);
        for id in ids {
            stream.push(id).unwrap();
        }
        stream.finish().unwrap();
    }
}

fn trained_once() -> &'static Tokenizer {
    static ONCE: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    ONCE.get_or_init(trained)
}
