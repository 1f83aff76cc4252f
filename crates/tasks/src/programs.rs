//! Answers that are programs: what a text in one of three formats comes to.
//!
//! A format is looked for in this order, as in the reward of Zhao et al. 2025 (Echo Chamber): `<code>` tags around an
//! expression, with statements before it; a function of the mini-language ([`crate::lang`]), of which the last is called
//! without arguments; else the text is no program. Programs run within small limits, in this process: the language has no
//! input, no time and no files.
//! ```
//! use postgrad_tasks::programs::{Format, value};
//! assert_eq!(Format::of("fn f() { let x = 6 + 2; return x + 1; }"), Format::Function);
//! assert_eq!(value("fn f() { let x = 6 + 2; return x + 1; }"), Some(9));
//! assert_eq!(value("so <code>let x = 6 + 2; x + 1</code>"), Some(9));
//! assert_eq!(value("8+1=9"), None);
//! ```

use serde::{Deserialize, Serialize};

use crate::lang::{self, Limits, Watch};

const OPEN: &str = "<code>";
const CLOSE: &str = "</code>";
/// Enough for an answer, little for a loop that never ends.
const LIMITS: Limits = Limits { steps: 20_000, cells: 20_000, calls: 20, output: 0, trace: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Tagged,
    Function,
    Text,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Function, Self::Tagged, Self::Text];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tagged => "tagged",
            Self::Function => "function",
            Self::Text => "text",
        }
    }

    /// The format of a text, whether or not its program runs.
    pub fn of(text: &str) -> Self {
        if text.contains(OPEN) {
            Self::Tagged
        } else if text.starts_with("fn ") || text.contains(" fn ") || text.contains("\nfn ") {
            Self::Function
        } else {
            Self::Text
        }
    }
}

/// The whole number that the program in a text comes to; none where there is no program, or it fails.
pub fn value(text: &str) -> Option<i64> {
    let source = match Format::of(text) {
        Format::Text => return None,
        Format::Tagged => {
            let (_, after) = text.split_once(OPEN)?;
            let (block, _) = after.split_once(CLOSE)?;
            let (before, last) = block.trim().trim_end_matches(';').rsplit_once(';').unwrap_or(("", block.trim()));
            let before = if before.is_empty() { String::new() } else { format!("{before};") };
            format!("fn block() {{ {before} return {}; }}", last.trim().trim_end_matches(';'))
        }
        Format::Function => function(&text[text.rfind("fn ")?..])?.to_string(),
    };
    let program = lang::parse(&source).ok()?;
    let compiled = lang::compile(&program).ok()?;
    let (name, _) = compiled.functions().last().map(|(name, n)| (name.to_string(), n))?;
    compiled.call(&name, &[], &LIMITS, Watch::NOTHING).result.ok()?.as_int()
}

/// From `fn` to the brace that closes it.
fn function(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(&text[..=i]),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_format_is_found_in_its_order_and_run() {
        for (text, format, want) in [
            ("fn f() { return 2 + 3; }", Format::Function, Some(5)),
            ("I think fn g() { return 1; } and then fn f() { return 2; } is it", Format::Function, Some(2)),
            ("fn f() { if 1 < 2 { return 7; } return 8; } #### 9", Format::Function, Some(7)),
            ("<code>2 + 3</code>", Format::Tagged, Some(5)),
            ("<code>let a = 2; let b = a * 4; b - 1;</code> fn f() { return 0; }", Format::Tagged, Some(7)),
            // Wrong ones of each.
            ("fn f() { return 2 + ; }", Format::Function, None),
            ("fn f(x) { return x; }", Format::Function, None),
            ("fn f() { while true { } return 1; }", Format::Function, None),
            ("fn f() { return 1 / 0; }", Format::Function, None),
            ("fn f() { return \"five\"; }", Format::Function, None),
            ("fn f() { return 2", Format::Function, None),
            ("<code>2 + 3", Format::Tagged, None),
            ("<code></code>", Format::Tagged, None),
            ("2+3=5\n#### 5", Format::Text, None),
            ("", Format::Text, None),
        ] {
            assert_eq!((Format::of(text), value(text)), (format, want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(<code>|</code>|fn |f\\(\\) |[{}();=+*0-9 a-z]|return ){0,60}") {
            value(&text);
        }
    }
}
