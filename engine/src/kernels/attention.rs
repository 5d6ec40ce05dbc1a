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
    /// Nearest finite value of this type, ties to even; NaN stays NaN. An infinite key would make every score of its head
    /// useless.
    fn from_f32(x: f32) -> Self;
    /// Sixteen consecutive values, widened exactly.
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V;
}

impl Element for f16 {
    #[inline(always)]
    fn from_f32(x: f32) -> f16 {
        f16::from_f32(x.clamp(-65504.0, 65504.0))
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
        if d + 2 * LANES <= stride {
            sum_columns::<L, E, Q, 2>(l, weights, shared, values, sums, stride, d);
            d += 2 * LANES;
        }
    }
    while d < stride {
        sum_columns::<L, E, Q, 1>(l, weights, shared, values, sums, stride, d);
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
    weights: &[&[f32]; Q],
    shared: usize,
    values: &[E],
    sums: &mut [f32],
    stride: usize,
    first: usize,
) {
    let common: [&[f32]; Q] = std::array::from_fn(|q| &weights[q][..shared]);
    let mut acc = [[l.splat(0.0); D]; Q];
    for t in 0..shared {
        let value = load_groups::<L, E, D>(l, &values[t * stride + first..]);
        for q in 0..Q {
            let weight = l.splat(common[q][t]);
            for g in 0..D {
                acc[q][g] = l.fma(weight, value[g], acc[q][g]);
            }
        }
    }
    for q in 0..Q {
        for (t, weight) in weights[q].iter().enumerate().skip(shared) {
            let value = load_groups::<L, E, D>(l, &values[t * stride + first..]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::Isa;

    /// Numbers in [-1, 1) with no pattern.
    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) ^ i << 7).wrapping_mul(0x9e37_79b9);
        (0..count as u32).map(|i| value(i) as f32 / 2f32.powi(31) - 1.0).collect()
    }

    struct Case<E> {
        dim: usize,
        keys: Vec<E>,
        values: Vec<E>,
        queries: Vec<Vec<f32>>,
        context: usize,
    }

    impl<E: Element + Into<f64>> Case<E> {
        fn new(dim: usize, context: usize) -> Case<E> {
            let stride = dim.next_multiple_of(LANES);
            let mut values: Vec<E> = noise(context * stride, 2).into_iter().map(E::from_f32).collect();
            // The padding of a head stays zero.
            values.chunks_mut(stride).for_each(|value| value[dim..].fill(E::default()));
            let keys =
                noise(context.next_multiple_of(LANES) * dim, 1).into_iter().map(|x| E::from_f32(4.0 * x)).collect();
            let queries = (0..MAX_QUERIES as u32).map(|q| noise(dim, 10 + q)).collect();
            Case { dim, keys, values, queries, context }
        }

        fn run(&self, isa: Isa, positions: &[usize]) -> Vec<Vec<f32>> {
            let queries: Vec<Query<'_>> = positions
                .iter()
                .zip(&self.queries)
                .map(|(positions, vector)| Query { vector, positions: *positions })
                .collect();
            let mut scratch = Scratch::new(self.context, self.dim);
            let kernels = Kernels::new(Some(isa)).unwrap();
            attend(kernels, &queries, &self.keys, &self.values, 0.5, &mut scratch);
            (0..positions.len()).map(|q| scratch.answer(q)[..self.dim].to_vec()).collect()
        }

        fn truth(&self, query: usize, positions: usize) -> Vec<f64> {
            let (dim, stride) = (self.dim, self.dim.next_multiple_of(LANES));
            let key = |t: usize, d: usize| -> f64 { self.keys[(t / LANES * dim + d) * LANES + t % LANES].into() };
            let score = |t| (0..dim).map(|d| f64::from(self.queries[query][d]) * key(t, d)).sum::<f64>() * 0.5;
            let weights: Vec<f64> = (0..positions).map(|t| f64::exp(score(t))).collect();
            let total: f64 = weights.iter().sum();
            let value = |t: usize, d: usize| -> f64 { self.values[t * stride + d].into() };
            (0..dim).map(|d| (0..positions).map(|t| weights[t] / total * value(t, d)).sum()).collect()
        }
    }

    fn check<E: Element + Into<f64>>() {
        for dim in [2, 16, 24, 48, 64, 120, 136] {
            let case = Case::<E>::new(dim, 210);
            for positions in [[1, 1, 1, 1], [2, 3, 4, 5], [15, 16, 17, 18], [200, 33, 129, 210]] {
                let alone: Vec<Vec<f32>> = (0..MAX_QUERIES)
                    .map(|query| {
                        let shifted = Case {
                            queries: vec![case.queries[query].clone()],
                            keys: case.keys.clone(),
                            values: case.values.clone(),
                            ..case
                        };
                        shifted.run(Isa::Scalar, &positions[query..=query]).remove(0)
                    })
                    .collect();
                for (query, answer) in alone.iter().enumerate() {
                    for (found, truth) in answer.iter().zip(case.truth(query, positions[query])) {
                        assert!((f64::from(*found) - truth).abs() < 3e-6, "{dim} {positions:?}: {found} {truth}");
                    }
                }
                for isa in Isa::available() {
                    for count in 1..=MAX_QUERIES {
                        assert_eq!(case.run(isa, &positions[..count]), alone[..count], "{isa} {dim} {positions:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn queries_are_right_and_the_same_alone_in_tiles_and_on_every_isa() {
        check::<f16>();
        check::<f32>();
    }
}
