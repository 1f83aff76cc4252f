//! Tokenizers: `tokenizer.json` with `tokenizer_config.json`, as Hugging Face's fast tokenizers run them.
//!
//! ```no_run
//! # use postgrad_data::Tokenizer;
//! let tokenizer = Tokenizer::load("models/seed-1m".as_ref())?;
//! let ids = tokenizer.encode("12 + 30 = ")?;
//! assert_eq!(tokenizer.decode(&ids, true)?, "12 + 30 = ");
//! # Ok::<(), postgrad_base::Error>(())
//! ```
//! Left out on purpose: slow tokenizers (`tokenizer.model`, `vocab.json` alone), `clean_up_tokenization_spaces` (text is
//! decoded as it was encoded), truncation and padding stored in `tokenizer.json` (the collator's work).

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use postgrad_base::{Context, Error, Result, fs};
use serde_json::{Map, Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

/// Words with their leading space, single digits, runs of punctuation, line ends: GPT-4's split, digits one by one.
const SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Files of a model folder that belong to its tokenizer.
const FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// Those of them that say which tokens there are.
const OWN_FILES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"];

/// A tokenizer with its configuration. Ids are those of `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same, reading special tokens in a text as plain text.
    plain: OnceLock<tokenizers::Tokenizer>,
    config: Map<String, Value>,
    specials: Vec<(&'static str, String)>,
    special_ids: BTreeSet<u32>,
    vocab_size: usize,
    adds_bos: bool,
    source: Option<PathBuf>,
    /// It has tokens that the files of `source` lack.
    grown: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).field("specials", &self.specials).finish()
    }
}

fn foreign(e: tokenizers::Error) -> Error {
    Error::work(e.to_string())
}

