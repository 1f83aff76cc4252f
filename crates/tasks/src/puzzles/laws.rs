//! What every family of puzzles must keep, in one function that each family's tests call.
//!
//! ```text
//! hold(&Of(Sudoku), &Laws { specs: &["", "level=4"], n: 50, wrong: |p| spoiled(&p.answer), also: |_| vec![], digest: "…" });
//! ```

use std::time::Instant;

use postgrad_base::Stream;
use serde_json::{Value, json};

use crate::task::{Difficulty, Problem, Reason, Split, Task, stable_hash};

/// What a family says about itself.
pub struct Laws<'a> {
    /// Difficulties to draw at; the extremes of every knob are added.
    pub specs: &'a [&'a str],
    /// Problems a difficulty.
    pub n: u64,
    /// At least three wrong answers to a problem.
    pub wrong: fn(&Problem) -> Vec<String>,
    /// Right answers besides the problem's own: other solutions, other spellings.
    pub also: fn(&Problem) -> Vec<String>,
    /// Hash of the bytes that fixed seeds give; a failure prints the new one.
    pub digest: &'a str,
}

fn problem(task: &dyn Task, seed: u64, d: &Difficulty) -> Problem {
    task.generate(&mut Stream::new(seed, &["test", task.name()]), d).unwrap()
}

/// Panics at the first broken law.
pub fn hold(task: &dyn Task, laws: &Laws) {
    let mut bytes = String::new();
    for spec in laws.specs {
        let d = task.difficulty(spec).unwrap();
        assert_eq!(task.difficulty(&d.show(task.knobs())).unwrap(), d, "{spec}");
        let mut prompts = std::collections::BTreeSet::new();
        for seed in 0..laws.n {
            let p = problem(task, seed, &d);
            answers_are_judged(task, &p, laws);
            prompts.insert(p.prompt.clone());
            if seed < 5 {
                bytes.push_str(&serde_json::to_string(&p).unwrap());
                for r in task.renderings() {
                    bytes.push_str(&task.solve(&p, r.name).unwrap().text);
                }
            }
        }
        assert!(prompts.len() as u64 * 2 > laws.n, "{} {spec}: {} prompts of {}", task.name(), prompts.len(), laws.n);
    }
    every_knob_works(task);
    let first = problem(task, 1, &task.difficulty("").unwrap());
    foreign_problems_are_known(task, &first);
    broken_metas_are_survived(task, &first);
    hostile_text_is_judged_at_once(task, &first);
    assert_eq!(stable_hash(&[&bytes]), laws.digest, "{}", task.name());
}

fn answers_are_judged(task: &dyn Task, p: &Problem, laws: &Laws) {
    let name = task.name();
    assert!(p.task == name && (p.split == Split::of(&p.cluster) || p.split == Split::of(&p.id)), "{name}");
    assert_eq!(serde_json::from_str::<Problem>(&serde_json::to_string(p).unwrap()).unwrap(), *p, "{name}");
    let right = |text: &str| {
        let v = task.verify(p, text);
        assert!(v.correct && v.flexible && v.reason == Reason::Right, "{name}\n{}\n-- {text}\n{v:?}", p.prompt);
    };
    right(&p.answer);
    right(&format!("<think>1 or {}?</think>\n {} \n", p.answer, p.answer));
    for r in task.renderings() {
        let trace = task.solve(p, r.name).unwrap();
        assert_eq!(trace.answer, p.answer, "{name}");
        right(&trace.text);
        right(&trace.answer);
        assert!(trace.steps.iter().all(|s| !s.is_empty() && trace.text.contains(s.as_str())), "{name} {trace:?}");
    }
    for other in (laws.also)(p) {
        right(&other);
    }
    let wrong = (laws.wrong)(p);
    assert!(wrong.len() >= 3, "{name}: {} wrong answers to\n{}\n{}", wrong.len(), p.prompt, p.answer);
    for text in wrong {
        let v = task.verify(p, &text);
        assert!(!v.correct && !v.flexible && v.score == 0.0, "{name}\n{}\n-- {text}\n{v:?}", p.prompt);
    }
    assert_eq!(task.verify(p, " ").reason, Reason::NoAnswer, "{name}");
    assert!(!task.verify(p, &format!("<think>{}", p.answer)).flexible, "{name}");
    assert_eq!(task.solve(p, "no such rendering").unwrap_err().exit_code(), 2);
}

