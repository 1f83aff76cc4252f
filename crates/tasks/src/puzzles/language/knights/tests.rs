use super::super::laws::*;
use super::*;
use crate::logic::{Formula, formula::letter, sat};
use crate::task::{Reason, Task};
use Claim::*;

fn puzzle(spec: &str, seed: u64) -> Problem {
    Of(Knights).generate(&mut Stream::new(seed, &["test", "knights"]), &Of(Knights).difficulty(spec).unwrap()).unwrap()
}

fn board(p: &Problem) -> Board {
    serde_json::from_value(p.meta.clone()).unwrap()
}

#[test]
fn the_laws_hold() {
    let specs =
        ["", "people=2", "people=8", "people=5,depth=3,width=3,roles=other", "roles=flipped,style=compact,names=short"];
    let also = |p: &Problem| {
        let b = board(p);
        let truth = b.solution().unwrap();
        let each = |f: &dyn Fn(usize, &str, bool) -> String| -> Vec<String> {
            b.names.iter().enumerate().map(|(i, n)| f(i, n, truth >> i & 1 == 1)).collect()
        };
        let role = |t: bool| b.roles[usize::from(!t)].split_once(' ').unwrap().1;
        let mut turned = each(&|_, n, t| format!("{n}: {}", role(t)));
        turned.reverse();
        vec![
            each(&|i, n, t| format!("({}) {n} is a {}", i + 1, role(t))).join("\n"),
            each(&|_, n, t| format!("{n} is a {}", if t { "truth-teller" } else { "liar" })).join(" and "),
            turned.join("; "),
        ]
    };
    let wrong = |p: &Problem| {
        let b = board(p);
        let other = b.solution().unwrap() ^ 1;
        let first = p.answer.split(", ").next().unwrap();
        vec![b.answer(other), first.into(), format!("{}, {first}", p.answer), format!("if {}", p.answer)]
    };
    hold(&Of(Knights), &Laws { specs: &specs, n: 60, wrong, also, digest: "9256c897d41e4dd5" });
}

/// The claims as clauses: a solver counts their models.
#[test]
fn a_solver_agrees_that_the_solution_is_one() {
    fn formula(c: &Claim) -> Formula {
        let all = |all: &[Claim], join: fn(Formula, Formula) -> Formula| all.iter().map(formula).reduce(join).unwrap();
        match c {
            Knight(i) => letter(format!("k{i}")),
            Knave(i) => letter(format!("k{i}")).negate(),
            Not(a) => formula(a).negate(),
            And(a) => all(a, Formula::and),
            Or(a) => all(a, Formula::or),
            If(a, b) => formula(a).implies(formula(b)),
            Iff(a, b) => formula(a).iff(formula(b)),
        }
    }
    for seed in 0..100 {
        let b = board(&puzzle(["people=4", "people=7,depth=3,width=3"][seed as usize % 2], seed));
        let mut e = sat::Encoder::default();
        let rules = b.claims.iter().enumerate().map(|(i, c)| letter(format!("k{i}")).iff(formula(c)));
        e.assert(&rules.reduce(Formula::and).unwrap()).unwrap();
        assert_eq!(sat::count_models(&e.cnf, 3, sat::STEPS), Some(1));
        let sat::Outcome::Sat(model) = sat::solve(&e.cnf, sat::STEPS).outcome else { panic!() };
        let truth = b.solution().unwrap();
        for (l, v) in &e.letters {
            let Formula::Atom(a) = l else { panic!() };
            let i: usize = a.pred[1..].parse().unwrap();
            assert_eq!(model[*v as usize - 1], truth >> i & 1 == 1);
        }
    }
}

/// The cases of the released unit tests.
#[test]
fn released_cases() {
    assert_eq!(solutions(&[Knave(1), And(vec![Knight(0), Knight(1)])]), [0b01]);
    let two = |a, b| vec![a, b];
    let claims = vec![
        And(two(Knight(2), Knave(3))),
        Knight(2),
        Iff(Box::new(Knave(4)), Box::new(Knight(4))),
        And(two(Knave(2), Knave(4))),
        Knave(2),
    ];
    assert_eq!(solutions(&claims), [0b10000]);
    let names = ["David", "Zoey", "Alexander", "Aurora", "Isabella"].map(String::from).to_vec();
    let roles = ["a knight", "a knave"].map(String::from);
    let mut b = Board { claims, names, roles, order: vec![0, 1, 2, 3, 4], compact: false };
    let long = [
        "Let's think step by step, by considering whether each person is lying and if that leads to contradiction.",
        "Assume David is a knight. No contradiction is found in their claim that Alexander is a knight and Aurora is a knave.",
        "Alexander cannot be a knight, because this would contradict the claim of their own.",
        "Alexander cannot be a knave, because this would contradict the claim of David.",
        "We have exhausted all possibilities for Alexander, so let us go back and reconsider David.",
        "Assume David is a knave. No contradiction is found in their false claim that Alexander is a knight and Aurora is a knave.",
        "Alexander cannot be a knight, because this would contradict the claim of their own.",
        "Assume Alexander is a knave. No contradiction is found in their false claim that Isabella is a knave if and only if Isabella is a knight.",
        "Assume Isabella is a knight. No contradiction is found in their claim that Alexander is a knave.",
        "Aurora cannot be a knight, because this would contradict the claim of their own.",
        "Assume Aurora is a knave. No contradiction is found in their false claim that Alexander is a knave and Isabella is a knave.",
        "Zoey cannot be a knight, because this would contradict the claim of their own.",
        "Assume Zoey is a knave. No contradiction is found in their false claim that Alexander is a knight.",
        "This leads to a feasible solution.",
    ];
    assert_eq!(Knights::work(&b).unwrap().steps, long);
    b.compact = true;
    let short: Vec<&str> =
        long[1..].iter().map(|s| s.split_once(". No").map_or(*s, |h| h.0).trim_end_matches('.')).collect();
    let steps: Vec<String> = Knights::work(&b).unwrap().steps;
    assert_eq!(steps.iter().map(|s| s.trim_end_matches('.')).collect::<Vec<_>>(), short);
    // Nobody fits: the search says so.
    assert_eq!(trace(&[Knave(0)]).last(), Some(&Step::Fail));
}

