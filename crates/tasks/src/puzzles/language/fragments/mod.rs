//! `semantic-fragments`: does a premise entail a hypothesis? After six generated fragments of arXiv 1909.07521.
//!
//! ```text
//! Premise: Ada, Ben and Eva have only visited Rome. Hypothesis: Ben didn't visit Oslo. Does the hypothesis follow ...?
//! Ben: Rome only / Oslo is not among them
//! #### entailment
//! ```
//!
//! Fragments: `negation`, `boolean`, `quantifier`, `counting`, `conditional`, `comparative`. Their conventions are those of
//! the published data and differ from classical logic: counting is closed-world; after "someone", "a person" is the same
//! one. Difficulty: `fragment`, `size` (of lists and chains), `names` (two halves without a common name, for tests on an
//! unseen vocabulary). [`label`] labels premise and hypothesis, [`read()`] reads them from English; the example
//! `semantic_fragments` compares labels with a copy of the published files. Left out: the two monotonicity fragments.

mod draw;
mod read;

use super::*;

pub use read::read;

pub struct SemanticFragments;

pub const FRAGMENT: Knob = Knob::choice(
    "fragment",
    &["any", "negation", "boolean", "quantifier", "counting", "conditional", "comparative"],
    "which phenomenon",
);
pub const SIZE: Knob = Knob::number("size", 2, 20, 4, "most members of a list or chain");
pub const NAMES: Knob = Knob::choice("names", &["all", "first", "second"], "the whole vocabulary, or one half of it");

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    Entailment,
    Contradiction,
    Neutral,
}

impl Label {
    pub const ALL: [Label; 3] = [Label::Entailment, Label::Contradiction, Label::Neutral];

    pub fn name(self) -> &'static str {
        ["entailment", "contradiction", "neutral"][self as usize]
    }
}

/// `Ann has (not) visited Peru`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    pub who: String,
    pub did: bool,
    pub place: String,
}

