//! 8-bit weights by `vpdpbusd`: weights + 128 are unsigned, activations signed, and 128 x (sum of the block's
//! activations) is taken away beforehand.

use std::arch::x86_64::*;

use half::f16;

use super::store;
use crate::kernels::activations::BlockScale;
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::q8::{BLOCK, BLOCK_BYTES};

/// Panels read side by side.
const GROUP: usize = 2;

/// `y = W x` for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c,fma")]
pub(crate) fn gemv(weights: &[u8], scales: &[f16], activations: &[i8], steps: &[BlockScale], out: &mut [f32]) {
    let (bytes, per_panel) = (steps.len() * BLOCK_BYTES, steps.len() * PANEL);
    let groups = weights.chunks(GROUP * bytes).zip(scales.chunks(GROUP * per_panel));
    for ((weights, scales), out) in groups.zip(out.chunks_mut(GROUP * PANEL)) {
        if out.len() > (GROUP - 1) * PANEL {
            dots::<GROUP>(weights, scales, activations, steps, out);
        } else {
            dots::<1>(weights, scales, activations, steps, out);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c,fma")]
fn dots<const G: usize>(weights: &[u8], scales: &[f16], activations: &[i8], steps: &[BlockScale], out: &mut [f32]) {
    let blocks = steps.len();
    assert!(weights.len() >= G * blocks * BLOCK_BYTES && scales.len() >= G * blocks * PANEL);
    assert!(activations.len() == blocks * BLOCK);
    let mut acc = [_mm512_setzero_ps(); G];
    for (b, step) in steps.iter().enumerate() {
        let bias = _mm512_set1_epi32(-128 * step.sum);
        let mut dots = [[bias, _mm512_setzero_si512()]; G];
        for i in 0..BLOCK / 4 {
            // SAFETY: 4 of the 32 activations of block `b`.
            let a = unsafe { activations.as_ptr().add(b * BLOCK + 4 * i).cast::<i32>().read_unaligned() };
            let a = _mm512_set1_epi32(a);
            for (g, dots) in dots.iter_mut().enumerate() {
                let at = weights.as_ptr().wrapping_add((g * blocks + b) * BLOCK_BYTES + 64 * i);
                prefetch_ahead(at.cast());
                // SAFETY: 64 of the 512 bytes of block `b` of panel `g`, which is within `weights`.
                let w = unsafe { _mm512_loadu_si512(at.cast()) };
                dots[i % 2] = _mm512_dpbusd_epi32(dots[i % 2], w, a);
            }
        }
        let step = _mm512_set1_ps(step.step);
        for g in 0..G {
            // SAFETY: the 16 scales of block `b` of panel `g` are within `scales`.
            let scale = unsafe { _mm256_loadu_si256(scales.as_ptr().add((g * blocks + b) * PANEL).cast()) };
            let scale = _mm512_mul_ps(_mm512_cvtph_ps(scale), step);
            let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(dots[g][0], dots[g][1]));
            acc[g] = _mm512_fmadd_ps(dot, scale, acc[g]);
        }
    }
    for (acc, out) in acc.into_iter().zip(out.chunks_mut(PANEL)) {
        store(out, acc);
    }
}
