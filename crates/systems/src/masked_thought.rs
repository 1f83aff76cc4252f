//! Masked Thought (Chen et al. 2024, arXiv 2403.02178): what a completion is predicted from.
//!
//! The method itself is the key `corrupt` of the stage `sft` (`postgrad_train::corrupt`). Here stands the measurement beside it,
//! the kind `occlusion`: with the reference completion as input, one source token s is replaced by a random other one, and
//! the drop in `log P(y_t)` is averaged over the pairs (s, t) of a segment: s in the question (`question`), in the completion
//! at most `near` tokens before t (`near`), or farther (`far`). The paper's own measure is not published; this is not it.
//! Which tokens are replaced, and by what, is the same for every model and seed.
//! Left out on purpose: replacing several tokens at once, and attention as a measure of dependence.

use postgrad_audit::Asker;
use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Example, Tokenizer};
use postgrad_lab::Item;
use postgrad_lab::stage::{Cx, Input, Kind, Stage};
use postgrad_lab::stages::row;
use postgrad_reason::ModelFolder;
use postgrad_train::corrupt::Spot;
use postgrad_train::evaluate::token_losses;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The kinds of stages that stand here.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Occlusion>()]
}

pub struct Occlusion;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    /// Records with completions.
    pub data: Input,
    /// The first items alone.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Tokens replaced, one at a time, in the question, and as many in the completion.
    #[serde(default = "places")]
    pub places: usize,
    /// The distance up to which an earlier token of the completion is near.
    #[serde(default = "near")]
    pub near: usize,
    /// Longer examples are left out.
    #[serde(default = "max_len")]
    pub max_len: usize,
}

fn places() -> usize {
    8
}
fn near() -> usize {
    8
}
fn max_len() -> usize {
    1024
}

impl Stage for Occlusion {
    const NAME: &'static str = "occlusion";
    const ABOUT: &'static str = "how much a completion's log-prob drops when one earlier token is replaced";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["eval"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if config.places == 0 {
            return Err(Error::usage("0 replaced places measure nothing"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let model = cx.model(&config.model)?;
        let mut items = cx.items(&config.data)?;
        items.truncate(config.limit.unwrap_or(usize::MAX));
        let asker = Asker::new(model.renderer.clone());
        let stream = cx.stream("eval").child("occlusion");
        let mut progress = Progress::new(cx.progress, "occlusion", items.len() as u64);
        let mut rows: Vec<Item> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            cx.cancel.check()?;
            let rendered = asker.renderer.examples(&item.record).map_err(|e| e.at(&item.id))?;
            let Some(example) = rendered.examples.last().filter(|e| e.len() <= config.max_len) else { continue };
            let probes = Probes::draw(example, model.renderer.tokenizer(), config.places, stream.nth(i as u64));
            cx.spend("read_tokens", (example.len() * (1 + probes.spots.len())) as u64);
            rows.push(row(item, Value::Object(probes.measure(&model, example, config.near)?)));
            progress.set(i as u64 + 1, "");
        }
        progress.finish();
        cx.write_rows(&rows)
    }
}

/// Replacements to be tried in one example, those of the question first.
struct Probes {
    spots: Vec<Spot>,
    of_question: usize,
}

impl Probes {
    fn draw(example: &Example, tokenizer: &Tokenizer, places: usize, mut stream: Stream) -> Self {
        let last = example.weights.iter().rposition(|w| *w != 0.0).unwrap_or(0);
        let own = |i: &usize| example.weights[*i] != 0.0;
        let question: Vec<usize> = (0..last).filter(|i| !own(i) && !tokenizer.is_special(example.tokens[*i])).collect();
        let completion: Vec<usize> = (0..last).filter(own).collect();
        let mut spots = Vec::new();
        let mut of_question = 0;
        for from in [&question, &completion] {
            of_question = spots.len();
            for k in stream.sample(from.len(), places) {
                let (place, was) = (from[k], example.tokens[from[k]]);
                let other = stream.below(tokenizer.vocab_size() - 1) as u32;
                spots.push((place, other + u32::from(other >= was)));
            }
        }
        Self { spots, of_question }
    }

