//! `buggy-tables`: a number from a table that was printed with a known mistake.
//!
//! ```text
//! The printer moved every column i, counted from 0, down by i rows, around the end. Undo this.
//! apples,boxes,cards
//! 4,7,2
//! 9,3,6
//! By how much do the sums of apples and boxes differ, in rows where cards is more than 1? Two decimals ...
//! row 1: 4,3,2 / row 2: 9,7,6 / apples: 4+9=13 / boxes: 3+7=10 / 13-10=3
//! #### 3.00
//! ```
//!
//! Difficulty: `rows`, `columns`, `bug`, `statistic`, `nulls` (per cent of empty cells). Any number within half a hundredth
//! of the exact one is right.

use super::*;

pub struct BuggyTables;

const ROWS: Knob = Knob::number("rows", 2, 30, 4, "rows of the table");
const COLUMNS: Knob = Knob::number("columns", 2, 8, 3, "columns of the table");
const BUG: Knob =
    Knob::choice("bug", &["any", "error", "merged", "columns", "rows", "extra", "reversed"], "what went wrong");
const STATISTIC: Knob = Knob::choice("statistic", &["any", "sum", "mean", "max", "min", "median"], "what is computed");
const NULLS: Knob = Knob::number("nulls", 0, 40, 5, "per cent of cells that are null");

const NAMES: [&str; 12] =
    ["apples", "boxes", "cards", "dolls", "eggs", "forks", "games", "hats", "inks", "jars", "keys", "lamps"];

#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "lowercase")]
enum Bug {
    /// Cells (column, row), in column order, that show ERROR.
    Error(Vec<(usize, usize)>),
    /// Every two rows in one, values joined by `&`.
    Merged,
    /// Column i moved down by i rows.
    Columns,
    /// Row i moved right by i columns.
    Rows,
    /// Values that were added at the ends of rows: row i got i of them.
    Extra(Vec<i64>),
    /// Every second row is written backwards.
    Reversed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    names: Vec<String>,
    /// The true table, rows of cells.
    cells: Vec<Vec<Option<i64>>>,
    bug: Bug,
    /// Index in the choices of `statistic`, from 1.
    statistic: usize,
    of: [usize; 2],
    /// Only rows where this column is more than this value.
    only: Option<(usize, i64)>,
}

fn shown(cell: Option<i64>) -> String {
    cell.map_or("null".into(), |n| n.to_string())
}

impl Board {
    fn sound(&self) -> bool {
        let (n, rows) = (self.names.len(), self.cells.len());
        let bug = match &self.bug {
            Bug::Error(at) => at.iter().all(|(c, r)| *c < n && *r < rows),
            Bug::Extra(more) => more.len() == rows * rows.saturating_sub(1) / 2,
            _ => true,
        };
        (1..=12).contains(&n)
            && (1..=60).contains(&rows)
            && self.cells.iter().all(|r| r.len() == n && r.iter().flatten().all(|v| v.unsigned_abs() < 1_000_000))
            && (1..=5).contains(&self.statistic)
            && self.of.iter().all(|c| *c < n)
            && self.only.is_none_or(|(c, _)| c < n)
            && bug
    }

    /// The values of a column that count.
    fn column(&self, c: usize) -> Vec<i64> {
        let counts = |row: &&Vec<Option<i64>>| self.only.is_none_or(|(k, more)| row[k].is_some_and(|v| v > more));
        self.cells.iter().filter(counts).filter_map(|row| row[c]).collect()
    }

    /// A statistic as a fraction; none of an empty column.
    fn value(&self, c: usize) -> Option<(i64, i64)> {
        let mut v = self.column(c);
        v.sort();
        let n = v.len();
        Some(match self.statistic {
            _ if n == 0 => return None,
            1 => (v.iter().sum(), 1),
            2 => (v.iter().sum(), n as i64),
            3 => (v[n - 1], 1),
            4 => (v[0], 1),
            _ if n % 2 == 1 => (v[n / 2], 1),
            _ => (v[n / 2 - 1] + v[n / 2], 2),
        })
    }

    /// The difference as a fraction, not below zero.
    fn answer(&self) -> Option<(i64, i64)> {
        let ((a, b), (c, d)) = (self.value(self.of[0])?, self.value(self.of[1])?);
        Some(((a * d - c * b).abs(), b * d))
    }

