//! Quantising activations to int8, by ISA.

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::reference;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};

/// What a token's int8 activations stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct TokenScale {
    /// One int8 step: 1 / s with s = 127 / max(max |x|, 1e-5).
    pub(crate) step: f32,
    /// The sum of the int8 activations.
    pub(crate) sum: i32,
}

/// What a block of 32 int8 activations stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BlockScale {
    /// One int8 step: max |x| / 127.
    pub(crate) step: f32,
    /// The sum of the int8 activations.
    pub(crate) sum: i32,
    /// The sum of the first 16 of them.
    pub(crate) first: i32,
}

/// BitNet b1.58's ActQuant of one token: absmax int8, ties to even. `out` may be longer than `x`: the rest becomes 0.
pub(crate) fn quantise_token(kernels: Kernels, x: &[f32], out: &mut [i8]) -> TokenScale {
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::activations::quantise_token(x, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::activations::quantise_token(x, out) },
        _ => reference::quantise_token(x, out),
    }
}

/// Absmax int8 per block of 32. `out` is a whole number of blocks, as many as `scales`, and may be longer than `x`.
pub(crate) fn quantise_blocks(kernels: Kernels, x: &[f32], out: &mut [i8], scales: &mut [BlockScale]) {
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::activations::quantise_blocks(x, out, scales) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::activations::quantise_blocks(x, out, scales) },
        _ => reference::quantise_blocks(x, out, scales),
    }
}
