//! The 4-bit copy of a head by `vpshufb`, which looks the codes up, and `vpmaddubsw`: no pair of products exceeds 16 bits,
//! as the book ends at 126. 63 x (sum of the block's activations) is taken away beforehand.

use std::arch::x86_64::*;

use crate::kernels::bounded::{FineRows, Near, Ordered, Panels, Probe};
use crate::kernels::x86::{prefetch_ahead, prefetch_at};
use crate::quant::PANEL;
use crate::quant::bounded::{BLOCK, BLOCK_BYTES, GROUP, GROUP_BLOCKS, LEVELS, fine};

/// Approximate outputs for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn gemv(panels: Panels<'_>, probe: Probe<'_>, out: &mut [Near]) {
    let (blocks, groups) = (probe.steps.len(), probe.norms.len());
    assert!(probe.int8.len() == blocks * BLOCK && groups == blocks.div_ceil(GROUP_BLOCKS));
    assert!(panels.codes.len() >= out.len().div_ceil(PANEL) * blocks * BLOCK_BYTES);
    assert!(panels.scales.len().min(panels.residuals.len()) >= out.len().div_ceil(PANEL) * groups * PANEL);
    assert!(panels.kept.len() >= out.len().div_ceil(PANEL) * probe.kept.len() * PANEL);
    for (p, out) in out.chunks_mut(PANEL).enumerate() {
        let mut value = [_mm256_setzero_ps(); 2];
        for (k, &x) in probe.kept.iter().enumerate() {
            for (h, value) in value.iter_mut().enumerate() {
                // SAFETY: 8 of the 16 weights of column `k` of panel `p` (asserted above).
                let w = unsafe {
                    panels
                        .kept
                        .as_ptr()
                        .add((p * probe.kept.len() + k) * PANEL + 8 * h)
                        .cast::<__m128i>()
                        .read_unaligned()
                };
                *value = _mm256_fmadd_ps(_mm256_cvtph_ps(w), _mm256_set1_ps(x), *value);
            }
        }
        let mut residual = [_mm256_setzero_ps(); 2];
        for (g, &norm) in probe.norms.iter().enumerate() {
            let mut sums = [_mm256_setzero_ps(); 2];
            for b in g * GROUP_BLOCKS..((g + 1) * GROUP_BLOCKS).min(blocks) {
                // SAFETY: block `b` of panel `p` is within `codes`, and its activations within `int8` (asserted above).
                let dots = unsafe {
                    let codes = panels.codes.as_ptr().add((p * blocks + b) * BLOCK_BYTES);
                    dots(codes, probe.int8.as_ptr().add(b * BLOCK), panels.book, -LEVELS * probe.steps[b].sum)
                };
                let step = _mm256_set1_ps(probe.steps[b].step);
                for h in 0..2 {
                    sums[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[h]), step, sums[h]);
                }
            }
            let norm = _mm256_set1_ps(norm);
            for h in 0..2 {
                let at = (p * groups + g) * PANEL + 8 * h;
                // SAFETY: 8 of the 16 values of group `g` of panel `p` (asserted above).
                let (scale, off) = unsafe {
                    let wide = |from: &[half::f16]| _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(at).cast()));
                    (wide(panels.scales), wide(panels.residuals))
                };
                value[h] = _mm256_fmadd_ps(sums[h], scale, value[h]);
                residual[h] = _mm256_fmadd_ps(off, norm, residual[h]);
            }
        }
        let (value, residual) = (spill(value), spill(residual));
        for (r, out) in out.iter_mut().enumerate() {
            *out = Near { value: value[r], residual: residual[r] };
        }
    }
}

/// The 16 dot products of a block, from `start`.
///
/// # Safety
/// [`BLOCK_BYTES`] bytes must be readable at `codes`, [`BLOCK`] at `activations`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots(codes: *const u8, activations: *const i8, book: &[u8; 16], start: i32) -> [__m256i; 2] {
    let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    // SAFETY: 16 bytes.
    let book = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(book.as_ptr().cast()) });
    let mut dots = [_mm256_set1_epi32(start); 2];
    for j in 0..BLOCK / 8 {
        prefetch_ahead(codes.wrapping_add(64 * j));
        // SAFETY: 8 of the 32 activations.
        let a = unsafe { activations.add(8 * j).cast::<[i32; 2]>().read_unaligned() }.map(|a| _mm256_set1_epi32(a));
        for (h, dots) in dots.iter_mut().enumerate() {
            // SAFETY: 32 of the 256 bytes.
            let v = unsafe { _mm256_loadu_si256(codes.add(64 * j + 32 * h).cast()) };
            for (v, a) in [v, _mm256_srli_epi16::<4>(v)].into_iter().zip(a) {
                let w = _mm256_shuffle_epi8(book, _mm256_and_si256(v, low));
                *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), ones));
            }
        }
    }
    dots
}

