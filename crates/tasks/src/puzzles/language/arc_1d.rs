//! `arc-1d`: rows of colored cells that change by a rule to be found.
//!
//! ```text
//! One rule turns each row into another. 0 is empty.
//! 0 0 3 3 3 0 0 0 -> 0 0 0 3 3 3 0 0
//! 0 5 5 0 0 0 0 0 -> 0 0 5 5 0 0 0 0
//! What does it make of 0 0 0 2 2 2 0 0?
//! rule: everything moves 1 to the right
//! 0 0 3 3 3 0 0 0: 0 0 0 3 3 3 0 0, fits / 0 5 5 0 0 0 0 0: 0 0 5 5 0 0 0 0, fits
//! #### 0 0 0 0 2 2 2 0
//! ```
//!
//! The rules are our own small set, after the one-dimensional tasks that followed ARC: shifts, mirrors, filling, hollowing,
//! gaps, gravity, growing, noise, copies, recoloring by size or place. A problem is kept only if every rule of the set that
//! fits its examples agrees on the question, so its answer is one. Difficulty: `length`, `examples`, `blocks`, `rule`.

use super::*;

pub struct Arc1d;

const LENGTH: Knob = Knob::number("length", 6, 40, 12, "cells of a row");
const EXAMPLES: Knob = Knob::number("examples", 1, 6, 3, "rows shown with their outcome");
const BLOCKS: Knob = Knob::number("blocks", 1, 5, 2, "most blocks of color in a row");

const WORDINGS: &[&str] = &[
    "One rule turns each row into another. 0 is empty.\n{}\nWhat does it make of {row}?",
    "Find the rule behind these rows of colors (0 is no color).\n{}\nApply it to {row}",
    "{}\nThe same change is applied every time; 0 stands for an empty cell. Continue: {row} ->",
];

type Row = Vec<u8>;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rule {
    /// Everything moves by so many cells to the right (left if negative); what leaves is lost.
    Shift(i64),
    /// The same, around the end.
    Turn(i64),
    /// The row backwards.
    Mirror,
    /// Empty cells between two cells of one color get it.
    Fill,
    /// Blocks keep only their ends.
    Hollow,
    /// Cells alone are lost.
    Denoise,
    /// Colored cells go to the left end, in their order.
    GravityLeft,
    GravityRight,
    /// Blocks grow by a cell on both sides where that is empty.
    Grow,
    /// Blocks lose a cell at both ends.
    Shrink,
    /// The longest blocks get this color.
    RecolorLongest(u8),
    /// The shortest blocks get this color.
    RecolorShortest(u8),
    /// Blocks of odd length get the first color, the others the second.
    ByParity(u8, u8),
    /// One color becomes another.
    Swap(u8, u8),
    /// Every empty cell gets this color and every colored cell is emptied.
    Invert(u8),
    /// The first color of the row is everywhere a color is.
    FirstColor,
    /// Only the longest blocks stay.
    KeepLongest,
    /// The left half again on the right.
    CopyHalf,
}

/// Start, end and color of each block.
fn blocks(row: &[u8]) -> Vec<(usize, usize, u8)> {
    let mut out: Vec<(usize, usize, u8)> = vec![];
    for (i, &c) in row.iter().enumerate().filter(|c| *c.1 != 0) {
        match out.last_mut() {
            Some(last) if last.1 == i && last.2 == c => last.1 = i + 1,
            _ => out.push((i, i + 1, c)),
        }
    }
    out
}

fn recolor(row: &[u8], color: impl Fn(usize) -> Option<u8>) -> Row {
    let mut out = row.to_vec();
    for (a, b, _) in blocks(row) {
        if let Some(c) = color(b - a) {
            out[a..b].fill(c);
        }
    }
    out
}

fn fill_between(row: &[u8]) -> Row {
    let mut out = row.to_vec();
    let colored: Vec<usize> = (0..row.len()).filter(|i| row[*i] != 0).collect();
    for two in colored.windows(2).filter(|w| row[w[0]] == row[w[1]]) {
        out[two[0]..two[1]].fill(row[two[0]]);
    }
    out
}

