//! `gsm8k`: grade-school word problems (Cobbe et al. 2021, MIT licence), read from the text of their JSON lines.
//!
//! ```
//! use postgrad_tasks::{Split, Task, gsm8k};
//! let row = r#####"{"question": "2 and 3?", "answer": "2+3=<<2+3=5>>5\n#### 5"}"#####;
//! let problems = gsm8k::parse(row, Split::Test).unwrap();
//! let task = gsm8k::Gsm8k::default();
//! assert_eq!(task.solve(&problems[0], "plain").unwrap().text, "2+3=5\n#### 5");
//! assert!(task.verify(&problems[0], "so #### 5.00").correct);
//! ```
//!
//! Strict reading is the released one: the first `#### ` with a number, commas left out; two numbers are the same when
//! their values are (`5.00` is `5`), where the released code compares text. Lenient: the last `####`, `answer is n`, or the
//! last number. Left out on purpose: the calculator itself (a tool above this floor), judging steps.

use postgrad_base::{Context, Error, Result, Stream};
use serde::Deserialize;
use serde_json::json;

use crate::number;
use crate::task::{Difficulty, Knob, Problem, Rendering, Split, Task, Trace, Verdict, final_text, nearest};

/// The problems at hand; empty until some are parsed (verifying and solving need none).
#[derive(Clone, Debug, Default)]
pub struct Gsm8k {
    pub problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Row {
    question: String,
    answer: String,
}

/// Problems of one file's text, in its order. Errors name the line.
pub fn parse(text: &str, split: Split) -> Result<Vec<Problem>> {
    let rows = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    rows.map(|(i, line)| {
        let at = |e: Error| {
            e.at(format!("line {}", i + 1)).help("a row is {\"question\": ..., \"answer\": \"... #### 42\"}")
        };
        let row: Row = serde_json::from_str(line).context(|| "not a row of GSM8K".into()).map_err(at)?;
        let answer = extract_answer(&row.answer)
            .ok_or_else(|| at(Error::work("the answer column holds no `#### number`")))
            .map(|a| number::canonical(&a))?;
        let mut problem = Problem::new("gsm8k", row.question.clone(), answer, &Difficulty::default(), &row.question)
            .with_meta(json!({"solution": row.answer}));
        problem.split = split;
        Ok(problem)
    })
    .collect()
}

/// The released extraction: what `#### (\-?[0-9\.\,]+)` finds first, commas left out.
pub fn extract_answer(text: &str) -> Option<String> {
    text.match_indices("#### ").find_map(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let (sign, body) = rest.strip_prefix('-').map_or(("", rest), |b| ("-", b));
        let length = body.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b',')).count();
        (length > 0).then(|| format!("{sign}{}", body[..length].replace(',', "")))
    })
}

/// The text without its calculator annotations `<<3+4=7>>`.
pub fn strip_annotations(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("<<") {
        let Some(close) = rest[open..].find(">>") else { break };
        out.push_str(&rest[..open]);
        rest = &rest[open + close + 2..];
    }
    out + rest
}

