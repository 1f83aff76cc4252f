//! Drives every fuzz target on a stable compiler: mutated and spliced seed texts and raw bytes, so many seconds each. No
//! coverage feedback (libFuzzer has that, see `fuzz/`); a panic or an abort ends the program and prints the input.
//!
//!     cargo run --release -p postgrad-tasks --example fuzz_minute -- 60 [target]

use std::time::{Duration, Instant};

use postgrad_base::Stream;
use postgrad_tasks::{answers, lang, logic, search, sql};

type Target = (&'static str, fn(&[u8]), &'static [&'static str]);

const TARGETS: [Target; 8] = [
    (
        "answers",
        answers::fuzz_answers,
        &[
            "\\boxed{\\frac{1}{2}}\0 0.5",
            "#### 1,234.50\0The answer is $1234.5$",
            "(1, 2] \\cup \\{3\\}\0x=1,2",
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}\0\\sqrt[3]{8}+\\pi i",
            "9^9^9^9\0\\log_2 8",
            "3\\frac12\\%\0-2.5e-3 cm",
        ],
    ),
    (
        "formula",
        logic::fuzz_formula,
        &["∀x (P(x) → ∃y Q(x,y) ∧ ¬R(y))", "forall x. p(x) & ~q | r <-> s", "\\forall x \\exists y (A(x) \\lor B(y))"],
    ),
    (
        "horn",
        logic::fuzz_horn,
        &["bird(x) -> flies(x)\nbird(tweety)", "If someone is kind then they are nice.\nAnne is kind."],
    ),
    ("dimacs", logic::fuzz_dimacs, &["p cnf 3 2\n1 -2 0\n2 3 0\n", "c x\np cnf 0 0\n"]),
    (
        "program",
        lang::fuzz_program,
        &[
            "fn f(n) { if n < 2 { return n } return f(n-1) + f(n-2) }\nprint(f(9))",
            "let xs = [1,2,3]\nfor x in xs { assert x > 0 }",
            "while true { }",
        ],
    ),
    ("random", lang::fuzz_random, &["0123456789abcdef"]),
    (
        "sql",
        sql::fuzz_query,
        &[
            "SELECT a, count(*) FROM t WHERE b > 1 GROUP BY a ORDER BY 2 DESC LIMIT 3",
            "WITH x AS (SELECT 1) SELECT * FROM x;--",
            "attach 'a' as b",
        ],
    ),
    ("cover", search::fuzz_cover, &["\x01\x02\x03\x04\x05\x06"]),
];

fn mutate(s: &mut Stream, seeds: &[&str], last: &[u8]) -> Vec<u8> {
    let mut text = match s.below(4) {
        0 => last.to_vec(),
        1 => (0..s.below(64)).map(|_| s.next_u32() as u8).collect(),
        _ => s.choose(seeds).as_bytes().to_vec(),
    };
    for _ in 0..1 + s.below(6) {
        let at = s.below(text.len() + 1);
        match s.below(6) {
            0 => text.insert(at, s.next_u32() as u8),
            1 if at < text.len() => _ = text.remove(at),
            2 if at < text.len() => text[at] = *s.choose(b"(){}[]\\^_,.;:-+*/<>=&|~0123456789axyz \n\0\""),
            3 => {
                let piece = s.choose(seeds).as_bytes();
                let from = s.below(piece.len());
                let to = from + s.below(piece.len() - from + 1);
                text.splice(at..at, piece[from..to].iter().copied());
            }
            4 if !text.is_empty() => {
                let from = s.below(text.len());
                let part = text[from..(from + 1 + s.below(16)).min(text.len())].to_vec();
                let times = 1 + s.below(40);
                text.splice(at..at, part.repeat(times));
            }
            _ => text.truncate(at.max(1)),
        }
        text.truncate(4096);
    }
    text
}

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|a| a.parse().ok()).unwrap_or(60);
    let only = args.next();
    for (name, target, seeds) in TARGETS.iter().filter(|t| only.as_deref().is_none_or(|o| o == t.0)) {
        let started = Instant::now();
        let mut stream = Stream::new(1, &["fuzz", name]);
        let (mut runs, mut last, mut slowest) = (0u64, Vec::new(), (Duration::ZERO, 0));
        while started.elapsed() < Duration::from_secs(seconds) {
            let input = mutate(&mut stream, seeds, &last);
            let before = Instant::now();
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                eprintln!("{name}: panic on {:?}", String::from_utf8_lossy(&input));
                std::process::exit(1);
            }
            let took = before.elapsed();
            if took > slowest.0 {
                slowest = (took, input.len());
            }
            runs += 1;
            last = input;
        }
        println!("{name}: {runs} inputs in {seconds} s, no panic; slowest {:.0?} ({} bytes)", slowest.0, slowest.1);
    }
}
