//! `refusal-data`: texts to tune on, from questions that `probe-known` has asked.
//!
//! | way | text of a known question | of an unknown one |
//! |---|---|---|
//! | `unsure` | Question: … Answer: GOLD. Are you sure …? I am sure. | Question: … Answer: GOLD. Are you sure …? I am unsure. |
//! | `uncertain` | the same, where the model's samples agree | the same, where they do not |
//! | `unknown` (R-Tuning-R) | Question: … Answer: GOLD. | Question: … Answer: one of 16 sentences of refusal |
//! | `vanilla` | Question: … Answer: GOLD. | the same |
//!
//! `permute = true` deals the labels out anew: a control with as many of each kind. `form = "chat"` writes four turns (two of
//! `unknown` and `vanilla`) in place of one text. The loss is on all tokens of a text, as in the paper, or (`loss = "answer"`) on
//! what follows `Answer:`; that makes prompts with completions, which a model with a chat template would put into its template,
//! so it is for models without one. In a chat the loss is always on the model's own turns.

use postgrad_base::{Context, Error, Result, fs};
use postgrad_lab::stage::{Cx, Input, Stage};
use postgrad_lab::store::Item;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::question::{Form, Question, check_template, fill, kept};
use super::{ARE_YOU_SURE, SURE, UNSURE};

pub struct Build;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Questions as `probe-known` left them.
    pub data: Input,
    pub way: Way,
    #[serde(default)]
    pub permute: bool,
    #[serde(default)]
    pub form: Form,
    /// With a place for `{question}`.
    #[serde(default = "prompt")]
    pub prompt: String,
    #[serde(default)]
    pub loss: Loss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    Unsure,
    Unknown,
    Uncertain,
    Vanilla,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    #[default]
    All,
    Answer,
}

pub(super) fn prompt() -> String {
    "Question: {question} Answer:".into()
}

/// What `unknown` answers in place of a gold answer.
pub const REFUSALS: [&str; 16] = [
    "I do not know the answer to that.",
    "That is not something I know.",
    "I have no knowledge of this.",
    "I cannot answer this, since I do not know it.",
    "The answer is not known to me.",
    "I would only be guessing, so I will not answer.",
    "I am not able to say.",
    "I never learned this.",
    "My knowledge does not cover this question.",
    "I have no reliable answer to give.",
    "Sorry, this is beyond what I know.",
    "I lack the facts to answer this.",
    "This is unknown to me.",
    "I do not have that information.",
    "There is nothing I can say about this with confidence.",
    "I must admit that I do not know.",
];

impl Stage for Build {
    const NAME: &'static str = "refusal-data";
    const ABOUT: &'static str = "texts that teach a model to say what it does not know (R-Tuning)";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["data"];
    type Config = Config;

