//! Responses judged: by the task that a problem was drawn from, else as mathematics against a gold answer.

use std::collections::BTreeMap;

use postgrad_base::Result;
use postgrad_tasks::answers::{Found, Mode, equal, extract};
use postgrad_tasks::{Problem, Task, Verdict, task};

/// What a response is held against.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    Problem(Problem),
    /// A bare answer, or a whole solution that ends in it.
    Gold(String),
}

/// Judges responses to many questions.
pub struct Verifier {
    checks: Vec<Check>,
    tasks: BTreeMap<String, Box<dyn Task>>,
}

impl Verifier {
    /// Errors: a problem of a task that is not known.
    pub fn new(checks: Vec<Check>) -> Result<Self> {
        let mut tasks = BTreeMap::new();
        for check in &checks {
            if let Check::Problem(p) = check
                && !tasks.contains_key(&p.task)
            {
                tasks.insert(p.task.clone(), task(&p.task)?);
            }
        }
        Ok(Self { checks, tasks })
    }

    pub fn check(&self, question: usize) -> &Check {
        &self.checks[question]
    }

    /// The verdict on a response to question number `question`; bounded time for any text.
    pub fn verify(&self, question: usize, response: &str) -> Verdict {
        match &self.checks[question] {
            Check::Problem(p) => self.tasks[&p.task].verify(p, response),
            Check::Gold(gold) => {
                let found = extract(response, Mode::Any);
                let judged = |f: Found| {
                    let same = equal(gold, &f.text).equal;
                    (f.text, same)
                };
                Verdict::judge(found.strict.map(judged), found.flexible.map(judged))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_base::Stream;

    #[test]
    fn tasks_judge_their_problems_and_gold_answers_the_rest() {
        let chain = task("chain").unwrap();
        let problem = chain.generate(&mut Stream::new(0, &["data"]), &chain.difficulty("steps=2").unwrap()).unwrap();
        let right = chain.solve(&problem, "cot").unwrap().text;
        let gold = Check::Gold("Half of 7 is 3.5, so we have\n#### 3.5".into());
        let verifier = Verifier::new(vec![Check::Problem(problem), gold]).unwrap();
        assert!(verifier.verify(0, &right).correct);
        assert!(!verifier.verify(0, "#### -1").correct);
        assert!(verifier.verify(1, "It is \\boxed{7/2}.").correct);
        let lucky =
            verifier.verify(1, "I do not know, there are some numbers in this text of mine, the last being 3.5");
        assert!(!lucky.correct && lucky.flexible, "the last number is no marked answer");
        assert!(!verifier.verify(1, "").flexible);
        let strange = Check::Problem(Problem::new("no-such-task", "q".into(), "a".into(), &Default::default(), "k"));
        assert_eq!(Verifier::new(vec![strange]).err().unwrap().exit_code(), 2);
    }
}
