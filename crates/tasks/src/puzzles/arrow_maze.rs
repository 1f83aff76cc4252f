//! `arrow-maze`: every blank becomes an arrow that leads away from a number; each number tells how many are its own.
//!
//! ```text
//! 2 . .          2 E E
//! . . 1    ->    N 3 1 …     (N: north, NE: north-east …)
//! ```
//!
//! From a number, rays go out in some of the eight directions; a ray is an unbroken line of arrows of its own direction that
//! starts beside the number. The number is the length of all its rays together; every blank lies on one. There may be several
//! solutions; every one passes.

use serde::Deserialize;

use super::*;

pub struct ArrowMaze;

const SIZE: Knob = Knob::number("size", 3, 7, 4, "cells a side");
const FILL: Knob = Knob::number("fill", 20, 90, 50, "chance that a number sends a ray in a direction, in percent");

const NAMES: [&str; 8] = ["N", "NE", "E", "SE", "S", "SW", "W", "NW"];
const ARROWS: [&str; 8] =
    ["\u{2191}", "\u{2197}", "\u{2192}", "\u{2198}", "\u{2193}", "\u{2199}", "\u{2190}", "\u{2196}"];
const MOVES: [(i64, i64); 8] = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    side: usize,
    /// -1 where a cell is blank.
    rays: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Free,
    Number(i64),
    Arrow(usize),
}

/// The cell one step on, or back, in a direction.
fn step(i: usize, n: usize, direction: usize, by: i64) -> Option<usize> {
    let (dr, dc) = MOVES[direction];
    let (r, c) = ((i / n) as i64 + by * dr, (i % n) as i64 + by * dc);
    let inside = |x: i64| (0..n as i64).contains(&x);
    (inside(r) && inside(c)).then(|| r as usize * n + c as usize)
}

/// The number that an arrow leads away from.
fn source(cells: &[Cell], n: usize, i: usize) -> Option<usize> {
    let Cell::Arrow(direction) = cells[i] else { return None };
    let mut at = i;
    loop {
        at = step(at, n, direction, -1)?;
        match cells[at] {
            Cell::Arrow(d) if d == direction => {}
            Cell::Number(_) => return Some(at),
            _ => return None,
        }
    }
}

/// Numbers in random places with random rays until every cell is one or the other.
fn fill(stream: &mut Stream, n: usize, chance: f64) -> Vec<Cell> {
    let mut cells = vec![Cell::Free; n * n];
    let mut order: Vec<usize> = (0..n * n).collect();
    stream.shuffle(&mut order);
    for at in order {
        if cells[at] != Cell::Free {
            continue;
        }
        let run = |cells: &[Cell], d: usize| {
            (1..n as i64).map_while(|k| step(at, n, d, k).filter(|&j| cells[j] == Cell::Free)).collect::<Vec<_>>()
        };
        let open: Vec<usize> = (0..8).filter(|&d| !run(&cells, d).is_empty()).collect();
        if open.is_empty() {
            // a lone cell lengthens a ray that ends beside it, if one points at it
            let longer = (0..8).find(|&d| {
                step(at, n, d, -1).is_some_and(|j| matches!(cells[j], Cell::Number(_)) || cells[j] == Cell::Arrow(d))
            });
            cells[at] = longer.map_or(Cell::Number(0), Cell::Arrow);
            if let Some(from) = source(&cells, n, at)
                && let Cell::Number(k) = &mut cells[from]
            {
                *k += 1;
            }
            continue;
        }
        let must = *stream.choose(&open);
        let mut total = 0;
        for d in open {
            let cells_on = run(&cells, d);
            if d == must || stream.chance(chance) {
                let length = stream.between(1, cells_on.len() as i64) as usize;
                cells_on[..length].iter().for_each(|&j| cells[j] = Cell::Arrow(d));
                total += length as i64;
            }
        }
        cells[at] = Cell::Number(total);
    }
    cells
}

fn show(cells: &[Cell], n: usize) -> String {
    let text = |c: &Cell| match c {
        Cell::Free => ".".to_string(),
        Cell::Number(k) => k.to_string(),
        Cell::Arrow(d) => NAMES[*d].to_string(),
    };
    grid::show(&cells.iter().map(text).collect::<Vec<_>>(), n)
}

/// The cells of an answer; none for unknown marks or where a number is not what it was.
fn read(board: &Board, text: &str) -> Option<Vec<Cell>> {
    let cell = |(t, &number): (&str, &i64)| {
        if number >= 0 {
            return (t == number.to_string()).then_some(Cell::Number(number));
        }
        let named = NAMES.iter().position(|name| name.eq_ignore_ascii_case(t));
        named.or(ARROWS.iter().position(|a| *a == t)).map(Cell::Arrow)
    };
    grid::cells(text, board.side, board.side)?.into_iter().zip(&board.rays).map(cell).collect()
}

