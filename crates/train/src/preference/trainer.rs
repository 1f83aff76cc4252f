//! The preference trainer: groups of answers to updates.
//!
//! An update takes `batch` groups, scores their answers in passes of at most `micro_tokens` (a group is never cut), and divides
//! the summed loss by the number of groups. The reference's log-probs are computed once, before the first update, and kept
//! in the run's folder. Dropout is off, so that the first loss of DPO is ln 2. Everything random is a function of the seed and
//! the step: a run killed and gone on with ends in the same bits.

use postgrad_base::cancel::Cancel;
use postgrad_base::event::Sink;
use postgrad_base::progress::Mode;
use postgrad_base::{Context, Error, Result, fs};
use postgrad_data::Example;
use postgrad_nn::decoder::Decoder;
use postgrad_tensor::{Param, backward, no_grad};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::data::Group;
use super::head::{HeadKind, RewardHead};
use super::loss::{Answers, Computed, Figures, Form, Loss};
use crate::drive::{self, Drive, Update, Work};
use crate::keep;
use crate::reference::Reference;
use crate::run_dir::RunDir;
use crate::score::{self, Scoring};
use crate::settings::Settings;
use crate::sft::Outcome;

/// A preference fine-tune, ready to run. `settings.batch` counts groups; its normaliser is always the groups.
pub struct Preference<'a> {
    /// What is trainable in it is trained, in place.
    pub decoder: &'a Decoder,
    pub settings: &'a Settings,
    pub loss: Loss,
    /// With a head it is a reward model that is trained. Of a pairwise one the value takes the place of an answer's log-prob
    /// ([`Loss::reward_model`]); the others have a loss of their own.
    pub head: Option<&'a RewardHead>,
    pub groups: &'a [Group],
    /// Groups to measure on, before the first update, along the way and after the last.
    pub held_out: &'a [Group],
    pub sink: &'a mut dyn Sink,
    pub cancel: Cancel,
    pub progress: Mode,
    pub dir: Option<&'a RunDir>,
}

/// Sums of the reference's log-probs, one list a group.
#[derive(Serialize, Deserialize)]
struct Cached {
    /// Of the tokens and weights that were scored.
    digest: String,
    train: Vec<Vec<f32>>,
    held_out: Vec<Vec<f32>>,
}

impl Preference<'_> {
    /// Runs to the end, from the last checkpoint of the folder where there is one.
    pub fn run(self) -> Result<Outcome> {
        self.settings.check()?;
        self.loss.check()?;
        if self.groups.is_empty() {
            return Err(Error::usage("there is nothing to train on: no groups of answers"));
        }
        if self.loss.form == Form::Kto && self.settings.batch < 2 {
            return Err(Error::usage(
                "kto needs a batch of 2 rows or more: its baseline pairs prompts with others' answers",
            ));
        }
        let reference = self.loss.reference.then(|| Reference::of(self.decoder));
        let cached = reference.as_ref().map(|r| self.cached(r)).transpose()?;
        if self.head.is_some() && (self.loss.reference || self.loss.nll != 0.0) {
            return Err(Error::usage("a reward model has neither a reference nor a likelihood"));
        }
        let drive = Drive {
            decoder: self.decoder,
            params: self.params(),
            settings: self.settings,
            fingerprint: self.fingerprint(),
            total: self.total_steps(),
            sink: self.sink,
            cancel: self.cancel,
            progress: self.progress,
            dir: self.dir,
        };
        let Self { decoder, settings, loss, head, groups, held_out, .. } = self;
        drive.run(&mut Compare { decoder, settings, loss, head, groups, held_out, cached, reference })
    }

    fn params(&self) -> Vec<Param> {
        let mut params = self.decoder.params();
        params.extend(self.head.iter().flat_map(|h| h.params()));
        params
    }

    fn total_steps(&self) -> u64 {
        let s = self.settings;
        let epochs = || (self.groups.len() as f64 * s.epochs / s.batch as f64).ceil() as u64;
        s.steps.unwrap_or_else(epochs).max(1)
    }

    fn fingerprint(&self) -> String {
        let mut all = keep::deciding(self.settings);
        all["loss"] = json!(self.loss);
        if let Some(head) = self.head.filter(|h| h.kind != HeadKind::Pairwise) {
            all["head"] = json!(head.kind);
        }
        all.to_string()
    }

    /// Reference log-probs of all data: from the run's folder where they are there, else computed and kept there.
    fn cached(&self, reference: &Reference) -> Result<Cached> {
        let mut hasher = String::new();
        for e in self.groups.iter().chain(self.held_out).flat_map(Group::sequences) {
            hasher = postgrad_tasks::stable_hash(&[&hasher, &format!("{:?} {:?}", e.tokens, e.weights)]);
        }
        let path = self.dir.map(|d| d.path().join("reference.json"));
        if let Some(bytes) = path.as_ref().and_then(|p| std::fs::read(p).ok())
            && let Ok(cached) = serde_json::from_slice::<Cached>(&bytes)
            && cached.digest == hasher
        {
            return Ok(cached);
        }
        let of = |groups: &[Group]| -> Result<Vec<Vec<f32>>> {
            let examples: Vec<Example> = groups.iter().flat_map(|g| &g.answers).map(|a| a.example.clone()).collect();
            let mut sums = score::sums(reference.decoder(), &examples, self.settings.micro_tokens)?.into_iter();
            // A gold answer is not compared with the reference.
            let of_group = |g: &Group| {
                let scored = sums.by_ref().take(g.answers.len());
                scored.chain(g.gold.iter().map(|_| 0.0)).collect()
            };
            Ok(groups.iter().map(of_group).collect())
        };
        let cached = Cached { digest: hasher, train: of(self.groups)?, held_out: of(self.held_out)? };
        if let Some(path) = path {
            let text = serde_json::to_vec(&cached).context(|| "cannot write the reference's log-probs".into())?;
            fs::write(&path, &text)?;
        }
        Ok(cached)
    }
}

