//! Counts what parses in files of one's own: `cargo run --release -p postgrad-tasks --example parse_counts -- FILE…`
//!
//! A file whose rows have `premises-FOL` is read as FOLIO: formulas that parse, kinds of failure, and how labels compare
//! with what follows from the premises. A file whose rows have `obj_declaration` (one level down, under an id) is read as
//! NL4Opt: problems whose objective and constraints are complete, with numbers that parse and variables that are declared.

use std::collections::BTreeMap;
use std::time::Instant;

use postgrad_base::{Context, Error, Result};
use postgrad_tasks::logic::folio;
use serde_json::Value;

fn main() {
    let mut files = std::env::args().skip(1).peekable();
    if files.peek().is_none() {
        eprintln!("error: name at least one JSONL file of FOLIO or NL4Opt");
        std::process::exit(2);
    }
    for file in files {
        if let Err(e) = count(&file) {
            eprintln!("error: {e}");
            std::process::exit(1);
        }
    }
}

fn count(file: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).context(|| format!("cannot read {file}"))?;
    let rows: Vec<Value> = text
        .lines()
        .enumerate()
        .map(|(n, l)| {
            serde_json::from_str(l).context(|| "not JSON".into()).map_err(|e| e.at(format!("{file}:{}", n + 1)))
        })
        .collect::<Result<_>>()?;
    match rows.first() {
        None => Err(Error::work("an empty file").at(file)),
        Some(r) if r.get("premises-FOL").is_some() => {
            stories(file, &rows);
            Ok(())
        }
        Some(_) => {
            programs(file, &rows);
            Ok(())
        }
    }
}

fn stories(file: &str, rows: &[Value]) {
    let start = Instant::now();
    let c = folio::count(rows, true);
    println!("{file}: {} records, {} of {} formulas parse", c.records, c.parsed, c.formulas);
    for (kind, f) in &c.failures {
        println!("  {kind:?}: {}", f.count);
        f.examples.iter().for_each(|e| println!("    {e}"));
    }
    let agree: usize = c.verdicts.iter().filter(|((l, v), _)| l == v).map(|(_, n)| n).sum();
    println!("  {} records parse whole; the label is what follows in {agree} ({:.1?})", c.whole, start.elapsed());
    for ((label, verdict), n) in &c.verdicts {
        println!("    label {label}, follows {verdict}: {n}");
    }
}

/// `50`, `1,000`, `5%`, `$3.5`, `1/3`, `8000 minutes`, `three times`, `thirty percent`, as the data has them.
fn number(v: &Value) -> bool {
    const WORDS: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen \
        sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million \
        half third quarter once twice thrice double triple";
    let digits = |s: &str| {
        let bare: String = s.chars().filter(|c| !matches!(c, ',' | '%' | '$')).collect();
        match bare.split_once('/') {
            Some((a, b)) => a.parse::<f64>().is_ok() && b.parse::<f64>().is_ok(),
            None => bare.parse::<f64>().is_ok(),
        }
    };
    let Some(text) = v.as_str().map(|s| s.to_lowercase().replace('-', " ")) else { return false };
    if digits(text.trim()) || v.as_str().is_some_and(|s| digits(s.trim())) {
        return true;
    }
    let words: Vec<&str> = text.split_whitespace().filter(|w| !matches!(*w, "a" | "times" | "percent")).collect();
    match words[..] {
        [] => false,
        // with its unit
        [first, _] if digits(first) => true,
        [only] if digits(only) => true,
        _ => words.iter().all(|w| WORDS.split_whitespace().any(|known| known == *w)),
    }
}

fn linear_program(p: &Value) -> std::result::Result<(), &'static str> {
    let vars: Vec<&str> = p["vars"].as_array().ok_or("no variables")?.iter().filter_map(Value::as_str).collect();
    // a variable may be named as it was mentioned
    let mentions = p["var_mention_to_first_var"].as_object();
    let known = |v: &str| vars.contains(&v) || mentions.is_some_and(|m| m.contains_key(v));
    let objective = &p["obj_declaration"];
    if !objective["direction"].is_string() {
        return Err("no direction of the objective");
    }
    let terms = |t: &Value| -> std::result::Result<(), &'static str> {
        for (var, k) in t.as_object().ok_or("no terms")? {
            if !known(var) {
                return Err("a term with an undeclared variable");
            }
            if !number(k) {
                return Err("a coefficient that is no number");
            }
        }
        Ok(())
    };
    match objective["type"].as_str() {
        Some("objective") => terms(&objective["terms"])?,
        Some("objvar") => {
            let named = objective["vars"].as_array().ok_or("no variables in the objective")?;
            if !named.iter().filter_map(Value::as_str).all(known) {
                return Err("an objective with an undeclared variable");
            }
        }
        _ => return Err("an unknown kind of objective"),
    }
    for c in p["const_declarations"].as_array().ok_or("no constraints")? {
        let limit = || if number(&c["limit"]) { Ok(()) } else { Err("a limit that is no number") };
        match c["type"].as_str() {
            Some("linear") => {
                terms(&c["terms"])?;
                limit()?;
            }
            Some("sum" | "lowerbound" | "upperbound") => limit()?,
            Some("ratio") => limit()?,
            Some("xy") => {}
            Some("xby") => {
                if !number(&c["param"]) {
                    return Err("a factor that is no number");
                }
            }
            _ => return Err("an unknown kind of constraint"),
        }
        for key in ["var", "x_var", "y_var"] {
            if c[key].as_str().is_some_and(|v| !known(v)) {
                return Err("a constraint on an undeclared variable");
            }
        }
        if c["operator"].as_str().is_none_or(|o| !matches!(o, "LESS_OR_EQUAL" | "GREATER_OR_EQUAL" | "EQUAL")) {
            return Err("an unknown relation");
        }
    }
    Ok(())
}

fn programs(file: &str, rows: &[Value]) {
    let mut parsed = 0;
    let mut constraints = 0;
    let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    let problems: Vec<&Value> = rows.iter().filter_map(Value::as_object).flat_map(|o| o.values()).collect();
    for p in &problems {
        match linear_program(p) {
            Ok(()) => {
                parsed += 1;
                constraints += p["const_declarations"].as_array().map_or(0, Vec::len);
            }
            Err(why) => *failures.entry(why).or_default() += 1,
        }
    }
    println!("{file}: {} problems, {parsed} parse, with {constraints} constraints", problems.len());
    failures.iter().for_each(|(why, n)| println!("  {why}: {n}"));
}
