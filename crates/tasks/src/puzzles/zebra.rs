//! `zebra`: who lives where, from clues about neighbours. One solution.
//!
//! ```text
//! 3 houses stand in a row, numbered from left to right. … Names: Ann, Bob, Cid. Colours: red, blue, green.
//! 1. Ann lives directly left of the one in the red house. …
//! Answer with one line a house: name, colour.
//! Ann blue
//! Bob red
//! Cid green
//! ```
//!
//! Clues are drawn (kinds alike often) until one solution is left; then those that are not needed are taken away.

use serde::Deserialize;

use super::*;
use crate::search::Count;
use crate::search::csp::{Csp, Relation};

pub struct Zebra;

const HOUSES: Knob = Knob::number("houses", 2, 5, 3, "houses in the row");
const THINGS: Knob =
    Knob::number("things", 2, 5, 3, "what differs from house to house: names, colours, pets, drinks, jobs");

/// A heading, the word in the answer's form, values, and how a value names a person.
const THEMES: [(&str, &str, &[&str], &str); 5] = [
    ("Names", "name", &["Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus"], "{}"),
    ("Colours", "colour", &["red", "blue", "green", "white", "black", "pink"], "the one in the {} house"),
    ("Pets", "pet", &["cat", "dog", "fish", "bird", "horse", "zebra"], "the {} owner"),
    ("Drinks", "drink", &["tea", "milk", "water", "juice", "coffee", "cocoa"], "the one who drinks {}"),
    ("Jobs", "job", &["baker", "nurse", "pilot", "painter", "farmer", "tailor"], "the {}"),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Same,
    Not,
    Left,
    Next,
    /// In the house of this number.
    At,
}

/// Two values (theme times houses plus value), or a value and a house from 1.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clue {
    kind: Kind,
    a: usize,
    b: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    houses: usize,
    /// The values of each theme that are used, as they are listed.
    values: Vec<Vec<String>>,
    clues: Vec<Clue>,
}

impl Clue {
    fn holds(&self, place: &[i64]) -> bool {
        let (a, b) = (place[self.a], place.get(self.b).copied().unwrap_or(0));
        match self.kind {
            Kind::Same => a == b,
            Kind::Not => a != b,
            Kind::Left => a + 1 == b,
            Kind::Next => (a - b).abs() == 1,
            Kind::At => a == self.b as i64,
        }
    }

    fn add_to(&self, csp: &mut Csp) {
        let (a, b) = (self.a, self.b);
        let pair = [(1, a), (-1, b)];
        match self.kind {
            Kind::Same => csp.linear(&pair, Relation::Equal, 0),
            Kind::Not => csp.linear(&pair, Relation::NotEqual, 0),
            Kind::Left => csp.linear(&pair, Relation::Equal, -1),
            Kind::Next => csp.predicate(&[a, b], |v| match v {
                [Some(x), Some(y)] => (x - y).abs() == 1,
                _ => true,
            }),
            Kind::At => csp.restrict(a, &[b as i64]),
        }
        .expect("own variables");
    }
}

impl Board {
    fn rules(&self) -> Csp {
        let mut csp = Csp::new();
        for _ in &self.values {
            let own: Vec<usize> =
                (0..self.houses).map(|_| csp.var(1, self.houses as i64).expect("few values")).collect();
            csp.all_different(&own).expect("own variables");
        }
        self.clues.iter().for_each(|c| c.add_to(&mut csp));
        csp
    }

    fn value(&self, i: usize) -> &str {
        &self.values[i / self.houses][i % self.houses]
    }

    fn tell(&self, clue: &Clue) -> String {
        let person = |i: usize| THEMES[i / self.houses].3.replace("{}", self.value(i));
        let a = person(clue.a);
        let b = || person(clue.b);
        let text = match clue.kind {
            Kind::Same => format!("{a} is {}.", b()),
            Kind::Not => format!("{a} is not {}.", b()),
            Kind::Left => format!("{a} lives directly left of {}.", b()),
            Kind::Next => format!("{a} lives next to {}.", b()),
            Kind::At => format!("{a} lives in house {}.", clue.b),
        };
        text[..1].to_uppercase() + &text[1..]
    }