impl Rule {
    fn apply(self, row: &[u8]) -> Row {
        let n = row.len();
        let at = |i: i64| if (0..n as i64).contains(&i) { row[i as usize] } else { 0 };
        let longest = blocks(row).iter().map(|b| b.1 - b.0).max().unwrap_or(0);
        let shortest = blocks(row).iter().map(|b| b.1 - b.0).min().unwrap_or(0);
        let colored = || row.iter().copied().filter(|c| *c != 0);
        let pad = n - colored().count();
        match self {
            Rule::Shift(k) => (0..n as i64).map(|i| at(i - k)).collect(),
            Rule::Turn(k) => (0..n as i64).map(|i| at((i - k).rem_euclid(n as i64))).collect(),
            Rule::Mirror => row.iter().rev().copied().collect(),
            Rule::Fill => fill_between(row),
            Rule::Hollow => {
                let mut out = row.to_vec();
                blocks(row).iter().filter(|b| b.1 - b.0 > 2).for_each(|b| out[b.0 + 1..b.1 - 1].fill(0));
                out
            }
            Rule::Denoise => recolor(row, |length| (length == 1).then_some(0)),
            Rule::GravityLeft => colored().chain(std::iter::repeat_n(0, pad)).collect(),
            Rule::GravityRight => std::iter::repeat_n(0, pad).chain(colored()).collect(),
            Rule::Grow => (0..n as i64)
                .map(|i| {
                    if at(i) != 0 {
                        at(i)
                    } else if at(i - 1) != 0 {
                        at(i - 1)
                    } else {
                        at(i + 1)
                    }
                })
                .collect(),
            Rule::Shrink => {
                let mut out = row.to_vec();
                blocks(row).iter().for_each(|b| {
                    out[b.0] = 0;
                    out[b.1 - 1] = 0;
                });
                out
            }
            Rule::RecolorLongest(c) => recolor(row, |length| (length == longest).then_some(c)),
            Rule::RecolorShortest(c) => recolor(row, |length| (length == shortest).then_some(c)),
            Rule::ByParity(odd, even) => recolor(row, |length| Some(if length % 2 == 1 { odd } else { even })),
            Rule::Swap(a, b) => row.iter().map(|c| if *c == a { b } else { *c }).collect(),
            Rule::Invert(c) => row.iter().map(|x| if *x == 0 { c } else { 0 }).collect(),
            Rule::FirstColor => {
                let first = colored().next().unwrap_or(0);
                row.iter().map(|c| if *c == 0 { 0 } else { first }).collect()
            }
            Rule::KeepLongest => recolor(row, |length| (length < longest).then_some(0)),
            Rule::CopyHalf => {
                (0..n).map(|i| if i >= n.div_ceil(2) { row[i - n.div_ceil(2)] } else { row[i] }).collect()
            }
        }
    }

    fn told(self) -> String {
        let way = |k: i64| if k < 0 { format!("{} to the left", -k) } else { format!("{k} to the right") };
        match self {
            Rule::Shift(k) => format!("everything moves {}", way(k)),
            Rule::Turn(k) => format!("everything moves {} and comes in again at the other end", way(k)),
            Rule::Mirror => "the row is written backwards".into(),
            Rule::Fill => "empty cells between cells of one color get this color".into(),
            Rule::Hollow => "blocks keep only their ends".into(),
            Rule::Denoise => "cells that are alone are emptied".into(),
            Rule::GravityLeft => "colored cells fall to the left end".into(),
            Rule::GravityRight => "colored cells fall to the right end".into(),
            Rule::Grow => "blocks grow by one cell on both sides".into(),
            Rule::Shrink => "blocks lose one cell at both ends".into(),
            Rule::RecolorLongest(c) => format!("the longest blocks become {c}"),
            Rule::RecolorShortest(c) => format!("the shortest blocks become {c}"),
            Rule::ByParity(a, b) => format!("blocks of odd length become {a}, the others {b}"),
            Rule::Swap(a, b) => format!("{a} becomes {b}"),
            Rule::Invert(c) => format!("empty cells become {c} and colored ones empty"),
            Rule::FirstColor => "every colored cell gets the first color of the row".into(),
            Rule::KeepLongest => "only the longest blocks stay".into(),
            Rule::CopyHalf => "the left half is copied to the right half".into(),
        }
    }

