//! A run's folder: one process at a time, checkpoints that are complete or absent.
//!
//! `checkpoints/step-00000120/` holds `params.safetensors` (everything trainable, float32), `optimizer.safetensors` and
//! `state.json`. A folder is renamed into place when it is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgrad_base::fs::{self, DirLock};
use postgrad_base::{Context, Error, Result};
use postgrad_nn::checkpoint::{AnyTensor, read_safetensors, write_safetensors};
use postgrad_nn::optim::Optimizer;
use postgrad_tensor::{Param, Tensor};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A locked run folder.
#[derive(Debug)]
pub struct RunDir {
    _lock: Option<DirLock>,
    path: PathBuf,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    path: PathBuf,
    pub step: u64,
}

impl RunDir {
    /// Locks the folder (made if absent) and clears what a killed process left half-written.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = DirLock::take(path)?;
        Ok(Self { _lock: Some(lock), ..Self::held(path)? })
    }

    /// A folder whose lock the caller holds.
    pub fn held(path: &Path) -> Result<Self> {
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints)
            .context(|| format!("cannot make the folder {}", checkpoints.display()))?;
        fs::sweep(path);
        fs::sweep(&checkpoints);
        Ok(Self { _lock: None, path: path.into() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All checkpoints, oldest first.
    pub fn places(&self) -> Result<Vec<Place>> {
        places(&self.path)
    }

    pub fn latest(&self) -> Result<Option<Place>> {
        Ok(self.places()?.pop())
    }

    pub fn save(&self, step: u64, state: &Value, params: &[Param], optimizer: &Optimizer) -> Result<PathBuf> {
        let path = self.path.join("checkpoints").join(format!("step-{step:08}"));
        fs::write_dir_atomic(&path, |dir| {
            let values = params.iter().map(|p| (p.name().to_string(), AnyTensor::Float(p.value()))).collect();
            write_safetensors(&dir.join("params.safetensors"), &values, &BTreeMap::new())?;
            write_safetensors(&dir.join("optimizer.safetensors"), &optimizer.state(), &BTreeMap::new())?;
            fs::write(&dir.join("state.json"), state.to_string().as_bytes())
        })
        .map_err(|e| e.help("free some disk space and run the same command again: the last checkpoint is whole"))?;
        Ok(path)
    }

    /// Removes all but the newest `keep` checkpoints (0: none are removed), the best and the last.
    pub fn prune(&self, keep: usize, best: Option<u64>) -> Result<()> {
        if keep == 0 {
            return Ok(());
        }
        let places = self.places()?;
        let old = places.len().saturating_sub(keep);
        for place in places.iter().take(old).filter(|p| Some(p.step) != best) {
            std::fs::remove_dir_all(&place.path).context(|| format!("cannot remove {}", place.path.display()))?;
        }
        Ok(())
    }
}

/// Checkpoints of a run folder, oldest first.
pub fn places(run: &Path) -> Result<Vec<Place>> {
    let dir = run.join("checkpoints");
    let mut places: Vec<Place> = std::fs::read_dir(&dir)
        .context(|| format!("cannot read {}", dir.display()))?
        .flatten()
        .filter_map(|e| {
            let step = e.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
            Some(Place { path: e.path(), step })
        })
        .collect();
    places.sort_by_key(|p| p.step);
    Ok(places)
}

impl Place {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        let path = self.path.join("state.json");
        let text = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).context(|| format!("{} is not a run's state", path.display()))
    }

    pub fn optimizer(&self) -> Result<BTreeMap<String, AnyTensor>> {
        read_safetensors(&self.path.join("optimizer.safetensors"))
    }

    /// Sets the parameters to the saved values. Names and shapes must be those of the run.
    pub fn load_params(&self, params: &[Param]) -> Result<()> {
        let saved = floats(&self.path.join("params.safetensors"))?;
        if saved.len() != params.len() {
            return Err(Error::usage(format!(
                "the checkpoint holds {} tensors, the run trains {}",
                saved.len(),
                params.len()
            ))
            .at(self.path.display()));
        }
        for p in params {
            let value = saved.get(p.name()).ok_or_else(|| {
                Error::usage("the checkpoint lacks a trained tensor").at(p.name()).at(self.path.display())
            })?;
            if value.shape() != p.shape() {
                let (expected, found) = (p.shape(), value.shape());
                return Err(Error::usage(format!("expected shape {expected:?}, found {found:?}")).at(p.name()));
            }
            p.set(value.data());
        }
        Ok(())
    }
}

fn floats(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let all = read_safetensors(path)?.into_iter();
    all.map(|(name, t)| match t {
        AnyTensor::Float(t) => Ok((name, t)),
        _ => Err(Error::work("not a tensor of floats").at(&name).at(path.display())),
    })
    .collect()
}
