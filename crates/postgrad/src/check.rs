//! `check`: a model against numbers computed elsewhere.
//!
//! The file holds `input_ids [rows, length]` and any of: `logits [rows, length, vocabulary]`; `loss`, the mean next-token
//! cross-entropy over all rows; `grad.NAME`, its gradients; `greedy`, row 0's first 8 ids and their greedy continuation.
//! An error is the largest difference over the largest expected value of the tensor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postgrad_base::{Error, Result, Stream};
use postgrad_lab::table::{Cell, Table};
use postgrad_nn::adapter::{Adapter, LoraModule, LoraSpec};
use postgrad_nn::checkpoint::{AnyTensor, read_safetensors, read_weights};
use postgrad_nn::config::Config;
use postgrad_nn::decoder::{Pass, Walk};
use postgrad_nn::logits::Rules;
use postgrad_nn::peft::LoraFile;
use postgrad_nn::sample::{Request, Settings, sample};
use postgrad_nn::{Decoder, Weight};
use postgrad_tensor::ops::{self, CeOptions};
use postgrad_tensor::{Tensor, backward, no_grad, simd};
use serde::Serialize;
use serde_json::json;

use crate::frame::{App, note};
use crate::model::model_dir;

/// Tokens of row 0 that a greedy continuation starts from.
const GREEDY_PROMPT: usize = 8;

/// Recompute what a file of expected numbers holds, and say how far off this model is
#[derive(clap::Args)]
pub struct Args {
    /// Folder with config.json and model.safetensors, or a built-in model, or a run
    model: String,
    /// Expected numbers: input_ids, and any of logits, loss, grad.NAME, greedy
    #[arg(long, value_name = "FILE.safetensors")]
    against: PathBuf,
    /// A LoRA adapter in PEFT's files, put beside the model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Largest relative error of logits and loss
    #[arg(long, default_value_t = 1e-4, value_name = "X")]
    tolerance: f64,
    /// Largest relative error of a gradient [default: ten times the tolerance]
    #[arg(long, value_name = "X")]
    grad_tolerance: Option<f64>,
    /// Greedy ids that may differ
    #[arg(long, default_value_t = 0, value_name = "N")]
    greedy_misses: usize,
}

/// One kind of number.
#[derive(Serialize)]
struct Line {
    kind: &'static str,
    /// Relative error; of greedy ids, how many differ.
    worst: f64,
    tolerance: f64,
    within: bool,
    /// The tensor or position the worst lies in.
    #[serde(rename = "where")]
    place: String,
    /// Numbers compared.
    n: usize,
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let tolerances = [Some(args.tolerance), args.grad_tolerance];
    if tolerances.iter().flatten().any(|t| !(t.is_finite() && *t >= 0.0)) {
        return Err(Error::usage("a tolerance is a number of at least 0"));
    }
    let expected = Expected::read(&args.against)?;
    let mut model = load(&model_dir(&args.model)?, args.adapter.as_deref())?;
    expected.fits(&model)?;
    let mut lines = vec![];
    let mut add = |kind, (worst, place): (f64, String), tolerance: f64, n| {
        lines.push(Line { kind, worst, tolerance, within: worst <= tolerance, place, n });
    };
    if let Some(want) = expected.float("logits")? {
        let logits = no_grad(|| model.logits(&model.hidden(&expected.ids, &Walk::Tape(&expected.pass()))));
        let error = relative_error(logits.data(), want.data());
        add("logits", (error, "logits".into()), args.tolerance, want.len());
    }
    app.cancel.check()?;
    let gradients: Vec<&str> = expected.names().filter_map(|n| n.strip_prefix("grad.")).collect();
    if expected.has("loss") || !gradients.is_empty() {
        train_all(&mut model, &gradients);
        let loss = expected.loss(&model);
        if let Some(want) = expected.float("loss")? {
            let error = relative_error(loss.data(), want.data());
            add("loss", (error, format!("{:.6}, expected {:.6}", loss.item(), want.data()[0])), args.tolerance, 1);
        }
        if !gradients.is_empty() {
            backward(&loss);
            let worst = worst_gradient(&model, &expected, &gradients)?;
            add("gradients", worst, args.grad_tolerance.unwrap_or(10.0 * args.tolerance), gradients.len());
        }
    }
    app.cancel.check()?;
    if let Some(want) = expected.ints("greedy")? {
        model.weights.train(|_| false);
        let (differ, place, n) = greedy(&model, &expected, want, app)?;
        add("greedy", (differ as f64, place), args.greedy_misses as f64, n);
    }
    show(&args, &lines, app)?;
    let past: Vec<&str> = lines.iter().filter(|l| !l.within).map(|l| l.kind).collect();
    if past.is_empty() {
        return Ok(());
    }
    Err(Error::work(format!("past the tolerance: {}", past.join(", "))).at(args.against.display()))
}

