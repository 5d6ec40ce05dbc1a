//! Generating text: the loop, its stop conditions, and the sampler.

mod batch;
mod conversation;
mod perplexity;
mod sampler;
mod score;
mod scores;
mod text;

use std::ops::ControlFlow;
use std::time::Instant;

pub use batch::generate_batch;
pub use conversation::{Conversation, Turn, WhenFull};
pub use perplexity::{Perplexity, perplexity};
pub use sampler::{Sampler, Sampling, greedy};
pub use score::{Score, Scorer};
pub use scores::{BatchScorer, Request};
pub use text::TextStream;

use crate::error::{Error, Result};
use crate::model::Session;

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// A stop token came up; it is not part of the tokens.
    Eos,
    /// As many tokens as asked for.
    MaxTokens,
    /// The session's context is full.
    ContextFull,
    /// The caller wanted no more, as a stop string has come up.
    Caller,
}

/// What was generated, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The tokens after the prompt.
    pub tokens: Vec<u32>,
    /// Why no more followed.
    pub stop: StopReason,
    /// Time to first token: from the start of prefill until the first token is chosen, in nanoseconds.
    pub ttft_ns: u64,
    /// For each later token, from the choice of the one before until its own, in nanoseconds. The caller's
    /// `on_token` lies outside.
    pub decode_ns: Vec<u64>,
}

/// Appends `prompt` to the session and generates up to `max_tokens` tokens, calling `on_token` with each until it breaks.
///
/// # Errors
/// Those of [`Session::prefill`], sampling parameters out of range, and [`Error::NotFinite`].
pub fn generate(
    session: &mut Session<'_>,
    prompt: &[u32],
    max_tokens: usize,
    stop_tokens: &[u32],
    sampling: Sampling,
    mut on_token: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Generation> {
    let mut growing = Growing::new(prompt, max_tokens, stop_tokens, sampling)?;
    let start = Instant::now();
    let mut token = choose(&mut growing.sampler, session.prefill(prompt)?)?;
    growing.made.ttft_ns = nanoseconds(start);
    while growing.take(token, &mut on_token) {
        if session.position() == session.context() {
            growing.made.stop = StopReason::ContextFull;
            break;
        }
        let start = Instant::now();
        token = follow(&mut growing.sampler, session, token)?;
        growing.made.decode_ns.push(nanoseconds(start));
    }
    Ok(growing.made)
}

/// A sequence as it grows.
struct Growing<'a> {
    sampler: Sampler,
    max_tokens: usize,
    stop_tokens: &'a [u32],
    made: Generation,
}

impl<'a> Growing<'a> {
    fn new(prompt: &[u32], max_tokens: usize, stop_tokens: &'a [u32], sampling: Sampling) -> Result<Growing<'a>> {
        let mut sampler = Sampler::new(sampling)?;
        sampler.see(prompt);
        let made = Generation { tokens: Vec::new(), stop: StopReason::MaxTokens, ttft_ns: 0, decode_ns: Vec::new() };
        Ok(Growing { sampler, max_tokens, stop_tokens, made })
    }

    /// Adds the token chosen, if it is one of the text. Whether another is wanted; if not, `made` says why.
    fn take(&mut self, token: u32, on_token: &mut impl FnMut(u32) -> ControlFlow<()>) -> bool {
        self.made.stop = StopReason::MaxTokens;
        if self.made.tokens.len() == self.max_tokens {
            return false;
        }
        if self.stop_tokens.contains(&token) {
            self.made.stop = StopReason::Eos;
            return false;
        }
        self.made.tokens.push(token);
        self.sampler.see(&[token]);
        if on_token(token).is_break() {
            self.made.stop = StopReason::Caller;
            return false;
        }
        self.made.tokens.len() < self.max_tokens
    }
}

/// A token of `logits`, if they are numbers.
fn choose(sampler: &mut Sampler, logits: &[f32]) -> Result<u32> {
    if logits.iter().all(|logit| logit.is_finite()) { Ok(sampler.sample(logits)) } else { Err(Error::NotFinite) }
}

/// Appends `token` and chooses the next.
fn follow(sampler: &mut Sampler, session: &mut Session<'_>, token: u32) -> Result<u32> {
    if sampler.is_greedy() { session.decode_greedy(token) } else { choose(sampler, session.decode(token)?) }
}

/// Nanoseconds since `start`; a u64 holds 584 years of them.
fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
