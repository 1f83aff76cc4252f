//! A recipe's experiment from its arms and seeds to verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::progress::Mode;
use postgrad_base::{Error, Result};
use postgrad_tensor::simd;
use serde_json::Value;

use crate::claims::{
    Claim, Condition, Control, Expr, Judge, Metric, Seeds, Study, Summary, Tolerance, Verdict, number_columns,
};
use crate::engine::cache::{Cache, Found};
use crate::engine::external::{External, Resolve, externals};
use crate::engine::graph::{Graph, Keys};
use crate::engine::run::{Ran, Running};
use crate::recipe::{Bound, Override, Recipe};
use crate::stage::read_rows;

/// The seed of a trial: none of an experiment's.
pub const TRIAL_SEED: u64 = 1000;

/// Budgets that match only when they are the same; others may differ by [`SLACK`].
const EXACT: [&str; 2] = ["updates", "examples"];
const SLACK: f64 = 0.02;

/// How to run an experiment.
pub struct Verifying<'a> {
    pub recipe: &'a Recipe,
    pub resolve: &'a Resolve<'a>,
    pub cache: &'a Cache,
    pub jobs: usize,
    pub cancel: Cancel,
    pub progress: Mode,
    /// One seed that is not the experiment's: to look at figures before the claims are settled. Nothing is recorded.
    pub trial: bool,
    /// No stage begins after it.
    pub deadline: Option<Instant>,
}

/// What a grid chose for an arm.
pub type Point = Vec<Override>;

/// What came out.
pub struct Verified {
    pub verdict: Verdict,
    /// Rows of every arm, stage and seed.
    pub study: Study,
    pub measures: Vec<Summary>,
    pub seeds: BTreeMap<String, Vec<u64>>,
    pub tuned: BTreeMap<String, Point>,
    /// By arm, mean over its seeds.
    pub budgets: BTreeMap<String, BTreeMap<String, f64>>,
    pub externals: BTreeMap<String, External>,
    /// Versions of the kinds of stages behind it.
    pub versions: BTreeMap<String, u32>,
    /// By arm and seed: the results of all stages behind what is measured, by the stages' names.
    pub results: BTreeMap<(String, u64), BTreeMap<String, Found>>,
    /// Stages run now, stages that were there.
    pub ran: usize,
    pub reused: usize,
    pub wall_seconds: f64,
    pub stage_seconds: f64,
}

/// The keys of each arm's stages under each seed.
type Asked = BTreeMap<(String, u64), Keys>;

