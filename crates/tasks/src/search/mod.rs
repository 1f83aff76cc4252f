//! Search shared by grid puzzles: exact cover and finite-domain constraints, deterministic and counted in steps.

pub mod cover;
pub mod csp;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    pub solutions: Vec<T>,
    /// No further solution exists (neither the limit of solutions nor the limit of steps cut the search).
    pub complete: bool,
    pub steps: u64,
}

/// How many solutions there are, as far as a puzzle's maker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    None,
    One,
    Many,
    /// The step limit was reached with at most one found.
    Unknown,
}

impl<T> Found<T> {
    pub fn count(&self) -> Count {
        match (self.solutions.len(), self.complete) {
            (2.., _) => Count::Many,
            (1, true) => Count::One,
            (0, true) => Count::None,
            _ => Count::Unknown,
        }
    }
}

/// Builds a small exact cover from bytes and compares the search with trying every subset.
pub fn fuzz_cover(data: &[u8]) {
    let Some((&head, rest)) = data.split_first() else { return };
    let columns = 1 + (head % 8) as usize;
    let secondary = (head / 8 % 3) as usize;
    let mut problem = cover::ExactCover::new(columns, secondary);
    let mut rows: Vec<Vec<usize>> = vec![];
    for &b in rest.iter().take(10) {
        let row: Vec<usize> =
            (0..columns + secondary).filter(|i| b.rotate_left(*i as u32 / 8) >> (i % 8) & 1 == 1).collect();
        if row.is_empty() {
            continue;
        }
        problem.row(&row).expect("columns are in range");
        rows.push(row);
    }
    let mut expected: Vec<Vec<usize>> = (0u32..1 << rows.len())
        .map(|set| (0..rows.len()).filter(|r| set >> r & 1 == 1).collect::<Vec<usize>>())
        .filter(|set| {
            let times = |c: usize| set.iter().filter(|&&r| rows[r].contains(&c)).count();
            (0..columns).all(|c| times(c) == 1)
                && (columns..columns + secondary).all(|c| times(c) <= 1)
                // rows of secondary columns only are never needed and never chosen
                && set.iter().all(|&r| rows[r].iter().any(|&c| c < columns))
        })
        .collect();
    expected.sort();
    let found = problem.solve(usize::MAX, 1_000_000);
    let mut got = found.solutions;
    got.iter_mut().for_each(|s| s.sort());
    got.sort();
    assert!(found.complete);
    assert_eq!(got, expected);
}