    /// The table as the mistake left it, and what the reader is told.
    fn printed(&self) -> (Vec<String>, String) {
        let (n, rows) = (self.names.len(), self.cells.len());
        let cell = |r: usize, c: usize| shown(self.cells[r][c]);
        let table = |f: &dyn Fn(usize, usize) -> String| -> Vec<String> {
            (0..rows).map(|r| (0..n).map(|c| f(r, c)).collect::<Vec<_>>().join(",")).collect()
        };
        match &self.bug {
            Bug::Error(at) => {
                let lost: Vec<String> = at.iter().map(|(c, r)| cell(*r, *c)).collect();
                let told = format!(
                    "Some cells were printed as ERROR. Column by column, from the top, they hold: {}.",
                    lost.join(", ")
                );
                (table(&|r, c| if at.contains(&(c, r)) { "ERROR".into() } else { cell(r, c) }), told)
            }
            Bug::Merged => {
                let both = |r: usize, c: usize| {
                    if r + 1 < rows { format!("{} & {}", cell(r, c), cell(r + 1, c)) } else { cell(r, c) }
                };
                let lines = (0..rows).step_by(2).map(|r| (0..n).map(|c| both(r, c)).collect::<Vec<_>>().join(","));
                (lines.collect(), "Every two rows were printed as one, their values joined by &.".into())
            }
            Bug::Columns => (
                table(&|r, c| cell((r + rows * n - c) % rows, c)),
                "Every column i, counted from 0, was moved down by i rows, around the end.".into(),
            ),
            Bug::Rows => (
                table(&|r, c| cell(r, (c + n * rows - r) % n)),
                "Every row i, counted from 0, was moved to the right by i columns, around the end.".into(),
            ),
            Bug::Extra(more) => {
                let mut more = more.iter();
                let lines = table(&cell)
                    .into_iter()
                    .enumerate()
                    .map(|(r, line)| more.by_ref().take(r).fold(line, |line, m| format!("{line},{m}")));
                (
                    lines.collect(),
                    "To the end of every row i, counted from 0, i values were added that do not belong there.".into(),
                )
            }
            Bug::Reversed => (
                table(&|r, c| if r % 2 == 1 { cell(r, n - 1 - c) } else { cell(r, c) }),
                "Every second row, from the second on, was printed from right to left.".into(),
            ),
        }
    }
}

