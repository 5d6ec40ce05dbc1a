//! 8-bit weights times int8 activations, both in blocks of 32, by ISA.

use super::isa::Kernels;
use super::reference;
use crate::input::Q8;
use crate::quant::{PANEL, Q8Matrix};

/// `y = W x` of token `t` for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &Q8Matrix, input: &Q8, t: usize, first: usize, out: &mut [f32]) {
    let _ = kernels;
    let (activations, scales) = input.token(t);
    let panel = first / PANEL * PANEL;
    let (weights, weight_scales) =
        (&matrix.weights()[panel * activations.len()..], &matrix.scales()[panel * scales.len()..]);
    reference::q8(weights, weight_scales, activations, scales, out);
}
