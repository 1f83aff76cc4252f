//! Final answers that are numbers: where they stand in a response, and when two are the same.
//!
//! Strict reading takes what follows `####`. Lenient reading also takes `answer is n`, `answer: n` and, failing that, the
//! last number of the text. Left out on purpose: fractions, units, LaTeX (see the answers engine).

/// The number at the start of `text`, blanks and a currency sign skipped: its sign, digits, commas between digits and
/// decimals, with the commas left out; and the length read.
pub fn leading(text: &str) -> Option<(String, usize)> {
    let rest = text.trim_start_matches([' ', '\t', '$', ':']);
    let skipped = text.len() - rest.len();
    let (sign, body) = match rest.strip_prefix('-') {
        Some(body) => ("-", body.strip_prefix('$').unwrap_or(body)),
        None => ("", rest),
    };
    let bytes = body.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let mut out = sign.to_string();
    let mut i = 0;
    let mut point = false;
    while i < bytes.len() {
        match bytes[i] {
            c if c.is_ascii_digit() => out.push(c as char),
            b',' if !point && i > 0 && digit(i + 1) && digit(i + 2) && digit(i + 3) && !digit(i + 4) => {}
            b'.' if !point && digit(i + 1) => {
                point = true;
                out.push('.');
            }
            _ => break,
        }
        i += 1;
    }
    let read = skipped + (rest.len() - body.len()) + i;
    out.bytes().any(|b| b.is_ascii_digit()).then_some((out, read))
}

/// The number after the last `####`.
pub fn strict(text: &str) -> Option<String> {
    let at = text.rfind("####")?;
    leading(text[at + 4..].trim_start_matches('\n')).map(|n| n.0)
}

/// The strict answer, else the number after the last `answer is`, `answer:` or `answer =`, else the last number.
pub fn flexible(text: &str) -> Option<String> {
    strict(text).or_else(|| stated(text)).or_else(|| last(text))
}

fn stated(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let found = ["answer is", "answer:", "answer ="].iter().filter_map(|m| lower.rfind(m).map(|at| at + m.len()));
    leading(text[found.max()?..].trim_start_matches(['*', ' '])).map(|n| n.0)
}

/// The last number of the text.
pub fn last(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let mut start = end;
    while start > 0 && (bytes[start - 1].is_ascii_digit() || matches!(bytes[start - 1], b',' | b'.')) {
        start -= 1;
    }
    while start < end && !bytes[start].is_ascii_digit() {
        start += 1;
    }
    // A list such as `1,2` is not one number: read from the front of the run and keep the last that is.
    let mut number = None;
    while start < end {
        let (n, read) = leading(&text[start..end])?;
        let negative = number.is_none() && is_sign(bytes, start);
        number = Some(if negative { format!("-{n}") } else { n });
        start += read.max(1);
        while start < end && !bytes[start].is_ascii_digit() {
            start += 1;
        }
        end = end.max(start);
    }
    number
}

/// A minus stands before `at` that does not follow an operand.
fn is_sign(bytes: &[u8], at: usize) -> bool {
    at > 0 && bytes[at - 1] == b'-' && (at == 1 || !(bytes[at - 2].is_ascii_alphanumeric() || bytes[at - 2] == b')'))
}

/// One spelling for each number: no leading zeros, no trailing zeros after the point, no `-0`.
pub fn canonical(number: &str) -> String {
    let (sign, body) = number.strip_prefix('-').map_or(("", number), |b| ("-", b));
    let (whole, part) = body.split_once('.').unwrap_or((body, ""));
    let whole = whole.trim_start_matches('0');
    let part = part.trim_end_matches('0');
    match (whole, part) {
        ("", "") => "0".into(),
        (w, "") => format!("{sign}{w}"),
        (w, p) => format!("{sign}{}.{p}", if w.is_empty() { "0" } else { w }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_found() {
        assert_eq!(strict("x\n#### 1,234.50 dollars").as_deref(), Some("1234.50"));
        assert_eq!(strict("#### 1\n#### -$7.").as_deref(), Some("-7"));
        assert_eq!(strict("The answer is 7"), None);
        assert_eq!(strict("#### seven"), None);
        assert_eq!(flexible("The answer is 7. Not 8.").as_deref(), Some("7"));
        assert_eq!(flexible("so Answer: **12** of 13").as_deref(), Some("12"));
        assert_eq!(flexible("first 3, then 4.").as_deref(), Some("4"));
        assert_eq!(flexible("3-4").as_deref(), Some("4"));
        assert_eq!(flexible("it is -4").as_deref(), Some("-4"));
        assert_eq!(flexible("1,2").as_deref(), Some("2"));
        assert_eq!(flexible("pays $12,000").as_deref(), Some("12000"));
        assert_eq!(flexible("none"), None);
    }

    #[test]
    fn numbers_have_one_spelling() {
        for (a, b) in [("007", "7"), ("3.0", "3"), ("-0", "0"), ("0.50", "0.5"), (".5", "0.5"), ("-0.10", "-0.1")] {
            assert_eq!(canonical(a), b);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[-0-9,.$#: a\u{e9}\n]{0,60}|\\PC{0,60}") {
            let found = flexible(&text);
            prop_assert_eq!(found.is_some(), text.bytes().any(|b| b.is_ascii_digit()));
        }
    }
}
