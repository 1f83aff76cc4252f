//! Every task by its name.

use postgrad_base::{Error, Result};

use crate::task::{Task, nearest};
use crate::{abilities, chain, gsm8k, puzzles};

/// All tasks, in the order of listings.
pub fn tasks() -> Vec<Box<dyn Task>> {
    let mut all: Vec<Box<dyn Task>> = vec![Box::new(chain::Chain), Box::new(gsm8k::Gsm8k::default())];
    all.extend(abilities::all());
    all.extend(puzzles::all());
    all
}

/// The task of this name. Errors: an unknown name, with the nearest known one.
pub fn task(name: &str) -> Result<Box<dyn Task>> {
    let mut all = tasks();
    match all.iter().position(|t| t.name() == name) {
        Some(i) => Ok(all.swap_remove(i)),
        None => {
            let known: Vec<&str> = all.iter().map(|t| t.name()).collect();
            Err(Error::unknown("task", name, &known, nearest(name, &known)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgrad_base::Stream;

    #[test]
    fn names_are_unique_and_found() {
        let names: Vec<&str> = tasks().iter().map(|t| t.name()).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name} twice");
            assert_eq!(task(name).unwrap().name(), *name);
        }
        let e = task("chian").err().unwrap();
        assert_eq!((e.exit_code(), e.help_text().unwrap().contains("`chain`")), (2, true));
    }
    #[test]
    fn a_megabyte_of_anything_is_judged_at_once() {
        let stream = Stream::new(1, &["test", "hostile"]);
        for task in tasks().iter().filter(|t| t.name() != "gsm8k") {
            let problem = task.generate(&mut stream.nth(0), &task.difficulty("").unwrap()).unwrap();
            for piece in
                ["[", "{\"answer\":", "answer is ", "#### ", "<think>", "</think>", "1,", " ", "\n", "\u{130}", "*"]
            {
                let text = piece.repeat(1_000_000 / piece.len());
                let start = std::time::Instant::now();
                assert!(!task.verify(&problem, &text).correct);
                assert!(start.elapsed().as_millis() < 400, "{} {piece} {:?}", task.name(), start.elapsed());
            }
        }
    }

    #[test]
    fn defaults_lie_in_their_ranges_and_are_shown() {
        for task in tasks() {
            for knob in task.knobs() {
                assert!((knob.low..=knob.high).contains(&knob.default), "{} {}", task.name(), knob.name);
            }
            let shown = task.difficulty("").unwrap().show(task.knobs());
            assert_eq!(task.difficulty(&shown).unwrap(), task.difficulty("").unwrap());
            assert!(!task.about().is_empty() && !task.renderings().is_empty());
        }
    }
}
