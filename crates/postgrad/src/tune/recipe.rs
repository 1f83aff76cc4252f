//! `tune --print-recipe`: the recipe that tunes with the settings of a command line.
//!
//! With all weights trained, preference and reinforcement stages come to the bits of `tune --hold-out 0` with seed 0 (a LoRA
//! begins at other random values). A supervised stage reads its data whole and shuffles it all, where `tune` shuffles as it
//! reads: the settings are equal, the order of examples is another.

use std::time::Duration;

use postgrad_base::{Error, Result};
use postgrad_lab::recipe::Recipe;
use postgrad_train::Settings;
use serde_json::{Map, Value, json};

use crate::frame::say;
use crate::tune::args::{BadRowName, OverLongName, Switch, TuneArgs};

/// What `--reward-timeout` is unless it is given, and what the stage takes.
const REWARD_TIMEOUT: Duration = Duration::from_secs(120);

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
        ("--on-bad-row skip", matches!(args.on_bad_row, BadRowName::Skip)),
        ("--over-long truncate", matches!(args.over_long, OverLongName::Truncate)),
        ("--checkpointing", args.checkpointing),
        ("--budget", args.budget.is_some()),
        ("--patience", args.patience.is_some()),
        ("--reward-timeout", args.reinforce.reward_timeout != REWARD_TIMEOUT),
    ];
    if let Some((flag, _)) = without_key.iter().find(|f| f.1) {
        return Err(Error::usage(format!("{flag} has no key in a recipe"))
            .help("leave it out; data in another layout is brought into this one by `postgrad data convert`"));
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
    if stage_keys.get("supervised").is_some_and(|s| !s.is_null()) {
        data.insert("lessons".into(), json!(args.reinforce.sft_data));
    }
    let models = json!({"base": args.model, "teacher": args.distill.teacher});
    let mut recipe = json!({"title": format!("postgrad tune --method {}", args.method), "measure": ["tuned"],
        "models": models, "data": data, "stage": {"tuned": stage}});
    without_nulls(&mut recipe);
    shorten(&mut recipe);
    let body = toml::to_string(&recipe).map_err(|e| Error::work("the settings are no recipe").because(e))?;
    // Read as `postgrad run` will.
    Recipe::parse(std::path::Path::new("the recipe"), &body, &postgrad_systems::kinds())?;
    let seed = if args.seed == 0 { String::new() } else { format!(" --seed {}", args.seed) };
    say!("# postgrad run FILE{seed}\n# All of the data is trained on: nothing is held out.\n{}", body.trim_end());
    Ok(())
}

/// Numbers that were single precision as briefly as they can be written: 0.9, not 0.8999999761581421.
fn shorten(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(shorten),
        Value::Array(list) => list.iter_mut().for_each(shorten),
        Value::Number(n) if n.is_f64() => {
            let wide = n.as_f64().unwrap_or_default();
            if f64::from(wide as f32) == wide {
                *value = (wide as f32).to_string().parse::<f64>().map_or(json!(wide), |short| json!(short));
            }
        }
        _ => {}
    }
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
