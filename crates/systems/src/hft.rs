//! Half Fine-Tuning (arXiv 2404.18466): its Half-Reset, `reset`.
//!
//! The observation behind the method: set a drawn half of a tuned model's matrices back to the base's values, and much of what
//! the base knew returns while most of what was learned stays. The training itself is `select = { kind = "hft" }` of the stage
//! `sft`; a sequence of tasks is a sequence of such stages with other rounds.
//!
//! The draw is that of the training, with one category more: embeddings, head and final norm, of which the same share is
//! drawn. So a share of 1 gives the base and a share of 0 the tuned model, both to the bit.

use postgrad_base::{Error, Result};
use postgrad_lab::Item;
use postgrad_lab::stage::{Cx, Input, Kind, Stage};
use postgrad_nn::Weight;
use postgrad_nn::checkpoint::Dtype;
use postgrad_nn::select::{Level, draw_all};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The kinds of stages that stand here.
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Reset>()]
}

/// The stage kind `reset`.
pub struct Reset;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The tuned model.
    pub model: Input,
    /// What it was tuned from.
    pub base: Input,
    /// Share of the tensors that take the base's values again.
    #[serde(default = "half")]
    pub share: f64,
    #[serde(default)]
    pub level: Level,
    #[serde(default)]
    pub round: u64,
}

fn half() -> f64 {
    0.5
}

impl Stage for Reset {
    const NAME: &'static str = "reset";
    const ABOUT: &'static str = "a drawn share of a tuned model's matrices set back to its base's";
    const VERSION: u32 = 1;
    const STREAMS: &'static [&'static str] = &["tune"];
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        if !(0.0..=1.0).contains(&config.share) {
            return Err(Error::usage(format!("the share is {}, not between 0 and 1", config.share)));
        }
        Ok(())
    }

    fn run(config: Config, cx: &Cx) -> Result<()> {
        let (mut model, base) = (cx.model(&config.model)?, cx.model(&config.base)?);
        if !model.decoder.adapters.is_empty() || !base.decoder.adapters.is_empty() {
            return Err(Error::usage("an adapter has no matrices of the base to set back").help("merge it first"));
        }
        let stream = cx.stream("tune").child("reset").nth(config.round);
        let drawn = draw_all(&model.decoder, config.share, config.level, &stream);
        let mut parameters = 0;
        for id in &drawn {
            let name = model.decoder.weights.name(*id).to_string();
            let theirs = base.decoder.weights.find(&name);
            let theirs = theirs.ok_or_else(|| Error::usage("the base has no such tensor").at(&name))?;
            let value = base.decoder.weights.get(theirs).tensor();
            parameters += value.len();
            model.decoder.weights.set(*id, Weight::Frozen(value))?;
        }
        model.save(&cx.out.join("model"), Dtype::F32)?;
        let share = parameters as f64 / model.decoder.parameter_count() as f64;
        let figures = json!({"tensors": drawn.len(), "parameters": parameters, "share": share});
        let metrics = figures.as_object().cloned().unwrap_or_default();
        cx.write_rows(&[Item { item: "run".into(), cluster: None, metrics }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    use postgrad_base::Stream;
    use postgrad_lab::stage::{Place, alone, golden};
    use postgrad_reason::ModelFolder;

    fn inputs(dir: &Path) -> [(&'static str, Place); 2] {
        let base: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let mut tuned = ModelFolder::load(&base).unwrap();
        tuned.decoder.weights.train(|_| true);
        for p in tuned.decoder.params() {
            let mut s = Stream::new(1, &["test", p.name()]);
            p.update(|w| w.iter_mut().for_each(|w| *w += 0.01 * s.normal() as f32));
        }
        tuned.save(&dir.join("tuned"), Dtype::F32).unwrap();
        [("base", Place::Model(base)), ("tuned", Place::Model(dir.join("tuned")))]
    }

    #[test]
    fn golden_run() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"model": "@tuned", "base": "@base"});
        golden(&Kind::of::<Reset>(), &config, &inputs(dir.path()), "8d109954d299d5a3");
    }

    #[test]
    fn nothing_reset_is_the_tuned_model_and_everything_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path());
        let model = |share: f64| {
            let out = dir.path().join(format!("out-{share}"));
            let config = json!({"model": "@tuned", "base": "@base", "share": share});
            alone(&Kind::of::<Reset>(), &config, &inputs, 0, &out).unwrap();
            ModelFolder::load(&out.join("model")).unwrap()
        };
        let at = |i: usize| {
            let Place::Model(dir) = &inputs[i].1 else { unreachable!() };
            ModelFolder::load(dir).unwrap()
        };
        let differing = |a: &ModelFolder, b: &ModelFolder| {
            let pairs = a.decoder.weights.iter().zip(b.decoder.weights.iter());
            let bits = |w: &Weight| w.tensor().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            pairs.filter(|((.., a), (.., b))| bits(a) != bits(b)).count()
        };
        let (base, tuned) = (at(0), at(1));
        let all = base.decoder.weights.iter().count();
        assert_eq!(differing(&base, &tuned), all);
        assert_eq!((differing(&model(0.0), &tuned), differing(&model(1.0), &base)), (0, 0));
        let half = model(0.5);
        let (from_tuned, from_base) = (differing(&half, &tuned), differing(&half, &base));
        assert_eq!(from_tuned + from_base, all, "each tensor is one or the other");
        assert!(from_tuned.abs_diff(from_base) <= 3, "{from_tuned} {from_base}");
    }
}
