//! Ternary weights by the 256-bit `vpdpbusd`: unsigned codes times signed activations, four columns of 8 rows at once.
//! Sums are i32 from the start, so that nothing is spilled on the way as in AVX2's.

use std::arch::x86_64::*;

use crate::kernels::tile::{Accumulators, TILE};
use crate::kernels::wide::Group;
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::ternary::{BLOCK, BLOCK_BYTES};

/// Tokens a kernel takes at once: with the two halves of a panel, 12 of the 16 vector registers are sums.
const STEP: usize = 6;

/// Sums of code x activation for whole panels, handed to `finish(panel, sums)` in order.
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn gemv(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let panel_bytes = activations.len() / BLOCK * BLOCK_BYTES;
    let activations = activations.as_chunks::<BLOCK>().0;
    for (panel, bytes) in panels.chunks_exact(panel_bytes).enumerate() {
        // A set of sums for each group of four columns, so that no addition waits for the one before.
        let mut acc = [[_mm256_setzero_si256(); 2]; BLOCK / 4];
        for (codes, activations) in bytes.as_chunks().0.iter().zip(activations) {
            let mut codes = load(codes);
            for (s, acc) in acc.iter_mut().enumerate() {
                // SAFETY: 4 of the 16 activations.
                let a = unsafe { activations.as_ptr().add(4 * s).cast::<i32>().read_unaligned() };
                add(acc, &mut codes, _mm256_set1_epi32(a));
            }
        }
        let [first, second, third, fourth] = acc;
        let half =
            |h: usize| _mm256_add_epi32(_mm256_add_epi32(first[h], second[h]), _mm256_add_epi32(third[h], fourth[h]));
        let mut sums = [0; PANEL];
        store(&mut sums, [half(0), half(1)]);
        finish(panel, &sums);
    }
}

/// Sums of code x activation of one or two panels and the first `tokens` tokens of a tile (`[column / 4][token]`).
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn micro(panels: &[&[u8]], tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>) {
    for (p, panel) in panels.iter().enumerate() {
        assert!(panel.len() / BLOCK_BYTES * (BLOCK / 4 * TILE) == tile.len());
        for first in (0..tokens).step_by(STEP) {
            let part = tile_dots(panel, tile, first);
            for (sums, part) in sums[first..].iter_mut().zip(part) {
                if let Ok(sums) = (&mut sums[p * PANEL..][..PANEL]).try_into() {
                    store(sums, part);
                }
            }
        }
    }
}

/// The sums of one panel and [`STEP`] tokens from `first`.
#[target_feature(enable = "avx2,avxvnni")]
fn tile_dots(panel: &[u8], tile: &[i32], first: usize) -> [[__m256i; 2]; STEP] {
    assert!(first + STEP <= TILE);
    let mut acc = [[_mm256_setzero_si256(); 2]; STEP];
    let groups = tile.as_chunks::<{ BLOCK / 4 * TILE }>().0;
    for (codes, tile) in panel.as_chunks().0.iter().zip(groups) {
        let codes = load(codes);
        let mut shifted = codes;
        for s in 0..BLOCK / 4 {
            let low = shifted.map(|codes| _mm256_and_si256(codes, _mm256_set1_epi8(3)));
            shifted = shifted.map(|codes| _mm256_srli_epi32::<2>(codes));
            for (t, acc) in acc.iter_mut().enumerate() {
                let a = _mm256_set1_epi32(tile[s * TILE + first + t]);
                acc[0] = _mm256_dpbusd_avx_epi32(acc[0], low[0], a);
                acc[1] = _mm256_dpbusd_avx_epi32(acc[1], low[1], a);
            }
        }
    }
    acc
}

/// The two halves of a block.
#[inline]
#[target_feature(enable = "avx2")]
fn load(codes: &[u8; BLOCK_BYTES]) -> [__m256i; 2] {
    prefetch_ahead(codes.as_ptr());
    // SAFETY: 64 bytes.
    unsafe { [_mm256_loadu_si256(codes.as_ptr().cast()), _mm256_loadu_si256(codes.as_ptr().add(32).cast())] }
}

/// Adds the products of the lowest codes with the activations `a`, and shifts to the next ones.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn add(acc: &mut [__m256i; 2], codes: &mut [__m256i; 2], a: __m256i) {
    let mask = _mm256_set1_epi8(3);
    for (acc, codes) in acc.iter_mut().zip(codes) {
        *acc = _mm256_dpbusd_avx_epi32(*acc, _mm256_and_si256(*codes, mask), a);
        *codes = _mm256_srli_epi32::<2>(*codes);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(sums: &mut [i32; PANEL], halves: [__m256i; 2]) {
    // SAFETY: the two halves of 16 i32.
    unsafe {
        _mm256_storeu_si256(sums.as_mut_ptr().cast(), halves[0]);
        _mm256_storeu_si256(sums.as_mut_ptr().add(8).cast(), halves[1]);
    }
}

/// As the AVX-512 path's `wide`: adds to `sums` those of weights that are a byte each.
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn wide(weights: &[Group], panels: usize, tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>) {
    assert!((1..=2).contains(&panels) && tokens <= TILE);
    for panel in 0..panels {
        for first in (0..tokens).step_by(STEP) {
            wide_dots(weights, (panel, panels), tile, first, sums);
        }
    }
}

/// The sums of one panel and [`STEP`] tokens from `first`.
#[target_feature(enable = "avx2,avxvnni")]
fn wide_dots(
    weights: &[Group],
    (panel, panels): (usize, usize),
    tile: &[i32],
    first: usize,
    sums: &mut Accumulators<i32>,
) {
    assert!(first + STEP <= TILE);
    let mut acc = [[_mm256_setzero_si256(); 2]; STEP];
    for (groups, activations) in weights.chunks_exact(panels).zip(tile.as_chunks::<TILE>().0) {
        let at = groups[panel].0.as_ptr().cast();
        // SAFETY: the two halves of 64 bytes, aligned.
        let w = unsafe { [_mm256_load_si256(at), _mm256_load_si256(at.add(1))] };
        for (t, acc) in acc.iter_mut().enumerate() {
            let a = _mm256_set1_epi32(activations[first + t]);
            acc[0] = _mm256_dpbusd_avx_epi32(acc[0], w[0], a);
            acc[1] = _mm256_dpbusd_avx_epi32(acc[1], w[1], a);
        }
    }
    for (acc, sums) in acc.iter().zip(&mut sums[first..]) {
        let sums = sums[panel * PANEL..][..PANEL].as_mut_ptr().cast::<__m256i>();
        for (h, &acc) in acc.iter().enumerate() {
            // SAFETY: the two halves of 16 i32.
            unsafe {
                let at = sums.add(h);
                _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), acc));
            }
        }
    }
}
