use proptest::prelude::*;

use super::super::laws::*;
use super::*;

#[test]
fn the_laws_hold() {
    let specs = ["", "size=20,names=first", "size=10,names=second", "fragment=comparative", "fragment=counting"];
    let also = |p: &Problem| vec![p.answer.to_uppercase(), format!("{}.", lexicon::capital(&p.answer))];
    let wrong = |p: &Problem| {
        let others = Label::ALL.iter().map(|l| l.name().to_string()).filter(|l| *l != p.answer);
        others.chain([format!("{0} {0}", p.answer), format!("{0}, neutral, neutral", p.answer)]).collect()
    };
    hold(&Of(SemanticFragments), &Laws { specs: &specs, n: 60, wrong, also, digest: "89411c038c222477" });
}

/// Sentences in the published wording, written for this test.
#[test]
fn each_fragment_by_hand() {
    use Label::*;
    for (premise, hypothesis, right) in [
        ("Ada has only visited Rome, Ben has only visited Oslo", "Ben didn't visit Oslo", Contradiction),
        ("Ada has only visited Rome, Ben has only visited Oslo", "Ben didn't visit Rome", Entailment),
        ("Ada has only visited Rome, Ben has only visited Oslo", "Eva didn't visit Rome", Neutral),
        ("Ada, Ben and Eva have only visited Rome", "Eva didn't visit Oslo", Entailment),
        ("Ada has only visited Rome, Oslo and Lima", "Ada didn't visit Lima", Contradiction),
        ("Everyone has visited every place", "Ada didn't visit Rome", Contradiction),
        ("Everyone has visited every place", "Ada didn't visit Ben", Neutral),
        ("Everyone has visited every person", "Someone did visit Ben", Entailment),
        ("Someone has visited every person and every place", "A person visited Rome", Entailment),
        ("Someone has visited every person and every place", "An individual didn't visit Ben", Contradiction),
        ("Someone has visited every person and every place", "That person there did visit Ben", Neutral),
        ("Someone has visited every person and every place", "Ada did visit Ben", Neutral),
        ("Everyone has visited Rome, Oslo and Lima", "Ada did visit Quito", Neutral),
        ("Everyone has visited Rome, Oslo and Lima", "Ada did visit Oslo and Lima", Entailment),
        ("Ada has visited Ben and Eva", "Ada has visited less than one people", Contradiction),
        ("Ada has visited Ben and Eva", "Ada has visited more than one people", Entailment),
        ("Ada has visited Ben and Eva", "Ada has visited less than thirty-five people", Entailment),
        ("Ada has visited only three places", "Ada has visited Rome, Oslo, Lima and Quito", Contradiction),
        ("Ada has visited only three places", "Ada has visited Rome and Oslo", Neutral),
        ("Ada has visited only one places or only two people", "Ada has visited Rome and Oslo", Neutral),
        ("Ada has visited only one places and only two people", "Ada has visited Rome and Oslo", Contradiction),
        (
            "Ada has visited Rome, Ben has not visited Peru, Eva has visited Chile and if Ben has not visited Peru then Ida has visited Cuba",
            "Ida has visited Cuba",
            Entailment,
        ),
        (
            "Ada has visited Rome, Ben has not visited Peru, Eva has visited Chile and if Ben has visited Peru then Ida has visited Cuba",
            "Ida has not visited Cuba",
            Neutral,
        ),
        ("Ada is taller than Ben and Eva , Ida is as tall as Ada", "Ida is taller than Eva", Entailment),
        ("Ada is taller than Ben and Eva , Ida is as tall as Ada", "Ben is taller than Eva", Neutral),
        (
            "Ada is as tall as Ben , Ben is as tall as Eva , Eva is taller than Ida",
            "Ben is taller than Ada",
            Contradiction,
        ),
        (
            "Ada is as tall as Ben , Ben is as tall as Eva , Eva is taller than Ida",
            "Ada is taller than Ida",
            Entailment,
        ),
    ] {
        let (p, h) = read(premise, hypothesis).unwrap();
        assert_eq!(label(&p, &h, &is_person), Some(right), "{premise} / {hypothesis}");
    }
}

/// The English of a problem reads back to its board, and labels are balanced.
#[test]
fn english_reads_back() {
    let mut stream = Stream::new(2, &["test"]);
    for fragment in &FRAGMENT.names[1..] {
        let mut counts = [0; 3];
        for (board, answer) in boards::<SemanticFragments>(&format!("fragment={fragment},size=8"), 150) {
            let (p, h) =
                (draw::premise(&board.premise), draw::hypothesis(&board.hypothesis, &board.premise, &mut stream));
            assert_eq!(read(&p, &h), Some((board.premise, board.hypothesis)), "{p} / {h}");
            counts[Label::ALL.iter().position(|l| l.name() == answer).unwrap()] += 1;
        }
        assert!(counts.iter().all(|c| *c > 25), "{fragment} {counts:?}");
    }
}

/// Heights tried: what is entailed holds in every way to be tall, what is contradicted in none.
#[test]
fn every_way_to_be_tall() {
    for (board, answer) in boards::<SemanticFragments>("fragment=comparative,size=3", 100) {
        let (Premise::Taller(clauses), Hypothesis::Taller(a, b)) = (&board.premise, &board.hypothesis) else {
            panic!()
        };
        let mut names: Vec<&String> =
            clauses.iter().flat_map(|c| [&c.0].into_iter().chain(&c.2)).chain([a, b]).collect();
        names.sort();
        names.dedup();
        let n = names.len() as u32;
        let (mut some, mut all) = (false, true);
        for way in 0..4usize.pow(n) {
            let tall = |x: &String| way / 4usize.pow(names.iter().position(|m| *m == x).unwrap() as u32) % 4;
            let holds = |c: &(String, bool, Vec<String>)| {
                c.2.iter().all(|y| if c.1 { tall(&c.0) == tall(y) } else { tall(&c.0) > tall(y) })
            };
            if clauses.iter().all(holds) {
                some |= tall(a) > tall(b);
                all &= tall(a) > tall(b);
            }
        }
        let right = if all {
            "entailment"
        } else if some {
            "neutral"
        } else {
            "contradiction"
        };
        assert_eq!(answer, right, "{board:?}");
    }
}

#[test]
fn the_halves_of_the_vocabulary_are_apart() {
    let words = |spec: &str| -> std::collections::BTreeSet<String> {
        let all = boards::<SemanticFragments>(spec, 200);
        let texts = all.iter().map(|b| serde_json::to_string(&b.0).unwrap());
        let proper = |t: String| {
            t.split('"').filter(|w| w.starts_with(char::is_uppercase)).map(String::from).collect::<Vec<_>>()
        };
        texts.flat_map(proper).collect()
    };
    let (first, second) = (words("names=first"), words("names=second"));
    assert!(first.len() > 40 && second.len() > 40 && first.is_disjoint(&second));
}

proptest! {
    #[test]
    fn any_sentence_is_read_or_refused(
        a in "(Ada|Everyone|Someone| and | has | only visited |, | is as tall as | then | if |visited|only one places| or ){0,12}",
        b in "\\PC{0,40}| visited |Ada has visited more than .{0,9}",
    ) {
        if let Some((p, h)) = read(&a, &b) {
            label(&p, &h, &is_person);
        }
        let _ = read(&b, &a);
    }
}
