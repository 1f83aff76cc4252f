//! Grids in text: cells named `r1c2`, rows parted by newlines, and what grid puzzles share with the search engine.

use std::fmt::Display;

use postgrad_base::{Error, Result, Stream};

use crate::search::csp::{Csp, Event};

/// Search steps that a puzzle may cost while it is made or told.
pub const BUDGET: u64 = 20_000;

/// The name of cell `i` of a grid with `cols` columns: `r1c2`.
pub fn name(i: usize, cols: usize) -> String {
    format!("r{}c{}", i / cols + 1, i % cols + 1)
}

/// Rows parted by newlines, cells by blanks.
pub fn show<T: Display>(cells: &[T], cols: usize) -> String {
    let row = |r: &[T]| r.iter().map(T::to_string).collect::<Vec<_>>().join(" ");
    cells.chunks(cols).map(row).collect::<Vec<_>>().join("\n")
}

/// As [`show`], with a full stop for 0.
pub fn show_blank(cells: &[i64], cols: usize) -> String {
    let texts: Vec<String> = cells.iter().map(|v| if *v == 0 { ".".into() } else { v.to_string() }).collect();
    show(&texts, cols)
}

/// The cells of a grid in reading order: parted by blanks, commas, bars or brackets, or one character each, in any lines.
pub fn cells(text: &str, rows: usize, cols: usize) -> Option<Vec<&str>> {
    let part = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|' | '[' | ']' | '(' | ')' | '"' | '\'' | '`');
    let parts: Vec<&str> = text.split(part).filter(|p| !p.is_empty()).take(rows * cols + 1).collect();
    if parts.len() == rows * cols {
        return Some(parts);
    }
    let glued: Vec<&str> = parts.iter().flat_map(|p| p.char_indices().map(|(i, c)| &p[i..i + c.len_utf8()])).collect();
    let even = parts.len() == 1 || parts.len() == rows && parts.iter().all(|p| p.chars().count() == cols);
    (even && glued.len() == rows * cols).then_some(glued)
}

/// The cells as whole numbers below a million.
pub fn numbers(text: &str, rows: usize, cols: usize) -> Option<Vec<i64>> {
    let number = |t: &&str| {
        if t.len() <= 6 && t.bytes().all(|b| b.is_ascii_digit()) { t.parse().ok() } else { None }
    };
    cells(text, rows, cols)?.iter().map(number).collect()
}

/// `(1,2) (3,4)` or `none`, from cell indices.
pub fn show_places(places: &[usize], cols: usize) -> String {
    if places.is_empty() {
        return "none".into();
    }
    places.iter().map(|i| format!("({},{})", i / cols + 1, i % cols + 1)).collect::<Vec<_>>().join(" ")
}

/// A list of different cells `(row,column)` counted from 1, also `r1c2`, sorted; `none` is the empty list.
pub fn places(text: &str, rows: usize, cols: usize) -> Option<Vec<usize>> {
    if matches!(text.to_ascii_lowercase().as_str(), "none" | "[]") {
        return Some(vec![]);
    }
    let filler = |c: char| c.is_whitespace() || "(),;[]{}-:rRcC".contains(c);
    if !text.chars().all(|c| c.is_ascii_digit() || filler(c)) {
        return None;
    }
    let parts: Vec<&str> = text.split(filler).filter(|p| !p.is_empty()).take(2 * rows * cols + 1).collect();
    if parts.is_empty() || parts.len() % 2 == 1 {
        return None;
    }
    let read = |t: &str, most: usize| t.parse::<usize>().ok().filter(|n| (1..=most).contains(n));
    let mut all = vec![];
    for pair in parts.chunks(2) {
        all.push((read(pair[0], rows)? - 1) * cols + read(pair[1], cols)? - 1);
    }
    let count = all.len();
    all.sort();
    all.dedup();
    (all.len() == count).then_some(all)
}

/// Cells that share an edge with cell `i`: up, left, right, down.
pub fn beside(i: usize, rows: usize, cols: usize) -> Vec<usize> {
    let (r, c) = (i / cols, i % cols);
    let all =
        [(r > 0, i.wrapping_sub(cols)), (c > 0, i.wrapping_sub(1)), (c + 1 < cols, i + 1), (r + 1 < rows, i + cols)];
    all.into_iter().filter(|a| a.0).map(|a| a.1).collect()
}

/// Cells that touch cell `i`, also at a corner.
pub fn around(i: usize, rows: usize, cols: usize) -> Vec<usize> {
    let (r, c) = (i / cols, i % cols);
    let near = |a: usize, most: usize| a.saturating_sub(1)..=(a + 1).min(most - 1);
    near(r, rows).flat_map(|y| near(c, cols).map(move |x| y * cols + x)).filter(|j| *j != i).collect()
}

