//! What a recipe takes: the stages behind it with what they train and read, their expected time and memory on this machine,
//! and what its seeds and items can show.
//!
//! Sizes and lengths are read from the models and from the data (of a `draw`, from a few problems); speeds are those of a
//! short run of the work itself. What a stage of an unknown kind takes is not guessed. Left out on purpose: grids (`tune`), of
//! which each point takes as much as the stages that it judges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use postgrad_audit::{Asker, Judge, answers, perplexity};
use postgrad_base::cancel::Cancel;
use postgrad_base::progress::Mode;
use postgrad_base::{Context, Result};
use postgrad_data::{DataSpec, Example, Record, Records, SourceSpec};
use postgrad_nn::logits::Rules;
use postgrad_reason::{ModelFolder, Options};
use postgrad_tensor::simd;
use serde::Serialize;
use serde_json::{Value, json};

use super::Recipe;
use crate::claims::{Expected, Expr, Noise, Ref, power};
use crate::engine::{Cache, External, Graph, Node, Source};
use crate::machine::{peak_memory, reset_peak_memory};
use crate::speed::update_seconds;
use crate::stage::{Cx, Input, Place, Stage, alone, asked, read};
use crate::stages::{Draw, Eval, Sft};

/// Records of a data set that are looked at.
const SAMPLE: usize = 512;
/// Problems of a `draw` that are drawn.
const DRAWN: usize = 64;
/// Questions that are asked to know the speed, and tokens of each answer at most.
const ASKED: usize = 16;
const ANSWER: usize = 64;

/// What one result of a stage takes. None: not known, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Of the model that it works with, all and those trained.
    pub parameters: Option<u64>,
    pub trained: Option<u64>,
    pub updates: Option<u64>,
    /// Records trained on with repetitions, drawn, or items measured.
    pub examples: Option<u64>,
    /// Read and sampled.
    pub tokens: Option<u64>,
    pub flops: Option<f64>,
    pub memory_bytes: Option<u64>,
    /// With all threads.
    pub seconds: Option<f64>,
}

/// Stages of one name and configuration, over arms and seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    pub stage: String,
    pub kind: String,
    /// The arm that asks for it first.
    pub arm: String,
    /// Results to be made, those that are there already among them.
    pub results: usize,
    pub there: usize,
    /// Whether the kind's cost is known at all.
    pub known: bool,
    #[serde(flatten)]
    pub cost: Cost,
}

/// What the primary claim's seeds and items can show at its `interest`.
#[derive(Clone, Debug, Serialize)]
pub struct Power {
    pub value: String,
    pub effect: f64,
    #[serde(flatten)]
    pub expected: Expected,
}

/// The table.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub stages: Vec<Planned>,
    /// Of all that is not there yet, one stage after the other; stages of unknown time left out.
    pub seconds: f64,
    /// Stages that are not there, of which the time is unknown.
    pub unknown: usize,
    pub power: Option<Power>,
}

/// Plans a recipe, or one arm of it.
pub fn plan(
    recipe: &Recipe,
    arm: Option<&str>,
    externals: &BTreeMap<String, External>,
    cache: &Cache,
    cancel: &Cancel,
) -> Result<Plan> {
    let (mut graph, mut keys) = (Graph::default(), BTreeMap::new());
    let arms = match arm {
        Some(name) => vec![recipe.arm(name)?],
        None => recipe.arms.iter().collect(),
    };
    // Each arm at the first point of the grid: points take alike.
    let point = recipe.tune.as_ref().and_then(|t| t.points().into_iter().next()).unwrap_or_default();
    for arm in arms {
        let wanted = recipe.wanted(&arm.name)?;
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let stages = recipe.needed(&arm.name, &wanted, &point)?;
        for seed in 0..recipe.seeds_of(&arm.name) {
            let of_seed = graph.add(&arm.name, seed, &stages, externals, &recipe.vary, simd::level().name())?;
            keys.insert(arm.name.clone(), of_seed);
        }
    }
    let mut planner = Planner { graph: &graph, cancel, models: None, samples: BTreeMap::new() };
    let mut stages: Vec<(Value, Planned)> = Vec::new();
    let mut row_of: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &graph.nodes {
        cancel.check()?;
        let there = usize::from(cache.find(&node.key)?.is_some());
        let same = planner.alike(node);
        if let Some(at) = stages.iter().position(|(s, _)| *s == same) {
            let row = &mut stages[at].1;
            row_of.insert(&node.key, at);
            row.results += 1;
            row.there += there;
            continue;
        }
        let cost = planner.cost(node).map_err(|e| recipe.locate(&node.stage, e))?;
        let row = Planned {
            stage: node.stage.clone(),
            kind: node.kind.name.into(),
            arm: node.first_for.0.clone(),
            results: 1,
            there,
            known: cost.is_some(),
            cost: cost.unwrap_or_else(|| planner.guess(node)),
        };
        row_of.insert(&node.key, stages.len());
        stages.push((same, row));
    }
    let stages: Vec<Planned> = stages.into_iter().map(|(_, row)| row).collect();
    let left = |row: &Planned| row.results - row.there;
    let seconds = stages.iter().filter_map(|r| Some(r.cost.seconds? * left(r) as f64)).sum();
    let unknown = stages.iter().filter(|r| r.cost.seconds.is_none()).map(left).sum();
    let row = |arm: &str, stage: &str| Some(&stages[*row_of.get(keys.get(arm)?.get(stage)?.as_str())?]);
    let power = primary_power(recipe, &row)?;
    Ok(Plan { stages, seconds, unknown, power })
}

