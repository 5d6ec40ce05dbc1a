//! f16 weights: widened and multiplied by fused multiply-adds, per row one chain in column order.

use std::arch::x86_64::*;

use half::f16;

use super::store;
use crate::kernels::float16::prefill::Line;
use crate::kernels::tile::{Accumulators, TILE};
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;

/// Panels read side by side in decoding: hides the latency of the chains and keeps as many streams in flight.
const GROUP: usize = 4;

/// `y = W x` for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx512f,f16c,fma")]
pub(crate) fn gemv(panels: &[f16], x: &[f32], out: &mut [f32]) {
    let panel_len = x.len() * PANEL;
    for (group, out) in panels.chunks(GROUP * panel_len).zip(out.chunks_mut(GROUP * PANEL)) {
        if out.len() > (GROUP - 1) * PANEL {
            dots::<GROUP>(group, x, out);
        } else {
            for (panel, out) in group.chunks_exact(panel_len).zip(out.chunks_mut(PANEL)) {
                dots::<1>(panel, x, out);
            }
        }
    }
}

#[target_feature(enable = "avx512f,f16c,fma")]
fn dots<const G: usize>(panels: &[f16], x: &[f32], out: &mut [f32]) {
    let panel_len = x.len() * PANEL;
    assert!(panels.len() >= G * panel_len);
    let mut acc = [_mm512_setzero_ps(); G];
    let mut column = |col: usize, prefetch: bool| {
        // SAFETY: called with `col < x.len()`.
        let x = _mm512_set1_ps(unsafe { *x.get_unchecked(col) });
        for (g, acc) in acc.iter_mut().enumerate() {
            let at = panels.as_ptr().wrapping_add(g * panel_len + col * PANEL);
            if prefetch {
                prefetch_ahead(at.cast());
            }
            // SAFETY: column `col` of panel `g`, 16 values, is within `panels`.
            let w = unsafe { widen_16(at) };
            *acc = _mm512_fmadd_ps(w, x, *acc);
        }
    };
    // Two columns are one cache line, so every other one prefetches.
    for col in (0..x.len() & !1).step_by(2) {
        column(col, true);
        column(col + 1, false);
    }
    if !x.len().is_multiple_of(2) {
        column(x.len() - 1, false);
    }
    for (acc, out) in acc.into_iter().zip(out.chunks_mut(PANEL)) {
        store(out, acc);
    }
}

/// Adds the products of one or two panels and the first `tokens` tokens of a tile (`[column][token]`) to `sums`.
#[target_feature(enable = "avx512f,f16c,fma")]
pub(crate) fn micro(panels: &[&[f16]], tile: &[u32], tokens: usize, sums: &mut Accumulators<f32>) {
    match (panels, tokens) {
        ([a, b], 0..=4) => tile_sums::<2, 4>([a, b], tile, sums),
        ([a, b], 5..=8) => tile_sums::<2, 8>([a, b], tile, sums),
        ([a, b], _) => tile_sums::<2, TILE>([a, b], tile, sums),
        ([a], 0..=4) => tile_sums::<1, 4>([a], tile, sums),
        ([a], 5..=8) => tile_sums::<1, 8>([a], tile, sums),
        ([a], _) => tile_sums::<1, TILE>([a], tile, sums),
        _ => panic!("a tile takes one or two panels"),
    }
}

#[target_feature(enable = "avx512f,f16c,fma")]
fn tile_sums<const P: usize, const T: usize>(panels: [&[f16]; P], tile: &[u32], sums: &mut Accumulators<f32>) {
    let cols = tile.len() / TILE;
    assert!(T <= TILE && P <= 2 && panels.iter().all(|panel| panel.len() == cols * PANEL));
    let mut acc = [[_mm512_setzero_ps(); P]; T];
    for (acc, sums) in acc.iter_mut().zip(sums.iter()) {
        for p in 0..P {
            // SAFETY: 16 of the 32 sums of a token.
            acc[p] = unsafe { _mm512_loadu_ps(sums[p * PANEL..][..PANEL].as_ptr()) };
        }
    }
    for col in 0..cols {
        // SAFETY: column `col` of each panel, 16 values, is within it.
        let w = panels.map(|panel| unsafe { widen_16(panel.as_ptr().add(col * PANEL)) });
        for (t, acc) in acc.iter_mut().enumerate() {
            // SAFETY: below `cols * TILE`, the length of `tile` at least.
            let x = _mm512_set1_ps(f32::from_bits(unsafe { *tile.get_unchecked(col * TILE + t) }));
            for p in 0..P {
                acc[p] = _mm512_fmadd_ps(w[p], x, acc[p]);
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        for p in 0..P {
            // SAFETY: 16 of the 32 sums of a token.
            unsafe { _mm512_storeu_ps(sums[p * PANEL..][..PANEL].as_mut_ptr(), acc[p]) };
        }
    }
}

/// As [`micro`] for weights widened beforehand (`[column][panel]`): nothing but multiply-adds needs a vector port.
#[target_feature(enable = "avx512f,fma")]
pub(crate) fn wide(weights: &[Line], panels: usize, tile: &[u32], tokens: usize, sums: &mut Accumulators<f32>) {
    match (panels, tokens) {
        (2, 0..=4) => wide_sums::<2, 4>(weights, tile, sums),
        (2, 5..=8) => wide_sums::<2, 8>(weights, tile, sums),
        (2, _) => wide_sums::<2, TILE>(weights, tile, sums),
        (1, 0..=4) => wide_sums::<1, 4>(weights, tile, sums),
        (1, 5..=8) => wide_sums::<1, 8>(weights, tile, sums),
        (1, _) => wide_sums::<1, TILE>(weights, tile, sums),
        _ => panic!("a tile takes one or two panels"),
    }
}

#[target_feature(enable = "avx512f,fma")]
fn wide_sums<const P: usize, const T: usize>(weights: &[Line], tile: &[u32], sums: &mut Accumulators<f32>) {
    let (weights, tile) = (weights.as_chunks::<P>().0, tile.as_chunks::<TILE>().0);
    let mut acc = [[_mm512_setzero_ps(); P]; T];
    for (acc, sums) in acc.iter_mut().zip(sums.iter()) {
        for p in 0..P {
            // SAFETY: 16 of the 32 sums of a token.
            acc[p] = unsafe { _mm512_loadu_ps(sums[p * PANEL..][..PANEL].as_ptr()) };
        }
    }
    for (weights, activations) in weights.iter().zip(tile) {
        // SAFETY: 16 values, aligned.
        let w: [__m512; P] = std::array::from_fn(|p| unsafe { _mm512_load_ps(weights[p].0.as_ptr().cast()) });
        for (acc, &x) in acc.iter_mut().zip(activations) {
            let x = _mm512_set1_ps(f32::from_bits(x));
            for p in 0..P {
                acc[p] = _mm512_fmadd_ps(w[p], x, acc[p]);
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        for p in 0..P {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(sums[p * PANEL..][..PANEL].as_mut_ptr(), acc[p]) };
        }
    }
}

/// The 16 values at `at` as f32.
///
/// # Safety
/// 16 values must be readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn widen_16(at: *const f16) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(at.cast()) })
}
