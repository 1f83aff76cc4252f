//! The states' error rates over simulated studies: two arms, binary answers, items and seeds drawn anew for each study.
//!
//! An answer of arm a, seed s to item i is right with chance 1/2 + effect + item[a][i] + seed[a][s]: the item's part is
//! ±spread, for 3 of 10 items the same in both arms; the seed's is normal; the draw of the answer is the interaction. All
//! variances of the contrast are known (the module's head has their names).

use std::sync::Arc;

use postgrad_base::Stream;
use serde_json::{Value, json};

use super::estimate::Draws;
use super::judge::judge;
use super::*;

const SAME: f64 = 0.3;

#[derive(Clone, Copy)]
struct World {
    items: usize,
    seeds: usize,
    spread: f64,
    seed_sd: f64,
    /// The first arm's true lead.
    effect: f64,
}

impl World {
    fn seedy(seeds: usize) -> Self {
        Self { items: 60, seeds, spread: 0.15, seed_sd: 0.08, effect: 0.0 }
    }

    fn itemy(seeds: usize) -> Self {
        Self { items: 60, seeds, spread: 0.45, seed_sd: 0.005, effect: 0.0 }
    }

    /// (i²/n, (a² + b²/n) / S) of the contrast.
    fn variances(&self) -> (f64, f64) {
        let (n, spread) = (self.items as f64, self.spread * self.spread);
        let own = 0.25 - spread - self.seed_sd * self.seed_sd - 0.25 * self.effect * self.effect;
        let items = 2.0 * spread * (1.0 - SAME) / n;
        (items, (2.0 * self.seed_sd * self.seed_sd + 2.0 * own / n) / self.seeds as f64)
    }

    fn se(&self) -> f64 {
        let (items, seeds) = self.variances();
        (items + seeds).sqrt()
    }

    fn blank(&self) -> Study {
        let row = |i: usize| Item {
            item: format!("i{i}"),
            cluster: None,
            metrics: json!({"accuracy": false}).as_object().unwrap().clone(),
        };
        let mut study = Study::default();
        for arm in ["a", "b"] {
            (0..self.seeds as u64).for_each(|s| study.put(arm, "t", s, Arc::new((0..self.items).map(row).collect())));
        }
        study
    }

    /// Answers of a new study, in place.
    fn draw(&self, study: &mut Study, stream: &mut Stream) {
        let sign = |stream: &mut Stream| if stream.chance(0.5) { self.spread } else { -self.spread };
        let first: Vec<f64> = (0..self.items).map(|_| sign(stream)).collect();
        let second: Vec<f64> = first.iter().map(|x| if stream.chance(SAME) { *x } else { sign(stream) }).collect();
        for ((arm, parts), lead) in [("a", first), ("b", second)].into_iter().zip([0.5, -0.5]) {
            for stages in study.arms.get_mut(arm).unwrap().values_mut() {
                let of_seed = 0.5 + lead * self.effect + self.seed_sd * stream.normal();
                let rows = Arc::get_mut(stages.get_mut("t").unwrap()).unwrap();
                for (row, part) in rows.iter_mut().zip(&parts) {
                    row.metrics["accuracy"] = Value::Bool(stream.chance(of_seed + part));
                }
            }
        }
    }

    /// How often each state comes out of so many studies, by its name.
    fn rates(&self, studies: usize, name: &str) -> impl Fn(State) -> f64 + use<> {
        let claim = claim("a:t.accuracy - b:t.accuracy", "> 0", true);
        let (mut study, mut draws) = (self.blank(), Draws::new(400));
        let mut stream = Stream::new(9, &["eval", "simulated", name]);
        let declared = Seeds { primary: self.seeds, others: 2 };
        let mut states = Vec::new();
        for _ in 0..studies {
            self.draw(&mut study, &mut stream);
            states.push(judge(&study, std::slice::from_ref(&claim), &[], declared, &mut draws).unwrap().state);
        }
        move |state| states.iter().filter(|s| **s == state).count() as f64 / states.len() as f64
    }
}

