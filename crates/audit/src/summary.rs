//! Metrics and counts of one evaluation, in the order they are shown.

use postgrad_numerics::Estimate;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A number with its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: String,
    pub estimate: Estimate,
    /// A share of items, shown as per cent.
    pub share: bool,
}

/// What an evaluation came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    #[serde(serialize_with = "metrics")]
    pub metrics: Vec<Metric>,
    #[serde(serialize_with = "counts")]
    pub counts: Vec<(&'static str, u64)>,
}

impl Summary {
    pub(crate) fn share(&mut self, name: impl Into<String>, estimate: Estimate) {
        self.metrics.push(Metric { name: name.into(), estimate, share: true });
    }

    pub(crate) fn value(&mut self, name: impl Into<String>, estimate: Estimate) {
        self.metrics.push(Metric { name: name.into(), estimate, share: false });
    }

    pub(crate) fn count(&mut self, name: &'static str, count: usize) {
        self.counts.push((name, count as u64));
    }

    pub fn metric(&self, name: &str) -> Option<&Estimate> {
        self.metrics.iter().find(|m| m.name == name).map(|m| &m.estimate)
    }

    pub fn counted(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(n, _)| *n == name).map(|(_, c)| *c)
    }
}

fn metrics<S: Serializer>(metrics: &[Metric], out: S) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(Some(metrics.len()))?;
    metrics.iter().try_for_each(|m| map.serialize_entry(&m.name, &m.estimate))?;
    map.end()
}

fn counts<S: Serializer>(counts: &[(&'static str, u64)], out: S) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(Some(counts.len()))?;
    counts.iter().try_for_each(|(name, count)| map.serialize_entry(name, count))?;
    map.end()
}