/// Every step is checked by trying all completions, and the end is the solution.
#[test]
fn traces_are_sound() {
    for seed in 0..200 {
        let b = board(&puzzle(["people=3", "people=6", "people=5,depth=3"][seed as usize % 3], seed));
        let n = b.claims.len();
        let mut now: Vec<Option<bool>> = vec![None; n];
        let steps = trace(&b.claims);
        let fits = |now: &[Option<bool>], k: u32| {
            now.iter().enumerate().all(|(i, a)| a.is_none_or(|a| a == (k >> i & 1 == 1)))
        };
        for step in &steps {
            match step {
                Step::Assume { person, knight } => now[*person] = Some(*knight),
                Step::Conflict { person, knight, by } => {
                    now[*person] = Some(*knight);
                    let must = now[*by].unwrap();
                    assert!((0..1 << n).filter(|k| fits(&now, *k)).all(|k| b.claims[*by].holds(k) != must));
                    now[*person] = None;
                }
                Step::Reconsider { person, exhausted } => {
                    exhausted.iter().for_each(|p| now[*p] = None);
                    now[*person] = None;
                }
                Step::Success(k) => {
                    assert_eq!(Some(*k), b.solution());
                    assert!(now.iter().all(Option::is_some) && fits(&now, *k));
                }
                Step::Fail => panic!("a solution was there"),
            }
        }
    }
}

#[test]
fn perturbations_change_one_thing() {
    let mut stream = Stream::new(7, &["test", "perturb"]);
    let mut found = 0;
    for seed in 0..60 {
        let p = puzzle(["people=2", "people=3", "people=5"][seed as usize % 3], seed);
        let b = board(&p);
        for kind in Perturbation::ALL {
            let Some(q) = perturb(&p, kind, &mut stream) else {
                assert!(!kind.is_language() && b.claims.len() < 5, "{kind:?}");
                continue;
            };
            found += 1;
            let c = board(&q);
            let trace = Of(Knights).solve(&q, "steps").unwrap();
            assert!(Of(Knights).verify(&q, &trace.text).correct && q.prompt != p.prompt);
            let differ = b.claims.iter().zip(&c.claims).filter(|(x, y)| x != y).count();
            if kind.is_language() {
                assert!(differ == 0 && b.solution() == c.solution() && p.cluster == q.cluster, "{kind:?}");
            } else {
                assert!(differ == 1 && b.solution() != c.solution(), "{kind:?}");
                assert!(!Of(Knights).verify(&q, &p.answer).correct, "{kind:?}");
            }
            match kind {
                Perturbation::FlippedRoles => {
                    assert!(
                        q.prompt.contains("Knaves always tell the truth")
                            || q.prompt.contains("Knights always tell the truth")
                    );
                    assert_eq!(c.roles, [b.roles[1].clone(), b.roles[0].clone()]);
                }
                Perturbation::Reordered => assert_ne!(b.order, c.order),
                Perturbation::UncommonNames => assert!(b.names.iter().all(|n| !c.names.contains(n))),
                _ => {}
            }
        }
    }
    assert!(found > 330, "{found}");
    let mut foreign = puzzle("", 1);
    foreign.meta = serde_json::json!({});
    assert!(perturb(&foreign, Perturbation::Leaf, &mut stream).is_none());
}

/// Renamed and reordered people give the same cluster; other logic seldom does.
#[test]
fn clusters_do_not_see_names() {
    fn renamed(c: &Claim, to: &[usize]) -> Claim {
        let all = |a: &[Claim]| a.iter().rev().map(|c| renamed(c, to)).collect();
        let one = |a: &Claim| Box::new(renamed(a, to));
        match c {
            Knight(i) => Knight(to[*i]),
            Knave(i) => Knave(to[*i]),
            Not(a) => Not(one(a)),
            And(a) => And(all(a)),
            Or(a) => Or(all(a)),
            If(a, b) => If(one(a), one(b)),
            Iff(a, b) => Iff(one(b), one(a)),
        }
    }
    let mut shapes = std::collections::BTreeSet::new();
    let mut stream = Stream::new(3, &["test", "shapes"]);
    for seed in 0..200 {
        let b = board(&puzzle("people=5", seed));
        let to = stream.sample(5, 5);
        let mut claims = b.claims.clone();
        (0..5).for_each(|i| claims[to[i]] = renamed(&b.claims[i], &to));
        assert_eq!(claim::shape(&claims), claim::shape(&b.claims));
        shapes.insert(claim::shape(&b.claims));
    }
    assert_eq!(shapes.len(), 200);
}

#[test]
fn foreign_and_unsound_boards_are_refused() {
    let p = puzzle("", 1);
    let mut b = board(&p);
    b.claims[0] = Knight(40);
    let mut two = board(&p);
    two.claims = vec![Knight(0); 3];
    let mut empty = board(&p);
    empty.claims[0] = And(vec![]);
    for bad in [b, two, empty] {
        let q = Problem { meta: serde_json::to_value(&bad).unwrap(), ..p.clone() };
        assert_eq!(Of(Knights).verify(&q, &p.answer).reason, Reason::NotMine);
    }
}
