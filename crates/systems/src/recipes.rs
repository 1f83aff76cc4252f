//! Where recipes lie: `recipes/<slug>/` in this folder or one above it, or in `$POSTGRAD_RECIPES`.

use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result};
use postgrad_tasks::task::nearest;

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
pub fn file(name: &str, file: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.into());
    }
    if path.join(file).is_file() {
        return Ok(path.join(file));
    }
    if path.extension().is_some() || name.contains('/') {
        return Err(Error::usage(format!("there is no recipe {name}")));
    }
    if let Some(found) = folder().map(|d| d.join(name).join(file)).filter(|p| p.is_file()) {
        return Ok(found);
    }
    let known = slugs_with(file)?;
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let error = Error::unknown("recipe", name, &known, nearest(name, &known));
    Err(if known.is_empty() {
        error.help("recipes lie in the folder `recipes`; POSTGRAD_RECIPES names another")
    } else {
        error
    })
}

/// Slugs of the recipes that have such a file, in order.
pub fn slugs_with(file: &str) -> Result<Vec<String>> {
    let Some(dir) = folder() else { return Ok(vec![]) };
    let entries = std::fs::read_dir(&dir).context(|| format!("cannot read {}", dir.display()))?.flatten();
    let mut slugs: Vec<String> = entries
        .filter(|e| e.path().join(file).is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    slugs.sort();
    Ok(slugs)
}
