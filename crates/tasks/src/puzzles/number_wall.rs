//! `number-wall`: islands with one number each, parted by walls without a 2x2 block (a kind of nurikabe).
//!
//! ```text
//! Number wall: … X is wall, a dot is island, numbers stay. …
//! 2 . .          2 . X
//! . . .    ->    X X X
//! 1 . 3          1 X 3 …
//! ```
//!
//! Each island holds exactly one number, its size; islands do not touch, not even at corners; walls need not hang together.
//! Islands are dropped at random until no 2x2 wall is left (200 drops, else strips). There may be several solutions; every
//! one passes.

use serde::Deserialize;

use super::*;

pub struct NumberWall;

const SIZE: Knob = Knob::number("size", 3, 6, 4, "cells a side");
const ISLAND: Knob = Knob::number("island", 1, 6, 4, "most cells of an island");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    side: usize,
    /// 0 where a cell has no number.
    islands: Vec<i64>,
}

/// Whether four cells of wall meet.
fn has_block(wall: &[bool], n: usize) -> bool {
    (0..n - 1).any(|r| (0..n - 1).any(|c| [0, 1, n, n + 1].iter().all(|d| wall[r * n + c + d])))
}

/// Islands as lists of cells.
fn drop_islands(stream: &mut Stream, n: usize, most: i64) -> Vec<Vec<usize>> {
    let mut owner = vec![usize::MAX; n * n];
    let mut order: Vec<usize> = (0..n * n).collect();
    stream.shuffle(&mut order);
    let mut all: Vec<Vec<usize>> = vec![];
    for start in order {
        let id = all.len();
        let free = |owner: &[usize], i: usize| {
            owner[i] == usize::MAX && grid::around(i, n, n).iter().all(|&j| owner[j] == usize::MAX || owner[j] == id)
        };
        if !free(&owner, start) {
            continue;
        }
        owner[start] = id;
        let mut cells = vec![start];
        let wanted = stream.between(1, most) as usize;
        while cells.len() < wanted {
            let near: Vec<usize> = cells
                .iter()
                .flat_map(|&i| grid::beside(i, n, n))
                .filter(|&j| owner[j] == usize::MAX && free(&owner, j))
                .collect();
            if near.is_empty() {
                break;
            }
            let next = *stream.choose(&near);
            owner[next] = id;
            cells.push(next);
        }
        all.push(cells);
    }
    all
}

/// Every other row cut into islands of at most `most` cells: always without a 2x2 wall.
fn strips(stream: &mut Stream, n: usize, most: i64) -> Vec<Vec<usize>> {
    let mut all = vec![];
    for r in (0..n).step_by(2) {
        let mut c = 0;
        while c < n {
            let length = (stream.between(1, most) as usize).min(n - c);
            all.push((c..c + length).map(|c| r * n + c).collect());
            c += length + 1;
        }
    }
    all
}

/// What each cell is said to be: island or wall; none for other marks or a changed number.
fn read(board: &Board, text: &str) -> Option<Vec<bool>> {
    let n = board.side;
    let island = |(t, &number): (&str, &i64)| match t {
        "." => Some(true),
        "X" | "x" => Some(false),
        t if number != 0 && t == number.to_string() => Some(true),
        _ => None,
    };
    grid::cells(text, n, n)?.into_iter().zip(&board.islands).map(island).collect()
}

