//! `generate`: continue a prompt with either engine.

use super::say;
use super::talk::{Talk, parse_tokens};
use crate::error::Error;
use crate::local;
use anyhow::{Result, bail};
use engine::generate::{Sampling, StopReason, TextStream, generate};
use engine::tokenizer::Tokenizer;
use serde::Serialize;
use std::io::Write as _;
use std::ops::ControlFlow;

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
    /// Sample from tokens at least this many times as likely as the likeliest (0: all)
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Makes tokens that came up before less likely (1: no)
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Ends before this text comes up (may be repeated)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
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
    if tokenizer.is_none() && !args.stop.is_empty() {
        bail!(Error::Usage("--stop needs a model with a tokenizer".to_owned()));
    }
    if prompt.is_empty() {
        bail!(engine::Error::EmptyPrompt);
    }
    let most = opened.model.config().context;
    let context = args.context.unwrap_or_else(|| prompt.len().saturating_add(args.max_tokens).min(most));
    let mut session = opened.session(context, local::kv(args.talk.kv))?;
    let stops = tokenizer.as_ref().map(|t| t.stops().to_vec()).unwrap_or_default();
    let mut text = tokenizer.as_ref().map(|tokenizer| Text::new(tokenizer, args));
    let on_token = |token| text.as_mut().map_or(ControlFlow::Continue(()), |text| text.push(token));
    let generation = generate(&mut session, &prompt, args.max_tokens, &stops, args.sampling(), on_token)?;
    let text = text.map(Text::finish).transpose()?;
    if !args.json {
        // Text was printed as it came.
        return if text.is_some() { say("") } else { say(format_args!("{:?}", generation.tokens)) }.map(|()| 0);
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
            StopReason::Caller => "stop_string",
        },
        ttft_ns: generation.ttft_ns,
        decode_ns: &generation.decode_ns,
    };
    say(serde_json::to_string(&output)?)?;
    Ok(0)
}

impl Args {
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        }
    }
}

/// The text as it comes: shown at once, unless it goes into JSON.
struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stream: TextStream,
    show: bool,
    whole: String,
    error: Option<anyhow::Error>,
}

impl<'a> Text<'a> {
    fn new(tokenizer: &'a Tokenizer, args: &Args) -> Text<'a> {
        let stream = TextStream::new(args.stop.iter().cloned());
        Text { tokenizer, stream, show: !args.json, whole: String::new(), error: None }
    }

    fn push(&mut self, token: u32) -> ControlFlow<()> {
        let added = self.tokenizer.piece(token).map(|bytes| self.stream.push(bytes));
        match added.map_err(anyhow::Error::from).and_then(|text| self.add(&text)) {
            Ok(()) if self.stream.stopped() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn add(&mut self, text: &str) -> Result<()> {
        self.whole.push_str(text);
        if self.show {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
        }
        Ok(())
    }

    /// All of it. A reader who has left is no error.
    fn finish(mut self) -> Result<String> {
        let rest = self.stream.finish();
        let result = self.error.take().map_or(Ok(()), Err).and_then(|()| self.add(&rest));
        let gone = |error: &anyhow::Error| {
            error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
        };
        match result {
            Err(error) if !gone(&error) => Err(error),
            _ => Ok(self.whole),
        }
    }
}
