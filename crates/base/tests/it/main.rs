//! The repository as a whole: licences of what it depends on, pages that lead somewhere, no paths of one machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace's folder")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

fn output_of(command: &mut Command) -> String {
    let out = command.current_dir(root()).output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(out.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// Whether an SPDX expression can be satisfied with allowed licences. `A/B` is the older way to write `A OR B`.
/// `None`: not an expression.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> Option<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let value = either(&words, &mut at, allowed)?;
    (at == words.len()).then_some(value)
}

fn either(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut value = both(words, at, allowed)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        value |= both(words, at, allowed)?;
    }
    Some(value)
}

fn both(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut value = one(words, at, allowed)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        value &= one(words, at, allowed)?;
    }
    Some(value)
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> Option<bool> {
    let word = *words.get(*at)?;
    *at += 1;
    match word {
        "(" => {
            let value = either(words, at, allowed)?;
            *at += 1;
            (words.get(*at - 1) == Some(&")")).then_some(value)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        name if words.get(*at) == Some(&"WITH") => {
            let exception = words.get(*at + 1)?;
            *at += 2;
            Some(allowed.contains(&format!("{name} WITH {exception}")))
        }
        name => Some(allowed.contains(name)),
    }
}

/// The strings of `key = [ ... ]` in a section of `deny.toml`.
fn list_of(text: &str, section: &str, key: &str) -> BTreeSet<String> {
    let body = text.split_once(&format!("\n[{section}]\n")).unwrap_or_else(|| panic!("no [{section}]")).1;
    let body = body.split("\n[").next().unwrap_or_default();
    let list = body.split_once(&format!("{key} = [")).unwrap_or_else(|| panic!("no {key} in [{section}]")).1;
    let list = list.split_once(']').expect("a list that ends").0;
    list.split('"').skip(1).step_by(2).map(str::to_string).collect()
}

#[test]
fn expressions_are_read_as_spdx_reads_them() {
    let allowed: BTreeSet<String> =
        ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
    let yes = [
        "MIT",
        "MIT OR GPL-3.0-only",
        "GPL-2.0/MIT",
        "(MIT OR GPL-3.0-only) AND Unicode-3.0",
        "GPL-3.0-only AND MIT OR Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
    ];
    let no = [
        "MPL-2.0",
        "MIT AND GPL-3.0-only",
        "MIT AND (GPL-3.0-only OR LGPL-3.0-only)",
        "MIT WITH LLVM-exception",
        "mit",
        "GPL-3.0-only WITH Classpath-exception-2.0",
    ];
    let broken = ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT Apache-2.0", "MIT WITH"];
    yes.iter().for_each(|e| assert_eq!(satisfied(e, &allowed), Some(true), "{e}"));
    no.iter().for_each(|e| assert_eq!(satisfied(e, &allowed), Some(false), "{e}"));
    broken.iter().for_each(|e| assert_eq!(satisfied(e, &allowed), None, "{e}"));
}

#[test]
fn dependencies_are_permissive_and_come_from_the_registry() {
    let deny = read(&root().join("deny.toml"));
    let allowed = list_of(&deny, "licenses", "allow");
    assert!(
        allowed.contains("MIT") && !allowed.iter().any(|l| l.contains("GPL") || l.starts_with("MPL")),
        "{allowed:?}"
    );
    let registries = list_of(&deny, "sources", "allow-registry");

    // Only what this machine builds is sure to have been downloaded.
    let about = output_of(Command::new(env!("CARGO")).arg("-vV"));
    let host = about.lines().find_map(|l| l.strip_prefix("host: ")).expect("cargo names its host");
    let metadata = output_of(Command::new(env!("CARGO")).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        "--filter-platform",
        host,
    ]));
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "only {} packages: not the whole tree", packages.len());

    let mut wrong = Vec::new();
    for package in packages {
        let name =
            format!("{} {}", package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
        match package["license"].as_str() {
            None => wrong.push(format!("{name}: states no licence")),
            Some(licence) => match satisfied(licence, &allowed) {
                Some(true) => {}
                Some(false) => wrong.push(format!("{name}: {licence} is not in deny.toml's list")),
                None => wrong.push(format!("{name}: `{licence}` is no licence expression")),
            },
        }
        if let Some(source) = package["source"].as_str() {
            let known = source.strip_prefix("registry+").is_some_and(|r| registries.contains(r));
            if !known {
                wrong.push(format!("{name}: comes from {source}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The repository's files: those that git tracks; all but build outputs and runs where there is no git.
fn files() -> Vec<PathBuf> {
    let root = root();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    if let Some(out) = listed.ok().filter(|o| o.status.success() && !o.stdout.is_empty()) {
        let names = String::from_utf8(out.stdout).expect("names in UTF-8");
        return names.split('\0').filter(|n| !n.is_empty()).map(|n| root.join(n)).filter(|p| p.is_file()).collect();
    }
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let left_out = folder == root && (name.starts_with("target") || name == "runs") || name == ".git";
            if path.is_dir() && !left_out {
                folders.push(path);
            } else if path.is_file() && !name.ends_with(".tmp") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn no_file_holds_a_path_of_one_machine() {
    // In two pieces, so that this file does not hold them.
    let homes = ["home", "root", "Users", "work"].map(|name| format!("/{name}/"));
    let part_of_a_path = |c: char| c.is_alphanumeric() || "._-~/$}".contains(c);
    let mut found = Vec::new();
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for home in &homes {
            let mut places = text.match_indices(home.as_str());
            if let Some((at, _)) = places.find(|(at, _)| !text[..*at].ends_with(part_of_a_path)) {
                let line = text[..at].matches('\n').count() + 1;
                found.push(format!("{}:{line}: {home}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn pages_lead_somewhere_and_every_page_is_reached() {
    let root = root();
    let pages: Vec<PathBuf> = files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    assert!(pages.iter().any(|p| p.ends_with("README.md")));
    let mut reached = BTreeSet::new();
    let mut dead = Vec::new();
    for page in &pages {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            match page.parent().expect("a folder").join(file).canonicalize() {
                Ok(target) => _ = reached.insert(target),
                Err(_) => dead.push(format!("{}: {link}", page.display())),
            }
        }
    }
    assert!(dead.is_empty(), "links to nothing:\n{}", dead.join("\n"));
    let readme = read(&root.join("README.md"));
    let named = |page: &Path| page.strip_prefix(&root).is_ok_and(|name| readme.contains(&*name.to_string_lossy()));
    let docs = root.join("docs");
    let lost: Vec<&PathBuf> =
        pages.iter().filter(|p| p.starts_with(&docs) && !reached.contains(*p) && !named(p)).collect();
    assert!(lost.is_empty(), "no page leads to {lost:?}");
}
