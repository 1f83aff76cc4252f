//! What a run is given and what it leaves: limits, faults, traces, coverage.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::compile::{Branch, Compiled};
use super::value::Value;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub steps: u64,
    pub cells: u64,
    /// Calls inside calls.
    pub calls: usize,
    /// Bytes printed.
    pub output: usize,
    /// Statements recorded by a trace; later ones are dropped and the trace says so.
    pub trace: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 1_000_000, cells: 1_000_000, calls: 200, output: 64 * 1024, trace: 10_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    Steps,
    Cells,
    Calls,
    Output,
    Nesting,
    Overflow,
    DivideByZero,
    Type,
    Index,
    Key,
    Value,
    Assert,
    /// A call from outside of a function that is not there, or with the wrong number of arguments.
    Name,
}

impl FaultKind {
    /// A limit was reached (rather than an error in the program).
    pub fn is_limit(self) -> bool {
        matches!(self, Self::Steps | Self::Cells | Self::Calls | Self::Output | Self::Nesting)
    }
}

/// Why a program stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub line: u32,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for Fault {}

/// What to record besides the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pub trace: bool,
    pub coverage: bool,
}

impl Watch {
    pub const NOTHING: Watch = Watch { trace: false, coverage: false };
    pub const TRACE: Watch = Watch { trace: true, coverage: false };
    pub const COVERAGE: Watch = Watch { trace: false, coverage: true };
}

/// A variable that a statement set.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub name: Arc<str>,
    /// Set for the first time in this call.
    pub new: bool,
    /// Long values are cut to 4,096 parts.
    pub value: Value,
}

/// One statement executed, in order of execution.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceStep {
    pub line: u32,
    pub function: String,
    /// Calls around it; the outermost function has 0.
    pub depth: usize,
    pub changes: Vec<Change>,
}

/// What a run went through. Runs of the same program can be added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Times each line's statement began; lines never reached are absent.
    pub lines: BTreeMap<u32, u64>,
    /// For each branch of the program: times the condition held (the loop went on) and times not.
    pub branches: Vec<(Branch, u64, u64)>,
}

impl Coverage {
    pub fn add(&mut self, other: &Coverage) {
        for (l, n) in &other.lines {
            *self.lines.entry(*l).or_default() += n;
        }
        if self.branches.is_empty() {
            self.branches = other.branches.clone();
        } else {
            self.branches.iter_mut().zip(&other.branches).for_each(|(a, b)| {
                a.1 += b.1;
                a.2 += b.2;
            });
        }
    }

    /// Share of the program's lines that ran; 1 for a program without lines.
    pub fn line_share(&self, program: &Compiled) -> f64 {
        let lines = program.lines();
        if lines.is_empty() { 1.0 } else { self.lines.len() as f64 / lines.len() as f64 }
    }

    /// Share of the two ways of each branch that were taken; 1 for a program without branches.
    pub fn branch_share(&self) -> f64 {
        let ways = 2 * self.branches.len();
        let taken: usize = self.branches.iter().map(|(_, a, b)| usize::from(*a > 0) + usize::from(*b > 0)).sum();
        if ways == 0 { 1.0 } else { taken as f64 / ways as f64 }
    }
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    pub result: Result<Value, Fault>,
    pub steps: u64,
    pub cells: u64,
    pub output: String,
    /// Empty unless asked for.
    pub trace: Vec<TraceStep>,
    pub trace_cut: bool,
    pub coverage: Option<Coverage>,
}
