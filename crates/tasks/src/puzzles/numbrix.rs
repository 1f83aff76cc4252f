//! `numbrix`: a path of the numbers 1 to n*n from neighbour to neighbour through every cell. One solution.
//!
//! ```text
//! Numbrix: fill in 1 to 9 so that consecutive numbers share an edge. Answer with the full grid.
//! 1 . 3
//! . . .
//! . . 9
//! ```
//!
//! The path is a snake shuffled by the backbite move; `given` percent of the numbers are shown, and more where other paths
//! would fit too.

use serde::Deserialize;

use super::*;
use crate::search::Found;

pub struct Numbrix;

const SIZE: Knob = Knob::number("size", 3, 12, 4, "cells a side");
const GIVEN: Knob = Knob::number("given", 10, 60, 35, "percent of the numbers shown at least");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    side: usize,
    /// 0 where a cell is blank.
    shown: Vec<i64>,
}

/// A path through all cells: reversals of one end of a snake, many times.
fn path(stream: &mut Stream, n: usize) -> Vec<usize> {
    let mut path: Vec<usize> =
        (0..n * n).map(|i| if (i / n).is_multiple_of(2) { i } else { i / n * n + n - 1 - i % n }).collect();
    for _ in 0..n * n * 10 {
        if stream.chance(0.5) {
            path.reverse();
        }
        // the end bites a neighbour on the path; what lies between turns round
        let end = path[path.len() - 1];
        let near = grid::beside(end, n, n);
        let bitten = *stream.choose(&near);
        let at = path.iter().position(|c| *c == bitten).expect("the path goes everywhere");
        path[at + 1..].reverse();
    }
    path
}

/// A search along the path, number by number.
struct Search<'a> {
    n: usize,
    /// Where each number must stand, and the number that each cell must hold.
    at: Vec<Option<usize>>,
    shown: &'a [i64],
    /// The next number that is shown, from each number on.
    next: Vec<Option<usize>>,
    cells: Vec<i64>,
    steps: u64,
}

const STEPS_AT_MOST: u64 = 200_000;

impl<'a> Search<'a> {
    fn new(n: usize, shown: &'a [i64]) -> Self {
        let mut at = vec![None; n * n + 1];
        shown.iter().enumerate().filter(|(_, v)| **v != 0).for_each(|(i, v)| at[*v as usize] = Some(i));
        let mut next = vec![None; n * n + 2];
        for v in (1..=n * n).rev() {
            next[v] = if at[v].is_some() { Some(v) } else { next[v + 1] };
        }
        Self { n, at, shown, next, cells: vec![0; n * n], steps: 0 }
    }

    /// Paths that fit, at most `most` of them.
    fn solve(mut self, most: usize) -> Found<Vec<i64>> {
        let mut found = Found { solutions: vec![], complete: true, steps: 0 };
        let starts: Vec<usize> = self.at[1].map_or((0..self.n * self.n).collect(), |i| vec![i]);
        for i in starts {
            if !self.place(1, i, most, &mut found.solutions) {
                found.complete = false;
                break;
            }
        }
        found.steps = self.steps;
        found
    }

    /// False where the search was cut.
    fn place(&mut self, v: usize, i: usize, most: usize, found: &mut Vec<Vec<i64>>) -> bool {
        let own = self.at[v].is_none_or(|at| at == i) && [0, v as i64].contains(&self.shown[i]) && self.cells[i] == 0;
        if !own || !self.near_enough(v, i) {
            return true;
        }
        self.steps += 1;
        if self.steps > STEPS_AT_MOST {
            return false;
        }
        self.cells[i] = v as i64;
        let mut whole = true;
        if v == self.cells.len() {
            found.push(self.cells.clone());
            whole = found.len() < most;
        } else {
            for j in grid::beside(i, self.n, self.n) {
                if !self.place(v + 1, j, most, found) {
                    whole = false;
                    break;
                }
            }
        }
        self.cells[i] = 0;
        whole
    }

    /// Whether the next number that is shown can still be reached in time.
    fn near_enough(&self, v: usize, i: usize) -> bool {
        let Some(w) = self.next[v] else { return true };
        let j = self.at[w].expect("it is shown");
        let far = (i / self.n).abs_diff(j / self.n) + (i % self.n).abs_diff(j % self.n);
        far <= w - v && (w - v - far).is_multiple_of(2)
    }
}

