//! The flags of sampling, shared by `eval`, `generate` and `chat`, and answers that are shown as they grow.

use std::cell::RefCell;
use std::sync::Arc;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::TextStream;
use postgrad_nn::logits::Rules;
use postgrad_nn::sample::{Request, Settings, sample};
use postgrad_reason::generate::{Options, text_of};
use postgrad_reason::{Answer, ModelFolder};

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// 0 is greedy
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Draw from the K likeliest tokens; 0 is off
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw from the fewest tokens whose probability reaches P; 1 is off
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Leave out tokens below this share of the likeliest one's probability; 0 is off
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Divide the logits of tokens seen; 1 is off
    #[arg(long, value_name = "X")]
    pub repetition_penalty: Option<f32>,
    /// Tokens an answer may have
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// A text that ends an answer and is cut off; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Factor on the model's adapter: 0 is off, 1 as trained, between and beyond for methods that make it a knob
    #[arg(long, visible_alias = "valve", value_name = "X", allow_negative_numbers = true)]
    pub adapter_scale: Option<f32>,
    /// Of the random draws
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Sequences at a time
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub batch: usize,
}

impl SamplingArgs {
    /// Refuses what is out of range, before a model is loaded.
    pub fn check(&self) -> Result<()> {
        self.over(Options::greedy(256)).map(|_| ())
    }

    /// Gives the model's adapters their run-time scale.
    pub fn scale(&self, model: &mut ModelFolder) -> Result<()> {
        self.adapter_scale.map_or(Ok(()), |x| model.scale_adapters(x))
    }

    /// Flags over `base` (the model's own defaults, or greedy). A filter without a temperature draws at temperature 1.
    pub fn over(&self, base: Options) -> Result<Options> {
        let mut o = base;
        let filters = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        if filters && self.temperature.is_none() && o.rules.temperature == 0.0 {
            o.rules.temperature = 1.0;
        }
        set(&mut o.rules.temperature, self.temperature);
        set(&mut o.rules.top_k, self.top_k);
        set(&mut o.rules.top_p, self.top_p);
        set(&mut o.rules.min_p, self.min_p);
        set(&mut o.rules.repetition_penalty, self.repetition_penalty);
        set(&mut o.max_tokens, self.max_tokens);
        o.stop = self.stop.clone();
        o.seed = self.seed;
        o.places = self.batch;
        check(&o)?;
        Ok(o)
    }
}

fn set<T>(to: &mut T, from: Option<T>) {
    if let Some(value) = from {
        *to = value;
    }
}

/// What is out of range in options.
pub fn check(o: &Options) -> Result<()> {
    let fault = o
        .rules
        .fault()
        .or((o.max_tokens == 0).then(|| "max-tokens is 0, and must be 1 or more".into()))
        .or((o.places == 0).then(|| "batch is 0, and must be 1 or more".into()))
        .or((o.n == 0).then(|| "0 answers are asked for, and must be 1 or more".into()))
        .or(o.stop.iter().any(String::is_empty).then(|| "a stop text is empty".into()));
    fault.map_or(Ok(()), |f| {
        Err(Error::usage(f).help("temperature 0 is greedy; 0.7 with top-p 0.95 is usual for sampling"))
    })
}

/// One line on how tokens are drawn.
pub fn says(o: &Options) -> String {
    let r = &o.rules;
    let off = Rules { temperature: r.temperature, ..Rules::default() };
    let mut parts = vec![if r.temperature == 0.0 { "greedy".into() } else { format!("temperature {}", r.temperature) }];
    if r.temperature > 0.0 {
        parts.extend((r.top_k != off.top_k).then(|| format!("top-k {}", r.top_k)));
        parts.extend((r.top_p != off.top_p).then(|| format!("top-p {}", r.top_p)));
        parts.extend((r.min_p != off.min_p).then(|| format!("min-p {}", r.min_p)));
    }
    parts.extend(
        (r.repetition_penalty != off.repetition_penalty)
            .then(|| format!("repetition penalty {}", r.repetition_penalty)),
    );
    parts.push(format!("at most {} tokens", o.max_tokens));
    parts.join(", ")
}

/// What was written of an answer so far.
struct Growing<'a> {
    stream: TextStream<'a>,
    text: String,
    shown: usize,
    stopped: bool,
}

impl Growing<'_> {
    /// Shows all but what could still be the head of a stop text.
    fn show(&mut self, held: usize, show: &mut dyn FnMut(&str)) {
        let mut to = self.text.len().saturating_sub(held).max(self.shown);
        while !self.text.is_char_boundary(to) {
            to -= 1;
        }
        if to > self.shown {
            show(&self.text[self.shown..to]);
            self.shown = to;
        }
    }
}

/// One answer, its text shown piece by piece. The answer is the one `generate` gives to the prompt with this number.
pub fn stream(
    model: &ModelFolder,
    ids: &[u32],
    options: &Options,
    number: u64,
    cancel: &Cancel,
    show: &mut dyn FnMut(&str),
) -> Result<Answer> {
    let end = model.end_ids();
    let settings = Arc::new(Settings {
        rules: options.rules.clone(),
        max_tokens: options.max_tokens,
        min_tokens: options.min_tokens,
        end: end.clone(),
    });
    let tokenizer = model.renderer.tokenizer();
    let drawn = Stream::new(options.seed, &["sample"]).nth(number);
    let request = Request { prompt: ids.to_vec(), settings, stream: drawn, first: 0, n: 1 };
    let held = options.stop.iter().map(|s| s.len() - 1).max().unwrap_or(0);
    let growing = RefCell::new((
        Growing { stream: tokenizer.stream(false), text: String::new(), shown: 0, stopped: false },
        show,
    ));
    let grow = |_: usize, _: usize, tokens: &[u32]| {
        let (growing, show) = &mut *growing.borrow_mut();
        let Some(last) = tokens.last() else { return false };
        let silent = end.contains(last) || Some(*last) == tokenizer.pad() || Some(*last) == tokenizer.bos();
        if !silent {
            growing.text += &growing.stream.push(*last).unwrap_or_default();
        }
        let from = growing.shown;
        if let Some(at) = options.stop.iter().filter_map(|s| growing.text[from..].find(s.as_str())).min() {
            growing.text.truncate(from + at);
            growing.stopped = true;
        }
        let hold = if growing.stopped { 0 } else { held };
        growing.show(hold, *show);
        growing.stopped
    };
    let mut completion = None;
    sample(&model.decoder, &[request], 1, Some(&grow), cancel, |c| {
        completion = Some(c);
        Ok(())
    })?;
    let completion = completion.ok_or_else(|| Error::work("the model gave no answer"))?;
    let mut text = text_of(tokenizer, &completion.tokens, &end)?;
    if let Some(at) = options.stop.iter().filter_map(|s| text.find(s.as_str())).min() {
        text.truncate(at);
    }
    let (growing, show) = growing.into_inner();
    if let Some(rest) = text.get(growing.shown..).filter(|r| !r.is_empty()) {
        show(rest);
    }
    Ok(Answer { prompt: 0, sample: 0, truncated: completion.stop.truncated(), text, completion })
}
