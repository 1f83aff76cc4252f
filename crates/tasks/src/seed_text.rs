//! Dialogues for pre-training the seed models, drawn by a named mixture of tasks.
//!
//! ```
//! use postgrad_base::Stream;
//! let talk = postgrad_tasks::seed_text::seed_text(&Stream::new(1, &["base"]), "seed", 3).unwrap();
//! assert_eq!(talk.len(), 3);
//! ```
//!
//! The `n`th dialogue depends on the stream and `n` alone, so text can be drawn in parallel and resumed. All problems are
//! from the train split. Left out on purpose: templates and tokens (a dialogue is turns of text), noise and wrong answers.

use std::fmt;

use postgrad_base::{Error, Result, Stream};
use serde::{Deserialize, Serialize};

use crate::chain::{self, Chain, Graph};
use crate::registry;
use crate::task::{Difficulty, Problem, Split, Task, draw, nearest};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub role: Role,
    pub text: String,
}

/// One training text: the task of its first question, and its turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialogue {
    pub ability: String,
    pub turns: Vec<Turn>,
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The task's rendering of this name.
    Rendering(&'static str),
    /// `chain` alone: the steps inside `<think>` tags, asked for by a system line.
    Think,
    /// `chain` alone: each step by a call of the calculator, asked for by a system line.
    Tool,
}

/// One line of a mixture: a task, its difficulties with weights, how it is answered, its share of the questions.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub task: &'static str,
    pub difficulty: &'static [(f64, &'static str)],
    pub style: Style,
    pub share: f64,
}

