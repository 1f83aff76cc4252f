//! The sampling engine: many sequences at once over anything that gives next-token logits.
//!
//! A [`Source`] is a decoder, several models combined, a walk over chosen blocks: it keeps a state per sequence, reads new
//! tokens into it and returns logits of the last. The engine encodes a group's prompt once and forks it, fills finished
//! places with waiting sequences, applies each sequence's own rules and random stream, and records log-probs, entropies and
//! why it stopped. A sequence's tokens depend on its prompt, settings and stream alone, not on its company.
//!
//! String stops live above (they need a tokenizer); here a stop is a token or a budget, or a caller's predicate.

use std::collections::VecDeque;
use std::sync::Arc;

use postgrad_base::cancel::Cancel;
use postgrad_base::{Result, Stream};

use crate::logits::{Rules, pick};

/// Next-token logits with a state per sequence.
pub trait Source {
    type State;

    /// A state that has read nothing.
    fn start(&self) -> Self::State;

    /// Reads `tokens[i]` (at least one) into `states[i]`; returns the logits after the last of each, `[states, vocab]`.
    fn next(&self, states: &mut [&mut Self::State], tokens: &[&[u32]]) -> Result<Vec<f32>>;

    /// A copy that goes its own way.
    fn fork(&self, state: &Self::State) -> Self::State;

    /// Forgets all but the first `len` tokens.
    fn truncate(&self, state: &mut Self::State, len: usize);

    fn vocab(&self) -> usize;

    /// The longest sequence it can hold.
    fn context(&self) -> usize;
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// An end token, which is the completion's last.
    End,
    /// The caller's predicate.
    Predicate,
    /// Its budget of tokens is spent: truncated.
    Budget,
    /// The model's context is full: truncated.
    Context,
}

impl Stop {
    pub fn truncated(self) -> bool {
        matches!(self, Self::Budget | Self::Context)
    }
}

/// Settings of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub rules: Rules,
    pub max_tokens: usize,
    /// End tokens are not allowed before this many.
    pub min_tokens: usize,
    /// All tokens that end a completion.
    pub end: Vec<u32>,
}

/// One prompt and how many completions it gets.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub settings: Arc<Settings>,
    /// Completion `i` draws from `stream.nth(i)`.
    pub stream: Stream,
    /// Number of the first completion: a prompt that was sampled before goes on where it stopped.
    pub first: usize,
    pub n: usize,
}

/// One completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub request: usize,
    pub sample: usize,
    pub tokens: Vec<u32>,
    /// Log-prob of each token under the distribution it was drawn from (after rules and temperature). Greedy: 0.
    pub behaviour: Vec<f32>,
    /// Log-prob of each token under the model itself at temperature 1.
    pub model: Vec<f32>,
    /// Entropy (nats) of the model's own distribution at each token.
    pub entropy: Vec<f32>,
    pub stop: Stop,
}

struct Active<S> {
    state: S,
    /// Tokens not read yet: the rest of the prompt, or the token just drawn.
    unread: Vec<u32>,
    stream: Stream,
    out: Completion,
    prompt_len: usize,
    settings: Arc<Settings>,
    /// Prompt and completion, for penalties.
    seen: Vec<u32>,
    finished: bool,
}

/// Ends a sequence early: `(request, sample, tokens so far)`.
pub type Predicate<'a> = &'a dyn Fn(usize, usize, &[u32]) -> bool;