    fn show(&self, place: &[i64]) -> String {
        let house = |h: i64| {
            let of = |t: usize| (0..self.houses).map(|v| t * self.houses + v).find(|&i| place[i] == h);
            (0..self.values.len()).filter_map(of).map(|i| self.value(i)).collect::<Vec<_>>().join(" ")
        };
        (1..=self.houses as i64).map(house).collect::<Vec<_>>().join("\n")
    }

    /// The house of each value; none where a word is unknown or a house has not one value of each theme.
    fn read(&self, text: &str) -> Option<Vec<i64>> {
        let things = self.values.len();
        // `House 1: Ann red` is `Ann red`
        let lines: Vec<&str> = text.lines().map(|l| l.split_once(':').map_or(l, |(_, rest)| rest)).collect();
        let text = lines.join("\n");
        let words = grid::cells(&text, self.houses, things)?;
        let mut place = vec![0; self.houses * things];
        for (k, word) in words.iter().enumerate() {
            let i = (0..place.len()).find(|&i| self.value(i).eq_ignore_ascii_case(word))?;
            let house = (k / things) as i64 + 1;
            let theme = i / self.houses * self.houses;
            if place[i] != 0 || place[theme..theme + self.houses].contains(&house) {
                return None;
            }
            place[i] = house;
        }
        Some(place)
    }
}

/// Every clue that is true of the solution.
fn true_clues(houses: usize, place: &[i64]) -> Vec<Clue> {
    let mut all = vec![];
    for a in 0..place.len() {
        all.extend((1..=houses).map(|b| Clue { kind: Kind::At, a, b }));
        for b in 0..place.len() {
            let apart = a / houses != b / houses;
            let both_ways = if a < b { &[Kind::Same, Kind::Not, Kind::Next][..] } else { &[] };
            let kinds = both_ways.iter().chain(&[Kind::Left]);
            all.extend(kinds.filter(|k| apart || matches!(k, Kind::Left | Kind::Next)).map(|&kind| Clue {
                kind,
                a,
                b,
            }));
        }
    }
    all.retain(|c| c.holds(place));
    all
}

