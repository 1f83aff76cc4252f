//! R-Tuning: a model that answers what it knows and says so when it does not (arXiv 2311.09677).
//!
//! The model as it is (before this tuning) is asked every training question; the split into what it knows and what it does
//! not decides what is appended to each answer ("I am sure." or "I am unsure."), or put in its place (a sentence of refusal).
//! - [`facts`]: a store of made-up facts of which a random half is seen in pre-training, so that what a model knows is known
//! - [`probe`]: the training questions put to the model: right or not, or how much its samples disagree
//! - [`build`]: texts to tune on, in three ways and with two controls
//! - [`evaluate`]: answers, their confidence c, P(sure), what is refused
//!
//! Whoever changes the base model must probe again: a recipe's stages do, since results are named by their inputs.
//! Left out: the paper's few-shot headers for its own benchmarks (`shots` takes examples from any file).

pub mod build;
pub mod evaluate;
pub mod facts;
pub mod probe;
mod question;

use postgrad_lab::stage::Kind;

/// The kinds of this system.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<facts::Facts>(),
        Kind::of::<probe::Probe>(),
        Kind::of::<build::Build>(),
        Kind::of::<evaluate::Evaluate>(),
    ]
}

/// What follows an answer in the tuning text, before the verdict.
pub const ARE_YOU_SURE: &str = "Are you sure you accurately answered the question based on your internal knowledge?";
/// The verdict on an answer that the model knew.
pub const SURE: &str = "I am sure.";
/// The verdict on one that it did not.
pub const UNSURE: &str = "I am unsure.";

#[cfg(test)]
mod tests_support {
    use std::path::Path;

    use postgrad_audit::Item;
    use postgrad_data::{Body, Record};
    use postgrad_lab::stage::Place;
    use serde_json::{Map, Value, json};

    use super::question::Question;

    /// A tiny chat model, and files of open questions, choices, probed questions and one with an empty answer.
    pub fn inputs(dir: &Path) -> Vec<(&'static str, Place)> {
        let open = |q: &str, a: &str| json!({"question": q, "answer": a, "topic": "sums"});
        let choice =
            |q: &str, right: usize| json!({"question": q, "choices": ["1", "2"], "answer": right, "topic": "sums"});
        let probed =
            |q: &str, a: &str, known: u8| json!({"question": q, "answer": a, "known": known, "certain": 1 - known});
        let files = [
            ("open", (0..4).map(|i| open(&format!("What is {i}+3?"), &(i + 3).to_string())).collect()),
            ("choices", (0..4).map(|i| choice(if i % 2 == 0 { "1+1?" } else { "1+0?" }, 1 - i % 2)).collect()),
            ("probed", vec![probed("What is 2+3?", "5", 1), probed("Who?", "Tom", 0), probed("Where?", "Rome", 0)]),
            ("empty", vec![open("What is 2+3?", "5"), open("Who?", " ")]),
        ];
        let mut inputs = vec![(
            "model",
            Place::Model(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")),
        )];
        for (name, rows) in files {
            let rows: Vec<Value> = rows;
            let file = dir.join(format!("{name}.jsonl"));
            std::fs::write(&file, rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")).unwrap();
            inputs.push((name, Place::Data(vec![file.display().to_string()])));
        }
        inputs
    }

    pub fn rows(path: &Path) -> Vec<Map<String, Value>> {
        std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    pub fn question(asked: &str, answer: &str) -> Question {
        let body = Body::PromptCompletion { prompt: asked.into(), completion: answer.into() };
        Question::of(0, Item::of_record(Record::from_body(body))).unwrap()
    }
}
