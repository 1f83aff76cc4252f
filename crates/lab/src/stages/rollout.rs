//! `rollout`: a model's responses to each question of a data set, judged, until every question has enough.
//!
//! `samples.jsonl` holds one row a trial, in the order of questions and trials: `question` (its number in the data), `trial`,
//! `response`, `extracted` (the answer found), `correct` (accepted), `truncated`, `tokens`, `log_prob` (of the model at
//! temperature 1) and `behaviour` (of what was drawn from), both sums in nats. `stats.jsonl` holds one row a question: `query`,
//! `n_trials`, `n_corrects`, `pass_rate`. Rows: `accuracy` (the pass rate), `trials`, `corrects`.
//!
//! A question leaves when it has `target` accepted responses or `trials` trials; `targets` names a stage or a file that gives
//! each question its own (`{"question": 0, "target": 4, "cap": 64}`; a target of null: all trials). Sample `i` of question `q`
//! is a function of the seed, `q` and `i`: stages that differ in their stop rules alone begin with the same samples. A killed
//! stage goes on where it was; `shard = "2/4"` does a quarter of the questions.

use postgrad_audit::{Asker, Item as Asked};
use postgrad_base::progress::Progress;
use postgrad_base::{Context, Error, Result, fs, jsonl};
use postgrad_data::Body;
use postgrad_nn::logits::Rules;
use postgrad_reason::rollout::{Log, Sampler, Shard, StopRule, Tally, run};
use postgrad_reason::{Check, Options, Verifier};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stage::{Cx, Input, Stage};
use crate::stages::eval::row;

pub struct Rollout;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Input,
    /// Questions with answers, or problems of a task.
    pub data: Input,
    /// The first questions alone.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Accepted responses that are enough; without it all trials are made.
    #[serde(default)]
    pub target: Option<usize>,
    /// Trials of a question at most.
    #[serde(default = "trials")]
    pub trials: usize,
    /// Each question's own rule, in place of `target` and `trials`.
    #[serde(default)]
    pub targets: Option<Input>,
    /// Trials of a question between two looks at its rule.
    #[serde(default = "batch")]
    pub batch: usize,
    #[serde(default = "one")]
    pub temperature: f32,
    #[serde(default = "one")]
    pub top_p: f32,
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    #[serde(default)]
    pub stop: Vec<String>,
    #[serde(default)]
    pub system: Option<String>,
    /// Put after each question, on a line of its own.
    #[serde(default)]
    pub ask: Option<String>,
    /// Accept a right answer wherever it stands (the last number of a text), not only where it is marked.
    #[serde(default)]
    pub flexible: bool,
    #[serde(default)]
    pub shard: Shard,
    /// Sequences at a time.
    #[serde(default = "places")]
    pub places: usize,
    /// Stages of other names here draw independent samples.
    #[serde(default)]
    pub stream: String,
}

fn trials() -> usize {
    16
}
fn batch() -> usize {
    8
}
fn one() -> f32 {
    1.0
}
fn max_tokens() -> usize {
    512
}
fn places() -> usize {
    64
}

/// A question's rule, as `targets` files hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub question: usize,
    #[serde(flatten)]
    pub rule: StopRule,
}

/// A row of `stats.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub question: usize,
    pub query: String,
    pub n_trials: usize,
    pub n_corrects: usize,
    pub pass_rate: f64,
}

impl Stats {
    fn of(question: usize, query: String, tally: &Tally) -> Self {
        let (n_trials, n_corrects) = (tally.trials(), tally.accepted);
        Self { question, query, n_trials, n_corrects, pass_rate: n_corrects as f64 / n_trials.max(1) as f64 }
    }
}

impl Config {
    fn options(&self) -> Options {
        let rules = Rules { temperature: self.temperature, top_p: self.top_p, ..Rules::default() };
        Options { rules, stop: self.stop.clone(), places: self.places, ..Options::greedy(self.max_tokens) }
    }

    /// Every question's rule.
    fn rules(&self, questions: usize, cx: &Cx) -> Result<Vec<StopRule>> {
        let Some(input) = &self.targets else {
            return Ok(vec![StopRule { target: self.target, cap: self.trials }; questions]);
        };
        let mut rules = vec![None; questions];
        for path in cx.files(input, "targets")? {
            for row in jsonl::read::<Target>(&path)? {
                let (line, target) = row?;
                let place = rules.get_mut(target.question).ok_or_else(|| {
                    Error::usage(format!("there is no question {} among {questions}", target.question))
                        .at_line(&path, line)
                });
                *place? = Some(target.rule);
            }
        }
        let lacks = |i| Error::usage(format!("question {i} has no target")).at(input);
        rules.into_iter().enumerate().map(|(i, rule)| rule.ok_or_else(|| lacks(i))).collect()
    }
}

