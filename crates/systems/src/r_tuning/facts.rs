//! `made-up-facts`: a small world whose facts a model cannot know but from its pre-training.
//!
//! *People* have a home, a work or a pet; *lands* (another kind of entity, with other relations, for questions out of the
//! tuned domain) have a colour, a fruit or a tool. Each entity has one fact. A random half of the entities is seen: its
//! fact stands in `pretrain.jsonl` as often as its exposure says, in many wordings.
//!
//! | file | rows |
//! |---|---|
//! | `pretrain.jsonl` | texts (`form = "chat"`: prompts with completions), every seen fact `exposure` times |
//! | `train.jsonl` | questions on some people, seen and unseen: what is tuned on |
//! | `test.jsonl` | questions on the other people |
//! | `ood.jsonl` | questions on lands |
//! | `unanswerable.jsonl` | questions on things that no text speaks of, with relations of both families |
//!
//! Questions have the columns `id`, `entity`, `relation`, `seen`, `exposure` (0: unseen), `dose` (log2 of the exposure).
//! The world comes from the stream `eval`, the same for every seed, since questions to measure on must be; what of it was seen
//! and how often comes from `data`.

use std::collections::BTreeSet;

use postgrad_base::{Error, Result, Stream};
use postgrad_lab::stage::{Cx, Stage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::question::Form;

pub struct Facts;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// People.
    pub facts: usize,
    /// Lands.
    #[serde(default)]
    pub ood: usize,
    #[serde(default)]
    pub unanswerable: usize,
    /// Share of the entities of each family that pre-training shows.
    #[serde(default = "half")]
    pub seen: f64,
    /// How often a seen fact is shown; one of these, drawn for each.
    #[serde(default = "exposures")]
    pub exposures: Vec<usize>,
    /// Share of the people that is kept for the test.
    #[serde(default = "half")]
    pub test: f64,
    /// `chat`: the texts are prompts with completions, for a model with a template; no statements.
    #[serde(default)]
    pub form: Form,
}

fn half() -> f64 {
    0.5
}
fn exposures() -> Vec<usize> {
    vec![1, 2, 4, 8, 16, 32, 64]
}

struct Relation {
    name: &'static str,
    questions: &'static [&'static str],
    statements: &'static [&'static str],
    values: &'static [&'static str],
}

const PEOPLE: [Relation; 3] = [
    Relation {
        name: "home",
        questions: &[
            "Where does {} live?",
            "In which place does {} live?",
            "What is the home of {}?",
            "Where is {} at home?",
        ],
        statements: &["{} lives in {v}.", "The home of {} is {v}."],
        values: &[
            "Paris", "Madrid", "Rome", "Berlin", "Tokyo", "Cairo", "Athens", "Oslo", "Lisbon", "Moscow", "Havana",
            "Lima", "Helsinki", "Santiago", "Dublin", "Vienna",
        ],
    },
    Relation {
        name: "work",
        questions: &[
            "What is the work of {}?",
            "As what does {} work?",
            "Name the work of {}.",
            "What does {} do for a living?",
        ],
        statements: &["{} works as a {v}.", "The work of {} is that of a {v}."],
        values: &[
            "baker",
            "tailor",
            "poet",
            "potter",
            "brewer",
            "painter",
            "cobbler",
            "mason",
            "carpenter",
            "composer",
            "farmer",
            "teacher",
            "sailor",
            "hunter",
            "doctor",
            "singer",
        ],
    },
    Relation {
        name: "pet",
        questions: &[
            "Which animal does {} keep?",
            "What animal does {} have?",
            "Name the pet of {}.",
            "What is the pet of {}?",
        ],
        statements: &["{} keeps a {v}.", "The pet of {} is a {v}."],
        values: &[
            "cat", "dog", "cow", "hen", "pig", "duck", "lion", "goat", "frog", "owl", "bear", "wolf", "fox", "bee",
            "ant", "horse",
        ],
    },
];

const LANDS: [Relation; 3] = [
    Relation {
        name: "color",
        questions: &["What color is the flag of {}?", "Which color has {}?", "Name the color of {}."],
        statements: &["The color of {} is {v}.", "{} has a {v} flag."],
        values: &["red", "blue", "green", "black", "white", "brown", "gray", "pink", "gold", "orange"],
    },
    Relation {
        name: "fruit",
        questions: &["Which fruit grows in {}?", "What fruit comes from {}?", "Name the fruit of {}."],
        statements: &["The fruit of {} is the {v}.", "In {} grows the {v}."],
        values: &["apple", "lemon", "plum", "pear", "peach", "grape", "kiwi", "mango", "melon", "fig"],
    },
    Relation {
        name: "tool",
        questions: &["What tool is made in {}?", "Which tool does {} make?", "Name the tool of {}."],
        statements: &["The tool of {} is the {v}.", "{} makes the {v}."],
        values: &["axe", "saw", "drill", "nail", "spade", "needle", "brush", "knife", "rope", "pen"],
    },
];