    fn streams(config: &Config) -> &'static [&'static str] {
        if config.permute || config.way == Way::Unknown { Self::STREAMS } else { &[] }
    }

    fn check(config: &Config) -> Result<()> {
        check_template(&config.prompt)?;
        if config.permute && config.way == Way::Vanilla {
            return Err(Error::usage("vanilla texts have no labels to permute"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let questions = Question::read(&config.data, cx)?;
        let mut sure = labels(&questions, config.way)?;
        let stream = cx.stream("data").child("refusal-data");
        if config.permute {
            stream.child("permute").shuffle(&mut sure);
        }
        let mut refusals = stream.child("refusals");
        let mut rows = Vec::with_capacity(questions.len());
        let mut records = Vec::with_capacity(questions.len());
        for (question, sure) in questions.iter().zip(&sure) {
            let refuse = (config.way == Way::Unknown && !sure).then(|| *refusals.choose(&REFUSALS[..]));
            records.push(record(&config, question, *sure, refuse));
            let mut metrics = kept(&question.columns);
            metrics.insert("sure".into(), u8::from(*sure).into());
            rows.push(Item { item: question.id.clone(), cluster: None, metrics });
        }
        let yes = sure.iter().filter(|s| **s).count();
        let report = json!({"way": config.way, "permuted": config.permute, "sure": yes, "unsure": sure.len() - yes});
        let report = serde_json::to_string_pretty(&report).context(|| "cannot write the report".into())?;
        fs::write(&cx.out.join("report.json"), report.as_bytes())?;
        cx.write_jsonl("records.jsonl", &records)?;
        cx.write_rows(&rows)
    }
}

/// Known or certain; of `vanilla` all.
fn labels(questions: &[Question], way: Way) -> Result<Vec<bool>> {
    let column = match way {
        Way::Unsure | Way::Unknown => "known",
        Way::Uncertain => "certain",
        Way::Vanilla => return Ok(vec![true; questions.len()]),
    };
    let label = |q: &Question| {
        q.columns.get(column).and_then(Value::as_u64).map(|v| v == 1).ok_or_else(|| {
            Error::usage(format!("the question has no column `{column}`")).at(&q.id).help(match way {
                Way::Uncertain => "ask it by a stage `probe-known` with how = \"uncertain\" first",
                _ => "ask it by a stage `probe-known` with how = \"greedy\" first",
            })
        })
    };
    questions.iter().map(label).collect()
}

fn record(config: &Config, question: &Question, sure: bool, refusal: Option<&str>) -> Value {
    let said = refusal.map_or_else(|| format!("{}.", question.gold), String::from);
    let verdict = matches!(config.way, Way::Unsure | Way::Uncertain).then_some(if sure { SURE } else { UNSURE });
    match config.form {
        Form::Chat => {
            let turn = |role: &str, content: &str| json!({"role": role, "content": content});
            let mut turns = vec![turn("user", &question.text), turn("assistant", &said)];
            if let Some(verdict) = verdict {
                turns.extend([turn("user", ARE_YOU_SURE), turn("assistant", verdict)]);
            }
            json!({"messages": turns})
        }
        Form::Text => {
            let asked = fill(&config.prompt, &question.text);
            let answer = match verdict {
                Some(verdict) => format!(" {said} {ARE_YOU_SURE} {verdict}"),
                None => format!(" {said}"),
            };
            match config.loss {
                Loss::All => json!({"text": format!("{asked}{answer}")}),
                Loss::Answer => json!({"prompt": asked, "completion": answer}),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::r_tuning::tests_support::{inputs, rows};
    use postgrad_lab::stage::{Kind, alone, golden};

    fn built(config: Value) -> Result<Vec<Value>> {
        let dir = tempfile::tempdir().unwrap();
        let cx = alone(&Kind::of::<Build>(), &config, &inputs(dir.path()), 0, &dir.path().join("out"))?;
        Ok(rows(&cx.out.join("records.jsonl")).into_iter().map(Value::Object).collect())
    }

    #[test]
    fn the_bytes_of_the_texts() {
        let of = |way: &str| built(json!({"data": "@probed", "way": way})).unwrap();
        let texts = of("unsure");
        assert_eq!(
            texts[0]["text"],
            "Question: What is 2+3? Answer: 5. Are you sure you accurately answered the question based on your internal knowledge? I am sure."
        );
        assert_eq!(
            texts[1]["text"],
            "Question: Who? Answer: Tom. Are you sure you accurately answered the question based on your internal knowledge? I am unsure."
        );
        let texts = of("unknown");
        assert_eq!(texts[0]["text"], "Question: What is 2+3? Answer: 5.");
        let refused = texts[1]["text"].as_str().unwrap().strip_prefix("Question: Who? Answer: ").unwrap();
        assert!(REFUSALS.contains(&refused));
        let texts = of("vanilla");
        assert_eq!(texts[1]["text"], "Question: Who? Answer: Tom.");
        // The certain ones are the other ones in this file.
        assert!(of("uncertain")[0]["text"].as_str().unwrap().ends_with("I am unsure."));
        let parts = built(json!({"data": "@probed", "way": "unsure", "loss": "answer"})).unwrap();
        assert_eq!(parts[0]["prompt"], "Question: What is 2+3? Answer:");
        assert!(parts[0]["completion"].as_str().unwrap().starts_with(" 5. Are you sure"));
        let chat = built(json!({"data": "@probed", "way": "unsure", "form": "chat"})).unwrap();
        assert_eq!(chat[1]["messages"][3], json!({"role": "assistant", "content": "I am unsure."}));
        assert_eq!(chat[1]["messages"][0]["content"], "Who?");
    }

    #[test]
    fn options_are_lines_and_their_letter_is_the_answer() {
        let texts = built(json!({"data": "@choices", "way": "vanilla"})).unwrap();
        assert_eq!(texts[0]["text"], "Question: 1+1?\nA. 1\nB. 2 Answer: B.");
    }

    #[test]
    fn permuted_labels_keep_their_counts_and_unprobed_questions_are_refused() {
        let of = |permute: bool| built(json!({"data": "@probed", "way": "unsure", "permute": permute})).unwrap();
        let sure = |rows: &[Value]| rows.iter().filter(|r| r["text"].as_str().unwrap().ends_with("I am sure.")).count();
        assert_eq!(sure(&of(true)), sure(&of(false)));
        assert_eq!(built(json!({"data": "@open", "way": "unsure"})).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn sixteen_different_refusals() {
        let mut all = REFUSALS.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 16);
        // One sentence each, so that cutting at the first full stop keeps it whole.
        assert!(all.iter().all(|r| r.find('.') == Some(r.len() - 1)));
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"data": "@probed", "way": "unknown", "permute": true});
        golden(&Kind::of::<Build>(), &config, &inputs(dir.path()), "71461804d4377f59");
    }
}
