//! Ternary weights times int8 activations, by ISA.

use super::isa::Kernels;
use super::reference;
use crate::input::Int8;
use crate::quant::{PANEL, TernaryMatrix};
use crate::threads::Strip;

/// `y = W x` of one token for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &TernaryMatrix, input: &Int8, first: usize, out: &mut [f32]) {
    let _ = kernels;
    let panels = &matrix.packed()[first / PANEL * TernaryMatrix::panel_bytes(matrix.cols())..];
    reference::ternary(panels, matrix.scale(), input.token(0), input.scales[0], out);
}

/// `y = W x` of all tokens for the rows of `out`, whose first is a multiple of [`PANEL`].
pub(crate) fn gemm(kernels: Kernels, matrix: &TernaryMatrix, input: &Int8, mut out: Strip<'_, f32>) {
    let _ = kernels;
    let panels = &matrix.packed()[out.columns().start / PANEL * TernaryMatrix::panel_bytes(matrix.cols())..];
    for t in 0..out.rows() {
        reference::ternary(panels, matrix.scale(), input.token(t), input.scales[t], out.row(t));
    }
}
