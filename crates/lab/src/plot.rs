//! Line plots and interval plots as SVG in an HTML figure. Colours come from the page's style, so they follow light and
//! dark; series differ by dash as well as by colour. No scripts, nothing from outside.
//!
//! Left out on purpose: everything a report of a run does not need (stacks, pies, zooming).

mod dots;

use maud::{Markup, html};
use postgrad_numerics::Estimate;

use crate::table::{fixed, grouped};

pub use dots::{DotPlot, DotRow};

/// Colours (and dashes) there are; series beyond share them.
const COLOURS: usize = 6;
/// Places along x that a line is drawn with at most.
const BUCKETS: usize = 450;
/// Values beyond this count as not finite.
const HUGE: f64 = 1e100;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Room above the lines for the name of the upward axis.
const HEAD: f64 = 26.0;

/// Figures over steps.
#[derive(Clone, Debug, Default)]
pub struct LinePlot {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub x_log: bool,
    pub y_log: bool,
    /// The values are shares; the axis says per cent.
    pub percent: bool,
    /// Half as wide, to stand beside another.
    pub small: bool,
    pub series: Vec<Series>,
    /// Named places along x (the best checkpoint, the end of warm-up).
    pub marks: Vec<(f64, String)>,
}

/// One line.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub name: String,
    /// (x, y) with x rising. Values that are not finite break the line and are marked.
    pub points: Vec<(f64, f64)>,
    /// (low, high) of each point, or empty.
    pub band: Vec<(f64, f64)>,
    /// The raw figures behind the next series: drawn pale, in that series' colour, without an entry in the legend.
    pub faint: bool,
}

/// Values with intervals, one row a thing, several marks a row (before, after).
#[derive(Clone, Debug, Default)]
pub struct IntervalPlot {
    pub title: String,
    pub x_label: String,
    pub percent: bool,
    pub rows: Vec<IntervalRow>,
}

#[derive(Clone, Debug, Default)]
pub struct IntervalRow {
    pub label: String,
    pub marks: Vec<Mark>,
}

#[derive(Clone, Debug)]
pub struct Mark {
    pub name: String,
    pub estimate: Estimate,
}

/// A scale from values to places.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Axis {
    /// Covers the values (finite, and positive where `log`), with a little room; `None` where there are none.
    fn over(values: impl Iterator<Item = f64>, log: bool, room: f64, from: f64, to: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.filter(|v| usable(*v, log)) {
            let v = if log { v.log10() } else { v };
            (low, high) = (low.min(v), high.max(v));
        }
        if low > high {
            return None;
        }
        let half = if high > low { room * (high - low) } else { (0.1 * low.abs()).max(if log { 0.3 } else { 1e-3 }) };
        Some(Self { low: low - half, high: high + half, from, to, log })
    }

    fn place(&self, v: f64) -> f64 {
        let v = if self.log { v.log10() } else { v };
        self.from + (v - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values inside the range with their texts.
    fn ticks(&self, about: usize, percent: bool) -> Vec<(f64, String)> {
        if self.log {
            let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
            let spread = ((last - first) as usize).div_ceil(about.max(1)).max(1);
            let within = |v: &f64| (self.low..=self.high).contains(&v.log10());
            for factors in [&[1.0][..], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]] {
                let powers = (first..=last).step_by(spread);
                let values: Vec<f64> =
                    powers.flat_map(|p| factors.iter().map(move |f| f * 10f64.powi(p))).filter(within).collect();
                if values.len() >= 3 {
                    return values.into_iter().map(|v| (v, tick_text(v, v, percent))).collect();
                }
            }
        }
        let back = |v: f64| if self.log { 10f64.powf(v) } else { v };
        let (low, high) = (back(self.low), back(self.high));
        let step = nice_step((high - low) / about as f64);
        let first = (low / step).ceil() as i64;
        (first..first + 40)
            .map(|i| i as f64 * step)
            .take_while(|v| *v <= high + 1e-9 * step)
            .map(|v| (v, tick_text(v, step, percent)))
            .collect()
    }
}

fn usable(v: f64, log: bool) -> bool {
    v.abs() < HUGE && (!log || v > 0.0)
}

/// 1, 2 or 5 times a power of ten, not below `x`.
fn nice_step(x: f64) -> f64 {
    let x = x.max(1e-300);
    let base = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|f| f * base).find(|s| *s >= x * 0.999).unwrap_or(10.0 * base)
}

