//! `cipher`: words to encrypt or decrypt by a rule that is told.
//!
//! ```text
//! Each letter is moved 3 places on in the alphabet, z being followed by a. Encrypt: cat
//! c->f a->d t->w
//! #### fdw
//! ```
//!
//! SynLogic has a verifier for ciphers but no generator; the ciphers here are our own choice: Caesar (a shift), atbash (the
//! alphabet backwards), affine (multiply and add), keyword (a mixed alphabet), Vigenere (a shift a letter of a key), rail
//! fence and columns (both write the text in a pattern and read it off otherwise).
//! Difficulty: `cipher`, `words`, `way`. Blanks and capitals do not count.

use super::*;

pub struct CipherTask;

const CIPHER: Knob = Knob::choice(
    "cipher",
    &["any", "caesar", "atbash", "affine", "keyword", "vigenere", "rails", "columns"],
    "which cipher",
);
const COUNT: Knob = Knob::number("words", 1, 12, 2, "how many words");
const WAY: Knob = Knob::choice("way", &["any", "encrypt", "decrypt"], "which way");

#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "lowercase")]
enum Cipher {
    Caesar(usize),
    Atbash,
    /// Letter x (a is 0) becomes a x + b.
    Affine(usize, usize),
    Keyword(String),
    Vigenere(String),
    /// A zigzag over so many rows, read row by row.
    Rails(usize),
    /// Rows of the key's length, read column by column in the order of the key's letters.
    Columns(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    cipher: Cipher,
    plain: Vec<String>,
    encrypt: bool,
}

fn index(letter: char) -> usize {
    (letter as usize).saturating_sub('a' as usize) % 26
}

fn char_of(i: usize) -> char {
    char::from(b'a' + (i % 26) as u8)
}

/// The key's letters once each, then the other letters.
fn mixed(key: &str) -> Vec<char> {
    let mut out: Vec<char> = vec![];
    for c in key.chars().chain('a'..='z') {
        if !out.contains(&c) {
            out.push(c);
        }
    }
    out
}

/// Where each letter of a text of `n` letters stands after a transposition: the order of reading.
fn order(cipher: &Cipher, n: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    match cipher {
        Cipher::Rails(rails) => {
            let turn = (2 * rails).saturating_sub(2).max(1);
            all.sort_by_key(|i| (i % turn).min(turn - i % turn));
        }
        Cipher::Columns(key) => {
            let letters: Vec<char> = key.chars().collect();
            all.sort_by_key(|i| (letters[i % letters.len()], i % letters.len()));
        }
        _ => {}
    }
    all
}

/// What the `i`th letter of a text becomes.
fn substitute(cipher: &Cipher, i: usize, c: char) -> char {
    match cipher {
        Cipher::Caesar(k) => char_of(index(c) + k),
        Cipher::Atbash => char_of(25 - index(c)),
        Cipher::Affine(a, b) => char_of(a * index(c) + b),
        Cipher::Keyword(key) => mixed(key)[index(c)],
        Cipher::Vigenere(key) => {
            let key: Vec<char> = key.chars().collect();
            char_of(index(c) + index(key[i % key.len()]))
        }
        _ => c,
    }
}

fn transposes(cipher: &Cipher) -> bool {
    matches!(cipher, Cipher::Rails(_) | Cipher::Columns(_))
}

/// The secret text: words where letters are replaced, one piece where they change places.
fn secret(board: &Board) -> Vec<String> {
    let text: Vec<char> = board.plain.concat().chars().collect();
    let out: Vec<char> = text.iter().enumerate().map(|(i, c)| substitute(&board.cipher, i, *c)).collect();
    let out: Vec<char> = order(&board.cipher, out.len()).into_iter().map(|i| out[i]).collect();
    if transposes(&board.cipher) {
        return vec![out.iter().collect()];
    }
    let mut rest = &out[..];
    let mut words = vec![];
    for word in &board.plain {
        let (head, tail) = rest.split_at(word.len());
        words.push(head.iter().collect());
        rest = tail;
    }
    words
}

fn sound(board: &Board) -> bool {
    let word = |w: &String| !w.is_empty() && w.len() <= 20 && w.bytes().all(|b| b.is_ascii_lowercase());
    let cipher = match &board.cipher {
        Cipher::Caesar(k) => *k < 26,
        Cipher::Atbash => true,
        Cipher::Affine(a, b) => *a < 26 && a % 2 == 1 && *a != 13 && *b < 26,
        Cipher::Keyword(key) | Cipher::Vigenere(key) | Cipher::Columns(key) => word(key),
        Cipher::Rails(n) => (2..=10).contains(n),
    };
    cipher && (1..=30).contains(&board.plain.len()) && board.plain.iter().all(word)
}

fn rule(cipher: &Cipher) -> String {
    match cipher {
        Cipher::Caesar(k) => format!("each letter is moved {k} places on in the alphabet, z being followed by a"),
        Cipher::Atbash => "each letter is replaced by the one as far from the end of the alphabet as it is from the beginning (a and z, b and y)".into(),
        Cipher::Affine(a, b) => format!("letters are numbered from a = 0 to z = 25, and x becomes {a} x + {b}, modulo 26"),
        Cipher::Keyword(key) => {
            format!("the alphabet a to z is replaced, in order, by the letters of {key}, once each, and then the other letters in order")
        }
        Cipher::Vigenere(key) => format!(
            "the letters of {key} stand again and again below the text (blanks left out), and each letter is moved on by the number of the one below it (a = 0, b = 1, ...)"
        ),
        Cipher::Rails(n) => format!(
            "the letters, without blanks, are written in a zigzag over {n} rows, starting at the top, and read row by row"
        ),
        Cipher::Columns(key) => format!(
            "the letters, without blanks, are written in rows below the word {key} and read column by column, in the order of the word's letters in the alphabet (equal letters from the left)"
        ),
    }
}

fn draw_cipher(stream: &mut Stream, kind: i64) -> Cipher {
    let mut key = |short: bool| -> String {
        let fit: Vec<&&str> = lexicon::WORDS.iter().filter(|w| !short || w.len() <= 5).collect();
        stream.choose(&fit).to_string()
    };
    match kind {
        4 => Cipher::Keyword(key(false)),
        5 => Cipher::Vigenere(key(true)),
        7 => Cipher::Columns(key(true)),
        1 => Cipher::Caesar(stream.between(1, 25) as usize),
        2 => Cipher::Atbash,
        3 => Cipher::Affine(*stream.choose(&[3, 5, 7, 9, 11, 15, 17, 19, 21, 23, 25]), stream.below(26)),
        _ => Cipher::Rails(stream.between(2, 4) as usize),
    }
}

impl Worked for CipherTask {
    const NAME: &'static str = "cipher";
    const ABOUT: &'static str = "words to encrypt or decrypt by a rule that is told";
    const KNOBS: &'static [Knob] = &[CIPHER, COUNT, WAY];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let kind = match d.get(&CIPHER) {
            0 => stream.between(1, 7),
            k => k,
        };
        let cipher = draw_cipher(stream, kind);
        let encrypt = match d.get(&WAY) {
            0 => stream.chance(0.5),
            w => w == 1,
        };
        Board { cipher, plain: lexicon::some(stream, lexicon::WORDS, d.get(&COUNT) as usize), encrypt }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let rule = rule(&board.cipher);
        let (text, verb) =
            if board.encrypt { (board.plain.join(" "), "Encrypt") } else { (secret(board).join(" "), "Decrypt") };
        match stream.below(3) {
            0 => format!("To encrypt, {rule}. {verb}: {text}"),
            1 => format!("{verb} this text: {text}\nThe cipher: {rule}."),
            _ => format!("In a secret code, {rule}. {verb} {text} and write only the result."),
        }
    }

    fn gist(board: &Board) -> String {
        serde_json::to_string(board).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        if !sound(board) {
            return None;
        }
        let secret = secret(board);
        let mut steps: Vec<String> = vec![];
        let text: Vec<char> = board.plain.concat().chars().collect();
        if transposes(&board.cipher) {
            // The letters by row of the zigzag, or by column.
            let read = order(&board.cipher, text.len());
            let mut pieces: Vec<Vec<usize>> = vec![];
            for i in read {
                match pieces.last_mut() {
                    Some(last) if same_line(&board.cipher, last[0], i) => last.push(i),
                    _ => pieces.push(vec![i]),
                }
            }
            steps.extend(pieces.iter().map(|p| {
                let at: Vec<String> = p.iter().map(|i| (i + 1).to_string()).collect();
                format!("{}: letters {}", p.iter().map(|i| text[*i]).collect::<String>(), at.join(" "))
            }));
            if !board.encrypt {
                steps.push(format!("in order: {}", board.plain.concat()));
            }
        } else {
            for (plain, hidden) in board.plain.iter().zip(&secret) {
                let pair = |(p, s)| if board.encrypt { format!("{p}->{s}") } else { format!("{s}->{p}") };
                steps.push(plain.chars().zip(hidden.chars()).map(pair).collect::<Vec<_>>().join(" "));
            }
        }
        Some(Solution { steps, answer: if board.encrypt { secret.join(" ") } else { board.plain.join(" ") } })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let right = if board.encrypt { secret(board).concat() } else { board.plain.concat() };
        let said: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        let said = said.trim_matches(|c| matches!(c, '.' | '"'));
        // Other lengths are no text of this problem.
        let form = said.len() == right.len() && said.bytes().all(|b| b.is_ascii_lowercase());
        form.then(|| said == right)
    }
}

