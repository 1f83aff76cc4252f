//! `space-reasoning`: what stands where a walk over a grid of squares, triangles or diamonds ends.
//!
//! ```text
//! On a grid of squares every corner holds one thing. You start at the cup. You go right and see the hat. You go up and see
//! the bell. You go left, then down. What is there? Say unknown if that was not told.
//! (0,0) cup / right (1,0) hat / up (1,1) bell / left (0,1) / down (0,0)
//! #### cup
//! ```
//!
//! Difficulty: `waypoints` (things told of), `unknown` (moves at the end that are told without things), `network`.

use super::*;

pub struct SpaceReasoning;

const WAYPOINTS: Knob = Knob::number("waypoints", 2, 20, 4, "moves that end at a thing told of");
const UNKNOWN: Knob = Knob::number("unknown", 1, 8, 2, "moves at the end without a thing told of");
const NETWORK: Knob = Knob::choice("network", &["any", "square", "triangle", "diamond"], "the shape of the grid");

type Move = (&'static str, i64, i64);
const SQUARE: &[Move] = &[("up", 0, 1), ("down", 0, -1), ("left", -1, 0), ("right", 1, 0)];
/// Rows are apart by one, neighbors in a row by two.
const TRIANGLE: &[Move] = &[
    ("left", -2, 0),
    ("right", 2, 0),
    ("up-left", -1, 1),
    ("up-right", 1, 1),
    ("down-left", -1, -1),
    ("down-right", 1, -1),
];
const DIAMOND: &[Move] = &[("up-left", -1, 1), ("up-right", 1, 1), ("down-left", -1, -1), ("down-right", 1, -1)];
const NETWORKS: [(&str, &[Move]); 3] = [("squares", SQUARE), ("triangles", TRIANGLE), ("diamonds", DIAMOND)];

const QUESTIONS: &[&str] = &[
    "What is there? Say unknown if that was not told.",
    "Which thing do you see? If it was not told, say unknown.",
    "Name the thing at this corner, or unknown if nobody can know.",
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    network: usize,
    start: String,
    /// A move (its index in the network) and the thing seen after it.
    told: Vec<(usize, String)>,
    last: Vec<usize>,
}

/// The place after each move, the start first; none when the board is not sound.
fn places(board: &Board) -> Option<Vec<(i64, i64)>> {
    let moves = NETWORKS.get(board.network)?.1;
    let mut at = vec![(0, 0)];
    for m in board.told.iter().map(|t| &t.0).chain(&board.last).take(1000) {
        let (_, dx, dy) = moves.get(*m)?;
        let (x, y) = at[at.len() - 1];
        at.push((x + dx, y + dy));
    }
    Some(at)
}

fn right(board: &Board) -> Option<String> {
    let at = places(board)?;
    let end = *at.last()?;
    let seen = [&board.start].into_iter().chain(board.told.iter().map(|t| &t.1));
    let thing = at.iter().zip(seen).find(|(p, _)| **p == end).map(|(_, t)| t.clone());
    Some(thing.unwrap_or("unknown".into()))
}

impl Worked for SpaceReasoning {
    const NAME: &'static str = "space-reasoning";
    const ABOUT: &'static str = "what stands at the end of a walk over a grid";
    const KNOBS: &'static [Knob] = &[WAYPOINTS, UNKNOWN, NETWORK];
    type Board = Board;

    fn make(stream: &mut Stream, d: &Difficulty) -> Board {
        let network = match d.get(&NETWORK) {
            0 => stream.below(3),
            n => n as usize - 1,
        };
        let moves = NETWORKS[network].1.len();
        let n = d.get(&WAYPOINTS) as usize;
        let things = lexicon::some(stream, lexicon::THINGS, n + 1);
        let mut board = Board { network, start: things[0].clone(), told: vec![], last: vec![] };
        let mut seen: BTreeMap<(i64, i64), String> = BTreeMap::from([((0, 0), things[0].clone())]);
        for thing in &things[1..] {
            board.told.push((stream.below(moves), thing.clone()));
            let place = places(&board).expect("moves of this network")[board.told.len()];
            // A place that was passed before holds what it held.
            let known = seen.entry(place).or_insert(thing.clone()).clone();
            board.told.last_mut().expect("just told").1 = known;
        }
        // Most walks end where something was seen.
        let wanted = stream.chance(0.75);
        for _ in 0..60 {
            board.last = (0..d.get(&UNKNOWN)).map(|_| stream.below(moves)).collect();
            if (right(&board).as_deref() != Some("unknown")) == wanted {
                break;
            }
        }
        board
    }

    fn ask(board: &Board, stream: &mut Stream) -> String {
        let (name, moves) = NETWORKS[board.network];
        let mut text = format!(
            "On a grid of {name} every corner holds one thing, and all are different. You start at the {}.",
            board.start
        );
        let see = *stream.choose(&["and see", "and find", "to"]);
        for (m, thing) in &board.told {
            text.push_str(&format!(" You go {} {see} the {thing}.", moves[*m].0));
        }
        let last: Vec<&str> = board.last.iter().map(|m| moves[*m].0).collect();
        text.push_str(&format!(" You go {}.", last.join(", then ")));
        format!("{text} {}", stream.choose(QUESTIONS))
    }

    fn gist(board: &Board) -> String {
        let told: Vec<usize> = board.told.iter().map(|t| t.0).collect();
        format!("{} {told:?} {:?}", board.network, board.last)
    }

    fn work(board: &Board) -> Option<Solution> {
        let at = places(board)?;
        if board.last.is_empty() {
            return None;
        }
        let moves = NETWORKS[board.network].1;
        let mut steps = vec![format!("start (0,0): {}", board.start)];
        for (i, (m, thing)) in board.told.iter().enumerate() {
            let (x, y) = at[i + 1];
            steps.push(format!("{} ({x},{y}): {thing}", moves[*m].0));
        }
        for (m, (x, y)) in board.last.iter().zip(&at[board.told.len() + 1..]) {
            steps.push(format!("{} ({x},{y})", moves[*m].0));
        }
        Some(Solution { steps, answer: right(board)? })
    }

    fn judge(board: &Board, text: &str) -> Option<bool> {
        let known = |w: &str| matches!(w, "unknown" | "a" | "an" | "the") || lexicon::THINGS.contains(&w);
        let mut said = lexicon::items(text, known)?;
        said.retain(|w| !matches!(w.as_str(), "a" | "an" | "the"));
        Some(said == [right(board)?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::*;
    use super::*;

    #[test]
    fn the_laws_hold() {
        let specs = ["", "waypoints=10,unknown=5", "waypoints=8,network=triangle"];
        let also = |p: &Problem| if p.answer == "unknown" { vec![] } else { vec![format!("The {}.", p.answer)] };
        let wrong = |p: &Problem| {
            let other = if p.answer == "cup" { "hat" } else { "cup" };
            vec![other.into(), format!("{0} {0}", p.answer), format!("{}, {other}", p.answer)]
        };
        hold(&Of(SpaceReasoning), &Laws { specs: &specs, n: 60, wrong, also, digest: "1b7b8adb08ef5721" });
    }

    /// A walk back by opposite moves ends where it began, on every network; most walks end at something known.
    #[test]
    fn walks_back_end_at_the_start() {
        for (network, (_, moves)) in NETWORKS.iter().enumerate() {
            for m in 0..moves.len() {
                let back = moves.iter().position(|o| o.1 == -moves[m].1 && o.2 == -moves[m].2).unwrap();
                let board =
                    Board { network, start: "cup".into(), told: vec![(m, "hat".into())], last: vec![back, m, back] };
                assert_eq!(right(&board).unwrap(), "cup");
            }
        }
        // Around a triangle: three moves that turn.
        let triangle = |m: &str| TRIANGLE.iter().position(|t| t.0 == m).unwrap();
        let last = vec![triangle("down-right"), triangle("left")];
        let board = Board { network: 1, start: "cup".into(), told: vec![(triangle("up-right"), "hat".into())], last };
        assert_eq!(right(&board).unwrap(), "cup");
        let known = boards::<SpaceReasoning>("", 300).iter().filter(|b| b.1 != "unknown").count();
        assert!((190..260).contains(&known), "{known}");
    }
}
