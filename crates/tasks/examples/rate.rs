//! How many problems a second one core generates, solves and verifies.
//!
//! `cargo run --release -p postgrad-tasks --example rate`

use std::time::Instant;

use postgrad_base::{Result, Stream};
use postgrad_tasks::{Split, draw, seed_text, tasks};

fn main() -> Result<()> {
    const N: u64 = 20_000;
    let stream = Stream::new(1, &["bench"]);
    for task in tasks().iter().filter(|t| t.name() != "gsm8k") {
        let specs: &[&str] =
            if task.name() == "chain" { &["steps=3", "steps=8,shape=tree,distractors=4"] } else { &[""] };
        for spec in specs {
            let difficulty = task.difficulty(spec)?;
            let rendering = task.renderings()[0].name;
            let start = Instant::now();
            let mut right = 0;
            for i in 0..N {
                let problem = draw(&**task, &mut stream.nth(i), &difficulty, Split::Train)?;
                right += u64::from(task.verify(&problem, &task.solve(&problem, rendering)?.text).correct);
            }
            let rate = N as f64 / start.elapsed().as_secs_f64();
            println!("{:10} {spec:36} {rate:>9.0}/s  {right} of {N} right", task.name());
        }
    }
    let start = Instant::now();
    seed_text::seed_text(&stream, "seed", N)?;
    println!("{:47} {:>9.0}/s", "seed text, dialogues", N as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
