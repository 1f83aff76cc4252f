//! Published systems: one file for each that needs code of its own, registered by name.
//!
//! A system is a recipe in `recipes/<slug>/`; what its stages need beyond the general kinds of `postgrad_lab::stages` stands
//! here. A part that two systems need lives on a lower floor.

pub mod cot_valve;
pub mod dart_math;
pub mod demystify_long_cot;
pub mod echo_chamber;
pub mod hft;
pub mod masked_thought;
pub mod r_tuning;
pub mod recipes;
pub mod rows;
pub mod select2reason;
pub mod skill_graft;
pub mod standing;

use postgrad_lab::stage::Kind;

/// All kinds of stages: the general ones and the systems' own.
pub fn kinds() -> Vec<Kind> {
    let mut all = postgrad_lab::stages::kinds();
    all.extend(cot_valve::kinds());
    all.extend(dart_math::kinds());
    all.extend(demystify_long_cot::kinds());
    all.extend(echo_chamber::kinds());
    all.extend(hft::kinds());
    all.extend(masked_thought::kinds());
    all.extend(r_tuning::kinds());
    all.extend(select2reason::kinds());
    all.extend(skill_graft::kinds());
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postgrad_lab::engine::Ledger;
    use postgrad_lab::measured;
    use postgrad_lab::recipe::Recipe;

    /// Figures in a recipe's page are its ledger's: `verify` writes both.
    #[test]
    fn pages_say_what_the_ledgers_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        for folder in std::fs::read_dir(&root).unwrap().flatten() {
            let (slug, dir) = (folder.file_name(), folder.path());
            for file in ["tiny", "full"] {
                let ledger = Ledger::path(&dir.join(format!("{file}.toml")));
                let Some(ledger) = Ledger::read(&ledger).unwrap() else { continue };
                let section = measured::section(&slug.to_string_lossy(), file, ledger.last().unwrap());
                let page = std::fs::read_to_string(dir.join("README.md")).unwrap();
                let wanted = format!("<!-- measured: {file} -->\n{section}<!-- /measured -->");
                assert!(page.contains(&wanted), "{slug:?}: its page should have\n{wanted}");
            }
        }
    }

    /// Keys, kinds, references and claims of every recipe that is carried.
    #[test]
    fn all_recipes_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let mut read = 0;
        for folder in std::fs::read_dir(&root).unwrap().flatten() {
            for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if file.path().extension().is_some_and(|e| e == "toml") {
                    Recipe::read(&file.path(), &super::kinds()).unwrap_or_else(|e| panic!("{e}"));
                    read += 1;
                }
            }
        }
        assert!(read >= 3, "{read} recipes");
    }
}
