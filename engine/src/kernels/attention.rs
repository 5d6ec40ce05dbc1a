//! Attention of a few queries over one key/value head, against an f16, f32 or int8 cache.
//!
//! The order of operations of a query depends on nothing but its own keys: a score adds its products in the order of the
//! head's dimensions, the softmax sum has sixteen lanes by position from the query's first on, an output value adds in
//! the order of positions. So a query gives the same bits alone (decode), in a tile (prefill, grouped queries), and on
//! any instruction set.
//!
//! Cache layout of one head, both zero-filled at first, in chunks of positions that may lie apart:
//! - keys `[position / 16][dimension][position % 16]`, so that sixteen scores are made side by side without reductions;
//! - values `[position][stride]`, the stride being the head dimension rounded up to 16.
//!
//! In an int8 cache four bytes that are multiplied and added together lie in one lane:
//! - keys `[position / 16][dimension / 4][position % 16][dimension % 4]`, the dimensions rounded up to 4;
//! - values `[dimension / 16][position / 4][dimension % 16][position % 4]` in each chunk, the dimensions rounded up to 16;
//! - one f32 scale a position for the key and one for the value, their count rounded up to 16.
//!
//! An int8 key or value of a head is `scale * code`, `scale = absmax / 127` rounded to f32 and `code = x / scale` rounded
//! to f32, then to the nearest integer, ties to even. What an int8 cache is multiplied by is rounded too, and the sums of
//! integers are exact; see [`int8`].

use std::ops::Range;

use super::float::softmax_weights;
use super::isa::Kernels;
use super::lanes::{LANES, Lanes, Step};
pub(crate) use element::Element;
use element::{Float, LINE};
use int8::Rounded;
use scores::{Keys, scores_of};
pub(crate) use store::{HeadMut, store};
use values::{Values, Weights, add_values};

mod element;
mod int8;
mod scores;
mod store;
mod values;

/// The most queries that one call takes, if their scores do not take more than [`SCORE_BYTES`]: the more queries, the less
/// often the cache is widened.
pub(crate) const MAX_QUERIES: usize = 128;
/// The queries that one call takes however long their scores are.
const MIN_QUERIES: usize = 32;
/// Bytes of scores that stay in a second-level cache, or near it: 128 queries of 4096 positions.
const SCORE_BYTES: usize = 2 << 20;
/// Queries whose keys and values are widened where they are used; those of more are widened once for all, in cache.
pub(crate) const FEW: usize = 4;
/// Positions whose widened keys or values stay in the nearest cache.
pub(crate) const CHUNK: usize = 4 * LANES;
/// Dimensions of a score, or positions of a sum, in one step of the inner loops.
const UNIT: usize = 16;
/// Bytes between what is read and what is asked for meanwhile.
const AHEAD: usize = 24 << 10;

/// The cache of one head.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a, E> {
    /// All of the cache.
    pub(crate) data: &'a [E],
    /// Where this head's keys begin in the first chunk, and its values.
    pub(crate) keys: usize,
    pub(crate) values: usize,
    /// Positions of a chunk: a multiple of [`CHUNK`], or of 16 if there is but one.
    pub(crate) chunk: usize,
    /// Elements from one chunk to the next.
    pub(crate) pitch: usize,
    /// One a position, rounded up to 16; none unless [`Element::SCALED`].
    pub(crate) key_scales: &'a [f32],
    pub(crate) value_scales: &'a [f32],
}

impl<'a, E: Float> Head<'a, E> {
    /// The keys of some blocks of sixteen positions of one chunk.
    fn blocks(&self, blocks: Range<usize>, dim: usize) -> Keys<'a, E> {
        let (first, per_chunk) = (blocks.start, self.chunk / LANES);
        let start = self.keys + first / per_chunk * self.pitch + first % per_chunk * LANES * dim;
        Keys { codes: &self.data[start..][..blocks.len() * LANES * dim], next: None }
    }

    /// The values of some positions of one chunk.
    fn values(&self, positions: Range<usize>, stride: usize) -> &'a [E] {
        let first = positions.start;
        let start = self.values + first / self.chunk * self.pitch + first % self.chunk * stride;
        &self.data[start..][..positions.len() * stride]
    }
}

