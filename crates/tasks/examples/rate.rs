//! How many problems a second one core generates, solves and verifies.
//!
//! `cargo run --release -p postgrad-tasks --example rate`

use std::time::Instant;

use postgrad_base::{Result, Stream};
use postgrad_tasks::{Split, draw, puzzles, seed_text, tasks};

fn main() -> Result<()> {
    const N: u64 = 20_000;
    let stream = Stream::new(1, &["bench"]);
    for task in tasks().iter().filter(|t| t.name() != "gsm8k") {
        let puzzle = puzzles::all().iter().any(|p| p.name() == task.name());
        let hardest: Vec<String> = task.knobs().iter().map(|k| format!("{}={}", k.name, k.show(k.high))).collect();
        let specs: Vec<String> = match task.name() {
            "chain" => vec!["steps=3".into(), "steps=8,shape=tree,distractors=4".into()],
            _ if puzzle => vec![String::new(), hardest.join(",")],
            _ => vec![String::new()],
        };
        for spec in specs {
            let difficulty = task.difficulty(&spec)?;
            let rendering = task.renderings()[0].name;
            let (start, mut n, mut right, mut longest) = (Instant::now(), 0, 0, 0.0f64);
            // five seconds are enough for those that search
            while n < N && start.elapsed().as_secs() < 5 {
                let one = Instant::now();
                let problem = draw(&**task, &mut stream.nth(n), &difficulty, Split::Train)?;
                right += u64::from(task.verify(&problem, &task.solve(&problem, rendering)?.text).correct);
                longest = longest.max(one.elapsed().as_secs_f64());
                n += 1;
            }
            let rate = n as f64 / start.elapsed().as_secs_f64();
            let longest = 1e3 * longest;
            println!("{:14} {spec:44} {rate:>9.0}/s  {right} of {n} right, longest {longest:.1} ms", task.name());
        }
    }
    let start = Instant::now();
    seed_text::seed_text(&stream, "seed", N)?;
    println!("{:59} {:>9.0}/s", "seed text, dialogues", N as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
