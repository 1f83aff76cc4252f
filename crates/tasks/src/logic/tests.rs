use std::collections::BTreeMap;

use postgrad_base::Stream;
use proptest::prelude::*;

use super::horn::{Lit, Theory, Truth, World};
use super::models::{Found, of_size};
use super::sat::{self, Encoder, Outcome};
use super::*;

fn p(text: &str) -> Formula {
    parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// A random formula over letters, or over predicates with quantifiers.
fn random(s: &mut Stream, depth: usize, first_order: bool, bound: &mut Vec<String>) -> Formula {
    if depth == 0 || s.chance(0.2) {
        if !first_order {
            return match s.below(12) {
                0 => Formula::True,
                1 => Formula::False,
                _ => letter(*s.choose(&["p", "q", "r", "s", "Rain-y", "t_1"])),
            };
        }
        let term = |s: &mut Stream| match s.below(4) {
            0 | 1 if !bound.is_empty() => Term::Var(s.choose(bound).clone()),
            2 => Term::Func("f".into(), vec![Term::Const("k".into())]),
            _ => Term::Const((*s.choose(&["k", "ann", "c++", "mr.smith"])).into()),
        };
        if s.chance(0.15) {
            return Formula::Equal(term(s), term(s));
        }
        let args = (0..1 + s.below(2)).map(|_| term(s)).collect();
        return Formula::Atom(Atom { pred: (*s.choose(&["P", "Q", "Non-rare"])).into(), args });
    }
    match s.below(if first_order { 8 } else { 6 }) {
        0 => random(s, depth - 1, first_order, bound).negate(),
        n @ 1..=5 => {
            let a = random(s, depth - 1, first_order, bound);
            Formula::bin(Op::ALL[n - 1], a, random(s, depth - 1, first_order, bound))
        }
        n => {
            let v = (*s.choose(&["x", "y", "z"])).to_string();
            bound.push(v.clone());
            let body = random(s, depth - 1, first_order, bound);
            bound.pop();
            Formula::quant(if n == 6 { Quantifier::ForAll } else { Quantifier::Exists }, v, body)
        }
    }
}

#[test]
fn precedence() {
    for (text, same) in [
        ("¬p ∧ q", "(¬p) ∧ q"),
        ("p ∨ q ∧ r", "p ∨ (q ∧ r)"),
        ("p ⊕ q ∧ r", "p ⊕ (q ∧ r)"),
        ("p ∨ q ⊕ r", "p ∨ (q ⊕ r)"),
        ("p → q → r", "p → (q → r)"),
        ("p ↔ q → r", "p ↔ (q → r)"),
        ("p ∧ q ∧ r", "(p ∧ q) ∧ r"),
        ("p <= q", "q -> p"),
        ("∀x P(x) ∧ Q", "(∀x P(x)) ∧ Q"),
        ("∀x. P(x) ∧ Q", "∀x (P(x) ∧ Q)"),
        ("∀x P(x) → Q(x)", "∀x (P(x) → Q(x))"),
        ("∀x P(x) → ∃x Q(x)", "(∀x P(x)) → (∃x Q(x))"),
        ("∀x ∃y R(x,y) ∧ S(y)", "∀x ∃y (R(x,y) ∧ S(y))"),
        ("∀x y. R(x,y)", "∀x ∀y R(x, y)"),
        ("¬∀x P(x) ∨ P(x)", "¬∀x (P(x) ∨ P(x))"),
        ("From(captain america, dc universe)", "From(captainAmerica, dcUniverse)"),
        ("a = b ∧ c ≠ d", "(a = b) ∧ ¬(c = d)"),
    ] {
        assert_eq!(p(text), p(same), "{text}");
    }
}

#[test]
fn notations_agree() {
    let f = p("∀x (Cat(x) ∧ ¬Dog(x) → ∃y (Likes(x, y) ⊕ Owns(y, x)))");
    for text in [
        "forall x. (Cat(x) & ~Dog(x) -> exists y. (Likes(x,y) <~> Owns(y,x)))",
        r"\forall x\, (Cat(x) \land \lnot Dog(x) \to \exists y (Likes(x, y) \oplus Owns(y, x)))",
        r"$\forall x \left( \text{Cat}(x) \wedge \neg \mathrm{Dog}(x) \Rightarrow \exists y. Likes(x,y) \oplus Owns(y,x) \right)$",
        "for all x (Cat(x) and not Dog(x) implies there exists y (Likes(x, y) xor Owns(y, x)))",
        "![x]: ((Cat(x) & ~Dog(x)) => ?[y]: (Likes(x,y) <~> Owns(y,x)))",
        "∀x (Cat(x) && !Dog(x) ⇒ ∃y (Likes(x, y) ⊻ Owns(y, x))).",
        "all x (Cat(x) /\\ -Dog(x) --> exists y (Likes(x, y) xor Owns(y, x)))",
    ] {
        assert_eq!(p(text), f, "{text}");
    }
    let printed: Vec<String> = Notation::ALL.iter().map(|n| print(&f, *n)).collect();
    assert_eq!(printed[0], "∀x (Cat(x) ∧ ¬Dog(x) → ∃y (Likes(x, y) ⊕ Owns(y, x)))");
    assert_eq!(printed[3], "forall x (Cat(x) and not Dog(x) implies exists y (Likes(x, y) xor Owns(y, x)))");
    assert_eq!(print::pieces(&p("∀x (P(x) → Q)")), ["∀", "x", "(", "P", "(", "x", ")", "→", "Q", ")"]);
}

#[test]
fn wrong_texts_are_named() {
    for (text, kind) in [
        ("", ErrorKind::Empty),
        ("Luxury(jess) ⊕ Miserly(jess)) → Luxury(jess)", ErrorKind::Bracket),
        ("(p ∧ q", ErrorKind::Bracket),
        ("(p]", ErrorKind::Bracket),
        ("p ∧", ErrorKind::Ended),
        ("p q", ErrorKind::Trailing),
        ("∧ p", ErrorKind::Unexpected),
        ("p § q", ErrorKind::Character),
        ("\\frac p", ErrorKind::Character),
        ("∀ (P(x))", ErrorKind::Unexpected),
        ("∀x y-z. P(x)", ErrorKind::Unexpected),
    ] {
        assert_eq!(parse(text).expect_err(text).kind, kind, "{text}");
    }
    let deep = format!("{}p{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(parse(&deep).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(parse(&"¬".repeat(9000)).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(parse(&vec!["p"; 3000].join(" → ")).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(parse(&format!("P({}", "f(".repeat(9000))).unwrap_err().kind, ErrorKind::Bracket);
    assert_eq!(parse(&format!("P({}k{})", "f(".repeat(900), ")".repeat(900))).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(parse(&"p".repeat(1 << 20)).unwrap_err().kind, ErrorKind::TooLarge);
}

#[test]
fn truth_tables() {
    let t = table(&p("p → q")).unwrap();
    assert_eq!(t.letters, ["p", "q"]);
    assert_eq!((0..4).map(|r| t.rows.get(r)).collect::<Vec<_>>(), [true, false, true, true]);
    assert!(table(&p("p ∨ ¬p")).unwrap().is_tautology());
    assert!(!table(&p("p ∧ ¬p")).unwrap().is_satisfiable());
    assert_eq!(table(&Formula::True).unwrap().rows.true_rows(), 1);
    assert!(table(&p("∀x P(x)")).is_err());
    let many = (0..21).map(|i| format!("p{i}")).collect::<Vec<_>>().join(" ∧ ");
    assert!(table(&p(&many)).is_err());
}

#[test]
fn equivalence_scores_of_the_paper() {
    let s = |a, b| le_text(a, b).unwrap();
    assert_eq!(s("A(x) → B(x)", "¬A(x) ∨ B(x)"), 1.0);
    assert_eq!(s("P ∧ Q", "P ∨ Q"), 0.5);
    assert_eq!(s("P", "P ∧ Q"), 0.75);
    assert_eq!(s("P ⊕ Q", "P ↔ Q"), 0.0);
    assert_eq!(s("Cat(x) → Dog(x)", "Feline(x) → Canine(x)"), 1.0);
    assert_eq!(s("∀x P(x)", "∃x P(x)"), 1.0);
    assert_eq!(s("P", "garbage ) ("), 0.0);
    assert!(le_text(") (", "P").is_err());
    let one = le(&p("P(x) → Q(x)"), &p("Q(x) → P(x)")).unwrap();
    assert_eq!((one.score, one.complete), (1.0, true));
    let wide = |n: usize| p(&(0..n).map(|i| format!("p{i}")).collect::<Vec<_>>().join(" ∧ "));
    assert!(le(&wide(17), &wide(2)).is_err());
    assert_eq!(le(&wide(2), &wide(17)).unwrap().score, 0.0);
    let sixteen = le(&wide(16), &wide(16)).unwrap();
    assert_eq!((sixteen.score, sixteen.complete, sixteen.inputs), (1.0, false, (16, 16)));
    // more inputs than the truth has raise agreement: visible in `inputs`
    let padded = le(&p("P"), &p("P ∨ (A ∧ B ∧ C)")).unwrap();
    assert!(padded.score > 0.9 && padded.inputs == (1, 4));
}

#[test]
fn satisfiability() {
    assert_eq!(sat::satisfiable(&p("p ∧ ¬p"), sat::STEPS).unwrap(), Some(false));
    assert_eq!(sat::equivalent(&p("¬(p ∧ q)"), &p("¬p ∨ ¬q"), sat::STEPS).unwrap(), Some(true));
    assert_eq!(sat::equivalent(&p("p → q"), &p("q → p"), sat::STEPS).unwrap(), Some(false));
    let e =
        |ps: &[&str], c: &str| sat::entails(&ps.iter().map(|t| p(t)).collect::<Vec<_>>(), &p(c), sat::STEPS).unwrap();
    assert_eq!(e(&["p → q", "p"], "q"), Answer::True);
    assert_eq!(e(&["p → q", "¬q"], "p"), Answer::False);
    assert_eq!(e(&["p → q", "q"], "p"), Answer::Uncertain);
    assert_eq!(e(&["p", "¬p"], "q"), Answer::Inconsistent);
    // pigeons: 7 into 6 holes is hard enough to stop on a small budget
    let mut cnf = Cnf { vars: 42, clauses: vec![] };
    let at = |pigeon: i32, hole: i32| pigeon * 6 + hole + 1;
    (0..7).for_each(|i| cnf.add(&(0..6).map(|h| at(i, h)).collect::<Vec<_>>()));
    (0..6).for_each(|h| (0..7).for_each(|a| (0..a).for_each(|b| cnf.add(&[-at(a, h), -at(b, h)]))));
    assert_eq!(sat::solve(&cnf, 10).outcome, Outcome::Unknown);
    let solved = sat::solve(&cnf, sat::STEPS);
    assert_eq!(solved.outcome, Outcome::Unsat);
    assert!(solved.conflicts > 10 && solved.decisions > 10);
    assert_eq!(solved, sat::solve(&cnf, sat::STEPS));
    assert_eq!(sat::count_models(&Cnf { vars: 3, clauses: vec![vec![1, 2]] }, 100, sat::STEPS), Some(6));
    assert_eq!(Cnf::from_dimacs("c x\np cnf 2 2\n1 -2 0\n2 0\n").unwrap().clauses, [vec![1, -2], vec![2]]);
    for bad in ["1 0", "p cnf 1 1\n2 0\n", "p cnf 1 2\n1 0\n", "p cnf x 1\n", "p cnf 1 1\np cnf 1 1\n1 0\n"] {
        assert!(Cnf::from_dimacs(bad).is_err(), "{bad}");
    }
}

#[test]
fn random_three_sat_agrees_with_enumeration() {
    let mut s = Stream::new(3, &["3sat"]);
    let (mut sat_count, mut total) = (0, 0);
    for n in 4..=6 {
        for _ in 0..150 {
            let mut cnf = Cnf { vars: n, clauses: vec![] };
            for _ in 0..(n as f64 * 5.5) as usize {
                let clause: Vec<i32> =
                    s.sample(n, 3).into_iter().map(|v| (v as i32 + 1) * if s.chance(0.5) { 1 } else { -1 }).collect();
                cnf.clauses.push(clause);
            }
            let brute = (0..1usize << n).any(|m| cnf.holds(&(0..n).map(|v| m >> v & 1 == 1).collect::<Vec<_>>()));
            match sat::solve(&cnf, sat::STEPS).outcome {
                Outcome::Sat(model) => assert!(brute && cnf.holds(&model)),
                Outcome::Unsat => assert!(!brute),
                Outcome::Unknown => panic!("small enough to solve"),
            }
            sat_count += usize::from(brute);
            total += 1;
        }
    }
    assert!(sat_count * 5 > total && sat_count * 5 < total * 4, "near the crossing: {sat_count} of {total}");
}

#[test]
fn first_order_entailment() {
    let e = |ps: &[&str], c: &str| entails(&ps.iter().map(|t| p(t)).collect::<Vec<_>>(), &p(c), Limits::default());
    assert_eq!(e(&["∀x (Man(x) → Mortal(x))", "Man(socrates)"], "Mortal(socrates)"), Answer::True);
    assert_eq!(e(&["∀x (Man(x) → Mortal(x))", "Man(socrates)"], "¬Mortal(socrates)"), Answer::False);
    assert_eq!(e(&["∀x (Man(x) → Mortal(x))", "Mortal(socrates)"], "Man(socrates)"), Answer::Uncertain);
    assert_eq!(e(&["∀x P(x)", "∃x ¬P(x)"], "Q"), Answer::Inconsistent);
    // the usual rules and fallacies with quantifiers
    assert_eq!(e(&["∀x P(x)"], "∃x P(x)"), Answer::True);
    assert_eq!(e(&["∃x P(x)"], "∀x P(x)"), Answer::Uncertain);
    assert_eq!(e(&["∃x ∀y R(x, y)"], "∀y ∃x R(x, y)"), Answer::True);
    assert_eq!(e(&["∀y ∃x R(x, y)"], "∃x ∀y R(x, y)"), Answer::Uncertain);
    assert_eq!(e(&["∀x (P(x) ∧ Q(x))"], "∀x P(x) ∧ ∀x Q(x)"), Answer::True);
    assert_eq!(e(&["∃x P(x) ∧ ∃x Q(x)"], "∃x (P(x) ∧ Q(x))"), Answer::Uncertain);
    assert_eq!(e(&["∀x ∃y Loves(x, y)", "∀x ∀y (Loves(x, y) → Happy(x))"], "Happy(ann)"), Answer::True);
    // equality
    assert_eq!(e(&["a = b", "P(a)"], "P(b)"), Answer::True);
    assert_eq!(e(&["P(a)", "¬P(b)"], "a = b"), Answer::False);
    assert_eq!(e(&["P(a)"], "P(b)"), Answer::Uncertain);
    assert_eq!(e(&["∀x (x = a ∨ x = b)", "P(a)", "P(b)"], "∀x P(x)"), Answer::True);
    assert_eq!(e(&["f(a) = b", "∀x P(f(x))"], "P(b)"), Answer::True);
    // an infinite model only: never claimed consistent, never refuted
    let order = ["∀x ∃y Less(x, y)", "∀x ¬Less(x, x)", "∀x ∀y ∀z (Less(x, y) ∧ Less(y, z) → Less(x, z))"];
    let formulas: Vec<Formula> = order.iter().map(|t| p(t)).collect();
    assert_eq!(consistent(&formulas.iter().collect::<Vec<_>>(), Limits::default()), Consistency::Unknown);
    // connectives that duplicate quantifiers
    assert_eq!(equivalent(&p("∀x P(x) ↔ ∃x P(x)"), &p("∃x P(x) ↔ ∀x P(x)"), Limits::default()), Some(true));
    assert_eq!(equivalent(&p("¬∀x P(x)"), &p("∃x ¬P(x)"), Limits::default()), Some(true));
    assert_eq!(equivalent(&p("∀x P(x)"), &p("∃x P(x)"), Limits::default()), Some(false));
}

#[test]
fn models_are_models() {
    let f = p("∃x ∃y (x ≠ y ∧ R(x, y)) ∧ ∀x ¬R(x, x) ∧ f(a) ≠ a");
    assert_eq!(of_size(&[&f], 1, 10_000, 10_000), Found::Nothing);
    let Found::Model(m) = of_size(&[&f], 2, 10_000, 10_000) else { panic!("two elements are enough") };
    assert!(m.holds(&f) && m.size == 2);
    assert_eq!(of_size(&[&p("∀x ∀y ∀z ∀w R(x, y, z, w)")], 20, 1000, 1000), Found::Unknown);
}

const BIRDS: &str = "bird(tweety). bird(opus). penguin(opus). % a comment
flies(X) :- bird(X), not penguin(X).
happy(X) :- flies(X).
near(X, Y) :- bird(X), bird(Y).";

#[test]
fn forward_chaining() {
    let t = Theory::parse(BIRDS, World::Closed).unwrap();
    let c = t.close(Default::default()).unwrap();
    let q = |text: &str| c.query(&Lit::parse(text).unwrap());
    assert_eq!(q("flies(tweety)"), Truth::True);
    assert_eq!(q("flies(opus)"), Truth::False);
    assert_eq!(q("not flies(opus)"), Truth::True);
    assert_eq!(c.facts().filter(|(l, _)| l.pred == "near").count(), 4);
    let goal = Lit::new("happy", &["tweety"]);
    assert_eq!(c.depth(&goal), Some(2));
    let proof = c.proof(&goal).unwrap();
    assert_eq!(
        proof.iter().map(|s| s.conclusion.to_string()).collect::<Vec<_>>(),
        ["bird(tweety)", "flies(tweety)", "happy(tweety)"]
    );
    horn::check_proof(&t, &c, &proof, &goal).unwrap();
    assert!(horn::check_proof(&t, &c, &proof[1..], &goal).is_err());
    let mut forged = proof.clone();
    forged[1].conclusion = Lit::new("flies", &["opus"]);
    assert!(horn::check_proof(&t, &c, &forged, &goal).is_err());
    assert!(Theory::parse("p :- not q. q :- not p.", World::Closed).is_err());
    assert!(Theory::parse("p(X) :- q.", World::Closed).is_err());
    assert!(Theory::parse("p", World::Closed).is_err());
    let open = Theory::parse("kind(ann). not blue(X) :- kind(X). red(X) :- not blue(X).", World::Open).unwrap();
    let c = open.close(Default::default()).unwrap();
    let q = |text: &str| c.query(&Lit::parse(text).unwrap());
    assert_eq!((q("red(ann)"), q("blue(ann)"), q("tall(ann)")), (Truth::True, Truth::False, Truth::Unknown));
    assert!(c.conflicts().is_empty());
    let all = "e(a,b). e(b,c). e(c,d). e(d,a). p(X,Y) :- e(X,Y). p(X,Z) :- p(X,Y), p(Y,Z).";
    let t = Theory::parse(all, World::Closed).unwrap();
    assert_eq!(t.close(Default::default()).unwrap().facts().filter(|(l, _)| l.pred == "p").count(), 16);
    assert!(t.close(horn::Limits { facts: 8, steps: 1000 }).is_err());
    assert!(t.close(horn::Limits { facts: 1000, steps: 20 }).is_err());
}

#[test]
fn stories_are_counted() {
    let rows: Vec<serde_json::Value> = include_str!("../../../../fixtures/logic/stories.jsonl")
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let c = folio::count(&rows, true);
    assert_eq!((c.records, c.whole), (6, 5));
    assert_eq!(c.formulas - c.parsed, 1);
    assert_eq!(c.failures[&ErrorKind::Bracket].count, 1);
    for (label, found) in c.verdicts.keys() {
        assert_eq!(label, found);
    }
}

proptest! {
    #[test]
    fn formulas_print_and_parse_back(seed in any::<u64>(), first_order in any::<bool>()) {
        let mut s = Stream::new(seed, &["formula"]);
        let f = random(&mut s, 5, first_order, &mut vec![]);
        for n in Notation::ALL {
            let text = print(&f, n);
            let again = parse(&text);
            prop_assert_eq!(again.as_ref(), Ok(&f), "{}", text);
        }
    }

    #[test]
    fn sat_agrees_with_truth_tables(seed in any::<u64>()) {
        let mut s = Stream::new(seed, &["formula"]);
        let f = random(&mut s, 5, false, &mut vec![]);
        let t = table(&f).unwrap();
        prop_assert_eq!(sat::satisfiable(&f, sat::STEPS).unwrap(), Some(t.is_satisfiable()));
        let mut e = Encoder::default();
        e.assert(&f).unwrap();
        if let Outcome::Sat(model) = sat::solve(&e.cnf, sat::STEPS).outcome {
            let value: BTreeMap<String, bool> =
                e.letters.iter().map(|(a, l)| (a.to_string(), model[*l as usize - 1])).collect();
            prop_assert!(truth::eval(&f, &|name| value[name]));
        }
        let row: usize = s.below(t.rows.len());
        let by_row = truth::eval(&f, &|name| row >> t.letters.iter().position(|l| l == name).unwrap() & 1 == 1);
        prop_assert_eq!(t.rows.get(row), by_row);
    }

    /// Verdicts against every model of two elements.
    #[test]
    fn consistency_agrees_with_models(seed in any::<u64>()) {
        let mut s = Stream::new(seed, &["formula"]);
        let f = random(&mut s, 3, true, &mut vec![]);
        let limits = Limits { size: 2, ..Limits::default() };
        let found = consistent(&[&f], limits);
        if let Consistency::Consistent(m) = &found {
            prop_assert!(m.holds(&f));
        }
        if matches!(of_size(&[&f], 2, 100_000, 100_000), Found::Model(_)) {
            prop_assert_ne!(&found, &Consistency::Inconsistent);
        }
        // a formula and its negation are never both refuted
        if found == Consistency::Inconsistent {
            let no = f.negate();
            prop_assert_ne!(consistent(&[&no], limits), Consistency::Inconsistent);
        }
    }

    #[test]
    fn a_formula_scores_one_with_itself_renamed(seed in any::<u64>()) {
        let mut s = Stream::new(seed, &["formula"]);
        let f = random(&mut s, 3, false, &mut vec![]);
        let one = le(&f, &f).unwrap();
        prop_assert_eq!(one.score, 1.0);
        let g = random(&mut s, 3, false, &mut vec![]);
        let other = le(&f, &g).unwrap();
        prop_assert!((0.0..=1.0).contains(&other.score));
        // six inputs or fewer: all bindings are tried, so the score is symmetric
        prop_assert!(!other.complete || other.score == le(&g, &f).unwrap().score);
    }

    #[test]
    fn hostile_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_formula(&data);
        fuzz_horn(&data);
        fuzz_dimacs(&data);
    }

    #[test]
    fn hostile_formulas(text in "[∀∃¬∧∨→↔⊕()\\[\\]xyPQ.,:!?~&|<>= \\\\=v-]{0,60}") {
        fuzz_formula(text.as_bytes());
    }

    #[test]
    fn hostile_theories(text in "([pqr]\\([aXY]\\)( :- (not )?[pqr]\\([aXY]\\)(, (not )?[pqr]\\([abXY]\\)){0,2})?\\. ?){0,8}") {
        fuzz_horn(text.as_bytes());
    }

    #[test]
    fn hostile_dimacs(text in "p cnf [0-9]{1,2} [0-9]\n(-?[0-9]{1,2} ){0,10}0?\n?") {
        fuzz_dimacs(text.as_bytes());
    }
}
