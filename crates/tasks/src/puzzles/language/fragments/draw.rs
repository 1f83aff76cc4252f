//! Random pairs of premise and hypothesis, and their English in the published wording.

use super::*;

const PLACES: &[&str] = &[
    "Accra",
    "Austin",
    "Bergen",
    "Berlin",
    "Boise",
    "Brazil",
    "Cairo",
    "Canada",
    "Chile",
    "Cuba",
    "Dakar",
    "Dallas",
    "Delhi",
    "Dublin",
    "El Paso",
    "Fargo",
    "Fiji",
    "France",
    "Fort Worth",
    "Ghana",
    "Hanoi",
    "Haiti",
    "Iceland",
    "Japan",
    "Kenya",
    "Key West",
    "Kyoto",
    "La Paz",
    "Lagos",
    "Lima",
    "Malta",
    "Miami",
    "Nepal",
    "New Delhi",
    "New York",
    "Norway",
    "Oman",
    "Oslo",
    "Palm Bay",
    "Paris",
    "Park City",
    "Peru",
    "Poland",
    "Quito",
    "Reno",
    "Rome",
    "San Jose",
    "Santa Fe",
    "Seoul",
    "Spain",
    "Sri Lanka",
    "Tampa",
    "Togo",
    "Tunis",
    "Turin",
    "Utica",
    "Vienna",
    "Warsaw",
    "Yemen",
    "Zambia",
];
const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// A number below a hundred in words; lists are shorter.
pub(super) fn number(n: usize) -> String {
    let n = n.min(99);
    match (n / 10, n % 10) {
        (0 | 1, _) => ONES[n].into(),
        (tens, 0) => TENS[tens - 2].into(),
        (tens, ones) => format!("{}-{}", TENS[tens - 2], ONES[ones]),
    }
}

/// What a number word says.
pub(super) fn read_number(word: &str) -> Option<usize> {
    (0..100).find(|n| number(*n) == word)
}

/// The people and places that may be drawn.
pub(super) struct Words {
    people: Vec<&'static str>,
    places: Vec<&'static str>,
}

impl Words {
    /// All, the first half or the second.
    pub(super) fn new(part: i64) -> Self {
        let half = |all: &[&'static str]| match part {
            0 => all.to_vec(),
            1 => all[..all.len() / 2].to_vec(),
            _ => all[all.len() / 2..].to_vec(),
        };
        Self { people: half(lexicon::NAMES), places: half(PLACES) }
    }

    fn some(&self, stream: &mut Stream, people: bool, n: usize) -> Vec<String> {
        let from = if people { &self.people } else { &self.places };
        stream.sample(from.len(), n).into_iter().map(|i| from[i].to_string()).collect()
    }
}

/// A pair of the `kind`th fragment.
pub(super) fn pair(stream: &mut Stream, kind: usize, size: usize, words: &Words) -> (Premise, Hypothesis) {
    let n = 1 + stream.below(size);
    let mut people = words.some(stream, true, n + 2);
    let mut places = words.some(stream, false, n + 2);
    let spare = [people.pop().expect("two more"), places.pop().expect("two more")];
    let [other, elsewhere] = spare;
    match kind {
        0 | 1 => {
            let clauses = match (kind, stream.chance(0.5)) {
                (0, _) => people.iter().zip(&places).map(|(p, c)| (vec![p.clone()], vec![c.clone()])).collect(),
                (_, true) => vec![(people.clone(), vec![places[0].clone()])],
                (_, false) => vec![(vec![people[0].clone()], places.clone())],
            };
            let (who, told) = clauses[stream.below(clauses.len())].clone();
            let who = if stream.chance(0.33) { other } else { stream.choose(&who).clone() };
            let place = if stream.chance(0.5) { elsewhere } else { stream.choose(&told).clone() };
            (Premise::Only(clauses), Hypothesis::Visit(Visit { who, did: false, place }))
        }
        2 => {
            let everyone = stream.chance(0.7);
            let range = match stream.below(4) {
                _ if !everyone => Range::Both,
                0 => Range::Places,
                1 => Range::People,
                2 => Range::Both,
                _ => Range::List(places.clone()),
            };
            let did = stream.chance(0.5);
            let place = match stream.below(3) {
                0 => people[0].clone(),
                1 => elsewhere,
                _ => stream.choose(&places).clone(),
            };
            let hypothesis = match stream.below(3) {
                0 => Hypothesis::Visit(Visit { who: other, did, place }),
                k => Hypothesis::Somebody { definite: k == 1, did, place },
            };
            (Premise::Quantified { everyone, range }, hypothesis)
        }
        3 => {
            let who = other;
            let of_people = stream.chance(0.5);
            let list = if of_people { people } else { places };
            if stream.chance(0.5) {
                let than = stream.below(size + 3).min(30);
                let count = Hypothesis::Count { who: who.clone(), more: stream.chance(0.5), than, people: of_people };
                return (Premise::Visited(who, list), count);
            }
            let bound = |stream: &mut Stream| Some(1 + stream.below(size + 2));
            let (a, b) = (bound(stream), bound(stream));
            let both = stream.chance(0.6);
            let places = if both || !of_people { a } else { None };
            let people = if both || of_people { b } else { None };
            let or = both && stream.chance(0.4);
            (Premise::AtMost { who: who.clone(), places, people, or }, Hypothesis::Visited(who, list))
        }
        4 => {
            let people = words.some(stream, true, 4);
            let places = words.some(stream, false, 4);
            let visit = |i: usize, did| Visit { who: people[i].clone(), did, place: places[i].clone() };
            let facts: Vec<Visit> = (0..3).map(|i| visit(i, stream.chance(0.5))).collect();
            let mut given = stream.choose(&facts).clone();
            given.did ^= stream.chance(0.4);
            let then = visit(3, stream.chance(0.5));
            let asked = visit(3, stream.chance(0.5));
            (Premise::Conditional { facts, given, then }, Hypothesis::Visit(asked))
        }
        _ => {
            // As published: one above a list and one as tall, or a chain of equals with one below.
            let named = people.clone();
            let clauses = if stream.chance(0.5) {
                let (first, rest) = people.split_first().expect("at least two");
                let (rest, equal) = (rest.to_vec(), words.some(stream, true, words.people.len()));
                let equal = equal.into_iter().find(|p| !named.contains(p) && *p != other).expect("more names");
                vec![(first.clone(), false, rest), (equal, true, vec![first.clone()])]
            } else {
                let last = people.len() - 1;
                people.windows(2).enumerate().map(|(i, w)| (w[0].clone(), i + 1 < last, vec![w[1].clone()])).collect()
            };
            let mut all: Vec<String> = clauses.iter().flat_map(|c| [&c.0].into_iter().chain(&c.2)).cloned().collect();
            all.push(other);
            all.sort();
            all.dedup();
            let two = stream.sample(all.len(), 2);
            (Premise::Taller(clauses), Hypothesis::Taller(all[two[0]].clone(), all[two[1]].clone()))
        }
    }
}

