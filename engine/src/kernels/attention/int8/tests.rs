//! The int8 path against exact attention, at the ends of its ranges, and however it is divided.

use super::*;
use crate::kernels::attention::tests::noise;
use crate::kernels::attention::{HeadMut, MAX_QUERIES, Scratch, Share, attend, attend_share, blocks, store};
use crate::kernels::isa::{Isa, Kernels};

/// Positions over several blocks, the last not whole.
const CONTEXT: usize = 700;
const SCALE: f32 = 0.25;

/// Keys and values of one head, as they are and as they are stored.
struct Stored {
    dim: usize,
    chunk: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    data: Vec<i8>,
    key_scales: Vec<f32>,
    value_scales: Vec<f32>,
}

impl Stored {
    fn new(dim: usize, chunk: usize) -> Stored {
        let (keys, values) = (noise(CONTEXT * dim, 1), noise(CONTEXT * dim, 2));
        let keys: Vec<f32> = keys.iter().map(|x| 3.0 * x).collect();
        let queries = noise(MAX_QUERIES * dim, 3);
        let (key_part, stride) = (chunk * dim.next_multiple_of(4), dim.next_multiple_of(16));
        let mut data = vec![0; CONTEXT.div_ceil(chunk) * (key_part + chunk * stride)];
        let positions = CONTEXT.next_multiple_of(16);
        let (mut key_scales, mut value_scales) = (vec![0.0; positions], vec![0.0; positions]);
        let chunks = data.chunks_exact_mut(key_part + chunk * stride);
        let scales = key_scales.chunks_mut(chunk).zip(value_scales.chunks_mut(chunk));
        let rows = keys.chunks(chunk * dim).zip(values.chunks(chunk * dim));
        for ((part, (key_scales, value_scales)), rows) in chunks.zip(scales).zip(rows) {
            let (keys, values) = part.split_at_mut(key_part);
            let mut head = [HeadMut { keys, values, key_scales, value_scales }];
            store(Kernels::new(None).unwrap(), &mut head, 0, rows, (dim, dim));
        }
        Stored { dim, chunk, keys, values, queries, data, key_scales, value_scales }
    }

