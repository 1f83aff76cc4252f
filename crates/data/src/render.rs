//! Records to tokens with loss weights, and prompts to tokens: the one path for tuning, chatting and evaluating.
//!
//! What is trained in a conversation is what the model itself has to write: every assistant turn with the token that ends
//! it. Where the template marks that (`{% generation %}`), its marks are used, widened by the end token if they stop short
//! of it. Else a turn is found by rendering the conversation up to it, with the opening of an assistant turn, and then
//! with it: what the second has beyond the first is the turn.
//!
//! Some templates rewrite the past (they drop the thoughts of earlier turns). A turn trained inside such a conversation
//! would be trained on text that the model never has to write. So turns share an example only as long as each rendering
//! continues the one before; where it does not, a new example begins, and the number of these is reported.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use postgrad_base::{Error, Result};
use serde_json::{Map, Value, json};

use crate::example::Example;
use crate::record::{Body, Message, Record};
use crate::template::{ChatTemplate, RenderedText, TemplateOptions, Thoughts};
use crate::tokenizer::Tokenizer;

/// How a prompt is asked for.
#[derive(Clone, Debug, Default)]
pub struct PromptOptions {
    /// Leave the last turn open instead of opening an assistant turn.
    pub no_generation_prompt: bool,
    pub enable_thinking: Option<bool>,
    /// More variables for the template.
    pub extra: Map<String, Value>,
}

impl PromptOptions {
    fn template(&self) -> TemplateOptions {
        TemplateOptions {
            add_generation_prompt: !self.no_generation_prompt,
            enable_thinking: self.enable_thinking,
            extra: self.extra.clone(),
        }
    }
}

/// A record's examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    pub examples: Vec<Example>,
    /// Examples beyond the first, made because the template rewrites the past.
    pub split: usize,
    /// The template ends the turn with no special token; the tokenizer's end token was added.
    pub end_added: bool,
}

/// A model's tokenizer and template.
#[derive(Debug, Clone)]
pub struct Renderer {
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    /// Prompts and completions go through the template.
    chat: bool,
}

/// An assistant turn as the template writes it at the end of the conversation so far.
struct Turn {
    /// The conversation up to and with the turn.
    text: String,
    /// What the model writes of `text`.
    trained: Vec<Range<usize>>,
    train: bool,
}

impl Renderer {
    /// Without a template, messages are written as plain text ([`ChatTemplate::plain`]) and prompts with completions as
    /// they are.
    pub fn new(tokenizer: Arc<Tokenizer>, template: Option<ChatTemplate>) -> Result<Self> {
        let chat = template.is_some();
        let template = Arc::new(template.map_or_else(|| ChatTemplate::plain(&tokenizer), Ok)?);
        Ok(Self { tokenizer, template, chat })
    }

    /// The tokenizer and template of a model folder.
    pub fn load(dir: &Path) -> Result<Self> {
        let tokenizer = Arc::new(Tokenizer::load(dir)?);
        let template = ChatTemplate::load(dir, &tokenizer)?;
        Self::new(tokenizer, template)
    }

    /// The same model as if it had no template (`--template off`).
    pub fn without_template(&self) -> Result<Self> {
        Self::new(self.tokenizer.clone(), None)
    }

    /// The same template over a tokenizer that grew.
    pub fn with_tokenizer(&self, tokenizer: Tokenizer) -> Self {
        Self { tokenizer: Arc::new(tokenizer), ..self.clone() }
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The model has a template of its own.
    pub fn has_template(&self) -> bool {
        self.chat
    }

    /// One line on how conversations are written, for the head of a report.
    pub fn says(&self) -> &'static str {
        match (self.chat, self.template.marks_generation()) {
            (false, _) => {
                "the model has no chat template: messages are written as plain text (User: …, Assistant: …), prompts and completions as they are"
            }
            (true, true) => "chat template; its generation tags say what is trained",
            (true, false) => {
                "chat template without generation tags; what is trained is found by rendering with and without each turn"
            }
        }
    }

    /// The text of a prompt.
    pub fn prompt_text(&self, messages: &[Message], tools: Option<&Value>, options: &PromptOptions) -> Result<String> {
        Ok(self.render(&self.for_template(messages), tools, &options.template())?.text)
    }

