//! Rows and columns of ternary weights by the 256-bit `vpdpbusd`.

use std::arch::x86_64::*;

use crate::kernels::sparse::{Columns, Rows};
use crate::kernels::x86::avx2::sparse::{quads, reduce, words};
use crate::quant::sparse::{CHUNK, CHUNK_BYTES};

/// Half of a chunk: what a vector holds.
const HALF: usize = CHUNK_BYTES / 2;
/// Rows side by side.
const SIDE: usize = 2;

/// Sums of code x activation of the rows picked, handed to `finish(k, sum)` in order.
#[target_feature(enable = "avx2,avxvnni")]
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
#[target_feature(enable = "avx2,avxvnni")]
fn dots<const N: usize>(rows: [&[u8]; N], ahead: [&[u8]; N], activations: &[i8]) -> [i32; N] {
    let chunks = activations.as_chunks::<CHUNK>().0;
    assert!(rows.iter().chain(&ahead).all(|row| row.len() == chunks.len() * CHUNK_BYTES), "rows of whole chunks");
    let mask = _mm256_set1_epi8(3);
    let mut acc = [[_mm256_setzero_si256(); 4]; N];
    for (g, activations) in chunks.iter().enumerate() {
        for ((acc, row), ahead) in acc.iter_mut().zip(rows).zip(ahead) {
            _mm_prefetch::<_MM_HINT_T0>(ahead.as_ptr().wrapping_add(g * CHUNK_BYTES).cast());
            for h in 0..2 {
                // SAFETY: half of chunk `g` of a row that has as many chunks as the activations, as asserted.
                let mut codes = unsafe { _mm256_loadu_si256(row.as_ptr().add(g * CHUNK_BYTES + h * HALF).cast()) };
                for s in 0..4 {
                    // SAFETY: 32 of the 256 activations of a chunk.
                    let a = unsafe { _mm256_loadu_si256(activations.as_ptr().add(s * CHUNK_BYTES + h * HALF).cast()) };
                    acc[s] = _mm256_dpbusd_avx_epi32(acc[s], _mm256_and_si256(codes, mask), a);
                    codes = _mm256_srli_epi32::<2>(codes);
                }
            }
        }
    }
    let mut sums = [0; N];
    for (sum, acc) in sums.iter_mut().zip(acc) {
        let pairs = [_mm256_add_epi32(acc[0], acc[1]), _mm256_add_epi32(acc[2], acc[3])];
        *sum = reduce(_mm256_add_epi32(pairs[0], pairs[1]));
    }
    sums
}

/// Adds code x activation of the columns to the sums of a whole number of chunks of rows.
#[target_feature(enable = "avx2,avxvnni")]
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

/// Adds 128 rows of eight columns to a chunk's sums from `first`; those of other words follow 16 apart.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn add(sums: &mut [i32; CHUNK], first: usize, [low, high]: [[__m256i; 4]; 2], a: [__m256i; 2]) {
    let mask = _mm256_set1_epi8(3);
    for q in 0..4 {
        let (mut low, mut high) = (low[q], high[q]);
        for s in 0..4 {
            let at = sums[first + 64 * q + 16 * s..][..8].as_mut_ptr().cast();
            // SAFETY: eight sums.
            let mut sum = unsafe { _mm256_loadu_si256(at) };
            sum = _mm256_dpbusd_avx_epi32(sum, _mm256_and_si256(low, mask), a[0]);
            sum = _mm256_dpbusd_avx_epi32(sum, _mm256_and_si256(high, mask), a[1]);
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(at, sum) };
            (low, high) = (_mm256_srli_epi32::<2>(low), _mm256_srli_epi32::<2>(high));
        }
    }
}
