//! Whether a recipe is committed, and in which commit: what keeps a ledger from being written for claims that were made up
//! after the run.

use std::path::Path;
use std::process::Command;

use postgrad_base::{Error, Result};

/// A committed file.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The commit that last changed the file.
    pub file: String,
    /// The commit that is checked out.
    pub head: String,
    /// Whether tracked sources (Rust, Cargo files) differ from it.
    pub modified_code: bool,
}

/// The commits of a file that is committed and unmodified. Errors: it is not, with the mend.
pub fn committed(path: &Path) -> Result<Committed> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mend =
        || "commit the recipe with its claims, then verify; `verify --trial` looks at other seeds and records nothing";
    let git = |args: &[&str]| -> Result<String> {
        let out = Command::new("git").arg("-C").arg(dir).args(args).output();
        let out = out.map_err(|e| Error::usage("git cannot be run").because(e).help(mend()))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            return Err(Error::usage("the recipe is not in a git repository")
                .because(said.trim().to_string())
                .at(path.display())
                .help(mend()));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_string())
    };
    if !git(&["status", "--porcelain", "--", &name])?.is_empty() {
        return Err(Error::usage("the claims are not committed").at(path.display()).help(mend()));
    }
    let file = git(&["log", "-1", "--format=%H", "--", &name])?;
    if file.is_empty() {
        return Err(Error::usage("the claims are not committed").at(path.display()).help(mend()));
    }
    let head = git(&["rev-parse", "HEAD"])?;
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let changed = git(&[
        "-C",
        &top,
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "*.rs",
        "*Cargo.toml",
        "*Cargo.lock",
    ])?;
    Ok(Committed { file, head, modified_code: !changed.is_empty() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let out = Command::new("git").arg("-C").arg(dir).args(who).args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    #[test]
    fn only_what_is_committed_and_unmodified_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tiny.toml");
        std::fs::write(&file, "a = 1\n").unwrap();
        let refused = |words: &str| {
            let e = committed(&file).unwrap_err();
            assert!(e.to_string().contains(words) && e.exit_code() == 2, "{e}");
        };
        refused("not in a git repository");
        git(dir.path(), &["init", "-q"]);
        refused("not committed");
        git(dir.path(), &["add", "."]);
        refused("not committed");
        git(dir.path(), &["commit", "-qm", "claims"]);
        let first = committed(&file).unwrap();
        assert_eq!((first.file.len(), &first.file, first.modified_code), (40, &first.head, false));
        std::fs::write(dir.path().join("x.rs"), "").unwrap();
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "-qm", "code"]);
        std::fs::write(dir.path().join("x.rs"), "//").unwrap();
        let second = committed(&file).unwrap();
        assert_eq!((&second.file, second.modified_code), (&first.file, true));
        assert_ne!(second.head, second.file);
        std::fs::write(&file, "a = 2\n").unwrap();
        refused("not committed");
    }
}
