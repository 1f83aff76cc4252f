//! Where each of the systems stands, by its recipe and its ledger.

use std::fmt;

use postgrad_base::Result;
use postgrad_lab::claims::State;
use postgrad_lab::engine::Ledger;
use postgrad_lab::recipe::Recipe;
use postgrad_lab::stage::Kind;

use crate::recipes::{File, of_slug};
use crate::rows::Row;

/// How far a system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// There is no recipe.
    Planned,
    /// There is a recipe, and nothing was verified.
    Runs,
    /// The program that its recipe needs is not on `PATH`: shown whatever the ledger says.
    Needs(String),
    /// What was verified is of another recipe, or of other versions of its stages.
    Stale,
    /// What the ledger's last revision says.
    Verified(State),
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Needs(tool) => write!(f, "needs {tool}"),
            other => f.write_str(other.name()),
        }
    }
}

impl Stand {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Runs => "runs",
            Self::Needs(_) => "needs",
            Self::Stale => "stale",
            Self::Verified(state) => state.name(),
        }
    }
}

/// A system with what there is of it.
pub struct Standing {
    pub row: &'static Row,
    pub stand: Stand,
    /// For real use (`recipe.toml`).
    pub real: Option<Recipe>,
    /// The experiment (`tiny.toml`) and where it lies.
    pub tiny: Option<(Recipe, File)>,
    /// The experiment's.
    pub ledger: Ledger,
}

impl Standing {
    /// Errors where a recipe or a ledger cannot be read.
    pub fn of(row: &'static Row, kinds: &[Kind]) -> Result<Self> {
        let read = |file: &str| -> Result<Option<(Recipe, File)>> {
            of_slug(row.slug, file).map(|f| Ok((f.recipe(kinds)?, f))).transpose()
        };
        let real = read("recipe.toml")?;
        let tiny = read("tiny.toml")?;
        let ledger = match &tiny {
            Some((_, file)) => file.ledger()?.unwrap_or_default(),
            None => Ledger::default(),
        };
        let lacks = || [&real, &tiny].into_iter().flatten().find_map(|(r, _)| r.lacks());
        let stand = match (&tiny, ledger.last()) {
            _ if lacks().is_some() => Stand::Needs(lacks().unwrap_or_default().into()),
            (Some((recipe, _)), Some(_)) if ledger.is_stale(recipe)? => Stand::Stale,
            (Some(_), Some(last)) => Stand::Verified(last.state),
            (None, _) if real.is_none() => Stand::Planned,
            _ => Stand::Runs,
        };
        Ok(Self { row, stand, real: real.map(|(r, _)| r), tiny, ledger })
    }

    /// One line of what it is.
    pub fn about(&self) -> &str {
        let recipes = self.real.iter().chain(self.tiny.as_ref().map(|(r, _)| r));
        recipes.map(|r| r.about.as_str()).find(|a| !a.is_empty()).unwrap_or_default()
    }
}
