//! Attention of a few queries over one key/value head, against an f16, f32 or int8 cache.
//!
//! The order of operations of a query depends on nothing but its own keys: a score adds its products in the order of the
//! head's dimensions, the softmax sum has sixteen lanes by position from the query's first on, an output value adds in
//! the order of positions. So a query gives the same bits alone (decode), in a tile (prefill, grouped queries), and on
//! any instruction set.
//!
//! Cache layout of one head, both zero-filled at first:
//! - keys `[position / 16][dimension][position % 16]`, so that sixteen scores are made side by side without reductions;
//! - values `[position][stride]`, the stride being the head dimension rounded up to 16;
//! - in an int8 cache also one f32 scale a position for the key and one for the value, their count rounded up to 16.
//!
//! An int8 key or value of a head is `scale * code`, `scale = absmax / 127` rounded to f32 and `code = x / scale` rounded
//! to f32, then to the nearest integer, ties to even. A score is the sum over its codes, as of any key, times the scale;
//! a softmax weight is multiplied by the value's scale (after the softmax's sum was taken), then by the codes.

use std::ops::Range;

use half::f16;

use super::float::softmax_weights;
use super::isa::Kernels;
use super::lanes::{LANES, Lanes, Step, run};

/// The most queries that one call takes.
pub(crate) const MAX_QUERIES: usize = 4;
/// Positions for which a score buffer must have room beyond the last: a whole group of blocks.
pub(crate) const SCORE_UNIT: usize = 8 * LANES;

/// A number type of the key/value cache.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    /// Whether each key and value of a head has a scale.
    const SCALED: bool;
    /// The scale of one key or value of a head; NaN if not all of it is finite.
    fn scale(x: &[f32]) -> f32;
    /// Nearest finite value of this type to `x / scale`, ties to even; what is no finite number stays none or makes
    /// `scale` so, so that it reaches the logits. A finite key made infinite would leave no score of its head useful.
    fn from_f32(x: f32, scale: f32) -> Self;
    /// Sixteen consecutive values, widened exactly, yet to be multiplied by the scale.
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V;
}

impl Element for f16 {
    const SCALED: bool = false;
    #[inline(always)]
    fn scale(_: &[f32]) -> f32 {
        1.0
    }
    #[inline(always)]
    fn from_f32(x: f32, _: f32) -> f16 {
        f16::from_f32(if x.is_infinite() { x } else { x.clamp(-65504.0, 65504.0) })
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[f16; LANES]) -> L::V {
        l.load_f16(from)
    }
}

impl Element for f32 {
    const SCALED: bool = false;
    #[inline(always)]
    fn scale(_: &[f32]) -> f32 {
        1.0
    }
    #[inline(always)]
    fn from_f32(x: f32, _: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[f32; LANES]) -> L::V {
        l.load(from)
    }
}

impl Element for i8 {
    const SCALED: bool = true;
    fn scale(x: &[f32]) -> f32 {
        let largest = x.iter().fold(0.0f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        if x.iter().all(|x| x.is_finite()) { largest / 127.0 } else { f32::NAN }
    }
    /// Zeros have the scale 0; so has what is so small that its scale would round to 0.
    #[inline(always)]
    fn from_f32(x: f32, scale: f32) -> i8 {
        // 0 / 0 is NaN, which becomes 0.
        (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[i8; LANES]) -> L::V {
        l.load_i8(from)
    }
}

/// The cache of one head.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a, E> {
    pub(crate) keys: &'a [E],
    pub(crate) values: &'a [E],
    /// One a position, rounded up to 16; none unless [`Element::SCALED`].
    pub(crate) key_scales: &'a [f32],
    pub(crate) value_scales: &'a [f32],
}

/// One query: its vector (head dimension long) and the positions it attends to, `start..end`; no others are read, save
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
    /// Scaled queries, `[dimension][query]`.
    queries: Vec<f32>,
    /// Scores, then softmax weights, `[query][position]`, `row` apart.
    scores: Vec<f32>,
    row: usize,
    /// Answers, `[query][stride]`, the stride being the head dimension rounded up to 16.
    answers: Vec<f32>,
}

impl Scratch {
    /// Room for `context` positions and heads of `head_dim`.
    pub(crate) fn new(context: usize, head_dim: usize) -> Scratch {
        let row = context.next_multiple_of(SCORE_UNIT);
        Scratch {
            queries: vec![0.0; head_dim * MAX_QUERIES],
            scores: vec![0.0; row * MAX_QUERIES],
            row,
            answers: vec![0.0; head_dim.next_multiple_of(LANES) * MAX_QUERIES],
        }
    }

    /// The answer of query number `query` of the last call, padded with zeros to a multiple of 16.
    pub(crate) fn answer(&self, query: usize) -> &[f32] {
        let stride = self.answers.len() / MAX_QUERIES;
        &self.answers[query * stride..][..stride]
    }
}