fn show(args: &Args, lines: &[Line], app: &App) -> Result<()> {
    let mut table = Table::new(&["kind", "worst error", "tolerance", "", "where", "compared"]);
    for l in lines {
        let number = |x: f64| Cell {
            figure: true,
            ..Cell::text(if l.kind == "greedy" { x.to_string() } else { format!("{x:.1e}") })
        };
        table.row([
            Cell::text(l.kind),
            number(l.worst),
            number(l.tolerance),
            Cell::text(if l.within { "ok" } else { "PAST" }),
            Cell::text(&l.place),
            Cell::count(l.n as u64),
        ]);
    }
    table.note(format!(
        "SIMD {}; errors relative to the largest expected value; greedy counts ids",
        simd::level().name()
    ));
    let rows = json!({
        "model": args.model, "against": args.against, "adapter": args.adapter, "simd": simd::level().name(),
        "within": lines.iter().all(|l| l.within), "checks": lines,
    });
    app.table(&table, &rows)
}

/// The decoder of a model folder, which needs no tokenizer, and its adapter, frozen.
fn load(dir: &Path, adapter: Option<&Path>) -> Result<Decoder> {
    let config = Config::read(dir)?;
    config.warnings.iter().for_each(|w| note(&format!("warning: {w}")));
    let weights = read_weights(dir, &config)?;
    let mut model = Decoder::new(config, weights).map_err(|e| e.at(dir.display()))?;
    if let Some(dir) = adapter {
        let file = LoraFile::read(dir)?;
        file.check(&model.config).map_err(|e| e.at(dir.display()))?;
        let mut modules = BTreeMap::new();
        for (module, side) in &file.weights {
            let id = model.weights.find(&format!("{module}.weight")).ok_or_else(|| {
                Error::usage("the adapter has a module that the model lacks").at(module).at(dir.display())
            })?;
            let (a, b) = (Weight::Frozen(side.a.clone()), Weight::Frozen(side.b.clone()));
            modules.insert(id, LoraModule { a, b, scaling: side.scaling });
        }
        model.adapters.push(Adapter { name: "adapter".into(), spec: LoraSpec::default(), modules, scale: 1.0 });
    }
    Ok(model)
}

/// Makes what gradients are expected of trainable; the adapter only where one of its sides is among them.
fn train_all(model: &mut Decoder, gradients: &[&str]) {
    model.weights.train(|name| gradients.contains(&name));
    if gradients.iter().any(|n| n.contains("lora_")) {
        let weights = model.weights.clone();
        model.adapters.iter_mut().for_each(|a| a.set_trained(&weights, true));
    }
}

/// The worst relative error of all gradients and the tensor it lies in.
fn worst_gradient(model: &Decoder, expected: &Expected, names: &[&str]) -> Result<(f64, String)> {
    let params: BTreeMap<String, _> = model.params().into_iter().map(|p| (p.name().to_string(), p)).collect();
    let mut worst = (0.0, String::new());
    for name in names {
        let place = format!("grad.{name}");
        let param =
            params.get(*name).ok_or_else(|| expected.wrong("the model has no parameter of this name", &place))?;
        let want = expected.float(&place)?.expect("listed by name");
        let got = param.grad().ok_or_else(|| expected.wrong("the loss does not depend on this parameter", &place))?;
        if got.dims() != want.dims() {
            return Err(
                expected.wrong(&format!("expected shape {:?}, the model has {:?}", want.dims(), got.dims()), &place)
            );
        }
        let error = relative_error(got.data(), want.data());
        if error >= worst.0 {
            worst = (error, name.to_string());
        }
    }
    Ok(worst)
}

/// How many ids of the greedy continuation differ, where first, and of how many.
fn greedy(model: &Decoder, expected: &Expected, want: &[i64], app: &App) -> Result<(usize, String, usize)> {
    let prompt = &expected.ids[..GREEDY_PROMPT.min(expected.shape[1])];
    let with_prompt = want.len() >= prompt.len() && want.iter().zip(prompt).all(|(w, p)| *w == i64::from(*p));
    let want = if with_prompt { &want[prompt.len()..] } else { want };
    let request = Request {
        prompt: prompt.to_vec(),
        // No end ids: the file says how long the continuation is.
        settings: Arc::new(Settings { rules: Rules::greedy(), max_tokens: want.len(), min_tokens: 0, end: vec![] }),
        stream: Stream::new(0, &["sample"]),
        first: 0,
        n: 1,
    };
    let mut got = vec![];
    sample(model, &[request], 1, None, &app.cancel, |c| {
        got = c.tokens;
        Ok(())
    })?;
    let same = |i: usize| got.get(i).is_some_and(|g| i64::from(*g) == want[i]);
    let first = (0..want.len()).find(|i| !same(*i));
    let differ = (0..want.len()).filter(|i| !same(*i)).count();
    let place = match first {
        None => String::new(),
        Some(i) => {
            let got = got.get(i).map_or_else(|| "nothing".into(), u32::to_string);
            format!("first at token {i}: {got}, expected {}", want[i])
        }
    };
    Ok((differ, place, want.len()))
}

