//! Where something is written, and errors that show the place:
//! ```text
//! error: `sft` has no key `stesp`
//!   at tiny.toml:12:1
//!      |
//!   12 | stesp = 120
//!      | ^^^^^
//!   help: did you mean `steps`? known: ...
//! ```

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use postgrad_base::Error;
use postgrad_tasks::task::nearest;
use unicode_width::UnicodeWidthStr;

/// A text that values come from: a recipe file, or one `--set`.
#[derive(Debug)]
pub(super) struct Source {
    pub name: String,
    pub text: String,
}

/// A place in a source, in bytes.
#[derive(Clone, Debug)]
pub struct Span {
    source: Arc<Source>,
    range: Range<usize>,
}

/// Columns of a line that are shown.
const WIDTH: usize = 100;

impl Span {
    pub(super) fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        Self { source: source.clone(), range }
    }

    pub(super) fn start(&self) -> usize {
        self.range.start
    }

    /// The text as it is written.
    pub(super) fn written(&self) -> &str {
        self.source.text.get(self.range.clone()).unwrap_or_default()
    }

    /// A part of a plain string that this is the place of; the whole where the string has escapes.
    pub(super) fn inside(&self, value: &str, part: Range<usize>) -> Span {
        let written = self.written();
        let plain = written.len() == value.len() + 2 && written.get(1..written.len() - 1) == Some(value);
        if !plain || part.start > part.end || part.end > value.len() {
            return self.clone();
        }
        let at = self.range.start + 1;
        Self { source: self.source.clone(), range: at + part.start..at + part.end }
    }

    /// Line and column, from 1; columns are characters.
    pub fn line_column(&self) -> (usize, usize) {
        let before = &self.source.text[..self.floor(self.range.start)];
        let line = before.matches('\n').count() + 1;
        (line, before[before.rfind('\n').map_or(0, |n| n + 1)..].chars().count() + 1)
    }

    /// `file:line`, for a mention.
    pub(super) fn line(&self) -> String {
        format!("{}:{}", self.source.name, self.line_column().0)
    }

    /// Adds this place to an error.
    pub fn locate(&self, error: Error) -> Error {
        error.at(self.shown())
    }

    /// A wrong configuration, here.
    pub(super) fn fault(&self, what: impl Into<String>) -> Error {
        self.locate(Error::usage(what))
    }

    fn floor(&self, at: usize) -> usize {
        let text = &self.source.text;
        (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
    }

    /// `file:line:column`, and the line with a pointer under the span (its part on the first line).
    fn shown(&self) -> String {
        let text = &self.source.text;
        let (start, end) = (self.floor(self.range.start), self.floor(self.range.end.max(self.range.start)));
        let from = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let to = text[start..].find('\n').map_or(text.len(), |n| start + n);
        let (line, column) = self.line_column();
        let before = shown(&text[from..start]);
        let marked = shown(&text[start..end.min(to).max(start)]);
        let after = shown(&text[end.min(to).max(start)..to]);
        // A long line is cut so that the pointer stays in sight.
        let cut: usize = before.chars().count().saturating_sub(WIDTH / 2);
        let cut = if before.chars().count() + marked.chars().count() < WIDTH { 0 } else { cut };
        let before: String = before.chars().skip(cut).collect();
        let dots = if cut > 0 { "..." } else { "" };
        let content: String = format!("{dots}{before}{marked}{after}").chars().take(WIDTH + 3).collect();
        let indent = dots.len() + before.width();
        let pointer = "^".repeat(marked.width().clamp(1, (WIDTH + 3).saturating_sub(indent).max(1)));
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let mut out = format!("{}:{line}:{column}", self.source.name);
        let _ = write!(out, "\n  {gutter} |\n  {number} | {}", content.trim_end());
        let _ = write!(out, "\n  {gutter} | {}{pointer}", " ".repeat(indent));
        out
    }
}

/// Text as a terminal may see it: a blank for every control character.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An error about a name, with the nearest known one and the list of those known.
pub(super) fn unknown(what: String, name: &str, known: &[&str]) -> Error {
    let error = Error::usage(what);
    let list = if known.is_empty() { String::new() } else { format!("known: {}", known.join(", ")) };
    match nearest(name, known) {
        Some(near) => error.help(format!("did you mean `{near}`? {list}")),
        None if !list.is_empty() => error.help(list),
        None => error,
    }
}
