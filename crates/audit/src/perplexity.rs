//! How well a model expects what it is shown: negative log-likelihood of what would be trained, per token and per byte.
//!
//! A text longer than the model's context is read in windows that share one token, so that every token after the first is
//! predicted once, those at the head of a window from little before them. A conversation that is too long is left out and counted.

use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result};
use postgrad_data::{Body, Example};
use postgrad_numerics::{Estimate, LEVEL, t_quantile};
use postgrad_reason::ModelFolder;
use postgrad_train::evaluate::{ExampleLoss, losses, mean_loss};
use serde::Serialize;

use crate::items::Item;
use crate::prompt::Asker;
use crate::summary::Summary;

/// An item's loss; no tokens where it is too long or has nothing to predict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossRow {
    pub item: usize,
    pub id: String,
    /// Sum over the predicted tokens, nats.
    pub nll: f64,
    pub tokens: usize,
    /// Of the predicted text, without special tokens.
    pub bytes: usize,
    pub too_long: bool,
}

/// Losses of all items. `progress` gets items finished and tokens read so far.
pub fn run(
    model: &ModelFolder,
    asker: &Asker,
    items: &[Item],
    micro_tokens: usize,
    cancel: &Cancel,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<LossRow>> {
    const GROUP: usize = 16;
    let context = model.decoder.config.max_position_embeddings;
    let tokenizer = asker.renderer.tokenizer();
    let mut rows: Vec<LossRow> = Vec::with_capacity(items.len());
    let mut read = 0;
    for group in items.chunks(GROUP) {
        cancel.check()?;
        let mut examples: Vec<Example> = Vec::new();
        let mut row_of = Vec::new();
        for item in group {
            let record = asker.with_system(&item.record);
            let rendered = asker.renderer.examples(&record).map_err(|e| e.at(&item.id))?;
            let is_text = matches!(record.body, Body::Text(_));
            let mut row =
                LossRow { item: rows.len(), id: item.id.clone(), nll: 0.0, tokens: 0, bytes: 0, too_long: false };
            for example in rendered.examples {
                let windows = if example.len() <= context {
                    vec![example]
                } else if is_text {
                    windows(&example, context)
                } else {
                    row.too_long = true;
                    continue;
                };
                for w in windows {
                    let counted = w.tokens.iter().zip(&w.weights).filter(|(_, w)| **w != 0.0);
                    let ids: Vec<u32> = counted.map(|(t, _)| *t).collect();
                    row.bytes += tokenizer.decode(&ids, true)?.len();
                    read += w.len();
                    examples.push(w);
                    row_of.push(rows.len());
                }
            }
            rows.push(row);
        }
        for (loss, row) in losses(&model.decoder, &examples, micro_tokens)?.into_iter().zip(row_of) {
            rows[row].nll += loss.sum;
            rows[row].tokens += loss.tokens;
        }
        progress(rows.len(), read);
    }
    Ok(rows)
}

/// Windows of at most `context` tokens; the first token of each is the last of the one before and not predicted again.
fn windows(example: &Example, context: usize) -> Vec<Example> {
    let step = context.max(2) - 1;
    let mut out = Vec::new();
    let mut start = 0;
    while start + 1 < example.len() {
        let end = (start + step + 1).min(example.len());
        let mut weights = example.weights[start..end].to_vec();
        weights[0] = 0.0;
        out.push(Example { tokens: example.tokens[start..end].to_vec(), weights, ..example.clone() });
        start += step;
    }
    out
}

/// Negative log-likelihood a token, perplexity and bits a byte. The interval is over items, the independent draws.
pub fn summary(rows: &[LossRow]) -> Result<Summary> {
    let scored: Vec<&LossRow> = rows.iter().filter(|r| r.tokens > 0).collect();
    let per = |size: fn(&LossRow) -> usize| -> Option<Estimate> {
        let each: Vec<ExampleLoss> = scored.iter().map(|r| ExampleLoss { sum: r.nll, tokens: size(r) }).collect();
        let (value, se) = mean_loss(&each)?;
        let n = each.len();
        let half = if n > 1 { t_quantile(0.5 + LEVEL / 2.0, (n - 1) as f64) * se } else { f64::INFINITY };
        Some(Estimate { value, low: value - half, high: value + half, n })
    };
    let Some(nll) = per(|r| r.tokens) else {
        return Err(Error::usage("no token is left to predict: every record is too long or has nothing to train on")
            .help("`postgrad data show` prints what of a record would be trained"));
    };
    let map = |e: &Estimate, f: fn(f64) -> f64| Estimate { value: f(e.value), low: f(e.low), high: f(e.high), n: e.n };
    let mut summary = Summary::default();
    summary.value("nll_per_token", nll);
    summary.value("perplexity", map(&nll, f64::exp));
    if let Some(bytes) = per(|r| r.bytes) {
        summary.value("bits_per_byte", map(&bytes, |x| x / std::f64::consts::LN_2));
    }
    summary.count("items", rows.len());
    summary.count("tokens", rows.iter().map(|r| r.tokens).sum());
    summary.count("bytes", rows.iter().map(|r| r.bytes).sum());
    summary.count("too_long", rows.iter().filter(|r| r.too_long).count());
    summary.count("nothing_to_predict", rows.iter().filter(|r| r.tokens == 0 && !r.too_long).count());
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::{log_probs, model, pairs};
    use postgrad_data::Record;

    #[test]
    fn the_mean_is_that_of_training_evaluation() {
        let (model, items) = (model(), pairs(5));
        let asker = Asker::new(model.renderer.clone());
        let rows = run(&model, &asker, &items, 100, &Cancel::new(), |_, _| ()).unwrap();
        let examples: Vec<Example> =
            items.iter().flat_map(|i| model.renderer.examples(&i.record).unwrap().examples).collect();
        let want = mean_loss(&losses(&model.decoder, &examples, 4096).unwrap()).unwrap();
        let s = summary(&rows).unwrap();
        let nll = s.metric("nll_per_token").unwrap();
        assert!((nll.value - want.0).abs() < 1e-6, "{} {}", nll.value, want.0);
        assert!((nll.half_width() - t_quantile(0.975, 4.0) * want.1).abs() < 1e-6);
        assert!((s.metric("perplexity").unwrap().value - want.0.exp()).abs() < 1e-2);
        assert_eq!(s.counted("tokens"), Some(examples.iter().map(|e| e.trained() as u64).sum()));
    }

    #[test]
    fn a_long_text_is_read_in_windows_that_predict_each_token_once() {
        let model = model();
        let asker = Asker::new(model.renderer.clone());
        let text = "Tom has 3 apples and buys 4 more. ".repeat(80);
        let item = Item::of_record(Record::from_body(Body::Text(text.clone())));
        let example = model.renderer.examples(&item.record).unwrap().examples.remove(0);
        let context = model.decoder.config.max_position_embeddings;
        assert!(example.len() > context);
        let row = run(&model, &asker, &[item], 4096, &Cancel::new(), |_, _| ()).unwrap().remove(0);
        assert_eq!(row.tokens, example.len() - 1);
        assert!(row.bytes <= text.len() && row.bytes + 16 > text.len());
        let cut = windows(&example, context);
        let want: f64 = cut.iter().flat_map(|w| log_probs(&model, &w.tokens)).sum();
        assert!((row.nll + want).abs() < 1e-3 * row.nll, "{} {want}", row.nll);
        let bits = summary(std::slice::from_ref(&row)).unwrap().metric("bits_per_byte").unwrap().value;
        assert!((bits - row.nll / std::f64::consts::LN_2 / row.bytes as f64).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_measured_is_counted() {
        let model = model();
        let asker = Asker::new(model.renderer.clone());
        let mut items = pairs(2);
        items[1].record.body = Body::PromptCompletion { prompt: "a ".repeat(2000), completion: "b".into() };
        let rows = run(&model, &asker, &items, 4096, &Cancel::new(), |_, _| ()).unwrap();
        let s = summary(&rows).unwrap();
        assert_eq!((s.counted("too_long"), s.metric("nll_per_token").unwrap().n), (Some(1), 1));
        assert_eq!(summary(&rows[1..]).unwrap_err().exit_code(), 2);
    }
}
