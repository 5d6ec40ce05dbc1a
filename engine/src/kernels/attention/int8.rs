//! Attention over an int8 cache by integer dot products, without widening it.
//!
//! What the cache is multiplied by is rounded as well:
//! - a query as a key is, by its largest magnitude to codes from -127 to 127. A score is the exact sum of products of codes,
//!   rounded to f32, times (the query's scale times the softmax's), times the key's scale.
//! - the products of softmax weights and the values' scales by the largest of the query's in each [`BLOCK`] positions, to
//!   integers up to 32767. A block's sum of products with codes is exact, rounded to f32, multiplied by the block's scale
//!   and added (rounded once) to those of the blocks before. Blocks begin at multiples of their size, so that they are the
//!   same whatever else a query is computed with; a block whose scale is 0 is not added.
//!
//! Weights of positions that a query does not attend to are 0, and so multiply what lies there to nothing. What is no
//! number in a query, or in a key's or value's scale that a query attends to, makes its answer none.

use std::ops::Range;

use super::element::Element;
use super::{AHEAD, Attend, FEW, Head, Query, chunks, fetch, finish, span, weigh};
use crate::kernels::lanes::dots::{DotStep, Dots, MAGIC, MOST, QUADS};
use crate::kernels::lanes::{LANES, Lanes};

/// Positions whose weights are rounded together: the sum of as many products, 32767 * 127 each, is an i32.
const BLOCK: usize = 256;
/// Quads of positions in a group of sixteen.
const PER_GROUP: usize = LANES / 4;
/// Weights smaller than this are lifted by [`LIFT`], that one over them be no infinity.
const SMALL: f32 = 1.0 / LIFT;
const LIFT: f32 = (1u128 << 100) as f32;

/// The packed weights of a block, sixteen positions each.
type Packed = [[[u32; 2]; PER_GROUP]; BLOCK / LANES];

/// What an int8 cache is multiplied by, of each query of a call.
#[derive(Debug)]
pub(super) struct Rounded {
    /// Codes, `[query][quad]`.
    quads: Vec<[i8; 4]>,
    /// The sum of a query's codes, and what a sum of products of codes is multiplied by.
    factors: Vec<(i32, f32)>,
    /// Weights of the block at hand, and their scale.
    weights: Vec<Packed>,
    scales: Vec<f32>,
}

impl Rounded {
    /// Room for `most` queries.
    pub(super) fn new(most: usize, head_dim: usize) -> Rounded {
        Rounded {
            quads: vec![[0; 4]; most * head_dim.div_ceil(4)],
            factors: vec![(0, 0.0); most],
            weights: vec![Packed::default(); most],
            scales: vec![0.0; most],
        }
    }

    /// Rounds the queries, whose products with keys are to be multiplied by `scale`.
    #[inline(always)]
    fn round<L: Lanes>(&mut self, l: L, queries: &[Query<'_>], scale: f32) {
        let per_query = queries[0].vector.len().div_ceil(4);
        let rows = self.quads.chunks_exact_mut(per_query).zip(&mut self.factors);
        for ((quads, factor), query) in rows.zip(queries) {
            let of_query = i8::find_scale(l, query.vector);
            let codes = quads.as_flattened_mut();
            i8::narrow(l, query.vector, of_query, codes);
            codes[query.vector.len()..].fill(0);
            *factor = (codes.iter().map(|code| i32::from(*code)).sum(), of_query * scale);
        }
    }
}

/// A call that multiplies bytes.
pub(super) struct Dotted<'a>(pub(super) Attend<'a, i8>);

