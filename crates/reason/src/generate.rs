//! Text from a model: prompts in, answers out, with string stops.

use std::sync::Arc;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Result, Stream};
use postgrad_data::Tokenizer;
use postgrad_nn::logits::Rules;
use postgrad_nn::sample::{Completion, Request, Settings, Stop, sample};

use crate::folder::ModelFolder;

/// How to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub rules: Rules,
    pub max_tokens: usize,
    pub min_tokens: usize,
    /// Texts that end an answer; what follows and the text itself are cut off.
    pub stop: Vec<String>,
    pub seed: u64,
    /// Answers a prompt.
    pub n: usize,
    /// Sequences at a time.
    pub places: usize,
}

impl Options {
    /// The model's own defaults: `generation_config.json` where it asks for sampling, else greedy.
    pub fn of(model: &ModelFolder) -> Self {
        let g = &model.generation;
        let rules = if g.do_sample == Some(true) {
            Rules {
                temperature: g.temperature.unwrap_or(1.0),
                // transformers samples from the 50 likeliest unless told otherwise.
                top_k: g.top_k.unwrap_or(50),
                top_p: g.top_p.unwrap_or(1.0),
                min_p: g.min_p.unwrap_or(0.0),
                repetition_penalty: g.repetition_penalty.unwrap_or(1.0),
                ..Rules::default()
            }
        } else {
            Rules { repetition_penalty: g.repetition_penalty.unwrap_or(1.0), ..Rules::greedy() }
        };
        let max_tokens = g.max_new_tokens.unwrap_or(256);
        Self { rules, max_tokens, min_tokens: 0, stop: vec![], seed: 0, n: 1, places: 64 }
    }

    pub fn greedy(max_tokens: usize) -> Self {
        Self { rules: Rules::greedy(), max_tokens, min_tokens: 0, stop: vec![], seed: 0, n: 1, places: 64 }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Number of the prompt.
    pub prompt: usize,
    pub sample: usize,
    /// Without end tokens and without what a string stop cut off.
    pub text: String,
    pub truncated: bool,
    pub completion: Completion,
}

/// Answers all prompts; `done` gets each answer as it is finished, in no fixed order. Prompt `i` draws from the stream
/// `sample/i` of the seed, so an answer does not depend on the others.
pub fn generate(
    model: &ModelFolder,
    prompts: &[Vec<u32>],
    options: &Options,
    cancel: &Cancel,
    mut done: impl FnMut(Answer) -> Result<()>,
) -> Result<()> {
    let end = model.end_ids();
    let settings = Arc::new(Settings {
        rules: options.rules.clone(),
        max_tokens: options.max_tokens,
        min_tokens: options.min_tokens,
        end: end.clone(),
    });
    let stream = Stream::new(options.seed, &["sample"]);
    let requests: Vec<Request> = prompts
        .iter()
        .enumerate()
        .map(|(i, prompt)| Request {
            prompt: prompt.clone(),
            settings: settings.clone(),
            stream: stream.nth(i as u64),
            first: 0,
            n: options.n,
        })
        .collect();
    let tokenizer = model.renderer.tokenizer();
    let stops = |_: usize, _: usize, tokens: &[u32]| ends_with_stop(tokenizer, tokens, &options.stop);
    let stop_if: Option<postgrad_nn::sample::Predicate> = if options.stop.is_empty() { None } else { Some(&stops) };
    sample(&model.decoder, &requests, options.places, stop_if, cancel, |completion| {
        let mut text = text_of(tokenizer, &completion.tokens, &end)?;
        if let Some(at) = options.stop.iter().filter_map(|s| text.find(s.as_str())).min() {
            text.truncate(at);
        }
        let truncated = completion.stop.truncated();
        done(Answer { prompt: completion.request, sample: completion.sample, text, truncated, completion })
    })
}

/// All answers in the order of prompts and samples.
pub fn answers(model: &ModelFolder, prompts: &[Vec<u32>], options: &Options, cancel: &Cancel) -> Result<Vec<Answer>> {
    let mut all = Vec::with_capacity(prompts.len() * options.n);
    generate(model, prompts, options, cancel, |a| {
        all.push(a);
        Ok(())
    })?;
    all.sort_by_key(|a| (a.prompt, a.sample));
    Ok(all)
}

/// The text of a completion: end, padding and begin tokens left out, other special tokens (thoughts, tool calls) kept.
pub fn text_of(tokenizer: &Tokenizer, tokens: &[u32], end: &[u32]) -> Result<String> {
    let silent = |t: &u32| end.contains(t) || Some(*t) == tokenizer.pad() || Some(*t) == tokenizer.bos();
    let kept: Vec<u32> = tokens.iter().copied().filter(|t| !silent(t)).collect();
    tokenizer.decode(&kept, false)
}

/// Whether the text of the last tokens holds a stop. Only as many tokens are decoded as a stop could span.
pub(crate) fn ends_with_stop(tokenizer: &Tokenizer, tokens: &[u32], stops: &[String]) -> bool {
    stops.iter().any(|stop| {
        let tail = &tokens[tokens.len().saturating_sub(stop.len() + 4)..];
        tokenizer.decode(tail, false).is_ok_and(|text| text.contains(stop.as_str()))
    })
}

/// Why an answer is not to be trusted as whole.
pub fn stop_name(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end",
        Stop::Predicate => "stop text",
        Stop::Budget => "token budget",
        Stop::Context => "context full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn model() -> ModelFolder {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        ModelFolder::load(&dir).unwrap()
    }