impl Verifying<'_> {
    /// The stages behind the experiment, and how many of them are there already. Grids are left out.
    pub fn graph(&self) -> Result<(Graph, usize)> {
        let (graph, _) = self.lay_out(&externals(self.recipe, self.resolve)?, &BTreeMap::new())?;
        let mut there = 0;
        for node in &graph.nodes {
            there += usize::from(self.cache.find(&node.key)?.is_some());
        }
        Ok((graph, there))
    }

    /// Runs what is not there and judges.
    pub fn run(&self) -> Result<Verified> {
        let started = Instant::now();
        let (claims, controls) = stated(self.recipe)?;
        let externals = externals(self.recipe, self.resolve)?;
        let mut total = Ran::default();
        let tuned = self.tune(&externals, &mut total)?;
        let (graph, asked) = self.lay_out(&externals, &tuned)?;
        let now = self.running().run(&graph)?;
        let (ran, reused) = (total.ran + now.ran, graph.nodes.len() - now.ran);
        let results = asked
            .iter()
            .map(|(at, keys)| (at.clone(), keys.iter().map(|(s, key)| (s.clone(), now.results[key].clone())).collect()))
            .collect();
        let budgets = self.budgets(&graph, &asked, &now)?;
        let (study, seeds) = (self.study(&results)?, self.seeds()?);
        let mut judge = Judge::new(&study);
        let declared = Seeds { primary: self.recipe.seeds.primary as usize, others: self.recipe.seeds.others as usize };
        let verdict = judge.judge(&claims, &controls, declared)?;
        let measures = self.measures(&study, &mut judge)?;
        Ok(Verified {
            verdict,
            measures,
            seeds,
            tuned,
            budgets,
            externals,
            versions: versions(self.recipe)?,
            results,
            ran,
            reused,
            wall_seconds: started.elapsed().as_secs_f64(),
            stage_seconds: graph.nodes.iter().map(|n| now.results[&n.key].made.seconds).sum(),
            study,
        })
    }

    fn running(&self) -> Running<'_> {
        let (cancel, progress) = (self.cancel.clone(), self.progress);
        Running { cache: self.cache, jobs: self.jobs, cancel, progress, deadline: self.deadline }
    }

    /// The seeds of each arm: more for the arms of the primary claim.
    fn seeds(&self) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut primary = BTreeSet::new();
        for claim in stated(self.recipe)?.0.iter().filter(|c| c.primary) {
            primary.extend(claim.value.refs().iter().map(|r| r.arm.clone()));
        }
        let of = |arm: &str| match self.trial {
            true => vec![TRIAL_SEED],
            false if primary.contains(arm) => (0..self.recipe.seeds.primary).collect(),
            false => (0..self.recipe.seeds.others).collect(),
        };
        Ok(self.recipe.arms.iter().map(|a| (a.name.clone(), of(&a.name))).collect())
    }

    fn needed(&self, arm: &str, wanted: &[String], point: &[Override]) -> Result<Vec<crate::recipe::Resolved>> {
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        self.recipe.needed(arm, &wanted, point)
    }

    fn lay_out(
        &self,
        externals: &BTreeMap<String, External>,
        tuned: &BTreeMap<String, Point>,
    ) -> Result<(Graph, Asked)> {
        let (mut graph, mut asked) = (Graph::default(), Asked::new());
        let seeds = self.seeds()?;
        // Seed by seed, so that an interrupted experiment has whole seeds.
        let all: BTreeSet<u64> = seeds.values().flatten().copied().collect();
        for seed in all {
            for arm in self.recipe.arms.iter().filter(|a| seeds[&a.name].contains(&seed)) {
                let point = tuned.get(&arm.name).map_or(&[][..], Vec::as_slice);
                let stages = self.needed(&arm.name, &self.recipe.wanted(&arm.name)?, point)?;
                let keys = graph.add(&arm.name, seed, &stages, externals, &self.recipe.vary, simd::level().name())?;
                asked.insert((arm.name.clone(), seed), keys);
            }
        }
        Ok((graph, asked))
    }

    /// Chooses each arm's point of the grid on the tuning stage, by one seed; the first of equals.
    fn tune(&self, externals: &BTreeMap<String, External>, total: &mut Ran) -> Result<BTreeMap<String, Point>> {
        let Some(tune) = &self.recipe.tune else { return Ok(BTreeMap::new()) };
        let (stage, metric) = &tune.on;
        let seed = if self.trial { TRIAL_SEED } else { 0 };
        let (mut graph, mut keys) = (Graph::default(), BTreeMap::new());
        let points = tune.points();
        for arm in &self.recipe.arms {
            for (i, point) in points.iter().enumerate() {
                let stages = self.needed(&arm.name, std::slice::from_ref(stage), point)?;
                let laid = graph.add(&arm.name, seed, &stages, externals, &self.recipe.vary, simd::level().name())?;
                keys.insert((&arm.name, i), laid[stage].clone());
            }
        }
        let ran = self.running().run(&graph)?;
        total.ran += ran.ran;
        let expr = Expr::parse(&format!("arm:{stage}.{metric}"))?;
        let lower_is_better = ["loss", "nll"].iter().any(|w| metric.contains(w));
        let mut chosen = BTreeMap::new();
        for arm in &self.recipe.arms {
            let mut best: Option<(f64, usize)> = None;
            for i in 0..points.len() {
                let rows = read_rows(&ran.results[&keys[&(&arm.name, i)]].dir.join("rows.jsonl"))?;
                let mut study = Study::default();
                study.put("arm", stage, seed, Arc::new(rows));
                let metric: &Metric = &expr.refs()[0].metric;
                let value = Judge::new(&study).summary("arm", stage, metric)?.estimate.unwrap_or(f64::NEG_INFINITY);
                let value = if lower_is_better { -value } else { value };
                if best.is_none_or(|(b, _)| value > b) {
                    best = Some((value, i));
                }
            }
            if let Some((_, i)) = best {
                chosen.insert(arm.name.clone(), points[i].clone());
            }
        }
        Ok(chosen)
    }

    /// What each arm spent, mean over seeds. Errors: a budget that must match does not.
    fn budgets(&self, graph: &Graph, asked: &Asked, ran: &Ran) -> Result<BTreeMap<String, BTreeMap<String, f64>>> {
        let mut spent: BTreeMap<&str, Vec<BTreeMap<&str, u64>>> = BTreeMap::new();
        for ((arm, _), keys) in asked {
            let behind: BTreeSet<&str> =
                keys.values().flat_map(|key| graph.behind(key)).map(|n| n.key.as_str()).collect();
            let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
            for (what, n) in behind.into_iter().flat_map(|key| &ran.results[key].made.spent) {
                *sum.entry(what).or_default() += n;
            }
            spent.entry(arm).or_default().push(sum);
        }
        let matched: Vec<&str> = self.recipe.arms.iter().filter(|a| !a.unmatched).map(|a| a.name.as_str()).collect();
        for what in &self.recipe.matched {
            let of =
                |arm: &str| spent[arm].iter().map(|s| s.get(what.as_str()).copied().unwrap_or(0)).collect::<Vec<_>>();
            let slack = if EXACT.contains(&what.as_str()) { 0.0 } else { SLACK };
            for arm in matched.iter().skip(1) {
                // Seeds that both have.
                let (a, b) = (of(matched[0]), of(arm));
                if a.iter().zip(&b).any(|(a, b)| (*a as f64 - *b as f64).abs() > slack * *a as f64) {
                    return Err(Error::usage(format!(
                        "the arms do not match in {what}: by seed, `{}` spent {a:?}, `{arm}` {b:?}",
                        matched[0]
                    ))
                    .at(self.recipe.path.display())
                    .help("make them equal, leave it out of `match`, or say `unmatched = true` in the arm"));
                }
            }
        }
        let mean = |seeds: Vec<BTreeMap<&str, u64>>| {
            let mut sums: BTreeMap<String, f64> = BTreeMap::new();
            for (what, n) in seeds.iter().flatten() {
                *sums.entry(what.to_string()).or_default() += *n as f64 / seeds.len() as f64;
            }
            sums
        };
        Ok(spent.into_iter().map(|(arm, seeds)| (arm.to_string(), mean(seeds))).collect())
    }

    fn study(&self, results: &BTreeMap<(String, u64), BTreeMap<String, Found>>) -> Result<Study> {
        let mut study = Study::default();
        // Arms that share a result share its rows.
        let mut read = BTreeMap::new();
        for ((arm, seed), stages) in results {
            for stage in self.recipe.wanted(arm)? {
                let found = &stages[&stage];
                if !read.contains_key(&found.key) {
                    let path = found.dir.join("rows.jsonl");
                    if !path.exists() {
                        let error = Error::usage(format!("the stage `{stage}` measures nothing: it makes no rows"));
                        return Err(self.recipe.locate(&stage, error));
                    }
                    read.insert(found.key.clone(), Arc::new(read_rows(&path)?));
                }
                study.put(arm, &stage, *seed, read[&found.key].clone());
            }
        }
        Ok(study)
    }

    /// The mean of every figure that is not the same everywhere, by arm, and what else claims and controls read.
    fn measures(&self, study: &Study, judge: &mut Judge) -> Result<Vec<Summary>> {
        let mut seen: BTreeMap<(String, String), BTreeSet<u64>> = BTreeMap::new();
        for arm in &self.recipe.arms {
            for (seed, stage) in
                study.seeds(&arm.name).iter().flat_map(|s| study.stages(&arm.name).into_iter().map(move |t| (s, t)))
            {
                for (name, value) in study.rows(&arm.name, stage, *seed).into_iter().flatten().flat_map(|i| &i.metrics)
                {
                    if let Some(x) = value.as_f64() {
                        seen.entry((stage.to_string(), name.clone())).or_default().insert(x.to_bits());
                    }
                }
            }
        }
        let telling = |stage: &str, column: &str| {
            seen.get(&(stage.to_string(), column.to_string())).is_some_and(|values| values.len() > 1)
                || ["accuracy", "loss"].contains(&column)
        };
        let mut all = Vec::new();
        for arm in &self.recipe.arms {
            for stage in study.stages(&arm.name) {
                let seeds = study.seeds(&arm.name);
                // What only some seeds' rows have is no figure of the arm.
                let mut of_seeds = seeds.iter().filter_map(|s| study.rows(&arm.name, stage, *s)).map(number_columns);
                let Some(mut columns) = of_seeds.next() else { continue };
                of_seeds.for_each(|other| columns.retain(|c| other.contains(c)));
                for column in columns.into_iter().filter(|c| telling(stage, c)) {
                    all.push(judge.summary(&arm.name, stage, &Metric::mean(column))?);
                }
            }
        }
        let (claims, controls) = stated(self.recipe)?;
        let values = claims.iter().map(|c| &c.value).chain(controls.iter().map(|c| &c.value));
        for r in values.flat_map(|value| value.refs()) {
            let there = |s: &Summary| s.arm == r.arm && s.stage == r.stage && s.metric == r.metric.show();
            if !all.iter().any(there) {
                all.push(judge.summary(&r.arm, &r.stage, &r.metric)?);
            }
        }
        Ok(all)
    }
}

