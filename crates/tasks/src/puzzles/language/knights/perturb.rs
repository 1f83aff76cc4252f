//! Perturbed versions of a problem: other logic with another answer, or other language with the same answer.

use super::*;
use crate::task::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perturbation {
    /// One person's whole claim is replaced; the solution changes.
    Statement,
    /// One leaf of one claim is replaced; the solution changes.
    Leaf,
    UncommonNames,
    /// Other words for the roles.
    OtherRoles,
    /// Knaves tell the truth and knights lie.
    FlippedRoles,
    /// Claims are told in another order.
    Reordered,
}

impl Perturbation {
    pub const ALL: [Perturbation; 6] = [
        Perturbation::Statement,
        Perturbation::Leaf,
        Perturbation::UncommonNames,
        Perturbation::OtherRoles,
        Perturbation::FlippedRoles,
        Perturbation::Reordered,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Leaf => "leaf",
            Self::UncommonNames => "uncommon-names",
            Self::OtherRoles => "other-roles",
            Self::FlippedRoles => "flipped-roles",
            Self::Reordered => "reordered",
        }
    }

    /// Does it leave the logic, and so who is who, as it was?
    pub fn is_language(self) -> bool {
        !matches!(self, Self::Statement | Self::Leaf)
    }
}

/// Another order than the given one, where there is another.
pub(super) fn reorder(stream: &mut Stream, order: &mut [usize]) {
    let before = order.to_vec();
    while order.len() > 1 && *order == before[..] {
        stream.shuffle(order);
    }
}

fn logic(board: &Board, stream: &mut Stream, d: &Difficulty, leaf: bool) -> Option<Board> {
    let n = board.claims.len();
    let before = board.solution()?;
    for _ in 0..1000 {
        let mut next = board.clone();
        let who = stream.below(n);
        if leaf {
            let mut k = stream.below(next.claims[who].mentions().len());
            *next.claims[who].leaf(&mut k)? = Claim::draw(stream, n, who, 1, 2);
        } else {
            next.claims[who] = Claim::draw(stream, n, who, d.get(&DEPTH), d.get(&WIDTH) as usize);
        }
        if next.claims != board.claims && next.solution().is_some_and(|s| s != before) {
            return Some(next);
        }
    }
    None
}

/// A perturbed version of a problem of this family. None where 1000 tries found none (few people have few other leaves).
/// A perturbed version is on its original's side of the split, for it is measured beside it.
pub fn perturb(problem: &Problem, kind: Perturbation, stream: &mut Stream) -> Option<Problem> {
    let mut board: Board = serde_json::from_value(problem.meta.clone()).ok()?;
    board.solution()?;
    match kind {
        Perturbation::Statement => board = logic(&board, stream, &problem.difficulty, false)?,
        Perturbation::Leaf => board = logic(&board, stream, &problem.difficulty, true)?,
        Perturbation::UncommonNames => board.names = words::names(stream, 1, board.names.len()),
        Perturbation::OtherRoles => board.roles = words::roles(stream, 1),
        Perturbation::FlippedRoles => board.roles.swap(0, 1),
        Perturbation::Reordered => reorder(stream, &mut board.order),
    }
    let answer = board.answer(board.solution()?);
    let prompt = words::prompt(&board, stream);
    let meta = serde_json::to_value(&board).expect("a board is plain data");
    let name = <Knights as Worked>::NAME;
    let mut next =
        Problem::new(name, prompt, answer, &problem.difficulty, &claim::shape(&board.claims)).with_meta(meta);
    next.split = problem.split;
    Some(next)
}
