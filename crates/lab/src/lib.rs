//! The laboratory's memory and its pages.
//!
//! - [`recipe`]: recipe files: stages joined by references, arms, seeds, claims
//! - [`engine`]: which stages are needed, what is there, running the rest; experiments and their ledgers
//! - [`claims`]: what an experiment was to show, and whether it did
//! - [`stage`], [`stages`]: kinds of stages, the steps of a recipe
//! - [`machine`], [`speed`]: facts about this machine and short measurements, for plans and listings
//! - [`store`]: what ran, kept in SQLite: runs, events, per-item rows
//! - [`sink`]: where a running trainer's events go: the store and `metrics.jsonl`, both cut back on resume
//! - [`compare`]: two or more runs side by side, paired where they answered the same items
//! - [`table`]: tables for the terminal and for pages
//! - [`plot`]: line and interval plots as SVG
//! - [`report`]: self-contained HTML pages of tables, plots and examples
//! - [`run_report`]: the page of one run, from its events
//! - [`measured`]: what came out, as tables for the terminal and for a recipe's README
//! - [`verify_report`]: the page of a verified recipe, and the page of all of them

pub mod claims;
pub mod compare;
pub mod engine;
pub mod machine;
pub mod measured;
pub mod plot;
pub mod recipe;
pub mod report;
pub mod run_report;
pub mod sink;
pub mod speed;
pub mod stage;
pub mod stages;
pub mod store;
pub mod table;
pub mod verify_report;

pub use compare::{Comparison, compare};
pub use plot::{DotPlot, DotRow, IntervalPlot, IntervalRow, LinePlot, Mark, Series};
pub use recipe::Recipe;
pub use report::{Answer, Answers, Example, Part, Report, Section};
pub use run_report::run_report;
pub use sink::{JsonlSink, StoreSink};
pub use store::{ActiveRun, Item, NewRun, Run, Status, Store};
pub use table::{Cell, Table, Tone};
