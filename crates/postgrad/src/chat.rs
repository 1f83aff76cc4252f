//! `chat`: a conversation with a model, line by line.
//!
//! Left out on purpose: line editing (run it under `rlwrap` for that), saving conversations.

use std::io::BufRead;
use std::path::PathBuf;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Context, Error, Result};
use postgrad_data::{Message, PromptOptions};
use postgrad_reason::ModelFolder;
use postgrad_reason::generate::{Options, stop_name};

use crate::frame::{App, Out, note};
use crate::generate::on_terminal;
use crate::model::resolve_model;
use crate::sampling::{SamplingArgs, check, says, stream};

/// Talk with a model, or compare two
///
/// A line is a message. /system TEXT sets the system turn and begins anew, /reset begins anew, /regen answers again, /set
/// temperature=0.7 changes how tokens are drawn, /help lists these, /quit ends.
#[derive(clap::Args)]
pub struct Args {
    /// A built-in model (seed-1m, seed-3m), a model folder, an adapter folder or a run
    #[arg(long, short, required_unless_present = "compare")]
    model: Option<String>,
    /// An adapter folder beside the model
    #[arg(long, value_name = "DIR", requires = "model")]
    adapter: Option<PathBuf>,
    /// Two models that answer the same messages, one under the other
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "model")]
    compare: Vec<String>,
    /// The system turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

const HELP: &str = "/system TEXT  set the system turn and begin anew (without TEXT: none)
/reset        begin anew
/regen        answer the last message again
/set K=V      temperature, top_k, top_p, min_p, repetition_penalty, max_tokens, seed (without K=V: show)
/quit         end";

/// One model with its side of the conversation.
struct Side {
    model: ModelFolder,
    options: Options,
    turns: Vec<Message>,
    /// Answers so far: each draws from a stream of its own.
    answers: u64,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    args.sampling.check()?;
    if app.json {
        return Err(Error::usage("chat is for reading along, and has no --json")
            .help("`postgrad generate --json` answers prompts as JSON lines"));
    }
    let specs: Vec<&String> = args.model.iter().chain(&args.compare).collect();
    let mut sides = Vec::with_capacity(specs.len());
    for spec in specs {
        let mut model = resolve_model(spec, args.adapter.as_deref())?;
        args.sampling.scale(&mut model)?;
        model.warnings.iter().for_each(|w| note(&format!("note: {w}")));
        let options = args.sampling.over(Options::of(&model))?;
        if !model.renderer.has_template() {
            note(&format!("note: {spec}: {}", model.renderer.says()));
        }
        note(&format!("{spec}: {}", says(&options)));
        sides.push(Side { model, options, turns: vec![], answers: 0 });
    }
    note("/help lists commands");
    let mut chat = Chat { sides, system: args.system.clone(), out: Out::new() };
    chat.reset();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        chat.ask_for_line()?;
        let Some(line) = lines.next() else { break };
        let line = line.context(|| "cannot read standard input".into())?;
        app.cancel.check()?;
        match chat.line(line.trim(), &app.cancel) {
            Ok(true) => {}
            Ok(false) => break,
            // A wrong command or a message too long does not end the conversation.
            Err(e) if e.exit_code() == 2 => note(&format!("error: {e}")),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

struct Chat {
    sides: Vec<Side>,
    system: Option<String>,
    out: Out,
}

impl Chat {
    fn ask_for_line(&mut self) -> Result<()> {
        if on_terminal() {
            self.out.text("> ")?;
        }
        self.out.flush()
    }

    fn reset(&mut self) {
        let system = self.system.as_ref().map(|s| Message::new("system", s.as_str()));
        self.sides.iter_mut().for_each(|s| s.turns = system.iter().cloned().collect());
    }

    /// Does what a line says; false ends the conversation.
    fn line(&mut self, line: &str, cancel: &Cancel) -> Result<bool> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "" => {}
            "/quit" | "/exit" => return Ok(false),
            "/help" => self.out.text(&format!("{HELP}\n"))?,
            "/reset" => {
                self.reset();
                note("begun anew");
            }
            "/system" => {
                self.system = (!rest.is_empty()).then(|| rest.to_string());
                self.reset();
                note(if rest.is_empty() { "no system turn; begun anew" } else { "system turn set; begun anew" });
            }
            "/regen" => {
                if self.sides.iter().any(|s| s.turns.last().is_none_or(|t| t.role != "assistant")) {
                    return Err(Error::usage("there is no answer to give again"));
                }
                self.sides.iter_mut().for_each(|s| _ = s.turns.pop());
                self.answer(cancel)?;
            }
            "/set" => self.set(rest)?,
            _ if line.starts_with('/') => {
                let known = ["/system", "/reset", "/regen", "/set", "/help", "/quit"];
                let near = postgrad_tasks::task::nearest(word, &known);
                return Err(Error::unknown("command", word, &known, near));
            }
            _ => {
                self.sides.iter_mut().for_each(|s| s.turns.push(Message::new("user", line)));
                self.answer(cancel)?;
            }
        }
        Ok(true)
    }

