//! Attention against f64, and every path against every other.

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
        let keys = noise(context.next_multiple_of(LANES) * dim, 1).into_iter().map(|x| E::from_f32(4.0 * x)).collect();
        let queries = (0..MAX_QUERIES as u32).map(|q| noise(dim, 10 + q)).collect();
        Case { dim, keys, values, queries, context }
    }

    fn run(&self, isa: Isa, positions: &[(usize, usize)]) -> Vec<Vec<f32>> {
        let queries: Vec<Query<'_>> =
            positions.iter().zip(&self.queries).map(|(&(start, end), vector)| Query { vector, start, end }).collect();
        let mut scratch = Scratch::new(self.context, self.dim);
        let kernels = Kernels::new(Some(isa)).unwrap();
        attend(kernels, &queries, &self.keys, &self.values, 0.5, &mut scratch);
        (0..positions.len()).map(|q| scratch.answer(q)[..self.dim].to_vec()).collect()
    }

    fn truth(&self, query: usize, (start, end): (usize, usize)) -> Vec<f64> {
        let (dim, stride) = (self.dim, self.dim.next_multiple_of(LANES));
        let key = |t: usize, d: usize| -> f64 { self.keys[(t / LANES * dim + d) * LANES + t % LANES].into() };
        let score = |t| (0..dim).map(|d| f64::from(self.queries[query][d]) * key(t, d)).sum::<f64>() * 0.5;
        let weights: Vec<f64> = (start..end).map(|t| f64::exp(score(t))).collect();
        let total: f64 = weights.iter().sum();
        let value = |t: usize, d: usize| -> f64 { self.values[t * stride + d].into() };
        (0..dim).map(|d| (start..end).map(|t| weights[t - start] / total * value(t, d)).sum()).collect()
    }
}

/// Full attention; windows that overlap, that share nothing, of one position; starts and ends in every order.
const SEEN: [[(usize, usize); MAX_QUERIES]; 9] = [
    [(0, 1); 4],
    [(0, 2), (0, 3), (0, 4), (0, 5)],
    [(0, 15), (0, 16), (0, 17), (0, 18)],
    [(0, 200), (0, 33), (0, 129), (0, 210)],
    [(0, 30), (1, 31), (2, 32), (3, 33)],
    [(150, 207), (151, 208), (152, 209), (153, 210)],
    [(16, 32), (17, 33), (17, 33), (18, 34)],
    [(47, 48), (48, 49), (49, 50), (50, 51)],
    [(100, 210), (0, 99), (31, 64), (60, 130)],
];

fn check<E: Element + Into<f64>>() {
    for dim in [2, 16, 24, 48, 64, 120, 136] {
        let case = Case::<E>::new(dim, 210);
        for positions in SEEN {
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