impl DotStep for Dotted<'_> {
    #[inline(always)]
    fn run<L: Dots>(self, l: L) {
        let Dotted(Attend { queries, head, scale, share, scratch }) = self;
        let stride = queries[0].vector.len().next_multiple_of(LANES);
        let (few, row) = (queries.len() <= FEW, scratch.row);
        let (scores, rounded) = (&mut scratch.scores[..], &mut scratch.rounded);
        if !share.blocks.is_empty() {
            rounded.round(l, queries, scale);
            if few {
                make_scores::<L, true>(l, queries, head, share.blocks, rounded, (scores, row));
            } else {
                make_scores::<L, false>(l, queries, head, share.blocks, rounded, (scores, row));
            }
        }
        let answers = &mut scratch.answers[..queries.len() * stride];
        answers.fill(0.0);
        if share.groups.is_empty() {
            return;
        }
        let (start, end) = span(queries);
        if few {
            for positions in chunks(start..end, head.chunk).take((AHEAD / (head.chunk * stride)).max(1)) {
                for group in share.groups.clone() {
                    fetch(l, head.group(positions.clone(), group));
                }
            }
        }
        let inverse = weigh(l, queries, scores, row);
        for block in chunks(start..end, BLOCK) {
            rounded.weigh_block(l, queries, head.value_scales, &block, (scores, row));
            if few {
                add_block::<L, true>(l, queries, head, (block, share.groups.clone()), rounded, answers);
            } else {
                add_block::<L, false>(l, queries, head, (block, share.groups.clone()), rounded, answers);
            }
        }
        finish(answers, stride, &inverse[..queries.len()]);
    }
}

impl<'a> Head<'a, i8> {
    /// The keys of some blocks of sixteen positions of one chunk, `[block][quad of dimensions][64]`.
    fn quads_of_keys(&self, blocks: Range<usize>, quads: usize) -> &'a [[i8; QUADS]] {
        let (first, per_chunk) = (blocks.start, self.chunk / LANES);
        let start = self.keys + first / per_chunk * self.pitch + first % per_chunk * quads * QUADS;
        self.data[start..][..blocks.len() * quads * QUADS].as_chunks().0
    }

    /// The values of some positions of one chunk, in one group of dimensions, those that share a quad with them included:
    /// `[quad of positions][64]`.
    fn group(&self, positions: Range<usize>, group: usize) -> &'a [[i8; QUADS]] {
        let (chunk, quads) = (positions.start / self.chunk, positions.start / 4..positions.end.div_ceil(4));
        let place = group * self.chunk * LANES + (quads.start - chunk * self.chunk / 4) * QUADS;
        self.data[self.values + chunk * self.pitch + place..][..quads.len() * QUADS].as_chunks().0
    }
}

/// Scores of all queries against some blocks of keys, to `scores[query * row..]`. With `FETCH`, what is read next is asked
/// for.
#[inline(always)]
fn make_scores<L: Dots, const FETCH: bool>(
    l: L,
    queries: &[Query<'_>],
    head: Head<'_, i8>,
    blocks: Range<usize>,
    rounded: &Rounded,
    (scores, row): (&mut [f32], usize),
) {
    let last = blocks.end;
    for blocks in chunks(blocks, head.chunk / LANES) {
        let mut q = 0;
        while q < queries.len() {
            let tile = Tile { queries, q, head, blocks: &blocks, last, rounded };
            let scores = &mut scores[q * row..];
            q += match queries.len() - q {
                8.. if L::TILE >= 8 => tile.scores::<L, 8, FETCH>(l, scores, row),
                6.. if L::TILE == 6 => tile.scores::<L, 6, FETCH>(l, scores, row),
                4.. => tile.scores::<L, 4, FETCH>(l, scores, row),
                3 => tile.scores::<L, 3, FETCH>(l, scores, row),
                2 => tile.scores::<L, 2, FETCH>(l, scores, row),
                _ => tile.scores::<L, 1, FETCH>(l, scores, row),
            };
        }
    }
}

/// Queries from `q` on, and blocks of one chunk's keys.
struct Tile<'a> {
    queries: &'a [Query<'a>],
    q: usize,
    head: Head<'a, i8>,
    blocks: &'a Range<usize>,
    /// Where the blocks end that are read after these.
    last: usize,
    rounded: &'a Rounded,
}

