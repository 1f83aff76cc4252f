//! Finding the answer in a response.
//!
//! *Strict* takes only what the response marks as its answer: `<answer>` tags, `\boxed{}`, a `####` line, "the answer is", "Final answer:".
//! *Flexible* falls back on the whole text if it is short, a choice letter, the last equation or formula, the last number. The two are
//! reported apart, so that a rise in format is not taken for a rise in skill. Work is linear in the text: candidates are looked for from
//! the end, a bounded number of them, each over a bounded length.

use super::lex::matching_brace;
use super::parse::{self, Answer};

/// Where an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Tag,
    Boxed,
    Hashes,
    Phrase,
    Whole,
    Choice,
    Formula,
    LastNumber,
}

impl Place {
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Tag => "answer tag",
            Place::Boxed => "boxed",
            Place::Hashes => "####",
            Place::Phrase => "answer phrase",
            Place::Whole => "whole text",
            Place::Choice => "choice letter",
            Place::Formula => "formula",
            Place::LastNumber => "last number",
        }
    }
}

/// A piece of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub text: String,
    pub place: Place,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Anything.
    #[default]
    Any,
    /// One letter of a multiple choice.
    Choice,
    /// A number: the flexible reading goes straight to the last one.
    Number,
}

/// Both readings; a strict answer is also the flexible one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extraction {
    pub strict: Option<Found>,
    pub flexible: Option<Found>,
}

/// Candidates looked at from the end, and how far each may reach.
const CANDIDATES: usize = 24;
const REACH: usize = 4096;
const SHORT: usize = 200;
/// How much of a text's end is searched for an announcement.
const TAIL: usize = 32_768;

/// The answer of a response.
pub fn extract(text: &str, mode: Mode) -> Extraction {
    let text = after_thinking(text);
    let strict = strict(text).and_then(|found| match mode {
        Mode::Choice => choice_letter(&found.text).map(|c| Found { text: c.to_string(), place: found.place }),
        _ => Some(found),
    });
    let flexible = strict.clone().or_else(|| flexible(text, mode));
    Extraction { strict, flexible }
}

/// The text after the last `</think>`, if there is any.
fn after_thinking(text: &str) -> &str {
    match text.rfind("</think>") {
        Some(at) if !text[at + 8..].trim().is_empty() => &text[at + 8..],
        _ => text,
    }
}

fn strict(text: &str) -> Option<Found> {
    let marked = tag(text).or_else(|| {
        let (found, end) = boxed(text)?;
        // a box on the way, and a final answer announced after it
        let rest = &text[end..];
        let announced = rest.len() > 14
            && ["final answer is", "final answer:"].iter().any(|a| clip(rest, TAIL).to_ascii_lowercase().contains(a));
        Some(if announced { phrase(rest).unwrap_or(found) } else { found })
    });
    marked.or_else(|| hashes(text)).or_else(|| phrase(text))
}

fn tag(text: &str) -> Option<Found> {
    let open = text.rfind("<answer>")?;
    let inner = &text[open + 8..];
    let close = inner.find("</answer>").unwrap_or(inner.len());
    let inner = clip(&inner[..close], REACH).trim();
    if inner.is_empty() {
        return None;
    }
    let deeper = boxed(inner)
        .map(|(found, _)| found)
        .or_else(|| hashes(inner))
        .or_else(|| if inner.len() > 60 { phrase(inner) } else { None });
    Some(Found { text: deeper.map_or_else(|| inner.to_string(), |d| d.text), place: Place::Tag })
}

/// The last box that closes; boxes that only a comma or "and" parts are one list.
fn boxed(text: &str) -> Option<(Found, usize)> {
    let mut after_last = text.len();
    let mut end = text.len();
    let mut last: Option<(usize, String)> = None;
    for _ in 0..CANDIDATES {
        let Some(at) = last_box(text, end) else { break };
        end = at;
        let after = at + if text[at..].starts_with("\\boxed") { 6 } else { 5 };
        let rest = clip(&text[after..], REACH + 64);
        let skip = rest.len() - rest.trim_start().len();
        let (content, close) = match rest.as_bytes().get(skip) {
            Some(b'{') => match matching_brace(rest.as_bytes(), skip) {
                Some(close) => (rest[skip + 1..close].trim(), after + close + 1),
                None => continue,
            },
            // \boxed 5
            Some(c) if c.is_ascii_alphanumeric() && skip > 0 => {
                let n = rest[skip..].find(|c: char| c.is_whitespace() || c == '$').unwrap_or(rest.len() - skip);
                (&rest[skip..skip + n], after + skip + n)
            }
            _ => continue,
        };
        if content.is_empty() {
            continue;
        }
        match &mut last {
            None => {
                last = Some((at, content.to_string()));
                after_last = close;
            }
            Some((from, list)) => {
                if !text.get(close..*from).is_some_and(joins) {
                    break;
                }
                *list = format!("{content}, {list}");
                *from = at;
            }
        }
        // an earlier box matters only if it is near
        let near = floor_boundary(text, at.saturating_sub(REACH));
        if !text[near..at].contains("\\boxed") {
            break;
        }
    }
    last.map(|(_, text)| (Found { text, place: Place::Boxed }, after_last))
}

