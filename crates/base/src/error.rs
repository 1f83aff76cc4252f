//! Errors that say what is wrong, where, and the mend.
//!
//! Printed as
//! ```text
//! error: the answer column is missing
//!   at train.jsonl:12
//!   help: name it with --columns completion=KEY (found: question, solution)
//! ```
//! A program ends with [`Error::exit_code`]: 2 where the call or the configuration is wrong, 1 where the work failed.

use std::fmt;
use std::path::Path;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The call or the configuration is wrong: exit code 2.
    Usage,
    /// The work failed: exit code 1.
    Work,
    /// The user stopped it: exit code 130.
    Cancelled,
}

/// What is wrong, where it was seen (innermost first), and how to mend it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: String,
    places: Vec<String>,
    help: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, what: what.into(), places: vec![], help: None, source: None }))
    }

    /// The work failed.
    pub fn work(what: impl Into<String>) -> Self {
        Self::new(Kind::Work, what)
    }

    /// The call or the configuration is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "stopped")
    }

    /// A name that is not known, with the nearest known one (the nearest by the caller's measure comes first).
    pub fn unknown(thing: &str, name: &str, known: &[&str], nearest: Option<&str>) -> Self {
        let error = Self::usage(format!("unknown {thing} `{name}`"));
        let list = if known.is_empty() { String::new() } else { format!("known: {}", known.join(", ")) };
        match nearest {
            Some(near) => error.help(format!("did you mean `{near}`? {list}").trim_end().to_string()),
            None if !list.is_empty() => error.help(list),
            None => error,
        }
    }

    /// Adds a place: a file with its line, a record, a tensor's name.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.places.push(place.to_string());
        self
    }

    pub fn at_line(self, path: &Path, line: u64) -> Self {
        self.at(format!("{}:{line}", path.display()))
    }

    /// Says how to mend it. The first help given stays.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert(help.into());
        self
    }

    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn what(&self) -> &str {
        &self.0.what
    }

    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            Kind::Work => 1,
            Kind::Usage => 2,
            Kind::Cancelled => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.what)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        for place in &self.0.places {
            write!(f, "\n  at {place}")?;
        }
        if let Some(help) = &self.0.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to a foreign error.
pub trait Context<T> {
    /// `what` reads as a sentence without its cause: "cannot read data.jsonl".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::work(what()).because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_the_mend() {
        let e = Error::usage("bad row").at_line(Path::new("a.jsonl"), 3).help("mend it").help("not this");
        assert_eq!(e.to_string(), "bad row\n  at a.jsonl:3\n  help: mend it");
        assert_eq!(e.exit_code(), 2);
        let io: std::io::Result<()> = Err(std::io::Error::other("full"));
        let e = io.context(|| "cannot save".into()).unwrap_err();
        assert_eq!((e.to_string().as_str(), e.exit_code()), ("cannot save: full", 1));
    }
}
