//! `logits`: the door through which outsiders check the engines.

use super::talk::{Talk, parse_tokens};
use crate::local;
use anyhow::{Result, anyhow};
use serde_json::json;

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

/// Runs `logits`: one JSON object on stdout.
///
/// # Errors
/// Whatever is wrong with model, tokens or options.
pub fn run(args: &Args) -> Result<u8> {
    let tokens = parse_tokens(&args.tokens).map_err(|e| anyhow!("--tokens: {e}"))?;
    let (opened, _) = args.talk.open()?;
    let mut session = opened.session(tokens.len(), local::kv(args.talk.kv))?;
    let logits = match args.all {
        true => {
            let rows = session.prefill_all(&tokens)?;
            json!(rows.chunks(opened.model.config().vocab).collect::<Vec<_>>())
        }
        false => json!(session.prefill(&tokens)?),
    };
    let output = json!({
        "engine": args.talk.engine,
        "isa": opened.kernels.isa().to_string(),
        "threads": opened.pool.threads(),
        "tokens": tokens,
        "logits": logits,
    });
    println!("{output}");
    Ok(0)
}
