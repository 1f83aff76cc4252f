//! The estimate of a value over seeds, and what its error is made of. The derivation is in the module's head.

use std::collections::BTreeMap;
use std::rc::Rc;

use postgrad_base::{Error, Result, Stream};
use postgrad_numerics::{mean, std_dev};

use super::expr::{Expr, Ref};
use super::metric::{Fun, Metric, Values};
use super::{Noise, Study};
use crate::store::Item;

/// Resamples of the items of a set.
pub const REPLICATES: usize = 1_000;

/// The draws of every set of items seen so far: all claims, seeds and arms that share items share them.
pub(super) struct Draws {
    replicates: usize,
    made: BTreeMap<String, Rc<Draw>>,
}

/// Each replicate's clusters that were drawn, and how often.
struct Draw {
    ends: Vec<usize>,
    picks: Vec<(u32, f64)>,
}

impl Draws {
    pub fn new(replicates: usize) -> Self {
        Self { replicates, made: BTreeMap::new() }
    }

    fn get(&mut self, key: &str, n: usize) -> Rc<Draw> {
        let make = || {
            let mut stream = Stream::new(0, &["eval", "bootstrap"]).child(key);
            let mut draw = Draw { ends: vec![], picks: vec![] };
            let mut times = vec![0u32; n];
            for _ in 0..self.replicates {
                times.fill(0);
                (0..n).for_each(|_| times[stream.below(n)] += 1);
                let there = times.iter().enumerate().filter(|(_, t)| **t > 0);
                draw.picks.extend(there.map(|(c, t)| (c as u32, f64::from(*t))));
                draw.ends.push(draw.picks.len());
            }
            Rc::new(draw)
        };
        self.made.entry(key.to_string()).or_insert_with(make).clone()
    }
}

impl Draw {
    fn picks(&self, replicate: usize) -> &[(u32, f64)] {
        let from = if replicate == 0 { 0 } else { self.ends[replicate - 1] };
        &self.picks[from..self.ends[replicate]]
    }
}

/// A value over seeds.
pub(super) struct Estimated {
    /// The value of each seed, on all items; perhaps not finite.
    pub per_seed: Vec<(u64, f64)>,
    /// Their mean.
    pub value: f64,
    /// None below two seeds, or where a value is not defined.
    pub error: Option<Spread>,
    /// Why there is no error, or what it leaves out.
    pub note: Option<String>,
}

/// What the error of an estimate is made of.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub se: f64,
    pub noise: Noise,
    /// Clusters of the smallest resampled set; 0 where nothing was resampled.
    pub items: usize,
}

/// The seeds for which every measure of a value has rows.
pub(super) fn seeds_of(study: &Study, value: &Expr) -> Vec<u64> {
    let Some(first) = value.refs().first() else { return vec![] };
    let all = |seed: &u64| value.refs().iter().all(|r| study.rows(&r.arm, &r.stage, *seed).is_some());
    study.seeds(&first.arm).into_iter().filter(all).collect()
}

pub(super) fn estimate(study: &Study, value: &Expr, draws: &mut Draws) -> Result<Estimated> {
    let seeds = seeds_of(study, value);
    let mut sets: Vec<Set> = Vec::new();
    let mut measures: Vec<Vec<Measure<'_>>> = seeds.iter().map(|_| vec![]).collect();
    for r in value.refs() {
        let place = match sets.iter().position(|s| s.stage == r.stage) {
            Some(place) => place,
            None => {
                sets.push(Set::new(study, value, &r.stage, &seeds)?);
                sets.len() - 1
            }
        };
        for (seed, out) in seeds.iter().zip(&mut measures) {
            let Some(rows) = study.rows(&r.arm, &r.stage, *seed) else { continue };
            let measure = sets[place].measure(place, r, rows);
            out.push(measure.map_err(|e| e.at(format!("arm `{}`, stage `{}`, seed {seed}", r.arm, r.stage)))?);
        }
    }
    let full: Vec<f64> =
        measures.iter().map(|all| value.eval(&all.iter().map(Measure::full).collect::<Vec<_>>())).collect();
    let per_seed: Vec<(u64, f64)> = seeds.iter().copied().zip(full.iter().copied()).collect();
    let mut out = Estimated { per_seed, value: mean(&full), error: None, note: None };
    if let Some((seed, _)) = out.per_seed.iter().find(|(_, v)| !v.is_finite()) {
        out.note = Some(format!("the value of seed {seed} is not a number"));
    } else if seeds.len() < 2 {
        out.note = Some("an interval needs two seeds".into());
    } else {
        let (items, noted) = resample(value, &mut sets, &measures, draws);
        out.note = noted;
        out.error = items.map(|i| i.spread(std_dev(&full), seeds.len(), &sets));
    }
    Ok(out)
}

