//! The 4-bit copy of a head times int8 activations in blocks of 32, with what it may be off by, by ISA.

use super::activations::BlockScale;
#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::reference;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use crate::quant::bounded::BoundedMatrix;

/// An approximate output, and the part of its bound that stems from residuals: the sum over groups of columns of (norm of
/// the residual) x (norm of the activations).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Near {
    pub(crate) value: f32,
    pub(crate) residual: f32,
}

/// The activations of one token as the copy reads them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'a> {
    /// Padded to whole blocks.
    pub(crate) int8: &'a [i8],
    /// Per block.
    pub(crate) steps: &'a [BlockScale],
    /// Per group: an upper bound of the norm of the f32 activations.
    pub(crate) norms: &'a [f32],
}

/// Panels of the copy: codes, scales, norms of the residuals, and the book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [half::f16],
    pub(crate) residuals: &'a [half::f16],
    pub(crate) book: &'a [u8; 16],
}

/// Approximate outputs for the rows from `first` (a multiple of 16).
pub(crate) fn gemv(kernels: Kernels, matrix: &BoundedMatrix, probe: Probe<'_>, first: usize, out: &mut [Near]) {
    let (codes, scales, residuals) = matrix.panels(first, out.len());
    let panels = Panels { codes, scales, residuals, book: matrix.book() };
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::bounded::gemv(panels, probe, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::bounded::gemv(panels, probe, out) },
        _ => reference::bounded(panels, probe, out),
    }
}