    /// The tokens of a prompt, ready to be continued by the model.
    pub fn prompt_ids(&self, messages: &[Message], tools: Option<&Value>, options: &PromptOptions) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.prompt_text(messages, tools, options)?)
    }

    /// A record's prompt: all before its last assistant turn, its completion or (for a text) everything.
    pub fn record_prompt_ids(&self, record: &Record, options: &PromptOptions) -> Result<Vec<u32>> {
        match &record.body {
            Body::Text(text) => self.open_document(text),
            Body::PromptCompletion { prompt, .. } if !self.chat => self.open_document(prompt),
            _ => {
                let mut turns = record.messages().unwrap_or_default();
                if let Some(last) = turns.iter().rposition(|t| t.role == "assistant") {
                    turns.truncate(last);
                }
                self.prompt_ids(&turns, record.tools.as_ref(), options)
            }
        }
    }

    /// A text's ids with the bos token where the tokenizer begins documents with one, and no end token.
    fn open_document(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text)?;
        if let Some(bos) = self.tokenizer.bos().filter(|b| self.tokenizer.adds_bos() && ids.first() != Some(b)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// A record's examples.
    pub fn examples(&self, record: &Record) -> Result<Rendered> {
        let mut rendered = match &record.body {
            Body::Text(text) => self.whole(self.open_document(text)?, 0),
            Body::PromptCompletion { prompt, completion } if !self.chat => self.completion(prompt, completion)?,
            _ => self.conversation(&record.messages().unwrap_or_default(), record.tools.as_ref())?,
        };
        let adapter_scale = match record.columns.get("adapter_scale") {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_f64().map(|x| x as f32).filter(|x| x.is_finite()).ok_or_else(|| {
                Error::work(format!("`adapter_scale` is {value}, not a finite number")).at(&record.place)
            })?),
        };
        for example in &mut rendered.examples {
            example.adapter_scale = adapter_scale;
            example.weight = record.weight;
            example.place = record.place.clone();
            example.group = record.id;
            if let Some(first) = example.weights.first_mut() {
                *first = 0.0;
            }
        }
        Ok(rendered)
    }

    /// One example, trained from `from` on and ended.
    fn whole(&self, mut tokens: Vec<u32>, from: usize) -> Rendered {
        if let Some(eos) = self.tokenizer.eos().filter(|e| tokens.last() != Some(e)) {
            tokens.push(eos);
        }
        let weights = (0..tokens.len()).map(|i| if i < from { 0.0 } else { 1.0 }).collect();
        Rendered {
            examples: vec![Example { tokens, weights, weight: 1.0, ..Example::default() }],
            ..Rendered::default()
        }
    }

    fn completion(&self, prompt: &str, completion: &str) -> Result<Rendered> {
        // The model will be given the prompt's tokens alone. So the joint tokens are taken only if they begin with those.
        let alone = self.open_document(prompt)?;
        let mut joint = self.open_document(&format!("{prompt}{completion}"))?;
        if !joint.starts_with(&alone) {
            joint = [alone.clone(), self.tokenizer.encode(completion)?].concat();
        }
        Ok(self.whole(joint, alone.len()))
    }

    fn render(&self, messages: &[Value], tools: Option<&Value>, options: &TemplateOptions) -> Result<RenderedText> {
        let error = match self.template.render(messages, tools, options) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // Most templates want a call's arguments as an object; some join them to a text.
        let mut texts = messages.to_vec();
        let changed = texts.iter_mut().map(arguments_as_text).fold(false, |a, b| a | b);
        if !changed {
            return Err(error);
        }
        self.template.render(&texts, tools, options).map_err(|_| error)
    }

    /// Messages as the template wants them: thoughts where it reads them, arguments of calls as objects.
    fn for_template(&self, messages: &[Message]) -> Vec<Value> {
        let thoughts = self.template.thoughts();
        let one = |m: &Message| {
            let mut out = Map::new();
            out.insert("role".into(), json!(m.role));
            let mut content = m.content.clone();
            if let Some(thought) = &m.reasoning_content {
                match thoughts {
                    Thoughts::ReasoningContent => _ = out.insert("reasoning_content".into(), json!(thought)),
                    Thoughts::Thinking => _ = out.insert("thinking".into(), json!(thought)),
                    Thoughts::InContent => {
                        content = format!("<think>\n{}\n</think>\n\n{content}", thought.trim_matches('\n'));
                    }
                }
            }
            out.insert("content".into(), json!(content));
            if let Some(calls) = &m.tool_calls {
                out.insert("tool_calls".into(), arguments_as_objects(calls.clone()));
            }
            out.extend(m.other.clone());
            Value::Object(out)
        };
        messages.iter().map(one).collect()
    }

    fn conversation(&self, messages: &[Message], tools: Option<&Value>) -> Result<Rendered> {
        let values = self.for_template(messages);
        let mut rendered = Rendered::default();
        let mut chain: Vec<Turn> = Vec::new();
        for (i, message) in messages.iter().enumerate().filter(|(_, m)| m.role == "assistant") {
            let turn = self.turn(&values, i, tools, message.trained())?;
            if chain.last().is_some_and(|before| !turn.text.starts_with(&before.text)) {
                self.close(std::mem::take(&mut chain), &mut rendered)?;
            }
            chain.push(turn);
        }
        self.close(chain, &mut rendered)?;
        rendered.split = rendered.examples.len().saturating_sub(1);
        Ok(rendered)
    }

    fn turn(&self, values: &[Value], i: usize, tools: Option<&Value>, train: bool) -> Result<Turn> {
        let closed = TemplateOptions::default();
        let open = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
        let with = self.render(&values[..=i], tools, &closed)?;
        if self.template.marks_generation() {
            // Marks of earlier turns belong to those; only what comes after the conversation without this turn is its own.
            let begins = self.render(&values[..i], tools, &closed).map_or(0, |r| common(&r.text, &with.text));
            let trained = with.generated.into_iter().filter(|s| s.end > begins).collect();
            return Ok(Turn { text: with.text, trained, train });
        }
        let begins = match self.render(&values[..i], tools, &open) {
            Ok(before) => common(&before.text, &with.text),
            // Templates may refuse a conversation that is not yet one (none, a system turn alone). Then the turn begins
            // where two renderings with different contents part.
            Err(error) => {
                let mut other = values[..=i].to_vec();
                let content = other[i]["content"].as_str().unwrap_or_default();
                other[i]["content"] = json!(if content.starts_with('#') { "=" } else { "#" });
                let other = self.render(&other, tools, &closed).map_err(|_| error)?;
                common(&other.text, &with.text)
            }
        };
        Ok(Turn { trained: std::iter::once(begins..with.text.len()).collect(), text: with.text, train })
    }

    /// Makes one example of turns of which each rendering continues the one before.
    fn close(&self, chain: Vec<Turn>, rendered: &mut Rendered) -> Result<()> {
        let Some(last) = chain.last() else { return Ok(()) };
        if !chain.iter().any(|t| t.train) {
            return Ok(());
        }
        let (mut tokens, spans) = self.tokenizer.encode_spans(&last.text)?;
        let mut weights = vec![0.0; tokens.len()];
        let mut ended = false;
        for turn in &chain {
            ended = false;
            // The turn's tokens end where its rendering ends, whatever comes after in the conversation.
            let inside = |i: &usize| spans[*i].start < turn.text.len();
            let in_span = |i: &usize| turn.trained.iter().any(|s| spans[*i].start < s.end && s.start < spans[*i].end);
            let mut chosen: Vec<usize> = (0..tokens.len()).filter(inside).filter(in_span).collect();
            let Some(&final_one) = chosen.last() else { continue };
            let is_special = |i: usize| self.tokenizer.is_special(tokens[i]);
            let end = turn.text.len();
            let blank_after =
                |i: usize| spans[i].end >= end || last.text.get(spans[i].end..end).is_some_and(|t| t.trim().is_empty());
            if let Some(k) = chosen.iter().rposition(|i| is_special(*i) && blank_after(*i)) {
                // White space after the end token is the template's, not the model's.
                chosen.truncate(k + 1);
                ended = true;
            } else if final_one + 1 < tokens.len() && inside(&(final_one + 1)) && is_special(final_one + 1) {
                chosen.push(final_one + 1);
                ended = true;
            }
            if turn.train {
                chosen.into_iter().for_each(|i| weights[i] = 1.0);
            }
        }
        if let Some(eos) = self.tokenizer.eos().filter(|_| !ended && last.train) {
            tokens.push(eos);
            weights.push(1.0);
            rendered.end_added = true;
        }
        rendered.examples.push(Example { tokens, weights, weight: 1.0, ..Example::default() });
        Ok(())
    }
}

