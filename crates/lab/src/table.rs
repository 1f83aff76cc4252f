//! Tables for the terminal and for pages. A figure carries its interval and n with it.
//!
//! ```
//! use postgrad_lab::{Cell, Table};
//! let mut table = Table::new(&["set", "accuracy"]);
//! table.row([Cell::text("chain"), Cell::percent(&postgrad_numerics::wilson(81, 263, 0.95))]);
//! assert!(table.to_text(None).ends_with("chain  30.8% [25.5, 36.6]  n 263\n"));
//! ```

use postgrad_numerics::Estimate;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

/// How a cell speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
}

/// One cell: its text, and for a figure its interval and n.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cell {
    pub text: String,
    /// `[25.5, 36.6]`
    pub interval: Option<String>,
    pub n: Option<usize>,
    pub tone: Tone,
    /// Figures stand to the right.
    pub figure: bool,
    /// On pages: a file beside the page (or below it) that the text leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// What was not measured.
    pub fn none() -> Self {
        Self { text: "–".into(), figure: true, ..Self::default() }
    }

    /// A plain number with `digits` after the point.
    pub fn number(x: f64, digits: usize) -> Self {
        Self { text: fixed(x, digits), figure: true, ..Self::default() }
    }

    /// A count, with separators from 10,000 on.
    pub fn count(n: u64) -> Self {
        Self { text: grouped(n), figure: true, ..Self::default() }
    }

    /// A value with its interval.
    pub fn estimate(e: &Estimate, digits: usize) -> Self {
        Self::with_interval(e, |x| fixed(x, digits), "")
    }

    /// A share as per cent with its interval.
    pub fn percent(e: &Estimate) -> Self {
        Self::with_interval(e, |x| fixed(100.0 * x, 1), "%")
    }

    /// A difference with its sign; `percent` shows points. An interval that leaves out 0 is good or bad news, by
    /// `more_is_better`.
    pub fn difference(e: &Estimate, percent: bool, digits: usize, more_is_better: bool) -> Self {
        let (scale, digits) = if percent { (100.0, 1) } else { (1.0, digits) };
        let signed = |x: f64| {
            let text = fixed(scale * x, digits);
            if x > 0.0 && text.contains(|c: char| ('1'..='9').contains(&c)) { format!("+{text}") } else { text }
        };
        let cell = Self::with_interval(e, signed, "");
        let tone = match (cell.interval.is_some(), e.low > 0.0, e.high < 0.0) {
            (true, true, _) => [Tone::Bad, Tone::Good][usize::from(more_is_better)],
            (true, _, true) => [Tone::Good, Tone::Bad][usize::from(more_is_better)],
            _ => Tone::Plain,
        };
        cell.tone(tone)
    }

    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    fn with_interval(e: &Estimate, show: impl Fn(f64) -> String, unit: &str) -> Self {
        if e.value.is_nan() {
            return Self { n: Some(e.n), ..Self::none() };
        }
        let known = e.low.is_finite() && e.high.is_finite();
        Self {
            text: format!("{}{unit}", show(e.value)),
            interval: known.then(|| format!("[{}, {}]", show(e.low), show(e.high))),
            n: Some(e.n),
            tone: Tone::Plain,
            figure: true,
            link: None,
        }
    }

    /// The cell on one line.
    pub fn plain(&self) -> String {
        let mut out = one_line(&self.text);
        if let Some(interval) = &self.interval {
            out = format!("{out} {interval}");
        }
        if let Some(n) = self.n {
            out = format!("{out}  n {}", grouped(n as u64));
        }
        out
    }
}

/// Columns, rows and notes below.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    pub notes: Vec<String>,
}