impl Tokenizer {
    /// The tokenizer of a model folder.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        if !path.exists() {
            let slow = ["tokenizer.model", "vocab.json", "vocab.txt"].into_iter().find(|f| dir.join(f).exists());
            let error = Error::usage(format!("there is no tokenizer.json in {}", dir.display()));
            return Err(match slow {
                Some(file) => error.help(format!(
                    "{file} alone is not read; transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…) writes tokenizer.json"
                )),
                None => error.help("a model folder needs tokenizer.json and tokenizer_config.json"),
            });
        }
        let bytes = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        let read_map = |name: &str| -> Result<Map<String, Value>> {
            let path = dir.join(name);
            if !path.exists() {
                return Ok(Map::new());
            }
            let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).context(|| format!("{} is not a JSON object", path.display()))
        };
        let mut config = read_map("tokenizer_config.json")?;
        for (name, token) in read_map("special_tokens_map.json")? {
            config.entry(name).or_insert(token);
        }
        let mut made = Self::from_parts(&bytes, config).map_err(|e| e.at(path.display()))?;
        made.source = Some(dir.to_path_buf());
        Ok(made)
    }

    /// From the text of `tokenizer.json` and the entries of `tokenizer_config.json`.
    pub fn from_parts(tokenizer_json: &[u8], config: Map<String, Value>) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(tokenizer_json)
            .map_err(|e| Error::work(format!("not a tokenizer.json that can be read: {e}")))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(foreign)?;
        add_missing(&mut inner, &config);
        const NAMES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];
        let specials: Vec<_> = NAMES.iter().filter_map(|name| Some((*name, token_text(config.get(*name)?)?))).collect();
        if let Some((_, eos)) = specials.iter().find(|(name, t)| *name == "eos_token" && inner.token_to_id(t).is_none())
        {
            return Err(Error::usage(format!("eos_token is `{eos}`, which the tokenizer does not know"))
                .help("tokenizer.json and tokenizer_config.json are not of one model"));
        }
        let mut special_ids: BTreeSet<u32> =
            inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();
        special_ids.extend(specials.iter().filter_map(|(_, token)| inner.token_to_id(token)));
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        let mut made = Self {
            inner,
            plain: OnceLock::new(),
            config,
            specials,
            special_ids,
            vocab_size,
            adds_bos: false,
            source: None,
            grown: false,
        };
        made.adds_bos = made.bos().is_some() && made.document_ids("a")?.first() == made.bos().as_ref();
        Ok(made)
    }

    /// Ids of a text. Special tokens in it (`<|im_end|>`) become their ids; none are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, false).map_err(foreign)?.get_ids().to_vec())
    }

    /// Ids of a text of which special tokens are only letters: for text that is not to be trusted.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.inner.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        Ok(plain.encode_fast(text, false).map_err(foreign)?.get_ids().to_vec())
    }

    /// Ids of a whole document with what the tokenizer adds around one (`add_bos_token`, `add_eos_token` as given, else
    /// as its post-processor does).
    pub fn encode_document(&self, text: &str) -> Result<Vec<u32>> {
        self.document_ids(text)
    }

    fn document_ids(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.inner.encode_fast(text, true).map_err(foreign)?.get_ids().to_vec();
        if let (Some(add), Some(bos)) = (self.config.get("add_bos_token").and_then(Value::as_bool), self.bos()) {
            match (add, ids.first() == Some(&bos)) {
                (true, false) => ids.insert(0, bos),
                (false, true) if self.encode(text)?.first() != Some(&bos) => {
                    ids.remove(0);
                }
                _ => {}
            }
        }
        if let (Some(add), Some(eos)) = (self.config.get("add_eos_token").and_then(Value::as_bool), self.eos()) {
            match (add, ids.last() == Some(&eos)) {
                (true, false) => ids.push(eos),
                (false, true) if self.encode(text)?.last() != Some(&eos) => {
                    ids.pop();
                }
                _ => {}
            }
        }
        Ok(ids)
    }

    /// Ids with the bytes of the text that each stands for. The ranges of one text tile it in order; a byte-level token
    /// that is a part of a character has the character's range.
    pub fn encode_spans(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = self.inner.encode(text, false).map_err(foreign)?;
        let mut spans: Vec<Range<usize>> = Vec::with_capacity(encoding.len());
        let mut reached = 0;
        for &(start, end) in encoding.get_offsets() {
            let span = match spans.last() {
                // Tokenizers may trim spaces from a token's range; they belong to it.
                _ if end > reached => reached..end,
                // A further part of the character before.
                Some(before) => before.clone(),
                None => start..end,
            };
            reached = reached.max(end);
            spans.push(span);
        }
        Ok((encoding.get_ids().to_vec(), spans))
    }

    /// The text of ids. Bytes that are no UTF-8 become U+FFFD; an id the tokenizer does not know has no text.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(foreign)
    }

    /// Ids one by one to text, see [`TextStream`].
    pub fn stream(&self, skip_special: bool) -> TextStream<'_> {
        TextStream { tokenizer: self, skip_special, ids: vec![], prefix: 0, read: 0 }
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token as the vocabulary spells it (byte-level tokens in their letters).
    pub fn token_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// Ids of all special tokens, ascending.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> {
        self.special_ids.iter().copied()
    }

    fn named(&self, name: &str) -> Option<u32> {
        let token = &self.specials.iter().find(|(n, _)| *n == name)?.1;
        self.inner.token_to_id(token)
    }

    pub fn bos(&self) -> Option<u32> {
        self.named("bos_token")
    }

    pub fn eos(&self) -> Option<u32> {
        self.named("eos_token")
    }

    pub fn pad(&self) -> Option<u32> {
        self.named("pad_token")
    }

    /// The mask token that the configuration names.
    pub fn mask(&self) -> Option<u32> {
        self.inner.token_to_id(&token_text(self.config.get("mask_token")?)?)
    }

    /// The same tokenizer with one more special token, whose id comes after all others. It is the mask token if none was
    /// named.
    pub fn with_special(&self, token: &str) -> Result<Self> {
        if token.is_empty() || self.id_of(token).is_some() {
            return Err(Error::usage(format!("`{token}` cannot be added: it is empty or known to the tokenizer")));
        }
        let mut inner = self.inner.clone();
        inner.add_special_tokens(&[AddedToken::from(token, true).normalized(false)]);
        let id = inner.token_to_id(token).filter(|id| *id as usize == self.vocab_size);
        let id = id.ok_or_else(|| {
            Error::work(format!("the tokenizer's ids have gaps, so `{token}` cannot come after all of them"))
        })?;
        let mut config = self.config.clone();
        if let Some(Value::Object(added)) = config.get_mut("added_tokens_decoder") {
            let entry = json!({"content": token, "lstrip": false, "normalized": false, "rstrip": false,
                "single_word": false, "special": true});
            added.insert(id.to_string(), entry);
        }
        config.entry("mask_token").or_insert_with(|| json!(token));
        let mut made = Self::from_parts(inner.to_string(false).map_err(foreign)?.as_bytes(), config)?;
        made.source = self.source.clone();
        made.grown = true;
        Ok(made)
    }

    /// What a batch is padded with: the pad token, else the end token, else 0. Padding has no loss and no attention.
    pub fn pad_or_any(&self) -> u32 {
        self.pad().or(self.eos()).unwrap_or(0)
    }

    /// A document begins with the bos token.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// `bos_token` and its like, with their texts.
    pub(crate) fn named_specials(&self) -> Vec<(&'static str, String)> {
        self.specials.clone()
    }

    /// The entries of `tokenizer_config.json`.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// Writes the tokenizer's files into an existing folder: those it was loaded from unchanged, else (or if it grew) `tokenizer.json` and
    /// `tokenizer_config.json`, which transformers' `PreTrainedTokenizerFast` loads.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if let Some(source) = &self.source {
            let own = FILES.iter().filter(|f| !self.grown || !OWN_FILES.contains(f));
            for name in own {
                let from = source.join(name);
                if from.exists() {
                    let bytes = std::fs::read(&from).context(|| format!("cannot read {}", from.display()))?;
                    fs::write(&dir.join(name), &bytes)?;
                }
            }
            if !self.grown {
                return Ok(());
            }
        }
        fs::write(&dir.join("tokenizer.json"), self.to_json()?.as_bytes())?;
        let config = serde_json::to_string_pretty(&self.config).context(|| "cannot write the configuration".into())?;
        fs::write(&dir.join("tokenizer_config.json"), config.as_bytes())
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(foreign)
    }
}

