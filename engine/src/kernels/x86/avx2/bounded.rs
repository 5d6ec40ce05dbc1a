//! The 4-bit copy of a head by `vpshufb`, which looks the codes up, and `vpmaddubsw`: no pair of products exceeds 16 bits,
//! as the book ends at 126. 63 x (sum of the block's activations) is taken away beforehand.

use std::arch::x86_64::*;

use crate::kernels::bounded::{Near, Panels, Probe};
use crate::quant::PANEL;
use crate::quant::bounded::{BLOCK, BLOCK_BYTES, GROUP_BLOCKS, LEVELS};

/// Approximate outputs for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn gemv(panels: Panels<'_>, probe: Probe<'_>, out: &mut [Near]) {
    let (blocks, groups) = (probe.steps.len(), probe.norms.len());
    assert!(probe.int8.len() == blocks * BLOCK && groups == blocks.div_ceil(GROUP_BLOCKS));
    assert!(panels.codes.len() >= out.len().div_ceil(PANEL) * blocks * BLOCK_BYTES);
    assert!(panels.scales.len().min(panels.residuals.len()) >= out.len().div_ceil(PANEL) * groups * PANEL);
    for (p, out) in out.chunks_mut(PANEL).enumerate() {
        let mut value = [_mm256_setzero_ps(); 2];
        let mut residual = [_mm256_setzero_ps(); 2];
        for (g, &norm) in probe.norms.iter().enumerate() {
            let mut sums = [_mm256_setzero_ps(); 2];
            for b in g * GROUP_BLOCKS..((g + 1) * GROUP_BLOCKS).min(blocks) {
                // SAFETY: block `b` of panel `p` is within `codes`, and its activations within `int8` (asserted above).
                let dots = unsafe {
                    let codes = panels.codes.as_ptr().add((p * blocks + b) * BLOCK_BYTES);
                    dots(codes, probe.int8.as_ptr().add(b * BLOCK), panels.book, -LEVELS * probe.steps[b].sum)
                };
                let step = _mm256_set1_ps(probe.steps[b].step);
                for h in 0..2 {
                    sums[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[h]), step, sums[h]);
                }
            }
            let norm = _mm256_set1_ps(norm);
            for h in 0..2 {
                let at = (p * groups + g) * PANEL + 8 * h;
                // SAFETY: 8 of the 16 values of group `g` of panel `p` (asserted above).
                let (scale, off) = unsafe {
                    let wide = |from: &[half::f16]| _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(at).cast()));
                    (wide(panels.scales), wide(panels.residuals))
                };
                value[h] = _mm256_fmadd_ps(sums[h], scale, value[h]);
                residual[h] = _mm256_fmadd_ps(off, norm, residual[h]);
            }
        }
        let (value, residual) = (spill(value), spill(residual));
        for (r, out) in out.iter_mut().enumerate() {
            *out = Near { value: value[r], residual: residual[r] };
        }
    }
}

/// The 16 dot products of a block, from `start`.
///
/// # Safety
/// [`BLOCK_BYTES`] bytes must be readable at `codes`, [`BLOCK`] at `activations`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots(codes: *const u8, activations: *const i8, book: &[u8; 16], start: i32) -> [__m256i; 2] {
    let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    // SAFETY: 16 bytes.
    let book = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(book.as_ptr().cast()) });
    let mut dots = [_mm256_set1_epi32(start); 2];
    for j in 0..BLOCK / 8 {
        // SAFETY: 8 of the 32 activations.
        let a = unsafe { activations.add(8 * j).cast::<[i32; 2]>().read_unaligned() }.map(|a| _mm256_set1_epi32(a));
        for (h, dots) in dots.iter_mut().enumerate() {
            // SAFETY: 32 of the 256 bytes.
            let v = unsafe { _mm256_loadu_si256(codes.add(64 * j + 32 * h).cast()) };
            for (v, a) in [v, _mm256_srli_epi16::<4>(v)].into_iter().zip(a) {
                let w = _mm256_shuffle_epi8(book, _mm256_and_si256(v, low));
                *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), ones));
            }
        }
    }
    dots
}

#[inline]
#[target_feature(enable = "avx2")]
fn spill(values: [__m256; 2]) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    // SAFETY: the two halves of 16 values.
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), values[0]);
        _mm256_storeu_ps(out.as_mut_ptr().add(8), values[1]);
    }
    out
}
