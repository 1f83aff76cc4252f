//! `compare`: `Which is bigger, 34 or 43?` is `43`; `same` when they are equal.

use super::*;
use serde_json::json;

pub struct Compare;

const DIGITS: Knob = Knob::number("digits", 1, 6, 2, "most digits of either number");

impl Ability for Compare {
    const NAME: &'static str = "compare";
    const ABOUT: &'static str = "the bigger or smaller of two numbers, or that they are the same";
    const KNOBS: &'static [Knob] = &[DIGITS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let a = number(stream, d.get(&DIGITS));
        let b = if stream.chance(0.1) { a } else { number(stream, d.get(&DIGITS)) };
        let (x, y) = (a.to_string(), b.to_string());
        let bigger = stream.chance(0.5);
        let wanted = if bigger { "bigger" } else { "smaller" };
        let prompt = word(stream, &["Which is {}, {} or {}?", "The {} of {} and {}?"], &[wanted, &x, &y]);
        let key = format!("{wanted} {} {}", a.min(b), a.max(b));
        Made { prompt, key, meta: json!({"numbers": [a, b], "bigger": bigger}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let n = numbers(meta)?;
        let [a, b] = n[..] else { return None };
        let bigger = meta["bigger"].as_bool()?;
        Some(if a == b {
            "same".into()
        } else if bigger {
            a.max(b).to_string()
        } else {
            a.min(b).to_string()
        })
    }
}