/// `softmax(q k^T * scale) v` for up to [`MAX_QUERIES`] queries over one head's keys and values; the answers are left in
/// `scratch`.
pub(crate) fn attend<E: Element>(
    kernels: Kernels,
    queries: &[Query<'_>],
    head: Head<'_, E>,
    scale: f32,
    scratch: &mut Scratch,
) {
    match queries.len() {
        0 => {}
        1 => run(kernels, Attend::<E, 1> { queries, head, scale, scratch }),
        2 => run(kernels, Attend::<E, 2> { queries, head, scale, scratch }),
        3 => run(kernels, Attend::<E, 3> { queries, head, scale, scratch }),
        4 => run(kernels, Attend::<E, 4> { queries, head, scale, scratch }),
        n => panic!("attention over {n} queries at once, at most {MAX_QUERIES}"),
    }
}

struct Attend<'a, E, const Q: usize> {
    queries: &'a [Query<'a>],
    head: Head<'a, E>,
    scale: f32,
    scratch: &'a mut Scratch,
}

impl<E: Element, const Q: usize> Step for Attend<'_, E, Q> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let dim = self.queries[0].vector.len();
        let Scratch { queries: packed, scores, row, answers } = self.scratch;
        for (d, packed) in packed.chunks_exact_mut(Q).take(dim).enumerate() {
            for (packed, query) in packed.iter_mut().zip(self.queries.iter()) {
                *packed = query.vector[d] * self.scale;
            }
        }
        let (packed, _) = packed.as_chunks::<Q>();
        let packed = &packed[..dim];
        let row = *row;
        let start = self.queries.iter().map(|q| q.start).min().unwrap_or(0);
        let end = self.queries.iter().map(|q| q.end).max().unwrap_or(0);

        scores_of(l, packed, self.head, start / LANES..end.div_ceil(LANES), scores, row);
        let mut inverse = [0.0f32; Q];
        for ((inverse, query), scores) in inverse.iter_mut().zip(self.queries.iter()).zip(scores.chunks_exact_mut(row))
        {
            let weights = &mut scores[query.start..query.end];
            *inverse = softmax_weights(l, weights);
            if E::SCALED {
                let scales = &self.head.value_scales[query.start..query.end];
                for (weight, scale) in weights.iter_mut().zip(scales) {
                    *weight *= scale;
                }
            }
        }

        let stride = dim.next_multiple_of(LANES);
        let weights = Weights::<Q>::new(self.queries, scores, row);
        sums_of(l, &weights, self.head.values, answers, stride);
        for (answer, inverse) in answers.chunks_exact_mut(stride).zip(inverse) {
            answer.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}

/// Softmax weights of a tile of queries.
struct Weights<'a, const Q: usize> {
    /// By position from 0 on; those before a query's start mean nothing.
    of: [&'a [f32]; Q],
    start: [usize; Q],
    /// The positions that all queries attend to, whose values are read once; 0..0 if there are none.
    shared: Range<usize>,
}

impl<'a, const Q: usize> Weights<'a, Q> {
    #[inline(always)]
    fn new(queries: &[Query<'_>], scores: &'a [f32], row: usize) -> Weights<'a, Q> {
        let last_start = queries.iter().map(|q| q.start).max().unwrap_or(0);
        let first_end = queries.iter().map(|q| q.end).min().unwrap_or(0);
        let shared = if last_start < first_end { last_start..first_end } else { 0..0 };
        Weights {
            of: std::array::from_fn(|q| &scores[q * row..][..queries[q].end]),
            start: std::array::from_fn(|q| queries[q].start),
            shared,
        }
    }
}

/// Scores of all queries against some blocks of sixteen positions.
#[inline(always)]
fn scores_of<L: Lanes, E: Element, const Q: usize>(
    l: L,
    queries: &[[f32; Q]],
    head: Head<'_, E>,
    blocks: Range<usize>,
    scores: &mut [f32],
    row: usize,
) {
    let Range { start: mut block, end: blocks } = blocks;
    if L::WIDE && Q == 1 {
        while block + 8 <= blocks {
            score_blocks::<L, E, Q, 8>(l, queries, head, block, scores, row);
            block += 8;
        }
    }
    if L::WIDE || Q == 1 {
        while block + 4 <= blocks {
            score_blocks::<L, E, Q, 4>(l, queries, head, block, scores, row);
            block += 4;
        }
    }
    while block < blocks {
        score_blocks::<L, E, Q, 1>(l, queries, head, block, scores, row);
        block += 1;
    }
}

