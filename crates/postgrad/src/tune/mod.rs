//! `tune`: one fine-tune by flags. From the model and the data to a run's folder with the tuned model and a report.

pub mod args;
mod distill;
mod examples;
mod method;
pub mod plan;
mod prefer;
mod recipe;
mod reinforce;
pub mod session;

use std::path::PathBuf;

use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result, Stream};
use postgrad_lab::Store;
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::optim::name_matches;
use postgrad_nn::select::{Select, Selection};
use postgrad_reason::ModelFolder;
use postgrad_train::{Checkpoints, Settings};
use serde_json::{Value, json};

use crate::frame::{App, say};
use crate::model::{OwnSettings, resolve_model};
use crate::runs::root;
pub use crate::tune::args::TuneArgs as Args;
use crate::tune::args::{Switch, TuneArgs};
use crate::tune::examples::{DataSource, EvalData};
use crate::tune::session::{Session, Tuned};

pub fn run(args: Args, app: &App) -> Result<()> {
    match method::Which::of(&args)? {
        method::Which::Sft => supervised(args, app),
        method::Which::Preference(loss) => prefer::run(args, loss, None, app),
        method::Which::RewardModel(loss, head) => prefer::run(args, loss, Some(head), app),
        method::Which::Distill(way) => distill::run(args, way, app),
        method::Which::Reinforce(method) => reinforce::run(args, *method, app),
    }
}

fn supervised(args: Args, app: &App) -> Result<()> {
    let args = &args;
    let progress = if app.json { Mode::Json } else { Mode::Auto };
    let mut model = resolve_model(&args.model, None)?;
    if matches!(args.template, Switch::Off) {
        model.renderer = model.renderer.without_template()?;
    }
    let own = OwnSettings::of(&model)?;
    let select = args.selection()?;
    let full = args.full || select.is_some() || (own.as_ref().is_some_and(|o| o.full) && !args.lora);
    let mut settings = args.settings(full, own.as_ref(), model.decoder.config.max_position_embeddings)?;
    let may_grow = full && select.as_ref().is_none_or(Select::trains_embeddings);
    if let Some(corrupt) = &args.corrupt {
        settings.corrupt = Some(corrupt.prepare(&mut model, may_grow).map_err(|e| e.at("--corrupt"))?);
    }
    let trained = if full { Tuned::Full } else { Tuned::Lora };
    let mut selection = prepare(&mut model, args, full)?;

    let (mut source, mut evals) = data(args, &model, &settings)?;
    let report = source.report().clone();
    let mut warnings = model.warnings.clone();
    warnings.extend(report.warnings());

    let tell = |text: &str| {
        if !app.json {
            eprintln!("{text}")
        }
    };
    for (file, kind) in &report.kinds {
        tell(&format!("{file}: {}", kind.name()));
    }
    tell(model.renderer.says());
    warnings.iter().for_each(|w| tell(&format!("warning: {w}")));
    let mut plan = plan::Plan::new(&model, &settings, &source, trained);
    if let Some(selection) = &selection {
        plan = plan.selected(selection.share());
    }
    if args.dry_run {
        let plan = plan.measured(&model, &mut source)?;
        if progress == Mode::Json {
            say!("{}", plan.to_json())
        } else {
            say!("{}", plan.to_text(own.is_some()))
        }
        return Ok(());
    }
    tell(&plan.to_text(own.is_some()));
    if args.print_recipe {
        let own = json!({"normalizer": settings.normalizer, "max_len": settings.max_len, "corrupt": args.corrupt, "select": select});
        return recipe::print(args, full, &settings, plan.steps(), "sft", own);
    }
    if let (None, Some(steps)) = (&args.checkpoints, plan.steps()) {
        settings.checkpoints = Checkpoints::Every(steps.div_ceil(10));
    }

    let (store, folder) = place(args)?;
    let session = Session {
        config: config(args, full, &settings, json!({"dropout": args.dropout, "select": select}))?,
        folder: folder.as_deref(),
        warnings,
        delta: matches!(select, Some(Select::Lift(_))),
        dtype: dtype(args, &model)?,
        ..session(args, app, &settings, trained)
    };
    let done = session.run(&store, &mut model, &mut source, &mut evals, selection.as_mut())?;
    tell(&format!("{} steps, {:.0} tokens/s, {}", done.outcome.steps, done.outcome.tokens_per_s, done.summary()));
    if progress == Mode::Json {
        say!("{}", done.to_json());
    } else {
        say!("model   {}", done.made.display());
        say!("report  {}", done.report.display());
        say!("next    postgrad chat --model {}", done.id);
    }
    Ok(())
}

/// The store, and the folder of a run that is gone on with, or named.
fn place(args: &TuneArgs) -> Result<(Store, Option<PathBuf>)> {
    let store = Store::open(&root(None))?;
    let folder = match &args.resume {
        Some(run) => Some(store.run(run)?.folder),
        None => args.out.clone(),
    };
    Ok((store, folder))
}