impl Puzzle for ArrowMaze {
    type Board = Board;
    const NAME: &'static str = "arrow-maze";
    const ABOUT: &'static str = "arrows lead away from numbers that tell how many are theirs";
    const KNOBS: &'static [Knob] = &[SIZE, FILL];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let cells = fill(stream, n, d.get(&FILL) as f64 / 100.0);
        let rays = cells.iter().map(|c| if let Cell::Number(k) = c { *k } else { -1 }).collect();
        Ok((Board { side: n, rays }, show(&cells, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let cells: Vec<Cell> = board.rays.iter().map(|k| if *k < 0 { Cell::Free } else { Cell::Number(*k) }).collect();
        let wordings = [
            "Arrow maze: replace every dot by an arrow N, NE, E, SE, S, SW, W or NW. Straight rays of equal arrows \
             lead away from the numbers, in their own direction and without a gap; a number is the length of all \
             its rays together. Answer with the full grid.\n{}",
            "Fill the dots with compass directions (N, NE, E, SE, S, SW, W, NW). Each arrow belongs to a straight \
             line of the same arrows that starts beside a number and points away from it. Each number counts its \
             arrows. Answer with the rows, one a line.\n{}",
            "From each number go out straight lines of arrows, each arrow named by where it points (N, NE, E, SE, \
             S, SW, W, NW; N is up). The number says how many arrows it sends in all, and no dot is left. Write the \
             grid.\n{}",
        ];
        word(stream, &wordings, &[&show(&cells, board.side)])
    }

    fn sound(board: &Board) -> bool {
        (1..=12).contains(&board.side)
            && board.rays.len() == board.side * board.side
            && board.rays.iter().all(|k| (-1..=144).contains(k))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let cells = read(board, text)?;
        let mut counts = vec![0; cells.len()];
        for i in (0..cells.len()).filter(|&i| matches!(cells[i], Cell::Arrow(_))) {
            match source(&cells, board.side, i) {
                Some(at) => counts[at] += 1,
                None => return Some(false),
            }
        }
        Some((0..cells.len()).all(|i| board.rays[i] < 0 || board.rays[i] == counts[i]))
    }

    /// `3 at r1c1: E r1c2 r1c3, S r2c1`.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let n = board.side;
        let Some(cells) = read(board, answer) else { return vec![] };
        let ray = |i: usize, d: usize| {
            let on = (1..n as i64).map_while(|k| step(i, n, d, k).filter(|&j| cells[j] == Cell::Arrow(d)));
            let names: Vec<String> = on.map(|j| grid::name(j, n)).collect();
            if names.is_empty() { None } else { Some(format!("{} {}", NAMES[d], names.join(" "))) }
        };
        let tell = |i: usize| {
            let rays: Vec<String> = (0..8).filter_map(|d| ray(i, d)).collect();
            format!("{} at {}: {}", board.rays[i], grid::name(i, n), rays.join(", "))
        };
        (0..n * n).filter(|&i| board.rays[i] > 0).map(tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold};

    fn also(p: &Problem) -> Vec<String> {
        let drawn: Vec<&str> = p
            .answer
            .split(' ')
            .flat_map(|t| t.split_inclusive('\n'))
            .map(|t| NAMES.iter().position(|n| *n == t).map_or(t, |d| ARROWS[d]))
            .collect();
        vec![p.answer.to_lowercase(), p.answer.replace(' ', ", "), drawn.join(" ")]
    }

    /// One arrow turned to the other side, a number changed, a cell left out.
    fn wrong(p: &Problem) -> Vec<String> {
        let board = board::<ArrowMaze>(p).unwrap();
        let cells = read(&board, &p.answer).unwrap();
        let mut all = vec![
            p.answer[2..].to_string(),
            format!("{} N", p.answer),
            show(&vec![Cell::Arrow(0); cells.len()], board.side),
        ];
        for (i, cell) in cells.iter().enumerate() {
            let mut new = cells.clone();
            match cell {
                Cell::Arrow(_) => new[i] = Cell::Free,
                Cell::Number(k) => new[i] = Cell::Number(k + 1),
                Cell::Free => {}
            }
            all.push(show(&new, board.side));
        }
        all
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=3", "size=5,fill=30", "size=5,fill=90"];
        hold(&Of(ArrowMaze), &Laws { specs: &specs, n: 30, wrong, also, digest: "14e468e14910e5df" });
    }

    /// Every way to send rays from the numbers of 3 by 3 gives a right grid; every filling with few blanks is judged alike.
    #[test]
    fn brute_force_agrees_on_three_by_three() {
        for seed in 0..60 {
            let d = Of(ArrowMaze).difficulty("size=3").unwrap();
            let (board, _) = ArrowMaze::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let blank: Vec<usize> = (0..9).filter(|&i| board.rays[i] < 0).collect();
            if blank.len() > 5 {
                continue;
            }
            let mut right = 0;
            for code in 0..8usize.pow(blank.len() as u32) {
                let way = |i: usize| blank.iter().position(|b| *b == i).map(|k| code / 8usize.pow(k as u32) % 8);
                let text: Vec<String> = (0..9)
                    .map(|i| way(i).map_or_else(|| board.rays[i].to_string(), |d| NAMES[d].to_string()))
                    .collect();
                // walk out from the numbers and count what is reached
                let at = |r: i64, c: i64| ((0..3).contains(&r) && (0..3).contains(&c)).then(|| (3 * r + c) as usize);
                let mut reached = 0;
                let fine = (0..9).filter(|&i| board.rays[i] >= 0).all(|i| {
                    let mut own = 0;
                    for (d, (dr, dc)) in MOVES.iter().enumerate() {
                        let (mut r, mut c) = (i as i64 / 3 + dr, i as i64 % 3 + dc);
                        while at(r, c).is_some_and(|j| way(j) == Some(d)) {
                            own += 1;
                            (r, c) = (r + dr, c + dc);
                        }
                    }
                    reached += own;
                    own as i64 == board.rays[i]
                }) && reached == blank.len();
                assert_eq!(ArrowMaze::accepts(&board, &grid::show(&text, 3)), Some(fine), "{text:?}");
                right += usize::from(fine);
            }
            assert!(right >= 1);
        }
    }
}