/// The work of the updates.
struct Compare<'a> {
    decoder: &'a Decoder,
    settings: &'a Settings,
    loss: Loss,
    head: Option<&'a RewardHead>,
    groups: &'a [Group],
    held_out: &'a [Group],
    cached: Option<Cached>,
    reference: Option<Reference>,
}

impl Work for Compare<'_> {
    fn update(&mut self, step: u64) -> Result<Update> {
        let chosen = drive::gather(self.settings.seed, self.groups.len(), self.settings.batch, step);
        let groups: Vec<&Group> = chosen.iter().map(|i| &self.groups[*i]).collect();
        let baseline = match (self.loss.form, self.loss.reference) {
            (Form::Kto, true) => self.baseline(&groups)?,
            _ => 0.0,
        };
        let (mut update, mut figures) = (Update::default(), Figures::default());
        for range in cut_groups(&groups, self.settings.micro_tokens) {
            let part = &groups[range.clone()];
            let of = |c: &Cached| chosen[range].iter().flat_map(|i| c.train[*i].iter().copied()).collect::<Vec<f32>>();
            let (computed, read) = self.forward(part, self.cached.as_ref().map(of).as_deref(), baseline)?;
            let share = computed.loss.mul_scalar(1.0 / groups.len() as f32);
            update.loss += f64::from(share.item());
            figures.add(&computed.figures);
            update.tokens += read as u64;
            if share.needs_grad() {
                backward(&share);
            }
        }
        update.fields = means(&figures);
        if figures.pairs > 0.0 {
            update.told = format!("  right {:.2}", figures.right / figures.pairs);
        }
        Ok(update)
    }

    fn evaluate(&mut self) -> Result<Option<(Map<String, Value>, String)>> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let groups: Vec<&Group> = self.held_out.iter().collect();
        let (mut loss, mut figures) = (0.0, Figures::default());
        for range in cut_groups(&groups, self.settings.micro_tokens) {
            let part = &groups[range.clone()];
            let cached = self.cached.as_ref().map(|c| c.held_out[range].concat());
            let (computed, _) = no_grad(|| self.forward(part, cached.as_deref(), 0.0))?;
            loss += f64::from(computed.loss.item());
            figures.add(&computed.figures);
        }
        loss /= groups.len() as f64;
        let mut fields = Map::from_iter([("loss".to_string(), json!(loss))]);
        if figures.pairs > 0.0 {
            fields.insert("accuracy".into(), json!(figures.right / figures.pairs));
            fields.insert("n".into(), json!(figures.pairs));
        }
        Ok(Some((fields, format!("loss {loss:.4}, right {}/{}", figures.right, figures.pairs))))
    }
}