    fn answer(&mut self, cancel: &Cancel) -> Result<()> {
        let several = self.sides.len() > 1;
        let mut fault = None;
        for side in &mut self.sides {
            if several {
                self.out.text(&format!("[{}]\n", side.model.name))?;
            }
            match side.answer(&mut self.out, cancel) {
                Ok(()) => {}
                Err(e) if e.exit_code() == 2 => fault = fault.or(Some(e)),
                Err(e) => return Err(e),
            }
        }
        if let Some(e) = fault {
            // The sides stay in step: the message that one could not take is taken back from all.
            for side in &mut self.sides {
                if side.turns.last().is_some_and(|t| t.role == "assistant") {
                    side.turns.pop();
                }
                if side.turns.last().is_some_and(|t| t.role == "user") {
                    side.turns.pop();
                }
            }
            return Err(e);
        }
        Ok(())
    }

    fn set(&mut self, pair: &str) -> Result<()> {
        if pair.is_empty() {
            return self.sides.iter().try_for_each(|s| self.out.text(&format!("{}\n", says(&s.options))));
        }
        let changed: Vec<Options> = self.sides.iter().map(|s| changed(&s.options, pair)).collect::<Result<Vec<_>>>()?;
        self.sides.iter_mut().zip(changed).for_each(|(s, o)| s.options = o);
        self.out.text(&format!("{}\n", says(&self.sides[0].options)))
    }
}

/// The options with `key=value` set.
fn changed(options: &Options, pair: &str) -> Result<Options> {
    let (key, value) = pair.split_once('=').or_else(|| pair.split_once(' ')).ok_or_else(|| {
        Error::usage(format!("`{pair}` is not of the form key=value")).help("for example /set top_p=0.9")
    })?;
    let key = key.trim().replace('-', "_");
    let value = value.trim();
    let wrong = || Error::usage(format!("`{value}` is no value of {key}"));
    let float = || value.parse::<f32>().map_err(|_| wrong());
    let whole = || value.parse::<usize>().map_err(|_| wrong());
    let mut o = options.clone();
    match key.as_str() {
        "temperature" => o.rules.temperature = float()?,
        "top_k" => o.rules.top_k = whole()?,
        "top_p" => o.rules.top_p = float()?,
        "min_p" => o.rules.min_p = float()?,
        "repetition_penalty" => o.rules.repetition_penalty = float()?,
        "max_tokens" => o.max_tokens = whole()?,
        "seed" => o.seed = value.parse().map_err(|_| wrong())?,
        _ => {
            let known = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_tokens", "seed"];
            return Err(Error::unknown("setting", &key, &known, postgrad_tasks::task::nearest(&key, &known)));
        }
    }
    check(&o)?;
    Ok(o)
}

impl Side {
    /// The conversation's tokens, its oldest turns dropped until an answer has room.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let context = self.model.decoder.config.max_position_embeddings;
        // A short context is shared between conversation and answer.
        let room = self.options.max_tokens.min(context / 2);
        let mut dropped = 0;
        loop {
            let ids = self.model.renderer.prompt_ids(&self.turns, None, &PromptOptions::default())?;
            if ids.len() + room <= context {
                if dropped > 0 {
                    note(&format!("[the context of {context} tokens is full: the {dropped} oldest turns are dropped]"));
                }
                return Ok(ids);
            }
            let first = self.turns.iter().take_while(|t| t.role == "system").count();
            // A question goes with its answer; the last message stays.
            let end = self.turns[first..].iter().skip(1).position(|t| t.role == "user").map(|i| first + 1 + i);
            let Some(end) = end else {
                if ids.len() < context {
                    return Ok(ids);
                }
                return Err(Error::usage(format!(
                    "the message is {} tokens long with its system turn, the context {context}",
                    ids.len()
                ))
                .help("give a shorter message"));
            };
            dropped += end - first;
            self.turns.drain(first..end);
        }
    }

    fn answer(&mut self, out: &mut Out, cancel: &Cancel) -> Result<()> {
        let ids = self.prompt()?;
        let mut failed = None;
        let number = self.answers;
        self.answers += 1;
        let answer = stream(&self.model, &ids, &self.options, number, cancel, &mut |text| {
            let shown = out.text(text).and_then(|()| out.flush());
            failed = failed.take().or(shown.err());
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        out.text("\n")?;
        out.flush()?;
        if answer.truncated {
            note(&format!("[cut off: {}]", stop_name(answer.completion.stop)));
        }
        self.turns.push(Message::new("assistant", answer.text));
        Ok(())
    }
}
