//! A tokeniser that knows enough of SQL to find statements' ends and a top-level ORDER BY: strings, quoted names,
//! comments and brackets.

/// One token with the number of brackets open around it.
struct Token<'a> {
    text: &'a str,
    level: i32,
    start: usize,
}

fn scan(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let mut out = vec![];
    let mut level = 0;
    let mut at = 0;
    // the end of a quoted piece whose closing sign is doubled to stand for itself
    let quoted = |start: usize, close: u8| {
        let mut i = start + 1;
        while i < bytes.len() {
            if bytes[i] == close {
                if bytes.get(i + 1) != Some(&close) || close == b']' {
                    return i + 1;
                }
                i += 1;
            }
            i += 1;
        }
        bytes.len()
    };
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at += bytes[at..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = sql[at + 2..].find("*/").map_or(bytes.len(), |i| at + 2 + i + 2);
                continue;
            }
            b'\'' => at = quoted(at, b'\''),
            b'"' => at = quoted(at, b'"'),
            b'`' => at = quoted(at, b'`'),
            b'[' => at = quoted(at, b']'),
            b'(' => {
                out.push(Token { text: "(", level, start });
                level += 1;
                at += 1;
                continue;
            }
            b')' => {
                level -= 1;
                at += 1;
            }
            b if b.is_ascii_alphanumeric() || b == b'_' || b >= 128 => {
                while bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 128) {
                    at += 1;
                }
            }
            _ => at += 1,
        }
        out.push(Token { text: &sql[start..at], level, start });
    }
    out
}

/// Is the result's order asked for: an ORDER BY outside all brackets? One in a subquery, a window or a string is none.
pub fn has_order_by(sql: &str) -> bool {
    let tokens = scan(sql);
    tokens.windows(2).any(|w| {
        w[0].level == 0
            && w[1].level == 0
            && w[0].text.eq_ignore_ascii_case("order")
            && w[1].text.eq_ignore_ascii_case("by")
    })
}

/// The statements of a text, without their semicolons; empty ones are left out.
pub fn statements(sql: &str) -> Vec<&str> {
    let tokens = scan(sql);
    let mut out = vec![];
    let mut start: Option<usize> = None;
    let mut end = 0;
    for t in &tokens {
        if t.text == ";" {
            out.extend(start.take().map(|s| &sql[s..end]));
        } else {
            start.get_or_insert(t.start);
            end = t.start + t.text.len();
        }
    }
    out.extend(start.map(|s| &sql[s..end]));
    out
}
