//! The log-likelihood in a response to a request with `echo` and `logprobs`.

use super::{EndpointError, Scored, malformed, one, parse};
use std::collections::HashMap;

/// How far above 0 a log-probability may lie by rounding.
const ROUNDING: f64 = 1e-3;

#[derive(serde::Deserialize)]
struct Choice {
    text: String,
    logprobs: Option<Logprobs>,
}

/// One entry a token in each.
#[derive(serde::Deserialize)]
struct Logprobs {
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f64>>>,
    top_logprobs: Option<Vec<Option<HashMap<String, f64>>>>,
    text_offset: Option<Vec<u64>>,
}

/// The same, all there and equally long.
struct Tokens {
    texts: Vec<String>,
    logprobs: Vec<Option<f64>>,
    tops: Vec<Option<HashMap<String, f64>>>,
    offsets: Vec<u64>,
}

/// Sums the continuation's tokens: those that begin at the context's length in characters, or after, and before the end of
/// what was sent.
///
/// # Errors
/// [`EndpointError::Unsupported`] if the response has no logprobs or doesn't echo, [`EndpointError::Malformed`] if its tokens
/// can't be those of what was sent.
pub(super) fn read(response: &[u8], context: &str, continuation: &str) -> Result<Scored, EndpointError> {
    let choice = one(parse::<Choice>(response)?.choices)?;
    let sent = format!("{context}{continuation}");
    if !choice.text.contains(&sent) {
        let rest = choice.text.chars().take(40).collect::<String>();
        return Err(EndpointError::Unsupported(format!("what was sent is not echoed, but {rest:?} comes")));
    }
    let tokens = tokens(choice.logprobs)?;
    let shift = shift(&tokens, &sent)?;
    let begin = shift + context.chars().count() as u64;
    let end = shift + sent.chars().count() as u64;
    let first = tokens.offsets.partition_point(|&offset| offset < begin);
    let after = tokens.offsets.partition_point(|&offset| offset < end);
    let new = tokens.offsets.len() - after;
    if new > 1 {
        return Err(malformed(format!("{new} new tokens, where 1 was the most asked for")));
    }
    if first == after || tokens.offsets[first] != begin {
        return Err(malformed("a token spans context and continuation, so they can't be parted"));
    }
    spells(&tokens.texts[first..after], continuation)?;
    sum(&tokens, first, after)
}

/// The text and log-probability of the only token of a response without `echo`; `None` if it has no text.
///
/// # Errors
/// [`EndpointError::Unsupported`] if the response has no logprobs.
pub(super) fn likeliest(response: &[u8]) -> Result<Option<(String, f64)>, EndpointError> {
    let choice = one(parse::<Choice>(response)?.choices)?;
    let absent = || EndpointError::Unsupported("generated tokens have no logprobs".to_owned());
    let logprobs = choice.logprobs.and_then(|logprobs| logprobs.token_logprobs).ok_or_else(absent)?;
    Ok(logprobs.first().copied().flatten().filter(|_| !choice.text.is_empty()).map(|logprob| (choice.text, logprob)))
}

/// # Errors
/// [`EndpointError::Unsupported`] if something is not there, [`EndpointError::Malformed`] if lengths or order are wrong.
fn tokens(logprobs: Option<Logprobs>) -> Result<Tokens, EndpointError> {
    let absent = |what: &str| EndpointError::Unsupported(format!("the response has no {what}"));
    let found = logprobs.ok_or_else(|| absent("logprobs"))?;
    let tokens = Tokens {
        texts: found.tokens.ok_or_else(|| absent("logprobs.tokens"))?,
        logprobs: found.token_logprobs.ok_or_else(|| absent("logprobs.token_logprobs"))?,
        tops: found.top_logprobs.ok_or_else(|| absent("logprobs.top_logprobs"))?,
        offsets: found.text_offset.ok_or_else(|| absent("logprobs.text_offset"))?,
    };
    let lengths = [tokens.texts.len(), tokens.logprobs.len(), tokens.tops.len(), tokens.offsets.len()];
    if lengths.iter().any(|&length| length != lengths[0]) {
        return Err(malformed(format!("its lists of tokens are {lengths:?} long, not equally")));
    }
    if lengths[0] == 0 {
        return Err(malformed("it has no tokens"));
    }
    if !tokens.offsets.is_sorted() {
        return Err(malformed("its text offsets descend"));
    }
    Ok(tokens)
}

/// Characters before what was sent: a beginning-of-sequence token that is spelled out (`<s>`), or a leading blank of its own.
fn shift(tokens: &Tokens, sent: &str) -> Result<u64, EndpointError> {
    let (first, zero) = (&tokens.texts[0], tokens.offsets[0]);
    if zero != 0 {
        return Err(malformed(format!("its text offsets begin at {zero}")));
    }
    // Bytes of a character may be spelled in any way.
    if sent.starts_with(first.as_str()) || !first.is_ascii() {
        return Ok(0);
    }
    let next = tokens.offsets.get(1).copied().unwrap_or_default();
    let length = first.chars().count() as u64;
    match first.strip_prefix(' ') {
        Some(rest) if sent.starts_with(rest) => Ok(u64::from(next == length)),
        _ if next == length || next == 0 => Ok(next),
        _ => Err(malformed(format!("its first token is {first:?}, with which what was sent does not begin"))),
    }
}

/// Checks the continuation's tokens against it where no character's bytes can be spread over several.
fn spells(texts: &[String], continuation: &str) -> Result<(), EndpointError> {
    let text = texts.concat();
    if continuation.is_ascii() && text != continuation {
        return Err(malformed(format!("the tokens at the continuation spell {text:?}, not {continuation:?}")));
    }
    Ok(())
}

fn sum(tokens: &Tokens, first: usize, after: usize) -> Result<Scored, EndpointError> {
    let mut scored = Scored { log_likelihood: 0.0, tokens: 0, greedy: true };
    for at in first..after {
        let text = &tokens.texts[at];
        let logprob = tokens.logprobs[at].ok_or_else(|| malformed(format!("no log-probability of {text:?}")))?;
        let top = tokens.tops[at].as_ref().and_then(|top| top.values().copied().max_by(f64::total_cmp));
        let top = top.ok_or_else(|| malformed(format!("no likeliest token at {text:?}")))?;
        if logprob > ROUNDING {
            return Err(malformed(format!("the log-probability of {text:?} is {logprob}")));
        }
        scored.log_likelihood += logprob;
        scored.tokens += 1;
        scored.greedy &= logprob >= top;
    }
    Ok(scored)
}
