//! `web-of-lies`: who tells the truth, when people talk about one another.
//!
//! ```text
//! Everyone here either always tells the truth or always lies. The person at the zoo lies. The person at the mill says that
//! the person at the zoo tells the truth. The person at the bank says that exactly one of the people at the zoo and at the
//! mill lies. Does the person at the bank tell the truth? And the one at the mill?
//! zoo: lies / mill: says zoo is true, wrong, lies / bank: says zoo and mill differ, wrong, lies
//! #### no, no
//! ```
//!
//! Difficulty: `people`, `asked`, `pairs` (per cent of claims about two people). Each claim is about people whose own case
//! can be settled before, so that one solution exists; claims are told in any order.

use super::*;

pub struct WebOfLies;

const PEOPLE: Knob = Knob::number("people", 2, 24, 5, "how many people");
const ASKED: Knob = Knob::number("asked", 1, 3, 1, "how many of them are asked about");
const PAIRS: Knob = Knob::number("pairs", 0, 100, 25, "per cent of claims that are about two people");

const WORDINGS: &[(&str, &str)] = &[
    (
        "Everyone here either always tells the truth or always lies.",
        "Do these people tell the truth, in this order: {}? Answer yes or no for each, parted by commas.",
    ),
    (
        "In this town some people always tell the truth and the others always lie.",
        "For each of {}, in this order, answer yes (tells the truth) or no (lies), parted by commas.",
    ),
    (
        "Each person below is a truth-teller or a liar.",
        "Who is a truth-teller among {}? Write yes or no for each, in this order, parted by commas.",
    ),
];

/// What is known about a person: a fact, or a claim that they make.
#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "lowercase")]
enum Said {
    Fact(bool),
    /// They say that this one tells the truth (or lies).
    About(usize, bool),
    /// They say that these two are of one kind (or of two kinds).
    Same(usize, usize, bool),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    places: Vec<String>,
    said: Vec<Said>,
    /// The order in which the sentences are told.
    order: Vec<usize>,
    asked: Vec<usize>,
}

/// Who tells the truth, settled as far as facts and claims reach, and the order of settling.
fn settle(board: &Board) -> (Vec<Option<bool>>, Vec<usize>) {
    let n = board.said.len().min(board.places.len()).min(200);
    let mut truth: Vec<Option<bool>> = vec![None; n];
    let mut order = vec![];
    let of = |truth: &[Option<bool>], i: usize| truth.get(i).copied().flatten();
    loop {
        let mut moved = false;
        for i in 0..n {
            if truth[i].is_some() {
                continue;
            }
            truth[i] = match board.said[i] {
                Said::Fact(v) => Some(v),
                Said::About(j, says) => of(&truth, j).map(|t| t == says),
                Said::Same(j, k, says) => of(&truth, j).zip(of(&truth, k)).map(|(a, b)| (a == b) == says),
            };
            if truth[i].is_some() {
                order.push(i);
                moved = true;
            }
        }
        if !moved {
            return (truth, order);
        }
    }
}

impl Board {
    fn sentence(&self, i: usize, stream: &mut Stream) -> String {
        let at = |j: usize| format!("the person at the {}", self.places[j]);
        let who = format!("The person at the {}", self.places[i]);
        let says = *stream.choose(&["says that", "claims that"]);
        let kind = |truth: bool| if truth { "tells the truth" } else { "lies" };
        match self.said[i] {
            Said::Fact(truth) => format!("{who} {}.", kind(truth)),
            Said::About(j, truth) => format!("{who} {says} {} {}.", at(j), kind(truth)),
            Said::Same(j, k, false) => {
                let (a, b) = (&self.places[j], &self.places[k]);
                format!("{who} {says} exactly one of the people at the {a} and at the {b} lies.")
            }
            Said::Same(j, k, true) => {
                let (a, b) = (&self.places[j], &self.places[k]);
                format!("{who} {says} the people at the {a} and at the {b} both lie or both tell the truth.")
            }
        }
    }

    fn step(&self, i: usize, truth: bool) -> String {
        let (me, kind) = (&self.places[i], if truth { "true" } else { "lies" });
        let right = if truth { "right" } else { "wrong" };
        let name = |j: usize| self.places[j].as_str();
        match self.said[i] {
            Said::Fact(_) => format!("{me}: {kind}"),
            Said::About(j, says) => {
                format!("{me}: says {} {}, {right}, {kind}", name(j), if says { "true" } else { "lies" })
            }
            Said::Same(j, k, says) => {
                format!(
                    "{me}: says {} and {} {}, {right}, {kind}",
                    name(j),
                    name(k),
                    if says { "same" } else { "differ" }
                )
            }
        }
    }

