//! Multiple choice by log-likelihood: each choice is continued from the prompt, and the likeliest is the answer.
//!
//! The sum of a choice's log-probs favours short choices; so it is also normalised by tokens and by bytes (lm-evaluation-harness's
//! `acc` and `acc_norm` are the raw and the per-byte reading). End tokens are not scored.

use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_numerics::{LEVEL, wilson};
use postgrad_reason::ModelFolder;
use postgrad_train::evaluate::{ExampleLoss, losses};
use serde::Serialize;

use crate::items::Item;
use crate::prompt::{Asker, gap};
use crate::summary::Summary;

/// One choice's likelihood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    pub text: String,
    /// Sum over its tokens, nats.
    pub log_prob: f64,
    pub tokens: usize,
    pub bytes: usize,
}

/// An item with its scored choices; none where prompt and choice are longer than the model's context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChoiceRow {
    pub item: usize,
    pub id: String,
    pub prompt: String,
    pub choices: Vec<Scored>,
    /// Index of the right one.
    pub right: usize,
    /// Index of the likeliest: by sum, a token, a byte.
    pub raw: Option<usize>,
    pub per_token: Option<usize>,
    pub per_byte: Option<usize>,
}

/// Scores the choices of all items. `progress` gets items finished and tokens read so far.
pub fn run(
    model: &ModelFolder,
    asker: &Asker,
    items: &[Item],
    micro_tokens: usize,
    cancel: &Cancel,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<ChoiceRow>> {
    const GROUP: usize = 16;
    let context = model.decoder.config.max_position_embeddings;
    let mut rows = Vec::with_capacity(items.len());
    let mut read = 0;
    for group in items.chunks(GROUP) {
        cancel.check()?;
        let mut examples = Vec::new();
        let mut pending = Vec::new();
        for item in group {
            let choices = item.choices.as_ref().ok_or_else(|| {
                Error::usage("the row has no choices").at(&item.id).help("rows need a list `choices` and an `answer`")
            })?;
            let prompt = asker.prompt(rows.len() + pending.len(), item)?;
            let plain = asker.is_plain(&item.record);
            let own = choices
                .texts
                .iter()
                .map(|choice| continued(asker, &prompt.text, &prompt.ids, choice, plain).map_err(|e| e.at(&item.id)))
                .collect::<Result<Vec<_>>>()?;
            let fits = own.iter().all(|e| e.len() <= context);
            pending.push((item, choices, prompt.text, fits));
            if fits {
                examples.extend(own);
            }
        }
        read += examples.iter().map(Example::len).sum::<usize>();
        let mut found = losses(&model.decoder, &examples, micro_tokens)?.into_iter();
        for (item, choices, prompt, fits) in pending {
            let scored: Vec<Scored> = if fits {
                choices.texts.iter().zip(&mut found).map(|(text, loss)| score(text, loss)).collect()
            } else {
                vec![]
            };
            let best = |by: fn(&Scored) -> f64| best(&scored, by);
            rows.push(ChoiceRow {
                item: rows.len(),
                id: item.id.clone(),
                prompt,
                right: choices.right,
                raw: best(|s| s.log_prob),
                per_token: best(|s| s.log_prob / s.tokens.max(1) as f64),
                per_byte: best(|s| s.log_prob / s.bytes.max(1) as f64),
                choices: scored,
            });
        }
        progress(rows.len(), read);
    }
    Ok(rows)
}

/// Prompt and choice as tokens of which the choice's count. The prompt's tokens are those the model would be given alone.
fn continued(asker: &Asker, text: &str, ids: &[u32], choice: &str, plain: bool) -> Result<Example> {
    let tokenizer = asker.renderer.tokenizer();
    let choice = if plain { format!("{}{choice}", gap(text, choice)) } else { choice.to_string() };
    // Begun documents have a token more than their text.
    let begun = ids.len() - tokenizer.encode(text)?.len().min(ids.len());
    let joint = [&ids[..begun], &tokenizer.encode(&format!("{text}{choice}"))?].concat();
    let tokens = if joint.starts_with(ids) { joint } else { [ids, &tokenizer.encode(&choice)?].concat() };
    if tokens.len() == ids.len() || ids.is_empty() {
        return Err(Error::work("a prompt or a choice is empty"));
    }
    let weights = (0..tokens.len()).map(|i| if i < ids.len() { 0.0 } else { 1.0 }).collect();
    Ok(Example { tokens, weights, weight: 1.0, ..Example::default() })
}

fn score(text: &str, loss: ExampleLoss) -> Scored {
    Scored { text: text.into(), log_prob: -loss.sum, tokens: loss.tokens, bytes: text.len() }
}

/// The first of the highest.
fn best(scored: &[Scored], by: fn(&Scored) -> f64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (i, s) in scored.iter().enumerate() {
        let value = by(s);
        if value.is_finite() && best.is_none_or(|(_, b)| value > b) {
            best = Some((i, value));
        }
    }
    best.map(|(i, _)| i)
}

/// Accuracies by the three readings over the items that fit, with Wilson's interval.
pub fn summary(rows: &[ChoiceRow]) -> Summary {
    let mut summary = Summary::default();
    let scored: Vec<&ChoiceRow> = rows.iter().filter(|r| !r.choices.is_empty()).collect();
    let mut share = |name: &str, pick: &dyn Fn(&ChoiceRow) -> Option<usize>| {
        let right = scored.iter().filter(|r| pick(r) == Some(r.right)).count();
        summary.share(name, wilson(right, scored.len(), LEVEL));
    };
    share("accuracy_raw", &|r| r.raw);
    share("accuracy_per_token", &|r| r.per_token);
    share("accuracy_per_byte", &|r| r.per_byte);
    summary.count("items", rows.len());
    summary.count("choices", scored.iter().map(|r| r.choices.len()).sum());
    summary.count("prompt_too_long", rows.len() - scored.len());
    summary
}

/// Accuracy of a blind guess.
pub fn chance(items: &[Item]) -> f64 {
    let of = |i: &Item| i.choices.as_ref().map_or(0.0, |c| 1.0 / c.texts.len() as f64);
    items.iter().map(of).sum::<f64>() / items.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items::Choices;
    use crate::tests_support::{log_probs, model, pairs};

    fn choices() -> Vec<Item> {
        let mut items = pairs(3);
        for (i, item) in items.iter_mut().enumerate() {
            let texts = ["yes", "no, not at all", "maybe 12"].map(String::from).to_vec();
            item.choices = Some(Choices { texts, right: i });
        }
        items
    }

    #[test]
    fn a_choice_scores_the_sum_of_its_log_probs() {
        let (model, items) = (model(), choices());
        for renderer in [model.renderer.clone(), model.renderer.without_template().unwrap()] {
            let asker = Asker::new(renderer);
            let rows = run(&model, &asker, &items, 64, &Cancel::new(), |_, _| ()).unwrap();
            for (i, row) in rows.iter().enumerate() {
                let prompt = asker.prompt(i, &items[i]).unwrap();
                for scored in &row.choices {
                    let example =
                        continued(&asker, &prompt.text, &prompt.ids, &scored.text, asker.is_plain(&items[i].record))
                            .unwrap();
                    assert!(example.tokens.starts_with(&prompt.ids));
                    let want: f64 = log_probs(&model, &example.tokens)[prompt.ids.len() - 1..].iter().sum();
                    assert!((scored.log_prob - want).abs() < 1e-3, "{} {want}", scored.log_prob);
                    assert_eq!(scored.tokens, example.tokens.len() - prompt.ids.len());
                    assert_eq!(scored.bytes, scored.text.len());
                }
                let sums: Vec<f64> = row.choices.iter().map(|s| s.log_prob).collect();
                let top = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                assert_eq!(sums[row.raw.unwrap()], top);
            }
        }
    }

    #[test]
    fn accuracies_count_the_picks() {
        let scored = Scored { text: "x".into(), log_prob: -1.0, tokens: 1, bytes: 1 };
        let row = |raw, per_token, choices: Vec<Scored>| ChoiceRow {
            item: 0,
            id: String::new(),
            prompt: String::new(),
            choices,
            right: 1,
            raw,
            per_token,
            per_byte: Some(0),
        };
        let rows = [
            row(Some(1), Some(0), vec![scored.clone()]),
            row(Some(1), Some(1), vec![scored.clone()]),
            row(None, None, vec![]),
        ];
        let s = summary(&rows);
        assert_eq!(*s.metric("accuracy_raw").unwrap(), wilson(2, 2, LEVEL));
        assert_eq!(*s.metric("accuracy_per_token").unwrap(), wilson(1, 2, LEVEL));
        assert_eq!(*s.metric("accuracy_per_byte").unwrap(), wilson(0, 2, LEVEL));
        assert_eq!(s.counted("prompt_too_long"), Some(1));
        assert!((chance(&choices()) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn normalising_changes_the_pick() {
        let of = |log_prob, tokens, bytes| Scored { text: String::new(), log_prob, tokens, bytes };
        let scored = [of(-2.0, 1, 10), of(-3.0, 3, 6), of(f64::NAN, 1, 1)];
        assert_eq!(best(&scored, |s| s.log_prob), Some(0));
        assert_eq!(best(&scored, |s| s.log_prob / s.tokens as f64), Some(1));
        assert_eq!(best(&scored, |s| s.log_prob / s.bytes as f64), Some(0));
        assert_eq!(best(&scored[2..], |s| s.log_prob), None);
    }
}