    /// The whole set.
    fn all() -> Vec<Rule> {
        let mut all = vec![
            Rule::Mirror,
            Rule::Fill,
            Rule::Hollow,
            Rule::Denoise,
            Rule::GravityLeft,
            Rule::GravityRight,
            Rule::Grow,
            Rule::Shrink,
            Rule::FirstColor,
            Rule::KeepLongest,
            Rule::CopyHalf,
        ];
        for k in (-5..=5).filter(|k| *k != 0) {
            all.extend([Rule::Shift(k), Rule::Turn(k)]);
        }
        for a in 1..=9 {
            all.extend([Rule::RecolorLongest(a), Rule::RecolorShortest(a), Rule::Invert(a)]);
            all.extend((1..=9).filter(|b| *b != a).flat_map(|b| [Rule::ByParity(a, b), Rule::Swap(a, b)]));
        }
        all
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    rule: Rule,
    examples: Vec<Row>,
    question: Row,
}

fn shown(row: &[u8]) -> String {
    row.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")
}

/// Blocks of few colors with room between most of them.
fn random(stream: &mut Stream, length: usize, most: usize, colors: &[u8]) -> Row {
    let mut row = vec![0; length];
    for _ in 0..1 + stream.below(most) {
        let size = 1 + stream.below((length / 3).clamp(1, 5));
        let at = stream.below(length - size + 1);
        row[at..at + size].fill(*stream.choose(colors));
    }
    row
}

/// Do all rules that fit the examples agree on the question, and does each row change?
fn is_clear(board: &Board, all: &[Rule]) -> bool {
    let right = board.rule.apply(&board.question);
    let rows = board.examples.iter().chain([&board.question]);
    let changes = rows.clone().filter(|r| board.rule.apply(r) != **r).count() == board.examples.len() + 1;
    let outcomes: Vec<Row> = board.examples.iter().map(|r| board.rule.apply(r)).collect();
    let fits = |rule: &&Rule| board.examples.iter().zip(&outcomes).all(|(r, o)| rule.apply(r) == *o);
    changes && all.iter().filter(fits).all(|rule| rule.apply(&board.question) == right)
}

impl Worked for Arc1d {
    const NAME: &'static str = "arc-1d";
    const ABOUT: &'static str = "what a rule found in examples makes of a row of colored cells";
    const KNOBS: &'static [Knob] = &[LENGTH, EXAMPLES, BLOCKS];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let all = Rule::all();
        let length = d.get(&LENGTH) as usize;
        for tries in 0.. {
            // Few examples of few blocks can leave every question open: then more are drawn than asked for.
            let (extra, more) = (tries / 200, 1 + tries / 400);
            let colors: Vec<u8> = stream.sample(9, 3).into_iter().map(|c| c as u8 + 1).collect();
            let (a, b) = (colors[0], colors[1]);
            let k = *stream.choose(&[-3, -2, -1, 1, 2, 3]);
            let plain = stream.below(11);
            let rule = match stream.below(16) {
                0 => Rule::Shift(k),
                1 => Rule::Turn(k),
                2 => Rule::RecolorLongest(a),
                3 => Rule::RecolorShortest(a),
                4 => Rule::ByParity(a, b),
                5 => Rule::Swap(a, b),
                6 => Rule::Invert(a),
                _ => all[plain],
            };
            let most = d.get(&BLOCKS) as usize + more - 1;
            let rows = d.get(&EXAMPLES) as usize + extra;
            let examples = (0..rows).map(|_| random(stream, length, most, &colors)).collect();
            let board = Board { rule, examples, question: random(stream, length, most, &colors) };
            if is_clear(&board, &all) {
                return board;
            }
        }
        unreachable!("enough examples make a rule clear")
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let line = |r: &Row| format!("{} -> {}", shown(r), shown(&board.rule.apply(r)));
        let lines: Vec<String> = board.examples.iter().map(line).collect();
        stream.choose(WORDINGS).replace("{}", &lines.join("\n")).replace("{row}", &shown(&board.question))
    }

