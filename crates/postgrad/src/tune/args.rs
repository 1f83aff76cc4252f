//! The flags of `tune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use postgrad_base::{Error, Result};
use postgrad_data::{Columns, DataSpec, Kind as RecordKind, OnBadRow, OverLong, Roles, SourceSpec};
use postgrad_nn::LoraSpec;
use postgrad_nn::optim::Kind;
use postgrad_nn::schedule::Decay;
use postgrad_nn::select::Select;
use postgrad_train::{Checkpoints, Corrupt, Normalizer, Settings};

use crate::builtin::resolve_data;
use crate::model::OwnSettings;
use crate::tune::distill::DistillArgs;
use crate::tune::method::{PreferenceArgs, ReinforceArgs};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DecayName {
    Constant,
    Linear,
    Cosine,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NormalizerName {
    Tokens,
    Examples,
    Weights,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OptimizerName {
    Adamw,
    Sgd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OverLongName {
    Drop,
    Truncate,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BadRowName {
    Stop,
    Skip,
}

/// Fine-tune a model on examples
#[derive(Clone, Debug, Args)]
pub struct TuneArgs {
    /// A built-in model (seed-1m, seed-3m), a model folder, an adapter folder or a run
    #[arg(long, short)]
    pub model: String,
    /// Files, folders, globs or built-in names (gsm8k), each with an optional weight: a.jsonl:0.7 b.jsonl:0.3
    #[arg(long, short, num_args = 1.., required = true)]
    pub data: Vec<String>,
    /// How it learns: sft; from preferences dpo, ipo, kto, orpo, simpo, ...; from rewards grpo, rloo, ppo, ... [default: sft]
    #[arg(long, default_value = "sft", hide_default_value = true)]
    pub method: String,
    /// Data to evaluate on, before, along the way and after
    #[arg(long, num_args = 1..)]
    pub eval_data: Vec<String>,
    /// Keep this many examples of the data out of training and evaluate on them (default: 100, at most a tenth)
    #[arg(long)]
    pub hold_out: Option<usize>,
    /// Answer this many evaluation prompts too and report accuracy
    #[arg(long)]
    pub eval_answers: Option<usize>,
    /// Tokens an answer may have
    #[arg(long, default_value_t = 256)]
    pub max_answer: usize,

    /// What the rows are, where it is not to be found from their columns
    #[arg(long)]
    pub kind: Option<String>,
    /// Names of columns: prompt=q,completion=a
    #[arg(long)]
    pub columns: Option<String>,
    /// Names of roles: human=user,gpt=assistant
    #[arg(long)]
    pub roles: Option<String>,
    /// What to do at a malformed row
    #[arg(long, value_enum, default_value = "stop")]
    pub on_bad_row: BadRowName,
    /// What to do with examples over --max-len
    #[arg(long, value_enum, default_value = "drop")]
    pub over_long: OverLongName,
    /// The longest example, in tokens (default: 1024, or the model's context if that is shorter)
    #[arg(long)]
    pub max_len: Option<usize>,
    /// Whether prompts and completions go through the model's chat template
    #[arg(long, value_enum, default_value = "on")]
    pub template: Switch,

    /// Train all weights instead of a LoRA
    #[arg(long, conflicts_with = "lora")]
    pub full: bool,
    /// Train a LoRA also where the model's own settings say full
    #[arg(long)]
    pub lora: bool,
    /// With --full: train only weights whose names match (`*` stands for any characters)
    #[arg(long, requires = "full")]
    pub train: Vec<String>,
    /// Train a chosen part of all weights: hft,ratio=0.5,level=category or lift,rank=8,filter_rank=8,interval=200
    #[arg(long, conflicts_with_all = ["lora", "train"])]
    pub select: Option<String>,
    #[arg(long, default_value_t = 16)]
    pub rank: usize,
    /// (default: twice the rank)
    #[arg(long)]
    pub alpha: Option<f32>,
    /// Probability of dropping an input of the LoRA
    #[arg(long, default_value_t = 0.0)]
    pub dropout: f32,
    /// Scale by alpha / sqrt(rank)
    #[arg(long)]
    pub rank_stabilized: bool,

    #[arg(long)]
    pub lr: Option<f64>,
    /// Passes over the data
    #[arg(long)]
    pub epochs: Option<f64>,
    /// Updates, in place of epochs
    #[arg(long)]
    pub steps: Option<u64>,
    /// Sequences an update
    #[arg(long)]
    pub batch: Option<usize>,
    /// Tokens of one forward pass; an update of more is cut into several
    #[arg(long)]
    pub micro_tokens: Option<usize>,
    /// Share of the steps
    #[arg(long)]
    pub warmup: Option<f64>,
    #[arg(long, value_enum)]
    pub decay: Option<DecayName>,
    #[arg(long)]
    pub weight_decay: Option<f32>,
    /// L2 norm that gradients are clipped to; 0 switches clipping off
    #[arg(long)]
    pub clip: Option<f64>,
    #[arg(long, value_enum)]
    pub normalizer: Option<NormalizerName>,
    #[arg(long, value_enum)]
    pub optimizer: Option<OptimizerName>,
    /// Replace input tokens of completions, targets intact: rate=0.4,mode=random (or mask),warmup=0.66; further keys: where
    /// (completion, prompt, both), replace, start, per_batch, drop, targets, mask_token
    #[arg(long)]
    pub corrupt: Option<Corrupt>,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Recompute activations on the way back: less memory, more time
    #[arg(long)]
    pub checkpointing: bool,

    /// Steps between evaluations (default: before the first and after the last alone)
    #[arg(long)]
    pub eval_every: Option<u64>,
    /// When to write checkpoints: last, 200, every:200, log:8, at:10,100 [default: ten times a run, two kept]
    #[arg(long)]
    pub checkpoints: Option<String>,
    /// Checkpoints to keep, besides the best and the last; 0 is all [default: all, if --checkpoints is given]
    #[arg(long)]
    pub keep: Option<usize>,
    /// The metric of the best checkpoint: eval.loss or eval.accuracy
    #[arg(long)]
    pub best: Option<String>,
    /// Stop after this many evaluations without a better metric
    #[arg(long)]
    pub patience: Option<u64>,
    /// Wall time of training at most: 90s, 10m, 2h
    #[arg(long, value_parser = duration)]
    pub budget: Option<Duration>,

    /// The run's folder (default: a new one in the folder of runs). A folder with an unfinished run is gone on with
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on with this run
    #[arg(long, conflicts_with = "out")]
    pub resume: Option<String>,
    /// A name for the run
    #[arg(long, default_value = "")]
    pub name: String,
    /// Write the whole model with the adapter merged, besides the adapter
    #[arg(long)]
    pub merge: bool,
    /// Number format of a written model: f32, bf16, f16 (default: as the model was)
    #[arg(long)]
    pub dtype: Option<String>,
    /// Say what would be done, and what it would take, and stop
    #[arg(long)]
    pub dry_run: bool,

    /// Print the recipe of the same settings, for `postgrad run`, and stop
    #[arg(long)]
    pub print_recipe: bool,

    #[command(flatten)]
    pub preference: PreferenceArgs,
    #[command(flatten)]
    pub reinforce: ReinforceArgs,
    #[command(flatten)]
    pub distill: DistillArgs,
}

/// `90s`, `10m`, `1.5h`; a bare number is seconds.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((i, c)) if c.is_alphabetic() => (&text[..i], &text[i..]),
        _ => (text, "s"),
    };
    let factor = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write it as 90s, 10m or 2h".into()),
    };
    let number: f64 = number.trim().parse().map_err(|_| "write it as 90s, 10m or 2h".to_string())?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| "a time above 0".into())
}

