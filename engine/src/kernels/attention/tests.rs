//! Attention against f64, and every path against every other.

use half::f16;

use super::*;
use crate::kernels::isa::Isa;

#[test]
fn the_f16_cache_saturates_finite_numbers_alone() {
    for (x, want) in [(65_519.0, 65_504.0), (-1e30, -65_504.0), (f32::INFINITY, f32::INFINITY), (1e-9, 0.0)] {
        assert_eq!(f16::to_f32(Element::from_f32(x, 1.0)), want);
    }
    assert!(f16::is_nan(Element::from_f32(f32::NAN, 1.0)));
}

/// Numbers in [-1, 1) with no pattern.
pub(super) fn noise(count: usize, seed: u32) -> Vec<f32> {
    let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) ^ i << 7).wrapping_mul(0x9e37_79b9);
    (0..count as u32).map(|i| value(i) as f32 / 2f32.powi(31) - 1.0).collect()
}

/// Positions of a cache: no multiple of sixteen, several chunks.
const CONTEXT: usize = 210;

/// Where a key's code of a dimension lies, as the top of [`attention`](super) has it.
fn key_place<E: Element>(position: usize, d: usize, dim: usize) -> usize {
    match E::SCALED {
        false => (position / 16 * dim + d) * 16 + position % 16,
        true => ((position / 16 * dim.div_ceil(4) + d / 4) * 16 + position % 16) * 4 + d % 4,
    }
}

/// As [`key_place`], of a value in a chunk of positions.
fn value_place<E: Element>(position: usize, d: usize, chunk: usize, stride: usize) -> usize {
    match E::SCALED {
        false => position * stride + d,
        true => ((d / 16 * chunk / 4 + position / 4) * 16 + d % 16) * 4 + position % 4,
    }
}

struct Case<E> {
    dim: usize,
    /// `[position / 16][dimension][position % 16]`, and `[position][stride]`, whatever the layout in the cache.
    keys: Vec<E>,
    values: Vec<E>,
    key_scales: Vec<f32>,
    value_scales: Vec<f32>,
    queries: Vec<Vec<f32>>,
    context: usize,
}

impl<E: Element + Into<f64>> Case<E> {
    fn new(dim: usize, context: usize) -> Case<E> {
        let stride = dim.next_multiple_of(LANES);
        let encode = |x: f32| E::from_f32(x, 1.0 / 127.0);
        let mut values: Vec<E> = noise(context * stride, 2).into_iter().map(encode).collect();
        // The padding of a head stays zero.
        values.chunks_mut(stride).for_each(|value| value[dim..].fill(E::default()));
        let positions = context.next_multiple_of(LANES);
        let keys = noise(positions * dim, 1).into_iter().map(|x| encode(4.0 * x)).collect();
        let count = if E::SCALED { positions } else { 0 };
        let scales = |seed, size| noise(count, seed).into_iter().map(|x| size * (2.0 + x)).collect();
        let (key_scales, value_scales) = (scales(3, 0.01), scales(4, 0.0025));
        let queries = (0..MAX_QUERIES as u32).map(|q| noise(dim, 10 + q)).collect();
        Case { dim, keys, values, key_scales, value_scales, queries, context }
    }

    fn run(&self, isa: Isa, vectors: &[Vec<f32>], positions: &[(usize, usize)]) -> Vec<Vec<f32>> {
        let queries: Vec<Query<'_>> =
            positions.iter().zip(vectors).map(|(&(start, end), vector)| Query { vector, start, end }).collect();
        let mut scratch = Scratch::new(self.context, self.dim);
        let kernels = Kernels::new(Some(isa)).unwrap();
        let data = self.chunks();
        attend(kernels, &queries, self.head(&data), 0.5, &mut scratch);
        (0..positions.len()).map(|q| scratch.answer(q)[..self.dim].to_vec()).collect()
    }

    /// Elements of a chunk of keys, of values, and of the gap after them.
    fn sizes(&self) -> (usize, usize, usize) {
        (CHUNK * self.dim.next_multiple_of(E::SIDE), CHUNK * self.dim.next_multiple_of(LANES), 48)
    }

    /// Keys and values in chunks of the fewest positions, with something else between them.
    fn chunks(&self) -> Vec<E> {
        let (dim, stride, (keys, values, gap)) = (self.dim, self.dim.next_multiple_of(LANES), self.sizes());
        let mut data = vec![E::from_f32(f32::MAX, 1.0); self.context.div_ceil(CHUNK) * (keys + values + gap)];
        for (index, chunk) in data.chunks_exact_mut(keys + values + gap).enumerate() {
            let (keys, values) = (chunk[..keys + values]).split_at_mut(keys);
            // The padding of a head stays zero.
            values.fill(E::default());
            let positions = self.keys.len() / dim;
            for t in index * CHUNK..positions.min((index + 1) * CHUNK) {
                for d in 0..dim {
                    keys[key_place::<E>(t % CHUNK, d, dim)] = self.keys[(t / LANES * dim + d) * LANES + t % LANES];
                    if t < self.context {
                        values[value_place::<E>(t % CHUNK, d, CHUNK, stride)] = self.values[t * stride + d];
                    }
                }
            }
        }
        data
    }

