//! Numbers at the edge of what the types hold: sums that fill an i32, activations that are zero, denormal or no numbers.

use engine::quant::{F16Matrix, MAX_COLS, Q8Matrix, TernaryMatrix};
use engine::{Error, Input, Isa, Kernels, Linear, Pool};
use half::f16;
use proptest::prelude::*;

fn forward(linear: &Linear, isa: Isa, x: &[f32]) -> Vec<f32> {
    let (kernels, pool) = (Kernels::new(Some(isa)).unwrap(), Pool::new(1, false).unwrap());
    let tokens = x.len() / linear.cols();
    let mut input = Input::new(tokens, linear.cols());
    input.f32_mut(tokens).copy_from_slice(x);
    let mut out = vec![f32::NAN; tokens * linear.rows()];
    pool.enter(|team| {
        input.prepare(team, kernels, linear);
        linear.forward(team, kernels, &input, &mut out);
    });
    out
}

/// Weights and activations (as signs, of which the latter become +-127) whose products are all alike, or add up far and
/// come back.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    weight: fn(usize, usize) -> i8,
    activation: fn(usize, usize) -> i8,
}

fn alternate(_: usize, col: usize) -> i8 {
    if col.is_multiple_of(2) { 1 } else { -1 }
}

fn plus(_: usize, _: usize) -> i8 {
    1
}

fn minus(_: usize, _: usize) -> i8 {
    -1
}

/// The first half up, the second down, and zeros at the end: the sum is small, so that f32 holds each unit of it.
fn there_and_back(cols: usize, col: usize) -> i8 {
    match col {
        _ if col + 3 >= cols => 0,
        _ if col < cols / 2 => 1,
        _ => -1,
    }
}

fn sparse(_: usize, col: usize) -> i8 {
    (col % 3) as i8 - 1
}

const PATTERNS: [Pattern; 8] = [
    Pattern { weight: plus, activation: plus },
    Pattern { weight: minus, activation: plus },
    Pattern { weight: minus, activation: minus },
    Pattern { weight: plus, activation: alternate },
    Pattern { weight: minus, activation: alternate },
    Pattern { weight: alternate, activation: alternate },
    Pattern { weight: there_and_back, activation: plus },
    Pattern { weight: sparse, activation: there_and_back },
];

/// Every path gives the sum in integers, each number of tokens and each place of a row.
fn assert_exact(cols: usize, rows: usize, batches: &[usize], pattern: Pattern) {
    const SCALE: f32 = 0.5;
    let Pattern { weight, activation } = pattern;
    let matrix = TernaryMatrix::from_codes(rows, cols, SCALE, |_, col| weight(cols, col)).unwrap();
    let linear = Linear::Ternary(matrix);
    let token: Vec<f32> = (0..cols).map(|col| f32::from(activation(cols, col))).collect();
    let product = |col| i64::from(weight(cols, col)) * 127 * i64::from(activation(cols, col));
    let sum = i32::try_from((0..cols).map(product).sum::<i64>()).unwrap();
    let want = sum as f32 * (SCALE * (1.0 / 127.0));
    for &tokens in batches {
        let x: Vec<f32> = token.iter().copied().cycle().take(tokens * cols).collect();
        for isa in Isa::available() {
            let y = forward(&linear, isa, &x);
            assert!(
                y.iter().all(|&y| y == want),
                "{cols} columns, {tokens} tokens, {isa}, {pattern:?}: not {want}: {y:?}"
            );
        }
    }
}

