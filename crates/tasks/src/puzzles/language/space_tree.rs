//! `space-reasoning-tree`: relatives in a tree of things.
//!
//! ```text
//! A tree of things: below the lamp hang, from left to right, the cup and the hat. Below the cup hang the pen and the key.
//! Below the hat hangs the map. Which things are cousins of the pen? Say none if there are none.
//! parent of pen: cup / parent of cup: lamp / siblings of cup: hat / children of hat: map
//! #### map
//! ```
//!
//! Difficulty: `nodes`, `ask`. Lists may come in any order.

use super::*;

pub struct SpaceTree;

const NODES: Knob = Knob::number("nodes", 4, 300, 10, "things in the tree");
const ASK: Knob = Knob::choice(
    "ask",
    &["any", "parent", "grandparent", "siblings", "grandchildren", "cousins", "ancestor", "leaf"],
    "which relatives are asked for",
);

const KINDS: usize = 7;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    names: Vec<String>,
    /// Each node's parent, an earlier node; the first is the root and its own.
    parent: Vec<usize>,
    /// Index in the choices of `ask`, from 1.
    kind: usize,
    of: usize,
    /// The other node where a common ancestor is asked for.
    and: usize,
}

impl Board {
    fn children(&self, i: usize) -> Vec<usize> {
        (1..self.parent.len()).filter(|c| self.parent[*c] == i).collect()
    }

    fn siblings(&self, i: usize) -> Vec<usize> {
        if i == 0 { vec![] } else { self.children(self.parent[i]).into_iter().filter(|c| *c != i).collect() }
    }

    /// From a node up to the root.
    fn line(&self, mut i: usize) -> Vec<usize> {
        let mut out = vec![i];
        while i != 0 {
            i = self.parent[i];
            out.push(i);
        }
        out
    }

    fn sound(&self) -> bool {
        let n = self.parent.len();
        n == self.names.len()
            && (2..=400).contains(&n)
            && self.parent[0] == 0
            && (1..n).all(|i| self.parent[i] < i)
            && (1..=KINDS).contains(&self.kind)
            && self.of < n
            && self.and < n
    }

    fn list(&self, nodes: &[usize]) -> String {
        if nodes.is_empty() {
            "none".into()
        } else {
            nodes.iter().map(|i| self.names[*i].as_str()).collect::<Vec<_>>().join(", ")
        }
    }

    /// The nodes asked for, and steps.
    fn find(&self) -> (Vec<usize>, Vec<String>) {
        let mut steps = vec![];
        let mut note = |what: &str, i: usize, found: &[usize]| {
            steps.push(format!("{what} of {}: {}", self.names[i], self.list(found)));
        };
        let of = self.of;
        let up: Vec<usize> = self.line(of).into_iter().skip(1).collect();
        let found = match self.kind {
            1 => {
                note("parent", of, &up[..up.len().min(1)]);
                up.into_iter().take(1).collect()
            }
            2 => {
                note("parent", of, &up[..up.len().min(1)]);
                if let Some(p) = up.first() {
                    note("parent", *p, &up[1..up.len().min(2)]);
                }
                up.into_iter().skip(1).take(1).collect()
            }
            3 => {
                if let Some(p) = up.first() {
                    note("children", *p, &self.children(*p));
                }
                self.siblings(of)
            }
            4 => {
                let children = self.children(of);
                note("children", of, &children);
                children.iter().for_each(|c| note("children", *c, &self.children(*c)));
                children.iter().flat_map(|c| self.children(*c)).collect()
            }
            5 => {
                let Some(p) = up.first() else { return (vec![], steps) };
                note("parent", of, &[*p]);
                let uncles = self.siblings(*p);
                note("siblings", *p, &uncles);
                uncles.iter().for_each(|u| note("children", *u, &self.children(*u)));
                uncles.iter().flat_map(|u| self.children(*u)).collect()
            }
            6 => {
                let other = self.line(self.and);
                note("line", of, &self.line(of));
                note("line", self.and, &other);
                self.line(of).into_iter().find(|i| other.contains(i)).into_iter().collect()
            }
            _ => {
                // Left-most child again and again.
                let mut at = of;
                while let Some(first) = self.children(at).first() {
                    note("first child", at, &[*first]);
                    at = *first;
                }
                vec![at]
            }
        };
        (found, steps)
    }
}

