//! `refusal-eval`: what a model answers, how sure it is, and what it refuses.
//!
//! The model answers greedily up to the first full stop; c is the geometric mean of its tokens' probabilities. Then it reads
//! its own answer and "Are you sure …? I am", and the whole continuations " sure" and " unsure" are scored:
//! s = P(sure) / (P(sure) + P(unsure)), each P the geometric mean over its own tokens, so that the longer one is not put at a
//! disadvantage (`weigh = "sum"`: their probabilities as they are).
//!
//! | column of a row | |
//! |---|---|
//! | `correct` | the answer holds the gold answer as whole words (0 of an unanswerable question) |
//! | `c`, `s`, `s_sum` | as above; `s_sum` from the sums |
//! | `score` | `share_c` c + (1 - `share_c`) s, to rank questions by |
//! | `declined` | the answer is a sentence of refusal |
//! | `willing` | s > 0.5 and not declined; `refused` is the opposite |
//! | `tokens` | of the answer |
//!
//! With `statement = false` (models tuned to refuse in place of answering, or not to refuse at all) s is left out: score is c, 0
//! of a declined question. The questions' own columns (`seen`, `exposure`, …) stay in the rows. Metrics of them are `ap(score,correct)`,
//! `accuracy` as `correct[willing=1]`, `ece(c,correct)`, `auc(s,seen)` in a claim.

use postgrad_base::{Context, Error, Result, fs};
use postgrad_data::{Body, Message};
use postgrad_lab::stage::{Cx, Input, Stage};
use postgrad_lab::store::Item;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ARE_YOU_SURE;
use super::build::REFUSALS;
use super::question::{Form, Question, Said, Way, asked, check_template, fill, kept, scored};

pub struct Evaluate;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    pub data: Input,
    #[serde(default)]
    pub form: Form,
    /// With a place for `{question}`; as in the tuning texts.
    #[serde(default = "super::build::prompt")]
    pub prompt: String,
    #[serde(default = "fifteen")]
    pub max_tokens: usize,
    #[serde(default = "full_stop")]
    pub stop: Vec<String>,
    /// Whether the model is asked if it is sure.
    #[serde(default = "yes")]
    pub statement: bool,
    #[serde(default)]
    pub weigh: Weigh,
    /// Weight of c in the score.
    #[serde(default = "half")]
    pub share_c: f64,
    /// More texts that mark an answer as declined, besides the 16 sentences that `refusal-data` writes.
    #[serde(default)]
    pub refusals: Vec<String>,
}

/// How a continuation's log-probs become its P.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weigh {
    /// exp of their mean.
    #[default]
    Token,
    /// exp of their sum.
    Sum,
}

fn fifteen() -> usize {
    15
}
fn full_stop() -> Vec<String> {
    vec![".".into()]
}
fn yes() -> bool {
    true
}
fn half() -> f64 {
    0.5
}

