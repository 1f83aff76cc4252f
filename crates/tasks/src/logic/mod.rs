//! Logic: formulas in several notations, truth tables, satisfiability, entailment, forward chaining.
//!
//! ```
//! use postgrad_tasks::logic::{self, Answer, Notation};
//! let premises = [logic::parse("∀x (Cat(x) → ¬Dog(x))").unwrap(), logic::parse("Cat(tom)").unwrap()];
//! let conclusion = logic::parse("~Dog(tom)").unwrap();
//! assert_eq!(logic::entails(&premises, &conclusion, Default::default()), Answer::True);
//! assert_eq!(logic::print(&conclusion, Notation::Words), "not Dog(tom)");
//! assert_eq!(logic::le_text("A(x) → B(x)", "¬A(x) ∨ B(x)").unwrap(), 1.0);
//! ```
//! Everything is deterministic and bounded: texts by [`token::MAX_TEXT`], trees by [`formula::MAX_DEPTH`], searches by
//! counted steps. Answers that a limit cut short say so.

pub mod entail;
pub mod folio;
pub mod formula;
pub mod horn;
pub mod models;
pub mod parse;
pub mod print;
pub mod sat;
pub mod score;
pub mod token;
pub mod truth;

#[cfg(test)]
mod tests;

pub use entail::{Consistency, Limits, consistent, entails, equivalent};
pub use formula::{Atom, Formula, Op, Quantifier, Term, fact, letter};
pub use models::Model;
pub use parse::{ErrorKind, ParseError, parse};
pub use print::{Notation, print};
pub use sat::{Answer, Cnf};
pub use score::{Le, le, le_text};
pub use truth::{Table, table};

/// Reads any bytes as a formula; what parses must print and parse back to itself in every notation.
pub fn fuzz_formula(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(f) = parse(&text) else { return };
    let _ = le(&f, &f);
    if tricky(&f) {
        return;
    }
    for n in Notation::ALL {
        let printed = print(&f, n);
        match parse(&printed) {
            Ok(again) => assert_eq!(again, f, "{printed:?} from {text:?}"),
            // brackets that printing adds can pass the limits of what was just inside them
            Err(e) if matches!(e.kind, ErrorKind::TooDeep | ErrorKind::TooLarge) => {}
            Err(e) => panic!("{printed:?} from {text:?}: {e}"),
        }
    }
}

/// Has the formula names that read differently elsewhere: a constant with the name of a bound variable, or a word that
/// is a sign in word notation?
fn tricky(f: &Formula) -> bool {
    fn bound<'a>(f: &'a Formula, out: &mut Vec<&'a str>) {
        if let Formula::Quant(_, v, _) = f {
            out.push(v);
        }
        f.children().for_each(|c| bound(c, out));
    }
    let words =
        ["and", "or", "v", "xor", "implies", "iff", "not", "forall", "for", "all", "there", "exists", "true", "false"];
    let mut vars = vec![];
    bound(f, &mut vars);
    let s = f.signature();
    let named = s.predicates.iter().chain(&s.functions).map(|(n, _)| n.as_str());
    let mut names = named.chain(s.constants.iter().map(String::as_str)).chain(vars.iter().copied());
    vars.iter().any(|v| s.constants.contains(*v)) || names.any(|n| words.contains(&n.to_ascii_lowercase().as_str()))
}

/// Reads any bytes as a theory of facts and rules and chains forward; every proof must check.
pub fn fuzz_horn(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for world in [horn::World::Closed, horn::World::Open] {
        let Ok(theory) = horn::Theory::parse(&text, world) else { continue };
        let Ok(closure) = theory.close(horn::Limits { facts: 500, steps: 50_000 }) else { continue };
        for (l, _) in closure.facts().take(20) {
            let proof = closure.proof(l).expect("a derived fact has a proof");
            horn::check_proof(&theory, &closure, &proof, l).expect("proofs check");
        }
    }
}

/// Reads any bytes as DIMACS.
pub fn fuzz_dimacs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(cnf) = Cnf::from_dimacs(&text) {
        assert_eq!(Cnf::from_dimacs(&cnf.to_dimacs()).expect("own output"), cnf);
        if cnf.vars <= 1000
            && let sat::Outcome::Sat(model) = sat::solve(&cnf, 10_000).outcome
        {
            assert!(cnf.holds(&model));
        }
    }
}
