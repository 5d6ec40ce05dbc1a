//! 6-bit weights times int8 activations in blocks of 32, by ISA.

use half::f16;

use super::activations::BlockScale;
#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::reference;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use crate::input::Q8;
use crate::quant::Q6Matrix;

/// Panels of a matrix, in the layout of [`crate::quant::q6`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    pub(crate) weights: &'a [u8],
    pub(crate) scales: &'a [i8],
    pub(crate) supers: &'a [f16],
}

/// `y = W x` of token `t` for the rows from `first` (a multiple of 16).
pub(crate) fn gemv(kernels: Kernels, matrix: &Q6Matrix, input: &Q8, t: usize, first: usize, out: &mut [f32]) {
    let (x, steps): (&[i8], &[BlockScale]) = input.token(t);
    let (weights, scales, supers) = matrix.panels(first, out.len());
    let panels = Panels { weights, scales, supers };
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::q6::gemv(panels, x, steps, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::q6::gemv(panels, x, steps, out) },
        _ => reference::q6(panels, x, steps, out),
    }
}
