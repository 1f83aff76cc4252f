//! Problems drawn from a task at one or several difficulties.

use std::collections::HashSet;

use postgrad_base::{Error, Result, Stream};
use postgrad_tasks::task::nearest;
use postgrad_tasks::{Difficulty, Problem, Rendering, Split, Task, draw};

/// `n` problems of one split, taking turns over the difficulties. Problem `i` has its own stream below `stream`, so a larger
/// `n` only adds; no problem comes twice while new ones are easily found.
pub fn problems(
    task: &dyn Task,
    difficulties: &[Difficulty],
    n: usize,
    split: Split,
    stream: &Stream,
) -> Result<Vec<Problem>> {
    const REDRAWS: usize = 100;
    let mut seen = HashSet::new();
    let mut out = Vec::with_capacity(n.min(1 << 20));
    for i in 0..n {
        let mut own = stream.nth(i as u64);
        let difficulty = &difficulties[i % difficulties.len()];
        let mut problem = draw(task, &mut own, difficulty, split)?;
        for _ in 0..REDRAWS {
            if !seen.contains(&problem.id) {
                break;
            }
            problem = draw(task, &mut own, difficulty, split)?;
        }
        seen.insert(problem.id.clone());
        out.push(problem);
    }
    Ok(out)
}

/// The rendering of this name; the task's first by default.
pub fn find_rendering(task: &dyn Task, name: Option<&str>) -> Result<Rendering> {
    let all = task.renderings();
    let Some(name) = name else { return Ok(all[0]) };
    all.iter().find(|r| r.name == name).copied().ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|r| r.name).collect();
        Error::unknown("rendering", name, &known, nearest(name, &known))
    })
}

/// Every combination of the values that knobs are given: `steps=2|3,digits=1..2` has four.
pub fn difficulties(task: &dyn Task, spec: &str) -> Result<Vec<Difficulty>> {
    let mut specs = vec![String::new()];
    for pair in spec.split([',', ' ']).filter(|p| !p.is_empty()) {
        let values: Vec<String> = match pair.split_once('=') {
            None => vec![pair.to_string()],
            Some((key, value)) => {
                let range = value.split_once("..").and_then(|(a, b)| Some(a.parse::<i64>().ok()?..=b.parse().ok()?));
                match range {
                    Some(r) if !r.is_empty() && r.end() - r.start() < 1000 => r.map(|v| format!("{key}={v}")).collect(),
                    _ => value.split('|').map(|v| format!("{key}={v}")).collect(),
                }
            }
        };
        specs = specs.iter().flat_map(|s| values.iter().map(move |v| format!("{s},{v}"))).collect();
        if specs.len() > 10_000 {
            return Err(Error::usage(format!("`{spec}` has over 10,000 combinations")));
        }
    }
    specs.iter().map(|s| task.difficulty(s)).collect()
}
