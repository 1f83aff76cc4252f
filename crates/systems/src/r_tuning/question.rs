//! Questions as every stage of the system reads, writes and judges them.

use postgrad_audit::items;
use postgrad_audit::{Asker, Choices, Item as Asked, choice};
use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result};
use postgrad_data::record::Layout;
use postgrad_data::{Body, Message, PromptOptions, Record};
use postgrad_lab::stage::{Cx, Input};
use postgrad_nn::logits::Rules;
use postgrad_reason::generate::answers;
use postgrad_reason::{Answer, ModelFolder, Options};
use postgrad_tasks::answers::{contains, normal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Whether questions are plain text, as in the paper, or turns of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One text through no template, for base models.
    #[default]
    Text,
    /// Question, answer, "are you sure" and verdict as four turns, for models with a chat template.
    Chat,
}

/// A question with its right answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// The column `id`, else the place in the file.
    pub id: String,
    /// The last user turn.
    pub asked: String,
    pub answer: String,
    /// The question with its options, a line each.
    pub text: String,
    /// What an answer must hold; of a choice: the letter.
    pub gold: String,
    pub choices: Option<Choices>,
    /// Nothing is right: a question that can only be refused.
    pub unanswerable: bool,
    pub columns: Map<String, Value>,
}

impl Question {
    /// Questions of a data set: `question` + `answer`, `prompt` + `completion`, messages, or rows with `choices`.
    pub fn read(input: &Input, cx: &Cx) -> Result<Vec<Self>> {
        let paths: Vec<String> = cx.data(input)?.sources.into_iter().map(|s| s.path).collect();
        items::read(&paths, &Layout::default(), None)?
            .into_iter()
            .enumerate()
            .map(|(i, item)| Self::of(i, item))
            .collect()
    }

    pub(super) fn of(index: usize, item: Asked) -> Result<Self> {
        let (_, reference) = item.question()?;
        let columns = item.record.columns.clone();
        let id = columns.get("id").and_then(Value::as_str).map_or_else(|| index.to_string(), String::from);
        let unanswerable =
            columns.get("unanswerable").is_some_and(|v| v.as_bool() == Some(true) || v.as_u64() == Some(1));
        let (asked, answer) = (item.asked(), reference.content);
        let mut text = asked.clone();
        let mut gold = answer.trim().trim_end_matches('.').to_string();
        if let Some(choices) = &item.choices {
            for (i, choice) in choices.texts.iter().enumerate() {
                text += &format!("\n{}. {choice}", letter(i));
            }
            gold = letter(choices.right).to_string();
        }
        if !unanswerable && normal(&gold).is_empty() {
            return Err(
                Error::work("the right answer is empty, and every answer would contain it").at(&item.record.place)
            );
        }
        Ok(Self { id, asked, answer, text, gold, choices: item.choices, unanswerable, columns })
    }

    /// The question as a row that can be read again, its other columns after.
    pub fn row(&self) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("question".into(), self.asked.as_str().into());
        if let Some(choices) = &self.choices {
            row.insert("choices".into(), choices.texts.clone().into());
        }
        row.insert("answer".into(), self.answer.as_str().into());
        row.extend(self.columns.clone());
        row
    }

    /// Whether an answer is right: it holds the gold answer as whole words; of a choice it is the letter.
    pub fn right(&self, said: &str) -> bool {
        !self.unanswerable && if self.choices.is_some() { said == self.gold } else { contains(said, &self.gold) }
    }
}

/// `A`, `B`, …
pub fn letter(i: usize) -> char {
    char::from(b'A' + (i % 26) as u8)
}

/// A template with `{question}` filled in.
pub fn fill(template: &str, question: &str) -> String {
    template.replace("{question}", question)
}

/// What is missing from a template.
pub fn check_template(template: &str) -> Result<()> {
    match template.contains("{question}") {
        true => Ok(()),
        false => {
            Err(Error::usage(format!("the prompt `{template}` has no place for the question")).help("write {question}"))
        }
    }
}

/// An answer with what the model made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Up to the first stop, of a choice the letter.
    pub text: String,
    /// (product of the tokens' probabilities)^(1/tokens); greedy: of the largest probabilities.
    pub confidence: f64,
    pub tokens: usize,
}

/// How questions are put.
pub struct Way<'a> {
    pub form: Form,
    pub template: &'a str,
    /// Before every question, in the same template.
    pub header: String,
    pub max_tokens: usize,
    pub stop: &'a [String],
}

