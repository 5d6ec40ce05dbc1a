//! Sums of values, by the softmax weights of some queries side by side.

use std::ops::Range;

use super::element::{Float, LINE};
use super::{Query, UNIT};
use crate::kernels::lanes::{LANES, Lanes};

/// Softmax weights of `Q` queries.
pub(super) struct Weights<'a, const Q: usize> {
    /// Of each query, by position from 0 on; those outside the query's own positions mean nothing.
    rows: [&'a [f32]; Q],
    starts: [usize; Q],
    ends: [usize; Q],
    /// The positions from the first to the last that any query attends to.
    pub(super) any: Range<usize>,
    /// Those that all attend to; 0..0 if there are none.
    shared: Range<usize>,
}

impl<'a, const Q: usize> Weights<'a, Q> {
    /// `weights[query * row..]` are those of a query.
    #[inline(always)]
    pub(super) fn new(queries: &[Query<'_>], weights: &'a [f32], row: usize) -> Weights<'a, Q> {
        let starts: [usize; Q] = std::array::from_fn(|q| queries[q].start);
        let ends: [usize; Q] = std::array::from_fn(|q| queries[q].end);
        let (mut any, mut shared) = (starts[0]..ends[0], starts[0]..ends[0]);
        for q in 1..Q {
            any = any.start.min(starts[q])..any.end.max(ends[q]);
            shared = shared.start.max(starts[q])..shared.end.min(ends[q]);
        }
        if shared.is_empty() {
            shared = 0..0;
        }
        let rows = std::array::from_fn(|q| &weights[q * row..][..row]);
        Weights { rows, starts, ends, any, shared }
    }
}

/// Some positions' values.
#[derive(Clone, Copy)]
pub(super) struct Values<'a, E> {
    /// `[position][stride]`, from position `first` on.
    pub(super) codes: &'a [E],
    pub(super) first: usize,
    pub(super) stride: usize,
    /// Values to ask for meanwhile: as many positions at most.
    pub(super) next: &'a [E],
}

/// Adds the products of weights and values of `positions`, in some groups of sixteen dimensions, to `sums`,
/// `[query][stride]`, in the order of positions. With `FETCH`, `values.next` is asked for.
#[inline(always)]
pub(super) fn add_values<L: Lanes, E: Float, const Q: usize, const FETCH: bool>(
    l: L,
    weights: &Weights<'_, Q>,
    values: Values<'_, E>,
    (positions, groups): (Range<usize>, Range<usize>),
    sums: &mut [f32],
) {
    let positions = positions.start.max(weights.any.start)..positions.end.min(weights.any.end);
    if positions.is_empty() {
        return;
    }
    // As many sums as registers hold beside a value.
    let most = match (L::WIDE, Q) {
        (true, ..=2) => 8,
        (false, 1) => 6,
        (true, ..=4) => 4,
        (true, _) => 3,
        (false, 2) => 2,
        _ => 1,
    };
    let mut group = groups.start;
    while group < groups.end {
        let to = (positions.clone(), group * LANES);
        group += match most.min(groups.end - group) {
            8 if most == 8 => add_columns::<L, E, Q, 8, FETCH>(l, weights, values, to, sums),
            6.. if most >= 6 => add_columns::<L, E, Q, 6, FETCH>(l, weights, values, to, sums),
            4.. if most >= 4 => add_columns::<L, E, Q, 4, FETCH>(l, weights, values, to, sums),
            3 if most == 3 => add_columns::<L, E, Q, 3, FETCH>(l, weights, values, to, sums),
            2.. if most >= 2 => add_columns::<L, E, Q, 2, FETCH>(l, weights, values, to, sums),
            _ => add_columns::<L, E, Q, 1, FETCH>(l, weights, values, to, sums),
        };
    }
}

/// As [`add_values`] for `D` groups of sixteen dimensions from dimension `first` on. Returns `D`.
#[inline(always)]
fn add_columns<L: Lanes, E: Float, const Q: usize, const D: usize, const FETCH: bool>(
    l: L,
    weights: &Weights<'_, Q>,
    values: Values<'_, E>,
    (positions, first): (Range<usize>, usize),
    sums: &mut [f32],
) -> usize {
    let stride = values.stride;
    let mut acc = [[l.splat(0.0); D]; Q];
    for q in 0..Q {
        let (groups, _) = sums[q * stride + first..].as_chunks::<LANES>();
        for g in 0..D {
            acc[q][g] = l.load(&groups[g]);
        }
    }
    let shared = weights.shared.start.clamp(positions.start, positions.end);
    add_ragged(l, &mut acc, weights, values, (positions.start..shared, first));
    let mut t = shared;
    while t + UNIT <= weights.shared.end.min(positions.end) {
        let of: [&[f32; UNIT]; Q] = std::array::from_fn(|q| &weights.rows[q][t..].as_chunks().0[0]);
        let at = (t - values.first) * stride;
        let rows = &values.codes[at..][..UNIT * stride];
        // These themselves, which costs nothing, if there are no more.
        let next = values.next.get(at..at + UNIT * stride).unwrap_or(rows);
        for i in 0..UNIT {
            let row = &rows[i * stride + first..][..D * LANES];
            if FETCH {
                for line in 0..(D * LANES * size_of::<E>()).div_ceil(LINE) {
                    l.prefetch(next[i * stride + first..].as_ptr().wrapping_byte_add(line * LINE));
                }
            }
            let value = load_groups::<L, E, D>(l, row);
            for q in 0..Q {
                let weight = l.splat(of[q][i]);
                for g in 0..D {
                    acc[q][g] = l.fma(weight, value[g], acc[q][g]);
                }
            }
        }
        t += UNIT;
    }
    add_ragged(l, &mut acc, weights, values, (t..positions.end, first));
    for q in 0..Q {
        let (groups, _) = sums[q * stride + first..].as_chunks_mut::<LANES>();
        for g in 0..D {
            l.store(acc[q][g], &mut groups[g]);
        }
    }
    D
}

/// Adds the values of positions that not all queries attend to.
#[inline(always)]
fn add_ragged<L: Lanes, E: Float, const Q: usize, const D: usize>(
    l: L,
    acc: &mut [[L::V; D]; Q],
    weights: &Weights<'_, Q>,
    values: Values<'_, E>,
    (positions, first): (Range<usize>, usize),
) {
    for t in positions {
        let value = load_groups::<L, E, D>(l, &values.codes[(t - values.first) * values.stride + first..]);
        for q in 0..Q {
            if weights.starts[q] <= t && t < weights.ends[q] {
                let weight = l.splat(weights.rows[q][t]);
                for g in 0..D {
                    acc[q][g] = l.fma(weight, value[g], acc[q][g]);
                }
            }
        }
    }
}

/// The first `D` groups of sixteen values. (A loop: a closure would not be compiled for the instruction set.)
#[inline(always)]
fn load_groups<L: Lanes, E: Float, const D: usize>(l: L, values: &[E]) -> [L::V; D] {
    let (groups, _) = values[..D * LANES].as_chunks::<LANES>();
    let mut loaded = [l.splat(0.0); D];
    for (loaded, group) in loaded.iter_mut().zip(groups) {
        *loaded = E::load(l, group);
    }
    loaded
}
