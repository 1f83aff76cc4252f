//! The values of claims: `masked:target.accuracy - sft:target.accuracy`.
//!
//! ```text
//! value  = term { (" + " | " - ") term }            binary minus needs blanks around it: names may contain `-`
//! term   = factor { ("*" | "/") factor }
//! factor = "-" factor | number | "(" value ")" | call | arm ":" stage "." metric
//! call   = ("min" | "max" | "mean") "(" values and lists ")" | "abs" "(" value ")"
//!        | ("slope" | "spearman") "(" list "," list ")"
//! list   = "[" value { "," value } "]"
//! ```
//!
//! Metrics are in [`super::metric`]. What is written is kept as a tree and a table of its different measures, so that an
//! evaluation needs their values alone. Left out on purpose: names, conditions, powers.

use std::fmt;

use postgrad_base::{Error, Result};
use postgrad_numerics::{mean, slope, spearman};
use serde::{Deserialize, Serialize};

use super::metric::{Fun, METRIC_FUNS, Metric};

/// How deep a value may nest.
const DEEPEST: usize = 60;
const CALLS: [(&str, Call); 6] = [
    ("min", Call::Min),
    ("max", Call::Max),
    ("mean", Call::Mean),
    ("abs", Call::Abs),
    ("slope", Call::Slope),
    ("spearman", Call::Spearman),
];

/// What a claim is about: arithmetic over measures of arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expr {
    node: Node,
    refs: Vec<Ref>,
}

/// One measure: a metric of a stage's rows in an arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Ref {
    pub arm: String,
    pub stage: String,
    pub metric: Metric,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Number(f64),
    /// A place in the table of measures.
    Ref(usize),
    Negative(Box<Node>),
    Binary(char, Box<Node>, Box<Node>),
    Call(Call, Vec<Node>),
    List(Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Min,
    Max,
    Mean,
    Abs,
    Slope,
    Spearman,
}

impl Expr {
    /// Reads a value. Errors name the column and what was expected there.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, chars: text.chars().collect(), at: 0, deep: 0, refs: vec![] };
        let node = parser.value()?;
        parser.blanks();
        if parser.at < parser.chars.len() {
            return Err(parser.expected("an operator or the end"));
        }
        if parser.refs.is_empty() {
            return Err(Error::usage("the value names no measure").at(format!("`{text}`")).help(FORM));
        }
        Ok(Self { node, refs: parser.refs })
    }

    /// The value of one measure.
    pub fn measure(arm: &str, stage: &str, metric: Metric) -> Self {
        Self { node: Node::Ref(0), refs: vec![Ref { arm: arm.into(), stage: stage.into(), metric }] }
    }

    /// Every different measure, in order of first appearance.
    pub fn refs(&self) -> &[Ref] {
        &self.refs
    }

    /// The value in its own notation; it parses to the same value.
    pub fn show(&self) -> String {
        let mut out = String::new();
        self.put(&self.node, 0, &mut out);
        out
    }

    /// The value where the measures, in the order of [`Expr::refs`], have these values. NaN where one is, or where it is
    /// not defined (0 / 0, a slope without spread).
    pub fn eval(&self, measures: &[f64]) -> f64 {
        self.node.eval(measures)
    }

    /// `level`: 0 where a sum may stand, 1 a product, 2 a factor.
    fn put(&self, node: &Node, level: usize, out: &mut String) {
        match node {
            Node::Number(x) => out.push_str(&x.to_string()),
            Node::Ref(i) => out.push_str(&self.refs[*i].to_string()),
            Node::Negative(inner) => {
                out.push('-');
                self.put(inner, 2, out);
            }
            Node::Binary(op, a, b) => {
                let own = usize::from("*/".contains(*op));
                if own < level {
                    out.push('(');
                }
                self.put(a, own, out);
                out.extend([' ', *op, ' ']);
                self.put(b, own + 1, out);
                if own < level {
                    out.push(')');
                }
            }
            Node::Call(call, args) => {
                out.push_str(CALLS.iter().find(|c| c.1 == *call).map_or("", |c| c.0));
                self.put_all('(', args, ')', out);
            }
            Node::List(all) => self.put_all('[', all, ']', out),
        }
    }

    fn put_all(&self, open: char, nodes: &[Node], close: char, out: &mut String) {
        out.push(open);
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            self.put(node, 0, out);
        }
        out.push(close);
    }
}