impl Puzzle for NumberWall {
    type Board = Board;
    const NAME: &'static str = "number-wall";
    const ABOUT: &'static str = "islands with one number each, parted by walls without a 2x2 block";
    const KNOBS: &'static [Knob] = &[SIZE, ISLAND];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let (n, most) = (d.get(&SIZE) as usize, d.get(&ISLAND));
        let mut islands = None;
        for _ in 0..200 {
            let drawn = drop_islands(stream, n, most);
            let wall: Vec<bool> = (0..n * n).map(|i| !drawn.iter().any(|cells| cells.contains(&i))).collect();
            if !has_block(&wall, n) {
                islands = Some(drawn);
                break;
            }
        }
        let islands = islands.unwrap_or_else(|| strips(stream, n, most));
        let mut board = Board { side: n, islands: vec![0; n * n] };
        let mut marks = vec!["X".to_string(); n * n];
        for cells in &islands {
            cells.iter().for_each(|&i| marks[i] = ".".into());
            let at = *stream.choose(cells);
            board.islands[at] = cells.len() as i64;
            marks[at] = cells.len().to_string();
        }
        Ok((board, grid::show(&marks, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let wordings = [
            "Number wall: turn blanks into wall so that each island of cells holds exactly one number, its size. \
             Islands do not touch, not even at corners, and no 2x2 block is all wall. Answer with the grid: X for \
             wall, . for island, numbers stay.\n{}",
            "Part this grid by walls. Every number lies in its own island of that many cells (joined by edges); \
             different islands touch neither by edge nor by corner; four walls never form a square. Write the grid \
             with X for walls and the other cells as they are.\n{}",
            "Each number is the size of its island. Mark the wall cells with X: islands stay apart, also \
             diagonally, each has one number, and walls make no 2x2 square. Answer with all rows, one a line.\n{}",
        ];
        word(stream, &wordings, &[&grid::show_blank(&board.islands, board.side)])
    }

    fn sound(board: &Board) -> bool {
        (2..=12).contains(&board.side)
            && board.islands.len() == board.side * board.side
            && board.islands.iter().all(|v| (0..=144).contains(v))
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let n = board.side;
        let island = read(board, text)?;
        let wall: Vec<bool> = island.iter().map(|i| !i).collect();
        if has_block(&wall, n) || (0..n * n).any(|i| wall[i] && board.islands[i] != 0) {
            return Some(false);
        }
        let parts = grid::components(&island, n, n);
        let whole = (0..n * n).filter(|&i| island[i]).all(|i| {
            let own: Vec<usize> = (0..n * n).filter(|&j| parts[j] == parts[i]).collect();
            let numbers: Vec<i64> = own.iter().map(|&j| board.islands[j]).filter(|v| *v != 0).collect();
            numbers == [own.len() as i64] && grid::around(i, n, n).iter().all(|&j| !island[j] || parts[j] == parts[i])
        });
        Some(whole)
    }

    /// `3 at r1c1: r1c1 r1c2 r2c2`, island by island.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let n = board.side;
        let Some(island) = read(board, answer) else { return vec![] };
        let parts = grid::components(&island, n, n);
        let tell = |i: usize| {
            let own = (0..n * n).filter(|&j| island[j] && parts[j] == parts[i]);
            let own: Vec<String> = own.map(|j| grid::name(j, n)).collect();
            format!("{} at {}: {}", board.islands[i], grid::name(i, n), own.join(" "))
        };
        (0..n * n).filter(|&i| board.islands[i] != 0).map(tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, glued, hold};

    /// Single cells turned over: an island that grows or shrinks no longer has its size.
    fn wrong(p: &Problem) -> Vec<String> {
        let marks: Vec<char> = p.answer.chars().collect();
        let turned = (0..marks.len()).filter_map(|k| {
            let other = match marks[k] {
                'X' if k > 1 && marks[k - 2] != 'X' && marks[k - 1] == ' ' => '.',
                '.' => 'X',
                c if c.is_ascii_digit() => 'X',
                _ => return None,
            };
            let mut new = marks.clone();
            new[k] = other;
            Some(new.into_iter().collect())
        });
        let mut all: Vec<String> = turned.take(6).collect();
        all.extend([
            p.answer.replace('X', "."),
            p.answer.replace('.', "X").replacen(|c: char| c.is_ascii_digit(), "X", 1),
            "X".into(),
        ]);
        all
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=5", "size=6,island=5"];
        hold(&Of(NumberWall), &Laws { specs: &specs, n: 30, wrong, also: glued, digest: "81e6f9020493fe80" });
    }

    /// All 512 walls of 3 by 3, judged by a flood fill of its own.
    #[test]
    fn brute_force_agrees_on_three_by_three() {
        let near = |a: usize, b: usize| (a / 3).abs_diff(b / 3).max((a % 3).abs_diff(b % 3)) == 1;
        let edge = |a: usize, b: usize| (a / 3).abs_diff(b / 3) + (a % 3).abs_diff(b % 3) == 1;
        for seed in 0..40 {
            let d = Of(NumberWall).difficulty("size=3").unwrap();
            let (board, answer) = NumberWall::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let mut right = 0;
            for bits in 0..512usize {
                let land: Vec<usize> = (0..9).filter(|i| bits >> i & 1 == 1).collect();
                let flood = |i: usize| {
                    let mut set = vec![i];
                    while let Some(&j) = land.iter().find(|j| !set.contains(j) && set.iter().any(|k| edge(*k, **j))) {
                        set.push(j);
                    }
                    set.sort();
                    set
                };
                let fine = land.iter().all(|&i| {
                    let set = flood(i);
                    let told: Vec<i64> = set.iter().map(|j| board.islands[*j]).filter(|v| *v > 0).collect();
                    told == [set.len() as i64] && land.iter().all(|j| set.contains(j) || !near(i, *j))
                }) && (0..9).all(|i| board.islands[i] == 0 || land.contains(&i))
                    && [0, 1, 3, 4].iter().all(|a| [0, 1, 3, 4].iter().any(|b| land.contains(&(a + b))));
                let marks: Vec<&str> = (0..9).map(|i| if land.contains(&i) { "." } else { "X" }).collect();
                assert_eq!(NumberWall::accepts(&board, &grid::show(&marks, 3)), Some(fine));
                right += usize::from(fine);
            }
            assert!(right >= 1, "{answer}");
        }
    }
}