/// A tick's text, with as many digits as the step needs.
fn tick_text(v: f64, step: f64, percent: bool) -> String {
    let (v, step) = if percent { (100.0 * v, 100.0 * step) } else { (v, step) };
    let digits = (-step.abs().max(1e-300).log10().floor()).max(0.0) as usize;
    let unit = if percent { "%" } else { "" };
    if v == 0.0 {
        return format!("0{unit}");
    }
    if digits > 4 || v.abs() >= 1e7 {
        // 0.00012 with steps of 0.00002 is 1.2e-4: the digits between the value's power and the step's.
        let more = (v.abs().log10().floor() - step.abs().log10().floor()).clamp(0.0, 6.0) as usize;
        return format!("{v:.more$e}{unit}");
    }
    if digits == 0 && v >= 0.0 { format!("{}{unit}", grouped(v.round() as u64)) } else { format!("{v:.digits$}{unit}") }
}

/// A figure's value in words.
fn say(v: f64, percent: bool) -> String {
    if percent { format!("{}%", fixed(100.0 * v, 1)) } else { fixed(v, if v.abs() >= 100.0 { 0 } else { 3 }) }
}

/// Unbroken stretches of points, thinned to what the eye can tell apart; each bucket keeps its ends and extremes.
fn stretches(points: &[(f64, f64)], log_x: bool, log_y: bool) -> Vec<Vec<(f64, f64)>> {
    let good = |p: &(f64, f64)| usable(p.0, log_x) && usable(p.1, log_y);
    points.split(|p| !good(p)).filter(|s| !s.is_empty()).map(thin).collect()
}

fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * BUCKETS {
        return points.to_vec();
    }
    let mut out = Vec::new();
    for bucket in points.chunks(points.len().div_ceil(BUCKETS)) {
        let by = |i: &usize, j: &usize| bucket[*i].1.total_cmp(&bucket[*j].1);
        let least = (0..bucket.len()).min_by(by).unwrap_or(0);
        let most = (0..bucket.len()).max_by(by).unwrap_or(0);
        let mut keep = [0, least, most, bucket.len() - 1];
        keep.sort_unstable();
        let mut last = usize::MAX;
        for i in keep {
            if i != last {
                out.push(bucket[i]);
            }
            last = i;
        }
    }
    out
}

impl LinePlot {
    /// Width and height of the picture; where the lines may go is `LEFT..right`, `head..bottom`.
    fn size(&self) -> (f64, f64) {
        if self.small { (352.0, 206.0) } else { (WIDTH, 280.0) }
    }

    fn right(&self) -> f64 {
        self.size().0 - RIGHT
    }

    fn bottom(&self) -> f64 {
        self.size().1 - BOTTOM
    }

    /// The colour of each series: a faint one shares the next one's.
    fn colours(&self) -> Vec<usize> {
        let mut next = 0;
        let each = self.series.iter().map(|s| {
            let colour = next % COLOURS;
            next += usize::from(!s.faint);
            colour
        });
        each.collect()
    }

    /// The plot in words, for those who do not see it.
    fn words(&self) -> String {
        let lines = self.series.iter().filter(|s| !s.faint).filter_map(|s| {
            let good: Vec<_> = s.points.iter().filter(|p| usable(p.0, false) && usable(p.1, false)).collect();
            let (first, last) = (good.first()?, good.last()?);
            let v = |y| say(y, self.percent);
            Some(format!("{}: from {} at {} to {} at {}", s.name, v(first.1), first.0, v(last.1), last.0))
        });
        let words = lines.collect::<Vec<_>>().join("; ");
        format!("{}. {}", self.title, if words.is_empty() { "No values".into() } else { words })
    }