impl Table {
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|c| c.to_string()).collect(), ..Self::default() }
    }

    /// Adds a row. Missing cells are empty; those beyond the columns are not shown.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> &mut Self {
        self.rows.push(cells.into_iter().collect());
        self
    }

    pub fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.notes.push(note.into());
        self
    }

    /// Whether a column holds figures (and no text), so that it stands to the right.
    pub fn is_figure(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|r| r.get(column)).peekable();
        cells.peek().is_some() && cells.all(|c| c.figure || c.text.is_empty())
    }

    /// The table in aligned lines; texts are cut where the table is wider than `width`. What comes from outside cannot
    /// move the cursor: control characters are replaced.
    pub fn to_text(&self, width: Option<usize>) -> String {
        let mut out = String::new();
        for line in self.lines(width) {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        for note in &self.notes {
            out.push_str(&one_line(note));
            out.push('\n');
        }
        out
    }

    /// The table in Markdown, its notes below.
    pub fn to_markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let safe = |s: &str| one_line(s).replace('|', "\\|");
        let mut out = line(self.columns.iter().map(|c| safe(c)).collect());
        let rule = (0..self.columns.len()).map(|c| if self.is_figure(c) { "--:" } else { "---" }.to_string());
        out.push_str(&line(rule.collect()));
        for row in &self.rows {
            let cells = (0..self.columns.len()).map(|c| row.get(c).map(|x| safe(&x.plain())).unwrap_or_default());
            out.push_str(&line(cells.collect()));
        }
        for note in &self.notes {
            out.push_str(&format!("\n{}\n", one_line(note)));
        }
        out
    }

    /// Rows as columns: the first column's texts become the heads.
    pub fn turned(&self) -> Self {
        let first = |r: &Vec<Cell>| r.first().map(Cell::plain).unwrap_or_default();
        let heads = self.columns.first().cloned().into_iter().chain(self.rows.iter().map(first));
        let row = |c: usize| {
            let cells = self.rows.iter().map(|r| r.get(c).cloned().unwrap_or_default());
            std::iter::once(Cell::text(&self.columns[c])).chain(cells).collect()
        };
        Self { columns: heads.collect(), rows: (1..self.columns.len()).map(row).collect(), notes: self.notes.clone() }
    }

    /// Head, rule and rows, all equally wide.
    fn lines(&self, width: Option<usize>) -> Vec<String> {
        let count = self.columns.len();
        let cell = |row: &Vec<Cell>, c: usize| row.get(c).map(Cell::plain).unwrap_or_default();
        let mut grid: Vec<Vec<String>> = vec![self.columns.iter().map(|c| one_line(c)).collect()];
        grid.extend(self.rows.iter().map(|row| (0..count).map(|c| cell(row, c)).collect()));
        let mut widths: Vec<usize> =
            (0..count).map(|c| grid.iter().map(|row| row[c].width()).max().unwrap_or(0)).collect();
        if let Some(width) = width {
            self.narrow(&mut widths, width);
        }
        let show = |row: &Vec<String>| {
            let cells = (0..count).map(|c| {
                let text = cut(&row[c], widths[c]);
                let space = " ".repeat(widths[c].saturating_sub(text.width()));
                if self.is_figure(c) { space + &text } else { text + &space }
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        let mut lines: Vec<String> = grid.iter().map(show).collect();
        lines.insert(1, widths.iter().map(|w| "─".repeat(*w)).collect::<Vec<_>>().join("  "));
        lines
    }

    /// Takes width from the widest column of text until the table fits, down to 8 places each.
    fn narrow(&self, widths: &mut [usize], limit: usize) {
        let gaps = 2 * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > limit {
            let texts = (0..widths.len()).filter(|c| !self.is_figure(*c) && widths[*c] > 8);
            match texts.max_by_key(|c| widths[*c]) {
                Some(c) => widths[c] -= 1,
                None => break,
            }
        }
    }
}

/// Text on one line, without characters that steer a terminal or turn the line around.
pub fn one_line(text: &str) -> String {
    let show = |c: char| match c {
        '\n' => '⏎',
        '\t' => ' ',
        c if hidden(c) => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(show).collect()
}

/// Control characters and those that override the direction of text.
pub(crate) fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// The longest beginning of `text` that fits, with an ellipsis where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let ends = text.char_indices().map(|(i, _)| i).collect::<Vec<_>>();
    let fits = ends.iter().rev().map(|i| format!("{}…", &text[..*i])).find(|t| t.width() <= width);
    fits.unwrap_or_default()
}

/// A number with `digits` after the point; what is not finite by name, the very large and very small by powers of ten.
pub fn fixed(x: f64, digits: usize) -> String {
    if x.is_nan() {
        "NaN".into()
    } else if x.is_infinite() {
        if x > 0.0 { "∞".into() } else { "-∞".into() }
    } else if x.abs() >= 1e9 || (x != 0.0 && x.abs() < 0.5 * 10f64.powi(-(digits as i32)) && digits >= 3) {
        format!("{x:.2e}")
    } else {
        let text = format!("{x:.digits$}");
        // Rounding leaves "-0.0".
        if x < 0.0 && !text.contains(|c: char| ('1'..='9').contains(&c)) { text[1..].into() } else { text }
    }
}

/// A count with separators from 10,000 on.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_are_written_as_people_do() {
        assert_eq!(
            (grouped(9999), grouped(10_000), grouped(1_234_567)),
            ("9999".into(), "10,000".into(), "1,234,567".into())
        );
        assert_eq!((fixed(-0.001, 1), fixed(2e-5, 4), fixed(0.0, 3)), ("0.0".into(), "2.00e-5".into(), "0.000".into()));
        assert_eq!(fixed(f64::NEG_INFINITY, 2), "-∞");
        let e = Estimate { value: -0.031, low: -0.05, high: -0.012, n: 12_345 };
        let cell = Cell::difference(&e, true, 0, true);
        assert_eq!((cell.plain().as_str(), cell.tone), ("-3.1 [-5.0, -1.2]  n 12,345", Tone::Bad));
        assert_eq!(Cell::difference(&e, false, 2, false).tone, Tone::Good);
        let unknown = Estimate { value: 0.5, low: f64::NEG_INFINITY, high: f64::INFINITY, n: 1 };
        assert_eq!(Cell::difference(&unknown, true, 0, true).plain(), "+50.0  n 1");
        assert_eq!(Cell::percent(&postgrad_numerics::wilson(0, 0, 0.95)).plain(), "–  n 0");
    }

    #[test]
    fn text_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\u{1b}[31mb\r\nc\td\u{202e}e"), "a\u{fffd}[31mb⏎c d\u{fffd}e");
    }

    #[test]
    fn ragged_and_empty_tables_are_shown() {
        let mut t = Table::new(&["a", "b"]);
        assert_eq!(t.to_text(None), "a  b\n─  ─\n");
        t.row([Cell::text("x")]).row([Cell::text("y"), Cell::count(3), Cell::text("beyond")]);
        t.note("a note");
        assert_eq!(t.to_text(None), "a  b\n─  ─\nx\ny  3\na note\n");
        assert_eq!(Table::default().to_text(Some(3)), "\n\n");
        assert_eq!(t.to_markdown(), "| a | b |\n| --- | --: |\n| x |  |\n| y | 3 |\n\na note\n");
        t.rows[0] = vec![Cell::text("x|"), Cell::count(2)];
        assert_eq!(t.turned().to_text(None), "a  x|  y\n─  ──  ─\nb   2  3\na note\n");
        assert!(t.to_markdown().contains("| --- | --: |\n| x\\| | 2 |\n"));
    }

    proptest! {
        #[test]
        fn every_line_is_equally_wide(
            head in proptest::collection::vec("\\PC{0,12}", 1..5),
            rows in proptest::collection::vec(proptest::collection::vec((any::<String>(), any::<bool>(), any::<f64>()), 0..6), 0..6),
            limit in proptest::option::of(0usize..100),
        ) {
            let mut table = Table { columns: head, ..Table::default() };
            for row in rows {
                let cell = |(text, figure, x): (String, bool, f64)| if figure { Cell::number(x, 3) } else { Cell::text(text) };
                table.row(row.into_iter().map(cell));
            }
            let lines = table.lines(limit);
            prop_assert_eq!(lines.len(), table.rows.len() + 2);
            for line in &lines {
                prop_assert_eq!(line.width(), lines[1].width(), "{:?}", lines);
                let steered = line.contains(['\n', '\r', '\u{1b}']);
                prop_assert!(!steered);
            }
        }
    }
}