#[inline]
#[target_feature(enable = "avx2")]
fn spill(values: [__m256; 2]) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    // SAFETY: the two halves of 16 values.
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), values[0]);
        _mm256_storeu_ps(out.as_mut_ptr().add(8), values[1]);
    }
    out
}

/// Rows of the second level, added to what the first says; see [`crate::kernels::bounded::refine`].
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn refine(rows: FineRows<'_>, activations: &Ordered, (picked, near): (&[u32], &[Near]), out: &mut [Near]) {
    assert!(activations.int8.len() == activations.groups * GROUP && picked.len() == out.len());
    assert!(activations.steps.len().min(activations.offsets.len()) == activations.groups * fine::LANES);
    assert!(activations.norms.len() == activations.groups.next_multiple_of(fine::LANES));
    for (k, (&index, out)) in picked.iter().zip(out).enumerate() {
        // The rows after this are known, wherever they lie.
        let ahead = rows.row(*picked.get(k + 2).unwrap_or(&index));
        let Near { value, residual } = refine_row(rows.row(index), ahead, activations);
        *out = Near { value: near[index as usize].value + value, residual };
    }
}

/// One row by itself; the one `ahead` is asked for.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn refine_row(row: &[u8], ahead: &[u8], activations: &Ordered) -> Near {
    let groups = activations.groups;
    let (scales, norms) = fine::places(groups);
    assert!(row.len() >= 2 * norms - scales && ahead.len() == row.len());
    for line in (0..ahead.len()).step_by(64) {
        prefetch_at(ahead.as_ptr().wrapping_add(line));
    }
    let (mut value, mut residual) = (_mm256_setzero_ps(), _mm256_setzero_ps());
    for first in (0..groups).step_by(fine::LANES) {
        // SAFETY: 8 scales and 8 norms of the row, which has them up to a multiple of 8 (asserted above); 8 norms.
        let (wide, off, norm) = unsafe {
            let half = |at: usize| _mm256_cvtph_ps(_mm_loadu_si128(row.as_ptr().add(at + 2 * first).cast()));
            (half(scales), half(norms), _mm256_loadu_ps(activations.norms.as_ptr().add(first)))
        };
        residual = _mm256_fmadd_ps(off, norm, residual);
        let mut wides = [0.0f32; fine::LANES];
        // SAFETY: 8 values.
        unsafe { _mm256_storeu_ps(wides.as_mut_ptr(), wide) };
        for (g, scale) in (first..groups).zip(wides) {
            // SAFETY: group `g` of the row and its activations, steps and offsets (asserted above and by the caller).
            let (dots, steps) = unsafe {
                let a = activations.int8.as_ptr().add(g * GROUP);
                let offsets = _mm256_loadu_si256(activations.offsets.as_ptr().add(g * fine::LANES).cast());
                let dots = fine_dots(row.as_ptr().add(g * fine::GROUP_BYTES), a);
                let dots = _mm256_add_epi32(_mm256_slli_epi32::<1>(dots), offsets);
                (_mm256_cvtepi32_ps(dots), _mm256_loadu_ps(activations.steps.as_ptr().add(g * fine::LANES)))
            };
            value = _mm256_fmadd_ps(_mm256_mul_ps(dots, steps), _mm256_set1_ps(scale), value);
        }
    }
    Near { value: halve(value), residual: halve(residual) }
}

/// Sums of code x activation of a group's 8 blocks.
///
/// # Safety
/// [`fine::GROUP_BYTES`] bytes must be readable at `codes`, [`GROUP`] at `activations`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn fine_dots(codes: *const u8, activations: *const i8) -> __m256i {
    let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    // Eight pairs of products are at most 8 x 2 x 15 x 127 in magnitude: within i16.
    let mut sum = _mm256_setzero_si256();
    for j in 0..fine::GROUP_BYTES / 32 {
        // SAFETY: 32 of the 128 bytes, 2 x 32 of the 256 activations.
        let (v, a, b) = unsafe {
            let at = |i: usize| _mm256_loadu_si256(activations.add(32 * i).cast());
            (_mm256_loadu_si256(codes.add(32 * j).cast()), at(2 * j), at(2 * j + 1))
        };
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(v), low);
        let pair = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(v, low), a), _mm256_maddubs_epi16(high, b));
        sum = _mm256_add_epi16(sum, pair);
    }
    _mm256_madd_epi16(sum, ones)
}

/// The sum of the lanes, halves added to halves.
#[inline]
#[target_feature(enable = "avx2")]
fn halve(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
}
