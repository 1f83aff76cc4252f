//! `--method`: the flags of preference and reinforcement tuning, and what they make of a method's published settings.

use std::time::Duration;

use clap::{Args, ValueEnum};
use postgrad_base::{Error, Result};
use postgrad_nn::schedule::Decay;
use postgrad_tasks::task::nearest;
use postgrad_train::Settings;
use postgrad_train::preference::loss::NAMES as LOSSES;
use postgrad_train::preference::{Changes, HeadKind, Length, Loss};
use postgrad_train::rewards::{Limits, Rewards};
use postgrad_train::rl::settings::NAMES as METHODS;
use postgrad_train::rl::{Baseline, CurriculumSpec, KlKind, KlPlace, Method};

use crate::model::OwnSettings;
use crate::tune::args::{Switch, TuneArgs, duration};
use crate::tune::distill::{NAMES as DISTILLATIONS, Way};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LengthName {
    Sum,
    Mean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Judge {
    /// Every token of an answer
    All,
    /// Tokens from where the answers to a prompt part (step-level pairs)
    Parting,
}

/// The head of `--method reward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Head {
    Pairwise,
    Outcome,
    Process,
}

/// Flags of preference methods. What is not given is the method's published setting.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Preference methods")]
pub struct PreferenceArgs {
    /// How strongly answers are held to the reference policy
    #[arg(long, value_name = "X")]
    pub beta: Option<f64>,
    /// Share of pairs taken to be the wrong way round
    #[arg(long, value_name = "P")]
    pub label_smoothing: Option<f64>,
    /// Margin between the answers of a pair (SimPO's gamma)
    #[arg(long, value_name = "X")]
    pub margin: Option<f64>,
    /// Factor on the likelihood of the better answer, added to the loss
    #[arg(long, value_name = "X")]
    pub nll: Option<f64>,
    /// Whether an answer's log-prob is the sum over its tokens or their mean
    #[arg(long, value_enum, value_name = "HOW")]
    pub length: Option<LengthName>,
    /// What the head of a reward model says: which of two answers is better, whether an answer is right, or each of its steps
    #[arg(long, value_enum, value_name = "KIND")]
    pub head: Option<Head>,
    /// Which tokens of the answers are judged
    #[arg(long, value_enum, default_value = "all", hide_default_value = true, value_name = "WHICH")]
    pub judge: Judge,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KlKindName {
    K1,
    K2,
    K3,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KlPlaceName {
    Loss,
    Reward,
}

/// Flags of reinforcement methods. What is not given is the method's published setting.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Reinforcement methods")]
pub struct ReinforceArgs {
    /// NAME[?key=value&...][:weight], several times: correct, partial, format, tags, cosine, overlong, repetition, repeat, or
    /// exec:COMMAND, your own program [default: correct]
    #[arg(long, value_name = "REWARD")]
    pub reward: Vec<String>,
    /// How long a reward's program may take for one rollout
    #[arg(long, value_parser = duration, default_value = "2m", value_name = "TIME")]
    pub reward_timeout: Duration,
    /// Reward 8 samples, show them, and stop
    #[arg(long)]
    pub try_reward: bool,
    /// Samples a prompt (--batch counts prompts)
    #[arg(long, value_name = "N")]
    pub group: Option<usize>,
    /// Tokens a completion may have
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Of the rollouts
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Of the rollouts
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Discount of rewards, where the method has returns (reinforce++, ppo); a reward may have its own (correct?gamma=1)
    #[arg(long, value_name = "X")]
    pub gamma: Option<f64>,
    /// Lambda of generalised advantages (ppo)
    #[arg(long, value_name = "X")]
    pub lambda: Option<f64>,
    /// Factor on the KL to the reference policy; 0 is off
    #[arg(long, value_name = "X")]
    pub kl: Option<f64>,
    /// The KL's estimator
    #[arg(long, value_enum, value_name = "KIND")]
    pub kl_kind: Option<KlKindName>,
    /// Whether the KL is part of the loss or taken off the rewards
    #[arg(long, value_enum, value_name = "PLACE")]
    pub kl_place: Option<KlPlaceName>,
    /// How far the ratio to the old policy may fall below 1
    #[arg(long, value_name = "X")]
    pub clip_low: Option<f64>,
    /// How far the ratio to the old policy may rise above 1
    #[arg(long, value_name = "X")]
    pub clip_high: Option<f64>,
    /// Factor on the entropy, which is rewarded
    #[arg(long, value_name = "X")]
    pub entropy: Option<f64>,
    /// Weigh tokens by old over sampling probability, at most this
    #[arg(long, value_name = "C")]
    pub importance_cap: Option<f64>,
    /// Passes over each rollout
    #[arg(long, value_name = "N")]
    pub rollout_epochs: Option<usize>,
    /// Updates a pass over a rollout
    #[arg(long, value_name = "N")]
    pub minibatches: Option<usize>,
    /// Draw further prompts in place of groups without variance, at most this many rounds; 0 is off
    #[arg(long, value_name = "N")]
    pub dynamic_rounds: Option<usize>,
    /// Leave samples that were cut off out of the update
    #[arg(long)]
    pub mask_truncated: bool,
    /// Which prompts come next: passes, ordered?by=COLUMN, or sec?by=COLUMN[&rate=0.5&temperature=1], a bandit over categories
    /// [default: passes]
    #[arg(long, value_name = "CURRICULUM")]
    pub curriculum: Option<String>,
    /// Answered examples for a supervised update after every --sft-every iterations
    #[arg(long, num_args = 1.., requires = "sft_every", value_name = "DATA")]
    pub sft_data: Vec<String>,
    /// Iterations between supervised updates
    #[arg(long, requires = "sft_data", value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub sft_every: Option<u64>,
    /// A control: deal out each rollout's rewards anew among its samples
    #[arg(long)]
    pub shuffle_rewards: bool,
    /// Go on where nearly all samples are cut off or nearly all groups have equal rewards
    #[arg(long)]
    pub no_guard: bool,
}

/// The family of a method, with its settings.
pub enum Which {
    Sft,
    Preference(Loss),
    /// A scalar head that puts better answers above worse, or says what is right.
    RewardModel(Loss, HeadKind),
    Reinforce(Box<Method>),
    Distill(Way),
}

impl Which {
    pub fn of(args: &TuneArgs) -> Result<Self> {
        let name = args.method.as_str();
        let none = |flag: Option<&str>, family: &str| match flag {
            Some(flag) => Err(Error::usage(format!("{flag} is of {family} methods, and the method is {name}"))),
            None => Ok(()),
        };
        let preference = name == "reward" || LOSSES.iter().any(|l| l.0 == name);
        let reinforcement = METHODS.iter().any(|m| m.0 == name);
        let distillation = DISTILLATIONS.iter().any(|d| d.0 == name);
        if !preference {
            none(args.preference.given(), "preference")?;
        }
        if distillation {
            // Its own samples have a length and a temperature too.
            let r = ReinforceArgs { max_tokens: None, temperature: None, ..args.reinforce.clone() };
            none(r.given(), "reinforcement")?;
        } else if !reinforcement {
            none(args.reinforce.given(), "reinforcement")?;
        }
        if !distillation {
            none(args.distill.given(), "distillation")?;
        }
        if name == "sft" {
            return Ok(Self::Sft);
        }
        if name == "reward" {
            return args.preference.reward_model();
        }
        if args.preference.head.is_some() {
            return Err(Error::usage(format!("--head is of reward models, and the method is {name}")));
        }
        if preference {
            return args.preference.over(Loss::named(name)?).map(Self::Preference);
        }
        if reinforcement {
            return args.reinforce.over(Method::named(name)?).map(|m| Self::Reinforce(Box::new(m)));
        }
        if distillation {
            let (max_tokens, temperature) = (args.reinforce.max_tokens, args.reinforce.temperature);
            return args.distill.way(name, max_tokens, temperature).map(Self::Distill);
        }
        let named = LOSSES.iter().chain(&METHODS).chain(&DISTILLATIONS).map(|n| n.0);
        let known: Vec<&str> = ["sft", "reward"].into_iter().chain(named).collect();
        Err(Error::unknown("method", name, &known, nearest(name, &known)))
    }
}

fn set<T>(to: &mut T, from: Option<T>) {
    if let Some(v) = from {
        *to = v;
    }
}

/// The first flag that was given.
pub fn first(flags: &[(&'static str, bool)]) -> Option<&'static str> {
    flags.iter().find(|(_, given)| *given).map(|(name, _)| *name)
}

impl PreferenceArgs {
    fn given(&self) -> Option<&'static str> {
        first(&[
            ("--beta", self.beta.is_some()),
            ("--label-smoothing", self.label_smoothing.is_some()),
            ("--margin", self.margin.is_some()),
            ("--nll", self.nll.is_some()),
            ("--length", self.length.is_some()),
            ("--judge", self.judge != Judge::All),
            ("--head", self.head.is_some()),
        ])
    }

    fn reward_model(&self) -> Result<Which> {
        let kind = match self.head.unwrap_or(Head::Pairwise) {
            Head::Pairwise => HeadKind::Pairwise,
            Head::Outcome => HeadKind::Outcome,
            Head::Process => HeadKind::Process,
        };
        let of_pairs = Self { head: None, ..self.clone() };
        if let Some(flag) = of_pairs.given().filter(|_| kind != HeadKind::Pairwise) {
            return Err(Error::usage(format!("{flag} is of losses over pairs, and the head judges single answers")));
        }
        Ok(Which::RewardModel(self.over(Loss::reward_model())?, kind))
    }

    fn over(&self, loss: Loss) -> Result<Loss> {
        let Self { beta, margin, nll, label_smoothing: smoothing, .. } = *self;
        let length = self.length.map(|l| if matches!(l, LengthName::Sum) { Length::Sum } else { Length::Mean });
        Changes { beta, margin, nll, smoothing, length, ..Changes::default() }.over(loss)
    }
}

impl ReinforceArgs {
    fn given(&self) -> Option<&'static str> {
        first(&[
            ("--reward", !self.reward.is_empty()),
            ("--try-reward", self.try_reward),
            ("--group", self.group.is_some()),
            ("--max-tokens", self.max_tokens.is_some()),
            ("--temperature", self.temperature.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--gamma", self.gamma.is_some()),
            ("--lambda", self.lambda.is_some()),
            ("--kl", self.kl.is_some()),
            ("--kl-kind", self.kl_kind.is_some()),
            ("--kl-place", self.kl_place.is_some()),
            ("--clip-low", self.clip_low.is_some()),
            ("--clip-high", self.clip_high.is_some()),
            ("--entropy", self.entropy.is_some()),
            ("--importance-cap", self.importance_cap.is_some()),
            ("--rollout-epochs", self.rollout_epochs.is_some()),
            ("--minibatches", self.minibatches.is_some()),
            ("--dynamic-rounds", self.dynamic_rounds.is_some()),
            ("--mask-truncated", self.mask_truncated),
            ("--curriculum", self.curriculum.is_some()),
            ("--sft-data", !self.sft_data.is_empty()),
            ("--shuffle-rewards", self.shuffle_rewards),
            ("--no-guard", self.no_guard),
        ])
    }

    fn over(&self, mut m: Method) -> Result<Method> {
        set(&mut m.group, self.group);
        set(&mut m.max_tokens, self.max_tokens);
        set(&mut m.temperature, self.temperature);
        set(&mut m.top_p, self.top_p);
        set(&mut m.epochs, self.rollout_epochs);
        set(&mut m.minibatches, self.minibatches);
        set(&mut m.dynamic_rounds, self.dynamic_rounds);
        m.mask_truncated |= self.mask_truncated;
        self.discounts(&mut m.estimator.baseline)?;
        let o = &mut m.objective;
        set(&mut o.kl, self.kl);
        set(&mut o.entropy, self.entropy);
        let kind = |k| match k {
            KlKindName::K1 => KlKind::K1,
            KlKindName::K2 => KlKind::K2,
            KlKindName::K3 => KlKind::K3,
        };
        set(&mut o.kl_kind, self.kl_kind.map(kind));
        let place = |p| if matches!(p, KlPlaceName::Loss) { KlPlace::Loss } else { KlPlace::Reward };
        set(&mut o.kl_place, self.kl_place.map(place));
        if self.clip_low.is_some() || self.clip_high.is_some() {
            let (low, high) = o.clip.unwrap_or((0.2, 0.2));
            o.clip = Some((self.clip_low.unwrap_or(low), self.clip_high.unwrap_or(high)));
        }
        if self.importance_cap.is_some() {
            o.importance_cap = self.importance_cap;
        }
        let m = m.settle();
        m.check()?;
        Ok(m)
    }

    /// `--gamma` and `--lambda`, which not every baseline has.
    fn discounts(&self, baseline: &mut Baseline) -> Result<()> {
        let (own_gamma, own_lambda) = match baseline {
            Baseline::Returns { gamma } => (Some(gamma), None),
            Baseline::Gae { gamma, lambda } => (Some(gamma), Some(lambda)),
            _ => (None, None),
        };
        for (flag, to, from) in [("--gamma", own_gamma, self.gamma), ("--lambda", own_lambda, self.lambda)] {
            match (to, from) {
                (Some(to), Some(x)) => *to = x,
                (None, Some(_)) => {
                    return Err(Error::usage(format!("the method has no {}", &flag[2..]))
                        .at(flag)
                        .help("reinforce++ and ppo give each token a return, with --gamma; ppo has --lambda"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn curriculum(&self) -> Result<CurriculumSpec> {
        let spec = self.curriculum.as_deref().map(CurriculumSpec::parse).transpose();
        Ok(spec.map_err(|e| e.at("--curriculum"))?.unwrap_or_default())
    }

    pub fn rewards(&self, max_tokens: usize) -> Result<Rewards> {
        Rewards::parse(&self.reward, Limits { max_tokens, command: self.reward_timeout })
    }
}

/// Settings of the training loop: flags over defaults that are gentler than those of supervised tuning. The learning rate is
/// 1e-6 for all weights (TRL's `DPOConfig` and `GRPOConfig`), 1e-5 for a LoRA, and a tenth of what a model states for itself.
pub fn settings(args: &TuneArgs, full: bool, own: Option<&OwnSettings>, context: usize) -> Result<Settings> {
    let mut s = args.settings(full, own, context)?;
    if args.lr.is_none() {
        let stated = own.filter(|own| own.full == full).map(|own| own.lr / 10.0);
        s.lr = stated.unwrap_or(if full { 1e-6 } else { 1e-5 });
    }
    if args.batch.is_none() {
        s.batch = 16;
    }
    if args.decay.is_none() {
        s.decay = Decay::Constant;
    }
    Ok(s)
}

/// Refuses what belongs to supervised tuning alone.
pub fn refuse(args: &TuneArgs) -> Result<()> {
    let method = &args.method;
    if args.dropout > 0.0 {
        return Err(Error::usage(format!(
            "--dropout is off under {method}: log-probs are compared with the reference's"
        )));
    }
    if args.normalizer.is_some() {
        return Err(Error::usage(format!("--normalizer is of sft; {method} has its own")));
    }
    for (flag, given) in [("--corrupt", args.corrupt.is_some()), ("--select", args.select.is_some())] {
        if given {
            return Err(Error::usage(format!("{flag} is of sft, and the method is {method}")));
        }
    }
    Ok(())
}

/// What a preference or reinforcement run takes the template from.
pub fn templated(args: &TuneArgs) -> bool {
    matches!(args.template, Switch::On)
}
