//! `recall`: `Ann has the cat. Bob has the saw. Who has the saw?` is `Bob`. What is asked stands in the prompt.

use super::*;
use serde_json::json;

pub struct Recall;

const FACTS: Knob = Knob::number("facts", 2, 8, 3, "how many owners");

const OWNERS: &[&str] = &["Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ivy", "Jon", "Kim", "Leo"];

impl Ability for Recall {
    const NAME: &'static str = "recall";
    const ABOUT: &'static str = "who has what, told in the prompt";
    const KNOBS: &'static [Knob] = &[FACTS];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let n = d.get(&FACTS) as usize;
        let owners: Vec<&str> = stream.sample(OWNERS.len(), n).into_iter().map(|i| OWNERS[i]).collect();
        let things = words::different(stream, n);
        let asked = stream.below(n);
        let who = stream.chance(0.5);
        let told: Vec<String> = owners.iter().zip(&things).map(|(o, t)| format!("{o} has the {t}.")).collect();
        let question =
            if who { format!("Who has the {}?", things[asked]) } else { format!("What does {} have?", owners[asked]) };
        let prompt = format!("{} {question}", told.join(" "));
        let (from, to) = if who { (&things, &owners) } else { (&owners, &things) };
        let meta = json!({"from": from, "words": to, "asked": from[asked]});
        Made { key: prompt.clone(), prompt, meta, known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let at = meta["from"].as_array()?.iter().position(|f| *f == meta["asked"])?;
        texts(meta)?.get(at).map(|t| t.to_string())
    }
}
