//! `campsite`: one camp beside each tree, camps apart, row and column counts.
//!
//! ```text
//! Campsite: … Row counts: 1, 0, 1. Column counts: 1, 0, 1.
//! T . .          T . C
//! . . T    ->    . . T
//! . . .          C . . …
//! ```
//!
//! Camps and trees pair off: each tree has its own camp on a neighbouring cell (by edge). Camps do not touch, not even at
//! corners. There may be several solutions; the verifier looks for a pairing, so that every one passes.

use serde::Deserialize;

use super::*;

pub struct Campsite;

const SIZE: Knob = Knob::number("size", 3, 8, 4, "cells a side");
const CAMPS: Knob = Knob::number("camps", 1, 12, 3, "trees and camps, fewer where they do not fit");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    trees: Vec<usize>,
    row_counts: Vec<usize>,
    column_counts: Vec<usize>,
}

impl Board {
    fn side(&self) -> usize {
        self.row_counts.len()
    }

    fn show(&self, camps: &[usize]) -> String {
        let n = self.side();
        let mark = |i: usize| {
            if self.trees.contains(&i) {
                'T'
            } else if camps.contains(&i) {
                'C'
            } else {
                '.'
            }
        };
        grid::show(&(0..n * n).map(mark).collect::<Vec<_>>(), n)
    }

    /// The camp cells of an answer; none where a mark is unknown or a tree is not where it was.
    fn camps(&self, text: &str) -> Option<Vec<usize>> {
        let n = self.side();
        let mut camps = vec![];
        for (i, mark) in grid::cells(text, n, n)?.into_iter().enumerate() {
            match mark {
                "C" | "c" if !self.trees.contains(&i) => camps.push(i),
                "T" | "t" if self.trees.contains(&i) => {}
                "." if !self.trees.contains(&i) => {}
                _ => return None,
            }
        }
        Some(camps)
    }
}

/// For each tree the camp that is its own; none where they do not pair off (augmenting paths).
fn pairing(n: usize, trees: &[usize], camps: &[usize]) -> Option<Vec<usize>> {
    fn find(t: usize, near: &[Vec<usize>], owner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
        near[t].iter().any(|&c| {
            if std::mem::replace(&mut seen[c], true) {
                return false;
            }
            let free = owner[c].is_none_or(|other| find(other, near, owner, seen));
            if free {
                owner[c] = Some(t);
            }
            free
        })
    }
    let near: Vec<Vec<usize>> = trees
        .iter()
        .map(|&t| (0..camps.len()).filter(|&c| grid::beside(t, n, n).contains(&camps[c])).collect())
        .collect();
    let mut owner = vec![None; camps.len()];
    let all = (0..trees.len()).all(|t| find(t, &near, &mut owner, &mut vec![false; camps.len()]));
    let camp_of = |t: usize| owner.iter().position(|o| *o == Some(t)).map(|c| camps[c]);
    if all && trees.len() == camps.len() { (0..trees.len()).map(camp_of).collect() } else { None }
}

