//! AVX-512 (F, BW, VL, DQ, VNNI) with F16C and FMA.

pub(crate) mod activations;
pub(crate) mod base3;
pub(crate) mod bf16;
pub(crate) mod bounded;
pub(crate) mod float16;
pub(crate) mod q6;
pub(crate) mod q8;
pub(crate) mod sparse;
pub(crate) mod ternary;

use std::arch::x86_64::*;

/// Stores the first `out.len()` lanes, at most 16.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(out: &mut [f32], values: __m512) {
    let mask = (1u32 << out.len().min(16)) - 1;
    // SAFETY: the mask keeps the store within `out`.
    unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask as __mmask16, values) }
}
