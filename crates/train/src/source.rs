//! Where a trainer's examples come from.

use postgrad_base::{Result, Stream};
use postgrad_data::Example;
use serde_json::{Value, json};

/// A stream of examples with passes, whose place can be saved.
pub trait ExampleSource {
    /// The next example of this pass; `None` at its end.
    fn next_example(&mut self) -> Result<Option<Example>>;

    /// Begins pass number `epoch` (from 0).
    fn start(&mut self, epoch: u64) -> Result<()>;

    /// Examples of one pass, where it is known without reading everything.
    fn len(&self) -> Option<u64>;

    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    fn state(&self) -> Value;

    fn restore(&mut self, state: &Value) -> Result<()>;
}

/// Examples in memory, shuffled anew each pass.
pub struct InMemory {
    examples: Vec<Example>,
    order: Vec<usize>,
    at: usize,
    epoch: u64,
    stream: Stream,
}

impl InMemory {
    /// `stream` orders the passes.
    pub fn new(examples: Vec<Example>, stream: Stream) -> Self {
        let mut source = Self { order: vec![], at: 0, epoch: 0, stream, examples };
        source.shuffle();
        source
    }

    fn shuffle(&mut self) {
        self.order = (0..self.examples.len()).collect();
        self.stream.nth(self.epoch).shuffle(&mut self.order);
        self.at = 0;
    }

    pub fn examples(&self) -> &[Example] {
        &self.examples
    }
}

impl ExampleSource for InMemory {
    fn next_example(&mut self) -> Result<Option<Example>> {
        let example = self.order.get(self.at).map(|i| self.examples[*i].clone());
        self.at += 1;
        Ok(example)
    }

    fn start(&mut self, epoch: u64) -> Result<()> {
        self.epoch = epoch;
        self.shuffle();
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        Some(self.examples.len() as u64)
    }

    fn state(&self) -> Value {
        json!({"epoch": self.epoch, "at": self.at})
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        let number = |key: &str| {
            state[key].as_u64().ok_or_else(|| postgrad_base::Error::work(format!("the saved place lacks `{key}`")))
        };
        self.start(number("epoch")?)?;
        self.at = number("at")? as usize;
        Ok(())
    }
}