impl Puzzle for Campsite {
    type Board = Board;
    const NAME: &'static str = "campsite";
    const ABOUT: &'static str = "one camp beside each tree, camps apart, row and column counts";
    const KNOBS: &'static [Knob] = &[SIZE, CAMPS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let mut order: Vec<usize> = (0..n * n).collect();
        stream.shuffle(&mut order);
        let (mut trees, mut camps): (Vec<usize>, Vec<usize>) = (vec![], vec![]);
        for i in order {
            let apart = !trees.contains(&i) && !grid::around(i, n, n).iter().any(|j| camps.contains(j));
            if camps.len() == d.get(&CAMPS) as usize || !apart || camps.contains(&i) {
                continue;
            }
            let free: Vec<usize> =
                grid::beside(i, n, n).into_iter().filter(|j| !trees.contains(j) && !camps.contains(j)).collect();
            if !free.is_empty() {
                camps.push(i);
                trees.push(*stream.choose(&free));
            }
        }
        trees.sort();
        let count = |same: &dyn Fn(usize) -> usize| {
            (0..n).map(|k| camps.iter().filter(|&&c| same(c) == k).count()).collect::<Vec<usize>>()
        };
        let board = Board { trees, row_counts: count(&|c| c / n), column_counts: count(&|c| c % n) };
        let answer = board.show(&camps);
        Ok((board, answer))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let list = |v: &[usize]| v.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let wordings = [
            "Campsite: give each tree T a camp C of its own on a cell beside it (not diagonally). Camps do not \
             touch, not even at corners. Camps in each row: {}. Camps in each column: {}. Answer with the grid.\n{}",
            "Pitch as many camps (C) as there are trees (T), each beside its own tree by an edge; no two camps may \
             be neighbours, diagonals included. Row counts: {}. Column counts: {}. Write the grid with T, C and \
             dots.\n{}",
            "Trees T stand on this ground. Every tree needs one camp next to it by an edge, camps keep apart in all \
             eight directions. The rows hold {} camps, the columns {}. Answer with all rows, one a line; mark camps \
             with C.\n{}",
        ];
        word(stream, &wordings, &[&list(&board.row_counts), &list(&board.column_counts), &board.show(&[])])
    }

    fn sound(board: &Board) -> bool {
        let n = board.side();
        (1..=12).contains(&n)
            && board.column_counts.len() == n
            && board.trees.len() <= n * n
            && board.trees.iter().all(|t| *t < n * n)
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let n = board.side();
        let camps = board.camps(text)?;
        let apart = camps.iter().all(|&c| !grid::around(c, n, n).iter().any(|j| camps.contains(j)));
        let counted = (0..n).all(|k| {
            camps.iter().filter(|&&c| c / n == k).count() == board.row_counts[k]
                && camps.iter().filter(|&&c| c % n == k).count() == board.column_counts[k]
        });
        Some(apart && counted && pairing(n, &board.trees, &camps).is_some())
    }

    /// `tree r1c1: camp r1c2`.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let n = board.side();
        let pairs = board.camps(answer).and_then(|camps| pairing(n, &board.trees, &camps)).unwrap_or_default();
        let tell = |(t, c): (&usize, &usize)| format!("tree {}: camp {}", grid::name(*t, n), grid::name(*c, n));
        board.trees.iter().zip(&pairs).map(tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, glued, hold};

    /// Camps added, taken away, put on a tree.
    fn wrong(p: &Problem) -> Vec<String> {
        vec![
            p.answer.replacen('.', "C", 1),
            p.answer.replacen('C', ".", 1),
            p.answer.replacen('T', "C", 1),
            p.answer.replacen('T', ".", 1),
            format!("{} .", p.answer),
        ]
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=3,camps=2", "size=5,camps=5", "size=8,camps=12"];
        hold(&Of(Campsite), &Laws { specs: &specs, n: 30, wrong, also: glued, digest: "9bea0dd22d0814e0" });
    }

    /// All 512 sets of camps of 3 by 3; trees and camps are paired by trying every order.
    #[test]
    fn brute_force_agrees_on_three_by_three() {
        fn orders(v: &[usize]) -> Vec<Vec<usize>> {
            if v.is_empty() {
                return vec![vec![]];
            }
            let rest = |i: usize| orders(&[&v[..i], &v[i + 1..]].concat());
            (0..v.len()).flat_map(|i| rest(i).into_iter().map(move |r| [vec![v[i]], r].concat())).collect()
        }
        let gap = |a: usize, b: usize| ((a / 3).abs_diff(b / 3), (a % 3).abs_diff(b % 3));
        for seed in 0..60 {
            let d = Of(Campsite).difficulty("size=3").unwrap();
            let (board, _) = Campsite::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let mut right = 0;
            for bits in 0..512usize {
                let camps: Vec<usize> = (0..9).filter(|i| bits >> i & 1 == 1).collect();
                if camps.iter().any(|c| board.trees.contains(c)) {
                    continue;
                }
                let paired = camps.len() == board.trees.len()
                    && orders(&camps)
                        .iter()
                        .any(|o| o.iter().zip(&board.trees).all(|(c, t)| matches!(gap(*c, *t), (0, 1) | (1, 0))));
                let apart = camps.iter().all(|a| camps.iter().all(|b| a == b || gap(*a, *b).0.max(gap(*a, *b).1) > 1));
                let counted = (0..3).all(|k| {
                    camps.iter().filter(|c| **c / 3 == k).count() == board.row_counts[k]
                        && camps.iter().filter(|c| **c % 3 == k).count() == board.column_counts[k]
                });
                let fine = paired && apart && counted;
                assert_eq!(Campsite::accepts(&board, &board.show(&camps)), Some(fine));
                right += usize::from(fine);
            }
            assert!(right >= 1);
        }
    }
}
