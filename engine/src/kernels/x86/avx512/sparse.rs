//! Rows and columns of ternary weights by `vpdpbusd`.

use std::arch::x86_64::*;

use crate::kernels::sparse::{Columns, GROUP, Rows};
use crate::quant::sparse::{CHUNK, CHUNK_BYTES};

/// Rows side by side: with four sums each, 16 of the 32 vector registers.
const SIDE: usize = 4;
/// Rows ahead of the current that are asked for first, and lines of each: enough for the CPU to see a stream.
const FAR: usize = 16;
const FAR_LINES: usize = 3;

/// Sums of code x activation of the rows picked, handed to `finish(k, sum)` in order.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn rows(rows: Rows<'_>, activations: &[i8], mut finish: impl FnMut(usize, i32)) {
    let count = rows.count();
    let whole = count / SIDE * SIDE;
    for k in (0..whole).step_by(SIDE) {
        // The rows after these are known, wherever they lie.
        let after = |distance: usize| std::array::from_fn(|i| rows.row((k + distance + i).min(count - 1)));
        let sums = dots::<SIDE>(after(0), after(SIDE), after(FAR), activations);
        sums.into_iter().enumerate().for_each(|(i, sum)| finish(k + i, sum));
    }
    for k in whole..count {
        let row = [rows.row(k)];
        finish(k, dots::<1>(row, row, row, activations)[0]);
    }
}

/// The sums of `N` rows; those `near` are asked for, and the first lines of those `far`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots<const N: usize>(rows: [&[u8]; N], near: [&[u8]; N], far: [&[u8]; N], activations: &[i8]) -> [i32; N] {
    let chunks = activations.as_chunks::<CHUNK>().0;
    assert!(rows.iter().all(|row| row.len() == chunks.len() * CHUNK_BYTES), "rows of whole chunks");
    let mask = _mm512_set1_epi8(3);
    let mut acc = [[_mm512_setzero_si512(); 4]; N];
    for (g, activations) in chunks.iter().enumerate() {
        let mut a = [_mm512_setzero_si512(); 4];
        for (s, a) in a.iter_mut().enumerate() {
            // SAFETY: 64 of the 256 activations of a chunk.
            *a = unsafe { _mm512_loadu_si512(activations.as_ptr().add(s * CHUNK_BYTES).cast()) };
        }
        for (((acc, row), near), far) in acc.iter_mut().zip(rows).zip(near).zip(far) {
            if g < FAR_LINES {
                _mm_prefetch::<_MM_HINT_T1>(far.as_ptr().wrapping_add(g * CHUNK_BYTES).cast());
            }
            _mm_prefetch::<_MM_HINT_T0>(near.as_ptr().wrapping_add(g * CHUNK_BYTES).cast());
            // SAFETY: chunk `g` of a row that has as many chunks as the activations, as asserted.
            let codes = unsafe { _mm512_loadu_si512(row.as_ptr().add(g * CHUNK_BYTES).cast()) };
            let shifted =
                [codes, _mm512_srli_epi32::<2>(codes), _mm512_srli_epi32::<4>(codes), _mm512_srli_epi32::<6>(codes)];
            for s in 0..4 {
                acc[s] = _mm512_dpbusd_epi32(acc[s], _mm512_and_si512(shifted[s], mask), a[s]);
            }
        }
    }
    let mut sums = [0; N];
    for (sum, acc) in sums.iter_mut().zip(acc) {
        let pairs = [_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3])];
        *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(pairs[0], pairs[1]));
    }
    sums
}

/// Adds code x activation of the columns to the sums of a whole number of chunks of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn columns(columns: Columns<'_>, sums: &mut [i32]) {
    let sums = sums.as_chunks_mut::<CHUNK>().0;
    let groups = columns.groups();
    for index in 0..groups {
        let (codes, activations) = columns.group(index, sums.len());
        let (ahead, _) = columns.group((index + 1).min(groups - 1), sums.len());
        let (quads, _) = activations.as_chunks::<4>();
        let quad = |i: usize| i32::from_le_bytes(quads[i].map(|a| a as u8));
        let a = [_mm512_set1_epi32(quad(0)), _mm512_set1_epi32(quad(1))];
        for (g, sums) in sums.iter_mut().enumerate() {
            for ahead in ahead {
                _mm_prefetch::<_MM_HINT_T0>(ahead.as_ptr().wrapping_add(g * CHUNK_BYTES).cast());
            }
            add_chunk(sums, codes, g, a);
        }
    }
}