/// Scores of `B` blocks from `block` on, each sum in one chain over the dimensions.
#[inline(always)]
fn score_blocks<L: Lanes, E: Element, const Q: usize, const B: usize>(
    l: L,
    queries: &[[f32; Q]],
    head: Head<'_, E>,
    block: usize,
    scores: &mut [f32],
    row: usize,
) {
    let dim = queries.len();
    let (keys, _) = head.keys.as_chunks::<LANES>();
    let (scales, _) = head.key_scales.as_chunks::<LANES>();
    let blocks: [&[[E; LANES]]; B] = std::array::from_fn(|b| &keys[(block + b) * dim..][..dim]);
    let mut sums = [[l.splat(0.0); B]; Q];
    for d in 0..dim {
        let mut keys = [l.splat(0.0); B];
        for (key, block) in keys.iter_mut().zip(&blocks) {
            *key = E::load(l, &block[d]);
        }
        for (sums, query) in sums.iter_mut().zip(&queries[d]) {
            let query = l.splat(*query);
            for (sum, key) in sums.iter_mut().zip(&keys) {
                *sum = l.fma(query, *key, *sum);
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        let (groups, _) = scores[q * row + block * LANES..].as_chunks_mut::<LANES>();
        for (b, (group, sum)) in groups.iter_mut().zip(sums).enumerate() {
            let sum = if E::SCALED { l.mul(*sum, l.load(&scales[block + b])) } else { *sum };
            l.store(sum, group);
        }
    }
}

/// `sums[query][d] = sum over positions of weight * value`, in the order of positions.
#[inline(always)]
fn sums_of<L: Lanes, E: Element, const Q: usize>(
    l: L,
    weights: &Weights<'_, Q>,
    values: &[E],
    sums: &mut [f32],
    stride: usize,
) {
    let mut d = 0;
    if L::WIDE && Q == 1 {
        while d + 8 * LANES <= stride {
            sum_columns::<L, E, Q, 8>(l, weights, values, sums, stride, d);
            d += 8 * LANES;
        }
    }
    if L::WIDE || Q == 1 {
        while d + 4 * LANES <= stride {
            sum_columns::<L, E, Q, 4>(l, weights, values, sums, stride, d);
            d += 4 * LANES;
        }
        if d + 2 * LANES <= stride {
            sum_columns::<L, E, Q, 2>(l, weights, values, sums, stride, d);
            d += 2 * LANES;
        }
    }
    while d < stride {
        sum_columns::<L, E, Q, 1>(l, weights, values, sums, stride, d);
        d += LANES;
    }
}

/// The first `D` groups of sixteen values. (A loop: a closure would not be compiled for the instruction set.)
#[inline(always)]
fn load_groups<L: Lanes, E: Element, const D: usize>(l: L, values: &[E]) -> [L::V; D] {
    let (groups, _) = values[..D * LANES].as_chunks::<LANES>();
    let mut loaded = [l.splat(0.0); D];
    for (loaded, group) in loaded.iter_mut().zip(groups) {
        *loaded = E::load(l, group);
    }
    loaded
}

/// The sums of `D` groups of sixteen dimensions from dimension `first` on.
#[inline(always)]
fn sum_columns<L: Lanes, E: Element, const Q: usize, const D: usize>(
    l: L,
    weights: &Weights<'_, Q>,
    values: &[E],
    sums: &mut [f32],
    stride: usize,
    first: usize,
) {
    let Weights { of, start, shared } = weights;
    let mut acc = [[l.splat(0.0); D]; Q];
    for q in 0..Q {
        add_values(l, &mut acc[q], of[q], start[q]..shared.start, values, stride, first);
    }
    let common: [&[f32]; Q] = std::array::from_fn(|q| &of[q][shared.clone()]);
    for t in 0..shared.len() {
        let value = load_groups::<L, E, D>(l, &values[(shared.start + t) * stride + first..]);
        for q in 0..Q {
            let weight = l.splat(common[q][t]);
            for g in 0..D {
                acc[q][g] = l.fma(weight, value[g], acc[q][g]);
            }
        }
    }
    for q in 0..Q {
        add_values(l, &mut acc[q], of[q], shared.end.max(start[q])..of[q].len(), values, stride, first);
        let (groups, _) = sums[q * stride + first..].as_chunks_mut::<LANES>();
        for (group, acc) in groups.iter_mut().zip(&acc[q]) {
            l.store(*acc, group);
        }
    }
}

/// Adds the values of some positions, of one query alone.
#[inline(always)]
fn add_values<L: Lanes, E: Element, const D: usize>(
    l: L,
    acc: &mut [L::V; D],
    weights: &[f32],
    positions: Range<usize>,
    values: &[E],
    stride: usize,
    first: usize,
) {
    for t in positions {
        let value = load_groups::<L, E, D>(l, &values[t * stride + first..]);
        for g in 0..D {
            acc[g] = l.fma(l.splat(weights[t]), value[g], acc[g]);
        }
    }
}

#[cfg(test)]
mod tests;
