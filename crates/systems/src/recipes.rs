//! Where recipes lie: `recipes/<slug>/` in this folder or one above it, or in `$POSTGRAD_RECIPES`; and those that the program
//! carries, as they were when it was built. A folder on disk stands in the place of the carried recipe of its name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result};
use postgrad_lab::engine::Ledger;
use postgrad_lab::recipe::Recipe;
use postgrad_lab::stage::Kind;
use postgrad_tasks::task::nearest;

/// (slug, name, text), in order.
static CARRIED: &[(&str, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/recipes.rs"));

/// A recipe's file, on disk or carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Of a carried file: `built-in/SLUG/NAME`, for messages.
    pub path: PathBuf,
    /// The text of a carried file.
    carried: Option<&'static str>,
}

impl File {
    fn on_disk(path: PathBuf) -> Self {
        Self { path, carried: None }
    }

    fn carried(slug: &str, name: &str) -> Option<Self> {
        let text = carried(slug, name)?;
        Some(Self { path: Path::new("built-in").join(slug).join(name), carried: Some(text) })
    }

    pub fn is_carried(&self) -> bool {
        self.carried.is_some()
    }

    /// Read and checked.
    pub fn recipe(&self, kinds: &[Kind]) -> Result<Recipe> {
        match self.carried {
            Some(text) => Recipe::parse(&self.path, text, kinds),
            None => Recipe::read(&self.path, kinds),
        }
    }

    /// The ledger beside it; none where nothing was verified yet.
    pub fn ledger(&self) -> Result<Option<Ledger>> {
        let path = Ledger::path(&self.path);
        if !self.is_carried() {
            return Ledger::read(&path);
        }
        let part = |p: Option<&std::ffi::OsStr>| p.and_then(|n| n.to_str()).unwrap_or_default().to_string();
        let (slug, name) = (part(path.parent().and_then(Path::file_name)), part(path.file_name()));
        carried(&slug, &name).map(|text| Ledger::parse(text).map_err(|e| e.at(path.display()))).transpose()
    }
}

fn carried(slug: &str, name: &str) -> Option<&'static str> {
    CARRIED.iter().find(|(s, n, _)| *s == slug && *n == name).map(|(_, _, text)| *text)
}

/// The folder of recipes, where there is one.
pub fn folder() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("POSTGRAD_RECIPES").filter(|v| !v.is_empty()) {
        return Some(dir.into());
    }
    let here = std::env::current_dir().ok()?;
    let mut above = here.ancestors().map(|d| d.join("recipes"));
    let found = above.find(|d| d.is_dir())?;
    // As a user would write it, where it is in this folder.
    Some(if found.parent() == Some(&here) { "recipes".into() } else { found })
}

/// The recipe file that a user names: a file, a folder with `file` in it, or a slug.
pub fn file(name: &str, file: &str) -> Result<File> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(File::on_disk(path.into()));
    }
    if path.join(file).is_file() {
        return Ok(File::on_disk(path.join(file)));
    }
    if path.extension().is_some() || name.contains('/') {
        return Err(Error::usage(format!("there is no recipe {name}")));
    }
    if let Some(found) = of_slug(name, file) {
        return Ok(found);
    }
    let mut known: BTreeSet<String> = on_disk(file)?.into_iter().collect();
    known.extend(carried_slugs(file).map(String::from));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Err(Error::unknown("recipe", name, &known, nearest(name, &known)))
}

/// A file of the recipe of this name: of its folder, else carried.
pub fn of_slug(slug: &str, file: &str) -> Option<File> {
    match folder().map(|d| d.join(slug)).filter(|d| d.is_dir()) {
        Some(dir) => Some(dir.join(file)).filter(|p| p.is_file()).map(File::on_disk),
        None => File::carried(slug, file),
    }
}

/// Slugs of the recipes that have such a file, in order: of those in the folder, or of the carried ones where there is none.
pub fn slugs_with(file: &str) -> Result<Vec<String>> {
    match folder() {
        Some(_) => on_disk(file),
        None => Ok(carried_slugs(file).map(String::from).collect()),
    }
}

fn on_disk(file: &str) -> Result<Vec<String>> {
    let Some(dir) = folder() else { return Ok(vec![]) };
    let entries = std::fs::read_dir(&dir).context(|| format!("cannot read {}", dir.display()))?.flatten();
    let mut slugs: Vec<String> = entries
        .filter(|e| e.path().join(file).is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    slugs.sort();
    Ok(slugs)
}

fn carried_slugs(file: &str) -> impl Iterator<Item = &'static str> {
    CARRIED.iter().filter(move |(_, name, _)| *name == file).map(|(slug, _, _)| *slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is carried is what lies in the repository, all of it, and can be read.
    #[test]
    fn the_program_carries_every_recipe() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        for (slug, name, text) in CARRIED {
            assert_eq!(*text, std::fs::read_to_string(root.join(slug).join(name)).unwrap(), "{slug}/{name}");
        }
        for folder in std::fs::read_dir(&root).unwrap().flatten() {
            let slug = folder.file_name().to_string_lossy().into_owned();
            for name in ["recipe.toml", "tiny.toml", "full.toml", "ledger.json", "full.ledger.json"] {
                assert_eq!(carried(&slug, name).is_some(), folder.path().join(name).exists(), "{slug}/{name}");
            }
        }
        let tiny = File::carried("masked-thought", "tiny.toml").unwrap();
        let (recipe, ledger) = (tiny.recipe(&crate::kinds()).unwrap(), tiny.ledger().unwrap().unwrap());
        assert_eq!(
            (postgrad_lab::engine::slug(&tiny.path), ledger.slug.as_str()),
            ("masked-thought".into(), "masked-thought")
        );
        assert!(!recipe.claims.is_empty() && tiny.is_carried());
        let full = File::carried("masked-thought", "full.toml").unwrap();
        assert_eq!((full.ledger().unwrap(), File::carried("no-such", "tiny.toml")), (None, None));
    }
}
