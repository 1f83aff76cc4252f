//! `tune --method grpo` and its family: from prompts and rewards to a run's folder.

use std::cell::RefCell;
use std::sync::Arc;

use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result, Stream};
use postgrad_data::record::Layout;
use postgrad_data::{Columns, Example, Kind as RecordKind, Roles};
use postgrad_lab::table::grouped;
use postgrad_nn::Decoder;
use postgrad_nn::logits::Rules;
use postgrad_reason::ModelFolder;
use postgrad_reason::generate::{Options, answers};
use postgrad_train::prompts::{self, Prompt};
use postgrad_train::rewards::{Rewards, Sample};
use postgrad_train::rl::{CurriculumSpec, Extras, Method, OnPolicy, Supervised, total_steps};
use postgrad_train::run_dir::RunDir;
use postgrad_train::{Checkpoints, Settings};
use serde_json::json;

use crate::builtin::{resolve_data, task_draw, task_of};
use crate::frame::{App, say};
use crate::model::{OwnSettings, resolve_model};
use crate::task_rows::Side;
use crate::tune::args::TuneArgs;
use crate::tune::examples::EvalData;
use crate::tune::method;
use crate::tune::session::{Session, Tuned};
use crate::tune::{config, dtype, finish, place, prepare, recipe, session, told};

pub fn run(args: TuneArgs, way: Method, app: &App) -> Result<()> {
    let args = &args;
    method::refuse(args)?;
    let progress = if app.json { Mode::Json } else { Mode::Auto };
    let mut model = resolve_model(&args.model, None)?;
    if !method::templated(args) {
        model.renderer = model.renderer.without_template()?;
    }
    let own = OwnSettings::of(&model)?;
    let full = args.full || (own.as_ref().is_some_and(|o| o.full) && !args.lora);
    let context = model.decoder.config.max_position_embeddings;
    let mut settings = method::settings(args, full, own.as_ref(), context)?;
    if way.max_tokens >= context {
        let max = way.max_tokens;
        return Err(Error::usage(format!("--max-tokens is {max}, the model's context {context}")));
    }
    let mut rewards = args.reinforce.rewards(way.max_tokens)?;
    way.fits(&rewards)?;
    let spec = args.reinforce.curriculum()?;
    let (train, exam) = data(args, &model, context - way.max_tokens)?;
    if args.reinforce.try_reward {
        return try_reward(&model, &way, &train, &mut rewards, args.seed, app);
    }
    let curriculum = spec.over(&train, settings.seed).map_err(|e| e.at("--curriculum"))?;
    prepare(&mut model, args, full)?;
    let answered = supervised(args, &model, &settings)?;
    let steps = total_steps(&settings, &way, train.len(), args.reinforce.sft_every);
    if args.print_recipe {
        let supervised =
            args.reinforce.sft_every.map(|n| json!({"data": "@lessons", "every": n, "batch": settings.batch}));
        let own = json!({"method": args.method, "with": way, "rewards": rewards.specs(), "curriculum": args.reinforce.curriculum,
            "supervised": supervised, "shuffle_rewards": args.reinforce.shuffle_rewards, "guard": !args.reinforce.no_guard});
        return recipe::print(args, full, &settings, Some(steps), "rl", own);
    }
    let plan =
        Plan { way: &way, rewards: rewards.specs(), spec: &spec, settings: &settings, steps, answered: answered.len() };
    let warnings = model.warnings.clone();
    let (value, text) = plan.told(args, &model, train.len(), exam.len());
    if told(args, app, &value, &text, &warnings)? {
        return Ok(());
    }
    if args.checkpoints.is_none() {
        settings.checkpoints = Checkpoints::Every(steps.div_ceil(10).max(1));
    }
    let mut own = json!({"way": way, "rewards": rewards.specs(), "shuffle": args.reinforce.shuffle_rewards});
    if spec != CurriculumSpec::Passes {
        own["curriculum"] = json!(spec);
    }
    if let Some(every) = args.reinforce.sft_every {
        own["supervised"] = json!({"data": args.reinforce.sft_data, "every": every});
    }
    let (store, folder) = place(args)?;
    let session = Session {
        config: config(args, full, &settings, own)?,
        folder: folder.as_deref(),
        warnings,
        dtype: dtype(args, &model)?,
        ..session(args, app, &settings, if full { Tuned::Full } else { Tuned::Lora })
    };
    let of = |every| Supervised { examples: &answered, every, batch: settings.batch };
    let supervised = args.reinforce.sft_every.map(of);
    let verdicts: RefCell<Vec<Vec<bool>>> = RefCell::new(Vec::new());
    let done = session.run_with(&store, &mut model, |active, model| {
        let mut sink = active.sink()?;
        let dir = RunDir::held(&active.run.folder)?;
        session.warn(&dir, &mut *sink)?;
        let ask = |d: &Decoder| {
            let marks = marks(model, d, &exam, way.max_tokens, app)?;
            verdicts.borrow_mut().push(marks.clone());
            Ok(marks)
        };
        let (outcome, _) = OnPolicy {
            model,
            settings: &settings,
            method: &way,
            prompts: &train,
            rewards: &mut rewards,
            exam: if exam.is_empty() { None } else { Some(&ask) },
            shuffle_rewards: args.reinforce.shuffle_rewards,
            guard: !args.reinforce.no_guard,
            sink: &mut *sink,
            cancel: app.cancel.clone(),
            progress,
            dir: Some(&dir),
            extras: Extras { curriculum: Some(curriculum), supervised, ..Extras::default() },
        }
        .run()?;
        drop(sink);
        session.put_items(&store, &active.run.id, &verdicts.borrow())?;
        Ok(outcome)
    })?;
    finish(&done, args, app)
}

