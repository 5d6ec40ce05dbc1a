//! Sixteen f32 lanes, the unit in which every float step is written: once, for all instruction sets.
//!
//! [`Lanes`] has only what the float steps need. Each operation is correctly rounded IEEE 754 in every implementation, so
//! a generic step gives the same bits on `[f32; 16]`, two AVX registers or one AVX-512 register. A [`Step`] is a float
//! step with its arguments; [`run`] enters it with the instruction set that a [`Kernels`] value proves.

use half::f16;

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;

pub(crate) mod dots;

/// The number of lanes in a group. Reductions keep one partial result per lane.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 lanes of one instruction set. The value itself proves that the instructions may be used.
pub(crate) trait Lanes: Copy {
    /// The sixteen lanes.
    type V: Copy;
    /// Whether thirty-two registers hold a whole `V` each, so that tiles may be larger.
    const WIDE: bool;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Asks for the cache line of `at`, which may be anything, to be in the second-level cache ahead of its use.
    fn prefetch<T>(self, at: *const T);
    /// Sixteen consecutive values.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// Sixteen consecutive f16 values, widened exactly.
    fn load_f16(self, from: &[f16; LANES]) -> Self::V;
    /// Sixteen consecutive integers, each less `less`, rounded to the nearest f32, ties to even.
    fn load_less(self, from: &[i32; LANES], less: i32) -> Self::V;
    /// Writes the lanes to sixteen consecutive values.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// Rounds each lane to the nearest f16, ties to even.
    fn store_f16(self, v: Self::V, to: &mut [f16; LANES]);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`, which is what x86's `maxps` computes.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The bits of each lane shifted left into the exponent field: `2^n` for a lane that holds `n + EXP_MAGIC`.
    fn exponent(self, v: Self::V) -> Self::V;

    /// The first `from.len() < 16` lanes from `from`, the others `fill`.
    #[inline(always)]
    fn load_part(self, from: &[f32], fill: f32) -> Self::V {
        let mut lanes = [fill; LANES];
        lanes[..from.len()].copy_from_slice(from);
        self.load(&lanes)
    }

    /// Writes the first `to.len() < 16` lanes.
    #[inline(always)]
    fn store_part(self, v: Self::V, to: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }

    /// The sum of the lanes by the fixed tree: lane i plus lane i+8, then 4, 2, 1.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        fold(&mut lanes, |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        fold(&mut lanes, |a, b| if a > b { a } else { b })
    }
}

/// Folds sixteen lanes to one by halves.
#[inline(always)]
fn fold(lanes: &mut [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// A float step and its arguments, written once for all [`Lanes`]. `run` must be `#[inline(always)]`: it is compiled
/// anew inside a function that has the instruction set enabled.
pub(crate) trait Step {
    /// What the step returns.
    type Output;
    /// Does the step with the lanes given.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Runs a step with the instruction set of `kernels`.
#[inline]
pub(crate) fn run<S: Step>(kernels: Kernels, step: S) -> S::Output {
    match kernels.base() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Kernels` value of this ISA exists only where the CPU has its features.
        Isa::Avx512 => unsafe { x86::run_avx512(step) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::run_avx2(step) },
        _ => step.run(Scalar),
    }
}

/// The scalar truth: any CPU.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Lanes for Scalar {
    type V = [f32; LANES];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn prefetch<T>(self, _: *const T) {}
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        *from
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; LANES]) -> Self::V {
        from.map(f16::to_f32)
    }
    #[inline(always)]
    fn load_less(self, from: &[i32; LANES], less: i32) -> Self::V {
        from.map(|x| (x - less) as f32)
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn store_f16(self, v: Self::V, to: &mut [f16; LANES]) {
        *to = v.map(f16::from_f32);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn exponent(self, v: Self::V) -> Self::V {
        v.map(|x| f32::from_bits(x.to_bits() << 23))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::f16;

    use super::{LANES, Lanes, Step};

    /// Enters a step with AVX2, FMA and F16C.
    ///
    /// # Safety
    /// The CPU must have these features.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn run_avx2<S: Step>(step: S) -> S::Output {
        // SAFETY: the features are enabled here.
        step.run(unsafe { Avx2::<false>::new() })
    }

    /// Enters a step with AVX-512 (F, BW, VL, DQ), FMA and F16C.
    ///
    /// # Safety
    /// The CPU must have these features.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
    pub(super) unsafe fn run_avx512<S: Step>(step: S) -> S::Output {
        // SAFETY: the features are enabled here.
        step.run(unsafe { Avx512::new() })
    }

    /// Made only where AVX2, FMA and F16C are enabled, and AVX-VNNI if `VNNI`, which is of use to [`dots`](super::dots)
    /// alone.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2<const VNNI: bool>(());

    impl<const VNNI: bool> Avx2<VNNI> {
        /// # Safety
        /// The features must be enabled where the value is used.
        #[inline(always)]
        pub(super) unsafe fn new() -> Self {
            Avx2(())
        }
    }

    #[derive(Clone, Copy)]
    pub(super) struct Pair(pub(super) __m256, pub(super) __m256);

    impl<const VNNI: bool> Lanes for Avx2<VNNI> {
        type V = Pair;
        const WIDE: bool = false;

        #[inline(always)]
        fn splat(self, x: f32) -> Pair {
            // SAFETY: `self` exists only where the features are enabled.
            let v = unsafe { _mm256_set1_ps(x) };
            Pair(v, v)
        }
        #[inline(always)]
        fn prefetch<T>(self, at: *const T) {
            // SAFETY: a hint reads nothing and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Pair {
            // SAFETY: as above; both unaligned loads lie within the sixteen values.
            unsafe { Pair(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
        }
        #[inline(always)]
        fn load_f16(self, from: &[f16; LANES]) -> Pair {
            let p = from.as_ptr().cast::<__m128i>();
            // SAFETY: as above; two unaligned 16-byte loads cover the 32 bytes.
            unsafe { Pair(_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))) }
        }
        #[inline(always)]
        fn load_less(self, from: &[i32; LANES], less: i32) -> Pair {
            // SAFETY: as above; unaligned loads of the sixteen integers.
            unsafe {
                let less = _mm256_set1_epi32(less);
                let half = |at| _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_loadu_si256(at), less));
                let at = from.as_ptr().cast::<__m256i>();
                Pair(half(at), half(at.add(1)))
            }
        }
        #[inline(always)]
        fn store(self, v: Pair, to: &mut [f32; LANES]) {
            // SAFETY: as above; both unaligned stores lie within the sixteen values.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), v.0);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), v.1);
            }
        }
        #[inline(always)]
        fn store_f16(self, v: Pair, to: &mut [f16; LANES]) {
            // SAFETY: as above; both unaligned 16-byte stores lie within the sixteen values.
            unsafe {
                let p = to.as_mut_ptr().cast::<__m128i>();
                _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0));
                _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.1));
            }
        }
        #[inline(always)]
        fn add(self, a: Pair, b: Pair) -> Pair {
            // SAFETY: as above.
            unsafe { Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
        }
        #[inline(always)]
        fn mul(self, a: Pair, b: Pair) -> Pair {
            // SAFETY: as above.
            unsafe { Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
        }
        #[inline(always)]
        fn div(self, a: Pair, b: Pair) -> Pair {
            // SAFETY: as above.
            unsafe { Pair(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
        }
        #[inline(always)]
        fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
            // SAFETY: as above.
            unsafe { Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
        }
        #[inline(always)]
        fn max(self, a: Pair, b: Pair) -> Pair {
            // SAFETY: as above.
            unsafe { Pair(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
        }
        #[inline(always)]
        fn exponent(self, v: Pair) -> Pair {
            // SAFETY: as above; casts and shifts of registers.
            unsafe {
                let shift = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(x)));
                Pair(shift(v.0), shift(v.1))
            }
        }
    }

    /// Made only where AVX-512 (F, BW, VL, DQ), FMA and F16C are enabled, by [`dots`](super::dots) VNNI too; on CPUs that
    /// have all of them.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(());

    impl Avx512 {
        /// # Safety
        /// The features must be enabled where the value is used.
        #[inline(always)]
        pub(super) unsafe fn new() -> Self {
            Avx512(())
        }
    }

    impl Lanes for Avx512 {
        type V = __m512;
        const WIDE: bool = true;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: `self` exists only where the features are enabled.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        fn prefetch<T>(self, at: *const T) {
            // SAFETY: a hint reads nothing and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> __m512 {
            // SAFETY: as above; an unaligned load of the sixteen values.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }
        #[inline(always)]
        fn load_f16(self, from: &[f16; LANES]) -> __m512 {
            // SAFETY: as above; an unaligned load of the 32 bytes.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
        }
        #[inline(always)]
        fn load_less(self, from: &[i32; LANES], less: i32) -> __m512 {
            // SAFETY: as above; an unaligned load of the sixteen integers.
            unsafe {
                let sums = _mm512_loadu_si512(from.as_ptr().cast());
                _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_set1_epi32(less)))
            }
        }
        #[inline(always)]
        fn store(self, v: __m512, to: &mut [f32; LANES]) {
            // SAFETY: as above; an unaligned store of the sixteen values.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
        }
        #[inline(always)]
        fn store_f16(self, v: __m512, to: &mut [f16; LANES]) {
            // SAFETY: as above; an unaligned store of the 32 bytes.
            unsafe {
                _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
            }
        }
        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        fn div(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        fn max(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        fn exponent(self, v: __m512) -> __m512 {
            // SAFETY: as above; casts and shifts of registers.
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(v))) }
        }
    }
}