const fn skill(task: &'static str, difficulty: &'static [(f64, &'static str)], share: f64) -> Share {
    Share { task, difficulty, style: Style::Rendering("plain"), share }
}

const fn of_chain(style: Style, share: f64) -> Share {
    Share { task: "chain", difficulty: CHAIN, style, share }
}

const PLAIN: &[(f64, &str)] = &[(1.0, "")];

/// Steps 1-3, few of 4 and 5; mostly lines, some trees and distractors.
const CHAIN: &[(f64, &str)] = &[
    (0.20, "steps=1,digits=1"),
    (0.10, "steps=1,digits=2"),
    (0.24, "steps=2,digits=1"),
    (0.10, "steps=2,digits=2"),
    (0.15, "steps=3,digits=1"),
    (0.06, "steps=3,digits=2"),
    (0.04, "steps=2,digits=1,shape=tree"),
    (0.03, "steps=3,digits=1,shape=tree"),
    (0.04, "steps=2,digits=1,distractors=1"),
    (0.02, "steps=4,digits=1"),
    (0.01, "steps=4,digits=2"),
    (0.01, "steps=5,digits=1"),
];

/// The mixture that the seed models are trained on.
pub const SEED: &[Share] = &[
    of_chain(Style::Rendering("cot"), 0.16),
    of_chain(Style::Rendering("equations"), 0.04),
    of_chain(Style::Rendering("direct"), 0.02),
    of_chain(Style::Think, 0.02),
    of_chain(Style::Tool, 0.02),
    skill("add", &[(0.4, "digits=1"), (0.5, "digits=2"), (0.1, "digits=3")], 0.14),
    skill("facts", PLAIN, 0.09),
    skill("sort", &[(0.5, "items=3"), (0.4, "items=4"), (0.1, "items=3,digits=2")], 0.07),
    skill("compare", &[(0.7, "digits=2"), (0.3, "digits=3")], 0.06),
    skill("sequence", &[(0.6, "step=5,digits=1"), (0.4, "step=5,digits=2")], 0.05),
    skill("count", PLAIN, 0.04),
    skill("copy", &[(0.3, "words=2"), (0.4, "words=4"), (0.3, "words=6")], 0.05),
    skill("reverse", &[(0.3, "words=2"), (0.5, "words=3"), (0.2, "words=4")], 0.04),
    skill("json", PLAIN, 0.05),
    skill("say", PLAIN, 0.03),
    skill("recall", &[(0.3, "facts=2"), (0.5, "facts=3"), (0.2, "facts=4")], 0.04),
    skill("tallest", &[(0.5, "people=2"), (0.5, "people=3")], 0.02),
    skill("choice", PLAIN, 0.02),
    skill("parity", PLAIN, 0.01),
    skill("spell", PLAIN, 0.02),
    skill("case", PLAIN, 0.01),
];

/// Mixtures by name.
pub const MIXTURES: &[(&str, &[Share])] = &[("seed", SEED)];

/// The mixture of this name. Errors: an unknown name.
pub fn mixture(name: &str) -> Result<&'static [Share]> {
    MIXTURES.iter().find(|m| m.0 == name).map(|m| m.1).ok_or_else(|| {
        let known: Vec<&str> = MIXTURES.iter().map(|m| m.0).collect();
        Error::unknown("mixture", name, &known, nearest(name, &known))
    })
}

const PLAIN_SYSTEM: &str = "You are a helpful assistant.";
pub const THINK_SYSTEM: &str = "Think first.";
pub const TOOL_SYSTEM: &str = "Use the tool calc.";

/// Draws dialogues of one mixture; built once, shared by threads.
pub struct Writer {
    shares: &'static [Share],
    weights: Vec<f64>,
    tasks: Vec<Box<dyn Task>>,
    difficulties: Vec<Vec<(f64, Difficulty)>>,
}

impl Writer {
    pub fn new(name: &str) -> Result<Self> {
        let shares = mixture(name)?;
        let tasks: Vec<Box<dyn Task>> = shares.iter().map(|s| registry::task(s.task)).collect::<Result<_>>()?;
        let mut difficulties = vec![];
        for (share, task) in shares.iter().zip(&tasks) {
            let read = |(w, spec): &(f64, &str)| Ok((*w, task.difficulty(spec)?));
            difficulties.push(share.difficulty.iter().map(read).collect::<Result<Vec<_>>>()?);
        }
        Ok(Self { shares, weights: shares.iter().map(|s| s.share).collect(), tasks, difficulties })
    }

    /// The `n`th dialogue below the stream: four in five with one question, the others with two or three.
    pub fn dialogue(&self, stream: &Stream, n: u64) -> Result<Dialogue> {
        let mut s = stream.nth(n);
        let line = s.weighted(&self.weights);
        let share = &self.shares[line];
        let mut turns = vec![];
        let system = match share.style {
            Style::Think => Some(THINK_SYSTEM),
            Style::Tool => Some(TOOL_SYSTEM),
            Style::Rendering(_) => s.chance(0.1).then_some(PLAIN_SYSTEM),
        };
        turns.extend(system.map(|text| turn(Role::System, text)));
        self.question(&mut s, line, &mut turns)?;
        // A system line asks for its style throughout: those dialogues end here.
        if matches!(share.style, Style::Rendering(_)) && s.chance(0.2) {
            for _ in 0..1 + s.below(2) {
                let line = loop {
                    let line = s.weighted(&self.weights);
                    if matches!(self.shares[line].style, Style::Rendering(_)) {
                        break line;
                    }
                };
                self.question(&mut s, line, &mut turns)?;
            }
        }
        Ok(Dialogue { ability: share.task.into(), turns })
    }

    fn question(&self, s: &mut Stream, line: usize, turns: &mut Vec<Turn>) -> Result<()> {
        let (task, choices) = (&*self.tasks[line], &self.difficulties[line]);
        let weights: Vec<f64> = choices.iter().map(|c| c.0).collect();
        let difficulty = &choices[s.weighted(&weights)].1;
        let problem = draw(task, s, difficulty, Split::Train)?;
        match self.shares[line].style {
            Style::Rendering(name) => {
                let rendering = task.renderings().iter().find(|r| r.name == name);
                let ask = rendering.map_or_else(|| problem.prompt.clone(), |r| problem.ask(r));
                turns.push(turn(Role::User, ask));
                turns.push(turn(Role::Assistant, task.solve(&problem, name)?.text));
            }
            Style::Think => {
                turns.push(turn(Role::User, &*problem.prompt));
                turns.push(turn(Role::Assistant, thinking(&problem)?));
            }
            Style::Tool => {
                turns.push(turn(Role::User, &*problem.prompt));
                turns.extend(calling(&problem)?);
            }
        }
        Ok(())
    }
}

/// The first `n` dialogues of a named mixture below the stream. Errors: an unknown mixture.
pub fn seed_text(stream: &Stream, mixture: &str, n: u64) -> Result<Vec<Dialogue>> {
    let writer = Writer::new(mixture)?;
    (0..n).map(|i| writer.dialogue(stream, i)).collect()
}

fn turn(role: Role, text: impl Into<String>) -> Turn {
    Turn { role, text: text.into() }
}

/// A `chain` response with its steps as a thought.
fn thinking(problem: &Problem) -> Result<String> {
    let trace = Chain.solve(problem, chain::COT.name)?;
    Ok(format!("<think>{}</think>\n#### {}", trace.steps.join(" "), trace.answer))
}

/// A `chain` dialogue in which every step is a call of the calculator.
fn calling(problem: &Problem) -> Result<Vec<Turn>> {
    let graph = Graph::of(problem)?;
    let mut turns = vec![];
    for (a, sign, b, c) in graph.plan().into_iter().filter_map(|i| graph.parts(i)) {
        let call = format!(r#"<tool_call>{{"name": "calc", "arguments": {{"expr": "{a}{sign}{b}"}}}}</tool_call>"#);
        turns.push(turn(Role::Assistant, call));
        turns.push(turn(Role::Tool, c.to_string()));
    }
    turns.push(turn(Role::Assistant, format!("#### {}", graph.answer())));
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::stable_hash;

    #[test]
    fn shares_sum_to_one() {
        for (name, shares) in MIXTURES {
            let total: f64 = shares.iter().map(|s| s.share).sum();
            assert!((total - 1.0).abs() < 1e-9, "{name} {total}");
            for s in *shares {
                let total: f64 = s.difficulty.iter().map(|d| d.0).sum();
                assert!((total - 1.0).abs() < 1e-9, "{} {total}", s.task);
            }
        }
        assert_eq!(mixture("sed").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn dialogues_are_well_formed_and_come_in_their_shares() {
        let stream = Stream::new(1, &["test", "seed"]);
        let all = seed_text(&stream, "seed", 10_000).unwrap();
        let (mut chains, mut thoughts, mut calls, mut long, mut systems) = (0, 0, 0, 0, 0);
        for d in &all {
            let roles: Vec<Role> = d.turns.iter().map(|t| t.role).collect();
            let body = if roles[0] == Role::System { &roles[1..] } else { &roles[..] };
            assert_eq!((body[0], *body.last().unwrap()), (Role::User, Role::Assistant));
            for pair in body.windows(2) {
                let fine = matches!(
                    pair,
                    [Role::User, Role::Assistant]
                        | [Role::Assistant, Role::User | Role::Tool]
                        | [Role::Tool, Role::Assistant]
                );
                assert!(fine, "{d:?}");
            }
            assert!(d.turns.iter().all(|t| !t.text.is_empty()), "{d:?}");
            let has = |text: &str| d.turns.iter().any(|t| t.text.contains(text));
            chains += usize::from(d.ability == "chain");
            thoughts += usize::from(has("</think>"));
            calls += usize::from(has("</tool_call>"));
            long += usize::from(body.iter().filter(|r| **r == Role::User).count() > 1);
            systems += usize::from(roles[0] == Role::System);
        }
        let near = |n: usize, share: f64| (n as f64 / 10_000.0 - share).abs() < 0.025;
        assert!(near(chains, 0.26) && near(long, 0.19) && near(systems, 0.135), "{chains} {long} {systems}");
        assert!((100..300).contains(&thoughts) && (100..300).contains(&calls), "{thoughts} {calls}");
        let line = serde_json::to_string(&all[..200]).unwrap();
        assert_eq!(stable_hash(&[&line]), "89fd7233b959f8c5");
        assert_eq!(Writer::new("seed").unwrap().dialogue(&stream, 77).unwrap(), all[77]);
    }

    #[test]
    fn thoughts_and_calls_end_in_the_answer() {
        let d = Chain.difficulty("steps=3,shape=tree").unwrap();
        for n in 0..50 {
            let p = Chain.generate(&mut Stream::new(n, &["test"]), &d).unwrap();
            assert!(Chain.verify(&p, &thinking(&p).unwrap()).correct);
            let turns = calling(&p).unwrap();
            assert_eq!(turns.len(), 7);
            assert!(Chain.verify(&p, &turns[6].text).correct);
            let call = turns[0].text.strip_prefix("<tool_call>").unwrap().strip_suffix("</tool_call>").unwrap();
            let call: serde_json::Value = serde_json::from_str(call).unwrap();
            assert_eq!(call["name"], "calc");
        }
    }
}