impl Tile<'_> {
    /// Scores of the first `Q` queries against those of the blocks that any of them needs. Returns `Q`.
    #[inline(always)]
    fn scores<L: Dots, const Q: usize, const FETCH: bool>(self, l: L, scores: &mut [f32], row: usize) -> usize {
        let Tile { queries, q, head, blocks, last, rounded } = self;
        let (start, end) = span(&queries[q..q + Q]);
        let blocks = blocks.start.max(start / LANES)..blocks.end.min(end.div_ceil(LANES));
        let per_query = queries[q].vector.len().div_ceil(4);
        let of: [Scored<'_>; Q] = std::array::from_fn(|n| {
            let (total, factor) = rounded.factors[q + n];
            Scored { quads: &rounded.quads[(q + n) * per_query..][..per_query], total, factor }
        });
        // As many sums as registers hold beside the keys; each block is a stream, and memory likes several.
        let most = match (L::WIDE, Q) {
            (true, 1) => 8,
            (true, ..=4) | (false, 1) => 4,
            (true, ..=8) | (false, 2) => 2,
            _ => 1,
        };
        let mut block = blocks.start;
        while block < blocks.end {
            let count = match most.min(blocks.end - block) {
                8 => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            let keys = head.quads_of_keys(block..block + count, per_query);
            let next = block + count;
            // What is read next, if there is something; else these themselves, which costs nothing.
            let next = if FETCH && next < last { head.quads_of_keys(next..next + 1, per_query) } else { keys };
            let (to, next) = (&mut scores[block * LANES..], next.as_ptr());
            match count {
                8 if most == 8 => {
                    score_blocks::<L, Q, 8, FETCH>(l, &of, (keys, next), head.key_scales, block, (to, row))
                }
                4 if most >= 4 => {
                    score_blocks::<L, Q, 4, FETCH>(l, &of, (keys, next), head.key_scales, block, (to, row))
                }
                2 if most >= 2 => {
                    score_blocks::<L, Q, 2, FETCH>(l, &of, (keys, next), head.key_scales, block, (to, row))
                }
                _ => score_blocks::<L, Q, 1, FETCH>(l, &of, (keys, next), head.key_scales, block, (to, row)),
            }
            block += count;
        }
        Q
    }
}

/// One query as it is multiplied by keys: see [`Rounded`].
struct Scored<'a> {
    quads: &'a [[i8; 4]],
    total: i32,
    factor: f32,
}