/// One query: its vector (head dimension long) and the positions it attends to, `start..end`; no others are used, save
/// in the blocks of sixteen keys that these share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Query<'a> {
    pub(crate) vector: &'a [f32],
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Working memory of one worker, and the answers of its last call.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Scaled queries, `[query][dimension]`.
    queries: Vec<f32>,
    /// Scores, then softmax weights, `[query][position]`, `row` apart.
    scores: Vec<f32>,
    row: usize,
    /// The most queries of a call.
    most: usize,
    /// Widened keys or values of a chunk of positions.
    wide: Vec<f32>,
    /// Answers, `[query][stride]`, the stride being the head dimension rounded up to 16.
    answers: Vec<f32>,
    /// What an int8 cache is multiplied by.
    rounded: Rounded,
}

impl Scratch {
    /// Room for `context` positions and heads of `head_dim`. What is not used stays zero pages that cost no memory.
    pub(crate) fn new(context: usize, head_dim: usize) -> Scratch {
        // An odd number of cache lines, so that the rows of a tile do not all fall into one set.
        let row = context.next_multiple_of(LANES) | LANES;
        let stride = head_dim.next_multiple_of(LANES);
        let most = most_queries(context);
        Scratch {
            queries: vec![0.0; head_dim * most],
            scores: vec![0.0; row * most],
            row,
            most,
            wide: vec![0.0; stride * CHUNK],
            answers: vec![0.0; stride * most],
            rounded: Rounded::new(most, head_dim),
        }
    }

    /// Bytes of a worker's scores for `context` positions: what grows with the context.
    pub(crate) fn score_bytes(context: usize) -> u64 {
        (context as u64).saturating_mul((most_queries(context) * size_of::<f32>()) as u64)
    }

    /// The most queries that a call takes: [`MAX_QUERIES`], or fewer of a long context.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// The scores of query number `query` by position, rounded up to 16: those that the last call made, if it made some.
    pub(crate) fn scores(&mut self, query: usize) -> &mut [f32] {
        &mut self.scores[query * self.row..][..self.row]
    }

    /// The answer of query number `query` of the last call, padded with zeros to a multiple of 16.
    pub(crate) fn answer(&self, query: usize) -> &[f32] {
        let stride = self.answers.len() / self.most;
        &self.answers[query * stride..][..stride]
    }
}

/// The most queries of a call over `context` positions.
fn most_queries(context: usize) -> usize {
    (SCORE_BYTES / size_of::<f32>() / context.max(1)).clamp(MIN_QUERIES, MAX_QUERIES)
}

/// `softmax(q k^T * scale) v` for up to [`Scratch::most`] queries over one head's keys and values; the answers are left in
/// `scratch`.
pub(crate) fn attend<E: Element>(
    kernels: Kernels,
    queries: &[Query<'_>],
    head: Head<'_, E>,
    scale: f32,
    scratch: &mut Scratch,
) {
    assert!(
        queries.len() <= scratch.most,
        "attention over {} queries at once, at most {}",
        queries.len(),
        scratch.most
    );
    if let Some(first) = queries.first() {
        let share = Share { blocks: blocks(queries), groups: 0..first.vector.len().div_ceil(LANES) };
        E::attend(kernels, Attend { queries, head, scale, share, scratch });
    }
}

/// The blocks of sixteen positions that any of the queries attends to.
pub(crate) fn blocks(queries: &[Query<'_>]) -> Range<usize> {
    let (start, end) = span(queries);
    start / LANES..end.div_ceil(LANES)
}

/// As [`attend`] for up to [`FEW`] queries of a head that several workers share: a part of the scores, which is left in
/// `scratch`, or, from all scores there, a part of the answers.
pub(crate) fn attend_share<E: Element>(
    kernels: Kernels,
    queries: &[Query<'_>],
    head: Head<'_, E>,
    (scale, share): (f32, Share),
    scratch: &mut Scratch,
) {
    assert!((1..=FEW).contains(&queries.len()), "a share of {} queries, at most {FEW}", queries.len());
    E::attend(kernels, Attend { queries, head, scale, share, scratch });
}

/// What one call does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share {
    /// Blocks of sixteen positions to make scores of.
    pub(crate) blocks: Range<usize>,
    /// Groups of sixteen dimensions to make answers of, when there are all scores.
    pub(crate) groups: Range<usize>,
}

/// A call.
pub(crate) struct Attend<'a, E> {
    queries: &'a [Query<'a>],
    head: Head<'a, E>,
    scale: f32,
    share: Share,
    scratch: &'a mut Scratch,
}

