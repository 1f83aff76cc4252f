//! `word-sort-mistake`: the first wrong thought in the sorting of words.
//!
//! ```text
//! Sort alphabetically: bread acorn baker
//! Thought 1: letter 1 of bread acorn baker is b a b
//! Thought 2: acorn < bread baker
//! Thought 3: letter 2 of bread baker is r a
//! Thought 4: acorn < bread < baker
//! Which thought is the first wrong one? Say No if all are right.
//! 1: right / 2: right / 3: right / 4: acorn < baker < bread is right
//! #### 4
//! ```
//!
//! Difficulty: `words`, `alike`. Half of the sortings hold a mistake: a wrong letter, groups out of order, groups merged, a
//! word lost. A thought is right if it follows from the one before; what comes after a mistake builds on it.

use super::word_sort::some_words;
use super::*;

pub struct WordSortMistake;

const COUNT: Knob = Knob::number("words", 2, 30, 5, "how many words");
const ALIKE: Knob = Knob::number("alike", 0, 100, 60, "per cent of words that share their first letter with another");

const WORDINGS: &[&str] = &[
    "Sort alphabetically: {}",
    "The task was to put these words in alphabetical order: {}",
    "Words: {}\nSomeone sorts them, looking at one letter after another.",
];
const QUESTION: &str = "Which thought is the first wrong one? Say No if all are right.";

type Groups = Vec<Vec<String>>;

#[derive(Serialize, Deserialize, Clone, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Thought {
    /// The letters at a place (from 1) of the words of one group; `-` where a word has ended.
    Letters(usize, Vec<(String, char)>),
    /// The words so far in order, groups not yet told apart together.
    Order(Groups),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    words: Vec<String>,
    thoughts: Vec<Thought>,
}

fn letter(word: &str, place: usize) -> char {
    word.chars().nth(place - 1).unwrap_or('-')
}

/// The letters to look at next: of the first group of several words, at the first place where they differ or beyond
/// what was looked at. None when every word stands alone.
fn look(groups: &Groups, looked: &BTreeMap<Vec<String>, usize>) -> Option<(usize, usize)> {
    let g = groups.iter().position(|g| g.len() > 1)?;
    Some((g, looked.get(&groups[g]).copied().unwrap_or(0) + 1))
}

/// The groups after the `g`th is parted by letters.
fn part(groups: &Groups, g: usize, letters: &[(String, char)]) -> Groups {
    let mut kinds: BTreeMap<char, Vec<String>> = BTreeMap::new();
    letters.iter().for_each(|(w, c)| kinds.entry(*c).or_default().push(w.clone()));
    let mut out = groups.clone();
    out.splice(g..=g, kinds.into_values());
    out
}

/// Sorts, thought by thought; `spoil` may change a thought, and what follows builds on what it says.
fn think(words: &[String], mut spoil: impl FnMut(usize, &mut Thought)) -> Vec<Thought> {
    let mut groups: Groups = vec![words.to_vec()];
    let mut looked: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let mut thoughts = vec![];
    while let Some((g, place)) = look(&groups, &looked) {
        if place > 40 || thoughts.len() > 400 {
            break;
        }
        let letters = groups[g].iter().map(|w| (w.clone(), letter(w, place))).collect();
        let mut thought = Thought::Letters(place, letters);
        spoil(thoughts.len(), &mut thought);
        let Thought::Letters(_, letters) = &thought else { break };
        let mut order = Thought::Order(part(&groups, g, letters));
        thoughts.push(thought);
        spoil(thoughts.len(), &mut order);
        let Thought::Order(next) = &order else { break };
        let parted = next.iter().filter(|n| **n == groups[g] || !groups.contains(n));
        looked.extend(parted.map(|n| (n.clone(), place)));
        groups = next.clone();
        thoughts.push(order);
    }
    thoughts
}

/// The number of the first wrong thought, from 1.
fn first_wrong(board: &Board) -> Option<usize> {
    // Thinking again with the told thoughts put in: the first that has to be changed is wrong.
    let mut wrong = None;
    think(&board.words, |i, thought| match board.thoughts.get(i) {
        Some(told) if told == thought => {}
        _ => wrong = wrong.or(Some(i + 1)),
    });
    wrong
}

