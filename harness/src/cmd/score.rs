//! `score`: log-likelihoods of continuations, by the rule of EleutherAI's lm-evaluation-harness.
//!
//! Context and continuation are tokenised together and parted at the context's token count; white space that ends the
//! context goes with the continuation. What does not fit the model's context is cut off from the left.

use super::speak::Special;
use super::talk::Talk;
use crate::error::Error;
use crate::local;
use anyhow::{Context as _, Result, bail};
use engine::generate::Scorer;
use engine::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// Longest line of a file of requests.
const MAX_LINE: u64 = 16 << 20;

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
    /// Many of them: a line of JSON each, {"context": "..", "continuation": ".."}
    #[arg(long, required_unless_present = "context")]
    file: Option<PathBuf>,
}

/// A line of a file of requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    context: String,
    continuation: String,
}

/// What is printed.
#[derive(Serialize)]
struct Output<'a> {
    engine: &'a str,
    isa: String,
    threads: usize,
    special: Special,
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
        (Some(path), _) => read(path)?,
        (None, Some(context)) => {
            let one = |text: &String| Request { context: context.clone(), continuation: text.clone() };
            args.continuation.iter().map(one).collect()
        }
        (None, None) => bail!(Error::Usage("give --context and --continuation, or --file".to_owned())),
    };
    let (opened, tokenizer) = args.talk.open()?;
    let tokenizer = tokenizer?;
    let encoded = requests
        .iter()
        .enumerate()
        .map(|(index, request)| encode(&tokenizer, request).with_context(|| format!("request {}", index + 1)));
    let encoded: Vec<(Vec<u32>, usize)> = encoded.collect::<Result<_>>()?;
    let most = opened.model.config().context;
    let longest = encoded.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(1).clamp(1, most);
    let mut session = opened.session(longest, local::kv(args.talk.kv))?;
    let mut scorer = Scorer::new(&mut session);
    let mut results = Vec::new();
    for (index, (tokens, first)) in encoded.iter().enumerate() {
        // The last token need not fit: nothing follows it.
        let truncated = tokens.len().saturating_sub(most + 1);
        if truncated >= *first {
            let found = format!("{} tokens", tokens.len() - first);
            bail!(Error::Usage(format!("request {}: the continuation of {found} alone fills the context", index + 1)));
        }
        let score = scorer.score(&tokens[truncated..], first - truncated)?;
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
        special: Special::of(&tokenizer, tokenizer.adds_bos()),
        results,
    };
    super::say(serde_json::to_string(&output)?)?;
    Ok(0)
}

/// Reads a file of requests.
fn read(path: &Path) -> Result<Vec<Request>> {
    let name = path.display();
    let file = std::fs::File::open(path).map_err(|error| Error::Input(format!("{name}: {error}")))?;
    let mut reader = BufReader::new(file);
    let mut requests = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| Error::Input(format!("{name}: {error}")))? == 0 {
            break;
        }
        if line.len() as u64 == MAX_LINE {
            bail!(Error::Input(format!("{name}:{number}: expected a line of at most {MAX_LINE} bytes")));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let request = serde_json::from_slice(&line);
        requests.push(request.map_err(|error| {
            let expected = r#"{"context": "..", "continuation": ".."}"#;
            Error::Input(format!("{name}:{number}: expected {expected}, found {error}"))
        })?);
    }
    Ok(requests)
}

/// The tokens of both texts, and where the continuation begins.
fn encode(tokenizer: &Tokenizer, request: &Request) -> Result<(Vec<u32>, usize)> {
    let whole = tokenizer.encode_prompt(&format!("{}{}", request.context, request.continuation))?;
    let first = tokenizer.encode_prompt(request.context.trim_end())?.len();
    if first == 0 {
        // Nothing before the text: it is conditioned on the token that begins or ends documents.
        let Some(start) = tokenizer.bos().or(tokenizer.eos()) else {
            bail!(Error::Usage("an empty context needs a model with BOS or EOS".to_owned()));
        };
        return check([vec![start], whole].concat(), 1);
    }
    check(whole, first)
}

fn check(tokens: Vec<u32>, first: usize) -> Result<(Vec<u32>, usize)> {
    if first >= tokens.len() {
        bail!(Error::Usage("the continuation adds no token to the context".to_owned()));
    }
    Ok((tokens, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Vec<Request>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn files_are_read_and_faults_named_by_line() {
        let good = "{\"context\":\"a\",\"continuation\":\" b\"}\n\n{\"context\":\"\",\"continuation\":\"c\"}";
        let requests = lines(good).unwrap();
        assert_eq!((requests.len(), requests[0].continuation.as_str()), (2, " b"));
        for bad in ["{\"context\":\"a\"}", "{\"context\":\"a\",\"continuation\":\"b\",\"x\":1}", "nonsense", "\u{0}"] {
            let message = format!("{:#}", lines(&format!("{good}\n{bad}\n")).err().unwrap());
            assert!(message.contains("requests.jsonl:4") && message.contains("continuation"), "{bad}: {message}");
        }
        assert!(read(Path::new("/nothing.jsonl")).is_err());
        assert!(read(Path::new("/")).is_err());
    }
}