impl Stage for Rollout {
    const NAME: &'static str = "rollout";
    const ABOUT: &'static str = "a model's judged responses to each question, until it has enough";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["sample"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if let Some(fault) = config.options().rules.fault() {
            return Err(Error::usage(fault));
        }
        if config.temperature == 0.0 && (config.trials > 1 || config.targets.is_some()) {
            return Err(Error::usage("several trials of a greedy model are all the same").help("give a temperature"));
        }
        if config.batch == 0 || config.trials == 0 || config.max_tokens == 0 {
            return Err(Error::usage("`batch`, `trials` and `max_tokens` are 1 or more"));
        }
        if config.targets.is_some() && config.target.is_some() {
            return Err(Error::usage("`target` and `targets` exclude each other"));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let model = cx.model(&config.model)?;
        let mut items = cx.items(&config.data)?;
        items.truncate(config.limit.unwrap_or(usize::MAX));
        let asker = Asker { system: config.system.clone(), ..Asker::new(model.renderer.clone()) };
        let with_ask = |item: &Asked| asked_with(item, config.ask.as_deref());
        let prompts: Vec<Vec<u32>> = items
            .iter()
            .enumerate()
            .map(|(i, item)| Ok(asker.prompt(i, &with_ask(item))?.ids))
            .collect::<Result<_>>()?;
        let verifier = Verifier::new(items.iter().map(check_of).collect::<Result<_>>()?)?;
        let rules = config.rules(items.len(), cx)?;
        let pool: Vec<(usize, StopRule)> =
            rules.into_iter().enumerate().filter(|(q, _)| config.shard.has(*q)).collect();

        let (part, whole) = (cx.out.join("samples.part.jsonl"), cx.out.join("samples.jsonl"));
        if whole.exists() && !part.exists() {
            // Killed after the samples were complete: they are the log again.
            std::fs::rename(&whole, &part).context(|| format!("cannot rename {}", whole.display()))?;
        }
        fs::sweep(&cx.out);
        let mut log = Log::open(&part)?;
        let options = config.options();
        let sampler = Sampler {
            model: &model,
            prompts: &prompts,
            verifier: &verifier,
            options: &options,
            stream: cx.stream("sample").child(&config.stream),
            flexible: config.flexible,
        };
        let mut progress = Progress::new(cx.progress, "rollout", pool.len() as u64);
        let mut made = postgrad_reason::rollout::Progress::default();
        let told = |p: &postgrad_reason::rollout::Progress| {
            made = *p;
            progress.set(p.finished as u64, &format!("{} trials, {} accepted", p.trials, p.accepted));
        };
        let tallies = run(&pool, config.batch, &mut log, |asks, give| sampler.draw(asks, &cx.cancel, give), told)?;
        progress.finish();
        log.finish(&whole)?;
        cx.spend("trials", made.trials as u64);
        cx.spend("sampled_tokens", made.tokens as u64);

        let stats: Vec<Stats> =
            pool.iter().zip(&tallies).map(|((q, _), tally)| Stats::of(*q, items[*q].asked(), tally)).collect();
        cx.write_jsonl("stats.jsonl", &stats)?;
        let figures = |s: &Stats| json!({"accuracy": s.pass_rate, "trials": s.n_trials, "corrects": s.n_corrects});
        cx.write_rows(&stats.iter().map(|s| row(&items[s.question], figures(s))).collect::<Vec<_>>())
    }
}

/// The item with words after its question.
pub(super) fn asked_with(item: &Asked, ask: Option<&str>) -> Asked {
    let mut item = item.clone();
    let Some(ask) = ask else { return item };
    let add = |text: &mut String| *text = format!("{text}\n{ask}");
    match &mut item.record.body {
        Body::PromptCompletion { prompt, .. } => add(prompt),
        Body::Messages(turns) => {
            let last = turns.iter().rposition(|t| t.role == "assistant").unwrap_or(turns.len());
            if let Some(turn) = turns[..last].iter_mut().rev().find(|t| t.role == "user") {
                add(&mut turn.content);
            }
        }
        Body::Text(_) => {}
    }
    item
}

