//! From an item to the tokens that a model is given: template or plain text, a system turn, examples before the question.
//!
//! With a template, examples are earlier turns of the conversation. Without one, prompts and answers stand one after the
//! other, a blank line between examples, and a space between prompt and answer where neither brings white space.

use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Body, Message, PromptOptions, Record, Renderer};
use serde_json::Value;

use crate::items::Item;

/// Examples put before each question. Which ones is drawn for each item on its own, never the item itself.
#[derive(Clone, Debug)]
pub struct Shots {
    pub n: usize,
    pub pool: Vec<Item>,
    pub seed: u64,
}

/// How items are asked.
#[derive(Clone, Debug)]
pub struct Asker {
    pub renderer: Renderer,
    /// Takes the place of the items' own system turns.
    pub system: Option<String>,
    pub shots: Option<Shots>,
}

/// What the model reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub text: String,
    pub ids: Vec<u32>,
}

/// What stands between examples without a template.
pub const BETWEEN: &str = "\n\n";

/// A space where neither side brings white space.
pub(crate) fn gap(before: &str, after: &str) -> &'static str {
    if before.is_empty() || before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace) {
        ""
    } else {
        " "
    }
}

impl Asker {
    pub fn new(renderer: Renderer) -> Self {
        Self { renderer, system: None, shots: None }
    }

    /// The prompt of item `index`.
    pub fn prompt(&self, index: usize, item: &Item) -> Result<Prompt> {
        let (turns, _) = item.question()?;
        let shots = self.shots_of(index, item)?;
        if self.is_plain(&item.record) {
            return self.plain(&turns, &shots);
        }
        let mut all: Vec<Message> = Vec::new();
        match &self.system {
            Some(system) => all.push(Message::new("system", system.as_str())),
            None => all.extend(turns.iter().take_while(|t| t.role == "system").cloned()),
        }
        for (before, reference) in shots {
            all.extend(before.into_iter().filter(|t| t.role != "system"));
            all.push(reference);
        }
        all.extend(turns.into_iter().filter(|t| t.role != "system"));
        self.conversation(&all, item.record.tools.as_ref())
    }

    /// The prompt of a conversation as it stands.
    pub fn conversation(&self, turns: &[Message], tools: Option<&Value>) -> Result<Prompt> {
        let text = self.renderer.prompt_text(turns, tools, &PromptOptions::default())?;
        Ok(Prompt { ids: self.renderer.tokenizer().encode(&text)?, text })
    }

    /// Whether a record is written as plain text, without roles.
    pub(crate) fn is_plain(&self, record: &Record) -> bool {
        !self.renderer.has_template() && matches!(record.body, Body::PromptCompletion { .. })
    }

    /// The record with the asker's system turn.
    pub(crate) fn with_system(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if let (Some(system), false) = (&self.system, matches!(record.body, Body::Text(_)))
            && let Some(mut turns) = record.messages()
        {
            turns.retain(|t| t.role != "system");
            if self.is_plain(&record) {
                if let Body::PromptCompletion { prompt, .. } = &mut record.body {
                    *prompt = format!("{system}{BETWEEN}{prompt}");
                }
            } else {
                turns.insert(0, Message::new("system", system.as_str()));
                record.body = Body::Messages(turns);
            }
        }
        record
    }

    fn plain(&self, turns: &[Message], shots: &[(Vec<Message>, Message)]) -> Result<Prompt> {
        let mut text = self.system.as_ref().map_or(String::new(), |s| format!("{s}{BETWEEN}"));
        let content = |turns: &[Message]| turns.last().map(|t| t.content.clone()).unwrap_or_default();
        for (before, reference) in shots {
            let asked = content(before);
            let answer = reference.content.trim_end();
            text += &format!("{asked}{}{answer}{BETWEEN}", gap(&asked, answer));
        }
        text += &content(turns);
        // The renderer begins documents as the tokenizer asks.
        let record = Record::from_body(Body::PromptCompletion { prompt: text.clone(), completion: String::new() });
        let ids = self.renderer.record_prompt_ids(&record, &PromptOptions::default())?;
        Ok(Prompt { text, ids })
    }

    fn shots_of(&self, index: usize, item: &Item) -> Result<Vec<(Vec<Message>, Message)>> {
        let Some(shots) = self.shots.as_ref().filter(|s| s.n > 0) else { return Ok(vec![]) };
        let own = item.asked();
        let mut stream = Stream::new(shots.seed, &["eval", "few-shot"]).nth(index as u64);
        let order = stream.sample(shots.pool.len(), shots.pool.len());
        let others = order.into_iter().map(|i| &shots.pool[i]).filter(|o| o.id != item.id && o.asked() != own);
        let chosen: Vec<&Item> = others.take(shots.n).collect();
        if chosen.len() < shots.n {
            return Err(Error::usage(format!(
                "{} examples are asked for before each question, and there are {} besides the item itself",
                shots.n,
                chosen.len()
            ))
            .at(&item.id)
            .help("give more with --few-shot-file, or ask for fewer"));
        }
        chosen.into_iter().map(Item::question).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::{model, pairs};

    #[test]
    fn examples_are_drawn_by_the_seed_and_never_the_item_itself() {
        let items = pairs(6);
        for renderer in [model().renderer.clone(), model().renderer.without_template().unwrap()] {
            let with =
                |seed| Asker { shots: Some(Shots { n: 3, pool: items.clone(), seed }), ..Asker::new(renderer.clone()) };
            let mut differ = false;
            for (i, item) in items.iter().enumerate() {
                let prompt = with(1).prompt(i, item).unwrap();
                assert_eq!(prompt, with(1).prompt(i, item).unwrap());
                differ |= prompt != with(2).prompt(i, item).unwrap();
                assert_eq!(prompt.text.matches(&item.asked()).count(), 1);
                assert_eq!(prompt.text.matches("+1?").count(), 4);
                assert!(!prompt.text.contains(&format!("= {}.", i + 1)), "its own answer: {}", prompt.text);
            }
            assert!(differ);
            let all = Asker { shots: Some(Shots { n: 6, pool: items.clone(), seed: 0 }), ..with(0) };
            assert_eq!(all.prompt(0, &items[0]).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn the_system_turn_goes_through_the_same_template() {
        let asker = Asker { system: Some("Be brief.".into()), ..Asker::new(model().renderer.clone()) };
        let item = &pairs(1)[0];
        let prompt = asker.prompt(0, item).unwrap();
        assert!(prompt.text.contains("system\nBe brief."), "{}", prompt.text);
        let turns = [Message::new("system", "Be brief."), Message::new("user", item.asked())];
        assert_eq!(prompt.ids, asker.renderer.prompt_ids(&turns, None, &PromptOptions::default()).unwrap());
    }
}
