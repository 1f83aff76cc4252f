//! `add`: `34+5=?` is `39`. Sums and differences; a difference is never negative.

use super::*;
use serde_json::json;

pub struct Add;

const DIGITS: Knob = Knob::number("digits", 1, 6, 2, "most digits of either number");
const OP: Knob = Knob::choice("op", &["any", "plus", "minus"], "sums, differences or both");

impl Ability for Add {
    const NAME: &'static str = "add";
    const ABOUT: &'static str = "sums and differences of two numbers";
    const KNOBS: &'static [Knob] = &[DIGITS, OP];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let minus = match d.get(&OP) {
            0 => stream.chance(0.5),
            op => op == 2,
        };
        let (mut a, mut b) = (number(stream, d.get(&DIGITS)), number(stream, d.get(&DIGITS)));
        let (low, high) = (a.min(b), a.max(b));
        if minus {
            (a, b) = (high, low);
        }
        let (sign, spoken) = if minus { ("-", "minus") } else { ("+", "plus") };
        let (x, y) = (a.to_string(), b.to_string());
        let prompt = match stream.below(3) {
            0 => format!("{x}{sign}{y}=?"),
            1 => format!("What is {x} {spoken} {y}?"),
            _ => format!("Compute {x}{sign}{y}."),
        };
        // A sum and its mirror are one question.
        let key = if minus { format!("{a}-{b}") } else { format!("{low}+{high}") };
        Made { prompt, key, meta: json!({"numbers": [a, b], "op": sign}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let n = numbers(meta)?;
        let [a, b] = n[..] else { return None };
        match meta["op"].as_str()? {
            "+" => Some((a + b).to_string()),
            "-" => Some((a - b).to_string()),
            _ => None,
        }
    }
}
