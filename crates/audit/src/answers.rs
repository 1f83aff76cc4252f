//! Answers in the model's own words, judged against a reference or by a task's verifier.
//!
//! *Exact* compares whole answers, white space normalised and thoughts left out. *Answer* compares final answers as
//! mathematics, the marked one (strict) and the one found anywhere (flexible) apart; a problem of a task is judged by its
//! task. A truncated answer is never right; how many would have been is counted.

use std::collections::BTreeMap;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result, Stream};
use postgrad_nn::sample::Stop;
use postgrad_numerics::{LEVEL, majority, mean_t, pass_at_k_over, wilson};
use postgrad_reason::generate::{Options, generate, stop_name};
use postgrad_reason::{Answer, ModelFolder};
use postgrad_tasks::answers::{self, Mode, extract};
use postgrad_tasks::task::final_text;
use postgrad_tasks::{Task, task};
use serde::Serialize;

use crate::items::Item;
use crate::prompt::Asker;
use crate::summary::Summary;

/// How an answer is compared with its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    Exact,
    Answer,
}

/// One answer with its verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Response {
    pub sample: usize,
    pub text: String,
    /// The answer that was found in it.
    pub parsed: Option<String>,
    /// Right in the form that was asked (exact: the same text).
    pub strict: bool,
    /// Right wherever the answer stands.
    pub flexible: bool,
    /// Whether an answer in the form that was asked was found.
    pub marked: bool,
    /// Right and all steps, from tasks that check steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<(usize, usize)>,
    pub stop: &'static str,
    pub truncated: bool,
    pub tokens: usize,
    /// Sum over its tokens under the model at temperature 1, nats.
    pub log_prob: f64,
}

impl Response {
    /// Right, strictly or flexibly; a truncated answer is not.
    pub fn right(&self, flexible: bool) -> bool {
        !self.truncated && if flexible { self.flexible } else { self.strict }
    }
}

/// An item with what the model answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub item: usize,
    pub id: String,
    /// Items of one cluster are not independent.
    pub cluster: String,
    pub prompt: String,
    pub prompt_tokens: usize,
    pub reference: String,
    pub responses: Vec<Response>,
}

/// A verdict on a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub parsed: Option<String>,
    pub strict: bool,
    pub flexible: bool,
    pub marked: bool,
    pub steps: Option<(usize, usize)>,
}

/// Judges items' answers.
pub struct Bench {
    judge: Judge,
    tasks: BTreeMap<String, Box<dyn Task>>,
}

impl Bench {
    pub fn new(judge: Judge, items: &[Item]) -> Result<Self> {
        let mut tasks = BTreeMap::new();
        for name in items.iter().filter_map(|i| i.problem.as_ref()).map(|p| &p.task) {
            if !tasks.contains_key(name) {
                tasks.insert(name.clone(), task(name)?);
            }
        }
        Ok(Self { judge, tasks })
    }

    pub fn judge(&self, item: &Item, reference: &str, text: &str) -> Judged {
        if self.judge == Judge::Exact {
            let said = normal(final_text(text));
            let right = !said.is_empty() && said == normal(final_text(reference));
            let found = !said.is_empty();
            return Judged {
                parsed: found.then_some(said),
                strict: right,
                flexible: right,
                marked: found,
                steps: None,
            };
        }
        if let Some((problem, task)) = item.problem.as_ref().and_then(|p| Some((p, self.tasks.get(&p.task)?))) {
            let verdict = task.verify(problem, text);
            use postgrad_tasks::task::Reason;
            return Judged {
                marked: match verdict.reason {
                    Reason::Right | Reason::Wrong => true,
                    Reason::NoAnswer | Reason::Malformed | Reason::NotMine => false,
                },
                steps: verdict.steps.map(|s| (s.iter().filter(|v| v.right()).count(), s.len())),
                parsed: verdict.parsed,
                strict: verdict.correct,
                flexible: verdict.flexible,
            };
        }
        let found = extract(text, Mode::Any);
        let right = |answer: Option<&answers::Found>| answer.is_some_and(|a| answers::equal(reference, &a.text).equal);
        let strict = right(found.strict.as_ref());
        Judged {
            strict,
            flexible: strict || right(found.flexible.as_ref()),
            marked: found.strict.is_some(),
            parsed: found.strict.or(found.flexible).map(|f| f.text),
            steps: None,
        }
    }
}

fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asks all items; rows in their order. `progress` gets answers finished and tokens sampled so far.
pub fn run(
    model: &ModelFolder,
    asker: &Asker,
    items: &[Item],
    judge: Judge,
    options: &Options,
    cancel: &Cancel,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Row>> {
    if let Some(fault) = options.rules.fault() {
        return Err(Error::usage(fault));
    }
    let bench = Bench::new(judge, items)?;
    let mut rows = Vec::with_capacity(items.len());
    let mut prompts = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let prompt = asker.prompt(i, item)?;
        rows.push(Row {
            item: i,
            id: item.id.clone(),
            cluster: item.problem.as_ref().map_or_else(|| item.id.clone(), |p| p.cluster.clone()),
            prompt: prompt.text,
            prompt_tokens: prompt.ids.len(),
            reference: item.problem.as_ref().map(|p| p.answer.clone()).or(item.reference()).unwrap_or_default(),
            responses: vec![],
        });
        prompts.push(prompt.ids);
    }
    let (mut finished, mut tokens) = (0, 0);
    generate(model, &prompts, options, cancel, |answer| {
        finished += 1;
        tokens += answer.completion.tokens.len();
        let at = answer.prompt;
        // Exact compares with the whole reference, also for a problem of a task.
        let reference = if judge == Judge::Exact { items[at].reference() } else { None };
        let judged = bench.judge(&items[at], reference.as_deref().unwrap_or(&rows[at].reference), &answer.text);
        rows[at].responses.push(response(answer, judged));
        progress(finished, tokens);
        Ok(())
    })?;
    rows.iter_mut().for_each(|r| r.responses.sort_by_key(|r| r.sample));
    Ok(rows)
}

fn response(answer: Answer, judged: Judged) -> Response {
    let Judged { parsed, strict, flexible, marked, steps } = judged;
    let too_long = answer.completion.stop == Stop::Context && answer.completion.tokens.is_empty();
    Response {
        sample: answer.sample,
        text: answer.text,
        parsed,
        strict,
        flexible,
        marked,
        steps,
        stop: if too_long { TOO_LONG } else { stop_name(answer.completion.stop) },
        truncated: answer.truncated,
        tokens: answer.completion.tokens.len(),
        log_prob: answer.completion.model.iter().map(|l| *l as f64).sum(),
    }
}

/// The stop of a prompt that left no room for an answer.
pub const TOO_LONG: &str = "prompt too long";

/// Accuracy (Wilson's interval; with several samples the mean over problems with a bootstrap), pass@k, the majority's vote, the
/// share of right steps, and counts of what went wrong.
pub fn summary(rows: &[Row], judge: Judge, seed: u64) -> Result<Summary> {
    const REPLICATES: usize = 2000;
    let mut summary = Summary::default();
    let samples = rows.iter().map(|r| r.responses.len()).max().unwrap_or(0);
    let readings: &[(&str, bool)] = match judge {
        Judge::Exact => &[("", false)],
        Judge::Answer => &[("_strict", false), ("_flexible", true)],
    };
    let right = |row: &Row, flexible| row.responses.iter().filter(|r| r.right(flexible)).count();
    for (suffix, flexible) in readings {
        let each: Vec<(usize, usize)> = rows.iter().map(|r| (r.responses.len(), right(r, *flexible))).collect();
        if samples <= 1 {
            let right = each.iter().map(|(_, c)| c).sum();
            summary.share(format!("accuracy{suffix}"), wilson(right, rows.len(), LEVEL));
            continue;
        }
        let over = |k: usize| {
            let stream = Stream::new(seed, &["eval", "pass", suffix]);
            let estimate = pass_at_k_over(&each, k, LEVEL, REPLICATES, &mut stream.nth(k as u64))?;
            // Where every problem is solved surely or never, it is a proportion, and resampling knows nothing of its ends.
            let sure = each.iter().all(|(n, c)| *c == 0 || n - c < k);
            let solved = each.iter().filter(|(_, c)| *c > 0).count();
            Ok::<_, Error>(if sure { wilson(solved, each.len(), LEVEL) } else { estimate })
        };
        summary.share(format!("accuracy{suffix}"), over(1)?);
        let mut k = 2;
        while k < samples {
            summary.share(format!("pass@{k}{suffix}"), over(k)?);
            k *= 2;
        }
        summary.share(format!("pass@{samples}{suffix}"), over(samples)?);
    }
    if samples > 1 {
        let won = rows.iter().filter(|r| majority_is_right(r)).count();
        summary.share("majority", wilson(won, rows.len(), LEVEL));
    }
    let all = || rows.iter().flat_map(|r| &r.responses);
    let shares: Vec<f64> = rows
        .iter()
        .filter_map(|row| {
            let of: Vec<f64> = row.responses.iter().filter_map(|r| r.steps).map(|(k, n)| share(k, n)).collect();
            (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64)
        })
        .collect();
    if !shares.is_empty() {
        let mut e = mean_t(&shares, LEVEL);
        (e.low, e.high) = (e.low.max(0.0), e.high.min(1.0));
        summary.share("right_steps", e);
    }
    let lengths: Vec<f64> = rows
        .iter()
        .filter(|r| !r.responses.is_empty())
        .map(|r| r.responses.iter().map(|a| a.tokens as f64).sum::<f64>() / r.responses.len() as f64)
        .collect();
    summary.value("answer_tokens", mean_t(&lengths, LEVEL));
    summary.count("items", rows.len());
    summary.count("answers", all().count());
    summary.count("truncated", all().filter(|r| r.truncated && r.stop != TOO_LONG).count());
    summary.count("truncated_yet_right", all().filter(|r| r.truncated && r.flexible).count());
    summary.count("prompt_too_long", all().filter(|r| r.stop == TOO_LONG).count());
    summary.count("no_answer_found", all().filter(|r| r.parsed.is_none() && r.stop != TOO_LONG).count());
    if judge == Judge::Answer {
        summary.count("answer_not_marked", all().filter(|r| r.parsed.is_some() && !r.marked).count());
    }
    Ok(summary)
}

