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
mod value;

pub use ast::{BinOp, Expr, Function, Place, Program, Stmt, StmtKind, UnOp};
pub use builtin::BUILTINS;
pub use compile::{Branch, Compiled, compile};
pub use interp::{Change, Coverage, Fault, FaultKind, Limits, Run, TraceStep, Watch};
pub use parse::{MAX_DEPTH, MAX_TEXT, parse, parse_expr};
pub use print::print;
pub use value::{Key, MAX_NESTING, Value};
