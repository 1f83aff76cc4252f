//! `kakurasu`: place 1s so that weighted row and column sums come out.
//!
//! ```text
//! Kakurasu, 3 by 3: … Row sums: 4, 2, 1. Column sums: 4, 2, 1.
//! 1 0 1
//! 0 1 0
//! 1 0 0
//! ```
//!
//! A 1 in column j adds j to its row's sum, a 1 in row i adds i to its column's sum. Boards with one solution are looked for
//! in 30 draws; any grid with the right sums passes.

use serde::Deserialize;

use super::*;
use crate::search::Count;
use crate::search::csp::{Csp, Relation};

pub struct Kakurasu;

const SIZE: Knob = Knob::number("size", 3, 6, 4, "cells a side");
const DENSITY: Knob = Knob::number("density", 20, 60, 30, "percent of cells that hold a 1");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    row_sums: Vec<i64>,
    column_sums: Vec<i64>,
}

impl Board {
    fn side(&self) -> usize {
        self.row_sums.len()
    }

    fn of(n: usize, cells: &[i64]) -> Self {
        let sum = |k: usize, at: &dyn Fn(usize, usize) -> usize| (0..n).map(|j| (j as i64 + 1) * cells[at(k, j)]).sum();
        Self {
            row_sums: (0..n).map(|k| sum(k, &|k, j| k * n + j)).collect(),
            column_sums: (0..n).map(|k| sum(k, &|k, j| j * n + k)).collect(),
        }
    }

    fn rules(&self) -> Csp {
        let n = self.side();
        let mut csp = Csp::new();
        (0..n * n).for_each(|_| {
            csp.var(0, 1).expect("few values");
        });
        for k in 0..n {
            let row: Vec<(i64, usize)> = (0..n).map(|j| (j as i64 + 1, k * n + j)).collect();
            let column: Vec<(i64, usize)> = (0..n).map(|j| (j as i64 + 1, j * n + k)).collect();
            csp.linear(&row, Relation::Equal, self.row_sums[k]).expect("own variables");
            csp.linear(&column, Relation::Equal, self.column_sums[k]).expect("own variables");
        }
        csp
    }
}

impl Puzzle for Kakurasu {
    type Board = Board;
    const NAME: &'static str = "kakurasu";
    const ABOUT: &'static str = "place 1s so that weighted row and column sums come out";
    const KNOBS: &'static [Knob] = &[SIZE, DENSITY];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let mut tries = 0;
        loop {
            tries += 1;
            let cells: Vec<i64> =
                (0..n * n).map(|_| i64::from(stream.chance(d.get(&DENSITY) as f64 / 100.0))).collect();
            let board = Board::of(n, &cells);
            let found = board.rules().solve(1, grid::BUDGET);
            if found.count() == Count::One || tries == 30 {
                let first = found.solutions.into_iter().next().unwrap_or(cells);
                return Ok((board, grid::show(&first, n)));
            }
        }
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let list = |v: &[i64]| v.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let wordings = [
            "Kakurasu, {} by {}: write 0 or 1 in each cell. A 1 in column j adds j to the sum of its row; a 1 in \
             row i adds i to the sum of its column. Row sums: {}. Column sums: {}. Answer with the grid.",
            "Fill a {} by {} grid with 0 and 1. Each 1 counts its column's number for its row and its row's number \
             for its column. The rows must give {}, the columns {}. Answer with the rows, one a line.",
            "A {}x{} board of 0s and 1s: cells weigh 1, 2, 3 and so on from left to right in rows and from top to \
             bottom in columns. Row totals of the 1s: {}. Column totals: {}. Write the board.",
        ];
        let n = board.side().to_string();
        word(stream, &wordings, &[&n, &n, &list(&board.row_sums), &list(&board.column_sums)])
    }

    fn sound(board: &Board) -> bool {
        let n = board.side();
        (1..=8).contains(&n)
            && board.column_sums.len() == n
            && board.row_sums.iter().chain(&board.column_sums).all(|s| (0..=100).contains(s))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        grid::fits(&board.rules(), board.side(), board.side(), text)
    }

    fn steps(board: &Board, answer: &str) -> Vec<String> {
        grid::told(&board.rules(), board.side(), board.side(), answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, glued, hold};

    fn wrong(p: &Problem) -> Vec<String> {
        // no single flip keeps a sum
        let flip = |i: usize| {
            let mut v: Vec<i64> = p.answer.chars().filter_map(|c| c.to_digit(10)).map(i64::from).collect();
            let n = v.len().isqrt();
            v[i] = 1 - v[i];
            grid::show(&v, n)
        };
        let last = p.answer.chars().filter(char::is_ascii_digit).count() - 1;
        vec![flip(0), flip(1), flip(last), format!("{} 0", p.answer), p.answer.replace('0', "2").replacen('1', "2", 1)]
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=5,density=20", "size=6,density=50"];
        hold(&Of(Kakurasu), &Laws { specs: &specs, n: 30, wrong, also: glued, digest: "e45be794b30a06cf" });
    }

    /// All 512 grids of 3 by 3: those with the sums are accepted, and no others.
    #[test]
    fn brute_force_agrees_on_three_by_three() {
        for seed in 0..60 {
            let d = Of(Kakurasu).difficulty("size=3,density=50").unwrap();
            let (board, _) = Kakurasu::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let mut right = 0;
            for bits in 0..512usize {
                let cell = |r: usize, c: usize| (bits >> (3 * r + c) & 1) as i64;
                let rows = (0..3).all(|r| cell(r, 0) + 2 * cell(r, 1) + 3 * cell(r, 2) == board.row_sums[r]);
                let columns = (0..3).all(|c| cell(0, c) + 2 * cell(1, c) + 3 * cell(2, c) == board.column_sums[c]);
                let text = grid::show(&(0..9).map(|i| cell(i / 3, i % 3)).collect::<Vec<_>>(), 3);
                assert_eq!(Kakurasu::accepts(&board, &text), Some(rows && columns));
                right += usize::from(rows && columns);
            }
            assert_eq!(board.rules().solve(600, grid::BUDGET).solutions.len(), right);
        }
    }

    #[test]
    fn other_grids_with_the_same_sums_pass() {
        // columns 1 + 2 = 3 and rows 1 + 2 = 3: both grids have all the same sums
        let board = Board::of(3, &[1, 1, 0, 1, 1, 0, 0, 0, 1]);
        assert_eq!(Kakurasu::accepts(&board, "1 1 0\n1 1 0\n0 0 1"), Some(true));
        assert_eq!(Kakurasu::accepts(&board, "0 0 1\n0 0 1\n1 1 0"), Some(true));
        assert_eq!(Kakurasu::accepts(&board, "0 0 1\n1 1 0\n0 0 1"), Some(false));
    }
}
