use proptest::prelude::*;

use super::*;
use crate::task::{Reason, Split, draw, stable_hash};

fn problems(task: &dyn Task, spec: &str, n: u64) -> Vec<Problem> {
    let d = task.difficulty(spec).unwrap();
    (0..n).map(|i| task.generate(&mut Stream::new(i, &["test", task.name()]), &d).unwrap()).collect()
}

/// Every knob at its highest, besides the defaults.
fn specs(task: &dyn Task) -> Vec<String> {
    let hard: Vec<String> = task.knobs().iter().map(|k| format!("{}={}", k.name, k.show(k.high))).collect();
    vec![String::new(), hard.join(",")]
}

#[test]
fn the_solver_passes_and_mutations_do_not() {
    for task in all() {
        for spec in specs(&*task) {
            for p in problems(&*task, &spec, 200) {
                let answer = task.solve(&p, "plain").unwrap().text;
                assert_eq!(answer, p.answer);
                assert!(task.verify(&p, &answer).correct, "{} {}", p.prompt, p.answer);
                assert!(task.verify(&p, &format!("<think>{answer} or 7?</think>\n{answer} ")).correct);
                let shorter: String = answer.chars().take(answer.chars().count() - 1).collect();
                let swapped = answer.chars().rev().collect::<String>();
                for wrong in [format!("{answer}1"), format!("x {answer}"), shorter, swapped] {
                    let v = task.verify(&p, &wrong);
                    assert!(!v.correct && v.score == 0.0 || wrong == answer, "{} {wrong}", p.prompt);
                }
                assert_eq!(task.verify(&p, " ").reason, Reason::NoAnswer);
                let tuned = task.verify(&p, &format!("So it is.\n#### {answer}"));
                assert!(!tuned.correct && tuned.flexible && tuned.reason == Reason::Malformed, "{answer}");
            }
        }
    }
}

/// The answers again, from the prompt alone and by other means than the solvers'.
#[test]
fn answers_are_what_the_prompts_ask() {
    let ints = |text: &str| -> Vec<i64> {
        text.split(|c: char| !c.is_ascii_digit()).filter(|t| !t.is_empty()).map(|t| t.parse().unwrap()).collect()
    };
    for task in all() {
        for spec in specs(&*task) {
            for p in problems(&*task, &spec, 200) {
                let (q, n) = (p.prompt.as_str(), ints(&p.prompt));
                let listed = || q.rsplit(": ").next().unwrap().trim_end_matches('?');
                let sentences = || q.split(". ").map(|s| s.split(' ').collect::<Vec<_>>()).collect::<Vec<_>>();
                let said = match task.name() {
                    "add" if q.contains('+') || q.contains("plus") => (n[0] + n[1]).to_string(),
                    "add" => (n[0] - n[1]).to_string(),
                    "compare" if n[0] == n[1] => "same".into(),
                    "compare" => n
                        .iter()
                        .find(|x| n.iter().all(|y| (*x >= y) == q.contains("bigger") || x == &y))
                        .unwrap()
                        .to_string(),
                    "copy" => listed().into(),
                    "reverse" => listed().rsplit(' ').collect::<Vec<_>>().join(" "),
                    "count" => {
                        let wanted = q.strip_prefix("Count ").or(q.strip_prefix("How many times is ")).unwrap();
                        let wanted = wanted.split(' ').next().unwrap();
                        listed().split(' ').filter(|w| *w == wanted).count().to_string()
                    }
                    "sort" => {
                        let mut n = n;
                        let down = q.contains("down") || q.contains("big to small");
                        n.sort_by_key(|x| if down { -x } else { *x });
                        n.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
                    }
                    "sequence" => (n[0] + 4 * (n[1] - n[0])).to_string(),
                    "parity" if q.contains("odd") == (n[0] & 1 == 1) => "yes".into(),
                    "parity" => "no".into(),
                    "recall" => {
                        let mut told = sentences();
                        let question = told.pop().unwrap();
                        let has = |t: &Vec<&str>| {
                            question.iter().any(|w| {
                                w.trim_end_matches('?') == t[0] || w.trim_end_matches('?') == t[3].trim_end_matches('.')
                            })
                        };
                        let row = told.into_iter().find(has).unwrap();
                        if q.contains("Who") { row[0].into() } else { row[3].trim_end_matches('.').into() }
                    }
                    "tallest" => {
                        let mut told = sentences();
                        told.pop();
                        let (mut over, mut under) = (vec![], vec![]);
                        told.iter().for_each(|t| {
                            over.push(t[0]);
                            under.push(t[4].trim_end_matches('.'));
                        });
                        let (ours, others) = if q.contains("tallest") { (over, under) } else { (under, over) };
                        ours.into_iter().find(|x| !others.contains(x)).unwrap().into()
                    }
                    "say" => {
                        let w = words::all()
                            .filter(|w| q.split([' ', '.', ',']).any(|t| t == *w))
                            .max_by_key(|w| w.len())
                            .unwrap();
                        let times = n.first().copied().unwrap_or(1);
                        (0..times).map(|_| w).collect::<Vec<_>>().join(" ")
                    }
                    "json" if q.contains('+') => format!("{{\"answer\": {}}}", n[0] + n[1]),
                    "json" if !n.is_empty() => format!("{{\"answer\": {}}}", n[0]),
                    _ => continue,
                };
                assert_eq!(said, p.answer, "{q}");
            }
        }
    }
}

