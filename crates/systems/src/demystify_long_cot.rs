//! Demystifying long chains of thought (Yeo et al. 2025, arXiv 2502.03373): what thoughts are like, and where such words come
//! from.
//!
//! Rewards by length, the dense penalty of repetition and a discount for each reward are parts of the trainer
//! (`postgrad_train::rewards`, `postgrad_train::rl`). Here stand the study's measures: `behaviour` reads the answers of an
//! `eval` stage, `phrases` looks through texts for sentences like some given ones. Left out: the judge that is a model, and an
//! index of sketches (a few phrases are compared with each sentence).

use postgrad_base::progress::Progress;
use postgrad_base::{Error, Result, Stream, jsonl};
use postgrad_data::{Body, Record};
use postgrad_lab::Item;
use postgrad_lab::stage::{Cx, Input, Kind, Stage};
use postgrad_numerics::minhash::{MinHash, likeness};
use postgrad_train::rewards::named::repeated_share;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

/// The kinds of stages that stand here.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Behaviour>(), Kind::of::<Phrases>()]
}

/// `behaviour`: lengths, repetition and words of reflection in answers, one row a response.
///
/// Rows: `right` and `wrong` (0 or 1), `tokens`, `right_tokens` and `wrong_tokens` (the length, or 0), so that
/// `ratio(right_tokens, right)` is the mean length of right answers; `over` (came within `near` tokens of `max_tokens`),
/// `repeated` (share of word n-grams that were there before), `reflections` (words of reflection in all), `reflects` (any), and
/// each of the words (`word_wait`, `word_try_again`).
pub struct Behaviour;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviourConfig {
    /// An `eval` stage that asked for answers.
    pub answers: Input,
    /// The limit of tokens that the answers had.
    pub max_tokens: usize,
    #[serde(default = "near")]
    pub near: usize,
    /// Words of the n-grams.
    #[serde(default = "n")]
    pub n: usize,
    /// Words and phrases of reflection.
    #[serde(default = "words")]
    pub words: Vec<String>,
}

fn near() -> usize {
    16
}
fn n() -> usize {
    20
}
fn words() -> Vec<String> {
    ["wait", "recheck", "rethink", "try again", "alternatively", "however"].map(String::from).to_vec()
}

/// Of a row of `answers.jsonl`, what is counted here.
#[derive(Deserialize)]
struct Answered {
    id: String,
    cluster: String,
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    sample: usize,
    text: String,
    strict: bool,
    truncated: bool,
    tokens: usize,
}

impl Stage for Behaviour {
    const NAME: &'static str = "behaviour";
    const ABOUT: &'static str = "demystify-long-cot: lengths, repetition and words of reflection in answers";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &[];
    type Config = BehaviourConfig;

    fn check(config: &BehaviourConfig) -> Result<()> {
        if config.n == 0 {
            return Err(Error::usage("`n` is 1 or more"));
        }
        let empty = config.words.iter().find(|w| words_of(w).is_empty());
        empty.map_or(Ok(()), |w| Err(Error::usage(format!("`words` has `{w}`, which holds no word"))))
    }

    fn run(config: BehaviourConfig, cx: &Cx) -> Result<()> {
        let wanted: Vec<(String, Vec<String>)> = config.words.iter().map(|w| (column(w), words_of(w))).collect();
        let mut rows = Vec::new();
        for file in cx.files(&config.answers, "answers")? {
            for answered in jsonl::read::<Answered>(&file)? {
                cx.cancel.check()?;
                let answered = answered?.1;
                rows.extend(answered.responses.iter().map(|r| Item {
                    item: format!("{}/{}", answered.id, r.sample),
                    cluster: Some(answered.cluster.clone()),
                    metrics: config.figures(r, &wanted),
                }));
            }
        }
        cx.write_rows(&rows)
    }
}

impl BehaviourConfig {
    fn figures(&self, r: &Response, wanted: &[(String, Vec<String>)]) -> Map<String, serde_json::Value> {
        let right = r.strict && !r.truncated;
        let [is_right, is_wrong] = [right, !right].map(usize::from);
        let text = words_of(&r.text);
        let mut out = Map::new();
        let mut reflections = 0;
        for (column, phrase) in wanted {
            let n = text.windows(phrase.len()).filter(|w| w == phrase).count();
            reflections += n;
            out.insert(column.clone(), json!(n));
        }
        let figures = json!({"right": is_right, "wrong": is_wrong, "tokens": r.tokens,
            "right_tokens": is_right * r.tokens, "wrong_tokens": is_wrong * r.tokens,
            "over": usize::from(r.tokens + self.near >= self.max_tokens), "repeated": repeated_share(&r.text, self.n),
            "reflections": reflections, "reflects": usize::from(reflections > 0)});
        out.extend(figures.as_object().cloned().unwrap_or_default());
        out
    }
}

/// Lower case, without punctuation.
fn words_of(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let parts = lower.split(|c: char| !c.is_alphanumeric() && c != '\'');
    parts.map(|w| w.trim_matches('\'')).filter(|w| !w.is_empty()).map(String::from).collect()
}

fn column(phrase: &str) -> String {
    format!("word_{}", words_of(phrase).join("_"))
}

/// `phrases`: sentences of texts that are like some given ones, by MinHash over word n-grams.
///
/// `found.jsonl` has each sentence with the query it is most like and their likeness, an estimate. Rows, one a query: `found`
/// (sentences that are most like it), `sentences` (in all), `rate` (a million sentences).
pub struct Phrases;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhrasesConfig {
    /// Texts, answers, conversations: all that they say is looked through.
    pub data: Input,
    /// What is looked for, by default a dozen sentences of people who check their own work.
    #[serde(default = "queries")]
    pub queries: Vec<String>,
    #[serde(default = "permutations")]
    pub permutations: usize,
    /// Words of an n-gram.
    #[serde(default = "shingle")]
    pub shingle: usize,
    /// The least likeness of what is kept.
    #[serde(default = "least")]
    pub least: f64,
}

