//! Several sources drawn from by weight.
//!
//! `a.jsonl:0.7 b.jsonl:0.3` draws seven of ten records from the first. An epoch of a mixture ends when every source was
//! read whole at least once; the shorter ones begin again meanwhile. Without weights, an epoch reads everything once.

use std::path::Path;

use postgrad_base::{Error, Result, Stream, rng::StreamState};
use serde::{Deserialize, Serialize};

/// A path (file, folder or glob) and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSpec {
    pub path: String,
    pub weight: Option<f64>,
}

impl SourceSpec {
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), weight: None }
    }

    /// `PATH` or `PATH:WEIGHT`. A colon that belongs to the path (`C:3`, `http://host:80`, a file of that very name) is no
    /// weight.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::usage("a data path is empty"));
        }
        let Some((path, weight)) = text.rsplit_once(':').filter(|_| !Path::new(text).exists()) else {
            return Ok(Self::new(text));
        };
        let drive = path.len() == 1 && path.as_bytes()[0].is_ascii_alphabetic();
        let port = path.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
        let number = weight
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|_| weight.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)));
        match number {
            Some(weight) if !drive && !port && !path.is_empty() => {
                if !weight.is_finite() || weight < 0.0 {
                    return Err(
                        Error::usage(format!("the weight of `{path}` is {weight}")).help("weights are 0 or more")
                    );
                }
                Ok(Self { path: path.into(), weight: Some(weight) })
            }
            _ => Ok(Self::new(text)),
        }
    }

    /// Several, as words of one text or of a command line. A word that is a file's name, spaces and all, stays whole.
    pub fn parse_list(words: &[String]) -> Result<Vec<Self>> {
        let mut specs = Vec::new();
        for word in words {
            if Path::new(word).exists() || Self::parse(word).is_ok_and(|s| Path::new(&s.path).exists()) {
                specs.push(Self::parse(word)?);
            } else {
                for part in word.split_whitespace() {
                    specs.push(Self::parse(part)?);
                }
            }
        }
        let weighted = specs.iter().filter(|s| s.weight.is_some()).count();
        if weighted != 0 && weighted != specs.len() {
            let without: Vec<&str> = specs.iter().filter(|s| s.weight.is_none()).map(|s| s.path.as_str()).collect();
            return Err(Error::usage(format!("some sources have a weight, {} has none", without.join(", ")))
                .help("give every source a weight, as in a.jsonl:0.7 b.jsonl:0.3, or none"));
        }
        if weighted > 0 && specs.iter().all(|s| s.weight == Some(0.0)) {
            return Err(Error::usage("all weights of the mixture are 0"));
        }
        Ok(specs)
    }
}

/// Which source the next record comes from.
#[derive(Clone, Debug)]
pub struct Draw {
    weights: Vec<f64>,
    stream: Stream,
}

impl Draw {
    /// `stream` decides the order; weights need not sum to one.
    pub fn new(weights: Vec<f64>, stream: Stream) -> Self {
        Self { weights, stream }
    }

    pub fn next_source(&mut self) -> usize {
        if self.weights.len() == 1 { 0 } else { self.stream.weighted(&self.weights) }
    }

    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    pub fn state(&self) -> StreamState {
        self.stream.state()
    }

    pub fn restore(&mut self, state: &StreamState) -> Result<()> {
        self.stream = Stream::restore(state).ok_or_else(|| Error::work("the saved place of the mixture is damaged"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_is_a_weight_only_where_it_can_be_one() {
        let parse = |s: &str| SourceSpec::parse(s).map(|s| (s.path, s.weight)).unwrap();
        assert_eq!(parse("a.jsonl:0.7"), ("a.jsonl".into(), Some(0.7)));
        assert_eq!(parse("dir/*.jsonl.gz:2"), ("dir/*.jsonl.gz".into(), Some(2.0)));
        assert_eq!(parse(r"C:\data\a.jsonl"), (r"C:\data\a.jsonl".into(), None));
        assert_eq!(parse(r"C:\data\a.jsonl:0.5"), (r"C:\data\a.jsonl".into(), Some(0.5)));
        assert_eq!(parse("C:5"), ("C:5".into(), None));
        assert_eq!(parse("http://host:8080"), ("http://host:8080".into(), None));
        assert_eq!(parse("http://host:8080/a.jsonl:0.5"), ("http://host:8080/a.jsonl".into(), Some(0.5)));
        assert_eq!(parse("a:nan.jsonl"), ("a:nan.jsonl".into(), None));
        assert!(SourceSpec::parse("a.jsonl:-1").is_err());
        let list = SourceSpec::parse_list(&["a.jsonl:0.7 b.jsonl:0.3".into()]).unwrap();
        assert_eq!(list.iter().map(|s| s.weight.unwrap()).collect::<Vec<_>>(), [0.7, 0.3]);
        assert!(SourceSpec::parse_list(&["aa:1".into(), "bb".into()]).unwrap_err().to_string().contains("bb has none"));
        assert!(SourceSpec::parse_list(&["aa:0 bb:0".into()]).is_err());
    }

    #[test]
    fn draws_follow_the_weights_and_a_saved_place() {
        let mut draw = Draw::new(vec![0.7, 0.3], Stream::new(1, &["data", "mixture"]));
        let firsts = (0..10_000).filter(|_| draw.next_source() == 0).count();
        assert!((6_850..7_150).contains(&firsts), "{firsts}");
        let state = draw.state();
        let next: Vec<usize> = (0..50).map(|_| draw.next_source()).collect();
        let mut again = Draw::new(vec![0.7, 0.3], Stream::new(9, &["other"]));
        again.restore(&state).unwrap();
        assert_eq!(next, (0..50).map(|_| again.next_source()).collect::<Vec<_>>());
    }
}