impl Puzzle for Numbrix {
    type Board = Board;
    const NAME: &'static str = "numbrix";
    const ABOUT: &'static str = "a path of consecutive numbers through every cell of a grid";
    const KNOBS: &'static [Knob] = &[SIZE, GIVEN];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let mut truth = vec![0; n * n];
        path(stream, n).into_iter().zip(1..).for_each(|(i, v)| truth[i] = v);
        let mut board = Board { side: n, shown: vec![0; n * n] };
        let given = (n * n * d.get(&GIVEN) as usize).div_ceil(100);
        stream.sample(n * n, given).into_iter().for_each(|i| board.shown[i] = truth[i]);
        loop {
            let found = Search::new(n, &board.shown).solve(2);
            let other = found.solutions.iter().find(|s| **s != truth);
            if other.is_none() && found.complete {
                return Ok((board, grid::show(&truth, n)));
            }
            // where another path differs; anywhere if the search was cut
            let open: Vec<usize> =
                (0..n * n).filter(|&i| board.shown[i] == 0 && other.is_none_or(|o| o[i] != truth[i])).collect();
            let i = *stream.choose(&open);
            board.shown[i] = truth[i];
        }
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let wordings = [
            "Numbrix: fill in 1 to {} so that consecutive numbers share an edge. Answer with the full grid.\n{}",
            "Write every number from 1 to {} once in the grid; each must lie beside the one before it, not \
             diagonally. Dots are empty. Answer with the rows, one a line.\n{}",
            "Find the path 1, 2, 3 up to {} that steps up, down, left or right through all cells. Write the \
             completed grid.\n{}",
        ];
        let last = (board.side * board.side).to_string();
        word(stream, &wordings, &[&last, &grid::show_blank(&board.shown, board.side)])
    }

    fn sound(board: &Board) -> bool {
        let cells = board.side.saturating_mul(board.side);
        (1..=16).contains(&board.side)
            && board.shown.len() == cells
            && board.shown.iter().all(|v| (0..=cells as i64).contains(v))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let n = board.side;
        let values = grid::numbers(text, n, n)?;
        let mut at = vec![None; n * n + 1];
        for (i, &v) in values.iter().enumerate() {
            let own = v >= 1 && v as usize <= n * n && at[v as usize].is_none() && [0, v].contains(&board.shown[i]);
            if !own {
                return Some(false);
            }
            at[v as usize] = Some(i);
        }
        let beside = |a: Option<usize>, b: Option<usize>| Some(grid::beside(a?, n, n).contains(&b?));
        Some((1..n * n).all(|v| beside(at[v], at[v + 1]) == Some(true)))
    }

    /// The runs between numbers that are shown: `1 to 4: r1c1 r1c2 r2c2 r2c1`.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let n = board.side;
        let Some(values) = grid::numbers(answer, n, n) else { return vec![] };
        let mut at: Vec<usize> = (0..n * n).collect();
        at.sort_by_key(|&i| values[i]);
        let mut steps = vec![];
        let mut start = 0;
        for k in 1..n * n {
            if board.shown[at[k]] == 0 && k + 1 < n * n {
                continue;
            }
            if k > start + 1 || board.shown[at[k]] == 0 || board.shown[at[start]] == 0 {
                let cells: Vec<String> = at[start..=k].iter().map(|&i| grid::name(i, n)).collect();
                steps.push(format!("{} to {}: {}", start + 1, k + 1, cells.join(" ")));
            }
            start = k;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold, spoiled};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=6,given=30", "size=9"];
        let also = |p: &Problem| vec![p.answer.replace(' ', ", "), p.answer.replace('\n', " ")];
        hold(
            &Of(Numbrix),
            &Laws { specs: &specs, n: 30, wrong: |p| spoiled(&p.answer), also, digest: "edb5423879217da4" },
        );
    }

    /// Every path of 3 by 3, walked without the search.
    fn paths() -> Vec<Vec<usize>> {
        let mut all: Vec<Vec<usize>> = (0..9).map(|i| vec![i]).collect();
        for _ in 1..9 {
            all = all
                .into_iter()
                .flat_map(|p| {
                    let end = p[p.len() - 1] as i64;
                    let near = (0..9i64).filter(move |j| (end / 3 - j / 3).abs() + (end % 3 - j % 3).abs() == 1);
                    let free: Vec<usize> = near.map(|j| j as usize).filter(|j| !p.contains(j)).collect();
                    free.into_iter().map(move |j| [&p[..], &[j]].concat())
                })
                .collect();
        }
        all
    }

    #[test]
    fn brute_force_agrees_on_three_by_three() {
        let grids: Vec<Vec<i64>> = paths()
            .iter()
            .map(|p| (0..9).map(|i| 1 + p.iter().position(|j| *j == i).unwrap() as i64).collect())
            .collect();
        assert_eq!(grids.len(), 40);
        assert_eq!(Search::new(3, &[0; 9]).solve(100).solutions.len(), 40);
        for seed in 0..100 {
            let d = Of(Numbrix).difficulty("size=3,given=10").unwrap();
            let (board, answer) = Numbrix::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let fit: Vec<&Vec<i64>> =
                grids.iter().filter(|g| (0..9).all(|i| [0, g[i]].contains(&board.shown[i]))).collect();
            assert_eq!(fit.len(), 1);
            assert_eq!(grid::show(fit[0], 3), answer);
        }
    }

    #[test]
    fn any_path_passes_where_several_fit() {
        let board = Board { side: 3, shown: vec![0; 9] };
        let accepted = |g: &[i64]| Numbrix::accepts(&board, &grid::show(g, 3));
        assert_eq!(accepted(&[1, 2, 3, 6, 5, 4, 7, 8, 9]), Some(true));
        assert_eq!(accepted(&[9, 8, 7, 4, 5, 6, 3, 2, 1]), Some(true));
        assert_eq!(accepted(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), Some(false));
        assert_eq!(accepted(&[1, 2, 3, 6, 5, 4, 7, 8, 8]), Some(false));
    }
}
