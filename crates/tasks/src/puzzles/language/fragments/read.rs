//! Reads the English of the fragments, also as published.

use super::*;

/// The longest sentence that is read.
const LONGEST: usize = 20_000;

/// `A, B, C and D`. A name may hold `and` anywhere but in the last place of a list.
fn list(text: &str) -> Vec<String> {
    let mut all: Vec<String> = text.split(", ").map(|s| s.trim().to_string()).collect();
    if let Some((a, b)) =
        all.last().and_then(|last| last.rsplit_once(" and ")).map(|(a, b)| (a.to_string(), b.to_string()))
    {
        all.pop();
        all.extend([a, b]);
    }
    all
}

fn visit(text: &str) -> Option<Visit> {
    for (words, did) in [
        (" has not visited ", false),
        (" has visited ", true),
        (" didn't visit ", false),
        (" did visit ", true),
        (" visited ", true),
    ] {
        if let Some((who, place)) = text.split_once(words) {
            return Some(Visit { who: who.trim().into(), did, place: place.trim().into() });
        }
    }
    None
}

/// `three places`, `four people`.
fn bound(text: &str) -> Option<(usize, bool)> {
    let (n, kind) = text.trim().split_once(' ')?;
    Some((draw::read_number(n)?, kind == "people")).filter(|_| matches!(kind, "people" | "places" | "place"))
}

fn premise(text: &str) -> Option<Premise> {
    if text.contains(" only visited ") {
        let clause = |(who, what): (&str, &str)| {
            let who = who.strip_suffix(" has").or(who.strip_suffix(" have"))?;
            Some((list(who), list(what)))
        };
        // Clauses are parted by commas, as lists are: a comma ends one where the next words have their own verb.
        let ends: Vec<usize> = text.match_indices(" has only visited ").map(|m| m.0).collect();
        if ends.len() < 2 {
            return Some(Premise::Only(vec![clause(text.split_once(" only visited ")?)?]));
        }
        let starts = ends.iter().map(|e| text[..*e].rfind(", ").map_or(0, |c| c + 2));
        let mut starts: Vec<usize> = starts.collect();
        starts.push(text.len() + 2);
        let piece = |w: &[usize]| clause(text.get(w[0]..w[1] - 2)?.split_once(" only visited ")?);
        return starts.windows(2).map(piece).collect::<Option<Vec<_>>>().map(Premise::Only);
    }
    if let Some((facts, rule)) = text.split_once(" and if ") {
        let (given, then) = rule.split_once(" then ")?;
        let facts: Option<Vec<Visit>> = facts.split(", ").map(visit).collect();
        return Some(Premise::Conditional { facts: facts?, given: visit(given)?, then: visit(then)? });
    }
    if text.contains(" tall") {
        let clause = |part: &str| {
            let part = part.trim();
            let (equal, words) =
                if part.contains(" is as tall as ") { (true, " is as tall as ") } else { (false, " is taller than ") };
            let (a, all) = part.split_once(words)?;
            Some((a.to_string(), equal, list(all)))
        };
        return text.split(" , ").map(clause).collect::<Option<Vec<_>>>().map(Premise::Taller);
    }
    let (who, what) = text.split_once(" has visited ")?;
    if matches!(who, "Everyone" | "Someone") {
        let range = match what {
            "every place" => Range::Places,
            "every person" => Range::People,
            "every person and every place" => Range::Both,
            all => Range::List(list(all)),
        };
        return Some(Premise::Quantified { everyone: who == "Everyone", range });
    }
    if let Some(rest) = what.strip_prefix("only ") {
        let or = rest.contains(" or ");
        let parts: Vec<&str> = rest.split(if or { " or " } else { " and " }).collect();
        let bounds: Option<Vec<(usize, bool)>> =
            parts.iter().map(|p| bound(p.trim().strip_prefix("only ").unwrap_or(p))).collect();
        let bounds = bounds?;
        let of = |people: bool| bounds.iter().find(|b| b.1 == people).map(|b| b.0);
        return Some(Premise::AtMost { who: who.into(), places: of(false), people: of(true), or });
    }
    Some(Premise::Visited(who.into(), list(what)))
}

fn hypothesis(text: &str, premise: &Premise) -> Option<Hypothesis> {
    if let Some((a, b)) = text.split_once(" is taller than ") {
        return Some(Hypothesis::Taller(a.into(), b.into()));
    }
    for (words, more) in [(" has visited more than ", true), (" has visited less than ", false)] {
        if let Some((who, rest)) = text.split_once(words) {
            let (than, people) = bound(rest)?;
            return Some(Hypothesis::Count { who: who.into(), more, than, people });
        }
    }
    if matches!(premise, Premise::AtMost { .. }) {
        let (who, what) = text.split_once(" has visited ")?;
        return Some(Hypothesis::Visited(who.into(), list(what)));
    }
    let Visit { who, did, place } = visit(text)?;
    Some(match who.as_str() {
        "Someone" | "An individual" | "A person" => Hypothesis::Somebody { definite: false, did, place },
        w if w.starts_with("That ") => Hypothesis::Somebody { definite: true, did, place },
        _ => Hypothesis::Visit(Visit { who, did, place }),
    })
}

/// A premise and a hypothesis from their English; none where either is of no fragment.
pub fn read(premise_text: &str, hypothesis_text: &str) -> Option<(Premise, Hypothesis)> {
    if premise_text.len() + hypothesis_text.len() > LONGEST {
        return None;
    }
    let premise = premise(premise_text)?;
    let hypothesis = hypothesis(hypothesis_text, &premise)?;
    Some((premise, hypothesis))
}
