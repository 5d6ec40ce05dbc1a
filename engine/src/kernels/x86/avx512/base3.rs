//! Ternary weights at five a byte by `vpdpbusd`. A byte is `b = 81 e + q`: `q` looked up gives four codes at 2 bits, each
//! masked where it stands and summed on its own, so that its place is divided out once a panel instead of shifted out
//! of every byte.

use std::arch::x86_64::*;

use crate::kernels::base3::{Codes, PERIOD_BLOCKS, Packed};
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::base3::{BLOCK, BLOCK_BYTES, digit};

/// Blocks whose sums are sure to fit: one adds at most 4 x 2 x 128 x 64 = 2^16 to a lane.
const SPILL: usize = 1 << 14;

/// By `q` below 81 the codes of digits 0 to 3 at bits 0, 2, 4 and 6.
const LOW: [u8; 128] = {
    let mut table = [0; 128];
    let mut q = 0;
    while q < 81 {
        let d = q as u8;
        table[q] = (d % 3) | ((d / 3 % 3) << 2) | ((d / 9 % 3) << 4) | ((d / 27) << 6);
        q += 1;
    }
    table
};

/// Sums of code x activation for whole panels, handed to `finish(panel, sums)` in order.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
pub(crate) fn gemv_vbmi(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let activations = activations.as_chunks::<BLOCK>().0;
    let panel_bytes = activations.len() * BLOCK_BYTES;
    for (panel, bytes) in panels.chunks_exact(panel_bytes).enumerate() {
        let blocks = bytes.as_chunks::<BLOCK_BYTES>().0;
        let mut sum = _mm512_setzero_si512();
        for (blocks, activations) in blocks.chunks(SPILL).zip(activations.chunks(SPILL)) {
            sum = _mm512_add_epi32(sum, dots_vbmi(blocks, activations));
        }
        finish(panel, &lanes(sum));
    }
}

/// The sums of at most [`SPILL`] blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
fn dots_vbmi(blocks: &[Packed], activations: &[[i8; BLOCK]]) -> __m512i {
    let table = table();
    let mut acc = [_mm512_setzero_si512(); 5];
    for (block, activations) in blocks.iter().zip(activations) {
        let a = words(activations);
        let b = load(block);
        let q = below_81(b);
        let codes = _mm512_permutex2var_epi8(table[0], q, table[1]);
        for s in 0..4 {
            let code = _mm512_and_si512(codes, _mm512_set1_epi8(3 << (2 * s)));
            acc[s] = _mm512_dpbusd_epi32(acc[s], code, _mm512_set1_epi32(a[s]));
        }
        acc[4] = _mm512_dpbusd_epi32(acc[4], _mm512_sub_epi8(b, q), _mm512_set1_epi32(a[4]));
    }
    let low = _mm512_add_epi32(acc[0], _mm512_srai_epi32::<2>(acc[1]));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(acc[2]), _mm512_srai_epi32::<6>(acc[3]));
    // 81 times a sum, modulo 2^32: multiplied by the inverse of 81 it is the sum.
    let fifth = _mm512_mullo_epi32(acc[4], _mm512_set1_epi32(inverse(81)));
    _mm512_add_epi32(_mm512_add_epi32(low, high), fifth)
}

/// Unpacks blocks into 2-bit codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn unpack_vbmi(packed: &[[Packed; PERIOD_BLOCKS.0]], codes: &mut [[Codes; PERIOD_BLOCKS.1]]) {
    let table = table();
    for (packed, codes) in packed.iter().zip(codes) {
        let b = [load(&packed[0]), load(&packed[1]), load(&packed[2]), load(&packed[3])];
        let q = b.map(|b| below_81(b));
        let c = q.map(|q| _mm512_permutex2var_epi8(table[0], q, table[1]));
        // The fifth code, 81 e in `b - q`: 81 = 64 + 17 and 162 = 128 + 34 have `e` in their two highest bits.
        let e: [__m512i; 4] = std::array::from_fn(|i| _mm512_sub_epi8(b[i], q[i]));
        let left = |c, n: u32| _mm512_sll_epi32(c, _mm_cvtsi32_si128(n as i32));
        let right = |c, n: u32| _mm512_srl_epi32(c, _mm_cvtsi32_si128(n as i32));
        let pick = |mask: u8, a, b| {
            // Bits of `a` under the mask, else of `b`.
            _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(mask as i8), a, b)
        };
        let out = [
            c[0],
            pick(0x03, right(e[0], 6), left(c[1], 2)),
            pick(0x03, right(c[1], 6), pick(0x0c, right(e[1], 4), left(c[2], 4))),
            pick(0x0f, right(c[2], 4), pick(0x30, right(e[2], 2), left(c[3], 6))),
            pick(0x3f, right(c[3], 2), e[3]),
        ];
        for (codes, out) in codes.iter_mut().zip(out) {
            // SAFETY: 64 bytes.
            unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), out) };
        }
    }
}

