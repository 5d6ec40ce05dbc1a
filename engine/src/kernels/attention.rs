//! Attention of a few queries over one key/value head, against an f16 or f32 cache.
//!
//! The order of operations of a query depends on nothing but its own keys: a score adds its products in the order of the
//! head's dimensions, the softmax sum has sixteen lanes by position, an output value adds in the order of positions. So a
//! query gives the same bits alone (decode), in a tile (prefill, grouped queries), and on any instruction set.
//!
//! Cache layout of one head, both zero-filled at first:
//! - keys `[position / 16][dimension][position % 16]`, so that sixteen scores are made side by side without reductions;
//! - values `[position][stride]`, the stride being the head dimension rounded up to 16.

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
    /// Nearest value of this type, ties to even.
    fn from_f32(x: f32) -> Self;
    /// Sixteen consecutive values, widened exactly.
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V;
}

impl Element for f16 {
    #[inline(always)]
    fn from_f32(x: f32) -> f16 {
        f16::from_f32(x)
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[f16; LANES]) -> L::V {
        l.load_f16(from)
    }
}

impl Element for f32 {
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[f32; LANES]) -> L::V {
        l.load(from)
    }
}

/// One query: its vector (head dimension long) and how many positions, from 0 on, it attends to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Query<'a> {
    pub(crate) vector: &'a [f32],
    pub(crate) positions: usize,
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

/// `softmax(q k^T * scale) v` for up to [`MAX_QUERIES`] queries over one head's `keys` and `values`; the answers are left
/// in `scratch`.
pub(crate) fn attend<E: Element>(
    kernels: Kernels,
    queries: &[Query<'_>],
    keys: &[E],
    values: &[E],
    scale: f32,
    scratch: &mut Scratch,
) {
    match queries.len() {
        0 => {}
        1 => run(kernels, Attend::<E, 1> { queries, keys, values, scale, scratch }),
        2 => run(kernels, Attend::<E, 2> { queries, keys, values, scale, scratch }),
        3 => run(kernels, Attend::<E, 3> { queries, keys, values, scale, scratch }),
        4 => run(kernels, Attend::<E, 4> { queries, keys, values, scale, scratch }),
        n => panic!("attention over {n} queries at once, at most {MAX_QUERIES}"),
    }
}

struct Attend<'a, E, const Q: usize> {
    queries: &'a [Query<'a>],
    keys: &'a [E],
    values: &'a [E],
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
        let longest = self.queries.iter().map(|q| q.positions).max().unwrap_or(0);
        let (shared, row) = (self.queries.iter().map(|q| q.positions).min().unwrap_or(0), *row);

        let (keys, _) = self.keys.as_chunks::<LANES>();
        scores_of(l, packed, keys, longest.div_ceil(LANES), scores, row);
        let mut inverse = [0.0f32; Q];
        for ((inverse, query), scores) in inverse.iter_mut().zip(self.queries.iter()).zip(scores.chunks_exact_mut(row))
        {
            *inverse = softmax_weights(l, &mut scores[..query.positions]);
        }

        let stride = dim.next_multiple_of(LANES);
        let weights: [&[f32]; Q] = std::array::from_fn(|q| &scores[q * row..][..self.queries[q].positions]);
        sums_of(l, &weights, shared, self.values, answers, stride);
        for (answer, inverse) in answers.chunks_exact_mut(stride).zip(inverse) {
            answer.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}

/// Scores of all queries against `blocks` blocks of sixteen positions; `keys` is `[block * dim + d]`.
#[inline(always)]
fn scores_of<L: Lanes, E: Element, const Q: usize>(
    l: L,
    queries: &[[f32; Q]],
    keys: &[[E; LANES]],
    blocks: usize,
    scores: &mut [f32],
    row: usize,
) {
    let mut block = 0;
    if L::WIDE && Q == 1 {
        while block + 8 <= blocks {
            score_blocks::<L, E, Q, 8>(l, queries, keys, block, scores, row);
            block += 8;
        }
    }
    if L::WIDE || Q == 1 {
        while block + 4 <= blocks {
            score_blocks::<L, E, Q, 4>(l, queries, keys, block, scores, row);
            block += 4;
        }
    }
    while block < blocks {
        score_blocks::<L, E, Q, 1>(l, queries, keys, block, scores, row);
        block += 1;
    }
}