/// A fraction with two decimals, halves up.
fn decimals((a, b): (i64, i64)) -> String {
    let cents = (200 * a + b) / (2 * b);
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn bug(stream: &mut Stream, kind: i64, n: usize, rows: usize) -> Bug {
    match if kind == 0 { stream.between(1, 6) } else { kind } {
        1 => {
            let count = 1 + stream.below((n * rows / 3).max(1));
            let mut at: Vec<(usize, usize)> =
                stream.sample(n * rows, count).into_iter().map(|i| (i / rows, i % rows)).collect();
            at.sort();
            Bug::Error(at)
        }
        2 => Bug::Merged,
        3 => Bug::Columns,
        4 => Bug::Rows,
        5 => Bug::Extra((0..rows * (rows - 1) / 2).map(|_| stream.between(0, 99)).collect()),
        _ => Bug::Reversed,
    }
}

impl Worked for BuggyTables {
    const NAME: &'static str = "buggy-tables";
    const ABOUT: &'static str = "a statistic of a table that was printed with a known mistake";
    const KNOBS: &'static [Knob] = &[ROWS, COLUMNS, BUG, STATISTIC, NULLS];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let (rows, n) = (d.get(&ROWS) as usize, d.get(&COLUMNS) as usize);
        let names: Vec<String> = NAMES[..n].iter().map(|s| s.to_string()).collect();
        let statistic = match d.get(&STATISTIC) {
            0 => 1 + stream.below(5),
            s => s as usize,
        };
        loop {
            let mut cell = |_| (!stream.chance(d.get(&NULLS) as f64 / 100.0)).then(|| stream.between(0, 99));
            let cells: Vec<Vec<Option<i64>>> = (0..rows).map(|_| (0..n).map(&mut cell).collect()).collect();
            let two = stream.sample(n, 2);
            let only = stream.chance(0.6).then(|| (stream.below(n), stream.between(5, 60)));
            let bug = bug(stream, d.get(&BUG), n, rows);
            let board = Board { names: names.clone(), cells, bug, statistic, of: [two[0], two[1]], only };
            if board.answer().is_some() {
                return board;
            }
        }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let (lines, told) = board.printed();
        let statistic = ["sum", "mean", "maximum", "minimum", "median"][board.statistic - 1];
        let [a, b] = board.of.map(|c| &board.names[c]);
        let only =
            board.only.map_or(String::new(), |(c, k)| format!(", in rows where {} is more than {k}", board.names[c]));
        let question = match stream.below(3) {
            0 => format!("By how much do the {statistic} of {a} and the {statistic} of {b} differ{only}?"),
            1 => format!(
                "Find the absolute difference between the {statistic} of column {a} and that of column {b}{only}."
            ),
            _ => format!("Take the {statistic} of {a} and of {b}{only}. How far apart are they?"),
        };
        let rules = "Leave out null; a condition on null does not hold. Round to two decimals.";
        let head = *stream.choose(&[
            "This table was printed with a mistake.",
            "A bug spoiled this table.",
            "Repair this table first.",
        ]);
        format!("{head} {told}\n{}\n{}\n{question} {rules}", board.names.join(","), lines.join("\n"))
    }

    fn gist(board: &Board) -> String {
        serde_json::to_string(board).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let answer = board.sound().then(|| board.answer()).flatten()?;
        let row = |(i, r): (usize, &Vec<Option<i64>>)| {
            format!("row {}: {}", i + 1, r.iter().map(|c| shown(*c)).collect::<Vec<_>>().join(","))
        };
        let mut steps: Vec<String> = board.cells.iter().enumerate().map(row).collect();
        for c in board.of {
            let mut values = board.column(c);
            let (a, b) = board.value(c)?;
            let name = &board.names[c];
            if board.statistic > 2 {
                values.sort();
            }
            let list = values.iter().map(i64::to_string).collect::<Vec<_>>();
            steps.push(match board.statistic {
                1 => format!("{name}: {}={a}", list.join("+")),
                2 => format!("{name}: {}={a}, {a}/{b}={}", list.join("+"), decimals((a, b))),
                _ => format!("{name}: {} gives {}", list.join(" "), decimals((a, b))),
            });
        }
        steps.push(format!("difference: {}", decimals(answer)));
        Some(Solution { steps, answer: decimals(answer) })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let (a, b) = board.answer()?;
        let said = text.trim().trim_end_matches('.');
        if said.is_empty() || said.len() > 20 || !said.bytes().all(|c| c.is_ascii_digit() || c == b'.') {
            return None;
        }
        let said: f64 = said.parse().ok()?;
        // The rounding of 0.005 may go either way; the last term is for binary fractions.
        Some((said * b as f64 - a as f64).abs() <= (0.005 + 1e-9) * b as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "rows=10,columns=5,nulls=20", "rows=7,bug=extra", "bug=merged,statistic=median"];
        let also = |p: &Problem| vec![format!("0{}", p.answer), format!("{}0", p.answer)];
        let wrong = |p: &Problem| {
            let n: f64 = p.answer.parse().unwrap();
            vec![
                format!("{:.2}", n + 0.02),
                format!("{:.2}", n + 1.0),
                format!("-{}1", p.answer),
                format!("{} {}", p.answer, n),
            ]
        };
        hold(&Of(BuggyTables), &Laws { specs: &specs, n: 60, wrong, also, digest: "3777ff2292a59ba9" });
    }

    /// The printed table repaired as its sentence says is the true table.
    #[test]
    fn repairs_give_the_table_back() {
        for (board, p) in problems::<BuggyTables>("rows=5,columns=4,nulls=10", 300) {
            let lines: Vec<&str> = p.prompt.lines().collect();
            let printed: Vec<Vec<&str>> = lines[2..lines.len() - 1].iter().map(|l| l.split(',').collect()).collect();
            let n = board.names.len();
            let said = |word: &str| lines[0].contains(word);
            let table: Vec<Vec<String>> = if said("ERROR") {
                let mut lost = lines[0].rsplit(": ").next().unwrap().trim_end_matches('.').split(", ");
                let mut table: Vec<Vec<String>> =
                    printed.iter().map(|r| r.iter().map(|c| c.to_string()).collect()).collect();
                for c in 0..n {
                    table.iter_mut().filter(|r| r[c] == "ERROR").for_each(|r| r[c] = lost.next().unwrap().into());
                }
                table
            } else if said("joined") {
                let split = |r: &Vec<&str>, k: usize| {
                    r.iter().filter_map(|c| Some(c.split(" & ").nth(k)?.to_string())).collect()
                };
                printed
                    .iter()
                    .flat_map(|r| [split(r, 0), split(r, 1)])
                    .filter(|r: &Vec<String>| !r.is_empty())
                    .collect()
            } else {
                let rows = printed.len();
                let at = |r: usize, c: usize| match () {
                    () if said("moved down") => printed[(r + c) % rows][c],
                    () if said("to the right") => printed[r][(c + r) % n],
                    () if said("right to left") && r % 2 == 1 => printed[r][n - 1 - c],
                    () => printed[r][c],
                };
                (0..rows).map(|r| (0..n).map(|c| at(r, c).to_string()).collect()).collect()
            };
            let truth: Vec<Vec<String>> = board.cells.iter().map(|r| r.iter().map(|c| shown(*c)).collect()).collect();
            assert_eq!(table, truth, "{}", p.prompt);
        }
    }

    #[test]
    fn halves_round_either_way() {
        let board = Board {
            names: vec!["a".into(), "b".into()],
            cells: [1, 0, 0, 0, 0, 0, 0, 0].iter().map(|n| vec![Some(*n), Some(0)]).collect(),
            bug: Bug::Merged,
            statistic: 2,
            of: [0, 1],
            only: None,
        };
        assert_eq!(BuggyTables::work(&board).unwrap().answer, "0.13");
        for (text, right) in [("0.12", true), ("0.125", true), ("0.13", true), ("0.11", false), ("0.14", false)] {
            assert_eq!(BuggyTables::judge(&board, text), Some(right), "{text}");
        }
    }
}
