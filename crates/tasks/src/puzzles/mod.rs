//! Puzzles with rules: grids, numbers and expressions, after SynLogic (arXiv 2505.19641).
//!
//! Each family is a file with a [`Puzzle`]; [`Of`] makes it a [`Task`]. A verifier checks the rules, never one gold text, so
//! every right answer passes. The strict answer stands between the last `<answer>` tags, else after the last `####`, else
//! it is the whole response (thoughts removed). Lenient reading also takes what follows `answer is` or `answer:`, the last
//! paragraph and the last line. Renderings: `steps` (deductions or operations, then `####` and the answer) and `direct`.
//! Left out on purpose: Chinese prompts, pictures, families that need an imported data set.

mod arith;
mod arrow_maze;
mod calcudoku;
mod campsite;
mod countdown;
mod crossword;
mod cryptarithm;
mod futoshiki;
mod game24;
mod grid;
mod kakurasu;
pub mod language;
#[cfg(test)]
mod laws;
mod math_path;
mod minesweeper;
mod norinori;
mod number_wall;
mod numbrix;
mod operation;
mod skyscraper;
mod stars;
mod sudoku;
mod survo;
mod zebra;

use postgrad_base::{Error, Result, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::task::{Difficulty, Knob, Problem, Rendering, Task, Trace, Verdict, final_text, nearest};

pub use arrow_maze::ArrowMaze;
pub use calcudoku::Calcudoku;
pub use campsite::Campsite;
pub use countdown::Countdown;
pub use crossword::Crossword;
pub use cryptarithm::Cryptarithm;
pub use futoshiki::Futoshiki;
pub use game24::Game24;
pub use kakurasu::Kakurasu;
pub use math_path::MathPath;
pub use minesweeper::Minesweeper;
pub use norinori::Norinori;
pub use number_wall::NumberWall;
pub use numbrix::Numbrix;
pub use operation::Operation;
pub use skyscraper::Skyscraper;
pub use stars::Stars;
pub use sudoku::Sudoku;
pub use survo::Survo;
pub use zebra::Zebra;

/// All puzzles, in the order of listings.
pub fn all() -> Vec<Box<dyn Task>> {
    let mut all: Vec<Box<dyn Task>> = vec![
        Box::new(Of(Countdown)),
        Box::new(Of(Game24)),
        Box::new(Of(Sudoku)),
        Box::new(Of(Futoshiki)),
        Box::new(Of(Skyscraper)),
        Box::new(Of(Calcudoku)),
        Box::new(Of(Kakurasu)),
        Box::new(Of(Survo)),
        Box::new(Of(Numbrix)),
        Box::new(Of(NumberWall)),
        Box::new(Of(Minesweeper)),
        Box::new(Of(Norinori)),
        Box::new(Of(Stars)),
        Box::new(Of(Campsite)),
        Box::new(Of(ArrowMaze)),
        Box::new(Of(Crossword)),
        Box::new(Of(Zebra)),
        Box::new(Of(Cryptarithm)),
        Box::new(Of(MathPath)),
        Box::new(Of(Operation)),
    ];
    all.extend(language::all());
    all
}

pub const STEPS: Rendering = Rendering { name: "steps", ask: "" };
pub const DIRECT: Rendering = Rendering { name: "direct", ask: "Answer only." };

/// No answer is longer, in bytes; longer text is no answer.
const LONGEST: usize = 8192;

/// A family of puzzles.
pub trait Puzzle: Send + Sync {
    /// What is asked, without its wording: a problem's meta.
    type Board: Serialize + DeserializeOwned;
    const NAME: &'static str;
    const ABOUT: &'static str;
    const KNOBS: &'static [Knob];

    /// A board and a right answer to it.
    fn draw(stream: &mut Stream, difficulty: &Difficulty) -> Result<(Self::Board, String)>;

    /// The board in one of several wordings, with the form of the answer.
    fn prompt(board: &Self::Board, stream: &mut Stream) -> String;

    /// What two boards share when they ask the same; it decides the split.
    fn key(board: &Self::Board) -> String {
        serde_json::to_string(board).expect("a board is plain data")
    }

    /// Whether a board read from anywhere is within the bounds that the other functions count on.
    fn sound(board: &Self::Board) -> bool;

    /// Whether the text is a right answer; none when it is no answer in form. At most [`LONGEST`] bytes come here.
    fn accepts(board: &Self::Board, text: &str) -> Option<bool>;

    /// Readable steps to this right answer.
    fn steps(board: &Self::Board, answer: &str) -> Vec<String>;
}

/// A puzzle as a task.
pub struct Of<P>(pub P);

/// The board of a problem of this puzzle.
fn board<P: Puzzle>(problem: &Problem) -> Option<P::Board> {
    if problem.task != P::NAME {
        return None;
    }
    serde_json::from_value(problem.meta.clone()).ok().filter(P::sound)
}

impl<P: Puzzle> Task for Of<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn about(&self) -> &'static str {
        P::ABOUT
    }

    fn knobs(&self) -> &'static [Knob] {
        P::KNOBS
    }

    fn renderings(&self) -> &'static [Rendering] {
        &[STEPS, DIRECT]
    }

    fn generate(&self, stream: &mut Stream, difficulty: &Difficulty) -> Result<Problem> {
        let (board, answer) = P::draw(stream, difficulty)?;
        let prompt = P::prompt(&board, stream);
        let meta = serde_json::to_value(&board).expect("a board is plain data");
        Ok(Problem::new(P::NAME, prompt, answer, difficulty, &P::key(&board)).with_meta(meta))
    }

    fn solve(&self, problem: &Problem, rendering: &str) -> Result<Trace> {
        let known: Vec<&str> = self.renderings().iter().map(|r| r.name).collect();
        if !known.contains(&rendering) {
            return Err(Error::unknown("rendering", rendering, &known, nearest(rendering, &known)));
        }
        let answer = problem.answer.clone();
        let board = board::<P>(problem).filter(|b| answer.len() <= LONGEST && P::accepts(b, &answer) == Some(true));
        let board = board.ok_or_else(|| {
            Error::usage(format!("not a problem of `{}`: its meta and answer do not fit", P::NAME))
                .at(format!("problem {}", problem.id))
        })?;
        let steps = if rendering == "steps" { P::steps(&board, &answer) } else { vec![] };
        let mut text = steps.join("\n");
        if !steps.is_empty() {
            text.push('\n');
        }
        text.push_str(if answer.contains('\n') { "####\n" } else { "#### " });
        text.push_str(&answer);
        Ok(Trace { steps, answer, text })
    }

    fn verify(&self, problem: &Problem, response: &str) -> Verdict {
        let Some(board) = board::<P>(problem) else {
            return Verdict::not_mine();
        };
        let text = final_text(response);
        let judged = |t: &str| {
            let t = t.trim();
            if t.is_empty() || t.len() > LONGEST { None } else { Some((t.to_string(), P::accepts(&board, t)?)) }
        };
        if let Some(strict) = judged(strict(text)) {
            return Verdict::judge(Some(strict), None);
        }
        Verdict::judge(None, lenient(text).into_iter().flatten().find_map(|t| judged(plain(t))))
    }
}