/// What resampling the items gave: the covariance that seeds share and the variance of one seed's value.
struct ByItems {
    shared: f64,
    each: f64,
}

impl ByItems {
    fn spread(&self, seed_sd: f64, seeds: usize, sets: &[Set]) -> Spread {
        let items = sets.iter().filter(|s| !s.single).map(|s| s.clusters).min().unwrap_or(0);
        let shared = self.shared.max(0.0);
        let root = |v: f64| (v.max(0.0) * items as f64).sqrt();
        Spread {
            se: (seed_sd * seed_sd / seeds as f64 + shared).sqrt(),
            noise: Noise { seed_sd, item_sd: root(shared), item_seed_sd: root(self.each - shared), items },
            items,
        }
    }
}

/// Evaluates the value on every replicate, each seed's with the same draws.
fn resample(
    value: &Expr,
    sets: &mut [Set],
    measures: &[Vec<Measure>],
    draws: &mut Draws,
) -> (Option<ByItems>, Option<String>) {
    if sets.iter().all(|s| s.single) {
        return (Some(ByItems { shared: 0.0, each: 0.0 }), None);
    }
    let drawn: Vec<Option<Rc<Draw>>> =
        sets.iter().map(|s| (!s.single).then(|| draws.get(&s.key, s.clusters))).collect();
    sets.iter_mut().for_each(Set::lay_out);
    let seeds = measures.len();
    let mut kept: Vec<f64> = Vec::new();
    let mut at = Vec::new();
    for replicate in 0..draws.replicates {
        for (set, draw) in sets.iter_mut().zip(&drawn) {
            if let Some(draw) = draw {
                set.draw(draw.picks(replicate));
            }
        }
        let from = kept.len();
        for all in measures {
            at.clear();
            at.extend(all.iter().map(|m| m.resampled(sets)));
            kept.push(value.eval(&at));
        }
        if kept[from..].iter().any(|v| !v.is_finite()) {
            kept.truncate(from);
        }
    }
    let count = kept.len() / seeds;
    let lost = draws.replicates - count;
    if lost * 2 > draws.replicates {
        return (
            None,
            Some(format!("the value is not a number in {lost} of {} resamples of the items", draws.replicates)),
        );
    }
    let of = |s: usize| kept.iter().skip(s).step_by(seeds).copied().collect::<Vec<f64>>();
    let variance = |xs: &[f64]| std_dev(xs).powi(2);
    let own: f64 = (0..seeds).map(|s| variance(&of(s))).sum();
    let sums: Vec<f64> = kept.chunks(seeds).map(|row| row.iter().sum()).collect();
    // The variance of a sum is all variances and, twice, the covariance of every pair.
    let shared = (variance(&sums) - own) / (seeds * (seeds - 1)) as f64;
    let note = (lost > 0).then(|| format!("{lost} of {} resamples of the items give no number", draws.replicates));
    (Some(ByItems { shared, each: own / seeds as f64 }), note)
}