    pub fn render(&self) -> Markup {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let ends = || self.series.iter().flat_map(|s| &s.band).flat_map(|b| [b.0, b.1]);
        let x = Axis::over(points().map(|p| p.0), self.x_log, 0.0, LEFT, self.right());
        let y = Axis::over(points().map(|p| p.1).chain(ends()), self.y_log, 0.06, self.bottom(), HEAD);
        let (Some(x), Some(mut y)) = (x, y) else {
            return html! { figure class=[self.small.then_some("small")] { figcaption { (self.title) } p.quiet { "No values to plot." } } };
        };
        if self.percent && !self.y_log {
            (y.low, y.high) = (y.low.max(0.0).min(y.high), y.high.min(1.0).max(y.low));
            if y.high - y.low < 0.02 {
                (y.low, y.high) = ((y.low - 0.01).max(0.0), (y.high + 0.01).min(1.0));
            }
        }
        let (colours, (width, height)) = (self.colours(), self.size());
        let broken = points().filter(|p| usable(p.0, self.x_log) && !usable(p.1, self.y_log)).count();
        let named: Vec<_> = self.series.iter().zip(&colours).filter(|(s, _)| !s.faint).collect();
        html! {
            figure class=[self.small.then_some("small")] {
                figcaption { (self.title) }
                @if named.len() > 1 {
                    (legend(named.iter().map(|(s, c)| (s.name.as_str(), **c, false))))
                }
                svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(self.words()) {
                    (self.axes(&x, &y))
                    @for (s, colour) in self.series.iter().zip(&colours) { (self.line(s, *colour, &x, &y)) }
                    @for (at, name) in self.marks.iter().filter(|m| usable(m.0, self.x_log)) {
                        @let px = x.place(*at);
                        @if (LEFT..=self.right() + 0.5).contains(&px) {
                            @let late = px > width * 0.7;
                            line.mark x1=(at1(px)) x2=(at1(px)) y1=(HEAD) y2=(self.bottom()) {}
                            text.note x=(at1(px + if late { -5.0 } else { 5.0 })) y=(HEAD + 10.0)
                                text-anchor=(if late { "end" } else { "start" }) { (name) }
                        }
                    }
                }
                @if broken > 0 {
                    p.quiet {
                        (broken) @if broken == 1 { " value is " } @else { " values are " }
                        @if self.y_log { "zero, negative or " } "not finite (marked ×)."
                    }
                }
            }
        }
    }

    fn axes(&self, x: &Axis, y: &Axis) -> Markup {
        let bottom = self.bottom();
        html! {
            @for (v, text) in y.ticks(5, self.percent) {
                @let py = at1(y.place(v));
                line.grid x1=(LEFT) x2=(self.right()) y1=(py) y2=(py) {}
                text x=(LEFT - 7.0) y=(py) dy="0.33em" text-anchor="end" { (text) }
            }
            @for (v, text) in x.ticks(if self.small { 4 } else { 8 }, false) {
                @let px = at1(x.place(v));
                line.tick x1=(px) x2=(px) y1=(bottom) y2=(bottom + 4.0) {}
                text x=(px) y=(bottom + 17.0) text-anchor="middle" { (text) }
            }
            line.axis x1=(LEFT) x2=(self.right()) y1=(bottom) y2=(bottom) {}
            text.label x=((LEFT + self.right()) / 2.0) y=(self.size().1 - 6.0) text-anchor="middle" { (self.x_label) @if self.x_log { " (log)" } }
            @if self.y_log || !self.y_label.eq_ignore_ascii_case(&self.title) {
                text.label x="0" y="11" { (self.y_label) @if self.y_log { " (log)" } }
            }
        }
    }

    fn line(&self, s: &Series, colour: usize, x: &Axis, y: &Axis) -> Markup {
        let pair = |p: &(f64, f64)| format!("{} {}", at1(x.place(p.0)), at1(y.place(p.1)));
        let parts = stretches(&s.points, self.x_log, self.y_log);
        let path = parts.iter().map(|part| format!("M{}", part.iter().map(&pair).collect::<Vec<_>>().join("L")));
        let path = path.collect::<String>();
        let dots = !s.faint && (s.points.len() <= 40 || parts.iter().any(|p| p.len() == 1));
        let broken = s.points.iter().filter(|p| usable(p.0, self.x_log) && !usable(p.1, self.y_log));
        html! {
            g class=(format!("s{colour}")) {
                @if let Some(band) = self.band(s, x, y) { path.band d=(band) {} }
                path class=(if s.faint { "line faint" } else { "line" }) d=(path) {}
                @if dots {
                    @for p in parts.iter().filter(|p| s.points.len() <= 40 || p.len() == 1).flatten() {
                        circle cx=(at1(x.place(p.0))) cy=(at1(y.place(p.1))) r="3" {
                            title { (s.name) ", " (self.x_label) " " (p.0) ": " (say(p.1, self.percent)) }
                        }
                    }
                }
                @for p in broken.take(200) {
                    text.broken x=(at1(x.place(p.0))) y=(HEAD + 4.0) text-anchor="middle" { "×" title { (self.x_label) " " (p.0) ": " (fixed(p.1, 3)) } }
                }
            }
        }
    }

