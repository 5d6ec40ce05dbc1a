//! Dot products of bytes in sixteen i32 lanes, four bytes a lane: exact, so that every instruction set gives the same sums.
//!
//! Sums wrap around. None of heads of up to 133,000 dimensions is that large, and what wraps wraps alike everywhere.

use super::{LANES, Lanes, Scalar};
#[cfg(target_arch = "x86_64")]
use crate::kernels::isa::Isa;
use crate::kernels::isa::Kernels;

/// Bytes that sixteen lanes take.
pub(crate) const QUADS: usize = 4 * LANES;
/// Added to an f32, it leaves the nearest integer, ties to even, in the lowest bits of the sum: it is 1.5 * 2^23.
pub(crate) const MAGIC: f32 = 12_582_912.0;
/// The largest weight: 15 bits, which is a signed word as well as two unsigned bytes.
pub(crate) const MOST: f32 = 32_767.0;

/// Lanes that multiply bytes.
pub(crate) trait Dots: Lanes {
    /// Sixteen sums of products of codes.
    type Sums: Copy;
    /// Sixteen quads of codes from -127 to 127, ready to be multiplied by codes.
    type Keys: Copy;
    /// One quad of codes from -127 to 127, in every lane.
    type Quad: Copy;
    /// Sixteen quads of codes from -127 to 127, ready to be multiplied by weights.
    type Values: Copy;
    /// One quad of weights from 0 to [`MOST`], in every lane.
    type Weights: Copy;
    /// Sixteen sums of products of weights.
    type Totals: Copy;
    /// Queries whose sums registers hold beside a group of keys.
    const TILE: usize;

    /// Sixteen quads.
    fn keys(self, from: &[i8; QUADS]) -> Self::Keys;
    /// `codes` in every lane.
    fn quad(self, codes: [i8; 4]) -> Self::Quad;
    /// What a sum begins with whose quads' codes add up to `total`.
    fn begin(self, total: i32) -> Self::Sums;
    /// `sums` and in each lane the four products of `keys` and `quad`.
    fn dot(self, sums: Self::Sums, keys: Self::Keys, quad: Self::Quad) -> Self::Sums;
    /// The sums, rounded to the nearest f32, ties to even.
    fn dots(self, sums: Self::Sums) -> Self::V;

    /// Sixteen quads.
    fn values(self, from: &[i8; QUADS]) -> Self::Values;
    /// Four quads of weights, each given as itself plus [`MAGIC`], in the form that [`Dots::weights`] takes.
    fn pack(self, weights: Self::V, to: &mut [[u32; 2]; 4]);
    /// A packed quad in every lane. (From a reference: a pair that is loaded at once is taken apart in other registers.)
    fn weights(self, packed: &[u32; 2]) -> Self::Weights;
    /// Sums of nothing.
    fn nothing(self) -> Self::Totals;
    /// `totals` and in each lane the four products of `values` and `weights`.
    fn weigh(self, totals: Self::Totals, values: Self::Values, weights: Self::Weights) -> Self::Totals;
    /// The sums, rounded to the nearest f32, ties to even.
    fn totals(self, totals: Self::Totals) -> Self::V;
}

/// As [`Step`](super::Step), for a step that multiplies bytes.
pub(crate) trait DotStep {
    /// Does the step with the lanes given.
    fn run<L: Dots>(self, lanes: L);
}