/// The items of a stage: the same for every arm and seed.
struct Set<'a> {
    stage: &'a str,
    /// One row everywhere: a figure of the run, not resampled.
    single: bool,
    /// Where the reference order of items is from, and that order: (item, cluster).
    from: (&'a str, u64),
    names: Vec<(&'a str, &'a str)>,
    /// The cluster of each item, and how many there are.
    cluster_of: Vec<u32>,
    clusters: usize,
    /// Stands for the set of clusters: stages with the same share their draws.
    key: String,
    /// Sums over each cluster's items, one column a sum that is needed; row after row once laid out.
    columns: Vec<Vec<f64>>,
    table: Vec<f64>,
    /// Of the present replicate: the columns' sums, and each item's weight where a metric needs it.
    sums: Vec<f64>,
    weights: Vec<f64>,
    weighted: bool,
}

impl<'a> Set<'a> {
    /// The items of a stage that `value` names; [`Set::measure`] checks that all of its arms and seeds have the same.
    fn new(study: &'a Study, value: &'a Expr, stage: &'a str, seeds: &[u64]) -> Result<Self> {
        let mut arms: Vec<&'a str> = Vec::new();
        for r in value.refs().iter().filter(|r| r.stage == stage) {
            if !arms.contains(&r.arm.as_str()) {
                arms.push(&r.arm);
            }
        }
        let all: Vec<(&'a str, u64, &'a [Item])> = arms
            .iter()
            .flat_map(|arm| seeds.iter().filter_map(|seed| Some((*arm, *seed, study.rows(arm, stage, *seed)?))))
            .collect();
        if let Some((arm, seed, _)) = all.iter().find(|(_, _, rows)| rows.is_empty()) {
            return Err(
                Error::work("a stage measured no item").at(format!("arm `{arm}`, stage `{stage}`, seed {seed}"))
            );
        }
        let single = all.iter().all(|(_, _, rows)| rows.len() == 1);
        let (arm, seed, first) = all.first().copied().unwrap_or(("", 0, &[]));
        let names: Vec<(&str, &str)> = first.iter().map(|i| (i.item.as_str(), cluster(i))).collect();
        let mut places: BTreeMap<&str, u32> = names.iter().map(|(_, c)| (*c, 0)).collect();
        places.values_mut().zip(0..).for_each(|(place, i)| *place = i);
        let mut hasher = blake3::Hasher::new();
        for name in places.keys() {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        Ok(Self {
            stage,
            single,
            from: (arm, seed),
            cluster_of: names.iter().map(|(_, c)| places[c]).collect(),
            clusters: places.len(),
            key: hasher.finalize().to_hex().to_string(),
            names,
            columns: vec![],
            table: vec![],
            sums: vec![],
            weights: vec![],
            weighted: false,
        })
    }

    /// Where each item of the reference order stands in `rows`: none where they are other items.
    fn order(&self, rows: &[Item]) -> Option<Order> {
        if rows.len() != self.names.len() {
            return None;
        }
        if rows.iter().zip(&self.names).all(|(row, name)| row.item == name.0 && cluster(row) == name.1) {
            return Some(Order::Same);
        }
        let mut ours: Vec<usize> = (0..rows.len()).collect();
        let mut theirs = ours.clone();
        ours.sort_by_key(|i| self.names[*i]);
        theirs.sort_by_key(|i| (rows[*i].item.as_str(), cluster(&rows[*i])));
        let mut out = vec![0; rows.len()];
        for (a, b) in ours.into_iter().zip(theirs) {
            if self.names[a] != (rows[b].item.as_str(), cluster(&rows[b])) {
                return None;
            }
            out[a] = b;
        }
        Some(Order::Other(out))
    }

    /// Prepares a measure for resampling; `place` is this set's.
    fn measure(&mut self, place: usize, r: &'a Ref, rows: &[Item]) -> Result<Measure<'a>> {
        let order = match self.order(rows) {
            _ if self.single => None,
            Some(Order::Other(order)) => Some(order),
            Some(Order::Same) => None,
            None => return Err(self.others(rows)),
        };
        let values = r.metric.values(rows, order.as_deref())?;
        let full = r.metric.value(&values, None);
        if self.single {
            return Ok(Measure { full, place, kind: Kind::Fixed });
        }
        if !r.metric.is_sums() {
            self.weighted = true;
            return Ok(Measure { full, place, kind: Kind::Rows(&r.metric, values) });
        }
        let by_cluster = |xs: &dyn Fn(usize) -> f64| {
            let mut out = vec![0.0; self.clusters];
            values.rows.iter().enumerate().for_each(|(k, i)| out[self.cluster_of[*i] as usize] += xs(k));
            out
        };
        let top = by_cluster(&|k| values.x[k]);
        let bottom = match r.metric.fun {
            Fun::Mean => Some(by_cluster(&|_| 1.0)),
            Fun::Ratio => Some(by_cluster(&|k| values.y[k])),
            _ => None,
        };
        let bottom = match bottom {
            None => Bottom::One,
            // As many in every cluster: every resample has the same sum.
            Some(b) if b.iter().all(|x| *x == b[0]) => Bottom::Always(b[0] * self.clusters as f64),
            Some(b) => Bottom::Column(self.column(b)),
        };
        Ok(Measure { full, place, kind: Kind::Sums(self.column(top), bottom) })
    }

    fn others(&self, rows: &[Item]) -> Error {
        let (arm, seed) = self.from;
        Error::usage(format!(
            "stage `{}` measured other items ({}) than in arm `{arm}` with seed {seed} ({})",
            self.stage,
            rows.len(),
            self.names.len()
        ))
        .help("claims compare the same items: let what is measured not depend on the arm or on a stream that varies")
    }

    fn column(&mut self, sums: Vec<f64>) -> usize {
        self.columns.push(sums);
        self.columns.len() - 1
    }

    fn lay_out(&mut self) {
        self.table = (0..self.clusters).flat_map(|c| self.columns.iter().map(move |column| column[c])).collect();
        self.sums = vec![0.0; self.columns.len()];
        self.weights = vec![0.0; self.names.len()];
    }

    fn draw(&mut self, picks: &[(u32, f64)]) {
        let wide = self.columns.len();
        self.sums.fill(0.0);
        if wide > 0 {
            for (c, times) in picks {
                let row = &self.table[*c as usize * wide..][..wide];
                self.sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += times * x);
            }
        }
        if self.weighted {
            let mut times = vec![0.0; self.clusters];
            picks.iter().for_each(|(c, t)| times[*c as usize] = *t);
            self.weights.iter_mut().zip(&self.cluster_of).for_each(|(w, c)| *w = times[*c as usize]);
        }
    }
}

enum Order {
    Same,
    Other(Vec<usize>),
}

/// One measure of one seed.
struct Measure<'a> {
    /// On all items.
    full: f64,
    /// Its set's place.
    place: usize,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Not resampled.
    Fixed,
    /// A column of its set over something.
    Sums(usize, Bottom),
    /// Recomputed with weights.
    Rows(&'a Metric, Values),
}

enum Bottom {
    One,
    Always(f64),
    Column(usize),
}

impl Measure<'_> {
    fn full(&self) -> f64 {
        self.full
    }

    /// The value in the present replicate of its set.
    fn resampled(&self, sets: &[Set]) -> f64 {
        let set = &sets[self.place];
        match &self.kind {
            Kind::Fixed => self.full,
            Kind::Sums(top, bottom) => {
                let over = match bottom {
                    Bottom::One => 1.0,
                    Bottom::Always(x) => *x,
                    Bottom::Column(c) => set.sums[*c],
                };
                set.sums[*top] / over
            }
            Kind::Rows(metric, values) => metric.value(values, Some(&set.weights)),
        }
    }
}

/// What an item shares with others; itself where nothing.
fn cluster(item: &Item) -> &str {
    item.cluster.as_deref().unwrap_or(&item.item)
}