impl TryFrom<String> for Expr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|e| e.to_string())
    }
}

impl From<Expr> for String {
    fn from(expr: Expr) -> String {
        expr.show()
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.arm, self.stage, self.metric)
    }
}

impl Node {
    fn eval(&self, measures: &[f64]) -> f64 {
        match self {
            Node::Number(x) => *x,
            Node::Ref(i) => measures[*i],
            Node::Negative(inner) => -inner.eval(measures),
            Node::Binary(op, a, b) => {
                let (a, b) = (a.eval(measures), b.eval(measures));
                match op {
                    '+' => a + b,
                    '-' => a - b,
                    '*' => a * b,
                    _ => a / b,
                }
            }
            Node::Call(call, args) => {
                let values = |nodes: &[Node]| {
                    let mut out = Vec::new();
                    nodes.iter().for_each(|n| n.flatten(measures, &mut out));
                    out
                };
                match call {
                    Call::Slope => slope(&values(&args[..1]), &values(&args[1..])),
                    Call::Spearman => spearman(&values(&args[..1]), &values(&args[1..]), None),
                    Call::Abs => args[0].eval(measures).abs(),
                    Call::Mean => mean(&values(args)),
                    // `f64::min` would hide a NaN.
                    Call::Min => {
                        values(args).into_iter().fold(f64::INFINITY, |a, b| if b.is_nan() || b < a { b } else { a })
                    }
                    Call::Max => {
                        values(args).into_iter().fold(f64::NEG_INFINITY, |a, b| if b.is_nan() || b > a { b } else { a })
                    }
                }
            }
            // Lists stand in calls alone.
            Node::List(_) => f64::NAN,
        }
    }

    fn flatten(&self, measures: &[f64], out: &mut Vec<f64>) {
        match self {
            Node::List(all) => out.extend(all.iter().map(|n| n.eval(measures))),
            one => out.push(one.eval(measures)),
        }
    }
}

const FORM: &str = "a measure is `arm:stage.metric`, as in `masked:target.accuracy - sft:target.accuracy`";