    fn head<'a>(&'a self, data: &'a [E]) -> Head<'a, E> {
        let (keys, values, gap) = self.sizes();
        let Case { key_scales, value_scales, .. } = self;
        Head { data, keys: 0, values: keys, chunk: CHUNK, pitch: keys + values + gap, key_scales, value_scales }
    }

    /// One query by itself, by the scalar path.
    fn alone(&self, query: usize, positions: (usize, usize)) -> Vec<f32> {
        self.run(Isa::Scalar, &self.queries[query..], &[positions]).remove(0)
    }

    fn truth(&self, query: usize, (start, end): (usize, usize)) -> Vec<f64> {
        let (dim, stride) = (self.dim, self.dim.next_multiple_of(LANES));
        let scale = |scales: &[f32], t: usize| scales.get(t).map_or(1.0, |scale| f64::from(*scale));
        let key = |t: usize, d: usize| -> f64 {
            self.keys[(t / LANES * dim + d) * LANES + t % LANES].into() * scale(&self.key_scales, t)
        };
        let score = |t| (0..dim).map(|d| f64::from(self.queries[query][d]) * key(t, d)).sum::<f64>() * 0.5;
        let weights: Vec<f64> = (start..end).map(|t| f64::exp(score(t))).collect();
        let total: f64 = weights.iter().sum();
        let value = |t: usize, d: usize| -> f64 { self.values[t * stride + d].into() * scale(&self.value_scales, t) };
        (0..dim).map(|d| (start..end).map(|t| weights[t - start] / total * value(t, d)).sum()).collect()
    }
}

/// How many queries at once: every tile of a few, and of every width; what [`SEEN`] lacks is made of its last.
const COUNTS: [usize; 11] = [1, 2, 3, 4, 5, 8, 13, 16, 31, 32, MAX_QUERIES];

/// Positions of query `n`: those of `seen`, then the same again, each time one further on.
fn positions_of(seen: &[(usize, usize); FEW], n: usize) -> (usize, usize) {
    let ((start, end), further) = (seen[n % FEW], n / FEW);
    if start == 0 { (0, (end + further).min(CONTEXT)) } else { ((start + further).min(end - 1), end) }
}

/// Full attention; windows that overlap, that share nothing, of one position; starts and ends in every order.
const SEEN: [[(usize, usize); FEW]; 10] = [
    [(0, 1); 4],
    [(0, 2), (0, 3), (0, 4), (0, 5)],
    [(0, 15), (0, 16), (0, 17), (0, 18)],
    [(0, 200), (0, 33), (0, 129), (0, 210)],
    [(0, 30), (1, 31), (2, 32), (3, 33)],
    [(150, 207), (151, 208), (152, 209), (153, 210)],
    [(16, 32), (17, 33), (17, 33), (18, 34)],
    [(47, 48), (48, 49), (49, 50), (50, 51)],
    [(100, 210), (0, 99), (31, 64), (60, 130)],
    [(60, 61), (62, 80), (63, 65), (64, 131)],
];

fn check<E: Element + Into<f64>>() {
    for dim in [2, 16, 24, 48, 64, 96, 120, 136] {
        let case = Case::<E>::new(dim, CONTEXT);
        for seen in &SEEN {
            let positions: Vec<(usize, usize)> = (0..MAX_QUERIES).map(|n| positions_of(seen, n)).collect();
            let alone: Vec<Vec<f32>> = (0..MAX_QUERIES).map(|n| case.alone(n, positions[n])).collect();
            // An int8 cache is multiplied by rounded queries: how far that may be is a test of `int8`.
            for (query, answer) in alone.iter().enumerate().filter(|_| !E::SCALED) {
                for (found, truth) in answer.iter().zip(case.truth(query, positions[query])) {
                    assert!((f64::from(*found) - truth).abs() < 1e-5, "{dim} {positions:?}: {found} {truth}");
                }
            }
            for isa in Isa::available() {
                for count in COUNTS {
                    let found = case.run(isa, &case.queries, &positions[..count]);
                    assert_eq!(found, alone[..count], "{isa} {dim} {count} of {positions:?}");
                }
            }
        }
    }
}

#[test]
fn queries_are_right_and_the_same_alone_in_tiles_and_on_every_isa() {
    check::<f16>();
    check::<f32>();
    check::<i8>();
}

