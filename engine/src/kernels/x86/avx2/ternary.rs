//! Ternary weights by `vpmaddubsw`: codes times activations into i16, spilled to i32 before they could overflow.

use std::arch::x86_64::*;

use crate::kernels::tile::{Accumulators, TILE};
use crate::kernels::wide::Group;
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::ternary::{BLOCK, BLOCK_BYTES};

/// Blocks between two spills. One `vpmaddubsw` adds at most 2 x (2 x -128) = -512 and there are 4 to a block and lane:
/// 15 x 4 x 512 = 30720 stays within i16 (16 blocks reach -32768 and +32512, at the very edge).
const SPILL: usize = 15;
/// Tokens a kernel takes at once: with the two halves of a panel, 8 of the 16 vector registers are sums.
const STEP: usize = 4;

/// Sums of code x activation for whole panels, handed to `finish(panel, sums)` in order.
#[target_feature(enable = "avx2")]
pub(crate) fn gemv(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let panel_bytes = activations.len() / BLOCK * BLOCK_BYTES;
    for (panel, bytes) in panels.chunks_exact(panel_bytes).enumerate() {
        let mut sums = [[0; PANEL]];
        dots::<1>(bytes, &mut sums, |b, s, _| {
            // SAFETY: 4 of the 16 activations of block `b`, which `dots` keeps below the panel's blocks.
            unsafe { activations.as_ptr().add(b * BLOCK + 4 * s).cast::<i32>().read_unaligned() }
        });
        finish(panel, &sums[0]);
    }
}

/// Sums of code x activation of one or two panels and the first `tokens` tokens of a tile (`[column / 4][token]`).
#[target_feature(enable = "avx2")]
pub(crate) fn micro(panels: &[&[u8]], tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>) {
    for (p, panel) in panels.iter().enumerate() {
        assert!(panel.len() / BLOCK_BYTES * (BLOCK / 4 * TILE) == tile.len());
        for first in (0..tokens).step_by(STEP) {
            let mut part = [[0; PANEL]; STEP];
            dots::<STEP>(panel, &mut part, |b, s, t| {
                // SAFETY: `b` is below the panel's blocks, `s` below 4 and `first + t` below TILE: within `tile`.
                unsafe { *tile.get_unchecked((b * (BLOCK / 4) + s) * TILE + first + t) }
            });
            for (sums, part) in sums[first..].iter_mut().zip(&part) {
                sums[p * PANEL..][..PANEL].copy_from_slice(part);
            }
        }
    }
}

/// The sums of one panel and `T` tokens; `activations(block, s, token)` are the four for columns `4 s..` of the block.
#[inline]
#[target_feature(enable = "avx2")]
fn dots<const T: usize>(panel: &[u8], sums: &mut [[i32; PANEL]; T], activations: impl Fn(usize, usize, usize) -> i32) {
    let blocks = panel.len() / BLOCK_BYTES;
    let (mask, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
    let mut wide = [[_mm256_setzero_si256(); 2]; T];
    for first in (0..blocks).step_by(SPILL) {
        let mut acc = [[_mm256_setzero_si256(); 2]; T];
        for b in first..(first + SPILL).min(blocks) {
            let at = panel.as_ptr().wrapping_add(b * BLOCK_BYTES);
            prefetch_ahead(at);
            // SAFETY: the two halves of block `b`, which is within `panel`.
            let mut codes = unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] };
            for s in 0..BLOCK / 4 {
                let low = codes.map(|codes| _mm256_and_si256(codes, mask));
                codes = codes.map(|codes| _mm256_srli_epi32::<2>(codes));
                for (t, acc) in acc.iter_mut().enumerate() {
                    let a = _mm256_set1_epi32(activations(b, s, t));
                    for h in 0..2 {
                        acc[h] = _mm256_add_epi16(acc[h], _mm256_maddubs_epi16(low[h], a));
                    }
                }
            }
        }
        for (wide, acc) in wide.iter_mut().zip(&acc) {
            for h in 0..2 {
                wide[h] = _mm256_add_epi32(wide[h], _mm256_madd_epi16(acc[h], ones));
            }
        }
    }
    for (wide, sums) in wide.iter().zip(sums) {
        // SAFETY: the two halves of 16 i32.
        unsafe {
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), wide[0]);
            _mm256_storeu_si256(sums.as_mut_ptr().add(8).cast(), wide[1]);
        }
    }
}

/// As the AVX-512 path's `wide`: adds to `sums` those of weights that are a byte each.
#[target_feature(enable = "avx2")]
pub(crate) fn wide(weights: &[Group], panels: usize, tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>) {
    assert!((1..=2).contains(&panels) && tokens <= TILE);
    for panel in 0..panels {
        for first in (0..tokens).step_by(STEP) {
            let (weights, tile) = (weights.chunks(SPILL * BLOCK / 4 * panels), tile.chunks(SPILL * BLOCK / 4 * TILE));
            for (weights, tile) in weights.zip(tile) {
                wide_dots(weights, (panel, panels), tile, first, sums);
            }
        }
    }
}

/// The sums of one panel and [`STEP`] tokens from `first`, of at most [`SPILL`] blocks.
#[inline]
#[target_feature(enable = "avx2")]
fn wide_dots(
    weights: &[Group],
    (panel, panels): (usize, usize),
    tile: &[i32],
    first: usize,
    sums: &mut Accumulators<i32>,
) {
    assert!(first + STEP <= TILE);
    let ones = _mm256_set1_epi16(1);
    let mut acc = [[_mm256_setzero_si256(); 2]; STEP];
    for (groups, activations) in weights.chunks_exact(panels).zip(tile.as_chunks::<TILE>().0) {
        let at = groups[panel].0.as_ptr().cast();
        // SAFETY: the two halves of 64 bytes, aligned.
        let w = unsafe { [_mm256_load_si256(at), _mm256_load_si256(at.add(1))] };
        for (t, acc) in acc.iter_mut().enumerate() {
            let a = _mm256_set1_epi32(activations[first + t]);
            acc[0] = _mm256_add_epi16(acc[0], _mm256_maddubs_epi16(w[0], a));
            acc[1] = _mm256_add_epi16(acc[1], _mm256_maddubs_epi16(w[1], a));
        }
    }
    for (acc, sums) in acc.iter().zip(&mut sums[first..]) {
        let sums = sums[panel * PANEL..][..PANEL].as_mut_ptr().cast::<__m256i>();
        for (h, &acc) in acc.iter().enumerate() {
            // SAFETY: the two halves of 16 i32.
            unsafe {
                let at = sums.add(h);
                _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_madd_epi16(acc, ones)));
            }
        }
    }
}
