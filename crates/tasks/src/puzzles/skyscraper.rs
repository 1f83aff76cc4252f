//! `skyscraper`: a Latin square of heights; numbers at the edges say how many towers are seen from there. One solution.
//!
//! ```text
//! Skyscrapers: each row and column holds the heights 1 to 3 once; …
//! Top: 2 1 2
//! Bottom: 2 3 1
//! Left: 2 1 2
//! Right: 2 3 1
//! 2 3 1
//! 3 1 2   …
//! ```
//!
//! `hidden` percent of the edge numbers are left out; heights are given where the edges leave several solutions.

use serde::Deserialize;

use super::*;
use crate::search::csp::Csp;

pub struct Skyscraper;

const SIZE: Knob = Knob::number("size", 3, 5, 4, "cells a side");
const HIDDEN: Knob = Knob::number("hidden", 0, 80, 0, "percent of the edge numbers left out");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Heights given, 0 where a cell is blank.
    heights: Vec<i64>,
    /// Towers seen from the top, the bottom, the left, the right; 0 where it is not told.
    seen: [Vec<i64>; 4],
}

/// How many towers are seen along a line of heights.
fn visible(line: impl Iterator<Item = i64>) -> i64 {
    let (mut most, mut count) = (0, 0);
    for h in line {
        if h > most {
            (most, count) = (h, count + 1);
        }
    }
    count
}

/// Every order of 1 to `n`.
fn orders(n: usize) -> Vec<Vec<i64>> {
    let mut all: Vec<Vec<i64>> = vec![vec![]];
    for _ in 0..n {
        all = all
            .iter()
            .flat_map(|o| (1..=n as i64).filter(|v| !o.contains(v)).map(move |v| [&o[..], &[v]].concat()))
            .collect();
    }
    all
}

impl Board {
    fn side(&self) -> usize {
        self.seen[0].len()
    }

    fn line(&self, k: usize, across: bool) -> Vec<usize> {
        let n = self.side();
        (0..n).map(|j| if across { k * n + j } else { j * n + k }).collect()
    }

    fn rules(&self) -> Csp {
        let n = self.side();
        let mut csp = grid::latin(n);
        let orders = orders(n);
        for k in 0..n {
            for across in [false, true] {
                let (a, b) =
                    if across { (self.seen[2][k], self.seen[3][k]) } else { (self.seen[0][k], self.seen[1][k]) };
                if (a, b) == (0, 0) {
                    continue;
                }
                let sees = |told: i64, count: i64| told == 0 || told == count;
                let fit =
                    |o: &&Vec<i64>| sees(a, visible(o.iter().copied())) && sees(b, visible(o.iter().rev().copied()));
                csp.table(&self.line(k, across), orders.iter().filter(fit).cloned().collect()).expect("own variables");
            }
        }
        grid::fix(&mut csp, &self.heights);
        csp
    }
}

impl Puzzle for Skyscraper {
    type Board = Board;
    const NAME: &'static str = "skyscraper";
    const ABOUT: &'static str = "a Latin square of heights from how many towers the edges see";
    const KNOBS: &'static [Knob] = &[SIZE, HIDDEN];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let truth = grid::full(&grid::latin(n), stream)?;
        let blank = || vec![0; n];
        let mut board = Board { heights: vec![0; n * n], seen: [blank(), blank(), blank(), blank()] };
        for k in 0..n {
            for across in [false, true] {
                let line: Vec<i64> = board.line(k, across).into_iter().map(|i| truth[i]).collect();
                let side = if across { 2 } else { 0 };
                board.seen[side][k] = visible(line.iter().copied());
                board.seen[side + 1][k] = visible(line.iter().rev().copied());
            }
        }
        let hidden = 4 * n * d.get(&HIDDEN) as usize / 100;
        stream.sample(4 * n, hidden).into_iter().for_each(|i| board.seen[i / n][i % n] = 0);
        for i in grid::pin(&mut board.rules(), &truth, |_| true, stream)? {
            board.heights[i] = truth[i];
        }
        Ok((board, grid::show(&truth, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let n = board.side();
        let edges: Vec<String> = ["Top", "Bottom", "Left", "Right"]
            .iter()
            .zip(&board.seen)
            .map(|(name, seen)| format!("{name}: {}", grid::show_blank(seen, n)))
            .collect();
        let mut told = edges.join("\n");
        if board.heights.iter().any(|h| *h != 0) {
            told.push_str("\nGiven:\n");
            told.push_str(&grid::show_blank(&board.heights, n));
        }
        let wordings = [
            "Skyscrapers: each row and column holds the heights 1 to {} once. An edge number says how many towers \
             are seen from there, taller ones hide what is behind. Answer with the grid of heights.\n{}",
            "Fill a square with towers of 1 to {} floors, all different in each row and column, so that from each \
             edge as many are visible as told (columns left to right, rows top to bottom). Answer with the rows, \
             one a line.\n{}",
            "Find the heights, 1 to {} in every row and column, from the number of towers visible at the edges. \
             Write the grid.\n{}",
        ];
        word(stream, &wordings, &[&n.to_string(), &told])
    }

    fn sound(board: &Board) -> bool {
        let n = board.side();
        (2..=6).contains(&n)
            && board.seen.iter().all(|s| s.len() == n)
            && board.heights.len() == n * n
            && board.heights.iter().chain(board.seen.iter().flatten()).all(|v| (0..=9).contains(v))
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
    use crate::puzzles::laws::{Laws, glued, hold, latin_squares, spoiled};

    #[test]
    fn the_laws_hold() {
        // there are 12 Latin squares of side 3, so that few prompts differ
        let specs = ["", "hidden=50", "size=5"];
        hold(
            &Of(Skyscraper),
            &Laws { specs: &specs, n: 30, wrong: |p| spoiled(&p.answer), also: glued, digest: "0074e4d5ba289215" },
        );
        assert_eq!(visible([2, 1, 4, 3].into_iter()), 2);
    }

    #[test]
    fn brute_force_agrees_on_small_squares() {
        for seed in 0..60 {
            let d = Of(Skyscraper).difficulty(&format!("size={},hidden={}", 3 + seed % 2, seed % 60)).unwrap();
            let (board, answer) = Skyscraper::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let n = board.side();
            let mut all = latin_squares(n);
            // a tower is seen when no earlier one is as tall
            let sees = |g: &[i64], line: Vec<usize>| {
                (0..n).filter(|&j| line[..j].iter().all(|&i| g[i] < g[line[j]])).count() as i64
            };
            all.retain(|g| {
                (0..n).all(|k| {
                    let turned = |across| board.line(k, across).into_iter().rev().collect();
                    let counts = [
                        sees(g, board.line(k, false)),
                        sees(g, turned(false)),
                        sees(g, board.line(k, true)),
                        sees(g, turned(true)),
                    ];
                    (0..4).all(|s| [0, counts[s]].contains(&board.seen[s][k]))
                }) && (0..n * n).all(|i| [0, g[i]].contains(&board.heights[i]))
            });
            assert_eq!(all.len(), 1);
            assert_eq!(grid::show(&all[0], n), answer);
        }
    }
}