impl Way<'_> {
    /// The prompt's text (`Text`) and its tokens.
    fn ids(&self, model: &ModelFolder, question: &Question) -> Result<Vec<u32>> {
        let text = format!("{}{}", self.header, fill(self.template, &question.text));
        match self.form {
            Form::Text => plain_ids(model, &text),
            Form::Chat => model.renderer.prompt_ids(
                &[Message::new("user", question.text.as_str())],
                None,
                &PromptOptions::default(),
            ),
        }
    }

    /// Greedy answers, or samples at a temperature; the number of answers a question is `n`, in the order of questions.
    pub fn ask(
        &self,
        model: &ModelFolder,
        questions: &[Question],
        temperature: f32,
        n: usize,
        seed: u64,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Said>>> {
        let mut said: Vec<Vec<Said>> = vec![vec![]; questions.len()];
        let open: Vec<usize> = (0..questions.len()).filter(|i| questions[*i].choices.is_none()).collect();
        let prompts = open.iter().map(|i| self.ids(model, &questions[*i])).collect::<Result<Vec<_>>>()?;
        let rules = if temperature == 0.0 { Rules::greedy() } else { Rules { temperature, ..Rules::default() } };
        let options = Options { rules, n, stop: self.stop.to_vec(), seed, ..Options::greedy(self.max_tokens) };
        for answer in answers(model, &prompts, &options, cancel)? {
            said[open[answer.prompt]].push(spoken(answer));
        }
        for (i, letters) in self.letters(model, questions, cancel)? {
            // Samples of one token are drawn from the letters' probabilities at the temperature.
            let mut stream = postgrad_base::Stream::new(seed, &["sample", "letters"]).nth(i as u64);
            let best = letters.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for _ in 0..n {
                let at = match temperature {
                    0.0 => letters.iter().position(|l| *l == best).unwrap_or(0),
                    t => {
                        stream.weighted(&letters.iter().map(|l| ((l - best) / f64::from(t)).exp()).collect::<Vec<_>>())
                    }
                };
                said[i].push(Said { text: letter(at).to_string(), confidence: letters[at].exp(), tokens: 1 });
            }
        }
        Ok(said)
    }

    /// Log-probs of the option letters, for the questions that have options.
    fn letters(&self, model: &ModelFolder, questions: &[Question], cancel: &Cancel) -> Result<Vec<(usize, Vec<f64>)>> {
        let mut items = Vec::new();
        let mut of = Vec::new();
        for (i, question) in questions.iter().enumerate() {
            let Some(choices) = &question.choices else { continue };
            let body = match self.form {
                Form::Text => Body::PromptCompletion {
                    prompt: format!("{}{}", self.header, fill(self.template, &question.text)),
                    completion: String::new(),
                },
                Form::Chat => {
                    Body::Messages(vec![Message::new("user", question.text.as_str()), Message::new("assistant", "")])
                }
            };
            let texts = (0..choices.texts.len()).map(|c| letter(c).to_string()).collect();
            items.push(asked(&question.id, body, texts));
            of.push(i);
        }
        let scored = scored(model, self.form, &items, cancel)?;
        Ok(of.into_iter().zip(scored).map(|(i, s)| (i, s.iter().map(|s| s.log_prob).collect())).collect())
    }
}

fn spoken(answer: Answer) -> Said {
    let log_probs = &answer.completion.model;
    let tokens = log_probs.len();
    let mean = log_probs.iter().map(|l| f64::from(*l)).sum::<f64>() / tokens.max(1) as f64;
    Said { text: answer.text.trim().to_string(), confidence: if tokens == 0 { 0.0 } else { mean.exp() }, tokens }
}

/// Tokens of a text without a template, begun as the tokenizer begins documents.
fn plain_ids(model: &ModelFolder, text: &str) -> Result<Vec<u32>> {
    let body = Body::PromptCompletion { prompt: text.into(), completion: String::new() };
    model.renderer.without_template()?.record_prompt_ids(&Record::from_body(body), &PromptOptions::default())
}

/// Something to be continued by each of several texts.
pub fn asked(id: &str, body: Body, texts: Vec<String>) -> Asked {
    let mut item = Asked::of_record(Record::from_body(body));
    item.id = id.into();
    item.choices = Some(Choices { texts, right: 0 });
    item
}

/// Log-probs of the whole continuations.
pub fn scored(model: &ModelFolder, form: Form, items: &[Asked], cancel: &Cancel) -> Result<Vec<Vec<choice::Scored>>> {
    let renderer = match form {
        Form::Text => model.renderer.without_template()?,
        Form::Chat => model.renderer.clone(),
    };
    let rows = choice::run(model, &Asker::new(renderer), items, 4096, cancel, |_, _| ())?;
    rows.into_iter()
        .map(|row| match row.choices.is_empty() {
            true => Err(Error::work("the question is longer than the model's context").at(row.id)),
            false => Ok(row.choices),
        })
        .collect()
}

/// Columns of a question that its rows keep: numbers, switches and short texts.
pub fn kept(columns: &Map<String, Value>) -> Map<String, Value> {
    let plain = |v: &Value| match v {
        Value::Number(_) => Some(v.clone()),
        Value::Bool(b) => Some(u8::from(*b).into()),
        Value::String(s) if s.len() <= 64 => Some(v.clone()),
        _ => None,
    };
    columns.iter().filter(|(k, _)| *k != "id").filter_map(|(k, v)| Some((k.clone(), plain(v)?))).collect()
}