/// No step at all is nothing right.
fn share(k: usize, n: usize) -> f64 {
    if n == 0 { 0.0 } else { k as f64 / n as f64 }
}

/// A found answer; equal are answers that are understood as the same: 0.5 and 1/2 vote together.
struct Vote<'a>(&'a str);

impl PartialEq for Vote<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || answers::equal(self.0, other.0).equal
    }
}

/// Whether the answer given most often is right. Truncated answers do not vote.
fn majority_is_right(row: &Row) -> bool {
    let votes: Vec<Option<Vote>> =
        row.responses.iter().map(|r| r.parsed.as_deref().filter(|_| !r.truncated).map(Vote)).collect();
    let Some(won) = majority(&votes) else { return false };
    votes.iter().zip(&row.responses).find(|(v, _)| v.as_ref() == Some(won)).is_some_and(|(_, r)| r.right(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::{model, pairs};
    use postgrad_base::Stream;
    use postgrad_tasks::{Split, draw};

    fn outcome(sample: usize, parsed: Option<&str>, right: (bool, bool), truncated: bool) -> Response {
        Response {
            sample,
            text: String::new(),
            parsed: parsed.map(String::from),
            strict: right.0,
            flexible: right.1,
            marked: right.0,
            steps: None,
            stop: if truncated { "token budget" } else { "end" },
            truncated,
            tokens: 4,
            log_prob: -1.0,
        }
    }

    fn row(item: usize, responses: Vec<Response>) -> Row {
        let id = format!("{item}");
        Row { item, cluster: id.clone(), id, prompt: "p".into(), prompt_tokens: 1, reference: "1".into(), responses }
    }

    #[test]
    fn one_sample_gives_wilson_and_counts_apart() {
        let rows = [
            row(0, vec![outcome(0, Some("1"), (true, true), false)]),
            row(1, vec![outcome(0, Some("1"), (false, true), false)]),
            row(2, vec![outcome(0, Some("1"), (true, true), true)]),
            row(3, vec![outcome(0, None, (false, false), false)]),
        ];
        let s = summary(&rows, Judge::Answer, 0).unwrap();
        assert_eq!(*s.metric("accuracy_strict").unwrap(), wilson(1, 4, LEVEL));
        assert_eq!(*s.metric("accuracy_flexible").unwrap(), wilson(2, 4, LEVEL));
        let counts =
            ["items", "truncated", "truncated_yet_right", "no_answer_found", "answer_not_marked"].map(|n| s.counted(n));
        assert_eq!(counts, [Some(4), Some(1), Some(1), Some(1), Some(1)]);
        assert_eq!(summary(&rows, Judge::Exact, 0).unwrap().metric("accuracy").unwrap().n, 4);
    }

    #[test]
    fn several_samples_give_pass_at_k_and_the_vote() {
        let right = |i, text| outcome(i, Some(text), (true, true), false);
        let wrong = |i, text| outcome(i, Some(text), (false, false), false);
        let rows = [
            // The vote joins 0.5 and 1/2 against two different wrong answers.
            row(0, vec![wrong(0, "7"), right(1, "0.5"), right(2, "1/2"), wrong(3, "8")]),
            row(1, vec![wrong(0, "7"), wrong(1, "7"), right(2, "1"), outcome(3, None, (false, false), false)]),
        ];
        let s = summary(&rows, Judge::Answer, 0).unwrap();
        assert!((s.metric("accuracy_strict").unwrap().value - (0.5 + 0.25) / 2.0).abs() < 1e-12);
        // pass@2: 1 - C(2,2)/C(4,2) = 5/6 and 1 - C(3,2)/C(4,2) = 1/2.
        assert!((s.metric("pass@2_strict").unwrap().value - (5.0 / 6.0 + 0.5) / 2.0).abs() < 1e-12);
        assert_eq!(s.metric("pass@4_strict").unwrap().value, 1.0);
        assert_eq!(*s.metric("majority").unwrap(), wilson(1, 2, LEVEL));
        assert_eq!(s, summary(&rows, Judge::Answer, 0).unwrap());
    }

    #[test]
    fn exact_ignores_white_space_and_thoughts_alone() {
        let bench = Bench::new(Judge::Exact, &[]).unwrap();
        let item = &pairs(1)[0];
        for (said, right) in [
            ("a  b\nc ", true),
            ("<think>hm</think>\n\na b c", true),
            ("a b c.", false),
            ("", false),
            ("<think>a b c", false),
        ] {
            assert_eq!(bench.judge(item, "a b c", said).strict, right, "{said}");
        }
    }

    #[test]
    fn answers_are_read_strictly_and_flexibly() {
        let bench = Bench::new(Judge::Answer, &[]).unwrap();
        let item = &pairs(1)[0];
        let said = |text: &str| {
            let j = bench.judge(item, "so it is\n#### 1,200", text);
            (j.strict, j.flexible, j.marked)
        };
        assert_eq!(said("\\boxed{1200}"), (true, true, true));
        assert_eq!(
            said(&format!("{}In the end there are 1200 of them.", "They count on. ".repeat(30))),
            (false, true, false)
        );
        assert_eq!(said("#### 7"), (false, false, true));
    }

    #[test]
    fn a_task_judges_its_own_problems() {
        let chain = task("chain").unwrap();
        let difficulty = chain.difficulty("steps=2").unwrap();
        let problem = draw(&*chain, &mut Stream::new(3, &["eval"]), &difficulty, Split::Test).unwrap();
        let text = chain.solve(&problem, "cot").unwrap().text;
        let item = Item::of_problem(problem.clone(), problem.prompt.clone(), text.clone());
        let bench = Bench::new(Judge::Answer, std::slice::from_ref(&item)).unwrap();
        let judged = bench.judge(&item, &problem.answer, &text);
        assert!(judged.strict && judged.flexible);
        let (right, all) = judged.steps.unwrap();
        assert!(right == all && all >= 2);
        let mut rows = [row(0, vec![outcome(0, Some("1"), (true, true), false)])];
        rows[0].responses[0].steps = Some((1, 2));
        assert_eq!(summary(&rows, Judge::Answer, 0).unwrap().metric("right_steps").unwrap().value, 0.5);
    }

    #[test]
    fn a_model_is_asked_and_the_rows_do_not_depend_on_the_company() {
        let (model, items) = (model(), pairs(4));
        let asker = Asker::new(model.renderer.clone());
        let options = Options { n: 2, places: 3, ..Options::greedy(6) };
        let go = |options: &Options, items: &[Item]| {
            let mut seen = 0;
            let rows = run(&model, &asker, items, Judge::Exact, options, &Cancel::new(), |n, _| seen = n).unwrap();
            assert_eq!(seen, items.len() * options.n);
            rows
        };
        let mut hot = options.clone();
        hot.rules.temperature = 1.0;
        let rows = go(&hot, &items);
        assert_eq!(rows, go(&Options { places: 64, ..hot.clone() }, &items));
        assert_eq!(rows[..2], go(&hot, &items[..2]));
        assert_ne!(rows[0].responses[0].text, rows[0].responses[1].text);
        let greedy = go(&options, &items);
        assert_eq!(greedy[0].responses[0].text, greedy[0].responses[1].text);
        // An exact reference: what the model says.
        let mut own = items[0].clone();
        let said = &greedy[0].responses[0];
        let completion = format!(" {}\n", said.text);
        own.record.body = postgrad_data::Body::PromptCompletion { prompt: items[0].asked(), completion };
        let again = go(&options, &[own]);
        assert_eq!(again[0].responses[0].strict, !said.text.trim().is_empty());
        let mut wrong = options;
        wrong.rules.top_p = 2.0;
        assert!(run(&model, &asker, &items, Judge::Exact, &wrong, &Cancel::new(), |_, _| ()).is_err());
    }
}
