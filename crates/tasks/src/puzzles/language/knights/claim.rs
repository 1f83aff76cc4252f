//! Claims about who is a knight, and the assignments that fit them.

use super::*;
use crate::task::stable_hash;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    Knight(usize),
    Knave(usize),
    Not(Box<Claim>),
    And(Vec<Claim>),
    Or(Vec<Claim>),
    If(Box<Claim>, Box<Claim>),
    Iff(Box<Claim>, Box<Claim>),
}

impl Claim {
    /// A claim of person `me` of `n`. As released: a die for the operator, parts of one operator differ, `I am a knave` is
    /// never a leaf.
    pub fn draw(stream: &mut Stream, n: usize, me: usize, depth: i64, width: usize) -> Self {
        let die = stream.below(6);
        if depth <= 1 || die == 0 {
            return loop {
                let (knight, who) = (stream.chance(0.5), stream.below(n));
                match (knight, who == me) {
                    (true, _) => break Claim::Knight(who),
                    (false, false) => break Claim::Knave(who),
                    _ => {}
                }
            };
        }
        let count = match die {
            1 => 1,
            2 | 3 => stream.between(2, width as i64) as usize,
            _ => 2,
        };
        let mut parts: Vec<Claim> = vec![];
        while parts.len() < count {
            let part = Claim::draw(stream, n, me, depth - 1, width);
            // Of two people at depth 1 there are only three leaves.
            if !parts.contains(&part) || parts.len() >= 3 {
                parts.push(part);
            }
        }
        let mut next = || Box::new(parts.remove(0));
        match die {
            1 => Claim::Not(next()),
            2 => Claim::And(parts),
            3 => Claim::Or(parts),
            4 => Claim::If(next(), next()),
            _ => Claim::Iff(next(), next()),
        }
    }

    /// Is it true where the bits of `knights` say who tells the truth?
    pub fn holds(&self, knights: u32) -> bool {
        match self {
            Claim::Knight(i) => knights >> i & 1 == 1,
            Claim::Knave(i) => knights >> i & 1 == 0,
            Claim::Not(a) => !a.holds(knights),
            Claim::And(all) => all.iter().all(|a| a.holds(knights)),
            Claim::Or(all) => all.iter().any(|a| a.holds(knights)),
            Claim::If(a, b) => !a.holds(knights) || b.holds(knights),
            Claim::Iff(a, b) => a.holds(knights) == b.holds(knights),
        }
    }

    pub fn parts(&self) -> Vec<&Claim> {
        match self {
            Claim::Knight(_) | Claim::Knave(_) => vec![],
            Claim::Not(a) => vec![a],
            Claim::And(all) | Claim::Or(all) => all.iter().collect(),
            Claim::If(a, b) | Claim::Iff(a, b) => vec![a, b],
        }
    }

    /// The people it speaks of, in order, each as often as named.
    pub fn mentions(&self) -> Vec<usize> {
        match self {
            Claim::Knight(i) | Claim::Knave(i) => vec![*i],
            _ => self.parts().into_iter().flat_map(Claim::mentions).collect(),
        }
    }

    /// Does it speak of people below `n` only, at most `depth` deep, with something in every `and` and `or`?
    pub(super) fn sound(&self, n: usize, depth: usize) -> bool {
        let parts = self.parts();
        match self {
            Claim::Knight(i) | Claim::Knave(i) => *i < n,
            _ => depth > 0 && (1..=8).contains(&parts.len()) && parts.into_iter().all(|p| p.sound(n, depth - 1)),
        }
    }

    /// The `k`th leaf from the left.
    pub(super) fn leaf(&mut self, k: &mut usize) -> Option<&mut Claim> {
        if matches!(self, Claim::Knight(_) | Claim::Knave(_)) {
            if *k == 0 {
                return Some(self);
            }
            *k -= 1;
            return None;
        }
        match self {
            Claim::Not(a) => a.leaf(k),
            Claim::And(all) | Claim::Or(all) => all.iter_mut().find_map(|a| a.leaf(k)),
            Claim::If(a, b) | Claim::Iff(a, b) => match a.leaf(k) {
                Some(leaf) => Some(leaf),
                None => b.leaf(k),
            },
            _ => None,
        }
    }

    /// Its structure, with people as labels.
    fn labelled(&self, label: &dyn Fn(usize) -> String) -> String {
        let mut parts: Vec<String> = self.parts().iter().map(|p| p.labelled(label)).collect();
        let sign = match self {
            Claim::Knight(i) => return label(*i),
            Claim::Knave(i) => return format!("-{}", label(*i)),
            Claim::Not(_) => "not",
            Claim::And(_) => "and",
            Claim::Or(_) => "or",
            Claim::If(..) => "if",
            Claim::Iff(..) => "iff",
        };
        if !matches!(self, Claim::If(..)) {
            parts.sort();
        }
        format!("{sign}({})", parts.join(" "))
    }
}

/// Every assignment in which exactly the knights' claims hold, as bits.
pub fn solutions(claims: &[Claim]) -> Vec<u32> {
    let fits = |k: &u32| claims.iter().enumerate().all(|(i, c)| c.holds(*k) == (k >> i & 1 == 1));
    (0..1u32 << claims.len()).filter(fits).collect()
}

/// A text that puzzles share when they differ by names, by the order of people, by the order of what `and`, `or` and `iff`
/// join. Each person's label grows from what they say and whom they speak of; now and then other puzzles share it too.
pub(super) fn shape(claims: &[Claim]) -> String {
    let mut labels = vec![String::new(); claims.len()];
    for _ in 0..3 {
        let of = |me: usize| move |labels: &[String], i: usize| if i == me { "me".into() } else { labels[i].clone() };
        let next = |me: usize| {
            let label = |i: usize| of(me)(&labels, i);
            stable_hash(&[&claims[me].labelled(&label), &labels[me]])
        };
        labels = (0..claims.len()).map(next).collect();
    }
    labels.sort();
    labels.join(" ")
}