impl<E: Float> Step for Attend<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Attend { queries, head, scale, share, scratch } = self;
        let dim = queries[0].vector.len();
        for (scaled, query) in scratch.queries.chunks_exact_mut(dim).zip(queries) {
            for (scaled, x) in scaled.iter_mut().zip(query.vector) {
                *scaled = x * scale;
            }
        }
        let stride = dim.next_multiple_of(LANES);
        scratch.answers[..queries.len() * stride].fill(0.0);
        match queries.len() {
            1 => few::<L, E, 1>(l, queries, head, share, scratch),
            2 => few::<L, E, 2>(l, queries, head, share, scratch),
            3 => few::<L, E, 3>(l, queries, head, share, scratch),
            FEW => few::<L, E, FEW>(l, queries, head, share, scratch),
            _ => many(l, queries, head, scratch),
        }
    }
}

/// The positions from the first to the last that any of the queries attends to.
fn span(queries: &[Query<'_>]) -> (usize, usize) {
    let start = queries.iter().map(|q| q.start).min().unwrap_or(0);
    (start, queries.iter().map(|q| q.end).max().unwrap_or(0))
}

/// The steps of `range` between multiples of `unit`.
fn chunks(range: Range<usize>, unit: usize) -> impl Iterator<Item = Range<usize>> {
    (range.start / unit..range.end.div_ceil(unit))
        .map(move |c| (c * unit).max(range.start)..((c + 1) * unit).min(range.end))
}

/// Asks for all of `data`: memory is busy while what else there is to do is done.
#[inline(always)]
fn fetch<L: Lanes, T>(l: L, data: &[T]) {
    for line in (0..size_of_val(data)).step_by(LINE) {
        l.prefetch(data.as_ptr().wrapping_byte_add(line));
    }
}

/// Up to four queries: the cache is read once, from memory, each value widened where it is used.
#[inline(always)]
fn few<L: Lanes, E: Float, const Q: usize>(
    l: L,
    queries: &[Query<'_>],
    head: Head<'_, E>,
    share: Share,
    scratch: &mut Scratch,
) {
    let dim = queries[0].vector.len();
    let Scratch { queries: scaled, scores, row, answers, .. } = scratch;
    let (row, stride) = (*row, dim.next_multiple_of(LANES));
    let scaled: [&[f32]; Q] = std::array::from_fn(|q| &scaled[q * dim..][..dim]);
    for blocks in chunks(share.blocks.clone(), head.chunk / LANES) {
        let (Range { start, end }, last) = (blocks, share.blocks.end);
        let next = (end < last).then(|| head.blocks(end..end + 1, dim).codes);
        let keys = Keys { next, ..head.blocks(start..end, dim) };
        scores_of::<L, E, Q, true>(l, scaled, keys, &mut scores[start * LANES..], row);
    }
    if share.groups.is_empty() {
        return;
    }
    let (start, end) = span(queries);
    let ahead = (AHEAD / (CHUNK * stride * size_of::<E>())).max(1) * CHUNK;
    for positions in chunks(start..end.min(start + ahead), head.chunk) {
        fetch(l, head.values(positions, stride));
    }
    let inverse = weigh(l, queries, scores, row);
    let weights = Weights::<Q>::new(queries, scores, row);
    for positions in chunks(start..end, CHUNK) {
        let (first, later) = (positions.start, positions.start + ahead);
        let next = later..((later / CHUNK + 1) * CHUNK).min(end);
        let next = if next.is_empty() { &[] } else { head.values(next, stride) };
        let values = Values { codes: head.values(positions.clone(), stride), first, stride, next };
        add_values::<L, E, Q, true>(l, &weights, values, (positions, share.groups.clone()), answers);
    }
    finish(answers, stride, &inverse[..Q]);
}

/// More queries: chunks of the cache are widened into the nearest cache, where all queries use them, tile by tile.
#[inline(always)]
fn many<L: Lanes, E: Float>(l: L, queries: &[Query<'_>], head: Head<'_, E>, scratch: &mut Scratch) {
    let dim = queries[0].vector.len();
    let Scratch { queries: scaled, scores, row, wide, answers, .. } = scratch;
    let (row, stride) = (*row, dim.next_multiple_of(LANES));
    let (start, end) = span(queries);
    for blocks in chunks(start / LANES..end.div_ceil(LANES), CHUNK / LANES) {
        let keys = head.blocks(blocks.clone(), dim);
        let keys = Keys { codes: E::widen(l, keys.codes, wide), next: None };
        let mut q = 0;
        while q < queries.len() {
            let (scaled, scores) = (&scaled[q * dim..], &mut scores[q * row..]);
            q += match queries.len() - q {
                8.. if L::WIDE => tile_scores::<L, 8>(l, &queries[q..], scaled, (keys, &blocks), scores, row),
                6.. if !L::WIDE => tile_scores::<L, 6>(l, &queries[q..], scaled, (keys, &blocks), scores, row),
                4.. => tile_scores::<L, 4>(l, &queries[q..], scaled, (keys, &blocks), scores, row),
                2.. => tile_scores::<L, 2>(l, &queries[q..], scaled, (keys, &blocks), scores, row),
                _ => tile_scores::<L, 1>(l, &queries[q..], scaled, (keys, &blocks), scores, row),
            };
        }
    }
    let inverse = weigh(l, queries, scores, row);
    for positions in chunks(start..end, CHUNK) {
        let codes = E::widen(l, head.values(positions.clone(), stride), wide);
        let values = Values { codes, first: positions.start, stride, next: &[] };
        let mut q = 0;
        while q < queries.len() {
            let (scores, sums, positions) = (&scores[q * row..], &mut answers[q * stride..], positions.clone());
            q += match queries.len() - q {
                8.. if L::WIDE => tile_values::<L, 8>(l, &queries[q..], (scores, row), values, positions, sums),
                6.. if !L::WIDE => tile_values::<L, 6>(l, &queries[q..], (scores, row), values, positions, sums),
                4.. => tile_values::<L, 4>(l, &queries[q..], (scores, row), values, positions, sums),
                2.. => tile_values::<L, 2>(l, &queries[q..], (scores, row), values, positions, sums),
                _ => tile_values::<L, 1>(l, &queries[q..], (scores, row), values, positions, sums),
            };
        }
    }
    finish(answers, stride, &inverse[..queries.len()]);
}

/// Scores of the first `Q` queries against those widened blocks that any of them needs. Returns `Q`.
#[inline(always)]
fn tile_scores<L: Lanes, const Q: usize>(
    l: L,
    queries: &[Query<'_>],
    scaled: &[f32],
    (keys, blocks): (Keys<'_, f32>, &Range<usize>),
    scores: &mut [f32],
    row: usize,
) -> usize {
    let dim = queries[0].vector.len();
    let (start, end) = span(&queries[..Q]);
    let (first, last) = (blocks.start.max(start / LANES), blocks.end.min(end.div_ceil(LANES)));
    if first < last {
        let scaled: [&[f32]; Q] = std::array::from_fn(|q| &scaled[q * dim..][..dim]);
        let keys = keys.part(first - blocks.start..last - blocks.start, dim);
        scores_of::<L, f32, Q, false>(l, scaled, keys, &mut scores[first * LANES..], row);
    }
    Q
}

/// Adds the widened values to the sums of the first `Q` queries. Returns `Q`.
#[inline(always)]
fn tile_values<L: Lanes, const Q: usize>(
    l: L,
    queries: &[Query<'_>],
    (weights, row): (&[f32], usize),
    values: Values<'_, f32>,
    positions: Range<usize>,
    sums: &mut [f32],
) -> usize {
    let weights = Weights::<Q>::new(queries, weights, row);
    let groups = 0..values.stride / LANES;
    add_values::<L, f32, Q, false>(l, &weights, values, (positions, groups), sums);
    Q
}

/// Turns the scores of each query into softmax weights, not yet divided by their sum. Returns one over each sum.
#[inline(always)]
fn weigh<L: Lanes>(l: L, queries: &[Query<'_>], scores: &mut [f32], row: usize) -> [f32; MAX_QUERIES] {
    let mut inverse = [0.0; MAX_QUERIES];
    for ((inverse, query), scores) in inverse.iter_mut().zip(queries).zip(scores.chunks_exact_mut(row)) {
        *inverse = softmax_weights(l, &mut scores[query.start..query.end]);
    }
    inverse
}

/// Divides the sums of each query by that of its weights.
#[inline(always)]
fn finish(answers: &mut [f32], stride: usize, inverse: &[f32]) {
    for (answer, inverse) in answers.chunks_exact_mut(stride).zip(inverse) {
        answer.iter_mut().for_each(|x| *x *= inverse);
    }
}

#[cfg(test)]
mod tests;