/// A token given as its text or as an `AddedToken` object.
fn token_text(entry: &Value) -> Option<String> {
    entry.as_str().or_else(|| entry.get("content")?.as_str()).map(str::to_string)
}

/// Tokens that only `tokenizer_config.json` knows (`added_tokens_decoder`), where their ids come next.
fn add_missing(inner: &mut tokenizers::Tokenizer, config: &Map<String, Value>) {
    let Some(Value::Object(added)) = config.get("added_tokens_decoder") else { return };
    let mut missing: Vec<(u32, &Value)> = added.iter().filter_map(|(id, t)| Some((id.parse().ok()?, t))).collect();
    missing.sort_by_key(|(id, _)| *id);
    for (id, entry) in missing {
        let Some(content) = token_text(entry) else { continue };
        if inner.token_to_id(&content).is_some() || id as usize != inner.get_vocab_size(true) {
            continue;
        }
        let flag = |name: &str| entry.get(name).and_then(Value::as_bool).unwrap_or(false);
        let token = AddedToken::from(content, flag("special"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip"))
            .single_word(flag("single_word"))
            .normalized(flag("normalized"));
        if token.special {
            inner.add_special_tokens(&[token]);
        } else {
            inner.add_tokens(&[token]);
        }
    }
}

/// Turns ids into text as they come. A character whose bytes are not all there is held back.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    ids: Vec<u32>,
    /// Ids before `prefix` are done with; those in `prefix..read` are shown and give the next ones their context.
    prefix: usize,
    read: usize,
}

impl TextStream<'_> {
    /// The text that this id completes, often empty.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let shown = self.tokenizer.decode(&self.ids[self.prefix..self.read], self.skip_special)?;
        let now = self.tokenizer.decode(&self.ids[self.prefix..], self.skip_special)?;
        if now.len() <= shown.len() || now.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        let new = now.get(shown.len()..).unwrap_or_default().to_string();
        self.prefix = self.read;
        self.read = self.ids.len();
        if self.prefix > 256 {
            self.ids.drain(..self.prefix);
            self.read -= self.prefix;
            self.prefix = 0;
        }
        Ok(new)
    }

    /// What was held back, incomplete bytes as U+FFFD.
    pub fn finish(&mut self) -> Result<String> {
        let shown = self.tokenizer.decode(&self.ids[self.prefix..self.read], self.skip_special)?;
        let now = self.tokenizer.decode(&self.ids[self.prefix..], self.skip_special)?;
        self.ids.clear();
        (self.prefix, self.read) = (0, 0);
        Ok(now.get(shown.len()..).unwrap_or_default().to_string())
    }
}