/// Parts of the grid that hang together by edges: every seed's part grows by random cells until the grid is full.
pub fn grow(stream: &mut Stream, rows: usize, cols: usize, seeds: &[usize]) -> Vec<usize> {
    let mut part = vec![usize::MAX; rows * cols];
    seeds.iter().enumerate().for_each(|(k, &s)| part[s] = k);
    loop {
        let edge: Vec<(usize, usize)> = (0..part.len())
            .filter(|&i| part[i] == usize::MAX)
            .flat_map(|i| beside(i, rows, cols).into_iter().map(move |j| (i, j)))
            .filter(|&(_, j)| part[j] != usize::MAX)
            .collect();
        if edge.is_empty() {
            return part;
        }
        let (i, j) = *stream.choose(&edge);
        part[i] = part[j];
    }
}

/// Parts joined in random pairs of neighbours, numbered anew; none if that does not come out.
pub fn pair_up(stream: &mut Stream, part: &[usize], rows: usize, cols: usize) -> Option<Vec<usize>> {
    let count = part.iter().max()? + 1;
    let mut new = vec![usize::MAX; count];
    let mut order: Vec<usize> = (0..count).collect();
    stream.shuffle(&mut order);
    let mut next = 0;
    for k in order {
        if new[k] != usize::MAX {
            continue;
        }
        let mut near: Vec<usize> = (0..part.len())
            .filter(|&i| part[i] == k)
            .flat_map(|i| beside(i, rows, cols))
            .map(|j| part[j])
            .filter(|&o| o != k && new[o] == usize::MAX)
            .collect();
        near.sort();
        near.dedup();
        if near.is_empty() {
            return None;
        }
        new[k] = next;
        new[*stream.choose(&near)] = next;
        next += 1;
    }
    Some(part.iter().map(|&k| new[k]).collect())
}

/// Which part each cell is in, where cells of one value hang together by edges.
pub fn components(values: &[bool], rows: usize, cols: usize) -> Vec<usize> {
    let mut part = vec![usize::MAX; values.len()];
    for start in 0..values.len() {
        if part[start] != usize::MAX {
            continue;
        }
        let mut todo = vec![start];
        while let Some(i) = todo.pop() {
            part[i] = start;
            todo.extend(
                beside(i, rows, cols).into_iter().filter(|&j| values[j] == values[start] && part[j] == usize::MAX),
            );
        }
    }
    part
}

/// Regions as letters.
pub fn show_regions(region: &[usize], cols: usize) -> String {
    let letters: Vec<char> = region.iter().map(|&k| char::from(b'A' + k as u8)).collect();
    show(&letters, cols)
}

/// `n` by `n` cells of 1 to `n`, different in every row and column.
pub fn latin(n: usize) -> Csp {
    let mut csp = Csp::new();
    let x: Vec<usize> = (0..n * n).map(|_| csp.var(1, n as i64).expect("few values")).collect();
    for i in 0..n {
        csp.all_different(&x[i * n..(i + 1) * n]).expect("own variables");
        csp.all_different(&(0..n).map(|j| x[j * n + i]).collect::<Vec<_>>()).expect("own variables");
    }
    csp
}

/// Fixes the values that are not 0.
pub fn fix(csp: &mut Csp, clues: &[i64]) {
    for (i, &v) in clues.iter().enumerate().filter(|(_, v)| **v != 0) {
        csp.restrict(i, &[v]).expect("own variables");
    }
}

/// A drawn full board. Errors: none within the budget.
pub fn full(csp: &Csp, stream: &mut Stream) -> Result<Vec<i64>> {
    let mut found = csp.solve_random(stream, BUDGET).solutions;
    found.pop().ok_or_else(|| Error::work("no board was found within the search budget").help("make it smaller"))
}

/// Gives away values of the solution `truth`, at variables that `may` be given, until no other solution is left; returns
/// the variables. Errors: giving everything away does not suffice within the budget.
pub fn pin(csp: &mut Csp, truth: &[i64], may: impl Fn(usize) -> bool, stream: &mut Stream) -> Result<Vec<usize>> {
    let mut given = vec![];
    loop {
        let found = csp.solve(1, BUDGET);
        let other = match &found.solutions[..] {
            [one] if one != truth => found.solutions.into_iter().next(),
            [_] if found.complete => return Ok(given),
            _ => csp.solve(2, BUDGET).solutions.into_iter().find(|s| s != truth),
        };
        let differs = |i: &usize| other.as_ref().is_none_or(|o| o[*i] != truth[*i]);
        let open: Vec<usize> = (0..truth.len()).filter(|i| may(*i) && !given.contains(i)).filter(differs).collect();
        if open.is_empty() {
            return Err(Error::work("a board whose solution cannot be made the only one"));
        }
        let i = *stream.choose(&open);
        csp.restrict(i, &[truth[i]])?;
        given.push(i);
    }
}

/// Whether a grid of numbers in text keeps every rule.
pub fn fits(csp: &Csp, rows: usize, cols: usize, text: &str) -> Option<bool> {
    Some(csp.holds(&numbers(text, rows, cols)?))
}

