//! What a verified experiment came to, as tables: for the terminal, and for the README beside a recipe.
//!
//! A README that has the lines `<!-- measured: tiny -->` and `<!-- /measured -->` gets everything between them from the ledger's last
//! revision (`full` from that of `full.toml`); the rest of the page is its author's.

use std::path::Path;

use postgrad_base::{Context, Error, Result, fs};

use crate::claims::{Expr, Judged, Summary};
use crate::engine::Revision;
use crate::table::{Cell, Table, fixed};

/// Claims and controls, one a row.
pub fn verdicts(claims: &[Judged], controls: &[Judged]) -> Table {
    let mut table = Table::new(&["", "claim", "estimate", "wanted", "p", "seeds"]);
    for j in claims.iter().chain(controls) {
        table.row([
            Cell::text(if j.primary { format!("{} *", j.state.name()) } else { j.state.name().into() }),
            Cell::text(&j.says),
            interval(j.estimate, j.low, j.high),
            Cell::text(&j.condition),
            j.p.map_or_else(Cell::none, |p| Cell::number(p, 3)),
            Cell::count(j.seeds as u64),
        ]);
    }
    table.note("* the primary claim: it decides the state. Controls follow the claims.");
    table
}

/// An arm a row, with the figures that claims and controls read. The run's page has all.
pub fn figures(claims: &[Judged], controls: &[Judged], measures: &[Summary]) -> Table {
    let read: Vec<(String, String)> = claims
        .iter()
        .chain(controls)
        .filter_map(|j| Expr::parse(&j.value).ok())
        .flat_map(|value| value.refs().iter().map(|r| (r.stage.clone(), r.metric.show())).collect::<Vec<_>>())
        .collect();
    let mut columns: Vec<(&str, &str)> = Vec::new();
    let mut arms: Vec<&str> = Vec::new();
    for m in measures {
        if read.iter().any(|(stage, metric)| *stage == m.stage && *metric == m.metric)
            && !columns.contains(&(&m.stage, &m.metric))
        {
            columns.push((&m.stage, &m.metric));
        }
        if !arms.contains(&&*m.arm) {
            arms.push(&m.arm);
        }
    }
    let names: Vec<String> = columns.iter().map(|(stage, metric)| format!("{stage}.{metric}")).collect();
    let heads: Vec<&str> = std::iter::once("arm").chain(names.iter().map(String::as_str)).collect();
    let mut table = Table::new(&heads);
    for arm in arms {
        let of = |(stage, metric): &(&str, &str)| {
            let found = measures.iter().find(|m| m.arm == arm && m.stage == *stage && m.metric == *metric);
            found.map_or_else(Cell::none, |m| interval(m.estimate, m.low, m.high))
        };
        table.row(std::iter::once(Cell::text(arm)).chain(columns.iter().map(of)));
    }
    table
}

/// The part of a README that a revision writes.
pub fn section(slug: &str, file: &str, r: &Revision) -> String {
    let most = r.seeds.values().map(Vec::len).max().unwrap_or(0);
    let counts: Vec<String> = r.seeds.iter().map(|(arm, seeds)| format!("{arm} {}", seeds.len())).collect();
    let seeds = match r.seeds.values().all(|s| s.len() == most) {
        true => format!("{most} seeds each"),
        false => format!("seeds: {}", counts.join(", ")),
    };
    let full = if file == "full" { " --full" } else { "" };
    let mut out = format!(
        "`postgrad verify {slug}{full}`, {}: **{}**. {:.0} s on {} ({}, {} threads), {:.0} s of stages one after the other; {seeds}.\n\n",
        r.date.get(..10).unwrap_or(&r.date),
        r.state.name(),
        r.wall_seconds,
        r.machine,
        r.simd,
        r.threads,
        r.stage_seconds,
    );
    out.push_str(&verdicts(&r.claims, &r.controls).to_markdown());
    let figures = figures(&r.claims, &r.controls, &r.measures);
    out.push_str("\nMean over seeds with 95% intervals:\n\n");
    out.push_str(&if figures.columns.len() > 6 { figures.turned() } else { figures }.to_markdown());
    out
}

/// Puts a section between a README's marks. False where there is nothing to change: no README, no marks, or the same text.
pub fn put(readme: &Path, file: &str, section: &str) -> Result<bool> {
    let text = match std::fs::read_to_string(readme) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::work("cannot read the page").because(e).at(readme.display())),
    };
    let (open, close) = (format!("<!-- measured: {file} -->\n"), "<!-- /measured -->");
    let Some((before, rest)) = text.split_once(&open) else { return Ok(false) };
    let Some((_, after)) = rest.split_once(close) else {
        return Err(Error::work(format!("the mark {} is not closed", open.trim()))
            .at(readme.display())
            .help(format!("write {close} where the figures end")));
    };
    let new = format!("{before}{open}{section}{close}{after}");
    if new == text {
        return Ok(false);
    }
    fs::write(readme, new.as_bytes()).context(|| format!("cannot write {}", readme.display()))?;
    Ok(true)
}

/// `0.123 [0.05, 0.2]`; without its interval where there is none.
pub fn interval(value: Option<f64>, low: Option<f64>, high: Option<f64>) -> Cell {
    let Some(value) = value else { return Cell::none() };
    let short = |x: f64| fixed(x, if x.abs() < 10.0 { 3 } else { 1 });
    Cell::text(match (low, high) {
        (Some(low), Some(high)) => format!("{} [{}, {}]", short(value), short(low), short(high)),
        _ => short(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_marks_is_the_ledgers_and_the_rest_the_authors() {
        let dir = tempfile::tempdir().unwrap();
        let readme = dir.path().join("README.md");
        assert!(!put(&readme, "tiny", "new\n").unwrap(), "no page");
        std::fs::write(&readme, "# A\n").unwrap();
        assert!(!put(&readme, "tiny", "new\n").unwrap(), "no marks");
        std::fs::write(&readme, "# A\n<!-- measured: tiny -->\nold\n<!-- /measured -->\nB\n").unwrap();
        assert!(!put(&readme, "full", "new\n").unwrap(), "marks of another file");
        assert!(put(&readme, "tiny", "new\n").unwrap());
        assert!(!put(&readme, "tiny", "new\n").unwrap(), "the same text");
        let text = std::fs::read_to_string(&readme).unwrap();
        assert_eq!(text, "# A\n<!-- measured: tiny -->\nnew\n<!-- /measured -->\nB\n");
        std::fs::write(&readme, "<!-- measured: tiny -->\n").unwrap();
        assert!(put(&readme, "tiny", "new\n").unwrap_err().to_string().contains("not closed"));
    }
}
