use proptest::prelude::*;

use super::mutate::{MutationKind, mutants, score};
use super::*;
use postgrad_base::Stream;

fn ready(text: &str) -> Compiled {
    compile(&parse(text).unwrap_or_else(|e| panic!("{e}"))).unwrap_or_else(|e| panic!("{e}"))
}

/// The value of an expression.
fn value(text: &str) -> Result<Value, Fault> {
    ready(&format!("fn f() {{ return {text}; }}")).call("f", &[], &Limits::default(), Watch::NOTHING).result
}

fn fault(text: &str) -> FaultKind {
    let c = ready(text);
    c.run(&Limits::default(), Watch::NOTHING).result.expect_err(text).kind
}

#[test]
fn expressions() {
    for (text, want) in [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("-7 / 2", "-4"),
        ("-7 % 2", "1"),
        ("7 / -2", "-4"),
        ("7 % -2", "-1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-9223372036854775808 % -1", "0"),
        ("--5", "5"),
        ("-(5)", "-5"),
        ("1 < 2 and not 2 < 1 or false", "true"),
        ("false and 1 / 0 == 0", "false"),
        ("\"ab\" + \"c\"", "\"abc\""),
        ("[1, 2] + [3] * 2", "[1, 2, 3, 3]"),
        ("[1, [2, 3]][1][-1]", "3"),
        ("\"héllo\"[1]", "\"é\""),
        ("{\"a\": 1, [1, 2]: 2}[[1, 2]]", "2"),
        ("2 in [1, 2]", "true"),
        ("\"ell\" in \"hello\"", "true"),
        ("[1, 2] < [1, 3]", "true"),
        ("1 == true", "false"),
        ("len(\"héllo\") + len([1, 2]) + len({1: 2})", "8"),
        ("sorted([3, 1, 2])", "[1, 2, 3]"),
        ("sorted([[2, \"b\"], [1, \"z\"], [2, \"a\"]])", "[[1, \"z\"], [2, \"a\"], [2, \"b\"]]"),
        ("reversed([1, 2, 3])", "[3, 2, 1]"),
        ("slice([1, 2, 3, 4], 1, -1)", "[2, 3]"),
        ("slice(\"hello\", -3)", "\"llo\""),
        ("sum(range(1, 11)) + min(4, 2) + max([7, 9])", "66"),
        ("range(5, 0, -2)", "[5, 3, 1]"),
        ("split(\"a, b\", \", \")", "[\"a\", \"b\"]"),
        ("join([\"a\", \"b\"], \"-\")", "\"a-b\""),
        ("str([1, none, true, \"x\"])", "\"[1, none, true, \\\"x\\\"]\""),
        ("int(\" 42 \") + ord(\"a\") + int(true)", "140"),
        ("chr(233)", "\"é\""),
        ("pow(2, 10) + abs(-3)", "1027"),
        ("get({\"a\": 1}, \"b\", 5)", "5"),
        ("get({\"a\": 1}, \"b\")", "none"),
        ("keys({2: 0, 1: 0})", "[1, 2]"),
        ("values({2: 5, 1: 6})", "[6, 5]"),
        ("type([])", "\"list\""),
        ("chars(\"ab\")", "[\"a\", \"b\"]"),
    ] {
        assert_eq!(value(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_string(), want, "{text}");
    }
}

#[test]
fn programs() {
    let c = ready(
        "fn primes(n) {
            let found = [];
            for i in range(2, n) {
                let prime = true;
                for p in found {
                    if p * p > i { break; }
                    if i % p == 0 { prime = false; break; }
                }
                if not prime { continue; }
                push(found, i);
            }
            return found;
        }
        fn fib(n) { if n < 2 { return n; } return fib(n - 1) + fib(n - 2); }
        fn count(words) {
            let m = {};
            for w in words { m[w] = get(m, w, 0) + 1; }
            m[\"the\"] += 10;
            remove(m, \"a\");
            return m;
        }
        fn grid() {
            let g = [[0, 0], [0, 0]];
            let h = g;
            g[1][0] = 5;
            push(g[0], 7);
            remove(g[0], 0);
            return [g, h];
        }
        fn collatz(n) { let k = 0; while n != 1 { if n % 2 == 0 { n /= 2; } else { n = 3 * n + 1; } k += 1; } return k; }
        fn nothing() { }",
    );
    let call = |f: &str, args: &[Value]| {
        c.call(f, args, &Limits::default(), Watch::NOTHING).result.unwrap_or_else(|e| panic!("{f}: {e}")).to_string()
    };
    assert_eq!(call("primes", &[30.into()]), "[2, 3, 5, 7, 11, 13, 17, 19, 23, 29]");
    assert_eq!(call("fib", &[15.into()]), "610");
    assert_eq!(call("count", &[vec!["the", "cat", "the", "a"].into()]), "{\"cat\": 1, \"the\": 12}");
    assert_eq!(call("grid", &[]), "[[[0, 7], [5, 0]], [[0, 0], [0, 0]]]");
    assert_eq!(call("collatz", &[27.into()]), "111");
    assert_eq!(call("nothing", &[]), "none");
    let run = c.call("fib", &[], &Limits::default(), Watch::NOTHING);
    assert_eq!(run.result.unwrap_err().kind, FaultKind::Name);
    let out = ready("print(\"a\", 1, [2]); print();").run(&Limits::default(), Watch::NOTHING);
    assert_eq!(out.output, "a 1 [2]\n\n");
}

#[test]
fn faults_have_kinds_and_lines() {
    use FaultKind::*;
    for (text, kind) in [
        ("let x = 9223372036854775807 + 1;", Overflow),
        ("let x = -(-9223372036854775808);", Overflow),
        ("let x = -9223372036854775808 / -1;", Overflow),
        ("let x = pow(10, 30);", Overflow),
        ("let x = 1 / 0;", DivideByZero),
        ("let x = 1 % 0;", DivideByZero),
        ("if 1 { }", Type),
        ("let x = 1 + \"a\";", Type),
        ("let x = 1 < \"a\";", Type),
        ("let x = [1][1];", Index),
        ("let x = {1: 2}[3];", Key),
        ("let m = {}; m[[[1]]] = 1;", Type),
        ("let x = int(\"a\");", Value),
        ("assert 1 == 2, \"no\";", Assert),
        ("while true { }", Steps),
        ("fn f(n) { return f(n + 1); } f(0);", Calls),
        ("let s = \"aaaaaaaaaaaaaaaa\"; while true { s = s + s; }", Cells),
        ("let s = \"aaaa\" * 9223372036854775807;", Cells),
        ("let s = [0] * 9223372036854775807;", Steps),
        ("let x = []; while true { x = [x, x]; }", Nesting),
        ("while true { print(\"hello hello hello hello hello\"); }", Output),
        ("let x = range(0, 9223372036854775807);", Steps),
        ("let x = [0]; while true { x = x + x; }", Cells),
        ("for i in 5 { }", Type),
        ("let s = \"abc\"; s[0] = \"x\";", Type),
    ] {
        let got = fault(text);
        assert!(got == kind || (kind == Steps && got == Cells), "{text}: {got:?}");
    }
    let e = ready("let x = 1;\nlet y = 2;\nassert x == y, \"differ\";").run(&Limits::default(), Watch::NOTHING);
    assert_eq!(e.result.unwrap_err().to_string(), "line 3: assertion failed: \"differ\"");
    // shared parts that look exponentially large are cut by the step limit
    let bomb = "let a = [1]; let b = [1]; for i in range(60) { a = [a, a]; b = [b, b]; } let same = a == b;";
    assert_eq!(fault(bomb), Steps);
    let text = "let a = [1]; for i in range(60) { a = [a, a]; } let s = str(a);";
    assert!(fault(text).is_limit());
}

#[test]
fn mistakes_are_found_before_running() {
    for text in [
        "x = 1;",
        "let x = y;",
        "let x = f(1);",
        "fn f(a) { return a; } f(1, 2);",
        "fn f() { } fn f() { }",
        "fn f(a, a) { }",
        "fn len(x) { }",
        "break;",
        "if true { let y = 1; } let z = y;",
        "let x = 1; fn f() { return x; }",
        "len();",
    ] {
        assert!(compile(&parse(text).unwrap()).is_err(), "{text}");
    }
    for text in [
        "let = 1;",
        "let x 1;",
        "if true { ",
        "1 < 2 < 3;",
        "fn f( { }",
        "\"abc",
        "let x = 99999999999999999999;",
        "f(1)",
        "1 = 2;",
        "let x = push(a, 1) + 1 2;",
        "§",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    let deep = |open: &str, close: &str| format!("let x = {}1{};", open.repeat(5000), close.repeat(5000));
    for text in [deep("(", ")"), deep("[", "]"), deep("-", ""), deep("not ", ""), deep("f(", ")"), deep("{1: ", "}")] {
        assert!(parse(&text).is_err());
    }
    assert!(parse(&format!("let x = {};", vec!["1"; 5000].join(" + "))).is_err());
    assert!(parse(&"if true { ".repeat(5000)).is_err());
    assert!(parse(&format!("if a {{ }}{}", " else if a { }".repeat(5000))).is_err());
    assert!(parse(&"x".repeat(MAX_TEXT + 1)).is_err());
}

#[test]
fn traces_show_what_changed() {
    let c = ready("fn f(n) {\n    let s = 0;\n    for i in range(n) {\n        s += i;\n    }\n    return s;\n}\n");
    let run = c.call("f", &[2.into()], &Limits::default(), Watch::TRACE);
    let text: Vec<String> = run
        .trace
        .iter()
        .map(|t| {
            let changes: Vec<String> = t
                .changes
                .iter()
                .map(|c| format!("{} {} = {}", if c.new { "new" } else { "modified" }, c.name, c.value))
                .collect();
            format!("L{} {}", t.line, changes.join(", ")).trim_end().to_string()
        })
        .collect();
    assert_eq!(
        text,
        [
            "L1 new n = 2",
            "L2 new s = 0",
            "L3 new i = 0",
            "L4 modified s = 0",
            "L3 modified i = 1",
            "L4 modified s = 1",
            "L3",
            "L6"
        ]
    );
    let cut = c.call("f", &[1000.into()], &Limits { trace: 10, ..Limits::default() }, Watch::TRACE);
    assert!(cut.trace_cut && cut.trace.len() == 10 && cut.result.is_ok());
}

#[test]
fn coverage_counts_lines_and_branches() {
    let c = ready("fn f(a) {\n    if a > 0 {\n        return 1;\n    }\n    return 0;\n}\n");
    assert_eq!(c.lines(), [2, 3, 5]);
    let cover = |a: i64| c.call("f", &[a.into()], &Limits::default(), Watch::COVERAGE).coverage.unwrap();
    let mut one = cover(1);
    assert_eq!(one.lines.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!((one.branches[0].1, one.branches[0].2, one.branches[0].0.kind), (1, 0, "if"));
    assert_eq!(one.branch_share(), 0.5);
    one.add(&cover(-1));
    assert_eq!((one.branch_share(), one.line_share(&c)), (1.0, 1.0));
}

#[test]
fn mutants_and_their_killers() {
    let program = parse("fn largest(a, b) {\n    if a < b {\n        return b;\n    }\n    return a;\n}\n").unwrap();
    let all = mutants(&program, 100);
    assert!(all.iter().any(|m| m.kind == MutationKind::Comparison && m.program.to_string().contains("a > b")));
    assert!(all.iter().any(|m| m.kind == MutationKind::Variable && m.line == 5));
    assert!(all.iter().any(|m| m.kind == MutationKind::Deletion));
    for m in &all {
        assert_ne!(m.program, program);
    }
    let score_of = |tests: &str| score(&program, &parse(tests).unwrap(), &all, &Limits::default());
    let good = score_of("assert largest(1, 2) == 2; assert largest(2, 1) == 2;");
    // `<=` means the same here
    assert!(good.valid && good.killed == all.len() - 1, "{good:?} of {}", all.len());
    assert_eq!(score_of("assert true;").killed, 0);
    let wrong = score_of("assert largest(1, 2) == 1;");
    assert!(!wrong.valid && wrong.killed == 0);
}

#[test]
fn random_programs_end_and_branch() {
    let mut ended = 0;
    let mut differ = 0;
    for seed in 0..300 {
        let mut s = Stream::new(seed, &["program"]);
        let p = random::program(&mut s, &random::Shape { nesting: 3, ..Default::default() });
        let c = compile(&p).unwrap_or_else(|e| panic!("{e}\n{p}"));
        let results: Vec<Option<Value>> = [(0, 0), (3, -2), (7, 9)]
            .iter()
            .map(|&(a, b): &(i64, i64)| {
                c.call("f", &[a.into(), b.into()], &Limits::default(), Watch::NOTHING).result.ok()
            })
            .collect();
        ended += usize::from(results.iter().all(Option::is_some));
        differ += usize::from(results[0] != results[1] || results[1] != results[2]);
    }
    assert!(ended > 285, "{ended} of 300 end");
    assert!(differ > 150, "{differ} of 300 depend on their inputs");
}

#[test]
fn steps_do_not_depend_on_the_watch_or_the_day() {
    let c = ready("fn f(n) { let xs = []; for i in range(n) { push(xs, [i, i * i]); } return sorted(xs); }");
    let runs: Vec<Run> = [Watch::NOTHING, Watch::TRACE, Watch::COVERAGE]
        .map(|w| c.call("f", &[50.into()], &Limits::default(), w))
        .into();
    assert!(runs.iter().all(|r| r.steps == runs[0].steps && r.cells == runs[0].cells));
    // one more instruction than needed is not taken, one fewer is too few
    let exact = Limits { steps: runs[0].steps, ..Limits::default() };
    assert!(c.call("f", &[50.into()], &exact, Watch::NOTHING).result.is_ok());
    let less = Limits { steps: runs[0].steps - 1, ..Limits::default() };
    assert_eq!(c.call("f", &[50.into()], &less, Watch::NOTHING).result.unwrap_err().kind, FaultKind::Steps);
}

proptest! {
    #[test]
    fn random_programs_run_and_print_back(data in prop::collection::vec(any::<u8>(), 8)) {
        fuzz_random(&data);
    }

    #[test]
    fn hostile_bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_program(&data);
    }

    #[test]
    fn hostile_programs(words in prop::collection::vec(prop::sample::select(vec![
        "fn", "let", "if", "else", "while", "for", "in", "break", "continue", "return", "assert", "and", "or", "not",
        "true", "none", "x", "y", "f", "(", ")", "[", "]", "{", "}", ",", ";", "=", "+=", "==", "<", "+", "-", "*", "%",
        "0", "1", "\"a\"", "push", "remove", "range", "len", "sum", "let x = 1;", "let y = [x];", "x = y;", "f(x);",
        "fn f(x) {", "while x < 9 {", "for i in y {", "push(y, x);", "y[0] = y;", "x += 1;", "return x;", "}", "}",
    ]), 0..60)) {
        fuzz_program(words.join(" ").as_bytes());
    }
}
