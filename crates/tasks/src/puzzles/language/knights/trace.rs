//! Reasoning by contradictions: assume, check, go back.

use super::*;

/// A step of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This person is taken for a knight (or knave), and no claim is contradicted so far.
    Assume { person: usize, knight: bool },
    /// This person cannot be one: the claim of `by` could not be what it must be.
    Conflict { person: usize, knight: bool, by: usize },
    /// Neither works for these, so that `person` is taken up again.
    Reconsider { person: usize, exhausted: Vec<usize> },
    /// Everyone is assigned.
    Success(u32),
    /// Nothing works.
    Fail,
}

/// The first assigned person whose claim cannot be true (of a knight) or false (of a knave) whatever the others are.
fn contradicted(claims: &[Claim], assigned: &[Option<bool>]) -> Option<usize> {
    let bits = assigned.iter().enumerate().fold(0, |b, (i, a)| b | u32::from(*a == Some(true)) << i);
    let impossible = |i: &usize| {
        let Some(knight) = assigned[*i] else { return false };
        let mut open: Vec<usize> = claims[*i].mentions();
        open.sort();
        open.dedup();
        open.retain(|p| assigned[*p].is_none());
        let ways = 0..1u32 << open.len();
        let spread = |way: u32| open.iter().enumerate().fold(bits, |b, (k, p)| b | (way >> k & 1) << p);
        !ways.into_iter().any(|way| claims[*i].holds(spread(way)) == knight)
    };
    (0..claims.len()).find(impossible)
}

/// The released search: people in order, knight first; whom an accepted claim speaks of comes next.
pub fn trace(claims: &[Claim]) -> Vec<Step> {
    let n = claims.len();
    let mut steps = vec![];
    let mut assigned: Vec<Option<bool>> = vec![None; n];
    // What is still to be tried for each, the last first.
    let mut options = vec![vec![false, true]; n];
    let mut order: Vec<usize> = (0..n).collect();
    let mut at = 0;
    while at < n {
        if options[order[at]].is_empty() {
            let mut exhausted = vec![];
            let mut back = Some(at);
            while let Some(i) = back.filter(|i| options[order[*i]].is_empty()) {
                options[order[i]] = vec![false, true];
                assigned[order[i]] = None;
                exhausted.push(order[i]);
                back = i.checked_sub(1);
            }
            let Some(i) = back else {
                steps.push(Step::Fail);
                return steps;
            };
            at = i;
            steps.push(Step::Reconsider { person: order[at], exhausted });
        }
        let person = order[at];
        let knight = options[person].pop().expect("something is left to try");
        assigned[person] = Some(knight);
        match contradicted(claims, &assigned) {
            Some(by) => steps.push(Step::Conflict { person, knight, by }),
            None => {
                steps.push(Step::Assume { person, knight });
                at += 1;
                for p in claims[person].mentions().into_iter().rev() {
                    if let Some(i) = order[at..].iter().position(|q| *q == p) {
                        order[at..=at + i].rotate_right(1);
                    }
                }
            }
        }
    }
    steps.push(Step::Success(assigned.iter().enumerate().fold(0, |b, (i, a)| b | u32::from(*a == Some(true)) << i)));
    steps
}
