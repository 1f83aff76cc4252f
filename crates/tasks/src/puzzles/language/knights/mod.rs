//! `knights-and-knaves`: who always tells the truth and who always lies, after mem-kk-logic (arXiv 2410.23123).
//!
//! ```text
//! A very special island is inhabited only by knights and knaves. Knights always tell the truth, and knaves always lie. You
//! meet 2 inhabitants: Zoey, and Liam. Zoey told you that Liam is a knave. Liam said, "Zoey is a knight and Liam is a
//! knight." So who is a knight and who is a knave?
//! Let's think step by step, by considering whether each person is lying and if that leads to contradiction.
//! Assume Zoey is a knight. No contradiction is found in their claim that Liam is a knave.
//! Liam cannot be a knight, because this would contradict the claim of Zoey.
//! Assume Liam is a knave. No contradiction is found in their false claim that Zoey is a knight and Liam is a knight.
//! This leads to a feasible solution.
//! #### Zoey is a knight, Liam is a knave
//! ```
//!
//! Difficulty: `people`, `depth` and `width` of claims; `names`, `roles`, `order` and `style` change the language only. A
//! puzzle has exactly one solution, found by trying all. The verifier reads names and roles in any order, also numbered
//! lines, `Zoey: knight`, `Zoey and Liam are knaves`, and `truth-teller` and `liar` for any roles. [`perturb`] makes the
//! paper's perturbed versions of a problem. Puzzles that are the same up to renaming people share a cluster.

mod claim;
mod perturb;
mod trace;
mod words;

use super::*;

pub use claim::{Claim, solutions};
pub use perturb::{Perturbation, perturb};
pub use trace::{Step, trace};

pub struct Knights;

pub const PEOPLE: Knob = Knob::number("people", 2, 8, 3, "how many people");
/// Claims of depth 1 never settle who is who: turning everyone round would fit as well.
pub const DEPTH: Knob = Knob::number("depth", 2, 4, 2, "how deep claims are");
pub const WIDTH: Knob = Knob::number("width", 2, 4, 2, "most parts that `and` and `or` join");
pub const NAMES: Knob = Knob::choice("names", &["common", "uncommon", "short"], "which names people have");
pub const ROLES: Knob = Knob::choice(
    "roles",
    &["knights", "other", "flipped"],
    "knights and knaves, other words for them, or knaves that tell the truth",
);
pub const ORDER: Knob = Knob::choice("order", &["told", "shuffled"], "claims in the order of people, or another");
pub const STYLE: Knob =
    Knob::choice("style", &["varied", "compact"], "how claims are told, and whether steps repeat them");

/// The most people of a puzzle that is read.
const MOST: usize = 12;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What each person says.
    pub claims: Vec<Claim>,
    pub names: Vec<String>,
    /// The words, with article, for who tells the truth and who lies.
    pub roles: [String; 2],
    /// The order in which claims are told.
    pub order: Vec<usize>,
    /// Short sentences and short steps.
    pub compact: bool,
}

impl Board {
    /// The people who tell the truth, as bits; none unless there is exactly one solution.
    pub fn solution(&self) -> Option<u32> {
        let n = self.claims.len();
        let mut order = self.order.clone();
        order.sort();
        let named = self.names.len() == n && (1..=MOST).contains(&n) && order.into_iter().eq(0..n);
        let sound = named && self.claims.iter().all(|c| c.sound(n, 8));
        let all = if sound { solutions(&self.claims) } else { vec![] };
        if let [one] = all[..] { Some(one) } else { None }
    }

    fn answer(&self, solution: u32) -> String {
        let role = |i: usize| &self.roles[usize::from(solution >> i & 1 == 0)];
        let said: Vec<String> = self.names.iter().enumerate().map(|(i, n)| format!("{n} is {}", role(i))).collect();
        said.join(", ")
    }
}

impl Worked for Knights {
    const NAME: &'static str = "knights-and-knaves";
    const ABOUT: &'static str = "who tells the truth and who lies, with perturbations and traces of contradictions";
    const KNOBS: &'static [Knob] = &[PEOPLE, DEPTH, WIDTH, NAMES, ROLES, ORDER, STYLE];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let n = d.get(&PEOPLE) as usize;
        let claims = loop {
            let claims: Vec<Claim> =
                (0..n).map(|i| Claim::draw(stream, n, i, d.get(&DEPTH), d.get(&WIDTH) as usize)).collect();
            if solutions(&claims).len() == 1 {
                break claims;
            }
        };
        let names = words::names(stream, d.get(&NAMES) as usize, n);
        let roles = words::roles(stream, d.get(&ROLES) as usize);
        let mut order: Vec<usize> = (0..n).collect();
        if d.get(&ORDER) == 1 {
            perturb::reorder(stream, &mut order);
        }
        Board { claims, names, roles, order, compact: d.get(&STYLE) == 1 }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        words::prompt(board, stream)
    }

    fn gist(board: &Board) -> String {
        claim::shape(&board.claims)
    }

    fn work(board: &Board) -> Option<Solution> {
        let solution = board.solution()?;
        Some(Solution { steps: words::steps(board, &trace(&board.claims)), answer: board.answer(solution) })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let said = words::read(board, text)?;
        let solution = board.solution()?;
        Some(said == (0..board.names.len()).map(|i| (i, solution >> i & 1 == 1)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;
