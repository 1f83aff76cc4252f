//! Settings written as `NAME?key=value&...`, of rewards and curricula.

use std::collections::BTreeMap;

use postgrad_base::{Error, Result};

/// What was given behind the question mark.
pub(crate) struct Query {
    /// For messages: "reward `cosine`".
    of: String,
    given: BTreeMap<String, String>,
}

impl Query {
    /// Reads `key=value&...`; a key that is not known is an error.
    pub fn read(of: String, query: &str, known: &[&str]) -> Result<Self> {
        let mut given = BTreeMap::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&key) {
                return Err(Error::unknown(&format!("setting of the {of}"), key, known, None));
            }
            given.insert(key.to_string(), value.to_string());
        }
        Ok(Self { of, given })
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str)
    }

    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let number = text.parse::<f64>().ok().filter(|x| x.is_finite());
        number.ok_or_else(|| Error::usage(format!("`{key}={text}` of the {} is not a number", self.of)))
    }

    /// A number of at least `least`.
    pub fn above(&self, key: &str, default: f64, least: f64) -> Result<f64> {
        let x = self.number(key, default)?;
        if x >= least {
            return Ok(x);
        }
        Err(Error::usage(format!("`{key}` of the {} must be {least} or more", self.of)))
    }

    /// `true` or `false`; the bare key is true.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.text(key) {
            None => Ok(default),
            Some("" | "true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(text) => Err(Error::usage(format!("`{key}={text}` of the {} is neither true nor false", self.of))),
        }
    }

    /// Words parted by commas.
    pub fn list(&self, key: &str) -> Vec<String> {
        let words = self.text(key).unwrap_or("").split(',').map(str::trim);
        words.filter(|w| !w.is_empty()).map(str::to_string).collect()
    }

    /// One of some named values.
    pub fn one<T: Copy>(&self, key: &str, default: T, known: &[(&str, T)]) -> Result<T> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let found = known.iter().find(|k| k.0 == text).map(|k| k.1);
        found.ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|k| k.0).collect();
            Error::unknown(&format!("`{key}` of the {}", self.of), text, &names, None)
        })
    }
}
