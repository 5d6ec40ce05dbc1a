//! f16 weights: widened and multiplied by fused multiply-adds, per row one chain in column order.

use std::arch::x86_64::*;

use half::f16;

use crate::kernels::float16::prefill::Line;
use crate::kernels::tile::{Accumulators, TILE};
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;

/// Panels read side by side in decoding: hides the latency of the chains.
const GROUP: usize = 4;
/// Tokens a kernel takes at once: with the two halves of a panel, 12 of the 16 vector registers are sums.
const STEP: usize = 6;

/// `y = W x` for whole panels; `out` may end inside the last. `ahead`: see
/// [`Kernels::asks_ahead`](crate::kernels::isa::Kernels::asks_ahead).
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn gemv(panels: &[f16], x: &[f32], ahead: bool, out: &mut [f32]) {
    let panel_len = x.len() * PANEL;
    for (group, out) in panels.chunks(GROUP * panel_len).zip(out.chunks_mut(GROUP * PANEL)) {
        if out.len() > (GROUP - 1) * PANEL {
            dots::<GROUP>(group, x, ahead, out);
        } else {
            for (panel, out) in group.chunks_exact(panel_len).zip(out.chunks_mut(PANEL)) {
                dots::<1>(panel, x, ahead, out);
            }
        }
    }
}

#[target_feature(enable = "avx2,f16c,fma")]
fn dots<const G: usize>(panels: &[f16], x: &[f32], ahead: bool, out: &mut [f32]) {
    let panel_len = x.len() * PANEL;
    assert!(panels.len() >= G * panel_len);
    let mut acc = [[_mm256_setzero_ps(); 2]; G];
    for (col, &x) in x.iter().enumerate() {
        let x = _mm256_set1_ps(x);
        for (g, acc) in acc.iter_mut().enumerate() {
            let at = panels.as_ptr().wrapping_add(g * panel_len + col * PANEL);
            // Two columns are one cache line.
            if ahead && col.is_multiple_of(2) {
                prefetch_ahead(at.cast());
            }
            // SAFETY: column `col` of panel `g`, 16 values, is within `panels`.
            let w = unsafe { widen_16(at) };
            acc[0] = _mm256_fmadd_ps(w[0], x, acc[0]);
            acc[1] = _mm256_fmadd_ps(w[1], x, acc[1]);
        }
    }
    for (acc, out) in acc.into_iter().zip(out.chunks_mut(PANEL)) {
        let mut row = [0.0; PANEL];
        store(&mut row, acc);
        out.copy_from_slice(&row[..out.len()]);
    }
}

/// Adds the products of one or two panels and the first `tokens` tokens of a tile (`[column][token]`) to `sums`.
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn micro(panels: &[&[f16]], tile: &[u32], tokens: usize, sums: &mut Accumulators<f32>) {
    for (p, panel) in panels.iter().enumerate() {
        for first in (0..tokens).step_by(STEP) {
            tile_sums(panel, tile, first, p * PANEL, sums);
        }
    }
}

/// One panel and [`STEP`] tokens from `first`, into the rows from `row` of their sums.
#[target_feature(enable = "avx2,f16c,fma")]
fn tile_sums(panel: &[f16], tile: &[u32], first: usize, row: usize, sums: &mut Accumulators<f32>) {
    let cols = tile.len() / TILE;
    assert!(first + STEP <= TILE && panel.len() == cols * PANEL);
    let mut acc = [[_mm256_setzero_ps(); 2]; STEP];
    for (acc, sums) in acc.iter_mut().zip(&sums[first..]) {
        let sums = sums[row..][..PANEL].as_ptr();
        // SAFETY: the two halves of 16 sums.
        *acc = unsafe { [_mm256_loadu_ps(sums), _mm256_loadu_ps(sums.add(8))] };
    }
    for col in 0..cols {
        // SAFETY: column `col`, 16 values, is within `panel`.
        let w = unsafe { widen_16(panel.as_ptr().add(col * PANEL)) };
        for (t, acc) in acc.iter_mut().enumerate() {
            // SAFETY: `first + t < TILE`, so this is below `cols * TILE`, the length of `tile` at least.
            let x = _mm256_set1_ps(f32::from_bits(unsafe { *tile.get_unchecked(col * TILE + first + t) }));
            acc[0] = _mm256_fmadd_ps(w[0], x, acc[0]);
            acc[1] = _mm256_fmadd_ps(w[1], x, acc[1]);
        }
    }
    for (acc, sums) in acc.into_iter().zip(&mut sums[first..]) {
        if let Ok(sums) = (&mut sums[row..][..PANEL]).try_into() {
            store(sums, acc);
        }
    }
}

/// As [`micro`] for weights widened beforehand (`[column][panel]`).
#[target_feature(enable = "avx2,fma")]
pub(crate) fn wide(weights: &[Line], panels: usize, tile: &[u32], tokens: usize, sums: &mut Accumulators<f32>) {
    assert!((1..=2).contains(&panels) && tokens <= TILE);
    for panel in 0..panels {
        for first in (0..tokens).step_by(STEP) {
            wide_sums(weights, (panel, panels), tile, first, sums);
        }
    }
}

/// One panel and [`STEP`] tokens from `first`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn wide_sums(
    weights: &[Line],
    (panel, panels): (usize, usize),
    tile: &[u32],
    first: usize,
    sums: &mut Accumulators<f32>,
) {
    assert!(first + STEP <= TILE);
    let mut acc = [[_mm256_setzero_ps(); 2]; STEP];
    for (acc, sums) in acc.iter_mut().zip(&sums[first..]) {
        let sums = sums[panel * PANEL..][..PANEL].as_ptr();
        // SAFETY: the two halves of 16 sums.
        *acc = unsafe { [_mm256_loadu_ps(sums), _mm256_loadu_ps(sums.add(8))] };
    }
    for (columns, activations) in weights.chunks_exact(panels).zip(tile.as_chunks::<TILE>().0) {
        let at = columns[panel].0.as_ptr().cast::<f32>();
        // SAFETY: the two halves of 16 values, aligned.
        let w = unsafe { [_mm256_load_ps(at), _mm256_load_ps(at.add(8))] };
        for (t, acc) in acc.iter_mut().enumerate() {
            let x = _mm256_set1_ps(f32::from_bits(activations[first + t]));
            acc[0] = _mm256_fmadd_ps(w[0], x, acc[0]);
            acc[1] = _mm256_fmadd_ps(w[1], x, acc[1]);
        }
    }
    for (acc, sums) in acc.into_iter().zip(&mut sums[first..]) {
        if let Ok(sums) = (&mut sums[panel * PANEL..][..PANEL]).try_into() {
            store(sums, acc);
        }
    }
}

/// The 16 values at `at` as f32.
///
/// # Safety
/// 16 values must be readable at `at`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn widen_16(at: *const f16) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(at.cast())), _mm256_cvtph_ps(_mm_loadu_si128(at.add(8).cast()))] }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(out: &mut [f32; PANEL], values: [__m256; 2]) {
    // SAFETY: the two halves of 16 values.
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), values[0]);
        _mm256_storeu_ps(out.as_mut_ptr().add(8), values[1]);
    }
}
