//! Exact cover by dancing links (Knuth, arXiv cs/0011047).
//!
//! Choose rows so that every primary column is in exactly one of them and every secondary column in at most one. The
//! column with the fewest rows is tried first (the leftmost of several), rows in the order they were added.

use postgrad_base::{Error, Result};

use super::Found;

#[derive(Clone, Debug)]
struct Node {
    left: usize,
    right: usize,
    up: usize,
    down: usize,
    column: usize,
    row: usize,
}

#[derive(Clone, Debug)]
pub struct ExactCover {
    // node 0 is the root, 1..=columns are the column heads
    nodes: Vec<Node>,
    sizes: Vec<usize>,
    columns: usize,
    rows: usize,
}

impl ExactCover {
    /// Columns `0..primary` must be covered; the following `secondary` ones may be.
    pub fn new(primary: usize, secondary: usize) -> Self {
        let columns = primary + secondary;
        let mut nodes: Vec<Node> =
            (0..=columns).map(|i| Node { left: i, right: i, up: i, down: i, column: i, row: usize::MAX }).collect();
        for i in 1..=primary {
            nodes[i].left = i - 1;
            nodes[i - 1].right = i;
        }
        nodes[0].left = primary;
        nodes[primary].right = 0;
        Self { nodes, sizes: vec![0; columns + 1], columns, rows: 0 }
    }

    /// Adds a row and returns its number. A column named twice counts once.
    pub fn row(&mut self, columns: &[usize]) -> Result<usize> {
        let mut columns = columns.to_vec();
        columns.sort();
        columns.dedup();
        match columns.last() {
            None => return Err(Error::work("a row without columns")),
            Some(&c) if c >= self.columns => return Err(Error::work(format!("column {c} of {}", self.columns))),
            _ => {}
        }
        let first = self.nodes.len();
        for (i, c) in columns.iter().enumerate() {
            let (head, at) = (c + 1, first + i);
            let up = self.nodes[head].up;
            self.nodes.push(Node { left: at, right: at, up, down: head, column: head, row: self.rows });
            self.nodes[up].down = at;
            self.nodes[head].up = at;
            self.sizes[head] += 1;
            if i > 0 {
                self.nodes[at].left = at - 1;
                self.nodes[at - 1].right = at;
            }
        }
        let last = self.nodes.len() - 1;
        self.nodes[first].left = last;
        self.nodes[last].right = first;
        self.rows += 1;
        Ok(self.rows - 1)
    }

    /// Solutions as rows in the order they were chosen. A step is one row tried.
    pub fn solve(&self, max_solutions: usize, max_steps: u64) -> Found<Vec<usize>> {
        let mut s = Search { nodes: self.nodes.clone(), sizes: self.sizes.clone() };
        let mut found = Found { solutions: vec![], complete: true, steps: 0 };
        // the rows chosen, each by the node it was entered at
        let mut chosen: Vec<usize> = vec![];
        let mut descend = true;
        loop {
            if descend {
                let column = s.smallest();
                if column == 0 {
                    if found.solutions.len() >= max_solutions {
                        found.complete = false;
                        return found;
                    }
                    found.solutions.push(chosen.iter().map(|&n| s.nodes[n].row).collect());
                    descend = false;
                    continue;
                }
                s.cover(column);
                chosen.push(column);
            }
            // the next row of the column entered last
            let Some(at) = chosen.pop() else { return found };
            let column = s.nodes[at].column;
            if at != column {
                s.leave(at);
            }
            let next = s.nodes[at].down;
            if next == column {
                s.uncover(column);
                descend = false;
                continue;
            }
            if found.steps >= max_steps {
                found.complete = false;
                return found;
            }
            found.steps += 1;
            s.enter(next);
            chosen.push(next);
            descend = true;
        }
    }
}

struct Search {
    nodes: Vec<Node>,
    sizes: Vec<usize>,
}

