//! `sort`: `Sort: 4 9 2` is `2 4 9`.

use super::*;
use serde_json::json;

pub struct Sort;

const ITEMS: Knob = Knob::number("items", 2, 8, 4, "how many numbers");
const DIGITS: Knob = Knob::number("digits", 1, 3, 1, "most digits");

impl Ability for Sort {
    const NAME: &'static str = "sort";
    const ABOUT: &'static str = "numbers from small to big, or from big to small";
    const KNOBS: &'static [Knob] = &[ITEMS, DIGITS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let list: Vec<i64> = (0..d.get(&ITEMS)).map(|_| number(stream, d.get(&DIGITS))).collect();
        let text: Vec<String> = list.iter().map(i64::to_string).collect();
        let key = text.join(" ");
        let down = stream.chance(0.3);
        let wordings: &[&str] =
            if down { &["Sort down: {}", "From big to small: {}"] } else { &["Sort: {}", "From small to big: {}"] };
        let prompt = word(stream, wordings, &[&key]);
        Made { prompt, key, meta: json!({"numbers": list, "down": down}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let mut list = numbers(meta)?;
        list.sort();
        if meta["down"].as_bool()? {
            list.reverse();
        }
        Some(list.iter().map(i64::to_string).collect::<Vec<_>>().join(" "))
    }
}
