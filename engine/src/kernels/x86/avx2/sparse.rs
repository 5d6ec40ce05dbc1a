//! Rows and columns of ternary weights by `vpmaddubsw`: a few codes times activations into i16, then i32.

use std::arch::x86_64::*;

use crate::kernels::sparse::{Columns, GROUP, Rows};
use crate::quant::sparse::{CHUNK, CHUNK_BYTES};

/// Half of a chunk: what a vector holds.
const HALF: usize = CHUNK_BYTES / 2;
/// Rows side by side.
const SIDE: usize = 2;

/// Sums of code x activation of the rows picked, handed to `finish(k, sum)` in order.
#[target_feature(enable = "avx2")]
pub(crate) fn rows(rows: Rows<'_>, activations: &[i8], mut finish: impl FnMut(usize, i32)) {
    let count = rows.count();
    let whole = count / SIDE * SIDE;
    for k in (0..whole).step_by(SIDE) {
        // The rows after these are known, wherever they lie.
        let next = k + 2 * SIDE;
        let ahead = std::array::from_fn(|i| rows.row(if next + i < count { next + i } else { k + i }));
        let sums = dots::<SIDE>(std::array::from_fn(|i| rows.row(k + i)), ahead, activations);
        sums.into_iter().enumerate().for_each(|(i, sum)| finish(k + i, sum));
    }
    for k in whole..count {
        finish(k, dots::<1>([rows.row(k)], [rows.row(k)], activations)[0]);
    }
}

/// The sums of `N` rows; those `ahead` are asked for.
#[inline]
#[target_feature(enable = "avx2")]
fn dots<const N: usize>(rows: [&[u8]; N], ahead: [&[u8]; N], activations: &[i8]) -> [i32; N] {
    let chunks = activations.as_chunks::<CHUNK>().0;
    assert!(rows.iter().chain(&ahead).all(|row| row.len() == chunks.len() * CHUNK_BYTES), "rows of whole chunks");
    let (mask, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
    let mut wide = [_mm256_setzero_si256(); N];
    for (g, activations) in chunks.iter().enumerate() {
        for ((wide, row), ahead) in wide.iter_mut().zip(rows).zip(ahead) {
            _mm_prefetch::<_MM_HINT_T0>(ahead.as_ptr().wrapping_add(g * CHUNK_BYTES).cast());
            // Eight products are at most 8 x 512 in magnitude (2 x 2 x 128 each): within i16.
            let mut sum = _mm256_setzero_si256();
            for h in 0..2 {
                // SAFETY: half of chunk `g` of a row that has as many chunks as the activations, as asserted.
                let mut codes = unsafe { _mm256_loadu_si256(row.as_ptr().add(g * CHUNK_BYTES + h * HALF).cast()) };
                for s in 0..4 {
                    // SAFETY: 32 of the 256 activations of a chunk.
                    let a = unsafe { _mm256_loadu_si256(activations.as_ptr().add(s * CHUNK_BYTES + h * HALF).cast()) };
                    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), a));
                    codes = _mm256_srli_epi32::<2>(codes);
                }
            }
            *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(sum, ones));
        }
    }
    let mut sums = [0; N];
    for (sum, wide) in sums.iter_mut().zip(wide) {
        *sum = reduce(wide);
    }
    sums
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernels::x86) fn reduce(v: __m256i) -> i32 {
    let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
    _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v)))
}

/// Adds code x activation of the columns to the sums of a whole number of chunks of rows.
#[target_feature(enable = "avx2")]
pub(crate) fn columns(columns: Columns<'_>, sums: &mut [i32]) {
    let sums = sums.as_chunks_mut::<CHUNK>().0;
    let groups = columns.groups();
    for index in 0..groups {
        let (codes, activations) = columns.group(index, sums.len());
        let (ahead, _) = columns.group((index + 1).min(groups - 1), sums.len());
        let a = quads(activations);
        for (g, sums) in sums.iter_mut().enumerate() {
            for ahead in ahead {
                _mm_prefetch::<_MM_HINT_T0>(ahead.as_ptr().wrapping_add(g * CHUNK_BYTES).cast());
            }
            for h in 0..2 {
                add(sums, 8 * h, words(codes, g * CHUNK_BYTES + h * HALF), a);
            }
        }
    }
}

/// The activations of eight columns, four a lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernels::x86) fn quads(activations: [i8; GROUP]) -> [__m256i; 2] {
    let (quads, _) = activations.as_chunks::<4>();
    [
        _mm256_set1_epi32(i32::from_le_bytes(quads[0].map(|a| a as u8))),
        _mm256_set1_epi32(i32::from_le_bytes(quads[1].map(|a| a as u8))),
    ]
}

/// 32 bytes from `at` of each of eight columns, those of four side by side.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernels::x86) fn words(codes: [&[u8]; GROUP], at: usize) -> [[__m256i; 4]; 2] {
    let mut half = [_mm256_setzero_si256(); GROUP];
    for (half, codes) in half.iter_mut().zip(codes) {
        let codes = codes[at..][..HALF].as_ptr();
        // SAFETY: 32 bytes.
        *half = unsafe { _mm256_loadu_si256(codes.cast()) };
    }
    let [a, b, c, d, e, f, g, h] = half;
    [interleave([a, b, c, d]), interleave([e, f, g, h])]
}

/// Adds 128 rows of eight columns to a chunk's sums from `first`; those of other words follow 16 apart.
#[inline]
#[target_feature(enable = "avx2")]
fn add(sums: &mut [i32; CHUNK], first: usize, [low, high]: [[__m256i; 4]; 2], a: [__m256i; 2]) {
    let (mask, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
    for q in 0..4 {
        let (mut low, mut high) = (low[q], high[q]);
        for s in 0..4 {
            let at = sums[first + 64 * q + 16 * s..][..8].as_mut_ptr().cast();
            // SAFETY: eight sums.
            let sum = unsafe { _mm256_loadu_si256(at) };
            let products = [
                _mm256_maddubs_epi16(_mm256_and_si256(low, mask), a[0]),
                _mm256_maddubs_epi16(_mm256_and_si256(high, mask), a[1]),
            ];
            // Two products of at most 512 in magnitude (2 x 2 x 128) each: within i16.
            let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(products[0], products[1]), ones));
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(at, sum) };
            (low, high) = (_mm256_srli_epi32::<2>(low), _mm256_srli_epi32::<2>(high));
        }
    }
}

/// The bytes of four columns side by side, in the order that [`crate::quant::sparse`] says.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave(codes: [__m256i; 4]) -> [__m256i; 4] {
    let [a, b, c, d] = codes;
    let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
    let (low2, high2) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
    [
        _mm256_unpacklo_epi16(low, low2),
        _mm256_unpackhi_epi16(low, low2),
        _mm256_unpacklo_epi16(high, high2),
        _mm256_unpackhi_epi16(high, high2),
    ]
}
