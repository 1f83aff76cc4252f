//! What the preference and the reinforcement trainer share: settings compared on resume, values that are not finite.

use postgrad_base::{Error, Result};
use postgrad_nn::decoder::Decoder;
use postgrad_nn::optim::{GroupSpec, Optimizer};
use serde_json::Value;

use crate::run_dir::{Place, RunDir};
use crate::settings::Settings;

/// The settings' own optimiser on all parameters, decay on matrices only.
pub(crate) fn groups(settings: &Settings) -> Vec<GroupSpec> {
    let mut groups = GroupSpec::default_groups(settings.weight_decay);
    groups.iter_mut().for_each(|g| g.kind = settings.optimizer);
    groups
}

/// The settings of the loop that decide the weights.
pub(crate) fn deciding(s: &Settings) -> Value {
    serde_json::json!({"seed": s.seed, "batch": s.batch, "micro_tokens": s.micro_tokens, "max_len": s.max_len, "lr": s.lr,
        "warmup": s.warmup, "decay": s.decay, "floor": s.floor, "weight_decay": s.weight_decay,
        "optimizer": s.optimizer, "clip": s.clip})
}

/// Refuses to go on with a run of other settings. Both are JSON texts: a float read back may differ in its last digit.
pub(crate) fn same_settings(was: &str, now: &str, place: &Place) -> Result<()> {
    if was == now {
        return Ok(());
    }
    let [was, is] = [was, now].map(|t| serde_json::from_str::<Value>(t).unwrap_or_default());
    let differing = is.as_object().into_iter().flatten().find(|(k, v)| was[k.as_str()] != **v);
    let what = differing.map_or_else(String::new, |(k, v)| format!(": {k} was {}, is {v}", was[k.as_str()]));
    Err(Error::usage(format!("this folder holds a run with other settings{what}"))
        .at(place.path().display())
        .help("give the same settings, or another folder"))
}

/// The error of a loss or a gradient that is not finite.
pub(crate) fn not_finite(
    decoder: &Decoder,
    optimizer: &Optimizer,
    dir: Option<&RunDir>,
    step: u64,
    what: &str,
) -> Error {
    let bad = |values: &[f32]| values.iter().any(|x| !x.is_finite());
    let mut weights = decoder.weights.iter();
    let weight = weights.find(|(_, _, w)| bad(w.tensor().data())).map(|(_, name, _)| name.to_string());
    let tensor = weight.or_else(|| optimizer.not_finite());
    let tensor = tensor.unwrap_or_else(|| "the logits (all weights and gradients are finite)".into());
    let kept = match dir.and_then(|d| d.latest().ok().flatten()) {
        Some(place) => format!("the last good checkpoint is {}", place.path().display()),
        None => "there is no checkpoint yet".into(),
    };
    Error::work(format!("{what} is not finite at step {}; {kept}", step + 1))
        .at(format!("first tensor that is not finite: {tensor}"))
        .help("lower the learning rate")
}
