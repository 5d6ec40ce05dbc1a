//! `count`: a prompt or some tokens in a function of their own (`answer::counted`), for whoever counts instructions.

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
    /// Tokens of the prompt, which is what is counted where none are decoded
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    prefill: u32,
    /// Tokens decoded after it, which alone are counted if there are any
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
    // What a first pass alone does, tables for one, is not counted.
    session.prefill(&prompt[..1])?;
    session.truncate(0);
    let logits = if rest.is_empty() {
        answer::counted(&mut session, &[prompt])?
    } else {
        session.prefill(prompt)?;
        answer::counted(&mut session, &rest.chunks(1).collect::<Vec<_>>())?
    };
    let ran = Ran {
        isa: opened.kernels.isa().to_string(),
        linear: opened.model.linear_kind().to_owned(),
        digest: answer::of(&logits)?.digest,
    };
    say(serde_json::to_string(&ran)?)?;
    Ok(0)
}
