//! Compares our labels with the published semantic fragments (arXiv 1909.07521), which carry no licence and are not shipped.
//!
//! `cargo run --release -p postgrad-tasks --example semantic_fragments FOLDER`, with `negation.dev.tsv` and the like in
//! FOLDER: an id, premise, hypothesis and label a line, parted by tabs. Any name that is someone's height or that visits
//! counts as a person's. Rows that disagree are printed.

use std::collections::BTreeSet;

use postgrad_base::{Error, Result};
use postgrad_tasks::puzzles::language::fragments::{Hypothesis, Premise, label, read};

/// What it says, what was read of it, and the published label.
type Row = (String, Option<(Premise, Hypothesis)>, String);

/// Whoever a premise names as a person.
fn people(premise: &Premise) -> Vec<String> {
    match premise {
        Premise::Only(clauses) => clauses.iter().flat_map(|c| c.0.clone()).collect(),
        Premise::Visited(who, _) | Premise::AtMost { who, .. } => vec![who.clone()],
        Premise::Conditional { facts, .. } => facts.iter().map(|f| f.who.clone()).collect(),
        Premise::Taller(clauses) => clauses.iter().flat_map(|c| [vec![c.0.clone()], c.2.clone()].concat()).collect(),
        Premise::Quantified { .. } => vec![],
    }
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| Error::usage("give the folder with the .tsv files"))?;
    let file = |e: std::io::Error| Error::work(e.to_string()).at(folder.clone());
    let mut rows: Vec<Row> = vec![];
    let mut paths: Vec<_> = std::fs::read_dir(&folder).map_err(file)?.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "tsv")) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(path).map_err(file)?.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            if let [_, premise, hypothesis, gold] = cells[..] {
                rows.push((
                    format!("{name}: {premise} / {hypothesis}"),
                    read(premise, hypothesis),
                    gold.to_lowercase(),
                ));
            }
        }
    }
    let mut names: BTreeSet<String> = rows.iter().filter_map(|r| r.1.as_ref()).flat_map(|r| people(&r.0)).collect();
    for row in rows.iter().filter_map(|r| r.1.as_ref()) {
        if let Hypothesis::Visit(v) = &row.1 {
            names.insert(v.who.clone());
        }
    }
    let mut counts: Vec<(String, usize, usize)> = vec![];
    for (text, pair, gold) in &rows {
        let name = text.split(':').next().unwrap_or_default().to_string();
        let said = pair.as_ref().and_then(|(p, h)| label(p, h, &|n| names.contains(n)));
        let agrees = said.is_some_and(|l| l.name() == gold);
        if !agrees {
            println!("{text}\n  published {gold}, ours {}", said.map_or("unread", |l| l.name()));
        }
        match counts.last_mut() {
            Some(last) if last.0 == name => {
                last.1 += 1;
                last.2 += usize::from(agrees);
            }
            _ => counts.push((name, 1, usize::from(agrees))),
        }
    }
    for (name, rows, agree) in counts {
        println!("{name:24} {agree} of {rows} agree");
    }
    Ok(())
}