    #[test]
    fn answers_stop_at_strings_and_at_all_end_ids() {
        let model = model();
        assert!(model.end_ids().len() >= 2, "the fixture has two end ids");
        let prompt = model.renderer.tokenizer().encode("What is 2+3?").unwrap();
        let mut options = Options { n: 3, ..Options::greedy(40) };
        options.rules.temperature = 1.0;
        let all = answers(&model, std::slice::from_ref(&prompt), &options, &Cancel::new()).unwrap();
        assert_eq!(all.len(), 3);
        let free = &all[0].text;
        assert!(free.chars().count() > 6, "{free:?}");
        let start = free.char_indices().nth(2).unwrap().0;
        let stop: String = free[start..].chars().take(3).collect();
        options.stop = vec![stop.clone()];
        let cut = answers(&model, &[prompt], &options, &Cancel::new()).unwrap();
        assert!(!cut[0].text.contains(&stop) && free.starts_with(&cut[0].text));
        assert!(cut[0].completion.tokens.len() < all[0].completion.tokens.len());
    }

    #[test]
    fn a_saved_model_and_adapter_load_again_with_equal_bits() {
        let mut model = model();
        let dir = tempfile::tempdir().unwrap();
        model.save(&dir.path().join("whole"), postgrad_nn::checkpoint::Dtype::F32).unwrap();
        let again = ModelFolder::load(&dir.path().join("whole")).unwrap();
        let prompt = vec![model.renderer.tokenizer().encode("Tom has 3").unwrap()];
        let options = Options::greedy(12);
        let run = |m: &ModelFolder| answers(m, &prompt, &options, &Cancel::new()).unwrap();
        assert_eq!(run(&model), run(&again));

        model.decoder.add_lora("new", LoraSpec { rank: 2, ..Default::default() }, &Stream::new(1, &["tune"])).unwrap();
        model.decoder.params().iter().for_each(|p| p.update(|w| w.iter_mut().for_each(|w| *w += 0.05)));
        let adapter = model.decoder.adapters[0].clone();
        let folder = dir.path().join("adapter");
        model.save_adapter(&adapter, &folder, "../whole").unwrap();
        let with = ModelFolder::load(&folder).unwrap();
        assert_eq!(run(&model), run(&with));
        assert_ne!(run(&model)[0].completion.model, run(&again)[0].completion.model);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ModelFolder::load(&dir.path().join("absent")).err().unwrap().exit_code(), 2);
        assert_eq!(ModelFolder::load(dir.path()).err().unwrap().exit_code(), 2);
    }

    use postgrad_nn::LoraSpec;
}
