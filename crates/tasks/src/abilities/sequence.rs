//! `sequence`: `2 4 6 8 next?` is `10`. Arithmetic sequences, up or down.

use super::*;
use serde_json::json;

pub struct Sequence;

const STEP: Knob = Knob::number("step", 1, 20, 5, "largest difference");
const DIGITS: Knob = Knob::number("digits", 1, 4, 2, "most digits of the first number");

impl Ability for Sequence {
    const NAME: &'static str = "sequence";
    const ABOUT: &'static str = "the next number of an arithmetic sequence";
    const KNOBS: &'static [Knob] = &[STEP, DIGITS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let step = stream.between(1, d.get(&STEP));
        let first = number(stream, d.get(&DIGITS));
        let mut list: Vec<i64> = (0..5).map(|i| first + i * step).collect();
        if stream.chance(0.3) {
            list.reverse();
        }
        list.truncate(4);
        let text: Vec<String> = list.iter().map(i64::to_string).collect();
        let key = text.join(" ");
        let prompt = word(stream, &["{} next?", "Continue: {}", "What comes after {}?"], &[&key]);
        Made { prompt, key, meta: json!({"numbers": list}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let n = numbers(meta)?;
        let [.., a, b] = n[..] else { return None };
        Some((2 * b - a).to_string())
    }
}
