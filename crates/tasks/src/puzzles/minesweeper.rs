//! `minesweeper`: list all cells that are provably mines.
//!
//! ```text
//! # 1 #
//! # 2 1      one-step: (2,1) … by the 2 alone
//! 1 1 #
//! ```
//!
//! Two rules, one drawn by the knob `rule`, give different sets. `one-step`: a number with exactly as many covered neighbours
//! as it says proves all of them, each number looked at alone and once. `all`: every cell that holds a mine in each layout of
//! mines that fits all numbers (the count of mines is not told), found by search in each group of cells that share numbers.

use serde::Deserialize;

use super::*;
use crate::search::csp::{Csp, Relation};

pub struct Minesweeper;

const SIZE: Knob = Knob::number("size", 3, 12, 5, "cells a side");
const RULE: Knob = Knob::choice("rule", &["one-step", "all"], "what proves a mine: one number alone, or all together");
const DENSITY: Knob = Knob::number("density", 10, 50, 30, "percent of cells that hold mines");
const REVEAL: Knob = Knob::number("reveal", 20, 80, 40, "percent of the safe cells that show their number");

/// Search steps that one board may cost.
const STEPS_AT_MOST: u64 = 50_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    side: usize,
    /// Mines around, -1 where a cell is covered.
    field: Vec<i64>,
    /// Whether the numbers prove mines together.
    all: bool,
}

impl Board {
    fn covered_around(&self, i: usize) -> Vec<usize> {
        grid::around(i, self.side, self.side).into_iter().filter(|&j| self.field[j] < 0).collect()
    }

    /// Numbers that prove all their covered neighbours, with these.
    fn one_step(&self) -> Vec<(usize, Vec<usize>)> {
        (0..self.field.len())
            .filter(|&i| self.field[i] > 0)
            .map(|i| (i, self.covered_around(i)))
            .filter(|(i, around)| around.len() as i64 == self.field[*i])
            .collect()
    }

    /// The mines that the rule proves, in reading order; none where no layout fits or the search takes too long.
    fn mines(&self) -> Option<Vec<usize>> {
        let mut mines: Vec<usize> = if self.all {
            let (mut mines, mut budget) = (vec![], STEPS_AT_MOST);
            for group in self.groups() {
                mines.extend(self.forced(&group, &mut budget)?);
            }
            mines
        } else {
            self.one_step().into_iter().flat_map(|(_, around)| around).collect()
        };
        mines.sort();
        mines.dedup();
        Some(mines)
    }

    /// Numbers in groups that share no covered neighbours.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<(Vec<usize>, Vec<usize>)> = vec![];
        for i in (0..self.field.len()).filter(|&i| self.field[i] >= 0) {
            let (mut numbers, mut cells) = (vec![i], self.covered_around(i));
            let (joined, apart): (Vec<_>, Vec<_>) =
                groups.into_iter().partition(|g| g.1.iter().any(|c| cells.contains(c)));
            for (n, c) in joined {
                numbers.extend(n);
                cells.extend(c);
            }
            groups = apart;
            groups.push((numbers, cells));
        }
        groups.into_iter().map(|g| g.0).collect()
    }

    /// The cells around these numbers that hold a mine in every layout; none where the search steps run out.
    fn forced(&self, numbers: &[usize], budget: &mut u64) -> Option<Vec<usize>> {
        let mut cells: Vec<usize> = numbers.iter().flat_map(|&i| self.covered_around(i)).collect();
        cells.sort();
        cells.dedup();
        let mut csp = Csp::new();
        cells.iter().for_each(|_| {
            csp.var(0, 1).expect("few values");
        });
        for &i in numbers {
            let around = self.covered_around(i);
            let terms: Vec<(i64, usize)> =
                around.iter().map(|c| (1, cells.binary_search(c).expect("a cell of the group"))).collect();
            csp.linear(&terms, Relation::Equal, self.field[i]).expect("own variables");
        }
        let mut solve = |csp: &Csp| {
            let found = csp.solve_traced(*budget).0;
            *budget -= found.steps;
            found
        };
        let first = solve(&csp).solutions.pop()?;
        let mut forced = vec![];
        for (v, &cell) in cells.iter().enumerate().filter(|(v, _)| first[*v] == 1) {
            let mut without = csp.clone();
            without.restrict(v, &[0]).expect("own variable");
            let found = solve(&without);
            match (found.solutions.is_empty(), found.complete) {
                (true, true) => forced.push(cell),
                (true, false) => return None,
                _ => {}
            }
        }
        Some(forced)
    }
}

fn draw_board(stream: &mut Stream, d: &Difficulty) -> Board {
    let n = d.get(&SIZE) as usize;
    let mine: Vec<bool> = (0..n * n).map(|_| stream.chance(d.get(&DENSITY) as f64 / 100.0)).collect();
    let number = |i: usize| grid::around(i, n, n).iter().filter(|&&j| mine[j]).count() as i64;
    let field = (0..n * n)
        .map(|i| {
            let shown = stream.chance(d.get(&REVEAL) as f64 / 100.0);
            if mine[i] || !shown { -1 } else { number(i) }
        })
        .collect();
    Board { side: n, field, all: d.get(&RULE) == 1 }
}