pub(super) fn visit(v: &Visit) -> String {
    format!("{} has {}visited {}", v.who, if v.did { "" } else { "not " }, v.place)
}

pub(super) fn premise(p: &Premise) -> String {
    let listed = |l: &[String]| lexicon::listed(l);
    match p {
        Premise::Only(clauses) => {
            let tell = |(who, what): &(Vec<String>, Vec<String>)| {
                format!("{} {} only visited {}", listed(who), if who.len() == 1 { "has" } else { "have" }, listed(what))
            };
            clauses.iter().map(tell).collect::<Vec<_>>().join(", ")
        }
        Premise::Quantified { everyone, range } => {
            let range = match range {
                Range::Places => "every place".into(),
                Range::People => "every person".into(),
                Range::Both => "every person and every place".into(),
                Range::List(all) => listed(all),
            };
            format!("{} has visited {range}", if *everyone { "Everyone" } else { "Someone" })
        }
        Premise::Visited(who, list) => format!("{who} has visited {}", listed(list)),
        Premise::AtMost { who, places, people, or } => {
            let bound = |n: &usize, kind: &str| format!("only {} {kind}", number(*n));
            let bounds: Vec<String> =
                places.iter().map(|n| bound(n, "places")).chain(people.iter().map(|n| bound(n, "people"))).collect();
            format!("{who} has visited {}", bounds.join(if *or { " or " } else { " and " }))
        }
        Premise::Conditional { facts, given, then } => {
            let facts: Vec<String> = facts.iter().map(visit).collect();
            format!("{} and if {} then {}", facts.join(", "), visit(given), visit(then))
        }
        Premise::Taller(clauses) => {
            let tell = |(a, equal, list): &(String, bool, Vec<String>)| {
                format!("{a} is {} {}", if *equal { "as tall as" } else { "taller than" }, listed(list))
            };
            clauses.iter().map(tell).collect::<Vec<_>>().join(" , ")
        }
    }
}

/// A hypothesis beside its premise: after a conditional it is told in the premise's tense.
pub(super) fn hypothesis(h: &Hypothesis, beside: &Premise, stream: &mut Stream) -> String {
    let did = |did: bool| if did { "did visit" } else { "didn't visit" };
    match h {
        Hypothesis::Visit(v) if matches!(beside, Premise::Conditional { .. }) => visit(v),
        Hypothesis::Visit(v) => format!("{} {} {}", v.who, did(v.did), v.place),
        Hypothesis::Somebody { definite, did: d, place } => {
            let who = if *definite {
                *stream.choose(&["That person there", "That particular person", "That individual there"])
            } else {
                *stream.choose(&["Someone", "An individual", "A person"])
            };
            format!("{who} {} {place}", did(*d))
        }
        Hypothesis::Count { who, more, than, people } => {
            let (more, kind) = (if *more { "more" } else { "less" }, if *people { "people" } else { "places" });
            format!("{who} has visited {more} than {} {kind}", number(*than))
        }
        Hypothesis::Visited(who, list) => format!("{who} has visited {}", lexicon::listed(list)),
        Hypothesis::Taller(a, b) => format!("{a} is taller than {b}"),
    }
}
