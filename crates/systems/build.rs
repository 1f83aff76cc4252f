//! Lists the recipes' files, so that the program carries them (`src/recipes.rs`).

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() {
    let var = |name| PathBuf::from(std::env::var_os(name).expect("cargo sets it"));
    let root = var("CARGO_MANIFEST_DIR").join("../../recipes");
    // Cargo looks at all files below.
    println!("cargo::rerun-if-changed={}", root.display());
    let mut text = String::from("[\n");
    for folder in sorted(&root).into_iter().filter(|p| p.is_dir()) {
        let carried = |p: &PathBuf| p.extension().is_some_and(|e| e == "toml" || e == "json");
        for file in sorted(&folder).into_iter().filter(carried) {
            let path = file.canonicalize().expect("a file that was listed");
            writeln!(text, "    ({:?}, {:?}, include_str!({path:?})),", name(&folder), name(&file)).expect("a string");
        }
    }
    text.push_str("]\n");
    std::fs::write(var("OUT_DIR").join("recipes.rs"), text).expect("cannot write the list of recipes");
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.sort();
    all
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).expect("recipes have plain names")
}
