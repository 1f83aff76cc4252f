//! Models and data that come from outside a recipe, with a digest of their content.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result};
use postgrad_data::reader::find_files;
use serde_json::Value;

use crate::recipe::Recipe;
use crate::stage::Place;

/// Turns the names that users give into folders and files; the command line's own (`seed-1m`, `gsm8k`, a run's id).
pub struct Resolve<'a> {
    pub model: &'a (dyn Fn(&str) -> Result<PathBuf> + Sync),
    pub data: &'a (dyn Fn(&str) -> Result<String> + Sync),
}

/// Something from outside, and what its content hashes to.
#[derive(Clone, Debug, PartialEq)]
pub struct External {
    pub place: Place,
    pub digest: String,
}

/// A file up to this size is hashed whole; a larger one by its ends, its size and the time of its last change.
const WHOLE: u64 = 256 << 20;
const END: u64 = 1 << 20;

/// All models and data of a recipe.
pub fn externals(recipe: &Recipe, resolve: &Resolve) -> Result<BTreeMap<String, External>> {
    let mut all = BTreeMap::new();
    for (name, spec) in &recipe.models {
        let dir = (resolve.model)(spec).map_err(|e| e.at(format!("models.{name}")))?;
        let digest = model_digest(&dir).map_err(|e| e.at(format!("models.{name}")))?;
        all.insert(name.clone(), External { place: Place::Model(dir), digest });
    }
    for (name, specs) in &recipe.data {
        let specs = specs.iter().map(|s| (resolve.data)(s)).collect::<Result<Vec<_>>>();
        let specs = specs.map_err(|e| e.at(format!("data.{name}")))?;
        let digest = data_digest(&specs).map_err(|e| e.at(format!("data.{name}")))?;
        all.insert(name.clone(), External { place: Place::Data(specs), digest });
    }
    Ok(all)
}

/// Of a model folder: its JSON, template and weight files; of an adapter's also its base's.
pub fn model_digest(dir: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .context(|| format!("cannot read {}", dir.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.is_file() && p.extension().is_some_and(|e| ["json", "safetensors", "jinja"].iter().any(|x| e == *x))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::usage("the folder holds no model").at(dir.display()));
    }
    let mut hasher = blake3::Hasher::new();
    for file in &files {
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash_file(file, &mut hasher)?;
    }
    let adapter = dir.join("adapter_config.json");
    if adapter.exists() && !dir.join("config.json").exists() {
        let text = std::fs::read_to_string(&adapter).context(|| format!("cannot read {}", adapter.display()))?;
        let config: Value = serde_json::from_str(&text).context(|| format!("cannot read {}", adapter.display()))?;
        let base = config["base_model_name_or_path"].as_str().unwrap_or_default();
        let places = [PathBuf::from(base), dir.join(base)];
        if let Some(base) = places.iter().find(|p| p.join("config.json").exists()) {
            hasher.update(model_digest(base)?.as_bytes());
        }
    }
    Ok(hasher.finalize().to_hex()[..32].to_string())
}

/// Of all files that the specs name, in their order.
fn data_digest(specs: &[String]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for spec in specs {
        // A source may carry a weight: the number counts as well as the files.
        hasher.update(spec.rsplit_once(':').map_or("", |(_, weight)| weight).as_bytes());
        let path = postgrad_data::SourceSpec::parse(spec)?.path;
        for file in find_files(&[path])? {
            hash_file(&file.path, &mut hasher)?;
        }
    }
    Ok(hasher.finalize().to_hex()[..32].to_string())
}

fn hash_file(path: &Path, hasher: &mut blake3::Hasher) -> Result<()> {
    let mut read = || -> std::io::Result<()> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        hasher.update(&meta.len().to_le_bytes());
        if meta.len() <= WHOLE {
            hasher.update_reader(&mut file)?;
            return Ok(());
        }
        let changed = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        hasher.update(&changed.as_nanos().to_le_bytes());
        for at in [SeekFrom::Start(0), SeekFrom::End(-(END as i64))] {
            file.seek(at)?;
            hasher.update_reader((&mut file).take(END))?;
        }
        Ok(())
    };
    read().context(|| format!("cannot read {}", path.display()))
}
