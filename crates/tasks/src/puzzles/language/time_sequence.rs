//! `time-sequence`: the longest meeting that everyone can attend, and how many there are of that length.
//!
//! ```text
//! Ada: Monday busy 09:00-10:00, 12:00-16:00. Ben: Monday free 09:30-13:00. Everyone works 09:00-18:00. ...
//! Monday: Ada 10:00-12:00 16:00-18:00 / Ben 09:30-13:00 / all 10:00-12:00
//! #### [120, 1]
//! ```
//!
//! Difficulty: `people`, `days`, `rule` (per cent of people with a rule of their own). Times are multiples of 5 minutes.

use super::*;

pub struct TimeSequence;

const PEOPLE: Knob = Knob::number("people", 1, 6, 2, "how many people");
const DAYS: Knob = Knob::number("days", 1, 5, 1, "how many days");
const RULE: Knob = Knob::number("rule", 0, 100, 30, "per cent of people with a rule");

const WEEK: [&str; 5] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"];
/// Slots of 5 minutes from 09:00 to 18:00.
const SLOTS: usize = 108;

const WORDINGS: &[&str] = &[
    "Everyone works from 09:00 to 18:00.\n{}\nFind the longest meeting that all can attend without a break. Answer [minutes, how many such slots there are]; [0, 0] if they cannot meet.",
    "The working day is 09:00-18:00 for all.\n{}\nWhat is the longest time, in minutes, that all are free at once, and how often is there a stretch of just that length? Answer as [minutes, count], or [0, 0] if never.",
    "{}\nThey work 09:00-18:00 and want to meet, all of them, as long as possible in one piece. Give [length in minutes, number of stretches of that length], [0, 0] if there is none.",
];

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Rule {
    None,
    /// Not before this slot.
    From(usize),
    /// Not from this slot on.
    Until(usize),
    /// Not between 12:00 and 13:00.
    Lunch,
    /// Not in the slots before and after what is booked: so many.
    Rest(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    name: String,
    rule: Rule,
    /// What is booked, a day: first slot and the slot after the last.
    busy: Vec<Vec<(usize, usize)>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    people: Vec<Person>,
}

fn clock(slot: usize) -> String {
    format!("{:02}:{:02}", 9 + slot / 12, slot % 12 * 5)
}

fn spans(list: &[(usize, usize)], by: &str) -> String {
    list.iter().map(|(a, b)| format!("{}-{}", clock(*a), clock(*b))).collect::<Vec<_>>().join(by)
}

/// The runs of true.
fn runs(free: &[bool]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = vec![];
    for (i, _) in free.iter().enumerate().filter(|f| *f.1) {
        match out.last_mut() {
            Some(last) if last.1 == i => last.1 = i + 1,
            _ => out.push((i, i + 1)),
        }
    }
    out
}

/// When a person can meet on a day.
fn free(person: &Person, day: usize) -> [bool; SLOTS] {
    let mut free = [true; SLOTS];
    let rest = if let Rule::Rest(n) = person.rule { n } else { 0 };
    for (a, b) in &person.busy[day] {
        free[a.saturating_sub(rest)..(b + rest).min(SLOTS)].fill(false);
    }
    match person.rule {
        Rule::From(n) => free[..n].fill(false),
        Rule::Until(n) => free[n..].fill(false),
        Rule::Lunch => free[36..48].fill(false),
        _ => {}
    }
    free
}

fn together(board: &Board, day: usize) -> [bool; SLOTS] {
    let mut all = [true; SLOTS];
    board.people.iter().for_each(|p| free(p, day).iter().zip(&mut all).for_each(|(f, a)| *a &= f));
    all
}

fn sound(board: &Board) -> bool {
    let days = board.people.first().map_or(0, |p| p.busy.len());
    let person = |p: &Person| {
        let good = match p.rule {
            Rule::From(n) | Rule::Until(n) | Rule::Rest(n) => n <= SLOTS,
            _ => true,
        };
        good && p.busy.len() == days && p.busy.iter().flatten().all(|(a, b)| a < b && *b <= SLOTS)
    };
    (1..=WEEK.len()).contains(&days) && board.people.len() <= 20 && board.people.iter().all(person)
}

/// Minutes and count.
fn best(board: &Board) -> [i64; 2] {
    let days = board.people[0].busy.len();
    let all: Vec<usize> = (0..days).flat_map(|d| runs(&together(board, d))).map(|(a, b)| b - a).collect();
    let longest = all.iter().max().copied().unwrap_or(0);
    [longest as i64 * 5, all.iter().filter(|l| **l == longest).count() as i64]
}

fn rule_told(p: &Person) -> String {
    let name = &p.name;
    match p.rule {
        Rule::None => String::new(),
        Rule::From(n) => format!("\n{name} does not meet before {}.", clock(n)),
        Rule::Until(n) => format!("\n{name} must leave at {}.", clock(n)),
        Rule::Lunch => format!("\n{name} always rests from 12:00 to 13:00."),
        Rule::Rest(n) => format!("\n{name} does not meet in the {} minutes before and after anything booked.", n * 5),
    }
}

impl Worked for TimeSequence {
    const NAME: &'static str = "time-sequence";
    const ABOUT: &'static str = "the longest meeting that all calendars allow, and how many there are";
    const KNOBS: &'static [Knob] = &[PEOPLE, DAYS, RULE];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let names = lexicon::some(stream, lexicon::NAMES, d.get(&PEOPLE) as usize);
        let person = |name| {
            let rule = match stream.below(5) {
                _ if !stream.chance(d.get(&RULE) as f64 / 100.0) => Rule::None,
                0 => Rule::From(6 * stream.between(1, 4) as usize),
                1 => Rule::Until(SLOTS - 6 * stream.between(1, 4) as usize),
                2 => Rule::Lunch,
                _ => Rule::Rest(stream.between(1, 4) as usize),
            };
            let mut day = |_| {
                // Cut points parted into busy and free in turn.
                let cuts = 2 * stream.between(1, 3) as usize;
                let mut at: Vec<usize> = stream.sample(SLOTS / 3 + 1, cuts).into_iter().map(|c| c * 3).collect();
                at.sort();
                at.chunks(2).map(|c| (c[0], c[1])).collect()
            };
            Person { name, rule, busy: (0..d.get(&DAYS)).map(&mut day).collect() }
        };
        Board { people: names.into_iter().map(person).collect() }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let mut lines = vec![];
        for p in &board.people {
            let mut line = format!("{}: ", p.name);
            for (day, busy) in p.busy.iter().enumerate() {
                let mut open = [true; SLOTS];
                busy.iter().for_each(|(a, b)| open[*a..*b].fill(false));
                let open = runs(&open);
                // Whoever is to rest around what is booked is told of by what is booked.
                let by_free = stream.chance(0.5) && !open.is_empty() && !matches!(p.rule, Rule::Rest(_));
                let told = if by_free {
                    format!("free only {}", spans(&open, ", "))
                } else {
                    format!("busy {}", spans(busy, ", "))
                };
                line.push_str(&format!("{}{} {told}", if day > 0 { "; " } else { "" }, WEEK[day]));
            }
            lines.push(line + "." + &rule_told(p));
        }
        stream.choose(WORDINGS).replace("{}", &lines.join("\n"))
    }

    fn gist(board: &Board) -> String {
        let all: Vec<_> = board.people.iter().map(|p| (p.rule, &p.busy)).collect();
        serde_json::to_string(&all).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        if !sound(board) {
            return None;
        }
        let mut steps = vec![];
        let shown = |free: &[bool]| if runs(free).is_empty() { "never".to_string() } else { spans(&runs(free), " ") };
        for (day, name) in WEEK.iter().enumerate().take(board.people[0].busy.len()) {
            for p in &board.people {
                steps.push(format!("{name} {}: {}", p.name, shown(&free(p, day))));
            }
            let all = together(board, day);
            let lengths: Vec<String> = runs(&all).iter().map(|(a, b)| ((b - a) * 5).to_string()).collect();
            let lengths = if lengths.is_empty() { String::new() } else { format!(" ({} minutes)", lengths.join(", ")) };
            steps.push(format!("{name} all: {}{lengths}", shown(&all)));
        }
        let [minutes, count] = best(board);
        Some(Solution { steps, answer: format!("[{minutes}, {count}]") })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        lexicon::numbers(text).map(|said| said == best(board))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "people=5,days=3,rule=100", "people=3,days=5"];
        let also = |p: &Problem| vec![p.answer.replace(['[', ']'], ""), p.answer.replace(", ", ",")];
        let wrong = |p: &Problem| {
            let n: Vec<i64> = lexicon::numbers(&p.answer).unwrap();
            vec![
                format!("[{}, {}]", n[0] + 5, n[1]),
                format!("[{}, {}]", n[0], n[1] + 1),
                n[0].to_string(),
                format!("{0} {0}", p.answer),
            ]
        };
        hold(&Of(TimeSequence), &Laws { specs: &specs, n: 60, wrong, also, digest: "fe7b9259e585db54" });
    }

    /// Every start and length tried against what was booked and the rules, slot by slot.
    #[test]
    fn every_meeting_tried() {
        for (board, answer) in boards::<TimeSequence>("people=3,days=2,rule=80", 60) {
            let can = |p: &Person, day: usize, s: i64| {
                let rest = if let Rule::Rest(n) = p.rule { n as i64 } else { 0 };
                let ruled = match p.rule {
                    Rule::From(n) => s < n as i64,
                    Rule::Until(n) => s >= n as i64,
                    Rule::Lunch => (36..48).contains(&s),
                    _ => false,
                };
                !ruled && p.busy[day].iter().all(|(a, b)| s < *a as i64 - rest || s >= *b as i64 + rest)
            };
            let mut found = (0, 0);
            for day in 0..2 {
                for start in 0..SLOTS as i64 {
                    let all = |s: &i64| board.people.iter().all(|p| can(p, day, *s));
                    let length = (start..SLOTS as i64).take_while(all).count();
                    if length > found.0 {
                        found = (length, 0);
                    }
                    found.1 += usize::from(length == found.0 && length > 0);
                }
            }
            assert_eq!(answer, format!("[{}, {}]", found.0 * 5, found.1));
        }
    }
}
