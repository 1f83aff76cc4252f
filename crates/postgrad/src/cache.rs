//! `cache`: the results of stages that are kept, and how to be rid of them.

use clap::Subcommand;
use postgrad_base::{Error, Result};
use postgrad_lab::engine::{Cache, Entry};
use postgrad_lab::table::{Cell, Table};
use serde_json::json;

use crate::builtin::cache_dir;
use crate::frame::{App, say};

/// Results of stages that are kept: list, prune
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every result with its size, least recently used first
    List,
    /// Remove unfinished parts, then least recently used results and what was made from them
    Prune {
        /// Keep at most this much: 500MB, 5GB
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max: u64,
    },
}

/// `5GB`, `500 MB`, `0`.
fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = match text[digits.len()..].trim().to_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        _ => return Err(format!("`{text}` is no size: 500MB, 5GB")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no size: 500MB, 5GB"))?;
    if number.is_finite() && number >= 0.0 { Ok((number * unit) as u64) } else { Err("a size is at least 0".into()) }
}

pub fn run(args: Args, app: &App) -> Result<()> {
    let cache = Cache::new(&cache_dir()?.join("stages"));
    match args.what {
        What::List => {
            let entries = cache.list()?;
            let mut table = Table::new(&["result", "stage", "kind", "MB", "used, hours ago"]);
            for e in &entries {
                let stage = if e.kind.is_empty() { "(unfinished)" } else { &e.stage };
                table.row([
                    Cell::text(e.key.get(..12).unwrap_or(&e.key)),
                    Cell::text(stage),
                    Cell::text(&e.kind),
                    Cell::number(e.bytes as f64 / 1e6, 1),
                    Cell::number(e.idle as f64 / 3600.0, 1),
                ]);
            }
            let total: u64 = entries.iter().map(|e| e.bytes).sum();
            table.note(format!(
                "{} results, {:.1} MB in {}",
                entries.len(),
                total as f64 / 1e6,
                cache.root().display()
            ));
            app.table(&table, &entries)
        }
        What::Prune { max } => {
            let gone: Vec<Entry> = cache.prune(max).map_err(|e: Error| e.help("is another process at work on it?"))?;
            let bytes: u64 = gone.iter().map(|e| e.bytes).sum();
            if app.json {
                return app.value(&json!({"removed": gone, "bytes": bytes}));
            }
            say!("{} results removed, {:.1} MB", gone.len(), bytes as f64 / 1e6);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        let read = |t| super::size(t).ok();
        assert_eq!(
            (read("5GB"), read("1.5 mb"), read("0"), read("12")),
            (Some(5_000_000_000), Some(1_500_000), Some(0), Some(12))
        );
        assert_eq!((read("-1"), read("x"), read("5 apples"), read("")), (None, None, None, None));
    }
}
