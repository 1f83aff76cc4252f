//! `data`: files of records as a model will see them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use postgrad_base::Result;
use postgrad_data::dataset::Records;
use postgrad_data::show::{Marks, show};
use postgrad_data::{DataSpec, Dataset, Kind, OnBadRow, OverLong, Renderer, SourceSpec, convert, stats};
use serde_json::json;

use crate::builtin::resolve_data;
use crate::frame::{App, Out, say};
use crate::model::model_dir;

/// Files of records: show what is trained on, count tokens, convert layouts
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print records as the model sees them, what is trained on marked
    Show {
        #[command(flatten)]
        source: SourceArgs,
        #[command(flatten)]
        model: ModelArgs,
        /// How many
        #[arg(short, default_value_t = 3)]
        n: usize,
        /// Mark trained text with ⟦ ⟧ instead of a colour, on a terminal too
        #[arg(long)]
        no_color: bool,
    },
    /// Lengths in tokens, share that is trained on, over-long records
    Stats {
        #[command(flatten)]
        source: SourceArgs,
        #[command(flatten)]
        model: ModelArgs,
        /// Read only the first N examples; 0 is all
        #[arg(long, default_value_t = 0, value_name = "N")]
        limit: usize,
    },
    /// Write records in another layout or format
    Convert {
        #[command(flatten)]
        source: SourceArgs,
        /// Its name says the format: .jsonl, .json, .csv, .tsv, each also .gz
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// messages, sharegpt, prompt-completion, alpaca, question-answer or text [default: as they are]
        #[arg(long, value_name = "KIND")]
        to: Option<String>,
    },
}

/// Which records, and how rows are read.
#[derive(clap::Args)]
pub struct SourceArgs {
    /// Files, folders, globs, gsm8k, gsm8k:test, task:chain?steps=2,3&n=2000; with weights: a.jsonl:0.7 b.jsonl:0.3
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Layout of the rows, where it is not found from their columns
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Names of columns: prompt=q,completion=a
    #[arg(long, value_name = "NAME=COLUMN,...")]
    columns: Option<String>,
    /// Names of roles: human=user,gpt=assistant
    #[arg(long, value_name = "NAME=ROLE,...")]
    roles: Option<String>,
    /// stop or skip
    #[arg(long, default_value = "stop", value_parser = ["stop", "skip"])]
    on_bad_row: String,
}

/// How records are rendered.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// Whose tokenizer and chat template are used: a folder, a built-in model, a run
    #[arg(long)]
    model: String,
    /// Longest example in tokens; 0 is no limit
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    max_len: usize,
    /// off: conversations as plain text, without the model's chat template
    #[arg(long, default_value = "on", value_parser = ["on", "off"])]
    template: String,
}

impl SourceArgs {
    /// Rows in the order of the files.
    fn spec(&self) -> Result<DataSpec> {
        let files = self.files.iter().map(|f| resolve_data(f)).collect::<Result<Vec<_>>>()?;
        Ok(DataSpec {
            sources: SourceSpec::parse_list(&files)?,
            kind: self.kind.as_deref().map(str::parse).transpose()?,
            columns: self.columns.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            roles: self.roles.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            on_bad_row: if self.on_bad_row == "skip" { OnBadRow::Skip } else { OnBadRow::Stop },
            over_long: OverLong::Drop,
            shuffle_buffer: 0,
            ..DataSpec::default()
        })
    }
}

impl ModelArgs {
    fn renderer(&self) -> Result<Arc<Renderer>> {
        let renderer = Renderer::load(&model_dir(&self.model)?)?;
        Ok(Arc::new(if self.template == "off" { renderer.without_template()? } else { renderer }))
    }
}

pub fn run(args: Args, app: &App) -> Result<()> {
    app.end_at_interrupt();
    match args.what {
        What::Show { source, model, n, no_color } => {
            let spec = DataSpec { max_len: model.max_len, ..source.spec()? };
            let mut data = Dataset::open(spec, model.renderer()?)?;
            if app.json {
                return show_json(&mut data, n);
            }
            let colour = !no_color && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let marks = if colour { Marks::Colour } else { Marks::Plain };
            Out::new().text(&show(&mut data, n, marks)?)
        }
        What::Stats { source, model, limit } => {
            let spec = DataSpec { max_len: model.max_len, ..source.spec()? };
            let found = stats::stats(&spec, model.renderer()?, limit)?;
            if app.json { app.value(&found) } else { Out::new().text(&found.to_string()) }
        }
        What::Convert { source, out, to } => {
            let to: Option<Kind> = to.as_deref().map(str::parse).transpose()?;
            let mut records = Records::open(&source.spec()?)?;
            let n = convert::convert(&mut records, &out, to)?;
            let report = records.report();
            if app.json {
                return app.value(&json!({"written": n, "file": out, "report": report}));
            }
            say!("{n} records in {}", out.display());
            report.warnings().iter().for_each(|w| crate::frame::note(&format!("warning: {w}")));
            Ok(())
        }
    }
}

/// One JSON line an example: its place, tokens, loss weights and text.
fn show_json(data: &mut Dataset, n: usize) -> Result<()> {
    let renderer = data.renderer().clone();
    let mut out = Out::new();
    for _ in 0..n {
        let Some(e) = data.next_example()? else { break };
        let text = renderer.tokenizer().decode(&e.tokens, false)?;
        out.row(&json!({"place": e.place.to_string(), "text": text, "tokens": e.tokens, "weights": e.weights}))?;
    }
    Ok(())
}
