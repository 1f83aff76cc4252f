//! `chain`: arithmetic word problems over a hidden graph of quantities.
//!
//! ```text
//! Ann has 3 apples. Bob has 4 more than Ann. Cid has twice as many as Bob. How many does Cid have?
//! Bob: 3+4=7. Cid: 7*2=14.
//! #### 14
//! ```
//!
//! Difficulty: `steps` (operations the answer needs), `digits` (no quantity is longer), `distractors` (quantities the
//! answer does not need), `shape` (`line`: each quantity from one other; `tree`: also from two, so that steps have several
//! valid orders), `wording`, `order` (sentences as they depend on each other, or shuffled).
//! Renderings: `cot`, `equations`, `direct`. The verifier reads the answer after the last `####` (lenient: also `answer is
//! n`, or the last number) and judges every equation of the response: is it true, and is it a right next quantity.
//! A problem's cluster is its arithmetic without names and wording, so train and test never share a computation.
//! Left out on purpose: fractions, negative quantities, units, several questions about one story.

mod graph;
mod steps;
mod words;

use postgrad_base::{Error, Result, Stream};
use serde_json::json;

pub use graph::{Graph, Node, Op};
pub use steps::{Equation, equations};

use crate::number;
use crate::task::{Difficulty, Knob, Problem, Rendering, Task, Trace, Verdict, final_text, nearest};

pub const STEPS: Knob = Knob::number("steps", 1, 8, 2, "operations the answer needs");
pub const DIGITS: Knob = Knob::number("digits", 1, 4, 2, "most digits of any quantity");
pub const DISTRACTORS: Knob = Knob::number("distractors", 0, 4, 0, "quantities the answer does not need");
pub const SHAPE: Knob =
    Knob::choice("shape", &["line", "tree"], "whether quantities come from one other or also from two");
pub const WORDING: Knob = Knob::choice("wording", &["any", "plain", "plus", "long"], "how sentences are worded");
pub const ORDER: Knob = Knob::choice("order", &["told", "shuffled"], "sentences in order of dependence, or shuffled");

pub const COT: Rendering = Rendering { name: "cot", ask: "" };
pub const EQUATIONS: Rendering = Rendering { name: "equations", ask: "Equations only." };
pub const DIRECT: Rendering = Rendering { name: "direct", ask: "Answer only." };

pub struct Chain;

impl Task for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn about(&self) -> &'static str {
        "arithmetic word problems over a hidden graph of quantities, with a step verifier"
    }

    fn knobs(&self) -> &'static [Knob] {
        &[STEPS, DIGITS, DISTRACTORS, SHAPE, WORDING, ORDER]
    }

    fn renderings(&self) -> &'static [Rendering] {
        &[COT, EQUATIONS, DIRECT]
    }

    fn generate(&self, stream: &mut Stream, d: &Difficulty) -> Result<Problem> {
        let tree = d.get(&SHAPE) == 1;
        let mut graph =
            Graph::draw(stream, d.get(&STEPS) as usize, d.get(&DIGITS) as u32, d.get(&DISTRACTORS) as usize, tree);
        let wording = match d.get(&WORDING) {
            0 => stream.below(words::WORDINGS),
            w => w as usize - 1,
        };
        graph.name(stream, words::NAMES);
        let item = words::ITEMS[stream.below(words::ITEMS.len())];
        let mut order: Vec<usize> = (0..graph.nodes.len()).collect();
        if d.get(&ORDER) == 1 {
            stream.shuffle(&mut order);
        }
        let prompt = words::prompt(&graph, wording, item, &order);
        let answer = graph.answer().to_string();
        let meta = json!({"nodes": graph.nodes, "target": graph.target});
        Ok(Problem::new("chain", prompt, answer, d, &graph.key()).with_meta(meta))
    }

    fn solve(&self, problem: &Problem, rendering: &str) -> Result<Trace> {
        let graph = Graph::of(problem)?;
        solve_in(&graph, &graph.plan(), rendering)
    }

    fn verify(&self, problem: &Problem, response: &str) -> Verdict {
        let Ok(graph) = Graph::of(problem) else {
            return Verdict::not_mine();
        };
        let right = graph.answer().to_string();
        let judged = |n: String| {
            let n = number::canonical(&n);
            let same = n == right;
            (n, same)
        };
        let answer = final_text(response);
        let mut verdict = Verdict::judge(number::strict(answer).map(judged), number::flexible(answer).map(judged));
        verdict.steps = Some(steps::judge(&graph, response));
        verdict
    }
}

/// A right response whose steps go through the quantities in `plan`, an order of [`Graph::plan`] or
/// [`Graph::plan_drawn`]. Errors: a rendering that is not known.
pub fn solve_in(graph: &Graph, plan: &[usize], rendering: &str) -> Result<Trace> {
    let equations: Vec<String> = plan.iter().filter_map(|i| graph.equation(*i)).collect();
    let answer = graph.answer().to_string();
    let (steps, reasoning) = match rendering {
        "cot" => {
            let name = |i: &usize| Some(format!("{}: {}.", graph.nodes[*i].name, graph.equation(*i)?));
            let steps: Vec<String> = plan.iter().filter_map(name).collect();
            let text = steps.join(" ");
            (steps, text)
        }
        "equations" => {
            let text = equations.join("\n");
            (equations, text)
        }
        "direct" => (vec![], String::new()),
        other => {
            let known: Vec<&str> = Chain.renderings().iter().map(|r| r.name).collect();
            return Err(Error::unknown("rendering", other, &known, nearest(other, &known)));
        }
    };
    let text = if reasoning.is_empty() { format!("#### {answer}") } else { format!("{reasoning}\n#### {answer}") };
    Ok(Trace { steps, answer, text })
}

#[cfg(test)]
mod tests;
