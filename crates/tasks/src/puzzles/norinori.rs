//! `norinori`: cover two cells of every region with dominoes that do not touch by edges. One solution.
//!
//! ```text
//! Norinori: … Regions:
//! A A B
//! A B B
//! C C C
//! Covered: (1,1). Answer with all covered cells as (row,column).
//! #### (1,1) (1,2) (2,3) …
//! ```
//!
//! Dominoes may lie across region borders. Covered cells (shadows) are given until the solution is the only one. As dominoes
//! do not touch, the covered cells tell them.

use serde::Deserialize;

use super::*;
use crate::search::csp::{Csp, Relation};

pub struct Norinori;

const SIZE: Knob = Knob::number("size", 4, 7, 5, "cells a side");
const REGIONS: Knob = Knob::number("regions", 2, 7, 4, "regions, fewer where dominoes do not fit");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    side: usize,
    regions: Vec<usize>,
    shadows: Vec<usize>,
}

impl Board {
    fn rules(&self) -> Csp {
        let n = self.side;
        let mut csp = Csp::new();
        (0..n * n).for_each(|_| {
            csp.var(0, 1).expect("few values");
        });
        for k in 0..=self.regions.iter().copied().max().unwrap_or(0) {
            let own: Vec<(i64, usize)> = (0..n * n).filter(|i| self.regions[*i] == k).map(|i| (1, i)).collect();
            csp.linear(&own, Relation::Equal, 2).expect("own variables");
        }
        for i in 0..n * n {
            let vars = [vec![i], grid::beside(i, n, n)].concat();
            // a covered cell has exactly one covered neighbour
            let rows = (0..1usize << vars.len())
                .map(|bits| (0..vars.len()).map(|k| (bits >> k & 1) as i64).collect::<Vec<i64>>())
                .filter(|row| row[0] == 0 || row.iter().sum::<i64>() == 2)
                .collect();
            csp.table(&vars, rows).expect("own variables");
        }
        self.shadows.iter().for_each(|&i| csp.restrict(i, &[1]).expect("own variables"));
        csp
    }
}

/// At most `count` dominoes that do not touch, in random places.
fn dominoes(stream: &mut Stream, n: usize, count: usize) -> Vec<[usize; 2]> {
    let mut pairs: Vec<[usize; 2]> = (0..n * n)
        .flat_map(|i| grid::beside(i, n, n).into_iter().filter(move |j| *j > i).map(move |j| [i, j]))
        .collect();
    stream.shuffle(&mut pairs);
    let mut placed: Vec<[usize; 2]> = vec![];
    for pair in pairs {
        let near = |i: usize| placed.iter().flatten().any(|&p| p == i || grid::beside(p, n, n).contains(&i));
        if placed.len() < count && !near(pair[0]) && !near(pair[1]) {
            placed.push(pair);
        }
    }
    placed
}

impl Puzzle for Norinori {
    type Board = Board;
    const NAME: &'static str = "norinori";
    const ABOUT: &'static str = "dominoes that do not touch cover two cells of every region";
    const KNOBS: &'static [Knob] = &[SIZE, REGIONS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let dominoes = dominoes(stream, n, d.get(&REGIONS) as usize);
        let covered: Vec<usize> = dominoes.iter().flatten().copied().collect();
        let cut = (0..30).find_map(|_| {
            let halves = grid::grow(stream, n, n, &covered);
            grid::pair_up(stream, &halves, n, n)
        });
        // a domino's own two halves always lie side by side
        let regions =
            cut.unwrap_or_else(|| grid::grow(stream, n, n, &covered).into_iter().map(|half| half / 2).collect());
        let truth: Vec<i64> = (0..n * n).map(|i| i64::from(covered.contains(&i))).collect();
        let mut board = Board { side: n, regions, shadows: vec![] };
        board.shadows = grid::pin(&mut board.rules(), &truth, |i| truth[i] == 1, stream)?;
        board.shadows.sort();
        let cells: Vec<usize> = (0..n * n).filter(|i| truth[*i] == 1).collect();
        Ok((board, grid::show_places(&cells, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let n = board.side;
        let wordings = [
            "Norinori: place dominoes so that every region has exactly two covered cells and no two dominoes share \
             an edge; a domino may lie in two regions. These cells are covered: {}. Answer with all covered cells \
             as (row,column). Regions:\n{}",
            "Cover cells with dominoes, two cells of each lettered region and no more. Dominoes must not lie side \
             by side (corners may meet). Known covered cells: {}. List every covered cell as (row,column), counted \
             from 1.\n{}",
            "Each letter is a region with exactly two black cells. Every black cell has exactly one black neighbour \
             by edge. Already black: {}. Answer with the list of all black cells as (row,column).\n{}",
        ];
        word(stream, &wordings, &[&grid::show_places(&board.shadows, n), &grid::show_regions(&board.regions, n)])
    }

    fn sound(board: &Board) -> bool {
        let cells = board.side.saturating_mul(board.side);
        (2..=10).contains(&board.side)
            && board.regions.len() == cells
            && board.regions.iter().all(|k| *k < 26)
            && board.shadows.iter().all(|i| *i < cells)
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let covered = grid::places(text, board.side, board.side)?;
        let values: Vec<i64> = (0..board.regions.len()).map(|i| i64::from(covered.contains(&i))).collect();
        Some(board.rules().holds(&values))
    }

    fn steps(board: &Board, answer: &str) -> Vec<String> {
        grid::placed(&board.rules(), board.side, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold, respelled_places, spoiled_places};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "regions=3", "size=6,regions=6"];
        let wrong = |p: &Problem| spoiled_places(&p.answer, board::<Norinori>(p).unwrap().side);
        hold(&Of(Norinori), &Laws { specs: &specs, n: 30, wrong, also: respelled_places, digest: "0901ce004af0dbb5" });
    }

    /// Every set of cells of 4 by 4 against the rules, written out.
    #[test]
    fn brute_force_agrees_on_four_by_four() {
        for seed in 0..30 {
            let d = Of(Norinori).difficulty(&format!("size=4,regions={}", 2 + seed % 2)).unwrap();
            let (board, answer) = Norinori::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let count = board.regions.iter().max().unwrap() + 1;
            let fits = |set: u32| {
                let on = |i: usize| set >> i & 1 == 1;
                let beside = |i: usize, j: usize| (i / 4).abs_diff(j / 4) + (i % 4).abs_diff(j % 4) == 1;
                (0..count).all(|k| (0..16).filter(|&i| on(i) && board.regions[i] == k).count() == 2)
                    && (0..16).filter(|&i| on(i)).all(|i| (0..16).filter(|&j| on(j) && beside(i, j)).count() == 1)
                    && board.shadows.iter().all(|&i| on(i))
            };
            let right: Vec<u32> = (0u32..1 << 16).filter(|s| fits(*s)).collect();
            assert_eq!(right.len(), 1);
            let cells: Vec<usize> = (0..16).filter(|i| right[0] >> i & 1 == 1).collect();
            assert_eq!(grid::show_places(&cells, 4), answer);
        }
    }
}
