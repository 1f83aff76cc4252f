//! Self-contained HTML pages: a title, what came out in a few lines, warnings at the top, then sections of tables, plots,
//! examples, settings and commands. No scripts, nothing from outside; light and dark follow the reader's system.
//!
//! ```
//! use postgrad_lab::{Part, Report, Section};
//! let mut report = Report::new("sft-1");
//! report.summary.push("seed-1m tuned on chain: 31.0% -> 58.2%".into());
//! report.sections.push(Section::new("Next", vec![Part::Code(vec!["postgrad runs show sft-1".into()])]));
//! assert!(report.to_html().starts_with("<!DOCTYPE html>"));
//! ```
//!
//! Everything that is said may come from a model or a data set: it is escaped, control and direction characters are
//! replaced, and the page's own policy forbids scripts and every request.

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use postgrad_base::Result;

use crate::plot::{DotPlot, IntervalPlot, LinePlot};
use crate::table::{Cell, Table, Tone, grouped, hidden};

const STYLE: &str = include_str!("report.css");
/// Characters of an example's text that a page holds at most.
const LONGEST: usize = 6_000;

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub title: String,
    /// What came out, a line each, the most important first.
    pub summary: Vec<String>,
    /// What the reader must know before believing the figures.
    pub warnings: Vec<String>,
    pub sections: Vec<Section>,
    /// A last quiet line: program, version, date.
    pub footer: String,
}

#[derive(Clone, Debug, Default)]
pub struct Section {
    pub title: String,
    pub parts: Vec<Part>,
}

/// What a section is made of.
#[derive(Clone, Debug)]
pub enum Part {
    /// Names and values.
    KeyValues(Vec<(String, String)>),
    Table(Table),
    Lines(LinePlot),
    Intervals(IntervalPlot),
    Dots(DotPlot),
    Examples(Vec<Example>),
    /// Prompts that more than two answered.
    Answers(Vec<Answers>),
    /// A paragraph.
    Text(String),
    /// Commands to copy, one an entry.
    Code(Vec<String>),
}

/// One prompt and what was answered to it.
#[derive(Clone, Debug, Default)]
pub struct Example {
    pub prompt: String,
    pub before: Option<Answer>,
    pub after: Option<Answer>,
    /// The right answer, where there is one.
    pub gold: Option<String>,
}

/// One prompt and what several (arms, models) answered to it.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub prompt: String,
    pub gold: Option<String>,
    pub answers: Vec<Answer>,
}

#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Shown above it: `before`, `step 500`, a model's name.
    pub label: String,
    pub text: String,
    /// Whether a verifier took it.
    pub right: Option<bool>,
}

impl Section {
    pub fn new(title: impl Into<String>, parts: Vec<Part>) -> Self {
        Self { title: title.into(), parts }
    }
}

impl Report {
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// The whole page.
    pub fn to_html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (clean(&self.title)) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        header {
                            h1 { (clean(&self.title)) }
                            div.summary { @for line in &self.summary { p { (clean(line)) } } }
                        }
                        @if !self.warnings.is_empty() {
                            section.warnings {
                                h2 { @if self.warnings.len() == 1 { "Warning" } @else { (self.warnings.len()) " warnings" } }
                                ul { @for warning in &self.warnings { li { (clean(warning)) } } }
                            }
                        }
                        @for section in &self.sections {
                            section {
                                h2 { (clean(&section.title)) }
                                @for part in &section.parts { (part.render()) }
                            }
                        }
                        @if !self.footer.is_empty() { footer { p { (clean(&self.footer)) } } }
                    }
                }
            }
        };
        // Plots' words do not pass through `clean`.
        let page = page.into_string();
        if page.contains(|c| hidden(c) && c != '\n') { clean(&page) } else { page }
    }

    /// Writes the page: whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        postgrad_base::fs::write(path, self.to_html().as_bytes())
    }
}