/// As [`gemv_vbmi`] for CPUs without VBMI, whose lookups have 16 entries: `b = 9 u + v`, `u = 9 e + w`, and `v` and `w` below 9
/// are two codes each.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn gemv(panels: &[u8], activations: &[i8], mut finish: impl FnMut(usize, &[i32; PANEL])) {
    let activations = activations.as_chunks::<BLOCK>().0;
    let panel_bytes = activations.len() * BLOCK_BYTES;
    let pick = |s: usize| -> __m512i {
        let codes: [u8; 16] = std::array::from_fn(|i| digit(i as u8, s));
        // SAFETY: 16 bytes.
        _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
    };
    let (first, second) = (pick(0), pick(1));
    for (panel, bytes) in panels.chunks_exact(panel_bytes).enumerate() {
        let mut acc = [_mm512_setzero_si512(); 5];
        for (block, activations) in bytes.as_chunks().0.iter().zip(activations) {
            let a = words(activations);
            let b = load(block);
            let u = ninth(b);
            let v = _mm512_sub_epi8(_mm512_sub_epi8(b, _mm512_slli_epi16::<3>(u)), u);
            let w = _mm512_min_epu8(u, _mm512_sub_epi8(u, _mm512_set1_epi8(9)));
            let w = _mm512_min_epu8(w, _mm512_sub_epi8(w, _mm512_set1_epi8(9)));
            let codes = [
                _mm512_shuffle_epi8(first, v),
                _mm512_shuffle_epi8(second, v),
                _mm512_shuffle_epi8(first, w),
                _mm512_shuffle_epi8(second, w),
                _mm512_sub_epi8(u, w),
            ];
            for s in 0..5 {
                acc[s] = _mm512_dpbusd_epi32(acc[s], codes[s], _mm512_set1_epi32(a[s]));
            }
        }
        let four = _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
        let fifth = _mm512_mullo_epi32(acc[4], _mm512_set1_epi32(inverse(9)));
        finish(panel, &lanes(_mm512_add_epi32(four, fifth)));
    }
}

/// Bytes divided by 9: by a 16-bit multiplication with 65536 / 9, rounded up. A byte below in the same 16 bits adds less
/// than 1 to the dividend, too little to reach the next quotient.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn ninth(b: __m512i) -> __m512i {
    let (low, factor) = (_mm512_set1_epi16(0xff), _mm512_set1_epi16(7282));
    let even = _mm512_mulhi_epu16(_mm512_and_si512(b, low), factor);
    let odd = _mm512_mulhi_epu16(b, factor);
    _mm512_ternarylogic_epi32::<0xca>(low, even, odd)
}

/// Bytes modulo 81, of those below 243: where a subtraction wraps, the smaller is what was there before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn below_81(b: __m512i) -> __m512i {
    let q = _mm512_min_epu8(b, _mm512_sub_epi8(b, _mm512_set1_epi8(81)));
    _mm512_min_epu8(q, _mm512_sub_epi8(q, _mm512_set1_epi8(81)))
}

/// The inverse of an odd number modulo 2^32, by Newton's iteration: each step doubles the correct bits, at first 3.
const fn inverse(odd: i32) -> i32 {
    let mut x = odd;
    let mut step = 0;
    while step < 4 {
        x = x.wrapping_mul(2i32.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

#[inline]
#[target_feature(enable = "avx512f")]
fn table() -> [__m512i; 2] {
    // SAFETY: the two halves of 128 bytes.
    unsafe { [_mm512_loadu_si512(LOW.as_ptr().cast()), _mm512_loadu_si512(LOW.as_ptr().add(64).cast())] }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(block: &Packed) -> __m512i {
    prefetch_ahead(block.as_ptr());
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

/// The activations of a block, four a word.
#[inline]
fn words(activations: &[i8; BLOCK]) -> [i32; 5] {
    // SAFETY: 20 bytes.
    unsafe { activations.as_ptr().cast::<[i32; 5]>().read_unaligned() }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes(sum: __m512i) -> [i32; PANEL] {
    let mut sums = [0; PANEL];
    // SAFETY: 16 i32.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), sum) };
    sums
}
