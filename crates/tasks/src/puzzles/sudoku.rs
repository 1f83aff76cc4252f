//! `sudoku`: 4 by 4 or 9 by 9, one solution.
//!
//! ```text
//! Solve this sudoku: every row, column and 2x2 box holds 1 to 4. Answer with the full grid.
//! 1 . . 4
//! . . 1 .
//! . 1 . .
//! 4 . 2 1
//! r1c3 = 3
//! …
//! ```
//!
//! `level` sets how many clues are left: 10, 8, 6, 4 of 16, or 45, 38, 32, 26 of 81; fewer are not taken away than
//! uniqueness allows.

use serde::Deserialize;

use super::*;
use crate::search::Count;
use crate::search::csp::Csp;

pub struct Sudoku;

const SIZE: Knob = Knob::choice("size", &["4", "9"], "cells a side");
const LEVEL: Knob = Knob::number("level", 1, 4, 2, "fewer clues at higher levels");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// 0 where a cell is blank.
    clues: Vec<i64>,
}

impl Board {
    fn side(&self) -> usize {
        if self.clues.len() == 16 { 4 } else { 9 }
    }

    fn rules(&self) -> Csp {
        let n = self.side();
        let b = if n == 4 { 2 } else { 3 };
        let mut csp = grid::latin(n);
        for k in 0..n {
            let own: Vec<usize> = (0..n).map(|j| (k / b * b + j / b) * n + k % b * b + j % b).collect();
            csp.all_different(&own).expect("own variables");
        }
        grid::fix(&mut csp, &self.clues);
        csp
    }
}

impl Puzzle for Sudoku {
    type Board = Board;
    const NAME: &'static str = "sudoku";
    const ABOUT: &'static str = "every row, column and box holds each number once";
    const KNOBS: &'static [Knob] = &[SIZE, LEVEL];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let (n, some, levels) = if d.get(&SIZE) == 0 { (4, 3, [10, 8, 6, 4]) } else { (9, 20, [45, 38, 32, 26]) };
        let wanted = levels[d.get(&LEVEL) as usize - 1];
        let mut board = Board { clues: vec![0; n * n] };
        let truth = grid::full(&board.rules(), stream)?;
        stream.sample(n * n, some).into_iter().for_each(|i| board.clues[i] = truth[i]);
        for i in grid::pin(&mut board.rules(), &truth, |_| true, stream)? {
            board.clues[i] = truth[i];
        }
        let mut order: Vec<usize> = (0..n * n).collect();
        stream.shuffle(&mut order);
        for &i in &order {
            let count = board.clues.iter().filter(|c| **c != 0).count();
            if count < wanted {
                board.clues[i] = truth[i];
            } else if count > wanted && board.clues[i] != 0 {
                board.clues[i] = 0;
                if board.rules().solve(1, grid::BUDGET).count() != Count::One {
                    board.clues[i] = truth[i];
                }
            }
        }
        Ok((board, grid::show(&truth, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let n = board.side();
        let (b, side, grid) = (if n == 4 { "2x2" } else { "3x3" }, n.to_string(), grid::show_blank(&board.clues, n));
        let wordings = [
            "Solve this sudoku: every {} box, row and column holds 1 to {}. Answer with the full grid.\n{}",
            "Fill the blanks (.) so that each {} box, each row and each column has every number from 1 to {} once. \
             Answer with the rows, one a line.\n{}",
            "A sudoku with {} boxes and the numbers 1 to {}; dots are empty. Write the solved grid.\n{}",
        ];
        word(stream, &wordings, &[b, &side, &grid])
    }

    fn sound(board: &Board) -> bool {
        matches!(board.clues.len(), 16 | 81) && board.clues.iter().all(|c| (0..=9).contains(c))
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
    use crate::puzzles::laws::{Laws, glued, hold, spoiled};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "level=4", "size=9,level=1", "size=9,level=4"];
        hold(
            &Of(Sudoku),
            &Laws { specs: &specs, n: 25, wrong: |p| spoiled(&p.answer), also: glued, digest: "bcb5eb41b2f6470f" },
        );
    }

    /// What the steps say, beside the clues, is the solution; nothing is left out.
    #[test]
    fn steps_lead_to_the_solution() {
        for seed in 0..40 {
            let d = Of(Sudoku).difficulty(&format!("size=9,level={}", seed % 4 + 1)).unwrap();
            let (board, answer) = Sudoku::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let mut cells = board.clues.clone();
            for step in Sudoku::steps(&board, &answer) {
                if let Some((cell, value)) = step.trim_start_matches("try ").split_once(" = ") {
                    let i = (0..81).find(|i| grid::name(*i, 9) == cell).unwrap();
                    assert_eq!(std::mem::replace(&mut cells[i], value.parse().unwrap()), 0, "{step}");
                }
            }
            assert_eq!(grid::show(&cells, 9), answer);
        }
    }

    /// All 288 grids of 4 by 4, found without the engine: each puzzle's clues leave exactly one.
    #[test]
    fn brute_force_agrees_on_four_by_four() {
        let mut all: Vec<Vec<i64>> = vec![vec![]];
        for i in 0..16 {
            let clash = |g: &[i64], v: i64| {
                (0..i).any(|j| {
                    g[j] == v && (j / 4 == i / 4 || j % 4 == i % 4 || (j / 8 == i / 8 && j % 4 / 2 == i % 4 / 2))
                })
            };
            let longer = |g: Vec<i64>| {
                let fit: Vec<Vec<i64>> = (1..=4).filter(|v| !clash(&g, *v)).map(|v| [&g[..], &[v]].concat()).collect();
                fit
            };
            all = all.into_iter().flat_map(longer).collect();
        }
        assert_eq!(all.len(), 288);
        for seed in 0..100 {
            let d = Of(Sudoku).difficulty(&format!("level={}", seed % 4 + 1)).unwrap();
            let (board, answer) = Sudoku::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let left: Vec<&Vec<i64>> =
                all.iter().filter(|g| g.iter().zip(&board.clues).all(|(v, c)| *c == 0 || v == c)).collect();
            assert_eq!(left.len(), 1);
            assert_eq!(grid::show(left[0], 4), answer);
        }
    }
}
