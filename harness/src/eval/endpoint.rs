//! A client of servers that speak OpenAI's completions protocol (`POST /v1/completions`), by plain HTTP.
//!
//! Log-likelihoods are asked for as lm-evaluation-harness's `local-completions` does: the whole text with `echo`,
//! `logprobs: 1` and one new token, which is dropped. lm-evaluation-harness parts context and continuation by its own
//! tokenizer; here it is by the server's `text_offset`, so that no tokenizer is needed. What comes back is checked against
//! what was sent: a server that has no `echo` or `logprobs`, or whose tokens don't spell the text, gives an error and never
//! a figure.
//!
//! There is no TLS in here. A server behind `https` is reached through a local proxy.

mod http;
mod score;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// Most stops sent: the protocol's own limit. Answers are cut at all of them here.
const MOST_STOPS: usize = 4;

/// What scoring is tried with.
const TRIALS: [&str; 4] =
    ["The capital of France is", "Once upon a time, there was", "One, two, three, four,", "The opposite of black is"];
/// How far a token's log-probability may be from itself, computed in another batch: half-precision servers differ by some 0.05.
const TOLERANCE: f64 = 0.2;

/// Where the server is and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `http://host:port`, with or without `/v1` or `/v1/completions`.
    pub url: String,
    /// The model's name at the server.
    pub model: String,
    /// Name of the environment variable that holds the API key; none is sent without. It goes over the wire as it is.
    pub key_variable: Option<String>,
    /// Longest time of one attempt, all in all.
    pub timeout: Duration,
    /// Further attempts after a status of 429 or 5xx or a broken connection.
    pub retries: u32,
    /// Wait before the first of them; it doubles each time, up to 60 times as long. A server's `Retry-After` in seconds counts
    /// if it is longer, up to the same.
    pub backoff: Duration,
    /// Largest response that is read, bytes.
    pub most_bytes: u64,
}

impl Options {
    /// Ten minutes an attempt, four further attempts after 0.5 s, 1 s, 2 s, 4 s, and 64 MiB of response.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            model: model.into(),
            key_variable: None,
            timeout: Duration::from_secs(600),
            retries: 4,
            backoff: Duration::from_millis(500),
            most_bytes: 64 << 20,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address can't be used.
    #[error("{url}: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The environment variable holds no key.
    #[error("the environment variable {0} holds no API key")]
    Key(String),
    /// The server can't give log-likelihoods: tasks that need them are not applicable to it.
    #[error("the endpoint gives no log-likelihoods of a given text (echo and logprobs): {0}")]
    Unsupported(String),
    /// The server has refused; after the last attempt, if attempts were left.
    #[error("the endpoint answered with status {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The beginning of what it said.
        message: String,
    },
    /// There was no connection, or it broke.
    #[error("no answer from the endpoint: {0}")]
    Unreachable(String),
    /// An attempt took longer than [`Options::timeout`].
    #[error("no answer from the endpoint within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The response is larger than [`Options::most_bytes`].
    #[error("the endpoint's response is larger than {0} bytes")]
    TooLarge(u64),
    /// The response is not what the protocol says, or not an answer to what was asked.
    #[error("the endpoint's response can't be used: {0}")]
    Malformed(String),
}

/// The log-likelihood of a continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Natural logarithm, summed over the continuation's tokens.
    pub log_likelihood: f64,
    /// The continuation's tokens; at least 1.
    pub tokens: u32,
    /// Whether each was the likeliest.
    pub greedy: bool,
}

/// A generated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Text before the first stop.
    pub text: String,
    /// New tokens, where the server says how many; those of a stop may be among them.
    pub tokens: Option<u32>,
    /// Why it ended, in the server's words (`stop`, `length`).
    pub finish: Option<String>,
}

/// A server.
#[derive(Debug)]
pub struct Endpoint {
    http: http::Client,
    model: String,
}

