//! `reverse`: `Reverse: cat sun red` is `red sun cat`. Words, not letters.

use super::*;
use serde_json::json;

pub struct Reverse;

const WORDS: Knob = Knob::number("words", 2, 8, 3, "how many words");

impl Ability for Reverse {
    const NAME: &'static str = "reverse";
    const ABOUT: &'static str = "words from last to first";
    const KNOBS: &'static [Knob] = &[WORDS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let list = words::different(stream, d.get(&WORDS) as usize);
        let key = list.join(" ");
        let prompt = word(stream, &["Reverse: {}", "Say backwards: {}", "From last to first: {}"], &[&key]);
        Made { prompt, key, meta: json!({"words": list}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let mut list = texts(meta)?;
        list.reverse();
        Some(list.join(" "))
    }
}
