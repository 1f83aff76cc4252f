//! `survo`: fill in the missing numbers, each used once, so that row and column totals hold. One solution.
//!
//! ```text
//! Survo: the last column holds the row totals, the last row the column totals. Use each of 2, 3 once for the dots. …
//! 1 . 3
//! . 4 7
//! 4 6 10
//! ```
//!
//! The inner cells hold 1 to m*m, each once; blanks are given away until the solution is the only one, so that there may be
//! fewer than `blanks`. The answer is the inner square without totals.

use serde::Deserialize;

use super::*;
use crate::search::csp::{Csp, Relation};

pub struct Survo;

const SIZE: Knob = Knob::number("size", 3, 8, 4, "cells a side, totals included");
const BLANKS: Knob = Knob::number("blanks", 2, 14, 5, "missing numbers at most");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The inner square, 0 where a number is missing.
    inner: Vec<i64>,
    row_totals: Vec<i64>,
    column_totals: Vec<i64>,
}

impl Board {
    fn side(&self) -> usize {
        self.row_totals.len()
    }

    fn missing(&self) -> Vec<i64> {
        (1..=self.inner.len() as i64).filter(|v| !self.inner.contains(v)).collect()
    }

    fn rules(&self) -> Csp {
        let m = self.side();
        let mut csp = Csp::new();
        let missing = self.missing();
        for &v in &self.inner {
            let x = csp.var(1, (m * m) as i64).expect("few values");
            csp.restrict(x, if v == 0 { &missing } else { std::slice::from_ref(&v) }).expect("own variables");
        }
        let blank: Vec<usize> = (0..m * m).filter(|i| self.inner[*i] == 0).collect();
        csp.all_different(&blank).expect("own variables");
        for k in 0..m {
            let row: Vec<(i64, usize)> = (0..m).map(|j| (1, k * m + j)).collect();
            let column: Vec<(i64, usize)> = (0..m).map(|j| (1, j * m + k)).collect();
            csp.linear(&row, Relation::Equal, self.row_totals[k]).expect("own variables");
            csp.linear(&column, Relation::Equal, self.column_totals[k]).expect("own variables");
        }
        csp
    }
}

impl Puzzle for Survo {
    type Board = Board;
    const NAME: &'static str = "survo";
    const ABOUT: &'static str = "fill in missing numbers so that row and column totals hold";
    const KNOBS: &'static [Knob] = &[SIZE, BLANKS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let m = d.get(&SIZE) as usize - 1;
        let mut truth: Vec<i64> = (1..=(m * m) as i64).collect();
        stream.shuffle(&mut truth);
        let mut board = Board {
            inner: truth.clone(),
            row_totals: truth.chunks(m).map(|r| r.iter().sum()).collect(),
            column_totals: (0..m).map(|c| (0..m).map(|r| truth[r * m + c]).sum()).collect(),
        };
        stream.sample(m * m, d.get(&BLANKS) as usize).into_iter().for_each(|i| board.inner[i] = 0);
        for i in grid::pin(&mut board.rules(), &truth, |_| true, stream)? {
            board.inner[i] = truth[i];
        }
        Ok((board, grid::show(&truth, m)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let m = board.side();
        let mut cells = vec![];
        for (row, total) in board.inner.chunks(m).zip(&board.row_totals) {
            cells.extend_from_slice(row);
            cells.push(*total);
        }
        cells.extend_from_slice(&board.column_totals);
        cells.push(board.row_totals.iter().sum());
        let missing: Vec<String> = board.missing().iter().map(i64::to_string).collect();
        let wordings = [
            "Survo: the last column holds the row totals, the last row the column totals. Put each of the numbers \
             {} once in place of the dots. Answer with the grid without the totals.\n{}",
            "Replace the dots by the numbers {}, using each once, so that every row and column adds up to the \
             number at its end. Answer with the rows, without the totals, one a line.\n{}",
            "Missing numbers: {}. Each belongs to one dot; the last row and column are sums. Write the completed \
             grid, sums left out.\n{}",
        ];
        word(stream, &wordings, &[&missing.join(", "), &grid::show_blank(&cells, m + 1)])
    }

    fn sound(board: &Board) -> bool {
        let m = board.side();
        (1..=7).contains(&m)
            && board.column_totals.len() == m
            && board.inner.len() == m * m
            && board.inner.iter().all(|v| (0..=(m * m) as i64).contains(v))
            && board.row_totals.iter().chain(&board.column_totals).all(|t| (0..=10_000).contains(t))
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
    use crate::puzzles::laws::{Laws, hold, spoiled};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=3,blanks=2", "size=6,blanks=10", "size=8,blanks=14"];
        let also = |p: &Problem| vec![p.answer.replace(' ', ", "), p.answer.replace('\n', " ")];
        hold(
            &Of(Survo),
            &Laws { specs: &specs, n: 30, wrong: |p| spoiled(&p.answer), also, digest: "befc16b34777676d" },
        );
    }

    /// Every order of up to five missing numbers against the board's totals.
    #[test]
    fn brute_force_agrees_on_few_blanks() {
        for seed in 0..60 {
            let d = Of(Survo).difficulty("size=4,blanks=5").unwrap();
            let (board, answer) = Survo::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let mut all = vec![board.inner.clone()];
            for v in board.missing() {
                all = all
                    .into_iter()
                    .flat_map(|g| {
                        let open: Vec<usize> = (0..9).filter(|&i| g[i] == 0).collect();
                        open.into_iter().map(move |i| {
                            let mut g = g.clone();
                            g[i] = v;
                            g
                        })
                    })
                    .collect();
            }
            all.retain(|g| {
                (0..3).all(|k| {
                    g[3 * k] + g[3 * k + 1] + g[3 * k + 2] == board.row_totals[k]
                        && g[k] + g[k + 3] + g[k + 6] == board.column_totals[k]
                })
            });
            assert_eq!(all.len(), 1);
            assert_eq!(grid::show(&all[0], 3), answer);
        }
    }
}