    fn head(&self) -> Head<'_, i8> {
        let Stored { dim, chunk, data, key_scales, value_scales, .. } = self;
        let keys = chunk * dim.next_multiple_of(4);
        let pitch = keys + chunk * dim.next_multiple_of(16);
        Head { data, keys: 0, values: keys, chunk: *chunk, pitch, key_scales, value_scales }
    }

    fn queries(&self, windows: &[(usize, usize)]) -> Vec<Query<'_>> {
        let vectors = self.queries.chunks_exact(self.dim);
        windows.iter().zip(vectors).map(|(&(start, end), vector)| Query { vector, start, end }).collect()
    }

    fn run(&self, isa: Isa, windows: &[(usize, usize)]) -> Vec<Vec<f32>> {
        let mut scratch = Scratch::new(CONTEXT, self.dim);
        attend(Kernels::new(Some(isa)).unwrap(), &self.queries(windows), self.head(), SCALE, &mut scratch);
        (0..windows.len()).map(|q| scratch.answer(q)[..self.dim].to_vec()).collect()
    }

    /// One query by itself, by the scalar path.
    fn alone(&self, n: usize, window: (usize, usize)) -> Vec<f32> {
        let (queries, mut scratch) = (self.queries(&vec![window; n + 1]), Scratch::new(CONTEXT, self.dim));
        attend(Kernels::new(Some(Isa::Scalar)).unwrap(), &queries[n..], self.head(), SCALE, &mut scratch);
        scratch.answer(0)[..self.dim].to_vec()
    }

    /// Attention in f64, over the keys and values as they were (`rounded` false), or as they are stored.
    fn truth(&self, n: usize, (start, end): (usize, usize), rounded: bool) -> Vec<f64> {
        let of = |x: &[f32], t: usize| -> Vec<f64> {
            let x = &x[t * self.dim..][..self.dim];
            let scale = i8::scale(x);
            let code = |x: f32| f64::from(scale) * f64::from(<i8 as Element>::from_f32(x, scale));
            x.iter().map(|x| if rounded { code(*x) } else { f64::from(*x) }).collect()
        };
        let query = &self.queries[n * self.dim..][..self.dim];
        let score = |t| of(&self.keys, t).iter().zip(query).map(|(k, q)| k * f64::from(*q)).sum::<f64>();
        let weights: Vec<f64> = (start..end).map(|t| (score(t) * f64::from(SCALE)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut answer = vec![0.0; self.dim];
        for (t, weight) in (start..end).zip(weights) {
            answer.iter_mut().zip(of(&self.values, t)).for_each(|(x, v)| *x += weight / total * v);
        }
        answer
    }
}

/// Windows of every kind across the borders of blocks.
fn windows() -> Vec<(usize, usize)> {
    let some = [(0, 700), (0, 1), (255, 257), (100, 600), (256, 512), (3, 6), (511, 700), (0, 256)];
    (0..MAX_QUERIES).map(|n| if n < 16 { some[n % 8] } else { (n * 2, n * 2 + 1 + n * 3) }).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn what_rounding_queries_and_weights_costs_is_less_than_what_the_cache_costs() {
    for dim in [24, 64, 96, 128] {
        let stored = Stored::new(dim, 64);
        let windows = windows();
        let found = stored.run(Isa::best(), &windows);
        let (mut own, mut caches, mut all, mut size) = (0.0, 0.0, 0.0, 0.0);
        for (n, found) in found.iter().enumerate().take(40) {
            let (exact, rounded) = (stored.truth(n, windows[n], false), stored.truth(n, windows[n], true));
            for ((found, exact), rounded) in found.iter().zip(exact).zip(rounded) {
                own += (f64::from(*found) - rounded).powi(2);
                caches += (rounded - exact).powi(2);
                all += (f64::from(*found) - exact).powi(2);
                size += exact.powi(2);
            }
        }
        let of = |error: f64| (error / size).sqrt();
        let (own, caches, all) = (of(own), of(caches), of(all));
        println!("{dim}: own {own:.2e}, the cache's {caches:.2e}, together {all:.2e}");
        assert!(own < 1e-2 && own < 1.2 * caches && all < 1.5 * caches, "{dim}: {own} {caches} {all}");
    }
}

#[test]
fn blocks_chunks_tiles_and_isas_change_no_bit() {
    for (dim, chunk) in [(2, 64), (24, 64), (96, 256), (128, 256), (136, 704)] {
        let (stored, windows) = (Stored::new(dim, chunk), windows());
        let alone: Vec<_> = (0..MAX_QUERIES).map(|n| bits(&stored.alone(n, windows[n]))).collect();
        for isa in Isa::available() {
            for count in [1, 2, 3, 4, 5, 7, 16, 31, MAX_QUERIES] {
                let found: Vec<_> = stored.run(isa, &windows[..count]).iter().map(|x| bits(x)).collect();
                assert!(found == alone[..count], "{isa} {dim} {chunk} {count}");
            }
        }
    }
}

#[test]
fn shares_of_workers_make_the_same_whole() {
    let (dim, windows) = (120, [(0, 700), (30, 700), (0, 650), (333, 334)]);
    let stored = Stored::new(dim, 256);
    for (isa, count) in Isa::available().into_iter().flat_map(|isa| (1..=FEW).map(move |count| (isa, count))) {
        let (queries, kernels) = (stored.queries(&windows[..count]), Kernels::new(Some(isa)).unwrap());
        let (all, groups) = (blocks(&queries), 0..dim.div_ceil(LANES));
        let mut scratch = Scratch::new(CONTEXT, dim);
        let halves = |of: Range<usize>| [of.start..of.start + of.len() / 3, of.start + of.len() / 3..of.end];
        for blocks in halves(all) {
            let share = Share { blocks, ..Share::default() };
            attend_share(kernels, &queries, stored.head(), (SCALE, share), &mut scratch);
        }
        let scores: Vec<Vec<f32>> = (0..count).map(|q| scratch.scores(q).to_vec()).collect();
        let whole = stored.run(isa, &windows[..count]);
        for groups in halves(groups) {
            let places = groups.start * LANES..(groups.end * LANES).min(dim);
            (0..count).for_each(|q| scratch.scores(q).copy_from_slice(&scores[q]));
            let share = Share { groups, ..Share::default() };
            attend_share(kernels, &queries, stored.head(), (SCALE, share), &mut scratch);
            for q in 0..count {
                assert_eq!(scratch.answer(q)[places.clone()], whole[q][places.clone()], "{isa} {count}");
            }
        }
    }
}

#[test]
fn what_is_no_number_reaches_those_alone_that_attend_to_it() {
    let windows = [(0, 300), (0, 301), (0, 302), (301, 400), (302, 400), (0, 256), (256, 300)];
    let sees = |(start, end): (usize, usize)| start <= 301 && 301 < end;
    for isa in Isa::available() {
        for count in [4, 7] {
            let truth = Stored::new(40, 64).run(isa, &windows[..count]);
            for key in [false, true] {
                let mut stored = Stored::new(40, 64);
                (if key { &mut stored.key_scales } else { &mut stored.value_scales })[301] = f32::NAN;
                for (n, found) in stored.run(isa, &windows[..count]).iter().enumerate() {
                    if sees(windows[n]) {
                        assert!(found.iter().all(|x| x.is_nan()), "{isa} {n}");
                    } else {
                        assert_eq!(*found, truth[n], "{isa} {n}");
                    }
                }
            }
            for odd in [f32::NAN, f32::INFINITY] {
                let mut stored = Stored::new(40, 64);
                stored.queries[40 + 7] = odd;
                let found = stored.run(isa, &windows[..count]);
                assert!(found[1].iter().all(|x| x.is_nan()), "{isa}");
                assert_eq!((&found[0], &found[2..]), (&truth[0], &truth[2..]), "{isa}");
            }
        }
    }
}

#[test]
fn the_least_and_the_largest_scales_are_borne() {
    for scale in [0.0, f32::from_bits(1), 1e-40, 1e-36, 1e-31, 1e-30, 1.0, 1e33] {
        let mut stored = Stored::new(24, 64);
        stored.value_scales.iter_mut().for_each(|x| *x = scale);
        let windows = [(0, 700), (0, 300), (17, 230), (250, 260), (0, 1)];
        let found = stored.run(Isa::Scalar, &windows);
        for isa in Isa::available() {
            assert_eq!(stored.run(isa, &windows), found, "{isa} {scale}");
        }
        let largest = found.iter().flatten().fold(0.0f32, |largest, x| largest.max(x.abs()));
        assert!(largest <= 127.1 * scale && (scale < 1e-36 || largest > scale), "{scale} {largest}");
    }
}

/// Sums of the largest products there are, and of every pairing of signs, in lanes that differ.
struct Ends<'a> {
    codes: &'a [[i8; QUADS]],
    quads: &'a [[i8; 4]],
    weights: &'a [[f32; LANES]],
    found: &'a mut [[f32; LANES]; 2],
}

impl DotStep for Ends<'_> {
    #[inline(always)]
    fn run<L: Dots>(self, l: L) {
        let mut sums = l.begin(self.quads.as_flattened().iter().map(|x| i32::from(*x)).sum());
        for (codes, quad) in self.codes.iter().zip(self.quads) {
            sums = l.dot(sums, l.keys(codes), l.quad(*quad));
        }
        l.store(l.dots(sums), &mut self.found[0]);
        let mut totals = l.nothing();
        for (codes, weights) in self.codes.chunks(4).zip(self.weights) {
            let mut packed = [[0; 2]; 4];
            l.pack(l.add(l.load(weights), l.splat(MAGIC)), &mut packed);
            for (codes, packed) in codes.iter().zip(packed) {
                totals = l.weigh(totals, l.values(codes), l.weights(&packed));
            }
        }
        l.store(l.totals(totals), &mut self.found[1]);
    }
}

