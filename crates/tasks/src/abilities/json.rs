//! `json`: `Give 3+4 as JSON.` is `{"answer": 7}`. An easy question with an answer in a required form.
//!
//! Any JSON spelling of an object with the single key `answer` and the right value passes.

use super::*;
use serde_json::json;

pub struct Json;

const DIGITS: Knob = Knob::number("digits", 1, 3, 1, "most digits of the numbers");

impl Ability for Json {
    const NAME: &'static str = "json";
    const ABOUT: &'static str = "an easy answer as a JSON object";
    const KNOBS: &'static [Knob] = &[DIGITS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let (what, meta) = match stream.below(3) {
            0 => {
                let w = words::any(stream);
                (w.to_string(), json!({"value": w}))
            }
            1 => {
                let n = number(stream, d.get(&DIGITS));
                (n.to_string(), json!({"value": n}))
            }
            _ => {
                let (a, b) = (number(stream, d.get(&DIGITS)), number(stream, d.get(&DIGITS)));
                (format!("{a}+{b}"), json!({"value": a + b}))
            }
        };
        let prompt = word(stream, &["Give {} as JSON.", "JSON for {}?", "Answer in JSON: {}"], &[&what]);
        Made { prompt, key: what, meta, known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let value = meta.get("value").filter(|v| v.is_string() || v.is_i64())?;
        Some(format!("{{\"answer\": {value}}}"))
    }

    fn accepts(meta: &Value, text: &str) -> bool {
        let said: Option<serde_json::Map<String, Value>> = serde_json::from_str(text).ok();
        said.is_some_and(|m| m.len() == 1 && m.get("answer").is_some() && m.get("answer") == meta.get("value"))
    }
}
