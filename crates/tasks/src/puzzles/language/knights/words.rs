//! How puzzles, traces and answers read. Wordings, names and roles are those of mem-kk-logic (MIT licence), but for the
//! compact style and claims deeper than two.

use super::*;

const COMMON: &[&str] = &[
    "Emma",
    "Liam",
    "Olivia",
    "Noah",
    "Ava",
    "Ethan",
    "Sophia",
    "Mason",
    "Isabella",
    "William",
    "Mia",
    "James",
    "Charlotte",
    "Benjamin",
    "Amelia",
    "Lucas",
    "Harper",
    "Henry",
    "Evelyn",
    "Alexander",
    "Abigail",
    "Michael",
    "Emily",
    "Daniel",
    "Elizabeth",
    "Jacob",
    "Sofia",
    "Logan",
    "Avery",
    "Jackson",
    "Ella",
    "Sebastian",
    "Scarlett",
    "Jack",
    "Grace",
    "Aiden",
    "Chloe",
    "Owen",
    "Victoria",
    "Samuel",
    "Riley",
    "Matthew",
    "Aria",
    "Joseph",
    "Lily",
    "Luke",
    "Aurora",
    "David",
    "Zoey",
    "Oliver",
    "Penelope",
];
const UNCOMMON: &[&str] = &[
    "Zephyr",
    "Elowen",
    "Caspian",
    "Isolde",
    "Osiris",
    "Vesper",
    "Thaddeus",
    "Ondine",
    "Lysander",
    "Xanthe",
    "Oberon",
    "Calliope",
    "Leander",
    "Eulalia",
    "Florian",
    "Forsythe",
    "Nephele",
    "Peregrine",
    "Ianthe",
    "Lazarus",
    "Elodie",
    "Cillian",
    "Ottoline",
    "Evander",
    "Saffron",
    "Caius",
    "Zora",
    "Cyprian",
    "Amaryllis",
    "Theron",
    "Perdita",
    "Ignatius",
    "Zephyrine",
    "Balthazar",
    "Melisande",
    "Zinnia",
    "Sylvester",
    "Cosima",
    "Leocadio",
    "Percival",
    "Oceane",
    "Evanthe",
    "Zenobia",
    "Eurydice",
    "Quillan",
    "Aeronwen",
    "Thorsten",
    "Xiomara",
    "Zephyrus",
    "Ysolde",
];
const ROLES: &[[&str; 2]] = &[
    ["a pioneer", "a laggard"],
    ["a saint", "a sinner"],
    ["a hero", "a villain"],
    ["an angel", "a devil"],
    ["an altruist", "an egoist"],
    ["a sage", "a fool"],
];
const KNIGHTS: [&str; 2] = ["a knight", "a knave"];
const SAYINGS: &[&str] = &[
    "{name} said that {claim}.",
    "{name} told you that {claim}.",
    "{name} said, \"{claim}.\"",
    "{name} stated, \"{claim}\".",
    "According to {name}, \"{claim}\".",
    "In {name}'s words: \"{claim}\".",
    "{name} remarked, \"{claim}\".",
    "\"{claim},\" {name} declared.",
    "{name} was heard saying, \"{claim}\".",
    "{name} expressed that {claim}.",
    "\"{claim}\" - {name}.",
    "As {name} put it, \"{claim}\".",
    "{name} asserted: \"{claim}\".",
    "\"{claim},\" {name} mentioned.",
    "{name} commented, \"{claim}\".",
    "In a statement by {name}: \"{claim}\".",
    "{name} noted, \"{claim}\".",
    "\"{claim},\" {name} claimed.",
];

/// Names of a kind: common, uncommon, short.
pub(super) fn names(stream: &mut Stream, kind: usize, n: usize) -> Vec<String> {
    lexicon::some(stream, [COMMON, UNCOMMON, lexicon::NAMES][kind], n)
}

/// Roles of a kind: knights and knaves, other words, knights and knaves turned round.
pub(super) fn roles(stream: &mut Stream, kind: usize) -> [String; 2] {
    let [truth, lie] = match kind {
        0 => KNIGHTS,
        1 => *stream.choose(ROLES),
        _ => [KNIGHTS[1], KNIGHTS[0]],
    };
    [truth.into(), lie.into()]
}

/// The word without its article.
fn noun(role: &str) -> &str {
    role.split_once(' ').map_or(role, |r| r.1)
}

/// A claim in English; parts deeper than the released renderer goes are bracketed.
pub(super) fn claim(board: &Board, c: &Claim) -> String {
    let is = |i: usize, not: &str, role: usize| format!("{} is {not}{}", board.names[i], board.roles[role]);
    let part = |c: &Claim| if c.parts().len() > 1 { format!("({})", claim(board, c)) } else { claim(board, c) };
    let joined = |all: &[Claim], by: &str| all.iter().map(part).collect::<Vec<_>>().join(by);
    match c {
        Claim::Knight(i) => is(*i, "", 0),
        Claim::Knave(i) => is(*i, "", 1),
        Claim::Not(a) => match **a {
            Claim::Knight(i) => is(i, "not ", 0),
            Claim::Knave(i) => is(i, "not ", 1),
            _ => format!("it is not true that {}", part(a)),
        },
        Claim::And(all) => joined(all, " and "),
        Claim::Or(all) => joined(all, " or "),
        Claim::If(a, b) => format!("If {} then {}", part(a), part(b)),
        Claim::Iff(a, b) => format!("{} if and only if {}", part(a), part(b)),
    }
}