impl TuneArgs {
    /// The settings of the run: flags over the model's own over the defaults.
    pub fn settings(&self, full: bool, own: Option<&OwnSettings>, context: usize) -> Result<Settings> {
        let mut s = if full { Settings::full() } else { Settings::lora() };
        if let Some(own) = own.filter(|own| own.full == full) {
            own.apply(&mut s);
        }
        fn set<T>(to: &mut T, from: Option<T>) {
            if let Some(v) = from {
                *to = v;
            }
        }
        s.seed = self.seed;
        set(&mut s.lr, self.lr);
        set(&mut s.epochs, self.epochs);
        s.steps = self.steps;
        set(&mut s.batch, self.batch);
        set(&mut s.micro_tokens, self.micro_tokens);
        s.max_len = self.max_len.unwrap_or(context.min(1024));
        if s.max_len > context {
            return Err(Error::usage(format!("--max-len is {}, the model's context {context}", s.max_len)));
        }
        set(&mut s.warmup, self.warmup);
        let decay = |d| match d {
            DecayName::Constant => Decay::Constant,
            DecayName::Linear => Decay::Linear,
            DecayName::Cosine => Decay::Cosine,
        };
        set(&mut s.decay, self.decay.map(decay));
        set(&mut s.weight_decay, self.weight_decay);
        if let Some(c) = self.clip {
            s.clip = (c != 0.0).then_some(c);
        }
        let normalizer = |n| match n {
            NormalizerName::Tokens => Normalizer::Tokens,
            NormalizerName::Examples => Normalizer::Examples,
            NormalizerName::Weights => Normalizer::Weights,
        };
        set(&mut s.normalizer, self.normalizer.map(normalizer));
        let optimizer = |o| match o {
            OptimizerName::Adamw => Kind::default(),
            OptimizerName::Sgd => Kind::Sgd { momentum: 0.9 },
        };
        if let Some(Select::Lift(_)) = self.selection()? {
            // As the paper's.
            s.optimizer = Kind::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-6 };
        }
        set(&mut s.optimizer, self.optimizer.map(optimizer));
        s.eval_every = self.eval_every;
        if let Some(text) = &self.checkpoints {
            s.checkpoints = Checkpoints::parse(text)?;
        }
        s.keep = self.keep.unwrap_or(if self.checkpoints.is_some() { 0 } else { 2 });
        s.best = self.best.clone();
        s.patience = self.patience;
        s.checkpointing = self.checkpointing;
        s.budget = self.budget.map(|d| d.as_secs_f64());
        s.check()?;
        Ok(s)
    }

    pub fn selection(&self) -> Result<Option<Select>> {
        self.select.as_deref().map(|text| Select::parse(text).map_err(|e| e.at("--select"))).transpose()
    }

    pub fn lora_spec(&self) -> Result<LoraSpec> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::usage(format!("--dropout is {}, and must be at least 0 and below 1", self.dropout)));
        }
        let alpha = self.alpha.unwrap_or(2.0 * self.rank as f32);
        Ok(LoraSpec { rank: self.rank, alpha, dropout: self.dropout, rank_stabilized: self.rank_stabilized })
    }

    /// How the named data is read.
    pub fn data_spec(&self, data: &[String], max_len: usize) -> Result<DataSpec> {
        let words = data.iter().map(|d| resolve_data(d)).collect::<Result<Vec<_>>>()?;
        Ok(DataSpec {
            sources: SourceSpec::parse_list(&words)?,
            kind: self.kind.as_deref().map(str::parse::<RecordKind>).transpose()?,
            columns: self.columns.as_deref().map(str::parse::<Columns>).transpose()?.unwrap_or_default(),
            roles: self.roles.as_deref().map(str::parse::<Roles>).transpose()?.unwrap_or_default(),
            on_bad_row: match self.on_bad_row {
                BadRowName::Stop => OnBadRow::Stop,
                BadRowName::Skip => OnBadRow::Skip,
            },
            max_len,
            over_long: match self.over_long {
                OverLongName::Drop => OverLong::Drop,
                OverLongName::Truncate => OverLong::Truncate,
            },
            seed: self.seed,
            ..DataSpec::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "m", "10x", "-3s", "nan"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
