//! Ternary weights by `vpdpbusd`: unsigned codes times signed activations, four columns of 16 rows at once.

use std::arch::x86_64::*;

use crate::kernels::tile::{Accumulators, TILE};
use crate::kernels::wide::Group;
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::ternary::{BLOCK, BLOCK_BYTES};

/// Blocks whose sums are sure to fit: one adds at most 4 x 2 x 128 x 64 = 2^16 to a lane.
const SPILL: usize = 1 << 14;

/// Sums of code x activation for whole panels, handed to `finish(panel, sums)` in order. One panel at a time, so that
/// a thread reads its weights as a single stream: measured faster from DRAM than several panels side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn gemv(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let activations = activations.as_chunks::<BLOCK>().0;
    let panel_bytes = activations.len() * BLOCK_BYTES;
    for (panel, bytes) in panels.chunks_exact(panel_bytes).enumerate() {
        let blocks = bytes.as_chunks::<BLOCK_BYTES>().0;
        let mut sum = _mm512_setzero_si512();
        for (blocks, activations) in blocks.chunks(SPILL).zip(activations.chunks(SPILL)) {
            sum = _mm512_add_epi32(sum, dots(blocks, activations));
        }
        let mut sums = [0; PANEL];
        // SAFETY: `sums` is 16 i32.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), sum) };
        finish(panel, &sums);
    }
}

/// The sums of at most [`SPILL`] blocks of a panel. Codes are masked where they stand and summed by place, so that the
/// place is divided out of four sums instead of shifted out of every byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots(codes: &[[u8; BLOCK_BYTES]], activations: &[[i8; BLOCK]]) -> __m512i {
    // Two sets of sums, for even and odd blocks, so that no addition waits for the one before.
    let (mut even, mut odd) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
    let (code_pairs, activation_pairs) = (codes.chunks_exact(2), activations.chunks_exact(2));
    if let ([codes], [activations]) = (code_pairs.remainder(), activation_pairs.remainder()) {
        add_block(&mut even, codes, activations);
    }
    for (codes, activations) in code_pairs.zip(activation_pairs) {
        add_block(&mut even, &codes[0], &activations[0]);
        add_block(&mut odd, &codes[1], &activations[1]);
    }
    let pair: [__m512i; 4] = std::array::from_fn(|s| _mm512_add_epi32(even[s], odd[s]));
    let low = _mm512_add_epi32(pair[0], _mm512_srai_epi32::<2>(pair[1]));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(pair[2]), _mm512_srai_epi32::<6>(pair[3]));
    _mm512_add_epi32(low, high)
}

/// Adds one block to four sums, one for each group of four columns, `4^s` times as large.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add_block(acc: &mut [__m512i; 4], codes: &[u8; BLOCK_BYTES], activations: &[i8; BLOCK]) {
    prefetch_ahead(codes.as_ptr());
    // SAFETY: the 64 bytes of `codes` and the 16 of `activations`.
    let (codes, a) = unsafe {
        (_mm512_loadu_si512(codes.as_ptr().cast()), activations.as_ptr().cast::<[i32; 4]>().read_unaligned())
    };
    for s in 0..4 {
        let code = _mm512_and_si512(codes, _mm512_set1_epi8(3 << (2 * s)));
        acc[s] = _mm512_dpbusd_epi32(acc[s], code, _mm512_set1_epi32(a[s]));
    }
}