pub(super) fn prompt(board: &Board, stream: &mut Stream) -> String {
    let [truth, lie] = &board.roles;
    let (knight, knave) = (noun(truth), noun(lie));
    let told: Vec<String> = board
        .order
        .iter()
        .map(|i| {
            let (name, said) = (&board.names[*i], claim(board, &board.claims[*i]));
            let saying = if board.compact { "{name}: {claim}." } else { stream.choose::<&str>(SAYINGS) };
            saying.replace("{name}", name).replace("{claim}", &said)
        })
        .collect();
    let told = told.join(" ");
    if board.compact {
        return format!("Each is {truth} (true) or {lie} (lies). {told} Who is what?");
    }
    let (last, head) = board.names.split_last().expect("someone");
    format!(
        "A very special island is inhabited only by {knight}s and {knave}s. {}s always tell the truth, and {knave}s always \
         lie. You meet {} inhabitants: {}, and {last}. {told} So who is {truth} and who is {lie}?",
        lexicon::capital(knight),
        board.names.len(),
        head.join(", ")
    )
}

/// The steps of a trace in English, with its first and last sentence.
pub(super) fn steps(board: &Board, trace: &[Step]) -> Vec<String> {
    let name = |i: usize| board.names[i].as_str();
    let role = |knight: bool| &board.roles[usize::from(!knight)];
    let mut out = vec![];
    if !board.compact {
        let head =
            "Let's think step by step, by considering whether each person is lying and if that leads to contradiction.";
        out.push(head.to_string());
    }
    for step in trace {
        out.push(match step {
            Step::Assume { person, knight } => {
                let assume = format!("Assume {} is {}.", name(*person), role(*knight));
                let said = claim(board, &board.claims[*person]);
                let kind = if *knight { "claim" } else { "false claim" };
                if board.compact {
                    assume
                } else {
                    format!("{assume} No contradiction is found in their {kind} that {said}.")
                }
            }
            Step::Conflict { person, knight, by } => {
                // The one who is contradicted is assigned: as what, the steps before tell.
                let lied = if by == person { !knight } else { !assumed(trace, step, *by) };
                let whose = if by == person { "their own" } else { name(*by) };
                let kind = if lied { "false claim" } else { "claim" };
                format!(
                    "{} cannot be {}, because this would contradict the {kind} of {whose}.",
                    name(*person),
                    role(*knight)
                )
            }
            Step::Reconsider { person, exhausted } => {
                let names: Vec<&str> = exhausted.iter().map(|i| name(*i)).collect();
                let all = match &names[..] {
                    [head @ .., last] if head.len() > 1 => format!("{}, and {last}", head.join(", ")),
                    _ => names.join(" and "),
                };
                format!(
                    "We have exhausted all possibilities for {all}, so let us go back and reconsider {}.",
                    name(*person)
                )
            }
            Step::Success(_) => "This leads to a feasible solution.".into(),
            Step::Fail => "All the configurations lead to contradictions.".into(),
        });
    }
    out
}

/// What a person was last assumed to be before a step.
fn assumed(trace: &[Step], until: &Step, who: usize) -> bool {
    let before = trace.iter().take_while(|s| !std::ptr::eq(*s, until));
    let said =
        |s: &Step| if let Step::Assume { person, knight } = s { (*person == who).then_some(*knight) } else { None };
    before.filter_map(said).last().unwrap_or(true)
}

/// Who is said to be a knight, by person; none when a word is no part of such an answer. A person named twice stands
/// twice.
pub(super) fn read(board: &Board, text: &str) -> Option<Vec<(usize, bool)>> {
    let apart = |c: char| !(c.is_alphanumeric() || c == '-');
    let nouns = [noun(&board.roles[0]), noun(&board.roles[1])];
    let plain = !nouns.iter().any(|n| matches!(*n, "knight" | "knave"));
    let mut found = vec![];
    let mut waiting = vec![];
    for word in text.split(apart).filter(|w| !w.is_empty()) {
        let lower = word.to_lowercase();
        let one = lower.strip_suffix('s').unwrap_or(&lower);
        let role = match one {
            "truth-teller" => Some(true),
            "liar" => Some(false),
            "knight" if plain => Some(true),
            "knave" if plain => Some(false),
            _ => nouns.iter().position(|n| *n == lower || *n == one).map(|i| i == 0),
        };
        if let Some(knight) = role {
            found.extend(waiting.drain(..).map(|i| (i, knight)));
        } else if let Some(i) = board.names.iter().position(|n| n.eq_ignore_ascii_case(word)) {
            waiting.push(i);
        } else if !matches!(lower.as_str(), "is" | "are" | "a" | "an" | "and") && word.parse::<u8>().is_err() {
            return None;
        }
    }
    found.sort();
    (!found.is_empty() && waiting.is_empty()).then_some(found)
}