impl Part {
    fn render(&self) -> Markup {
        match self {
            Part::KeyValues(pairs) => html! {
                dl { @for (key, value) in pairs { dt { (clean(key)) } dd { (clean(value)) } } }
            },
            Part::Table(table) => render_table(table),
            Part::Lines(plot) => plot.render(),
            Part::Intervals(plot) => plot.render(),
            Part::Dots(plot) => plot.render(),
            Part::Examples(examples) => html! {
                @for e in examples { (render_answers(&e.prompt, &e.gold, [&e.before, &e.after].into_iter().flatten())) }
            },
            Part::Answers(all) => html! { @for a in all { (render_answers(&a.prompt, &a.gold, a.answers.iter())) } },
            Part::Text(text) => html! { p { (clean(text)) } },
            Part::Code(lines) => html! { pre { (clean(&lines.join("\n"))) } },
        }
    }
}

fn render_answers<'a>(prompt: &str, gold: &Option<String>, answers: impl Iterator<Item = &'a Answer>) -> Markup {
    html! {
        article.example {
            h3 { "Prompt" }
            div.said dir="auto" { (shown(prompt)) }
            @if let Some(gold) = gold {
                h3 { "Right answer" }
                div.said dir="auto" { (shown(gold)) }
            }
            div.pair {
                @for answer in answers {
                    div {
                        h3 {
                            (clean(&answer.label))
                            @match answer.right {
                                Some(true) => span.good { " · right" },
                                Some(false) => span.bad { " · wrong" },
                                None => {},
                            }
                        }
                        @if answer.text.is_empty() { div.quiet { "(empty)" } }
                        @else { div.said dir="auto" { (shown(&answer.text)) } }
                    }
                }
            }
        }
    }
}

fn render_table(table: &Table) -> Markup {
    let class = |c: usize| table.is_figure(c).then_some("fig");
    html! {
        @if table.rows.is_empty() { p.quiet { "Nothing was measured." } }
        @else {
            div.scroll {
                table {
                    thead { tr { @for (c, name) in table.columns.iter().enumerate() { th scope="col" class=[class(c)] { (clean(name)) } } } }
                    tbody {
                        @for row in &table.rows {
                            tr { @for c in 0..table.columns.len() { (render_cell(row.get(c), class(c))) } }
                        }
                    }
                }
            }
        }
        @if !table.notes.is_empty() { div.notes { @for note in &table.notes { p { (clean(note)) } } } }
    }
}

fn render_cell(cell: Option<&Cell>, class: Option<&str>) -> Markup {
    let Some(cell) = cell else { return html! { td {} } };
    let tone = match cell.tone {
        Tone::Plain => None,
        Tone::Good => Some("good"),
        Tone::Bad => Some("bad"),
    };
    let classes = [class, tone].into_iter().flatten().collect::<Vec<_>>().join(" ");
    html! {
        td class=[(!classes.is_empty()).then_some(classes)] {
            @match cell.link.as_deref().filter(|l| is_relative(l)) {
                Some(link) => a href=(link) { (clean(&cell.text)) },
                None => b { (clean(&cell.text)) },
            }
            @if let Some(interval) = &cell.interval { " " span.iv { (interval) } }
            @if let Some(n) = cell.n { " " span.n { "n " (grouped(n as u64)) } }
        }
    }
}

/// Whether a link leads to a file beside the page or below it, and nowhere else.
fn is_relative(link: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    link.split('/').all(|part| !part.is_empty() && part != ".." && part.chars().all(plain))
}

/// Text without characters that hide or turn it around.
fn clean(text: &str) -> String {
    text.replace("\r\n", "\n")
        .chars()
        .map(|c| if hidden(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// An example's text, cut where it is very long.
fn shown(text: &str) -> Markup {
    let (head, more) = match text.char_indices().nth(LONGEST) {
        Some((end, _)) => (&text[..end], text[end..].chars().count()),
        None => (text, 0),
    };
    html! { (clean(head)) @if more > 0 { span.quiet { " … (" (grouped(more as u64)) " more characters)" } } }
}