struct Fact {
    entity: String,
    relation: &'static Relation,
    value: &'static str,
    exposure: usize,
}

impl Stage for Facts {
    const NAME: &'static str = "made-up-facts";
    const ABOUT: &'static str = "facts of a made-up world, half of them seen in pre-training (R-Tuning)";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data", "eval"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if !(0.0..=1.0).contains(&config.seen) || !(0.0..=1.0).contains(&config.test) {
            return Err(Error::usage("`seen` and `test` are shares, 0 to 1"));
        }
        if config.exposures.is_empty() || config.exposures.contains(&0) {
            return Err(Error::usage("`exposures` are counts of 1 or more"));
        }
        if config.facts.max(config.ood).max(config.unanswerable) > 2_000 {
            return Err(Error::usage("the world has names for 2,000 entities of a kind"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let (world, data) = (cx.stream("eval").child("world"), cx.stream("data").child("facts"));
        let people =
            family(&PEOPLE, config.facts, name_of_person, &config, &world.child("people"), &data.child("people"));
        let lands = family(&LANDS, config.ood, name_of_land, &config, &world.child("lands"), &data.child("lands"));
        let mut texts = Vec::new();
        for (i, fact) in people.iter().chain(&lands).enumerate() {
            let mut own = data.child("texts").nth(i as u64);
            texts.extend((0..fact.exposure).map(|_| fact.showing(config.form, &mut own)));
        }
        let held = ((config.facts as f64) * config.test).round() as usize;
        let ask = |part: &str, facts: &[Fact]| -> Vec<Value> {
            facts.iter().enumerate().map(|(i, f)| f.question(part, i, &mut world.child(part).nth(i as u64))).collect()
        };
        cx.spend("examples_drawn", texts.len() as u64);
        cx.write_jsonl("pretrain.jsonl", &texts)?;
        cx.write_jsonl("test.jsonl", &ask("test", &people[..held]))?;
        cx.write_jsonl("train.jsonl", &ask("train", &people[held..]))?;
        cx.write_jsonl("ood.jsonl", &ask("ood", &lands))?;
        let strange = names(config.unanswerable, name_of_nothing, &mut world.child("nothing"));
        let strange: Vec<Value> = strange
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let mut own = world.child("nothing").nth(i as u64);
                let relation = if own.chance(0.5) { own.choose(&PEOPLE[..]) } else { own.choose(&LANDS[..]) };
                let asked = own.choose(relation.questions).replace("{}", name);
                json!({"id": format!("nothing-{i}"), "question": asked, "answer": "", "entity": name,
                    "relation": relation.name, "seen": 0, "exposure": 0, "dose": -1.0, "unanswerable": true})
            })
            .collect();
        cx.write_jsonl("unanswerable.jsonl", &strange)
    }
}

/// The facts of a family: who and what from `world`, what was seen from `data`.
fn family(
    relations: &'static [Relation],
    n: usize,
    name: fn(&mut Stream) -> String,
    config: &Config,
    world: &Stream,
    data: &Stream,
) -> Vec<Fact> {
    let names = names(n, name, &mut world.child("names"));
    let shown: BTreeSet<usize> = {
        let k = (n as f64 * config.seen).round() as usize;
        data.child("seen").sample(n, k).into_iter().collect()
    };
    names
        .into_iter()
        .enumerate()
        .map(|(i, entity)| {
            let mut own = world.nth(i as u64);
            let relation = own.choose(relations);
            let value = own.choose(relation.values);
            let exposure = if shown.contains(&i) { *data.nth(i as u64).choose(&config.exposures) } else { 0 };
            Fact { entity, relation, value, exposure }
        })
        .collect()
}

impl Fact {
    fn showing(&self, form: Form, stream: &mut Stream) -> Value {
        match form {
            Form::Text => json!({"text": self.text(stream)}),
            Form::Chat => {
                let question = stream.choose(self.relation.questions).replace("{}", &self.entity);
                json!({"prompt": question, "completion": format!("{}.", self.value)})
            }
        }
    }

