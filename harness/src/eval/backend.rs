//! What answers the items of a task.

use anyhow::Result;
use suites::task::{Pair, Prompt};

/// Why one request cannot be answered, where others can: its item is skipped and listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

/// How likely a continuation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Sum of ln p of its tokens.
    pub loglikelihood: f64,
    /// Its tokens.
    pub tokens: u32,
    /// Tokens before it.
    pub context: u32,
    /// Whether greedy choice would have made it.
    pub greedy: bool,
    /// Tokens cut off from the left of its context.
    pub truncated: u32,
}

/// A text that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Up to its stop.
    pub text: String,
    /// Tokens made.
    pub tokens: u32,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Why it ended: `eos`, `stop_string`, `max_tokens` or `context_full`.
    pub stop: String,
    /// Tokens cut off from the left of the prompt.
    pub truncated: u32,
}

/// An engine, an endpoint, a command.
pub trait Backend {
    /// Prompts that are best continued together.
    fn together(&self) -> usize;

    /// Scores of continuations, in order.
    ///
    /// # Errors
    /// What keeps all of them from being scored.
    fn loglikelihoods(&mut self, pairs: &[&Pair]) -> Result<Vec<Result<Scored, Refused>>>;

    /// Score of a whole document, from the token that begins documents on, in rolling windows.
    ///
    /// # Errors
    /// As [`Backend::loglikelihoods`].
    fn document(&mut self, text: &str) -> Result<Result<Scored, Refused>>;

    /// Greedy continuations, in order.
    ///
    /// # Errors
    /// As [`Backend::loglikelihoods`].
    fn generate(&mut self, prompts: &[&Prompt]) -> Result<Vec<Result<Made, Refused>>>;
}