/// Each knob at both ends, the others at their defaults; then all at their ends.
fn every_knob_works(task: &dyn Task) {
    let knobs = task.knobs();
    let mut specs: Vec<String> =
        knobs.iter().flat_map(|k| [k.low, k.high].map(|v| format!("{}={}", k.name, k.show(v)))).collect();
    specs.push(knobs.iter().map(|k| format!("{}={}", k.name, k.show(k.low))).collect::<Vec<_>>().join(","));
    specs.push(knobs.iter().map(|k| format!("{}={}", k.name, k.show(k.high))).collect::<Vec<_>>().join(","));
    for spec in specs {
        let d = task.difficulty(&spec).unwrap();
        for seed in 100..103 {
            let p = problem(task, seed, &d);
            assert_eq!(p, problem(task, seed, &d), "{} {spec}", task.name());
            let text = task.solve(&p, task.renderings()[0].name).unwrap().text;
            assert!(task.verify(&p, &text).correct, "{} {spec}\n{}\n{text}", task.name(), p.prompt);
        }
    }
}

fn foreign_problems_are_known(task: &dyn Task, first: &Problem) {
    let chain = crate::task("chain").unwrap();
    let other = problem(&*chain, 1, &chain.difficulty("").unwrap());
    let mut foreign = vec![other.clone()];
    for meta in [json!(null), json!({}), json!([]), json!(7), json!({"x": [1e300, -1]}), other.meta] {
        foreign.push(Problem { meta, ..first.clone() });
    }
    for p in foreign {
        assert_eq!(task.verify(&p, &first.answer).reason, Reason::NotMine, "{} {}", task.name(), p.meta);
        assert_eq!(task.solve(&p, task.renderings()[0].name).unwrap_err().exit_code(), 2, "{}", task.name());
    }
}

/// Every number, word and list of the meta replaced by extreme ones: a verdict or an error, never a panic.
fn broken_metas_are_survived(task: &dyn Task, first: &Problem) {
    let mut metas = vec![];
    let mut paths = vec![String::new()];
    while let Some(path) = paths.pop() {
        let others = match first.meta.pointer(&path).unwrap() {
            Value::Object(map) => {
                paths.extend(map.keys().map(|k| format!("{path}/{k}")));
                vec![json!({}), json!(null)]
            }
            Value::Array(list) => {
                paths.extend((0..list.len().min(3)).map(|i| format!("{path}/{i}")));
                let twice: Vec<&Value> = list.iter().chain(list).collect();
                vec![json!([]), json!(&list[..list.len() / 2]), json!(twice)]
            }
            Value::String(_) => vec![json!(""), json!("\u{130}?"), json!("A".repeat(5000))],
            _ => {
                [json!(-1), json!(0), json!(3), json!(100), json!(i64::MIN), json!(i64::MAX), json!(u64::MAX)].to_vec()
            }
        };
        for other in others {
            let mut meta = first.meta.clone();
            *meta.pointer_mut(&path).unwrap() = other;
            metas.push(meta);
        }
    }
    for meta in metas {
        let p = Problem { meta, ..first.clone() };
        let start = Instant::now();
        task.verify(&p, &first.answer);
        task.verify(&p, "none");
        assert!(start.elapsed().as_millis() < 400, "{} {}", task.name(), p.meta);
        let _ = task.solve(&p, task.renderings()[0].name);
    }
}

