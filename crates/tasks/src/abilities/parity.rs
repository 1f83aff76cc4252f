//! `parity`: `Is 34 even?` is `yes`.

use super::*;
use serde_json::json;

pub struct Parity;

const DIGITS: Knob = Knob::number("digits", 1, 6, 3, "most digits");

impl Ability for Parity {
    const NAME: &'static str = "parity";
    const ABOUT: &'static str = "whether a number is even or odd";
    const KNOBS: &'static [Knob] = &[DIGITS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let n = number(stream, d.get(&DIGITS));
        let asked = if stream.chance(0.5) { "even" } else { "odd" };
        let text = n.to_string();
        let prompt = word(stream, &["Is {} {}?", "Is the number {} {}?", "{}: {} or not?"], &[&text, asked]);
        Made { prompt, key: text, meta: json!({"numbers": [n], "asked": asked}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let even = numbers(meta)?.first()? % 2 == 0;
        let yes = match meta["asked"].as_str()? {
            "even" => even,
            "odd" => !even,
            _ => return None,
        };
        Some(if yes { "yes".into() } else { "no".into() })
    }
}
