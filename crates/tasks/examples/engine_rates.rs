//! How many verdicts a second each engine gives on one core: `cargo run --release -p postgrad-tasks --example engine_rates`

use std::hint::black_box;
use std::time::Instant;

use postgrad_base::Stream;
use postgrad_tasks::lang::{self, Limits as LangLimits, Value, Watch, mutate, random};
use postgrad_tasks::logic::{self, horn, sat};
use postgrad_tasks::search::{cover::ExactCover, csp::Csp};
use postgrad_tasks::sql::{Compare, Database, Limits as SqlLimits, judge};

/// Repeats for half a second.
fn rate(name: &str, mut f: impl FnMut()) {
    let start = Instant::now();
    let mut n = 0u64;
    while start.elapsed().as_millis() < 500 {
        f();
        n += 1;
    }
    println!("{name}: {:.0} a second", n as f64 / start.elapsed().as_secs_f64());
}

fn main() {
    logic_rates();
    lang_rates();
    sql_rates();
    search_rates();
}

fn logic_rates() {
    let gold = "∀x (Student(x) ∧ ¬Lazy(x) → Passes(x, exam) ∨ Repeats(x))";
    let answer = "forall x. ((Student(x) & Diligent(x)) -> (Pass(x, exam) | Repeat(x)))";
    rate("formulas parsed", || {
        black_box(logic::parse(black_box(gold)).unwrap());
    });
    rate("equivalence scores (4 literals, all 24 bindings)", || {
        black_box(logic::le_text(black_box(gold), black_box(answer)).unwrap());
    });
    let story = ["∀x (A(x) → B(x))", "∀x (B(x) → C(x) ⊕ D(x))", "A(k)", "¬C(k)"].map(|t| logic::parse(t).unwrap());
    let goal = logic::parse("D(k)").unwrap();
    rate("first-order entailments (4 premises)", || {
        black_box(logic::entails(&story, &goal, Default::default()));
    });
    let mut s = Stream::new(1, &["rates"]);
    let clauses = (0..66).map(|_| {
        let vars = s.sample(12, 3);
        vars.into_iter().map(|v| (v as i32 + 1) * if s.chance(0.5) { 1 } else { -1 }).collect()
    });
    let cnf = logic::Cnf { vars: 12, clauses: clauses.collect() };
    rate("3-SAT instances (12 variables, 66 clauses)", || {
        black_box(sat::solve(&cnf, sat::STEPS));
    });
    let chain: String = (0..20).map(|i| format!("p{}(X) :- p{i}(X), not q{i}(X).\n", i + 1)).collect();
    let theory = horn::Theory::parse(&format!("{chain}p0(a). p0(b). q7(b)."), horn::World::Closed).unwrap();
    rate("forward chainings (20 rules, depth 20)", || {
        black_box(theory.close(Default::default()).unwrap());
    });
}

fn lang_rates() {
    let text = "fn f(n) { let t = 0; for i in range(n) { if i % 3 == 0 or i % 5 == 0 { t += i; } } return t; }";
    let program = lang::parse(text).unwrap();
    let c = lang::compile(&program).unwrap();
    let limits = LangLimits { steps: 100_000_000, ..LangLimits::default() };
    let start = Instant::now();
    let run = c.call("f", &[Value::Int(1_000_000)], &limits, Watch::NOTHING);
    println!("program steps: {:.0} million a second", run.steps as f64 / start.elapsed().as_secs_f64() / 1e6);
    rate("programs parsed, compiled and run on 3 tests", || {
        let test = lang::parse("assert f(10) == 23; assert f(0) == 0; assert f(20) == 78;").unwrap();
        let both = lang::parse(text).unwrap().followed_by(&test);
        black_box(lang::compile(&both).unwrap().run(&LangLimits::default(), Watch::NOTHING));
    });
    rate("programs traced", || {
        black_box(c.call("f", &[Value::Int(20)], &LangLimits::default(), Watch::TRACE));
    });
    let mut s = Stream::new(1, &["rates"]);
    rate("random programs made", || {
        black_box(random::program(&mut s, &random::Shape::default()));
    });
    let mutants = mutate::mutants(&program, 100);
    let test = lang::parse("assert f(10) == 23; assert f(20) == 78;").unwrap();
    rate(&format!("mutation scores ({} mutants)", mutants.len()), || {
        black_box(mutate::score(&program, &test, &mutants, &LangLimits::default()));
    });
}

fn sql_rates() {
    let mut script = String::from(
        "CREATE TABLE a(id INTEGER PRIMARY KEY, k INTEGER, v REAL); CREATE TABLE b(id INTEGER, name TEXT);",
    );
    for i in 0..100 {
        script.push_str(&format!(
            "INSERT INTO a VALUES ({i}, {}, {}.5); INSERT INTO b VALUES ({i}, 'n{}');",
            i % 7,
            i,
            i % 10
        ));
    }
    let db = Database::from_script(&script).unwrap();
    let limits = SqlLimits::default();
    let query = "SELECT name, sum(v) FROM a JOIN b ON a.id = b.id WHERE k > 2 GROUP BY name";
    let gold = db.query(query, &limits).unwrap();
    let completion = format!("<reasoning>join, filter, group</reasoning><answer>{query} ORDER BY name</answer>");
    rate("SQL completions judged (join of 100 rows, grouped)", || {
        black_box(judge(&db, &gold, &completion, Compare::Qatch, &limits));
    });
    rate("SQL databases built (200 rows)", || {
        black_box(Database::from_script(&script).unwrap());
    });
}

fn search_rates() {
    let text = "530070000600195000098000060800060003400803001700020006060000280000419005000080079";
    let digits: Vec<usize> = text.bytes().map(|b| usize::from(b - b'0')).collect();
    rate("9x9 sudokus proved unique by exact cover", || {
        let mut p = ExactCover::new(324, 0);
        for (cell, given) in digits.iter().enumerate() {
            let (r, c) = (cell / 9, cell % 9);
            for d in 0..9 {
                if *given == 0 || *given == d + 1 {
                    p.row(&[cell, 81 + r * 9 + d, 162 + c * 9 + d, 243 + (r / 3 * 3 + c / 3) * 9 + d]).unwrap();
                }
            }
        }
        black_box(p.solve(2, 100_000).count());
    });
    rate("9x9 sudokus proved unique by constraints", || {
        let mut p = Csp::new();
        let x: Vec<usize> = (0..81).map(|_| p.var(1, 9).unwrap()).collect();
        for i in 0..9 {
            p.all_different(&(0..9).map(|j| x[i * 9 + j]).collect::<Vec<_>>()).unwrap();
            p.all_different(&(0..9).map(|j| x[j * 9 + i]).collect::<Vec<_>>()).unwrap();
            p.all_different(&(0..9).map(|j| x[(i / 3 * 3 + j / 3) * 9 + i % 3 * 3 + j % 3]).collect::<Vec<_>>())
                .unwrap();
        }
        for (i, d) in digits.iter().enumerate().filter(|(_, d)| **d > 0) {
            p.restrict(x[i], &[*d as i64]).unwrap();
        }
        black_box(p.solve(2, 100_000).count());
    });
}
