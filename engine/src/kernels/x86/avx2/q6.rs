//! 6-bit weights by `vpmaddubsw`: two of its sums of products still fit 16 bits (4 x 63 x 128 < 32768). 32 x (sum of the
//! activations of 16 columns) is taken away beforehand.

use std::arch::x86_64::*;

use crate::kernels::activations::BlockScale;
use crate::kernels::q6::Panels;
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::q6::{BLOCK, BLOCK_BYTES, BLOCK_SCALES, LOW_BYTES, SUPER_BLOCKS};

/// `y = W x` for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn gemv(panels: Panels<'_>, activations: &[i8], steps: &[BlockScale], out: &mut [f32]) {
    let (blocks, supers, count) = (steps.len(), steps.len().div_ceil(SUPER_BLOCKS), out.len().div_ceil(PANEL));
    assert!(activations.len() == blocks * BLOCK && panels.weights.len() >= count * blocks * BLOCK_BYTES);
    assert!(panels.scales.len() >= count * blocks * BLOCK_SCALES && panels.supers.len() >= count * supers * PANEL);
    for (p, out) in out.chunks_mut(PANEL).enumerate() {
        let mut acc = [_mm256_setzero_ps(); 2];
        for s in 0..supers {
            let mut sums = [_mm256_setzero_ps(); 2];
            for b in s * SUPER_BLOCKS..((s + 1) * SUPER_BLOCKS).min(blocks) {
                let step = steps[b];
                for (h, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: rows 8 h to 8 h + 7 of block `b` of panel `p`, and its activations (asserted above).
                    let dot = unsafe {
                        let weights = panels.weights.as_ptr().add((p * blocks + b) * BLOCK_BYTES + 32 * h);
                        let scales = panels.scales.as_ptr().add((p * blocks + b) * BLOCK_SCALES + 8 * h);
                        (64 * h..BLOCK_BYTES).step_by(128).for_each(|line| prefetch_ahead(weights.wrapping_add(line)));
                        dots(weights, scales, activations.as_ptr().add(b * BLOCK), step)
                    };
                    *sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(step.step), *sums);
                }
            }
            for h in 0..2 {
                // SAFETY: 8 of the 16 scales of super-block `s` of panel `p`.
                let d = unsafe { _mm_loadu_si128(panels.supers.as_ptr().add((p * supers + s) * PANEL + 8 * h).cast()) };
                acc[h] = _mm256_fmadd_ps(sums[h], _mm256_cvtph_ps(d), acc[h]);
            }
        }
        let mut row = [0.0; PANEL];
        // SAFETY: the two halves of 16 values.
        unsafe {
            _mm256_storeu_ps(row.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(row.as_mut_ptr().add(8), acc[1]);
        }
        out.copy_from_slice(&row[..out.len()]);
    }
}

/// The scaled dot products of eight rows of a block.
///
/// # Safety
/// The block's bytes must be readable from those of the eight rows on, 8 scales and 8 more 16 later, 32 activations.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots(weights: *const u8, scales: *const i8, activations: *const i8, step: BlockScale) -> __m256i {
    let (four, two, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30), _mm256_set1_epi16(1));
    let mut dots = _mm256_setzero_si256();
    for half in 0..2 {
        // SAFETY: 32 bytes of the high bits of 16 columns, 16 activations, 8 scales.
        let (high, a, scale) = unsafe {
            (
                _mm256_loadu_si256(weights.add(LOW_BYTES + 64 * half).cast()),
                activations.add(16 * half).cast::<[i32; 4]>().read_unaligned().map(|a| _mm256_set1_epi32(a)),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(scales.add(PANEL * half).cast())),
            )
        };
        let high = [_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<2>(high), high, _mm256_srli_epi16::<2>(high)];
        let sum = if half == 0 { step.first } else { step.sum - step.first };
        let mut dot = _mm256_set1_epi32(-32 * sum);
        for j in 0..2 {
            // SAFETY: 32 bytes of the low bits of 8 columns.
            let low = unsafe { _mm256_loadu_si256(weights.add(64 * (2 * half + j)).cast()) };
            let weight = |low, k: usize| _mm256_or_si256(_mm256_and_si256(low, four), _mm256_and_si256(high[k], two));
            let first = _mm256_maddubs_epi16(weight(low, 2 * j), a[2 * j]);
            let second = _mm256_maddubs_epi16(weight(_mm256_srli_epi16::<4>(low), 2 * j + 1), a[2 * j + 1]);
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(_mm256_add_epi16(first, second), ones));
        }
        dots = _mm256_add_epi32(dots, _mm256_mullo_epi32(dot, scale));
    }
    dots
}