    /// There along the high ends, back along the low ones.
    fn band(&self, s: &Series, x: &Axis, y: &Axis) -> Option<String> {
        let whole = |(p, b): &(&(f64, f64), &(f64, f64))| {
            usable(p.0, self.x_log) && usable(b.0, self.y_log) && usable(b.1, self.y_log)
        };
        let ends: Vec<_> = s.points.iter().zip(&s.band).filter(whole).collect();
        let every = ends.len().div_ceil(2 * BUCKETS).max(1);
        let clip = |v: f64| y.place(v).clamp(HEAD, self.bottom());
        let there = ends.iter().step_by(every).map(|(p, b)| (x.place(p.0), clip(b.1)));
        let back = ends.iter().step_by(every).rev().map(|(p, b)| (x.place(p.0), clip(b.0)));
        let path: Vec<String> = there.chain(back).map(|(a, b)| format!("{} {}", at1(a), at1(b))).collect();
        (path.len() > 2).then(|| format!("M{}Z", path.join("L")))
    }
}

impl IntervalPlot {
    /// The names of marks in order of first appearance; each has one colour.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for mark in self.rows.iter().flat_map(|r| &r.marks) {
            if !names.contains(&mark.name.as_str()) {
                names.push(mark.name.as_str());
            }
        }
        names
    }

    pub fn render(&self) -> Markup {
        let names = self.names();
        let labels = self.rows.iter().map(|r| r.label.chars().count()).max().unwrap_or(0).min(28);
        let left = (labels as f64 * 7.2 + 16.0).max(40.0);
        let marks = || self.rows.iter().flat_map(|r| &r.marks).map(|m| m.estimate);
        let ends = marks().flat_map(|e| [e.value, e.low, e.high]);
        // Shares are shown over a range that begins at 0, so that small differences look small.
        let zero = self.percent && marks().all(|e| e.value.is_nan() || e.value >= 0.0);
        let axis = Axis::over(ends.chain(zero.then_some(0.0)), false, 0.03, left, WIDTH - RIGHT - 8.0);
        let Some(mut x) = axis else {
            return html! { figure { figcaption { (self.title) } p.quiet { "No values to plot." } } };
        };
        if zero {
            (x.low, x.high) = (0.0, x.high.clamp(0.01, 1.0));
        }
        let step = 15.0;
        let heights: Vec<f64> = self.rows.iter().map(|r| r.marks.len().max(1) as f64 * step + 16.0).collect();
        let tall = heights.iter().sum::<f64>();
        let tops = heights.iter().scan(TOP, |top, h| {
            *top += h;
            Some(*top - h)
        });
        let tops: Vec<f64> = tops.collect();
        let colour = |m: &Mark| names.iter().position(|n| *n == m.name).unwrap_or(0) % COLOURS;
        let bottom = TOP + tall;
        html! {
            figure {
                figcaption { (self.title) }
                @if names.len() > 1 { (legend(names.iter().enumerate().map(|(i, n)| (*n, i % COLOURS, true)))) }
                svg viewBox=(format!("0 0 {WIDTH} {}", at1(bottom + BOTTOM))) role="img" aria-label=(self.words()) {
                    @for (v, text) in x.ticks(7, self.percent) {
                        @let px = at1(x.place(v));
                        line.grid x1=(px) x2=(px) y1=(TOP) y2=(at1(bottom)) {}
                        text x=(px) y=(at1(bottom + 17.0)) text-anchor="middle" { (text) }
                    }
                    @if x.low < 0.0 && x.high > 0.0 {
                        line.axis x1=(at1(x.place(0.0))) x2=(at1(x.place(0.0))) y1=(TOP) y2=(at1(bottom)) {}
                    }
                    line.axis x1=(at1(left)) x2=(WIDTH - RIGHT) y1=(at1(bottom)) y2=(at1(bottom)) {}
                    @for ((row, top), h) in self.rows.iter().zip(&tops).zip(&heights) {
                        text.name x=(at1(left - 10.0)) y=(at1(top + h / 2.0)) dy="0.33em" text-anchor="end" {
                            (shorten(&row.label, 28)) @if row.label.chars().count() > 28 { title { (row.label) } }
                        }
                        @for (i, m) in row.marks.iter().enumerate() {
                            (self.mark(m, colour(m), &x, top + 8.0 + step * (i as f64 + 0.5)))
                        }
                    }
                    text.label x=(at1((left + WIDTH - RIGHT) / 2.0)) y=(at1(bottom + BOTTOM - 7.0)) text-anchor="middle" { (self.x_label) }
                }
            }
        }
    }

    fn mark(&self, m: &Mark, colour: usize, x: &Axis, y: f64) -> Markup {
        let e = &m.estimate;
        let end = |v: f64| at1(x.place(v.clamp(x.low, x.high)));
        html! {
            g class=(format!("s{colour}")) {
                @if usable(e.value, false) {
                    @if e.low <= e.high && e.half_width() > 0.0 {
                        line.whisker x1=(end(e.low)) x2=(end(e.high)) y1=(at1(y)) y2=(at1(y)) {}
                    }
                    circle cx=(end(e.value)) cy=(at1(y)) r="4.5" { title { (m.name) ": " (self.value(e)) } }
                }
            }
        }
    }

    fn value(&self, e: &Estimate) -> String {
        let s = |v| say(v, self.percent);
        format!("{} [{}, {}], n {}", s(e.value), s(e.low), s(e.high), grouped(e.n as u64))
    }

    fn words(&self) -> String {
        let row = |r: &IntervalRow| {
            let marks: Vec<String> =
                r.marks.iter().map(|m| format!("{} {}", m.name, self.value(&m.estimate))).collect();
            format!("{}: {}", r.label, marks.join(", "))
        };
        format!("{}. {}", self.title, self.rows.iter().map(row).collect::<Vec<_>>().join("; "))
    }
}