impl Endpoint {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`EndpointError::Url`] and [`EndpointError::Key`].
    pub fn open(options: &Options) -> Result<Endpoint, EndpointError> {
        Ok(Endpoint { http: http::Client::open(options)?, model: options.model.clone() })
    }

    /// The log-likelihood of `continuation` after `context`. White space between them should begin the continuation, and
    /// neither may be empty.
    ///
    /// # Errors
    /// Any [`EndpointError`]; [`EndpointError::Unsupported`] if the server can't answer such requests at all.
    pub fn score(&self, context: &str, continuation: &str) -> Result<Scored, EndpointError> {
        if context.is_empty() || continuation.is_empty() {
            return Err(EndpointError::Malformed("an empty context or continuation can't be scored".to_owned()));
        }
        let request = serde_json::json!({
            "model": &self.model,
            "prompt": format!("{context}{continuation}"),
            "temperature": 0,
            // 0 means "no limit" to some servers.
            "max_tokens": 1,
            "logprobs": 1,
            "echo": true,
            "seed": 1234,
        });
        let response = self.http.post(&request).map_err(|error| match error {
            EndpointError::Refused { message, .. } if names_scoring(&message) => EndpointError::Unsupported(message),
            other => other,
        })?;
        score::read(&response, context, continuation)
    }

    /// Whether the server's log-likelihoods can be trusted: what it generates greedily must be the likeliest when it is scored,
    /// and as likely as it said. To be called before a task that needs them: some servers pair each token with the
    /// probabilities of the next one (llama-cpp-python does, where a model has no beginning-of-sequence token).
    ///
    /// # Errors
    /// As [`Endpoint::score`]; [`EndpointError::Unsupported`] if they disagree, or if none of some texts could tell.
    pub fn check_scoring(&self) -> Result<(), EndpointError> {
        let mut told = 0;
        for context in TRIALS {
            // First what needs no more than an answer, so that a server without echo or logprobs is known as such.
            self.score(context, " so")?;
            let Some((text, logprob)) = self.likeliest(context)? else { continue };
            let scored = match self.score(context, &text) {
                // What is generated need not be a token of its own once it is read again.
                Err(EndpointError::Malformed(_)) => continue,
                scored => scored?,
            };
            if scored.tokens == 1 {
                told += 1;
                let off = (scored.log_likelihood - logprob).abs();
                if !scored.greedy || off > TOLERANCE {
                    return Err(EndpointError::Unsupported(format!(
                        "after {context:?} it generates {text:?} of log-likelihood {logprob:.3}, but scores it {:.3}",
                        scored.log_likelihood
                    )));
                }
            }
        }
        if told == 0 {
            return Err(EndpointError::Unsupported("no trial could tell whether they are right".to_owned()));
        }
        Ok(())
    }

    /// The likeliest token after `context`, and its log-probability; `None` if it has no text.
    fn likeliest(&self, context: &str) -> Result<Option<(String, f64)>, EndpointError> {
        let request = serde_json::json!({
            "model": &self.model, "prompt": context, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234,
        });
        score::likeliest(&self.http.post(&request)?)
    }

    /// What the model says after `prompt`, greedily, up to `max_tokens` tokens or the first of `stops`.
    ///
    /// # Errors
    /// Any [`EndpointError`] but [`EndpointError::Unsupported`].
    pub fn generate(&self, prompt: &str, stops: &[String], max_tokens: u32) -> Result<Generated, EndpointError> {
        let mut request = serde_json::json!({
            "model": &self.model,
            "prompt": prompt,
            "temperature": 0,
            "max_tokens": max_tokens,
            "seed": 1234,
        });
        let sent = stops.iter().filter(|stop| !stop.is_empty()).take(MOST_STOPS).collect::<Vec<_>>();
        if !sent.is_empty() {
            request["stop"] = serde_json::json!(sent);
        }
        let response = self.http.post(&request)?;
        let response: Completion<GeneratedChoice> = parse(&response)?;
        let tokens = response.usage.and_then(|usage| usage.completion_tokens);
        let choice = one(response.choices)?;
        if let Some(tokens) = tokens.filter(|&tokens| tokens > max_tokens) {
            return Err(malformed(format!("{tokens} new tokens, where {max_tokens} were the most asked for")));
        }
        Ok(Generated { text: cut(&choice.text, stops).to_owned(), tokens, finish: choice.finish_reason })
    }
}

/// `text` up to the first of `stops`.
fn cut<'a>(text: &'a str, stops: &[String]) -> &'a str {
    let ends = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str()));
    &text[..ends.min().unwrap_or(text.len())]
}

/// Whether a refusal speaks of what only scoring asks for.
fn names_scoring(message: &str) -> bool {
    let message = message.to_lowercase();
    ["logprob", "logits_all", "echo"].iter().any(|word| message.contains(word))
}

fn malformed(message: impl Into<String>) -> EndpointError {
    EndpointError::Malformed(message.into())
}

/// A response; of its fields those that are used.
#[derive(serde::Deserialize)]
struct Completion<C> {
    choices: Vec<C>,
    usage: Option<Usage>,
}

#[derive(serde::Deserialize)]
struct Usage {
    completion_tokens: Option<u32>,
}

#[derive(serde::Deserialize)]
struct GeneratedChoice {
    text: String,
    finish_reason: Option<String>,
}

fn parse<'a, C: serde::Deserialize<'a>>(response: &'a [u8]) -> Result<Completion<C>, EndpointError> {
    serde_json::from_slice(response).map_err(|error| malformed(error.to_string()))
}

/// The only choice.
fn one<C>(choices: Vec<C>) -> Result<C, EndpointError> {
    let count = choices.len();
    let mut choices = choices.into_iter();
    choices.next().filter(|_| count == 1).ok_or_else(|| malformed(format!("{count} choices, where 1 was asked for")))
}
