//! Multi-head and grouped-query attention over the cache, shared out among the workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::config::Config;
use super::kv::{Cache, KvCache, Stored};
use crate::kernels::attention::{MAX_QUERIES, Query, Scratch, attend};
use crate::kernels::isa::Kernels;
use crate::threads::Team;

/// Most tokens of a batch in one piece of work: enough to use a head's keys from the nearest cache many times.
const MAX_TILE: usize = 16;
/// Pieces of work a worker gets in prefill, so that the costlier last tokens even out.
const PIECES_PER_WORKER: usize = 8;

/// The queries of a batch: `tokens x q_width`, the first one at position `first`, all keys and values stored.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    pub(super) vectors: &'a [f32],
    pub(super) first: usize,
    pub(super) layer: usize,
}

/// Attention of every query to the positions up to its own; answers go to `out`, `tokens x q_width`.
pub(super) fn attention(
    team: &Team<'_>,
    kernels: Kernels,
    config: &Config,
    cache: &KvCache,
    scratch: &[Mutex<Scratch>],
    queries: Queries<'_>,
    out: &mut [f32],
) {
    let width = config.q_width();
    let tokens = out.len() / width;
    // A piece is some heads of one token in decode, all heads of some tokens in prefill: contiguous either way.
    let piece = if tokens == 1 {
        config.heads.div_ceil(team.threads()) * config.head_dim
    } else {
        (tokens / (team.threads() * PIECES_PER_WORKER)).clamp(MAX_QUERIES, MAX_TILE) * width
    };
    let pieces: Vec<Mutex<&mut [f32]>> = out.chunks_mut(piece).map(Mutex::new).collect();
    let left = AtomicUsize::new(pieces.len());
    team.run(&|worker| {
        let mut scratch = scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
        // The last tokens see the most positions: they go first.
        while let Ok(taken) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) {
            let index = taken - 1;
            let mut out = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
            let at = index * piece;
            match cache {
                KvCache::F16(cache) => attend_piece(kernels, config, cache, &mut scratch, queries, at, &mut out),
                KvCache::F32(cache) => attend_piece(kernels, config, cache, &mut scratch, queries, at, &mut out),
            }
        }
    });
}

/// The answers `at..at + out.len()` of the batch: whole heads of one token, or whole tokens.
fn attend_piece<E: Stored>(
    kernels: Kernels,
    config: &Config,
    cache: &Cache<E>,
    scratch: &mut Scratch,
    queries: Queries<'_>,
    at: usize,
    out: &mut [f32],
) {
    let (width, dim, group) = (config.q_width(), config.head_dim, config.group());
    let scale = 1.0 / (dim as f32).sqrt();
    let first_token = at / width;
    let heads = at % width / dim..(at % width + out.len().min(width)) / dim;
    let tokens = out.len().div_ceil(width);
    for kv_head in heads.start / group..heads.end.div_ceil(group) {
        let (keys, values) = cache.head(queries.layer, kv_head);
        let heads = heads.start.max(kv_head * group)..heads.end.min((kv_head + 1) * group);
        // The queries that share these keys: the group's heads, token by token.
        let place = |n: usize| {
            let (token, head) = (first_token + n / heads.len(), heads.start + n % heads.len());
            (token, token * width + head * dim)
        };
        let shared = tokens * heads.len();
        for start in (0..shared).step_by(MAX_QUERIES) {
            let count = MAX_QUERIES.min(shared - start);
            let tile: [Query<'_>; MAX_QUERIES] = std::array::from_fn(|n| {
                let (token, place) = place(start + n.min(count - 1));
                Query { vector: &queries.vectors[place..][..dim], positions: queries.first + token + 1 }
            });
            attend(kernels, &tile[..count], keys, values, scale, scratch);
            for n in 0..count {
                let (_, place) = place(start + n);
                out[place - at..][..dim].copy_from_slice(&scratch.answer(n)[..dim]);
            }
        }
    }
}
