//! What a fine-tune will do and take: shown before every run, measured by `--dry-run`.

use postgrad_base::Result;
pub use postgrad_lab::speed::time;
use postgrad_lab::speed::update_seconds;
use postgrad_lab::table::grouped;
use postgrad_nn::select::Share;
use postgrad_numerics::percentiles;
use postgrad_reason::ModelFolder;
use postgrad_tensor::par;
use postgrad_train::{ExampleSource, Settings};
use serde_json::{Value, json};

use crate::machine::peak_memory;
use crate::tune::examples::DataSource;
use crate::tune::session::Tuned;

pub struct Plan {
    settings: Settings,
    tuned: Tuned,
    trainable: usize,
    share: Option<Share>,
    all: usize,
    examples: Option<u64>,
    steps: Option<u64>,
    tokens: u64,
    trained_tokens: u64,
    over_long: f64,
    /// Percentiles 50, 90, 99 and the maximum, in tokens.
    lengths: Vec<f64>,
    mean_length: f64,
    measured: Option<Measured>,
}

struct Measured {
    tokens_per_s: f64,
    seconds: f64,
    memory_mb: f64,
}

impl Plan {
    pub fn new(model: &ModelFolder, settings: &Settings, source: &DataSource, tuned: Tuned) -> Self {
        let report = source.report();
        let examples = source.count();
        let steps = settings
            .steps
            .or_else(|| examples.map(|n| ((n as f64 * settings.epochs / settings.batch as f64).ceil() as u64).max(1)));
        let lengths: Vec<f64> = source.lengths().iter().map(|l| *l as f64).collect();
        let mean_length = if lengths.is_empty() { 0.0 } else { lengths.iter().sum::<f64>() / lengths.len() as f64 };
        Self {
            settings: settings.clone(),
            tuned,
            trainable: model.decoder.params().iter().map(|p| p.len()).sum(),
            share: None,
            all: model.decoder.parameter_count(),
            examples,
            steps,
            tokens: report.tokens,
            trained_tokens: report.trained_tokens,
            over_long: report.over_long_share(),
            lengths: if lengths.is_empty() { vec![] } else { percentiles(&lengths, &[0.5, 0.9, 0.99, 1.0]) },
            mean_length,
            measured: None,
        }
    }

    /// Counts what a selection trains.
    pub fn selected(mut self, share: Share) -> Self {
        self.trainable = share.parameters;
        self.share = Some(share);
        self
    }

    /// Times forward and backward on the first examples, and says what memory the optimiser adds to what they took.
    pub fn measured(mut self, model: &ModelFolder, source: &mut DataSource) -> Result<Self> {
        source.start(0)?;
        let mut examples = Vec::new();
        let mut tokens = 0;
        while tokens < self.settings.micro_tokens && examples.len() < self.settings.batch {
            let Some(e) = source.next_example()? else { break };
            tokens += e.len();
            examples.push(e);
        }
        let update_tokens = self.mean_length.max(1.0) * self.settings.batch as f64;
        let seconds_per_update = update_seconds(&model.decoder, &examples, self.settings.checkpointing, update_tokens)?;
        let memory = peak_memory() as f64 / 1e6 + self.trainable as f64 * 8.0 / 1e6;
        self.measured = Some(Measured {
            tokens_per_s: update_tokens / seconds_per_update,
            seconds: seconds_per_update * self.steps.unwrap_or(0) as f64,
            memory_mb: memory,
        });
        Ok(self)
    }

    pub fn steps(&self) -> Option<u64> {
        self.steps
    }

    pub fn to_text(&self, own: bool) -> String {
        let s = &self.settings;
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_string(), value));
        let share = 100.0 * self.trainable as f64 / self.all.max(1) as f64;
        let how = if self.tuned == Tuned::Full { "weights" } else { "LoRA" };
        row(
            "trained",
            format!(
                "{} of {} parameters ({share:.2}%, {how})",
                grouped(self.trainable as u64),
                grouped(self.all as u64)
            ),
        );
        if let Some(share) = self.share {
            row("selected", share.to_string());
        }
        if let Some(n) = self.examples {
            let tokens = format!("{} tokens, {} trained", grouped(self.tokens), grouped(self.trained_tokens));
            row("data", format!("{} examples, {tokens}", grouped(n)));
        }
        if let [p50, p90, p99, max] = self.lengths[..] {
            let over = format!("{:.1}% over --max-len {}", 100.0 * self.over_long, s.max_len);
            row("lengths", format!("50% {p50:.0}, 90% {p90:.0}, 99% {p99:.0}, longest {max:.0} tokens; {over}"));
        }
        if let Some(steps) = self.steps {
            row("steps", format!("{} of {} sequences, {:?} normaliser", grouped(steps), s.batch, s.normalizer));
        }
        row(
            "rate",
            format!(
                "{:e}, warm-up {:.0}%, {:?}, clip {}",
                s.lr,
                100.0 * s.warmup,
                s.decay,
                s.clip.map_or("off".into(), |c| c.to_string())
            ),
        );
        row("seed", s.seed.to_string());
        if let Some(m) = &self.measured {
            row("memory", format!("about {:.0} MB", m.memory_mb));
            row(
                "time",
                format!("about {} at {:.0} tokens/s on {} threads", time(m.seconds), m.tokens_per_s, par::threads()),
            );
        }
        let mut text = rows.iter().map(|(n, v)| format!("{n:8} {v}")).collect::<Vec<_>>().join("\n");
        let sources = Settings::sources(self.tuned == Tuned::Lora);
        let of = if own {
            "learning rate and batch are the model's own (tune.json); other defaults: "
        } else {
            "defaults: "
        };
        let stated = |name: &str| own && (name == "learning rate" || name == "sequences per update");
        let list: Vec<String> =
            sources.iter().filter(|(n, ..)| !stated(n)).map(|(n, v, from)| format!("{n} {v} ({from})")).collect();
        text.push_str(&format!("\n{of}{}", list.join("; ")));
        text
    }

    pub fn to_json(&self) -> Value {
        json!({"settings": self.settings, "trained_parameters": self.trainable, "selected": self.share, "parameters": self.all,
            "examples": self.examples, "steps": self.steps, "tokens": self.tokens, "trained_tokens": self.trained_tokens,
            "over_long_share": self.over_long, "length_percentiles": {"50": self.lengths.first(), "90": self.lengths.get(1),
            "99": self.lengths.get(2), "100": self.lengths.get(3)},
            "memory_mb": self.measured.as_ref().map(|m| m.memory_mb.round()),
            "seconds": self.measured.as_ref().map(|m| m.seconds.round()),
            "tokens_per_s": self.measured.as_ref().map(|m| m.tokens_per_s.round()),
            "sources": Settings::sources(self.tuned == Tuned::Lora).into_iter()
                .map(|(name, value, from)| json!({"name": name, "value": value, "source": from})).collect::<Vec<_>>()})
    }
}
