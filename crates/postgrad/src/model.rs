//! What a `--model` may be: a built-in seed, a folder, an adapter folder, a run.

use std::path::{Path, PathBuf};

use postgrad_base::{Error, Result, fs};
use postgrad_lab::Store;
use postgrad_reason::ModelFolder;
use postgrad_train::Settings;
use serde::Deserialize;

use crate::builtin::cache_dir;
use crate::runs::root;

/// A model that comes with the program.
pub struct Seed {
    /// Name with version; the version changes with any byte of the files.
    pub name: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! seed {
    ($name:literal, $folder:literal) => {
        Seed {
            name: $name,
            files: &[
                ("config.json", include_bytes!(concat!("../../../assets/", $folder, "/config.json"))),
                ("model.safetensors", include_bytes!(concat!("../../../assets/", $folder, "/model.safetensors"))),
                ("tokenizer.json", include_bytes!(concat!("../../../assets/", $folder, "/tokenizer.json"))),
                (
                    "tokenizer_config.json",
                    include_bytes!(concat!("../../../assets/", $folder, "/tokenizer_config.json")),
                ),
                ("chat_template.jinja", include_bytes!(concat!("../../../assets/", $folder, "/chat_template.jinja"))),
                (
                    "generation_config.json",
                    include_bytes!(concat!("../../../assets/", $folder, "/generation_config.json")),
                ),
                ("tune.json", include_bytes!(concat!("../../../assets/", $folder, "/tune.json"))),
            ],
        }
    };
}

pub const SEEDS: &[Seed] = &[seed!("seed-1m@1", "seed-1m"), seed!("seed-3m@1", "seed-3m")];

/// The settings a model folder states for tuning it (`tune.json`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnSettings {
    pub full: bool,
    pub lr: f64,
    pub batch: usize,
}

impl OwnSettings {
    pub fn of(model: &ModelFolder) -> Result<Option<Self>> {
        let path = model.dir.join("tune.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(|e| Error::work("cannot read").because(e).at(path.display()))?;
        let own = serde_json::from_slice(&text);
        own.map(Some).map_err(|e| Error::usage("not settings for tuning").because(e).at(path.display()))
    }

    pub fn apply(&self, settings: &mut Settings) {
        settings.lr = self.lr;
        settings.batch = self.batch;
    }
}

/// Loads what `spec` names, with an adapter folder beside it where one is given.
pub fn resolve_model(spec: &str, adapter: Option<&Path>) -> Result<ModelFolder> {
    let dir = model_dir(spec)?;
    let mut model = ModelFolder::load(&dir)?;
    model.name = spec.to_string();
    if let Some(adapter) = adapter {
        model.add_adapter(adapter)?;
    }
    Ok(model)
}

/// The folder behind a name.
pub fn model_dir(spec: &str) -> Result<PathBuf> {
    if let Some(seed) = SEEDS.iter().find(|s| s.name == spec || s.name.split('@').next() == Some(spec)) {
        return unpack(seed);
    }
    let path = Path::new(spec);
    if path.exists() {
        return of_run(path).map_or_else(|| Ok(path.to_path_buf()), Ok);
    }
    if !spec.contains('/')
        && let Some(store) = Store::find(&root(None))?
        && let Ok(run) = store.run(spec)
    {
        return of_run(&run.folder).ok_or_else(|| {
            Error::usage(format!("the run {} has made no model yet", run.id))
                .help("`postgrad runs show` tells how it ended")
        });
    }
    let known: Vec<&str> = SEEDS.iter().map(|s| s.name).collect();
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(k, spec), *k)).min().filter(|(d, _)| *d <= 3);
    let error = Error::usage(format!("there is no model `{spec}`"));
    Err(match near {
        Some((_, name)) => error.help(format!("did you mean `{name}`?")),
        None => error.help(format!(
            "give a folder with config.json, model.safetensors and tokenizer.json, an adapter folder, a run, or one of {}",
            known.join(", ")
        )),
    })
}

/// What a run's folder made.
fn of_run(folder: &Path) -> Option<PathBuf> {
    ["model", "adapter"].iter().map(|d| folder.join(d)).find(|d| d.exists() && !folder.join("config.json").exists())
}

/// Unpacks a seed into the cache, once.
fn unpack(seed: &Seed) -> Result<PathBuf> {
    let dir = cache_dir()?.join("models").join(seed.name);
    let whole = seed.files.iter().all(|(name, bytes)| {
        let same_size = |m: std::fs::Metadata| m.len() == bytes.len() as u64;
        std::fs::metadata(dir.join(name)).is_ok_and(same_size)
    });
    if !whole {
        fs::write_dir_atomic(&dir, |dir| {
            seed.files.iter().try_for_each(|(name, bytes)| fs::write(&dir.join(name), bytes))
        })?;
    }
    Ok(dir)
}
