//! What a session and a batch of sequences share: the working memory of the forward pass, and sequences to run it on.

use super::Model;
use super::forward::{Buffers, Forward, Span};
use super::kv::KvCache;
use super::rope::Rope;
use super::session::SessionOptions;
use super::sparse::SparseReads;
use crate::bounded::{BoundedHead, HeadReads, Scratch};
use crate::error::{Error, Result};
use crate::kernels::isa::Kernels;
use crate::threads::{Pool, Team};

/// A cache, and how many positions of it are in use.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) cache: KvCache,
    pub(super) position: usize,
}

/// A bounded copy of the model's head in use.
#[derive(Debug)]
pub(super) struct Pruned<'a> {
    pub(super) head: &'a BoundedHead<'a>,
    pub(super) scratch: Scratch,
    pub(super) reads: HeadReads,
}

/// Bytes of logits held at once.
const LOGITS_BYTES: usize = 48 << 20;

/// Runs batches through a model.
#[derive(Debug)]
pub(super) struct Evaluator<'a> {
    pub(super) model: &'a Model,
    pool: &'a Pool,
    kernels: Kernels,
    pub(super) options: SessionOptions,
    pub(super) rope: Rope,
    buffers: Buffers,
}

impl<'a> Evaluator<'a> {
    /// An evaluator and `sequences` empty sequences, each with a cache for `options.context` positions.
    ///
    /// # Errors
    /// [`Error::Size`] if `sequences`, `context` or `max_batch` is 0, `context` exceeds the model's, or the cache fits no
    /// memory.
    pub(super) fn new(
        model: &'a Model,
        pool: &'a Pool,
        kernels: Kernels,
        options: SessionOptions,
        sequences: usize,
    ) -> Result<(Evaluator<'a>, Vec<Sequence>)> {
        let SessionOptions { context, kv, max_batch } = options;
        let config = model.config();
        if context == 0 || context > config.context {
            let expected = format!("1 to the model's {}", config.context);
            return Err(Error::Size { what: "context (positions)", expected, found: context });
        }
        for (what, found) in [("max_batch (tokens)", max_batch), ("sequences", sequences)] {
            if found == 0 {
                return Err(Error::Size { what, expected: "at least 1".into(), found });
            }
        }
        // First, as it checks the size.
        let empty = |_| KvCache::new(config, context, kv).map(|cache| Sequence { cache, position: 0 });
        let sequences = (0..sequences).map(empty).collect::<Result<Vec<_>>>()?;
        let rows = max_batch.min(context.saturating_mul(sequences.len()));
        let buffers = Buffers::new(config, rows, context, pool.threads())?;
        let rope = Rope::new(config, context);
        Ok((Evaluator { model, pool, kernels, options, rope, buffers }, sequences))
    }

    /// The path.
    pub(super) fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// What single tokens left unread.
    pub(super) fn sparse_reads(&self) -> SparseReads {
        self.buffers.sparse.reads
    }

    /// Whether `tokens` can be appended to `sequence`.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::Token`] or [`Error::ContextFull`].
    pub(super) fn check(&self, sequence: &Sequence, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.config().vocab;
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some((index, token)) = tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocab) {
            return Err(Error::Token { index, token: *token, vocab });
        }
        let (context, position) = (self.options.context, sequence.position);
        if tokens.len() > context - position {
            return Err(Error::ContextFull { context, position, tokens: tokens.len() });
        }
        Ok(())
    }

    /// Evaluates one checked batch of at most `max_batch` tokens: each part's tokens follow its sequence. Logits after
    /// the tokens in `rows` of the batch go to `logits`, `rows x vocab`.
    pub(super) fn batch(&mut self, parts: &mut [(&mut Sequence, &[u32])], rows: &[usize], logits: &mut [f32]) {
        self.run(parts, |forward, _, _| {
            if !rows.is_empty() {
                forward.logits(rows, logits);
            }
        });
    }

    /// As [`Evaluator::batch`], a few logits at a time: `found` makes something of the number of a row of `rows` and its
    /// logits, `[vocab]`, on any of the pool's threads.
    pub(super) fn each_row<T: Send>(
        &mut self,
        parts: &mut [(&mut Sequence, &[u32])],
        rows: &[usize],
        logits: &mut Vec<f32>,
        found: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Vec<T> {
        let vocab = self.model.config().vocab;
        let at_once = (LOGITS_BYTES / (vocab * size_of::<f32>())).clamp(16, 512);
        self.run(parts, |forward, team, _| {
            let mut all: Vec<Option<T>> = rows.iter().map(|_| None).collect();
            for (first, (rows, all)) in (0..).step_by(at_once).zip(rows.chunks(at_once).zip(all.chunks_mut(at_once))) {
                logits.resize(rows.len() * vocab, 0.0);
                forward.logits(rows, logits);
                team.each_row(all, 1, |row, all| all[0] = Some(found(first + row, &logits[row * vocab..][..vocab])));
            }
            all.into_iter().flatten().collect()
        })
    }

    /// Evaluates one checked token; the likeliest to follow, by a bounded copy of the model's head.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; the token was appended then too.
    pub(super) fn greedy(&mut self, sequence: &mut Sequence, token: u32, pruned: &mut Pruned<'_>) -> Result<u32> {
        let Pruned { head, scratch, reads } = pruned;
        self.run(&mut [(sequence, &[token])], |forward, team, kernels| {
            head.greedy(team, kernels, forward.last_norm(&[0]), scratch, reads)
        })
    }

    /// Evaluates one checked batch and hands out what the head would read for each of its tokens.
    pub(super) fn head_inputs(&mut self, sequence: &mut Sequence, tokens: &[u32], hand: impl FnOnce(&[f32])) {
        let rows: Vec<usize> = (0..tokens.len()).collect();
        self.run(&mut [(sequence, tokens)], |forward, _, _| hand(forward.last_norm(&rows).f32()));
    }

    /// Runs a batch through the blocks, and `finish` after them.
    fn run<R>(
        &mut self,
        parts: &mut [(&mut Sequence, &[u32])],
        finish: impl FnOnce(&mut Forward<'_>, &Team<'_>, Kernels) -> R,
    ) -> R {
        let Evaluator { model, pool, kernels, rope, buffers, .. } = self;
        let ids: Vec<u32> = parts.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        let result = pool.enter(|team| {
            let spans = parts.iter_mut().map(|(sequence, tokens)| {
                let Sequence { cache, position } = &mut **sequence;
                Span { cache, first: *position, tokens: tokens.len() }
            });
            let mut spans: Vec<Span<'_>> = spans.collect();
            let mut forward = Forward::new(model, team, *kernels, rope, buffers, &mut spans);
            forward.blocks(&ids);
            finish(&mut forward, team, *kernels)
        });
        for (sequence, tokens) in parts {
            sequence.position += tokens.len();
        }
        result
    }
}