fn mistake(stream: &mut Stream, thought: &mut Thought) {
    match thought {
        Thought::Letters(_, letters) => {
            let at = stream.below(letters.len());
            let others: Vec<char> = "abcdefghijklmnoprstuw".chars().filter(|c| *c != letters[at].1).collect();
            letters[at].1 = *stream.choose(&others);
        }
        Thought::Order(groups) => {
            let (n, at) = (groups.len(), stream.below(groups.len()));
            match stream.below(3) {
                0 if n > 1 => {
                    let mut two = stream.sample(n, 2);
                    two.sort();
                    groups.swap(two[0], two[1]);
                }
                1 if n > 1 => {
                    let gone = groups.remove(at);
                    let into = stream.below(groups.len());
                    groups[into].extend(gone);
                }
                _ => {
                    let w = stream.below(groups[at].len());
                    groups[at].remove(w);
                    groups.retain(|g| !g.is_empty());
                }
            }
        }
    }
}

impl Thought {
    fn show(&self) -> String {
        match self {
            Thought::Letters(place, letters) => {
                let words: Vec<&str> = letters.iter().map(|l| l.0.as_str()).collect();
                let of: Vec<String> = letters.iter().map(|l| l.1.to_string()).collect();
                format!("letter {place} of {} is {}", words.join(" "), of.join(" "))
            }
            Thought::Order(groups) => groups.iter().map(|g| g.join(" ")).collect::<Vec<_>>().join(" < "),
        }
    }
}

impl Worked for WordSortMistake {
    const NAME: &'static str = "word-sort-mistake";
    const ABOUT: &'static str = "the first wrong thought in a sorting of words";
    const KNOBS: &'static [Knob] = &[COUNT, ALIKE];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let words = some_words(stream, d.get(&COUNT) as usize, d.get(&ALIKE) as f64 / 100.0);
        let length = think(&words, |_, _| {}).len();
        let at = if stream.chance(0.5) { stream.below(length) } else { usize::MAX };
        let thoughts = think(&words, |i, thought| {
            if i == at {
                mistake(stream, thought);
            }
        });
        Board { words, thoughts }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let mut text = stream.choose(WORDINGS).replace("{}", &board.words.join(" "));
        for (i, thought) in board.thoughts.iter().enumerate() {
            text.push_str(&format!("\nThought {}: {}", i + 1, thought.show()));
        }
        format!("{text}\n{QUESTION}")
    }

    fn gist(board: &Board) -> String {
        board.thoughts.iter().map(Thought::show).collect::<Vec<_>>().join("|")
    }

    fn work(board: &Board) -> Option<Solution> {
        let wrong = first_wrong(board);
        let right = think(&board.words, |_, _| {});
        let until = wrong.map_or(board.thoughts.len(), |w| w - 1);
        let mut steps: Vec<String> = (1..=until).map(|i| format!("{i}: right")).collect();
        if let Some(w) = wrong {
            steps.push(format!("{w}: {} is right", right.get(w - 1)?.show()));
        }
        Some(Solution { steps, answer: wrong.map_or("No".into(), |w| w.to_string()) })
    }

    fn judge(board: &Board, answer: &str) -> Option<bool> {
        let said = lexicon::items(answer, |w| w == "no" || w.bytes().all(|b| b.is_ascii_digit()))?;
        Some(said == [first_wrong(board).map_or("no".into(), |w| w.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "words=12", "words=30,alike=20"];
        let wrong = |p: &Problem| {
            let other = if p.answer == "No" { "1" } else { "No" };
            vec![other.into(), "99".into(), format!("{0} {0}", p.answer), "0".into()]
        };
        let also = |p: &Problem| vec![p.answer.to_uppercase()];
        hold(&Of(WordSortMistake), &Laws { specs: &specs, n: 60, wrong, also, digest: "08af5e3b63e356d9" });
    }

    #[test]
    fn right_thoughts_sort_and_mistakes_are_found_where_they_are() {
        let mut stream = Stream::new(1, &["test", "mistakes"]);
        for i in 0..300 {
            let words = some_words(&mut stream, 2 + i % 12, 0.7);
            let thoughts = think(&words, |_, _| {});
            let Some(Thought::Order(last)) = thoughts.last() else { panic!("{words:?}") };
            let mut right = words.clone();
            right.sort();
            assert_eq!(last.concat(), right);
            let at = stream.below(thoughts.len());
            let thoughts = think(&words, |i, t| {
                if i == at {
                    mistake(&mut stream, t);
                }
            });
            assert_eq!(first_wrong(&Board { words, thoughts }), Some(at + 1));
        }
    }
}