impl Compare<'_> {
    /// The summed loss of groups in one pass, and the tokens read.
    fn forward(&self, groups: &[&Group], cached: Option<&[f32]>, baseline: f32) -> Result<(Computed, usize)> {
        let checkpointing = self.settings.checkpointing;
        if let Some(head) = self.head {
            return head.loss(self.decoder, groups, &self.loss, checkpointing);
        }
        let scoring = Scoring { checkpointing, ..Scoring::default() };
        let scored = score::score(self.decoder, &examples(groups), scoring)?;
        let (mut group, mut rank, mut gold) = (vec![], vec![], vec![]);
        for (g, of) in groups.iter().enumerate() {
            rank.extend(of.answers.iter().map(|a| a.rank).chain(of.gold.iter().map(|_| 0.0)));
            gold.extend(of.answers.iter().map(|_| false).chain(of.gold.iter().map(|_| true)));
            group.resize(rank.len(), g as u32);
        }
        let computed = self.loss.of(&Answers {
            sums: &scored.sums(),
            lengths: &scored.lengths(),
            reference: cached,
            group: &group,
            rank: &rank,
            gold: &gold,
            weight: &groups.iter().map(|g| g.weight).collect::<Vec<_>>(),
            baseline,
        });
        Ok((computed, scored.tokens))
    }

    /// KTO's z: the mean log-ratio of answers put under other prompts of the update, at least 0, without gradient.
    fn baseline(&self, groups: &[&Group]) -> Result<f32> {
        let Some(reference) = &self.reference else { return Ok(0.0) };
        let all: Vec<&Example> = groups.iter().flat_map(|g| &g.answers).map(|a| &a.example).collect();
        let crossed: Vec<Example> = (0..all.len()).map(|i| crossed(all[i], all[(i + 1) % all.len()])).collect();
        let context = self.decoder.config.max_position_embeddings;
        let crossed: Vec<Example> = crossed.into_iter().filter(|e| e.len() <= context && e.trained() > 0).collect();
        let [now, then] = [self.decoder, reference.decoder()]
            .map(|d| no_grad(|| score::sums(d, &crossed, self.settings.micro_tokens)));
        let (now, then) = (now?, then?);
        let n = crossed.len().max(1) as f32;
        Ok((now.iter().zip(&then).map(|(a, b)| a - b).sum::<f32>() / n).max(0.0))
    }
}

/// What the groups of an update came to, for its event.
fn means(f: &Figures) -> Map<String, Value> {
    let all = [
        ("margin", f.margin, f.pairs),
        ("right", f.right, f.pairs),
        ("better_log_prob", f.better_log_prob, f.better),
        ("worse_log_prob", f.worse_log_prob, f.worse),
    ];
    all.into_iter().filter(|(.., n)| *n > 0.0).map(|(name, sum, n)| (name.to_string(), json!(sum / n))).collect()
}

/// The prompt of one sequence with the answer of another.
fn crossed(prompt: &Example, answer: &Example) -> Example {
    let begins = |e: &Example| e.weights.iter().position(|w| *w != 0.0).unwrap_or(e.len());
    let (p, a) = (begins(prompt), begins(answer));
    let mut out = Example::new([&prompt.tokens[..p], &answer.tokens[a..]].concat());
    out.weights = [&vec![0.0; p], &answer.weights[a..]].concat();
    out
}

fn examples<'a>(groups: &[&'a Group]) -> Vec<&'a Example> {
    groups.iter().flat_map(|g| g.sequences()).collect()
}

/// Cuts groups, in order, into passes of at most `tokens` (one group at least).
fn cut_groups(groups: &[&Group], tokens: usize) -> Vec<std::ops::Range<usize>> {
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    let mut room = 0;
    for (i, g) in groups.iter().enumerate() {
        match parts.last_mut() {
            Some(part) if g.tokens() <= room => {
                room -= g.tokens();
                part.end = i + 1;
            }
            _ => {
                room = tokens.saturating_sub(g.tokens());
                parts.push(i..i + 1);
            }
        }
    }
    parts
}
