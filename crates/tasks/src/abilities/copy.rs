//! `copy`: `Repeat: cat sun red` is `cat sun red`.

use super::*;
use serde_json::json;

pub struct Copy;

const WORDS: Knob = Knob::number("words", 1, 12, 4, "how many words");

impl Ability for Copy {
    const NAME: &'static str = "copy";
    const ABOUT: &'static str = "the same words again";
    const KNOBS: &'static [Knob] = &[WORDS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let list: Vec<&str> = (0..d.get(&WORDS)).map(|_| words::any(stream)).collect();
        let key = list.join(" ");
        let prompt = word(stream, &["Repeat: {}", "Copy this: {}", "Say again: {}"], &[&key]);
        Made { prompt, key, meta: json!({"words": list}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        texts(meta).map(|w| w.join(" "))
    }
}