#[test]
fn positions_before_a_window_are_not_read() {
    let window = [(100, 110), (101, 111), (102, 112), (103, 113)];
    let mut case = Case::<f32>::new(40, 120);
    for isa in Isa::available() {
        let truth = case.run(isa, &case.queries, &window);
        // Key blocks of sixteen are read whole.
        case.keys[..96 * 40].fill(f32::NAN);
        case.values[..100 * 48].fill(f32::NAN);
        assert_eq!(case.run(isa, &case.queries, &window), truth, "{isa}");
        assert!(case.run(isa, &case.queries, &[(99, 110)])[0][0].is_nan(), "{isa}");
        case = Case::new(40, 120);
    }
}

#[test]
fn int8_keys_and_values_are_the_nearest_codes() {
    let codes = |x: &[f32]| -> (f32, Vec<i8>) {
        let scale = <i8 as Element>::scale(x);
        (scale, x.iter().map(|x| <i8 as Element>::from_f32(*x, scale)).collect())
    };
    assert_eq!(codes(&[127.0, -127.0, 0.5, 1.5, -2.5, 0.4]), (1.0, vec![127, -127, 0, 2, -2, 0]));
    assert_eq!(codes(&[0.0, -0.0]), (0.0, vec![0, 0]));
    // A scale that rounds to 0 stands for 0 whatever the code.
    assert_eq!(codes(&[f32::from_bits(1), 0.0]).0, 0.0);
    assert_eq!(codes(&[f32::MAX, -f32::MAX, 1.0]), (f32::MAX / 127.0, vec![127, -127, 0]));
    // What is no number makes all of the head none, so that it reaches the logits.
    for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        assert!(codes(&[1.0, odd]).0.is_nan());
    }
    let x = noise(1000, 7);
    let (scale, found) = codes(&x);
    for (x, code) in x.iter().zip(found) {
        assert!((f64::from(scale) * f64::from(code) - f64::from(*x)).abs() <= f64::from(scale) * 0.500001);
    }
}

/// Rows that begin and end anywhere, what f16 rounds to infinity among them: each code where the layout has it.
fn check_store<E: Element + PartialEq + std::fmt::Debug>() {
    for (dim, first, rows) in [(24usize, 0, 1), (24, 13, 21), (16, 31, 1), (40, 5, 64)] {
        let (heads, stride) = (3, dim.next_multiple_of(LANES));
        let width = heads * dim;
        let (mut keys, values) = (noise(rows * width, 1), noise(rows * width, 2));
        keys[..3].copy_from_slice(&[65_519.9, -65_521.0, 1e-7]);
        for isa in Isa::available() {
            let mut data = vec![[E::default(); 96 * 96]; 2 * heads];
            let mut scales = vec![[0.0f32; 96]; 2 * heads];
            let (k, v) = data.split_at_mut(heads);
            let (ks, vs) = scales.split_at_mut(heads);
            let parts = k.iter_mut().zip(v).zip(ks.iter_mut().zip(vs));
            let mut parts: Vec<HeadMut<'_, E>> = parts
                .map(|((keys, values), (key_scales, value_scales))| HeadMut { keys, values, key_scales, value_scales })
                .collect();
            store(Kernels::new(Some(isa)).unwrap(), &mut parts, first, (&keys, &values), (width, dim));
            for (row, head) in (0..rows).flat_map(|row| (0..heads).map(move |head| (row, head))) {
                let position = first + row;
                let of = |x: &'_ [f32]| x[row * width + head * dim..][..dim].to_vec();
                let (key, value) = (of(&keys), of(&values));
                let (key_scale, value_scale) = (E::scale(&key), E::scale(&value));
                for d in 0..dim {
                    let found = data[head][key_place::<E>(position, d, dim)];
                    assert_eq!(found, E::from_f32(key[d], key_scale), "{isa} {dim} {position} {d}");
                    let found = data[heads + head][value_place::<E>(position, d, 96 * 96 / stride, stride)];
                    assert_eq!(found, E::from_f32(value[d], value_scale), "{isa} {dim} {position} {d}");
                }
                if E::SCALED {
                    assert_eq!((scales[head][position], scales[heads + head][position]), (key_scale, value_scale));
                }
            }
        }
    }
}

#[test]
fn keys_and_values_are_stored_where_they_are_read() {
    check_store::<f16>();
    check_store::<f32>();
    check_store::<i8>();
}

#[test]
fn fewer_queries_of_a_long_context_are_taken_at_once() {
    for (context, most) in [(1, MAX_QUERIES), (4096, MAX_QUERIES), (8192, 64), (1 << 20, MIN_QUERIES)] {
        assert_eq!(most_queries(context), most, "{context}");
        let expected = (context * most * size_of::<f32>()) as u64;
        assert_eq!(Scratch::score_bytes(context), expected, "{context}");
    }
}
