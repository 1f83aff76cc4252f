//! `word-sort`: words in the order of an alphabet that has some letters moved to the front.
//!
//! ```text
//! In a new alphabet the letters r, c come first, in this order; the others follow as usual. Sort: acorn cabin river
//! river: r is 1 / cabin: c is 2 / acorn: a is 3
//! #### river, cabin, acorn
//! ```
//!
//! Difficulty: `words`, `moved` (letters; 0 is the usual alphabet), `alike` (per cent of words that share a beginning).

use super::*;

pub struct WordSort;

const COUNT: Knob = Knob::number("words", 2, 30, 5, "how many words");
const MOVED: Knob = Knob::number("moved", 0, 8, 2, "letters that are moved to the front");
const ALIKE: Knob = Knob::number("alike", 0, 100, 30, "per cent of words that share their first letter with another");

const WORDINGS: &[&str] = &[
    "In a new alphabet {}. Sort: {words}",
    "Sort these words by an alphabet in which {}: {words}",
    "Imagine that {}. In which order would a dictionary list these words? {words}",
    "Order the words below by an alphabet where {}.\n{words}",
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub words: Vec<String>,
    /// The letters that come first, in order.
    pub first: String,
}

/// A letter's place in the changed alphabet, from 1.
fn rank(first: &str, letter: char) -> usize {
    match first.chars().position(|c| c == letter) {
        Some(i) => i + 1,
        None => {
            let before = first.chars().filter(|c| *c < letter).count();
            first.chars().count() + (letter as usize).saturating_sub('a' as usize) + 1 - before.min(letter as usize)
        }
    }
}

fn sorted(board: &Board) -> Vec<&str> {
    let mut words: Vec<&str> = board.words.iter().map(String::as_str).collect();
    words.sort_by_key(|w| w.chars().map(|c| rank(&board.first, c)).collect::<Vec<_>>());
    words
}

/// Words of the list, some of them with beginnings alike.
pub(super) fn some_words(stream: &mut Stream, n: usize, alike: f64) -> Vec<String> {
    let mut words: Vec<String> = vec![];
    while words.len() < n {
        let near = !words.is_empty() && stream.chance(alike);
        let like = if near { stream.choose(&words).chars().next() } else { None };
        let free = lexicon::WORDS.iter().filter(|w| !words.iter().any(|o| o == *w));
        let (near, far): (Vec<&str>, Vec<&str>) = free.partition(|w| like.is_none_or(|l| w.starts_with(l)));
        let word = stream.choose(if near.is_empty() { &far } else { &near });
        words.push(word.to_string());
    }
    words
}

impl Worked for WordSort {
    const NAME: &'static str = "word-sort";
    const ABOUT: &'static str = "words in the order of a changed alphabet";
    const KNOBS: &'static [Knob] = &[COUNT, MOVED, ALIKE];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let words = some_words(stream, d.get(&COUNT) as usize, d.get(&ALIKE) as f64 / 100.0);
        // Letters that the words hold, so that moving them matters.
        let mut letters: Vec<char> = words.iter().flat_map(|w| w.chars().take(2)).collect();
        letters.sort();
        letters.dedup();
        stream.shuffle(&mut letters);
        Board { words, first: letters.into_iter().take(d.get(&MOVED) as usize).collect() }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let letters: Vec<String> = board.first.chars().map(String::from).collect();
        let change = match &letters[..] {
            [] => "nothing is changed".to_string(),
            [one] => format!("the letter {one} comes first and the others follow as usual"),
            _ => {
                format!("the letters {} come first, in this order, and the others follow as usual", letters.join(", "))
            }
        };
        stream.choose(WORDINGS).replace("{}", &change).replace("{words}", &board.words.join(" "))
    }

    fn gist(board: &Board) -> String {
        let mut words = board.words.clone();
        words.sort();
        format!("{}|{}", board.first, words.join(" "))
    }

    fn work(board: &Board) -> Option<Solution> {
        let words = sorted(board);
        let alike = |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
        let step = |i: usize| {
            // The letter that tells a word from its neighbours.
            let before = if i > 0 { alike(words[i], words[i - 1]) } else { 0 };
            let after = words.get(i + 1).map_or(0, |w| alike(words[i], w));
            let shown: Vec<String> = (0..=before.max(after))
                .filter_map(|k| words[i].chars().nth(k))
                .map(|c| format!("{c} is {}", rank(&board.first, c)))
                .collect();
            format!("{}: {}", words[i], shown.join(", "))
        };
        Some(Solution { steps: (0..words.len()).map(step).collect(), answer: words.join(", ") })
    }

    fn judge(board: &Board, answer: &str) -> Option<bool> {
        let said = lexicon::items(&answer.replace('<', " "), |w| board.words.iter().any(|o| o == w))?;
        Some(said == sorted(board))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "words=15,moved=4", "words=8,moved=0,alike=100"];
        let also =
            |p: &Problem| vec![p.answer.replace(',', ""), p.answer.replace(", ", " < "), p.answer.to_uppercase()];
        let wrong = |p: &Problem| {
            let mut words: Vec<&str> = p.answer.split(", ").collect();
            let longer = format!("{}, {}", p.answer, words[0]);
            let shorter = words[1..].join(", ");
            words.swap(0, 1);
            let swapped = words.join(", ");
            vec![longer, shorter, swapped, words.join("")]
        };
        hold(&Of(WordSort), &Laws { specs: &specs, n: 60, wrong, also, digest: "8af10bf538f6b44c" });
    }

    /// Every pair stands as the written-out alphabet says.
    #[test]
    fn pairs_are_in_order() {
        for (board, answer) in boards::<WordSort>("words=12,moved=4,alike=60", 100) {
            let rest = ('a'..='z').filter(|c| !board.first.contains(*c));
            let alphabet: String = board.first.chars().chain(rest).collect();
            let mut said: Vec<&str> = answer.split(", ").collect();
            for two in said.windows(2) {
                let differ = two[0].chars().zip(two[1].chars()).find(|(a, b)| a != b);
                let ordered = match differ {
                    Some((a, b)) => alphabet.find(a) < alphabet.find(b),
                    None => two[0].len() < two[1].len(),
                };
                assert!(ordered, "{two:?} {alphabet}");
            }
            let mut words: Vec<&str> = board.words.iter().map(String::as_str).collect();
            words.sort();
            said.sort();
            assert_eq!(said, words);
        }
    }
}