/// Adds 256 rows, those of chunk `g`, of eight columns. In loops, as closures of array functions do not always become part
/// of a function that has more features than those: then vectors go through memory, at a sixth of the speed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add_chunk(sums: &mut [i32; CHUNK], codes: [&[u8]; GROUP], g: usize, a: [__m512i; 2]) {
    let mask = _mm512_set1_epi8(3);
    let mut bytes = [_mm512_setzero_si512(); GROUP];
    for (bytes, codes) in bytes.iter_mut().zip(codes) {
        let codes = codes[g * CHUNK_BYTES..][..CHUNK_BYTES].as_ptr();
        // SAFETY: 64 bytes.
        *bytes = unsafe { _mm512_loadu_si512(codes.cast()) };
    }
    let [b0, b1, b2, b3, b4, b5, b6, b7] = bytes;
    let (low, high) = (interleave([b0, b1, b2, b3]), interleave([b4, b5, b6, b7]));
    for q in 0..4 {
        let (mut low, mut high) = (low[q], high[q]);
        for s in 0..4 {
            let at = sums[64 * q + 16 * s..][..16].as_mut_ptr();
            // SAFETY: 16 sums.
            let mut sum = unsafe { _mm512_loadu_si512(at.cast()) };
            sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(low, mask), a[0]);
            sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(high, mask), a[1]);
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(at.cast(), sum) };
            (low, high) = (_mm512_srli_epi32::<2>(low), _mm512_srli_epi32::<2>(high));
        }
    }
}

/// The bytes of four columns side by side, in the order that [`crate::quant::sparse`] says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(codes: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = codes;
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (low2, high2) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(low, low2),
        _mm512_unpackhi_epi16(low, low2),
        _mm512_unpacklo_epi16(high, high2),
        _mm512_unpackhi_epi16(high, high2),
    ]
}

/// The positions of gates that are not 0 or less.
#[target_feature(enable = "avx512f")]
pub(crate) fn list_active(gate: &[f32], out: &mut Vec<u32>) {
    let mut list = List::new(gate.len(), out);
    for part in gate.chunks(16) {
        // SAFETY: as many values as the mask has bits, 16 at most.
        let values = unsafe { _mm512_maskz_loadu_ps(first(part.len()), part.as_ptr()) };
        // Those beyond the last are 0.
        list.push(!_mm512_cmp_ps_mask::<_CMP_LE_OQ>(values, _mm512_setzero_ps()));
    }
    list.finish();
}

/// The positions of activations other than 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn list_nonzero(activations: &[i8], out: &mut Vec<u32>) {
    let mut list = List::new(activations.len(), out);
    for part in activations.chunks(16) {
        // SAFETY: as many values as the mask has bits, 16 at most.
        let values = unsafe { _mm_maskz_loadu_epi8(first(part.len()), part.as_ptr()) };
        list.push(_mm_test_epi8_mask(values, values));
    }
    list.finish();
}

/// The lowest `count` bits, 1 to 16.
fn first(count: usize) -> u16 {
    u16::MAX >> (16 - count)
}

/// Positions of bits set, sixteen at a time.
struct List<'a> {
    out: &'a mut Vec<u32>,
    count: usize,
    next: u32,
}

impl<'a> List<'a> {
    /// Of at most `len` positions, in place of what `out` holds.
    fn new(len: usize, out: &'a mut Vec<u32>) -> List<'a> {
        // Sixteen are written even where fewer are left.
        out.resize(len + 16, 0);
        List { out, count: 0, next: 0 }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn push(&mut self, mask: u16) {
        let positions = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let positions = _mm512_add_epi32(positions, _mm512_set1_epi32(self.next as i32));
        let out = self.out[self.count..][..16].as_mut_ptr();
        // SAFETY: sixteen positions.
        unsafe { _mm512_storeu_si512(out.cast(), _mm512_maskz_compress_epi32(mask, positions)) };
        self.next += 16;
        self.count += mask.count_ones() as usize;
    }

    fn finish(self) {
        self.out.truncate(self.count);
    }
}