/// Scores of `B` blocks from block `first` of the head on.
#[inline(always)]
fn score_blocks<L: Dots, const Q: usize, const B: usize, const FETCH: bool>(
    l: L,
    queries: &[Scored<'_>; Q],
    (keys, next): (&[[i8; QUADS]], *const [i8; QUADS]),
    scales: &[f32],
    first: usize,
    (scores, row): (&mut [f32], usize),
) {
    let per_query = queries[0].quads.len();
    let quads: [&[[i8; 4]]; Q] = std::array::from_fn(|q| &queries[q].quads[..per_query]);
    let blocks: [&[[i8; QUADS]]; B] = std::array::from_fn(|b| &keys[b * per_query..][..per_query]);
    let mut sums = [[l.begin(0); B]; Q];
    for q in 0..Q {
        sums[q] = [l.begin(queries[q].total); B];
    }
    for d in 0..per_query {
        let mut key = [l.keys(&blocks[0][d]); B];
        for b in 0..B {
            if FETCH {
                l.prefetch(next.wrapping_add(b * per_query + d));
            }
            key[b] = l.keys(&blocks[b][d]);
        }
        for q in 0..Q {
            let quad = l.quad(quads[q][d]);
            for b in 0..B {
                sums[q][b] = l.dot(sums[q][b], key[b], quad);
            }
        }
    }
    // Scaled and stored by fixed numbers of each, so that the sums never leave their registers.
    let scales: &[[f32; LANES]] = &scales[first * LANES..].as_chunks().0[..B];
    for q in 0..Q {
        let factor = l.splat(queries[q].factor);
        let groups: &mut [[f32; LANES]] = &mut scores[q * row..].as_chunks_mut().0[..B];
        for b in 0..B {
            l.store(l.mul(l.mul(l.dots(sums[q][b]), factor), l.load(&scales[b])), &mut groups[b]);
        }
    }
}

impl Rounded {
    /// Rounds the weights of all queries in the part of a block that any of them attends to.
    #[inline(always)]
    fn weigh_block<L: Dots>(
        &mut self,
        l: L,
        queries: &[Query<'_>],
        scales: &[f32],
        block: &Range<usize>,
        (weights, row): (&[f32], usize),
    ) {
        let rows = self.weights.iter_mut().zip(&mut self.scales);
        for ((packed, scale), (query, weights)) in rows.zip(queries.iter().zip(weights.chunks_exact(row))) {
            *scale = pack(l, query, (weights, scales), block, packed);
        }
    }
}

/// Rounds and packs a query's weights, times the values' scales, in the groups of sixteen positions that `block` touches.
/// Returns what the integers are multiplied by.
#[inline(always)]
fn pack<L: Dots>(
    l: L,
    query: &Query<'_>,
    (weights, scales): (&[f32], &[f32]),
    block: &Range<usize>,
    packed: &mut Packed,
) -> f32 {
    // Those of the block that the query attends to: whole groups, and what is before and after them.
    let (first, end) = (block.start.max(query.start), block.end.min(query.end));
    let whole = first.next_multiple_of(LANES).min(end)..end / LANES * LANES;
    let whole = whole.start..whole.end.max(whole.start);
    let mut products = [0.0; BLOCK];
    let (mut largest, mut odd) = (l.splat(0.0), l.splat(0.0));
    let rows = weights[whole.clone()].as_chunks().0.iter().zip(scales[whole.clone()].as_chunks().0);
    let to = products[whole.start % BLOCK..][..whole.len()].as_chunks_mut::<LANES>().0;
    for (product, (weight, scale)) in to.iter_mut().zip(rows) {
        let x = l.mul(l.load(weight), l.load(scale));
        l.store(x, product);
        largest = l.max(largest, x);
        // NaN from what is no finite number on.
        odd = l.fma(x, l.splat(0.0), odd);
    }
    for part in [first..whole.start, whole.end..end] {
        let mut edge = [0.0; LANES];
        for (edge, t) in edge.iter_mut().zip(part) {
            *edge = weights[t] * scales[t];
            products[t % BLOCK] = *edge;
        }
        let edge = l.load(&edge);
        largest = l.max(largest, edge);
        odd = l.fma(edge, l.splat(0.0), odd);
    }
    let (largest, odd) = (l.largest(largest), l.sum(odd));
    let lift = if largest < SMALL { LIFT } else { 1.0 };
    let factor = if largest > 0.0 { MOST / (largest * lift) } else { 0.0 };
    let groups = block.start % BLOCK / LANES..(block.end - block.start / BLOCK * BLOCK).div_ceil(LANES);
    let products = &products.as_chunks::<LANES>().0[groups.clone()];
    for (packed, product) in packed[groups].iter_mut().zip(products) {
        let lifted = l.mul(l.load(product), l.splat(lift));
        l.pack(l.add(l.mul(lifted, l.splat(factor)), l.splat(MAGIC)), packed);
    }
    // Adding what is 0 or NaN.
    largest / MOST + odd
}

/// Adds the sums of a block in some groups of dimensions to the answers of all queries. With `FETCH`, what is read next is
/// asked for.
#[inline(always)]
fn add_block<L: Dots, const FETCH: bool>(
    l: L,
    queries: &[Query<'_>],
    head: Head<'_, i8>,
    (block, groups): (Range<usize>, Range<usize>),
    rounded: &Rounded,
    answers: &mut [f32],
) {
    let stride = answers.len() / queries.len();
    let mut q = 0;
    while q < queries.len() {
        let columns = Columns { queries, q, head, block: block.clone(), rounded, stride };
        let (answers, groups) = (&mut answers[q * stride..], groups.clone());
        q += match queries.len() - q {
            4.. => columns.add::<L, 4, FETCH>(l, groups, answers),
            3 => columns.add::<L, 3, FETCH>(l, groups, answers),
            2 => columns.add::<L, 2, FETCH>(l, groups, answers),
            _ => columns.add::<L, 1, FETCH>(l, groups, answers),
        };
    }
}

/// Queries from `q` on, and the values of a block of positions.
struct Columns<'a> {
    queries: &'a [Query<'a>],
    q: usize,
    head: Head<'a, i8>,
    block: Range<usize>,
    rounded: &'a Rounded,
    stride: usize,
}

impl Columns<'_> {
    /// Adds the sums of the first `Q` queries to their answers. Returns `Q`.
    #[inline(always)]
    fn add<L: Dots, const Q: usize, const FETCH: bool>(self, l: L, groups: Range<usize>, answers: &mut [f32]) -> usize {
        let (start, end) = span(&self.queries[self.q..self.q + Q]);
        let positions = self.block.start.max(start)..self.block.end.min(end);
        // As many sums as registers hold beside the values.
        let most = match (L::WIDE, Q) {
            (true, ..=2) => 4,
            (true, ..=4) | (false, 1) => 2,
            _ => 1,
        };
        let mut group = groups.start;
        while group < groups.end && !positions.is_empty() {
            let of = (positions.clone(), group);
            group += match most.min(groups.end - group) {
                4 => self.add_groups::<L, Q, 4, FETCH>(l, of, answers),
                2.. => self.add_groups::<L, Q, 2, FETCH>(l, of, answers),
                _ => self.add_groups::<L, Q, 1, FETCH>(l, of, answers),
            };
        }
        Q
    }

    /// As [`Columns::add`] of `D` groups from `first` on. Returns `D`.
    #[inline(always)]
    fn add_groups<L: Dots, const Q: usize, const D: usize, const FETCH: bool>(
        &self,
        l: L,
        (positions, first): (Range<usize>, usize),
        answers: &mut [f32],
    ) -> usize {
        let Columns { q, head, rounded, stride, .. } = *self;
        let mut totals = [[l.nothing(); D]; Q];
        for positions in chunks(positions, head.chunk) {
            let quads = positions.start / 4..positions.end.div_ceil(4);
            let count = quads.len();
            let mut values: [&[[i8; QUADS]]; D] = [&[]; D];
            for g in 0..D {
                values[g] = &head.group(positions.clone(), first + g)[..count];
            }
            let mut weights: [&[[u32; 2]]; Q] = [&[]; Q];
            for n in 0..Q {
                weights[n] = &rounded.weights[q + n].as_flattened()[quads.start % (BLOCK / 4)..][..count];
            }
            // The same place of the next chunk, if there is one; which is asked for in vain if there is not, at the end.
            let later = (positions.start + head.chunk) / head.chunk * head.chunk < self.queries[q].end;
            let pitch = if FETCH && later { head.pitch } else { 0 };
            for t in 0..count {
                let mut value = [l.values(&values[0][t]); D];
                for g in 0..D {
                    if FETCH {
                        l.prefetch(values[g][t].as_ptr().wrapping_add(pitch));
                    }
                    value[g] = l.values(&values[g][t]);
                }
                for n in 0..Q {
                    let weights = l.weights(&weights[n][t]);
                    for g in 0..D {
                        totals[n][g] = l.weigh(totals[n][g], value[g], weights);
                    }
                }
            }
        }
        for n in 0..Q {
            let scale = rounded.scales[q + n];
            if scale != 0.0 {
                let groups: &mut [[f32; LANES]] = &mut answers[n * stride + first * LANES..].as_chunks_mut().0[..D];
                for g in 0..D {
                    l.store(l.fma(l.totals(totals[n][g]), l.splat(scale), l.load(&groups[g])), &mut groups[g]);
                }
            }
        }
        D
    }
}

#[cfg(test)]
mod tests;