/// What everyone or someone has visited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    Places,
    People,
    Both,
    List(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Premise {
    /// Clauses `these people have only visited these places`.
    Only(Vec<(Vec<String>, Vec<String>)>),
    Quantified {
        everyone: bool,
        range: Range,
    },
    /// A person and all that they visited.
    Visited(String, Vec<String>),
    /// A person's bounds on places and people, joined by `or` or not.
    AtMost {
        who: String,
        places: Option<usize>,
        people: Option<usize>,
        or: bool,
    },
    Conditional {
        facts: Vec<Visit>,
        given: Visit,
        then: Visit,
    },
    /// Clauses `a is taller than these` or, where the flag is set, `as tall as`.
    Taller(Vec<(String, bool, Vec<String>)>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hypothesis {
    Visit(Visit),
    /// `someone`, `a person` ... `that person there` ...: whoever is meant.
    Somebody {
        definite: bool,
        did: bool,
        place: String,
    },
    Count {
        who: String,
        more: bool,
        than: usize,
        people: bool,
    },
    Visited(String, Vec<String>),
    Taller(String, String),
}

/// Of a hypothesis about a visit, where the premise says that there was one or was none.
fn of_visit(visited: bool, did: bool) -> Label {
    if visited == did { Label::Entailment } else { Label::Contradiction }
}

/// Is a list one of people? Lists are of one kind; some names are also places.
fn of_people(list: &[String], is_person: &dyn Fn(&str) -> bool) -> bool {
    list.iter().filter(|x| is_person(x)).count() * 2 > list.len()
}

/// Whom `from` is at least as tall as; true for those it is taller than.
fn below<'a>(clauses: &'a [(String, bool, Vec<String>)], from: &'a str) -> BTreeMap<&'a str, bool> {
    let mut found: BTreeMap<&str, bool> = BTreeMap::from([(from, false)]);
    loop {
        let before = found.clone();
        for (a, equal, list) in clauses {
            for b in list {
                let edges: &[(&str, &str)] = if *equal { &[(a, b), (b, a)] } else { &[(a, b)] };
                for (x, y) in edges {
                    if let Some(strict) = found.get(x).copied() {
                        let entry = found.entry(y).or_insert(false);
                        *entry |= strict || !equal;
                    }
                }
            }
        }
        if found == before {
            return found;
        }
    }
}

/// The label, by the fragments' rules; none where premise and hypothesis are not of one fragment. `is_person` tells people
/// from places.
pub fn label(premise: &Premise, hypothesis: &Hypothesis, is_person: &dyn Fn(&str) -> bool) -> Option<Label> {
    Some(match (premise, hypothesis) {
        (Premise::Only(clauses), Hypothesis::Visit(v)) => match clauses.iter().find(|c| c.0.contains(&v.who)) {
            Some((_, places)) => of_visit(places.contains(&v.place), v.did),
            None => Label::Neutral,
        },
        (Premise::Quantified { everyone, range }, Hypothesis::Visit(Visit { did, place, .. }))
        | (Premise::Quantified { everyone, range }, Hypothesis::Somebody { did, place, .. }) => {
            // As published, the end of a list is also asked for as one thing.
            let listed = |l: &[String]| l.contains(place) || place.split(" and ").all(|p| l.iter().any(|x| x == p));
            let inside = match range {
                Range::Places => !is_person(place),
                Range::People => is_person(place),
                Range::Both => true,
                Range::List(all) => listed(all),
            };
            let same = *everyone || matches!(hypothesis, Hypothesis::Somebody { definite: false, .. });
            if inside && same { of_visit(true, *did) } else { Label::Neutral }
        }
        (Premise::Visited(who, list), Hypothesis::Count { who: asked, more, than, people }) => {
            let n = if of_people(list, is_person) == *people { list.len() } else { 0 };
            let holds = if *more { n > *than } else { n < *than };
            match (who == asked, holds) {
                (false, _) => Label::Neutral,
                (_, true) => Label::Entailment,
                _ => Label::Contradiction,
            }
        }
        (Premise::AtMost { who, places, people, or }, Hypothesis::Visited(asked, list)) => {
            let bound = if of_people(list, is_person) { people } else { places };
            let over = bound.is_some_and(|b| list.len() > b);
            if who == asked && over && !or { Label::Contradiction } else { Label::Neutral }
        }
        (Premise::Conditional { facts, given, then }, Hypothesis::Visit(v)) => {
            if let Some(fact) = facts.iter().find(|f| f.who == v.who && f.place == v.place) {
                of_visit(fact.did, v.did)
            } else if facts.contains(given) && (&v.who, &v.place) == (&then.who, &then.place) {
                of_visit(then.did, v.did)
            } else {
                Label::Neutral
            }
        }
        (Premise::Taller(clauses), Hypothesis::Taller(a, b)) => {
            let (down, up) = (below(clauses, a), below(clauses, b));
            match (down.get(b.as_str()), up.get(a.as_str())) {
                (Some(true), _) => Label::Entailment,
                (Some(false), _) | (_, Some(_)) => Label::Contradiction,
                _ => Label::Neutral,
            }
        }
        _ => return None,
    })
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    premise: Premise,
    hypothesis: Hypothesis,
}

fn is_person(name: &str) -> bool {
    lexicon::NAMES.contains(&name)
}

/// Reasons for the label.
fn steps(board: &Board, label: Label) -> Vec<String> {
    let listed = |l: &[String]| lexicon::listed(l);
    match (&board.premise, &board.hypothesis) {
        (Premise::Only(clauses), Hypothesis::Visit(v)) => match clauses.iter().find(|c| c.0.contains(&v.who)) {
            Some((_, places)) => {
                let among = if places.contains(&v.place) { "is" } else { "is not" };
                vec![format!("{}: {} only", v.who, listed(places)), format!("{} {among} among them", v.place)]
            }
            None => vec![format!("nothing is said of {}", v.who)],
        },
        (Premise::Quantified { everyone, range }, Hypothesis::Visit(Visit { place, .. }))
        | (Premise::Quantified { everyone, range }, Hypothesis::Somebody { place, .. }) => {
            let kind = if is_person(place) { "a person" } else { "a place" };
            let all = match range {
                Range::Places => "every place".to_string(),
                Range::People => "every person".into(),
                Range::Both => "every person and every place".into(),
                Range::List(l) => listed(l),
            };
            let who = if *everyone { "everyone" } else { "one person, maybe another" };
            vec![format!("{who}: {all}"), format!("{place} is {kind}")]
        }
        (Premise::Visited(_, list), Hypothesis::Count { people, .. }) => {
            let of: Vec<&String> = list.iter().filter(|x| is_person(x) == *people).collect();
            let count = of.iter().enumerate().map(|(i, x)| format!("{} {x}", i + 1)).collect::<Vec<_>>();
            vec![format!("count: {}", if count.is_empty() { "0".into() } else { count.join(", ") })]
        }
        (Premise::AtMost { or, .. }, Hypothesis::Visited(_, list)) => {
            let count = list.iter().enumerate().map(|(i, x)| format!("{} {x}", i + 1)).collect::<Vec<_>>();
            let bounds = if *or { "either bound may be the one that holds" } else { "each bound holds" };
            vec![format!("count: {}", count.join(", ")), bounds.into()]
        }
        (Premise::Conditional { facts, given, then }, _) => {
            let said = if facts.contains(given) { "is a fact" } else { "is not a fact" };
            let so = if facts.contains(given) { format!("so {}", draw::visit(then)) } else { "nothing follows".into() };
            vec![format!("{} {said}", draw::visit(given)), so]
        }
        (Premise::Taller(clauses), Hypothesis::Taller(a, b)) => {
            let line = |x: &str| {
                let all = below(clauses, x);
                let of = |strict: bool| {
                    all.iter().filter(|(n, s)| **s == strict && **n != x).map(|(n, _)| *n).collect::<Vec<_>>()
                };
                format!("{x}: as tall as {}, taller than {}", none(&of(false)), none(&of(true)))
            };
            vec![line(a), line(b)]
        }
        _ => vec![label.name().into()],
    }
}

fn none(all: &[&str]) -> String {
    if all.is_empty() { "none".into() } else { all.join(" ") }
}

impl Worked for SemanticFragments {
    const NAME: &'static str = "semantic-fragments";
    const ABOUT: &'static str = "entailment, contradiction or neither, in six fragments of English";
    const KNOBS: &'static [Knob] = &[FRAGMENT, SIZE, NAMES];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let wanted = *stream.choose(&Label::ALL);
        let kind = match d.get(&FRAGMENT) {
            0 => stream.below(6),
            f => f as usize - 1,
        };
        let words = draw::Words::new(d.get(&NAMES));
        loop {
            let (premise, hypothesis) = draw::pair(stream, kind, d.get(&SIZE) as usize, &words);
            if label(&premise, &hypothesis, &is_person) == Some(wanted) {
                return Board { premise, hypothesis };
            }
        }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let (premise, hypothesis) =
            (draw::premise(&board.premise), draw::hypothesis(&board.hypothesis, &board.premise, stream));
        let wordings = [
            "Premise: {p}. Hypothesis: {h}. Does the hypothesis follow (entailment), is it ruled out (contradiction), or neither (neutral)?",
            "{p}. Given this, is the following sure, impossible or open? {h}. Answer entailment, contradiction or neutral.",
            "Text: {p}.\nClaim: {h}.\nLabel the pair as entailment, contradiction or neutral.",
        ];
        stream.choose(&wordings).replace("{p}", &premise).replace("{h}", &hypothesis)
    }

    fn gist(board: &Board) -> String {
        serde_json::to_string(board).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let label = label(&board.premise, &board.hypothesis, &is_person)?;
        Some(Solution { steps: steps(board, label), answer: label.name().into() })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let label = label(&board.premise, &board.hypothesis, &is_person)?;
        let said = lexicon::items(text, |w| Label::ALL.iter().any(|l| l.name() == w))?;
        Some(said == [label.name()])
    }
}

#[cfg(test)]
mod tests;
