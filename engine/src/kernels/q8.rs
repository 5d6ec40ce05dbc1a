//! 8-bit weights times int8 activations, both in blocks of 32, by ISA.

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::reference;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use crate::input::Q8;
use crate::quant::{PANEL, Q8Matrix};
use crate::threads::Strip;

/// `y = W x` of token `t` for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &Q8Matrix, input: &Q8, t: usize, first: usize, out: &mut [f32]) {
    let (x, steps) = input.token(t);
    let rows = out.len().next_multiple_of(PANEL);
    let weights = &matrix.weights()[first * x.len()..][..rows * x.len()];
    let scales = &matrix.scales()[first * steps.len()..][..rows * steps.len()];
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::q8::gemv(weights, scales, x, steps, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::q8::gemv(weights, scales, x, steps, out) },
        _ => reference::q8(weights, scales, x, steps, out),
    }
}

/// Rows whose weights stay in the second-level cache while all tokens pass.
const ROWS: usize = 2 * PANEL;

/// As [`gemv`] for all tokens of `out`, a strip that begins at a multiple of [`PANEL`].
pub(crate) fn gemm(kernels: Kernels, matrix: &Q8Matrix, input: &Q8, mut out: Strip<'_, f32>) {
    let columns = out.columns();
    for first in columns.clone().step_by(ROWS) {
        for t in 0..out.rows() {
            let row = &mut out.row(t)[first - columns.start..];
            let len = row.len().min(ROWS);
            gemv(kernels, matrix, input, t, first, &mut row[..len]);
        }
    }
}