impl Stage for Evaluate {
    const NAME: &'static str = "refusal-eval";
    const ABOUT: &'static str = "answers, how sure the model is of them, and what it refuses (R-Tuning)";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        check_template(&config.prompt)?;
        if config.max_tokens == 0 {
            return Err(Error::usage("an answer of 0 tokens says nothing"));
        }
        if !(0.0..=1.0).contains(&config.share_c) {
            return Err(Error::usage("`share_c` is a share, 0 to 1"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let model = cx.model(&config.model)?;
        let questions = Question::read(&config.data, cx)?;
        let way = Way {
            form: config.form,
            template: &config.prompt,
            header: String::new(),
            max_tokens: config.max_tokens,
            stop: &config.stop,
        };
        let said: Vec<Said> = way.ask(&model, &questions, 0.0, 1, 0, &cx.cancel)?.into_iter().flatten().collect();
        cx.spend("evaluated_tokens", said.iter().map(|s| s.tokens as u64).sum());
        let sure: Vec<Option<[Scored; 2]>> = if config.statement {
            let items: Vec<_> = questions.iter().zip(&said).map(|(q, s)| sure_item(&config, q, s)).collect();
            let pair = |found: Vec<postgrad_audit::choice::Scored>| {
                let of = |i: usize| Scored { log_prob: found[i].log_prob, tokens: found[i].tokens };
                Some([of(0), of(1)])
            };
            scored(&model, config.form, &items, &cx.cancel)?.into_iter().map(pair).collect()
        } else {
            questions.iter().map(|_| None).collect()
        };
        let mut rows = Vec::with_capacity(questions.len());
        let mut answered = Vec::with_capacity(questions.len());
        for ((question, said), sure) in questions.iter().zip(&said).zip(sure) {
            let mut metrics = kept(&question.columns);
            metrics.extend(measured(&config, question, said, sure));
            answered
                .push(json!({"id": question.id, "question": question.asked, "gold": question.gold, "said": said.text}));
            rows.push(Item { item: question.id.clone(), cluster: None, metrics });
        }
        let count = |name: &str| rows.iter().filter(|r| r.metrics[name] == 1).count();
        let report = json!({"questions": rows.len(), "willing": count("willing"), "refused": count("refused"),
            "declined": count("declined"), "correct": count("correct")});
        let report = serde_json::to_string_pretty(&report).context(|| "cannot write the report".into())?;
        fs::write(&cx.out.join("report.json"), report.as_bytes())?;
        cx.write_jsonl("answers.jsonl", &answered)?;
        cx.write_rows(&rows)
    }
}

/// A scored continuation.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    pub log_prob: f64,
    pub tokens: usize,
}

/// P(sure) / (P(sure) + P(unsure)): of these two texts alone, whatever else the model might say.
pub fn p_sure(sure: Scored, unsure: Scored, weigh: Weigh) -> f64 {
    let log = |s: Scored| match weigh {
        Weigh::Sum => s.log_prob,
        Weigh::Token => s.log_prob / s.tokens.max(1) as f64,
    };
    1.0 / (1.0 + (log(unsure) - log(sure)).exp())
}

/// The answered question, to be continued as sure or unsure.
fn sure_item(config: &Config, question: &Question, said: &Said) -> postgrad_audit::Item {
    match config.form {
        Form::Text => {
            let asked_text = fill(&config.prompt, &question.text);
            let prompt = format!("{asked_text} {}. {ARE_YOU_SURE} I am", said.text.trim_end_matches('.'));
            let body = Body::PromptCompletion { prompt, completion: String::new() };
            asked(&question.id, body, vec![" sure".into(), " unsure".into()])
        }
        Form::Chat => {
            let answer = format!("{}.", said.text.trim_end_matches('.'));
            let turns = vec![
                Message::new("user", question.text.as_str()),
                Message::new("assistant", answer),
                Message::new("user", ARE_YOU_SURE),
                Message::new("assistant", ""),
            ];
            asked(&question.id, Body::Messages(turns), vec![super::SURE.into(), super::UNSURE.into()])
        }
    }
}

fn measured(
    config: &Config,
    question: &Question,
    said: &Said,
    sure: Option<[Scored; 2]>,
) -> serde_json::Map<String, serde_json::Value> {
    let declined = declines(&said.text, &config.refusals);
    let c = said.confidence;
    let s = sure.map(|[yes, no]| p_sure(yes, no, config.weigh));
    let score = match s {
        Some(s) => config.share_c * c + (1.0 - config.share_c) * s,
        None if declined => 0.0,
        None => c,
    };
    let willing = !declined && s.is_none_or(|s| s > 0.5);
    let bit = u8::from;
    let mut metrics = json!({"correct": bit(question.right(&said.text)), "c": c, "score": score, "declined": bit(declined),
        "willing": bit(willing), "refused": bit(!willing), "tokens": said.tokens});
    if let (Some(s), Some([yes, no])) = (s, sure) {
        metrics["s"] = json!(s);
        metrics["s_sum"] = json!(p_sure(yes, no, Weigh::Sum));
    }
    metrics.as_object().cloned().unwrap_or_default()
}

/// Whether an answer is one of the known sentences of refusal, or holds one of `more`.
fn declines(said: &str, more: &[String]) -> bool {
    let bare = |s: &str| s.trim().trim_end_matches('.').to_lowercase();
    let said = bare(said);
    REFUSALS.iter().any(|r| bare(r) == said) || more.iter().any(|m| !m.is_empty() && said.contains(&bare(m)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::r_tuning::tests_support::{inputs, question};
    use postgrad_lab::stage::{Kind, alone, golden, read_rows};

    fn config(extra: serde_json::Value) -> Config {
        let mut config = json!({"model": "@model", "data": "@open"});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(config).unwrap()
    }

    fn scored(p: f64, tokens: usize) -> Scored {
        Scored { log_prob: p.ln(), tokens }
    }

    #[test]
    fn p_sure_is_of_the_two_texts_alone() {
        assert!((p_sure(scored(0.03, 1), scored(0.01, 1), Weigh::Sum) - 0.75).abs() < 1e-12);
        assert!((p_sure(scored(0.03, 1), scored(0.01, 1), Weigh::Token) - 0.75).abs() < 1e-12);
        // Two tokens of 0.1 each are as likely a token as one of 0.1.
        assert!((p_sure(scored(0.1, 1), scored(0.01, 2), Weigh::Token) - 0.5).abs() < 1e-12);
        assert!((p_sure(scored(0.1, 1), scored(0.01, 2), Weigh::Sum) - 10.0 / 11.0).abs() < 1e-12);
    }

    #[test]
    fn a_model_that_is_always_sure_is_always_willing() {
        let (config, question) = (config(json!({})), question("What is 2+3?", "5"));
        for (text, confidence) in [("5", 0.9), ("Tom", 0.01)] {
            let said = Said { text: text.into(), confidence, tokens: 1 };
            let m = measured(&config, &question, &said, Some([scored(0.999, 1), scored(1e-6, 2)]));
            assert_eq!((m["willing"].as_u64(), m["refused"].as_u64()), (Some(1), Some(0)));
            assert!((m["score"].as_f64().unwrap() - (0.5 * confidence + 0.5 * m["s"].as_f64().unwrap())).abs() < 1e-12);
            let m = measured(&config, &question, &said, Some([scored(1e-6, 1), scored(0.999, 2)]));
            assert_eq!(m["willing"], 0);
        }
    }

    #[test]
    fn refusals_decline_and_rank_last() {
        let config = config(json!({"statement": false, "refusals": ["no idea"]}));
        let question = question("What is 2+3?", "5");
        let of = |text: &str| {
            let said = Said { text: text.into(), confidence: 0.9, tokens: 1 };
            measured(&config, &question, &said, None)
        };
        for refusal in [REFUSALS[3], "this is unknown to me", "I have no idea"] {
            let m = of(refusal);
            assert_eq!((m["declined"].as_u64(), m["score"].as_f64()), (Some(1), Some(0.0)), "{refusal}");
            assert!(!m.contains_key("s"));
        }
        assert_eq!((of("5")["willing"].as_u64(), of("It is 5")["correct"].as_u64()), (Some(1), Some(1)));
        assert_eq!(of("15")["correct"], 0);
    }

    #[test]
    fn every_form_gives_a_row_a_question() {
        let dir = tempfile::tempdir().unwrap();
        for (n, extra) in [json!({}), json!({"form": "chat"}), json!({"data": "@choices"}), json!({"data": "@empty"})]
            .into_iter()
            .enumerate()
        {
            let config = serde_json::to_value(config(extra.clone())).unwrap();
            let out = dir.path().join(n.to_string());
            let made = alone(&Kind::of::<Evaluate>(), &config, &inputs(dir.path()), 0, &out);
            if n == 3 {
                assert!(made.err().unwrap().to_string().contains("empty.jsonl:2"));
                continue;
            }
            let rows = read_rows(&made.unwrap().out.join("rows.jsonl")).unwrap();
            assert_eq!(rows.len(), 4, "{extra}");
            for row in rows {
                let x = |name: &str| row.metrics[name].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&x("c")) && (0.0..=1.0).contains(&x("s")) && x("tokens") >= 1.0);
                assert_eq!(row.metrics["topic"], "sums");
            }
        }
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"model": "@model", "data": "@open", "max_tokens": 5});
        golden(&Kind::of::<Evaluate>(), &config, &inputs(dir.path()), "1f68747a0ddd3efa");
    }
}
