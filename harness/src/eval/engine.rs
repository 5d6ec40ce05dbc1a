//! The project's own engines as a [`Backend`].

use super::backend::{Backend, Made, Refused, Scored};
use crate::cmd::speak::{Text, stop_name};
use crate::error::Error;
use crate::eval::task::Prepared;
use crate::local::{self, Opened};
use anyhow::{Result, bail};
use engine::chat::{ChatTemplate, Frame, Message};
use engine::generate::{BatchScorer, Request, Sampling, generate_batch, perplexity};
use engine::tokenizer::Tokenizer;
use std::ops::ControlFlow;
use suites::cell::KvCache;
use suites::eval::{Header, Part};
use suites::task::{Pair, Prompt};

/// Prompts continued together, if their caches fit [`CACHE_BYTES`].
const TOGETHER: usize = 16;
/// Memory for the caches of texts evaluated together, in bytes.
pub const CACHE_BYTES: u64 = 2 << 30;

/// A model in memory, with its tokenizer.
pub struct Local<'a> {
    opened: &'a Opened,
    tokenizer: &'a Tokenizer,
    kv: KvCache,
    /// Most tokens of a text.
    context: usize,
    /// Makes a conversation of a prompt.
    chat: Option<&'a ChatTemplate>,
    scorer: BatchScorer<'a>,
}

/// Tokens of a context and its continuation.
struct Encoded {
    tokens: Vec<u32>,
    /// Where the continuation begins.
    first: usize,
    /// Tokens cut off from the left.
    truncated: usize,
}

