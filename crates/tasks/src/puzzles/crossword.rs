//! `crossword`: fill the given words into a crossword.
//!
//! ```text
//! Fill these words into the crossword. … Across: cat, ten. Down: cut.
//! _ _ _          c a t
//! _ . .    ->    u . .
//! _ _ _          t e n
//! ```
//!
//! Every run of two or more letters, across or down, must be one of the words, each used as often as it is listed. There may be
//! several fillings; every one passes.

use serde::Deserialize;

use super::*;

pub struct Crossword;

const SIZE: Knob = Knob::number("size", 4, 8, 5, "cells a side");
const WORDS: Knob = Knob::number("words", 2, 10, 4, "words, fewer where they do not fit");

const LIST: &str = "act add age air ant ape arm art ash bag bar bat bed bee bit box boy bus can cap car cat cow cup cut day den \
    dog dot dry ear eat eel egg elf elk end eye fan far fat fig fit fly fog fox fun gas gem hat hen ice ink jam jar key kid kit \
    lab lap leg lid lip log map mat mud net nut oak oar oil old one owl own pan paw pea pen pet pie pig pin pot ram rat red rib \
    rod rose row run sad saw sea set sky son sun tea ten tie tin tip toe ton top toy van wax web wet win zoo able acid area army \
    baby back ball band bank barn bear bell belt bird blue boat body bone book boot bowl cake calm camp card cave city clay club \
    coal coat coin cold corn crab dark deer desk door drum duck dust east edge face farm fast fern fire fish flag foam fork frog \
    game gate gift goat gold hair hand harp hill home horn iron king kite lake lamb lamp land leaf lime lion loaf mask meal milk \
    mint moon moss nail neat nest note oven pear pond rain reed rice ring road robe roof root rope salt sand seed ship shoe silk \
    snow soap star stem swan tail tent tide town tree tune vase wall wave west wind wolf wood yard apple beach bread chair cloud \
    crane dance eagle earth field flame fruit glass grape green heart honey horse house knife lemon light mango melon music north \
    ocean olive onion paint paper peach piano plant plate river robin round salad sheep shell smile snake south spoon stone storm \
    sugar table tiger toast tower train water wheat whale white world";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    side: usize,
    /// Cells that take a letter.
    open: Vec<bool>,
    across: Vec<String>,
    down: Vec<String>,
}

/// Runs of two or more letters: the first cell and the text, in reading order. A full stop holds no letter.
fn runs(letters: &[char], n: usize, across: bool) -> Vec<(usize, String)> {
    let at = |k: usize, j: usize| if across { k * n + j } else { j * n + k };
    let mut all = vec![];
    for k in 0..n {
        let mut start = 0;
        for j in 0..=n {
            if j < n && letters[at(k, j)] != '.' {
                continue;
            }
            if j >= start + 2 {
                all.push((at(k, start), (start..j).map(|j| letters[at(k, j)]).collect()));
            }
            start = j + 1;
        }
    }
    all
}

fn sorted_words(letters: &[char], n: usize, across: bool) -> Vec<String> {
    let mut words: Vec<String> = runs(letters, n, across).into_iter().map(|r| r.1).collect();
    words.sort();
    words
}

/// Adds a word through a letter that stands; false where it does not fit or would make other words.
fn cross(
    stream: &mut Stream,
    letters: &mut Vec<char>,
    n: usize,
    placed: &[Vec<String>; 2],
    word: &str,
) -> Option<bool> {
    let spots: Vec<(usize, usize)> = (0..n * n)
        .filter(|&i| letters[i] != '.')
        .flat_map(|i| word.chars().enumerate().map(move |(k, c)| (i, k, c)))
        .filter(|&(i, _, c)| letters[i] == c)
        .map(|(i, k, _)| (i, k))
        .collect();
    if spots.is_empty() {
        return None;
    }
    let (cell, k) = *stream.choose(&spots);
    let across = stream.chance(0.5);
    let stride = if across { 1 } else { n };
    let place = if across { cell % n } else { cell / n };
    if place < k || place - k + word.len() > n {
        return None;
    }
    let mut new = letters.clone();
    for (j, c) in word.chars().enumerate() {
        let i = cell - k * stride + j * stride;
        if new[i] != '.' && new[i] != c {
            return None;
        }
        new[i] = c;
    }
    let mut wanted = placed.clone();
    wanted[usize::from(!across)].push(word.to_string());
    wanted.iter_mut().for_each(|w| w.sort());
    if sorted_words(&new, n, true) != wanted[0] || sorted_words(&new, n, false) != wanted[1] {
        return None;
    }
    *letters = new;
    Some(across)
}