fn same_line(cipher: &Cipher, a: usize, b: usize) -> bool {
    match cipher {
        Cipher::Rails(n) => {
            let turn = 2 * n - 2;
            let row = |i: usize| (i % turn).min(turn - i % turn);
            row(a) == row(b)
        }
        Cipher::Columns(key) => a % key.len() == b % key.len(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "words=5,way=encrypt", "words=8,way=decrypt", "cipher=columns", "cipher=rails"];
        let also = |p: &Problem| vec![p.answer.to_uppercase(), p.answer.replace(' ', "")];
        let wrong = |p: &Problem| {
            let turned: String = p.answer.chars().rev().collect();
            let other: String = p
                .answer
                .chars()
                .map(|c| {
                    if c == 'e' {
                        'a'
                    } else if c == ' ' {
                        ' '
                    } else {
                        char_of(index(c) + 1)
                    }
                })
                .collect();
            let all = vec![other, format!("{}x", p.answer), p.answer[1..].to_string()];
            all.into_iter().chain((turned.replace(' ', "") != p.answer.replace(' ', "")).then_some(turned)).collect()
        };
        hold(&Of(CipherTask), &Laws { specs: &specs, n: 60, wrong, also, digest: "f5d2329f90a3da81" });
    }

    #[test]
    fn known_texts() {
        let of = |cipher, plain: &str| {
            secret(&Board { cipher, plain: plain.split(' ').map(String::from).collect(), encrypt: true }).join(" ")
        };
        assert_eq!(of(Cipher::Caesar(3), "hello zoo"), "khoor crr");
        assert_eq!(of(Cipher::Atbash, "wizard"), "draziw");
        assert_eq!(of(Cipher::Affine(5, 8), "affinecipher"), "ihhwvcswfrcp");
        assert_eq!(of(Cipher::Keyword("zebras".into()), "flee at once"), "siaa zq lkba");
        assert_eq!(of(Cipher::Vigenere("lemon".into()), "attack at dawn"), "lxfopv ef rnhr");
        assert_eq!(of(Cipher::Rails(3), "we are discovered flee at once"), "wecrlteerdsoeefeaocaivden");
        assert_eq!(of(Cipher::Columns("zebras".into()), "we are discovered flee at once"), "evlnacdtesearofodeecwiree");
    }

    /// A letter is replaced by another for good: no two become one.
    #[test]
    fn substitutions_can_be_undone() {
        let mut stream = Stream::new(1, &["test", "cipher"]);
        for kind in 1..6 {
            for _ in 0..50 {
                let cipher = draw_cipher(&mut stream, kind);
                let mut image: Vec<char> = ('a'..='z').map(|c| substitute(&cipher, 0, c)).collect();
                image.sort();
                assert!(image.into_iter().eq('a'..='z'));
            }
        }
    }
}
