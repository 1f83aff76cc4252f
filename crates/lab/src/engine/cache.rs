//! Results of stages, kept under the hash of what they are a function of.
//!
//! `<root>/<key>/` is a whole result: it has a `result.json`. `<root>/<key>.part/` is one at work, with a lock that goes with
//! the process; a killed stage's part stays and is gone on from. Whoever finds another process at work on a key waits for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use postgrad_base::cancel::Cancel;
use postgrad_base::fs::{self, DirLock};
use postgrad_base::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const RESULT_FILE: &str = "result.json";

/// What a result says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The stage's name in the recipe that first made it.
    pub stage: String,
    pub kind: String,
    pub version: u32,
    pub config: Value,
    /// Keys of the results it was made from, by the names they had.
    pub inputs: BTreeMap<String, String>,
    /// None where the result is the same for every seed.
    pub seed: Option<u64>,
    pub simd: String,
    /// Budgets: `updates`, `tokens`, ...
    pub spent: BTreeMap<String, u64>,
    pub seconds: f64,
}

/// A whole result.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub key: String,
    pub dir: PathBuf,
    pub made: Made,
}

/// A result to be made, its part locked.
pub struct Work {
    lock: DirLock,
    key: String,
    cache: Cache,
}

/// A folder of results.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub key: String,
    pub stage: String,
    pub kind: String,
    pub bytes: u64,
    /// Seconds since it was last used.
    pub idle: u64,
    /// A part that nobody works on.
    pub unfinished: bool,
}