/// Does the text between two boxes make them one answer: nothing, a comma, "and", a name and its sign?
fn joins(between: &str) -> bool {
    if between.len() > 60 || between.contains(['.', '\n', ':', ';']) {
        return false;
    }
    let mut link = between.contains(',') || between.trim_matches(['$', ' ']).is_empty();
    for word in between.split(|c: char| !c.is_ascii_alphabetic()) {
        match word.to_ascii_lowercase().as_str() {
            "and" | "or" => link = true,
            "no" | "not" | "wait" | "actually" | "so" | "then" | "thus" | "therefore" | "hence" | "but" | "because"
            | "is" | "implies" | "gives" | "rather" => return false,
            _ => {}
        }
    }
    link
}

/// The last `\boxed` or `\fbox` before `end`.
fn last_box(text: &str, mut end: usize) -> Option<usize> {
    let s = text.as_bytes();
    loop {
        let at = s[..end].iter().rposition(|b| *b == b'\\')?;
        if s[at..].starts_with(b"\\boxed") || s[at..].starts_with(b"\\fbox") {
            return Some(at);
        }
        end = at;
    }
}

fn hashes(text: &str) -> Option<Found> {
    let mut end = text.len();
    for _ in 0..CANDIDATES {
        let at = text[..end].rfind("####")?;
        let line = clip(text[at + 4..].trim_start_matches('#'), REACH);
        let line = line.trim_start_matches([' ', '\t']).lines().next().unwrap_or("").trim();
        if !line.is_empty() {
            return Some(Found { text: line.to_string(), place: Place::Hashes });
        }
        end = at;
    }
    None
}

/// Words that announce the answer, in lower case; the longest are tried at each place.
const ANNOUNCE: [&str; 22] = [
    "the final answer is",
    "final answer is",
    "the correct answer is",
    "correct answer is",
    "the answer is",
    "answer is",
    "the correct option is",
    "correct option is",
    "the correct choice is",
    "correct choice is",
    "the final answer:",
    "final answer:",
    "final answer -",
    "final answer =",
    "the answer:",
    "answer:",
    "answer =",
    "the answer must be",
    "the answer should be",
    "the answer would be",
    "the answer was",
    "the answers are",
];

fn phrase(text: &str) -> Option<Found> {
    // the announcements are near the end; a long text is searched in its last part only
    let tail = &text[floor_boundary(text, text.len().saturating_sub(TAIL))..];
    let mut plain: String = tail
        .chars()
        .map(|c| if c == '*' || c == '_' && !tail.contains('\\') { '\u{1}' } else { c.to_ascii_lowercase() })
        .collect();
    plain.retain(|c| c != '\u{1}');
    let kept: String = tail.chars().filter(|c| !(*c == '*' || *c == '_' && !tail.contains('\\'))).collect();
    let at = ANNOUNCE.iter().filter_map(|a| rfind_word(&plain, a).map(|at| (at + a.len(), a.len()))).max()?.0;
    let rest = clip(kept.get(at..)?, REACH).trim_start_matches([' ', ':', '\t', '=', '}']);
    let rest = rest.strip_prefix("indeed ").or_else(|| rest.strip_prefix("therefore ")).unwrap_or(rest);
    let found = sentence(rest);
    if found.is_empty() {
        return last_line_label(text);
    }
    let inner = if found.len() > SHORT || is_bare(found) {
        None
    } else {
        last_formula(found).map(|f| f.text).or_else(|| last_number(found))
    };
    Some(Found { text: inner.unwrap_or_else(|| found.to_string()), place: Place::Phrase })
}

