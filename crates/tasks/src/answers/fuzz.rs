//! The fuzz target of the answers engine: a function of bytes that checks what must hold for any text.

use super::{Mode, equal, extract, parse};

/// Panics where a promise is broken: extraction's strict answer is its flexible one, every answer equals itself, the canonical form of a short
/// answer parses, verdicts repeat.
pub fn fuzz_answers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (gold, pred) = match text.split_once('\0') {
        Some(pair) => pair,
        None => (&*text, &*text),
    };
    for mode in [Mode::Any, Mode::Choice, Mode::Number] {
        let found = extract(pred, mode);
        assert!(found.strict.is_none() || found.strict == found.flexible);
    }
    let printed = parse(gold).to_string();
    let _ = parse(&printed);
    if !gold.trim().is_empty() {
        let itself = equal(gold, gold);
        assert!(itself.equal, "{gold:?} is not itself: {itself:?}");
    }
    let (one, two) = (equal(gold, pred), equal(gold, pred));
    assert_eq!(one, two);
}
