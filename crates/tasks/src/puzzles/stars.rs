//! `star-placement`: stars in every row, column and region that do not touch. One solution.
//!
//! ```text
//! Place 1 star in each row, column and region; stars do not touch, not even at corners. …
//! A A B B
//! A C C B
//! D C C B
//! D D D B
//! #### (1,2) (2,4) (3,1) (4,3)
//! ```
//!
//! Two stars need a side of 8 at least, so that `stars=2` makes smaller boards larger. Stars are given until the solution is the
//! only one.

use serde::Deserialize;

use super::*;
use crate::search::csp::{Csp, Relation};

pub struct Stars;

const SIZE: Knob = Knob::number("size", 4, 9, 5, "cells a side (8 or 9 with two stars)");
const STARS: Knob = Knob::number("stars", 1, 2, 1, "stars in each row, column and region");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    stars: usize,
    areas: Vec<usize>,
    given: Vec<usize>,
}

impl Board {
    fn side(&self) -> usize {
        self.areas.len().isqrt()
    }

    fn rules(&self) -> Csp {
        let n = self.side();
        let mut csp = rules(n, self.stars as i64);
        for k in 0..n {
            let own: Vec<(i64, usize)> = (0..n * n).filter(|i| self.areas[*i] == k).map(|i| (1, i)).collect();
            csp.linear(&own, Relation::Equal, self.stars as i64).expect("own variables");
        }
        self.given.iter().for_each(|&i| csp.restrict(i, &[1]).expect("own variables"));
        csp
    }
}

/// Rows, columns and touching; regions are left out.
fn rules(n: usize, stars: i64) -> Csp {
    let mut csp = Csp::new();
    (0..n * n).for_each(|_| {
        csp.var(0, 1).expect("few values");
    });
    for k in 0..n {
        let row: Vec<(i64, usize)> = (0..n).map(|j| (1, k * n + j)).collect();
        let column: Vec<(i64, usize)> = (0..n).map(|j| (1, j * n + k)).collect();
        csp.linear(&row, Relation::Equal, stars).expect("own variables");
        csp.linear(&column, Relation::Equal, stars).expect("own variables");
    }
    // of four cells that meet, one holds a star at most
    for i in (0..n * (n - 1)).filter(|i| i % n + 1 < n) {
        let four = [i, i + 1, i + n, i + n + 1].map(|j| (1, j));
        csp.linear(&four, Relation::AtMost, 1).expect("own variables");
    }
    csp
}

impl Puzzle for Stars {
    type Board = Board;
    const NAME: &'static str = "star-placement";
    const ABOUT: &'static str = "stars in every row, column and region that do not touch";
    const KNOBS: &'static [Knob] = &[SIZE, STARS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let stars = d.get(&STARS) as usize;
        let n = (d.get(&SIZE) as usize).max(if stars == 2 { 8 } else { 4 });
        let truth = grid::full(&rules(n, stars as i64), stream)?;
        let cells: Vec<usize> = (0..n * n).filter(|i| truth[*i] == 1).collect();
        let areas = (0..500).find_map(|_| {
            let parts = grid::grow(stream, n, n, &cells);
            if stars == 1 { Some(parts) } else { grid::pair_up(stream, &parts, n, n) }
        });
        let areas = areas.ok_or_else(|| Error::work("the stars could not be parted into regions"))?;
        let mut board = Board { stars, areas, given: vec![] };
        board.given = grid::pin(&mut board.rules(), &truth, |i| truth[i] == 1, stream)?;
        board.given.sort();
        Ok((board, grid::show_places(&cells, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let n = board.side();
        let stars = if board.stars == 1 { "1 star".to_string() } else { format!("{} stars", board.stars) };
        let given = grid::show_places(&board.given, n);
        let wordings = [
            "Place {} in each row, column and lettered region; stars do not touch, not even at corners. Given \
             stars: {}. Answer with all stars as (row,column).\n{}",
            "Every row, every column and every region of one letter gets exactly {}, and no two stars are \
             neighbours, also not diagonally. Already placed: {}. List the cells of all stars as (row,column), \
             counted from 1.\n{}",
            "Star battle with {} to each row, column and region. Stars never touch. Known: {}. Answer with the \
             (row,column) of every star.\n{}",
        ];
        word(stream, &wordings, &[&stars, &given, &grid::show_regions(&board.areas, n)])
    }

    fn sound(board: &Board) -> bool {
        let n = board.side();
        (2..=10).contains(&n)
            && n * n == board.areas.len()
            && (1..=3).contains(&board.stars)
            && board.areas.iter().all(|k| *k < n)
            && board.given.iter().all(|i| *i < n * n)
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let stars = grid::places(text, board.side(), board.side())?;
        let values: Vec<i64> = (0..board.areas.len()).map(|i| i64::from(stars.contains(&i))).collect();
        Some(board.rules().holds(&values))
    }

    fn steps(board: &Board, answer: &str) -> Vec<String> {
        grid::placed(&board.rules(), board.side(), answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold, respelled_places, spoiled_places};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=4", "size=6", "size=8,stars=2"];
        let wrong = |p: &Problem| spoiled_places(&p.answer, board::<Stars>(p).unwrap().side());
        hold(&Of(Stars), &Laws { specs: &specs, n: 20, wrong, also: respelled_places, digest: "4b22459ceabd9b18" });
    }

    /// Every order of columns of 5 by 5 against the rules, written out; and without regions, every layout passes.
    #[test]
    fn brute_force_agrees_on_five_by_five() {
        let mut orders: Vec<Vec<usize>> = vec![vec![]];
        for _ in 0..5 {
            orders = orders
                .into_iter()
                .flat_map(|o| (0..5).filter(|c| !o.contains(c)).map(|c| [&o[..], &[c]].concat()).collect::<Vec<_>>())
                .collect();
        }
        orders.retain(|o| (1..5).all(|r| o[r].abs_diff(o[r - 1]) > 1));
        assert_eq!(orders.len(), rules(5, 1).solve(100, grid::BUDGET).solutions.len());
        for seed in 0..60 {
            let d = Of(Stars).difficulty("size=5").unwrap();
            let (board, answer) = Stars::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let fits = |o: &&Vec<usize>| {
                let mut areas: Vec<usize> = (0..5).map(|r| board.areas[5 * r + o[r]]).collect();
                areas.sort();
                areas == [0, 1, 2, 3, 4] && board.given.iter().all(|g| o[g / 5] == g % 5)
            };
            let right: Vec<&Vec<usize>> = orders.iter().filter(fits).collect();
            assert_eq!(right.len(), 1);
            let cells: Vec<usize> = (0..5).map(|r| 5 * r + right[0][r]).collect();
            assert_eq!(grid::show_places(&cells, 5), answer);
        }
        // rows as regions leave all layouts: any of them is right
        let board = Board { stars: 1, areas: (0..25).map(|i| i / 5).collect(), given: vec![] };
        for o in &orders {
            let cells: Vec<usize> = (0..5).map(|r| 5 * r + o[r]).collect();
            assert_eq!(Stars::accepts(&board, &grid::show_places(&cells, 5)), Some(true));
        }
    }
}
