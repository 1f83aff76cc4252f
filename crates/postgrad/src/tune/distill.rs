//! `tune --method distill` and `gkd`: from a teacher and examples to a run's folder.

use std::cell::RefCell;

use clap::{Args, ValueEnum};
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result};
use postgrad_data::Example;
use postgrad_lab::table::grouped;
use postgrad_nn::Decoder;
use postgrad_train::distill::{Distill, Divergence, OwnSamples};
use postgrad_train::run_dir::RunDir;
use postgrad_train::{Checkpoints, ExampleSource};
use serde::Serialize;
use serde_json::json;

use crate::frame::App;
use crate::model::{OwnSettings, resolve_model};
use crate::tune::args::TuneArgs;
use crate::tune::method;
use crate::tune::session::{Session, Tuned};
use crate::tune::{config, data, dtype, finish, place, prepare, recipe, session, told};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DivergenceName {
    /// KL from the teacher to the student
    Forward,
    /// KL from the student to the teacher
    Reverse,
    /// Generalised Jensen-Shannon
    Jsd,
}

/// Flags of distillation. What is not given is the method's published setting.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Distillation")]
pub struct DistillArgs {
    /// The model whose distributions are learnt; it has the student's tokenizer
    #[arg(long, value_name = "MODEL")]
    pub teacher: Option<String>,
    #[arg(long, value_enum, value_name = "WHICH")]
    pub divergence: Option<DivergenceName>,
    /// The teacher's share in the mixture of jsd, between 0 and 1 [default: 0.5]
    #[arg(long, value_name = "B")]
    pub teacher_share: Option<f64>,
    /// Of both distributions [default: 1]
    #[arg(long, value_name = "T")]
    pub soften: Option<f32>,
    /// Share of updates made on the student's own samples [default: 0.5 for gkd, 0 for distill]
    #[arg(long, value_name = "P")]
    pub own_share: Option<f64>,
}

/// What is distilled, and from which sequences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Way {
    pub divergence: Divergence,
    pub temperature: f32,
    pub own: Option<OwnSamples>,
}

/// Names with what each is.
pub const NAMES: [(&str, &str); 2] = [
    ("distill", "the teacher's distributions along the data (forward KL)"),
    ("gkd", "half of the updates along the student's own samples (Jensen-Shannon)"),
];

impl DistillArgs {
    /// The first of its flags that was given.
    pub fn given(&self) -> Option<&'static str> {
        method::first(&[
            ("--teacher", self.teacher.is_some()),
            ("--divergence", self.divergence.is_some()),
            ("--teacher-share", self.teacher_share.is_some()),
            ("--soften", self.soften.is_some()),
            ("--own-share", self.own_share.is_some()),
        ])
    }

    /// The method of this name with these flags; `max_tokens` and `temperature` are those of the samples.
    pub fn way(&self, name: &str, max_tokens: Option<usize>, temperature: Option<f32>) -> Result<Way> {
        let gkd = name == "gkd";
        let default = if gkd { DivergenceName::Jsd } else { DivergenceName::Forward };
        let divergence = match self.divergence.unwrap_or(default) {
            DivergenceName::Forward => Divergence::Forward,
            DivergenceName::Reverse => Divergence::Reverse,
            DivergenceName::Jsd => Divergence::Jsd(self.teacher_share.unwrap_or(0.5)),
        };
        if self.teacher_share.is_some() && !matches!(divergence, Divergence::Jsd(_)) {
            return Err(Error::usage("--teacher-share is of --divergence jsd"));
        }
        let share = self.own_share.unwrap_or(if gkd { 0.5 } else { 0.0 });
        let own = (share != 0.0).then(|| OwnSamples {
            share,
            temperature: temperature.unwrap_or(1.0),
            max_tokens: max_tokens.unwrap_or(128),
        });
        if own.is_none() && (max_tokens.is_some() || temperature.is_some()) {
            return Err(Error::usage("--max-tokens and --temperature are of the student's own samples")
                .help("give --own-share, or take --method gkd"));
        }
        Ok(Way { divergence, temperature: self.soften.unwrap_or(1.0), own })
    }
}

