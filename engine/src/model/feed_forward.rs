//! The gated feed-forward's inside: `act(gate) * up`, with a norm after it in BitNet b1.58.

use super::config::{Activation, Config};
use crate::kernels::float;
use crate::kernels::isa::Kernels;

/// What is done to each token between gate and up on the one side and down on the other.
#[derive(Clone, Copy)]
pub(super) struct Gated<'a> {
    pub(super) kernels: Kernels,
    pub(super) config: &'a Config,
    pub(super) sub_norm: Option<&'a [f32]>,
}

impl Gated<'_> {
    /// Writes `act(gate) * up`, normed by `sub_norm` if there is one, to `out`; all of one token, `ffn` wide.
    pub(super) fn run(self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        match self.config.activation {
            Activation::Silu => float::silu_gate(self.kernels, gate, up, out),
            Activation::Relu2 => float::relu2_gate(self.kernels, gate, up, out),
        }
        if let Some(weight) = self.sub_norm {
            float::rms_norm_in_place(self.kernels, out, weight, self.config.norm_eps);
        }
    }
}