impl Puzzle for Minesweeper {
    type Board = Board;
    const NAME: &'static str = "minesweeper";
    const ABOUT: &'static str = "list all cells that are provably mines";
    const KNOBS: &'static [Knob] = &[SIZE, RULE, DENSITY, REVEAL];

    /// Boards that prove at least one mine are looked for in 50 draws.
    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let mut last = None;
        for _ in 0..50 {
            let board = draw_board(stream, d);
            let Some(mines) = board.mines() else { continue };
            let answer = grid::show_places(&mines, board.side);
            if !mines.is_empty() {
                return Ok((board, answer));
            }
            last = Some((board, answer));
        }
        last.ok_or_else(|| Error::work("no board could be searched through").help("make `size` smaller"))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let marks: Vec<String> =
            board.field.iter().map(|v| if *v < 0 { "#".to_string() } else { v.to_string() }).collect();
        let field = grid::show(&marks, board.side);
        let form = "Answer with their (row,column), counted from 1, or none.";
        let one_step = [
            "Minesweeper: # is covered, a number counts the mines around it. List every cell that a single number \
             proves to be a mine because it has exactly that many covered neighbours.",
            "In this minefield (# covered, numbers count mines in the eight cells around) find the mines of \
             one-step deduction: all covered neighbours of a number that has just as many of them as it says.",
        ];
        let all = [
            "Minesweeper: # is covered, a number counts the mines around it. List every covered cell that must be a \
             mine in all layouts that fit the numbers.",
            "In this minefield (# covered, numbers count mines in the eight cells around) find all cells that are \
             certainly mines, whatever the layout; the number of mines is unknown.",
        ];
        let asked = stream.choose(if board.all { &all } else { &one_step });
        format!("{asked} {form}\n{field}")
    }

    fn sound(board: &Board) -> bool {
        (1..=16).contains(&board.side)
            && board.field.len() == board.side * board.side
            && board.field.iter().all(|v| (-1..=8).contains(v))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let listed = grid::places(text, board.side, board.side)?;
        Some(board.mines()? == listed)
    }

    /// `2 at r2c2: r1c1 r2c1`, then what only all numbers together prove.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let n = board.side;
        let mut known: Vec<usize> = vec![];
        let mut steps = vec![];
        for (i, around) in board.one_step() {
            let new: Vec<usize> = around.into_iter().filter(|j| !known.contains(j)).collect();
            if !new.is_empty() {
                let cells: Vec<String> = new.iter().map(|&j| grid::name(j, n)).collect();
                steps.push(format!("{} at {}: {}", board.field[i], grid::name(i, n), cells.join(" ")));
                known.extend(new);
            }
        }
        let rest = grid::places(answer, n, n).unwrap_or_default().into_iter().filter(|j| !known.contains(j));
        steps.extend(rest.map(|j| format!("{} is a mine in every layout", grid::name(j, n))));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold, respelled_places, spoiled_places};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "rule=all", "size=8,rule=all,density=30", "size=10,rule=one-step,density=35"];
        let wrong = |p: &Problem| spoiled_places(&p.answer, board::<Minesweeper>(p).unwrap().side);
        hold(
            &Of(Minesweeper),
            &Laws { specs: &specs, n: 30, wrong, also: respelled_places, digest: "8f7a4399aff28ee9" },
        );
    }

    /// Every layout of a 4 by 4 field against the search; and the two rules differ.
    #[test]
    fn brute_force_agrees_on_four_by_four() {
        let mut more = 0;
        for seed in 0..150 {
            let d = Of(Minesweeper).difficulty("size=4,rule=all,reveal=50").unwrap();
            let mut board = draw_board(&mut Stream::new(seed, &["test"]), &d);
            let covered: Vec<usize> = (0..16).filter(|&i| board.field[i] < 0).collect();
            let mut certain = u32::MAX;
            for layout in 0u32..1 << covered.len() {
                let mine = |i: usize| covered.iter().position(|c| *c == i).is_some_and(|k| layout >> k & 1 == 1);
                let fits = (0..16usize).filter(|&i| board.field[i] >= 0).all(|i| {
                    let near = (0..16).filter(|j| (i / 4).abs_diff(j / 4) < 2 && (i % 4).abs_diff(j % 4) < 2);
                    near.filter(|j| mine(*j)).count() as i64 == board.field[i]
                });
                if fits {
                    certain &= layout;
                }
            }
            let certain: Vec<usize> =
                covered.iter().enumerate().filter(|(k, _)| certain >> k & 1 == 1).map(|(_, c)| *c).collect();
            assert_eq!(board.mines().unwrap(), certain);
            board.all = false;
            let alone = board.mines().unwrap();
            assert!(alone.iter().all(|m| certain.contains(m)));
            more += usize::from(alone.len() < certain.len());
        }
        assert!(more > 10, "{more}");
    }

    #[test]
    fn a_field_that_no_layout_fits_is_no_problem() {
        let board = Board { side: 2, field: vec![5, -1, -1, -1], all: true };
        assert_eq!(Minesweeper::accepts(&board, "(1,2)"), None);
    }
}
