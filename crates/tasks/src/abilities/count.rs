//! `count`: `How many times is cat in: cat dog cat?` is `2`.

use super::*;
use serde_json::json;

pub struct Count;

const WORDS: Knob = Knob::number("words", 2, 12, 5, "most words in the list");

impl Ability for Count {
    const NAME: &'static str = "count";
    const ABOUT: &'static str = "how often a word is in a list";
    const KNOBS: &'static [Knob] = &[WORDS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let n = stream.between(2, d.get(&WORDS)) as usize;
        let pool = words::different(stream, 3);
        let wanted = pool[0];
        let times = stream.below(n + 1);
        let mut list: Vec<&str> = (0..n).map(|i| if i < times { wanted } else { pool[1 + stream.below(2)] }).collect();
        stream.shuffle(&mut list);
        let joined = list.join(" ");
        let prompt = word(stream, &["How many times is {} in: {}?", "Count {} in: {}"], &[wanted, &joined]);
        Made {
            prompt,
            key: format!("{wanted}: {joined}"),
            meta: json!({"words": list, "wanted": wanted}),
            known: false,
        }
    }

    fn answer(meta: &Value) -> Option<String> {
        let wanted = meta["wanted"].as_str()?;
        Some(texts(meta)?.iter().filter(|w| **w == wanted).count().to_string())
    }
}