impl Puzzle for Crossword {
    type Board = Board;
    const NAME: &'static str = "crossword";
    const ABOUT: &'static str = "fill given words into a crossword";
    const KNOBS: &'static [Knob] = &[SIZE, WORDS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let n = d.get(&SIZE) as usize;
        let list: Vec<&str> = LIST.split_whitespace().filter(|w| w.len() <= n).collect();
        let mut letters = vec!['.'; n * n];
        let mut placed: [Vec<String>; 2] = [vec![], vec![]];
        let first = *stream.choose(&list);
        let at = stream.below(n) * n + stream.below(n - first.len() + 1);
        first.chars().enumerate().for_each(|(j, c)| letters[at + j] = c);
        placed[0].push(first.to_string());
        for _ in 0..400 {
            if placed[0].len() + placed[1].len() >= d.get(&WORDS) as usize {
                break;
            }
            let word = *stream.choose(&list);
            if placed.iter().flatten().any(|w| w == word) {
                continue;
            }
            if let Some(across) = cross(stream, &mut letters, n, &placed, word) {
                placed[usize::from(!across)].push(word.to_string());
            }
        }
        let [mut across, mut down] = placed;
        across.sort();
        down.sort();
        let open = letters.iter().map(|c| *c != '.').collect();
        Ok((Board { side: n, open, across, down }, grid::show(&letters, n)))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let list = |w: &[String]| if w.is_empty() { "none".to_string() } else { w.join(", ") };
        let marks: Vec<char> = board.open.iter().map(|o| if *o { '_' } else { '.' }).collect();
        let wordings = [
            "Fill these words into the crossword: _ takes a letter, dots stay. Across: {}. Down: {}. Answer with \
             the full grid.\n{}",
            "Write one letter in each _ so that the rows read the words {} from left to right and the columns {} \
             from top to bottom. Answer with the grid, dots kept, one row a line.\n{}",
            "A crossword with blanks (_) and blocked cells (.). Horizontal words: {}. Vertical words: {}. Write the \
             solved grid.\n{}",
        ];
        word(stream, &wordings, &[&list(&board.across), &list(&board.down), &grid::show(&marks, board.side)])
    }

    fn sound(board: &Board) -> bool {
        let words = || board.across.iter().chain(&board.down);
        (2..=16).contains(&board.side)
            && board.open.len() == board.side * board.side
            && words().count() <= 200
            && words().all(|w| w.len() <= 32)
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let letters = read(board, text)?;
        let sorted = |w: &[String]| {
            let mut w = w.to_vec();
            w.sort();
            w
        };
        Some(
            sorted_words(&letters, board.side, true) == sorted(&board.across)
                && sorted_words(&letters, board.side, false) == sorted(&board.down),
        )
    }

    /// `across r1c1: cat`.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let n = board.side;
        let Some(letters) = read(board, answer) else { return vec![] };
        let told = |across: bool| {
            let name = if across { "across" } else { "down" };
            runs(&letters, n, across).into_iter().map(move |(i, w)| format!("{name} {}: {w}", grid::name(i, n)))
        };
        told(true).chain(told(false)).collect()
    }
}

/// The letters of an answer, in small ones; none where the layout is not the board's.
fn read(board: &Board, text: &str) -> Option<Vec<char>> {
    let letter = |(t, &open): (&str, &bool)| match (t.as_bytes(), open) {
        ([c], true) if c.is_ascii_alphabetic() => Some(char::from(c.to_ascii_lowercase())),
        ([b'.'], false) => Some('.'),
        _ => None,
    };
    grid::cells(text, board.side, board.side)?.into_iter().zip(&board.open).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, glued, hold, spoiled};

    #[test]
    fn the_laws_hold() {
        let specs = ["", "size=4,words=5", "size=8,words=10"];
        let also = |p: &Problem| [glued(p), vec![p.answer.to_uppercase()]].concat();
        hold(
            &Of(Crossword),
            &Laws { specs: &specs, n: 40, wrong: |p| spoiled(&p.answer), also, digest: "12e5a6518b774877" },
        );
    }

    /// Every way to put the words into the slots: those that agree where they cross are the right answers.
    #[test]
    fn brute_force_agrees_on_few_words() {
        for seed in 0..60 {
            let d = Of(Crossword).difficulty("").unwrap();
            let (board, answer) = Crossword::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let n = board.side;
            let blank: Vec<char> = board.open.iter().map(|o| if *o { '_' } else { '.' }).collect();
            let slots = [runs(&blank, n, true), runs(&blank, n, false)];
            let mut fillings = vec![(blank, board.across.clone(), board.down.clone())];
            for (side, stride) in [(0, 1), (1, n)] {
                for (start, slot) in &slots[side] {
                    let mut longer = vec![];
                    for (cells, across, down) in &fillings {
                        let words = if side == 0 { across } else { down };
                        for (k, word) in words.iter().enumerate().filter(|w| w.1.len() == slot.len()) {
                            let mut new = (cells.clone(), across.clone(), down.clone());
                            let fits = word.chars().enumerate().all(|(j, c)| {
                                let cell = &mut new.0[start + j * stride];
                                let fits = *cell == '_' || *cell == c;
                                *cell = c;
                                fits
                            });
                            if side == 0 { &mut new.1 } else { &mut new.2 }.remove(k);
                            if fits {
                                longer.push(new);
                            }
                        }
                    }
                    fillings = longer;
                }
            }
            let texts: Vec<String> = fillings.iter().map(|f| grid::show(&f.0, n)).collect();
            assert!(texts.contains(&answer));
            assert!(texts.iter().all(|t| Crossword::accepts(&board, t) == Some(true)));
        }
    }
}