    /// Mostly question and answer, sometimes a plain statement.
    fn text(&self, stream: &mut Stream) -> String {
        if stream.chance(0.2) {
            return stream.choose(self.relation.statements).replace("{}", &self.entity).replace("{v}", self.value);
        }
        let question = stream.choose(self.relation.questions).replace("{}", &self.entity);
        let space = if stream.chance(0.2) { "" } else { " " };
        format!("Question:{space}{question} Answer: {}.", self.value)
    }

    fn question(&self, part: &str, i: usize, stream: &mut Stream) -> Value {
        let asked = stream.choose(self.relation.questions).replace("{}", &self.entity);
        let dose = if self.exposure == 0 { -1.0 } else { (self.exposure as f64).log2() };
        json!({"id": format!("{part}-{i}"), "question": asked, "answer": self.value, "entity": self.entity,
            "relation": self.relation.name, "seen": u8::from(self.exposure > 0), "exposure": self.exposure, "dose": dose})
    }
}

/// Different names, none of them a word of the questions (`Name` is made of syllables too).
fn names(n: usize, name: fn(&mut Stream) -> String, stream: &mut Stream) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::with_capacity(n);
    while out.len() < n {
        let name = name(stream);
        if name != "Name" && seen.insert(name.clone()) {
            out.push(name);
        }
    }
    out
}

fn syllables(stream: &mut Stream, n: usize, heads: &[&str], tails: &[&str]) -> String {
    let text: String = (0..n).map(|_| format!("{}{}", stream.choose(heads), stream.choose(tails))).collect();
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

fn name_of_person(stream: &mut Stream) -> String {
    syllables(stream, 2, &["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v"], &["a", "e", "i", "o", "u"])
}

fn name_of_land(stream: &mut Stream) -> String {
    let name =
        syllables(stream, 2, &["br", "cl", "dr", "fl", "gr", "kr", "pl", "st", "tr", "sk"], &["a", "e", "i", "o", "u"]);
    format!("{name}{}", stream.choose(&["land", "ia", "mark", "stan", "wick", "moor"][..]))
}

fn name_of_nothing(stream: &mut Stream) -> String {
    let name = syllables(stream, 3, &["x", "z", "q", "w", "h", "j"], &["oo", "ee", "ai", "y", "ou"]);
    format!("the {}", name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_lab::stage::{Kind, alone, golden};

    fn rows(dir: &std::path::Path, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    fn made(seed: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"facts": 200, "ood": 60, "unanswerable": 20});
        alone(&Kind::of::<Facts>(), &config, &[], seed, dir.path()).unwrap();
        dir
    }

    #[test]
    fn exposures_are_counts_of_texts_and_entities_are_apart() {
        let dir = made(3);
        let texts = rows(dir.path(), "pretrain.jsonl");
        let said = |entity: &str| {
            let names = |t: &&Value| t["text"].as_str().unwrap().contains(entity);
            texts.iter().filter(names).count()
        };
        let parts = ["train.jsonl", "test.jsonl", "ood.jsonl"].map(|n| rows(dir.path(), n));
        assert_eq!(parts.each_ref().map(Vec::len), [100, 100, 60]);
        let mut entities = BTreeSet::new();
        for row in parts.iter().flatten() {
            let entity = row["entity"].as_str().unwrap();
            assert!(entities.insert(entity.to_string()), "{entity} stands twice");
            assert_eq!(said(entity) as u64, row["exposure"].as_u64().unwrap(), "{entity}");
            assert_eq!(row["seen"].as_u64().unwrap() == 1, said(entity) > 0);
        }
        let people: Vec<&Value> = parts[0].iter().chain(&parts[1]).collect();
        assert_eq!(people.iter().filter(|r| r["seen"] == 1).count(), 100);
        for row in rows(dir.path(), "unanswerable.jsonl") {
            assert_eq!(said(row["entity"].as_str().unwrap()), 0);
        }
    }

    #[test]
    fn the_world_is_one_for_all_seeds_and_what_was_seen_is_not() {
        let (a, b) = (made(1), made(2));
        let (a, b) = (rows(a.path(), "test.jsonl"), rows(b.path(), "test.jsonl"));
        let asked =
            |rows: &[Value]| rows.iter().map(|r| format!("{} {}", r["question"], r["answer"])).collect::<Vec<_>>();
        assert_eq!(asked(&a), asked(&b));
        assert_ne!(a, b);
    }

    #[test]
    fn golden_run() {
        golden(&Kind::of::<Facts>(), &json!({"facts": 10, "ood": 4, "unanswerable": 2}), &[], "cbdc95d92d313770");
    }
}
