//! From a recipe to results: which stages are needed ([`graph`]), what is there already ([`cache`]), running the rest ([`run`]), an
//! experiment's arms and seeds ([`verify`]), and what is written down of it ([`ledger`]).

mod cache;
mod external;
mod git;
mod graph;
mod ledger;
mod run;
mod verify;

#[cfg(test)]
mod tests;

pub use cache::{Cache, Entry, Found, Made};
pub use external::{External, Resolve, externals};
pub use git::{Committed, committed};
pub use graph::{Graph, Keys, Node, Source};
pub use ledger::{Ledger, Revision};
pub use run::{Ran, Running};
pub use verify::{Point, TRIAL_SEED, Verified, Verifying, chosen, slug, stated, versions};