/// Where the answer stands in the form that was asked.
fn strict(text: &str) -> &str {
    if let Some(at) = text.rfind("<answer>") {
        let inner = &text[at + "<answer>".len()..];
        return inner.find("</answer>").map_or(inner, |end| &inner[..end]);
    }
    text.rfind("####").map_or(text, |at| &text[at + 4..])
}

/// Other places, the likeliest first.
fn lenient(text: &str) -> [Option<&str>; 4] {
    let lead = ["nswer is", "nswer:"].iter().filter_map(|l| Some(text.rfind(l)? + l.len())).max();
    let marked = text.rfind("####").map(|at| &text[at + 4..]);
    let text = text.trim_end().trim_end_matches('`').trim_end();
    let paragraph = text.rfind("\n\n").map(|at| &text[at..]);
    [lead.and_then(|at| text.get(at..)), paragraph, text.lines().next_back(), marked]
}

/// Without quotes, emphasis and a last full stop around it.
fn plain(text: &str) -> &str {
    text.trim_matches(|c: char| matches!(c, '.' | '*' | '`' | '"' | '$' | ':') || c.is_whitespace())
}

/// One of several wordings, each `{}` filled in order.
fn word(stream: &mut Stream, wordings: &[&str], fills: &[&str]) -> String {
    let mut pieces = stream.choose(wordings).split("{}");
    let mut text = pieces.next().unwrap_or("").to_string();
    for (fill, piece) in fills.iter().zip(pieces) {
        text.push_str(fill);
        text.push_str(piece);
    }
    text
}

#[cfg(test)]
mod tests;