pub(super) fn check_of(item: &Asked) -> Result<Check> {
    match &item.problem {
        Some(problem) => Ok(Check::Problem(problem.clone())),
        None => Ok(Check::Gold(item.question()?.1.content)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Kind, Place, alone, golden};
    use postgrad_reason::rollout::Sample;
    use serde_json::Value;
    use std::path::{Path, PathBuf};

    /// The fixture's model, and three questions in a file that lives as long as the folder.
    fn inputs() -> (tempfile::TempDir, Vec<(&'static str, Place)>) {
        let dir = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let data = dir.path().join("q.jsonl");
        let add = postgrad_tasks::task("add").unwrap();
        let row = |i: u64| {
            let mut own = postgrad_base::Stream::new(i, &["data"]);
            let problem = add.generate(&mut own, &add.difficulty("digits=1").unwrap()).unwrap();
            json!({"prompt": problem.prompt, "completion": problem.answer, "problem": problem}).to_string()
        };
        std::fs::write(&data, (0..3).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        let targets = dir.path().join("t.jsonl");
        let rows = [(0, json!(null), 5), (1, json!(1), 3), (2, json!(0), 9)];
        let rows = rows.map(|(q, t, c)| json!({"question": q, "target": t, "cap": c}).to_string());
        std::fs::write(&targets, rows.join("\n")).unwrap();
        let data_of = |p: PathBuf| Place::Data(vec![p.display().to_string()]);
        (dir, vec![("base", Place::Model(model)), ("data", data_of(data)), ("targets", data_of(targets))])
    }

    fn samples(dir: &Path) -> Vec<Sample> {
        jsonl::read(&dir.join("samples.jsonl")).unwrap().map(|r| r.unwrap().1).collect()
    }

    fn made(config: Value) -> Vec<Sample> {
        let (_dir, inputs) = inputs();
        let out = tempfile::tempdir().unwrap();
        alone(&Kind::of::<Rollout>(), &config, &inputs, 0, out.path()).unwrap();
        samples(out.path())
    }

    fn config(more: Value) -> Value {
        let mut all = json!({"model": "@base", "data": "@data", "trials": 6, "max_tokens": 6, "ask": "Think."});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    }

    #[test]
    fn golden_run() {
        let (_dir, inputs) = inputs();
        golden(&Kind::of::<Rollout>(), &config(json!({"target": 2, "flexible": true})), &inputs, "3f6509eef7b28711");
    }

    #[test]
    fn questions_have_rules_of_their_own_and_begin_with_the_same_samples() {
        let all = made(config(json!({})));
        assert_eq!(all.len(), 18);
        let some =
            made(json!({"model": "@base", "data": "@data", "max_tokens": 6, "ask": "Think.", "targets": "@targets"}));
        let count = |q| some.iter().filter(|s| s.question == q).count();
        assert_eq!((count(0), count(1), count(2)), (5, 3, 0));
        assert!(some.iter().all(|s| all.contains(s)));
        let shard = made(config(json!({"shard": "2/2"})));
        assert!(shard.iter().all(|s| s.question == 1 && all.contains(s)) && shard.len() == 6);
        let other = made(config(json!({"stream": "again"})));
        assert!(other.iter().all(|s| !all.contains(s)));
    }

    #[test]
    fn a_stage_killed_at_its_end_goes_on_from_its_samples() {
        let (_dir, inputs) = inputs();
        let out = tempfile::tempdir().unwrap();
        let run = || alone(&Kind::of::<Rollout>(), &config(json!({})), &inputs, 0, out.path()).unwrap();
        run();
        let before = std::fs::read(out.path().join("samples.jsonl")).unwrap();
        let spent = run().spent();
        assert!(std::fs::read(out.path().join("samples.jsonl")).unwrap() == before);
        assert_eq!(spent["trials"], 18);
    }

    #[test]
    fn wrong_configurations_say_so() {
        for bad in [
            json!({"temperature": 0.0}),
            json!({"batch": 0}),
            json!({"top_p": 0.0}),
            json!({"shard": "3/2"}),
            json!({"target": 1, "targets": "@targets"}),
        ] {
            assert!((Kind::of::<Rollout>().resolve)(&config(bad.clone())).is_err(), "{bad}");
        }
        let (_dir, inputs) = inputs();
        let out = tempfile::tempdir().unwrap();
        let few = json!({"model": "@base", "data": "@data", "targets": "@targets", "limit": 2});
        let e = alone(&Kind::of::<Rollout>(), &few, &inputs, 0, out.path()).err().unwrap();
        assert!(e.exit_code() == 2 && e.to_string().contains("t.jsonl:3"), "{e}");
    }
}
