//! `choice`: `Which is a fruit? (A) cat (B) plum (C) saw` is `B`. A letter is the answer, as in multiple-choice tests.

use super::*;
use serde_json::json;

pub struct Choice;

const OPTIONS: Knob = Knob::number("options", 2, 5, 3, "how many to choose from");
const LETTERS: &str = "ABCDE";

impl Ability for Choice {
    const NAME: &'static str = "choice";
    const ABOUT: &'static str = "the letter of the word of a kind";
    const KNOBS: &'static [Knob] = &[OPTIONS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let n = d.get(&OPTIONS) as usize;
        let kinds = stream.sample(words::KINDS.len(), n);
        let options: Vec<&str> = kinds.iter().map(|k| *stream.choose(words::KINDS[*k].1)).collect();
        let kind = words::KINDS[*stream.choose(&kinds)].0;
        let listed: Vec<String> = LETTERS.chars().zip(&options).map(|(l, w)| format!("({l}) {w}")).collect();
        let prompt = format!("Which is {kind}? {}", listed.join(" "));
        Made { key: prompt.clone(), prompt, meta: json!({"words": options, "kind": kind}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let kind = words::KINDS.iter().find(|k| meta["kind"] == k.0)?.1;
        let at = texts(meta)?.iter().position(|w| kind.contains(w))?;
        LETTERS.chars().nth(at).map(String::from)
    }
}