/// The resolved configuration of a run: what every method has, and `own`.
fn config(args: &TuneArgs, full: bool, settings: &Settings, own: Value) -> Result<Value> {
    let mut config = json!({"method": args.method, "model": args.model, "data": args.data, "eval_data": args.eval_data,
        "tuned": if full { "full" } else { "lora" }, "rank": args.rank, "alpha": args.lora_spec()?.alpha,
        "rank_stabilized": args.rank_stabilized, "train": args.train, "settings": settings});
    for (key, value) in own.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    Ok(config)
}

/// A session by the flags alone.
fn session<'a>(args: &'a TuneArgs, app: &App, settings: &'a Settings, trained: Tuned) -> Session<'a> {
    Session {
        kind: &args.method,
        name: &args.name,
        config: Value::Null,
        data: args.data.join(" "),
        folder: None,
        settings,
        trained,
        warnings: vec![],
        cancel: app.cancel.clone(),
        progress: if app.json { Mode::Json } else { Mode::Auto },
        merge: args.merge,
        delta: false,
        dtype: Dtype::F32,
    }
}

/// Says what a preference or reinforcement run will do; true where that was all that was asked.
fn told(
    args: &TuneArgs,
    app: &App,
    plan: &serde_json::Value,
    text: &[(&str, String)],
    warnings: &[String],
) -> Result<bool> {
    if app.json {
        if args.dry_run {
            say!("{plan}");
        }
        return Ok(args.dry_run);
    }
    warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    for (name, value) in text {
        if args.dry_run { say!("{name:8} {value}") } else { eprintln!("{name:8} {value}") }
    }
    Ok(args.dry_run)
}

/// The last lines of such a run.
fn finish(done: &session::Done, args: &TuneArgs, app: &App) -> Result<()> {
    if app.json {
        say!("{}", done.to_json());
        return Ok(());
    }
    eprintln!("{} steps, {:.0} tokens/s, {}", done.outcome.steps, done.outcome.tokens_per_s, done.summary());
    say!("model   {}", done.made.display());
    say!("report  {}", done.report.display());
    if args.method == "reward" {
        let run = done.report.with_file_name("");
        say!("next    postgrad tune --method grpo --reward model:{} ...", run.display());
    } else {
        say!("next    postgrad chat --model {}", done.id);
    }
    Ok(())
}

/// Chooses what is trained.
fn prepare(model: &mut ModelFolder, args: &TuneArgs, full: bool) -> Result<Option<Selection>> {
    if let Some(select) = args.selection()? {
        let stream = Stream::new(args.seed, &["tune", "select"]);
        return Selection::begin(&select, &mut model.decoder, &stream).map(Some);
    }
    if !full {
        let stream = Stream::new(args.seed, &["tune", "adapter"]);
        // An adapter that came with the model stays on, frozen, and the new one is trained beside it.
        let name = if model.decoder.adapters.is_empty() { "adapter" } else { "new" };
        return model.decoder.add_lora(name, args.lora_spec()?, &stream).map(|()| None);
    }
    let wanted = |name: &str| args.train.is_empty() || args.train.iter().any(|p| name_matches(p, name));
    model.decoder.weights.train(wanted);
    if model.decoder.weights.params().is_empty() {
        return Err(Error::usage(format!("no weight matches {}", args.train.join(", ")))
            .help("names are those of model.safetensors, for example model.layers.*.mlp.*"));
    }
    Ok(None)
}

/// The training source and the evaluation set.
fn data(args: &TuneArgs, model: &ModelFolder, settings: &Settings) -> Result<(DataSource, Vec<EvalData>)> {
    let renderer = std::sync::Arc::new(model.renderer.clone());
    let spec = args.data_spec(&args.data, settings.max_len)?;
    let mut source = DataSource::open(spec, renderer.clone())?;
    // With a number of steps, data larger than time allows is not read through before training begins.
    if args.steps.is_none() || args.hold_out.is_some_and(|n| n > 0) {
        source.measure()?;
    }
    let built_in = args.data.len() == 1 && args.data[0] == "gsm8k";
    let eval = if !args.eval_data.is_empty() {
        args.eval_data.clone()
    } else if built_in && args.hold_out.is_none() {
        vec!["gsm8k:test".to_string()]
    } else {
        vec![]
    };
    let answers = args.eval_answers.unwrap_or(if built_in { 200 } else { 0 });
    let set = if eval.is_empty() {
        let n = args.hold_out.unwrap_or_else(|| 100.min(source.count().unwrap_or(0) as usize / 10));
        source.hold_out(n, args.seed)?
    } else {
        EvalData::read(args.data_spec(&eval, settings.max_len)?, renderer)?
    };
    let sets = if set.is_empty() { vec![] } else { vec![set.answering(answers, args.max_answer)] };
    Ok((source, sets))
}

fn dtype(args: &TuneArgs, model: &ModelFolder) -> Result<Dtype> {
    let Some(name) = &args.dtype else { return Ok(model.decoder.config.dtype) };
    Dtype::parse(name).ok_or_else(|| Error::unknown("number format", name, &["f32", "bf16", "f16"], None))
}

/// Where a run's model is.
pub fn made_path(folder: &std::path::Path, trained: Tuned) -> PathBuf {
    folder.join(match trained {
        Tuned::Full => "model",
        Tuned::Lora => "adapter",
    })
}