/// Sums of code x activation of one or two panels and the first `tokens` tokens of a tile (`[column / 4][token]`).
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn micro(panels: &[&[u8]], tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>) {
    match (panels, tokens) {
        ([a, b], 0..=4) => tile_dots::<2, 4>([a, b], tile, sums),
        ([a, b], 5..=8) => tile_dots::<2, 8>([a, b], tile, sums),
        ([a, b], _) => tile_dots::<2, TILE>([a, b], tile, sums),
        ([a], 0..=4) => tile_dots::<1, 4>([a], tile, sums),
        ([a], 5..=8) => tile_dots::<1, 8>([a], tile, sums),
        ([a], _) => tile_dots::<1, TILE>([a], tile, sums),
        _ => panic!("a tile takes one or two panels"),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile_dots<const P: usize, const T: usize>(panels: [&[u8]; P], tile: &[i32], sums: &mut Accumulators<i32>) {
    let blocks = tile.len() / (BLOCK / 4 * TILE);
    assert!(T <= TILE && panels.iter().all(|panel| panel.len() == blocks * BLOCK_BYTES));
    let mask = _mm512_set1_epi8(3);
    let mut acc = [[_mm512_setzero_si512(); P]; T];
    for b in 0..blocks {
        // SAFETY: block `b` of each panel, 64 bytes, is within it.
        let mut codes = panels.map(|panel| unsafe { _mm512_loadu_si512(panel.as_ptr().add(b * BLOCK_BYTES).cast()) });
        for s in 0..BLOCK / 4 {
            let low = codes.map(|codes| _mm512_and_si512(codes, mask));
            codes = codes.map(|codes| _mm512_srli_epi32::<2>(codes));
            for (t, acc) in acc.iter_mut().enumerate() {
                // SAFETY: below `blocks * 4 * TILE`, the length of `tile` at least.
                let a = unsafe { _mm512_set1_epi32(*tile.get_unchecked((b * (BLOCK / 4) + s) * TILE + t)) };
                for p in 0..P {
                    acc[p] = _mm512_dpbusd_epi32(acc[p], low[p], a);
                }
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        for p in 0..P {
            // SAFETY: 16 of the 32 i32 of `sums`, from 16 p with p < 2.
            unsafe { _mm512_storeu_si512(sums[p * PANEL..][..PANEL].as_mut_ptr().cast(), acc[p]) };
        }
    }
}

/// Adds to `sums` those of weights that are a byte each (`[column / 4][panel]`, a panel's 16 rows of four columns 64
/// bytes) and the first `tokens` tokens of a tile (`[column / 4][token]`). With the weights unpacked beforehand nothing
/// but `vpdpbusd` needs a vector port.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn wide(weights: &[Group], panels: usize, tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>) {
    match (panels, tokens) {
        (2, 0..=4) => wide_dots::<2, 4>(weights, tile, sums),
        (2, 5..=8) => wide_dots::<2, 8>(weights, tile, sums),
        (2, _) => wide_dots::<2, TILE>(weights, tile, sums),
        (1, 0..=4) => wide_dots::<1, 4>(weights, tile, sums),
        (1, 5..=8) => wide_dots::<1, 8>(weights, tile, sums),
        (1, _) => wide_dots::<1, TILE>(weights, tile, sums),
        _ => panic!("a tile takes one or two panels"),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn wide_dots<const P: usize, const T: usize>(weights: &[Group], tile: &[i32], sums: &mut Accumulators<i32>) {
    let (weights, tile) = (weights.as_chunks::<P>().0, tile.as_chunks::<TILE>().0);
    let mut acc = [[_mm512_setzero_si512(); P]; T];
    for (acc, sums) in acc.iter_mut().zip(sums.iter()) {
        for p in 0..P {
            // SAFETY: 16 of the 32 sums of a token.
            acc[p] = unsafe { _mm512_loadu_si512(sums[p * PANEL..][..PANEL].as_ptr().cast()) };
        }
    }
    for (weights, activations) in weights.iter().zip(tile) {
        // SAFETY: 64 bytes, aligned.
        let w: [__m512i; P] = std::array::from_fn(|p| unsafe { _mm512_load_si512(weights[p].0.as_ptr().cast()) });
        for (acc, &a) in acc.iter_mut().zip(activations) {
            let a = _mm512_set1_epi32(a);
            for p in 0..P {
                acc[p] = _mm512_dpbusd_epi32(acc[p], w[p], a);
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        for p in 0..P {
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(sums[p * PANEL..][..PANEL].as_mut_ptr().cast(), acc[p]) };
        }
    }
}