/// How the search comes to this solution: `r1c2 = 3` where one value is left, `r1c2 is not 4` where trying it failed (the
/// inside of a failed try is left out), `try r1c2 = 3` where it did not and others were not tried.
/// Nothing if the search finds another solution.
pub fn deductions(csp: &Csp, solution: &[i64], name: impl Fn(usize) -> String) -> Vec<String> {
    let (found, events) = csp.solve_traced(BUDGET);
    if found.solutions.first().is_none_or(|s| s != solution) {
        return vec![];
    }
    let (mut steps, mut tries) = (vec![], vec![]);
    for event in events {
        match event {
            Event::Forced { var, value } => steps.push(format!("{} = {value}", name(var))),
            Event::Guess { var, value, among } => {
                tries.push(steps.len());
                let no = format!("{} is not ", name(var));
                let failed = steps.iter().rev().take_while(|s: &&String| s.starts_with(&no)).count();
                let last = failed + 1 == among.len();
                steps.push(format!("{}{} = {value}", if last { "" } else { "try " }, name(var)));
            }
            Event::Backtrack { var, value } => {
                steps.truncate(tries.pop().unwrap_or(0));
                steps.push(format!("{} is not {value}", name(var)));
            }
            Event::Solved => {}
        }
    }
    steps
}

/// Deductions to a grid in text.
pub fn told(csp: &Csp, rows: usize, cols: usize, answer: &str) -> Vec<String> {
    numbers(answer, rows, cols).map(|v| deductions(csp, &v, |i| name(i, cols))).unwrap_or_default()
}

/// Deductions to the listed cells of a square board, which hold 1, the others 0. Told of are the 1s and what failed.
pub fn placed(csp: &Csp, side: usize, answer: &str) -> Vec<String> {
    let Some(listed) = places(answer, side, side) else { return vec![] };
    let values: Vec<i64> = (0..side * side).map(|i| i64::from(listed.contains(&i))).collect();
    let mut steps = deductions(csp, &values, |i| name(i, side));
    steps.retain(|s| !s.ends_with("= 0"));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grids_are_read_leniently() {
        for text in
            ["1 2\n3 4", "12\n34", "1234", "1,2;3,4", "[[1, 2],\n [3, 4]]", "| 1 | 2 |\n| 3 | 4 |", "\n1 2\n\n3 4\n"]
        {
            assert_eq!(numbers(text, 2, 2), Some(vec![1, 2, 3, 4]), "{text}");
        }
        for text in ["1 2 3", "1 2 3 4 5", "123\n4", "1 2\n3 x", "-1 2 3 4", "", "1 2 3 1e3"] {
            assert_eq!(numbers(text, 2, 2), None, "{text}");
        }
        assert_eq!(places("(1,2) (3,1)", 3, 3), Some(vec![1, 6]));
        assert_eq!(places("r3c1, r1c2", 3, 3), Some(vec![1, 6]));
        assert_eq!(places("none", 3, 3), Some(vec![]));
        for text in ["(1,2) (1,2)", "(0,1)", "(4,1)", "(1,2", "1 2 3", "", "(1,x)"] {
            assert!(places(text, 3, 3).is_none() || text == "(1,2", "{text}");
        }
        assert_eq!((beside(4, 3, 3), around(0, 3, 3)), (vec![1, 3, 5, 7], vec![1, 3, 4]));
    }

    #[test]
    fn parts_fill_the_grid_and_hang_together() {
        for seed in 0..50 {
            let mut s = Stream::new(seed, &["test", "parts"]);
            let seeds = s.sample(20, 6);
            let part = grow(&mut s, 4, 5, &seeds);
            let joined = pair_up(&mut s, &part, 4, 5);
            for (part, count) in [(Some(part), 6), (joined, 3)] {
                let Some(part) = part else { continue };
                for k in 0..count {
                    let own: Vec<usize> = (0..20).filter(|i| part[*i] == k).collect();
                    let mut seen = vec![own[0]];
                    let mut at = 0;
                    while at < seen.len() {
                        let next = beside(seen[at], 4, 5).into_iter().filter(|j| part[*j] == k && !seen.contains(j));
                        let next: Vec<usize> = next.collect();
                        seen.extend(next);
                        at += 1;
                    }
                    assert_eq!(seen.len(), own.len());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(values in prop::collection::vec(0i64..150, 12), chosen in any::<u16>()) {
            prop_assert_eq!(numbers(&show(&values, 4), 3, 4), Some(values.clone()));
            prop_assert_eq!(numbers(&format!("{values:?}"), 3, 4), Some(values));
            let list: Vec<usize> = (0..16).filter(|i| chosen >> i & 1 == 1).collect();
            prop_assert_eq!(places(&show_places(&list, 4), 4, 4), Some(list));
        }

        #[test]
        fn any_text_is_read_or_not(text in "[-0-9rc(),;\\[\\] \n|]{0,80}|\\PC{0,80}") {
            if let Some(v) = numbers(&text, 3, 3) { prop_assert_eq!(v.len(), 9) }
            if let Some(v) = places(&text, 3, 3) { prop_assert!(v.iter().all(|i| *i < 9)) }
        }
    }
}