impl Search {
    /// The primary column with the fewest rows, 0 if none is left.
    fn smallest(&self) -> usize {
        let mut best = 0;
        let mut c = self.nodes[0].right;
        while c != 0 {
            if best == 0 || self.sizes[c] < self.sizes[best] {
                best = c;
            }
            c = self.nodes[c].right;
        }
        best
    }

    fn cover(&mut self, c: usize) {
        let (l, r) = (self.nodes[c].left, self.nodes[c].right);
        self.nodes[l].right = r;
        self.nodes[r].left = l;
        let mut i = self.nodes[c].down;
        while i != c {
            let mut j = self.nodes[i].right;
            while j != i {
                let (u, d, head) = (self.nodes[j].up, self.nodes[j].down, self.nodes[j].column);
                self.nodes[u].down = d;
                self.nodes[d].up = u;
                self.sizes[head] -= 1;
                j = self.nodes[j].right;
            }
            i = self.nodes[i].down;
        }
    }

    fn uncover(&mut self, c: usize) {
        let mut i = self.nodes[c].up;
        while i != c {
            let mut j = self.nodes[i].left;
            while j != i {
                let (u, d, head) = (self.nodes[j].up, self.nodes[j].down, self.nodes[j].column);
                self.sizes[head] += 1;
                self.nodes[u].down = j;
                self.nodes[d].up = j;
                j = self.nodes[j].left;
            }
            i = self.nodes[i].up;
        }
        let (l, r) = (self.nodes[c].left, self.nodes[c].right);
        self.nodes[l].right = c;
        self.nodes[r].left = c;
    }

    fn enter(&mut self, row: usize) {
        let mut j = self.nodes[row].right;
        while j != row {
            self.cover(self.nodes[j].column);
            j = self.nodes[j].right;
        }
    }

    fn leave(&mut self, row: usize) {
        let mut j = self.nodes[row].left;
        while j != row {
            self.uncover(self.nodes[j].column);
            j = self.nodes[j].left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Count, fuzz_cover};
    use proptest::prelude::*;

    #[test]
    fn knuths_example() {
        let mut p = ExactCover::new(7, 0);
        for r in [vec![2, 4, 5], vec![0, 3, 6], vec![1, 2, 5], vec![0, 3], vec![1, 6], vec![3, 4, 6]] {
            p.row(&r).unwrap();
        }
        let found = p.solve(10, 1000);
        assert_eq!(found.solutions, vec![vec![3, 0, 4]]);
        assert_eq!(found.count(), Count::One);
    }

    /// n queens: rows and files primary, diagonals secondary.
    fn queens(n: usize) -> ExactCover {
        let mut p = ExactCover::new(2 * n, 2 * (2 * n - 1));
        for r in 0..n {
            for f in 0..n {
                p.row(&[r, n + f, 2 * n + r + f, 4 * n - 1 + r + n - 1 - f]).unwrap();
            }
        }
        p
    }

    #[test]
    fn queens_are_counted() {
        for (n, count) in [(1, 1), (2, 0), (3, 0), (4, 2), (5, 10), (6, 4), (7, 40), (8, 92), (9, 352)] {
            let found = queens(n).solve(usize::MAX, 10_000_000);
            assert_eq!((found.solutions.len(), found.complete), (count, true), "{n} queens");
        }
    }

    #[test]
    fn limits_hold_and_say_so() {
        let cut = queens(8).solve(usize::MAX, 100);
        assert_eq!((cut.steps, cut.complete), (100, false));
        let two = queens(8).solve(2, 1_000_000);
        assert_eq!((two.solutions.len(), two.complete, two.count()), (2, false, Count::Many));
        assert!(ExactCover::new(3, 0).row(&[3]).is_err());
        assert!(ExactCover::new(3, 0).row(&[]).is_err());
        assert_eq!(ExactCover::new(0, 2).solve(5, 5).solutions, vec![Vec::<usize>::new()]);
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_subset(data in prop::collection::vec(any::<u8>(), 0..12)) {
            fuzz_cover(&data);
        }
    }
}
