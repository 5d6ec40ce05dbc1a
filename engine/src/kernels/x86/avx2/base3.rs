//! Ternary weights at five a byte by 16-entry lookups: a byte is `b = 9 u + v` and `u = 9 e + w`; `v` and `w`, below 9, are
//! two codes each, and `e` is the fifth. Sums as for the 2-bit weights, in i16 spilled to i32.

use std::arch::x86_64::*;

use crate::kernels::base3::{Codes, PERIOD_BLOCKS, Packed};
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::base3::{BLOCK, BLOCK_BYTES, digit};

/// Blocks between two spills: one adds at most 5 x 512 to a lane, 12 of them 30720.
const SPILL: usize = 12;

/// Sums of code x activation for whole panels, handed to `finish(panel, sums)` in order.
#[target_feature(enable = "avx2")]
pub(crate) fn gemv(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let activations = activations.as_chunks::<BLOCK>().0;
    let panel_bytes = activations.len() * BLOCK_BYTES;
    let (tables, ones) = (Tables::new(), _mm256_set1_epi16(1));
    for (panel, bytes) in panels.chunks_exact(panel_bytes).enumerate() {
        let mut wide = [_mm256_setzero_si256(); 2];
        let blocks = bytes.as_chunks::<BLOCK_BYTES>().0;
        for (blocks, activations) in blocks.chunks(SPILL).zip(activations.chunks(SPILL)) {
            let mut acc = [_mm256_setzero_si256(); 2];
            for (block, a) in blocks.iter().zip(activations) {
                for (acc, b) in acc.iter_mut().zip(load(block)) {
                    for (s, codes) in tables.codes(b).into_iter().enumerate() {
                        *acc = _mm256_add_epi16(*acc, _mm256_maddubs_epi16(codes, word(a, s)));
                    }
                }
            }
            for (wide, acc) in wide.iter_mut().zip(acc) {
                *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(acc, ones));
            }
        }
        let mut sums = [0; PANEL];
        store(&mut sums, wide);
        finish(panel, &sums);
    }
}

/// Unpacks blocks into 2-bit codes.
#[target_feature(enable = "avx2")]
pub(crate) fn unpack(packed: &[[Packed; PERIOD_BLOCKS.0]], codes: &mut [[Codes; PERIOD_BLOCKS.1]]) {
    let tables = Tables::new();
    for (packed, codes) in packed.iter().zip(codes) {
        let blocks = packed.each_ref().map(|block| load(block));
        for h in 0..2 {
            // All twenty groups of four columns, one code a byte.
            let mut groups = [_mm256_setzero_si256(); PERIOD_BLOCKS.1 * 4];
            for (groups, block) in groups.as_chunks_mut::<5>().0.iter_mut().zip(blocks) {
                *groups = tables.codes(block[h]);
            }
            for (codes, [a, b, c, d]) in codes.iter_mut().zip(groups.as_chunks::<4>().0) {
                // No shift of a code below 4 leaves its byte.
                let low = _mm256_or_si256(*a, _mm256_slli_epi16::<2>(*b));
                let high = _mm256_or_si256(_mm256_slli_epi16::<4>(*c), _mm256_slli_epi16::<6>(*d));
                // SAFETY: one half of 64 bytes.
                unsafe { _mm256_storeu_si256(codes[32 * h..].as_mut_ptr().cast(), _mm256_or_si256(low, high)) };
            }
        }
    }
}

/// Lookups, 16 entries in either half of a vector.
#[derive(Clone, Copy)]
pub(in crate::kernels::x86) struct Tables {
    /// The first of the two codes of a number below 9.
    first: __m256i,
    /// The second.
    second: __m256i,
    /// `e` by `9 e`, whose low four bits are 0, 9 and 2.
    fifth: __m256i,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::kernels::x86) fn new() -> Tables {
        let table = |codes: [u8; 16]| -> __m256i {
            // SAFETY: 16 bytes.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
        };
        let mut fifth = [0; 16];
        (fifth[9], fifth[2]) = (1, 2);
        Tables {
            first: table(std::array::from_fn(|i| digit(i as u8, 0))),
            second: table(std::array::from_fn(|i| digit(i as u8, 1))),
            fifth: table(fifth),
        }
    }

    /// The five codes of each byte; of the last one nine times the code.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::kernels::x86) fn codes_nine(&self, b: __m256i) -> [__m256i; 5] {
        let u = ninth(b);
        let v = _mm256_sub_epi8(_mm256_sub_epi8(b, _mm256_slli_epi16::<3>(u)), u);
        // Where a subtraction wraps, the smaller is what was there before.
        let w = _mm256_min_epu8(u, _mm256_sub_epi8(u, _mm256_set1_epi8(9)));
        let w = _mm256_min_epu8(w, _mm256_sub_epi8(w, _mm256_set1_epi8(9)));
        let pick = |table, index| _mm256_shuffle_epi8(table, index);
        let (first, second) = (self.first, self.second);
        [pick(first, v), pick(second, v), pick(first, w), pick(second, w), _mm256_sub_epi8(u, w)]
    }

    /// The five codes of each byte.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn codes(&self, b: __m256i) -> [__m256i; 5] {
        let mut codes = self.codes_nine(b);
        codes[4] = _mm256_shuffle_epi8(self.fifth, codes[4]);
        codes
    }
}

/// Bytes divided by 9: by a 16-bit multiplication with 65536 / 9, rounded up. A byte below in the same 16 bits adds less
/// than 1 to the dividend, too little to reach the next quotient.
#[inline]
#[target_feature(enable = "avx2")]
fn ninth(b: __m256i) -> __m256i {
    let (low, factor) = (_mm256_set1_epi16(0xff), _mm256_set1_epi16(7282));
    let even = _mm256_mulhi_epu16(_mm256_and_si256(b, low), factor);
    let odd = _mm256_mulhi_epu16(b, factor);
    _mm256_or_si256(even, _mm256_andnot_si256(low, odd))
}

/// The two halves of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernels::x86) fn load(block: &Packed) -> [__m256i; 2] {
    prefetch_ahead(block.as_ptr());
    // SAFETY: 64 bytes.
    unsafe { [_mm256_loadu_si256(block.as_ptr().cast()), _mm256_loadu_si256(block.as_ptr().add(32).cast())] }
}

/// Word `s` of a block's activations, in all lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernels::x86) fn word(activations: &[i8; BLOCK], s: usize) -> __m256i {
    let words = activations.as_chunks::<4>().0;
    _mm256_set1_epi32(i32::from_ne_bytes(words[s].map(|a| a as u8)))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernels::x86) fn store(sums: &mut [i32; PANEL], halves: [__m256i; 2]) {
    // SAFETY: the two halves of 16 i32.
    unsafe {
        _mm256_storeu_si256(sums.as_mut_ptr().cast(), halves[0]);
        _mm256_storeu_si256(sums.as_mut_ptr().add(8).cast(), halves[1]);
    }
}
