//! The 4-bit copy of a head by `vpshufb`, which looks the codes up, and `vpdpbusd`. 63 x (sum of the block's activations)
//! is taken away beforehand.

use std::arch::x86_64::*;

use super::store;
use crate::kernels::bounded::{Near, Panels, Probe};
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::bounded::{BLOCK, BLOCK_BYTES, GROUP_BLOCKS, LEVELS};

/// Approximate outputs for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c,fma")]
pub(crate) fn gemv(panels: Panels<'_>, probe: Probe<'_>, out: &mut [Near]) {
    let (blocks, groups) = (probe.steps.len(), probe.norms.len());
    assert!(probe.int8.len() == blocks * BLOCK && groups == blocks.div_ceil(GROUP_BLOCKS));
    assert!(panels.codes.len() >= out.len().div_ceil(PANEL) * blocks * BLOCK_BYTES);
    assert!(panels.scales.len().min(panels.residuals.len()) >= out.len().div_ceil(PANEL) * groups * PANEL);
    assert!(panels.kept.len() >= out.len().div_ceil(PANEL) * probe.kept.len() * PANEL);
    for (p, out) in out.chunks_mut(PANEL).enumerate() {
        let (mut value, mut residual) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for (k, &x) in probe.kept.iter().enumerate() {
            // SAFETY: the 16 weights of column `k` of panel `p` (asserted above).
            let w = unsafe { _mm256_loadu_si256(panels.kept.as_ptr().add((p * probe.kept.len() + k) * PANEL).cast()) };
            value = _mm512_fmadd_ps(_mm512_cvtph_ps(w), _mm512_set1_ps(x), value);
        }
        for (g, &norm) in probe.norms.iter().enumerate() {
            let mut sums = _mm512_setzero_ps();
            for b in g * GROUP_BLOCKS..((g + 1) * GROUP_BLOCKS).min(blocks) {
                // SAFETY: block `b` of panel `p` is within `codes`, and its activations within `int8` (asserted above).
                let dots = unsafe {
                    let codes = panels.codes.as_ptr().add((p * blocks + b) * BLOCK_BYTES);
                    dots(codes, probe.int8.as_ptr().add(b * BLOCK), panels.book, -LEVELS * probe.steps[b].sum)
                };
                sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), _mm512_set1_ps(probe.steps[b].step), sums);
            }
            let at = (p * groups + g) * PANEL;
            // SAFETY: the 16 values of group `g` of panel `p` (asserted above).
            let (scale, off) = unsafe {
                let wide = |from: &[half::f16]| _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().add(at).cast()));
                (wide(panels.scales), wide(panels.residuals))
            };
            value = _mm512_fmadd_ps(sums, scale, value);
            residual = _mm512_fmadd_ps(off, _mm512_set1_ps(norm), residual);
        }
        let (mut values, mut residuals) = ([0.0; PANEL], [0.0; PANEL]);
        store(&mut values, value);
        store(&mut residuals, residual);
        for (r, out) in out.iter_mut().enumerate() {
            *out = Near { value: values[r], residual: residuals[r] };
        }
    }
}

/// The 16 dot products of a block, from `start`.
///
/// # Safety
/// [`BLOCK_BYTES`] bytes must be readable at `codes`, [`BLOCK`] at `activations`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn dots(codes: *const u8, activations: *const i8, book: &[u8; 16], start: i32) -> __m512i {
    let low = _mm512_set1_epi8(15);
    // SAFETY: 16 bytes.
    let book = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(book.as_ptr().cast()) });
    let mut dots = _mm512_set1_epi32(start);
    for j in 0..BLOCK / 8 {
        prefetch_ahead(codes.wrapping_add(64 * j));
        // SAFETY: 8 of the 32 activations, 64 of the 256 bytes.
        let (a, v) = unsafe {
            let a = activations.add(8 * j).cast::<[i32; 2]>().read_unaligned();
            (a, _mm512_loadu_si512(codes.add(64 * j).cast()))
        };
        for (v, a) in [v, _mm512_srli_epi16::<4>(v)].into_iter().zip(a) {
            let w = _mm512_shuffle_epi8(book, _mm512_and_si512(v, low));
            dots = _mm512_dpbusd_epi32(dots, w, _mm512_set1_epi32(a));
        }
    }
    dots
}