impl Cache {
    /// Results live in `root`, which need not exist yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn find(&self, key: &str) -> Result<Option<Found>> {
        let dir = self.root.join(key);
        let path = dir.join(RESULT_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::work("cannot read a result").because(e).at(path.display())),
        };
        let made = serde_json::from_slice(&text)
            .context(|| "a stage's result is broken".into())
            .map_err(|e| e.at(path.display()).help("remove its folder, and it is made again"))?;
        Ok(Some(Found { key: key.into(), dir, made }))
    }

    /// The result, or the right to make it. Waits while another process makes it.
    pub fn claim(&self, key: &str, cancel: &Cancel) -> Result<Result<Found, Work>> {
        let part = self.root.join(format!("{key}.part"));
        loop {
            if let Some(found) = self.find(key)? {
                touch(&found.dir);
                return Ok(Ok(found));
            }
            cancel.check()?;
            match DirLock::take(&part) {
                // It may have been finished between the look and the lock.
                Ok(lock) => match self.find(key)? {
                    Some(_) => {
                        let _ = std::fs::remove_dir_all(&part);
                    }
                    None => return Ok(Err(Work { lock, key: key.into(), cache: self.clone() })),
                },
                Err(e) if !part.exists() => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// All results and unfinished parts, least recently used first.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        let Ok(dir) = std::fs::read_dir(&self.root) else { return Ok(all) };
        let now = SystemTime::now();
        for entry in dir.flatten().filter(|e| e.path().is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let used = entry.path().join(RESULT_FILE);
            let used = std::fs::metadata(&used).or_else(|_| entry.metadata()).and_then(|m| m.modified());
            let idle = used.ok().and_then(|t| now.duration_since(t).ok()).map_or(0, |d| d.as_secs());
            let bytes = size(&entry.path());
            if let Some(key) = name.strip_suffix(".part") {
                let free = DirLock::take(&entry.path()).is_ok();
                let (stage, kind) = (String::new(), String::new());
                all.push(Entry { key: key.into(), stage, kind, bytes, idle, unfinished: free });
            } else if let Some(found) = self.find(&name)? {
                let Made { stage, kind, .. } = found.made;
                all.push(Entry { key: name, stage, kind, bytes, idle, unfinished: false });
            }
        }
        all.sort_by(|a, b| b.idle.cmp(&a.idle).then(a.key.cmp(&b.key)));
        Ok(all)
    }

    /// Removes unfinished parts, then the least recently used results with all that was made from them, until at most
    /// `bytes` are left. Returns what went.
    pub fn prune(&self, bytes: u64) -> Result<Vec<Entry>> {
        let entries = self.list()?;
        let mut total: u64 = entries.iter().map(|e| e.bytes).sum();
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for e in entries.iter().filter(|e| !e.kind.is_empty()) {
            for input in self.find(&e.key)?.into_iter().flat_map(|f| f.made.inputs.into_values()) {
                users.entry(input).or_default().push(e.key.clone());
            }
        }
        let mut gone: Vec<Entry> = Vec::new();
        let order = entries.iter().filter(|e| e.unfinished).chain(entries.iter().filter(|e| !e.kind.is_empty()));
        for first in order {
            if total <= bytes && !first.unfinished {
                break;
            }
            let mut doomed = vec![first.key.clone()];
            while let Some(key) = doomed.pop() {
                let Some(entry) = entries.iter().find(|e| e.key == key) else { continue };
                if gone.iter().any(|g| g.key == key) {
                    continue;
                }
                let name = if entry.unfinished { format!("{key}.part") } else { key.clone() };
                let path = self.root.join(name);
                std::fs::remove_dir_all(&path).context(|| format!("cannot remove {}", path.display()))?;
                total -= entry.bytes;
                gone.push(entry.clone());
                doomed.extend(users.get(&key).into_iter().flatten().cloned());
            }
        }
        Ok(gone)
    }
}

impl Work {
    /// The folder to write the result in; what a killed process left there lies there still.
    pub fn dir(&self) -> &Path {
        &self.lock.dir
    }

    /// The result is whole.
    pub fn finish(self, made: Made) -> Result<Found> {
        let part = self.lock.dir.clone();
        let text = serde_json::to_string_pretty(&made).expect("plain data");
        fs::write(&part.join(RESULT_FILE), text.as_bytes())?;
        let dir = self.cache.root.join(&self.key);
        std::fs::rename(&part, &dir).context(|| format!("cannot write {}", dir.display()))?;
        let _ = std::fs::remove_file(dir.join(".lock"));
        Ok(Found { key: self.key, dir, made })
    }
}

/// Marks a result as used now.
fn touch(dir: &Path) {
    if let Ok(file) = File::options().append(true).open(dir.join(RESULT_FILE)) {
        let _ = file.set_modified(SystemTime::now());
    }
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(stage: &str, inputs: &[&str]) -> Made {
        let inputs = inputs.iter().map(|i| (i.to_string(), i.to_string())).collect();
        Made {
            stage: stage.into(),
            kind: "draw".into(),
            version: 1,
            config: Value::Null,
            inputs,
            seed: None,
            simd: "scalar".into(),
            spent: BTreeMap::new(),
            seconds: 1.0,
        }
    }

    fn put(cache: &Cache, key: &str, inputs: &[&str], bytes: usize) {
        let Err(work) = cache.claim(key, &Cancel::new()).unwrap() else { panic!("already there") };
        std::fs::write(work.dir().join("data"), vec![0; bytes]).unwrap();
        work.finish(made(key, inputs)).unwrap();
    }

    #[test]
    fn a_result_is_whole_or_absent_and_a_part_is_gone_on_from() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let Err(work) = cache.claim("k", &Cancel::new()).unwrap() else { panic!() };
        std::fs::write(work.dir().join("half"), "x").unwrap();
        drop(work); // as a kill does
        assert!(cache.find("k").unwrap().is_none());
        let Err(work) = cache.claim("k", &Cancel::new()).unwrap() else { panic!() };
        assert!(work.dir().join("half").exists());
        let found = work.finish(made("s", &[])).unwrap();
        assert_eq!(cache.claim("k", &Cancel::new()).unwrap().ok().unwrap(), found);
    }

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let Err(work) = cache.claim("k", &Cancel::new()).unwrap() else { panic!() };
        let other = cache.clone();
        let waiting = std::thread::spawn(move || other.claim("k", &Cancel::new()).unwrap().is_ok());
        std::thread::sleep(Duration::from_millis(30));
        work.finish(made("s", &[])).unwrap();
        assert!(waiting.join().unwrap(), "found, not made again");
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["k"]);
        let Err(work) = cache.claim("other", &Cancel::new()).unwrap() else { panic!() };
        let stopped = Cancel::new();
        stopped.cancel();
        assert_eq!(cache.claim("other", &stopped).err().map(|e| e.exit_code()), Some(130));
        drop(work);
    }

    #[test]
    fn pruning_takes_what_was_made_from_what_went() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        put(&cache, "base", &[], 1000);
        put(&cache, "tuned", &["base"], 1000);
        put(&cache, "alone", &[], 1000);
        drop(cache.claim("dead", &Cancel::new()).unwrap());
        for (key, age) in [("base", 30), ("alone", 20), ("tuned", 10)] {
            let file = File::options().append(true).open(dir.path().join(key).join(RESULT_FILE)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        let keys = |all: &[Entry]| all.iter().map(|e| e.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&cache.prune(u64::MAX).unwrap()), ["dead"]);
        assert_eq!(keys(&cache.prune(3000).unwrap()), ["base", "tuned"]);
        assert_eq!(keys(&cache.list().unwrap()), ["alone"]);
    }
}
