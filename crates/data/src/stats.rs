//! `data stats`: how many examples, how long, how much of them is trained.

use std::sync::Arc;

use postgrad_base::Result;
use serde::Serialize;

use crate::dataset::{DataSpec, Dataset, Report};
use crate::render::Renderer;

/// Figures of a data set under a model's tokenizer and template. Lengths are in tokens.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// One line on how conversations are written.
    pub writes: String,
    /// Counts, over-long examples under the asked-for limit among them.
    pub report: Report,
    pub max_len: usize,
    pub over_long: u64,
    pub over_long_share: f64,
    pub mean: f64,
    /// 0, 5, 25, 50, 75, 95, 99 and 100 percent.
    pub percentiles: Vec<(u8, usize)>,
    /// Trained tokens of all tokens.
    pub trained_share: f64,
    /// Only the first so many examples were read.
    pub limited: bool,
}

/// Reads at most `limit` examples (0: all) in the order of the files. `spec.max_len` counts as the limit but drops none.
pub fn stats(spec: &DataSpec, renderer: Arc<Renderer>, limit: usize) -> Result<Stats> {
    let writes = renderer.says().to_string();
    let mut data = Dataset::open(DataSpec { max_len: 0, shuffle_buffer: 0, ..spec.clone() }, renderer)?;
    let mut lengths = Vec::new();
    let mut limited = false;
    while let Some(example) = data.next_example()? {
        lengths.push(example.len());
        if limit > 0 && lengths.len() >= limit {
            limited = true;
            break;
        }
    }
    lengths.sort_unstable();
    let at = |p: u8| lengths.get((lengths.len().saturating_sub(1)) * usize::from(p) / 100).copied().unwrap_or(0);
    let over_long = if spec.max_len == 0 { 0 } else { lengths.iter().filter(|n| **n > spec.max_len).count() as u64 };
    let report = data.report().clone();
    let n = lengths.len().max(1) as f64;
    Ok(Stats {
        writes,
        max_len: spec.max_len,
        over_long,
        over_long_share: over_long as f64 / n,
        mean: lengths.iter().sum::<usize>() as f64 / n,
        percentiles: [0, 5, 25, 50, 75, 95, 99, 100].map(|p| (p, at(p))).to_vec(),
        trained_share: report.trained_tokens as f64 / report.tokens.max(1) as f64,
        report,
        limited,
    })
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (file, kind) in &self.report.kinds {
            writeln!(f, "{file}: {kind}")?;
        }
        writeln!(f, "{}", self.writes)?;
        let limited = if self.limited { " (the first only)" } else { "" };
        writeln!(
            f,
            "rows {}, examples {}{limited}, tokens {}",
            self.report.rows, self.report.examples, self.report.tokens
        )?;
        write!(f, "length: mean {:.1}", self.mean)?;
        for (p, n) in &self.percentiles {
            write!(f, ", {p}% {n}")?;
        }
        writeln!(f, "\ntrained: {:.1}% of the tokens", self.trained_share * 100.0)?;
        if self.max_len > 0 {
            writeln!(f, "over {} tokens: {} ({:.1}%)", self.max_len, self.over_long, self.over_long_share * 100.0)?;
        }
        self.report.warnings().iter().try_for_each(|w| writeln!(f, "warning: {w}"))
    }
}