/// The last line of the form `A: 18`, unless the lines are choices (`B: ...`).
fn last_line_label(text: &str) -> Option<Found> {
    let line = text.trim().rsplit_once('\n')?.1.trim();
    let rest = line.strip_prefix("A:")?.trim();
    (!rest.is_empty() && rest.len() < SHORT && !text.contains("\nB:"))
        .then(|| Found { text: rest.to_string(), place: Place::Phrase })
}

fn rfind_word(text: &str, word: &str) -> Option<usize> {
    let mut end = text.len();
    for _ in 0..CANDIDATES {
        let at = text[..end].rfind(word)?;
        if !text[..at].ends_with(|c: char| c.is_alphanumeric()) {
            return Some(at);
        }
        end = at;
    }
    None
}

/// The first sentence: up to a line's end or a full stop that ends one; mathematics between signs is kept whole.
fn sentence(rest: &str) -> &str {
    let rest = rest.trim_start();
    let starts_display = rest.starts_with("$$") || rest.starts_with("\\[");
    if starts_display {
        let (open, close) = if rest.starts_with("$$") { ("$$", "$$") } else { ("\\[", "\\]") };
        if let Some(end) = rest[open.len()..].find(close) {
            return rest[open.len()..open.len() + end].trim();
        }
    }
    if let Some(inner) = rest.strip_prefix("\\(")
        && let Some(end) = inner.find("\\)")
        && inner[end + 2..].trim_start().is_empty_or_stop()
    {
        return inner[..end].trim();
    }
    let bytes = rest.as_bytes();
    let mut end = rest.len();
    for (n, b) in bytes.iter().enumerate() {
        let next = bytes.get(n + 1).copied().unwrap_or(b' ');
        let stop = match b {
            b'\n' => true,
            b'.' | b'!' | b'?' => {
                let before: &str = rest.get(..n).unwrap_or("");
                let word = before.rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
                let abbreviation =
                    matches!(word, "p" | "a" | "m" | "sq" | "ft" | "Mr" | "Mrs" | "Dr" | "St" | "vs" | "approx")
                        && *b == b'.';
                let choice = n <= 2 && word.len() == 1 && *b == b'.';
                let factorial = *b == b'!'
                    && before.ends_with(|c: char| c.is_ascii_digit() || c == ')')
                    && !next.is_ascii_whitespace();
                next.is_ascii_whitespace() && !abbreviation && !choice && !factorial && !before.ends_with("..")
            }
            _ => false,
        };
        if stop {
            end = n;
            break;
        }
    }
    let mut out = rest[..end].trim();
    out = out.strip_suffix('!').filter(|s| s.ends_with(|c: char| c.is_ascii_alphabetic())).unwrap_or(out);
    // "5, because ..." and "5 since ..."
    for cut in [" because ", " since ", ", which ", ", so ", ", as ", ", because", " (because"] {
        if let Some(at) = out.find(cut) {
            out = out[..at].trim_end_matches(',');
        }
    }
    out.trim()
}

trait Stop {
    fn is_empty_or_stop(&self) -> bool;
}

impl Stop for str {
    fn is_empty_or_stop(&self) -> bool {
        self.is_empty() || self.starts_with(['.', '\n', '!'])
    }
}

fn flexible(text: &str, mode: Mode) -> Option<Found> {
    let body = text.trim();
    if body.is_empty() {
        return None;
    }
    if mode == Mode::Choice {
        return choice_letter(body).map(|c| Found { text: c.to_string(), place: Place::Choice });
    }
    if let Some(found) = last_line_label(body) {
        return Some(found);
    }
    if mode == Mode::Any && body.len() <= SHORT && !body.contains('\n') && is_bare(body) {
        return Some(Found { text: body.to_string(), place: Place::Whole });
    }
    let tail = &body[floor_boundary(body, body.len().saturating_sub(REACH))..];
    if mode == Mode::Any
        && let Some(found) = last_formula(tail)
    {
        return Some(found);
    }
    last_number(tail)
        .map(|text| Found { text, place: Place::LastNumber })
        .or_else(|| (body.len() <= SHORT).then(|| Found { text: body.to_string(), place: Place::Whole }))
}

