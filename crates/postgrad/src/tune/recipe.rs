//! `tune --print-recipe`: the recipe that tunes with the settings of a command line.
//!
//! Preference and reinforcement stages come to the bits of `tune --hold-out 0` with seed 0. A supervised stage reads its data
//! whole and shuffles it all, where `tune` shuffles as it reads: the settings are equal, the order of examples is another.

use postgrad_base::{Error, Result};
use postgrad_lab::recipe::Recipe;
use postgrad_train::Settings;
use serde_json::{Map, Value, json};

use crate::frame::say;
use crate::tune::args::{Switch, TuneArgs};

/// Prints the recipe of one stage of this kind; `own` are the kind's own keys.
pub fn print(
    args: &TuneArgs,
    full: bool,
    settings: &Settings,
    steps: Option<u64>,
    kind: &str,
    own: Value,
) -> Result<()> {
    let without_key = [
        ("--template off", matches!(args.template, Switch::Off)),
        ("--kind", args.kind.is_some()),
        ("--columns", args.columns.is_some()),
        ("--roles", args.roles.is_some()),
        ("--checkpointing", args.checkpointing),
    ];
    if let Some((flag, _)) = without_key.iter().find(|f| f.1) {
        return Err(Error::usage(format!("{flag} has no key in a recipe"))
            .help("convert the data first: postgrad data convert"));
    }
    let mut stage = json!({"use": kind, "model": "@base", "data": "@train", "steps": steps, "batch": settings.batch,
        "lr": settings.lr, "warmup": settings.warmup, "decay": settings.decay, "floor": settings.floor,
        "weight_decay": settings.weight_decay, "optimizer": settings.optimizer, "clip": settings.clip.unwrap_or(0.0),
        "micro_tokens": settings.micro_tokens});
    let stage_keys = stage.as_object_mut().expect("a table");
    if !full {
        let lora = args.lora_spec()?;
        let scaled = json!({"rank": lora.rank, "alpha": lora.alpha, "dropout": lora.dropout, "rank_stabilized": lora.rank_stabilized});
        stage_keys.insert("lora".into(), scaled);
    } else if !args.train.is_empty() {
        stage_keys.insert("train".into(), json!(args.train));
    }
    stage_keys.extend(own.as_object().cloned().unwrap_or_default());
    let mut data = Map::from_iter([("train".to_string(), json!(args.data))]);
    if stage_keys.contains_key("supervised") {
        data.insert("lessons".into(), json!(args.reinforce.sft_data));
    }
    let models = json!({"base": args.model, "teacher": args.distill.teacher});
    let mut recipe = json!({"title": format!("postgrad tune --method {}", args.method), "measure": ["tuned"],
        "models": models, "data": data, "stage": {"tuned": stage}});
    without_nulls(&mut recipe);
    let body = toml::to_string(&recipe).map_err(|e| Error::work("the settings are no recipe").because(e))?;
    // Read as `postgrad run` will.
    Recipe::parse(std::path::Path::new("the recipe"), &body, &postgrad_systems::kinds())?;
    say!("# postgrad run FILE\n{}", body.trim_end());
    Ok(())
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
