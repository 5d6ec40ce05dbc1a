//! The x86-64 paths. Every function here is `unsafe` to call only for its `target_feature`s, which
//! [`super::isa::Kernels`] proves; lengths are checked inside.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod avxvnni;

/// Bytes ahead of the current one that decoding asks for to be in the second-level cache.
///
/// To that cache and this far: the few line buffers of a core's first-level cache then wait for the
/// second-level cache, not for memory. Of what plain reading reached on a Granite Rapids core, 2-bit AVX-512 decode got 66 %
/// with 4 KiB ahead to the first level and 85 % with 1 KiB; to the second level 95 % with 2 KiB and all of it with 4 to 16.
const AHEAD: usize = 8192;

/// Bytes ahead that are asked for once more, to be in the first-level cache: loads that wait for the second hold up the
/// instructions among which a core finds what to ask memory for. On an Emerald Rapids it saves 3 to 14 % of a token, by
/// kernel (`engine/KERNELS.md`).
const NEAR: usize = 2048;

/// Asks for the cache lines [`AHEAD`] and [`NEAR`] bytes beyond `at`, which need not exist.
#[inline(always)]
fn prefetch_ahead(at: *const u8) {
    prefetch::<AHEAD>(at);
    // SAFETY: a hint, which reads nothing and cannot fault.
    unsafe { std::arch::asm!("prefetcht0 [{} + {}]", in(reg) at, const NEAR, options(nostack, preserves_flags)) }
}

/// Asks for the cache line `BYTES` beyond `at`, which need not exist. Assembly keeps its place among the loads: the
/// intrinsic is moved by the compiler, past loads of what is late, at a third of the speed of 2-bit AVX-512 decode.
#[inline(always)]
fn prefetch<const BYTES: usize>(at: *const u8) {
    // SAFETY: a hint, which reads nothing and cannot fault.
    unsafe { std::arch::asm!("prefetcht1 [{} + {}]", in(reg) at, const BYTES, options(nostack, preserves_flags)) }
}

/// Asks for the cache line at `at`, which need not exist.
#[inline(always)]
pub(super) fn prefetch_at(at: *const u8) {
    prefetch::<0>(at);
}

/// Asks for the cache line at `at`, which need not exist, to be written. (CPUs without the instruction do nothing.)
#[inline(always)]
pub(super) fn prefetch_to_write(at: *mut f32) {
    // SAFETY: a hint, which reads and writes nothing and cannot fault.
    unsafe { std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags)) }
}