#[test]
fn knowledge_is_asked_in_several_words_and_is_consistent() {
    assert_eq!(FACTS.iter().map(|r| r.pairs.len()).sum::<usize>(), 88);
    for relation in FACTS {
        assert!(relation.wordings.len() >= 5);
        let mut subjects: Vec<&str> = relation.pairs.iter().map(|p| p.0).collect();
        subjects.sort();
        subjects.dedup();
        assert_eq!(subjects.len(), relation.pairs.len(), "{}", relation.name);
    }
    // The same fact stands on both sides in other words.
    let sides = |split| -> Vec<Problem> {
        let mut s = Stream::new(1, &["test", "facts"]);
        (0..600).map(|_| draw(&Facts, &mut s, &Difficulty::default(), split).unwrap()).collect()
    };
    let (train, test) = (sides(Split::Train), sides(Split::Test));
    assert!(test.iter().all(|t| train.iter().all(|p| p.prompt != t.prompt)));
    let shared = test.iter().filter(|t| train.iter().any(|p| p.cluster == t.cluster)).count();
    assert!(shared * 10 > test.len() * 9, "{shared} of {}", test.len());
}

#[test]
fn train_and_test_are_apart_in_every_ability() {
    for task in all() {
        let d = task.difficulty("").unwrap();
        let side = |split| -> Vec<Problem> {
            let mut s = Stream::new(2, &["test", task.name()]);
            (0..200).map(|_| draw(&*task, &mut s, &d, split).unwrap()).collect()
        };
        let (train, test) = (side(Split::Train), side(Split::Test));
        let known = ["facts", "spell", "case"].contains(&task.name());
        for t in &test {
            assert!(train.iter().all(|p| p.id != t.id && (known || p.cluster != t.cluster)), "{}", t.prompt);
        }
    }
}

#[test]
fn json_takes_any_spelling_of_the_object() {
    let mut p = problems(&Json, "", 1).remove(0);
    p.meta = serde_json::json!({"value": 7});
    for right in ["{\"answer\": 7}", " {\n\"answer\":7 } "] {
        assert!(Json.verify(&p, right).correct);
    }
    for wrong in [
        "{\"answer\": \"7\"}",
        "{\"answer\": 7, \"x\": 1}",
        "{\"Answer\": 7}",
        "7",
        "{\"answer\": 7}}",
        "[7]",
        "{\"answer\": 8}",
    ] {
        assert!(!Json.verify(&p, wrong).correct, "{wrong}");
    }
}

#[test]
fn a_foreign_problem_gets_a_verdict() {
    for task in all() {
        let mut p = problems(&*task, "", 1).remove(0);
        for meta in [
            serde_json::json!(null),
            serde_json::json!({"words": 3, "numbers": ["x"], "pairs": [], "value": []}),
            serde_json::json!({"numbers": [i64::MAX, i64::MIN], "op": "+", "bigger": 1, "down": 0, "asked": "x"}),
        ] {
            p.meta = meta;
            assert_eq!(task.verify(&p, "1").reason, Reason::NotMine, "{}", task.name());
            assert_eq!(task.solve(&p, "plain").unwrap_err().exit_code(), 2);
        }
    }
}

#[test]
fn a_fixed_seed_gives_the_same_bytes() {
    let mut text = String::new();
    for task in all() {
        for spec in specs(&*task) {
            problems(&*task, &spec, 20).iter().for_each(|p| text.push_str(&serde_json::to_string(p).unwrap()));
        }
    }
    assert_eq!(stable_hash(&[&text]), "b54c0e832763641f");
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict(text in "\\PC{0,60}|[\\[{\"a0-9#:.,}\\]\n ]{0,80}") {
        for task in all() {
            let p = problems(&*task, "", 1).remove(0);
            task.verify(&p, &text);
        }
    }
}
