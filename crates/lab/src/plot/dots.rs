//! One row a thing, one dot a seed, the interval of their mean as a band behind them.

use maud::{Markup, html};
use postgrad_numerics::Estimate;

use super::{Axis, BOTTOM, RIGHT, TOP, WIDTH, at1, say, shorten, usable};

/// Values of seeds around their means.
#[derive(Clone, Debug, Default)]
pub struct DotPlot {
    pub title: String,
    pub x_label: String,
    pub percent: bool,
    pub rows: Vec<DotRow>,
    /// Values that a reader compares with (a claim's bound): drawn dashed.
    pub bounds: Vec<f64>,
}

#[derive(Clone, Debug)]
pub struct DotRow {
    pub label: String,
    /// `n` is not shown.
    pub estimate: Estimate,
    /// (name, value) of each dot.
    pub dots: Vec<(String, f64)>,
}

const ROW: f64 = 30.0;

impl DotPlot {
    pub fn render(&self) -> Markup {
        let labels = self.rows.iter().map(|r| r.label.chars().count()).max().unwrap_or(0).min(28);
        let left = (labels as f64 * 7.2 + 16.0).max(40.0);
        let ends = self.rows.iter().flat_map(|r| [r.estimate.value, r.estimate.low, r.estimate.high]);
        let dots = self.rows.iter().flat_map(|r| &r.dots).map(|d| d.1);
        let all = ends.chain(dots).chain(self.bounds.iter().copied());
        let Some(x) = Axis::over(all, false, 0.04, left, WIDTH - RIGHT - 8.0) else {
            return html! { figure { figcaption { (self.title) } p.quiet { "No values to plot." } } };
        };
        let bottom = TOP + ROW * self.rows.len() as f64 + 6.0;
        html! {
            figure {
                figcaption { (self.title) }
                svg viewBox=(format!("0 0 {WIDTH} {}", at1(bottom + BOTTOM))) role="img" aria-label=(self.words()) {
                    @for (v, text) in x.ticks(7, self.percent) {
                        @let px = at1(x.place(v));
                        line.grid x1=(px) x2=(px) y1=(TOP) y2=(at1(bottom)) {}
                        text x=(px) y=(at1(bottom + 17.0)) text-anchor="middle" { (text) }
                    }
                    @if x.low < 0.0 && x.high > 0.0 {
                        line.axis x1=(at1(x.place(0.0))) x2=(at1(x.place(0.0))) y1=(TOP) y2=(at1(bottom)) {}
                    }
                    @for bound in self.bounds.iter().filter(|b| usable(**b, false)) {
                        @let px = at1(x.place(*bound));
                        line.mark x1=(px) x2=(px) y1=(at1(TOP - 6.0)) y2=(at1(bottom)) {}
                    }
                    line.axis x1=(at1(left)) x2=(WIDTH - RIGHT) y1=(at1(bottom)) y2=(at1(bottom)) {}
                    @for (i, row) in self.rows.iter().enumerate() {
                        (self.row(row, &x, left, TOP + ROW * (i as f64 + 0.5) + 3.0, i))
                    }
                    text.label x=(at1((left + WIDTH - RIGHT) / 2.0)) y=(at1(bottom + BOTTOM - 7.0)) text-anchor="middle" { (self.x_label) }
                }
            }
        }
    }

    fn row(&self, row: &DotRow, x: &Axis, left: f64, y: f64, i: usize) -> Markup {
        let e = &row.estimate;
        let end = |v: f64| at1(x.place(v));
        html! {
            text.name x=(at1(left - 10.0)) y=(at1(y)) dy="0.33em" text-anchor="end" {
                (shorten(&row.label, 28)) @if row.label.chars().count() > 28 { title { (row.label) } }
            }
            g class=(format!("s{}", i % super::COLOURS)) {
                @if usable(e.low, false) && usable(e.high, false) && e.low <= e.high {
                    path.band d=(format!("M{l} {a}L{h} {a}L{h} {b}L{l} {b}Z", l = end(e.low), h = end(e.high), a = at1(y - 9.0), b = at1(y + 9.0))) {}
                }
                @for (name, v) in row.dots.iter().filter(|d| usable(d.1, false)) {
                    circle cx=(end(*v)) cy=(at1(y)) r="3" { title { (name) ": " (say(*v, self.percent)) } }
                }
                @if usable(e.value, false) {
                    line.whisker x1=(end(e.value)) x2=(end(e.value)) y1=(at1(y - 9.0)) y2=(at1(y + 9.0)) {}
                }
            }
        }
    }

    fn words(&self) -> String {
        let s = |v| say(v, self.percent);
        let row = |r: &DotRow| {
            let dots: Vec<String> = r.dots.iter().map(|d| s(d.1)).collect();
            let e = &r.estimate;
            format!("{} {} [{}, {}], seeds {}", r.label, s(e.value), s(e.low), s(e.high), dots.join(", "))
        };
        format!("{}. {}", self.title, self.rows.iter().map(row).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_values_give_a_finite_picture(
            rows in proptest::collection::vec((proptest::num::f64::ANY, proptest::num::f64::ANY, proptest::num::f64::ANY), 0..6),
            percent in proptest::prelude::any::<bool>(),
        ) {
            let row = |r: &(f64, f64, f64)| DotRow {
                label: "r".into(),
                estimate: Estimate { value: r.0, low: r.1, high: r.2, n: 3 },
                dots: vec![("seed 0".into(), r.2), ("seed 1".into(), r.0)],
            };
            let plot = DotPlot { percent, rows: rows.iter().map(row).collect(), bounds: rows.iter().map(|r| r.1).collect(), ..DotPlot::default() };
            let svg = plot.render().into_string();
            for attribute in svg.split(' ').filter(|a| ["x1=", "x2=", "y1=", "cx=", "cy=", "d="].iter().any(|k| a.starts_with(k))) {
                assert!(!attribute.contains("NaN") && !attribute.contains("inf"), "{attribute}");
            }
        }
    }
}
