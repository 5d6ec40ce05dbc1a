//! `generate`: continue a prompt with either engine.

use super::speak::{self, Speaking, Special, Text, stop_name};
use super::talk::{Head, Talk, parse_tokens};
use super::{say, together};
use crate::error::Error;
use crate::local::{self, Opened};
use crate::probe::procfs;
use anyhow::{Result, bail};
use engine::Linear;
use engine::bounded::{BoundedHead, HeadReads};
use engine::generate::{Conversation, Sampler};
use engine::model::SparseReads;
use engine::tokenizer::Tokenizer;
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::PathBuf;
use suites::record::Sparsity;

/// Arguments of `generate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) talk: Talk,
    /// Text to continue (needs a model with a tokenizer)
    #[arg(long, conflicts_with = "tokens")]
    prompt: Option<String>,
    /// Token ids to continue, such as 1,2,3, instead of text
    #[arg(long)]
    tokens: Option<String>,
    /// Many prompts, evaluated together: a line of JSON each, {"prompt": ".."} or {"tokens": [1, 2]}; one of JSON comes
    /// out for each. Prompt number i (from 0) is answered as alone with the seed --seed + i
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "tokens"])]
    prompts: Option<PathBuf>,
    /// Prompts of --prompts that are evaluated at the same time, at most
    #[arg(long, default_value_t = 16, value_parser = at_least_1)]
    pub(super) together: usize,
    /// Tokens to generate at most
    #[arg(long, default_value_t = 64)]
    pub(super) max_tokens: usize,
    /// Longest context in tokens (default: prompt and max-tokens)
    #[arg(long)]
    pub(super) context: Option<usize>,
    #[command(flatten)]
    pub(super) speaking: Speaking,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// How the head was read, as it is recorded.
#[derive(Serialize)]
struct HeadRecord {
    kind: &'static str,
    /// Type of its weights.
    weights: &'static str,
    /// Bytes of the whole head, and of its copy of 4 bits and 4 more.
    full_bytes: usize,
    copy_bytes: Option<usize>,
    /// Of them, what every token reads.
    first_bytes: Option<usize>,
    /// In decoding (the first token is chosen from all of the prompt's logits): tokens, bytes read for them, rows
    /// that the first 4 bits left open, rows of the f16 head computed, and tokens for which all of it was read.
    #[serde(flatten)]
    reads: Option<Reads>,
}

#[derive(Serialize)]
struct Reads {
    head_steps: u64,
    bytes_read: u64,
    refined_rows: u64,
    rescored_rows: u64,
    full_steps: u64,
}

impl HeadRecord {
    fn of(opened: &Opened, bounded: Option<&BoundedHead<'_>>, reads: Option<HeadReads>) -> HeadRecord {
        HeadRecord {
            kind: if bounded.is_some() { "bounded" } else { "full" },
            weights: opened.model.head().kind(),
            full_bytes: opened.model.head().bytes(),
            copy_bytes: bounded.map(BoundedHead::bytes),
            first_bytes: bounded.map(BoundedHead::first_bytes),
            reads: reads.map(|reads| Reads {
                head_steps: reads.steps,
                bytes_read: reads.bytes,
                refined_rows: reads.refined_rows,
                rescored_rows: reads.rescored_rows,
                full_steps: reads.full_steps,
            }),
        }
    }
}

#[derive(Serialize)]
struct Output<'a> {
    engine: &'a str,
    isa: String,
    threads: usize,
    head: HeadRecord,
    /// What a sparse engine left unread in decoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity: Option<Sparsity>,
    prompt_tokens: &'a [u32],
    tokens: &'a [u32],
    text: Option<String>,
    /// Of the model's tokenizer, where it has one.
    special: Option<Special>,
    /// Positions of the cache, and what was done when they were taken.
    context: usize,
    context_full: &'static str,
    dropped_tokens: usize,
    stop: &'static str,
    /// Opening and packing the weights (tokenizer, threads and kernels apart), and whether they came from the cache.
    load_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_cache: Option<bool>,
    /// Bytes of the packed weights and of the cache of keys and values, and the most that was resident, where the system
    /// tells.
    weight_bytes: usize,
    kv_bytes: usize,
    peak_rss_bytes: Option<u64>,
    ttft_ns: u64,
    decode_ns: &'a [u64],
}

fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "expected a number from 1 up".to_owned())
}

/// Runs `generate`.
///
/// # Errors
/// Whatever is wrong with model, prompt or options.
pub fn run(args: &Args) -> Result<u8> {
    if let Some(path) = &args.prompts {
        return together::run(args, path);
    }
    let tokens = args.tokens.as_deref().map(parse_tokens).transpose()?;
    if tokens.is_none() && args.prompt.is_none() {
        bail!(Error::Usage("give --prompt, --tokens or --prompts".to_owned()));
    }
    let (opened, tokenizer) = args.talk.open()?;
    let (prompt, tokenizer) = match (tokens, &args.prompt, tokenizer) {
        (None, Some(text), tokenizer) => {
            let tokenizer = tokenizer?;
            (tokenizer.encode_prompt(text)?, Some(tokenizer))
        }
        (tokens, _, tokenizer) => (tokens.unwrap_or_default(), tokenizer.ok()),
    };
    if tokenizer.is_none() && !args.speaking.stop.is_empty() {
        bail!(speak::needs_tokenizer("--stop"));
    }
    if prompt.is_empty() {
        bail!(engine::Error::EmptyPrompt);
    }
    let most = opened.model.config().context;
    let context = args.context.unwrap_or_else(|| prompt.len().saturating_add(args.max_tokens).min(most));
    let bounded = bounded(args, &opened)?;
    let mut session = opened.session(context, local::kv(args.talk.kv))?;
    if let Some(head) = &bounded {
        session.use_bounded_head(head)?;
    }
    let mut conversation = Conversation::new(session);
    let stops = tokenizer.as_ref().map(|t| t.stops().to_vec()).unwrap_or_default();
    let mut text = tokenizer.as_ref().map(|tokenizer| Text::new(tokenizer, &args.speaking.stop, !args.json));
    let on_token = |token| text.as_mut().map_or(ControlFlow::Continue(()), |text| text.push(token));
    let (sampling, when_full) = (args.speaking.sampling(0), args.speaking.when_full());
    let turn = conversation.answer(&prompt, args.max_tokens, &stops, sampling, when_full, on_token)?;
    let text = text.map(Text::finish).transpose()?.map(|(text, _)| text);
    let made = turn.made;
    if !args.json {
        // Text was printed as it came.
        return if text.is_some() { say("") } else { say(format_args!("{:?}", made.tokens)) }.map(|()| 0);
    }
    let bos_added = |tokenizer: &Tokenizer| args.tokens.is_none() && tokenizer.adds_bos();
    let output = Output {
        engine: &args.talk.engine,
        isa: opened.kernels.isa().to_string(),
        threads: opened.pool.threads(),
        head: HeadRecord::of(&opened, bounded.as_ref(), conversation.session().head_reads()),
        sparsity: local::sparsity(conversation.session(), SparseReads::default()),
        prompt_tokens: &prompt,
        tokens: &made.tokens,
        text,
        special: tokenizer.as_ref().map(|tokenizer| Special::of(tokenizer, bos_added(tokenizer))),
        context,
        context_full: args.speaking.context_full(),
        dropped_tokens: turn.dropped,
        stop: stop_name(made.stop, true),
        load_ns: opened.load_ns,
        from_cache: opened.from_cache,
        weight_bytes: opened.model.footprint().total(),
        kv_bytes: conversation.session().kv_bytes(),
        peak_rss_bytes: procfs::own_memory().peak,
        ttft_ns: made.ttft_ns,
        decode_ns: &made.decode_ns,
    };
    say(serde_json::to_string(&output)?)?;
    Ok(0)
}

/// The bounded copy of the head, if it was asked for.
fn bounded<'m>(args: &Args, opened: &'m Opened) -> Result<Option<BoundedHead<'m>>> {
    if args.talk.head()? != Head::Bounded {
        return Ok(None);
    }
    if !Sampler::new(args.speaking.sampling(0))?.is_greedy() {
        bail!(Error::Usage("--head bounded: expected --temperature 0 and --repetition-penalty 1".to_owned()));
    }
    let head = opened.model.head();
    if !matches!(head, Linear::F16(_)) {
        bail!(Error::Usage(format!(
            "--head bounded: expected an engine that keeps the head as f16, found {}",
            head.kind()
        )));
    }
    Ok(Some(local::bounded(opened)?))
}