#[test]
fn sums_are_exact_to_the_ends_of_their_ranges() {
    let (codes, others) = (noise(64 * QUADS, 1), noise(64 * 4, 2));
    let code = |x: f32| (x * 127.0).round() as i8;
    let end = |x: f32| if x < 0.0 { -127 } else { 127 };
    for (of, same) in [(&code as &dyn Fn(f32) -> i8, false), (&end, false), (&|_| 127, true), (&|_| -127, true)] {
        let codes: Vec<[i8; QUADS]> = codes.as_chunks().0.iter().map(|x: &[f32; QUADS]| x.map(of)).collect();
        let quads: Vec<[i8; 4]> = others.as_chunks().0.iter().map(|x: &[f32; 4]| x.map(of)).collect();
        let weight = |x: f32| if same { MOST } else { (x.abs() * MOST).round() };
        let weights: Vec<[f32; LANES]> = others.as_chunks().0.iter().map(|x: &[f32; LANES]| x.map(weight)).collect();
        let weights_flat = weights.as_flattened();
        let mut expected = [[0.0; LANES]; 2];
        for lane in 0..LANES {
            let of_lane = |t: usize| i64::from(codes[t / 4][lane * 4 + t % 4]);
            let dot: i64 = (0..256).map(|t| of_lane(t) * i64::from(quads.as_flattened()[t])).sum();
            let total: i64 = (0..256).map(|t| of_lane(t) * weights_flat[t] as i64).sum();
            (expected[0][lane], expected[1][lane]) = (dot as f32, total as f32);
        }
        for isa in Isa::available() {
            let mut found = [[0.0; LANES]; 2];
            let ends = Ends { codes: &codes, quads: &quads, weights: &weights, found: &mut found };
            crate::kernels::lanes::dots::run_dots(Kernels::new(Some(isa)).unwrap(), ends);
            assert_eq!(found, expected, "{isa}");
        }
    }
}
