//! Continuing a prompt.

mod sampler;

pub use sampler::{Sampler, Sampling};

use crate::error::Result;
use crate::model::Session;
use std::time::Instant;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token came; it is not among the tokens.
    Eos,
    /// As many tokens as asked for.
    MaxTokens,
    /// The KV cache is full.
    ContextFull,
}

/// A finished generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
    /// From the prompt's submission to the first token chosen, in nanoseconds.
    pub ttft_ns: u64,
    /// From each token chosen to the next, in nanoseconds.
    pub decode_ns: Vec<u64>,
}

/// Continues `prompt`, after what is in the session already, by up to `max_tokens` tokens. `on_token` sees each token as
/// it is chosen; what it does is outside the latencies.
///
/// # Errors
/// A prompt that does not fit, or bad sampling options.
pub fn generate(
    session: &mut Session<'_>,
    prompt: &[u32],
    max_tokens: usize,
    stops: &[u32],
    sampling: &Sampling,
    mut on_token: impl FnMut(u32),
) -> Result<Generation> {
    let mut sampler = Sampler::new(sampling)?;
    let mut generation =
        Generation { tokens: Vec::new(), stop: StopReason::MaxTokens, ttft_ns: 0, decode_ns: Vec::new() };
    let start = Instant::now();
    let mut token = sampler.choose(session.prefill(prompt)?);
    generation.ttft_ns = start.elapsed().as_nanos() as u64;
    while generation.tokens.len() < max_tokens {
        if stops.contains(&token) {
            generation.stop = StopReason::Eos;
            break;
        }
        generation.tokens.push(token);
        on_token(token);
        if generation.tokens.len() == max_tokens {
            break;
        }
        if session.position() == session.context() {
            generation.stop = StopReason::ContextFull;
            break;
        }
        let start = Instant::now();
        token = sampler.choose(session.decode(token)?);
        generation.decode_ns.push(start.elapsed().as_nanos() as u64);
    }
    Ok(generation)
}
