//! The mini-language: small imperative programs whose every cost is counted.
//!
//! ```text
//! fn sum_even(xs) {
//!     let total = 0;
//!     for x in xs {
//!         if x % 2 == 0 {
//!             total += x;
//!         }
//!     }
//!     return total;
//! }
//!
//! assert sum_even([1, 2, 3, 4]) == 6;
//! ```
//! ```
//! use postgrad_tasks::lang::{self, Limits, Value, Watch};
//! let program = lang::compile(&lang::parse("fn twice(n) { return 2 * n; }").unwrap()).unwrap();
//! let run = program.call("twice", &[Value::Int(21)], &Limits::default(), Watch::NOTHING);
//! assert_eq!(run.result.unwrap(), Value::Int(42));
//! ```
//!
//! The grammar (`//` and `#` begin comments):
//! ```text
//! program = { "fn" NAME "(" [ NAME { "," NAME } ] ")" block | stmt }
//! block   = "{" { stmt } "}"
//! stmt    = "let" NAME "=" expr ";" | place ( "=" | "+=" | "-=" | "*=" | "/=" | "%=" ) expr ";"
//!         | "if" expr block [ "else" ( block | "if" … ) ] | "while" expr block | "for" NAME "in" expr block
//!         | "break" ";" | "continue" ";" | "return" [ expr ] ";" | "assert" expr [ "," expr ] ";"
//!         | "push" "(" place "," expr ")" ";" | "remove" "(" place "," expr ")" ";" | expr ";"
//! place   = NAME { "[" expr "]" }
//! expr    = or; or = and { "or" and }; and = not { "and" not }; not = "not" not | compare
//! compare = sum [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" ) sum ]
//! sum     = product { ( "+" | "-" ) product }; product = prefix { ( "*" | "/" | "%" ) prefix }
//! prefix  = "-" prefix | primary { "[" expr "]" }
//! primary = INT | STRING | "true" | "false" | "none" | NAME [ "(" args ")" ] | "[" args "]" | "{" pairs "}" | "(" expr ")"
//! ```
//! `||`, `&&` and `!` are read as `or`, `and` and `not`. Whole numbers have 64 bits; overflow is a fault, division rounds
//! down. Conditions are booleans. Lists and maps are values: assigning or passing one copies it. Variables belong to their
//! block; there are no globals.
//!
//! Left out on purpose: floating point (so that every verdict is exact), closures, modules, input, time, randomness,
//! exceptions.

mod ast;
mod builtin;
mod compile;
mod interp;
pub mod mutate;
mod parse;
mod print;
pub mod random;
mod run;
mod value;

#[cfg(test)]
mod tests;

pub use ast::{BinOp, Expr, Function, Place, Program, Stmt, StmtKind, UnOp};
pub use builtin::BUILTINS;
pub use compile::{Branch, Compiled, compile};
pub use parse::{MAX_DEPTH, MAX_TEXT, parse, parse_expr};
pub use print::print;
pub use run::{Change, Coverage, Fault, FaultKind, Limits, Run, TraceStep, Watch};
pub use value::{Key, MAX_NESTING, Value};

/// Reads any bytes as a program; what parses must print and parse back to itself, and what compiles must run within its
/// limits, alike whether watched or not.
pub fn fuzz_program(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(program) = parse(&text) {
        exercise(&program);
    }
}

/// Makes a random program from bytes and its mutants, and runs them.
pub fn fuzz_random(data: &[u8]) {
    let mut seed = [0; 8];
    data.iter().take(8).enumerate().for_each(|(i, b)| seed[i] = *b);
    let mut stream = postgrad_base::Stream::new(u64::from_le_bytes(seed), &["fuzz"]);
    let program = random::program(&mut stream, &random::Shape::default());
    exercise(&program);
    for m in mutate::mutants(&program, 10) {
        exercise(&m.program);
    }
}

fn exercise(program: &Program) {
    let printed = print(program);
    match parse(&printed) {
        Ok(again) => assert_eq!(again, *program, "{printed}"),
        Err(e) => assert!(printed.len() > MAX_TEXT, "{e}: {printed}"),
    }
    let Ok(c) = compile(program) else { return };
    let limits = Limits { steps: 20_000, cells: 20_000, calls: 50, output: 1000, trace: 100 };
    let entries: Vec<(String, usize)> = c.functions().map(|(n, a)| (n.to_string(), a)).take(3).collect();
    let plain = |watch: Watch| {
        let mut runs = vec![c.run(&limits, watch)];
        for (name, arity) in &entries {
            let args: Vec<Value> = (0..*arity).map(|i| Value::Int(i as i64 + 2)).collect();
            runs.push(c.call(name, &args, &limits, watch));
        }
        runs
    };
    for (a, b) in plain(Watch::NOTHING).iter().zip(plain(Watch { trace: true, coverage: true })) {
        assert_eq!((a.steps, a.cells, &a.output), (b.steps, b.cells, &b.output), "{printed}");
        assert_eq!(a.result, b.result);
        assert!(a.steps <= limits.steps && a.cells <= limits.cells && a.output.len() <= limits.output);
        assert!(b.trace.len() <= limits.trace);
    }
}
