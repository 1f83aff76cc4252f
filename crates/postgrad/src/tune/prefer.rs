//! `tune --method dpo` and its family: from rows of better and worse answers to a run's folder.

use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result, Stream};
use postgrad_lab::table::grouped;
use postgrad_train::Checkpoints;
use postgrad_train::preference::data::{self, Read};
use postgrad_train::preference::{Group, HeadKind, Loss, Preference, Reading, RewardHead};
use postgrad_train::rewards::model::HEAD;
use postgrad_train::run_dir::RunDir;
use serde_json::{Value, json};

use crate::frame::App;
use crate::model::{OwnSettings, resolve_model};
use crate::tune::args::TuneArgs;
use crate::tune::method::{self, Judge};
use crate::tune::session::{Session, Tuned};
use crate::tune::{config, dtype, finish, place, prepare, recipe, session, told};

pub fn run(args: TuneArgs, loss: Loss, head: Option<HeadKind>, app: &App) -> Result<()> {
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
    prepare(&mut model, args, full)?;

    let parting = args.preference.judge == Judge::Parting;
    let reading = match head {
        Some(kind) => Reading { from_parting: parting, ..Reading::of_head(kind, settings.max_len) },
        None => Reading::of(&loss, settings.max_len, parting),
    };
    let (groups, held_out, read) = groups(args, &model.renderer, reading)?;
    let steps = settings.steps.unwrap_or((groups.len() as f64 * settings.epochs / settings.batch as f64).ceil() as u64);
    let mut warnings = model.warnings.clone();
    if read.over_long > 0 {
        warnings.push(format!("{} rows are longer than --max-len {} and left out", read.over_long, settings.max_len));
    }
    if read.empty > 0 {
        warnings.push(format!("{} rows have nothing to judge and are left out", read.empty));
    }
    let trainable: usize = model.decoder.params().iter().map(|p| p.len()).sum();
    let plan = json!({"method": args.method, "loss": loss, "settings": settings, "steps": steps, "groups": groups.len(),
        "held_out": held_out.len(), "trained_parameters": trainable, "parameters": model.decoder.parameter_count()});
    let text = [
        ("method", format!("{}: {}", args.method, about(&loss, head))),
        (
            "trained",
            format!("{} of {} parameters", grouped(trainable as u64), grouped(model.decoder.parameter_count() as u64)),
        ),
        ("data", format!("{} groups of answers, {} held out", groups.len(), held_out.len())),
        (
            "steps",
            format!("{} of {} groups, learning rate {:e}, {:?}", steps, settings.batch, settings.lr, settings.decay),
        ),
    ];
    if args.print_recipe {
        let mut changes = json!(loss);
        changes.as_object_mut().expect("a table").remove("form");
        let judge = if args.preference.judge == Judge::Parting { "parting" } else { "all" };
        let loss = if head.is_none() { changes } else { Value::Null };
        let own =
            json!({"method": args.method, "loss": loss, "judge": judge, "head": head, "max_len": settings.max_len});
        return recipe::print(args, full, &settings, Some(steps), "prefer", own);
    }
    if told(args, app, &plan, &text, &warnings)? {
        return Ok(());
    }
    if args.checkpoints.is_none() {
        settings.checkpoints = Checkpoints::Every(steps.div_ceil(10).max(1));
    }
    let mut own = json!({"loss": loss, "judge": format!("{:?}", args.preference.judge)});
    if let Some(kind) = head {
        own["head"] = json!(kind);
    }
    let (store, folder) = place(args)?;
    let session = Session {
        config: config(args, full, &settings, own)?,
        folder: folder.as_deref(),
        warnings,
        dtype: dtype(args, &model)?,
        ..session(args, app, &settings, if full { Tuned::Full } else { Tuned::Lora })
    };
    let head = head.map(|kind| RewardHead::new(kind, model.decoder.config.hidden));
    let done = session.run_with(&store, &mut model, |active, model| {
        let mut sink = active.sink()?;
        let dir = RunDir::held(&active.run.folder)?;
        session.warn(&dir, &mut *sink)?;
        let outcome = Preference {
            decoder: &model.decoder,
            settings: &settings,
            loss,
            head: head.as_ref(),
            groups: &groups,
            held_out: &held_out,
            sink: &mut *sink,
            cancel: app.cancel.clone(),
            progress,
            dir: Some(&dir),
        }
        .run()?;
        if let Some(head) = &head {
            head.save(&active.run.folder.join(HEAD))?;
        }
        Ok(outcome)
    })?;
    finish(&done, args, app)
}

/// What of the published settings is in force.
fn about(loss: &Loss, head: Option<HeadKind>) -> String {
    match head {
        Some(HeadKind::Outcome) => return "cross-entropy of right and wrong at an answer's last token".into(),
        Some(HeadKind::Process) => return "cross-entropy of right and wrong at the last token of each step".into(),
        Some(HeadKind::Pairwise) | None => {}
    }
    let value = serde_json::to_value(loss).unwrap_or_default();
    let list = value.as_object().into_iter().flatten();
    let off = |v: &serde_json::Value| v.is_null() || v.as_f64() == Some(0.0);
    list.filter(|(_, v)| !off(v))
        .map(|(k, v)| format!("{k} {}", v.to_string().replace('"', "")))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Groups to train on and those held out.
fn groups(
    args: &TuneArgs,
    renderer: &postgrad_data::Renderer,
    reading: Reading,
) -> Result<(Vec<Group>, Vec<Group>, Read)> {
    let mut read = data::read(&args.data, renderer, reading)?;
    let mut groups = std::mem::take(&mut read.groups);
    if !args.eval_data.is_empty() {
        let held_out = data::read(&args.eval_data, renderer, reading)?.groups;
        return Ok((groups, held_out, read));
    }
    let n = args.hold_out.unwrap_or(100.min(groups.len() / 10));
    if n >= groups.len() {
        return Err(
            Error::usage(format!("{n} groups to hold out of {}", groups.len())).help("give a smaller --hold-out")
        );
    }
    let mut chosen = Stream::new(args.seed, &["data", "hold-out"]).sample(groups.len(), n);
    chosen.sort_unstable();
    let held_out: Vec<Group> = chosen.iter().map(|i| groups[*i].clone()).collect();
    let mut at = 0;
    groups.retain(|_| {
        at += 1;
        chosen.binary_search(&(at - 1)).is_err()
    });
    Ok((groups, held_out, read))
}
