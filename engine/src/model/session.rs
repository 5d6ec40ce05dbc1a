//! A conversation with a model: a cache, a position, and the working memory of the forward pass.

use super::Model;
use super::evaluate::{Evaluator, Pruned, Sequence};
use super::kv::KvType;
use super::sparse::SparseReads;
use crate::bounded::{BoundedHead, HeadReads, Scratch};
use crate::error::{Error, Result};
use crate::generate::greedy;
use crate::kernels::attention;
use crate::kernels::isa::Kernels;
use crate::kernels::sparse::Crossover;
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
    pruned: Option<Pruned<'a>>,
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
        Ok(Session { evaluator, sequence, logits: vec![0.0; model.config().vocab], pruned: None })
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
        let scores = attention::Scratch::score_bytes(context).saturating_mul(threads as u64);
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
        let Session { evaluator, sequence, logits, .. } = self;
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

    /// Appends at most `max_batch` tokens and hands out what the head would read for each, `tokens x hidden`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub(crate) fn head_inputs(&mut self, tokens: &[u32], hand: impl FnOnce(&[f32])) -> Result<()> {
        let Session { evaluator, sequence, .. } = self;
        let tokens = &tokens[..tokens.len().min(evaluator.options.max_batch)];
        evaluator.check(sequence, tokens)?;
        evaluator.head_inputs(sequence, tokens, hand);
        Ok(())
    }

    /// Appends one token and returns the logits after it, `[vocab]`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn decode(&mut self, token: u32) -> Result<&[f32]> {
        self.prefill(&[token])
    }

    /// From now on [`Session::decode_greedy`] chooses by a bounded copy of the model's head.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is the copy of another head.
    pub fn use_bounded_head(&mut self, head: &'a BoundedHead<'a>) -> Result<()> {
        if !head.is_of(self.model().head()) {
            let (name, expected) = ("output".to_owned(), "a bounded copy of this model's head".to_owned());
            return Err(Error::Tensor { name, expected, found: "one of another's".to_owned() });
        }
        self.pruned = Some(Pruned { head, scratch: Scratch::default(), reads: HeadReads::default() });
        Ok(())
    }

    /// What the bounded head has read, if one is in use.
    pub fn head_reads(&self) -> Option<HeadReads> {
        self.pruned.as_ref().map(|pruned| pruned.reads)
    }

    /// What single tokens left unread behind zero gates, if the model is sparse.
    pub fn sparse_reads(&self) -> Option<SparseReads> {
        self.model().is_sparse().then(|| self.evaluator.sparse_reads())
    }

    /// Up to what shares rows and columns are read alone, if the model is sparse.
    pub fn crossover(&self) -> Option<Crossover> {
        self.model().is_sparse().then(|| Crossover::of(self.evaluator.kernels()))
    }

    /// Appends one token and returns the likeliest to follow, the lowest id among equals: [`greedy`] of what
    /// [`Session::decode`] returns. With a bounded head most of the logits are never computed.
    ///
    /// # Errors
    /// As [`Session::prefill`], and [`Error::NotFinite`], after which the token is part of the sequence.
    pub fn decode_greedy(&mut self, token: u32) -> Result<u32> {
        let Session { evaluator, sequence, pruned, .. } = self;
        if let Some(pruned) = pruned {
            evaluator.check(sequence, &[token])?;
            return evaluator.greedy(sequence, token, pruned);
        }
        let logits = self.decode(token)?;
        if logits.iter().all(|logit| logit.is_finite()) { Ok(greedy(logits)) } else { Err(Error::NotFinite) }
    }
}
