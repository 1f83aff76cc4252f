//! Running a graph of stages: each when its inputs are there, several at once, what is in the cache not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use postgrad_base::cancel::Cancel;
use postgrad_base::progress::{Mode, Progress};
use postgrad_base::{Error, Result};
use postgrad_tensor::{par, simd};

use crate::engine::cache::{Cache, Found, Made};
use crate::engine::graph::{Graph, Node, Source};
use crate::stage::{Cx, Place};

/// How to run.
pub struct Running<'a> {
    pub cache: &'a Cache,
    /// Stages at a time; the threads are shared among them. Results do not depend on it.
    pub jobs: usize,
    pub cancel: Cancel,
    pub progress: Mode,
    /// No stage begins after it.
    pub deadline: Option<Instant>,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// By key.
    pub results: BTreeMap<String, Found>,
    /// Stages that were run now, and the seconds they took, one after the other.
    pub ran: usize,
    pub seconds: f64,
}

struct Shared {
    waiting: BTreeSet<usize>,
    busy: usize,
    ran: Ran,
    failed: Option<Error>,
}

impl Running<'_> {
    /// Runs all stages of the graph. The first error stops it, when the stages at work have ended.
    pub fn run(&self, graph: &Graph) -> Result<Ran> {
        let mut ran = Ran::default();
        let mut waiting = BTreeSet::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            match self.cache.find(&node.key)? {
                Some(found) => {
                    ran.results.insert(node.key.clone(), found);
                }
                None => {
                    waiting.insert(i);
                }
            }
        }
        let jobs = self.jobs.clamp(1, waiting.len().max(1));
        let threads = (par::threads() / jobs).max(1);
        let mut progress = Progress::new(self.progress, "stages", waiting.len() as u64);
        let total = waiting.len();
        let shared = Mutex::new(Shared { waiting, busy: 0, ran, failed: None });
        let (changed, level) = (Condvar::new(), simd::level());
        let told = Mutex::new(&mut progress);
        let worker = || {
            simd::with_level(level, || {
                while let Some(i) = self.take(graph, &shared, &changed) {
                    let node = &graph.nodes[i];
                    let done = with_threads(threads, || simd::with_level(level, || self.make(node, &shared, jobs)));
                    let mut s = shared.lock().expect("no worker panics with the lock");
                    s.busy -= 1;
                    match done {
                        Ok((found, fresh)) => {
                            if fresh {
                                s.ran.ran += 1;
                                s.ran.seconds += found.made.seconds;
                            }
                            let line = format!("{}  {:.1} s", label(node), found.made.seconds);
                            s.ran.results.insert(node.key.clone(), found);
                            let left = s.waiting.len() + s.busy;
                            told.lock().expect("progress").set((total - left) as u64, &line);
                        }
                        Err(e) => {
                            s.waiting.clear();
                            s.failed.get_or_insert(e.at(label(node)));
                        }
                    }
                    changed.notify_all();
                }
            });
        };
        if jobs == 1 {
            worker();
        } else {
            std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(worker))));
        }
        progress.finish();
        let shared = shared.into_inner().expect("no worker panics with the lock");
        match shared.failed {
            Some(e) => Err(e),
            None => Ok(shared.ran),
        }
    }

    /// The next stage whose inputs are there; none when nothing is left to begin.
    fn take(&self, graph: &Graph, shared: &Mutex<Shared>, changed: &Condvar) -> Option<usize> {
        let mut s = shared.lock().expect("no worker panics with the lock");
        loop {
            if self.cancel.asked() && !s.waiting.is_empty() {
                s.waiting.clear();
                s.failed.get_or_insert(Error::cancelled().help("run the same command again to go on"));
            }
            if self.deadline.is_some_and(|d| Instant::now() >= d) && !s.waiting.is_empty() {
                let left = s.waiting.len();
                s.waiting.clear();
                s.failed.get_or_insert(
                    Error::work(format!("the time is spent, with {left} stages left"))
                        .help("the same command goes on from here"),
                );
            }
            let there = |source: &Source| match source {
                Source::Stage(key) => s.ran.results.contains_key(key),
                Source::External(_) => true,
            };
            let ready = s.waiting.iter().copied().find(|i| graph.nodes[*i].inputs.values().all(there));
            match ready {
                Some(i) => {
                    s.waiting.remove(&i);
                    s.busy += 1;
                    return Some(i);
                }
                None if s.waiting.is_empty() => return None,
                None if s.busy == 0 => unreachable!("a graph has no cycles"),
                None => s = changed.wait(s).expect("no worker panics with the lock"),
            }
        }
    }

    /// Makes one result, or finds it where another process made it; true where it was made here.
    fn make(&self, node: &Node, shared: &Mutex<Shared>, jobs: usize) -> Result<(Found, bool)> {
        let work = match self.cache.claim(&node.key, &self.cancel)? {
            Ok(found) => return Ok((found, false)),
            Err(work) => work,
        };
        let mut inputs = Vec::new();
        let mut keys = BTreeMap::new();
        for (name, source) in &node.inputs {
            let place = match source {
                Source::External(place) => place.clone(),
                Source::Stage(key) => {
                    keys.insert(name.clone(), key.clone());
                    let s = shared.lock().expect("no worker panics with the lock");
                    Place::Stage(s.ran.results[key].dir.clone())
                }
            };
            inputs.push((name.clone(), place));
        }
        let progress = if jobs > 1 { Mode::Quiet } else { self.progress };
        let cx = Cx::new(node.seed.unwrap_or(0), work.dir().into(), inputs, self.cancel.clone(), progress);
        let cx = cx.varying(&node.vary);
        let started = Instant::now();
        node.kind.run(&node.config, &cx)?;
        let made = Made {
            stage: node.stage.clone(),
            kind: node.kind.name.into(),
            version: node.kind.version,
            config: node.config.clone(),
            inputs: keys,
            seed: node.seed,
            simd: simd::level().name().into(),
            spent: cx.spent(),
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((work.finish(made)?, true))
    }
}

/// Runs `f` with `n` threads of its own, beside whatever else the process computes.
fn with_threads<T: Send>(n: usize, f: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
    pool.expect("threads can be started").install(f)
}

fn label(node: &Node) -> String {
    let seed = node.seed.map_or(String::new(), |s| format!(", seed {s}"));
    format!("{} of {}{seed}", node.stage, node.first_for.0)
}