impl<'a> Local<'a> {
    /// Texts of at most `context` tokens, or as many as the model allows.
    ///
    /// # Errors
    /// More than the model allows.
    pub fn new(
        opened: &'a Opened,
        tokenizer: &'a Tokenizer,
        kv: KvCache,
        context: Option<u32>,
        chat: Option<&'a ChatTemplate>,
    ) -> Result<Local<'a>> {
        let most = opened.model.config().context;
        let context = context.map_or(most, |context| context as usize);
        if !(1..=most).contains(&context) {
            bail!(Error::Usage(format!("--context: expected 1 to the model's {most} tokens, found {context}")));
        }
        let scorer = opened.scorer(context, local::kv(kv), CACHE_BYTES)?;
        Ok(Local { opened, tokenizer, kv, context, chat, scorer })
    }

    /// The header of an evaluation by this model.
    pub fn header(&self, prepared: &Prepared, engine: &str, model: &str, digest: Option<String>) -> Header {
        Header {
            model_digest: digest,
            kv: Some(self.kv.name().to_owned()),
            head: Some(self.opened.model.head().kind().to_owned()),
            chat: self.chat.map(|template| template.name().to_owned()),
            bos: Some(self.tokenizer.adds_bos()),
            context: Some(self.context as u32),
            ..prepared.header(engine, model)
        }
    }

    /// This program, at work.
    pub fn part(&self) -> Part {
        let (isa, threads) = (self.opened.kernels.isa().to_string(), self.opened.pool.threads() as u32);
        super::log::part(Some(isa), Some(threads))
    }

    /// Context and continuation tokenised together and parted at the context's token count; white space that ends the
    /// context goes with the continuation. What does not fit is cut off from the left.
    fn encode(&self, pair: &Pair) -> Result<Result<Encoded, Refused>> {
        let Pair { context, continuation } = pair;
        let (tokens, first) = encode(self.tokenizer, context, continuation)?;
        // The last token is scored, but nothing follows it: it need not fit.
        let truncated = tokens.len().saturating_sub(self.context + 1);
        if first >= tokens.len() {
            return Ok(Err(Refused("the continuation adds no token to the context".to_owned())));
        }
        if truncated >= first {
            let (found, most) = (tokens.len() - first, self.context);
            return Ok(Err(Refused(format!("a continuation of {found} tokens fills the context of {most}"))));
        }
        Ok(Ok(Encoded { tokens: tokens[truncated..].to_vec(), first: first - truncated, truncated }))
    }

    /// The tokens of a prompt, with room for the answer, and how many were cut off from its left.
    fn prompt(&self, prompt: &Prompt) -> Result<Result<(Vec<u32>, usize), Refused>> {
        let tokens = match self.chat {
            Some(template) => self.conversation(template, &prompt.prompt)?,
            None => self.tokenizer.encode_prompt(&prompt.prompt)?,
        };
        let room = self.context.saturating_sub(prompt.max_tokens as usize);
        if room == 0 {
            let (most, wanted) = (self.context, prompt.max_tokens);
            return Ok(Err(Refused(format!("an answer of {wanted} tokens leaves the context of {most} no room"))));
        }
        if tokens.is_empty() {
            return Ok(Err(Refused("an empty prompt".to_owned())));
        }
        let cut = tokens.len().saturating_sub(room);
        Ok(Ok((tokens[cut..].to_vec(), cut)))
    }

    /// The tokens of a conversation that consists of one message of the user's. The template writes BOS itself.
    fn conversation(&self, template: &ChatTemplate, message: &str) -> Result<Vec<u32>> {
        let frame = Frame {
            bos: self.tokenizer.bos_text(),
            eos: self.tokenizer.eos_text(),
            add_generation_prompt: true,
            strftime: None,
        };
        let text = template.render(&[Message::new("user", message)], &frame)?;
        Ok(self.tokenizer.encode(&text, false)?)
    }

    /// Continues prompts together, in caches as long as they need.
    fn continued(&self, encoded: &[(Vec<u32>, usize)], prompts: &[&Prompt]) -> Result<Vec<Made>> {
        let most = prompts.iter().map(|prompt| prompt.max_tokens).max().unwrap_or(1) as usize;
        let longest = encoded.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(1);
        let context = (longest + most).min(self.context);
        let mut batch = self.opened.batch(context, local::kv(self.kv), encoded.len())?;
        let stops = self.tokenizer.stops();
        let mut texts: Vec<Text<'_>> =
            prompts.iter().map(|prompt| Text::new(self.tokenizer, &prompt.stops, false)).collect();
        let given: Vec<&[u32]> = encoded.iter().map(|(tokens, _)| tokens.as_slice()).collect();
        let mut counts = vec![0u32; prompts.len()];
        let made = generate_batch(&mut batch, &given, most, stops, Sampling::GREEDY, |index, token| {
            counts[index] += 1;
            match texts[index].push(token) {
                ControlFlow::Continue(()) if counts[index] < prompts[index].max_tokens => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?;
        let whole = made.into_iter().zip(texts).zip(encoded).map(|((made, text), (tokens, cut))| {
            let stopped = text.stopped();
            let stop = match stop_name(made.stop, stopped) {
                "interrupted" => "max_tokens",
                name => name,
            };
            Ok(Made {
                text: text.finish()?.0,
                tokens: made.tokens.len() as u32,
                prompt: tokens.len() as u32,
                stop: stop.to_owned(),
                truncated: *cut as u32,
            })
        });
        whole.collect()
    }
}

/// The tokens of both texts, and where the continuation begins. An empty context is the token that begins or ends documents.
///
/// # Errors
/// A text that cannot be tokenised; an empty context where the model has neither BOS nor EOS.
pub fn encode(tokenizer: &Tokenizer, context: &str, continuation: &str) -> Result<(Vec<u32>, usize)> {
    let whole = tokenizer.encode_prompt(&format!("{context}{continuation}"))?;
    let first = tokenizer.encode_prompt(context.trim_end())?.len();
    if first == 0 {
        return Ok(([vec![begin(tokenizer)?], whole].concat(), 1));
    }
    Ok((whole, first))
}

/// The token before a text that nothing comes before.
fn begin(tokenizer: &Tokenizer) -> Result<u32> {
    match tokenizer.bos().or(tokenizer.eos()) {
        Some(token) => Ok(token),
        None => bail!(Error::Usage("an empty context needs a model with BOS or EOS".to_owned())),
    }
}

impl Backend for Local<'_> {
    fn together(&self) -> usize {
        let bytes = self.opened.cache_bytes(self.context, local::kv(self.kv)).max(1);
        (CACHE_BYTES / bytes).clamp(1, TOGETHER as u64) as usize
    }

    fn loglikelihoods(&mut self, pairs: &[&Pair]) -> Result<Vec<Result<Scored, Refused>>> {
        let encoded: Vec<Result<Encoded, Refused>> =
            pairs.iter().map(|pair| self.encode(pair)).collect::<Result<_>>()?;
        let requests: Vec<Request> =
            encoded.iter().flatten().map(|e| Request { tokens: e.tokens.clone(), first: e.first }).collect();
        let mut scores = self.scorer.score(&requests)?.into_iter();
        let mut scored = Vec::with_capacity(pairs.len());
        for encoded in encoded {
            scored.push(match encoded {
                Ok(Encoded { first, truncated, .. }) => {
                    let score = scores.next().unwrap_or(Err(engine::Error::EmptyPrompt))?;
                    Ok(Scored {
                        loglikelihood: score.loglikelihood,
                        tokens: score.tokens as u32,
                        context: first as u32,
                        greedy: score.greedy,
                        truncated: truncated as u32,
                    })
                }
                Err(refused) => Err(refused),
            });
        }
        Ok(scored)
    }

    fn document(&mut self, text: &str) -> Result<Result<Scored, Refused>> {
        let mut tokens = vec![begin(self.tokenizer)?];
        tokens.extend(self.tokenizer.encode(text, false)?);
        if tokens.len() < 2 {
            return Ok(Err(Refused("a document without a token".to_owned())));
        }
        let context = self.context.min(tokens.len() - 1);
        let mut session = self.opened.session(context, local::kv(self.kv))?;
        let found = perplexity(&mut session, &tokens, context)?;
        let greedy = found.greedy == found.scored;
        let tokens = found.scored as u32;
        Ok(Ok(Scored { loglikelihood: -found.nll, tokens, context: 1, greedy, truncated: 0 }))
    }

    fn generate(&mut self, prompts: &[&Prompt]) -> Result<Vec<Result<Made, Refused>>> {
        let encoded: Vec<Result<(Vec<u32>, usize), Refused>> =
            prompts.iter().map(|prompt| self.prompt(prompt)).collect::<Result<_>>()?;
        let (open, asked): (Vec<_>, Vec<&Prompt>) = encoded
            .iter()
            .zip(prompts)
            .filter_map(|(encoded, &prompt)| Some((encoded.as_ref().ok()?.clone(), prompt)))
            .unzip();
        let made = if open.is_empty() { Vec::new() } else { self.continued(&open, &asked)? };
        let mut made = made.into_iter();
        let mut next = || made.next().ok_or_else(|| Refused("no answer came".to_owned()));
        Ok(encoded.into_iter().map(|encoded| encoded.and_then(|_| next())).collect())
    }
}
