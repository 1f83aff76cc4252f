use super::*;
use proptest::prelude::*;

#[test]
fn answers_are_found_where_they_stand() {
    let p = Of(Countdown).generate(&mut Stream::new(1, &["test"]), &Difficulty::default()).unwrap();
    let a = &p.answer;
    let verdict = |text: String| Of(Countdown).verify(&p, &text);
    for text in
        [a.clone(), format!("so\n#### {a}"), format!("1 + 1\n<answer> {a}\n</answer> done"), format!("<answer>{a}")]
    {
        assert!(verdict(text).correct);
    }
    for text in [
        format!("The answer is {a}."),
        format!("Answer: **{a}**"),
        format!("We try.\n\n{a}"),
        format!("We try:\n{a}\n"),
        format!("Well.\n```\n{a}\n```"),
    ] {
        let v = verdict(text.clone());
        assert!(!v.correct && v.flexible && v.reason == crate::Reason::Malformed, "{text}");
    }
    // a wrong answer in the asked form is not saved by a right one elsewhere
    let v = verdict(format!("The answer is {a}.\n#### 1 + 1"));
    assert!(!v.flexible && v.reason == crate::Reason::Wrong);
    assert_eq!(verdict("I do not know".into()).reason, crate::Reason::NoAnswer);
}

#[test]
fn spoiled_answers_differ_from_the_answer() {
    for answer in ["1 2\n2 1", "7", "cat dog", "(1,2) (3,4)"] {
        let spoiled = laws::spoiled(answer);
        assert!(spoiled.len() >= 3 && spoiled.iter().all(|s| s != answer), "{spoiled:?}");
    }
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict(text in "[-0-9+*/=?x.,;:#()\\[\\] \nrcA-E]{0,200}|\\PC{0,80}", seed in 0u64..4) {
        for task in all() {
            let p = task.generate(&mut Stream::new(seed, &["test"]), &task.difficulty("").unwrap()).unwrap();
            task.verify(&p, &text);
            task.verify(&p, &format!("#### {text}"));
        }
    }
}
