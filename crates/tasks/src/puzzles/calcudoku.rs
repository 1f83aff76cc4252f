//! `calcudoku`: a Latin square in cages; an operation on a cage's numbers gives its target. One solution.
//!
//! ```text
//! Calcudoku: each row and column holds 1 to 3 once. Cages: 5+ r1c1 r1c2; 2/ r1c3 r2c3; …
//! ```
//!
//! `+` and `*` take all numbers of the cage; `-` and `/` take the larger by the smaller of two. A cage of one cell tells its
//! number. Cells are given where the cages leave several solutions.

use serde::Deserialize;

use super::*;
use crate::search::csp::{Csp, Relation};

pub struct Calcudoku;

const SIZE: Knob = Knob::number("size", 3, 6, 4, "cells a side");
const CAGE: Knob = Knob::number("cage", 2, 4, 3, "most cells of a cage");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cage {
    cells: Vec<usize>,
    op: char,
    target: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    size: usize,
    /// 0 where a cell is blank.
    clues: Vec<i64>,
    cages: Vec<Cage>,
}

/// The operation on all numbers of a cage.
fn result(op: char, values: &[i64]) -> Option<i64> {
    let (least, most) = (*values.iter().min()?, *values.iter().max()?);
    match op {
        '+' => Some(values.iter().sum()),
        '*' => Some(values.iter().product()),
        '-' if values.len() == 2 => Some(most - least),
        '/' if values.len() == 2 && most % least == 0 => Some(most / least),
        _ => None,
    }
}

impl Board {
    fn rules(&self) -> Csp {
        let mut csp = grid::latin(self.size);
        for cage in &self.cages {
            let (op, target) = (cage.op, cage.target);
            if op == '+' {
                let terms: Vec<(i64, usize)> = cage.cells.iter().map(|&i| (1, i)).collect();
                csp.linear(&terms, Relation::Equal, target).expect("own variables");
                continue;
            }
            let holds = move |values: &[Option<i64>]| {
                let known: Vec<i64> = values.iter().flatten().copied().collect();
                if known.len() == values.len() {
                    return result(op, &known) == Some(target);
                }
                op != '*' || target % known.iter().product::<i64>() == 0
            };
            csp.predicate(&cage.cells, holds).expect("own variables");
        }
        grid::fix(&mut csp, &self.clues);
        csp
    }
}

/// Every cell in one cage of neighbours, with an operation that its numbers allow.
fn cages(stream: &mut Stream, n: usize, most: usize, truth: &[i64]) -> Vec<Cage> {
    let mut free = vec![true; n * n];
    let mut order: Vec<usize> = (0..n * n).collect();
    stream.shuffle(&mut order);
    let mut all = vec![];
    for start in order {
        if !free[start] {
            continue;
        }
        free[start] = false;
        let mut cells = vec![start];
        let wanted = stream.between(2, most as i64) as usize;
        while cells.len() < wanted {
            let near: Vec<usize> = cells.iter().flat_map(|&i| grid::beside(i, n, n)).filter(|&j| free[j]).collect();
            if near.is_empty() {
                break;
            }
            let next = *stream.choose(&near);
            free[next] = false;
            cells.push(next);
        }
        cells.sort();
        let values: Vec<i64> = cells.iter().map(|&i| truth[i]).collect();
        let ops: Vec<(char, i64)> = if cells.len() == 1 {
            vec![('+', values[0])]
        } else {
            ['+', '*', '-', '/'].into_iter().filter_map(|op| Some((op, result(op, &values)?))).collect()
        };
        let (op, target) = *stream.choose(&ops);
        all.push(Cage { cells, op, target });
    }
    all.sort_by_key(|c| c.cells[0]);
    all
}

impl Puzzle for Calcudoku {
    type Board = Board;
    const NAME: &'static str = "calcudoku";
    const ABOUT: &'static str = "a Latin square in cages with an operation and its result";
    const KNOBS: &'static [Knob] = &[SIZE, CAGE];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let truth = grid::full(&grid::latin(n), stream)?;
        let cages = cages(stream, n, d.get(&CAGE) as usize, &truth);
        let mut board = Board { size: n, clues: vec![0; n * n], cages };
        for i in grid::pin(&mut board.rules(), &truth, |_| true, stream)? {
            board.clues[i] = truth[i];
        }
        Ok((board, grid::show(&truth, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let n = board.size;
        let cage = |c: &Cage| {
            let cells: Vec<String> = c.cells.iter().map(|&i| grid::name(i, n)).collect();
            let op = if cells.len() == 1 { String::new() } else { c.op.to_string() };
            format!("{}{op} {}", c.target, cells.join(" "))
        };
        let mut told = board.cages.iter().map(cage).collect::<Vec<_>>().join("; ");
        if board.clues.iter().any(|c| *c != 0) {
            told.push_str("\nGiven:\n");
            told.push_str(&grid::show_blank(&board.clues, n));
        }
        let wordings = [
            "Calcudoku: each row and column holds 1 to {} once. The numbers of a cage give its target by its \
             operation (- and /: larger by smaller). Answer with the full grid.\nCages: {}",
            "Fill a square with the numbers 1 to {}, all different in each row and column. In each cage, target and \
             operation first, then cells (r row, c column), the operation on the numbers gives the target. Answer \
             with the rows, one a line.\nCages: {}",
            "A Latin square of 1 to {} with cages: 6* r1c1 r1c2 means that the product of these cells is 6; + is \
             the sum, - the difference, / the quotient. Write the grid.\nCages: {}",
        ];
        word(stream, &wordings, &[&n.to_string(), &told])
    }

    fn sound(board: &Board) -> bool {
        let cells = board.size.saturating_mul(board.size);
        let cage = |c: &Cage| {
            (1..=8).contains(&c.cells.len())
                && c.cells.iter().all(|i| *i < cells)
                && "+-*/".contains(c.op)
                && (0..=10_000_000).contains(&c.target)
        };
        (2..=7).contains(&board.size)
            && board.clues.len() == cells
            && board.clues.iter().all(|c| (0..=9).contains(c))
            && board.cages.len() <= cells
            && board.cages.iter().all(cage)
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
        let specs = ["", "size=5,cage=4", "size=6"];
        hold(
            &Of(Calcudoku),
            &Laws { specs: &specs, n: 25, wrong: |p| spoiled(&p.answer), also: glued, digest: "16170b48a6a32113" },
        );
    }

    #[test]
    fn brute_force_agrees_on_small_squares() {
        for seed in 0..60 {
            let d = Of(Calcudoku).difficulty(&format!("size={},cage={}", 3 + seed % 2, 2 + seed % 3)).unwrap();
            let (board, answer) = Calcudoku::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let mut all = latin_squares(board.size);
            all.retain(|g| {
                board.cages.iter().all(|c| {
                    let v: Vec<i64> = c.cells.iter().map(|&i| g[i]).collect();
                    let t = c.target;
                    match (c.op, &v[..]) {
                        ('+', v) => v.iter().sum::<i64>() == t,
                        ('*', v) => v.iter().product::<i64>() == t,
                        ('-', [a, b]) => a - b == t || b - a == t,
                        ('/', [a, b]) => *a == b * t || *b == a * t,
                        _ => false,
                    }
                }) && (0..g.len()).all(|i| [0, g[i]].contains(&board.clues[i]))
            });
            assert_eq!(all.len(), 1);
            assert_eq!(grid::show(&all[0], board.size), answer);
        }
    }
}