fn hostile_text_is_judged_at_once(task: &dyn Task, p: &Problem) {
    let mut stream = Stream::new(1, &["test", "hostile"]);
    let mut texts: Vec<String> = (0..40)
        .map(|i| {
            let bytes: Vec<u8> = (0..50 * i).map(|_| stream.next_u64() as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .collect();
    for piece in
        ["(", "[", "{", "[[", "####", "<answer>", "</answer>", "answer is ", "\n\n", "(1,", "1 + ", "-", "\u{130}"]
    {
        texts.push(piece.repeat(2_000_000 / piece.len()));
        texts.push(format!("{}{}", piece.repeat(1000), p.answer.repeat(3)));
    }
    for digits in ["9".repeat(5000), "-".to_string() + &"1".repeat(5000), "0.".repeat(3000), "1e".repeat(3000)] {
        texts.push(format!("#### {digits}"));
        texts.push(p.answer.replace(|c: char| c.is_ascii_digit(), &digits[..40]));
        texts.push(digits);
    }
    // single characters of the answer replaced, doubled, dropped
    for (at, c) in p.answer.char_indices().take(60) {
        let (head, tail) = (&p.answer[..at], &p.answer[at + c.len_utf8()..]);
        texts.extend([format!("{head}{tail}"), format!("{head}\u{1f600}{tail}"), format!("{head}{c}{c}{tail}")]);
    }
    for text in texts {
        let start = Instant::now();
        task.verify(p, &text);
        assert!(start.elapsed().as_millis() < 400, "{} {:?}", task.name(), start.elapsed());
    }
}

/// Wrong answers to a problem that has one answer: a number or word changed, swapped, dropped, added.
pub fn spoiled(answer: &str) -> Vec<String> {
    let mut all = vec![format!("{answer} 1"), format!("{answer} {answer}")];
    let spots: Vec<(usize, char)> = answer.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).collect();
    for &(at, c) in [spots.first(), spots.get(spots.len() / 2), spots.last()].into_iter().flatten() {
        let other = match c {
            '1' => '2',
            'a' => 'b',
            c if c.is_ascii_digit() => '1',
            _ => 'a',
        };
        all.push(format!("{}{other}{}", &answer[..at], &answer[at + 1..]));
    }
    if let (Some(a), Some(b)) = (spots.first(), spots.iter().find(|s| s.1 != spots[0].1)) {
        let mut bytes = answer.as_bytes().to_vec();
        bytes.swap(a.0, b.0);
        all.extend(String::from_utf8(bytes));
    }
    all
}

/// A grid of single characters in other spellings.
pub fn glued(p: &Problem) -> Vec<String> {
    let a = &p.answer;
    vec![
        a.replace(' ', ""),
        a.replace(' ', ",  ").replace('\n', "\n\n"),
        a.replace('\n', " "),
        format!("[{}]", a.replace('\n', ";")),
    ]
}

/// All Latin squares of side `n`, row by row.
pub fn latin_squares(n: usize) -> Vec<Vec<i64>> {
    let mut all: Vec<Vec<i64>> = vec![vec![]];
    for i in 0..n * n {
        let clash = |g: &[i64], v: i64| (0..i).any(|j| g[j] == v && (j / n == i / n || j % n == i % n));
        let longer = |g: Vec<i64>| {
            let fit: Vec<Vec<i64>> =
                (1..=n as i64).filter(|v| !clash(&g, *v)).map(|v| [&g[..], &[v]].concat()).collect();
            fit
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

/// Wrong lists of cells to a problem that has one right list: a cell dropped, added, moved, named twice.
pub fn spoiled_places(answer: &str, cols: usize) -> Vec<String> {
    let right = super::grid::places(answer, cols, cols).unwrap();
    let spare: Vec<usize> = (0..cols * cols).filter(|i| !right.contains(i)).collect();
    let show = |places: &[usize]| super::grid::show_places(places, cols);
    let mut all = vec![
        show(&[&right[..], &spare[..1]].concat()),
        show(&[&right[..], &spare[spare.len() - 1..]].concat()),
        show(&spare),
        format!("({},1)", cols + 1),
    ];
    if let Some((first, rest)) = right.split_first() {
        all.extend([show(rest), show(&[rest, &spare[..1]].concat()), show(&[&right[..], &[*first]].concat())]);
    }
    all
}

/// A list of cells in other spellings and in another order.
pub fn respelled_places(p: &Problem) -> Vec<String> {
    let turned: Vec<&str> = p.answer.split(' ').rev().collect();
    vec![turned.join(", "), p.answer.replace(',', ", "), p.answer.to_uppercase()]
}
