//! Runs programs that nobody has read: a cell for one process tree, and a pool of warm Python interpreters in such cells.
//!
//! ```no_run
//! use postgrad_tasks::sandbox::{Limits, Pool, Python, Test, Verdict};
//! let pool = Pool::new(Python::find()?, 2, Limits::default(), false)?;
//! let report = pool.check(&Test::asserts("def f(x):\n    return x + 1\nassert f(1) == 2"))?;
//! assert_eq!(report.verdict, Verdict::Pass);
//! # Ok::<(), postgrad_base::Error>(())
//! ```
//!
//! - [`capabilities`]: what this machine can enforce, each with its reason; `postgrad doctor` prints it
//! - [`Jail`]: a program, its files, its limits
//! - [`Pool`]: Python tests, each in a fresh process forked from a warm interpreter
//! - [`suite`]: HumanEval and MBPP rows, pass@k
//!
//! Linux on x86-64 and aarch64. docs/SANDBOX.md has the threat model and the rates.
//! Left out on purpose: other systems (their means have nothing in common with these), third-party Python packages unless given, `/proc`.

mod caps;
mod cgroup;
#[cfg(test)]
mod escapes;
mod fd;
mod inside;
mod jail;
mod landlock;
mod pool;
mod python;
mod root;
mod seccomp;
pub mod suite;

use std::time::Duration;

use postgrad_base::{Error, Result};

pub use caps::{Capabilities, Layer, Layers, capabilities};
pub use jail::{Command, Ended, Jail, Outcome};
pub use pool::{Expect, Pool, Report, Test, Verdict};
pub use python::Python;

/// What one test may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub wall: Duration,
    /// Processor time of each process, rounded up to whole seconds.
    pub cpu: Duration,
    /// Bytes: address space of each process, and resident memory of all of them.
    pub memory: u64,
    /// Processes and threads at a time.
    pub tasks: u32,
    pub open_files: u32,
    /// Size of one file, bytes.
    pub file_bytes: u64,
    /// Size of the scratch folder, bytes, and how many files and folders it may hold.
    pub scratch_bytes: u64,
    pub scratch_files: u32,
    /// Standard output and error together, bytes.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(5),
            cpu: Duration::from_secs(5),
            memory: 1 << 30,
            tasks: 16,
            open_files: 64,
            file_bytes: 16 << 20,
            scratch_bytes: 64 << 20,
            scratch_files: 4096,
            output_bytes: 1 << 20,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        let bad = |what: &str, least: &str| {
            Err(Error::usage(format!("sandbox limit `{what}` is too small")).help(format!("at least {least}")))
        };
        if self.wall.is_zero() || self.wall > Duration::from_secs(86_400) {
            return Err(Error::usage("sandbox limit `wall` is outside 1 ms to a day"));
        }
        if self.memory < 32 << 20 {
            return bad("memory", "32 MiB");
        }
        if self.open_files < 8 {
            return bad("open_files", "8");
        }
        if self.tasks == 0 {
            return bad("tasks", "1");
        }
        Ok(())
    }
}
