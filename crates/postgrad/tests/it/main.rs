//! The program as a user calls it: what works, and what it says when the call or a file is wrong.

mod benches;
mod checks;
mod eval;
mod generate;
mod methods;
mod recipes;
mod records;
mod store;
mod surface;
mod systems;
mod tune;
mod verifying;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn fixture(parts: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(parts)
}

/// The program in a folder of its own, with its cache and runs there.
struct Place(tempfile::TempDir);

/// What a call came to.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        name.to_string()
    }

    fn command(&self) -> Command {
        let mut command = Command::cargo_bin("postgrad").unwrap();
        command.current_dir(self.0.path()).env("POSTGRAD_CACHE", self.path("cache"));
        for name in ["POSTGRAD_RUNS", "POSTGRAD_THREADS", "POSTGRAD_SIMD", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    fn call(&self, args: &[&str]) -> Said {
        self.call_with(args, "")
    }

    fn call_with(&self, args: &[&str], stdin: &str) -> Said {
        let out = self.command().args(args).write_stdin(stdin).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: out.status.code(), out: text(out.stdout), err: text(out.stderr) }
    }
}

impl Said {
    /// Went well; its output.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// Went well and printed one JSON value.
    #[track_caller]
    fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Went well and printed JSON lines.
    #[track_caller]
    fn rows(self) -> Vec<Value> {
        self.ok().lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    /// Failed with this code, one message, and these words in it.
    #[track_caller]
    fn fails(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert_eq!(self.err.matches("error: ").count(), 1, "{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in: {}", self.err);
        }
    }
}
