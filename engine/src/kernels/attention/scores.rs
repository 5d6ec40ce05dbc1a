//! Scores of some queries side by side against blocks of sixteen keys.

use std::ops::Range;

use super::element::{Float, LINE};
use super::{UNIT, fetch};
use crate::kernels::lanes::{LANES, Lanes};

/// Consecutive blocks of one head's keys.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a, E> {
    /// `[block][dimension][16]`.
    pub(super) codes: &'a [E],
    /// What is read after these, to be asked for in time; if it is known.
    pub(super) next: Option<&'a [E]>,
}

impl<E> Keys<'_, E> {
    /// Those of some of the blocks.
    pub(super) fn part(self, blocks: Range<usize>, dim: usize) -> Self {
        let Range { start, end } = blocks;
        Keys { codes: &self.codes[start * dim * LANES..end * dim * LANES], next: None }
    }
}

/// Scores of `Q` queries against all `keys`, to `scores[query * row..]`. With `FETCH`, what is read next is asked for.
#[inline(always)]
pub(super) fn scores_of<L: Lanes, E: Float, const Q: usize, const FETCH: bool>(
    l: L,
    queries: [&[f32]; Q],
    keys: Keys<'_, E>,
    scores: &mut [f32],
    row: usize,
) {
    // As many sums as registers hold beside the keys; each block is a stream, and memory likes several.
    let most = match (L::WIDE, Q) {
        (true, 1) => 8,
        (true, ..=4) | (false, 1) => 4,
        (true, ..=8) | (false, 2) => 2,
        _ => 1,
    };
    let blocks = keys.codes.len() / (queries[0].len() * LANES);
    let mut block = 0;
    if FETCH {
        fetch(l, &keys.codes[..most.min(blocks) * queries[0].len() * LANES]);
    }
    while block < blocks {
        block += match most.min(blocks - block) {
            8 if most == 8 => score_blocks::<L, E, Q, 8, FETCH>(l, queries, keys, block, scores, row),
            4.. if most >= 4 => score_blocks::<L, E, Q, 4, FETCH>(l, queries, keys, block, scores, row),
            2.. if most >= 2 => score_blocks::<L, E, Q, 2, FETCH>(l, queries, keys, block, scores, row),
            _ => score_blocks::<L, E, Q, 1, FETCH>(l, queries, keys, block, scores, row),
        };
    }
}

/// Scores of `B` blocks from `block` on, each sum in one chain over the dimensions. Returns `B`.
#[inline(always)]
fn score_blocks<L: Lanes, E: Float, const Q: usize, const B: usize, const FETCH: bool>(
    l: L,
    queries: [&[f32]; Q],
    keys: Keys<'_, E>,
    block: usize,
    scores: &mut [f32],
    row: usize,
) -> usize {
    let dim = queries[0].len();
    let queries: [&[f32]; Q] = std::array::from_fn(|q| &queries[q][..dim]);
    let (codes, _) = keys.codes.as_chunks::<LANES>();
    let blocks: [&[[E; LANES]]; B] = std::array::from_fn(|b| &codes[(block + b) * dim..][..dim]);
    let mut sums = [[l.splat(0.0); B]; Q];
    let whole = dim / UNIT * UNIT;
    // The same place of the next blocks; that of these, which costs nothing, if there are none.
    let next = match keys.next {
        _ if codes.len() >= (block + 2 * B) * dim => codes[(block + B) * dim..].as_ptr(),
        Some(next) if codes.len() == (block + B) * dim => next.as_ptr().cast(),
        _ => codes[block * dim..].as_ptr(),
    };
    for first in (0..whole).step_by(UNIT) {
        // Arrays, for which no index is checked.
        let queries: [&[f32; UNIT]; Q] = std::array::from_fn(|q| &queries[q][first..].as_chunks().0[0]);
        let keys: [&[[E; LANES]; UNIT]; B] = std::array::from_fn(|b| &blocks[b][first..].as_chunks().0[0]);
        for d in 0..UNIT {
            if FETCH && (d * size_of::<[E; LANES]>()).is_multiple_of(LINE) {
                for b in 0..B {
                    l.prefetch(next.wrapping_add(b * dim + first + d));
                }
            }
            let mut key = [l.splat(0.0); B];
            for b in 0..B {
                key[b] = E::load(l, &keys[b][d]);
            }
            add_products(l, &mut sums, queries.map(|query| query[d]), key);
        }
    }
    for d in whole..dim {
        let mut key = [l.splat(0.0); B];
        for b in 0..B {
            key[b] = E::load(l, &blocks[b][d]);
        }
        add_products(l, &mut sums, queries.map(|query| query[d]), key);
    }
    // Stored by fixed numbers of each, so that the sums never leave their registers.
    for q in 0..Q {
        let (groups, _) = scores[q * row + block * LANES..].as_chunks_mut::<LANES>();
        let groups = &mut groups[..B];
        for b in 0..B {
            l.store(sums[q][b], &mut groups[b]);
        }
    }
    B
}

/// Adds the products of some queries and some keys, in one dimension.
#[inline(always)]
fn add_products<L: Lanes, const Q: usize, const B: usize>(
    l: L,
    sums: &mut [[L::V; B]; Q],
    queries: [f32; Q],
    keys: [L::V; B],
) {
    for q in 0..Q {
        let query = l.splat(queries[q]);
        for b in 0..B {
            sums[q][b] = l.fma(query, keys[b], sums[q][b]);
        }
    }
}
