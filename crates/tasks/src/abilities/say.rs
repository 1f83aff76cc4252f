//! `say`: `Say cat 3 times.` is `cat cat cat`, and nothing else.

use super::*;
use serde_json::json;

pub struct Say;

const TIMES: Knob = Knob::number("times", 1, 9, 5, "most times");

impl Ability for Say {
    const NAME: &'static str = "say";
    const ABOUT: &'static str = "a word so many times and nothing else";
    const KNOBS: &'static [Knob] = &[TIMES];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let (w, n) = (words::any(stream), stream.between(1, d.get(&TIMES)));
        let times = n.to_string();
        let prompt = match stream.below(3) {
            0 if n == 1 => format!("Say only {w}."),
            0 => format!("Say only {w}, {n} times."),
            1 => word(stream, &["{} times {} and nothing else."], &[&times, w]),
            _ => word(stream, &["Write {} x {}"], &[w, &times]),
        };
        Made { prompt, key: format!("{w} {n}"), meta: json!({"words": [w], "numbers": [n]}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let n = *numbers(meta)?.first().filter(|n| (0..=1000).contains(*n))?;
        Some(vec![*texts(meta)?.first()?; n as usize].join(" "))
    }
}
