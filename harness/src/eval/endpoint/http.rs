//! Requests, attempts and limits.

use super::{EndpointError, Options, names_scoring};
use std::fmt;
use std::time::Duration;
use ureq::http::HeaderValue;

/// Longest wait between attempts, in first waits.
const LONGEST_BACKOFF: u32 = 60;
/// Most bytes of a refusal that are read, and most characters that are told.
const REFUSAL_BYTES: u64 = 16 << 10;
const REFUSAL_CHARS: usize = 300;

/// A connection to one server.
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: Option<HeaderValue>,
    key: Option<String>,
    options: Options,
}

/// Without the key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url).field("options", &self.options).finish_non_exhaustive()
    }
}

/// How one attempt ended.
enum Attempt {
    Answered(Vec<u8>),
    Failed(EndpointError),
    /// The same, but a further attempt may do better, after what the server says if it does.
    Passing(EndpointError, Option<Duration>),
}

impl Client {
    pub(super) fn open(options: &Options) -> Result<Client, EndpointError> {
        let url = address(&options.url)?;
        let key = options.key_variable.as_deref().map(key).transpose()?;
        let authorization = key.as_deref().zip(options.key_variable.as_ref()).map(|(key, variable)| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| EndpointError::Key(format!("{variable}, as it is sent,")))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(options.timeout))
            .http_status_as_error(false)
            // A redirection could lead the key elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Not by the environment.
            .proxy(None)
            .user_agent("tritmark")
            .build();
        let authorization = authorization.transpose()?;
        Ok(Client { agent: config.into(), url, authorization, key, options: options.clone() })
    }

    /// The body of a successful response.
    pub(super) fn post(&self, request: &serde_json::Value) -> Result<Vec<u8>, EndpointError> {
        let body = request.to_string();
        let longest = self.options.backoff * LONGEST_BACKOFF;
        let mut backoff = self.options.backoff;
        let mut left = self.options.retries;
        loop {
            match self.attempt(&body) {
                Attempt::Answered(response) => return Ok(response),
                Attempt::Passing(_, wait) if left > 0 => {
                    left -= 1;
                    std::thread::sleep(wait.unwrap_or_default().max(backoff).min(longest));
                    backoff = (backoff * 2).min(longest);
                }
                Attempt::Failed(error) | Attempt::Passing(error, _) => return Err(error),
            }
        }
    }

    fn attempt(&self, body: &str) -> Attempt {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return self.broken(error),
        };
        let status = response.status().as_u16();
        if status == 200 {
            let most = self.options.most_bytes;
            return match response.body_mut().with_config().limit(most).read_to_vec() {
                Ok(body) => Attempt::Answered(body),
                Err(error) => self.broken(error),
            };
        }
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut said = Vec::new();
        let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let _ = std::io::Read::read_to_end(&mut std::io::Read::take(&mut reader, REFUSAL_BYTES), &mut said);
        let message = self.told(&said);
        let passing = (status == 429 || status >= 500) && !names_scoring(&message);
        let error = EndpointError::Refused { status, message };
        if passing { Attempt::Passing(error, wait.map(Duration::from_secs)) } else { Attempt::Failed(error) }
    }

    fn broken(&self, error: ureq::Error) -> Attempt {
        match error {
            ureq::Error::Timeout(_) => Attempt::Failed(EndpointError::TimedOut(self.options.timeout)),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Attempt::Failed(EndpointError::TimedOut(self.options.timeout))
            }
            ureq::Error::BodyExceedsLimit(most) => Attempt::Failed(EndpointError::TooLarge(most)),
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => {
                Attempt::Passing(EndpointError::Unreachable(format!("{}: {error}", self.url)), None)
            }
            other => Attempt::Failed(EndpointError::Unreachable(format!("{}: {other}", self.url))),
        }
    }

    /// The beginning of what a server said, in one line, without the key.
    fn told(&self, said: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(said).into_owned();
        if let Some(key) = &self.key {
            text = text.replace(key, "(key)");
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        text.chars().filter(|c| !c.is_control()).take(REFUSAL_CHARS).collect()
    }
}

/// Where completions are asked for.
fn address(given: &str) -> Result<String, EndpointError> {
    let wrong = |reason: &str| EndpointError::Url { url: given.to_owned(), reason: reason.to_owned() };
    let url = given.trim_end_matches('/');
    if url.starts_with("https://") {
        return Err(wrong("https is not built in; reach it through a proxy on this machine"));
    }
    let place = url.strip_prefix("http://").filter(|place| !place.is_empty() && !place.starts_with('/'));
    let place = place.ok_or_else(|| wrong("an address of the form http://host:port is needed"))?;
    if place.contains(['?', '#', '@']) {
        return Err(wrong("a query, a fragment or a user name is not understood"));
    }
    if url.ends_with("/chat/completions") {
        return Err(wrong("completions are needed, not chat completions"));
    }
    let rest = match url {
        _ if url.ends_with("/completions") => "",
        _ if url.ends_with("/v1") => "/completions",
        _ => "/v1/completions",
    };
    let url = format!("{url}{rest}");
    url.parse::<ureq::http::Uri>().map_err(|error| wrong(&error.to_string()))?;
    Ok(url)
}

fn key(variable: &str) -> Result<String, EndpointError> {
    let key = std::env::var(variable).ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    key.ok_or_else(|| EndpointError::Key(variable.to_owned()))
}
