//! 8-bit weights by `vpmaddwd`: even and odd columns of weights + 128 and of activations as i16 (255 x 127 x 2 would
//! saturate `vpmaddubsw`); 128 x (sum of the block's activations) is taken away beforehand.

use std::arch::x86_64::*;

use half::f16;

use crate::kernels::activations::BlockScale;
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::q8::{BLOCK, BLOCK_BYTES};

/// `y = W x` for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn gemv(weights: &[u8], scales: &[f16], activations: &[i8], steps: &[BlockScale], out: &mut [f32]) {
    let panels = weights.chunks_exact(steps.len() * BLOCK_BYTES).zip(scales.chunks_exact(steps.len() * PANEL));
    for ((weights, scales), out) in panels.zip(out.chunks_mut(PANEL)) {
        let row = dots(weights, scales, activations, steps);
        out.copy_from_slice(&row[..out.len()]);
    }
}

#[target_feature(enable = "avx2,f16c,fma")]
fn dots(weights: &[u8], scales: &[f16], activations: &[i8], steps: &[BlockScale]) -> [f32; PANEL] {
    let blocks = steps.len();
    assert!(weights.len() == blocks * BLOCK_BYTES && scales.len() == blocks * PANEL);
    assert!(activations.len() == blocks * BLOCK);
    let even = _mm256_set1_epi16(0xff);
    let mut acc = [_mm256_setzero_ps(); 2];
    for (b, step) in steps.iter().enumerate() {
        let mut dots = [_mm256_set1_epi32(-128 * step.sum); 2];
        for i in 0..BLOCK / 4 {
            // SAFETY: 4 of the 32 activations of block `b`.
            let a = unsafe { activations.as_ptr().add(b * BLOCK + 4 * i).cast::<i32>().read_unaligned() };
            let a = _mm256_set1_epi32(a);
            let (a_even, a_odd) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a)), _mm256_srai_epi16::<8>(a));
            let at = weights.as_ptr().wrapping_add(b * BLOCK_BYTES + 64 * i);
            prefetch_ahead(at.cast());
            for (h, dots) in dots.iter_mut().enumerate() {
                // SAFETY: 32 of the 512 bytes of block `b`, which is within `weights`.
                let w = unsafe { _mm256_loadu_si256(at.add(32 * h).cast()) };
                *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(_mm256_and_si256(w, even), a_even));
                *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(_mm256_srli_epi16::<8>(w), a_odd));
            }
        }
        let step = _mm256_set1_ps(step.step);
        for h in 0..2 {
            // SAFETY: 8 of the 16 scales of block `b`, which are within `scales`.
            let scale = unsafe { _mm_loadu_si128(scales.as_ptr().add(b * PANEL + 8 * h).cast()) };
            let scale = _mm256_mul_ps(_mm256_cvtph_ps(scale), step);
            acc[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[h]), scale, acc[h]);
        }
    }
    let mut out = [0.0; PANEL];
    // SAFETY: the two halves of 16 values.
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), acc[0]);
        _mm256_storeu_ps(out.as_mut_ptr().add(8), acc[1]);
    }
    out
}
