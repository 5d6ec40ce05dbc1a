//! `score`: log-likelihoods of continuations, by the rule of EleutherAI's lm-evaluation-harness.
//!
//! Context and continuation are tokenised together and parted at the context's token count; white space that ends the
//! context goes with the continuation. What does not fit the model's context is cut off from the left.

use super::jsonl;
use super::speak::Special;
use super::talk::Talk;
use crate::error::Error;
use crate::local;
use anyhow::{Context as _, Result, bail};
use engine::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Arguments of `score`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    talk: Talk,
    /// Text before the continuations
    #[arg(long, requires = "continuation", conflicts_with = "file")]
    context: Option<String>,
    /// A text to be scored after the context (may be repeated)
    #[arg(long, requires = "context")]
    continuation: Vec<String>,
    /// Many of them: a line of JSON each, {"context": "..", "continuation": ".."}, or as token ids, of which those from
    /// number `first` on are scored, {"tokens": [1, 2, ..], "first": 1}
    #[arg(long, required_unless_present = "context")]
    file: Option<PathBuf>,
}

/// A line of a file of requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    context: Option<String>,
    continuation: Option<String>,
    tokens: Option<Vec<u32>>,
    first: Option<usize>,
}

/// What to score.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(try_from = "Line")]
enum Request {
    /// A text after another.
    Text { context: String, continuation: String },
    /// The tokens from number `first` on, after those before.
    Tokens { tokens: Vec<u32>, first: usize },
}

impl TryFrom<Line> for Request {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        match line {
            Line { context: Some(context), continuation: Some(continuation), tokens: None, first: None } => {
                Ok(Request::Text { context, continuation })
            }
            Line { context: None, continuation: None, tokens: Some(tokens), first: Some(first) } => {
                Ok(Request::Tokens { tokens, first })
            }
            _ => Err("other keys"),
        }
    }
}

const EXPECTED: &str = r#"{"context": "..", "continuation": ".."} or {"tokens": [1, 2], "first": 1}"#;

/// What is printed.
#[derive(Serialize)]
struct Output<'a> {
    engine: &'a str,
    isa: String,
    threads: usize,
    /// Of the tokenizer, where texts were given.
    special: Option<Special>,
    results: Vec<Scored>,
}

#[derive(Serialize)]
struct Scored {
    loglikelihood: f64,
    tokens: usize,
    greedy: bool,
    /// Tokens cut off from the left.
    truncated: usize,
}

/// Runs `score`: one JSON object on stdout.
///
/// # Errors
/// Whatever is wrong with model, texts or file (with its line).
pub fn run(args: &Args) -> Result<u8> {
    let requests = match (&args.file, &args.context) {
        (Some(path), _) => jsonl::read(path, EXPECTED)?,
        (None, Some(context)) => {
            let one = |text: &String| Request::Text { context: context.clone(), continuation: text.clone() };
            args.continuation.iter().map(one).collect()
        }
        (None, None) => bail!(Error::Usage("give --context and --continuation, or --file".to_owned())),
    };
    args.talk.refuse_bounded()?;
    let (opened, tokenizer) = args.talk.open()?;
    // Token ids need none.
    let texts = requests.iter().any(|request| matches!(request, Request::Text { .. }));
    let tokenizer = if texts { Some(tokenizer?) } else { None };
    let encode = |request| match (request, &tokenizer) {
        (Request::Text { context, continuation }, Some(tokenizer)) => encode(tokenizer, &context, &continuation),
        (Request::Tokens { tokens, first }, _) => check(tokens, first),
        (Request::Text { .. }, None) => unreachable!("a tokenizer is had if there are texts"),
    };
    let encoded = requests
        .into_iter()
        .enumerate()
        .map(|(index, request)| encode(request).with_context(|| format!("request {}", index + 1)));
    let encoded: Vec<(Vec<u32>, usize)> = encoded.collect::<Result<_>>()?;
    let most = opened.model.config().context;
    let longest = encoded.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(1).clamp(1, most);
    let mut scorer = opened.scorer(longest, local::kv(args.talk.kv), crate::eval::engine::CACHE_BYTES)?;
    let (mut cut, mut asked) = (Vec::new(), Vec::new());
    for (index, (tokens, first)) in encoded.iter().enumerate() {
        // The last token need not fit: nothing follows it.
        let truncated = tokens.len().saturating_sub(most + 1);
        if truncated >= *first {
            let found = format!("{} tokens", tokens.len() - first);
            bail!(Error::Usage(format!("request {}: the continuation of {found} alone fills the context", index + 1)));
        }
        cut.push(truncated);
        asked.push(engine::generate::Request { tokens: tokens[truncated..].to_vec(), first: first - truncated });
    }
    let mut results = Vec::new();
    for (index, (score, truncated)) in scorer.score(&asked)?.into_iter().zip(cut).enumerate() {
        let score = score.with_context(|| format!("request {}", index + 1))?;
        results.push(Scored {
            loglikelihood: score.loglikelihood,
            tokens: score.tokens,
            greedy: score.greedy,
            truncated,
        });
    }
    let output = Output {
        engine: &args.talk.engine,
        isa: opened.kernels.isa().to_string(),
        threads: opened.pool.threads(),
        special: tokenizer.as_ref().map(|tokenizer| Special::of(tokenizer, tokenizer.adds_bos())),
        results,
    };
    super::say(serde_json::to_string(&output)?)?;
    Ok(0)
}

/// The tokens of both texts, and where the continuation begins.
fn encode(tokenizer: &Tokenizer, context: &str, continuation: &str) -> Result<(Vec<u32>, usize)> {
    let (tokens, first) = crate::eval::engine::encode(tokenizer, context, continuation)?;
    check(tokens, first)
}

fn check(tokens: Vec<u32>, first: usize) -> Result<(Vec<u32>, usize)> {
    if first >= tokens.len() {
        bail!(Error::Usage("the continuation adds no token to the context".to_owned()));
    }
    if first == 0 {
        bail!(Error::Usage("first: expected at least 1, as a token is scored after another, found 0".to_owned()));
    }
    Ok((tokens, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn lines(text: &str) -> Result<Vec<Request>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.jsonl");
        std::fs::write(&path, text).unwrap();
        jsonl::read(&path, EXPECTED)
    }

    #[test]
    fn files_are_read_and_faults_named_by_line() {
        let good = "{\"context\":\"a\",\"continuation\":\" b\"}\n\n{\"tokens\":[3,4],\"first\":1}";
        let text = Request::Text { context: "a".to_owned(), continuation: " b".to_owned() };
        assert_eq!(lines(good).unwrap(), [text, Request::Tokens { tokens: vec![3, 4], first: 1 }]);
        let both = "{\"context\":\"a\",\"continuation\":\"b\",\"tokens\":[1],\"first\":0}";
        let unknown = "{\"context\":\"a\",\"continuation\":\"b\",\"x\":1}";
        for bad in ["{\"context\":\"a\"}", "{\"tokens\":[1,2]}", both, unknown, "nonsense", "\u{0}"] {
            let message = format!("{:#}", lines(&format!("{good}\n{bad}\n")).err().unwrap());
            assert!(message.contains("requests.jsonl:4") && message.contains("continuation"), "{bad}: {message}");
        }
        for path in ["/nothing.jsonl", "/"] {
            assert!(jsonl::read::<Request>(Path::new(path), EXPECTED).is_err());
        }
        assert!(check(vec![1, 2], 1).is_ok() && check(vec![1, 2], 0).is_err() && check(vec![1, 2], 2).is_err());
    }
}