    fn answers(&self) -> Option<Vec<bool>> {
        let truth = settle(self).0;
        self.asked.iter().map(|i| truth.get(*i).copied().flatten()).collect()
    }
}

impl Worked for WebOfLies {
    const NAME: &'static str = "web-of-lies";
    const ABOUT: &'static str = "who lies and who tells the truth, from claims about one another";
    const KNOBS: &'static [Knob] = &[PEOPLE, ASKED, PAIRS];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let n = d.get(&PEOPLE) as usize;
        let facts = 1 + stream.below(n.div_ceil(6));
        let mut said: Vec<Said> = (0..facts.min(n - 1)).map(|_| Said::Fact(stream.chance(0.5))).collect();
        while said.len() < n {
            let i = said.len();
            let pair = i >= 2 && stream.chance(d.get(&PAIRS) as f64 / 100.0);
            let truth = stream.chance(0.5);
            said.push(if pair {
                let two = stream.sample(i, 2);
                Said::Same(two[0], two[1], truth)
            } else {
                // The latest are spoken of more often, which makes long chains.
                Said::About(i - 1 - stream.below(i.min(3)), truth)
            });
        }
        let asked = (d.get(&ASKED) as usize).min(n - 1);
        let mut asked: Vec<usize> = (n - asked..n).collect();
        stream.shuffle(&mut asked);
        let order = stream.sample(n, n);
        Board { places: lexicon::some(stream, lexicon::PLACES, n), said, order, asked }
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let (head, question) = *stream.choose(WORDINGS);
        let told: Vec<String> = board.order.iter().map(|i| board.sentence(*i, stream)).collect();
        let asked: Vec<String> =
            board.asked.iter().map(|i| format!("the person at the {}", board.places[*i])).collect();
        format!("{head} {} {}", told.join(" "), question.replace("{}", &lexicon::listed(&asked)))
    }

    fn gist(board: &Board) -> String {
        // Without the places and the order of telling.
        serde_json::to_string(&(&board.said, &board.asked)).expect("plain data")
    }

    fn work(board: &Board) -> Option<Solution> {
        let answers = board.answers()?;
        let (truth, order) = settle(board);
        let steps = order.iter().map(|i| board.step(*i, truth[*i] == Some(true))).collect();
        let words: Vec<&str> = answers.iter().map(|t| if *t { "yes" } else { "no" }).collect();
        Some(Solution { steps, answer: words.join(", ") })
    }

    fn judge(board: &Board, answer: &str) -> Option<bool> {
        let said = lexicon::items(answer, |w| matches!(w, "yes" | "no"))?;
        Some(said.iter().map(|w| w == "yes").collect::<Vec<_>>() == board.answers()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "people=10,asked=3", "people=18,asked=3,pairs=60"];
        let wrong = |p: &Problem| {
            let turned: Vec<&str> = p.answer.split(", ").map(|w| if w == "yes" { "no" } else { "yes" }).collect();
            vec![
                turned.join(", "),
                format!("{}, no", p.answer),
                format!("{}\n{}", p.answer, p.answer),
                "yes, no, no, no".into(),
            ]
        };
        let also = |p: &Problem| vec![p.answer.to_uppercase(), format!("[{}]", p.answer)];
        hold(&Of(WebOfLies), &Laws { specs: &specs, n: 60, wrong, also, digest: "d52b4631f285e05b" });
    }

    /// Of all ways to be truthful one fits every fact and claim.
    #[test]
    fn one_way_fits() {
        for (board, answer) in boards::<WebOfLies>("people=8,asked=3,pairs=50", 100) {
            let fits = |t: &u32| {
                let of = |i: usize| t >> i & 1 == 1;
                board.said.iter().enumerate().all(|(i, s)| match *s {
                    Said::Fact(v) => of(i) == v,
                    Said::About(j, v) => of(i) == (of(j) == v),
                    Said::Same(j, k, v) => of(i) == ((of(j) == of(k)) == v),
                })
            };
            let ways: Vec<u32> = (0..1 << 8).filter(fits).collect();
            assert_eq!(ways.len(), 1);
            let said = board.asked.iter().map(|i| if ways[0] >> i & 1 == 1 { "yes" } else { "no" });
            assert_eq!(said.collect::<Vec<_>>().join(", "), answer);
        }
    }
}
