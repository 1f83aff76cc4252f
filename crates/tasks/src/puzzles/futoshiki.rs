//! `futoshiki`: a Latin square with inequalities between neighbours, one solution.
//!
//! ```text
//! Futoshiki: each row and column holds 1 to 3 once. Dots are empty. r1c2 < r1c3, r2c1 < r1c1. Answer with the full grid.
//! . . .
//! . 3 .
//! . . .
//! ```
//!
//! `signs` and `clues` are drawn; clues are added until the solution is the only one.

use serde::Deserialize;

use super::*;
use crate::search::csp::{Csp, Relation};

pub struct Futoshiki;

const SIZE: Knob = Knob::number("size", 3, 6, 4, "cells a side");
const SIGNS: Knob = Knob::number("signs", 0, 20, 4, "inequalities between neighbours");
const CLUES: Knob = Knob::number("clues", 0, 12, 2, "numbers given at least");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    size: usize,
    /// 0 where a cell is blank.
    clues: Vec<i64>,
    /// The first cell of a pair holds less than the second.
    less: Vec<(usize, usize)>,
}

impl Board {
    fn rules(&self) -> Csp {
        let mut csp = grid::latin(self.size);
        for &(a, b) in &self.less {
            csp.linear(&[(1, a), (-1, b)], Relation::AtMost, -1).expect("own variables");
        }
        grid::fix(&mut csp, &self.clues);
        csp
    }
}

impl Puzzle for Futoshiki {
    type Board = Board;
    const NAME: &'static str = "futoshiki";
    const ABOUT: &'static str = "a Latin square with inequalities between neighbours";
    const KNOBS: &'static [Knob] = &[SIZE, SIGNS, CLUES];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let truth = grid::full(&grid::latin(n), stream)?;
        let mut pairs: Vec<(usize, usize)> =
            (0..n * n).flat_map(|i| grid::beside(i, n, n).into_iter().map(move |j| (i, j))).collect();
        pairs.retain(|&(i, j)| truth[i] < truth[j]);
        stream.shuffle(&mut pairs);
        pairs.truncate(d.get(&SIGNS) as usize);
        pairs.sort();
        let mut board = Board { size: n, clues: vec![0; n * n], less: pairs };
        stream.sample(n * n, d.get(&CLUES) as usize).into_iter().for_each(|i| board.clues[i] = truth[i]);
        for i in grid::pin(&mut board.rules(), &truth, |_| true, stream)? {
            board.clues[i] = truth[i];
        }
        Ok((board, grid::show(&truth, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let n = board.size;
        let signs: Vec<String> =
            board.less.iter().map(|&(a, b)| format!("{} < {}", grid::name(a, n), grid::name(b, n))).collect();
        let signs = if signs.is_empty() { "none".into() } else { signs.join(", ") };
        let wordings = [
            "Futoshiki: each row and column holds 1 to {} once; dots are empty. Signs (r row, c column): {}. Answer \
             with the full grid.\n{}",
            "Fill the grid so that every row and every column has the numbers 1 to {} and these hold (r row, c \
             column): {}. Answer with the rows, one a line.\n{}",
            "Complete this Latin square of the numbers 1 to {} under the inequalities {}, where r1c2 is row 1, \
             column 2. Write the grid.\n{}",
        ];
        word(stream, &wordings, &[&n.to_string(), &signs, &grid::show_blank(&board.clues, n)])
    }

    fn sound(board: &Board) -> bool {
        let cells = board.size.saturating_mul(board.size);
        (2..=9).contains(&board.size)
            && board.clues.len() == cells
            && board.clues.iter().all(|c| (0..=9).contains(c))
            && board.less.len() <= 4 * cells
            && board.less.iter().all(|&(a, b)| a < cells && b < cells && a != b)
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        grid::fits(&board.rules(), board.size, board.size, text)
    }

    fn steps(board: &Board, answer: &str) -> Vec<String> {
        grid::told(&board.rules(), board.size, board.size, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, glued, hold, latin_squares, spoiled};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=4,signs=4,clues=3", "size=5,signs=7,clues=4", "size=5,signs=10,clues=5"];
        hold(
            &Of(Futoshiki),
            &Laws { specs: &specs, n: 30, wrong: |p| spoiled(&p.answer), also: glued, digest: "5fed2ccbc03a19fb" },
        );
    }

    #[test]
    fn brute_force_agrees_on_small_squares() {
        for seed in 0..60 {
            let d = Of(Futoshiki).difficulty(&format!("size={}", 3 + seed % 2)).unwrap();
            let (board, answer) = Futoshiki::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let mut all = latin_squares(board.size);
            all.retain(|g| {
                board.less.iter().all(|&(a, b)| g[a] < g[b])
                    && (0..g.len()).all(|i| [0, g[i]].contains(&board.clues[i]))
            });
            assert_eq!(all.len(), 1);
            assert_eq!(grid::show(&all[0], board.size), answer);
        }
    }
}
