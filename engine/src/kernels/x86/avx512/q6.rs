//! 6-bit weights by `vpdpbusd`. 32 x (sum of the activations of 16 columns) is taken away beforehand.

use std::arch::x86_64::*;

use super::store;
use crate::kernels::activations::BlockScale;
use crate::kernels::q6::Panels;
use crate::kernels::x86::{AHEAD, prefetch, prefetch_ahead};
use crate::quant::PANEL;
use crate::quant::q6::{BLOCK, BLOCK_BYTES, BLOCK_SCALES, LOW_BYTES, SUPER_BLOCKS};

/// Super-blocks ahead whose scales are asked for: those of the blocks that are.
const SUPERS_AHEAD: usize = AHEAD.div_ceil(SUPER_BLOCKS * BLOCK_BYTES);

/// `y = W x` for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,f16c,fma")]
pub(crate) fn gemv(panels: Panels<'_>, activations: &[i8], steps: &[BlockScale], out: &mut [f32]) {
    let (blocks, supers, count) = (steps.len(), steps.len().div_ceil(SUPER_BLOCKS), out.len().div_ceil(PANEL));
    assert!(activations.len() == blocks * BLOCK && panels.weights.len() >= count * blocks * BLOCK_BYTES);
    assert!(panels.scales.len() >= count * blocks * BLOCK_SCALES && panels.supers.len() >= count * supers * PANEL);
    for (p, out) in out.chunks_mut(PANEL).enumerate() {
        let mut acc = _mm512_setzero_ps();
        for s in 0..supers {
            let mut sums = _mm512_setzero_ps();
            prefetch::<{ SUPERS_AHEAD * 2 * PANEL }>(
                panels.supers.as_ptr().wrapping_add((p * supers + s) * PANEL).cast(),
            );
            for b in s * SUPER_BLOCKS..((s + 1) * SUPER_BLOCKS).min(blocks) {
                // SAFETY: block `b` of panel `p`, and its activations (asserted above).
                let dot = unsafe {
                    let weights = panels.weights.as_ptr().add((p * blocks + b) * BLOCK_BYTES);
                    let scales = panels.scales.as_ptr().add((p * blocks + b) * BLOCK_SCALES);
                    prefetch::<{ AHEAD / BLOCK_BYTES * BLOCK_SCALES }>(scales.cast());
                    dots(weights, scales, activations.as_ptr().add(b * BLOCK), steps[b])
                };
                sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_set1_ps(steps[b].step), sums);
            }
            // SAFETY: the 16 scales of super-block `s` of panel `p`.
            let d = unsafe { _mm256_loadu_si256(panels.supers.as_ptr().add((p * supers + s) * PANEL).cast()) };
            acc = _mm512_fmadd_ps(sums, _mm512_cvtph_ps(d), acc);
        }
        store(out, acc);
    }
}

/// The scaled dot products of the 16 rows of a block.
///
/// # Safety
/// The block's bytes and scales and 32 activations must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
unsafe fn dots(weights: *const u8, scales: *const i8, activations: *const i8, step: BlockScale) -> __m512i {
    let (four, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let mut dots = _mm512_setzero_si512();
    for half in 0..2 {
        prefetch_ahead(weights.wrapping_add(LOW_BYTES + 64 * half));
        // SAFETY: 64 bytes of the high bits of 16 columns, 16 activations, 16 scales.
        let (high, a, scale) = unsafe {
            (
                _mm512_loadu_si512(weights.add(LOW_BYTES + 64 * half).cast()),
                activations.add(16 * half).cast::<[i32; 4]>().read_unaligned().map(|a| _mm512_set1_epi32(a)),
                _mm512_cvtepi8_epi32(_mm_loadu_si128(scales.add(PANEL * half).cast())),
            )
        };
        let high = [_mm512_slli_epi16::<4>(high), _mm512_slli_epi16::<2>(high), high, _mm512_srli_epi16::<2>(high)];
        let sum = if half == 0 { step.first } else { step.sum - step.first };
        let mut dot = _mm512_set1_epi32(-32 * sum);
        for j in 0..2 {
            prefetch_ahead(weights.wrapping_add(64 * (2 * half + j)));
            // SAFETY: 64 bytes of the low bits of 8 columns.
            let low = unsafe { _mm512_loadu_si512(weights.add(64 * (2 * half + j)).cast()) };
            for (low, k) in [(low, 2 * j), (_mm512_srli_epi16::<4>(low), 2 * j + 1)] {
                let weight = _mm512_or_si512(_mm512_and_si512(low, four), _mm512_and_si512(high[k], two));
                dot = _mm512_dpbusd_epi32(dot, weight, a[k]);
            }
        }
        dots = _mm512_add_epi32(dots, _mm512_mullo_epi32(dot, scale));
    }
    dots
}
