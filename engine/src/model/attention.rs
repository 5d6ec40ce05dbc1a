//! Multi-head and grouped-query attention over the cache, shared out among the workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use self::shared::Shared;
use super::config::Config;
use super::forward::Span;
use super::kv::{Cache, KvCache};
use crate::kernels::attention::{Element, MAX_QUERIES, Query, Scratch, attend};
use crate::kernels::isa::Kernels;
use crate::quant::buffer::Plain;
use crate::threads::Team;

mod shared;

/// Most tokens of a batch in one piece of work: enough to use a head's keys from the nearest cache many times.
const MAX_TILE: usize = MAX_QUERIES;
/// Fewest tokens of a batch in one piece, where each worker gets as many: widening the cache is then worth it.
const MIN_TILE: usize = 16;
/// Pieces of work a worker gets in prefill, so that the costlier last tokens even out.
const PIECES_PER_WORKER: usize = 8;

/// The queries of a batch: `tokens x q_width`, those of each span in turn, all keys and values stored.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    pub(super) vectors: &'a [f32],
    pub(super) spans: &'a [Span<'a>],
    pub(super) layer: usize,
}

/// The queries of one span, and its cache.
#[derive(Clone, Copy)]
struct Part<'a> {
    vectors: &'a [f32],
    cache: &'a KvCache,
    /// Position of the first query.
    first: usize,
    layer: usize,
}

impl<'a> Part<'a> {
    /// The query of a token (of the span) whose vector lies at `place`.
    fn query(&self, config: &Config, token: usize, place: usize) -> Query<'a> {
        let end = self.first + token + 1;
        let start = end.saturating_sub(config.sliding_window.unwrap_or(end));
        Query { vector: &self.vectors[place..][..config.head_dim], start, end }
    }
}

/// A piece of work: the answers from element `at` of the span on.
struct Piece<'a, 'out> {
    part: Part<'a>,
    at: usize,
    out: &'out mut [f32],
}

/// Attention of every query to the positions of its span up to its own, or the last of them that a sliding window leaves;
/// answers go to `out`, `tokens x q_width`.
pub(super) fn attention(
    team: &Team<'_>,
    kernels: Kernels,
    config: &Config,
    scratch: &[Mutex<Scratch>],
    queries: Queries<'_>,
    out: &mut [f32],
) {
    let left_over = shared::left_over(team.threads(), config, queries.spans);
    let (out, shared_out) = out.split_at_mut(out.len() - left_over * config.group() * config.head_dim);
    let shared = Shared { kernels, config, queries, threads: team.threads(), heads: left_over };
    let scores: Vec<Mutex<Vec<f32>>> = scratch.iter().map(|_| Mutex::new(Vec::new())).collect();
    let pieces: Vec<Mutex<Piece<'_, '_>>> = pieces(team.threads(), config, queries, out).map(Mutex::new).collect();
    let left = AtomicUsize::new(pieces.len());
    team.run(&|worker| {
        let mut scratch = scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
        if left_over > 0 {
            shared.scores(worker, &mut scratch, &mut scores[worker].lock().unwrap_or_else(PoisonError::into_inner));
        }
        // The last tokens see the most positions: they go first.
        while let Ok(taken) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) {
            let mut piece = pieces[taken - 1].lock().unwrap_or_else(PoisonError::into_inner);
            let Piece { part, at, out } = &mut *piece;
            match part.cache {
                KvCache::F16(cache) => attend_piece(kernels, config, cache, &mut scratch, *part, *at, out),
                KvCache::F32(cache) => attend_piece(kernels, config, cache, &mut scratch, *part, *at, out),
                KvCache::Int8(cache) => attend_piece(kernels, config, cache, &mut scratch, *part, *at, out),
            }
        }
    });
    if left_over > 0 {
        shared.answers(team, scratch, scores, shared_out);
    }
}

/// Divides the work: the queries of one key/value head in decode, all heads of some tokens in prefill: contiguous either
/// way. Where `out` ends before the last token's last heads, these are left out.
fn pieces<'a, 'out>(
    threads: usize,
    config: &Config,
    queries: Queries<'a>,
    out: &'out mut [f32],
) -> impl Iterator<Item = Piece<'a, 'out>> {
    let width = config.q_width();
    let (mut vectors, mut out) = (queries.vectors, out);
    queries.spans.iter().flat_map(move |span| {
        let (mine, later) = vectors.split_at(span.tokens * width);
        vectors = later;
        let len = (span.tokens * width).min(out.len());
        let (answers, later) = std::mem::take(&mut out).split_at_mut(len);
        out = later;
        let least = MIN_TILE.min(span.tokens.div_ceil(threads));
        let some = (span.tokens / (threads * PIECES_PER_WORKER)).clamp(least, MAX_TILE) * width;
        let piece = if span.tokens == 1 { config.group() * config.head_dim } else { some };
        let part = Part { vectors: mine, cache: span.cache, first: span.first, layer: queries.layer };
        answers.chunks_mut(piece).enumerate().map(move |(index, out)| Piece { part, at: index * piece, out })
    })
}

/// The answers `at..at + out.len()` of the span: whole heads of one token, or whole tokens.
fn attend_piece<E: Element + Plain>(
    kernels: Kernels,
    config: &Config,
    cache: &Cache<E>,
    scratch: &mut Scratch,
    queries: Part<'_>,
    at: usize,
    out: &mut [f32],
) {
    let (width, dim, group) = (config.q_width(), config.head_dim, config.group());
    let scale = 1.0 / (dim as f32).sqrt();
    let first_token = at / width;
    let heads = at % width / dim..(at % width + out.len().min(width)) / dim;
    let tokens = out.len().div_ceil(width);
    for kv_head in heads.start / group..heads.end.div_ceil(group) {
        let head = cache.head(queries.layer, kv_head);
        let heads = heads.start.max(kv_head * group)..heads.end.min((kv_head + 1) * group);
        // The queries that share these keys: the group's heads, token by token.
        let place = |n: usize| {
            let (token, head) = (first_token + n / heads.len(), heads.start + n % heads.len());
            (token, token * width + head * dim)
        };
        let shared = tokens * heads.len();
        for start in (0..shared).step_by(scratch.most()) {
            let count = scratch.most().min(shared - start);
            let tile: [Query<'_>; MAX_QUERIES] = std::array::from_fn(|n| {
                let (token, place) = place(start + n.min(count - 1));
                queries.query(config, token, place)
            });
            attend(kernels, &tile[..count], head, scale, scratch);
            for n in 0..count {
                let (_, place) = place(start + n);
                out[place - at..][..dim].copy_from_slice(&scratch.answer(n)[..dim]);
            }
        }
    }
}
