//! What the commands on recipes share: the kinds of stages, the cache of results, names from outside.

use std::path::PathBuf;

use postgrad_base::Result;
use postgrad_base::progress::Mode;
use postgrad_lab::engine::{Cache, Resolve};
use postgrad_lab::stage::Kind;

use crate::builtin::{cache_dir, resolve_data};
use crate::frame::App;
use crate::model::model_dir;

pub struct Lab {
    pub kinds: Vec<Kind>,
    pub cache: Cache,
}

impl Lab {
    pub fn new() -> Result<Self> {
        Ok(Self { kinds: postgrad_systems::kinds(), cache: Cache::new(&cache_dir()?.join("stages")) })
    }

    pub fn resolve(&self) -> Resolve<'static> {
        fn model(spec: &str) -> Result<PathBuf> {
            let dir = model_dir(spec)?;
            Ok(std::path::absolute(&dir).unwrap_or(dir))
        }
        Resolve { model: &model, data: &resolve_data }
    }
}

pub fn progress(app: &App) -> Mode {
    if app.json { Mode::Json } else { Mode::Auto }
}