/// Of the primary claim, where its interest and its stages' items are known.
fn primary_power<'a>(recipe: &Recipe, row: &dyn Fn(&str, &str) -> Option<&'a Planned>) -> Result<Option<Power>> {
    let Some(claim) = recipe.claims.iter().find(|c| c.primary) else { return Ok(None) };
    let value = Expr::parse(&claim.value).map_err(|e| claim.value.locate(0..claim.value.len(), e))?;
    let items = |r: &Ref| row(&r.arm, &r.stage).filter(|s| s.kind == Eval::NAME)?.cost.examples;
    let items: Option<Vec<u64>> = value.refs().iter().map(items).collect();
    let fewest = items.and_then(|all| all.into_iter().min()).map(|n| n as usize);
    let (Some(effect), Some(items)) = (claim.interest, fewest) else { return Ok(None) };
    let expected = power(&Noise::assumed(items), recipe.seeds.primary as usize, items, effect);
    Ok(expected.map(|expected| Power { value: value.show(), effect, expected }))
}

struct Planner<'a> {
    graph: &'a Graph,
    cancel: &'a Cancel,
    /// The model in memory: one at a time, so that peaks are its own.
    models: Option<(PathBuf, ModelFolder)>,
    samples: BTreeMap<String, Option<Sample>>,
}

/// Some records of a data set, and how many it has.
#[derive(Clone)]
struct Sample {
    records: Vec<Record>,
    count: u64,
    /// To draw them all.
    seconds: Option<f64>,
}