fn claim(value: &str, holds: &str, primary: bool) -> Claim {
    let (value, holds) = (Expr::parse(value).unwrap(), Condition::parse(holds).unwrap());
    Claim { says: "c".into(), value, holds, interest: None, primary }
}

/// Runs the cases side by side.
fn each<T: Send>(cases: Vec<impl FnOnce() -> T + Send>) -> Vec<T> {
    std::thread::scope(|scope| {
        let all: Vec<_> = cases.into_iter().map(|c| scope.spawn(c)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn what_is_not_true_rarely_holds() {
    let worlds = [3, 5, 8].into_iter().flat_map(|s| [("seeds", World::seedy(s)), ("items", World::itemy(s))]);
    let cases = worlds.map(|(name, world)| {
        move || {
            let rate = world.rates(2_000, name);
            (name, world, rate(State::Holds), rate(State::Contrary))
        }
    });
    for (name, world, holds, contrary) in each(cases.collect()) {
        let (items, seeds) = world.variances();
        assert!(if name == "seeds" { seeds > 4.0 * items } else { items > 1.4 * seeds }, "{name} make the noise");
        println!("{name}, {} seeds: {holds} hold, {contrary} contrary", world.seeds);
        assert!(holds <= 0.065 && contrary <= 0.065, "{name}, {} seeds: {holds} {contrary}", world.seeds);
        // Where seeds make the noise the interval is exact; where items do, t's few degrees make it wide.
        assert!(name == "items" || holds + contrary > 0.01, "{holds} {contrary}");
    }
}

#[test]
fn what_is_true_by_enough_is_found() {
    let worlds = [World { items: 40, ..World::seedy(40) }, World { items: 40, spread: 0.35, ..World::itemy(40) }];
    let cases = worlds.map(|world| {
        move || {
            let world = World { effect: 2.8 * world.se(), ..world };
            let world = World { effect: 2.8 * world.se(), ..world };
            (world.rates(2_000, "power"), world)
        }
    });
    for (rate, world) in each(cases.into()) {
        let found = rate(State::Holds);
        println!("effect {:.4}, se {:.4}: {found} hold", world.effect, world.se());
        assert!(found >= 0.78, "{found}");
    }
}

#[test]
fn a_planted_loud_control_is_heard() {
    let control = Control {
        says: "the arms are one".into(),
        value: Expr::parse("a:t.accuracy - b:t.accuracy").unwrap(),
        tolerance: Tolerance::Within(0.05),
    };
    let loud = |effect: f64, name: &str| {
        let world = World { items: 200, effect, ..World::seedy(5) };
        let world = World { seed_sd: 0.02, ..world };
        let (mut study, mut draws) = (world.blank(), Draws::new(400));
        let mut stream = Stream::new(9, &["eval", "simulated", name]);
        let claims = [claim("a:t.accuracy", "> 0.1", true)];
        let all = (0..200).map(|_| {
            world.draw(&mut study, &mut stream);
            let verdict =
                judge(&study, &claims, std::slice::from_ref(&control), Seeds { primary: 5, others: 3 }, &mut draws);
            let verdict = verdict.unwrap();
            assert_eq!(verdict.claims[0].state, State::Holds);
            let heard = verdict.controls[0].state == State::Loud;
            assert_eq!(verdict.state == State::Loud, heard, "a loud control overrides");
            heard
        });
        all.filter(|heard| *heard).count()
    };
    let (planted, none, edge) = (loud(0.25, "planted"), loud(0.0, "none"), loud(0.05, "edge"));
    println!("loud of 200: {planted} planted, {none} without a difference, {edge} at the tolerance");
    assert!(planted >= 195 && none == 0 && edge <= 13, "{planted} {none} {edge}");
}
