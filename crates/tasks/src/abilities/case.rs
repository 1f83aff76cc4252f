//! `case`: `Write cat in capitals.` is `CAT`. Words from a closed list: the letters of a word must be known.

use super::*;
use serde_json::json;

pub struct Case;

impl Ability for Case {
    const NAME: &'static str = "case";
    const ABOUT: &'static str = "a word in capitals";
    const KNOBS: &'static [Knob] = &[];

    fn make(stream: &mut Stream, _: &Difficulty) -> Made {
        let w = words::any(stream);
        let wordings =
            ["Write {} in capitals.", "Upper case: {}", "Make {} loud.", "{} in capital letters?", "Capitals for {}."];
        let prompt = word(stream, &wordings, &[w]);
        Made { prompt, key: w.into(), meta: json!({"words": [w]}), known: true }
    }

    fn answer(meta: &Value) -> Option<String> {
        texts(meta)?.first().map(|w| w.to_uppercase())
    }
}