pub fn run(args: TuneArgs, way: Way, app: &App) -> Result<()> {
    let args = &args;
    method::refuse(args)?;
    let progress = if app.json { Mode::Json } else { Mode::Auto };
    let name = args.distill.teacher.as_deref();
    let name = name.ok_or_else(|| {
        Error::usage(format!("{} needs a teacher", args.method))
            .help("give --teacher MODEL, with the student's tokenizer")
    })?;
    let mut model = resolve_model(&args.model, None)?;
    let teacher = resolve_model(name, None)?;
    if !method::templated(args) {
        model.renderer = model.renderer.without_template()?;
    }
    let own = OwnSettings::of(&model)?;
    let full = args.full || (own.as_ref().is_some_and(|o| o.full) && !args.lora);
    let mut settings = args.settings(full, own.as_ref(), model.decoder.config.max_position_embeddings)?;
    let (mut source, evals) = data(args, &model, &settings)?;
    let mut examples: Vec<Example> = Vec::new();
    source.start(0)?;
    while let Some(example) = source.next_example()? {
        examples.push(example);
    }
    let held_out = evals.first().map_or(vec![], |e| e.examples.clone());
    prepare(&mut model, args, full)?;

    let mut warnings = model.warnings.clone();
    warnings.extend(source.report().warnings());
    let steps =
        settings.steps.unwrap_or((examples.len() as f64 * settings.epochs / settings.batch as f64).ceil() as u64);
    let trainable: usize = model.decoder.params().iter().map(|p| p.len()).sum();
    let plan = json!({"method": args.method, "way": way, "teacher": name, "settings": settings, "steps": steps,
        "examples": examples.len(), "held_out": held_out.len(), "trained_parameters": trainable,
        "parameters": model.decoder.parameter_count()});
    if args.print_recipe {
        let own = json!({"teacher": "@teacher", "divergence": way.divergence, "temperature": way.temperature, "own": way.own,
            "max_len": settings.max_len});
        return recipe::print(args, full, &settings, Some(steps), "distill", own);
    }
    let samples = way.own.map_or("the data alone".into(), |o| {
        format!("the student's own samples in {:.0}% of the updates, {} tokens at most", 100.0 * o.share, o.max_tokens)
    });
    let text = [
        ("method", format!("{}: {:?} from {name}, along {samples}", args.method, way.divergence)),
        (
            "trained",
            format!("{} of {} parameters", grouped(trainable as u64), grouped(model.decoder.parameter_count() as u64)),
        ),
        ("data", format!("{} examples, {} held out", examples.len(), held_out.len())),
        (
            "steps",
            format!("{} of {} examples, learning rate {:e}, {:?}", steps, settings.batch, settings.lr, settings.decay),
        ),
    ];
    if told(args, app, &plan, &text, &warnings)? {
        return Ok(());
    }
    if args.checkpoints.is_none() {
        settings.checkpoints = Checkpoints::Every(steps.div_ceil(10).max(1));
    }
    let (store, folder) = place(args)?;
    let session = Session {
        config: config(args, full, &settings, json!({"way": way, "teacher": name}))?,
        folder: folder.as_deref(),
        warnings,
        dtype: dtype(args, &model)?,
        ..session(args, app, &settings, if full { Tuned::Full } else { Tuned::Lora })
    };
    let verdicts: RefCell<Vec<Vec<bool>>> = RefCell::new(Vec::new());
    let done = session.run_with(&store, &mut model, |active, model| {
        let mut sink = active.sink()?;
        let dir = RunDir::held(&active.run.folder)?;
        session.warn(&dir, &mut *sink)?;
        let asked = evals.first().filter(|e| e.answers() > 0);
        let exam = |d: &Decoder| {
            let marks = asked.map_or(Ok(vec![]), |e| e.judge(model, d, &app.cancel))?;
            verdicts.borrow_mut().push(marks.clone());
            Ok(marks)
        };
        let outcome = Distill {
            student: model,
            teacher: &teacher.decoder,
            settings: &settings,
            divergence: way.divergence,
            temperature: way.temperature,
            own: way.own,
            examples: &examples,
            held_out: &held_out,
            exam: if asked.is_some() { Some(&exam) } else { None },
            sink: &mut *sink,
            cancel: app.cancel.clone(),
            progress,
            dir: Some(&dir),
        }
        .run()?;
        drop(sink);
        session.put_items(&store, &active.run.id, &verdicts.borrow())?;
        Ok(outcome)
    })?;
    finish(&done, args, app)
}
