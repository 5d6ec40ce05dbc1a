//! `perplexity`: how well a model foresees a text.

use super::say;
use super::speak::Special;
use super::talk::Talk;
use crate::error::Error;
use crate::local;
use anyhow::{Result, bail};
use engine::generate::{Perplexity, perplexity};
use engine::tokenizer::Tokenizer;
use serde::Serialize;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Longest text or list of tokens, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// Positions that a window has unless more are asked for.
const USUAL_CONTEXT: usize = 2048;

/// Arguments of `perplexity`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    talk: Talk,
    /// The text, in UTF-8
    #[arg(long, value_name = "TEXT", required_unless_present = "tokens_file", conflicts_with = "tokens_file")]
    file: Option<PathBuf>,
    /// Token ids instead, a JSON array: what others made of a text
    #[arg(long, value_name = "JSON")]
    tokens_file: Option<PathBuf>,
    /// The token that goes before the text: auto (BOS where the model wants it), bos, eos or none
    #[arg(long, value_enum, default_value_t = Prefix::Auto, conflicts_with = "tokens_file")]
    prefix: Prefix,
    /// Tokens of a window (default: the model's context, at most 2048)
    #[arg(long)]
    context: Option<usize>,
    /// Tokens scored in a window after the first (default: all of it)
    #[arg(long)]
    stride: Option<usize>,
    /// Score only the first N tokens
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Prefix {
    Auto,
    Bos,
    Eos,
    None,
}

#[derive(Serialize)]
struct Output<'a> {
    engine: &'a str,
    isa: String,
    threads: usize,
    special: Option<Special>,
    /// The token put before the text.
    prefix: Option<u32>,
    context: usize,
    stride: usize,
    /// Tokens of the text, without the prefix.
    tokens: usize,
    scored: usize,
    windows: usize,
    nll: f64,
    perplexity: f64,
    perplexity_stderr: Option<f64>,
    /// Share of tokens that greedy choice would have taken.
    accuracy: f64,
    /// Of the text's UTF-8, if all of it was scored.
    bits_per_byte: Option<f64>,
}

/// Runs `perplexity`.
///
/// # Errors
/// Whatever is wrong with model, file or options.
pub fn run(args: &Args) -> Result<u8> {
    let given = args.tokens_file.as_deref().map(tokens).transpose()?;
    let text = args
        .file
        .as_deref()
        .map(|path| {
            Ok::<_, anyhow::Error>(
                String::from_utf8(read(path)?).map_err(|error| Error::Input(format!("{}: {error}", path.display())))?,
            )
        })
        .transpose()?;
    args.talk.refuse_bounded()?;
    let (opened, tokenizer) = args.talk.open()?;
    let (mut ids, prefix, tokenizer) = match (given, &text, tokenizer) {
        (Some(ids), _, tokenizer) => (ids, None, tokenizer.ok()),
        (None, text, tokenizer) => {
            let tokenizer = tokenizer?;
            let prefix = prefix(args.prefix, &tokenizer)?;
            (tokenizer.encode(text.as_deref().unwrap_or_default(), false)?, prefix, Some(tokenizer))
        }
    };
    let whole = args.limit.is_none_or(|limit| limit >= ids.len());
    ids.truncate(args.limit.unwrap_or(usize::MAX));
    let count = ids.len();
    ids.splice(0..0, prefix);
    let context = args.context.unwrap_or_else(|| opened.model.config().context.min(USUAL_CONTEXT));
    let stride = args.stride.unwrap_or(context);
    let mut session = opened.session(context, local::kv(args.talk.kv))?;
    let found = perplexity(&mut session, &ids, stride)?;
    let bytes = text.filter(|_| whole && found.scored == count).map(|text| text.len() as f64);
    let output = Output {
        engine: &args.talk.engine,
        isa: opened.kernels.isa().to_string(),
        threads: opened.pool.threads(),
        special: tokenizer.as_ref().map(|t| Special::of(t, args.prefix == Prefix::Auto && prefix.is_some())),
        prefix,
        context,
        stride,
        tokens: count,
        scored: found.scored,
        windows: found.windows,
        nll: found.nll,
        perplexity: found.perplexity,
        perplexity_stderr: found.standard_error,
        accuracy: found.greedy as f64 / found.scored as f64,
        bits_per_byte: bytes.map(|bytes| found.nll / std::f64::consts::LN_2 / bytes),
    };
    if args.json {
        say(serde_json::to_string(&output)?)?
    } else {
        say(prose(&found))?
    }
    Ok(0)
}

fn prose(found: &Perplexity) -> String {
    let error = found.standard_error.map_or_else(String::new, |error| format!(" ± {error:.4}"));
    let Perplexity { scored, windows, .. } = found;
    format!("perplexity {:.4}{error} over {scored} tokens in {windows} windows", found.perplexity)
}

fn prefix(wanted: Prefix, tokenizer: &Tokenizer) -> Result<Option<u32>> {
    let named = |id: Option<u32>, name: &str| match id {
        Some(id) => Ok(Some(id)),
        None => bail!(Error::Usage(format!("--prefix: the model has no {name}"))),
    };
    match wanted {
        Prefix::Auto => Ok(tokenizer.bos().filter(|_| tokenizer.adds_bos())),
        Prefix::Bos => named(tokenizer.bos(), "BOS"),
        Prefix::Eos => named(tokenizer.eos(), "EOS"),
        Prefix::None => Ok(None),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bad = |error: std::io::Error| Error::Input(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(bad)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(bad)?;
    if bytes.len() as u64 > MAX_FILE {
        bail!(Error::Input(format!("{}: expected at most {MAX_FILE} bytes", path.display())));
    }
    Ok(bytes)
}

/// A JSON array of ids.
fn tokens(path: &Path) -> Result<Vec<u32>> {
    let bad = |error| Error::Input(format!("{}: expected a JSON array of token ids: {error}", path.display()));
    Ok(serde_json::from_slice(&read(path)?).map_err(bad)?)
}