    /// `log_prob` (mean, as it stands), and the mean drops.
    fn measure(&self, model: &ModelFolder, example: &Example, near: usize) -> Result<Map<String, Value>> {
        let mut tried: Vec<Vec<Spot>> = vec![vec![]];
        tried.extend(self.spots.iter().map(|s| vec![*s]));
        let examples = vec![example.clone(); tried.len()];
        let losses = token_losses(&model.decoder, &examples, &tried, 4096)?;
        let targets: Vec<usize> = (1..example.len()).filter(|t| example.weights[*t] != 0.0).collect();
        let mut sums = [("question", 0.0, 0usize), ("near", 0.0, 0), ("far", 0.0, 0)];
        for (k, ((place, _), after)) in self.spots.iter().zip(&losses[1..]).enumerate() {
            for (t, (was, is)) in targets.iter().zip(losses[0].iter().zip(after)).filter(|(t, _)| *t > place) {
                let segment = match () {
                    () if k < self.of_question => 0,
                    () if t - place <= near => 1,
                    () => 2,
                };
                sums[segment].1 += f64::from(*is) - f64::from(*was);
                sums[segment].2 += 1;
            }
        }
        let mean = |sum: f64, n: usize| json!(sum / n as f64);
        let nll: f64 = losses[0].iter().map(|x| f64::from(*x)).sum();
        let mut metrics = Map::new();
        metrics.insert("tokens".into(), json!(targets.len()));
        metrics.insert("log_prob".into(), mean(-nll, targets.len()));
        let met = sums.into_iter().filter(|(_, _, n)| *n > 0);
        metrics.extend(met.map(|(name, sum, n)| (name.to_string(), mean(sum, n))));
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use postgrad_lab::stage::{Place, golden};
    use postgrad_nn::decoder::{Pass, Walk};

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml")
    }

    fn record() -> &'static str {
        "{\"prompt\":\"Ann has 2 pears and 3 figs. How many?\",\"completion\":\"Ann: 2+3=5.\\n#### 5\"}\n"
    }

    fn log_prob(model: &ModelFolder, input: &[u32], target: u32) -> f64 {
        let pass = Pass::sequences(&[input.len()]);
        let hidden = model.decoder.hidden(input, &Walk::Tape(&pass));
        let logits = model.decoder.logits(&hidden);
        let row: Vec<f64> = logits.data()[logits.len() - logits.dim(1)..].iter().map(|x| f64::from(*x)).collect();
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row[target as usize] - most - row.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
    }

    #[test]
    fn drops_are_those_of_the_log_probs_themselves() {
        let model = ModelFolder::load(&folder()).unwrap();
        let item: postgrad_data::Record = {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("a.jsonl");
            std::fs::write(&file, record()).unwrap();
            let spec = postgrad_data::DataSpec::of(file.display().to_string());
            postgrad_data::Records::open(&spec).unwrap().next_record().unwrap().unwrap()
        };
        let e = model.renderer.examples(&item).unwrap().examples.remove(0);
        let probes = Probes::draw(&e, model.renderer.tokenizer(), 3, Stream::new(0, &["eval"]));
        assert_eq!((probes.spots.len(), probes.of_question), (6, 3));
        let first = e.weights.iter().position(|w| *w != 0.0).unwrap();
        assert!(
            probes.spots[..3].iter().all(|(i, _)| *i < first) && probes.spots[3..].iter().all(|(i, _)| *i >= first)
        );
        assert!(probes.spots.iter().all(|(i, t)| e.tokens[*i] != *t));
        let got = probes.measure(&model, &e, 2).unwrap();
        let mut pairs: [Vec<f64>; 3] = Default::default();
        for (k, (place, token)) in probes.spots.iter().enumerate() {
            let mut changed = e.tokens.clone();
            changed[*place] = *token;
            for t in (place + 1..e.len()).filter(|t| e.weights[*t] != 0.0) {
                let drop = log_prob(&model, &e.tokens[..t], e.tokens[t]) - log_prob(&model, &changed[..t], e.tokens[t]);
                pairs[if k < 3 { 0 } else { 1 + usize::from(t - place > 2) }].push(drop);
            }
        }
        for (name, drops) in ["question", "near", "far"].into_iter().zip(pairs) {
            let want = drops.iter().sum::<f64>() / drops.len() as f64;
            assert!((got[name].as_f64().unwrap() - want).abs() < 1e-5, "{name} {} {want}", got[name]);
        }
    }

    #[test]
    fn golden_run() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("a.jsonl");
        std::fs::write(&file, record()).unwrap();
        let inputs = [("m", Place::Model(folder())), ("d", Place::Data(vec![file.display().to_string()]))];
        let config = json!({"model": "@m", "data": "@d", "places": 2});
        golden(&Kind::of::<Occlusion>(), &config, &inputs, "45c7547a2a62e5e2");
    }
}