/// Scores of `B` blocks from `block` on, each sum in one chain over the dimensions.
#[inline(always)]
fn score_blocks<L: Lanes, E: Element, const Q: usize, const B: usize>(
    l: L,
    queries: &[[f32; Q]],
    keys: &[[E; LANES]],
    block: usize,
    scores: &mut [f32],
    row: usize,
) {
    let dim = queries.len();
    let blocks: [&[[E; LANES]]; B] = std::array::from_fn(|b| &keys[(block + b) * dim..][..dim]);
    let mut sums = [[l.splat(0.0); B]; Q];
    for d in 0..dim {
        let keys: [L::V; B] = std::array::from_fn(|b| E::load(l, &blocks[b][d]));
        for (sums, query) in sums.iter_mut().zip(&queries[d]) {
            let query = l.splat(*query);
            for (sum, key) in sums.iter_mut().zip(&keys) {
                *sum = l.fma(query, *key, *sum);
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        let (groups, _) = scores[q * row + block * LANES..].as_chunks_mut::<LANES>();
        for (group, sum) in groups.iter_mut().zip(sums) {
            l.store(*sum, group);
        }
    }
}

/// `sums[query][d] = sum over positions of weight * value`, in the order of positions. The first `shared` positions are
/// common to all queries and read once.
#[inline(always)]
fn sums_of<L: Lanes, E: Element, const Q: usize>(
    l: L,
    weights: &[&[f32]; Q],
    shared: usize,
    values: &[E],
    sums: &mut [f32],
    stride: usize,
) {
    let mut d = 0;
    if L::WIDE && Q == 1 {
        while d + 8 * LANES <= stride {
            sum_columns::<L, E, Q, 8>(l, weights, shared, values, sums, stride, d);
            d += 8 * LANES;
        }
    }
    if L::WIDE || Q == 1 {
        while d + 4 * LANES <= stride {
            sum_columns::<L, E, Q, 4>(l, weights, shared, values, sums, stride, d);
            d += 4 * LANES;
        }
    }
    while d < stride {
        sum_columns::<L, E, Q, 1>(l, weights, shared, values, sums, stride, d);
        d += LANES;
    }
}

/// The sums of `D` groups of sixteen dimensions from dimension `first` on.
#[inline(always)]
fn sum_columns<L: Lanes, E: Element, const Q: usize, const D: usize>(
    l: L,
    weights: &[&[f32]; Q],
    shared: usize,
    values: &[E],
    sums: &mut [f32],
    stride: usize,
    first: usize,
) {
    let load = |t: usize| -> [L::V; D] {
        let (groups, _) = values[t * stride + first..][..D * LANES].as_chunks::<LANES>();
        std::array::from_fn(|g| E::load(l, &groups[g]))
    };
    let common: [&[f32]; Q] = std::array::from_fn(|q| &weights[q][..shared]);
    let mut acc = [[l.splat(0.0); D]; Q];
    for t in 0..shared {
        let value = load(t);
        for q in 0..Q {
            let weight = l.splat(common[q][t]);
            for g in 0..D {
                acc[q][g] = l.fma(weight, value[g], acc[q][g]);
            }
        }
    }
    for q in 0..Q {
        for (t, weight) in weights[q].iter().enumerate().skip(shared) {
            let value = load(t);
            for g in 0..D {
                acc[q][g] = l.fma(l.splat(*weight), value[g], acc[q][g]);
            }
        }
        let (groups, _) = sums[q * stride + first..].as_chunks_mut::<LANES>();
        for (group, acc) in groups.iter_mut().zip(&acc[q]) {
            l.store(*acc, group);
        }
    }
}