/// Is a short text an answer without a sentence around it?
fn is_bare(body: &str) -> bool {
    // "The point is $(1,2)$." has words before its formula
    let opening = ["$", "\\(", "\\["].into_iter().filter_map(|open| body.find(open)).min();
    if let Some(at) = opening {
        let words = |w: &&str| w.len() > 1 && w.bytes().all(|b| b.is_ascii_alphabetic());
        let before: Vec<&str> = body[..at].split(|c: char| !c.is_ascii_alphabetic()).filter(words).collect();
        if (before.len() >= 2 || before.iter().any(|w| w.len() >= 4)) && last_formula(body).is_some() {
            return false;
        }
    }
    match parse::parse(body) {
        Answer::Text(t) => {
            // notation that is not handled is no prose
            let s = body.as_bytes();
            let word = |n: usize| {
                (n == 0 || !(s[n - 1].is_ascii_alphabetic() || s[n - 1] == b'\\'))
                    && s[n..].iter().take_while(|b| b.is_ascii_alphabetic()).count() >= 2
            };
            let notation = body.contains('\\') && (0..s.len()).filter(|n| word(*n)).count() < 3;
            notation || t.split(' ').count() <= 3 || !body.bytes().any(|b| b.is_ascii_digit())
        }
        Answer::List(items) => !items.iter().any(|i| matches!(i, Answer::Text(t) if t.split(' ').count() > 3)),
        Answer::Relation(sides, _) => !sides.iter().any(|i| matches!(i, Answer::Text(t) if t.split(' ').count() > 6)),
        Answer::Value(_, Some(u)) => u.name().split(' ').count() <= 6,
        _ => true,
    }
}

/// The last `$...$` of the text if little follows it.
fn last_formula(tail: &str) -> Option<Found> {
    for (open, close) in [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")] {
        let Some(end) = tail.rfind(close) else { continue };
        let Some(start) = tail[..end].rfind(open) else { continue };
        let inner = tail[start + open.len()..end].trim();
        let after = &tail[end + close.len()..];
        let paired = close != "$" || tail.matches('$').count().is_multiple_of(2);
        if paired && !inner.is_empty() && after.len() <= 40 && !after.bytes().any(|b| b.is_ascii_digit()) {
            return Some(Found { text: inner.to_string(), place: Place::Formula });
        }
    }
    None
}

/// The last number with its sign, separators, fraction and percent sign.
fn last_number(tail: &str) -> Option<String> {
    let s = tail.as_bytes();
    let last = s.iter().rposition(u8::is_ascii_digit)?;
    let part = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'/');
    let mut start = last;
    while start > 0 && part(s[start - 1]) && last - start < 400 {
        start -= 1;
    }
    while start < last && matches!(s[start], b',' | b'/') || (s[start] == b'.' && !s[start + 1].is_ascii_digit()) {
        start += 1;
    }
    let mut out = String::new();
    let before = start.checked_sub(1).map_or(b' ', |b| s[b]);
    let minus_at = if before == b'$' { start.checked_sub(2) } else { start.checked_sub(1) };
    if let Some(at) = minus_at
        && s[at] == b'-'
        && at.checked_sub(1).is_none_or(|b| !s[b].is_ascii_alphanumeric() && s[b] != b')')
    {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&s[start..=last]).ok()?);
    if s.get(last + 1) == Some(&b'%') || s[last + 1..].starts_with(b"\\%") {
        out.push('%');
    }
    Some(out)
}

/// The last choice letter: alone, in brackets, after "option", in bold, with a dot or bracket behind it.
fn choice_letter(text: &str) -> Option<char> {
    if let Some((c, _)) = parse::choice(parse::unwrap(text)) {
        return Some(c);
    }
    let tail = &text[floor_boundary(text, text.len().saturating_sub(REACH))..];
    let s = tail.as_bytes();
    let at = |n: Option<usize>| n.and_then(|n| s.get(n)).copied().unwrap_or(b' ');
    for n in (0..s.len()).rev() {
        if !(b'A'..=b'J').contains(&s[n]) {
            continue;
        }
        let (before, after) = (at(n.checked_sub(1)), at(Some(n + 1)));
        let word = tail.get(..n).unwrap_or("").trim_end().to_ascii_lowercase();
        let named =
            word.ends_with("option") || word.ends_with("choice") || word.ends_with(" is") || word.ends_with(':');
        let bracketed = before == b'(' && after == b')';
        let bold = (before == b'*' || before == b'{') && matches!(after, b'*' | b'}' | b'.' | b')');
        let free = !before.is_ascii_alphanumeric() && !after.is_ascii_alphanumeric() && after != b'\'';
        if bracketed
            || bold
            || (free && named)
            || (free && s[n] != b'A' && s[n] != b'I' && (after == b')' || after == b'.'))
        {
            return Some(s[n] as char);
        }
    }
    None
}

fn clip(text: &str, most: usize) -> &str {
    &text[..floor_boundary(text, most.min(text.len()))]
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
