//! Ternary weights by `vpdpbusd`: unsigned codes times signed activations, four columns of 16 rows at once.

use std::arch::x86_64::*;

use crate::kernels::tile::{Accumulators, TILE};
use crate::quant::PANEL;
use crate::quant::ternary::{BLOCK, BLOCK_BYTES};

/// Panels read side by side in decoding.
const GROUP: usize = 4;
/// Bytes ahead of the current block that are asked for, per panel: some 32 blocks, the latency of DRAM.
const AHEAD: usize = 2048;

/// Sums of code x activation for whole panels, handed to `finish(panel, sums)` in order.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn gemv(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let panel_bytes = activations.len() / BLOCK * BLOCK_BYTES;
    let mut sums = [[0; PANEL]; GROUP];
    let groups = panels.chunks_exact(GROUP * panel_bytes);
    let (rest, mut panel) = (groups.remainder(), 0);
    for group in groups {
        dots::<GROUP>(group, activations, &mut sums);
        for sums in &sums {
            finish(panel, sums);
            panel += 1;
        }
    }
    for group in rest.chunks_exact(panel_bytes) {
        let mut sums = [[0; PANEL]];
        dots::<1>(group, activations, &mut sums);
        finish(panel, &sums[0]);
        panel += 1;
    }
}

/// The sums of `G` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots<const G: usize>(panels: &[u8], activations: &[i8], sums: &mut [[i32; PANEL]; G]) {
    let blocks = activations.len() / BLOCK;
    let panel_bytes = blocks * BLOCK_BYTES;
    assert!(panels.len() == G * panel_bytes && activations.len() == blocks * BLOCK);
    let mask = _mm512_set1_epi8(3);
    let mut acc = [[_mm512_setzero_si512(); 4]; G];
    for b in 0..blocks {
        // SAFETY: block `b` of the activations, 16 bytes, is within them.
        let a = unsafe { activations.as_ptr().add(b * BLOCK).cast::<i32>() };
        // SAFETY: as above; each of the four is 4 bytes of the 16.
        let a: [__m512i; 4] = std::array::from_fn(|s| unsafe { _mm512_set1_epi32(a.add(s).read_unaligned()) });
        for (g, acc) in acc.iter_mut().enumerate() {
            let at = panels.as_ptr().wrapping_add(g * panel_bytes + b * BLOCK_BYTES);
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
            // SAFETY: block `b` of panel `g`, 64 bytes, is within `panels`.
            let codes = unsafe { _mm512_loadu_si512(at.cast()) };
            let shifted =
                [codes, _mm512_srli_epi32::<2>(codes), _mm512_srli_epi32::<4>(codes), _mm512_srli_epi32::<6>(codes)];
            for s in 0..4 {
                acc[s] = _mm512_dpbusd_epi32(acc[s], _mm512_and_si512(shifted[s], mask), a[s]);
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        let sum = _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
        // SAFETY: `sums` is 16 i32.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), sum) };
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
