//! Linears against plain arithmetic on unpacked weights, and every path against the scalar one.

use half::{bf16, f16};

use super::*;
use crate::kernels::isa::Isa;
use crate::quant::{Float16, Float16Matrix};
use crate::threads::Pool;

/// A small deterministic stream of bits.
fn mix(seed: u64, i: u64) -> u64 {
    let mut z = (seed ^ i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// In -1..1.
fn real(seed: u64, i: usize) -> f32 {
    (mix(seed, i as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn ternary_of(rows: usize, cols: usize, seed: u64) -> Linear {
    let weight = |r: usize, c: usize| (mix(seed, (r * cols + c) as u64) % 3) as i8 - 1;
    Linear::Ternary(TernaryMatrix::from_codes(rows, cols, 0.037, weight).unwrap())
}

fn float16_of<E: Float16>(rows: usize, cols: usize, seed: u64) -> Float16Matrix<E> {
    let fill = |r: usize, out: &mut [E]| {
        out.iter_mut().enumerate().for_each(|(c, w)| *w = E::narrow(real(seed, r * cols + c)));
        Ok(())
    };
    Float16Matrix::from_rows(rows, cols, fill).unwrap()
}

/// The same weights in both 16-bit formats, each rounded.
fn float16s_of(rows: usize, cols: usize, seed: u64) -> [Linear; 2] {
    [Linear::F16(float16_of::<f16>(rows, cols, seed)), Linear::Bf16(float16_of::<bf16>(rows, cols, seed))]
}

fn q8_of(rows: usize, cols: usize, seed: u64) -> Linear {
    let fill = |r: usize, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(c, w)| *w = real(seed, r * cols + c));
        Ok(())
    };
    Linear::Q8(Q8Matrix::from_rows(rows, cols, fill).unwrap())
}

fn q6_of(rows: usize, cols: usize, seed: u64) -> Linear {
    let fill = |r: usize, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(c, w)| *w = real(seed, r * cols + c));
        Ok(())
    };
    Linear::Q6(Q6Matrix::from_rows(rows, cols, fill).unwrap())
}

/// Every number of columns up to two super-blocks, with all 210 bytes of a block at random, scales of -128 too.
#[test]
fn q6_is_its_integers_and_every_path_equals_the_scalar_one() {
    for cols in (1..=70).chain([95, 96, 97, 255, 256, 257, 288, 500, 512]) {
        let (linear, x) = (q6_of(19, cols, 7), activations(6, cols, 7));
        let y = forward(&linear, Isa::Scalar, 1, &x);
        let mut row = vec![0.0; cols];
        for r in 0..19 {
            linear.row_to_f32(r, &mut row);
            for t in 0..2 {
                // The activations' rounding alone lies between: half a step of each block.
                let blocks = row.chunks(32).zip(x[t * cols..][..cols].chunks(32));
                let (mut want, mut bound) = (0.0f64, 1e-4);
                for (w, x) in blocks {
                    let step = x.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
                    want += w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>();
                    bound += w.iter().map(|w| f64::from(w.abs() * step) * 0.5).sum::<f64>();
                }
                assert!((f64::from(y[t * 19 + r]) - want).abs() <= bound, "{cols} columns, row {r}");
            }
        }
        for isa in Isa::available() {
            assert_eq!(bits(&forward(&linear, isa, 2, &x)), bits(&y), "{cols} columns, {isa}");
        }
    }
    let fill = |r: usize, out: &mut [u8]| {
        out.iter_mut().enumerate().for_each(|(i, byte)| *byte = mix(r as u64, i as u64) as u8);
        // All bits and scales at their ends in some rows; f16 scales that are numbers.
        match r % 4 {
            0 => out.fill(0xff),
            1 => out.chunks_exact_mut(210).for_each(|block| block[192..208].fill(0x80)),
            2 => out.chunks_exact_mut(210).for_each(|block| (block[..192].fill(0), block[192..208].fill(0x80)).1),
            _ => {}
        }
        out.chunks_exact_mut(210).for_each(|block| block[209] = 0x2c);
        Ok(())
    };
    let linear = Linear::Q6(Q6Matrix::from_blocks(40, 768, fill).unwrap());
    for sign in [1.0, -1.0, 0.0] {
        let x: Vec<f32> = activations(5, 768, 8).iter().map(|x| if sign == 0.0 { *x } else { sign }).collect();
        let want = bits(&forward(&linear, Isa::Scalar, 1, &x));
        for isa in Isa::available() {
            assert_eq!(bits(&forward(&linear, isa, 2, &x)), want, "{isa}");
        }
    }
}

fn activations(tokens: usize, cols: usize, seed: u64) -> Vec<f32> {
    (0..tokens * cols).map(|i| real(seed ^ 0xac7, i) * 3.0).collect()
}

fn forward(linear: &Linear, isa: Isa, threads: usize, x: &[f32]) -> Vec<f32> {
    forward_by(linear, Kernels::new(Some(isa)).unwrap(), threads, x)
}

fn forward_by(linear: &Linear, kernels: Kernels, threads: usize, x: &[f32]) -> Vec<f32> {
    let pool = Pool::new(threads, false).unwrap();
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

const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (16, 16, 1), (17, 15, 2), (33, 100, 3), (80, 257, 1), (5, 64, 13)];

#[test]
fn scalar_ternary_is_the_definition() {
    for (rows, cols, tokens) in SHAPES {
        let (linear, x) = (ternary_of(rows, cols, 1), activations(tokens, cols, 1));
        let Linear::Ternary(matrix) = &linear else { unreachable!() };
        let y = forward(&linear, Isa::Scalar, 1, &x);
        for t in 0..tokens {
            let x = &x[t * cols..][..cols];
            let s = 127.0 / x.iter().fold(1e-5f32, |m, v| m.max(v.abs()));
            let a: Vec<i32> = x.iter().map(|v| (v * s).round_ties_even().clamp(-128.0, 127.0) as i32).collect();
            for r in 0..rows {
                let dot: i32 = (0..cols).map(|c| i32::from(matrix.weight(r, c)) * a[c]).sum();
                assert_eq!(y[t * rows + r], dot as f32 * (0.037 * (1.0 / s)), "{rows} x {cols}, token {t}, row {r}");
            }
        }
    }
}

#[test]
fn scalar_f16_is_one_chain_a_row() {
    for (rows, cols, tokens) in SHAPES {
        let [linear, _] = float16s_of(rows, cols, 2);
        let x = activations(tokens, cols, 2);
        let y = forward(&linear, Isa::Scalar, 1, &x);
        let mut row = vec![0.0; cols];
        for r in 0..rows {
            linear.row_to_f32(r, &mut row);
            for t in 0..tokens {
                let want = (0..cols).fold(0.0f32, |sum, c| row[c].mul_add(x[t * cols + c], sum));
                assert_eq!(y[t * rows + r].to_bits(), want.to_bits(), "{rows} x {cols}, token {t}, row {r}");
            }
        }
    }
}

/// A row times a token as bf16 layers are defined.
fn bf16_chain(row: &[f32], x: &[f32]) -> f32 {
    let round = |x: f32| {
        let rounded = bf16::from_f32(x).to_f32();
        if rounded.abs() < 2f32.powi(-50) { 0.0 } else { rounded }
    };
    row.chunks(2).zip(x.chunks(2)).fold(0.0f32, |sum, (w, x)| {
        let sum = if let ([_, w], [_, x]) = (w, x) { w.mul_add(round(*x), sum) } else { sum };
        w[0].mul_add(round(x[0]), sum)
    })
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Every path with its kernels, and with those of a CPU that lacks `vdpbf16ps`, or on which it is the faster or the slower
/// with several tokens.
fn all_kernels() -> impl Iterator<Item = Kernels> {
    let kernels = Isa::available().into_iter().map(|isa| Kernels::new(Some(isa)).unwrap());
    kernels.flat_map(|kernels| [kernels, kernels.without_bf16(), kernels.with_bf16_batches()])
}

#[test]
fn bf16_is_its_definition_on_every_path() {
    for (rows, cols, tokens) in SHAPES.into_iter().chain([(50, 1001, 30), (33, 2600, 14)]) {
        let [_, linear] = float16s_of(rows, cols, 2);
        let x = activations(tokens, cols, 2);
        let mut want = vec![0.0; tokens * rows];
        let mut row = vec![0.0; cols];
        for r in 0..rows {
            linear.row_to_f32(r, &mut row);
            (0..tokens).for_each(|t| want[t * rows + r] = bf16_chain(&row, &x[t * cols..][..cols]));
        }
        for kernels in all_kernels() {
            for threads in 1..=2 {
                let at = format!("{rows} x {cols} x {tokens}, {kernels:?}, {threads} threads");
                assert_eq!(bits(&forward_by(&linear, kernels, threads, &x)), bits(&want), "{at}");
                let single: Vec<f32> = x.chunks(cols).flat_map(|x| forward_by(&linear, kernels, threads, x)).collect();
                assert_eq!(bits(&single), bits(&want), "{at}, token by token");
            }
        }
    }
}

/// Weights and activations that are huge, tiny (below 2^-50, denormals too), zero of either sign, and activations that are no
/// numbers, each beside ordinary ones: alike on every path, and no denormal lost to `vdpbf16ps`.
#[test]
fn odd_values_of_bf16_are_the_same_everywhere() {
    let (least, below) = (2f32.powi(-50), 2f32.powi(-50) * 0.99);
    let odd = [f32::MAX, 1e38, -3e30, least, -below, 1e-20, 1e-38, f32::MIN_POSITIVE, 1e-40, -0.0, 0.0];
    let (rows, cols) = (35, 45);
    let ordinary = |i: usize| real(77, i);
    for (nth, &weight) in odd.iter().enumerate() {
        // Not rounded to infinity, which loading would refuse.
        let weight = weight.clamp(-3e38, 3e38);
        let fill = |r: usize, out: &mut [bf16]| {
            out.iter_mut().enumerate().for_each(|(c, w)| {
                *w = bf16::from_f32(if (r + c).is_multiple_of(5) { weight } else { ordinary(r * cols + c) });
            });
            Ok(())
        };
        let linear = Linear::Bf16(Bf16Matrix::from_rows(rows, cols, fill).unwrap());
        for x in odd.into_iter().chain([f32::NAN, -f32::NAN, f32::INFINITY, f32::from_bits(0x7f80_0001)]) {
            let tokens = 14;
            let place = |t: usize, c: usize| (t + c).is_multiple_of(3 + nth);
            let x: Vec<f32> =
                (0..tokens * cols).map(|i| if place(i / cols, i % cols) { x } else { ordinary(i) * 1e-3 }).collect();
            let mut row = vec![0.0; cols];
            let mut want = vec![0.0; tokens * rows];
            for r in 0..rows {
                linear.row_to_f32(r, &mut row);
                (0..tokens).for_each(|t| want[t * rows + r] = bf16_chain(&row, &x[t * cols..][..cols]));
            }
            for kernels in all_kernels() {
                for count in [1, tokens] {
                    let found = forward_by(&linear, kernels, 2, &x[..count * cols]);
                    let differs = found.iter().zip(&want).position(|(a, b)| !same(*a, *b));
                    assert_eq!(differs, None, "weight {weight:e}, {x:?}, {count} tokens, {kernels:?}");
                }
            }
        }
    }
}

#[test]
fn scalar_q8_is_near_the_unquantised_product() {
    for (rows, cols, tokens) in SHAPES {
        let (linear, x) = (q8_of(rows, cols, 3), activations(tokens, cols, 3));
        let y = forward(&linear, Isa::Scalar, 1, &x);
        let mut row = vec![0.0; cols];
        for r in 0..rows {
            linear.row_to_f32(r, &mut row);
            for t in 0..tokens {
                let want: f32 = (0..cols).map(|c| row[c] * x[t * cols + c]).sum();
                // Half an activation step (3 / 127) for each weight of magnitude at most 1.
                let bound = cols as f32 * 3.0 / 127.0 * 0.5 + 1e-4;
                assert!((y[t * rows + r] - want).abs() <= bound, "{rows} x {cols}, token {t}, row {r}");
            }
        }
    }
}

/// A linear's weights as the reference holds them.
fn plain_of(linear: &Linear, arithmetic: Arithmetic) -> Linear {
    let fill = |r: usize, out: &mut [f32]| {
        linear.row_to_f32(r, out);
        if let Arithmetic::Ternary { scale } = arithmetic {
            out.iter_mut().for_each(|w| *w /= scale);
        }
        Ok(())
    };
    Linear::Plain(PlainMatrix::from_rows(linear.rows(), linear.cols(), arithmetic, fill).unwrap())
}

#[test]
fn the_reference_is_the_ternary_and_the_f16_kernels_bit_for_bit() {
    for (rows, cols, tokens) in SHAPES {
        let mut x = activations(tokens, cols, 5);
        // A token of zeros, and one so small that the scale is clamped.
        if tokens > 2 {
            x[..cols].fill(0.0);
            x[cols..2 * cols].iter_mut().for_each(|x| *x *= 1e-7);
        }
        let pairs = [(ternary_of(rows, cols, 5), Arithmetic::Ternary { scale: 0.037 })];
        let [half, _] = float16s_of(rows, cols, 5);
        let pairs = pairs.into_iter().chain([(half, Arithmetic::F32)]);
        for (linear, arithmetic) in pairs {
            let want = bits(&forward(&plain_of(&linear, arithmetic), Isa::Scalar, 1, &x));
            for isa in Isa::available() {
                assert_eq!(bits(&forward(&linear, isa, 2, &x)), want, "{} {rows} x {cols}, {isa}", linear.kind());
            }
        }
    }
}

/// Sums beyond 2^24, where f32 would no longer be exact.
#[test]
fn the_reference_sums_saturated_rows_exactly() {
    let cols = 140_001;
    let ones = Linear::Ternary(TernaryMatrix::from_codes(1, cols, 0.037, |_, _| 1).unwrap());
    let mut x = vec![1.0; cols];
    x[0] = 1.0 / 127.0;
    let y = forward(&plain_of(&ones, Arithmetic::Ternary { scale: 0.037 }), Isa::Scalar, 1, &x);
    let sum = 127 * (cols - 1) + 1;
    assert!(sum > 1 << 24 && sum % 2 == 1);
    assert_eq!(y, [sum as f32 * (0.037 * (1.0 / 127.0))]);
    assert_eq!(y, forward(&ones, Isa::best(), 1, &x));
}

#[test]
fn plain_f64_sums_are_those_of_f64() {
    for (rows, cols, tokens) in SHAPES {
        let linear = plain_of(&q8_of(rows, cols, 6), Arithmetic::F64);
        let x = activations(tokens, cols, 6);
        let y = forward(&linear, Isa::Scalar, 2, &x);
        let mut row = vec![0.0; cols];
        for r in 0..rows {
            linear.row_to_f32(r, &mut row);
            for t in 0..tokens {
                let want: f64 = (0..cols).map(|c| f64::from(row[c]) * f64::from(x[t * cols + c])).sum();
                // Half a step of f32, and what another order of f64 sums may change.
                let bound = want.abs() * 2f64.powi(-24) + 1e-12;
                assert!((f64::from(y[t * rows + r]) - want).abs() <= bound, "{rows} x {cols}, token {t}, row {r}");
            }
        }
    }
}

#[test]
fn no_path_thread_count_or_batch_changes_a_bit() {
    for (rows, cols, tokens) in SHAPES {
        let [half, brain] = float16s_of(rows, cols, 4);
        let plain = plain_of(&q8_of(rows, cols, 4), Arithmetic::F64);
        for linear in [ternary_of(rows, cols, 4), half, brain, q8_of(rows, cols, 4), q6_of(rows, cols, 4), plain] {
            let x = activations(tokens, cols, 4);
            let want = bits(&forward(&linear, Isa::Scalar, 1, &x));
            for isa in Isa::available() {
                for threads in 1..=3 {
                    let at = format!("{} {rows} x {cols} x {tokens}, {isa}, {threads} threads", linear.kind());
                    assert_eq!(bits(&forward(&linear, isa, threads, &x)), want, "{at}");
                    let single: Vec<f32> = x.chunks(cols).flat_map(|x| forward(&linear, isa, threads, x)).collect();
                    assert_eq!(bits(&single), want, "{at}, token by token");
                }
            }
        }
    }
}

/// Rows written by [`Input::fill`], tile by tile or not, give what those written one by one give, in every form.
#[test]
fn filled_inputs_are_those_written_by_hand() {
    let (rows, cols) = (33, 150);
    let (ternary, f16) = (ternary_of(rows, cols, 3), Linear::F16(float16_of::<f16>(rows, cols, 3)));
    for tokens in [1, 5, 37, 49, 100, 193] {
        let x = activations(tokens, cols, 5);
        for (threads, isa) in Isa::available().into_iter().flat_map(|isa| [(1, isa), (3, isa)]) {
            for linears in [vec![&ternary], vec![&f16], vec![&ternary, &f16]] {
                let (kernels, pool) = (Kernels::new(Some(isa)).unwrap(), Pool::new(threads, false).unwrap());
                let mut input = Input::new(tokens, cols);
                let mut seen = vec![0u8; tokens];
                let mut out = vec![f32::NAN; tokens * rows];
                pool.enter(|team| {
                    // More of something else before: nothing of it may be left.
                    input.f32_mut(tokens).fill(9.0);
                    linears.iter().for_each(|linear| input.prepare(team, kernels, linear));
                    input.fill((team, kernels), &linears, (&mut seen, 1), |t, seen, out| {
                        seen[0] += 1;
                        out.copy_from_slice(&x[t * cols..][..cols]);
                    });
                    for linear in &linears {
                        input.prepare(team, kernels, linear);
                        linear.forward(team, kernels, &input, &mut out);
                        let want = forward(linear, Isa::Scalar, 1, &x);
                        assert_eq!(bits(&out), bits(&want), "{isa}, {} of {tokens} tokens", linear.kind());
                    }
                });
                assert!(seen.iter().all(|&seen| seen == 1));
            }
        }
    }
}
