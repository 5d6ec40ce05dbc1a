//! Ternary weights at five a byte by the 256-bit `vpdpbusd`: codes as on AVX2, but the fifth taken nine times, and its sum
//! divided once a panel.

use std::arch::x86_64::*;

use crate::kernels::x86::avx2::base3::{Tables, load, store, word};
use crate::quant::PANEL;
use crate::quant::base3::{BLOCK, BLOCK_BYTES};

/// The inverse of 9 modulo 2^32.
const NINTH: i32 = 0x38e3_8e39;
const _: () = assert!(NINTH.wrapping_mul(9) == 1);

/// Sums of code x activation for whole panels, handed to `finish(panel, sums)` in order.
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn gemv(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let activations = activations.as_chunks::<BLOCK>().0;
    let panel_bytes = activations.len() * BLOCK_BYTES;
    let tables = Tables::new();
    for (panel, bytes) in panels.chunks_exact(panel_bytes).enumerate() {
        // Digits 0 and 1, 2 and 3, and 4.
        let mut acc = [[_mm256_setzero_si256(); 3]; 2];
        for (block, a) in bytes.as_chunks().0.iter().zip(activations) {
            for (acc, b) in acc.iter_mut().zip(load(block)) {
                for (s, codes) in tables.codes_nine(b).into_iter().enumerate() {
                    acc[s / 2] = _mm256_dpbusd_avx_epi32(acc[s / 2], codes, word(a, s));
                }
            }
        }
        let mut sums = [0; PANEL];
        store(
            &mut sums,
            acc.map(|[low, high, nine]| {
                let fifth = _mm256_mullo_epi32(nine, _mm256_set1_epi32(NINTH));
                _mm256_add_epi32(_mm256_add_epi32(low, high), fifth)
            }),
        );
        finish(panel, &sums);
    }
}