/// The largest difference over the largest wanted value; infinite where a number is none.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    let scale = want.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    let differ =
        |g: f32, w: f32| if g.is_finite() && w.is_finite() { f64::from((g - w).abs() / scale) } else { f64::INFINITY };
    got.iter().zip(want).fold(0.0, |m, (g, w)| f64::max(m, differ(*g, *w)))
}

/// The file of expected numbers.
struct Expected {
    path: PathBuf,
    tensors: BTreeMap<String, AnyTensor>,
    ids: Vec<u32>,
    /// Rows and length of `input_ids`.
    shape: [usize; 2],
}

impl Expected {
    fn read(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::usage(format!("there is no file {}", path.display())));
        }
        let tensors = read_safetensors(path)?;
        let mut all = Self { path: path.into(), tensors, ids: vec![], shape: [0, 0] };
        let layout = "the file needs `input_ids` [rows, length] of whole numbers";
        let ids = all
            .tensors
            .get("input_ids")
            .ok_or_else(|| Error::usage("no `input_ids`").at(path.display()).help(layout))?;
        let (Some(ids), [rows, length]) = (ids.ints(), ids.shape()) else {
            return Err(all.wrong(layout, "input_ids"));
        };
        all.shape = [*rows, *length];
        all.ids = ids
            .iter()
            .map(|i| u32::try_from(*i).map_err(|_| all.wrong(&format!("{i} is no token id"), "input_ids")))
            .collect::<Result<_>>()?;
        let known = |n: &str| ["input_ids", "logits", "loss", "greedy"].contains(&n) || n.starts_with("grad.");
        for name in all.names().filter(|n| !known(n)) {
            note(&format!("warning: `{name}` is not checked"));
        }
        if !all.names().any(|n| known(n) && n != "input_ids") {
            return Err(Error::usage("nothing to check")
                .at(path.display())
                .help("the file needs logits, loss, grad.NAME or greedy"));
        }
        Ok(all)
    }

    /// Refuses what the model cannot compute.
    fn fits(&self, model: &Decoder) -> Result<()> {
        let (vocab, longest) = (model.config.vocab_size, model.config.max_position_embeddings);
        let [rows, length] = self.shape;
        if let Some(id) = self.ids.iter().find(|i| **i as usize >= vocab) {
            return Err(self.wrong(&format!("token {id} is outside the model's vocabulary of {vocab}"), "input_ids"));
        }
        if rows == 0 || length < 2 || length > longest {
            return Err(self.wrong(&format!("rows of {length} tokens; the model takes 2 to {longest}"), "input_ids"));
        }
        if let Some(logits) = self.float("logits")?
            && logits.dims() != [rows, length, vocab]
        {
            let found = logits.dims();
            return Err(self.wrong(&format!("expected shape {:?}, found {found:?}", [rows, length, vocab]), "logits"));
        }
        match self.float("loss")? {
            Some(loss) if loss.len() != 1 => Err(self.wrong("expected one number", "loss")),
            _ => Ok(()),
        }
    }

    fn wrong(&self, what: &str, tensor: &str) -> Error {
        Error::usage(format!("`{tensor}`: {what}")).at(self.path.display())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn float(&self, name: &str) -> Result<Option<&Tensor>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        tensor.float().map(Some).ok_or_else(|| self.wrong("expected floating-point numbers", name))
    }

    fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        tensor.ints().map(Some).ok_or_else(|| self.wrong("expected whole numbers", name))
    }

    fn pass(&self) -> Pass {
        Pass::sequences(&vec![self.shape[1]; self.shape[0]])
    }

    /// Mean cross-entropy of every next token of every row.
    fn loss(&self, model: &Decoder) -> Tensor {
        let hidden = model.hidden(&self.ids, &Walk::Tape(&self.pass()));
        let (mut targets, mut weights) = (vec![0; self.ids.len()], vec![0.0; self.ids.len()]);
        for i in (0..self.ids.len()).filter(|i| i % self.shape[1] + 1 < self.shape[1]) {
            (targets[i], weights[i]) = (self.ids[i + 1], 1.0);
        }
        let n = weights.iter().sum();
        ops::cross_entropy(&hidden, &model.head(), &targets, &weights, n, CeOptions::default()).loss
    }
}
