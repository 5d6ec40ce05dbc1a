//! A conversation with a model: a cache, a position, and the working memory of the forward pass.

use super::Model;
use super::evaluate::{Evaluator, Sequence};
use super::kv::KvType;
use crate::error::Result;
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
    evaluator: Evaluator<'a>,
    sequence: Sequence,
    logits: Vec<f32>,
}

impl<'a> Session<'a> {
    /// A session at position 0.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) if `context` or `max_batch` is 0, `context` exceeds the model's, or the cache
    /// fits no memory.
    pub fn new(model: &'a Model, pool: &'a Pool, kernels: Kernels, options: SessionOptions) -> Result<Session<'a>> {
        let (evaluator, mut sequences) = Evaluator::new(model, pool, kernels, options, 1)?;
        let sequence = sequences.remove(0);
        Ok(Session { evaluator, sequence, logits: vec![0.0; model.config().vocab] })
    }

    /// The model.
    pub fn model(&self) -> &'a Model {
        self.evaluator.model
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.sequence.position
    }

    /// Positions that fit the cache.
    pub fn context(&self) -> usize {
        self.evaluator.options.context
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
        let Evaluator { model, options, .. } = &self.evaluator;
        options.kv.cache_bytes(model.config(), options.context)
    }

    /// Bytes of the rotary table.
    pub fn rope_bytes(&self) -> usize {
        self.evaluator.rope.bytes()
    }

    /// Forgets all tokens from `position` on; does nothing if there are none.
    pub fn truncate(&mut self, position: usize) {
        self.sequence.position = self.sequence.position.min(position);
    }

    /// Appends `tokens` in one batch (in pieces of `max_batch`) and returns the logits after the last, `[vocab]`.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`](crate::Error::EmptyPrompt), [`Error::Token`](crate::Error::Token) or
    /// [`Error::ContextFull`](crate::Error::ContextFull); the session is then as before.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        let Session { evaluator, sequence, logits } = self;
        evaluator.check(sequence, tokens)?;
        let pieces = tokens.chunks(evaluator.options.max_batch);
        let last = pieces.len() - 1;
        for (index, piece) in pieces.enumerate() {
            let rows = if index == last { &[piece.len() - 1][..] } else { &[] };
            evaluator.batch(&mut [(sequence, piece)], rows, logits);
        }
        Ok(logits)
    }

    /// As [`Session::prefill`], with the logits after every token, `tokens x vocab`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn prefill_all(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let Session { evaluator, sequence, .. } = self;
        evaluator.check(sequence, tokens)?;
        let (vocab, max) = (evaluator.model.config().vocab, evaluator.options.max_batch);
        let mut logits = vec![0.0; tokens.len() * vocab];
        let rows: Vec<usize> = (0..max.min(tokens.len())).collect();
        for (piece, logits) in tokens.chunks(max).zip(logits.chunks_mut(max * vocab)) {
            evaluator.batch(&mut [(sequence, piece)], &rows[..piece.len()], logits);
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
}
