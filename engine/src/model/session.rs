//! A conversation with a model: a cache, a position, and the working memory of the forward pass.

use super::Model;
use super::forward::{Buffers, Forward};
use super::kv::{KvCache, KvType};
use super::rope::Rope;
use crate::error::{Error, Result};
use crate::kernels::isa::Kernels;
use crate::threads::Pool;

/// What a session is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Positions that fit the cache.
    pub context: usize,
    /// Number type of the cache.
    pub kv: KvType,
    /// Most tokens evaluated together; longer prompts go in pieces, with the same result.
    pub max_batch: usize,
}

impl SessionOptions {
    /// `context` positions with the defaults: f16 cache, batches of 512.
    pub fn new(context: usize) -> SessionOptions {
        SessionOptions { context, kv: KvType::default(), max_batch: 512 }
    }
}

/// Evaluates a model, token after token.
///
/// Logits do not depend, by a bit, on the ISA, the thread count, or how a sequence is divided into calls.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a Model,
    pool: &'a Pool,
    kernels: Kernels,
    options: SessionOptions,
    rope: Rope,
    cache: KvCache,
    buffers: Buffers,
    position: usize,
    logits: Vec<f32>,
}

impl<'a> Session<'a> {
    /// A session at position 0.
    ///
    /// # Errors
    /// [`Error::Size`] if `context` or `max_batch` is 0, `context` exceeds the model's, or the cache fits no memory.
    pub fn new(model: &'a Model, pool: &'a Pool, kernels: Kernels, options: SessionOptions) -> Result<Session<'a>> {
        let SessionOptions { context, kv, max_batch } = options;
        let config = model.config();
        if context == 0 || context > config.context {
            let expected = format!("1 to the model's {}", config.context);
            return Err(Error::Size { what: "context (positions)", expected, found: context });
        }
        if max_batch == 0 {
            return Err(Error::Size { what: "max_batch (tokens)", expected: "at least 1".into(), found: 0 });
        }
        // First, as it checks the size.
        let cache = KvCache::new(config, context, kv)?;
        Ok(Session {
            model,
            pool,
            kernels,
            options,
            rope: Rope::new(config, context),
            cache,
            buffers: Buffers::new(config, max_batch.min(context), context, pool.threads()),
            position: 0,
            logits: vec![0.0; config.vocab],
        })
    }

    /// The model.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Positions that fit the cache.
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// Bytes a session of these options takes beside the model, about: cache, rotary table and attention scores.
    pub fn predict_bytes(model: &Model, threads: usize, context: usize, kv: KvType) -> u64 {
        let config = model.config();
        let table = (context as u64).saturating_mul(4 * config.head_dim as u64);
        let scores = (context as u64).saturating_mul(16 * threads as u64);
        kv.predict_bytes(config, context).saturating_add(table).saturating_add(scores)
    }

    /// Bytes of the cache when it is full.
    pub fn kv_bytes(&self) -> usize {
        self.options.kv.cache_bytes(self.model.config(), self.options.context)
    }

    /// Bytes of the rotary table.
    pub fn rope_bytes(&self) -> usize {
        self.rope.bytes()
    }

    /// Forgets all tokens from `position` on; does nothing if there are none.
    pub fn truncate(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Appends `tokens` in one batch (in pieces of `max_batch`) and returns the logits after the last, `[vocab]`.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::Token`] or [`Error::ContextFull`]; the session is then as before.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.check(tokens)?;
        let pieces = tokens.len().div_ceil(self.options.max_batch);
        for (index, piece) in tokens.chunks(self.options.max_batch).enumerate() {
            let mut logits = std::mem::take(&mut self.logits);
            self.batch(piece, if index + 1 == pieces { &mut logits } else { &mut [] });
            self.logits = logits;
        }
        Ok(&self.logits)
    }

    /// As [`Session::prefill`], with the logits after every token, `tokens x vocab`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn prefill_all(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check(tokens)?;
        let vocab = self.model.config().vocab;
        let mut logits = vec![0.0; tokens.len() * vocab];
        let max = self.options.max_batch;
        for (piece, logits) in tokens.chunks(max).zip(logits.chunks_mut(max * vocab)) {
            self.batch(piece, logits);
        }
        Ok(logits)
    }

    /// Appends one token and returns the logits after it, `[vocab]`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn decode(&mut self, token: u32) -> Result<&[f32]> {
        self.prefill(&[token])
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.config().vocab;
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some((index, token)) = tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocab) {
            return Err(Error::Token { index, token: *token, vocab });
        }
        let (context, position) = (self.options.context, self.position);
        if tokens.len() > context - position {
            return Err(Error::ContextFull { context, position, tokens: tokens.len() });
        }
        Ok(())
    }

    /// Evaluates one checked batch; `logits` has room for those of the last tokens wanted, or none.
    fn batch(&mut self, ids: &[u32], logits: &mut [f32]) {
        let Session { model, pool, kernels, rope, cache, buffers, position, .. } = self;
        pool.enter(|team| {
            let (first, tokens) = (*position, ids.len());
            let mut forward = Forward { model, team, kernels: *kernels, rope, cache, buffers, first, tokens };
            forward.blocks(ids);
            if !logits.is_empty() {
                forward.logits(logits);
            }
        });
        self.position += ids.len();
    }
}