impl Worked for SpaceTree {
    const NAME: &'static str = "space-reasoning-tree";
    const ABOUT: &'static str = "relatives in a tree that is told in words";
    const KNOBS: &'static [Knob] = &[NODES, ASK];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let n = d.get(&NODES) as usize;
        let names: Vec<String> = if n <= lexicon::THINGS.len() {
            lexicon::some(stream, lexicon::THINGS, n)
        } else {
            lexicon::some(stream, lexicon::WORDS, n)
        };
        // Few children for most, so that the tree is deep enough for cousins.
        let mut parent = vec![0];
        let mut children = vec![0; n];
        while parent.len() < n {
            let p = stream.below(parent.len());
            if children[p] < 2 + (p * 7 + n) % 4 {
                children[p] += 1;
                parent.push(p);
            }
        }
        let kind = match d.get(&ASK) {
            0 => 1 + stream.below(KINDS),
            k => k as usize,
        };
        let mut board = Board { names, parent, kind, of: 1, and: 0 };
        for _ in 0..40 {
            (board.of, board.and) = (stream.below(n), stream.below(n));
            // Most questions have relatives to name.
            let plain = kind == 6 && board.of == board.and || kind == 7 && board.children(board.of).is_empty();
            if !board.find().0.is_empty() && !plain || stream.chance(0.03) {
                break;
            }
        }
        board
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let mut inner: Vec<usize> = (0..board.parent.len()).filter(|i| !board.children(*i).is_empty()).collect();
        if stream.chance(0.5) {
            stream.shuffle(&mut inner);
        }
        let tell = |i: &usize| {
            let below: Vec<String> = board.children(*i).iter().map(|c| format!("the {}", board.names[*c])).collect();
            let hang = if below.len() == 1 { "hangs" } else { "hang, from left to right," };
            format!("Below the {} {hang} {}.", board.names[*i], lexicon::listed(&below))
        };
        let told: Vec<String> = inner.iter().map(tell).collect();
        let (of, and) = (&board.names[board.of], &board.names[board.and]);
        let question = match board.kind {
            1 => format!("Which thing is the parent of the {of}, just above it?"),
            2 => format!("Which thing is the grandparent of the {of}, two above it?"),
            3 => format!("Which things are siblings of the {of}, below the same parent?"),
            4 => format!("Which things are grandchildren of the {of}, two below it?"),
            5 => format!("Which things are cousins of the {of}, children of its parent's siblings?"),
            6 => format!("Which is the lowest thing that is above or equal to both the {of} and the {and}?"),
            _ => format!("Go from the {of} to the left-most thing below, and on in the same way. Where do you end?"),
        };
        let head = *stream.choose(&["A tree of things:", "Things hang below one another.", "This is a tree."]);
        format!("{head} {} {question} Say none if there is none.", told.join(" "))
    }

    fn gist(board: &Board) -> String {
        format!("{:?} {} {} {}", board.parent, board.kind, board.of, if board.kind == 6 { board.and } else { 0 })
    }

    fn work(board: &Board) -> Option<Solution> {
        let (found, steps) = board.sound().then(|| board.find())?;
        Some(Solution { steps, answer: board.list(&found) })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let right: Vec<String> = board.find().0.iter().map(|i| board.names[*i].clone()).collect();
        let text = text.replace("the ", " ").replace("The ", " ");
        lexicon::is_set(&text, |w| board.names.iter().any(|n| n == w), &right)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "nodes=50", "nodes=300", "ask=cousins"];
        let also = |p: &Problem| {
            let mut words: Vec<&str> = p.answer.split(", ").collect();
            words.reverse();
            let all = words.join(" and ");
            if p.answer == "none" { vec![] } else { vec![format!("The {all}."), words.join("\n")] }
        };
        let wrong = |p: &Problem| {
            let board: Board = serde_json::from_value(p.meta.clone()).unwrap();
            let other = board.names.iter().find(|n| !p.answer.contains(n.as_str())).unwrap();
            vec![other.clone(), format!("{}, {other}", p.answer), format!("{0}, {0}", p.answer)]
        };
        hold(&Of(SpaceTree), &Laws { specs: &specs, n: 60, wrong, also, digest: "71a26473f2728ef6" });
    }

    /// By distance: relatives are those so many steps up and down.
    #[test]
    fn relatives_by_distance() {
        for (board, answer) in boards::<SpaceTree>("nodes=30", 300) {
            let n = board.parent.len();
            // Steps up from `of` and down to `i` by way of their lowest common ancestor.
            let apart = |i: usize| {
                let (a, b) = (board.line(board.of), board.line(i));
                let common = a.iter().position(|x| b.contains(x)).unwrap();
                (common, b.iter().position(|x| *x == a[common]).unwrap())
            };
            let wanted = match board.kind {
                1 => (1, 0),
                2 => (2, 0),
                3 => (1, 1),
                4 => (0, 2),
                5 => (2, 2),
                _ => continue,
            };
            let right: Vec<usize> = (0..n).filter(|i| apart(*i) == wanted).collect();
            assert_eq!(SpaceTree::judge(&board, &board.list(&right)), Some(true), "{answer}");
        }
    }
}
