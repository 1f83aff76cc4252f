//! A model at work on a task's problems: questions, answers, verdicts.

use std::collections::BTreeSet;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::{Message, PromptOptions};
use postgrad_tasks::{Problem, Split, Task, Verdict, draw, task};

use crate::folder::ModelFolder;
use crate::generate::{Answer, Options, answers};

/// Problems of one kind, with the way they are asked.
#[derive(Clone, Debug)]
pub struct ProblemSet {
    pub name: String,
    pub rendering: &'static str,
    pub problems: Vec<Problem>,
}

/// A problem with what the model made of it.
#[derive(Clone, Debug)]
pub struct Solved {
    pub problem: Problem,
    pub answer: Answer,
    pub verdict: Verdict,
}

impl ProblemSet {
    /// `n` different problems of a task at a difficulty (`steps=3,digits=1`), of one split, drawn by the seed. Fewer where
    /// the task has no more.
    pub fn draw(
        name: &str,
        difficulty: &str,
        rendering: &str,
        split: Split,
        n: usize,
        stream: &Stream,
    ) -> Result<Self> {
        let task = task(name)?;
        let known: Vec<&str> = task.renderings().iter().map(|r| r.name).collect();
        let rendering = match rendering {
            "" => task.renderings()[0].name,
            r => *known.iter().find(|k| **k == r).ok_or_else(|| Error::unknown("rendering", r, &known, None))?,
        };
        let difficulty = task.difficulty(difficulty)?;
        let mut seen = BTreeSet::new();
        let mut problems = Vec::with_capacity(n);
        let mut tries = 0u64;
        while problems.len() < n && tries < 20 * n as u64 + 100 {
            let problem = draw(&*task, &mut stream.nth(tries), &difficulty, split)?;
            tries += 1;
            if seen.insert(problem.id.clone()) {
                problems.push(problem);
            }
        }
        Ok(Self { name: name.into(), rendering, problems })
    }

    fn task(&self) -> Result<Box<dyn Task>> {
        task(&self.name)
    }

    /// What the model is asked.
    pub fn question(&self, task: &dyn Task, problem: &Problem) -> String {
        let rendering = task.renderings().iter().find(|r| r.name == self.rendering);
        rendering.map_or_else(|| problem.prompt.clone(), |r| problem.ask(r))
    }

    /// Questions with the solver's own answers, as training records.
    pub fn records(&self) -> Result<Vec<(String, String)>> {
        let task = self.task()?;
        let pair = |p: &Problem| Ok((self.question(&*task, p), task.solve(p, self.rendering)?.text));
        self.problems.iter().map(pair).collect()
    }

    /// Asks the model all problems, and judges.
    pub fn solve(&self, model: &ModelFolder, options: &Options, cancel: &Cancel) -> Result<Vec<Solved>> {
        let task = self.task()?;
        let prompts = self
            .problems
            .iter()
            .map(|p| {
                let turns = [Message::new("user", self.question(&*task, p))];
                model.renderer.prompt_ids(&turns, None, &PromptOptions::default())
            })
            .collect::<Result<Vec<_>>>()?;
        let given = answers(model, &prompts, options, cancel)?;
        Ok(given
            .into_iter()
            .map(|answer| {
                let problem = self.problems[answer.prompt].clone();
                let verdict = task.verify(&problem, &answer.text);
                Solved { problem, answer, verdict }
            })
            .collect())
    }
}

/// How many are right.
pub fn correct(solved: &[Solved]) -> usize {
    solved.iter().filter(|s| s.verdict.correct && !s.answer.truncated).count()
}