/// Names with a swatch of their line (or dot).
fn legend<'a>(names: impl Iterator<Item = (&'a str, usize, bool)>) -> Markup {
    html! {
        div.legend aria-hidden="true" {
            @for (name, colour, dot) in names {
                span {
                    svg class=(format!("s{colour}")) viewBox="0 0 22 10" width="22" height="10" {
                        @if dot { circle cx="11" cy="5" r="4.5" {} } @else { path.line d="M0 5L22 5" {} }
                    }
                    (name)
                }
            }
        }
    }
}

/// A place with one digit after the point.
fn at1(v: f64) -> String {
    let text = format!("{v:.1}");
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.into() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Axis, about: usize) -> Vec<String> {
        axis.ticks(about, false).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = |low, high, log| Axis { low, high, from: 0.0, to: 1.0, log };
        assert_eq!(texts(axis(0.0, 500.0, false), 5), ["0", "100", "200", "300", "400", "500"]);
        assert_eq!(texts(axis(0.13, 0.31, false), 5), ["0.15", "0.20", "0.25", "0.30"]);
        assert_eq!(texts(axis(0.0, 2e-4, false), 4), ["0", "5e-5", "1.0e-4", "1.5e-4", "2.0e-4"]);
        assert_eq!(texts(axis(-3.0, 1.0, true), 5), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(texts(axis(0.0, 0.9, true), 5).len(), 3);
        assert_eq!(tick_text(0.25, 0.05, true), "25%");
        assert!(texts(axis(-1e99, 1e99, false), 5).len() < 12);
    }

    #[test]
    fn thinning_keeps_ends_and_spikes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (i as f64, (i as f64).sin())).collect();
        points[77_777].1 = 50.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= 4 * BUCKETS && thinned.contains(&(77_777.0, 50.0)));
        assert_eq!((thinned[0], thinned[thinned.len() - 1]), (points[0], points[99_999]));
        assert!(thinned.windows(2).all(|w| w[0].0 < w[1].0));
    }

    proptest::proptest! {
        #[test]
        fn any_values_give_a_finite_picture(
            points in proptest::collection::vec((proptest::num::f64::ANY, proptest::num::f64::ANY), 0..60),
            logs in proptest::prelude::any::<(bool, bool, bool)>(),
        ) {
            let band = points.iter().map(|p| (p.1, p.0)).collect();
            let plot = LinePlot {
                series: vec![Series { name: "a".into(), points: points.clone(), band, faint: false }],
                marks: points.iter().map(|p| (p.1, "m".into())).collect(),
                x_log: logs.0, y_log: logs.1, percent: logs.2,
                ..LinePlot::default()
            };
            let row = |p: &(f64, f64)| IntervalRow {
                label: "r".into(),
                marks: vec![Mark { name: "m".into(), estimate: Estimate { value: p.0, low: p.1, high: p.0, n: 3 } }],
            };
            let bars = IntervalPlot { percent: logs.2, rows: points.iter().map(row).collect(), ..IntervalPlot::default() };
            for svg in [plot.render().into_string(), bars.render().into_string()] {
                // Coordinates only: words and titles may name what is not finite.
                for attribute in svg.split(' ').filter(|a| ["x1=", "x2=", "y1=", "y2=", "cx=", "cy=", "d="].iter().any(|k| a.starts_with(k))) {
                    assert!(!attribute.contains("NaN") && !attribute.contains("inf"), "{attribute}");
                }
            }
        }
    }
}