impl Puzzle for Zebra {
    type Board = Board;
    const NAME: &'static str = "zebra";
    const ABOUT: &'static str = "who lives where, from clues about neighbours";
    const KNOBS: &'static [Knob] = &[HOUSES, THINGS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let (houses, things) = (d.get(&HOUSES) as usize, d.get(&THINGS) as usize);
        let mut board = Board { houses, values: vec![], clues: vec![] };
        let mut truth = vec![];
        for (_, _, values, _) in &THEMES[..things] {
            board.values.push(stream.sample(values.len(), houses).iter().map(|&i| values[i].to_string()).collect());
            let mut order: Vec<i64> = (1..=houses as i64).collect();
            stream.shuffle(&mut order);
            truth.extend(order);
        }
        let pool = true_clues(houses, &truth);
        loop {
            let found = board.rules().solve(2, grid::BUDGET);
            let Some(other) = found.solutions.into_iter().find(|s| *s != truth) else { break };
            let useful: Vec<&Clue> = pool.iter().filter(|c| !c.holds(&other)).collect();
            let mut kinds: Vec<Kind> = useful.iter().map(|c| c.kind).collect();
            kinds.sort();
            kinds.dedup();
            let kind = *stream.choose(&kinds);
            let of_kind: Vec<&Clue> = useful.into_iter().filter(|c| c.kind == kind).collect();
            board.clues.push((*stream.choose(&of_kind)).clone());
        }
        for i in (0..board.clues.len()).rev() {
            let clue = board.clues.remove(i);
            if board.rules().solve(1, grid::BUDGET).count() != Count::One {
                board.clues.insert(i, clue);
            }
        }
        stream.shuffle(&mut board.clues);
        let answer = board.show(&truth);
        Ok((board, answer))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let clues: Vec<String> =
            board.clues.iter().enumerate().map(|(i, c)| format!("{}. {}", i + 1, board.tell(c))).collect();
        let mut listed = vec![];
        for (values, theme) in board.values.iter().zip(&THEMES) {
            let mut values = values.clone();
            values.sort();
            listed.push(format!("{}: {}.", theme.0, values.join(", ")));
        }
        let form: Vec<&str> = THEMES[..board.values.len()].iter().map(|t| t.1).collect();
        let wordings = [
            "{} houses stand in a row, numbered from left to right. In each lives one person; all differ. \
             {}\n{}\nAnswer with one line a house, from house 1 on: {}.",
            "In a row of {} houses (1 is leftmost) everything below occurs once. {}\n{}\nWho lives where? Write the \
             houses from left to right, one a line: {}.",
            "There are {} houses side by side, counted from the left. {} Each belongs to one house.\n{}\nGive a \
             line for each house with: {}.",
        ];
        let (count, things) = (board.houses.to_string(), listed.join(" "));
        word(stream, &wordings, &[&count, &things, &clues.join("\n"), &form.join(" ")])
    }

    fn sound(board: &Board) -> bool {
        let cells = board.houses.saturating_mul(board.values.len());
        let clue =
            |c: &Clue| c.a < cells && if c.kind == Kind::At { c.b <= board.houses } else { c.b < cells && c.a != c.b };
        (1..=7).contains(&board.houses)
            && (1..=THEMES.len()).contains(&board.values.len())
            && board.values.iter().all(|v| v.len() == board.houses && v.iter().all(|w| w.len() < 40))
            && board.clues.len() <= 500
            && board.clues.iter().all(clue)
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let place = board.read(text)?;
        Some(board.clues.iter().all(|c| c.holds(&place)))
    }

    /// `Ann: house 2`, by elimination.
    fn steps(board: &Board, answer: &str) -> Vec<String> {
        let Some(place) = board.read(answer) else { return vec![] };
        let steps = grid::deductions(&board.rules(), &place, |i| board.value(i).to_string());
        steps.into_iter().map(|s| s.replace(" = ", ": house ").replace(" is not ", ": not house ")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold};

    fn also(p: &Problem) -> Vec<String> {
        let turned = |l: &str| l.split(' ').rev().collect::<Vec<_>>().join(", ");
        let lines: Vec<String> =
            p.answer.lines().enumerate().map(|(i, l)| format!("House {}: {}", i + 1, turned(l))).collect();
        vec![lines.join("\n"), p.answer.to_lowercase(), p.answer.replace('\n', "; ")]
    }

    /// Houses swapped, a value swapped between two houses, a value named twice.
    fn wrong(p: &Problem) -> Vec<String> {
        let lines: Vec<Vec<&str>> = p.answer.lines().map(|l| l.split(' ').collect()).collect();
        let text = |l: &[Vec<&str>]| l.iter().map(|w| w.join(" ")).collect::<Vec<_>>().join("\n");
        let mut all = vec![text(&lines[1..])];
        for k in 0..lines[0].len() {
            let mut new = lines.clone();
            new[0][k] = lines[1][k];
            all.push(text(&new));
            new[1][k] = lines[0][k];
            all.push(text(&new));
        }
        let mut houses = lines.clone();
        houses.swap(0, 1);
        all.push(text(&houses));
        all
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "houses=4,things=4", "houses=5,things=5"];
        hold(&Of(Zebra), &Laws { specs: &specs, n: 20, wrong, also, digest: "3639c7124104088b" });
    }

    /// Every way for three houses and three themes to be, against the clues; and every clue is needed.
    #[test]
    fn brute_force_agrees_on_three_houses() {
        let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
        for seed in 0..60 {
            let d = Of(Zebra).difficulty("").unwrap();
            let (board, answer) = Zebra::draw(&mut Stream::new(seed, &["test"]), &d).unwrap();
            let count = |without: usize| {
                let mut right = vec![];
                for code in 0..216 {
                    let place = [orders[code / 36], orders[code / 6 % 6], orders[code % 6]].concat();
                    if board.clues.iter().enumerate().all(|(i, c)| i == without || c.holds(&place)) {
                        right.push(board.show(&place));
                    }
                }
                right
            };
            assert_eq!(count(usize::MAX), [answer]);
            assert!((0..board.clues.len()).all(|i| count(i).len() > 1));
        }
    }
}
