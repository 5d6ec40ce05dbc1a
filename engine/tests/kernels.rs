//! Every code path of the linear layers equals the scalar one bit for bit: any shape, batch and thread count.

use engine::quant::{Base3Matrix, Float16, Float16Matrix, Q8Matrix, TernaryMatrix};
use engine::{Input, Isa, Kernels, Linear, Pool};
use half::f16;
use proptest::prelude::*;

const KINDS: [&str; 5] = ["ternary-2bit", "ternary-1.6bit", "f16", "bf16", "q8_0"];

/// A small deterministic stream of bits (SplitMix64).
fn mix(seed: u64, i: usize) -> u64 {
    let mut z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// In -1..1.
fn real(seed: u64, i: usize) -> f32 {
    (mix(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn float16<E: Float16>(rows: usize, cols: usize, seed: u64) -> Float16Matrix<E> {
    let fill = |r: usize, out: &mut [E]| {
        (0..cols).for_each(|c| out[c] = E::narrow(real(seed, r * cols + c)));
        Ok(())
    };
    Float16Matrix::from_rows(rows, cols, fill).unwrap()
}

fn linear(kind: &str, rows: usize, cols: usize, seed: u64) -> Linear {
    match kind {
        "f16" => Linear::F16(float16(rows, cols, seed)),
        "bf16" => Linear::Bf16(float16(rows, cols, seed)),
        "q8_0" => {
            let fill = |r: usize, out: &mut [f32]| {
                (0..cols).for_each(|c| out[c] = real(seed, r * cols + c));
                Ok(())
            };
            Linear::Q8(Q8Matrix::from_rows(rows, cols, fill).unwrap())
        }
        kind => {
            let weight = |r: usize, c: usize| (mix(seed, r * cols + c) % 3) as i8 - 1;
            if kind == "ternary-1.6bit" {
                return Linear::Base3(Base3Matrix::from_codes(rows, cols, 0.037, weight).unwrap());
            }
            Linear::Ternary(TernaryMatrix::from_codes(rows, cols, 0.037, weight).unwrap())
        }
    }
}

fn forward(linear: &Linear, isa: Isa, threads: usize, x: &[f32]) -> Vec<f32> {
    let (kernels, pool) = (Kernels::new(Some(isa)).unwrap(), Pool::new(threads, false).unwrap());
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

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// `REQUIRE_ISA=avx2,avx512` makes the absence of a path a failure instead of a silent skip.
#[test]
fn required_paths_are_available() {
    let required = std::env::var("REQUIRE_ISA").unwrap_or_else(|_| "scalar".into());
    for name in required.split(',') {
        Kernels::new(Some(name.parse().unwrap())).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_path_thread_count_and_batch_gives_the_same_bits(
        kind in prop::sample::select(&KINDS),
        rows in 1usize..=100,
        cols in 1usize..=400,
        tokens in 1usize..=40,
        threads in 1usize..=3,
        seed: u64,
    ) {
        let linear = linear(kind, rows, cols, seed);
        let x: Vec<f32> = (0..tokens * cols).map(|i| real(!seed, i) * 5.0).collect();
        let want = bits(&forward(&linear, Isa::Scalar, 1, &x));
        for isa in Isa::available() {
            prop_assert_eq!(&bits(&forward(&linear, isa, threads, &x)), &want, "{} together", isa);
            let last = &x[(tokens - 1) * cols..];
            prop_assert_eq!(&bits(&forward(&linear, isa, threads, last)), &want[(tokens - 1) * rows..], "{} alone", isa);
        }
    }
}

/// Every number of columns up to three periods of both packings (80 columns), alone and together.
#[test]
fn five_trits_a_byte_give_the_bits_of_two_bits_a_trit() {
    for cols in 1..=250 {
        let (two, five) = (linear("ternary-2bit", 35, cols, 3), linear("ternary-1.6bit", 35, cols, 3));
        for tokens in [1, 2, 13] {
            let x: Vec<f32> = (0..tokens * cols).map(|i| real(4, i) * 5.0).collect();
            let want = bits(&forward(&two, Isa::Scalar, 1, &x));
            for isa in Isa::available() {
                assert_eq!(bits(&forward(&five, isa, 2, &x)), want, "{cols} columns, {tokens} tokens, {isa}");
            }
        }
    }
}

/// Columns beyond one pass of 16-bit prefill, and enough tokens and rows for several tiles and panel pairs.
#[test]
fn long_rows_give_the_same_bits() {
    for kind in KINDS {
        let (rows, cols, tokens) = (50, 4103, 75);
        let linear = linear(kind, rows, cols, 5);
        let x: Vec<f32> = (0..tokens * cols).map(|i| real(6, i)).collect();
        let want = bits(&forward(&linear, Isa::Scalar, 1, &x));
        for isa in Isa::available() {
            assert_eq!(bits(&forward(&linear, isa, 2, &x)), want, "{kind} {isa}");
        }
    }
}

/// All weights 1 and all activations at the int8 limit: what overflows i16 sums that are kept too long.
#[test]
fn saturating_sums_are_exact() {
    for cols in [15 * 16, 16 * 16, 17 * 16, 4096, 70_001, 1 << 20] {
        for weight in [1, -1] {
            let linears = [
                Linear::Ternary(TernaryMatrix::from_codes(17, cols, 0.5, |_, _| weight).unwrap()),
                Linear::Base3(Base3Matrix::from_codes(17, cols, 0.5, |_, _| weight).unwrap()),
            ];
            for (linear, sign) in linears.iter().flat_map(|linear| [(linear, 1.0), (linear, -1.0)]) {
                for tokens in if cols < 1 << 20 { &[1, 2, 13][..] } else { &[1, 2] } {
                    let x = vec![sign; tokens * cols];
                    let sum = 127 * cols as i32 * i32::from(weight) * sign as i32;
                    let want = sum as f32 * (0.5 * (1.0 / 127.0));
                    for isa in Isa::available() {
                        let y = forward(linear, isa, 1, &x);
                        let kind = linear.kind();
                        assert!(
                            y.iter().all(|&y| y == want),
                            "{kind}, {cols} columns of {weight}, {sign}, {isa}: {y:?}, not {want}"
                        );
                    }
                }
            }
        }
    }
}

/// q8 at its limits: every weight -128 (which only a file can hold) or 127, activations at +-127.
#[test]
fn saturating_q8_blocks_are_exact() {
    for weight in [-128i8, 127] {
        let fill = |_: usize, out: &mut [u8]| {
            for block in out.chunks_exact_mut(34) {
                block[..2].copy_from_slice(&f16::ONE.to_le_bytes());
                block[2..].fill(weight as u8);
            }
            Ok(())
        };
        let linear = Linear::Q8(Q8Matrix::from_blocks(20, 96, fill).unwrap());
        for sign in [127.0f32, -127.0] {
            let want = 96.0 * f32::from(weight) * sign;
            for isa in Isa::available() {
                let y = forward(&linear, isa, 1, &[sign; 96]);
                assert!(y.iter().all(|&y| y == want), "{weight} x {sign}, {isa}: {y:?}, not {want}");
            }
        }
    }
}

/// Activations that are no numbers give outputs that are none, never plausible ones, and all others do no harm beyond
/// themselves; alike on every path.
#[test]
fn odd_activations_are_the_same_everywhere() {
    let odd = [f32::NAN, -f32::NAN, f32::MAX, f32::MIN_POSITIVE, -0.0, 1e-40, 1e-6];
    for (i, &value) in odd.iter().enumerate() {
        for kind in ["ternary-2bit", "ternary-1.6bit", "q8_0"] {
            let linear = linear(kind, 33, 70, 9);
            let mut x: Vec<f32> = (0..70).map(|c| real(7, c) * 1e-6).collect();
            x[i * 9] = value;
            let want = forward(&linear, Isa::Scalar, 1, &x);
            assert!(!value.is_nan() || want.iter().all(|y| y.is_nan()), "{kind}, {value}: {want:?}");
            for isa in Isa::available() {
                let y = forward(&linear, isa, 2, &x);
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(y.iter().zip(&want).all(same), "{kind}, {value}, {isa}: {y:?}, not {want:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "not prepared")]
fn forgetting_to_prepare_is_caught() {
    let pool = Pool::new(1, false).unwrap();
    let mut input = Input::new(1, 70);
    input.f32_mut(1).fill(1.0);
    let linear = linear("ternary-2bit", 33, 70, 9);
    let kernels = Kernels::new(Some(Isa::Scalar)).unwrap();
    pool.enter(|team| linear.forward(team, kernels, &input, &mut [0.0; 33]));
}
