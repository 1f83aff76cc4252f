//! Answers in words: a normal form that ignores case, articles, punctuation and spacing, and numbers spelled out.

/// The normal form: LaTeX's text commands dropped, lower case, no articles, no punctuation inside words, single spaces.
pub fn normal(raw: &str) -> String {
    let mut plain = String::with_capacity(raw.len());
    let mut rest = raw;
    // drop \text and its kind, keep what they hold
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let name: usize = rest[at + 1..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let command = &rest[at + 1..at + 1 + name];
        let dress = matches!(
            command,
            "text"
                | "textbf"
                | "textit"
                | "textrm"
                | "mathrm"
                | "mathbf"
                | "mbox"
                | "operatorname"
                | "left"
                | "right"
                | "quad"
                | "displaystyle"
        );
        if name == 0 {
            plain.push(' ');
        } else if !dress {
            plain.push_str(command);
        }
        rest = &rest[at + 1 + name..];
    }
    plain.push_str(rest);
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut flush = |word: &mut String| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    let mut previous = ' ';
    let mut chars = plain.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        } else if matches!(c, '.' | ',') && previous.is_ascii_digit() && chars.peek().is_some_and(char::is_ascii_digit)
        {
            // 1,234 is one number, (0,1) is not
            let group = chars.clone().take(4).map(|d| d.is_ascii_digit()).collect::<Vec<_>>();
            match c {
                '.' => word.push(c),
                _ if group.starts_with(&[true, true, true]) && group.get(3) != Some(&true) => {}
                _ => flush(&mut word),
            }
        } else if matches!(c, '\'' | '’' | '.' | '`') {
            // U.S. and don't are one word each
        } else if matches!(c, '+' | '=' | '<' | '>' | '^' | '_' | '/' | '*' | '%') {
            flush(&mut word);
            word.push(c);
            flush(&mut word);
        } else {
            flush(&mut word);
            if c == '-' && chars.peek().is_some_and(char::is_ascii_digit) && !previous.is_alphanumeric() {
                word.push('-');
            }
        }
        previous = c;
    }
    flush(&mut word);
    // an article is dropped before another word only: "type A" keeps its letter
    let last = words.len().saturating_sub(1);
    let article = |w: &str| matches!(w, "a" | "an" | "the");
    let kept: Vec<&str> =
        words.iter().enumerate().filter(|(n, w)| *n == last || !article(w)).map(|(_, w)| w.as_str()).collect();
    let out = kept.join(" ");
    if out.is_empty() {
        // only signs: compare them as they are
        return plain.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    }
    out
}

/// Whether a text says an answer: the words of the answer's normal form stand in the text's, side by side and whole. Knowing
/// "ton" is not read out of "Boston". An answer without any word is in no text.
pub fn contains(text: &str, answer: &str) -> bool {
    let (text, answer) = (normal(text), normal(answer));
    let (words, wanted): (Vec<&str>, Vec<&str>) = (text.split(' ').collect(), answer.split(' ').collect());
    !answer.is_empty() && words.windows(wanted.len()).any(|w| w == wanted)
}

/// The canonical words of a date: month, day, year if it is there.
pub fn date(words: &str) -> Option<String> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let (mut month, mut day, mut year) = (None, None, None);
    let mut count = 0;
    for word in words.split(' ') {
        count += 1;
        if let Some(name) = MONTHS.iter().find(|m| **m == word || (word.len() == 3 && m.starts_with(word))) {
            month = month.or(Some(*name));
            continue;
        }
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &word[digits.len()..];
        match digits.parse::<u32>() {
            Ok(d) if (1..=31).contains(&d) && matches!(suffix, "" | "st" | "nd" | "rd" | "th") && day.is_none() => {
                day = Some(d)
            }
            Ok(y) if (1000..=9999).contains(&y) && suffix.is_empty() && year.is_none() => year = Some(y),
            _ if word == "of" => count -= 1,
            _ => return None,
        }
    }
    let parts = 1 + usize::from(day.is_some()) + usize::from(year.is_some());
    let (month, day) = (month?, day?);
    (count == parts).then(|| match year {
        Some(y) => format!("{month} {day} {y}"),
        None => format!("{month} {day}"),
    })
}

/// `3 pm`, `3:00 p.m.` as `3:00 pm`.
pub fn clock(words: &str) -> Option<String> {
    let time = words.strip_suffix("am").or_else(|| words.strip_suffix("pm"))?;
    let half = &words[time.len()..];
    let (h, m) = match time.trim().split_once([':', ' ']) {
        Some((h, m)) => (h, m),
        None => (time.trim(), "00"),
    };
    let digits = |s: &str| (1..=2).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    (digits(h) && digits(m) && m.len() == 2).then(|| format!("{}:{m} {half}", h.trim_start_matches('0')))
}

/// One bare word that is no product of symbols: "cat", "AB", "Yes".
pub fn is_one_word(s: &str) -> bool {
    if s.len() < 2 || !s.bytes().all(|b| b.is_ascii_alphabetic()) {
        return false;
    }
    if matches!(s, "pi" | "inf" | "oo" | "infinity" | "ln" | "Pi") {
        return false;
    }
    let products = s.bytes().all(|b| matches!(b, b'x' | b'y' | b'z'))
        || (s.len() == 2
            && s.bytes().all(|b| b.is_ascii_lowercase())
            && !matches!(s, "no" | "up" | "am" | "pm" | "it" | "is" | "on" | "in" | "he" | "me" | "we" | "us"));
    !products
}

/// The number that `words` (already normalised) spell, and a word left after it: "twenty one", "three hundred and five", "five apples".
pub fn number_words(words: &str) -> Option<(i64, Option<&str>)> {
    let mut total = 0i64;
    let mut current = 0i64;
    let mut seen = false;
    let mut last = None;
    for word in words.split(' ') {
        if last.is_some() {
            return None;
        }
        let small = match word {
            "zero" => 0,
            "one" => 1,
            "two" => 2,
            "three" => 3,
            "four" => 4,
            "five" => 5,
            "six" => 6,
            "seven" => 7,
            "eight" => 8,
            "nine" => 9,
            "ten" => 10,
            "eleven" => 11,
            "twelve" => 12,
            "thirteen" => 13,
            "fourteen" => 14,
            "fifteen" => 15,
            "sixteen" => 16,
            "seventeen" => 17,
            "eighteen" => 18,
            "nineteen" => 19,
            "twenty" => 20,
            "thirty" => 30,
            "forty" => 40,
            "fifty" => 50,
            "sixty" => 60,
            "seventy" => 70,
            "eighty" => 80,
            "ninety" => 90,
            "hundred" if seen && current < 100 => {
                current *= 100;
                continue;
            }
            "thousand" | "million" | "billion" if seen && current < 1000 => {
                total += current
                    * if word == "thousand" {
                        1000
                    } else if word == "million" {
                        1_000_000
                    } else {
                        1_000_000_000
                    };
                current = 0;
                continue;
            }
            "and" if seen => continue,
            other if seen && other.bytes().all(|b| b.is_ascii_alphabetic()) => {
                last = Some(other);
                continue;
            }
            _ => return None,
        };
        // "two three" is no number; "twenty three" is
        if seen && current % 100 != 0 && !(current % 100 >= 20 && current % 10 == 0 && small < 10) {
            return None;
        }
        current += small;
        seen = true;
    }
    (seen && total < i64::MAX / 2).then_some((total + current, last))
}
