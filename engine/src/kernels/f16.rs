//! f16 weights times f32 activations, by ISA.

use super::isa::Kernels;
use super::reference;
use crate::input::Input;
use crate::quant::{F16Matrix, PANEL};
use crate::threads::Strip;

/// `y = W x` of one token for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &F16Matrix, x: &[f32], first: usize, out: &mut [f32]) {
    let _ = kernels;
    reference::f16(&matrix.packed()[first * matrix.cols()..], x, out);
}

/// `y = W x` of all tokens for the rows of `out`, whose first is a multiple of [`PANEL`].
pub(crate) fn gemm(kernels: Kernels, matrix: &F16Matrix, input: &Input, mut out: Strip<'_, f32>) {
    debug_assert!(out.columns().start.is_multiple_of(PANEL));
    for t in 0..out.rows() {
        let first = out.columns().start;
        let x = &input.f32()[t * matrix.cols()..][..matrix.cols()];
        gemv(kernels, matrix, x, first, out.row(t));
    }
}
