//! Progress of long work: a live line with rate and time left on a terminal, a plain line every few seconds elsewhere,
//! JSON lines where the caller asked for them, nothing in tests.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Live on a terminal, plain elsewhere.
    #[default]
    Auto,
    Plain,
    Json,
    Quiet,
}

/// Progress over `total` units of work (0: unknown). All output goes to standard error.
pub struct Progress {
    mode: Mode,
    bar: Option<ProgressBar>,
    name: String,
    total: u64,
    done: u64,
    started: Instant,
    last: Option<Instant>,
}

const PLAIN_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub fn new(mode: Mode, name: &str, total: u64) -> Self {
        let mode = match mode {
            Mode::Auto if !std::io::stderr().is_terminal() => Mode::Plain,
            m => m,
        };
        let bar = (mode == Mode::Auto).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
            let style = "{prefix:.bold} {bar:24} {pos}/{len} {elapsed_precise} left {eta_precise}  {msg}";
            bar.set_style(ProgressStyle::with_template(style).expect("a fixed template").progress_chars("=> "));
            bar.set_prefix(name.to_string());
            bar
        });
        Self { mode, bar, name: name.into(), total, done: 0, started: Instant::now(), last: None }
    }

    /// Work done so far, with a short message (loss, tokens/s).
    pub fn set(&mut self, done: u64, message: &str) {
        self.done = done;
        match self.mode {
            Mode::Auto => {
                if let Some(bar) = &self.bar {
                    bar.set_position(done);
                    bar.set_message(message.to_string());
                }
            }
            Mode::Quiet => {}
            Mode::Plain | Mode::Json => {
                let due =
                    self.last.is_none_or(|t| t.elapsed() >= PLAIN_EVERY) || (self.total > 0 && done >= self.total);
                if due {
                    self.last = Some(Instant::now());
                    self.line(message);
                }
            }
        }
    }

    /// Work already done before this process (a resumed run) does not count into the rate.
    pub fn start_at(&mut self, done: u64) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// Prints a line without tearing the live one.
    pub fn say(&self, text: &str) {
        match (&self.bar, self.mode) {
            (Some(bar), _) => bar.suspend(|| eprintln!("{text}")),
            (None, Mode::Plain | Mode::Auto) => eprintln!("{text}"),
            (None, Mode::Json) => eprintln!("{}", serde_json::json!({"message": text})),
            (None, Mode::Quiet) => {}
        }
    }

    fn line(&self, message: &str) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let mut err = std::io::stderr().lock();
        let _ = if self.mode == Mode::Json {
            let row = serde_json::json!({"progress": self.name, "done": self.done, "total": self.total,
                "elapsed_s": (elapsed * 10.0).round() / 10.0, "message": message});
            writeln!(err, "{row}")
        } else {
            writeln!(err, "{} {}/{} {:.0}s  {message}", self.name, self.done, self.total, elapsed)
        };
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