/// Saturated activations of one sign, or of alternating signs against alternating weights, at every length of a tail.
///
/// A `vpmaddubsw` of codes (weight + 1, so 0 to 2) and activations adds pairs of up to 2 x 2 x 127 = 508 in i16.
/// bitnet.cpp's AVX2 kernel of I2_S keeps adding for 32 steps of four of them: 32 x 4 x 508 = 65,024, while i16 ends at
/// 32,767, so saturated rows of ones wrap there from the 17th step on, which is from 17 x 128 = 2,176 columns. Here an i16
/// takes 15 blocks of four, 15 x 4 x 508 = 30,480 (30,720 with the -128 that no quantiser makes), before it is spilled.
#[test]
fn saturated_sums_are_exact_at_every_tail() {
    for pattern in PATTERNS {
        for cols in (1..=70).chain(237..=259).chain(477..=483).chain([2_048, 2_175, 2_176, 2_177, 4_096]) {
            assert_exact(cols, 17, &[1, 2, 4, 5, 13], pattern);
        }
    }
}

/// The longest rows of the models that are published and of the suites (the down projection of the 100B shape has 45,568
/// columns), and the longest there may be.
///
/// 45,568 x 2 x 127 = 11,574,272 before the sum of activations is taken away, and at the limit 2^22 x 2 x 128 = 2^30: an
/// i32 holds 2^31 - 1, and |sum - sum of activations| is at most 2^30 + 2^29.
#[test]
fn saturated_sums_are_exact_at_the_longest_rows() {
    for pattern in PATTERNS {
        for cols in [6_912, 13_824, 24_576, 45_568, 45_568 + 13, 100_003] {
            assert_exact(cols, 33, &[1, 3], pattern);
        }
        for cols in [MAX_COLS - 5, MAX_COLS] {
            assert_exact(cols, 1, &[1, 2], pattern);
        }
    }
}

/// Where the sum could leave an i32 there is no matrix (nor a configuration: see its own tests).
#[test]
fn longer_rows_are_refused() {
    let cols = MAX_COLS + 1;
    let refused =
        |result: engine::Result<()>| assert!(matches!(result, Err(Error::Size { found, .. }) if found == cols));
    refused(TernaryMatrix::from_codes(1, cols, 1.0, |_, _| 1).map(drop));
    refused(F16Matrix::from_rows(1, cols, |_, _| Ok(())).map(drop));
    refused(Q8Matrix::from_rows(1, cols, |_, _| Ok(())).map(drop));
}

const KINDS: [&str; 3] = ["ternary-2bit", "f16", "q8_0"];

/// A small deterministic stream of bits (SplitMix64).
fn mix(seed: u64, i: usize) -> u64 {
    let mut z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A matrix of random weights times `scale`, some of them zero.
fn linear(kind: &str, rows: usize, cols: usize, scale: f32, seed: u64) -> Linear {
    let trit = |r: usize, c: usize| (mix(seed, r * cols + c) % 3) as i8 - 1;
    match kind {
        "f16" => {
            let fill = |r: usize, out: &mut [f16]| {
                (0..cols).for_each(|c| out[c] = f16::from_f32(f32::from(trit(r, c)) * scale));
                Ok(())
            };
            Linear::F16(F16Matrix::from_rows(rows, cols, fill).unwrap())
        }
        "q8_0" => {
            let fill = |r: usize, out: &mut [f32]| {
                (0..cols).for_each(|c| out[c] = f32::from(trit(r, c)) * scale);
                Ok(())
            };
            Linear::Q8(Q8Matrix::from_rows(rows, cols, fill).unwrap())
        }
        _ => Linear::Ternary(TernaryMatrix::from_codes(rows, cols, scale, trit).unwrap()),
    }
}

/// Bits, all NaNs alike: which NaN an operation makes differs between instructions.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() }).collect()
}

/// No activation at all has a scale all the same (absmax is at least 1e-5), and gives 0 and not NaN; so do zero rows.
#[test]
fn zeros_give_zeros() {
    for kind in KINDS {
        for (scale, x) in [(0.5, 0.0), (0.5, -0.0), (0.0, 1.0)] {
            let linear = linear(kind, 33, 70, scale, 1);
            for tokens in [1, 2, 13] {
                for isa in Isa::available() {
                    let y = forward(&linear, isa, &vec![x; tokens * 70]);
                    assert!(y.iter().all(|&y| y == 0.0), "{kind} of {scale} times {x}, {isa}: {y:?}");
                }
            }
        }
    }
}