/// Runs a step with the instruction set of `kernels`.
#[inline]
pub(crate) fn run_dots<S: DotStep>(kernels: Kernels, step: S) {
    match kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Kernels` value of this ISA exists only where the CPU has its features.
        Isa::Avx512 => unsafe { x86::run_avx512(step) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::AvxVnni => unsafe { x86::run_avxvnni(step) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::run_avx2(step) },
        _ => step.run(Scalar),
    }
}

impl Dots for Scalar {
    type Sums = [i32; LANES];
    type Keys = [i8; QUADS];
    type Quad = [i8; 4];
    type Values = [i8; QUADS];
    type Weights = [i32; 4];
    type Totals = [i32; LANES];
    const TILE: usize = 4;

    #[inline(always)]
    fn keys(self, from: &[i8; QUADS]) -> Self::Keys {
        *from
    }
    #[inline(always)]
    fn quad(self, codes: [i8; 4]) -> Self::Quad {
        codes
    }
    #[inline(always)]
    fn begin(self, _: i32) -> Self::Sums {
        [0; LANES]
    }
    #[inline(always)]
    fn dot(self, sums: Self::Sums, keys: Self::Keys, quad: Self::Quad) -> Self::Sums {
        self.weigh(sums, keys, quad.map(i32::from))
    }
    #[inline(always)]
    fn dots(self, sums: Self::Sums) -> Self::V {
        sums.map(|x| x as f32)
    }
    #[inline(always)]
    fn values(self, from: &[i8; QUADS]) -> Self::Values {
        *from
    }
    #[inline(always)]
    fn pack(self, weights: Self::V, to: &mut [[u32; 2]; 4]) {
        for (to, quad) in to.iter_mut().zip(weights.map(|w| w.to_bits() & 0xffff).as_chunks::<4>().0) {
            *to = [quad[0] | quad[1] << 16, quad[2] | quad[3] << 16];
        }
    }
    #[inline(always)]
    fn weights(self, &[first, last]: &[u32; 2]) -> Self::Weights {
        [first & 0xffff, first >> 16, last & 0xffff, last >> 16].map(|w| w as i32)
    }
    #[inline(always)]
    fn nothing(self) -> Self::Totals {
        [0; LANES]
    }
    #[inline(always)]
    fn weigh(self, mut totals: Self::Totals, values: Self::Values, weights: Self::Weights) -> Self::Totals {
        for (total, quad) in totals.iter_mut().zip(values.as_chunks::<4>().0) {
            for (code, weight) in quad.iter().zip(weights) {
                *total = total.wrapping_add(i32::from(*code).wrapping_mul(weight));
            }
        }
        totals
    }
    #[inline(always)]
    fn totals(self, totals: Self::Totals) -> Self::V {
        totals.map(|x| x as f32)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::x86::{Avx2, Avx512, Pair};
    use super::{DotStep, Dots, QUADS};

    /// Enters a step with AVX2, FMA and F16C.
    ///
    /// # Safety
    /// The CPU must have these features.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn run_avx2<S: DotStep>(step: S) {
        // SAFETY: the features are enabled here.
        step.run(unsafe { Avx2::<false>::new() });
    }

    /// Enters a step with AVX-VNNI, AVX2, FMA and F16C.
    ///
    /// # Safety
    /// The CPU must have these features.
    #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
    pub(super) unsafe fn run_avxvnni<S: DotStep>(step: S) {
        // SAFETY: the features are enabled here.
        step.run(unsafe { Avx2::<true>::new() });
    }

    /// Enters a step with AVX-512 (F, BW, VL, DQ, VNNI), FMA and F16C.
    ///
    /// # Safety
    /// The CPU must have these features.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    pub(super) unsafe fn run_avx512<S: DotStep>(step: S) {
        // SAFETY: the features are enabled here.
        step.run(unsafe { Avx512::new() });
    }

    /// Sixteen quads, and what is multiplied as unsigned bytes: with AVX-VNNI each code plus 128, else its magnitude.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Keys {
        codes: [__m256i; 2],
        unsigned: [__m256i; 2],
    }

    /// Bytes 0 and 2 of each quad as words, and bytes 1 and 3.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Words {
        even: [__m256i; 2],
        odd: [__m256i; 2],
    }

    impl<const VNNI: bool> Dots for Avx2<VNNI> {
        type Sums = [__m256i; 2];
        type Keys = Keys;
        type Quad = __m256i;
        type Values = Words;
        type Weights = [__m256i; 2];
        type Totals = [__m256i; 2];
        const TILE: usize = if VNNI { 6 } else { 4 };

        #[inline(always)]
        fn keys(self, from: &[i8; QUADS]) -> Keys {
            // SAFETY: `self` exists only where AVX2 is enabled; both unaligned loads lie within the 64 bytes.
            unsafe {
                let at = from.as_ptr().cast::<__m256i>();
                let codes = [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))];
                let flip = _mm256_set1_epi8(-128);
                let unsigned = if VNNI {
                    [_mm256_xor_si256(codes[0], flip), _mm256_xor_si256(codes[1], flip)]
                } else {
                    [_mm256_abs_epi8(codes[0]), _mm256_abs_epi8(codes[1])]
                };
                Keys { codes, unsigned }
            }
        }
        #[inline(always)]
        fn quad(self, codes: [i8; 4]) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_set1_epi32(i32::from_ne_bytes(codes.map(|code| code as u8))) }
        }
        #[inline(always)]
        fn begin(self, total: i32) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_set1_epi32(if VNNI { total.wrapping_mul(-128) } else { 0 }); 2] }
        }
        #[inline(always)]
        fn dot(self, mut sums: [__m256i; 2], keys: Keys, quad: __m256i) -> [__m256i; 2] {
            for half in 0..2 {
                // SAFETY: as above; AVX-VNNI is enabled where `VNNI` says so. Two products of magnitudes and codes up to
                // 127 fit a word.
                unsafe {
                    sums[half] = if VNNI {
                        _mm256_dpbusd_avx_epi32(sums[half], keys.unsigned[half], quad)
                    } else {
                        let pairs = _mm256_maddubs_epi16(keys.unsigned[half], _mm256_sign_epi8(quad, keys.codes[half]));
                        _mm256_add_epi32(sums[half], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
                    };
                }
            }
            sums
        }
        #[inline(always)]
        fn dots(self, sums: [__m256i; 2]) -> Pair {
            // SAFETY: as above.
            unsafe { Pair(_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])) }
        }
        #[inline(always)]
        fn values(self, from: &[i8; QUADS]) -> Words {
            // SAFETY: as above; both unaligned loads lie within the 64 bytes.
            unsafe {
                let at = from.as_ptr().cast::<__m256i>();
                let codes = [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))];
                let mut words = Words { even: codes, odd: codes };
                for half in 0..2 {
                    words.even[half] = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes[half]));
                    words.odd[half] = _mm256_srai_epi16::<8>(codes[half]);
                }
                words
            }
        }
        /// Words 0 and 2 of each quad, then words 1 and 3.
        #[inline(always)]
        fn pack(self, weights: Pair, to: &mut [[u32; 2]; 4]) {
            // SAFETY: as above; both unaligned stores of 16 bytes lie within the 32.
            unsafe {
                let order = _mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 13, 12, 5, 4, 9, 8, 1, 0);
                let order = _mm256_broadcastsi128_si256(order);
                let at = to.as_mut_ptr().cast::<__m128i>();
                let first = _mm256_shuffle_epi8(_mm256_castps_si256(weights.0), order);
                let last = _mm256_shuffle_epi8(_mm256_castps_si256(weights.1), order);
                _mm_storeu_si128(at, _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(first)));
                _mm_storeu_si128(at.add(1), _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(last)));
            }
        }
        #[inline(always)]
        fn weights(self, packed: &[u32; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_set1_epi32(packed[0] as i32), _mm256_set1_epi32(packed[1] as i32)] }
        }
        #[inline(always)]
        fn nothing(self) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_setzero_si256(); 2] }
        }
        #[inline(always)]
        fn weigh(self, mut totals: [__m256i; 2], values: Words, [even, odd]: [__m256i; 2]) -> [__m256i; 2] {
            for half in 0..2 {
                // SAFETY: as above; AVX-VNNI is enabled where `VNNI` says so.
                unsafe {
                    totals[half] = if VNNI {
                        let totals = _mm256_dpwssd_avx_epi32(totals[half], values.even[half], even);
                        _mm256_dpwssd_avx_epi32(totals, values.odd[half], odd)
                    } else {
                        let products = _mm256_madd_epi16(values.even[half], even);
                        let products = _mm256_add_epi32(products, _mm256_madd_epi16(values.odd[half], odd));
                        _mm256_add_epi32(totals[half], products)
                    };
                }
            }
            totals
        }
        #[inline(always)]
        fn totals(self, totals: [__m256i; 2]) -> Pair {
            self.dots(totals)
        }
    }

    impl Dots for Avx512 {
        type Sums = __m512i;
        /// Each code plus 128.
        type Keys = __m512i;
        type Quad = __m512i;
        type Values = __m512i;
        /// The lower bytes and the upper.
        type Weights = [__m512i; 2];
        type Totals = [__m512i; 2];
        const TILE: usize = 8;

        #[inline(always)]
        fn keys(self, from: &[i8; QUADS]) -> __m512i {
            // SAFETY: `self` exists only where AVX-512 and its VNNI are enabled; an unaligned load of the 64 bytes.
            unsafe { _mm512_xor_si512(_mm512_loadu_si512(from.as_ptr().cast()), _mm512_set1_epi8(-128)) }
        }
        #[inline(always)]
        fn quad(self, codes: [i8; 4]) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_set1_epi32(i32::from_ne_bytes(codes.map(|code| code as u8))) }
        }
        #[inline(always)]
        fn begin(self, total: i32) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_set1_epi32(total.wrapping_mul(-128)) }
        }
        #[inline(always)]
        fn dot(self, sums: __m512i, keys: __m512i, quad: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_dpbusd_epi32(sums, keys, quad) }
        }
        #[inline(always)]
        fn dots(self, sums: __m512i) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_cvtepi32_ps(sums) }
        }
        #[inline(always)]
        fn values(self, from: &[i8; QUADS]) -> __m512i {
            // SAFETY: as above; an unaligned load of the 64 bytes.
            unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
        }
        /// The lower bytes of each quad, then the upper.
        #[inline(always)]
        fn pack(self, weights: __m512, to: &mut [[u32; 2]; 4]) {
            // SAFETY: as above; an unaligned store of the 32 bytes.
            unsafe {
                let order = _mm_set_epi8(15, 13, 11, 9, 14, 12, 10, 8, 7, 5, 3, 1, 6, 4, 2, 0);
                let words = _mm512_cvtepi32_epi16(_mm512_castps_si512(weights));
                let bytes = _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes);
            }
        }
        #[inline(always)]
        fn weights(self, packed: &[u32; 2]) -> [__m512i; 2] {
            // SAFETY: as above.
            unsafe { [_mm512_set1_epi32(packed[0] as i32), _mm512_set1_epi32(packed[1] as i32)] }
        }
        #[inline(always)]
        fn nothing(self) -> [__m512i; 2] {
            // SAFETY: as above.
            unsafe { [_mm512_setzero_si512(); 2] }
        }
        #[inline(always)]
        fn weigh(self, totals: [__m512i; 2], values: __m512i, weights: [__m512i; 2]) -> [__m512i; 2] {
            // SAFETY: as above.
            unsafe {
                [_mm512_dpbusd_epi32(totals[0], weights[0], values), _mm512_dpbusd_epi32(totals[1], weights[1], values)]
            }
        }
        #[inline(always)]
        fn totals(self, [lower, upper]: [__m512i; 2]) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_cvtepi32_ps(_mm512_add_epi32(lower, _mm512_slli_epi32::<8>(upper))) }
        }
    }
}