struct Parser<'a> {
    text: &'a str,
    chars: Vec<char>,
    at: usize,
    deep: usize,
    refs: Vec<Ref>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Takes `c`, after blanks, if it is next.
    fn take(&mut self, c: char) -> bool {
        self.blanks();
        let there = self.peek() == Some(c);
        self.at += usize::from(there);
        there
    }

    fn need(&mut self, c: char, what: &str) -> Result<()> {
        if self.take(c) { Ok(()) } else { Err(self.expected(what)) }
    }

    fn fault(&self, what: impl Into<String>, at: usize) -> Error {
        Error::usage(what).at(format!("column {} of `{}`", at + 1, self.text))
    }

    fn expected(&self, what: &str) -> Error {
        let found = self.peek().map_or("the end".to_string(), |c| format!("`{}`", c.escape_debug()));
        self.fault(format!("expected {what}, found {found}"), self.at)
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.deep += 1;
        if self.deep > DEEPEST {
            return Err(self.fault("the value nests too deep", self.at));
        }
        let out = read(self);
        self.deep -= 1;
        out
    }

    fn value(&mut self) -> Result<Node> {
        let mut left = self.deeper(Self::term)?;
        loop {
            self.blanks();
            let Some(op @ ('+' | '-')) = self.peek() else { return Ok(left) };
            let blank = |at: usize| self.chars.get(at).is_some_and(|c| c.is_whitespace());
            if op == '-' && !(self.at > 0 && blank(self.at - 1) && blank(self.at + 1)) {
                return Err(self
                    .fault("a minus between two values needs blanks around it", self.at)
                    .help("names may contain `-`; write `a:s.m - b:s.m`"));
            }
            self.at += 1;
            let right = self.deeper(Self::term)?;
            left = Node::Binary(op, left.into(), right.into());
        }
    }

    fn term(&mut self) -> Result<Node> {
        let mut left = self.factor()?;
        loop {
            self.blanks();
            let Some(op @ ('*' | '/')) = self.peek() else { return Ok(left) };
            self.at += 1;
            let right = self.factor()?;
            left = Node::Binary(op, left.into(), right.into());
        }
    }

    fn factor(&mut self) -> Result<Node> {
        if self.take('-') {
            return Ok(Node::Negative(self.deeper(Self::factor)?.into()));
        }
        if self.take('(') {
            let inner = self.deeper(Self::value)?;
            self.need(')', "`)`, or an operator")?;
            return Ok(inner);
        }
        self.blanks();
        let from = self.at;
        let name = self.name();
        match self.peek() {
            Some(':') if !name.is_empty() => self.measure(name),
            Some('(') if !name.is_empty() => self.call(&name, from),
            _ => {
                self.at = from;
                let number = self.number();
                number.ok_or_else(|| self.fault(self.no_value(&name), from).help(FORM))
            }
        }
    }

    fn no_value(&self, name: &str) -> String {
        match name {
            "" => {
                let found = self.peek().map_or("the end".to_string(), |c| format!("`{}`", c.escape_debug()));
                format!("expected a measure, a number, a function or `(`, found {found}")
            }
            name => format!("`{name}` is no measure and no number"),
        }
    }

    fn name(&mut self) -> String {
        let from = self.at;
        while self.peek().is_some_and(is_name) {
            self.at += 1;
        }
        self.chars[from..self.at].iter().collect()
    }

    fn number(&mut self) -> Option<Node> {
        let from = self.at;
        let digits = |s: &mut Self| {
            let from = s.at;
            while s.peek().is_some_and(|c| c.is_ascii_digit()) {
                s.at += 1;
            }
            s.at > from
        };
        let whole = digits(self);
        if self.peek() == Some('.') {
            self.at += 1;
            let _ = digits(self);
        }
        if whole && matches!(self.peek(), Some('e' | 'E')) {
            let before = self.at;
            self.at += 1;
            if matches!(self.peek(), Some('+' | '-')) {
                self.at += 1;
            }
            if !digits(self) {
                self.at = before;
            }
        }
        let text: String = self.chars[from..self.at].iter().collect();
        let number = text.parse::<f64>().ok().filter(|x| x.is_finite());
        // A name right behind it makes it no number: `3x`.
        if number.is_none() || self.peek().is_some_and(|c| is_name(c) && c != '-') {
            self.at = from;
            return None;
        }
        number.map(Node::Number)
    }

    fn call(&mut self, name: &str, from: usize) -> Result<Node> {
        let Some((_, call)) = CALLS.iter().find(|c| c.0 == name) else {
            let known = CALLS.map(|c| c.0);
            let error = Error::unknown("function", name, &known, nearest(name, &known));
            return Err(error.at(format!("column {} of `{}`", from + 1, self.text)));
        };
        self.need('(', "`(`")?;
        let mut args = Vec::new();
        loop {
            args.push(if self.take('[') { self.list()? } else { self.deeper(Self::value)? });
            if !self.take(',') {
                break;
            }
        }
        self.need(')', "`,` or `)`")?;
        let fault = |what: String| Err(self.fault(what, from));
        match (call, &args[..]) {
            (Call::Slope | Call::Spearman, [Node::List(x), Node::List(y)]) if x.len() == y.len() && x.len() > 1 => {}
            (Call::Slope | Call::Spearman, _) => {
                return fault(format!("`{name}` takes two lists of one length, at least two values each"));
            }
            (Call::Abs, [Node::List(_)] | [] | [_, _, ..]) => return fault("`abs` takes one value".into()),
            _ => {}
        }
        Ok(Node::Call(*call, args))
    }

    fn list(&mut self) -> Result<Node> {
        let mut all = vec![self.deeper(Self::value)?];
        while self.take(',') {
            all.push(self.deeper(Self::value)?);
        }
        self.need(']', "`,` or `]`")?;
        Ok(Node::List(all))
    }

    /// The rest of `arm:stage.metric`, after the arm.
    fn measure(&mut self, arm: String) -> Result<Node> {
        self.at += 1;
        let stage = self.name();
        if stage.is_empty() {
            return Err(self.expected("a stage's name"));
        }
        if self.peek() != Some('.') {
            return Err(self.expected("`.` and a metric").help(FORM));
        }
        self.at += 1;
        let metric = self.metric()?;
        let found = Ref { arm, stage, metric };
        let place = self.refs.iter().position(|r| *r == found).unwrap_or_else(|| {
            self.refs.push(found);
            self.refs.len() - 1
        });
        Ok(Node::Ref(place))
    }

    fn metric(&mut self) -> Result<Metric> {
        let from = self.at;
        let name = self.column()?;
        let mut metric = Metric::mean(name.clone());
        if self.peek() == Some('(') {
            let Some((_, fun, takes)) = METRIC_FUNS.iter().find(|f| f.0 == name) else {
                let known = METRIC_FUNS.map(|f| f.0);
                let error = Error::unknown("metric", &name, &known, nearest(&name, &known));
                return Err(error.at(format!("column {} of `{}`", from + 1, self.text)));
            };
            self.at += 1;
            metric = Metric { fun: *fun, columns: vec![], ..metric };
            self.blanks();
            while self.peek() != Some(')') {
                if *fun == Fun::Ece && metric.columns.len() == 2 {
                    let bins = self.column()?;
                    metric.bins = bins.parse().ok().filter(|b| (1..=1000).contains(b)).ok_or_else(|| {
                        self.fault(format!("expected a number of bins, 1 to 1000, found `{bins}`"), self.at)
                    })?;
                    self.blanks();
                    break;
                }
                metric.columns.push(self.column()?);
                if !self.take(',') {
                    break;
                }
                self.blanks();
            }
            self.need(')', "`,` or `)`")?;
            if metric.columns.len() != *takes {
                let s = if *takes == 1 { "" } else { "s" };
                return Err(self.fault(format!("`{name}` takes {takes} column{s}, not {}", metric.columns.len()), from));
            }
        }
        if self.peek() == Some('[') {
            self.at += 1;
            metric.filter = self.filter()?;
        }
        Ok(metric)
    }

    /// A column's name: as other names, and `.`, `@` inside.
    fn column(&mut self) -> Result<String> {
        let from = self.at;
        while self.peek().is_some_and(|c| is_name(c) || c == '.' || c == '@') {
            self.at += 1;
        }
        let name: String = self.chars[from..self.at].iter().collect();
        if name.is_empty() || name.ends_with('.') {
            return Err(self.expected("a column's name"));
        }
        Ok(name)
    }

    fn filter(&mut self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        loop {
            self.blanks();
            let column = self.column()?;
            self.need('=', "`=`")?;
            self.blanks();
            let quoted = self.take('"');
            let from = self.at;
            let ends = |c: char| if quoted { c == '"' } else { c == ',' || c == ']' };
            while self.peek().is_some_and(|c| !ends(c)) {
                self.at += 1;
            }
            let value: String = self.chars[from..self.at].iter().collect();
            if quoted {
                self.need('"', "`\"`")?;
            }
            let value = if quoted { value } else { value.trim().to_string() };
            if !quoted && (value.is_empty() || value.contains('"')) {
                return Err(self.fault("expected a number or a text", from));
            }
            all.push((column, value));
            if !self.take(',') {
                break;
            }
        }
        self.need(']', "`,` or `]`")?;
        Ok(all)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let all = known.iter().map(|k| (strsim::damerau_levenshtein(k, name), *k));
    all.filter(|(d, _)| *d <= 2).min_by_key(|(d, _)| *d).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read_as_written() {
        let e = Expr::parse("half:source.accuracy - 2 * (full:source.accuracy + -0.5)/4").unwrap();
        assert_eq!(e.show(), "half:source.accuracy - 2 * (full:source.accuracy + -0.5) / 4");
        assert_eq!(e.eval(&[1.0, 0.1]), 1.0 - 2.0 * (0.1 - 0.5) / 4.0);
        let e = Expr::parse("all-ones:target.loss - full-2:target.loss - all-ones:target.loss").unwrap();
        let arms: Vec<&str> = e.refs().iter().map(|r| r.arm.as_str()).collect();
        assert_eq!((arms, e.eval(&[3.0, 1.0])), (vec!["all-ones", "full-2"], -1.0));
        let e = Expr::parse("spearman([0, 0.5, 1], [a:s.t0, a:s.t50, a:s.t100])").unwrap();
        assert_eq!((e.eval(&[1.0, 2.0, 3.0]), e.eval(&[3.0, 2.0, 1.0])), (1.0, -1.0));
        let e = Expr::parse("max(min([a:s.x, 2], 1e-3), abs(-a:s.x)) + mean([1,2]) * slope([0,1],[0,a:s.x])").unwrap();
        assert_eq!(e.eval(&[-4.0]), 4.0 - 6.0);
        assert!(Expr::parse("min(a:s.x, 1)").unwrap().eval(&[f64::NAN]).is_nan());
        let e = Expr::parse("a:s.ratio(right, tokens)[tier=5, kind=\"a, b\"] / a:s.ece(p, y, 20)").unwrap();
        assert_eq!(e.show(), "a:s.ratio(right, tokens)[tier=5, kind=\"a, b\"] / a:s.ece(p, y, 20)");
        assert_eq!(Expr::parse("0-shot:s.pass@4[k=-1]").unwrap().refs()[0].metric.show(), "pass@4[k=-1]");
        assert_eq!(Expr::parse("a:s.count()").unwrap().refs()[0].metric.fun, Fun::Count);
    }

    #[test]
    fn faults_name_the_column_and_what_was_expected() {
        for (text, what, column) in [
            ("", "expected a measure, a number, a function or `(`, found the end", 1),
            ("a:s.x -b:s.x", "a minus between two values needs blanks", 7),
            ("a:s.x - ", "found the end", 9),
            ("accuracy", "`accuracy` is no measure", 1),
            ("a:s.x + 3x", "`3x` is no measure and no number", 9),
            ("a:.x", "expected a stage's name", 3),
            ("a:s", "expected `.` and a metric", 4),
            ("a:s.", "expected a column's name", 5),
            ("(a:s.x", "expected `)`", 7),
            ("a:s.x b:s.x", "expected an operator or the end", 7),
            ("median(a:s.x)", "unknown function `median`", 1),
            ("a:s.rato(x,y)", "unknown metric `rato`", 5),
            ("a:s.auc(x)", "`auc` takes 2 columns, not 1", 5),
            ("a:s.x[tier]", "expected `=`", 11),
            ("a:s.x[tier=]", "expected a number or a text", 12),
            ("a:s.ece(p,y,0)", "expected a number of bins", 14),
            ("slope([1,2],[a:s.x])", "two lists of one length", 1),
            ("abs(a:s.x, 1)", "`abs` takes one value", 1),
        ] {
            let e = Expr::parse(text).unwrap_err();
            let said = e.to_string();
            assert!(said.contains(what) && said.contains(&format!("column {column} of")), "{text}: {said}");
            assert_eq!(e.exit_code(), 2);
        }
        assert!(Expr::parse("1 + 2").unwrap_err().to_string().contains("names no measure"));
        assert!(Expr::parse(&"(".repeat(100_000)).unwrap_err().to_string().contains("too deep"));
        assert!(Expr::parse(&format!("{}a:s.x", "-".repeat(100_000))).is_err());
        assert!(Expr::parse("a:s.rato(x,y)").unwrap_err().to_string().contains("did you mean `ratio`"));
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            (0.0f64..100.0).prop_map(|x| format!("{x}")),
            "[a-c][a-c-]{0,2}:[st]\\.(x|x\\.y|median\\(x\\)|count\\(\\)|auc\\(a, b\\))(\\[k=(1|on)\\])?",
        ];
        leaf.prop_recursive(5, 40, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone(), 0usize..4)
                    .prop_map(|(a, b, op)| format!("({a}) {} ({b})", ["+", "-", "*", "/"][op])),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} - {b}")),
                inner.clone().prop_map(|a| format!("-({a})")),
                proptest::collection::vec(inner.clone(), 1..4).prop_map(|v| format!("max([{}])", v.join(", "))),
                (inner.clone(), inner).prop_map(|(a, b)| format!("slope([{a}, 1], [2, {b}])")),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(text in value()) {
            let text = format!("{text} + z:s.m");
            let first = Expr::parse(&text).unwrap();
            let again = Expr::parse(&first.show()).unwrap();
            prop_assert_eq!(&again, &first, "{} {}", text, first.show());
            let json = serde_json::to_string(&first).unwrap();
            prop_assert_eq!(serde_json::from_str::<Expr>(&json).unwrap(), first);
        }

        #[test]
        fn any_text_is_answered(text in "[a-c:. +*/()\\[\\],=0-9e\"-]{0,40}|\\PC{0,20}") {
            let _ = Expr::parse(&text);
        }
    }
}
