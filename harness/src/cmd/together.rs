//! `generate --prompts`: many prompts continued together, a line of JSON in and out for each.

use super::speak::{Special, Text, stop_name};
use super::{generate::Args, jsonl, say};
use crate::error::Error;
use crate::local;
use anyhow::{Context as _, Result, bail};
use engine::generate::{Generation, StopReason, generate_batch};
use engine::model::Batch;
use engine::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::Path;

/// A line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, untagged)]
enum Prompt {
    /// A text to continue.
    Text { prompt: String },
    /// Token ids to continue.
    Tokens { tokens: Vec<u32> },
}

const EXPECTED: &str = r#"{"prompt": ".."} or {"tokens": [1, 2]}"#;

/// What is printed for a prompt.
#[derive(Serialize)]
struct Output<'a> {
    index: usize,
    engine: &'a str,
    isa: String,
    threads: usize,
    /// Sequences evaluated together with this one, itself counted.
    together: usize,
    prompt_tokens: &'a [u32],
    tokens: &'a [u32],
    text: Option<String>,
    special: Option<Special>,
    stop: &'static str,
    ttft_ns: u64,
    decode_ns: &'a [u64],
}

/// Runs `generate --prompts FILE`: groups of `--together` prompts, answers in the order of the file.
///
/// # Errors
/// Whatever is wrong with model, options or file (with its line).
pub fn run(args: &Args, path: &Path) -> Result<u8> {
    if args.speaking.context_full() == "shift" {
        bail!(Error::Usage("--context-full shift is for one prompt at a time".to_owned()));
    }
    let prompts: Vec<Prompt> = jsonl::read(path, EXPECTED)?;
    args.talk.refuse_bounded()?;
    let (opened, tokenizer) = args.talk.open()?;
    // Token ids need none.
    let texts = prompts.iter().any(|prompt| matches!(prompt, Prompt::Text { .. }));
    let tokenizer = if texts || !args.speaking.stop.is_empty() { Some(tokenizer?) } else { tokenizer.ok() };
    let encoded: Vec<Vec<u32>> = (1..)
        .zip(&prompts)
        .map(|(number, prompt)| encode(prompt, tokenizer.as_ref()).with_context(|| format!("prompt {number}")))
        .collect::<Result<_>>()?;
    let Some(longest) = encoded.iter().map(Vec::len).max() else { return Ok(0) };
    let most = opened.model.config().context;
    let context = args.context.unwrap_or_else(|| longest.saturating_add(args.max_tokens).min(most));
    let group = args.together.min(encoded.len());
    for (first, group) in (0..).step_by(group).zip(encoded.chunks(group)) {
        let mut batch = opened.batch(context, local::kv(args.talk.kv), group.len())?;
        let sequences = continued(args, tokenizer.as_ref(), &mut batch, group, first)?;
        for (offset, (made, text)) in sequences.iter().enumerate() {
            if made.stop == StopReason::ContextFull && args.speaking.context_full() == "error" {
                bail!(Error::Usage(format!("prompt {}: the context of {context} tokens is full", first + offset + 1)));
            }
            let from_ids = matches!(prompts[first + offset], Prompt::Tokens { .. });
            let output = Output {
                index: first + offset,
                engine: &args.talk.engine,
                isa: opened.kernels.isa().to_string(),
                threads: opened.pool.threads(),
                together: group.len(),
                prompt_tokens: &group[offset],
                tokens: &made.tokens,
                text: text.clone(),
                special: tokenizer.as_ref().map(|t| Special::of(t, !from_ids && t.adds_bos())),
                stop: stop_name(made.stop, true),
                ttft_ns: made.ttft_ns,
                decode_ns: &made.decode_ns,
            };
            say(serde_json::to_string(&output)?)?;
        }
    }
    Ok(0)
}

fn encode(prompt: &Prompt, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    let tokens = match (prompt, tokenizer) {
        (Prompt::Text { prompt }, Some(tokenizer)) => tokenizer.encode_prompt(prompt)?,
        (Prompt::Text { .. }, None) => bail!("no tokenizer"),
        (Prompt::Tokens { tokens }, _) => tokens.clone(),
    };
    if tokens.is_empty() { Err(engine::Error::EmptyPrompt.into()) } else { Ok(tokens) }
}

/// The answers of one group, whose first prompt is number `first`, and their texts.
fn continued(
    args: &Args,
    tokenizer: Option<&Tokenizer>,
    batch: &mut Batch<'_>,
    prompts: &[Vec<u32>],
    first: usize,
) -> Result<Vec<(Generation, Option<String>)>> {
    let stops = tokenizer.map(|t| t.stops().to_vec()).unwrap_or_default();
    let mut texts: Vec<Option<Text<'_>>> =
        prompts.iter().map(|_| tokenizer.map(|t| Text::new(t, &args.speaking.stop, false))).collect();
    let given: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let sampling = args.speaking.sampling(first as u64);
    let made = generate_batch(batch, &given, args.max_tokens, &stops, sampling, |index, token| {
        texts[index].as_mut().map_or(ControlFlow::Continue(()), |text| text.push(token))
    })?;
    made.into_iter()
        .zip(texts)
        .map(|(made, text)| Ok((made, text.map(Text::finish).transpose()?.map(|(text, _)| text))))
        .collect()
}