/// Activations too small for their format's scale count as zeros: below half a step of 1e-5 / 127 for ternary weights, and in
/// blocks whose step would be denormal for q8. (Its inverse is infinite, and zeros times that are no numbers.)
#[test]
fn denormal_activations_count_as_zeros_in_int8() {
    for (kind, tiny) in [("ternary-2bit", 1e-40), ("ternary-2bit", 3.9e-8), ("q8_0", 1e-40), ("q8_0", 1e-36)] {
        let linear = linear(kind, 20, 70, 1.0, 2);
        let x: Vec<f32> = (0..70).map(|col| [tiny, 0.0, -tiny, -0.0][col % 4]).collect();
        for isa in Isa::available() {
            let y = forward(&linear, isa, &x);
            assert!(y.iter().all(|&y| y == 0.0), "{kind}, {tiny}, {isa}: {y:?}");
        }
    }
    // One step more than that is a number again.
    for (kind, small) in [("ternary-2bit", 4e-8), ("q8_0", 2e-36)] {
        let y = forward(&linear(kind, 20, 70, 1.0, 2), Isa::Scalar, &[small; 70]);
        assert!(y.iter().any(|&y| y != 0.0), "{kind}: {y:?}");
    }
}

/// Denormal scales are numbers like others: nothing flushes them on one path alone.
#[test]
fn denormal_scales_are_the_same_everywhere() {
    for (kind, scale) in [("ternary-2bit", 1e-40), ("ternary-2bit", f32::MIN_POSITIVE), ("f16", 6e-8), ("q8_0", 1e-5)] {
        let linear = linear(kind, 33, 70, scale, 3);
        let x: Vec<f32> = (0..3 * 70).map(|i| (mix(4, i) % 255) as f32 - 127.0).collect();
        let want = forward(&linear, Isa::Scalar, &x);
        assert!(want.iter().any(|&y| y != 0.0), "{kind} of {scale} is all zeros");
        for isa in Isa::available() {
            assert_eq!(bits(&forward(&linear, isa, &x)), bits(&want), "{kind} of {scale}, {isa}");
        }
    }
}

/// From nothing over the border of the activation scale to what is no number.
const ODD: [f32; 18] = [
    0.0,
    -0.0,
    1e-45,
    -1e-40,
    f32::MIN_POSITIVE,
    9.9e-6,
    1e-5,
    -1.1e-5,
    0.5,
    -1.0,
    127.0,
    -127.5,
    1e19,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// All paths agree whatever the activations, and from one that is no finite number comes no output that is one.
    #[test]
    fn odd_numbers_are_the_same_everywhere(
        kind in prop::sample::select(&KINDS),
        rows in 1usize..=40,
        cols in 1usize..=300,
        tokens in 1usize..=14,
        scale in prop::sample::select(&[0.0f32, 1e-40, 1e-7, 0.02, 1.0, 60_000.0]),
        worst in 1usize..=ODD.len(),
        seed: u64,
    ) {
        let linear = linear(kind, rows, cols, scale, seed);
        let x: Vec<f32> = (0..tokens * cols).map(|i| ODD[mix(!seed, i) as usize % worst]).collect();
        let want = forward(&linear, Isa::Scalar, &x);
        for (x, y) in x.chunks_exact(cols).zip(want.chunks_exact(rows)) {
            prop_assert!(x.iter().all(|x| x.is_finite()) || y.iter().all(|y| !y.is_finite()), "{:?} of {:?}", y, x);
        }
        for isa in Isa::available() {
            prop_assert_eq!(&bits(&forward(&linear, isa, &x)), &bits(&want), "{}", isa);
        }
    }
}
