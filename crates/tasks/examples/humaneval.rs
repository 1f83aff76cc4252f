//! Every canonical solution of HumanEval passes its tests in the sandbox, every mutated one fails; and the rate.
//!
//! `cargo run --release -p postgrad-tasks --example humaneval -- fixtures/humaneval/HumanEval.jsonl.gz`
//!
//! Needs python3. Exits with 1 where a canonical solution fails or a mutant passes.

use std::io::Read;
use std::time::Instant;

use postgrad_base::{Context, Error, Result};
use postgrad_tasks::sandbox::suite::HumanEval;
use postgrad_tasks::sandbox::{Limits, Pool, Python, Report, Test, Verdict};

fn main() -> std::process::ExitCode {
    match run() {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::from(e.exit_code())
        }
    }
}

fn run() -> Result<bool> {
    let path = std::env::args().nth(1).ok_or_else(|| Error::usage("give the path of HumanEval.jsonl.gz"))?;
    let mut text = String::new();
    let file = std::fs::File::open(&path).context(|| format!("cannot read {path}"))?;
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).context(|| format!("cannot unpack {path}"))?;
    let rows = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<HumanEval>, _>>()
        .context(|| format!("cannot parse {path}"))?;
    let python = Python::find()?;
    println!("python {} at {}", python.version, python.executable.display());
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    let pool = Pool::new(python, workers, Limits::default(), false)?;

    let canonical: Vec<Test> = rows.iter().map(|r| r.program(&r.canonical_solution)).collect();
    let (passed, mut well) = timed("canonical", &pool, &canonical, &rows, |v| *v == Verdict::Pass)?;
    println!("canonical solutions that pass: {passed}/{}", rows.len());
    // Wrong by construction: the function gives a value that equals nothing.
    let mutants: Vec<Test> = rows.iter().map(|r| r.program("    return object()\n")).collect();
    let (failed, all) = timed("return object()", &pool, &mutants, &rows, |v| *v != Verdict::Pass)?;
    println!("mutants `return object()` that fail: {failed}/{}", rows.len());
    well &= all;
    // One operator or constant changed; such a mutant may be equivalent to the original or unseen by the row's tests.
    let changed: Vec<(usize, Test)> = rows
        .iter()
        .enumerate()
        .filter_map(|(i, r)| mutate(&r.canonical_solution).map(|m| (i, r.program(&m))))
        .collect();
    let some: Vec<HumanEval> = changed.iter().map(|(i, _)| rows[*i].clone()).collect();
    let tests: Vec<Test> = changed.into_iter().map(|(_, t)| t).collect();
    let (failed, _) = timed("one change", &pool, &tests, &some, |v| *v != Verdict::Pass)?;
    println!(
        "mutants with one operator or constant changed that fail: {failed}/{} (the others are listed)",
        tests.len()
    );
    // Leaving early is not passing.
    let early: Vec<Test> = rows
        .iter()
        .flat_map(|r| ["    import os\n    os._exit(0)\n", "    raise SystemExit(0)\n"].map(|c| r.program(c)))
        .collect();
    let reports = pool.check_all(&early)?;
    let held = reports.iter().filter(|r| r.verdict != Verdict::Pass).count();
    println!("programs that leave early with status 0 and do not pass: {held}/{}", early.len());
    Ok(well && held == early.len())
}

fn timed(
    name: &str,
    pool: &Pool,
    tests: &[Test],
    rows: &[HumanEval],
    good: impl Fn(&Verdict) -> bool,
) -> Result<(usize, bool)> {
    let start = Instant::now();
    let reports: Vec<Report> = pool.check_all(tests)?;
    let seconds = start.elapsed().as_secs_f64();
    for (row, report) in rows.iter().zip(&reports).filter(|(_, r)| !good(&r.verdict)) {
        println!("  {}: {:?}", row.task_id, report.verdict);
    }
    println!("{name}: {} tests in {seconds:.2} s, {:.0} per second", tests.len(), tests.len() as f64 / seconds);
    let count = reports.iter().filter(|r| good(&r.verdict)).count();
    Ok((count, count == tests.len()))
}

/// The first of a few spellings that occurs, changed.
fn mutate(solution: &str) -> Option<String> {
    let pairs = [
        (" == ", " != "),
        (" < ", " >= "),
        (" > ", " <= "),
        (" + ", " - "),
        (" - ", " + "),
        ("True", "False"),
        ("return ", "return not "),
        ("sum(", "max("),
    ];
    pairs.iter().find(|(from, _)| solution.contains(from)).map(|(from, to)| solution.replacen(from, to, 1))
}
