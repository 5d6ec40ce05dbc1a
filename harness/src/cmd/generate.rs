//! `generate`: continue a prompt with either engine.

use super::say;
use super::talk::{Talk, parse_tokens};
use crate::error::Error;
use crate::local;
use anyhow::{Result, bail};
use engine::generate::{Sampling, StopReason, generate};
use serde::Serialize;

/// Arguments of `generate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    talk: Talk,
    /// Text to continue (needs a model with a tokenizer)
    #[arg(long, conflicts_with = "tokens")]
    prompt: Option<String>,
    /// Token ids to continue, such as 1,2,3, instead of text
    #[arg(long)]
    tokens: Option<String>,
    /// Tokens to generate at most
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Sample from the most likely K tokens (0: all)
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Sample from the smallest set of tokens that holds this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Seed of the sampler
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest context in tokens (default: prompt and max-tokens)
    #[arg(long)]
    context: Option<usize>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    engine: &'a str,
    isa: String,
    threads: usize,
    prompt_tokens: &'a [u32],
    tokens: &'a [u32],
    text: Option<String>,
    stop: &'static str,
    ttft_ns: u64,
    decode_ns: &'a [u64],
}

/// Runs `generate`.
///
/// # Errors
/// Whatever is wrong with model, prompt or options.
pub fn run(args: &Args) -> Result<u8> {
    let tokens = args.tokens.as_deref().map(parse_tokens).transpose()?;
    if tokens.is_none() && args.prompt.is_none() {
        bail!(Error::Usage("give --prompt or --tokens".to_owned()));
    }
    let (opened, tokenizer) = args.talk.open()?;
    let (prompt, tokenizer) = match (tokens, &args.prompt, tokenizer) {
        (None, Some(text), tokenizer) => {
            let tokenizer = tokenizer?;
            (tokenizer.encode_prompt(text)?, Some(tokenizer))
        }
        (tokens, _, tokenizer) => (tokens.unwrap_or_default(), tokenizer.ok()),
    };
    if prompt.is_empty() {
        bail!(engine::Error::EmptyPrompt);
    }
    let most = opened.model.config().context;
    let context = args.context.unwrap_or_else(|| prompt.len().saturating_add(args.max_tokens).min(most));
    let mut session = opened.session(context, local::kv(args.talk.kv))?;
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed };
    let stops = tokenizer.as_ref().map(|t| t.stops().to_vec()).unwrap_or_default();
    let generation = generate(&mut session, &prompt, args.max_tokens, &stops, sampling, |_| {})?;
    let text = tokenizer.as_ref().map(|t| t.decode_continuation(&generation.tokens)).transpose()?;
    if !args.json {
        match text {
            Some(text) => say(text)?,
            None => say(format_args!("{:?}", generation.tokens))?,
        }
        return Ok(0);
    }
    let output = Output {
        engine: &args.talk.engine,
        isa: opened.kernels.isa().to_string(),
        threads: opened.pool.threads(),
        prompt_tokens: &prompt,
        tokens: &generation.tokens,
        text,
        stop: match generation.stop {
            StopReason::Eos => "eos",
            StopReason::MaxTokens => "max_tokens",
            StopReason::ContextFull => "context_full",
        },
        ttft_ns: generation.ttft_ns,
        decode_ns: &generation.decode_ns,
    };
    say(serde_json::to_string(&output)?)?;
    Ok(0)
}