/// What a run is to do, for `--dry-run` and the first lines.
struct Plan<'a> {
    way: &'a Method,
    rewards: &'a [String],
    spec: &'a CurriculumSpec,
    settings: &'a Settings,
    steps: u64,
    /// Examples of supervised updates.
    answered: usize,
}

impl Plan<'_> {
    fn told(
        &self,
        args: &TuneArgs,
        model: &ModelFolder,
        prompts: usize,
        asked: usize,
    ) -> (serde_json::Value, Vec<(&'static str, String)>) {
        let (way, settings, steps) = (self.way, self.settings, self.steps);
        let (sft_every, answered) = (args.reinforce.sft_every, self.answered);
        let trainable: usize = model.decoder.params().iter().map(|p| p.len()).sum();
        let all = model.decoder.parameter_count();
        let value = json!({"method": args.method, "way": way, "rewards": self.rewards, "curriculum": self.spec,
            "settings": settings, "steps": steps, "prompts": prompts, "eval_prompts": asked, "sft_every": sft_every,
            "sft_examples": answered, "trained_parameters": trainable, "parameters": all});
        let (o, method) = (&way.objective, &args.method);
        let (group, max) = (way.group, way.max_tokens);
        let mut text = vec![
            (
                "method",
                format!("{method}: {group} samples a prompt, {max} tokens at most, KL {}, clip {:?}", o.kl, o.clip),
            ),
            ("rewards", self.rewards.join(", ")),
            ("trained", format!("{} of {} parameters", grouped(trainable as u64), grouped(all as u64))),
            ("data", format!("{prompts} prompts, {asked} to be asked before and after")),
            (
                "steps",
                format!("{steps} of {} prompts, learning rate {:e}, {:?}", settings.batch, settings.lr, settings.decay),
            ),
        ];
        if let Some(given) = &args.reinforce.curriculum {
            text.push(("curriculum", given.clone()));
        }
        if let Some(every) = sft_every {
            text.push((
                "supervised",
                format!("an update on {} of {answered} examples every {every} iterations", settings.batch),
            ));
        }
        (value, text)
    }
}

/// Examples of supervised updates between iterations.
fn supervised(args: &TuneArgs, model: &ModelFolder, settings: &Settings) -> Result<Vec<Example>> {
    if args.reinforce.sft_data.is_empty() {
        return Ok(vec![]);
    }
    let spec = args.data_spec(&args.reinforce.sft_data, settings.max_len)?;
    Ok(EvalData::read(spec, Arc::new(model.renderer.clone())).map_err(|e| e.at("--sft-data"))?.examples)
}

/// Prompts to train on, and prompts with something to judge by that are only asked.
fn data(args: &TuneArgs, model: &ModelFolder, room: usize) -> Result<(Vec<Prompt>, Vec<Prompt>)> {
    let mut train = read(args, &args.data, model, room, Side::Train)?;
    let judged = |p: &Prompt| p.problem.is_some() || p.reference.is_some();
    let asked = args.eval_answers.unwrap_or(100);
    if !args.eval_data.is_empty() {
        let mut exam = read(args, &args.eval_data, model, room, Side::Test)?;
        exam.retain(judged);
        exam.truncate(args.eval_answers.unwrap_or(usize::MAX));
        return Ok((train, exam));
    }
    let able = train.iter().filter(|p| judged(p)).count();
    let n = args.hold_out.unwrap_or(asked.min(able / 10));
    if n >= train.len() {
        return Err(
            Error::usage(format!("{n} prompts to hold out of {}", train.len())).help("give a smaller --hold-out")
        );
    }
    let mut order: Vec<usize> = (0..train.len()).filter(|i| judged(&train[*i])).collect();
    Stream::new(args.seed, &["data", "hold-out"]).shuffle(&mut order);
    order.truncate(n);
    order.sort_unstable();
    let exam = order.iter().map(|i| train[*i].clone()).collect();
    for i in order.into_iter().rev() {
        train.remove(i);
    }
    Ok((train, exam))
}