impl Planner<'_> {
    /// None where the kind is unknown, or where its data are made by a stage that is not there.
    fn cost(&mut self, node: &Node) -> Result<Option<Cost>> {
        match node.kind.name {
            Draw::NAME => {
                let Some(sample) = self.drawn(node)? else { return Ok(None) };
                let (examples, seconds) = (Some(sample.count), sample.seconds);
                Ok(Some(Cost { examples, seconds, ..Cost::default() }))
            }
            Sft::NAME => self.sft(node),
            Eval::NAME => self.eval(node),
            _ => Ok(None),
        }
    }

    /// What the configuration of an unknown kind says by itself.
    fn guess(&self, node: &Node) -> Cost {
        Cost { updates: node.config.get("steps").and_then(Value::as_u64), ..Cost::default() }
    }

    /// The model folder from outside that a stage's model comes of, through the stages that tune it.
    fn model_dir(&self, node: &Node) -> Option<PathBuf> {
        let input = Input::try_from(node.config.get("model")?.as_str()?.to_string()).ok()?;
        match node.inputs.get(input.name())? {
            Source::External(Place::Model(dir)) => Some(dir.clone()),
            Source::External(_) => None,
            Source::Stage(key) => self.model_dir(self.graph.get(key)?),
        }
    }

    /// What its cost is a function of: one row for all seeds, and for arms that differ in how a model was tuned alone.
    fn alike(&self, node: &Node) -> Value {
        let data = node.inputs.values().map(|source| match source {
            Source::External(place) => format!("{place:?}"),
            Source::Stage(key) => match self.graph.get(key) {
                Some(n) if n.kind.name == Draw::NAME => n.config.to_string(),
                other => other.map(|n| n.stage.clone()).unwrap_or_default(),
            },
        });
        let model = self.model_dir(node);
        json!([node.stage, node.kind.name, node.config, model, data.collect::<Vec<_>>()])
    }

    fn model(&mut self, node: &Node) -> Result<Option<ModelFolder>> {
        let Some(dir) = self.model_dir(node) else { return Ok(None) };
        if self.models.as_ref().is_none_or(|(loaded, _)| *loaded != dir) {
            self.models = None;
            self.models = Some((dir.clone(), ModelFolder::load(&dir)?));
        }
        Ok(self.models.as_ref().map(|(_, model)| model.clone()))
    }

    fn sample(&mut self, node: &Node, input: &Input) -> Result<Option<Sample>> {
        match node.inputs.get(input.name()) {
            Some(Source::Stage(key)) if input.part().is_none() => match self.graph.get(key) {
                Some(made_by) if made_by.kind.name == Draw::NAME => self.drawn(made_by),
                _ => Ok(None),
            },
            Some(Source::External(Place::Data(paths))) => {
                let name = format!("{paths:?}");
                if !self.samples.contains_key(&name) {
                    let sources = paths.iter().map(|p| SourceSpec::parse(p)).collect::<Result<_>>()?;
                    let spec = DataSpec { sources, shuffle_buffer: 0, ..DataSpec::default() };
                    let (mut all, mut records, mut count) = (Records::open(&spec)?, Vec::new(), 0);
                    while let Some(record) = all.next_record()? {
                        count += 1;
                        if records.len() < SAMPLE {
                            records.push(record);
                        }
                    }
                    self.samples.insert(name.clone(), Some(Sample { records, count, seconds: None }));
                }
                Ok(self.samples[&name].clone())
            }
            _ => Ok(None),
        }
    }

    /// A few problems of a `draw`, drawn as the stage draws them.
    fn drawn(&mut self, node: &Node) -> Result<Option<Sample>> {
        let count = node.config.get("n").and_then(Value::as_u64).unwrap_or(0);
        // All seeds draw alike long problems.
        let name = node.config.to_string();
        if let Some(sample) = self.samples.get(&name) {
            return Ok(sample.clone());
        }
        let few = count.min(DRAWN as u64);
        let mut config = node.config.clone();
        config["n"] = few.into();
        let dir = tempfile::tempdir().context(|| "cannot make a temporary folder".into())?;
        let started = Instant::now();
        alone(&node.kind, &config, &[], node.seed.unwrap_or(0), dir.path())?;
        let seconds = started.elapsed().as_secs_f64() * count as f64 / few.max(1) as f64;
        let place = Place::Data(vec![dir.path().join("records.jsonl").display().to_string()]);
        let cx = Cx::new(0, dir.path().into(), [("drawn".into(), place)], self.cancel.clone(), Mode::Quiet);
        let records = cx.records(&Input::try_from("@drawn".to_string()).expect("a reference"))?;
        let sample = Some(Sample { records, count, seconds: Some(seconds) });
        self.samples.insert(name, sample.clone());
        Ok(sample)
    }

    fn sft(&mut self, node: &Node) -> Result<Option<Cost>> {
        let mut config: <Sft as Stage>::Config = read(&node.config).map_err(|f| f.error)?;
        // An adapter that is gone on with is not there yet; a fresh one of its kind takes as much.
        if let Some(lora) = &mut config.lora {
            lora.go_on = false;
        }
        let Some(mut model) = self.model(node)? else { return Ok(None) };
        let place = Cx::new(0, PathBuf::new(), [], self.cancel.clone(), Mode::Quiet);
        let selection = config.trainable().begin(&mut model, &place)?;
        let parameters = model.decoder.parameter_count();
        let all_of = || model.decoder.params().iter().map(|p| p.len()).sum();
        let trained: usize = selection.map_or_else(all_of, |s| s.share().parameters);
        let mut cost = Cost {
            parameters: Some(parameters as u64),
            trained: Some(trained as u64),
            updates: config.steps,
            examples: config.steps.map(|s| s * config.batch as u64),
            ..Cost::default()
        };
        let (mut examples, mut count): (Vec<Example>, f64) = (vec![], 0.0);
        for input in config.data.list() {
            let Some(sample) = self.sample(node, input)? else { return Ok(Some(cost)) };
            let before = examples.len();
            for record in &sample.records {
                let rendered = model.renderer.examples(record)?.examples;
                let fits = |e: &Example| e.trained() > 0 && (config.max_len == 0 || e.len() <= config.max_len);
                examples.extend(rendered.into_iter().filter(fits));
            }
            let share = (examples.len() - before) as f64 / sample.records.len().max(1) as f64;
            count += sample.count as f64 * share;
        }
        if examples.is_empty() {
            return Ok(Some(cost));
        }
        let updates =
            config.steps.unwrap_or_else(|| ((count * config.epochs / config.batch as f64).ceil() as u64).max(1));
        let mean = examples.iter().map(Example::len).sum::<usize>() as f64 / examples.len() as f64;
        let (per_update, mut timed, mut tokens) = (mean * config.batch as f64, vec![], 0);
        for e in examples {
            if !timed.is_empty() && (tokens + e.len() > config.micro_tokens || timed.len() == config.batch) {
                break;
            }
            tokens += e.len();
            timed.push(e);
        }
        reset_peak_memory();
        let seconds = update_seconds(&model.decoder, &timed, false, per_update)?;
        let all = updates as f64 * per_update;
        cost.updates = Some(updates);
        cost.examples = Some(updates * config.batch as u64);
        cost.tokens = Some(all as u64);
        cost.flops = Some(all * (4 * parameters + 2 * trained.min(parameters)) as f64);
        cost.memory_bytes = Some(peak_memory() + 8 * trained as u64);
        cost.seconds = Some(seconds * updates as f64);
        Ok(Some(cost))
    }

    fn eval(&mut self, node: &Node) -> Result<Option<Cost>> {
        let config: <Eval as Stage>::Config = read(&node.config).map_err(|f| f.error)?;
        let Some(model) = self.model(node)? else { return Ok(None) };
        let parameters = model.decoder.parameter_count() as u64;
        let Some(sample) = self.sample(node, &config.data)? else {
            return Ok(Some(Cost { parameters: Some(parameters), ..Cost::default() }));
        };
        let n = config.limit.map_or(sample.count, |l| sample.count.min(l as u64));
        let items: Vec<_> =
            sample.records.into_iter().take(SAMPLE.min(n as usize)).map(asked).collect::<Result<_>>()?;
        let asker = Asker { system: config.system.clone(), ..Asker::new(model.renderer.clone()) };
        let some = &items[..items.len().min(ASKED)];
        reset_peak_memory();
        let started = Instant::now();
        let (tokens, seconds) = if node.config["as"] == "perplexity" {
            let rows = perplexity::run(&model, &asker, some, 4096, self.cancel, |_, _| ())?;
            (rows.iter().map(|r| r.tokens).sum::<usize>() as f64, started.elapsed().as_secs_f64())
        } else {
            let rules = if config.temperature == 0.0 {
                Rules::greedy()
            } else {
                Rules { temperature: config.temperature, top_p: config.top_p, ..Rules::default() }
            };
            let options =
                Options { rules, stop: config.stop.clone(), ..Options::greedy(config.max_tokens.min(ANSWER)) };
            let rows = answers::run(&model, &asker, some, Judge::Answer, &options, self.cancel, |_, _| ())?;
            let (elapsed, mut sampled, mut read) = (started.elapsed().as_secs_f64(), 0, 0);
            for row in &rows {
                read += row.prompt_tokens;
                sampled += row.responses.iter().map(|r| r.tokens).sum::<usize>();
            }
            // A tuned model answers about as long as the references.
            let tokenizer = model.renderer.tokenizer();
            let lengths = some.iter().filter_map(|i| i.reference()).map(|r| tokenizer.encode(&r).map(|t| t.len()));
            let lengths = lengths.collect::<Result<Vec<usize>>>()?;
            let long = lengths.iter().map(|l| (*l).min(config.max_tokens)).sum::<usize>() as f64;
            let expected = if lengths.is_empty() { sampled as f64 } else { long };
            let times = config.samples as f64;
            (read as f64 + times * expected, times * elapsed * expected.max(1.0) / sampled.max(1) as f64)
        };
        let scale = n as f64 / some.len().max(1) as f64;
        Ok(Some(Cost {
            parameters: Some(parameters),
            examples: Some(n),
            tokens: Some((tokens * scale) as u64),
            flops: Some(tokens * scale * 2.0 * parameters as f64),
            memory_bytes: Some(peak_memory()),
            seconds: Some(seconds * scale),
            ..Cost::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Resolve, externals};
    use crate::stage::Kind;
    use postgrad_base::Error;
    use serde::Deserialize;
    use std::path::Path;

    struct Other;

    #[derive(Serialize, Deserialize)]
    struct OtherConfig {
        model: Input,
        steps: u64,
    }

    impl Stage for Other {
        const NAME: &'static str = "other";
        const ABOUT: &'static str = "a kind that the planner does not know";
        const VERSION: u32 = 1;
        const STREAMS: &'static [&'static str] = &["tune"];
        type Config = OtherConfig;

        fn run(_: OtherConfig, _: &Cx) -> Result<()> {
            Err(Error::work("planning runs no stage"))
        }
    }

    const FILE: &str = r#"
measure = ["target", "odd"]
seeds = { primary = 3, others = 2 }
[models]
base = "model"
[stage.problems]
use = "draw"
task = "add"
n = 80
[stage.test]
use = "draw"
task = "add"
split = "test"
n = 90
[stage.tuned]
use = "sft"
model = "@base"
data = "@problems"
epochs = 2
batch = 8
[stage.target]
use = "eval"
model = "@tuned"
data = "@test"
max_tokens = 4
[stage.odd]
use = "other"
model = "@tuned"
steps = 7
[arm.all]
[arm.lora]
tuned = { lora = { rank = 2 } }
[arm.untuned]
target = { model = "@base", limit = 5 }
[[claim]]
primary = true
says = "all weights learn more"
value = "all:target.accuracy - lora:target.accuracy"
holds = "> 0"
interest = 0.1
"#;

    #[test]
    fn what_a_recipe_takes() {
        let kinds: Vec<Kind> = crate::stages::kinds().into_iter().chain([Kind::of::<Other>()]).collect();
        let recipe = Recipe::parse(Path::new("r.toml"), FILE, &kinds).unwrap();
        let model = |_: &str| Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml"));
        let data = |spec: &str| Ok(spec.to_string());
        let outside = externals(&recipe, &Resolve { model: &model, data: &data }).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (cache, cancel) = (Cache::new(dir.path()), Cancel::new());
        let made = plan(&recipe, None, &outside, &cache, &cancel).unwrap();
        let of = |stage: &str| made.stages.iter().filter(|s| s.stage == stage).collect::<Vec<_>>();
        let [problems] = of("problems")[..] else { panic!() };
        // Problems differ between seeds and are the same in all arms; those of the test are one set.
        assert_eq!((problems.results, of("test")[0].results, problems.cost.examples), (3, 1, Some(80)));
        let [all, lora] = of("tuned")[..] else { panic!("{made:?}") };
        assert_eq!((all.arm.as_str(), all.results, lora.arm.as_str(), lora.results), ("all", 3, "lora", 3));
        assert_eq!((all.cost.updates, all.cost.examples, all.cost.trained), (Some(20), Some(160), all.cost.parameters));
        assert!(lora.cost.trained < all.cost.trained && lora.cost.tokens == all.cost.tokens);
        assert!(all.cost.seconds.unwrap() > 0.0 && all.cost.memory_bytes.unwrap() > 1_000_000);
        let [target, untuned] = of("target")[..] else { panic!("{made:?}") };
        // The model that is not tuned is the same in all seeds.
        assert_eq!((target.results, untuned.results), (6, 1));
        assert_eq!((target.cost.examples, untuned.cost.examples), (Some(90), Some(5)));
        let [odd] = of("odd")[..] else { panic!("{made:?}") };
        assert_eq!((odd.known, odd.results, odd.cost.updates, odd.cost.seconds), (false, 6, Some(7), None));
        assert_eq!((made.unknown, made.stages.iter().map(|s| s.there).sum::<usize>()), (6, 0));
        assert!(made.seconds > 0.0);
        let power = made.power.unwrap();
        // The items of the arms that the claim reads.
        assert_eq!((power.expected.seeds, power.expected.items, power.effect), (3, 90, 0.1));

        let one = plan(&recipe, Some("lora"), &outside, &cache, &cancel).unwrap();
        assert!(one.power.is_none());
        assert_eq!((one.stages.len(), one.stages.iter().find(|s| s.stage == "tuned").unwrap().results), (5, 3));
        assert!(
            plan(&recipe, Some("lor"), &outside, &cache, &cancel).unwrap_err().help_text().unwrap().contains("`lora`")
        );
    }
}