    fn gist(board: &Board) -> String {
        serde_json::to_string(board).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let row = |r: &Row| (1..=100).contains(&r.len()) && r.iter().all(|c| *c < 10);
        let near = !matches!(board.rule, Rule::Shift(k) | Rule::Turn(k) if !(-100..=100).contains(&k));
        if !near || !row(&board.question) || board.examples.len() > 50 || !board.examples.iter().all(row) {
            return None;
        }
        let mut steps = vec![format!("rule: {}", board.rule.told())];
        steps.extend(board.examples.iter().map(|r| format!("{}: {}, fits", shown(r), shown(&board.rule.apply(r)))));
        Some(Solution { steps, answer: shown(&board.rule.apply(&board.question)) })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let cells = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, ',' | '[' | ']'));
        let said: Option<Vec<u8>> = cells.map(|c| c.to_digit(10).map(|n| n as u8)).collect();
        let said = said.filter(|s| !s.is_empty())?;
        Some(said == board.rule.apply(&board.question))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "length=20,examples=4,blocks=4", "length=8,examples=5"];
        let also = |p: &Problem| vec![p.answer.replace(' ', ""), format!("[{}]", p.answer.replace(' ', ", "))];
        let wrong = |p: &Problem| {
            let other = if p.answer.starts_with('0') { '7' } else { '0' };
            vec![format!("{} 0", p.answer), format!("{other}{}", &p.answer[1..]), p.answer[2..].into(), "0".into()]
        };
        hold(&Of(Arc1d), &Laws { specs: &specs, n: 60, wrong, also, digest: "733be76458ed4085" });
    }

    #[test]
    fn rules_do_as_they_say() {
        let of = |rule: Rule, row: &str| {
            let row: Row = row.bytes().map(|b| b - b'0').collect();
            rule.apply(&row).iter().map(u8::to_string).collect::<String>()
        };
        for (rule, row, out) in [
            (Rule::Shift(2), "0330004", "0003300"),
            (Rule::Shift(-1), "3300", "3000"),
            (Rule::Turn(2), "0330004", "0403300"),
            (Rule::Mirror, "123000", "000321"),
            (Rule::Fill, "0300304", "0333304"),
            (Rule::Hollow, "0444401", "0400401"),
            (Rule::Denoise, "2033010", "0033000"),
            (Rule::GravityLeft, "0102", "1200"),
            (Rule::GravityRight, "1020", "0012"),
            (Rule::Grow, "0030000", "0333000"),
            (Rule::Shrink, "0444055", "0040000"),
            (Rule::RecolorLongest(9), "0440555", "0440999"),
            (Rule::RecolorShortest(9), "0440555", "0990555"),
            (Rule::ByParity(1, 2), "0440555", "0220111"),
            (Rule::Swap(4, 7), "0440555", "0770555"),
            (Rule::Invert(6), "0440", "6006"),
            (Rule::FirstColor, "0102", "0101"),
            (Rule::KeepLongest, "0440555", "0000555"),
            (Rule::CopyHalf, "120000", "120120"),
        ] {
            assert_eq!(of(rule, row), out, "{rule:?}");
        }
    }

    /// Every rule of the set that fits the examples gives the same answer.
    #[test]
    fn answers_are_one() {
        let all = Rule::all();
        let mut kinds = std::collections::BTreeSet::new();
        for (board, answer) in boards::<Arc1d>("examples=2", 300) {
            let fits = all.iter().filter(|r| board.examples.iter().all(|e| r.apply(e) == board.rule.apply(e)));
            let outcomes: Vec<String> = fits.map(|r| shown(&r.apply(&board.question))).collect();
            assert!(!outcomes.is_empty() && outcomes.iter().all(|o| *o == answer));
            kinds.insert(board.rule.told());
        }
        assert!(kinds.len() > 30, "{kinds:?}");
    }
}