/// Versions of the kinds of stages behind an experiment.
pub fn versions(recipe: &Recipe) -> Result<BTreeMap<String, u32>> {
    let mut versions = BTreeMap::new();
    for arm in &recipe.arms {
        let wanted = recipe.wanted(&arm.name)?;
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        for s in recipe.needed(&arm.name, &wanted, &[])? {
            versions.insert(s.kind.name.to_string(), s.kind.version);
        }
    }
    Ok(versions)
}

/// A recipe's claims and controls, read; errors are located in its file.
pub fn stated(recipe: &Recipe) -> Result<(Vec<Claim>, Vec<Control>)> {
    let value = |text: &crate::recipe::Text| Expr::parse(text).map_err(|e| text.locate(0..text.len(), e));
    let claims = recipe.claims.iter().map(|c| {
        let holds = Condition::parse(&c.holds).map_err(|e| c.holds.locate(0..c.holds.len(), e))?;
        Ok(Claim { says: c.says.clone(), value: value(&c.value)?, holds, interest: c.interest, primary: c.primary })
    });
    let claims = claims.collect::<Result<_>>()?;
    let controls = recipe.controls.iter().map(|c| {
        let tolerance = match c.bound {
            Bound::Within(x) => Tolerance::Within(x),
            Bound::Exact => Tolerance::Exact,
        };
        Ok(Control { says: c.says.clone(), value: value(&c.value)?, tolerance })
    });
    Ok((claims, controls.collect::<Result<_>>()?))
}

/// A grid's choice as keys and values.
pub fn chosen(point: &[Override]) -> BTreeMap<String, Value> {
    point.iter().map(|o| (format!("{}.{}", o.stage, o.key), o.value.clone())).collect()
}

/// The name of a recipe: its folder's.
pub fn slug(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
    folder.to_string_lossy().into_owned()
}
