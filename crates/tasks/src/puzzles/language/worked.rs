//! Puzzles whose answer is worked out from the board: what most families of language and state have in common.

use super::*;

/// A family with a solver. Every board that the solver can work out is sound.
pub trait Worked: Send + Sync {
    type Board: Serialize + DeserializeOwned;
    const NAME: &'static str;
    const ABOUT: &'static str;
    const KNOBS: &'static [Knob];

    /// A board that [`work`](Self::work) can work out.
    fn make(stream: &mut Stream, difficulty: &Difficulty) -> Self::Board;

    /// The board in one of several wordings, with the form of the answer.
    fn ask(board: &Self::Board, stream: &mut Stream) -> String;

    /// What boards share when they ask the same.
    fn gist(board: &Self::Board) -> String;

    /// Readable steps and a right answer; none when the board is not one of this family's.
    fn work(board: &Self::Board) -> Option<Solution>;

    /// Whether the text is a right answer; none when it is no answer in form.
    fn judge(board: &Self::Board, text: &str) -> Option<bool>;
}

/// What a solver finds.
pub struct Solution {
    pub steps: Vec<String>,
    pub answer: String,
}

impl<W: Worked> Puzzle for W {
    type Board = W::Board;
    const NAME: &'static str = W::NAME;
    const ABOUT: &'static str = W::ABOUT;
    const KNOBS: &'static [Knob] = W::KNOBS;

    fn draw(stream: &mut Stream, difficulty: &Difficulty) -> Result<(W::Board, String)> {
        let board = W::make(stream, difficulty);
        let answer = W::work(&board).expect("a board that was made can be worked out").answer;
        Ok((board, answer))
    }

    fn prompt(board: &W::Board, stream: &mut Stream) -> String {
        W::ask(board, stream)
    }

    fn key(board: &W::Board) -> String {
        W::gist(board)
    }

    fn sound(board: &W::Board) -> bool {
        W::work(board).is_some()
    }

    fn accepts(board: &W::Board, text: &str) -> Option<bool> {
        W::judge(board, text)
    }

    fn steps(board: &W::Board, _answer: &str) -> Vec<String> {
        W::work(board).map(|s| s.steps).unwrap_or_default()
    }
}
