//! `count`: a prompt and some tokens and nothing else, for whoever counts instructions.

use super::say;
use super::talk::Talk;
use crate::{answer, local};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Arguments of `count`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    talk: Talk,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    prefill: u32,
    /// Tokens decoded after it
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=4096))]
    decode: u32,
}

/// What ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The instruction-set path.
    pub isa: String,
    /// What the linear layers are.
    pub linear: String,
    /// Digest of the last logits.
    pub digest: String,
}

/// Runs `count`: one JSON object on stdout that tells which kernels ran.
///
/// # Errors
/// Whatever is wrong with the model or the options.
pub fn run(args: &Args) -> Result<u8> {
    let (opened, _) = args.talk.open()?;
    let (prefill, decode) = (args.prefill as usize, args.decode as usize);
    let mut session = opened.session(prefill + decode, local::kv(args.talk.kv))?;
    let tokens = answer::tokens(1, opened.model.config().vocab, prefill + decode);
    let (prompt, rest) = tokens.split_at(prefill);
    let mut found = answer::of(session.prefill(prompt)?)?;
    for &token in rest {
        found = answer::of(session.decode(token)?)?;
    }
    let ran = Ran {
        isa: opened.kernels.isa().to_string(),
        linear: opened.model.linear_kind().to_owned(),
        digest: found.digest,
    };
    say(serde_json::to_string(&ran)?)?;
    Ok(0)
}
