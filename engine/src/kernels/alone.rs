//! Kernels that no public type reaches, without the model around them, so that benches can measure them.

use super::activations::{TokenScale, quantise_token};
use super::float;
use super::isa::Kernels;
use super::lanes::{Lanes, Step, run};
use super::sparse;
use crate::quant::{TernaryColumns, TernaryRows, ternary};
use crate::threads::Team;

/// RMSNorm of one token: `out = x / sqrt(mean(x^2) + eps) * weight`. All of one length, else it panics.
pub fn rms_norm(kernels: Kernels, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    float::rms_norm(kernels, x, weight, eps, out);
}

/// `x += y`, of one length, else it panics.
pub fn add_assign(kernels: Kernels, x: &mut [f32], y: &[f32]) {
    float::add_assign(kernels, x, y);
}

/// `out = silu(gate) * up`, of one length, else it panics.
pub fn silu_gate(kernels: Kernels, gate: &[f32], up: &[f32], out: &mut [f32]) {
    float::silu_gate(kernels, gate, up, out);
}

/// `out = relu(gate)^2 * up`, of one length, else it panics.
pub fn relu2_gate(kernels: Kernels, gate: &[f32], up: &[f32], out: &mut [f32]) {
    float::relu2_gate(kernels, gate, up, out);
}

/// Rotary embedding of whole heads of `2 * cos.len()` values, the pair (i, i + d/2) turned by angle i. Panics if `cos` and
/// `sin` differ in length.
pub fn rope_neox(kernels: Kernels, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    float::rope_neox(kernels, x, cos, sin);
}

/// As [`rope_neox`], with the pairs (2i, 2i + 1).
pub fn rope_interleaved(kernels: Kernels, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    float::rope_interleaved(kernels, x, cos, sin);
}

/// Turns scores into `exp(x - max)` in place; one over their sum.
pub fn softmax(kernels: Kernels, scores: &mut [f32]) -> f32 {
    run(kernels, Softmax { scores })
}

struct Softmax<'a> {
    scores: &'a mut [f32],
}

impl Step for Softmax<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        float::softmax_weights(l, self.scores)
    }
}

/// One token's activations as rows and as columns of ternary weights read them.
#[derive(Debug)]
pub struct SparseToken {
    int8: Vec<i8>,
    ordered: Vec<i8>,
    scale: TokenScale,
}

impl SparseToken {
    /// Quantises `x`.
    pub fn new(kernels: Kernels, x: &[f32]) -> SparseToken {
        let mut int8 = vec![0; x.len().next_multiple_of(ternary::BLOCK)];
        let scale = quantise_token(kernels, x, &mut int8);
        let mut ordered = Vec::new();
        sparse::order(&int8, &mut ordered);
        SparseToken { int8, ordered, scale }
    }

    /// `W x` for some rows, in their order. Panics if shapes do not fit.
    pub fn rows(&self, team: &Team<'_>, kernels: Kernels, matrix: &TernaryRows, rows: &[u32], out: &mut [f32]) {
        sparse::forward_rows(team, kernels, matrix, (&self.ordered, self.scale), rows, out);
    }

    /// `W x` by some columns, the activations of all others taken for 0. Panics if shapes do not fit.
    pub fn columns(&self, team: &Team<'_>, kernels: Kernels, matrix: &TernaryColumns, some: &[u32], out: &mut [f32]) {
        sparse::forward_columns(team, kernels, matrix, (&self.int8, self.scale), some, out);
    }
}