/// Which of the special tokens play which part.
#[derive(Clone, Debug, Default)]
pub struct SpecialRoles {
    pub bos: Option<String>,
    pub eos: Option<String>,
    pub pad: Option<String>,
    /// Written to `tokenizer_config.json`.
    pub chat_template: Option<String>,
    /// The longest text the model reads, in tokens.
    pub max_length: Option<usize>,
}

/// Trains a byte-level BPE tokenizer: every byte has a token (so there is no unknown one), every digit is its own token,
/// `special_tokens` have the ids from 0 in their order. The same texts give the same tokenizer.
pub fn train_bpe<S: AsRef<str> + Send>(
    texts: impl Iterator<Item = S> + Send,
    vocab_size: usize,
    special_tokens: &[String],
    roles: &SpecialRoles,
) -> Result<Tokenizer> {
    let least = 256 + special_tokens.len();
    if vocab_size < least {
        return Err(Error::usage(format!(
            "a vocabulary of {vocab_size} is too small: bytes and special tokens are {least}"
        )));
    }
    for (name, token) in [("bos", &roles.bos), ("eos", &roles.eos), ("pad", &roles.pad)] {
        if let Some(token) = token.as_ref().filter(|t| !special_tokens.contains(t)) {
            return Err(Error::usage(format!("the {name} token `{token}` is not among the special tokens")));
        }
    }
    let mut inner = tokenizers::Tokenizer::new(BPE::default());
    let split =
        Split::new(SplitPattern::Regex(SPLIT.into()), SplitDelimiterBehavior::Isolated, false).map_err(foreign)?;
    let byte_level = ByteLevel::new(false, true, false);
    let steps: Vec<PreTokenizerWrapper> = vec![split.into(), byte_level.into()];
    inner.with_pre_tokenizer(Some(Sequence::new(steps)));
    inner.with_decoder(Some(byte_level));
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special_tokens.iter().map(|t| AddedToken::from(t.clone(), true).normalized(false)).collect())
        .build();
    inner.train(&mut TrainerWrapper::from(trainer), texts).map_err(foreign)?;
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    for (name, token) in [("bos_token", &roles.bos), ("eos_token", &roles.eos), ("pad_token", &roles.pad)] {
        if let Some(token) = token {
            config.insert(name.into(), json!(token));
        }
    }
    config.insert("additional_special_tokens".into(), json!(special_tokens));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    // transformers 4 would add token types, which a decoder refuses.
    config.insert("model_input_names".into(), json!(["input_ids", "attention_mask"]));
    if let Some(length) = roles.max_length {
        config.insert("model_max_length".into(), json!(length));
    }
    if let Some(template) = &roles.chat_template {
        config.insert("chat_template".into(), json!(template));
    }
    Tokenizer::from_parts(inner.to_string(false).map_err(foreign)?.as_bytes(), config)
}
