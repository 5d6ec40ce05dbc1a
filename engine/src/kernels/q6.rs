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
use crate::quant::{PANEL, Q6Matrix};
use crate::threads::Strip;

/// Panels of a matrix, in the layout of [`crate::quant::q6`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    pub(crate) weights: &'a [u8],
    pub(crate) scales: &'a [i8],
    pub(crate) supers: &'a [f16],
}

/// Tokens for which weights are unpacked once.
#[cfg(target_arch = "x86_64")]
const TILE: usize = 4;

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

/// As [`gemv`] for all tokens of `out`, a strip that begins at a multiple of [`PANEL`]: a panel stays in cache while all
/// tokens pass.
pub(crate) fn gemm(kernels: Kernels, matrix: &Q6Matrix, input: &Q8, mut out: Strip<'_, f32>) {
    let (columns, tokens) = (out.columns(), out.rows());
    for first in columns.clone().step_by(PANEL) {
        let rows = first - columns.start..(first + PANEL).min(columns.end) - columns.start;
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if kernels.base() == Isa::Avx512 {
            let (weights, scales, supers) = matrix.panels(first, PANEL);
            let panel = Panels { weights, scales, supers };
            while done + TILE <= tokens {
                let tile: [_; TILE] = std::array::from_fn(|t| input.token(done + t));
                // SAFETY: `kernels` proves the features.
                let sums = unsafe { avx512::q6::panel(panel, &tile) };
                for (t, sums) in sums.iter().enumerate() {
                    out.row(done + t)[rows.clone()].copy_from_slice(&sums[..rows.len()]);
                }
                done += TILE;
            }
        }
        (done..tokens).for_each(|t| gemv(kernels, matrix, input, t, first, &mut out.row(t)[rows.clone()]));
    }
}