/// Runs all requests with at most `places` sequences at a time. Completions go to `done` as they finish, in no fixed order.
/// Progress of a prompt too long for the context is an empty completion that stopped by [`Stop::Context`].
pub fn sample<S: Source>(
    source: &S,
    requests: &[Request],
    places: usize,
    stop_if: Option<Predicate>,
    cancel: &Cancel,
    mut done: impl FnMut(Completion) -> Result<()>,
) -> Result<()> {
    /// Prompt tokens read in one call, so that a long prompt does not hold everyone else up.
    const PROMPT_CHUNK: usize = 512;
    let places = places.max(1);
    let mut waiting: VecDeque<(usize, usize)> = VecDeque::new();
    for (r, request) in requests.iter().enumerate() {
        waiting.extend((request.first..request.first + request.n).map(|s| (r, s)));
    }
    // A group's prompt state after reading, kept while samples of it still wait.
    let mut shared: Option<(usize, S::State, Vec<f32>)> = None;
    let mut active: Vec<Active<S::State>> = Vec::new();
    while !waiting.is_empty() || !active.is_empty() {
        cancel.check()?;
        while active.len() < places {
            let Some((r, s)) = waiting.pop_front() else { break };
            let request = &requests[r];
            let mut a = new_active(source, request, r, s);
            if request.prompt.is_empty() || request.prompt.len() >= source.context() {
                done(a.out)?;
                continue;
            }
            if request.n == 1 {
                active.push(a);
                continue;
            }
            if shared.as_ref().is_none_or(|(of, _, _)| *of != r) {
                let mut state = source.start();
                let mut logits = Vec::new();
                for chunk in request.prompt.chunks(PROMPT_CHUNK) {
                    logits = source.next(&mut [&mut state], &[chunk])?;
                }
                shared = Some((r, state, logits));
            }
            let (_, state, logits) = shared.as_ref().expect("just read");
            a.state = source.fork(state);
            a.unread.clear();
            if advance(&mut a, &mut logits.clone(), source.context(), stop_if) {
                done(a.out)?;
            } else {
                active.push(a);
            }
        }
        if active.is_empty() {
            continue;
        }
        let mut states = Vec::with_capacity(active.len());
        let mut tokens: Vec<&[u32]> = Vec::with_capacity(active.len());
        for a in &mut active {
            states.push(&mut a.state);
            tokens.push(&a.unread[..a.unread.len().min(PROMPT_CHUNK)]);
        }
        let mut logits = source.next(&mut states, &tokens)?;
        let read: Vec<usize> = tokens.iter().map(|t| t.len()).collect();
        for ((a, row), read) in active.iter_mut().zip(logits.chunks_exact_mut(source.vocab())).zip(read) {
            a.unread.drain(..read);
            if a.unread.is_empty() {
                a.finished = advance(a, row, source.context(), stop_if);
            }
        }
        let mut going = Vec::with_capacity(active.len());
        for a in active {
            if a.finished { done(a.out)? } else { going.push(a) }
        }
        active = going;
    }
    Ok(())
}

fn new_active<S: Source>(source: &S, request: &Request, r: usize, sample: usize) -> Active<S::State> {
    let out = Completion {
        request: r,
        sample,
        tokens: vec![],
        behaviour: vec![],
        model: vec![],
        entropy: vec![],
        stop: Stop::Context,
    };
    Active {
        state: source.start(),
        unread: request.prompt.clone(),
        stream: request.stream.nth(sample as u64),
        out,
        prompt_len: request.prompt.len(),
        settings: request.settings.clone(),
        seen: request.prompt.clone(),
        finished: false,
    }
}

/// Draws the next token from `logits` and says whether the sequence is over.
fn advance<S>(a: &mut Active<S>, logits: &mut [f32], context: usize, stop_if: Option<Predicate>) -> bool {
    let made = a.out.tokens.len();
    if made >= a.settings.max_tokens {
        a.out.stop = Stop::Budget;
        return true;
    }
    let banned: &[u32] = if made < a.settings.min_tokens { &a.settings.end } else { &[] };
    let drawn = pick(logits, &a.settings.rules, &a.seen, a.prompt_len, banned, &mut a.stream);
    a.out.tokens.push(drawn.token);
    a.out.behaviour.push(drawn.behaviour);
    a.out.model.push(drawn.model);
    a.out.entropy.push(drawn.entropy);
    a.seen.push(drawn.token);
    let stop = if a.settings.end.contains(&drawn.token) {
        Some(Stop::End)
    } else if stop_if.is_some_and(|f| f(a.out.request, a.out.sample, &a.out.tokens)) {
        Some(Stop::Predicate)
    } else if made + 1 >= a.settings.max_tokens {
        Some(Stop::Budget)
    } else if a.seen.len() >= context {
        Some(Stop::Context)
    } else {
        None
    };
    a.unread.push(drawn.token);
    if let Some(stop) = stop {
        a.out.stop = stop;
    }
    stop.is_some()
}