fn read(args: &TuneArgs, data: &[String], model: &ModelFolder, room: usize, side: Side) -> Result<Vec<Prompt>> {
    let layout = Layout {
        kind: args.kind.as_deref().map(str::parse::<RecordKind>).transpose()?,
        columns: args.columns.as_deref().map(str::parse::<Columns>).transpose()?.unwrap_or_default(),
        roles: args.roles.as_deref().map(str::parse::<Roles>).transpose()?.unwrap_or_default(),
    };
    let mut all = Vec::new();
    for word in data {
        match task_of(word) {
            Some(spec) => {
                for (problem, _, rendering) in task_draw(spec, side)?.problems()? {
                    all.push(Prompt::of_problem(problem, &rendering, &model.renderer)?);
                }
            }
            None => all.extend(prompts::read(&[resolve_data(word)?], &layout, &model.renderer, room)?),
        }
    }
    Ok(all)
}

/// Greedy answers to prompts, right or wrong.
fn marks(model: &ModelFolder, decoder: &Decoder, exam: &[Prompt], max_tokens: usize, app: &App) -> Result<Vec<bool>> {
    let now = ModelFolder { decoder: decoder.clone(), ..model.clone() };
    let ids: Vec<Vec<u32>> = exam.iter().map(|p| p.ids.clone()).collect();
    let given = answers(&now, &ids, &Options { places: 128, ..Options::greedy(max_tokens) }, &app.cancel)?;
    Ok(given.iter().zip(exam).map(|(a, p)| !a.truncated && p.judge(&a.text).is_some_and(|j| j.correct)).collect())
}

/// Shows what the rewards make of eight samples.
fn try_reward(
    model: &ModelFolder,
    way: &Method,
    train: &[Prompt],
    rewards: &mut Rewards,
    seed: u64,
    app: &App,
) -> Result<()> {
    let few = &train[..train.len().min(2)];
    let options = Options {
        rules: Rules { temperature: way.temperature, top_p: way.top_p, top_k: way.top_k, ..Rules::default() },
        seed: Stream::new(seed, &["sample", "try"]).next_u64(),
        n: 8 / few.len().max(1),
        ..Options::greedy(way.max_tokens)
    };
    let ids: Vec<Vec<u32>> = few.iter().map(|p| p.ids.clone()).collect();
    let given = answers(model, &ids, &options, &app.cancel)?;
    let samples: Vec<Sample> = given
        .iter()
        .map(|a| Sample {
            prompt: &few[a.prompt],
            completion: &a.text,
            tokens: &a.completion.tokens,
            truncated: a.truncated,
            step: 0,
        })
        .collect();
    let scored = rewards.score(&samples)?;
    let names = rewards.names();
    if app.json {
        let row = |(s, r): (&Sample, &postgrad_train::rewards::Rewarded)| {
            let parts: serde_json::Map<String, serde_json::Value> =
                names.iter().cloned().zip(r.parts.iter().map(|p| json!(p))).collect();
            json!({"prompt": s.prompt.text, "completion": s.completion, "tokens": s.tokens.len(), "truncated": s.truncated,
                "reward": r.total, "parts": parts, "metrics": r.metrics})
        };
        return app.value(&samples.iter().zip(&scored).map(row).collect::<Vec<_>>());
    }
    let mut before = "";
    for (s, r) in samples.iter().zip(&scored) {
        if s.prompt.text != before {
            say!("\nprompt      {}", s.prompt.text);
            before = &s.prompt.text;
        }
        let part = |(n, p): (&String, &Option<f64>)| p.map_or(format!("{n} left out"), |p| format!("{n} {p:.3}"));
        let parts: Vec<String> = names.iter().zip(&r.parts).map(part).collect();
        let cut = if s.truncated { ", cut off" } else { "" };
        say!("\ncompletion  {}", s.completion.trim());
        say!("reward      {:.3}  ({}; {} tokens{cut})", r.total, parts.join(", "), s.tokens.len());
    }
    Ok(())
}
