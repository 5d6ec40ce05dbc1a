//! `logits`: the door through which outsiders check the engines.

use super::talk::{Talk, parse_tokens};
use crate::local;
use anyhow::{Result, bail};
use serde::Serialize;
use std::io::Write as _;

/// Arguments of `logits`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    talk: Talk,
    /// Token ids, such as 1,2,3
    #[arg(long)]
    tokens: String,
    /// A row for every position instead of the last alone
    #[arg(long)]
    all: bool,
}

/// What is printed. Logits are `f32`, written in the fewest digits that give them back.
#[derive(Serialize)]
struct Output<'a> {
    engine: &'a str,
    isa: String,
    threads: usize,
    tokens: &'a [u32],
    logits: Logits<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Logits<'a> {
    Last(&'a [f32]),
    All(Vec<&'a [f32]>),
}

/// Runs `logits`: one JSON object on stdout.
///
/// # Errors
/// Whatever is wrong with model, tokens or options; logits that are not finite, which JSON has no word for.
pub fn run(args: &Args) -> Result<u8> {
    let tokens = parse_tokens(&args.tokens)?;
    args.talk.refuse_bounded()?;
    let (opened, _) = args.talk.open()?;
    let mut session = opened.session(tokens.len(), local::kv(args.talk.kv))?;
    let rows = match args.all {
        true => session.prefill_all(&tokens)?,
        false => session.prefill(&tokens)?.to_vec(),
    };
    if !rows.iter().all(|logit| logit.is_finite()) {
        bail!(engine::Error::NotFinite);
    }
    let logits = match args.all {
        true => Logits::All(rows.chunks(opened.model.config().vocab).collect()),
        false => Logits::Last(&rows),
    };
    let output = Output {
        engine: &args.talk.engine,
        isa: opened.kernels.isa().to_string(),
        threads: opened.pool.threads(),
        tokens: &tokens,
        logits,
    };
    match write(&output) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        done => Ok(done.map(|()| 0)?),
    }
}

/// Straight to stdout: the text of all rows would take several times their memory.
fn write(output: &Output<'_>) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer(&mut out, output).map_err(std::io::Error::from)?;
    writeln!(out)?;
    out.flush()
}