/// Bytes that two texts share from the start, whole characters.
fn common(a: &str, b: &str) -> usize {
    let mut n = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    while !b.is_char_boundary(n) {
        n -= 1;
    }
    n
}

fn each_arguments(calls: &mut Value, change: impl Fn(&mut Value) -> bool) -> bool {
    let mut changed = false;
    for call in calls.as_array_mut().into_iter().flatten() {
        let function = if call.get("function").is_some() { &mut call["function"] } else { call };
        if let Some(arguments) = function.get_mut("arguments") {
            changed |= change(arguments);
        }
    }
    changed
}

fn arguments_as_objects(mut calls: Value) -> Value {
    each_arguments(&mut calls, |arguments| {
        match arguments.as_str().and_then(|s| serde_json::from_str::<Value>(s).ok()).filter(Value::is_object) {
            Some(object) => {
                *arguments = object;
                true
            }
            None => false,
        }
    });
    calls
}

fn arguments_as_text(message: &mut Value) -> bool {
    let Some(calls) = message.get_mut("tool_calls") else { return false };
    each_arguments(calls, |arguments| {
        let is_object = arguments.is_object();
        if is_object {
            *arguments = json!(arguments.to_string());
        }
        is_object
    })
}

/// The error of a record that has nothing to train on.
pub(crate) fn nothing_trained() -> Error {
    Error::work("the record has nothing to train on")
        .help("a conversation needs an assistant turn, a completion must not be empty")
}