impl Task for Gsm8k {
    fn name(&self) -> &'static str {
        "gsm8k"
    }

    fn about(&self) -> &'static str {
        "grade-school word problems by people, with worked solutions"
    }

    fn knobs(&self) -> &'static [Knob] {
        &[]
    }

    fn renderings(&self) -> &'static [Rendering] {
        &[
            Rendering { name: "plain", ask: "" },
            Rendering { name: "annotated", ask: "" },
            Rendering { name: "direct", ask: "Answer only." },
        ]
    }

    /// Draws one of the problems at hand. Errors: there are none.
    fn generate(&self, stream: &mut Stream, _: &Difficulty) -> Result<Problem> {
        if self.problems.is_empty() {
            return Err(Error::usage("`gsm8k` has no generator: its problems were written by people")
                .help("read them from its files (--data gsm8k)"));
        }
        Ok(stream.choose(&self.problems).clone())
    }

    fn solve(&self, problem: &Problem, rendering: &str) -> Result<Trace> {
        let solution = problem.meta["solution"].as_str().ok_or_else(|| {
            Error::usage("not a problem of `gsm8k`: its meta has no solution").at(format!("problem {}", problem.id))
        })?;
        let text = match rendering {
            "plain" => strip_annotations(solution),
            "annotated" => solution.to_string(),
            "direct" => {
                return Ok(Trace {
                    steps: vec![],
                    answer: problem.answer.clone(),
                    text: format!("#### {}", problem.answer),
                });
            }
            other => {
                let known: Vec<&str> = self.renderings().iter().map(|r| r.name).collect();
                return Err(Error::unknown("rendering", other, &known, nearest(other, &known)));
            }
        };
        let steps = text.lines().filter(|l| !l.starts_with("####")).map(String::from).collect();
        Ok(Trace { steps, answer: problem.answer.clone(), text })
    }

    fn verify(&self, problem: &Problem, response: &str) -> Verdict {
        let right = number::canonical(&problem.answer);
        let judged = |n: String| {
            let n = number::canonical(&n);
            let same = n == right;
            (n, same)
        };
        let text = final_text(response);
        Verdict::judge(extract_answer(text).map(judged), number::flexible(text).map(judged))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::task::Reason;
    use proptest::prelude::*;

    fn file(path: &str) -> String {
        let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn all_rows_parse_and_their_solutions_pass() {
        for (name, split, n) in [("train", Split::Train, 7473), ("test", Split::Test, 1319)] {
            let problems = parse(&file(&format!("assets/gsm8k/{name}.jsonl.gz")), split).unwrap();
            assert_eq!(problems.len(), n);
            let task = Gsm8k { problems };
            for p in &task.problems {
                for r in task.renderings() {
                    let trace = task.solve(p, r.name).unwrap();
                    assert!(task.verify(p, &trace.text).correct, "{} {}", p.id, trace.text);
                    assert!(r.name == "annotated" || !trace.text.contains("<<"), "{}", trace.text);
                }
                for wrong in [format!("{}1", p.answer), format!("-{}1", p.answer), "0.5".into()] {
                    assert!(!task.verify(p, &format!("#### {wrong}")).correct);
                }
            }
            assert!(task.generate(&mut Stream::new(1, &["test"]), &Difficulty::default()).is_ok());
        }
    }

    /// The released solutions of four models with their graders' marks. They end in `A: n` where the data end in `#### n`.
    #[test]
    fn the_verifier_agrees_with_the_released_marks() {
        #[derive(Deserialize)]
        struct Marked {
            gold: String,
            solutions: Vec<(bool, String)>,
        }
        let text = file("fixtures/gsm8k/model_solutions.jsonl.gz");
        let (mut n, mut differ) = (0, vec![]);
        for (i, line) in text.lines().enumerate() {
            let row: Marked = serde_json::from_str(line).unwrap();
            let p = Problem::new("gsm8k", String::new(), row.gold, &Difficulty::default(), "");
            for (j, (right, solution)) in row.solutions.iter().enumerate() {
                n += 1;
                let verdict = Gsm8k::default().verify(&p, &solution.replace("\nA: ", "\n#### "));
                if verdict.correct != *right {
                    differ.push((i + 1, j));
                }
            }
        }
        // docs/VERIFIERS.md explains each.
        assert_eq!((n, differ), (5276, vec![]));
    }

    #[test]
    fn answers_are_read_as_released() {
        for (text, answer) in [
            ("#### 1,234", Some("1234")),
            ("#### -5.", Some("-5.")),
            ("#### $5", None),
            ("####5", None),
            ("#### x #### 7 #### 8", Some("7")),
            ("A: 5", None),
        ] {
            assert_eq!(extract_answer(text).as_deref(), answer, "{text}");
        }
        assert_eq!(strip_annotations("a <<1+1=2>>2 b << c"), "a 2 b << c");
    }

    #[test]
    fn bad_rows_name_their_line() {
        let good = "{\"question\": \"q\", \"answer\": \"#### 1\"}";
        for bad in ["{", r#"{"question": "q"}"#, r#"{"question": "q", "answer": "1"}"#] {
            let e = parse(&format!("{good}\n\n{bad}"), Split::Test).unwrap_err();
            assert!(e.to_string().contains("at line 3"), "{e}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_a_verdict(text in "(#### |[-0-9.,$]|<<|>>|\\PC){0,60}") {
            let p = Problem::new("gsm8k", "q".into(), "5".into(), &Difficulty::default(), "q");
            let v = Gsm8k::default().verify(&p, &text);
            prop_assert_eq!(v.reason == Reason::Right, v.correct);
            strip_annotations(&text);
        }
    }
}
