//! `tallest`: `Ann is taller than Bob. Bob is taller than Cid. Who is the tallest?` is `Ann`. A chain of comparisons, told
//! in any order.

use super::*;
use serde_json::json;

pub struct Tallest;

const PEOPLE: Knob = Knob::number("people", 2, 6, 3, "how many people");

const NAMES: &[&str] = &["Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ivy", "Jon", "Kim", "Leo"];

impl Ability for Tallest {
    const NAME: &'static str = "tallest";
    const ABOUT: &'static str = "the tallest or shortest of people compared in pairs";
    const KNOBS: &'static [Knob] = &[PEOPLE];

    fn make(stream: &mut Stream, d: &Difficulty) -> Made {
        let n = d.get(&PEOPLE) as usize;
        let people: Vec<&str> = stream.sample(NAMES.len(), n).into_iter().map(|i| NAMES[i]).collect();
        let mut pairs: Vec<[&str; 2]> = people.windows(2).map(|p| [p[0], p[1]]).collect();
        stream.shuffle(&mut pairs);
        let told: Vec<String> = pairs.iter().map(|[a, b]| format!("{a} is taller than {b}.")).collect();
        let asked = if stream.chance(0.5) { "tallest" } else { "shortest" };
        let prompt = format!("{} Who is the {asked}?", told.join(" "));
        Made { key: prompt.clone(), prompt, meta: json!({"pairs": pairs, "asked": asked}), known: false }
    }

    fn answer(meta: &Value) -> Option<String> {
        let pairs: Vec<[&str; 2]> = serde::Deserialize::deserialize(&meta["pairs"]).ok()?;
        let side = if meta["asked"].as_str()? == "tallest" { 0 } else { 1 };
        // The one who never stands on the other side of a comparison.
        let person = pairs.iter().map(|p| p[side]).find(|p| pairs.iter().all(|q| q[1 - side] != *p))?;
        Some(person.to_string())
    }
}
