//! `operation`: work out an expression with newly defined operators.
//!
//! ```text
//! Let a @ b = 2*a + b; but a*b if a > b. From left to right, what is 3 @ 4 @ 2?
//! 3 @ 4 = 10
//! 10 @ 2 = 20
//! #### 20
//! ```

use serde::Deserialize;

use super::*;

pub struct Operation;

const SYMBOLS: Knob = Knob::number("symbols", 1, 4, 2, "operators that are defined");
const OPERANDS: Knob = Knob::number("operands", 2, 5, 3, "numbers in the expression");
const CONDITIONS: Knob =
    Knob::number("conditions", 0, 100, 50, "chance that an operator has a second case, in percent");

const SIGNS: [char; 4] = ['@', '&', '%', '~'];

/// `p*a + q*b + r`, or `p*a*b + r` where it is a product.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Formula {
    p: i64,
    q: i64,
    r: i64,
    product: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum When {
    Greater,
    Equal,
    FirstEven,
    SecondEven,
    SumEven,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    usual: Formula,
    other: Option<(When, Formula)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    rules: Vec<Rule>,
    operands: Vec<i64>,
    /// Which rule stands between neighbours.
    between: Vec<usize>,
}

impl Formula {
    fn draw(stream: &mut Stream) -> Self {
        if stream.chance(0.3) {
            return Self { p: 1, q: 0, r: stream.between(-5, 5), product: true };
        }
        let q = *stream.choose(&[-3, -2, -1, 1, 2, 3]);
        Self { p: stream.between(1, 3), q, r: stream.between(-5, 5), product: false }
    }

    fn value(&self, a: i64, b: i64) -> Option<i64> {
        let sum = if self.product {
            self.p.checked_mul(a)?.checked_mul(b)?
        } else {
            self.p.checked_mul(a)?.checked_add(self.q.checked_mul(b)?)?
        };
        sum.checked_add(self.r)
    }

    fn show(&self) -> String {
        let times = |k: i64, name: &str| if k == 1 { name.to_string() } else { format!("{k}*{name}") };
        let signed = |k: i64, text: String| format!(" {} {text}", if k < 0 { '-' } else { '+' });
        let mut text = times(self.p, if self.product { "a*b" } else { "a" });
        if !self.product && self.q != 0 {
            text.push_str(&signed(self.q, times(self.q.saturating_abs(), "b")));
        }
        if self.r != 0 {
            text.push_str(&signed(self.r, self.r.saturating_abs().to_string()));
        }
        text
    }
}

impl When {
    const ALL: [Self; 5] = [Self::Greater, Self::Equal, Self::FirstEven, Self::SecondEven, Self::SumEven];

    fn holds(self, a: i64, b: i64) -> bool {
        match self {
            Self::Greater => a > b,
            Self::Equal => a == b,
            Self::FirstEven => a % 2 == 0,
            Self::SecondEven => b % 2 == 0,
            Self::SumEven => a % 2 == 0 && b % 2 == 0 || a % 2 != 0 && b % 2 != 0,
        }
    }

    fn show(self) -> &'static str {
        match self {
            Self::Greater => "a > b",
            Self::Equal => "a = b",
            Self::FirstEven => "a is even",
            Self::SecondEven => "b is even",
            Self::SumEven => "a + b is even",
        }
    }
}

impl Rule {
    fn value(&self, a: i64, b: i64) -> Option<i64> {
        match &self.other {
            Some((when, formula)) if when.holds(a, b) => formula.value(a, b),
            _ => self.usual.value(a, b),
        }
    }

    fn show(&self, sign: char) -> String {
        let other = self.other.as_ref().map(|(when, f)| format!("; but {} if {}", f.show(), when.show()));
        format!("a {sign} b = {}{}", self.usual.show(), other.unwrap_or_default())
    }
}

impl Board {
    /// Each operation with its value, from left to right; none beyond 64 bits.
    fn walk(&self) -> Option<(Vec<String>, i64)> {
        let mut value = *self.operands.first()?;
        let mut steps = vec![];
        for (&k, &b) in self.between.iter().zip(&self.operands[1..]) {
            let next = self.rules[k].value(value, b)?;
            steps.push(format!("{value} {} {b} = {next}", SIGNS[k]));
            value = next;
        }
        Some((steps, value))
    }
}

impl Puzzle for Operation {
    type Board = Board;
    const NAME: &'static str = "operation";
    const ABOUT: &'static str = "work out an expression with newly defined operators";
    const KNOBS: &'static [Knob] = &[SYMBOLS, OPERANDS, CONDITIONS];

    fn draw(stream: &mut Stream, d: &Difficulty) -> Result<(Board, String)> {
        let count = d.get(&SYMBOLS) as usize;
        let rule = |stream: &mut Stream| {
            let usual = Formula::draw(stream);
            let second = stream.chance(d.get(&CONDITIONS) as f64 / 100.0);
            Rule { usual, other: second.then(|| (*stream.choose(&When::ALL), Formula::draw(stream))) }
        };
        let rules: Vec<Rule> = (0..count).map(|_| rule(stream)).collect();
        let operands: Vec<i64> = (0..d.get(&OPERANDS)).map(|_| stream.between(1, 9)).collect();
        let between = (1..operands.len()).map(|_| stream.below(count)).collect();
        let board = Board { rules, operands, between };
        let (_, value) = board.walk().ok_or_else(|| Error::work("the value is too large"))?;
        Ok((board, value.to_string()))
    }

