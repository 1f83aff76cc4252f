//! `spell`: `Spell cat.` is `c a t`. Words from a closed list: the letters of a word must be known.

use super::*;
use serde_json::json;

pub struct Spell;

impl Ability for Spell {
    const NAME: &'static str = "spell";
    const ABOUT: &'static str = "the letters of a word";
    const KNOBS: &'static [Knob] = &[];

    fn make(stream: &mut Stream, _: &Difficulty) -> Made {
        let w = words::any(stream);
        let wordings =
            ["Spell {}.", "Letters of {}?", "How is {} spelled?", "Spell the word {}.", "Letter by letter: {}"];
        let prompt = word(stream, &wordings, &[w]);
        Made { prompt, key: w.into(), meta: json!({"words": [w]}), known: true }
    }

    fn answer(meta: &Value) -> Option<String> {
        let letters: Vec<String> = texts(meta)?.first()?.chars().map(String::from).collect();
        Some(letters.join(" "))
    }
}
