//! How a graph is told: few names, few things, short sentences in three wordings.

use super::graph::{Graph, Op};

pub const NAMES: &[&str] = &[
    "Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ivy", "Jon", "Kim", "Leo", "Mia", "Ned", "Ola", "Pam",
    "Roy", "Sam", "Tom", "Una", "Vic", "Wes", "Zoe", "Ben",
];

pub const ITEMS: &[&str] = &["apples", "books", "cards", "coins", "cups", "eggs", "hats", "keys", "pens", "shells"];

pub const WORDINGS: usize = 3;

/// The sentences in `order`, then the question.
pub fn prompt(graph: &Graph, wording: usize, item: &str, order: &[usize]) -> String {
    let mut text = String::new();
    for i in order {
        text.push_str(&sentence(graph, *i, wording, item));
        text.push(' ');
    }
    let t = &graph.nodes[graph.target].name;
    text.push_str(&match wording {
        0 => format!("How many does {t} have?"),
        1 => format!("How many {item} does {t} own?"),
        _ => format!("How many {item} are with {t}?"),
    });
    text
}

fn sentence(graph: &Graph, i: usize, wording: usize, item: &str) -> String {
    let node = &graph.nodes[i];
    let n = &node.name;
    let name = |p: usize| &graph.nodes[p].name;
    let (one, two) = (node.op.parents().next().map_or(n, name), node.op.parents().nth(1).map_or(n, name));
    match (wording, node.op) {
        (0, Op::Given(k)) => format!("{n} has {k} {item}."),
        (0, Op::Add { k, .. }) => format!("{n} has {k} more than {one}."),
        (0, Op::Sub { k, .. }) => format!("{n} has {k} fewer than {one}."),
        (0, Op::Times { k: 2, .. }) => format!("{n} has twice as many as {one}."),
        (0, Op::Times { k, .. }) => format!("{n} has {k} times as many as {one}."),
        (0, Op::Half { .. }) => format!("{n} has half as many as {one}."),
        (0, Op::Sum { .. }) => format!("{n} has as many as {one} and {two} together."),
        (0, Op::Diff { .. }) => format!("{n} has the difference of {one} and {two}."),
        (1, Op::Given(k)) => format!("{n} owns {k} {item}."),
        (1, Op::Add { k, .. }) => format!("{n} owns as many as {one} plus {k}."),
        (1, Op::Sub { k, .. }) => format!("{n} owns as many as {one} minus {k}."),
        (1, Op::Times { k, .. }) => format!("{n} owns {k} times what {one} owns."),
        (1, Op::Half { .. }) => format!("{n} owns half of what {one} owns."),
        (1, Op::Sum { .. }) => format!("{n} owns the sum of {one} and {two}."),
        (1, Op::Diff { .. }) => format!("{n} owns as many as {one} minus those of {two}."),
        (_, Op::Given(k)) => format!("There are {k} {item} with {n}."),
        (_, Op::Add { k, .. }) => format!("With {n} there are {k} more than with {one}."),
        (_, Op::Sub { k, .. }) => format!("With {n} there are {k} fewer than with {one}."),
        (_, Op::Times { k, .. }) => format!("With {n} there are {k} times as many as with {one}."),
        (_, Op::Half { .. }) => format!("With {n} there are half as many as with {one}."),
        (_, Op::Sum { .. }) => format!("With {n} there are as many as with {one} and {two} together."),
        (_, Op::Diff { .. }) => format!("With {n} there is the difference of {one} and {two}."),
    }
}