fn queries() -> Vec<String> {
    [
        "let us go through this step by step",
        "let me check this result once more",
        "wait that cannot be right",
        "i made a mistake in the last step",
        "let me try another way to solve this",
        "an alternative way to see this is",
        "to verify this put the answer back into the question",
        "going back to the beginning of the problem",
        "let me count them again to be sure",
        "that does not agree with what we found before",
        "on second thought the first idea was better",
        "does this answer make sense",
    ]
    .map(String::from)
    .to_vec()
}
fn permutations() -> usize {
    128
}
fn shingle() -> usize {
    3
}
fn least() -> f64 {
    0.5
}

/// A row of `found.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    sentence: String,
    query: String,
    likeness: f64,
    record: usize,
}

impl Stage for Phrases {
    const NAME: &'static str = "phrases";
    const ABOUT: &'static str = "demystify-long-cot: sentences like given ones, found by MinHash";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["eval"];
    type Config = PhrasesConfig;

    fn check(config: &PhrasesConfig) -> Result<()> {
        if config.shingle == 0 || config.permutations == 0 || !(0.0..=1.0).contains(&config.least) {
            return Err(Error::usage("`shingle` and `permutations` are 1 or more, `least` is from 0 to 1"));
        }
        if config.queries.is_empty() {
            return Err(Error::usage("`queries` names nothing to look for"));
        }
        let short = config.queries.iter().find(|q| words_of(q).len() < config.shingle);
        short.map_or(Ok(()), |q| Err(Error::usage(format!("`{q}` has fewer than {} words", config.shingle))))
    }

    fn run(config: PhrasesConfig, cx: &Cx) -> Result<()> {
        let search = Search::new(&config, &cx.stream("eval").child("phrases"));
        let records = cx.records(&config.data)?;
        let mut progress = Progress::new(cx.progress, "phrases", records.len() as u64);
        let (mut found, mut counts, mut sentences) = (Vec::new(), vec![0usize; config.queries.len()], 0usize);
        for (i, record) in records.iter().enumerate() {
            cx.cancel.check()?;
            for sentence in texts_of(record).flat_map(sentences_of) {
                sentences += 1;
                let Some((query, likeness)) = search.nearest(sentence) else { continue };
                counts[query] += 1;
                let (sentence, query) = (sentence.to_string(), config.queries[query].clone());
                found.push(Found { sentence, query, likeness, record: i });
            }
            progress.set(i as u64 + 1, "");
        }
        progress.finish();
        cx.write_jsonl("found.jsonl", &found)?;
        let rows: Vec<Item> = config.queries.iter().zip(counts).map(|(q, n)| counted(q, n, sentences)).collect();
        cx.write_rows(&rows)
    }
}

fn counted(query: &str, found: usize, sentences: usize) -> Item {
    let rate = 1e6 * found as f64 / sentences.max(1) as f64;
    let metrics = json!({"found": found, "sentences": sentences, "rate": rate});
    Item { item: query.into(), cluster: None, metrics: metrics.as_object().cloned().unwrap_or_default() }
}

/// Queries as sketches.
struct Search {
    family: MinHash,
    /// Hashes of n-grams are drawn from it by name.
    stream: Stream,
    queries: Vec<Vec<u64>>,
    shingle: usize,
    least: f64,
}

impl Search {
    fn new(config: &PhrasesConfig, stream: &Stream) -> Self {
        let family = MinHash::new(config.permutations, &mut stream.child("functions"));
        let (stream, shingle, least) = (stream.child("shingles"), config.shingle, config.least);
        let mut search = Self { family, stream, queries: vec![], shingle, least };
        search.queries = config.queries.iter().filter_map(|q| search.sketch(q)).collect();
        search
    }

    /// None of a sentence with fewer words than an n-gram.
    fn sketch(&self, sentence: &str) -> Option<Vec<u64>> {
        let words = words_of(sentence);
        let hash = |gram: &[String]| self.stream.child(&gram.join(" ")).next_u64();
        self.family.sketch(&words.windows(self.shingle).map(hash).collect::<Vec<_>>())
    }

    /// The query that the sentence is most like, the first of equals, if it is like enough.
    fn nearest(&self, sentence: &str) -> Option<(usize, f64)> {
        let sketch = self.sketch(sentence)?;
        let all = self.queries.iter().map(|q| likeness(q, &sketch)).enumerate();
        let best = all.fold((0, 0.0), |best, next| if next.1 > best.1 { next } else { best });
        (best.1 >= self.least && best.1 > 0.0).then_some(best)
    }
}

fn texts_of(record: &Record) -> impl Iterator<Item = &str> {
    let texts: Vec<&str> = match &record.body {
        Body::Text(text) => vec![text],
        Body::PromptCompletion { prompt, completion } => vec![prompt, completion],
        Body::Messages(turns) => turns.iter().map(|t| t.content.as_str()).collect(),
    };
    texts.into_iter()
}

/// Parts that end with a line, or with a mark that a blank follows.
fn sentences_of(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for line in text.lines() {
        let mut from = 0;
        for (i, c) in line.char_indices() {
            let after = i + c.len_utf8();
            let ends = matches!(c, '.' | '!' | '?') && line[after..].starts_with(char::is_whitespace);
            if ends || after == line.len() {
                out.push(line[from..after].trim());
                from = after;
            }
        }
    }
    out.retain(|s| !s.is_empty());
    out
}

#[cfg(test)]
mod tests;