    fn prompt(board: &Board, stream: &mut Stream) -> String {
        let rules: Vec<String> = board.rules.iter().zip(SIGNS).map(|(r, s)| r.show(s)).collect();
        let mut expression = board.operands[0].to_string();
        for (&k, b) in board.between.iter().zip(&board.operands[1..]) {
            expression.push_str(&format!(" {} {b}", SIGNS[k]));
        }
        let wordings = [
            "Let {}. From left to right, what is {}? Answer with the number.",
            "New operators: {}. Work out {} step by step from the left. Answer with a number.",
            "Given {}, find the value of {} (all operators bind alike, from left to right). Write the number.",
        ];
        word(stream, &wordings, &[&rules.join(". "), &expression])
    }

    fn sound(board: &Board) -> bool {
        let small = |n: &i64| (-1000..=1000).contains(n);
        let formula = |f: &Formula| [f.p, f.q, f.r].iter().all(small);
        (1..=SIGNS.len()).contains(&board.rules.len())
            && (1..=10).contains(&board.operands.len())
            && board.between.len() + 1 == board.operands.len()
            && board.between.iter().all(|k| *k < board.rules.len())
            && board.operands.iter().all(small)
            && board.rules.iter().all(|r| formula(&r.usual) && r.other.as_ref().is_none_or(|(_, f)| formula(f)))
            && board.walk().is_some()
    }

    fn accepts(board: &Board, text: &str) -> Option<bool> {
        let text = text.trim().trim_start_matches('=').trim().replace('\u{2212}', "-");
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(text.parse() == Ok(board.walk()?.1))
    }

    fn steps(board: &Board, _: &str) -> Vec<String> {
        board.walk().map(|w| w.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::laws::{Laws, hold};

    fn wrong(p: &Problem) -> Vec<String> {
        let n: i64 = p.answer.parse().unwrap();
        vec![(n + 1).to_string(), (n - 1).to_string(), format!("{n}7"), (-n - 1).to_string(), format!("{n} @ 1")]
    }

    #[test]
    fn the_laws_hold() {
        let specs = ["", "symbols=1,operands=2,conditions=0", "symbols=4,operands=5,conditions=100"];
        let also = |p: &Problem| vec![format!("= {}", p.answer), p.answer.replace('-', "\u{2212}")];
        hold(&Of(Operation), &Laws { specs: &specs, n: 80, wrong, also, digest: "bec9fae686885d0b" });
    }

    /// Reads definitions and expression from the prompt alone and works them out.
    fn work_out(prompt: &str) -> i64 {
        let formula = |text: &str, a: i64, b: i64| -> i64 {
            let (mut sum, mut sign) = (0, 1);
            for token in text.split(' ') {
                match token {
                    "+" => sign = 1,
                    "-" => sign = -1,
                    t => {
                        let factor = |f: &str| match f {
                            "a" => a,
                            "b" => b,
                            k => k.parse().unwrap(),
                        };
                        sum += sign * t.split('*').map(factor).product::<i64>();
                    }
                }
            }
            sum
        };
        let rules = &prompt[prompt.find("a ").unwrap()..];
        let define = |sign: &str| {
            let from = rules.find(&format!("a {sign} b = ")).unwrap() + 8;
            let end = rules[from..].find(['.', '?']).unwrap();
            let text = rules[from..from + end].split(", find").next().unwrap();
            text.to_string()
        };
        let is_sign = |t: &str| t.len() == 1 && SIGNS.contains(&t.chars().next().unwrap());
        let tokens: Vec<&str> = rules.split([' ', '?']).collect();
        let start = (1..tokens.len()).find(|&i| is_sign(tokens[i]) && tokens[i - 1].parse::<i64>().is_ok()).unwrap();
        let mut value: i64 = tokens[start - 1].parse().unwrap();
        let mut at = start;
        while at < tokens.len() && is_sign(tokens[at]) {
            let b: i64 = tokens[at + 1].parse().unwrap();
            let text = define(tokens[at]);
            let (usual, other) = text.split_once("; but ").map_or((text.as_str(), None), |(u, o)| (u, Some(o)));
            let second = other.map(|o| o.split_once(" if ").unwrap()).filter(|(_, when)| match *when {
                "a > b" => value > b,
                "a = b" => value == b,
                "a is even" => value % 2 == 0,
                "b is even" => b % 2 == 0,
                _ => (value + b) % 2 == 0,
            });
            value = formula(second.map_or(usual, |s| s.0), value, b);
            at += 2;
        }
        value
    }

    #[test]
    fn answers_are_what_the_prompts_define() {
        for seed in 0..300 {
            let spec = format!("symbols={},operands={}", 1 + seed % 4, 2 + seed % 3);
            let d = Of(Operation).difficulty(&spec).unwrap();
            let p = Of(Operation).generate(&mut Stream::new(seed, &["test"]), &d).unwrap();
            assert_eq!(work_out(&p.prompt).to_string(), p.answer, "{}", p.prompt);
        }
    }
}
