//! A model folder: weights, tokenizer, chat template and generation defaults that belong together.
//!
//! A folder holds a whole model in the Hugging Face layout, or an adapter in PEFT's, which names its base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result, fs};
use postgrad_data::Renderer;
use postgrad_nn::Weight;
use postgrad_nn::adapter::{Adapter, LoraModule, LoraSpec, module_name};
use postgrad_nn::checkpoint::{Dtype, GenerationDefaults, read_weights, write_weights};
use postgrad_nn::config::Config;
use postgrad_nn::decoder::Decoder;
use postgrad_nn::peft::{LoraConfig, LoraFile, LoraSide, Targets};
use postgrad_tensor::Tensor;

/// Shards of a saved model are at most this large, as transformers'.
const SHARD_BYTES: usize = 5_000_000_000;

/// A model that can be prompted.
#[derive(Clone)]
pub struct ModelFolder {
    /// How the user named it.
    pub name: String,
    /// Where the whole model lies (the base of an adapter).
    pub dir: PathBuf,
    pub decoder: Decoder,
    pub renderer: Renderer,
    pub generation: GenerationDefaults,
    /// What the files say that is not used, for the user to see.
    pub warnings: Vec<String>,
}

impl ModelFolder {
    /// Loads a model folder, or an adapter folder with its base, all frozen.
    pub fn load(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::usage(format!("there is no folder {}", path.display())).help(
                "give a folder with config.json, model.safetensors and tokenizer.json, or the name of a built-in model",
            ));
        }
        if path.join("adapter_config.json").exists() && !path.join("config.json").exists() {
            return Self::load_with_adapter(path);
        }
        let config = Config::read(path)?;
        let weights = read_weights(path, &config)?;
        let generation = GenerationDefaults::read(path, &config)?;
        let renderer = Renderer::load(path)?;
        let mut warnings = config.warnings.clone();
        warnings.extend(generation.warnings.clone());
        let decoder = Decoder::new(config, weights).map_err(|e| e.at(path.display()))?;
        let folder =
            Self { name: path.display().to_string(), dir: path.into(), decoder, renderer, generation, warnings };
        folder.check_vocabulary()?;
        Ok(folder)
    }

    fn load_with_adapter(path: &Path) -> Result<Self> {
        let file = LoraFile::read(path)?;
        let base = file.config.base_model.clone().ok_or_else(|| {
            Error::usage("the adapter does not name its base model").at(path.join("adapter_config.json").display())
        })?;
        // A base is named as seen from where the adapter was trained, or beside the adapter.
        let candidates = [PathBuf::from(&base), path.join(&base)];
        let dir = candidates.iter().find(|c| c.join("config.json").exists()).ok_or_else(|| {
            Error::usage(format!("the adapter's base model `{base}` is not here"))
                .at(path.join("adapter_config.json").display())
                .help("give the base with --model and the adapter with --adapter")
        })?;
        let mut model = Self::load(dir)?;
        model.add_adapter_file(path, &file)?;
        model.name = path.display().to_string();
        Ok(model)
    }

    /// Puts a PEFT adapter folder beside the weights, frozen and on. Its name is `adapter`, or the folder's name where
    /// there is one already.
    pub fn add_adapter(&mut self, path: &Path) -> Result<()> {
        let file = LoraFile::read(path)?;
        self.add_adapter_file(path, &file)
    }

    fn add_adapter_file(&mut self, path: &Path, file: &LoraFile) -> Result<()> {
        file.check(&self.decoder.config).map_err(|e| e.at(path.display()))?;
        let mut modules = BTreeMap::new();
        for (module, side) in &file.weights {
            let id = self.decoder.weights.find(&format!("{module}.weight")).ok_or_else(|| {
                Error::usage("the adapter has a module that the model lacks").at(module).at(path.display())
            })?;
            let (a, b) = (Weight::Frozen(side.a.clone()), Weight::Frozen(side.b.clone()));
            modules.insert(id, LoraModule { a, b, scaling: side.scaling });
        }
        let c = &file.config;
        let spec = LoraSpec { rank: c.r, alpha: c.alpha as f32, dropout: c.dropout as f32, rank_stabilized: c.rslora };
        let name = if self.decoder.adapters.is_empty() { "adapter".into() } else { path.display().to_string() };
        self.decoder.adapters.push(Adapter { name, spec, modules, scale: 1.0 });
        Ok(())
    }

    /// Adds a special token to the tokenizer and its rows, the mean of all others, to the weights. Its id.
    pub fn add_token(&mut self, token: &str) -> Result<u32> {
        let old = self.renderer.tokenizer();
        let id = old.vocab_size();
        let renderer = self.renderer.with_tokenizer(old.with_special(token)?);
        self.decoder.add_vocabulary_row(id)?;
        self.renderer = renderer;
        Ok(id as u32)
    }

    /// Sets the run-time scale of the adapters: 0 is the model without them, 1 as they were trained, others between and beyond.
    pub fn scale_adapters(&mut self, scale: f32) -> Result<()> {
        if !scale.is_finite() {
            return Err(Error::usage(format!("an adapter scale of {scale} is no number to multiply with")));
        }
        if self.decoder.adapters.is_empty() {
            return Err(Error::usage(format!("`{}` has no adapter to scale", self.name))
                .help("give an adapter folder; an adapter merged into the weights has no scale any more"));
        }
        self.decoder.adapters.iter_mut().for_each(|a| a.scale = scale);
        Ok(())
    }

    /// Rows of the vocabulary may exceed the tokenizer's ids, not the reverse.
    fn check_vocabulary(&self) -> Result<()> {
        let (rows, ids) = (self.decoder.config.vocab_size, self.renderer.tokenizer().vocab_size());
        if ids > rows {
            return Err(Error::usage(format!("the tokenizer has {ids} tokens, the model rows for {rows}"))
                .at(self.dir.display())
                .help("the tokenizer does not belong to this model"));
        }
        Ok(())
    }

    /// All tokens that end a completion.
    pub fn end_ids(&self) -> Vec<u32> {
        let mut ids = self.generation.eos.clone();
        ids.extend(self.renderer.tokenizer().eos());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Writes the whole model in the Hugging Face layout. Adapters must have been merged: what is beside the weights is not
    /// in them.
    pub fn save(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        fs::write_dir_atomic(dir, |dir| {
            let tensors: Vec<(&str, Tensor)> =
                self.decoder.weights.iter().map(|(_, name, w)| (name, w.tensor().detach())).collect();
            write_weights(dir, &tensors, dtype, SHARD_BYTES)?;
            let mut config = (*self.decoder.config).clone();
            config.dtype = dtype;
            let text = serde_json::to_string_pretty(&config.to_json()).context(|| "cannot write config.json".into())?;
            fs::write(&dir.join("config.json"), text.as_bytes())?;
            let own = self.dir.join("generation_config.json");
            if own.exists() {
                let bytes = std::fs::read(&own).context(|| format!("cannot read {}", own.display()))?;
                fs::write(&dir.join("generation_config.json"), &bytes)?;
            }
            self.renderer.tokenizer().save(dir)
        })
    }

    /// Writes one adapter in PEFT's layout, naming `base` as its base model.
    pub fn save_adapter(&self, adapter: &Adapter, dir: &Path, base: &str) -> Result<()> {
        let weights = &self.decoder.weights;
        let spec = &adapter.spec;
        let mut names: Vec<String> = Vec::new();
        let mut sides = BTreeMap::new();
        for (id, m) in &adapter.modules {
            let module = module_name(weights.name(*id)).to_string();
            let last = module.rsplit('.').next().unwrap_or_default().to_string();
            if !names.contains(&last) {
                names.push(last);
            }
            let side = LoraSide { a: m.a.tensor().detach(), b: m.b.tensor().detach(), scaling: m.scaling };
            sides.insert(module, side);
        }
        let mut config = LoraConfig::new(spec.rank, spec.alpha as f64, Targets::Names(names));
        config.dropout = spec.dropout as f64;
        config.rslora = spec.rank_stabilized;
        config.base_model = Some(base.to_string());
        fs::write_dir_atomic(dir, |dir| {
            LoraFile { config, weights: sides }.write(dir)?;
            self.renderer.tokenizer().save(dir)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_nn::decoder::{Pass, Walk};

    fn logits(model: &ModelFolder, ids: &[u32]) -> Vec<f32> {
        let pass = Pass::sequences(&[ids.len()]);
        let hidden = model.decoder.hidden(ids, &Walk::Tape(&pass));
        model.decoder.logits(&hidden).data().to_vec()
    }

    #[test]
    fn an_added_token_has_the_mean_row_and_changes_no_other() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let old = ModelFolder::load(&path).unwrap();
        let mut new = old.clone();
        let id = new.add_token("<mask>").unwrap();
        assert_eq!(id as usize, old.renderer.tokenizer().vocab_size());
        assert_eq!(new.renderer.tokenizer().mask(), Some(id));
        let width = old.decoder.config.hidden;
        let table = |m: &ModelFolder| m.decoder.weights.get(m.decoder.embed_id()).tensor().data().to_vec();
        let (before, after) = (table(&old), table(&new));
        let at = id as usize * width;
        assert_eq!(after[..at], before[..at]);
        let mean = before[..at].iter().step_by(width).map(|x| f64::from(*x)).sum::<f64>() / f64::from(id);
        assert!((f64::from(after[at]) - mean).abs() < 1e-7);

        let text = "Ann has 2 pears";
        let ids = new.renderer.tokenizer().encode(text).unwrap();
        assert_eq!(ids, old.renderer.tokenizer().encode(text).unwrap());
        let (was, is) = (logits(&old, &ids), logits(&new, &ids));
        let rows = new.decoder.config.vocab_size;
        for (was, is) in was.chunks(old.decoder.config.vocab_size).zip(is.chunks(rows)) {
            assert!(was[..id as usize].iter().zip(is).all(|(a, b)| (a - b).abs() < 1e-5));
        }

        let dir = tempfile::tempdir().unwrap();
        new.save(&dir.path().join("m"), Dtype::F32).unwrap();
        let again = ModelFolder::load(&dir.path().join("m")).unwrap();
        assert_eq!(again.renderer.tokenizer().encode("a<mask>").unwrap().last(), Some(&id));
        assert_eq!(logits(&again, &[1, id, 2]), logits(&new, &[1, id, 2]));
        assert!(again.renderer.has_template());
        assert_eq!(new.add_token("<mask>").unwrap_err().exit_code(), 2);
        // A row beyond those that the model has.
        new.decoder.add_vocabulary_row(rows).unwrap();
        assert_eq!((new.decoder.config.vocab_size, table(&new).len()), (rows + 1, (rows + 1) * width));
        assert_eq!(logits(&new, &[rows as u32]).len(), rows + 1);
        assert!(new.decoder.add_vocabulary_row(rows + 5).is_err());
    }
}
