//! Metrics: functions from per-item rows to a number.
//!
//! A column's name is its mean; `ratio(a, b)` is sum a / sum b; `auc(score, correct)`, `ap(score, correct)` (average
//! precision, items of one score pass a threshold together), `ece(confidence, correct)` (10 bins; a third argument is their
//! number), `spearman(x, y)`, `median(x)`, `sum(x)`, `count()`. A filter keeps rows: `accuracy[tier=5, kind=hard]`; a number
//! is compared as one, `true` and `false` too, else texts must be equal. Booleans count as 0 and 1.

use std::fmt;

use postgrad_base::{Error, Result};
use postgrad_numerics::{auc, average_precision, ece, median, spearman, weighted_median};
use serde_json::Value;

use crate::store::Item;

/// What is computed of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fun {
    Mean,
    Ratio,
    Auc,
    Ap,
    Ece,
    Spearman,
    Median,
    Sum,
    Count,
}

/// The functions that are written with parentheses, and how many columns they take.
pub(super) const METRIC_FUNS: [(&str, Fun, usize); 8] = [
    ("ratio", Fun::Ratio, 2),
    ("auc", Fun::Auc, 2),
    ("ap", Fun::Ap, 2),
    ("ece", Fun::Ece, 2),
    ("spearman", Fun::Spearman, 2),
    ("median", Fun::Median, 1),
    ("sum", Fun::Sum, 1),
    ("count", Fun::Count, 0),
];
const BINS: usize = 10;

/// A function of columns over the rows that pass a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    pub fun: Fun,
    pub columns: Vec<String>,
    /// Of `ece`.
    pub bins: usize,
    /// (column, value): all must hold.
    pub filter: Vec<(String, String)>,
}

/// The rows that a metric sees, as numbers.
pub(super) struct Values {
    /// Which rows they are.
    pub rows: Vec<usize>,
    /// The first and the second column; ones and empty where the metric takes fewer.
    pub x: Vec<f64>,
    pub y: Vec<f64>,
}

impl Metric {
    /// The mean of a column.
    pub fn mean(column: impl Into<String>) -> Self {
        Self { fun: Fun::Mean, columns: vec![column.into()], bins: BINS, filter: vec![] }
    }

    /// As claims write it.
    pub fn show(&self) -> String {
        let mut out = match METRIC_FUNS.iter().find(|f| f.1 == self.fun) {
            None => self.columns.join(", "),
            Some((name, ..)) => {
                let mut columns = self.columns.clone();
                if self.fun == Fun::Ece && self.bins != BINS {
                    columns.push(self.bins.to_string());
                }
                format!("{name}({})", columns.join(", "))
            }
        };
        if !self.filter.is_empty() {
            let plain = |v: &str| !v.is_empty() && v.chars().all(|c| c.is_ascii_alphanumeric() || "_-.+".contains(c));
            let one = |(column, value): &(String, String)| {
                if plain(value) { format!("{column}={value}") } else { format!("{column}=\"{value}\"") }
            };
            out.push_str(&format!("[{}]", self.filter.iter().map(one).collect::<Vec<_>>().join(", ")));
        }
        out
    }

    /// The numbers of the rows, given in the order that `order` says. Errors say which column is at fault, and where.
    pub(super) fn values(&self, rows: &[Item], order: Option<&[usize]>) -> Result<Values> {
        for (column, _) in &self.filter {
            if !rows.iter().any(|row| row.metrics.contains_key(column)) {
                return Err(missing(column, rows));
            }
        }
        let room = || Vec::with_capacity(rows.len());
        let mut out = Values { rows: Vec::with_capacity(rows.len()), x: room(), y: vec![] };
        for i in 0..rows.len() {
            let row = &rows[order.map_or(i, |o| o[i])];
            if !self.filter.iter().all(|(column, want)| passes(row.metrics.get(column), want)) {
                continue;
            }
            out.rows.push(i);
            match &self.columns[..] {
                [] => out.x.push(1.0),
                [x, more @ ..] => {
                    out.x.push(number(row, x, rows)?);
                    if let Some(y) = more.first() {
                        out.y.push(number(row, y, rows)?);
                    }
                }
            }
        }
        if out.rows.is_empty() && !matches!(self.fun, Fun::Sum | Fun::Count) {
            return Err(Error::usage(format!("no row passes the filter of `{}`", self.show())));
        }
        self.fit(&out)?;
        Ok(out)
    }

    /// What the function needs of its columns.
    fn fit(&self, v: &Values) -> Result<()> {
        let fault = |column: &str, x: f64, need: &str| {
            Err(Error::usage(format!("`{}` needs {need} in the column `{column}`, found {x}", self.show())))
        };
        if matches!(self.fun, Fun::Auc | Fun::Ap)
            && let Some(y) = v.y.iter().find(|y| **y != 0.0 && **y != 1.0)
        {
            return fault(&self.columns[1], *y, "0 or 1");
        }
        if self.fun == Fun::Ece
            && let Some(x) = v.x.iter().find(|x| !(0.0..=1.0).contains(*x))
        {
            return fault(&self.columns[0], *x, "values between 0 and 1");
        }
        Ok(())
    }

    /// Whether it is a sum, or a quotient of two, so that a resample needs sums alone.
    pub(super) fn is_sums(&self) -> bool {
        matches!(self.fun, Fun::Mean | Fun::Ratio | Fun::Sum | Fun::Count)
    }

