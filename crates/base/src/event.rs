//! Where a run sends what it measured. Trainers emit events and store nothing else; a sink keeps them
//! (a run store, a `metrics.jsonl`, a test's vector).

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What it is: `step`, `eval`, `sample`, `checkpoint`, `warning`, ...
    pub kind: String,
    /// Optimiser updates done when it happened.
    pub step: u64,
    /// Its figures and texts.
    pub fields: serde_json::Map<String, Value>,
}

impl Event {
    pub fn new(kind: &str, step: u64) -> Self {
        Self { kind: kind.into(), step, fields: Default::default() }
    }

    /// Adds a field. A float that is not finite becomes null, since JSON has none.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.fields.insert(name.into(), value);
        self
    }
}

/// Something that keeps events. Called from one thread at a time.
pub trait Sink: Send {
    fn emit(&mut self, event: &Event) -> crate::Result<()>;
}

/// Keeps nothing.
pub struct Null;

impl Sink for Null {
    fn emit(&mut self, _: &Event) -> crate::Result<()> {
        Ok(())
    }
}

/// Keeps everything in memory, for tests and reports.
#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<Vec<Event>>>);

impl Sink for Memory {
    fn emit(&mut self, event: &Event) -> crate::Result<()> {
        self.0.lock().expect("event lock").push(event.clone());
        Ok(())
    }
}

impl<F: FnMut(&Event) -> crate::Result<()> + Send> Sink for F {
    fn emit(&mut self, event: &Event) -> crate::Result<()> {
        self(event)
    }
}

/// Sends each event to several sinks.
pub struct Tee(pub Vec<Box<dyn Sink>>);

impl Sink for Tee {
    fn emit(&mut self, event: &Event) -> crate::Result<()> {
        self.0.iter_mut().try_for_each(|s| s.emit(event))
    }
}
