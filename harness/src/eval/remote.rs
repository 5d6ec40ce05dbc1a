//! A server behind an OpenAI-compatible endpoint as a [`Backend`].

use super::backend::{Backend, Made, Refused, Scored};
use super::endpoint::{Endpoint, EndpointError, Options};
use super::log;
use super::task::Prepared;
use anyhow::Result;
use suites::eval::{Header, Part};
use suites::task::{Pair, Prompt};

/// An endpoint.
pub struct Remote {
    endpoint: Endpoint,
    options: Options,
    /// Whether its log-likelihoods were tried.
    tried: bool,
}

impl Remote {
    /// A client of the server at `url`, asked for `model`.
    ///
    /// # Errors
    /// An address that is none, a key that is not set.
    pub fn open(url: &str, model: &str, key_variable: Option<String>) -> Result<Remote> {
        let options = Options { key_variable, ..Options::new(url, model) };
        Ok(Remote { endpoint: Endpoint::open(&options)?, options, tried: false })
    }

    /// The header of an evaluation by this server.
    pub fn header(&self, prepared: &Prepared) -> Header {
        prepared.header(&self.options.url, &self.options.model)
    }

    /// This program, at work.
    pub fn part(&self) -> Part {
        log::part(None, None)
    }
}

/// What one request alone is refused for; all else ends the evaluation.
fn refused<T>(answer: Result<T, EndpointError>) -> Result<Result<T, Refused>> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(error @ EndpointError::Malformed(_)) => Ok(Err(Refused(error.to_string()))),
        Err(error) => Err(error.into()),
    }
}

impl Backend for Remote {
    fn together(&self) -> usize {
        1
    }

    fn loglikelihoods(&mut self, pairs: &[&Pair]) -> Result<Vec<Result<Scored, Refused>>> {
        if !self.tried {
            self.endpoint.check_scoring()?;
            self.tried = true;
        }
        let score = |pair: &&Pair| {
            let scored = refused(self.endpoint.score(&pair.context, &pair.continuation))?;
            Ok(scored.map(|found| Scored {
                loglikelihood: found.log_likelihood,
                tokens: found.tokens,
                // The server tells of none.
                context: 0,
                greedy: found.greedy,
                truncated: 0,
            }))
        };
        pairs.iter().map(score).collect()
    }

    fn document(&mut self, _: &str) -> Result<Result<Scored, Refused>> {
        anyhow::bail!("an endpoint gives no rolling windows: documents need one of the project's engines")
    }

    fn generate(&mut self, prompts: &[&Prompt]) -> Result<Vec<Result<Made, Refused>>> {
        let make = |prompt: &&Prompt| {
            let made = refused(self.endpoint.generate(&prompt.prompt, &prompt.stops, prompt.max_tokens))?;
            Ok(made.map(|found| Made {
                text: found.text,
                tokens: found.tokens.unwrap_or(0),
                prompt: 0,
                stop: found.finish.unwrap_or_else(|| "unknown".to_owned()),
                truncated: 0,
            }))
        };
        prompts.iter().map(make).collect()
    }
}
