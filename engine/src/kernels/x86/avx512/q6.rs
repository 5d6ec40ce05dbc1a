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
                let [dot] = unsafe {
                    let weights = panels.weights.as_ptr().add((p * blocks + b) * BLOCK_BYTES);
                    let scales = panels.scales.as_ptr().add((p * blocks + b) * BLOCK_SCALES);
                    prefetch::<{ AHEAD / BLOCK_BYTES * BLOCK_SCALES }>(scales.cast());
                    dots(weights, scales, &[(activations.as_ptr().add(b * BLOCK), steps[b])])
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

/// The outputs of the 16 rows of a panel for `T` tokens, each its activations and their steps.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,f16c,fma")]
pub(crate) fn panel<const T: usize>(panel: Panels<'_>, tokens: &[(&[i8], &[BlockScale]); T]) -> [[f32; PANEL]; T] {
    let blocks = tokens[0].1.len();
    let supers = blocks.div_ceil(SUPER_BLOCKS);
    assert!(panel.weights.len() >= blocks * BLOCK_BYTES && panel.scales.len() >= blocks * BLOCK_SCALES);
    assert!(panel.supers.len() >= supers * PANEL);
    assert!(tokens.iter().all(|(x, steps)| x.len() == blocks * BLOCK && steps.len() == blocks));
    let mut acc = [_mm512_setzero_ps(); T];
    for s in 0..supers {
        let mut sums = [_mm512_setzero_ps(); T];
        for b in s * SUPER_BLOCKS..((s + 1) * SUPER_BLOCKS).min(blocks) {
            let mut of = [(std::ptr::null(), BlockScale::default()); T];
            for t in 0..T {
                of[t] = (tokens[t].0[b * BLOCK..].as_ptr(), tokens[t].1[b]);
            }
            // SAFETY: block `b` of the panel, and its activations (asserted above).
            let dots = unsafe {
                let weights = panel.weights.as_ptr().add(b * BLOCK_BYTES);
                dots(weights, panel.scales.as_ptr().add(b * BLOCK_SCALES), &of)
            };
            for t in 0..T {
                sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), _mm512_set1_ps(of[t].1.step), sums[t]);
            }
        }
        // SAFETY: the 16 scales of super-block `s`.
        let d = unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(panel.supers.as_ptr().add(s * PANEL).cast())) };
        for t in 0..T {
            acc[t] = _mm512_fmadd_ps(sums[t], d, acc[t]);
        }
    }
    let mut out = [[0.0; PANEL]; T];
    for t in 0..T {
        store(&mut out[t], acc[t]);
    }
    out
}

/// The scaled dot products of the 16 rows of a block with the activations of `T` tokens.
///
/// # Safety
/// The block's bytes and scales and 32 activations of each token must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
unsafe fn dots<const T: usize>(
    weights: *const u8,
    scales: *const i8,
    of: &[(*const i8, BlockScale); T],
) -> [__m512i; T] {
    let (four, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let mut dots = [_mm512_setzero_si512(); T];
    for half in 0..2 {
        prefetch_ahead(weights.wrapping_add(LOW_BYTES + 64 * half));
        // SAFETY: 64 bytes of the high bits of 16 columns, 16 scales.
        let (high, scale) = unsafe {
            (
                _mm512_loadu_si512(weights.add(LOW_BYTES + 64 * half).cast()),
                _mm512_cvtepi8_epi32(_mm_loadu_si128(scales.add(PANEL * half).cast())),
            )
        };
        let high = [_mm512_slli_epi16::<4>(high), _mm512_slli_epi16::<2>(high), high, _mm512_srli_epi16::<2>(high)];
        let mut weight = [_mm512_setzero_si512(); 4];
        for j in 0..2 {
            prefetch_ahead(weights.wrapping_add(64 * (2 * half + j)));
            // SAFETY: 64 bytes of the low bits of 8 columns.
            let low = unsafe { _mm512_loadu_si512(weights.add(64 * (2 * half + j)).cast()) };
            for (low, k) in [(low, 2 * j), (_mm512_srli_epi16::<4>(low), 2 * j + 1)] {
                weight[k] = _mm512_or_si512(_mm512_and_si512(low, four), _mm512_and_si512(high[k], two));
            }
        }
        for t in 0..T {
            let (x, step) = of[t];
            let sum = if half == 0 { step.first } else { step.sum - step.first };
            let mut dot = _mm512_set1_epi32(-32 * sum);
            for k in 0..4 {
                // SAFETY: 4 of the 32 activations.
                let a = unsafe { x.add(16 * half + 4 * k).cast::<i32>().read_unaligned() };
                dot = _mm512_dpbusd_epi32(dot, weight[k], _mm512_set1_epi32(a));
            }
            dots[t] = _mm512_add_epi32(dots[t], _mm512_mullo_epi32(dot, scale));
        }
    }
    dots
}