    /// The value where rows are there as often as `weights` says, by row.
    pub(super) fn value(&self, v: &Values, weights: Option<&[f64]>) -> f64 {
        let own: Option<Vec<f64>> = weights.map(|w| v.rows.iter().map(|i| w[*i]).collect());
        let w = own.as_deref();
        let sum = |xs: &[f64]| match w {
            None => xs.iter().sum::<f64>(),
            Some(w) => xs.iter().zip(w).map(|(x, w)| x * w).sum(),
        };
        let labels = || v.y.iter().map(|y| *y == 1.0).collect::<Vec<bool>>();
        match self.fun {
            Fun::Mean => sum(&v.x) / w.map_or(v.x.len() as f64, |w| w.iter().sum()),
            Fun::Ratio => sum(&v.x) / sum(&v.y),
            Fun::Sum | Fun::Count => sum(&v.x),
            Fun::Auc => auc(&v.x, &labels(), w),
            Fun::Ap => average_precision(&v.x, &labels(), w),
            Fun::Ece => ece(&v.x, &v.y, self.bins, w),
            Fun::Spearman => spearman(&v.x, &v.y, w),
            Fun::Median => w.map_or_else(|| median(&v.x), |w| weighted_median(&v.x, w)),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

/// The columns that hold numbers in every row, in order of first appearance.
pub fn number_columns(rows: &[Item]) -> Vec<String> {
    let Some(first) = rows.first() else { return vec![] };
    let all = |name: &&String| rows.iter().all(|r| r.metrics.get(*name).and_then(as_number).is_some());
    first.metrics.keys().filter(all).cloned().collect()
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        _ => None,
    }
}

fn number(row: &Item, column: &str, rows: &[Item]) -> Result<f64> {
    let Some(value) = row.metrics.get(column) else {
        return Err(missing(column, rows).at(format!("item `{}`", row.item)));
    };
    as_number(value).ok_or_else(|| {
        Error::usage(format!("the column `{column}` holds {value}, and a number is needed"))
            .at(format!("item `{}`", row.item))
    })
}

fn missing(column: &str, rows: &[Item]) -> Error {
    let mut known: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|r| r.metrics.keys()) {
        if !known.contains(&name.as_str()) {
            known.push(name);
        }
    }
    Error::unknown("column", column, &known, super::expr::nearest(column, &known))
}

fn passes(value: Option<&Value>, want: &str) -> bool {
    match value {
        Some(Value::Number(n)) => n.as_f64().is_some_and(|x| want.parse() == Ok(x)),
        Some(Value::Bool(b)) => want == if *b { "true" } else { "false" },
        Some(Value::String(s)) => s == want,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Expr;
    use serde_json::json;

    fn rows() -> Vec<Item> {
        let row = |i: usize, right: f64, tokens: i64, tier: i64, kind: &str| Item {
            item: format!("i{i}"),
            cluster: None,
            metrics:
                json!({"right": right, "tokens": tokens, "tier": tier, "kind": kind, "p": 0.1 * i as f64, "ok": i > 2})
                    .as_object()
                    .cloned()
                    .unwrap(),
        };
        vec![row(1, 1.0, 10, 1, "a"), row(2, 0.0, 20, 2, "a"), row(3, 1.0, 30, 2, "b c"), row(4, 1.0, 80, 2, "b c")]
    }

    fn value(text: &str) -> Result<f64> {
        let metric = Expr::parse(&format!("a:s.{text}"))?.refs()[0].metric.clone();
        let rows = rows();
        let plain = metric.values(&rows, None).map(|v| metric.value(&v, None))?;
        let ones = metric.values(&rows, Some(&[3, 2, 1, 0])).map(|v| metric.value(&v, Some(&[1.0; 4])))?;
        assert!((plain - ones).abs() < 1e-12, "{text}: order and weights of one change nothing");
        Ok(plain)
    }

    #[test]
    fn metrics_by_hand() {
        for (text, want) in [
            ("right", 0.75),
            ("ok", 0.5),
            ("right[tier=2.0]", 2.0 / 3.0),
            ("right[tier=2, kind=a]", 0.0),
            ("tokens[kind=\"b c\"]", 55.0),
            ("tokens[ok=true]", 55.0),
            ("ratio(right, tokens)", 3.0 / 140.0),
            ("auc(p, right)", 2.0 / 3.0),
            ("ap(p, right)", (1.0 + 1.0 + 3.0 / 4.0) / 3.0),
            ("ece(p, right)", (0.9 + 0.2 + 0.7 + 0.6) / 4.0),
            ("ece(p, right, 1)", 0.5),
            ("spearman(p, tokens)", 1.0),
            ("median(tokens)", 25.0),
            ("sum(tokens)[tier=9]", 0.0),
            ("count()[tier=2]", 3.0),
        ] {
            let got = value(text).unwrap();
            assert!((got - want).abs() < 1e-12, "{text}: {got} is not {want}");
        }
        assert_eq!(number_columns(&rows()), ["right", "tokens", "tier", "p", "ok"]);
    }

    #[test]
    fn faults_of_rows_are_named() {
        for (text, what) in [
            (
                "rigth",
                "unknown column `rigth`\n  at item `i1`\n  help: did you mean `right`? known: right, tokens, tier",
            ),
            ("right[teir=2]", "unknown column `teir`"),
            ("right[tier=7]", "no row passes the filter of `right[tier=7]`"),
            ("kind", "holds \"a\", and a number is needed"),
            ("auc(p, tokens)", "needs 0 or 1 in the column `tokens`, found 10"),
            ("ece(tokens, right)", "needs values between 0 and 1"),
        ] {
            let said = value(text).unwrap_err().to_string();
            assert!(said.contains(what), "{text}: {said}");
        }
    }
}
